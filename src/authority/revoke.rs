//! Revoking: by the host, whatever it names, and by a client, what it holds (RFC 7009).

use std::sync::Arc;

use super::active::{TokenKind, find_handle};
use super::audit::{Action, Asker, Holder};
use super::client_auth::Caller;
use super::error::{Error, Reason};
use super::lookup::{at_once, ticket};
use super::read::{Jwt, Read};
use super::{Authority, Inner};
use crate::codec::handle::{Handle, HandleKind};
use crate::ids::{ClientId, Subject};
use crate::store::{self, Find, Outcome, PairPolicy, Revoke, Store, StoreError, Ticket, Verb};

/// What a host revokes.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Target<'a> {
    /// A token of any kind, or a delete handle. A refresh token and a delete handle end the whole
    /// family; an access token ends alone.
    Token(&'a str),
    /// All of a subject.
    Subject(&'a str),
    /// All that a client holds. The client itself stays; see [`Authority::remove_client`].
    Client(&'a ClientId),
    /// All that a client holds for a subject, on every device.
    Pair(&'a ClientId, &'a str),
    /// A grant.
    Grant(u64),
    /// A family: one login.
    Family(u64),
    /// Everything issued so far.
    Everything,
}

impl std::fmt::Debug for Target<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Token(_) => f.write_str("Token([redacted])"),
            Target::Subject(subject) => write!(f, "Subject({subject:?})"),
            Target::Client(client) => write!(f, "Client({client:?})"),
            Target::Pair(client, subject) => write!(f, "Pair({client:?}, {subject:?})"),
            Target::Grant(id) => write!(f, "Grant({id})"),
            Target::Family(id) => write!(f, "Family({id})"),
            Target::Everything => f.write_str("Everything"),
        }
    }
}

impl<S: Store> Authority<S> {
    /// Revokes for the host. Revoking what is unknown or dead already does nothing.
    ///
    /// # Durability
    /// In effect when this returns (for a token whose record is cold, when the ticket resolves); on
    /// stable storage when the ticket resolves. Dropping the ticket undoes nothing.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for a malformed subject; [`Error::TemporarilyUnavailable`] when the
    /// store cannot, [`StoreError::NotDurable`] where it holds until a restart only.
    pub fn revoke(&self, target: Target<'_>) -> Ticket<(), Error> {
        let revoked = ticket(self.inner.revoke_for_host(target));
        self.inner.audited(Action::Revoke, Asker::default, revoked)
    }

    /// Revokes a token for the client that holds it (RFC 7009): a refresh token with all access
    /// tokens of its family, or an access token alone. A text that is no live token is no error.
    ///
    /// # Durability
    /// As [`Authority::revoke`].
    ///
    /// # Errors
    /// [`Error::InvalidClient`] when the caller does not authenticate; [`Error::InvalidGrant`] for
    /// another client's token, which stays as it is; [`Error::TemporarilyUnavailable`].
    pub fn revoke_token(&self, token: &str, caller: &Caller) -> Ticket<(), Error> {
        self.inner.as_client(caller, Action::Revoke, None, |client| {
            Ok(self.inner.revoke_presented(token, Some(client.client_id().clone())))
        })
    }
}

impl<S: Store> Inner<S> {
    fn revoke_for_host(self: &Arc<Self>, target: Target<'_>) -> Result<Ticket<(), Error>, Error> {
        let subject = |text| {
            Subject::new(text)
                .map_err(|error| Error::InvalidRequest(Reason::with("subject", error)))
        };
        let target = match target {
            Target::Token(token) => return Ok(self.revoke_presented(token, None)),
            Target::Subject(text) => store::Target::Subject(subject(text)?),
            Target::Client(client) => store::Target::Client(client.clone()),
            Target::Pair(client, text) => store::Target::Pair(client.clone(), subject(text)?),
            Target::Grant(id) => store::Target::Grant(id),
            Target::Family(id) => store::Target::Family(id),
            Target::Everything => store::Target::Everything,
        };
        Ok(self.revoke_target(target, None))
    }

    pub(super) fn revoke_target(&self, target: store::Target, of: Holder<'_>) -> Ticket<(), Error> {
        self.kill(target, of).and_then(|outcome| Ok(outcome.map(|_| ())?))
    }

