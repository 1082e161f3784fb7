//! The half of a key that signs, with its private material.

use std::fmt;

use ring::rand::SystemRandom;
use ring::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaEncoding,
};
use ring::{hmac, rsa};
use zeroize::Zeroizing;

use super::private_jwk::{self, PrivateJwk};
use super::verifying::VerifyingKey;
use super::{HMAC_SECRET_LEN_MIN, KEY_TEXT_LEN_MAX, KeyError, RSA_SIGN_BITS_MAX, check_kid, pem};
use crate::codec::algorithm::Algorithm;
use crate::codec::base64url;
use crate::codec::jwk::{Jwk, PublicMaterial, thumbprint};
use crate::codec::jws::SignError;
use crate::entropy::{Entropy, random};

/// What [`SigningKey::to_private_bytes`] starts with.
const PRIVATE_FORMAT: u8 = 1;

/// A key that signs access tokens, parsed once and held parsed. What it was imported from is kept
/// for [`SigningKey::to_private_bytes`] and wiped when dropped; `Debug` shows no secret.
pub struct SigningKey {
    material: Material,
    public: VerifyingKey,
    source: Source,
}

pub(super) enum Material {
    /// The context has the header segment and its dot absorbed.
    Hmac(hmac::Context),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(rsa::KeyPair, &'static dyn RsaEncoding),
}

/// The private key as it came.
struct Source {
    form: Form,
    bytes: Zeroizing<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Pkcs8 = 1,
    Jwk = 2,
    /// An HMAC secret, or the seed of an Ed25519 key (RFC 8032 section 5.1.5).
    Secret = 3,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({} {:?}, [redacted])", self.algorithm(), self.kid())
    }
}

impl SigningKey {
    /// A private key in PKCS#8 (RFC 5208, RFC 5958), as `openssl genpkey -outform DER` writes it.
    /// Without `kid`, the thumbprint (RFC 7638) is the `kid`.
    ///
    /// # Errors
    /// [`KeyError`], with what is wrong. HMAC secrets have no PKCS#8 form.
    pub fn from_pkcs8(
        algorithm: Algorithm,
        kid: Option<&str>,
        der: &[u8],
    ) -> Result<SigningKey, KeyError> {
        if der.len() > KEY_TEXT_LEN_MAX {
            return Err(KeyError::TooLong);
        }
        let (material, public) = match algorithm {
            Algorithm::Hs256 => return Err(KeyError::AlgorithmMismatch),
            Algorithm::Es256 | Algorithm::Es384 => {
                let rng = SystemRandom::new();
                let pair = EcdsaKeyPair::from_pkcs8(ecdsa_signing(algorithm)?, der, &rng)?;
                let point = pair.public_key().as_ref().to_vec();
                (Material::Ecdsa(pair), PublicMaterial::Ec { point })
            }
            Algorithm::EdDsa => ed25519_parts(Ed25519KeyPair::from_pkcs8_maybe_unchecked(der)?)?,
            Algorithm::Rs256 | Algorithm::Ps256 => {
                let pair = rsa::KeyPair::from_pkcs8(der)?;
                let public = rsa::PublicKeyComponents::<Vec<u8>>::from(pair.public());
                if public.n.len() * 8 > RSA_SIGN_BITS_MAX {
                    return Err(KeyError::RsaTooLong);
                }
                let material = Material::Rsa(pair, rsa_padding(algorithm)?);
                (material, PublicMaterial::Rsa { n: public.n, e: public.e })
            }
        };
        let source = Source { form: Form::Pkcs8, bytes: Zeroizing::new(der.to_vec()) };
        SigningKey::from_pair(material, Jwk::new(algorithm, public)?, kid, source)
    }

    /// As [`SigningKey::from_pkcs8`], from its PEM text (`BEGIN PRIVATE KEY`, RFC 7468 section 10).
    ///
    /// # Errors
    /// [`KeyError`], with what is wrong.
    pub fn from_pem(
        algorithm: Algorithm,
        kid: Option<&str>,
        pem: &str,
    ) -> Result<SigningKey, KeyError> {
        SigningKey::from_pkcs8(algorithm, kid, &pem::der_of(pem)?)
    }

