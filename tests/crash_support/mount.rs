//! A file system in an image whose power can be cut: the kernel drops the page cache and the tail of
//! the journal (`FS_IOC_SHUTDOWN`, no flush), then it is mounted again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::store_support::TempDir;

const GODOWN: &str = r#"
#include <fcntl.h>
#include <sys/ioctl.h>
#include <linux/types.h>
int main(int argc, char **argv) {
    __u32 no_log_flush = 2;
    int fd = argc > 1 ? open(argv[1], O_RDONLY) : -1;
    return fd < 0 || ioctl(fd, _IOR('X', 125, __u32), &no_log_flush) != 0;
}
"#;

/// An image, made once and mounted again and again.
pub struct Mount {
    dir: TempDir,
    device: String,
    kind: String,
    pub at: PathBuf,
    godown: PathBuf,
}

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

impl Mount {
    /// A file system of that kind.
    ///
    /// # Errors
    /// Why it cannot be had on this machine.
    pub fn make(kind: &str) -> Result<Mount, String> {
        let dir = TempDir::fast(&format!("power-{kind}"));
        let (image, source) = (dir.path().join("image"), dir.path().join("godown.c"));
        let (at, godown) = (dir.path().join("mount"), dir.path().join("godown"));
        fs::write(&source, GODOWN).map_err(|error| error.to_string())?;
        run("cc", &["-o", text(&godown), text(&source)])?;
        // xfs refuses to be smaller; the image is sparse.
        let len = if kind == "xfs" { 320 } else { 96 } * 1024 * 1024;
        let file = fs::File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(len).map_err(|error| error.to_string())?;
        fs::create_dir_all(&at).map_err(|error| error.to_string())?;
        let force = if kind == "xfs" { "-f" } else { "-F" };
        run(&format!("mkfs.{kind}"), &["-q", force, text(&image)])?;
        let device = run("losetup", &["--show", "-f", text(&image)])?;
        let mount = Mount { dir, device, kind: kind.to_owned(), at, godown };
        mount.mount()?;
        mount.prove_cut()?;
        Ok(mount)
    }

    /// The cut itself must lose what was not synced and keep what was, or the tests prove nothing.
    fn prove_cut(&self) -> Result<(), String> {
        let (kept, lost) = (self.at.join("kept"), self.at.join("lost"));
        let written = || -> std::io::Result<()> {
            fs::write(&kept, vec![7; 10_000])?;
            fs::File::open(&kept)?.sync_all()?;
            fs::File::open(&self.at)?.sync_all()?;
            fs::write(&lost, vec![7; 10_000])
        };
        written().map_err(|error| error.to_string())?;
        self.cut()?;
        self.remount()?;
        let is_whole = |path: &Path| fs::read(path).is_ok_and(|bytes| bytes == vec![7; 10_000]);
        if !is_whole(&kept) || is_whole(&lost) {
            return Err(format!("a cut of {} does not lose what was not synced", self.kind));
        }
        Ok(())
    }

    fn mount(&self) -> Result<(), String> {
        run("mount", &["-t", &self.kind, &self.device, text(&self.at)]).map(drop)
    }

    pub fn cut(&self) -> Result<(), String> {
        run(text(&self.godown), &[text(&self.at)]).map(drop)
    }

    /// Lets the journal be replayed.
    pub fn remount(&self) -> Result<(), String> {
        // A killed process may hold the mount for a moment longer.
        let start = Instant::now();
        while let Err(error) = run("umount", &[text(&self.at)]) {
            if start.elapsed() > Duration::from_secs(10) {
                return Err(error);
            }
        }
        self.mount()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = run("umount", &["-l", text(&self.at)]);
        let _ = run("losetup", &["-d", &self.device]);
        let _ = fs::remove_file(self.dir.path().join("image"));
    }
}
