//! A door for the loom models: the store's own state over a journal whose commits a model makes when
//! it likes. Compiled under `--cfg mintage_loom` alone.

use std::future::Future;
use std::sync::{Arc, Weak};

use super::core::{Appended, Core, Journal, Lane};
use super::group::{Committer, Group};
use super::high_water::HighWater;
use super::record::Record;
use super::ticket::Ticket;
use super::{
    Find, Listing, Lsn, Near, Outcome, Page, Seq, Stats, Store, StoreError, Swept, TokenView, Verb,
};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, PoisonError};
use crate::time::{Reading, Timestamp};

/// A store in memory that publishes when it is told to. Cloning shares it.
#[derive(Clone)]
pub struct HeldStore {
    core: Arc<Core<Held>>,
}

impl HeldStore {
    /// An empty store.
    #[must_use]
    pub fn new(now: Reading) -> HeldStore {
        let time = HighWater::resume(Timestamp(0), now);
        HeldStore { core: Arc::new(Core::new(Held::new(), [7; 32], 1, time)) }
    }

    /// Commits what is enqueued, as one group.
    pub fn publish(&self) {
        self.core.journal.publish();
    }
}

impl Store for HeldStore {
    fn admission(&self) -> Seq {
        self.core.admission()
    }

    fn now(&self, reading: Reading) -> Timestamp {
        self.core.now(reading)
    }

    fn draw(&self, near: Near<'_>) -> u64 {
        self.core.draw(near)
    }

    fn apply(&self, verb: Verb) -> Ticket<Outcome> {
        let decided = match verb {
            Verb::Issue(issue) => self.core.issue(&issue),
            Verb::Redeem(redeem) => self.core.redeem(&redeem),
            Verb::Revoke(revoke) => {
                self.core.revoke(&revoke).unwrap_or(Ok(Ticket::ready(Ok(Outcome::Revoke(None)))))
            }
            Verb::Code(birth) => self.core.offer(&birth),
            Verb::Extend(extend) => self.core.extend(&extend),
            Verb::UseOnce(once) => self.core.use_once(&once),
            Verb::Put(put) => self.core.put(put),
        };
        decided.unwrap_or_else(|error| Ticket::ready(Err(error)))
    }

    fn find(
        &self,
        find: Find,
        now: Reading,
    ) -> impl Future<Output = Result<Option<TokenView>, StoreError>> + Send + 'static {
        std::future::ready(Ok(self.core.find(find, self.core.now(now)).unwrap_or(None)))
    }

    fn list(
        &self,
        _: Listing,
        _: Option<&[u8]>,
        _: usize,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send + 'static {
        std::future::ready(Err(StoreError::Unavailable))
    }

    fn sweep(&self, now: Reading) -> Result<Swept, StoreError> {
        self.core.sweep(now)
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }
}

/// Units queue up in one group until it is published.
struct Held {
    published: AtomicU64,
    queue: Mutex<Queue>,
}

struct Queue {
    next: Lsn,
    group: Arc<Group>,
}

/// Nobody leads: the model publishes.
struct NoCommitter;

impl Committer for NoCommitter {
    fn lead(&self) {}

    fn hurry(&self) {}
}

fn group() -> Arc<Group> {
    Group::new(Weak::<NoCommitter>::new() as Weak<dyn Committer>)
}

impl Held {
    fn new() -> Held {
        let queue = Mutex::new(Queue { next: Lsn(1), group: group() });
        Held { published: AtomicU64::new(0), queue }
    }

    fn publish(&self) {
        let settled = {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            self.published.store(queue.next.0 - 1, Ordering::SeqCst);
            std::mem::replace(&mut queue.group, group())
        };
        settled.settle(&Ok(()));
    }
}

impl Journal for Held {
    fn append(&self, records: &[Record], _: Lane, _: Timestamp) -> Result<Appended, StoreError> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let first = queue.next;
        queue.next = Lsn(first.0 + records.len() as u64);
        Ok(Appended { first, group: Some(Arc::clone(&queue.group)) })
    }

    fn published(&self) -> Lsn {
        Lsn(self.published.load(Ordering::SeqCst))
    }

    fn group_of(&self, lsn: Lsn) -> Option<Arc<Group>> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        (lsn > self.published()).then(|| Arc::clone(&queue.group))
    }

    fn forget(&self, _: &Record) {}
}
