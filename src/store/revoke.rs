//! Revoke: kills that are visible at once and acknowledged when they are durable.

use super::core::{Appended, Core, Journal, Lane};
use super::decide::Decided;
use super::record::{DenyRow, FamilyRow, GrantRow, Record, StampKind, StampRow, TokenRow};
use super::shard::{GrantEntry, Shard};
use super::ticket::Ticket;
use super::{Lsn, Outcome, Revoke, Seq, StoreError, Target};
use crate::locator::Digest;
use crate::time::Timestamp;

/// Position of a kill that is in effect but was refused by the log: to repeat it is to be refused
/// again, never to be told that it is durable.
pub(crate) const NEVER_PUBLISHED: Lsn = Lsn(u64::MAX);

impl<J: Journal> Core<J> {
    /// Decides and enqueues a revocation. `None` says that the access token is not in memory.
    pub(crate) fn revoke(&self, revoke: &Revoke) -> Option<Decided> {
        self.time.observe(revoke.now);
        let nothing = || Ok(Ticket::ready(Ok(Outcome::Revoke(None))));
        Some(match &revoke.target {
            Target::Everything => self.stamp(StampKind::Everything, Digest([0; 16])),
            Target::Client(client) => self.stamp(StampKind::Client, self.names.client(client)),
            Target::Subject(subject) => self.stamp(StampKind::Subject, self.names.subject(subject)),
            Target::Pair(client, subject) => {
                self.stamp(StampKind::Pair, self.names.pair(client, subject))
            }
            Target::Grant(id) => self.revoke_grant(*id),
            Target::Family(id) => {
                let mut shard = self.shard_mut(*id);
                match shard.families.get(id) {
                    Some(entry) if !entry.state.now.dead => {
                        let seq = self.raise();
                        self.kill_family(&mut shard, *id, Outcome::Revoke(Some(seq)))
                    }
                    Some(_) => self.hasten(&mut shard, *id),
                    None => nothing(),
                }
            }
            Target::Access(locator, digest) => {
                let mut shard = self.shard_mut(locator.id);
                if !shard.tokens.contains_key(digest) {
                    return None;
                }
                self.revoke_token(&mut shard, *digest)
            }
            Target::Jwt { jti, expires_at } => self.deny(*jti, *expires_at),
        })
    }

    /// Ends a family, visible at once, and answers `outcome` when that is durable.
    pub(crate) fn kill_family(&self, shard: &mut Shard, id: u64, outcome: Outcome) -> Decided {
        let Some(entry) = shard.families.get_mut(&id) else {
            return Ok(Ticket::ready(Ok(outcome)));
        };
        let record = Record::Family(FamilyRow { dead: true, ..entry.row_with_uses() });
        let appended = self.append(std::slice::from_ref(&record), Lane::Kill);
        let at = match &appended {
            Ok(appended) => appended.first,
            // The kill is in effect all the same; only a full queue leaves it undone, untouched.
            Err(StoreError::ReadOnly) => NEVER_PUBLISHED,
            Err(error) => return Err(error.clone()),
        };
        entry.state.strike(at, |row| row.dead = true);
        let appended = appended.map_err(|_| StoreError::NotDurable)?;
        Ok(appended.ticket(outcome))
    }

    /// A family that a unit on its way ends is revoked too: its end shows at once.
    fn hasten(&self, shard: &mut Shard, id: u64) -> Decided {
        let mut lsn = Lsn(0);
        if let Some(entry) = shard.families.get_mut(&id) {
            lsn = entry.state.lsn;
            entry.state.strike(lsn, |row| row.dead = true);
        }
        self.attached(lsn, Outcome::Revoke(Some(self.admission())))
    }

    fn stamp(&self, kind: StampKind, digest: Digest) -> Decided {
        let mut appended = None;
        let moved = self.stamps.raise(kind, digest, || {
            let seq = self.raise();
            let record = Record::Stamp(StampRow { kind, digest, revoked_at: seq });
            match self.append(&[record], Lane::Kill) {
                Ok(at) => {
                    let lsn = at.first;
                    appended = Some(at);
                    Ok((seq, lsn))
                }
                Err(StoreError::ReadOnly) => Err((Some(seq), StoreError::NotDurable)),
                Err(error) => Err((None, error)),
            }
        });
        let (seq, _) = moved?;
        let outcome = Outcome::Revoke(Some(seq));
        Ok(appended.map_or_else(|| Ticket::ready(Err(StoreError::Closed)), |a| a.ticket(outcome)))
    }

