//! The closed loop and its figures.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crossbeam::queue::SegQueue;
use hdrhistogram::Histogram;

/// What a waiter asks.
pub(crate) trait Engine {
    type Wait: Future<Output = Answer> + Unpin;

    /// Asks for the waiter. Nothing is waited for here.
    fn ask(&mut self, waiter: usize) -> Self::Wait;

    /// Waits on this thread.
    fn block(wait: Self::Wait) -> Answer;

    /// Groups and records written so far.
    fn groups(&self) -> (u64, u64);
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    /// There was no room: asked again a little later.
    Busy,
}

pub(crate) struct Row {
    pub(crate) workload: &'static str,
    pub(crate) engine: &'static str,
    pub(crate) waiters: usize,
    pub(crate) ops_per_s: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
    pub(crate) mean_group: f64,
    pub(crate) busy: u64,
}

/// Which waiters were woken, and the thread that asks for all of them.
struct Ready {
    woken: SegQueue<usize>,
    sleeps: AtomicBool,
    thread: Thread,
}

struct Slot {
    waiter: usize,
    ready: Arc<Ready>,
}

impl Wake for Slot {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.woken.push(self.waiter);
        if self.ready.sleeps.swap(false, Ordering::SeqCst) {
            self.ready.thread.unpark();
        }
    }
}

struct Loop<E: Engine> {
    engine: E,
    wakers: Vec<Waker>,
    waits: Vec<Option<(E::Wait, Instant)>>,
    again: Vec<usize>,
    latencies: Histogram<u64>,
    busy: u64,
}

impl<E: Engine> Loop<E> {
    /// Asks for the waiter. One that is answered at once is woken at once, and takes its turn.
    fn ask(&mut self, waiter: usize) {
        let start = Instant::now();
        let wait = self.engine.ask(waiter);
        self.waits[waiter] = Some((wait, start));
        if self.poll(waiter) == Poll::Ready(Answer::Done) {
            self.wakers[waiter].wake_by_ref();
        }
    }

    fn poll(&mut self, waiter: usize) -> Poll<Answer> {
        // Answered at once, when it asked.
        let Some((wait, start)) = &mut self.waits[waiter] else { return Poll::Ready(Answer::Done) };
        match Pin::new(wait).poll(&mut Context::from_waker(&self.wakers[waiter])) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(answer) => {
                match answer {
                    Answer::Done => self.latencies.saturating_record(nanos(start.elapsed())),
                    Answer::Busy => {
                        self.busy += 1;
                        self.again.push(waiter);
                    }
                }
                self.waits[waiter] = None;
                Poll::Ready(answer)
            }
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Runs the loop for `time` and waits for what is still asked.
pub(crate) fn run<E: Engine>(
    engine: E,
    workload: &'static str,
    name: &'static str,
    waiters: usize,
    time: Duration,
) -> Row {
    let ready = Arc::new(Ready {
        woken: SegQueue::new(),
        sleeps: AtomicBool::new(false),
        thread: std::thread::current(),
    });
    let waker = |waiter| Waker::from(Arc::new(Slot { waiter, ready: Arc::clone(&ready) }));
    let mut this = Loop {
        engine,
        wakers: (0..waiters).map(waker).collect(),
        waits: (0..waiters).map(|_| None).collect(),
        again: Vec::new(),
        latencies: Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds"),
        busy: 0,
    };
    let before = this.engine.groups();
    let start = Instant::now();
    if waiters == 1 {
        alone(&mut this, start, time);
    } else {
        together(&mut this, &ready, start, time);
    }
    let took = start.elapsed().as_secs_f64();
    let after = this.engine.groups();
    let groups = (after.0 - before.0).max(1) as f64;
    let us = |quantile| this.latencies.value_at_quantile(quantile) as f64 / 1_000.0;
    Row {
        workload,
        engine: name,
        waiters,
        ops_per_s: this.latencies.len() as f64 / took,
        p50_us: us(0.5),
        p99_us: us(0.99),
        p999_us: us(0.999),
        max_us: this.latencies.max() as f64 / 1_000.0,
        mean_group: (after.1 - before.1) as f64 / groups,
        busy: this.busy,
    }
}

/// A lone caller waits on its own thread.
fn alone<E: Engine>(this: &mut Loop<E>, start: Instant, time: Duration) {
    while start.elapsed() < time {
        let asked = Instant::now();
        let wait = this.engine.ask(0);
        match E::block(wait) {
            Answer::Done => this.latencies.saturating_record(nanos(asked.elapsed())),
            Answer::Busy => {
                this.busy += 1;
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    }
}

/// Many callers are futures, driven by this thread as an executor would.
fn together<E: Engine>(this: &mut Loop<E>, ready: &Ready, start: Instant, time: Duration) {
    for waiter in 0..this.waits.len() {
        this.ask(waiter);
    }
    loop {
        let is_open = start.elapsed() < time;
        let mut is_idle = true;
        // One look at the clock for a batch of wake-ups.
        for _ in 0..64 {
            let Some(waiter) = ready.woken.pop() else { break };
            is_idle = false;
            if this.poll(waiter) == Poll::Ready(Answer::Done) && is_open {
                this.ask(waiter);
            }
        }
        if is_idle && !this.again.is_empty() {
            std::thread::sleep(Duration::from_micros(200));
            for waiter in std::mem::take(&mut this.again) {
                if is_open {
                    this.ask(waiter);
                }
            }
            continue;
        }
        if is_idle {
            if !is_open && this.waits.iter().all(Option::is_none) {
                return;
            }
            ready.sleeps.store(true, Ordering::SeqCst);
            if ready.woken.is_empty() {
                std::thread::park_timeout(Duration::from_millis(100));
            }
            ready.sleeps.store(false, Ordering::SeqCst);
        }
    }
}

pub(crate) fn print(rows: &[Row], workload: &str, waiters: usize) {
    let of = |r: &&Row| r.workload == workload && r.waiters == waiters;
    let limit = rows.iter().filter(of).find(|r| r.engine == "limit").map(|r| r.ops_per_s);
    for row in rows.iter().filter(of) {
        let ratio = limit.map_or(String::new(), |limit| format!("{:6.2}", row.ops_per_s / limit));
        println!(
            "{:<11} {:<8} {:>5} waiters {:>10.0} /s {:>9.1} us p50 {:>9.1} p99 {:>9.1} p99.9 {:>9.1} max  group {:>7.1}  busy {:>6} of limit {ratio}",
            row.workload,
            row.engine,
            row.waiters,
            row.ops_per_s,
            row.p50_us,
            row.p99_us,
            row.p999_us,
            row.max_us,
            row.mean_group,
            row.busy,
        );
    }
}

/// `target/load.json`: an array of objects, one a row.
pub(crate) fn write_json(rows: &[Row]) -> io::Result<()> {
    let object = |row: &Row| {
        serde_json::json!({
            "workload": row.workload,
            "engine": row.engine,
            "waiters": row.waiters,
            "ops_per_s": row.ops_per_s,
            "p50_us": row.p50_us,
            "p99_us": row.p99_us,
            "p999_us": row.p999_us,
            "max_us": row.max_us,
            "mean_group": row.mean_group,
        })
    };
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap_or(Path::new("target"));
    std::fs::create_dir_all(target)?;
    let text = serde_json::to_string_pretty(&rows.iter().map(object).collect::<Vec<_>>())?;
    std::fs::write(target.join("load.json"), text)
}
