//! From a token to claims that are a key's: bound the length, find the key, check the signature over
//! the raw bytes, and only then read what is claimed. What they mean is not looked at here.

use std::borrow::Cow;
use std::fmt;

use super::start::KnownStart;
use super::{Parts, Room, Scratch, TOKEN_LEN_MAX, TokenType, VerifyError, header};
use crate::codec::algorithm::Algorithm;
use crate::codec::base64url;
use crate::codec::claims::NUMERIC_DATE_MAX;
use crate::codec::json::{Object, RawValue};
use crate::codec::keyring::Keyring;
use crate::codec::keys::{KID_LEN_MAX, VerifyingKey};
use crate::time::Timestamp;

/// A token that one of the keys signed.
#[derive(Clone, Copy)]
pub(super) struct Opened<'s> {
    pub(super) kid: &'s [u8],
    pub(super) algorithm: Algorithm,
    pub(super) claims: Object<'s>,
}

/// Opens `token`, which must be of the type `typ`. What is returned borrows `scratch` alone.
#[inline(always)]
pub(super) fn open<'s>(
    keyring: &Keyring,
    token: &[u8],
    typ: TokenType,
    starts: &[KnownStart],
    scratch: &'s mut Scratch,
) -> Result<Opened<'s>, VerifyError> {
    let room = &mut *scratch.0;
    let known = keyring.find_start(token, typ).and_then(|key| Some((key, split(token, key, typ)?)));
    let (key, payload) = match known {
        Some((key, parts)) if token.len() <= TOKEN_LEN_MAX => {
            let known = starts.iter().find_map(|start| start.absorbed(key, parts.signing_input));
            let absorbed = known.or(key.absorbed_start(typ));
            let signature = base64url::decode_into(parts.signature, &mut room.payload);
            if !signature.is_ok_and(|raw| key.check(absorbed, parts.signing_input, raw)) {
                return Err(why_refused(&parts));
            }
            (key, parts.payload)
        }
        _ => spelt_otherwise(keyring, token, typ, room)?,
    };
    let text =
        base64url::decode_into(payload, &mut room.payload).map_err(|_| VerifyError::BadBase64)?;
    let claims = Object::read(text, &mut room.payload_members)?;
    Ok(Opened { kid: copied(key.kid(), &mut room.kid), algorithm: key.algorithm(), claims })
}

/// The parts of a token of `key`, where they must be. A dot in the payload would be no base64url.
#[inline(always)]
fn split<'t>(token: &'t [u8], key: &VerifyingKey, typ: TokenType) -> Option<Parts<'t>> {
    let last = token.len().checked_sub(1 + base64url::encoded_len(key.signature_len()))?;
    let parts = Parts::at(token, key.start(typ).len() - 1, last)?;
    (token.get(last) == Some(&b'.')).then_some(parts)
}

/// A header that equals no key's own, or a signature that cannot be one.
#[cold]
fn spelt_otherwise<'t, 'k>(
    keyring: &'k Keyring,
    token: &'t [u8],
    typ: TokenType,
    room: &mut Room,
) -> Result<(&'k VerifyingKey, &'t [u8]), VerifyError> {
    let parts = Parts::of(token)?;
    let key = header::find_key(keyring, parts.header, typ, room)?;
    let signature = base64url::decode_into(parts.signature, &mut room.payload)
        .map_err(|_| VerifyError::BadBase64)?;
    if signature.len() == key.signature_len() && key.check(None, parts.signing_input, signature) {
        Ok((key, parts.payload))
    } else {
        Err(VerifyError::BadSignature)
    }
}

#[cold]
fn why_refused(parts: &Parts<'_>) -> VerifyError {
    if parts.payload.contains(&b'.') {
        VerifyError::Malformed
    } else if base64url::is_canonical(parts.signature) {
        VerifyError::BadSignature
    } else {
        VerifyError::BadBase64
    }
}

/// `kid` in the room of the caller; every key's is at most [`KID_LEN_MAX`] bytes.
fn copied<'s>(kid: &str, room: &'s mut [u8; KID_LEN_MAX]) -> &'s [u8] {
    let Some(room) = room.get_mut(..kid.len()) else { return b"" };
    room.copy_from_slice(kid.as_bytes());
    room
}

