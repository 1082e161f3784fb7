//! What is certain, and what follows from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use mintage::locator::Digest;
use mintage::store::{Pair, PairPolicy, StoreError, Target};

use super::super::{Access, Refresh};
use super::{Op, Spot};

/// Something that may end an entity: from `began` on it may have, from `ended` on it has.
#[derive(Clone, Debug)]
pub(super) struct Kill {
    pub(super) op: u64,
    pub(super) began: u64,
    pub(super) ended: Option<u64>,
}

#[derive(Clone, Debug)]
pub(super) struct Stamp {
    pub(super) op: u64,
    pub(super) target: Target,
    pub(super) began: u64,
    pub(super) ended: Option<u64>,
    /// Its number is above this ...
    pub(super) above: u64,
    /// ... and at most this, once it is decided; exact once it is answered.
    pub(super) at_most: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Born {
    /// Asked for; perhaps there.
    Perhaps,
    /// There, since that tick.
    Since(u64),
    Never,
}

impl Born {
    pub(super) fn by(self, tick: u64) -> bool {
        matches!(self, Born::Since(at) if at <= tick)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) op: u64,
    pub(super) began: u64,
    pub(super) arrived: u64,
    pub(super) is_decided: bool,
    pub(super) redeemed_from: u64,
    pub(super) state: Born,
    pub(super) next: Refresh,
    pub(super) token: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Generation {
    pub(super) refresh: Refresh,
    pub(super) attempts: Vec<Attempt>,
    /// A token of it was used: when that began first, and when it had happened for certain.
    pub(super) use_began: Option<u64>,
    pub(super) used: Option<u64>,
    pub(super) told_dead: Option<u64>,
}

#[derive(Clone, Debug)]
pub(super) enum Credential {
    Opaque(Access),
    Jwt { jti: Digest, generation: u32 },
}

#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) family: usize,
    /// Generation, as an index, that it was born with.
    pub(super) generation: usize,
    pub(super) credential: Credential,
    pub(super) admission: u64,
    pub(super) expires_at: u64,
    pub(super) born: Born,
    pub(super) kills: Vec<Kill>,
    pub(super) told_dead: Option<u64>,
    /// A lookup that counts as a use of it has begun.
    pub(super) is_used: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Family {
    pub(super) op: u64,
    pub(super) pair: Pair,
    pub(super) policy: PairPolicy,
    pub(super) admission: u64,
    /// Known once it is answered; before that only of a family of its own.
    pub(super) id: Option<u64>,
    pub(super) grant: Option<u64>,
    pub(super) began: u64,
    pub(super) is_decided: bool,
    pub(super) born: Born,
    pub(super) kills: Vec<Kill>,
    pub(super) generations: Vec<Generation>,
    pub(super) tokens: Vec<usize>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Paper {
    pub(super) certain: Option<Arc<[u8]>>,
    pub(super) perhaps: Vec<Option<Arc<[u8]>>>,
}

#[derive(Clone, Default)]
pub(super) struct State {
    pub(super) tick: u64,
    pub(super) families: Vec<Family>,
    pub(super) tokens: Vec<Token>,
    pub(super) stamps: Vec<Stamp>,
    pub(super) papers: BTreeMap<String, Paper>,
    /// Revocations of families that are not decided yet.
    pub(super) open_kills: Vec<u64>,
    pub(super) highest: u64,
    pub(super) history: blake3::Hasher,
    /// Whether everything is printed, for people.
    pub(super) is_traced: bool,
}
pub(super) fn happened(kills: &[Kill], by: u64) -> bool {
    kills.iter().any(|kill| kill.ended.is_some_and(|ended| ended <= by))
}

pub(super) fn covers(target: &Target, pair: &Pair, grant: Option<u64>) -> bool {
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
pub(super) fn room(policy: PairPolicy) -> Option<usize> {
    match policy {
        PairPolicy::Replace => Some(1),
        PairPolicy::Newest(n) => Some(usize::from(n)),
        _ => None,
    }
}

impl State {
    pub(super) fn tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    pub(super) fn op(&mut self, unix: u64) -> Op {
        let began = self.tick();
        Op { id: began, began, unix }
    }

    pub(super) fn note(&mut self, what: &impl std::fmt::Debug) {
        let tick = self.tick;
        if self.is_traced {
            eprintln!("{tick} {what:?}");
        }
        self.history.update(format!("{tick} {what:?};").as_bytes());
    }

    pub(super) fn saw(&mut self, seq: u64) {
        self.highest = self.highest.max(seq);
    }

    /// Whether a stamp that was answered by `by` is above `admission`.
    pub(super) fn is_stamped(&self, family: &Family, admission: u64, by: u64) -> bool {
        self.stamps.iter().any(|stamp| {
            stamp.ended.is_some_and(|ended| ended <= by)
                && admission < stamp.at_most
                && family.grant.is_some() | !matches!(stamp.target, Target::Grant(_))
                && covers(&stamp.target, &family.pair, family.grant)
        })
    }

    pub(super) fn may_be_stamped(&self, family: &Family, admission: u64) -> bool {
        self.stamps.iter().any(|stamp| {
            admission < stamp.at_most && covers(&stamp.target, &family.pair, family.grant)
        })
    }

    pub(super) fn is_spent(&self, spot: Spot, by: u64) -> bool {
        let generation = &self.families[spot.family].generations[spot.generation];
        generation.attempts.iter().any(|attempt| attempt.state.by(by))
    }

    pub(super) fn family_is_dead(&self, n: usize, by: u64) -> bool {
        let family = &self.families[n];
        happened(&family.kills, by) || self.is_stamped(family, family.admission, by)
    }

    pub(super) fn family_may_be_dead(&self, n: usize) -> bool {
        let family = &self.families[n];
        !family.kills.is_empty() || self.may_be_stamped(family, family.admission)
    }

    pub(super) fn refresh_is_dead(&self, spot: Spot, by: u64) -> bool {
        self.family_is_dead(spot.family, by) || self.is_spent(spot, by)
    }

    pub(super) fn refresh_may_be_dead(&self, spot: Spot) -> bool {
        let generation = &self.families[spot.family].generations[spot.generation];
        let is_open = |attempt: &Attempt| attempt.state != Born::Never;
        self.family_may_be_dead(spot.family) || generation.attempts.iter().any(is_open)
    }

    pub(super) fn token_is_dead(&self, n: usize, by: u64, unix: u64) -> bool {
        let token = &self.tokens[n];
        let family = &self.families[token.family];
        token.born == Born::Never
            || unix >= token.expires_at
            || happened(&token.kills, by)
            || happened(&family.kills, by)
            || self.is_stamped(family, token.admission, by)
    }

    pub(super) fn token_may_be_dead(&self, n: usize, unix: u64) -> bool {
        let token = &self.tokens[n];
        let family = &self.families[token.family];
        unix >= token.expires_at
            || !token.kills.is_empty()
            || !family.kills.is_empty()
            || self.may_be_stamped(family, token.admission)
    }

    pub(super) fn forget_op(&mut self, op: u64) {
        let gone = |kill: &Kill| kill.op != op;
        self.families.iter_mut().for_each(|family| family.kills.retain(gone));
        self.tokens.iter_mut().for_each(|token| token.kills.retain(gone));
        self.stamps.retain(|stamp| stamp.op != op);
    }

    pub(super) fn confirm_op(&mut self, op: u64, at: u64) {
        let families = self.families.iter_mut().map(|family| &mut family.kills);
        let tokens = self.tokens.iter_mut().map(|token| &mut token.kills);
        for kill in families.chain(tokens).flatten().filter(|kill| kill.op == op) {
            kill.ended = Some(at);
        }
    }

    /// An attempt is known to have been the one.
    pub(super) fn won(&mut self, spot: Spot, attempt: usize) {
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

    pub(super) fn lost(&mut self, spot: Spot, op: u64) {
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

    pub(super) fn born(&mut self, n: usize) {
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

/// An error, without what differs from run to run.
pub(super) fn kind_of(error: &StoreError) -> String {
    let text = format!("{error:?}");
    text.split(['(', '{', ' ']).next().unwrap_or("").to_owned()
}
