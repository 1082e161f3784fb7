//! Clocks that jump: ten steps, back fifty years to the end of time, before every operation, put right
//! again or not, with and without a restart. Nothing overflows, nothing dead lives again, and nothing
//! that lives is lost to a jump ahead that is put right.

mod store_support;
mod support;

use std::sync::Arc;

use mintage::authority::{Client, Issue as IssueRequest, Target as AuthorityTarget, TokenFormat};
use mintage::locator::Digest;
use mintage::store::{
    DurableStore, Find, Issue, Listing, MemoryCheckpointHome, Near, PairPolicy, Put, Revoke, Seq,
    Store, StoreError, Target, Verb,
};
use mintage::time::{Clock as _, ManualClock, Timestamp};
use store_support::sim::SimStorage;
use store_support::{
    Access, Bench, LIFETIME, Refresh, START, access_birth, clock, memory, options, pair, patiently,
    root, wait,
};
use support::{Bed, Opener, Tested, access_token, refresh_token};

const DAY: u64 = 86_400;
const YEAR: u64 = 365 * DAY;
/// What lives in these tests lives so long: a jump ahead moves the mark by an hour at most, each run.
const LONG: u64 = 3 * DAY;
/// Before the steps begin the clock has moved on, so that something is long dead.
const NOW: u64 = START + LIFETIME + 600;

/// The wall clock after each step.
fn steps() -> [u64; 10] {
    [
        NOW - 50 * YEAR,
        NOW - DAY,
        NOW - 61,
        NOW - 1,
        NOW,
        NOW + 1,
        NOW + 61,
        NOW + DAY,
        NOW + 10 * YEAR,
        u64::MAX,
    ]
}

/// What is known of a store before its clock jumps.
struct Known {
    live: Vec<Access>,
    redeemable: Vec<Refresh>,
    expired: Vec<Access>,
    revoked: Vec<Access>,
    revoked_families: Vec<Refresh>,
    spent: Vec<Refresh>,
    denied: Find,
    /// For the operations to work on; what becomes of them is not looked at.
    fodder: Vec<Refresh>,
}

/// An access token that lives for `secs`, alone or with a refresh token that ends with it.
fn issue(
    bench: &Bench<'_, impl Store>,
    name: &str,
    secs: u64,
    ends: Timestamp,
) -> (Access, Refresh) {
    let here = pair("app", name);
    let (verb, tokens) =
        bench.issue_verb(&here, PairPolicy::Unlimited, true, bench.store.admission());
    let Verb::Issue(mut issue) = verb else { unreachable!("a birth") };
    issue.access.expires_at = issue.access.issued_at.plus(secs);
    if let Some(refresh) = &mut issue.refresh {
        refresh.expires_at = ends;
    }
    patiently(|| bench.store.apply(Verb::Issue(issue.clone())).wait()).unwrap();
    (tokens.access, tokens.refresh.unwrap())
}

fn prepare(bench: &Bench<'_, impl Store>) -> Known {
    let never = Timestamp::NEVER;
    let expired = issue(bench, "expired", LIFETIME, Timestamp(START + LIFETIME));
    bench.clock.advance(LIFETIME + 600);
    assert_eq!(bench.clock.read().unix.0, NOW);
    let bounded = issue(bench, "bounded", LONG, Timestamp(NOW + LONG));
    let standing = issue(bench, "standing", LONG, never);
    let (spent_access, spent) = issue(bench, "spent", LONG, never);
    let (_, _, successor) = bench.redeem(spent);
    let (revoked, kept) = issue(bench, "revoked", LONG, never);
    bench.revoke(Target::Access(revoked.locator, revoked.digest));
    let (gone_access, gone) = issue(bench, "gone", LONG, never);
    bench.revoke(Target::Subject(pair("app", "gone").subject));
    let jti = Digest([9; 16]);
    let expires_at = Timestamp(NOW + LONG);
    bench.revoke(Target::Jwt { jti, expires_at });
    let denied = Find::Jwt {
        family: standing.1.family,
        generation: 1,
        admission: Seq(u64::MAX),
        jti,
        expires_at,
        used: false,
    };
    Known {
        live: vec![bounded.0, standing.0, spent_access],
        redeemable: vec![bounded.1, standing.1, successor, kept],
        expired: vec![expired.0],
        revoked: vec![revoked, gone_access],
        revoked_families: vec![gone, expired.1],
        spent: vec![spent],
        denied,
        fodder: (0..8).map(|n| issue(bench, &format!("fodder-{n}"), LONG, never).1).collect(),
    }
}

