//! Listing what stands: one row per login, as a page for people shows it and as Salesforce's
//! `OauthToken` object has it. A row holds no secret; its delete handle ends the login.

use std::sync::Arc;

use base64_simd::URL_SAFE_NO_PAD;

use super::audit::{Action, Asker};
use super::error::{Error, Reason};
use super::lookup::ticket;
use super::{Authority, Inner};
use crate::codec::handle::{Handle, HandleKind};
use crate::ids::{ClientId, DeviceId, Subject};
use crate::locator::Locator;
use crate::scope::Scope;
use crate::secret::SecretText;
use crate::store::{GrantView, Listing, Page, Store, Ticket};
use crate::time::Timestamp;

/// The most rows of one page.
pub const GRANTS_PAGE_MAX: usize = 500;

const CURSOR_LEN_MAX: usize = 1_024;

/// One login of one client for one subject.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Grant {
    /// The standing permission of the client for the subject: stable, no secret.
    pub grant: u64,
    /// This login.
    pub family: u64,
    /// The client.
    pub client_id: ClientId,
    /// The client's name for people, empty when it has none.
    pub client_name: String,
    /// The subject.
    pub subject: Subject,
    /// The device, where the host tells devices apart.
    pub device: Option<DeviceId>,
    /// What was granted.
    pub scope: Scope,
    /// Whether it has a live refresh token.
    pub refreshable: bool,
    /// When it was granted.
    pub created_at: Timestamp,
    /// When it ends; [`Timestamp::NEVER`] for "until revoked".
    pub expires_at: Timestamp,
    /// When it was last used. Counted in memory; a crash may forget the latest uses.
    pub last_used_at: Timestamp,
    /// How often it was used. Counted in memory; a crash may forget the latest uses.
    pub use_count: u64,
    /// Ends this login and nothing else: give it to [`Authority::revoke_by_delete_handle`].
    pub delete_handle: SecretText,
}

/// Where a listing goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(Vec<u8>);

impl Cursor {
    /// A text for a URL.
    #[must_use]
    pub fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode_to_string(&self.0)
    }

    /// Reads the text again.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for a text that is no cursor.
    pub fn from_text(text: &str) -> Result<Cursor, Error> {
        if text.len() > CURSOR_LEN_MAX {
            return Err(Error::InvalidRequest(Reason::new("the cursor is too long")));
        }
        URL_SAFE_NO_PAD
            .decode_to_vec(text)
            .map(Cursor)
            .map_err(|_| Error::InvalidRequest(Reason::new("the cursor is malformed")))
    }
}

/// One page. Iterating gives its rows.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GrantPage {
    /// The rows, oldest grant first.
    pub grants: Vec<Grant>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<Cursor>,
}

impl IntoIterator for GrantPage {
    type Item = Grant;
    type IntoIter = std::vec::IntoIter<Grant>;

    fn into_iter(self) -> Self::IntoIter {
        self.grants.into_iter()
    }
}

/// Which logins to list.
#[must_use]
pub struct Grants<'a, S: Store> {
    inner: &'a Arc<Inner<S>>,
}

/// A listing about to be read.
#[must_use = "nothing is read until a page is asked for"]
pub struct GrantList<'a, S: Store> {
    inner: &'a Arc<Inner<S>>,
    listing: Result<Listing, Error>,
    after: Option<Cursor>,
}

impl<S: Store> Authority<S> {
    /// Lists logins.
    pub fn grants(&self) -> Grants<'_, S> {
        Grants { inner: &self.inner }
    }

    /// Ends the login that a delete handle belongs to, with all its tokens. One that is gone is no
    /// error.
    ///
    /// # Durability
    /// As [`Authority::revoke`].
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for a text that is no delete handle of this authority;
    /// [`Error::TemporarilyUnavailable`].
    pub fn revoke_by_delete_handle(&self, handle: &str) -> Ticket<(), Error> {
        let revoked = ticket(match self.inner.handles.parse(HandleKind::Delete, handle) {
            Ok(handle) => Ok(self.inner.revoke_handle(&handle, None)),
            Err(error) => Err(Error::InvalidRequest(Reason::with("no delete handle", error))),
        });
        self.inner.audited(Action::Revoke, Asker::default, revoked)
    }
}

impl<'a, S: Store> Grants<'a, S> {
    /// The live logins of a subject, with every client.
    pub fn of_subject(self, subject: &str) -> GrantList<'a, S> {
        let listing = Subject::new(subject)
            .map(Listing::OfSubject)
            .map_err(|error| Error::InvalidRequest(Reason::with("subject", error)));
        GrantList { inner: self.inner, listing, after: None }
    }

    /// The live logins of a client, for every subject.
    pub fn of_client(self, client_id: &ClientId) -> GrantList<'a, S> {
        let listing = Ok(Listing::OfClient(client_id.clone()));
        GrantList { inner: self.inner, listing, after: None }
    }
}

impl<S: Store> GrantList<'_, S> {
    /// Begins after the page that gave this cursor.
    pub fn after(mut self, cursor: Cursor) -> Self {
        self.after = Some(cursor);
        self
    }

    /// Reads at most `rows` rows, 1 to [`GRANTS_PAGE_MAX`]. A page may be short, or empty, though
    /// there is a next one.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for a malformed subject;
    /// [`Error::TemporarilyUnavailable`] when the store cannot read, or for a cursor of another
    /// listing.
    pub fn page(self, rows: usize) -> Ticket<GrantPage, Error> {
        let GrantList { inner, listing, after } = self;
        let listing = match listing {
            Ok(listing) => listing,
            Err(error) => return Ticket::ready(Err(error)),
        };
        let cursor = after.as_ref().map(|cursor| cursor.0.as_slice());
        let page = inner.store.list(listing, cursor, rows.clamp(1, GRANTS_PAGE_MAX));
        let inner = Arc::clone(inner);
        Ticket::slow(async move { inner.grant_page(page.await?) })
    }
}

impl<S: Store> Inner<S> {
    fn grant_page(&self, page: Page) -> Result<GrantPage, Error> {
        let rows = page.grants.into_iter().map(|view| self.grant_row(view));
        Ok(GrantPage { grants: rows.collect::<Result<_, _>>()?, next: page.next.map(Cursor) })
    }

    fn grant_row(&self, view: GrantView) -> Result<Grant, Error> {
        let client = self.clients.get(&view.client);
        Ok(Grant {
            grant: view.grant,
            family: view.family,
            client_name: client.map_or_else(String::new, |client| client.name().to_owned()),
            client_id: view.client,
            subject: view.subject,
            device: view.device,
            scope: view.scope,
            refreshable: view.refreshable,
            created_at: view.created_at,
            expires_at: view.expires_at,
            last_used_at: view.last_used_at,
            use_count: view.use_count,
            delete_handle: self.delete_handle(view.family)?,
        })
    }

    /// Whether a genuine handle has the secret that deletes its family.
    pub(super) fn is_delete_handle(&self, handle: &Handle) -> bool {
        let secret = self.derive.delete(handle.key_version, handle.locator.id);
        secret.is_some_and(|secret| secret == handle.secret)
    }

    /// Derived, so that it is nowhere stored and the same on every page.
    fn delete_handle(&self, family: u64) -> Result<SecretText, Error> {
        let version = self.handles.current_version();
        let secret = self.derive.delete(version, family).ok_or_else(super::mint::no_version)?;
        let locator = Locator { class: 0, bucket: 0, id: family };
        Ok(self.handle(version, HandleKind::Delete, locator, &secret, None)?.0)
    }
}
