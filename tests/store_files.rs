//! A durable store and its files: reopening, damage, loss of the checkpoint, locks, keys, space.

mod store_support;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use mintage::root_key::RootKey;
use mintage::store::{
    Change, Checkpoint, CheckpointError, CheckpointHome, DurableStore, KeyValue,
    MemoryCheckpointHome, PairPolicy, RedeemOutcome, Revoke, Stats, Store, StoreError, Target,
    Verb,
};
use mintage::time::Clock as _;
use store_support::sim::{Call, Fault, SimStorage};
use store_support::{
    Access, Bench, LIFETIME, Refresh, TempDir, clock, copy_dir, durable, options, pair, root,
};

/// What a store was told, to be compared with what it says later.
#[derive(Clone, Default)]
struct Told {
    live: Vec<Access>,
    dead: Vec<Access>,
    redeemable: Vec<Refresh>,
    spent: Vec<Refresh>,
}

impl Told {
    fn tell(&mut self, bench: &Bench<'_, impl Store>, families: u64) {
        let round = self.live.len() + self.dead.len();
        for n in 0..families {
            let here = pair("reports", &format!("user-{round}-{n}"));
            let tokens = bench.issue(&here);
            let first = tokens.refresh.unwrap();
            let (outcome, access, second) = bench.redeem(first);
            assert!(matches!(outcome, RedeemOutcome::Redeemed { .. }));
            self.spent.push(first);
            let all = [tokens.access, access];
            match n % 4 {
                0 => {
                    bench.revoke(Target::Subject(here.subject));
                    self.dead.extend(all);
                    self.spent.push(second);
                }
                1 => {
                    bench.revoke(Target::Access(access.locator, access.digest));
                    self.dead.push(access);
                    self.live.push(tokens.access);
                    self.redeemable.push(second);
                }
                _ => {
                    self.live.extend(all);
                    self.redeemable.push(second);
                }
            }
        }
    }

    fn check(&self, bench: &Bench<'_, impl Store>) {
        assert!(self.live.iter().all(|access| bench.is_live(*access)));
        assert!(!self.dead.iter().any(|access| bench.is_live(*access)));
        assert!(self.redeemable.iter().all(|refresh| bench.is_redeemable(*refresh)));
        assert!(!self.spent.iter().any(|refresh| bench.is_redeemable(*refresh)));
    }
}

fn newest_table(sled: &Path) -> std::path::PathBuf {
    fs::read_dir(sled).unwrap().map(|entry| entry.unwrap().path()).max().unwrap()
}

#[test]
fn a_reopened_store_answers_as_before() {
    let dir = TempDir::new("reopen");
    let clock = clock();
    let mut told = Told::default();
    for round in 0..4 {
        let store = durable(dir.path(), &clock).unwrap();
        let bench = Bench { store: &store, clock: &clock };
        told.check(&bench);
        told.tell(&bench, 20);
        told.check(&bench);
        if round % 2 == 0 {
            store.close().unwrap();
        }
    }
}

#[test]
fn a_lost_damaged_or_older_checkpoint_changes_no_answer() {
    let dir = TempDir::new("checkpoint");
    let older = TempDir::new("checkpoint-older");
    let clock = clock();
    let sled = dir.path().join("sled");
    let mut told = Told::default();
    for round in 0..10u64 {
        let store = durable(dir.path(), &clock).unwrap();
        let bench = Bench { store: &store, clock: &clock };
        told.check(&bench);
        told.tell(&bench, 12);
        store.close().unwrap();
        let table = newest_table(&sled);
        let db = table.join("db");
        let bytes = fs::read(&db).unwrap();
        match round {
            0 => copy_dir(&sled, older.path()),
            1 => fs::remove_dir_all(&sled).unwrap(),
            2 => fs::write(&db, &bytes[..bytes.len() / 2]).unwrap(),
            3 => fs::write(&db, b"").unwrap(),
            4 => {
                fs::remove_dir_all(&sled).unwrap();
                copy_dir(older.path(), &sled);
            }
            5 => fs::remove_file(table.join("conf")).unwrap(),
            6 => fs::write(table.join("snap.0000000000000FFF.generating"), b"junk").unwrap(),
            7 => {
                let mut bent = bytes.clone();
                for at in (0..bent.len()).step_by(1_009) {
                    bent[at] ^= 0x10;
                }
                fs::write(&db, bent).unwrap();
            }
            8 => {
                let mut bent = bytes.clone();
                let middle = bent.len() / 2;
                bent[middle..].fill(0);
                fs::write(&db, bent).unwrap();
            }
            _ => {}
        }
    }
    let store = durable(dir.path(), &clock).unwrap();
    told.check(&Bench { store: &store, clock: &clock });
}

