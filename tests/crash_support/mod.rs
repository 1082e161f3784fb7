//! A child process that works on a store and says on its output what it begins and what was
//! acknowledged, and a ledger of that which outlives it.
#![allow(dead_code, unreachable_pub, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mintage::locator::{Digest, Locator};
use mintage::store::{
    DurableOptions, DurableStore, IssueOutcome, Outcome, PairPolicy, RedeemOutcome, Revoke, Store,
    StoreError, Target, Verb,
};
use mintage::time::{Clock, ManualClock};

use crate::store_support::sim::Random;
use crate::store_support::{Access, Bench, Refresh, START, copy_dir, pair, root};

const DIRECTORY: &str = "MINTAGE_CRASH_DIRECTORY";
const SEED: &str = "MINTAGE_CRASH_SEED";
const WORKERS: u64 = 3;

pub fn open(path: &Path) -> Result<DurableStore, StoreError> {
    let clock = std::sync::Arc::new(ManualClock::at(START));
    let options =
        DurableOptions::default().segment_len(128 * 1024).resident_tokens_max(256).clock(clock);
    DurableStore::open(path, &root(), options)
}

/// The work of the child. Returns at once in the parent, where the variables are not set.
pub fn work_if_child() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let seed: u64 = std::env::var(SEED).ok().and_then(|s| s.parse().ok()).unwrap_or(0);
    let store = match open(Path::new(&directory)) {
        Ok(store) => store,
        Err(error) => {
            println!("X {error:?}");
            return;
        }
    };
    println!("R");
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let store = &store;
            scope.spawn(move || work(store, Random::new(seed * WORKERS + worker), seed, worker));
        }
    });
}

fn hex(digest: Digest) -> String {
    digest.0.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Digest {
    let byte = |n: usize| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).unwrap();
    Digest(std::array::from_fn(byte))
}

