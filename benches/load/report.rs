//! The table, the file and the verdicts.

use std::io;
use std::path::{Path, PathBuf};

use mintage::store::DurableStore;

use super::engines::{Kind, MintageEngine};
use super::looped::{Round, Row};

/// What `mintage` must reach of `limit`.
const ISSUE_OF_LIMIT_MIN: f64 = 0.6;
const REDEEM_OF_LIMIT_MIN: f64 = 0.5;
/// And how far its p99 may be above, in the best of the rounds.
const P99_OF_LIMIT_MAX: f64 = 5.0;

/// What a verdict is about: a fact holds however short the rounds and busy the machine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    Fact,
    Target,
}

struct Verdict {
    about: About,
    holds: bool,
    says: String,
}

#[derive(Default)]
pub(crate) struct Report {
    /// Best of the rounds.
    rows: Vec<Row>,
    /// All of them, in their order.
    rounds: Vec<Row>,
    verdicts: Vec<Verdict>,
    /// Of all rounds of `mintage`: operations answered, records, groups, syncs.
    written: [u64; 4],
}

impl Report {
    pub(crate) fn keep(&mut self, row: Row) {
        self.rounds.push(row.clone());
        let is_same = |r: &&mut Row| {
            (r.workload, r.engine, r.waiters) == (row.workload, row.engine, row.waiters)
        };
        match self.rows.iter_mut().find(is_same) {
            Some(best) if best.ops_per_s >= row.ops_per_s => {}
            Some(best) => *best = row,
            None => self.rows.push(row),
        }
    }

    pub(crate) fn verdict(&mut self, about: About, holds: bool, says: String) {
        self.verdicts.push(Verdict { about, holds, says });
    }

    pub(crate) fn best(&self, workload: &str, engine: &str, waiters: usize) -> Option<&Row> {
        let is_it = |r: &&Row| (r.workload, r.engine, r.waiters) == (workload, engine, waiters);
        self.rows.iter().find(is_it)
    }

    pub(crate) fn mean_group(&self, kind: Kind, waiters: usize) -> Option<f64> {
        self.best(kind.name(), "mintage", waiters).map(|row| row.mean_group)
    }

    /// Judges what a round of `mintage` wrote: no group was synced twice, every operation that was
    /// answered has its records, and, where asked for, the log alone brings all of them back.
    pub(crate) fn count(
        &mut self,
        kind: Kind,
        waiters: usize,
        round: Round<MintageEngine<DurableStore>>,
        reopens: bool,
    ) {
        let Round { engine, done, counts, .. } = round;
        let written = [done, counts.records, counts.groups, counts.syncs];
        self.written.iter_mut().zip(written).for_each(|(sum, by)| *sum += by);
        let at = format!("{} at {waiters} waiters", kind.name());
        if counts.syncs > counts.groups || counts.records < done * kind.records() {
            let says = format!(
                "{at}: {done} answered, {} records in {} groups by {} syncs",
                counts.records, counts.groups, counts.syncs
            );
            self.verdict(About::Fact, false, says);
        }
        if reopens && kind != Kind::Revoke {
            let expected = engine.prepared + done;
            let found = engine.tokens_on_disk();
            let says = format!("{at}: {expected} tokens acknowledged, {found} on disk");
            self.verdict(About::Fact, found == expected, says);
        }
    }

    pub(crate) fn print(&self, kind: Kind, waiters: usize) {
        let limit = self.best(kind.name(), "limit", waiters);
        let is_one = |row: &&Row| row.workload == kind.name() && row.waiters == waiters;
        for row in self.rows.iter().filter(is_one) {
            let of_limit = limit.map_or(String::new(), |limit| {
                let rate = row.ops_per_s / limit.ops_per_s;
                format!("  of limit {rate:5.2}, p99 {:5.2}", row.p99_us / limit.p99_us)
            });
            println!(
                "{:<11} {:<8}{:>5} waiters{:>9.0} /s  p50{:>8.1} us  p99{:>8.1}  p99.9{:>8.1}  max{:>8.1}  group{:>8.1}  groups/sync{:>5.2}  busy{:>6}  cpu us{:>6.2} of{:>6.2}{of_limit}",
                row.workload,
                row.engine,
                row.waiters,
                row.ops_per_s,
                row.p50_us,
                row.p99_us,
                row.p999_us,
                row.max_us,
                row.mean_group,
                row.groups_per_sync,
                row.busy,
                row.asking_us,
                row.all_us,
            );
        }
    }

    /// Prints every verdict, and says whether all facts hold, and all targets are met.
    pub(crate) fn judge(&mut self) -> (bool, bool) {
        let least = [(Kind::Issue, ISSUE_OF_LIMIT_MIN), (Kind::Redeem, REDEEM_OF_LIMIT_MIN)];
        for (kind, least) in least {
            for waiters in super::WAITERS {
                self.judge_rate(kind, waiters, least);
                self.judge_p99(kind, waiters);
            }
        }
        let [done, records, groups, syncs] = self.written;
        let says = format!(
            "{done} operations answered, {records} records in {groups} groups by {syncs} syncs"
        );
        self.verdict(About::Fact, syncs <= groups && groups <= records, says);
        println!();
        for Verdict { holds, says, .. } in &self.verdicts {
            println!("{} {says}", if *holds { "met   " } else { "MISSED" });
        }
        let all = |about| self.verdicts.iter().all(|v| v.about != about || v.holds);
        (all(About::Fact), all(About::Target))
    }

    fn judge_rate(&mut self, kind: Kind, waiters: usize, least: f64) {
        let rate = |engine| self.best(kind.name(), engine, waiters).map(|row| row.ops_per_s);
        let (Some(ours), Some(limit)) = (rate("mintage"), rate("limit")) else { return };
        let ratio = ours / limit;
        let of_memory = rate("memory").map_or(0.0, |memory| ours / memory);
        let says = format!(
            "{} at {waiters} waiters: {ratio:.2} of limit, at least {least}; {of_memory:.2} of memory",
            kind.name()
        );
        self.verdict(About::Target, ratio >= least, says);
    }

    fn judge_p99(&mut self, kind: Kind, waiters: usize) {
        let p99s = |engine: &str| -> Vec<f64> {
            let is_one = |row: &&Row| {
                (row.workload, row.engine, row.waiters) == (kind.name(), engine, waiters)
            };
            self.rounds.iter().filter(is_one).map(|row| row.p99_us).collect()
        };
        let ratios =
            p99s("mintage").into_iter().zip(p99s("limit")).map(|(ours, limit)| ours / limit);
        let Some(least) = ratios.reduce(f64::min) else { return };
        let says = format!(
            "{} at {waiters} waiters: p99 {least:.1} times that of limit in the best round, at most {P99_OF_LIMIT_MAX}",
            kind.name()
        );
        self.verdict(About::Target, least <= P99_OF_LIMIT_MAX, says);
    }

    /// `target/load.json`: an array of objects, one a row.
    pub(crate) fn write_json(&self) -> io::Result<()> {
        let object = |row: &Row| {
            serde_json::json!({
                "workload": row.workload,
                "engine": row.engine,
                "waiters": row.waiters,
                "ops_per_s": row.ops_per_s,
                "p50_us": row.p50_us,
                "p99_us": row.p99_us,
                "p999_us": row.p999_us,
                "max_us": row.max_us,
                "mean_group": row.mean_group,
            })
        };
        let rows = self.rows.iter().map(object).collect::<Vec<_>>();
        std::fs::write(target().join("load.json"), serde_json::to_string_pretty(&rows)?)
    }
}

/// The target directory.
pub(crate) fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap_or(Path::new("target")).to_owned()
}
