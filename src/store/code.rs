//! Codes: authorization codes, each redeemed once for a birth, in one unit with it. A second
//! presentation ends what the first one gave (RFC 6749 section 4.1.2).
//!
//! A code lies in the shard of its pair, so that it is judged under the lock that its family is born
//! under.

use super::core::{Core, HORIZON_SLACK_SECS, Journal, Lane, SHARDS};
use super::decide::Decided;
use super::record::{CodeRow, Record};
use super::shard::{Shard, Staged};
use super::ticket::Ticket;
use super::{CodeBirth, CodeOutcome, CodeUse, CodeView, Lsn, Outcome, Pair, Seq, StoreError};
use crate::time::Timestamp;

/// The most codes of one shard that have not expired.
const CODES_MAX: usize = (1 << 20) / SHARDS;
/// The most codes of one pair that have not expired, so that nobody fills the room of others.
pub const CODES_OF_PAIR_MAX: u32 = 1_024;
/// The longest body of a code, in bytes.
pub const CODE_BODY_LEN_MAX: usize = 12 * 1_024;

/// What a presented code is.
pub(crate) enum JudgedCode {
    /// It may be redeemed; what is born has this admission at most.
    Live(Seq),
    /// It was redeemed for this family.
    Spent(u64),
    Dead,
}

impl CodeRow {
    pub(crate) fn pair(&self) -> Pair {
        Pair {
            client: self.client.clone(),
            subject: self.subject.clone(),
            device: self.device.clone(),
        }
    }
}

impl<J: Journal> Core<J> {
    /// Decides and enqueues the birth of a code.
    pub(crate) fn offer(&self, birth: &CodeBirth) -> Decided {
        self.time.observe(birth.now);
        let refused = |outcome| Ok(Ticket::ready(Ok(Outcome::Code(outcome))));
        if birth.body.len() > CODE_BODY_LEN_MAX {
            return refused(CodeOutcome::Refused);
        }
        let mut shard = self.shard_mut(birth.id);
        let row = CodeRow {
            id: birth.id,
            digest: birth.digest,
            admission: birth.admission,
            issued_at: birth.issued_at,
            expires_at: birth.expires_at,
            spent_for: 0,
            client: birth.pair.client.clone(),
            subject: birth.pair.subject.clone(),
            device: birth.pair.device.clone(),
            body: birth.body.clone(),
        };
        if !self.admits_code(&shard, &row) {
            return refused(CodeOutcome::Refused);
        }
        let unique = self.names.unique(&birth.pair);
        let of_pair = shard.codes_of.get(&unique).copied().unwrap_or(0);
        if shard.codes.len() >= CODES_MAX || of_pair >= CODES_OF_PAIR_MAX {
            return Err(StoreError::Busy);
        }
        let appended = self.append(&[Record::Code(row.clone())], Lane::Birth)?;
        *shard.codes_of.entry(unique).or_default() += 1;
        shard.codes.insert(row.id, Staged::new(row, appended.first));
        Ok(appended.ticket(Outcome::Code(CodeOutcome::Born)))
    }

    /// I4 for a code: whether nothing above it was revoked since its admission.
    fn admits_code(&self, shard: &Shard, row: &CodeRow) -> bool {
        let unique = self.names.unique(&row.pair());
        let names = self.stamp_names(&row.client, &row.subject);
        let held = shard.pairs.get(&unique).and_then(|id| shard.grants.get(id));
        let revoked_at = held.map_or(Seq(0), |grant| grant.state.now.revoked_at);
        row.admission >= revoked_at && self.stamps.allow(row.admission, &names, unique)
    }

    /// Judges a code that is presented for a birth of `pair`, whose shard is locked.
    pub(crate) fn judge_code(
        &self,
        shard: &Shard,
        code: &CodeUse,
        pair: &Pair,
        now: Timestamp,
    ) -> JudgedCode {
        let known = shard.codes.get(&code.id).map(|state| &state.now);
        let Some(row) = known.filter(|row| row.digest == code.digest && row.pair() == *pair) else {
            return JudgedCode::Dead;
        };
        match row.spent_for {
            0 if now < row.expires_at && self.admits_code(shard, row) => {
                JudgedCode::Live(row.admission)
            }
            0 => JudgedCode::Dead,
            family => JudgedCode::Spent(family),
        }
    }

