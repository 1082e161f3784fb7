//! What a token costs in memory and on disk, and how soon a full store answers after it is opened.
//!
//! `cargo run --release --example capacity` builds stores of a million and of ten million live tokens,
//! in two shapes: four tokens for each pair of client and subject, and one with a refresh token for
//! each pair. Each is killed (`kill -9`), opened, closed and opened again, by processes of their own,
//! with cold file caches where this runs as root. `-- 1000000` builds that many only, `-- 1000000
//! /mnt/disk` there. It fails above 200 bytes of memory for a token of the first shape, 400 of the
//! second, and a second to the first right answer.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::error::Error;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use mintage::ids::{ClientId, Subject};
use mintage::locator::{Digest, Locator};
use mintage::root_key::RootKey;
use mintage::scope::Scope;
use mintage::store::{
    AccessBirth, DurableOptions, DurableStore, Find, Issue, Near, Outcome, Pair, PairPolicy,
    RefreshBirth, Store, StoreError, Ticket, Verb,
};
use mintage::time::{Clock as _, SystemClock, Timestamp};

type Done<T = ()> = Result<T, Box<dyn Error>>;

/// Tokens live for a day: none expires while it is measured.
const LIFETIME_SECS: u64 = 86_400;
/// Of lifetimes up to 34 hours.
const CLASS: u8 = 11;
const CLIENTS: u64 = 16;
/// Births that wait for the disk at a time.
const WAITING_MAX: usize = 4_096;
/// Tokens that are looked up after each open.
const PROBES: u64 = 1_000;
const FIRST_ANSWER_MAX: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    name: &'static str,
    tokens_per_pair: u64,
    has_refresh: bool,
    bytes_max: u64,
}

const SHAPES: [Shape; 2] = [
    Shape { name: "four-a-pair", tokens_per_pair: 4, has_refresh: false, bytes_max: 200 },
    Shape { name: "one-with-refresh", tokens_per_pair: 1, has_refresh: true, bytes_max: 400 },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["build", directory, shape, tokens] => build(Path::new(directory), shape, tokens),
        ["open", directory] => open_and_probe(Path::new(directory)),
        [] => measure(&[1_000_000, 10_000_000], &std::env::temp_dir()),
        [tokens] => parse(tokens).and_then(|n| measure(&[n], &std::env::temp_dir())),
        [tokens, directory] => parse(tokens).and_then(|n| measure(&[n], Path::new(directory))),
        _ => Err("usage: capacity [TOKENS [DIRECTORY]]".into()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("capacity: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(text: &str) -> Done<u64> {
    text.replace('_', "").parse().map_err(|_| format!("{text:?} is no number of tokens").into())
}

/// Builds every shape at every size and prints the table; whether all of it is within the limits.
fn measure(sizes: &[u64], under: &Path) -> Done<bool> {
    let mut is_good = true;
    let mut table = vec![format!(
        "{:<18}{:>12}{:>16}{:>16}{:>22}{:>22}",
        "shape",
        "tokens",
        "memory B/token",
        "disk B/token",
        "answer after kill",
        "answer after close"
    )];
    for tokens in sizes {
        for shape in SHAPES {
            let directory = under.join(format!("mintage-capacity-{}", std::process::id()));
            let row = one(&directory, shape, *tokens);
            let _ = fs::remove_dir_all(&directory);
            let (row, row_is_good) = row?;
            table.push(row);
            is_good &= row_is_good;
        }
    }
    println!("\n{}", table.join("\n"));
    println!(
        "limits: {} B and {} B of memory, {} ms to the first right answer{}",
        SHAPES[0].bytes_max,
        SHAPES[1].bytes_max,
        FIRST_ANSWER_MAX.as_millis(),
        if is_root() { ", file caches dropped" } else { "; file caches were warm: not root" }
    );
    Ok(is_good)
}

fn one(directory: &Path, shape: Shape, tokens: u64) -> Done<(String, bool)> {
    fs::create_dir_all(directory)?;
    // It says what it grew by, and is killed as soon as it has.
    let mut child = Command::new(std::env::current_exe()?)
        .args(["build", &directory.to_string_lossy(), shape.name, &tokens.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().ok_or("no output")?;
    let line = BufReader::new(output).lines().next();
    child.kill()?;
    child.wait()?;
    let grown: u64 = line.ok_or("the store was not built")??.parse()?;
    let memory = grown / tokens;
    let disk = len_of(directory)? / tokens;
    let (killed, closed) = (opened(directory)?, opened(directory)?);
    let is_good =
        memory <= shape.bytes_max && killed <= FIRST_ANSWER_MAX && closed <= FIRST_ANSWER_MAX;
    let row = format!(
        "{:<18}{tokens:>12}{memory:>16}{disk:>16}{:>19} ms{:>19} ms{}",
        shape.name,
        killed.as_millis(),
        closed.as_millis(),
        if is_good { "" } else { "   NOT HELD" }
    );
    Ok((row, is_good))
}

/// How long a process of its own took from opening to the first right answer.
fn opened(directory: &Path) -> Done<Duration> {
    drop_caches();
    let output = Command::new(std::env::current_exe()?)
        .args(["open", &directory.to_string_lossy()])
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    if !output.status.success() {
        return Err("the store did not open, or a token was not there".into());
    }
    Ok(Duration::from_micros(text.trim().parse()?))
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|of| std::os::unix::fs::MetadataExt::uid(&of) == 0)
}

fn drop_caches() {
    if is_root() {
        let _ = Command::new("sync").status();
        let _ = fs::write("/proc/sys/vm/drop_caches", "3");
    }
}

/// Bytes that the files under a directory take.
fn len_of(directory: &Path) -> Done<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let of = entry.metadata()?;
        sum += if of.is_dir() {
            len_of(&entry.path())?
        } else {
            std::os::unix::fs::MetadataExt::blocks(&of) * 512
        };
    }
    Ok(sum)
}

/// Bytes of memory that this process holds.
fn resident() -> Done<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).ok_or("no VmRSS")?;
    Ok(kib.trim().parse::<u64>()? * 1_024)
}

