//! Scenarios that the design was checked against, as far as no other file of tests is about them.
//! RELIABILITY.md maps each to its test.

mod store_support;

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use mintage::store::{
    DurableStore, IssueOutcome, Listing, MemoryCheckpointHome, Near, Outcome, PairPolicy,
    RedeemOutcome, Revoke, Storage, Store, StoreError, Target, Verb,
};
use mintage::time::{Clock as _, ManualClock};
use store_support::gate::GatedStorage;
use store_support::sim::{Call, Fault, Random, SimStorage};
use store_support::{Bench, LIFETIME, clock, options, pair, patiently, root, wait};

const BLOCK: usize = 4_096;

fn open<S: Storage + Clone>(
    storage: &S,
    home: &MemoryCheckpointHome,
    clock: &Arc<ManualClock>,
) -> Result<DurableStore, StoreError> {
    let (storage, home) = (Arc::new(storage.clone()), Arc::new(home.clone()));
    DurableStore::open_on(storage, home, &root(), options(clock))
}

/// A number that was handed out, durable or not, is below every number of a later run.
#[test]
fn numbers_are_never_used_twice_whatever_ended_the_run() {
    let clock = clock();
    let mut random = Random::new(11);
    let mut storage = SimStorage::new();
    let home = MemoryCheckpointHome::default();
    let (mut seq, mut id) = (0, 0);
    for round in 0..40 {
        let store = open(&storage, &home.copy(), &clock).unwrap();
        let bench = Bench { store: &store, clock: &clock };
        let here = pair("app", &format!("user-{round}"));
        assert!(store.admission().0 > seq, "round {round}");
        assert!(store.draw(Near::Pair(&here)) >> 6 > id >> 6, "round {round}");
        let tokens = bench.issue(&here);
        // Handed out and never durable.
        let now = clock.read();
        for _ in 0..random.below(20) {
            let target = Target::Subject(here.subject.clone());
            drop(store.apply(Verb::Revoke(Revoke { target, now })));
            id = id.max(store.draw(Near::Id(tokens.family)));
        }
        (seq, id) = (store.admission().0, id.max(store.draw(Near::Id(tokens.family))));
        storage = match round % 3 {
            0 => storage.cut_power(&mut random),
            1 => storage.kill(),
            _ => {
                store.close().unwrap();
                storage
            }
        };
    }
}

/// A store that has nothing to do seals its tail: from then on even a last group that is gone whole is
/// told from one that was never written.
#[test]
fn an_idle_store_seals_its_tail() {
    let clock = clock();
    let storage = SimStorage::new();
    let home = MemoryCheckpointHome::default();
    let store = open(&storage, &home, &clock).unwrap();
    let bench = Bench { store: &store, clock: &clock };
    bench.issue(&pair("app", "ann"));
    bench.issue(&pair("app", "bob"));
    let durable = store.stats().durable.0;
    let sealed = || {
        let mut sealed = 0;
        storage.damage("superblock", |bytes| {
            let slots = bytes.chunks(BLOCK).filter_map(|slot| slot.get(56..64)?.try_into().ok());
            sealed = slots.map(u64::from_le_bytes).max().unwrap_or(0);
        });
        sealed
    };
    let begun = std::time::Instant::now();
    while sealed() < durable {
        assert!(begun.elapsed().as_secs() < 20, "the tail is never sealed");
        std::thread::yield_now();
    }
    let killed = storage.kill();
    drop(store);
    killed.damage("0000000000000001.log", |bytes| {
        let last = bytes.iter().rposition(|byte| *byte != 0).unwrap() / BLOCK * BLOCK;
        bytes[last..].fill(0);
    });
    let opened = open(&killed, &MemoryCheckpointHome::default(), &clock);
    assert!(matches!(opened, Err(StoreError::Corrupt { .. })), "{opened:?}");
}