    /// A private key as JWK (RFC 7517, RFC 7518 section 6, RFC 8037), `oct` included. `use`,
    /// `key_ops` and `alg` must allow what it is for; `alg` may be left out where the key type
    /// allows one algorithm only. Without `kid`, the thumbprint is the `kid`.
    ///
    /// # Errors
    /// [`KeyError`], with what is wrong.
    pub fn from_jwk(json: &[u8]) -> Result<SigningKey, KeyError> {
        match private_jwk::read(json)? {
            PrivateJwk::Hmac { kid, secret, key } => {
                SigningKey::from_hmac(kid.as_deref(), &secret, &key)
            }
            PrivateJwk::Pair { public, material } => {
                let source = Source { form: Form::Jwk, bytes: Zeroizing::new(json.to_vec()) };
                SigningKey::from_pair(material, public, None, source)
            }
        }
    }

    /// An HMAC key for [`Algorithm::Hs256`] from at least [`HMAC_SECRET_LEN_MIN`] secret bytes.
    ///
    /// # Errors
    /// [`KeyError::SecretTooShort`], [`KeyError::TooLong`], [`KeyError::BadKid`].
    pub fn hmac(kid: Option<&str>, secret: &[u8]) -> Result<SigningKey, KeyError> {
        SigningKey::from_hmac(kid, secret, &hmac_key(secret)?)
    }

    /// A fresh key. HS256 and EdDSA keys follow from `entropy` alone; ring draws ECDSA keys from
    /// the operating system itself.
    ///
    /// # Errors
    /// [`KeyError::RsaImportOnly`] for RSA, [`KeyError::Entropy`], [`KeyError::BadKid`].
    pub fn generate(
        algorithm: Algorithm,
        kid: Option<&str>,
        entropy: &dyn Entropy,
    ) -> Result<SigningKey, KeyError> {
        match algorithm {
            Algorithm::Hs256 | Algorithm::EdDsa => {
                let seed = Zeroizing::new(random::<32>(entropy).map_err(KeyError::Entropy)?);
                SigningKey::from_secret(algorithm, kid, seed.as_slice())
            }
            Algorithm::Es256 | Algorithm::Es384 => {
                let curve = ecdsa_signing(algorithm)?;
                let der = EcdsaKeyPair::generate_pkcs8(curve, &SystemRandom::new())
                    .map_err(|_| KeyError::Entropy(crate::entropy::EntropyError))?;
                SigningKey::from_pkcs8(algorithm, kid, der.as_ref())
            }
            Algorithm::Rs256 | Algorithm::Ps256 => Err(KeyError::RsaImportOnly),
        }
    }

