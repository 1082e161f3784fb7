//! A look at a token that nobody vouches for, to choose where to send it.

use super::{Parts, Scratch, VerifyError, header};
use crate::codec::base64url;
use crate::codec::json::Object;

/// What a token says of itself. Anybody can write that: use it to choose a verifier, never to
/// decide. Nothing turns it into a [`Verified`](super::Verified).
#[derive(Clone, Copy, Debug)]
pub struct Unverified<'s> {
    issuer: Option<&'s str>,
    kid: Option<&'s str>,
}

impl<'s> Unverified<'s> {
    /// Who is said to have issued it.
    #[must_use]
    pub fn issuer(&self) -> Option<&'s str> {
        self.issuer
    }

    /// The key that is said to have signed it.
    #[must_use]
    pub fn kid(&self) -> Option<&'s str> {
        self.kid
    }
}

/// Reads issuer and `kid` of any JWT in compact form, checking nothing but its syntax.
///
/// # Errors
/// [`VerifyError`] when the token is too long or its syntax is wrong.
pub fn peek<'s>(token: &[u8], scratch: &'s mut Scratch) -> Result<Unverified<'s>, VerifyError> {
    let parts = Parts::of(token)?;
    let room = &mut *scratch.0;
    let header = header::read(parts.header, &mut room.header, &mut room.header_members)?;
    let text = base64url::decode_into(parts.payload, &mut room.payload)
        .map_err(|_| VerifyError::BadBase64)?;
    let claims = Object::read(text, &mut room.payload_members)?;
    Ok(Unverified {
        issuer: claims.get("iss").and_then(|value| value.as_str()),
        kid: header.get("kid").and_then(|value| value.as_str()),
    })
}