/// While the disk stands still births are refused first, redeems later, kills last; what is refused
/// has changed nothing, and everything that was not is there in the end.
#[test]
fn room_runs_out_for_births_first_then_redeems_then_kills() {
    let clock = clock();
    let storage = GatedStorage::default();
    let home = MemoryCheckpointHome::default();
    let store = open(&storage, &home, &clock).unwrap();
    let bench = Bench { store: &store, clock: &clock };
    let old = bench.issue(&pair("app", "replaced"));
    let mut standing: Vec<_> = (0..600)
        .map(|n| bench.issue(&pair("app", &format!("user-{n}"))).refresh.unwrap())
        .collect();
    let victims: Vec<_> =
        (0..600).map(|n| bench.issue(&pair("app", &format!("victim-{n}")))).collect();
    let held = storage.hold();
    let now = clock.read();
    // Refused at once, or on its way.
    let on_its_way = |verb: Verb| {
        let mut ticket = Box::pin(store.apply(verb));
        let mut cx = Context::from_waker(Waker::noop());
        match ticket.as_mut().poll(&mut cx) {
            Poll::Ready(Err(StoreError::Busy)) => None,
            Poll::Ready(other) => panic!("answered while the disk stands still: {other:?}"),
            Poll::Pending => Some(ticket),
        }
    };
    let mut births = Vec::new();
    for n in 0.. {
        let here = pair("app", &format!("birth-{n}"));
        let (verb, tokens) =
            bench.issue_verb(&here, PairPolicy::Unlimited, true, store.admission());
        match on_its_way(verb) {
            Some(ticket) => births.push((ticket, tokens.access)),
            None => break,
        }
        assert!(n < 100_000, "births are never refused");
    }
    // A login that is refused has replaced nobody.
    let (verb, _) =
        bench.issue_verb(&pair("app", "replaced"), PairPolicy::Replace, true, store.admission());
    assert!(on_its_way(verb).is_none());
    assert!(bench.is_live(old.access) && bench.is_redeemable(old.refresh.unwrap()));

    let mut redeems = Vec::new();
    let refused = loop {
        let refresh = standing.pop().expect("redeems are never refused");
        let (verb, access, next) = bench.redeem_verb(refresh, 60, store.admission());
        match on_its_way(verb) {
            Some(ticket) => redeems.push((ticket, access, next)),
            None => break refresh,
        }
    };
    assert!(!redeems.is_empty(), "redeems are refused with births");
    assert!(bench.is_redeemable(refused), "a refused redeem spent its token");

    let mut kills = Vec::new();
    let mut victims = victims.into_iter();
    let spared = loop {
        let victim = victims.next().expect("kills are never refused");
        let verb = Verb::Revoke(Revoke { target: Target::Family(victim.family), now });
        match on_its_way(verb) {
            Some(ticket) => kills.push((ticket, victim)),
            None => break victim,
        }
    };
    assert!(!kills.is_empty(), "kills are refused with redeems");
    assert!(kills.iter().all(|(_, victim)| !bench.is_live(victim.access)), "in effect at once");
    assert!(bench.is_live(spared.access), "a refused kill is in effect");

    drop(held);
    let (mut live, mut dead) = (Vec::new(), Vec::new());
    for (ticket, access) in births {
        assert!(matches!(wait(ticket).unwrap(), Outcome::Issue(IssueOutcome::Issued { .. })));
        live.push(access);
    }
    for (ticket, access, _) in redeems {
        let outcome = wait(ticket).unwrap();
        assert!(matches!(outcome, Outcome::Redeem(RedeemOutcome::Redeemed { .. })));
        live.push(access);
    }
    for (ticket, victim) in kills {
        wait(ticket).unwrap();
        dead.push(victim.access);
    }
    live.extend([spared.access, old.access]);
    store.close().unwrap();
    let store = open(&storage, &MemoryCheckpointHome::default(), &clock).unwrap();
    let bench = Bench { store: &store, clock: &clock };
    assert!(live.iter().all(|access| bench.is_live(*access)));
    assert!(!dead.iter().any(|access| bench.is_live(*access)));
    assert!(bench.is_redeemable(refused));
}

