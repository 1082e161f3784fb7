//! The whole store, after an open and when nobody else is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mintage::store::{Listing, Store, StoreError};
use mintage::time::{Clock, ManualClock};

use super::super::wait;
use super::books::{Born, Kill, Paper, State, covers, room};
use super::{Checker, Looked, Spot};

impl Checker {
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
    fn audit_lists(&mut self, store: &impl Store) {
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
        for family in &mut self.families {
            // Of an issue that was not answered the grant is not known.
            let listed = family.id.and_then(|id| by_subject.get(&id));
            family.grant = family.grant.or(listed.map(|(_, grant)| *grant));
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
