//! A door for the fuzz target `table_ops`: operations that bytes choose, on the store's own state over
//! a tape of records instead of a log, with a checkpoint that follows it. It is opened again from the
//! tape, or from the checkpoint and the rest of the tape; the oldest records are cleaned away. Every
//! answer is compared with a naive model.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::checkpoint::CheckpointHome as _;
use super::core::{Appended, Core, Journal, Lane, Opened, SHARDS};
use super::follower::change;
use super::group::Group;
use super::high_water::HighWater;
use super::packed::{Packed, RowChange};
use super::record::Record;
use super::survivor::Survivor;
use super::{
    AccessBirth, Find, Issue, IssueOutcome, Lsn, MemoryCheckpointHome, Near, Outcome, Pair,
    PairPolicy, Redeem, RedeemOutcome, RefreshBirth, Revoke, StoreError, Target,
};
use crate::ids::{ClientId, Subject};
use crate::locator::{Digest, Locator};
use crate::scope::Scope;
use crate::time::{Reading, Timestamp};

const START: u64 = 1_800_000_000;
const LIFETIME: u64 = 3_600;
const RETRY_SECS: u64 = 60;
/// A run longer than this is cut: what matters happens in few steps.
const STEPS_MAX: usize = 200;
const STORE_ID: [u8; 16] = [3; 16];

/// Every record that was written, and what the sweep let go of.
#[derive(Default)]
struct Tape {
    records: Vec<(Lsn, Record)>,
    last: Lsn,
    gone: Vec<Record>,
}

#[derive(Clone, Default)]
struct Taped(Arc<Mutex<Tape>>);

