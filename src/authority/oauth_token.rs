//! Salesforce's ways to revoke: by a kind and a text, and at an endpoint that asks nobody who they are.

use std::sync::Arc;

use super::active::{TokenKind, find_handle};
use super::error::{Cause, Error, Reason};
use super::lookup::ticket;
use super::profile::Profile;
use super::read::Read;
use super::{Authority, Inner};
use crate::codec::handle::HandleKind;
use crate::store::{Find, Store, Ticket};

/// What a text is said to be, as Salesforce's `Auth.OauthTokenType` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OauthTokenType {
    /// `ACCESS_TOKEN`: one opaque access token.
    AccessToken,
    /// `REFRESH_TOKEN`: a refresh token with all access tokens of its login.
    RefreshToken,
    /// `DELETE_TOKEN`: the same by the handle of a listing ([`Grant::delete_handle`]), which is no
    /// credential.
    ///
    /// [`Grant::delete_handle`]: super::Grant::delete_handle
    DeleteToken,
    /// `ORG_JWT`: one JWT.
    OrgJwt,
}

impl OauthTokenType {
    const NAMES: [(&'static str, OauthTokenType); 4] = [
        ("ACCESS_TOKEN", OauthTokenType::AccessToken),
        ("REFRESH_TOKEN", OauthTokenType::RefreshToken),
        ("DELETE_TOKEN", OauthTokenType::DeleteToken),
        ("ORG_JWT", OauthTokenType::OrgJwt),
    ];

    /// The kind of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<OauthTokenType> {
        OauthTokenType::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, kind)| kind)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        OauthTokenType::NAMES
            .into_iter()
            .find(|(_, kind)| *kind == self)
            .map_or("", |(name, _)| name)
    }
}

impl<S: Store> Authority<S> {
    /// Revokes for the host what a text is said to be (Salesforce's `Auth.OauthToken.revokeToken`).
    ///
    /// # Durability
    /// As [`Authority::revoke`].
    ///
    /// # Errors
    /// [`Error::InvalidToken`] for a text that is no live token of that kind, and then nothing happens;
    /// as [`Authority::revoke`] else.
    pub fn revoke_by_type(&self, kind: OauthTokenType, token: &str) -> Ticket<(), Error> {
        ticket(self.inner.revoke_live(Some(kind), token))
    }

    /// Revokes the token of somebody who shows nothing else, as Salesforce's endpoint does: whoever holds
    /// a token may end it. A refresh token and a delete handle end their login.
    ///
    /// # Durability
    /// As [`Authority::revoke`].
    ///
    /// # Errors
    /// [`Error::InvalidClient`] unless the authority has [`Profile::Salesforce`]: RFC 7009 has clients
    /// authenticate ([`Authority::revoke_token`]); [`Error::InvalidToken`] for a text that is no live
    /// token, which Salesforce answers with 400; [`Error::TemporarilyUnavailable`].
    pub fn revoke_as_holder(&self, token: &str) -> Ticket<(), Error> {
        match self.inner.profile {
            Profile::Standard => {
                let reason = Reason::new("revoking takes a client");
                Ticket::ready(Err(Error::InvalidClient(reason)))
            }
            Profile::Salesforce => ticket(self.inner.revoke_live(None, token)),
        }
    }
}

impl<S: Store> Inner<S> {
    fn revoke_live(
        self: &Arc<Self>,
        kind: Option<OauthTokenType>,
        token: &str,
    ) -> Result<Ticket<(), Error>, Error> {
        let read = self.read(token).map_err(dead)?;
        let (found, find) = match &read {
            Read::Jwt(jwt) => (OauthTokenType::OrgJwt, jwt.find(false)),
            Read::Opaque(handle) => match find_handle(handle, false) {
                Some((TokenKind::Access, find)) => (OauthTokenType::AccessToken, find),
                Some((TokenKind::Refresh, find)) => (OauthTokenType::RefreshToken, find),
                None if handle.kind == HandleKind::Delete && self.is_delete_handle(handle) => {
                    (OauthTokenType::DeleteToken, Find::Family(handle.locator.id))
                }
                None => return Err(dead("no token")),
            },
        };
        if kind.is_some_and(|kind| kind != found) {
            return Err(dead("a token of another kind"));
        }
        let (now, is_delete) = (self.clock.read(), found == OauthTokenType::DeleteToken);
        Ok(self.find_then(find, now, move |inner, view| match view {
            // A login without a refresh token is not live as one, and can be deleted all the same.
            Some(view) if view.live || is_delete => match read {
                Read::Opaque(handle) => inner.revoke_handle(&handle, None),
                Read::Jwt(jwt) => inner.revoke_jwt(&jwt),
            },
            _ => Ticket::ready(Err(dead("not live"))),
        }))
    }
}

fn dead(why: &'static str) -> Error {
    Error::InvalidToken(Reason::new(why).because(Cause::NothingToRevoke))
}
