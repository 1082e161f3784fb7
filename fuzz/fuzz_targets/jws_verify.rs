//! Changed tokens: none verifies but the genuine one. An input is a list of edits (position,
//! operation, byte) of a genuine token, and, as it stands, a token of its own.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mintage::codec::algorithm::Algorithm;
use mintage::codec::claims::{AccessClaims, NoExtraClaims};
use mintage::codec::jws::{Scratch, Verifier, peek};
use mintage::codec::keyring::Keyring;
use mintage::codec::keys::SigningKey;
use mintage::entropy::SeededEntropy;
use mintage::time::Timestamp;

const NOW: Timestamp = Timestamp(1_700_000_100);

static GENUINE: LazyLock<(Keyring, [Vec<u8>; 2])> = LazyLock::new(|| {
    let key = |algorithm, kid| {
        SigningKey::generate(algorithm, Some(kid), &SeededEntropy::new(1)).expect("a key")
    };
    let (one, two) = (key(Algorithm::Hs256, "k1"), key(Algorithm::EdDsa, "k2"));
    let tokens = [token_of(&one), token_of(&two)];
    (Keyring::new(one).with_active(two).expect("two keys"), tokens)
});

fuzz_target!(|input: &[u8]| {
    let (ring, tokens) = &*GENUINE;
    let verifier = Verifier::new("https://as.example", &["api"], 0);
    let mut scratch = Scratch::new();
    let mut verifies = |token: &[u8]| {
        let _ = peek(token, &mut scratch);
        verifier.verify(ring, token, NOW, &mut scratch).is_ok()
    };
    let genuine = |token: &[u8]| tokens.iter().any(|genuine| genuine == token);
    assert_eq!(verifies(input), genuine(input));
    let Some((which, edits)) = input.split_first() else { return };
    let mut token = tokens[usize::from(which % 2)].clone();
    for edit in edits.chunks_exact(4) {
        let at = usize::from(u16::from_be_bytes([edit[0], edit[1]])) % (token.len() + 1);
        match edit[2] % 5 {
            0 if at < token.len() => token[at] = edit[3],
            1 if at < token.len() => token[at] ^= 1 << (edit[3] % 8),
            2 => token.insert(at, edit[3]),
            3 if at < token.len() => drop(token.remove(at)),
            4 => token.truncate(at),
            _ => {}
        }
    }
    assert_eq!(verifies(&token), genuine(&token));
});

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
