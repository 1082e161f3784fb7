//! The primitives of the crate `aws-lc-rs`, all keys parsed.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, ParsedPublicKey, RsaEncoding,
    VerificationAlgorithm,
};
use aws_lc_rs::{hmac, rsa};
use mintage::codec::algorithm::Algorithm;

use super::Made;

pub(crate) enum Bare {
    Hmac(Box<hmac::Key>),
    Ecdsa(EcdsaKeyPair, ParsedPublicKey),
    Ed25519(Ed25519KeyPair, ParsedPublicKey),
    Rsa(rsa::KeyPair, &'static dyn RsaEncoding, ParsedPublicKey),
}

impl Bare {
    pub(crate) fn new(algorithm: Algorithm, private: &[u8]) -> Made<Bare> {
        let public = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8]| {
            Made::Ok(ParsedPublicKey::new(algorithm, key)?)
        };
        let rsa = |padding, parameters| {
            let pair = rsa::KeyPair::from_pkcs8(private)?;
            let key = public(parameters, pair.public_key().as_ref())?;
            Made::Ok(Bare::Rsa(pair, padding, key))
        };
        match algorithm {
            Algorithm::Hs256 => {
                Ok(Bare::Hmac(Box::new(hmac::Key::new(hmac::HMAC_SHA256, private))))
            }
            Algorithm::EdDsa => {
                let pair = Ed25519KeyPair::from_pkcs8(private)?;
                let key = public(&signature::ED25519, pair.public_key().as_ref())?;
                Ok(Bare::Ed25519(pair, key))
            }
            Algorithm::Es256 => {
                let curve = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
                let pair = EcdsaKeyPair::from_pkcs8(curve, private)?;
                let key = public(&signature::ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref())?;
                Ok(Bare::Ecdsa(pair, key))
            }
            Algorithm::Es384 => {
                let curve = &signature::ECDSA_P384_SHA384_FIXED_SIGNING;
                let pair = EcdsaKeyPair::from_pkcs8(curve, private)?;
                let key = public(&signature::ECDSA_P384_SHA384_FIXED, pair.public_key().as_ref())?;
                Ok(Bare::Ecdsa(pair, key))
            }
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
            Bare::Ed25519(pair, _) => {
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
            Bare::Ecdsa(_, key) | Bare::Ed25519(_, key) | Bare::Rsa(_, _, key) => {
                key.verify_sig(input, raw).is_ok()
            }
        }
    }
}