impl Taped {
    fn with<T>(&self, work: impl FnOnce(&mut Tape) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Journal for Taped {
    fn append(&self, records: &[Record], _: Lane, _: Timestamp) -> Result<Appended, StoreError> {
        self.with(|tape| {
            let first = Lsn(tape.last.0 + 1);
            for record in records {
                tape.last.0 += 1;
                // As bytes, so that what cannot be read back is noticed.
                let mut bytes = Vec::new();
                record.encode(&mut bytes);
                let again = Record::decode(&bytes).map(|(record, _)| record);
                assert_eq!(again.as_ref(), Ok(record.bare()), "a record does not read back");
                tape.records.push((tape.last, record.bare().clone()));
            }
            Ok(Appended { first, group: None })
        })
    }

    fn published(&self) -> Lsn {
        self.with(|tape| tape.last)
    }

    fn group_of(&self, _: Lsn) -> Option<Arc<Group>> {
        None
    }

    fn forget(&self, gone: &Record) {
        self.with(|tape| tape.gone.push(gone.clone()));
    }
}

/// An access token as its holder knows it.
#[derive(Clone, Copy)]
struct Access {
    locator: Locator,
    digest: Digest,
    generation: u32,
    expires_at: u64,
    dead: bool,
}

/// A login as anybody would note it down.
struct Login {
    pair: u8,
    id: u64,
    grant: u64,
    dead: bool,
    refresh: Vec<Digest>,
    access: Vec<Access>,
    redeemed_at: u64,
    used: bool,
    /// Opening again restarts the time for a retry and forgets a use.
    reopened: bool,
}

impl Login {
    fn generation(&self) -> u32 {
        u32::try_from(self.refresh.len()).unwrap_or(0)
    }
}

struct Table {
    tape: Taped,
    home: MemoryCheckpointHome,
    packed: Packed,
    core: Core<Taped>,
    block: u64,
    unix: u64,
    drawn: u64,
    logins: Vec<Login>,
}

/// Operations that `bytes` choose, three bytes each.
///
/// # Panics
/// When an answer is not the one that the model gives.
pub fn table_ops(bytes: &[u8]) {
    let mut table = Table::new();
    for step in bytes.chunks_exact(3).take(STEPS_MAX) {
        let (a, b) = (usize::from(step[1]), step[2]);
        match step[0] % 16 {
            0..3 => table.issue(step[1] % 4, b),
            3..7 => table.redeem(a, usize::from(b % 3)),
            7 | 8 => table.use_access(a, usize::from(b)),
            9 | 10 => table.revoke(a, b),
            11 => table.unix += [1, 59, 61, 1_000, LIFETIME, 10 * LIFETIME][usize::from(b % 6)],
            12 => (0..SHARDS).for_each(|_| {
                assert!(table.core.sweep(table.reading()).is_ok());
            }),
            13 => table.reopen(None),
            14 => table.reopen(Some(b)),
            _ => table.clean(a),
        }
        table.check(2);
    }
    table.check(usize::MAX);
    table.reopen(None);
    table.check(usize::MAX);
    table.reopen(Some(255));
    table.check(usize::MAX);
}

fn open_packed(home: &MemoryCheckpointHome) -> Packed {
    let opened = home.open().and_then(|table| Packed::open(table, STORE_ID));
    opened.unwrap_or_else(|error| panic!("the checkpoint does not open: {error}"))
}

impl Table {
    fn new() -> Table {
        let (tape, home) = (Taped::default(), MemoryCheckpointHome::default());
        let packed = open_packed(&home);
        let now = Reading { unix: Timestamp(START), elapsed: Duration::ZERO };
        let core = Core::new(tape.clone(), [7; 32], 1, HighWater::resume(Timestamp(0), now));
        Table { tape, home, packed, core, block: 1, unix: START, drawn: 0, logins: Vec::new() }
    }

    fn reading(&self) -> Reading {
        let elapsed = Duration::from_secs(self.unix - START);
        Reading { unix: Timestamp(self.unix), elapsed }
    }

    fn digest(&mut self) -> Digest {
        self.drawn += 1;
        let hash = blake3::hash(&self.drawn.to_le_bytes());
        Digest(hash.as_bytes().first_chunk::<16>().copied().unwrap_or_default())
    }

    fn birth(&mut self, near: u64) -> (AccessBirth, Access) {
        let bucket = u32::try_from(self.unix / 60).unwrap_or(0);
        let locator = Locator { class: 6, bucket, id: self.core.draw(Near::Id(near)) };
        let (digest, expires_at) = (self.digest(), self.unix + LIFETIME);
        let birth = AccessBirth {
            handle: Some((locator, digest)),
            issued_at: Timestamp(self.unix),
            expires_at: Timestamp(expires_at),
            scope: Scope::from_canonical(Arc::from("api")),
            audience: Arc::from(""),
            tag: 0,
        };
        (birth, Access { locator, digest, generation: 0, expires_at, dead: false })
    }

    /// The last pair gets access tokens alone, the others a refresh token with each.
    fn issue(&mut self, pair_number: u8, policy: u8) {
        let alone = pair_number == 3;
        let policy = match policy % 4 {
            _ if alone => PairPolicy::Unlimited,
            0 => PairPolicy::Replace,
            1 => PairPolicy::Newest(2),
            2 => PairPolicy::Reject,
            _ => PairPolicy::Unlimited,
        };
        let (Ok(client), Ok(subject)) =
            (ClientId::new("app"), Subject::new(format!("user-{}", pair_number / 2)))
        else {
            return;
        };
        let device =
            (pair_number % 2 == 1).then(|| crate::ids::DeviceId::new("phone").ok()).flatten();
        let pair = Pair { client, subject, device };
        let family = self.core.draw(Near::Pair(&pair));
        let grant = self.core.draw(Near::Id(family));
        let (birth, mut access) = self.birth(family);
        let refresh = (!alone).then(|| self.digest());
        let issue = Issue {
            pair,
            policy,
            admission: self.core.admission(),
            now: self.reading(),
            family,
            grant,
            key_version: 1,
            salt: [1; 16],
            request: [2; 16],
            access: birth,
            refresh: refresh.map(|digest| RefreshBirth {
                digest,
                expires_at: Timestamp::NEVER,
                idle_secs: 0,
                audience: None,
            }),
            code: None,
            only_in: None,
        };
        let answer = self.core.issue(&issue).and_then(super::Ticket::wait);
        let mut living: Vec<&mut Login> =
            self.logins.iter_mut().filter(|l| l.pair == pair_number && !l.dead).collect();
        let room = match policy {
            PairPolicy::Replace => 0,
            PairPolicy::Newest(n) => usize::from(n) - 1,
            PairPolicy::Reject if !living.is_empty() => {
                assert!(matches!(answer, Ok(Outcome::Issue(IssueOutcome::PairTaken))));
                return;
            }
            _ => usize::MAX,
        };
        let excess = living.len().saturating_sub(room);
        living.iter_mut().take(excess).for_each(|login| login.dead = true);
        let Ok(Outcome::Issue(IssueOutcome::Issued { family, grant, .. })) = answer else {
            panic!("an issue answered {answer:?}");
        };
        access.generation = u32::from(!alone);
        if let Some(login) = self.logins.iter_mut().find(|login| login.id == family) {
            assert!(alone && !login.dead, "born into a dead family");
            login.access.push(access);
            return;
        }
        // I6: while a login of the pair lives, its grant is that of the pair.
        let held = self.logins.iter().find(|l| l.pair == pair_number && !l.dead && !alone);
        assert!(held.is_none_or(|held| held.grant == grant), "a second grant of a pair");
        self.logins.push(Login {
            pair: pair_number,
            id: family,
            grant,
            dead: false,
            refresh: refresh.into_iter().collect(),
            access: vec![access],
            redeemed_at: self.unix,
            used: false,
            reopened: false,
        });
    }

    fn redeem(&mut self, at: usize, back: usize) {
        let Some(at) = at.checked_rem(self.logins.len()) else { return };
        let Some(newest) = self.logins[at].refresh.len().checked_sub(1) else { return };
        let Some(presented) = newest.checked_sub(back) else { return };
        let family = self.logins[at].id;
        let (birth, mut access) = self.birth(family);
        let successor = self.digest();
        let redeem = Redeem {
            family,
            generation: u32::try_from(presented + 1).unwrap_or(0),
            digest: self.logins[at].refresh[presented],
            arrival: self.core.admission(),
            was_in_force: false,
            now: self.reading(),
            retry_secs_max: RETRY_SECS,
            key_version: 1,
            salt: [4; 16],
            request: [2; 16],
            successor: Some(successor),
            access: birth,
        };
        let answer = match self.core.redeem(&redeem).and_then(super::Ticket::wait) {
            Ok(Outcome::Redeem(outcome)) => outcome,
            other => panic!("a redeem answered {other:?}"),
        };
        let now = self.unix;
        let login = &mut self.logins[at];
        let minted = login.access.last().copied();
        let in_time = !login.used
            && now - login.redeemed_at <= RETRY_SECS
            && minted.is_some_and(|minted| now < minted.expires_at);
        match (back, answer) {
            (_, RedeemOutcome::Dead) => assert!(login.dead, "a living family is called dead"),
            (0, RedeemOutcome::Redeemed { generation, .. }) => {
                assert!(!login.dead, "a dead family was redeemed");
                login.refresh.push(successor);
                assert_eq!(generation, login.generation());
                access.generation = generation;
                login.access.push(access);
                (login.redeemed_at, login.used, login.reopened) = (now, false, false);
            }
            (1, RedeemOutcome::Retried { mint, .. }) => {
                assert!(!login.dead && (in_time || login.reopened), "a replay got tokens");
                assert_eq!(mint.locator, minted.map(|minted| minted.locator));
            }
            (1, RedeemOutcome::Replayed) => {
                assert!(!login.dead && !in_time, "a retry ended its family");
                login.dead = true;
            }
            (2, RedeemOutcome::Replayed) => {
                assert!(!login.dead);
                login.dead = true;
            }
            (back, answer) => panic!("{back} back answered {answer:?}"),
        }
    }

    /// A lookup as the durable store makes it: a miss is read from the checkpoint.
    fn is_live(&mut self, access: Access, used: bool) -> bool {
        let Access { locator, digest, .. } = access;
        let find = Find::Access { locator, digest, used };
        let now = Timestamp(self.unix);
        let found = self.core.find(find, now).or_else(|miss| {
            match self.packed.token(locator, digest) {
                Ok(Some((row, lsn))) => self.core.fill(row, lsn),
                Ok(None) => return Err(miss),
                Err(error) => panic!("the checkpoint does not add up: {error}"),
            }
            self.core.find(find, now)
        });
        found.ok().flatten().is_some_and(|view| view.live)
    }

    fn use_access(&mut self, at: usize, token: usize) {
        let Some(at) = at.checked_rem(self.logins.len()) else { return };
        let Some(token) = token.checked_rem(self.logins[at].access.len()) else { return };
        let access = self.logins[at].access[token];
        let is_live = self.is_live(access, true);
        let now = self.unix;
        let login = &mut self.logins[at];
        assert_eq!(is_live, !login.dead && !access.dead && now < access.expires_at, "a use");
        login.used |= is_live && access.generation == login.generation();
    }

    fn revoke(&mut self, at: usize, what: u8) {
        let Some(at) = at.checked_rem(self.logins.len()) else { return };
        let (pair, id, grant) = (self.logins[at].pair, self.logins[at].id, self.logins[at].grant);
        let subject = Subject::new(format!("user-{}", pair / 2));
        let token = usize::from(what / 8) % self.logins[at].access.len();
        let access = self.logins[at].access[token];
        let target = match (what % 8, subject) {
            (0, _) => Target::Everything,
            (1, Ok(subject)) => Target::Subject(subject),
            (2 | 3, _) => Target::Grant(grant),
            (4 | 5, _) => Target::Access(access.locator, access.digest),
            _ => Target::Family(id),
        };
        // One that is cold is brought into memory first.
        self.is_live(access, false);
        let revoke = Revoke { target: target.clone(), now: self.reading() };
        if let Some(decided) = self.core.revoke(&revoke) {
            assert!(decided.and_then(super::Ticket::wait).is_ok());
        }
        if let Target::Access(..) = target {
            self.logins[at].access[token].dead = true;
            return;
        }
        for (n, login) in self.logins.iter_mut().enumerate() {
            login.dead |= match target {
                Target::Everything => true,
                Target::Subject(_) => login.pair / 2 == pair / 2,
                Target::Grant(grant) => login.grant == grant,
                _ => n == at,
            };
        }
    }

    /// The checkpoint takes what the tape has up to `upto`, and what the sweep let go of.
    fn follow(&mut self, upto: Lsn) {
        let position = self.packed.position();
        let changes = self.tape.with(|tape| {
            let gone = std::mem::take(&mut tape.gone).into_iter().map(RowChange::Remove);
            let new = tape.records.iter().filter(|(lsn, _)| *lsn > position && *lsn <= upto);
            let new = new.map(|(lsn, record)| change(record.clone(), *lsn));
            gone.chain(new).collect()
        });
        assert!(self.packed.apply(upto.max(position), changes).is_ok());
    }

    /// Opens again: from the tape alone, or from a checkpoint that took so much of it.
    fn reopen(&mut self, followed: Option<u8>) {
        let end = self.tape.with(|tape| tape.last);
        let mark = self.core.time.mark();
        let now = self.reading();
        let time = HighWater::resume(mark, now);
        let mut core = Core::new(self.tape.clone(), [7; 32], 1, time);
        match followed {
            Some(part) => {
                let ahead = end.0 - self.packed.position().0;
                let upto = self.packed.position().0 + ahead * u64::from(part) / 255;
                self.follow(Lsn(upto));
                self.packed = open_packed(&self.home);
                let first =
                    self.tape.with(|tape| tape.records.first().map_or(end, |(lsn, _)| *lsn));
                let load = self.packed.load(first, &mut |record, lsn| core.redo(record, lsn));
                assert!(load.is_ok());
            }
            None => {
                self.home = MemoryCheckpointHome::default();
                self.packed = open_packed(&self.home);
            }
        }
        let after = self.packed.position();
        let rest = self.tape.with(|tape| {
            tape.gone.clear();
            tape.records.iter().filter(|(lsn, _)| *lsn > after).cloned().collect::<Vec<_>>()
        });
        for (lsn, record) in rest {
            core.redo(record, lsn);
        }
        core.join_families();
        core.opened = Opened { at: core.time.now(now), last_durable: mark, lsn: end };
        self.block += 1;
        core.begin_block(self.block);
        self.core = core;
        self.logins.iter_mut().for_each(|login| login.reopened = true);
    }

    /// Writes what survives of the oldest records again and drops them, as the keeper does.
    fn clean(&mut self, part: usize) {
        let end = self.tape.with(|tape| tape.last);
        self.follow(end);
        let oldest = self.tape.with(|tape| {
            let count = tape.records.len() * (part % 256) / 255;
            tape.records.get(..count).unwrap_or(&[]).to_vec()
        });
        let mark = self.core.time.observe(self.reading());
        for (lsn, record) in &oldest {
            while let Ok(Survivor::Cold) = self.core.rewrite(record, *lsn, mark) {
                let Record::Token(row) = record else { break };
                match self.packed.token(row.locator, row.digest) {
                    Ok(Some((row, at))) => self.core.fill(row, at),
                    Ok(None) => break,
                    Err(error) => panic!("the checkpoint does not add up: {error}"),
                }
            }
        }
        self.tape.with(|tape| drop(tape.records.drain(..oldest.len())));
    }

    /// I4, I5: everything is worth what the model says. Of each login the newest so many tokens.
    fn check(&mut self, newest: usize) {
        for at in 0..self.logins.len() {
            let login = &self.logins[at];
            let (family, dead) = (login.id, login.dead);
            let refresh: Vec<_> = login.refresh.iter().copied().enumerate().collect();
            let access: Vec<_> = login.access.iter().rev().take(newest).copied().collect();
            for (n, digest) in refresh.iter().rev().take(newest) {
                let generation = u32::try_from(n + 1).unwrap_or(0);
                let find = Find::Refresh { family, generation, digest: *digest };
                let found = self.core.find(find, Timestamp(self.unix)).ok().flatten();
                let is_live = found.is_some_and(|view| view.live);
                assert_eq!(is_live, !dead && n + 1 == refresh.len(), "refresh token {generation}");
            }
            for access in access {
                let expected = !dead && !access.dead && self.unix < access.expires_at;
                assert_eq!(self.is_live(access, false), expected, "an access token");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    fn holds(run: &[u8]) -> bool {
        std::panic::catch_unwind(|| super::table_ops(run)).is_ok()
    }

    /// The steps of a failing run that it cannot do without.
    fn shrunk(run: &[u8]) -> Vec<u8> {
        let mut left = run.to_vec();
        let mut at = left.len() / 3;
        while at > 0 {
            at -= 1;
            let mut fewer = left.clone();
            fewer.drain(3 * at..3 * at + 3);
            if !holds(&fewer) {
                left = fewer;
            }
        }
        left
    }

    /// A grant that the checkpoint brought back after the log had let go of it; one that took its pair
    /// from its successor because it was written again behind it; and one that came back and was
    /// revoked, which ended its successor.
    #[test]
    fn runs_that_failed_once_hold() {
        super::table_ops(&[
            16, 225, 0, 218, 173, 234, 208, 164, 162, 123, 134, 227, 108, 65, 174, 127, 247, 8, 94,
            102, 53, 129, 217, 72,
        ]);
        super::table_ops(&[
            176, 210, 131, 105, 92, 80, 187, 177, 101, 156, 168, 79, 49, 174, 62, 45, 83, 118, 143,
            119, 84, 189, 52, 193, 210, 158, 2,
        ]);
        super::table_ops(&[
            80, 172, 227, 64, 199, 16, 138, 197, 227, 82, 193, 172, 194, 15, 36, 177, 192, 3, 75,
            75, 155, 124, 92, 159, 49, 8, 93, 193, 47, 47, 128, 142, 213, 241, 173, 236, 142, 54,
            141, 41, 28, 170,
        ]);
    }

    #[test]
    fn the_table_holds_on_many_short_runs() {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"table_ops");
        let mut stream = hasher.finalize_xof();
        for _ in 0..2_000 {
            let mut run = [0; 120];
            stream.fill(&mut run);
            assert!(holds(&run), "steps {:?}", shrunk(&run));
        }
    }
}