/// Names alone: claims are personal.
impl fmt::Debug for Opened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("kid", &self.kid())
            .field("claims", &self.claims)
            .finish_non_exhaustive()
    }
}

impl<'s> Opened<'s> {
    pub(super) fn kid(&self) -> &'s str {
        std::str::from_utf8(self.kid).unwrap_or("")
    }

    /// A string that must be there.
    #[inline(always)]
    pub(super) fn text(&self, name: &'static str) -> Result<&'s str, VerifyError> {
        self.text_if_any(name)?.ok_or(VerifyError::MissingClaim(name))
    }

    /// A string.
    #[inline(always)]
    pub(super) fn text_if_any(&self, name: &'static str) -> Result<Option<&'s str>, VerifyError> {
        self.claims.str(name).map_err(|_| VerifyError::BadClaim(name))
    }

    /// A time that must be there.
    #[inline(always)]
    pub(super) fn date(&self, name: &'static str) -> Result<Timestamp, VerifyError> {
        self.date_if_any(name)?.ok_or(VerifyError::MissingClaim(name))
    }

    /// A time.
    #[inline(always)]
    pub(super) fn date_if_any(&self, name: &'static str) -> Result<Option<Timestamp>, VerifyError> {
        match self.claims.u64(name) {
            Ok(Some(secs)) if secs <= NUMERIC_DATE_MAX => Ok(Some(Timestamp(secs))),
            Ok(None) => Ok(None),
            _ => Err(VerifyError::BadClaim(name)),
        }
    }

    /// The audience, which must be there.
    #[inline(always)]
    pub(super) fn audience(&self) -> Result<Audience<'s>, VerifyError> {
        match self.claims.str("aud") {
            Ok(Some(one)) => Ok(Audience::One(one)),
            Ok(None) => Err(VerifyError::MissingClaim("aud")),
            Err(_) => self.audiences().map(Audience::Several),
        }
    }

    #[inline(never)]
    fn audiences(&self) -> Result<RawValue<'s>, VerifyError> {
        let value = self.claims.get("aud");
        let is_list = |value: &RawValue<'s>| value.strings_len().is_some_and(|len| len > 0);
        value.filter(is_list).ok_or(VerifyError::BadClaim("aud"))
    }

    /// An array of strings.
    pub(super) fn strings_if_any(
        &self,
        name: &'static str,
    ) -> Result<Option<RawValue<'s>>, VerifyError> {
        let value = self.claims.get(name);
        match value.is_none_or(|value| value.strings_len().is_some()) {
            true => Ok(value),
            false => Err(VerifyError::BadClaim(name)),
        }
    }

    /// A string that was read already.
    pub(super) fn known_text_if_any(&self, name: &'static str) -> Option<&'s str> {
        self.text_if_any(name).ok().flatten()
    }

    /// A string that was read already, `""` if there is none.
    pub(super) fn known_text(&self, name: &'static str) -> &'s str {
        self.known_text_if_any(name).unwrap_or("")
    }

    /// A time that was read already.
    pub(super) fn known_date(&self, name: &'static str) -> Option<Timestamp> {
        self.date_if_any(name).ok().flatten()
    }
}

/// RFC 7519 section 4.1.3: a string, or an array of strings.
#[derive(Clone, Copy)]
pub(super) enum Audience<'s> {
    One(&'s str),
    Several(RawValue<'s>),
}

impl<'s> Audience<'s> {
    /// The audiences, one after the other.
    pub(super) fn each(self) -> impl Iterator<Item = Cow<'s, str>> + use<'s> {
        let (one, several) = match self {
            Audience::One(audience) => (Some(Cow::Borrowed(audience)), None),
            Audience::Several(array) => (None, array.as_strings()),
        };
        one.into_iter().chain(several.into_iter().flatten())
    }

    pub(super) fn is_several(&self) -> bool {
        match self {
            Audience::One(_) => false,
            Audience::Several(array) => array.strings_len().is_some_and(|len| len > 1),
        }
    }

    #[inline]
    pub(super) fn has(&self, wanted: &str) -> bool {
        match self {
            Audience::One(audience) => *audience == wanted,
            Audience::Several(array) => array.strings_have(wanted),
        }
    }
}
