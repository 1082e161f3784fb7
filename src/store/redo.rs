//! Redo: records from the log or the checkpoint become state again.

use std::sync::Arc;

use super::Lsn;
use super::core::{Core, Journal, SHARDS, SetEntry};
use super::record::{Record, TokenRow};
use super::shard::{FamilyEntry, Staged, TokenEntry};

impl<J: Journal> Core<J> {
    /// Takes a record from the log or the checkpoint. The later position wins; repeating is
    /// harmless.
    pub(crate) fn redo(&self, record: Record, lsn: Lsn) {
        self.feed_mut().take(&record, lsn);
        match record {
            Record::Token(row) => self.redo_token(row, lsn),
            Record::Family(row) => {
                let mut shard = self.shard_mut(row.id);
                if shard.families.get(&row.id).is_some_and(|f| f.state.lsn >= lsn) {
                    return;
                }
                let (id, grant) = (row.id, row.grant);
                shard.families.insert(id, FamilyEntry::new(row, lsn));
                if let Some(grant) = shard.grants.get_mut(&grant)
                    && let Err(at) = grant.families.binary_search(&id)
                {
                    grant.families.insert(at, id);
                }
            }
            Record::Grant(row) => {
                let mut shard = self.shard_mut(row.id);
                if shard.grants.get(&row.id).is_some_and(|g| g.state.lsn >= lsn) {
                    return;
                }
                let mut entry = self.grant_entry(row, lsn);
                let id = entry.state.now.id;
                if let Some(old) = shard.grants.remove(&id) {
                    entry.families = old.families;
                }
                // Of two grants of a pair the one that was drawn later counts: the other was swept
                // before it. Not the later position: a survivor is written again behind its
                // successor.
                if shard.pairs.get(&entry.unique).is_none_or(|held| *held < id) {
                    shard.pairs.insert(entry.unique, id);
                }
                self.index_grant(&entry);
                shard.grants.insert(id, entry);
            }
            Record::Again(record) => self.redo(*record, lsn),
            Record::Stamp(row) => self.stamps.redo(&row, lsn),
            Record::Deny(row) => {
                let mut denied = self.denied_mut();
                let entry = denied.entry(row.jti).or_insert((row.expires_at, lsn));
                entry.1 = entry.1.max(lsn);
            }
            Record::Document(row) => {
                let key = (row.kind, Arc::clone(&row.name));
                let mut documents = self.documents_mut();
                if documents.get(&key).is_none_or(|d| d.lsn < lsn) {
                    documents.insert(key, Staged::new(row, lsn));
                }
            }
            Record::Set(row) => {
                let mut sets = self.sets_mut();
                let entry = sets.entry(row.id).or_insert(SetEntry { text: row.text, lsn });
                entry.lsn = entry.lsn.max(lsn);
            }
            Record::Code(row) => self.redo_code(row, lsn),
            Record::Used(row) => self.used_mut().redo(row, lsn),
        }
    }

    fn redo_token(&self, row: TokenRow, lsn: Lsn) {
        let mut shard = self.shard_mut(row.locator.id);
        if shard.tokens.get(&row.digest).is_some_and(|t| t.lsn >= lsn) {
            return;
        }
        shard.tokens.insert(row.digest, TokenEntry::new(row, lsn));
    }

    /// Families and grants may come from the checkpoint in any order: joins them at the end.
    pub(crate) fn join_families(&self) {
        for id in 0..SHARDS as u64 {
            let mut guard = self.shard_mut(id);
            let shard = &mut *guard;
            for entry in shard.grants.values_mut() {
                entry.families.clear();
            }
            for (id, family) in &shard.families {
                if let Some(grant) = shard.grants.get_mut(&family.state.now.grant) {
                    grant.families.push(*id);
                }
            }
            for entry in shard.grants.values_mut() {
                entry.families.sort_unstable();
            }
        }
    }
}
