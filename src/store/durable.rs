//! The durable store: the shared state over the commit log, with the checkpoint behind it.

use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::checkpoint::CheckpointHome;
use super::core::{Core, Journal, Opened};
use super::follower::{ColdRead, Follower, FollowerHandle, FollowerState, READS_MAX};
use super::high_water::HighWater;
use super::keeper::{Keeper, make_segment};
use super::log::{Log, Resume};
use super::packed::Packed;
use super::record::Record;
use super::recovery::{LogReader, Recovered, Recovery};
use super::segment::{BLOCK, SEGMENT_LEN_MIN};
use super::sled_checkpoint::SledHome;
use super::superblock::{Superblock, SuperblockFile};
use super::ticket::Ticket;
use super::{
    DiskStorage, Find, Listing, Lsn, Near, Outcome, Page, Revoke, Seq, Stats, Storage, Store,
    StoreError, Swept, Target, TokenView, Verb,
};
use crate::entropy::{Entropy, SystemEntropy, random};
use crate::root_key::{RootKey, RootKeyError};
use crate::time::{Clock, Reading, SystemClock, Timestamp};

const LOCK: &str = "LOCK";
const SLED: &str = "sled";
const KEY_LABEL: &str = "mintage store key";
/// How many removed rows may wait for the checkpoint.
const GONE_MAX: usize = 64 * 1024;

/// How a durable store is opened.
#[derive(Clone)]
pub struct DurableOptions {
    segment_len: usize,
    resident_tokens_max: u64,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl std::fmt::Debug for DurableOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DurableOptions")
            .field("segment_len", &self.segment_len)
            .field("resident_tokens_max", &self.resident_tokens_max)
            .finish_non_exhaustive()
    }
}

