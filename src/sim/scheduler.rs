//! Who runs next: at random, or by priorities that change now and then (PCT), as the seed says.

use std::cell::Cell;
use std::ops::Range;
use std::time::Duration;

use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};

use super::{RUN, Run, with};

/// Steps after which a world is taken to hang.
const STEPS_MAX: usize = 2_000_000;
const STACK_LEN: usize = 512 * 1024;
/// What a step takes in simulated time.
const STEP: Duration = Duration::from_micros(1);

thread_local! {
    static SEED: Cell<u64> = const { Cell::new(0) };
}

/// A small generator of random numbers whose whole state is a seed.
pub(super) struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0xD134_2543_DE82_EF95) ^ 0x9E37_79B9_7F4A_7C15)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// How many of the places where a switch is possible are taken into account.
#[derive(Clone, Copy, Debug)]
pub enum Density {
    /// Locks and channels, all or one in a few as the seed says: whole worlds.
    Coarse,
    /// Every lock, channel and counter: pure concurrency.
    Fine,
}

/// Runs `world` once for every seed of `seeds`, as the first task of a simulation of its own. A
/// panic of any task ends all; [`seed`] says at which seed.
///
/// # Panics
/// With what a task panicked, and when all of them wait for each other.
pub fn run(seeds: Range<u64>, density: Density, world: impl Fn(u64) + Send + Sync + 'static) {
    let mut config = shuttle::Config::new();
    config.stack_size = STACK_LEN;
    config.failure_persistence = shuttle::FailurePersistence::None;
    config.max_steps = shuttle::MaxSteps::FailAfter(STEPS_MAX);
    config.silence_warnings = true;
    let seeded =
        Seeded { seeds, density, random: Random::new(0), policy: Policy::Random { stay: 0 } };
    shuttle::Runner::new(seeded, config).run(move || world(seed()));
    RUN.with(|run| run.take());
}

/// The seed that this thread of the machine simulates, or simulated last.
pub fn seed() -> u64 {
    SEED.get()
}

/// A scheduler that begins a run for every seed of a range.
struct Seeded {
    seeds: Range<u64>,
    density: Density,
    random: Random,
    policy: Policy,
}

enum Policy {
    /// Any task; the one that runs goes on in `stay` of `stay + 1` cases.
    Random { stay: u64 },
    /// The task of the highest priority; now and then the one that runs gets the lowest.
    Priorities { of: Vec<u64>, lowest: u64, change_one_in: u64 },
}

impl Scheduler for Seeded {
    fn new_execution(&mut self) -> Option<Schedule> {
        let seed = self.seeds.next()?;
        SEED.set(seed);
        let mut random = Random::new(seed);
        let coarse = [1, 2, 4, 8, 16, 32];
        let pick = |random: &mut Random| {
            coarse.get(usize::try_from(random.below(6)).unwrap_or(0)).copied().unwrap_or(1)
        };
        let (locks, atomics) = match self.density {
            Density::Coarse => (pick(&mut random), 0),
            Density::Fine => (1, 1),
        };
        self.policy = match random.below(3) {
            0 => Policy::Random { stay: 0 },
            1 => Policy::Random { stay: pick(&mut random) },
            _ => Policy::Priorities {
                of: Vec::new(),
                lowest: 0,
                change_one_in: 20 * pick(&mut random) * pick(&mut random),
            },
        };
        self.random = Random::new(random.next());
        let state = Run {
            locks,
            atomics,
            random: Random::new(random.next()),
            now: Duration::ZERO,
            timed: std::collections::BTreeMap::new(),
        };
        RUN.with(|run| run.replace(Some(state)));
        Some(Schedule::new(seed))
    }

    fn next_task(
        &mut self,
        listed: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        // Parked tasks are listed too: nobody is woken for nothing here.
        let runnable = || listed.iter().filter(|t| t.runnable()).map(|t| usize::from(t.id()));
        let chosen = with(|run| {
            run.now += STEP;
            let is_timed = |id: &usize| run.timed.contains_key(id);
            let ready: Vec<usize> = runnable().filter(|id| !is_timed(id)).collect();
            let timed = run.timed.iter().filter(|(id, _)| runnable().any(|other| other == **id));
            let first = timed.min_by_key(|(id, at)| (**at, **id)).map(|(id, at)| (*id, *at));
            if let Some((id, at)) = first
                && (ready.is_empty() || at <= run.now || self.random.below(256) == 0)
            {
                // Its moment has come, or comes before anything else does.
                return Some(id);
            }
            self.policy.choose(&ready, current.map(usize::from), is_yielding, &mut self.random)
        });
        let chosen = chosen.flatten();
        chosen.or_else(|| runnable().next()).map(TaskId::from)
    }

    fn next_u64(&mut self) -> u64 {
        self.random.next()
    }
}

impl Policy {
    fn choose(
        &mut self,
        ready: &[usize],
        current: Option<usize>,
        is_yielding: bool,
        random: &mut Random,
    ) -> Option<usize> {
        let current = current.filter(|id| ready.contains(id));
        match self {
            Policy::Random { stay } => {
                if let Some(current) = current
                    && !is_yielding
                    && *stay > 0
                    && random.below(*stay + 1) > 0
                {
                    return Some(current);
                }
                let n = random.below(u64::try_from(ready.len()).unwrap_or(1).max(1));
                ready.get(usize::try_from(n).unwrap_or(0)).copied()
            }
            Policy::Priorities { of, lowest, change_one_in } => {
                if let Some(last) = ready.iter().max()
                    && of.len() <= *last
                {
                    of.resize_with(*last + 1, || random.next() >> 1);
                }
                if let Some(current) = current
                    && (is_yielding || random.below(*change_one_in) == 0)
                    && let Some(priority) = of.get_mut(current)
                {
                    // Counted from the far end, so that later ones are lower still.
                    *lowest += 1;
                    *priority = u64::MAX / 2 + *lowest;
                }
                ready.iter().copied().min_by_key(|id| of.get(*id).copied().unwrap_or(0))
            }
        }
    }
}
