//! The durable store: the shared state over the commit log, with the checkpoint behind it.

use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checkpoint::CheckpointHome;
use super::core::Core;
use super::follower::FollowerHandle;
use super::ledger::{self, LedgerPage};
use super::log::Log;
use super::opening::{Opening, create, unseal};
use super::sled_checkpoint::SledHome;
use super::superblock::SuperblockFile;
use super::ticket::Ticket;
use super::{
    Batch, DiskStorage, Find, Issue, IssueOutcome, Listing, Lsn, Near, Outcome, Page, Redeem,
    RedeemOutcome, Revoke, Seq, Stats, Storage, Store, StoreError, Swept, Target, TokenView,
    USED_MAX, Verb, batch,
};
use crate::entropy::{Entropy, SystemEntropy};
use crate::root_key::RootKey;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::channel::Sender;
use crate::sync::thread::JoinHandle;
use crate::sync::{Mutex, PoisonError};
use crate::time::{Clock, Reading, SystemClock, Timestamp};

const LOCK: &str = "LOCK";
const SLED: &str = "sled";

/// How a durable store is opened.
#[derive(Clone)]
pub struct DurableOptions {
    pub(super) segment_len: usize,
    pub(super) resident_tokens_max: u64,
    pub(super) ledger_len_max: u64,
    pub(crate) used_max: u32,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
}

impl std::fmt::Debug for DurableOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DurableOptions")
            .field("segment_len", &self.segment_len)
            .field("resident_tokens_max", &self.resident_tokens_max)
            .field("used_max", &self.used_max)
            .field("ledger_len_max", &self.ledger_len_max)
            .finish_non_exhaustive()
    }
}

impl Default for DurableOptions {
    fn default() -> DurableOptions {
        DurableOptions {
            segment_len: 16 * 1024 * 1024,
            resident_tokens_max: 16_000_000,
            ledger_len_max: 0,
            used_max: USED_MAX,
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(SystemEntropy::new()),
        }
    }
}

impl DurableOptions {
    /// Length of a segment of the log in bytes, at least 128 KiB (default 16 MiB). It is fixed when
    /// the store is made.
    #[must_use]
    pub fn segment_len(mut self, bytes: usize) -> DurableOptions {
        self.segment_len = bytes;
        self
    }

    /// How many access tokens may stay in memory (default 16,000,000). Beyond it, those that the
    /// checkpoint holds and nobody asks for are let go, and read back when they are asked for.
    #[must_use]
    pub fn resident_tokens_max(mut self, tokens: u64) -> DurableOptions {
        self.resident_tokens_max = tokens;
        self
    }

    /// How many values that may be used once, such as the `jti` of assertions, are remembered until
    /// they expire, of all owners together (default [`USED_MAX`]). Each costs some 100 bytes of
    /// memory. One owner is given at most as many as it leaves to all others, so that none fills the
    /// room alone; beyond that, a use is answered [`StoreError::Busy`].
    #[must_use]
    pub fn used_max(mut self, values: u32) -> DurableOptions {
        self.used_max = values;
        self
    }

    /// How many bytes of the log are kept for [`DurableStore::ledger`] once the store itself needs
    /// them no more, in whole segments (default 0: none). What the store needs is there in any case.
    #[must_use]
    pub fn ledger_len_max(mut self, bytes: u64) -> DurableOptions {
        self.ledger_len_max = bytes;
        self
    }

    /// Where the time comes from (default: the system).
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> DurableOptions {
        self.clock = clock;
        self
    }

    /// Where randomness comes from (default: the system).
    #[must_use]
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> DurableOptions {
        self.entropy = entropy;
        self
    }
}

