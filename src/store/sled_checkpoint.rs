//! sled 0.34.7 as the checkpoint; nothing else names it. It is contained: one tree, one owner
//! thread, small values, its own flusher off, leftovers removed before it is opened, panics caught.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use super::checkpoint::{Change, Checkpoint, CheckpointError, CheckpointHome, KeyValue};

/// Bytes of sled's page cache; its real memory is a small multiple.
const CACHE_LEN: u64 = 16 * 1024 * 1024;

/// The directory of a sled table.
#[derive(Debug)]
pub(crate) struct SledHome {
    path: PathBuf,
}

impl SledHome {
    pub(crate) fn new(path: PathBuf) -> SledHome {
        SledHome { path }
    }

    /// A leftover of an interrupted snapshot makes sled refuse to open, though it was never
    /// authoritative.
    fn remove_leftovers(&self) -> io::Result<()> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("snap.") && name.ends_with(".generating") {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

impl CheckpointHome for SledHome {
    fn open(&self) -> Result<Box<dyn Checkpoint>, CheckpointError> {
        self.remove_leftovers().map_err(engine)?;
        let tree = guarded(|| {
            sled::Config::new()
                .path(&self.path)
                .cache_capacity(CACHE_LEN)
                .flush_every_ms(None)
                .open()
        })?;
        Ok(Box::new(SledCheckpoint { db: tree, path: self.path.clone() }))
    }

    fn destroy(&self) -> Result<(), CheckpointError> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(engine(error)),
            _ => Ok(()),
        }
    }
}

struct SledCheckpoint {
    db: sled::Db,
    path: PathBuf,
}

impl Checkpoint for SledCheckpoint {
    fn last_up_to(&self, low: &[u8], key: &[u8]) -> Result<Option<KeyValue>, CheckpointError> {
        let found = guarded(|| self.db.range(low..=key).next_back().transpose())?;
        Ok(found.map(|(key, value)| (key.to_vec(), value.to_vec())))
    }

    fn scan(
        &self,
        low: &[u8],
        high: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), CheckpointError> {
        guarded(|| {
            for pair in self.db.range(low..high) {
                let (key, value) = pair?;
                if !each(&key, &value) {
                    break;
                }
            }
            Ok(())
        })
    }

    fn write(&mut self, changes: Vec<Change>) -> Result<(), CheckpointError> {
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        guarded(|| self.db.apply_batch(batch))
    }

    /// sled's own flush ends in `sync_file_range`, which a power cut undoes; the sync of its file
    /// is ours.
    fn harden(&mut self) -> Result<(), CheckpointError> {
        guarded(|| self.db.flush())?;
        let synced = || -> io::Result<()> {
            for entry in fs::read_dir(&self.path)? {
                let entry = entry?;
                if entry.file_type()?.is_file() {
                    File::open(entry.path())?.sync_all()?;
                }
            }
            File::open(&self.path)?.sync_all()
        };
        match synced() {
            // sled removes a snapshot when it has written the next one.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            synced => synced.map_err(engine),
        }
    }
}

fn engine(error: impl std::error::Error + Send + Sync + 'static) -> CheckpointError {
    CheckpointError::Engine(Box::new(error))
}

/// sled panics on some damaged files; here that is an error like any other.
fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, CheckpointError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(engine),
        Err(_) => Err(CheckpointError::Damaged("its engine panicked")),
    }
}
