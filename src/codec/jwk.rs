//! Public keys as JWK (RFC 7517, RFC 7518 section 6, RFC 8037): read strictly, written in one form.

use std::fmt::Write as _;

use ring::agreement;
use serde::Deserialize;
use serde::de::Deserializer;
use zeroize::Zeroizing;

use super::algorithm::Algorithm;
use super::base64url;
use super::json::{JsonError, Members, Object};
use super::keys::{KEY_TEXT_LEN_MAX, KeyError, RSA_BITS_MIN, RSA_VERIFY_BITS_MAX, check_kid};

/// A public key with its algorithm and `kid`. One that exists is valid: its point is on the curve,
/// its modulus is long enough, its order is not small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwk {
    algorithm: Algorithm,
    kid: Option<String>,
    material: PublicMaterial,
}

/// The numbers of a public key. The curve follows from the algorithm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PublicMaterial {
    /// Big-endian, without leading zeros.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// Uncompressed: 4, x, y.
    Ec { point: Vec<u8> },
    /// Ed25519.
    Okp { x: [u8; 32] },
}

impl Jwk {
    /// Reads the JWK of a public key that verifies signatures. Members that are not known are
    /// ignored (RFC 7517 section 4).
    ///
    /// # Errors
    /// [`KeyError`], with what is wrong.
    pub fn parse(json: &[u8]) -> Result<Jwk, KeyError> {
        let raw = RawJwk::parse(json)?;
        if raw.has_private_members() {
            return Err(KeyError::PrivateMembers);
        }
        raw.check_purpose("verify")?;
        raw.public()
    }

    /// The algorithm that the key is for.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The identifier, if it has one.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The JWK Thumbprint with SHA-256 (RFC 7638), in base64url.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        let mut json = String::from("{");
        self.write_required(&mut json);
        json.push('}');
        thumbprint(&json)
    }

    /// The JSON text: required members, `alg`, `use`, and `kid` if it has one.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut json = String::from("{");
        self.write_required(&mut json);
        let _ = write!(json, ",\"alg\":\"{}\",\"use\":\"sig\"", self.algorithm);
        if let Some(kid) = &self.kid {
            let _ = write!(json, ",\"kid\":\"{kid}\"");
        }
        json.push('}');
        json
    }

    pub(super) fn new(algorithm: Algorithm, material: PublicMaterial) -> Result<Jwk, KeyError> {
        check_material(algorithm, &material)?;
        Ok(Jwk { algorithm, kid: None, material })
    }

    pub(super) fn with_kid(self, kid: &str) -> Result<Jwk, KeyError> {
        check_kid(kid)?;
        Ok(Jwk { kid: Some(kid.to_owned()), ..self })
    }

    pub(super) fn material(&self) -> &PublicMaterial {
        &self.material
    }

    /// The required members in lexicographic order (RFC 7638 section 3.2).
    fn write_required(&self, json: &mut String) {
        let _ = match &self.material {
            PublicMaterial::Rsa { n, e } => {
                let (n, e) = (base64url::encode(n), base64url::encode(e));
                write!(json, "\"e\":\"{e}\",\"kty\":\"RSA\",\"n\":\"{n}\"")
            }
            PublicMaterial::Ec { point } => {
                let coordinates = point.get(1..).unwrap_or(&[]);
                let (x, y) = coordinates.split_at(coordinates.len() / 2);
                let (x, y) = (base64url::encode(x), base64url::encode(y));
                let crv = if self.algorithm == Algorithm::Es384 { "P-384" } else { "P-256" };
                write!(json, "\"crv\":\"{crv}\",\"kty\":\"EC\",\"x\":\"{x}\",\"y\":\"{y}\"")
            }
            PublicMaterial::Okp { x } => {
                let x = base64url::encode(x);
                write!(json, "\"crv\":\"Ed25519\",\"kty\":\"OKP\",\"x\":\"{x}\"")
            }
        };
    }
}

/// SHA-256 of the required members, in base64url (RFC 7638 section 3).
pub(super) fn thumbprint(required_members: &str) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, required_members.as_bytes());
    base64url::encode(hash.as_ref())
}

