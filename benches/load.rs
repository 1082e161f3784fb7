//! What the store does under load, beside what the same callers get from the bare device: a closed
//! loop in which every waiter asks again as soon as it is answered.
//!
//! `cargo bench --bench load` prints a table, best of three alternating rounds, a verdict for every
//! target, and writes `target/load.json`; it fails when a target is missed. `-- issue redeem` runs
//! only the workloads of those names, `-- --quick` short rounds that judge only what was written,
//! `-- --waiters=256 --engine=mintage` one cell, and `-- --plot` draws `target/load.svg` from
//! `target/load.json`.
//!
//! Engines: `mintage` is the whole durable store; `limit` the same loop, queue, wake-ups and groups
//! with as many zero bytes written and synced instead of a record, and no digest, table or record;
//! `memory` our store without a disk; `device` one thread that writes and syncs groups of the mean
//! size that `mintage` had, with nobody waiting.

#![allow(clippy::print_stdout, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

#[path = "load/engines.rs"]
mod engines;
#[path = "load/limit.rs"]
mod limit;
#[path = "load/loop.rs"]
mod looped;
#[path = "load/plot.rs"]
mod plot;
#[path = "load/report.rs"]
mod report;
#[path = "../tests/store_support/mod.rs"]
mod store_support;
#[path = "load/sustained.rs"]
mod sustained;

use std::process::ExitCode;
use std::time::Duration;

use engines::{Kind, MintageEngine};
use limit::LimitEngine;
use looped::Row;
use mintage::store::{DurableStore, MemoryStore};
use report::Report;

const WAITERS: [usize; 4] = [1, 16, 256, 4_096];
const ENGINES: [&str; 4] = ["mintage", "limit", "memory", "device"];
const ROUNDS: usize = 3;
const SUSTAINED: &str = "sustained";

struct Settings {
    round: Duration,
    sustained: Duration,
    rounds: usize,
    /// Whether every engine runs with every number of waiters.
    is_whole: bool,
    only: Vec<String>,
    waiters: Option<usize>,
    engine: Option<String>,
}

impl Settings {
    fn from(args: &[String]) -> Settings {
        let has = |flag: &str| args.iter().any(|arg| arg == flag);
        let value = |flag: &str| args.iter().find_map(|arg| arg.strip_prefix(flag));
        let (round, sustained, rounds) = match (has("--test"), has("--quick")) {
            (true, _) => (20, 300, 1),
            (_, true) => (300, 5_000, ROUNDS),
            _ => (1_000, 60_000, ROUNDS),
        };
        let only = args.iter().filter(|arg| !arg.starts_with("--")).cloned().collect();
        let waiters = value("--waiters=").map(|n| n.parse().expect("a number of waiters"));
        let engine = value("--engine=").map(str::to_owned);
        Settings {
            round: Duration::from_millis(round),
            sustained: Duration::from_millis(sustained),
            rounds,
            is_whole: waiters.is_none() && engine.is_none(),
            only,
            waiters,
            engine,
        }
    }

    fn wants(&self, workload: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == workload)
    }

    fn wants_cell(&self, engine: &str, waiters: usize) -> bool {
        self.engine.as_ref().is_none_or(|only| only == engine)
            && self.waiters.is_none_or(|only| only == waiters)
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--plot") {
        plot::draw().expect("target/load.json, and room for target/load.svg");
        return ExitCode::SUCCESS;
    }
    let settings = Settings::from(&args);
    let mut report = Report::default();
    for kind in Kind::ALL.into_iter().filter(|kind| settings.wants(kind.name())) {
        for waiters in WAITERS {
            for round in 0..settings.rounds {
                // The order alternates, so that a slow spell of the machine hits each in turn.
                let mut engines = ENGINES;
                if round % 2 == 1 {
                    engines.reverse();
                }
                for engine in engines.into_iter().filter(|e| settings.wants_cell(e, waiters)) {
                    if let Some(row) = run(&settings, &mut report, kind, engine, waiters, round) {
                        report.keep(row);
                    }
                }
            }
            report.print(kind, waiters);
        }
    }
    if settings.wants(SUSTAINED) && settings.wants_cell("mintage", sustained::WAITERS) {
        sustained::run(&mut report, settings.sustained, settings.round);
    }
    if settings.is_whole && settings.rounds == ROUNDS {
        report.write_json().expect("target/load.json");
    }
    let (facts_hold, targets_are_met) = report.judge();
    // Short rounds miss targets that long ones meet.
    let is_judged = settings.is_whole && settings.round.as_secs() > 0;
    match facts_hold && (targets_are_met || !is_judged) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// One round of one engine; `None` where it has nothing to do.
fn run(
    settings: &Settings,
    report: &mut Report,
    kind: Kind,
    engine: &str,
    waiters: usize,
    round: usize,
) -> Option<Row> {
    let time = settings.round;
    let writes = !kind.is_read();
    match engine {
        "mintage" => {
            let engine = MintageEngine::<DurableStore>::new(kind, waiters);
            let done = looped::run(engine, kind, "mintage", waiters, time);
            let row = done.row.clone();
            if writes {
                report.count(kind, waiters, done, round == 0 && settings.is_whole);
            }
            Some(row)
        }
        "memory" => {
            let engine = MintageEngine::<MemoryStore>::new(kind, waiters);
            Some(looped::run(engine, kind, "memory", waiters, time).row)
        }
        "limit" => writes.then(|| {
            looped::run(LimitEngine::new(kind, waiters), kind, "limit", waiters, time).row
        }),
        _ => writes.then(|| {
            let units = report.mean_group(kind, waiters).unwrap_or(waiters as f64);
            limit::device(kind, waiters, units, time)
        }),
    }
}
