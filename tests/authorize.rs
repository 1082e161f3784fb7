//! Laws of the authorization code flow.

mod support;

use std::sync::Barrier;

use mintage::authority::{
    Answer, Authorization, AuthorizationError, AuthorizationRequest, Caller, Client, Error,
    GrantType, Issued, Login, PermittedUsers, Profile, Resources, STATE_LEN_MAX, Step, Target,
    TokenFormat, TokenRequest,
};
use mintage::ids::{ClientId, Subject};
use mintage::scope::Scope;
use mintage::store::{PairPolicy, StoreError};
use mintage::time::Timestamp;
use support::{Bed, Opener, START, Tested, access_token, refresh_token};

laws![
    a_code_is_redeemed_once_for_what_was_approved,
    a_second_use_of_a_code_ends_what_it_gave,
    a_code_is_bound_to_client_redirect_and_verifier,
    a_redirect_uri_is_matched_whole,
    what_is_wrong_with_client_or_redirect_sends_the_browser_nowhere,
    other_refusals_are_told_to_the_client,
    a_code_expires,
    revocations_reach_codes_and_requests_in_the_middle,
    consent_is_asked_for_what_is_new,
    prompts_and_ages_are_obeyed,
    approval_is_only_for_what_was_asked,
    pre_approved_users_are_not_asked_and_others_are_refused,
    codes_stand_after_reopening,
    one_of_many_redemptions_of_a_code_wins,
    salesforce_has_its_own_ways_with_codes,
    a_code_is_no_token,
    a_pushed_request_stands_for_what_was_pushed,
    a_reference_is_its_clients_and_approved_once,
    store_trouble_is_told_as_such,
];

/// RFC 7636 appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const CB: &str = "https://app.example/cb";

type Boxed = Box<dyn std::error::Error>;

fn draft(id: &str) -> Client {
    Client::public(id)
        .grants([GrantType::AuthorizationCode, GrantType::RefreshToken])
        .redirect_uris([CB])
        .scopes(["api", "web", "refresh_token"])
}

fn request(id: &str) -> AuthorizationRequest<'_> {
    AuthorizationRequest {
        response_type: Some("code"),
        client_id: Some(id),
        redirect_uri: Some(CB),
        state: Some("s t"),
        code_challenge: Some(CHALLENGE),
        code_challenge_method: Some("S256"),
        ..AuthorizationRequest::default()
    }
}

fn authorize<O: Opener>(
    bed: &Bed<O>,
    request: &AuthorizationRequest<'_>,
) -> Result<Authorization, AuthorizationError> {
    bed.authority().authorize(request)
}

/// The value of a parameter in a URL.
fn parameter(url: &str, name: &str) -> Option<String> {
    let (_, query) = url.split_once('?')?;
    query.split('&').find_map(|pair| Some(pair.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
}

fn approve<O: Opener>(
    bed: &Bed<O>,
    authorization: &Authorization,
    subject: &str,
) -> Result<String, Boxed> {
    let login = Login::now(subject, &bed.authority())?;
    let scope = authorization.scope().as_str().to_owned();
    let url = bed.authority().approve(authorization, &login, &scope).wait()?;
    Ok(url.expose().to_owned())
}

fn code<O: Opener>(bed: &Bed<O>, id: &str, subject: &str) -> Result<String, Boxed> {
    let url = approve(bed, &authorize(bed, &request(id))?, subject)?;
    Ok(parameter(&url, "code").ok_or("no code")?)
}

fn proper<'a>(code: &'a str, caller: &'a Caller) -> TokenRequest<'a> {
    TokenRequest::code(code, caller).redirect_uri(CB).code_verifier(VERIFIER)
}

fn redeem<O: Opener>(bed: &Bed<O>, code: &str, caller: &Caller) -> Result<Issued, Error> {
    bed.authority().token(&proper(code, caller)).wait()
}

fn code_of(refused: Result<Issued, Error>) -> Option<&'static str> {
    refused.err().map(|error| error.code())
}

fn a_code_is_redeemed_once_for_what_was_approved(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let id = format!("{format:?}");
        let (client, caller) = bed.register(draft(&id).format(format))?;
        let asked = AuthorizationRequest { nonce: Some("n-0S6"), ..request(&id) };
        let authorization = authorize(&bed, &asked)?;
        let login = Login::at("ann", Timestamp(START - 50))?;
        let url = bed.authority().approve(&authorization, &login, "api refresh_token").wait()?;
        let url = url.expose();
        let code = parameter(url, "code").ok_or("no code")?;
        let rest = "&state=s%20t&iss=https%3A%2F%2Flogin.example.com";
        assert_eq!(*url, format!("{CB}?code={code}{rest}"));
        assert!(!format!("{authorization:?}").contains("mac_"));
        let issued = redeem(&bed, &code, &caller)?;
        assert_eq!((issued.subject.as_str(), &issued.client_id), ("ann", &client));
        assert_eq!(issued.scope.as_str(), "api refresh_token");
        assert!(issued.id_token.is_none(), "nobody asked for openid");
        assert!(bed.is_active(&access_token(&issued), &auditor)?);
        let again = bed.refresh(&refresh_token(&issued)?, &caller)?;
        assert_eq!(again.scope.as_str(), "api refresh_token");
    }
    Ok(())
}

