//! The writer: commits queued groups, as many as fit one write and one sync, and publishes them. A
//! thread that waits for a group may take its place once.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::group::{Committer, Group};
use super::log::{Log, lock};
use super::queue::{Pending, State, Writer};
use super::segment::{BLOCK, GroupHead, Position, segment_name};
use super::storage::StorageFile;
use super::{Lsn, StoreError};
use crate::sync::atomic::Ordering;
use crate::sync::{PoisonError, planted};
use crate::time::Timestamp;

/// After so long without work the writer seals the tail.
const SEAL_AFTER: Duration = Duration::from_millis(5);

/// A group, and what became of it.
type Settled = (Arc<Group>, Result<(), StoreError>);

/// The segment in use. Whoever has it locked is writing.
pub(super) struct Device {
    pub(super) file: Box<dyn StorageFile>,
    pub(super) at: Position,
}

impl Log {
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
            if queue.may_take() {
                continue;
            }
            if queue.is_closed {
                return;
            }
            let sealed = Lsn(self.sealed.load(Ordering::SeqCst));
            // A group in a leader's hands will want a seal too.
            let unsealed = sealed < self.published() || queue.is_writing();
            let must_seal = unsealed && queue.state == State::Open;
            let groups = self.groups.load(Ordering::Relaxed);
            let mut queue = if must_seal {
                queue.writer = Writer::Dozes;
                let waited = self.work.wait_timeout(queue, SEAL_AFTER);
                waited.unwrap_or_else(PoisonError::into_inner).0
            } else {
                queue.writer = Writer::Sleeps;
                self.work.wait(queue).unwrap_or_else(PoisonError::into_inner)
            };
            queue.writer = Writer::Works;
            // During a leader's sync a seal would only keep the disk from it.
            let is_idle = queue.is_empty()
                && !queue.is_writing()
                && queue.state == State::Open
                && groups == self.groups.load(Ordering::Relaxed);
            drop(queue);
            if must_seal && is_idle {
                self.seal();
            }
        }
    }

    /// Commits groups until none is queued.
    pub(super) fn commit_queued(&self) {
        loop {
            if !lock(&self.queue).may_take() {
                return;
            }
            let settled = {
                let mut device = lock(&self.device);
                self.commit_some(&mut device, false)
            };
            if settled.is_empty() {
                return;
            }
            settle(settled);
        }
    }

    /// Notes in the superblock how far the log is on disk, so that damage to its end is told from a
    /// torn tail.
    fn seal(&self) {
        let published = self.published();
        let high_water = lock(&self.queue).high_water;
        let written = self.superblock().update(|state| {
            state.sealed = state.sealed.max(published);
            state.high_water = state.high_water.max(high_water);
        });
        match written {
            Ok(()) => self.sealed.store(published.0, Ordering::SeqCst),
            Err(error) => self.fail_and_settle(&Arc::new(error)),
        }
    }

    /// Takes the oldest groups, as many as go into one write, and commits them; none when there are
    /// none. The caller settles them once the device is free: what waits for them is foreign code.
    fn commit_some(&self, device: &mut Device, leads: bool) -> Vec<Settled> {
        let (mut batch, high_water) = {
            let mut queue = lock(&self.queue);
            let here = self.segment_len().saturating_sub(device.at.offset);
            let batch = queue.take(here, self.segment_len() - BLOCK);
            if !batch.is_empty() {
                queue.was_led = leads;
            }
            (batch, queue.high_water)
        };
        let Some(last) = batch.last().map(Pending::last) else { return Vec::new() };
        let len: usize = batch.iter().map(|pending| pending.bytes.len()).sum();
        let records: u64 = batch.iter().map(|pending| u64::from(pending.count)).sum();
        if planted!(PublishedBeforeCommit) {
            self.published.store(last.0, Ordering::SeqCst);
        }
        if let Err(error) = self.write(device, &mut batch, high_water) {
            return self.fail(&Arc::new(error));
        }
        self.published.store(last.0, Ordering::SeqCst);
        self.records.fetch_add(records, Ordering::Relaxed);
        self.groups.fetch_add(batch.len() as u64, Ordering::Relaxed);
        let (groups, buffers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|pending| ((pending.group, Ok(())), pending.bytes)).unzip();
        lock(&self.queue).written(len, buffers.into_iter());
        groups
    }

    /// Writes groups one behind the other and syncs them all at once. Nothing else is written
    /// meanwhile, so each of them knows the same about what was on disk before.
    fn write(
        &self,
        device: &mut Device,
        batch: &mut [Pending],
        high_water: Timestamp,
    ) -> io::Result<()> {
        if self.is_forked() {
            return Err(io::Error::other("the store was opened by another process, which forked"));
        }
        let first_len = batch.first().map_or(0, Pending::padded_len);
        if device.at.offset + first_len > self.segment_len() {
            self.rotate(device)?;
        }
        let synced_through = self.published();
        for pending in batch {
            let Some(previous) = device.at.chain else {
                return Err(io::Error::other("the chain of the log is not known"));
            };
            let head = GroupHead {
                segment: device.at.segment,
                incarnation: self.incarnation.load(Ordering::SeqCst),
                first: pending.first,
                count: pending.count,
                body_len: 0,
                // The groups before it in this write are not on disk yet.
                synced_through: if planted!(SyncedWithinWrite) {
                    Lsn(device.at.next.0 - 1)
                } else {
                    synced_through
                },
                high_water,
                previous,
                chain: [0; 16],
            };
            let chain = head.seal(self.key(), &mut pending.bytes);
            device.file.write_at(device.at.offset as u64, &pending.bytes)?;
            device.at.offset += pending.bytes.len();
            device.at.chain = Some(chain);
            device.at.next = Lsn(pending.last().0 + 1);
        }
        if !planted!(SyncSkipped) {
            device.file.sync()?;
        }
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.offset.store(device.at.offset as u64, Ordering::SeqCst);
        Ok(())
    }

    /// Goes on in the next segment, which the keeper made ready.
    fn rotate(&self, device: &mut Device) -> io::Result<()> {
        let next = device.at.segment + 1;
        if next > self.ready.load(Ordering::SeqCst) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no segment is ready"));
        }
        device.file = self.storage().open(&segment_name(next), false)?;
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
        let groups = lock(&self.queue).abandon();
        tracing::error!(%error, "the log failed; the store refuses writes until it is reopened");
        self.work.notify_all();
        let unknown = || Err(StoreError::Unknown(Arc::clone(error)));
        groups.into_iter().map(|group| (group, unknown())).collect()
    }

    fn fail_and_settle(&self, error: &Arc<io::Error>) {
        settle(self.fail(error));
    }
}

fn settle(settled: Vec<Settled>) {
    for (group, outcome) in settled {
        group.settle(&outcome);
    }
}

impl Committer for Log {
    fn lead(&self) {
        let lead = std::panic::AssertUnwindSafe(|| match self.device.try_lock() {
            // One write and no more: the one that this waiter is in, or one before it. What queues
            // up meanwhile is the writer's.
            Ok(mut device) => self.commit_some(&mut device, true),
            Err(_) => Vec::new(),
        });
        match std::panic::catch_unwind(lead) {
            Ok(settled) => settle(settled),
            Err(_) => self.fail_and_settle(&Arc::new(io::Error::other("a leader panicked"))),
        }
        self.wake_if_needed();
    }

    fn gathers(&self) -> bool {
        self.is_gathered_for()
    }

    fn hurry(&self) {
        // Nothing of a parent's is ours to hurry, and its locks may be held for ever.
        if !self.is_forked() {
            self.wake_if_needed();
        }
    }
}
