//! Power cuts on real file systems: a mount is shut down by the kernel, which drops the page cache
//! and the journal's tail, at random moments and at the n-th call to the file system, then mounted
//! again. Half of the stores are new; half are full, and work with all their files at a steady size:
//! survivors are rewritten, segments dropped, tokens expire and leave the checkpoint, at full rate.
//!
//! Needs root, loop devices, `mkfs` and a C compiler; where they are missing the test says so loudly
//! and does nothing. `MINTAGE_CUTS` sets how many cuts per file system (default 40),
//! `MINTAGE_CUTS_FS` which ones (default `ext4,xfs`), `MINTAGE_CRASH_CAMPAIGN` the seed.

mod crash_support;
mod store_support;

use std::cell::Cell;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crash_support::mount::Mount;
use crash_support::shim::{ANY, Fault, LOG, Library, SLED, SYNC, WRITE};
use crash_support::{
    Job, Ledger, child, first_segment, harm_checkpoint, open, prefill, progress, quiet_engine,
    rounds, say, verdict, work_if_child,
};
use mintage::time::ManualClock;
use store_support::TempDir;
use store_support::sim::Random;

/// Cuts of one store before the next is begun.
const CUTS_OF_ONE: u64 = 25;
const FAMILIES: u64 = 500;

/// Not a test of its own: the parent runs it as the child.
#[test]
fn child_process() {
    work_if_child();
}

#[derive(Debug, Default)]
struct Figures {
    random: u64,
    at_call: u64,
    steady: u64,
    opening: u64,
    dropped: u64,
    acknowledged: u64,
}

fn campaign(kind: &str, cuts: u64, seed: u64) -> Result<Figures, String> {
    let (mount, library) = (Mount::make(kind)?, Library::compile()?);
    let mut random = Random::new(seed);
    let data = mount.at.join("data");
    let older = TempDir::fast("power-older");
    let mut figures = Figures::default();
    let mut done = 0;
    let mut is_steady = false;
    while done < cuts {
        is_steady = !is_steady;
        let mut ledger = Ledger::new(random.next());
        let _ = fs::remove_dir_all(&data);
        if is_steady {
            let clock = Arc::new(ManualClock::at(ledger.now));
            let store = open(&data, &clock).unwrap();
            prefill(&store, &clock, FAMILIES, &mut ledger);
            store.close().unwrap();
        }
        let of_one = CUTS_OF_ONE.min(cuts.div_ceil(2));
        let before = first_segment(&data);
        for _ in 0..of_one.min(cuts - done) {
            let job = Job {
                operations: 20 + random.below(400),
                workers: 1 + random.below(3),
                step_secs: if is_steady { 15 } else { 0 },
                closes: random.one_in(4),
            };
            let nth_max = if random.one_in(2) { 80 } else { 600 };
            let calls = if random.one_in(2) { ANY } else { SYNC | WRITE };
            let mut shim = library.shim(calls, 1 + random.below(nth_max), Fault::Cut).on(&mount.at);
            shim.files = [LOG, SLED, LOG | SLED][usize::try_from(random.below(3)).unwrap()];
            let shim = random.one_in(2).then_some(shim);
            let life = if shim.is_some() { 200 } else { 1 + random.below(150) };
            let life = Duration::from_millis(life);
            let is_cut = Cell::new(false);
            // It fails where the shim was faster.
            let cut = || is_cut.set(mount.cut().is_ok());
            let ended = child::run(&data, job, shim.as_ref(), Some(life), &mut ledger, cut);
            if !ended.struck && !is_cut.get() {
                // It ended by itself: the power goes now.
                mount.cut().unwrap();
            }
            mount.remount()?;
            if let Some(wrong) = ended.wrong.first() {
                panic!("{kind}, cut {done}: {wrong}");
            }
            let was_harmed = harm_checkpoint(&data, &older.path().join("sled"), &mut random);
            if let Err(wrong) = verdict(&data, &mut ledger, was_harmed) {
                let kept = TempDir::fast("power-broken").keep();
                store_support::copy_dir(&data, &kept);
                panic!("{kind}, cut {done}: {wrong}; what is left is in {}", kept.display());
            }
            let kind_of = if ended.struck { &mut figures.at_call } else { &mut figures.random };
            *kind_of += 1;
            figures.steady += u64::from(is_steady);
            figures.opening += u64::from(!ended.opened);
            done += 1;
            progress(kind, done, cuts);
        }
        if is_steady {
            figures.dropped += first_segment(&data).saturating_sub(before);
        }
        figures.acknowledged += ledger.acknowledged;
    }
    Ok(figures)
}

#[test]
fn acknowledged_survives_power_cuts() {
    quiet_engine();
    let kinds = std::env::var("MINTAGE_CUTS_FS").unwrap_or_else(|_| "ext4,xfs".to_owned());
    let cuts = rounds("MINTAGE_CUTS", 40);
    let seed = rounds("MINTAGE_CRASH_CAMPAIGN", 1);
    std::thread::scope(|scope| {
        for kind in kinds.split(',') {
            scope.spawn(move || {
                let begun = Instant::now();
                match campaign(kind, cuts, seed) {
                    Err(reason) => {
                        say(&format!("SKIPPED, power cuts of {kind} were NOT tested: {reason}"));
                        say(&format!("they need root, loop devices, mkfs.{kind} and cc"));
                    }
                    Ok(figures) => {
                        let secs = begun.elapsed().as_secs();
                        let Figures { random, at_call, steady, opening, dropped, acknowledged } =
                            figures;
                        say(&format!(
                            "{kind}: {} cuts, {random} at random and {at_call} at a call, {opening} \
                             while opening, {steady} of stores at a steady size that dropped \
                             {dropped} segments, {acknowledged} acknowledged operations, \
                             0 promises broken, {secs} s",
                            random + at_call
                        ));
                        assert!(acknowledged > cuts, "the children did next to nothing");
                    }
                }
            });
        }
    });
}
