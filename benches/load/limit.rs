//! What the same callers get from the bare device: our loop, queue, groups and wake-ups, with as many
//! zero bytes written and synced instead of records, and no digest, table or record.

use std::fs::{File, OpenOptions};
use std::future::Future;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use super::engines::{Dir, Kind};
use super::looped::{Answer, Counts, Engine, Row, histogram, nanos};

const BLOCK: usize = 4_096;
const HEAD_LEN: usize = 128;
/// As in the log: the longest group, and the most bytes of one write.
const GROUP_LEN_MAX: usize = 256 * 1024;
const WRITE_LEN_MAX: usize = 1024 * 1024;
/// As in the groups: how many threads a woken thread wakes.
const WOKEN_BY_EACH: usize = 4;
const FILE_LEN: usize = 64 * 1024 * 1024;

/// A zeroed, preallocated file, written and synced place by place.
struct Device {
    file: File,
    at: usize,
    _dir: Dir,
}

impl Device {
    fn new() -> Device {
        let dir = Dir::new("device");
        std::fs::create_dir_all(&dir.0).expect("a directory");
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(dir.0.join("zeroed"));
        let file = file.expect("a file");
        file.write_all_at(&vec![0; FILE_LEN], 0).expect("zeros");
        file.sync_all().expect("synced");
        Device { file, at: 0, _dir: dir }
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.at + bytes.len() > FILE_LEN {
            self.at = 0;
        }
        self.file.write_all_at(bytes, self.at as u64).expect("written");
        self.at += bytes.len();
    }

    fn sync(&self) {
        self.file.sync_data().expect("synced");
    }
}

/// One thread that writes and syncs as many units at a time as `mintage` did in the mean.
pub(crate) fn device(kind: Kind, waiters: usize, units: f64, time: Duration) -> Row {
    let mut device = Device::new();
    let len = (HEAD_LEN + (units * kind.unit_len() as f64) as usize).next_multiple_of(BLOCK);
    let zeros = vec![0; len];
    let mut latencies = histogram();
    let start = Instant::now();
    while start.elapsed() < time {
        let begun = Instant::now();
        device.write(&zeros);
        device.sync();
        latencies.saturating_record(nanos(begun.elapsed()));
    }
    let syncs = latencies.len();
    Row {
        workload: kind.name(),
        engine: "device",
        waiters,
        ops_per_s: syncs as f64 * units / start.elapsed().as_secs_f64(),
        mean_group: units,
        groups_per_sync: 1.0,
        busy: 0,
        ..Row::with_latencies(&latencies)
    }
}

/// A group: who waits for it, and whether it is on disk.
#[derive(Default)]
struct Group {
    is_settled: AtomicBool,
    waiting: Mutex<(Vec<Waker>, Vec<Thread>)>,
}

