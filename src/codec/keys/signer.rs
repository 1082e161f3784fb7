//! A private key that is elsewhere: in a key management service, a hardware module, another process.
//!
//! This crate does no I/O for it and has no clock to time it with. It hands the signing input over,
//! waits, and believes nothing: what comes back is checked with the public key before it is used.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

/// A signature on its way: the bytes as they are before base64url.
pub type Signing = Pin<Box<dyn Future<Output = Result<Vec<u8>, SignerError>> + Send>>;

/// Signs with a private key that is elsewhere. [`SigningKey::remote`] makes a key of it.
///
/// It must keep to this:
/// - The signature has the form of RFC 7518: `r` and `s` at full length one after the other for
///   ECDSA (section 3.4), as long as the modulus for RSA, 64 bytes for Ed25519. DER is refused.
/// - `sign` returns at once, and may be called by many threads at the same time. What takes time is
///   the future.
/// - The future resolves in bounded time, with [`SignerError::TimedOut`] at the latest: nobody else
///   keeps a time limit.
/// - The future may be dropped at any moment; a signature that nobody waits for is no harm.
///
/// [`SigningKey::remote`]: super::SigningKey::remote
pub trait Signer: Send + Sync + 'static {
    /// Begins to sign `input`, the JWS Signing Input (RFC 7515 section 5.1): the hash of the
    /// algorithm is still to be taken.
    fn sign(&self, input: &[u8]) -> Signing;
}

/// Why a signer has not signed. What it knows beyond that, it logs itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignerError {
    /// It did not answer in time.
    TimedOut,
    /// It cannot be reached.
    Unavailable,
    /// It refused: the key is unknown, disabled or not for this caller.
    Refused,
}

impl fmt::Display for SignerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SignerError::TimedOut => "the signer did not answer in time",
            SignerError::Unavailable => "the signer cannot be reached",
            SignerError::Refused => "the signer refused to sign",
        })
    }
}

impl std::error::Error for SignerError {}