/// A login whose commit fails has ended nobody's: what it would have replaced lives on, until the
/// store is opened again and the log says what became of it.
#[test]
fn a_login_that_could_not_be_written_ends_nobody() {
    let clock = clock();
    let storage = SimStorage::new();
    let home = MemoryCheckpointHome::default();
    let store = open(&storage, &home, &clock).unwrap();
    let bench = Bench { store: &store, clock: &clock };
    let here = pair("app", "ann");
    let old = bench.issue(&here);
    storage.set_fault(Some(Fault {
        call: Call::Write,
        nth: 1,
        for_good: true,
        kind: std::io::ErrorKind::StorageFull,
        short: false,
    }));
    let answer = bench.try_issue(&here, PairPolicy::Replace, true);
    assert!(matches!(answer, Err(StoreError::Unknown(_))), "{answer:?}");
    assert!(bench.is_live(old.access) && bench.is_redeemable(old.refresh.unwrap()));
    storage.set_fault(None);
    let _ = store.close();
    drop(store);
    let store = open(&storage, &home, &clock).unwrap();
    let bench = Bench { store: &store, clock: &clock };
    assert!(bench.is_live(old.access) && bench.is_redeemable(old.refresh.unwrap()));
}

/// What a revocation covers that may still be lost stays in the table and in the checkpoint: else it
/// would be missing now, and live again when the log is read.
#[test]
fn only_a_revocation_on_disk_sweeps_what_it_covers() {
    let clock = clock();
    let storage = GatedStorage::default();
    let store = open(&storage, &MemoryCheckpointHome::default(), &clock).unwrap();
    let bench = Bench { store: &store, clock: &clock };
    bench.issue(&pair("app", "ann"));
    bench.issue(&pair("app", "bob"));
    clock.advance(LIFETIME + 1_000);
    let sweep = || (0..1_024).for_each(|_| drop(store.sweep(clock.read())));
    let revoke = |subject: &str| {
        let target = Target::Subject(pair("app", subject).subject);
        store.apply(Verb::Revoke(Revoke { target, now: clock.read() }))
    };
    let held = storage.hold();
    let ticket = revoke("ann");
    sweep();
    assert_eq!(store.stats().families, 2, "swept for a revocation on its way");
    drop(held);
    ticket.wait().unwrap();
    sweep();
    assert_eq!(store.stats().families, 1);

    let storage = SimStorage::new();
    let home = MemoryCheckpointHome::default();
    let store = open(&storage, &home, &clock).unwrap();
    let bench = Bench { store: &store, clock: &clock };
    let bob = bench.issue(&pair("app", "bob"));
    clock.advance(LIFETIME + 1_000);
    storage.set_fault(Some(Fault {
        call: Call::Write,
        nth: 1,
        for_good: true,
        kind: std::io::ErrorKind::StorageFull,
        short: false,
    }));
    assert!(bench.try_issue(&pair("app", "cid"), PairPolicy::Unlimited, true).is_err());
    let target = Target::Subject(pair("app", "bob").subject);
    let revoked = store.apply(Verb::Revoke(Revoke { target, now: clock.read() })).wait();
    assert!(matches!(revoked, Err(StoreError::NotDurable)), "{revoked:?}");
    assert!(!bench.is_redeemable(bob.refresh.unwrap()), "a refused kill is in effect");
    let families = store.stats().families;
    (0..1_024).for_each(|_| drop(store.sweep(clock.read())));
    assert_eq!(store.stats().families, families, "swept for a revocation on no disk");
}

struct Panicking;

impl Wake for Panicking {
    fn wake(self: Arc<Self>) {
        panic!("a waker of the host's");
    }
}

