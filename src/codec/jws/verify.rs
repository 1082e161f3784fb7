//! Verifying: bound the length, find the key, check the signature over the raw bytes, and only then
//! read what is claimed.

use std::borrow::Cow;

use super::{Parts, Scratch, VerifyError, header};
use crate::codec::base64url;
use crate::codec::claims::{NUMERIC_DATE_MAX, is_standard};
use crate::codec::json::{Object, RawValue};
use crate::codec::keyring::Keyring;
use crate::codec::keys::KID_LEN_MAX;
use crate::time::Timestamp;

/// The policy that a token must meet: issuer, audience, and how far clocks may differ. The type is
/// always that of an access token (`at+jwt`, RFC 9068 section 4).
#[derive(Clone, Debug)]
pub struct Verifier {
    issuer: Box<str>,
    audiences: Box<[Box<str>]>,
    any_audience: bool,
    leeway_secs: u64,
}

impl Verifier {
    /// Accepts tokens of exactly `issuer`, for at least one of `audiences` (for none, if there are
    /// none), and judges times with `leeway_secs` in the token's favour.
    #[must_use]
    pub fn new(issuer: &str, audiences: &[&str], leeway_secs: u64) -> Verifier {
        let audiences = audiences.iter().map(|audience| Box::from(*audience)).collect();
        Verifier { issuer: issuer.into(), audiences, any_audience: false, leeway_secs }
    }

    /// Accepts tokens of exactly `issuer`, whatever their audience: for the issuer itself, which
    /// introspects and revokes tokens that are meant for others. A resource server names its own
    /// audience.
    #[must_use]
    pub fn for_any_audience(issuer: &str, leeway_secs: u64) -> Verifier {
        Verifier { any_audience: true, ..Verifier::new(issuer, &[], leeway_secs) }
    }

    /// Verifies `token` with the keys of `keyring`, retired ones included, at the time `now`.
    ///
    /// Times are whole seconds up to [`NUMERIC_DATE_MAX`]: stricter than RFC 7519, which allows
    /// fractions. `exp`, `iat`, `sub`, `client_id` and `jti` are required (RFC 9068 section 2.2);
    /// a claim that is present and malformed is an error even where it is optional. What is returned
    /// borrows `scratch` alone.
    ///
    /// # Errors
    /// [`VerifyError`], with the first thing that is wrong.
    pub fn verify<'s>(
        &self,
        keyring: &Keyring,
        token: &[u8],
        now: Timestamp,
        scratch: &'s mut Scratch,
    ) -> Result<Verified<'s>, VerifyError> {
        let parts = Parts::of(token)?;
        let room = &mut *scratch.0;
        let key = match keyring.find_header(parts.header) {
            Some(key) => key,
            None => header::find_key(keyring, parts.header, room)?,
        };
        if parts.signature.len() != base64url::encoded_len(key.signature_len()) {
            return Err(wrong_length(parts.signature));
        }
        let signature = base64url::decode_into(parts.signature, &mut room.payload)
            .map_err(|_| VerifyError::BadBase64)?;
        if !key.check(parts.signing_input, signature) {
            return Err(VerifyError::BadSignature);
        }
        let text = base64url::decode_into(parts.payload, &mut room.payload)
            .map_err(|_| VerifyError::BadBase64)?;
        let claims = Object::read(text, &mut room.payload_members)?;
        let verified = Verified::of(copied(key.kid(), &mut room.kid), claims)?;
        self.judge(&verified, now)?;
        Ok(verified)
    }

    fn judge(&self, token: &Verified<'_>, now: Timestamp) -> Result<(), VerifyError> {
        // RFC 9068 section 4: "The issuer identifier [...] MUST exactly match the value of the
        // "iss" claim."
        if token.issuer != &*self.issuer {
            return Err(VerifyError::WrongIssuer);
        }
        let meant = self.audiences.iter().any(|audience| token.audience.has(audience));
        if !meant && !self.any_audience {
            return Err(VerifyError::WrongAudience);
        }
        // RFC 7519 section 4.1.4: "on or after which the JWT MUST NOT be accepted".
        if now >= token.expires_at.plus(self.leeway_secs) {
            return Err(VerifyError::Expired);
        }
        let latest = now.plus(self.leeway_secs);
        if token.issued_at > latest || token.not_before.is_some_and(|start| start > latest) {
            return Err(VerifyError::NotYetValid);
        }
        Ok(())
    }
}

/// The claims of a token whose signature, issuer, audience, type and times were checked.
#[derive(Clone, Copy, Debug)]
pub struct Verified<'s> {
    kid: &'s str,
    issuer: &'s str,
    subject: &'s str,
    audience: Audience<'s>,
    client_id: &'s str,
    scope: &'s str,
    issued_at: Timestamp,
    not_before: Option<Timestamp>,
    expires_at: Timestamp,
    jti: &'s str,
    claims: Object<'s>,
}

