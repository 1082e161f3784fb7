//! A simulated disk: what is not synced may be lost, sector by sector, when the power is cut; and
//! any call can be made to fail.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use mintage::store::{Storage, StorageFile};

const SECTOR: usize = 512;

/// A small generator of random numbers whose whole state is a seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed ^ 0x9E37_79B9_7F4A_7C15)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Which call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Write,
    Sync,
    Rename,
    Open,
    SyncNames,
}

/// The n-th call of a kind fails, and with `for_good` every one after it.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub call: Call,
    pub nth: u64,
    pub for_good: bool,
    pub kind: io::ErrorKind,
    /// Whether a failing write writes half of its bytes first.
    pub short: bool,
}

#[derive(Debug, Default)]
struct File {
    durable: Vec<u8>,
    now: Vec<u8>,
    /// Sectors written since the last sync.
    dirty: Vec<usize>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

#[derive(Debug, Default)]
struct Disk {
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    name_changes: Vec<NameChange>,
    is_dead: bool,
    fault: Option<Fault>,
    calls: BTreeMap<u8, u64>,
    /// Lies about every sync of file contents: for proving that tests see it.
    skips_sync: bool,
}

impl Disk {
    fn call(&mut self, call: Call) -> io::Result<()> {
        if self.is_dead {
            return Err(io::Error::other("the power is cut"));
        }
        let count = self.calls.entry(call as u8).or_default();
        *count += 1;
        match self.fault {
            Some(f) if f.call == call && (*count == f.nth || (f.for_good && *count > f.nth)) => {
                Err(io::Error::new(f.kind, "injected"))
            }
            _ => Ok(()),
        }
    }
}

fn apply(names: &mut BTreeMap<String, usize>, change: &NameChange) {
    match change {
        NameChange::Create(name, file) => {
            names.insert(name.clone(), *file);
        }
        NameChange::Rename(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
        NameChange::Remove(name) => {
            names.remove(name);
        }
    }
}

/// A simulated disk. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct SimStorage(Arc<Mutex<Disk>>);

impl SimStorage {
    pub fn new() -> SimStorage {
        SimStorage::default()
    }

    /// Cuts the power: every later call on this disk fails. The new disk has what was synced, and
    /// of the rest whatever `random` says.
    pub fn cut_power(&self, random: &mut Random) -> SimStorage {
        let mut disk = self.0.lock().unwrap();
        disk.is_dead = true;
        let mut next = Disk { names: disk.durable_names.clone(), ..Disk::default() };
        let kept = random.below(disk.name_changes.len() as u64 + 1);
        for change in disk.name_changes.iter().take(usize::try_from(kept).unwrap()) {
            apply(&mut next.names, change);
        }
        // All of it, none of it, or any part of it.
        let odds = [1, 0, 2, 4][usize::try_from(random.below(4)).unwrap()];
        for file in &disk.files {
            let mut bytes = file.durable.clone();
            for sector in &file.dirty {
                let is_kept = odds > 0 && random.one_in(odds);
                let range = sector * SECTOR..((sector + 1) * SECTOR).min(file.now.len());
                if is_kept && let Some(written) = file.now.get(range.clone()) {
                    if bytes.len() < range.end {
                        bytes.resize(range.end, 0);
                    }
                    bytes[range].copy_from_slice(written);
                }
            }
            next.files.push(File { durable: bytes.clone(), now: bytes, dirty: Vec::new() });
        }
        next.durable_names = next.names.clone();
        next.skips_sync = disk.skips_sync;
        SimStorage(Arc::new(Mutex::new(next)))
    }

    /// Stops the process: every later call on this disk fails; the new disk has all of it.
    pub fn kill(&self) -> SimStorage {
        let mut disk = self.0.lock().unwrap();
        disk.is_dead = true;
        let copy = |f: &File| File {
            durable: f.durable.clone(),
            now: f.now.clone(),
            dirty: f.dirty.clone(),
        };
        let next = Disk {
            files: disk.files.iter().map(copy).collect(),
            names: disk.names.clone(),
            durable_names: disk.durable_names.clone(),
            name_changes: disk.name_changes.clone(),
            skips_sync: disk.skips_sync,
            ..Disk::default()
        };
        SimStorage(Arc::new(Mutex::new(next)))
    }

    pub fn set_fault(&self, fault: Option<Fault>) {
        let mut disk = self.0.lock().unwrap();
        disk.calls.clear();
        disk.fault = fault;
    }

    pub fn skip_syncs(&self) {
        self.0.lock().unwrap().skips_sync = true;
    }

    pub fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().names.keys().cloned().collect()
    }

    /// Hands the bytes of a file over for damaging.
    pub fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut disk = self.0.lock().unwrap();
        let file = disk.names[name];
        let file = &mut disk.files[file];
        change(&mut file.now);
        file.durable = file.now.clone();
    }

