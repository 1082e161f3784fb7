//! What every child so far was told, held outside what it works on: its lines put into the books of
//! the one checker.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;
use std::sync::Arc;

use mintage::ids::{ClientId, Subject};
use mintage::locator::Locator;
use mintage::store::{
    DurableStore, IssueOutcome, Outcome, PairPolicy, RedeemOutcome, Revoke, Seq, Store, StoreError,
    Target, Verb,
};
use mintage::time::ManualClock;

use super::child::{Ended, access_of, access_text, digest_of, hex};
use crate::store_support::checker::{Arrival, Checker, Op, Spot};
use crate::store_support::sim::Random;
use crate::store_support::{Access, Bench, LIFETIME, Refresh, START, Tokens, pair};

/// The clock of a child is ahead of the last time that it told by less than this.
const MARGIN_SECS: u64 = 120;
/// Seconds in which a redeem may be retried.
pub const RETRY_SECS: u64 = 60;

/// An operation that was begun and not answered.
#[derive(Clone, Debug)]
enum Asked {
    Issue(Op),
    Redeem(Op, Spot),
    Revoke(Op, Target),
}

/// A login: a pair of its own.
#[derive(Clone, Debug)]
struct Login {
    family: usize,
    asked: Option<Asked>,
}

/// What was acknowledged, by the name of the login.
#[derive(Clone)]
pub struct Ledger {
    checker: Checker,
    logins: BTreeMap<String, Login>,
    pub acknowledged: u64,
    /// The latest time that a child was seen to have.
    pub now: u64,
    random: Random,
}

fn number<T: FromStr>(word: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    word.parse().unwrap()
}

/// What a revocation is aimed at, in a word of a line.
pub fn target_text(target: &Target) -> String {
    match target {
        Target::Family(id) => format!("family {id}"),
        Target::Grant(id) => format!("grant {id}"),
        Target::Subject(subject) => format!("subject {}", subject.as_str()),
        Target::Pair(client, subject) => format!("pair {} {}", client.as_str(), subject.as_str()),
        Target::Access(locator, digest) => {
            format!("access {}", access_text(Access { locator: *locator, digest: *digest }))
        }
        other => panic!("no child revokes {other:?}"),
    }
}

fn target_of(words: &[&str]) -> Target {
    match words {
        ["family", id] => Target::Family(number(id)),
        ["grant", id] => Target::Grant(number(id)),
        ["subject", subject] => Target::Subject(Subject::new(subject).unwrap()),
        ["pair", client, subject] => {
            Target::Pair(ClientId::new(client).unwrap(), Subject::new(subject).unwrap())
        }
        ["access", rest @ ..] => {
            let Access { locator, digest } = access_of(rest);
            Target::Access(locator, digest)
        }
        other => panic!("{other:?}"),
    }
}

impl Ledger {
    pub fn new(seed: u64) -> Ledger {
        Ledger {
            checker: Checker::default(),
            logins: BTreeMap::new(),
            acknowledged: 0,
            now: START,
            random: Random::new(seed),
        }
    }

    /// A number that no other child of this ledger gets.
    pub fn draw(&mut self) -> u64 {
        self.random.next() >> 20
    }

    fn clock(&self) -> ManualClock {
        ManualClock::at(self.now + MARGIN_SECS)
    }

    /// Up to `max` logins that a child may go on with, one a line.
    pub fn some_live(&mut self, max: usize) -> String {
        let logins = self.logins.iter().filter(|(_, login)| login.asked.is_none());
        let live: Vec<_> = logins
            .filter_map(|(name, login)| Some((name, self.checker.in_force(login.family)?)))
            .collect();
        let mut out = String::new();
        let from = if live.is_empty() { 0 } else { self.random.below(live.len() as u64) };
        let from = usize::try_from(from).unwrap();
        for (name, (spot, access, grant)) in
            live.iter().cycle().skip(from).take(max.min(live.len()))
        {
            let Refresh { family, generation, digest } = self.checker.refresh(*spot);
            let (digest, access) = (hex(digest), access_text(*access));
            let _ = writeln!(out, "{name} {grant} {family} {generation} {digest} {access}");
        }
        out
    }