/// Begins and acknowledges one operation after another until the process is killed.
fn work(store: &DurableStore, mut random: Random, seed: u64, worker: u64) {
    let clock = ManualClock::at(START);
    let bench = Bench { store, clock: &clock };
    let mut mine: Vec<(String, u64, Refresh)> = Vec::new();
    for n in 0.. {
        let pick = (!mine.is_empty()).then(|| random.below(mine.len() as u64));
        let pick = pick.and_then(|at| usize::try_from(at).ok());
        match (random.below(8), pick) {
            (0..3, _) | (_, None) => {
                let name = format!("u{seed}-{worker}-{n}");
                let admission = store.admission();
                let here = pair("reports", &name);
                let (verb, tokens) =
                    bench.issue_verb(&here, PairPolicy::Unlimited, true, admission);
                let refresh = tokens.refresh.unwrap();
                let Access { locator, digest } = tokens.access;
                println!(
                    "B I {name} {} {} {} {} {} {} {}",
                    tokens.family,
                    tokens.grant,
                    locator.class,
                    locator.bucket,
                    locator.id,
                    hex(digest),
                    hex(refresh.digest)
                );
                if let Ok(Outcome::Issue(IssueOutcome::Issued { .. })) = store.apply(verb).wait() {
                    println!("A I {name}");
                    mine.push((name, tokens.grant, refresh));
                } else {
                    println!("N I {name}");
                }
            }
            (3..7, Some(at)) => {
                let (name, _, refresh) = mine[at].clone();
                // Said before it is begun: a kill in between must find it in the ledger.
                let (verb, access, next) = bench.redeem_verb(refresh, 60, store.admission());
                let Access { locator, digest } = access;
                println!(
                    "B R {name} {} {} {} {} {} {}",
                    next.generation,
                    locator.class,
                    locator.bucket,
                    locator.id,
                    hex(digest),
                    hex(next.digest)
                );
                match store.apply(verb).wait() {
                    Ok(Outcome::Redeem(RedeemOutcome::Redeemed { .. })) => {
                        println!("A R {name}");
                        mine[at].2 = next;
                    }
                    other => {
                        println!("N R {name} {other:?}");
                        mine.swap_remove(at);
                    }
                }
            }
            (_, Some(at)) => {
                let (name, grant, refresh) = mine.swap_remove(at);
                let here = pair("reports", &name);
                let target = match random.below(4) {
                    0 => Target::Family(refresh.family),
                    1 => Target::Grant(grant),
                    2 => Target::Subject(here.subject),
                    _ => Target::Pair(here.client, here.subject),
                };
                println!("B K {name}");
                let verb = Verb::Revoke(Revoke { target, now: clock.read() });
                if store.apply(verb).wait().is_ok() {
                    println!("A K {name}");
                } else {
                    println!("N K {name}");
                }
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Live,
    Dead,
    Unknown,
}

#[derive(Debug)]
struct Entry {
    refresh: Refresh,
    access: Vec<Access>,
    spent: Vec<Refresh>,
    fate: Fate,
    maybe: Option<(Refresh, Access)>,
}

/// What every child so far was told, held outside what it works on.
#[derive(Default)]
pub struct Ledger {
    entries: BTreeMap<String, Entry>,
    pub acknowledged: u64,
    seed: u64,
}

impl Ledger {
    pub fn new(seed: u64) -> Ledger {
        Ledger { seed, ..Ledger::default() }
    }

    /// Lets a child work on the store at `path` until `end` is called back after it has had so long,
    /// and takes down what it said.
    pub fn run_child(&mut self, path: &Path, life: Duration, end: impl FnOnce(&mut Child)) {
        self.seed += 1;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_process", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, path)
            .env(SEED, self.seed.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (ready, is_ready) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut said = Vec::new();
            // A line that was cut off was not said.
            for line in output.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                if line.ends_with('R') && line.len() < 3 || line.contains("... R") {
                    let _ = ready.send(());
                }
                said.push(line);
            }
            said
        });
        let opened = is_ready.recv_timeout(Duration::from_secs(60));
        // So long it lives, or until it ends by itself, which closes the channel.
        let _ = is_ready.recv_timeout(life);
        end(&mut child);
        let _ = child.kill();
        let _ = child.wait();
        let said = reader.join().unwrap();
        assert!(opened.is_ok(), "the child did not open the store: {said:?}");
        let last = said.len().saturating_sub(1);
        for (n, line) in said.iter().enumerate() {
            self.take_down(line, n == last);
        }
    }

    fn take_down(&mut self, line: &str, is_last: bool) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |n: usize| words[n].parse::<u64>().unwrap();
        let access = |n: usize| Access {
            locator: Locator {
                class: u8::try_from(number(n)).unwrap(),
                bucket: u32::try_from(number(n + 1)).unwrap(),
                id: number(n + 2),
            },
            digest: unhex(words[n + 3]),
        };
        match words.as_slice() {
            ["B", "I", name, rest @ ..] if rest.len() == 7 && rest[6].len() == 32 => {
                let refresh = Refresh { family: number(3), generation: 1, digest: unhex(words[9]) };
                self.entries.insert(
                    (*name).to_owned(),
                    Entry {
                        refresh,
                        access: vec![access(5)],
                        spent: Vec::new(),
                        fate: Fate::Unknown,
                        maybe: None,
                    },
                );
            }
            ["B", "R", name, rest @ ..] if rest.len() == 6 && rest[5].len() == 32 => {
                let access = access(4);
                let generation = u32::try_from(number(3)).unwrap();
                let digest = unhex(words[8]);
                let entry = self.entries.get_mut(*name).unwrap();
                entry.maybe = Some((Refresh { generation, digest, ..entry.refresh }, access));
            }
            ["B", "K", name] if !is_last || self.entries.contains_key(*name) => {
                self.entries.get_mut(*name).unwrap().fate = Fate::Unknown;
            }
            ["A", kind, name] if !is_last || self.entries.contains_key(*name) => {
                let entry = self.entries.get_mut(*name).unwrap();
                self.acknowledged += 1;
                match *kind {
                    "I" => entry.fate = Fate::Live,
                    "K" => entry.fate = Fate::Dead,
                    _ => {
                        if let Some((next, access)) = entry.maybe.take() {
                            entry.spent.push(entry.refresh);
                            entry.refresh = next;
                            entry.access.push(access);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    /// Compares the store with what was acknowledged; takes its word for the rest. Says how many
    /// promises were broken.
    pub fn check(&mut self, store: &DurableStore) -> Broken {
        let clock = ManualClock::at(START);
        let bench = Bench { store, clock: &clock };
        let mut broken = Broken::default();
        for entry in self.entries.values_mut() {
            if let Some((next, access)) = entry.maybe.take()
                && bench.is_redeemable(next)
            {
                entry.spent.push(entry.refresh);
                entry.refresh = next;
                entry.access.push(access);
            }
            let is_live = bench.is_redeemable(entry.refresh);
            let access: Vec<bool> = entry.access.iter().map(|a| bench.is_live(*a)).collect();
            match entry.fate {
                Fate::Live => {
                    let is_lost = !is_live || access.contains(&false);
                    broken.lost += u64::from(is_lost);
                    if is_lost {
                        println!("lost: {entry:?}, refresh {is_live}, access {access:?}");
                    }
                }
                Fate::Dead => broken.revived += u64::from(is_live || access.contains(&true)),
                Fate::Unknown => {
                    broken.halved += u64::from(access.iter().any(|live| *live != is_live));
                    entry.fate = if is_live { Fate::Live } else { Fate::Dead };
                }
            }
            broken.respendable +=
                entry.spent.iter().filter(|spent| bench.is_redeemable(**spent)).count() as u64;
        }
        broken
    }
}

/// Promises that were not kept.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Broken {
    pub lost: u64,
    pub revived: u64,
    pub respendable: u64,
    pub halved: u64,
}

/// Takes sled away, shortens it, or puts an older one in its place. `older` is a directory that may
/// hold a copy.
pub fn harm_checkpoint(path: &Path, older: &Path, random: &mut Random) {
    let sled = path.join("sled");
    if !sled.exists() {
        return;
    }
    match random.below(6) {
        0 => fs::remove_dir_all(&sled).unwrap(),
        1 => {
            let tables = fs::read_dir(&sled).unwrap().map(|entry| entry.unwrap().path());
            let Some(db) = tables.map(|table| table.join("db")).find(|db| db.exists()) else {
                return;
            };
            let bytes = fs::read(&db).unwrap();
            let len = usize::try_from(random.below(bytes.len() as u64 + 1)).unwrap();
            fs::write(&db, &bytes[..len]).unwrap();
        }
        2 if older.exists() => {
            fs::remove_dir_all(&sled).unwrap();
            copy_dir(older, &sled);
        }
        3 => {
            let _ = fs::remove_dir_all(older);
            copy_dir(&sled, older);
        }
        _ => {}
    }
}

/// How often a campaign runs: `variable`, or so often as is right for every submission.
pub fn rounds(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}
