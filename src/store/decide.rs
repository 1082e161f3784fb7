//! What the decisions share. Each verb is judged, enqueued and noted under one lock, as one unit.

use super::core::{Appended, Core, Journal};
use super::record::{FamilyRow, MintRow, Record, TokenRow};
use super::shard::{FamilyEntry, Shard, Staged, TokenEntry};
use super::ticket::Ticket;
use super::{AccessBirth, Lsn, Mint, Outcome, Seq, StoreError};
use crate::scope::Scope;

/// The ticket of a decided verb, or why it was refused.
pub(crate) type Decided = Result<Ticket<Outcome>, StoreError>;

impl<J: Journal> Core<J> {
    /// Notes an appended unit in the shard; reads see it once it is published.
    pub(crate) fn note(&self, shard: &mut Shard, records: &[Record], appended: &Appended) {
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
                            entry.used_at.store(0, crate::sync::atomic::Ordering::SeqCst);
                        }
                        entry
                            .use_count
                            .fetch_max(row.use_count, crate::sync::atomic::Ordering::Relaxed);
                        entry
                            .last_used_at
                            .fetch_max(row.last_used_at.0, crate::sync::atomic::Ordering::Relaxed);
                        entry.state.put(row.clone(), lsn, published);
                    } else {
                        shard.families.insert(row.id, FamilyEntry::new(row.clone(), lsn));
                        if let Some(grant) = shard.grants.get_mut(&row.grant) {
                            let at = grant.families.partition_point(|id| *id < row.id);
                            grant.families.insert(at, row.id);
                        }
                    }
                }
                Record::Code(row) => {
                    if let Some(code) = shard.codes.get_mut(&row.id) {
                        code.put(row.clone(), lsn, published);
                    }
                }
                Record::Token(row) => {
                    shard.tokens.insert(row.digest, TokenEntry::new(row.clone(), lsn));
                }
                _ => {}
            }
        }
    }

    /// A ticket for an answer that another unit, at `lsn`, makes durable.
    pub(crate) fn attached(&self, lsn: Lsn, outcome: Outcome) -> Decided {
        Ok(match self.journal.group_of(lsn) {
            Some(group) => Ticket::committing(group, Ok(outcome)),
            None => Ticket::ready(Ok(outcome)),
        })
    }

    /// The identifiers of the texts of an access token; as a rule its family has the same ones.
    pub(crate) fn texts_of(
        &self,
        access: &AccessBirth,
        family: &FamilyRow,
        records: &mut Vec<Record>,
    ) -> Result<(u64, u64), StoreError> {
        if self.has_texts(family, access) {
            return Ok((family.scope, family.audience));
        }
        let scope = self.intern(&access.scope.to_shared(), records)?;
        Ok((scope, self.intern(&access.audience, records)?))
    }

    /// Whether the texts of a family are durable and those of an access token: then they need no
    /// digest.
    pub(crate) fn has_texts(&self, family: &FamilyRow, access: &AccessBirth) -> bool {
        self.are_texts([(family.scope, access.scope.as_str()), (family.audience, &access.audience)])
    }

    pub(crate) fn token_row(
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

    pub(crate) fn mint_of(&self, row: &MintRow) -> Box<Mint> {
        Box::new(Mint {
            generation: row.generation,
            key_version: row.key_version,
            salt: row.salt,
            locator: row.locator,
            issued_at: row.issued_at,
            expires_at: row.expires_at,
            scope: Scope::from_canonical(self.set_text(row.scope)),
            audience: self.set_text(row.audience),
            tag: row.tag,
        })
    }
}

pub(crate) fn mint_row(
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
