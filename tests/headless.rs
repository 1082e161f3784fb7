//! Laws of headless identity: codes for what users typed on pages of the app's, guests, and the challenge
//! endpoint.

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use base64_simd::{STANDARD, URL_SAFE_NO_PAD};
use mintage::authority::{
    AuthorizationChallenge, AuthorizationRequest, Builder, Caller, ChallengeRequest, Client,
    CodeCredentials, Delivery, Error, GrantType, Headless, Issue, Issued, PASSCODE_SECS,
    PASSCODE_TRIES_MAX, Passcode, PasscodeSent, PasswordCredentials, PermittedUsers, Profile,
    RegisteredClient, Target, TokenFormat, TokenRequest, Uvid,
};
use mintage::ids::{ClientId, Subject};
use serde_json::Value;
use support::{Bed, Boxed, Opener, Tested, access_token, at_once, payload, refresh_token};

laws![
    a_password_typed_in_the_app_gives_a_code_of_the_usual_kind,
    wrong_credentials_and_headers_give_nothing,
    the_user_must_have_approved_the_app,
    a_one_time_code_logs_in_once,
    a_one_time_code_may_be_tried_a_few_times_and_expires,
    one_of_many_uses_of_a_one_time_code_wins,
    a_name_that_nobody_has_is_answered_alike,
    a_registration_makes_a_user_once_the_address_is_proved,
    a_guest_gets_a_jwt_of_its_visitor_id_and_no_id_token,
    a_visitor_id_goes_over_to_a_login,
    guests_are_for_clients_that_may_have_them,
    a_revocation_at_any_step_reaches_a_headless_login,
    the_challenge_endpoint_says_what_is_needed_or_gives_a_code,
    salesforce_tells_headless_apps_in_its_words,
];

const CB: &str = "https://app.example/cb";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const UVID: &str = "7b1f8c9e-3a54-4d0b-9f21-0c5f6a7b8c9d";

/// What was delivered last to whom.
static SENT: LazyLock<Mutex<HashMap<String, String>>> = LazyLock::new(Mutex::default);
static MADE: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Host;

impl Headless for Host {
    fn find(&self, username: &str) -> Option<Subject> {
        let name = username.strip_suffix("@example.com")?;
        (name != "nobody").then(|| Subject::new(name).ok())?
    }

    fn deliver(&self, passcode: &Passcode<'_>) -> bool {
        assert!(!format!("{passcode:?}").contains(passcode.code));
        let whose = format!("{} {}", passcode.client.client_id(), passcode.subject);
        let mut sent = SENT.lock().unwrap_or_else(PoisonError::into_inner);
        sent.insert(whose, passcode.code.to_owned());
        passcode.subject.as_str() != "unreachable"
    }

    fn begin_registration(&self, _: &RegisteredClient, user: &str) -> Option<Subject> {
        let user: Value = serde_json::from_str(user).ok()?;
        Subject::new(user["username"].as_str()?).ok()
    }

    fn complete_registration(&self, subject: &Subject) -> bool {
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        made.push(subject.as_str().to_owned());
        subject.as_str() != "broken"
    }
}

fn check(credentials: &PasswordCredentials<'_>) -> Option<Subject> {
    let name = credentials.username.strip_suffix("@example.com")?;
    (credentials.password == "right: + wrong").then(|| Subject::new(name).ok())?
}

fn settings(builder: Builder) -> Builder {
    builder
        .passwords(check)
        .headless(Host)
        .code_secs(900)
        .approvals(|_: &ClientId, subject: &Subject| subject.as_str() != "cat")
}

fn draft(id: &str) -> Client {
    Client::public(id)
        .grants([GrantType::AuthorizationCode, GrantType::RefreshToken])
        .redirect_uris([CB])
        .permitted_users(PermittedUsers::AdminApproved)
        .scopes(["api", "web", "openid", "refresh_token"])
        .code_credentials()
}

fn request(id: &str) -> AuthorizationRequest<'_> {
    AuthorizationRequest {
        response_type: Some("code_credentials"),
        client_id: Some(id),
        redirect_uri: Some(CB),
        code_challenge: Some(CHALLENGE),
        code_challenge_method: Some("S256"),
        ..AuthorizationRequest::default()
    }
}

fn basic(name: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode_to_string(format!("{name}:{secret}")))
}

