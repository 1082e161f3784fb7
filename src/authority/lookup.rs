//! Lookups that most often answer at once: nothing is allocated and nobody waits unless the record
//! is cold.

use std::future::Future as _;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::Inner;
use super::error::Error;
use crate::store::{Find, Listing, Page, Store, StoreError, Ticket, TokenView};
use crate::time::{Reading, Timestamp};

impl<S: Store> Inner<S> {
    /// The time that the store judges by: what ended more than a minute ago does not begin again
    /// when the clock is put back.
    pub(super) fn now(&self) -> Timestamp {
        self.store.now(self.clock.read())
    }

    /// Looks a token up and goes on with what the store knows of it: before this returns where the
    /// answer is at hand, inside the ticket otherwise. Dropping a ticket whose lookup is still under
    /// way undoes nothing, since nothing has happened yet.
    pub(super) fn find_then<T: Send + Unpin + 'static>(
        self: &Arc<Self>,
        find: Find,
        now: Reading,
        then: impl FnOnce(&Arc<Self>, Option<TokenView>) -> Ticket<T, Error> + Send + 'static,
    ) -> Ticket<T, Error> {
        let mut cx = Context::from_waker(Waker::noop());
        match pin!(self.store.find(find, now)).poll(&mut cx) {
            Poll::Ready(Ok(view)) => then(self, view),
            Poll::Ready(Err(error)) => Ticket::ready(Err(error.into())),
            Poll::Pending => {
                // A cold read, asked again on the heap: a hit, which is the rule, allocates nothing,
                // and a polled future cannot be moved there.
                let again = self.store.find(find, now);
                let inner = Arc::clone(self);
                Ticket::slow(async move {
                    let view = again.await?;
                    then(&inner, view).await
                })
            }
        }
    }
}

impl<S: Store> Inner<S> {
    /// As [`Inner::find_then`], with one page of a listing.
    pub(super) fn list_then<T: Send + Unpin + 'static>(
        self: &Arc<Self>,
        listing: Listing,
        limit: usize,
        then: impl FnOnce(&Arc<Self>, Page) -> Ticket<T, Error> + Send + 'static,
    ) -> Ticket<T, Error> {
        let mut listed = Box::pin(self.store.list(listing, None, limit));
        match listed.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(page)) => then(self, page),
            Poll::Ready(Err(error)) => Ticket::ready(Err(error.into())),
            Poll::Pending => {
                let inner = Arc::clone(self);
                Ticket::slow(async move { then(&inner, listed.await?).await })
            }
        }
    }
}

/// The error of a ticket that was refused at once, or the ticket.
pub(super) fn at_once<T: Unpin>(mut ticket: Ticket<T>) -> Result<Ticket<T>, StoreError> {
    let mut cx = Context::from_waker(Waker::noop());
    match pin!(&mut ticket).poll(&mut cx) {
        Poll::Ready(Err(error)) => Err(error),
        Poll::Ready(Ok(answer)) => Ok(Ticket::ready(Ok(answer))),
        Poll::Pending => Ok(ticket),
    }
}

/// A refusal before anything was enqueued is a ticket like any other.
pub(super) fn ticket<T>(answer: Result<Ticket<T, Error>, Error>) -> Ticket<T, Error> {
    answer.unwrap_or_else(|error| Ticket::ready(Err(error)))
}
