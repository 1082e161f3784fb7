//! How much a subject and a client may ask for, and how long who guesses wrong must wait. All of it
//! is in memory, in fixed room, and ends with the process.

use std::hash::{BuildHasher as _, Hash, Hasher as _};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use super::client_auth::AuthMethod;
use super::error::{Error, OpenError, Reason};
use crate::ids::{ClientId, Subject};
use crate::sync::{Mutex, MutexGuard, PoisonError, RandomState};

/// The most tokens that a [`Rate`] may name.
const MINTS_MAX: u32 = 1 << 30;
/// The longest time that a [`Rate`] may name, in seconds: a year.
const RATE_SECS_MAX: u64 = 366 * 86_400;
/// The longest pause of a [`Backoff`], in seconds.
const PAUSE_SECS_MAX: u64 = 86_400;
/// After so long without a failure they are forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// Tables have so many parts, each with a lock of its own.
const PARTS: u64 = 64;
/// A part has so many sets.
const SETS: u64 = 256;
/// A set has room for so many keys. One more takes the place of the one that matters least.
const SET_LEN: usize = 8;

/// So many tokens in so much time: all of them at once if need be, and one more each time that a
/// share of the time has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    mints: u32,
    secs: u64,
}

impl Rate {
    /// So many tokens every so many seconds.
    #[must_use]
    pub const fn new(mints: u32, secs: u64) -> Rate {
        Rate { mints, secs }
    }

    /// So many tokens an hour.
    #[must_use]
    pub const fn per_hour(mints: u32) -> Rate {
        Rate::new(mints, 3_600)
    }

    fn is_usable(self) -> bool {
        (1..=MINTS_MAX).contains(&self.mints) && (1..=RATE_SECS_MAX).contains(&self.secs)
    }

    fn period(self) -> u64 {
        nanos(Duration::from_secs(self.secs))
    }

    /// After so long one more may be minted.
    fn interval(self) -> u64 {
        (self.period() / u64::from(self.mints.max(1))).max(1)
    }
}

/// How long a client's callers wait after failures to authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    free: u32,
    first_secs: u64,
    secs_max: u64,
    without_address: bool,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { free: 10, first_secs: 1, secs_max: 60, without_address: false }
    }
}

impl Backoff {
    /// How many failures in a row cost nothing; 10 by default.
    #[must_use]
    pub const fn free(self, failures: u32) -> Backoff {
        Backoff { free: failures, ..self }
    }

    /// How long the first pause is, in seconds, and the longest: each is twice the one before. 1 and
    /// 60 by default.
    #[must_use]
    pub const fn secs(self, first: u64, max: u64) -> Backoff {
        Backoff { first_secs: first, secs_max: max, ..self }
    }

    /// Counts also what comes from no known address ([`Caller::from_address`](super::Caller::from_address)).
    /// Whoever knows a client's identifier can then keep that client out.
    #[must_use]
    pub const fn also_without_address(self) -> Backoff {
        Backoff { without_address: true, ..self }
    }

    /// How long to wait after so many failures in a row.
    fn pause(self, failures: u32) -> Duration {
        let Some(further) = failures.checked_sub(self.free + 1) else { return Duration::ZERO };
        let doubled = self.first_secs.saturating_mul(1 << further.min(32));
        Duration::from_secs(doubled.min(self.secs_max))
    }
}

/// What an authority refuses with [`Error::TooManyRequests`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "limits do nothing until a builder gets them"]
pub struct Limits {
    per_subject: Option<Rate>,
    per_client: Option<Rate>,
    backoff: Option<Backoff>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::new()
    }
}

impl Limits {
    /// No limit on minting, and a [`Backoff`] for each client and address.
    pub fn new() -> Limits {
        Limits { per_subject: None, per_client: None, backoff: Some(Backoff::default()) }
    }

    /// That of Salesforce: 3,600 logins an hour for each subject.
    pub fn salesforce() -> Limits {
        Limits::new().per_subject(Rate::per_hour(3_600))
    }

