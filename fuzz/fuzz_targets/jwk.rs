//! Text as a JWK: no text panics; what is read says the numbers that serde_json and the crate
//! `base64` find in it, and what is written of it reads the same. A private one signs what its public
//! half verifies. Half of the inputs are a genuine JWK and changes to it.
#![no_main]

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use mintage::codec::algorithm::Algorithm;
use mintage::codec::claims::{AccessClaims, NoExtraClaims};
use mintage::codec::jwk::Jwk;
use mintage::codec::jws::{Scratch, Verifier};
use mintage::codec::keyring::Keyring;
use mintage::codec::keys::{SigningKey, VerifyingKey};
use mintage::entropy::SeededEntropy;
use mintage::time::Timestamp;
use serde_json::Value;

const NOW: Timestamp = Timestamp(1_700_000_100);

static GENUINE: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let rsa = include_str!("../../tests/data/rsa2048.jwk.json");
    let private: Value = serde_json::from_str(rsa).expect("a JWK");
    let mut public = private.clone();
    for name in ["d", "p", "q", "dp", "dq", "qi", "key_ops"] {
        public.as_object_mut().expect("an object").remove(name);
    }
    let mut genuine = vec![rsa.as_bytes().to_vec(), public.to_string().into_bytes()];
    for algorithm in [Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa] {
        let key = SigningKey::generate(algorithm, Some("k"), &SeededEntropy::new(1)).expect("key");
        genuine.push(key.public_jwk().expect("a key pair").to_json().into_bytes());
    }
    genuine.push(
        br#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
        "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#
            .to_vec(),
    );
    genuine.push(br#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T"}"#.to_vec());
    genuine
});

fuzz_target!(|input: &[u8]| {
    read(input);
    let Some((which, edits)) = input.split_first() else { return };
    let mut text = GENUINE[usize::from(*which) % GENUINE.len()].clone();
    for edit in edits.chunks_exact(4) {
        let at = usize::from(u16::from_be_bytes([edit[0], edit[1]])) % (text.len() + 1);
        match edit[2] % 4 {
            0 if at < text.len() => text[at] = edit[3],
            1 => text.insert(at, edit[3]),
            2 if at < text.len() => drop(text.remove(at)),
            3 => text.truncate(at.max(1)),
            _ => {}
        }
    }
    read(&text);
});

fn read(text: &[u8]) {
    if let Ok(jwk) = Jwk::parse(text) {
        same_numbers(&jwk, text);
        let again = Jwk::parse(jwk.to_json().as_bytes()).expect("what is written is read");
        assert_eq!((&again, again.thumbprint()), (&jwk, jwk.thumbprint()));
        let key = VerifyingKey::from_jwk(text).expect("a public key verifies");
        assert!(!key.verify(b"input", &[0; 64]) && !key.verify(b"input", &[0; 256]));
        // A public key is never a private one.
        assert!(SigningKey::from_jwk(text).is_err());
    }
    if let Ok(key) = SigningKey::from_jwk(text) {
        assert!(Jwk::parse(text).is_err(), "a private JWK was read as a public one");
        let back = SigningKey::from_private_bytes(&key.to_private_bytes()).expect("stored");
        assert_eq!((back.kid(), back.public_jwk()), (key.kid(), key.public_jwk()));
        let token = token_of(&back);
        let verifier = Verifier::new("https://as.example", &["api"], 0);
        let (ring, mut scratch) = (Keyring::new(key), Scratch::new());
        let verified = verifier.verify(&ring, &token, NOW, &mut scratch).map(|_| ());
        assert_eq!(verified, Ok(()), "the public half does not verify what the private one signed");
    }
}

/// Our reader and two others agree on what the text says.
fn same_numbers(jwk: &Jwk, text: &[u8]) {
    let theirs: Value = serde_json::from_slice(text).expect("serde_json reads what we read");
    let ours: Value = serde_json::from_str(&jwk.to_json()).expect("JSON");
    for name in ["kty", "crv", "n", "e", "x", "y"] {
        let bytes = |value: &Value| value.as_str().map(|text| URL_SAFE_NO_PAD.decode(text));
        match name {
            "kty" | "crv" => assert_eq!(ours.get(name), theirs.get(name)),
            _ if ours.get(name).is_some() => {
                let (ours, theirs) = (bytes(&ours[name]), bytes(&theirs[name]));
                assert!(matches!(&theirs, Some(Ok(_))), "{name} is no base64url");
                assert_eq!(ours, theirs, "{name}");
            }
            _ => {}
        }
    }
    if let Some(kid) = theirs.get("kid") {
        assert_eq!(Some(kid.as_str()), Some(jwk.kid()));
    }
    let is_odd = |name: &str| {
        let bytes = URL_SAFE_NO_PAD.decode(ours[name].as_str().expect("a number")).expect("bytes");
        bytes.last().is_some_and(|last| last % 2 == 1)
    };
    if ours["kty"] == "RSA" {
        let bits = ours["n"].as_str().map_or(0, |n| n.len() * 6);
        assert!((2_046..=8_196).contains(&bits) && is_odd("n") && is_odd("e"));
    }
}

fn token_of(key: &SigningKey) -> Vec<u8> {
    let claims = AccessClaims {
        issuer: "https://as.example",
        subject: "u1",
        audience: &["api"],
        client_id: "C1",
        scope: "api",
        issued_at: Timestamp(1_700_000_000),
        not_before: None,
        expires_at: Timestamp(1_700_003_600),
        jti: "j1",
        extra: &NoExtraClaims,
    };
    let mut out = vec![0; key.token_len(&claims).expect("a length")];
    key.sign_into(&claims, &mut out).expect("a token");
    out
}
