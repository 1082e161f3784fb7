//! Doors for the fuzz targets: what they feed, and what must hold of the answer. Compiled for tests
//! and fuzzing alone.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::leaf::Leaf;
use super::packed::table_of;
use super::record::Record;
use super::recovery::Recovery;
use super::segment::{
    BLOCK, CHAIN_START, GroupHead, HEAD_LEN, SEGMENT_LEN_MIN, segment_head, segment_name,
};
use super::storage::{Storage, StorageFile};
use super::superblock::Superblock;
use super::{Lsn, StoreError};
use crate::locator::{Digest, Locator};
use crate::time::Timestamp;

pub use super::fuzzing_table::table_ops;

const KEY: [u8; 32] = [7; 32];
const STORE_ID: [u8; 16] = [3; 16];

/// Arbitrary bytes as a record: never a panic, and what decodes encodes to the same bytes.
///
/// # Panics
/// When that does not hold.
pub fn record(bytes: &[u8]) {
    if let Ok((record, is_again, len)) = Record::decode_marked(bytes) {
        let record = if is_again { record.again() } else { record };
        let mut again = Vec::new();
        record.encode(&mut again);
        assert_eq!(again.as_slice(), &bytes[..len], "a record has two encodings");
    }
    // The same payload behind a right checksum, so that the fuzzer gets past it.
    let mut framed = vec![0; 4];
    framed.extend_from_slice(
        &u16::try_from(bytes.len().saturating_sub(2)).unwrap_or(0).to_le_bytes(),
    );
    framed.extend_from_slice(bytes);
    let crc = crc32fast::hash(&framed[4..]);
    framed[..4].copy_from_slice(&crc.to_le_bytes());
    framed.resize(framed.len().next_multiple_of(64), 0);
    if let Ok((record, is_again, len)) = Record::decode_marked(&framed) {
        let record = if is_again { record.again() } else { record };
        let mut again = Vec::new();
        record.encode(&mut again);
        assert_eq!(again.as_slice(), &framed[..len], "a record has two encodings");
    }
}

/// Arbitrary bytes as a value of the checkpoint, with its own checksum and behind a right one: never a
/// panic, what decodes encodes to the same bytes, and a table that holds it under a summary of its own
/// is refused or gives rows.
///
/// # Panics
/// When that does not hold.
pub fn checkpoint_value(bytes: &[u8]) {
    let mut framed = crc32fast::hash(bytes).to_le_bytes().to_vec();
    framed.extend_from_slice(bytes);
    for value in [bytes, framed.as_slice()] {
        if let Some(leaf) = Leaf::decode(value) {
            assert_eq!(leaf.encode(), value, "a leaf has two encodings");
        }
        if let Some(mut table) = table_of(value) {
            let mut rows = 0u32;
            let _ = table.load(Lsn(0), &mut |_, _| rows += 1);
            let locator = Locator { class: 0, bucket: 0, id: 0 };
            let _ = table.token(locator, Digest([0; 16]));
        }
    }
}

/// Arbitrary bytes as log segments, and arbitrary harm to a healthy log: recovery answers with an
/// error, or with exactly the records that were written, short of a tail that was never sealed.
///
/// # Panics
/// When that does not hold.
pub fn log_replay(bytes: &[u8]) {
    let Some((&[groups, sealed, harms], rest)) = bytes.split_first_chunk::<3>() else { return };
    let (mut first, written) = healthy(usize::from(groups % 6), rest);
    let sealed = Lsn(u64::from(sealed) % (written.len() as u64 + 1));
    let mut second = segment_head(2, &STORE_ID);
    second.resize(SEGMENT_LEN_MIN, 0);
    if harms == 0 {
        // All of it the fuzzer's own.
        let room = first.len() - BLOCK;
        let len = rest.len().min(room);
        first[BLOCK..BLOCK + len].copy_from_slice(&rest[..len]);
    } else {
        for harm in rest.chunks_exact(4).take(usize::from(harms % 8)) {
            let at = usize::from(u16::from_le_bytes([harm[0], harm[1]])) * 2;
            let target = if harm[3] & 0x80 == 0 { &mut first } else { &mut second };
            let end = (at + 16 * usize::from(harm[3] & 0x7F)).min(target.len());
            for byte in target.get_mut(at..end).unwrap_or(&mut []) {
                *byte = if harm[2] == 0 { 0 } else { *byte ^ harm[2] };
            }
        }
    }
    let superblock = Superblock {
        version: 1,
        store_id: STORE_ID,
        block: 1,
        first_segment: 1,
        last_segment: 2,
        segment_len: SEGMENT_LEN_MIN as u64,
        sealed,
        high_water: Timestamp(0),
        boot: [0; 16],
        is_clean: false,
        sealed_key: Vec::new(),
    };
    let storage = Segments::default();
    storage.put(&segment_name(1), first);
    storage.put(&segment_name(2), second);
    let mut read = Vec::new();
    let recovered = Recovery::new(&storage, &KEY, &superblock)
        .and_then(|recovery| recovery.run(Lsn(0), &mut |record, lsn| read.push((record, lsn))));
    match recovered {
        Err(StoreError::Corrupt { .. } | StoreError::Format { .. }) => {}
        Err(other) => panic!("recovery answered {other:?}"),
        Ok(recovered) if harms > 0 => {
            assert!(read.len() as u64 >= sealed.0, "a sealed record was dropped in silence");
            for (n, (record, lsn)) in read.iter().enumerate() {
                assert_eq!((lsn.0, Some(record)), (n as u64 + 1, written.get(n)));
            }
            assert_eq!(recovered.end.next.0, read.len() as u64 + 1);
        }
        Ok(_) => {}
    }
}

