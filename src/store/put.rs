//! Put: documents of the layer above.

use std::sync::Arc;

use super::core::{Core, Journal, Lane};
use super::decide::Decided;
use super::record::{DocumentRow, Record};
use super::revoke::NEVER_PUBLISHED;
use super::shard::Staged;
use super::ticket::Ticket;
use super::{Outcome, Put, StoreError};

/// The longest document, in bytes: with its frame it fits one value of the checkpoint.
pub const DOCUMENT_LEN_MAX: usize = 15 * 1024;

impl<J: Journal> Core<J> {
    /// Writes a document.
    pub(crate) fn put(&self, put: Put) -> Decided {
        debug_assert!(put.kind < 128 && put.name.len() <= 255, "documents are named by our layers");
        if put.body.as_ref().is_some_and(|body| body.len() > DOCUMENT_LEN_MAX) {
            return Ok(Ticket::ready(Ok(Outcome::Put(false))));
        }
        let key = (put.kind, Arc::clone(&put.name));
        let mut documents = self.documents_mut();
        let exists = documents.get(&key).is_some_and(|d| d.now.body.is_some());
        if (put.create && exists) || (put.body.is_none() && !exists) {
            // What makes it so may still be on its way to the disk.
            let outcome = Outcome::Put(!put.create);
            return match documents.get(&key) {
                Some(document) => self.attached(document.lsn, outcome),
                None => Ok(Ticket::ready(Ok(outcome))),
            };
        }
        let row = DocumentRow { kind: put.kind, name: put.name, body: put.body };
        let ends = put.ends || row.body.is_none();
        let lane = if ends { Lane::Kill } else { Lane::Birth };
        let appended = self.append(&[Record::Document(row.clone())], lane);
        let at = match &appended {
            Ok(appended) => appended.first,
            // It is ended all the same; what is read of it stays, so that ending it again is refused
            // again and never called durable.
            Err(StoreError::ReadOnly) if ends => NEVER_PUBLISHED,
            Err(error) => return Err(error.clone()),
        };
        let published = self.journal.published();
        match documents.get_mut(&key) {
            Some(document) => document.put(row, at, published),
            None => {
                documents.insert(key, Staged::new(row, at));
            }
        }
        let appended = appended.map_err(|_| StoreError::NotDurable)?;
        Ok(appended.ticket(Outcome::Put(true)))
    }
}
