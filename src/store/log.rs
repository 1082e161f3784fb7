//! The commit log at work: units queue up in groups; whoever leads writes a group, syncs it, and
//! publishes it.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::core::{Appended, Journal, Lane};
use super::record::Record;
use super::segment::{BLOCK, GROUP_LEN_MAX, GroupHead, HEAD_LEN, Position, segment_name};
use super::storage::{Storage, StorageFile};
use super::superblock::SuperblockFile;
use super::ticket::{Committer, Group};
use super::{Lsn, StoreError};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::channel::Sender;
use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError, planted};
use crate::time::Timestamp;

/// Births are refused while more bytes than this wait for the disk; redeems and kills later.
const QUEUED_LEN_MAX: usize = 16 * 1024 * 1024;
/// Room that the lanes leave to each other, at least, in bytes.
const UNIT_LEN_MAX: u64 = 4 * 1024;
/// After so long without work the writer seals the tail.
const SEAL_AFTER: Duration = Duration::from_millis(5);

/// The log of one open store.
pub(crate) struct Log {
    storage: Arc<dyn Storage>,
    key: [u8; 32],
    incarnation: AtomicU64,
    segment_len: usize,
    queue: Mutex<Queue>,
    work: Condvar,
    device: Mutex<Device>,
    superblock: Mutex<SuperblockFile>,
    published: AtomicU64,
    /// Where the next group goes in the current segment.
    offset: AtomicU64,
    /// The log is known to be on disk up to here, by the superblock.
    sealed: AtomicU64,
    first: AtomicU64,
    /// Whether the log holds as many bytes as it may.
    is_full: AtomicBool,
    current: AtomicU64,
    ready: AtomicU64,
    groups: AtomicU64,
    records: AtomicU64,
    syncs: AtomicU64,
    gone: Sender<Record>,
    keeper: Sender<()>,
    me: Weak<Log>,
    /// The process that opened the log.
    process: u32,
}

struct Queue {
    pending: VecDeque<Pending>,
    in_flight: Option<(Lsn, Arc<Group>)>,
    next: Lsn,
    queued_len: usize,
    high_water: Timestamp,
    state: State,
    is_closed: bool,
    /// Whether the writer lets the cleaner's records gather.
    is_held: bool,
    /// Whether the writer sleeps and must be woken.
    writer_sleeps: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    ReadOnly,
}

struct Pending {
    /// Room for the head, then record frames.
    bytes: Vec<u8>,
    first: Lsn,
    count: u32,
    group: Arc<Group>,
}

/// A group, and what became of it.
type Settled = (Arc<Group>, Result<(), StoreError>);

struct Device {
    file: Box<dyn StorageFile>,
    at: Position,
}

/// Where the log goes on after recovery.
pub(crate) struct Resume {
    pub(crate) key: [u8; 32],
    pub(crate) incarnation: u64,
    pub(crate) at: Position,
    pub(crate) file: Box<dyn StorageFile>,
    pub(crate) high_water: Timestamp,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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
            queue: Mutex::new(Queue {
                pending: VecDeque::new(),
                in_flight: None,
                next: resume.at.next,
                queued_len: 0,
                high_water: resume.high_water,
                state: State::Open,
                is_closed: false,
                is_held: false,
                writer_sleeps: false,
            }),
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

    /// The writer's thread. If it dies, every ticket is answered and the store refuses writes.
    pub(crate) fn run(&self) {
        let life = std::panic::AssertUnwindSafe(|| self.write_until_closed());
        if std::panic::catch_unwind(life).is_err() {
            self.fail_and_settle(&Arc::new(io::Error::other("the writer panicked")));
        }
    }

