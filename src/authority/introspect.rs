//! Introspection (RFC 7662): what a token is, told to those who may know.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::active::{ActiveToken, TokenKind, find_handle};
use super::audience::overlap;
use super::audit::Action;
use super::client::{Introspects, RegisteredClient};
use super::client_auth::Caller;
use super::confirmation::Confirmation;
use super::error::{Error, Reason};
use super::exchange::Actors;
use super::profile::Profile;
use super::read::Read;
use super::signing::unsigned;
use super::{Authority, Inner, json};
use crate::codec::claims::IntrospectionClaims;
use crate::ids::ClientId;
use crate::store::{Find, Store, Ticket, TokenView};
use crate::time::{Reading, Timestamp};

/// What introspection answers. An inactive token has nothing else to it: unknown, expired, revoked,
/// foreign and not yours to know are one answer.
#[derive(Clone, Debug)]
pub struct Introspection {
    issuer: Arc<str>,
    /// Who asked.
    asker: ClientId,
    active: Option<ActiveToken>,
    salesforce: Option<SalesforceNames>,
}

/// How Salesforce names the subject.
#[derive(Clone, Debug)]
struct SalesforceNames {
    identity_url: String,
    username: Option<String>,
}

/// The members that go over the wire (RFC 7662 section 2.2).
#[derive(Serialize)]
struct Wire<'a> {
    active: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    scope: &'a str,
    client_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<u64>,
    iat: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<u64>,
    sub: &'a str,
    #[serde(skip_serializing_if = "Texts::is_empty")]
    aud: Texts<'a>,
    iss: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cnf: Option<Confirmation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<serde_json::Value>,
}

/// Texts with a space between, as an array.
struct Texts<'a>(&'a str);

impl Texts<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Texts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.split(' '))
    }
}

impl Introspection {
    /// Whether the token lives, for this caller.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.active.is_some()
    }

    /// The token, if it lives.
    #[must_use]
    pub fn token(&self) -> Option<&ActiveToken> {
        self.active.as_ref()
    }

    /// The body of the response (RFC 7662 section 2.2), appended to `out`. With
    /// [`Profile::Salesforce`] `token_type` is the kind of token, and `sub` the identity URL.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let Some(token) = &self.active else { return out.extend_from_slice(INACTIVE.as_bytes()) };
        let theirs = self.salesforce.as_ref();
        let token_type = match (token.kind, theirs) {
            // How an access token is used (RFC 6749 section 5.1); a refresh token has no such type.
            (TokenKind::Access, None) => Some(match token.confirmation {
                Some(Confirmation::Key(_)) => "DPoP",
                _ => "Bearer",
            }),
            (TokenKind::Refresh, None) => None,
            (TokenKind::Access, Some(_)) => Some("access_token"),
            (TokenKind::Refresh, Some(_)) => Some("refresh_token"),
        };
        let wire = Wire {
            active: true,
            scope: token.scope.as_str(),
            client_id: token.client_id.as_str(),
            username: theirs.and_then(|names| names.username.as_deref()),
            token_type,
            exp: (token.expires_at != Timestamp::NEVER).then_some(token.expires_at.0),
            iat: token.issued_at.0,
            nbf: theirs.map(|_| token.issued_at.0),
            sub: theirs.map_or(token.subject.as_str(), |names| &names.identity_url),
            aud: Texts(&token.audience),
            iss: &self.issuer,
            jti: token.jti.as_deref(),
            cnf: token.confirmation,
            act: Actors::of(&token.actors).to_json(),
        };
        json::write(&wire, out);
    }

    /// The body of the response.
    #[must_use]
    pub fn to_json(&self) -> String {
        json::text(|out| self.write_json(out))
    }
}

const INACTIVE: &str = r#"{"active":false}"#;

impl<S: Store> Authority<S> {
    /// The answer as a signed JWT (`application/token-introspection+jwt`, RFC 9701 section 5), for the
    /// resource server that asked for it and nobody else. Its signature lasts: an answer says what was so
    /// when it was asked for.
    ///
    /// # Errors
    /// [`Error::ServerError`] when it could not be signed, or would be too long.
    pub fn sign_introspection(&self, answer: &Introspection) -> Ticket<String, Error> {
        let inner = &self.inner;
        let claims = IntrospectionClaims {
            issuer: &inner.issuer,
            audience: &[answer.asker.as_str()],
            issued_at: inner.clock.read().unix,
            answer: &answer.to_json(),
        };
        let keys = inner.keys.current();
        let signing = keys.ring().active().sign_async(&claims);
        Ticket::slow(async move { signing.await.map_err(unsigned) })
    }

    /// Introspects an access or refresh token for a confidential client, within its entitlement. An
    /// access token that is shown active counts as used: that ends the time in which the refresh
    /// that gave it may be repeated.
    ///
    /// # Errors
    /// [`Error::InvalidClient`] when the caller does not authenticate or is a public client
    /// (RFC 7662 section 2.1 requires authorization); [`Error::TemporarilyUnavailable`] when a cold
    /// record could not be read: never `active: false` for that.
    pub fn introspect(&self, token: &str, caller: &Caller) -> Ticket<Introspection, Error> {
        self.inner.as_client(caller, Action::Introspect, None, |client| {
            self.inner.introspect(token, client)
        })
    }
}

