//! What a lookup costs over the least that any token store must do (decode, digest, probe, compare),
//! and what a durable write costs over the device itself: the same bytes, written and synced into a
//! zeroed, preallocated file in the same run.
//!
//! The directory is under `target/`, so the device is the one that holds the build.

#[path = "../tests/store_support/mod.rs"]
mod store_support;

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use base64_simd::URL_SAFE_NO_PAD;
use criterion::measurement::WallTime;
use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main,
};
use mintage::codec::handle::{HandleBuf, HandleKeys, HandleKind};
use mintage::entropy::{SystemEntropy, random};
use mintage::ids::{OrgId, Subject};
use mintage::secret::SecretBytes;
use mintage::store::{
    DurableOptions, DurableStore, Find, IssueOutcome, MemoryStore, Outcome, Pair, PairPolicy,
    RedeemOutcome, Store, StoreError, Target, Ticket, Verb,
};
use mintage::time::{Clock as _, ManualClock, Reading};
use store_support::{Bench, Refresh, clock, memory, pair, root};

/// How many subjects the tokens of a benchmark belong to.
const PAIRS: usize = 1_024;
const IN_FLIGHT: usize = 256;
const BLOCK: usize = 4_096;
/// Frames of the records that a unit holds, and the head of a group.
const TOKEN_LEN: usize = 128;
const FAMILY_LEN: usize = 256;
const HEAD_LEN: usize = 128;

/// `cargo bench -- --test` builds small and runs everything once.
fn is_test() -> bool {
    std::env::args().any(|arg| arg == "--test")
}

fn many(full: usize) -> usize {
    if is_test() { full.min(1_000) } else { full }
}

/// A directory under `target/`, removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("bench-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Dir(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A lookup in memory is ready when it is first asked.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("a hot lookup waits for nothing"),
    }
}

/// Digests are hashes already.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b));
    }

    fn write_usize(&mut self, _: usize) {}
}

/// The rival: decode, one keyed BLAKE3, one probe of a pre-sized table, three comparisons.
struct Rival {
    key: [u8; 32],
    table: HashMap<[u8; 16], [u64; 8], BuildHasherDefault<AsIs>>,
    revoked_at: [Vec<u64>; 3],
}

impl Rival {
    fn new(texts: &[String]) -> Rival {
        let mut rival = Rival {
            key: [9; 32],
            table: HashMap::with_capacity_and_hasher(
                texts.len() * 2,
                BuildHasherDefault::default(),
            ),
            revoked_at: [vec![0; 1 << 16], vec![0; 1 << 16], vec![0; 1 << 16]],
        };
        for (n, text) in texts.iter().enumerate() {
            let digest = rival.digest(text);
            rival.table.insert(digest, [n as u64 + 1; 8]);
        }
        rival
    }

    fn digest(&self, text: &str) -> [u8; 16] {
        let body = text.splitn(3, '_').nth(2).unwrap_or("");
        let mut bytes = [0; 96];
        let decoded =
            URL_SAFE_NO_PAD.decode(body.as_bytes(), base64_simd::Out::from_slice(&mut bytes));
        let hash = blake3::keyed_hash(&self.key, decoded.expect("the text is ours"));
        *hash.as_bytes().first_chunk().expect("a hash is longer")
    }

    fn is_live(&self, text: &str) -> bool {
        let Some(row) = self.table.get(&self.digest(text)) else { return false };
        let place = |number: u64| {
            let [low, high, ..] = number.to_le_bytes();
            usize::from(u16::from_le_bytes([low, high]))
        };
        let at = |scope: usize| self.revoked_at[scope][place(row[scope])];
        row[3] >= at(0) && row[4] >= at(1) && row[5] >= at(2)
    }
}

struct Tokens {
    store: MemoryStore,
    keys: HandleKeys,
    texts: Vec<String>,
    clock: Arc<ManualClock>,
}

