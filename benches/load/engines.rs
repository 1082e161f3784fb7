//! The engines of the load bench.

use std::fs::{File, OpenOptions};
use std::future::Future;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mintage::store::{
    DurableOptions, DurableStore, Find, MemoryStore, Outcome, Pair, PairPolicy, Store, StoreError,
    Target, Ticket, Verb,
};
use mintage::time::{Clock as _, ManualClock};

use super::looped::{Answer, Engine, Row};
use super::store_support::{Access, Bench, Refresh, clock, memory, pair, root};

/// Subjects that the tokens of a workload belong to.
const PAIRS: usize = 1_024;
const BLOCK: usize = 4_096;
const HEAD_LEN: usize = 128;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Issue,
    Redeem,
    Revoke,
    Introspect,
}

impl Kind {
    pub(crate) const ALL: [Kind; 4] = [Kind::Issue, Kind::Redeem, Kind::Revoke, Kind::Introspect];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Issue => "issue",
            Kind::Redeem => "redeem",
            Kind::Revoke => "revoke",
            Kind::Introspect => "introspect",
        }
    }

    /// Bytes of the records of one unit.
    pub(crate) fn unit_len(self) -> usize {
        match self {
            Kind::Issue => 128,
            Kind::Redeem => 256 + 128,
            Kind::Revoke => 64,
            Kind::Introspect => 0,
        }
    }

    pub(crate) fn is_read(self) -> bool {
        self == Kind::Introspect
    }
}

/// A directory under `target/`, removed at the end.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new(name: &str) -> Dir {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("load-{name}-{}-{n}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Dir(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A store that the bench can make.
pub(crate) trait Made: Store + Sized {
    fn make(clock: &Arc<ManualClock>) -> (Self, Option<Dir>);
}

impl Made for DurableStore {
    fn make(clock: &Arc<ManualClock>) -> (DurableStore, Option<Dir>) {
        let dir = Dir::new("store");
        let options = DurableOptions::default().clock(Arc::clone(clock) as _);
        let store = DurableStore::open(dir.0.join("data"), &root(), options).expect("a store");
        (store, Some(dir))
    }
}

impl Made for MemoryStore {
    fn make(clock: &Arc<ManualClock>) -> (MemoryStore, Option<Dir>) {
        (memory(clock), None)
    }
}

pub(crate) struct MintageEngine<S> {
    store: S,
    clock: Arc<ManualClock>,
    kind: Kind,
    pairs: Vec<Pair>,
    /// What each waiter redeems next.
    refresh: Vec<Refresh>,
    access: Vec<Access>,
    next: usize,
    _dir: Option<Dir>,
}

impl<S: Made> MintageEngine<S> {
    pub(crate) fn new(kind: Kind, waiters: usize) -> MintageEngine<S> {
        let clock = clock();
        let (store, dir) = S::make(&clock);
        let pairs: Vec<Pair> = (0..PAIRS).map(|n| pair("app", &format!("user{n}"))).collect();
        let mut engine = MintageEngine {
            store,
            clock,
            kind,
            pairs,
            refresh: Vec::new(),
            access: Vec::new(),
            next: 0,
            _dir: dir,
        };
        engine.prepare(waiters);
        engine
    }

    /// Grants and families first: what is measured is the operation itself.
    fn prepare(&mut self, waiters: usize) {
        let bench = Bench { store: &self.store, clock: &self.clock };
        let logins = if self.kind == Kind::Redeem { waiters } else { self.pairs.len() };
        let with_refresh = self.kind == Kind::Redeem;
        let mut asked = Vec::with_capacity(logins);
        for n in 0..logins {
            let pair = &self.pairs[n % self.pairs.len()];
            let admission = self.store.admission();
            let (verb, tokens) =
                bench.issue_verb(pair, PairPolicy::Unlimited, with_refresh, admission);
            let mut ticket = self.store.apply(verb.clone());
            while is_busy(&mut ticket) {
                std::thread::sleep(Duration::from_millis(1));
                ticket = self.store.apply(verb.clone());
            }
            asked.push((ticket, tokens));
        }
        for (ticket, tokens) in asked {
            assert!(matches!(ticket.wait(), Ok(Outcome::Issue(_))));
            self.refresh.extend(tokens.refresh);
            self.access.push(tokens.access);
        }
    }

