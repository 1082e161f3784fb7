//! The follower: the one thread that owns the checkpoint. It applies what the log has published,
//! answers cold reads in between, and builds the checkpoint anew when it is lost.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::checkpoint::{CheckpointError, CheckpointHome};
use super::core::HORIZON_SLACK_SECS;
use super::feed::revocation_in;
use super::log::Log;
use super::packed::{Packed, RowChange};
use super::record::{Record, TokenRow};
use super::recovery::{LogReader, each_record};
use super::superblock::SUPERBLOCK;
use super::view::RevokedScope;
use super::{Lsn, StoreError};
use crate::locator::{Digest, Locator};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::channel::{Receiver, Sender, TrySendError, either};
use crate::sync::{Instant, Mutex, PoisonError};
use crate::time::{Clock, Timestamp};

/// Cold reads that may wait at a time; one more is answered `Busy`.
pub(crate) const READS_MAX: usize = 4_096;
/// The most rows that one step forgets.
const GONE_STEP_MAX: usize = 1_024;
/// Bytes of the log that one step applies.
const STEP_LEN: usize = 512 * 1024;
/// How long a cold read waits for a checkpoint that is being rebuilt.
const READ_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long the follower sleeps when there is nothing to do, and lets a step gather.
const IDLE: Duration = Duration::from_millis(20);
/// A step is worth its cost from so many records on.
const STEP_RECORDS_MIN: u64 = 4_096;
/// The follower rests this many times as long as it works, so that callers have the processor; less
/// the more it is behind, and not at all once that is so many segments of the shortest hot records.
const REST_MAX: f64 = 3.0;
const BEHIND_SEGMENTS_MAX: u64 = 2;
const RECORD_LEN: u64 = 128;
/// How often the checkpoint is hardened and rid of expired regions.
const HARDEN_EVERY: Duration = Duration::from_secs(5);
const REGIONS_DROPPED_MAX: usize = 16;
/// How long the follower waits before it begins the checkpoint again, from the second failure on;
/// twice as long after each further one.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// The row of an access token and the position of its record, if the checkpoint has it.
pub(crate) type Answer = Result<Option<(TokenRow, Lsn)>, StoreError>;

/// A cold read on its way, and what is done with its answer on the follower's thread, whether or
/// not anybody still waits.
pub(crate) struct ColdRead {
    locator: Locator,
    digest: Digest,
    since: Instant,
    then: Option<Box<dyn FnOnce(Answer) + Send>>,
}

impl ColdRead {
    fn answer(mut self, answer: Answer) {
        if let Some(then) = self.then.take() {
            then(answer);
        }
    }
}

impl Drop for ColdRead {
    fn drop(&mut self) {
        // A read that is dropped unanswered must not leave its reader waiting.
        if let Some(then) = self.then.take() {
            then(Err(StoreError::Unavailable));
        }
    }
}

/// Where a value arrives from another thread.
struct Reply<T> {
    state: Mutex<(Option<T>, Option<Waker>)>,
}

impl<T> Reply<T> {
    fn send(&self, value: T) {
        let waker = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.0 = Some(value);
            state.1.take()
        };
        if let Some(waker) = waker {
            // A waker is foreign code: its panic must not take the follower down.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| waker.wake()));
        }
    }
}

/// What came of a cold read, as a future.
pub(crate) struct Awaited<T>(Result<Arc<Reply<T>>, StoreError>);

impl<T> Future for Awaited<T> {
    type Output = Result<T, StoreError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, StoreError>> {
        match &self.0 {
            Err(error) => Poll::Ready(Err(error.clone())),
            Ok(reply) => {
                let mut state = reply.state.lock().unwrap_or_else(PoisonError::into_inner);
                match state.0.take() {
                    Some(value) => Poll::Ready(Ok(value)),
                    None => {
                        state.1 = Some(cx.waker().clone());
                        Poll::Pending
                    }
                }
            }
        }
    }
}

/// What the rest of the store sees of the follower.
pub(crate) struct FollowerHandle {
    reads: Sender<ColdRead>,
    wake: Sender<()>,
    pub(crate) shared: Arc<FollowerState>,
}

#[derive(Default)]
pub(crate) struct FollowerState {
    applied: AtomicU64,
    tokens: AtomicU64,
    cold_reads: AtomicU64,
    is_whole: AtomicBool,
    is_hardened: AtomicBool,
    is_stopping: AtomicBool,
    last_error: Mutex<Option<StoreError>>,
}

