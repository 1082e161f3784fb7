//! The shim between a child and its files: a small library in C, compiled by the test, that every
//! call on a file goes through. See `shim.c`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::store_support::TempDir;

/// Kinds of calls, which can be added.
pub const WRITE: u64 = 1;
pub const SYNC: u64 = 2;
pub const RENAME: u64 = 4;
pub const OPEN: u64 = 8;
pub const TRUNCATE: u64 = 16;
pub const UNLINK: u64 = 32;
pub const ANY: u64 = 63;

/// Whose files: the log's, sled's.
pub const LOG: u64 = 1;
pub const SLED: u64 = 2;

/// What strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies, every other time in the middle of a write.
    Kill = 1,
    /// `EIO`.
    Io = 2,
    /// `ENOSPC`.
    Full = 3,
    /// Half of a write, then `ENOSPC`.
    Short = 4,
    /// The power of the file system is cut, and the process dies.
    Cut = 5,
    /// `EIO` from a sync, and what it should have synced is gone, as some kernels have it.
    Lose = 6,
}

/// The compiled library. It goes with its directory.
pub struct Library {
    _dir: TempDir,
    path: PathBuf,
}

impl Library {
    /// Compiles it.
    ///
    /// # Errors
    /// Why it cannot be had on this machine.
    pub fn compile() -> Result<Library, String> {
        let dir = TempDir::fast("shim");
        let (source, path) = (dir.path().join("shim.c"), dir.path().join("shim.so"));
        std::fs::write(&source, include_str!("shim.c")).map_err(|error| error.to_string())?;
        let output = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-pthread", "-o"])
            .args([&path, &source])
            .output()
            .map_err(|error| format!("cc: {error}"))?;
        if output.status.success() {
            Ok(Library { _dir: dir, path })
        } else {
            Err(format!("cc: {}", String::from_utf8_lossy(&output.stderr)))
        }
    }

    pub fn shim(&self, calls: u64, nth: u64, fault: Fault) -> Shim {
        let library = self.path.clone();
        Shim { library, calls, nth, fault, for_good: false, files: LOG | SLED, mount: None }
    }
}

/// What the shim of one child does.
#[derive(Clone, Debug)]
pub struct Shim {
    library: PathBuf,
    pub calls: u64,
    /// Which call of these; 0 counts only.
    pub nth: u64,
    pub fault: Fault,
    /// Whether every later one is struck too.
    pub for_good: bool,
    pub files: u64,
    /// The mount whose power is cut.
    pub mount: Option<PathBuf>,
}

impl Shim {
    pub fn on(self, mount: &Path) -> Shim {
        Shim { mount: Some(mount.to_owned()), ..self }
    }

    pub(super) fn arm(&self, command: &mut Command) {
        let Shim { calls, nth, fault, for_good, files, .. } = self;
        let job = format!("{calls} {nth} {} {} {files}", *fault as u8, u8::from(*for_good));
        command.env("LD_PRELOAD", &self.library).env("MINTAGE_SHIM", job);
        if let Some(mount) = &self.mount {
            command.env("MINTAGE_SHIM_MOUNT", mount);
        }
    }
}
