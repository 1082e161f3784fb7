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

/// The most values remembered of all owners together, unless a host says otherwise: some 100 MB.
pub const USED_MAX: u32 = 1 << 20;

struct UsedEntry {
    row: UsedRow,
    lsn: Lsn,
}

/// Every value that was used and has not expired.
pub(crate) struct Used {
    rows: HashMap<Digest, UsedEntry>,
    /// How many of `rows` an owner has.
    owned: HashMap<Digest, u32>,
    max: usize,
    /// None of `rows` expires before.
    earliest: Timestamp,
}

/// Whether one more value may be remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Free,
    /// The owner has its share.
    Owned,
    Full,
}

impl Default for Used {
    fn default() -> Used {
        let (rows, owned) = (HashMap::default(), HashMap::default());
        Used { rows, owned, max: USED_MAX as usize, earliest: Timestamp::NEVER }
    }
}

impl Used {
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn set_max(&mut self, max: u32) {
        self.max = usize::try_from(max).unwrap_or(usize::MAX).max(1);
    }

    /// An owner has at most as many as are left for everybody else: however many one uses, half of
    /// what there was before it stays free.
    fn room(&self, owner: &Digest, owner_max: u32) -> Room {
        let left = self.max.saturating_sub(self.rows.len());
        let held = self.owned.get(owner).copied().unwrap_or(0);
        match left {
            0 => Room::Full,
            _ if held >= owner_max || held as usize >= left => Room::Owned,
            _ => Room::Free,
        }
    }

    fn insert(&mut self, row: UsedRow, lsn: Lsn) {
        self.earliest = self.earliest.min(row.expires_at);
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
        if mark < self.earliest.plus(HORIZON_SLACK_SECS) {
            return;
        }
        let owned = &mut self.owned;
        let mut earliest = Timestamp::NEVER;
        self.rows.retain(|_, entry| {
            let row = entry.row;
            let stays = mark < row.expires_at.plus(HORIZON_SLACK_SECS);
            if !stays {
                if let Some(count) = owned.get_mut(&row.owner) {
                    *count = count.saturating_sub(1);
                }
                gone(row);
            } else {
                earliest = earliest.min(row.expires_at);
            }
            stays
        });
        self.earliest = earliest;
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
        let mut room = used.room(&once.owner, once.owner_max);
        if room != Room::Free {
            // Nobody may have swept since some of them expired.
            self.forget_used(&mut used, self.time.observe(once.now));
            room = used.room(&once.owner, once.owner_max);
        }
        match room {
            Room::Free => {}
            Room::Owned => return refused(UseOnceOutcome::Full),
            Room::Full => return Err(StoreError::Busy),
        }
        let row = UsedRow { owner: once.owner, digest: once.digest, expires_at: once.expires_at };
        let appended = self.append(&[Record::Used(row)], Lane::Redeem)?;
        used.insert(row, appended.first);
        Ok(appended.ticket(Outcome::UseOnce(UseOnceOutcome::First)))
    }

    /// Lets go of expired values; says how many.
    pub(crate) fn sweep_used(&self, mark: Timestamp) -> u64 {
        self.forget_used(&mut self.used_mut(), mark)
    }

    fn forget_used(&self, used: &mut Used, mark: Timestamp) -> u64 {
        let mut swept = 0;
        used.sweep(mark, |row| {
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
    fn no_owner_takes_more_than_it_leaves() {
        let mut used = Used::default();
        used.set_max(16);
        let mut held = [0; 4];
        for (owner, held) in (0..).zip(&mut held) {
            while used.room(&Digest([owner; 16]), 100) == Room::Free {
                *held += 1;
                used.redo(row(owner, owner * 16 + *held, 10), Lsn(1));
            }
        }
        assert_eq!(held, [8, 4, 2, 1]);
        assert_eq!(used.room(&Digest([9; 16]), 100), Room::Free);
        assert_eq!(used.room(&Digest([9; 16]), 0), Room::Owned);
        used.redo(row(9, 200, 10), Lsn(1));
        assert_eq!(used.room(&Digest([10; 16]), 100), Room::Full);
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
