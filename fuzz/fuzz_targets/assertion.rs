//! Assertions of others: none is verified but the genuine one. An input is an assertion as it stands, a
//! JWK Set as it stands, and a list of edits (position, operation, byte) of the genuine assertion.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mintage::codec::assertion::AssertionVerifier;
use mintage::codec::jwk_set::JwkSet;
use mintage::time::Timestamp;

const NOW: Timestamp = Timestamp(1_700_000_100);
const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k1","x":"sHBIBQL1aHk_JKZ6j6yN5bJpVXvXSRJelkpFe46LPuU"}]}"#;
/// Signed with the private key of the tests by openssl.
const GENUINE: &str = "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCIsImtpZCI6ImsxIn0.eyJpc3MiOiJDMSIsInN1YiI6IkMxIiwiYXVkIjpbImh0dHBzOi8vYXMuZXhhbXBsZSIsIngiXSwianRpIjoiajEiLCJpYXQiOjE3MDAwMDAwMDAsImV4cCI6MTcwMDAwMDIwMH0.PoFo0D4-RcisZelfAqIHNF33G0lcGn2UTVmPt43ydykESEnbdNEKtiK0kL32_3Oux7SZ5Z71ijUrT2ePIqeaAA";

static VERIFIER: LazyLock<(AssertionVerifier, JwkSet)> = LazyLock::new(|| {
    let verifier = AssertionVerifier::new(&["https://as.example"], 0, 300);
    (verifier, JwkSet::parse(KEYS.as_bytes()).expect("a set"))
});

fn verifies(text: &str) -> bool {
    let (verifier, keys) = &*VERIFIER;
    let Ok(assertion) = verifier.read(text) else { return false };
    let _ = (assertion.said_issuer(), assertion.said_kid(), assertion.is_symmetric());
    verifier.verify(assertion, keys.keys(), NOW).is_ok_and(|verified| {
        assert_eq!((verified.issuer(), verified.jti()), ("C1", Some("j1")));
        true
    })
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
