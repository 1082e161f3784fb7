//! Small models of the store under loom: every order of the steps of two or three threads that can
//! make a difference, over the store's own state and tickets. Two models are bounded to three forced
//! switches, the others are not bounded. `.ci/run` says how they are run.
#![cfg(all(test, mintage_loom))]
#![allow(clippy::print_stdout)]

#[path = "../store_support/mod.rs"]
mod store_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use loom::thread;
use mintage::store::models::HeldStore;
use mintage::store::{
    Find, IssueOutcome, Outcome, PairPolicy, RedeemOutcome, Revoke, Store as _, Target, Verb,
};
use mintage::time::{Clock as _, ManualClock};
use store_support::{Access, Bench, Refresh, START, Tokens, pair};

/// A model with fewer runs than this has lost its threads.
const RUNS_MIN: u64 = 5;

/// A store with one login in it, published.
struct World {
    store: HeldStore,
    clock: ManualClock,
    tokens: Tokens,
}

impl World {
    fn new() -> Arc<World> {
        let clock = ManualClock::at(START);
        let store = HeldStore::new(clock.read());
        let bench = Bench { store: &store, clock: &clock };
        let admission = store.admission();
        let here = pair("app", "ann");
        let (verb, tokens) = bench.issue_verb(&here, PairPolicy::Unlimited, true, admission);
        let issued = store.apply(verb);
        store.publish();
        issued.wait().unwrap();
        Arc::new(World { store, clock, tokens })
    }

    fn bench(&self) -> Bench<'_, HeldStore> {
        Bench { store: &self.store, clock: &self.clock }
    }

    fn first(&self) -> Refresh {
        self.tokens.refresh.unwrap()
    }

    /// Redeems, and waits until that is published.
    fn redeem(&self, refresh: Refresh) -> (RedeemOutcome, Access, Refresh) {
        let (ticket, access, next) = self.bench().redeem_ticket(refresh, 60);
        match ticket.wait().unwrap() {
            Outcome::Redeem(outcome) => (outcome, access, next),
            other => panic!("{other:?}"),
        }
    }

    fn subject(&self) -> Target {
        Target::Subject(pair("app", "ann").subject)
    }
}

fn model(name: &str, switches: Option<usize>, check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = switches;
    builder.max_branches = 20_000;
    let runs = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&runs);
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        check();
    });
    let runs = runs.load(Ordering::Relaxed);
    println!("{name}: {runs} runs, forced switches at most: {switches:?}");
    assert!(runs > RUNS_MIN, "{name}: {runs} runs are no proof");
}

/// I5: one redeem of a generation wins; the other is answered with what the winner minted.
#[test]
fn one_of_two_redeems_wins_and_both_get_its_tokens() {
    model("one of two redeems wins and both get its tokens", None, || {
        let world = World::new();
        let other = Arc::clone(&world);
        let thread = thread::spawn(move || {
            let (ticket, access, _) = other.bench().redeem_ticket(other.first(), 60);
            (ticket, access)
        });
        let (mine, my_access, _) = world.bench().redeem_ticket(world.first(), 60);
        let (theirs, their_access) = thread.join().unwrap();
        world.store.publish();
        let answers = [(mine, my_access), (theirs, their_access)]
            .map(|(ticket, access)| (ticket.wait().unwrap(), access));
        let won: Vec<Access> = answers
            .iter()
            .filter(|(a, _)| matches!(a, Outcome::Redeem(RedeemOutcome::Redeemed { .. })))
            .map(|(_, access)| *access)
            .collect();
        assert_eq!(won.len(), 1);
        for (answer, _) in answers {
            if let Outcome::Redeem(RedeemOutcome::Retried { mint, .. }) = answer {
                assert_eq!(mint.locator, Some(won[0].locator));
            }
        }
        assert!(world.bench().is_live(won[0]));
    });
}

/// Nothing is acknowledged before it is published, and once it is everybody sees it.
#[test]
fn an_acknowledged_redeem_is_seen_by_everybody() {
    model("an acknowledged redeem is seen by everybody", None, || {
        let world = World::new();
        let committer = Arc::clone(&world);
        let (ticket, access, next) = world.bench().redeem_ticket(world.first(), 60);
        let thread = thread::spawn(move || committer.store.publish());
        let bench = world.bench();
        // New before old: seen the other way round, nothing may be in force.
        let new_first = bench.is_redeemable(next);
        let old_then = bench.is_redeemable(world.first());
        assert!(!(new_first && old_then), "two generations in force");
        let old_first = bench.is_redeemable(world.first());
        let new_then = bench.is_redeemable(next);
        assert!(old_first || new_then, "no generation in force");
        ticket.wait().unwrap();
        assert!(bench.is_redeemable(next) && bench.is_live(access));
        assert!(!bench.is_redeemable(world.first()));
        thread.join().unwrap();
    });
}

