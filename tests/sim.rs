//! Power cuts, kills and failing calls on a simulated disk, thousands of them: nothing acknowledged
//! is lost, no spent token lives again, no revoked one either.
//!
//! `MINTAGE_SIM_SEEDS` sets how many seeds run (default 300), `MINTAGE_SIM_SEED` runs one.

mod store_support;

use std::sync::Arc;

use mintage::store::{
    DurableStore, IssueOutcome, MemoryCheckpointHome, Outcome, PairPolicy, RedeemOutcome, Revoke,
    Store, StoreError, Target, Ticket, Verb,
};
use mintage::time::{Clock, ManualClock};
use store_support::sim::{Call, Fault, Random, SimStorage};
use store_support::{Access, Bench, Refresh, Tokens, clock, options, pair, root};

/// What is certain about a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Live,
    Dead,
    /// Its last operation was not acknowledged: whatever the store says from now on.
    Unknown,
}

struct Family {
    name: u64,
    tokens: Tokens,
    access: Vec<Access>,
    refresh: Refresh,
    fate: Fate,
    /// The successor of a redeem that was not acknowledged.
    maybe: Option<(Refresh, Access)>,
    spent: Vec<Refresh>,
}

enum Waiting {
    Issue(Ticket<Outcome>, u64, Tokens),
    Redeem(Ticket<Outcome>, usize, Refresh, Access),
    Revoke(Ticket<Outcome>, Vec<usize>),
}

struct World {
    random: Random,
    storage: SimStorage,
    home: MemoryCheckpointHome,
    older: MemoryCheckpointHome,
    clock: Arc<ManualClock>,
    families: Vec<Family>,
    names: u64,
}

impl World {
    fn new(seed: u64) -> World {
        World {
            random: Random::new(seed),
            storage: SimStorage::new(),
            home: MemoryCheckpointHome::default(),
            older: MemoryCheckpointHome::default(),
            clock: clock(),
            families: Vec::new(),
            names: 0,
        }
    }

    fn open(&self) -> Result<DurableStore, StoreError> {
        let options = options(&self.clock).resident_tokens_max(64);
        DurableStore::open_on(
            Arc::new(self.storage.clone()),
            Arc::new(self.home.clone()),
            &root(),
            options,
        )
    }

    /// Random operations, some of them not waited for.
    fn work(&mut self, store: &DurableStore, operations: u64) {
        let clock = Arc::clone(&self.clock);
        let bench = Bench { store, clock: &clock };
        let mut waiting = Vec::new();
        for _ in 0..operations {
            match self.random.below(10) {
                0..4 => waiting.push(self.issue(&bench)),
                4..8 => waiting.extend(self.redeem(&bench, &waiting)),
                8 => waiting.extend(self.revoke(&bench, &waiting)),
                _ => self.clock.advance(1),
            }
            if self.random.one_in(3) {
                for one in waiting.drain(..) {
                    self.settle(one);
                }
            }
        }
        // The rest is in flight when the power goes.
        for one in waiting {
            self.abandon(one);
        }
    }

    fn issue(&mut self, bench: &Bench<'_, DurableStore>) -> Waiting {
        self.names += 1;
        let pair = pair("reports", &format!("user-{}", self.names));
        let (verb, tokens) =
            bench.issue_verb(&pair, PairPolicy::Unlimited, true, bench.store.admission());
        Waiting::Issue(bench.store.apply(verb), self.names, tokens)
    }

    fn pick(&mut self, waiting: &[Waiting]) -> Option<usize> {
        let busy = |n: usize| {
            waiting.iter().any(|w| match w {
                Waiting::Redeem(_, m, ..) => *m == n,
                Waiting::Revoke(_, all) => all.contains(&n),
                Waiting::Issue(..) => false,
            })
        };
        if self.families.is_empty() {
            return None;
        }
        let n = usize::try_from(self.random.below(self.families.len() as u64)).unwrap();
        let family = &self.families[n];
        (family.fate == Fate::Live && family.maybe.is_none() && !busy(n)).then_some(n)
    }

    fn redeem(&mut self, bench: &Bench<'_, DurableStore>, waiting: &[Waiting]) -> Option<Waiting> {
        let n = self.pick(waiting)?;
        let (ticket, access, next) = bench.redeem_ticket(self.families[n].refresh, 60);
        Some(Waiting::Redeem(ticket, n, next, access))
    }

