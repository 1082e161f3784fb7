//! Rows packed into values of at most 16 KiB, over a [`Checkpoint`].
//!
//! Key space: rows of one class, bucket and part of the identifiers form a **region**; its rows lie
//! in leaves, each under the key of its first row. Every region has a summary (how many leaves and
//! rows, and the combined hash of its leaves), and the position row has the combined hash of all
//! summaries, so a leaf that is missing, old or foreign is noticed before anything in its region is
//! believed. All of a step (leaves, summaries, position) is one batch.

use super::Lsn;
use super::checkpoint::{Change, Checkpoint, CheckpointError, KeyValue};
use super::core::HORIZON_SLACK_SECS;
use super::leaf::Leaf;
use super::record::{Record, StampRow, TokenRow};
use crate::locator::{Digest, Locator};
use crate::sync::{HashMap, HashSet, planted};
use crate::time::Timestamp;

const POSITION_KEY: &[u8] = &[0];
const SUMMARY_CLASS: u8 = 1;
/// Access tokens have class 0x10 and their lifetime class.
const TOKEN_CLASS: u8 = 0x10;
const TOKEN_CLASS_END: u8 = 0x40;
/// Everything from here on is held in memory and loaded at open.
const RESIDENT_CLASS: u8 = 0x40;
/// About the longest of the hot records, without frame.
const BARE_LEN: usize = 256;
/// Identifiers of one part: 2^16 numbers of each of the 64 shards.
const PART_BITS: u32 = 22;
/// Why something is not as it was written.
const DOES_NOT_ADD_UP: CheckpointError =
    CheckpointError::Damaged("a region does not match its summary");

/// Which rows lie together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Region {
    class: u8,
    bucket: u32,
    part: u64,
}

impl Region {
    fn prefix(self) -> Vec<u8> {
        let mut key = vec![self.class];
        key.extend_from_slice(&self.bucket.to_be_bytes());
        key.extend_from_slice(&self.part.to_be_bytes());
        key
    }

    fn end(self) -> Vec<u8> {
        let mut key = self.prefix();
        // Greater than every key of the region: identifiers are shorter than 512 bytes.
        key.resize(key.len() + 512, 0xFF);
        key
    }

    fn summary_key(self) -> Vec<u8> {
        let mut key = vec![SUMMARY_CLASS];
        key.extend_from_slice(&self.prefix());
        key
    }

    fn of_token(locator: Locator) -> Region {
        let class = TOKEN_CLASS + locator.class.min(TOKEN_CLASS_END - TOKEN_CLASS - 1);
        Region { class, bucket: locator.bucket, part: locator.id >> PART_BITS }
    }
}

/// Where a record's row lies.
fn address(record: &Record) -> (Region, Vec<u8>) {
    let resident = |class, part| Region { class: RESIDENT_CLASS + class, bucket: 0, part };
    let by_id = |class, id: u64| (resident(class, id >> PART_BITS), id.to_be_bytes().to_vec());
    match record {
        Record::Token(row) => {
            (Region::of_token(row.locator), row.locator.id.to_be_bytes().to_vec())
        }
        Record::Family(row) => by_id(0, row.id),
        Record::Grant(row) => by_id(1, row.id),
        Record::Stamp(StampRow { kind, digest, .. }) => {
            let mut id = vec![*kind as u8];
            id.extend_from_slice(&digest.0);
            (resident(2, 0), id)
        }
        Record::Deny(row) => (resident(3, 0), row.jti.0.to_vec()),
        Record::Document(row) => {
            let mut id = vec![row.kind];
            id.extend_from_slice(row.name.as_bytes());
            (resident(4, 0), id)
        }
        Record::Set(row) => (resident(5, 0), row.id.to_be_bytes().to_vec()),
        Record::Code(row) => by_id(7, row.id),
        Record::Used(row) => (resident(6, 0), row.digest.0.to_vec()),
        Record::Again(record) => address(record),
    }
}

