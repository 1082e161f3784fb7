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

mod audit;
mod books;
mod look;
mod ops;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mintage::locator::Digest;
use mintage::store::{Outcome, Seq, Store, StoreError};

use super::{Access, Refresh};
use books::{Born, Credential, State, Token, kind_of};

/// See the module.
#[derive(Default)]
pub struct Checker(Mutex<State>);

impl Clone for Checker {
    fn clone(&self) -> Checker {
        Checker(Mutex::new(self.state().clone()))
    }
}
/// An operation on its way.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    pub id: u64,
    began: u64,
    unix: u64,
}

/// When a redeem arrived: the store's number, read after that moment of the checker's.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub seq: Seq,
    pub(crate) at: u64,
}

impl Arrival {
    /// One that was noted elsewhere: nothing is known to have happened before it.
    pub fn elsewhere(seq: Seq) -> Arrival {
        Arrival { seq, at: 0 }
    }
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

    pub fn arrival(&self, store: &impl Store) -> Arrival {
        let at = self.state().tick();
        Arrival { seq: self.admission(store), at }
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

    /// The family that an issue asked for.
    pub fn family_of(&self, issue: Op) -> usize {
        let state = self.state();
        state.families.iter().position(|family| family.op == issue.id).unwrap()
    }

    /// The refresh token in force of a family that lives for certain, with the access token that came
    /// with it, and its grant.
    pub fn in_force(&self, family: usize) -> Option<(Spot, Access, u64)> {
        let state = self.state();
        let held = &state.families[family];
        let generation = held.generations.len().checked_sub(1)?;
        let is_open = held.generations[generation].attempts.iter().any(|a| a.state != Born::Never);
        if !matches!(held.born, Born::Since(_)) || state.family_may_be_dead(family) || is_open {
            return None;
        }
        let newest = held.tokens.iter().rev().map(|n| &state.tokens[*n]);
        let access =
            newest.filter(|token| matches!(token.born, Born::Since(_))).find_map(|token| {
                match token.credential {
                    Credential::Opaque(access) => Some(access),
                    Credential::Jwt { .. } => None,
                }
            })?;
        Some((Spot { family, generation }, access, held.grant?))
    }

    /// A refresh token of a family that lives for certain, two generations back or more.
    pub fn spent(&self) -> Option<Spot> {
        let families = self.state().families.len();
        (0..families).find_map(|family| {
            let (spot, ..) = self.in_force(family)?;
            Some(Spot { family, generation: spot.generation.checked_sub(2)? })
        })
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
}
