//! Laws of tokens that come through the browser (implicit and OpenID Connect's hybrid answers), and of
//! Salesforce's hybrid apps.

mod support;

use std::sync::atomic::{AtomicU64, Ordering};

use mintage::authority::{
    AuthorizationRequest, Builder, Caller, Client, DomainSession, Error, GrantType, IpRange, Login,
    Profile, RefreshPolicy, SenderConstraint, Target, TokenFormat, TokenRequest, User, WebSession,
    WebSessionRequest,
};
use mintage::codec::jws::{IdExpected, IdVerifier, Scratch};
use mintage::codec::keyring::Keyring;
use mintage::codec::keys::{SigningKey, VerifyingKey};
use mintage::entropy::SeededEntropy;
use mintage::ids::Subject;
use mintage::secret::SecretText;
use mintage::store::{PairPolicy, Store};
use mintage::time::Timestamp;
use serde_json::{Value, json};
use support::{Bed, ISSUER, Opener, START, Tested, access_token, refresh_token};

laws![
    tokens_come_through_the_browser_only_where_both_permit_it,
    tokens_come_through_the_browser_only_to_where_the_client_permits,
    an_answer_holds_what_was_asked_for_in_the_fragment,
    an_id_token_fits_what_it_comes_with,
    refusals_of_such_requests_stand_where_the_answer_would,
    no_refresh_token_comes_through_the_browser_but_to_an_app_of_salesforces,
    a_revocation_in_between_gives_nothing_through_the_browser,
    pushed_requests_give_such_answers_once,
    a_hybrid_app_gets_the_sessions_that_its_scope_holds,
    a_hybrid_refresh_takes_every_refresh_token_and_opens_new_sessions,
    no_session_is_opened_for_what_was_revoked,
    a_code_does_not_come_with_a_token_where_a_user_has_one_login,
    hybrid_grants_are_off_until_they_are_on,
    hybrid_jwts_do_not_go_with_rotation,
    a_hybrid_token_comes_through_the_browser,
];

type Boxed = Box<dyn std::error::Error>;

const CB: &str = "https://app.example/cb";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

static OPENED: AtomicU64 = AtomicU64::new(0);

fn sessions(request: &WebSessionRequest<'_>) -> Option<WebSession> {
    let n = OPENED.fetch_add(1, Ordering::SeqCst);
    let domain = |name: &str| DomainSession {
        domain: format!("{name}.example.com"),
        sid: SecretText::new(format!("{name}-{n}")),
    };
    (request.subject.as_str() != "stranger").then(|| WebSession {
        sid_cookie_name: "sid".to_owned(),
        sid_client: SecretText::new(format!("client-{n}")),
        client_src: "10.0.0.1".to_owned(),
        lightning: Some(domain("lightning")),
        csrf_token: Some(SecretText::new(format!("csrf-{n}"))),
        visualforce: Some(domain("visualforce")),
        content: Some(domain("content")),
        parent_sid: Some(SecretText::new(format!("parent-{n}"))),
    })
}

fn user(_: &Subject) -> Option<User> {
    Some(User { email: Some("ann@example.com".to_owned()), ..User::default() })
}

fn open(builder: Builder) -> Builder {
    builder.tokens_in_front(true).web_sessions(sessions).users(user)
}

fn salesforce(builder: Builder) -> Builder {
    open(builder).profile(Profile::Salesforce)
}

fn draft(id: &str) -> Client {
    Client::public(id)
        .grants([
            GrantType::AuthorizationCode,
            GrantType::Implicit,
            GrantType::RefreshToken,
            GrantType::HybridAuthCode,
            GrantType::HybridRefresh,
        ])
        .redirect_uris([CB, "app:/cb"])
        .scopes([
            "api",
            "openid",
            "email",
            "refresh_token",
            "web",
            "lightning",
            "visualforce",
            "content",
        ])
}

fn request<'a>(id: &'a str, response: &'a str) -> AuthorizationRequest<'a> {
    AuthorizationRequest {
        response_type: Some(response),
        client_id: Some(id),
        redirect_uri: Some(CB),
        scope: Some("openid api email"),
        state: Some("s t"),
        nonce: Some("n-1"),
        code_challenge: Some(CHALLENGE),
        code_challenge_method: Some("S256"),
        ..AuthorizationRequest::default()
    }
}

