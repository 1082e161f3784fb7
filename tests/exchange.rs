//! Laws of token exchange. Tokens of others are signed by other libraries: PyJWT and npm's jose
//! (`tests/data/foreign`), and `jsonwebtoken`.

mod support;

#[path = "../examples/exchange_handler.rs"]
#[allow(dead_code, unreachable_pub, reason = "the example is a program of its own")]
mod example;

use std::sync::{LazyLock, Mutex, PoisonError};

use base64_simd::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header, encode};
use mintage::authority::{
    ACTORS_MAX, Builder, Caller, Client, Confirmation, EXCHANGE_TOKEN_LEN_MAX, Error, Exchange,
    ExchangeHandler, GrantType, HandlerOptions, IncomingToken, Issue, Issued, Mapped,
    PermittedUsers, Presented, Profile, RefreshPolicy, RegisteredClient, SenderConstraint, Target,
    TokenForm, TokenFormat, TokenRefused, TokenRequest, TokenType, ValidToken,
};
use mintage::codec::algorithm::Algorithm as Alg;
use mintage::codec::assertion::AssertionVerifier;
use mintage::codec::jwk_set::JwkSet;
use mintage::codec::keys::SigningKey;
use mintage::ids::{ClientId, Subject};
use mintage::scope::Scope;
use mintage::store::Store;
use proptest::prelude::*;
use serde_json::{Value, json};
use support::{Bed, Boxed, Opener, START, Tested, access_token, at_once, payload, refresh_token};

laws![
    tokens_of_three_other_libraries_are_exchanged_and_changed_ones_are_not,
    a_token_of_ones_own_is_exchanged_for_less_or_as_much,
    a_token_goes_only_where_it_is_meant_to,
    a_bound_token_is_exchanged_by_its_sender_alone,
    a_refresh_token_is_exchanged_by_a_client_that_proves_itself,
    what_was_exchanged_slides_to_no_later_end,
    exchange_never_widens,
    a_delegated_token_says_who_acts_and_chains_are_bounded,
    a_handler_is_chosen_by_name_or_is_the_clients_first,
    a_handler_makes_users_only_where_it_may,
    the_subject_must_have_approved_the_exchanging_client,
    what_a_handler_says_of_its_token_bounds_the_answer,
    a_handlers_answer_may_have_refresh_and_id_tokens,
    one_of_many_exchanges_of_a_token_that_is_good_once_wins,
    a_revocation_while_tokens_are_judged_reaches_the_answer,
    an_exchanged_token_dies_with_what_is_revoked_above_it,
    an_actors_admission_bounds_that_of_the_answer,
    what_is_no_proper_exchange_is_refused,
    an_exchange_in_a_form_is_told_in_the_words_of_its_profile,
];

const URN: &str = "urn:ietf:params:oauth:token-type:";
const A: &str = "https://a.example";
const B: &str = "https://b.example";

const PEMS: [(Alg, &str); 5] = [
    (Alg::Rs256, include_str!("data/rsa2048.pk8.pem")),
    (Alg::Ps256, include_str!("data/rsa2048.pk8.pem")),
    (Alg::Es256, include_str!("data/p256.pk8.pem")),
    (Alg::Es384, include_str!("data/p384.pk8.pem")),
    (Alg::EdDsa, include_str!("data/ed25519.pk8.pem")),
];

