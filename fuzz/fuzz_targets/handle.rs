//! Text as a handle: no text panics; one that parses is the one text of its parts. Half of the
//! inputs are the parts of a genuine handle and a change to it.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mintage::codec::handle::{Binding, HandleBuf, HandleKeys, HandleKind};
use mintage::ids::OrgId;
use mintage::locator::Locator;
use mintage::root_key::RootKey;
use mintage::secret::SecretBytes;

static KEYS: LazyLock<HandleKeys> = LazyLock::new(|| {
    let root = RootKey::from_bytes(1, [1; 32]).with_version(2, [2; 32]).expect("two versions");
    HandleKeys::new(&root, OrgId::new("00D1").expect("an organisation")).expect("keys")
});

fuzz_target!(|input: &[u8]| {
    if let Ok(text) = std::str::from_utf8(input) {
        parse(text);
    }
    let Some((parts, change)) = input.split_first_chunk::<8>() else { return };
    let kind = [HandleKind::Access, HandleKind::Refresh, HandleKind::Code, HandleKind::Delete]
        [usize::from(parts[0] % 4)];
    let locator = Locator {
        class: parts[1],
        bucket: u32::from_be_bytes([parts[2], parts[3], parts[4], parts[5]]),
        id: u64::from_be_bytes(*parts),
    };
    let (version, secret) = (1 + parts[6] % 2, SecretBytes::new([parts[7]; 32]));
    let mut out = HandleBuf::new();
    let binding = match parts[0] >> 2 & 3 {
        1 => Some(Binding::Key([parts[6]; 32])),
        2 => Some(Binding::Certificate([parts[6]; 32])),
        _ => None,
    };
    let digest = KEYS
        .mint_with_version(version, kind, locator, &secret, binding.as_ref(), &mut out)
        .expect("known");
    let genuine = KEYS.parse(kind, out.as_str()).expect("a minted handle parses");
    assert_eq!((genuine.digest, genuine.locator), (digest, locator));
    assert_eq!(genuine.binding, binding);
    let mut changed = out.as_str().to_owned().into_bytes();
    for pair in change.chunks_exact(2) {
        let at = usize::from(pair[0]) % changed.len();
        changed[at] = pair[1];
    }
    if let Ok(text) = std::str::from_utf8(&changed)
        && text != out.as_str()
    {
        assert!(KEYS.parse(None, text).is_err(), "a changed handle parsed: {text}");
    }
});

fn parse(text: &str) {
    if let Ok(handle) = KEYS.parse(None, text) {
        let mut out = HandleBuf::new();
        let digest = KEYS
            .mint_with_version(
                handle.key_version,
                handle.kind,
                handle.locator,
                &handle.secret,
                handle.binding.as_ref(),
                &mut out,
            )
            .expect("a parsed version is known");
        assert_eq!((out.as_str(), digest), (text, handle.digest), "a handle has one text");
    }
}
