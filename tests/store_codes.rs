//! Codes: each gives once, and a second presentation ends what it gave.

mod store_support;

use std::sync::{Arc, Barrier};

use mintage::locator::Digest;
use mintage::store::{
    CODES_OF_PAIR_MAX, CodeBirth, CodeOutcome, CodeUse, CodeView, IssueOutcome, Listing, Near,
    Outcome, Pair, PairPolicy, Seq, Store, StoreError, Target, Verb,
};
use mintage::time::{Clock, ManualClock};
use store_support::{
    Bench, TempDir, Tokens, clock, durable, fresh_digest, memory, pair, patiently, wait,
};

const CODE_SECS: u64 = 60;

macro_rules! laws {
    ($($law:ident)*) => {
        mod in_memory {
            use super::*;
            $(#[test]
            fn $law() {
                let clock = clock();
                let store = memory(&clock);
                super::$law(&Bench { store: &store, clock: &clock });
            })*
        }
        mod on_disk {
            use super::*;
            $(#[test]
            fn $law() {
                let dir = TempDir::new(stringify!($law));
                let clock = clock();
                let store = durable(dir.path(), &clock).unwrap();
                super::$law(&Bench { store: &store, clock: &clock });
                store.close().unwrap();
            })*
        }
    };
}

laws! {
    a_code_gives_once_and_a_second_use_ends_what_it_gave
    a_replay_ends_nothing_else_of_its_pair
    what_is_no_live_code_gives_nothing
    every_scope_of_revocation_reaches_a_code
    what_a_code_gives_derives_from_it
    one_of_many_redemptions_wins
    a_code_under_reuse_gives_the_live_token_once
    a_code_is_spent_only_where_its_token_was_signed
    codes_are_swept_when_nobody_would_take_them
    a_pair_has_room_for_so_many_codes
}

fn here() -> Pair {
    pair("reports", "user-1")
}

fn try_offer(bench: &Bench<'_, impl Store>, pair: &Pair, admission: Seq) -> Option<CodeUse> {
    let now = bench.clock.read();
    let code = CodeUse { id: bench.store.draw(Near::Pair(pair)), digest: fresh_digest() };
    let birth = CodeBirth {
        pair: pair.clone(),
        admission,
        now,
        id: code.id,
        digest: code.digest,
        issued_at: now.unix,
        expires_at: now.unix.plus(CODE_SECS),
        body: Arc::from(&b"terms"[..]),
    };
    let outcome = patiently(|| bench.store.apply(Verb::Code(Box::new(birth.clone()))).wait());
    let Outcome::Code(outcome) = outcome.unwrap() else { panic!("another answer") };
    (outcome == CodeOutcome::Born).then_some(code)
}

fn offer(bench: &Bench<'_, impl Store>, pair: &Pair) -> CodeUse {
    try_offer(bench, pair, bench.store.admission()).unwrap()
}

fn redeem_as(
    bench: &Bench<'_, impl Store>,
    pair: &Pair,
    code: CodeUse,
    policy: PairPolicy,
    with_refresh: bool,
) -> (IssueOutcome, Tokens) {
    let admission = bench.store.admission();
    let (verb, mut tokens) = bench.issue_verb(pair, policy, with_refresh, admission);
    let Verb::Issue(mut issue) = verb else { panic!("no issue") };
    issue.code = Some(code);
    let outcome = patiently(|| bench.store.apply(Verb::Issue(issue.clone())).wait()).unwrap();
    let Outcome::Issue(outcome) = outcome else { panic!("{outcome:?}") };
    if let IssueOutcome::Issued { family, grant, .. } = outcome {
        (tokens.family, tokens.grant) = (family, grant);
    }
    (outcome, tokens)
}

