//! Loom's, as far as it has them. Channels and time are real: models of what uses those belong to
//! the simulation.

pub(crate) use loom::sync::{
    Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
pub(crate) use loom::thread_local;
pub(crate) use std::collections::{HashMap, HashSet};
pub(crate) use std::hash::RandomState;
pub(crate) use std::time::Instant;

pub(crate) mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
}

pub(crate) mod thread {
    pub(crate) use loom::thread::{Builder, JoinHandle, Thread, current, park};

    pub(crate) fn sleep(_: std::time::Duration) {
        loom::thread::yield_now();
    }
}

#[path = "real.rs"]
#[allow(unused_imports)]
mod real;
pub(crate) use real::channel;
