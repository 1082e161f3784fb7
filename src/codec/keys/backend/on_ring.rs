//! Key pairs on the crate `ring`. It has no parsed form of a public key.

use ring::rand::SystemRandom;
use ring::rsa::{self, KeyPairComponents, PublicKeyComponents};
use ring::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, EcdsaVerificationAlgorithm, Ed25519KeyPair,
    KeyPair as _, RsaEncoding, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};

use super::{PrivateForm, PrivateNumbers, RsaNumbers};
use crate::codec::algorithm::Algorithm;
use crate::codec::base64url;
use crate::codec::jwk::{Jwk, PublicMaterial};
use crate::codec::jws::SignError;
use crate::codec::keys::der::rsa_modulus_bits;
use crate::codec::keys::{KeyError, RSA_BITS_MIN, RSA_SIGN_BITS_MAX};

pub(in crate::codec::keys) enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(rsa::KeyPair, &'static dyn RsaEncoding),
}

impl Pair {
    pub(super) fn new(
        algorithm: Algorithm,
        public: &PublicMaterial,
        private: &PrivateForm<'_>,
    ) -> Result<Pair, KeyError> {
        match (private, public) {
            (PrivateForm::Pkcs8(der), _) => Pair::from_pkcs8(algorithm, der).map(|(pair, _)| pair),
            (PrivateForm::Seed(seed), _) => Pair::from_seed(seed).map(|(pair, _)| pair),
            (PrivateForm::Numbers(numbers), public) => {
                Pair::from_numbers(algorithm, public, numbers)
            }
        }
    }

    /// The pair in a PKCS#8 text, and its public half.
    pub(in crate::codec::keys) fn from_pkcs8(
        algorithm: Algorithm,
        der: &[u8],
    ) -> Result<(Pair, PublicMaterial), KeyError> {
        match algorithm {
            Algorithm::Hs256 => Err(KeyError::AlgorithmMismatch),
            Algorithm::Es256 | Algorithm::Es384 => {
                let rng = SystemRandom::new();
                let pair = EcdsaKeyPair::from_pkcs8(ecdsa_curve(algorithm)?, der, &rng)?;
                let point = pair.public_key().as_ref().to_vec();
                Ok((Pair::Ecdsa(pair), PublicMaterial::Ec { point }))
            }
            Algorithm::EdDsa => ed25519(Ed25519KeyPair::from_pkcs8_maybe_unchecked(der)?),
            Algorithm::Rs256 | Algorithm::Ps256 => {
                let pair = rsa::KeyPair::from_pkcs8(der).map_err(|error| {
                    let is_long = |bits| bits >= RSA_BITS_MIN;
                    match KeyError::from(error) {
                        KeyError::RsaTooShort if rsa_modulus_bits(der).is_some_and(is_long) => {
                            KeyError::BadRsaExponent
                        }
                        error => error,
                    }
                })?;
                let PublicKeyComponents { n, e } =
                    PublicKeyComponents::<Vec<u8>>::from(pair.public());
                Ok((Pair::Rsa(pair, rsa_padding(algorithm)?), PublicMaterial::Rsa { n, e }))
            }
        }
    }

    /// The pair of an Ed25519 seed, and its public half.
    pub(in crate::codec::keys) fn from_seed(
        seed: &[u8],
    ) -> Result<(Pair, PublicMaterial), KeyError> {
        ed25519(Ed25519KeyPair::from_seed_unchecked(seed)?)
    }

    fn from_numbers(
        algorithm: Algorithm,
        public: &PublicMaterial,
        numbers: &PrivateNumbers,
    ) -> Result<Pair, KeyError> {
        match (public, numbers) {
            (PublicMaterial::Ec { point }, PrivateNumbers::Curve(d)) => {
                let pair = EcdsaKeyPair::from_private_key_and_public_key(
                    ecdsa_curve(algorithm)?,
                    d,
                    point,
                    &SystemRandom::new(),
                )?;
                Ok(Pair::Ecdsa(pair))
            }
            (PublicMaterial::Okp { x }, PrivateNumbers::Curve(d)) => {
                Ok(Pair::Ed25519(Ed25519KeyPair::from_seed_and_public_key(d, x)?))
            }
            (PublicMaterial::Rsa { n, e }, PrivateNumbers::Rsa(numbers)) => {
                let RsaNumbers { d, p, q, dp, dq, qi } = &**numbers;
                let pair = rsa::KeyPair::from_components(&KeyPairComponents {
                    public_key: PublicKeyComponents { n, e },
                    d: d.as_slice(),
                    p: p.as_slice(),
                    q: q.as_slice(),
                    dP: dp.as_slice(),
                    dQ: dq.as_slice(),
                    qInv: qi.as_slice(),
                })?;
                Ok(Pair::Rsa(pair, rsa_padding(algorithm)?))
            }
            _ => Err(KeyError::AlgorithmMismatch),
        }
    }