impl FollowerState {
    /// The checkpoint holds everything up to here.
    pub(crate) fn applied(&self) -> Lsn {
        Lsn(self.applied.load(Ordering::SeqCst))
    }

    /// Whether what the checkpoint lacks is nowhere.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole.load(Ordering::SeqCst)
    }

    /// Whether what the checkpoint held when the follower was stopped is on stable storage.
    pub(crate) fn is_hardened(&self) -> bool {
        self.is_hardened.load(Ordering::SeqCst)
    }

    pub(crate) fn tokens(&self) -> u64 {
        self.tokens.load(Ordering::Relaxed)
    }

    pub(crate) fn cold_reads(&self) -> u64 {
        self.cold_reads.load(Ordering::Relaxed)
    }

    pub(crate) fn last_error(&self) -> Option<StoreError> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn note_error(&self, error: StoreError) {
        tracing::warn!(%error, "background work failed");
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

impl FollowerHandle {
    pub(crate) fn new(
        reads: Sender<ColdRead>,
        wake: Sender<()>,
        shared: Arc<FollowerState>,
    ) -> FollowerHandle {
        FollowerHandle { reads, wake, shared }
    }

    /// Lets the follower end once it has applied what is published.
    pub(crate) fn stop(&self) {
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        let _ = self.wake.try_send(());
    }

    /// Asks the checkpoint for an access token and does `then` with the answer, on the follower's
    /// thread: quick work that waits for nothing.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        locator: Locator,
        digest: Digest,
        then: impl FnOnce(Answer) -> T + Send + 'static,
    ) -> Awaited<T> {
        let reply = Arc::new(Reply { state: Mutex::new((None, None)) });
        let to = Arc::clone(&reply);
        let then: Box<dyn FnOnce(Answer) + Send> = Box::new(move |answer| to.send(then(answer)));
        let read = ColdRead { locator, digest, since: Instant::now(), then: Some(then) };
        Awaited(match self.reads.try_send(read) {
            Ok(()) => Ok(reply),
            Err(TrySendError::Full(_)) => Err(StoreError::Busy),
            Err(TrySendError::Disconnected(_)) => Err(StoreError::Closed),
        })
    }
}

pub(crate) struct Follower {
    pub(crate) log: Arc<Log>,
    pub(crate) home: Arc<dyn CheckpointHome>,
    pub(crate) table: Option<Packed>,
    pub(crate) reader: LogReader,
    pub(crate) new_reader: Box<dyn Fn() -> LogReader + Send>,
    pub(crate) store_id: [u8; 16],
    pub(crate) reads: Receiver<ColdRead>,
    pub(crate) wakes: Receiver<()>,
    pub(crate) gone: Receiver<Record>,
    /// Whether the last step left some of them.
    pub(crate) has_more_gone: bool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) state: Arc<FollowerState>,
    /// Until the table holds this much, a token that it lacks may still be in the log.
    pub(crate) whole_from: Lsn,
    /// Whether memory holds every live record: the table was empty at open and has taken nothing
    /// over since.
    pub(crate) is_all_resident: bool,
    pub(crate) waiting: Vec<ColdRead>,
    pub(crate) lost: Option<Lost>,
}

/// When the checkpoint was last given up, and how long it is left alone.
#[derive(Clone, Copy)]
pub(crate) struct Lost {
    at: Instant,
    retry_after: Duration,
}

impl Lost {
    pub(crate) fn first() -> Lost {
        Lost { at: Instant::now(), retry_after: RETRY_AFTER }
    }

    fn again(self) -> Lost {
        let retry_after = retry_after(self.retry_after, self.at.elapsed());
        Lost { at: Instant::now(), retry_after }
    }

    fn is_over(self) -> bool {
        self.at.elapsed() >= self.retry_after
    }
}

/// How long a checkpoint is left alone that lasted so long.
fn retry_after(before: Duration, lasted: Duration) -> Duration {
    if lasted < before * 2 { (before * 2).min(RETRY_AFTER_MAX) } else { RETRY_AFTER }
}