    fn kill(&self, target: store::Target, of: Holder<'_>) -> Ticket<Outcome> {
        let now = self.clock.read();
        let revoke = Revoke { target, now };
        let killed = self.store.apply(Verb::Revoke(revoke.clone()));
        match killed.decided() {
            // There was nothing to revoke, or it could not be.
            Some(Ok(Outcome::Revoke(None))) => {}
            Some(Err(error)) if !matches!(error, StoreError::NotDurable) => {}
            _ => self.tell_revoked(&revoke.target, of),
        }
        killed
    }

    /// Revokes the token of a text, for its owner or, without one, for the host.
    fn revoke_presented(
        self: &Arc<Self>,
        token: &str,
        caller: Option<ClientId>,
    ) -> Ticket<(), Error> {
        match self.read(token) {
            // RFC 7009 section 2.2: "The authorization server responds with HTTP status code 200 if
            // [...] the client submitted an invalid token".
            Err(_) => Ticket::ready(Ok(())),
            Ok(Read::Opaque(handle)) => self.revoke_handle(&handle, caller),
            Ok(Read::Jwt(jwt)) => match is_foreign(caller.as_ref(), &jwt.client) {
                true => Ticket::ready(Err(foreign())),
                false => self.revoke_jwt(&jwt),
            },
        }
    }

    pub(super) fn revoke_handle(
        self: &Arc<Self>,
        handle: &Handle,
        caller: Option<ClientId>,
    ) -> Ticket<(), Error> {
        if handle.kind == HandleKind::Delete && !self.is_delete_handle(handle) {
            return Ticket::ready(Ok(()));
        }
        if handle.kind == HandleKind::Access && caller.is_none() {
            // The host needs no leave of an owner: it is done though nobody waits for the ticket.
            let target = store::Target::Access(handle.locator, handle.digest);
            return self.revoke_target(target, None);
        }
        // A spent refresh token still names its family, and so does a delete handle.
        let find = match find_handle(handle, false) {
            Some((TokenKind::Access, find)) => find,
            _ => Find::Family(handle.locator.id),
        };
        let now = self.clock.read();
        let (kind, locator, digest) = (handle.kind, handle.locator, handle.digest);
        self.find_then(find, now, move |inner, view| match view {
            None => Ticket::ready(Ok(())),
            Some(view) if is_foreign(caller.as_ref(), &view.client) => {
                Ticket::ready(Err(foreign()))
            }
            Some(view) => {
                let target = match kind {
                    HandleKind::Access => store::Target::Access(locator, digest),
                    _ => store::Target::Family(view.family),
                };
                inner.revoke_target(target, Some((&view.client, &view.subject)))
            }
        })
    }

    /// A JWT is denied until it expires; where the store can keep no more denials, its family ends.
    pub(super) fn revoke_jwt(self: &Arc<Self>, jwt: &Jwt) -> Ticket<(), Error> {
        // Under the pair policy `reuse` the family would give the same JWT again, and holds no other.
        let client = self.clients.get(&jwt.client);
        let of = Some((&jwt.client, &jwt.subject));
        if client.is_some_and(|c| matches!(c.settings.pairs, PairPolicy::Reuse { .. })) {
            return self.revoke_target(store::Target::Family(jwt.birth.family), of);
        }
        let expires_at = jwt.expires_at.plus(self.leeway_secs);
        let denied = self.kill(store::Target::Jwt { jti: jwt.digest(), expires_at }, of);
        match at_once(denied) {
            Err(StoreError::Busy) => {
                self.revoke_target(store::Target::Family(jwt.birth.family), of)
            }
            Err(error) => Ticket::ready(Err(error.into())),
            Ok(denied) => denied.and_then(|outcome| Ok(outcome.map(|_| ())?)),
        }
    }
}

/// RFC 7009 section 2.1: the server "verifies whether the token was issued to the client making the
/// revocation request. If this validation fails, the request is refused".
fn is_foreign(caller: Option<&ClientId>, owner: &ClientId) -> bool {
    caller.is_some_and(|caller| caller != owner)
}

fn foreign() -> Error {
    Error::InvalidGrant(Reason::new("another client's token"))
}
