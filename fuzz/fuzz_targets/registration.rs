//! Text as a client metadata document: never a panic; what is registered exceeds its parent in nothing,
//! is told as it was registered, and survives being sent back as its own update.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mintage::authority::{Authority, Client, GrantType, METADATA_LEN_MAX};
use mintage::entropy::SeededEntropy;
use mintage::root_key::RootKey;
use mintage::secret::SecretText;
use mintage::store::MemoryStore;
use mintage::time::ManualClock;
use serde_json::Value;

static PARENT: LazyLock<(Authority<MemoryStore>, SecretText)> = LazyLock::new(|| {
    let authority = Authority::builder("https://as.example")
        .clock(ManualClock::at(1_800_000_000))
        .entropy(SeededEntropy::new(1))
        .in_memory(RootKey::from_bytes(1, [7; 32]))
        .expect("an authority");
    let gateway = Client::confidential("gateway")
        .grants([GrantType::AuthorizationCode, GrantType::RefreshToken])
        .scopes(["api", "web", "refresh_token"]);
    let gateway = authority.register(gateway).wait().expect("a client").client_id;
    let token = authority.renew_initial_access_token(&gateway).wait().expect("a token");
    (authority, token)
});

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (authority, token) = &*PARENT;
    let _ = Client::from_metadata(text);
    let Ok(registered) = authority.register_dynamic(text, token.expose()).wait() else { return };
    assert!(text.len() <= METADATA_LEN_MAX);
    let told: Value = serde_json::from_str(registered.to_json().expose()).expect("JSON");
    let asked: Value = serde_json::from_str(text).expect("serde_json reads what was registered");
    let scope = told["scope"].as_str().unwrap_or("");
    let may = |one: &str| ["api", "web", "refresh_token"].contains(&one);
    assert!(scope.split(' ').all(|one| one.is_empty() || may(one)), "{scope}");
    for grant in told["grant_types"].as_array().into_iter().flatten() {
        assert!(matches!(grant.as_str(), Some("authorization_code" | "refresh_token")), "{grant}");
    }
    assert_eq!(told["client_id"].as_str(), Some(registered.client_id.as_str()));
    assert_ne!(told["client_id"], asked["client_id"]);
    if let Some(uris) = asked["redirect_uris"].as_array() {
        assert_eq!(told["redirect_uris"].as_array(), Some(uris));
    }

    let management = registered.registration_access_token.expect("a management token");
    let read = authority.registration(management.expose()).expect("it reads itself");
    let again = authority.update_registration(read.to_json().expose(), management.expose()).wait();
    let again = again.expect("what it was told is what it may be");
    assert_eq!(again.client_id, registered.client_id);
    authority.end_registration(management.expose()).wait().expect("it ends itself");
    assert!(authority.registration(management.expose()).is_err());
});