impl Default for DurableOptions {
    fn default() -> DurableOptions {
        DurableOptions {
            segment_len: 16 * 1024 * 1024,
            resident_tokens_max: 16_000_000,
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
#[derive(Clone)]
pub struct DurableStore {
    inner: Arc<Inner>,
}

struct Inner {
    core: Arc<Core<Arc<Log>>>,
    log: Arc<Log>,
    follower: Arc<FollowerHandle>,
    is_stopping: Arc<AtomicBool>,
    nudge: Sender<()>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    clock: Arc<dyn Clock>,
    /// Held until the store is closed.
    lock: Mutex<Option<File>>,
}

impl std::fmt::Debug for DurableStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DurableStore({})", self.inner.log.storage().path().display())
    }
}

impl DurableStore {
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
            Verb::Put(put) => core.put(put),
        };
        decided.unwrap_or_else(|error| Ticket::ready(Err(error)))
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
                    Ok(core.find(find, core.now(now)).unwrap_or(None))
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
            core.revoke(&revoke).unwrap_or_else(nothing)
        });
        Ticket::slow(async move { decided.await??.await })
    }

    fn close(&self) -> Result<(), StoreError> {
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        if threads.is_empty() {
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
        let is_clean = self.follower.shared.applied() == published;
        let high_water = self.log.high_water();
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

/// A store between its superblock and its threads.
struct Opening<'a> {
    storage: Arc<dyn Storage>,
    home: Arc<dyn CheckpointHome>,
    superblock: SuperblockFile,
    key: [u8; 32],
    options: DurableOptions,
    root: &'a RootKey,
}

impl Opening<'_> {
    fn run(mut self) -> Result<DurableStore, StoreError> {
        let chain_key = blake3::derive_key("mintage 2026-11 commit log chain", &self.key);
        let storage = Arc::clone(&self.storage);
        let found = self.superblock.state.clone();
        let recovery = Recovery::new(storage.as_ref(), &chain_key, &found)?;
        let (gone, gone_rows) = bounded(GONE_MAX);
        let mut core = Core::new(Pen, self.key, 1, HighWater::resume(Timestamp(0), self.now()));

        let table = self.open_table(&recovery)?;
        let (table, after) =
            match table.and_then(|mut table| load(&mut table, &core).then_some(table)) {
                Some(table) => {
                    let after = table.position();
                    (table, after)
                }
                None => {
                    core = Core::new(Pen, self.key, 1, HighWater::resume(Timestamp(0), self.now()));
                    (self.fresh_table()?, Lsn(0))
                }
            };
        core.begin_feed(after);
        let recovered = recovery.run(after, &mut |record, lsn| core.redo(record, lsn))?;
        core.join_families();
        let end = Lsn(recovered.end.next.0 - 1);
        if end < after {
            let at = recovered.end;
            return Err(StoreError::Corrupt {
                path: storage.path().join(super::segment::segment_name(at.segment)),
                offset: at.offset as u64,
                reason: "the log ends before what the checkpoint holds",
            });
        }
        // What a killed process wrote, names too, may be in the page cache alone: it counts from here
        // on, so it must be on disk.
        let at = recovered.end.segment;
        let path = storage.path().join(super::segment::segment_name(at));
        recovered.file.sync().map_err(StoreError::io("sync", path))?;
        storage.sync_names().map_err(StoreError::io("sync", storage.path()))?;
        self.remove_dropped()?;
        let block = self.take_block(&recovered)?;
        let high_water = recovered.high_water.max(self.superblock.state.high_water);
        let now = self.now();
        core.time = HighWater::resume(high_water, now);
        core.opened = Opened { at: core.time.now(now), last_durable: high_water, lsn: end };
        core.begin_block(block);
        self.start(core, table, recovered, chain_key, block, (gone, gone_rows))
    }

    fn now(&self) -> Reading {
        self.options.clock.read()
    }

    /// The checkpoint, if it can be believed: it was closed, or the machine has not lost its memory
    /// since; it belongs to this store; and the log still reaches back to it.
    fn open_table(&self, recovery: &Recovery<'_>) -> Result<Option<Packed>, StoreError> {
        let state = &self.superblock.state;
        let boot = boot_id();
        let is_believed = state.is_clean || (boot == state.boot && boot != [0; 16]);
        if !is_believed {
            return Ok(None);
        }
        let table = self.home.open().and_then(|table| Packed::open(table, state.store_id));
        let table = match table {
            Ok(table) => table,
            Err(error) => {
                tracing::warn!(%error, "the checkpoint is rebuilt from the log");
                return Ok(None);
            }
        };
        let reaches = recovery.first_lsn()?.is_none_or(|first| first.0 <= table.position().0 + 1);
        Ok(reaches.then_some(table))
    }

    fn fresh_table(&self) -> Result<Packed, StoreError> {
        let made = self
            .home
            .destroy()
            .and_then(|()| self.home.open())
            .and_then(|table| Packed::open(table, self.superblock.state.store_id));
        made.map_err(|error| StoreError::Io {
            doing: "make a checkpoint in",
            path: self.storage.path().to_owned(),
            error: Arc::new(std::io::Error::other(error)),
        })
    }

    /// Removes segments that left the list just before the process ended.
    fn remove_dropped(&self) -> Result<(), StoreError> {
        let path = self.storage.path();
        let first = self.superblock.state.first_segment;
        for name in self.storage.list().map_err(StoreError::io("list", path))? {
            if super::segment::segment_number(&name).is_some_and(|number| number < first) {
                self.storage.remove(&name).map_err(StoreError::io("remove", path.join(name)))?;
            }
        }
        Ok(())
    }

    /// Takes a fresh block of numbers, durable before any number of it is used.
    fn take_block(&mut self, recovered: &Recovered) -> Result<u64, StoreError> {
        let block = self.superblock.state.block.max(recovered.incarnation) + 1;
        let sealed = Lsn(recovered.end.next.0 - 1);
        let sealed_key = reseal(&self.superblock.state, self.root, &self.options)?;
        let path = self.storage.path().join(super::superblock::SUPERBLOCK);
        self.superblock
            .update(|state| {
                state.block = block;
                state.last_segment = recovered.last_segment;
                state.sealed = sealed;
                state.boot = boot_id();
                state.is_clean = false;
                if let Some(sealed_key) = sealed_key {
                    state.sealed_key = sealed_key;
                }
            })
            .map_err(StoreError::io("write", path))?;
        Ok(block)
    }

    fn start(
        self,
        core: Core<Pen>,
        table: Packed,
        recovered: Recovered,
        chain_key: [u8; 32],
        block: u64,
        (gone, gone_rows): (Sender<Record>, Receiver<Record>),
    ) -> Result<DurableStore, StoreError> {
        let store_id = self.superblock.state.store_id;
        let whole_from = Lsn(recovered.end.next.0 - 1);
        let resume = Resume {
            key: chain_key,
            incarnation: block,
            at: recovered.end,
            file: recovered.file,
            high_water: core.opened.last_durable,
        };
        let (nudge, nudges) = bounded(1);
        let log = Log::new(Arc::clone(&self.storage), self.superblock, resume, gone, nudge.clone());
        let core = Arc::new(core.with_journal(|_| Arc::clone(&log)));
        let (reads, read_requests) = bounded::<ColdRead>(READS_MAX);
        let state = Arc::new(FollowerState::default());
        let (wake, wakes) = bounded(1);
        let follower = Arc::new(FollowerHandle::new(reads, wake, Arc::clone(&state)));
        let is_stopping = Arc::new(AtomicBool::new(false));
        let reader_of = |log: &Arc<Log>, storage: &Arc<dyn Storage>| {
            let (log, storage) = (Arc::clone(log), Arc::clone(storage));
            move || {
                let first = log.superblock().state.first_segment;
                LogReader::new(Arc::clone(&storage), *log.key(), log.segment_len(), first)
            }
        };
        let new_reader = reader_of(&log, &self.storage);
        let mut reader = new_reader();
        reader.skip_to(table.position())?;
        let tail = Follower {
            log: Arc::clone(&log),
            home: self.home,
            table: Some(table),
            reader,
            new_reader: Box::new(new_reader),
            store_id,
            reads: read_requests,
            wakes,
            gone: gone_rows,
            clock: Arc::clone(&self.options.clock),
            state,
            whole_from,
            waiting: Vec::new(),
            lost_at: None,
        };
        let keeper = Keeper {
            core: Arc::clone(&core),
            log: Arc::clone(&log),
            follower: Arc::clone(&follower),
            nudges,
            clock: Arc::clone(&self.options.clock),
            is_stopping: Arc::clone(&is_stopping),
            resident_tokens_max: self.options.resident_tokens_max,
            new_reader: Box::new(reader_of(&log, &self.storage)),
        };
        let inner = Inner {
            core,
            log: Arc::clone(&log),
            follower,
            is_stopping,
            nudge,
            threads: Mutex::default(),
            clock: self.options.clock,
            lock: Mutex::new(None),
        };
        let writer = Arc::clone(&log);
        for (name, run) in [
            ("mintage-writer", Box::new(move || writer.run()) as Box<dyn FnOnce() + Send>),
            ("mintage-keeper", Box::new(move || keeper.run())),
            ("mintage-follower", Box::new(move || tail.run())),
        ] {
            let thread = std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(run)
                .map_err(StoreError::io("start a thread for", self.storage.path()))?;
            inner.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Ok(DurableStore { inner: Arc::new(inner) })
    }
}

/// Loads what is resident; `false` when the table does not add up.
fn load(table: &mut Packed, core: &Core<Pen>) -> bool {
    match table.load(&mut |record, lsn| core.redo(record, lsn)) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "the checkpoint is rebuilt from the log");
            false
        }
    }
}

