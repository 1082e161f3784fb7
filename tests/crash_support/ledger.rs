//! What every child so far was told, held outside what it works on, and the check of a store
//! against it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use mintage::locator::Locator;
use mintage::store::{DurableStore, RedeemOutcome};
use mintage::time::ManualClock;

use super::child::{Ended, access_of, access_text, digest_of, hex};
use crate::store_support::sim::Random;
use crate::store_support::{Access, Bench, Refresh, START, Tokens};

/// So near to its end a token may be either.
const MARGIN_SECS: u64 = 120;
/// So many ended logins are kept and looked at again.
const DEAD_MAX: usize = 120;
const SPENT_MAX: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Live,
    Dead,
    Unknown,
}

#[derive(Clone, Copy, Debug)]
struct Token {
    access: Access,
    expires_at: u64,
    fate: Fate,
}

#[derive(Clone, Debug)]
struct Entry {
    grant: u64,
    refresh: Refresh,
    tokens: Vec<Token>,
    spent: VecDeque<Refresh>,
    fate: Fate,
    /// A redeem that was begun and not answered.
    maybe: Option<(Refresh, Token)>,
    /// A redeem that was refused, which leaves things as they were.
    refused: Option<(Refresh, Token)>,
}

/// Promises that were not kept.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Broken {
    /// Acknowledged, and not there.
    pub lost: u64,
    /// Revoked, and alive.
    pub revived: u64,
    /// Spent, and could be spent again.
    pub respendable: u64,
    /// Half of an operation.
    pub halved: u64,
    /// Refused, and done all the same.
    pub refused_but_done: u64,
}

/// What was acknowledged, by the name of the login.
#[derive(Clone)]
pub struct Ledger {
    entries: BTreeMap<String, Entry>,
    dead: VecDeque<String>,
    pub acknowledged: u64,
    /// The latest time that a child was seen to have.
    pub now: u64,
    random: Random,
}

impl Ledger {
    pub fn new(seed: u64) -> Ledger {
        let (entries, dead) = (BTreeMap::new(), VecDeque::new());
        Ledger { entries, dead, acknowledged: 0, now: START, random: Random::new(seed) }
    }

    /// A number that no other child of this ledger gets.
    pub fn draw(&mut self) -> u64 {
        self.random.next() >> 20
    }

    pub fn tell_issued(&mut self, name: &str, tokens: &Tokens, expires_at: u64) {
        let token = Token { access: tokens.access, expires_at, fate: Fate::Live };
        self.entries.insert(
            name.to_owned(),
            Entry {
                grant: tokens.grant,
                refresh: tokens.refresh.unwrap(),
                tokens: vec![token],
                spent: VecDeque::new(),
                fate: Fate::Live,
                maybe: None,
                refused: None,
            },
        );
    }

    pub fn tell_redeemed(&mut self, name: &str, next: Refresh, access: Access, expires_at: u64) {
        let entry = self.entries.get_mut(name).unwrap();
        entry.move_to(next, Token { access, expires_at, fate: Fate::Live });
    }

    pub fn tell_revoked(&mut self, name: &str) {
        self.entries.get_mut(name).unwrap().fate = Fate::Dead;
    }

    /// Up to `max` logins that a child may go on with, one a line.
    pub fn some_live(&mut self, max: usize) -> String {
        let is_sure = |entry: &&Entry| {
            entry.fate == Fate::Live && entry.maybe.is_none() && entry.refused.is_none()
        };
        let live: Vec<(&String, &Entry)> =
            self.entries.iter().filter(|(_, entry)| is_sure(entry)).collect();
        let mut out = String::new();
        let from = if live.is_empty() { 0 } else { self.random.below(live.len() as u64) };
        let from = usize::try_from(from).unwrap();
        for (name, entry) in live.iter().cycle().skip(from).take(max.min(live.len())) {
            let Refresh { family, generation, digest } = entry.refresh;
            let access = entry.tokens.last().map_or_else(
                || access_text(Access { locator: Locator { class: 6, bucket: 0, id: 0 }, digest }),
                |token| access_text(token.access),
            );
            let (grant, digest) = (entry.grant, hex(digest));
            let _ = writeln!(out, "{name} {grant} {family} {generation} {digest} {access}");
        }
        out
    }