impl Follower {
    pub(crate) fn run(mut self) {
        self.note_progress();
        if let Err(error) = self.drop_expired() {
            self.lose(&error);
        }
        let mut hardened = Instant::now();
        loop {
            let stopping = self.state.is_stopping.load(Ordering::SeqCst);
            if self.table.is_none() && self.lost.is_none_or(Lost::is_over) {
                self.begin_again();
            }
            let begun = Instant::now();
            let step = self.step();
            let took = begun.elapsed();
            self.serve();
            let worked = match step {
                Ok(worked) => worked,
                Err(error) => {
                    self.lose(&error);
                    if stopping {
                        return;
                    }
                    continue;
                }
            };
            if stopping && !worked {
                match self.table.as_mut().map(Packed::harden) {
                    Some(Ok(())) => self.state.is_hardened.store(true, Ordering::SeqCst),
                    Some(Err(error)) => self.state.note_error(unusable(&error)),
                    None => {}
                }
                return;
            }
            if hardened.elapsed() >= HARDEN_EVERY {
                hardened = Instant::now();
                let tidied = self
                    .drop_expired()
                    .and_then(|()| self.table.as_mut().map_or(Ok(()), Packed::harden));
                if let Err(error) = tidied {
                    self.lose(&error);
                }
            }
            if let Some(rest) = self.rest(took).filter(|_| !stopping) {
                self.waiting.extend(either(&self.reads, &self.wakes, rest));
                self.serve();
            }
        }
    }

    /// How long to leave the processor to others after a step that took so long. A read or a wake-up
    /// ends it.
    fn rest(&self, took: Duration) -> Option<Duration> {
        if self.table.is_none() {
            return Some(IDLE);
        }
        let behind = self.log.published().0.saturating_sub(self.state.applied().0);
        let of_segment = self.log.segment_len() as u64 / RECORD_LEN;
        let behind_max = BEHIND_SEGMENTS_MAX * of_segment;
        let is_urgent = !self.state.is_whole() || behind >= behind_max;
        if self.has_more_gone || (is_urgent && behind > 0) {
            return None;
        }
        if behind < STEP_RECORDS_MIN.min(of_segment / 2) {
            return Some(IDLE);
        }
        Some(took.mul_f64(REST_MAX * (1.0 - behind as f64 / behind_max as f64)).min(IDLE))
    }

    /// Applies the next part of what is published, and what was swept; `false` if there is none.
    fn step(&mut self) -> Result<bool, CheckpointError> {
        let published = self.log.published();
        let Some(table) = &mut self.table else { return Ok(false) };
        let mut gone: Vec<Record> = self.gone.try_iter().take(GONE_STEP_MAX).collect();
        self.has_more_gone = gone.len() == GONE_STEP_MAX;
        if let Some(mark) = gone.iter().filter_map(dead_by).max()
            && let Err(error) = self.log.keep_time(mark)
        {
            // The rows stay in the table; they are met and let go of after the next open.
            self.state.note_error(StoreError::io("write", SUPERBLOCK)(error));
            gone.retain(|row| dead_by(row).is_none());
        }
        let mut changes: Vec<RowChange> = gone.into_iter().map(RowChange::Remove).collect();
        let mut upto = table.position();
        let mut len = 0;
        while upto < published && len < STEP_LEN {
            let (head, body) = self.reader.next().map_err(engine)?;
            len += body.len();
            let position = table.position();
            let read = each_record(&head, &body, |record, lsn| {
                if lsn > position {
                    changes.push(change(record, lsn));
                }
            });
            read.map_err(|_| CheckpointError::Damaged("the log holds what is no record"))?;
            upto = upto.max(head.last());
        }
        if changes.is_empty() && upto == table.position() {
            return Ok(false);
        }
        table.apply(upto, changes)?;
        self.is_all_resident = false;
        self.note_progress();
        Ok(true)
    }

    fn note_progress(&self) {
        if let Some(table) = &self.table {
            self.state.tokens.store(table.tokens(), Ordering::Relaxed);
            self.state.applied.store(table.position().0, Ordering::SeqCst);
            let is_whole = table.position() >= self.whole_from;
            self.state.is_whole.store(is_whole, Ordering::SeqCst);
        }
    }