    /// The algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.public.algorithm()
    }

    /// The identifier.
    #[must_use]
    pub fn kid(&self) -> &str {
        self.public.kid()
    }

    /// The half that verifies what this key signs. For HMAC it holds the same secret.
    #[must_use]
    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.public
    }

    /// The public key with its `kid`; `None` for HMAC.
    #[must_use]
    pub fn public_jwk(&self) -> Option<&Jwk> {
        self.public.public_jwk()
    }

    /// Everything that [`SigningKey::from_private_bytes`] needs, in the clear: seal it before it is
    /// stored.
    ///
    /// ```text
    /// format 1 | algorithm name, NUL | kid, NUL | form 1 | key as it was imported
    /// ```
    #[must_use]
    pub fn to_private_bytes(&self) -> Zeroizing<Vec<u8>> {
        let (name, kid) = (self.algorithm().name(), self.kid());
        // The exact capacity, so that no copy of the secret is left behind by growing.
        let len = 1 + name.len() + 1 + kid.len() + 1 + 1 + self.source.bytes.len();
        let mut out = Zeroizing::new(Vec::with_capacity(len));
        out.push(PRIVATE_FORMAT);
        out.extend_from_slice(name.as_bytes());
        out.push(0);
        out.extend_from_slice(kid.as_bytes());
        out.push(0);
        out.push(self.source.form as u8);
        out.extend_from_slice(&self.source.bytes);
        out
    }

    /// The key that [`SigningKey::to_private_bytes`] wrote.
    ///
    /// # Errors
    /// [`KeyError::BadPrivateBytes`], or what is wrong with the key inside.
    pub fn from_private_bytes(bytes: &[u8]) -> Result<SigningKey, KeyError> {
        let (algorithm, kid, form, key) = split_private(bytes).ok_or(KeyError::BadPrivateBytes)?;
        match form {
            Form::Pkcs8 => SigningKey::from_pkcs8(algorithm, Some(kid), key),
            Form::Secret => SigningKey::from_secret(algorithm, Some(kid), key),
            Form::Jwk => {
                let read = SigningKey::from_jwk(key)?;
                if read.algorithm() != algorithm || read.kid() != kid {
                    return Err(KeyError::BadPrivateBytes);
                }
                Ok(read)
            }
        }
    }

    fn from_secret(
        algorithm: Algorithm,
        kid: Option<&str>,
        secret: &[u8],
    ) -> Result<SigningKey, KeyError> {
        match algorithm {
            Algorithm::Hs256 => SigningKey::hmac(kid, secret),
            Algorithm::EdDsa => {
                let pair = Ed25519KeyPair::from_seed_unchecked(secret)?;
                let (material, public) = ed25519_parts(pair)?;
                let source = Source { form: Form::Secret, bytes: Zeroizing::new(secret.to_vec()) };
                SigningKey::from_pair(material, Jwk::new(algorithm, public)?, kid, source)
            }
            _ => Err(KeyError::AlgorithmMismatch),
        }
    }

    fn from_hmac(
        kid: Option<&str>,
        secret: &[u8],
        key: &hmac::Key,
    ) -> Result<SigningKey, KeyError> {
        let kid = kid.map_or_else(|| hmac_thumbprint(secret), |kid| kid.to_owned().into());
        let public = VerifyingKey::from_hmac(&kid, key.clone())?;
        let mut context = hmac::Context::with_key(key);
        context.update(public.header());
        context.update(b".");
        let source = Source { form: Form::Secret, bytes: Zeroizing::new(secret.to_vec()) };
        Ok(SigningKey { material: Material::Hmac(context), public, source })
    }

    /// `kid` overrides what the JWK says; ring checks a private key only in part when it is read,
    /// so a probe is signed and verified.
    fn from_pair(
        material: Material,
        public: Jwk,
        kid: Option<&str>,
        source: Source,
    ) -> Result<SigningKey, KeyError> {
        let public = match kid {
            Some(kid) => public.with_kid(kid)?,
            None => public,
        };
        let key = SigningKey { material, public: VerifyingKey::from_public(public)?, source };
        let mut text = [0; base64url::encoded_len(RSA_SIGN_BITS_MAX / 8)];
        let mut raw = [0; RSA_SIGN_BITS_MAX / 8];
        let probe = b"mintage: does this key pair belong together?";
        let len = key.sign(probe, b"", &mut text).map_err(|_| KeyError::Inconsistent)?;
        let text = text.get(..len).ok_or(KeyError::Inconsistent)?;
        let raw = base64url::decode_into(text, &mut raw).map_err(|_| KeyError::Inconsistent)?;
        if key.public.check(probe, raw) { Ok(key) } else { Err(KeyError::Inconsistent) }
    }

    /// Signs `input` and writes the encoded signature to the start of `out`. `payload` is what
    /// follows the header segment and its dot in `input`.
    pub(in crate::codec) fn sign(
        &self,
        input: &[u8],
        payload: &[u8],
        out: &mut [u8],
    ) -> Result<usize, SignError> {
        let failed = |_| SignError::Refused;
        let encode = |raw: &[u8], out| base64url::encode_into(raw, out);
        let written = match &self.material {
            Material::Hmac(context) => {
                let mut context = context.clone();
                context.update(payload);
                encode(context.sign().as_ref(), out)
            }
            Material::Ed25519(pair) => encode(pair.sign(input).as_ref(), out),
            Material::Ecdsa(pair) => {
                let raw = pair.sign(&SystemRandom::new(), input).map_err(failed)?;
                encode(raw.as_ref(), out)
            }
            Material::Rsa(pair, padding) => {
                let mut raw = [0; RSA_SIGN_BITS_MAX / 8];
                let raw = raw.get_mut(..pair.public().modulus_len()).ok_or(SignError::Refused)?;
                pair.sign(*padding, &SystemRandom::new(), input, raw).map_err(failed)?;
                encode(raw, out)
            }
        };
        written.ok_or(SignError::BufferTooShort)
    }
}

