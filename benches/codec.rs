//! What a token costs over the bare primitive: `ring` signs or verifies the same bytes, `mintage`
//! does the whole token (claims written, or header, signature, claims, issuer, audience and times
//! checked). The ratio of the two is the figure that counts.

#[path = "support/cpu_time.rs"]
mod support;

use std::error::Error;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use mintage::codec::algorithm::Algorithm;
use mintage::codec::claims::{AccessClaims, ClaimsWriter, ExtraClaims};
use mintage::codec::handle::{HandleBuf, HandleKeys, HandleKind};
use mintage::codec::jws::{Scratch, SignError, Verifier};
use mintage::codec::keyring::Keyring;
use mintage::codec::keys::SigningKey;
use mintage::ids::OrgId;
use mintage::locator::Locator;
use mintage::root_key::RootKey;
use mintage::secret::SecretBytes;
use mintage::time::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use ring::{hmac, rsa};

use support::{CpuTime, ONE};

type Made<T> = Result<T, Box<dyn Error>>;

const NOW: Timestamp = Timestamp(1_700_000_100);
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const RSA_PEM: &str = include_str!("../tests/data/rsa2048.pk8.pem");

struct Session;

impl ExtraClaims for Session {
    fn write<'c>(&'c self, claims: &mut ClaimsWriter<'c>) -> Result<(), SignError> {
        claims.str("sid", "0f8fad5b-d9cb-469f-a165-70867728950e")
    }
}

/// 328 bytes of JSON, as an authority with usual names would write.
fn claims() -> AccessClaims<'static> {
    AccessClaims {
        issuer: "https://login.example.com",
        subject: "005xx000001Sv6AAAS",
        audience: &["https://api.example.com"],
        client_id: "3MVG9lKcPoNINVBIPJjdw1J9LLM82HnFVVX19KY1uA5mu0",
        scope: "api web refresh_token",
        issued_at: Timestamp(1_700_000_000),
        not_before: Some(Timestamp(1_700_000_000)),
        expires_at: Timestamp(1_700_003_600),
        jti: "7c9e6679-7425-40de-944b-e07fc1f90ae7",
        extra: &Session,
    }
}

/// A ring key beside ours, over the same material.
enum Bare {
    Hmac(hmac::Key),
    Ecdsa(EcdsaKeyPair, &'static signature::EcdsaVerificationAlgorithm),
    Ed25519(Ed25519KeyPair),
    Rsa(rsa::KeyPair, &'static dyn signature::RsaEncoding, &'static signature::RsaParameters),
}

fn keys(algorithm: Algorithm) -> Made<(Bare, SigningKey)> {
    let rng = SystemRandom::new();
    let failed = |_| "ring has no randomness";
    let kid = Some("2026-11");
    Ok(match algorithm {
        Algorithm::Hs256 => {
            let bare = Bare::Hmac(hmac::Key::new(hmac::HMAC_SHA256, SECRET));
            (bare, SigningKey::hmac(kid, SECRET)?)
        }
        Algorithm::EdDsa => {
            let der = Ed25519KeyPair::generate_pkcs8(&rng).map_err(failed)?;
            let pair = Ed25519KeyPair::from_pkcs8(der.as_ref()).map_err(|e| e.to_string())?;
            (Bare::Ed25519(pair), SigningKey::from_pkcs8(algorithm, kid, der.as_ref())?)
        }
        Algorithm::Es256 | Algorithm::Es384 => {
            let (signing, verifying) = match algorithm {
                Algorithm::Es256 => (
                    &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
                    &signature::ECDSA_P256_SHA256_FIXED,
                ),
                _ => (
                    &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
                    &signature::ECDSA_P384_SHA384_FIXED,
                ),
            };
            let der = EcdsaKeyPair::generate_pkcs8(signing, &rng).map_err(failed)?;
            let pair =
                EcdsaKeyPair::from_pkcs8(signing, der.as_ref(), &rng).map_err(|e| e.to_string())?;
            (Bare::Ecdsa(pair, verifying), SigningKey::from_pkcs8(algorithm, kid, der.as_ref())?)
        }
        _ => {
            let base64: String = RSA_PEM.lines().filter(|line| !line.starts_with('-')).collect();
            let der = base64_simd::STANDARD.decode_to_vec(base64)?;
            let pair = rsa::KeyPair::from_pkcs8(&der).map_err(|e| e.to_string())?;
            let bare = match algorithm {
                Algorithm::Ps256 => Bare::Rsa(
                    pair,
                    &signature::RSA_PSS_SHA256,
                    &signature::RSA_PSS_2048_8192_SHA256,
                ),
                _ => Bare::Rsa(
                    pair,
                    &signature::RSA_PKCS1_SHA256,
                    &signature::RSA_PKCS1_2048_8192_SHA256,
                ),
            };
            (bare, SigningKey::from_pem(algorithm, kid, RSA_PEM)?)
        }
    })
}

impl Bare {
    fn sign(&self, input: &[u8], rng: &SystemRandom, out: &mut [u8; 256]) -> bool {
        match self {
            Bare::Hmac(key) => {
                out[..32].copy_from_slice(hmac::sign(key, input).as_ref());
                true
            }
            Bare::Ed25519(pair) => {
                out[..64].copy_from_slice(pair.sign(input).as_ref());
                true
            }
            Bare::Ecdsa(pair, _) => pair.sign(rng, input).is_ok_and(|signature| {
                out[..signature.as_ref().len()].copy_from_slice(signature.as_ref());
                true
            }),
            Bare::Rsa(pair, padding, _) => pair.sign(*padding, rng, input, out).is_ok(),
        }
    }

