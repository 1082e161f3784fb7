//! The half of a key that signs, with its private material.

use std::fmt;
use std::sync::Arc;

use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::EcdsaKeyPair;
use zeroize::Zeroizing;

use super::absorbed::Absorbed;
use super::backend::{Backend, Pair, PrivateForm, RingPair, ecdsa_curve};
use super::private_jwk::{self, PrivateJwk};
use super::signer::Signer;
use super::verifying::VerifyingKey;
use super::{HMAC_SECRET_LEN_MIN, KEY_TEXT_LEN_MAX, KeyError, RSA_SIGN_BITS_MAX, check_kid, pem};
use crate::codec::algorithm::Algorithm;
use crate::codec::base64url;
use crate::codec::jwk::{Jwk, PublicMaterial, thumbprint};
use crate::codec::jws::SignError;
use crate::entropy::{Entropy, random};

/// What [`SigningKey::to_private_bytes`] starts with.
const PRIVATE_FORMAT: u8 = 2;

/// A key that signs access tokens, parsed once and held parsed. What it was imported from is kept
/// for [`SigningKey::to_private_bytes`] and wiped when dropped; `Debug` shows no secret.
pub struct SigningKey {
    material: Material,
    public: VerifyingKey,
    source: Source,
}

pub(super) enum Material {
    Hmac(Absorbed),
    Pair(Pair),
    /// `None` for a key that was read from storage: who signs for it is the host's to say.
    Remote(Option<Arc<dyn Signer>>),
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
    /// The public JWK of a key whose private half is elsewhere.
    Remote = 4,
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
        let (pair, public) = RingPair::from_pkcs8(algorithm, der)?;
        if let PublicMaterial::Rsa { n, .. } = &public
            && n.len() * 8 > RSA_SIGN_BITS_MAX
        {
            return Err(KeyError::RsaTooLong);
        }
        let source = Source { form: Form::Pkcs8, bytes: Zeroizing::new(der.to_vec()) };
        let public = Jwk::new(algorithm, public)?;
        SigningKey::from_pair(Pair::Ring(pair), Backend::Ring, public, kid, source)
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
            PrivateJwk::Pair { public, numbers } => {
                let numbers = PrivateForm::Numbers(&numbers);
                let pair =
                    Pair::new(Backend::Ring, public.algorithm(), public.material(), &numbers)?;
                let source = Source { form: Form::Jwk, bytes: Zeroizing::new(json.to_vec()) };
                SigningKey::from_pair(pair, Backend::Ring, public, None, source)
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

    /// A key whose private half is elsewhere, where `signer` reaches it. It signs by
    /// [`SigningKey::sign_async`] alone, so that nothing here ever blocks on it.
    ///
    /// # Errors
    /// [`KeyError::Rejected`] when the backend refuses the public key.
    pub fn remote(public: Jwk, signer: impl Signer) -> Result<SigningKey, KeyError> {
        SigningKey::from_remote(public, Some(Arc::new(signer)))
    }

    fn from_remote(public: Jwk, signer: Option<Arc<dyn Signer>>) -> Result<SigningKey, KeyError> {
        let public = VerifyingKey::from_public(public, Backend::default())?;
        let json = public.public_jwk().map(Jwk::to_json).unwrap_or_default();
        let source = Source { form: Form::Remote, bytes: Zeroizing::new(json.into_bytes()) };
        Ok(SigningKey { material: Material::Remote(signer), public, source })
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
                let curve = ecdsa_curve(algorithm)?;
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

    /// The backend that signs, and that checks what was signed.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.public.backend()
    }

    /// Whether its private half is elsewhere.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        matches!(self.material, Material::Remote(_))
    }

    /// Whether it is a remote key that came from storage and has no signer yet.
    #[must_use]
    pub fn is_without_signer(&self) -> bool {
        matches!(self.material, Material::Remote(None))
    }

    /// Who signs for a remote key.
    pub(in crate::codec) fn signer(&self) -> Option<&Arc<dyn Signer>> {
        match &self.material {
            Material::Remote(signer) => signer.as_ref(),
            _ => None,
        }
    }

