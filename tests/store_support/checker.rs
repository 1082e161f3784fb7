//! The checker: what is certain about every token, from what was asked and what was answered, and
//! whether a store agrees.
//!
//! Every operation is announced before it begins (`begin_*`), again when it has been decided
//! ([`Checker::decided`]), and when it is answered (`end_*`). One that is never answered, or with an
//! error that leaves it open, may have happened or not: [`Checker::audit`] takes the store's word for
//! it, as long as that is all of it or none, and holds the store to it from then on.
//!
//! What it holds a store to: I2 (what is answered, or was once seen, is there after a crash), I3 and
//! I4 (what was admitted before a revocation that was answered is dead, and nothing else), I5 (one
//! successor, one live generation; an honest retry is no replay and a replay no retry), I6 (one grant
//! a pair; both indexes list the same), and numbers that only grow.
#![allow(clippy::print_stderr)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mintage::locator::Digest;
use mintage::store::{
    Find, IssueOutcome, Listing, Outcome, Pair, PairPolicy, RedeemOutcome, Seq, Store, StoreError,
    Target,
};
use mintage::time::{Clock, ManualClock};

use super::{Access, Refresh, Tokens, wait};

/// Something that may end an entity: from `began` on it may have, from `ended` on it has.
#[derive(Clone, Debug)]
struct Kill {
    op: u64,
    began: u64,
    ended: Option<u64>,
}

#[derive(Clone, Debug)]
struct Stamp {
    op: u64,
    target: Target,
    began: u64,
    ended: Option<u64>,
    /// Its number is above this ...
    above: u64,
    /// ... and at most this, once it is decided; exact once it is answered.
    at_most: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Born {
    /// Asked for; perhaps there.
    Perhaps,
    /// There, since that tick.
    Since(u64),
    Never,
}

impl Born {
    fn by(self, tick: u64) -> bool {
        matches!(self, Born::Since(at) if at <= tick)
    }
}

#[derive(Clone, Debug)]
struct Attempt {
    op: u64,
    began: u64,
    is_decided: bool,
    redeemed_from: u64,
    state: Born,
    next: Refresh,
    token: usize,
}

#[derive(Clone, Debug)]
struct Generation {
    refresh: Refresh,
    attempts: Vec<Attempt>,
    /// A token of it was used: when that began first, and when it had happened for certain.
    use_began: Option<u64>,
    used: Option<u64>,
    told_dead: Option<u64>,
}

#[derive(Clone, Debug)]
enum Credential {
    Opaque(Access),
    Jwt { jti: Digest, generation: u32 },
}

#[derive(Clone, Debug)]
struct Token {
    family: usize,
    /// Generation, as an index, that it was born with.
    generation: usize,
    credential: Credential,
    admission: u64,
    expires_at: u64,
    born: Born,
    kills: Vec<Kill>,
    told_dead: Option<u64>,
    /// A lookup that counts as a use of it has begun.
    is_used: bool,
}

#[derive(Clone, Debug)]
struct Family {
    op: u64,
    pair: Pair,
    policy: PairPolicy,
    admission: u64,
    /// Known once it is answered; before that only of a family of its own.
    id: Option<u64>,
    grant: Option<u64>,
    began: u64,
    is_decided: bool,
    born: Born,
    kills: Vec<Kill>,
    generations: Vec<Generation>,
    tokens: Vec<usize>,
}

#[derive(Clone, Debug, Default)]
struct Paper {
    certain: Option<Arc<[u8]>>,
    perhaps: Vec<Option<Arc<[u8]>>>,
}

#[derive(Default)]
struct State {
    tick: u64,
    families: Vec<Family>,
    tokens: Vec<Token>,
    stamps: Vec<Stamp>,
    papers: BTreeMap<String, Paper>,
    /// Revocations of families that are not decided yet.
    open_kills: Vec<u64>,
    highest: u64,
    history: blake3::Hasher,
    /// Whether everything is printed, for people.
    is_traced: bool,
}

/// See the module.
#[derive(Default)]
pub struct Checker(Mutex<State>);

/// An operation on its way.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    pub id: u64,
    began: u64,
    unix: u64,
}

/// A refresh token in the checker's books: family and generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    pub family: usize,
    pub generation: usize,
}

/// A lookup on its way, and what it asks for.
#[derive(Clone, Copy, Debug)]
pub enum Looked {
    Token(usize),
    Refresh(Spot),
    /// A successor that is perhaps there.
    Successor(Spot, usize),
}

fn happened(kills: &[Kill], by: u64) -> bool {
    kills.iter().any(|kill| kill.ended.is_some_and(|ended| ended <= by))
}

fn covers(target: &Target, pair: &Pair, grant: Option<u64>) -> bool {
    match target {
        Target::Everything => true,
        Target::Client(client) => *client == pair.client,
        Target::Subject(subject) => *subject == pair.subject,
        Target::Pair(client, subject) => *client == pair.client && *subject == pair.subject,
        // A grant that is not known yet may be that one.
        Target::Grant(id) => grant.is_none_or(|grant| grant == *id),
        _ => false,
    }
}

/// How many families a policy lets a pair have.
fn room(policy: PairPolicy) -> Option<usize> {
    match policy {
        PairPolicy::Replace => Some(1),
        PairPolicy::Newest(n) => Some(usize::from(n)),
        _ => None,
    }
}

