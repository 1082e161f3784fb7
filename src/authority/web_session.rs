//! Hybrid apps: with their tokens they get the identifiers of web sessions, for the pages that they show.
//! The sessions are the host's ([`WebSessions`]).

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::Inner;
use super::active::find_handle;
use super::client::{RegisteredClient, TokenFormat};
use super::error::{Cause, Error, Reason};
use super::issued::Issued;
use super::profile::Profile;
use super::read::Read;
use crate::ids::{ClientId, Subject};
use crate::scope::Scope;
use crate::secret::SecretText;
use crate::store::{Store, Ticket};

/// The host's web sessions, opened for hybrid apps (Salesforce's `hybrid_auth_code`, `hybrid_refresh`
/// and `hybrid_token`).
///
/// # Blocks
/// The call is made on the thread that waits for the answer, once its tokens are durable and were seen to
/// live still. What it opens does not end with the tokens: end it when the user logs out.
pub trait WebSessions: Send + Sync + 'static {
    /// Opens sessions; what the scope does not hold is left out of the answer. `None` for none.
    fn open(&self, request: &WebSessionRequest<'_>) -> Option<WebSession>;
}

impl<F> WebSessions for F
where
    F: Fn(&WebSessionRequest<'_>) -> Option<WebSession> + Send + Sync + 'static,
{
    fn open(&self, request: &WebSessionRequest<'_>) -> Option<WebSession> {
        self(request)
    }
}

/// For whom sessions are opened.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct WebSessionRequest<'a> {
    /// The app.
    pub client_id: &'a ClientId,
    /// The user.
    pub subject: &'a Subject,
    /// What the tokens may be used for.
    pub scope: &'a Scope,
    /// The login that the tokens belong to.
    pub family: u64,
}

/// Sessions of one user for one app. The scope `web` is needed for any of it.
#[derive(Clone)]
pub struct WebSession {
    /// `sidCookieName`.
    pub sid_cookie_name: String,
    /// `cookie-sid_Client`.
    pub sid_client: SecretText,
    /// `cookie-clientSrc`.
    pub client_src: String,
    /// `lightning_domain` and `lightning_sid`, with the scope `lightning`.
    pub lightning: Option<DomainSession>,
    /// `csrf_token`, with the scope `lightning`.
    pub csrf_token: Option<SecretText>,
    /// `visualforce_domain` and `visualforce_sid`, with the scope `visualforce`.
    pub visualforce: Option<DomainSession>,
    /// `content_domain` and `content_sid`, with the scope `content`.
    pub content: Option<DomainSession>,
    /// `parent_sid`, with a JWT: the session behind it.
    pub parent_sid: Option<SecretText>,
}

/// A session on a domain.
#[derive(Clone)]
pub struct DomainSession {
    /// The domain.
    pub domain: String,
    /// The session's identifier.
    pub sid: SecretText,
}

impl fmt::Debug for WebSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebSession([redacted])")
    }
}

impl fmt::Debug for DomainSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DomainSession([redacted])")
    }
}

/// The members that go over the wire.
#[derive(Serialize)]
pub(super) struct SessionWire<'a> {
    #[serde(rename = "sidCookieName")]
    sid_cookie_name: &'a str,
    #[serde(rename = "cookie-sid_Client")]
    sid_client: &'a str,
    #[serde(rename = "cookie-clientSrc")]
    client_src: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    lightning_domain: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lightning_sid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    csrf_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    visualforce_domain: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    visualforce_sid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_domain: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_sid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_sid: Option<&'a str>,
}

