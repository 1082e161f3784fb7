//! Values that may be used once: one first use, whatever happens, for as long as they matter.

mod store_support;

use std::sync::{Arc, Barrier};

use mintage::locator::Digest;
use mintage::store::{DurableStore, Find, Outcome, Store, Target, UseOnce, UseOnceOutcome, Verb};
use mintage::time::{Clock, ManualClock, Timestamp};
use store_support::{
    Bench, START, TempDir, clock, durable, fresh_digest, memory, options, pair, patiently, root,
};

const OWNER: Digest = Digest([1; 16]);
const OTHER: Digest = Digest([2; 16]);

macro_rules! laws {
    ($($law:ident)*) => {
        mod in_memory {
            use super::*;
            $(#[test]
            fn $law() {
                let clock = clock();
                super::$law(&memory(&clock), &clock);
            })*
        }
        mod on_disk {
            use super::*;
            $(#[test]
            fn $law() {
                let dir = TempDir::new(stringify!($law));
                let clock = clock();
                let store = durable(dir.path(), &clock).unwrap();
                super::$law(&store, &clock);
                store.close().unwrap();
            })*
        }
    };
}

laws! {
    a_value_is_used_once
    an_owner_has_its_own_room_and_gets_it_back
    a_value_is_remembered_until_nobody_takes_it
    concurrent_uses_have_one_winner
}

fn once(digest: Digest, expires_at: u64, clock: &ManualClock) -> UseOnce {
    let expires_at = Timestamp(expires_at);
    UseOnce { owner: OWNER, digest, expires_at, owner_max: 4, now: clock.read() }
}

fn apply(store: &impl Store, once: UseOnce) -> UseOnceOutcome {
    let outcome = patiently(|| store.apply(Verb::UseOnce(once)).wait()).unwrap();
    let Outcome::UseOnce(outcome) = outcome else { panic!("{outcome:?}") };
    outcome
}

fn sweep_all(store: &impl Store, clock: &ManualClock) -> u64 {
    (0..64).map(|_| store.sweep(clock.read()).unwrap().used).sum()
}

fn a_value_is_used_once(store: &impl Store, clock: &ManualClock) {
    let (a, b) = (fresh_digest(), fresh_digest());
    assert_eq!(apply(store, once(a, START + 60, clock)), UseOnceOutcome::First);
    assert_eq!(apply(store, once(a, START + 60, clock)), UseOnceOutcome::Again);
    assert_eq!(apply(store, once(a, START + 90, clock)), UseOnceOutcome::Again);
    assert_eq!(apply(store, once(b, START + 60, clock)), UseOnceOutcome::First);
    assert_eq!(store.stats().used, 2);
}

fn an_owner_has_its_own_room_and_gets_it_back(store: &impl Store, clock: &ManualClock) {
    for _ in 0..4 {
        assert_eq!(apply(store, once(fresh_digest(), START + 60, clock)), UseOnceOutcome::First);
    }
    let full = once(fresh_digest(), START + 60, clock);
    assert_eq!(apply(store, full), UseOnceOutcome::Full);
    assert_eq!(apply(store, UseOnce { owner: OTHER, ..full }), UseOnceOutcome::First);
    assert_eq!(store.stats().used, 5);
    clock.advance(60 + 300);
    assert_eq!(sweep_all(store, clock), 5);
    assert_eq!(store.stats().used, 0);
    assert_eq!(apply(store, once(fresh_digest(), START + 600, clock)), UseOnceOutcome::First);
}

fn a_value_is_remembered_until_nobody_takes_it(store: &impl Store, clock: &ManualClock) {
    let value = once(fresh_digest(), START + 60, clock);
    assert_eq!(apply(store, value), UseOnceOutcome::First);
    for _ in 0..6 {
        clock.advance(60);
        let value = UseOnce { now: clock.read(), ..value };
        assert_eq!(sweep_all(store, clock) == 1, clock.read().unix.0 == START + 360);
        let outcome = apply(store, value);
        assert!(matches!(outcome, UseOnceOutcome::Again | UseOnceOutcome::Expired));
    }
    // Forgotten by now; a clock that is put back does not make it new.
    clock.set(START);
    let outcome = apply(store, UseOnce { now: clock.read(), ..value });
    assert_eq!(outcome, UseOnceOutcome::Expired);
}

fn concurrent_uses_have_one_winner(store: &impl Store, clock: &ManualClock) {
    let value = once(fresh_digest(), START + 60, clock);
    let barrier = Barrier::new(64);
    let firsts = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..64)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    apply(store, value)
                })
            })
            .collect();
        let outcomes = threads.into_iter().map(|thread| thread.join().unwrap());
        outcomes.filter(|outcome| *outcome == UseOnceOutcome::First).count()
    });
    assert_eq!(firsts, 1);
}