impl State {
    fn tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    fn op(&mut self, unix: u64) -> Op {
        let began = self.tick();
        Op { id: began, began, unix }
    }

    fn note(&mut self, what: &impl std::fmt::Debug) {
        let tick = self.tick;
        if self.is_traced {
            eprintln!("{tick} {what:?}");
        }
        self.history.update(format!("{tick} {what:?};").as_bytes());
    }

    fn saw(&mut self, seq: u64) {
        self.highest = self.highest.max(seq);
    }

    /// Whether a stamp that was answered by `by` is above `admission`.
    fn is_stamped(&self, family: &Family, admission: u64, by: u64) -> bool {
        self.stamps.iter().any(|stamp| {
            stamp.ended.is_some_and(|ended| ended <= by)
                && admission < stamp.at_most
                && family.grant.is_some() | !matches!(stamp.target, Target::Grant(_))
                && covers(&stamp.target, &family.pair, family.grant)
        })
    }

    fn may_be_stamped(&self, family: &Family, admission: u64) -> bool {
        self.stamps.iter().any(|stamp| {
            admission < stamp.at_most && covers(&stamp.target, &family.pair, family.grant)
        })
    }

    fn is_spent(&self, spot: Spot, by: u64) -> bool {
        let generation = &self.families[spot.family].generations[spot.generation];
        generation.attempts.iter().any(|attempt| attempt.state.by(by))
    }

    fn family_is_dead(&self, n: usize, by: u64) -> bool {
        let family = &self.families[n];
        happened(&family.kills, by) || self.is_stamped(family, family.admission, by)
    }

    fn family_may_be_dead(&self, n: usize) -> bool {
        let family = &self.families[n];
        !family.kills.is_empty() || self.may_be_stamped(family, family.admission)
    }

    fn refresh_is_dead(&self, spot: Spot, by: u64) -> bool {
        self.family_is_dead(spot.family, by) || self.is_spent(spot, by)
    }

    fn refresh_may_be_dead(&self, spot: Spot) -> bool {
        let generation = &self.families[spot.family].generations[spot.generation];
        let is_open = |attempt: &Attempt| attempt.state != Born::Never;
        self.family_may_be_dead(spot.family) || generation.attempts.iter().any(is_open)
    }

    fn token_is_dead(&self, n: usize, by: u64, unix: u64) -> bool {
        let token = &self.tokens[n];
        let family = &self.families[token.family];
        token.born == Born::Never
            || unix >= token.expires_at
            || happened(&token.kills, by)
            || happened(&family.kills, by)
            || self.is_stamped(family, token.admission, by)
    }

    fn token_may_be_dead(&self, n: usize, unix: u64) -> bool {
        let token = &self.tokens[n];
        let family = &self.families[token.family];
        unix >= token.expires_at
            || !token.kills.is_empty()
            || !family.kills.is_empty()
            || self.may_be_stamped(family, token.admission)
    }

    fn forget_op(&mut self, op: u64) {
        let gone = |kill: &Kill| kill.op != op;
        self.families.iter_mut().for_each(|family| family.kills.retain(gone));
        self.tokens.iter_mut().for_each(|token| token.kills.retain(gone));
        self.stamps.retain(|stamp| stamp.op != op);
    }

    fn confirm_op(&mut self, op: u64, at: u64) {
        let families = self.families.iter_mut().map(|family| &mut family.kills);
        let tokens = self.tokens.iter_mut().map(|token| &mut token.kills);
        for kill in families.chain(tokens).flatten().filter(|kill| kill.op == op) {
            kill.ended = Some(at);
        }
    }

    /// An attempt is known to have been the one.
    fn won(&mut self, spot: Spot, attempt: usize) {
        let at = self.tick();
        let family = &mut self.families[spot.family];
        let generation = &mut family.generations[spot.generation];
        for (n, other) in generation.attempts.iter_mut().enumerate() {
            if n == attempt {
                if other.state == Born::Perhaps {
                    other.state = Born::Since(at);
                }
                assert_ne!(other.state, Born::Never, "a redeem happened that was ruled out");
            } else {
                assert!(
                    !matches!(other.state, Born::Since(_)),
                    "a refresh token has two successors, at {spot:?}"
                );
            }
        }
        let Attempt { next, token, .. } = generation.attempts[attempt];
        if family.generations.len() == spot.generation + 1 {
            family.generations.push(Generation {
                refresh: next,
                attempts: Vec::new(),
                use_began: None,
                used: None,
                told_dead: None,
            });
        }
        let token = &mut self.tokens[token];
        if token.born == Born::Perhaps {
            token.born = Born::Since(at);
        }
        assert_ne!(token.born, Born::Never, "the token of a redeem that was ruled out");
    }

    fn lost(&mut self, spot: Spot, op: u64) {
        let generation = &mut self.families[spot.family].generations[spot.generation];
        let mut token = None;
        for attempt in generation.attempts.iter_mut().filter(|attempt| attempt.op == op) {
            assert!(
                !matches!(attempt.state, Born::Since(_)),
                "a redeem that was seen to happen was refused"
            );
            attempt.state = Born::Never;
            token = Some(attempt.token);
        }
        if let Some(token) = token {
            self.tokens[token].born = Born::Never;
        }
    }

    fn born(&mut self, n: usize) {
        let at = self.tick();
        let family = &mut self.families[n];
        assert_ne!(family.born, Born::Never, "what was refused was born");
        if family.born == Born::Perhaps {
            family.born = Born::Since(at);
            let first = family.tokens[0];
            self.tokens[first].born = Born::Since(at);
        }
    }
}

