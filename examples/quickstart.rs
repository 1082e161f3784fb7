//! The life of some tokens, told by the library that keeps them.
//!
//! `cargo run --release --example quickstart` makes `./mintage-data` and, beside it, the key file
//! `./mintage-data.key` on its first run, and goes on with them on the next.
#![allow(clippy::print_stdout)]

use std::collections::VecDeque;
use std::error::Error;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use mintage::authority::{
    Authority, Caller, Client, GrantType, Introspects, Issue, Issued, Scratch, Target, TokenFormat,
    TokenRequest,
};
use mintage::codec::keys::SigningKey;
use mintage::ids::ClientId;
use mintage::root_key::RootKey;
use mintage::secret::SecretText;

const DATA: &str = "mintage-data";
const KEY: &str = "mintage-data.key";
const ISSUER: &str = "https://login.example.com";

/// A client metadata document (RFC 7591 section 2), as a developer would send it.
const METADATA: &str = r#"{
    "client_id": "phone-app",
    "client_name": "Field Service on the phone",
    "grant_types": ["authorization_code", "refresh_token"],
    "scope": "api refresh_token",
    "token_endpoint_auth_method": "none"
}"#;

/// A signing key as a JWK (RFC 7517). It is the published key of RFC 8037 appendix A: for show only.
const SIGNING_KEY: &str = r#"{
    "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "quickstart",
    "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
}"#;

type Done<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> Done {
    chapter("Opening the authority");
    let was_there = std::path::Path::new(DATA).exists();
    let authority = open()?;
    println!("  {DATA}/ {}", if was_there { "was there: going on with it" } else { "is new" });
    println!("  the root key lies beside it in {KEY}, never inside");

    let (phone, dashboard, inspector) = register_clients(&authority)?;
    import_key(&authority)?;
    let phone_token = issue_tokens(&authority, &phone, &dashboard, &inspector)?;
    let newest = refresh(&authority, &phone, &phone_token)?;
    replay(&authority, &phone, &phone_token, &newest)?;
    let (alice, bob) = revoke(&authority, &phone)?;

    chapter("Reopening the directory");
    authority.close()?;
    println!("  closed");
    let authority = open()?;
    println!("  opened again");
    show(&authority, "alice, who was revoked", &alice.access_token);
    show(&authority, "bob, who was not", &bob.access_token);
    let grants = authority.grants().of_subject("bob").page(10).wait()?;
    for grant in grants.grants.iter().take(3) {
        println!(
            "  bob's grant {:x}: {}, scope \"{}\", used {} times, delete handle {}",
            grant.grant,
            grant.client_id,
            grant.scope,
            grant.use_count,
            shorten(&grant.delete_handle)
        );
    }

    measure(&authority)?;
    authority.close()?;
    println!("\nRun it again: it goes on from here.");
    Ok(())
}

fn open() -> Done<Authority> {
    let root = RootKey::from_file(KEY)?;
    Ok(Authority::builder(ISSUER).open(DATA, root)?)
}

/// A phone app from its metadata document, a dashboard that takes JWTs, and an inspector that may
/// introspect.
fn register_clients(authority: &Authority) -> Done<(ClientId, ClientId, Caller)> {
    chapter("Registering clients");
    let phone = ClientId::new("phone-app")?;
    if authority.client(&phone).is_some() {
        println!("  {phone} is registered already");
    } else {
        authority.register(Client::from_metadata(METADATA)?).wait()?;
        println!("  {phone}, public, imported from its RFC 7591 metadata document");
    }
    let dashboard = ClientId::new("dashboard")?;
    if authority.client(&dashboard).is_none() {
        let client = Client::public(dashboard.as_str()).scopes(["api"]).format(TokenFormat::Jwt);
        authority.register(client).wait()?;
    }
    println!("  {dashboard}, which gets JWTs");
    // Its secret was shown once, to an earlier run: register it anew.
    let inspector = ClientId::new("inspector")?;
    authority.remove_client(&inspector).wait()?;
    let client = Client::confidential(inspector.as_str())
        .grants([GrantType::ClientCredentials])
        .introspects(Introspects::All);
    let registered = authority.register(client).wait()?;
    let secret = registered.client_secret.ok_or("a confidential client has a secret")?;
    println!("  {inspector}, confidential; its secret is shown once: {}", shorten(&secret));
    Ok((phone, dashboard, Caller::secret(inspector.as_str(), secret.expose())))
}

fn import_key(authority: &Authority) -> Done {
    chapter("Importing a signing key");
    if authority.keys().active_kid() == "quickstart" {
        println!("  \"quickstart\" is the active key already");
    } else {
        authority.keys().import(SigningKey::from_jwk(SIGNING_KEY.as_bytes())?).wait()?;
        println!("  \"quickstart\" (EdDSA) signs from now on; older keys still verify");
    }
    println!(
        "  the store keeps it sealed; the world gets {} bytes of JWKS",
        authority.keys().jwks().len()
    );
    Ok(())
}

