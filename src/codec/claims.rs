//! The claims of an access token (RFC 9068 section 2.2), written straight into the token: no copy
//! of the JSON is ever made, and its length is known beforehand.

use std::fmt;

use super::base64url;
use super::json::plain_len;
use super::jws::SignError;
use crate::time::Timestamp;

/// The most extra claims in one token.
pub const EXTRA_CLAIMS_MAX: usize = 32;
/// The latest time that a token can carry: what every JSON reader can hold exactly (RFC 7493
/// section 2.2).
pub const NUMERIC_DATE_MAX: u64 = (1 << 53) - 1;

/// A multiple of three, so that chunks join without padding; most payloads take one.
const CHUNK_LEN: usize = 384;

/// The claims of one access token, borrowed from wherever they are.
#[derive(Clone, Copy)]
pub struct AccessClaims<'a> {
    /// `iss`: the issuer identifier of the authority.
    pub issuer: &'a str,
    /// `sub`: whom the token speaks for.
    pub subject: &'a str,
    /// `aud`: at least one; a single one is written as a string, more as an array.
    pub audience: &'a [&'a str],
    /// `client_id`: the client that the token was issued to.
    pub client_id: &'a str,
    /// `scope`: space-delimited; left out when empty.
    pub scope: &'a str,
    /// `iat`.
    pub issued_at: Timestamp,
    /// `nbf`, if any.
    pub not_before: Option<Timestamp>,
    /// `exp`.
    pub expires_at: Timestamp,
    /// `jti`.
    pub jti: &'a str,
    /// Whatever else; [`NoExtraClaims`] for nothing.
    pub extra: &'a dyn ExtraClaims,
}

impl fmt::Debug for AccessClaims<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessClaims").field("jti", &self.jti).finish_non_exhaustive()
    }
}

impl<'a> AccessClaims<'a> {
    pub(super) fn write(&self, out: &mut ClaimsWriter<'a>) -> Result<(), SignError> {
        out.push(b"{\"iss\":")?;
        out.quoted(self.issuer)?;
        out.push(b",\"sub\":")?;
        out.quoted(self.subject)?;
        out.push(b",\"aud\":")?;
        match self.audience {
            [] => return Err(SignError::NoAudience),
            [one] => out.quoted(one)?,
            several => out.array(several)?,
        }
        out.push(b",\"client_id\":")?;
        out.quoted(self.client_id)?;
        if !self.scope.is_empty() {
            out.push(b",\"scope\":")?;
            out.quoted(self.scope)?;
        }
        out.date(b",\"iat\":", self.issued_at)?;
        if let Some(not_before) = self.not_before {
            out.date(b",\"nbf\":", not_before)?;
        }
        out.date(b",\"exp\":", self.expires_at)?;
        out.push(b",\"jti\":")?;
        out.quoted(self.jti)?;
        self.extra.write(out)?;
        out.push(b"}")
    }
}

/// Claims beyond the standard ones. It is called twice per token, for the length and for the
/// text, and must write the same both times.
///
/// # Examples
/// ```
/// use mintage::codec::claims::{ClaimsWriter, ExtraClaims};
/// use mintage::codec::jws::SignError;
///
/// struct Session<'a>(&'a str);
///
/// impl ExtraClaims for Session<'_> {
///     fn write<'c>(&'c self, claims: &mut ClaimsWriter<'c>) -> Result<(), SignError> {
///         claims.str("sid", self.0)
///     }
/// }
/// ```
pub trait ExtraClaims {
    /// Writes the claims, each name once.
    ///
    /// # Errors
    /// What `claims` returned.
    fn write<'c>(&'c self, claims: &mut ClaimsWriter<'c>) -> Result<(), SignError>;
}

/// No extra claims.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoExtraClaims;

impl ExtraClaims for NoExtraClaims {
    fn write<'c>(&'c self, _claims: &mut ClaimsWriter<'c>) -> Result<(), SignError> {
        Ok(())
    }
}

/// Takes the claims of one token and encodes them into it.
pub struct ClaimsWriter<'c> {
    /// `None` when only the length is wanted.
    out: Option<&'c mut [u8]>,
    out_len: usize,
    chunk: [u8; CHUNK_LEN],
    chunk_len: usize,
    json_len: usize,
    names: [&'c str; EXTRA_CLAIMS_MAX],
    names_len: usize,
}

impl fmt::Debug for ClaimsWriter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClaimsWriter({} bytes)", self.json_len)
    }
}

impl<'c> ClaimsWriter<'c> {
    /// Adds a string.
    ///
    /// # Errors
    /// [`SignError::ReservedClaim`], [`SignError::DuplicateClaim`], [`SignError::TooManyClaims`],
    /// [`SignError::BufferTooShort`].
    pub fn str(&mut self, name: &'c str, value: &str) -> Result<(), SignError> {
        self.extra(name)?;
        self.quoted(value)
    }

    /// Adds an array of strings.
    ///
    /// # Errors
    /// As [`ClaimsWriter::str`].
    pub fn strs(&mut self, name: &'c str, values: &[&str]) -> Result<(), SignError> {
        self.extra(name)?;
        self.array(values)
    }

    /// Adds a number.
    ///
    /// # Errors
    /// As [`ClaimsWriter::str`].
    pub fn u64(&mut self, name: &'c str, value: u64) -> Result<(), SignError> {
        self.extra(name)?;
        self.number(value)
    }

