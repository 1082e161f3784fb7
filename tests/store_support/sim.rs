//! A simulated disk: what is not synced may be lost, sector by sector, when the power is cut; any
//! call can be made to fail, and any call can be the last one of a process or of the machine.

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

    /// An index below `n`.
    pub fn index(&mut self, n: usize) -> usize {
        usize::try_from(self.below(n as u64)).unwrap()
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
    Read,
    Remove,
}

impl Call {
    pub const ALL: [Call; 7] = [
        Call::Write,
        Call::Sync,
        Call::Rename,
        Call::Open,
        Call::SyncNames,
        Call::Read,
        Call::Remove,
    ];
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
    /// Sectors written since the last sync, from and to.
    dirty: Vec<(usize, usize)>,
}

impl File {
    fn write(&mut self, from: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.now.len() < from + bytes.len() {
            self.now.resize(from + bytes.len(), 0);
        }
        self.now[from..from + bytes.len()].copy_from_slice(bytes);
        self.dirty.push((from / SECTOR, (from + bytes.len()).div_ceil(SECTOR)));
    }

    fn sync(&mut self) {
        self.durable.resize(self.now.len(), 0);
        for (from, to) in std::mem::take(&mut self.dirty) {
            let range = from * SECTOR..(to * SECTOR).min(self.now.len());
            self.durable[range.clone()].copy_from_slice(&self.now[range]);
        }
    }

    fn keep(&mut self, sector: usize) {
        let range = sector * SECTOR..((sector + 1) * SECTOR).min(self.now.len());
        if range.start >= range.end {
            return;
        }
        if self.durable.len() < range.end {
            self.durable.resize(range.end, 0);
        }
        self.durable[range.clone()].copy_from_slice(&self.now[range]);
    }

    fn copy(&self) -> File {
        File { durable: self.durable.clone(), now: self.now.clone(), dirty: self.dirty.clone() }
    }
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
    boot: u8,
    is_dead: bool,
    /// Calls until one is the last.
    last_call_in: Option<u64>,
    /// Segments that are removed until that is the last call.
    last_removal_in: Option<u64>,
    fault: Option<Fault>,
    calls: BTreeMap<u8, u64>,
    /// All calls so far.
    count: u64,
    /// Lies about every sync of file contents: for proving that tests see it.
    skips_sync: bool,
}

