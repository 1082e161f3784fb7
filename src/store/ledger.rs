//! The ledger: the log read as a history. Nothing is written for it: it is the chained groups of the
//! commit log, and segments that the store needs no more are kept for it as long as the setting says.

use std::io;
use std::sync::Arc;

use super::core::{Core, Journal};
use super::log::Log;
use super::record::{FamilyRow, Record, StampKind};
use super::recovery::LogReader;
use super::segment::{GroupHead, segment_name, segment_number};
use super::storage::Storage;
use super::{Lsn, Pair, RevokedScope, StoreError};
use crate::ids::{ClientId, Subject};
use crate::locator::Digest;
use crate::scope::Scope;
use crate::time::Timestamp;

/// The most entries of one page.
const ROWS_MAX: usize = 10_000;
const KEPT: &str = ".old";

/// One entry of the ledger.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LedgerEntry {
    /// Its position in the log.
    pub lsn: Lsn,
    /// The time of the store when its group was written.
    pub at: Timestamp,
    /// Chain value of its group: a keyed hash over the group and all groups before it. Kept
    /// elsewhere, it tells later whether the log was changed.
    pub chain: [u8; 16],
    /// Whose it is, where the store still knows.
    pub client: Option<ClientId>,
    /// Whose it is, where the store still knows.
    pub subject: Option<Subject>,
    /// What was recorded.
    pub what: Recorded,
}

/// What the log says of an entity. Names that the store keeps as keyed digests alone are found where
/// a grant under them is left.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recorded {
    /// An opaque access token was born.
    AccessToken {
        /// Its family.
        family: u64,
        /// The generation that it was born with.
        generation: u32,
        /// When it was issued.
        issued_at: Timestamp,
        /// The first second at which it is dead.
        expires_at: Timestamp,
        /// Its scope, where the store still knows it.
        scope: Scope,
    },
    /// An opaque access token was revoked by itself.
    AccessTokenRevoked {
        /// Its family.
        family: u64,
        /// The generation that it was born with.
        generation: u32,
    },
    /// A JWT was revoked by itself.
    JwtRevoked {
        /// Digest of its `jti`.
        jti: [u8; 16],
        /// When it expires.
        expires_at: Timestamp,
    },
    /// A family: one login.
    Login {
        /// Its grant.
        grant: u64,
        /// Its identifier.
        family: u64,
        /// What became of it.
        change: LoginChange,
        /// Generation of the refresh token in force; 0 without one.
        generation: u32,
        /// Its scope, where the store still knows it.
        scope: Scope,
    },
    /// A grant was made.
    Grant {
        /// Its identifier.
        grant: u64,
    },
    /// Something was revoked with all below it.
    Revoked {
        /// What kind of thing.
        scope: RevokedScope,
        /// Its keyed digest, or its identifier in the first eight bytes.
        digest: [u8; 16],
    },
    /// An authorization code, or a pushed request.
    Code {
        /// When it was issued.
        issued_at: Timestamp,
        /// The family that it was redeemed for.
        redeemed_for: Option<u64>,
    },
    /// A value that may be used once was used, such as an assertion.
    UsedOnce {
        /// Until when it is remembered.
        expires_at: Timestamp,
    },
    /// A document was written: a client, a signing key.
    Document {
        /// Its kind, as in [`Listing::Documents`](super::Listing::Documents).
        kind: u8,
        /// Its name: the `client_id`, the `kid`.
        name: Arc<str>,
        /// Whether it was removed.
        is_removed: bool,
    },
}

/// What became of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoginChange {
    /// Tokens were issued in it, by no refresh token.
    Issued,
    /// Its refresh token was redeemed.
    Redeemed,
    /// It has ended: a revocation, a replay, a newer login in its place.
    Ended,
}

/// A part of the ledger.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LedgerPage {
    /// The entries, in the order of the log.
    pub entries: Vec<LedgerEntry>,
    /// Where the next page begins: everything up to here was read.
    pub next: Lsn,
}

/// The name of a segment that only the ledger needs.
pub(super) fn kept_name(number: u64) -> String {
    segment_name(number).replace(".log", KEPT)
}

fn kept_number(name: &str) -> Option<u64> {
    segment_number(&name.strip_suffix(KEPT).map(|bare| format!("{bare}.log"))?)
}