/// A JWK as it stands in its text. Members with `null` are malformed, not absent, and a duplicate
/// member is an error of the reader. Private members borrow the text, so that no copy of a secret is
/// left behind; base64url needs no escapes, and one spelt with them is malformed.
#[derive(Deserialize)]
pub(super) struct RawJwk<'a> {
    kty: String,
    #[serde(default, deserialize_with = "present")]
    alg: Option<String>,
    #[serde(default, deserialize_with = "present", rename = "use")]
    purpose: Option<String>,
    #[serde(default, deserialize_with = "present")]
    key_ops: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) kid: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crv: Option<String>,
    #[serde(default, deserialize_with = "present")]
    x: Option<String>,
    #[serde(default, deserialize_with = "present")]
    y: Option<String>,
    #[serde(default, deserialize_with = "present")]
    n: Option<String>,
    #[serde(default, deserialize_with = "present")]
    e: Option<String>,
    #[serde(default, borrow, deserialize_with = "present")]
    pub(super) d: Option<&'a str>,
    #[serde(default, borrow, deserialize_with = "present")]
    pub(super) p: Option<&'a str>,
    #[serde(default, borrow, deserialize_with = "present")]
    pub(super) q: Option<&'a str>,
    #[serde(default, borrow, deserialize_with = "present")]
    pub(super) dp: Option<&'a str>,
    #[serde(default, borrow, deserialize_with = "present")]
    pub(super) dq: Option<&'a str>,
    #[serde(default, borrow, deserialize_with = "present")]
    pub(super) qi: Option<&'a str>,
    #[serde(default, borrow, deserialize_with = "present")]
    pub(super) k: Option<&'a str>,
    #[serde(default)]
    pub(super) oth: Option<serde::de::IgnoredAny>,
}

fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

impl<'a> RawJwk<'a> {
    pub(super) fn parse(json: &'a [u8]) -> Result<RawJwk<'a>, KeyError> {
        if json.len() > KEY_TEXT_LEN_MAX {
            return Err(KeyError::TooLong);
        }
        let no_jwk = KeyError::BadJwk("not an object of JWK members");
        // serde_json skips members that nobody asks for without looking: what is in them need be no
        // UTF-8. The reader of claims lets nothing of that through, and no duplicate however deep.
        let mut copy = Zeroizing::new(json.to_vec());
        match Object::read(&mut copy, &mut Members::new()) {
            Ok(_) => {}
            Err(JsonError::TooLong) => return Err(KeyError::TooLong),
            Err(_) => return Err(no_jwk),
        }
        // The reader's own error may quote the text, and the text may be a secret.
        serde_json::from_slice(json).map_err(|_| no_jwk)
    }

    fn has_private_members(&self) -> bool {
        [&self.d, &self.p, &self.q, &self.dp, &self.dq, &self.qi, &self.k]
            .into_iter()
            .any(Option::is_some)
    }

    /// `use` and `key_ops` must allow `operation` where they are present.
    pub(super) fn check_purpose(&self, operation: &str) -> Result<(), KeyError> {
        if self.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
            return Err(KeyError::WrongUse);
        }
        if self.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|op| op == operation)) {
            return Err(KeyError::WrongKeyOps);
        }
        Ok(())
    }

    /// The algorithm that `alg` names, or the only one that the key's type allows.
    pub(super) fn algorithm(&self) -> Result<Algorithm, KeyError> {
        let fitting: &[Algorithm] = match (self.kty.as_str(), self.crv.as_deref()) {
            ("oct", None) => &[Algorithm::Hs256],
            ("EC", Some("P-256")) => &[Algorithm::Es256],
            ("EC", Some("P-384")) => &[Algorithm::Es384],
            ("OKP", Some("Ed25519")) => &[Algorithm::EdDsa],
            ("RSA", None) => &[Algorithm::Rs256, Algorithm::Ps256],
            _ => return Err(KeyError::UnsupportedKeyType),
        };
        match (self.alg.as_deref(), fitting) {
            // RFC 9864 section 2.2: the fully specified name of the same algorithm. Tokens and JWK
            // Sets keep the older one, which every verifier knows.
            (Some("Ed25519"), [Algorithm::EdDsa]) => Ok(Algorithm::EdDsa),
            (Some(name), fitting) => Algorithm::from_name(name)
                .filter(|algorithm| fitting.contains(algorithm))
                .ok_or(KeyError::AlgorithmMismatch),
            (None, [only]) => Ok(*only),
            (None, _) => Err(KeyError::AlgorithmMissing),
        }
    }

    /// The public part.
    pub(super) fn public(&self) -> Result<Jwk, KeyError> {
        let algorithm = self.algorithm()?;
        let member = |text: &Option<String>, name| {
            let text = text.as_ref().ok_or(KeyError::BadJwk(name))?;
            base64url::decode(text).map_err(|_| KeyError::BadJwk(name))
        };
        let material = match algorithm {
            Algorithm::Hs256 => return Err(KeyError::UnsupportedKeyType),
            Algorithm::Es256 | Algorithm::Es384 => {
                let len = if algorithm == Algorithm::Es384 { 48 } else { 32 };
                let (x, y) = (member(&self.x, "x")?, member(&self.y, "y")?);
                if x.len() != len || y.len() != len {
                    return Err(KeyError::BadJwk("x and y have the length of the field"));
                }
                PublicMaterial::Ec { point: [&[4], x.as_slice(), y.as_slice()].concat() }
            }
            Algorithm::EdDsa => {
                let x = member(&self.x, "x")?;
                PublicMaterial::Okp { x: x.try_into().map_err(|_| KeyError::BadJwk("x"))? }
            }
            Algorithm::Rs256 | Algorithm::Ps256 => {
                PublicMaterial::Rsa { n: member(&self.n, "n")?, e: member(&self.e, "e")? }
            }
        };
        let jwk = Jwk::new(algorithm, material)?;
        match &self.kid {
            Some(kid) => jwk.with_kid(kid),
            None => Ok(jwk),
        }
    }
}

