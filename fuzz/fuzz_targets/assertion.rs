//! Assertions of others: none is verified but the genuine one. An input is an assertion as it stands, a
//! JWK Set as it stands, a list of edits (position, operation, byte) of the genuine assertion, and members
//! of a header and of claims that are signed properly: whatever we accept, `jsonwebtoken` accepts.
#![no_main]

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, Validation};
use libfuzzer_sys::fuzz_target;
use mintage::codec::assertion::AssertionVerifier;
use mintage::codec::jwk_set::JwkSet;
use mintage::codec::keys::SigningKey;
use mintage::time::Timestamp;

const NOW: Timestamp = Timestamp(1_700_000_100);
const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k1","x":"sHBIBQL1aHk_JKZ6j6yN5bJpVXvXSRJelkpFe46LPuU"}]}"#;
/// Signed with the private key of the tests by openssl.
const GENUINE: &str = "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCIsImtpZCI6ImsxIn0.eyJpc3MiOiJDMSIsInN1YiI6IkMxIiwiYXVkIjpbImh0dHBzOi8vYXMuZXhhbXBsZSIsIngiXSwianRpIjoiajEiLCJpYXQiOjE3MDAwMDAwMDAsImV4cCI6MTcwMDAwMDIwMH0.PoFo0D4-RcisZelfAqIHNF33G0lcGn2UTVmPt43ydykESEnbdNEKtiK0kL32_3Oux7SZ5Z71ijUrT2ePIqeaAA";

static VERIFIER: LazyLock<(AssertionVerifier, JwkSet)> = LazyLock::new(|| {
    let verifier = AssertionVerifier::new(&["https://as.example"], 0, 300);
    (verifier, JwkSet::parse(KEYS.as_bytes()).expect("a set"))
});

const SECRET: &[u8] = &[5; 32];

static SHARED: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::hmac(None, SECRET).expect("a key"));

fn verifies(text: &str) -> bool {
    let (verifier, keys) = &*VERIFIER;
    let Ok(assertion) = verifier.read(text) else { return false };
    let _ = (assertion.said_issuer(), assertion.said_kid(), assertion.is_symmetric());
    verifier.verify(assertion, keys.keys(), NOW).is_ok_and(|verified| {
        assert_eq!((verified.issuer(), verified.jti()), ("C1", Some("j1")));
        assert!(another_library_accepts(text), "jsonwebtoken refuses what we accept");
        true
    })
}

/// Whatever we accept, `jsonwebtoken` accepts: signature, algorithm, issuer, audience. The time is not
/// its own to judge: its clock is the system's.
fn another_library_accepts(text: &str) -> bool {
    static THEIRS: LazyLock<(DecodingKey, Validation)> = LazyLock::new(|| {
        let x = "sHBIBQL1aHk_JKZ6j6yN5bJpVXvXSRJelkpFe46LPuU";
        let mut rules = Validation::new(jsonwebtoken::Algorithm::EdDSA);
        rules.set_audience(&["https://as.example"]);
        rules.set_issuer(&["C1"]);
        rules.validate_exp = false;
        (DecodingKey::from_ed_components(x).expect("a key"), rules)
    });
    let (key, rules) = &*THEIRS;
    jsonwebtoken::decode::<serde_json::Value>(text, key, rules).is_ok()
}

/// An assertion of any header and claims that the input spells, signed with the genuine key: here
/// both libraries have something to judge.
fn signed(input: &[u8]) {
    let (header, claims) = input.split_at(input.len() / 2);
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let object = |known: &str, more: &[u8]| format!("{{{known}{}}}", String::from_utf8_lossy(more));
    let header = object(r#""alg":"HS256","typ":"JWT""#, header);
    let known = r#""iss":"C1","sub":"C1","aud":"https://as.example","jti":"j1","exp":1700000200"#;
    let claims = object(known, claims);
    let input = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
    let tag =
        ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET), input.as_bytes());
    let text = format!("{input}.{}", encode(tag.as_ref()));
    let (verifier, _) = &*VERIFIER;
    let Ok(assertion) = verifier.read(&text) else { return };
    if verifier.verify(assertion, std::slice::from_ref(SHARED.verifying_key()), NOW).is_err() {
        return;
    }
    let mut rules = Validation::new(jsonwebtoken::Algorithm::HS256);
    rules.set_audience(&["https://as.example"]);
    rules.set_issuer(&["C1"]);
    rules.validate_exp = false;
    let key = DecodingKey::from_secret(SECRET);
    let theirs = jsonwebtoken::decode::<serde_json::Value>(&text, &key, &rules);
    assert!(theirs.is_ok(), "jsonwebtoken refuses {text}: {theirs:?}");
}

fuzz_target!(|input: &[u8]| {
    assert!(verifies(GENUINE));
    if let Ok(text) = std::str::from_utf8(input) {
        assert_eq!(verifies(text), text == GENUINE);
    }
    if let Ok(set) = JwkSet::parse(input) {
        let again = JwkSet::parse(set.to_json().as_bytes()).expect("a set of ours");
        assert_eq!(again, set);
    }
    signed(input);
    let mut bytes = GENUINE.as_bytes().to_vec();
    for edit in input.chunks_exact(4) {
        let at = usize::from(u16::from_be_bytes([edit[0], edit[1]])) % (bytes.len() + 1);
        match edit[2] % 5 {
            0 if at < bytes.len() => bytes[at] = edit[3],
            1 if at < bytes.len() => bytes[at] ^= 1 << (edit[3] % 8),
            2 => bytes.insert(at, edit[3]),
            3 if at < bytes.len() => drop(bytes.remove(at)),
            4 => bytes.truncate(at),
            _ => {}
        }
    }
    if let Ok(text) = std::str::from_utf8(&bytes) {
        assert_eq!(verifies(text), text == GENUINE);
    }
});
