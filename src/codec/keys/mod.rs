//! Keys of JWTs. A key is parsed once and held parsed; it owns its algorithm, its `kid` and the one
//! header segment of its tokens. What is wrong with a key is said when it is imported, never when a
//! token fails.

mod absorbed;
mod backend;
mod der;
mod pem;
mod private_jwk;
mod signer;
mod signing;
#[cfg(test)]
mod vectors;
mod verifying;

use std::error::Error;
use std::fmt;

pub(super) use absorbed::Absorbed;
pub use backend::Backend;
pub use signer::{Signer, SignerError, Signing};
pub use signing::SigningKey;
pub use verifying::VerifyingKey;

use crate::entropy::EntropyError;

/// The longest `kid`, in bytes.
pub const KID_LEN_MAX: usize = 64;
/// The shortest HMAC secret, in bytes: the hash's own length (RFC 7518 section 3.2).
pub const HMAC_SECRET_LEN_MIN: usize = 32;
/// The longest key text (PEM or DER), in bytes; a JWK is bounded by
/// [`JSON_LEN_MAX`](crate::codec::json::JSON_LEN_MAX), as every JSON text.
pub const KEY_TEXT_LEN_MAX: usize = 16_384;
/// The shortest RSA modulus, in bits (RFC 7518 section 3.3).
pub const RSA_BITS_MIN: usize = 2_048;
/// The smallest RSA exponent of a key that signs (FIPS 186-5 section 5.4; ring's rule too).
pub const RSA_SIGN_EXPONENT_MIN: u64 = 65_537;
/// The longest RSA modulus that signs, in bits.
pub const RSA_SIGN_BITS_MAX: usize = 4_096;
/// The longest RSA modulus that verifies, in bits.
pub const RSA_VERIFY_BITS_MAX: usize = 8_192;

/// Why there is no key.
#[derive(Debug)]
#[non_exhaustive]
pub enum KeyError {
    /// The text is longer than [`KEY_TEXT_LEN_MAX`], or a JWK than
    /// [`JSON_LEN_MAX`](crate::codec::json::JSON_LEN_MAX).
    TooLong,
    /// The text is no PEM of one unencrypted PKCS#8 key (`BEGIN PRIVATE KEY`).
    BadPem,
    /// The text is no JWK, or this member of it is missing or malformed.
    BadJwk(&'static str),
    /// The bytes are no private key that [`SigningKey::to_private_bytes`] wrote.
    BadPrivateBytes,
    /// The key type or curve is none that the algorithms here use.
    UnsupportedKeyType,
    /// The JWK does not say `alg` and its type fits several.
    AlgorithmMissing,
    /// The key is for another algorithm than asked for, or for none known here.
    AlgorithmMismatch,
    /// `use` is not `sig` (RFC 7517 section 4.2).
    WrongUse,
    /// `key_ops` lacks what the key is wanted for (RFC 7517 section 4.3).
    WrongKeyOps,
    /// `kid` is not 1 to [`KID_LEN_MAX`] visible ASCII characters other than `"` and `\`.
    BadKid,
    /// The JWK of a public key has private members: a secret is about to leak.
    PrivateMembers,
    /// The RSA modulus is shorter than [`RSA_BITS_MIN`].
    RsaTooShort,
    /// The RSA modulus is longer than [`RSA_SIGN_BITS_MAX`] or [`RSA_VERIFY_BITS_MAX`].
    RsaTooLong,
    /// The RSA exponent is even, above 33 bits, or too small: below 3 for a key that verifies, below
    /// 65,537 for one that signs.
    BadRsaExponent,
    /// The RSA modulus has the fingerprint of ROCA (CVE-2017-15361): it can be factored.
    RocaModulus,
    /// The point is not on its curve.
    PointOffCurve,
    /// The Ed25519 public key has a small order: it would accept forged signatures.
    SmallOrder,
    /// The Ed25519 public key is not encoded canonically (RFC 8032 section 5.1.3).
    NonCanonical,
    /// The HMAC secret is shorter than [`HMAC_SECRET_LEN_MIN`].
    SecretTooShort,
    /// The private key and its public part do not belong together.
    Inconsistent,
    /// RSA keys are not generated here; import one that `openssl genpkey` made.
    RsaImportOnly,
    /// The crypto library refused the key, for the reason that it gives here.
    Rejected(Box<str>),
    /// No key could be drawn.
    Entropy(EntropyError),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            KeyError::TooLong => "the key text is too long",
            KeyError::BadPem => "the text is no PEM of one unencrypted PKCS#8 private key",
            KeyError::BadJwk(what) => return write!(f, "the text is no JWK: {what}"),
            KeyError::BadPrivateBytes => "the bytes are no stored private key",
            KeyError::UnsupportedKeyType => "the key type or curve is not supported",
            KeyError::AlgorithmMissing => "the JWK must say its algorithm",
            KeyError::AlgorithmMismatch => "the key is for another algorithm",
            KeyError::WrongUse => "the use of the JWK is not sig",
            KeyError::WrongKeyOps => "the key_ops of the JWK forbid this",
            KeyError::BadKid => "the kid is empty, too long or has a forbidden character",
            KeyError::PrivateMembers => "the JWK of a public key has private members",
            KeyError::RsaTooShort => "the RSA key is shorter than 2048 bits",
            KeyError::RsaTooLong => "the RSA key is too long",
            KeyError::BadRsaExponent => "the RSA exponent is even, too small or too large",
            KeyError::RocaModulus => "the RSA modulus has the weakness ROCA",
            KeyError::PointOffCurve => "the public key is not on its curve",
            KeyError::SmallOrder => "the Ed25519 public key has a small order",
            KeyError::NonCanonical => "the Ed25519 public key is not canonical",
            KeyError::SecretTooShort => "the HMAC secret is shorter than 32 bytes",
            KeyError::Inconsistent => "the private key does not belong to its public key",
            KeyError::RsaImportOnly => "RSA keys are not generated here: import one",
            KeyError::Rejected(why) => return write!(f, "the crypto library refused it: {why}"),
            KeyError::Entropy(_) => "no key could be drawn",
        };
        f.write_str(text)
    }
}

impl Error for KeyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            KeyError::Entropy(error) => Some(error),
            _ => None,
        }
    }
}

impl From<ring::error::KeyRejected> for KeyError {
    fn from(error: ring::error::KeyRejected) -> KeyError {
        KeyError::rejected(&error.to_string())
    }
}

#[cfg(feature = "aws-lc-rs")]
impl From<aws_lc_rs::error::KeyRejected> for KeyError {
    fn from(error: aws_lc_rs::error::KeyRejected) -> KeyError {
        KeyError::rejected(&error.to_string())
    }
}

impl KeyError {
    /// The crypto libraries say why in words alone, and only RSA keys have these two reasons.
    fn rejected(why: &str) -> KeyError {
        match why {
            "TooSmall" => KeyError::RsaTooShort,
            "TooLarge" => KeyError::RsaTooLong,
            why => KeyError::Rejected(why.into()),
        }
    }
}

/// A `kid` is compared and written, never used as a path or a query; with these characters it is
/// also its own JSON text.
pub(super) fn check_kid(kid: &str) -> Result<(), KeyError> {
    let visible = kid.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
    if kid.is_empty() || kid.len() > KID_LEN_MAX || !visible {
        return Err(KeyError::BadKid);
    }
    Ok(())
}
