//! The simulation: threads are tasks of one thread of the machine, and one seed decides which of
//! them runs next, when a timed wait ends, and what time it is. Only under `--cfg mintage_sim`.
//!
//! The locks, channels and clocks here stand in for the real ones (see `src/sync`). shuttle
//! switches between the tasks; the [`scheduler`] chooses.
#![allow(missing_docs, missing_debug_implementations)]

pub mod atomic;
pub mod channel;
pub mod lock;
mod scheduler;
pub mod time;

pub use scheduler::{Density, run, seed};
pub use shuttle::thread::{JoinHandle, spawn, yield_now};

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use scheduler::Random;

/// What a run of one seed shares, apart from the tasks themselves.
struct Run {
    /// One in so many operations on a lock or a channel may be the place of a switch.
    locks: u64,
    /// The same for counters; 0 for none.
    atomics: u64,
    random: Random,
    now: Duration,
    /// Tasks that wait for a moment as well as for each other.
    timed: BTreeMap<usize, Duration>,
}

thread_local! {
    static RUN: std::cell::RefCell<Option<Run>> = const { std::cell::RefCell::new(None) };
    static BUG: Cell<Option<Bug>> = const { Cell::new(None) };
}

fn with<T>(f: impl FnOnce(&mut Run) -> T) -> Option<T> {
    RUN.with(|run| run.borrow_mut().as_mut().map(f))
}

/// A place where another task may go on. Outside of a run, and while unwinding, nothing happens.
fn may_switch(one_in: impl FnOnce(&Run) -> u64) {
    let switches = with(|run| {
        let n = one_in(run);
        n > 0 && (n == 1 || run.random.below(n) == 0)
    });
    if switches == Some(true) && !std::thread::panicking() {
        shuttle::thread::sleep(Duration::ZERO);
    }
}

/// A place where another task may go on, at every call.
pub fn switch() {
    may_switch(|_| 1);
}

/// A place where another task may go on, as often as at a lock.
pub fn touch() {
    may_switch(|run| run.locks);
}

/// Faults that tests plant to see that they are found. See `planted!`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Bug {
    /// The log is not synced.
    SyncSkipped,
    /// A group calls those before it in the same write synced.
    SyncedWithinWrite,
    /// Tickets resolve at once.
    AnsweredBeforeCommit,
    /// Readers see a group before it is on disk.
    PublishedBeforeCommit,
    /// A birth is admitted when it is decided, not when it was asked for.
    AdmittedAtBirth,
    /// A segment goes before anything was synced for it.
    DroppedBeforeSync,
    /// The cleaner writes again what it has read.
    SurvivorAsRead,
    /// The second segment goes before the first.
    DroppedOutOfOrder,
    /// The admission is noted when the client is known.
    NotedAfterAuthentication,
    /// Regions of the checkpoint are not compared with their summaries.
    RegionUnchecked,
    /// Recovery takes whatever is no group for a torn tail.
    TornInTheMiddle,
    /// A redeem is judged under one lock and made under the next.
    RedeemedOutsideTheLock,
    /// A block of numbers that a lost slot of the superblock named is used again.
    BlockUsedAgain,
}

/// Plants a fault for everything that this thread of the machine simulates, or removes it.
pub fn plant(bug: Option<Bug>) {
    BUG.set(bug);
}

/// Whether a fault is planted here.
#[must_use]
pub fn is_planted(bug: Bug) -> bool {
    BUG.get() == Some(bug)
}