fn ask<O: Opener>(bed: &Bed<O>, credentials: &CodeCredentials<'_>) -> Result<String, Error> {
    Ok(bed.authority().code_credentials(credentials).wait()?.expose().to_owned())
}

/// With a name and a secret in the header.
fn typed<O: Opener>(
    bed: &Bed<O>,
    id: &str,
    request_type: Option<&str>,
    (name, secret): (&str, &str),
) -> Result<String, Error> {
    let header = basic(name, secret);
    let authorization = Some(&*header);
    let request = request(id);
    ask(bed, &CodeCredentials { request, request_type, authorization, ..Default::default() })
}

const ANN: (&str, &str) = ("ann@example.com", "right: + wrong");

fn redeem<O: Opener>(bed: &Bed<O>, code: &str, caller: &Caller) -> Result<Issued, Error> {
    let request = TokenRequest::code(code, caller).redirect_uri(CB).code_verifier(VERIFIER);
    bed.authority().token(&request).wait()
}

fn code_of<T>(refused: Result<T, Error>) -> Option<&'static str> {
    refused.err().map(|error| error.code())
}

fn send<O: Opener>(bed: &Bed<O>, name: &str, caller: &Caller) -> Result<PasscodeSent, Error> {
    bed.authority().send_passcode(name, Delivery::Email, caller).wait()
}

fn sent(client: &str, subject: &str) -> Result<String, Boxed> {
    let sent = SENT.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(sent.get(&format!("{client} {subject}")).ok_or("nothing was sent")?.clone())
}