fn check_material(algorithm: Algorithm, material: &PublicMaterial) -> Result<(), KeyError> {
    match material {
        PublicMaterial::Rsa { n, e } => check_rsa(n, e),
        PublicMaterial::Ec { point } => check_point(algorithm, point),
        PublicMaterial::Okp { x } => check_ed25519(x),
    }
}

fn check_rsa(n: &[u8], e: &[u8]) -> Result<(), KeyError> {
    // RFC 7518 section 2, Base64urlUInt: "utilizing the minimum number of octets".
    let (Some(&top @ 1..), Some(1..)) = (n.first(), e.first()) else {
        return Err(KeyError::BadJwk("n and e have no leading zeros"));
    };
    let bits = n.len() * 8 - top.leading_zeros() as usize;
    if bits < RSA_BITS_MIN {
        return Err(KeyError::RsaTooShort);
    }
    if bits > RSA_VERIFY_BITS_MAX {
        return Err(KeyError::RsaTooLong);
    }
    if n.last().is_none_or(|last| last % 2 == 0) {
        return Err(KeyError::BadJwk("n is odd"));
    }
    if has_roca_fingerprint(n) {
        return Err(KeyError::RocaModulus);
    }
    let value = e.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    if e.len() > 5 || value < 3 || value % 2 == 0 || value >= 1 << 33 {
        return Err(KeyError::BadRsaExponent);
    }
    Ok(())
}

/// CVE-2017-15361: primes that one maker's chips drew are powers of 65,537 modulo many small primes,
/// and the modulus can be factored. A sound modulus looks so once in more than 10^8 times.
fn has_roca_fingerprint(n: &[u8]) -> bool {
    const PRIMES: [u32; 17] =
        [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157];
    PRIMES.iter().all(|prime| {
        let rest = n.iter().fold(0, |rest, byte| (rest << 8 | u32::from(*byte)) % prime);
        let powers = std::iter::successors(Some(1), |power| Some(power * 65_537 % prime));
        powers.take(*prime as usize).any(|power| power == rest)
    })
}

/// ring has no check of its own for a public key that verifies, but key agreement refuses a point
/// that is not on the curve.
fn check_point(algorithm: Algorithm, point: &[u8]) -> Result<(), KeyError> {
    let curve = match algorithm {
        Algorithm::Es384 => &agreement::ECDH_P384,
        _ => &agreement::ECDH_P256,
    };
    let rng = ring::rand::SystemRandom::new();
    let probe = agreement::EphemeralPrivateKey::generate(curve, &rng)
        .map_err(|_| KeyError::Entropy(crate::entropy::EntropyError))?;
    let peer = agreement::UnparsedPublicKey::new(curve, point);
    agreement::agree_ephemeral(probe, &peer, |_| ()).map_err(|_| KeyError::PointOffCurve)
}

