//! Documents of the authority in the store: their kinds, and reading them all at open.

use super::error::OpenError;
use crate::store::{Document, Listing, Store, StoreError, Ticket};

/// Clients, by `client_id`.
pub(super) const CLIENT: u8 = 1;
/// Sealed signing keys, by `kid`.
pub(super) const SIGNING_KEY: u8 = 2;

/// The longest document, in bytes.
pub(super) const BODY_LEN_MAX: usize = crate::store::DOCUMENT_LEN_MAX;

const PAGE_LEN: usize = 256;

/// Every document of a kind.
pub(super) fn all<S: Store>(store: &S, kind: u8) -> Result<Vec<Document>, OpenError> {
    let mut documents = Vec::new();
    let mut cursor: Option<Vec<u8>> = None;
    loop {
        let page = store.list(Listing::Documents(kind), cursor.as_deref(), PAGE_LEN);
        let page = Ticket::<_, StoreError>::slow(page).wait()?;
        documents.extend(page.documents);
        match page.next {
            Some(next) => cursor = Some(next),
            None => return Ok(documents),
        }
    }
}
