//! Who waits for a commit: threads, tasks, many at once, nobody; and what goes to the disk together.

mod store_support;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use mintage::store::{
    DurableStore, MemoryCheckpointHome, Outcome, PairPolicy, Stats, Store, StoreError, Ticket,
};
use mintage::time::ManualClock;
use store_support::gate::GatedStorage;
use store_support::sim::{Call, Fault, Random, SimStorage};
use store_support::{Bench, Tokens, clock, options, pair, patiently, root, wait};

const PATIENCE: Duration = Duration::from_secs(60);

fn open(storage: Arc<dyn mintage::store::Storage>, clock: &Arc<ManualClock>) -> DurableStore {
    let home = Arc::new(MemoryCheckpointHome::default());
    let options = options(clock).segment_len(2 * 1024 * 1024);
    DurableStore::open_on(storage, home, &root(), options).unwrap()
}

fn ask(bench: &Bench<'_, DurableStore>, subject: u64) -> (Ticket<Outcome>, Tokens) {
    let here = pair("app", &format!("user{subject}"));
    let admission = bench.store.admission();
    let (verb, tokens) = bench.issue_verb(&here, PairPolicy::Unlimited, false, admission);
    (bench.store.apply(verb), tokens)
}

#[test]
fn full_groups_go_to_the_disk_with_one_sync() {
    let clock = clock();
    let storage = GatedStorage::default();
    let store = open(Arc::new(storage.clone()), &clock);
    let bench = Bench { store: &store, clock: &clock };
    // Grants and families are there already.
    for subject in 0..8 {
        ask(&bench, subject).0.wait().unwrap();
    }
    let before = store.stats();
    let held = storage.hold();
    let first = ask(&bench, 0).0;
    storage.wait_for_sync();
    // More than two groups of 256 KiB, of 128 bytes each, while the first is on its way.
    let tickets: Vec<_> = (0..5_000).map(|n| ask(&bench, n % 8).0).collect();
    assert_eq!(store.stats().durable, before.durable, "nothing is durable before its sync");
    storage.let_one_through();
    first.wait().unwrap();
    drop(held);
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    let after = store.stats();
    let by = |count: fn(&Stats) -> u64| count(&after) - count(&before);
    assert_eq!(by(|s| s.records), 5_001);
    assert_eq!(by(|s| s.groups), 1 + 3, "groups are packed full");
    assert_eq!(by(|s| s.syncs), 1 + 1, "what waits goes to the disk at once");
    store.close().unwrap();
}

