//! The commit log of an open store: where units are enqueued, and what the other threads ask it.

use std::cell::Cell;
use std::io;
use std::sync::{Arc, Weak};

use super::core::{Appended, Journal, Lane};
use super::group::{Committer, Group};
use super::queue::{Queue, Room, State};
use super::record::Record;
use super::segment::{BLOCK, GROUP_LEN_MAX, Position};
use super::storage::{Storage, StorageFile};
use super::superblock::SuperblockFile;
use super::writer::Device;
use super::{Lsn, StoreError};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::channel::Sender;
use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError, thread_local};
use crate::time::Timestamp;

/// A buffer for frames that has grown beyond this is let go of.
const FRAMES_LEN_MAX: usize = 64 * 1024;

std::thread_local! {
    /// Frames are encoded before the queue is locked.
    static FRAMES: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

thread_local! {
    /// The log, by its address, to which this thread is enqueuing many units; 0 for none. It wakes
    /// the writer when it is done.
    #[allow(clippy::missing_const_for_thread_local, reason = "those of the models take none")]
    static GATHERS: Cell<usize> = Cell::new(0);
}

/// While it lives, what this thread enqueues wakes the writer only once a group is full, or once it is
/// polled: the rest goes to the disk together when it is dropped.
pub(crate) struct Gathering<'a> {
    log: &'a Log,
    /// What this thread gathered for before.
    before: usize,
}

impl Drop for Gathering<'_> {
    fn drop(&mut self) {
        GATHERS.with(|gathers| gathers.set(self.before));
        if self.before != self.log.address() {
            self.log.wake_if_needed();
        }
    }
}

/// The log of one open store.
pub(crate) struct Log {
    storage: Arc<dyn Storage>,
    key: [u8; 32],
    pub(super) incarnation: AtomicU64,
    segment_len: usize,
    pub(super) queue: Mutex<Queue>,
    pub(super) work: Condvar,
    pub(super) device: Mutex<Device>,
    superblock: Mutex<SuperblockFile>,
    pub(super) published: AtomicU64,
    /// Where the next group goes in the current segment.
    pub(super) offset: AtomicU64,
    /// The log is known to be on disk up to here, by the superblock.
    pub(super) sealed: AtomicU64,
    first: AtomicU64,
    /// Whether the log holds as many bytes as it may.
    is_full: AtomicBool,
    pub(super) current: AtomicU64,
    pub(super) ready: AtomicU64,
    pub(super) groups: AtomicU64,
    pub(super) records: AtomicU64,
    pub(super) syncs: AtomicU64,
    gone: Sender<Record>,
    pub(super) keeper: Sender<()>,
    me: Weak<Log>,
    /// The process that opened the log.
    process: u32,
}

/// Where the log goes on after recovery.
pub(crate) struct Resume {
    pub(crate) key: [u8; 32],
    pub(crate) incarnation: u64,
    pub(crate) at: Position,
    pub(crate) file: Box<dyn StorageFile>,
    pub(crate) high_water: Timestamp,
}

