//! Logging out (OpenID Connect RP-Initiated Logout 1.0) without HTTP: who asks is read and checked, the
//! sessions of the user are ended, and the host is told whom else to tell.

use std::borrow::Cow;
use std::sync::Arc;

use super::client::{Client, RegisteredClient};
use super::error::{Error, Reason};
use super::{Authority, Inner};
use crate::codec::jws::{Scratch, VerifiedId};
use crate::ids::{ClientId, Subject};
use crate::store::{Listing, Store, StoreError, Target, Ticket};

/// The longest `state`, in bytes.
const STATE_LEN_MAX: usize = super::STATE_LEN_MAX;
/// The most logins of a user that one logout walks over at a time.
const PAGE_LEN: usize = 256;

/// The parameters of a logout request (section 2).
#[derive(Clone, Copy, Debug, Default)]
pub struct LogoutRequest<'a> {
    /// `id_token_hint`.
    pub id_token_hint: Option<&'a str>,
    /// `client_id`.
    pub client_id: Option<&'a str>,
    /// `post_logout_redirect_uri`.
    pub post_logout_redirect_uri: Option<&'a str>,
    /// `state`.
    pub state: Option<&'a str>,
}

/// A logout request that was checked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Logout {
    /// Whom the ID token names. Without one, or if it names another than the browser's user, the host
    /// asks before it logs anybody out.
    pub subject: Option<Subject>,
    /// The client that asks, where it says so.
    pub client_id: Option<ClientId>,
    /// Where the browser goes when it is done.
    pub redirect: Option<String>,
}

/// What ends with a user's session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogoutScope {
    /// Logins without a refresh token. The others were asked to outlast the session
    /// (`offline_access`).
    #[default]
    Session,
    /// Every login.
    Everything,
}

/// A client in which a user was logged in, with the URL that tells it of the logout
/// ([`Client::logout_url`]): load it in the user's browser.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoggedOut {
    /// The client.
    pub client_id: ClientId,
    /// Its logout URL, if it has one.
    pub logout_url: Option<String>,
}

impl Client {
    /// Where the browser may go after a logout that the client asked for: whole URIs, compared byte for
    /// byte, of the same kinds as [`Client::redirect_uris`].
    pub fn post_logout_redirect_uris<T: Into<String>>(
        mut self,
        uris: impl IntoIterator<Item = T>,
    ) -> Client {
        self.settings.post_logout_redirect_uris = uris.into_iter().map(Into::into).collect();
        self
    }
}

impl<S: Store> Authority<S> {
    /// Checks a logout request, before anybody is logged out.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for an `id_token_hint` that no key of this authority signed or that is
    /// another client's, a `post_logout_redirect_uri` that is not the client's or comes without one, and
    /// a `state` that is too long. Send the browser nowhere then.
    pub fn read_logout(&self, request: &LogoutRequest<'_>) -> Result<Logout, Error> {
        self.inner.read_logout(request)
    }

    /// Ends the sessions of a user, and says which clients held one.
    ///
    /// # Durability
    /// The ticket resolves when all of it is on stable storage. Dropping it leaves some of it undone.
    ///
    /// # Errors
    /// [`Error::TemporarilyUnavailable`]: some sessions may have ended; call again.
    pub fn end_sessions(
        &self,
        subject: &Subject,
        scope: LogoutScope,
    ) -> Ticket<Vec<LoggedOut>, Error> {
        let (inner, subject) = (Arc::clone(&self.inner), subject.clone());
        Ticket::slow(async move { inner.end_sessions(subject, scope).await })
    }
}

