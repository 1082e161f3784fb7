//! The decisions: each verb is judged, enqueued and noted under one shard lock, as one unit.

use std::sync::Arc;

use super::core::{Appended, Core, Journal, Lane, revocation_in};
use super::record::{
    DenyRow, DocumentRow, FamilyRow, GrantRow, MintRow, Record, StampKind, StampRow, TokenRow,
};
use super::shard::{FamilyEntry, GrantEntry, Shard, Staged, TokenEntry};
use super::ticket::Ticket;
use super::{
    AccessBirth, Issue, IssueOutcome, Lsn, Mint, Outcome, PairPolicy, Put, Redeem, RedeemOutcome,
    Revocation, Revoke, Seq, StoreError, Target,
};
use crate::ids::{ClientId, Subject};
use crate::locator::Digest;
use crate::scope::Scope;
use crate::time::Timestamp;

/// How far the clock may stand before a redeem for a retry of it, in seconds (rule 19).
const RETRY_BACK_SECS_MAX: u64 = 60;
/// How much older a family's written use count may be than the one in memory, in seconds.
pub(crate) const USE_FLUSH_SECS: u64 = 3_600;
/// The longest document, in bytes: with its frame it fits one value of the checkpoint.
pub const DOCUMENT_LEN_MAX: usize = 15 * 1024;

type Decided = Result<Ticket<Outcome>, StoreError>;

impl<J: Journal> Core<J> {
    /// Decides and enqueues an issue.
    pub(crate) fn issue(&self, issue: &Issue) -> Decided {
        let now = self.now(issue.now);
        let mut guard = self.shard_mut(issue.family);
        let shard = &mut *guard;
        let unique = self.names.unique(&issue.pair);
        let refused = |outcome| Ok(Ticket::ready(Ok(Outcome::Issue(outcome))));
        let mut unit = Unit::default();

        let known = shard.pairs.get(&unique).copied();
        let (entry, row) = match known.and_then(|id| shard.grants.get(&id)) {
            Some(entry) => (None, entry.state.now.clone()),
            None => {
                let row = GrantRow {
                    id: issue.grant,
                    created_at: now,
                    revoked_at: Seq(0),
                    base_family: 0,
                    client: issue.pair.client.clone(),
                    subject: issue.pair.subject.clone(),
                    device: issue.pair.device.clone(),
                };
                (Some(self.grant_entry(row.clone(), Lsn(0))), row)
            }
        };
        let grant = match (&entry, shard.grants.get(&row.id)) {
            (Some(entry), _) | (None, Some(entry)) => entry,
            (None, None) => return refused(IssueOutcome::Revoked),
        };
        if !self.admits(issue.admission, grant, &row) {
            return refused(IssueOutcome::Revoked);
        }
        let live = self.live_families(shard, grant, &row, now);
        if let PairPolicy::Reuse { left_secs_min } = issue.policy
            && let Some(reused) = self.reused(shard, &live, issue, left_secs_min, now)
        {
            return self.attached(reused.0, Outcome::Issue(reused.1));
        }
        if issue.policy == PairPolicy::Reject && !live.is_empty() {
            return refused(IssueOutcome::PairTaken);
        }
        let evicted = evicted(issue.policy, &live);
        let shares_base = issue.policy == PairPolicy::Unlimited && issue.refresh.is_none();
        self.write_issue(shard, issue, now, entry, row, evicted, shares_base, &mut unit)
    }