impl Known {
    /// Whatever the clock says.
    fn nothing_dead_lives(&self, bench: &Bench<'_, impl Store>, when: &str) {
        let dead = self.expired.iter().chain(&self.revoked);
        assert!(!dead.into_iter().any(|access| bench.is_live(*access)), "{when}: a dead token");
        let dead = self.spent.iter().chain(&self.revoked_families);
        assert!(!dead.into_iter().any(|token| bench.is_redeemable(*token)), "{when}: a spent one");
        assert!(!bench.find(self.denied).is_some_and(|view| view.live), "{when}: a denied JWT");
    }

    /// Once the clock is right.
    fn nothing_live_is_lost(&self, bench: &Bench<'_, impl Store>, when: &str) {
        assert!(self.live.iter().all(|access| bench.is_live(*access)), "{when}: a live token");
        assert!(self.redeemable.iter().all(|r| bench.is_redeemable(*r)), "{when}: a live family");
    }
}

const OPERATIONS: [&str; 18] = [
    "issue",
    "issue under replace",
    "issue under reuse",
    "issue under newest",
    "redeem",
    "retry",
    "replay",
    "fixed redeem",
    "find and use",
    "revoke a family",
    "revoke a token",
    "revoke a JWT",
    "revoke a grant",
    "revoke a pair",
    "list",
    "put",
    "sweep",
    "draw and admit",
];