    /// The writer's life: commits what is queued, seals the tail when there is nothing to do, ends
    /// when the log is closed and empty.
    fn write_until_closed(&self) {
        loop {
            self.commit_queued();
            let mut queue = lock(&self.queue);
            if !queue.pending.is_empty() && self.may_take(&queue) {
                continue;
            }
            if queue.is_closed {
                return;
            }
            queue.writer_sleeps = true;
            let sealed = Lsn(self.sealed.load(Ordering::SeqCst));
            // A group in a leader's hands will want a seal too.
            let unsealed = sealed < self.published() || queue.in_flight.is_some();
            let must_seal = unsealed && queue.state == State::Open;
            let queue = if must_seal {
                let waited = self.work.wait_timeout(queue, SEAL_AFTER);
                waited.unwrap_or_else(PoisonError::into_inner).0
            } else {
                self.work.wait(queue).unwrap_or_else(PoisonError::into_inner)
            };
            let mut queue = queue;
            queue.writer_sleeps = false;
            let is_idle = queue.pending.is_empty() && queue.state == State::Open;
            drop(queue);
            if must_seal && is_idle {
                self.seal();
            }
        }
    }

    /// Commits groups until none is queued.
    fn commit_queued(&self) {
        loop {
            if !self.may_take(&lock(&self.queue)) {
                return;
            }
            let settled = {
                let mut device = lock(&self.device);
                self.commit_one(&mut device)
            };
            let Some(settled) = settled else { return };
            for (group, outcome) in settled {
                group.settle(&outcome);
            }
        }
    }

    /// Notes in the superblock how far the log is on disk, so that damage to its end is told from a
    /// torn tail.
    fn seal(&self) {
        let published = self.published();
        let high_water = lock(&self.queue).high_water;
        let written = lock(&self.superblock).update(|state| {
            state.sealed = state.sealed.max(published);
            state.high_water = state.high_water.max(high_water);
        });
        match written {
            Ok(()) => self.sealed.store(published.0, Ordering::SeqCst),
            Err(error) => self.fail_and_settle(&Arc::new(error)),
        }
    }

    /// Takes the oldest group and commits it; `None` when there is none. The caller settles it once
    /// the device is free: what waits for it is foreign code.
    fn commit_one(&self, device: &mut Device) -> Option<Vec<Settled>> {
        let (mut pending, high_water) = {
            let mut queue = lock(&self.queue);
            let pending = queue.pending.pop_front()?;
            let last = Lsn(pending.first.0 + u64::from(pending.count) - 1);
            queue.in_flight = Some((last, Arc::clone(&pending.group)));
            (pending, queue.high_water)
        };
        let len = pending.bytes.len();
        if planted!(PublishedBeforeCommit) {
            let last = pending.first.0 + u64::from(pending.count) - 1;
            self.published.store(last, Ordering::SeqCst);
        }
        match self.write_group(device, &mut pending, high_water) {
            Ok(last) => {
                self.published.store(last.0, Ordering::SeqCst);
                self.records.fetch_add(u64::from(pending.count), Ordering::Relaxed);
                self.groups.fetch_add(1, Ordering::Relaxed);
                let mut queue = lock(&self.queue);
                queue.in_flight = None;
                // Its room counted as taken until it was written.
                queue.queued_len = queue.queued_len.saturating_sub(len);
                Some(vec![(pending.group, Ok(()))])
            }
            Err(error) => Some(self.fail(&Arc::new(error))),
        }
    }

    fn write_group(
        &self,
        device: &mut Device,
        pending: &mut Pending,
        high_water: Timestamp,
    ) -> io::Result<Lsn> {
        if self.is_forked() {
            return Err(io::Error::other("the store was opened by another process, which forked"));
        }
        let padded = pending.bytes.len().next_multiple_of(BLOCK);
        if device.at.offset + padded > self.segment_len {
            self.rotate(device)?;
        }
        let Some(previous) = device.at.chain else {
            return Err(io::Error::other("the chain of the log is not known"));
        };
        let head = GroupHead {
            segment: device.at.segment,
            incarnation: self.incarnation.load(Ordering::SeqCst),
            first: pending.first,
            count: pending.count,
            body_len: 0,
            synced_through: self.published(),
            high_water,
            previous,
            chain: [0; 16],
        };
        let chain = head.seal(&self.key, &mut pending.bytes);
        device.file.write_at(device.at.offset as u64, &pending.bytes)?;
        if !planted!(SyncSkipped) {
            device.file.sync()?;
        }
        self.syncs.fetch_add(1, Ordering::Relaxed);
        device.at.offset += padded;
        device.at.chain = Some(chain);
        device.at.next = Lsn(pending.first.0 + u64::from(pending.count));
        self.offset.store(device.at.offset as u64, Ordering::SeqCst);
        Ok(Lsn(device.at.next.0 - 1))
    }

