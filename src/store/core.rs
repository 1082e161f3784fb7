//! The state that every embedded store shares: shards, stamps, documents, the counters. What is
//! written goes through a [`Journal`]; what is decided is decided here.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use crossbeam::utils::CachePadded;

use super::feed::{Feed, revocation_in};
use super::group::Group;
use super::high_water::HighWater;
use super::record::{DocumentRow, GrantRow, Record, SetRow, StampKind, TokenRow};
use super::shard::{AsIsMap, GrantEntry, Shard, Staged};
use super::stamp::{Names, Stamps};
use super::ticket::Ticket;
use super::used::Used;
use super::view::Stats;
use super::{Find, Lsn, Near, Pair, Seq, StoreError, TokenView};
use crate::ids::{ClientId, Subject};
use crate::locator::Digest;
use crate::scope::Scope;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{HashMap, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, planted};
use crate::time::{Reading, Timestamp};

/// Low bits of every identifier: the shard of its pair.
pub(crate) const SHARD_BITS: u32 = if cfg!(mintage_loom) {
    1
} else if cfg!(mintage_sim) {
    2
} else {
    6
};
pub(crate) const SHARDS: usize = 1 << SHARD_BITS;
/// Numbers of one block of the counter, and identifiers of one block. A block is used by one run of
/// the process; a run that has used half of one takes the next.
const SEQ_BLOCK_LEN: u64 = 1 << 40;
const ID_BLOCK_LEN: u64 = 1 << 36;
/// How long a family outlives the last access token in it, in seconds: leeway and skew.
pub(crate) const HORIZON_SLACK_SECS: u64 = 300;
/// The most JWTs that may be revoked one by one at a time.
const DENIED_MAX: usize = 1 << 20;
/// The most different scope and audience texts. They are never forgotten.
const SETS_MAX: usize = 1 << 18;

/// Which limit of the queue applies: births are refused first, kills last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    Birth,
    Redeem,
    /// Rewriting of survivors.
    Clean,
    Kill,
}

/// Where a unit went.
pub(crate) struct Appended {
    /// Position of its first record.
    pub(crate) first: Lsn,
    /// What must settle before it may be acknowledged; nothing in memory.
    pub(crate) group: Option<Arc<Group>>,
}

impl Appended {
    pub(crate) fn nth(&self, n: usize) -> Lsn {
        Lsn(self.first.0 + n as u64)
    }

    pub(crate) fn ticket<T>(self, answer: T) -> Ticket<T> {
        match self.group {
            Some(group) if !planted!(AnsweredBeforeCommit) => Ticket::committing(group, Ok(answer)),
            _ => Ticket::ready(Ok(answer)),
        }
    }
}

/// Where units of records go to become durable.
pub(crate) trait Journal: Send + Sync + 'static {
    /// Enqueues all of `records` or refuses. Never waits. Units enqueued under one lock keep their
    /// order, on disk and in publication.
    fn append(
        &self,
        records: &[Record],
        lane: Lane,
        now: Timestamp,
    ) -> Result<Appended, StoreError>;

    /// Everything up to here is durable and visible.
    fn published(&self) -> Lsn;

    /// The group that holds `lsn`, while it is not yet published.
    fn group_of(&self, lsn: Lsn) -> Option<Arc<Group>>;

    /// The row of a record's entity is gone for good: the checkpoint may let go of it.
    fn forget(&self, gone: &Record);
}

pub(crate) struct SetEntry {
    pub(crate) text: Arc<str>,
    pub(crate) lsn: Lsn,
}

/// Positions and times at the moment of the last open, for the retry rule.
#[derive(Clone, Copy, Default)]
pub(crate) struct Opened {
    pub(crate) at: Timestamp,
    pub(crate) last_durable: Timestamp,
    pub(crate) lsn: Lsn,
}

pub(crate) type Documents = BTreeMap<(u8, Arc<str>), Staged<DocumentRow>>;