/// Does `operation`; what it answers is not looked at here, only that it answers.
fn act(bench: &Bench<'_, impl Store>, operation: &str, known: &Known) {
    let Bench { store, clock } = bench;
    let now = clock.read();
    let apply = |verb: Verb| patiently(|| store.apply(verb.clone()).wait()).unwrap();
    let birth = |policy| {
        let here = pair("app", operation);
        let family = store.draw(Near::Pair(&here));
        let grant = store.draw(Near::Id(family));
        let (mut access, _) = access_birth(store.draw(Near::Id(family)), Timestamp(NOW));
        (access.issued_at, access.expires_at) = (now.unix, now.unix.plus(LIFETIME));
        let (pair, admission) = (here, store.admission());
        apply(Verb::Issue(Box::new(Issue {
            pair,
            policy,
            admission,
            now,
            family,
            only_in: None,
            grant,
            key_version: 1,
            salt: [1; 16],
            request: [2; 16],
            access,
            refresh: None,
            code: None,
        })));
    };
    let redeem = |refresh: Refresh, is_fixed: bool| {
        let at_rest = ManualClock::at(NOW);
        let planner = Bench { store: *store, clock: &at_rest };
        let (verb, ..) = planner.redeem_verb(refresh, 60, store.admission());
        let Verb::Redeem(mut redeem) = verb else { unreachable!("a redeem") };
        redeem.now = now;
        (redeem.access.issued_at, redeem.access.expires_at) = (now.unix, now.unix.plus(LIFETIME));
        if is_fixed {
            redeem.successor = None;
        }
        apply(Verb::Redeem(redeem));
    };
    let revoke = |target| apply(Verb::Revoke(Revoke { target, now }));
    let one = known.fodder[0];
    match operation {
        "issue" => birth(PairPolicy::Unlimited),
        "issue under replace" => (0..2).for_each(|_| birth(PairPolicy::Replace)),
        "issue under reuse" => {
            (0..2).for_each(|_| birth(PairPolicy::Reuse { left_secs_min: 5 }));
        }
        "issue under newest" => (0..3).for_each(|_| birth(PairPolicy::Newest(2))),
        "redeem" => redeem(one, false),
        "retry" => (0..2).for_each(|_| redeem(one, false)),
        "replay" => {
            redeem(one, false);
            clock.advance(61);
            redeem(one, false);
        }
        "fixed redeem" => redeem(one, true),
        "find and use" => {
            for access in &known.live {
                bench.use_token(*access);
            }
            assert!(bench.find(Find::Family(one.family)).is_some());
        }
        "revoke a family" => drop(revoke(Target::Family(one.family))),
        "revoke a token" => {
            let Access { locator, digest } = known.expired[0];
            revoke(Target::Access(locator, digest));
        }
        "revoke a JWT" => {
            let jti = Digest([11; 16]);
            revoke(Target::Jwt { jti, expires_at: now.unix.plus(LIFETIME) });
        }
        "revoke a grant" => {
            let view = bench.find(Find::Family(one.family)).unwrap();
            revoke(Target::Grant(view.grant));
        }
        "revoke a pair" => {
            let here = pair("app", "fodder-0");
            revoke(Target::Pair(here.client, here.subject));
        }
        "list" => {
            let here = pair("app", "standing");
            for listing in [
                Listing::OfSubject(here.subject),
                Listing::OfClient(here.client),
                Listing::Revocations,
            ] {
                wait(store.list(listing, None, 100)).unwrap();
            }
        }
        "put" => {
            let body = Some(Arc::from(&b"body"[..]));
            let name = Arc::from("name");
            apply(Verb::Put(Put { kind: 1, name, body, create: false, ends: false }));
        }
        "sweep" => {}
        _ => {
            store.draw(Near::Pair(&pair("app", "drawn")));
            store.admission();
        }
    }
    // The keeper sweeps whenever it likes: so does this.
    for _ in 0..64 {
        match store.sweep(clock.read()) {
            Ok(_) | Err(StoreError::Busy) => {}
            Err(error) => panic!("{operation}: {error:?}"),
        }
    }
}

#[test]
fn a_jump_before_any_operation_in_memory_revives_and_reclaims_nothing() {
    for wall in steps() {
        for operation in OPERATIONS {
            let clock = clock();
            let store = memory(&clock);
            let bench = Bench { store: &store, clock: &clock };
            let known = prepare(&bench);
            clock.set(wall);
            let when = format!("{operation} at {wall}");
            act(&bench, operation, &known);
            known.nothing_dead_lives(&bench, &when);
            clock.set(NOW + 2);
            act(&bench, "sweep", &known);
            known.nothing_dead_lives(&bench, &when);
            known.nothing_live_is_lost(&bench, &when);
        }
    }
}

fn open(
    storage: &SimStorage,
    home: &MemoryCheckpointHome,
    clock: &Arc<ManualClock>,
) -> DurableStore {
    let (storage, home) = (Arc::new(storage.clone()), Arc::new(home.clone()));
    DurableStore::open_on(storage, home, &root(), options(clock)).unwrap()
}

