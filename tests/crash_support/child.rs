//! The child process: works on a store until it is killed or has done its share, and says on its
//! output what it begins and what was acknowledged.
//!
//! Every line is one write: `R` the store is open, `B` something begins, `A` it was acknowledged, `N`
//! it was not, `X` the store did not open, `P` a panic, `E` one of the checkpoint's engine, `C` the store was closed, and from the
//! shim `F` the fault struck and `S` so many calls were counted.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::BufReader;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mintage::locator::Digest;
use mintage::store::{
    DurableStore, IssueOutcome, Outcome, PairPolicy, RedeemOutcome, Revoke, Seq, Store, StoreError,
    Target, Verb,
};
use mintage::time::{Clock, ManualClock};

use super::ledger::{RETRY_SECS, target_text};
use super::{Ledger, Shim, is_in_engine, open};
use crate::store_support::sim::Random;
use crate::store_support::{Access, Bench, Refresh, pair};

const DIRECTORY: &str = "MINTAGE_CRASH_DIRECTORY";
const JOB: &str = "MINTAGE_CRASH_JOB";
const LIVE: &str = "MINTAGE_CRASH_LIVE";
/// After so many live logins of its own a worker ends one before it begins another.
const MINE_MAX: usize = 24;
/// No child takes longer than this, whatever fails under it.
const HANG: Duration = Duration::from_secs(60);

/// What a child does.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// Operations in all.
    pub operations: u64,
    pub workers: u64,
    /// Seconds that the clock goes on with every operation.
    pub step_secs: u64,
    /// Whether it closes the store and ends, or waits to be killed.
    pub closes: bool,
}

/// What became of a child.
#[derive(Debug, Default)]
pub struct Ended {
    /// It was killed, by the parent or by the shim.
    pub killed: bool,
    /// The fault of the shim struck.
    pub struck: bool,
    /// Calls that the shim counted, if the child lived to say.
    pub calls: u64,
    pub opened: bool,
    pub closed: bool,
    /// Operations that were begun after the fault struck and acknowledged.
    pub acknowledged_after: u64,
    /// Our own threads panicked, or the child hung.
    pub wrong: Vec<String>,
}

/// The work of the child. Returns at once in the parent, where the variables are not set.
pub fn work_if_child() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    println!();
    std::panic::set_hook(Box::new(|info| {
        let whose = if is_in_engine(info) { 'E' } else { 'P' };
        let at = info.location().map(ToString::to_string).unwrap_or_default();
        println!("\n{whose} {at} in {:?}: {info}", std::thread::current().name());
    }));
    let job = std::env::var(JOB).unwrap();
    let numbers: Vec<u64> = job.split(' ').map(|n| n.parse().unwrap()).collect();
    let [seed, now, operations, workers, step_secs, closes] = numbers[..] else { panic!("{job}") };
    let clock = Arc::new(ManualClock::at(now));
    let store = match open(Path::new(&directory), &clock) {
        Ok(store) => store,
        Err(error) => {
            println!("X {error:?}");
            return;
        }
    };
    println!("R");
    let live = std::env::var(LIVE).unwrap_or_default();
    let begun = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for number in 0..workers {
            let mine = live.lines().enumerate().filter(|(n, _)| *n as u64 % workers == number);
            let mut worker = Worker {
                store: &store,
                clock: &clock,
                random: Random::new(seed * workers + number),
                mine: mine.map(|(_, line)| Login::parse(line)).collect(),
                name: format!("u{seed}-{number}"),
                is_cold_lost: false,
            };
            let begun = &begun;
            scope.spawn(move || {
                while begun.fetch_add(1, Ordering::Relaxed) < operations {
                    worker.one(begun.load(Ordering::Relaxed), step_secs);
                }
            });
        }
    });
    if closes == 0 {
        std::thread::sleep(HANG);
    }
    match store.close() {
        Ok(()) => println!("C"),
        Err(error) => println!("C {error:?}"),
    }
}

pub fn hex(digest: Digest) -> String {
    digest.0.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Digest {
    let byte = |n: usize| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).unwrap();
    Digest(std::array::from_fn(byte))
}

pub fn access_text(Access { locator, digest }: Access) -> String {
    format!("{} {} {} {}", locator.class, locator.bucket, locator.id, hex(digest))
}

pub fn access_of(words: &[&str]) -> Access {
    let number = |n: usize| words[n].parse::<u64>().unwrap();
    let locator = mintage::locator::Locator {
        class: u8::try_from(number(0)).unwrap(),
        bucket: u32::try_from(number(1)).unwrap(),
        id: number(2),
    };
    Access { locator, digest: unhex(words[3]) }
}

