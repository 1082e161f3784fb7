//! Properties: tokens never exceed what client, grant and request allow, clients never reach each
//! other's tokens, and redirect URIs are compared byte for byte.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};

use mintage::authority::{
    Authority, AuthorizationRequest, Caller, Client, Error, GrantType, Issue, Issued, Login,
    Resources, Scratch, TokenFormat, TokenRequest,
};
use mintage::ids::ClientId;
use mintage::scope::Scope;
use mintage::store::MemoryStore;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use support::{Bed, Boxed, ISSUER, Memory, Tested, access_token, refresh_token};

const CB: &str = "https://app.example/cb";
const SCOPES: [&str; 6] = ["a", "b", "c", "d", "openid", "refresh_token"];
const AUDIENCES: [&str; 4] = ["https://one", "https://two", "https://three", ISSUER];

/// The names whose bits are set.
fn pick(names: &[&'static str], bits: u8) -> Vec<&'static str> {
    (0..names.len()).filter(|n| bits >> n & 1 == 1).map(|n| names[n]).collect()
}

fn is_within(text: &str, of: &[&str]) -> bool {
    text.split(' ').filter(|one| !one.is_empty()).all(|one| of.contains(&one))
}

/// What a client is registered with.
#[derive(Clone, Copy, Debug)]
struct Terms {
    scopes: u8,
    audiences: u8,
    secs: u64,
}

impl Terms {
    fn client(self, format: TokenFormat) -> Client {
        Client::confidential("app")
            .grants([
                GrantType::AuthorizationCode,
                GrantType::RefreshToken,
                GrantType::ClientCredentials,
            ])
            .pkce_required(false)
            .redirect_uris([CB])
            .format(format)
            .access_secs(self.secs)
            .scopes(pick(&SCOPES, self.scopes))
            .audiences(pick(&AUDIENCES, self.audiences))
    }
}

/// What a request asks for; `None` asks for nothing in particular.
#[derive(Clone, Debug)]
struct Asked {
    scope: Option<String>,
    audience: Option<String>,
}

fn terms() -> impl Strategy<Value = Terms> {
    (any::<u8>(), 1..16_u8, 1..5_000_u64).prop_map(|(scopes, audiences, secs)| Terms {
        // With a refresh token more often than not.
        scopes: scopes | (scopes & 1) << 5,
        audiences,
        secs,
    })
}

fn asked() -> impl Strategy<Value = Asked> {
    let scope = proptest::option::of(any::<u8>());
    let audience = proptest::option::of(1..16_u8);
    (scope, audience).prop_map(|(scope, audience)| Asked {
        scope: scope.map(|bits| pick(&SCOPES, bits).join(" ")),
        audience: audience.map(|bits| pick(&AUDIENCES, bits).join(" ")),
    })
}

/// How a login begins.
#[derive(Clone, Copy, Debug)]
enum Way {
    Host,
    Code,
    Credentials,
}

fn begin(
    authority: &Authority<MemoryStore>,
    way: Way,
    (client, caller): (&ClientId, &Caller),
    asked: &Asked,
) -> Result<Issued, Error> {
    let (scope, audience) = (asked.scope.as_deref(), asked.audience.as_deref());
    match way {
        Way::Host => {
            let mut issue = Issue::to("ann", client);
            if let Some(scope) = scope {
                issue = issue.scope(scope);
            }
            if let Some(audience) = audience {
                issue = issue.audience(audience);
            }
            authority.issue(issue).wait()
        }
        Way::Credentials => {
            let mut request = TokenRequest::client_credentials(caller);
            if let Some(scope) = scope {
                request = request.scope(scope);
            }
            if let Some(audience) = audience {
                request = request.audience(audience);
            }
            authority.token(&request).wait()
        }
        Way::Code => {
            let request = AuthorizationRequest {
                response_type: Some("code"),
                client_id: Some("app"),
                redirect_uri: Some(CB),
                scope,
                resources: Resources::of(audience),
                ..AuthorizationRequest::default()
            };
            let authorization = authority.authorize(&request).map_err(Error::from)?;
            let login = Login::now("ann", authority)?;
            let agreed = authorization.scope().as_str();
            let url = authority.approve(&authorization, &login, agreed).wait();
            let url = url.map_err(Error::from)?;
            let code = url.expose().split(['=', '&']).nth(1).unwrap_or_default();
            authority.token(&TokenRequest::code(code, caller).redirect_uri(CB)).wait()
        }
    }
}

/// What a token carries, by introspection and, for a JWT, by its claims.
fn carried(
    authority: &Authority<MemoryStore>,
    issued: &Issued,
    auditor: &Caller,
) -> Result<Vec<(String, String, u64)>, Boxed> {
    let token = access_token(issued);
    let shown = authority.introspect(&token, auditor).wait()?;
    let shown = shown.token().ok_or("a fresh token is not active")?;
    let lives = shown.expires_at.since(shown.issued_at);
    let mut all =
        vec![(shown.scope.as_str().to_owned(), shown.audience.as_ref().to_owned(), lives)];
    all.push((
        issued.scope.as_str().to_owned(),
        shown.audience.as_ref().to_owned(),
        issued.expires_in,
    ));
    let mut scratch = Scratch::new();
    if let Ok(claims) = authority.verify(&token, &mut scratch) {
        let audience: Vec<String> = claims.audience().map(std::borrow::Cow::into_owned).collect();
        let lives = claims.expires_at().since(claims.issued_at());
        all.push((claims.scope().to_owned(), audience.join(" "), lives));
    }
    Ok(all)
}

fn no_token_exceeds(
    (before, after): (Terms, Terms),
    (way, is_jwt): (Way, bool),
    first: &Asked,
    refreshes: &[Asked],
    granted: &Granted,
) -> Tested {
    let format = if is_jwt { TokenFormat::Jwt } else { TokenFormat::Opaque };
    let bed = Bed::new(Memory::default())?;
    let auditor = bed.auditor()?;
    let authority = bed.authority();
    let (client, caller) = bed.register(before.client(format))?;
    let Ok(issued) = begin(&authority, way, (&client, &caller), first) else { return Ok(()) };
    granted.begun.fetch_add(1, Ordering::Relaxed);
    let first_audience = carried(&authority, &issued, &auditor)?.swap_remove(0).1;
    let allowed = |asked: &Asked, terms: &[Terms], granted: &[&Issued]| {
        let mut scopes = pick(&SCOPES, terms.iter().fold(u8::MAX, |all, t| all & t.scopes));
        let mut audiences: Vec<&str> =
            pick(&AUDIENCES, terms.iter().fold(u8::MAX, |all, t| all & t.audiences));
        if let Some(scope) = &asked.scope {
            scopes.retain(|one| scope.is_empty() || scope.split(' ').any(|name| name == *one));
        }
        if let Some(audience) = &asked.audience {
            audiences.retain(|one| audience.split(' ').any(|name| name == *one));
        }
        for issued in granted {
            let scope: &Scope = &issued.scope;
            scopes.retain(|one| scope.has(one));
            audiences.retain(|one| first_audience.split(' ').any(|name| name == *one));
        }
        (scopes, audiences)
    };
    let check =
        |issued: &Issued, (scopes, audiences): (Vec<&str>, Vec<&str>), secs: u64| -> Tested {
            for (scope, audience, lives) in carried(&authority, issued, &auditor)? {
                assert!(is_within(&scope, &scopes), "scope {scope:?} of {scopes:?}");
                assert!(is_within(&audience, &audiences), "audience {audience:?} of {audiences:?}");
                assert!(!audience.is_empty(), "a token for nobody in particular");
                assert!(lives <= secs, "it lives {lives} s of {secs}");
            }
            Ok(())
        };
    check(&issued, allowed(first, &[before], &[]), before.secs)?;
    if let Way::Credentials = way {
        assert!(issued.refresh_token.is_none());
        return Ok(());
    }
    // The client is narrowed or widened; then the grant is refreshed.
    authority.update_client(after.client(format)).wait()?;
    let Some(token) = issued.refresh_token.as_ref().map(|text| text.expose().to_owned()) else {
        return Ok(());
    };
    for asked in refreshes {
        let mut request = TokenRequest::refresh(&token, &caller);
        if let Some(scope) = &asked.scope {
            request = request.scope(scope);
        }
        if let Some(audience) = &asked.audience {
            request = request.audience(audience);
        }
        let Ok(again) = authority.token(&request).wait() else { continue };
        granted.refreshed.fetch_add(1, Ordering::Relaxed);
        check(&again, allowed(asked, &[before, after], &[&issued]), after.secs)?;
    }
    Ok(())
}

/// How many requests were granted: the law says nothing of those that were refused.
#[derive(Default)]
struct Granted {
    begun: AtomicUsize,
    refreshed: AtomicUsize,
}

const CASES: u32 = 1_000;

#[test]
fn no_token_carries_more_than_client_grant_and_request_allow() {
    let way = prop_oneof![Just(Way::Host), Just(Way::Code), Just(Way::Credentials)];
    let refreshes = proptest::collection::vec(asked(), 0..4);
    let cases = (terms(), terms(), way, any::<bool>(), asked(), refreshes);
    let config = ProptestConfig { cases: CASES, ..ProptestConfig::default() };
    let granted = Granted::default();
    let run = TestRunner::new(config).run(&cases, |case| {
        let (before, after, way, is_jwt, first, refreshes) = case;
        let held = no_token_exceeds((before, after), (way, is_jwt), &first, &refreshes, &granted);
        prop_assert!(held.is_ok(), "{:?}", held);
        Ok(())
    });
    assert!(run.is_ok(), "{run:?}");
    let (begun, refreshed) = (granted.begun.into_inner(), granted.refreshed.into_inner());
    assert!(begun > 100 && refreshed > 20, "{begun} logins and {refreshed} refreshes were granted");
}

/// How many pairs of a client and another's token are tried.
const PAIRS: u64 = 100_000;
const CLIENTS: usize = 40;

/// What a client holds, each alive.
struct Held {
    caller: Caller,
    access: String,
    refresh: String,
    code: String,
}

fn hold(bed: &Bed<Memory>, n: usize) -> Result<Held, Boxed> {
    let id = format!("client-{n}");
    let format = if n.is_multiple_of(2) { TokenFormat::Opaque } else { TokenFormat::Jwt };
    let draft = Client::confidential(&id)
        .grants([GrantType::AuthorizationCode, GrantType::RefreshToken])
        .pkce_required(false)
        .redirect_uris([CB])
        .format(format)
        .access_secs(5_000)
        .scopes(SCOPES);
    let (client, caller) = bed.register(draft)?;
    let issued = bed.issue("ann", &client)?;
    let authority = bed.authority();
    let request = AuthorizationRequest {
        response_type: Some("code"),
        client_id: Some(&id),
        redirect_uri: Some(CB),
        ..AuthorizationRequest::default()
    };
    let request = authority.authorize(&request)?;
    let url = authority.approve(&request, &Login::now("ann", &authority)?, "a").wait()?;
    let code = url.expose().split(['=', '&']).nth(1).ok_or("no code")?.to_owned();
    let (access, refresh) = (access_token(&issued), refresh_token(&issued)?);
    Ok(Held { caller, access, refresh, code })
}

#[test]
fn no_client_reaches_anothers_tokens() -> Tested {
    let bed = Bed::with(Memory::default(), |builder| builder.code_secs(900))?;
    let auditor = bed.auditor()?;
    let authority = bed.authority();
    let held = (0..CLIENTS).map(|n| hold(&bed, n)).collect::<Result<Vec<_>, _>>()?;
    let mut dice = 88_172_645_463_325_252_u64;
    let mut roll = |below: usize| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        usize::try_from(dice >> 16).unwrap_or(0) % below
    };
    let begun = authority.stats().durable;
    for _ in 0..PAIRS {
        let thief = roll(CLIENTS);
        let (thief, owner) = (&held[thief], &held[(thief + 1 + roll(CLIENTS - 1)) % CLIENTS]);
        let token = [&owner.access, &owner.refresh, &owner.code][roll(3)];
        match roll(4) {
            0 => {
                let request = TokenRequest::refresh(token, &thief.caller);
                let refused = authority.token(&request).wait();
                assert!(matches!(refused, Err(Error::InvalidGrant(_))), "{refused:?}");
            }
            1 => {
                let request = TokenRequest::code(token, &thief.caller).redirect_uri(CB);
                let refused = authority.token(&request).wait();
                assert!(matches!(refused, Err(Error::InvalidGrant(_))), "{refused:?}");
            }
            2 => {
                let shown = authority.introspect(token, &thief.caller).wait()?;
                assert_eq!(shown.to_json(), r#"{"active":false}"#);
            }
            // A code is no token to revoke; another's token is refused.
            _ => {
                let revoked = authority.revoke_token(token, &thief.caller).wait();
                assert!(matches!(revoked, Ok(()) | Err(Error::InvalidGrant(_))), "{revoked:?}");
            }
        }
    }
    assert_eq!(authority.stats().durable, begun, "something was written");
    for held in &held {
        assert!(bed.is_active(&held.access, &auditor)?);
        bed.refresh(&held.refresh, &held.caller)?;
        authority.token(&TokenRequest::code(&held.code, &held.caller).redirect_uri(CB)).wait()?;
    }
    Ok(())
}

/// A URI near one of those that are registered.
fn near(uri: &str) -> impl Strategy<Value = String> + use<> {
    let bytes = uri.as_bytes().to_vec();
    let len = bytes.len();
    (0..5_u8, 0..=len, "[ -~]{0,3}|%2[fF]|\\.\\./|é").prop_map(move |(how, at, text)| {
        let mut uri = bytes.clone();
        match how {
            0 => drop(uri.splice(at..at, text.bytes())),
            1 => drop(uri.splice(at..(at + text.len()).min(len), text.bytes())),
            2 => uri.truncate(at),
            3 => uri.make_ascii_uppercase(),
            _ => {}
        }
        String::from_utf8_lossy(&uri).into_owned()
    })
}

const REGISTERED: [&str; 4] = [
    "https://app.example/cb",
    "https://app.example/cb?x=1",
    "https://sub.app.example:8443/a.b/c",
    "com.example.app:/cb",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn a_redirect_uri_is_equal_byte_for_byte_or_refused(
        uri in (0..REGISTERED.len()).prop_flat_map(|n| near(REGISTERED[n])),
    ) {
        let builder = Authority::builder(ISSUER);
        let authority = builder.in_memory(support::root());
        let authority = authority.map_err(|error| TestCaseError::fail(error.to_string()))?;
        let app = Client::public("app")
            .grants([GrantType::AuthorizationCode])
            .redirect_uris(REGISTERED);
        let registered = authority.register(app).wait();
        prop_assert!(registered.is_ok(), "{:?}", registered);
        let request = AuthorizationRequest {
            response_type: Some("code"),
            client_id: Some("app"),
            redirect_uri: Some(&uri),
            code_challenge: Some("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
            code_challenge_method: Some("S256"),
            ..AuthorizationRequest::default()
        };
        let accepted = authority.authorize(&request);
        prop_assert_eq!(accepted.is_ok(), REGISTERED.contains(&uri.as_str()), "{}", uri);
        if let Err(refused) = accepted {
            prop_assert!(refused.redirect().is_none(), "a browser was sent to {}", uri);
        }
    }
}
