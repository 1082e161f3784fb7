//! What opens once stays used, and what a code gave stays given or ended, when the power is cut at
//! any call of the storage. One seed is one run; `MINTAGE_ONCE_SEEDS` sets how many (default 30).

mod store_support;

use std::sync::Arc;

use mintage::locator::Digest;
use mintage::store::{
    CodeBirth, CodeOutcome, CodeUse, DurableOptions, DurableStore, IssueOutcome, Listing,
    MemoryCheckpointHome, Near, Outcome, PairPolicy, Store, StoreError, UseOnce, UseOnceOutcome,
    Verb,
};
use mintage::time::{Clock, ManualClock};
use store_support::sim::{Random, SimStorage};
use store_support::{Bench, Tokens, clock, fresh_digest, pair, root, wait};

const CODE_SECS: u64 = 100_000;

/// What is known of a code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    Unspent,
    Spent,
    Replayed,
    /// A verb on it was begun and not answered.
    Open,
}

#[derive(Default)]
struct Ledger {
    codes: Vec<(CodeUse, usize, Known, Option<Tokens>)>,
    used: Vec<Digest>,
    lost: Vec<String>,
}

fn open(storage: &SimStorage, clock: &Arc<ManualClock>) -> Result<DurableStore, StoreError> {
    let options = DurableOptions::default().segment_len(64 * 1024).clock(clock.clone());
    let home = Arc::new(MemoryCheckpointHome::default());
    DurableStore::open_on(Arc::new(storage.clone()), home, &root(), options)
}

fn subject(n: usize) -> mintage::store::Pair {
    pair("reports", &format!("user-{n}"))
}

/// Steps until the storage dies or enough were made.
fn work(bench: &Bench<'_, DurableStore>, ledger: &mut Ledger, random: &mut Random) {
    for _ in 0..30 {
        match random.below(5) {
            0 => {
                let digest = fresh_digest();
                let expires_at = bench.clock.read().unix.plus(CODE_SECS);
                let once = UseOnce {
                    owner: Digest([1; 16]),
                    digest,
                    expires_at,
                    owner_max: u32::MAX,
                    now: bench.clock.read(),
                };
                if let Ok(Outcome::UseOnce(UseOnceOutcome::First)) =
                    bench.store.apply(Verb::UseOnce(once)).wait()
                {
                    ledger.used.push(digest);
                }
            }
            1 => {
                let who = random.index(4);
                let now = bench.clock.read();
                let id = bench.store.draw(Near::Pair(&subject(who)));
                let code = CodeUse { id, digest: fresh_digest() };
                let birth = CodeBirth {
                    pair: subject(who),
                    admission: bench.store.admission(),
                    now,
                    id,
                    digest: code.digest,
                    issued_at: now.unix,
                    expires_at: now.unix.plus(CODE_SECS),
                    body: Arc::from(&b"{}"[..]),
                };
                if let Ok(Outcome::Code(CodeOutcome::Born)) =
                    bench.store.apply(Verb::Code(Box::new(birth))).wait()
                {
                    ledger.codes.push((code, who, Known::Unspent, None));
                }
            }
            _ if ledger.codes.is_empty() => {}
            _ => {
                let at = random.index(ledger.codes.len());
                let (code, who, known, _) = ledger.codes[at];
                let (outcome, tokens) = redeem(bench, code, who);
                let entry = &mut ledger.codes[at];
                entry.2 = match (known, outcome) {
                    (_, Err(_)) if known == Known::Replayed => Known::Replayed,
                    (_, Err(_)) => Known::Open,
                    (Known::Open | Known::Unspent, Ok(IssueOutcome::Issued { .. })) => {
                        entry.3 = Some(tokens);
                        Known::Spent
                    }
                    (Known::Unspent, Ok(other)) => {
                        ledger.lost.push(format!("an unspent code gave {other:?}"));
                        Known::Open
                    }
                    (_, Ok(IssueOutcome::CodeReplayed)) => Known::Replayed,
                    (_, Ok(other)) => {
                        ledger.lost.push(format!("a {known:?} code gave {other:?}"));
                        Known::Open
                    }
                };
            }
        }
    }
}