pub(super) fn ecdsa_signing(
    algorithm: Algorithm,
) -> Result<&'static EcdsaSigningAlgorithm, KeyError> {
    match algorithm {
        Algorithm::Es256 => Ok(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
        Algorithm::Es384 => Ok(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        _ => Err(KeyError::AlgorithmMismatch),
    }
}

pub(super) fn rsa_padding(algorithm: Algorithm) -> Result<&'static dyn RsaEncoding, KeyError> {
    match algorithm {
        Algorithm::Rs256 => Ok(&signature::RSA_PKCS1_SHA256),
        Algorithm::Ps256 => Ok(&signature::RSA_PSS_SHA256),
        _ => Err(KeyError::AlgorithmMismatch),
    }
}

pub(super) fn hmac_key(secret: &[u8]) -> Result<hmac::Key, KeyError> {
    if secret.len() < HMAC_SECRET_LEN_MIN {
        return Err(KeyError::SecretTooShort);
    }
    if secret.len() > KEY_TEXT_LEN_MAX {
        return Err(KeyError::TooLong);
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, secret))
}

/// RFC 7638 section 3.2: the required members of a symmetric key are `k` and `kty`. Section 7 warns
/// of secrets that can be guessed; so does every HMAC that such a key makes.
fn hmac_thumbprint(secret: &[u8]) -> Zeroizing<String> {
    let k = Zeroizing::new(base64url::encode(secret));
    let members = Zeroizing::new(format!(r#"{{"k":"{}","kty":"oct"}}"#, *k));
    Zeroizing::new(thumbprint(&members))
}

fn ed25519_parts(pair: Ed25519KeyPair) -> Result<(Material, PublicMaterial), KeyError> {
    let x = pair.public_key().as_ref().try_into().map_err(|_| KeyError::Inconsistent)?;
    Ok((Material::Ed25519(pair), PublicMaterial::Okp { x }))
}

fn split_private(bytes: &[u8]) -> Option<(Algorithm, &str, Form, &[u8])> {
    let rest = bytes.strip_prefix(&[PRIVATE_FORMAT])?;
    let (name, rest) = rest.split_at_checked(rest.iter().position(|byte| *byte == 0)?)?;
    let rest = rest.get(1..)?;
    let (kid, rest) = rest.split_at_checked(rest.iter().position(|byte| *byte == 0)?)?;
    let (form, key) = rest.get(1..)?.split_first()?;
    let form = [Form::Pkcs8, Form::Jwk, Form::Secret].into_iter().find(|f| *f as u8 == *form)?;
    let algorithm = Algorithm::from_name(std::str::from_utf8(name).ok()?)?;
    let kid = std::str::from_utf8(kid).ok()?;
    check_kid(kid).ok()?;
    Some((algorithm, kid, form, key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;

    type Tested = Result<(), Box<dyn std::error::Error>>;

    const RSA_PEM: &str = include_str!("../../../tests/data/rsa2048.pk8.pem");
    const RSA_JWK: &str = include_str!("../../../tests/data/rsa2048.jwk.json");
    const P256_PEM: &str = include_str!("../../../tests/data/p256.pk8.pem");

    #[test]
    fn stored_keys_come_back_the_same() -> Tested {
        let entropy = SeededEntropy::new(1);
        let keys = [
            SigningKey::generate(Algorithm::Hs256, None, &entropy)?,
            SigningKey::generate(Algorithm::EdDsa, Some("ed"), &entropy)?,
            SigningKey::generate(Algorithm::Es256, None, &entropy)?,
            SigningKey::generate(Algorithm::Es384, Some("k"), &entropy)?,
            SigningKey::from_pem(Algorithm::Ps256, Some("ps"), RSA_PEM)?,
            SigningKey::from_jwk(RSA_JWK.as_bytes())?,
            SigningKey::hmac(Some("long"), &[1; 100])?,
        ];
        for key in keys {
            let bytes = key.to_private_bytes();
            let back = SigningKey::from_private_bytes(&bytes)?;
            assert_eq!((back.algorithm(), back.kid()), (key.algorithm(), key.kid()));
            assert_eq!(back.public_jwk(), key.public_jwk());
            assert_eq!(back.to_private_bytes(), bytes);
            for at in 0..bytes.len().min(16) {
                assert!(SigningKey::from_private_bytes(&bytes[..at]).is_err(), "cut at {at}");
            }
        }
        assert!(matches!(SigningKey::from_private_bytes(b""), Err(KeyError::BadPrivateBytes)));
        Ok(())
    }

    #[test]
    fn seeded_keys_follow_from_the_seed() -> Tested {
        for algorithm in [Algorithm::Hs256, Algorithm::EdDsa] {
            let of = |seed| SigningKey::generate(algorithm, None, &SeededEntropy::new(seed));
            assert_eq!(of(1)?.kid(), of(1)?.kid());
            assert_ne!(of(1)?.kid(), of(2)?.kid());
        }
        Ok(())
    }

    #[test]
    fn no_secret_is_shown() -> Tested {
        let key = SigningKey::hmac(Some("k1"), b"0123456789abcdef0123456789abcdef")?;
        assert_eq!(format!("{key:?}"), r#"SigningKey(HS256 "k1", [redacted])"#);
        assert!(key.public_jwk().is_none());
        let bad = RSA_JWK.replace("\"d\"", "\"d\":1,\"d2\"");
        let error = SigningKey::from_jwk(bad.as_bytes()).err().ok_or("accepted")?;
        assert!(!format!("{error} {error:?}").contains("AQAB"));
        Ok(())
    }

    #[test]
    fn keys_that_would_not_hold_are_refused() -> Tested {
        let none = Algorithm::ALL.map(|a| SigningKey::from_pkcs8(a, None, b"no key").is_ok());
        assert_eq!(none, [false; 6]);
        let entropy = SeededEntropy::new(1);
        let rsa = SigningKey::generate(Algorithm::Rs256, None, &entropy).err();
        assert!(matches!(rsa, Some(KeyError::RsaImportOnly)));
        let short = SigningKey::hmac(None, &[1; HMAC_SECRET_LEN_MIN - 1]).err();
        assert!(matches!(short, Some(KeyError::SecretTooShort)));
        let short = SigningKey::from_jwk(br#"{"kty":"oct","k":"AAAA"}"#).err();
        assert!(matches!(short, Some(KeyError::SecretTooShort)));
        let kid = SigningKey::hmac(Some("a\"b"), &[1; 32]).err();
        assert!(matches!(kid, Some(KeyError::BadKid)));
        let pem = include_str!("../../../tests/data/rsa1024.pk8.pem");
        let short = SigningKey::from_pem(Algorithm::Rs256, None, pem).err();
        assert!(matches!(short, Some(KeyError::RsaTooShort)));
        assert!(SigningKey::from_pem(Algorithm::Es384, None, P256_PEM).is_err());
        assert!(SigningKey::from_pem(Algorithm::EdDsa, None, P256_PEM).is_err());
        assert!(SigningKey::from_pem(Algorithm::Es256, None, P256_PEM).is_ok());
        Ok(())
    }

    #[test]
    fn a_private_jwk_must_allow_signing_and_belong_to_its_public_key() -> Tested {
        assert!(SigningKey::from_jwk(RSA_JWK.as_bytes()).is_ok());
        let with =
            |from: &str, to: &str| SigningKey::from_jwk(RSA_JWK.replace(from, to).as_bytes());
        assert!(matches!(with("\"sign\"", "\"verify\""), Err(KeyError::WrongKeyOps)));
        assert!(matches!(with("\"sig\"", "\"enc\""), Err(KeyError::WrongUse)));
        assert!(matches!(with("RS256", "HS256"), Err(KeyError::AlgorithmMismatch)));
        assert!(matches!(with("\"qi\"", "\"q1\""), Err(KeyError::BadJwk("qi"))));
        assert!(matches!(with("\"kty\"", "\"oth\":[],\"kty\""), Err(KeyError::BadJwk(_))));
        let other = SigningKey::generate(Algorithm::EdDsa, None, &SeededEntropy::new(2))?;
        let other = other.public_jwk().ok_or("no public key")?.to_json();
        let d = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
        let mixed = other.replace("{", &format!("{{\"d\":\"{d}\","));
        assert!(SigningKey::from_jwk(mixed.as_bytes()).is_err());
        // ring reads dP without checking it against the rest: the probe must.
        let jwk: serde_json::Value = serde_json::from_str(RSA_JWK)?;
        let dp = jwk["dp"].as_str().ok_or("no dp")?;
        let changed = dp.replacen(&dp[40..41], if &dp[40..41] == "A" { "B" } else { "A" }, 1);
        assert!(SigningKey::from_jwk(RSA_JWK.replace(dp, &changed).as_bytes()).is_err());
        Ok(())
    }
}