/// A segment with so many groups of records that `seed` chooses, and the records.
fn healthy(groups: usize, seed: &[u8]) -> (Vec<u8>, Vec<Record>) {
    let mut segment = segment_head(1, &STORE_ID);
    let mut chain = CHAIN_START;
    let mut written: Vec<Record> = Vec::new();
    for n in 0..groups {
        let count = usize::from(seed.get(n).copied().unwrap_or(1) % 5) + 1;
        let first = written.len() as u64 + 1;
        let mut group = vec![0; HEAD_LEN];
        for m in 0..count {
            let text = format!("scope-{n}-{m}");
            let record = Record::Set(super::record::SetRow {
                id: first + m as u64,
                text: Arc::from(text.as_str()),
            });
            record.encode(&mut group);
            written.push(record);
        }
        let head = GroupHead {
            segment: 1,
            incarnation: 1,
            first: Lsn(first),
            count: u32::try_from(count).unwrap_or(0),
            body_len: 0,
            synced_through: Lsn(first - 1),
            high_water: Timestamp(9),
            previous: chain,
            chain: [0; 16],
        };
        chain = head.seal(&KEY, &mut group);
        segment.extend_from_slice(&group);
    }
    segment.resize(SEGMENT_LEN_MIN, 0);
    (segment, written)
}

/// Files in memory.
#[derive(Clone, Debug, Default)]
struct Segments(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Segments {
    fn put(&self, name: &str, bytes: Vec<u8>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), bytes);
    }
}

impl Storage for Segments {
    fn open(&self, name: &str, _create: bool) -> io::Result<Box<dyn StorageFile>> {
        let files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if files.contains_key(name) {
            Ok(Box::new(Segment { files: self.clone(), name: name.to_owned() }))
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect())
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }

    fn path(&self) -> &Path {
        Path::new("fuzzed")
    }
}

#[derive(Debug)]
struct Segment {
    files: Segments,
    name: String,
}

impl StorageFile for Segment {
    fn size(&self) -> io::Result<u64> {
        let files = self.files.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(files.get(&self.name).map_or(0, |bytes| bytes.len() as u64))
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let files = self.files.0.lock().unwrap_or_else(PoisonError::into_inner);
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let found = files.get(&self.name).and_then(|b| b.get(from..from.checked_add(out.len())?));
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut files = self.files.0.lock().unwrap_or_else(PoisonError::into_inner);
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        if let Some(to) =
            files.get_mut(&self.name).and_then(|b| b.get_mut(from..from + bytes.len()))
        {
            to.copy_from_slice(bytes);
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_doors_hold_on_small_inputs() {
        for a in 0..=255u8 {
            for b in [0, 1, 2, 5, 255] {
                super::log_replay(&[a, b, a ^ b, 1, 2, 3, 4, b, a, 1, 0x83, 9, 16, 0, 0x7F]);
                super::record(&[a, b, 1, 0, 0, b]);
                super::checkpoint_value(&[b, 0, 1, 0, a, 1, 2, 3, 4, 5, 6, 7, 8, 2, 0, 4, 1]);
            }
        }
        super::log_replay(&[5, 9, 0]);
    }
}
