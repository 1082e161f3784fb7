//! The half of a key that checks signatures.

use std::fmt;
use std::sync::Arc;

use ring::hmac;

use super::absorbed::Absorbed;
use super::backend::{Backend, Public};
use super::{KeyError, check_kid};
use crate::codec::algorithm::Algorithm;
use crate::codec::base64url;
use crate::codec::jwk::{Jwk, PublicMaterial};
use crate::codec::jws::TokenType;
use crate::secret::same_bytes;

/// A key that verifies access tokens. Cloning shares it.
#[derive(Clone)]
pub struct VerifyingKey(Arc<Inner>);

struct Inner {
    algorithm: Algorithm,
    kid: Box<str>,
    /// For every type of token, what it starts with.
    starts: [Start; TokenType::ALL.len()],
    signature_len: usize,
    /// `None` for HMAC, whose key is never shown.
    jwk: Option<Jwk>,
    material: Material,
}

/// The header segment of one key and type of token, with its dot.
struct Start {
    text: Box<str>,
    absorbed: Option<Absorbed>,
}

enum Material {
    Hmac(Box<Absorbed>),
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
        signature.len() == self.signature_len() && self.check(None, input, signature)
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

    pub(super) fn from_hmac(kid: &str, key: &hmac::Key) -> Result<VerifyingKey, KeyError> {
        check_kid(kid)?;
        let material = Material::Hmac(Box::new(Absorbed::nothing(key)));
        Ok(VerifyingKey::new(Algorithm::Hs256, kid, 32, None, material))
    }

    fn new(
        algorithm: Algorithm,
        kid: &str,
        signature_len: usize,
        jwk: Option<Jwk>,
        material: Material,
    ) -> VerifyingKey {
        let starts = TokenType::ALL.map(|token| {
            let (typ, more) = (token.typ(), token.more());
            let header = format!(r#"{{"alg":"{algorithm}","typ":"{typ}","kid":"{kid}"{more}}}"#);
            let text = base64url::encode(header.as_bytes()) + ".";
            let absorbed = match &material {
                Material::Hmac(nothing) => Some(nothing.and(text.as_bytes())),
                _ => None,
            };
            Start { text: text.into(), absorbed }
        });
        let kid = kid.into();
        VerifyingKey(Arc::new(Inner { algorithm, kid, starts, signature_len, jwk, material }))
    }

    /// Whether both are one key, not only keys that are alike.
    #[inline(always)]
    pub(in crate::codec) fn is(&self, other: &VerifyingKey) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// What this key's tokens of that type start with: the header segment and its dot.
    pub(in crate::codec) fn start(&self, token: TokenType) -> &[u8] {
        self.0.starts[token as usize].text.as_bytes()
    }

    /// [`VerifyingKey::start`] as a MAC takes it in.
    pub(in crate::codec) fn absorbed_start(&self, token: TokenType) -> Option<&Absorbed> {
        self.0.starts[token as usize].absorbed.as_ref()
    }

    /// The exact length of a signature, in bytes.
    pub(in crate::codec) fn signature_len(&self) -> usize {
        self.0.signature_len
    }

    /// Whether `signature` is this key's over `input`, which starts with what was `absorbed`.
    pub(in crate::codec) fn check(
        &self,
        absorbed: Option<&Absorbed>,
        input: &[u8],
        signature: &[u8],
    ) -> bool {
        match &self.0.material {
            Material::Hmac(nothing) => {
                same_bytes(absorbed.unwrap_or(nothing).tag(input).as_ref(), signature)
            }
            Material::Public(key) => key.check(input, signature),
        }
    }
}
