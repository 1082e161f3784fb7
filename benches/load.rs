//! What the store does under load, beside what the same callers get from the bare device: a closed
//! loop in which every waiter asks again as soon as it is answered.
//!
//! `cargo bench --bench load` prints a table, best of three alternating rounds, and writes
//! `target/load.json`. `-- --quick` runs short rounds, `-- issue` only the workloads of that name.
//!
//! Engines: `mintage` is the whole durable store; `limit` the same loop, queue, wake-ups and groups
//! with as many zero bytes written and synced instead of a record, and no digest, table or record;
//! `memory` our store without a disk; `device` one thread that writes and syncs groups of the mean
//! size that `mintage` had, with nobody waiting.

#![allow(clippy::print_stdout, clippy::cast_possible_truncation)]

#[path = "load/engines.rs"]
mod engines;
#[path = "load/loop.rs"]
mod looped;
#[path = "../tests/store_support/mod.rs"]
mod store_support;

use std::time::Duration;

use engines::{Kind, MintageEngine};
use looped::Row;
use mintage::store::{DurableStore, MemoryStore};

const WAITERS: [usize; 4] = [1, 16, 256, 4_096];
const ROUNDS: usize = 3;

struct Settings {
    round: Duration,
    only: Vec<String>,
}

impl Settings {
    fn from_args() -> Settings {
        let args: Vec<String> = std::env::args().skip(1).collect();
        let has = |flag: &str| args.iter().any(|arg| arg == flag);
        let round = match (has("--test"), has("--quick")) {
            (true, _) => Duration::from_millis(20),
            (_, true) => Duration::from_millis(300),
            _ => Duration::from_secs(2),
        };
        Settings { round, only: args.into_iter().filter(|arg| !arg.starts_with("--")).collect() }
    }

    fn wants(&self, workload: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == workload)
    }
}

/// Keeps the best of the rounds.
fn keep_best(rows: &mut Vec<Row>, row: Row) {
    let same =
        |r: &&mut Row| (r.workload, r.engine, r.waiters) == (row.workload, row.engine, row.waiters);
    match rows.iter_mut().find(same) {
        Some(best) if best.ops_per_s >= row.ops_per_s => {}
        Some(best) => *best = row,
        None => rows.push(row),
    }
}

fn main() {
    let settings = Settings::from_args();
    let mut rows = Vec::new();
    for kind in Kind::ALL {
        if !settings.wants(kind.name()) {
            continue;
        }
        for waiters in WAITERS {
            for round in 0..ROUNDS {
                // The order alternates, so that a slow spell of the machine hits each in turn.
                let mut engines = ["mintage", "limit", "memory", "device"];
                if round % 2 == 1 {
                    engines.reverse();
                }
                for engine in engines {
                    let mean_group = rows.iter().find_map(|row: &Row| {
                        let is_ours = row.engine == "mintage" && row.workload == kind.name();
                        (is_ours && row.waiters == waiters).then_some(row.mean_group)
                    });
                    let row = match engine {
                        "mintage" => {
                            let engine = MintageEngine::<DurableStore>::new(kind, waiters);
                            Some(looped::run(
                                engine,
                                kind.name(),
                                "mintage",
                                waiters,
                                settings.round,
                            ))
                        }
                        "memory" => {
                            let engine = MintageEngine::<MemoryStore>::new(kind, waiters);
                            Some(looped::run(
                                engine,
                                kind.name(),
                                "memory",
                                waiters,
                                settings.round,
                            ))
                        }
                        "limit" => (!kind.is_read()).then(|| {
                            let engine = engines::LimitEngine::new(kind.unit_len());
                            looped::run(engine, kind.name(), "limit", waiters, settings.round)
                        }),
                        _ => (!kind.is_read()).then(|| {
                            let mean = mean_group.unwrap_or(waiters as f64);
                            engines::device(kind, waiters, mean, settings.round)
                        }),
                    };
                    if let Some(row) = row {
                        keep_best(&mut rows, row);
                    }
                }
            }
            looped::print(&rows, kind.name(), waiters);
        }
    }
    looped::write_json(&rows).expect("target/load.json");
}
