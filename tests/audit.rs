//! Events: each thing that is done or refused is told once, and no secret is.

mod support;

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use mintage::authority::{
    Action, Authority, AuthorizationRequest, Caller, Client, GrantType, Issue, Login, Target,
    TokenFormat, TokenRequest,
};
use mintage::codec::algorithm::Algorithm;
use mintage::entropy::SeededEntropy;
use mintage::store::{MemoryStore, PairPolicy};
use mintage::time::ManualClock;
use support::{ISSUER, START, Tested, root};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// What was told, as lines: the action, the refusal if it is one, and the whole event.
#[derive(Clone, Default)]
struct Told {
    since: Arc<Mutex<Vec<(Action, String, String)>>>,
    all: Arc<Mutex<String>>,
}

impl Told {
    fn take(&self) -> Vec<(Action, String, String)> {
        self.since.lock().map(|mut told| std::mem::take(&mut *told)).unwrap_or_default()
    }
}

fn bed(
    told: &Told,
) -> Result<(Authority<MemoryStore>, Arc<ManualClock>), Box<dyn std::error::Error>> {
    traced();
    let clock = Arc::new(ManualClock::at(START));
    let told = told.clone();
    let authority = Authority::builder(ISSUER)
        .clock(Arc::clone(&clock))
        .entropy(SeededEntropy::new(5))
        .audit(move |event: &mintage::authority::AuditEvent<'_>| {
            let refusal = event.refusal.map_or(String::new(), |error| error.code().to_owned());
            let whole = format!("{} {event:?}", event.to_json());
            if let (Ok(mut since), Ok(mut all)) = (told.since.lock(), told.all.lock()) {
                all.push_str(&whole);
                since.push((event.action, refusal, whole));
            }
        })
        .in_memory(root())?;
    Ok((authority, clock))
}

/// What was told since, without refusals' reasons.
fn expect(told: &Told, expected: &[(Action, &str)]) {
    let got = told.take();
    let short: Vec<(Action, &str)> = got.iter().map(|(a, r, _)| (*a, r.as_str())).collect();
    assert_eq!(short, expected, "{got:#?}");
}

/// Everything that is traced, as text.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<String>>);

impl Visit for Lines {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if let Ok(mut text) = self.0.lock() {
            text.push_str(&format!("{field}={value:?} "));
        }
    }
}

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        if let Ok(mut text) = self.0.lock() {
            text.push_str(&format!("\n{} ", event.metadata().target()));
        }
        event.record(&mut self.clone());
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

const CB: &str = "https://app.example/cb";

/// What is traced in this process, by every test of it: a callsite that is first met on a thread with no
/// subscriber may be off for good.
fn traced() -> &'static Lines {
    static LINES: std::sync::OnceLock<Lines> = std::sync::OnceLock::new();
    LINES.get_or_init(|| {
        let lines = Lines::default();
        tracing::subscriber::set_global_default(lines.clone()).expect("nothing else sets one");
        lines
    })
}