pub(crate) struct Core<J> {
    pub(crate) journal: J,
    pub(crate) names: Names,
    pub(crate) time: HighWater,
    pub(crate) stamps: Stamps,
    pub(crate) opened: Opened,
    pub(crate) sweep_next: AtomicU64,
    pub(crate) rows_walked: AtomicU64,
    shards: Box<[CachePadded<RwLock<Shard>>]>,
    documents: RwLock<Documents>,
    sets: RwLock<AsIsMap<u64, SetEntry>>,
    denied: RwLock<HashMap<Digest, (Timestamp, Lsn)>>,
    used: RwLock<Used>,
    /// (subject or client, grant), so that listings never scan.
    index: RwLock<BTreeSet<(Digest, u64)>>,
    feed: RwLock<Feed>,
    seq: AtomicU64,
    id: AtomicU64,
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl<J: Journal> Core<J> {
    /// An empty state whose counters begin with `block`.
    pub(crate) fn new(journal: J, index_key: [u8; 32], block: u64, time: HighWater) -> Core<J> {
        Core {
            journal,
            names: Names::new(index_key),
            time,
            stamps: Stamps::default(),
            opened: Opened::default(),
            sweep_next: AtomicU64::new(0),
            rows_walked: AtomicU64::new(0),
            shards: (0..SHARDS).map(|_| CachePadded::default()).collect(),
            documents: RwLock::default(),
            sets: RwLock::default(),
            denied: RwLock::default(),
            used: RwLock::default(),
            index: RwLock::default(),
            feed: RwLock::default(),
            seq: AtomicU64::new(block.saturating_mul(SEQ_BLOCK_LEN)),
            id: AtomicU64::new(block.saturating_mul(ID_BLOCK_LEN)),
        }
    }

    /// The same state over another journal, once it is loaded.
    pub(crate) fn with_journal<K>(self, journal: impl FnOnce(J) -> K) -> Core<K> {
        Core {
            journal: journal(self.journal),
            names: self.names,
            time: self.time,
            stamps: self.stamps,
            opened: self.opened,
            sweep_next: self.sweep_next,
            rows_walked: self.rows_walked,
            shards: self.shards,
            documents: self.documents,
            sets: self.sets,
            denied: self.denied,
            used: self.used,
            index: self.index,
            feed: self.feed,
            seq: self.seq,
            id: self.id,
        }
    }

    /// The counters go on from the start of a block, which is durable.
    pub(crate) fn begin_block(&self, block: u64) {
        self.seq.fetch_max(block.saturating_mul(SEQ_BLOCK_LEN), Ordering::SeqCst);
        self.id.fetch_max(block.saturating_mul(ID_BLOCK_LEN), Ordering::SeqCst);
    }

    /// Whether half of the block is used.
    pub(crate) fn needs_block(&self, block: u64) -> bool {
        let used = |counter: &AtomicU64, len: u64| {
            counter.load(Ordering::SeqCst).saturating_sub(block.saturating_mul(len)) > len / 2
        };
        used(&self.seq, SEQ_BLOCK_LEN) || used(&self.id, ID_BLOCK_LEN)
    }

    /// The feed holds what comes after `from`.
    pub(crate) fn begin_feed(&mut self, from: Lsn) {
        self.feed = RwLock::new(Feed::after(from));
    }

    pub(crate) fn admission(&self) -> Seq {
        Seq(self.seq.load(Ordering::SeqCst))
    }

    /// The next number of the counter, for a revocation or a first use.
    pub(crate) fn raise(&self) -> Seq {
        Seq(self.seq.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// Enqueues a unit. What it revokes is in the feed before the unit can be published: the feed is
    /// locked across the enqueue, so that no reader passes a row that is still to come.
    pub(crate) fn append(&self, records: &[Record], lane: Lane) -> Result<Appended, StoreError> {
        if !records.iter().any(|record| revocation_in(record).is_some()) {
            return self.append_again(records, lane);
        }
        let mut feed = write(&self.feed);
        let appended = self.append_again(records, lane)?;
        for (n, record) in records.iter().enumerate() {
            feed.take(record, appended.nth(n));
        }
        Ok(appended)
    }

    /// Enqueues what is not news, with the mark of time that recovery goes on from.
    pub(crate) fn append_again(
        &self,
        records: &[Record],
        lane: Lane,
    ) -> Result<Appended, StoreError> {
        self.journal.append(records, lane, self.time.mark())
    }

    pub(crate) fn draw(&self, near: Near<'_>) -> u64 {
        let shard = match near {
            Near::Pair(pair) => shard_of_pair(self.names.unique(pair)),
            Near::Id(id) => id & (SHARDS as u64 - 1),
        };
        self.id.fetch_add(1, Ordering::Relaxed) << SHARD_BITS | shard
    }

    pub(crate) fn shard(&self, id: u64) -> RwLockReadGuard<'_, Shard> {
        read(self.lock_of(id))
    }

    pub(crate) fn shard_mut(&self, id: u64) -> RwLockWriteGuard<'_, Shard> {
        write(self.lock_of(id))
    }

    fn lock_of(&self, id: u64) -> &RwLock<Shard> {
        // The mask keeps the index within the shards that `new` made.
        &self.shards[usize::from(id.to_le_bytes()[0]) & (SHARDS - 1)]
    }

    /// I4: whether what was admitted then was never revoked since, by anything above it.
    pub(crate) fn admits(&self, admission: Seq, grant: &GrantEntry, row: &GrantRow) -> bool {
        admission >= row.revoked_at && self.stamps.allow(admission, &grant.names, grant.unique)
    }

    /// The identifier of a text, and its record while that is not yet durable.
    pub(crate) fn intern(
        &self,
        text: &Arc<str>,
        records: &mut Vec<Record>,
    ) -> Result<u64, StoreError> {
        let id = self.names.set(text);
        let published = self.journal.published();
        let sets = read(&self.sets);
        match sets.get(&id) {
            Some(set) if set.lsn <= published => return Ok(id),
            None if sets.len() >= SETS_MAX => return Err(StoreError::Busy),
            _ => {}
        }
        records.push(Record::Set(SetRow { id, text: Arc::clone(text) }));
        Ok(id)
    }

    /// Whether the durable texts under these identifiers are these.
    pub(crate) fn are_texts(&self, texts: [(u64, &str); 2]) -> bool {
        let published = self.journal.published();
        let sets = read(&self.sets);
        texts.iter().all(|(id, text)| {
            sets.get(id).is_some_and(|set| set.lsn <= published && *set.text == **text)
        })
    }

    /// Notes the sets among `records` that were appended.
    pub(crate) fn note_sets(&self, records: &[Record], appended: &Appended) {
        for (n, record) in records.iter().enumerate() {
            if let Record::Set(row) = record {
                let mut sets = write(&self.sets);
                sets.entry(row.id).or_insert_with(|| SetEntry {
                    text: Arc::clone(&row.text),
                    lsn: appended.nth(n),
                });
            }
        }
    }

    pub(crate) fn sets_mut(&self) -> RwLockWriteGuard<'_, AsIsMap<u64, SetEntry>> {
        write(&self.sets)
    }

