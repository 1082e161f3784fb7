//! Assertions of others: JWTs that a client or another issuer signed to prove something to this
//! authority (RFC 7521, RFC 7523). They have a reader of their own, apart from that of access tokens:
//! neither takes the other's tokens.
//!
//! What a reader believes is bounded, typed and three-valued: a claim is absent, valid, or an error.
//! The key decides the algorithm, and no header member chooses a key but `kid`.
//!
//! # Examples
//! ```
//! use mintage::codec::assertion::{AssertionError, AssertionVerifier};
//! use mintage::time::Timestamp;
//!
//! let verifier = AssertionVerifier::new(&["https://login.example.com"], 30, 3_600);
//! // Whose keys? Nobody vouches for that yet.
//! let text = "eyJhbGciOiJFZERTQSJ9.eyJpc3MiOiJyZXBvcnRzIn0.AAAA";
//! let assertion = verifier.read(text)?;
//! assert_eq!(assertion.said_issuer(), Some("reports"));
//! // It expires never: no assertion.
//! let refused = verifier.verify(assertion, &[], Timestamp(1_800_000_000));
//! assert_eq!(refused.err(), Some(AssertionError::UnknownKey));
//! # Ok::<(), AssertionError>(())
//! ```

use std::fmt;

use super::algorithm::Algorithm;
use super::base64url;
use super::claims::NUMERIC_DATE_MAX;
use super::json::{JsonError, Members, Object, RawValue};
use super::keys::{KID_LEN_MAX, VerifyingKey};
use crate::time::Timestamp;

/// The longest assertion, in bytes.
pub const ASSERTION_LEN_MAX: usize = 8_192;

/// The longest token of another issuer, in bytes.
pub const TOKEN_LEN_MAX: usize = 10_000;

/// The longest decoded header, in bytes: some clients send their certificate along.
const HEADER_LEN_MAX: usize = 4_096;
/// The most keys that are tried for an assertion that names none.
const TRIES_MAX: usize = 4;
/// A time from here on is one in milliseconds, where such are taken: in seconds it is the year 5138.
const MILLIS_MIN: u64 = 100_000_000_000;
/// The longest `iss`, `sub`, `jti` or single `aud`, in bytes.
const CLAIM_LEN_MAX: usize = 2_048;

/// Why an assertion was refused. For logs: whoever sent it is told a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AssertionError {
    /// It is longer than [`ASSERTION_LEN_MAX`].
    TooLong,
    /// It has not three parts.
    Malformed,
    /// A part is no canonical base64url.
    BadBase64,
    /// The header is no JSON object, too long, or a member of it is missing or malformed.
    BadHeader,
    /// `alg` is `none` or another name that no key here can have.
    AlgNotAllowed,
    /// The header has a member that would choose the key or change what is signed.
    HeaderNotAllowed,
    /// The header has critical extensions (RFC 7515 section 4.1.11).
    CritUnsupported,
    /// `typ` is that of another kind of token (RFC 8725 section 3.11).
    WrongType,
    /// The claims are no JSON object within the limits.
    BadJson(JsonError),
    /// This claim is present and malformed.
    BadClaim(&'static str),
    /// This claim is required (RFC 7523 section 3).
    MissingClaim(&'static str),
    /// No key has that `kid`, or none is for that algorithm.
    UnknownKey,
    /// The signature is no key's.
    BadSignature,
    /// It is for another audience.
    WrongAudience,
    /// It has expired.
    Expired,
    /// It expires too far in the future.
    ExpiresTooLate,
    /// `nbf` or `iat` is in the future.
    NotYetValid,
}

impl fmt::Display for AssertionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AssertionError::TooLong => "the assertion is too long",
            AssertionError::Malformed => "the assertion has not three parts",
            AssertionError::BadBase64 => "a part of the assertion is no base64url",
            AssertionError::BadHeader => "the header of the assertion is malformed",
            AssertionError::AlgNotAllowed => "the algorithm of the assertion is not allowed",
            AssertionError::HeaderNotAllowed => {
                "the header of the assertion has a forbidden member"
            }
            AssertionError::CritUnsupported => "the assertion has critical extensions",
            AssertionError::WrongType => "the token is no assertion",
            AssertionError::BadJson(error) => {
                return write!(f, "the claims of the assertion: {error}");
            }
            AssertionError::BadClaim(name) => return write!(f, "the claim {name} is malformed"),
            AssertionError::MissingClaim(name) => return write!(f, "the claim {name} is missing"),
            AssertionError::UnknownKey => "no key fits the assertion",
            AssertionError::BadSignature => "the signature of the assertion is wrong",
            AssertionError::WrongAudience => "the assertion is for another audience",
            AssertionError::Expired => "the assertion has expired",
            AssertionError::ExpiresTooLate => "the assertion expires too far in the future",
            AssertionError::NotYetValid => "the assertion is not yet valid",
        })
    }
}

