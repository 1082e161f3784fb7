//! sled 0.34.7 as the checkpoint; nothing else names it. It is contained: one tree, one owner
//! thread, small values, its own flusher off, leftovers removed before it is opened, panics caught.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::checkpoint::{Change, Checkpoint, CheckpointError, CheckpointHome, KeyValue};

/// Bytes of sled's page cache; its real memory is a small multiple.
const CACHE_LEN: u64 = 16 * 1024 * 1024;

/// How long opening waits for the lock of the table, and between two tries.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);
const LOCK_WAIT: Duration = Duration::from_millis(1);

/// The directory that sled's tables lie in, each under a number of its own.
///
/// A table that was given up may still be open in this process, and sled writes snapshots by their
/// path while it shuts down: in the directory of its successor they would be taken for its own.
#[derive(Debug)]
pub(crate) struct SledHome {
    path: PathBuf,
    /// Numbers below this one were used by this process.
    next: AtomicU64,
}

impl SledHome {
    pub(crate) fn new(path: PathBuf) -> SledHome {
        SledHome { path, next: AtomicU64::new(1) }
    }

    /// The highest numbered table, if there is one.
    fn newest(&self) -> io::Result<Option<u64>> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => entries?,
        };
        let mut newest = None;
        for entry in entries {
            let name = entry?.file_name();
            newest = newest.max(name.to_str().and_then(|name| name.parse().ok()));
        }
        Ok(newest)
    }
}

impl CheckpointHome for SledHome {
    fn open(&self) -> Result<Box<dyn Checkpoint>, CheckpointError> {
        let newest = self.newest().map_err(engine)?;
        let number = newest.unwrap_or_else(|| self.next.load(Ordering::SeqCst));
        self.next.fetch_max(number.saturating_add(1), Ordering::SeqCst);
        let path = self.path.join(number.to_string());
        remove_leftovers(&path).map_err(engine)?;
        let config = sled::Config::new().path(&path).cache_capacity(CACHE_LEN).flush_every_ms(None);
        let begun = Instant::now();
        let db = loop {
            // The directory is ours: whoever still locks the table is about to let it go, a thread
            // of sled's own that outlives its table, or a forked child.
            match guarded(|| config.open()) {
                Err(error) if is_locked(&error) && begun.elapsed() < LOCK_WAIT_MAX => {
                    std::thread::sleep(LOCK_WAIT);
                }
                opened => break opened?,
            }
        };
        Ok(Box::new(SledCheckpoint { db: Some(db), path }))
    }

    fn destroy(&self) -> Result<(), CheckpointError> {
        if let Ok(Some(newest)) = self.newest() {
            self.next.fetch_max(newest.saturating_add(1), Ordering::SeqCst);
        }
        let removed = match fs::remove_dir_all(&self.path) {
            // Something else has its name.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                fs::remove_file(&self.path)
            }
            removed => removed,
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(engine(error)),
            _ => Ok(()),
        }
    }
}

/// A leftover of an interrupted snapshot makes sled refuse to open, though it was never
/// authoritative.
fn remove_leftovers(path: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
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

struct SledCheckpoint {
    /// Always there until it is dropped.
    db: Option<sled::Db>,
    path: PathBuf,
}

impl SledCheckpoint {
    fn db(&self) -> sled::Result<&sled::Db> {
        self.db.as_ref().ok_or_else(|| sled::Error::Unsupported("it was closed".to_owned()))
    }
}

impl Drop for SledCheckpoint {
    /// sled writes and syncs while it is dropped, and panics where that fails.
    fn drop(&mut self) {
        let db = self.db.take();
        let _ = guarded(|| {
            drop(db);
            Ok(())
        });
    }
}

impl Checkpoint for SledCheckpoint {
    fn last_up_to(&self, low: &[u8], key: &[u8]) -> Result<Option<KeyValue>, CheckpointError> {
        let found = guarded(|| self.db()?.range(low..=key).next_back().transpose())?;
        Ok(found.map(|(key, value)| (key.to_vec(), value.to_vec())))
    }

    fn scan(
        &self,
        low: &[u8],
        high: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), CheckpointError> {
        guarded(|| {
            for pair in self.db()?.range(low..high) {
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
        guarded(|| self.db()?.apply_batch(batch))
    }

    /// sled's own flush ends in `sync_file_range`, which a power cut undoes; the sync of its file
    /// is ours.
    fn harden(&mut self) -> Result<(), CheckpointError> {
        guarded(|| self.db()?.flush())?;
        let synced = || -> io::Result<()> {
            for entry in fs::read_dir(&self.path)? {
                let entry = entry?;
                if entry.file_type()?.is_file() {
                    match File::open(entry.path()).and_then(|file| file.sync_all()) {
                        // sled removes a snapshot when it has written the next one.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        synced => synced?,
                    }
                }
            }
            File::open(&self.path)?.sync_all()
        };
        synced().map_err(engine)
    }
}

fn engine(error: impl std::error::Error + Send + Sync + 'static) -> CheckpointError {
    CheckpointError::Engine(Box::new(error))
}

fn is_locked(error: &CheckpointError) -> bool {
    // sled has no error of its own for this.
    matches!(error, CheckpointError::Engine(error)
        if error.to_string().contains("could not acquire lock"))
}

/// sled panics on some damaged files; here that is an error like any other.
fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, CheckpointError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(engine),
        Err(_) => Err(CheckpointError::Damaged("its engine panicked")),
    }
}
