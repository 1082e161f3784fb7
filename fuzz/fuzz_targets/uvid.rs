//! Visitor ids, and the headers and prefixes that they come in: never a panic, an id reads back from its own
//! spelling, and no hint opens anything but a UUID of version 4.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mintage::authority::{
    Authority, AuthorizationRequest, Client, CodeCredentials, GrantType, TokenFormat, Uvid,
};
use mintage::entropy::SeededEntropy;
use mintage::root_key::RootKey;
use mintage::store::MemoryStore;
use mintage::time::SystemClock;

static KNOWN: LazyLock<Authority<MemoryStore>> = LazyLock::new(|| {
    // Codes are swept as time passes.
    let authority = Authority::builder("https://as.example")
        .clock(SystemClock::new())
        .entropy(SeededEntropy::new(1))
        .code_secs(1)
        .in_memory(RootKey::from_bytes(1, [7; 32]))
        .expect("an authority");
    let client = Client::public("app").grants([GrantType::AuthorizationCode]).pkce_required(false);
    let client = client.redirect_uris(["https://app.example/cb"]).format(TokenFormat::Jwt);
    authority.register(client.code_credentials().guests()).wait().expect("a client");
    authority
});

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let uvid = Uvid::parse(text);
    if let Some(uvid) = &uvid {
        assert_eq!(uvid.as_str(), text.to_ascii_lowercase());
        assert!(Uvid::parse(uvid.as_str()).as_ref() == Some(uvid));
        assert_eq!(&uvid.as_str()[14..15], "4");
    }
    let request = AuthorizationRequest {
        response_type: Some("code_credentials"),
        client_id: Some("app"),
        redirect_uri: Some("https://app.example/cb"),
        ..AuthorizationRequest::default()
    };
    let base = CodeCredentials { request, ..CodeCredentials::default() };
    // As a header of credentials nobody has them, whatever it says.
    let header = CodeCredentials { authorization: Some(text), ..base };
    assert!(KNOWN.code_credentials(&header).wait().is_err());
    let guest = CodeCredentials { request_type: Some("guest"), uvid_hint: Some(text), ..base };
    let id = text.strip_prefix("UVID ").unwrap_or(text);
    let code = KNOWN.code_credentials(&guest).wait();
    // A visitor has room for so many codes at a time.
    let is_busy = code.as_ref().is_err_and(|error| error.code() == "temporarily_unavailable");
    assert!(is_busy || code.is_ok() == Uvid::parse(id).is_some());
});
