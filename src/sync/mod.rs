//! What threads share goes through here: locks, counters, threads, channels and the moments they
//! wait for. As a rule these are the standard library's and crossbeam's own, by name.
//!
//! Under `--cfg mintage_sim` they are those of [`crate::sim`], where one seed decides who runs when
//! and when a wait times out; under `--cfg mintage_loom` they are loom's. What depends on chance
//! elsewhere (the order of a hash map) is here for the same reason.

#[cfg_attr(mintage_sim, path = "simulated.rs")]
#[cfg_attr(all(mintage_loom, not(mintage_sim)), path = "loom.rs")]
#[cfg_attr(not(any(mintage_sim, mintage_loom)), path = "real.rs")]
mod chosen;

pub(crate) use chosen::{
    Condvar, HashMap, HashSet, Instant, Mutex, MutexGuard, RandomState, RwLock, RwLockReadGuard,
    RwLockWriteGuard, atomic, channel, thread, thread_local,
};
pub(crate) use std::sync::PoisonError;

/// Whether a fault is planted at this place, for tests that must find it: `false`, and nothing in
/// the program, but under `--cfg mintage_sim`.
macro_rules! planted {
    ($bug:ident) => {{
        #[cfg(mintage_sim)]
        let is_planted = $crate::sim::is_planted($crate::sim::Bug::$bug);
        #[cfg(not(mintage_sim))]
        let is_planted = false;
        is_planted
    }};
}
pub(crate) use planted;
