//! Private keys are wiped: no block of memory is given back with one in it. An allocator looks into
//! every block before it is freed, so the one test here runs alone.
//!
//! What it cannot see: the stack, and what ring and aws-lc-rs keep in forms of their own.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use base64_simd::{STANDARD, URL_SAFE_NO_PAD};
use mintage::authority::Authority;
use mintage::codec::algorithm::Algorithm;
use mintage::codec::keys::{Backend, KeyError, SigningKey};
use mintage::entropy::SeededEntropy;
use mintage::root_key::RootKey;

/// Looks for the first 16 bytes of a secret in every block that is freed.
struct Looking;

static LOOKS: AtomicBool = AtomicBool::new(false);
static HIGH: AtomicU64 = AtomicU64::new(0);
static LOW: AtomicU64 = AtomicU64::new(0);
static FOUND: AtomicU64 = AtomicU64::new(0);

fn look(block: &[u8]) {
    let (high, low) = (HIGH.load(Ordering::Relaxed), LOW.load(Ordering::Relaxed));
    let is_here = |window: &[u8]| {
        let (a, b) = window.split_at(8);
        a == high.to_ne_bytes() && b == low.to_ne_bytes()
    };
    if block.windows(16).any(is_here) {
        FOUND.fetch_add(1, Ordering::SeqCst);
    }
}

// SAFETY: every call is passed on to `System` unchanged; `realloc` is the default one, which
// allocates, copies and frees, so that the block that was outgrown is looked into as well.
unsafe impl GlobalAlloc for Looking {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`. Zeroed, so that every byte of a block
        // may be read.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if LOOKS.load(Ordering::SeqCst) {
            // SAFETY: the block is still the caller's, `layout.size()` bytes long, and was zeroed
            // when it was allocated.
            look(unsafe { std::slice::from_raw_parts(pointer, layout.size()) });
        }
        // SAFETY: `pointer` came from `System` with that layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Looking = Looking;

/// How many blocks were freed with the start of `secret` in them while `run` ran.
fn left_behind<T>(secret: &[u8], run: impl FnOnce() -> T) -> u64 {
    let word = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&secret[at..at + 8]);
        u64::from_ne_bytes(bytes)
    };
    HIGH.store(word(0), Ordering::SeqCst);
    LOW.store(word(8), Ordering::SeqCst);
    FOUND.store(0, Ordering::SeqCst);
    LOOKS.store(true, Ordering::SeqCst);
    drop(run());
    LOOKS.store(false, Ordering::SeqCst);
    FOUND.load(Ordering::SeqCst)
}

/// A life of a key: imported, stored, read back, moved to every backend, kept by an authority.
fn live(key: Result<SigningKey, KeyError>) -> Result<(), Box<dyn Error>> {
    let key = key?;
    let mut key = SigningKey::from_private_bytes(&key.to_private_bytes())?;
    for backend in Backend::ALL {
        key = key.with_backend(*backend)?;
    }
    let authority = Authority::builder("https://login.example.com")
        .entropy(SeededEntropy::new(4))
        .in_memory(RootKey::from_bytes(1, [7; 32]))?;
    authority.keys().import(key).wait()?;
    let store = authority.store().clone();
    drop(authority);
    Authority::builder("https://login.example.com")
        .with_store(store, RootKey::from_bytes(1, [7; 32]))?;
    Ok(())
}

#[test]
fn no_freed_memory_holds_a_private_key() -> Result<(), Box<dyn Error>> {
    // It does see one.
    let secret = *b"sixteen bytes ..";
    assert_eq!(left_behind(&secret, || secret.to_vec()), 1);

    let jwk = include_str!("data/rsa2048.jwk.json");
    let numbers: serde_json::Value = serde_json::from_str(jwk)?;
    for name in ["d", "p", "q", "dp", "dq", "qi"] {
        let text = numbers[name].as_str().ok_or(name)?;
        let raw = URL_SAFE_NO_PAD.decode_to_vec(text)?;
        for secret in [text.as_bytes(), &raw] {
            let mut done = Ok(());
            let found = left_behind(secret, || done = live(SigningKey::from_jwk(jwk.as_bytes())));
            done?;
            assert_eq!(found, 0, "{name} of an RSA key");
        }
    }
    for (algorithm, pem) in [
        (Algorithm::Es256, include_str!("data/p256.pk8.pem")),
        (Algorithm::Es384, include_str!("data/p384.pk8.pem")),
        (Algorithm::EdDsa, include_str!("data/ed25519.pk8.pem")),
    ] {
        let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let der = STANDARD.decode_to_vec(&text)?;
        // The scalar or seed stands behind the last OCTET STRING tag before the public key.
        let len: u8 = if algorithm == Algorithm::Es384 { 48 } else { 32 };
        let at = der.windows(2).position(|window| window == [4, len]).ok_or("no scalar")?;
        let scalar = der[at + 2..at + 18].to_vec();
        // The middle of a text of base64, whatever the scalar's place in it.
        let middle = text.as_bytes()[text.len() / 3..text.len() / 3 + 16].to_vec();
        for secret in [&scalar, &middle] {
            let mut done = Ok(());
            let found = left_behind(secret, || {
                done = live(SigningKey::from_pem(algorithm, Some("k"), pem));
            });
            done?;
            assert_eq!(found, 0, "{algorithm}");
        }
    }
    let secret = *b"an HMAC secret of thirty-two byt";
    let mut done = Ok(());
    let found = left_behind(&secret, || done = live(SigningKey::hmac(None, &secret)));
    done?;
    assert_eq!(found, 0, "HS256");
    let encoded = URL_SAFE_NO_PAD.encode_to_string(secret);
    let mut done = Ok(());
    let found = left_behind(encoded.as_bytes(), || done = live(SigningKey::hmac(None, &secret)));
    done?;
    assert_eq!(found, 0, "HS256, encoded");
    Ok(())
}