fn a_second_use_of_a_code_ends_what_it_gave(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let id = format!("{format:?}");
        let (client, caller) = bed.register(draft(&id).format(format))?;
        let other = bed.issue("ann", &client)?;
        let code = code(&bed, &id, "ann")?;
        let issued = redeem(&bed, &code, &caller)?;
        let refreshed = bed.refresh(&refresh_token(&issued)?, &caller)?;
        for _ in 0..2 {
            assert_eq!(code_of(redeem(&bed, &code, &caller)), Some("invalid_grant"));
            for issued in [&issued, &refreshed] {
                assert!(!bed.is_active(&access_token(issued), &auditor)?);
                assert!(!bed.is_active(&refresh_token(issued)?, &auditor)?);
            }
            // Another login of the same user stands.
            assert!(bed.is_active(&access_token(&other), &auditor)?);
            bed.reopen()?;
        }
        bed.refresh(&refresh_token(&other)?, &caller)?;
    }
    // Without a refresh token, too.
    let (_, caller) = bed.register(draft("bare").grants([GrantType::AuthorizationCode]))?;
    let (one, two) = (code(&bed, "bare", "ann")?, code(&bed, "bare", "ann")?);
    let (first, second) = (redeem(&bed, &one, &caller)?, redeem(&bed, &two, &caller)?);
    assert!(first.refresh_token.is_none());
    assert!(redeem(&bed, &one, &caller).is_err());
    assert!(!bed.is_active(&access_token(&first), &auditor)?);
    assert!(bed.is_active(&access_token(&second), &auditor)?);
    Ok(())
}

fn a_code_is_bound_to_client_redirect_and_verifier(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let two = ["https://app.example/cb", "https://app.example/other"];
    let (_, caller) = bed.register(draft("app").redirect_uris(two))?;
    let (_, thief) = bed.register(draft("thief"))?;
    let code = code(&bed, "app", "ann")?;
    let other = VERIFIER.replace('d', "e");
    let request = || TokenRequest::code(&code, &caller);
    let refused = |spent: bool| -> Tested {
        for (what, wrong) in [
            ("client", proper(&code, &thief)),
            ("no redirect", request().code_verifier(VERIFIER)),
            ("other redirect", request().redirect_uri(two[1]).code_verifier(VERIFIER)),
            (
                "redirect case",
                request().redirect_uri("https://APP.example/cb").code_verifier(VERIFIER),
            ),
            ("no verifier", request().redirect_uri(CB)),
            ("empty verifier", request().redirect_uri(CB).code_verifier("")),
            ("wrong verifier", request().redirect_uri(CB).code_verifier(&other)),
            ("challenge", request().redirect_uri(CB).code_verifier(CHALLENGE)),
        ] {
            let refused = bed.authority().token(&wrong).wait();
            assert_eq!(code_of(refused), Some("invalid_grant"), "{what}, spent: {spent}");
        }
        Ok(())
    };
    refused(false)?;
    let issued = redeem(&bed, &code, &caller)?;
    // Who cannot redeem the code cannot end what it gave either.
    refused(true)?;
    assert!(bed.is_active(&access_token(&issued), &auditor)?);
    // A verifier for a code that was asked for without a challenge is a downgrade.
    let (_, caller) = bed.register(draft("old").pkce_required(false))?;
    let plain = AuthorizationRequest {
        client_id: Some("old"),
        redirect_uri: Some(CB),
        response_type: Some("code"),
        ..AuthorizationRequest::default()
    };
    let url = approve(&bed, &authorize(&bed, &plain)?, "ann")?;
    assert!(parameter(&url, "state").is_none());
    let code = parameter(&url, "code").ok_or("no code")?;
    assert_eq!(code_of(redeem(&bed, &code, &caller)), Some("invalid_grant"));
    bed.authority().token(&TokenRequest::code(&code, &caller).redirect_uri(CB)).wait()?;
    // An only redirect URI need not be named, and then need not be named again.
    let unnamed = AuthorizationRequest { redirect_uri: None, ..request_of("old") };
    let url = approve(&bed, &authorize(&bed, &unnamed)?, "ann")?;
    let code = parameter(&url, "code").ok_or("no code")?;
    let request = TokenRequest::code(&code, &caller).code_verifier(VERIFIER);
    let elsewhere = request.redirect_uri("https://elsewhere.example");
    assert_eq!(code_of(bed.authority().token(&elsewhere).wait()), Some("invalid_grant"));
    bed.authority().token(&request).wait()?;
    Ok(())
}

