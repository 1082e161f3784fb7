//! Every bit and every length: a store whose log or superblock is damaged says `Corrupt`, or answers
//! everything as before. Nothing that was sealed is lost in silence.
//!
//! `MINTAGE_BITS_EVERY` sets how far apart the bits and lengths are that are tried (default 97; 16 in
//! `.ci/run`, 1 in `.ci/full bits`).
#![allow(clippy::print_stdout)]

mod store_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mintage::store::{
    DurableStore, MemoryCheckpointHome, PairPolicy, RedeemOutcome, Store, StoreError, Target,
    Ticket,
};
use mintage::time::ManualClock;
use store_support::sim::SimStorage;
use store_support::{Access, Bench, Refresh, clock, options, pair, root};

const LOG_LEN: usize = 16 * 1024;
const BLOCK: usize = 4_096;
const SEGMENT: &str = "0000000000000001.log";
const WORKERS: usize = 4;

/// What the store was told, and what it must say.
#[derive(Default)]
struct Told {
    live: Vec<Access>,
    dead: Vec<Access>,
    redeemable: Vec<Refresh>,
    spent: Vec<Refresh>,
}

impl Told {
    fn check(&self, store: &DurableStore, clock: &ManualClock, when: &str) {
        let bench = Bench { store, clock };
        assert!(self.live.iter().all(|access| bench.is_live(*access)), "{when}: lost");
        assert!(!self.dead.iter().any(|access| bench.is_live(*access)), "{when}: revived");
        assert!(self.redeemable.iter().all(|r| bench.is_redeemable(*r)), "{when}: lost");
        assert!(!self.spent.iter().any(|r| bench.is_redeemable(*r)), "{when}: spent and live");
    }
}

fn every() -> usize {
    std::env::var("MINTAGE_BITS_EVERY").ok().and_then(|n| n.parse().ok()).unwrap_or(97)
}

fn open(storage: &SimStorage, clock: &Arc<ManualClock>) -> Result<DurableStore, StoreError> {
    let home = Arc::new(MemoryCheckpointHome::default());
    DurableStore::open_on(Arc::new(storage.clone()), home, &root(), options(clock))
}

/// Births in groups, a redeem, a kill: a log of 16 KiB that is used to its end. How many groups the
/// births gather to is up to the threads: it is done again until they fit.
fn full_log(clock: &Arc<ManualClock>) -> (SimStorage, DurableStore, Told) {
    for _ in 0..10_000 {
        let made = a_log(clock);
        let used = used(&made.0);
        if used > LOG_LEN - BLOCK && used <= LOG_LEN {
            return made;
        }
    }
    panic!("the groups never gathered to a log of {LOG_LEN} bytes");
}

fn a_log(clock: &Arc<ManualClock>) -> (SimStorage, DurableStore, Told) {
    let storage = SimStorage::new();
    let store = open(&storage, clock).unwrap();
    let bench = Bench { store: &store, clock };
    let mut told = Told::default();
    let here = |n: usize| pair("reports", &format!("user-{n}"));
    let mut births: Vec<(Ticket<_>, _)> = Vec::new();
    for n in 0..4 {
        let admission = store.admission();
        let (verb, tokens) = bench.issue_verb(&here(n), PairPolicy::Unlimited, true, admission);
        births.push((store.apply(verb), tokens));
    }
    for (n, (ticket, tokens)) in births.into_iter().enumerate() {
        ticket.wait().unwrap();
        let first = tokens.refresh.unwrap();
        match n {
            0 => {
                let (outcome, access, second) = bench.redeem(first);
                assert!(matches!(outcome, RedeemOutcome::Redeemed { .. }));
                told.live.extend([tokens.access, access]);
                told.redeemable.push(second);
                told.spent.push(first);
            }
            1 => {
                bench.revoke(Target::Subject(here(n).subject));
                told.dead.push(tokens.access);
                told.spent.push(first);
            }
            _ => (told.live.push(tokens.access), told.redeemable.push(first)).1,
        }
    }
    (storage, store, told)
}

fn used(storage: &SimStorage) -> usize {
    let mut used = 0;
    storage.damage(SEGMENT, |bytes| used = bytes.iter().rposition(|b| *b != 0).unwrap() + 1);
    used
}