static KEYS: LazyLock<JwkSet> = LazyLock::new(|| {
    let jwk = |(algorithm, pem): &(Alg, &str)| {
        let key = SigningKey::from_pem(*algorithm, Some(algorithm.name()), pem).expect("a key");
        key.verifying_key().public_jwk().expect("a public key").to_json()
    };
    let all: Vec<String> = PEMS.iter().map(jwk).collect();
    JwkSet::parse(format!(r#"{{"keys":[{}]}}"#, all.join(",")).as_bytes()).expect("a set")
});

/// An identity provider's tokens: `ext-ann` there is `ann` here.
struct Idp;

/// What happens while a token is judged.
static MEANWHILE: Mutex<Option<Box<dyn FnOnce() + Send>>> = Mutex::new(None);
/// Tests that set it run one at a time.
static ALONE: Mutex<()> = Mutex::new(());

impl ExchangeHandler for Idp {
    fn validate(&self, token: &IncomingToken<'_>) -> Result<ValidToken, TokenRefused> {
        let verifier = AssertionVerifier::of_tokens(&["our-client"], 30, u64::from(u32::MAX));
        let read = verifier.read(token.token).map_err(|_| TokenRefused("no JWT"))?;
        let verified = verifier.verify(read, KEYS.keys(), token.now);
        let verified = verified.map_err(|_| TokenRefused("no good JWT"))?;
        if verified.issuer() != "https://idp.example" {
            return Err(TokenRefused("another issuer"));
        }
        let claims: Value = serde_json::from_str(verified.claims_json().unwrap_or_default())
            .map_err(|_| TokenRefused("no claims"))?;
        if claims["meanwhile"] == true
            && let Some(run) = MEANWHILE.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            run();
        }
        let mut valid = ValidToken::of(verified.subject().unwrap_or_default());
        if let Some(scope) = claims["scope"].as_str() {
            valid = valid.scope(Scope::parse(scope).map_err(|_| TokenRefused("scope"))?);
        }
        if claims["ends"] == true {
            valid = valid.ends_with_it(verified.expires_at());
        }
        if let Some(id) = claims["once"].as_str() {
            valid = valid.once(id, verified.expires_at());
        }
        Ok(valid.data(claims["email"].as_str().unwrap_or_default().to_owned()))
    }

    fn subject(&self, token: &ValidToken, _: &RegisteredClient) -> Mapped {
        let name = token.name().strip_prefix("ext-").and_then(|name| Subject::new(name).ok());
        match name {
            Some(subject) if token.name().starts_with("ext-new") => Mapped::New(subject),
            Some(subject) if token.get::<String>().is_some() => Mapped::Known(subject),
            _ => Mapped::Nobody,
        }
    }

    fn create(&self, _: &ValidToken, subject: &Subject) -> bool {
        MADE.lock().unwrap_or_else(PoisonError::into_inner).push(subject.as_str().to_owned());
        subject.as_str() != "new-broken"
    }
}

static MADE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Takes anything, as somebody's; and SAML's assertions, which it does not read.
struct Fixed(&'static str);

impl ExchangeHandler for Fixed {
    fn validate(&self, token: &IncomingToken<'_>) -> Result<ValidToken, TokenRefused> {
        assert!(!format!("{token:?}").contains(token.token));
        Ok(ValidToken::of(self.0))
    }

    fn subject(&self, token: &ValidToken, _: &RegisteredClient) -> Mapped {
        Subject::new(token.name()).map_or(Mapped::Nobody, Mapped::Known)
    }
}

fn settings(builder: Builder) -> Builder {
    let all = [TokenType::IdToken, TokenType::Jwt, TokenType::AccessToken];
    builder
        .audience(A)
        .exchange_handler("Idp", HandlerOptions::new(all), Idp)
        .exchange_handler("Maker", HandlerOptions::new(all).creates_users(), Idp)
        .exchange_handler("Saml", HandlerOptions::new([TokenType::Saml2]), Fixed("sam"))
        .exchange_handler("Odd", HandlerOptions::new(all), Fixed("\n"))
}

const SCOPES: [&str; 4] = ["api", "web", "openid", "refresh_token"];

fn draft(id: &str) -> Client {
    Client::confidential(id)
        .grants([GrantType::TokenExchange, GrantType::RefreshToken])
        .exchange_handlers(["Idp", "Saml"])
        .permitted_users(PermittedUsers::Listed(
            ["ann", "ben", "cat", "sam"]
                .iter()
                .filter_map(|name| Subject::new(name).ok())
                .collect(),
        ))
        .audiences([A, B])
        .scopes(SCOPES)
}

fn ask<O: Opener>(bed: &Bed<O>, caller: &Caller, exchange: Exchange<'_>) -> Result<Issued, Error> {
    bed.authority().token(&TokenRequest::exchange(exchange, caller)).wait()
}

fn id_token(token: &str) -> Exchange<'_> {
    Exchange::of(token, TokenType::IdToken)
}

fn own(token: &str) -> Exchange<'_> {
    Exchange::of(token, TokenType::AccessToken)
}

fn code_of(refused: Result<Issued, Error>) -> Option<&'static str> {
    refused.err().map(|error| error.code())
}

/// A token of the identity provider.
fn foreign(sub: &str, more: &Value) -> Result<String, Boxed> {
    let mut claims = json!({"iss": "https://idp.example", "aud": "our-client", "sub": sub,
        "exp": START + 600, "email": "x@example.com"});
    for (name, value) in more.as_object().into_iter().flatten() {
        claims[name] = value.clone();
    }
    let key = EncodingKey::from_ed_pem(PEMS[4].1.as_bytes())?;
    Ok(encode(&Header::new(jsonwebtoken::Algorithm::EdDSA), &claims, &key)?)
}