    /// Builds the unit of an issue, enqueues it and notes it in the shard.
    #[allow(clippy::too_many_arguments)]
    fn write_issue(
        &self,
        shard: &mut Shard,
        issue: &Issue,
        now: Timestamp,
        new_grant: Option<GrantEntry>,
        mut grant: GrantRow,
        evicted: &[u64],
        shares_base: bool,
        unit: &mut Unit,
    ) -> Decided {
        let scope = self.intern(&issue.access.scope.to_shared(), &mut unit.records);
        let audience = self.intern(&issue.access.audience, &mut unit.records);
        let base = shard
            .families
            .get(&grant.base_family)
            .filter(|base| shares_base && !base.state.now.dead && now < base.state.now.horizon);
        let mut grant_changed = new_grant.is_some();
        let mut family = match base {
            Some(base) => base.row_with_uses(),
            None => self.new_family(issue, &grant, now, scope, audience),
        };
        let is_new_family = base.is_none();
        if is_new_family && shares_base {
            grant.base_family = family.id;
            grant_changed = true;
        }
        // A shared family's horizon is moved ahead by more than the token needs, so that most
        // births in it write no family record.
        let outgrown = issue.access.expires_at > family.horizon;
        if is_new_family || outgrown {
            let spare = if shares_base { issue.access.expires_at.since(now) } else { 0 };
            family.horizon = family.horizon.max(issue.access.expires_at.plus(spare));
        }
        if grant_changed {
            unit.records.push(Record::Grant(grant.clone()));
        }
        if is_new_family || outgrown {
            unit.records.push(Record::Family(family.clone()));
        }
        for id in evicted {
            if let Some(old) = shard.families.get(id) {
                unit.records.push(Record::Family(FamilyRow { dead: true, ..old.row_with_uses() }));
            }
        }
        // The token of a shared family is admitted by itself; everything above it is checked when
        // it is used.
        let token = self.token_row(&issue.access, &family, 0, issue.admission, scope, audience);
        let token = token.map(|row| TokenRow { generation: family.generation, ..row });
        unit.records.extend(token.map(Record::Token));
        let outcome = Outcome::Issue(IssueOutcome::Issued {
            family: family.id,
            grant: grant.id,
            admission: issue.admission,
        });
        if unit.records.is_empty() {
            return Ok(Ticket::ready(Ok(outcome)));
        }
        let appended = self.journal.append(&unit.records, Lane::Birth, now)?;
        self.note_sets(&unit.records, &appended);
        if let Some(entry) = new_grant {
            shard.pairs.insert(entry.unique, grant.id);
            self.index_grant(&entry);
            shard.grants.insert(grant.id, entry);
        }
        self.note(shard, &unit.records, &appended);
        Ok(appended.ticket(outcome))
    }

    /// Decides and enqueues a redeem.
    pub(crate) fn redeem(&self, redeem: &Redeem) -> Decided {
        let now = self.now(redeem.now);
        let mut guard = self.shard_mut(redeem.family);
        let shard = &mut *guard;
        let answer = |outcome| Ok(Ticket::ready(Ok(Outcome::Redeem(outcome))));
        let Some(entry) = shard.families.get(&redeem.family) else {
            return answer(RedeemOutcome::Dead);
        };
        let row = &entry.state.now;
        let Some(grant) = shard.grants.get(&row.grant) else {
            return answer(RedeemOutcome::Dead);
        };
        if !row.is_refreshable(now) || !self.admits(row.admission, grant, &grant.state.now) {
            return answer(RedeemOutcome::Dead);
        }
        if redeem.generation == row.generation && redeem.digest == row.digest {
            return self.spend(shard, redeem, now);
        }
        if redeem.generation > row.generation {
            return answer(RedeemOutcome::Dead);
        }
        let is_last = redeem.generation + 1 == row.generation
            && redeem.generation == row.mint.generation.wrapping_sub(1)
            && redeem.digest == row.previous;
        if is_last && self.is_retry(entry, redeem, now) {
            if row.mint.request != redeem.request {
                return answer(RedeemOutcome::OtherRequest);
            }
            let outcome = RedeemOutcome::Retried {
                mint: self.mint_of(&row.mint),
                admission: row.admission.min(redeem.arrival),
            };
            return self.attached(entry.state.lsn, Outcome::Redeem(outcome));
        }
        self.kill_family(shard, redeem.family, now, Outcome::Redeem(RedeemOutcome::Replayed))
    }