/// What a summary says of its region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Summary {
    leaves: u32,
    rows: u32,
    sum: [u8; 16],
}

impl Summary {
    fn encode(self) -> Vec<u8> {
        let mut out = self.leaves.to_le_bytes().to_vec();
        out.extend_from_slice(&self.rows.to_le_bytes());
        out.extend_from_slice(&self.sum);
        out
    }

    fn decode(bytes: &[u8]) -> Option<Summary> {
        let (leaves, rest) = bytes.split_first_chunk::<4>()?;
        let (rows, sum) = rest.split_first_chunk::<4>()?;
        Some(Summary {
            leaves: u32::from_le_bytes(*leaves),
            rows: u32::from_le_bytes(*rows),
            sum: sum.try_into().ok()?,
        })
    }

    fn toggle(&mut self, key: &[u8], value: &[u8]) {
        toggle(&mut self.sum, key, value);
    }
}

/// Adds a pair to a combined hash, or takes it out again.
fn toggle(sum: &mut [u8; 16], key: &[u8], value: &[u8]) {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(value);
    let mut hash = [0; 16];
    hasher.finalize_xof().fill(&mut hash);
    sum.iter_mut().zip(hash).for_each(|(a, b)| *a ^= b);
}

/// A change of the table.
#[derive(Clone, Debug)]
pub(crate) enum RowChange {
    Put(Lsn, Record),
    Remove(Record),
}

/// The rows of a store, packed over a checkpoint.
pub(crate) struct Packed {
    table: Box<dyn Checkpoint>,
    store_id: [u8; 16],
    position: Lsn,
    sum: [u8; 16],
    summaries: HashMap<Region, Summary>,
    /// Regions that were compared with their summaries since the table was opened.
    verified: HashSet<Region>,
}

impl Packed {
    /// Reads the position and the summaries of `table`; a table of another store, or one whose
    /// summaries do not add up, is an error.
    pub(crate) fn open(
        table: Box<dyn Checkpoint>,
        store_id: [u8; 16],
    ) -> Result<Packed, CheckpointError> {
        let mut packed = Packed {
            table,
            store_id,
            position: Lsn(0),
            sum: [0; 16],
            summaries: HashMap::default(),
            verified: HashSet::default(),
        };
        let mut stored = None;
        packed.table.scan(POSITION_KEY, &[SUMMARY_CLASS], &mut |_, value| {
            stored = Some(value.to_vec());
            false
        })?;
        let mut sum = [0; 16];
        let mut summaries = HashMap::default();
        let mut is_whole = true;
        packed.table.scan(&[SUMMARY_CLASS], &[SUMMARY_CLASS + 1], &mut |key, value| {
            toggle(&mut sum, key, value);
            match (region_of_summary(key), Summary::decode(value)) {
                (Some(region), Some(summary)) => {
                    summaries.insert(region, summary);
                }
                _ => is_whole = false,
            }
            true
        })?;
        let Some(stored) = stored else {
            let mut is_empty = summaries.is_empty();
            packed.table.scan(&[TOKEN_CLASS], &[0xFF], &mut |_, _| {
                is_empty = false;
                false
            })?;
            return if is_empty { Ok(packed) } else { Err(DOES_NOT_ADD_UP) };
        };
        let (id, position, whole) = decode_position(&stored).ok_or(DOES_NOT_ADD_UP)?;
        if id != store_id {
            return Err(CheckpointError::Damaged("it belongs to another store"));
        }
        if whole != sum || !is_whole {
            return Err(DOES_NOT_ADD_UP);
        }
        packed.position = position;
        packed.sum = sum;
        packed.summaries = summaries;
        Ok(packed)
    }

    /// The table holds everything up to this position of the log.
    pub(crate) fn position(&self) -> Lsn {
        self.position
    }

