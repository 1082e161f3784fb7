//! Verifying access tokens: what a token that a key signed must claim (RFC 9068 section 4).

use std::borrow::Cow;

use super::open::{Audience, Opened, open};
use super::start::KnownStart;
use super::{Scratch, TokenType, VerifyError};
use crate::codec::claims::{SUBJECT_PREFIX, is_access_claim, is_prefixed};
use crate::codec::json::RawValue;
use crate::codec::keyring::Keyring;
use crate::time::Timestamp;

/// The policy that a token must meet: issuer, audience, and how far clocks may differ. The type is
/// always that of an access token (`at+jwt`, RFC 9068 section 4), or that of Salesforce's, byte for byte
/// as its key writes it.
#[derive(Clone, Debug)]
pub struct Verifier {
    issuer: Box<str>,
    audiences: Box<[Box<str>]>,
    any_audience: bool,
    leeway_secs: u64,
    pub(super) starts: Box<[KnownStart]>,
}

impl Verifier {
    /// Accepts tokens of exactly `issuer`, for at least one of `audiences` (for none, if there are
    /// none), and judges times with `leeway_secs` in the token's favour.
    #[must_use]
    pub fn new(issuer: &str, audiences: &[&str], leeway_secs: u64) -> Verifier {
        let audiences = audiences.iter().map(|audience| Box::from(*audience)).collect();
        Verifier {
            issuer: issuer.into(),
            audiences,
            any_audience: false,
            leeway_secs,
            starts: Box::default(),
        }
    }

    /// The same verifier, sooner with tokens of the HMAC keys that are in `keyring` now: what those of
    /// its issuer and first audience start with, as this library writes them, is hashed once. It
    /// accepts no other tokens for it, and a key that leaves the keyring verifies nothing more.
    #[must_use]
    pub fn with_starts_of(self, keyring: &Keyring) -> Verifier {
        let audience = self.audiences.first().map(|audience| &**audience);
        let starts = keyring.keys().filter_map(|key| KnownStart::of(key, &self.issuer, audience));
        Verifier { starts: starts.collect(), ..self }
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
    /// Times are whole seconds up to
    /// [`NUMERIC_DATE_MAX`](crate::codec::claims::NUMERIC_DATE_MAX): stricter than RFC 7519, which allows
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
        let typ = type_of(keyring, token);
        let opened = open(keyring, token, typ, &self.starts, scratch)?;
        let issuer = opened.text("iss")?;
        let subject = opened.text("sub")?;
        if typ == TokenType::Salesforce && !is_prefixed(subject) {
            return Err(VerifyError::BadClaim("sub"));
        }
        let audience = opened.audience()?;
        opened.text("client_id")?;
        opened.text_if_any(scope_name(typ))?;
        let issued_at = opened.date("iat")?;
        let not_before = opened.date_if_any("nbf")?;
        let expires_at = opened.date("exp")?;
        opened.text("jti")?;
        // RFC 9068 section 4: "The issuer identifier [...] MUST exactly match the value of the
        // "iss" claim."
        if issuer != &*self.issuer {
            return Err(VerifyError::WrongIssuer);
        }
        if !self.audiences.iter().any(|own| audience.has(own)) && !self.any_audience {
            return Err(VerifyError::WrongAudience);
        }
        judge_times(now, self.leeway_secs, issued_at, not_before, expires_at)?;
        Ok(Verified { opened, typ })
    }
}

/// Of which of the two types of access tokens one is, by the start that a key gave it; nothing is
/// believed for that.
#[inline]
fn type_of(keyring: &Keyring, token: &[u8]) -> TokenType {
    // All names of algorithms have five letters, so `typ` stands in one place: a look at it costs less
    // than to compare starts.
    let may_be = token.get(TYP_AT..TYP_AT + TYP_JWT.len()) == Some(TYP_JWT);
    match may_be && keyring.find_start(token, TokenType::Salesforce).is_some() {
        true => TokenType::Salesforce,
        false => TokenType::Access,
    }
}

/// Where the first letters of `typ` stand in a token that a key of this library signed.
const TYP_AT: usize = 28;
/// `"JW` in base64url.
const TYP_JWT: &[u8] = b"IkpX";

fn scope_name(typ: TokenType) -> &'static str {
    if typ == TokenType::Salesforce { "scp" } else { "scope" }
}

/// Whether a token may be used at the time `now`.
pub(super) fn judge_times(
    now: Timestamp,
    leeway_secs: u64,
    issued_at: Timestamp,
    not_before: Option<Timestamp>,
    expires_at: Timestamp,
) -> Result<(), VerifyError> {
    // RFC 7519 section 4.1.4: "on or after which the JWT MUST NOT be accepted".
    if now >= expires_at.plus(leeway_secs) {
        return Err(VerifyError::Expired);
    }
    let latest = now.plus(leeway_secs);
    if issued_at > latest || not_before.is_some_and(|start| start > latest) {
        return Err(VerifyError::NotYetValid);
    }
    Ok(())
}

/// The claims of an access token whose signature, issuer, audience, type and times were checked.
#[derive(Clone, Copy, Debug)]
pub struct Verified<'s> {
    opened: Opened<'s>,
    typ: TokenType,
}

impl<'s> Verified<'s> {
    /// The key that signed it.
    #[must_use]
    pub fn kid(&self) -> &'s str {
        self.opened.kid()
    }

    /// `iss`.
    #[must_use]
    pub fn issuer(&self) -> &'s str {
        self.opened.known_text("iss")
    }

    /// `sub`, without the prefix that Salesforce's tokens have there.
    #[must_use]
    pub fn subject(&self) -> &'s str {
        let subject = self.opened.known_text("sub");
        match self.typ {
            TokenType::Salesforce => subject.strip_prefix(SUBJECT_PREFIX).unwrap_or(subject),
            _ => subject,
        }
    }

    /// `aud`, one after the other. Only an element of an array that has an escape is allocated.
    pub fn audience(&self) -> impl Iterator<Item = Cow<'s, str>> + use<'s> {
        self.opened.audience().into_iter().flat_map(Audience::each)
    }

    /// `client_id`.
    #[must_use]
    pub fn client_id(&self) -> &'s str {
        self.opened.known_text("client_id")
    }

    /// `scope`, `scp` of Salesforce's tokens, `""` when the token has none.
    #[must_use]
    pub fn scope(&self) -> &'s str {
        self.opened.known_text(scope_name(self.typ))
    }

    /// `iat`.
    #[must_use]
    pub fn issued_at(&self) -> Timestamp {
        self.opened.known_date("iat").unwrap_or_default()
    }

    /// `nbf`.
    #[must_use]
    pub fn not_before(&self) -> Option<Timestamp> {
        self.opened.known_date("nbf")
    }

    /// `exp`.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.opened.known_date("exp").unwrap_or_default()
    }

    /// `jti`.
    #[must_use]
    pub fn jti(&self) -> &'s str {
        self.opened.known_text("jti")
    }

    /// Any claim that has no method of its own.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<RawValue<'s>> {
        if is_access_claim(name) { None } else { self.opened.claims.get(name) }
    }
}
