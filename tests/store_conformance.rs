//! What every store does, whatever it is made of. Each law runs on all of them unchanged.

mod store_support;

use std::sync::{Arc, Barrier};

use mintage::store::{
    Extend, Find, IssueOutcome, Listing, MemoryCheckpointHome, Outcome, PairPolicy, Put,
    RedeemOutcome, Store, Target, Verb,
};
use mintage::time::{Clock, ManualClock, Timestamp};
use store_support::{
    Bench, LIFETIME, Refresh, TempDir, clock, durable, fresh_digest, memory, pair, wait,
};

/// Runs a law on a store in memory and on one on disk.
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
    a_token_lives_until_it_expires
    an_extended_token_lives_longer_within_its_place
    a_redeemed_token_is_spent
    a_retry_gets_the_same_mint
    a_replay_kills_the_family
    a_secret_that_was_never_given_is_no_retry
    a_retry_with_another_request_changes_nothing
    the_retry_rule_ends_at_the_second_it_says
    what_is_no_generation_yet_is_no_replay
    what_was_overtaken_ends_nothing_unless_nothing_may_be_retried
    a_family_ends_at_the_second_of_its_limits
    every_scope_of_revocation_reaches_every_token
    what_is_admitted_after_a_revocation_lives
    what_was_admitted_before_a_revocation_is_not_born
    pair_policies_bound_the_families
    one_grant_per_pair_under_concurrency
    concurrent_redeems_have_one_winner
    listings_page_in_a_stable_order
    uses_and_redeems_are_counted
    the_feed_is_gap_free_and_resumable
    documents_are_put_replaced_and_removed
    the_sweep_takes_what_is_dead_and_nothing_else
    a_batch_of_issues_is_decided_in_its_order
    a_batch_of_redeems_answers_each_for_itself
}

fn a_batch_of_issues_is_decided_in_its_order(bench: &Bench<'_, impl Store>) {
    let here = pair("reports", "user-1");
    let policies =
        [PairPolicy::Unlimited, PairPolicy::Reject, PairPolicy::Replace, PairPolicy::Newest(2)];
    let (issues, tokens): (Vec<_>, Vec<_>) = policies
        .into_iter()
        .map(|policy| match bench.issue_verb(&here, policy, true, bench.store.admission()) {
            (Verb::Issue(issue), tokens) => (*issue, tokens),
            (other, _) => panic!("{other:?}"),
        })
        .unzip();
    let batch = bench.store.issue_many(issues);
    assert_eq!((batch.len(), batch.is_empty()), (4, false));
    let answers = batch.wait();
    let issued = |n: usize| matches!(answers[n], Ok(IssueOutcome::Issued { .. }));
    assert!(issued(0) && issued(2) && issued(3), "{answers:?}");
    assert!(matches!(answers[1], Ok(IssueOutcome::PairTaken)), "the second sees the first");
    let lives: Vec<bool> = tokens.iter().map(|tokens| bench.is_live(tokens.access)).collect();
    assert_eq!(lives, [false, false, true, true]);
    assert!(bench.store.issue_many(Vec::new()).wait().is_empty());
}

fn a_batch_of_redeems_answers_each_for_itself(bench: &Bench<'_, impl Store>) {
    let here = pair("reports", "user-1");
    let (one, other) = (bench.issue(&here).refresh.unwrap(), bench.issue(&here).refresh.unwrap());
    let ended = bench.issue(&here);
    bench.revoke(Target::Family(ended.family));
    let redeems = [one, other, one, ended.refresh.unwrap()].map(|refresh| {
        match bench.redeem_verb(refresh, 60, bench.store.admission()).0 {
            Verb::Redeem(redeem) => *redeem,
            other => panic!("{other:?}"),
        }
    });
    let answers = futures_of(bench.store.redeem_many(redeems.to_vec()));
    let found: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert!(matches!(
        found[..],
        [
            RedeemOutcome::Redeemed { .. },
            RedeemOutcome::Redeemed { .. },
            RedeemOutcome::Retried { .. },
            RedeemOutcome::Dead
        ]
    ));
}