/// A token that is signed first names its family: asking for that one, or naming another, spends
/// nothing.
fn a_code_is_spent_only_where_its_token_was_signed(bench: &Bench<'_, impl Store>) {
    let reuse = PairPolicy::Reuse { left_secs_min: 1 };
    let apply = |code, policy, with_refresh, only_in: Option<u64>| {
        let admission = bench.store.admission();
        let (verb, tokens) = bench.issue_verb(&here(), policy, with_refresh, admission);
        let Verb::Issue(mut issue) = verb else { panic!("no issue") };
        (issue.code, issue.only_in) = (code, only_in.or(Some(tokens.family)));
        let outcome = patiently(|| bench.store.apply(Verb::Issue(issue.clone())).wait()).unwrap();
        let Outcome::Issue(outcome) = outcome else { panic!("{outcome:?}") };
        outcome
    };
    let code = offer(bench, &here());
    for (policy, with_refresh) in [(PairPolicy::Unlimited, true), (reuse, false)] {
        let asked = apply(Some(code), policy, with_refresh, Some(0));
        assert!(matches!(asked, IssueOutcome::Elsewhere { .. }), "{asked:?}");
    }
    let born = apply(None, reuse, false, None);
    let IssueOutcome::Issued { family, .. } = born else { panic!("{born:?}") };
    for other in [0, family + 64] {
        let asked = apply(Some(code), reuse, false, Some(other));
        assert!(matches!(asked, IssueOutcome::Reused { family: f, .. } if f == family));
        assert!(view(bench, code).is_some_and(|code| code.live && !code.spent));
    }
    let taken = apply(Some(code), reuse, false, Some(family));
    assert!(matches!(taken, IssueOutcome::Reused { .. }), "{taken:?}");
    assert!(view(bench, code).is_some_and(|code| code.spent));
}

fn redeem(bench: &Bench<'_, impl Store>, code: CodeUse) -> (IssueOutcome, Tokens) {
    redeem_as(bench, &here(), code, PairPolicy::Unlimited, true)
}

fn view(bench: &Bench<'_, impl Store>, code: CodeUse) -> Option<CodeView> {
    wait(bench.store.list(Listing::Code(code), None, 1)).unwrap().code
}

fn a_code_gives_once_and_a_second_use_ends_what_it_gave(bench: &Bench<'_, impl Store>) {
    for with_refresh in [true, false] {
        let code = offer(bench, &here());
        let seen = view(bench, code).unwrap();
        assert!(seen.live && !seen.spent && seen.pair == here() && &*seen.body == b"terms");
        let give = || redeem_as(bench, &here(), code, PairPolicy::Unlimited, with_refresh);
        let (outcome, tokens) = give();
        assert!(matches!(outcome, IssueOutcome::Issued { .. }), "{outcome:?}");
        assert!(bench.is_live(tokens.access));
        let seen = view(bench, code).unwrap();
        assert!(!seen.live && seen.spent);
        for _ in 0..2 {
            assert!(matches!(give().0, IssueOutcome::CodeReplayed));
            assert!(!bench.is_live(tokens.access));
            assert!(tokens.refresh.is_none_or(|refresh| !bench.is_redeemable(refresh)));
        }
    }
}

fn a_replay_ends_nothing_else_of_its_pair(bench: &Bench<'_, impl Store>) {
    let before = bench.try_issue(&here(), PairPolicy::Unlimited, false).unwrap().1;
    let login = bench.issue(&here());
    let code = offer(bench, &here());
    let (_, tokens) = redeem_as(bench, &here(), code, PairPolicy::Unlimited, false);
    let after = bench.try_issue(&here(), PairPolicy::Unlimited, false).unwrap().1;
    assert!(matches!(redeem(bench, code).0, IssueOutcome::CodeReplayed));
    assert!(!bench.is_live(tokens.access));
    assert!(bench.is_live(before.access) && bench.is_live(after.access));
    assert!(bench.is_redeemable(login.refresh.unwrap()));
}

fn what_is_no_live_code_gives_nothing(bench: &Bench<'_, impl Store>) {
    let code = offer(bench, &here());
    for wrong in [CodeUse { digest: Digest([0; 16]), ..code }, CodeUse { id: code.id ^ 64, ..code }]
    {
        assert!(matches!(redeem(bench, wrong).0, IssueOutcome::CodeDead));
        assert!(view(bench, wrong).is_none());
    }
    for other in [pair("mail", "user-1"), pair("reports", "user-2")] {
        let (outcome, _) = redeem_as(bench, &other, code, PairPolicy::Unlimited, true);
        assert!(matches!(outcome, IssueOutcome::CodeDead));
    }
    bench.clock.advance(CODE_SECS - 1);
    assert!(view(bench, code).unwrap().live);
    bench.clock.advance(1);
    assert!(!view(bench, code).unwrap().live);
    assert!(matches!(redeem(bench, code).0, IssueOutcome::CodeDead));
}

