//! The feed: revocations in the order of the log, as far back as it reaches.

use std::collections::VecDeque;

use super::record::{Record, StampKind};
use super::view::RevokedScope;
use super::{Lsn, Revocation, Seq};

/// How many revocations the feed reaches back.
const FEED_LEN_MAX: usize = 1 << 16;

#[derive(Default)]
pub(crate) struct Feed {
    /// Everything after this position is in `rows`.
    pub(crate) from: Lsn,
    pub(crate) rows: VecDeque<Revocation>,
}

impl Feed {
    pub(crate) fn after(from: Lsn) -> Feed {
        Feed { from, rows: VecDeque::new() }
    }

    /// Adds the row of a record that revokes something, where it belongs in the order of the log.
    pub(crate) fn take(&mut self, record: &Record, lsn: Lsn) {
        let Some((scope, digest, revoked_at)) = revocation_in(record) else { return };
        if lsn <= self.from {
            return;
        }
        let at = self.rows.partition_point(|row| row.lsn < lsn);
        self.rows.insert(at, Revocation { lsn, scope, digest, revoked_at });
        if self.rows.len() > FEED_LEN_MAX
            && let Some(dropped) = self.rows.pop_front()
        {
            self.from = dropped.lsn;
        }
    }
}

/// What a record tells the feed.
pub(crate) fn revocation_in(record: &Record) -> Option<(RevokedScope, [u8; 16], Seq)> {
    let by_id = |id: u64| {
        let mut digest = [0; 16];
        if let Some(head) = digest.first_chunk_mut::<8>() {
            *head = id.to_le_bytes();
        }
        digest
    };
    match record {
        Record::Stamp(row) => {
            let scope = match row.kind {
                // The grant's own row, in the same unit, says it.
                StampKind::Unique => return None,
                StampKind::Everything => RevokedScope::Everything,
                StampKind::Client => RevokedScope::Client,
                StampKind::Subject => RevokedScope::Subject,
                StampKind::Pair => RevokedScope::Pair,
            };
            Some((scope, row.digest.0, row.revoked_at))
        }
        Record::Grant(row) if row.revoked_at > Seq(0) => {
            Some((RevokedScope::Grant, by_id(row.id), row.revoked_at))
        }
        Record::Family(row) if row.dead => {
            Some((RevokedScope::Family, by_id(row.id), Seq(u64::MAX)))
        }
        Record::Token(row) if row.dead => Some((RevokedScope::Token, row.digest.0, Seq(u64::MAX))),
        Record::Deny(row) => Some((RevokedScope::Token, row.jti.0, Seq(u64::MAX))),
        _ => None,
    }
}
