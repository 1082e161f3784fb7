//! Tokens as state: who holds what, what is spent, what is revoked.
//!
//! Every change is one of a few verbs, each atomic: [`Issue`], [`Redeem`], [`Revoke`], [`Extend`],
//! [`UseOnce`], [`Put`] and the sweep. The store knows neither JWT nor HTTP; it holds digests, never secrets.

mod batch;
mod checkpoint;
mod code;
mod core;
mod decide;
mod durable;
mod error;
mod extend;
mod feed;
mod follower;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(any(test, fuzzing))]
mod fuzzing_table;
mod group;
mod high_water;
mod issue;
mod keeper;
mod leaf;
mod ledger;
mod list;
mod log;
mod memory;
mod memory_checkpoint;
#[cfg(mintage_loom)]
#[doc(hidden)]
pub mod models;
mod opening;
mod packed;
mod put;
mod queue;
mod record;
mod recovery;
mod redeem;
mod redo;
mod revoke;
mod rows;
mod segment;
mod shard;
mod sled_checkpoint;
mod stamp;
mod storage;
mod superblock;
mod survivor;
mod sweep;
mod ticket;
mod used;
mod verb;
mod view;
mod writer;

pub use batch::Batch;
pub use checkpoint::{Change, Checkpoint, CheckpointError, CheckpointHome, KeyValue};
pub use code::{CODE_BODY_LEN_MAX, CODES_OF_PAIR_MAX};
pub use durable::{DurableOptions, DurableStore};
pub use error::StoreError;
pub use ledger::{LedgerEntry, LedgerPage, LoginChange, Recorded};
pub use memory::MemoryStore;
pub use memory_checkpoint::MemoryCheckpointHome;
pub use put::DOCUMENT_LEN_MAX;
pub use storage::{DiskStorage, Storage, StorageFile};
pub use ticket::Ticket;
pub use used::USED_MAX;
pub use verb::{
    AccessBirth, CodeBirth, CodeOutcome, CodeUse, Extend, Find, Issue, IssueOutcome, Mint, Near,
    Outcome, Pair, PairPolicy, Put, Redeem, RedeemOutcome, RefreshBirth, Revoke, Target, UseOnce,
    UseOnceOutcome, Verb,
};
pub use view::{
    CodeView, Document, GrantView, Listing, Page, Revocation, RevokedScope, Stats, Swept, TokenView,
};

use std::fmt;
use std::future::Future;

use crate::time::{Reading, Timestamp};

/// A number of the one growing counter that orders admissions and revocations (rule: a token lives
/// while its admission is at least every `revoked_at` above it). Gaps are allowed; numbers are never
/// used twice, not even after a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// A position in the commit log, contiguous from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where tokens are kept.
///
/// # Atomicity
/// A verb is decided and enqueued as one unit: all of it happens or none, across a crash too. Of two
/// verbs on one pair or family the second sees the first.
///
/// # Durability
/// A [`Ticket`] resolves when its unit is on stable storage (for a durable store), so what it hands
/// out survives kill -9 and power loss. Unconditional kills ([`Verb::Revoke`], and the kill of a
/// replayed family) are visible to reads before that; kills that belong to a birth become visible
/// with it.
///
/// # Blocking
/// No method waits for the disk, and none blocks longer than a short lock. Waiting is what a
/// [`Ticket`] is for.
pub trait Store: Send + Sync + 'static {
    /// The counter as it is now. Read it **before** a caller is authenticated: it is the admission
    /// of whatever the request gives birth to.
    fn admission(&self) -> Seq;

    /// The time that it judges by: that of `reading`, but no more than a minute behind what it has
    /// seen before, also in an earlier run.
    fn now(&self, reading: Reading) -> Timestamp;

    /// Draws an identifier for a family, a grant or a token that will be born near `near`.
    fn draw(&self, near: Near<'_>) -> u64;

    /// Decides `verb` now and enqueues it; the ticket resolves once it is durable.
    ///
    /// Dropping the ticket neither undoes nor delays anything.
    fn apply(&self, verb: Verb) -> Ticket<Outcome>;

    /// Decides and enqueues many issues, in their order, as one [`Store::apply`] for each would: of
    /// two on one pair the second sees the first, and each has an answer of its own. They go to the
    /// disk together as far as they fit a group, and one wait is enough for all.
    fn issue_many(&self, issues: Vec<Issue>) -> Batch<IssueOutcome>
    where
        Self: Sized,
    {
        batch::issue(self, issues)
    }

    /// Decides and enqueues many redeems, in their order; see [`Store::issue_many`].
    fn redeem_many(&self, redeems: Vec<Redeem>) -> Batch<RedeemOutcome>
    where
        Self: Sized,
    {
        batch::redeem(self, redeems)
    }

    /// Runs `enqueue`. What it has this thread apply need not go to the disk before all of it is there.
    fn together<T>(&self, enqueue: impl FnOnce() -> T) -> T
    where
        Self: Sized,
    {
        enqueue()
    }

    /// Looks a token up. A hit in memory is ready at once; a miss is read from the checkpoint.
    /// `None` is a token that the store does not know; a failed read is an error, never `None`.
    fn find(
        &self,
        find: Find,
        now: Reading,
    ) -> impl Future<Output = Result<Option<TokenView>, StoreError>> + Send + 'static;

    /// One page of a listing, in a stable order, at most `limit` rows, beginning after `cursor`.
    fn list(
        &self,
        listing: Listing,
        cursor: Option<&[u8]>,
        limit: usize,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send + 'static;

    /// Removes a bounded part of what is dead or expired, and reports how much. The durable store
    /// calls it by itself; a host may call it more often.
    fn sweep(&self, now: Reading) -> Result<Swept, StoreError>;

    /// Counters for operators, and the last error of the background work.
    fn stats(&self) -> Stats;
}