    /// Goes on in the next segment, which the keeper made ready.
    fn rotate(&self, device: &mut Device) -> io::Result<()> {
        let next = device.at.segment + 1;
        if next > self.ready.load(Ordering::SeqCst) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no segment is ready"));
        }
        device.file = self.storage.open(&segment_name(next), false)?;
        device.at.segment = next;
        device.at.offset = BLOCK;
        self.current.store(next, Ordering::SeqCst);
        self.offset.store(BLOCK as u64, Ordering::SeqCst);
        let _ = self.keeper.try_send(());
        Ok(())
    }

    /// After a failed write or sync nothing is known about what is on disk: refuse writes. Returns
    /// the groups that will never be committed, for settling once the device is free.
    fn fail(&self, error: &Arc<io::Error>) -> Vec<Settled> {
        let (in_flight, dropped) = {
            let mut queue = lock(&self.queue);
            queue.state = State::ReadOnly;
            queue.queued_len = 0;
            (queue.in_flight.take(), std::mem::take(&mut queue.pending))
        };
        tracing::error!(%error, "the log failed; the store refuses writes until it is reopened");
        self.work.notify_all();
        let groups = in_flight.map(|(_, group)| group).into_iter();
        let unknown = || Err(StoreError::Unknown(Arc::clone(error)));
        groups.chain(dropped.into_iter().map(|p| p.group)).map(|g| (g, unknown())).collect()
    }

    fn fail_and_settle(&self, error: &Arc<io::Error>) {
        for (group, outcome) in self.fail(error) {
            group.settle(&outcome);
        }
    }

    /// Whether this is a copy in a child of the process that opened the log. The files are the
    /// parent's: the child has none of its threads, and must write nothing.
    pub(crate) fn is_forked(&self) -> bool {
        self.process != std::process::id()
    }

    /// Position of the last record that was enqueued.
    pub(crate) fn tail(&self) -> Lsn {
        Lsn(lock(&self.queue).next.0 - 1)
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
        self.wake_writer(lock(&self.queue));
    }

    fn wake_writer(&self, mut queue: MutexGuard<'_, Queue>) {
        queue.is_held = false;
        let wake = std::mem::take(&mut queue.writer_sleeps);
        drop(queue);
        if wake {
            self.work.notify_one();
        }
    }

    /// Whether the writer may take the oldest group.
    fn may_take(&self, queue: &Queue) -> bool {
        let is_long = |pending: &Pending| pending.bytes.len() >= self.group_len_max() / 2;
        !queue.is_held || queue.pending.len() > 1 || queue.pending.front().is_some_and(is_long)
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

    pub(crate) fn storage(&self) -> &dyn Storage {
        self.storage.as_ref()
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

    fn group_len_max(&self) -> usize {
        GROUP_LEN_MAX.min(self.segment_len / 2 - BLOCK)
    }

    /// Whether a unit of `lane` may be queued so that every queued group finds its place: births
    /// are refused first, kills last. A segment may end in a rest that is too short for the next
    /// group, so it counts as shorter by the longest one. `texts_len` is what the unit may have over
    /// [`UNIT_LEN_MAX`].
    fn has_room(&self, lane: Lane, queue: &Queue, texts_len: u64) -> bool {
        let segment = self.segment_len as u64;
        let usable = (segment - BLOCK as u64).saturating_sub(self.group_len_max() as u64);
        let ahead = self.ready.load(Ordering::SeqCst) - self.current.load(Ordering::SeqCst);
        let here = segment.saturating_sub(self.offset.load(Ordering::SeqCst));
        let here = here.saturating_sub(self.group_len_max() as u64);
        let padding = (queue.pending.len() as u64 + 3) * BLOCK as u64;
        let taken = queue.queued_len as u64 + padding + texts_len;
        let room = (ahead * usable + here).saturating_sub(taken);
        let full = self.is_full.load(Ordering::SeqCst);
        match lane {
            Lane::Birth => {
                !full
                    && room > (segment / 4).max(4 * UNIT_LEN_MAX)
                    && queue.queued_len < QUEUED_LEN_MAX
            }
            Lane::Redeem => {
                room > (segment / 8).max(3 * UNIT_LEN_MAX)
                    && queue.queued_len < QUEUED_LEN_MAX / 4 * 5
            }
            Lane::Clean => {
                room > (segment / 16).max(2 * UNIT_LEN_MAX)
                    && queue.queued_len < QUEUED_LEN_MAX / 4 * 5
            }
            Lane::Kill => room > UNIT_LEN_MAX && queue.queued_len < QUEUED_LEN_MAX / 2 * 3,
        }
    }
}

impl Queue {
    /// Encodes `records` into the group at the back, or a new one: a unit never crosses groups.
    fn enqueue(
        &mut self,
        records: &[Record],
        group_len_max: usize,
        new_group: impl FnOnce() -> Arc<Group>,
    ) -> Appended {
        let first = self.next;
        let count = u32::try_from(records.len()).unwrap_or(u32::MAX);
        self.next = Lsn(first.0 + u64::from(count));
        let mut unit = None;
        if let Some(back) = self.pending.back_mut() {
            let before = back.bytes.len();
            for record in records {
                record.encode(&mut back.bytes);
            }
            if back.bytes.len() <= group_len_max {
                back.count += count;
                self.queued_len += back.bytes.len() - before;
                return Appended { first, group: Some(Arc::clone(&back.group)) };
            }
            unit = Some(back.bytes.split_off(before));
        }
        let mut bytes = Vec::with_capacity(BLOCK);
        bytes.resize(HEAD_LEN, 0);
        match unit {
            Some(unit) => bytes.extend_from_slice(&unit),
            None => records.iter().for_each(|record| record.encode(&mut bytes)),
        }
        self.queued_len += bytes.len();
        let group = new_group();
        self.pending.push_back(Pending { bytes, first, count, group: Arc::clone(&group) });
        Appended { first, group: Some(group) }
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
        let mut queue = lock(&self.queue);
        if queue.is_closed {
            return Err(StoreError::Closed);
        }
        if queue.state == State::ReadOnly {
            return Err(StoreError::ReadOnly);
        }
        if !self.has_room(lane, &queue, texts_len) {
            return Err(StoreError::Busy);
        }
        queue.high_water = queue.high_water.max(now);
        queue.is_held &= lane == Lane::Clean;
        let committer: Weak<dyn Committer> = Weak::<Log>::clone(&self.me);
        let appended = queue.enqueue(records, self.group_len_max(), || Group::new(committer));
        if self.may_take(&queue) && std::mem::take(&mut queue.writer_sleeps) {
            drop(queue);
            self.work.notify_one();
        }
        Ok(appended)
    }

    fn published(&self) -> Lsn {
        Log::published(self)
    }

    fn group_of(&self, lsn: Lsn) -> Option<Arc<Group>> {
        let queue = lock(&self.queue);
        if lsn <= Log::published(self) {
            return None;
        }
        let in_flight = queue.in_flight.as_ref().filter(|(last, _)| lsn <= *last);
        if let Some((_, group)) = in_flight {
            return Some(Arc::clone(group));
        }
        let last = |p: &Pending| Lsn(p.first.0 + u64::from(p.count) - 1);
        if let Some(pending) = queue.pending.iter().find(|p| lsn <= last(p)) {
            let group = Arc::clone(&pending.group);
            if queue.is_held {
                self.wake_writer(queue);
            }
            return Some(group);
        }
        // Its group failed: nothing that depends on it may be acknowledged.
        let group = Group::new(Weak::<Log>::clone(&self.me) as Weak<dyn Committer>);
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
}

impl Committer for Log {
    fn lead(&self) {
        let lead = std::panic::AssertUnwindSafe(|| match self.device.try_lock() {
            // One group and no more: the one that this waiter is in, or one before it. What queues
            // up meanwhile is the writer's.
            Ok(mut device) => self.commit_one(&mut device),
            Err(_) => None,
        });
        match std::panic::catch_unwind(lead) {
            Ok(settled) => {
                for (group, outcome) in settled.unwrap_or_default() {
                    group.settle(&outcome);
                }
            }
            Err(_) => {
                self.fail_and_settle(&Arc::new(io::Error::other("a leader panicked")));
            }
        }
    }
}