/// Awaits a batch, as a task would.
fn futures_of<T: Send + Unpin + 'static>(
    batch: mintage::store::Batch<T>,
) -> Vec<Result<T, mintage::store::StoreError>> {
    wait(async { Ok::<_, mintage::store::StoreError>(batch.await) }).unwrap()
}

fn a_token_lives_until_it_expires(bench: &Bench<'_, impl Store>) {
    let tokens = bench.issue(&pair("reports", "user-1"));
    let find =
        |used| Find::Access { locator: tokens.access.locator, digest: tokens.access.digest, used };
    let view = bench.find(find(true)).unwrap();
    assert!(view.live);
    assert_eq!(view.client.as_str(), "reports");
    assert_eq!(view.subject.as_str(), "user-1");
    assert_eq!(view.scope.as_str(), "api web");
    assert_eq!(&*view.audience, "https://api.example");
    bench.clock.advance(LIFETIME - 1);
    assert!(bench.is_live(tokens.access));
    bench.clock.advance(1);
    assert!(!bench.is_live(tokens.access));
}

fn an_extended_token_lives_longer_within_its_place(bench: &Bench<'_, impl Store>) {
    let tokens = bench.issue(&pair("reports", "user-1"));
    let (access, start) = (tokens.access, bench.clock.read().unix);
    let extend = |digest, expires_at| {
        let (locator, now) = (access.locator, bench.clock.read());
        let verb = Verb::Extend(Extend { locator, digest, expires_at, now });
        match wait(bench.store.apply(verb)) {
            Ok(Outcome::Extend(until)) => until,
            other => panic!("{other:?}"),
        }
    };
    let until = |secs| Some(start.plus(secs));
    assert_eq!(extend(access.digest, start), until(LIFETIME), "nothing gets shorter");
    assert_eq!(extend(access.digest, start.plus(LIFETIME + 9)), until(LIFETIME + 9));
    assert_eq!(extend(store_support::fresh_digest(), start.plus(LIFETIME + 99)), None);
    bench.clock.advance(LIFETIME + 8);
    assert!(bench.is_live(access));
    // Its place lasts for 60 seconds times two to the class.
    let place_end = Timestamp(u64::from(access.locator.bucket) * 60 + (60 << access.locator.class));
    assert_eq!(extend(access.digest, start.plus(10 * LIFETIME)), Some(place_end));
    bench.clock.advance(place_end.since(bench.clock.read().unix) - 1);
    assert!(bench.is_live(access));
    bench.clock.advance(1);
    assert!(!bench.is_live(access));
    assert_eq!(extend(access.digest, start.plus(10 * LIFETIME)), None, "the dead stay dead");
    let tokens = bench.issue(&pair("reports", "user-2"));
    bench.revoke(Target::Family(tokens.family));
    let (locator, digest, now) = (tokens.access.locator, tokens.access.digest, bench.clock.read());
    let verb = Verb::Extend(Extend { locator, digest, expires_at: now.unix.plus(3_700), now });
    assert!(matches!(wait(bench.store.apply(verb)), Ok(Outcome::Extend(None))));
}

fn a_redeemed_token_is_spent(bench: &Bench<'_, impl Store>) {
    let tokens = bench.issue(&pair("reports", "user-1"));
    let first = tokens.refresh.unwrap();
    assert!(bench.is_redeemable(first));
    let (outcome, access, second) = bench.redeem(first);
    assert!(matches!(outcome, RedeemOutcome::Redeemed { generation: 2, .. }));
    assert!(!bench.is_redeemable(first));
    assert!(bench.is_redeemable(second));
    assert!(bench.is_live(access) && bench.is_live(tokens.access));
}

