//! Laws taken from the pains of others, as far as they speak of the store alone. SECURITY.md maps
//! each to its test.

mod store_support;

use std::sync::Arc;

use mintage::store::{
    DurableStore, Listing, MemoryCheckpointHome, PairPolicy, RedeemOutcome, Store, Target,
};
use store_support::sim::{Random, SimStorage};
use store_support::{Bench, TempDir, clock, durable, memory, options, pair, root, wait};

#[test]
fn r8_what_was_revoked_stays_revoked_after_every_crash() {
    let mut random = Random::new(8);
    for round in 0..150 {
        let clock = clock();
        let mut storage = SimStorage::new();
        let home = MemoryCheckpointHome::default();
        let open = |storage: &SimStorage, home: &MemoryCheckpointHome| {
            DurableStore::open_on(
                Arc::new(storage.clone()),
                Arc::new(home.clone()),
                &root(),
                options(&clock),
            )
            .unwrap()
        };
        let store = open(&storage, &home);
        let bench = Bench { store: &store, clock: &clock };
        let mut revoked = Vec::new();
        for n in 0..4 {
            let here = pair("reports", &format!("user-{n}"));
            let tokens = bench.issue(&here);
            let target = match random.below(6) {
                0 => Target::Everything,
                1 => Target::Client(here.client),
                2 => Target::Subject(here.subject),
                3 => Target::Grant(tokens.grant),
                4 => Target::Family(tokens.family),
                _ => Target::Pair(here.client, here.subject),
            };
            bench.revoke(target);
            revoked.push(tokens);
        }
        // The crash comes right after the last revocation returned.
        storage = if round % 2 == 0 { storage.kill() } else { storage.cut_power(&mut random) };
        drop(store);
        let store = open(&storage, &home.copy());
        let bench = Bench { store: &store, clock: &clock };
        for tokens in revoked {
            assert!(!bench.is_live(tokens.access), "round {round}");
            assert!(!bench.is_redeemable(tokens.refresh.unwrap()), "round {round}");
        }
    }
}

#[test]
fn r10_revoking_a_subject_with_many_tokens_is_one_record() {
    let dir = TempDir::new("r10");
    let clock = clock();
    let store = DurableStore::open(
        dir.path(),
        &root(),
        mintage::store::DurableOptions::default().clock(clock.clone()),
    )
    .unwrap();
    let bench = Bench { store: &store, clock: &clock };
    let here = pair("reports", "busy");
    let mut tickets = Vec::new();
    let mut tokens = Vec::new();
    for n in 0..20_000 {
        // A tenth of them with a refresh family of its own.
        let admission = store.admission();
        let (verb, born) = bench.issue_verb(&here, PairPolicy::Unlimited, n % 10 == 0, admission);
        tickets.push(store.apply(verb));
        tokens.push(born);
    }
    tickets.into_iter().for_each(|ticket| drop(ticket.wait().unwrap()));
    let other = bench.issue(&pair("reports", "quiet"));
    let before = store.stats();
    bench.revoke(Target::Subject(here.subject));
    let after = store.stats();
    assert_eq!(after.durable.0 - before.durable.0, 1, "records");
    assert_eq!(after.rows_walked, before.rows_walked, "children were walked over");
    assert!(!tokens.iter().any(|tokens| bench.is_live(tokens.access)));
    assert!(bench.is_live(other.access));
}

#[test]
fn r18_no_request_walks_over_more_in_a_larger_store() {
    let walked = |pairs: u64| {
        let clock = clock();
        let store = memory(&clock);
        let bench = Bench { store: &store, clock: &clock };
        for n in 0..pairs {
            bench.issue(&pair("reports", &format!("user-{n}")));
        }
        let before = store.stats().rows_walked;
        let here = pair("reports", "user-7");
        let tokens = bench.issue(&here);
        assert!(bench.is_live(tokens.access));
        let (outcome, access, _) = bench.redeem(tokens.refresh.unwrap());
        assert!(matches!(outcome, RedeemOutcome::Redeemed { .. }));
        bench.try_issue(&here, PairPolicy::Newest(5), true).unwrap();
        let listing = || Listing::OfClient(here.client.clone());
        let page = wait(store.list(listing(), None, 50)).unwrap();
        assert_eq!(page.grants.len(), 50);
        let page = wait(store.list(listing(), page.next.as_deref(), 50)).unwrap();
        assert_eq!(page.grants.len(), 50);
        bench.revoke(Target::Subject(here.subject));
        assert!(!bench.is_live(access));
        store.stats().rows_walked - before
    };
    assert_eq!(walked(1_000), walked(30_000));
}

#[test]
fn r16_logins_of_one_pair_leave_as_many_as_its_policy_says() {
    let dir = TempDir::new("r16");
    let clock = clock();
    let store = durable(dir.path(), &clock).unwrap();
    let bench = Bench { store: &store, clock: &clock };
    for (policy, left) in [(PairPolicy::Replace, 1), (PairPolicy::Newest(5), 5)] {
        let here = pair("reports", &format!("{policy:?}"));
        let tokens: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..64)
                .map(|_| scope.spawn(|| bench.try_issue(&here, policy, true).unwrap().1))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let live = tokens.iter().filter(|tokens| bench.is_live(tokens.access)).count();
        assert_eq!(live, left, "{policy:?}");
    }
}