fn answer<O: Opener>(bed: &Bed<O>, request: &AuthorizationRequest<'_>) -> Result<String, Boxed> {
    let authorization = bed.authority().authorize(request)?;
    let login = Login::at("ann", Timestamp(START - 9))?;
    let scope = authorization.scope().as_str().to_owned();
    Ok(bed.authority().approve(&authorization, &login, &scope).wait()?.expose().to_owned())
}

/// The value of a parameter of the fragment.
fn parameter(url: &str, name: &str) -> Option<String> {
    let (_, fragment) = url.split_once('#')?;
    let find = |pair: &str| Some(pair.strip_prefix(name)?.strip_prefix('=')?.to_owned());
    fragment.split('&').find_map(find)
}

fn refused<O: Opener>(
    bed: &Bed<O>,
    request: &AuthorizationRequest<'_>,
) -> Option<(&'static str, String)> {
    let error = bed.authority().authorize(request).err()?;
    Some((error.error().code(), error.redirect().unwrap_or_default().to_owned()))
}

fn code_of<T>(refused: Result<T, Error>) -> Option<&'static str> {
    refused.err().map(|error| error.code())
}

const FRONT: [&str; 6] =
    ["token", "id_token", "id_token token", "code id_token", "code token", "code id_token token"];

fn tokens_come_through_the_browser_only_where_both_permit_it(opener: impl Opener) -> Tested {
    let mut bed = Bed::with(opener, |builder| builder)?;
    bed.register(draft("app"))?;
    for response in FRONT.into_iter().chain(["hybrid_token"]) {
        let found = refused(&bed, &request("app", response)).map(|(code, _)| code);
        assert_eq!(found, Some("unsupported_response_type"), "{response}");
    }
    let told = bed.authority().metadata().to_json();
    let told: Value = serde_json::from_str(&told)?;
    assert_eq!(told["response_types_supported"], json!(["code"]));
    bed.settings(open);
    bed.reopen()?;
    bed.register(draft("bare").grants([GrantType::AuthorizationCode]))?;
    bed.register(draft("bound").sender_constraint(SenderConstraint::Key))?;
    for response in FRONT {
        let found = refused(&bed, &request("bare", response)).map(|(code, _)| code);
        assert_eq!(found, Some("unauthorized_client"), "{response}");
        let wanted = response.split(' ').any(|one| one == "token").then_some("invalid_request");
        let found = refused(&bed, &request("bound", response)).map(|(code, _)| code);
        assert_eq!(found, wanted, "{response}");
        assert!(answer(&bed, &request("app", response)).is_ok());
    }
    let told: Value = serde_json::from_str(&bed.authority().metadata().to_json())?;
    let all: Vec<&str> = std::iter::once("code").chain(FRONT).chain(["hybrid_token"]).collect();
    assert_eq!(told["response_types_supported"], json!(all));
    Ok(())
}

fn tokens_come_through_the_browser_only_to_where_the_client_permits(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, open)?;
    let authority = bed.authority();
    let range = IpRange::parse("192.0.2.0/24").ok_or("no range")?;
    let client = draft("app").ip_ranges([range]).ip_relaxed_for_refresh();
    let (_, caller) = bed.register(client)?;
    let (inside, outside) = ("192.0.2.7".parse()?, "198.51.100.1".parse()?);
    for response in FRONT.into_iter().chain(["hybrid_token"]) {
        for address in [Some(inside), Some(outside), None] {
            let login = Login::now("ann", &authority)?;
            let login = address.map_or(login.clone(), |address| login.from_address(address));
            let asked = request("app", response);
            let pushed = authority.push(&asked, &caller.clone().from_address(inside)).wait()?;
            let pushed = authority.authorize_pushed("app", &pushed.request_uri).wait()?;
            for authorization in [authority.authorize(&asked)?, pushed] {
                let step = authority.next_step(&authorization, Some(&login)).wait().map(drop);
                let given = authority.approve(&authorization, &login, "openid api").wait();
                for answer in [step, given.map(drop)] {
                    let told = answer.err().map(|error| error.error().code());
                    let wanted = Some("access_denied").filter(|_| address != Some(inside));
                    assert_eq!(told, wanted, "{response} {address:?}");
                }
            }
        }
    }
    // What is redeemed is asked for from where it is redeemed.
    let authorization = authority.authorize(&request("app", "code"))?;
    authority.approve(&authorization, &Login::now("ann", &authority)?, "openid api").wait()?;
    // A range that came after the request counts, too.
    bed.register(draft("later"))?;
    let authorization = authority.authorize(&request("later", "token"))?;
    authority.update_client(draft("later").ip_ranges([range])).wait()?;
    let given = authority.approve(&authorization, &Login::now("ann", &authority)?, "api").wait();
    assert_eq!(given.err().map(|error| error.error().code()), Some("access_denied"));
    Ok(())
}