/// Threads that wait for one group and a task that polls it are all woken, whether they came before
/// or after it was settled.
#[test]
fn all_who_wait_for_a_group_are_woken() {
    model("all who wait for a group are woken", Some(3), || {
        let world = World::new();
        let (first, ..) = world.bench().redeem_ticket(world.first(), 60);
        // Two more tickets of the same group.
        let attached = || world.bench().redeem_ticket(world.first(), 60).0;
        let (second, third) = (attached(), attached());
        let threads = [
            thread::spawn(move || second.wait().unwrap()),
            thread::spawn(move || store_support::wait(third).unwrap()),
        ];
        world.store.publish();
        first.wait().unwrap();
        for thread in threads {
            let outcome = thread.join().unwrap();
            assert!(matches!(outcome, Outcome::Redeem(RedeemOutcome::Retried { .. })));
        }
    });
}

/// Of threads that wait, each wakes others: none is forgotten on the way.
#[test]
fn threads_that_wait_wake_each_other() {
    model("threads that wait wake each other", Some(2), || {
        let world = World::new();
        let (first, ..) = world.bench().redeem_ticket(world.first(), 60);
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let ticket = world.bench().redeem_ticket(world.first(), 60).0;
                thread::spawn(move || ticket.wait().unwrap())
            })
            .collect();
        let committer = Arc::clone(&world);
        let committing = thread::spawn(move || committer.store.publish());
        first.wait().unwrap();
        for thread in threads {
            thread.join().unwrap();
        }
        committing.join().unwrap();
    });
}

/// A family that is revoked beside its redeem is dead, whoever came first, and seen so at once.
#[test]
fn a_redeem_beside_a_revocation_of_its_family_leaves_it_dead() {
    for above in [false, true] {
        model("a redeem beside a revocation of its family leaves it dead", None, move || {
            let world = World::new();
            let other = Arc::clone(&world);
            let thread = thread::spawn(move || {
                let target = match above {
                    true => other.subject(),
                    false => Target::Family(other.tokens.family),
                };
                let verb = Verb::Revoke(Revoke { target, now: other.clock.read() });
                let ticket = other.store.apply(verb);
                // In effect already.
                assert!(!other.bench().is_live(other.tokens.access));
                ticket
            });
            let (redeemed, access, next) = world.bench().redeem_ticket(world.first(), 60);
            let revoked = thread.join().unwrap();
            world.store.publish();
            revoked.wait().unwrap();
            let outcome = redeemed.wait().unwrap();
            assert!(matches!(
                outcome,
                Outcome::Redeem(RedeemOutcome::Redeemed { .. } | RedeemOutcome::Dead)
            ));
            let bench = world.bench();
            assert!(!bench.is_live(access) && !bench.is_live(world.tokens.access));
            assert!(!bench.is_redeemable(next) && !bench.is_redeemable(world.first()));
        });
    }
}

/// Who was admitted after a revocation took its number sees what it revoked as dead, and what was
/// admitted before is not born after it.
#[test]
fn an_admission_orders_itself_before_or_after_a_revocation() {
    model("an admission orders itself before or after a revocation", Some(3), || {
        let world = World::new();
        let other = Arc::clone(&world);
        let thread = thread::spawn(move || {
            let target = other.subject();
            let verb = Verb::Revoke(Revoke { target, now: other.clock.read() });
            let ticket = other.store.apply(verb);
            other.store.publish();
            match ticket.wait().unwrap() {
                Outcome::Revoke(Some(seq)) => seq,
                answer => panic!("{answer:?}"),
            }
        });
        let bench = world.bench();
        let admission = world.store.admission();
        let was_live = bench.is_live(world.tokens.access);
        let here = pair("app", "ann");
        let (verb, tokens) = bench.issue_verb(&here, PairPolicy::Unlimited, true, admission);
        let ticket = world.store.apply(verb);
        world.store.publish();
        let issued = matches!(ticket.wait().unwrap(), Outcome::Issue(IssueOutcome::Issued { .. }));
        let revoked_at = thread.join().unwrap();
        world.store.publish();
        assert!(!(admission >= revoked_at && was_live), "a live token after its revocation");
        assert_eq!(bench.is_live(tokens.access), issued && admission >= revoked_at);
        assert!(!bench.is_live(world.tokens.access));
    });
}

