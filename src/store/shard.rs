//! One shard of the hot table: a pair with its grant, families and tokens always lies in one, so
//! every verb takes one lock.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use super::record::{CodeRow, FamilyRow, GrantRow, StampKind, TokenRow};
use super::{Lsn, Seq};
use crate::locator::Digest;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::time::Timestamp;

/// Digests are keyed hashes and identifiers are our own: neither needs a second hash.
#[derive(Default)]
pub(crate) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b));
    }

    fn write_u64(&mut self, id: u64) {
        // Identifiers count up: spread them over high and low bits alike.
        self.0 = id.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write_usize(&mut self, _len: usize) {}
}

pub(crate) type AsIsMap<K, V> = HashMap<K, V, BuildHasherDefault<AsIs>>;

/// The state of an entity, and those before it while their successors are not yet published.
///
/// Decisions go by `now`; reads see the latest state whose commit group is durable, so a group
/// becomes visible at once when the published position moves, and what was acknowledged stays
/// visible whatever is enqueued behind it.
#[derive(Debug)]
pub(crate) struct Staged<T> {
    pub(crate) now: T,
    /// Oldest first; each with the position whose publication makes it visible. As many as there
    /// are changes of one entity on their way, which callers decide: nothing here may walk over all
    /// of them for each.
    #[expect(
        clippy::box_collection,
        reason = "most entities have none, and pay eight bytes for it"
    )]
    before: Option<Box<VecDeque<(Lsn, T)>>>,
    /// Position whose publication makes `now` visible.
    seen_from: Lsn,
    /// Position of the latest record that holds `now`.
    pub(crate) lsn: Lsn,
}

impl<T> Staged<T> {
    pub(crate) fn new(now: T, lsn: Lsn) -> Staged<T> {
        Staged { now, before: None, seen_from: lsn, lsn }
    }

    /// Position of the record that first held `now`; rewriting it does not move this.
    pub(crate) fn seen_from(&self) -> Lsn {
        self.seen_from
    }

    /// What reads may see.
    pub(crate) fn visible(&self, published: Lsn) -> Option<&T> {
        if self.seen_from <= published {
            return Some(&self.now);
        }
        let before = self.before.as_deref()?;
        let seen = before.partition_point(|(seen_from, _)| *seen_from <= published);
        before.get(seen.checked_sub(1)?).map(|(_, state)| state)
    }

    /// The next state, whose record is at `lsn`.
    pub(crate) fn put(&mut self, next: T, lsn: Lsn, published: Lsn) {
        self.settle(published);
        let was = (self.seen_from, std::mem::replace(&mut self.now, next));
        // As a rule there is one: a family is redeemed once a commit.
        let first = || Box::new(VecDeque::with_capacity(1));
        self.before.get_or_insert_with(first).push_back(was);
        self.seen_from = lsn;
        self.lsn = lsn;
    }

    /// The same state was written again at `lsn`.
    pub(crate) fn moved(&mut self, lsn: Lsn) {
        self.lsn = lsn;
    }

    /// A change that reads see at once, durable or not: an unconditional kill, whose record is at
    /// `lsn`.
    pub(crate) fn strike(&mut self, lsn: Lsn, change: impl Fn(&mut T)) {
        change(&mut self.now);
        for (_, state) in self.before.iter_mut().flat_map(|before| before.iter_mut()) {
            change(state);
        }
        self.lsn = self.lsn.max(lsn);
    }

    /// Lets go of what no read will ask for again.
    pub(crate) fn settle(&mut self, published: Lsn) {
        if self.seen_from <= published {
            self.before = None;
        } else if let Some(before) = &mut self.before {
            let seen = before.partition_point(|(seen_from, _)| *seen_from <= published);
            before.drain(..seen.saturating_sub(1));
        }
    }
}

pub(crate) struct TokenEntry {
    pub(crate) row: TokenRow,
    /// Position of its birth: it is visible once that is published.
    pub(crate) born: Lsn,
    /// Position of its latest record.
    pub(crate) lsn: Lsn,
    /// Whether it was looked up since the last round of eviction.
    pub(crate) touched: AtomicBool,
}

impl TokenEntry {
    pub(crate) fn new(row: TokenRow, lsn: Lsn) -> TokenEntry {
        TokenEntry { row, born: lsn, lsn, touched: AtomicBool::new(true) }
    }
}

pub(crate) struct FamilyEntry {
    pub(crate) state: Staged<FamilyRow>,
    /// The number at which the generation in force was first used; 0 while it was not.
    pub(crate) used_at: AtomicU64,
    pub(crate) last_used_at: AtomicU64,
    pub(crate) use_count: AtomicU64,
}

impl FamilyEntry {
    pub(crate) fn new(row: FamilyRow, lsn: Lsn) -> FamilyEntry {
        FamilyEntry {
            used_at: AtomicU64::new(0),
            last_used_at: AtomicU64::new(row.last_used_at.0),
            use_count: AtomicU64::new(row.use_count),
            state: Staged::new(row, lsn),
        }
    }