impl Checker {
    /// Prints everything that is asked and answered.
    pub fn trace(&self) {
        self.state().is_traced = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A digest of everything that was asked and answered so far, in order.
    pub fn digest(&self) -> [u8; 32] {
        *self.state().history.finalize().as_bytes()
    }

    /// A number that a reader was given: later ones are greater or equal.
    pub fn admission(&self, store: &impl Store) -> Seq {
        let before = self.state().highest;
        let Seq(seq) = store.admission();
        assert!(seq >= before, "the counter went back from {before} to {seq}");
        self.state().saw(seq);
        Seq(seq)
    }

    /// Every family that is known to be there and has a refresh token; dead ones too.
    pub fn spots(&self) -> Vec<Spot> {
        let state = self.state();
        let mut spots = Vec::new();
        for (family, held) in state.families.iter().enumerate() {
            if matches!(held.born, Born::Since(_)) {
                spots.extend(
                    (0..held.generations.len()).map(|generation| Spot { family, generation }),
                );
            }
        }
        spots
    }

    pub fn refresh(&self, spot: Spot) -> Refresh {
        self.state().families[spot.family].generations[spot.generation].refresh
    }

    /// The admission of a family.
    pub fn admitted(&self, family: usize) -> Seq {
        Seq(self.state().families[family].admission)
    }

    /// Everything that may be looked up.
    pub fn lookups(&self) -> Vec<Looked> {
        let state = self.state();
        let mut all: Vec<Looked> = (0..state.tokens.len()).map(Looked::Token).collect();
        for (family, held) in state.families.iter().enumerate() {
            for (generation, of) in held.generations.iter().enumerate() {
                let spot = Spot { family, generation };
                all.push(Looked::Refresh(spot));
                let open = of.attempts.iter().enumerate();
                let open = open.filter(|(_, attempt)| !matches!(attempt.state, Born::Since(_)));
                all.extend(open.map(|(n, _)| Looked::Successor(spot, n)));
            }
        }
        all
    }

    /// How many tokens are known.
    pub fn len(&self) -> usize {
        self.state().tokens.len()
    }

    /// What a revocation could be aimed at: a family, a grant or an access token that is there.
    pub fn target(&self, n: usize) -> Option<(Option<u64>, Option<u64>, Option<Access>)> {
        let state = self.state();
        let token = state.tokens.get(n)?;
        let family = &state.families[token.family];
        let is_there = matches!(token.born, Born::Since(_));
        let access = match &token.credential {
            Credential::Opaque(access) => Some(*access),
            Credential::Jwt { .. } => None,
        };
        is_there.then_some((family.id, family.grant, access))
    }

    pub fn begin_issue(
        &self,
        pair: &Pair,
        policy: PairPolicy,
        admission: Seq,
        tokens: &Tokens,
        expires_at: u64,
        clock: &ManualClock,
    ) -> Op {
        let mut state = self.state();
        let state = &mut *state;
        let op = state.op(clock.read().unix.0);
        let (family, token) = (state.families.len(), state.tokens.len());
        state.note(&(
            "issue",
            family,
            token,
            pair.client.as_str(),
            pair.subject.as_str(),
            policy,
            admission,
            tokens.family,
        ));
        let mut kills = Vec::new();
        let others = || state.families.iter().filter(|f| f.pair == *pair && f.born != Born::Never);
        for other in others().filter(|f| !f.is_decided && room(f.policy).is_some()) {
            kills.push(Kill { op: other.op, began: op.began, ended: None });
        }
        let living = (0..family).filter(|n| {
            let other = &state.families[*n];
            other.pair == *pair && other.born != Born::Never && !state.family_is_dead(*n, op.began)
        });
        if room(policy).is_some_and(|room| living.count() + 1 > room) {
            for other in state.families.iter_mut().filter(|f| f.pair == *pair) {
                other.kills.push(Kill { op: op.id, began: op.began, ended: None });
            }
        }
        if tokens.refresh.is_none() {
            // It may join a family that ends at the same time.
            kills.extend(state.open_kills.iter().map(|id| Kill {
                op: *id,
                began: op.began,
                ended: None,
            }));
        }
        state.families.push(Family {
            op: op.id,
            pair: pair.clone(),
            policy,
            admission: admission.0,
            id: tokens.refresh.map(|refresh| refresh.family),
            grant: None,
            began: op.began,
            is_decided: false,
            born: Born::Perhaps,
            kills,
            generations: Vec::from_iter(tokens.refresh.map(|refresh| Generation {
                refresh,
                attempts: Vec::new(),
                use_began: None,
                used: None,
                told_dead: None,
            })),
            tokens: vec![token],
        });
        state.tokens.push(Token {
            family,
            generation: 0,
            credential: Credential::Opaque(tokens.access),
            admission: admission.0,
            expires_at,
            born: Born::Perhaps,
            kills: Vec::new(),
            told_dead: None,
            is_used: false,
        });
        op
    }

    pub fn end_issue(&self, op: Op, answer: &Result<Outcome, StoreError>) {
        let mut state = self.state();
        let state = &mut *state;
        state.tick();
        state.note(&(op.id, answer.as_ref().map_err(kind_of)));
        let n = state.families.iter().position(|family| family.op == op.id).unwrap();
        let refuse = |state: &mut State| {
            let family = &mut state.families[n];
            assert!(!matches!(family.born, Born::Since(_)), "a birth that was seen was refused");
            family.born = Born::Never;
            let first = family.tokens[0];
            state.tokens[first].born = Born::Never;
            state.forget_op(op.id);
        };
        match answer {
            Ok(Outcome::Issue(IssueOutcome::Issued { family, grant, admission })) => {
                let held = &mut state.families[n];
                assert_eq!(held.admission, admission.0, "another admission (I3)");
                assert!(held.id.is_none_or(|id| id == *family), "another family");
                held.id = Some(*family);
                held.grant = Some(*grant);
                state.born(n);
                if room(state.families[n].policy) == Some(1) {
                    let at = state.tick();
                    let pair = state.families[n].pair.clone();
                    for (other, family) in state.families.iter_mut().enumerate() {
                        // Whoever was there when it began is out.
                        if other != n && family.pair == pair && family.born.by(op.began) {
                            let mine = family.kills.iter_mut().filter(|kill| kill.op == op.id);
                            mine.for_each(|kill| kill.ended = Some(at));
                        }
                    }
                }
            }
            Ok(Outcome::Issue(IssueOutcome::Revoked)) => {
                let family = &state.families[n];
                assert!(
                    state.may_be_stamped(family, family.admission),
                    "a birth was refused as revoked, and nothing was"
                );
                refuse(state);
            }
            Ok(Outcome::Issue(IssueOutcome::PairTaken))
            | Err(StoreError::Busy | StoreError::Closed) => refuse(state),
            Ok(other) => panic!("an issue answered {other:?}"),
            Err(_) => {}
        }
    }

    /// `at`, presented for one more pair of tokens.
    pub fn begin_redeem(
        &self,
        at: Spot,
        arrival: Seq,
        next: Refresh,
        access: Access,
        expires_at: u64,
        clock: &ManualClock,
    ) -> Op {
        let mut state = self.state();
        let state = &mut *state;
        let op = state.op(clock.read().unix.0);
        let token = state.tokens.len();
        state.note(&("redeem", at, token, arrival));
        let family = &mut state.families[at.family];
        let admission = family.admission.min(arrival.0);
        if at.generation > 0 {
            // Presenting a token is a use of it.
            let used = &mut family.generations[at.generation].use_began;
            used.get_or_insert(op.began);
        }
        let generation = &mut family.generations[at.generation];
        let is_contested = generation.attempts.iter().any(|a| a.state != Born::Never);
        let undecided = generation.attempts.iter().filter(|a| !a.is_decided).map(|a| a.op);
        let mut kills: Vec<u64> = undecided.collect();
        kills.extend(is_contested.then_some(op.id));
        for op_id in kills {
            family.kills.push(Kill { op: op_id, began: op.began, ended: None });
        }
        generation.attempts.push(Attempt {
            op: op.id,
            began: op.began,
            is_decided: false,
            redeemed_from: op.unix,
            state: Born::Perhaps,
            next,
            token,
        });
        family.tokens.push(token);
        state.tokens.push(Token {
            family: at.family,
            generation: at.generation + 1,
            credential: Credential::Opaque(access),
            admission,
            expires_at,
            born: Born::Perhaps,
            kills: Vec::new(),
            told_dead: None,
            is_used: false,
        });
        op
    }

    pub fn end_redeem(
        &self,
        op: Op,
        at: Spot,
        retry_secs_max: u64,
        answer: &Result<Outcome, StoreError>,
        clock: &ManualClock,
    ) {
        let unix = clock.read().unix.0;
        let mut state = self.state();
        let state = &mut *state;
        state.tick();
        state.note(&(op.id, answer.as_ref().map_err(kind_of)));
        let attempts =
            |state: &State| state.families[at.family].generations[at.generation].attempts.clone();
        match answer {
            Ok(Outcome::Redeem(RedeemOutcome::Redeemed { .. })) => {
                assert!(!state.refresh_is_dead(at, op.began), "a dead token was redeemed: {at:?}");
                let mine = attempts(state).iter().position(|a| a.op == op.id).unwrap();
                state.won(at, mine);
                state.forget_op(op.id);
            }
            Ok(Outcome::Redeem(RedeemOutcome::Retried { mint, .. })) => {
                let winner = attempts(state).iter().position(|a| match &state.tokens[a.token] {
                    Token { credential: Credential::Opaque(access), .. } => {
                        mint.locator == Some(access.locator)
                    }
                    Token { .. } => false,
                });
                let winner = winner.expect("a retry gives what nobody asked for");
                assert!(!state.family_is_dead(at.family, op.began), "a retry in a dead family");
                state.lost(at, op.id);
                state.won(at, winner);
                let next = Spot { generation: at.generation + 1, ..at };
                assert!(!state.is_spent(next, op.began), "a spent generation was retried");
                let used = state.families[at.family].generations[next.generation].used;
                assert!(used.is_none_or(|used| used > op.began), "a replay was given an answer");
                state.forget_op(op.id);
            }
            Ok(Outcome::Redeem(RedeemOutcome::Replayed)) => {
                let others = attempts(state);
                let others = others.iter().filter(|a| a.op != op.id && a.state != Born::Never);
                assert!(others.count() > 0, "a fresh token was taken for a replay: {at:?}");
                if let Some(next) = state.families[at.family].generations.get(at.generation + 1) {
                    let winner = attempts(state);
                    let winner = winner.iter().find(|a| matches!(a.state, Born::Since(_))).unwrap();
                    let is_honest = retry_secs_max > 0
                        && next.use_began.is_none()
                        && next.attempts.is_empty()
                        && !state.tokens.iter().any(|token| {
                            token.is_used
                                && token.family == at.family
                                && token.generation == at.generation + 1
                        })
                        && unix.saturating_sub(winner.redeemed_from) <= retry_secs_max
                        && unix < state.tokens[winner.token].expires_at;
                    assert!(!is_honest, "an honest retry was taken for a replay: {at:?}");
                }
                state.lost(at, op.id);
                let ended = state.tick();
                let kills = &mut state.families[at.family].kills;
                kills.push(Kill { op: op.id, began: op.began, ended: Some(ended) });
            }
            Ok(Outcome::Redeem(RedeemOutcome::Dead)) => {
                let family = &state.families[at.family];
                let may_be_dead = family.kills.iter().any(|kill| kill.op != op.id)
                    || state.may_be_stamped(family, family.admission);
                assert!(may_be_dead, "a live family was called dead: {at:?}");
                state.lost(at, op.id);
                state.forget_op(op.id);
            }
            Ok(other) => panic!("a redeem answered {other:?}"),
            Err(StoreError::Busy | StoreError::Closed) => {
                state.lost(at, op.id);
                state.forget_op(op.id);
            }
            Err(_) => {}
        }
    }

    pub fn begin_revoke(&self, target: &Target, above: Seq, clock: &ManualClock) -> Op {
        let mut state = self.state();
        let state = &mut *state;
        let op = state.op(clock.read().unix.0);
        state.note(&("revoke", target, above));
        let kill = Kill { op: op.id, began: op.began, ended: None };
        match target {
            Target::Family(id) => {
                state.open_kills.push(op.id);
                for family in &mut state.families {
                    if family.id.is_none_or(|other| other == *id) && family.born != Born::Never {
                        family.kills.push(kill.clone());
                    }
                }
            }
            Target::Access(locator, _) => {
                for token in &mut state.tokens {
                    if matches!(&token.credential, Credential::Opaque(a) if a.locator == *locator) {
                        token.kills.push(kill.clone());
                    }
                }
            }
            Target::Jwt { jti, .. } => {
                for token in &mut state.tokens {
                    if matches!(&token.credential, Credential::Jwt { jti: j, .. } if j == jti) {
                        token.kills.push(kill.clone());
                    }
                }
            }
            _ => state.stamps.push(Stamp {
                op: op.id,
                target: target.clone(),
                began: op.began,
                ended: None,
                above: above.0,
                at_most: u64::MAX,
            }),
        }
        op
    }

    pub fn end_revoke(&self, op: Op, target: &Target, answer: &Result<Outcome, StoreError>) {
        let mut state = self.state();
        let state = &mut *state;
        let at = state.tick();
        state.note(&(op.id, answer.as_ref().map_err(kind_of)));
        match answer {
            Ok(Outcome::Revoke(Some(Seq(seq)))) => {
                state.saw(*seq);
                if let Target::Family(id) = target {
                    for family in &mut state.families {
                        let mine = |kill: &Kill| kill.op == op.id;
                        if family.id == Some(*id) {
                            family.kills.iter_mut().filter(|k| mine(k)).for_each(|kill| {
                                kill.ended = Some(at);
                            });
                        }
                    }
                } else {
                    state.confirm_op(op.id, at);
                }
                for stamp in state.stamps.iter_mut().filter(|stamp| stamp.op == op.id) {
                    assert!(*seq > stamp.above, "a revocation took the number of an admission");
                    stamp.ended = Some(at);
                    stamp.at_most = *seq;
                }
            }
            Ok(Outcome::Revoke(None)) => {
                state.forget_op(op.id);
                let unix = op.unix;
                for (n, token) in state.tokens.iter().enumerate() {
                    let is_it = matches!(
                        (&token.credential, target),
                        (Credential::Opaque(a), Target::Access(locator, _)) if a.locator == *locator
                    );
                    assert!(
                        !is_it || !token.born.by(op.began) || state.token_may_be_dead(n, unix),
                        "a live token was called unknown"
                    );
                }
            }
            Err(StoreError::Busy | StoreError::Closed) => state.forget_op(op.id),
            Ok(other) => panic!("a revocation answered {other:?}"),
            Err(_) => {}
        }
    }

    /// The store has decided `op`, answered or not: what begins now comes after it.
    pub fn decided(&self, op: Op, after: Seq) {
        let mut state = self.state();
        state.open_kills.retain(|id| *id != op.id);
        for family in &mut state.families {
            family.is_decided |= family.op == op.id;
            for generation in &mut family.generations {
                for attempt in &mut generation.attempts {
                    attempt.is_decided |= attempt.op == op.id;
                }
            }
        }
        for stamp in state.stamps.iter_mut().filter(|stamp| stamp.op == op.id) {
            stamp.at_most = stamp.at_most.min(after.0);
        }
    }

    /// A JWT of a family, which the store need not be told of.
    pub fn add_jwt(&self, family: usize, jti: Digest, expires_at: u64) {
        let mut state = self.state();
        let state = &mut *state;
        let at = state.tick();
        let held = &mut state.families[family];
        if !matches!(held.born, Born::Since(_)) || held.generations.is_empty() {
            return;
        }
        let generation = held.generations.len() - 1;
        held.tokens.push(state.tokens.len());
        let number = held.generations[generation].refresh.generation;
        state.tokens.push(Token {
            family,
            generation,
            credential: Credential::Jwt { jti, generation: number },
            admission: held.admission,
            expires_at,
            born: Born::Since(at),
            kills: Vec::new(),
            told_dead: None,
            is_used: false,
        });
    }

    /// The JWT with the index `n`, if it is one.
    pub fn jwt(&self, n: usize) -> Option<(Digest, u64)> {
        let state = self.state();
        let token = state.tokens.get(n)?;
        match token.credential {
            Credential::Jwt { jti, .. } => Some((jti, token.expires_at)),
            Credential::Opaque(_) => None,
        }
    }

    fn find_of(&self, looked: Looked, used: bool) -> Find {
        let state = self.state();
        let refresh = |refresh: &Refresh| Find::Refresh {
            family: refresh.family,
            generation: refresh.generation,
            digest: refresh.digest,
        };
        match looked {
            Looked::Token(n) => {
                let token = &state.tokens[n];
                let family = &state.families[token.family];
                match token.credential {
                    Credential::Opaque(Access { locator, digest }) => {
                        Find::Access { locator, digest, used }
                    }
                    Credential::Jwt { jti, generation } => Find::Jwt {
                        family: family.generations[0].refresh.family,
                        generation,
                        admission: Seq(token.admission),
                        jti,
                        expires_at: mintage::time::Timestamp(token.expires_at),
                        used,
                    },
                }
            }
            Looked::Refresh(Spot { family, generation }) => {
                refresh(&state.families[family].generations[generation].refresh)
            }
            Looked::Successor(Spot { family, generation }, n) => {
                refresh(&state.families[family].generations[generation].attempts[n].next)
            }
        }
    }

    /// Looks something up while others work, and compares.
    pub fn look<S: Store>(&self, store: &S, looked: Looked, used: bool, clock: &ManualClock) {
        let find = self.find_of(looked, used);
        let reading = clock.read();
        let (was_dead, was_born) = {
            let mut state = self.state();
            let state = &mut *state;
            let began = state.tick();
            match looked {
                Looked::Token(n) => {
                    let token = &state.tokens[n];
                    let (born, told) = (token.born.by(began), token.told_dead);
                    let dead = told.is_some() || state.token_is_dead(n, began, reading.unix.0);
                    state.tokens[n].is_used |= used;
                    (dead, born)
                }
                Looked::Refresh(spot) => {
                    let family = &state.families[spot.family];
                    let born = spot.generation > 0 || family.born.by(began);
                    let told = family.generations[spot.generation].told_dead.is_some();
                    (told || state.refresh_is_dead(spot, began), born)
                }
                Looked::Successor(spot, n) => {
                    let family = &state.families[spot.family];
                    let attempt = &family.generations[spot.generation].attempts[n];
                    let dead =
                        attempt.state == Born::Never || state.family_is_dead(spot.family, began);
                    (dead, false)
                }
            }
        };
        let Ok(found) = wait(store.find(find, reading)) else { return };
        let is_live = found.is_some_and(|view| view.live);
        let unix = clock.read().unix.0;
        let mut state = self.state();
        let state = &mut *state;
        let ended = state.tick();
        state.note(&(looked, is_live, was_dead));
        if is_live {
            assert!(!was_dead, "{looked:?} is live, and was dead before");
            match looked {
                Looked::Token(n) => {
                    let (of, generation) = (state.tokens[n].family, state.tokens[n].generation);
                    let attempts = generation.checked_sub(1).and_then(|generation| {
                        let attempts = &state.families[of].generations[generation].attempts;
                        let attempt = attempts.iter().position(|a| a.token == n)?;
                        Some((Spot { family: of, generation }, attempt))
                    });
                    match attempts {
                        Some((spot, attempt)) => state.won(spot, attempt),
                        None if state.families[of].tokens[0] == n => state.born(of),
                        None => {}
                    }
                    if let Some(of) = state.families[of].generations.get_mut(generation)
                        && used
                    {
                        of.used.get_or_insert(ended);
                    }
                }
                Looked::Refresh(spot) if spot.generation == 0 => state.born(spot.family),
                Looked::Refresh(_) => {}
                Looked::Successor(spot, n) => state.won(spot, n),
            }
        } else if was_born {
            match looked {
                Looked::Token(n) => {
                    assert!(
                        state.token_may_be_dead(n, unix),
                        "{looked:?} is dead, and nothing killed it"
                    );
                    state.tokens[n].told_dead = Some(ended);
                }
                Looked::Refresh(spot) => {
                    assert!(
                        state.refresh_may_be_dead(spot),
                        "{looked:?} is dead, and nothing killed it"
                    );
                    state.families[spot.family].generations[spot.generation].told_dead =
                        Some(ended);
                }
                Looked::Successor(..) => {}
            }
        }
    }

    pub fn begin_put(&self, name: &str, body: Option<Arc<[u8]>>) {
        self.state().papers.entry(name.to_owned()).or_default().perhaps.push(body);
    }

    pub fn end_put(&self, name: &str, answer: &Result<Outcome, StoreError>) {
        let mut state = self.state();
        state.tick();
        state.note(&(name, answer.as_ref().map_err(kind_of)));
        let paper = state.papers.get_mut(name).unwrap();
        match answer {
            Ok(_) => {
                paper.certain = paper.perhaps.pop().unwrap();
                paper.perhaps.clear();
            }
            Err(StoreError::Busy | StoreError::Closed) => {
                paper.perhaps.pop();
            }
            Err(_) => {}
        }
    }

    /// The process is gone, and what only its memory knew.
    pub fn crash(&self) {
        let mut state = self.state();
        let state = &mut *state;
        state.tick();
        state.note(&"crash");
        state.tokens.iter_mut().for_each(|token| token.told_dead = None);
        for family in &mut state.families {
            family.is_decided = true;
            for generation in &mut family.generations {
                generation.told_dead = None;
                generation.used = None;
                generation.attempts.iter_mut().for_each(|attempt| attempt.is_decided = true);
            }
        }
    }

    /// Compares everything with `store`, which nobody else uses now and which has published all that
    /// it decided; takes its word where both are possible.
    ///
    /// # Errors
    /// What a lookup was answered with; then nothing was compared.
    pub fn audit<S: Store>(&self, store: &S, clock: &ManualClock) -> Result<(), StoreError> {
        let reading = clock.read();
        let _ = self.admission(store);
        let lookups = self.lookups();
        let mut live = Vec::new();
        for looked in &lookups {
            let find = self.find_of(*looked, false);
            live.push(wait(store.find(find, reading))?.is_some_and(|view| view.live));
        }
        let mut state = self.state();
        let state = &mut *state;
        state.tick();
        let mut tokens = vec![false; state.tokens.len()];
        let mut refreshes: BTreeMap<(usize, usize), bool> = BTreeMap::new();
        let mut successors: BTreeMap<(usize, usize, usize), bool> = BTreeMap::new();
        for (looked, live) in lookups.iter().zip(&live) {
            match looked {
                Looked::Token(n) => tokens[*n] = *live,
                Looked::Refresh(spot) => {
                    refreshes.insert((spot.family, spot.generation), *live);
                }
                Looked::Successor(spot, n) => {
                    successors.insert((spot.family, spot.generation, *n), *live);
                }
            }
        }
        state.all_or_none(&tokens, reading.unix.0);
        for family in 0..state.families.len() {
            state.audit_family(family, &tokens, &refreshes, &successors);
        }
        for (n, is_live) in tokens.iter().enumerate() {
            state.audit_token(n, *is_live, reading.unix.0);
        }
        // What is not answered for by now was judged one by one.
        state.stamps.retain(|stamp| stamp.ended.is_some());
        state.audit_rooms(&tokens, &refreshes);
        state.note(&live);
        let papers: Vec<(String, Paper)> =
            state.papers.iter().map(|(name, paper)| (name.clone(), paper.clone())).collect();
        for (name, paper) in papers {
            let listing = Listing::Document(0, Arc::from(name.as_str()));
            let page = wait(store.list(listing, None, 1)).expect("a listing is answered");
            let body = page.documents.into_iter().next().map(|document| document.body);
            assert!(
                body == paper.certain || paper.perhaps.contains(&body),
                "document {name} is not what was written"
            );
            state.papers.insert(name, Paper { certain: body, perhaps: Vec::new() });
        }
        state.audit_lists(store);
        Ok(())
    }
}

impl State {
    /// A revocation that was not answered holds for all below it or for nothing.
    fn all_or_none(&self, live: &[bool], unix: u64) {
        for stamp in self.stamps.iter().filter(|stamp| stamp.ended.is_none()) {
            let mut seen = BTreeSet::new();
            for (n, token) in self.tokens.iter().enumerate() {
                let family = &self.families[token.family];
                let only_this = token.kills.is_empty()
                    && family.kills.is_empty()
                    && family.grant.is_some()
                    && covers(&stamp.target, &family.pair, family.grant)
                    && token.admission <= stamp.above
                    && !self.stamps.iter().any(|other| {
                        other.op != stamp.op
                            && token.admission < other.at_most
                            && covers(&other.target, &family.pair, family.grant)
                    });
                if only_this && matches!(token.born, Born::Since(_)) && unix < token.expires_at {
                    seen.insert(live[n]);
                }
            }
            assert!(seen.len() < 2, "a revocation of {:?} holds by halves", stamp.target);
        }
    }