#[test]
fn a_token_out_of_memory_is_read_back_from_the_checkpoint() {
    let dir = TempDir::new("cold");
    let clock = clock();
    let open = || {
        DurableStore::open(dir.path(), &root(), options(&clock).resident_tokens_max(64)).unwrap()
    };
    let mut told = Told::default();
    let store = open();
    let bench = Bench { store: &store, clock: &clock };
    told.tell(&bench, 200);
    // The keeper evicts on its own time; what matters is that the answers stay the same throughout.
    for _ in 0..50 {
        told.check(&bench);
        if store.stats().cold_reads > 100 {
            break;
        }
        std::thread::yield_now();
    }
    store.close().unwrap();
    let store = open();
    let bench = Bench { store: &store, clock: &clock };
    assert_eq!(store.stats().tokens_resident, 0);
    told.check(&bench);
    assert!(store.stats().cold_reads > 0);
    // One that was cold is revoked through its cold read.
    let victim = told.live.pop().unwrap();
    store.close().unwrap();
    let store = open();
    let bench = Bench { store: &store, clock: &clock };
    assert!(bench.revoke(Target::Access(victim.locator, victim.digest)).is_some());
    told.dead.push(victim);
    told.check(&bench);
    store.close().unwrap();
    let store = open();
    told.check(&Bench { store: &store, clock: &clock });
}

#[test]
fn the_log_stays_within_its_bound_and_keeps_every_survivor() {
    let dir = TempDir::new("bound");
    let clock = clock();
    let store = durable(dir.path(), &clock).unwrap();
    let bench = Bench { store: &store, clock: &clock };
    let mut told = Told::default();
    let mut first_segments = 0;
    for _ in 0..60 {
        told.tell(&bench, 16);
        first_segments = first_segments.max(store.stats().segments);
    }
    let stats = store.stats();
    told.check(&bench);
    // Lone commits take a block each: this many segments would be needed without cleaning.
    assert!(stats.groups * 4_096 / (128 * 1024) > 60, "{stats:?}");
    assert!(first_segments < 40, "{first_segments} segments, {stats:?}");
    store.close().unwrap();
    let store = durable(dir.path(), &clock).unwrap();
    told.check(&Bench { store: &store, clock: &clock });
    store.close().unwrap();
    // Without a checkpoint everything must come from the log.
    fs::remove_dir_all(dir.path().join("sled")).unwrap();
    let store = durable(dir.path(), &clock).unwrap();
    told.check(&Bench { store: &store, clock: &clock });
}

/// What the cleaner writes again takes far less room than what it drops, though nearly every token
/// must be read back from the checkpoint first.
#[test]
fn cleaning_shrinks_a_log_whose_tokens_are_out_of_memory() {
    // A fast disk, where no group has time to gather more.
    let dir = TempDir::fast("cleaning");
    let clock = clock();
    let open = || {
        DurableStore::open(dir.path(), &root(), options(&clock).resident_tokens_max(64)).unwrap()
    };
    let store = open();
    let bench = Bench { store: &store, clock: &clock };
    let mut told = Told::default();
    let mut segments_max = 0;
    // Lone commits: far more log than its bound.
    for _ in 0..40 {
        told.tell(&bench, 24);
        segments_max = segments_max.max(store.stats().segments);
    }
    let before = store.stats();
    let bound = |stats: &Stats| {
        let live = told.live.len() as u64 * 128 + stats.families * 256 + stats.grants * 192;
        live * 3 / (128 * 1024) + 4
    };
    let begun = std::time::Instant::now();
    let settled = loop {
        let stats = store.stats();
        std::thread::sleep(std::time::Duration::from_millis(300));
        segments_max = segments_max.max(stats.segments);
        if store.stats().records == stats.records && stats.segments <= bound(&stats) + 6 {
            break stats;
        }
        let bound = bound(&stats);
        assert!(begun.elapsed().as_secs() < 60, "it does not come to rest: {bound}, {stats:?}");
    };
    let bound = bound(&settled);
    assert!(segments_max <= 2 * bound + 8, "{segments_max} of {bound}, {settled:?}");
    // Six records a lone commit of ours has at most; what was written without us came together.
    let (records, groups) = (settled.records - before.records, settled.groups - before.groups);
    assert!(records < 400 || records / groups.max(1) > 12, "{records} records in {groups} groups");
    told.check(&bench);
    store.close().unwrap();
    let store = open();
    told.check(&Bench { store: &store, clock: &clock });
}

