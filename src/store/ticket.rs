//! Tickets: the answer is known, and held back until it is durable.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use super::StoreError;
use super::group::{Group, Place};
use crate::sync::thread::{self, Thread};

type Slow<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

enum Progress<T, E> {
    Decided(Option<Result<T, E>>),
    Committing(Held, Option<Result<T, E>>),
    Slow(Slow<T, E>),
}

/// A group that is waited for. Whoever lets go of it, or does something else first, has it committed.
struct Held {
    group: Arc<Group>,
    place: Place,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.group.claim();
    }
}

/// An answer that is released when what it depends on is durable.
///
/// It is a `Future` that any runtime can await, and a thread can [`Ticket::wait`] for it. Dropping
/// it neither undoes nor delays anything.
#[must_use = "the answer, and any error, comes through the ticket"]
pub struct Ticket<T, E = StoreError> {
    progress: Progress<T, E>,
}

impl<T, E> Ticket<T, E> {
    /// A ticket whose answer depends on nothing.
    pub fn ready(answer: Result<T, E>) -> Ticket<T, E> {
        Ticket { progress: Progress::Decided(Some(answer)) }
    }

    pub(crate) fn committing(group: Arc<Group>, answer: Result<T, E>) -> Ticket<T, E> {
        let held = Held { group, place: Place::default() };
        Ticket { progress: Progress::Committing(held, Some(answer)) }
    }

    /// The answer where it is decided already, durable or not.
    pub(crate) fn decided(&self) -> Option<&Result<T, E>> {
        match &self.progress {
            Progress::Decided(answer) | Progress::Committing(_, answer) => answer.as_ref(),
            Progress::Slow(_) => None,
        }
    }

    /// Whether somebody must drive it.
    pub(crate) fn is_slow(&self) -> bool {
        matches!(self.progress, Progress::Slow(_))
    }

    /// Has what takes more than a commit begin.
    pub(crate) fn begin(&mut self, cx: &mut Context<'_>) {
        if let Progress::Slow(future) = &mut self.progress
            && let Poll::Ready(answer) = future.as_mut().poll(cx)
        {
            self.progress = Progress::Decided(Some(answer));
        }
    }

    /// A ticket whose answer takes more than a commit, such as a cold read first.
    pub fn slow(future: impl Future<Output = Result<T, E>> + Send + 'static) -> Ticket<T, E> {
        Ticket { progress: Progress::Slow(Box::pin(future)) }
    }
}

impl<T: Send + 'static, E: From<StoreError> + Send + 'static> Ticket<T, E> {
    /// Turns the answer into another. `f` runs at once where the answer is decided already, so that
    /// signing and formatting overlap with the commit; its result is held back all the same.
    pub fn and_then<U: Send + 'static, F: From<StoreError> + Send + 'static>(
        self,
        f: impl FnOnce(Result<T, E>) -> Result<U, F> + Send + 'static,
    ) -> Ticket<U, F> {
        match self.progress {
            Progress::Decided(answer) => Ticket { progress: Progress::Decided(answer.map(f)) },
            Progress::Committing(held, answer) => {
                held.group.claim();
                Ticket { progress: Progress::Committing(held, answer.map(f)) }
            }
            Progress::Slow(future) => Ticket::slow(async move { f(future.await) }),
        }
    }

    /// Waits on this thread. A lone waiter commits by itself, at the device's own latency.
    ///
    /// # Blocks
    /// Until the answer is durable. Not for use inside an async runtime: await the ticket there.
    ///
    /// # Errors
    /// What the operation refused with, or that its outcome is unknown ([`StoreError::Unknown`]).
    pub fn wait(self) -> Result<T, E> {
        match self.progress {
            Progress::Decided(answer) => answer.unwrap_or_else(|| Err(StoreError::Closed.into())),
            Progress::Committing(held, answer) => {
                held.group.wait()?;
                answer.unwrap_or_else(|| Err(StoreError::Closed.into()))
            }
            Progress::Slow(future) => block_on(future),
        }
    }
}

impl<T: Unpin, E: From<StoreError> + Unpin> Future for Ticket<T, E> {
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, E>> {
        let answered_before = || Err(StoreError::Closed.into());
        match &mut self.get_mut().progress {
            Progress::Decided(answer) => Poll::Ready(answer.take().unwrap_or_else(answered_before)),
            Progress::Committing(held, answer) => match held.group.poll(cx, &mut held.place) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(())) => Poll::Ready(answer.take().unwrap_or_else(answered_before)),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            },
            Progress::Slow(future) => future.as_mut().poll(cx),
        }
    }
}

impl<T, E> fmt::Debug for Ticket<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.progress {
            Progress::Decided(_) => "Ticket(decided)",
            Progress::Committing(..) => "Ticket(committing)",
            Progress::Slow(_) => "Ticket(slow)",
        })
    }
}

/// Runs a future to its end on this thread, parked in between.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Outcome;

    #[test]
    fn a_ticket_is_small() {
        // It is moved several times between the decision and whoever waits.
        assert!(size_of::<Ticket<Outcome>>() <= 96, "{}", size_of::<Ticket<Outcome>>());
    }
}
