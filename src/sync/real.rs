//! The real ones.

pub(crate) use std::collections::{HashMap, HashSet};
pub(crate) use std::hash::RandomState;
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
pub(crate) use std::thread_local;
pub(crate) use std::time::Instant;

pub(crate) mod atomic {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
}

pub(crate) mod thread {
    pub(crate) use std::thread::{Builder, JoinHandle, Thread, current, park, sleep};
}

pub(crate) mod channel {
    use std::time::Duration;

    pub(crate) use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};

    /// Waits until `first` or `second` has something, or for `timeout`; what `first` had.
    pub(crate) fn either<A, B>(
        first: &Receiver<A>,
        second: &Receiver<B>,
        timeout: Duration,
    ) -> Option<A> {
        crossbeam::channel::select! {
            recv(first) -> received => received.ok(),
            recv(second) -> _ => None,
            default(timeout) => None,
        }
    }
}
