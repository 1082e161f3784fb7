//! JWT access tokens (RFC 9068) as JWS in compact form (RFC 7515): signed into a caller's buffer,
//! verified out of a reusable scratch, nothing allocated by this code.
//!
//! The key decides, not the token: a header segment is compared with those of the keys, and the
//! algorithm is the key's own.
//!
//! # Examples
//! ```
//! use mintage::codec::algorithm::Algorithm;
//! use mintage::codec::claims::{AccessClaims, NoExtraClaims};
//! use mintage::codec::jws::{Scratch, Verifier};
//! use mintage::codec::keyring::Keyring;
//! use mintage::codec::keys::SigningKey;
//! use mintage::entropy::SystemEntropy;
//! use mintage::time::Timestamp;
//!
//! let ring = Keyring::new(SigningKey::generate(Algorithm::EdDsa, None, &SystemEntropy::new())?);
//! let now = Timestamp(1_700_000_000);
//! let claims = AccessClaims {
//!     issuer: "https://login.example.com",
//!     subject: "user-42",
//!     audience: &["https://api.example.com"],
//!     client_id: "reports",
//!     scope: "api",
//!     issued_at: now,
//!     not_before: None,
//!     expires_at: now.plus(3_600),
//!     jti: "7c9e6679",
//!     extra: &NoExtraClaims,
//! };
//! let mut out = vec![0; ring.active().token_len(&claims)?];
//! let token = ring.active().sign_into(&claims, &mut out)?;
//!
//! let verifier = Verifier::new("https://login.example.com", &["https://api.example.com"], 10);
//! let mut scratch = Scratch::new();
//! let verified = verifier.verify(&ring, token.as_bytes(), now, &mut scratch)?;
//! assert_eq!(verified.subject(), "user-42");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod header;
mod id_token;
mod open;
mod peek;
mod remote;
mod sign;
mod start;
mod template;
mod token_type;
mod verify;

use std::fmt;

use super::json::{JsonError, Members};
use super::keys::KID_LEN_MAX;

pub use id_token::{IdExpected, IdVerifier, VerifiedId};
pub use peek::{Unverified, peek};
pub use remote::TokenFuture;
pub use sign::SignError;
pub use template::Template;
pub(super) use token_type::TokenType;
pub use verify::{Verified, Verifier};

/// The longest token, in bytes. A longer one is neither read nor made.
pub const TOKEN_LEN_MAX: usize = 8_192;
/// The longest decoded header, in bytes.
pub const HEADER_LEN_MAX: usize = 512;

const PAYLOAD_LEN_MAX: usize = TOKEN_LEN_MAX / 4 * 3;

/// Why a token was refused. For logs: a client is told `invalid_token` whatever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VerifyError {
    /// It is longer than [`TOKEN_LEN_MAX`].
    TooLong,
    /// It has not three parts.
    Malformed,
    /// A part is no canonical base64url.
    BadBase64,
    /// The header is no JSON object, too long, or a member of it is missing or malformed.
    BadHeader,
    /// `alg` is `none` or another name that no key here can have.
    AlgNotAllowed,
    /// The header has a member that tokens of this authority never have.
    HeaderNotAllowed,
    /// The header has critical extensions (RFC 7515 section 4.1.11).
    CritUnsupported,
    /// `typ` is not that of the type of token that is wanted (RFC 9068 section 4).
    WrongType,
    /// No key has that `kid`.
    UnknownKey,
    /// The key of that `kid` is for another algorithm.
    AlgKeyMismatch,
    /// The signature is not the key's.
    BadSignature,
    /// The claims are no JSON object.
    BadJson,
    /// The claims nest too deep.
    TooDeep,
    /// The claims have too many members.
    TooManyMembers,
    /// The claims have a member twice.
    DuplicateMember,
    /// This claim is present and malformed.
    BadClaim(&'static str),
    /// This claim is required (RFC 9068 section 2.2, OpenID Connect Core 1.0 section 2).
    MissingClaim(&'static str),
    /// It is of another issuer.
    WrongIssuer,
    /// It is for another audience.
    WrongAudience,
    /// It has expired.
    Expired,
    /// `nbf` or `iat` is in the future.
    NotYetValid,
    /// The ID token was issued to another client (`azp`).
    WrongParty,
    /// The `nonce` is not the one of the authentication request.
    WrongNonce,
    /// The user was authenticated longer ago than allowed.
    TooLongAgo,
    /// `at_hash` or `c_hash` is not that of the access token or code beside the ID token.
    WrongHash(&'static str),
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            VerifyError::TooLong => "the token is too long",
            VerifyError::Malformed => "the token has not three parts",
            VerifyError::BadBase64 => "a part of the token is no base64url",
            VerifyError::BadHeader => "the header of the token is malformed",
            VerifyError::AlgNotAllowed => "the algorithm of the token is not allowed",
            VerifyError::HeaderNotAllowed => "the header of the token has a forbidden member",
            VerifyError::CritUnsupported => "the token has critical extensions",
            VerifyError::WrongType => "the token is of another type",
            VerifyError::UnknownKey => "no key has the kid of the token",
            VerifyError::AlgKeyMismatch => "the key of the token is for another algorithm",
            VerifyError::BadSignature => "the signature of the token is wrong",
            VerifyError::BadJson => "the claims of the token are no JSON object",
            VerifyError::TooDeep => "the claims of the token nest too deep",
            VerifyError::TooManyMembers => "the claims of the token have too many members",
            VerifyError::DuplicateMember => "the claims of the token have a member twice",
            VerifyError::BadClaim(name) => return write!(f, "the claim {name} is malformed"),
            VerifyError::MissingClaim(name) => return write!(f, "the claim {name} is missing"),
            VerifyError::WrongIssuer => "the token is of another issuer",
            VerifyError::WrongAudience => "the token is for another audience",
            VerifyError::Expired => "the token has expired",
            VerifyError::NotYetValid => "the token is not yet valid",
            VerifyError::WrongParty => "the token was issued to another client",
            VerifyError::WrongNonce => "the nonce of the token is not that of the request",
            VerifyError::TooLongAgo => "the user was authenticated too long ago",
            VerifyError::WrongHash(name) => {
                return write!(f, "the claim {name} is not that of what came with the token");
            }
        };
        f.write_str(text)
    }
}

