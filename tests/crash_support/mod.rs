//! Crashes of a real process on real files: a child works on a store and says on its output what it
//! begins and what was acknowledged; a ledger outlives it and is held against the store.
#![allow(dead_code, unreachable_pub, unused_imports, clippy::print_stdout)]

pub mod child;
pub mod ledger;
pub mod mount;
pub mod shim;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use mintage::store::{DurableOptions, DurableStore, Store, StoreError};
use mintage::time::ManualClock;

use crate::store_support::sim::Random;
use crate::store_support::{START, TempDir, copy_dir, root};
pub use child::{Job, work_if_child};
pub use ledger::Ledger;
pub use shim::Shim;

/// Opens the store with `clock`: short segments, and few tokens in memory, so that the checkpoint
/// is asked.
pub fn open(path: &Path, clock: &Arc<ManualClock>) -> Result<DurableStore, StoreError> {
    let options = DurableOptions::default()
        .segment_len(128 * 1024)
        .resident_tokens_max(256)
        .clock(clock.clone());
    DurableStore::open(path, &root(), options)
}

/// A store to begin with, closed, and what it was told.
pub struct Template {
    dir: TempDir,
    ledger: Ledger,
}

impl Template {
    /// `families` logins, some of them refreshed, some revoked.
    pub fn new(families: u64, seed: u64) -> Template {
        let dir = TempDir::fast("template");
        let mut ledger = Ledger::new(seed);
        let clock = Arc::new(ManualClock::at(START));
        let store = open(&dir.path().join("data"), &clock).unwrap();
        prefill(&store, &clock, families, &mut ledger);
        store.close().unwrap();
        Template { dir, ledger }
    }

    /// Puts a copy in place of whatever is at `path`, and says what it was told.
    pub fn copy_to(&self, path: &Path) -> Ledger {
        let _ = fs::remove_dir_all(path);
        copy_dir(&self.dir.path().join("data"), path);
        self.ledger.clone()
    }
}

/// Fills a store with logins: some refreshed, some revoked.
pub fn prefill(store: &DurableStore, clock: &ManualClock, families: u64, ledger: &mut Ledger) {
    for n in 0..families {
        let name = format!("prefilled-{n}");
        ledger.issue(store, clock, &name).unwrap();
        if n % 3 == 0 {
            ledger.redeem(store, clock, &name).unwrap();
        }
        if n % 7 == 0 {
            ledger.revoke(store, clock, &name).unwrap();
        }
    }
}

/// Opens what is left with no fault in the way, holds it against the ledger, and makes sure that it
/// works: the answer is what is wrong, if anything. Of a checkpoint that `was_harmed` the store may
/// say that it was rebuilt.
pub fn verdict(path: &Path, ledger: &mut Ledger, was_harmed: bool) -> Result<(), String> {
    let clock = ledger.later();
    let store = open(path, &clock).map_err(|error| format!("it does not open: {error:?}"))?;
    ledger.check(&store, &clock)?;
    let again = format!("after-{}", ledger.draw());
    let issued = ledger.issue(&store, &clock, &again);
    issued.map_err(|error| format!("it does not work again: {error:?}"))?;
    ledger.replay_one(&store, &clock)?;
    if let Some(error) = store.stats().last_error
        && !was_harmed
    {
        return Err(format!("it reopened with {error:?}"));
    }
    match store.close() {
        Err(error) if !was_harmed => Err(format!("it does not close: {error:?}")),
        _ => Ok(()),
    }
}

/// The number of the first segment, by its name: it rises when segments are dropped.
pub fn first_segment(data: &Path) -> u64 {
    let names = fs::read_dir(data).into_iter().flatten().flatten();
    let numbers = names.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        u64::from_str_radix(name.strip_suffix(".log")?, 16).ok()
    });
    numbers.min().unwrap_or(0)
}

/// Takes sled away, shortens it, or puts an older one in its place. `older` is a directory that may
/// hold a copy. Whether it did.
pub fn harm_checkpoint(path: &Path, older: &Path, random: &mut Random) -> bool {
    let sled = path.join("sled");
    if !sled.exists() {
        return false;
    }
    match random.below(8) {
        0 => fs::remove_dir_all(&sled).unwrap(),
        1 => {
            let tables = fs::read_dir(&sled).unwrap().map(|entry| entry.unwrap().path());
            let Some(db) = tables.map(|table| table.join("db")).find(|db| db.exists()) else {
                return false;
            };
            let bytes = fs::read(&db).unwrap();
            let len = usize::try_from(random.below(bytes.len() as u64 + 1)).unwrap();
            fs::write(&db, &bytes[..len]).unwrap();
        }
        2 if older.exists() => {
            fs::remove_dir_all(&sled).unwrap();
            copy_dir(older, &sled);
        }
        3 => {
            let _ = fs::remove_dir_all(older);
            copy_dir(&sled, older);
            return false;
        }
        _ => return false,
    }
    true
}

/// Says something that must be seen though the test passes: the capture of the test runner does not
/// take it.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Panics of the checkpoint's engine are contained, and many: they are not printed.
pub fn quiet_engine() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !is_in_engine(info) {
            usual(info);
        }
    }));
}

pub fn is_in_engine(info: &std::panic::PanicHookInfo<'_>) -> bool {
    info.location().is_some_and(|at| at.file().contains("sled-0.34"))
}

/// How often a campaign runs: `variable`, or so often as is right for every submission.
pub fn rounds(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

/// Says now and then how far a long campaign is.
pub fn progress(what: &str, done: u64, all: u64) {
    if all >= 1_000 && done.is_multiple_of(all / 20) {
        say(&format!("{what}: {done} of {all}"));
    }
}