#[test]
fn an_open_directory_is_locked_and_says_by_whom() {
    let dir = TempDir::new("locked");
    let clock = clock();
    let store = durable(dir.path(), &clock).unwrap();
    let error = durable(dir.path(), &clock).unwrap_err();
    let StoreError::Locked { holder, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*holder, format!("process {}", std::process::id()));
    store.close().unwrap();
    assert!(durable(dir.path(), &clock).is_ok());
}

/// A forked child shares every open file until it executes its program, and locks with it.
#[test]
fn a_closed_store_opens_again_while_children_are_spawned() {
    let dir = TempDir::new("forks");
    let clock = clock();
    let mut tables = std::collections::BTreeSet::new();
    let is_done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
                    let _ = std::process::Command::new("true").status();
                }
            });
        }
        for round in 0..150 {
            let store = durable(dir.path(), &clock);
            tables
                .extend(newest_table(&dir.path().join("sled")).file_name().map(ToOwned::to_owned));
            is_done.store(round == 149 || store.is_err(), std::sync::atomic::Ordering::Relaxed);
            store.unwrap().close().unwrap();
        }
    });
    // sled locks its table too, and its own threads outlive it for a moment: it was waited for.
    assert_eq!(tables.len(), 1, "the checkpoint was rebuilt: {tables:?}");
}

/// A checkpoint that cannot be made, or whose syncs fail.
#[derive(Debug, Default)]
struct BrokenHome {
    refuses: std::sync::atomic::AtomicBool,
    memory: MemoryCheckpointHome,
}

struct Unsynced(Box<dyn Checkpoint>);

impl Checkpoint for Unsynced {
    fn last_up_to(&self, low: &[u8], key: &[u8]) -> Result<Option<KeyValue>, CheckpointError> {
        self.0.last_up_to(low, key)
    }

    fn scan(
        &self,
        low: &[u8],
        high: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), CheckpointError> {
        self.0.scan(low, high, each)
    }

    fn write(&mut self, batch: Vec<Change>) -> Result<(), CheckpointError> {
        self.0.write(batch)
    }

    fn harden(&mut self) -> Result<(), CheckpointError> {
        Err(CheckpointError::Damaged("it cannot be synced"))
    }
}

impl CheckpointHome for BrokenHome {
    fn open(&self) -> Result<Box<dyn Checkpoint>, CheckpointError> {
        if self.refuses.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(CheckpointError::Damaged("it cannot be made"));
        }
        Ok(Box::new(Unsynced(self.memory.open()?)))
    }

    fn destroy(&self) -> Result<(), CheckpointError> {
        self.memory.destroy()
    }
}

/// Whether the newer slot of the superblock says that the store was closed with its checkpoint.
fn is_clean(storage: &SimStorage) -> bool {
    let mut newest = (0, false);
    storage.damage("superblock", |bytes| {
        for slot in bytes.chunks(4_096) {
            let version = u64::from_le_bytes(slot[16..24].try_into().unwrap());
            newest = newest.max((version, slot[12] == 1));
        }
    });
    newest.1
}

#[test]
fn a_store_whose_checkpoint_could_not_be_synced_is_not_closed_clean() {
    let clock = clock();
    for is_broken in [false, true] {
        let storage = SimStorage::new();
        let home: Arc<dyn CheckpointHome> = if is_broken {
            Arc::new(BrokenHome::default())
        } else {
            Arc::new(MemoryCheckpointHome::default())
        };
        let shared = Arc::new(storage.clone());
        let store = DurableStore::open_on(shared, home, &root(), options(&clock)).unwrap();
        Told::default().tell(&Bench { store: &store, clock: &clock }, 4);
        assert_eq!(store.close().is_err(), is_broken);
        assert_eq!(is_clean(&storage), !is_broken);
    }
}

