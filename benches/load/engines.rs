//! Our own stores as engines of the load bench.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use mintage::locator::{Digest, Locator};
use mintage::scope::Scope;
use mintage::store::{
    AccessBirth, Batch, DurableOptions, DurableStore, Find, Issue, IssueOutcome, MemoryStore, Near,
    Outcome, Pair, PairPolicy, Redeem, RefreshBirth, Revoke, Store, StoreError, Target, Ticket,
    Verb,
};
use mintage::time::{Clock as _, ManualClock, Timestamp};

use super::looped::{Answer, Counts, Engine};
use super::store_support::{Access, Refresh, clock, memory, pair, root};

/// Subjects that the tokens of a workload belong to.
const PAIRS: usize = 1_024;
/// Issues of one call of `issue_many`.
const MANY: usize = 16;
const LIFETIME_SECS: u64 = 3_600;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Issue,
    Redeem,
    IssueMany,
    Revoke,
    Introspect,
}

impl Kind {
    pub(crate) const ALL: [Kind; 5] =
        [Kind::Issue, Kind::Redeem, Kind::IssueMany, Kind::Revoke, Kind::Introspect];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Issue => "issue",
            Kind::Redeem => "redeem",
            Kind::IssueMany => "issue_many",
            Kind::Revoke => "revoke",
            Kind::Introspect => "introspect",
        }
    }

    /// Bytes of the records of one operation.
    pub(crate) fn unit_len(self) -> usize {
        match self {
            Kind::Issue | Kind::IssueMany => 128,
            Kind::Redeem => 256 + 128,
            Kind::Revoke => 64,
            Kind::Introspect => 0,
        }
    }

    /// Records of one operation.
    pub(crate) fn records(self) -> u64 {
        match self {
            Kind::Redeem => 2,
            _ => 1,
        }
    }

    /// Operations that a waiter asks for at a time.
    pub(crate) fn units(self) -> usize {
        if self == Kind::IssueMany { MANY } else { 1 }
    }

    pub(crate) fn is_read(self) -> bool {
        self == Kind::Introspect
    }
}

/// A directory under `target/`, removed at the end.
pub(crate) struct Dir(pub(crate) PathBuf);

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

fn open(dir: &Dir, clock: &Arc<ManualClock>) -> DurableStore {
    let options = DurableOptions::default().clock(Arc::clone(clock) as _);
    DurableStore::open(dir.0.join("data"), &root(), options).expect("a store")
}

/// A store that the bench can make.
pub(crate) trait Made: Store + Sized {
    fn make(clock: &Arc<ManualClock>) -> (Self, Option<Dir>);
}

impl Made for DurableStore {
    fn make(clock: &Arc<ManualClock>) -> (DurableStore, Option<Dir>) {
        let dir = Dir::new("store");
        (open(&dir, clock), Some(dir))
    }
}

impl Made for MemoryStore {
    fn make(clock: &Arc<ManualClock>) -> (MemoryStore, Option<Dir>) {
        (memory(clock), None)
    }
}

pub(crate) struct MintageEngine<S> {
    pub(crate) store: S,
    pub(crate) clock: Arc<ManualClock>,
    kind: Kind,
    pairs: Vec<Pair>,
    scope: Scope,
    audience: Arc<str>,
    /// What each waiter redeems next.
    refresh: Vec<Refresh>,
    access: Vec<Access>,
    /// Access tokens that were born before the round.
    pub(crate) prepared: u64,
    next: usize,
    /// Class and seconds of the tokens' lifetime, and of every sixteenth's.
    pub(crate) lifetimes: [(u8, u64); 2],
    dir: Option<Dir>,
}

impl<S: Made> MintageEngine<S> {
    pub(crate) fn new(kind: Kind, waiters: usize) -> MintageEngine<S> {
        let clock = clock();
        let (store, dir) = S::make(&clock);
        let mut engine = MintageEngine {
            store,
            clock,
            kind,
            pairs: (0..PAIRS).map(|n| pair("app", &format!("user{n}"))).collect(),
            scope: Scope::parse("api web").expect("a scope"),
            audience: Arc::from("https://api.example"),
            refresh: Vec::new(),
            access: Vec::new(),
            prepared: 0,
            next: 0,
            lifetimes: [(6, LIFETIME_SECS); 2],
            dir,
        };
        engine.prepare(waiters);
        engine
    }

    /// Grants and families first: what is measured is the operation itself.
    fn prepare(&mut self, waiters: usize) {
        let with_refresh = self.kind == Kind::Redeem;
        let logins = if with_refresh { waiters } else { self.pairs.len() };
        let mut asked = Vec::with_capacity(logins);
        for _ in 0..logins {
            let (issue, access, refresh) = self.issue(with_refresh);
            let verb = Verb::Issue(Box::new(issue));
            let mut ticket = self.store.apply(verb.clone());
            while is_busy(&mut ticket) {
                std::thread::sleep(Duration::from_millis(1));
                ticket = self.store.apply(verb.clone());
            }
            asked.push((ticket, access, refresh));
        }
        for (ticket, access, refresh) in asked {
            assert!(matches!(ticket.wait(), Ok(Outcome::Issue(_))));
            self.refresh.extend(refresh);
            self.access.push(access);
        }
        self.prepared = logins as u64;
    }