fn a_retry_gets_the_same_mint(bench: &Bench<'_, impl Store>) {
    let first = bench.issue(&pair("reports", "user-1")).refresh.unwrap();
    let (_, access, _) = bench.redeem(first);
    bench.clock.advance(59);
    for _ in 0..3 {
        let (outcome, ..) = bench.redeem(first);
        let RedeemOutcome::Retried { mint, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(mint.locator, Some(access.locator));
        assert_eq!((mint.generation, mint.salt), (2, [3; 16]));
    }
    let late = bench.store.admission();
    assert!(bench.use_token(access));
    // It arrived before the first use, so it is still answered.
    let (ticket, ..) = bench.redeem_at(first, 60, late);
    let outcome = ticket.wait().unwrap();
    assert!(matches!(outcome, Outcome::Redeem(RedeemOutcome::Retried { .. })), "{outcome:?}");
}

fn a_replay_kills_the_family(bench: &Bench<'_, impl Store>) {
    for how in ["after use", "after the cap", "an old generation"] {
        let tokens = bench.issue(&pair("reports", "user-1"));
        let first = tokens.refresh.unwrap();
        let (_, access, second) = bench.redeem(first);
        let mut last = second;
        match how {
            "after use" => assert!(bench.use_token(access)),
            "after the cap" => bench.clock.advance(61),
            _ => last = bench.redeem(second).2,
        }
        assert!(matches!(bench.redeem(first).0, RedeemOutcome::Replayed), "{how}");
        assert!(!bench.is_redeemable(last), "{how}");
        assert!(!bench.is_live(access) && !bench.is_live(tokens.access), "{how}");
        assert!(matches!(bench.redeem(last).0, RedeemOutcome::Dead), "{how}");
    }
}

fn a_secret_that_was_never_given_is_no_retry(bench: &Bench<'_, impl Store>) {
    for generation in [1, 2] {
        let first = bench.issue(&pair("reports", "user-1")).refresh.unwrap();
        let (_, access, second) = bench.redeem(first);
        let forged = Refresh { generation, digest: fresh_digest(), ..first };
        assert_eq!((first.generation, second.generation), (1, 2));
        assert!(!bench.is_redeemable(forged));
        assert!(matches!(bench.redeem(forged).0, RedeemOutcome::Replayed), "{generation}");
        assert!(!bench.is_redeemable(second) && !bench.is_live(access));
    }
}

fn a_retry_with_another_request_changes_nothing(bench: &Bench<'_, impl Store>) {
    let first = bench.issue(&pair("reports", "user-1")).refresh.unwrap();
    let (_, _, second) = bench.redeem(first);
    let (verb, _) = {
        let now = bench.clock.read();
        let (birth, access) = store_support::access_birth(1 << 50, now.unix);
        let verb = Verb::Redeem(Box::new(mintage::store::Redeem {
            family: first.family,
            generation: 1,
            digest: first.digest,
            arrival: bench.store.admission(),
            was_in_force: false,
            now,
            retry_secs_max: 60,
            key_version: 1,
            salt: [9; 16],
            request: [8; 16],
            successor: Some(store_support::fresh_digest()),
            access: birth,
        }));
        (verb, access)
    };
    let outcome = bench.store.apply(verb).wait().unwrap();
    assert!(matches!(outcome, Outcome::Redeem(RedeemOutcome::OtherRequest)));
    assert!(bench.is_redeemable(second));
}

/// Presents `refresh`, with the verb changed, and says what became of it.
fn present(
    bench: &Bench<'_, impl Store>,
    refresh: store_support::Refresh,
    change: impl Fn(&mut mintage::store::Redeem),
) -> RedeemOutcome {
    let (verb, ..) = bench.redeem_verb(refresh, 60, bench.store.admission());
    let Verb::Redeem(mut redeem) = verb else { unreachable!("a redeem") };
    change(&mut redeem);
    let verb = Verb::Redeem(redeem);
    let outcome = store_support::patiently(|| bench.store.apply(verb.clone()).wait());
    match outcome.unwrap() {
        Outcome::Redeem(outcome) => outcome,
        other => panic!("a redeem answered {other:?}"),
    }
}

fn the_retry_rule_ends_at_the_second_it_says(bench: &Bench<'_, impl Store>) {
    let is_retried = |cap: u64, lives: u64, later: u64| {
        let first = bench.issue(&pair("reports", "user-1")).refresh.unwrap();
        let outcome = present(bench, first, |redeem| {
            redeem.access.expires_at = redeem.now.unix.plus(lives);
        });
        assert!(matches!(outcome, RedeemOutcome::Redeemed { .. }));
        bench.clock.advance(later);
        match present(bench, first, |redeem| redeem.retry_secs_max = cap) {
            RedeemOutcome::Retried { .. } => true,
            RedeemOutcome::Replayed => false,
            other => panic!("{other:?}"),
        }
    };
    assert!(is_retried(60, LIFETIME, 60) && !is_retried(60, LIFETIME, 61));
    assert!(is_retried(5, LIFETIME, 5) && !is_retried(5, LIFETIME, 6));
    // Nothing at all, not even at once.
    assert!(!is_retried(0, LIFETIME, 0));
    // Not after the access token that it would give again.
    assert!(is_retried(60, 30, 29) && !is_retried(60, 30, 30));
    // A redeem under a clock that was wrong by more than a minute cannot be measured from.
    for (ahead, retried) in [(60, true), (61, false), (86_400, false)] {
        let first = bench.issue(&pair("reports", "user-1")).refresh.unwrap();
        let now = bench.clock.read().unix.0;
        bench.clock.set(now + ahead);
        let redeemed = present(bench, first, |redeem| {
            redeem.access.expires_at = redeem.now.unix.plus(LIFETIME);
        });
        assert!(matches!(redeemed, RedeemOutcome::Redeemed { .. }));
        bench.clock.set(now);
        let outcome = present(bench, first, |_| ());
        let is_retry = matches!(outcome, RedeemOutcome::Retried { .. });
        // The store's own time has followed the jump, by an hour at most, and gives back a minute.
        let measurable = retried || ahead < 3_600;
        assert_eq!(is_retry, measurable, "{ahead} s ahead: {outcome:?}");
        bench.clock.set(now + 2 * ahead.min(3_600));
    }
}

fn what_is_no_generation_yet_is_no_replay(bench: &Bench<'_, impl Store>) {
    let first = bench.issue(&pair("reports", "user-1")).refresh.unwrap();
    for generation in [2, 3, u32::MAX] {
        let outcome = present(bench, first, |redeem| redeem.generation = generation);
        assert!(matches!(outcome, RedeemOutcome::Dead), "{generation}: {outcome:?}");
    }
    assert!(bench.is_redeemable(first));
    // The right generation with a digest that is not its own is nobody's honest token.
    let outcome = present(bench, first, |redeem| redeem.digest = store_support::fresh_digest());
    assert!(matches!(outcome, RedeemOutcome::Replayed), "{outcome:?}");
    assert!(!bench.is_redeemable(first));
    let unknown = store_support::Refresh { family: first.family + 64, ..first };
    assert!(matches!(present(bench, unknown, |_| ()), RedeemOutcome::Dead));
}

fn what_was_overtaken_ends_nothing_unless_nothing_may_be_retried(bench: &Bench<'_, impl Store>) {
    for cap in [60, 0] {
        let first = bench.issue(&pair("reports", "user-1")).refresh.unwrap();
        let (_, _, second) = bench.redeem(first);
        let (_, _, third) = bench.redeem(second);
        let outcome = present(bench, first, |redeem| {
            (redeem.was_in_force, redeem.retry_secs_max) = (true, cap);
        });
        assert_eq!(matches!(outcome, RedeemOutcome::Overtaken), cap > 0, "{outcome:?}");
        assert_eq!(bench.is_redeemable(third), cap > 0);
    }
    // Nor does it excuse a token that never was.
    let first = bench.issue(&pair("reports", "user-1")).refresh.unwrap();
    let outcome = present(bench, first, |redeem| {
        (redeem.was_in_force, redeem.digest) = (true, store_support::fresh_digest());
    });
    assert!(matches!(outcome, RedeemOutcome::Replayed), "{outcome:?}");
}

fn a_family_ends_at_the_second_of_its_limits(bench: &Bench<'_, impl Store>) {
    let born = |secs: u64, idle_secs: u64| {
        let here = pair("reports", "user-1");
        let (verb, tokens) =
            bench.issue_verb(&here, PairPolicy::Unlimited, true, bench.store.admission());
        let Verb::Issue(mut issue) = verb else { unreachable!("a birth") };
        let refresh = issue.refresh.as_mut().unwrap();
        (refresh.expires_at, refresh.idle_secs) = (issue.now.unix.plus(secs), idle_secs);
        store_support::patiently(|| bench.store.apply(Verb::Issue(issue.clone())).wait()).unwrap();
        tokens.refresh.unwrap()
    };
    for (secs, idle_secs) in [(1_000, 0), (5_000, 1_000)] {
        let early = born(secs, idle_secs);
        bench.clock.advance(999);
        assert!(bench.is_redeemable(early));
        let (outcome, _, second) = bench.redeem(early);
        assert!(matches!(outcome, RedeemOutcome::Redeemed { .. }));
        bench.clock.advance(1);
        // A redeem begins the idle time again, and never moves the absolute end.
        assert_eq!(bench.is_redeemable(second), idle_secs > 0);
        let late = born(secs, idle_secs);
        bench.clock.advance(1_000);
        assert!(!bench.is_redeemable(late));
        assert!(matches!(bench.redeem(late).0, RedeemOutcome::Dead));
        // Dead by age is not dead by replay: nothing was written.
        assert!(matches!(bench.redeem(late).0, RedeemOutcome::Dead));
    }
}

fn every_scope_of_revocation_reaches_every_token(bench: &Bench<'_, impl Store>) {
    let here = pair("reports", "user-1");
    let elsewhere = pair("mail", "user-2");
    for scope in 0..6 {
        let tokens = bench.issue(&here);
        let (_, access, second) = bench.redeem(tokens.refresh.unwrap());
        let other = bench.issue(&elsewhere);
        let target = match scope {
            0 => Target::Everything,
            1 => Target::Client(here.client.clone()),
            2 => Target::Subject(here.subject.clone()),
            3 => Target::Pair(here.client.clone(), here.subject.clone()),
            4 => Target::Grant(tokens.grant),
            _ => Target::Family(tokens.family),
        };
        assert!(bench.revoke(target.clone()).is_some());
        for access in [access, tokens.access] {
            assert!(!bench.is_live(access), "{target:?}");
        }
        assert!(!bench.is_redeemable(second), "{target:?}");
        assert!(matches!(bench.redeem(second).0, RedeemOutcome::Dead), "{target:?}");
        assert_eq!(bench.is_live(other.access), scope != 0, "{target:?}");
    }
    let tokens = bench.issue(&here);
    assert!(bench.revoke(Target::Access(tokens.access.locator, tokens.access.digest)).is_some());
    assert!(!bench.is_live(tokens.access));
    assert!(bench.is_redeemable(tokens.refresh.unwrap()));
}

fn what_is_admitted_after_a_revocation_lives(bench: &Bench<'_, impl Store>) {
    let here = pair("reports", "user-1");
    let before = bench.issue(&here);
    bench.revoke(Target::Subject(here.subject.clone()));
    let after = bench.issue(&here);
    assert!(!bench.is_live(before.access));
    assert!(bench.is_live(after.access));
    assert!(matches!(bench.redeem(after.refresh.unwrap()).0, RedeemOutcome::Redeemed { .. }));
}

fn what_was_admitted_before_a_revocation_is_not_born(bench: &Bench<'_, impl Store>) {
    let here = pair("reports", "user-1");
    let admission = bench.store.admission();
    bench.revoke(Target::Client(here.client.clone()));
    let (verb, tokens) = bench.issue_verb(&here, PairPolicy::Unlimited, true, admission);
    let outcome = bench.store.apply(verb).wait().unwrap();
    assert!(matches!(outcome, Outcome::Issue(IssueOutcome::Revoked)));
    assert!(!bench.is_live(tokens.access));
}

fn pair_policies_bound_the_families(bench: &Bench<'_, impl Store>) {
    let issue = |name: &str, policy, refresh| {
        bench.try_issue(&pair("reports", name), policy, refresh).unwrap()
    };
    for refresh in [true, false] {
        let tokens: Vec<_> = (0..7)
            .map(|_| issue(&format!("newest-{refresh}"), PairPolicy::Newest(5), refresh).1)
            .collect();
        let live: Vec<bool> = tokens.iter().map(|t| bench.is_live(t.access)).collect();
        assert_eq!(live, [false, false, true, true, true, true, true]);
        let old = issue(&format!("replace-{refresh}"), PairPolicy::Replace, refresh).1;
        let new = issue(&format!("replace-{refresh}"), PairPolicy::Replace, refresh).1;
        assert!(!bench.is_live(old.access) && bench.is_live(new.access));
        let name = format!("reject-{refresh}");
        let held = issue(&name, PairPolicy::Reject, refresh).1;
        let (outcome, refused) = issue(&name, PairPolicy::Reject, refresh);
        assert!(matches!(outcome, IssueOutcome::PairTaken));
        assert!(bench.is_live(held.access) && !bench.is_live(refused.access));
        bench.revoke(Target::Family(held.family));
        assert!(matches!(issue(&name, PairPolicy::Reject, refresh).0, IssueOutcome::Issued { .. }));
    }
    let reuse = PairPolicy::Reuse { left_secs_min: 600 };
    let first = issue("reuse", reuse, false).1;
    let (outcome, _) = issue("reuse", reuse, false);
    let IssueOutcome::Reused { family, mint, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!((family, mint.locator), (first.family, Some(first.access.locator)));
    bench.clock.advance(LIFETIME - 599);
    let (outcome, second) = issue("reuse", reuse, false);
    assert!(matches!(outcome, IssueOutcome::Issued { .. }));
    assert!(bench.is_live(second.access) && !bench.is_live(first.access));
}

fn one_grant_per_pair_under_concurrency(bench: &Bench<'_, impl Store>) {
    let here = pair("reports", "user-1");
    let barrier = Barrier::new(16);
    let grants: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    let (outcome, _) = bench.try_issue(&here, PairPolicy::Unlimited, true).unwrap();
                    match outcome {
                        IssueOutcome::Issued { grant, .. } => grant,
                        other => panic!("{other:?}"),
                    }
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(grants.iter().all(|grant| *grant == grants[0]));
    let page = wait(bench.store.list(Listing::OfSubject(here.subject.clone()), None, 100)).unwrap();
    assert_eq!(page.grants.len(), 16);
    assert_eq!(bench.store.stats().grants, 1);
}

fn concurrent_redeems_have_one_winner(bench: &Bench<'_, impl Store>) {
    let first = bench.issue(&pair("reports", "user-1")).refresh.unwrap();
    let barrier = Barrier::new(16);
    let outcomes: Vec<RedeemOutcome> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    bench.redeem(first).0
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let won = outcomes.iter().filter(|o| matches!(o, RedeemOutcome::Redeemed { .. })).count();
    let retried = outcomes.iter().filter(|o| matches!(o, RedeemOutcome::Retried { .. })).count();
    assert_eq!((won, retried), (1, 15));
}

fn listings_page_in_a_stable_order(bench: &Bench<'_, impl Store>) {
    let clients = ["a", "b", "c", "d", "e"];
    for client in clients {
        for _ in 0..3 {
            bench.issue(&pair(client, "user-1"));
        }
        bench.issue(&pair(client, "user-2"));
    }
    let subject = pair("a", "user-1").subject;
    for limit in [1, 2, 3, 4, 7, 100] {
        let mut seen = Vec::new();
        let mut cursor = None;
        loop {
            let listing = Listing::OfSubject(subject.clone());
            let page = wait(bench.store.list(listing, cursor.as_deref(), limit)).unwrap();
            assert!(page.grants.len() <= limit);
            seen.extend(page.grants.iter().map(|row| (row.client.clone(), row.family)));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let mut unique = seen.clone();
        unique.sort();
        unique.dedup();
        assert_eq!((seen.len(), unique.len()), (15, 15), "limit {limit}");
    }
    let client = pair("b", "user-1").client;
    let page = wait(bench.store.list(Listing::OfClient(client), None, 100)).unwrap();
    assert_eq!(page.grants.len(), 4);
    bench.revoke(Target::Subject(subject.clone()));
    let page = wait(bench.store.list(Listing::OfSubject(subject), None, 100)).unwrap();
    assert!(page.grants.is_empty() && page.next.is_none());
}

fn uses_and_redeems_are_counted(bench: &Bench<'_, impl Store>) {
    let here = pair("reports", "user-1");
    let tokens = bench.issue(&here);
    let counted = || {
        let page = wait(bench.store.list(Listing::OfSubject(here.subject.clone()), None, 2));
        let [row] = &page.unwrap().grants[..] else { panic!("one login is one row") };
        (row.use_count, row.last_used_at)
    };
    let begun = bench.clock.read().unix;
    let (before, _) = counted();
    bench.clock.advance(5);
    assert!(bench.use_token(tokens.access) && bench.use_token(tokens.access));
    assert!(bench.is_live(tokens.access));
    assert_eq!(counted(), (before + 2, Timestamp(begun.0 + 5)));
    bench.clock.advance(5);
    bench.redeem(tokens.refresh.unwrap());
    assert_eq!(counted(), (before + 3, Timestamp(begun.0 + 10)));
}

fn the_feed_is_gap_free_and_resumable(bench: &Bench<'_, impl Store>) {
    let mut cursor = None;
    let mut seen = 0;
    for round in 0..5 {
        for n in 0..3 {
            let here = pair("reports", &format!("user-{round}-{n}"));
            bench.issue(&here);
            bench.revoke(Target::Subject(here.subject));
        }
        loop {
            let page = wait(bench.store.list(Listing::Revocations, cursor.as_deref(), 2)).unwrap();
            seen += page.revocations.len();
            cursor = page.next;
            if page.revocations.is_empty() {
                break;
            }
        }
        assert_eq!(seen, (round + 1) * 3);
    }
}

fn documents_are_put_replaced_and_removed(bench: &Bench<'_, impl Store>) {
    let put = |name: &str, body: Option<&str>, create| {
        let put = Put {
            kind: 3,
            name: Arc::from(name),
            body: body.map(|b| Arc::from(b.as_bytes())),
            create,
            ends: false,
        };
        match bench.store.apply(Verb::Put(put)).wait().unwrap() {
            Outcome::Put(done) => done,
            other => panic!("{other:?}"),
        }
    };
    let get = |name: &str| {
        let page = wait(bench.store.list(Listing::Document(3, Arc::from(name)), None, 1)).unwrap();
        page.documents.first().map(|d| String::from_utf8(d.body.to_vec()).unwrap())
    };
    assert!(put("a", Some("1"), true));
    assert!(!put("a", Some("2"), true));
    assert_eq!(get("a").as_deref(), Some("1"));
    assert!(put("a", Some("2"), false) && put("b", Some("3"), true));
    assert_eq!(get("a").as_deref(), Some("2"));
    let all = wait(bench.store.list(Listing::Documents(3), None, 10)).unwrap();
    assert_eq!(all.documents.len(), 2);
    assert!(put("a", None, false));
    assert_eq!(get("a"), None);
    assert!(put("a", Some("4"), true));
}

fn the_sweep_takes_what_is_dead_and_nothing_else(bench: &Bench<'_, impl Store>) {
    let mut kept = Vec::new();
    for n in 0..50 {
        let here = pair("reports", &format!("user-{n}"));
        let (_, tokens) = bench.try_issue(&here, PairPolicy::Unlimited, n % 2 == 0).unwrap();
        kept.extend(tokens.refresh);
    }
    bench.clock.advance(2 * LIFETIME + 600);
    let young = bench.issue(&pair("reports", "young"));
    let round = || {
        for _ in 0..64 {
            bench.store.sweep(bench.clock.read()).unwrap();
        }
    };
    round();
    round();
    let stats = bench.store.stats();
    assert_eq!((stats.tokens_resident, stats.families, stats.grants), (1, 26, 26));
    assert!(kept.into_iter().all(|refresh| bench.is_redeemable(refresh)));
    assert!(bench.is_live(young.access));
}

#[test]
fn a_store_on_a_checkpoint_in_memory_answers_alike() {
    let dir = TempDir::new("memory-checkpoint");
    let clock: Arc<ManualClock> = clock();
    let storage = Arc::new(mintage::store::DiskStorage::open(dir.path()).unwrap());
    let home = Arc::new(MemoryCheckpointHome::default());
    let open = || {
        mintage::store::DurableStore::open_on(
            storage.clone(),
            home.clone(),
            &store_support::root(),
            store_support::options(&clock),
        )
        .unwrap()
    };
    let store = open();
    let tokens = Bench { store: &store, clock: &clock }.issue(&pair("reports", "user-1"));
    store.close().unwrap();
    let store = open();
    let bench = Bench { store: &store, clock: &clock };
    assert!(bench.is_live(tokens.access));
    assert!(bench.is_redeemable(tokens.refresh.unwrap()));
    assert_eq!(store.stats().cold_reads, 1);
}