    /// This key on another backend: the one that its import named is ring. HS256 has no key pair and
    /// stays on ring, which is the faster one there.
    ///
    /// # Errors
    /// [`KeyError::Rejected`], [`KeyError::Inconsistent`] when that backend refuses the key.
    pub fn with_backend(self, backend: Backend) -> Result<SigningKey, KeyError> {
        let Some(public) = self.public_jwk().filter(|_| backend != self.backend()) else {
            return Ok(self);
        };
        let public = public.clone();
        if let Material::Remote(signer) = self.material {
            let public = self.public.with_backend(backend)?;
            return Ok(SigningKey { material: Material::Remote(signer), public, ..self });
        }
        let parsed = |form| Pair::new(backend, public.algorithm(), public.material(), &form);
        let pair = match self.source.form {
            Form::Pkcs8 => parsed(PrivateForm::Pkcs8(&self.source.bytes)),
            Form::Secret => parsed(PrivateForm::Seed(&self.source.bytes)),
            Form::Remote => return Err(KeyError::AlgorithmMismatch),
            Form::Jwk => match private_jwk::read(&self.source.bytes)? {
                PrivateJwk::Pair { numbers, .. } => parsed(PrivateForm::Numbers(&numbers)),
                PrivateJwk::Hmac { .. } => return Err(KeyError::AlgorithmMismatch),
            },
        }?;
        SigningKey::from_pair(pair, backend, public, None, self.source)
    }

    /// Everything that [`SigningKey::from_private_bytes`] needs, in the clear: seal it before it is
    /// stored. Of a remote key it is the public half.
    ///
    /// ```text
    /// format 2 | backend 1 | algorithm name, NUL | kid, NUL | form 1 | key as it was imported
    /// ```
    #[must_use]
    pub fn to_private_bytes(&self) -> Zeroizing<Vec<u8>> {
        let (name, kid) = (self.algorithm().name(), self.kid());
        // The exact capacity, so that no copy of the secret is left behind by growing.
        let len = 2 + name.len() + 1 + kid.len() + 1 + 1 + self.source.bytes.len();
        let mut out = Zeroizing::new(Vec::with_capacity(len));
        out.push(PRIVATE_FORMAT);
        out.push(self.backend().number());
        out.extend_from_slice(name.as_bytes());
        out.push(0);
        out.extend_from_slice(kid.as_bytes());
        out.push(0);
        out.push(self.source.form as u8);
        out.extend_from_slice(&self.source.bytes);
        out
    }

    /// The key that [`SigningKey::to_private_bytes`] wrote, on its backend. Where that is not
    /// compiled in, ring takes the key: it signs as validly, only slower. A remote key comes back
    /// without its signer: it verifies, and cannot sign.
    ///
    /// # Errors
    /// [`KeyError::BadPrivateBytes`], or what is wrong with the key inside.
    pub fn from_private_bytes(bytes: &[u8]) -> Result<SigningKey, KeyError> {
        let stored = Stored::read(bytes).ok_or(KeyError::BadPrivateBytes)?;
        let Stored { backend, algorithm, kid, form, key } = stored;
        let key = match form {
            Form::Pkcs8 => SigningKey::from_pkcs8(algorithm, Some(kid), key)?,
            Form::Secret => SigningKey::from_secret(algorithm, Some(kid), key)?,
            Form::Jwk => SigningKey::from_jwk(key)?,
            Form::Remote => SigningKey::from_remote(Jwk::parse(key)?, None)?,
        };
        if key.algorithm() != algorithm || key.kid() != kid {
            return Err(KeyError::BadPrivateBytes);
        }
        key.with_backend(backend)
    }