fn issue_tokens(
    authority: &Authority,
    phone: &ClientId,
    dashboard: &ClientId,
    inspector: &Caller,
) -> Done<Issued> {
    chapter("Issuing tokens");
    let mut of_carol = None;
    for subject in ["alice", "bob", "carol"] {
        let opaque = authority.issue(Issue::to(subject, phone)).wait()?;
        println!("  {subject}: opaque {}", shorten(&opaque.access_token));
        let jwt = authority.issue(Issue::to(subject, dashboard)).wait()?;
        println!("  {}  JWT    {}", " ".repeat(subject.len()), shorten(&jwt.access_token));
        if subject == "carol" {
            let mut scratch = Scratch::new();
            let claims = authority.verify(jwt.access_token.expose(), &mut scratch)?;
            println!(
                "  carol's JWT verifies offline: sub \"{}\", scope \"{}\"",
                claims.subject(),
                claims.scope()
            );
            let seen = authority.introspect(opaque.access_token.expose(), inspector).wait()?;
            println!("  the inspector introspects her opaque one: {}", seen.to_json());
            of_carol = Some(opaque);
        }
    }
    Ok(of_carol.ok_or("carol has a token")?)
}

/// Twice, and the second answer is lost on its way.
fn refresh(authority: &Authority, phone: &ClientId, issued: &Issued) -> Done<Issued> {
    chapter("Refreshing, and losing an answer");
    let caller = Caller::public(phone);
    let first = refresh_token(issued)?;
    let one = authority.token(&TokenRequest::refresh(first.expose(), &caller)).wait()?;
    println!("  first refresh:  {}", shorten(refresh_token(&one)?));
    let request = TokenRequest::refresh(refresh_token(&one)?.expose(), &caller);
    let lost = authority.token(&request).wait()?;
    println!("  second refresh: {} ... and the answer is lost", shorten(refresh_token(&lost)?));
    let again = authority.token(&request).wait()?;
    println!("  tried again:    {}", shorten(refresh_token(&again)?));
    let same =
        refresh_token(&lost)? == refresh_token(&again)? && lost.access_token == again.access_token;
    println!("  the same tokens, byte for byte: {same}; nobody is logged out");
    if same { Ok(again) } else { Err("a retry got other tokens".into()) }
}

fn replay(authority: &Authority, phone: &ClientId, stolen: &Issued, newest: &Issued) -> Done {
    chapter("Replaying a spent token");
    show(authority, "before, the newest access token", &newest.access_token);
    let caller = Caller::public(phone);
    let thief = refresh_token(stolen)?;
    let answer = authority.token(&TokenRequest::refresh(thief.expose(), &caller)).wait();
    match answer {
        Ok(_) => return Err("a spent token was taken".into()),
        Err(error) => println!("  a thief presents the first refresh token: {}", error.code()),
    }
    show(authority, "the whole family is dead, the newest too", &newest.access_token);
    Ok(())
}

fn revoke(authority: &Authority, phone: &ClientId) -> Done<(Issued, Issued)> {
    chapter("Revoking a subject");
    let alice = authority.issue(Issue::to("alice", phone)).wait()?;
    let bob = authority.issue(Issue::to("bob", phone)).wait()?;
    show(authority, "alice before", &alice.access_token);
    let before = authority.stats().durable;
    authority.revoke(Target::Subject("alice")).wait()?;
    let records = authority.stats().durable.0 - before.0;
    show(authority, "alice after", &alice.access_token);
    println!("  it took {records} record in the log, whatever hung below");
    Ok((alice, bob))
}

/// Durable issues, some hundred of them on their way at a time.
fn measure(authority: &Authority) -> Done {
    chapter("How fast is durable?");
    let client = ClientId::new("measured")?;
    if authority.client(&client).is_none() {
        authority
            .register(Client::public(client.as_str()).scopes(["api"]).access_secs(60))
            .wait()?;
    }
    let span = Duration::from_secs(3);
    let bar = ProgressBar::new(u64::try_from(span.as_millis())?);
    bar.set_style(ProgressStyle::with_template("  {bar:40} {msg}")?);
    let (start, syncs) = (Instant::now(), authority.stats().syncs);
    let mut waiting = VecDeque::new();
    let mut issued = 0u64;
    while start.elapsed() < span {
        while waiting.len() < 256 {
            let subject = format!("user-{}", issued % 1_000);
            waiting.push_back(authority.issue(Issue::to(subject, &client)));
            issued += 1;
        }
        for ticket in waiting.drain(..128) {
            ticket.wait()?;
        }
        bar.set_position(u64::try_from(start.elapsed().as_millis())?);
        bar.set_message(format!("{issued} tokens"));
    }
    for ticket in waiting {
        ticket.wait()?;
    }
    let secs = start.elapsed().as_secs_f64();
    bar.finish_and_clear();
    let syncs = authority.stats().syncs - syncs;
    println!(
        "  {issued} tokens in {secs:.1} s, 256 at a time, each on stable storage before its answer:"
    );
    println!("  {:.0} tokens a second in {syncs} commit groups", issued as f64 / secs);
    Ok(())
}

fn show(authority: &Authority, what: &str, token: &SecretText) {
    let state = match authority.verify_live(token.expose()).wait() {
        Ok(_) => "live",
        Err(_) => "dead",
    };
    println!("  {what}: {state}");
}

fn refresh_token(issued: &Issued) -> Done<&SecretText> {
    Ok(issued.refresh_token.as_ref().ok_or("a refresh token was expected")?)
}

/// Enough of a secret to tell it from others, and no more.
fn shorten(secret: &SecretText) -> String {
    let text = secret.expose();
    let (head, tail) = (text.get(..16).unwrap_or(text), text.len().saturating_sub(4));
    format!("{head}...{} ({} characters)", text.get(tail..).unwrap_or(""), text.len())
}

fn chapter(title: &str) {
    println!("\n{title}");
}
