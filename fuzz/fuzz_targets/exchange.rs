//! Subject tokens of a stranger, in a form, through a handler as a host would write it: nothing is
//! exchanged but the genuine token, and never for more than it says. An input is a token, its type and a
//! scope as they stand, or a list of edits (position, operation, byte) of the genuine token.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mintage::authority::{
    Authority, Caller, Client, Exchange, ExchangeHandler, GrantType, HandlerOptions, IncomingToken,
    Mapped, PermittedUsers, RegisteredClient, TokenForm, TokenRefused, TokenRequest, TokenType,
    ValidToken,
};
use mintage::codec::assertion::AssertionVerifier;
use mintage::codec::jwk_set::JwkSet;
use mintage::entropy::SeededEntropy;
use mintage::ids::Subject;
use mintage::root_key::RootKey;
use mintage::store::MemoryStore;
use mintage::time::ManualClock;

const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k1","x":"sHBIBQL1aHk_JKZ6j6yN5bJpVXvXSRJelkpFe46LPuU"}]}"#;
/// The assertion of the target of that name.
const GENUINE: &str = "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCIsImtpZCI6ImsxIn0.eyJpc3MiOiJDMSIsInN1YiI6IkMxIiwiYXVkIjpbImh0dHBzOi8vYXMuZXhhbXBsZSIsIngiXSwianRpIjoiajEiLCJpYXQiOjE3MDAwMDAwMDAsImV4cCI6MTcwMDAwMDIwMH0.PoFo0D4-RcisZelfAqIHNF33G0lcGn2UTVmPt43ydykESEnbdNEKtiK0kL32_3Oux7SZ5Z71ijUrT2ePIqeaAA";

struct Idp;

impl ExchangeHandler for Idp {
    fn validate(&self, token: &IncomingToken<'_>) -> Result<ValidToken, TokenRefused> {
        let verifier = AssertionVerifier::of_tokens(&["https://as.example"], 0, 300);
        let keys = JwkSet::parse(KEYS.as_bytes()).expect("a set");
        let read = verifier.read(token.token).map_err(|_| TokenRefused("no JWT"))?;
        let verified = verifier.verify(read, keys.keys(), token.now);
        let verified = verified.map_err(|_| TokenRefused("no good JWT"))?;
        assert!(verified.claims_json().is_some_and(|claims| claims.contains("j1")));
        Ok(ValidToken::of(verified.subject().unwrap_or_default()))
    }

    fn subject(&self, token: &ValidToken, _: &RegisteredClient) -> Mapped {
        Subject::new(token.name()).map_or(Mapped::Nobody, Mapped::Known)
    }
}

static KNOWN: LazyLock<(Authority<MemoryStore>, Caller)> = LazyLock::new(|| {
    let types = [TokenType::IdToken, TokenType::Jwt, TokenType::Saml2];
    let authority = Authority::builder("https://as.example")
        .clock(ManualClock::at(1_700_000_100))
        .entropy(SeededEntropy::new(1))
        .exchange_handler("Idp", HandlerOptions::new(types), Idp)
        .in_memory(RootKey::from_bytes(1, [7; 32]))
        .expect("an authority");
    let listed = PermittedUsers::Listed(vec![Subject::new("C1").expect("a subject")]);
    let client = Client::public("app").grants([GrantType::TokenExchange]).permitted_users(listed);
    let client = client.exchange_handlers(["Idp"]).scopes(["api", "web"]);
    authority.register(client).wait().expect("a client");
    (authority, Caller::public("app"))
});

fn exchanges(token: &str, token_type: TokenType, scope: &str) -> bool {
    let (authority, caller) = &*KNOWN;
    let exchange = Exchange::of(token, token_type);
    assert_eq!(format!("{exchange:?}"), format!("{:?}", Exchange::of("", token_type)));
    let request = TokenRequest::exchange(exchange, caller).scope(scope);
    authority.token(&request).wait().is_ok_and(|issued| {
        assert_eq!(issued.subject.as_str(), "C1");
        assert!(issued.scope.tokens().all(|token| matches!(token, "api" | "web")));
        true
    })
}

fuzz_target!(|input: &[u8]| {
    assert!(exchanges(GENUINE, TokenType::IdToken, "api"));
    if let Ok(text) = std::str::from_utf8(input) {
        for token_type in [TokenType::IdToken, TokenType::AccessToken, TokenType::Saml2] {
            assert!(!exchanges(text, token_type, "") || text == GENUINE);
        }
        assert!(!exchanges(GENUINE, TokenType::AccessToken, text));
        exchanges(GENUINE, TokenType::Jwt, text);
        if let Some(known) = TokenType::from_urn(text) {
            assert!(known.urn().eq_ignore_ascii_case(text));
        }
        let pairs = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token", GENUINE),
            ("subject_token_type", text),
        ];
        let form = TokenForm::from_pairs(pairs).expect("each once");
        let request = form.request(&KNOWN.1);
        assert_eq!(request.is_ok(), TokenType::from_urn(text).is_some());
    }
    let mut bytes = GENUINE.as_bytes().to_vec();
    for edit in input.chunks_exact(4) {
        let at = usize::from(u16::from_be_bytes([edit[0], edit[1]])) % (bytes.len() + 1);
        match edit[2] % 5 {
            0 if at < bytes.len() => bytes[at] = edit[3],
            1 if at < bytes.len() => bytes[at] ^= 1 << (edit[3] % 8),
            2 => bytes.insert(at, edit[3]),
            3 if at < bytes.len() => drop(bytes.remove(at)),
            4 => bytes.truncate(at),
            _ => {}
        }
    }
    if let Ok(text) = std::str::from_utf8(&bytes) {
        assert_eq!(exchanges(text, TokenType::IdToken, "api"), text == GENUINE);
    }
});