    /// How many access tokens are minted for a subject, whatever the client and the grant type.
    pub fn per_subject(self, rate: Rate) -> Limits {
        Limits { per_subject: Some(rate), ..self }
    }

    /// How many access tokens are minted for a client, whatever the subject and the grant type.
    pub fn per_client(self, rate: Rate) -> Limits {
        Limits { per_client: Some(rate), ..self }
    }

    /// How long a client's callers wait after failures to authenticate. They are counted for each
    /// client, method and address (of IPv6, its first 64 bits), whether or not there is such a client.
    /// Who presents no secret and no assertion guesses nothing and does not wait.
    pub fn backoff(self, backoff: Backoff) -> Limits {
        Limits { backoff: Some(backoff), ..self }
    }

    /// Nobody waits after failures.
    pub fn without_backoff(self) -> Limits {
        Limits { backoff: None, ..self }
    }

    pub(super) fn check(&self) -> Result<(), OpenError> {
        let is_usable = |rate: Option<Rate>| rate.is_none_or(Rate::is_usable);
        if !is_usable(self.per_subject) || !is_usable(self.per_client) {
            return Err(OpenError::Setting("a limit of minting is nothing, or too much"));
        }
        let pauses = |b: Backoff| b.first_secs <= b.secs_max && b.secs_max <= PAUSE_SECS_MAX;
        if !self.backoff.is_none_or(|b| pauses(b) && b.free < u32::MAX) {
            return Err(OpenError::Setting("the pauses after failures"));
        }
        Ok(())
    }
}

/// A birth that was counted. It is given back when this is dropped: keep it where something was born.
#[derive(Default)]
#[must_use = "what is dropped is given back"]
pub(super) struct Counted {
    limiter: Option<Arc<Limiter>>,
    client: Option<u64>,
    subject: Option<u64>,
}

impl Counted {
    /// It was born.
    pub(super) fn keep(mut self) {
        self.limiter = None;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Some(limiter) = &self.limiter else { return };
        if let (Some(rate), Some(key)) = (limiter.limits.per_client, self.client) {
            limiter.clients.with(key, |spent| spent.give_back(rate));
        }
        if let (Some(rate), Some(key)) = (limiter.limits.per_subject, self.subject) {
            limiter.subjects.with(key, |spent| spent.give_back(rate));
        }
    }
}

/// Who is waited for after failures; `None` where nobody is.
pub(super) type Guesser = Option<u64>;

/// The limits at work.
pub(super) struct Limiter {
    limits: Limits,
    clients: Recent<Spent>,
    subjects: Recent<Spent>,
    failures: Recent<Failures>,
    hasher: RandomState,
}

impl Limiter {
    pub(super) fn new(limits: Limits) -> Limiter {
        Limiter {
            limits,
            clients: Recent::new(),
            subjects: Recent::new(),
            failures: Recent::new(),
            hasher: RandomState::default(),
        }
    }

    /// Counts a birth, or refuses it.
    pub(super) fn count(
        self: &Arc<Self>,
        client: &ClientId,
        subject: &Subject,
        now: Duration,
    ) -> Result<Counted, Error> {
        let mut counted = Counted::default();
        if self.limits.per_client.is_none() && self.limits.per_subject.is_none() {
            return Ok(counted);
        }
        counted.limiter = Some(Arc::clone(self));
        if let Some(rate) = self.limits.per_client {
            let key = self.hasher.hash_one(client);
            self.clients.with(key, |spent| spent.take(rate, now)).map_err(|retry_after| {
                let reason = Reason::new("the client has had as many tokens as it may");
                Error::TooManyRequests(reason, retry_after)
            })?;
            counted.client = Some(key);
        }
        if let Some(rate) = self.limits.per_subject {
            let key = self.hasher.hash_one(subject);
            let taken = self.subjects.with(key, |spent| spent.take(rate, now));
            if let Err(retry_after) = taken {
                let reason = Reason::new("the subject has had as many tokens as it may");
                return Err(Error::TooManyRequests(reason, retry_after));
            }
            counted.subject = Some(key);
        }
        Ok(counted)
    }

