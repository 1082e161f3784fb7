//! Operations: announced, decided, answered.

use mintage::store::{
    IssueOutcome, Outcome, Pair, PairPolicy, RedeemOutcome, Seq, StoreError, Target,
};
use mintage::time::{Clock, ManualClock};

use super::super::{Access, Refresh, Tokens};
use super::books::{
    Attempt, Born, Credential, Family, Generation, Kill, Stamp, State, Token, kind_of, room,
};
use super::{Arrival, Checker, Op, Spot};

impl Checker {
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
            | Err(StoreError::Busy | StoreError::Closed | StoreError::ReadOnly) => refuse(state),
            Ok(other) => panic!("an issue answered {other:?}"),
            Err(_) => {}
        }
    }

    /// `at`, presented for one more pair of tokens.
    pub fn begin_redeem(
        &self,
        at: Spot,
        arrival: Arrival,
        next: Refresh,
        access: Access,
        expires_at: u64,
        clock: &ManualClock,
    ) -> Op {
        let mut state = self.state();
        let state = &mut *state;
        let op = state.op(clock.read().unix.0);
        let token = state.tokens.len();
        state.note(&("redeem", at, token, arrival.seq));
        let family = &mut state.families[at.family];
        let admission = family.admission.min(arrival.seq.0);
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
            arrived: arrival.at,
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
                let mine = attempts(state).into_iter().find(|a| a.op == op.id).unwrap();
                assert!(!state.family_is_dead(at.family, op.began), "a retry in a dead family");
                state.lost(at, op.id);
                state.won(at, winner);
                let next = Spot { generation: at.generation + 1, ..at };
                assert!(!state.is_spent(next, op.began), "a spent generation was retried");
                let used = state.families[at.family].generations[next.generation].used;
                assert!(
                    used.is_none_or(|used| used > mine.arrived),
                    "a replay was given an answer"
                );
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
            Err(StoreError::Busy | StoreError::Closed | StoreError::ReadOnly) => {
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
            Err(StoreError::Busy | StoreError::Closed | StoreError::ReadOnly) => {
                state.forget_op(op.id);
            }
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
}
