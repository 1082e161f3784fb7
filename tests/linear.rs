//! What threads saw at one store could have happened one operation at a time. Eight threads issue,
//! redeem, look up and revoke; some let go of their tickets; each recorded history is searched for an
//! order that explains every answer.
//!
//! `MINTAGE_HISTORIES` sets how many histories each store is asked for (default 100; 500 in
//! `.ci/run`), `MINTAGE_HISTORIES_SEED` where they begin.
#![allow(clippy::print_stdout)]

mod linear_support;
mod store_support;

use std::sync::Arc;

use linear_support::record::{FamilyEvent, History, history};
use linear_support::{Answer, Event, Family, Operation, core_of, is_linearizable};
use mintage::store::{
    Find, Listing, MemoryStore, Near, Outcome, Page, RedeemOutcome, Seq, Stats, Store, StoreError,
    Swept, Ticket, TokenView, Verb,
};
use mintage::time::{ManualClock, Reading, Timestamp};
use store_support::{TempDir, clock, durable, memory};

/// A store is left before it has grown.
const HISTORIES_PER_STORE: u64 = 250;

fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

/// The first family whose events no order explains.
fn unexplained(history: &History) -> Option<&Vec<FamilyEvent>> {
    history.iter().find(|events| !is_linearizable(&Family::default(), events))
}

#[derive(Default)]
struct Figures {
    histories: u64,
    events: u64,
    overlaps: u64,
}

impl Figures {
    fn count(&mut self, history: &History) {
        self.histories += 1;
        for events in history {
            self.events += events.len() as u64;
            for (n, one) in events.iter().enumerate() {
                let meets =
                    |other: &&FamilyEvent| one.call < other.returned && other.call < one.returned;
                self.overlaps += events[n + 1..].iter().filter(meets).count() as u64;
            }
        }
    }

    fn check<S: Store>(&mut self, store: &S, clock: &ManualClock, seed: u64) {
        let history = history(store, clock, &format!("user-{seed}"), seed);
        self.count(&history);
        if let Some(events) = unexplained(&history) {
            let is_read = |operation: &Operation| {
                matches!(
                    operation,
                    Operation::FindAccess { used: false, .. } | Operation::FindRefresh { .. }
                )
            };
            for event in core_of(&Family::default(), events, is_read) {
                println!("{event:?}");
            }
            panic!("no order explains this history (seed {seed})");
        }
    }

    fn print(&self, store: &str) {
        let Figures { histories, events, overlaps } = self;
        println!(
            "{histories} histories over the {store} store, {events} events, {overlaps} pairs of them at once: all explained"
        );
    }
}

fn seeds() -> std::ops::Range<u64> {
    let first = number("MINTAGE_HISTORIES_SEED", 0);
    first..first + number("MINTAGE_HISTORIES", 100)
}

#[test]
fn histories_of_the_store_in_memory_are_linearizable() {
    let clock = clock();
    let mut figures = Figures::default();
    let mut store = memory(&clock);
    for seed in seeds() {
        if seed % HISTORIES_PER_STORE == 0 {
            store = memory(&clock);
        }
        figures.check(&store, &clock, seed);
    }
    figures.print("memory");
}

#[test]
fn histories_of_the_durable_store_are_linearizable() {
    let clock = clock();
    let mut figures = Figures::default();
    let mut seeds = seeds().peekable();
    while seeds.peek().is_some() {
        let dir = TempDir::new("linear");
        let store = durable(dir.path(), &clock).unwrap();
        for seed in seeds.by_ref().take(usize::try_from(HISTORIES_PER_STORE).unwrap()) {
            figures.check(&store, &clock, seed);
        }
        store.close().unwrap();
    }
    figures.print("durable");
}

/// One thread each, one event after another unless they say so.
fn event(thread: usize, at: std::ops::Range<u64>, op: Operation, answer: Answer) -> FamilyEvent {
    let (call, returned, operation) = (at.start, at.end, op);
    Event { thread, call, returned, operation, answer: Some(answer) }
}

fn born() -> Vec<FamilyEvent> {
    let issue = Operation::Issue { admitted: 0, refresh: 0, access: 0 };
    vec![
        event(0, 0..1, Operation::Admit(0), Answer::Done),
        event(0, 2..3, issue, Answer::Issued),
        event(1, 4..5, Operation::Admit(1), Answer::Done),
        event(2, 4..6, Operation::Admit(2), Answer::Done),
    ]
}

fn redeem(admitted: u32, refresh: u32, generation: u32, to: u32) -> Operation {
    Operation::Redeem { admitted, refresh, generation, successor: to, access: to, request: 0 }
}

fn explains(more: impl IntoIterator<Item = FamilyEvent>) -> bool {
    is_linearizable(&Family::default(), &born().into_iter().chain(more).collect::<Vec<_>>())
}