    /// Takes down one line that a child said.
    pub fn take_down(&mut self, line: &str, ended: &mut Ended) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |n: usize| words[n].parse::<u64>().unwrap();
        if let ["B", _, _, now, ..] = words.as_slice() {
            self.now = self.now.max(now.parse().unwrap());
        }
        let token = |at: usize| Token {
            access: access_of(&words[at + 1..]),
            expires_at: number(at),
            fate: Fate::Live,
        };
        match words.as_slice() {
            ["R"] => ended.opened = true,
            ["F"] => ended.struck = true,
            ["S", calls] => ended.calls = calls.parse().unwrap(),
            ["C"] => ended.closed = true,
            ["X", "cut"] => ended.wrong.push("the power could not be cut".to_owned()),
            ["P", ..] | ["N", "R", _, "refused", ..] => ended.wrong.push(line.to_owned()),
            ["B", "I", name, ..] => {
                let refresh =
                    Refresh { family: number(4), generation: 1, digest: digest_of(words[6]) };
                let entry = Entry {
                    grant: number(5),
                    refresh,
                    tokens: vec![token(7)],
                    spent: VecDeque::new(),
                    fate: Fate::Unknown,
                    maybe: None,
                    refused: None,
                };
                self.entries.insert((*name).to_owned(), entry);
            }
            ["B", "R", name, ..] => {
                let generation = u32::try_from(number(4)).unwrap();
                let digest = digest_of(words[5]);
                let token = token(6);
                let entry = self.entry(name);
                entry.maybe = Some((Refresh { generation, digest, ..entry.refresh }, token));
            }
            ["B", "T", name, _, digest] => self.mark(name, digest, Fate::Unknown),
            ["B", "K", name, ..] => self.entry(name).fate = Fate::Unknown,
            ["A", "T", name, digest] => {
                self.acknowledged += 1;
                self.mark(name, digest, Fate::Dead);
            }
            ["A", kind, name] => {
                self.acknowledged += 1;
                let entry = self.entry(name);
                match *kind {
                    "I" => entry.fate = Fate::Live,
                    "K" => entry.fate = Fate::Dead,
                    _ => {
                        if let Some((next, token)) = entry.maybe.take() {
                            entry.move_to(next, token);
                        }
                    }
                }
            }
            ["N", "I", name, "busy" | "readonly"] => self.entry(name).fate = Fate::Dead,
            ["N", "R", name, "busy" | "readonly"] => {
                let entry = self.entry(name);
                entry.refused = entry.maybe.take();
            }
            _ => {}
        }
    }

    fn entry(&mut self, name: &str) -> &mut Entry {
        self.entries.get_mut(name).unwrap()
    }

    fn mark(&mut self, name: &str, digest: &str, fate: Fate) {
        let digest = digest_of(digest);
        for token in &mut self.entry(name).tokens {
            // The dead do not come back into doubt.
            if token.access.digest == digest && token.fate != Fate::Dead {
                token.fate = fate;
            }
        }
    }

    /// Compares the store with what was acknowledged, and takes its word for what is open. Says how
    /// many promises were broken.
    pub fn check(&mut self, store: &DurableStore, clock: &ManualClock) -> Broken {
        let bench = Bench { store, clock };
        let mut broken = Broken::default();
        let now = self.now;
        for (name, entry) in &mut self.entries {
            let before = (broken.lost, broken.revived, broken.respendable, broken.halved);
            entry.check(&bench, now, &mut broken);
            if before != (broken.lost, broken.revived, broken.respendable, broken.halved) {
                println!("{name} at {now}: {entry:?}");
            }
            if entry.fate == Fate::Dead && !self.dead.contains(name) {
                self.dead.push_back(name.clone());
            }
        }
        while self.dead.len() > DEAD_MAX {
            if let Some(name) = self.dead.pop_front() {
                self.entries.remove(&name);
            }
        }
        broken
    }

    /// A spent token is presented and must be refused; that ends its family, so it is done last.
    pub fn replay_one(&mut self, store: &DurableStore, clock: &ManualClock) -> Broken {
        let bench = Bench { store, clock };
        let mut broken = Broken::default();
        let is_old = |entry: &&mut Entry| entry.fate == Fate::Live && entry.spent.len() > 1;
        if let Some(entry) = self.entries.values_mut().find(is_old)
            && let Some(spent) = entry.spent.front().copied()
        {
            let (outcome, ..) = bench.redeem(spent);
            broken.respendable += u64::from(matches!(outcome, RedeemOutcome::Redeemed { .. }));
            entry.fate = Fate::Dead;
        }
        broken
    }
}

impl Entry {
    fn move_to(&mut self, next: Refresh, token: Token) {
        self.spent.push_back(self.refresh);
        if self.spent.len() > SPENT_MAX {
            self.spent.pop_front();
        }
        self.refresh = next;
        self.tokens.push(token);
    }

    fn check<S: mintage::store::Store>(
        &mut self,
        bench: &Bench<'_, S>,
        now: u64,
        broken: &mut Broken,
    ) {
        if let Some((next, token)) = self.maybe.take() {
            if bench.is_redeemable(next) {
                self.move_to(next, token);
            } else {
                // Not redeemed, or ended since: no token of it may live on its own.
                broken.halved += u64::from(bench.is_live(token.access));
            }
        }
        if let Some((next, token)) = self.refused.take() {
            let is_done = bench.is_redeemable(next) || bench.is_live(token.access);
            broken.refused_but_done += u64::from(is_done);
        }
        let is_live = bench.is_redeemable(self.refresh);
        if self.fate == Fate::Unknown {
            self.fate = if is_live { Fate::Live } else { Fate::Dead };
            let is_half = |token: &&Token| {
                token.fate == Fate::Live
                    && token.expires_at > now + MARGIN_SECS
                    && bench.is_live(token.access) != is_live
            };
            broken.halved += self.tokens.iter().filter(is_half).count() as u64;
        }
        match self.fate {
            Fate::Live => broken.lost += u64::from(!is_live),
            _ => broken.revived += u64::from(is_live),
        }
        for token in &mut self.tokens {
            let token_lives = bench.is_live(token.access);
            if token.fate == Fate::Unknown {
                token.fate = if token_lives { Fate::Live } else { Fate::Dead };
            }
            let is_dead = self.fate == Fate::Dead || token.fate == Fate::Dead;
            if is_dead || token.expires_at + MARGIN_SECS <= now {
                broken.revived += u64::from(token_lives);
            } else if token.expires_at > now + MARGIN_SECS {
                broken.lost += u64::from(!token_lives);
            }
        }
        // Looked at once after their end; a store need not know them for ever.
        self.tokens.retain(|token| token.expires_at + MARGIN_SECS > now);
        let again = self.spent.iter().filter(|spent| bench.is_redeemable(**spent));
        broken.respendable += again.count() as u64;
    }
}