    /// The record of a code that is redeemed for `family`.
    pub(crate) fn spent_code(&self, shard: &Shard, code: &CodeUse, family: u64) -> Option<Record> {
        let row = &shard.codes.get(&code.id)?.now;
        Some(Record::Code(CodeRow { spent_for: family, ..row.clone() }))
    }

    /// A code was presented again: what it gave dies before the answer.
    pub(crate) fn replay_code(&self, shard: &mut Shard, family: u64, outcome: Outcome) -> Decided {
        match shard.families.get(&family) {
            Some(entry) if !entry.state.now.dead => self.kill_family(shard, family, outcome),
            // What ended it may still be on its way to the disk.
            Some(entry) => self.attached(entry.state.lsn, outcome),
            None => Ok(Ticket::ready(Ok(outcome))),
        }
    }

    /// A code as reads see it.
    pub(crate) fn view_code(&self, code: &CodeUse, now: Timestamp) -> Option<CodeView> {
        let shard = self.shard(code.id);
        let row = shard.codes.get(&code.id)?.visible(self.journal.published())?;
        if row.digest != code.digest {
            return None;
        }
        let is_fresh = row.spent_for == 0 && now < row.expires_at;
        Some(CodeView {
            live: is_fresh && self.admits_code(&shard, row),
            spent: row.spent_for != 0,
            pair: row.pair(),
            admission: row.admission,
            issued_at: row.issued_at,
            expires_at: row.expires_at,
            body: row.body.clone(),
        })
    }

    /// Takes a record from the log or the checkpoint. The later position wins.
    pub(crate) fn redo_code(&self, row: CodeRow, lsn: Lsn) {
        let mut shard = self.shard_mut(row.id);
        if shard.codes.get(&row.id).is_some_and(|held| held.lsn >= lsn) {
            return;
        }
        let unique = self.names.unique(&row.pair());
        if shard.codes.insert(row.id, Staged::new(row, lsn)).is_none() {
            *shard.codes_of.entry(unique).or_default() += 1;
        }
    }

    /// Writes a code again through `log` if its latest record is the one at `lsn`.
    pub(crate) fn rewrite_code(
        &self,
        row: &CodeRow,
        lsn: Lsn,
        mark: Timestamp,
        log: impl FnOnce(Record) -> Result<Lsn, StoreError>,
    ) -> Result<Option<Lsn>, StoreError> {
        let mut shard = self.shard_mut(row.id);
        match shard.codes.get_mut(&row.id) {
            Some(code) if code.lsn == lsn && !is_past(&code.now, mark) => {
                let at = log(Record::Code(code.now.clone()))?;
                code.moved(at);
                Ok(Some(at))
            }
            _ => Ok(None),
        }
    }

    /// Lets go of codes that nobody would take any more; says how many.
    pub(crate) fn sweep_codes(&self, shard: &mut Shard, mark: Timestamp) -> u64 {
        let published = self.journal.published();
        let before = shard.codes.len();
        let codes_of = &mut shard.codes_of;
        shard.codes.retain(|_, code| {
            code.settle(published);
            let stays = code.lsn > published || !is_past(&code.now, mark);
            if !stays {
                if let Some(count) = codes_of.get_mut(&self.names.unique(&code.now.pair())) {
                    *count = count.saturating_sub(1);
                }
                self.journal.forget(&Record::Code(code.now.clone()));
            }
            stays
        });
        codes_of.retain(|_, count| *count > 0);
        (before - shard.codes.len()) as u64
    }
}

fn is_past(row: &CodeRow, mark: Timestamp) -> bool {
    mark >= row.expires_at.plus(HORIZON_SLACK_SECS)
}