    fn verb(&mut self, waiter: usize) -> Verb {
        let bench = Bench { store: &self.store, clock: &self.clock };
        self.next += 1;
        match self.kind {
            Kind::Redeem => {
                let (verb, _, next) =
                    bench.redeem_verb(self.refresh[waiter], 60, self.store.admission());
                self.refresh[waiter] = next;
                verb
            }
            Kind::Revoke => {
                let subject = self.pairs[self.next % self.pairs.len()].subject.clone();
                let target = Target::Subject(subject);
                Verb::Revoke(mintage::store::Revoke { target, now: self.clock.read() })
            }
            Kind::Issue | Kind::Introspect => {
                let pair = &self.pairs[self.next % self.pairs.len()];
                let admission = self.store.admission();
                bench.issue_verb(pair, PairPolicy::Unlimited, false, admission).0
            }
        }
    }
}

/// Whether a ticket was refused already; its answer is kept otherwise.
fn is_busy(ticket: &mut Ticket<Outcome>) -> bool {
    match Pin::new(&mut *ticket).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Err(StoreError::Busy)) => true,
        Poll::Ready(answer) => {
            *ticket = Ticket::ready(answer);
            false
        }
        Poll::Pending => false,
    }
}

pub(crate) enum MintageWait {
    Ticket(Ticket<Outcome>),
    Done,
}

impl Future for MintageWait {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        match self.get_mut() {
            MintageWait::Done => Poll::Ready(Answer::Done),
            MintageWait::Ticket(ticket) => Pin::new(ticket).poll(cx).map(answer),
        }
    }
}

fn answer(outcome: Result<Outcome, StoreError>) -> Answer {
    match outcome {
        Ok(_) => Answer::Done,
        Err(StoreError::Busy) => Answer::Busy,
        Err(error) => panic!("{error:?}"),
    }
}

impl<S: Made> Engine for MintageEngine<S> {
    type Wait = MintageWait;

    fn ask(&mut self, waiter: usize) -> MintageWait {
        if self.kind.is_read() {
            self.next += 1;
            let Access { locator, digest } = self.access[self.next % self.access.len()];
            let find = Find::Access { locator, digest, used: false };
            let mut found = std::pin::pin!(self.store.find(find, self.clock.read()));
            match found.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(Some(view))) if view.live => MintageWait::Done,
                _ => panic!("the token is live and in memory"),
            }
        } else {
            let verb = self.verb(waiter);
            MintageWait::Ticket(self.store.apply(verb))
        }
    }

    fn block(wait: MintageWait) -> Answer {
        match wait {
            MintageWait::Done => Answer::Done,
            MintageWait::Ticket(ticket) => answer(ticket.wait()),
        }
    }

    fn groups(&self) -> (u64, u64) {
        let stats = self.store.stats();
        (stats.groups, stats.records)
    }
}

/// Zeros written and synced at the next place of a zeroed, preallocated file.
struct Device {
    file: File,
    len: usize,
    at: usize,
    zeros: Vec<u8>,
    _dir: Dir,
}

impl Device {
    fn new() -> Device {
        let dir = Dir::new("device");
        std::fs::create_dir_all(&dir.0).expect("a directory");
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(dir.0.join("zeroed"));
        let (file, len) = (file.expect("a file"), 64 * 1024 * 1024);
        file.write_all_at(&vec![0; len], 0).expect("zeros");
        file.sync_all().expect("synced");
        Device { file, len, at: 0, zeros: vec![0; len], _dir: dir }
    }

    fn commit(&mut self, bytes: usize) {
        let padded = (HEAD_LEN + bytes).next_multiple_of(BLOCK);
        if self.at + padded > self.len {
            self.at = 0;
        }
        self.file.write_all_at(&self.zeros[..padded], self.at as u64).expect("written");
        self.file.sync_data().expect("synced");
        self.at += padded;
    }
}