/// A [`Store`] in a directory. Cloning shares it; the last clone closes it.
///
/// # Durability
/// What a ticket hands out survives kill -9 and power loss, on a disk that honours flushes. Use
/// counts and times of last use are counted in memory and written with a family's next record, or
/// once an hour: a crash may forget the latest.
///
/// # Threads
/// Three of its own: `mintage-writer` commits groups, `mintage-follower` owns the checkpoint,
/// `mintage-keeper` prepares segments, rewrites survivors and sweeps. sled adds a few of its own.
///
/// # Processes
/// The directory belongs to the process that opened it. A child that it forked has none of these
/// threads and none of the right to the files: its writes are refused, and its reads show what was
/// there at the fork (a ticket that it awaits never resolves, one that it waits for does). Closing the
/// store in the parent lets the directory go; a parent that is killed leaves it locked for as long as
/// the child runs. Fork first, then open.
#[derive(Clone)]
pub struct DurableStore {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) core: Arc<Core<Arc<Log>>>,
    pub(super) log: Arc<Log>,
    pub(super) follower: Arc<FollowerHandle>,
    pub(super) is_stopping: Arc<AtomicBool>,
    pub(super) nudge: Sender<()>,
    pub(super) threads: Mutex<Vec<JoinHandle<()>>>,
    pub(super) clock: Arc<dyn Clock>,
    /// Held until the store is closed.
    pub(super) lock: Mutex<Option<DirectoryLock>>,
}

impl std::fmt::Debug for DurableStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DurableStore({})", self.inner.log.storage().path().display())
    }
}

impl DurableStore {
    pub(super) fn new(inner: Inner) -> DurableStore {
        DurableStore { inner: Arc::new(inner) }
    }

    /// Opens the store in the directory `path`, or makes one there.
    ///
    /// # Blocks
    /// While the log is read from where the checkpoint ends; after a power cut or a lost checkpoint,
    /// from its start.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when it is open already, [`StoreError::WrongKey`] when the root key
    /// is not its own, [`StoreError::Corrupt`] and [`StoreError::Format`] for what is on disk,
    /// [`StoreError::Io`].
    pub fn open(
        path: impl Into<PathBuf>,
        root: &RootKey,
        options: DurableOptions,
    ) -> Result<DurableStore, StoreError> {
        let path = path.into();
        let storage =
            DiskStorage::open(&path).map_err(StoreError::io("make the directory", path.clone()))?;
        let lock = lock_directory(&path)?;
        let home = Arc::new(SledHome::new(path.join(SLED)));
        let store = DurableStore::open_on(Arc::new(storage), home, root, options)?;
        *store.inner.lock.lock().unwrap_or_else(PoisonError::into_inner) = Some(lock);
        Ok(store)
    }

    /// Opens the store on a storage and a checkpoint of the caller's. Nobody else may have them
    /// open.
    ///
    /// # Errors
    /// As [`DurableStore::open`].
    pub fn open_on(
        storage: Arc<dyn Storage>,
        home: Arc<dyn CheckpointHome>,
        root: &RootKey,
        options: DurableOptions,
    ) -> Result<DurableStore, StoreError> {
        let superblock = match SuperblockFile::open(storage.as_ref())? {
            // Creating saves a key drawn just now; a store that exists was made with another.
            Some(_) if root.is_unsaved() => {
                let reason = "its file does not exist, though the store does; restore the file";
                return Err(StoreError::WrongKey { reason });
            }
            Some(superblock) => superblock,
            None => create(storage.as_ref(), root, &options)?,
        };
        let key = unseal(&superblock.state, root)?;
        Opening { storage, home, superblock, key, options, root }.run()
    }

    /// Closes the store: commits what is queued, lets the checkpoint catch up, and marks the
    /// directory clean. Every clone is closed: writes on them answer [`StoreError::Closed`].
    ///
    /// # Errors
    /// The last error of the background work, or that the store had refused writes. Nothing that
    /// was acknowledged is lost either way.
    pub fn close(&self) -> Result<(), StoreError> {
        self.inner.close()
    }

