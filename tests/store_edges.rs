//! Scenarios that once went wrong, or nearly: each stays as the law it broke.

mod store_support;

use std::sync::Arc;

use mintage::store::{Outcome, PairPolicy, Store, Target, Verb};
use mintage::time::{Clock as _, ManualClock};
use store_support::gate::GatedStorage;
use store_support::{Bench, TempDir, clock, durable, pair};

/// However many families a login ends, its unit fits a group.
#[test]
fn a_login_that_evicts_a_thousand_others_leaves_a_store_that_opens() {
    let dir = TempDir::new("evict");
    let clock = clock();
    let store = durable(dir.path(), &clock).unwrap();
    let bench = Bench { store: &store, clock: &clock };
    let p = pair("app", "user");
    for _ in 0..1_100 {
        bench.issue(&p);
    }
    bench.try_issue(&p, PairPolicy::Replace, true).unwrap();
    store.close().unwrap();
    durable(dir.path(), &clock).unwrap();
}

/// A swept grant that a rebuild meets again leaves the pair to its successor.
#[test]
fn one_grant_per_pair_after_a_rebuild_and_a_sweep() {
    let dir = TempDir::new("regrant");
    let clock = clock();
    let p = pair("app", "user");
    let store = durable(dir.path(), &clock).unwrap();
    let bench = Bench { store: &store, clock: &clock };
    let first = bench.try_issue(&p, PairPolicy::Replace, false).unwrap().1;
    clock.advance(10_000);
    for _ in 0..64 {
        store.sweep(clock.read()).unwrap();
    }
    assert_eq!(store.stats().grants, 0);
    let second = bench.try_issue(&p, PairPolicy::Replace, true).unwrap().1;
    assert_ne!(first.grant, second.grant);
    store.close().unwrap();
    std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
    let store = durable(dir.path(), &clock).unwrap();
    let bench = Bench { store: &store, clock: &clock };
    clock.advance(400);
    for _ in 0..128 {
        store.sweep(clock.read()).unwrap();
    }
    let third = bench.try_issue(&p, PairPolicy::Replace, true).unwrap().1;
    assert_eq!(second.grant, third.grant, "two grants of one pair");
    assert!(!bench.is_redeemable(second.refresh.unwrap()), "replaced and live");
}

/// A clock that jumps ahead for a moment, one write, a restart: nothing is expired by it.
#[test]
fn a_jump_ahead_that_was_put_right_ends_nothing() {
    let dir = TempDir::new("jump");
    let clock = clock();
    let store = durable(dir.path(), &clock).unwrap();
    let bench = Bench { store: &store, clock: &clock };
    let held = bench.issue(&pair("app", "user"));
    clock.set(store_support::START + 50 * 365 * 86_400);
    bench.issue(&pair("app", "other"));
    clock.set(store_support::START + 10);
    assert!(bench.is_live(held.access));
    store.close().unwrap();
    let store = durable(dir.path(), &clock).unwrap();
    let bench = Bench { store: &store, clock: &clock };
    assert!(bench.is_live(held.access), "expired by a clock that was put right");
}

/// Long-lived records fill the oldest segments, short-lived ones die behind them.
#[test]
fn the_keeper_drops_many_full_segments_and_writes_go_on() {
    let dir = TempDir::new("keeper");
    let clock = clock();
    let store = durable(dir.path(), &clock).unwrap();
    let bench = Bench { store: &store, clock: &clock };
    let stuck = std::cell::Cell::new(0);
    let push = |n: usize, refresh: bool, tag: &str| {
        let mut tickets = Vec::new();
        for i in 0..n {
            let p = pair("app", &format!("{tag}{i}"));
            loop {
                let (verb, _) =
                    bench.issue_verb(&p, PairPolicy::Unlimited, refresh, store.admission());
                // Busy is answered at once: try again.
                let mut ticket = Box::pin(store.apply(verb));
                let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
                match ticket.as_mut().poll(&mut cx) {
                    std::task::Poll::Ready(Err(error)) => {
                        std::thread::yield_now();
                        stuck.set(stuck.get() + 1);
                        if matches!(error, mintage::store::StoreError::ReadOnly) {
                            for ticket in tickets.drain(..) {
                                if let Err(first) = store_support::wait(ticket) {
                                    panic!("read-only because of {first:?}: {:?}", store.stats());
                                }
                            }
                        }
                        assert!(
                            stuck.get() < 20_000_000,
                            "{tag}{i}: {error:?} {:?}",
                            store.stats()
                        );
                    }
                    std::task::Poll::Ready(Ok(_)) => break,
                    std::task::Poll::Pending => {
                        stuck.set(0);
                        tickets.push(ticket);
                        break;
                    }
                }
            }
        }
        for ticket in tickets {
            let _ = store_support::wait(ticket);
        }
    };
    push(5_000, true, "long");
    push(20_000, false, "short");
    clock.advance(20_000);
    for _ in 0..64 {
        let _ = store.sweep(clock.read());
    }
    // Patiently: the keeper needs its time, but not for ever.
    bench.try_issue(&pair("app", "late"), PairPolicy::Unlimited, true).unwrap();
    bench.revoke(Target::Everything);
}