fn open(directory: &Path) -> Result<DurableStore, StoreError> {
    let root = RootKey::from_bytes(1, [7; 32]);
    DurableStore::open(directory.join("data"), &root, DurableOptions::default())
}

fn probes(directory: &Path) -> PathBuf {
    directory.join("probes")
}

/// Issues tokens, waits until the store is at rest, and prints how many bytes it has grown by.
fn build(directory: &Path, shape: &str, tokens: &str) -> Done<bool> {
    let tokens = parse(tokens)?;
    let shape = *SHAPES.iter().find(|s| s.name == shape).ok_or("no such shape")?;
    let store = open(directory)?;
    let before = resident()?;
    let clock = SystemClock::new();
    let bar = ProgressBar::new(tokens).with_style(ProgressStyle::with_template(
        "  {msg:<18} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}",
    )?);
    bar.set_message(shape.name);
    let (scope, audience) = (Scope::parse("api web")?, Arc::from("https://api.example.com"));
    let mut waiting = Vec::with_capacity(WAITING_MAX);
    let mut kept = String::new();
    for n in 0..tokens {
        let pair = Pair {
            client: ClientId::new(format!("client-{}", n / shape.tokens_per_pair % CLIENTS))?,
            subject: Subject::new(format!("00530000{:010}AAQ", n / shape.tokens_per_pair))?,
            device: None,
        };
        let family = store.draw(Near::Pair(&pair));
        let id = store.draw(Near::Id(family));
        let now = clock.read();
        let bucket = u32::try_from(now.unix.0 / 60)?;
        let (locator, digest) = (Locator { class: CLASS, bucket, id }, digest_of(n, 1));
        if n.is_multiple_of((tokens / PROBES).max(1)) {
            kept += &format!("{bucket} {id} {n}\n");
        }
        let issue = Issue {
            policy: PairPolicy::Unlimited,
            admission: store.admission(),
            now,
            family,
            only_in: None,
            grant: store.draw(Near::Id(family)),
            key_version: 1,
            salt: digest_of(n, 2).0,
            request: digest_of(n, 3).0,
            access: AccessBirth {
                handle: Some((locator, digest)),
                issued_at: now.unix,
                expires_at: now.unix.plus(LIFETIME_SECS),
                scope: scope.clone(),
                audience: Arc::clone(&audience),
                tag: 0,
            },
            refresh: shape.has_refresh.then(|| RefreshBirth {
                digest: digest_of(n, 4),
                expires_at: Timestamp::NEVER,
                idle_secs: 0,
                audience: None,
            }),
            code: None,
            pair,
        };
        let ticket = store.apply(Verb::Issue(Box::new(issue.clone())));
        waiting.push((issue, ticket));
        if waiting.len() == WAITING_MAX {
            finish(&store, &mut waiting)?;
            bar.set_position(n);
        }
    }
    finish(&store, &mut waiting)?;
    bar.set_position(tokens);
    fs::write(probes(directory), kept)?;
    bar.set_message("settling");
    settle(&store);
    bar.finish_and_clear();
    println!("{}", resident()?.saturating_sub(before));
    std::thread::sleep(Duration::from_secs(600));
    Ok(false)
}

/// Waits for births, and asks again for those that the store was too busy for.
fn finish(store: &DurableStore, waiting: &mut Vec<(Issue, Ticket<Outcome>)>) -> Done {
    for (issue, ticket) in waiting.drain(..) {
        let mut answer = ticket.wait();
        while matches!(answer, Err(StoreError::Busy)) {
            std::thread::sleep(Duration::from_millis(1));
            answer = store.apply(Verb::Issue(Box::new(issue.clone()))).wait();
        }
        answer?;
    }
    Ok(())
}

/// Waits until the checkpoint has all of it, or goes no further.
fn settle(store: &DurableStore) {
    let (mut last, mut since) = (store.stats().checkpointed, Instant::now());
    while store.stats().checkpointed < store.stats().durable {
        let now = store.stats().checkpointed;
        if now > last {
            (last, since) = (now, Instant::now());
        } else if since.elapsed() > Duration::from_secs(60) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_secs(2));
}

/// Prints how many microseconds passed from opening to the first right answer, and checks the others.
fn open_and_probe(directory: &Path) -> Done<bool> {
    let clock = SystemClock::new();
    let kept = fs::read_to_string(probes(directory))?;
    let begun = Instant::now();
    let store = open(directory)?;
    let mut first = None;
    for line in kept.lines() {
        let mut numbers = line.split(' ');
        let mut next = || numbers.next().ok_or("a short line");
        let (bucket, id, n) = (next()?.parse()?, next()?.parse()?, next()?.parse()?);
        let locator = Locator { class: CLASS, bucket, id };
        let find = Find::Access { locator, digest: digest_of(n, 1), used: false };
        let view = Ticket::slow(store.find(find, clock.read())).wait()?;
        if !view.is_some_and(|view| view.live) {
            return Err(format!("token {n} is not there").into());
        }
        first.get_or_insert_with(|| begun.elapsed());
    }
    println!("{}", first.ok_or("no token")?.as_micros());
    store.close()?;
    Ok(true)
}

/// Sixteen bytes that nothing else has.
fn digest_of(n: u64, part: u8) -> Digest {
    let hash = blake3::keyed_hash(&[part; 32], &n.to_le_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_bytes()[..16]);
    Digest(bytes)
}
