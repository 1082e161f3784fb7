//! What the tests of the stores share: directories that clean up after themselves, and verbs with
//! everything optional filled in.
#![allow(dead_code, unreachable_pub)]

pub mod checker;
pub mod gate;
pub mod sim;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mintage::entropy::SystemEntropy;
use mintage::ids::{ClientId, Subject};
use mintage::locator::{Digest, Locator};
use mintage::root_key::RootKey;
use mintage::scope::Scope;
use mintage::store::{
    AccessBirth, DurableOptions, DurableStore, Find, Issue, IssueOutcome, MemoryStore, Near,
    Outcome, Pair, PairPolicy, Redeem, RedeemOutcome, RefreshBirth, Revoke, Seq, Store, StoreError,
    Target, Ticket, TokenView, Verb,
};
use mintage::time::{Clock, ManualClock, Timestamp};

pub const START: u64 = 1_800_000_000;
pub const LIFETIME: u64 = 3_600;

/// An empty directory of a name that nothing had, removed when the value is dropped.
pub struct TempDir(tempfile::TempDir);

impl TempDir {
    pub fn new(name: &str) -> TempDir {
        TempDir::within(&std::env::temp_dir(), name).unwrap()
    }

    /// One on the fastest disk there is: in memory, where that can be had.
    pub fn fast(name: &str) -> TempDir {
        TempDir::within(Path::new("/dev/shm"), name).unwrap_or_else(|_| TempDir::new(name))
    }

    fn within(parent: &Path, name: &str) -> std::io::Result<TempDir> {
        let name = format!("mintage-{name}-");
        Ok(TempDir(tempfile::Builder::new().prefix(&name).tempdir_in(parent)?))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves the directory there for somebody to look at.
    pub fn keep(self) -> PathBuf {
        self.0.keep()
    }
}

pub fn root() -> RootKey {
    RootKey::from_bytes(1, [42; 32])
}

pub fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(START))
}

pub fn options(clock: &Arc<ManualClock>) -> DurableOptions {
    DurableOptions::default().segment_len(128 * 1024).clock(clock.clone())
}

pub fn durable(path: &Path, clock: &Arc<ManualClock>) -> Result<DurableStore, StoreError> {
    DurableStore::open(path, &root(), options(clock))
}

pub fn memory(clock: &Arc<ManualClock>) -> MemoryStore {
    MemoryStore::new(clock.clone(), &SystemEntropy::new()).unwrap()
}

pub fn pair(client: &str, subject: &str) -> Pair {
    Pair {
        client: ClientId::new(client).unwrap(),
        subject: Subject::new(subject).unwrap(),
        device: None,
    }
}

/// A digest that no other call gives.
pub fn fresh_digest() -> Digest {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let n = NEXT.fetch_add(1, Ordering::Relaxed) ^ (u64::from(std::process::id()) << 32);
    let hash = blake3::hash(&n.to_le_bytes());
    Digest(*hash.as_bytes().first_chunk().unwrap())
}

/// A token as its holder knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    pub locator: Locator,
    pub digest: Digest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refresh {
    pub family: u64,
    pub generation: u32,
    pub digest: Digest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tokens {
    pub family: u64,
    pub grant: u64,
    pub access: Access,
    pub refresh: Option<Refresh>,
}

pub fn access_birth(id: u64, now: Timestamp) -> (AccessBirth, Access) {
    let bucket = u32::try_from(now.0 / 60).unwrap();
    let access = Access { locator: Locator { class: 6, bucket, id }, digest: fresh_digest() };
    let birth = AccessBirth {
        handle: Some((access.locator, access.digest)),
        issued_at: now,
        expires_at: now.plus(LIFETIME),
        scope: Scope::parse("api web").unwrap(),
        audience: Arc::from("https://api.example"),
        tag: 0,
    };
    (birth, access)
}

pub struct Bench<'a, S> {
    pub store: &'a S,
    pub clock: &'a ManualClock,
}

