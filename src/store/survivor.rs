//! Survivors: what the oldest segment of the log holds and is still needed is written again at the
//! head, through the ordinary commit path.

use std::sync::Arc;

use super::core::{Core, HORIZON_SLACK_SECS, Journal, Lane};
use super::record::Record;
use super::shard::TokenEntry;
use super::{Lsn, StoreError};
use crate::sync::planted;
use crate::time::Timestamp;

/// What became of a record of the oldest segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Survivor {
    /// Its entity was written again.
    Moved,
    /// A later record, death or age makes it superfluous.
    Gone,
    /// An access token that is not in memory: only the checkpoint knows.
    Cold,
}

impl<J: Journal> Core<J> {
    /// Writes the entity of `record` again if that record, at `lsn`, is its latest.
    ///
    /// What is written is the state under the entity's lock at the moment of the enqueue, never the
    /// bytes that were read: a kill that comes first is what survives, one that comes later has the
    /// later position. Dead tokens and families are written again too until they are swept, so that
    /// no death leaves the log before every record of the life that it ended.
    pub(crate) fn rewrite(
        &self,
        record: &Record,
        lsn: Lsn,
        mark: Timestamp,
    ) -> Result<Survivor, StoreError> {
        let write = |record: Record| -> Result<Lsn, StoreError> {
            // The log must be able to move on when births are refused, and leave room for kills.
            Ok(self.append_again(&[record.again()], Lane::Clean)?.first)
        };
        let moved = match record {
            Record::Token(row) => {
                let mut shard = self.shard_mut(row.locator.id);
                match shard.tokens.get_mut(&row.digest) {
                    // A late fill may have left an older position than that of the latest record.
                    Some(token)
                        if token.lsn <= lsn
                            && mark < token.row.expires_at.plus(HORIZON_SLACK_SECS) =>
                    {
                        token.lsn = write(Record::Token(token.row.clone()))?;
                        Some(token.lsn)
                    }
                    None if mark < row.expires_at.plus(HORIZON_SLACK_SECS) => {
                        return Ok(Survivor::Cold);
                    }
                    _ => None,
                }
            }
            Record::Family(row) => {
                let mut shard = self.shard_mut(row.id);
                match shard.families.get_mut(&row.id) {
                    Some(family) if planted!(SurvivorAsRead) => {
                        let at = write(record.clone())?;
                        family.state.moved(at);
                        Some(at)
                    }
                    Some(family) if family.state.lsn == lsn => {
                        let at = write(Record::Family(family.row_with_uses()))?;
                        family.state.now = family.row_with_uses();
                        family.state.moved(at);
                        Some(at)
                    }
                    _ => None,
                }
            }
            Record::Grant(row) => {
                let mut shard = self.shard_mut(row.id);
                match shard.grants.get_mut(&row.id) {
                    Some(grant) if grant.state.lsn == lsn => {
                        let at = write(Record::Grant(grant.state.now.clone()))?;
                        grant.state.moved(at);
                        Some(at)
                    }
                    _ => None,
                }
            }
            Record::Stamp(row) => {
                self.stamps.rewrite(row.kind, row.digest, lsn, |row| write(Record::Stamp(row)))?
            }
            Record::Deny(row) => match self.denied_mut().get_mut(&row.jti) {
                Some((expires_at, at))
                    if *at == lsn && mark < expires_at.plus(HORIZON_SLACK_SECS) =>
                {
                    *at = write(Record::Deny(*row))?;
                    Some(*at)
                }
                _ => None,
            },
            Record::Document(row) => {
                let key = (row.kind, Arc::clone(&row.name));
                let mut documents = self.documents_mut();
                match documents.get_mut(&key) {
                    // Every earlier record of it has left the log: its removal may go too.
                    Some(document) if document.lsn == lsn && document.now.body.is_none() => {
                        documents.remove(&key);
                        None
                    }
                    Some(document) if document.lsn == lsn => {
                        let at = write(Record::Document(document.now.clone()))?;
                        document.moved(at);
                        Some(at)
                    }
                    _ => None,
                }
            }
            Record::Code(row) => self.rewrite_code(row, lsn, mark, write)?,
            Record::Used(row) => self.used_mut().rewrite(row, lsn, mark, write)?,
            Record::Again(record) => return self.rewrite(record, lsn, mark),
            Record::Set(row) => match self.sets_mut().get_mut(&row.id) {
                Some(set) if set.lsn == lsn => {
                    set.lsn = write(record.clone())?;
                    Some(set.lsn)
                }
                _ => None,
            },
        };
        Ok(moved.map_or(Survivor::Gone, |_| Survivor::Moved))
    }

    /// Brings an access token that the checkpoint holds back into memory, unless a later record of
    /// it is there already.
    pub(crate) fn fill(&self, row: super::record::TokenRow, lsn: Lsn) {
        let mut shard = self.shard_mut(row.locator.id);
        let digest = row.digest;
        shard.tokens.entry(digest).or_insert_with(|| TokenEntry::new(row, lsn));
    }
}