    /// Lets a caller try to authenticate, or says how long it must wait.
    pub(super) fn admit(
        &self,
        guessed: impl FnOnce() -> Option<(ClientId, AuthMethod)>,
        address: Option<IpAddr>,
        now: impl FnOnce() -> Duration,
    ) -> Result<Guesser, Error> {
        let Some(backoff) = self.limits.backoff else { return Ok(None) };
        if address.is_none() && !backoff.without_address {
            return Ok(None);
        }
        let Some(guessed) = guessed() else { return Ok(None) };
        let mut hasher = self.hasher.build_hasher();
        guessed.hash(&mut hasher);
        address.map(network).hash(&mut hasher);
        let key = hasher.finish();
        let wait = self.failures.read(key).map_or(0, |held| held.closed_until);
        if wait == 0 {
            return Ok(Some(key));
        }
        match wait.checked_sub(nanos(now())).filter(|wait| *wait > 0) {
            None => Ok(Some(key)),
            Some(wait) => {
                let reason = Reason::new("too many failures to authenticate");
                Err(Error::TooManyRequests(reason, Duration::from_nanos(wait)))
            }
        }
    }

    /// What came of an attempt that was admitted.
    pub(super) fn judged(&self, guesser: Guesser, opens: bool, now: impl FnOnce() -> Duration) {
        let (Some(backoff), Some(key)) = (self.limits.backoff, guesser) else { return };
        if opens {
            self.failures.forget(key);
            return;
        }
        let now = now();
        self.failures.with(key, |held| {
            if nanos(now) >= held.ends() {
                held.wrong = 0;
            }
            held.wrong = held.wrong.saturating_add(1);
            held.closed_until = nanos(now.saturating_add(backoff.pause(held.wrong)));
        });
    }
}

/// The part of an address that one attacker hardly changes.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What is remembered of a key matters until a moment.
trait Ends: Copy + Default {
    fn ends(&self) -> u64;
}

/// How far ahead of the time a key's tokens reach when they come at an even pace (the generic cell
/// rate algorithm).
#[derive(Clone, Copy, Default)]
struct Spent(u64);

impl Ends for Spent {
    fn ends(&self) -> u64 {
        self.0
    }
}

impl Spent {
    /// One more, or how long it must wait.
    fn take(&mut self, rate: Rate, now: Duration) -> Result<(), Duration> {
        let now = nanos(now);
        let reaches = self.0.max(now).saturating_add(rate.interval());
        let latest = now.saturating_add(rate.period());
        match reaches <= latest {
            true => {
                self.0 = reaches;
                Ok(())
            }
            false => Err(Duration::from_nanos(reaches - latest)),
        }
    }

    fn give_back(&mut self, rate: Rate) {
        self.0 = self.0.saturating_sub(rate.interval());
    }
}

#[derive(Clone, Copy, Default)]
struct Failures {
    wrong: u32,
    closed_until: u64,
}

impl Ends for Failures {
    fn ends(&self) -> u64 {
        match self.wrong {
            0 => 0,
            _ => self.closed_until.saturating_add(nanos(FORGOTTEN_AFTER)),
        }
    }
}

/// What is remembered of the keys that were asked for last: at most 131,072 of them. A key that finds
/// no room takes that of the one which would be forgotten first.
struct Recent<V> {
    parts: Vec<Mutex<Part<V>>>,
}

/// Keys and what is remembered of them, one set after the other; empty before it is used.
type Part<V> = Vec<(u64, V)>;

impl<V: Ends> Recent<V> {
    fn new() -> Recent<V> {
        Recent { parts: (0..PARTS).map(|_| Mutex::new(Vec::new())).collect() }
    }

    /// The part of a key, and where in it its set begins. A part takes no room before it is used.
    fn part(&self, key: u64) -> Option<(MutexGuard<'_, Part<V>>, usize)> {
        let part = self.parts.get(usize::try_from(key % PARTS).unwrap_or(0))?;
        let set = usize::try_from(key / PARTS % SETS).unwrap_or(0);
        Some((part.lock().unwrap_or_else(PoisonError::into_inner), set * SET_LEN))
    }

