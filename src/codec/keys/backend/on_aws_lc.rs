//! Key pairs on the crate `aws-lc-rs`, private and public halves parsed once.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, KeyPairComponents, PublicKeyComponents};
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, ParsedPublicKey,
    RsaEncoding,
};

use super::{PrivateForm, PrivateNumbers, RsaNumbers};
use crate::codec::algorithm::Algorithm;
use crate::codec::base64url;
use crate::codec::jwk::{Jwk, PublicMaterial};
use crate::codec::jws::SignError;
use crate::codec::keys::{KeyError, RSA_SIGN_BITS_MAX};

const ED25519_SEED_LEN: usize = 32;

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
        let pair = match public {
            PublicMaterial::Ec { point } => {
                let curve = ecdsa_curve(algorithm)?;
                let pair = match private {
                    PrivateForm::Pkcs8(der) => EcdsaKeyPair::from_pkcs8(curve, der)?,
                    PrivateForm::Numbers(PrivateNumbers::Curve(d)) => {
                        EcdsaKeyPair::from_private_key_and_public_key(curve, d, point)?
                    }
                    _ => return Err(KeyError::AlgorithmMismatch),
                };
                same(pair.public_key().as_ref(), point)?;
                Pair::Ecdsa(pair)
            }
            PublicMaterial::Okp { x } => {
                let pair = match private {
                    PrivateForm::Pkcs8(der) => Ed25519KeyPair::from_pkcs8_maybe_unchecked(der)?,
                    PrivateForm::Seed(seed) => from_seed(seed)?,
                    PrivateForm::Numbers(PrivateNumbers::Curve(d)) => from_seed(d)?,
                    PrivateForm::Numbers(_) => return Err(KeyError::AlgorithmMismatch),
                };
                same(pair.public_key().as_ref(), x)?;
                Pair::Ed25519(pair)
            }
            PublicMaterial::Rsa { n, e } => {
                let pair = match private {
                    PrivateForm::Pkcs8(der) => rsa::KeyPair::from_pkcs8(der)?,
                    PrivateForm::Numbers(PrivateNumbers::Rsa(numbers)) => rsa_pair(n, e, numbers)?,
                    _ => return Err(KeyError::AlgorithmMismatch),
                };
                if pair.public_modulus_len() != n.len() {
                    return Err(KeyError::Inconsistent);
                }
                Pair::Rsa(pair, rsa_padding(algorithm)?)
            }
        };
        Ok(pair)
    }

    pub(super) fn sign(&self, input: &[u8], out: &mut [u8]) -> Result<usize, SignError> {
        let failed = |_| SignError::Refused;
        let written = match self {
            Pair::Ed25519(pair) => {
                base64url::encode_into(pair.try_sign(input).map_err(failed)?.as_ref(), out)
            }
            Pair::Ecdsa(pair) => {
                let raw = pair.sign(&SystemRandom::new(), input).map_err(failed)?;
                base64url::encode_into(raw.as_ref(), out)
            }
            Pair::Rsa(pair, padding) => {
                let mut raw = [0; RSA_SIGN_BITS_MAX / 8];
                let raw = raw.get_mut(..pair.public_modulus_len()).ok_or(SignError::Refused)?;
                pair.sign(*padding, &SystemRandom::new(), input, raw).map_err(failed)?;
                base64url::encode_into(raw, out)
            }
        };
        written.ok_or(SignError::BufferTooShort)
    }
}

/// aws-lc-rs refuses a seed that is too short, and says nothing of one that is too long.
fn from_seed(seed: &[u8]) -> Result<Ed25519KeyPair, KeyError> {
    if seed.len() != ED25519_SEED_LEN {
        return Err(KeyError::Inconsistent);
    }
    Ok(Ed25519KeyPair::from_seed_unchecked(seed)?)
}

fn rsa_pair(n: &[u8], e: &[u8], numbers: &RsaNumbers) -> Result<rsa::KeyPair, KeyError> {
    let RsaNumbers { d, p, q, dp, dq, qi } = numbers;
    Ok(rsa::KeyPair::from_components(&KeyPairComponents {
        public_key: PublicKeyComponents { n, e },
        d: d.as_slice(),
        p: p.as_slice(),
        q: q.as_slice(),
        dP: dp.as_slice(),
        dQ: dq.as_slice(),
        qInv: qi.as_slice(),
    })?)
}

fn same(derived: &[u8], stated: &[u8]) -> Result<(), KeyError> {
    if derived == stated { Ok(()) } else { Err(KeyError::Inconsistent) }
}

fn ecdsa_curve(algorithm: Algorithm) -> Result<&'static EcdsaSigningAlgorithm, KeyError> {
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

pub(in crate::codec::keys) struct Public(ParsedPublicKey);

impl Public {
    pub(super) fn new(jwk: &Jwk) -> Result<Public, KeyError> {
        let parsed = match jwk.material() {
            PublicMaterial::Okp { x } => ParsedPublicKey::new(&signature::ED25519, x)?,
            PublicMaterial::Ec { point } => match jwk.algorithm() {
                Algorithm::Es384 => {
                    ParsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point)?
                }
                _ => ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)?,
            },
            PublicMaterial::Rsa { n, e } => {
                let padding = match jwk.algorithm() {
                    Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
                    _ => &signature::RSA_PKCS1_2048_8192_SHA256,
                };
                PublicKeyComponents { n, e }.to_parsed_public_key(padding)?
            }
        };
        Ok(Public(parsed))
    }

    pub(super) fn check(&self, input: &[u8], signature: &[u8]) -> bool {
        self.0.verify_sig(input, signature).is_ok()
    }
}
