//! Recovery: what the log says, from a position on. It is redo, and may be repeated.
//!
//! A tail that an interrupted write left is cut off; anything else that is not a group in its place
//! is reported as damage, and so is a log that ends below what was known to be on disk.

use std::io;
use std::sync::Arc;

use super::ledger::kept_name;
use super::record::{Record, RecordError};
use super::segment::{
    BLOCK, CHAIN_START, Found, GroupHead, Position, is_segment_head, read_group, segment_name,
    segment_number, synced_after,
};
use super::storage::{Storage, StorageFile};
use super::superblock::Superblock;
use super::{Lsn, StoreError};
use crate::sync::planted;
use crate::time::Timestamp;

const WRONG_HEAD: &str = "a segment's head is not its own";
const WRONG_LENGTH: &str = "a segment has not the length of a segment";

/// What recovery found.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// Where the log goes on.
    pub(crate) end: Position,
    /// The file of that segment.
    pub(crate) file: Box<dyn StorageFile>,
    /// The last segment that exists.
    pub(crate) last_segment: u64,
    /// The highest time in any group.
    pub(crate) high_water: Timestamp,
    /// The highest block of numbers in any group.
    pub(crate) incarnation: u64,
}

/// The log as recovery meets it.
pub(crate) struct Recovery<'a> {
    storage: &'a dyn Storage,
    key: &'a [u8; 32],
    superblock: &'a Superblock,
    last_segment: u64,
}

