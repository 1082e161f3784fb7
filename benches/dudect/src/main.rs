//! Whether the time of a comparison tells how much of a guess is right (Reparaz, Balasch, Verbauwhede:
//! "Dude, is my code constant time?"). Both classes are refused: one differs from the secret in its
//! first byte, the other in its last, so a comparison that stops early shows. |t| stays below 4.5 for
//! all of them but the planted leak, which must be far above it.
//!
//! `cargo run --release --manifest-path benches/dudect/Cargo.toml`

use std::hint::black_box;

use base64_simd::URL_SAFE_NO_PAD;
use dudect_bencher::{BenchRng, Class, CtRunner, ctbench_main};
use mintage::codec::handle::{HandleBuf, HandleKeys, HandleKind};
use mintage::codec::keys::SigningKey;
use mintage::ids::OrgId;
use mintage::locator::Locator;
use mintage::root_key::RootKey;
use mintage::secret::{SecretBytes, same_bytes};
use rand::{Rng as _, RngExt as _};

const SAMPLES: usize = 1_000_000;

/// Times `compare` over guesses that are wrong at the first or at the last of their bytes.
fn time<const N: usize>(
    runner: &mut CtRunner,
    rng: &mut BenchRng,
    secret: &[u8; N],
    compare: impl Fn(&[u8; N]) -> bool,
) {
    // One buffer for every guess: where it lies in memory says nothing of its class.
    let mut guess = *secret;
    for _ in 0..SAMPLES {
        let (class, at) = match rng.random::<bool>() {
            true => (Class::Left, 0),
            false => (Class::Right, N - 1),
        };
        guess = *secret;
        guess[at] ^= rng.random_range(1..=255u8);
        runner.run_one(class, || black_box(compare(black_box(&guess))));
    }
    black_box(guess);
}

fn random<const N: usize>(rng: &mut BenchRng) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// The digest of a token, 16 bytes.
fn digest(runner: &mut CtRunner, rng: &mut BenchRng) {
    let secret = random::<16>(rng);
    time(runner, rng, &secret, |guess| same_bytes(&secret, guess));
}

/// A secret of 32 bytes.
fn secret(runner: &mut CtRunner, rng: &mut BenchRng) {
    let bytes = random::<32>(rng);
    let secret = SecretBytes::new(bytes);
    time(runner, rng, &bytes, |guess| secret == SecretBytes::new(*guess));
}

/// The tag of an HS256 token.
fn hs256_tag(runner: &mut CtRunner, rng: &mut BenchRng) {
    let key = SigningKey::hmac(Some("k"), &random::<32>(rng)).expect("a key");
    let input = b"eyJhbGciOiJIUzI1NiJ9.e30";
    let tag = genuine_tag(&key, input);
    time(runner, rng, &tag, |guess| key.verifying_key().verify(input, guess));
}

fn genuine_tag(key: &SigningKey, input: &[u8]) -> [u8; 32] {
    // The stored form of an HMAC key ends with its secret.
    let stored = key.to_private_bytes();
    let secret = &stored[stored.len() - 32..];
    let hmac = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    let tag = ring::hmac::sign(&hmac, input);
    tag.as_ref().try_into().expect("32 bytes")
}

/// The MAC of an opaque handle, with a checksum that is right: only the MAC refuses it.
fn handle_mac(runner: &mut CtRunner, rng: &mut BenchRng) {
    let root = RootKey::from_bytes(1, random::<32>(rng));
    let keys = HandleKeys::new(&root, OrgId::new("00D1").expect("an organisation")).expect("keys");
    let locator = Locator { class: 3, bucket: 7, id: 9 };
    let mut out = HandleBuf::new();
    let secret = SecretBytes::new(random::<32>(rng));
    keys.mint(HandleKind::Access, locator, &secret, &mut out);
    let (head, body) = out.as_str().rsplit_once('_').expect("a body");
    let body = URL_SAFE_NO_PAD.decode_to_vec(body).expect("base64url");
    let (mac_at, crc_at) = (body.len() - 12, body.len() - 4);
    let mac: [u8; 8] = body[mac_at..crc_at].try_into().expect("8 bytes");
    // Both texts of every guess are made beforehand: their checksum is none of what is timed.
    let texts: Vec<String> = (0..=255u8)
        .flat_map(|change| [(0, change), (7, change)])
        .map(|(at, change)| {
            let mut body = body.clone();
            body[mac_at..crc_at].copy_from_slice(&mac);
            body[mac_at + at] ^= change;
            let mut crc = crc32fast::Hasher::new();
            crc.update(b"mat_00D1_");
            crc.update(&body[..crc_at]);
            body[crc_at..].copy_from_slice(&crc.finalize().to_be_bytes());
            format!("{head}_{}", URL_SAFE_NO_PAD.encode_to_string(&body))
        })
        .collect();
    assert_eq!(texts[0], out.as_str(), "the checksum is that of the library");
    let mut guess = texts[0].clone();
    for _ in 0..SAMPLES {
        let right = rng.random::<bool>();
        let change = usize::from(rng.random_range(1..=255u8));
        guess.clone_from(&texts[2 * change + usize::from(right)]);
        let class = if right { Class::Right } else { Class::Left };
        runner.run_one(class, || {
            black_box(keys.parse(HandleKind::Access, black_box(&guess)).is_ok())
        });
    }
}

/// What all of the others must not be: it stops at the first byte that differs.
fn planted_leak(runner: &mut CtRunner, rng: &mut BenchRng) {
    let secret = random::<32>(rng);
    time(runner, rng, &secret, |guess| {
        secret.iter().zip(guess).all(|(a, b)| black_box(*a) == black_box(*b))
    });
}

ctbench_main!(digest, secret, hs256_tag, handle_mac, planted_leak);
