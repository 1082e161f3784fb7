//! Issues for a minute, with everything that the store does behind them: the checkpoint follows,
//! tokens expire and are swept, and the log stays within its bound because survivors are rewritten.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mintage::store::{DurableStore, Store as _};
use mintage::time::ManualClock;

use super::engines::{Kind, MintageEngine};
use super::looped::{self, Row};
use super::report::{About, Report};

pub(crate) const WAITERS: usize = 256;
/// What the long run must hold of a short one.
const OF_SHORT_MIN: f64 = 0.7;
/// Seconds that pass on the store's clock in one: most tokens live two minutes, every sixteenth an
/// hour, so that segments have both to drop and to keep.
const SPEED: u64 = 60;
const LIFETIMES: [(u8, u64); 2] = [(1, 120), (6, 3_600)];

pub(crate) fn run(report: &mut Report, time: Duration, short: Duration) {
    let rate = short_rate(report, short);
    let mut engine = MintageEngine::<DurableStore>::new(Kind::Issue, WAITERS);
    engine.lifetimes = LIFETIMES;
    let store = engine.store.clone();
    let ends = Arc::new(AtomicBool::new(false));
    let clock = pass_time(Arc::clone(&engine.clock), Arc::clone(&ends));
    let round = looped::run(engine, Kind::Issue, "mintage", WAITERS, time);
    let stats = store.stats();
    ends.store(true, Ordering::SeqCst);
    clock.join().expect("the clock's thread");
    let rewritten = round.counts.records.saturating_sub(round.done);
    let behind = stats.durable.0 - stats.checkpointed.0;
    let begun = Instant::now();
    store.close().expect("closed");
    println!(
        "sustained   mintage {WAITERS:>5} waiters{:>9.0} /s for {} s, {:.2} of a short run; {rewritten} records rewritten, {} segments, checkpoint {behind} records behind, closed in {:.1} s",
        round.row.ops_per_s,
        time.as_secs(),
        round.row.ops_per_s / rate,
        stats.segments,
        begun.elapsed().as_secs_f64(),
    );
    let ratio = round.row.ops_per_s / rate;
    report.verdict(
        About::Target,
        ratio >= OF_SHORT_MIN,
        format!(
            "sustained at {WAITERS} waiters: {ratio:.2} of a short run, at least {OF_SHORT_MIN}"
        ),
    );
    report.verdict(
        About::Target,
        rewritten > 0,
        format!("sustained: {rewritten} survivors were rewritten"),
    );
    report.keep(Row { workload: "sustained", ..round.row });
}

/// The rate of the short rounds; of one more where there were none.
fn short_rate(report: &Report, time: Duration) -> f64 {
    match report.best(Kind::Issue.name(), "mintage", WAITERS) {
        Some(row) => row.ops_per_s,
        None => {
            let engine = MintageEngine::<DurableStore>::new(Kind::Issue, WAITERS);
            looped::run(engine, Kind::Issue, "mintage", WAITERS, time).row.ops_per_s
        }
    }
}

fn pass_time(clock: Arc<ManualClock>, ends: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        while !ends.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_secs(1) / u32::try_from(SPEED).unwrap_or(1));
            clock.advance(1);
        }
    })
}
