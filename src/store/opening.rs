//! Opening a durable store: the checkpoint where it can be believed, the log from there on, a fresh
//! block of numbers, and the threads.

use std::sync::Arc;

use super::checkpoint::CheckpointHome;
use super::core::{Core, Journal, Opened};
use super::durable::Inner;
use super::follower::{ColdRead, Follower, FollowerHandle, FollowerState, Lost, READS_MAX};
use super::high_water::HighWater;
use super::keeper::{Keeper, make_segment};
use super::ledger;
use super::log::{Log, Resume};
use super::packed::Packed;
use super::record::Record;
use super::recovery::{LogReader, Recovered, Recovery};
use super::segment::{BLOCK, SEGMENT_LEN_MIN};
use super::superblock::{Superblock, SuperblockFile};
use super::{DurableOptions, DurableStore, Lsn, Storage, StoreError};
use crate::entropy::random;
use crate::root_key::{RootKey, RootKeyError};
use crate::sync::atomic::AtomicBool;
use crate::sync::channel::{Receiver, Sender, bounded};
use crate::sync::{Mutex, PoisonError, planted, thread};
use crate::time::{Reading, Timestamp};

const KEY_LABEL: &str = "mintage store key";
/// How many removed rows may wait for the checkpoint.
const GONE_MAX: usize = 64 * 1024;

/// A store between its superblock and its threads.
pub(super) struct Opening<'a> {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) home: Arc<dyn CheckpointHome>,
    pub(super) superblock: SuperblockFile,
    pub(super) key: [u8; 32],
    pub(super) options: DurableOptions,
    pub(super) root: &'a RootKey,
}

impl Opening<'_> {
    pub(super) fn run(mut self) -> Result<DurableStore, StoreError> {
        let chain_key = blake3::derive_key("mintage 2026-11 commit log chain", &self.key);
        let storage = Arc::clone(&self.storage);
        let found = self.superblock.state.clone();
        let recovery = Recovery::new(storage.as_ref(), &chain_key, &found)?;
        let (gone, gone_rows) = bounded(GONE_MAX);
        let mut core = Core::new(Pen, self.key, 1, HighWater::resume(Timestamp(0), self.now()));

        let table = self.open_table(&recovery)?;
        let first = recovery.first_lsn()?.unwrap_or_default();
        let loaded =
            table.and_then(|mut table| load(&mut table, first, &mut core).then_some(table));
        let is_rebuilt = loaded.is_none();
        let table = match loaded {
            Some(table) => Ok(table),
            None => {
                core = Core::new(Pen, self.key, 1, HighWater::resume(Timestamp(0), self.now()));
                // Nothing depends on the checkpoint: without one, everything stays in memory, and
                // the follower tries again.
                self.fresh_table()
            }
        };
        let after = table.as_ref().map_or(Lsn(0), Packed::position);
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
        let block = self.take_block(&recovered)?;
        // Only once the superblock that dropped them is certainly on disk.
        self.remove_dropped()?;
        let high_water = recovered.high_water.max(self.superblock.state.high_water);
        let now = self.now();
        core.time = HighWater::resume(high_water, now);
        core.used_mut().set_max(self.options.used_max);
        core.opened = Opened { at: core.time.now(now), last_durable: high_water, lsn: end };
        core.begin_block(block);
        self.start(core, (table, is_rebuilt), recovered, chain_key, block, (gone, gone_rows))
    }

    fn now(&self) -> Reading {
        self.options.clock.read()
    }

    /// The checkpoint, if it can be believed: it was closed, or the machine has not lost its memory
    /// since; it belongs to this store; and the log still reaches back to it.
    fn open_table(&self, recovery: &Recovery<'_>) -> Result<Option<Packed>, StoreError> {
        let state = &self.superblock.state;
        let boot = self.storage.boot();
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

    /// Lets go of segments that left the list just before the process ended.
    fn remove_dropped(&self) -> Result<(), StoreError> {
        let state = &self.superblock.state;
        let segment_len = usize::try_from(state.segment_len).unwrap_or(usize::MAX);
        let max = self.options.ledger_len_max;
        ledger::retire_below(self.storage.as_ref(), state.first_segment, segment_len, max)
    }

    /// Takes a fresh block of numbers, durable before any number of it is used.
    fn take_block(&mut self, recovered: &Recovered) -> Result<u64, StoreError> {
        // A slot that is lost may have named the next block, of which numbers were given out.
        let lost = u64::from(self.superblock.is_doubtful && !planted!(BlockUsedAgain));
        let block = self.superblock.state.block.max(recovered.incarnation) + lost + 1;
        let sealed = Lsn(recovered.end.next.0 - 1);
        let sealed_key = reseal(&self.superblock.state, self.root, &self.options)?;
        let boot = self.storage.boot();
        let path = self.storage.path().join(super::superblock::SUPERBLOCK);
        self.superblock
            .update(|state| {
                state.block = block;
                state.last_segment = recovered.last_segment;
                state.sealed = sealed;
                state.boot = boot;
                state.is_clean = false;
                if let Some(sealed_key) = sealed_key {
                    state.sealed_key = sealed_key;
                }
            })
            .map_err(StoreError::io("write", path.clone()))?;
        if self.superblock.is_doubtful {
            // Over the lost slot's neighbour too, or the next loss would lead back two blocks.
            self.superblock.update(|_| {}).map_err(StoreError::io("write", path))?;
        }
        Ok(block)
    }

    fn start(
        self,
        core: Core<Pen>,
        (table, is_rebuilt): (Result<Packed, StoreError>, bool),
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
        reader.skip_to(table.as_ref().map_or(Lsn(0), Packed::position))?;
        let table = table.map_err(|error| state.note_error(error)).ok();
        let tail = Follower {
            log: Arc::clone(&log),
            home: self.home,
            lost: table.is_none().then(Lost::first),
            table,
            is_all_resident: is_rebuilt,
            reader,
            new_reader: Box::new(new_reader),
            store_id,
            reads: read_requests,
            wakes,
            gone: gone_rows,
            has_more_gone: false,
            clock: Arc::clone(&self.options.clock),
            state,
            whole_from,
            waiting: Vec::new(),
        };
        let keeper = Keeper {
            core: Arc::clone(&core),
            log: Arc::clone(&log),
            follower: Arc::clone(&follower),
            nudges,
            clock: Arc::clone(&self.options.clock),
            is_stopping: Arc::clone(&is_stopping),
            resident_tokens_max: self.options.resident_tokens_max,
            ledger_len_max: self.options.ledger_len_max,
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
            let thread = thread::Builder::new()
                .name(name.to_owned())
                .spawn(run)
                .map_err(StoreError::io("start a thread for", self.storage.path()))?;
            inner.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Ok(DurableStore::new(inner))
    }
}

/// Loads what is resident; `false` when the table does not add up.
fn load(table: &mut Packed, first: Lsn, core: &mut Core<Pen>) -> bool {
    core.begin_feed(table.position());
    match table.load(first, &mut |record, lsn| core.redo(record, lsn)) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "the checkpoint is rebuilt from the log");
            false
        }
    }
}

/// Makes an empty store: first segment, then the superblock, so that a crash leaves no store or a
/// whole one.
pub(super) fn create(
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
            boot: storage.boot(),
            is_clean: true,
            sealed_key,
        },
    )
}

pub(super) fn unseal(state: &Superblock, root: &RootKey) -> Result<[u8; 32], StoreError> {
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

    fn group_of(&self, _: Lsn) -> Option<Arc<super::group::Group>> {
        None
    }

    fn forget(&self, _: &Record) {}
}
