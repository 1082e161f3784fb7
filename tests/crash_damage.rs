//! Damage to real files between two opens. What befalls sled's files changes no answer: bits flipped,
//! files shortened, swapped, missing, older, empty, unopenable, of another store or from the future.
//! What befalls the log is reported: nothing sealed is silently lost.
//!
//! `MINTAGE_FLIPS` and `MINTAGE_TRUNCATIONS` set how many of these (default 300 and 50),
//! `MINTAGE_CRASH_CAMPAIGN` the seed, `MINTAGE_DAMAGE_CASE` the one case to run again.

mod crash_support;
mod store_support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crash_support::{
    Ledger, Template, harm_checkpoint, open, progress, quiet_engine, rounds, say, work_if_child,
};
use mintage::store::{Store, StoreError};
use mintage::time::ManualClock;
use store_support::TempDir;
use store_support::copy_dir;
use store_support::sim::Random;

const LANES: u64 = 2;
/// No open of so small a store takes longer, whatever is in its files.
const OPEN_SECS_MAX: u64 = 20;
/// The whole test stays below this, engine, copies and all.
const RESIDENT_KIB_MAX: u64 = 1_500_000;

/// Not a test of its own: the crash tests run their binary as the child.
#[test]
fn child_process() {
    work_if_child();
}

/// The files of sled that hold anything, the table's own first.
fn sled_files(data: &Path) -> Vec<PathBuf> {
    fn walk(at: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(at).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                walk(&entry.path(), into);
            } else if entry.metadata().is_ok_and(|metadata| metadata.len() > 0) {
                into.push(entry.path());
            }
        }
    }
    let mut files = Vec::new();
    walk(&data.join("sled"), &mut files);
    files.sort_by_key(|path| path.file_name().is_none_or(|name| name != "db"));
    files
}

fn table(data: &Path) -> PathBuf {
    let tables = fs::read_dir(data.join("sled")).unwrap().flatten().map(|entry| entry.path());
    tables.max().unwrap_or_default()
}

/// One of sled's files: mostly the table, sometimes the small ones.
fn pick(data: &Path, random: &mut Random) -> PathBuf {
    let files = sled_files(data);
    let at = if random.one_in(4) { random.below(files.len() as u64) } else { 0 };
    files[usize::try_from(at).unwrap()].clone()
}

#[derive(Default)]
struct Figures {
    flips: AtomicU64,
    truncations: AtomicU64,
    garbled: AtomicU64,
    rebuilt: AtomicU64,
    rebuilt_later: AtomicU64,
    slowest_millis: AtomicU64,
}

/// Opens what was harmed, and says what is wrong; whether the harm was noticed only after the open.
fn answers_are_right(data: &Path, ledger: &mut Ledger, figures: &Figures) -> Result<(), String> {
    for round in 0..2 {
        let clock = ledger.later();
        let before = data.join("sled").is_dir().then(|| table(data));
        let begun = Instant::now();
        let store = open(data, &clock).map_err(|error| format!("open {round}: {error:?}"))?;
        let millis = u64::try_from(begun.elapsed().as_millis()).unwrap();
        figures.slowest_millis.fetch_max(millis, Ordering::Relaxed);
        // A checkpoint that is built anew has a new number.
        let is_rebuilt = before != Some(table(data));
        if is_rebuilt && round == 1 {
            return Err("it was rebuilt once more at the next open".to_owned());
        }
        figures.rebuilt.fetch_add(u64::from(is_rebuilt), Ordering::Relaxed);
        ledger
            .check(&store, &clock)
            .map_err(|wrong| format!("open {round}: {wrong}, {:?}", store.stats()))?;
        let is_later = store.stats().last_error.is_some();
        figures.rebuilt_later.fetch_add(u64::from(is_later), Ordering::Relaxed);
        if let Err(error) = store.close()
            && !is_later
        {
            return Err(format!("close {round}: {error:?}"));
        }
        if is_later && round == 1 {
            return Err("it was damaged after the rebuild as well".to_owned());
        }
    }
    Ok(())
}