fn tokens_of_three_other_libraries_are_exchanged_and_changed_ones_are_not(
    opener: impl Opener,
) -> Tested {
    let bed = Bed::with(opener, settings)?;
    let auditor = bed.auditor()?;
    let (client, caller) = bed.register(draft("app"))?;
    let mut tokens = vec![foreign("ext-ann", &json!({}))?];
    for text in [include_str!("data/foreign/pyjwt.json"), include_str!("data/foreign/jose.json")] {
        let file: Value = serde_json::from_str(text)?;
        for token in file["tokens"].as_array().ok_or("no tokens")? {
            tokens.push(token.as_str().ok_or("no text")?.to_owned());
        }
    }
    assert_eq!(tokens.len(), 14);
    for token in &tokens {
        for kind in [TokenType::IdToken, TokenType::Jwt] {
            let issued = ask(&bed, &caller, Exchange::of(token, kind))?;
            assert_eq!((issued.subject.as_str(), &issued.client_id), ("ann", &client));
            assert_eq!(issued.issued_token_type, Some(TokenType::AccessToken));
            assert!(bed.is_active(&access_token(&issued), &auditor)?);
        }
        let parts: Vec<&str> = token.split('.').collect();
        let [header, payload, signature] = parts[..] else { return Err("not three parts".into()) };
        let claims = String::from_utf8(URL_SAFE_NO_PAD.decode_to_vec(payload)?)?;
        let encode = |text: &str| URL_SAFE_NO_PAD.encode_to_string(text);
        let none = encode(r#"{"alg":"none"}"#);
        let hs256 = encode(r#"{"alg":"HS256"}"#);
        let other = encode(&claims.replace("ext-ann", "ext-ben"));
        let late = encode(&claims.replace("4102444800", "4202444800"));
        let (_, another) = tokens[0].rsplit_once('.').ok_or("no signature")?;
        let mut changed = vec![
            format!("{none}.{payload}."),
            format!("{none}.{payload}.{signature}"),
            format!("{hs256}.{payload}.{signature}"),
            format!("{header}.{other}.{signature}"),
            format!("{header}.{late}.{signature}x"),
            format!("{header}.{payload}."),
            format!("{header}.{payload}"),
            format!("{token}.x"),
            format!(" {token}"),
        ];
        if token != &tokens[0] {
            changed.push(format!("{header}.{payload}.{another}"));
        }
        for at in (0..token.len()).step_by(7) {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            changed.push(String::from_utf8(bytes)?);
        }
        for text in &changed {
            assert_eq!(
                code_of(ask(&bed, &caller, id_token(text))),
                Some("invalid_request"),
                "{text}"
            );
        }
    }
    Ok(())
}

fn a_token_of_ones_own_is_exchanged_for_less_or_as_much(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    for (n, format) in [TokenFormat::Opaque, TokenFormat::Jwt].into_iter().enumerate() {
        let (client, caller) = bed.register(draft(&format!("app {n}")).format(format))?;
        let issue = Issue::to("ann", &client).scope("api web refresh_token").audience(A);
        let first = bed.authority().issue(issue).wait()?;
        let token = access_token(&first);
        let all = ask(&bed, &caller, own(&token))?;
        assert_eq!((all.scope.as_str(), all.subject.as_str()), ("api web", "ann"));
        assert!(all.refresh_token.is_none() && all.id_token.is_none());
        let request = TokenRequest::exchange(own(&token), &caller);
        let less = bed.authority().token(&request.scope("web")).wait()?;
        assert_eq!(less.scope.as_str(), "web");
        let more = bed.authority().token(&request.scope("web openid")).wait();
        assert_eq!(code_of(more), Some("invalid_scope"));
        assert_eq!(
            code_of(bed.authority().token(&request.audience(B)).wait()),
            Some("invalid_target")
        );
        // Nothing lives longer than what it was exchanged for, however often it is passed on.
        bed.clock.advance(100);
        let later = ask(&bed, &caller, own(&token))?;
        let last = ask(&bed, &caller, own(&access_token(&later)))?;
        for issued in [&later, &last] {
            assert_eq!(issued.expires_at, first.expires_at);
        }
        let widened = TokenRequest::exchange(own(less.access_token.expose()), &caller).scope("api");
        assert_eq!(code_of(bed.authority().token(&widened).wait()), Some("invalid_scope"));
        // A refresh token, too; it stays as it was.
        let refresh = refresh_token(&first)?;
        let kind = Exchange::of(&refresh, TokenType::RefreshToken);
        assert_eq!(ask(&bed, &caller, kind)?.scope.as_str(), "api web");
        bed.refresh(&refresh, &caller)?;
        // As what it is alone.
        for kind in [TokenType::IdToken, TokenType::Saml2, TokenType::AccessToken] {
            let refused = code_of(ask(&bed, &caller, Exchange::of(&refresh, kind)));
            assert_eq!(refused, Some("invalid_request"), "{kind:?}");
        }
        let as_jwt = ask(&bed, &caller, Exchange::of(&token, TokenType::Jwt));
        assert_eq!(as_jwt.is_ok(), format == TokenFormat::Jwt);
        let wanted = own(&token).requested("urn:ietf:params:oauth:token-type:jwt");
        match ask(&bed, &caller, wanted) {
            Ok(issued) => assert_eq!(issued.issued_token_type, Some(TokenType::Jwt)),
            Err(error) => assert_eq!((error.code(), n), ("invalid_request", 0)),
        }
        bed.clock.advance(first.expires_at.since(later.issued_at));
        assert_eq!(code_of(ask(&bed, &caller, own(&token))), Some("invalid_request"));
    }
    Ok(())
}

fn a_token_goes_only_where_it_is_meant_to(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    let (app, _) = bed.register(draft("app"))?;
    let service = |id: &str, audience: &str| bed.register(draft(id).audiences([audience]));
    let (_, a) = service("a", A)?;
    let (_, b) = service("b", B)?;
    let (_, named) = bed.register(draft("named").audiences(["other", A]))?;
    let (_, without) = bed.register(draft("without").grants([GrantType::RefreshToken]))?;
    let issue = |audience: &str| bed.authority().issue(Issue::to("ann", &app).audience(audience));
    let for_a = issue(A).wait()?;
    let token = access_token(&for_a);
    assert_eq!(ask(&bed, &a, own(&token))?.subject.as_str(), "ann");
    assert_eq!(ask(&bed, &named, own(&token))?.subject.as_str(), "ann");
    assert_eq!(code_of(ask(&bed, &b, own(&token))), Some("invalid_request"));
    assert_eq!(code_of(ask(&bed, &without, own(&token))), Some("unauthorized_client"));
    let refresh = refresh_token(&for_a)?;
    let stolen = Exchange::of(&refresh, TokenType::RefreshToken);
    assert_eq!(code_of(ask(&bed, &a, stolen)), Some("invalid_request"));
    let wrong = Caller::secret("a", "wrong");
    assert_eq!(code_of(ask(&bed, &wrong, own(&token))), Some("invalid_client"));
    Ok(())
}

fn a_refresh_token_is_exchanged_by_a_client_that_proves_itself(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    let grants = [GrantType::TokenExchange, GrantType::RefreshToken];
    let public = Client::public("public").grants(grants).audiences([A]).scopes(SCOPES);
    for (client, proves) in [(public, false), (draft("proves"), true)] {
        let (id, caller) = bed.register(client)?;
        let issued = bed.authority().issue(Issue::to("ann", &id).audience(A)).wait()?;
        let refresh = refresh_token(&issued)?;
        let exchanged = ask(&bed, &caller, Exchange::of(&refresh, TokenType::RefreshToken));
        assert_eq!(exchanged.is_ok(), proves, "{exchanged:?}");
        // It stays what it was.
        bed.refresh(&refresh, &caller)?;
    }
    Ok(())
}

fn what_was_exchanged_slides_to_no_later_end(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    for left in [5, 25, 40, 600] {
        let (id, caller) = bed.register(
            draft(&format!("slides-{left}"))
                .format(TokenFormat::Opaque)
                .access_secs(3_600)
                .sliding(24 * 3_600),
        )?;
        let issue = Issue::to("ann", &id).audience(A);
        let first = bed.authority().issue(issue).wait()?;
        bed.clock.advance(3_600 - left);
        let got = ask(&bed, &caller, own(&access_token(&first)))?;
        assert_eq!(got.expires_at, first.expires_at);
        let token = access_token(&got);
        for secs in [left - 2, 1] {
            bed.clock.advance(secs);
            for _ in 0..2 {
                bed.authority().verify_live(&token).wait()?;
            }
        }
        bed.clock.advance(1);
        assert!(bed.authority().verify_live(&token).wait().is_err(), "{left} s were left");
    }
    Ok(())
}

fn exchange_never_widens(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    let (auditor, next) = (bed.auditor()?, std::cell::Cell::new(0));
    let some = |all: &'static [&'static str]| proptest::sample::subsequence(all, 0..=all.len());
    const TOKENS: &[&str] = &["api", "web", "openid", "id"];
    const AUDIENCES: &[&str] = &[A, B, "https://c.example"];
    let step = (some(TOKENS), some(AUDIENCES), some(TOKENS), some(AUDIENCES), any::<bool>());
    let config =
        ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let chain = (some(TOKENS), some(AUDIENCES), proptest::collection::vec(step, 1..5));
    let told = runner.run(&chain, |(scope, audience, steps)| {
        let fail = |error: Boxed| TestCaseError::fail(error.to_string());
        let register = |scopes: &[&str], audiences: &[&str]| {
            next.set(next.get() + 1);
            let client = draft(&format!("c{}", next.get())).format(TokenFormat::Jwt);
            bed.register(client.scopes(scopes).audiences(audiences)).map_err(fail)
        };
        let (client, mut caller) = register(&scope, &audience)?;
        let mut held = match bed.authority().issue(Issue::to("ann", &client)).wait() {
            Ok(issued) => issued,
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        let shown = |issued: &Issued| {
            let shown = bed.authority().introspect(issued.access_token.expose(), &auditor).wait();
            let token = shown.ok().and_then(|shown| shown.token().cloned());
            token.ok_or_else(|| TestCaseError::fail("not live"))
        };
        let mut before = shown(&held)?;
        for (scopes, audiences, asked, resources, acts) in steps {
            let (_, other) = register(&scopes, &audiences)?;
            let token = access_token(&held);
            let exchange = match acts {
                true => own(&token).actor(&token, TokenType::AccessToken),
                false => own(&token),
            };
            let (asked, resources) = (asked.join(" "), resources.join(" "));
            for caller in [&other, &caller] {
                let mut request = TokenRequest::exchange(exchange, caller).scope(&asked);
                if !resources.is_empty() {
                    request = request.audience(&resources);
                }
                let Ok(issued) = bed.authority().token(&request).wait() else { continue };
                let after = shown(&issued)?;
                prop_assert!(after.scope.is_within(&before.scope));
                let within = |one: &str| before.audience.split(' ').any(|other| other == one);
                prop_assert!(after.audience.split(' ').all(within));
                prop_assert!(after.expires_at <= before.expires_at);
                prop_assert!(after.actors.len() <= ACTORS_MAX);
                prop_assert!(after.actors.ends_with(&before.actors));
                prop_assert_eq!(&after.subject, &before.subject);
                (held, before) = (issued, after);
                break;
            }
            caller = other;
        }
        Ok(())
    });
    told.map_err(|error| error.to_string().into())
}

fn a_delegated_token_says_who_acts_and_chains_are_bounded(opener: impl Opener) -> Tested {
    let mut bed = Bed::with(opener, settings)?;
    let auditor = bed.auditor()?;
    let (client, caller) = bed.register(draft("app").format(TokenFormat::Jwt))?;
    let issue = |bed: &Bed<_>, subject: &str| bed.issue(subject, &client);
    let (mut held, mut actors) = (issue(&bed, "ann")?, Vec::new());
    for n in 0..=ACTORS_MAX {
        let name = ["ben", "cat"][n % 2];
        let actor = issue(&bed, name)?;
        let (token, acts) = (access_token(&held), access_token(&actor));
        let delegated = ask(&bed, &caller, own(&token).actor(&acts, TokenType::AccessToken));
        if n == ACTORS_MAX {
            assert_eq!(code_of(delegated), Some("invalid_request"));
            break;
        }
        held = delegated?;
        actors.insert(0, name.to_owned());
        assert_eq!(held.subject.as_str(), "ann");
        assert!(held.refresh_token.is_none());
        bed.reopen()?;
        let shown = bed.authority().introspect(held.access_token.expose(), &auditor).wait()?;
        assert_eq!(shown.token().ok_or("dead")?.actors, actors);
        let told: Value = serde_json::from_str(&shown.to_json())?;
        let claims = URL_SAFE_NO_PAD.decode_to_vec(payload(held.access_token.expose())?)?;
        let claims: Value = serde_json::from_slice(&claims)?;
        assert_eq!(told["act"], claims["act"]);
        let mut at = &claims["act"];
        for name in &actors {
            assert_eq!(at["sub"], **name);
            at = &at["act"];
        }
        assert!(at.is_null());
        // Passed on without one more actor it says who acted, all the same.
        let passed = ask(&bed, &caller, own(held.access_token.expose()))?;
        let shown = bed.authority().introspect(passed.access_token.expose(), &auditor).wait()?;
        assert_eq!(shown.token().ok_or("dead")?.actors, actors);
    }
    // Somebody else's token may say who acts, too; one for whom somebody acts may not act.
    let ann = access_token(&issue(&bed, "ann")?);
    let ben = foreign("ext-ben", &json!({"ends": true, "exp": START + 50}))?;
    let issued = ask(&bed, &caller, own(&ann).actor(&ben, TokenType::IdToken))?;
    assert_eq!(issued.expires_at.0, START + 50, "not longer than the actor's");
    let again = own(&ann).actor(held.access_token.expose(), TokenType::AccessToken);
    assert_eq!(code_of(ask(&bed, &caller, again)), Some("invalid_request"));
    // An opaque token cannot say it.
    let (_, opaque) = bed.register(draft("opaque"))?;
    for exchange in [own(&ann).actor(&ben, TokenType::IdToken), own(held.access_token.expose())] {
        assert_eq!(code_of(ask(&bed, &opaque, exchange)), Some("invalid_request"));
    }
    Ok(())
}

fn a_handler_is_chosen_by_name_or_is_the_clients_first(opener: impl Opener) -> Tested {
    let mut bed = Bed::with(opener, settings)?;
    let (_, caller) = bed.register(draft("app"))?;
    let ann = foreign("ext-ann", &json!({}))?;
    for _ in 0..2 {
        assert_eq!(ask(&bed, &caller, id_token(&ann))?.subject.as_str(), "ann");
        assert_eq!(ask(&bed, &caller, id_token(&ann).handler("Idp"))?.subject.as_str(), "ann");
        let saml = Exchange::of("PHNhbWw-", TokenType::Saml2);
        assert_eq!(ask(&bed, &caller, saml.handler("Saml"))?.subject.as_str(), "sam");
        for wrong in [
            saml,
            saml.handler("Idp"),
            id_token(&ann).handler("Saml"),
            id_token(&ann).handler("Maker"),
            id_token(&ann).handler("idp"),
            Exchange::of(&ann, TokenType::RefreshToken),
        ] {
            assert_eq!(code_of(ask(&bed, &caller, wrong)), Some("invalid_request"), "{wrong:?}");
        }
        bed.reopen()?;
    }
    let (_, odd) = bed.register(draft("odd").exchange_handlers(["Odd", "Gone"]))?;
    for exchange in [id_token(&ann), id_token(&ann).handler("Gone")] {
        assert_eq!(code_of(ask(&bed, &odd, exchange)), Some("invalid_request"));
    }
    let (_, none) = bed.register(draft("none").exchange_handlers::<String>([]))?;
    assert_eq!(code_of(ask(&bed, &none, id_token(&ann))), Some("invalid_request"));
    let long = draft("long").exchange_handlers(["x".repeat(81)]);
    assert!(bed.authority().register(long).wait().is_err());
    let unnamed = mintage::authority::Authority::builder(A).exchange_handler(
        "",
        HandlerOptions::new([]),
        Idp,
    );
    assert!(unnamed.in_memory(support::root()).is_err());
    Ok(())
}

fn a_handler_makes_users_only_where_it_may(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, |builder| {
        settings(builder).approvals(|_: &ClientId, s: &Subject| s.as_str().starts_with("new-"))
    })?;
    let made = |name: &str| {
        let made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        made.iter().any(|one| one == name)
    };
    let handlers = |id: &str| draft(id).exchange_handlers(["Maker", "Idp"]);
    let admin = handlers("admin").permitted_users(PermittedUsers::AdminApproved);
    let (_, admin) = bed.register(admin)?;
    let (_, asks) =
        bed.register(handlers("self").permitted_users(PermittedUsers::SelfAuthorized))?;
    let (_, listed) = bed.register(handlers("listed"))?;
    let id = format!("{:p}", &raw const bed);
    let [one, two, three] = ["1", "2", "3"].map(|n| format!("new-{id}-{n}"));
    let token = |name: &str| foreign(&format!("ext-{name}"), &json!({}));
    // By a handler that may, for a client whose owner approves.
    assert_eq!(ask(&bed, &admin, id_token(&token(&one)?))?.subject.as_str(), one);
    assert!(made(&one));
    assert_eq!(
        code_of(ask(&bed, &admin, id_token(&token(&two)?).handler("Idp"))),
        Some("invalid_request")
    );
    assert_eq!(code_of(ask(&bed, &asks, id_token(&token(&two)?))), Some("invalid_grant"));
    assert_eq!(code_of(ask(&bed, &listed, id_token(&token(&three)?))), Some("invalid_grant"));
    assert!(!made(&two) && !made(&three));
    let broken = foreign("ext-new-broken", &json!({}))?;
    assert_eq!(code_of(ask(&bed, &admin, id_token(&broken))), Some("invalid_request"));
    Ok(())
}

fn the_subject_must_have_approved_the_exchanging_client(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    let asks = |id: &str| draft(id).permitted_users(PermittedUsers::SelfAuthorized);
    let (app, _) = bed.register(asks("app"))?;
    let (service, caller) = bed.register(asks("service"))?;
    let ann = foreign("ext-ann", &json!({}))?;
    let held = access_token(&bed.issue("ann", &app)?);
    for exchange in [id_token(&ann), own(&held)] {
        assert_eq!(code_of(ask(&bed, &caller, exchange)), Some("invalid_grant"));
    }
    let issue = Issue::to("ann", &service).scope("web refresh_token");
    let approval = bed.authority().issue(issue).wait()?;
    // Within what was approved.
    assert_eq!(ask(&bed, &caller, id_token(&ann))?.scope.as_str(), "refresh_token web");
    assert_eq!(ask(&bed, &caller, own(&held))?.scope.as_str(), "web");
    // What the client holds itself needs no more than that it may still have it.
    let nobody = PermittedUsers::Listed(Vec::new());
    bed.authority().update_client(asks("service").permitted_users(nobody)).wait()?;
    let mine = access_token(&approval);
    assert_eq!(code_of(ask(&bed, &caller, own(&mine))), Some("invalid_grant"));
    Ok(())
}

fn what_a_handler_says_of_its_token_bounds_the_answer(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    let (_, caller) = bed.register(draft("app"))?;
    let scoped = foreign("ext-ann", &json!({"scope": "web other", "ends": true}))?;
    let issued = ask(&bed, &caller, id_token(&scoped))?;
    assert_eq!(issued.scope.as_str(), "web");
    assert_eq!(issued.expires_at.0, START + 600);
    assert!(issued.refresh_token.is_none());
    let request = TokenRequest::exchange(id_token(&scoped), &caller).scope("api");
    assert_eq!(code_of(bed.authority().token(&request).wait()), Some("invalid_scope"));
    let request = TokenRequest::exchange(id_token(&scoped), &caller).audience("https://c.example");
    assert_eq!(code_of(bed.authority().token(&request).wait()), Some("invalid_target"));
    bed.clock.advance(600);
    // The handler's own leeway does not count for the end that it names.
    assert_eq!(code_of(ask(&bed, &caller, id_token(&scoped))), Some("invalid_request"));
    Ok(())
}

fn a_handlers_answer_may_have_refresh_and_id_tokens(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    let ann = foreign("ext-ann", &json!({}))?;
    let (_, caller) = bed.register(draft("app"))?;
    let issued = ask(&bed, &caller, id_token(&ann))?;
    assert!(issued.id_token.is_some());
    let again = bed.refresh(&refresh_token(&issued)?, &caller)?;
    assert_eq!(again.subject.as_str(), "ann");
    let request = TokenRequest::exchange(id_token(&ann), &caller).scope("api");
    let less = bed.authority().token(&request).wait()?;
    assert!(less.id_token.is_none() && less.refresh_token.is_none());
    let (_, never) = bed.register(draft("never").refresh(RefreshPolicy::never()))?;
    assert!(ask(&bed, &never, id_token(&ann))?.refresh_token.is_none());
    Ok(())
}

fn one_of_many_exchanges_of_a_token_that_is_good_once_wins(opener: impl Opener) -> Tested {
    let mut bed = Bed::with(opener, settings)?;
    let (_, caller) = bed.register(draft("app"))?;
    let (_, other) = bed.register(draft("other"))?;
    let once = foreign("ext-ann", &json!({"once": "j1"}))?;
    let request = TokenRequest::exchange(id_token(&once), &caller).scope("admin");
    assert_eq!(code_of(bed.authority().token(&request).wait()), Some("invalid_scope"));
    let answers = at_once(|| ask(&bed, &caller, id_token(&once)));
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert!(answers.iter().all(|a| matches!(a, Ok(_) | Err(Error::InvalidRequest(_)))));
    for _ in 0..2 {
        for caller in [&caller, &other] {
            assert_eq!(code_of(ask(&bed, caller, id_token(&once))), Some("invalid_request"));
        }
        bed.reopen()?;
    }
    ask(&bed, &caller, id_token(&foreign("ext-ann", &json!({"once": "j2"}))?))?;
    Ok(())
}

fn revoke<S: Store>(
    authority: &mintage::authority::Authority<S>,
    what: usize,
    client: &ClientId,
) -> Result<(), Error> {
    match what {
        0 => authority.revoke(Target::Subject("ann")).wait(),
        1 => authority.revoke(Target::Client(client)).wait(),
        2 => authority.revoke(Target::Pair(client, "ann")).wait(),
        3 => authority.block_client(client).wait(),
        _ => authority.revoke(Target::Everything).wait(),
    }
}

fn a_revocation_while_tokens_are_judged_reaches_the_answer(opener: impl Opener) -> Tested {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let bed = Bed::with(opener, settings)?;
    for what in 0..5 {
        for is_own in [false, true] {
            let id = format!("{what} {is_own}");
            let (client, caller) = bed.register(draft(&id).format(TokenFormat::Jwt))?;
            let held = access_token(&bed.issue("ann", &client)?);
            let slow = json!({"meanwhile": true});
            let subject = foreign("ext-ann", &slow)?;
            let actor = foreign("ext-ben", &slow)?;
            let exchange = match is_own {
                // The subject's token was found live; its actor's is judged next.
                true => own(&held).actor(&actor, TokenType::IdToken),
                false => id_token(&subject),
            };
            let authority = bed.authority();
            let revokes: Box<dyn FnOnce() + Send> = Box::new(move || {
                revoke(&authority, what, &client).expect("revoked");
            });
            *MEANWHILE.lock().unwrap_or_else(PoisonError::into_inner) = Some(revokes);
            let refused = code_of(ask(&bed, &caller, exchange));
            assert_eq!(refused, Some("invalid_grant"), "{id}");
            assert!(MEANWHILE.lock().unwrap_or_else(PoisonError::into_inner).is_none());
        }
    }
    Ok(())
}

fn an_exchanged_token_dies_with_what_is_revoked_above_it(opener: impl Opener) -> Tested {
    let mut bed = Bed::with(opener, settings)?;
    for what in 0..5 {
        for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
            let id = format!("{what} {format:?}");
            let (client, caller) = bed.register(draft(&id).format(format))?;
            let held = access_token(&bed.issue("ann", &client)?);
            let foreign = foreign("ext-ann", &json!({}))?;
            let exchanged =
                [ask(&bed, &caller, own(&held))?, ask(&bed, &caller, id_token(&foreign))?];
            revoke(&bed.authority(), what, &client)?;
            bed.reopen()?;
            for issued in &exchanged {
                let token = access_token(issued);
                assert!(bed.authority().verify_live(&token).wait().is_err(), "{id}");
            }
            assert!(ask(&bed, &caller, own(&held)).is_err(), "{id}");
        }
    }
    // A token that was revoked alone is exchanged no more.
    let (client, caller) = bed.register(draft("last"))?;
    let held = access_token(&bed.issue("ann", &client)?);
    bed.authority().revoke_token(&held, &caller).wait()?;
    assert_eq!(code_of(ask(&bed, &caller, own(&held))), Some("invalid_request"));
    Ok(())
}

