//! Values that may be used once, such as the `jti` of an assertion: remembered until they expire,
//! so many at a time for each owner.
//!
//! Whether a value is used for the first time is decided under one lock and noted before that is
//! let go; the answer waits until the note is on disk.

use super::core::{Core, HORIZON_SLACK_SECS, Journal, Lane};
use super::decide::Decided;
use super::record::{Record, UsedRow};
use super::ticket::Ticket;
use super::{Lsn, Outcome, StoreError, UseOnce, UseOnceOutcome};
use crate::locator::Digest;
use crate::sync::HashMap;
use crate::time::Timestamp;

/// The most values remembered, of all owners together.
const USED_MAX: usize = 1 << 20;

struct UsedEntry {
    row: UsedRow,
    lsn: Lsn,
}

/// Every value that was used and has not expired.
#[derive(Default)]
pub(crate) struct Used {
    rows: HashMap<Digest, UsedEntry>,
    /// How many of `rows` an owner has.
    owned: HashMap<Digest, u32>,
}

impl Used {
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    fn insert(&mut self, row: UsedRow, lsn: Lsn) {
        if self.rows.insert(row.digest, UsedEntry { row, lsn }).is_none() {
            *self.owned.entry(row.owner).or_default() += 1;
        }
    }

    /// Takes a record from the log or the checkpoint. The later position wins.
    pub(crate) fn redo(&mut self, row: UsedRow, lsn: Lsn) {
        if self.rows.get(&row.digest).is_none_or(|held| held.lsn < lsn) {
            self.insert(row, lsn);
        }
    }

    /// Lets go of what has expired by `mark`, and hands it to `gone`.
    fn sweep(&mut self, mark: Timestamp, mut gone: impl FnMut(UsedRow)) {
        let owned = &mut self.owned;
        self.rows.retain(|_, entry| {
            let row = entry.row;
            let stays = mark < row.expires_at.plus(HORIZON_SLACK_SECS);
            if !stays {
                if let Some(count) = owned.get_mut(&row.owner) {
                    *count = count.saturating_sub(1);
                }
                gone(row);
            }
            stays
        });
        owned.retain(|_, count| *count > 0);
    }

    /// Writes a row again through `log` if its latest record is the one at `lsn`.
    pub(crate) fn rewrite(
        &mut self,
        row: &UsedRow,
        lsn: Lsn,
        mark: Timestamp,
        log: impl FnOnce(Record) -> Result<Lsn, StoreError>,
    ) -> Result<Option<Lsn>, StoreError> {
        match self.rows.get_mut(&row.digest) {
            Some(entry)
                if entry.lsn == lsn && mark < entry.row.expires_at.plus(HORIZON_SLACK_SECS) =>
            {
                entry.lsn = log(Record::Used(entry.row))?;
                Ok(Some(entry.lsn))
            }
            _ => Ok(None),
        }
    }
}

impl<J: Journal> Core<J> {
    /// Decides whether a value is used for the first time, and notes it.
    pub(crate) fn use_once(&self, once: &UseOnce) -> Decided {
        let now = self.now(once.now);
        let mut used = self.used_mut();
        if let Some(entry) = used.rows.get(&once.digest) {
            return self.attached(entry.lsn, Outcome::UseOnce(UseOnceOutcome::Again));
        }
        let refused = |outcome| Ok(Ticket::ready(Ok(Outcome::UseOnce(outcome))));
        if now >= once.expires_at {
            // It may have been used and forgotten.
            return refused(UseOnceOutcome::Expired);
        }
        if used.owned.get(&once.owner).is_some_and(|count| *count >= once.owner_max) {
            return refused(UseOnceOutcome::Full);
        }
        if used.len() >= USED_MAX {
            return Err(StoreError::Busy);
        }
        let row = UsedRow { owner: once.owner, digest: once.digest, expires_at: once.expires_at };
        let appended = self.append(&[Record::Used(row)], Lane::Redeem)?;
        used.insert(row, appended.first);
        Ok(appended.ticket(Outcome::UseOnce(UseOnceOutcome::First)))
    }

    /// Lets go of expired values; says how many.
    pub(crate) fn sweep_used(&self, mark: Timestamp) -> u64 {
        let mut swept = 0;
        self.used_mut().sweep(mark, |row| {
            swept += 1;
            self.journal.forget(&Record::Used(row));
        });
        swept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(owner: u8, digest: u8, expires_at: u64) -> UsedRow {
        let expires_at = Timestamp(expires_at);
        UsedRow { owner: Digest([owner; 16]), digest: Digest([digest; 16]), expires_at }
    }

    #[test]
    fn an_owner_gets_its_room_back() {
        let mut used = Used::default();
        used.redo(row(1, 1, 10), Lsn(1));
        used.redo(row(1, 2, 20), Lsn(2));
        used.redo(row(1, 2, 20), Lsn(5));
        used.redo(row(2, 3, 20), Lsn(3));
        assert_eq!(used.owned.get(&Digest([1; 16])), Some(&2));
        let mut gone = Vec::new();
        used.sweep(Timestamp(10 + HORIZON_SLACK_SECS), |row| gone.push(row));
        assert_eq!(gone, [row(1, 1, 10)]);
        assert_eq!(used.owned.get(&Digest([1; 16])), Some(&1));
        used.sweep(Timestamp::NEVER, |_| {});
        assert!(used.rows.is_empty() && used.owned.is_empty());
    }

    #[test]
    fn only_the_latest_record_is_written_again() {
        let mut used = Used::default();
        used.redo(row(1, 1, 10), Lsn(4));
        let mut write = |lsn, mark| {
            used.rewrite(&row(1, 1, 10), Lsn(lsn), Timestamp(mark), |_| Ok(Lsn(9))).unwrap()
        };
        assert_eq!(write(3, 0), None);
        assert_eq!(write(4, 10 + HORIZON_SLACK_SECS), None);
        assert_eq!(write(4, 0), Some(Lsn(9)));
        assert_eq!(write(4, 0), None);
    }
}