    /// How many access tokens it holds.
    pub(crate) fn tokens(&self) -> u64 {
        let tokens = self.summaries.iter().filter(|(region, _)| region.class < TOKEN_CLASS_END);
        tokens.map(|(_, summary)| u64::from(summary.rows)).sum()
    }

    /// Hands every row but the access tokens to `each`, after comparing each region with its
    /// summary. Rows whose record is older than `first`, where the log begins, are left out: what
    /// lives was written again before its record left the log, so they were swept or superseded, and
    /// nothing may come to depend on them that the log alone could not bring back.
    pub(crate) fn load(
        &mut self,
        first: Lsn,
        each: &mut dyn FnMut(Record, Lsn),
    ) -> Result<(), CheckpointError> {
        let mut regions: Vec<Region> = self.summaries.keys().copied().collect();
        regions.retain(|region| region.class >= RESIDENT_CLASS);
        regions.sort_unstable();
        for region in regions {
            let mut rows = Vec::new();
            self.verify(region, &mut |leaf| rows.extend(leaf.rows.into_values()))?;
            for (lsn, record) in rows.into_iter().filter(|(lsn, _)| *lsn >= first) {
                let record = Record::decode_bare(&record).map_err(|_| DOES_NOT_ADD_UP)?;
                each(record, lsn);
            }
        }
        Ok(())
    }

    /// The access token at `locator`, dead ones left out.
    pub(crate) fn token(
        &mut self,
        locator: Locator,
        digest: Digest,
    ) -> Result<Option<(TokenRow, Lsn)>, CheckpointError> {
        let region = Region::of_token(locator);
        if !self.summaries.contains_key(&region) {
            return Ok(None);
        }
        if !self.verified.contains(&region) {
            self.verify(region, &mut |_| {})?;
        }
        let id = locator.id.to_be_bytes();
        let Some((_, leaf)) = self.leaf_of(region, &id)? else { return Ok(None) };
        let Some((lsn, record)) = leaf.rows.get(id.as_slice()) else { return Ok(None) };
        match Record::decode_bare(record) {
            Ok(Record::Token(row)) if row.locator == locator && row.digest == digest => {
                Ok(Some((row, *lsn)))
            }
            Ok(Record::Token(_)) => Ok(None),
            _ => Err(DOES_NOT_ADD_UP),
        }
    }

    /// Applies `changes`, which take the table to `upto`, as one batch.
    pub(crate) fn apply(
        &mut self,
        upto: Lsn,
        changes: Vec<RowChange>,
    ) -> Result<(), CheckpointError> {
        let mut rows: Vec<ChangedRow> = changes.into_iter().map(ChangedRow::of).collect();
        // Stable: of the changes of one row the last counts, as it is inserted last.
        rows.sort_by(|a, b| a.place().cmp(&b.place()));
        let mut step = Step::default();
        while let Some(greatest) = rows.last() {
            let region = greatest.region;
            let low = region.prefix();
            let key = [low.as_slice(), greatest.id.as_slice()].concat();
            if !self.summaries.contains_key(&region) {
                // Nothing would ever be compared with what an engine has left there.
                self.must_be_empty(region)?;
            }
            let stored = self.table.last_up_to(&low, &key)?;
            // No leaf begins between the one that was found and the greatest row, so all rows from
            // its key on are its own; where none was found, all that are left of the region.
            let first = stored.as_ref().and_then(|(key, _)| key.strip_prefix(low.as_slice()));
            let from = (region, first.unwrap_or(&[]));
            let its_own = rows.split_off(rows.partition_point(|row| row.place() < from));
            step.merge(region, stored, its_own)?;
        }
        self.finish(step, upto.max(self.position))
    }

