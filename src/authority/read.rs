//! Reading what a stranger presents: an opaque handle, a JWT, or neither. Nothing here asks the
//! store; what comes out was made by this authority and not altered since.

use std::sync::Arc;

use super::Inner;
use super::birth::{self, Birth};
use super::confirmation::Confirmation;
use super::derive::jti_digest;
use super::exchange::Actors;
use crate::codec::handle::{Handle, HandleKind};
use crate::codec::jws::{Scratch, Verified, VerifyError};
use crate::ids::{ClientId, Subject};
use crate::locator::Digest;
use crate::scope::Scope;
use crate::store::{Find, Store};
use crate::time::Timestamp;

/// A genuine token. Whether it lives is the store's to say.
pub(super) enum Read {
    Opaque(Handle),
    Jwt(Box<Jwt>),
}

/// What a JWT of this authority says.
pub(super) struct Jwt {
    pub(super) birth: Birth,
    pub(super) jti: Arc<str>,
    pub(super) client: ClientId,
    pub(super) subject: Subject,
    pub(super) scope: Scope,
    pub(super) audience: Arc<str>,
    pub(super) issued_at: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) confirmation: Option<Confirmation>,
    pub(super) actors: Actors,
}

/// Why a text is no token of this authority. A reason for the operator; a client is told nothing.
pub(super) type NotOurs = &'static str;

impl<S: Store> Inner<S> {
    /// Takes a token apart.
    pub(super) fn read(&self, token: &str) -> Result<Read, NotOurs> {
        // A handle has no dot, a JWT has two: neither parser sees the other's texts. Both bound the
        // length before anything else (I8).
        if !token.contains('.') {
            return match self.handles.parse(None, token) {
                Ok(handle) if handle.kind == HandleKind::Code => Err("a code is no token"),
                Ok(handle) => Ok(Read::Opaque(handle)),
                Err(error) => {
                    tracing::debug!(%error, "no handle");
                    Err("no handle of this authority")
                }
            };
        }
        let mut scratch = self.scratches.pop().unwrap_or_default();
        let jwt = self.read_jwt(token, &mut scratch);
        // When the pool is full the scratch is dropped.
        let _ = self.scratches.push(scratch);
        jwt.map(|jwt| Read::Jwt(Box::new(jwt)))
    }

    fn read_jwt(&self, token: &str, scratch: &mut Scratch) -> Result<Jwt, NotOurs> {
        let keys = self.keys.current();
        let refuse = |error: VerifyError| {
            tracing::debug!(%error, "no JWT");
            "no JWT of this authority"
        };
        let verified = self.own.verify(keys.ring(), token.as_bytes(), Timestamp(0), scratch);
        let verified = verified.map_err(refuse)?;
        self.jwt(&verified).ok_or("a JWT without its birth")
    }

    fn jwt(&self, verified: &Verified<'_>) -> Option<Jwt> {
        let claim = verified.get(birth::CLAIM)?.as_str()?;
        let mut audience = String::new();
        for one in verified.audience() {
            if !audience.is_empty() {
                audience.push(' ');
            }
            audience.push_str(&one);
        }
        Some(Jwt {
            birth: Birth::from_claim(&self.derive, claim, verified.jti())?,
            jti: Arc::from(verified.jti()),
            client: ClientId::new(verified.client_id()).ok()?,
            subject: Subject::new(verified.subject()).ok()?,
            scope: Scope::parse(verified.scope()).ok()?,
            audience: Arc::from(audience),
            issued_at: verified.issued_at(),
            expires_at: verified.expires_at(),
            confirmation: Confirmation::of_claims(verified)?,
            actors: Actors::of_claims(verified)?,
        })
    }
}

impl Jwt {
    pub(super) fn digest(&self) -> Digest {
        jti_digest(&self.jti)
    }

    /// The question whether it lives.
    pub(super) fn find(&self, used: bool) -> Find {
        Find::Jwt {
            family: self.birth.family,
            generation: self.birth.generation,
            admission: self.birth.admission,
            jti: self.digest(),
            expires_at: self.expires_at,
            used,
        }
    }
}