impl WebSession {
    pub(super) fn wire(&self) -> SessionWire<'_> {
        SessionWire {
            sid_cookie_name: &self.sid_cookie_name,
            sid_client: self.sid_client.expose(),
            client_src: &self.client_src,
            lightning_domain: self.lightning.as_ref().map(|of| &*of.domain),
            lightning_sid: self.lightning.as_ref().map(|of| of.sid.expose()),
            csrf_token: self.csrf_token.as_ref().map(SecretText::expose),
            visualforce_domain: self.visualforce.as_ref().map(|of| &*of.domain),
            visualforce_sid: self.visualforce.as_ref().map(|of| of.sid.expose()),
            content_domain: self.content.as_ref().map(|of| &*of.domain),
            content_sid: self.content.as_ref().map(|of| of.sid.expose()),
            parent_sid: self.parent_sid.as_ref().map(SecretText::expose),
        }
    }

    /// The same as parameters of a redirect.
    pub(super) fn parameters(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let wire = self.wire();
        let all = [
            ("sidCookieName", Some(wire.sid_cookie_name)),
            ("cookie-sid_Client", Some(wire.sid_client)),
            ("cookie-clientSrc", Some(wire.client_src)),
            ("lightning_domain", wire.lightning_domain),
            ("lightning_sid", wire.lightning_sid),
            ("csrf_token", wire.csrf_token),
            ("visualforce_domain", wire.visualforce_domain),
            ("visualforce_sid", wire.visualforce_sid),
            ("content_domain", wire.content_domain),
            ("content_sid", wire.content_sid),
            ("parent_sid", wire.parent_sid),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?)))
    }
}

impl<S: Store> Inner<S> {
    /// Whether a client may have hybrid answers at all.
    pub(super) fn check_hybrid(&self, client: &RegisteredClient) -> Result<(), Error> {
        if self.web_sessions.is_none() {
            return Err(Error::UnsupportedGrantType(Reason::new("no web sessions")));
        }
        let is_jwt = client.format() != TokenFormat::Opaque;
        match is_jwt && client.settings.refresh.rotates {
            true => {
                let reason =
                    Reason::new("hybrid, JWTs and rotation").because(Cause::HybridRotation);
                Err(Error::InvalidGrant(reason))
            }
            false => Ok(()),
        }
    }

    /// The answer with the sessions that its scope holds, where its tokens live still: they were waited
    /// for.
    pub(super) async fn with_web_session(
        self: &Arc<Self>,
        issued: Issued,
    ) -> Result<Issued, Error> {
        if !self.lives(issued.access_token.expose()).await? {
            let reason = Reason::new("revoked before its web sessions were opened");
            return Err(Error::InvalidGrant(reason));
        }
        // The order of Salesforce's scopes counts in whatever profile: it is its flow.
        let has = |token| Profile::Salesforce.covers(&issued.scope, token);
        let request = WebSessionRequest {
            client_id: &issued.client_id,
            subject: &issued.subject,
            scope: &issued.scope,
            family: issued.family,
        };
        let opened = self.web_sessions.as_ref().filter(|_| has("web"));
        let web_session = opened.and_then(|sessions| sessions.open(&request));
        let is_jwt = issued.access_token.expose().contains('.');
        let web_session = web_session.map(|session| WebSession {
            lightning: session.lightning.filter(|_| has("lightning")),
            csrf_token: session.csrf_token.filter(|_| has("lightning")),
            visualforce: session.visualforce.filter(|_| has("visualforce")),
            content: session.content.filter(|_| has("content")),
            parent_sid: session.parent_sid.filter(|_| is_jwt),
            ..session
        });
        Ok(Issued { web_session, ..issued })
    }

    /// Whether an access token lives. It is no use of it.
    fn lives(self: &Arc<Self>, access_token: &str) -> Ticket<bool, Error> {
        let now = self.clock.read();
        let find = match self.read(access_token) {
            Ok(Read::Opaque(handle)) => find_handle(&handle, false).map(|(_, find)| find),
            Ok(Read::Jwt(jwt)) => Some(jwt.find(false)),
            Err(_) => None,
        };
        let Some(find) = find else { return Ticket::ready(Ok(false)) };
        self.find_then(find, now, |_, view| Ticket::ready(Ok(view.is_some_and(|view| view.live))))
    }
}