fn an_answer_holds_what_was_asked_for_in_the_fragment(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, open)?;
    let auditor = bed.auditor()?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let id = format!("{format:?}");
        let (_, caller) = bed.register(draft(&id).format(format))?;
        for response in FRONT {
            let url = answer(&bed, &request(&id, response))?;
            assert!(url.starts_with(&format!("{CB}#")), "{url}");
            let has = |name: &str| parameter(&url, name).is_some();
            for (part, name) in
                [("code", "code"), ("token", "access_token"), ("id_token", "id_token")]
            {
                let asked = response.split(' ').any(|one| one == part);
                assert_eq!(has(name), asked, "{response} {name}");
            }
            assert_eq!(parameter(&url, "state").as_deref(), Some("s%20t"));
            assert!(has("iss") && !has("refresh_token"));
            let Some(token) = parameter(&url, "access_token") else { continue };
            assert_eq!(parameter(&url, "token_type").as_deref(), Some("Bearer"));
            let secs = if format == TokenFormat::Opaque { "7200" } else { "300" };
            assert_eq!(parameter(&url, "expires_in").as_deref(), Some(secs));
            let live = bed.authority().verify_live(&token).wait()?;
            assert_eq!((live.subject.as_str(), live.scope.as_str()), ("ann", "api email openid"));
            bed.authority().revoke(Target::Token(&token)).wait()?;
            assert!(!bed.is_active(&token, &auditor)?);
            if let Some(code) = parameter(&url, "code") {
                let redeem = TokenRequest::code(&code, &caller).redirect_uri(CB);
                bed.authority().token(&redeem.code_verifier(VERIFIER)).wait()?;
            }
        }
    }
    // In the query only a code comes, and that in the fragment where it is asked for.
    let query = AuthorizationRequest { response_mode: Some("fragment"), ..request("Jwt", "code") };
    assert!(parameter(&answer(&bed, &query)?, "code").is_some());
    Ok(())
}

fn keyring<S: Store>(authority: &mintage::authority::Authority<S>) -> Result<Keyring, Boxed> {
    let jwks: Value = serde_json::from_str(&authority.keys().jwks())?;
    let key = VerifyingKey::from_jwk(jwks["keys"][0].to_string().as_bytes())?;
    let unused = mintage::codec::algorithm::Algorithm::EdDsa;
    let unused = SigningKey::generate(unused, Some("unused"), &SeededEntropy::new(9))?;
    Ok(Keyring::new(unused).with_retired(&key)?)
}

fn an_id_token_fits_what_it_comes_with(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, open)?;
    bed.register(draft("app"))?;
    let (ring, verifier) = (keyring(&bed.authority())?, IdVerifier::new(ISSUER, "app", 0));
    let mut scratch = Scratch::new();
    for response in FRONT {
        let url = answer(&bed, &request("app", response))?;
        let Some(token) = parameter(&url, "id_token") else { continue };
        let (code, access) = (parameter(&url, "code"), parameter(&url, "access_token"));
        let mut expected = IdExpected::with_nonce("n-1").max_age_secs(60);
        if let Some(code) = &code {
            expected = expected.code(code);
        }
        if let Some(access) = &access {
            expected = expected.access_token(access);
        }
        let now = Timestamp(START);
        let seen = verifier.verify(&ring, token.as_bytes(), &expected, now, &mut scratch)?;
        assert_eq!((seen.subject(), seen.auth_time()), ("ann", Some(Timestamp(START - 9))));
        assert_eq!(seen.fits_code("x").is_some(), code.is_some(), "{response}");
        assert_eq!(seen.fits_access_token("x").is_some(), access.is_some(), "{response}");
        // Where nothing can be asked of UserInfo, the token tells it itself.
        assert_eq!(seen.get("email").is_some(), response == "id_token", "{response}");
    }
    Ok(())
}