    fn revoke(&mut self, bench: &Bench<'_, DurableStore>, waiting: &[Waiting]) -> Option<Waiting> {
        let n = self.pick(waiting)?;
        let family = &self.families[n];
        let here = pair("reports", &format!("user-{}", family.name));
        let target = match self.random.below(4) {
            0 => Target::Family(family.tokens.family),
            1 => Target::Grant(family.tokens.grant),
            2 => Target::Subject(here.subject),
            _ => Target::Pair(here.client, here.subject),
        };
        let verb = Verb::Revoke(Revoke { target, now: self.clock.read() });
        Some(Waiting::Revoke(bench.store.apply(verb), vec![n]))
    }

    fn settle(&mut self, one: Waiting) {
        match one {
            Waiting::Issue(ticket, name, tokens) => match ticket.wait() {
                Ok(Outcome::Issue(IssueOutcome::Issued { grant, .. })) => {
                    self.add(name, Tokens { grant, ..tokens }, Fate::Live);
                }
                Ok(other) => panic!("{other:?}"),
                Err(_) => self.add(name, tokens, Fate::Unknown),
            },
            Waiting::Redeem(ticket, n, next, access) => match ticket.wait() {
                Ok(Outcome::Redeem(RedeemOutcome::Redeemed { .. })) => {
                    let family = &mut self.families[n];
                    family.spent.push(family.refresh);
                    family.refresh = next;
                    family.access.push(access);
                }
                Ok(other) => panic!("{other:?}"),
                Err(_) => self.families[n].maybe = Some((next, access)),
            },
            Waiting::Revoke(ticket, all) => {
                let fate = if ticket.wait().is_ok() { Fate::Dead } else { Fate::Unknown };
                all.into_iter().for_each(|n| self.families[n].fate = fate);
            }
        }
    }

    fn abandon(&mut self, one: Waiting) {
        match one {
            Waiting::Issue(_, name, tokens) => self.add(name, tokens, Fate::Unknown),
            Waiting::Redeem(_, n, next, access) => self.families[n].maybe = Some((next, access)),
            Waiting::Revoke(_, all) => {
                all.into_iter().for_each(|n| self.families[n].fate = Fate::Unknown);
            }
        }
    }

    fn add(&mut self, name: u64, tokens: Tokens, fate: Fate) {
        self.families.push(Family {
            name,
            tokens,
            access: vec![tokens.access],
            refresh: tokens.refresh.unwrap(),
            fate,
            maybe: None,
            spent: Vec::new(),
        });
    }

    /// Compares every token with what is certain, and takes the store's word for the rest.
    fn check(&mut self, store: &DurableStore) {
        let clock = Arc::clone(&self.clock);
        let bench = Bench { store, clock: &clock };
        for family in &mut self.families {
            if let Some((next, access)) = family.maybe.take() {
                if bench.is_redeemable(next) {
                    assert!(!bench.is_redeemable(family.refresh), "two generations are live");
                    assert!(bench.is_live(access), "a redeem was applied by halves");
                    family.spent.push(family.refresh);
                    family.refresh = next;
                    family.access.push(access);
                } else {
                    assert!(!bench.is_live(access), "a redeem was applied by halves");
                }
            }
            if family.fate == Fate::Unknown {
                let is_live = bench.is_redeemable(family.refresh);
                family.fate = if is_live { Fate::Live } else { Fate::Dead };
            }
            let is_live = family.fate == Fate::Live;
            let name = family.name;
            assert_eq!(bench.is_redeemable(family.refresh), is_live, "refresh of user-{name}");
            for access in &family.access {
                assert_eq!(bench.is_live(*access), is_live, "access of user-{name}");
            }
            for spent in &family.spent {
                assert!(!bench.is_redeemable(*spent), "a spent token of user-{name} is live");
            }
        }
    }

