//! Bounded channels of the simulation.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::time::Waiter;
use super::touch;

pub use crossbeam::channel::TrySendError;

struct Channel<T> {
    capacity: usize,
    queue: Mutex<VecDeque<T>>,
    waiters: Mutex<Vec<Arc<Waiter>>>,
    senders: AtomicUsize,
    is_received: AtomicBool,
}

impl<T> Channel<T> {
    fn wake_all(&self) {
        let all = std::mem::take(&mut *self.waiters.lock().unwrap_or_else(PoisonError::into_inner));
        all.iter().for_each(|waiter| waiter.wake());
    }

    fn pop(&self) -> Option<T> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn is_over(&self) -> bool {
        self.senders.load(Ordering::SeqCst) == 0
    }

    fn add(&self, waiter: &Arc<Waiter>) {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(waiter));
    }

    fn remove(&self, waiter: &Arc<Waiter>) {
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        waiters.retain(|other| !Arc::ptr_eq(other, waiter));
    }
}

pub struct Sender<T>(Arc<Channel<T>>);

pub struct Receiver<T>(Arc<Channel<T>>);

pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let channel = Arc::new(Channel {
        capacity,
        queue: Mutex::default(),
        waiters: Mutex::default(),
        senders: AtomicUsize::new(1),
        is_received: AtomicBool::new(true),
    });
    (Sender(Arc::clone(&channel)), Receiver(channel))
}

impl<T> Sender<T> {
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        touch();
        if !self.0.is_received.load(Ordering::SeqCst) {
            return Err(TrySendError::Disconnected(value));
        }
        {
            let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
            if queue.len() >= self.0.capacity {
                return Err(TrySendError::Full(value));
            }
            queue.push_back(value);
        }
        self.0.wake_all();
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.0.senders.fetch_add(1, Ordering::SeqCst);
        Sender(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.wake_all();
        }
    }
}

impl<T> Receiver<T> {
    /// What is there already.
    pub fn try_iter(&self) -> impl Iterator<Item = T> + '_ {
        touch();
        std::iter::from_fn(|| self.0.pop())
    }

    /// Waits for a value; `None` after `timeout`, and when nobody will send one.
    pub fn recv_timeout(&self, timeout: Duration) -> Option<T> {
        either(self, self, timeout)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.is_received.store(false, Ordering::SeqCst);
        // What nobody will receive ends here, as with the real ones.
        while let Some(value) = self.0.pop() {
            drop(value);
        }
    }
}

/// Waits until `first` or `second` has something, or for `timeout`; what `first` had.
pub fn either<A, B>(first: &Receiver<A>, second: &Receiver<B>, timeout: Duration) -> Option<A> {
    touch();
    let take = || {
        if let Some(value) = first.0.pop() {
            return Some(Some(value));
        }
        let is_over = first.0.is_over() || second.0.is_over();
        (second.0.pop().is_some() || is_over).then_some(None)
    };
    if let Some(done) = take() {
        return done;
    }
    let waiter = Waiter::here();
    first.0.add(&waiter);
    second.0.add(&waiter);
    waiter.wait_for(timeout);
    first.0.remove(&waiter);
    second.0.remove(&waiter);
    take().flatten()
}