    /// The token in force was presented: its successor takes its place, or, for a fixed one, an
    /// access token is born beside it.
    fn spend(&self, shard: &mut Shard, redeem: &Redeem, now: Timestamp) -> Decided {
        let Some(entry) = shard.families.get(&redeem.family) else {
            return Ok(Ticket::ready(Ok(Outcome::Redeem(RedeemOutcome::Dead))));
        };
        let mut unit = Unit::default();
        let scope = self.intern(&redeem.access.scope.to_shared(), &mut unit.records);
        let audience = self.intern(&redeem.access.audience, &mut unit.records);
        let mut row = entry.row_with_uses();
        let admission = row.admission.min(redeem.arrival);
        row.redeemed_at = now;
        row.horizon = row.horizon.max(redeem.access.expires_at);
        row.last_used_at = row.last_used_at.max(now);
        row.use_count += 1;
        if let Some(successor) = redeem.successor {
            row.generation = row.generation.saturating_add(1);
            row.previous = row.digest;
            row.digest = successor;
            row.mint = mint_row(
                &redeem.access,
                row.generation,
                redeem.key_version,
                redeem.salt,
                redeem.request,
                (scope, audience),
            );
        }
        let generation = row.generation;
        let token = self.token_row(&redeem.access, &row, generation, admission, scope, audience);
        unit.records.push(Record::Family(row));
        unit.records.extend(token.map(Record::Token));
        let appended = self.journal.append(&unit.records, Lane::Redeem, now)?;
        self.note_sets(&unit.records, &appended);
        self.note(shard, &unit.records, &appended);
        let outcome = RedeemOutcome::Redeemed { generation, admission };
        Ok(appended.ticket(Outcome::Redeem(outcome)))
    }

    /// The retry rule: the request arrived before the successor was first used, and within the cap.
    fn is_retry(&self, entry: &FamilyEntry, redeem: &Redeem, now: Timestamp) -> bool {
        let row = &entry.state.now;
        let used_at = entry.used_at.load(std::sync::atomic::Ordering::SeqCst);
        let before_use = used_at == 0 || redeem.arrival.0 < used_at;
        // The cap begins again once at open for a redeem that was within it when the store stopped:
        // a client's honest retry must not die of the server's own absence.
        let interrupted = entry.state.lsn <= self.opened.lsn
            && self.opened.last_durable.since(row.redeemed_at) <= redeem.retry_secs_max;
        let from = if interrupted { row.redeemed_at.max(self.opened.at) } else { row.redeemed_at };
        before_use
            && redeem.retry_secs_max > 0
            && now.since(from) <= redeem.retry_secs_max
            && now >= row.redeemed_at.minus(RETRY_BACK_SECS_MAX)
            && now < row.mint.expires_at
    }

    /// Ends a family, visible at once, and answers `outcome` when that is durable.
    fn kill_family(&self, shard: &mut Shard, id: u64, now: Timestamp, outcome: Outcome) -> Decided {
        let published = self.journal.published();
        let Some(entry) = shard.families.get_mut(&id) else {
            return Ok(Ticket::ready(Ok(outcome)));
        };
        let record = Record::Family(FamilyRow { dead: true, ..entry.row_with_uses() });
        let appended = self.journal.append(std::slice::from_ref(&record), Lane::Kill, now);
        let at = match &appended {
            Ok(appended) => appended.first,
            // The kill is in effect all the same; only a full queue leaves it undone, untouched.
            Err(StoreError::ReadOnly) => entry.state.lsn,
            Err(_) => return Err(StoreError::Busy),
        };
        entry.state.strike(at, published, |row| row.dead = true);
        let appended = appended.map_err(|_| StoreError::NotDurable)?;
        self.announce(&record, appended.first);
        Ok(appended.ticket(outcome))
    }

    /// Decides and enqueues a revocation. `None` says that the access token is not in memory.
    pub(crate) fn revoke(&self, revoke: &Revoke) -> Option<Decided> {
        let now = self.now(revoke.now);
        let nothing = || Ok(Ticket::ready(Ok(Outcome::Revoke(None))));
        Some(match &revoke.target {
            Target::Everything => self.stamp(StampKind::Everything, Digest([0; 16]), now),
            Target::Client(client) => self.stamp(StampKind::Client, self.names.client(client), now),
            Target::Subject(subject) => {
                self.stamp(StampKind::Subject, self.names.subject(subject), now)
            }
            Target::Pair(client, subject) => self.revoke_pair(client, subject, now),
            Target::Grant(id) => self.revoke_grant(*id, now),
            Target::Family(id) => {
                let mut shard = self.shard_mut(*id);
                match shard.families.get(id) {
                    Some(entry) if !entry.state.now.dead => {
                        let seq = self.raise();
                        self.kill_family(&mut shard, *id, now, Outcome::Revoke(Some(seq)))
                    }
                    Some(entry) => {
                        let lsn = entry.state.lsn;
                        self.attached(lsn, Outcome::Revoke(Some(self.admission())))
                    }
                    None => nothing(),
                }
            }
            Target::Access(locator, digest) => {
                let mut shard = self.shard_mut(locator.id);
                match shard.tokens.get_mut(digest) {
                    Some(token) => self.revoke_token(token, now),
                    None => return None,
                }
            }
            Target::Jwt { jti, expires_at } => self.deny(*jti, *expires_at, now),
        })
    }

