//! The sweep: what is dead for good leaves the table, one shard at a time.

use super::core::{Core, HORIZON_SLACK_SECS, Journal, Lane, SHARDS};
use super::record::{DenyRow, Record};
use super::shard::GrantEntry;
use super::{Lsn, Seq, StoreError, Swept};
use crate::sync::HashSet;
use crate::sync::atomic::Ordering;
use crate::time::{Reading, Timestamp};

/// How much older a family's written use count may be than the one in memory, in seconds.
const USE_FLUSH_SECS: u64 = 3_600;
/// The most use counts that one step writes.
const USE_FLUSH_MAX: usize = 256;

impl<J: Journal> Core<J> {
    /// Sweeps the next shard, and the deny entries once per round.
    pub(crate) fn sweep(&self, reading: Reading) -> Result<Swept, StoreError> {
        let mark = self.time.observe(reading);
        let id = self.sweep_next.fetch_add(1, Ordering::Relaxed) % SHARDS as u64;
        let mut swept = Swept::default();
        self.sweep_shard(id, mark, &mut swept);
        if id == 0 {
            self.denied_mut().retain(|jti, (expires_at, _)| {
                let stays = mark < expires_at.plus(HORIZON_SLACK_SECS);
                if !stays {
                    swept.denied += 1;
                    self.journal
                        .forget(&Record::Deny(DenyRow { jti: *jti, expires_at: *expires_at }));
                }
                stays
            });
        }
        if id == 0 {
            swept.used += self.sweep_used(mark);
        }
        self.write_uses(id, self.now(reading))?;
        Ok(swept)
    }

    fn sweep_shard(&self, id: u64, mark: Timestamp, swept: &mut Swept) {
        let mut guard = self.shard_mut(id);
        let shard = &mut *guard;
        let published = self.journal.published();
        let before = shard.tokens.len();
        shard.tokens.retain(|_, token| {
            token.lsn > published || mark < token.row.expires_at.plus(HORIZON_SLACK_SECS)
        });
        swept.tokens += (before - shard.tokens.len()) as u64;
        swept.codes += self.sweep_codes(shard, mark);

        let mut gone: HashSet<u64> = HashSet::default();
        for (id, family) in &shard.families {
            let row = &family.state.now;
            let grant = shard.grants.get(&row.grant);
            let revoked =
                grant.is_none_or(|grant| self.is_revoked_for_good(row.admission, grant, published));
            let past = mark >= row.horizon.plus(HORIZON_SLACK_SECS);
            if family.state.lsn <= published && past && (revoked || !row.is_refreshable(mark)) {
                gone.insert(*id);
            }
        }
        for id in &gone {
            if let Some(family) = shard.families.remove(id) {
                self.journal.forget(&Record::Family(family.state.now));
                swept.families += 1;
            }
        }
        shard.families.values_mut().for_each(|family| family.state.settle(published));
        let mut empty: HashSet<u64> = HashSet::default();
        for (id, grant) in &mut shard.grants {
            grant.state.settle(published);
            if !gone.is_empty() {
                grant.families.retain(|family| !gone.contains(family));
            }
            let old = mark >= grant.state.now.created_at.plus(HORIZON_SLACK_SECS);
            if grant.families.is_empty() && grant.state.lsn <= published && old {
                empty.insert(*id);
            }
        }
        if !empty.is_empty() {
            // A family that was killed has left its grant's list, and its kill may still be lost.
            for family in shard.families.values() {
                empty.remove(&family.state.now.grant);
            }
        }
        for id in empty {
            if let Some(grant) = shard.grants.remove(&id) {
                // A later grant of the pair may have its place by now.
                if shard.pairs.get(&grant.unique) == Some(&id) {
                    shard.pairs.remove(&grant.unique);
                }
                self.unindex_grant(&grant);
                self.journal.forget(&Record::Grant(grant.state.now));
                swept.grants += 1;
            }
        }
    }

    /// Whether a revocation that is on disk ended what was admitted then. What one that may still be
    /// lost covers is not dead for good: the checkpoint would forget it, and the log bring it back.
    fn is_revoked_for_good(&self, admission: Seq, grant: &GrantEntry, published: Lsn) -> bool {
        let by_row = grant.state.lsn <= published && admission < grant.state.now.revoked_at;
        by_row || self.stamps.forbid_for_good(admission, &grant.names, grant.unique, published)
    }

    /// Writes the use counts that have waited for an hour. A crash may forget later ones.
    fn write_uses(&self, id: u64, now: Timestamp) -> Result<(), StoreError> {
        let published = self.journal.published();
        let mut shard = self.shard_mut(id);
        let waiting = shard.families.values_mut().filter(|family| {
            let written_at = family.state.now.last_used_at;
            family.has_unwritten_uses()
                && family.state.lsn <= published
                && !family.state.now.dead
                && now.since(written_at) >= USE_FLUSH_SECS
        });
        for family in waiting.take(USE_FLUSH_MAX) {
            let row = family.row_with_uses();
            let appended =
                self.append_again(&[Record::Family(row.clone()).again()], Lane::Birth)?;
            family.state.put(row, appended.first, published);
        }
        Ok(())
    }
}