/// Does everything that there are events for, and checks them; every secret that came by.
fn everything(told: &Told) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let (authority, clock) = bed(told)?;
    let mut secrets = Vec::new();
    let app = Client::public("app")
        .grants([GrantType::AuthorizationCode, GrantType::RefreshToken])
        .redirect_uris([CB])
        .scopes(["api", "refresh_token"]);
    let app = authority.register(app).wait()?.client_id;
    let svc = Client::confidential("svc")
        .grants([GrantType::ClientCredentials, GrantType::AuthorizationCode])
        .format(TokenFormat::Jwt)
        .scopes(["api"]);
    let registered = authority.register(svc).wait()?;
    let secret = registered.client_secret.ok_or("no secret")?;
    let (svc, service) = (registered.client_id, Caller::secret("svc", secret.expose()));
    secrets.push(secret.expose().to_owned());
    assert!(authority.register(Client::public("app")).wait().is_err());
    expect(
        told,
        &[
            (Action::Register, ""),
            (Action::Register, ""),
            (Action::Register, "invalid_client_metadata"),
        ],
    );

    // A login by the host, its refresh, its retry, its replay.
    let first = authority.issue(Issue::to("ann", &app)).wait()?;
    let caller = Caller::public("app").from_address("192.0.2.7".parse()?);
    let refresh = first.refresh_token.clone().ok_or("none")?;
    let again = || authority.token(&TokenRequest::refresh(refresh.expose(), &caller)).wait();
    let second = again()?;
    assert_eq!(again()?.access_token, second.access_token);
    clock.advance(100);
    assert!(again().is_err());
    for issued in [&first, &second] {
        secrets.push(issued.access_token.expose().to_owned());
        secrets.extend(issued.refresh_token.as_ref().map(|text| text.expose().to_owned()));
    }
    let events = told.take();
    let replay = &events[3].2;
    for part in
        [r#""action":"replay""#, r#""client_id":"app""#, r#""subject":"ann""#, "\"family\":"]
    {
        assert!(replay.contains(part), "{replay}");
    }
    assert!(events[4].2.contains(r#""refusal":"invalid_grant: replayed""#), "{}", events[4].2);
    assert!(events[4].2.contains(r#""address":"192.0.2.7""#), "{}", events[4].2);
    let actions: Vec<Action> = events.iter().map(|(action, ..)| *action).collect();
    let expected = [Action::Issue, Action::Redeem, Action::Retry, Action::Replay, Action::Redeem];
    assert_eq!(actions, expected);

    // A code, redeemed and replayed; a request that is refused; a pushed one.
    let request = AuthorizationRequest {
        response_type: Some("code"),
        client_id: Some("app"),
        redirect_uri: Some(CB),
        code_challenge: Some("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
        code_challenge_method: Some("S256"),
        ..AuthorizationRequest::default()
    };
    let authorization = authority.authorize(&request)?;
    let login = Login::now("ann", &authority)?;
    let url = authority.approve(&authorization, &login, "api").wait()?;
    let code = url.expose().split(['=', '&']).nth(1).ok_or("no code")?.to_owned();
    let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let redeem = || {
        let request = TokenRequest::code(&code, &caller).redirect_uri(CB).code_verifier(verifier);
        authority.token(&request).wait()
    };
    secrets.push(redeem()?.access_token.expose().to_owned());
    assert!(redeem().is_err());
    assert!(
        authority.authorize(&AuthorizationRequest { client_id: Some("none"), ..request }).is_err()
    );
    assert!(authority.approve(&authorization, &login, "more").wait().is_err());
    let pushed = authority.push(&request, &caller).wait()?;
    assert!(authority.authorize_pushed("svc", &pushed.request_uri).wait().is_err());
    secrets.extend([code.clone(), verifier.to_owned(), pushed.request_uri]);
    expect(
        told,
        &[
            (Action::Authorize, ""),
            (Action::Issue, ""),
            (Action::Replay, ""),
            (Action::Issue, "invalid_grant"),
            (Action::Authorize, "invalid_client"),
            (Action::Authorize, "invalid_scope"),
            (Action::Push, ""),
            (Action::Authorize, "invalid_request_uri"),
        ],
    );

    // Client credentials, as JWTs; introspection and its refusal; revocations.
    let own = authority.token(&TokenRequest::client_credentials(&service)).wait()?;
    let wrong = Caller::secret("svc", "mcs_a-wrong-secret");
    assert!(authority.token(&TokenRequest::client_credentials(&wrong)).wait().is_err());
    assert!(authority.introspect(own.access_token.expose(), &service).wait()?.is_active());
    assert!(authority.introspect(own.access_token.expose(), &wrong).wait().is_err());
    authority.revoke_token(own.access_token.expose(), &service).wait()?;
    authority.revoke_token("no token", &service).wait()?;
    assert!(authority.revoke_token(own.access_token.expose(), &caller).wait().is_err());
    authority.revoke(Target::Subject("ann")).wait()?;
    authority.revoke(Target::Pair(&app, "ann")).wait()?;
    authority.revoke(Target::Client(&svc)).wait()?;
    authority.revoke(Target::Everything).wait()?;
    assert!(authority.revoke(Target::Subject("")).wait().is_err());
    secrets.extend([own.access_token.expose().to_owned(), "mcs_a-wrong-secret".to_owned()]);
    expect(
        told,
        &[
            (Action::Issue, ""),
            (Action::Issue, "invalid_client"),
            (Action::Introspect, "invalid_client"),
            (Action::Revoke, ""),
            (Action::Revoke, "invalid_grant"),
            (Action::Revoke, ""),
            (Action::Revoke, ""),
            (Action::Revoke, ""),
            (Action::Revoke, ""),
            (Action::Revoke, "invalid_request"),
        ],
    );

    // Secrets, blocking, keys.
    for drawn in [authority.stage_secret(&svc).wait()?, authority.replace_secret(&svc).wait()?] {
        secrets.push(drawn.expose().to_owned());
    }
    assert!(authority.promote_secret(&svc).wait().is_err());
    authority.block_client(&svc).wait()?;
    authority.unblock_client(&svc).wait()?;
    let kid = authority.keys().generate(Algorithm::Es256).wait()?;
    authority.keys().generate(Algorithm::EdDsa).wait()?;
    authority.keys().retire(&kid).wait()?;
    assert!(authority.keys().retire("none").wait().is_err());
    expect(
        told,
        &[
            (Action::Secret, ""),
            (Action::Secret, ""),
            (Action::Secret, "invalid_request"),
            (Action::Block, ""),
            (Action::Unblock, ""),
            (Action::AddKey, ""),
            (Action::AddKey, ""),
            (Action::RetireKey, ""),
            (Action::RetireKey, "invalid_request"),
        ],
    );

    // Registration by others; a change; an end; a token given again.
    let initial = authority.renew_initial_access_token(&app).wait()?;
    let metadata = format!(r#"{{"redirect_uris":["{CB}"],"scope":"api"}}"#);
    let child = authority.register_dynamic(&metadata, initial.expose()).wait()?;
    let management = child.registration_access_token.clone().ok_or("none")?;
    assert!(authority.register_dynamic(&metadata, management.expose()).wait().is_err());
    assert!(authority.registration(initial.expose()).is_err());
    assert!(authority.update_registration("{}", management.expose()).wait().is_err());
    authority.end_registration(management.expose()).wait()?;
    secrets.extend(child.client_secret.map(|secret| secret.expose().to_owned()));
    secrets.extend([initial, management].map(|text| text.expose().to_owned()));
    authority.update_client(Client::public("app").scopes(["api"])).wait()?;
    let reused = Client::confidential("reused")
        .grants([GrantType::ClientCredentials])
        .pairs(PairPolicy::Reuse { left_secs_min: 1 });
    let reused = authority.register(reused).wait()?.client_id;
    for _ in 0..2 {
        let issued = authority.issue(Issue::to("bob", &reused)).wait()?;
        secrets.push(issued.access_token.expose().to_owned());
    }
    authority.remove_client(&app).wait()?;
    expect(
        told,
        &[
            (Action::Update, ""),
            (Action::Register, ""),
            (Action::Register, "invalid_token"),
            (Action::Inspect, "invalid_token"),
            (Action::Update, "invalid_client_metadata"),
            (Action::Remove, ""),
            (Action::Update, ""),
            (Action::Register, ""),
            (Action::Issue, ""),
            (Action::Reuse, ""),
            (Action::Remove, ""),
        ],
    );
    Ok(secrets)
}

#[test]
fn everything_done_or_refused_is_told_once() -> Tested {
    assert!(everything(&Told::default())?.len() > 15);
    Ok(())
}

#[test]
fn no_event_holds_a_secret() -> Tested {
    let told = Told::default();
    let secrets = everything(&told)?;
    let traced = traced().0.lock().map_err(|_| "poisoned")?;
    let all = told.all.lock().map_err(|_| "poisoned")?;
    assert!(all.contains("ann") && all.contains("192.0.2.7"));
    let actions = traced.lines().filter(|line| line.starts_with("mintage::audit "));
    let names: HashSet<&str> =
        actions.filter_map(|line| line.split("action=\"").nth(1)?.split('"').next()).collect();
    assert_eq!(names.len(), 18, "{names:?}");
    for secret in &secrets {
        let cut = secret.len().min(40);
        for part in [&secret[secret.len() - cut..], &secret[..cut]] {
            assert!(!traced.contains(part), "a secret was traced: {part}");
            assert!(!all.contains(part), "a secret was told: {part}");
        }
    }
    Ok(())
}

#[test]
fn an_event_is_told_though_nobody_waits() -> Tested {
    let told = Told::default();
    let (authority, _) = bed(&told)?;
    drop(authority.register(Client::public("app").scopes(["api", "refresh_token"])));
    let app = mintage::ids::ClientId::new("app")?;
    drop(authority.issue(Issue::to("ann", &app)));
    drop(authority.revoke(Target::Subject("ann")));
    let caller = Caller::public("app");
    drop(authority.token(&TokenRequest::refresh("mrt_none", &caller)));
    expect(
        &told,
        &[
            (Action::Register, ""),
            (Action::Issue, ""),
            (Action::Revoke, ""),
            (Action::Redeem, "invalid_grant"),
        ],
    );
    Ok(())
}