fn request_of(id: &str) -> AuthorizationRequest<'_> {
    request(id)
}

fn a_redirect_uri_is_matched_whole(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let uris = ["https://app.example/cb", "http://127.0.0.1/cb", "com.example.app:/cb"];
    bed.register(draft("app").redirect_uris(uris))?;
    let at =
        |uri| authorize(&bed, &AuthorizationRequest { redirect_uri: Some(uri), ..request("app") });
    for good in uris.into_iter().chain(["http://127.0.0.1:49152/cb"]) {
        assert!(at(good)?.deny().starts_with(good), "{good}");
    }
    for bad in [
        "https://app.example/cb/",
        "https://app.example/CB",
        "https://APP.example/cb",
        "https://app.example:443/cb",
        "https://app.example/cb?x=1",
        "https://app.example/cb#x",
        "https://app.example/../cb",
        "https://app.example/%63b",
        "https://app-example/cb",
        "https://app.example.evil.example/cb",
        "http://app.example/cb",
        "http://127.0.0.1:80@evil.example/cb",
        "http://localhost/cb",
        "com.example.app:/",
        "javascript:alert(1)",
    ] {
        let refused = at(bad).err().ok_or(bad)?;
        assert!(refused.redirect().is_none(), "{bad}");
    }
    for bad in
        ["https://app.example/cb#x", "https://*.example/cb", "javascript:x", "http://a.b/c", ""]
    {
        let refused = bed.authority().register(draft("bad").redirect_uris([bad])).wait();
        assert!(matches!(refused, Err(Error::InvalidClientMetadata(_))), "{bad}");
    }
    let long = format!("https://app.example/{}", "x".repeat(2_000));
    assert!(bed.authority().register(draft("bad").redirect_uris([long])).wait().is_err());
    Ok(())
}

fn what_is_wrong_with_client_or_redirect_sends_the_browser_nowhere(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (client, _) = bed.register(draft("app"))?;
    bed.register(draft("two").redirect_uris([CB, "https://app.example/2"]))?;
    bed.register(draft("none").redirect_uris([""; 0]))?;
    let table = [
        (
            AuthorizationRequest { client_id: None, ..request("app") },
            "invalid_client",
            "invalid_client_id",
        ),
        (request("nobody"), "invalid_client", "invalid_client_id"),
        (request("a\nb"), "invalid_client", "invalid_client_id"),
        (
            AuthorizationRequest { redirect_uri: Some("https://evil.example"), ..request("app") },
            "invalid_request",
            "redirect_uri_mismatch",
        ),
        (
            AuthorizationRequest { redirect_uri: None, ..request("two") },
            "invalid_request",
            "redirect_uri_missing",
        ),
        (request("none"), "invalid_request", "redirect_uri_mismatch"),
    ];
    for (request, code, salesforce) in table {
        let refused = authorize(&bed, &request).err().ok_or("authorized")?;
        assert!(refused.redirect().is_none(), "{request:?}");
        assert_eq!(refused.error().code(), code, "{request:?}");
        assert_eq!(refused.error().answer(Profile::Salesforce).code, salesforce, "{request:?}");
    }
    bed.authority().block_client(&client).wait()?;
    let refused = authorize(&bed, &request("app")).err().ok_or("authorized")?;
    assert!(refused.redirect().is_none());
    assert_eq!(refused.error().answer(Profile::Salesforce).code, "app_blocked");
    Ok(())
}

