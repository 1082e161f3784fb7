//! Full disks: a file system is filled until a store finds no room, at a place drawn at random, and
//! given room again, under the open store or while it is closed.
//!
//! Needs root, loop devices, `mkfs` and a C compiler; where they are missing the test says so loudly
//! and does nothing. `MINTAGE_FULL_DISKS` sets how often each file system is filled (default 4),
//! `MINTAGE_CRASH_CAMPAIGN` the seed.

mod crash_support;
mod store_support;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crash_support::mount::Mount;
use crash_support::{Ledger, open, prefill, progress, quiet_engine, rounds, say, verdict};
use mintage::store::{DurableStore, Store as _, StoreError};
use mintage::time::ManualClock;
use store_support::sim::Random;

/// Room that a full disk still has, at most.
const ROOM_MAX: u64 = 3 * 1024 * 1024;
/// Births that nobody answers for so long are refused for good.
const REFUSED_FOR: Duration = Duration::from_secs(1);
const WORKS_AGAIN_WITHIN: Duration = Duration::from_secs(30);

/// What takes the room.
struct Filler(PathBuf);

impl Filler {
    /// Leaves so many bytes, or as near to that as the file system can.
    fn fill(at: &Path, room: u64) -> io::Result<Filler> {
        let path = at.join("filler");
        let mut file = File::create(&path)?;
        let chunk = vec![1; 256 * 1024];
        let full = loop {
            if let Err(error) = file.write_all(&chunk) {
                break error;
            }
        };
        if full.kind() != io::ErrorKind::StorageFull {
            return Err(full);
        }
        let len = file.metadata()?.len();
        file.set_len(len.saturating_sub(room))?;
        file.sync_all()?;
        Ok(Filler(path))
    }

    fn remove(self) -> io::Result<()> {
        fs::remove_file(self.0)
    }
}

#[derive(Debug, Default)]
struct Figures {
    acknowledged: u64,
    refused: u64,
    read_only: u64,
    opened_full: u64,
}

/// Births until they are refused; then a redeem and a revocation, which have room of their own.
fn work(
    store: &DurableStore,
    clock: &ManualClock,
    round: u64,
    ledger: &mut Ledger,
    figures: &mut Figures,
) {
    let mut answered = Instant::now();
    let mut last = None;
    for n in 0.. {
        let name = format!("full-{round}-{n}");
        match ledger.try_issue(store, clock, &name) {
            Ok(()) => {
                figures.acknowledged += 1;
                (answered, last) = (Instant::now(), Some(name));
            }
            Err(StoreError::Busy) if answered.elapsed() < REFUSED_FOR => std::thread::yield_now(),
            Err(StoreError::Busy | StoreError::ReadOnly | StoreError::Io { .. }) => break,
            Err(error) => panic!("a full disk is {error:?}"),
        }
    }
    figures.refused += 1;
    figures.read_only += u64::from(store.stats().read_only);
    let Some(name) = last else { return };
    for answer in [ledger.try_redeem(store, clock, &name), ledger.revoke(store, clock, &name)] {
        match answer {
            Ok(()) => figures.acknowledged += 1,
            Err(StoreError::Busy | StoreError::ReadOnly | StoreError::Io { .. }) => return,
            Err(error) => panic!("a full disk is {error:?}"),
        }
    }
}

/// There is room again: an open store takes births again, without being opened again, unless it said
/// that it will not.
fn works_again(store: &DurableStore, clock: &ManualClock, ledger: &mut Ledger, name: &str) {
    let begun = Instant::now();
    loop {
        match ledger.try_issue(store, clock, name) {
            Ok(()) => return,
            Err(StoreError::ReadOnly | StoreError::Io { .. }) if store.stats().read_only => return,
            Err(StoreError::Busy) if begun.elapsed() < WORKS_AGAIN_WITHIN => {
                std::thread::yield_now();
            }
            Err(error) => panic!("there is room, and {error:?}: {:?}", store.stats()),
        }
    }
}

fn campaign(kind: &str, times: u64, seed: u64) -> Result<Figures, String> {
    let mount = Mount::make(kind)?;
    let mut random = Random::new(seed);
    let data = mount.at.join("data");
    let mut figures = Figures::default();
    for round in 0..times {
        let _ = fs::remove_dir_all(&data);
        let mut ledger = Ledger::new(random.next());
        let clock = Arc::new(ManualClock::at(ledger.now));
        let store = open(&data, &clock).unwrap();
        prefill(&store, &clock, 100, &mut ledger);
        let filler = Filler::fill(&mount.at, random.below(ROOM_MAX)).unwrap();
        work(&store, &clock, round, &mut ledger, &mut figures);
        if random.one_in(2) {
            filler.remove().unwrap();
            works_again(&store, &clock, &mut ledger, &format!("again-{round}"));
            let _ = store.close();
        } else {
            let _ = store.close();
            drop(store);
            ledger.ended();
            match open(&data, &ledger.later()) {
                Ok(_) => figures.opened_full += 1,
                Err(StoreError::Io { .. }) => {}
                Err(error) => panic!("{kind}, {round}: opened on a full disk it is {error:?}"),
            }
            filler.remove().unwrap();
        }
        ledger.ended();
        if let Err(wrong) = verdict(&data, &mut ledger, true) {
            panic!("{kind}, {round}: {wrong}");
        }
        progress(kind, round + 1, times);
    }
    Ok(figures)
}

#[test]
fn acknowledged_survives_a_full_disk() {
    quiet_engine();
    let times = rounds("MINTAGE_FULL_DISKS", 4);
    let seed = rounds("MINTAGE_CRASH_CAMPAIGN", 1);
    for kind in ["ext4", "xfs"] {
        let begun = Instant::now();
        match campaign(kind, times, seed) {
            Err(reason) => {
                say(&format!("SKIPPED, full disks of {kind} were NOT tested: {reason}"));
                say(&format!("they need root, loop devices, mkfs.{kind} and cc"));
            }
            Ok(Figures { acknowledged, refused, read_only, opened_full }) => {
                say(&format!(
                    "{kind}: {refused} full disks, {read_only} stores read-only, {opened_full} \
                     opened while full, {acknowledged} acknowledged operations, 0 \
                     promises broken, {} s",
                    begun.elapsed().as_secs()
                ));
                assert!(refused == times && acknowledged > times);
            }
        }
    }
}
