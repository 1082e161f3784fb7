//! The hot path of the codec allocates nothing. A counting allocator sees every thread, so the one
//! test here runs alone.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use mintage::codec::algorithm::Algorithm;
use mintage::codec::claims::{AccessClaims, ClaimsWriter, ExtraClaims, HalfHash, IdClaims};
use mintage::codec::handle::{HandleBuf, HandleKeys, HandleKind};
use mintage::codec::jws::{IdExpected, IdVerifier, Scratch, SignError, Template, Verifier, peek};
use mintage::codec::keyring::Keyring;
use mintage::codec::keys::SigningKey;
use mintage::entropy::SeededEntropy;
use mintage::ids::OrgId;
use mintage::locator::Locator;
use mintage::root_key::RootKey;
use mintage::secret::SecretBytes;
use mintage::time::Timestamp;
use ring::rand::SystemRandom;
use ring::rsa;
use ring::signature::{self, UnparsedPublicKey};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on to `System` unchanged; the count has no part in it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller keeps the contract of `alloc`, which is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above, and `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations<T>(run: impl FnOnce() -> T) -> (u64, T) {
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    let result = run();
    (ALLOCATIONS.load(Ordering::SeqCst) - before, result)
}

struct Session;

impl ExtraClaims for Session {
    fn write<'c>(&'c self, claims: &mut ClaimsWriter<'c>) -> Result<(), SignError> {
        claims.str("sid", "4711 \"\n\"")?;
        claims.strs("groups", &["a", "b"])?;
        claims.u64("auth_time", 1_700_000_000)
    }
}

const CLAIMS: AccessClaims<'static> = AccessClaims {
    issuer: "https://as.example",
    subject: "user \"42\"",
    audience: &["https://api.example", "b"],
    client_id: "reports",
    scope: "api web",
    issued_at: NOW,
    not_before: Some(NOW),
    expires_at: Timestamp(1_700_003_600),
    jti: "j1",
    extra: &Session,
};
const NOW: Timestamp = Timestamp(1_700_000_000);

#[test]
fn the_hot_path_allocates_nothing() -> Result<(), Box<dyn Error>> {
    let (counted, _) = allocations(|| std::hint::black_box(Box::new(1)));
    assert_eq!(counted, 1, "the counter counts");
    for algorithm in [Algorithm::Hs256, Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa] {
        jwts(algorithm)?;
        templates(algorithm)?;
        id_tokens(algorithm)?;
    }
    rsa_adds_nothing_to_ring(Algorithm::Rs256, &signature::RSA_PKCS1_SHA256)?;
    rsa_adds_nothing_to_ring(Algorithm::Ps256, &signature::RSA_PSS_SHA256)?;
    handles()
}

/// ring allocates when it signs and verifies with RSA; we allocate exactly what it does.
fn rsa_adds_nothing_to_ring(
    algorithm: Algorithm,
    padding: &'static dyn signature::RsaEncoding,
) -> Result<(), Box<dyn Error>> {
    let pem = include_str!("data/rsa2048.pk8.pem");
    let key = SigningKey::from_pem(algorithm, None, pem)?;
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64_simd::STANDARD.decode_to_vec(base64)?;
    let bare = rsa::KeyPair::from_pkcs8(&der).map_err(|error| error.to_string())?;
    let parameters = match algorithm {
        Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        _ => &signature::RSA_PKCS1_2048_8192_SHA256,
    };
    let (mut out, mut raw) = ([0; 1_024], [0; 256]);
    let rng = SystemRandom::new();
    let (ours, signed) = allocations(|| key.sign_into(&CLAIMS, &mut out));
    let token = signed?;
    let (input, _) = token.rsplit_once('.').ok_or("no signature")?;
    let (rings, signed) = allocations(|| bare.sign(padding, &rng, input.as_bytes(), &mut raw));
    assert_eq!((ours, signed.is_ok()), (rings, true), "{algorithm} sign");

    let verifier = Verifier::new("https://as.example", &["b"], 0);
    let (ring, mut scratch) = (Keyring::new(key), Scratch::new());
    let (ours, verified) =
        allocations(|| verifier.verify(&ring, token.as_bytes(), NOW, &mut scratch).is_ok());
    let public = UnparsedPublicKey::new(parameters, bare.public().as_ref());
    let (rings, bare_verified) = allocations(|| public.verify(input.as_bytes(), &raw).is_ok());
    assert_eq!((ours, verified), (rings, bare_verified), "{algorithm} verify");
    Ok(())
}

fn jwts(algorithm: Algorithm) -> Result<(), Box<dyn Error>> {
    let key = SigningKey::generate(algorithm, Some("k1"), &SeededEntropy::new(1))?;
    let verifier = Verifier::new("https://as.example", &["https://api.example"], 0);
    let mut scratch = Scratch::new();
    let mut out = [0; 1_024];
    let mut bytes = BytesMut::with_capacity(1_024);
    // ring finds out what the processor can do, once.
    key.sign_into(&CLAIMS, &mut out)?;

    let (counted, len) = allocations(|| key.token_len(&CLAIMS));
    assert_eq!(counted, 0, "{algorithm} length");
    let (counted, signed) = allocations(|| key.sign_into(&CLAIMS, &mut out));
    let token = signed?;
    assert_eq!((counted, token.len()), (0, len?), "{algorithm} sign_into");
    let (counted, signed) = allocations(|| key.sign_to(&CLAIMS, &mut bytes));
    signed?;
    assert_eq!((counted, bytes.len()), (0, token.len()), "{algorithm} sign_to");

    let ring = Keyring::new(SigningKey::from_private_bytes(&key.to_private_bytes())?);
    let (counted, verified) =
        allocations(|| verifier.verify(&ring, token.as_bytes(), NOW, &mut scratch));
    let verified = verified?;
    assert_eq!((counted, verified.subject()), (0, "user \"42\""), "{algorithm} verify");
    let (counted, groups) = allocations(|| {
        let groups = verified.get("groups").and_then(|value| value.as_strings());
        groups.into_iter().flatten().count() + verified.audience().count()
    });
    assert_eq!((counted, groups), (0, 4), "{algorithm} claims");

    for refused in [
        token.replacen("eyJ", "eyK", 1),
        token.replacen('.', "..", 1),
        format!("{}{}", &token[..token.len() - 1], if token.ends_with('A') { 'Q' } else { 'A' }),
        format!("{token}A"),
        format!("eyJhbGciOiJub25lIn0{}", &token[token.find('.').unwrap_or(0)..]),
        ".".repeat(9_000),
    ] {
        let (counted, verified) =
            allocations(|| verifier.verify(&ring, refused.as_bytes(), NOW, &mut scratch).is_ok());
        assert_eq!((counted, verified), (0, false), "{algorithm} refuse {refused:.40}");
    }
    let (counted, kid) =
        allocations(|| peek(token.as_bytes(), &mut scratch).map(|seen| seen.kid() == Some("k1")));
    assert_eq!((counted, kid), (0, Ok(true)), "{algorithm} peek");
    Ok(())
}

fn templates(algorithm: Algorithm) -> Result<(), Box<dyn Error>> {
    let key = Arc::new(SigningKey::generate(algorithm, Some("k1"), &SeededEntropy::new(1))?);
    let template = Template::new(Arc::clone(&key), &CLAIMS)?;
    let mut out = [0; 1_024];
    let mut bytes = BytesMut::with_capacity(1_024);
    let (counted, len) = allocations(|| template.token_len(&CLAIMS));
    assert_eq!((counted, len?), (0, key.token_len(&CLAIMS)?), "{algorithm} template length");
    let (counted, signed) = allocations(|| template.sign_into(&CLAIMS, &mut out).map(str::len));
    assert_eq!((counted, signed), (0, Ok(len?)), "{algorithm} template sign_into");
    let (counted, signed) = allocations(|| template.sign_to(&CLAIMS, &mut bytes));
    signed?;
    assert_eq!((counted, bytes.len()), (0, len?), "{algorithm} template sign_to");
    let other = AccessClaims { client_id: "other", ..CLAIMS };
    let (counted, signed) = allocations(|| template.sign_into(&other, &mut out).err());
    assert_eq!((counted, signed), (0, Some(SignError::OtherTemplate)));
    Ok(())
}

fn id_tokens(algorithm: Algorithm) -> Result<(), Box<dyn Error>> {
    let (counted, at_hash) = allocations(|| HalfHash::of(algorithm, "an access token"));
    assert_eq!(counted, 0, "{algorithm} at_hash");
    let claims = IdClaims {
        issuer: "https://as.example",
        subject: "user \"42\"",
        audience: &["reports", "b"],
        authorized_party: Some("reports"),
        issued_at: NOW,
        expires_at: Timestamp(1_700_003_600),
        auth_time: Some(NOW),
        nonce: Some("n-0S6_WzA2Mj"),
        acr: Some("1"),
        amr: &["pwd"],
        at_hash: Some(at_hash),
        c_hash: None,
        extra: &Mail,
    };
    let key = Arc::new(SigningKey::generate(algorithm, Some("k1"), &SeededEntropy::new(1))?);
    let template = Template::new(Arc::clone(&key), &claims)?;
    let mut out = [0; 1_024];
    let (counted, signed) = allocations(|| key.sign_into(&claims, &mut out).is_ok());
    assert_eq!((counted, signed), (0, true), "{algorithm} ID token");
    let (counted, signed) = allocations(|| template.sign_into(&claims, &mut out));
    let token = signed?;
    assert_eq!(counted, 0, "{algorithm} ID token of a template");

    let ring = Keyring::new(SigningKey::from_private_bytes(&key.to_private_bytes())?);
    let verifier = IdVerifier::new("https://as.example", "reports", 0);
    let mut scratch = Scratch::new();
    for (expected, wanted) in [
        (
            IdExpected::with_nonce("n-0S6_WzA2Mj").max_age_secs(60).access_token("an access token"),
            true,
        ),
        (IdExpected::with_nonce("n-0S6_WzA2Mj").access_token("another"), false),
        (IdExpected::without_nonce(), false),
    ] {
        let (counted, verified) = allocations(|| {
            let verified = verifier.verify(&ring, token.as_bytes(), &expected, NOW, &mut scratch);
            verified.is_ok_and(|seen| seen.amr().count() == 1 && seen.audience().count() == 2)
        });
        assert_eq!((counted, verified), (0, wanted), "{algorithm} ID token verified");
    }
    Ok(())
}

struct Mail;

impl ExtraClaims for Mail {
    fn write<'c>(&'c self, claims: &mut ClaimsWriter<'c>) -> Result<(), SignError> {
        claims.str("email", "ann@example.com")
    }
}

fn handles() -> Result<(), Box<dyn Error>> {
    let root = RootKey::from_bytes(1, [1; 32]).with_version(2, [2; 32])?;
    let keys = HandleKeys::new(&root, OrgId::new("00D1")?)?;
    let secret = SecretBytes::new([7; 32]);
    let locator = Locator { class: 1, bucket: 2, id: 3 };
    let mut out = HandleBuf::new();
    let (counted, digest) =
        allocations(|| keys.mint(HandleKind::Access, locator, &secret, &mut out));
    assert_eq!(counted, 0, "mint");
    let (counted, parsed) = allocations(|| keys.parse(HandleKind::Access, out.as_str()));
    assert_eq!((counted, parsed?.digest), (0, digest), "parse");
    let genuine = out.as_str().to_owned();
    let mut refused: Vec<String> = (0..genuine.len()).map(|at| genuine[..at].to_owned()).collect();
    refused.push(format!("{genuine}AAAAAAAAAAAAAAAAAAAAAAAAAAA"));
    refused.push(genuine.replacen("mat", "mrt", 1));
    refused.push(genuine.replacen("00D1", "00D2", 1));
    HandleKeys::new(&RootKey::from_bytes(2, [9; 32]), OrgId::new("00D1")?)?.mint(
        HandleKind::Access,
        locator,
        &secret,
        &mut out,
    );
    refused.push(out.as_str().to_owned());
    for text in &refused {
        let (counted, parsed) = allocations(|| keys.parse(HandleKind::Access, text).is_ok());
        assert_eq!((counted, parsed), (0, false), "reject {text}");
    }
    Ok(())
}