/// Makes an empty store: first segment, then the superblock, so that a crash leaves no store or a
/// whole one.
fn create(
    storage: &dyn Storage,
    root: &RootKey,
    options: &DurableOptions,
) -> Result<SuperblockFile, StoreError> {
    let path = storage.path().to_owned();
    let names = storage.list().map_err(StoreError::io("list", path.clone()))?;
    let is_used =
        |name: &String| super::segment::segment_number(name).is_some_and(|number| number > 1);
    if names.iter().any(is_used) {
        let reason = "the superblock is missing, though there are segments";
        return Err(StoreError::Corrupt { path, offset: 0, reason });
    }
    root.save().map_err(|error| match error {
        RootKeyError::Io(path, error) => StoreError::io("write the root key", path)(error),
        other => StoreError::io("write the root key", path.clone())(std::io::Error::other(other)),
    })?;
    let drawn =
        |error| StoreError::io("draw randomness for", path.clone())(std::io::Error::other(error));
    let key = random::<32>(options.entropy.as_ref()).map_err(drawn)?;
    let store_id = random::<16>(options.entropy.as_ref()).map_err(drawn)?;
    let sealed_key = root.seal(KEY_LABEL, &key, options.entropy.as_ref()).map_err(drawn)?;
    let segment_len = options.segment_len.max(SEGMENT_LEN_MIN).next_multiple_of(BLOCK);
    make_segment(storage, 1, segment_len, &store_id)?;
    SuperblockFile::create(
        storage,
        Superblock {
            version: 1,
            store_id,
            block: 0,
            first_segment: 1,
            last_segment: 1,
            segment_len: segment_len as u64,
            sealed: Lsn(0),
            high_water: Timestamp(0),
            boot: boot_id(),
            is_clean: true,
            sealed_key,
        },
    )
}

