//! Verifying: offline by signature and claims alone, or live against what was revoked.

use std::fmt;
use std::sync::Arc;

use super::active::{ActiveToken, TokenKind, find_handle};
use super::audience::overlap;
use super::confirmation::Confirmation;
use super::error::{Error, Reason};
use super::lookup::ticket;
use super::proofs::Owner;
use super::read::Read;
use super::sender::Presented;
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
    /// Verifies a JWT access token offline (RFC 9068 section 4): signature, type, issuer, expiry, that
    /// it is meant for the authority's default audience, and that it was presented by whom it is bound
    /// to ([`Presented`]; a text is a bearer's). It learns of no revocation; see
    /// [`Authority::verify_live`].
    ///
    /// # Errors
    /// [`Error::InvalidToken`], whatever is wrong; [`Error::InvalidDpopProof`] and
    /// [`Error::UseDpopNonce`] for what is wrong with the proof of a key.
    pub fn verify<'s, 't>(
        &self,
        token: impl Into<Presented<'t>>,
        scratch: &'s mut Scratch,
    ) -> Result<VerifiedClaims<'s>, Error> {
        let inner = &self.inner;
        let presented = token.into();
        let Scratch { room, keys } = scratch;
        if keys.as_ref().is_some_and(|keys| !inner.keys.is_current(keys.id())) {
            *keys = None;
        }
        let keys: &'s KeySet = keys.get_or_insert_with(|| inner.keys.current());
        let now = inner.clock.read().unix;
        let verified = inner
            .verifier
            .verify(keys.ring(), presented.token.as_bytes(), now, room)
            .map_err(|error| Error::InvalidToken(Reason::with("no valid JWT", error)))?;
        let bound = Confirmation::of_claims(&verified)
            .ok_or_else(|| Error::InvalidToken(Reason::new("bound to something unknown")))?;
        if let Some(proof) = inner.check_sender(&presented, bound)? {
            let owner = Owner::Login(verified.client_id(), verified.subject());
            inner.proofs.spend(proof, owner, inner.now())?;
        }
        Ok(verified)
    }

    /// Verifies an access token, opaque or JWT, against all that was revoked; it must be meant for
    /// the authority's default audience, and presented by whom it is bound to ([`Presented`]; a text is
    /// a bearer's). This is a use of the token: it ends the time in which the refresh that gave it may
    /// be repeated.
    ///
    /// # Errors
    /// [`Error::InvalidToken`] for an unknown, expired, revoked or foreign token and for a refresh
    /// token; [`Error::InvalidDpopProof`] and [`Error::UseDpopNonce`] for what is wrong with the proof
    /// of a key; [`Error::TemporarilyUnavailable`] when a cold record could not be read.
    pub fn verify_live<'t>(&self, token: impl Into<Presented<'t>>) -> Ticket<ActiveToken, Error> {
        ticket(self.inner.verify_live(&token.into()))
    }
}

impl<S: Store> Inner<S> {
    /// As [`Authority::verify_live`], for what the authority itself serves: whatever the audience.
    pub(super) fn live_for_us(
        self: &Arc<Self>,
        presented: &Presented<'_>,
    ) -> Result<Ticket<ActiveToken, Error>, Error> {
        self.live(presented, |_, token| {
            token.ok_or_else(|| Error::InvalidToken(Reason::new("not live")))
        })
    }

    fn verify_live(
        self: &Arc<Self>,
        presented: &Presented<'_>,
    ) -> Result<Ticket<ActiveToken, Error>, Error> {
        self.live(presented, Inner::meant_for_us)
    }

    fn live(
        self: &Arc<Self>,
        presented: &Presented<'_>,
        judge: fn(&Self, Option<ActiveToken>) -> Result<ActiveToken, Error>,
    ) -> Result<Ticket<ActiveToken, Error>, Error> {
        let refuse = |why| Error::InvalidToken(Reason::new(why));
        let now = self.clock.read();
        match self.read(presented.token).map_err(refuse)? {
            Read::Opaque(handle) => match find_handle(&handle, true) {
                Some((kind @ TokenKind::Access, find)) => {
                    let bound = handle.binding.map(Confirmation::of_binding);
                    // Whoever it is not bound to does not use it.
                    let proof = self.check_sender(presented, bound)?;
                    let (locator, digest) = (handle.locator, handle.digest);
                    Ok(self.find_then(find, now, move |inner, view| {
                        let live = view.filter(|view| view.live);
                        if let Some(view) = &live {
                            if let Err(used) = inner.spend_proof(proof, &view.client, &view.subject)
                            {
                                return Ticket::ready(Err(used));
                            }
                            inner.slide(view, locator, digest, now);
                        }
                        let token = live.map(|view| ActiveToken::of_view(kind, view, bound));
                        Ticket::ready(judge(inner, token))
                    }))
                }
                _ => Err(refuse("no access token")),
            },
            Read::Jwt(jwt) => {
                let proof = self.check_sender(presented, jwt.confirmation)?;
                Ok(self.find_then(jwt.find(true), now, move |inner, view| {
                    let live = view.filter(|view| view.live && view.client == jwt.client);
                    if let Some(view) = &live
                        && let Err(used) = inner.spend_proof(proof, &view.client, &view.subject)
                    {
                        return Ticket::ready(Err(used));
                    }
                    let token = live.map(|view| ActiveToken::of_jwt(*jwt, view));
                    Ticket::ready(judge(inner, token))
                }))
            }
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
