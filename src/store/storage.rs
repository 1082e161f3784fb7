//! The narrow seam between the log and a file system, so that a simulated disk can stand in for it.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// A flat directory of files that the log lives in.
///
/// Nothing is durable before the sync that covers it: bytes by [`StorageFile::sync`] of their file,
/// names (create, rename, remove) by [`Storage::sync_names`].
pub trait Storage: Send + Sync + fmt::Debug + 'static {
    /// Opens the file `name` for reading and writing; with `create`, a new empty one.
    ///
    /// # Errors
    /// Of the system; `NotFound` or `AlreadyExists` where that is so.
    fn open(&self, name: &str, create: bool) -> io::Result<Box<dyn StorageFile>>;

    /// Gives the file `from` the name `to`, in place of any file of that name.
    ///
    /// # Errors
    /// Of the system.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes the file `name`.
    ///
    /// # Errors
    /// Of the system.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names of all files.
    ///
    /// # Errors
    /// Of the system.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes every change of names so far durable.
    ///
    /// # Errors
    /// Of the system.
    fn sync_names(&self) -> io::Result<()>;

    /// Where this is, for messages.
    fn path(&self) -> &Path;

    /// Identifies this boot of the machine: while it is the same, what a killed process wrote is
    /// there. Zeros where that is not known.
    fn boot(&self) -> [u8; 16] {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_or([0; 16], |text| {
            let hash = blake3::hash(text.trim().as_bytes());
            hash.as_bytes().first_chunk::<16>().copied().unwrap_or_default()
        })
    }
}

/// One open file of a [`Storage`].
pub trait StorageFile: Send + Sync + fmt::Debug {
    /// Its length in bytes.
    ///
    /// # Errors
    /// Of the system.
    fn size(&self) -> io::Result<u64>;

    /// Fills `out` from `offset`.
    ///
    /// # Errors
    /// Of the system; `UnexpectedEof` beyond the end.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`; the file grows as needed.
    ///
    /// # Errors
    /// Of the system.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes every write so far durable, with the length.
    ///
    /// # Errors
    /// Of the system. After one, nothing is known about what is durable.
    fn sync(&self) -> io::Result<()>;
}

/// A directory of the file system.
#[derive(Debug)]
pub struct DiskStorage {
    path: PathBuf,
}

impl DiskStorage {
    /// The directory at `path`, made (mode 0700) if it is not there.
    ///
    /// # Errors
    /// Of the system.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<DiskStorage> {
        let path = path.into();
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        let is_new = !path.exists();
        builder.create(&path)?;
        if is_new && let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        Ok(DiskStorage { path })
    }
}

impl Storage for DiskStorage {
    fn open(&self, name: &str, create: bool) -> io::Result<Box<dyn StorageFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(create);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok(Box::new(DiskFile(options.open(self.path.join(name))?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

#[derive(Debug)]
struct DiskFile(File);

impl StorageFile for DiskFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    #[cfg(unix)]
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.0, out, offset)
    }

    #[cfg(unix)]
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.0, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
