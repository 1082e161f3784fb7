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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::keys::SigningKey;

    type Tested = Result<(), Box<dyn std::error::Error>>;

    /// The claims of RFC 7515 appendix A.1, A.2 and A.3.
    const PAYLOAD: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNv\
                           bS9pc19yb290Ijp0cnVlfQ";

    fn accepts(key: &VerifyingKey, input: &str, signature: &str) -> Result<bool, &'static str> {
        let raw = base64url::decode(signature).map_err(|_| "no base64url")?;
        for at in 0..raw.len() {
            let mut changed = raw.clone();
            changed[at] ^= 1;
            if key.check(input.as_bytes(), &changed) {
                return Err("a changed signature verified");
            }
        }
        Ok(key.check(input.as_bytes(), &raw))
    }

    #[test]
    fn rfc_7515_appendix_a_1_verifies() -> Tested {
        let k = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9\
                 CAow";
        let key = SigningKey::from_jwk(format!(r#"{{"kty":"oct","k":"{k}"}}"#).as_bytes())?;
        let input = format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{PAYLOAD}");
        let tag = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(accepts(key.verifying_key(), &input, tag), Ok(true));
        Ok(())
    }

    #[test]
    fn rfc_7515_appendix_a_3_verifies() -> Tested {
        let key = SigningKey::from_jwk(
            br#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
            "d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}"#,
        )?;
        let input = format!("eyJhbGciOiJFUzI1NiJ9.{PAYLOAD}");
        let signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJ\
                         qPP3-Kg6NU1Q";
        assert_eq!(accepts(key.verifying_key(), &input, signature), Ok(true));
        Ok(())
    }

    #[test]
    fn rfc_8037_appendix_a_signs_and_verifies() -> Tested {
        let key = SigningKey::from_jwk(
            br#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
            "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
        )?;
        let input = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sV\
                         vpAr_MuM0KAg";
        let mut out = [0; 86];
        assert_eq!(key.sign(input.as_bytes(), b"", &mut out), Ok(86));
        assert_eq!(std::str::from_utf8(&out)?, signature);
        assert_eq!(accepts(key.verifying_key(), input, signature), Ok(true));
        Ok(())
    }
}