impl std::error::Error for AssertionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            AssertionError::BadJson(error) => Some(error),
            _ => None,
        }
    }
}

/// What an assertion must meet, whoever signed it.
#[derive(Clone, Debug)]
pub struct AssertionVerifier {
    audiences: Box<[Box<str>]>,
    leeway_secs: u64,
    lifetime_secs_max: u64,
    lenient_dates: bool,
    len_max: usize,
    types: Vec<&'static str>,
    keeps_claims: bool,
}

/// An assertion that was read and that nobody vouches for yet.
pub struct Assertion<'t> {
    signing_input: &'t str,
    signature: Vec<u8>,
    algorithm: Algorithm,
    kid: Option<String>,
    claims: Claims,
}

/// The claims of an assertion whose signature, audience and times were checked.
#[derive(Clone, Debug)]
pub struct VerifiedAssertion {
    kid: String,
    algorithm: Algorithm,
    claims: Claims,
}

#[derive(Clone, Debug, Default)]
struct Claims {
    issuer: Option<String>,
    subject: Option<String>,
    /// What Salesforce's clients once said in place of `sub`.
    prn: Option<String>,
    audience: Vec<String>,
    expires_at: Option<Timestamp>,
    not_before: Option<Timestamp>,
    issued_at: Option<Timestamp>,
    jti: Option<String>,
    /// All of them.
    json: Option<String>,
}

impl AssertionVerifier {
    /// Accepts assertions for at least one of `audiences` that expire at most `lifetime_secs_max`
    /// ahead; `leeway_secs` is how far the clocks of others may differ, in the assertion's favour.
    #[must_use]
    pub fn new(audiences: &[&str], leeway_secs: u64, lifetime_secs_max: u64) -> AssertionVerifier {
        let audiences = audiences.iter().map(|audience| Box::from(*audience)).collect();
        AssertionVerifier {
            audiences,
            leeway_secs,
            lifetime_secs_max,
            lenient_dates: false,
            len_max: ASSERTION_LEN_MAX,
            types: vec!["JWT", "client-authentication+jwt"],
            keeps_claims: false,
        }
    }

    /// For tokens that another issuer made for its own clients, such as ID tokens that are exchanged (RFC
    /// 8693): up to [`TOKEN_LEN_MAX`] bytes, `typ` absent or `JWT`, and all claims are kept
    /// ([`VerifiedAssertion::claims_json`]).
    ///
    /// # Examples
    /// ```
    /// use mintage::codec::assertion::AssertionVerifier;
    ///
    /// // Tokens of at most an hour, for our client id at that issuer.
    /// let verifier = AssertionVerifier::of_tokens(&["our-client-there"], 30, 3_600);
    /// assert!(verifier.read("a.b.c").is_err());
    /// ```
    #[must_use]
    pub fn of_tokens(
        audiences: &[&str],
        leeway_secs: u64,
        lifetime_secs_max: u64,
    ) -> AssertionVerifier {
        AssertionVerifier {
            len_max: TOKEN_LEN_MAX,
            types: vec!["JWT"],
            keeps_claims: true,
            ..AssertionVerifier::new(audiences, leeway_secs, lifetime_secs_max)
        }
    }

    /// Takes tokens of this `typ` alone, such as `at+jwt` (RFC 8725 section 3.11).
    #[must_use]
    pub fn typ(mut self, typ: &'static str) -> AssertionVerifier {
        self.types = vec![typ];
        self
    }

    /// Takes times that are written as a JSON string of digits, or in milliseconds, too: RFC 7519 forbids
    /// it, and some clients of Salesforce do it.
    #[must_use]
    pub fn lenient_dates(mut self) -> AssertionVerifier {
        self.lenient_dates = true;
        self
    }

    /// How far clocks may differ, in seconds.
    #[must_use]
    pub fn leeway_secs(&self) -> u64 {
        self.leeway_secs
    }

