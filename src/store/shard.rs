//! One shard of the hot table: a pair with its grant, families and tokens always lies in one, so
//! every verb takes one lock.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::record::{FamilyRow, GrantRow, StampKind, TokenRow};
use super::{Lsn, Seq};
use crate::locator::Digest;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::planted;
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

/// The state of an entity, and the ones before it while its record is not yet published.
///
/// Decisions go by `now`; reads see the latest state whose commit group is durable, so a group
/// becomes visible at once when the published position moves.
#[derive(Debug)]
pub(crate) struct Staged<T> {
    pub(crate) now: T,
    /// Position whose publication makes `now` visible.
    seen_from: Lsn,
    /// Position of the latest record that holds `now`.
    pub(crate) lsn: Lsn,
    before: Option<Box<Before<T>>>,
}

/// A state that reads still see, or will see before a later one.
#[derive(Debug)]
struct Before<T> {
    state: T,
    seen_from: Lsn,
    before: Option<Box<Before<T>>>,
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
        let mut before = self.before.as_deref();
        while let Some(past) = before {
            if past.seen_from <= published {
                return Some(&past.state);
            }
            before = past.before.as_deref();
        }
        None
    }

    /// The next state, whose record is at `lsn`.
    pub(crate) fn put(&mut self, next: T, lsn: Lsn, published: Lsn) {
        let state = std::mem::replace(&mut self.now, next);
        self.supersede(state, lsn, published);
        self.lsn = lsn;
    }

    /// The same state was written again at `lsn`.
    pub(crate) fn moved(&mut self, lsn: Lsn) {
        self.lsn = lsn;
    }

    /// A change that reads see at once, durable or not: an unconditional kill.
    pub(crate) fn strike(&mut self, lsn: Lsn, published: Lsn, change: impl Fn(&mut T))
    where
        T: Clone,
    {
        change(&mut self.now);
        let mut before = self.before.as_deref_mut();
        while let Some(past) = before {
            change(&mut past.state);
            before = past.before.as_deref_mut();
        }
        if lsn > self.seen_from {
            self.supersede(self.now.clone(), lsn, published);
        }
        self.lsn = self.lsn.max(lsn);
    }

    /// `state` is seen no longer once `lsn` is published.
    fn supersede(&mut self, state: T, lsn: Lsn, published: Lsn) {
        let before = self.before.take();
        if planted!(MiddleStateForgotten) && self.seen_from > published {
            self.before = before;
            self.seen_from = lsn;
            return;
        }
        self.before = Some(Box::new(Before { state, seen_from: self.seen_from, before }));
        self.seen_from = lsn;
        self.settle(published);
    }

    /// Lets go of what no read will ask for again.
    pub(crate) fn settle(&mut self, published: Lsn) {
        if self.seen_from <= published {
            self.before = None;
            return;
        }
        let mut before = self.before.as_deref_mut();
        while let Some(past) = before {
            if past.seen_from <= published {
                past.before = None;
            }
            before = past.before.as_deref_mut();
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
        staged.strike(Lsn(9), Lsn(7), |s| *s = "dead");
        assert_eq!(staged.visible(Lsn(8)), Some(&"dead"));
        assert_eq!(staged.visible(Lsn(9)), Some(&"dead"));
        let mut unborn = Staged::new("a", Lsn(5));
        unborn.strike(Lsn(6), Lsn(4), |s| *s = "dead");
        assert_eq!(unborn.visible(Lsn(4)), None);
        assert_eq!(unborn.visible(Lsn(5)), Some(&"dead"));
    }

    /// Two changes on their way, and the first arrives: it is what readers see.
    #[test]
    fn every_published_state_has_its_turn() {
        let mut staged = Staged::new("a", Lsn(5));
        staged.put("b", Lsn(7), Lsn(5));
        staged.put("c", Lsn(8), Lsn(5));
        staged.put("d", Lsn(9), Lsn(7));
        for (published, seen) in [(7, "b"), (8, "c"), (9, "d")] {
            assert_eq!(staged.visible(Lsn(published)), Some(&seen));
        }
        staged.settle(Lsn(9));
        assert!(staged.before.is_none());
    }
}
