//! Verifying ID tokens (OpenID Connect Core 1.0 section 3.1.3.7).

use std::borrow::Cow;

use super::open::{Audience, Opened, open};
use super::verify::judge_times;
use super::{Scratch, TokenType, VerifyError};
use crate::codec::algorithm::Algorithm;
use crate::codec::claims::{HalfHash, is_id_claim};
use crate::codec::json::RawValue;
use crate::codec::keyring::Keyring;
use crate::secret::same_bytes;
use crate::time::Timestamp;

/// The policy of one client for ID tokens. An access token is never accepted for one, nor an ID
/// token for an access token: their types exclude each other.
#[derive(Clone, Debug)]
pub struct IdVerifier {
    issuer: Box<str>,
    client_id: Box<str>,
    leeway_secs: u64,
}

/// What a client knows of the login that an ID token is about.
#[derive(Clone, Copy, Default)]
#[non_exhaustive]
pub struct IdExpected<'a> {
    /// The `nonce` of the authentication request. Without one, an ID token must have none either.
    pub nonce: Option<&'a str>,
    /// The `max_age` of the authentication request, in seconds: `auth_time` is required then.
    pub max_age_secs: Option<u64>,
    /// The access token that came from the authorization endpoint with the ID token: `at_hash` is
    /// required then (section 3.2.2.9). One from the token endpoint can be asked about with
    /// [`VerifiedId::fits_access_token`].
    pub access_token: Option<&'a str>,
    /// The code that came with the ID token: `c_hash` is required then (section 3.3.2.10).
    pub code: Option<&'a str>,
}

impl<'a> IdExpected<'a> {
    /// A login that was requested with this `nonce`.
    #[must_use]
    pub fn with_nonce(nonce: &'a str) -> IdExpected<'a> {
        IdExpected { nonce: Some(nonce), ..IdExpected::default() }
    }

    /// A login that was requested without a `nonce`.
    #[must_use]
    pub fn without_nonce() -> IdExpected<'a> {
        IdExpected::default()
    }

    /// Sets [`IdExpected::max_age_secs`].
    #[must_use]
    pub fn max_age_secs(self, secs: u64) -> IdExpected<'a> {
        IdExpected { max_age_secs: Some(secs), ..self }
    }

    /// Sets [`IdExpected::access_token`].
    #[must_use]
    pub fn access_token(self, token: &'a str) -> IdExpected<'a> {
        IdExpected { access_token: Some(token), ..self }
    }

    /// Sets [`IdExpected::code`].
    #[must_use]
    pub fn code(self, code: &'a str) -> IdExpected<'a> {
        IdExpected { code: Some(code), ..self }
    }
}

impl IdVerifier {
    /// Accepts ID tokens of exactly `issuer` that were issued to `client_id`, and judges times with
    /// `leeway_secs` in the token's favour.
    #[must_use]
    pub fn new(issuer: &str, client_id: &str, leeway_secs: u64) -> IdVerifier {
        IdVerifier { issuer: issuer.into(), client_id: client_id.into(), leeway_secs }
    }

    /// Verifies `token` with the keys of `keyring`, retired ones included, at the time `now`.
    ///
    /// `iss`, `sub`, `aud`, `exp` and `iat` are required; with several audiences `azp` is, too. A
    /// claim that is present and malformed is an error even where it is optional. Times are whole
    /// seconds, as for access tokens. What is returned borrows `scratch` alone.
    ///
    /// # Errors
    /// [`VerifyError`], with the first thing that is wrong.
    pub fn verify<'s>(
        &self,
        keyring: &Keyring,
        token: &[u8],
        expected: &IdExpected<'_>,
        now: Timestamp,
        scratch: &'s mut Scratch,
    ) -> Result<VerifiedId<'s>, VerifyError> {
        let opened = open(keyring, token, TokenType::Id, &[], scratch)?;
        let issuer = opened.text("iss")?;
        opened.text("sub")?;
        let audience = opened.audience()?;
        let party = opened.text_if_any("azp")?;
        let issued_at = opened.date("iat")?;
        let not_before = opened.date_if_any("nbf")?;
        let expires_at = opened.date("exp")?;
        let auth_time = opened.date_if_any("auth_time")?;
        let nonce = opened.text_if_any("nonce")?;
        opened.text_if_any("acr")?;
        opened.strings_if_any("amr")?;
        opened.text_if_any("at_hash")?;
        opened.text_if_any("c_hash")?;
        if issuer != &*self.issuer {
            return Err(VerifyError::WrongIssuer);
        }
        if !audience.has(&self.client_id) {
            return Err(VerifyError::WrongAudience);
        }
        if audience.is_several() && party.is_none() {
            return Err(VerifyError::MissingClaim("azp"));
        }
        if party.is_some_and(|party| party != &*self.client_id) {
            return Err(VerifyError::WrongParty);
        }
        judge_times(now, self.leeway_secs, issued_at, not_before, expires_at)?;
        let verified = VerifiedId(opened);
        verified.judge_login(expected, nonce, auth_time, now.minus(self.leeway_secs))?;
        Ok(verified)
    }
}