fn other_refusals_are_told_to_the_client(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    bed.register(draft("app"))?;
    bed.register(draft("refreshes").grants([GrantType::RefreshToken]))?;
    let long = "x".repeat(STATE_LEN_MAX + 1);
    let base = || request("app");
    let table = [
        (
            AuthorizationRequest { response_type: Some("token"), ..base() },
            "unsupported_response_type",
        ),
        (
            AuthorizationRequest { response_type: Some("code id_token"), ..base() },
            "unsupported_response_type",
        ),
        (AuthorizationRequest { response_type: None, ..base() }, "invalid_request"),
        (request("refreshes"), "unauthorized_client"),
        (AuthorizationRequest { scope: Some("api admin"), ..base() }, "invalid_scope"),
        (AuthorizationRequest { scope: Some("a\"b"), ..base() }, "invalid_scope"),
        (
            AuthorizationRequest { resources: Resources::of(["https://elsewhere"]), ..base() },
            "invalid_target",
        ),
        (AuthorizationRequest { code_challenge: None, ..base() }, "invalid_request"),
        (
            AuthorizationRequest { code_challenge: None, code_challenge_method: None, ..base() },
            "invalid_request",
        ),
        (
            AuthorizationRequest { code_challenge_method: Some("plain"), ..base() },
            "invalid_request",
        ),
        (AuthorizationRequest { code_challenge_method: None, ..base() }, "invalid_request"),
        (AuthorizationRequest { code_challenge: Some("short"), ..base() }, "invalid_request"),
        (AuthorizationRequest { prompt: Some("none login"), ..base() }, "invalid_request"),
        (AuthorizationRequest { max_age: Some("-1"), ..base() }, "invalid_request"),
        (AuthorizationRequest { nonce: Some(&long), ..base() }, "invalid_request"),
    ];
    for (request, code) in table {
        let refused = authorize(&bed, &request).err().ok_or("authorized")?;
        assert_eq!(refused.error().code(), code, "{request:?}");
        let url = refused.redirect().ok_or("no redirect")?;
        // Where the answer would have been.
        let mark = if request.response_type.is_some_and(|t| t != "code") { '#' } else { '?' };
        let start = format!("{CB}{mark}error={code}&error_description=");
        assert!(url.starts_with(&start), "{url}");
        let url = &url.replacen('#', "?", 1);
        assert_eq!(parameter(url, "state").as_deref(), Some("s%20t"));
        assert!(parameter(url, "iss").is_some() && parameter(url, "code").is_none());
    }
    let endless = AuthorizationRequest { state: Some(&long), ..base() };
    let refused = authorize(&bed, &endless).err().ok_or("authorized")?;
    assert!(refused.redirect().is_some_and(|url| !url.contains("state=")));
    let denied = authorize(&bed, &base())?.deny();
    assert!(denied.starts_with(&format!("{CB}?error=access_denied&")));
    let twice = [("client_id", "app"), ("state", "1"), ("state", "1")];
    let refused = AuthorizationRequest::from_pairs(twice);
    assert!(matches!(refused, Err(Error::InvalidRequest(_))));
    let unknown = [("client_id", "app"), ("display", "page"), ("display", "touch")];
    assert_eq!(AuthorizationRequest::from_pairs(unknown)?.client_id, Some("app"));
    Ok(())
}

fn a_code_expires(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (_, caller) = bed.register(draft("app"))?;
    let (early, late) = (code(&bed, "app", "ann")?, code(&bed, "app", "ann")?);
    bed.clock.advance(59);
    redeem(&bed, &early, &caller)?;
    bed.clock.advance(1);
    assert_eq!(code_of(redeem(&bed, &late, &caller)), Some("invalid_grant"));
    Ok(())
}

fn revocations_reach_codes_and_requests_in_the_middle(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (client, caller) = bed.register(draft("app"))?;
    let standing = bed.issue("ann", &client)?;
    type Ended<'a> = fn(&'a ClientId, u64) -> Target<'a>;
    let targets: [Ended<'_>; 5] = [
        |_, _| Target::Everything,
        |client, _| Target::Client(client),
        |_, _| Target::Subject("ann"),
        |client, _| Target::Pair(client, "ann"),
        |_, grant| Target::Grant(grant),
    ];
    for target in targets {
        let target = || target(&client, standing.grant);
        // A code that is out.
        let code = code(&bed, "app", "ann")?;
        // A user who is looking at the consent page.
        let asked = authorize(&bed, &request("app"))?;
        // A user who is typing a password.
        let begun = bed.authority().begin();
        bed.authority().revoke(target()).wait()?;
        assert_eq!(code_of(redeem(&bed, &code, &caller)), Some("invalid_grant"), "{:?}", target());
        let refused = approve(&bed, &asked, "ann").err().ok_or("approved")?;
        let refused = refused.downcast::<AuthorizationError>()?;
        assert_eq!(refused.error().code(), "access_denied", "{:?}", target());
        let fresh = authorize(&bed, &request("app"))?;
        let login = Login::now("ann", &bed.authority())?;
        let late = login.clone().admitted(begun);
        assert!(bed.authority().approve(&fresh, &late, "api").wait().is_err());
        let url = bed.authority().approve(&fresh, &login, "api").wait()?;
        let code = parameter(url.expose(), "code").ok_or("no code")?;
        redeem(&bed, &code, &caller)?;
    }
    Ok(())
}