impl<'a> Recovery<'a> {
    /// Looks at what there is.
    pub(crate) fn new(
        storage: &'a dyn Storage,
        key: &'a [u8; 32],
        superblock: &'a Superblock,
    ) -> Result<Recovery<'a>, StoreError> {
        let listed = StoreError::io("list", storage.path());
        let mut numbers: Vec<u64> =
            storage.list().map_err(listed)?.iter().filter_map(|n| segment_number(n)).collect();
        numbers.sort_unstable();
        // A segment is made before the superblock lists it.
        let mut last_segment = superblock.last_segment;
        while numbers.binary_search(&(last_segment + 1)).is_ok() {
            last_segment += 1;
        }
        Ok(Recovery { storage, key, superblock, last_segment })
    }

    /// Position of the first record that the log holds; `None` when it holds none.
    pub(crate) fn first_lsn(&self) -> Result<Option<Lsn>, StoreError> {
        for number in self.superblock.first_segment..=self.last_segment {
            if let Some(first) = self.first_of(number)? {
                return Ok(Some(first));
            }
        }
        Ok(None)
    }

    fn first_of(&self, number: u64) -> Result<Option<Lsn>, StoreError> {
        let file = self.open(number)?;
        let mut block = vec![0; BLOCK];
        file.read_at(BLOCK as u64, &mut block).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                self.damaged(number, BLOCK as u64, WRONG_LENGTH)
            } else {
                StoreError::io("read", self.storage.path().join(segment_name(number)))(error)
            }
        })?;
        Ok(GroupHead::first_in(&block, number))
    }

    fn open(&self, number: u64) -> Result<Box<dyn StorageFile>, StoreError> {
        let name = segment_name(number);
        self.storage.open(&name, false).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                self.damaged(number, 0, "a segment of the log is missing")
            } else {
                StoreError::io("open", self.storage.path().join(name))(error)
            }
        })
    }

    fn read(&self, number: u64) -> Result<(Box<dyn StorageFile>, Vec<u8>), StoreError> {
        let path = self.storage.path().join(segment_name(number));
        let file = self.open(number)?;
        let len = file.size().map_err(StoreError::io("read", path.clone()))?;
        if len != self.superblock.segment_len {
            return Err(self.damaged(number, len, WRONG_LENGTH));
        }
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        file.read_at(0, &mut bytes).map_err(StoreError::io("read", path))?;
        if !is_segment_head(&bytes, number, &self.superblock.store_id) {
            return Err(self.damaged(number, 0, WRONG_HEAD));
        }
        Ok((file, bytes))
    }

    fn damaged(&self, number: u64, offset: u64, reason: &'static str) -> StoreError {
        let path = self.storage.path().join(segment_name(number));
        StoreError::Corrupt { path, offset, reason }
    }

    /// Hands every record after `after` to `sink`, in order, and finds the end.
    pub(crate) fn run(
        &self,
        after: Lsn,
        sink: &mut dyn FnMut(Record, Lsn),
    ) -> Result<Recovered, StoreError> {
        let start = self.start(after)?;
        self.glance_below(start)?;
        let mut recovered: Option<Recovered> = None;
        for number in start..=self.last_segment {
            let (file, bytes) = self.read(number)?;
            let before = recovered.as_ref().map(|r| r.end);
            let from = self.enter(number, before)?;
            let (end, state) = self.walk(number, &bytes, from, after, sink)?;
            let is_first = recovered.is_none();
            let moved = end.offset > BLOCK;
            if let Some(known) = &mut recovered {
                known.high_water = known.high_water.max(state.high_water);
                known.incarnation = known.incarnation.max(state.incarnation);
            }
            if is_first || moved {
                let (high_water, incarnation) = match &recovered {
                    Some(known) => (known.high_water, known.incarnation),
                    None => (state.high_water, state.incarnation),
                };
                recovered = Some(Recovered {
                    end,
                    file,
                    last_segment: self.last_segment,
                    high_water,
                    incarnation,
                });
            }
            if let Some((from, _)) = state.last_write
                && let Some(groups) = bytes.get(from..end.offset)
                && let Some(recovered) = &recovered
            {
                // A sync that failed in an earlier run may have left the groups of its write in the
                // page cache alone, marked clean: written again, the sync at the end of open reaches
                // them.
                let path = self.storage.path().join(segment_name(number));
                let again = recovered.file.write_at(from as u64, groups);
                again.map_err(StoreError::io("write", path))?;
            }
            if state.is_torn {
                self.cut(number, &bytes, end.offset)?;
            }
        }
        let nothing = || self.damaged(start, 0, "the log has no segment");
        let recovered = recovered.ok_or_else(nothing)?;
        if Lsn(recovered.end.next.0 - 1) < self.superblock.sealed && !planted!(TornInTheMiddle) {
            let Position { segment, offset, .. } = recovered.end;
            let reason = "the log ends before what is known to have been written";
            return Err(self.damaged(segment, offset as u64, reason));
        }
        Ok(recovered)
    }

    /// The last segment whose first record is at or before `after`: its first group is whole, and
    /// the chain through it is known.
    fn start(&self, after: Lsn) -> Result<u64, StoreError> {
        let first = self.superblock.first_segment;
        for number in (first..=self.last_segment).rev() {
            if self.first_of(number)?.is_some_and(|lsn| lsn <= after) {
                return Ok(number);
            }
        }
        Ok(first)
    }

    /// Makes sure that the segments which the checkpoint spares us reading are there, each in its
    /// place. Their groups are read when they are cleaned, or when the checkpoint is lost.
    fn glance_below(&self, start: u64) -> Result<(), StoreError> {
        let mut before = Lsn(0);
        for number in self.superblock.first_segment..start {
            let path = self.storage.path().join(segment_name(number));
            let file = self.open(number)?;
            let len = file.size().map_err(StoreError::io("read", path.clone()))?;
            if len != self.superblock.segment_len {
                return Err(self.damaged(number, len, WRONG_LENGTH));
            }
            let mut bytes = vec![0; 2 * BLOCK];
            file.read_at(0, &mut bytes).map_err(StoreError::io("read", path))?;
            if !is_segment_head(&bytes, number, &self.superblock.store_id) {
                return Err(self.damaged(number, 0, WRONG_HEAD));
            }
            match GroupHead::first_in(bytes.get(BLOCK..).unwrap_or(&[]), number) {
                Some(first) if first > before => before = first,
                _ => {
                    let reason = "a segment does not begin with a group of its own";
                    return Err(self.damaged(number, BLOCK as u64, reason));
                }
            }
        }
        Ok(())
    }

    /// Where a segment's first group must stand, and what it must continue.
    fn enter(&self, number: u64, before: Option<Position>) -> Result<Position, StoreError> {
        Ok(match before {
            Some(before) => Position { segment: number, offset: BLOCK, ..before },
            // What came before was dropped or is covered by the checkpoint.
            None => Position {
                segment: number,
                offset: BLOCK,
                next: self.first_of(number)?.unwrap_or(Lsn(1)),
                chain: if number == 1 { Some(CHAIN_START) } else { None },
            },
        })
    }

    fn walk(
        &self,
        number: u64,
        bytes: &[u8],
        mut at: Position,
        after: Lsn,
        sink: &mut dyn FnMut(Record, Lsn),
    ) -> Result<(Position, Walked), StoreError> {
        let mut walked = Walked::default();
        loop {
            match read_group(self.key, bytes, &at) {
                Found::Group(head, body) => {
                    walked.high_water = walked.high_water.max(head.high_water);
                    walked.incarnation = walked.incarnation.max(head.incarnation);
                    self.records(number, at.offset, &head, body, |record, lsn| {
                        if lsn > after {
                            sink(record, lsn);
                        }
                    })?;
                    if walked.last_write.is_none_or(|(_, synced)| synced != head.synced_through) {
                        walked.last_write = Some((at.offset, head.synced_through));
                    }
                    at.offset += head.padded_len();
                    at.next = Lsn(head.last().0 + 1);
                    at.chain = Some(head.chain);
                }
                Found::End => return Ok((at, walked)),
                Found::Torn | Found::Damaged(_) if planted!(TornInTheMiddle) => {
                    walked.is_torn = true;
                    return Ok((at, walked));
                }
                Found::Torn if at.next > self.synced_beyond(number, bytes, at.offset)? => {
                    walked.is_torn = true;
                    return Ok((at, walked));
                }
                Found::Torn => {
                    let reason = "a group is missing that was known to have been written";
                    return Err(self.damaged(number, at.offset as u64, reason));
                }
                Found::Damaged(reason) => {
                    return Err(self.damaged(number, at.offset as u64, reason));
                }
            }
        }
    }

    /// The highest position that anything after this point calls synced.
    fn synced_beyond(&self, number: u64, bytes: &[u8], offset: usize) -> Result<Lsn, StoreError> {
        let mut highest = self.superblock.sealed.max(synced_after(self.key, bytes, offset));
        for later in number + 1..=self.last_segment {
            let (_, bytes) = self.read(later)?;
            highest = highest.max(synced_after(self.key, &bytes, BLOCK));
        }
        Ok(highest)
    }

    fn records(
        &self,
        number: u64,
        offset: usize,
        head: &GroupHead,
        body: &[u8],
        each: impl FnMut(Record, Lsn),
    ) -> Result<(), StoreError> {
        let whole = each_record(head, body, each);
        whole.map_err(|error| match error {
            RecordError::Damaged => {
                self.damaged(number, offset as u64, "a group holds what is no record")
            }
            RecordError::Unknown => StoreError::Format {
                path: self.storage.path().join(segment_name(number)),
                reason: "it holds records of a newer version of the library",
            },
        })
    }

    /// Zeroes a torn tail, so that no later recovery can meet it.
    fn cut(&self, number: u64, bytes: &[u8], offset: usize) -> Result<(), StoreError> {
        let path = self.storage.path().join(segment_name(number));
        let file = self.open(number)?;
        let zeros = vec![0; bytes.len().saturating_sub(offset)];
        file.write_at(offset as u64, &zeros)
            .and_then(|()| file.sync())
            .map_err(StoreError::io("repair", path))
    }
}