/// Wakers are foreign code: one that panics takes nobody along.
#[test]
fn a_waker_that_panics_harms_nobody() {
    let clock = clock();
    let storage = GatedStorage::default();
    let store = open(&storage, &MemoryCheckpointHome::default(), &clock).unwrap();
    let bench = Bench { store: &store, clock: &clock };
    let held = storage.hold();
    let birth = |name: &str| {
        let here = pair("app", name);
        let (verb, tokens) =
            bench.issue_verb(&here, PairPolicy::Unlimited, true, store.admission());
        (Box::pin(store.apply(verb)), tokens)
    };
    let ((mut one, first), (other, second)) = (birth("ann"), birth("bob"));
    let waker = Waker::from(Arc::new(Panicking));
    assert!(one.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(held);
    wait(other).unwrap();
    wait(one).unwrap();
    let third = bench.issue(&pair("app", "eve"));
    assert!([first, second, third].iter().all(|tokens| bench.is_live(tokens.access)));
    store.close().unwrap();
}

/// A cursor from before what the feed holds is told so; it never gets an empty page.
#[test]
fn a_cursor_that_is_too_old_is_told_to_begin_again() {
    let clock = clock();
    let storage = SimStorage::new();
    let home = MemoryCheckpointHome::default();
    let store = open(&storage, &home, &clock).unwrap();
    let bench = Bench { store: &store, clock: &clock };
    bench.issue(&pair("app", "ann"));
    bench.revoke(Target::Subject(pair("app", "ann").subject));
    let page = wait(store.list(Listing::Revocations, None, 1)).unwrap();
    let cursor = page.next.unwrap();
    bench.issue(&pair("app", "bob"));
    bench.revoke(Target::Subject(pair("app", "bob").subject));
    store.close().unwrap();
    let store = open(&storage, &home, &clock).unwrap();
    let answer = wait(store.list(Listing::Revocations, Some(&cursor), 10));
    assert!(matches!(answer, Err(StoreError::SnapshotNeeded)), "{answer:?}");
    // From the log alone the feed reaches back as far as the log.
    store.close().unwrap();
    let store = open(&storage, &MemoryCheckpointHome::default(), &clock).unwrap();
    let page = wait(store.list(Listing::Revocations, Some(&cursor), 10)).unwrap();
    assert_eq!(page.revocations.len(), 1);
}

/// What the checkpoint wrote before the machine lost its memory may be there in part: unless it was
/// closed, it is built again from the log.
#[test]
fn a_checkpoint_is_not_believed_after_a_restart_of_the_machine() {
    for (is_other_boot, is_closed) in [(false, false), (true, false), (true, true)] {
        let clock = clock();
        let mut storage = SimStorage::new();
        let home = MemoryCheckpointHome::default();
        let store = open(&storage, &home, &clock).unwrap();
        let bench = Bench { store: &store, clock: &clock };
        let tokens = bench.issue(&pair("app", "ann"));
        let durable = store.stats().durable;
        patiently(|| match store.stats().checkpointed == durable {
            true => Ok(()),
            false => Err(StoreError::Busy),
        })
        .unwrap();
        if is_closed {
            store.close().unwrap();
        } else {
            storage = storage.kill();
        }
        drop(store);
        if is_other_boot {
            storage.damage("superblock", |bytes| {
                for slot in bytes.chunks_mut(BLOCK).filter(|slot| slot[0] != 0) {
                    slot[88..104].fill(7);
                    let sum = blake3::hash(&slot[..BLOCK - 16]);
                    slot[BLOCK - 16..].copy_from_slice(&sum.as_bytes()[..16]);
                }
            });
        }
        let store = open(&storage, &home.copy(), &clock).unwrap();
        let is_rebuilt = store.stats().tokens_resident == 1;
        assert_eq!(is_rebuilt, is_other_boot && !is_closed);
        assert!(Bench { store: &store, clock: &clock }.is_live(tokens.access));
    }
}

/// A client's honest retry does not die of the server's own absence: its time begins again at open,
/// if it ran when the store stopped.
#[test]
fn the_time_for_a_retry_begins_again_at_open_if_it_ran_when_the_store_stopped() {
    for (before, after, retried) in [(60, 60, true), (60, 61, false), (61, 0, false)] {
        let clock = clock();
        let storage = SimStorage::new();
        let home = MemoryCheckpointHome::default();
        let store = open(&storage, &home, &clock).unwrap();
        let bench = Bench { store: &store, clock: &clock };
        let first = bench.issue(&pair("app", "ann")).refresh.unwrap();
        let (_, access, second) = bench.redeem(first);
        clock.advance(before);
        // Something durable says how late it was.
        bench.issue(&pair("app", "bob"));
        store.close().unwrap();
        clock.advance(1_000);
        let store = open(&storage, &home, &clock).unwrap();
        let bench = Bench { store: &store, clock: &clock };
        clock.advance(after);
        let (outcome, ..) = bench.redeem(first);
        match outcome {
            RedeemOutcome::Retried { mint, .. } => {
                assert!(retried, "{before} {after}");
                assert_eq!(mint.locator, Some(access.locator));
            }
            other => assert!(!retried, "{before} {after}: {other:?}"),
        }
        assert_eq!(bench.is_redeemable(second), retried);
        store.close().unwrap();
    }
}
