//! Lookups while others work.

use mintage::store::{Find, Seq, Store};
use mintage::time::{Clock, ManualClock};

use super::super::{Access, Refresh, wait};
use super::books::{Born, Credential};
use super::{Checker, Looked, Spot};

impl Checker {
    pub(super) fn find_of(&self, looked: Looked, used: bool) -> Find {
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
}