/// A write that went wrong: noise, zeros, or bytes that belong elsewhere.
fn garble(bytes: &mut [u8], at: usize, random: &mut Random) {
    let len = 1 + usize::try_from(random.below(4_096)).unwrap();
    let end = (at + len).min(bytes.len());
    match random.below(3) {
        0 => bytes[at..end].fill(0),
        1 => bytes[at..end].fill_with(|| u8::try_from(random.below(256)).unwrap()),
        _ => {
            let from =
                usize::try_from(random.below((bytes.len() - (end - at)) as u64 + 1)).unwrap();
            bytes.copy_within(from..from + (end - at), at);
        }
    }
}

/// Ends the test if one case takes too long: a hang must say which case it was.
struct Watch(Arc<AtomicU64>);

impl Watch {
    fn on(what: String) -> Watch {
        let is_done = Arc::new(AtomicU64::new(0));
        let watched = Arc::clone(&is_done);
        std::thread::spawn(move || {
            let begun = Instant::now();
            while watched.load(Ordering::SeqCst) == 0 {
                if begun.elapsed().as_secs() > 4 * OPEN_SECS_MAX {
                    say(&format!("HUNG: {what}"));
                    std::process::exit(1);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Watch(is_done)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.store(1, Ordering::SeqCst);
    }
}

fn resident_kib_max() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

#[test]
fn flipped_bits_and_lost_ends_of_sleds_files_change_no_answer() {
    let begun = Instant::now();
    quiet_engine();
    let seed = rounds("MINTAGE_CRASH_CAMPAIGN", 1);
    let flips = rounds("MINTAGE_FLIPS", 300);
    let truncations = rounds("MINTAGE_TRUNCATIONS", 50);
    let garbled = flips / 10;
    let only: Option<u64> =
        std::env::var("MINTAGE_DAMAGE_CASE").ok().and_then(|case| case.parse().ok());
    // Of the largest most tokens lie in pages that sled reads only when they are asked for.
    let templates = [60, 400, 2_500].map(|families| Template::new(families, seed));
    let (figures, next) = (Figures::default(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                loop {
                    let case = next.fetch_add(1, Ordering::SeqCst);
                    if case >= flips + truncations + garbled {
                        return;
                    }
                    if only.is_some_and(|only| only != case) {
                        continue;
                    }
                    progress("damage", case, flips + truncations + garbled);
                    let mut random = Random::new(seed ^ (case << 20));
                    let dir = TempDir::fast("damage");
                    let data = dir.path().join("data");
                    let template = [0, 0, 0, 1, 1, 2][usize::try_from(random.below(6)).unwrap()];
                    let mut ledger = templates[template].copy_to(&data);
                    let path = pick(&data, &mut random);
                    let mut bytes = fs::read(&path).unwrap();
                    // The unused end of the table is zeros: most harm goes where something is.
                    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64 + 1;
                    let end = if random.one_in(8) { bytes.len() as u64 } else { used };
                    let at = random.below(end);
                    let at = usize::try_from(at).unwrap();
                    let (kind, count) = if case < flips {
                        bytes[at] ^= 1 << random.below(8);
                        ("flip", &figures.flips)
                    } else if case < flips + truncations {
                        bytes.truncate(at);
                        ("truncation", &figures.truncations)
                    } else {
                        garble(&mut bytes, at, &mut random);
                        ("garbled", &figures.garbled)
                    };
                    fs::write(&path, &bytes).unwrap();
                    let what = format!("case {case}: {kind} {} at {at} of {used}", path.display());
                    let _watch = Watch::on(what.clone());
                    if let Err(wrong) = answers_are_right(&data, &mut ledger, &figures) {
                        panic!("{what}: {wrong}; what is left is in {}", dir.keep().display());
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    let count = |figure: &AtomicU64| figure.load(Ordering::SeqCst);
    say(&format!(
        "{} flips and {} truncations and {} garbled places in sled's files, 0 wrong answers, {} \
         rebuilt at open, {} later, slowest open {} ms, {} MiB at most, {} s",
        count(&figures.flips),
        count(&figures.truncations),
        count(&figures.garbled),
        count(&figures.rebuilt),
        count(&figures.rebuilt_later),
        count(&figures.slowest_millis),
        resident_kib_max() / 1024,
        begun.elapsed().as_secs()
    ));
    assert!(count(&figures.slowest_millis) < OPEN_SECS_MAX * 1000);
    assert!(resident_kib_max() < RESIDENT_KIB_MAX);
}

/// Names a way to harm sled's files, and does it.
type Harm<'a> = (&'a str, Box<dyn Fn(&Path) + 'a>);

fn harms<'a>(older: &'a Path, stranger: &'a Path) -> Vec<Harm<'a>> {
    let whole = |from: &'a Path| {
        move |data: &Path| {
            fs::remove_dir_all(data.join("sled")).unwrap();
            copy_dir(&from.join("sled"), &data.join("sled"));
        }
    };
    let one = |from: &'a Path, name: &'static str| {
        move |data: &Path| {
            let _ = fs::copy(table(from).join(name), table(data).join(name));
        }
    };
    let each = |change: fn(&Path)| {
        move |data: &Path| sled_files(data).iter().for_each(|path| change(path))
    };
    vec![
        ("older", Box::new(whole(older))),
        ("of another store", Box::new(whole(stranger))),
        ("an older table under the newer settings", Box::new(one(older, "db"))),
        ("another store's table", Box::new(one(stranger, "db"))),
        ("another store's settings", Box::new(one(stranger, "conf"))),
        ("all missing", Box::new(|data| fs::remove_dir_all(data.join("sled")).unwrap())),
        ("no table", Box::new(|data| fs::remove_file(table(data).join("db")).unwrap())),
        ("no settings", Box::new(|data| fs::remove_file(table(data).join("conf")).unwrap())),
        ("all empty", Box::new(each(|path| fs::write(path, b"").unwrap()))),
        (
            "all zeros",
            Box::new(each(|path| {
                let len = fs::metadata(path).unwrap().len();
                fs::write(path, vec![0; usize::try_from(len).unwrap()]).unwrap();
            })),
        ),
        (
            "all ones",
            Box::new(each(|path| {
                let len = fs::metadata(path).unwrap().len();
                fs::write(path, vec![0xFF; usize::try_from(len).unwrap()]).unwrap();
            })),
        ),
        (
            "directories where files should be",
            Box::new(each(|path| {
                fs::remove_file(path).unwrap();
                fs::create_dir(path).unwrap();
            })),
        ),
        (
            "a file where the directory should be",
            Box::new(|data| {
                fs::remove_dir_all(data.join("sled")).unwrap();
                fs::write(data.join("sled"), b"junk").unwrap();
            }),
        ),
        (
            "a link to nowhere where the directory should be",
            Box::new(|data| {
                fs::remove_dir_all(data.join("sled")).unwrap();
                std::os::unix::fs::symlink("nowhere", data.join("sled")).unwrap();
            }),
        ),
        (
            "table and settings swapped",
            Box::new(|data| {
                let (db, conf) = (table(data).join("db"), table(data).join("conf"));
                let (one, other) = (fs::read(&db).unwrap(), fs::read(&conf).unwrap());
                fs::write(&db, other).unwrap();
                fs::write(&conf, one).unwrap();
            }),
        ),
        (
            "settings from the future",
            Box::new(|data| {
                fs::write(table(data).join("conf"), b"segment_size: 1048576\nversion: 9.9\n")
                    .unwrap();
            }),
        ),
        (
            "a snapshot from the future",
            Box::new(|data| {
                fs::write(table(data).join("snap.7FFFFFFFFFFFFFFF"), vec![7; 64]).unwrap();
            }),
        ),
        (
            "a snapshot that was not finished",
            Box::new(|data| {
                fs::write(table(data).join("snap.7FFFFFFFFFFFFFFF.generating"), vec![7; 64])
                    .unwrap();
            }),
        ),
        (
            "the highest number there is",
            Box::new(|data| {
                fs::rename(table(data), data.join("sled").join(u64::MAX.to_string())).unwrap();
            }),
        ),
        (
            "a second table beside it",
            Box::new(|data| {
                let next = data.join("sled").join("99999");
                copy_dir(&table(data), &next);
                let db = fs::read(next.join("db")).unwrap();
                fs::write(next.join("db"), &db[..db.len() / 3]).unwrap();
            }),
        ),
        (
            "junk beside it",
            Box::new(|data| {
                fs::write(data.join("sled").join("notes.txt"), b"junk").unwrap();
            }),
        ),
    ]
}

/// A store at two moments of its life, and another store.
struct Lives {
    dir: TempDir,
    ledger: Ledger,
}

impl Lives {
    fn new(seed: u64) -> Lives {
        let dir = TempDir::fast("lives");
        let mut ledger = Template::new(60, seed).copy_to(&dir.path().join("now"));
        Template::new(60, seed + 1).copy_to(&dir.path().join("stranger"));
        copy_dir(&dir.path().join("now"), &dir.path().join("older"));
        let clock = Arc::new(ManualClock::at(ledger.now));
        let store = open(&dir.path().join("now"), &clock).unwrap();
        for n in 0..80 {
            ledger.issue(&store, &clock, &format!("later-{n}")).unwrap();
        }
        store.close().unwrap();
        Lives { dir, ledger }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

#[test]
fn swapped_missing_older_and_foreign_files_of_sled_change_no_answer() {
    quiet_engine();
    let lives = Lives::new(rounds("MINTAGE_CRASH_CAMPAIGN", 1));
    let figures = Figures::default();
    for (name, harm) in harms(&lives.at("older"), &lives.at("stranger")) {
        let dir = TempDir::fast("harm");
        let data = dir.path().join("data");
        copy_dir(&lives.at("now"), &data);
        harm(&data);
        let _watch = Watch::on(name.to_owned());
        let mut ledger = lives.ledger.clone();
        if let Err(wrong) = answers_are_right(&data, &mut ledger, &figures) {
            panic!("{name}: {wrong}; what is left is in {}", dir.keep().display());
        }
    }
}

fn segments(data: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(data).unwrap().flatten().map(|entry| entry.path());
    let mut logs: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    logs.sort();
    logs
}

/// Segments that hold something.
fn used_segments(data: &Path) -> Vec<PathBuf> {
    let is_used = |path: &PathBuf| fs::read(path).unwrap()[4_096..].iter().any(|byte| *byte != 0);
    segments(data).into_iter().filter(is_used).collect()
}

#[test]
fn swapped_missing_older_or_harmed_segments_of_the_log_are_refused() {
    quiet_engine();
    let lives = Lives::new(rounds("MINTAGE_CRASH_CAMPAIGN", 1) + 7);
    let now = lives.at("now");
    let used = used_segments(&now);
    assert!(used.len() > 3, "{used:?}");
    let clock = Arc::new(ManualClock::at(lives.ledger.now));
    let refused = |what: &str, with_sled: bool, harm: &dyn Fn(&Path)| {
        let dir = TempDir::fast("segments");
        let data = dir.path().join("data");
        copy_dir(&now, &data);
        if !with_sled {
            fs::remove_dir_all(data.join("sled")).unwrap();
        }
        harm(&data);
        let before = segments(&data).iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>();
        let opened = open(&data, &clock);
        assert!(matches!(opened, Err(StoreError::Corrupt { .. })), "{what}: {opened:?}");
        let after = segments(&data).iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>();
        assert!(before == after, "{what}: a store that was refused was changed");
    };
    for (n, path) in used.iter().enumerate() {
        let name = path.file_name().unwrap();
        let bytes = fs::read(path).unwrap();
        // What the checkpoint covers is glanced at; its groups are read when they are cleaned, or when
        // the checkpoint is lost.
        let is_last = n + 1 == used.len();
        for with_sled in [false, true] {
            let is_read = is_last || !with_sled;
            let harm = |change: &dyn Fn(&mut Vec<u8>)| {
                let mut bent = bytes.clone();
                change(&mut bent);
                move |data: &Path| fs::write(data.join(name), &bent).unwrap()
            };
            let what = |harm: &str| format!("{name:?} {harm}, with sled: {with_sled}");
            let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
            refused(&what("missing"), with_sled, &|data| fs::remove_file(data.join(name)).unwrap());
            refused(&what("empty"), with_sled, &harm(&Vec::clear));
            refused(&what("shorter"), with_sled, &harm(&|bytes| bytes.truncate(bytes.len() - 1)));
            refused(&what("longer"), with_sled, &harm(&|bytes| bytes.push(0)));
            refused(&what("its head gone"), with_sled, &harm(&|bytes| bytes[..4_096].fill(0)));
            refused(&what("zeroed"), with_sled, &harm(&|bytes| bytes[4_096..].fill(0)));
            let of_stranger = lives.at("stranger").join(name);
            if of_stranger.exists() {
                refused(&what("of another store"), with_sled, &|data| {
                    fs::copy(&of_stranger, data.join(name)).unwrap();
                });
            }
            let other = &used[(n + 1) % used.len()];
            refused(&what("swapped"), with_sled, &|data| {
                let other = data.join(other.file_name().unwrap());
                let kept = fs::read(data.join(name)).unwrap();
                fs::copy(&other, data.join(name)).unwrap();
                fs::write(&other, kept).unwrap();
            });
            if !is_read {
                continue;
            }
            refused(
                &what("its last group zeroed"),
                with_sled,
                &harm(&|bytes| {
                    bytes[end / 4_096 * 4_096..].fill(0);
                }),
            );
            if bytes.len() > end / 4_096 * 4_096 + 4_096 {
                refused(
                    &what("junk behind its end"),
                    with_sled,
                    &harm(&|bytes| {
                        bytes[end / 4_096 * 4_096 + 4_096 + 17] = 1;
                    }),
                );
            }
            let older = lives.at("older").join(name);
            if older.exists() && fs::read(&older).unwrap() != bytes {
                refused(&what("older"), with_sled, &|data| {
                    fs::copy(&older, data.join(name)).unwrap();
                });
            }
        }
    }
    // The whole log from a backup under the checkpoint of now.
    refused("all older, sled from the future", true, &|data| {
        for path in segments(data) {
            fs::remove_file(path).unwrap();
        }
        for path in segments(&lives.at("older")) {
            fs::copy(&path, data.join(path.file_name().unwrap())).unwrap();
        }
        fs::copy(lives.at("older").join("superblock"), data.join("superblock")).unwrap();
    });
}

/// Harm between two lives of a store that goes on working.
#[test]
fn a_store_outlives_harm_to_its_checkpoint_again_and_again() {
    quiet_engine();
    let mut random = Random::new(rounds("MINTAGE_CRASH_CAMPAIGN", 1));
    let (dir, older) = (TempDir::fast("again"), TempDir::fast("again-older"));
    let data = dir.path().join("data");
    let mut ledger = Template::new(40, 3).copy_to(&data);
    for _ in 0..20 {
        let was_harmed = harm_checkpoint(&data, &older.path().join("sled"), &mut random);
        crash_support::verdict(&data, &mut ledger, was_harmed).unwrap();
    }
}
