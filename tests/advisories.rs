//! What went wrong in other servers and libraries, each as a test by the name of its advisory.
//! SECURITY.md says which are about what is not here.

mod support;

use std::collections::HashSet;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

use jsonwebtoken::{Algorithm as Alg, EncodingKey, Header, encode};
use mintage::authority::{
    AuthMethod, Authority, AuthorizationRequest, Caller, Client, Error, GrantType, Issue, Issued,
    Login, OpenError, Scratch, Target, TokenFormat, TokenRequest,
};
use mintage::codec::algorithm::Algorithm;
use mintage::codec::keys::SigningKey;
use mintage::entropy::SeededEntropy;
use mintage::store::{
    Find, Listing, MemoryStore, Near, Outcome, Page, Seq, Stats, Store, StoreError, Swept, Ticket,
    TokenView, Verb,
};
use mintage::time::{ManualClock, Reading, Timestamp};
use serde_json::json;
use support::{
    Bed, Boxed, Durable, ISSUER, Memory, Opener, START, Tested, access_token, payload,
    refresh_token, root,
};

const CB: &str = "https://app.example/cb";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const ED25519: &str = include_str!("data/ed25519.pk8.pem");

/// A confidential client that may do without PKCE.
fn web(id: &str) -> Client {
    Client::confidential(id)
        .grants([GrantType::AuthorizationCode, GrantType::RefreshToken])
        .pkce_required(false)
        .redirect_uris([CB])
        .scopes(["api", "refresh_token"])
}

fn request(id: &str) -> AuthorizationRequest<'_> {
    AuthorizationRequest {
        response_type: Some("code"),
        client_id: Some(id),
        redirect_uri: Some(CB),
        ..AuthorizationRequest::default()
    }
}

fn code_for<S: Store>(
    authority: &Authority<S>,
    request: &AuthorizationRequest<'_>,
) -> Result<String, Boxed> {
    let checked = authority.authorize(request)?;
    let login = Login::now("ann", authority)?;
    let scope = checked.scope().as_str().to_owned();
    let url = authority.approve(&checked, &login, &scope).wait()?;
    Ok(url.expose().split(['=', '&']).nth(1).ok_or("no code")?.to_owned())
}

fn redeem<S: Store>(
    authority: &Authority<S>,
    code: &str,
    caller: &Caller,
    verifier: &str,
) -> Result<Issued, Error> {
    let request = TokenRequest::code(code, caller).redirect_uri(CB).code_verifier(verifier);
    authority.token(&request).wait()
}

/// The answers of so many at once.
fn at_once<T: Send>(callers: usize, ask: impl Fn() -> T + Sync) -> Vec<T> {
    let start = Barrier::new(callers);
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..callers)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    ask()
                })
            })
            .collect();
        calls.into_iter().filter_map(|call| call.join().ok()).collect()
    })
}

/// A store that refuses what it is told while it is broken.
#[derive(Clone)]
struct Breakable {
    store: MemoryStore,
    is_broken: Arc<AtomicBool>,
}

impl Store for Breakable {
    fn admission(&self) -> Seq {
        self.store.admission()
    }
    fn now(&self, reading: Reading) -> Timestamp {
        self.store.now(reading)
    }
    fn draw(&self, near: Near<'_>) -> u64 {
        self.store.draw(near)
    }
    fn apply(&self, verb: Verb) -> Ticket<Outcome> {
        match self.is_broken.load(Ordering::SeqCst) {
            true => Ticket::ready(Err(StoreError::Unknown(Arc::new(io::Error::other("EIO"))))),
            false => self.store.apply(verb),
        }
    }
    fn find(
        &self,
        find: Find,
        now: Reading,
    ) -> impl Future<Output = Result<Option<TokenView>, StoreError>> + Send + 'static {
        self.store.find(find, now)
    }
    fn list(
        &self,
        listing: Listing,
        cursor: Option<&[u8]>,
        limit: usize,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send + 'static {
        self.store.list(listing, cursor, limit)
    }
    fn sweep(&self, now: Reading) -> Result<Swept, StoreError> {
        self.store.sweep(now)
    }
    fn stats(&self) -> Stats {
        self.store.stats()
    }
}

