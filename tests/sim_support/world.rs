//! A world: a store on a simulated disk, some clients that use it at the same time, and crashes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use mintage::entropy::SeededEntropy;
use mintage::locator::{Digest, Locator};
use mintage::scope::Scope;
use mintage::store::{
    AccessBirth, DurableOptions, DurableStore, Find, Issue, Near, Outcome, Pair, PairPolicy, Put,
    Redeem, RefreshBirth, Revoke, Store, StoreError, Target, Ticket, Verb,
};
use mintage::time::{Clock, ManualClock, Timestamp};

use super::checkpoint::SimHome;
use super::{spawn, yield_now};
use crate::store_support::checker::{Checker, Looked, Op, Spot};
use crate::store_support::sim::{Call, Fault, Random, SimStorage};
use crate::store_support::{Access, Refresh, Tokens, clock, pair, root, wait};

const CLIENTS: [&str; 2] = ["reports", "mobile"];

/// Runs of worlds so far in which a write had several groups, and runs in all.
pub static GROUPED: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

/// What may go wrong in a world.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Calls of the disk fail, by one chance in so many a run.
    pub faults: u64,
    /// The last call of a run is chosen, by one chance in so many.
    pub ends: u64,
    /// Bits rot between two runs, by one chance in so many.
    pub rot: u64,
    /// The most operations of a client in a run.
    pub operations: u64,
    pub clients: u64,
    pub skips_sync: bool,
    /// One call that fails, at the first open or in the second run, and nothing else goes wrong.
    pub fault: Option<Fault>,
    /// Documents are written over and over, and the end comes when a segment is removed.
    pub cleans: bool,
    /// The store is closed while they work.
    pub closes: bool,
    /// How many subjects there are; the fewer, the more clients meet.
    pub subjects: u64,
}

impl Weather {
    /// All of it.
    pub const MIXED: Weather = Weather {
        faults: 5,
        ends: 3,
        rot: 40,
        operations: 16,
        clients: 3,
        skips_sync: false,
        fault: None,
        cleans: false,
        closes: false,
        subjects: 3,
    };
    /// Crashes alone.
    pub const CALM: Weather =
        Weather { faults: u64::MAX, ends: 2, rot: u64::MAX, ..Weather::MIXED };
    /// Crashes, and time enough for segments to be dropped.
    pub const LONG: Weather = Weather { operations: 50, ..Weather::CALM };
    /// Old records are superfluous because of new ones that are still on their way.
    pub const CLEANING: Weather = Weather { operations: 60, cleans: true, ..Weather::CALM };
    /// Crashes and rot.
    pub const ROTTEN: Weather = Weather { rot: 2, ..Weather::CALM };

    /// A few operations and no crash but the last, for schedules of every lock and counter.
    pub const SHORT: Weather = Weather { operations: 5, ends: u64::MAX, ..Weather::CALM };

    /// As `MINTAGE_SIM_WEATHER` names it; mixed by default.
    pub fn asked() -> Weather {
        match std::env::var("MINTAGE_SIM_WEATHER").as_deref() {
            Ok("calm") => Weather::CALM,
            Ok("long") => Weather::LONG,
            Ok("cleaning") => Weather::CLEANING,
            Ok("rotten") => Weather::ROTTEN,
            _ => Weather::MIXED,
        }
    }
}

/// What the clients of a world share.
struct Shared {
    store: DurableStore,
    checker: Arc<Checker>,
    clock: Arc<ManualClock>,
    /// Where digests come from.
    digests: Arc<Mutex<Random>>,
    policies: u64,
    storage: SimStorage,
    cleans: bool,
    subjects: u64,
}

struct World {
    seed: u64,
    random: Random,
    weather: Weather,
    storage: SimStorage,
    home: SimHome,
    clock: Arc<ManualClock>,
    checker: Arc<Checker>,
    digests: Arc<Mutex<Random>>,
    opened: u64,
    is_rotten: bool,
}

