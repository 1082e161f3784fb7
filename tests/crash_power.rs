//! Power cuts on a real file system: a loop mount is shut down by the kernel (`FS_IOC_SHUTDOWN`),
//! which drops the page cache and the journal's tail, then mounted again.
//!
//! Needs root, loop devices, `mkfs.ext4` and a C compiler; where they are missing the test says so
//! loudly and does nothing. `MINTAGE_CUTS` sets how many cuts (default 10), `MINTAGE_CUTS_FS` the
//! file system (`ext4`, `xfs`).
#![allow(clippy::print_stdout)]

mod crash_support;
mod store_support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crash_support::{Broken, Ledger, harm_checkpoint, open, rounds, work_if_child};
use store_support::TempDir;
use store_support::sim::Random;

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

/// Not a test of its own: the parent runs it as the child.
#[test]
fn child_process() {
    work_if_child();
}

struct Mount {
    image: PathBuf,
    at: PathBuf,
    godown: PathBuf,
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

impl Mount {
    fn make(dir: &Path) -> Result<Mount, String> {
        fs::create_dir_all(dir).map_err(|error| error.to_string())?;
        let mount =
            Mount { image: dir.join("image"), at: dir.join("mount"), godown: dir.join("godown") };
        let source = dir.join("godown.c");
        fs::write(&source, GODOWN).map_err(|error| error.to_string())?;
        run("cc", &["-o", text(&mount.godown), text(&source)])?;
        let kind = std::env::var("MINTAGE_CUTS_FS").unwrap_or_else(|_| "ext4".to_owned());
        let size = if kind == "xfs" { 400 } else { 96 };
        let file = fs::File::create(&mount.image).map_err(|error| error.to_string())?;
        file.set_len(size * 1024 * 1024).map_err(|error| error.to_string())?;
        let force = if kind == "xfs" { "-f" } else { "-F" };
        run(&format!("mkfs.{kind}"), &["-q", force, text(&mount.image)])?;
        fs::create_dir_all(&mount.at).map_err(|error| error.to_string())?;
        mount.mount()?;
        // The cut itself must work, or the test would prove nothing.
        mount.cut()?;
        mount.unmount();
        mount.mount()?;
        Ok(mount)
    }

    fn mount(&self) -> Result<(), String> {
        run("mount", &["-o", "loop", text(&self.image), text(&self.at)])
    }

    fn cut(&self) -> Result<(), String> {
        run(text(&self.godown), &[text(&self.at)])
    }

    fn unmount(&self) {
        // A killed process may hold the mount for a moment longer.
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(2) {
            if run("umount", &[text(&self.at)]).is_ok() {
                return;
            }
        }
        let _ = run("umount", &["-l", text(&self.at)]);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = run("umount", &["-l", text(&self.at)]);
    }
}

#[test]
fn acknowledged_survives_power_cuts() {
    let dir = TempDir::new("power");
    let mount = match Mount::make(dir.path()) {
        Ok(mount) => mount,
        Err(reason) => {
            println!("SKIPPED, power cuts were NOT tested: {reason}");
            println!("run as root with loop devices, mkfs and cc: cargo test --test crash_power");
            return;
        }
    };
    let cuts = rounds("MINTAGE_CUTS", 10);
    let mut random = Random::new(rounds("MINTAGE_CRASH_CAMPAIGN", 1));
    let older = TempDir::new("power-older");
    let store_at = mount.at.join("data");
    let mut ledger = Ledger::new(random.below(1 << 32));
    let mut broken = Vec::new();
    for cut in 0..cuts {
        let life = Duration::from_millis(20 + random.below(150));
        ledger.run_child(&store_at, life, |_| mount.cut().unwrap());
        mount.unmount();
        mount.mount().unwrap();
        harm_checkpoint(&store_at, older.path(), &mut random);
        let store = open(&store_at).unwrap_or_else(|error| panic!("after cut {cut}: {error:?}"));
        let found = ledger.check(&store);
        if found != Broken::default() {
            broken.push((cut, found));
        }
        let _ = store.close();
    }
    assert_eq!(broken, [], "{} acknowledged", ledger.acknowledged);
    println!("{cuts} cuts, {} acknowledged operations, 0 promises broken", ledger.acknowledged);
    assert!(ledger.acknowledged > cuts, "the children did next to nothing");
}
