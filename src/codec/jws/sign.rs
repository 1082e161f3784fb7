//! Signing: the token is built where it will stay.

use std::fmt;

use bytes::BytesMut;

use super::TOKEN_LEN_MAX;
use crate::codec::base64url;
use crate::codec::claims::{AccessClaims, ClaimsWriter};
use crate::codec::keys::SigningKey;

/// Why no token was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignError {
    /// The buffer is shorter than [`SigningKey::token_len`] says.
    BufferTooShort,
    /// The token would be longer than [`TOKEN_LEN_MAX`], and so refused everywhere.
    TooLong,
    /// There is no audience (RFC 9068 section 2.2 requires one).
    NoAudience,
    /// A time is later than [`NUMERIC_DATE_MAX`](crate::codec::claims::NUMERIC_DATE_MAX).
    DateOutOfRange,
    /// An extra claim has the name of a standard one.
    ReservedClaim,
    /// Two extra claims have one name.
    DuplicateClaim,
    /// There are more extra claims than
    /// [`EXTRA_CLAIMS_MAX`](crate::codec::claims::EXTRA_CLAIMS_MAX).
    TooManyClaims,
    /// The crypto library refused to sign: its randomness failed, or the key is faulty.
    Refused,
}

impl fmt::Display for SignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SignError::BufferTooShort => "the buffer is too short for the token",
            SignError::TooLong => "the token would be too long",
            SignError::NoAudience => "an access token needs an audience",
            SignError::DateOutOfRange => "a time is too late for a token to carry",
            SignError::ReservedClaim => "an extra claim has the name of a standard claim",
            SignError::DuplicateClaim => "two extra claims have one name",
            SignError::TooManyClaims => "there are too many extra claims",
            SignError::Refused => "the crypto library refused to sign",
        })
    }
}

impl std::error::Error for SignError {}

impl SigningKey {
    /// The exact length of the token with these claims, in bytes.
    ///
    /// # Errors
    /// [`SignError`] when no such token can be made.
    pub fn token_len(&self, claims: &AccessClaims<'_>) -> Result<usize, SignError> {
        let mut counting = ClaimsWriter::counting();
        claims.write(&mut counting)?;
        let public = self.verifying_key();
        let signature_len = base64url::encoded_len(public.signature_len());
        let len = public.header().len() + 1 + counting.finish()? + 1 + signature_len;
        if len > TOKEN_LEN_MAX { Err(SignError::TooLong) } else { Ok(len) }
    }

    /// Writes the token with these claims to the start of `out` and returns it.
    ///
    /// # Errors
    /// [`SignError`]; what `out` holds then is no token.
    pub fn sign_into<'o>(
        &self,
        claims: &AccessClaims<'_>,
        out: &'o mut [u8],
    ) -> Result<&'o str, SignError> {
        let header = self.verifying_key().header();
        let payload_at = header.len() + 1;
        put(out, 0, header)?;
        put(out, header.len(), b".")?;
        let room = out.get_mut(payload_at..).ok_or(SignError::BufferTooShort)?;
        let mut writer = ClaimsWriter::encoding_to(room);
        claims.write(&mut writer)?;
        let input_len = payload_at + writer.finish()?;
        let (input, rest) = out.split_at_mut_checked(input_len).ok_or(SignError::BufferTooShort)?;
        put(rest, 0, b".")?;
        let payload = input.get(payload_at..).unwrap_or(&[]);
        let room = rest.get_mut(1..).unwrap_or(&mut []);
        let len = input_len + 1 + self.sign(input, payload, room)?;
        if len > TOKEN_LEN_MAX {
            return Err(SignError::TooLong);
        }
        let token = out.get(..len).ok_or(SignError::BufferTooShort)?;
        std::str::from_utf8(token).map_err(|_| SignError::Refused)
    }

    /// Appends the token with these claims to `out`, which grows only if its capacity is short of
    /// [`SigningKey::token_len`].
    ///
    /// # Errors
    /// [`SignError`]; `out` is then as it was.
    pub fn sign_to(&self, claims: &AccessClaims<'_>, out: &mut BytesMut) -> Result<(), SignError> {
        let start = out.len();
        out.resize(start + self.token_len(claims)?, 0);
        let signed = match out.get_mut(start..) {
            Some(room) => self.sign_into(claims, room).map(|_| ()),
            None => Err(SignError::BufferTooShort),
        };
        if signed.is_err() {
            out.truncate(start);
        }
        signed
    }
}

fn put(out: &mut [u8], at: usize, text: &[u8]) -> Result<(), SignError> {
    let room = out.get_mut(at..at + text.len()).ok_or(SignError::BufferTooShort)?;
    room.copy_from_slice(text);
    Ok(())
}