    /// What the log has on disk, in its order: every birth, redemption, revocation and change of a
    /// client, as far back as the log and what is kept of it reach
    /// ([`DurableOptions::ledger_len_max`]). It begins after `after`, or with the oldest there is, and
    /// holds at most `rows` entries. The groups that it is read from are checked against the chain of
    /// the log.
    ///
    /// There are no refusals in it, and no secrets. A crash, a power cut and a reopening leave it as
    /// it is.
    ///
    /// # Blocks
    /// On the disk: it reads the files of the log.
    ///
    /// # Errors
    /// [`StoreError::SnapshotNeeded`] when it no longer reaches back to `after`;
    /// [`StoreError::Corrupt`] and [`StoreError::Io`].
    ///
    /// # Examples
    /// ```
    /// # use mintage::entropy::SystemEntropy;
    /// # use mintage::root_key::RootKey;
    /// use mintage::store::{DurableOptions, DurableStore, LedgerPage};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let path = std::env::temp_dir().join(format!("mintage-ledger-{}", std::process::id()));
    /// # let root = RootKey::from_bytes(1, [7; 32]);
    /// let options = DurableOptions::default().ledger_len_max(1 << 30);
    /// let store = DurableStore::open(&path, &root, options)?;
    ///
    /// let mut after = None; // or where the last run ended
    /// loop {
    ///     let LedgerPage { entries, next, .. } = store.ledger(after, 1_000)?;
    ///     if entries.is_empty() {
    ///         break;
    ///     }
    ///     for entry in entries {
    ///         println!("{} {:?}", entry.lsn, entry.what);
    ///     }
    ///     after = Some(next);
    /// }
    /// # drop(store);
    /// # std::fs::remove_dir_all(&path)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn ledger(&self, after: Option<Lsn>, rows: usize) -> Result<LedgerPage, StoreError> {
        ledger::read(&self.inner.core, &self.inner.log, after, rows)
    }

    /// Tells the store that the clock is right, however far it jumped, so that what expired meanwhile
    /// may be swept at once.
    pub fn confirm_clock(&self) {
        self.inner.core.time.confirm(self.inner.clock.read());
    }
}

impl Store for DurableStore {
    fn admission(&self) -> Seq {
        self.inner.core.admission()
    }

    fn now(&self, reading: Reading) -> Timestamp {
        self.inner.core.now(reading)
    }

    fn draw(&self, near: Near<'_>) -> u64 {
        self.inner.core.draw(near)
    }

    fn apply(&self, verb: Verb) -> Ticket<Outcome> {
        let core = &self.inner.core;
        let decided = match verb {
            Verb::Issue(issue) => core.issue(&issue),
            Verb::Redeem(redeem) => core.redeem(&redeem),
            Verb::Revoke(revoke) => match core.revoke(&revoke) {
                Some(decided) => decided,
                None => return self.inner.revoke_cold(revoke),
            },
            Verb::Code(birth) => core.offer(&birth),
            Verb::Extend(extend) => core.extend(&extend),
            Verb::UseOnce(once) => core.use_once(&once),
            Verb::Put(put) => core.put(put),
        };
        decided.unwrap_or_else(|error| Ticket::ready(Err(error)))
    }

    fn issue_many(&self, issues: Vec<Issue>) -> Batch<IssueOutcome> {
        self.together(|| batch::issue(self, issues))
    }

    fn redeem_many(&self, redeems: Vec<Redeem>) -> Batch<RedeemOutcome> {
        self.together(|| batch::redeem(self, redeems))
    }

    fn together<T>(&self, enqueue: impl FnOnce() -> T) -> T {
        let _gathering = self.inner.log.gather();
        enqueue()
    }

    fn find(
        &self,
        find: Find,
        now: Reading,
    ) -> impl Future<Output = Result<Option<TokenView>, StoreError>> + Send + 'static {
        let core = &self.inner.core;
        let hit = core.find(find, core.now(now));
        let cold = match (&hit, find) {
            (Err(_), Find::Access { locator, digest, .. }) => {
                let read = self.inner.follower.ask(locator, digest, |answer| answer);
                Some((Arc::clone(core), read))
            }
            _ => None,
        };
        async move {
            match (hit, cold) {
                (Ok(found), _) => Ok(found),
                (Err(_), None) => Ok(None),
                (Err(_), Some((core, read))) => {
                    let Some((row, lsn)) = read.await?? else { return Ok(None) };
                    core.fill(row, lsn);
                    // Evicted again already: it is there, so it must not be called unknown.
                    core.find(find, core.now(now)).map_err(|_| StoreError::Unavailable)
                }
            }
        }
    }

    fn list(
        &self,
        listing: Listing,
        cursor: Option<&[u8]>,
        limit: usize,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send + 'static {
        let now = self.inner.core.now(self.inner.clock.read());
        std::future::ready(self.inner.core.list(&listing, cursor, limit, now))
    }

    fn sweep(&self, now: Reading) -> Result<Swept, StoreError> {
        self.inner.core.sweep(now)
    }

    fn stats(&self) -> Stats {
        let inner = &self.inner;
        let mut stats = Stats::default();
        inner.core.count(&mut stats);
        let (groups, records, syncs) = inner.log.counts();
        let (first, _, ready) = inner.log.segments();
        stats.checkpointed = inner.follower.shared.applied();
        stats.segments = ready + 1 - first;
        stats.log_bytes = stats.segments * inner.log.segment_len() as u64;
        stats.groups = groups;
        stats.records = records;
        stats.syncs = syncs;
        stats.cold_reads = inner.follower.shared.cold_reads();
        stats.read_only = inner.log.is_read_only();
        stats.last_error = inner.follower.shared.last_error();
        stats
    }
}

