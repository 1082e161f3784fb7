//! Histories as they happen: eight threads at one store, and what each was answered.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};

use mintage::store::{
    Find, IssueOutcome, Outcome, Pair, PairPolicy, RedeemOutcome, Revoke, Seq, Store, StoreError,
    Target, Verb,
};
use mintage::time::{Clock as _, ManualClock};

use super::{Answer, Event, Operation};
use crate::store_support::sim::Random;
use crate::store_support::{Access, Bench, Refresh, Tokens, pair, patiently, wait};

pub const THREADS: usize = 8;
pub const OPERATIONS: usize = 12;
const FAMILIES: usize = 4;
/// Tokens of a family that are looked at when all is over.
const LAST_LOOKS: usize = 16;

pub type FamilyEvent = Event<Operation, Answer>;
/// The events of one history, by family: a history can be ordered when each of its families can
/// (Herlihy and Wing, section 3.2).
pub type History = Vec<Vec<FamilyEvent>>;

/// What everybody knows of a family.
struct Board {
    pair: Pair,
    birth: Verb,
    tokens: Tokens,
    replaces: bool,
    refresh: Mutex<Vec<(u32, Refresh)>>,
    access: Mutex<Vec<(u32, Access)>>,
    /// Known once the birth was answered.
    grant: AtomicU64,
}

struct Recorder<'a, S> {
    bench: &'a Bench<'a, S>,
    ticks: AtomicU64,
    numbers: AtomicU32,
    boards: Vec<Board>,
    by_locator: Mutex<HashMap<u64, u32>>,
}

/// Records a history of families that `name` and `seed` choose.
pub fn history<S: Store>(store: &S, clock: &ManualClock, name: &str, seed: u64) -> History {
    let bench = Bench { store, clock };
    let mut random = Random::new(seed);
    let recorder = Recorder::new(&bench, name, &mut random);
    let barrier = Barrier::new(THREADS);
    let recorded: Vec<Vec<(usize, FamilyEvent)>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (recorder, barrier) = (&recorder, &barrier);
                let random = Random::new(random.next());
                scope.spawn(move || {
                    let mut worker = Worker { recorder, random, thread, events: Vec::new() };
                    barrier.wait();
                    (0..OPERATIONS).for_each(|n| worker.act(n));
                    worker.events
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut history: History = vec![Vec::new(); FAMILIES];
    for (family, event) in recorded.into_iter().flatten() {
        history[family].push(event);
    }
    recorder.end(&mut history, name);
    history
}

impl<'a, S: Store> Recorder<'a, S> {
    fn new(bench: &'a Bench<'a, S>, name: &str, random: &mut Random) -> Recorder<'a, S> {
        let numbers = AtomicU32::new(0);
        let mut by_locator = HashMap::new();
        let boards = (0..FAMILIES)
            .map(|n| {
                let pair = pair("app", &format!("{name}-{}", n / 2));
                let replaces = random.one_in(4);
                let policy = if replaces { PairPolicy::Replace } else { PairPolicy::Unlimited };
                let (birth, tokens) = bench.issue_verb(&pair, policy, true, Seq(0));
                let number = || numbers.fetch_add(1, Ordering::Relaxed);
                let (refresh, access) = (number(), number());
                by_locator.insert(tokens.access.locator.id, access);
                Board {
                    pair,
                    birth,
                    tokens,
                    replaces,
                    refresh: Mutex::new(vec![(refresh, tokens.refresh.unwrap())]),
                    access: Mutex::new(vec![(access, tokens.access)]),
                    grant: AtomicU64::new(0),
                }
            })
            .collect();
        let (ticks, by_locator) = (AtomicU64::new(0), Mutex::new(by_locator));
        Recorder { bench, ticks, numbers, boards, by_locator }
    }

    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::SeqCst)
    }

    /// Everything enqueued is durable; what nobody waited for has happened by now. One last look at
    /// every token.
    fn end(&self, history: &mut History, name: &str) {
        self.bench.issue(&pair("last", name));
        let over = self.tick();
        for event in history.iter_mut().flatten().filter(|event| event.answer.is_none()) {
            event.returned = over;
        }
        for (board, events) in self.boards.iter().zip(history) {
            let refresh = board.refresh.lock().unwrap().clone();
            let access = board.access.lock().unwrap().clone();
            let looks = refresh.into_iter().rev().take(LAST_LOOKS).map(Look::Refresh);
            let looks = looks.chain(access.into_iter().rev().take(LAST_LOOKS).map(Look::Access));
            for look in looks {
                let call = self.tick();
                let (operation, answer) = self.look(look, false);
                let returned = self.tick();
                let answer = Some(answer);
                events.push(Event { thread: THREADS, call, returned, operation, answer });
            }
        }
    }

    fn look(&self, look: Look, used: bool) -> (Operation, Answer) {
        let (operation, find) = match look {
            Look::Refresh((number, Refresh { family, generation, digest })) => (
                Operation::FindRefresh { refresh: number, generation },
                Find::Refresh { family, generation, digest },
            ),
            Look::Access((number, Access { locator, digest })) => (
                Operation::FindAccess { access: number, used },
                Find::Access { locator, digest, used },
            ),
        };
        let live = self.bench.find(find).is_some_and(|view| view.live);
        (operation, Answer::Found { live })
    }
}