impl Group {
    fn settle(&self) {
        let (wakers, first) = {
            let mut waiting = self.waiting.lock().expect("a lock");
            self.is_settled.store(true, Ordering::SeqCst);
            (std::mem::take(&mut waiting.0), waiting.1.first().cloned())
        };
        if let Some(first) = first {
            first.unpark();
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    fn is_settled(&self) -> bool {
        self.is_settled.load(Ordering::SeqCst)
    }

    fn wait(&self) {
        if self.is_settled() {
            return;
        }
        let place = {
            let mut waiting = self.waiting.lock().expect("a lock");
            if !self.is_settled() {
                waiting.1.push(std::thread::current());
            }
            waiting.1.len() - 1
        };
        while !self.is_settled() {
            std::thread::park();
        }
        let waiting = self.waiting.lock().expect("a lock");
        let next = waiting.1.iter().skip(place * WOKEN_BY_EACH + 1).take(WOKEN_BY_EACH);
        next.for_each(Thread::unpark);
    }
}

struct Pending {
    bytes: Vec<u8>,
    units: u64,
    group: Arc<Group>,
}

#[derive(Default)]
struct Queue {
    pending: Vec<Pending>,
    spare: Vec<Vec<u8>>,
    is_closed: bool,
    sleeps: bool,
    was_led: bool,
}

struct Limit {
    queue: Mutex<Queue>,
    work: Condvar,
    device: Mutex<Device>,
    counts: [AtomicU64; 3],
    unit: Vec<u8>,
}

impl Limit {
    fn commit(&self, device: &mut Device, leads: bool) -> Vec<Arc<Group>> {
        let mut batch: Vec<Pending> = {
            let mut queue = self.queue.lock().expect("a lock");
            queue.was_led = leads;
            let mut len = 0;
            let is_in = |pending: &&Pending| {
                len += pending.bytes.len();
                len <= WRITE_LEN_MAX
            };
            let taken = queue.pending.iter().take_while(is_in).count();
            queue.pending.drain(..taken).collect()
        };
        if batch.is_empty() {
            return Vec::new();
        }
        for pending in &mut batch {
            let padded = pending.bytes.len().next_multiple_of(BLOCK);
            pending.bytes.resize(padded, 0);
            device.write(&pending.bytes);
        }
        device.sync();
        let units = batch.iter().map(|pending| pending.units).sum();
        for (count, by) in self.counts.iter().zip([batch.len() as u64, units, 1]) {
            count.fetch_add(by, Ordering::Relaxed);
        }
        let mut queue = self.queue.lock().expect("a lock");
        batch
            .into_iter()
            .map(|mut pending| {
                pending.bytes.clear();
                queue.spare.push(pending.bytes);
                pending.group
            })
            .collect()
    }

    fn run(&self) {
        loop {
            let settled = self.commit(&mut self.device.lock().expect("a lock"), false);
            if !settled.is_empty() {
                settled.iter().for_each(|group| group.settle());
                continue;
            }
            let mut queue = self.queue.lock().expect("a lock");
            if !queue.pending.is_empty() {
                continue;
            }
            if queue.is_closed {
                return;
            }
            queue.sleeps = true;
            let mut queue = self.work.wait(queue).expect("a lock");
            queue.sleeps = false;
        }
    }
}

pub(crate) struct LimitEngine {
    limit: Arc<Limit>,
    units: u64,
    is_alone: bool,
    writer: Option<JoinHandle<()>>,
}

impl LimitEngine {
    pub(crate) fn new(kind: Kind, waiters: usize) -> LimitEngine {
        let limit = Arc::new(Limit {
            queue: Mutex::default(),
            work: Condvar::new(),
            device: Mutex::new(Device::new()),
            counts: Default::default(),
            unit: vec![0; kind.unit_len()],
        });
        let writer = {
            let limit = Arc::clone(&limit);
            std::thread::spawn(move || limit.run())
        };
        let units = kind.units() as u64;
        LimitEngine { limit, units, is_alone: waiters == 1, writer: Some(writer) }
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
    group: Arc<Group>,
    units: u64,
    place: Option<usize>,
}

impl Future for LimitWait {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        if self.group.is_settled() {
            return Poll::Ready(Answer::Done(self.units));
        }
        let group = Arc::clone(&self.group);
        let mut waiting = group.waiting.lock().expect("a lock");
        if self.group.is_settled() {
            return Poll::Ready(Answer::Done(self.units));
        }
        match self.place {
            Some(place) => waiting.0[place].clone_from(cx.waker()),
            None => {
                self.place = Some(waiting.0.len());
                waiting.0.push(cx.waker().clone());
            }
        }
        Poll::Pending
    }
}

impl Engine for LimitEngine {
    type Wait = LimitWait;

    fn ask(&mut self, _waiter: usize) -> LimitWait {
        let mut group = None;
        let mut wake = false;
        for _ in 0..self.units {
            let mut queue = self.limit.queue.lock().expect("a lock");
            let unit = &self.limit.unit;
            let has_room = |p: &Pending| p.bytes.len() + unit.len() <= GROUP_LEN_MAX;
            if !queue.pending.last().is_some_and(has_room) {
                let mut bytes = queue.spare.pop().unwrap_or_default();
                bytes.resize(HEAD_LEN, 0);
                queue.pending.push(Pending { bytes, units: 0, group: Arc::default() });
            }
            let back = queue.pending.last_mut().expect("one was pushed");
            back.bytes.extend_from_slice(unit);
            back.units += 1;
            group = Some(Arc::clone(&back.group));
            // A lone caller that wrote by itself is about to do so again.
            let is_left = queue.was_led && self.is_alone;
            wake |= !is_left && std::mem::take(&mut queue.sleeps);
        }
        if wake {
            self.limit.work.notify_one();
        }
        let group = group.expect("at least one unit");
        LimitWait { limit: Arc::clone(&self.limit), group, units: self.units, place: None }
    }

    /// A lone caller writes by itself, as in ours.
    fn block(wait: LimitWait) -> Answer {
        let settled = match wait.limit.device.try_lock() {
            Ok(mut device) => wait.limit.commit(&mut device, true),
            Err(_) => Vec::new(),
        };
        settled.iter().for_each(|group| group.settle());
        wait.group.wait();
        Answer::Done(wait.units)
    }

    fn counts(&self) -> Counts {
        let [groups, records, syncs] = &self.limit.counts;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts { groups: load(groups), records: load(records), syncs: load(syncs) }
    }
}