fn redeem(
    bench: &Bench<'_, DurableStore>,
    code: CodeUse,
    who: usize,
) -> (Result<IssueOutcome, StoreError>, Tokens) {
    let admission = bench.store.admission();
    let (verb, mut tokens) =
        bench.issue_verb(&subject(who), PairPolicy::Unlimited, true, admission);
    let Verb::Issue(mut issue) = verb else { panic!("no issue") };
    issue.code = Some(code);
    let outcome = bench.store.apply(Verb::Issue(issue)).wait().map(|outcome| match outcome {
        Outcome::Issue(outcome) => outcome,
        other => panic!("{other:?}"),
    });
    if let Ok(IssueOutcome::Issued { family, grant, .. }) = outcome {
        (tokens.family, tokens.grant) = (family, grant);
    }
    (outcome, tokens)
}

/// Compares the store with what was acknowledged.
fn check(bench: &Bench<'_, DurableStore>, ledger: &mut Ledger) {
    for digest in &ledger.used {
        let once = UseOnce {
            owner: Digest([1; 16]),
            digest: *digest,
            expires_at: bench.clock.read().unix.plus(CODE_SECS),
            owner_max: u32::MAX,
            now: bench.clock.read(),
        };
        let outcome = bench.store.apply(Verb::UseOnce(once)).wait();
        if !matches!(outcome, Ok(Outcome::UseOnce(UseOnceOutcome::Again))) {
            ledger.lost.push(format!("a used value gave {outcome:?}"));
        }
    }
    for (code, _, known, tokens) in &ledger.codes {
        let view = wait(bench.store.list(Listing::Code(*code), None, 1)).unwrap().code;
        let Some(view) = view else {
            ledger.lost.push(format!("a {known:?} code is gone"));
            continue;
        };
        let fits = match known {
            Known::Unspent => view.live && !view.spent,
            Known::Spent | Known::Replayed => view.spent,
            Known::Open => true,
        };
        let is_live = tokens.is_some_and(|tokens| bench.is_live(tokens.access));
        let alive = match known {
            Known::Spent => is_live,
            Known::Replayed => !is_live,
            _ => true,
        };
        if !fits || !alive {
            ledger.lost.push(format!("a {known:?} code: {view:?}, live: {is_live}"));
        }
    }
}

fn run(seed: u64) -> Ledger {
    let mut random = Random::new(seed);
    let clock = clock();
    let mut storage = SimStorage::new();
    let mut ledger = Ledger::default();
    for _ in 0..6 {
        let store = open(&storage, &clock).unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
        let bench = Bench { store: &store, clock: &clock };
        check(&bench, &mut ledger);
        storage.die_in(Some(1 + random.below(120)));
        work(&bench, &mut ledger, &mut random);
        clock.advance(1);
        let cut = match random.one_in(3) {
            true => storage.kill(),
            false => storage.cut_power(&mut random),
        };
        drop(store);
        storage = cut;
    }
    let store = open(&storage, &clock).unwrap();
    check(&Bench { store: &store, clock: &clock }, &mut ledger);
    ledger
}

#[test]
fn what_opens_once_is_used_once_whenever_the_power_is_cut() {
    let seeds = std::env::var("MINTAGE_ONCE_SEEDS").ok().and_then(|n| n.parse().ok());
    let seeds = seeds.unwrap_or(30);
    let (mut codes, mut used, mut spent) = (0, 0, 0);
    // How far a run gets before its disk dies is up to the threads: as many more as it takes.
    for seed in 0..20 * seeds {
        if seed >= seeds && codes > 100 && used > 100 && spent > 50 {
            break;
        }
        let ledger = run(seed);
        assert!(ledger.lost.is_empty(), "seed {seed}: {:#?}", ledger.lost);
        codes += ledger.codes.len();
        used += ledger.used.len();
        spent += ledger.codes.iter().filter(|code| code.2 != Known::Unspent).count();
    }
    assert!(codes > 100 && used > 100 && spent > 50, "{codes} codes, {used} used, {spent} spent");
}