    /// Bytes of documents and of scope and audience texts, about.
    pub(crate) fn text_len(&self) -> u64 {
        let bodies = |row: &DocumentRow| row.body.as_ref().map_or(0, |body| body.len());
        let documents = self.documents();
        let documents = documents.values().map(|state| 64 + bodies(&state.now));
        let sets = read(&self.sets);
        let sets = sets.values().map(|set| 64 + set.text.len());
        (documents.sum::<usize>() + sets.sum::<usize>()) as u64
    }

    pub(crate) fn set_text(&self, id: u64) -> Arc<str> {
        // A row is never visible before the texts that it names: they are in its unit or before it.
        read(&self.sets).get(&id).map_or_else(|| Arc::from(""), |set| Arc::clone(&set.text))
    }

    /// Answers from memory, or says that the token is not there.
    pub(crate) fn find(&self, find: Find, now: Timestamp) -> Result<Option<TokenView>, Miss> {
        match find {
            Find::Access { locator, digest, used } => {
                let shard = self.shard(locator.id);
                let published = self.journal.published();
                let Some(token) = shard.tokens.get(&digest) else { return Err(Miss) };
                token.touched.store(true, Ordering::Relaxed);
                if token.row.locator != locator || token.born > published {
                    return Ok(None);
                }
                Ok(self.view_token(&shard, &token.row, now, used))
            }
            Find::Refresh { family, generation, digest } => {
                let shard = self.shard(family);
                let view = self.view_family(&shard, family, now);
                Ok(view.map(|(mut view, row_digest, row_generation)| {
                    let current = generation == row_generation && digest == row_digest;
                    view.live &= current;
                    view
                }))
            }
            Find::Jwt { family, generation, admission, jti, expires_at, used } => {
                let shard = self.shard(family);
                let denied = read(&self.denied).contains_key(&jti);
                let row = TokenRow {
                    locator: crate::locator::Locator { class: 0, bucket: 0, id: family },
                    digest: jti,
                    family,
                    generation,
                    admission,
                    issued_at: Timestamp(0),
                    expires_at,
                    scope: 0,
                    audience: 0,
                    dead: denied,
                };
                Ok(self.view_token(&shard, &row, now, used))
            }
            Find::Family(family) => {
                let shard = self.shard(family);
                Ok(self.view_family(&shard, family, now).map(|(view, ..)| view))
            }
        }
    }

