//! JSON text on its way into a token: encoded as it comes, no copy of it is ever made.

use std::fmt;

use super::{EXTRA_CLAIMS_MAX, NUMERIC_DATE_MAX};
use crate::codec::base64url;
use crate::codec::json::{plain_len, special_bytes};
use crate::codec::jws::SignError;
use crate::time::Timestamp;

/// A multiple of three, so that chunks join without padding; most payloads take one.
const CHUNK_LEN: usize = 384;
/// How many names of extra claims are kept where they cost nothing until they are used.
const FIRST_NAMES: usize = 4;
/// Those of `u64::MAX`.
const DIGITS_MAX: usize = 20;

/// At most two bytes of JSON that wait for a third one to be encoded with.
#[derive(Clone, Copy, Default)]
pub(in crate::codec) struct Carried {
    pub(in crate::codec) bytes: [u8; 2],
    pub(in crate::codec) len: usize,
}

/// Takes the claims of one token and encodes them into it.
pub struct ClaimsWriter<'c> {
    /// `None` when only the length is wanted.
    out: Option<&'c mut [u8]>,
    out_len: usize,
    chunk: [u8; CHUNK_LEN],
    chunk_len: usize,
    json_len: usize,
    /// Whether that name is the type's own.
    is_reserved: fn(&str) -> bool,
    names: [&'c str; FIRST_NAMES],
    more_names: Option<[&'c str; EXTRA_CLAIMS_MAX - FIRST_NAMES]>,
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

    /// Adds an object of strings, which must be given under different names.
    ///
    /// # Errors
    /// As [`ClaimsWriter::str`].
    pub fn object<'m>(
        &mut self,
        name: &'c str,
        members: impl IntoIterator<Item = (&'m str, &'m str)>,
    ) -> Result<(), SignError> {
        self.extra(name)?;
        self.push(b"{")?;
        for (at, (member, value)) in members.into_iter().enumerate() {
            if at > 0 {
                self.push(b",")?;
            }
            self.quoted(member)?;
            self.push(b":")?;
            self.quoted(value)?;
        }
        self.push(b"}")
    }

    /// Adds who acts, the newest first, each within the one before (RFC 8693 section 4.1).
    ///
    /// # Errors
    /// As [`ClaimsWriter::str`].
    pub fn actors(&mut self, name: &'c str, subjects: &[&str]) -> Result<(), SignError> {
        self.extra(name)?;
        for (at, subject) in subjects.iter().enumerate() {
            self.push(if at == 0 { b"{\"sub\":" } else { b",\"act\":{\"sub\":" })?;
            self.quoted(subject)?;
        }
        subjects.iter().try_for_each(|_| self.push(b"}"))
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

    /// A writer that encodes to the start of `out`, or counts if there is none.
    #[inline(always)]
    pub(in crate::codec) fn new(
        out: Option<&'c mut [u8]>,
        is_reserved: fn(&str) -> bool,
    ) -> ClaimsWriter<'c> {
        ClaimsWriter {
            out,
            out_len: 0,
            chunk: [0; CHUNK_LEN],
            chunk_len: 0,
            json_len: 0,
            is_reserved,
            names: [""; FIRST_NAMES],
            more_names: None,
            names_len: 0,
        }
    }

    /// Starts with what a template has left over.
    #[inline(always)]
    pub(in crate::codec) fn carry_on(&mut self, carried: Carried) {
        [self.chunk[0], self.chunk[1]] = carried.bytes;
        self.chunk_len = carried.len;
        self.json_len = carried.len;
    }

    /// How many bytes of JSON were written so far, or would have been.
    pub(in crate::codec) fn json_len(&self) -> usize {
        self.json_len
    }

    /// How many characters the encoded claims take, all of them written.
    pub(in crate::codec) fn finish(&mut self) -> Result<usize, SignError> {
        self.flush()?;
        Ok(base64url::encoded_len(self.json_len))
    }

    fn extra(&mut self, name: &'c str) -> Result<(), SignError> {
        if (self.is_reserved)(name) {
            return Err(SignError::ReservedClaim);
        }
        let more = self.more_names.iter().flatten();
        if self.names.iter().chain(more).take(self.names_len).any(|seen| *seen == name) {
            return Err(SignError::DuplicateClaim);
        }
        let room = match self.names_len.checked_sub(FIRST_NAMES) {
            None => self.names.get_mut(self.names_len),
            Some(at) => self.more_names.get_or_insert([""; _]).get_mut(at),
        };
        *room.ok_or(SignError::TooManyClaims)? = name;
        self.names_len += 1;
        self.push(b",")?;
        self.quoted(name)?;
        self.push(b":")
    }

    pub(super) fn date(&mut self, member: &[u8], at: Timestamp) -> Result<(), SignError> {
        if at.0 > NUMERIC_DATE_MAX {
            return Err(SignError::DateOutOfRange);
        }
        self.push(member)?;
        self.number(at.0)
    }

    fn number(&mut self, value: u64) -> Result<(), SignError> {
        // As many as the dates of three centuries have.
        if (1_000_000_000..10_000_000_000).contains(&value) {
            return self.push(&digits::<10>(value));
        }
        let digits = digits::<DIGITS_MAX>(value);
        let zeros = digits.iter().take(DIGITS_MAX - 1).take_while(|digit| **digit == b'0').count();
        self.push(digits.get(zeros..).unwrap_or(&[]))
    }

    pub(super) fn array(&mut self, values: &[&str]) -> Result<(), SignError> {
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
    pub(super) fn quoted(&mut self, text: &str) -> Result<(), SignError> {
        let len = text.len() + 2;
        if self.out.is_some()
            && let Some(room) = self.chunk.get_mut(self.chunk_len..self.chunk_len + len)
            && let [first, inside @ .., last] = room
            && copy_plain(text.as_bytes(), inside)
        {
            (*first, *last) = (b'"', b'"');
            self.chunk_len += len;
            self.json_len += len;
            return Ok(());
        }
        self.escaped(text)
    }

    #[inline(never)]
    fn escaped(&mut self, text: &str) -> Result<(), SignError> {
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
    pub(super) fn push(&mut self, text: &[u8]) -> Result<(), SignError> {
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

/// The last `N` digits of `value`; `N` is even.
#[inline(always)]
fn digits<const N: usize>(value: u64) -> [u8; N] {
    let (mut digits, mut rest) = ([b'0'; N], value);
    for two in digits.as_chunks_mut::<2>().0.iter_mut().rev() {
        // Below 100, so both are digits.
        let low = u8::try_from(rest % 100).unwrap_or(0);
        *two = [b'0' + low / 10, b'0' + low % 10];
        rest /= 100;
    }
    digits
}

/// Copies a text that needs no escape, eight bytes at a time. A text that needs one is copied in vain.
#[inline(always)]
fn copy_plain(text: &[u8], room: &mut [u8]) -> bool {
    let (Some(last), Some(last_room)) = (text.last_chunk::<8>(), room.last_chunk_mut::<8>()) else {
        room.copy_from_slice(text);
        return plain_len(text) == text.len();
    };
    // The last eight may be looked at twice.
    let mut special = special_bytes(*last);
    *last_room = *last;
    for (eight, room) in text.as_chunks::<8>().0.iter().zip(room.as_chunks_mut::<8>().0) {
        special |= special_bytes(*eight);
        *room = *eight;
    }
    special == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_they_are() -> Result<(), SignError> {
        let edges = (0..20).map(|power| 10u64.pow(power));
        for value in edges.flat_map(|edge| [edge - 1, edge, edge + 1]).chain([u64::MAX]) {
            let mut out = [0; 64];
            let mut writer = ClaimsWriter::new(Some(&mut out), |_| false);
            writer.number(value)?;
            let len = writer.finish()?;
            let text = std::str::from_utf8(&out[..len]).unwrap_or("");
            assert_eq!(base64url::decode(text), Ok(value.to_string().into_bytes()));
        }
        Ok(())
    }
}