impl Inner {
    /// A revocation of an access token that is not in memory: reads it first. It goes on by itself,
    /// whatever becomes of the ticket.
    fn revoke_cold(self: &Arc<Self>, revoke: Revoke) -> Ticket<Outcome> {
        let Target::Access(locator, digest) = revoke.target else {
            return Ticket::ready(Ok(Outcome::Revoke(None)));
        };
        let core = Arc::clone(&self.core);
        let decided = self.follower.ask(locator, digest, move |answer| {
            let nothing = || Ok(Ticket::ready(Ok(Outcome::Revoke(None))));
            let Some((row, lsn)) = answer? else { return nothing() };
            core.fill(row, lsn);
            core.revoke(&revoke).unwrap_or(Err(StoreError::Unavailable))
        });
        Ticket::slow(async move { decided.await??.await })
    }

    fn close(&self) -> Result<(), StoreError> {
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        if threads.is_empty() || self.log.is_forked() {
            return Err(StoreError::Closed);
        }
        self.is_stopping.store(true, Ordering::SeqCst);
        let _ = self.nudge.try_send(());
        self.log.close();
        let mut threads = threads.into_iter();
        // The order in which `run` started them: writer, keeper, follower.
        for thread in threads.by_ref().take(2) {
            let _ = thread.join();
        }
        // A thread that waits for its ticket may be writing still.
        self.log.drain();
        self.follower.stop();
        for thread in threads {
            let _ = thread.join();
        }
        let failed = self.log.is_read_only();
        let result = if failed { Err(StoreError::ReadOnly) } else { self.mark_clean() };
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        result?;
        self.follower.shared.last_error().map_or(Ok(()), Err)
    }

    fn mark_clean(&self) -> Result<(), StoreError> {
        let published = self.log.published();
        let follower = &self.follower.shared;
        let is_clean = follower.is_hardened() && follower.applied() == published;
        // What was forgotten since the last record was is dead by this.
        let high_water = self.log.high_water().max(self.core.time.mark());
        let path = self.log.storage().path().join(super::superblock::SUPERBLOCK);
        self.log
            .superblock()
            .update(|state| {
                state.is_clean = is_clean;
                state.sealed = state.sealed.max(published);
                state.high_water = state.high_water.max(high_water);
            })
            .map_err(StoreError::io("write", path))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // An error here was reported by `close`, or nobody asked.
        let _ = self.close();
    }
}

/// A directory that belongs to this process.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    file: File,
    process: u32,
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child that was forked meanwhile shares the lock until it
        // executes its program. Nor may a child let go what its parent holds.
        if self.process == std::process::id() {
            let _ = self.file.unlock();
        }
    }
}

/// Takes the directory for this process; says who has it otherwise.
fn lock_directory(path: &Path) -> Result<DirectoryLock, StoreError> {
    let at = path.join(LOCK);
    let io = || StoreError::io("lock", at.clone());
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&at).map_err(io())?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = (&mut file).take(256).read_to_string(&mut holder);
            let holder = if holder.is_empty() { "another process".to_owned() } else { holder };
            return Err(StoreError::Locked { path: path.to_owned(), holder });
        }
        Err(std::fs::TryLockError::Error(error)) => return Err(io()(error)),
    }
    let mut lock = DirectoryLock { file, process: std::process::id() };
    let holder = format!("process {}", lock.process);
    lock.file.set_len(0).map_err(io())?;
    lock.file.rewind().map_err(io())?;
    lock.file.write_all(holder.as_bytes()).map_err(io())?;
    Ok(lock)
}
