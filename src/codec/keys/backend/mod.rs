//! Who does the arithmetic of a key pair. ring is the default whatever features are on; a key goes to
//! another backend by [`SigningKey::with_backend`] or [`VerifyingKey::with_backend`].
//!
//! Every key is imported through ring and the checks of this crate first, so that what is refused
//! does not depend on the backend.
//!
//! [`SigningKey::with_backend`]: super::SigningKey::with_backend
//! [`VerifyingKey::with_backend`]: super::VerifyingKey::with_backend

#[cfg(feature = "aws-lc-rs")]
mod on_aws_lc;
mod on_ring;

use std::fmt;

use zeroize::Zeroizing;

use super::KeyError;
use crate::codec::algorithm::Algorithm;
use crate::codec::jwk::{Jwk, PublicMaterial};
use crate::codec::jws::SignError;

pub(super) use on_ring::{Pair as RingPair, ecdsa_curve};

/// The library that a key pair signs and verifies with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// The crate `ring`.
    #[default]
    Ring,
    /// The crate `aws-lc-rs`, with the feature of that name: on CPUs with AVX-512 it signs Ed25519
    /// and RSA more than twice and P-384 five times as fast as ring. It needs a C compiler.
    #[cfg(feature = "aws-lc-rs")]
    AwsLcRs,
}

impl Backend {
    /// Every backend that was compiled in.
    pub const ALL: &'static [Backend] = &[
        Backend::Ring,
        #[cfg(feature = "aws-lc-rs")]
        Backend::AwsLcRs,
    ];

    /// The name of its crate.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Backend::Ring => "ring",
            #[cfg(feature = "aws-lc-rs")]
            Backend::AwsLcRs => "aws-lc-rs",
        }
    }

    /// What stands for it in stored keys. A number is never given twice.
    pub(super) const fn number(self) -> u8 {
        match self {
            Backend::Ring => 0,
            #[cfg(feature = "aws-lc-rs")]
            Backend::AwsLcRs => 1,
        }
    }

    /// The backend of that number, or ring where it was not compiled in.
    pub(super) fn of_number(number: u8) -> Backend {
        let found = Backend::ALL.iter().find(|backend| backend.number() == number);
        found.copied().unwrap_or_default()
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The private half of a key pair as it came, for a backend to parse.
pub(super) enum PrivateForm<'a> {
    Pkcs8(&'a [u8]),
    /// The seed of an Ed25519 key (RFC 8032 section 5.1.5).
    Seed(&'a [u8]),
    Numbers(&'a PrivateNumbers),
}

/// The private numbers of a JWK, big-endian but for the Ed25519 seed.
pub(super) enum PrivateNumbers {
    /// `d` of an elliptic curve key: the scalar, or the Ed25519 seed.
    Curve(Zeroizing<Vec<u8>>),
    Rsa(Box<RsaNumbers>),
}

pub(super) struct RsaNumbers {
    pub(super) d: Zeroizing<Vec<u8>>,
    pub(super) p: Zeroizing<Vec<u8>>,
    pub(super) q: Zeroizing<Vec<u8>>,
    pub(super) dp: Zeroizing<Vec<u8>>,
    pub(super) dq: Zeroizing<Vec<u8>>,
    pub(super) qi: Zeroizing<Vec<u8>>,
}

/// A key pair, parsed.
#[cfg_attr(
    feature = "aws-lc-rs",
    expect(clippy::large_enum_variant, reason = "a process holds a handful of key pairs")
)]
pub(super) enum Pair {
    Ring(RingPair),
    #[cfg(feature = "aws-lc-rs")]
    AwsLc(on_aws_lc::Pair),
}

impl Pair {
    /// The pair whose public half is `public`, which was checked before.
    pub(super) fn new(
        backend: Backend,
        algorithm: Algorithm,
        public: &PublicMaterial,
        private: &PrivateForm<'_>,
    ) -> Result<Pair, KeyError> {
        match backend {
            Backend::Ring => RingPair::new(algorithm, public, private).map(Pair::Ring),
            #[cfg(feature = "aws-lc-rs")]
            Backend::AwsLcRs => on_aws_lc::Pair::new(algorithm, public, private).map(Pair::AwsLc),
        }
    }

    /// Signs `input` and writes the encoded signature to the start of `out`.
    pub(super) fn sign(&self, input: &[u8], out: &mut [u8]) -> Result<usize, SignError> {
        match self {
            Pair::Ring(pair) => pair.sign(input, out),
            #[cfg(feature = "aws-lc-rs")]
            Pair::AwsLc(pair) => pair.sign(input, out),
        }
    }
}

/// A public key, parsed as far as its backend can hold it parsed.
pub(super) enum Public {
    Ring(on_ring::Public),
    #[cfg(feature = "aws-lc-rs")]
    AwsLc(on_aws_lc::Public),
}

impl Public {
    pub(super) fn new(backend: Backend, jwk: &Jwk) -> Result<Public, KeyError> {
        match backend {
            Backend::Ring => Ok(Public::Ring(on_ring::Public::new(jwk))),
            #[cfg(feature = "aws-lc-rs")]
            Backend::AwsLcRs => on_aws_lc::Public::new(jwk).map(Public::AwsLc),
        }
    }

    pub(super) fn backend(&self) -> Backend {
        match self {
            Public::Ring(_) => Backend::Ring,
            #[cfg(feature = "aws-lc-rs")]
            Public::AwsLc(_) => Backend::AwsLcRs,
        }
    }

    /// Whether `signature` is this key's over `input`.
    pub(super) fn check(&self, input: &[u8], signature: &[u8]) -> bool {
        match self {
            Public::Ring(key) => key.check(input, signature),
            #[cfg(feature = "aws-lc-rs")]
            Public::AwsLc(key) => key.check(input, signature),
        }
    }
}