    /// The row says it to listings and to the feed; the stamp says it to whatever was admitted before
    /// and is born when the row has been swept, such as the tokens of a code.
    fn revoke_grant(&self, id: u64) -> Decided {
        let mut guard = self.shard_mut(id);
        let shard = &mut *guard;
        let Some(entry) = shard.grants.get_mut(&id) else {
            return Ok(Ticket::ready(Ok(Outcome::Revoke(None))));
        };
        let unique = entry.unique;
        if shard.pairs.get(&unique) != Some(&id) {
            // A row that the checkpoint brought back: the pair has another grant by now, which lives.
            let seq = self.raise();
            let appended = self.strike_grant(entry, seq, &[])?;
            return Ok(appended.ticket(Outcome::Revoke(Some(seq))));
        }
        let kind = StampKind::Unique;
        let mut struck = None;
        self.stamps.raise(kind, unique, || {
            let seq = self.raise();
            let stamp = Record::Stamp(StampRow { kind, digest: unique, revoked_at: seq });
            match self.strike_grant(entry, seq, &[stamp]) {
                Ok(appended) => {
                    let stamped = appended.nth(1);
                    struck = Some((appended, seq));
                    Ok((seq, stamped))
                }
                Err(StoreError::NotDurable) => Err((Some(seq), StoreError::NotDurable)),
                Err(error) => Err((None, error)),
            }
        })?;
        let (appended, seq) = struck.ok_or(StoreError::Closed)?;
        Ok(appended.ticket(Outcome::Revoke(Some(seq))))
    }

    /// Ends a grant, visible at once, in one unit with `more`.
    fn strike_grant(
        &self,
        entry: &mut GrantEntry,
        seq: Seq,
        more: &[Record],
    ) -> Result<Appended, StoreError> {
        let row = Record::Grant(GrantRow { revoked_at: seq, ..entry.state.now.clone() });
        let records: Vec<Record> = std::iter::once(row).chain(more.iter().cloned()).collect();
        let appended = self.append(&records, Lane::Kill);
        let at = match &appended {
            Ok(appended) => appended.first,
            Err(StoreError::ReadOnly) => NEVER_PUBLISHED,
            Err(error) => return Err(error.clone()),
        };
        entry.state.strike(at, |row| row.revoked_at = row.revoked_at.max(seq));
        appended.map_err(|_| StoreError::NotDurable)
    }

    fn revoke_token(&self, shard: &mut Shard, digest: Digest) -> Decided {
        let nothing = || Ok(Ticket::ready(Ok(Outcome::Revoke(None))));
        let Some(token) = shard.tokens.get_mut(&digest) else { return nothing() };
        if token.row.dead {
            return self.attached(token.lsn, Outcome::Revoke(Some(self.admission())));
        }
        let mut records = vec![Record::Token(TokenRow { dead: true, ..token.row.clone() })];
        // The pair policy `reuse` would hand the same token out again.
        let family = shard.families.get_mut(&token.row.family).filter(|family| {
            let row = &family.state.now;
            row.generation == 0 && row.mint.locator == Some(token.row.locator)
        });
        if let Some(family) = &family {
            let mut row = family.row_with_uses();
            row.mint.expires_at = Timestamp(0);
            records.push(Record::Family(row));
        }
        let appended = match self.append(&records, Lane::Kill) {
            Ok(appended) => appended,
            Err(StoreError::ReadOnly) => {
                token.row.dead = true;
                token.lsn = NEVER_PUBLISHED;
                return Err(StoreError::NotDurable);
            }
            Err(error) => return Err(error),
        };
        token.row.dead = true;
        token.lsn = appended.first;
        if let (Some(family), Some(Record::Family(row))) = (family, records.pop()) {
            family.state.put(row, appended.nth(1), self.journal.published());
        }
        Ok(appended.ticket(Outcome::Revoke(Some(self.raise()))))
    }

    fn deny(&self, jti: Digest, expires_at: Timestamp) -> Decided {
        let mut denied = self.denied_mut();
        if let Some((_, lsn)) = denied.get(&jti) {
            return self.attached(*lsn, Outcome::Revoke(Some(self.admission())));
        }
        if Self::deny_is_full(&denied) {
            return Err(StoreError::Busy);
        }
        let record = Record::Deny(DenyRow { jti, expires_at });
        let appended = match self.append(std::slice::from_ref(&record), Lane::Kill) {
            Ok(appended) => appended,
            Err(StoreError::ReadOnly) => {
                denied.insert(jti, (expires_at, NEVER_PUBLISHED));
                return Err(StoreError::NotDurable);
            }
            Err(error) => return Err(error),
        };
        denied.insert(jti, (expires_at, appended.first));
        Ok(appended.ticket(Outcome::Revoke(Some(self.raise()))))
    }
}
