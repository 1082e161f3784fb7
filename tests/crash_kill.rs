//! kill -9 at random moments and at the n-th call to the file system: while a store is made, opened,
//! rebuilt from its log, worked on, cleaned and closed; up to three times in a row before anybody
//! looks. In between, sled's files are deleted, shortened or replaced by older ones.
//!
//! `MINTAGE_KILLS` sets how many kills (default 300), `MINTAGE_CRASH_CAMPAIGN` the seed. Kills at a
//! call need a C compiler; where it is missing they are left out, loudly.

mod crash_support;
mod store_support;

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crash_support::shim::{ANY, Fault, Library};
use crash_support::{
    Job, Ledger, Template, child, first_segment, harm_checkpoint, progress, quiet_engine, rounds,
    say, verdict, work_if_child,
};
use store_support::TempDir;
use store_support::sim::Random;

const LANES: u64 = 2;
/// Kills of one store before the next is begun.
const KILLS_OF_ONE: u64 = 12;

/// Not a test of its own: the parent runs it as the child.
#[test]
fn child_process() {
    work_if_child();
}

#[derive(Default)]
struct Figures {
    random: AtomicU64,
    at_call: AtomicU64,
    opening: AtomicU64,
    acknowledged: AtomicU64,
    checks: AtomicU64,
    dropped: AtomicU64,
}

impl Figures {
    fn kills(&self) -> u64 {
        self.random.load(Ordering::SeqCst) + self.at_call.load(Ordering::SeqCst)
    }
}

struct Campaign<'a> {
    kills: u64,
    library: Option<&'a Library>,
    small: &'a Template,
    steady: &'a Template,
    figures: &'a Figures,
}

impl Campaign<'_> {
    fn lane(&self, mut random: Random) {
        while self.figures.kills() < self.kills {
            let seed = random.next();
            if let Err(wrong) = self.one_store(seed) {
                panic!("store of seed {seed}: {wrong}");
            }
        }
    }

    /// Kills children on one store again and again.
    fn one_store(&self, seed: u64) -> Result<(), String> {
        let mut random = Random::new(seed);
        let (dir, older) = (TempDir::fast("kill"), TempDir::fast("kill-older"));
        let data = dir.path().join("data");
        let older = older.path().join("sled");
        let (mut ledger, step_secs) = match random.below(3) {
            0 => (Ledger::new(seed), 0),
            1 => (self.small.copy_to(&data), 0),
            _ => (self.steady.copy_to(&data), 20),
        };
        let mut killed = 0;
        let first = first_segment(&data);
        while killed < KILLS_OF_ONE && self.figures.kills() < self.kills {
            let in_a_row = if random.one_in(2) { 1 } else { 1 + random.below(3) };
            for _ in 0..in_a_row {
                killed += u64::from(self.kill_one(&data, step_secs, &mut ledger, &mut random)?);
            }
            let was_harmed = harm_checkpoint(&data, &older, &mut random);
            self.figures.checks.fetch_add(1, Ordering::SeqCst);
            if let Err(wrong) = verdict(&data, &mut ledger, was_harmed) {
                return Err(format!("{wrong}; what is left is in {}", dir.keep().display()));
            }
        }
        let dropped = first_segment(&data).saturating_sub(first.max(1));
        self.figures.dropped.fetch_add(dropped, Ordering::SeqCst);
        self.figures.acknowledged.fetch_add(ledger.acknowledged, Ordering::SeqCst);
        Ok(())
    }

    fn kill_one(
        &self,
        data: &std::path::Path,
        step_secs: u64,
        ledger: &mut Ledger,
        random: &mut Random,
    ) -> Result<bool, String> {
        if random.one_in(5) {
            // The child will build sled anew.
            let _ = fs::remove_dir_all(data.join("sled"));
        }
        let job = Job {
            operations: 1 + random.below(150),
            workers: 1 + random.below(3),
            step_secs,
            closes: random.one_in(2),
        };
        // Many lives have no more calls than it takes to open.
        let nth_max = if random.one_in(2) { 60 } else { 400 };
        let nth = 1 + random.below(nth_max);
        let at_call = self.library.filter(|_| random.one_in(2));
        let shim = at_call.map(|library| library.shim(ANY, nth, Fault::Kill));
        let life = Duration::from_micros(random.below(60_000));
        let life = if shim.is_some() { Duration::from_millis(400) } else { life };
        let ended = child::run(data, job, shim.as_ref(), Some(life), ledger, || ());
        if let Some(wrong) = ended.wrong.first() {
            return Err(wrong.clone());
        }
        if ended.killed {
            let figures = self.figures;
            let kind = if ended.struck { &figures.at_call } else { &figures.random };
            kind.fetch_add(1, Ordering::SeqCst);
            figures.opening.fetch_add(u64::from(!ended.opened), Ordering::SeqCst);
            progress("kills", figures.kills(), self.kills);
        }
        Ok(ended.killed)
    }
}

#[test]
fn acknowledged_survives_kill_dash_nine() {
    let begun = Instant::now();
    quiet_engine();
    let library = Library::compile();
    if let Err(reason) = &library {
        say(&format!("SKIPPED, kills at a call were NOT tested: {reason}"));
    }
    let seed = rounds("MINTAGE_CRASH_CAMPAIGN", 1);
    let figures = Figures::default();
    let campaign = Campaign {
        kills: rounds("MINTAGE_KILLS", 300),
        library: library.as_ref().ok(),
        small: &Template::new(40, seed),
        steady: &Template::new(700, seed + 1),
        figures: &figures,
    };
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            let campaign = &campaign;
            scope.spawn(move || campaign.lane(Random::new(seed * LANES + lane)));
        }
    });
    let count = |figure: &AtomicU64| figure.load(Ordering::SeqCst);
    say(&format!(
        "{} kills, {} at random and {} at a call, {} of them while opening, {} checks, \
         {} segments dropped, {} acknowledged operations, 0 promises broken, {} s",
        figures.kills(),
        count(&figures.random),
        count(&figures.at_call),
        count(&figures.opening),
        count(&figures.checks),
        count(&figures.dropped),
        count(&figures.acknowledged),
        begun.elapsed().as_secs()
    ));
    assert!(count(&figures.acknowledged) > figures.kills(), "the children did next to nothing");
    assert!(count(&figures.at_call) > 0 || library.is_err(), "nothing was killed at a call");
}