/// Lets go of a segment that the store needs no more: for the ledger, or for good.
pub(super) fn retire(
    storage: &dyn Storage,
    number: u64,
    segment_len: usize,
    max: u64,
) -> Result<(), StoreError> {
    let name = segment_name(number);
    let kept = max >= segment_len as u64;
    let gone = match kept {
        false => storage.remove(&name).and_then(|()| storage.sync_names()),
        true => storage.rename(&name, &kept_name(number)),
    };
    gone.map_err(StoreError::io("remove", storage.path().join(name)))?;
    if kept { trim(storage, segment_len, max) } else { Ok(()) }
}

/// As [`retire`], of all below `first` that are still there.
pub(super) fn retire_below(
    storage: &dyn Storage,
    first: u64,
    segment_len: usize,
    max: u64,
) -> Result<(), StoreError> {
    let names = storage.list().map_err(StoreError::io("list", storage.path()))?;
    for number in names.iter().filter_map(|name| segment_number(name)).filter(|n| *n < first) {
        retire(storage, number, segment_len, max)?;
    }
    trim(storage, segment_len, max)
}

/// Removes the oldest of what is kept for the ledger alone, beyond `max` bytes.
fn trim(storage: &dyn Storage, segment_len: usize, max: u64) -> Result<(), StoreError> {
    let path = storage.path();
    let names = storage.list().map_err(StoreError::io("list", path))?;
    let mut kept: Vec<u64> = names.iter().filter_map(|name| kept_number(name)).collect();
    kept.sort_unstable();
    let room = usize::try_from(max / (segment_len.max(1) as u64)).unwrap_or(usize::MAX);
    for number in kept.iter().take(kept.len().saturating_sub(room)) {
        let name = kept_name(*number);
        storage.remove(&name).map_err(StoreError::io("remove", path.join(name)))?;
    }
    storage.sync_names().map_err(StoreError::io("sync", path))
}

/// Reads a page.
pub(super) fn read(
    core: &Core<Arc<Log>>,
    log: &Arc<Log>,
    after: Option<Lsn>,
    rows: usize,
) -> Result<LedgerPage, StoreError> {
    let rows = rows.clamp(1, ROWS_MAX);
    let published = log.published();
    let (first, ..) = log.segments();
    let storage = log.storage();
    let names = storage.list().map_err(StoreError::io("list", storage.path()))?;
    let oldest =
        names.iter().filter_map(|name| kept_number(name)).min().map_or(first, |n| n.min(first));
    let mut page = LedgerPage { entries: Vec::new(), next: after.unwrap_or_default() };
    if after.is_some_and(|after| after >= published) || published == Lsn(0) {
        return Ok(page);
    }
    let mut reader = LogReader::new(Arc::clone(storage), *log.key(), log.segment_len(), oldest);
    if let Some(after) = after {
        reader.skip_to(after)?;
    }
    let mut is_first = true;
    while page.next < published && page.entries.len() < rows {
        let (head, body) = reader.next().map_err(gone)?;
        if is_first && after.is_some_and(|after| head.first.0 > after.0 + 1) {
            return Err(StoreError::SnapshotNeeded);
        }
        is_first = false;
        take_group(core, &head, &body, rows, &mut page)?;
    }
    Ok(page)
}

/// A segment that went while it was about to be read is one that the ledger reaches back to no more.
fn gone(error: StoreError) -> StoreError {
    match error {
        StoreError::Io { error, .. } if error.kind() == io::ErrorKind::NotFound => {
            StoreError::SnapshotNeeded
        }
        error => error,
    }
}

fn take_group(
    core: &Core<Arc<Log>>,
    head: &GroupHead,
    mut body: &[u8],
    rows: usize,
    page: &mut LedgerPage,
) -> Result<(), StoreError> {
    let damaged = |_| StoreError::Corrupt {
        path: segment_name(head.segment).into(),
        offset: 0,
        reason: "a published group holds what is no record",
    };
    for n in 0..u64::from(head.count) {
        if page.entries.len() == rows {
            return Ok(());
        }
        let lsn = Lsn(head.first.0 + n);
        let (record, is_again, len) = Record::decode_marked(body).map_err(damaged)?;
        body = body.get(len..).unwrap_or(&[]);
        if lsn <= page.next {
            continue;
        }
        page.next = lsn;
        if is_again {
            continue;
        }
        let Some(what) = recorded(core, &record) else { continue };
        let (client, subject) = core.holder(&record);
        let (at, chain) = (head.high_water, head.chain);
        page.entries.push(LedgerEntry { lsn, at, chain, client, subject, what });
    }
    Ok(())
}