/// The claims of an ID token whose signature, issuer, audience, type, times and login were checked.
#[derive(Clone, Copy, Debug)]
pub struct VerifiedId<'s>(Opened<'s>);

impl<'s> VerifiedId<'s> {
    /// The claims of an ID token that this issuer gave to whomever and whenever: a hint of who was
    /// logged in (`id_token_hint`), which may have expired, and no proof that somebody is.
    pub(crate) fn of_hint(
        issuer: &str,
        keyring: &Keyring,
        token: &[u8],
        scratch: &'s mut Scratch,
    ) -> Result<VerifiedId<'s>, VerifyError> {
        let opened = open(keyring, token, TokenType::Id, &[], scratch)?;
        let found = opened.text("iss")?;
        opened.text("sub")?;
        opened.audience()?;
        opened.text_if_any("azp")?;
        match found == issuer {
            true => Ok(VerifiedId(opened)),
            false => Err(VerifyError::WrongIssuer),
        }
    }

    /// The key that signed it.
    #[must_use]
    pub fn kid(&self) -> &'s str {
        self.0.kid()
    }

    /// `iss`.
    #[must_use]
    pub fn issuer(&self) -> &'s str {
        self.0.known_text("iss")
    }

    /// `sub`: who has logged in. Unique within the issuer alone.
    #[must_use]
    pub fn subject(&self) -> &'s str {
        self.0.known_text("sub")
    }

    /// `aud`, one after the other. Only an element of an array that has an escape is allocated.
    pub fn audience(&self) -> impl Iterator<Item = Cow<'s, str>> + use<'s> {
        self.0.audience().into_iter().flat_map(Audience::each)
    }

    /// `azp`.
    #[must_use]
    pub fn authorized_party(&self) -> Option<&'s str> {
        self.0.known_text_if_any("azp")
    }

    /// `iat`.
    #[must_use]
    pub fn issued_at(&self) -> Timestamp {
        self.0.known_date("iat").unwrap_or_default()
    }

    /// `exp`.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.0.known_date("exp").unwrap_or_default()
    }

    /// `auth_time`.
    #[must_use]
    pub fn auth_time(&self) -> Option<Timestamp> {
        self.0.known_date("auth_time")
    }

    /// `nonce`.
    #[must_use]
    pub fn nonce(&self) -> Option<&'s str> {
        self.0.known_text_if_any("nonce")
    }

    /// `acr`.
    #[must_use]
    pub fn acr(&self) -> Option<&'s str> {
        self.0.known_text_if_any("acr")
    }

    /// `amr`, one after the other. Only an element that has an escape is allocated.
    pub fn amr(&self) -> impl Iterator<Item = Cow<'s, str>> + use<'s> {
        let amr = self.0.strings_if_any("amr").ok().flatten();
        amr.and_then(|value| value.as_strings()).into_iter().flatten()
    }

    /// Whether `at_hash` is that of `access_token`; `None` when the ID token has none.
    #[must_use]
    pub fn fits_access_token(&self, access_token: &str) -> Option<bool> {
        self.fits("at_hash", access_token)
    }

    /// Whether `c_hash` is that of `code`; `None` when the ID token has none.
    #[must_use]
    pub fn fits_code(&self, code: &str) -> Option<bool> {
        self.fits("c_hash", code)
    }

    /// Any claim that has no method of its own.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<RawValue<'s>> {
        match name {
            "at_hash" | "c_hash" => self.0.claims.get(name),
            _ if is_id_claim(name) => None,
            _ => self.0.claims.get(name),
        }
    }

    fn fits(&self, name: &'static str, text: &str) -> Option<bool> {
        let claimed = self.0.known_text_if_any(name)?;
        let algorithm: Algorithm = self.0.algorithm;
        let wanted = HalfHash::of(algorithm, text);
        Some(same_bytes(claimed.as_bytes(), wanted.as_str().as_bytes()))
    }

    fn judge_login(
        &self,
        expected: &IdExpected<'_>,
        nonce: Option<&str>,
        auth_time: Option<Timestamp>,
        earliest_now: Timestamp,
    ) -> Result<(), VerifyError> {
        let same_nonce = match (nonce, expected.nonce) {
            (Some(nonce), Some(wanted)) => same_bytes(nonce.as_bytes(), wanted.as_bytes()),
            (None, Some(_)) => return Err(VerifyError::MissingClaim("nonce")),
            // Nobody asked for it: the token is about another login.
            (nonce, None) => nonce.is_none(),
        };
        if !same_nonce {
            return Err(VerifyError::WrongNonce);
        }
        if let Some(max_age_secs) = expected.max_age_secs {
            let auth_time = auth_time.ok_or(VerifyError::MissingClaim("auth_time"))?;
            if earliest_now > auth_time.plus(max_age_secs) {
                return Err(VerifyError::TooLongAgo);
            }
        }
        for (name, beside) in [("at_hash", expected.access_token), ("c_hash", expected.code)] {
            if let Some(beside) = beside
                && !self.fits(name, beside).ok_or(VerifyError::MissingClaim(name))?
            {
                return Err(VerifyError::WrongHash(name));
            }
        }
        Ok(())
    }
}
