//! Many verbs from one caller at once.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::ticket::block_on;
use super::{Issue, IssueOutcome, Outcome, Redeem, RedeemOutcome, Store, StoreError, Ticket, Verb};

/// The answers to many verbs, in their order, each for itself: one that was refused stops no other.
///
/// It is a `Future` that any runtime can await, and a thread can [`Batch::wait`] for it. It resolves
/// when the last of them is durable. Dropping it neither undoes nor delays anything.
#[must_use = "the answers, and any errors, come through the batch"]
pub struct Batch<T, E = StoreError> {
    tickets: Vec<Ticket<T, E>>,
    is_begun: bool,
    answers: Vec<Result<T, E>>,
}

impl<T, E> Batch<T, E> {
    /// A batch that waits for all of `tickets`.
    pub fn of(tickets: Vec<Ticket<T, E>>) -> Batch<T, E> {
        Batch { answers: Vec::with_capacity(tickets.len()), is_begun: false, tickets }
    }

    /// How many answers there will be.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tickets.len()
    }

    /// Whether there will be none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }
}

impl<T: Send + Unpin + 'static, E: From<StoreError> + Send + Unpin + 'static> Batch<T, E> {
    /// Waits on this thread. A lone waiter commits by itself.
    ///
    /// # Blocks
    /// Until all answers are durable. Not for use inside an async runtime: await the batch there.
    #[must_use]
    pub fn wait(self) -> Vec<Result<T, E>> {
        if self.tickets.iter().any(Ticket::is_slow) {
            return block_on(self);
        }
        self.tickets.into_iter().map(Ticket::wait).collect()
    }
}

impl<T: Unpin, E: From<StoreError> + Unpin> Future for Batch<T, E> {
    type Output = Vec<Result<T, E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Vec<Result<T, E>>> {
        let Batch { tickets, is_begun, answers } = self.get_mut();
        if !*is_begun {
            *is_begun = true;
            tickets.iter_mut().for_each(|ticket| ticket.begin(cx));
        }
        // One after the other: only the first that is still open holds a waker.
        while let Some(ticket) = tickets.get_mut(answers.len()) {
            match Pin::new(ticket).poll(cx) {
                Poll::Ready(answer) => answers.push(answer),
                Poll::Pending => return Poll::Pending,
            }
        }
        tickets.clear();
        Poll::Ready(std::mem::take(answers))
    }
}

impl<T, E> fmt::Debug for Batch<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({} of {} answered)", self.answers.len(), self.tickets.len())
    }
}

pub(super) fn issue<S: Store>(store: &S, issues: Vec<Issue>) -> Batch<IssueOutcome> {
    let issued = |outcome| match outcome {
        Outcome::Issue(outcome) => Ok(outcome),
        _ => Err(StoreError::Closed),
    };
    apply(store, issues.into_iter().map(|issue| Verb::Issue(Box::new(issue))), issued)
}

pub(super) fn redeem<S: Store>(store: &S, redeems: Vec<Redeem>) -> Batch<RedeemOutcome> {
    let redeemed = |outcome| match outcome {
        Outcome::Redeem(outcome) => Ok(outcome),
        _ => Err(StoreError::Closed),
    };
    apply(store, redeems.into_iter().map(|redeem| Verb::Redeem(Box::new(redeem))), redeemed)
}

fn apply<S: Store, T: Send + 'static>(
    store: &S,
    verbs: impl Iterator<Item = Verb>,
    outcome_of: fn(Outcome) -> Result<T, StoreError>,
) -> Batch<T> {
    let ticket = |verb| store.apply(verb).and_then(move |answer| outcome_of(answer?));
    Batch::of(verbs.map(ticket).collect())
}