fn refusals_of_such_requests_stand_where_the_answer_would(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, open)?;
    bed.register(draft("app"))?;
    let base = || request("app", "id_token token");
    for (asked, wanted) in [
        (AuthorizationRequest { nonce: None, ..base() }, "invalid_request"),
        (AuthorizationRequest { scope: Some("api"), ..base() }, "invalid_request"),
        (AuthorizationRequest { scope: Some("other"), ..base() }, "invalid_scope"),
        (AuthorizationRequest { response_mode: Some("query"), ..base() }, "invalid_request"),
        (AuthorizationRequest { response_mode: Some("form_post"), ..base() }, "invalid_request"),
        (AuthorizationRequest { prompt: Some("none login"), ..base() }, "invalid_request"),
    ] {
        let (code, redirect) = refused(&bed, &asked).ok_or("taken")?;
        assert_eq!(code, wanted, "{asked:?}");
        assert!(redirect.starts_with(&format!("{CB}#error={wanted}&")), "{redirect}");
    }
    for unknown in ["token token", "code none", "TOKEN"] {
        let asked = AuthorizationRequest { response_type: Some(unknown), ..base() };
        let found = refused(&bed, &asked).map(|(code, _)| code);
        assert_eq!(found, Some("unsupported_response_type"));
    }
    let authorization = bed.authority().authorize(&base())?;
    assert!(authorization.deny().starts_with(&format!("{CB}#error=access_denied")));
    // A token alone needs neither nonce nor openid; a code challenge is for codes.
    let bare = AuthorizationRequest {
        nonce: None,
        scope: Some("api"),
        code_challenge: None,
        code_challenge_method: None,
        ..request("app", "token")
    };
    assert!(answer(&bed, &bare).is_ok());
    let code = AuthorizationRequest { response_type: Some("code token"), ..bare };
    assert_eq!(refused(&bed, &code).map(|(code, _)| code), Some("invalid_request"));
    Ok(())
}

fn no_refresh_token_comes_through_the_browser_but_to_an_app_of_salesforces(
    opener: impl Opener,
) -> Tested {
    let mut bed = Bed::with(opener, open)?;
    let (_, caller) = bed.register(draft("app"))?;
    let ask = |uri: &'static str| AuthorizationRequest {
        redirect_uri: Some(uri),
        scope: Some("api refresh_token"),
        ..request("app", "token")
    };
    for uri in [CB, "app:/cb"] {
        assert_eq!(parameter(&answer(&bed, &ask(uri))?, "refresh_token"), None, "{uri}");
    }
    bed.settings(salesforce);
    bed.reopen()?;
    assert_eq!(parameter(&answer(&bed, &ask(CB))?, "refresh_token"), None);
    let url = answer(&bed, &ask("app:/cb"))?;
    let token = parameter(&url, "refresh_token").ok_or("none")?;
    assert!(bed.refresh(&token, &caller).is_ok());
    assert!(parameter(&url, "issued_at").is_some_and(|at| at.len() == 13));
    assert_eq!(parameter(&url, "signature"), None, "there is no secret to sign with");
    Ok(())
}

