//! What outlives a grant's row: its revocation.

mod store_support;

use mintage::store::{IssueOutcome, Outcome, PairPolicy, Store, Target};
use store_support::{Bench, LIFETIME, TempDir, clock, durable, memory, pair};

/// A birth that was admitted before its grant was revoked and comes when the row is gone.
fn a_revoked_grant_stays_revoked_after_its_row_is_swept(bench: &Bench<'_, impl Store>) {
    let here = pair("reports", "user-1");
    let begun = bench.store.admission();
    let (_, tokens) = bench.try_issue(&here, PairPolicy::Unlimited, false).unwrap();
    bench.revoke(Target::Grant(tokens.grant));
    bench.clock.advance(3 * LIFETIME);
    for _ in 0..64 {
        bench.store.sweep(mintage::time::Clock::read(bench.clock)).unwrap();
    }
    assert_eq!(bench.store.stats().grants, 0, "the row is gone");
    let outcome = |admission| {
        let (verb, _) = bench.issue_verb(&here, PairPolicy::Unlimited, true, admission);
        match bench.store.apply(verb).wait().unwrap() {
            Outcome::Issue(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(outcome(begun), IssueOutcome::Revoked));
    assert!(matches!(outcome(bench.store.admission()), IssueOutcome::Issued { .. }));
    // Another device of the same pair is another grant.
    let elsewhere = pair("reports", "user-2");
    let (verb, _) = bench.issue_verb(&elsewhere, PairPolicy::Unlimited, true, begun);
    let other = bench.store.apply(verb).wait().unwrap();
    assert!(matches!(other, Outcome::Issue(IssueOutcome::Issued { .. })));
}

#[test]
fn in_memory() {
    let clock = clock();
    let store = memory(&clock);
    a_revoked_grant_stays_revoked_after_its_row_is_swept(&Bench { store: &store, clock: &clock });
}

#[test]
fn on_disk_and_after_reopening() {
    let dir = TempDir::new("grants");
    let clock = clock();
    let store = durable(dir.path(), &clock).unwrap();
    let bench = Bench { store: &store, clock: &clock };
    a_revoked_grant_stays_revoked_after_its_row_is_swept(&bench);
    let begun = store.admission();
    let (_, tokens) =
        bench.try_issue(&pair("mail", "user-1"), PairPolicy::Unlimited, true).unwrap();
    bench.revoke(Target::Grant(tokens.grant));
    store.close().unwrap();
    std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
    let store = durable(dir.path(), &clock).unwrap();
    let bench = Bench { store: &store, clock: &clock };
    let (verb, _) = bench.issue_verb(&pair("mail", "user-1"), PairPolicy::Unlimited, true, begun);
    let outcome = store.apply(verb).wait().unwrap();
    assert!(matches!(outcome, Outcome::Issue(IssueOutcome::Revoked)));
}
