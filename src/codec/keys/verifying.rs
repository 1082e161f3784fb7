//! The half of a key that checks signatures.

use std::fmt;
use std::sync::Arc;

use ring::signature::{self, EcdsaVerificationAlgorithm, RsaParameters, RsaPublicKeyComponents};
use ring::{hmac, signature::UnparsedPublicKey};

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
    Ecdsa(&'static EcdsaVerificationAlgorithm, Vec<u8>),
    Ed25519([u8; 32]),
    Rsa(&'static RsaParameters, RsaPublicKeyComponents<Vec<u8>>),
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
        VerifyingKey::from_public(Jwk::parse(json)?)
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

    pub(super) fn from_public(jwk: Jwk) -> Result<VerifyingKey, KeyError> {
        let kid = jwk.kid().map_or_else(|| jwk.thumbprint(), str::to_owned);
        let jwk = jwk.with_kid(&kid)?;
        let algorithm = jwk.algorithm();
        let (material, signature_len) = match jwk.material() {
            PublicMaterial::Okp { x } => (Material::Ed25519(*x), 64),
            PublicMaterial::Ec { point } => {
                let (curve, len) = match algorithm {
                    Algorithm::Es384 => (&signature::ECDSA_P384_SHA384_FIXED, 96),
                    _ => (&signature::ECDSA_P256_SHA256_FIXED, 64),
                };
                (Material::Ecdsa(curve, point.clone()), len)
            }
            PublicMaterial::Rsa { n, e } => {
                let padding = match algorithm {
                    Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
                    _ => &signature::RSA_PKCS1_2048_8192_SHA256,
                };
                let key = RsaPublicKeyComponents { n: n.clone(), e: e.clone() };
                (Material::Rsa(padding, key), n.len())
            }
        };
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
            Material::Ecdsa(curve, point) => {
                UnparsedPublicKey::new(*curve, point).verify(input, signature).is_ok()
            }
            Material::Ed25519(key) => {
                UnparsedPublicKey::new(&signature::ED25519, key).verify(input, signature).is_ok()
            }
            Material::Rsa(padding, key) => key.verify(padding, input, signature).is_ok(),
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
