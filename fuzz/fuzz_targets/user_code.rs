//! What a user types as a device's code: never a panic, and whatever is read reads back from its own
//! spelling, in any case and with any dashes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mintage::authority::UserCode;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Some(code) = UserCode::parse(text) else { return };
    let shown = code.to_string();
    assert_eq!((shown.len(), shown.as_bytes()[4]), (9, b'-'));
    assert!(text.len() <= 64);
    let typed: String = text.chars().filter(|c| c.is_ascii_alphabetic()).collect();
    assert_eq!(typed.to_ascii_uppercase(), shown.replace('-', ""));
    for again in [shown.to_lowercase(), shown.replace('-', ""), format!(" {shown} ")] {
        assert!(UserCode::parse(&again) == Some(code));
    }
    assert!(!format!("{code:?}").contains(&shown));
});