fn an_actors_admission_bounds_that_of_the_answer(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    let (client, caller) = bed.register(draft("app").format(TokenFormat::Jwt))?;
    let ben = access_token(&bed.issue("ben", &client)?);
    bed.authority().revoke(Target::Subject("ann")).wait()?;
    // ann is back since, but what derives from before it was is not born.
    let ann = access_token(&bed.issue("ann", &client)?);
    ask(&bed, &caller, own(&ann))?;
    let delegated = own(&ann).actor(&ben, TokenType::AccessToken);
    assert_eq!(code_of(ask(&bed, &caller, delegated)), Some("invalid_grant"));
    let ben = access_token(&bed.issue("ben", &client)?);
    ask(&bed, &caller, own(&ann).actor(&ben, TokenType::AccessToken))?;
    // Nor for an actor that is revoked.
    bed.authority().revoke(Target::Subject("ben")).wait()?;
    let delegated = own(&ann).actor(&ben, TokenType::AccessToken);
    assert_eq!(code_of(ask(&bed, &caller, delegated)), Some("invalid_request"));
    Ok(())
}

fn what_is_no_proper_exchange_is_refused(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    let (_, caller) = bed.register(draft("app"))?;
    let ann = foreign("ext-ann", &json!({}))?;
    let long = "x".repeat(EXCHANGE_TOKEN_LEN_MAX + 1);
    // As long as it may be, and padded: the handler sees it.
    let padded = foreign("ext-ann", &json!({"pad": "x".repeat(6_000)}))?;
    assert!(padded.len() > 8_192 && padded.len() <= EXCHANGE_TOKEN_LEN_MAX);
    ask(&bed, &caller, id_token(&padded))?;
    for wrong in [
        id_token(""),
        id_token(&long),
        id_token(&ann).actor("", TokenType::IdToken),
        id_token(&ann).actor(&long, TokenType::IdToken),
        id_token(&ann).requested("urn:ietf:params:oauth:token-type:refresh_token"),
        id_token(&ann).requested("urn:ietf:params:oauth:token-type:jwt"),
        id_token(&ann).requested("jwt"),
        id_token("mat_x"),
        own("mat_x"),
    ] {
        assert_eq!(code_of(ask(&bed, &caller, wrong)), Some("invalid_request"), "{wrong:?}");
        assert!(!format!("{wrong:?}").contains(&ann));
    }
    for bad in [
        foreign("ann", &json!({}))?,
        foreign("ext-ann", &json!({"exp": START - 60}))?,
        foreign("ext-ann", &json!({"aud": "another"}))?,
        foreign("ext-ann", &json!({"iss": "https://other.example"}))?,
        foreign("ext-ann", &json!({"sub": 7}))?,
        foreign("ext-dan", &json!({"nbf": START + 600}))?,
    ] {
        assert_eq!(code_of(ask(&bed, &caller, id_token(&bad))), Some("invalid_request"));
    }
    let unlisted = foreign("ext-dan", &json!({}))?;
    assert_eq!(code_of(ask(&bed, &caller, id_token(&unlisted))), Some("invalid_grant"));
    assert_eq!(TokenType::from_urn(&format!("{URN}JWT")), Some(TokenType::Jwt));
    assert_eq!(TokenType::from_urn(&format!("{URN}jWt")), Some(TokenType::Jwt));
    for urn in ["", "jwt", URN, &format!("{URN}Access_Token"), &format!("{URN}jwt ")] {
        assert_eq!(TokenType::from_urn(urn), None, "{urn}");
    }
    for kind in [TokenType::AccessToken, TokenType::IdToken, TokenType::Saml2, TokenType::Jwt] {
        assert_eq!(TokenType::from_urn(kind.urn()), Some(kind));
    }
    Ok(())
}

