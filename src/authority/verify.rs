//! Verifying: offline by signature and claims alone, or live against what was revoked.

use std::fmt;
use std::sync::Arc;

use super::active::{ActiveToken, TokenKind, find_handle};
use super::audience::overlap;
use super::error::{Error, Reason};
use super::lookup::ticket;
use super::read::Read;
use super::signing::KeySet;
use super::{Authority, Inner};
use crate::codec::jws;
use crate::store::{Store, Ticket};

pub use crate::codec::jws::Verified as VerifiedClaims;

/// Room to verify one token at a time, about 8 KiB. Keep one per thread and use it again: then
/// [`Authority::verify`] allocates nothing and takes no lock while the signing keys stay the same.
#[derive(Default)]
pub struct Scratch {
    room: jws::Scratch,
    /// The keys that were current at the last verification.
    keys: Option<Arc<KeySet>>,
}

impl Scratch {
    /// A fresh scratch.
    #[must_use]
    pub fn new() -> Scratch {
        Scratch::default()
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scratch")
    }
}

impl<S: Store> Authority<S> {
    /// Verifies a JWT access token offline (RFC 9068 section 4): signature, type, issuer, expiry,
    /// and that it is meant for the authority's default audience. It learns of no revocation; see
    /// [`Authority::verify_live`].
    ///
    /// # Errors
    /// [`Error::InvalidToken`], whatever is wrong.
    pub fn verify<'s>(
        &self,
        token: &str,
        scratch: &'s mut Scratch,
    ) -> Result<VerifiedClaims<'s>, Error> {
        let inner = &self.inner;
        let Scratch { room, keys } = scratch;
        if keys.as_ref().is_some_and(|keys| !inner.keys.is_current(keys.id())) {
            *keys = None;
        }
        let keys: &'s KeySet = keys.get_or_insert_with(|| inner.keys.current());
        let now = inner.clock.read().unix;
        inner
            .verifier
            .verify(keys.ring(), token.as_bytes(), now, room)
            .map_err(|error| Error::InvalidToken(Reason::with("no valid JWT", error)))
    }

    /// Verifies an access token, opaque or JWT, against all that was revoked; it must be meant for
    /// the authority's default audience. This is a use of the token: it ends the time in which the
    /// refresh that gave it may be repeated.
    ///
    /// # Errors
    /// [`Error::InvalidToken`] for an unknown, expired, revoked or foreign token and for a refresh
    /// token; [`Error::TemporarilyUnavailable`] when a cold record could not be read.
    pub fn verify_live(&self, token: &str) -> Ticket<ActiveToken, Error> {
        ticket(self.inner.verify_live(token))
    }
}

impl<S: Store> Inner<S> {
    /// As [`Authority::verify_live`], for what the authority itself serves: whatever the audience.
    pub(super) fn live_for_us(
        self: &Arc<Self>,
        token: &str,
    ) -> Result<Ticket<ActiveToken, Error>, Error> {
        self.live(token, |_, token| {
            token.ok_or_else(|| Error::InvalidToken(Reason::new("not live")))
        })
    }

    fn verify_live(self: &Arc<Self>, token: &str) -> Result<Ticket<ActiveToken, Error>, Error> {
        self.live(token, Inner::meant_for_us)
    }

    fn live(
        self: &Arc<Self>,
        token: &str,
        judge: fn(&Self, Option<ActiveToken>) -> Result<ActiveToken, Error>,
    ) -> Result<Ticket<ActiveToken, Error>, Error> {
        let refuse = |why| Error::InvalidToken(Reason::new(why));
        let now = self.clock.read();
        match self.read(token).map_err(refuse)? {
            Read::Opaque(handle) => match find_handle(&handle, true) {
                Some((TokenKind::Access, find)) => {
                    Ok(self.find_then(find, now, move |inner, view| {
                        let live = view.filter(|view| view.live);
                        if let Some(view) = &live {
                            inner.slide(view, handle.locator, handle.digest, now);
                        }
                        let token = live.map(|v| ActiveToken::of_view(TokenKind::Access, v));
                        Ticket::ready(judge(inner, token))
                    }))
                }
                _ => Err(refuse("no access token")),
            },
            Read::Jwt(jwt) => Ok(self.find_then(jwt.find(true), now, move |inner, view| {
                let live = view.filter(|view| view.live && view.client == jwt.client);
                let token = live.map(|view| ActiveToken::of_jwt(*jwt, view));
                Ticket::ready(judge(inner, token))
            })),
        }
    }

    fn meant_for_us(&self, token: Option<ActiveToken>) -> Result<ActiveToken, Error> {
        let token = token.ok_or_else(|| Error::InvalidToken(Reason::new("not live")))?;
        match overlap(&token.audience, self.audience.as_str()) {
            true => Ok(token),
            false => Err(Error::InvalidToken(Reason::new("for another audience"))),
        }
    }
}