    fn view_token(
        &self,
        shard: &Shard,
        token: &TokenRow,
        now: Timestamp,
        used: bool,
    ) -> Option<TokenView> {
        let published = self.journal.published();
        let family = shard.families.get(&token.family)?;
        let family_row = family.state.visible(published)?;
        let grant = shard.grants.get(&family_row.grant)?;
        let grant_row = grant.state.visible(published)?;
        let live = !token.dead
            && !family_row.dead
            && now < token.expires_at
            && self.admits(token.admission, grant, grant_row);
        if live && used {
            family.count_use(token.generation, now, || self.raise());
        }
        Some(TokenView {
            live,
            client: grant_row.client.clone(),
            subject: grant_row.subject.clone(),
            device: grant_row.device.clone(),
            grant: grant_row.id,
            family: family_row.id,
            generation: token.generation,
            admission: token.admission,
            issued_at: token.issued_at,
            expires_at: token.expires_at,
            family_ends_at: family_row.ends_at(),
            scope: Scope::from_canonical(self.set_text(token.scope)),
            audience: self.set_text(token.audience),
            tag: family_row.mint.tag,
        })
    }

    fn view_family(
        &self,
        shard: &Shard,
        id: u64,
        now: Timestamp,
    ) -> Option<(TokenView, Digest, u32)> {
        let published = self.journal.published();
        let row = shard.families.get(&id)?.state.visible(published)?;
        let grant = shard.grants.get(&row.grant)?;
        let grant_row = grant.state.visible(published)?;
        let idle_end = match row.idle_secs {
            0 => Timestamp::NEVER,
            secs => row.redeemed_at.plus(secs),
        };
        let view = TokenView {
            live: row.is_refreshable(now) && self.admits(row.admission, grant, grant_row),
            client: grant_row.client.clone(),
            subject: grant_row.subject.clone(),
            device: grant_row.device.clone(),
            grant: grant_row.id,
            family: row.id,
            generation: row.generation,
            admission: row.admission,
            issued_at: row.redeemed_at,
            expires_at: row.expires_at.min(idle_end),
            family_ends_at: row.ends_at(),
            scope: Scope::from_canonical(self.set_text(row.scope)),
            audience: self.set_text(row.audience),
            tag: row.mint.tag,
        };
        Some((view, row.digest, row.generation))
    }