    fn end_run(&mut self, store: DurableStore) {
        match self.random.below(8) {
            0 => {
                store.close().unwrap();
                return;
            }
            1..3 => self.storage = self.storage.kill(),
            _ => self.storage = self.storage.cut_power(&mut self.random),
        }
        drop(store);
        // The checkpoint is what it was, older, or gone.
        match self.random.below(4) {
            0 => self.home = self.older.copy(),
            1 => self.home = MemoryCheckpointHome::default(),
            _ => self.home = self.home.copy(),
        }
        if self.random.one_in(2) {
            self.older = self.home.copy();
        }
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..4 {
        let store = world.open().unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
        world.check(&store);
        let operations = 1 + world.random.below(150);
        world.work(&store, operations);
        world.end_run(store);
    }
    let store = world.open().unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
    world.check(&store);
    store.close().unwrap();
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    match number("MINTAGE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MINTAGE_SIM_SEEDS").unwrap_or(300),
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_dead_lives_again() {
    for seed in seeds() {
        let result = std::panic::catch_unwind(|| run(seed));
        assert!(result.is_ok(), "failed with MINTAGE_SIM_SEED={seed}");
    }
}

/// Long runs, so that the oldest segments are cleaned all the while, cut off in the middle of it.
#[test]
fn segments_are_dropped_while_the_power_goes() {
    let mut dropped = 0;
    for seed in seeds().take(20) {
        let result = std::panic::catch_unwind(|| {
            let mut world = World::new(seed ^ 0xD509);
            let mut dropped = 0;
            for _ in 0..2 {
                let store = world.open().unwrap();
                world.check(&store);
                // On a busy machine the cleaner may come late: it gets its time, but not for ever.
                let first_segment = |world: &World| {
                    world.storage.names().into_iter().find(|name| name.ends_with(".log"))
                };
                let before = first_segment(&world);
                // Few enough operations that no access token grows too old by the clock they move.
                for _ in 0..20 {
                    world.work(&store, 300);
                    let start = std::time::Instant::now();
                    while first_segment(&world) == before && start.elapsed().as_millis() < 100 {
                        std::thread::yield_now();
                    }
                    if first_segment(&world) != before {
                        dropped += 1;
                        break;
                    }
                }
                world.storage = world.storage.cut_power(&mut world.random);
                drop(store);
            }
            let store = world.open().unwrap();
            world.check(&store);
            dropped
        });
        let Ok(more) = result else { panic!("failed with MINTAGE_SIM_SEED={seed}") };
        dropped += more;
    }
    assert!(dropped > 0, "no segment was dropped");
}

#[test]
fn a_disk_that_skips_its_syncs_is_caught() {
    let caught = (0..200).any(|seed| {
        std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            world.storage.skip_syncs();
            let store = world.open().unwrap();
            world.work(&store, 40);
            world.storage = world.storage.cut_power(&mut world.random);
            drop(store);
            let store = world.open().unwrap();
            world.check(&store);
        })
        .is_err()
    });
    assert!(caught, "a lost write went unnoticed");
}

#[test]
fn every_failing_call_is_an_error_and_loses_nothing() {
    let calls = [Call::Write, Call::Sync, Call::Rename, Call::Open, Call::SyncNames];
    let mut random = Random::new(7);
    for call in calls {
        for nth in 1..16 {
            for for_good in [false, true] {
                for (kind, short) in [
                    (std::io::ErrorKind::Other, false),
                    (std::io::ErrorKind::StorageFull, false),
                    (std::io::ErrorKind::StorageFull, true),
                ] {
                    let fault = Fault { call, nth, for_good, kind, short };
                    let seed = random.next();
                    let result = std::panic::catch_unwind(|| with_fault(fault, seed));
                    assert!(result.is_ok(), "failed with {fault:?} and seed {seed}");
                }
            }
        }
    }
}

fn with_fault(fault: Fault, seed: u64) {
    let mut world = World::new(seed);
    // Half of them meet the fault at the start, half in a later segment.
    let is_late = seed % 2 == 1;
    if !is_late {
        world.storage.set_fault(Some(fault));
    }
    let store = match world.open() {
        Ok(store) => store,
        Err(_) => {
            world.storage.set_fault(None);
            world.open().unwrap_or_else(|error| panic!("{fault:?}: {error:?}"))
        }
    };
    if is_late {
        world.work(&store, 90);
        world.storage.set_fault(Some(fault));
    }
    world.work(&store, 30);
    world.storage.set_fault(None);
    if store.stats().read_only {
        let clock = Arc::clone(&world.clock);
        let bench = Bench { store: &store, clock: &clock };
        let refused = bench.try_issue(&pair("reports", "late"), PairPolicy::Unlimited, true);
        assert!(matches!(refused, Err(StoreError::ReadOnly)), "{fault:?}: {refused:?}");
    }
    let _ = store.close();
    drop(store);
    let store = world.open().unwrap_or_else(|error| panic!("{fault:?}: {error:?}"));
    world.check(&store);
    world.work(&store, 10);
    store.close().unwrap();
    // And once more from the log alone.
    world.home = MemoryCheckpointHome::default();
    let store = world.open().unwrap_or_else(|error| panic!("{fault:?}: {error:?}"));
    world.check(&store);
    store.close().unwrap();
}
