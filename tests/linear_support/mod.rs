//! Whether a recorded history could have happened one operation at a time (Wing and Gong's search
//! with Lowe's memory of states that failed before), and what one operation at a time means for a
//! family.
#![allow(dead_code, unreachable_pub)]

pub mod record;

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;

/// An operation between its call and its return, both places in one order of all events. An answer
/// of `None` is one that nobody waited for: the operation happened all the same.
#[derive(Clone, Debug)]
pub struct Event<O, A> {
    pub thread: usize,
    pub call: u64,
    pub returned: u64,
    pub operation: O,
    pub answer: Option<A>,
}

/// One operation at a time.
pub trait Spec: Clone + Eq + Hash {
    type Operation: Clone + std::fmt::Debug;
    type Answer: Clone + Eq + std::fmt::Debug;

    /// What the operation answers now; it has happened then.
    fn step(&mut self, operation: &Self::Operation) -> Self::Answer;
}

const EVENTS_MAX: usize = 384;

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Done([u64; EVENTS_MAX / 64]);

impl Done {
    fn has(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }

    fn flip(&mut self, at: usize) {
        self.0[at / 64] ^= 1 << (at % 64);
    }
}

/// Whether some order of `events`, in which none comes before one that had returned when it was
/// called, gives every answer that was given.
pub fn is_linearizable<S: Spec>(start: &S, events: &[Event<S::Operation, S::Answer>]) -> bool {
    assert!(events.len() <= EVENTS_MAX, "{} events of one family", events.len());
    let mut order: Vec<usize> = (0..events.len()).collect();
    order.sort_by_key(|at| events[*at].call);
    let mut failed: HashSet<(Done, S)> = HashSet::new();
    search(events, &order, &mut Done::default(), 0, start, &mut failed)
}

fn search<S: Spec>(
    events: &[Event<S::Operation, S::Answer>],
    order: &[usize],
    done: &mut Done,
    count: usize,
    state: &S,
    failed: &mut HashSet<(Done, S)>,
) -> bool {
    if count == events.len() {
        return true;
    }
    if failed.contains(&(*done, state.clone())) {
        return false;
    }
    // Whatever was called after this had returned cannot be next.
    let waiting = || order.iter().copied();
    let first_return =
        waiting().filter(|at| !done.has(*at)).map(|at| events[at].returned).min().unwrap_or(0);
    for at in waiting() {
        if events[at].call > first_return {
            break;
        }
        if done.has(at) {
            continue;
        }
        let mut next = state.clone();
        let answer = next.step(&events[at].operation);
        if events[at].answer.as_ref().is_some_and(|given| *given != answer) {
            continue;
        }
        done.flip(at);
        let found = search(events, order, done, count + 1, &next, failed);
        done.flip(at);
        if found {
            return true;
        }
    }
    failed.insert((*done, state.clone()));
    false
}

/// The shortest beginning of `events` that no order explains, without the reads that do not matter.
pub fn core_of<S: Spec>(
    start: &S,
    events: &[Event<S::Operation, S::Answer>],
    is_read: impl Fn(&S::Operation) -> bool,
) -> Vec<Event<S::Operation, S::Answer>> {
    let mut ends: Vec<u64> = events.iter().map(|event| event.returned).collect();
    ends.sort_unstable();
    let until = |end: u64| -> Vec<_> {
        let begun = events.iter().filter(|event| event.call < end).cloned();
        let cut = |event: Event<S::Operation, S::Answer>| match event.returned > end {
            true => Event { answer: None, returned: u64::MAX, ..event },
            false => event,
        };
        begun.map(cut).collect()
    };
    let cuts = ends.into_iter().map(until);
    let mut left = cuts.into_iter().find(|cut| !is_linearizable(start, cut)).unwrap_or_default();
    let mut at = left.len();
    while at > 0 {
        at -= 1;
        let mut fewer = left.clone();
        if is_read(&fewer.remove(at).operation) && !is_linearizable(start, &fewer) {
            left = fewer;
        }
    }
    left.sort_by_key(|event| event.call);
    left
}

/// What threads do to a family. Tokens are small numbers; generation 1 is born with the family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The counter is read, for the operation of that number.
    Admit(u32),
    /// The family is born, with this refresh and this access token.
    Issue {
        admitted: u32,
        refresh: u32,
        access: u32,
    },
    /// Another login of its pair takes the family's place.
    Replace,
    /// `refresh` of `generation` is presented.
    Redeem {
        admitted: u32,
        refresh: u32,
        generation: u32,
        successor: u32,
        access: u32,
        request: u8,
    },
    FindAccess {
        access: u32,
        used: bool,
    },
    FindRefresh {
        refresh: u32,
        generation: u32,
    },
    RevokeFamily,
    RevokeAccess(u32),
    /// Something above the family is revoked: its grant, subject, client, or everything.
    RevokeAbove,
}