    /// Changes what is remembered of a key, from nothing where it is new.
    fn with<T>(&self, key: u64, change: impl FnOnce(&mut V) -> T) -> T {
        let Some((mut part, from)) = self.part(key) else { return change(&mut V::default()) };
        if part.is_empty() {
            let len = usize::try_from(SETS).unwrap_or(0) * SET_LEN;
            part.resize(len, (0, V::default()));
        }
        let set = part.get_mut(from..from + SET_LEN).unwrap_or_default();
        let known = set.iter().position(|(held, _)| *held == key);
        let least = || (0..set.len()).min_by_key(|at| set.get(*at).map(|(_, held)| held.ends()));
        let at = known.or_else(least);
        let Some(place) = at.and_then(|at| set.get_mut(at)) else {
            return change(&mut V::default());
        };
        if known.is_none() {
            *place = (key, V::default());
        }
        change(&mut place.1)
    }

    fn read(&self, key: u64) -> Option<V> {
        let (part, from) = self.part(key)?;
        let set = part.get(from..from + SET_LEN)?;
        set.iter().find(|(held, _)| *held == key).map(|(_, held)| *held)
    }

    fn forget(&self, key: u64) {
        let Some((mut part, from)) = self.part(key) else { return };
        let set = part.get_mut(from..from + SET_LEN).unwrap_or_default();
        if let Some(held) = set.iter_mut().find(|(held, _)| *held == key) {
            *held = (0, V::default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn so_many_at_once_and_then_at_an_even_pace() {
        let rate = Rate::per_hour(3_600);
        let mut spent = Spent::default();
        for _ in 0..3_600 {
            assert_eq!(spent.take(rate, secs(100)), Ok(()));
        }
        assert_eq!(spent.take(rate, secs(100)), Err(secs(1)));
        assert_eq!(spent.take(rate, secs(101)), Ok(()));
        assert_eq!(spent.take(rate, secs(101)), Err(secs(1)));
        spent.give_back(rate);
        assert_eq!(spent.take(rate, secs(101)), Ok(()));
        // Whoever waits for an hour has all of it again, and no more.
        let taken = (0..4_000).filter(|_| spent.take(rate, secs(9_999)).is_ok()).count();
        assert_eq!(taken, 3_600);
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let backoff = Backoff::default().free(2).secs(3, 20);
        let pauses: Vec<u64> = (0..8).map(|n| backoff.pause(n).as_secs()).collect();
        assert_eq!(pauses, [0, 0, 0, 3, 6, 12, 20, 20]);
        assert_eq!(backoff.pause(u32::MAX), secs(20));
    }

    #[test]
    fn a_table_forgets_what_matters_least() {
        let table = Recent::<Spent>::new();
        // All of one set.
        let key = |n: u64| 7 + n * PARTS * SETS;
        for n in 0..SET_LEN as u64 {
            table.with(key(n), |spent| spent.0 = 100 + n);
        }
        table.with(key(99), |spent| spent.0 = 500);
        assert!(table.read(key(0)).is_none());
        assert_eq!(table.read(key(1)).map(|spent| spent.0), Some(101));
        assert_eq!(table.read(key(99)).map(|spent| spent.0), Some(500));
        table.forget(key(1));
        assert!(table.read(key(1)).is_none());
        assert!(table.read(8).is_none(), "another part, and nothing was made for it");
    }

    #[test]
    fn neighbours_in_one_network_are_one() -> Result<(), Box<dyn std::error::Error>> {
        let same = [("2001:db8::1", "2001:db8::ffff:2"), ("10.0.0.1", "::ffff:10.0.0.1")];
        for (a, b) in same {
            assert_eq!(network(a.parse()?), network(b.parse()?));
        }
        for (a, b) in [("2001:db8::1", "2001:db8:0:1::1"), ("10.0.0.1", "10.0.0.2")] {
            assert_ne!(network(a.parse()?), network(b.parse()?));
        }
        Ok(())
    }
}