/// A JWT whose family is not yet durable is not answered before it is.
#[test]
fn a_jwt_beside_a_pending_one_waits_for_their_family() {
    let dir = TempDir::new("jwt");
    let clock = clock();
    let store = durable(dir.path(), &clock).unwrap();
    let bench = Bench { store: &store, clock: &clock };
    // The texts are durable already, as in any store that has run for a while.
    bench.issue(&pair("app", "other"));
    let p = pair("app", "user");
    let jwt = |verb: mintage::store::Verb| match verb {
        mintage::store::Verb::Issue(mut issue) => {
            issue.access.handle = None;
            mintage::store::Verb::Issue(issue)
        }
        other => other,
    };
    let mut early = 0;
    for round in 0..200 {
        let p = pair("app", &format!("{}{round}", p.subject.as_str()));
        let (one, _) = bench.issue_verb(&p, PairPolicy::Unlimited, false, store.admission());
        let (two, _) = bench.issue_verb(&p, PairPolicy::Unlimited, false, store.admission());
        let durable = store.stats().durable;
        let _first = store.apply(jwt(one));
        let mut second = Box::pin(store.apply(jwt(two)));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        // A store that is busy refuses at once; that is no answer.
        let ready = matches!(second.as_mut().poll(&mut cx), std::task::Poll::Ready(Ok(_)));
        if ready && store.stats().durable == durable {
            early += 1;
        }
        let _ = store_support::wait(_first);
    }
    assert_eq!(early, 0, "answered before anything was durable");
}

/// A token under `reuse` that was revoked by itself is not handed out again.
#[test]
fn reuse_does_not_hand_out_a_revoked_token() {
    let clock = clock();
    let store = store_support::memory(&clock);
    let bench = Bench { store: &store, clock: &clock };
    let p = pair("app", "user");
    let policy = PairPolicy::Reuse { left_secs_min: 1 };
    let first = bench.try_issue(&p, policy, false).unwrap().1;
    bench.revoke(Target::Access(first.access.locator, first.access.digest));
    assert!(!bench.is_live(first.access));
    let (outcome, _) = bench.try_issue(&p, policy, false).unwrap();
    assert!(
        matches!(outcome, mintage::store::IssueOutcome::Issued { .. }),
        "the dead token again: {outcome:?}"
    );
}

/// A kill that belongs to a birth is not answered before it is durable.
#[test]
fn a_family_that_a_pending_login_replaces_is_not_dead_yet() {
    let dir = TempDir::new("pending");
    let clock = clock();
    let store = durable(dir.path(), &clock).unwrap();
    let bench = Bench { store: &store, clock: &clock };
    let mut early = 0;
    for round in 0..200 {
        let p = pair("app", &format!("user{round}"));
        let old = bench.issue(&p);
        std::thread::yield_now();
        let durable = store.stats().durable;
        let (verb, _) = bench.issue_verb(&p, PairPolicy::Replace, true, store.admission());
        let replacing = store.apply(verb);
        let (ticket, ..) = bench.redeem_ticket(old.refresh.unwrap(), 60);
        let mut ticket = Box::pin(ticket);
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let ready = matches!(ticket.as_mut().poll(&mut cx), std::task::Poll::Ready(Ok(_)));
        if ready && store.stats().durable == durable {
            early += 1;
        }
        let _ = store_support::wait(replacing);
    }
    assert_eq!(early, 0, "`Dead` was answered before the kill was durable");
}