#[test]
fn planted_histories_are_refused_and_their_honest_twins_are_not() {
    let won = Answer::Redeemed { generation: 2 };
    let retried = Answer::Retried { access: 11, generation: 2 };
    let live = |live| Answer::Found { live };
    let find = |access| Operation::FindAccess { access, used: false };
    let uses = |access| Operation::FindAccess { access, used: true };

    // Two redeems of one generation at once: one wins, one is answered alike.
    let first = event(1, 10..20, redeem(1, 0, 1, 11), won.clone());
    assert!(explains([first.clone(), event(2, 11..19, redeem(2, 0, 1, 12), retried.clone())]));
    assert!(!explains([first.clone(), event(2, 11..19, redeem(2, 0, 1, 12), won)]));

    // A read that was called after a revocation returned sees it; one beside it may or may not.
    let revoke = event(1, 10..20, Operation::RevokeFamily, Answer::Existed(true));
    for sees in [true, false] {
        assert!(explains([revoke.clone(), event(2, 15..25, find(0), live(sees))]));
        assert_eq!(explains([revoke.clone(), event(2, 21..25, find(0), live(sees))]), !sees);
    }
    // Two reads in a row never see a revocation and then its absence.
    let seen = event(2, 11..12, find(0), live(false));
    assert!(!explains([revoke.clone(), seen, event(3, 13..14, find(0), live(true))]));

    // What arrived before the first use is a retry; what arrived after it is a replay.
    let used = event(3, 21..22, uses(11), live(true));
    let again = |answer| event(2, 30..31, redeem(2, 0, 1, 12), answer);
    assert!(explains([first.clone(), used.clone(), again(retried.clone())]));
    let late = event(2, 23..24, Operation::Admit(7), Answer::Done);
    let again = |answer| event(2, 30..31, redeem(7, 0, 1, 12), answer);
    assert!(!explains([first.clone(), used.clone(), late.clone(), again(retried)]));
    assert!(explains([first.clone(), used, late, again(Answer::Replayed)]));

    // An issue admitted before a revocation is not born after it.
    let again = Operation::Issue { admitted: 1, refresh: 5, access: 5 };
    let above = event(2, 10..11, Operation::RevokeAbove, Answer::Done);
    assert!(!explains([above.clone(), event(1, 12..13, again.clone(), Answer::Issued)]));
    assert!(explains([above, event(1, 12..13, again, Answer::Revoked)]));

    // A dropped ticket undoes nothing.
    let dropped = Event { answer: None, returned: 40, ..first };
    assert!(explains([dropped.clone(), event(3, 41..42, find(11), live(true))]));
    assert!(!explains([dropped, event(3, 41..42, find(11), live(false))]));
}

/// What a [`Broken`] store does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Every second answer about a token is one that was right once.
    StaleReads,
    /// A retry is said to be a redeem of its own.
    SpendsTwice,
    /// A revocation is answered and not done.
    ForgetsToRevoke,
}

struct Broken {
    store: MemoryStore,
    fault: Fault,
    seen: Arc<std::sync::Mutex<std::collections::HashMap<[u8; 16], TokenView>>>,
    count: std::sync::atomic::AtomicU64,
}

impl Store for Broken {
    fn admission(&self) -> Seq {
        self.store.admission()
    }

    fn now(&self, reading: Reading) -> Timestamp {
        self.store.now(reading)
    }

    fn draw(&self, near: Near<'_>) -> u64 {
        self.store.draw(near)
    }

    fn apply(&self, verb: Verb) -> Ticket<Outcome> {
        if self.fault == Fault::ForgetsToRevoke
            && matches!(&verb, Verb::Revoke(revoke) if matches!(revoke.target, mintage::store::Target::Family(_)))
        {
            return Ticket::ready(Ok(Outcome::Revoke(Some(Seq(1)))));
        }
        let ticket = self.store.apply(verb);
        if self.fault != Fault::SpendsTwice {
            return ticket;
        }
        ticket.and_then(|outcome| {
            Ok(match outcome? {
                Outcome::Redeem(RedeemOutcome::Retried { mint, admission }) => {
                    let generation = mint.generation;
                    Outcome::Redeem(RedeemOutcome::Redeemed { generation, admission })
                }
                other => other,
            })
        })
    }

    fn find(
        &self,
        find: Find,
        now: Reading,
    ) -> impl Future<Output = Result<Option<TokenView>, StoreError>> + Send + 'static {
        let found = self.store.find(find, now);
        let is_stale = self.fault == Fault::StaleReads
            && self.count.fetch_add(1, std::sync::atomic::Ordering::Relaxed).is_multiple_of(2);
        let seen = Arc::clone(&self.seen);
        async move {
            let Find::Access { digest, .. } = find else { return found.await };
            let found = found.await?;
            let mut seen = seen.lock().unwrap();
            match (seen.get(&digest.0), found) {
                (Some(before), _) if is_stale => Ok(Some(before.clone())),
                (_, found) => {
                    seen.extend(found.clone().map(|view| (digest.0, view)));
                    Ok(found)
                }
            }
        }
    }

    fn list(
        &self,
        listing: Listing,
        cursor: Option<&[u8]>,
        limit: usize,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send + 'static {
        self.store.list(listing, cursor, limit)
    }

    fn sweep(&self, now: Reading) -> Result<Swept, StoreError> {
        self.store.sweep(now)
    }

    fn stats(&self) -> Stats {
        self.store.stats()
    }
}

#[test]
fn a_store_that_is_broken_is_caught() {
    for fault in [Fault::StaleReads, Fault::SpendsTwice, Fault::ForgetsToRevoke] {
        let clock = clock();
        let (seen, count) = (Arc::default(), std::sync::atomic::AtomicU64::new(0));
        let store = Broken { store: memory(&clock), fault, seen, count };
        let is_caught = |seed| {
            let history = history(&store, &clock, &format!("user-{seed}"), seed);
            unexplained(&history).is_some()
        };
        assert!((0..50).any(is_caught), "{fault:?} went unnoticed");
    }
}