fn scopes(text: &str) -> Result<Scope, mintage::scope::ScopeError> {
    Scope::parse(text)
}

fn consent_is_asked_for_what_is_new(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let (client, caller) = bed.register(draft("app"))?;
    let step = |bed: &Bed<_>, scope: &'static str, subject: &str| {
        let asked = AuthorizationRequest { scope: Some(scope), ..request("app") };
        let login = Login::now(subject, &bed.authority())?;
        let authorization = authorize(bed, &asked)?;
        Ok::<_, Boxed>(bed.authority().next_step(&authorization, Some(&login)).wait()?)
    };
    let consent = |new: &str, approved: &str| {
        Ok::<_, Boxed>(Step::Consent { new: scopes(new)?, approved: scopes(approved)? })
    };
    assert_eq!(step(&bed, "api refresh_token", "ann")?, consent("api refresh_token", "")?);
    let asked = AuthorizationRequest { scope: Some("api refresh_token"), ..request("app") };
    let url = approve(&bed, &authorize(&bed, &asked)?, "ann")?;
    // A code is no login yet: what it stands for may never be taken.
    assert_eq!(step(&bed, "api", "ann")?, consent("api", "")?);
    let issued = redeem(&bed, &parameter(&url, "code").ok_or("no code")?, &caller)?;
    for _ in 0..2 {
        assert_eq!(step(&bed, "api", "ann")?, Step::Approve);
        assert_eq!(step(&bed, "api web", "ann")?, consent("web", "api")?);
        assert_eq!(step(&bed, "api", "bob")?, consent("api", "")?);
        bed.reopen()?;
    }
    // Approvals of two logins add up, and end with them.
    let web = bed
        .authority()
        .issue(mintage::authority::Issue::to("ann", &client).scope("web refresh_token"));
    let web = web.wait()?;
    assert_eq!(step(&bed, "api web", "ann")?, Step::Approve);
    bed.authority().revoke(Target::Family(web.family)).wait()?;
    assert_eq!(step(&bed, "api web", "ann")?, consent("web", "api")?);
    bed.authority().revoke(Target::Grant(issued.grant)).wait()?;
    assert_eq!(step(&bed, "api", "ann")?, consent("api", "")?);
    Ok(())
}

fn prompts_and_ages_are_obeyed(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (client, _) = bed.register(draft("app"))?;
    bed.issue("ann", &client)?;
    let old = Login::at("ann", Timestamp(START - 100))?;
    let step = |prompt: &str, max_age: Option<&str>, login: Option<&Login>| {
        let asked = AuthorizationRequest { prompt: Some(prompt), max_age, ..request("app") };
        let authorization = authorize(&bed, &asked)?;
        bed.authority().next_step(&authorization, login).wait()
    };
    assert_eq!(step("", None, None)?, Step::Login);
    assert_eq!(step("", None, Some(&old))?, Step::Approve);
    assert_eq!(step("login", None, Some(&old))?, Step::Login);
    assert_eq!(step("", Some("99"), Some(&old))?, Step::Login);
    assert_eq!(step("", Some("100"), Some(&old))?, Step::Approve);
    assert_eq!(step("select_account", None, Some(&old))?, Step::SelectAccount);
    assert_eq!(step("select_account", None, Some(&old.clone().chosen()))?, Step::Approve);
    assert!(matches!(step("consent", None, Some(&old))?, Step::Consent { .. }));
    assert_eq!(step("none", None, Some(&old))?, Step::Approve);
    for (login, wanted) in
        [(None, "login_required"), (Some(Login::now("bob", &bed.authority())?), "consent_required")]
    {
        let refused = step("none", None, login.as_ref()).err().ok_or("a step")?;
        assert_eq!(refused.error().code(), wanted);
        assert_eq!(refused.error().answer(Profile::Salesforce).code, "immediate_unsuccessful");
        assert!(refused.redirect().is_some_and(|url| url.contains(wanted)));
        let asked = AuthorizationRequest { immediate: Some("true"), ..request("app") };
        let authorization = authorize(&bed, &asked)?;
        assert!(bed.authority().next_step(&authorization, login.as_ref()).wait().is_err());
    }
    // The host cannot approve past a login that the request demands.
    let asked = AuthorizationRequest { prompt: Some("login"), ..request("app") };
    let authorization = authorize(&bed, &asked)?;
    let refused = bed.authority().approve(&authorization, &old, "api").wait().err();
    assert_eq!(refused.ok_or("approved")?.error().code(), "login_required");
    let login = Login::now("ann", &bed.authority())?;
    bed.authority().approve(&authorization, &login, "api").wait()?;
    Ok(())
}