/// A name that no other bed has.
fn unique(name: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn a_password_typed_in_the_app_gives_a_code_of_the_usual_kind(opener: impl Opener) -> Tested {
    let mut bed = Bed::with(opener, settings)?;
    let auditor = bed.auditor()?;
    for (n, format) in [TokenFormat::Opaque, TokenFormat::Jwt].into_iter().enumerate() {
        let id = format!("app {n}");
        let (client, caller) = bed.register(draft(&id).format(format))?;
        let (_, thief) = bed.register(draft(&format!("thief {n}")))?;
        let in_body = CodeCredentials {
            request: request(&id),
            username: Some(ANN.0),
            password: Some(ANN.1),
            ..Default::default()
        };
        let codes = [typed(&bed, &id, None, ANN)?, typed(&bed, &id, Some("Named-User"), ANN)?];
        for code in codes.into_iter().chain([ask(&bed, &in_body)?]) {
            // As any other code: its client's, with redirect and verifier, once.
            assert_eq!(code_of(redeem(&bed, &code, &thief)), Some("invalid_grant"));
            let bare = TokenRequest::code(&code, &caller).redirect_uri(CB);
            assert_eq!(code_of(bed.authority().token(&bare).wait()), Some("invalid_grant"));
            bed.reopen()?;
            let issued = redeem(&bed, &code, &caller)?;
            assert_eq!((issued.subject.as_str(), &issued.client_id), ("ann", &client));
            assert_eq!(issued.scope.as_str(), "api openid refresh_token web");
            assert!(issued.id_token.is_some());
            bed.refresh(&refresh_token(&issued)?, &caller)?;
            assert_eq!(code_of(redeem(&bed, &code, &caller)), Some("invalid_grant"));
            assert!(!bed.is_active(&access_token(&issued), &auditor)?);
        }
        let narrow = AuthorizationRequest { scope: Some("api"), ..request(&id) };
        let code = ask(&bed, &CodeCredentials { request: narrow, ..in_body })?;
        assert_eq!(redeem(&bed, &code, &caller)?.scope.as_str(), "api");
        let wide = AuthorizationRequest { scope: Some("api admin"), ..request(&id) };
        let refused = ask(&bed, &CodeCredentials { request: wide, ..in_body });
        assert_eq!(code_of(refused), Some("invalid_scope"));
        assert!(!format!("{in_body:?}").contains(ANN.1));
    }
    // One of 64 redemptions.
    let code = typed(&bed, "app 0", None, ANN)?;
    let caller = Caller::public("app 0");
    let won = at_once(|| redeem(&bed, &code, &caller));
    assert_eq!(won.iter().filter(|answer| answer.is_ok()).count(), 1);
    Ok(())
}

fn wrong_credentials_and_headers_give_nothing(opener: impl Opener) -> Tested {
    let mut bed = Bed::with(opener, settings)?;
    bed.register(draft("app"))?;
    let plain = Client::public("plain").grants([GrantType::AuthorizationCode]).redirect_uris([CB]);
    bed.register(plain)?;
    for pair in [(ANN.0, "wrong"), ("", ANN.1), (ANN.0, ""), ("unknown", ANN.1)] {
        assert_eq!(code_of(typed(&bed, "app", None, pair)), Some("invalid_grant"), "{pair:?}");
    }
    for kind in ["Guest-User", "named-user", "", "x"] {
        assert_eq!(code_of(typed(&bed, "app", Some(kind), ANN)), Some("invalid_request"), "{kind}");
    }
    let header = basic(ANN.0, ANN.1);
    let base = CodeCredentials { request: request("app"), ..Default::default() };
    for (authorization, username, password) in [
        (None, None, None),
        (None, Some(ANN.0), None),
        (Some(&*header), Some(ANN.0), Some(ANN.1)),
        (Some("Basic"), None, None),
        (Some("Basic !"), None, None),
        (Some("Bearer abc"), None, None),
        (Some("Basic bm9jb2xvbg=="), None, None),
        (Some(&*"x".repeat(30_000)), None, None),
    ] {
        let credentials = CodeCredentials { authorization, username, password, ..base };
        assert_eq!(code_of(ask(&bed, &credentials)), Some("invalid_request"), "{authorization:?}");
    }
    let good = CodeCredentials { authorization: Some(&header), ..base };
    for request in [
        AuthorizationRequest { client_id: Some("unknown"), ..request("app") },
        AuthorizationRequest { redirect_uri: Some("https://x.example"), ..request("app") },
        AuthorizationRequest { code_challenge: None, ..request("app") },
        AuthorizationRequest { response_type: Some("code"), ..request("app") },
        AuthorizationRequest { response_type: None, ..request("app") },
        request("plain"),
    ] {
        assert!(ask(&bed, &CodeCredentials { request, ..good }).is_err(), "{request:?}");
    }
    ask(&bed, &good)?;
    bed.settings(|builder| builder);
    bed.reopen()?;
    assert_eq!(code_of(ask(&bed, &good)), Some("unsupported_grant_type"));
    Ok(())
}

fn the_user_must_have_approved_the_app(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    let asks = |id: &str| draft(id).permitted_users(PermittedUsers::SelfAuthorized);
    let (client, caller) = bed.register(asks("app"))?;
    assert_eq!(code_of(typed(&bed, "app", None, ANN)), Some("invalid_grant"));
    let issue = Issue::to("ann", &client).scope("api refresh_token");
    bed.authority().issue(issue).wait()?;
    let narrow = AuthorizationRequest { scope: Some("api"), ..request("app") };
    let header = basic(ANN.0, ANN.1);
    let credentials = CodeCredentials {
        request: narrow,
        authorization: Some(&header),
        ..CodeCredentials::default()
    };
    let code = ask(&bed, &credentials)?;
    assert_eq!(redeem(&bed, &code, &caller)?.scope.as_str(), "api");
    // More than was approved is not given.
    assert_eq!(code_of(typed(&bed, "app", None, ANN)), Some("invalid_scope"));
    bed.register(draft("admin"))?;
    let cat = ("cat@example.com", ANN.1);
    assert_eq!(code_of(typed(&bed, "admin", None, cat)), Some("invalid_grant"));
    Ok(())
}

fn a_one_time_code_logs_in_once(opener: impl Opener) -> Tested {
    let mut bed = Bed::with(opener, settings)?;
    let (id, other) = (unique("app"), unique("other"));
    let (_, caller) = bed.register(draft(&id))?;
    bed.register(draft(&other))?;
    let begun = send(&bed, "ann@example.com", &caller)?;
    let (identifier, code) = (begun.identifier.expose(), sent(&id, "ann")?);
    assert_eq!((code.len(), begun.delivery), (6, Delivery::Email));
    assert!(!format!("{begun:?}").contains(identifier));
    bed.reopen()?;
    let login = Some("passwordless-login");
    assert_eq!(code_of(typed(&bed, &other, login, (identifier, &code))), Some("invalid_grant"));
    let registration = Some("user-registration");
    assert_eq!(code_of(typed(&bed, &id, registration, (identifier, &code))), Some("invalid_grant"));
    let got = typed(&bed, &id, login, (identifier, &code))?;
    assert_eq!(redeem(&bed, &got, &caller)?.subject.as_str(), "ann");
    for _ in 0..2 {
        assert_eq!(code_of(typed(&bed, &id, login, (identifier, &code))), Some("invalid_grant"));
        bed.reopen()?;
    }
    // The identifier is neither a code nor a device code.
    assert_eq!(code_of(redeem(&bed, identifier, &caller)), Some("invalid_grant"));
    let refused = typed(&bed, &id, login, ("garbled", &code));
    assert_eq!(code_of(refused), Some("invalid_grant"));
    let unreachable = send(&bed, "unreachable@example.com", &caller);
    assert_eq!(code_of(unreachable), Some("temporarily_unavailable"));
    let nobody = Caller::public("nobody");
    assert_eq!(code_of(send(&bed, "ann@example.com", &nobody)), Some("invalid_client"));
    assert_eq!(code_of(send(&bed, "", &caller)), Some("invalid_request"));
    Ok(())
}

fn a_one_time_code_may_be_tried_a_few_times_and_expires(opener: impl Opener) -> Tested {
    let mut bed = Bed::with(opener, settings)?;
    let id = unique("app");
    let (_, caller) = bed.register(draft(&id))?;
    let login = Some("passwordless-login");
    for tries in [PASSCODE_TRIES_MAX - 1, PASSCODE_TRIES_MAX] {
        let begun = send(&bed, "ann@example.com", &caller)?;
        let (identifier, code) = (begun.identifier.expose(), sent(&id, "ann")?);
        for n in 0..tries {
            let wrong = if code == "000000" { "000001" } else { "000000" };
            let refused = typed(&bed, &id, login, (identifier, wrong));
            assert_eq!(code_of(refused), Some("invalid_grant"), "{n}");
            // A restart is no fresh try.
            bed.reopen()?;
        }
        let right = typed(&bed, &id, login, (identifier, &code));
        assert_eq!(right.is_ok(), tries < PASSCODE_TRIES_MAX);
    }
    let begun = send(&bed, "ann@example.com", &caller)?;
    let code = sent(&id, "ann")?;
    bed.clock.advance(PASSCODE_SECS);
    let late = typed(&bed, &id, login, (begun.identifier.expose(), &code));
    assert_eq!(code_of(late), Some("invalid_grant"));
    Ok(())
}

fn one_of_many_uses_of_a_one_time_code_wins(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    let id = unique("app");
    let (_, caller) = bed.register(draft(&id))?;
    let begun = send(&bed, "ann@example.com", &caller)?;
    let (identifier, code) = (begun.identifier.expose(), sent(&id, "ann")?);
    let login = Some("passwordless-login");
    let answers = at_once(|| typed(&bed, &id, login, (identifier, &code)));
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert!(answers.iter().all(|a| matches!(a, Ok(_) | Err(Error::InvalidGrant(_)))));
    Ok(())
}

fn a_name_that_nobody_has_is_answered_alike(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    let id = unique("app");
    let (_, caller) = bed.register(draft(&id))?;
    let (known, unknown) =
        (send(&bed, "ann@example.com", &caller)?, send(&bed, "nobody@example.com", &caller)?);
    let len = |sent: &PasscodeSent| sent.identifier.expose().len();
    assert_eq!(len(&known), len(&unknown));
    assert!(sent(&id, "nobody").is_err());
    let login = Some("passwordless-login");
    let told = |sent: &PasscodeSent| {
        let refused = typed(&bed, &id, login, (sent.identifier.expose(), "x"));
        refused.map_or_else(|error| error.to_string(), |_| "given".to_owned())
    };
    assert_eq!(told(&known), told(&unknown));
    Ok(())
}

fn a_registration_makes_a_user_once_the_address_is_proved(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    let id = unique("app");
    let (_, caller) = bed.register(draft(&id))?;
    let made = |name: &str| {
        let made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        made.iter().filter(|one| *one == name).count()
    };
    let begin =
        |user: &str| bed.authority().begin_registration(user, Delivery::Sms, &caller).wait();
    let name = unique("dan");
    let begun = begin(&format!(r#"{{"username":"{name}","password":"hush"}}"#))?;
    let (identifier, code) = (begun.identifier.expose(), sent(&id, &name)?);
    assert_eq!((begun.delivery, made(&name)), (Delivery::Sms, 0));
    let registration = Some("user-registration");
    let login = Some("passwordless-login");
    for (kind, code) in [(registration, "x"), (login, &*code)] {
        let refused = typed(&bed, &id, kind, (identifier, code));
        assert_eq!(code_of(refused), Some("invalid_grant"));
    }
    let got = typed(&bed, &id, registration, (identifier, &code))?;
    assert_eq!((redeem(&bed, &got, &caller)?.subject.as_str(), made(&name)), (&*name, 1));
    assert!(typed(&bed, &id, registration, (identifier, &code)).is_err());
    assert_eq!(made(&name), 1);
    assert_eq!(code_of(begin("{}")), Some("access_denied"));
    assert_eq!(code_of(begin(&"x".repeat(20_000))), Some("invalid_request"));
    let begun = begin(r#"{"username":"broken"}"#)?;
    let refused =
        typed(&bed, &id, registration, (begun.identifier.expose(), &sent(&id, "broken")?));
    assert_eq!(code_of(refused), Some("access_denied"));
    Ok(())
}

fn guest<O: Opener>(bed: &Bed<O>, id: &str, hint: &str) -> Result<String, Error> {
    let (request, uvid_hint) = (request(id), Some(hint));
    let request_type = Some("guest");
    ask(bed, &CodeCredentials { request, request_type, uvid_hint, ..Default::default() })
}

fn redeem_guest<O: Opener>(
    bed: &Bed<O>,
    code: &str,
    hint: &str,
    caller: &Caller,
) -> Result<Issued, Error> {
    let request = TokenRequest::code(code, caller).redirect_uri(CB).code_verifier(VERIFIER);
    bed.authority().token(&request.uvid_hint(hint)).wait()
}

fn claims(token: &str) -> Result<Value, Boxed> {
    Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode_to_vec(payload(token)?)?)?)
}

fn a_guest_gets_a_jwt_of_its_visitor_id_and_no_id_token(opener: impl Opener) -> Tested {
    let mut bed = Bed::with(opener, settings)?;
    let auditor = bed.auditor()?;
    for format in [TokenFormat::Jwt, TokenFormat::SalesforceJwt] {
        let id = format!("{format:?}");
        let (client, caller) = bed.register(draft(&id).guests().format(format))?;
        let code = guest(&bed, &id, &format!("UVID {UVID}"))?;
        // The token step names the visitor again, without the prefix.
        let other = UVID.replace("7b", "8b");
        assert_eq!(code_of(redeem(&bed, &code, &caller)), Some("invalid_request"));
        for hint in ["", &other, &format!("UVID {UVID}")] {
            let refused = redeem_guest(&bed, &code, hint, &caller);
            assert_eq!(code_of(refused), Some("invalid_request"), "{hint}");
        }
        bed.reopen()?;
        let issued = redeem_guest(&bed, &code, UVID, &caller)?;
        let sub = format!("uvid:{UVID}");
        assert_eq!((issued.subject.as_str(), &issued.client_id), (&*sub, &client));
        assert!(issued.id_token.is_none(), "a guest is nobody to tell of");
        let token = access_token(&issued);
        assert_eq!(claims(&token)?["sub"], *sub);
        let again = bed.refresh(&refresh_token(&issued)?, &caller)?;
        assert!(again.id_token.is_none());
        assert_eq!(claims(&access_token(&again))?["sub"], *sub);
        // An earlier token is a hint, too, while it lives.
        let hint = format!("JWT {}", access_token(&again));
        let code = guest(&bed, &id, &hint)?;
        let next = redeem_guest(&bed, &code, UVID, &caller)?;
        assert!(bed.is_active(&access_token(&next), &auditor)?);
        bed.authority().revoke(Target::Subject(&sub)).wait()?;
        for issued in [&issued, &again, &next] {
            assert!(!bed.is_active(&access_token(issued), &auditor)?);
        }
        assert_eq!(code_of(guest(&bed, &id, &hint)), Some("invalid_request"));
        let (_, named) = bed.register(draft(&format!("named {id}")).format(format))?;
        let code = typed(&bed, &format!("named {id}"), None, ANN)?;
        let hint = format!("JWT {}", access_token(&redeem(&bed, &code, &named)?));
        assert_eq!(code_of(guest(&bed, &id, &hint)), Some("invalid_request"), "no guest's");
    }
    Ok(())
}

fn a_visitor_id_goes_over_to_a_login(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    let auditor = bed.auditor()?;
    let (_, caller) = bed.register(draft("app").guests().format(TokenFormat::Jwt))?;
    let visited = redeem_guest(&bed, &guest(&bed, "app", UVID)?, UVID, &caller)?;
    let header = basic(ANN.0, ANN.1);
    let jwt = format!("JWT {}", access_token(&visited));
    let base = CodeCredentials {
        request: request("app"),
        authorization: Some(&header),
        ..CodeCredentials::default()
    };
    for hint in [UVID, &jwt] {
        let code = ask(&bed, &CodeCredentials { uvid_hint: Some(hint), ..base })?;
        let issued = redeem(&bed, &code, &caller)?;
        assert_eq!(issued.subject.as_str(), "ann");
        let issued = bed.refresh(&refresh_token(&issued)?, &caller)?;
        let shown = bed.authority().introspect(&access_token(&issued), &auditor).wait()?;
        let device = shown.token().and_then(|token| token.device.clone()).ok_or("none")?;
        assert_eq!(device.as_str(), UVID);
    }
    for hint in ["", "UVID", "JWT", "JWT x.y.z", &UVID.replace("4d", "1d")] {
        let refused = ask(&bed, &CodeCredentials { uvid_hint: Some(hint), ..base });
        assert_eq!(code_of(refused), Some("invalid_request"), "{hint}");
    }
    assert!(Uvid::parse(UVID).is_some());
    Ok(())
}

fn guests_are_for_clients_that_may_have_them(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    bed.register(draft("opaque").guests())?;
    bed.register(draft("without").format(TokenFormat::Jwt))?;
    for id in ["opaque", "without"] {
        assert_eq!(code_of(guest(&bed, id, UVID)), Some("unauthorized_client"), "{id}");
    }
    let (_, caller) = bed.register(draft("app").guests().format(TokenFormat::Jwt))?;
    let base = CodeCredentials { request: request("app"), ..CodeCredentials::default() };
    let none = CodeCredentials { request_type: Some("guest"), ..base };
    assert_eq!(code_of(ask(&bed, &none)), Some("invalid_request"));
    // A client that may not have them any more gets no more of them.
    let issued = redeem_guest(&bed, &guest(&bed, "app", UVID)?, UVID, &caller)?;
    let code = guest(&bed, "app", UVID)?;
    bed.authority().update_client(draft("app").format(TokenFormat::Jwt)).wait()?;
    assert_eq!(code_of(redeem_guest(&bed, &code, UVID, &caller)), Some("invalid_grant"));
    assert_eq!(code_of(bed.refresh(&refresh_token(&issued)?, &caller)), Some("invalid_grant"));
    Ok(())
}

fn a_revocation_at_any_step_reaches_a_headless_login(opener: impl Opener) -> Tested {
    let mut bed = Bed::with(opener, settings)?;
    for what in 0..4 {
        for step in 0..3 {
            let id = unique(&format!("{what} {step}"));
            let (client, caller) = bed.register(draft(&id))?;
            let authority = bed.authority();
            let revoke = |at: usize| {
                let target = match what {
                    _ if at != step => return Ok(()),
                    0 => Target::Subject("ann"),
                    1 => Target::Client(&client),
                    2 => Target::Pair(&client, "ann"),
                    _ => Target::Everything,
                };
                authority.revoke(target).wait()
            };
            let got = (|| {
                let begun = send(&bed, "ann@example.com", &caller)?;
                let passcode = sent(&id, "ann").unwrap_or_default();
                revoke(0)?;
                let pair = (begun.identifier.expose(), &*passcode);
                let code = typed(&bed, &id, Some("passwordless-login"), pair)?;
                revoke(1)?;
                let issued = redeem(&bed, &code, &caller)?;
                revoke(2)?;
                Ok::<_, Error>(issued)
            })();
            drop(authority);
            bed.reopen()?;
            let lives = got.is_ok_and(|issued| {
                bed.authority().verify_live(&access_token(&issued)).wait().is_ok()
            });
            assert!(!lives, "{what} {step}");
        }
    }
    Ok(())
}

fn the_challenge_endpoint_says_what_is_needed_or_gives_a_code(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    let id = unique("first");
    let first = Client::confidential(&id)
        .grants([GrantType::AuthorizationCode, GrantType::RefreshToken])
        .redirect_uris([CB])
        .permitted_users(PermittedUsers::AdminApproved)
        .scopes(["api"])
        .code_credentials();
    let (_, caller) = bed.register(first)?;
    let request = AuthorizationRequest {
        client_id: Some(&id),
        code_challenge: Some(CHALLENGE),
        code_challenge_method: Some("S256"),
        ..AuthorizationRequest::default()
    };
    let base = ChallengeRequest { request, ..ChallengeRequest::default() };
    let ask = |asked: ChallengeRequest<'_>, caller: &Caller| {
        bed.authority().authorization_challenge(&asked, caller).wait()
    };
    let redeem = |answer: &AuthorizationChallenge| -> Result<Issued, Boxed> {
        let AuthorizationChallenge::Code(code) = answer else { return Err("no code".into()) };
        let request = TokenRequest::code(code.expose(), &caller).code_verifier(VERIFIER);
        Ok(bed.authority().token(&request).wait()?)
    };
    let with = |password| ChallengeRequest { username: Some(ANN.0), password, ..base };
    let answer = ask(with(Some(ANN.1)), &caller)?;
    assert_eq!((answer.status(), redeem(&answer)?.subject.as_str()), (200, "ann"));
    assert!(answer.to_json().expose().starts_with(r#"{"authorization_code":"mac_"#));
    let wrong = ask(with(Some("wrong")), &caller)?;
    let text = r#"{"error":"authorization_required","error_code":"invalid_credentials"}"#;
    assert_eq!((wrong.status(), wrong.to_json().expose()), (403, text));
    let answer = ask(with(None), &caller)?;
    let told: Value = serde_json::from_str(answer.to_json().expose())?;
    assert_eq!((&told["error"], answer.status()), (&"authorization_required".into(), 403));
    assert_eq!(told["error_code"], "login_initialized");
    assert_eq!(
        (&told["login_status"]["state"], &told["login_status"]["type"]),
        (&"otp_sent".into(), &"EMAIL".into())
    );
    let session = told["auth_session"].as_str().ok_or("no session")?;
    let back = |otp| ChallengeRequest { auth_session: Some(session), otp: Some(otp), ..base };
    assert!(matches!(ask(back("x"), &caller)?, AuthorizationChallenge::InvalidCredentials));
    let passcode = sent(&id, "ann")?;
    assert_eq!(redeem(&ask(back(&passcode), &caller)?)?.subject.as_str(), "ann");
    assert!(matches!(ask(back(&passcode), &caller)?, AuthorizationChallenge::InvalidCredentials));
    // Who it is not for.
    bed.register(draft("app"))?;
    for (asked, caller, wanted) in [
        (base, &caller, "invalid_request"),
        (with(None), &Caller::secret(&id, "wrong"), "invalid_client"),
        (with(None), &Caller::public("app"), "invalid_client"),
    ] {
        assert_eq!(code_of(ask(asked, caller)), Some(wanted));
    }
    let others = AuthorizationRequest { client_id: Some("app"), ..request };
    let others = ChallengeRequest { request: others, ..with(Some(ANN.1)) };
    assert_eq!(code_of(ask(others, &caller)), Some("invalid_request"));
    Ok(())
}

fn salesforce_tells_headless_apps_in_its_words(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, |builder| settings(builder).profile(Profile::Salesforce))?;
    let id = unique("app");
    let (_, caller) = bed.register(draft(&id).guests().format(TokenFormat::Jwt))?;
    let told = |refused: Result<String, Error>| {
        let answer = refused.err().ok_or("given")?.answer(Profile::Salesforce);
        Ok::<_, Boxed>((answer.code, answer.status, answer.description))
    };
    let wrong = typed(&bed, &id, None, (ANN.0, "wrong"));
    assert_eq!(told(wrong)?, ("invalid_grant", 400, "authentication failure"));
    let headers = typed(&bed, &id, Some("Guest-User"), ANN);
    assert_eq!(told(headers)?, ("invalid_request", 400, "invalid headers"));
    for hint in ["", "x", &UVID.replace('4', "1")] {
        assert_eq!(told(guest(&bed, &id, hint))?, ("invalid_request", 400, "uvid invalid"));
    }
    let begun = send(&bed, "ann@example.com", &caller)?;
    let pair = (begun.identifier.expose(), "x");
    let otp = typed(&bed, &id, Some("passwordless-login"), pair);
    assert_eq!(told(otp)?, ("invalid_otp", 400, "authentication failure"));
    let asks = draft("asks").permitted_users(PermittedUsers::SelfAuthorized);
    bed.register(asks)?;
    let text = "user hasn't approved this consumer";
    assert_eq!(told(typed(&bed, "asks", None, ANN))?, ("invalid_grant", 400, text));
    Ok(())
}
