//! Headers that are not, byte for byte, the one that a key writes: either spelt otherwise by who
//! has the key, or wrong, and then this says how.

use super::{HEADER_LEN_MAX, Room, TokenType, VerifyError};
use crate::codec::algorithm::Algorithm;
use crate::codec::base64url;
use crate::codec::json::{Members, Object};
use crate::codec::keyring::Keyring;
use crate::codec::keys::{KID_LEN_MAX, VerifyingKey};

/// The key for a header segment that equals no key's own.
#[cold]
pub(super) fn find_key<'k>(
    keyring: &'k Keyring,
    segment: &[u8],
    token: TokenType,
    room: &mut Room,
) -> Result<&'k VerifyingKey, VerifyError> {
    let header = read(segment, &mut room.header, &mut room.header_members)?;
    let text = |name| header.get(name).map(|value| value.as_str().ok_or(VerifyError::BadHeader));
    // RFC 7515 section 4.1.11: "If any of the listed extension Header Parameters are not understood
    // and supported by the recipient, then the JWS is invalid."
    if let Some(crit) = header.get("crit") {
        let listed = crit.as_strings().is_some_and(|mut names| names.next().is_some());
        return Err(if listed { VerifyError::CritUnsupported } else { VerifyError::BadHeader });
    }
    let is_salesforce = token == TokenType::Salesforce;
    let more = |name| is_salesforce && matches!(name, "tty" | "ver" | "tnk");
    if header.members().any(|(name, _)| !matches!(name, "alg" | "typ" | "kid") && !more(name)) {
        return Err(VerifyError::HeaderNotAllowed);
    }
    if is_salesforce && text("tty").transpose()? != Some("sfdc-core-token") {
        return Err(VerifyError::WrongType);
    }
    let name = text("alg").ok_or(VerifyError::BadHeader)??;
    let algorithm = Algorithm::from_name(name).ok_or(VerifyError::AlgNotAllowed)?;
    if !has_type(text("typ").transpose()?, token) {
        return Err(VerifyError::WrongType);
    }
    let kid = text("kid").ok_or(VerifyError::UnknownKey)??;
    if kid.len() > KID_LEN_MAX {
        return Err(VerifyError::BadHeader);
    }
    let key = keyring.find(kid).ok_or(VerifyError::UnknownKey)?;
    if key.algorithm() == algorithm { Ok(key) } else { Err(VerifyError::AlgKeyMismatch) }
}

/// RFC 9068 section 4: "The resource server MUST verify that the "typ" header value is "at+jwt" or
/// "application/at+jwt"". OpenID Connect Core says nothing of `typ`; an ID token has the one of any
/// JWT (RFC 7519 section 5.1) or none, so that no token is of both types.
fn has_type(typ: Option<&str>, token: TokenType) -> bool {
    let Some(typ) = typ else { return token == TokenType::Id };
    // RFC 7515 section 4.1.9: the "application/" may be left out where no other slash is.
    let short = match typ.split_at_checked("application/".len()) {
        Some((prefix, short)) if prefix.eq_ignore_ascii_case("application/") => short,
        _ => typ,
    };
    short.eq_ignore_ascii_case(token.typ())
}

/// The header object of an encoded segment.
pub(super) fn read<'s>(
    segment: &[u8],
    room: &'s mut [u8; HEADER_LEN_MAX],
    members: &'s mut Members,
) -> Result<Object<'s>, VerifyError> {
    if segment.len() > base64url::encoded_len(HEADER_LEN_MAX) {
        return Err(VerifyError::BadHeader);
    }
    let text = base64url::decode_into(segment, room).map_err(|_| VerifyError::BadBase64)?;
    Object::read(text, members).map_err(|_| VerifyError::BadHeader)
}