    fn verify(&self, input: &[u8], raw: &[u8]) -> bool {
        match self {
            Bare::Hmac(key) => hmac::verify(key, input, raw).is_ok(),
            Bare::Ed25519(pair) => {
                let key = UnparsedPublicKey::new(&signature::ED25519, pair.public_key());
                key.verify(input, raw).is_ok()
            }
            Bare::Ecdsa(pair, curve) => {
                UnparsedPublicKey::new(*curve, pair.public_key()).verify(input, raw).is_ok()
            }
            Bare::Rsa(pair, _, parameters) => {
                UnparsedPublicKey::new(*parameters, pair.public().as_ref())
                    .verify(input, raw)
                    .is_ok()
            }
        }
    }
}

fn jwts(criterion: &mut Criterion<CpuTime>) {
    for algorithm in Algorithm::ALL {
        jwt(criterion, algorithm).expect("keys and a token for the benchmark");
    }
}

fn jwt(criterion: &mut Criterion<CpuTime>, algorithm: Algorithm) -> Made<()> {
    let (bare, key) = keys(algorithm)?;
    let rng = SystemRandom::new();
    let mut out = [0; 1_024];
    let token = key.sign_into(&claims(), &mut out)?.to_owned();
    let (input, signature) = token.rsplit_once('.').ok_or("no signature")?;
    let raw = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(signature)?;

    let mut group = criterion.benchmark_group(format!("sign/{algorithm}"));
    group.throughput(ONE);
    let mut bare_out = [0; 256];
    group.bench_function("ring", |b| {
        b.iter(|| assert!(bare.sign(black_box(input.as_bytes()), &rng, &mut bare_out)));
    });
    group.bench_function("mintage", |b| {
        b.iter(|| {
            let signed = key.sign_into(black_box(&claims()), &mut out);
            assert_eq!(signed.map(str::len), Ok(token.len()));
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group(format!("verify/{algorithm}"));
    group.throughput(ONE);
    group.bench_function("ring", |b| {
        b.iter(|| assert!(bare.verify(black_box(input.as_bytes()), black_box(&raw))));
    });
    let ring = Keyring::new(key);
    let verifier = Verifier::new("https://login.example.com", &["https://api.example.com"], 0);
    let mut scratch = Scratch::new();
    group.bench_function("mintage", |b| {
        b.iter(|| {
            let verified = verifier.verify(&ring, black_box(token.as_bytes()), NOW, &mut scratch);
            assert!(verified.is_ok_and(|token| token.subject() == "005xx000001Sv6AAAS"));
        });
    });
    group.finish();
    Ok(())
}

fn handles(criterion: &mut Criterion<CpuTime>) {
    handle(criterion).expect("keys for the benchmark");
}

fn handle(criterion: &mut Criterion<CpuTime>) -> Made<()> {
    let keys = HandleKeys::new(&RootKey::from_bytes(1, [1; 32]), OrgId::new("00D1")?)?;
    let locator = Locator { class: 6, bucket: 7, id: 8 };
    let secret = SecretBytes::new([9; 32]);
    let mut out = HandleBuf::new();
    let digest = keys.mint(HandleKind::Access, locator, &secret, &mut out);
    let text = out.as_str().to_owned();

    let mut group = criterion.benchmark_group("handle");
    group.throughput(ONE);
    group.bench_function("mint", |b| {
        b.iter(|| {
            let minted = keys.mint(HandleKind::Access, black_box(locator), &secret, &mut out);
            assert_eq!(minted, digest);
        });
    });
    group.bench_function("parse", |b| {
        b.iter(|| {
            let parsed = keys.parse(HandleKind::Access, black_box(&text));
            assert!(parsed.is_ok_and(|handle| handle.digest == digest));
        });
    });
    // The most expensive refusal: all is right but the MAC.
    let foreign = HandleKeys::new(&RootKey::from_bytes(1, [2; 32]), OrgId::new("00D1")?)?;
    foreign.mint(HandleKind::Access, locator, &secret, &mut out);
    group.bench_function("reject", |b| {
        b.iter(|| assert!(keys.parse(HandleKind::Access, black_box(out.as_str())).is_err()));
    });
    group.finish();
    Ok(())
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = jwts, handles
}
criterion_main!(benches);
