//! The half of a key that checks signatures.

use std::fmt;
use std::sync::Arc;

use ring::hmac;

use super::backend::{Backend, Public};
use super::{KeyError, check_kid};
use crate::codec::algorithm::Algorithm;
use crate::codec::base64url;
use crate::codec::jwk::{Jwk, PublicMaterial};

/// A key that verifies access tokens. Cloning shares it.
#[derive(Clone)]
pub struct VerifyingKey(Arc<Inner>);

struct Inner {
    algorithm: Algorithm,
    kid: Box<str>,
    /// The encoded header segment of this key's access tokens, without the dot.
    header: Box<str>,
    signature_len: usize,
    /// `None` for HMAC, whose key is never shown.
    jwk: Option<Jwk>,
    material: Material,
}

enum Material {
    Hmac(hmac::Key),
    Public(Public),
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({} {:?})", self.algorithm(), self.kid())
    }
}

impl VerifyingKey {
    /// Reads the JWK of a public key. Without `kid`, the thumbprint (RFC 7638) is the `kid`.
    ///
    /// # Errors
    /// [`KeyError`], with what is wrong.
    pub fn from_jwk(json: &[u8]) -> Result<VerifyingKey, KeyError> {
        VerifyingKey::from_public(Jwk::parse(json)?, Backend::default())
    }

    /// The algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.0.algorithm
    }

    /// The identifier.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.0.kid
    }

    /// The public key with its `kid`; `None` for HMAC.
    #[must_use]
    pub fn public_jwk(&self) -> Option<&Jwk> {
        self.0.jwk.as_ref()
    }

    /// The backend that checks its signatures.
    #[must_use]
    pub fn backend(&self) -> Backend {
        match &self.0.material {
            Material::Hmac(_) => Backend::Ring,
            Material::Public(key) => key.backend(),
        }
    }

    /// This key on another backend. HS256 has no key pair and stays on ring, which is the faster
    /// one there.
    ///
    /// # Errors
    /// [`KeyError::Rejected`] when that backend refuses the key.
    pub fn with_backend(&self, backend: Backend) -> Result<VerifyingKey, KeyError> {
        match self.public_jwk() {
            Some(jwk) => VerifyingKey::from_public(jwk.clone(), backend),
            None => Ok(self.clone()),
        }
    }

    /// Whether `signature`, as it is before base64url, is this key's over `input` (the JWS Signing
    /// Input of RFC 7515 section 5.1, for instance). It says nothing about what `input` claims;
    /// a token is verified by [`Verifier`](crate::codec::jws::Verifier).
    #[must_use]
    pub fn verify(&self, input: &[u8], signature: &[u8]) -> bool {
        signature.len() == self.signature_len() && self.check(input, signature)
    }

    pub(super) fn from_public(jwk: Jwk, backend: Backend) -> Result<VerifyingKey, KeyError> {
        let kid = jwk.kid().map_or_else(|| jwk.thumbprint(), str::to_owned);
        let jwk = jwk.with_kid(&kid)?;
        let algorithm = jwk.algorithm();
        let signature_len = match jwk.material() {
            PublicMaterial::Okp { .. } => 64,
            PublicMaterial::Ec { point } => point.len() - 1,
            PublicMaterial::Rsa { n, .. } => n.len(),
        };
        let material = Material::Public(Public::new(backend, &jwk)?);
        Ok(VerifyingKey::new(algorithm, &kid, signature_len, Some(jwk), material))
    }

    pub(super) fn from_hmac(kid: &str, key: hmac::Key) -> Result<VerifyingKey, KeyError> {
        check_kid(kid)?;
        Ok(VerifyingKey::new(Algorithm::Hs256, kid, 32, None, Material::Hmac(key)))
    }

    fn new(
        algorithm: Algorithm,
        kid: &str,
        signature_len: usize,
        jwk: Option<Jwk>,
        material: Material,
    ) -> VerifyingKey {
        let header = format!(r#"{{"alg":"{algorithm}","typ":"at+jwt","kid":"{kid}"}}"#);
        let header = base64url::encode(header.as_bytes()).into();
        let kid = kid.into();
        VerifyingKey(Arc::new(Inner { algorithm, kid, header, signature_len, jwk, material }))
    }

    /// The encoded header segment of this key's access tokens.
    pub(in crate::codec) fn header(&self) -> &[u8] {
        self.0.header.as_bytes()
    }

    /// The exact length of a signature, in bytes.
    pub(in crate::codec) fn signature_len(&self) -> usize {
        self.0.signature_len
    }

    /// Whether `signature` is this key's over `input`.
    pub(in crate::codec) fn check(&self, input: &[u8], signature: &[u8]) -> bool {
        match &self.0.material {
            Material::Hmac(key) => hmac::verify(key, input, signature).is_ok(),
            Material::Public(key) => key.check(input, signature),
        }
    }
}
