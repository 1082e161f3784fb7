//! sled 0.34.7 as the checkpoint; nothing else names it. It is contained: one tree, one thread of
//! its own, small values, its own flusher off, leftovers removed before it is opened, panics caught,
//! not waited for without end, and left as it is once a call failed: sled then loses a place in its
//! buffer now and then, and waits for it for ever when it is flushed or dropped, under a lock that
//! every table of the process needs. What is left behind (the cache, a file handle) is bounded by
//! beginning a new table only where a file can be written, and seldom.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

use super::checkpoint::{Change, Checkpoint, CheckpointError, CheckpointHome, KeyValue};

/// Bytes of sled's page cache; its real memory is a small multiple.
const CACHE_LEN: u64 = 16 * 1024 * 1024;

/// Bytes that a disk must take before a new table is begun on it.
const ROOM_LEN: usize = 1024 * 1024;

/// How long opening waits for the lock of the table, and between two tries.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);
const LOCK_WAIT: Duration = Duration::from_millis(1);
/// How long an answer of the engine is waited for; opening reads the whole table.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(15);
const OPEN_WAIT_MAX: Duration = Duration::from_secs(30);
/// Pairs that one question of a scan takes.
const SCAN_LEN: usize = 256;

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
        if newest.is_none() {
            find_room(&self.path).map_err(engine)?;
        }
        let number = newest.unwrap_or_else(|| self.next.load(Ordering::SeqCst));
        self.next.fetch_max(number.saturating_add(1), Ordering::SeqCst);
        let path = self.path.join(number.to_string());
        remove_leftovers(&path).map_err(engine)?;
        let config = sled::Config::new().path(&path).cache_capacity(CACHE_LEN).flush_every_ms(None);
        let engine = Engine::start().map_err(engine)?;
        let begun = Instant::now();
        let db = loop {
            // The directory is ours: whoever still locks the table is about to let it go, a thread
            // of sled's own that outlives its table, or a forked child.
            let config = config.clone();
            match engine.ask(OPEN_WAIT_MAX, move || config.open()) {
                Err(error) if is_locked(&error) && begun.elapsed() < LOCK_WAIT_MAX => {
                    std::thread::sleep(LOCK_WAIT);
                }
                opened => break opened?,
            }
        };
        Ok(Box::new(SledCheckpoint {
            engine,
            db: Some(db),
            path,
            has_failed: AtomicBool::new(false),
        }))
    }

    fn destroy(&self) -> Result<(), CheckpointError> {
        if let Ok(Some(newest)) = self.newest() {
            self.next.fetch_max(newest.saturating_add(1), Ordering::SeqCst);
            // One that was left as it is still has its file open, which would keep its room.
            let file = self.path.join(newest.to_string()).join("db");
            let _ = File::options().write(true).open(file).and_then(|file| file.set_len(0));
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

fn find_room(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    let at = path.join("room");
    let mut file = File::create(&at)?;
    let written = file.write_all(&vec![0; ROOM_LEN]).and_then(|()| file.sync_data());
    fs::remove_file(&at)?;
    written
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

type Question = Box<dyn FnOnce() + Send>;

/// The thread that sled is called on. One that never comes back is left behind with its table.
struct Engine {
    questions: Sender<Question>,
}

impl Engine {
    fn start() -> io::Result<Engine> {
        let (questions, asked) = channel::<Question>();
        let thread = std::thread::Builder::new().name("mintage-sled".to_owned());
        // It ends with the last question.
        let _ = thread.spawn(move || asked.into_iter().for_each(|question| question()))?;
        Ok(Engine { questions })
    }

    /// sled panics on some damaged files and after some failed writes; here that is an error like
    /// any other, and so is no answer.
    fn ask<T: Send + 'static>(
        &self,
        wait: Duration,
        call: impl FnOnce() -> sled::Result<T> + Send + 'static,
    ) -> Result<T, CheckpointError> {
        let (answer, answered): (SyncSender<_>, _) = sync_channel(1);
        let question: Question = Box::new(move || {
            let _ = answer.send(catch_unwind(AssertUnwindSafe(call)));
        });
        let _ = self.questions.send(question);
        match answered.recv_timeout(wait) {
            Ok(Ok(result)) => result.map_err(engine),
            Ok(Err(_)) => Err(CheckpointError::Damaged("its engine panicked")),
            Err(_) => Err(CheckpointError::Damaged("its engine does not answer")),
        }
    }
}

struct SledCheckpoint {
    engine: Engine,
    /// Always there until it is dropped.
    db: Option<sled::Db>,
    path: PathBuf,
    /// Whether a call to it failed.
    has_failed: AtomicBool,
}

impl SledCheckpoint {
    fn ask<T: Send + 'static>(
        &self,
        call: impl FnOnce(&sled::Db) -> sled::Result<T> + Send + 'static,
    ) -> Result<T, CheckpointError> {
        let db = self.db.clone();
        let answer = self.engine.ask(ANSWER_WAIT_MAX, move || {
            call(db.as_ref().ok_or_else(|| sled::Error::Unsupported("it was closed".to_owned()))?)
        });
        self.has_failed.fetch_or(answer.is_err(), Ordering::SeqCst);
        answer
    }
}

impl Drop for SledCheckpoint {
    /// sled writes and syncs while it is dropped, and panics where that fails.
    fn drop(&mut self) {
        let db = self.db.take();
        if self.has_failed.load(Ordering::SeqCst) {
            std::mem::forget(db);
            return;
        }
        let _ = self.engine.ask(ANSWER_WAIT_MAX, move || {
            drop(db);
            Ok(())
        });
    }
}

impl Checkpoint for SledCheckpoint {
    fn last_up_to(&self, low: &[u8], key: &[u8]) -> Result<Option<KeyValue>, CheckpointError> {
        let range = low.to_vec()..=key.to_vec();
        let found = self.ask(move |db| db.range(range).next_back().transpose())?;
        Ok(found.map(|(key, value)| (key.to_vec(), value.to_vec())))
    }

    fn scan(
        &self,
        low: &[u8],
        high: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), CheckpointError> {
        let mut from = Bound::Included(low.to_vec());
        loop {
            let range = (from, Bound::Excluded(high.to_vec()));
            let pairs = self.ask(move |db| {
                db.range::<Vec<u8>, _>(range).take(SCAN_LEN).collect::<sled::Result<Vec<_>>>()
            })?;
            for (key, value) in &pairs {
                if !each(key, value) {
                    return Ok(());
                }
            }
            match pairs.last() {
                Some((last, _)) if pairs.len() == SCAN_LEN => from = Bound::Excluded(last.to_vec()),
                _ => return Ok(()),
            }
        }
    }

    fn write(&mut self, changes: Vec<Change>) -> Result<(), CheckpointError> {
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        self.ask(move |db| db.apply_batch(batch))
    }

    /// sled's own flush ends in `sync_file_range`, which a power cut undoes; the sync of its file
    /// is ours.
    fn harden(&mut self) -> Result<(), CheckpointError> {
        self.ask(|db| db.flush().map(drop))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What sled cannot put into its pages it writes to files of their own. When that fails it keeps
    /// a place in its buffer for ever, and to drop the table waits for that place.
    #[test]
    fn a_table_whose_write_failed_holds_nobody_up() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let home = |name: &str| SledHome::new(dir.path().join(name));
        let large = |key: u8| vec![(vec![key], Some(vec![key; 400 * 1024]))];
        let mut failed = home("failed").open().map_err(|error| format!("{error:?}"))?;
        fs::remove_dir_all(dir.path().join("failed").join("1").join("blobs"))?;
        assert!(failed.write(large(1)).is_err());
        let begun = Instant::now();
        drop(failed);
        let mut other = home("other").open().map_err(|error| format!("{error:?}"))?;
        other.write(large(2)).map_err(|error| format!("{error:?}"))?;
        drop(other);
        assert!(begun.elapsed() < ANSWER_WAIT_MAX / 2, "{:?}", begun.elapsed());
        Ok(())
    }

    #[test]
    fn an_engine_that_never_answers_or_panics_is_an_error() -> io::Result<()> {
        let engine = Engine::start()?;
        assert_eq!(engine.ask(ANSWER_WAIT_MAX, || Ok(7)).ok(), Some(7));
        let panicked = engine.ask::<()>(ANSWER_WAIT_MAX, || panic!("as sled does"));
        assert!(matches!(panicked, Err(CheckpointError::Damaged("its engine panicked"))));
        let (held, holds) = channel::<()>();
        let wait = Duration::from_millis(20);
        let silent = engine.ask(wait, move || {
            let _ = holds.recv();
            Ok(())
        });
        assert!(matches!(silent, Err(CheckpointError::Damaged("its engine does not answer"))));
        assert!(engine.ask(wait, || Ok(())).is_err(), "whoever is behind it is not kept either");
        drop(held);
        assert_eq!(engine.ask(ANSWER_WAIT_MAX, || Ok(8)).ok(), Some(8));
        Ok(())
    }
}
