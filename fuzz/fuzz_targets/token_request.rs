//! Bytes of a form as a token request, by a form parser of others: never a panic, what is said twice is
//! refused, a request holds what the form says, and none of an unknown client gets anything. A genuine
//! request is there for edits: only its own spelling of credentials gives a token.
#![no_main]

use std::collections::HashMap;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mintage::authority::{Authority, Client, Error, FORM_LEN_MAX, GrantType, TokenForm};
use mintage::entropy::SeededEntropy;
use mintage::root_key::RootKey;
use mintage::store::MemoryStore;
use mintage::time::ManualClock;

struct Known {
    authority: Authority<MemoryStore>,
    secret: String,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let authority = Authority::builder("https://as.example")
        .clock(ManualClock::at(1_800_000_000))
        .entropy(SeededEntropy::new(1))
        .in_memory(RootKey::from_bytes(1, [7; 32]))
        .expect("an authority");
    let client = Client::confidential("C1").grants([GrantType::ClientCredentials]).scopes(["api"]);
    let registered = authority.register(client).wait().expect("a client");
    let secret = registered.client_secret.expect("a secret").expose().to_owned();
    Known { authority, secret }
});

/// The names that count, each of which may be there once.
const NAMES: [&str; 22] = [
    "grant_type",
    "code",
    "redirect_uri",
    "code_verifier",
    "refresh_token",
    "scope",
    "resource",
    "client_id",
    "client_secret",
    "client_assertion_type",
    "client_assertion",
    "assertion",
    "device_code",
    "response_type",
    "subject_token",
    "subject_token_type",
    "actor_token",
    "actor_token_type",
    "requested_token_type",
    "token_handler",
    "username",
    "password",
];

fn ask(body: &[u8]) {
    if body.len() > FORM_LEN_MAX {
        return;
    }
    let pairs: Vec<_> = form_urlencoded::parse(body).collect();
    let borrowed = || pairs.iter().map(|(name, value)| (&**name, &**value));
    let mut said: HashMap<&str, Vec<&str>> = HashMap::new();
    for (name, value) in borrowed() {
        said.entry(name).or_default().push(value);
    }
    let is_twice = NAMES.iter().any(|name| said.get(name).is_some_and(|values| values.len() > 1));
    let form = TokenForm::from_pairs(borrowed());
    assert_eq!(form.is_err(), is_twice || pairs.len() > 64);
    let Ok(form) = form else { return };
    let value = |name: &str| said.get(name).map_or("", |values| values[0]);

    let known = &*KNOWN;
    let Ok(caller) = known.authority.caller(&form.credentials(None, None)) else { return };
    let request = match form.request(&caller) {
        Ok(request) => request,
        Err(error) => {
            let is_missing = match value("grant_type") {
                "" => true,
                "authorization_code" => value("code").is_empty(),
                "refresh_token" => value("refresh_token").is_empty(),
                "client_credentials" => false,
                "urn:ietf:params:oauth:grant-type:device_code" => value("device_code").is_empty(),
                // Its types may be wrong, too: see the target `exchange`.
                "urn:ietf:params:oauth:grant-type:token-exchange" => true,
                "password" => value("username").is_empty() || value("password").is_empty(),
                "device" => value("code").is_empty(),
                "urn:ietf:params:oauth:grant-type:jwt-bearer" => value("assertion").is_empty(),
                _ => return assert!(matches!(error, Error::UnsupportedGrantType(_))),
            };
            return assert!(is_missing && matches!(error, Error::InvalidRequest(_)));
        }
    };
    let shown = format!("{form:?} {request:?}");
    let secret = value("client_secret");
    assert!(secret.len() < 8 || value("client_id").contains(secret) || !shown.contains(secret));
    if let Ok(issued) = known.authority.token(&request).wait() {
        assert_eq!((value("client_id"), secret), ("C1", known.secret.as_str()));
        assert_eq!((issued.client_id.as_str(), issued.scope.as_str()), ("C1", "api"));
        // However many spaces part its tokens.
        assert!(value("scope").split(' ').all(|token| matches!(token, "" | "api")));
    }
}

fuzz_target!(|input: &[u8]| {
    ask(input);
    let secret = &KNOWN.secret;
    let form =
        format!("grant_type=client_credentials&client_id=C1&client_secret={secret}&scope=api");
    let mut body = form.into_bytes();
    for edit in input.chunks_exact(3) {
        let at = usize::from(edit[0]) % (body.len() + 1);
        match edit[1] % 4 {
            0 if at < body.len() => body[at] = edit[2],
            1 => body.insert(at, edit[2]),
            2 if at < body.len() => drop(body.remove(at)),
            _ => body.extend_from_slice(NAMES[usize::from(edit[2]) % NAMES.len()].as_bytes()),
        }
    }
    ask(&body);
});
