//! DPoP proofs (RFC 9449): a client shows that it has a key, for one request.
//!
//! A proof brings its own public key, so that a good signature alone says nothing: whoever reads one
//! compares the key's thumbprint with the one that a token is bound to.

use std::fmt;

use ring::digest::{SHA256, digest};

use super::algorithm::Algorithm;
use super::base64url;
use super::claims::NUMERIC_DATE_MAX;
use super::json::{JsonError, Members, Object, RawValue};
use super::keys::{KeyError, VerifyingKey};
use crate::secret::same_bytes;
use crate::time::Timestamp;

/// The longest proof, in bytes. A longer one is refused unread.
pub const PROOF_LEN_MAX: usize = 8_192;

const HEADER_LEN_MAX: usize = 4_096;
/// The longest `jti`, `htm` or `nonce`, in bytes.
const CLAIM_LEN_MAX: usize = 512;
/// The longest `htu`, in bytes.
const URL_LEN_MAX: usize = 2_048;

/// Why a proof was refused. For logs: whoever sent it is told a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProofError {
    /// It is longer than [`PROOF_LEN_MAX`].
    TooLong,
    /// It has not three parts.
    Malformed,
    /// A part is no canonical base64url.
    BadBase64,
    /// The header is no JSON object, too long, or a member of it is missing or malformed.
    BadHeader,
    /// `typ` is not `dpop+jwt`.
    WrongType,
    /// `alg` is `none`, symmetric, or another name that no key here can have.
    AlgNotAllowed,
    /// The header has critical extensions (RFC 7515 section 4.1.11).
    CritUnsupported,
    /// `jwk` is no public key for that `alg`, or holds a private one.
    BadKey,
    /// The signature is not that key's.
    BadSignature,
    /// The claims are no JSON object within the limits.
    BadJson(JsonError),
    /// This claim is present and malformed.
    BadClaim(&'static str),
    /// This claim is required (RFC 9449 section 4.2).
    MissingClaim(&'static str),
    /// It is for another method.
    WrongMethod,
    /// It is for another URL.
    WrongUrl,
    /// It was made too long ago, or its `iat` is in the future.
    WrongTime,
    /// `ath` is missing, or that of another access token.
    WrongToken,
}

impl fmt::Display for ProofError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProofError::TooLong => "the proof is too long",
            ProofError::Malformed => "the proof has not three parts",
            ProofError::BadBase64 => "a part of the proof is no base64url",
            ProofError::BadHeader => "the header of the proof is malformed",
            ProofError::WrongType => "the token is no proof",
            ProofError::AlgNotAllowed => "the algorithm of the proof is not allowed",
            ProofError::CritUnsupported => "the proof has critical extensions",
            ProofError::BadKey => "the key of the proof is no public key that can be used",
            ProofError::BadSignature => "the signature of the proof is wrong",
            ProofError::BadJson(error) => return write!(f, "the claims of the proof: {error}"),
            ProofError::BadClaim(name) => return write!(f, "the claim {name} is malformed"),
            ProofError::MissingClaim(name) => return write!(f, "the claim {name} is missing"),
            ProofError::WrongMethod => "the proof is for another method",
            ProofError::WrongUrl => "the proof is for another URL",
            ProofError::WrongTime => "the proof is too old, or of the future",
            ProofError::WrongToken => "the proof is for another access token",
        })
    }
}

impl std::error::Error for ProofError {}

/// The request that a proof must be for.
#[derive(Clone, Copy, Debug)]
pub struct ProofExpected<'a> {
    /// The method, as it stands in the request.
    pub method: &'a str,
    /// The URL; query and fragment count for nothing.
    pub url: &'a str,
    /// The access token that comes with it, at a resource.
    pub access_token: Option<&'a str>,
    /// The time.
    pub now: Timestamp,
    /// How old a proof may be, in seconds.
    pub age_secs_max: u64,
    /// How far clocks may differ, in seconds, in the proof's favour.
    pub leeway_secs: u64,
}

/// A proof that its key signed.
#[derive(Clone, PartialEq, Eq)]
pub struct Proof {
    thumbprint: [u8; 32],
    jti: String,
    method: String,
    url: String,
    issued_at: Timestamp,
    token_hash: Option<String>,
    nonce: Option<String>,
}

impl Proof {
    /// Reads a proof, bounded and strict, and checks its signature with the key that it brings.
    ///
    /// # Errors
    /// [`ProofError`], with the first thing that is wrong.
    pub fn read(text: &str) -> Result<Proof, ProofError> {
        if text.len() > PROOF_LEN_MAX {
            return Err(ProofError::TooLong);
        }
        let (input, signature) = text.rsplit_once('.').ok_or(ProofError::Malformed)?;
        let (header, payload) = input.split_once('.').ok_or(ProofError::Malformed)?;
        if header.is_empty() || payload.contains('.') {
            return Err(ProofError::Malformed);
        }
        let key = read_header(header)?;
        let signature = decode(signature)?;
        if !key.verify(input.as_bytes(), &signature) {
            return Err(ProofError::BadSignature);
        }
        let mut payload = decode(payload)?;
        let mut room = Members::new();
        let claims = Object::read(&mut payload, &mut room).map_err(ProofError::BadJson)?;
        Proof::of(&key, &claims)
    }