/// In the simulation a few units fill a group, so that its writes have several.
fn group_len_max(segment_len: usize) -> usize {
    if cfg!(mintage_sim) { BLOCK / 4 } else { GROUP_LEN_MAX.min(segment_len / 2 - BLOCK) }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        superblock: SuperblockFile,
        resume: Resume,
        gone: Sender<Record>,
        keeper: Sender<()>,
    ) -> Arc<Log> {
        let segment_len = usize::try_from(superblock.state.segment_len).unwrap_or(usize::MAX);
        let ready = superblock.state.last_segment;
        let published = Lsn(resume.at.next.0 - 1);
        let sealed = superblock.state.sealed.0;
        let first = superblock.state.first_segment;
        Arc::new_cyclic(|me| Log {
            storage,
            key: resume.key,
            incarnation: AtomicU64::new(resume.incarnation),
            segment_len,
            queue: Mutex::new(Queue::new(
                resume.at.next,
                resume.high_water,
                group_len_max(segment_len),
            )),
            work: Condvar::new(),
            current: AtomicU64::new(resume.at.segment),
            device: Mutex::new(Device { file: resume.file, at: resume.at }),
            superblock: Mutex::new(superblock),
            published: AtomicU64::new(published.0),
            offset: AtomicU64::new(resume.at.offset as u64),
            sealed: AtomicU64::new(sealed),
            first: AtomicU64::new(first),
            is_full: AtomicBool::new(false),
            ready: AtomicU64::new(ready),
            groups: AtomicU64::new(0),
            records: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            gone,
            keeper,
            me: Weak::clone(me),
            process: std::process::id(),
        })
    }

    /// See [`Gathering`].
    pub(crate) fn gather(&self) -> Gathering<'_> {
        let before = GATHERS.with(|gathers| gathers.replace(self.address()));
        Gathering { log: self, before }
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Whether this thread gathers units for this log; see [`Gathering`].
    pub(super) fn is_gathered_for(&self) -> bool {
        GATHERS.with(Cell::get) == self.address()
    }

    /// Wakes the writer if it sleeps over something.
    pub(super) fn wake_if_needed(&self) {
        self.wake(lock(&self.queue));
    }

    fn wake(&self, mut queue: MutexGuard<'_, Queue>) {
        if queue.must_wake() {
            drop(queue);
            self.work.notify_one();
        }
    }

    /// Whether this is a copy in a child of the process that opened the log. The files are the
    /// parent's: the child has none of its threads, and must write nothing.
    pub(crate) fn is_forked(&self) -> bool {
        self.process != std::process::id()
    }

    /// Position of the last record that was enqueued.
    pub(crate) fn tail(&self) -> Lsn {
        lock(&self.queue).tail()
    }

    /// A segment is ready, and listed in the superblock.
    pub(crate) fn add_ready(&self, number: u64) {
        self.ready.store(number, Ordering::SeqCst);
    }

    /// Takes the next block of numbers, durable before any number of it is used.
    pub(crate) fn take_block(&self) -> io::Result<u64> {
        let mut superblock = lock(&self.superblock);
        let next = superblock.state.block + 1;
        superblock.update(|state| state.block = next)?;
        self.incarnation.store(next, Ordering::SeqCst);
        Ok(next)
    }

    /// Refuses new units and lets the writer end once the queued ones are committed.
    pub(crate) fn close(&self) {
        let mut queue = lock(&self.queue);
        queue.is_closed = true;
        queue.is_held = false;
        drop(queue);
        self.work.notify_all();
    }

    /// Lets the records that the cleaner enqueues gather to a group worth writing, until somebody
    /// else enqueues or waits, or [`Log::release`]. A group takes whole blocks: records written one by
    /// one would take more room than dropping their segment gives back.
    pub(crate) fn hold(&self) {
        let mut queue = lock(&self.queue);
        queue.is_held = !queue.is_closed;
    }

    /// Lets the writer have what was held.
    pub(crate) fn release(&self) {
        let mut queue = lock(&self.queue);
        queue.is_held = false;
        self.wake(queue);
    }

    /// Drops the first segment from the list; its file may go once this is on disk. What was not
    /// written again is dead by `mark`.
    pub(crate) fn drop_first(&self, first: u64, mark: Timestamp) -> io::Result<()> {
        self.superblock().update(|state| {
            state.first_segment = first + 1;
            state.high_water = state.high_water.max(mark);
        })?;
        self.first.store(first + 1, Ordering::SeqCst);
        Ok(())
    }

    /// Makes `mark` durable, before something is forgotten that only the time keeps from being taken
    /// again: an open goes on from it, whatever the clock shows then.
    pub(crate) fn keep_time(&self, mark: Timestamp) -> io::Result<()> {
        let mut superblock = self.superblock();
        if mark <= superblock.state.high_water {
            return Ok(());
        }
        let mark = mark.max(self.high_water());
        superblock.update(|state| state.high_water = state.high_water.max(mark))
    }

    /// Waits until nobody writes, and commits what may still be queued.
    pub(crate) fn drain(&self) {
        self.commit_queued();
        drop(lock(&self.device));
    }

    pub(crate) fn superblock(&self) -> MutexGuard<'_, SuperblockFile> {
        lock(&self.superblock)
    }

    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    pub(crate) fn key(&self) -> &[u8; 32] {
        &self.key
    }

    pub(crate) fn segment_len(&self) -> usize {
        self.segment_len
    }

    /// The first segment, the one that is being written, and the last one that is ready.
    pub(crate) fn segments(&self) -> (u64, u64, u64) {
        let load = |number: &AtomicU64| number.load(Ordering::SeqCst);
        (load(&self.first), load(&self.current), load(&self.ready))
    }

    pub(crate) fn set_full(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::SeqCst);
    }

    pub(crate) fn high_water(&self) -> Timestamp {
        lock(&self.queue).high_water
    }

    pub(crate) fn is_read_only(&self) -> bool {
        lock(&self.queue).state == State::ReadOnly
    }

    /// Groups, records and syncs since the log was opened.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.groups), count(&self.records), count(&self.syncs))
    }

    fn room(&self) -> Room {
        Room {
            segment_len: self.segment_len as u64,
            ahead: self.ready.load(Ordering::SeqCst) - self.current.load(Ordering::SeqCst),
            offset: self.offset.load(Ordering::SeqCst),
            is_full: self.is_full.load(Ordering::SeqCst),
        }
    }

    fn new_group(&self) -> Arc<Group> {
        Group::new(Weak::<Log>::clone(&self.me) as Weak<dyn Committer>)
    }
}