#[test]
fn a_checkpoint_that_cannot_be_made_stops_nothing_and_is_tried_again() {
    let clock = clock();
    let storage = SimStorage::new();
    let home = Arc::new(BrokenHome::default());
    home.refuses.store(true, std::sync::atomic::Ordering::SeqCst);
    let mut told = Told::default();
    let open = || {
        let home = Arc::clone(&home) as Arc<dyn CheckpointHome>;
        DurableStore::open_on(Arc::new(storage.clone()), home, &root(), options(&clock))
    };
    for round in 0..2 {
        let store = open().unwrap();
        let bench = Bench { store: &store, clock: &clock };
        told.check(&bench);
        told.tell(&bench, 8);
        told.check(&bench);
        // What memory does not know is nowhere: said at once, without a checkpoint to ask.
        let stranger = store_support::access_birth(7, mintage::time::Timestamp(1)).1;
        let asked = std::time::Instant::now();
        assert!(!bench.is_live(stranger));
        assert!(asked.elapsed() < std::time::Duration::from_secs(4));
        let stats = store.stats();
        assert!(stats.last_error.is_some() && !stats.read_only, "{stats:?}");
        assert_eq!(stats.checkpointed, mintage::store::Lsn(0));
        if round == 0 {
            assert!(store.close().is_err(), "it was closed without its checkpoint");
            continue;
        }
        home.refuses.store(false, std::sync::atomic::Ordering::SeqCst);
        let begun = std::time::Instant::now();
        while store.stats().checkpointed < store.stats().durable {
            assert!(begun.elapsed().as_secs() < 60, "{:?}", store.stats());
            std::thread::yield_now();
        }
        told.check(&bench);
    }
}

#[test]
fn a_wrong_or_missing_root_key_is_refused_and_changes_nothing() {
    let dir = TempDir::new("key");
    let clock = clock();
    let mut told = Told::default();
    let store = durable(dir.path(), &clock).unwrap();
    told.tell(&Bench { store: &store, clock: &clock }, 4);
    store.close().unwrap();
    let try_open = |key: &RootKey| DurableStore::open(dir.path(), key, options(&clock));
    for wrong in [RootKey::from_bytes(1, [43; 32]), RootKey::from_bytes(2, [42; 32])] {
        assert!(matches!(try_open(&wrong), Err(StoreError::WrongKey { .. })));
    }
    let missing = RootKey::from_file(dir.path().with_extension("key")).unwrap();
    assert!(matches!(try_open(&missing), Err(StoreError::WrongKey { .. })));
    assert!(!dir.path().with_extension("key").exists());
    // A new version beside the old one opens, and from then on is needed.
    let both = root().with_version(2, [44; 32]).unwrap();
    let store = try_open(&both).unwrap();
    told.check(&Bench { store: &store, clock: &clock });
    store.close().unwrap();
    assert!(matches!(try_open(&root()), Err(StoreError::WrongKey { .. })));
    assert!(try_open(&RootKey::from_bytes(2, [44; 32])).is_ok());
}

/// A small store on a simulated disk, closed, and what it was told.
fn closed_store(families: u64) -> (SimStorage, Told, Arc<mintage::time::ManualClock>) {
    let clock = clock();
    let storage = SimStorage::new();
    let store = open_sim(&storage, &clock).unwrap();
    let mut told = Told::default();
    told.tell(&Bench { store: &store, clock: &clock }, families);
    store.close().unwrap();
    (storage, told, clock)
}

fn open_sim(
    storage: &SimStorage,
    clock: &Arc<mintage::time::ManualClock>,
) -> Result<DurableStore, StoreError> {
    let home = Arc::new(MemoryCheckpointHome::default());
    DurableStore::open_on(Arc::new(storage.clone()), home, &root(), options(clock))
}

fn first_segment(storage: &SimStorage) -> String {
    storage.names().into_iter().find(|name| name.ends_with(".log")).unwrap()
}

#[test]
fn no_flipped_bit_of_a_sealed_log_is_accepted_or_shortens_it() {
    let (storage, told, clock) = closed_store(2);
    let name = first_segment(&storage);
    let mut used = 0;
    storage.damage(&name, |bytes| {
        used = bytes.iter().rposition(|b| *b != 0).unwrap() + 1;
    });
    let mut refused = 0;
    // One bit of every 13th byte that is used; every bit is for the long campaign.
    for at in (0..used).step_by(13) {
        let bent = storage.copy();
        bent.damage(&name, |bytes| bytes[at] ^= 1 << (at % 8));
        match open_sim(&bent, &clock) {
            Err(StoreError::Corrupt { .. }) => refused += 1,
            Err(other) => panic!("byte {at}: {other:?}"),
            Ok(store) => told.check(&Bench { store: &store, clock: &clock }),
        }
    }
    assert_eq!(refused, used.div_ceil(13), "a flipped bit was accepted");
}

