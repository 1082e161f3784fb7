//! What a request costs does not grow with what is in the store.

mod store_support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use mintage::store::{Find, Listing, MemoryStore, PairPolicy, Store, Target};
use mintage::time::ManualClock;
use store_support::{Bench, TempDir, Tokens, clock, durable, memory, pair, wait};

/// Rounds of which the fastest counts: whatever else the machine does can only slow a round down.
const ROUNDS: usize = 64;

struct Filled {
    store: MemoryStore,
    clock: Arc<ManualClock>,
    tokens: Vec<Tokens>,
}

fn filled(logins: usize) -> Filled {
    let clock = clock();
    let store = memory(&clock);
    let bench = Bench { store: &store, clock: &clock };
    let tokens = (0..logins).map(|n| bench.issue(&pair("app", &format!("user{n}")))).collect();
    Filled { store, clock, tokens }
}

fn fastest(mut run: impl FnMut(usize)) -> Duration {
    let times = (0..ROUNDS).map(|round| {
        let begun = Instant::now();
        run(round);
        begun.elapsed()
    });
    times.min().unwrap_or_default()
}

impl Filled {
    fn bench(&self) -> Bench<'_, MemoryStore> {
        Bench { store: &self.store, clock: &self.clock }
    }

    /// The fastest round of every path, by name. Each round uses a login of its own.
    fn paths(&self) -> Vec<(&'static str, Duration)> {
        let bench = self.bench();
        let login = |round: usize| self.tokens[round * (self.tokens.len() / ROUNDS)];
        vec![
            ("introspect", fastest(|n| assert!(bench.use_token(login(n).access)))),
            (
                "miss",
                fastest(|n| {
                    let Tokens { access, .. } = login(n);
                    let digest = store_support::fresh_digest();
                    let find = Find::Access { locator: access.locator, digest, used: false };
                    assert!(bench.find(find).is_none());
                }),
            ),
            (
                "refresh",
                fastest(|n| {
                    let refresh = login(n).refresh.expect("a login has one");
                    let (outcome, ..) = bench.redeem(refresh);
                    assert!(matches!(outcome, mintage::store::RedeemOutcome::Redeemed { .. }));
                }),
            ),
            (
                "issue",
                fastest(|n| {
                    bench.issue(&pair("app", &format!("late{n}")));
                }),
            ),
            (
                "replace",
                fastest(|n| {
                    let pair = pair("app", &format!("user{n}"));
                    bench.try_issue(&pair, PairPolicy::Replace, true).expect("room");
                }),
            ),
            (
                "list",
                fastest(|n| {
                    let subject = pair("app", &format!("user{n}")).subject;
                    let page = wait(self.store.list(Listing::OfSubject(subject), None, 10));
                    assert_eq!(page.expect("a page").grants.len(), 1);
                }),
            ),
            (
                "revoke a token",
                fastest(|n| {
                    let Tokens { access, .. } = login(n);
                    let target = Target::Access(access.locator, access.digest);
                    assert!(bench.revoke(target).is_some());
                }),
            ),
            (
                "revoke a family",
                fastest(|n| {
                    assert!(bench.revoke(Target::Family(login(n).family)).is_some());
                }),
            ),
            (
                "revoke a subject",
                fastest(|n| {
                    let subject = pair("app", &format!("user{n}")).subject;
                    assert!(bench.revoke(Target::Subject(subject)).is_some());
                }),
            ),
            (
                "revoke a client",
                fastest(|n| {
                    let client = pair(&format!("app{n}"), "user").client;
                    assert!(bench.revoke(Target::Client(client)).is_some());
                }),
            ),
        ]
    }
}

/// A path that walked over the store would take some hundred times as long.
#[test]
fn r18_no_request_path_grows_with_the_store() {
    let (small, large) = (filled(100), filled(50_000));
    for ((path, few), (_, many)) in small.paths().into_iter().zip(large.paths()) {
        let bound = few * 20 + Duration::from_micros(20);
        assert!(many < bound, "{path}: {few:?} with 100 logins, {many:?} with 50,000");
    }
}

#[test]
fn r10_revoking_a_subject_is_one_record_whatever_hangs_below() {
    let dir = TempDir::new("r10");
    let clock = clock();
    let store = durable(dir.path(), &clock).expect("a store");
    let bench = Bench { store: &store, clock: &clock };
    let (of_many, of_none) = (pair("app", "many"), pair("app", "none"));
    let held: Vec<_> = (0..300)
        .map(|_| bench.try_issue(&of_many, PairPolicy::Unlimited, false).expect("room").1)
        .collect();
    for pair in [of_many, of_none] {
        let before = store.stats();
        bench.revoke(Target::Subject(pair.subject)).expect("a number");
        let after = store.stats();
        assert_eq!((after.records - before.records, after.stamps - before.stamps), (1, 1));
    }
    assert!(held.iter().all(|tokens| !bench.is_live(tokens.access)));
    store.close().expect("closed");
}