fn a_revocation_in_between_gives_nothing_through_the_browser(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, open)?;
    let (client, _) = bed.register(draft("app"))?;
    for (n, response) in
        ["token", "code token", "id_token", "code id_token"].into_iter().enumerate()
    {
        for target in [Target::Subject("ann"), Target::Client(&client), Target::Everything] {
            let authorization = bed.authority().authorize(&request("app", response))?;
            bed.authority().revoke(target).wait()?;
            let login = Login::now("ann", &bed.authority())?;
            let refused = bed.authority().approve(&authorization, &login, "api openid").wait();
            let refused = refused.err().ok_or("answered")?;
            assert_eq!(refused.error().code(), "access_denied", "{n} {target:?}");
            assert!(refused.redirect().is_some_and(|url| url.contains("#error=access_denied")));
        }
        // Nor does a client that is gone, or blocked, get any.
        for gone in [false, true] {
            let (client, _) = bed.register(draft(&format!("app {n} {gone}")))?;
            let authorization = bed.authority().authorize(&request(client.as_str(), response))?;
            match gone {
                true => bed.authority().remove_client(&client).wait()?,
                false => bed.authority().block_client(&client).wait()?,
            }
            let login = Login::now("ann", &bed.authority())?;
            let refused = bed.authority().approve(&authorization, &login, "api openid").wait();
            let refused = refused.err().ok_or("answered")?;
            assert_eq!(refused.error().code(), "access_denied", "{response} {gone}");
        }
    }
    let bare = bed.authority().grants().of_subject("ann").page(10).wait()?;
    assert!(bare.grants.is_empty());
    Ok(())
}

fn pushed_requests_give_such_answers_once(opener: impl Opener) -> Tested {
    let mut bed = Bed::with(opener, open)?;
    let (_, caller) = bed.register(draft("app"))?;
    let pushed = bed.authority().push(&request("app", "id_token token"), &caller).wait()?;
    bed.reopen()?;
    let authorization = bed.authority().authorize_pushed("app", &pushed.request_uri).wait()?;
    let login = Login::now("ann", &bed.authority())?;
    let url = bed.authority().approve(&authorization, &login, "api openid").wait()?;
    assert!(parameter(url.expose(), "access_token").is_some());
    let before = bed.authority().grants().of_subject("ann").page(10).wait()?.grants.len();
    let again = bed.authority().approve(&authorization, &login, "api openid").wait();
    assert_eq!(again.err().map(|error| error.error().code()), Some("invalid_request_uri"));
    let after = bed.authority().grants().of_subject("ann").page(10).wait()?.grants.len();
    assert_eq!(before, after, "nothing was born for it");
    Ok(())
}

/// The members of a token response that are sessions.
fn session(issued: &mintage::authority::Issued) -> Result<Vec<(String, String)>, Boxed> {
    let wire: Value = serde_json::from_str(issued.to_json().expose())?;
    let wire = wire.as_object().ok_or("no object")?;
    let known =
        ["sidCookieName", "cookie-", "lightning_", "csrf_", "visualforce_", "content_", "parent_"];
    let is_session = |name: &str| known.iter().any(|start| name.starts_with(start));
    let found = wire.iter().filter(|(name, _)| is_session(name));
    Ok(found.map(|(name, v)| (name.clone(), v.as_str().unwrap_or("").to_owned())).collect())
}

fn names(session: &[(String, String)]) -> Vec<&str> {
    session.iter().map(|(name, _)| name.as_str()).collect()
}

fn code<O: Opener>(bed: &Bed<O>, id: &str, scope: &str) -> Result<String, Boxed> {
    let asked = AuthorizationRequest {
        scope: Some(scope),
        response_mode: Some("fragment"),
        ..request(id, "code")
    };
    Ok(parameter(&answer(bed, &asked)?, "code").ok_or("no code")?)
}

fn hybrid<'a>(code: &'a str, caller: &'a Caller) -> TokenRequest<'a> {
    TokenRequest::hybrid_code(code, caller).redirect_uri(CB).code_verifier(VERIFIER)
}