    /// As a caller has it ready: texts are shared, the token's digest is new.
    fn issue(&mut self, with_refresh: bool) -> (Issue, Access, Option<Refresh>) {
        self.next += 1;
        let pair = &self.pairs[self.next % self.pairs.len()];
        let admission = self.store.admission();
        let now = self.clock.read();
        let family = self.store.draw(Near::Pair(pair));
        let grant = self.store.draw(Near::Id(family));
        let (birth, access) = self.birth(family, now.unix);
        let pair = self.pairs[self.next % self.pairs.len()].clone();
        let refresh =
            with_refresh.then(|| Refresh { family, generation: 1, digest: digest(!self.next) });
        let issue = Issue {
            pair,
            policy: PairPolicy::Unlimited,
            admission,
            now,
            family,
            only_in: None,
            grant,
            key_version: 1,
            salt: [1; 16],
            request: [2; 16],
            access: birth,
            refresh: refresh.map(|refresh| RefreshBirth {
                digest: refresh.digest,
                expires_at: Timestamp::NEVER,
                idle_secs: 0,
                audience: None,
            }),
            code: None,
        };
        (issue, access, refresh)
    }

    fn birth(&self, family: u64, now: Timestamp) -> (AccessBirth, Access) {
        let (class, secs) = self.lifetimes[usize::from(self.next.is_multiple_of(16))];
        let bucket = u32::try_from(now.0 / 60).expect("a minute");
        let id = self.store.draw(Near::Id(family));
        let access = Access { locator: Locator { class, bucket, id }, digest: digest(self.next) };
        let birth = AccessBirth {
            handle: Some((access.locator, access.digest)),
            issued_at: now,
            expires_at: now.plus(secs),
            scope: self.scope.clone(),
            audience: Arc::clone(&self.audience),
            tag: 0,
        };
        (birth, access)
    }

    fn redeem(&mut self, waiter: usize) -> Redeem {
        self.next += 1;
        let arrival = self.store.admission();
        let now = self.clock.read();
        let refresh = self.refresh[waiter];
        let (access, _) = self.birth(refresh.family, now.unix);
        let successor = digest(!self.next);
        let generation = refresh.generation + 1;
        self.refresh[waiter] = Refresh { generation, digest: successor, ..refresh };
        Redeem {
            family: refresh.family,
            generation: refresh.generation,
            digest: refresh.digest,
            arrival,
            was_in_force: false,
            now,
            retry_secs_max: 60,
            key_version: 1,
            salt: [3; 16],
            request: [2; 16],
            successor: Some(successor),
            access,
        }
    }

    fn revoke(&mut self) -> Revoke {
        self.next += 1;
        let subject = self.pairs[self.next % self.pairs.len()].subject.clone();
        Revoke { target: Target::Subject(subject), now: self.clock.read() }
    }

    fn introspect(&mut self) {
        self.next += 1;
        let Access { locator, digest } = self.access[self.next % self.access.len()];
        let find = Find::Access { locator, digest, used: false };
        let mut found = std::pin::pin!(self.store.find(find, self.clock.read()));
        match found.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(Some(view))) if view.live => {}
            _ => panic!("the token is live and in memory"),
        }
    }
}

impl MintageEngine<DurableStore> {
    /// Closes the store and counts the access tokens that its log alone brings back.
    pub(crate) fn tokens_on_disk(self) -> u64 {
        let dir = self.dir.expect("a directory");
        self.store.close().expect("closed");
        std::fs::remove_dir_all(dir.0.join("data/sled")).expect("the checkpoint is there");
        let store = open(&dir, &self.clock);
        store.stats().tokens_resident
    }
}

/// A digest that no other number gives, as a keyed hash of a token would be.
fn digest(n: usize) -> Digest {
    let hash = blake3::hash(&n.to_le_bytes());
    Digest(*hash.as_bytes().first_chunk().expect("sixteen bytes"))
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
    Batch(Batch<IssueOutcome>),
    Done,
}

impl Future for MintageWait {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        match self.get_mut() {
            MintageWait::Done => Poll::Ready(Answer::Done(1)),
            MintageWait::Ticket(ticket) => Pin::new(ticket).poll(cx).map(|answer| sum([answer])),
            MintageWait::Batch(batch) => Pin::new(batch).poll(cx).map(sum),
        }
    }
}

/// Busy if nothing was done.
fn sum<T>(answers: impl IntoIterator<Item = Result<T, StoreError>>) -> Answer {
    let mut done = 0;
    for answer in answers {
        match answer {
            Ok(_) => done += 1,
            Err(StoreError::Busy) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    if done == 0 { Answer::Busy } else { Answer::Done(done) }
}

impl<S: Made> Engine for MintageEngine<S> {
    type Wait = MintageWait;

    fn ask(&mut self, waiter: usize) -> MintageWait {
        let verb = match self.kind {
            Kind::Introspect => {
                self.introspect();
                return MintageWait::Done;
            }
            Kind::IssueMany => {
                let issues = (0..MANY).map(|_| self.issue(false).0).collect();
                return MintageWait::Batch(self.store.issue_many(issues));
            }
            Kind::Issue => Verb::Issue(Box::new(self.issue(false).0)),
            Kind::Redeem => Verb::Redeem(Box::new(self.redeem(waiter))),
            Kind::Revoke => Verb::Revoke(self.revoke()),
        };
        MintageWait::Ticket(self.store.apply(verb))
    }

    fn block(wait: MintageWait) -> Answer {
        match wait {
            MintageWait::Done => Answer::Done(1),
            MintageWait::Ticket(ticket) => sum([ticket.wait()]),
            MintageWait::Batch(batch) => sum(batch.wait()),
        }
    }

    fn counts(&self) -> Counts {
        let stats = self.store.stats();
        Counts { groups: stats.groups, records: stats.records, syncs: stats.syncs }
    }
}
