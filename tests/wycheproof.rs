//! Project Wycheproof against the keys of this crate, on every backend. A vector that is answered
//! otherwise than it says stands in a table here with the reason; a new one fails the test.

use std::error::Error;

use base64_simd::URL_SAFE_NO_PAD;
use mintage::codec::jws::{Scratch, Verifier};
use mintage::codec::keyring::Keyring;
use mintage::codec::keys::{Backend, KeyError, SigningKey, VerifyingKey};
use mintage::time::Timestamp;
use serde_json::Value;
use wycheproof::{HashFunction, TestResult, ecdsa, eddsa, mac, rsa_pkcs1_verify, rsa_pss_verify};

type Tested = Result<(), Box<dyn Error>>;

/// One vector of a primitive, and the key that it is for.
struct Vector<'a> {
    id: usize,
    message: &'a [u8],
    signature: &'a [u8],
    result: TestResult,
}

fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode_to_string(bytes)
}

/// Without leading zeros, as RFC 7518 section 2 has it.
fn number(bytes: &[u8]) -> String {
    base64url(&bytes[bytes.iter().take_while(|byte| **byte == 0).count()..])
}

/// Answers that differ, as `tcId`s: valid ones that are refused, and acceptable ones that verify.
#[derive(Default, Debug, PartialEq)]
struct Differences {
    refused_valid: Vec<usize>,
    verified_acceptable: Vec<usize>,
    verified_invalid: Vec<usize>,
    run: usize,
}

impl Differences {
    fn see(&mut self, key: &VerifyingKey, vector: &Vector<'_>) {
        self.run += 1;
        match (key.verify(vector.message, vector.signature), vector.result) {
            (true, TestResult::Valid) | (false, TestResult::Invalid | TestResult::Acceptable) => {}
            (false, TestResult::Valid) => self.refused_valid.push(vector.id),
            (true, TestResult::Acceptable) => self.verified_acceptable.push(vector.id),
            (true, TestResult::Invalid) => self.verified_invalid.push(vector.id),
        }
    }
}

fn agree(what: &str, run: usize, differences: &Differences) {
    let none = Differences { run, ..Differences::default() };
    assert_eq!(*differences, none, "{what}");
}

fn on(jwk: &str, backend: Backend) -> Result<VerifyingKey, KeyError> {
    VerifyingKey::from_jwk(jwk.as_bytes())?.with_backend(backend)
}