/// So many opaque tokens in a store, with their texts.
fn tokens(count: usize) -> Tokens {
    let clock = clock();
    let store = memory(&clock);
    let keys = HandleKeys::new(&root(), OrgId::new("00D1").expect("an id")).expect("keys");
    let bench = Bench { store: &store, clock: &clock };
    let entropy = SystemEntropy::new();
    let mut texts = Vec::with_capacity(count);
    for n in 0..count {
        let pair = pair("app", &format!("user{}", n % PAIRS));
        let (mut verb, _) =
            bench.issue_verb(&pair, PairPolicy::Unlimited, false, store.admission());
        if let Verb::Issue(issue) = &mut verb
            && let Some((locator, digest)) = &mut issue.access.handle
        {
            let secret = SecretBytes::new(random(&entropy).expect("randomness"));
            let mut text = HandleBuf::new();
            *digest = keys.mint(HandleKind::Access, *locator, &secret, &mut text);
            texts.push(text.as_str().to_owned());
        }
        assert!(matches!(
            store.apply(verb).wait(),
            Ok(Outcome::Issue(IssueOutcome::Issued { .. }))
        ));
    }
    Tokens { store, keys, texts, clock }
}

impl Tokens {
    fn is_live(&self, text: &str, at: Reading) -> bool {
        let Ok(handle) = self.keys.parse(HandleKind::Access, text) else { return false };
        let (locator, digest) = (handle.locator, handle.digest);
        let found = now(self.store.find(Find::Access { locator, digest, used: false }, at));
        matches!(found, Ok(Some(view)) if view.live)
    }
}

/// A permutation of `0..len`, so that no two lookups in a row are neighbours.
fn scattered(len: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    for i in (1..len).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        order.swap(i, usize::try_from(state >> 33).unwrap_or(0) % (i + 1));
    }
    order
}

fn lookups(c: &mut Criterion, name: &str, count: usize) {
    let tokens = tokens(count);
    let rival = Rival::new(&tokens.texts);
    let order = scattered(tokens.texts.len());
    let at = tokens.clock.read();
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(1));
    let mut next = order.iter().cycle();
    group.bench_function("mintage", |b| {
        b.iter(|| {
            let text = &tokens.texts[*next.next().expect("a cycle")];
            assert!(tokens.is_live(black_box(text), at));
        });
    });
    let mut next = order.iter().cycle();
    group.bench_function("digest+hashmap", |b| {
        b.iter(|| {
            let text = &tokens.texts[*next.next().expect("a cycle")];
            assert!(rival.is_live(black_box(text)));
        });
    });
    group.finish();
}

fn lookup(c: &mut Criterion) {
    lookups(c, "lookup/hot", 1);
    lookups(c, "lookup/random-100k", many(100_000));
}

struct Durable {
    store: DurableStore,
    clock: Arc<ManualClock>,
    _dir: Dir,
}

impl Durable {
    fn new(name: &str) -> Durable {
        let dir = Dir::new(name);
        let clock = clock();
        let options = DurableOptions::default().clock(Arc::clone(&clock) as _);
        let store = DurableStore::open(dir.0.join("data"), &root(), options).expect("a store");
        Durable { store, clock, _dir: dir }
    }

    fn bench(&self) -> Bench<'_, DurableStore> {
        Bench { store: &self.store, clock: &self.clock }
    }

    /// The ticket of a unit that was enqueued. A full queue or a log that waits for its next segment
    /// is part of what is measured.
    fn enqueue(&self, verb: &Verb) -> Ticket<Outcome> {
        loop {
            let mut ticket = self.store.apply(verb.clone());
            match pin!(&mut ticket).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Err(StoreError::Busy)) => {
                    std::thread::sleep(Duration::from_micros(200));
                }
                Poll::Ready(answer) => return Ticket::ready(answer),
                Poll::Pending => return ticket,
            }
        }
    }

    /// Enqueues every verb, then waits for every one.
    fn all(&self, verbs: &[Verb], is_right: impl Fn(&Outcome) -> bool) {
        let tickets: Vec<_> = verbs.iter().map(|verb| self.enqueue(verb)).collect();
        for ticket in tickets {
            assert!(is_right(&ticket.wait().expect("durable")));
        }
    }

    fn issues(&self, pairs: &[Pair], count: usize) -> Vec<Verb> {
        let bench = self.bench();
        let admission = self.store.admission();
        let verb = |n: usize| {
            bench.issue_verb(&pairs[n % pairs.len()], PairPolicy::Unlimited, false, admission).0
        };
        (0..count).map(verb).collect()
    }
}

fn is_issued(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Issue(IssueOutcome::Issued { .. }))
}

fn is_redeemed(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Redeem(RedeemOutcome::Redeemed { .. }))
}

fn pairs() -> Vec<Pair> {
    (0..PAIRS).map(|n| pair("app", &format!("user{n}"))).collect()
}

/// The device: `bytes` rounded up to blocks, written and synced at the next place of a zeroed file.
struct Device {
    file: File,
    len: usize,
    at: usize,
    _dir: Dir,
}

