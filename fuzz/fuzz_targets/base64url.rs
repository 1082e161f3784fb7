//! Base64url against the crate `base64` under the same rules: no padding, no white space, no
//! trailing bits. What one reads the other reads, to the same bytes, and writes to the same text.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use mintage::codec::fuzzing::{base64url_decode, base64url_encode};

fuzz_target!(|input: &[u8]| {
    let ours = base64url_decode(input);
    assert_eq!(ours, URL_SAFE_NO_PAD.decode(input).ok());
    if let Some(bytes) = &ours {
        assert_eq!(base64url_encode(bytes).as_bytes(), input, "a value has one text");
    }
    let text = base64url_encode(input);
    assert_eq!(text, URL_SAFE_NO_PAD.encode(input));
    assert_eq!(base64url_decode(text.as_bytes()).as_deref(), Some(input));
    // A change of one character is another value, or none.
    let Some((change, _)) = input.split_first_chunk::<2>() else { return };
    let mut changed = text.clone().into_bytes();
    let at = usize::from(change[0]) % changed.len();
    changed[at] = change[1];
    if changed != text.as_bytes() {
        assert_ne!(base64url_decode(&changed).as_deref(), Some(input));
    }
});