    /// Drops the regions whose access tokens are all past their longest lifetime at `mark`, at most
    /// `max` of them, and says how many.
    pub(crate) fn drop_expired(
        &mut self,
        mark: Timestamp,
        max: usize,
    ) -> Result<usize, CheckpointError> {
        let is_past = |region: &&Region| {
            let born_by = (u64::from(region.bucket) + 1) * 60;
            let class = u32::from(region.class.saturating_sub(TOKEN_CLASS));
            let lifetime = 60u64.checked_shl(class).unwrap_or(u64::MAX);
            let dead_by = born_by.saturating_add(lifetime).saturating_add(HORIZON_SLACK_SECS);
            region.class < TOKEN_CLASS_END && mark.0 >= dead_by
        };
        let mut past: Vec<Region> = self.summaries.keys().filter(is_past).copied().collect();
        past.sort_unstable();
        past.truncate(max);
        for region in &past {
            let mut step = Step::default();
            self.table.scan(&region.prefix(), &region.end(), &mut |key, _| {
                step.batch.push((key.to_vec(), None));
                true
            })?;
            step.dropped.push(*region);
            self.finish(step, self.position)?;
        }
        Ok(past.len())
    }

    pub(crate) fn harden(&mut self) -> Result<(), CheckpointError> {
        self.table.harden()
    }

    /// Compares a region with its summary and hands its leaves over.
    fn verify(
        &mut self,
        region: Region,
        each: &mut dyn FnMut(Leaf),
    ) -> Result<(), CheckpointError> {
        let expected = self.summaries.get(&region).copied().unwrap_or_default();
        let mut found = Summary::default();
        let mut is_whole = true;
        self.table.scan(&region.prefix(), &region.end(), &mut |key, value| {
            found.toggle(key, value);
            found.leaves += 1;
            match Leaf::decode(value) {
                Some(leaf) => {
                    found.rows += u32::try_from(leaf.rows.len()).unwrap_or(0);
                    each(leaf);
                }
                None => is_whole = false,
            }
            is_whole
        })?;
        if !is_whole || (found != expected && !planted!(RegionUnchecked)) {
            return Err(DOES_NOT_ADD_UP);
        }
        self.verified.insert(region);
        Ok(())
    }

    fn must_be_empty(&self, region: Region) -> Result<(), CheckpointError> {
        let mut is_empty = true;
        self.table.scan(&region.prefix(), &region.end(), &mut |_, _| {
            is_empty = false;
            false
        })?;
        if is_empty { Ok(()) } else { Err(DOES_NOT_ADD_UP) }
    }

    /// The leaf that the row `id` lies in or would lie in, and its key.
    fn leaf_of(
        &self,
        region: Region,
        id: &[u8],
    ) -> Result<Option<(Vec<u8>, Leaf)>, CheckpointError> {
        let low = region.prefix();
        let key = [low.as_slice(), id].concat();
        match self.table.last_up_to(&low, &key)? {
            None => Ok(None),
            Some((key, value)) => Ok(Some((key, Leaf::decode(&value).ok_or(DOES_NOT_ADD_UP)?))),
        }
    }