#[derive(Default)]
struct Walked {
    high_water: Timestamp,
    incarnation: u64,
    is_torn: bool,
    /// Where the groups begin that went to the disk with the last sync, and what was synced before:
    /// the groups of one write say the same of that, and no others do.
    last_write: Option<(usize, Lsn)>,
}

/// Reads the records of a group in order.
pub(crate) fn each_record(
    head: &GroupHead,
    mut body: &[u8],
    mut each: impl FnMut(Record, Lsn),
) -> Result<(), RecordError> {
    for n in 0..u64::from(head.count) {
        let (record, len) = Record::decode(body)?;
        each(record, Lsn(head.first.0 + n));
        body = body.get(len..).ok_or(RecordError::Damaged)?;
    }
    if body.is_empty() { Ok(()) } else { Err(RecordError::Damaged) }
}

/// A segment of the log, or one that the ledger keeps.
fn open_kept(storage: &dyn Storage, number: u64) -> io::Result<Box<dyn StorageFile>> {
    match storage.open(&segment_name(number), false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            storage.open(&kept_name(number), false)
        }
        opened => opened,
    }
}

/// Follows the log as it grows, from a position on.
#[derive(Debug)]
pub(crate) struct LogReader {
    storage: Arc<dyn Storage>,
    key: [u8; 32],
    file: Option<Box<dyn StorageFile>>,
    at: Position,
    segment_len: usize,
}

