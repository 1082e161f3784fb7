//! The store in memory: every rule of the durable one, and nothing left when it is dropped.

use std::future::Future;
use std::sync::Arc;

use super::core::{Appended, Core, Journal, Lane};
use super::group::Group;
use super::high_water::HighWater;
use super::record::Record;
use super::ticket::Ticket;
use super::{
    Find, Listing, Lsn, Near, Outcome, Page, Seq, Stats, Store, StoreError, Swept, TokenView, Verb,
};
use crate::entropy::{Entropy, EntropyError, random};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::time::{Clock, Reading, Timestamp};

/// A [`Store`] in memory. Cloning shares it.
///
/// # Durability
/// None: a ticket resolves at once, and dropping the last clone forgets everything.
#[derive(Clone)]
pub struct MemoryStore {
    core: Arc<Core<Nowhere>>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MemoryStore")
    }
}

impl MemoryStore {
    /// An empty store. `entropy` gives the key that names are digested under.
    ///
    /// # Errors
    /// [`EntropyError`].
    pub fn new(clock: Arc<dyn Clock>, entropy: &dyn Entropy) -> Result<MemoryStore, EntropyError> {
        let key = random::<32>(entropy)?;
        let time = HighWater::resume(Timestamp(0), clock.read());
        let core = Core::new(Nowhere { next: AtomicU64::new(1) }, key, 1, time);
        Ok(MemoryStore { core: Arc::new(core), clock })
    }

    /// How many values that may be used once are remembered at a time, as
    /// [`DurableOptions::used_max`](super::DurableOptions::used_max) has it.
    #[must_use]
    pub fn used_max(self, values: u32) -> MemoryStore {
        self.core.used_mut().set_max(values);
        self
    }
}

impl Store for MemoryStore {
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
        listing: Listing,
        cursor: Option<&[u8]>,
        limit: usize,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send + 'static {
        let now = self.core.now(self.clock.read());
        std::future::ready(self.core.list(&listing, cursor, limit, now))
    }

    fn sweep(&self, now: Reading) -> Result<Swept, StoreError> {
        self.core.sweep(now)
    }

    fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        self.core.count(&mut stats);
        stats.durable = Lsn(self.core.journal.next.load(Ordering::SeqCst) - 1);
        stats
    }
}

/// The journal of a store in memory: everything is published as soon as it is said.
struct Nowhere {
    next: AtomicU64,
}

impl Journal for Nowhere {
    fn append(&self, records: &[Record], _: Lane, _: Timestamp) -> Result<Appended, StoreError> {
        let first = self.next.fetch_add(records.len() as u64, Ordering::SeqCst);
        Ok(Appended { first: Lsn(first), group: None })
    }

    fn published(&self) -> Lsn {
        Lsn(u64::MAX)
    }

    fn group_of(&self, _: Lsn) -> Option<Arc<Group>> {
        None
    }

    fn forget(&self, _: &Record) {}
}
