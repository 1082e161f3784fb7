//! The primitives of the crate `ring`, keys parsed as far as it can hold them parsed.

use mintage::codec::algorithm::Algorithm;
use ring::rand::SystemRandom;
use ring::signature::{
    self, EcdsaKeyPair, EcdsaVerificationAlgorithm, Ed25519KeyPair, KeyPair as _, RsaEncoding,
    RsaParameters, UnparsedPublicKey,
};
use ring::{hmac, rsa};

use super::Made;

pub(crate) enum Bare {
    Hmac(hmac::Key),
    Ecdsa(EcdsaKeyPair, &'static EcdsaVerificationAlgorithm),
    Ed25519(Ed25519KeyPair),
    Rsa(rsa::KeyPair, &'static dyn RsaEncoding, &'static RsaParameters),
}

impl Bare {
    pub(crate) fn new(algorithm: Algorithm, private: &[u8]) -> Made<Bare> {
        let rng = SystemRandom::new();
        let rejected = |error: ring::error::KeyRejected| error.to_string();
        let ecdsa = |signing, verifying| {
            let pair = EcdsaKeyPair::from_pkcs8(signing, private, &rng).map_err(rejected)?;
            Made::Ok(Bare::Ecdsa(pair, verifying))
        };
        let rsa = |padding, parameters| {
            let pair = rsa::KeyPair::from_pkcs8(private).map_err(rejected)?;
            Made::Ok(Bare::Rsa(pair, padding, parameters))
        };
        match algorithm {
            Algorithm::Hs256 => Ok(Bare::Hmac(hmac::Key::new(hmac::HMAC_SHA256, private))),
            Algorithm::EdDsa => {
                Ok(Bare::Ed25519(Ed25519KeyPair::from_pkcs8(private).map_err(rejected)?))
            }
            Algorithm::Es256 => ecdsa(
                &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
                &signature::ECDSA_P256_SHA256_FIXED,
            ),
            Algorithm::Es384 => ecdsa(
                &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
                &signature::ECDSA_P384_SHA384_FIXED,
            ),
            Algorithm::Ps256 => {
                rsa(&signature::RSA_PSS_SHA256, &signature::RSA_PSS_2048_8192_SHA256)
            }
            _ => rsa(&signature::RSA_PKCS1_SHA256, &signature::RSA_PKCS1_2048_8192_SHA256),
        }
    }

    #[inline(never)]
    pub(crate) fn sign(&self, input: &[u8], out: &mut [u8; 256]) -> bool {
        match self {
            Bare::Hmac(key) => {
                out[..32].copy_from_slice(hmac::sign(key, input).as_ref());
                true
            }
            Bare::Ed25519(pair) => {
                out[..64].copy_from_slice(pair.sign(input).as_ref());
                true
            }
            Bare::Ecdsa(pair, _) => pair.sign(&SystemRandom::new(), input).is_ok_and(|signature| {
                out[..signature.as_ref().len()].copy_from_slice(signature.as_ref());
                true
            }),
            Bare::Rsa(pair, padding, _) => {
                pair.sign(*padding, &SystemRandom::new(), input, out).is_ok()
            }
        }
    }

    #[inline(never)]
    pub(crate) fn verify(&self, input: &[u8], raw: &[u8]) -> bool {
        match self {
            Bare::Hmac(key) => hmac::verify(key, input, raw).is_ok(),
            Bare::Ed25519(pair) => {
                let key = UnparsedPublicKey::new(&signature::ED25519, pair.public_key());
                key.verify(input, raw).is_ok()
            }
            Bare::Ecdsa(pair, curve) => {
                UnparsedPublicKey::new(*curve, pair.public_key()).verify(input, raw).is_ok()
            }
            Bare::Rsa(pair, _, parameters) => {
                let key = UnparsedPublicKey::new(*parameters, pair.public().as_ref());
                key.verify(input, raw).is_ok()
            }
        }
    }
}