    /// Checks what it is for (RFC 9449 section 4.3). Whether it was used before, and its `nonce`, are
    /// the caller's to check.
    ///
    /// # Errors
    /// [`ProofError::WrongMethod`], [`ProofError::WrongUrl`], [`ProofError::WrongTime`],
    /// [`ProofError::WrongToken`].
    pub fn check(&self, expected: &ProofExpected<'_>) -> Result<(), ProofError> {
        if self.method != expected.method {
            return Err(ProofError::WrongMethod);
        }
        // "ignoring any query and fragment parts"
        if normal(&self.url).is_none() || normal(&self.url) != normal(expected.url) {
            return Err(ProofError::WrongUrl);
        }
        let ProofExpected { now, age_secs_max, leeway_secs, .. } = *expected;
        let oldest = now.minus(age_secs_max).minus(leeway_secs);
        if self.issued_at < oldest || self.issued_at > now.plus(leeway_secs) {
            return Err(ProofError::WrongTime);
        }
        if let Some(token) = expected.access_token {
            let wanted = base64url::encode(digest(&SHA256, token.as_bytes()).as_ref());
            let found = self.token_hash.as_deref().ok_or(ProofError::WrongToken)?;
            if !same_bytes(found.as_bytes(), wanted.as_bytes()) {
                return Err(ProofError::WrongToken);
            }
        }
        Ok(())
    }

    /// The SHA-256 thumbprint of its key (RFC 7638): `jkt`.
    #[must_use]
    pub fn thumbprint(&self) -> [u8; 32] {
        self.thumbprint
    }

    /// `jti`.
    #[must_use]
    pub fn jti(&self) -> &str {
        &self.jti
    }

    /// `iat`.
    #[must_use]
    pub fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    /// `nonce`.
    #[must_use]
    pub fn nonce(&self) -> Option<&str> {
        self.nonce.as_deref()
    }

    fn of(key: &VerifyingKey, claims: &Object<'_>) -> Result<Proof, ProofError> {
        let text = |name, len_max| text(claims.get(name), name, len_max);
        let required = |name, len_max| text(name, len_max)?.ok_or(ProofError::MissingClaim(name));
        let issued_at = claims.get("iat").ok_or(ProofError::MissingClaim("iat"))?;
        let jwk = key.public_jwk().ok_or(ProofError::AlgNotAllowed)?;
        let thumbprint = decode(&jwk.thumbprint())?;
        Ok(Proof {
            thumbprint: thumbprint.try_into().map_err(|_| ProofError::BadHeader)?,
            jti: required("jti", CLAIM_LEN_MAX)?,
            method: required("htm", CLAIM_LEN_MAX)?,
            url: required("htu", URL_LEN_MAX)?,
            issued_at: date(issued_at)?,
            token_hash: text("ath", CLAIM_LEN_MAX)?,
            nonce: text("nonce", CLAIM_LEN_MAX)?,
        })
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof").field("method", &self.method).finish_non_exhaustive()
    }
}

/// The key of a header, which is for its `alg`.
fn read_header(segment: &str) -> Result<VerifyingKey, ProofError> {
    if segment.len() > base64url::encoded_len(HEADER_LEN_MAX) {
        return Err(ProofError::BadHeader);
    }
    let mut decoded = decode(segment)?;
    let mut room = Members::new();
    let header = Object::read(&mut decoded, &mut room).map_err(|_| ProofError::BadHeader)?;
    let member = |name| header.get(name).and_then(|value| value.as_str());
    if header.get("crit").is_some() {
        return Err(ProofError::CritUnsupported);
    }
    if ["b64", "zip"].iter().any(|name| header.get(name).is_some()) {
        return Err(ProofError::BadHeader);
    }
    if !member("typ").ok_or(ProofError::WrongType)?.eq_ignore_ascii_case("dpop+jwt") {
        return Err(ProofError::WrongType);
    }
    let name = member("alg").ok_or(ProofError::BadHeader)?;
    let algorithm = Algorithm::from_name(name).filter(|algorithm| !algorithm.is_symmetric());
    let algorithm = algorithm.ok_or(ProofError::AlgNotAllowed)?;
    let jwk = header.get("jwk").and_then(|value| value.as_json()).ok_or(ProofError::BadHeader)?;
    let key = VerifyingKey::from_jwk(jwk.as_bytes()).or_else(|error| {
        // The key of an RSA proof need not say again what the header says.
        match jwk.strip_prefix('{') {
            Some(rest) if !matches!(error, KeyError::PrivateMembers) => {
                VerifyingKey::from_jwk(format!("{{\"alg\":\"{algorithm}\",{rest}").as_bytes())
            }
            _ => Err(error),
        }
    });
    let key = key.map_err(|_| ProofError::BadKey)?;
    if key.algorithm() == algorithm { Ok(key) } else { Err(ProofError::AlgNotAllowed) }
}

