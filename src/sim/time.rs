//! Simulated time. It moves when a timed wait ends: when nobody else can go on, or before that if
//! the seed says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shuttle::thread::{self, Thread};

use super::with;

/// A moment of the simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(Duration);

impl Instant {
    pub fn now() -> Instant {
        Instant(with(|run| run.now).unwrap_or_default())
    }

    pub fn elapsed(&self) -> Duration {
        Instant::now().0.saturating_sub(self.0)
    }
}

/// A task that waits, and whether somebody woke it.
pub(super) struct Waiter {
    thread: Thread,
    is_woken: AtomicBool,
}

impl Waiter {
    pub(super) fn here() -> Arc<Waiter> {
        Arc::new(Waiter { thread: thread::current(), is_woken: AtomicBool::new(false) })
    }

    fn id(&self) -> usize {
        usize::from(self.thread.id())
    }

    pub(super) fn is_woken(&self) -> bool {
        self.is_woken.load(Ordering::SeqCst)
    }

    pub(super) fn wake(&self) {
        self.is_woken.store(true, Ordering::SeqCst);
        let is_timed = with(|run| run.timed.remove(&self.id()).is_some());
        if is_timed == Some(false) {
            self.thread.unpark();
        }
    }

    /// Waits until it is woken.
    pub(super) fn wait(&self) {
        while !self.is_woken() {
            thread::park();
        }
    }

    /// Waits until it is woken or `timeout` has passed; whether it was woken.
    pub(super) fn wait_for(&self, timeout: Duration) -> bool {
        if !self.is_woken() {
            let until = with(|run| {
                let until = run.now + timeout;
                run.timed.insert(self.id(), until);
                until
            });
            thread::yield_now();
            with(|run| {
                // Still there: it goes on because the time is up.
                if run.timed.remove(&self.id()).is_some() {
                    run.now = run.now.max(until.unwrap_or_default());
                }
            });
        }
        self.is_woken()
    }
}

pub fn sleep(time: Duration) {
    Waiter::here().wait_for(time);
}