    fn revoke_pair(&self, client: &ClientId, subject: &Subject, now: Timestamp) -> Decided {
        self.stamp(StampKind::Pair, self.names.pair(client, subject), now)
    }

    fn stamp(&self, kind: StampKind, digest: Digest, now: Timestamp) -> Decided {
        let mut appended = None;
        let moved = self.stamps.raise(kind, digest, || {
            let seq = self.raise();
            let record = Record::Stamp(StampRow { kind, digest, revoked_at: seq });
            match self.journal.append(&[record], Lane::Kill, now) {
                Ok(at) => {
                    let lsn = at.first;
                    appended = Some(at);
                    Ok((seq, lsn))
                }
                Err(StoreError::ReadOnly) => Err((Some(seq), StoreError::NotDurable)),
                Err(error) => Err((None, error)),
            }
        });
        let (seq, lsn) = moved?;
        self.announce(&Record::Stamp(StampRow { kind, digest, revoked_at: seq }), lsn);
        let outcome = Outcome::Revoke(Some(seq));
        Ok(appended.map_or_else(|| Ticket::ready(Err(StoreError::Closed)), |a| a.ticket(outcome)))
    }

    fn revoke_grant(&self, id: u64, now: Timestamp) -> Decided {
        let published = self.journal.published();
        let mut shard = self.shard_mut(id);
        let Some(entry) = shard.grants.get_mut(&id) else {
            return Ok(Ticket::ready(Ok(Outcome::Revoke(None))));
        };
        let seq = self.raise();
        let record = Record::Grant(GrantRow { revoked_at: seq, ..entry.state.now.clone() });
        let appended = self.journal.append(std::slice::from_ref(&record), Lane::Kill, now);
        let at = match &appended {
            Ok(appended) => appended.first,
            Err(StoreError::ReadOnly) => entry.state.lsn,
            Err(error) => return Err(error.clone()),
        };
        entry.state.strike(at, published, |row| row.revoked_at = row.revoked_at.max(seq));
        let appended = appended.map_err(|_| StoreError::NotDurable)?;
        self.announce(&record, appended.first);
        Ok(appended.ticket(Outcome::Revoke(Some(seq))))
    }

    fn revoke_token(&self, token: &mut TokenEntry, now: Timestamp) -> Decided {
        if token.row.dead {
            return self.attached(token.lsn, Outcome::Revoke(Some(self.admission())));
        }
        let record = Record::Token(TokenRow { dead: true, ..token.row.clone() });
        let appended = match self.journal.append(std::slice::from_ref(&record), Lane::Kill, now) {
            Ok(appended) => appended,
            Err(StoreError::ReadOnly) => {
                token.row.dead = true;
                return Err(StoreError::NotDurable);
            }
            Err(error) => return Err(error),
        };
        token.row.dead = true;
        token.lsn = appended.first;
        self.announce(&record, appended.first);
        Ok(appended.ticket(Outcome::Revoke(Some(self.raise()))))
    }