    fn serve(&mut self) {
        let room = READS_MAX.saturating_sub(self.waiting.len());
        self.waiting.extend(self.reads.try_iter().take(room));
        let is_whole = self.table.as_ref().is_some_and(|t| t.position() >= self.whole_from);
        if !is_whole && self.is_all_resident {
            // What is not in memory is nowhere.
            for read in std::mem::take(&mut self.waiting) {
                read.answer(Ok(None));
            }
            return;
        }
        if !is_whole {
            self.waiting.retain(|read| read.since.elapsed() < READ_WAIT_MAX);
            return;
        }
        for read in std::mem::take(&mut self.waiting) {
            let Some(table) = &mut self.table else { continue };
            self.state.cold_reads.fetch_add(1, Ordering::Relaxed);
            match table.token(read.locator, read.digest) {
                Ok(found) => read.answer(Ok(found)),
                Err(error) => {
                    // The read stays open: the rebuilt table answers it, or time does.
                    self.waiting.push(read);
                    self.lose(&error);
                    return;
                }
            }
        }
    }

    /// Gives the table up: everything it held is in the log or dead.
    fn lose(&mut self, error: &CheckpointError) {
        self.state.note_error(unusable(error));
        self.state.applied.store(0, Ordering::SeqCst);
        self.state.is_whole.store(false, Ordering::SeqCst);
        self.table = None;
        let before = self.lost;
        self.lost = Some(before.map_or_else(Lost::first, Lost::again));
        let is_soon = before.is_some_and(|before| !before.is_over());
        if !is_soon || self.state.is_stopping.load(Ordering::SeqCst) {
            self.begin_again();
        }
    }

    /// Begins a new table, from the start of the log.
    fn begin_again(&mut self) {
        // The reader first: what the cleaner moves out of an older segment meanwhile counts too.
        self.reader = (self.new_reader)();
        self.whole_from = self.log.published();
        let opened = self
            .home
            .destroy()
            .and_then(|()| self.home.open())
            .and_then(|table| Packed::open(table, self.store_id));
        match opened {
            Ok(table) => self.table = Some(table),
            Err(error) => {
                self.state.note_error(unusable(&error));
                self.lost = Some(self.lost.map_or_else(Lost::first, Lost::again));
            }
        }
    }

    fn drop_expired(&mut self) -> Result<(), CheckpointError> {
        let Some(table) = &mut self.table else { return Ok(()) };
        // The high-water mark of the log, which a clock that jumped cannot rush.
        let mark = self.log.high_water().min(self.clock.read().unix);
        table.drop_expired(Timestamp(mark.0), REGIONS_DROPPED_MAX).map(drop)
    }
}

/// The time that must be durable before a row is forgotten: until then an earlier clock would make
/// its value new, or its token alive.
fn dead_by(gone: &Record) -> Option<Timestamp> {
    match gone {
        Record::Used(row) => Some(row.expires_at.plus(HORIZON_SLACK_SECS)),
        Record::Deny(row) => Some(row.expires_at.plus(HORIZON_SLACK_SECS)),
        _ => None,
    }
}

/// What a record does to the table: the dead are not kept there.
pub(super) fn change(record: Record, lsn: Lsn) -> RowChange {
    let is_dead_token = matches!(
        revocation_in(&record),
        Some((RevokedScope::Token, ..)) if matches!(record, Record::Token(_))
    );
    match &record {
        Record::Token(_) if is_dead_token => RowChange::Remove(record),
        Record::Document(row) if row.body.is_none() => RowChange::Remove(record),
        _ => RowChange::Put(lsn, record),
    }
}

fn engine(error: StoreError) -> CheckpointError {
    CheckpointError::Engine(Box::new(error))
}

fn unusable(error: &CheckpointError) -> StoreError {
    let text = match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    StoreError::Io {
        doing: "use the checkpoint, which is being rebuilt from the log, in",
        path: "sled".into(),
        error: Arc::new(std::io::Error::other(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A failed table leaves memory behind: under a fault that stays there is one a minute.
    #[test]
    fn a_checkpoint_that_keeps_failing_is_begun_ever_more_seldom() {
        let mut waits = vec![RETRY_AFTER];
        for _ in 0..8 {
            let before = waits[waits.len() - 1];
            waits.push(retry_after(before, before));
        }
        let secs: Vec<u64> = waits.iter().map(Duration::as_secs).collect();
        assert_eq!(secs, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(retry_after(RETRY_AFTER_MAX, RETRY_AFTER_MAX * 2), RETRY_AFTER);
    }
}