/// Runs the world of `seed`; a digest of all that was asked and answered in it.
pub fn run(seed: u64, weather: Weather) -> [u8; 32] {
    let random = Random::new(seed);
    let mut world = World {
        seed,
        weather,
        storage: SimStorage::new(),
        home: SimHome::default(),
        clock: clock(),
        checker: Arc::new(Checker::default()),
        digests: Arc::new(Mutex::new(Random::new(seed ^ 0xD16E))),
        random,
        opened: 0,
        is_rotten: false,
    };
    if super::number("MINTAGE_SIM_TRACE").is_some() {
        world.checker.trace();
    }
    if weather.skips_sync {
        world.storage.skip_syncs();
    }
    let runs = 2 + world.random.below(2);
    for _ in 0..runs {
        let Some(store) = world.open() else { return world.checker.digest() };
        if !world.audit(&store) {
            return world.checker.digest();
        }
        world.work(&store);
        world.end(store);
    }
    world.weather.ends = u64::MAX;
    world.weather.faults = u64::MAX;
    let Some(store) = world.open() else { return world.checker.digest() };
    world.audit(&store);
    match store.close() {
        // A checkpoint that had to be built anew is worth a word.
        Ok(())
        | Err(StoreError::Io {
            doing: "use the checkpoint, which is being rebuilt from the log, in",
            ..
        }) => {}
        Err(StoreError::Corrupt { .. }) if world.is_rotten => {}
        Err(error) => panic!("a store closes: {error:?}"),
    }
    world.checker.digest()
}

impl World {
    fn chance(&mut self, one_in: u64) -> bool {
        one_in != u64::MAX && self.random.one_in(one_in)
    }

    /// Opens the store, over as many crashes as there are; `None` when damage was reported.
    fn open(&mut self) -> Option<DurableStore> {
        for attempt in 0.. {
            // Crashes while opening come three in a row at most.
            let is_calm = attempt >= 3;
            let mut is_faulty = false;
            if self.weather.fault.is_some() && self.seed.is_multiple_of(2) && self.opened == 0 {
                is_faulty = true;
                self.storage.set_fault(self.weather.fault);
            } else if !is_calm && self.chance(self.weather.ends) {
                let last = 1 + self.random.below(60);
                self.storage.die_in(Some(last));
            } else if !is_calm && self.chance(self.weather.faults) {
                is_faulty = true;
                let fault = self.fault(12);
                self.storage.set_fault(Some(fault));
            }
            let fails = !is_calm && self.weather.ends != u64::MAX && self.chance(20);
            self.home.fail_in(if fails { 1 + self.random.below(40) } else { u64::MAX });
            self.opened += 1;
            let segment_len = if cfg!(mintage_sim) { 32 * 1024 } else { 128 * 1024 };
            let options = DurableOptions::default()
                .segment_len(segment_len)
                .resident_tokens_max(8)
                .clock(self.clock.clone())
                .entropy(Arc::new(SeededEntropy::new(self.seed ^ (self.opened << 48))));
            let storage = Arc::new(self.storage.clone());
            let opened =
                DurableStore::open_on(storage, Arc::new(self.home.clone()), &root(), options);
            self.storage.set_fault(None);
            match opened {
                Ok(store) => return Some(store),
                Err(_) if self.storage.is_dead() => self.crash(),
                Err(_) if is_faulty => {}
                Err(
                    StoreError::Corrupt { .. }
                    | StoreError::Format { .. }
                    | StoreError::WrongKey { .. },
                ) if self.is_rotten => return None,
                Err(StoreError::Io { doing: "make a checkpoint in", .. }) if !is_calm => {}
                Err(error) => panic!("the store does not open: {error:?}"),
            }
        }
        None
    }

    fn fault(&mut self, calls: u64) -> Fault {
        // Real threads would wait in real time for a checkpoint that cannot be built.
        let calls_of = if cfg!(mintage_sim) { Call::ALL.len() } else { 5 };
        let kinds = [std::io::ErrorKind::Other, std::io::ErrorKind::StorageFull];
        Fault {
            call: Call::ALL[self.random.index(calls_of)],
            nth: 1 + self.random.below(calls),
            for_good: self.random.one_in(2),
            kind: kinds[self.random.index(2)],
            short: self.random.one_in(2),
        }
    }

    fn crash(&mut self) {
        self.storage = if self.random.one_in(3) {
            self.storage.kill()
        } else {
            self.storage.cut_power(&mut self.random)
        };
        self.home = self.home.crash(&mut self.random);
        self.checker.crash();
        if self.chance(self.weather.rot) {
            self.rot();
        }
    }