impl<'s> Verified<'s> {
    /// The key that signed it.
    #[must_use]
    pub fn kid(&self) -> &'s str {
        self.kid
    }

    /// `iss`.
    #[must_use]
    pub fn issuer(&self) -> &'s str {
        self.issuer
    }

    /// `sub`.
    #[must_use]
    pub fn subject(&self) -> &'s str {
        self.subject
    }

    /// `aud`, one after the other. Only an element of an array that has an escape is allocated.
    pub fn audience(&self) -> impl Iterator<Item = Cow<'s, str>> + use<'s> {
        let (one, several) = match self.audience {
            Audience::One(audience) => (Some(Cow::Borrowed(audience)), None),
            Audience::Several(array) => (None, array.as_strings()),
        };
        one.into_iter().chain(several.into_iter().flatten())
    }

    /// `client_id`.
    #[must_use]
    pub fn client_id(&self) -> &'s str {
        self.client_id
    }

    /// `scope`, `""` when the token has none.
    #[must_use]
    pub fn scope(&self) -> &'s str {
        self.scope
    }

    /// `iat`.
    #[must_use]
    pub fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    /// `nbf`.
    #[must_use]
    pub fn not_before(&self) -> Option<Timestamp> {
        self.not_before
    }

    /// `exp`.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// `jti`.
    #[must_use]
    pub fn jti(&self) -> &'s str {
        self.jti
    }

    /// Any claim that has no method of its own.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<RawValue<'s>> {
        if is_standard(name) { None } else { self.claims.get(name) }
    }

    /// Types first, presence second: a malformed claim is never taken for an absent one.
    fn of(kid: &'s str, claims: Object<'s>) -> Result<Verified<'s>, VerifyError> {
        let mut found = Found::default();
        for (name, value) in claims.members() {
            match name {
                "iss" => found.issuer = Some(text(value, "iss")?),
                "sub" => found.subject = Some(text(value, "sub")?),
                "aud" => found.audience = Some(Audience::of(value)?),
                "client_id" => found.client_id = Some(text(value, "client_id")?),
                "scope" => found.scope = Some(text(value, "scope")?),
                "iat" => found.issued_at = Some(date(value, "iat")?),
                "nbf" => found.not_before = Some(date(value, "nbf")?),
                "exp" => found.expires_at = Some(date(value, "exp")?),
                "jti" => found.jti = Some(text(value, "jti")?),
                _ => {}
            }
        }
        let missing = VerifyError::MissingClaim;
        Ok(Verified {
            kid,
            issuer: found.issuer.ok_or(missing("iss"))?,
            subject: found.subject.ok_or(missing("sub"))?,
            audience: found.audience.ok_or(missing("aud"))?,
            client_id: found.client_id.ok_or(missing("client_id"))?,
            scope: found.scope.unwrap_or(""),
            issued_at: found.issued_at.ok_or(missing("iat"))?,
            not_before: found.not_before,
            expires_at: found.expires_at.ok_or(missing("exp"))?,
            jti: found.jti.ok_or(missing("jti"))?,
            claims,
        })
    }
}

/// The standard claims that a token has.
#[derive(Default)]
struct Found<'s> {
    issuer: Option<&'s str>,
    subject: Option<&'s str>,
    audience: Option<Audience<'s>>,
    client_id: Option<&'s str>,
    scope: Option<&'s str>,
    issued_at: Option<Timestamp>,
    not_before: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    jti: Option<&'s str>,
}

/// RFC 7519 section 4.1.3: a string, or an array of strings.
#[derive(Clone, Copy, Debug)]
enum Audience<'s> {
    One(&'s str),
    Several(RawValue<'s>),
}

impl<'s> Audience<'s> {
    fn of(value: RawValue<'s>) -> Result<Audience<'s>, VerifyError> {
        if let Some(audience) = value.as_str() {
            return Ok(Audience::One(audience));
        }
        match value.as_strings().map(|mut strings| strings.next().is_some()) {
            Some(true) => Ok(Audience::Several(value)),
            _ => Err(VerifyError::BadClaim("aud")),
        }
    }

    fn has(&self, wanted: &str) -> bool {
        match self {
            Audience::One(audience) => *audience == wanted,
            Audience::Several(array) => array.strings_have(wanted),
        }
    }
}

fn text<'s>(value: RawValue<'s>, name: &'static str) -> Result<&'s str, VerifyError> {
    value.as_str().ok_or(VerifyError::BadClaim(name))
}

fn date(value: RawValue<'_>, name: &'static str) -> Result<Timestamp, VerifyError> {
    let secs = value.as_u64().filter(|secs| *secs <= NUMERIC_DATE_MAX);
    secs.map(Timestamp).ok_or(VerifyError::BadClaim(name))
}

/// `kid` in the room of the caller; every key's is at most [`KID_LEN_MAX`] bytes.
fn copied<'s>(kid: &str, room: &'s mut [u8; KID_LEN_MAX]) -> &'s str {
    let Some(room) = room.get_mut(..kid.len()) else { return "" };
    room.copy_from_slice(kid.as_bytes());
    std::str::from_utf8(room).unwrap_or("")
}

/// A cut or padded signature, or a text that is none at all.
#[cold]
fn wrong_length(signature: &[u8]) -> VerifyError {
    if base64url::is_canonical(signature) {
        VerifyError::BadSignature
    } else {
        VerifyError::BadBase64
    }
}