fn every_scope_of_revocation_reaches_a_code(bench: &Bench<'_, impl Store>) {
    for scope in 0..5 {
        let begun = bench.store.admission();
        let tokens = bench.issue(&here());
        let code = offer(bench, &here());
        bench.revoke(match scope {
            0 => Target::Everything,
            1 => Target::Client(here().client),
            2 => Target::Subject(here().subject),
            3 => Target::Pair(here().client, here().subject),
            _ => Target::Grant(tokens.grant),
        });
        assert!(!view(bench, code).unwrap().live, "scope {scope}");
        assert!(matches!(redeem(bench, code).0, IssueOutcome::CodeDead), "scope {scope}");
        assert!(try_offer(bench, &here(), begun).is_none(), "scope {scope}");
        let code = offer(bench, &here());
        assert!(matches!(redeem(bench, code).0, IssueOutcome::Issued { .. }), "scope {scope}");
    }
}

fn what_a_code_gives_derives_from_it(bench: &Bench<'_, impl Store>) {
    let begun = bench.store.admission();
    bench.revoke(Target::Subject(pair("reports", "user-9").subject));
    let code = try_offer(bench, &here(), begun).unwrap();
    let (outcome, _) = redeem(bench, code);
    let IssueOutcome::Issued { admission, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(admission, begun);
}

fn one_of_many_redemptions_wins(bench: &Bench<'_, impl Store>) {
    let code = offer(bench, &here());
    let verbs: Vec<_> = (0..64)
        .map(|_| {
            let admission = bench.store.admission();
            let (verb, tokens) = bench.issue_verb(&here(), PairPolicy::Unlimited, true, admission);
            let Verb::Issue(mut issue) = verb else { panic!("no issue") };
            issue.code = Some(code);
            (issue, tokens)
        })
        .collect();
    let barrier = Barrier::new(verbs.len());
    let (store, barrier) = (bench.store, &barrier);
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = verbs
            .iter()
            .map(|(issue, _)| {
                scope.spawn(move || {
                    barrier.wait();
                    patiently(|| store.apply(Verb::Issue(issue.clone())).wait()).unwrap()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let count = |wanted: fn(&IssueOutcome) -> bool| {
        let is = |outcome: &&Outcome| matches!(outcome, Outcome::Issue(outcome) if wanted(outcome));
        outcomes.iter().filter(is).count()
    };
    assert_eq!(count(|outcome| matches!(outcome, IssueOutcome::Issued { .. })), 1);
    assert_eq!(count(|outcome| matches!(outcome, IssueOutcome::CodeReplayed)), 63);
    assert!(verbs.iter().all(|(_, tokens)| !bench.is_live(tokens.access)));
}

fn a_code_under_reuse_gives_the_live_token_once(bench: &Bench<'_, impl Store>) {
    let policy = PairPolicy::Reuse { left_secs_min: 1 };
    let first = redeem_as(bench, &here(), offer(bench, &here()), policy, false);
    assert!(matches!(first.0, IssueOutcome::Issued { .. }));
    let code = offer(bench, &here());
    let (again, _) = redeem_as(bench, &here(), code, policy, false);
    assert!(matches!(again, IssueOutcome::Reused { .. }), "{again:?}");
    assert!(view(bench, code).unwrap().spent);
    assert!(bench.is_live(first.1.access));
    let (replayed, _) = redeem_as(bench, &here(), code, policy, false);
    assert!(matches!(replayed, IssueOutcome::CodeReplayed));
    assert!(!bench.is_live(first.1.access));
}

fn codes_are_swept_when_nobody_would_take_them(bench: &Bench<'_, impl Store>) {
    let (spent, unspent) = (offer(bench, &here()), offer(bench, &here()));
    let (_, tokens) = redeem(bench, spent);
    let round =
        || (0..64).map(|_| bench.store.sweep(bench.clock.read()).unwrap().codes).sum::<u64>();
    bench.clock.advance(CODE_SECS + 299);
    assert_eq!((round(), bench.store.stats().codes), (0, 2));
    bench.clock.advance(1);
    assert_eq!((round(), bench.store.stats().codes), (2, 0));
    assert!(view(bench, unspent).is_none());
    assert!(matches!(redeem(bench, spent).0, IssueOutcome::CodeDead));
    assert!(bench.is_redeemable(tokens.refresh.unwrap()));
}

fn a_pair_has_room_for_so_many_codes(bench: &Bench<'_, impl Store>) {
    let birth = |pair: &Pair| {
        let now = bench.clock.read();
        Verb::Code(Box::new(CodeBirth {
            pair: pair.clone(),
            admission: bench.store.admission(),
            now,
            id: bench.store.draw(Near::Pair(pair)),
            digest: fresh_digest(),
            issued_at: now.unix,
            expires_at: now.unix.plus(CODE_SECS),
            body: Arc::from(&b"{}"[..]),
        }))
    };
    for _ in 0..CODES_OF_PAIR_MAX {
        offer(bench, &here());
    }
    assert!(matches!(bench.store.apply(birth(&here())).wait(), Err(StoreError::Busy)));
    offer(bench, &pair("reports", "user-2"));
    bench.clock.advance(CODE_SECS + 300);
    for _ in 0..64 {
        bench.store.sweep(bench.clock.read()).unwrap();
    }
    offer(bench, &here());
}

#[test]
fn codes_stand_after_reopening_with_and_without_a_checkpoint() {
    let dir = TempDir::new("codes");
    let clock: Arc<ManualClock> = clock();
    let store = durable(dir.path(), &clock).unwrap();
    let bench = Bench { store: &store, clock: &clock };
    let codes: Vec<CodeUse> = (0..4).map(|_| offer(&bench, &here())).collect();
    let mut given = vec![redeem(&bench, codes[0]).1];
    store.close().unwrap();
    for round in 1..4 {
        if round % 2 == 0 {
            std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
        }
        let store = durable(dir.path(), &clock).unwrap();
        let bench = Bench { store: &store, clock: &clock };
        let (outcome, tokens) = redeem(&bench, codes[round]);
        assert!(matches!(outcome, IssueOutcome::Issued { .. }), "round {round}: {outcome:?}");
        given.push(tokens);
        assert!(bench.is_live(given[round - 1].access), "round {round}");
        assert!(matches!(redeem(&bench, codes[round - 1]).0, IssueOutcome::CodeReplayed));
        assert!(!bench.is_live(given[round - 1].access), "round {round}");
        store.close().unwrap();
    }
}

/// Segments that hold codes are dropped; spent and unspent ones stay what they are.
#[test]
fn codes_survive_the_segment_that_held_them() {
    let dir = TempDir::new("codes-survivor");
    let clock: Arc<ManualClock> = clock();
    let store = durable(dir.path(), &clock).unwrap();
    let bench = Bench { store: &store, clock: &clock };
    let (spent, unspent) = (offer(&bench, &here()), offer(&bench, &here()));
    let (_, tokens) = redeem(&bench, spent);
    let first = dir.path().join("0000000000000001.log");
    // Revoked at once, so that nothing of it must be written again.
    for round in 0..40_000 {
        let tokens = bench.issue(&pair("mail", "user-1"));
        if round % 64 == 0 {
            bench.revoke(Target::Family(tokens.family));
            if !first.exists() {
                break;
            }
        }
        bench.revoke(Target::Access(tokens.access.locator, tokens.access.digest));
    }
    assert!(!first.exists(), "the first segment was never dropped");
    store.close().unwrap();
    std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
    let store = durable(dir.path(), &clock).unwrap();
    let bench = Bench { store: &store, clock: &clock };
    assert!(matches!(redeem(&bench, unspent).0, IssueOutcome::Issued { .. }));
    assert!(bench.is_redeemable(tokens.refresh.unwrap()));
    assert!(matches!(redeem(&bench, spent).0, IssueOutcome::CodeReplayed));
    assert!(!bench.is_redeemable(tokens.refresh.unwrap()));
}