    pub(crate) fn documents(&self) -> RwLockReadGuard<'_, Documents> {
        read(&self.documents)
    }

    pub(crate) fn documents_mut(&self) -> RwLockWriteGuard<'_, Documents> {
        write(&self.documents)
    }

    pub(crate) fn denied_mut(&self) -> RwLockWriteGuard<'_, HashMap<Digest, (Timestamp, Lsn)>> {
        write(&self.denied)
    }

    pub(crate) fn used_mut(&self) -> RwLockWriteGuard<'_, Used> {
        write(&self.used)
    }

    pub(crate) fn deny_is_full(denied: &HashMap<Digest, (Timestamp, Lsn)>) -> bool {
        denied.len() >= DENIED_MAX
    }

    pub(crate) fn feed_mut(&self) -> RwLockWriteGuard<'_, Feed> {
        write(&self.feed)
    }

    pub(crate) fn feed(&self) -> RwLockReadGuard<'_, Feed> {
        read(&self.feed)
    }

    /// Grants under a name, from the grant after `after`.
    pub(crate) fn grants_under(&self, name: Digest, after: u64, max: usize) -> Vec<u64> {
        let from = Bound::Excluded((name, after));
        let to = Bound::Included((name, u64::MAX));
        read(&self.index).range((from, to)).take(max).map(|(_, grant)| *grant).collect()
    }

    pub(crate) fn index_grant(&self, entry: &GrantEntry) {
        let mut index = write(&self.index);
        for (kind, name) in entry.names {
            if kind != StampKind::Pair {
                index.insert((name, entry.state.now.id));
            }
        }
    }

    pub(crate) fn unindex_grant(&self, entry: &GrantEntry) {
        let mut index = write(&self.index);
        for (_, name) in entry.names {
            index.remove(&(name, entry.state.now.id));
        }
    }

    pub(crate) fn grant_entry(&self, row: GrantRow, lsn: Lsn) -> GrantEntry {
        let pair = Pair {
            client: row.client.clone(),
            subject: row.subject.clone(),
            device: row.device.clone(),
        };
        GrantEntry {
            unique: self.names.unique(&pair),
            names: self.stamp_names(&row.client, &row.subject),
            families: Vec::new(),
            state: Staged::new(row, lsn),
        }
    }

    pub(crate) fn stamp_names(
        &self,
        client: &ClientId,
        subject: &Subject,
    ) -> [(StampKind, Digest); 3] {
        [
            (StampKind::Client, self.names.client(client)),
            (StampKind::Subject, self.names.subject(subject)),
            (StampKind::Pair, self.names.pair(client, subject)),
        ]
    }

    /// Counters of what is in memory.
    pub(crate) fn count(&self, stats: &mut Stats) {
        for id in 0..SHARDS as u64 {
            let shard = self.shard(id);
            stats.tokens_resident += shard.tokens.len() as u64;
            stats.families += shard.families.len() as u64;
            stats.grants += shard.grants.len() as u64;
            stats.codes += shard.codes.len() as u64;
        }
        stats.rows_walked = self.rows_walked.load(Ordering::Relaxed);
        stats.stamps = self.stamps.len() as u64;
        stats.denied = read(&self.denied).len() as u64;
        stats.used = read(&self.used).len() as u64;
        stats.durable = self.journal.published();
    }

    /// Judges at the store's own time.
    pub(crate) fn now(&self, reading: Reading) -> Timestamp {
        self.time.now(reading)
    }
}

/// The token is not in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Miss;

pub(crate) fn shard_of_pair(unique: Digest) -> u64 {
    let Digest([first, ..]) = unique;
    u64::from(first) & (SHARDS as u64 - 1)
}