    /// Counts a use of a token of `generation`. `raise` gives the number of the first one.
    pub(crate) fn count_use(&self, generation: u32, now: Timestamp, raise: impl FnOnce() -> Seq) {
        self.last_used_at.fetch_max(now.0, Ordering::Relaxed);
        self.use_count.fetch_add(1, Ordering::Relaxed);
        if generation == self.state.now.generation && self.used_at.load(Ordering::SeqCst) == 0 {
            let first = raise().0;
            let _ = self.used_at.compare_exchange(0, first, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    /// The row with the uses that were counted in memory since it was written.
    pub(crate) fn row_with_uses(&self) -> FamilyRow {
        FamilyRow {
            last_used_at: Timestamp(self.last_used_at.load(Ordering::Relaxed)),
            use_count: self.use_count.load(Ordering::Relaxed),
            ..self.state.now.clone()
        }
    }

    pub(crate) fn has_unwritten_uses(&self) -> bool {
        self.use_count.load(Ordering::Relaxed) != self.state.now.use_count
    }
}

impl FamilyRow {
    /// When it ends by its absolute limit; without a refresh token it has none.
    pub(crate) fn ends_at(&self) -> Timestamp {
        if self.generation == 0 { Timestamp::NEVER } else { self.expires_at }
    }

    /// Whether its refresh token may still be redeemed, by age.
    pub(crate) fn is_refreshable(&self, now: Timestamp) -> bool {
        self.generation > 0
            && !self.dead
            && now < self.expires_at
            && (self.idle_secs == 0 || now < self.redeemed_at.plus(self.idle_secs))
    }

    /// Whether any token in it may be live, by age.
    pub(crate) fn may_live(&self, now: Timestamp) -> bool {
        !self.dead && (self.is_refreshable(now) || now < self.horizon)
    }
}

pub(crate) struct GrantEntry {
    pub(crate) state: Staged<GrantRow>,
    pub(crate) unique: Digest,
    /// Names whose stamps stand above everything in this grant.
    pub(crate) names: [(StampKind, Digest); 3],
    /// Its families, oldest first; dead ones are pruned now and then.
    pub(crate) families: Vec<u64>,
}

#[derive(Default)]
pub(crate) struct Shard {
    pub(crate) tokens: AsIsMap<Digest, TokenEntry>,
    pub(crate) families: AsIsMap<u64, FamilyEntry>,
    pub(crate) grants: AsIsMap<u64, GrantEntry>,
    pub(crate) pairs: AsIsMap<Digest, u64>,
    pub(crate) codes: AsIsMap<u64, Staged<CodeRow>>,
    /// How many of `codes` a pair has.
    pub(crate) codes_of: AsIsMap<Digest, u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_seen_when_its_group_is_published() {
        let mut staged = Staged::new("a", Lsn(5));
        assert_eq!(staged.visible(Lsn(4)), None);
        assert_eq!(staged.visible(Lsn(5)), Some(&"a"));
        staged.put("b", Lsn(7), Lsn(5));
        staged.put("c", Lsn(8), Lsn(5));
        assert_eq!(staged.visible(Lsn(6)), Some(&"a"));
        assert_eq!(staged.visible(Lsn(7)), Some(&"b"));
        assert_eq!(staged.visible(Lsn(8)), Some(&"c"));
        staged.settle(Lsn(7));
        assert_eq!(staged.visible(Lsn(7)), Some(&"b"));
        staged.settle(Lsn(8));
        assert!(staged.before.is_none());
    }

    #[test]
    fn a_birth_stays_visible_whatever_comes_behind_it() {
        let mut staged = Staged::new("a", Lsn(5));
        staged.put("b", Lsn(7), Lsn(4));
        staged.put("c", Lsn(9), Lsn(4));
        for (published, seen) in [(4, None), (5, Some("a")), (7, Some("b")), (9, Some("c"))] {
            assert_eq!(staged.visible(Lsn(published)), seen.as_ref(), "{published}");
        }
        staged.put("d", Lsn(10), Lsn(7));
        assert_eq!(staged.visible(Lsn(7)), Some(&"b"));
        assert_eq!(staged.visible(Lsn(6)), None, "a read never goes back");
    }

    #[test]
    fn very_many_changes_on_their_way_cost_what_they_are() {
        let mut staged = Staged::new(0, Lsn(1));
        for n in 1..200_000 {
            staged.put(n, Lsn(1 + n), Lsn(1));
        }
        assert_eq!(staged.visible(Lsn(100_000)), Some(&99_999));
        staged.settle(Lsn(100_000));
        assert_eq!(staged.visible(Lsn(100_000)), Some(&99_999));
        assert_eq!(staged.before.as_ref().map(|before| before.len()), Some(100_000));
    }

    #[test]
    fn a_strike_is_seen_at_once_in_every_state_that_is_seen() {
        let mut staged = Staged::new("a", Lsn(5));
        staged.put("b", Lsn(7), Lsn(5));
        staged.strike(Lsn(9), |s| *s = "dead");
        for published in [5, 7, 8, 9] {
            assert_eq!(staged.visible(Lsn(published)), Some(&"dead"));
        }
        assert_eq!(staged.lsn, Lsn(9));
        let mut unborn = Staged::new("a", Lsn(5));
        unborn.strike(Lsn(6), |s| *s = "dead");
        assert_eq!(unborn.visible(Lsn(4)), None);
        assert_eq!(unborn.visible(Lsn(5)), Some(&"dead"));
    }
}
