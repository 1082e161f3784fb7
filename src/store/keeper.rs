//! The keeper: the thread that keeps segments ready ahead of the writer, rewrites the survivors of
//! the oldest and drops it, sweeps, and evicts.

use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, Journal, SHARDS};
use super::follower::FollowerHandle;
use super::ledger;
use super::log::Log;
use super::record::Record;
use super::recovery::{LogReader, each_record};
use super::segment::{BLOCK, segment_head, segment_name};
use super::survivor::Survivor;
use super::ticket::{Ticket, block_on};
use super::view::Stats;
use super::{Lsn, StoreError};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::channel::Receiver;
use crate::sync::{planted, thread};
use crate::time::Clock;

/// Segments that are kept ready ahead of the one in use.
const READY_SEGMENTS: u64 = 2;
/// The log holds at most so many times the bytes of what is live, and [`SEGMENTS_SPARE`] segments.
pub(crate) const LOG_FACTOR: u64 = 3;
/// See [`LOG_FACTOR`].
pub(crate) const SEGMENTS_SPARE: u64 = 4;
/// Bytes of the records of a token, a family and a grant, about.
const TOKEN_LEN: u64 = 128;
const FAMILY_LEN: u64 = 256;
const GRANT_LEN: u64 = 192;
const OTHER_LEN: u64 = 128;
/// About: a code has a body.
const CODE_LEN: u64 = 512;
/// How long the keeper sleeps when nobody nudges it.
const IDLE: Duration = Duration::from_millis(100);
/// How long it waits after something failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Tokens that the cleaner asks the checkpoint for at a time.
const COLD_MAX: usize = 512;
const TEMPORARY: &str = "segment.new";
const ZEROS_LEN: usize = 1024 * 1024;

pub(crate) struct Keeper {
    pub(crate) core: Arc<Core<Arc<Log>>>,
    pub(crate) log: Arc<Log>,
    pub(crate) follower: Arc<FollowerHandle>,
    pub(crate) nudges: Receiver<()>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) is_stopping: Arc<AtomicBool>,
    pub(crate) resident_tokens_max: u64,
    pub(crate) ledger_len_max: u64,
    pub(crate) new_reader: Box<dyn Fn() -> LogReader + Send>,
}

impl Keeper {
    pub(crate) fn run(self) {
        while !self.is_stopping.load(Ordering::SeqCst) {
            let ticked = self.tick();
            let failed = ticked.is_err();
            match ticked {
                // What the log refuses while it is being closed is no error of ours.
                Err(error) if !self.is_stopping.load(Ordering::SeqCst) => {
                    self.follower.shared.note_error(error);
                }
                _ => {}
            }
            let _ = self.nudges.recv_timeout(if failed { RETRY_AFTER } else { IDLE });
        }
    }

    fn tick(&self) -> Result<(), StoreError> {
        if self.log.is_read_only() {
            return Ok(());
        }
        // A disk that is full for new segments must not stop what gives space back.
        let made = self.make_ready();
        let renewed = self.renew_block();
        let swept = match self.core.sweep(self.clock.read()) {
            Err(StoreError::Busy) => Ok(()),
            swept => swept.map(drop),
        };
        self.evict();
        made.and(self.bound_log()).and(renewed).and(swept)
    }

    /// Makes segments ready until there are enough ahead of the writer.
    fn make_ready(&self) -> Result<(), StoreError> {
        loop {
            let (_, current, ready) = self.log.segments();
            if ready >= current + READY_SEGMENTS || self.is_stopping.load(Ordering::SeqCst) {
                return Ok(());
            }
            let number = ready + 1;
            let store_id = self.log.superblock().state.store_id;
            let storage = self.log.storage();
            make_segment(storage.as_ref(), number, self.log.segment_len(), &store_id)?;
            let path = storage.path().join(super::superblock::SUPERBLOCK);
            self.log
                .superblock()
                .update(|state| state.last_segment = number)
                .map_err(StoreError::io("write", path))?;
            self.log.add_ready(number);
        }
    }