fn unseal(state: &Superblock, root: &RootKey) -> Result<[u8; 32], StoreError> {
    let version = state.sealed_key.first().copied().unwrap_or(0);
    if !root.versions().any(|known| known == version) {
        let reason = "it lacks a version that the store was last opened with";
        return Err(StoreError::WrongKey { reason });
    }
    root.unseal(KEY_LABEL, &state.sealed_key)
        .and_then(|key| key.as_slice().try_into().ok())
        .ok_or(StoreError::WrongKey { reason: "the store was made with another one" })
}

/// The store's key under the newest version of the root key, if it is not yet.
fn reseal(
    state: &Superblock,
    root: &RootKey,
    options: &DurableOptions,
) -> Result<Option<Vec<u8>>, StoreError> {
    if state.sealed_key.first() == Some(&root.current()) {
        return Ok(None);
    }
    let key = unseal(state, root)?;
    let sealed = root.seal(KEY_LABEL, &key, options.entropy.as_ref());
    sealed.map(Some).map_err(|error| {
        StoreError::io("draw randomness for", "the store's key")(std::io::Error::other(error))
    })
}

/// Takes the directory for this process; says who has it otherwise.
fn lock_directory(path: &Path) -> Result<File, StoreError> {
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
    let holder = format!("process {}", std::process::id());
    file.set_len(0).map_err(io())?;
    file.rewind().map_err(io())?;
    file.write_all(holder.as_bytes()).map_err(io())?;
    Ok(file)
}

/// Identifies this boot of the machine: while it is the same, what a killed process wrote is there.
fn boot_id() -> [u8; 16] {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_or([0; 16], |text| {
        blake3::hash(text.trim().as_bytes())
            .as_bytes()
            .first_chunk::<16>()
            .copied()
            .unwrap_or([0; 16])
    })
}

/// The journal of a state that is being loaded: nothing is written yet.
struct Pen;

impl Journal for Pen {
    fn append(
        &self,
        _: &[Record],
        _: super::core::Lane,
        _: Timestamp,
    ) -> Result<super::core::Appended, StoreError> {
        Err(StoreError::ReadOnly)
    }

    fn published(&self) -> Lsn {
        Lsn(u64::MAX)
    }

    fn group_of(&self, _: Lsn) -> Option<Arc<super::ticket::Group>> {
        None
    }

    fn forget(&self, _: &Record) {}
}
