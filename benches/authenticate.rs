//! What authenticating a client costs, and whether time tells an unknown client from a wrong
//! secret: the two are asked in turn, and their times are compared (Welch's t).

#![allow(clippy::print_stderr, reason = "the comparison of times is printed beside the benchmarks")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::time::Instant;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use mintage::authority::{AuthMethod, Authority, Caller, Client, Error};
use mintage::codec::algorithm::Algorithm as Alg;
use mintage::codec::keys::SigningKey;
use mintage::store::MemoryStore;
use serde_json::json;
use support::{Bed, ISSUER, Memory, START};

/// How many callers of each kind are compared.
const MANY: usize = 64;
const ED25519: &str = include_str!("../tests/data/ed25519.pk8.pem");

/// Introspecting what is no token costs little more than authenticating who asks.
fn ask(authority: &Authority<MemoryStore>, caller: &Caller) -> Result<bool, Error> {
    Ok(authority.introspect("x", caller).wait()?.is_active())
}

fn is_test() -> bool {
    std::env::args().any(|arg| arg == "--test")
}

fn authenticate(c: &mut Criterion) {
    let bed = Bed::new(Memory::default()).expect("a bed");
    let authority = bed.authority();
    let registered = authority.register(Client::confidential("reports")).wait().expect("a client");
    let secret = registered.client_secret.expect("a secret").expose().to_owned();
    let right = Caller::secret("reports", &*secret);
    authority.register(Client::confidential("chosen").secret("correct horse")).wait().expect("one");
    let key = SigningKey::from_pem(Alg::EdDsa, Some("ed"), ED25519).expect("a key");
    let jwk = key.verifying_key().public_jwk().expect("public").to_json();
    let signs = Client::confidential("signs")
        .authenticates([AuthMethod::PrivateKeyJwt])
        .keys(&format!(r#"{{"keys":[{jwk}]}}"#));
    authority.register(signs).wait().expect("a client");

    let guess = "mcs_0123456789012345678901234567890123456789012";
    let wrong = Caller::secret("reports", guess);
    let unknown = Caller::secret("reportz", guess);
    let chosen = Caller::secret("chosen", "correct horse");
    let mut group = c.benchmark_group("authenticate");
    group.throughput(Throughput::Elements(1));
    group.bench_function("secret", |b| {
        b.iter(|| assert!(!ask(&authority, black_box(&right)).expect("opens")));
    });
    for (name, caller) in [("wrong", &wrong), ("unknown", &unknown)] {
        group.bench_function(name, |b| {
            b.iter(|| assert!(ask(&authority, black_box(caller)).is_err()));
        });
    }
    group.sample_size(10).bench_function("chosen-first", |b| {
        let wrong = Caller::secret("chosen", "battery staple");
        b.iter(|| assert!(ask(&authority, black_box(&wrong)).is_err()));
    });
    ask(&authority, &chosen).expect("opens");
    group.bench_function("chosen-again", |b| {
        b.iter(|| assert!(!ask(&authority, black_box(&chosen)).expect("opens")));
    });
    let signer = EncodingKey::from_ed_pem(ED25519.as_bytes()).expect("a key");
    let mut jti = 0u64;
    group.bench_function("private-key-jwt-eddsa", |b| {
        b.iter_batched(
            || {
                jti += 1;
                let claims = json!({"iss": "signs", "sub": "signs", "aud": ISSUER,
                    "jti": jti.to_string(), "exp": START + 60});
                let header = Header::new(Algorithm::EdDSA);
                Caller::assertion(encode(&header, &claims, &signer).expect("signed"))
            },
            // Over its room it is refused as late, after all the work.
            |caller| black_box(ask(&authority, &caller).is_ok()),
            BatchSize::SmallInput,
        );
    });
    group.finish();
    let samples = if is_test() { 1_000 } else { 500_000 };
    let known: Vec<String> = (0..MANY).map(|n| format!("known-{n:02}")).collect();
    for id in &known {
        authority.register(Client::confidential(&**id)).wait().expect("a client");
    }
    // Many of each, so that no single address in memory decides.
    let known: Vec<_> = known.iter().map(|id| Caller::secret(id, guess)).collect();
    let unknown: Vec<_> =
        (0..MANY).map(|n| Caller::secret(format!("knowm-{n:02}"), guess)).collect();
    let bent = |at: usize| -> Vec<Caller> {
        let other = if secret.as_bytes()[at] == b'A' { "E" } else { "A" };
        let bent = format!("{}{other}{}", &secret[..at], &secret[at + 1..]);
        (0..MANY).map(|_| Caller::secret("reports", &*bent)).collect()
    };
    let (first, last) = (bent(4), bent(secret.len() - 1));
    for (names, a, b) in [
        ("wrong secret / unknown client", &known, &unknown),
        ("wrong first byte / wrong last byte", &first, &last),
        ("the same / the same", &last, &last),
    ] {
        eprintln!("{names}: {}", alike(&authority, a, b, samples));
    }
}

/// Welch's t between two callers that are asked in an irregular order; slow samples, where the
/// machine did something else, are left out.
fn alike(authority: &Authority<MemoryStore>, a: &[Caller], b: &[Caller], samples: usize) -> String {
    let mut times = [Vec::with_capacity(samples), Vec::with_capacity(samples)];
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    for _ in 0..samples * 2 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let which = usize::from(state >> 63 == 1);
        let caller = &[a, b][which][usize::from(state.to_be_bytes()[1]) % MANY];
        let start = Instant::now();
        assert!(ask(authority, black_box(caller)).is_err());
        times[which].push(start.elapsed().as_nanos() as f64);
    }
    let mut all: Vec<f64> = times.iter().flatten().copied().collect();
    all.sort_by(f64::total_cmp);
    let cut = all[all.len() * 9 / 10];
    let [one, other] = times.map(|times| {
        let times: Vec<f64> = times.into_iter().filter(|time| *time <= cut).collect();
        let len = times.len() as f64;
        let mean = times.iter().sum::<f64>() / len;
        let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (len - 1.0);
        (mean, variance / len)
    });
    let t = (one.0 - other.0) / (one.1 + other.1).sqrt();
    format!("{:.1} ns / {:.1} ns, t = {t:.1}", one.0, other.0)
}

criterion_group!(benches, authenticate);
criterion_main!(benches);