    fn renew_block(&self) -> Result<(), StoreError> {
        if self.core.needs_block(self.log.superblock().state.block) {
            let path = self.log.storage().path().join(super::superblock::SUPERBLOCK);
            let block = self.log.take_block().map_err(StoreError::io("write", path))?;
            self.core.begin_block(block);
        }
        Ok(())
    }

    /// Drops the oldest segments while the log is longer than its bound.
    fn bound_log(&self) -> Result<(), StoreError> {
        let (first, current, _) = self.log.segments();
        // A round over the log at most, so that the other duties get their turn.
        for _ in first..=current {
            let mut stats = Stats::default();
            self.core.count(&mut stats);
            let tokens = stats.tokens_resident.max(self.follower.shared.tokens());
            let live = tokens * TOKEN_LEN
                + stats.families * FAMILY_LEN
                + stats.grants * GRANT_LEN
                + (stats.stamps + stats.denied + stats.used) * OTHER_LEN
                + stats.codes * CODE_LEN
                + self.core.text_len();
            let segment_len = self.log.segment_len() as u64;
            let bound = live * LOG_FACTOR / segment_len + SEGMENTS_SPARE;
            let (first, current, ready) = self.log.segments();
            // Beyond twice the bound the cleaner has fallen behind: births wait for it.
            self.log.set_full(ready + 1 - first > 2 * bound + READY_SEGMENTS);
            let is_over = current + 1 - first > bound;
            if !is_over || first + 1 >= current || !self.drop_first(first)? {
                return Ok(());
            }
            self.make_ready()?;
        }
        Ok(())
    }

    /// Rewrites the survivors of the first segment and drops it; `false` if it must stay for now.
    fn drop_first(&self, first: u64) -> Result<bool, StoreError> {
        let dropped = self.clean_first(first);
        self.log.release();
        dropped
    }

    fn clean_first(&self, first: u64) -> Result<bool, StoreError> {
        if !self.follower.shared.is_whole() {
            return Ok(false);
        }
        let mark = self.core.time.observe(self.clock.read());
        let mut reader = (self.new_reader)();
        let mut last_read = Lsn(0);
        let first = if planted!(DroppedOutOfOrder) { first + 1 } else { first };
        let mut cold = Vec::new();
        loop {
            let (head, body) = reader.next()?;
            if planted!(DroppedOutOfOrder) && head.segment < first {
                continue;
            }
            if head.segment != first {
                break;
            }
            let mut records = Vec::new();
            let read = each_record(&head, &body, |record, lsn| records.push((record, lsn)));
            read.map_err(|_| StoreError::Corrupt {
                path: self.log.storage().path().join(segment_name(first)),
                offset: 0,
                reason: "a published group holds what is no record",
            })?;
            last_read = head.last();
            for (record, lsn) in records {
                match self.rewrite(&record, lsn, mark)? {
                    None => return Ok(false),
                    Some(Survivor::Cold) => cold.push((record, lsn)),
                    Some(_) => {}
                }
            }
            if cold.len() >= COLD_MAX && !self.rewrite_cold(&mut cold, mark)? {
                return Ok(false);
            }
        }
        if !self.rewrite_cold(&mut cold, mark)? {
            return Ok(false);
        }
        self.log.release();
        // The checkpoint must not need what is dropped, unless it is being rebuilt: then it waits.
        if self.follower.shared.applied() < last_read {
            return Ok(false);
        }
        // Not only what was moved here must be on disk: a record may be superfluous because of a
        // later one that is still on its way.
        let group = self.log.group_of(self.log.tail()).filter(|_| !planted!(DroppedBeforeSync));
        if let Some(group) = group {
            Ticket::committing(group, Ok(())).wait()?;
        }
        let storage = self.log.storage();
        let path = storage.path().join(super::superblock::SUPERBLOCK);
        self.log.drop_first(first, mark).map_err(StoreError::io("write", path))?;
        ledger::retire(storage.as_ref(), first, self.log.segment_len(), self.ledger_len_max)?;
        Ok(true)
    }