    pub(super) fn sign(&self, input: &[u8], out: &mut [u8]) -> Result<usize, SignError> {
        let failed = |_| SignError::Refused;
        let written = match self {
            Pair::Ed25519(pair) => base64url::encode_into(pair.sign(input).as_ref(), out),
            Pair::Ecdsa(pair) => {
                let raw = pair.sign(&SystemRandom::new(), input).map_err(failed)?;
                base64url::encode_into(raw.as_ref(), out)
            }
            Pair::Rsa(pair, padding) => {
                let mut raw = [0; RSA_SIGN_BITS_MAX / 8];
                let raw = raw.get_mut(..pair.public().modulus_len()).ok_or(SignError::Refused)?;
                pair.sign(*padding, &SystemRandom::new(), input, raw).map_err(failed)?;
                base64url::encode_into(raw, out)
            }
        };
        written.ok_or(SignError::BufferTooShort)
    }
}

fn ed25519(pair: Ed25519KeyPair) -> Result<(Pair, PublicMaterial), KeyError> {
    let x = pair.public_key().as_ref().try_into().map_err(|_| KeyError::Inconsistent)?;
    Ok((Pair::Ed25519(pair), PublicMaterial::Okp { x }))
}

pub(in crate::codec::keys) fn ecdsa_curve(
    algorithm: Algorithm,
) -> Result<&'static EcdsaSigningAlgorithm, KeyError> {
    match algorithm {
        Algorithm::Es256 => Ok(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
        Algorithm::Es384 => Ok(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        _ => Err(KeyError::AlgorithmMismatch),
    }
}

fn rsa_padding(algorithm: Algorithm) -> Result<&'static dyn RsaEncoding, KeyError> {
    match algorithm {
        Algorithm::Rs256 => Ok(&signature::RSA_PKCS1_SHA256),
        Algorithm::Ps256 => Ok(&signature::RSA_PSS_SHA256),
        _ => Err(KeyError::AlgorithmMismatch),
    }
}

pub(in crate::codec::keys) enum Public {
    Ecdsa(&'static EcdsaVerificationAlgorithm, Vec<u8>),
    Ed25519([u8; 32]),
    Rsa(&'static RsaParameters, RsaPublicKeyComponents<Vec<u8>>),
}

impl Public {
    pub(super) fn new(jwk: &Jwk) -> Public {
        match jwk.material() {
            PublicMaterial::Okp { x } => Public::Ed25519(*x),
            PublicMaterial::Ec { point } => {
                let curve = match jwk.algorithm() {
                    Algorithm::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
                    _ => &signature::ECDSA_P256_SHA256_FIXED,
                };
                Public::Ecdsa(curve, point.clone())
            }
            PublicMaterial::Rsa { n, e } => {
                let padding = match jwk.algorithm() {
                    Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
                    _ => &signature::RSA_PKCS1_2048_8192_SHA256,
                };
                Public::Rsa(padding, RsaPublicKeyComponents { n: n.clone(), e: e.clone() })
            }
        }
    }

    pub(super) fn check(&self, input: &[u8], signature: &[u8]) -> bool {
        match self {
            Public::Ecdsa(curve, point) => {
                UnparsedPublicKey::new(*curve, point).verify(input, signature).is_ok()
            }
            Public::Ed25519(key) => {
                UnparsedPublicKey::new(&signature::ED25519, key).verify(input, signature).is_ok()
            }
            Public::Rsa(padding, key) => key.verify(padding, input, signature).is_ok(),
        }
    }
}