#[test]
fn a_used_value_stays_used_after_reopening() {
    let dir = TempDir::new("used");
    let clock: Arc<ManualClock> = clock();
    let mut values = Vec::new();
    for round in 0..4 {
        let store = durable(dir.path(), &clock).unwrap();
        for (n, value) in values.iter().enumerate() {
            assert_eq!(apply(&store, *value), UseOnceOutcome::Again, "value {n}, round {round}");
        }
        let full = once(fresh_digest(), START + 5_000, &clock);
        let wanted = if values.len() == 4 { UseOnceOutcome::Full } else { UseOnceOutcome::First };
        assert_eq!(apply(&store, full), wanted);
        values.push(full);
        // Half of the times the checkpoint is lost, so that the log alone must know.
        store.close().unwrap();
        if round % 2 == 0 {
            std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
        }
    }
}

/// What a sweep has let go of is not new again for an earlier clock, though nothing was written since.
#[test]
fn what_was_forgotten_stays_dead_for_an_earlier_clock() {
    let (dir, clock) = (TempDir::new("used-clock"), clock());
    let store = durable(dir.path(), &clock).unwrap();
    let bench = Bench { store: &store, clock: &clock };
    let family = bench.issue(&pair("app", "ann")).family;
    let (jti, expires_at) = (fresh_digest(), Timestamp(START + 60));
    assert!(bench.revoke(Target::Jwt { jti, expires_at }).is_some());
    let value = once(fresh_digest(), START + 60, &clock);
    assert_eq!(apply(&store, value), UseOnceOutcome::First);
    clock.advance(1_000);
    assert_eq!(sweep_all(&store, &clock), 1);
    assert_eq!((store.stats().used, store.stats().denied), (0, 0));
    store.close().unwrap();
    drop(store);
    clock.set(START + 10);
    let store = durable(dir.path(), &clock).unwrap();
    let outcome = apply(&store, UseOnce { now: clock.read(), ..value });
    // Whether the checkpoint had let go of it before the store was closed is left to chance.
    assert!(matches!(outcome, UseOnceOutcome::Expired | UseOnceOutcome::Again), "{outcome:?}");
    let bench = Bench { store: &store, clock: &clock };
    let admission = store.admission();
    let find = Find::Jwt { family, generation: 1, admission, jti, expires_at, used: false };
    assert!(bench.find(find).is_none_or(|view| !view.live));
    let later = Find::Jwt {
        family,
        generation: 1,
        admission,
        jti: fresh_digest(),
        expires_at: Timestamp(START + 5_000),
        used: false,
    };
    assert!(bench.find(later).is_some_and(|view| view.live));
}

#[test]
fn one_owner_leaves_room_for_the_others() {
    let (dir, clock) = (TempDir::new("used-room"), clock());
    let options = options(&clock).used_max(8);
    let store = DurableStore::open(dir.path(), &root(), options).unwrap();
    let of = |owner, n: u64| {
        let value = once(fresh_digest(), START + n, &clock);
        apply(&store, UseOnce { owner, owner_max: 100, ..value })
    };
    let mut firsts = [OWNER, OTHER, Digest([3; 16])]
        .map(|owner| (0..8).filter(|_| of(owner, 60) == UseOnceOutcome::First).count());
    assert_eq!(firsts, [4, 2, 1]);
    // What has expired gives its room back when it is asked for.
    clock.advance(60 + 300);
    firsts[0] = (0..8).filter(|_| of(OWNER, 600) == UseOnceOutcome::First).count();
    assert_eq!(firsts[0], 4);
}

/// Segments that hold used values are dropped, and the values stay used.
#[test]
fn a_used_value_survives_the_segment_that_held_it() {
    let dir = TempDir::new("used-survivor");
    let clock: Arc<ManualClock> = clock();
    let value = once(fresh_digest(), START + 1_000_000, &clock);
    let open = || durable(dir.path(), &clock).unwrap();
    let store: DurableStore = open();
    assert_eq!(apply(&store, value), UseOnceOutcome::First);
    let bench = Bench { store: &store, clock: &clock };
    let first = dir.path().join("0000000000000001.log");
    for round in 0..20_000 {
        // What is issued here expires at once and is swept.
        bench.issue(&pair("reports", "user-1"));
        if round % 64 == 0 {
            clock.advance(600);
            store.sweep(clock.read()).unwrap();
            if !first.exists() {
                break;
            }
        }
    }
    assert!(!first.exists(), "the first segment was never dropped");
    assert_eq!(apply(&store, value), UseOnceOutcome::Again);
    store.close().unwrap();
    std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
    let store = open();
    assert_eq!(apply(&store, value), UseOnceOutcome::Again);
}