    /// One bit of one file turns.
    fn rot(&mut self) {
        let names = self.storage.names();
        if names.is_empty() {
            return;
        }
        let name = &names[self.random.index(names.len())];
        let at = self.random.next();
        self.storage.damage(name, |bytes| {
            if !bytes.is_empty() {
                let bit = usize::try_from(at % (bytes.len() as u64 * 8)).unwrap();
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        });
        self.is_rotten = true;
    }

    fn work(&mut self, store: &DurableStore) {
        if self.weather.cleans {
            self.storage.die_at_removal(1 + self.random.below(6));
        } else if self.chance(self.weather.ends) {
            self.storage.die_in(Some(1 + self.random.below(200)));
        }
        if self.weather.fault.is_some() && self.seed % 2 == 1 && self.opened == 2 {
            self.storage.set_fault(self.weather.fault);
        } else if self.chance(self.weather.faults) {
            let fault = self.fault(20);
            self.storage.set_fault(Some(fault));
        }
        let shared = Arc::new(Shared {
            store: store.clone(),
            checker: Arc::clone(&self.checker),
            clock: Arc::clone(&self.clock),
            digests: Arc::clone(&self.digests),
            policies: self.seed,
            storage: self.storage.clone(),
            cleans: self.weather.cleans,
            subjects: self.weather.subjects,
        });
        let clients = 1 + self.random.below(self.weather.clients);
        let tasks: Vec<_> = (0..clients)
            .map(|n| {
                let operations = 1 + self.random.below(self.weather.operations);
                let random = Random::new(self.random.next());
                let shared = Arc::clone(&shared);
                spawn(move || Client { n, random, shared, waiting: Vec::new() }.run(operations))
            })
            .collect();
        if self.weather.closes {
            let _ = store.close();
        }
        for task in tasks {
            if let Err(panic) = task.join() {
                std::panic::resume_unwind(panic);
            }
        }
        let is_well = !self.weather.closes && !self.storage.is_dead() && !store.stats().read_only;
        if is_well && self.random.one_in(2) && settle(store, &self.clock) {
            self.storage.set_fault(None);
            self.audit(store);
        }
    }

    /// Whether there is a store to go on with: one that says it is damaged may stop.
    fn audit(&self, store: &DurableStore) -> bool {
        let most = if cfg!(mintage_sim) { 20 } else { 2 };
        for _ in 0..most {
            match self.checker.audit(store, &self.clock) {
                Ok(()) => return true,
                // A cold read may find the checkpoint lost, and nothing to build it from.
                Err(_) if self.storage.is_dead() => return true,
                Err(_) if self.is_rotten => return false,
                Err(StoreError::Unavailable | StoreError::Busy) => {}
                Err(error) => panic!("a lookup answered {error:?}"),
            }
        }
        panic!("lookups stay unanswered: {:?}", store.stats().last_error);
    }

    fn end(&mut self, store: DurableStore) {
        let stats = store.stats();
        GROUPED[0].fetch_add(u64::from(stats.groups > stats.syncs), Ordering::Relaxed);
        GROUPED[1].fetch_add(1, Ordering::Relaxed);
        if self.random.one_in(6) {
            let _ = store.close();
            drop(store);
            self.storage.set_fault(None);
            if self.storage.is_dead() {
                self.crash();
            } else {
                self.storage.die_in(None);
                self.checker.crash();
            }
            return;
        }
        // Its threads are still at it when it happens.
        self.crash();
        drop(store);
    }
}

/// Whether everything that was asked for so far is decided and published. A revocation whose ticket
/// was dropped is decided where tokens are read that are out of memory, in the order of the questions.
fn settle(store: &DurableStore, clock: &ManualClock) -> bool {
    let bucket = u32::try_from(clock.read().unix.0 / 60).unwrap();
    let locator = Locator { class: 6, bucket, id: 0 };
    let nowhere = Find::Access { locator, digest: Digest([0; 16]), used: false };
    if wait(store.find(nowhere, clock.read())).is_err() {
        return false;
    }
    let put = Put {
        kind: 1,
        name: Arc::from("last"),
        body: Some(Arc::from(*b"x")),
        create: false,
        ends: false,
    };
    for _ in 0..1_000 {
        match store.apply(Verb::Put(put.clone())).wait() {
            Ok(_) => return true,
            Err(StoreError::Busy) => yield_now(),
            Err(_) => return false,
        }
    }
    false
}

/// What a client waits for.
enum Asked {
    Issue(Op),
    Redeem(Op, Spot, u64),
    Revoke(Op, Target),
    Put(String),
}

struct Client {
    n: u64,
    random: Random,
    shared: Arc<Shared>,
    waiting: Vec<(Asked, Ticket<Outcome>)>,
}

impl Client {
    fn run(mut self, operations: u64) {
        for _ in 0..operations {
            // Real threads would wait, in real time, for lookups that nobody will answer.
            if !cfg!(mintage_sim) && self.shared.storage.is_dead() {
                break;
            }
            if self.shared.cleans && self.random.one_in(2) {
                self.put();
                continue;
            }
            match self.random.below(100) {
                0..26 => self.issue(),
                26..52 => self.redeem(),
                52..62 => self.revoke(),
                62..86 => self.look(),
                86..91 => self.put(),
                91..94 => self.jwt(),
                94..97 => {
                    let now = self.shared.clock.read();
                    let _ = self.shared.store.sweep(now);
                }
                _ => self.pass_time(),
            }
            while self.waiting.len() > 4 {
                let (asked, ticket) = self.waiting.remove(0);
                self.answer(asked, ticket);
            }
        }
        for (asked, ticket) in std::mem::take(&mut self.waiting) {
            self.answer(asked, ticket);
        }
    }