#[test]
fn a_shortened_zeroed_missing_or_older_segment_is_refused() {
    let (storage, _, clock) = closed_store(60);
    let names: Vec<String> =
        storage.names().into_iter().filter(|name| name.ends_with(".log")).collect();
    let used: Vec<&String> = names
        .iter()
        .filter(|name| {
            let mut is_used = false;
            storage.damage(name, |bytes| is_used = bytes[4_096..].iter().any(|b| *b != 0));
            is_used
        })
        .collect();
    assert!(used.len() > 3, "{}", used.len());
    for name in &used {
        for harm in ["shortened", "zeroed", "half zeroed", "swapped"] {
            let bent = storage.copy();
            let mut other = Vec::new();
            bent.damage(used[0], |bytes| other.clone_from(bytes));
            if harm == "swapped" && *name == used[0] {
                continue;
            }
            bent.damage(name, |bytes| match harm {
                "shortened" => bytes.truncate(bytes.len() - 4_096),
                "zeroed" => bytes[4_096..].fill(0),
                "half zeroed" => {
                    let end = bytes.iter().rposition(|b| *b != 0).unwrap();
                    bytes[4_096 + (end - 4_096) / 2 / 4_096 * 4_096..].fill(0);
                }
                _ => bytes.clone_from(&other),
            });
            let opened = open_sim(&bent, &clock);
            assert!(matches!(opened, Err(StoreError::Corrupt { .. })), "{name} {harm}");
        }
        let bent = storage.copy();
        mintage::store::Storage::remove(&bent, name).unwrap();
        assert!(matches!(open_sim(&bent, &clock), Err(StoreError::Corrupt { .. })), "{name} gone");
    }
}

#[test]
fn a_store_of_a_newer_format_is_refused_by_name() {
    let (storage, _, clock) = closed_store(1);
    storage.damage("superblock", |bytes| {
        for slot in bytes.chunks_mut(4_096) {
            slot[8] = 9;
            let sum = blake3::hash(&slot[..4_080]);
            slot[4_080..].copy_from_slice(&sum.as_bytes()[..16]);
        }
    });
    assert!(matches!(open_sim(&storage, &clock), Err(StoreError::Format { .. })));
}

#[test]
fn one_bad_superblock_slot_is_survived_and_two_are_refused() {
    let (storage, told, clock) = closed_store(4);
    for slot in 0..2 {
        let bent = storage.copy();
        bent.damage("superblock", |bytes| bytes[slot * 4_096 + 100] ^= 1);
        let store = open_sim(&bent, &clock).unwrap();
        told.check(&Bench { store: &store, clock: &clock });
    }
    let bent = storage.copy();
    bent.damage("superblock", |bytes| {
        bytes[100] ^= 1;
        bytes[4_196] ^= 1;
    });
    assert!(matches!(open_sim(&bent, &clock), Err(StoreError::Corrupt { .. })));
}

#[test]
fn a_dropped_ticket_neither_undoes_nor_delays() {
    let dir = TempDir::new("dropped");
    let clock = clock();
    let store = durable(dir.path(), &clock).unwrap();
    let bench = Bench { store: &store, clock: &clock };
    let here = pair("reports", "user-1");
    let (verb, tokens) = bench.issue_verb(&here, PairPolicy::Unlimited, true, store.admission());
    drop(store.apply(verb));
    // The next commit covers it.
    bench.issue(&pair("reports", "user-2"));
    assert!(bench.is_live(tokens.access));
}

#[test]
fn clocks_that_jump_revive_and_reclaim_nothing() {
    let dir = TempDir::new("clock");
    let clock = clock();
    let store = durable(dir.path(), &clock).unwrap();
    let bench = Bench { store: &store, clock: &clock };
    let long = bench.issue(&pair("reports", "user-1")).refresh.unwrap();
    let short = bench.issue(&pair("reports", "user-2")).access;
    let start = mintage::time::Clock::read(&*clock).unix.0;
    clock.set(start + 50 * 365 * 86_400);
    assert!(!bench.is_live(short));
    for _ in 0..128 {
        store.sweep(mintage::time::Clock::read(&*clock)).unwrap();
    }
    clock.set(start + 1);
    store.close().unwrap();
    let store = durable(dir.path(), &clock).unwrap();
    let bench = Bench { store: &store, clock: &clock };
    assert!(bench.is_redeemable(long), "a jump ahead ended a family");
    clock.advance(LIFETIME + 120);
    assert!(!bench.is_live(short));
    bench.issue(&pair("reports", "user-3"));
    clock.set(start + 1);
    assert!(!bench.is_live(short), "a clock set back revived a token");
}