    fn from_secret(
        algorithm: Algorithm,
        kid: Option<&str>,
        secret: &[u8],
    ) -> Result<SigningKey, KeyError> {
        match algorithm {
            Algorithm::Hs256 => SigningKey::hmac(kid, secret),
            Algorithm::EdDsa => {
                let (pair, public) = RingPair::from_seed(secret)?;
                let source = Source { form: Form::Secret, bytes: Zeroizing::new(secret.to_vec()) };
                let public = Jwk::new(algorithm, public)?;
                SigningKey::from_pair(Pair::Ring(pair), Backend::Ring, public, kid, source)
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
        let public = VerifyingKey::from_hmac(&kid, key)?;
        let source = Source { form: Form::Secret, bytes: Zeroizing::new(secret.to_vec()) };
        Ok(SigningKey { material: Material::Hmac(Absorbed::nothing(key)), public, source })
    }

    /// `kid` overrides what the JWK says; a backend checks a private key only in part when it is
    /// read, so a probe is signed and verified.
    fn from_pair(
        pair: Pair,
        backend: Backend,
        public: Jwk,
        kid: Option<&str>,
        source: Source,
    ) -> Result<SigningKey, KeyError> {
        let public = match kid {
            Some(kid) => public.with_kid(kid)?,
            None => public,
        };
        let public = VerifyingKey::from_public(public, backend)?;
        let key = SigningKey { material: Material::Pair(pair), public, source };
        let mut text = [0; base64url::encoded_len(RSA_SIGN_BITS_MAX / 8)];
        let mut raw = [0; RSA_SIGN_BITS_MAX / 8];
        let probe = b"mintage: does this key pair belong together?";
        let len = key.sign(None, probe, &mut text).map_err(|_| KeyError::Inconsistent)?;
        let text = text.get(..len).ok_or(KeyError::Inconsistent)?;
        let raw = base64url::decode_into(text, &mut raw).map_err(|_| KeyError::Inconsistent)?;
        if key.public.check(None, probe, raw) { Ok(key) } else { Err(KeyError::Inconsistent) }
    }

    /// `prefix` as a MAC takes it in; `None` where the algorithm reads its whole input at once.
    pub(in crate::codec) fn absorb(&self, prefix: &[u8]) -> Option<Absorbed> {
        match &self.material {
            Material::Hmac(nothing) => Some(nothing.and(prefix)),
            _ => None,
        }
    }

    /// Signs `input` and writes the encoded signature to the start of `out`. What was `absorbed` is
    /// the start of `input`.
    pub(in crate::codec) fn sign(
        &self,
        absorbed: Option<&Absorbed>,
        input: &[u8],
        out: &mut [u8],
    ) -> Result<usize, SignError> {
        let written = match &self.material {
            Material::Hmac(nothing) => {
                base64url::encode_into(absorbed.unwrap_or(nothing).tag(input).as_ref(), out)
            }
            Material::Pair(pair) => return pair.sign(input, out),
            Material::Remote(_) => return Err(SignError::Remote),
        };
        written.ok_or(SignError::BufferTooShort)
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

/// A key as [`SigningKey::to_private_bytes`] wrote it.
struct Stored<'a> {
    backend: Backend,
    algorithm: Algorithm,
    kid: &'a str,
    form: Form,
    key: &'a [u8],
}

impl<'a> Stored<'a> {
    fn read(bytes: &'a [u8]) -> Option<Stored<'a>> {
        let (backend, rest) = bytes.strip_prefix(&[PRIVATE_FORMAT])?.split_first()?;
        let backend = Backend::of_number(*backend);
        let (name, rest) = until_nul(rest)?;
        let (kid, rest) = until_nul(rest)?;
        let (form, key) = rest.split_first()?;
        let forms = [Form::Pkcs8, Form::Jwk, Form::Secret, Form::Remote];
        let form = forms.into_iter().find(|f| *f as u8 == *form)?;
        let algorithm = Algorithm::from_name(name)?;
        check_kid(kid).ok()?;
        Some(Stored { backend, algorithm, kid, form, key })
    }
}

fn until_nul(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (text, rest) = bytes.split_at_checked(bytes.iter().position(|byte| *byte == 0)?)?;
    Some((std::str::from_utf8(text).ok()?, rest.get(1..)?))
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
        let pem = include_str!("../../../tests/data/rsa2048e3.pk8.pem");
        let small = SigningKey::from_pem(Algorithm::Rs256, None, pem).err();
        assert!(matches!(small, Some(KeyError::BadRsaExponent)), "{small:?}");
        let pem = include_str!("../../../tests/data/rsa5120.pk8.pem");
        let long = SigningKey::from_pem(Algorithm::Ps256, None, pem).err();
        assert!(matches!(long, Some(KeyError::RsaTooLong)), "{long:?}");
        let small = RSA_JWK.replace("AQAB", "Aw");
        let small = SigningKey::from_jwk(small.as_bytes()).err();
        assert!(matches!(small, Some(KeyError::BadRsaExponent)), "{small:?}");
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
