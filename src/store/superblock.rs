//! The superblock: which segments exist, which block of numbers is in use, how far the log is known
//! to be on disk. Two slots, written in turn; the newer valid one counts.

use std::io;

use super::storage::{Storage, StorageFile};
use super::{Lsn, StoreError};
use crate::time::Timestamp;

pub(crate) const SUPERBLOCK: &str = "superblock";
const TEMPORARY: &str = "superblock.new";
const MAGIC: &[u8; 8] = b"MINTAGE\x01";
const FORMAT: u32 = 1;
const SLOT_LEN: usize = 4_096;
const SEALED_KEY_LEN_MAX: usize = 256;

/// What a slot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    /// Counts the writes; the higher slot is the newer.
    pub(crate) version: u64,
    /// Drawn with the store; ties its files together.
    pub(crate) store_id: [u8; 16],
    /// Block of numbers in use; also the incarnation of the log.
    pub(crate) block: u64,
    /// First segment of the log.
    pub(crate) first_segment: u64,
    /// Last segment that exists, in use or ready.
    pub(crate) last_segment: u64,
    /// Length of every segment, in bytes.
    pub(crate) segment_len: u64,
    /// The log is known to be on disk up to here.
    pub(crate) sealed: Lsn,
    /// High-water mark of time.
    pub(crate) high_water: Timestamp,
    /// Boot of the machine that wrote this; a different one at open means that memory was lost.
    pub(crate) boot: [u8; 16],
    /// Whether the store was closed, its checkpoint complete.
    pub(crate) is_clean: bool,
    /// The key that names are digested and groups are chained under, sealed by the root key.
    pub(crate) sealed_key: Vec<u8>,
}

impl Superblock {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SLOT_LEN);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&[u8::from(self.is_clean), 0, 0, 0]);
        for number in [
            self.version,
            self.block,
            self.first_segment,
            self.last_segment,
            self.segment_len,
            self.sealed.0,
            self.high_water.0,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.store_id);
        out.extend_from_slice(&self.boot);
        let len = u16::try_from(self.sealed_key.len()).unwrap_or(0);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&self.sealed_key);
        out.resize(SLOT_LEN - 16, 0);
        let sum = checksum(&out);
        out.extend_from_slice(&sum);
        out
    }

    /// `Ok(None)` is a slot that was never written or is torn.
    fn decode(slot: &[u8]) -> Result<Option<Superblock>, &'static str> {
        let Some((body, sum)) = slot.split_last_chunk::<16>() else { return Ok(None) };
        if checksum(body) != *sum {
            return Ok(None);
        }
        let mut at = 0;
        let mut take = |len: usize| {
            let bytes = body.get(at..at + len).unwrap_or(&[]);
            at += len;
            bytes
        };
        if take(8) != MAGIC {
            return Err("it is no superblock of this library");
        }
        if take(4) != FORMAT.to_le_bytes() {
            return Err("its format is newer than this version of the library");
        }
        let is_clean = take(4).first() == Some(&1);
        let mut number = || take(8).first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b));
        let version = number();
        let block = number();
        let first_segment = number();
        let last_segment = number();
        let segment_len = number();
        let sealed = Lsn(number());
        let high_water = Timestamp(number());
        let mut array = || take(16).first_chunk::<16>().copied().unwrap_or_default();
        let store_id = array();
        let boot = array();
        let len = take(2).first_chunk::<2>().map_or(0, |b| usize::from(u16::from_le_bytes(*b)));
        if len > SEALED_KEY_LEN_MAX {
            return Err("its sealed key is too long");
        }
        let sealed_key = take(len).to_vec();
        Ok(Some(Superblock {
            version,
            store_id,
            block,
            first_segment,
            last_segment,
            segment_len,
            sealed,
            high_water,
            boot,
            is_clean,
            sealed_key,
        }))
    }
}

/// Where a version of the superblock is written.
fn offset_of(version: u64) -> u64 {
    (version.saturating_sub(1) % 2) * SLOT_LEN as u64
}

fn checksum(bytes: &[u8]) -> [u8; 16] {
    let hash = blake3::hash(bytes);
    hash.as_bytes().first_chunk::<16>().copied().unwrap_or_default()
}

/// The open superblock file.
#[derive(Debug)]
pub(crate) struct SuperblockFile {
    file: Box<dyn StorageFile>,
    pub(crate) state: Superblock,
    /// A slot could not be read when the file was opened: it may have been the newer one.
    pub(crate) is_doubtful: bool,
}

impl SuperblockFile {
    /// Makes the file under a temporary name and renames it, so that it exists whole or not at all.
    pub(crate) fn create(
        storage: &dyn Storage,
        state: Superblock,
    ) -> Result<SuperblockFile, StoreError> {
        let path = storage.path().join(SUPERBLOCK);
        let made = || -> io::Result<Box<dyn StorageFile>> {
            match storage.remove(TEMPORARY) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let file = storage.open(TEMPORARY, true)?;
            file.write_at(0, &state.encode())?;
            file.write_at(SLOT_LEN as u64, &[0; SLOT_LEN])?;
            file.sync()?;
            storage.rename(TEMPORARY, SUPERBLOCK)?;
            storage.sync_names()?;
            Ok(file)
        };
        let file = made().map_err(StoreError::io("create", path))?;
        Ok(SuperblockFile { file, state, is_doubtful: false })
    }

    /// Reads the newer valid slot; `None` when there is no such file.
    pub(crate) fn open(storage: &dyn Storage) -> Result<Option<SuperblockFile>, StoreError> {
        let path = storage.path().join(SUPERBLOCK);
        let file = match storage.open(SUPERBLOCK, false) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("open", path)(error)),
        };
        let mut newest: Option<(Superblock, Vec<u8>)> = None;
        let mut is_doubtful = false;
        for slot in 0..2u64 {
            let mut bytes = vec![0; SLOT_LEN];
            match file.read_at(slot * SLOT_LEN as u64, &mut bytes) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
                Err(error) => return Err(StoreError::io("read", path)(error)),
            }
            let found = Superblock::decode(&bytes)
                .map_err(|reason| StoreError::Format { path: path.clone(), reason })?;
            is_doubtful |= found.is_none() && bytes.iter().any(|byte| *byte != 0);
            if let Some(found) = found
                && newest.as_ref().is_none_or(|(newest, _)| newest.version < found.version)
            {
                newest = Some((found, bytes));
            }
        }
        let reason = "neither slot of the superblock is valid";
        let corrupt = StoreError::Corrupt { path: path.clone(), offset: 0, reason };
        let (state, bytes) = newest.ok_or(corrupt)?;
        // A killed process may have left this slot in the page cache alone, and a failed sync has
        // left it there marked clean. It must be on disk before the other one is written over.
        file.write_at(offset_of(state.version), &bytes)
            .and_then(|()| file.sync())
            .map_err(StoreError::io("write", path))?;
        Ok(Some(SuperblockFile { file, state, is_doubtful }))
    }

    /// Changes the state and writes it to the older slot, synced. A failed write leaves the newer
    /// slot as it was.
    pub(crate) fn update(&mut self, change: impl FnOnce(&mut Superblock)) -> io::Result<()> {
        let mut next = self.state.clone();
        change(&mut next);
        next.version += 1;
        self.file.write_at(offset_of(next.version), &next.encode())?;
        self.file.sync()?;
        self.state = next;
        Ok(())
    }
}