impl Journal for Arc<Log> {
    fn append(
        &self,
        records: &[Record],
        lane: Lane,
        now: Timestamp,
    ) -> Result<Appended, StoreError> {
        let texts_len = records.iter().map(|record| record.text_len() as u64).sum();
        let count = u32::try_from(records.len()).unwrap_or(u32::MAX);
        let mut frames = FRAMES.take();
        frames.clear();
        records.iter().for_each(|record| record.encode(&mut frames));
        let appended = self.enqueue(&frames, count, lane, now, texts_len);
        if frames.capacity() <= FRAMES_LEN_MAX {
            FRAMES.set(frames);
        }
        appended
    }

    fn published(&self) -> Lsn {
        Log::published(self)
    }

    fn group_of(&self, lsn: Lsn) -> Option<Arc<Group>> {
        let mut queue = lock(&self.queue);
        if lsn <= Log::published(self) {
            return None;
        }
        if let Some(group) = queue.group_of(lsn) {
            self.wake(queue);
            return Some(group);
        }
        // Its group failed: nothing that depends on it may be acknowledged.
        let group = self.new_group();
        group.settle(&Err(StoreError::ReadOnly));
        Some(group)
    }

    fn forget(&self, gone: &Record) {
        // When the checkpoint is behind, the row is met again at the next open and forgotten then.
        let _ = self.gone.try_send(gone.clone());
    }
}

impl Log {
    pub(crate) fn published(&self) -> Lsn {
        Lsn(self.published.load(Ordering::SeqCst))
    }

    fn enqueue(
        &self,
        frames: &[u8],
        count: u32,
        lane: Lane,
        now: Timestamp,
        texts_len: u64,
    ) -> Result<Appended, StoreError> {
        let mut queue = lock(&self.queue);
        queue.admit(lane, &self.room(), texts_len)?;
        queue.high_water = queue.high_water.max(now);
        queue.is_wanted |= lane != Lane::Clean;
        let appended = queue.enqueue(frames, count, || self.new_group());
        let is_gathering = !queue.has_full_group() && self.is_gathered_for();
        if is_gathering || queue.is_left_to_leader() {
            if let Some(group) = &appended.group {
                group.leave();
            }
        } else {
            self.wake(queue);
        }
        Ok(appended)
    }
}
