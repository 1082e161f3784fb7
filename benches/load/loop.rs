//! The closed loop and its figures.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crossbeam::queue::SegQueue;
use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};

use super::engines::Kind;

/// What a waiter asks.
pub(crate) trait Engine {
    type Wait: Future<Output = Answer> + Unpin;

    /// Asks for the waiter. Nothing is waited for here.
    fn ask(&mut self, waiter: usize) -> Self::Wait;

    /// Waits on this thread.
    fn block(wait: Self::Wait) -> Answer;

    /// Groups, records and syncs so far.
    fn counts(&self) -> Counts;
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// So many operations were done.
    Done(u64),
    /// There was no room: asked again a little later.
    Busy,
}

/// What was written so far.
#[derive(Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) groups: u64,
    pub(crate) records: u64,
    pub(crate) syncs: u64,
}

#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) workload: &'static str,
    pub(crate) engine: &'static str,
    pub(crate) waiters: usize,
    pub(crate) ops_per_s: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
    /// Operations of one write, and groups of it.
    pub(crate) mean_group: f64,
    pub(crate) groups_per_sync: f64,
    pub(crate) busy: u64,
    /// Processor time of an operation in microseconds: of the thread that asks, and of all threads.
    pub(crate) asking_us: f64,
    pub(crate) all_us: f64,
}

impl Row {
    pub(crate) fn with_latencies(latencies: &Histogram<u64>) -> Row {
        let us = |quantile| latencies.value_at_quantile(quantile) as f64 / 1_000.0;
        Row {
            workload: "",
            engine: "",
            waiters: 0,
            ops_per_s: 0.0,
            p50_us: us(0.5),
            p99_us: us(0.99),
            p999_us: us(0.999),
            max_us: latencies.max() as f64 / 1_000.0,
            mean_group: 0.0,
            groups_per_sync: 0.0,
            busy: 0,
            asking_us: 0.0,
            all_us: 0.0,
        }
    }
}

fn processor_us(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds")
}

pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
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
    done: u64,
    busy: u64,
}

impl<E: Engine> Loop<E> {
    /// Asks for the waiter. One that is answered at once is woken at once, and takes its turn.
    fn ask(&mut self, waiter: usize) {
        let start = Instant::now();
        let wait = self.engine.ask(waiter);
        self.waits[waiter] = Some((wait, start));
        if matches!(self.poll(waiter), Poll::Ready(Answer::Done(_))) {
            self.wakers[waiter].wake_by_ref();
        }
    }

    fn poll(&mut self, waiter: usize) -> Poll<Answer> {
        // Answered at once, when it asked.
        let Some((wait, start)) = &mut self.waits[waiter] else {
            return Poll::Ready(Answer::Done(0));
        };
        match Pin::new(wait).poll(&mut Context::from_waker(&self.wakers[waiter])) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(answer) => {
                match answer {
                    Answer::Done(done) => {
                        self.done += done;
                        self.latencies.saturating_record(nanos(start.elapsed()));
                    }
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

/// What a round gave.
pub(crate) struct Round<E> {
    pub(crate) row: Row,
    pub(crate) engine: E,
    /// Operations that were answered.
    pub(crate) done: u64,
    pub(crate) counts: Counts,
}

/// Runs the loop for `time` and waits for what is still asked.
pub(crate) fn run<E: Engine>(
    engine: E,
    kind: Kind,
    name: &'static str,
    waiters: usize,
    time: Duration,
) -> Round<E> {
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
        latencies: histogram(),
        done: 0,
        busy: 0,
    };
    let before = this.engine.counts();
    let clocks = [ClockId::ThreadCPUTime, ClockId::ProcessCPUTime];
    let begun = clocks.map(processor_us);
    let start = Instant::now();
    if waiters == 1 {
        alone(&mut this, start, time);
    } else {
        together(&mut this, &ready, start, time);
    }
    let took = start.elapsed().as_secs_f64();
    let [asking, all] = clocks.map(processor_us);
    let after = this.engine.counts();
    let counts = Counts {
        groups: after.groups - before.groups,
        records: after.records - before.records,
        syncs: after.syncs - before.syncs,
    };
    let syncs = counts.syncs.max(1) as f64;
    let row = Row {
        workload: kind.name(),
        engine: name,
        waiters,
        ops_per_s: this.done as f64 / took,
        mean_group: if counts.syncs == 0 { 0.0 } else { this.done as f64 / syncs },
        groups_per_sync: counts.groups as f64 / syncs,
        busy: this.busy,
        asking_us: (asking - begun[0]) / this.done.max(1) as f64,
        all_us: (all - begun[1]) / this.done.max(1) as f64,
        ..Row::with_latencies(&this.latencies)
    };
    Round { row, engine: this.engine, done: this.done, counts }
}

/// A lone caller waits on its own thread.
fn alone<E: Engine>(this: &mut Loop<E>, start: Instant, time: Duration) {
    while start.elapsed() < time {
        let asked = Instant::now();
        let wait = this.engine.ask(0);
        match E::block(wait) {
            Answer::Done(done) => {
                this.done += done;
                this.latencies.saturating_record(nanos(asked.elapsed()));
            }
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
            if matches!(this.poll(waiter), Poll::Ready(Answer::Done(_))) && is_open {
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