    /// A disk of its own with what this one holds.
    pub fn copy(&self) -> SimStorage {
        let next = {
            let disk = self.0.lock().unwrap();
            let copy = |f: &File| File {
                durable: f.durable.clone(),
                now: f.now.clone(),
                dirty: f.dirty.clone(),
            };
            Disk {
                files: disk.files.iter().map(copy).collect(),
                names: disk.names.clone(),
                durable_names: disk.durable_names.clone(),
                name_changes: disk.name_changes.clone(),
                ..Disk::default()
            }
        };
        SimStorage(Arc::new(Mutex::new(next)))
    }
}

impl Storage for SimStorage {
    fn open(&self, name: &str, create: bool) -> io::Result<Box<dyn StorageFile>> {
        let mut disk = self.0.lock().unwrap();
        disk.call(Call::Open)?;
        let known = disk.names.get(name).copied();
        let file = match (known, create) {
            (Some(_), true) => return Err(io::ErrorKind::AlreadyExists.into()),
            (None, false) => return Err(io::ErrorKind::NotFound.into()),
            (Some(file), false) => file,
            (None, true) => {
                disk.files.push(File::default());
                let file = disk.files.len() - 1;
                let change = NameChange::Create(name.to_owned(), file);
                apply(&mut disk.names, &change);
                disk.name_changes.push(change);
                file
            }
        };
        Ok(Box::new(SimFile { disk: Arc::clone(&self.0), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        disk.call(Call::Rename)?;
        if !disk.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let change = NameChange::Rename(from.to_owned(), to.to_owned());
        apply(&mut disk.names, &change);
        disk.name_changes.push(change);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        if disk.is_dead {
            return Err(io::Error::other("the power is cut"));
        }
        if !disk.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let change = NameChange::Remove(name.to_owned());
        apply(&mut disk.names, &change);
        disk.name_changes.push(change);
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        disk.call(Call::SyncNames)?;
        disk.durable_names = disk.names.clone();
        disk.name_changes.clear();
        Ok(())
    }

    fn path(&self) -> &Path {
        Path::new("simulated")
    }
}

#[derive(Debug)]
struct SimFile {
    disk: Arc<Mutex<Disk>>,
    file: usize,
}

impl StorageFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.lock().unwrap().files[self.file].now.len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let disk = self.disk.lock().unwrap();
        let from = usize::try_from(offset).unwrap();
        match disk.files[self.file].now.get(from..from + out.len()) {
            Some(bytes) => {
                out.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.disk.lock().unwrap();
        let called = disk.call(Call::Write);
        let short = called.is_err() && !disk.is_dead && disk.fault.is_some_and(|f| f.short);
        let bytes = match (&called, short) {
            (Err(_), false) => return called,
            (Err(_), true) => &bytes[..bytes.len() / 2],
            (Ok(()), _) => bytes,
        };
        let file = &mut disk.files[self.file];
        let from = usize::try_from(offset).unwrap();
        if file.now.len() < from + bytes.len() {
            file.now.resize(from + bytes.len(), 0);
        }
        file.now[from..from + bytes.len()].copy_from_slice(bytes);
        file.dirty.extend(from / SECTOR..(from + bytes.len()).div_ceil(SECTOR));
        called
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.disk.lock().unwrap();
        disk.call(Call::Sync)?;
        if disk.skips_sync {
            return Ok(());
        }
        let file = &mut disk.files[self.file];
        file.durable.resize(file.now.len(), 0);
        for sector in std::mem::take(&mut file.dirty) {
            let range = sector * SECTOR..((sector + 1) * SECTOR).min(file.now.len());
            file.durable[range.clone()].copy_from_slice(&file.now[range]);
        }
        Ok(())
    }
}
