//! The simulation: worlds, and what runs them. Under `--cfg mintage_sim` every thread of a world is a
//! task that its seed schedules; without it they are real threads, and the seed decides the rest.
#![allow(dead_code, unreachable_pub, clippy::print_stderr)]

pub mod checkpoint;
pub mod world;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

#[cfg(mintage_sim)]
pub use mintage::sim::{Bug, spawn, yield_now};
#[cfg(not(mintage_sim))]
pub use std::thread::{spawn, yield_now};

/// Seeds that a thread takes at a time.
const TAKEN: u64 = 50;

/// A world that broke a promise.
#[derive(Clone, Debug)]
pub struct Failure {
    pub seed: u64,
    pub what: String,
}

/// What a campaign runs with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    #[cfg(mintage_sim)]
    pub bug: Option<Bug>,
    /// Every lock and counter is the place of a switch.
    pub is_fine: bool,
}

pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|n| n.parse().ok())
}

/// The seeds to run: one that is asked for, or so many as are asked for.
pub fn seeds(by_default: u64) -> Range<u64> {
    match number("MINTAGE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MINTAGE_SIM_SEEDS").unwrap_or(by_default),
    }
}

/// Runs `world` for all `seeds` on every core, and stops at the first failure.
pub fn campaign(
    seeds: Range<u64>,
    plan: Plan,
    world: impl Fn(u64) + Send + Sync + 'static,
) -> Result<(), Failure> {
    let world = Arc::new(world);
    let next = AtomicU64::new(seeds.start);
    let done = AtomicU64::new(0);
    let is_over = AtomicBool::new(false);
    let failure = Mutex::new(None);
    let began = Instant::now();
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let cores = number("MINTAGE_SIM_THREADS").unwrap_or(cores);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    let from = next.fetch_add(TAKEN, Ordering::SeqCst);
                    if from >= seeds.end {
                        return;
                    }
                    let to = (from + TAKEN).min(seeds.end);
                    if let Err(failed) = worlds(from..to, plan, &world) {
                        is_over.store(true, Ordering::SeqCst);
                        *failure.lock().unwrap() = Some(failed);
                    }
                    let all = done.fetch_add(to - from, Ordering::SeqCst) + to - from;
                    if all / 5_000 > (all - (to - from)) / 5_000 {
                        eprintln!("{all} seeds in {} s", began.elapsed().as_secs());
                    }
                }
            });
        }
    });
    failure.into_inner().unwrap().map_or(Ok(()), Err)
}

#[cfg(mintage_sim)]
fn worlds(
    seeds: Range<u64>,
    plan: Plan,
    world: &Arc<impl Fn(u64) + Send + Sync + 'static>,
) -> Result<(), Failure> {
    use mintage::sim::{Density, plant, run, seed};
    let world = Arc::clone(world);
    plant(plan.bug);
    let density = if plan.is_fine { Density::Fine } else { Density::Coarse };
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        run(seeds, density, move |seed| world(seed));
    }));
    plant(None);
    ran.map_err(|panic| Failure { seed: seed(), what: text(panic.as_ref()) })
}

#[cfg(not(mintage_sim))]
fn worlds(
    seeds: Range<u64>,
    _: Plan,
    world: &Arc<impl Fn(u64) + Send + Sync + 'static>,
) -> Result<(), Failure> {
    for seed in seeds {
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world(seed)));
        ran.map_err(|panic| Failure { seed, what: text(panic.as_ref()) })?;
    }
    Ok(())
}

fn text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
