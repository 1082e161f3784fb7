//! Exchange of the authority's own tokens.

use std::sync::Arc;

use super::super::Inner;
use super::super::active::{TokenKind, find_handle};
use super::super::audience::{Audience, overlap};
use super::super::client::RegisteredClient;
use super::super::confirmation::Confirmation;
use super::super::error::Error;
use super::super::issued::Issued;
use super::super::lookup::ticket;
use super::super::read::Read;
use super::super::sender::Sender;
use super::{Actors, Asked, Given, Source, TokenType, refused};
use crate::ids::ClientId;
use crate::store::{Store, Ticket, TokenView};
use crate::time::Timestamp;

impl<S: Store> Inner<S> {
    /// Goes on with what one of our own tokens is good for.
    pub(super) fn own_then(
        self: &Arc<Self>,
        asked: &Asked,
        given: &Given,
        read: Read,
        then: impl FnOnce(&Arc<Self>, Source) -> Result<Ticket<Issued, Error>, Error> + Send + 'static,
    ) -> Result<Ticket<Issued, Error>, Error> {
        let now = self.clock.read();
        let client = Arc::clone(&asked.client);
        match read {
            Read::Opaque(handle) => {
                let (kind, find) =
                    find_handle(&handle, false).ok_or_else(|| refused("no token"))?;
                if kind != kind_of(given.token_type).ok_or_else(|| refused("no JWT"))? {
                    return Err(refused("a token of another kind"));
                }
                check_bound(handle.binding.map(Confirmation::of_binding), asked)?;
                if kind == TokenKind::Refresh {
                    check_refresh(handle.binding.is_some(), asked)?;
                }
                Ok(self.find_then(find, now, move |inner, view| {
                    let source = live(&client, kind, view).and_then(|view| {
                        source(view, kind, Actors::default()).ok_or_else(|| refused("malformed"))
                    });
                    ticket(source.and_then(|source| then(inner, source)))
                }))
            }
            Read::Jwt(jwt) => {
                if given.token_type == TokenType::RefreshToken {
                    return Err(refused("a token of another kind"));
                }
                check_bound(jwt.confirmation, asked)?;
                Ok(self.find_then(jwt.find(false), now, move |inner, view| {
                    let view =
                        view.filter(|view| view.client == jwt.client).map(|view| TokenView {
                            // A JWT says itself what it is for.
                            scope: jwt.scope.clone(),
                            audience: Arc::clone(&jwt.audience),
                            expires_at: jwt.expires_at,
                            admission: jwt.birth.admission,
                            ..view
                        });
                    let kind = TokenKind::Access;
                    let source = live(&client, kind, view).and_then(|view| {
                        source(view, kind, jwt.actors).ok_or_else(|| refused("malformed"))
                    });
                    ticket(source.and_then(|source| then(inner, source)))
                }))
            }
        }
    }
}

fn kind_of(token_type: TokenType) -> Option<TokenKind> {
    match token_type {
        TokenType::AccessToken => Some(TokenKind::Access),
        TokenType::RefreshToken => Some(TokenKind::Refresh),
        _ => None,
    }
}

/// A token that is bound is worth nothing to others.
fn check_bound(bound: Option<Confirmation>, asked: &Asked) -> Result<(), Error> {
    match bound {
        Some(bound) if asked.sender.confirmation != Some(bound) => {
            Err(refused("it is bound to another sender"))
        }
        _ => Ok(()),
    }
}

/// An exchange does not use a refresh token up, so no second use of a stolen one would be noticed: it
/// is for a client that proves itself, and bound where those of the client must be.
fn check_refresh(is_bound: bool, asked: &Asked) -> Result<(), Error> {
    if !asked.proves {
        return Err(refused("a refresh token, of a client that did not prove itself"));
    }
    match is_bound || !Sender::must_be_bound(&asked.client) {
        true => Ok(()),
        false => Err(refused("a refresh token that is bound to no key")),
    }
}

/// A token that lives, of a client or meant for it. A refresh token is its client's alone.
fn live(
    client: &RegisteredClient,
    kind: TokenKind,
    view: Option<TokenView>,
) -> Result<TokenView, Error> {
    let view = view.filter(|view| view.live).ok_or_else(|| refused("the token is not live"))?;
    let is_own = view.client == client.id;
    match is_own || (kind == TokenKind::Access && is_meant(client, &view.audience)) {
        true => Ok(view),
        false => Err(refused("a token of another client, and not meant for this one")),
    }
}

/// Whether a client is one that an access token was made to be shown to.
fn is_meant(client: &RegisteredClient, audience: &str) -> bool {
    let id: &ClientId = client.client_id();
    overlap(audience, client.audiences().as_str())
        || audience.split(' ').any(|one| one == id.as_str())
}

fn source(view: TokenView, kind: TokenKind, actors: Actors) -> Option<Source> {
    let ends_at = match kind {
        TokenKind::Access => view.expires_at,
        TokenKind::Refresh => view.family_ends_at,
    };
    Some(Source {
        subject: view.subject,
        client: Some(view.client),
        scope: Some(view.scope),
        audience: Some(Audience::parse(&view.audience).ok()?),
        ends_at: Some(ends_at).filter(|end| *end != Timestamp::NEVER),
        admission: view.admission,
        actors,
        once: None,
        makes: None,
    })
}
