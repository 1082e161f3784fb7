//! A commit group: what becomes durable at once, and who waits for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use super::StoreError;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::thread::{self, Thread};
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// How many threads a woken thread wakes in turn. The writer wakes one: waking a thread is a call to
/// the system, and waking hundreds would keep it from the next group.
/// One in the models, so that three threads are a chain.
const WOKEN_BY_EACH: usize = if cfg!(mintage_loom) { 1 } else { 4 };

const PENDING: u64 = 0;
const COMMITTED: u64 = 1;
const FAILED: u64 = 2;

/// Whoever commits groups: a waiting thread may do its work.
pub(crate) trait Committer: Send + Sync {
    /// Commits what is queued, on this thread, if nobody else is committing; what it leaves is
    /// somebody's.
    fn lead(&self);

    /// Whether this thread enqueues more right now, and sees to all of it afterwards.
    fn gathers(&self) -> bool {
        false
    }

    /// Sees to it that what is queued is committed, by another thread.
    fn hurry(&self);
}

/// A commit group: all of it becomes durable at once, or none.
pub(crate) struct Group {
    /// Read without the lock: whoever is woken needs nothing else.
    state: AtomicU64,
    waiting: Mutex<Waiting>,
    /// Whether nobody is told yet to commit it: who asked may be about to do it.
    is_left: AtomicBool,
    committer: Weak<dyn Committer>,
}

#[derive(Default)]
struct Waiting {
    error: Option<StoreError>,
    wakers: Vec<Waker>,
    threads: Vec<Thread>,
}

/// Where the waker of one ticket stands, so that polling again looks at no other.
#[derive(Default)]
pub(crate) struct Place(Option<usize>);

impl Group {
    pub(crate) fn new(committer: Weak<dyn Committer>) -> Arc<Group> {
        Arc::new(Group {
            state: AtomicU64::new(PENDING),
            waiting: Mutex::default(),
            is_left: AtomicBool::new(false),
            committer,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves the group to whoever holds a ticket of it; see [`Group::claim`].
    pub(crate) fn leave(&self) {
        self.is_left.store(true, Ordering::SeqCst);
    }

    /// Whoever does anything with a ticket but wait for it at once has the group committed, unless
    /// there is more to come.
    pub(crate) fn claim(&self) {
        self.have_committed(|committer| !committer.gathers());
    }

    fn have_committed(&self, now: impl FnOnce(&dyn Committer) -> bool) {
        if self.is_left.load(Ordering::SeqCst)
            && let Some(committer) = self.committer.upgrade()
            && now(committer.as_ref())
            && self.is_left.swap(false, Ordering::SeqCst)
        {
            committer.hurry();
        }
    }

    /// Says what became of the group and wakes everyone who waits for it. The first word counts.
    pub(crate) fn settle(&self, outcome: &Result<(), StoreError>) {
        let (wakers, first) = {
            let mut waiting = self.lock();
            if self.state.load(Ordering::SeqCst) != PENDING {
                return;
            }
            waiting.error = outcome.as_ref().err().cloned();
            let state = if outcome.is_ok() { COMMITTED } else { FAILED };
            self.state.store(state, Ordering::SeqCst);
            (std::mem::take(&mut waiting.wakers), waiting.threads.first().cloned())
        };
        if let Some(first) = first {
            first.unpark();
        }
        for waker in wakers {
            // A waker is foreign code: its panic must not take the committer down.
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }

    fn outcome(&self) -> Option<Result<(), StoreError>> {
        match self.state.load(Ordering::SeqCst) {
            PENDING => None,
            COMMITTED => Some(Ok(())),
            _ => Some(Err(self.lock().error.clone().unwrap_or(StoreError::Closed))),
        }
    }

    /// Waits on this thread, and commits by itself when nobody else does.
    pub(crate) fn wait(&self) -> Result<(), StoreError> {
        if let Some(outcome) = self.outcome() {
            return outcome;
        }
        if let Some(committer) = self.committer.upgrade() {
            self.is_left.store(false, Ordering::SeqCst);
            committer.lead();
        }
        let place = {
            let mut waiting = self.lock();
            let place = waiting.threads.len();
            if self.state.load(Ordering::SeqCst) == PENDING {
                waiting.threads.push(thread::current());
            }
            place
        };
        loop {
            if let Some(outcome) = self.outcome() {
                self.wake_next(place);
                return outcome;
            }
            thread::park();
        }
    }

    /// Wakes the threads that count on the one at `place`. One that never registered counts for
    /// nobody: its place is behind the last.
    fn wake_next(&self, place: usize) {
        let first = place.saturating_mul(WOKEN_BY_EACH) + 1;
        let next: Vec<Thread> = {
            let waiting = self.lock();
            waiting.threads.iter().skip(first).take(WOKEN_BY_EACH).cloned().collect()
        };
        next.iter().for_each(Thread::unpark);
    }

    pub(crate) fn poll(
        &self,
        cx: &mut Context<'_>,
        place: &mut Place,
    ) -> Poll<Result<(), StoreError>> {
        if let Some(outcome) = self.outcome() {
            return Poll::Ready(outcome);
        }
        self.have_committed(|_| true);
        // Cloning and dropping a waker is foreign code: not under the lock.
        let waker = cx.waker().clone();
        let mut waiting = self.lock();
        if self.state.load(Ordering::SeqCst) != PENDING {
            drop(waiting);
            return self.outcome().map_or(Poll::Pending, Poll::Ready);
        }
        let replaced = match place.0.and_then(|place| waiting.wakers.get_mut(place)) {
            Some(held) => Some(std::mem::replace(held, waker)),
            None => {
                place.0 = Some(waiting.wakers.len());
                waiting.wakers.push(waker);
                None
            }
        };
        drop(waiting);
        drop(replaced);
        Poll::Pending
    }
}