#[test]
fn a_kill_that_the_log_refused_is_refused_again() {
    let clock = clock();
    let storage = SimStorage::new();
    let store = open_sim(&storage, &clock).unwrap();
    let bench = Bench { store: &store, clock: &clock };
    let tokens = bench.issue(&pair("reports", "user-1"));
    storage.set_fault(Some(Fault {
        call: Call::Sync,
        nth: 1,
        for_good: true,
        kind: std::io::ErrorKind::Other,
        short: false,
    }));
    let failed = bench.try_issue(&pair("reports", "user-2"), PairPolicy::Unlimited, true);
    assert!(matches!(failed, Err(StoreError::Unknown(_))), "{failed:?}");
    let here = pair("reports", "user-1");
    for target in [
        Target::Access(tokens.access.locator, tokens.access.digest),
        Target::Family(tokens.family),
        Target::Grant(tokens.grant),
        Target::Subject(here.subject),
    ] {
        for _ in 0..2 {
            let now = mintage::time::Clock::read(&*clock);
            let revoke = Revoke { target: target.clone(), now };
            let answer = store.apply(Verb::Revoke(revoke)).wait();
            assert!(answer.is_err(), "{target:?} was called durable");
        }
    }
    assert!(!bench.is_live(tokens.access), "a refused kill is in effect all the same");
}

#[test]
fn a_segment_damaged_while_the_store_is_open_is_never_dropped() {
    let clock = clock();
    let storage = SimStorage::new();
    let store = open_sim(&storage, &clock).unwrap();
    let bench = Bench { store: &store, clock: &clock };
    let mut told = Told::default();
    told.tell(&bench, 4);
    let name = first_segment(&storage);
    storage.damage(&name, |bytes| bytes[4_096 + 20] ^= 1);
    // On and on until the log is over its bound: the cleaner comes to the damaged segment, cannot
    // read it, says so, and births are refused rather than anything dropped.
    for n in 0..20_000 {
        let here = pair("reports", &format!("more-{n}"));
        let (verb, _) = bench.issue_verb(&here, PairPolicy::Unlimited, true, store.admission());
        if let Err(StoreError::Busy) = store.apply(verb).wait()
            && store.stats().last_error.is_some()
        {
            break;
        }
    }
    let error = store.stats().last_error;
    assert!(matches!(error, Some(StoreError::Corrupt { .. } | StoreError::Io { .. })), "{error:?}");
    assert!(storage.names().contains(&name), "a segment that could not be read was dropped");
}

/// A kill that never reached the disk takes nothing with it: the login is as it was after the next
/// open, with the checkpoint and without it.
#[test]
fn a_kill_that_was_never_written_ends_nothing_for_good() {
    for keeps_checkpoint in [true, false] {
        let clock = clock();
        let storage = SimStorage::new();
        let home = MemoryCheckpointHome::default();
        let open = || {
            let (storage, home) = (Arc::new(storage.clone()), Arc::new(home.clone()));
            DurableStore::open_on(storage, home, &root(), options(&clock)).unwrap()
        };
        let store = open();
        let bench = Bench { store: &store, clock: &clock };
        let here = pair("reports", "user-1");
        let (_, tokens) = bench.try_issue(&here, PairPolicy::Replace, true).unwrap();
        let refresh = tokens.refresh.unwrap();
        while store.stats().checkpointed < store.stats().durable {
            std::thread::yield_now();
        }
        let call = Call::Write;
        let kind = std::io::ErrorKind::Other;
        storage.set_fault(Some(Fault { call, nth: 1, for_good: true, kind, short: false }));
        let now = clock.read();
        let revoke = Revoke { target: Target::Family(tokens.family), now };
        assert!(store.apply(Verb::Revoke(revoke)).wait().is_err());
        assert!(bench.try_issue(&here, PairPolicy::Replace, true).is_err());
        clock.advance(400);
        for _ in 0..64 {
            store.sweep(clock.read()).unwrap();
        }
        assert!(store.close().is_err());
        storage.set_fault(None);
        if !keeps_checkpoint {
            home.destroy().unwrap();
        }
        let store = open();
        let bench = Bench { store: &store, clock: &clock };
        assert!(bench.is_redeemable(refresh) && bench.is_live(tokens.access), "{keeps_checkpoint}");
        store.close().unwrap();
    }
}