impl Device {
    fn new(name: &str) -> Device {
        let dir = Dir::new(name);
        std::fs::create_dir_all(&dir.0).expect("a directory");
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(dir.0.join("zeroed"));
        let (file, len) = (file.expect("a file"), 16 * 1024 * 1024);
        file.write_all_at(&vec![0; len], 0).expect("zeros");
        file.sync_all().expect("synced");
        Device { file, len, at: 0, _dir: dir }
    }

    fn commit(&mut self, bytes: usize) {
        let padded = bytes.next_multiple_of(BLOCK);
        if self.at + padded > self.len {
            self.at = 0;
        }
        self.file.write_all_at(&vec![1; padded], self.at as u64).expect("written");
        self.file.sync_data().expect("synced");
        self.at += padded;
    }
}

fn limit(group: &mut BenchmarkGroup<'_, WallTime>, bytes: usize) {
    let mut device = Device::new("limit");
    group.bench_function("limit", |b| b.iter(|| device.commit(bytes)));
}

fn settings(group: &mut BenchmarkGroup<'_, WallTime>, elements: usize) {
    group.throughput(Throughput::Elements(elements as u64));
    group.sample_size(20).warm_up_time(Duration::from_millis(500));
    group.measurement_time(Duration::from_secs(3));
}

fn issue(c: &mut Criterion) {
    for (name, count) in [("1-waiter", 1), ("256-in-flight", IN_FLIGHT)] {
        let durable = Durable::new("issue");
        let pairs = pairs();
        // Grants and families first: what is measured is the birth of a token.
        durable.all(&durable.issues(&pairs, PAIRS), is_issued);
        let mut group = c.benchmark_group(format!("issue/durable-{name}"));
        settings(&mut group, count);
        group.bench_function("mintage", |b| {
            b.iter_batched(
                || durable.issues(&pairs, count),
                |verbs| durable.all(&verbs, is_issued),
                BatchSize::PerIteration,
            );
        });
        limit(&mut group, HEAD_LEN + count * TOKEN_LEN);
        group.finish();
    }
}

fn redeem(c: &mut Criterion) {
    for (name, count) in [("1-waiter", 1), ("256-in-flight", IN_FLIGHT)] {
        let durable = Durable::new("redeem");
        let bench = durable.bench();
        let logins = (0..count).map(|n| bench.issue(&pair("app", &format!("user{n}"))));
        let mut tokens: Vec<Refresh> = logins.filter_map(|login| login.refresh).collect();
        let mut group = c.benchmark_group(format!("redeem/durable-{name}"));
        settings(&mut group, count);
        group.bench_function("mintage", |b| {
            b.iter(|| {
                let mut tickets = Vec::with_capacity(count);
                for token in &mut tokens {
                    // No `Busy` here: a redeem has room when births are refused already.
                    let (ticket, _, next) = bench.redeem_ticket(*token, 60);
                    tickets.push(ticket);
                    *token = next;
                }
                for ticket in tickets {
                    assert!(is_redeemed(&ticket.wait().expect("durable")));
                }
            });
        });
        limit(&mut group, HEAD_LEN + count * (FAMILY_LEN + TOKEN_LEN));
        group.finish();
    }
}

fn revoke(c: &mut Criterion) {
    for (name, count) in [("subject-1", 1), ("subject-100k", many(100_000))] {
        let durable = Durable::new("revoke");
        let subject = pair("app", "user");
        for _ in 0..count.div_ceil(IN_FLIGHT) {
            let verbs = durable.issues(std::slice::from_ref(&subject), count.min(IN_FLIGHT));
            durable.all(&verbs, is_issued);
        }
        let target = Target::Subject(Subject::new("user").expect("a subject"));
        let bench = durable.bench();
        // One record a revocation, whatever hangs below. Counted here, for later on the log is long
        // enough that survivors are written too.
        let before = durable.store.stats().records;
        (0..64).for_each(|_| assert!(bench.revoke(target.clone()).is_some()));
        assert_eq!(durable.store.stats().records - before, 64);
        let mut group = c.benchmark_group(format!("revoke/{name}"));
        settings(&mut group, 1);
        group.bench_function("mintage", |b| {
            b.iter(|| assert!(bench.revoke(target.clone()).is_some()));
        });
        limit(&mut group, HEAD_LEN + 64);
        group.finish();
    }
}

criterion_group!(benches, lookup, issue, redeem, revoke);
criterion_main!(benches);
