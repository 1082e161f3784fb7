//! What the benchmarks of the codec share, those of its peers too: one set of claims, one key of each
//! algorithm, and the bare primitive beside it.
// Each benchmark uses a part.
#![allow(dead_code)]

#[cfg(feature = "aws-lc-rs")]
pub(crate) mod bare_aws_lc;
pub(crate) mod bare_ring;
pub(crate) mod cpu_time;

use std::error::Error;
use std::sync::Arc;

use mintage::codec::algorithm::Algorithm;
use mintage::codec::claims::{AccessClaims, ClaimsWriter, ExtraClaims};
use mintage::codec::jws::{Scratch, SignError, Template, Verifier};
use mintage::codec::keyring::Keyring;
use mintage::codec::keys::SigningKey;
use mintage::time::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair};

pub(crate) type Made<T> = Result<T, Box<dyn Error>>;

pub(crate) const KID: &str = "2026-11";
pub(crate) const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
pub(crate) const RSA_PEM: &str = include_str!("../../tests/data/rsa2048.pk8.pem");
pub(crate) const NOW: Timestamp = Timestamp(1_700_000_100);
pub(crate) const ISSUER: &str = "https://login.example.com";
pub(crate) const AUDIENCE: &str = "https://api.example.com";
pub(crate) const CLIENT_ID: &str = "3MVG9lKcPoNINVBIPJjdw1J9LLM82HnFVVX19KY1uA5mu0";
pub(crate) const SUBJECT: &str = "005xx000001Sv6AAAS";
pub(crate) const SCOPE: &str = "api web refresh_token";
pub(crate) const JTI: &str = "7c9e6679-7425-40de-944b-e07fc1f90ae7";
pub(crate) const SID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

struct Session;

impl ExtraClaims for Session {
    fn write<'c>(&'c self, claims: &mut ClaimsWriter<'c>) -> Result<(), SignError> {
        claims.str("sid", SID)
    }
}

/// 328 bytes of JSON, as an authority with usual names would write.
pub(crate) fn claims() -> AccessClaims<'static> {
    AccessClaims {
        issuer: ISSUER,
        subject: SUBJECT,
        audience: &[AUDIENCE],
        client_id: CLIENT_ID,
        scope: SCOPE,
        issued_at: Timestamp(1_700_000_000),
        not_before: Some(Timestamp(1_700_000_000)),
        expires_at: Timestamp(4_000_000_000),
        jti: JTI,
        extra: &Session,
    }
}

/// The private key of an algorithm in PKCS#8, or the secret.
pub(crate) fn private_key(algorithm: Algorithm) -> Made<Vec<u8>> {
    let rng = SystemRandom::new();
    let ecdsa = |curve| {
        let der = EcdsaKeyPair::generate_pkcs8(curve, &rng).map_err(|_| "no randomness")?;
        Made::Ok(der.as_ref().to_vec())
    };
    match algorithm {
        Algorithm::Hs256 => Ok(SECRET.to_vec()),
        Algorithm::EdDsa => {
            let der = Ed25519KeyPair::generate_pkcs8(&rng).map_err(|_| "no randomness")?;
            Ok(der.as_ref().to_vec())
        }
        Algorithm::Es256 => ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
        Algorithm::Es384 => ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        _ => {
            let base64: String = RSA_PEM.lines().filter(|line| !line.starts_with('-')).collect();
            Ok(base64_simd::STANDARD.decode_to_vec(base64)?)
        }
    }
}

pub(crate) fn signing_key(algorithm: Algorithm, private: &[u8]) -> Made<SigningKey> {
    Ok(match algorithm {
        Algorithm::Hs256 => SigningKey::hmac(Some(KID), private)?,
        _ => SigningKey::from_pkcs8(algorithm, Some(KID), private)?,
    })
}

/// Whole tokens of one key.
pub(crate) struct Tokens {
    pub(crate) key: Arc<SigningKey>,
    template: Template,
    ring: Keyring,
    verifier: Verifier,
    scratch: Scratch,
    out: [u8; 1_024],
    /// One token of the key, and its raw signature.
    pub(crate) token: String,
    pub(crate) raw: Vec<u8>,
}

impl Tokens {
    pub(crate) fn new(key: SigningKey) -> Made<Tokens> {
        let ring = Keyring::new(key);
        let key = Arc::clone(ring.active());
        let template = Template::new(Arc::clone(&key), &claims())?;
        let mut out = [0; 1_024];
        let token = template.sign_into(&claims(), &mut out)?.to_owned();
        let (_, signature) = token.rsplit_once('.').ok_or("no signature")?;
        let raw = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(signature)?;
        let verifier = Verifier::new(ISSUER, &[AUDIENCE], 0).with_starts_of(&ring);
        Ok(Tokens { key, template, ring, verifier, scratch: Scratch::new(), out, token, raw })
    }

    /// The signing input of the token.
    pub(crate) fn input(&self) -> &[u8] {
        self.token.rsplit_once('.').map_or(b"", |(input, _)| input.as_bytes())
    }

    /// With the template of the client, as an authority signs.
    #[inline(never)]
    pub(crate) fn sign(&mut self, claims: &AccessClaims<'_>) -> bool {
        self.template.sign_into(claims, &mut self.out).map(str::len) == Ok(self.token.len())
    }

    /// As somebody signs who makes one token.
    #[inline(never)]
    pub(crate) fn sign_once(&mut self, claims: &AccessClaims<'_>) -> bool {
        self.key.sign_into(claims, &mut self.out).map(str::len) == Ok(self.token.len())
    }

    /// Header, signature, claims, issuer, audience, type and times.
    #[inline(never)]
    pub(crate) fn verify(&mut self, token: &[u8]) -> bool {
        self.verify_at(token, NOW)
    }

    #[inline(always)]
    pub(crate) fn verify_at(&mut self, token: &[u8], now: Timestamp) -> bool {
        let verified = self.verifier.verify(&self.ring, token, now, &mut self.scratch);
        verified.is_ok_and(|token| token.subject() == SUBJECT)
    }
}