#[test]
fn threads_and_tasks_that_wait_are_all_answered() {
    const EACH: u64 = 20;
    let clock = clock();
    let store = open(Arc::new(SimStorage::default()), &clock);
    let answered = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for n in 0..48 {
            let (store, clock, answered) = (&store, &clock, &answered);
            scope.spawn(move || {
                let bench = Bench { store, clock };
                for _ in 0..EACH {
                    let mut asked = None;
                    let answer = patiently(|| {
                        let (ticket, tokens) = ask(&bench, n);
                        asked = Some(tokens);
                        if n % 3 == 0 { wait(ticket) } else { ticket.wait() }
                    });
                    answer.unwrap();
                    let tokens = asked.unwrap();
                    assert!(bench.is_live(tokens.access), "what is acknowledged is seen");
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(answered.load(Ordering::SeqCst), 48 * EACH);
    let stats = store.stats();
    assert!(stats.syncs <= stats.groups && stats.groups <= stats.records);
    store.close().unwrap();
}

/// Counts how often it is woken.
#[derive(Default)]
struct Bell(AtomicU64);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn the_task_that_polled_last_is_woken_and_no_other_often() {
    let clock = clock();
    let storage = GatedStorage::default();
    let store = open(Arc::new(storage.clone()), &clock);
    let bench = Bench { store: &store, clock: &clock };
    ask(&bench, 0).0.wait().unwrap();
    let held = storage.hold();
    let mut ticket = ask(&bench, 0).0;
    let bells: Vec<Arc<Bell>> = (0..3).map(|_| Arc::default()).collect();
    for bell in &bells {
        for _ in 0..1_000 {
            let waker = Waker::from(Arc::clone(bell));
            let polled = Pin::new(&mut ticket).poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
        }
    }
    drop(held);
    let begun = Instant::now();
    while bells[2].0.load(Ordering::SeqCst) == 0 {
        assert!(begun.elapsed() < PATIENCE, "nobody was woken");
        std::thread::yield_now();
    }
    let rung: Vec<u64> = bells.iter().map(|bell| bell.0.load(Ordering::SeqCst)).collect();
    assert_eq!(rung, [0, 0, 1]);
    let polled = Pin::new(&mut ticket).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Ready(Ok(_))));
    store.close().unwrap();
}

/// After a thread that waited has written by itself, the next unit is left to it: whatever becomes of
/// that ticket, the unit is committed.
#[test]
fn a_unit_whose_ticket_nobody_waits_for_is_committed() {
    let clock = clock();
    let store = open(Arc::new(SimStorage::default()), &clock);
    let bench = Bench { store: &store, clock: &clock };
    let is_committed = |what: &str, tokens: Tokens| {
        let begun = Instant::now();
        while !bench.is_live(tokens.access) {
            assert!(begun.elapsed() < PATIENCE, "a {what} ticket");
            std::thread::yield_now();
        }
    };
    for _ in 0..50 {
        ask(&bench, 0).0.wait().unwrap();
        let (ticket, tokens) = ask(&bench, 0);
        is_committed("held", tokens);
        ticket.wait().unwrap();

        ask(&bench, 0).0.wait().unwrap();
        let (ticket, tokens) = ask(&bench, 0);
        drop(ticket);
        is_committed("dropped", tokens);

        ask(&bench, 0).0.wait().unwrap();
        let (ticket, tokens) = ask(&bench, 0);
        let mapped = ticket.and_then(|answer| answer.map(|_| ()));
        is_committed("mapped", tokens);
        let answer: Result<(), StoreError> = mapped.wait();
        answer.unwrap();

        ask(&bench, 0).0.wait().unwrap();
        let (mut ticket, tokens) = ask(&bench, 0);
        let _ = Pin::new(&mut ticket).poll(&mut Context::from_waker(Waker::noop()));
        is_committed("polled", tokens);
    }
    store.close().unwrap();
}

/// Many units of one caller wake the writer once, when all are there, and reach the disk with one sync.
#[test]
fn a_batch_goes_to_the_disk_together() {
    const ATTEMPTS: u64 = 6;
    let clock = clock();
    let store = open(Arc::new(SimStorage::default()), &clock);
    let bench = Bench { store: &store, clock: &clock };
    let mut together = 0;
    for _ in 0..ATTEMPTS {
        ask(&bench, 0).0.wait().unwrap();
        // The writer seals, and sleeps.
        std::thread::sleep(Duration::from_millis(100));
        let before = store.stats();
        let issues = (0..1_500).map(|_| {
            let admission = store.admission();
            let here = pair("app", "user0");
            match bench.issue_verb(&here, PairPolicy::Unlimited, false, admission).0 {
                mintage::store::Verb::Issue(issue) => *issue,
                other => panic!("{other:?}"),
            }
        });
        let answers = store.issue_many(issues.collect()).wait();
        assert!(answers.iter().all(Result::is_ok) && answers.len() == 1_500);
        let after = store.stats();
        assert_eq!(after.records - before.records, 1_500);
        together += u64::from(after.syncs - before.syncs == 1);
    }
    // A writer that was kept from the processor for so long may yet come in between.
    assert!(together + 1 >= ATTEMPTS, "{together} of {ATTEMPTS}");
    store.close().unwrap();
}

/// While a thread that leads is at the disk, the writer does not keep the disk busy with seals.
#[test]
fn nothing_is_sealed_during_a_write() {
    let clock = clock();
    let storage = GatedStorage::default();
    let store = open(Arc::new(storage.clone()), &clock);
    let bench = Bench { store: &store, clock: &clock };
    // The keeper makes segments ready.
    std::thread::sleep(Duration::from_millis(200));
    std::thread::scope(|scope| {
        // Soon this thread leads, and so does the next.
        (0..50).for_each(|_| drop(ask(&bench, 0).0.wait().unwrap()));
        let held = storage.hold();
        let leader = scope.spawn(|| {
            let bench = Bench { store: &store, clock: &clock };
            ask(&bench, 0).0.wait().unwrap()
        });
        storage.wait_for_sync();
        // A seal that had begun ends.
        std::thread::sleep(Duration::from_millis(20));
        let before = storage.seals();
        std::thread::sleep(Duration::from_millis(200));
        // The keeper may still have had something.
        assert!(storage.seals() - before < 5, "{} seals", storage.seals() - before);
        drop(held);
        leader.join().unwrap();
    });
    store.close().unwrap();
}

/// The sync of a write of several groups fails; the system forgets that their pages were to be written
/// and shows them all the same. What the next run finds there is on the disk before it goes on.
#[test]
fn all_groups_of_a_write_whose_sync_failed_are_written_again() {
    let clock = clock();
    let storage = GatedStorage::default();
    let disk = storage.disk.clone();
    let store = open(Arc::new(storage.clone()), &clock);
    let bench = Bench { store: &store, clock: &clock };
    for subject in 0..8 {
        ask(&bench, subject).0.wait().unwrap();
    }
    let held = storage.hold();
    let first = ask(&bench, 0).0;
    storage.wait_for_sync();
    // More than two groups.
    let asked: Vec<_> = (0..5_000).map(|n| ask(&bench, n % 8)).collect();
    storage.let_one_through();
    first.wait().unwrap();
    storage.wait_for_sync();
    let kind = std::io::ErrorKind::Other;
    disk.set_fault(Some(Fault { call: Call::Sync, nth: 1, for_good: true, kind, short: false }));
    drop(held);
    let mut found = Vec::new();
    for (ticket, tokens) in asked {
        assert!(matches!(ticket.wait(), Err(StoreError::Unknown(_))));
        found.push(tokens.access);
    }
    let _ = store.close();
    drop(store);
    disk.set_fault(None);

    let store = open(Arc::new(disk.clone()), &clock);
    let bench = Bench { store: &store, clock: &clock };
    assert!(found.iter().all(|access| bench.is_live(*access)));
    found.push(
        patiently(|| {
            let (ticket, tokens) = ask(&bench, 0);
            ticket.wait().map(|_| tokens.access)
        })
        .unwrap(),
    );
    for seed in 0..8 {
        let cut = disk.copy().cut_power(&mut Random::new(seed));
        let store = open(Arc::new(cut), &clock);
        let bench = Bench { store: &store, clock: &clock };
        assert!(found.iter().all(|access| bench.is_live(*access)), "seed {seed}");
        store.close().unwrap();
    }
    store.close().unwrap();
}