fn breakable() -> Result<(Authority<Breakable>, Arc<AtomicBool>), Boxed> {
    let clock = Arc::new(ManualClock::at(START));
    let store = MemoryStore::new(clock.clone(), &SeededEntropy::new(3))?;
    let is_broken = Arc::new(AtomicBool::new(false));
    let store = Breakable { store, is_broken: Arc::clone(&is_broken) };
    let builder = Authority::builder(ISSUER).clock(clock).entropy(SeededEntropy::new(4));
    Ok((builder.with_store(store, root())?, is_broken))
}

#[test]
fn keycloak_cve_2026_1035_a_refresh_token_is_judged_and_spent_in_one_step() -> Tested {
    let bed = Bed::with(Memory::default(), |builder| builder.retry_secs_max(0))?;
    let (client, caller) = bed.app("app", TokenFormat::Opaque)?;
    for _ in 0..100 {
        let token = refresh_token(&bed.issue("ann", &client)?)?;
        let answers = at_once(16, || bed.refresh(&token, &caller).is_ok());
        assert_eq!(answers.iter().filter(|won| **won).count(), 1);
    }
    Ok(())
}

#[test]
fn keycloak_cve_2026_9802_a_replay_is_one_after_a_restart_too() -> Tested {
    let mut bed = Bed::new(Durable::default())?;
    let auditor = bed.auditor()?;
    let (client, caller) = bed.app("app", TokenFormat::Opaque)?;
    let first = refresh_token(&bed.issue("ann", &client)?)?;
    let second = refresh_token(&bed.refresh(&first, &caller)?)?;
    let third = bed.refresh(&second, &caller)?;
    bed.reopen()?;
    assert!(matches!(bed.refresh(&first, &caller), Err(Error::InvalidGrant(_))));
    assert!(!bed.is_active(&access_token(&third), &auditor)?);
    assert!(bed.refresh(&refresh_token(&third)?, &caller).is_err());
    Ok(())
}

#[test]
fn keycloak_49213_a_refresh_that_failed_can_be_made_again() -> Tested {
    let (authority, is_broken) = breakable()?;
    let app = Client::public("app").scopes(["api", "refresh_token"]);
    let client = authority.register(app).wait()?.client_id;
    let caller = Caller::public("app");
    let token = refresh_token(&authority.issue(Issue::to("ann", &client)).wait()?)?;
    let refresh = || authority.token(&TokenRequest::refresh(&token, &caller)).wait();
    is_broken.store(true, Ordering::SeqCst);
    for _ in 0..5 {
        assert!(matches!(refresh(), Err(Error::TemporarilyUnavailable(_))));
    }
    is_broken.store(false, Ordering::SeqCst);
    refresh()?;
    Ok(())
}

