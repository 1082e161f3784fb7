//! The n-th call to the file system fails, once or from then on, under a real process: while a store
//! is made, opened, rebuilt from its log, cleaned, worked on and closed; on the files of the log and on
//! sled's. After each there is no false acknowledgement and no panic, and what is left opens without
//! fault, is what was acknowledged, and works.
//!
//! `MINTAGE_NTH` sets how many failures, drawn at random (default 300); 0 is every call of every kind.
//! Needs a C compiler; where it is missing the test says so loudly and does nothing.

mod crash_support;
mod store_support;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use crash_support::shim::{Fault, LOG, Library, OPEN, RENAME, SLED, SYNC, TRUNCATE, UNLINK, WRITE};
use crash_support::{
    Job, Ledger, Template, child, progress, quiet_engine, rounds, say, verdict, work_if_child,
};
use store_support::TempDir;
use store_support::sim::Random;

const LANES: u64 = 2;

/// Not a test of its own: the parent runs it as the child.
#[test]
fn child_process() {
    work_if_child();
}

/// Failures that once went wrong: they come first in every campaign.
fn once_wrong() -> Vec<(Kind, u64)> {
    let kind =
        Kind { life: Life::Open, files: LOG | SLED, calls: SYNC, fault: Fault::Io, for_good: true };
    // sled panicked while it was dropped, and the panic came out of `open`.
    (1..=4).map(|nth| (kind, nth)).collect()
}

/// What the child does when the call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Life {
    Make,
    Open,
    Rebuild,
    Clean,
}

/// Where failures strike, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    life: Life,
    files: u64,
    calls: u64,
    fault: Fault,
    for_good: bool,
}

const CALLS: [(u64, &str); 6] = [
    (WRITE, "write"),
    (SYNC, "sync"),
    (RENAME, "rename"),
    (OPEN, "open"),
    (TRUNCATE, "truncate"),
    (UNLINK, "unlink"),
];

fn kinds() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for life in [Life::Make, Life::Open, Life::Rebuild, Life::Clean] {
        for files in [LOG, SLED, LOG | SLED] {
            for (calls, _) in CALLS {
                for fault in [Fault::Io, Fault::Full, Fault::Short, Fault::Lose] {
                    let fits = match fault {
                        Fault::Short => calls == WRITE,
                        Fault::Lose => calls == SYNC && files == LOG,
                        _ => true,
                    };
                    for for_good in [false, true] {
                        // One call strikes one file; from then on, it may strike both kinds.
                        if fits && (for_good || files != LOG | SLED) {
                            kinds.push(Kind { life, files, calls, fault, for_good });
                        }
                    }
                }
            }
        }
    }
    kinds
}

struct Campaign<'a> {
    library: &'a Library,
    small: &'a Template,
    large: &'a Template,
}

impl Campaign<'_> {
    /// Lets the `nth` call of a kind fail; how many there were, and whether it was reached.
    fn one(&self, kind: Kind, nth: u64, seed: u64) -> Result<(u64, bool), String> {
        let dir = TempDir::fast("nth");
        let data = dir.path().join("data");
        let mut ledger = match kind.life {
            Life::Make => Ledger::new(seed),
            Life::Open => self.small.copy_to(&data),
            Life::Rebuild | Life::Clean => self.large.copy_to(&data),
        };
        if kind.life == Life::Rebuild {
            fs::remove_dir_all(data.join("sled")).unwrap();
        }
        let operations = if kind.life == Life::Clean { 90 } else { 15 };
        let job = Job { operations, workers: 1, step_secs: 0, closes: true };
        let mut shim = self.library.shim(kind.calls, nth, kind.fault);
        shim.for_good = kind.for_good;
        shim.files = kind.files;
        let ended = child::run(&data, job, Some(&shim), None, &mut ledger, || ());
        let is_log_for_good =
            kind.for_good && kind.files & LOG != 0 && kind.calls & (SYNC | WRITE) != 0;
        let found = if let Some(wrong) = ended.wrong.first() {
            Err(wrong.clone())
        } else if is_log_for_good && ended.acknowledged_after > 0 {
            Err(format!("{} false acknowledgements", ended.acknowledged_after))
        } else if nth == 0 && !ended.closed {
            Err("it did not close though nothing failed".to_owned())
        } else {
            verdict(&data, &mut ledger, false)
        };
        match found {
            Ok(()) => Ok((ended.calls, ended.struck)),
            Err(wrong) => Err(format!("{wrong}; what is left is in {}", dir.keep().display())),
        }
    }

    /// How many calls of each kind there are when nothing fails, by life, files and calls.
    fn counts(&self) -> Result<BTreeMap<(Life, u64, u64), u64>, String> {
        let mut counts = BTreeMap::new();
        for kind in kinds() {
            let key = (kind.life, kind.files, kind.calls);
            if let std::collections::btree_map::Entry::Vacant(e) = counts.entry(key) {
                e.insert(self.one(kind, 0, 1)?.0);
            }
        }
        Ok(counts)
    }
}