/// The store is closed or killed while its clock is wrong, opened while it is still wrong, and once
/// more when it is right.
#[test]
fn a_jump_across_a_restart_revives_and_reclaims_nothing() {
    for wall in steps() {
        for (n, operation) in OPERATIONS.into_iter().enumerate() {
            let clock = clock();
            let home = MemoryCheckpointHome::default();
            let mut storage = SimStorage::new();
            let store = open(&storage, &home, &clock);
            let known = prepare(&Bench { store: &store, clock: &clock });
            let when = format!("{operation} at {wall}, restarted");
            clock.set(wall);
            act(&Bench { store: &store, clock: &clock }, operation, &known);
            if n % 2 == 0 {
                store.close().unwrap();
            } else {
                storage = storage.kill();
            }
            drop(store);
            let store = open(&storage, &home.copy(), &clock);
            let bench = Bench { store: &store, clock: &clock };
            known.nothing_dead_lives(&bench, &when);
            act(&bench, "sweep", &known);
            known.nothing_dead_lives(&bench, &when);
            store.close().unwrap();
            clock.set(NOW + 2);
            // From the log alone: what was reclaimed too early would be missing there too.
            let store = open(&storage, &MemoryCheckpointHome::default(), &clock);
            let bench = Bench { store: &store, clock: &clock };
            known.nothing_dead_lives(&bench, &when);
            act(&bench, "sweep", &known);
            known.nothing_live_is_lost(&bench, &when);
            store.close().unwrap();
        }
    }
}

/// The same steps for an authority: every call answers, and what was dead stays dead.
fn no_step_of_the_clock_breaks_an_authority<O: Opener + Default>(_: O) -> Tested {
    for (n, wall) in steps().into_iter().enumerate() {
        let mut bed = Bed::new(O::default())?;
        let auditor = bed.auditor()?;
        for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
            bed.clock.set(NOW);
            let draft = Client::public(format!("app-{n}-{format:?}"));
            let draft = draft.scopes(["api", "refresh_token"]).format(format).access_secs(DAY);
            let (client, caller) = bed.register(draft)?;
            let live = bed.issue("ann", &client)?;
            let revoked = bed.issue("bob", &client)?;
            bed.authority().revoke(AuthorityTarget::Subject("bob")).wait()?;
            let spent = refresh_token(&bed.issue("eve", &client)?)?;
            bed.refresh(&spent, &caller)?;
            bed.clock.set(wall);
            let authority = bed.authority();
            // Answers of any kind; a panic would end the test.
            drop(authority.issue(IssueRequest::to("kim", &client)).wait());
            drop(authority.verify_live(&access_token(&live)).wait());
            drop(authority.introspect(&access_token(&live), &auditor).wait());
            drop(authority.grants().of_subject("ann").page(5).wait());
            authority.revoke(AuthorityTarget::Subject("kim")).wait()?;
            let is_dead = |bed: &Bed<_>| -> Result<bool, Box<dyn std::error::Error>> {
                let revoked = bed.is_active(&access_token(&revoked), &auditor)?;
                let spent = bed.is_active(&spent, &auditor)?;
                Ok(!revoked && !spent)
            };
            assert!(is_dead(&bed)?, "at {wall}");
            drop(authority);
            bed.reopen()?;
            assert!(is_dead(&bed)?, "at {wall}, reopened");
            bed.clock.set(NOW + 2);
            assert!(is_dead(&bed)?, "after {wall}");
            assert!(bed.is_active(&access_token(&live), &auditor)?, "after {wall}");
            assert!(bed.is_active(&refresh_token(&live)?, &auditor)?, "after {wall}");
        }
    }
    Ok(())
}

laws! { no_step_of_the_clock_breaks_an_authority }

/// A retry is refused when the clock stands more than a minute before the redeem (the cap could not
/// be measured), and a jump ahead past the cap makes it a replay.
#[test]
fn a_retry_is_judged_by_a_clock_that_may_be_a_minute_off() {
    for (wall, retried) in
        [(NOW, true), (NOW + 60, true), (NOW + 61, false), (NOW - 50 * YEAR, true)]
    {
        let clock = Arc::new(ManualClock::at(NOW));
        let store = memory(&clock);
        let bench = Bench { store: &store, clock: &clock };
        let (_, first) = issue(&bench, "ann", LONG, Timestamp::NEVER);
        let (_, _, second) = bench.redeem(first);
        clock.set(wall);
        bench.redeem(first);
        clock.set(NOW + 1);
        assert_eq!(bench.is_redeemable(second), retried, "at {wall}");
    }
}
