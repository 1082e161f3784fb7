//! A disk on which the log's syncs wait until they are let through, so that what is on its way to
//! the disk stays there for as long as a test likes.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use mintage::store::{Storage, StorageFile};

use super::sim::SimStorage;

/// How many syncs may pass (`None`: all), and how many wait.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<(Option<u64>, u64)>,
    moved: Condvar,
    /// Syncs of what is not the log.
    seals: AtomicU64,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.moved.notify_all();
        while state.0 == Some(0) {
            state = self.moved.wait(state).unwrap();
        }
        state.0 = state.0.map(|passes| passes - 1);
        state.1 -= 1;
    }
}

/// A simulated disk behind a gate. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct GatedStorage {
    /// What is behind the gate.
    pub disk: SimStorage,
    gate: Arc<Gate>,
}

impl GatedStorage {
    fn set(&self, passes: Option<u64>) {
        self.gate.state.lock().unwrap().0 = passes;
        self.gate.moved.notify_all();
    }

    /// Syncs wait from now on, at the longest until the answer is dropped.
    #[must_use]
    pub fn hold(&self) -> Held {
        self.set(Some(0));
        Held(self.clone())
    }

    /// Returns once a sync waits.
    pub fn wait_for_sync(&self) {
        let mut state = self.gate.state.lock().unwrap();
        while state.1 == 0 {
            state = self.gate.moved.wait(state).unwrap();
        }
    }

    /// How often a file beside the log was synced.
    pub fn seals(&self) -> u64 {
        self.gate.seals.load(Ordering::SeqCst)
    }

    pub fn let_one_through(&self) {
        self.set(Some(1));
    }

    pub fn let_all_through(&self) {
        self.set(None);
    }
}

/// A gate that is closed. A test that fails leaves it open, so that its store can be closed.
pub struct Held(GatedStorage);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.let_all_through();
    }
}

impl Storage for GatedStorage {
    fn open(&self, name: &str, create: bool) -> io::Result<Box<dyn StorageFile>> {
        let file = self.disk.open(name, create)?;
        let is_log = name.ends_with(".log");
        Ok(Box::new(GatedFile { file, is_log, gate: Arc::clone(&self.gate) }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn sync_names(&self) -> io::Result<()> {
        self.disk.sync_names()
    }

    fn path(&self) -> &Path {
        self.disk.path()
    }

    fn boot(&self) -> [u8; 16] {
        self.disk.boot()
    }
}

#[derive(Debug)]
struct GatedFile {
    file: Box<dyn StorageFile>,
    is_log: bool,
    gate: Arc<Gate>,
}

impl StorageFile for GatedFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, out)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        if self.is_log {
            self.gate.pass();
        } else {
            self.gate.seals.fetch_add(1, Ordering::SeqCst);
        }
        self.file.sync()
    }
}