impl LogReader {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        key: [u8; 32],
        segment_len: usize,
        first_segment: u64,
    ) -> LogReader {
        let at = Position { segment: first_segment, offset: BLOCK, next: Lsn(0), chain: None };
        LogReader { storage, key, file: None, at, segment_len }
    }

    /// Goes on to the last segment that begins at or before the record after `after`.
    pub(crate) fn skip_to(&mut self, after: Lsn) -> Result<(), StoreError> {
        loop {
            let next = self.at.segment + 1;
            let path = self.storage.path().join(segment_name(next));
            let file = match open_kept(self.storage.as_ref(), next) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                file => file.map_err(StoreError::io("open", path.clone()))?,
            };
            let mut block = vec![0; BLOCK];
            file.read_at(BLOCK as u64, &mut block).map_err(StoreError::io("read", path))?;
            match GroupHead::first_in(&block, next) {
                Some(first) if first <= after => {
                    self.at.segment = next;
                    // Held open: the keeper may drop the segment once it is applied.
                    self.file = Some(file);
                }
                _ => return Ok(()),
            }
        }
    }

    /// The next group and its records. Only for positions that are published: there is one.
    pub(crate) fn next(&mut self) -> Result<(GroupHead, Vec<u8>), StoreError> {
        loop {
            let path = self.storage.path().join(segment_name(self.at.segment));
            let file = match &self.file {
                Some(file) => file,
                None => {
                    let opened = open_kept(self.storage.as_ref(), self.at.segment);
                    self.file.insert(opened.map_err(StoreError::io("open", path.clone()))?)
                }
            };
            let mut bytes = vec![0; BLOCK];
            if self.at.offset + BLOCK <= self.segment_len {
                file.read_at(self.at.offset as u64, &mut bytes)
                    .map_err(StoreError::io("read", path.clone()))?;
            }
            let Some(len) = GroupHead::padded_len_in(&bytes) else {
                // No segment that the writer went past is empty: this one is damaged, and to take it
                // for passed would lose all of it.
                if self.at.offset == BLOCK {
                    return Err(StoreError::Corrupt {
                        path,
                        offset: BLOCK as u64,
                        reason: "a published group is damaged",
                    });
                }
                // The writer went on in the next segment.
                self.file = None;
                self.at.segment += 1;
                self.at.offset = BLOCK;
                continue;
            };
            bytes.resize(len, 0);
            file.read_at(self.at.offset as u64, &mut bytes)
                .map_err(StoreError::io("read", path.clone()))?;
            if self.at.next == Lsn(0) {
                self.at.next = GroupHead::first_in(&bytes, self.at.segment).unwrap_or_default();
            }
            let here = Position { offset: 0, ..self.at };
            return match read_group(&self.key, &bytes, &here) {
                Found::Group(head, body) => {
                    let body = body.to_vec();
                    self.at.offset += head.padded_len();
                    self.at.next = Lsn(head.last().0 + 1);
                    self.at.chain = Some(head.chain);
                    Ok((head, body))
                }
                _ => Err(StoreError::Corrupt {
                    path,
                    offset: self.at.offset as u64,
                    reason: "a published group is damaged",
                }),
            };
        }
    }
}