fn an_exchange_in_a_form_is_told_in_the_words_of_its_profile(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, |builder| settings(builder).profile(Profile::Salesforce))?;
    let app = bed.authority().register(draft("app")).wait()?;
    let secret = app.client_secret.ok_or("no secret")?;
    let ann = foreign("ext-ann", &json!({}))?;
    let ask = |pairs: &[(&str, &str)]| {
        let grant = "urn:ietf:params:oauth:grant-type:token-exchange";
        let known =
            [("grant_type", grant), ("client_id", "app"), ("client_secret", secret.expose())];
        let form = TokenForm::from_pairs(known.iter().chain(pairs).copied())?;
        assert!(!format!("{form:?}").contains(&ann));
        let caller = bed.authority().caller(&form.credentials(None, None))?;
        bed.authority().token(&form.request(&caller)?).wait()
    };
    let kind = format!("{URN}JWT");
    let full = [
        ("subject_token", &*ann),
        ("subject_token_type", &*kind),
        ("token_handler", "Idp"),
        ("scope", "api"),
    ];
    let issued = ask(&full)?;
    let told: Value = serde_json::from_str(issued.to_json().expose())?;
    assert_eq!(told["issued_token_type"], format!("{URN}access_token"));
    assert_eq!((&told["scope"], &told["token_type"]), (&json!("api"), &json!("Bearer")));
    let told = |pairs: &[(&str, &str)]| {
        let answer = ask(pairs).err().ok_or("given")?.answer(Profile::Salesforce);
        Ok::<_, Boxed>((answer.code, answer.status, answer.description))
    };
    for pairs in [&full[..1], &full[1..], &[full[0], ("subject_token_type", "jwt")]] {
        assert_eq!(told(pairs)?.0, "invalid_request");
    }
    assert_eq!(told(&[full[0], full[1], ("actor_token_type", &kind)])?.0, "invalid_request");
    assert_eq!(told(&[full[0], full[1], ("actor_token", "x")])?.0, "invalid_request");
    let validation = ("invalid_request", 400, "token handler validation failed");
    assert_eq!(told(&[("subject_token", "x"), full[1]])?, validation);
    assert_eq!(told(&[full[0], full[1], ("token_handler", "None")])?, validation);
    let asks = draft("app").permitted_users(PermittedUsers::SelfAuthorized);
    bed.authority().update_client(asks).wait()?;
    let text = "user hasn't approved this consumer";
    assert_eq!(told(&full)?, ("invalid_grant", 400, text));
    Ok(())
}

#[test]
fn the_example_exchanges_an_id_token_and_makes_its_user() -> Tested {
    let (subject, refused, directory) = example::run()?;
    assert_eq!((&*subject, refused), ("idp|ann", true));
    assert!(directory.has("idp|ann") && !directory.has("idp|ben"));
    Ok(())
}

fn a_bound_token_is_exchanged_by_its_sender_alone(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let (client, caller) = bed.register(
            draft(&format!("{format:?}"))
                .format(format)
                .sender_constraint(SenderConstraint::Certificate),
        )?;
        let issue = Issue::to("ann", &client).bound_to(Confirmation::Certificate([1; 32]));
        let token = access_token(&bed.authority().issue(issue).wait()?);
        let (mine, another) =
            (caller.clone().with_certificate([1; 32]), caller.with_certificate([2; 32]));
        assert_eq!(code_of(ask(&bed, &another, own(&token))), Some("invalid_request"));
        let exchanged = access_token(&ask(&bed, &mine, own(&token))?);
        assert!(bed.authority().verify_live(&exchanged).wait().is_err());
        let shown = Presented::certificate(&exchanged, [1; 32]);
        assert!(bed.authority().verify_live(shown).wait().is_ok());
    }
    Ok(())
}