/// A clock that jumps ahead for a moment makes no pair forget its logins.
#[test]
fn a_jump_ahead_does_not_take_logins_out_of_their_pair() {
    let clock = clock();
    let store = store_support::memory(&clock);
    let bench = Bench { store: &store, clock: &clock };
    let p = pair("app", "user");
    let (verb, old) = bench.issue_verb(&p, PairPolicy::Replace, true, store.admission());
    let verb = match verb {
        mintage::store::Verb::Issue(mut issue) => {
            issue.refresh.as_mut().unwrap().expires_at =
                mintage::time::Timestamp(store_support::START + 1_000_000);
            mintage::store::Verb::Issue(issue)
        }
        other => other,
    };
    store.apply(verb).wait().unwrap();
    clock.set(store_support::START + 2_000_000);
    bench.try_issue(&p, PairPolicy::Newest(5), true).unwrap();
    clock.set(store_support::START + 100);
    bench.try_issue(&p, PairPolicy::Replace, true).unwrap();
    assert!(!bench.is_redeemable(old.refresh.unwrap()), "a replaced login lives on");
}

fn gated() -> (GatedStorage, mintage::store::DurableStore, Arc<ManualClock>) {
    let (storage, clock) = (GatedStorage::default(), clock());
    let store = mintage::store::DurableStore::open_on(
        Arc::new(storage.clone()),
        Arc::new(mintage::store::MemoryCheckpointHome::default()),
        &store_support::root(),
        store_support::options(&clock),
    )
    .unwrap();
    (storage, store, clock)
}

fn is_answered(ticket: &mut std::pin::Pin<Box<mintage::store::Ticket<Outcome>>>) -> bool {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    matches!(ticket.as_mut().poll(&mut cx), std::task::Poll::Ready(Ok(_)))
}

/// What was acknowledged is seen, whatever was enqueued on the same family behind it.
#[test]
fn an_acknowledged_birth_is_seen_while_its_successor_is_on_its_way() {
    let (storage, store, clock) = gated();
    let bench = Bench { store: &store, clock: &clock };
    let p = pair("app", "user");
    bench.issue(&pair("app", "warm"));
    let _held = storage.hold();
    let (verb, tokens) = bench.issue_verb(&p, PairPolicy::Unlimited, true, store.admission());
    let mut issued = Box::pin(store.apply(verb));
    storage.wait_for_sync();
    // The writer is in the middle of the first group: these go to the next one.
    let (redeemed, access, next) = bench.redeem_ticket(tokens.refresh.unwrap(), 60);
    let mut redeemed = Box::pin(redeemed);
    assert!(!bench.is_live(tokens.access), "not durable and seen");
    storage.let_one_through();
    while !is_answered(&mut issued) {
        std::thread::yield_now();
    }
    assert!(!is_answered(&mut redeemed));
    assert!(bench.is_live(tokens.access), "acknowledged and not seen");
    assert!(bench.is_redeemable(tokens.refresh.unwrap()));
    assert!(!bench.is_live(access) && !bench.is_redeemable(next));
    storage.let_all_through();
    while !is_answered(&mut redeemed) {
        std::thread::yield_now();
    }
    assert!(bench.is_live(access) && bench.is_redeemable(next));
    store.close().unwrap();
}

/// A refusal that rests on what is not yet durable waits for it.
#[test]
fn a_refusal_is_as_durable_as_its_reason() {
    let (storage, store, clock) = gated();
    let bench = Bench { store: &store, clock: &clock };
    let p = pair("app", "user");
    let first = bench.issue(&pair("app", "other")).refresh.unwrap();
    let _held = storage.hold();
    let (verb, _) = bench.issue_verb(&p, PairPolicy::Reject, true, store.admission());
    let mut holder = Box::pin(store.apply(verb));
    let (verb, _) = bench.issue_verb(&p, PairPolicy::Reject, true, store.admission());
    let mut refused = Box::pin(store.apply(verb));
    let (winner, ..) = bench.redeem_ticket(first, 60);
    let (verb, ..) = bench.redeem_verb(first, 60, store.admission());
    let Verb::Redeem(mut other) = verb else { unreachable!("a redeem") };
    other.request = [77; 16];
    let mut differs = Box::pin(store.apply(Verb::Redeem(other)));
    assert!(!is_answered(&mut refused), "`PairTaken` before the pair was taken");
    assert!(!is_answered(&mut differs), "`OtherRequest` before there was one");
    storage.let_all_through();
    assert!(matches!(
        store_support::wait(refused).unwrap(),
        Outcome::Issue(mintage::store::IssueOutcome::PairTaken)
    ));
    assert!(matches!(
        store_support::wait(differs).unwrap(),
        Outcome::Redeem(mintage::store::RedeemOutcome::OtherRequest)
    ));
    store_support::wait(winner).unwrap();
    while !is_answered(&mut holder) {
        std::thread::yield_now();
    }
    store.close().unwrap();
}