    fn deny(&self, jti: Digest, expires_at: Timestamp, now: Timestamp) -> Decided {
        let mut denied = self.denied_mut();
        if let Some((_, lsn)) = denied.get(&jti) {
            return self.attached(*lsn, Outcome::Revoke(Some(self.admission())));
        }
        if Self::deny_is_full(&denied) {
            return Err(StoreError::Busy);
        }
        let record = Record::Deny(DenyRow { jti, expires_at });
        let appended = match self.journal.append(std::slice::from_ref(&record), Lane::Kill, now) {
            Ok(appended) => appended,
            Err(StoreError::ReadOnly) => {
                denied.insert(jti, (expires_at, Lsn(0)));
                return Err(StoreError::NotDurable);
            }
            Err(error) => return Err(error),
        };
        denied.insert(jti, (expires_at, appended.first));
        self.announce(&record, appended.first);
        Ok(appended.ticket(Outcome::Revoke(Some(self.raise()))))
    }

    /// Writes a document.
    pub(crate) fn put(&self, put: Put, now: Timestamp) -> Decided {
        debug_assert!(put.kind < 128 && put.name.len() <= 255, "documents are named by our layers");
        if put.body.as_ref().is_some_and(|body| body.len() > DOCUMENT_LEN_MAX) {
            return Ok(Ticket::ready(Ok(Outcome::Put(false))));
        }
        let key = (put.kind, Arc::clone(&put.name));
        let mut documents = self.documents_mut();
        let exists = documents.get(&key).is_some_and(|d| d.now.body.is_some());
        if (put.create && exists) || (put.body.is_none() && !exists) {
            return Ok(Ticket::ready(Ok(Outcome::Put(!put.create))));
        }
        let row = DocumentRow { kind: put.kind, name: put.name, body: put.body };
        let lane = if row.body.is_none() { Lane::Kill } else { Lane::Birth };
        let appended = self.journal.append(&[Record::Document(row.clone())], lane, now)?;
        let published = self.journal.published();
        match documents.get_mut(&key) {
            Some(document) => document.put(row, appended.first, published),
            None => {
                documents.insert(key, Staged::new(row, appended.first));
            }
        }
        Ok(appended.ticket(Outcome::Put(true)))
    }

    /// Notes an appended unit in the shard; reads see it once it is published.
    fn note(&self, shard: &mut Shard, records: &[Record], appended: &Appended) {
        let published = self.journal.published();
        for (n, record) in records.iter().enumerate() {
            let lsn = appended.nth(n);
            match record {
                Record::Grant(row) => {
                    if let Some(entry) = shard.grants.get_mut(&row.id) {
                        if entry.state.lsn == Lsn(0) {
                            entry.state = Staged::new(row.clone(), lsn);
                        } else {
                            entry.state.put(row.clone(), lsn, published);
                        }
                    }
                }
                Record::Family(row) => {
                    if let Some(entry) = shard.families.get_mut(&row.id) {
                        if row.generation != entry.state.now.generation {
                            entry.used_at.store(0, std::sync::atomic::Ordering::SeqCst);
                        }
                        entry
                            .use_count
                            .fetch_max(row.use_count, std::sync::atomic::Ordering::Relaxed);
                        entry
                            .last_used_at
                            .fetch_max(row.last_used_at.0, std::sync::atomic::Ordering::Relaxed);
                        entry.state.put(row.clone(), lsn, published);
                    } else {
                        shard.families.insert(row.id, FamilyEntry::new(row.clone(), lsn));
                        if let Some(grant) = shard.grants.get_mut(&row.grant) {
                            grant.families.push(row.id);
                        }
                    }
                    if row.dead {
                        self.announce(record, lsn);
                    }
                }
                Record::Token(row) => {
                    shard.tokens.insert(row.digest, TokenEntry::new(row.clone(), lsn));
                }
                _ => {}
            }
        }
    }

    fn announce(&self, record: &Record, lsn: Lsn) {
        if let Some((scope, digest, revoked_at)) = revocation_in(record) {
            self.publish(Revocation { lsn, scope, digest, revoked_at });
        }
    }

    /// A ticket for an answer that another unit, at `lsn`, makes durable.
    fn attached(&self, lsn: Lsn, outcome: Outcome) -> Decided {
        Ok(match self.journal.group_of(lsn) {
            Some(group) => Ticket::committing(group, Ok(outcome)),
            None => Ticket::ready(Ok(outcome)),
        })
    }