#[derive(Clone, Copy)]
enum Look {
    Refresh((u32, Refresh)),
    Access((u32, Access)),
}

struct Worker<'a, S> {
    recorder: &'a Recorder<'a, S>,
    random: Random,
    thread: usize,
    events: Vec<(usize, FamilyEvent)>,
}

impl<S: Store> Worker<'_, S> {
    /// The first operations of the first threads give birth, the rest is chance.
    fn act(&mut self, n: usize) {
        let family = usize::try_from(self.random.below(FAMILIES as u64)).unwrap();
        if self.thread < FAMILIES && n == 0 {
            return self.issue(self.thread);
        }
        match self.random.below(100) {
            0..38 => self.redeem(family),
            38..64 => self.find(family, false),
            64..80 => self.find(family, true),
            80..84 => self.revoke_above(family),
            84..90 => self.revoke_access(family),
            90..94 => {
                let target = Target::Family(self.recorder.boards[family].tokens.family);
                self.revoke(&[family], &Operation::RevokeFamily, target);
            }
            _ => self.find_refresh(family),
        }
    }

    /// Records what `work` does between its call and its return.
    fn record<T>(
        &mut self,
        families: &[usize],
        operation: &Operation,
        work: impl FnOnce(&mut Random) -> T,
        answer: impl FnOnce(&T) -> Option<Answer>,
    ) -> T {
        let call = self.recorder.tick();
        if self.random.one_in(4) {
            std::thread::yield_now();
        }
        let result = work(&mut self.random);
        if self.random.one_in(8) {
            std::thread::yield_now();
        }
        let returned = self.recorder.tick();
        let answer = answer(&result);
        for family in families {
            let (operation, answer) = (operation.clone(), answer.clone());
            let event = Event { thread: self.thread, call, returned, operation, answer };
            self.events.push((*family, event));
        }
        result
    }

    fn admit(&mut self, family: usize) -> (u32, Seq) {
        let store = self.recorder.bench.store;
        let number = self.number();
        let done = |_: &Seq| Some(Answer::Done);
        let seq = self.record(&[family], &Operation::Admit(number), |_| store.admission(), done);
        (number, seq)
    }

    fn number(&self) -> u32 {
        self.recorder.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn pick<T: Copy>(&mut self, from: &Mutex<Vec<T>>) -> T {
        let from = from.lock().unwrap();
        // Mostly what is new: that is where the races are.
        let back = self.random.below(4).min(self.random.below(4));
        let at = from.len().saturating_sub(1 + usize::try_from(back).unwrap());
        from[at]
    }

    fn issue(&mut self, family: usize) {
        let recorder = self.recorder;
        let (admitted, admission) = self.admit(family);
        let board = &recorder.boards[family];
        let refresh = board.refresh.lock().unwrap()[0].0;
        let access = board.access.lock().unwrap()[0].0;
        let Verb::Issue(mut issue) = board.birth.clone() else { unreachable!("a birth") };
        issue.admission = admission;
        let verb = Verb::Issue(issue);
        let may_drop = !board.replaces;
        let store = recorder.bench.store;
        let operation = Operation::Issue { admitted, refresh, access };
        let work = |random: &mut Random| apply(store, &verb, random, may_drop);
        let outcome = self.record(&[family], &operation, work, |outcome| match outcome {
            Some(Outcome::Issue(IssueOutcome::Issued { .. })) => Some(Answer::Issued),
            Some(Outcome::Issue(IssueOutcome::Revoked)) => Some(Answer::Revoked),
            Some(other) => panic!("an issue answered {other:?}"),
            None => None,
        });
        if let Some(Outcome::Issue(IssueOutcome::Issued { grant, .. })) = outcome {
            board.grant.store(grant, Ordering::SeqCst);
            if board.replaces
                && let Some((_, FamilyEvent { call, returned, .. })) = self.events.last().cloned()
            {
                let (operation, answer) = (Operation::Replace, Some(Answer::Done));
                let event = Event { thread: self.thread, call, returned, operation, answer };
                self.events.push((family ^ 1, event));
            }
        }
    }

    fn redeem(&mut self, family: usize) {
        let recorder = self.recorder;
        let board = &recorder.boards[family];
        let (refresh, presented) = self.pick(&board.refresh);
        let (admitted, arrival) = self.admit(family);
        let (verb, born, next) = recorder.bench.redeem_verb(presented, 60, arrival);
        let request = u8::from(self.random.one_in(8));
        let Verb::Redeem(mut redeem) = verb else { unreachable!("a redeem") };
        redeem.request = [request; 16];
        let verb = Verb::Redeem(redeem);
        let (successor, access) = (self.number(), self.number());
        recorder.by_locator.lock().unwrap().insert(born.locator.id, access);
        let generation = presented.generation;
        let operation =
            Operation::Redeem { admitted, refresh, generation, successor, access, request };
        let store = recorder.bench.store;
        // Others may meet the tokens before this thread hears of them.
        let is_early = self.random.one_in(4);
        let tell = || {
            board.refresh.lock().unwrap().push((successor, next));
            board.access.lock().unwrap().push((access, born));
        };
        if is_early {
            tell();
        }
        let work = |random: &mut Random| apply(store, &verb, random, true);
        let by_locator = |id: u64| recorder.by_locator.lock().unwrap()[&id];
        let outcome = self.record(&[family], &operation, work, |outcome| {
            outcome.as_ref().map(|outcome| redeemed(outcome, by_locator))
        });
        let is_known =
            matches!(outcome, None | Some(Outcome::Redeem(RedeemOutcome::Redeemed { .. })));
        if !is_early && is_known {
            tell();
        }
    }

    fn find(&mut self, family: usize, used: bool) {
        let recorder = self.recorder;
        let look = Look::Access(self.pick(&recorder.boards[family].access));
        self.look(family, look, used);
    }

    fn find_refresh(&mut self, family: usize) {
        let recorder = self.recorder;
        let look = Look::Refresh(self.pick(&recorder.boards[family].refresh));
        self.look(family, look, false);
    }

    fn look(&mut self, family: usize, look: Look, used: bool) {
        let recorder = self.recorder;
        let operation = match look {
            Look::Refresh((refresh, Refresh { generation, .. })) => {
                Operation::FindRefresh { refresh, generation }
            }
            Look::Access((access, _)) => Operation::FindAccess { access, used },
        };
        let work = |_: &mut Random| recorder.look(look, used).1;
        self.record(&[family], &operation, work, |answer| Some(answer.clone()));
    }

    fn revoke_access(&mut self, family: usize) {
        let recorder = self.recorder;
        let (number, Access { locator, digest }) = self.pick(&recorder.boards[family].access);
        let target = Target::Access(locator, digest);
        self.revoke(&[family], &Operation::RevokeAccess(number), target);
    }

    fn revoke_above(&mut self, family: usize) {
        let board = &self.recorder.boards[family];
        let Pair { client, subject, .. } = board.pair.clone();
        let grant = board.grant.load(Ordering::SeqCst);
        let of_pair = [family, family ^ 1];
        let (families, target) = match self.random.below(5) {
            0 => (&[0, 1, 2, 3][..], Target::Everything),
            1 => (&[0, 1, 2, 3][..], Target::Client(client)),
            2 => (&of_pair[..], Target::Subject(subject)),
            3 if grant != 0 => (&of_pair[..], Target::Grant(grant)),
            _ => (&of_pair[..], Target::Pair(client, subject)),
        };
        self.revoke(families, &Operation::RevokeAbove, target);
    }

    fn revoke(&mut self, families: &[usize], operation: &Operation, target: Target) {
        let store = self.recorder.bench.store;
        let verb = Verb::Revoke(Revoke { target, now: self.recorder.bench.clock.read() });
        let above = *operation == Operation::RevokeAbove;
        let work = |random: &mut Random| apply(store, &verb, random, true);
        self.record(families, operation, work, |outcome| match outcome {
            Some(Outcome::Revoke(seq)) if above => seq.map(|_| Answer::Done),
            Some(Outcome::Revoke(seq)) => Some(Answer::Existed(seq.is_some())),
            Some(other) => panic!("a revocation answered {other:?}"),
            None => None,
        });
    }
}