    fn pass_time(&mut self) {
        // One of them alone: others would set it back.
        if self.n == 0 {
            let secs = if self.random.one_in(8) { 400 } else { 1 + self.random.below(20) };
            self.shared.clock.advance(secs);
        }
    }

    fn digest(&self) -> Digest {
        let mut digests = self.shared.digests.lock().unwrap();
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&digests.next().to_le_bytes());
        bytes[8..].copy_from_slice(&digests.next().to_le_bytes());
        Digest(bytes)
    }

    fn access(&mut self, near: u64) -> (AccessBirth, Access) {
        let now = self.shared.clock.read().unix;
        let (class, lifetime) = if self.random.one_in(3) { (1, 90) } else { (6, 3_600) };
        let bucket = u32::try_from(now.0 / 60).unwrap();
        let id = self.shared.store.draw(Near::Id(near));
        let access = Access { locator: Locator { class, bucket, id }, digest: self.digest() };
        let birth = AccessBirth {
            handle: Some((access.locator, access.digest)),
            issued_at: now,
            expires_at: now.plus(lifetime),
            scope: Scope::parse(if self.random.one_in(2) { "api web" } else { "api" }).unwrap(),
            audience: Arc::from("https://api.example"),
            tag: 0,
        };
        (birth, access)
    }

    fn ask(&mut self, asked: Asked, op: Option<Op>, verb: Verb) {
        let ticket = self.shared.store.apply(verb);
        if let Some(op) = op {
            self.shared.checker.decided(op, self.shared.store.admission());
        }
        match self.random.below(10) {
            // Never asked for again.
            0 => drop(ticket),
            1..3 => self.waiting.push((asked, ticket)),
            _ => self.answer(asked, ticket),
        }
    }

    fn answer(&mut self, asked: Asked, ticket: Ticket<Outcome>) {
        // A thread waits, and may lead; or a runtime awaits.
        let answer = if self.random.one_in(3) { wait(ticket) } else { ticket.wait() };
        let checker = &self.shared.checker;
        match asked {
            Asked::Issue(op) => checker.end_issue(op, &answer),
            Asked::Redeem(op, at, cap) => {
                checker.end_redeem(op, at, cap, &answer, &self.shared.clock);
            }
            Asked::Revoke(op, target) => checker.end_revoke(op, &target, &answer),
            Asked::Put(name) => checker.end_put(&name, &answer),
        }
        if matches!(answer, Err(StoreError::Busy)) {
            yield_now();
        }
    }

    fn pair(&mut self) -> (Pair, PairPolicy) {
        let client = self.random.below(CLIENTS.len() as u64);
        let subject = self.random.below(self.shared.subjects);
        let pair = pair(CLIENTS[usize::try_from(client).unwrap()], &format!("user-{subject}"));
        // A pair keeps its policy.
        let policy = match (self.shared.policies / 7 + client * self.shared.subjects + subject) % 4
        {
            0 => PairPolicy::Replace,
            1 => PairPolicy::Newest(2),
            _ => PairPolicy::Unlimited,
        };
        (pair, policy)
    }

    fn issue(&mut self) {
        let (pair, policy) = self.pair();
        let shared = Arc::clone(&self.shared);
        let admission = shared.checker.admission(&shared.store);
        let family = shared.store.draw(Near::Pair(&pair));
        let grant = shared.store.draw(Near::Id(family));
        let (birth, access) = self.access(family);
        let refresh = (!self.random.one_in(4)).then(|| Refresh {
            family,
            generation: 1,
            digest: self.digest(),
        });
        let tokens = Tokens { family, grant, access, refresh };
        let expires_at = birth.expires_at.0;
        let op = shared.checker.begin_issue(
            &pair,
            policy,
            admission,
            &tokens,
            expires_at,
            &shared.clock,
        );
        let verb = Verb::Issue(Box::new(Issue {
            pair,
            policy,
            admission,
            now: shared.clock.read(),
            family,
            only_in: None,
            grant,
            key_version: 1,
            salt: [1; 16],
            request: [2; 16],
            access: birth,
            refresh: refresh.map(|r| RefreshBirth {
                digest: r.digest,
                expires_at: Timestamp::NEVER,
                idle_secs: 0,
                audience: None,
            }),
            code: None,
        }));
        self.ask(Asked::Issue(op), Some(op), verb);
    }