    fn audit_family(
        &mut self,
        n: usize,
        tokens: &[bool],
        refreshes: &BTreeMap<(usize, usize), bool>,
        successors: &BTreeMap<(usize, usize, usize), bool>,
    ) {
        let by = self.tick;
        let Some(last) = self.families[n].generations.len().checked_sub(1) else { return };
        let pair = &self.families[n].pair;
        let pair = format!("{} {}", pair.client.as_str(), pair.subject.as_str());
        for generation in 0..last {
            assert!(!refreshes[&(n, generation)], "a spent token of {pair} is live");
        }
        let candidates: Vec<usize> = (0..self.families[n].generations[last].attempts.len())
            .filter(|attempt| successors.get(&(n, last, *attempt)).copied().unwrap_or(false))
            .collect();
        let count = candidates.len() + usize::from(refreshes[&(n, last)]);
        assert!(count <= 1, "{count} generations of {pair} are live");
        let was_dead = self.family_is_dead(n, by) || self.families[n].born == Born::Never;
        assert!(!was_dead || count == 0, "a dead family of {pair} lives again");
        let must_live =
            matches!(self.families[n].born, Born::Since(_)) && !self.family_may_be_dead(n);
        assert!(
            !must_live || count == 1,
            "a live family of {pair} is gone: {:?}",
            self.families[n]
        );
        if count == 0 {
            if self.families[n].born != Born::Never {
                let kills = &mut self.families[n].kills;
                kills.push(Kill { op: 0, began: 0, ended: Some(by) });
            }
            let of = self.families[n].tokens.clone();
            for token in of {
                assert!(!tokens[token], "an access token of a dead family of {pair} is live");
            }
            return;
        }
        self.born(n);
        self.families[n].kills.clear();
        match candidates.first() {
            Some(attempt) => self.won(Spot { family: n, generation: last }, *attempt),
            None => {
                let ops: Vec<u64> =
                    self.families[n].generations[last].attempts.iter().map(|a| a.op).collect();
                for op in ops {
                    self.lost(Spot { family: n, generation: last }, op);
                }
            }
        }
        for generation in 0..self.families[n].generations.len() {
            for attempt in &mut self.families[n].generations[generation].attempts {
                if attempt.state == Born::Perhaps {
                    attempt.state = Born::Never;
                    self.tokens[attempt.token].born = Born::Never;
                }
            }
        }
    }