/// Tries one harm after another and says how many were reported; the rest changed no answer.
fn try_all(
    storage: &SimStorage,
    (told, clock): (&Told, &Arc<ManualClock>),
    file: &str,
    harms: usize,
    harm: impl Fn(usize, &mut Vec<u8>) + Sync,
) -> (u64, u64) {
    let (reported, harmless) = (AtomicU64::new(0), AtomicU64::new(0));
    let every = every();
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (harm, reported, harmless) = (&harm, &reported, &harmless);
            scope.spawn(move || {
                for n in (worker..harms.div_ceil(every)).step_by(WORKERS) {
                    // Not always the same bit of a byte.
                    let at = (n * every + n % every).min(harms - 1);
                    let bent = storage.copy();
                    bent.damage(file, |bytes| harm(at, bytes));
                    match open(&bent, clock) {
                        Err(StoreError::Corrupt { .. }) => {
                            reported.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(other) => panic!("{file}, harm {at}: {other:?}"),
                        Ok(store) => {
                            told.check(&store, clock, &format!("{file}, harm {at}"));
                            harmless.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let (reported, harmless) = (reported.into_inner(), harmless.into_inner());
    println!(
        "{} harms of {harms} to {file}: {reported} reported, {harmless} changed no answer, 0 losses",
        reported + harmless
    );
    (reported, harmless)
}

fn flip(at: usize, bytes: &mut [u8]) {
    bytes[at / 8] ^= 1 << (at % 8);
}

#[test]
fn every_flipped_bit_of_a_sealed_log_is_reported_or_changes_nothing() {
    let clock = clock();
    let (storage, store, told) = full_log(&clock);
    store.close().unwrap();
    let used = used(&storage) * 8;
    let told = (&told, &clock);
    let (_, harmless) = try_all(&storage, told, SEGMENT, used, |at, bytes| flip(at, bytes));
    assert_eq!(harmless, 0, "a bit that the log does not look at");
    try_all(&storage, told, SEGMENT, LOG_LEN * 8, |at, bytes| flip(at, bytes));
}

#[test]
fn every_shorter_log_is_reported() {
    let clock = clock();
    let (storage, store, told) = full_log(&clock);
    store.close().unwrap();
    let told = (&told, &clock);
    let (_, harmless) = try_all(&storage, told, SEGMENT, LOG_LEN, |at, bytes| bytes.truncate(at));
    assert_eq!(harmless, 0, "a shorter segment was accepted");
    // A tail of zeros, as a file system leaves it that has the length and not the bytes.
    let used = used(&storage);
    let (_, harmless) = try_all(&storage, told, SEGMENT, used, |at, bytes| bytes[at..].fill(0));
    assert_eq!(harmless, 0, "a sealed tail may be missing");
}

/// Until the log is sealed nobody can tell a last group that is missing whole from one that was
/// never written; damage to a part of it is told all the same.
#[test]
fn every_flipped_bit_of_an_unsealed_tail_is_reported_or_changes_nothing() {
    let clock = clock();
    let (storage, store, told) = full_log(&clock);
    let storage = storage.kill();
    drop(store);
    // As the superblock was before the tail was sealed.
    storage.damage("superblock", |bytes| {
        for slot in bytes.chunks_mut(BLOCK) {
            if slot[..8] == *b"MINTAGE\x01" {
                slot[56..64].fill(0);
                let sum = blake3::hash(&slot[..BLOCK - 16]);
                slot[BLOCK - 16..].copy_from_slice(&sum.as_bytes()[..16]);
            }
        }
    });
    let used = used(&storage) * 8;
    try_all(&storage, (&told, &clock), SEGMENT, used, |at, bytes| flip(at, bytes));
}

#[test]
fn every_flipped_bit_and_length_of_the_superblock_is_reported_or_changes_nothing() {
    let clock = clock();
    let (storage, store, told) = full_log(&clock);
    store.close().unwrap();
    let told = (&told, &clock);
    let len = 2 * BLOCK;
    try_all(&storage, told, "superblock", len * 8, |at, bytes| flip(at, bytes));
    try_all(&storage, told, "superblock", len, |at, bytes| bytes.truncate(at));
}