impl Disk {
    fn call(&mut self, call: Call) -> io::Result<()> {
        let dead = || Err(io::Error::other("the power is cut"));
        if self.is_dead {
            return dead();
        }
        self.count += 1;
        if let Some(left) = &mut self.last_call_in {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.is_dead = true;
                return dead();
            }
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
    /// of the rest whatever `random` says; the machine has booted since.
    pub fn cut_power(&self, random: &mut Random) -> SimStorage {
        let mut disk = self.0.lock().unwrap();
        disk.is_dead = true;
        let mut names = disk.durable_names.clone();
        let kept = random.index(disk.name_changes.len() + 1);
        for change in disk.name_changes.iter().take(kept) {
            apply(&mut names, change);
        }
        // All of it, none of it, or any part of it.
        let odds = [1, 0, 2, 4][random.index(4)];
        let mut files = std::mem::take(&mut disk.files);
        for file in &mut files {
            for (from, to) in std::mem::take(&mut file.dirty) {
                for sector in from..to {
                    if odds > 0 && random.one_in(odds) {
                        file.keep(sector);
                    }
                }
            }
            file.now.clone_from(&file.durable);
        }
        let next = Disk {
            files,
            durable_names: names.clone(),
            names,
            boot: disk.boot.wrapping_add(1),
            skips_sync: disk.skips_sync,
            ..Disk::default()
        };
        SimStorage(Arc::new(Mutex::new(next)))
    }

    /// Stops the process: every later call on this disk fails; the new disk has all of it.
    pub fn kill(&self) -> SimStorage {
        let mut disk = self.0.lock().unwrap();
        disk.is_dead = true;
        let next = Disk {
            files: std::mem::take(&mut disk.files),
            names: disk.names.clone(),
            durable_names: disk.durable_names.clone(),
            name_changes: disk.name_changes.clone(),
            boot: disk.boot,
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

    /// The `n`-th call from now on fails, and so does every one after it: somebody pulled the plug,
    /// or killed the process. Of a write that is cut off, any part may be there.
    pub fn die_in(&self, n: Option<u64>) {
        let mut disk = self.0.lock().unwrap();
        disk.last_call_in = n;
        disk.last_removal_in = None;
    }

    /// The removal of the `n`-th segment is the last call.
    pub fn die_at_removal(&self, n: u64) {
        self.0.lock().unwrap().last_removal_in = Some(n);
    }

    pub fn is_dead(&self) -> bool {
        self.0.lock().unwrap().is_dead
    }

    /// How many calls there were.
    pub fn count(&self) -> u64 {
        self.0.lock().unwrap().count
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
            Disk {
                files: disk.files.iter().map(File::copy).collect(),
                names: disk.names.clone(),
                durable_names: disk.durable_names.clone(),
                name_changes: disk.name_changes.clone(),
                boot: disk.boot,
                ..Disk::default()
            }
        };
        SimStorage(Arc::new(Mutex::new(next)))
    }
}

/// Another task may go on between any two calls.
fn touch() {
    #[cfg(mintage_sim)]
    mintage::sim::touch();
}

impl Storage for SimStorage {
    fn open(&self, name: &str, create: bool) -> io::Result<Box<dyn StorageFile>> {
        touch();
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
        touch();
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
        touch();
        let mut disk = self.0.lock().unwrap();
        if let Some(left) = &mut disk.last_removal_in
            && name.ends_with(".log")
        {
            *left = left.saturating_sub(1);
            if *left == 0 {
                disk.is_dead = true;
            }
        }
        disk.call(Call::Remove)?;
        if !disk.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let change = NameChange::Remove(name.to_owned());
        apply(&mut disk.names, &change);
        disk.name_changes.push(change);
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        touch();
        if self.is_dead() {
            return Err(io::Error::other("the power is cut"));
        }
        Ok(self.names())
    }

    fn sync_names(&self) -> io::Result<()> {
        touch();
        let mut disk = self.0.lock().unwrap();
        disk.call(Call::SyncNames)?;
        disk.durable_names = disk.names.clone();
        disk.name_changes.clear();
        Ok(())
    }

    fn path(&self) -> &Path {
        Path::new("simulated")
    }

    fn boot(&self) -> [u8; 16] {
        [self.0.lock().unwrap().boot.wrapping_add(1); 16]
    }
}

#[derive(Debug)]
struct SimFile {
    disk: Arc<Mutex<Disk>>,
    file: usize,
}

impl StorageFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        touch();
        let mut disk = self.disk.lock().unwrap();
        disk.call(Call::Read)?;
        Ok(disk.files[self.file].now.len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        touch();
        let mut disk = self.disk.lock().unwrap();
        disk.call(Call::Read)?;
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
        touch();
        let mut disk = self.disk.lock().unwrap();
        let was_dead = disk.is_dead;
        let called = disk.call(Call::Write);
        let is_cut = disk.is_dead && !was_dead;
        let is_short = !disk.is_dead && disk.fault.is_some_and(|f| f.short);
        let written = match &called {
            Ok(()) => bytes,
            // The sectors of it that reached the disk are chosen when the power is cut; a process
            // that is killed leaves a part.
            Err(_) if is_cut || is_short => &bytes[..bytes.len() / 2],
            Err(_) => return called,
        };
        let from = usize::try_from(offset).unwrap();
        disk.files[self.file].write(from, written);
        called
    }

    fn sync(&self) -> io::Result<()> {
        touch();
        let mut disk = self.disk.lock().unwrap();
        let was_dead = disk.is_dead;
        let called = disk.call(Call::Sync);
        if called.is_err() {
            if !was_dead && !disk.is_dead {
                // The system forgets that these pages were to be written: they are read back as
                // written, and never reach the disk.
                disk.files[self.file].dirty.clear();
            }
            return called;
        }
        if !disk.skips_sync {
            disk.files[self.file].sync();
        }
        Ok(())
    }
}