    fn audit_token(&mut self, n: usize, is_live: bool, unix: u64) {
        let by = self.tick;
        let token = &self.tokens[n];
        let family = &self.families[token.family];
        let what = format!(
            "{:?} of {} {}",
            token.credential,
            family.pair.client.as_str(),
            family.pair.subject.as_str()
        );
        if is_live {
            assert!(!self.token_is_dead(n, by, unix), "{what} is live, and must not be");
            let of = token.family;
            if self.families[of].tokens[0] == n {
                self.born(of);
                if self.families[of].generations.is_empty() {
                    self.families[of].kills.clear();
                }
            }
            self.tokens[n].kills.clear();
            return;
        }
        let must_live = matches!(token.born, Born::Since(_)) && !self.token_may_be_dead(n, unix);
        assert!(!must_live, "{what} is dead, and must not be: {token:?}");
        if token.born != Born::Never {
            self.tokens[n].kills.push(Kill { op: 0, began: 0, ended: Some(by) });
        }
    }

    /// No pair has more families than its policy allows.
    fn audit_rooms(&self, tokens: &[bool], refreshes: &BTreeMap<(usize, usize), bool>) {
        let mut living: BTreeMap<(String, String), (Option<usize>, BTreeSet<u64>)> =
            BTreeMap::new();
        for (n, family) in self.families.iter().enumerate() {
            let key =
                (family.pair.client.as_str().to_owned(), family.pair.subject.as_str().to_owned());
            let entry = living.entry(key).or_insert((room(family.policy), BTreeSet::new()));
            if room(family.policy) != entry.0 {
                entry.0 = None;
            }
            let last = family.generations.len().checked_sub(1);
            let is_live = last
                .is_some_and(|last| refreshes.get(&(n, last)).copied().unwrap_or(false))
                || family.tokens.iter().any(|token| tokens[*token]);
            if is_live && let Some(id) = family.id {
                entry.1.insert(id);
            }
        }
        for (pair, (room, ids)) in living {
            assert!(
                room.is_none_or(|room| ids.len() <= room),
                "{pair:?} has {} families",
                ids.len()
            );
        }
    }