    /// Reads an assertion, bounded and strict, and believes nothing of it.
    ///
    /// # Errors
    /// [`AssertionError`], with the first thing that is wrong.
    pub fn read<'t>(&self, text: &'t str) -> Result<Assertion<'t>, AssertionError> {
        if text.len() > self.len_max {
            return Err(AssertionError::TooLong);
        }
        let (signing_input, signature) = text.rsplit_once('.').ok_or(AssertionError::Malformed)?;
        let (header, payload) = signing_input.split_once('.').ok_or(AssertionError::Malformed)?;
        if header.is_empty() || payload.contains('.') {
            return Err(AssertionError::Malformed);
        }
        let (algorithm, kid) = self.read_header(header)?;
        let signature = decode(signature)?;
        let mut payload = decode(payload)?;
        let json = self.keeps_claims.then(|| String::from_utf8(payload.clone()));
        let mut room = Members::new();
        let claims = Object::read(&mut payload, &mut room).map_err(AssertionError::BadJson)?;
        let claims = self.claims(&claims)?;
        // What was read as JSON is UTF-8.
        let claims = Claims { json: json.and_then(Result::ok), ..claims };
        Ok(Assertion { signing_input, signature, algorithm, kid, claims })
    }

    /// Verifies an assertion with `keys`, all of them its issuer's, at the time `now`.
    ///
    /// `iss`, `aud` and `exp` are required (RFC 7523 section 3); what else must be there, and whether
    /// it was used before, is the caller's to check.
    ///
    /// # Errors
    /// [`AssertionError::UnknownKey`] when the issuer may have newer keys; otherwise the first thing
    /// that is wrong.
    pub fn verify(
        &self,
        assertion: Assertion<'_>,
        keys: &[VerifyingKey],
        now: Timestamp,
    ) -> Result<VerifiedAssertion, AssertionError> {
        let fits = |key: &&VerifyingKey| {
            // A secret that both sides have needs no name.
            let named = |kid| key.kid() == kid || key.algorithm().is_symmetric();
            key.algorithm() == assertion.algorithm && assertion.kid.as_deref().is_none_or(named)
        };
        let mut tried = keys.iter().filter(fits).take(TRIES_MAX).peekable();
        if tried.peek().is_none() {
            return Err(AssertionError::UnknownKey);
        }
        let input = assertion.signing_input.as_bytes();
        let key = tried.find(|key| {
            assertion.signature.len() == key.signature_len()
                && key.check(None, input, &assertion.signature)
        });
        let key = key.ok_or(AssertionError::BadSignature)?;
        self.judge(&assertion.claims, now)?;
        Ok(VerifiedAssertion {
            kid: key.kid().to_owned(),
            algorithm: key.algorithm(),
            claims: assertion.claims,
        })
    }

    fn judge(&self, claims: &Claims, now: Timestamp) -> Result<(), AssertionError> {
        let missing = AssertionError::MissingClaim;
        claims.issuer.as_ref().ok_or(missing("iss"))?;
        let expires_at = claims.expires_at.ok_or(missing("exp"))?;
        if claims.audience.is_empty() {
            return Err(missing("aud"));
        }
        // RFC 7523 section 3: "MUST contain an "aud" (audience) claim containing a value that
        // identifies the authorization server as an intended audience."
        let meant = |audience: &String| self.audiences.iter().any(|ours| **ours == **audience);
        if !claims.audience.iter().any(meant) {
            return Err(AssertionError::WrongAudience);
        }
        if now >= expires_at.plus(self.leeway_secs) {
            return Err(AssertionError::Expired);
        }
        let latest = now.plus(self.leeway_secs);
        if expires_at > latest.plus(self.lifetime_secs_max) {
            return Err(AssertionError::ExpiresTooLate);
        }
        let early = |time: Option<Timestamp>| time.is_some_and(|time| time > latest);
        if early(claims.not_before) || early(claims.issued_at) {
            return Err(AssertionError::NotYetValid);
        }
        Ok(())
    }

    /// Algorithm and `kid` of a header that no member of it makes dangerous.
    fn read_header(&self, segment: &str) -> Result<(Algorithm, Option<String>), AssertionError> {
        if segment.len() > base64url::encoded_len(HEADER_LEN_MAX) {
            return Err(AssertionError::BadHeader);
        }
        let mut text = decode(segment)?;
        let mut room = Members::new();
        let header = Object::read(&mut text, &mut room).map_err(|_| AssertionError::BadHeader)?;
        let member =
            |name| header.get(name).map(|value| value.as_str().ok_or(AssertionError::BadHeader));
        if header.get("crit").is_some() {
            return Err(AssertionError::CritUnsupported);
        }
        // RFC 8725 section 3.10: "Do Not Trust Received Claims" that name a key or a place to get one.
        if ["jwk", "jku", "x5u", "b64", "zip"].iter().any(|name| header.get(name).is_some()) {
            return Err(AssertionError::HeaderNotAllowed);
        }
        let name = member("alg").ok_or(AssertionError::BadHeader)??;
        let algorithm = Algorithm::from_name(name).ok_or(AssertionError::AlgNotAllowed)?;
        // Without one it is any JWT (RFC 8725 section 3.11).
        let typ = member("typ").transpose()?.unwrap_or("JWT");
        if !self.types.iter().any(|known| typ.eq_ignore_ascii_case(known)) {
            return Err(AssertionError::WrongType);
        }
        let kid = member("kid").transpose()?;
        if kid.is_some_and(|kid| kid.len() > KID_LEN_MAX) {
            return Err(AssertionError::UnknownKey);
        }
        Ok((algorithm, kid.map(str::to_owned)))
    }

    /// A malformed claim is never taken for an absent one.
    fn claims(&self, object: &Object<'_>) -> Result<Claims, AssertionError> {
        let mut claims = Claims::default();
        for (name, value) in object.members() {
            match name {
                "iss" => claims.issuer = Some(text(value, "iss")?),
                "sub" => claims.subject = Some(text(value, "sub")?),
                "prn" => claims.prn = Some(text(value, "prn")?),
                "jti" => claims.jti = Some(text(value, "jti")?),
                "aud" => claims.audience = audience(value)?,
                "exp" => claims.expires_at = Some(self.date(value, "exp")?),
                "nbf" => claims.not_before = Some(self.date(value, "nbf")?),
                "iat" => claims.issued_at = Some(self.date(value, "iat")?),
                _ => {}
            }
        }
        Ok(claims)
    }

    /// A `NumericDate` (RFC 7519 section 2), which may have a fraction: that is cut off.
    fn date(&self, value: RawValue<'_>, name: &'static str) -> Result<Timestamp, AssertionError> {
        let bad = AssertionError::BadClaim(name);
        let digits = match value.as_str() {
            Some(text) if self.lenient_dates && text.bytes().all(|b| b.is_ascii_digit()) => text,
            Some(_) => return Err(bad),
            None => value.as_json().ok_or(bad)?,
        };
        let whole = digits.split_once('.').map_or(digits, |(whole, _)| whole);
        match whole.parse::<u64>() {
            Ok(millis)
                if self.lenient_dates && (MILLIS_MIN..=NUMERIC_DATE_MAX).contains(&millis) =>
            {
                Ok(Timestamp(millis / 1_000))
            }
            Ok(secs) if secs <= NUMERIC_DATE_MAX && !digits.contains(['e', 'E', '+']) => {
                Ok(Timestamp(secs))
            }
            _ => Err(bad),
        }
    }
}