fn redeemed(outcome: &Outcome, by_locator: impl FnOnce(u64) -> u32) -> Answer {
    match outcome {
        Outcome::Redeem(RedeemOutcome::Redeemed { generation, .. }) => {
            Answer::Redeemed { generation: *generation }
        }
        Outcome::Redeem(RedeemOutcome::Retried { mint, .. }) => {
            let access = by_locator(mint.locator.unwrap().id);
            Answer::Retried { access, generation: mint.generation }
        }
        Outcome::Redeem(RedeemOutcome::OtherRequest) => Answer::OtherRequest,
        Outcome::Redeem(RedeemOutcome::Replayed) => Answer::Replayed,
        Outcome::Redeem(RedeemOutcome::Dead) => Answer::Dead,
        other => panic!("a redeem answered {other:?}"),
    }
}

/// Waits on the thread, awaits, or lets go of the ticket: then nobody learns the answer.
fn apply<S: Store>(store: &S, verb: &Verb, random: &mut Random, may_drop: bool) -> Option<Outcome> {
    let (drops, awaits) = (may_drop && random.one_in(10), random.one_in(3));
    let answer = patiently(|| {
        let mut ticket = Box::pin(store.apply(verb.clone()));
        if drops {
            // Refused at once is an answer, and nothing happened.
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            return match ticket.as_mut().poll(&mut cx) {
                std::task::Poll::Ready(Err(StoreError::Busy)) => Err(StoreError::Busy),
                _ => Ok(None),
            };
        }
        let ticket = *std::pin::Pin::into_inner(ticket);
        (if awaits { wait(ticket) } else { ticket.wait() }).map(Some)
    });
    answer.unwrap()
}
