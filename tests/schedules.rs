//! Schedules of the table and the commit queue, with a switch possible at every lock, counter and
//! channel. `MINTAGE_SIM_SEEDS` sets how many (default 1,000), `MINTAGE_SIM_SEED` runs one.
#![cfg(mintage_sim)]

mod sim_support;
mod store_support;

use std::sync::Arc;

use mintage::entropy::SeededEntropy;
use mintage::store::{
    DurableOptions, DurableStore, Find, MemoryCheckpointHome, Outcome, PairPolicy, Revoke, Store,
    StoreError, Target, Ticket, Verb,
};
use mintage::time::Clock;
use sim_support::world::{self, Weather};
use sim_support::{Plan, campaign, seeds, spawn, yield_now};
use store_support::sim::{Random, SimStorage};
use store_support::{Bench, clock, pair, root, wait};

const FINE: Plan = Plan { bug: None, is_fine: true };

fn holds(schedule: impl Fn(u64) + Send + Sync + 'static) {
    let seeds = seeds(1_000);
    let count = seeds.end - seeds.start;
    let began = std::time::Instant::now();
    let ran = campaign(seeds, FINE, schedule);
    ran.unwrap_or_else(|failed| panic!("MINTAGE_SIM_SEED={}: {}", failed.seed, failed.what));
    println!("{count} schedules in {:.1} s, 0 promises broken", began.elapsed().as_secs_f64());
}

#[test]
fn clients_writer_keeper_and_readers_agree_in_any_order() {
    holds(|seed| {
        world::run(seed, Weather::SHORT);
    });
}

#[test]
fn closing_in_the_middle_loses_nothing_that_was_answered() {
    holds(|seed| {
        world::run(seed, Weather { closes: true, ..Weather::SHORT });
    });
}

fn open(storage: &SimStorage, home: &MemoryCheckpointHome) -> DurableStore {
    let options = DurableOptions::default()
        .segment_len(128 * 1024)
        .clock(clock())
        .entropy(Arc::new(SeededEntropy::new(7)));
    DurableStore::open_on(Arc::new(storage.clone()), Arc::new(home.clone()), &root(), options)
        .unwrap()
}

/// Every unit that was taken is there after a close, whether its ticket was waited for, polled once,
/// or dropped at any point; and whoever waits gets an answer.
#[test]
fn a_ticket_dropped_anywhere_changes_nothing() {
    holds(|seed| {
        let storage = SimStorage::new();
        let home = MemoryCheckpointHome::default();
        let store = open(&storage, &home);
        // Whoever drops a ticket would not learn that the store was busy.
        while store.stats().segments < 3 {
            yield_now();
        }
        let mut random = Random::new(seed);
        let tasks: Vec<_> = (0..2)
            .map(|task| {
                let store = store.clone();
                let mut random = Random::new(random.next());
                spawn(move || {
                    let clock = clock();
                    let bench = Bench { store: &store, clock: &clock };
                    let mut taken = Vec::new();
                    for n in 0..3 {
                        let pair = pair("reports", &format!("user-{task}-{n}"));
                        let admission = store.admission();
                        let (verb, tokens) =
                            bench.issue_verb(&pair, PairPolicy::Unlimited, true, admission);
                        if !settle(&mut random, store.apply(verb)) {
                            continue;
                        }
                        let is_ended = n == 1 && {
                            let target = Target::Family(tokens.family);
                            let revoke = Revoke { target, now: clock.read() };
                            settle(&mut random, store.apply(Verb::Revoke(revoke)))
                        };
                        taken.push((tokens, is_ended));
                    }
                    taken
                })
            })
            .collect();
        let taken: Vec<_> = tasks.into_iter().flat_map(|task| task.join().unwrap()).collect();
        store.close().unwrap();
        drop(store);
        let store = open(&storage, &home);
        let now = clock().read();
        for (tokens, is_ended) in taken {
            let find = Find::Access {
                locator: tokens.access.locator,
                digest: tokens.access.digest,
                used: false,
            };
            let is_live = wait(store.find(find, now)).unwrap().is_some_and(|view| view.live);
            assert_eq!(is_live, !is_ended, "{tokens:?}");
        }
        store.close().unwrap();
    });
}

/// Waits for a ticket, polls it once, or drops it; whether the unit was taken.
fn settle(random: &mut Random, mut ticket: Ticket<Outcome>) -> bool {
    match random.below(4) {
        0 => drop(ticket),
        1 => {
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            let polled = std::pin::Pin::new(&mut ticket).poll(&mut cx);
            return !matches!(polled, std::task::Poll::Ready(Err(StoreError::Busy)));
        }
        2 => return answered(&ticket.wait()),
        _ => return answered(&wait(ticket)),
    }
    true
}

fn answered(answer: &Result<Outcome, StoreError>) -> bool {
    match answer {
        Ok(_) => true,
        Err(StoreError::Busy) => false,
        Err(error) => panic!("{error:?}"),
    }
}