#[derive(Default)]
struct Figures {
    runs: AtomicU64,
    struck: AtomicU64,
    by_calls: Mutex<BTreeMap<&'static str, u64>>,
    wrong: Mutex<Vec<String>>,
}

#[test]
fn every_failing_call_is_an_error_and_loses_nothing_on_real_files() {
    let begun = Instant::now();
    quiet_engine();
    let library = match Library::compile() {
        Ok(library) => library,
        Err(reason) => {
            say(&format!("SKIPPED, failures on real files were NOT tested: {reason}"));
            return;
        }
    };
    let seed = rounds("MINTAGE_CRASH_CAMPAIGN", 1);
    let wanted = rounds("MINTAGE_NTH", 300);
    let (small, large) = (Template::new(30, seed), Template::new(250, seed));
    let campaign = Campaign { library: &library, small: &small, large: &large };
    let counts = campaign.counts().unwrap();
    let mut cases = Vec::new();
    for kind in kinds() {
        // One more: threads of their own make the count vary.
        let count = counts[&(kind.life, kind.files, kind.calls)];
        let last = if count == 0 { 0 } else { count + 1 };
        cases.extend((1..=last).map(|nth| (kind, nth)));
    }
    let all = cases.len();
    let mut random = Random::new(seed);
    if wanted > 0 {
        // Spread over lives, files and calls: each kind of call has its turn.
        let mut by_kind: BTreeMap<(u64, u64), Vec<(Kind, u64)>> = BTreeMap::new();
        for case in cases {
            by_kind.entry((case.0.calls, case.0.files)).or_default().push(case);
        }
        let mut groups: Vec<Vec<(Kind, u64)>> = by_kind.into_values().collect();
        cases = once_wrong();
        while groups.iter().any(|group| !group.is_empty()) {
            for group in groups.iter_mut().filter(|group| !group.is_empty()) {
                let at = usize::try_from(random.below(group.len() as u64)).unwrap();
                cases.push(group.swap_remove(at));
            }
        }
    }
    let (figures, next) = (Figures::default(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                while let Some((kind, nth)) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                    if wanted > 0 && figures.struck.load(Ordering::SeqCst) >= wanted {
                        return;
                    }
                    let run = figures.runs.fetch_add(1, Ordering::SeqCst);
                    if wanted == 0 {
                        progress("failures", run, cases.len() as u64);
                    }
                    match campaign.one(*kind, *nth, seed + run) {
                        Ok((_, struck)) if struck => {
                            figures.struck.fetch_add(1, Ordering::SeqCst);
                            let name = CALLS.iter().find(|(calls, _)| *calls == kind.calls);
                            let mut by_calls = figures.by_calls.lock().unwrap();
                            *by_calls.entry(name.unwrap().1).or_default() += 1;
                        }
                        Ok(_) => {}
                        Err(wrong) => {
                            say(&format!("{kind:?}, call {nth}: {wrong}"));
                            figures.wrong.lock().unwrap().push(format!("{kind:?}, call {nth}"));
                        }
                    }
                }
            });
        }
    });
    let wrong = figures.wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {} runs: {wrong:#?}", wrong.len(), cases.len());
    let (struck, runs) = (figures.struck.into_inner(), figures.runs.into_inner());
    let by_calls = figures.by_calls.into_inner().unwrap();
    let by_calls: Vec<String> =
        by_calls.iter().map(|(name, count)| format!("{name} {count}")).collect();
    say(&format!(
        "{struck} failures ({}) in {} runs of {all} that there are, 0 false acknowledgements, 0 panics, \
         0 promises broken, {} s",
        by_calls.join(", "),
        runs,
        begun.elapsed().as_secs()
    ));
    assert!(struck >= wanted.min(all as u64 / 2), "too few failures struck");
}