impl<S: Store> Bench<'_, S> {
    pub fn issue_verb(
        &self,
        pair: &Pair,
        policy: PairPolicy,
        with_refresh: bool,
        admission: Seq,
    ) -> (Verb, Tokens) {
        let now = self.clock.read();
        let family = self.store.draw(Near::Pair(pair));
        let grant = self.store.draw(Near::Id(family));
        let (access_birth, access) = access_birth(self.store.draw(Near::Id(family)), now.unix);
        let refresh =
            with_refresh.then(|| Refresh { family, generation: 1, digest: fresh_digest() });
        let verb = Verb::Issue(Box::new(Issue {
            pair: pair.clone(),
            policy,
            admission,
            now,
            family,
            only_in: None,
            grant,
            key_version: 1,
            salt: [1; 16],
            request: [2; 16],
            access: access_birth,
            refresh: refresh.map(|r| RefreshBirth {
                digest: r.digest,
                expires_at: Timestamp::NEVER,
                idle_secs: 0,
                audience: None,
            }),
            code: None,
        }));
        (verb, Tokens { family, grant, access, refresh })
    }

    pub fn try_issue(
        &self,
        pair: &Pair,
        policy: PairPolicy,
        with_refresh: bool,
    ) -> Result<(IssueOutcome, Tokens), StoreError> {
        let admission = self.store.admission();
        let (verb, mut tokens) = self.issue_verb(pair, policy, with_refresh, admission);
        match patiently(|| self.store.apply(verb.clone()).wait())? {
            Outcome::Issue(outcome) => {
                if let IssueOutcome::Issued { family, grant, .. } = outcome {
                    tokens.family = family;
                    tokens.grant = grant;
                }
                Ok((outcome, tokens))
            }
            other => panic!("an issue answered {other:?}"),
        }
    }

    pub fn issue(&self, pair: &Pair) -> Tokens {
        self.try_issue(pair, PairPolicy::Unlimited, true).unwrap().1
    }

    pub fn redeem_ticket(
        &self,
        refresh: Refresh,
        retry_secs_max: u64,
    ) -> (Ticket<Outcome>, Access, Refresh) {
        self.redeem_at(refresh, retry_secs_max, self.store.admission())
    }

    pub fn redeem_at(
        &self,
        refresh: Refresh,
        retry_secs_max: u64,
        arrival: Seq,
    ) -> (Ticket<Outcome>, Access, Refresh) {
        let (verb, access, next) = self.redeem_verb(refresh, retry_secs_max, arrival);
        (self.store.apply(verb), access, next)
    }

    pub fn redeem_verb(
        &self,
        refresh: Refresh,
        retry_secs_max: u64,
        arrival: Seq,
    ) -> (Verb, Access, Refresh) {
        let now = self.clock.read();
        let (birth, access) = access_birth(self.store.draw(Near::Id(refresh.family)), now.unix);
        let next =
            Refresh { generation: refresh.generation + 1, digest: fresh_digest(), ..refresh };
        let verb = Verb::Redeem(Box::new(Redeem {
            family: refresh.family,
            generation: refresh.generation,
            digest: refresh.digest,
            arrival,
            was_in_force: false,
            now,
            retry_secs_max,
            key_version: 1,
            salt: [3; 16],
            request: [2; 16],
            successor: Some(next.digest),
            access: birth,
        }));
        (verb, access, next)
    }

    pub fn redeem(&self, refresh: Refresh) -> (RedeemOutcome, Access, Refresh) {
        let arrival = self.store.admission();
        let mut tokens = None;
        let outcome = patiently(|| {
            let (ticket, access, next) = self.redeem_at(refresh, 60, arrival);
            tokens = Some((access, next));
            ticket.wait()
        });
        let (access, next) = tokens.unwrap();
        match outcome.unwrap() {
            Outcome::Redeem(outcome) => (outcome, access, next),
            other => panic!("a redeem answered {other:?}"),
        }
    }

    pub fn revoke(&self, target: Target) -> Option<Seq> {
        let verb = Verb::Revoke(Revoke { target, now: self.clock.read() });
        match self.store.apply(verb).wait().unwrap() {
            Outcome::Revoke(seq) => seq,
            other => panic!("a revocation answered {other:?}"),
        }
    }

    pub fn find(&self, find: Find) -> Option<TokenView> {
        wait(self.store.find(find, self.clock.read())).unwrap()
    }

    pub fn is_live(&self, access: Access) -> bool {
        let find = Find::Access { locator: access.locator, digest: access.digest, used: false };
        self.find(find).is_some_and(|view| view.live)
    }

    pub fn use_token(&self, access: Access) -> bool {
        let find = Find::Access { locator: access.locator, digest: access.digest, used: true };
        self.find(find).is_some_and(|view| view.live)
    }

    pub fn is_redeemable(&self, refresh: Refresh) -> bool {
        let Refresh { family, generation, digest } = refresh;
        self.find(Find::Refresh { family, generation, digest }).is_some_and(|view| view.live)
    }
}

/// Asks again while the store is busy: the short segments of these tests fill faster than new ones
/// are made ready.
pub fn patiently<T>(mut ask: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let start = std::time::Instant::now();
    loop {
        match ask() {
            Err(StoreError::Busy) if start.elapsed().as_secs() < 20 => std::thread::yield_now(),
            answer => return answer,
        }
    }
}

/// Waits for a future on this thread.
pub fn wait<T: Send + 'static, E: From<StoreError> + Send + 'static>(
    future: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, E> {
    Ticket::slow(future).wait()
}

/// Copies a directory with all that is in it.
pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
