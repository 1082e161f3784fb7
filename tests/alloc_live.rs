//! Verifying and introspecting allocate nothing. A counting allocator sees every thread, so the one
//! test here runs alone.
#![allow(unsafe_code)]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use mintage::authority::{Scratch, TokenFormat};
use support::{Bed, Memory, Tested, access_token};

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

#[test]
fn hot_verification_allocates_nothing() -> Tested {
    let bed = Bed::new(Memory::default())?;
    let auditor = bed.auditor()?;
    let (opaque, _) = bed.app("opaque", TokenFormat::Opaque)?;
    let (jwt, _) = bed.app("jwt", TokenFormat::Jwt)?;
    let opaque = access_token(&bed.issue("ann", &opaque)?);
    let jwt = access_token(&bed.issue("ann", &jwt)?);
    let authority = bed.authority();
    let mut scratch = Scratch::new();
    let mut counted = Vec::new();
    let mut answer = Vec::with_capacity(4_096);
    for _ in 0..3 {
        let start = ALLOCATIONS.load(Ordering::SeqCst);
        let is_valid = authority.verify(&jwt, &mut scratch).is_ok();
        let offline = ALLOCATIONS.load(Ordering::SeqCst) - start;
        let start = ALLOCATIONS.load(Ordering::SeqCst);
        let is_live = authority.verify_live(&opaque).wait().is_ok();
        let live = ALLOCATIONS.load(Ordering::SeqCst) - start;
        let start = ALLOCATIONS.load(Ordering::SeqCst);
        answer.clear();
        authority.introspect(&opaque, &auditor).wait()?.write_json(&mut answer);
        let is_active = answer.starts_with(br#"{"active":true"#);
        let introspected = ALLOCATIONS.load(Ordering::SeqCst) - start;
        assert!(is_valid && is_live && is_active);
        counted = vec![offline, live, introspected];
    }
    assert_eq!(counted, [0, 0, 0]);
    Ok(())
}