fn recorded<J: Journal>(core: &Core<J>, record: &Record) -> Option<Recorded> {
    let by_id = |id: u64| {
        let mut digest = [0; 16];
        digest[..8].copy_from_slice(&id.to_le_bytes());
        digest
    };
    let scope = |id| Scope::from_canonical(core.set_text(id));
    Some(match record {
        Record::Token(row) if row.dead => {
            Recorded::AccessTokenRevoked { family: row.family, generation: row.generation }
        }
        Record::Token(row) => Recorded::AccessToken {
            family: row.family,
            generation: row.generation,
            issued_at: row.issued_at,
            expires_at: row.expires_at,
            scope: scope(row.scope),
        },
        Record::Family(row) => Recorded::Login {
            grant: row.grant,
            family: row.id,
            change: change_of(row)?,
            generation: row.generation,
            scope: scope(row.scope),
        },
        Record::Grant(row) if row.revoked_at.0 > 0 => {
            Recorded::Revoked { scope: RevokedScope::Grant, digest: by_id(row.id) }
        }
        Record::Grant(row) => Recorded::Grant { grant: row.id },
        Record::Stamp(row) => {
            let scope = match row.kind {
                StampKind::Everything => RevokedScope::Everything,
                StampKind::Client => RevokedScope::Client,
                StampKind::Subject => RevokedScope::Subject,
                StampKind::Pair => RevokedScope::Pair,
                // The grant's own row, in the same unit, says it.
                StampKind::Unique => return None,
            };
            Recorded::Revoked { scope, digest: row.digest.0 }
        }
        Record::Deny(row) => Recorded::JwtRevoked { jti: row.jti.0, expires_at: row.expires_at },
        Record::Document(row) => Recorded::Document {
            kind: row.kind,
            name: Arc::clone(&row.name),
            is_removed: row.body.is_none(),
        },
        Record::Code(row) => Recorded::Code {
            issued_at: row.issued_at,
            redeemed_for: Some(row.spent_for).filter(|family| *family > 0),
        },
        Record::Used(row) => Recorded::UsedOnce { expires_at: row.expires_at },
        Record::Set(_) | Record::Again(_) => return None,
    })
}

/// What a family's record says of it, by itself.
fn change_of(row: &FamilyRow) -> Option<LoginChange> {
    match row {
        _ if row.dead => Some(LoginChange::Ended),
        // Its token was revoked by itself: that record says so.
        _ if row.mint.expires_at == Timestamp(0) => None,
        // A redemption is a use.
        _ if row.generation > 1 || (row.generation == 1 && row.use_count > 0) => {
            Some(LoginChange::Redeemed)
        }
        _ => Some(LoginChange::Issued),
    }
}

impl<J: Journal> Core<J> {
    /// Whose a record is, as far as memory tells.
    fn holder(&self, record: &Record) -> (Option<ClientId>, Option<Subject>) {
        let pair = |pair: Option<Pair>| match pair {
            Some(pair) => (Some(pair.client), Some(pair.subject)),
            None => (None, None),
        };
        match record {
            Record::Grant(row) => (Some(row.client.clone()), Some(row.subject.clone())),
            Record::Code(row) => (Some(row.client.clone()), Some(row.subject.clone())),
            Record::Family(row) => pair(self.pair_of_grant(row.grant)),
            Record::Token(row) => {
                let grant =
                    self.shard(row.family).families.get(&row.family).map(|f| f.state.now.grant);
                pair(grant.and_then(|grant| self.pair_of_grant(grant)))
            }
            Record::Stamp(row) => match (row.kind, self.pair_under(row.digest)) {
                (StampKind::Client, Some(found)) => (Some(found.client), None),
                (StampKind::Subject, Some(found)) => (None, Some(found.subject)),
                _ => (None, None),
            },
            _ => (None, None),
        }
    }

    fn pair_of_grant(&self, grant: u64) -> Option<Pair> {
        let shard = self.shard(grant);
        let row = &shard.grants.get(&grant)?.state.now;
        let (client, subject) = (row.client.clone(), row.subject.clone());
        Some(Pair { client, subject, device: row.device.clone() })
    }

    /// Any pair under the digest of a client or a subject.
    fn pair_under(&self, name: Digest) -> Option<Pair> {
        self.pair_of_grant(self.grants_under(name, 0, 1).first().copied()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_segment_is_told_by_its_name() {
        assert_eq!(kept_name(255), "00000000000000ff.old");
        assert_eq!(kept_number("00000000000000ff.old"), Some(255));
        for other in ["00000000000000ff.log", "ff.old", "superblock", ".old"] {
            assert_eq!(kept_number(other), None, "{other}");
        }
    }
}
