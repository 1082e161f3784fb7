//! The claims of ID tokens.

use std::fmt;

use ring::digest::{self, SHA256, SHA384, SHA512};

use super::sealed::Claims;
use super::{ClaimsWriter, Common, ExtraClaims};
use crate::codec::algorithm::Algorithm;
use crate::codec::base64url;
use crate::codec::jws::{SignError, TokenType};
use crate::time::Timestamp;

/// Half a SHA-512 in base64url.
const HALF_HASH_LEN_MAX: usize = 43;

/// The claims of one ID token (OpenID Connect Core 1.0 section 2), borrowed from wherever they are.
#[derive(Clone, Copy)]
pub struct IdClaims<'a> {
    /// `iss`: the issuer identifier of the authority.
    pub issuer: &'a str,
    /// `sub`: who has logged in.
    pub subject: &'a str,
    /// `aud`: at least one, the client among them; a single one is written as a string, more as an
    /// array.
    pub audience: &'a [&'a str],
    /// `azp`: the client, where it is not the only audience.
    pub authorized_party: Option<&'a str>,
    /// `iat`.
    pub issued_at: Timestamp,
    /// `exp`.
    pub expires_at: Timestamp,
    /// `auth_time`: when the user was authenticated.
    pub auth_time: Option<Timestamp>,
    /// `nonce`, as the authentication request had it.
    pub nonce: Option<&'a str>,
    /// `acr`: how strong the authentication was.
    pub acr: Option<&'a str>,
    /// `amr`: by which methods; left out when empty.
    pub amr: &'a [&'a str],
    /// `at_hash` of the access token that is issued with it.
    pub at_hash: Option<HalfHash>,
    /// `c_hash` of the code that is issued with it.
    pub c_hash: Option<HalfHash>,
    /// Whatever else; [`NoExtraClaims`](super::NoExtraClaims) for nothing.
    pub extra: &'a dyn ExtraClaims,
}

impl fmt::Debug for IdClaims<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdClaims").finish_non_exhaustive()
    }
}

impl Claims for IdClaims<'_> {
    const TYPE: TokenType = TokenType::Id;

    #[inline]
    fn common(&self) -> Common<'_> {
        Common {
            issuer: self.issuer,
            audience: self.audience,
            party_name: "azp",
            party: self.authorized_party,
            is_list: false,
        }
    }

    fn write_rest<'c>(&'c self, out: &mut ClaimsWriter<'c>) -> Result<(), SignError> {
        out.push(b",\"sub\":")?;
        out.quoted(self.subject)?;
        out.date(b",\"iat\":", self.issued_at)?;
        out.date(b",\"exp\":", self.expires_at)?;
        if let Some(auth_time) = self.auth_time {
            out.date(b",\"auth_time\":", auth_time)?;
        }
        let texts: [(&[u8], _); 4] = [
            (b",\"nonce\":", self.nonce),
            (b",\"acr\":", self.acr),
            (b",\"at_hash\":", self.at_hash.as_ref().map(HalfHash::as_str)),
            (b",\"c_hash\":", self.c_hash.as_ref().map(HalfHash::as_str)),
        ];
        for (member, value) in texts {
            if let Some(value) = value {
                out.push(member)?;
                out.quoted(value)?;
            }
        }
        if !self.amr.is_empty() {
            out.push(b",\"amr\":")?;
            out.array(self.amr)?;
        }
        self.extra.write(out)?;
        out.push(b"}")
    }

    fn is_reserved(name: &str) -> bool {
        is_id_claim(name)
    }
}

/// Whether [`IdClaims`] has a field of its own for that claim.
pub(in crate::codec) fn is_id_claim(name: &str) -> bool {
    matches!(
        name,
        "iss"
            | "sub"
            | "aud"
            | "azp"
            | "iat"
            | "exp"
            | "auth_time"
            | "nonce"
            | "acr"
            | "amr"
            | "at_hash"
            | "c_hash"
    )
}

/// The left half of a hash in base64url: what `at_hash` and `c_hash` are (OpenID Connect Core 1.0
/// sections 3.1.3.6 and 3.3.2.11).
///
/// # Examples
/// ```
/// use mintage::codec::algorithm::Algorithm;
/// use mintage::codec::claims::HalfHash;
///
/// // OpenID Connect Core 1.0, appendix A.3
/// let access_token = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y";
/// let at_hash = HalfHash::of(Algorithm::Rs256, access_token);
/// assert_eq!(at_hash.as_str(), "77QmUPtjPfzWtF2AnpK9RQ");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HalfHash {
    text: [u8; HALF_HASH_LEN_MAX],
    len: usize,
}

impl HalfHash {
    /// The half hash of an access token or a code, for an ID token that is signed with `algorithm`:
    /// its own hash function, and SHA-512 for Ed25519, which signs with that one (RFC 8032).
    #[must_use]
    pub fn of(algorithm: Algorithm, text: &str) -> HalfHash {
        let function = match algorithm {
            Algorithm::Hs256 | Algorithm::Es256 | Algorithm::Rs256 | Algorithm::Ps256 => &SHA256,
            Algorithm::Es384 => &SHA384,
            Algorithm::EdDsa => &SHA512,
        };
        let hash = digest::digest(function, text.as_bytes());
        let half = hash.as_ref().get(..function.output_len() / 2).unwrap_or(&[]);
        let mut text = [0; HALF_HASH_LEN_MAX];
        let len = base64url::encode_into(half, &mut text).unwrap_or(0);
        HalfHash { text, len }
    }

    /// The claim's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.text.get(..self.len).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or("")
    }
}

impl fmt::Debug for HalfHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