#[test]
fn hydra_3604_parallel_refreshes_are_never_an_error_of_the_server() -> Tested {
    for cap in [0, 60] {
        let settings: fn(_) -> _ = match cap {
            0 => |b: mintage::authority::Builder| b.retry_secs_max(0),
            _ => |b| b,
        };
        let bed = Bed::with(Memory::default(), settings)?;
        let (client, caller) = bed.app("app", TokenFormat::Jwt)?;
        for _ in 0..50 {
            let token = refresh_token(&bed.issue("ann", &client)?)?;
            for answer in at_once(16, || bed.refresh(&token, &caller)) {
                assert!(matches!(answer, Ok(_) | Err(Error::InvalidGrant(_))), "{answer:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn nocodb_cve_2026_47386_a_code_is_used_once_by_however_many() -> Tested {
    let bed = Bed::new(Memory::default())?;
    let (_, caller) = bed.register(web("app"))?;
    let authority = bed.authority();
    for _ in 0..50 {
        let code = code_for(&authority, &request("app"))?;
        let answers = at_once(16, || redeem(&authority, &code, &caller, "").is_ok());
        assert_eq!(answers.iter().filter(|won| **won).count(), 1);
    }
    Ok(())
}

#[test]
fn supabase_auth_2613_a_code_is_spent_in_the_unit_that_issues() -> Tested {
    let (authority, is_broken) = breakable()?;
    let secret = authority.register(web("app")).wait()?.client_secret.ok_or("no secret")?;
    let caller = Caller::secret("app", secret.expose());
    let code = code_for(&authority, &request("app"))?;
    is_broken.store(true, Ordering::SeqCst);
    assert!(matches!(
        redeem(&authority, &code, &caller, ""),
        Err(Error::TemporarilyUnavailable(_))
    ));
    is_broken.store(false, Ordering::SeqCst);
    // Nothing was issued, so nothing was spent.
    redeem(&authority, &code, &caller, "")?;
    assert!(matches!(redeem(&authority, &code, &caller, ""), Err(Error::InvalidGrant(_))));
    Ok(())
}

#[test]
fn artifact_keeper_ghsa_qxxr_one_refresh_token_has_one_successor() -> Tested {
    let bed = Bed::new(Memory::default())?;
    let (client, caller) = bed.app("app", TokenFormat::Opaque)?;
    for _ in 0..50 {
        let token = refresh_token(&bed.issue("ann", &client)?)?;
        let answers = at_once(16, || bed.refresh(&token, &caller));
        let successors = answers.into_iter().map(|answer| refresh_token(&answer?));
        assert_eq!(successors.collect::<Result<HashSet<_>, _>>()?.len(), 1);
    }
    Ok(())
}

/// A client that signs its assertions, and one signed for it.
fn signing(id: &str) -> Result<Client, Boxed> {
    let key = SigningKey::from_pem(Algorithm::EdDsa, Some("ed"), ED25519)?;
    let key = key.verifying_key().public_jwk().ok_or("no public key")?.to_json();
    let client = Client::confidential(id).grants([GrantType::ClientCredentials]);
    let client = client.authenticates([AuthMethod::PrivateKeyJwt]);
    Ok(client.keys(&format!(r#"{{"keys":[{key}]}}"#)))
}

fn assertion(id: &str, jti: &str, exp: u64) -> Result<Caller, Boxed> {
    let claims = json!({"iss": id, "sub": id, "aud": ISSUER, "jti": jti, "exp": exp, "iat": START});
    let key = EncodingKey::from_ed_pem(ED25519.as_bytes())?;
    Ok(Caller::assertion(encode(&Header::new(Alg::EdDSA), &claims, &key)?))
}

#[test]
fn hydra_cve_2020_5300_an_assertion_opens_once() -> Tested {
    let mut bed = Bed::new(Durable::default())?;
    bed.register(signing("svc")?)?;
    let caller = assertion("svc", "one", START + 60)?;
    let ask =
        |bed: &Bed<_>| bed.authority().token(&TokenRequest::client_credentials(&caller)).wait();
    ask(&bed)?;
    assert!(matches!(ask(&bed), Err(Error::InvalidClient(_))));
    bed.reopen()?;
    assert!(matches!(ask(&bed), Err(Error::InvalidClient(_))));
    Ok(())
}

#[test]
fn fosite_cve_2020_15223_a_revocation_that_failed_is_no_success() -> Tested {
    let (authority, is_broken) = breakable()?;
    let app = Client::public("app").scopes(["api", "refresh_token"]);
    let client = authority.register(app).wait()?.client_id;
    let caller = Caller::public("app");
    let issued = authority.issue(Issue::to("ann", &client)).wait()?;
    is_broken.store(true, Ordering::SeqCst);
    for token in [access_token(&issued), refresh_token(&issued)?] {
        let answers =
            [authority.revoke_token(&token, &caller), authority.revoke(Target::Token(&token))];
        for answer in answers {
            assert!(matches!(answer.wait(), Err(Error::TemporarilyUnavailable(_))));
        }
    }
    for target in [Target::Subject("ann"), Target::Client(&client), Target::Everything] {
        let answer = authority.revoke(target).wait();
        assert!(matches!(answer, Err(Error::TemporarilyUnavailable(_))));
    }
    Ok(())
}

#[test]
fn fosite_cve_2020_15222_a_jti_is_used_once_whatever_else_the_assertion_says() -> Tested {
    let bed = Bed::new(Memory::default())?;
    bed.register(signing("svc")?)?;
    bed.register(signing("other")?)?;
    let ask = |caller: &Caller| {
        bed.authority().token(&TokenRequest::client_credentials(caller)).wait().map(drop)
    };
    ask(&assertion("svc", "one", START + 60)?)?;
    let again = ask(&assertion("svc", "one", START + 61)?);
    assert!(matches!(again, Err(Error::InvalidClient(_))));
    ask(&assertion("svc", "two", START + 60)?)?;
    // It is that client's alone.
    ask(&assertion("other", "one", START + 60)?)?;
    Ok(())
}

/// Where a client with this redirect URI may send the browser to.
fn is_redirect<O: Opener>(bed: &Bed<O>, id: &str, uri: &str) -> bool {
    let request = AuthorizationRequest { redirect_uri: Some(uri), ..request(id) };
    match bed.authority().authorize(&request) {
        Ok(_) => true,
        Err(refused) => {
            assert!(refused.redirect().is_none(), "the browser was sent to {uri}");
            false
        }
    }
}

#[test]
fn fosite_cve_2020_15233_a_redirect_is_neither_folded_nor_overridden() -> Tested {
    let bed = Bed::new(Memory::default())?;
    bed.register(web("app"))?;
    bed.register(web("native").redirect_uris(["http://127.0.0.1/cb"]))?;
    assert!(is_redirect(&bed, "app", CB) && is_redirect(&bed, "native", "http://127.0.0.1:9/cb"));
    for uri in ["https://APP.example/cb", "https://app.example/CB", "HTTPS://app.example/cb"] {
        assert!(!is_redirect(&bed, "app", uri), "{uri}");
    }
    for uri in [
        "http://127.0.0.1:9/other",
        "http://127.0.0.1:9/cb?x=1",
        "http://localhost:9/cb",
        "http://[::1]:9/cb",
        "https://127.0.0.1:9/cb",
        "http://127.0.0.1:9@evil.example/cb",
    ] {
        assert!(!is_redirect(&bed, "native", uri), "{uri}");
        assert!(!is_redirect(&bed, "app", uri), "{uri}");
    }
    Ok(())
}

#[test]
fn spring_cve_2024_22258_a_challenge_binds_confidential_clients_too() -> Tested {
    let bed = Bed::new(Memory::default())?;
    let (_, caller) = bed.register(web("app"))?;
    let authority = bed.authority();
    let asked = AuthorizationRequest {
        code_challenge: Some(CHALLENGE),
        code_challenge_method: Some("S256"),
        ..request("app")
    };
    let code = code_for(&authority, &asked)?;
    for verifier in ["", "x", CHALLENGE, &"v".repeat(43)] {
        let refused = redeem(&authority, &code, &caller, verifier);
        assert!(matches!(refused, Err(Error::InvalidGrant(_))), "{verifier}: {refused:?}");
    }
    redeem(&authority, &code, &caller, VERIFIER)?;
    // Nor the other way: a verifier for a code that was asked for without a challenge.
    let code = code_for(&authority, &request("app"))?;
    assert!(redeem(&authority, &code, &caller, VERIFIER).is_err());
    Ok(())
}

#[test]
fn authentik_cve_2023_48228_a_verifier_left_out_is_a_wrong_one() -> Tested {
    let bed = Bed::new(Memory::default())?;
    let app = Client::public("app")
        .grants([GrantType::AuthorizationCode])
        .redirect_uris([CB])
        .scopes(["api"]);
    let (_, caller) = bed.register(app)?;
    let authority = bed.authority();
    assert!(authority.authorize(&request("app")).is_err(), "a public client without PKCE");
    let asked = AuthorizationRequest {
        code_challenge: Some(CHALLENGE),
        code_challenge_method: Some("S256"),
        ..request("app")
    };
    let code = code_for(&authority, &asked)?;
    let bare = TokenRequest::code(&code, &caller).redirect_uri(CB);
    assert!(matches!(authority.token(&bare).wait(), Err(Error::InvalidGrant(_))));
    redeem(&authority, &code, &caller, VERIFIER)?;
    Ok(())
}

#[test]
fn authentik_cve_2024_52289_a_redirect_is_no_regular_expression() -> Tested {
    let bed = Bed::new(Memory::default())?;
    bed.register(web("app").redirect_uris(["https://app.example/c.b"]))?;
    assert!(is_redirect(&bed, "app", "https://app.example/c.b"));
    for uri in ["https://appxexample/c.b", "https://app.example/cxb", "https://app.example/c.bb"] {
        assert!(!is_redirect(&bed, "app", uri), "{uri}");
    }
    for pattern in ["https://app.example/.*", "https://.*", "^https://app.example/cb$"] {
        let registered = bed.authority().register(web("any").redirect_uris([pattern])).wait();
        if registered.is_ok() {
            assert!(!is_redirect(&bed, "any", CB), "{pattern}");
            bed.authority().remove_client(&mintage::ids::ClientId::new("any")?).wait()?;
        }
    }
    Ok(())
}

#[test]
fn keycloak_cve_2022_1245_no_request_widens_the_audience() -> Tested {
    let bed = Bed::new(Memory::default())?;
    let audiences = ["https://one", "https://two"];
    let (client, caller) = bed.register(web("app").audiences(audiences))?;
    let issue = Issue::to("ann", &client).audience("https://one");
    let token = refresh_token(&bed.authority().issue(issue).wait()?)?;
    let ask = |request: TokenRequest<'_>, audience: &str| -> Result<(), Error> {
        bed.authority().token(&request.audience(audience)).wait().map(drop)
    };
    for wider in ["https://two", "https://one https://two", "https://three", ISSUER] {
        let refused = ask(TokenRequest::refresh(&token, &caller), wider);
        assert!(matches!(refused, Err(Error::InvalidTarget(_))), "{wider}: {refused:?}");
    }
    ask(TokenRequest::refresh(&token, &caller), "https://one")?;
    let issue = Issue::to("ann", &client).audience("https://three");
    assert!(matches!(bed.authority().issue(issue).wait(), Err(Error::InvalidTarget(_))));
    Ok(())
}

#[test]
fn keycloak_cve_2023_6134_there_are_no_wildcards_in_redirects() -> Tested {
    let bed = Bed::new(Memory::default())?;
    for wildcard in ["*", "https://*", "https://*.example/cb", "https://app.example:*/cb"] {
        let refused = bed.authority().register(web("any").redirect_uris([wildcard])).wait();
        assert!(refused.is_err(), "{wildcard}");
    }
    // A star is a star where a URI may have one.
    bed.register(web("app").redirect_uris(["https://app.example/*"]))?;
    assert!(!is_redirect(&bed, "app", CB));
    assert!(!is_redirect(&bed, "app", "https://app.example/"));
    assert!(is_redirect(&bed, "app", "https://app.example/*"));
    Ok(())
}

fn base64url(bytes: &[u8]) -> String {
    base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes)
}

/// An authority that signs with a known HMAC secret, a JWT of it, and that JWT under another header.
fn jwt_of(issuer: &str) -> Result<(Authority<MemoryStore>, String), Boxed> {
    let clock = ManualClock::at(START);
    let builder = Authority::builder(issuer).clock(clock).audience("https://api");
    let authority = builder.in_memory(root())?;
    let key = SigningKey::hmac(Some("k1"), &[5; 32])?;
    authority.keys().import(key).wait()?;
    let app = Client::public("app").format(TokenFormat::Jwt).scopes(["api"]);
    let client = authority.register(app).wait()?.client_id;
    let issued = authority.issue(Issue::to("ann", &client)).wait()?;
    Ok((authority, access_token(&issued)))
}

/// The header of a JWT, as text.
fn header_of(jwt: &str) -> Result<String, Boxed> {
    let header = jwt.split('.').next().ok_or("no header")?;
    Ok(String::from_utf8(base64_simd::URL_SAFE_NO_PAD.decode_to_vec(header)?)?)
}

/// The JWT under another header, properly signed.
fn with_header(jwt: &str, header: &str) -> Result<String, Boxed> {
    let input = format!("{}.{}", base64url(header.as_bytes()), payload(jwt)?);
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &[5; 32]);
    Ok(format!("{input}.{}", base64url(ring::hmac::sign(&key, input.as_bytes()).as_ref())))
}

fn is_taken(authority: &Authority<MemoryStore>, jwt: &str) -> bool {
    let taken = authority.verify(jwt, &mut Scratch::new()).is_ok();
    assert_eq!(authority.verify_live(jwt).wait().is_ok(), taken);
    taken
}

#[test]
fn authlib_cve_2025_59420_what_is_critical_and_unknown_is_refused() -> Tested {
    let (authority, jwt) = jwt_of(ISSUER)?;
    let header = header_of(&jwt)?;
    assert!(is_taken(&authority, &with_header(&jwt, &header)?), "{header}");
    let open = header.strip_suffix('}').ok_or("no object")?;
    for crit in [r#"["x"]"#, r#"["exp"]"#, "[]", r#""x""#, r#"["b64"]"#, "null"] {
        let header = format!(r#"{open},"crit":{crit},"x":true}}"#);
        assert!(!is_taken(&authority, &with_header(&jwt, &header)?), "{header}");
    }
    Ok(())
}

#[test]
fn node_jws_cve_2025_65945_a_kid_finds_a_key_of_the_ring_or_none() -> Tested {
    let (authority, jwt) = jwt_of(ISSUER)?;
    for kid in ["", "k2", "../../../dev/null", "https://evil.example/k", "k1\0", "' OR 1=1 --"] {
        let header = header_of(&jwt)?.replace("\"k1\"", &json!(kid).to_string());
        assert!(!is_taken(&authority, &with_header(&jwt, &header)?), "{header}");
    }
    Ok(())
}

#[test]
fn node_jsonwebtoken_cve_2022_23540_the_key_decides_the_algorithm() -> Tested {
    let (authority, jwt) = jwt_of(ISSUER)?;
    for alg in ["none", "None", "", "HS384", "RS256", "ES256"] {
        let header = header_of(&jwt)?.replace("HS256", alg);
        let forged = with_header(&jwt, &header)?;
        let unsigned = forged.rsplit_once('.').map(|(input, _)| format!("{input}."));
        assert!(!is_taken(&authority, &forged), "{alg}");
        assert!(!is_taken(&authority, &unsigned.ok_or("no signature")?), "{alg}");
    }
    // CVE-2022-23539: legacy and short keys.
    let short = std::fs::read_to_string("tests/data/rsa1024.pk8.pem")?;
    assert!(SigningKey::from_pem(Algorithm::Rs256, None, &short).is_err());
    assert!(SigningKey::hmac(None, &[5; 31]).is_err());
    // CVE-2022-23541: a public key is no secret.
    let ed = SigningKey::from_pem(Algorithm::EdDsa, Some("ed"), ED25519)?;
    let public = ed.public_jwk().ok_or("no public key")?.to_json();
    authority.keys().import(ed).wait()?;
    let header = header_of(&jwt)?.replace("k1", "ed");
    let input = format!("{}.{}", base64url(header.as_bytes()), payload(&jwt)?);
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, public.as_bytes());
    let tag = base64url(ring::hmac::sign(&key, input.as_bytes()).as_ref());
    assert!(!is_taken(&authority, &format!("{input}.{tag}")));
    Ok(())
}

#[test]
fn envoy_cve_2021_21378_a_token_of_an_unknown_issuer_is_refused() -> Tested {
    let (authority, _) = jwt_of(ISSUER)?;
    // The same root key, signing key and client; only the issuer is another one.
    let (_, foreign) = jwt_of("https://login.example.com/")?;
    assert!(!is_taken(&authority, &foreign));
    for nothing in ["", "..", "a.b.c"] {
        assert!(!is_taken(&authority, nothing));
    }
    Ok(())
}

#[test]
fn storm_0558_a_key_signs_for_its_issuer_alone() -> Tested {
    let (consumers, consumer) = jwt_of("https://consumers.example")?;
    let (enterprise, employee) = jwt_of("https://enterprise.example")?;
    // One key in two authorities, as in the incident; each takes its own tokens alone.
    assert!(is_taken(&consumers, &consumer) && is_taken(&enterprise, &employee));
    assert!(!is_taken(&enterprise, &consumer) && !is_taken(&consumers, &employee));
    Ok(())
}

#[test]
fn entra_cve_2025_55241_a_tenant_sees_its_own_tokens_alone() -> Tested {
    // One root key and one store's worth of equal identifiers: only the organisation differs.
    let open = |org: &str| -> Result<_, OpenError> {
        let builder = Authority::builder(ISSUER).org(org).clock(ManualClock::at(START));
        builder.entropy(SeededEntropy::new(1)).in_memory(root())
    };
    let tenants = [open("one")?, open("two")?];
    let mut tokens = Vec::new();
    for tenant in &tenants {
        let app = Client::public("app").scopes(["api", "refresh_token"]);
        let client = tenant.register(app).wait()?.client_id;
        let mut held = Vec::new();
        for n in 0..500 {
            let issued = tenant.issue(Issue::to(format!("user-{n}"), &client)).wait()?;
            held.push((access_token(&issued), refresh_token(&issued)?));
        }
        tokens.push(held);
    }
    let caller = Caller::public("app");
    for (here, there) in [(0, 1), (1, 0)] {
        for (access, refresh) in &tokens[there] {
            assert!(tenants[here].verify_live(access).wait().is_err());
            let request = TokenRequest::refresh(refresh, &caller);
            assert!(tenants[here].token(&request).wait().is_err());
            tenants[here].revoke(Target::Token(access)).wait()?;
        }
    }
    for (tenant, held) in tenants.iter().zip(&tokens) {
        for (access, _) in held {
            tenant.verify_live(access).wait()?;
        }
    }
    Ok(())
}

#[test]
fn okta_har_2023_no_answer_shows_a_token_unasked() -> Tested {
    let bed = Bed::new(Memory::default())?;
    let authority = bed.authority();
    let registered = authority.register(web("app").scopes(["api", "refresh_token"])).wait()?;
    let issued = authority.issue(Issue::to("ann", &registered.client_id)).wait()?;
    let caller = Caller::secret("app", registered.client_secret.clone().ok_or("none")?.expose());
    let pushed = authority.push(&request("app"), &caller).wait()?;
    let refresh = refresh_token(&issued)?;
    let ask = TokenRequest::refresh(&refresh, &caller);
    let target = Target::Token(&refresh);
    let shown = format!("{registered:?} {issued:?} {caller:?} {ask:?} {target:?} {authority:?}");
    let page = format!("{:?}", authority.grants().of_subject("ann").page(10).wait()?);
    // What a scanner of leaked files knows by its start.
    for prefix in ["mat_", "mrt_", "mcs_", "mdt_"] {
        assert!(!shown.contains(prefix) && !page.contains(prefix), "{prefix}: {shown} {page}");
    }
    assert!(
        access_token(&issued).starts_with("mat_mintage_") && refresh.starts_with("mrt_mintage_")
    );
    assert!(pushed.request_uri.contains("mac_mintage_"));
    Ok(())
}