    /// Takes down one line that a child said.
    pub fn take_down(&mut self, line: &str, ended: &mut Ended) {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["R"] => ended.opened = true,
            ["F"] => ended.struck = true,
            ["S", calls] => ended.calls = number(calls),
            ["C"] => ended.closed = true,
            ["X", "cut"] => ended.wrong.push("the power could not be cut".to_owned()),
            ["P", ..] | ["N", "R", _, "refused", ..] => ended.wrong.push(line.to_owned()),
            ["B", kind, name, now, seq, rest @ ..] => {
                self.now = self.now.max(number(now));
                self.begin(kind, name, Seq(number(seq)), rest);
            }
            ["A", _, name, rest @ ..] => {
                self.acknowledged += 1;
                self.end(name, &|asked| Ok(outcome_of(asked, rest)));
            }
            ["N", _, name, "busy"] => self.end(name, &|_| Err(StoreError::Busy)),
            ["N", _, name, "readonly"] => self.end(name, &|_| Err(StoreError::ReadOnly)),
            _ => {}
        }
    }

    fn begin(&mut self, kind: &str, name: &str, seq: Seq, rest: &[&str]) {
        let clock = self.clock();
        match (kind, rest) {
            ("I", [family, grant, digest, expires_at, access @ ..]) => {
                let refresh = Some(Refresh {
                    family: number(family),
                    generation: 1,
                    digest: digest_of(digest),
                });
                let (access, grant) = (access_of(access), number(grant));
                let tokens = Tokens { family: number(family), grant, access, refresh };
                self.begin_issue(name, &tokens, seq, number(expires_at), &clock);
            }
            ("R", [generation, digest, expires_at, access @ ..]) => {
                let login = self.logins.get_mut(name).unwrap();
                let (at, ..) = self.checker.in_force(login.family).expect("it was handed out");
                let (generation, digest) = (number(generation), digest_of(digest));
                let next = Refresh { generation, digest, ..self.checker.refresh(at) };
                let expires_at = number(expires_at);
                let access = access_of(access);
                let arrival = Arrival::elsewhere(seq);
                let op = self.checker.begin_redeem(at, arrival, next, access, expires_at, &clock);
                login.asked = Some(Asked::Redeem(op, at));
            }
            ("K" | "T", target) => {
                let target = target_of(target);
                let op = self.checker.begin_revoke(&target, seq, &clock);
                let login = self.logins.get_mut(name).unwrap();
                login.asked = Some(Asked::Revoke(op, target));
            }
            other => panic!("{other:?}"),
        }
    }

    fn begin_issue(
        &mut self,
        name: &str,
        tokens: &Tokens,
        admission: Seq,
        expires_at: u64,
        clock: &ManualClock,
    ) -> Op {
        let (pair, policy) = (pair("reports", name), PairPolicy::Unlimited);
        let op = self.checker.begin_issue(&pair, policy, admission, tokens, expires_at, clock);
        let family = self.checker.family_of(op);
        let login = Login { family, asked: Some(Asked::Issue(op)) };
        self.logins.insert(name.to_owned(), login);
        op
    }

    fn end(&mut self, name: &str, answer: &dyn Fn(&Asked) -> Result<Outcome, StoreError>) {
        let clock = self.clock();
        let login = self.logins.get_mut(name).unwrap();
        let Some(asked) = login.asked.take() else { return };
        let answer = answer(&asked);
        match asked {
            Asked::Issue(op) => self.checker.end_issue(op, &answer),
            Asked::Redeem(op, at) => {
                self.checker.end_redeem(op, at, RETRY_SECS, &answer, &clock);
            }
            Asked::Revoke(op, target) => self.checker.end_revoke(op, &target, &answer),
        }
    }

    /// A child is gone.
    pub fn ended(&self) {
        self.checker.crash();
    }

    /// Issues a login, here and not in a child.
    ///
    /// # Errors
    /// As the store says, when it is not only busy.
    pub fn issue(
        &mut self,
        store: &DurableStore,
        clock: &ManualClock,
        name: &str,
    ) -> Result<(), StoreError> {
        loop {
            match self.try_issue(store, clock, name) {
                Err(StoreError::Busy) => std::thread::yield_now(),
                answer => return answer,
            }
        }
    }

    /// Asks for a login once, here and not in a child.
    ///
    /// # Errors
    /// As the store says.
    pub fn try_issue(
        &mut self,
        store: &DurableStore,
        clock: &ManualClock,
        name: &str,
    ) -> Result<(), StoreError> {
        let bench = Bench { store, clock };
        let admission = store.admission();
        let here = pair("reports", name);
        let (verb, tokens) = bench.issue_verb(&here, PairPolicy::Unlimited, true, admission);
        let op = self.begin_issue(name, &tokens, admission, self.now + LIFETIME, clock);
        let ticket = store.apply(verb);
        self.checker.decided(op, store.admission());
        match ticket.wait() {
            Err(StoreError::Busy) => self.end(name, &|_| Err(StoreError::Busy)),
            Err(error) => return Err(error),
            Ok(outcome) => {
                self.end(name, &|_| Ok(outcome.clone()));
                return Ok(());
            }
        }
        Err(StoreError::Busy)
    }

    /// Redeems `at`, here and not in a child; `at` may be spent.
    fn redeem_at(
        &mut self,
        store: &DurableStore,
        clock: &ManualClock,
        at: Spot,
    ) -> Result<(), StoreError> {
        loop {
            match self.try_redeem_at(store, clock, at) {
                Err(StoreError::Busy) => std::thread::yield_now(),
                answer => return answer,
            }
        }
    }

    fn try_redeem_at(
        &mut self,
        store: &DurableStore,
        clock: &ManualClock,
        at: Spot,
    ) -> Result<(), StoreError> {
        let bench = Bench { store, clock };
        let refresh = self.checker.refresh(at);
        let arrival = self.checker.arrival(store);
        let (verb, access, next) = bench.redeem_verb(refresh, RETRY_SECS, arrival.seq);
        let expires_at = self.now + LIFETIME;
        let op = self.checker.begin_redeem(at, arrival, next, access, expires_at, clock);
        let answer = store.apply(verb).wait();
        self.checker.decided(op, store.admission());
        self.checker.end_redeem(op, at, RETRY_SECS, &answer, clock);
        answer.map(drop)
    }

    /// Asks once to redeem what is in force of a login, here and not in a child.
    ///
    /// # Errors
    /// As the store says.
    pub fn try_redeem(
        &mut self,
        store: &DurableStore,
        clock: &ManualClock,
        name: &str,
    ) -> Result<(), StoreError> {
        let (at, ..) = self.checker.in_force(self.logins[name].family).unwrap();
        self.try_redeem_at(store, clock, at)
    }

    /// Redeems what is in force of a login, here and not in a child.
    ///
    /// # Errors
    /// As [`Ledger::issue`].
    pub fn redeem(
        &mut self,
        store: &DurableStore,
        clock: &ManualClock,
        name: &str,
    ) -> Result<(), StoreError> {
        let (at, ..) = self.checker.in_force(self.logins[name].family).unwrap();
        self.redeem_at(store, clock, at)
    }

    /// Ends a login, here and not in a child.
    ///
    /// # Errors
    /// As the store says.
    pub fn revoke(
        &mut self,
        store: &DurableStore,
        clock: &ManualClock,
        name: &str,
    ) -> Result<(), StoreError> {
        let (at, ..) = self.checker.in_force(self.logins[name].family).unwrap();
        let target = Target::Family(self.checker.refresh(at).family);
        let op = self.checker.begin_revoke(&target, store.admission(), clock);
        let now = mintage::time::Clock::read(clock);
        let answer = store.apply(Verb::Revoke(Revoke { target: target.clone(), now })).wait();
        self.checker.decided(op, store.admission());
        self.checker.end_revoke(op, &target, &answer);
        answer.map(drop)
    }

    /// A time that no child had yet: a store is opened at it to be looked at.
    pub fn later(&mut self) -> Arc<ManualClock> {
        self.now += MARGIN_SECS;
        Arc::new(ManualClock::at(self.now))
    }

    /// Holds the store against the books, and takes its word for what is open.
    ///
    /// # Errors
    /// The promise that was broken, or why there is no answer.
    pub fn check(&mut self, store: &DurableStore, clock: &ManualClock) -> Result<(), String> {
        let checked = said_by_panic(|| {
            for _ in 0..20 {
                match self.checker.audit(store, clock) {
                    Err(StoreError::Unavailable | StoreError::Busy) => {}
                    answer => return answer,
                }
            }
            Err(StoreError::Unavailable)
        })?;
        self.logins.values_mut().for_each(|login| login.asked = None);
        checked.map_err(|error| format!("a lookup answered {error:?}"))
    }

    /// A spent token is presented and must be refused; that ends its family.
    ///
    /// # Errors
    /// The promise that was broken, or why there is no answer.
    pub fn replay_one(&mut self, store: &DurableStore, clock: &ManualClock) -> Result<(), String> {
        let Some(spent) = self.checker.spent() else { return Ok(()) };
        said_by_panic(|| self.redeem_at(store, clock, spent))?
            .map_err(|error| format!("a replay answered {error:?}"))
    }
}

/// The answer that the words after an acknowledgement stand for.
fn outcome_of(asked: &Asked, words: &[&str]) -> Outcome {
    match (asked, words) {
        (Asked::Issue(_), [family, grant, admission]) => Outcome::Issue(IssueOutcome::Issued {
            family: number(family),
            grant: number(grant),
            admission: Seq(number(admission)),
        }),
        (Asked::Redeem(..), [generation, admission]) => Outcome::Redeem(RedeemOutcome::Redeemed {
            generation: number(generation),
            admission: Seq(number(admission)),
        }),
        (Asked::Revoke(..), ["none"]) => Outcome::Revoke(None),
        (Asked::Revoke(..), [seq]) => Outcome::Revoke(Some(Seq(number(seq)))),
        other => panic!("{other:?}"),
    }
}

/// What the checker says of a broken promise.
fn said_by_panic<T>(ask: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(ask)).map_err(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        said.or_else(|| panic.downcast_ref().copied()).unwrap_or("a panic").to_owned()
    })
}