fn decode(segment: &str) -> Result<Vec<u8>, ProofError> {
    base64url::decode(segment).map_err(|_| ProofError::BadBase64)
}

fn text(
    value: Option<RawValue<'_>>,
    name: &'static str,
    len_max: usize,
) -> Result<Option<String>, ProofError> {
    let Some(value) = value else { return Ok(None) };
    match value.as_str() {
        Some(text) if !text.is_empty() && text.len() <= len_max => Ok(Some(text.to_owned())),
        _ => Err(ProofError::BadClaim(name)),
    }
}

/// A `NumericDate`, which may have a fraction: that is cut off.
fn date(value: RawValue<'_>) -> Result<Timestamp, ProofError> {
    let digits = value.as_json().ok_or(ProofError::BadClaim("iat"))?;
    let whole = digits.split_once('.').map_or(digits, |(whole, _)| whole);
    match whole.parse::<u64>() {
        Ok(secs) if secs <= NUMERIC_DATE_MAX && !digits.contains(['e', 'E', '+']) => {
            Ok(Timestamp(secs))
        }
        _ => Err(ProofError::BadClaim("iat")),
    }
}

/// A URL in the one form that is compared (RFC 3986 sections 6.2.2 and 6.2.3): scheme and host in
/// small letters, no default port, no query, no fragment, `/` for no path. Whoever sits before the
/// host makes it no URL of a request.
fn normal(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let mut host = host.to_ascii_lowercase();
    let default = match &*scheme {
        "https" => ":443",
        "http" => ":80",
        _ => return None,
    };
    if let Some(bare) = host.strip_suffix(default) {
        host = bare.to_owned();
    }
    if host.is_empty() || host.contains('@') {
        return None;
    }
    Some(format!("{scheme}://{host}{}", if path.is_empty() { "/" } else { path }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_compared_in_one_form() {
        let same = [
            ("https://a.example/t", "https://A.Example/t"),
            ("https://a.example/t", "HTTPS://a.example:443/t?x=1#y"),
            ("https://a.example", "https://a.example/"),
            ("http://a.example:80/", "http://a.example"),
            ("https://a.example:8443/t", "https://a.example:8443/t?"),
        ];
        for (one, two) in same {
            assert_eq!(normal(one), normal(two), "{one} {two}");
            assert!(normal(one).is_some());
        }
        let other = [
            ("https://a.example/t", "http://a.example/t"),
            ("https://a.example/t", "https://a.example/T"),
            ("https://a.example/t", "https://a.example/t/"),
            ("https://a.example:80/", "https://a.example/"),
            ("https://a.example/", "https://b.example/"),
        ];
        for (one, two) in other {
            assert_ne!(normal(one), normal(two), "{one} {two}");
        }
        for none in ["", "a.example/t", "ftp://a.example/", "https:///t", "https://u@a.example/"] {
            assert_eq!(normal(none), None, "{none}");
        }
    }

    /// RFC 9449 section 4.1.
    const RFC: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaH\
        gtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10N\
        nY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIs\
        Imh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v\
        -FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";

    #[test]
    fn the_proof_of_the_rfc_is_one() -> Result<(), Box<dyn std::error::Error>> {
        let proof = Proof::read(RFC)?;
        let expected = ProofExpected {
            method: "POST",
            url: "https://server.example.com/token",
            access_token: None,
            now: Timestamp(1_562_262_618),
            age_secs_max: 60,
            leeway_secs: 0,
        };
        proof.check(&expected)?;
        // RFC 9449 section 6.1
        let jkt = base64url::encode(&proof.thumbprint());
        assert_eq!(jkt, "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
        assert_eq!(proof.jti(), "-BwC3ESc6acc2lTc");
        let refused = |expected| proof.check(&expected).err();
        assert_eq!(
            refused(ProofExpected { method: "post", ..expected }),
            Some(ProofError::WrongMethod)
        );
        let url = "https://server.example.com/tokens";
        assert_eq!(refused(ProofExpected { url, ..expected }), Some(ProofError::WrongUrl));
        let access_token = Some("a");
        assert_eq!(
            refused(ProofExpected { access_token, ..expected }),
            Some(ProofError::WrongToken)
        );
        let iat = 1_562_262_616;
        for (now, fits) in [(iat, true), (iat + 60, true), (iat + 61, false), (iat - 1, false)] {
            let now = Timestamp(now);
            assert_eq!(refused(ProofExpected { now, ..expected }).is_none(), fits, "{now}");
        }
        let changed = RFC.replace("eyJqdGki", "eyJqdGkj");
        assert!(Proof::read(&changed).is_err());
        Ok(())
    }
}
