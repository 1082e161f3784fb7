//! Redeem: a refresh token is spent and its successor born; a second presentation is a retry or a
//! replay.

use super::core::{Core, Journal, Lane};
use super::decide::{Decided, mint_row};
use super::record::Record;
use super::shard::{FamilyEntry, Shard};
use super::ticket::Ticket;
use super::{Outcome, Redeem, RedeemOutcome};
use crate::sync::planted;
use crate::time::Timestamp;

/// How far the clock may stand before a redeem for a retry of it, in seconds (rule 19).
const RETRY_BACK_SECS_MAX: u64 = 60;

impl<J: Journal> Core<J> {
    /// Decides and enqueues a redeem.
    pub(crate) fn redeem(&self, redeem: &Redeem) -> Decided {
        let mut guard = self.shard_mut(redeem.family);
        // Under the lock: a clock that was read long ago must not seem to stand before the redeem
        // that this one is a retry of.
        let now = self.now(redeem.now);
        if planted!(RedeemedOutsideTheLock) && self.planted_is_current(&guard, redeem, now) {
            drop(guard);
            return self.spend(&mut self.shard_mut(redeem.family), redeem, now);
        }
        let shard = &mut *guard;
        let answer = |outcome| Ok(Ticket::ready(Ok(Outcome::Redeem(outcome))));
        let Some(entry) = shard.families.get(&redeem.family) else {
            return answer(RedeemOutcome::Dead);
        };
        let row = &entry.state.now;
        let Some(grant) = shard.grants.get(&row.grant) else {
            return answer(RedeemOutcome::Dead);
        };
        if !row.is_refreshable(now) || !self.admits(row.admission, grant, &grant.state.now) {
            // What ended it may still be on its way to the disk.
            return self.attached(entry.state.lsn, Outcome::Redeem(RedeemOutcome::Dead));
        }
        if redeem.generation == row.generation && redeem.digest == row.digest {
            return self.spend(shard, redeem, now);
        }
        if redeem.generation > row.generation {
            return answer(RedeemOutcome::Dead);
        }
        let is_last = redeem.generation + 1 == row.generation
            && redeem.generation == row.mint.generation.wrapping_sub(1)
            && redeem.digest == row.previous;
        if is_last && self.is_retry(entry, redeem, now) {
            // Either way what was redeemed may still be on its way to the disk.
            let outcome = if row.mint.request == redeem.request {
                let admission = row.admission.min(redeem.arrival);
                RedeemOutcome::Retried { mint: self.mint_of(&row.mint), admission }
            } else {
                RedeemOutcome::OtherRequest
            };
            return self.attached(entry.state.lsn, Outcome::Redeem(outcome));
        }
        // It arrived before its successor could be used: by the retry rule it proves no theft. Where
        // nothing may be presented twice, it does.
        let was_in_force = redeem.was_in_force && redeem.generation < row.generation;
        if was_in_force && redeem.retry_secs_max > 0 {
            let outcome = Outcome::Redeem(RedeemOutcome::Overtaken);
            return self.attached(entry.state.lsn, outcome);
        }
        self.kill_family(shard, redeem.family, Outcome::Redeem(RedeemOutcome::Replayed))
    }

    fn planted_is_current(&self, shard: &Shard, redeem: &Redeem, now: Timestamp) -> bool {
        shard.families.get(&redeem.family).is_some_and(|entry| {
            let row = &entry.state.now;
            row.generation == redeem.generation && row.is_refreshable(now)
        })
    }

    /// The token in force was presented: its successor takes its place, or, for a fixed one, an
    /// access token is born beside it.
    fn spend(&self, shard: &mut Shard, redeem: &Redeem, now: Timestamp) -> Decided {
        let Some(entry) = shard.families.get(&redeem.family) else {
            return Ok(Ticket::ready(Ok(Outcome::Redeem(RedeemOutcome::Dead))));
        };
        let mut records = Vec::with_capacity(2);
        let mut row = entry.row_with_uses();
        let (scope, audience) = self.texts_of(&redeem.access, &row, &mut records)?;
        let admission = row.admission.min(redeem.arrival);
        row.redeemed_at = now;
        row.horizon = row.horizon.max(redeem.access.expires_at);
        row.last_used_at = row.last_used_at.max(now);
        row.use_count += 1;
        if let Some(successor) = redeem.successor {
            row.generation = row.generation.saturating_add(1);
            row.previous = row.digest;
            row.digest = successor;
            row.mint = mint_row(
                &redeem.access,
                row.generation,
                redeem.key_version,
                redeem.salt,
                redeem.request,
                (scope, audience),
            );
        }
        let generation = row.generation;
        let token = self.token_row(&redeem.access, &row, generation, admission, scope, audience);
        records.push(Record::Family(row));
        records.extend(token.map(Record::Token));
        let appended = self.append(&records, Lane::Redeem)?;
        self.note_sets(&records, &appended);
        self.note(shard, &records, &appended);
        let outcome = RedeemOutcome::Redeemed { generation, admission };
        Ok(appended.ticket(Outcome::Redeem(outcome)))
    }

    /// The retry rule: the request arrived before the successor was first used, and within the cap.
    fn is_retry(&self, entry: &FamilyEntry, redeem: &Redeem, now: Timestamp) -> bool {
        let row = &entry.state.now;
        let used_at = entry.used_at.load(crate::sync::atomic::Ordering::SeqCst);
        let before_use = used_at == 0 || redeem.arrival.0 < used_at;
        // The cap begins again once at open for a redeem that was within it when the store stopped:
        // a client's honest retry must not die of the server's own absence.
        let interrupted = entry.state.seen_from() <= self.opened.lsn
            && self.opened.last_durable.since(row.redeemed_at) <= redeem.retry_secs_max;
        let from = if interrupted { row.redeemed_at.max(self.opened.at) } else { row.redeemed_at };
        before_use
            && redeem.retry_secs_max > 0
            && now.since(from) <= redeem.retry_secs_max
            && now >= row.redeemed_at.minus(RETRY_BACK_SECS_MAX)
            && now < row.mint.expires_at
    }
}