    /// Writes a step with its summaries and the position.
    fn finish(&mut self, mut step: Step, position: Lsn) -> Result<(), CheckpointError> {
        let mut touched: HashMap<Region, Summary> = HashMap::default();
        for ChangedLeaf { key, region, leaf, was } in std::mem::take(&mut step.leaves) {
            let value = (!leaf.rows.is_empty()).then(|| leaf.encode());
            if value.as_ref() == was.as_ref().map(|(bytes, _)| bytes) {
                continue;
            }
            let known = self.summaries.get(&region).copied().unwrap_or_default();
            let summary = touched.entry(region).or_insert(known);
            if let Some((bytes, rows)) = was {
                summary.toggle(&key, &bytes);
                summary.leaves = summary.leaves.saturating_sub(1);
                summary.rows = summary.rows.saturating_sub(rows);
            }
            if let Some(value) = &value {
                summary.toggle(&key, value);
                summary.leaves += 1;
                summary.rows += leaf.row_count();
            }
            step.batch.push((key, value));
        }
        for region in std::mem::take(&mut step.dropped) {
            touched.insert(region, Summary::default());
        }
        let mut sum = self.sum;
        for (region, summary) in &touched {
            let key = region.summary_key();
            if let Some(was) = self.summaries.get(region) {
                toggle(&mut sum, &key, &was.encode());
            }
            let value = (summary.leaves > 0).then(|| summary.encode());
            if let Some(value) = &value {
                toggle(&mut sum, &key, value);
            }
            step.batch.push((key, value));
        }
        let row = encode_position(&self.store_id, position, &sum);
        step.batch.push((POSITION_KEY.to_vec(), Some(row)));
        self.table.write(step.batch)?;
        for (region, summary) in touched {
            if summary.leaves > 0 {
                // A region that began now holds what this run wrote, and nothing else.
                if self.summaries.insert(region, summary).is_none() {
                    self.verified.insert(region);
                }
            } else {
                self.summaries.remove(&region);
                self.verified.remove(&region);
            }
        }
        self.sum = sum;
        self.position = position;
        Ok(())
    }
}

/// A change of one row, by where it lies.
struct ChangedRow {
    region: Region,
    id: Vec<u8>,
    /// Its record and the position of that; `None` removes it.
    row: Option<(Lsn, Vec<u8>)>,
}

impl ChangedRow {
    fn of(change: RowChange) -> ChangedRow {
        let (record, lsn) = match change {
            RowChange::Put(lsn, record) => (record, Some(lsn)),
            RowChange::Remove(record) => (record, None),
        };
        let (region, id) = address(&record);
        let row = lsn.map(|lsn| {
            let mut bare = Vec::with_capacity(BARE_LEN);
            record.encode_bare(&mut bare);
            (lsn, bare)
        });
        ChangedRow { region, id, row }
    }

    fn place(&self) -> (Region, &[u8]) {
        (self.region, &self.id)
    }
}

/// A leaf after a step, and its bytes and rows before, where there was one.
struct ChangedLeaf {
    key: Vec<u8>,
    region: Region,
    leaf: Leaf,
    was: Option<(Vec<u8>, u32)>,
}

/// The leaves that one batch changes.
#[derive(Default)]
struct Step {
    leaves: Vec<ChangedLeaf>,
    dropped: Vec<Region>,
    batch: Vec<Change>,
}

impl Step {
    /// Changes rows of one leaf, which is split where it gets too long, or begins one.
    fn merge(
        &mut self,
        region: Region,
        stored: Option<KeyValue>,
        changed: Vec<ChangedRow>,
    ) -> Result<(), CheckpointError> {
        let (mut leaf, mut stored) = match stored {
            Some((key, value)) => {
                let leaf = Leaf::decode(&value).ok_or(DOES_NOT_ADD_UP)?;
                let rows = leaf.row_count();
                (leaf, Some((key, (value, rows))))
            }
            None => (Leaf::default(), None),
        };
        for ChangedRow { id, row, .. } in changed {
            match row {
                Some(row) => {
                    leaf.rows.insert(id, row);
                }
                None => {
                    leaf.rows.remove(&id);
                }
            }
        }
        for leaf in leaf.split() {
            let key_of_first = || {
                let first = leaf.rows.keys().next().map_or(&[][..], Vec::as_slice);
                [region.prefix().as_slice(), first].concat()
            };
            // The first part stays where the leaf was, whatever its first row is now.
            let (key, was) = match stored.take() {
                Some((key, was)) => (key, Some(was)),
                None => (key_of_first(), None),
            };
            self.leaves.push(ChangedLeaf { key, region, leaf, was });
        }
        Ok(())
    }
}