    /// Adds `true` or `false`.
    ///
    /// # Errors
    /// As [`ClaimsWriter::str`].
    pub fn bool(&mut self, name: &'c str, value: bool) -> Result<(), SignError> {
        self.extra(name)?;
        self.push(if value { b"true" } else { b"false" })
    }

    /// A writer that counts.
    pub(super) fn counting() -> ClaimsWriter<'c> {
        ClaimsWriter::new(None)
    }

    /// A writer that encodes to the start of `out`.
    pub(super) fn encoding_to(out: &'c mut [u8]) -> ClaimsWriter<'c> {
        ClaimsWriter::new(Some(out))
    }

    fn new(out: Option<&'c mut [u8]>) -> ClaimsWriter<'c> {
        ClaimsWriter {
            out,
            out_len: 0,
            chunk: [0; CHUNK_LEN],
            chunk_len: 0,
            json_len: 0,
            names: [""; EXTRA_CLAIMS_MAX],
            names_len: 0,
        }
    }

    /// How many characters the encoded claims take, all of them written.
    pub(super) fn finish(mut self) -> Result<usize, SignError> {
        self.flush()?;
        Ok(base64url::encoded_len(self.json_len))
    }

    fn extra(&mut self, name: &'c str) -> Result<(), SignError> {
        if is_standard(name) {
            return Err(SignError::ReservedClaim);
        }
        if self.names.iter().take(self.names_len).any(|seen| *seen == name) {
            return Err(SignError::DuplicateClaim);
        }
        *self.names.get_mut(self.names_len).ok_or(SignError::TooManyClaims)? = name;
        self.names_len += 1;
        self.push(b",")?;
        self.quoted(name)?;
        self.push(b":")
    }

    fn date(&mut self, member: &[u8], at: Timestamp) -> Result<(), SignError> {
        if at.0 > NUMERIC_DATE_MAX {
            return Err(SignError::DateOutOfRange);
        }
        self.push(member)?;
        self.number(at.0)
    }

    fn number(&mut self, value: u64) -> Result<(), SignError> {
        let mut digits = [b'0'; 20];
        let (mut rest, mut start) = (value, digits.len());
        for (at, digit) in digits.iter_mut().enumerate().rev() {
            *digit += u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
            start = at;
            if rest == 0 {
                break;
            }
        }
        self.push(digits.get(start..).unwrap_or(&[]))
    }

    fn array(&mut self, values: &[&str]) -> Result<(), SignError> {
        self.push(b"[")?;
        for (at, value) in values.iter().enumerate() {
            if at > 0 {
                self.push(b",")?;
            }
            self.quoted(value)?;
        }
        self.push(b"]")
    }

    /// RFC 8259 section 7: quote, backslash and the control characters must be escaped.
    fn quoted(&mut self, text: &str) -> Result<(), SignError> {
        self.push(b"\"")?;
        let mut rest = text.as_bytes();
        loop {
            let (plain, special) = rest.split_at(plain_len(rest));
            self.push(plain)?;
            let Some((byte, after)) = special.split_first() else { break };
            match byte {
                b'"' | b'\\' => self.push(&[b'\\', *byte])?,
                _ => {
                    let hex = |digit: u8| if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
                    let (high, low) = (hex(byte >> 4), hex(byte & 15));
                    self.push(&[b'\\', b'u', b'0', b'0', high, low])?;
                }
            }
            rest = after;
        }
        self.push(b"\"")
    }

    /// Inlined, so that a text of known length is stored rather than copied by a call.
    #[inline]
    fn push(&mut self, text: &[u8]) -> Result<(), SignError> {
        let room = self.chunk_len..self.chunk_len + text.len();
        match self.chunk.get_mut(room) {
            Some(room) if self.out.is_some() => {
                room.copy_from_slice(text);
                self.chunk_len += text.len();
                self.json_len += text.len();
                Ok(())
            }
            _ => self.push_over(text),
        }
    }

    /// Counts, or fills the chunk and goes on in the next one.
    #[inline(never)]
    fn push_over(&mut self, text: &[u8]) -> Result<(), SignError> {
        self.json_len += text.len();
        if self.out.is_none() {
            return Ok(());
        }
        let mut text = text;
        loop {
            let room = self.chunk.get_mut(self.chunk_len..).unwrap_or(&mut []);
            let (now, later) = text.split_at(text.len().min(room.len()));
            if let Some(room) = room.get_mut(..now.len()) {
                room.copy_from_slice(now);
            }
            self.chunk_len += now.len();
            if later.is_empty() {
                return Ok(());
            }
            self.flush()?;
            text = later;
        }
    }

    /// Encodes the chunk. Only the last one is not full.
    fn flush(&mut self) -> Result<(), SignError> {
        let Some(out) = self.out.as_deref_mut() else { return Ok(()) };
        let chunk = self.chunk.get(..self.chunk_len).unwrap_or(&[]);
        let room = out.get_mut(self.out_len..).ok_or(SignError::BufferTooShort)?;
        self.out_len += base64url::encode_into(chunk, room).ok_or(SignError::BufferTooShort)?;
        self.chunk_len = 0;
        Ok(())
    }
}

/// Whether [`AccessClaims`] has a field of its own for that claim.
pub(super) fn is_standard(name: &str) -> bool {
    matches!(name, "iss" | "sub" | "aud" | "client_id" | "scope" | "iat" | "nbf" | "exp" | "jti")
}