/// What a thread was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    Issued,
    Revoked,
    Redeemed {
        generation: u32,
    },
    Retried {
        access: u32,
        generation: u32,
    },
    OtherRequest,
    Replayed,
    Dead,
    /// Nobody tells what is unknown from what is dead.
    Found {
        live: bool,
    },
    Existed(bool),
}

/// Birth of an access token: its generation, and how many revocations stood above it then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct AccessToken {
    generation: u32,
    admission: u32,
    dead: bool,
}

/// A family as the documentation of the store has it. The clock stands still.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Family {
    /// Revocations of what stands above.
    revoked: u32,
    /// First uses of generations so far.
    first_uses: u32,
    /// Number of an admission: revocations and first uses then.
    admissions: BTreeMap<u32, (u32, u32)>,
    born: Option<Born>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Born {
    admission: u32,
    dead: bool,
    generation: u32,
    refresh: u32,
    previous: u32,
    mint: (u32, u8),
    used_at: Option<u32>,
    access: BTreeMap<u32, AccessToken>,
}

impl Spec for Family {
    type Operation = Operation;
    type Answer = Answer;

    fn step(&mut self, operation: &Operation) -> Answer {
        match *operation {
            Operation::Admit(number) => {
                self.admissions.insert(number, (self.revoked, self.first_uses));
                Answer::Done
            }
            Operation::Issue { admitted, refresh, access } => self.issue(admitted, refresh, access),
            Operation::Replace => {
                if let Some(born) = &mut self.born {
                    born.dead = true;
                }
                Answer::Done
            }
            Operation::Redeem { .. } => self.redeem(operation),
            Operation::FindAccess { access, used } => self.find_access(access, used),
            Operation::FindRefresh { refresh, generation } => match &self.born {
                None => Answer::Found { live: false },
                Some(born) => Answer::Found {
                    live: !born.dead
                        && born.admission == self.revoked
                        && (born.refresh, born.generation) == (refresh, generation),
                },
            },
            Operation::RevokeFamily => {
                if let Some(born) = &mut self.born {
                    born.dead = true;
                }
                Answer::Existed(self.born.is_some())
            }
            Operation::RevokeAccess(access) => {
                let token = self.born.as_mut().and_then(|born| born.access.get_mut(&access));
                Answer::Existed(token.map(|token| token.dead = true).is_some())
            }
            Operation::RevokeAbove => {
                self.revoked += 1;
                Answer::Done
            }
        }
    }
}

impl Family {
    /// An operation cannot come before its own admission: the thread did one after the other.
    fn take_admission(&mut self, number: u32) -> (u32, u32) {
        self.admissions.remove(&number).unwrap_or((0, 0))
    }

    fn issue(&mut self, admitted: u32, refresh: u32, access: u32) -> Answer {
        let (admission, _) = self.take_admission(admitted);
        if admission < self.revoked {
            return Answer::Revoked;
        }
        let token = AccessToken { generation: 1, admission, dead: false };
        self.born = Some(Born {
            admission,
            dead: false,
            generation: 1,
            refresh,
            previous: u32::MAX,
            mint: (access, 0),
            used_at: None,
            access: BTreeMap::from([(access, token)]),
        });
        Answer::Issued
    }

    fn redeem(&mut self, operation: &Operation) -> Answer {
        let &Operation::Redeem { admitted, refresh, generation, successor, access, request } =
            operation
        else {
            unreachable!("only called for a redeem")
        };
        let (admission, first_uses) = self.take_admission(admitted);
        let revoked = self.revoked;
        let Some(born) = &mut self.born else { return Answer::Dead };
        if born.dead || born.admission < revoked || generation > born.generation {
            return Answer::Dead;
        }
        if (refresh, generation) == (born.refresh, born.generation) {
            born.generation += 1;
            born.previous = refresh;
            born.refresh = successor;
            born.mint = (access, request);
            born.used_at = None;
            let admission = born.admission.min(admission);
            let token = AccessToken { generation: born.generation, admission, dead: false };
            born.access.insert(access, token);
            return Answer::Redeemed { generation: born.generation };
        }
        let is_last = generation + 1 == born.generation && refresh == born.previous;
        if is_last && born.used_at.is_none_or(|used_at| first_uses < used_at) {
            return match born.mint {
                (access, asked) if asked == request => {
                    Answer::Retried { access, generation: born.generation }
                }
                _ => Answer::OtherRequest,
            };
        }
        born.dead = true;
        Answer::Replayed
    }

    fn find_access(&mut self, access: u32, used: bool) -> Answer {
        let Some(born) = &mut self.born else { return Answer::Found { live: false } };
        let Some(token) = born.access.get(&access) else { return Answer::Found { live: false } };
        let live = !token.dead && !born.dead && token.admission == self.revoked;
        if live && used && token.generation == born.generation && born.used_at.is_none() {
            self.first_uses += 1;
            born.used_at = Some(self.first_uses);
        }
        Answer::Found { live }
    }
}