impl std::error::Error for VerifyError {}

impl From<JsonError> for VerifyError {
    fn from(error: JsonError) -> VerifyError {
        match error {
            JsonError::TooLong => VerifyError::TooLong,
            JsonError::NotUtf8 | JsonError::Syntax => VerifyError::BadJson,
            JsonError::TooDeep => VerifyError::TooDeep,
            JsonError::TooManyMembers => VerifyError::TooManyMembers,
            JsonError::DuplicateMember => VerifyError::DuplicateMember,
        }
    }
}

/// Room to verify one token at a time: about 8 KiB on the heap, made once and used again.
pub struct Scratch(Box<Room>);

struct Room {
    header: [u8; HEADER_LEN_MAX],
    header_members: Members,
    /// The raw signature first, then the claims over it.
    payload: [u8; PAYLOAD_LEN_MAX],
    payload_members: Members,
    /// A copy, so that verified claims borrow nothing from a ring that is about to be replaced.
    kid: [u8; KID_LEN_MAX],
}

impl Scratch {
    /// A fresh scratch.
    #[must_use]
    pub fn new() -> Scratch {
        Scratch(Box::new(Room {
            header: [0; HEADER_LEN_MAX],
            header_members: Members::new(),
            payload: [0; PAYLOAD_LEN_MAX],
            payload_members: Members::new(),
            kid: [0; KID_LEN_MAX],
        }))
    }
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch::new()
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scratch")
    }
}

/// A token taken apart, nothing decoded.
struct Parts<'t> {
    header: &'t [u8],
    payload: &'t [u8],
    signature: &'t [u8],
    /// Header and payload with the dot between them (RFC 7515 section 5.1).
    signing_input: &'t [u8],
}

impl<'t> Parts<'t> {
    fn of(token: &'t [u8]) -> Result<Parts<'t>, VerifyError> {
        if token.len() > TOKEN_LEN_MAX {
            return Err(VerifyError::TooLong);
        }
        let is_dot = |byte: &u8| *byte == b'.';
        let first = token.iter().position(is_dot).ok_or(VerifyError::Malformed)?;
        let last = token.iter().rposition(is_dot).ok_or(VerifyError::Malformed)?;
        let parts = Parts::at(token, first, last).ok_or(VerifyError::Malformed)?;
        if parts.header.is_empty() || parts.payload.contains(&b'.') {
            return Err(VerifyError::Malformed);
        }
        Ok(parts)
    }

    /// The parts around dots that are known already.
    #[inline]
    fn at(token: &'t [u8], first: usize, last: usize) -> Option<Parts<'t>> {
        Some(Parts {
            header: token.get(..first)?,
            payload: token.get(first + 1..last)?,
            signature: token.get(last + 1..)?,
            signing_input: token.get(..last)?,
        })
    }
}
