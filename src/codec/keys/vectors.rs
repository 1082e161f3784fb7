//! The examples of the RFCs, through every backend.

use serde_json::Value;

use super::{Backend, SigningKey, VerifyingKey};
use crate::codec::base64url;
use crate::codec::jwk::Jwk;
use crate::codec::jws::{Scratch, Verifier, VerifyError};
use crate::codec::keyring::Keyring;
use crate::time::Timestamp;

type Tested = Result<(), Box<dyn std::error::Error>>;

/// RFC 7515 appendix A.5.
const UNSECURED: &str = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA\
                         6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.";

struct Example {
    name: String,
    key: String,
    input: String,
    signature: Vec<u8>,
    randomised: bool,
}

fn table(name: &str) -> Result<Vec<Value>, Box<dyn std::error::Error>> {
    let file: Value = serde_json::from_str(include_str!("../../../tests/data/rfc_vectors.json"))?;
    Ok(file[name].as_array().ok_or("no such table")?.clone())
}

fn examples() -> Result<Vec<Example>, Box<dyn std::error::Error>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let example = |row: &Value| {
        let signature = base64url::decode(&text(&row["signature"])).map_err(|_| "base64url")?;
        Ok(Example {
            name: text(&row["name"]),
            key: row["key"].to_string(),
            input: format!("{}.{}", text(&row["protected"]), text(&row["payload"])),
            signature,
            randomised: row["randomised"] == true,
        })
    };
    table("signed")?.iter().map(example).collect()
}

#[test]
fn every_example_of_the_rfcs_verifies_and_no_changed_one() -> Tested {
    let examples = examples()?;
    assert_eq!(examples.len(), 9);
    for example in examples {
        let Example { name, key, input, signature, .. } = example;
        for backend in Backend::ALL {
            let key = SigningKey::from_jwk(key.as_bytes()).map_err(|e| format!("{name}: {e}"))?;
            let key = key.with_backend(*backend)?;
            let key = key.verifying_key();
            assert!(key.verify(input.as_bytes(), &signature), "{name} on {backend}");
            for at in 0..signature.len() {
                let mut changed = signature.clone();
                changed[at] ^= 1;
                assert!(!key.verify(input.as_bytes(), &changed), "{name} on {backend}: byte {at}");
            }
            assert!(!key.verify(&input.as_bytes()[1..], &signature));
            assert!(!key.verify(input.as_bytes(), &signature[1..]));
        }
    }
    Ok(())
}

/// A MAC is verified by making it again, so only key pairs are looked at.
#[test]
fn what_is_not_randomised_is_signed_to_the_same_bytes() -> Tested {
    for example in examples()? {
        let Example { name, key, input, signature, randomised } = example;
        for backend in Backend::ALL {
            let key = SigningKey::from_jwk(key.as_bytes())?.with_backend(*backend)?;
            if key.algorithm().is_symmetric() {
                continue;
            }
            let mut out = [0; 1_024];
            let len = key.sign(None, input.as_bytes(), &mut out)?;
            let signed = base64url::decode(std::str::from_utf8(&out[..len])?);
            let signed = signed.map_err(|_| "no base64url")?;
            assert!(key.verifying_key().verify(input.as_bytes(), &signed), "{name} on {backend}");
            assert_eq!(signed == signature, !randomised, "{name} on {backend}");
        }
    }
    Ok(())
}

#[test]
fn keys_of_the_rfcs_for_other_things_are_refused_by_name() -> Tested {
    for row in table("refused_keys")? {
        let refused = VerifyingKey::from_jwk(row["key"].to_string().as_bytes()).err();
        let why = refused.map(|error| format!("{error:?}"));
        assert_eq!(why.as_deref(), row["error"].as_str(), "{}", row["name"]);
    }
    Ok(())
}

#[test]
fn thumbprints_are_those_of_the_rfcs() -> Tested {
    for row in table("thumbprints")? {
        let key = Jwk::parse(row["key"].to_string().as_bytes())?;
        assert_eq!(Some(key.thumbprint().as_str()), row["thumbprint"].as_str(), "{}", row["name"]);
    }
    Ok(())
}

/// None of them is an access token of RFC 9068: they have no `typ` of it, or another one.
#[test]
fn the_whole_examples_are_refused_by_a_verifier_of_access_tokens() -> Tested {
    let verifier = Verifier::new("joe", &["api"], 0);
    for example in examples()? {
        let Example { name, key, input, signature, .. } = example;
        let ring = Keyring::new(SigningKey::from_jwk(key.as_bytes())?);
        let token = format!("{input}.{}", base64url::encode(&signature));
        let mut scratch = Scratch::new();
        let refused = verifier.verify(&ring, token.as_bytes(), Timestamp(0), &mut scratch).err();
        let wanted = match input.starts_with('.') {
            true => VerifyError::Malformed,
            false => VerifyError::WrongType,
        };
        assert_eq!(refused, Some(wanted), "{name}");
        let refused =
            verifier.verify(&ring, UNSECURED.as_bytes(), Timestamp(0), &mut scratch).err();
        assert_eq!(refused, Some(VerifyError::AlgNotAllowed), "RFC 7515 appendix A.5");
    }
    Ok(())
}