    /// I6, from both sides.
    fn audit_lists(&self, store: &impl Store) {
        let mut by_subject = BTreeMap::new();
        let mut by_client = BTreeMap::new();
        let mut names = BTreeSet::new();
        for family in &self.families {
            names.insert((family.pair.client.clone().as_str().to_owned(), true));
            names.insert((family.pair.subject.clone().as_str().to_owned(), false));
        }
        for (name, is_client) in names {
            let listing = if is_client {
                Listing::OfClient(mintage::ids::ClientId::new(&name).unwrap())
            } else {
                Listing::OfSubject(mintage::ids::Subject::new(&name).unwrap())
            };
            let mut cursor: Option<Vec<u8>> = None;
            loop {
                let page = wait(store.list(listing.clone(), cursor.as_deref(), 100))
                    .expect("a listing is answered");
                let rows = if is_client { &mut by_client } else { &mut by_subject };
                for row in page.grants {
                    let key = (row.client.as_str().to_owned(), row.subject.as_str().to_owned());
                    rows.entry(row.family).or_insert((key, row.grant));
                }
                match page.next {
                    Some(next) if Some(&next) != cursor.as_ref() => cursor = Some(next),
                    _ => break,
                }
            }
        }
        assert_eq!(by_subject, by_client, "the lists of subjects and clients differ");
        let mut grants = BTreeMap::new();
        for (pair, grant) in by_subject.values() {
            let held = grants.entry(pair.clone()).or_insert(*grant);
            assert_eq!(held, grant, "{pair:?} has two grants (I6)");
        }
        for family in self.families.iter().filter(|family| !family.generations.is_empty()) {
            let is_live = matches!(family.born, Born::Since(_)) && family.kills.is_empty();
            let is_live = is_live && !self.may_be_stamped(family, family.admission);
            if is_live && let Some(id) = family.id {
                assert!(by_subject.contains_key(&id), "a live family is in no list");
            }
        }
    }
}

/// An error, without what differs from run to run.
fn kind_of(error: &StoreError) -> String {
    let text = format!("{error:?}");
    text.split(['(', '{', ' ']).next().unwrap_or("").to_owned()
}