fn approval_is_only_for_what_was_asked(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (_, caller) = bed.register(draft("app"))?;
    let asked = AuthorizationRequest { scope: Some("api web"), ..request("app") };
    let authorization = authorize(&bed, &asked)?;
    let login = Login::now("ann", &bed.authority())?;
    for more in ["api refresh_token", "admin", "a\"b"] {
        let refused = bed.authority().approve(&authorization, &login, more).wait().err();
        assert_eq!(refused.ok_or("approved")?.error().code(), "invalid_scope");
    }
    let url = bed.authority().approve(&authorization, &login, "api web").wait()?;
    let code = parameter(url.expose(), "code").ok_or("no code")?;
    let more = proper(&code, &caller).scope("api refresh_token");
    assert_eq!(code_of(bed.authority().token(&more).wait()), Some("invalid_scope"));
    let less = proper(&code, &caller).scope("api");
    let issued = bed.authority().token(&less).wait()?;
    assert_eq!((issued.scope.as_str(), issued.refresh_token.is_none()), ("api", true));
    // What is taken from the client while the code is out is not in the token.
    let code = self::code(&bed, "app", "ann")?;
    bed.authority().update_client(draft("app").scopes(["api"])).wait()?;
    let issued = redeem(&bed, &code, &caller)?;
    assert_eq!((issued.scope.as_str(), issued.refresh_token.is_none()), ("api", true));
    Ok(())
}

fn pre_approved_users_are_not_asked_and_others_are_refused(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let listed = |subjects: &[&str]| {
        let subjects = subjects.iter().map(Subject::new).collect::<Result<Vec<_>, _>>()?;
        Ok::<_, mintage::ids::IdError>(PermittedUsers::Listed(subjects))
    };
    let (_, caller) = bed.register(draft("app").permitted_users(listed(&["ann"])?))?;
    let authorization = authorize(&bed, &request("app"))?;
    let (ann, eve) = (Login::now("ann", &bed.authority())?, Login::now("eve", &bed.authority())?);
    let step = bed.authority().next_step(&authorization, Some(&ann)).wait()?;
    assert_eq!(step, Step::Approve);
    let refused = bed.authority().next_step(&authorization, Some(&eve)).wait().err();
    let refused = refused.ok_or("a step")?;
    assert_eq!(refused.error().code(), "access_denied");
    assert_eq!(refused.error().answer(Profile::Salesforce).code, "invalid_app_access");
    assert!(bed.authority().approve(&authorization, &eve, "api").wait().is_err());
    let code = code(&bed, "app", "ann")?;
    bed.authority().update_client(draft("app").permitted_users(listed(&[])?)).wait()?;
    assert_eq!(code_of(redeem(&bed, &code, &caller)), Some("invalid_grant"));
    Ok(())
}

fn codes_stand_after_reopening(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let (_, caller) = bed.register(draft("app"))?;
    let (spent, fresh) = (code(&bed, "app", "ann")?, code(&bed, "app", "bob")?);
    let issued = redeem(&bed, &spent, &caller)?;
    bed.reopen()?;
    assert_eq!(redeem(&bed, &fresh, &caller)?.subject.as_str(), "bob");
    assert!(bed.is_active(&access_token(&issued), &auditor)?);
    bed.reopen()?;
    assert_eq!(code_of(redeem(&bed, &spent, &caller)), Some("invalid_grant"));
    assert!(!bed.is_active(&access_token(&issued), &auditor)?);
    Ok(())
}