/// Two redeems, a revocation above them and the commits, in every order: one winner at most, and
/// nothing lives when all are done.
#[test]
fn two_redeems_and_a_revocation_leave_one_winner_at_most_and_nothing_alive() {
    model("two redeems and a revocation", Some(3), || {
        let world = World::new();
        let redeeming = Arc::clone(&world);
        let redeemer = thread::spawn(move || {
            let (ticket, access, next) = redeeming.bench().redeem_ticket(redeeming.first(), 60);
            redeeming.store.publish();
            (ticket, access, next)
        });
        let revoking = Arc::clone(&world);
        let revoker = thread::spawn(move || {
            let now = revoking.clock.read();
            revoking.store.apply(Verb::Revoke(Revoke { target: revoking.subject(), now }))
        });
        let mine = world.bench().redeem_ticket(world.first(), 60);
        let theirs = redeemer.join().unwrap();
        let revoked = revoker.join().unwrap();
        world.store.publish();
        revoked.wait().unwrap();
        let mut won = 0;
        for (ticket, access, next) in [mine, theirs] {
            let outcome = ticket.wait().unwrap();
            won += u32::from(matches!(outcome, Outcome::Redeem(RedeemOutcome::Redeemed { .. })));
            assert!(!world.bench().is_live(access) && !world.bench().is_redeemable(next));
        }
        assert!(won <= 1);
    });
}

/// The retry rule: an arrival before the first use is a retry, whatever happens beside it.
#[test]
fn an_arrival_before_the_first_use_is_a_retry() {
    model("an arrival before the first use is a retry", None, || {
        let world = World::new();
        let (ticket, access, next) = world.bench().redeem_ticket(world.first(), 60);
        world.store.publish();
        ticket.wait().unwrap();
        let arrival = world.store.admission();
        let other = Arc::clone(&world);
        let user = thread::spawn(move || assert!(other.bench().use_token(access)));
        let (again, ..) = world.bench().redeem_at(world.first(), 60, arrival);
        user.join().unwrap();
        world.store.publish();
        assert!(matches!(again.wait().unwrap(), Outcome::Redeem(RedeemOutcome::Retried { .. })));
        // After the use it is a replay, and the family ends.
        let (late, ..) = world.bench().redeem_ticket(world.first(), 60);
        world.store.publish();
        assert!(matches!(late.wait().unwrap(), Outcome::Redeem(RedeemOutcome::Replayed)));
        assert!(!world.bench().is_redeemable(next));
    });
}

/// I6 and the pair's policy: of two logins at once under `replace` one lives.
#[test]
fn one_of_two_logins_under_replace_lives() {
    model("one of two logins under replace lives", None, || {
        let world = World::new();
        let here = pair("app", "bob");
        let issue = |world: &World| {
            let bench = world.bench();
            let admission = world.store.admission();
            let (verb, tokens) =
                bench.issue_verb(&pair("app", "bob"), PairPolicy::Replace, true, admission);
            (world.store.apply(verb), tokens)
        };
        let other = Arc::clone(&world);
        let thread = thread::spawn(move || {
            let issued = issue(&other);
            other.store.publish();
            issued
        });
        let (mine, my_tokens) = issue(&world);
        world.store.publish();
        let (theirs, their_tokens) = thread.join().unwrap();
        world.store.publish();
        let grants = [mine, theirs].map(|ticket| match ticket.wait().unwrap() {
            Outcome::Issue(IssueOutcome::Issued { grant, .. }) => grant,
            other => panic!("{other:?}"),
        });
        assert_eq!(grants[0], grants[1], "two grants of {here:?}");
        let bench = world.bench();
        let live = [my_tokens, their_tokens].map(|tokens| bench.is_live(tokens.access));
        assert!(live[0] != live[1], "{live:?}");
    });
}

/// What a dropped ticket stood for happens all the same.
#[test]
fn a_ticket_dropped_beside_a_commit_undoes_nothing() {
    model("a ticket dropped beside a commit undoes nothing", None, || {
        let world = World::new();
        let committer = Arc::clone(&world);
        let thread = thread::spawn(move || committer.store.publish());
        let (ticket, access, next) = world.bench().redeem_ticket(world.first(), 60);
        drop(ticket);
        thread.join().unwrap();
        world.store.publish();
        let bench = world.bench();
        assert!(bench.is_live(access) && bench.is_redeemable(next));
        let Refresh { family, generation, digest } = world.first();
        let spent = bench.find(Find::Refresh { family, generation, digest });
        assert!(spent.is_some_and(|view| !view.live));
        assert!(matches!(world_retry(&world), RedeemOutcome::Retried { .. }));
    });
}

fn world_retry(world: &World) -> RedeemOutcome {
    world.redeem(world.first()).0
}