#[test]
fn ecdsa_signatures_as_jws_has_them() -> Tested {
    use ecdsa::TestName::{EcdsaSecp256r1Sha256P1363, EcdsaSecp384r1Sha384P1363};
    for backend in Backend::ALL {
        for (name, crv, vectors) in
            [(EcdsaSecp256r1Sha256P1363, "P-256", 262), (EcdsaSecp384r1Sha384P1363, "P-384", 280)]
        {
            let mut seen = Differences::default();
            for group in &ecdsa::TestSet::load(name)?.test_groups {
                let (x, y) = group.key.key[1..].split_at(group.key.key.len() / 2);
                let (x, y) = (base64url(x), base64url(y));
                let jwk = format!(r#"{{"kty":"EC","crv":"{crv}","x":"{x}","y":"{y}"}}"#);
                let key = on(&jwk, *backend)?;
                for test in &group.tests {
                    let (id, result) = (test.tc_id, test.result);
                    let (message, signature) = (&test.msg[..], &test.sig[..]);
                    seen.see(&key, &Vector { id, message, signature, result });
                }
            }
            agree(&format!("{crv} on {backend}"), vectors, &seen);
        }
    }
    Ok(())
}

#[test]
fn ed25519_signatures() -> Tested {
    for backend in Backend::ALL {
        let mut seen = Differences::default();
        for group in &eddsa::TestSet::load(eddsa::TestName::Ed25519)?.test_groups {
            let x = base64url(&group.key.pk);
            let key = on(&format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}"#), *backend)?;
            for test in &group.tests {
                let (id, result) = (test.tc_id, test.result);
                let (message, signature) = (&test.msg[..], &test.sig[..]);
                seen.see(&key, &Vector { id, message, signature, result });
            }
        }
        agree(&format!("Ed25519 on {backend}"), 151, &seen);
    }
    Ok(())
}

#[test]
fn rsa_signatures_with_pkcs_1_padding() -> Tested {
    use rsa_pkcs1_verify::TestName;
    for backend in Backend::ALL {
        for name in [
            TestName::Rsa2048Sha256,
            TestName::Rsa3072Sha256,
            TestName::Rsa4096Sha256,
            TestName::Rsa8192Sha256,
        ] {
            let what = format!("{name:?} on {backend}");
            let set = rsa_pkcs1_verify::TestSet::load(name)?;
            let mut seen = Differences::default();
            for group in &set.test_groups {
                let (n, e) = (number(&group.key.n), number(&group.key.e));
                let jwk = format!(r#"{{"kty":"RSA","alg":"RS256","n":"{n}","e":"{e}"}}"#);
                let key = on(&jwk, *backend)?;
                for test in &group.tests {
                    let (id, result) = (test.tc_id, test.result);
                    let (message, signature) = (&test.msg[..], &test.sig[..]);
                    seen.see(&key, &Vector { id, message, signature, result });
                }
            }
            agree(&what, set.number_of_tests, &seen);
        }
    }
    Ok(())
}

#[test]
fn rsa_signatures_with_pss_padding() -> Tested {
    use rsa_pss_verify::TestName;
    for backend in Backend::ALL {
        for name in [
            TestName::RsaPss2048Sha256Mgf1SaltLen32,
            TestName::RsaPss3072Sha256Mgf1SaltLen32,
            TestName::RsaPss4096Sha256Mgf1SaltLen32,
            // Other salts, hashes and masks: what they call valid is no PS256.
            TestName::RsaPss2048Sha256Mgf1SaltLen0,
            TestName::RsaPss2048Sha256Mgf1Sha1_20,
            TestName::RsaPss4096Sha512Mgf1SaltLen32,
        ] {
            let what = format!("{name:?} on {backend}");
            let name_is_without_salt = name == TestName::RsaPss2048Sha256Mgf1SaltLen0;
            let set = rsa_pss_verify::TestSet::load(name)?;
            let mut seen = Differences::default();
            for group in &set.test_groups {
                let (n, e) = (number(&group.key.n), number(&group.key.e));
                let jwk = format!(r#"{{"kty":"RSA","alg":"PS256","n":"{n}","e":"{e}"}}"#);
                let key = on(&jwk, *backend)?;
                // RFC 7518 section 3.5: SHA-256 twice, and a salt as long as the hash.
                let sha256 = HashFunction::Sha2_256;
                let is_ps256 =
                    group.hash == sha256 && group.mgf_hash == Some(sha256) && group.salt_size == 32;
                for test in &group.tests {
                    let result = if is_ps256 { test.result } else { TestResult::Invalid };
                    let (message, signature) = (&test.msg[..], &test.sig[..]);
                    seen.see(&key, &Vector { id: test.tc_id, message, signature, result });
                }
            }
            if name_is_without_salt {
                // tcId 69, "s_len changed to 32": no signature of that group's parameters, and one of
                // PS256.
                assert_eq!(std::mem::take(&mut seen.verified_invalid), [69], "{what}");
            }
            agree(&what, set.number_of_tests, &seen);
        }
    }
    Ok(())
}

#[test]
fn hmac_tags_of_full_length_under_keys_that_are_long_enough() -> Tested {
    let mut seen = Differences::default();
    let (mut short_keys, mut short_tags) = (0, 0);
    for group in &mac::TestSet::load(mac::TestName::HmacSha256)?.test_groups {
        for test in &group.tests {
            let key = match SigningKey::hmac(Some("k"), &test.key) {
                Ok(key) => key,
                Err(KeyError::SecretTooShort) => {
                    // RFC 7518 section 3.2: "A key of the same size as the hash output [...] or
                    // larger MUST be used".
                    assert!(test.key.len() < 32);
                    short_keys += 1;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let mut result = test.result;
            if group.tag_size < 256 {
                // A tag cut short is no HS256.
                short_tags += 1;
                result = TestResult::Invalid;
            }
            let (message, signature) = (&test.msg[..], &test.tag[..]);
            let vector = Vector { id: test.tc_id, message, signature, result };
            seen.see(key.verifying_key(), &vector);
        }
    }
    assert_eq!((short_keys, short_tags), (6, 84));
    agree("HMAC-SHA256", 168, &seen);
    Ok(())
}

/// Vectors of `json_web_signature_test.json` that are answered otherwise than they say.
const JWS_DEFECTS: [(u64, &str); 6] = [
    (346, "marked valid, PS384 under a key whose alg is PS256: a key has one algorithm"),
    (350, "marked valid, PS384 under a key whose alg is PS256: a key has one algorithm"),
    (367, "marked invalid, and byte for byte the valid tcId 357"),
    (370, "marked invalid, and byte for byte the valid tcId 357"),
    (372, "marked valid, with a `?` in the header: no base64url (RFC 7515 section 2)"),
    (373, "marked valid, with a `?` in the payload: no base64url (RFC 7515 section 2)"),
];

/// Groups whose keys are for algorithms that are not here. Refused when they are imported.
const JWS_OTHER_ALGORITHMS: [&str; 6] = ["RS384", "RS512", "PS384", "PS512", "ES521", "HS384"];

/// The key of a group, as who verifies has it.
fn key_of(group: &Value, backend: Backend) -> Result<VerifyingKey, KeyError> {
    match group.get("public") {
        Some(public) => on(&public.to_string(), backend),
        None => {
            let key = SigningKey::from_jwk(group["private"].to_string().as_bytes())?;
            key.verifying_key().with_backend(backend)
        }
    }
}

/// A JWS in compact form under a key that says its algorithm: RFC 7515 section 5.2 and no more.
/// Access tokens need a `typ` besides, which these vectors lack.
fn verifies_as_jws(key: &VerifyingKey, jws: &str) -> bool {
    let mut parts = jws.split('.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let decode = |part: &str| URL_SAFE_NO_PAD.decode_to_vec(part).ok();
    let (Some(header_json), Some(_), Some(raw)) =
        (decode(header), decode(payload), decode(signature))
    else {
        return false;
    };
    let Ok(header_json) = serde_json::from_slice::<Value>(&header_json) else { return false };
    let is_its = header_json["alg"] == key.algorithm().name()
        && header_json.get("kid").is_none_or(|kid| *kid == *key.kid())
        && header_json.get("crit").is_none();
    is_its && key.verify(format!("{header}.{payload}").as_bytes(), &raw)
}

#[test]
fn whole_signatures() -> Tested {
    let file: Value =
        serde_json::from_str(include_str!("data/wycheproof/json_web_signature_test.json"))?;
    let verifier = Verifier::new("joe", &["api"], 0);
    let mut scratch = Scratch::new();
    for backend in Backend::ALL {
        let (mut run, mut unsupported, mut wrong_use, mut defects) = (0, 0, 0, 0);
        for group in file["testGroups"].as_array().ok_or("no groups")? {
            let tests = group["tests"].as_array().ok_or("no tests")?;
            let alg = group["private"]["alg"].as_str().unwrap_or_default();
            let key = match key_of(group, *backend) {
                Ok(key) => key,
                Err(KeyError::AlgorithmMismatch | KeyError::UnsupportedKeyType)
                    if JWS_OTHER_ALGORITHMS.contains(&alg) =>
                {
                    unsupported += tests.len();
                    continue;
                }
                Err(KeyError::WrongUse | KeyError::WrongKeyOps) => {
                    assert!(tests.iter().all(|test| test["result"] == "invalid"));
                    wrong_use += tests.len();
                    continue;
                }
                Err(error) => return Err(format!("{}: {error}", group["comment"]).into()),
            };
            let other = SigningKey::hmac(Some("other"), &[1; 32])?;
            let ring = Keyring::new(other).with_retired(&key)?;
            for test in tests {
                let id = test["tcId"].as_u64().ok_or("no tcId")?;
                let jws = test["jws"].as_str().unwrap_or_default();
                // As an access token: none of them is one.
                let refused = verifier.verify(&ring, jws.as_bytes(), Timestamp(0), &mut scratch);
                assert!(refused.is_err(), "tcId {id}");
                if JWS_DEFECTS.iter().any(|(defect, _)| *defect == id) {
                    let is_valid = test["result"] == "valid";
                    assert_eq!(verifies_as_jws(&key, jws), !is_valid, "tcId {id}");
                    defects += 1;
                    continue;
                }
                let verified = verifies_as_jws(&key, jws);
                assert_eq!(verified, test["result"] == "valid", "tcId {id} on {backend}: {test}");
                run += 1;
            }
        }
        assert_eq!((run, unsupported, wrong_use, defects), (356, 35, 4, 6), "{backend}");
    }
    Ok(())
}

/// Vectors of `json_web_key_test.json` that are answered otherwise, each with its reason.
const JWK_DIFFERENCES: [(u64, &str); 1] = [(
    1,
    "one set of HMAC and public keys: marked ambiguous; here a ring may hold both, since a key is \
     bound to its algorithm and its kid",
)];

#[test]
fn keys_and_sets_of_keys() -> Tested {
    let file: Value = serde_json::from_str(include_str!("data/wycheproof/json_web_key_test.json"))?;
    let mut differences = Vec::new();
    let (mut run, mut unsupported) = (0, 0);
    for group in file["testGroups"].as_array().ok_or("no groups")? {
        let keys = match group.get("public").or(group.get("private")).ok_or("no key")? {
            set if set.get("keys").is_some() => set["keys"].as_array().ok_or("no keys")?.clone(),
            key => vec![key.clone()],
        };
        let imported = ring_of(&keys);
        for test in group["tests"].as_array().ok_or("no tests")? {
            let id = test["tcId"].as_u64().ok_or("no tcId")?;
            let jws = test["jws"].as_str().unwrap_or_default();
            let is_other = keys.iter().any(|key| {
                matches!(key["alg"].as_str(), Some("HS384" | "HS512")) && test["result"] == "valid"
            });
            if is_other {
                let why = imported.as_ref().err();
                assert!(matches!(why, Some(KeyError::AlgorithmMismatch)), "tcId {id}: {why:?}");
                unsupported += 1;
                continue;
            }
            run += 1;
            let verified = imported
                .as_ref()
                .is_ok_and(|ring| ring.keys().any(|key| verifies_as_jws(key, jws)));
            if verified != (test["result"] == "valid") {
                differences.push(id);
            }
        }
    }
    assert_eq!(differences, JWK_DIFFERENCES.map(|(id, _)| id));
    assert_eq!((run, unsupported), (24, 2));
    Ok(())
}

/// The ring of a set of keys, private or public.
fn ring_of(keys: &[Value]) -> Result<Keyring, KeyError> {
    let mut ring = Keyring::new(SigningKey::hmac(Some("of-this-test"), &[1; 32])?);
    for key in keys {
        let text = key.to_string();
        let key = match key.get("d").or(key.get("k")) {
            Some(_) => SigningKey::from_jwk(text.as_bytes())?.verifying_key().clone(),
            None => VerifyingKey::from_jwk(text.as_bytes())?,
        };
        // A kid that is there twice is refused by the ring.
        ring = ring.with_retired(&key).map_err(|_| KeyError::BadKid)?;
    }
    Ok(ring)
}