/// ring verifies with whatever key it is given; with a point of small order it accepts signatures
/// that nobody made. The y coordinates of the points of order 1, 2, 4 and 8 are these five.
fn check_ed25519(x: &[u8; 32]) -> Result<(), KeyError> {
    const ORDER_8: [[u8; 32]; 2] = [
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef,
            0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88,
            0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10,
            0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77,
            0x92, 0xac, 0x03, 0x7a,
        ],
    ];
    // Little-endian; the topmost bit is the sign of x and no part of y.
    let [low, middle @ .., top] = x;
    let top = top & 0x7f;
    // The field's prime is 2^255 - 19: ED FF .. FF 7F.
    let near_prime = top == 0x7f && middle.iter().all(|byte| *byte == 0xff);
    if near_prime && *low >= 0xed {
        return Err(KeyError::NonCanonical);
    }
    let minus_one = near_prime && *low == 0xec;
    let zero_or_one = *low <= 1 && top == 0 && middle.iter().all(|byte| *byte == 0);
    let mut y = *x;
    y[31] = top;
    if minus_one || zero_or_one || ORDER_8.contains(&y) {
        return Err(KeyError::SmallOrder);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7638 section 3.1.
    const RSA_N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFx\
        uhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-\
        65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-b\
        FTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";

    fn rsa(n: &str, e: &str, more: &str) -> Result<Jwk, KeyError> {
        let jwk = format!(r#"{{"kty":"RSA","n":"{n}","e":"{e}"{more}}}"#);
        Jwk::parse(jwk.as_bytes())
    }

    #[test]
    fn what_is_written_reads_the_same() -> Result<(), KeyError> {
        let key = rsa(RSA_N, "AQAB", r#","alg":"PS256","kid":"k1","unknown":[1]"#)?;
        assert_eq!(Jwk::parse(key.to_json().as_bytes())?, key);
        assert_eq!((key.kid(), key.algorithm()), (Some("k1"), Algorithm::Ps256));
        Ok(())
    }

    #[test]
    fn a_jwk_for_something_else_is_refused() {
        let with = |more: &str| rsa(RSA_N, "AQAB", more).err();
        let rs256 = r#","alg":"RS256""#;
        assert!(with(rs256).is_none());
        assert!(with(&format!(r#"{rs256},"use":"sig","key_ops":["verify","sign"]"#)).is_none());
        assert!(matches!(with(""), Some(KeyError::AlgorithmMissing)));
        assert!(matches!(with(r#","alg":"ES256""#), Some(KeyError::AlgorithmMismatch)));
        assert!(matches!(with(r#","alg":"RS1""#), Some(KeyError::AlgorithmMismatch)));
        assert!(matches!(with(r#","alg":null"#), Some(KeyError::BadJwk(_))));
        assert!(matches!(with(&format!("{rs256},{}", &rs256[1..])), Some(KeyError::BadJwk(_))));
        let wrong_use = with(&format!(r#"{rs256},"use":"enc""#));
        assert!(matches!(wrong_use, Some(KeyError::WrongUse)));
        let wrong_ops = with(&format!(r#"{rs256},"key_ops":["encrypt"]"#));
        assert!(matches!(wrong_ops, Some(KeyError::WrongKeyOps)));
        let private = with(&format!(r#"{rs256},"d":"AA""#));
        assert!(matches!(private, Some(KeyError::PrivateMembers)));
        for kid in ["", "a b", "ü", "a\\\\", &"a".repeat(65)] {
            let bad_kid = with(&format!(r#"{rs256},"kid":"{kid}""#));
            assert!(matches!(bad_kid, Some(KeyError::BadKid)), "{kid}");
        }
        for kty in [r#""oct","k":"AA""#, r#""OKP","crv":"X25519""#, r#""EC","crv":"P-521""#] {
            let refused = Jwk::parse(format!(r#"{{"kty":{kty}}}"#).as_bytes());
            assert!(
                matches!(refused, Err(KeyError::UnsupportedKeyType | KeyError::PrivateMembers)),
                "{kty}"
            );
        }
        assert!(matches!(Jwk::parse(&[b' '; KEY_TEXT_LEN_MAX + 1]), Err(KeyError::TooLong)));
    }

    #[test]
    fn weak_rsa_keys_are_refused() {
        let key =
            |bytes: &[u8], e: &str| rsa(&base64url::encode(bytes), e, r#","alg":"RS256""#).err();
        let odd = |len: usize, top: u8| [&[top], vec![1; len - 1].as_slice()].concat();
        assert!(key(&odd(256, 0x80), "AQAB").is_none());
        assert!(key(&odd(1024, 0x80), "Aw").is_none());
        assert!(matches!(key(&odd(256, 0x7f), "AQAB"), Some(KeyError::RsaTooShort)));
        assert!(matches!(key(&odd(1025, 1), "AQAB"), Some(KeyError::RsaTooLong)));
        assert!(matches!(key(&odd(256, 0), "AQAB"), Some(KeyError::BadJwk(_))));
        assert!(matches!(key(&[0x80; 256], "AQAB"), Some(KeyError::BadJwk(_))));
        for e in ["AQ", "Ag", "AQAA", "AgAAAAE", "AQAAAAAAAAAAAQ"] {
            assert!(matches!(key(&odd(256, 0x80), e), Some(KeyError::BadRsaExponent)), "{e}");
        }
        assert!(matches!(key(&odd(256, 0x80), "AAEAAQ"), Some(KeyError::BadJwk(_))));
        assert!(matches!(key(&odd(256, 0x80), ""), Some(KeyError::BadJwk(_))));
    }
}