    /// Families of a grant that may still have a live token, oldest first. Drops dead ones from the
    /// grant's list on the way.
    fn live_families(
        &self,
        shard: &Shard,
        grant: &GrantEntry,
        row: &GrantRow,
        now: Timestamp,
    ) -> Vec<u64> {
        let is_live = |id: &&u64| {
            shard.families.get(id).is_some_and(|family| {
                let family = &family.state.now;
                family.may_live(now) && self.admits(family.admission, grant, row)
            })
        };
        grant.families.iter().filter(is_live).copied().collect()
    }

    fn reused(
        &self,
        shard: &Shard,
        live: &[u64],
        issue: &Issue,
        left_secs_min: u64,
        now: Timestamp,
    ) -> Option<(Lsn, IssueOutcome)> {
        let entry = shard.families.get(live.last()?)?;
        let row = &entry.state.now;
        let mint = &row.mint;
        let fits = mint.request == issue.request
            && row.generation == 0
            && mint.expires_at.since(now) >= left_secs_min.max(1)
            && mint.locator.is_some() == issue.access.handle.is_some();
        fits.then(|| {
            let outcome = IssueOutcome::Reused {
                family: row.id,
                grant: row.grant,
                admission: row.admission,
                mint: self.mint_of(mint),
            };
            (entry.state.lsn, outcome)
        })
    }

    fn new_family(
        &self,
        issue: &Issue,
        grant: &GrantRow,
        now: Timestamp,
        scope: u64,
        audience: u64,
    ) -> FamilyRow {
        let generation = u32::from(issue.refresh.is_some());
        let refresh = issue.refresh;
        FamilyRow {
            id: issue.family,
            grant: grant.id,
            admission: issue.admission,
            created_at: now,
            dead: false,
            generation,
            digest: refresh.map_or(Digest([0; 16]), |r| r.digest),
            previous: Digest([0; 16]),
            expires_at: refresh.map_or(Timestamp(0), |r| r.expires_at),
            idle_secs: refresh.map_or(0, |r| r.idle_secs),
            redeemed_at: now,
            scope,
            audience,
            mint: mint_row(
                &issue.access,
                generation,
                issue.key_version,
                issue.salt,
                issue.request,
                (scope, audience),
            ),
            horizon: Timestamp(0),
            last_used_at: now,
            use_count: 0,
        }
    }

    fn token_row(
        &self,
        access: &AccessBirth,
        family: &FamilyRow,
        generation: u32,
        admission: Seq,
        scope: u64,
        audience: u64,
    ) -> Option<TokenRow> {
        access.handle.map(|(locator, digest)| TokenRow {
            locator,
            digest,
            family: family.id,
            generation,
            admission,
            issued_at: access.issued_at,
            expires_at: access.expires_at,
            scope,
            audience,
            dead: false,
        })
    }

    fn mint_of(&self, row: &MintRow) -> Mint {
        Mint {
            generation: row.generation,
            key_version: row.key_version,
            salt: row.salt,
            locator: row.locator,
            issued_at: row.issued_at,
            expires_at: row.expires_at,
            scope: Scope::from_canonical(self.set_text(row.scope)),
            audience: self.set_text(row.audience),
            tag: row.tag,
        }
    }
}

/// The records of one operation.
#[derive(Default)]
struct Unit {
    records: Vec<Record>,
}

fn mint_row(
    access: &AccessBirth,
    generation: u32,
    key_version: u8,
    salt: [u8; 16],
    request: [u8; 16],
    (scope, audience): (u64, u64),
) -> MintRow {
    MintRow {
        generation,
        key_version,
        salt,
        request,
        locator: access.handle.map(|(locator, _)| locator),
        issued_at: access.issued_at,
        expires_at: access.expires_at,
        scope,
        audience,
        tag: access.tag,
    }
}

/// The families that one more pushes out, oldest first.
fn evicted(policy: PairPolicy, live: &[u64]) -> &[u64] {
    let room = match policy {
        PairPolicy::Unlimited | PairPolicy::Reject => return &[],
        PairPolicy::Replace | PairPolicy::Reuse { .. } => 0,
        PairPolicy::Newest(n) => usize::from(n.max(1)) - 1,
    };
    live.get(..live.len().saturating_sub(room)).unwrap_or(&[])
}