fn one_of_many_redemptions_of_a_code_wins(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let (_, caller) = bed.register(draft("app"))?;
    let code = code(&bed, "app", "ann")?;
    let barrier = Barrier::new(64);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..64)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    redeem(&bed, &code, &caller)
                })
            })
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    assert_eq!(answers.len(), 64);
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert!(lost.into_iter().all(|lost| code_of(lost) == Some("invalid_grant")));
    // A code that came twice was read by somebody else: nobody keeps what it gave.
    for issued in won.into_iter().flatten() {
        assert!(!bed.is_active(&access_token(&issued), &auditor)?);
        assert_eq!(code_of(bed.refresh(&refresh_token(&issued)?, &caller)), Some("invalid_grant"));
    }
    Ok(())
}

fn salesforce_has_its_own_ways_with_codes(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, |builder| builder.profile(Profile::Salesforce).code_secs(900))?;
    let (_, caller) = bed.register(draft("app"))?;
    // jsforce: a challenge without a method, and a verifier that is too long for RFC 7636.
    let verifier = "v".repeat(171);
    let challenge = {
        let hash = ring::digest::digest(&ring::digest::SHA256, verifier.as_bytes());
        base64_simd::URL_SAFE_NO_PAD.encode_to_string(hash.as_ref())
    };
    let asked = AuthorizationRequest {
        code_challenge: Some(&challenge),
        code_challenge_method: None,
        ..request("app")
    };
    let url = approve(&bed, &authorize(&bed, &asked)?, "ann")?;
    let code = parameter(&url, "code").ok_or("no code")?;
    bed.clock.advance(899);
    let request = TokenRequest::code(&code, &caller).redirect_uri(CB);
    let wrong = "w".repeat(171);
    let answer = |request: &TokenRequest<'_>| {
        let refused = bed.authority().token(request).wait().err();
        refused.map(|error| error.answer(Profile::Salesforce))
    };
    let told = |code, description| Some(Answer { code, status: 400, description });
    assert_eq!(
        answer(&request.code_verifier(&wrong)),
        told("invalid_request", "invalid code verifier")
    );
    assert_eq!(answer(&request), told("invalid_grant", "expired access/refresh token"));
    let elsewhere = request.redirect_uri("https://elsewhere.example").code_verifier(&verifier);
    assert_eq!(
        answer(&elsewhere),
        told("redirect_uri_mismatch", "redirect_uri must match configuration")
    );
    bed.authority().token(&request.code_verifier(&verifier)).wait()?;
    let garbage = TokenRequest::code("aPrx", &caller);
    assert_eq!(answer(&garbage), told("invalid_grant", "expired authorization code"));
    Ok(())
}

fn a_code_is_no_token(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let (_, caller) = bed.register(draft("app"))?;
    let code = code(&bed, "app", "ann")?;
    assert!(!bed.is_active(&code, &auditor)?);
    assert!(bed.authority().verify_live(&code).wait().is_err());
    assert_eq!(code_of(bed.refresh(&code, &caller)), Some("invalid_grant"));
    bed.authority().revoke_token(&code, &caller).wait()?;
    let issued = redeem(&bed, &code, &caller)?;
    for token in [access_token(&issued), refresh_token(&issued)?] {
        assert_eq!(code_of(redeem(&bed, &token, &caller)), Some("invalid_grant"));
    }
    for bent in [&code[1..], &format!("{code}A"), &code.replace("mac_", "mat_"), ""] {
        assert_eq!(code_of(redeem(&bed, bent, &caller)), Some("invalid_grant"));
    }
    Ok(())
}

