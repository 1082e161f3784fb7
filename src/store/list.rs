//! Listings, a page at a time, from indexes that never scan the table.

use std::ops::Bound;
use std::sync::Arc;

use super::core::{Core, Journal, shard_of_pair};
use super::{Document, GrantView, Listing, Lsn, Page, StoreError};
use crate::locator::Digest;
use crate::scope::Scope;
use crate::sync::atomic::Ordering;
use crate::time::Timestamp;

/// The most rows of one page.
pub(crate) const PAGE_ROWS_MAX: usize = 2_500;

impl<J: Journal> Core<J> {
    pub(crate) fn list(
        &self,
        listing: &Listing,
        cursor: Option<&[u8]>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Page, StoreError> {
        let limit = limit.clamp(1, PAGE_ROWS_MAX);
        match listing {
            Listing::OfSubject(subject) => {
                self.list_grants(self.names.subject(subject), cursor, limit, now)
            }
            Listing::OfClient(client) => {
                self.list_grants(self.names.client(client), cursor, limit, now)
            }
            Listing::OfPair(pair) => {
                let unique = self.names.unique(pair);
                let id = shard_of_pair(unique);
                let grant = self.shard(id).pairs.get(&unique).copied();
                let mut page = Page::default();
                if let Some(grant) = grant {
                    self.list_families(grant, 0, limit, now, &mut page);
                }
                Ok(page)
            }
            Listing::Code(code) => Ok(Page { code: self.view_code(code, now), ..Page::default() }),
            Listing::Document(kind, name) => {
                let documents = self.documents();
                let found = documents.get(&(*kind, Arc::clone(name)));
                let body = found
                    .and_then(|d| d.visible(self.journal.published()))
                    .and_then(|row| row.body.clone());
                let documents =
                    body.map(|body| Document { name: Arc::clone(name), body }).into_iter();
                Ok(Page { documents: documents.collect(), ..Page::default() })
            }
            Listing::Documents(kind) => self.list_documents(*kind, cursor, limit),
            Listing::Revocations => self.list_revocations(cursor, limit),
        }
    }

    /// Cursor: grant and family of the last row seen, 8 bytes each.
    fn list_grants(
        &self,
        name: Digest,
        cursor: Option<&[u8]>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Page, StoreError> {
        let (mut grant, mut family) = match cursor {
            None => (0, 0),
            Some(bytes) => {
                let bytes: &[u8; 16] = bytes.try_into().map_err(|_| StoreError::BadCursor)?;
                let (grant, family) = bytes.split_at(8);
                (number(grant), number(family))
            }
        };
        let mut page = Page::default();
        // The grant of the cursor may have more families, so the search begins one before it.
        for id in self.grants_under(name, grant.saturating_sub(1), limit + 1) {
            if id != grant {
                (grant, family) = (id, 0);
            }
            if page.grants.len() >= limit {
                break;
            }
            self.list_families(id, family, limit, now, &mut page);
            if let Some(last) = page.grants.last().filter(|row| row.grant == id) {
                family = last.family;
            }
            let mut next = id.to_be_bytes().to_vec();
            next.extend_from_slice(&family.to_be_bytes());
            page.next = Some(next);
        }
        let full = page.grants.len() >= limit;
        let more = full || !self.grants_under(name, grant, 1).is_empty();
        if !more {
            page.next = None;
        }
        Ok(page)
    }

    fn list_families(&self, id: u64, after: u64, limit: usize, now: Timestamp, page: &mut Page) {
        let shard = self.shard(id);
        let published = self.journal.published();
        let Some(entry) = shard.grants.get(&id) else { return };
        let Some(grant) = entry.state.visible(published) else { return };
        // The list is in the order of the identifiers.
        let from = entry.families.partition_point(|family| *family <= after);
        for family in entry.families.iter().skip(from).copied() {
            if page.grants.len() >= limit {
                return;
            }
            self.rows_walked.fetch_add(1, Ordering::Relaxed);
            let Some(held) = shard.families.get(&family) else { continue };
            let Some(row) = held.state.visible(published) else { continue };
            if !row.may_live(now) || !self.admits(row.admission, entry, grant) {
                continue;
            }
            let uses = held.row_with_uses();
            page.grants.push(GrantView {
                grant: id,
                family,
                client: grant.client.clone(),
                subject: grant.subject.clone(),
                device: grant.device.clone(),
                scope: Scope::from_canonical(self.set_text(row.scope)),
                refreshable: row.is_refreshable(now),
                generation: row.generation,
                created_at: row.created_at,
                expires_at: if row.generation == 0 { row.horizon } else { row.expires_at },
                last_used_at: uses.last_used_at,
                use_count: uses.use_count,
            });
        }
    }

    /// Cursor: the name of the last document seen.
    fn list_documents(
        &self,
        kind: u8,
        cursor: Option<&[u8]>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let after = match cursor {
            None => Bound::Included((kind, Arc::from(""))),
            Some(bytes) => {
                let name = std::str::from_utf8(bytes).map_err(|_| StoreError::BadCursor)?;
                Bound::Excluded((kind, Arc::from(name)))
            }
        };
        let published = self.journal.published();
        let documents = self.documents();
        let rows = documents.range((after, Bound::Unbounded)).take_while(|((k, _), _)| *k == kind);
        let live = rows.filter_map(|((_, name), state)| {
            let body = state.visible(published)?.body.clone()?;
            Some(Document { name: Arc::clone(name), body })
        });
        let documents: Vec<Document> = live.take(limit).collect();
        let next = match documents.last() {
            Some(last) if documents.len() == limit => Some(last.name.as_bytes().to_vec()),
            _ => None,
        };
        Ok(Page { documents, next, ..Page::default() })
    }

    /// Cursor: the position up to which the feed was read. Only published rows are shown, so what
    /// was read once never changes.
    fn list_revocations(&self, cursor: Option<&[u8]>, limit: usize) -> Result<Page, StoreError> {
        let feed = self.feed();
        // After the lock: whatever is published by now is in the feed.
        let published = self.journal.published();
        let after = match cursor {
            None => feed.from,
            Some(bytes) => {
                let bytes: &[u8; 8] = bytes.try_into().map_err(|_| StoreError::BadCursor)?;
                Lsn(u64::from_be_bytes(*bytes))
            }
        };
        if after < feed.from {
            return Err(StoreError::SnapshotNeeded);
        }
        let start = feed.rows.partition_point(|row| row.lsn <= after);
        let rows = feed.rows.range(start..).take_while(|row| row.lsn <= published);
        let revocations: Vec<_> = rows.take(limit).cloned().collect();
        let read_to = match revocations.last() {
            Some(last) if revocations.len() == limit => last.lsn,
            _ if published == Lsn(u64::MAX) => revocations.last().map_or(after, |last| last.lsn),
            _ => published.max(after),
        };
        Ok(Page { revocations, next: Some(read_to.0.to_be_bytes().to_vec()), ..Page::default() })
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.first_chunk::<8>().map_or(0, |b| u64::from_be_bytes(*b))
}