impl<S: Store> Inner<S> {
    fn introspect(
        self: &Arc<Self>,
        token: &str,
        client: Arc<RegisteredClient>,
    ) -> Result<Ticket<Introspection, Error>, Error> {
        if !client.is_confidential() {
            return Err(Error::InvalidClient(Reason::new("a public client may not introspect")));
        }
        let now = self.clock.read();
        let Ok(read) = self.read(token) else {
            return Ok(Ticket::ready(Ok(self.introspection(&client, None))));
        };
        Ok(match read {
            Read::Opaque(handle) => match find_handle(&handle, false) {
                Some((TokenKind::Access, find)) => {
                    let bound = handle.binding.map(Confirmation::of_binding);
                    self.introspect_access(client, find, bound, now)
                }
                Some((kind, find)) => {
                    let bound = handle.binding.map(Confirmation::of_binding);
                    self.find_then(find, now, move |inner, view| {
                        let sees =
                            |view: &TokenView| inner.may_see(&client, kind, &view.client, "");
                        let shown = view
                            .filter(|view| view.live && sees(view))
                            .map(|view| ActiveToken::of_view(kind, view, bound));
                        Ticket::ready(Ok(inner.introspection(&client, shown)))
                    })
                }
                None => Ticket::ready(Ok(self.introspection(&client, None))),
            },
            Read::Jwt(jwt) => {
                if !self.may_see(&client, TokenKind::Access, &jwt.client, &jwt.audience) {
                    return Ok(Ticket::ready(Ok(self.introspection(&client, None))));
                }
                self.find_then(jwt.find(true), now, move |inner, view| {
                    let shown = view
                        .filter(|view| view.live && view.client == jwt.client)
                        .map(|view| ActiveToken::of_jwt(*jwt, view));
                    Ticket::ready(Ok(inner.introspection(&client, shown)))
                })
            }
        })
    }

    /// Looks first without counting: a client that may not see the token must not use it up for its
    /// owner either.
    fn introspect_access(
        self: &Arc<Self>,
        client: Arc<RegisteredClient>,
        find: Find,
        bound: Option<Confirmation>,
        now: Reading,
    ) -> Ticket<Introspection, Error> {
        self.find_then(find, now, move |inner, view| {
            let seen = |view: &TokenView| {
                let kind = TokenKind::Access;
                view.live && inner.may_see(&client, kind, &view.client, &view.audience)
            };
            let (true, Find::Access { locator, digest, .. }) =
                (view.as_ref().is_some_and(seen), find)
            else {
                return Ticket::ready(Ok(inner.introspection(&client, None)));
            };
            let counted = Find::Access { locator, digest, used: true };
            inner.find_then(counted, now, move |inner, view| {
                let live = view.filter(|view| view.live);
                if let Some(view) = &live {
                    inner.slide(view, locator, digest, now);
                }
                let shown = live.map(|view| ActiveToken::of_view(TokenKind::Access, view, bound));
                Ticket::ready(Ok(inner.introspection(&client, shown)))
            })
        })
    }

    fn may_see(
        &self,
        client: &RegisteredClient,
        kind: TokenKind,
        owner: &ClientId,
        audience: &str,
    ) -> bool {
        let registered = match client.settings.introspects {
            Introspects::OwnAndChildren => self.clients.get(owner),
            _ => None,
        };
        client.may_see(kind, owner, registered.as_deref().and_then(|c| c.parent()), audience)
    }

    fn introspection(
        &self,
        asker: &RegisteredClient,
        active: Option<ActiveToken>,
    ) -> Introspection {
        let salesforce = match (&active, self.profile) {
            (Some(token), Profile::Salesforce) => Some(SalesforceNames {
                identity_url: self.identity_url(&token.subject),
                username: self.users.user(&token.subject).and_then(|user| user.username),
            }),
            _ => None,
        };
        let asker = asker.id.clone();
        Introspection { issuer: Arc::clone(&self.issuer), asker, active, salesforce }
    }
}

impl RegisteredClient {
    /// Whether it may learn of a token of `owner` (RFC 7662 section 4).
    fn may_see(
        &self,
        kind: TokenKind,
        owner: &ClientId,
        parent: Option<&ClientId>,
        audience: &str,
    ) -> bool {
        let own = *owner == self.id;
        match self.settings.introspects {
            Introspects::Own => own,
            Introspects::OwnAndAudience => {
                // A client id with a space in it is no audience.
                let meant = overlap(audience, self.settings.audiences.as_str())
                    || audience.split(' ').any(|one| one == self.id.as_str());
                own || (kind == TokenKind::Access && meant)
            }
            Introspects::OwnAndChildren => own || parent == Some(&self.id),
            Introspects::All => true,
        }
    }
}