fn a_pushed_request_stands_for_what_was_pushed(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let draft = || {
        Client::confidential("app")
            .grants([GrantType::AuthorizationCode])
            .redirect_uris([CB])
            .scopes(["api", "web"])
            .pushed_required(true)
    };
    let (_, caller) = bed.register(draft())?;
    let refused = authorize(&bed, &request("app")).err().ok_or("authorized")?;
    assert_eq!(refused.error().code(), "invalid_request");
    assert!(refused.redirect().is_some());
    let asked = AuthorizationRequest { scope: Some("api"), client_id: None, ..request("app") };
    let pushed = bed.authority().push(&asked, &caller).wait()?;
    assert!(pushed.request_uri.starts_with("urn:ietf:params:oauth:request_uri:"));
    assert_eq!(pushed.expires_in, 600);
    bed.reopen()?;
    let authorization = bed.authority().authorize_pushed("app", &pushed.request_uri).wait()?;
    assert_eq!(authorization.scope().as_str(), "api");
    let url = approve(&bed, &authorization, "ann")?;
    assert!(url.contains("&state=s%20t&iss="));
    let code = parameter(&url, "code").ok_or("no code")?;
    assert_eq!(redeem(&bed, &code, &caller)?.scope.as_str(), "api");
    // What is wrong is told to who pushes, and nothing is kept of it.
    let table = [
        (AuthorizationRequest { scope: Some("admin"), ..request("app") }, "invalid_scope"),
        (
            AuthorizationRequest { redirect_uri: Some("https://evil"), ..request("app") },
            "invalid_request",
        ),
        (AuthorizationRequest { code_challenge: None, ..request("app") }, "invalid_request"),
        (request("other"), "invalid_request"),
    ];
    for (asked, code) in table {
        let refused = bed.authority().push(&asked, &caller).wait().err().ok_or("pushed")?;
        assert_eq!(refused.code(), code, "{asked:?}");
    }
    for caller in [Caller::public("app"), Caller::secret("app", "mcs_guess")] {
        let refused = bed.authority().push(&request("app"), &caller).wait();
        assert!(matches!(refused, Err(Error::InvalidClient(_))));
    }
    Ok(())
}

fn a_reference_is_its_clients_and_approved_once(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let (client, caller) = bed.register(draft("app"))?;
    bed.register(draft("other"))?;
    let push = |bed: &Bed<_>| bed.authority().push(&request("app"), &caller).wait();
    let at = |bed: &Bed<_>, id: &str, uri: &str| bed.authority().authorize_pushed(id, uri).wait();
    let refused = |bed: &Bed<_>, id: &str, uri: &str| {
        let refused = at(bed, id, uri).err();
        refused.is_some_and(|e| e.error().code() == "invalid_request_uri" && e.redirect().is_none())
    };
    let uri = push(&bed)?.request_uri;
    let code = code(&bed, "app", "ann")?;
    let urn = "urn:ietf:params:oauth:request_uri:";
    let bent = format!("{uri}A");
    for wrong in
        ["", "https://app.example/request", urn, &bent, &format!("{urn}{code}"), &uri[34..]]
    {
        assert!(refused(&bed, "app", wrong), "{wrong}");
    }
    assert!(refused(&bed, "other", &uri) && refused(&bed, "a\nb", &uri));
    // It is no code either.
    assert_eq!(code_of(redeem(&bed, &uri[34..], &caller)), Some("invalid_grant"));
    // A page may be loaded again, but only one is approved, also after a crash.
    let (first, second) = (at(&bed, "app", &uri)?, at(&bed, "app", &uri)?);
    approve(&bed, &first, "ann")?;
    for authorization in [&second, &first] {
        let refused = approve(&bed, authorization, "ann").err().ok_or("approved")?;
        let refused = refused.downcast::<AuthorizationError>()?;
        assert_eq!(refused.error().code(), "invalid_request_uri");
    }
    bed.reopen()?;
    let again = at(&bed, "app", &uri)?;
    assert!(approve(&bed, &again, "ann").is_err());
    // It expires, and dies with its client's stamp.
    let uri = push(&bed)?.request_uri;
    bed.clock.advance(599);
    at(&bed, "app", &uri)?;
    bed.clock.advance(1);
    assert!(refused(&bed, "app", &uri));
    let uri = push(&bed)?.request_uri;
    let shown = at(&bed, "app", &uri)?;
    bed.authority().revoke(Target::Client(&client)).wait()?;
    assert!(refused(&bed, "app", &uri));
    assert!(approve(&bed, &shown, "ann").is_err());
    Ok(())
}

fn store_trouble_is_told_as_such(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (_, caller) = bed.register(draft("app").pairs(PairPolicy::Reject))?;
    let (one, two) = (code(&bed, "app", "ann")?, code(&bed, "app", "ann")?);
    redeem(&bed, &one, &caller)?;
    // The pair is taken: the code is not used up by that.
    assert_eq!(code_of(redeem(&bed, &two, &caller)), Some("access_denied"));
    bed.authority().revoke(Target::Pair(&ClientId::new("app")?, "bob")).wait()?;
    assert_eq!(code_of(redeem(&bed, &two, &caller)), Some("access_denied"));
    let error = AuthorizationError::from(StoreError::Busy);
    assert_eq!((error.error().status(), error.redirect()), (503, None));
    Ok(())
}