/// One thread that writes groups of `mean_group` units, as many as it can.
pub(crate) fn device(kind: Kind, waiters: usize, mean_group: f64, time: Duration) -> Row {
    let mut device = Device::new();
    let records = match kind {
        Kind::Redeem => 2.0,
        _ => 1.0,
    };
    let units = (mean_group / records).max(1.0);
    let start = Instant::now();
    let mut latencies =
        hdrhistogram::Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).expect("bounds");
    while start.elapsed() < time {
        let begun = Instant::now();
        device.commit((units * kind.unit_len() as f64) as usize);
        latencies.saturating_record(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    let us = |quantile| latencies.value_at_quantile(quantile) as f64 / 1_000.0;
    Row {
        workload: kind.name(),
        engine: "device",
        waiters,
        ops_per_s: latencies.len() as f64 * units / start.elapsed().as_secs_f64(),
        p50_us: us(0.5),
        p99_us: us(0.99),
        p999_us: us(0.999),
        max_us: latencies.max() as f64 / 1_000.0,
        mean_group,
        busy: 0,
    }
}

/// A group of the limit: who waits for it, and whether it is on disk.
#[derive(Default)]
struct LimitGroup {
    state: Mutex<(bool, Vec<Waker>)>,
    settled: Condvar,
}

impl LimitGroup {
    fn settle(&self) {
        let wakers = {
            let mut state = self.state.lock().expect("a lock");
            state.0 = true;
            std::mem::take(&mut state.1)
        };
        self.settled.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }
}

#[derive(Default)]
struct LimitQueue {
    pending: Option<(Arc<LimitGroup>, usize)>,
    is_closed: bool,
    sleeps: bool,
}

struct Limit {
    queue: Mutex<LimitQueue>,
    work: Condvar,
    device: Mutex<Device>,
    groups: AtomicU64,
    records: AtomicU64,
    unit_len: usize,
}

impl Limit {
    fn commit(&self, device: &mut Device) -> bool {
        let Some((group, units)) = self.queue.lock().expect("a lock").pending.take() else {
            return false;
        };
        device.commit(units * self.unit_len);
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.records.fetch_add(units as u64, Ordering::Relaxed);
        group.settle();
        true
    }

    fn run(&self) {
        loop {
            while self.commit(&mut self.device.lock().expect("a lock")) {}
            let mut queue = self.queue.lock().expect("a lock");
            if queue.pending.is_some() {
                continue;
            }
            if queue.is_closed {
                return;
            }
            queue.sleeps = true;
            drop(self.work.wait(queue).expect("a lock"));
        }
    }
}

/// The limit: the same loop, queue, wake-ups and groups as ours over the bare device.
pub(crate) struct LimitEngine {
    limit: Arc<Limit>,
    writer: Option<JoinHandle<()>>,
}

impl LimitEngine {
    pub(crate) fn new(unit_len: usize) -> LimitEngine {
        let limit = Arc::new(Limit {
            queue: Mutex::default(),
            work: Condvar::new(),
            device: Mutex::new(Device::new()),
            groups: AtomicU64::new(0),
            records: AtomicU64::new(0),
            unit_len,
        });
        let writer = {
            let limit = Arc::clone(&limit);
            std::thread::spawn(move || limit.run())
        };
        LimitEngine { limit, writer: Some(writer) }
    }
}

impl Drop for LimitEngine {
    fn drop(&mut self) {
        self.limit.queue.lock().expect("a lock").is_closed = true;
        self.limit.work.notify_all();
        let _ = self.writer.take().map(JoinHandle::join);
    }
}

pub(crate) struct LimitWait {
    limit: Arc<Limit>,
    group: Arc<LimitGroup>,
}

impl Future for LimitWait {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let mut state = self.group.state.lock().expect("a lock");
        if state.0 {
            return Poll::Ready(Answer::Done);
        }
        state.1.push(cx.waker().clone());
        Poll::Pending
    }
}

impl Engine for LimitEngine {
    type Wait = LimitWait;

    fn ask(&mut self, _waiter: usize) -> LimitWait {
        let mut queue = self.limit.queue.lock().expect("a lock");
        let (group, units) = queue.pending.get_or_insert_with(|| (Arc::default(), 0));
        *units += 1;
        let group = Arc::clone(group);
        let wake = std::mem::take(&mut queue.sleeps);
        drop(queue);
        if wake {
            self.limit.work.notify_one();
        }
        LimitWait { limit: Arc::clone(&self.limit), group }
    }

    /// A lone caller writes by itself, as in ours.
    fn block(wait: LimitWait) -> Answer {
        if let Ok(mut device) = wait.limit.device.try_lock() {
            wait.limit.commit(&mut device);
        }
        let mut state = wait.group.state.lock().expect("a lock");
        while !state.0 {
            state = wait.group.settled.wait(state).expect("a lock");
        }
        Answer::Done
    }

    fn groups(&self) -> (u64, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (load(&self.limit.groups), load(&self.limit.records))
    }
}