impl<S: Store> Inner<S> {
    fn read_logout(&self, request: &LogoutRequest<'_>) -> Result<Logout, Error> {
        let refuse = |why| Error::InvalidRequest(Reason::new(why));
        if request.state.is_some_and(|state| state.len() > STATE_LEN_MAX) {
            return Err(refuse("the state is too long"));
        }
        let hint = request.id_token_hint.filter(|hint| !hint.is_empty());
        let hinted = hint.map(|hint| self.read_hint(hint)).transpose()?;
        let named = request.client_id.filter(|id| !id.is_empty()).map(ClientId::new).transpose();
        let named = named.map_err(|_| refuse("malformed client_id"))?;
        let (subject, of_hint) = hinted.unzip();
        if named.as_ref().zip(of_hint.as_ref()).is_some_and(|(named, hinted)| named != hinted) {
            return Err(refuse("the id_token_hint is another client's"));
        }
        let client_id = named.or(of_hint);
        let client = client_id.as_ref().and_then(|id| self.clients.get(id));
        let uri = request.post_logout_redirect_uri.filter(|uri| !uri.is_empty());
        let redirect = match (uri, &client) {
            (None, _) => None,
            (Some(uri), Some(client)) if client.may_leave_to(uri) => {
                Some(with_state(uri, request.state))
            }
            (Some(_), _) => return Err(refuse("the post_logout_redirect_uri is not the client's")),
        };
        Ok(Logout { subject, client_id, redirect })
    }

    /// The subject and the client of an ID token of this authority, however old it is.
    fn read_hint(&self, hint: &str) -> Result<(Subject, ClientId), Error> {
        let refuse = |why| Error::InvalidRequest(Reason::new(why));
        let (keys, mut scratch) = (self.keys.current(), Scratch::new());
        let said = VerifiedId::of_hint(&self.issuer, keys.ring(), hint.as_bytes(), &mut scratch)
            .map_err(|error| Error::InvalidRequest(Reason::with("the id_token_hint", error)))?;
        let first = said.audience().next().map(Cow::into_owned);
        let client = said.authorized_party().map(str::to_owned).or(first).unwrap_or_default();
        let client = ClientId::new(client).map_err(|_| refuse("the hint is nobody's"))?;
        let subject = self.subject_named(said.subject());
        Ok((subject.ok_or_else(|| refuse("the hint is about nobody"))?, client))
    }

    async fn end_sessions(
        self: Arc<Self>,
        subject: Subject,
        scope: LogoutScope,
    ) -> Result<Vec<LoggedOut>, Error> {
        let mut told: Vec<LoggedOut> = Vec::new();
        let mut ending: Vec<Ticket<(), Error>> = Vec::new();
        let mut cursor: Option<Vec<u8>> = None;
        loop {
            let listing = Listing::OfSubject(subject.clone());
            let page = self.store.list(listing, cursor.as_deref(), PAGE_LEN);
            let page = Ticket::<_, StoreError>::slow(page).await?;
            for row in page.grants {
                if row.refreshable && scope == LogoutScope::Session {
                    continue;
                }
                ending.push(
                    self.revoke_target(Target::Family(row.family), Some((&row.client, &subject))),
                );
                if !told.iter().any(|known| known.client_id == row.client) {
                    let client = self.clients.get(&row.client);
                    let url = client.as_deref().and_then(RegisteredClient::logout_url);
                    let logout_url = url.map(str::to_owned);
                    told.push(LoggedOut { client_id: row.client, logout_url });
                }
            }
            for ended in ending.drain(..) {
                ended.await?;
            }
            match page.next {
                Some(next) => cursor = Some(next),
                None => return Ok(told),
            }
        }
    }
}

impl RegisteredClient {
    fn may_leave_to(&self, uri: &str) -> bool {
        self.settings.post_logout_redirect_uris.iter().any(|known| known == uri)
    }
}

fn with_state(uri: &str, state: Option<&str>) -> String {
    let Some(state) = state.filter(|state| !state.is_empty()) else { return uri.to_owned() };
    let mut url = uri.to_owned();
    url.push(if uri.contains('?') { '&' } else { '?' });
    url.push_str("state=");
    super::authorize::push_encoded(&mut url, state);
    url
}