    /// Reads tokens that are not in memory, all at once, and writes again what is still there;
    /// `false` when that cannot be done now.
    fn rewrite_cold(
        &self,
        cold: &mut Vec<(Record, Lsn)>,
        mark: crate::time::Timestamp,
    ) -> Result<bool, StoreError> {
        let ask = |(record, lsn)| match record {
            Record::Token(row) => {
                let read = self.follower.ask(row.locator, row.digest, |answer| answer);
                Some((Record::Token(row), lsn, read))
            }
            _ => None,
        };
        let reads: Vec<_> = cold.drain(..).filter_map(ask).collect();
        let mut found = Vec::new();
        for (record, lsn, read) in reads {
            match block_on(read).and_then(|answer| answer) {
                Ok(Some((row, at))) => {
                    self.core.fill(row, at);
                    found.push((record, lsn));
                }
                Ok(None) => {}
                Err(_) => return Ok(false),
            }
        }
        for (record, lsn) in found {
            match self.rewrite(&record, lsn, mark)? {
                None | Some(Survivor::Cold) => return Ok(false),
                Some(Survivor::Moved | Survivor::Gone) => {}
            }
        }
        Ok(true)
    }

    /// `None` when there is no room now; a cold one is not looked for.
    fn rewrite(
        &self,
        record: &Record,
        lsn: Lsn,
        mark: crate::time::Timestamp,
    ) -> Result<Option<Survivor>, StoreError> {
        loop {
            self.log.hold();
            match self.core.rewrite(record, lsn, mark) {
                Err(StoreError::Busy) => {
                    self.log.release();
                    if self.is_stopping.load(Ordering::SeqCst) {
                        return Ok(None);
                    }
                    // Rewriting takes room too, and nobody else makes any.
                    self.make_ready()?;
                    thread::sleep(Duration::from_millis(1));
                }
                rewritten => return rewritten.map(Some),
            }
        }
    }

    /// Lets go of tokens that the checkpoint holds and nobody asked for, while there are more in
    /// memory than the budget. The dead stay until they expire, so that no late fill revives one.
    fn evict(&self) {
        let applied = self.follower.shared.applied();
        let budget = usize::try_from(self.resident_tokens_max).unwrap_or(usize::MAX) / SHARDS;
        for id in 0..SHARDS as u64 {
            if self.core.shard(id).tokens.len() <= budget {
                continue;
            }
            let mut shard = self.core.shard_mut(id);
            let mut over = shard.tokens.len().saturating_sub(budget);
            shard.tokens.retain(|_, token| {
                let wanted = token.touched.swap(false, Ordering::Relaxed);
                let stays = over == 0 || wanted || token.row.dead || token.lsn > applied;
                over -= usize::from(!stays);
                stays
            });
        }
    }
}

/// Makes a segment: zeros that are really on disk, and its head, under a temporary name first.
pub(crate) fn make_segment(
    storage: &dyn super::Storage,
    number: u64,
    segment_len: usize,
    store_id: &[u8; 16],
) -> Result<(), StoreError> {
    let made = || -> std::io::Result<()> {
        match storage.remove(TEMPORARY) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = storage.open(TEMPORARY, true)?;
        file.write_at(0, &segment_head(number, store_id))?;
        let zeros = vec![0; ZEROS_LEN];
        let mut at = BLOCK;
        while at < segment_len {
            let len = ZEROS_LEN.min(segment_len - at);
            file.write_at(at as u64, zeros.get(..len).unwrap_or(&zeros))?;
            at += len;
        }
        file.sync()?;
        storage.rename(TEMPORARY, &segment_name(number))?;
        storage.sync_names()
    };
    made().map_err(StoreError::io("make a segment in", storage.path()))
}