fn a_hybrid_app_gets_the_sessions_that_its_scope_holds(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, salesforce)?;
    let (_, caller) = bed.register(draft("app"))?;
    let web = ["cookie-clientSrc", "cookie-sid_Client", "sidCookieName"];
    for (scope, more) in [
        ("api lightning", None),
        ("web", Some(vec!["visualforce_domain", "visualforce_sid"])),
        (
            "web lightning content",
            Some(vec![
                "content_domain",
                "content_sid",
                "csrf_token",
                "lightning_domain",
                "lightning_sid",
                "visualforce_domain",
                "visualforce_sid",
            ]),
        ),
    ] {
        let code = code(&bed, "app", scope)?;
        let issued = bed.authority().token(&hybrid(&code, &caller)).wait()?;
        let mut wanted: Vec<&str> = more.map_or_else(Vec::new, |more| [&web[..], &more].concat());
        let session = session(&issued)?;
        let mut found = names(&session);
        wanted.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, wanted, "{scope}");
        assert!(!format!("{issued:?}").contains("client-"), "no session in a log");
    }
    // The plain grant opens none.
    let opened = OPENED.load(Ordering::SeqCst);
    let code = code(&bed, "app", "web")?;
    let plain = TokenRequest::code(&code, &caller).redirect_uri(CB).code_verifier(VERIFIER);
    let issued = bed.authority().token(&plain).wait()?;
    assert!(session(&issued)?.is_empty() && issued.web_session.is_none());
    assert!(OPENED.load(Ordering::SeqCst) >= opened);
    // What was refused opens none either.
    assert_eq!(
        code_of(bed.authority().token(&hybrid(&code, &caller)).wait()),
        Some("invalid_grant")
    );
    Ok(())
}

fn a_hybrid_refresh_takes_every_refresh_token_and_opens_new_sessions(
    opener: impl Opener,
) -> Tested {
    let mut bed = Bed::with(opener, salesforce)?;
    let (client, caller) = bed.register(draft("app"))?;
    let code = code(&bed, "app", "web refresh_token")?;
    let issued = bed.authority().token(&hybrid(&code, &caller)).wait()?;
    let first = session(&issued)?;
    let plain = bed.issue("ann", &client)?;
    bed.reopen()?;
    for issued in [&issued, &plain] {
        let token = refresh_token(issued)?;
        let ask = || bed.authority().token(&TokenRequest::hybrid_refresh(&token, &caller)).wait();
        let (one, again) = (ask()?, ask()?);
        assert_eq!(access_token(&one), access_token(&again), "a lost answer");
        let (one, again) = (session(&one)?, session(&again)?);
        assert!(names(&one).contains(&"sidCookieName"));
        assert_ne!(one, again, "sessions are new every time");
        assert_ne!(one, first);
    }
    Ok(())
}

fn no_session_is_opened_for_what_was_revoked(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, |builder| {
        builder.tokens_in_front(true).web_sessions(|request: &WebSessionRequest<'_>| {
            assert_ne!(request.subject.as_str(), "ann", "opened for what was revoked");
            None
        })
    })?;
    let authority = bed.authority();
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let id = format!("{format:?}");
        let app = draft(&id).format(format).refresh(RefreshPolicy::rotate());
        // Hybrid apps with JWTs prove themselves.
        let app = match format {
            TokenFormat::Opaque => app,
            _ => {
                app.sender_constraint(SenderConstraint::Certificate).refresh(RefreshPolicy::fixed())
            }
        };
        let (client, caller) = bed.register(app)?;
        let caller = caller.with_certificate([7; 32]);
        let code = code(&bed, &id, "openid api web refresh_token")?;
        let ticket = authority.token(&hybrid(&code, &caller));
        authority.revoke(Target::Client(&client)).wait()?;
        assert_eq!(code_of(ticket.wait()), Some("invalid_grant"), "{id}");
    }
    Ok(())
}

fn a_code_does_not_come_with_a_token_where_a_user_has_one_login(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, open)?;
    for (policy, is_one) in [
        (PairPolicy::Unlimited, false),
        (PairPolicy::Newest(2), false),
        (PairPolicy::Newest(1), true),
        (PairPolicy::Replace, true),
        (PairPolicy::Reject, true),
    ] {
        let id = format!("app{policy:?}").replace(['(', ')'], "");
        let (_, caller) = bed.register(draft(&id).pairs(policy))?;
        for response in FRONT {
            let has = |one: &str| response.split(' ').any(|name| name == one);
            let wanted = (is_one && has("code") && has("token")).then_some("invalid_request");
            let found = refused(&bed, &request(&id, response)).map(|(code, _)| code);
            assert_eq!(found, wanted, "{policy:?} {response}");
        }
        if !is_one {
            let url = answer(&bed, &request(&id, "code token"))?;
            let code = parameter(&url, "code").ok_or("no code")?;
            let redeem = TokenRequest::code(&code, &caller).code_verifier(VERIFIER);
            bed.authority().token(&redeem.redirect_uri(CB)).wait()?;
            let token = parameter(&url, "access_token").ok_or("no token")?;
            bed.authority().verify_live(&token).wait()?;
        }
    }
    Ok(())
}