/// A table of one leaf with the bytes of `value`, and a summary and position that are right for them.
#[cfg(any(test, fuzzing))]
pub(super) fn table_of(value: &[u8]) -> Option<Packed> {
    let home = super::MemoryCheckpointHome::default();
    let mut table = super::CheckpointHome::open(&home).ok()?;
    let region = Region { class: RESIDENT_CLASS, bucket: 0, part: 0 };
    let mut key = region.prefix();
    key.extend_from_slice(&[0; 8]);
    let rows = Leaf::decode(value).map_or(1, |leaf| leaf.rows.len());
    let mut summary = Summary { leaves: 1, rows: u32::try_from(rows).ok()?, sum: [0; 16] };
    summary.toggle(&key, value);
    let mut sum = [0; 16];
    toggle(&mut sum, &region.summary_key(), &summary.encode());
    let position = encode_position(&[3; 16], Lsn(1), &sum);
    let batch = vec![
        (key, Some(value.to_vec())),
        (region.summary_key(), Some(summary.encode())),
        (POSITION_KEY.to_vec(), Some(position)),
    ];
    table.write(batch).ok()?;
    Packed::open(table, [3; 16]).ok()
}

fn region_of_summary(key: &[u8]) -> Option<Region> {
    let rest = key.strip_prefix(&[SUMMARY_CLASS])?;
    let (class, rest) = rest.split_first()?;
    let (bucket, part) = rest.split_first_chunk::<4>()?;
    Some(Region {
        class: *class,
        bucket: u32::from_be_bytes(*bucket),
        part: u64::from_be_bytes(part.try_into().ok()?),
    })
}

fn encode_position(store_id: &[u8; 16], position: Lsn, sum: &[u8; 16]) -> Vec<u8> {
    let mut out = store_id.to_vec();
    out.extend_from_slice(&position.0.to_le_bytes());
    out.extend_from_slice(sum);
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

fn decode_position(bytes: &[u8]) -> Option<([u8; 16], Lsn, [u8; 16])> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let (id, rest) = body.split_first_chunk::<16>()?;
    let (position, sum) = rest.split_first_chunk::<8>()?;
    Some((*id, Lsn(u64::from_le_bytes(*position)), sum.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::record::DocumentRow;
    use crate::store::{CheckpointHome as _, MemoryCheckpointHome, Seq};

    fn token(id: u64) -> RowChange {
        let row = TokenRow {
            locator: Locator { class: 1, bucket: 30_000_000, id },
            digest: Digest([7; 16]),
            family: 1,
            generation: 1,
            admission: Seq(1),
            issued_at: Timestamp(1_800_000_000),
            expires_at: Timestamp(1_800_000_090),
            scope: 1,
            audience: 1,
            dead: false,
        };
        RowChange::Put(Lsn(2), Record::Token(row))
    }

    /// A mixture of two ages: the leaves of a region are there, its summary is not. To write the same
    /// rows again, or others beside them, must not take the leaves for what this run wrote.
    #[test]
    fn leaves_without_a_summary_are_damage() -> Result<(), CheckpointError> {
        let document = DocumentRow { kind: 1, name: "name".into(), body: None };
        let home = MemoryCheckpointHome::default();
        let open = |home: &MemoryCheckpointHome| Packed::open(home.open()?, [1; 16]);
        open(&home)?.apply(Lsn(1), vec![RowChange::Put(Lsn(1), Record::Document(document))])?;
        let newer = home.copy();
        open(&newer)?.apply(Lsn(2), vec![token(20)])?;
        let mut leaves = Vec::new();
        newer.open()?.scan(&[TOKEN_CLASS], &[TOKEN_CLASS_END], &mut |key, value| {
            leaves.push((key.to_vec(), Some(value.to_vec())));
            true
        })?;
        assert_eq!(leaves.len(), 1);
        home.open()?.write(leaves)?;
        for id in [10, 20, 30] {
            let applied = open(&home.copy())?.apply(Lsn(2), vec![token(id)]);
            assert!(applied.is_err(), "{id}");
        }
        Ok(())
    }
}