pub fn digest_of(text: &str) -> Digest {
    unhex(text)
}

/// A login as its holder knows it.
struct Login {
    name: String,
    grant: u64,
    refresh: Refresh,
    access: Access,
}

impl Login {
    fn parse(line: &str) -> Login {
        let words: Vec<&str> = line.split(' ').collect();
        let refresh = Refresh {
            family: words[2].parse().unwrap(),
            generation: words[3].parse().unwrap(),
            digest: unhex(words[4]),
        };
        let access = access_of(&words[5..]);
        Login { name: words[0].to_owned(), grant: words[1].parse().unwrap(), refresh, access }
    }
}

struct Worker<'a> {
    store: &'a DurableStore,
    clock: &'a ManualClock,
    random: Random,
    mine: Vec<Login>,
    name: String,
    /// The checkpoint is gone: every token that is out of memory would be waited for in vain.
    is_cold_lost: bool,
}

fn refusal(error: &StoreError) -> &'static str {
    match error {
        StoreError::Busy => "busy",
        StoreError::ReadOnly => "readonly",
        StoreError::Unknown(_) => "unknown",
        _ => "other",
    }
}

impl Worker<'_> {
    /// Begins one operation and says what came of it. What it begins is said first: a kill in
    /// between must find it in the ledger.
    fn one(&mut self, n: u64, step_secs: u64) {
        self.clock.advance(step_secs);
        if step_secs > 0 {
            let _ = self.store.sweep(self.clock.read());
        }
        let pick = (!self.mine.is_empty()).then(|| self.random.below(self.mine.len() as u64));
        let pick = pick.and_then(|at| usize::try_from(at).ok());
        let what = if self.mine.len() > MINE_MAX { 8 } else { self.random.below(10) };
        match (what, pick) {
            (0..3, _) | (_, None) => self.issue(n),
            (3..7, Some(at)) => self.redeem(at),
            (7, Some(at)) if !self.is_cold_lost => self.revoke_token(at),
            (_, Some(at)) => self.revoke(at),
        }
    }

    fn issue(&mut self, n: u64) {
        let name = format!("{}-{n}", self.name);
        let bench = Bench { store: self.store, clock: self.clock };
        let here = pair("reports", &name);
        let admission = self.store.admission();
        let (verb, tokens) = bench.issue_verb(&here, PairPolicy::Unlimited, true, admission);
        let refresh = tokens.refresh.unwrap();
        let now = self.clock.read().unix.0;
        let Verb::Issue(issue) = &verb else { panic!("{verb:?}") };
        println!(
            "B I {name} {now} {} {} {} {} {} {}",
            admission.0,
            tokens.family,
            tokens.grant,
            hex(refresh.digest),
            issue.access.expires_at.0,
            access_text(tokens.access)
        );
        match self.store.apply(verb).wait() {
            Ok(Outcome::Issue(IssueOutcome::Issued { family, grant, admission })) => {
                println!("A I {name} {family} {grant} {}", admission.0);
                let access = tokens.access;
                self.mine.push(Login { name, grant, refresh, access });
            }
            Ok(other) => println!("N I {name} {other:?}"),
            Err(error) => println!("N I {name} {}", refusal(&error)),
        }
    }

    fn redeem(&mut self, at: usize) {
        let bench = Bench { store: self.store, clock: self.clock };
        let Login { name, refresh, .. } = &self.mine[at];
        let arrival = self.store.admission();
        let (verb, access, next) = bench.redeem_verb(*refresh, RETRY_SECS, arrival);
        let Verb::Redeem(redeem) = &verb else { panic!("{verb:?}") };
        let now = self.clock.read().unix.0;
        println!(
            "B R {name} {now} {} {} {} {} {}",
            arrival.0,
            next.generation,
            hex(next.digest),
            redeem.access.expires_at.0,
            access_text(access)
        );
        match self.store.apply(verb).wait() {
            Ok(Outcome::Redeem(RedeemOutcome::Redeemed { generation, admission })) => {
                println!("A R {name} {generation} {}", admission.0);
                self.mine[at].refresh = next;
                self.mine[at].access = access;
            }
            Ok(other) => {
                // A live refresh token of a live family that is refused is a promise broken.
                println!("N R {name} refused {other:?}");
                self.mine.swap_remove(at);
            }
            Err(error) => {
                println!("N R {name} {}", refusal(&error));
                self.mine.swap_remove(at);
            }
        }
    }

    /// Ends one access token, which may be out of memory.
    fn revoke_token(&mut self, at: usize) {
        let Login { name, access, .. } = &self.mine[at];
        let target = Target::Access(access.locator, access.digest);
        if let Err(error) = self.apply_revoke('T', name, target) {
            self.is_cold_lost = matches!(error, StoreError::Unavailable);
        }
    }

    fn revoke(&mut self, at: usize) {
        let Login { name, grant, refresh, .. } = self.mine.swap_remove(at);
        let here = pair("reports", &name);
        let target = match self.random.below(4) {
            0 => Target::Family(refresh.family),
            1 => Target::Grant(grant),
            2 => Target::Subject(here.subject),
            _ => Target::Pair(here.client, here.subject),
        };
        let _ = self.apply_revoke('K', &name, target);
    }

    fn apply_revoke(&self, kind: char, name: &str, target: Target) -> Result<(), StoreError> {
        let now = self.clock.read();
        let Seq(above) = self.store.admission();
        println!("B {kind} {name} {} {above} {}", now.unix.0, target_text(&target));
        match self.store.apply(Verb::Revoke(Revoke { target, now })).wait() {
            Ok(Outcome::Revoke(Some(Seq(seq)))) => println!("A {kind} {name} {seq}"),
            Ok(Outcome::Revoke(None)) => println!("A {kind} {name} none"),
            Ok(other) => panic!("a revocation answered {other:?}"),
            Err(error) => {
                println!("N {kind} {name} {}", refusal(&error));
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Lets a child work on the store at `path`, calls `end` when it has lived for `life` if it did not
/// end by itself, and takes down in the ledger what it said.
pub fn run(
    path: &Path,
    job: Job,
    shim: Option<&Shim>,
    life: Option<Duration>,
    ledger: &mut Ledger,
    end: impl FnOnce(),
) -> Ended {
    let numbers = [
        ledger.draw(),
        ledger.now,
        job.operations,
        job.workers,
        job.step_secs,
        u64::from(job.closes),
    ];
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "child_process", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, path)
        .env(JOB, numbers.map(|n| n.to_string()).join(" "))
        .env(LIVE, ledger.some_live(40))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if let Some(shim) = shim {
        shim.arm(&mut command);
    }
    let mut child = command.spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (said, lines) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        // It ends when the child's end of the pipe is closed, which ends the channel too.
        read_lines(output, |line| {
            let _ = said.send(line);
        });
    });
    let begun = Instant::now();
    let until = begun + life.unwrap_or(HANG);
    let mut heard = Vec::new();
    let mut end = Some(end);
    let mut ended = Ended::default();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match lines.recv_timeout(if end.is_some() { left } else { HANG }) {
            Ok(line) => heard.push(line),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                if life.is_none() {
                    ended.wrong.push("the child hung".to_owned());
                }
                if let Some(end) = end.take() {
                    end();
                }
                let _ = child.kill();
            }
        }
        // A child that never stops talking is killed as well.
        if end.is_some() && Instant::now() >= until {
            if let Some(end) = end.take() {
                end();
            }
            let _ = child.kill();
        }
    }
    reader.join().unwrap();
    let status = wait(&mut child);
    ended.killed = status.signal() == Some(9);
    if !ended.killed && !status.success() {
        let panics: Vec<&String> = heard.iter().filter(|line| line.starts_with("E ")).collect();
        ended.wrong.push(format!("the child ended with {status}: {panics:?}"));
    }
    let mut begun_after = HashSet::new();
    for line in &heard {
        ledger.take_down(line, &mut ended);
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            // What was revoked already needs no commit.
            [_, "T", ..] => {}
            ["B", kind, name, ..] if ended.struck => {
                begun_after.insert((kind.to_owned(), name.to_owned()));
            }
            ["A", kind, name, ..] if begun_after.contains(&(kind.to_owned(), name.to_owned())) => {
                ended.acknowledged_after += 1;
            }
            _ => {}
        }
    }
    ledger.ended();
    ended
}

fn wait(child: &mut Child) -> std::process::ExitStatus {
    child.wait().unwrap()
}

/// Hands over every line that was ended: one that was cut off was not said.
fn read_lines(mut output: impl std::io::BufRead, mut each: impl FnMut(String)) {
    let mut line = Vec::new();
    while let Ok(len) = output.read_until(b'\n', &mut line) {
        if len == 0 || line.pop() != Some(b'\n') {
            return;
        }
        each(String::from_utf8_lossy(&line).into_owned());
        line.clear();
    }
}