fn hybrid_grants_are_off_until_they_are_on(opener: impl Opener) -> Tested {
    let mut bed = Bed::with(opener, open)?;
    let plain = draft("plain").grants([GrantType::AuthorizationCode, GrantType::RefreshToken]);
    let (client, caller) = bed.register(plain)?;
    let spent = code(&bed, "plain", "web")?;
    let refused = bed.authority().token(&hybrid(&spent, &caller)).wait();
    assert_eq!(code_of(refused), Some("unauthorized_client"));
    let token = refresh_token(&bed.issue("ann", &client)?)?;
    let refused = bed.authority().token(&TokenRequest::hybrid_refresh(&token, &caller)).wait();
    assert_eq!(code_of(refused), Some("unauthorized_client"));
    let (_, app) = bed.register(draft("app"))?;
    let kept = code(&bed, "app", "web")?;
    bed.settings(|builder| builder);
    bed.reopen()?;
    let refused = bed.authority().token(&hybrid(&kept, &app)).wait();
    assert_eq!(code_of(refused), Some("unsupported_grant_type"));
    // Nothing of it was used up.
    let redeem = TokenRequest::code(&kept, &app).redirect_uri(CB).code_verifier(VERIFIER);
    assert!(bed.authority().token(&redeem).wait().is_ok());
    Ok(())
}

fn hybrid_jwts_do_not_go_with_rotation(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, salesforce)?;
    let (_, app) = bed.register(draft("app").format(TokenFormat::Jwt))?;
    let first = code(&bed, "app", "web")?;
    assert_eq!(code_of(bed.authority().token(&hybrid(&first, &app)).wait()), Some("invalid_grant"));
    let found = refused(
        &bed,
        &AuthorizationRequest { scope: Some("web"), ..request("app", "hybrid_token") },
    );
    assert_eq!(found.map(|(code, _)| code), Some("invalid_grant"));
    let fixed = Client::confidential("fixed")
        .grants([
            GrantType::AuthorizationCode,
            GrantType::RefreshToken,
            GrantType::HybridAuthCode,
            GrantType::HybridRefresh,
        ])
        .redirect_uris([CB])
        .scopes(["web", "refresh_token"])
        .refresh(RefreshPolicy::fixed())
        .format(TokenFormat::Jwt);
    let (_, fixed) = bed.register(fixed)?;
    let code = code(&bed, "fixed", "web refresh_token")?;
    let issued = bed.authority().token(&hybrid(&code, &fixed)).wait()?;
    assert!(names(&session(&issued)?).contains(&"parent_sid"), "the session behind a JWT");
    // Revoking the JWT ends no session: those are the host's.
    bed.authority().revoke(Target::Token(&access_token(&issued))).wait()?;
    let token = refresh_token(&issued)?;
    let again = bed.authority().token(&TokenRequest::hybrid_refresh(&token, &fixed)).wait()?;
    assert!(again.web_session.is_some());
    Ok(())
}

fn a_hybrid_token_comes_through_the_browser(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, salesforce)?;
    bed.register(draft("app"))?;
    let asked = AuthorizationRequest { scope: Some("web api"), ..request("app", "hybrid_token") };
    let url = answer(&bed, &asked)?;
    for name in
        ["access_token", "sidCookieName", "cookie-sid_Client", "visualforce_sid", "issued_at"]
    {
        assert!(parameter(&url, name).is_some(), "{name}");
    }
    for name in ["code", "id_token", "lightning_sid", "parent_sid", "refresh_token"] {
        assert!(parameter(&url, name).is_none(), "{name}");
    }
    Ok(())
}