    fn redeem(&mut self) {
        let shared = Arc::clone(&self.shared);
        let spots = shared.checker.spots();
        if spots.is_empty() {
            return;
        }
        let mut at = spots[self.random.index(spots.len())];
        if !self.random.one_in(3) {
            // Mostly the one in force.
            let of = spots.iter().filter(|spot| spot.family == at.family);
            at = of.copied().max_by_key(|spot| spot.generation).unwrap();
        }
        let arrival = shared.checker.arrival(&shared.store);
        let refresh = shared.checker.refresh(at);
        let (birth, access) = self.access(refresh.family);
        let digest = self.digest();
        let next = Refresh { generation: refresh.generation + 1, digest, ..refresh };
        let cap = if self.random.one_in(3) { 0 } else { 60 };
        let expires_at = birth.expires_at.0;
        let op = shared.checker.begin_redeem(at, arrival, next, access, expires_at, &shared.clock);
        let verb = Verb::Redeem(Box::new(Redeem {
            family: refresh.family,
            generation: refresh.generation,
            digest: refresh.digest,
            arrival: arrival.seq,
            was_in_force: false,
            now: shared.clock.read(),
            retry_secs_max: cap,
            key_version: 1,
            salt: [3; 16],
            request: [2; 16],
            successor: Some(next.digest),
            access: birth,
        }));
        self.ask(Asked::Redeem(op, at, cap), Some(op), verb);
    }

    fn revoke(&mut self) {
        let shared = Arc::clone(&self.shared);
        let (pair, _) = self.pair();
        let known = shared.checker.len();
        let n = if known == 0 { 0 } else { self.random.index(known) };
        let aimed = shared.checker.target(n);
        let target = match (self.random.below(12), aimed) {
            (0, _) => Target::Everything,
            (1, _) => Target::Client(pair.client),
            (2..4, _) => Target::Subject(pair.subject),
            (4..6, _) => Target::Pair(pair.client, pair.subject),
            (6, Some((_, Some(grant), _))) => Target::Grant(grant),
            (7..9, Some((Some(family), ..))) => Target::Family(family),
            (_, Some((.., Some(access)))) => Target::Access(access.locator, access.digest),
            _ => match shared.checker.jwt(n) {
                Some((jti, expires_at)) => Target::Jwt { jti, expires_at: Timestamp(expires_at) },
                None => return,
            },
        };
        let above = shared.checker.admission(&shared.store);
        let op = shared.checker.begin_revoke(&target, above, &shared.clock);
        let verb = Verb::Revoke(Revoke { target: target.clone(), now: shared.clock.read() });
        self.ask(Asked::Revoke(op, target), Some(op), verb);
    }

    fn look(&mut self) {
        let all = self.shared.checker.lookups();
        if all.is_empty() {
            return;
        }
        for _ in 0..2 {
            let looked = all[self.random.index(all.len())];
            let used = matches!(looked, Looked::Token(_)) && self.random.one_in(3);
            self.shared.checker.look(&self.shared.store, looked, used, &self.shared.clock);
        }
    }

    fn put(&mut self) {
        let names = if self.shared.cleans { 12 } else { 3 };
        let name = format!("{}-{}", self.n, self.random.below(names));
        if self.waiting.iter().any(|(asked, _)| matches!(asked, Asked::Put(n) if *n == name)) {
            return;
        }
        let body = (!self.random.one_in(4))
            .then(|| -> Arc<[u8]> { Arc::from(vec![7; 1 + self.random.index(300)]) });
        self.shared.checker.begin_put(&name, body.clone());
        let put = Put { kind: 0, name: Arc::from(name.as_str()), body, create: false, ends: false };
        self.ask(Asked::Put(name), None, Verb::Put(put));
    }

    fn jwt(&mut self) {
        let spots = self.shared.checker.spots();
        if !spots.is_empty() {
            let at = spots[self.random.index(spots.len())];
            let expires_at = self.shared.clock.read().unix.0 + 3_600;
            self.shared.checker.add_jwt(at.family, self.digest(), expires_at);
        }
    }
}