impl Assertion<'_> {
    /// Who is said to have issued it. Anybody can write that: it chooses keys and decides nothing.
    #[must_use]
    pub fn said_issuer(&self) -> Option<&str> {
        self.claims.issuer.as_deref()
    }

    /// The key that is said to have signed it.
    #[must_use]
    pub fn said_kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Whether it is said to be signed with a secret that both sides have.
    #[must_use]
    pub fn is_symmetric(&self) -> bool {
        self.algorithm.is_symmetric()
    }
}

impl fmt::Debug for Assertion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Assertion({}, kid {:?}, [redacted])", self.algorithm, self.kid)
    }
}

impl VerifiedAssertion {
    /// The key that signed it.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The algorithm of that key.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// `iss`.
    #[must_use]
    pub fn issuer(&self) -> &str {
        self.claims.issuer.as_deref().unwrap_or("")
    }

    /// `sub`.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.claims.subject.as_deref()
    }

    /// `prn`, an older name of `sub` with some clients of Salesforce.
    #[must_use]
    pub fn principal(&self) -> Option<&str> {
        self.claims.prn.as_deref()
    }

    /// `aud`, a string or an array.
    #[must_use]
    pub fn audience(&self) -> &[String] {
        &self.claims.audience
    }

    /// `exp`.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.claims.expires_at.unwrap_or_default()
    }

    /// `iat`.
    #[must_use]
    pub fn issued_at(&self) -> Option<Timestamp> {
        self.claims.issued_at
    }

    /// All claims as they stand in the token, for tokens of others ([`AssertionVerifier::of_tokens`]).
    #[must_use]
    pub fn claims_json(&self) -> Option<&str> {
        self.claims.json.as_deref()
    }

    /// `jti`.
    #[must_use]
    pub fn jti(&self) -> Option<&str> {
        self.claims.jti.as_deref()
    }
}

fn decode(segment: &str) -> Result<Vec<u8>, AssertionError> {
    base64url::decode(segment).map_err(|_| AssertionError::BadBase64)
}

fn text(value: RawValue<'_>, name: &'static str) -> Result<String, AssertionError> {
    match value.as_str() {
        Some(text) if !text.is_empty() && text.len() <= CLAIM_LEN_MAX => Ok(text.to_owned()),
        _ => Err(AssertionError::BadClaim(name)),
    }
}

/// RFC 7519 section 4.1.3: a string, or an array of strings.
fn audience(value: RawValue<'_>) -> Result<Vec<String>, AssertionError> {
    if value.as_str().is_some() {
        return Ok(vec![text(value, "aud")?]);
    }
    let several = value.as_strings().ok_or(AssertionError::BadClaim("aud"))?;
    let several: Vec<String> = several.map(std::borrow::Cow::into_owned).collect();
    if several.is_empty() || several.iter().any(String::is_empty) {
        return Err(AssertionError::BadClaim("aud"));
    }
    Ok(several)
}
