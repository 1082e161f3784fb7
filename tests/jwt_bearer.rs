//! Laws of the JWT bearer grant. Assertions are signed by another library, as clients sign them.

mod support;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use mintage::authority::{
    AuthMethod, Builder, Caller, Client, Credentials, Error, GrantType, Issue, Issued,
    PermittedUsers, Profile, Target, TokenForm, TokenFormat, TokenRequest,
};
use mintage::codec::algorithm::Algorithm as Alg;
use mintage::codec::keys::SigningKey;
use mintage::ids::{ClientId, Subject};
use serde_json::{Value, json};
use support::{Bed, Boxed, ISSUER, Opener, START, Tested, access_token, at_once, refresh_token};

laws![
    an_assertion_gives_a_token_of_its_subject,
    a_subject_must_have_approved_the_client,
    what_was_approved_bounds_the_scope,
    what_is_no_proper_assertion_gives_nothing_and_uses_nothing_up,
    an_assertion_is_its_clients_alone,
    an_assertion_expires_and_is_bounded_in_time,
    an_assertion_gives_a_token_once,
    one_of_many_presentations_of_an_assertion_wins,
    a_revocation_ends_what_assertions_gave_and_what_they_would,
    salesforces_clients_are_understood_and_told_in_its_words,
    a_form_with_an_assertion_names_no_client,
];

const ED25519: &str = include_str!("data/ed25519.pk8.pem");
const RSA: &str = include_str!("data/rsa2048.pk8.pem");
const FORM: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// Keys of both algorithms, as a client registers them.
fn jwks() -> Result<String, Boxed> {
    let mut texts = Vec::new();
    for (algorithm, kid, pem) in [(Alg::EdDsa, "ed", ED25519), (Alg::Rs256, "rs", RSA)] {
        let key = SigningKey::from_pem(algorithm, Some(kid), pem)?;
        texts.push(key.verifying_key().public_jwk().ok_or("no public key")?.to_json());
    }
    Ok(format!(r#"{{"keys":[{}]}}"#, texts.join(",")))
}

fn draft(id: &str) -> Result<Client, Boxed> {
    Ok(Client::confidential(id)
        .grants([GrantType::JwtBearer, GrantType::RefreshToken])
        .keys(&jwks()?)
        .scopes(["api", "web", "openid", "refresh_token"]))
}

/// A client that ann has approved for `api` and to refresh.
fn approved<O: Opener>(bed: &Bed<O>, id: &str) -> Result<(ClientId, Caller), Boxed> {
    let (client, caller) = bed.register(draft(id)?)?;
    approve(bed, &client, "ann", "api openid refresh_token")?;
    Ok((client, caller))
}

fn approve<O: Opener>(
    bed: &Bed<O>,
    client: &ClientId,
    subject: &str,
    scope: &str,
) -> Result<Issued, Boxed> {
    Ok(bed.authority().issue(Issue::to(subject, client).scope(scope)).wait()?)
}

fn claims(client: &str, jti: &str) -> Value {
    json!({"iss": client, "sub": "ann", "aud": ISSUER, "jti": jti, "exp": START + 120})
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

fn without(mut claims: Value, name: &str) -> Value {
    if let Some(members) = claims.as_object_mut() {
        members.remove(name);
    }
    claims
}

fn sign(claims: &Value) -> Result<String, Boxed> {
    let key = EncodingKey::from_ed_pem(ED25519.as_bytes())?;
    Ok(encode(&Header::new(Algorithm::EdDSA), claims, &key)?)
}

fn present<O: Opener>(bed: &Bed<O>, assertion: &str) -> Result<Issued, Error> {
    let nobody = Caller::nobody();
    bed.authority().token(&TokenRequest::jwt_bearer(assertion, &nobody)).wait()
}

fn code_of(refused: Result<Issued, Error>) -> Option<&'static str> {
    refused.err().map(|error| error.code())
}

fn an_assertion_gives_a_token_of_its_subject(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt, TokenFormat::SalesforceJwt] {
        let id = format!("{format:?}");
        let (client, secret) = bed.register(draft(&id)?.format(format))?;
        approve(&bed, &client, "ann", "api openid refresh_token")?;
        let rsa = EncodingKey::from_rsa_pem(RSA.as_bytes())?;
        let signed = encode(&Header::new(Algorithm::RS256), &claims(&id, "rs"), &rsa)?;
        for (assertion, caller) in [
            (sign(&claims(&id, "1"))?, Caller::nobody()),
            (signed, Caller::public(&client)),
            (sign(&claims(&id, "2"))?, secret),
        ] {
            let request = TokenRequest::jwt_bearer(&assertion, &caller);
            let issued = bed.authority().token(&request).wait()?;
            assert_eq!((issued.subject.as_str(), &issued.client_id), ("ann", &client));
            assert_eq!(issued.scope.as_str(), "api openid");
            assert!(issued.refresh_token.is_none() && issued.id_token.is_none());
            assert!(bed.is_active(&access_token(&issued), &auditor)?);
        }
    }
    Ok(())
}

fn a_subject_must_have_approved_the_client(opener: impl Opener) -> Tested {
    let mut bed = Bed::with(opener, |builder| {
        builder.approvals(|_: &ClientId, subject: &Subject| subject.as_str() == "ann")
    })?;
    let (client, _) = bed.register(draft("app")?)?;
    let (other, _) = bed.register(draft("other")?)?;
    let n = std::cell::Cell::new(0);
    let fresh = |id: &str| {
        n.set(n.get() + 1);
        sign(&claims(id, &n.get().to_string()))
    };
    assert_eq!(code_of(present(&bed, &fresh("app")?)), Some("invalid_grant"));
    // Neither another client's login counts, nor another subject's, nor one that cannot be refreshed,
    // nor one that is for nothing but to refresh.
    approve(&bed, &other, "ann", "api refresh_token")?;
    approve(&bed, &client, "ben", "api refresh_token")?;
    approve(&bed, &client, "ann", "api")?;
    approve(&bed, &client, "ann", "refresh_token")?;
    assert_eq!(code_of(present(&bed, &fresh("app")?)), Some("invalid_grant"));
    let stands = approve(&bed, &client, "ann", "api refresh_token")?;
    present(&bed, &fresh("app")?)?;
    bed.reopen()?;
    present(&bed, &fresh("app")?)?;
    bed.authority().revoke(Target::Token(&refresh_token(&stands)?)).wait()?;
    assert_eq!(code_of(present(&bed, &fresh("app")?)), Some("invalid_grant"));
    // A login on a device is one, too.
    let issue = Issue::to("ann", &client).scope("api refresh_token").device("phone");
    bed.authority().issue(issue).wait()?;
    present(&bed, &fresh("app")?)?;
    // The owner's word counts for all, and against all.
    for (id, permitted) in [
        ("listed", PermittedUsers::Listed(vec![Subject::new("ann")?])),
        ("admin", PermittedUsers::AdminApproved),
        ("nobody", PermittedUsers::Listed(vec![Subject::new("ben")?])),
    ] {
        bed.register(draft(id)?.permitted_users(permitted))?;
        let given = present(&bed, &fresh(id)?);
        match id {
            "nobody" => assert_eq!(code_of(given), Some("invalid_grant")),
            _ => assert_eq!(given?.scope.as_str(), "api openid web"),
        }
    }
    Ok(())
}

fn what_was_approved_bounds_the_scope(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (client, _) = approved(&bed, "app")?;
    let nobody = Caller::nobody();
    let ask = |scope: &str, jti: &str| {
        let assertion = sign(&claims("app", jti))?;
        let request = TokenRequest::jwt_bearer(&assertion, &nobody).scope(scope);
        Ok::<_, Boxed>(bed.authority().token(&request).wait())
    };
    assert_eq!(ask("api", "1")??.scope.as_str(), "api");
    // What is refused uses nothing up.
    assert_eq!(code_of(ask("web", "2")?), Some("invalid_scope"));
    assert_eq!(code_of(ask("a\"b", "2")?), Some("invalid_scope"));
    assert_eq!(ask("api openid refresh_token", "2")??.scope.as_str(), "api openid");
    // What was approved later, and what was taken from the client since.
    approve(&bed, &client, "ann", "web refresh_token")?;
    assert_eq!(ask("", "3")??.scope.as_str(), "api openid web");
    bed.authority().update_client(draft("app")?.scopes(["web", "refresh_token"])).wait()?;
    assert_eq!(ask("", "4")??.scope.as_str(), "web");
    let assertion = sign(&claims("app", "5"))?;
    let request = TokenRequest::jwt_bearer(&assertion, &nobody).audience("https://other.example");
    assert_eq!(code_of(bed.authority().token(&request).wait()), Some("invalid_target"));
    present(&bed, &assertion)?;
    Ok(())
}

fn what_is_no_proper_assertion_gives_nothing_and_uses_nothing_up(opener: impl Opener) -> Tested {
    let bed =
        Bed::with(opener, |builder| builder.assertion_audiences(["https://as.example/token"]))?;
    let (client, _) = approved(&bed, "app")?;
    let good = || claims("app", "1");
    let mut bad = vec![String::new(), "a.b.c".to_owned(), "x".repeat(9_000)];
    for changed in [
        without(good(), "iss"),
        without(good(), "sub"),
        without(good(), "aud"),
        without(good(), "exp"),
        without(good(), "jti"),
        with(good(), "iss", json!("unknown")),
        with(good(), "iss", json!("\n")),
        with(good(), "sub", json!("")),
        with(good(), "sub", json!("a\nb")),
        with(good(), "sub", json!(7)),
        with(good(), "prn", json!("ann")),
        with(good(), "aud", json!("https://login.example.com/")),
        with(good(), "aud", json!("https://test.example.com")),
        with(good(), "aud", json!([])),
        with(good(), "exp", json!((START + 120).to_string())),
        with(good(), "exp", json!((START + 120) * 1_000)),
        with(good(), "nbf", json!(START + 60)),
        with(good(), "iat", json!(START + 60)),
    ] {
        bad.push(sign(&changed)?);
    }
    // By a key of another algorithm, by the client's secret, by nobody's key, changed by a bit.
    let hmac = EncodingKey::from_secret(&[7; 32]);
    bad.push(encode(&Header::new(Algorithm::HS256), &good(), &hmac)?);
    let p256 = EncodingKey::from_ec_pem(include_bytes!("data/p256.pk8.pem"))?;
    bad.push(encode(&Header::new(Algorithm::ES256), &good(), &p256)?);
    let kid = Header { kid: Some("rs".to_owned()), ..Header::new(Algorithm::EdDSA) };
    let ed = EncodingKey::from_ed_pem(ED25519.as_bytes())?;
    bad.push(encode(&kid, &good(), &ed)?);
    let typ = Header { typ: Some("at+jwt".to_owned()), ..Header::new(Algorithm::EdDSA) };
    bad.push(encode(&typ, &good(), &ed)?);
    let genuine = sign(&good())?;
    for at in [5, genuine.len() / 2, genuine.len() - 10] {
        let mut bytes = genuine.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        bad.push(String::from_utf8(bytes)?);
    }
    for (n, assertion) in bad.iter().enumerate() {
        assert_eq!(code_of(present(&bed, assertion)), Some("invalid_grant"), "{n}");
    }
    present(&bed, &genuine)?;
    present(&bed, &sign(&with(claims("app", "2"), "aud", json!("https://as.example/token")))?)?;
    // Of a client that may not, is blocked, or gives a wrong secret.
    let signing = Client::confidential("signs").authenticates([AuthMethod::PrivateKeyJwt]);
    bed.register(signing.keys(&jwks()?))?;
    assert_eq!(code_of(present(&bed, &sign(&claims("signs", "1"))?)), Some("unauthorized_client"));
    let wrong = Caller::secret(&client, "wrong");
    let third = sign(&claims("app", "3"))?;
    let request = TokenRequest::jwt_bearer(&third, &wrong);
    assert_eq!(code_of(bed.authority().token(&request).wait()), Some("invalid_client"));
    bed.authority().block_client(&client).wait()?;
    assert_eq!(code_of(present(&bed, &third)), Some("invalid_client"));
    Ok(())
}

fn an_assertion_is_its_clients_alone(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    approved(&bed, "app")?;
    let (_, other) = approved(&bed, "other")?;
    let assertion = sign(&claims("app", "1"))?;
    for caller in [Caller::public("other"), Caller::public("\n"), other] {
        let request = TokenRequest::jwt_bearer(&assertion, &caller);
        let refused = code_of(bed.authority().token(&request).wait());
        assert!(matches!(refused, Some("invalid_grant" | "invalid_client")), "{caller:?}");
    }
    present(&bed, &assertion)?;
    Ok(())
}

fn an_assertion_expires_and_is_bounded_in_time(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    approved(&bed, "app")?;
    let ending = |exp: u64, jti: &str| sign(&with(claims("app", jti), "exp", json!(exp)));
    // 300 seconds ahead, and 30 more for clocks that differ.
    present(&bed, &ending(START + 330, "1")?)?;
    assert_eq!(code_of(present(&bed, &ending(START + 331, "2")?)), Some("invalid_grant"));
    let late = ending(START + 120, "3")?;
    bed.clock.advance(149);
    present(&bed, &ending(START + 120, "4")?)?;
    bed.clock.advance(1);
    assert_eq!(code_of(present(&bed, &late)), Some("invalid_grant"));
    let hour = Bed::with(support::Memory::default(), |b| b.jwt_bearer_secs_max(3_600))?;
    approved(&hour, "app")?;
    present(&hour, &ending(START + 3_600, "1")?)?;
    Ok(())
}

fn an_assertion_gives_a_token_once(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    approved(&bed, "app")?;
    let assertion = sign(&claims("app", "1"))?;
    let issued = present(&bed, &assertion)?;
    for _ in 0..2 {
        assert_eq!(code_of(present(&bed, &assertion)), Some("invalid_grant"));
        // The claim counts, not the text.
        let again = sign(&with(claims("app", "1"), "exp", json!(START + 150)))?;
        assert_eq!(code_of(present(&bed, &again)), Some("invalid_grant"));
        bed.reopen()?;
    }
    // The same name is another client's to use, and what was given lives.
    approved(&bed, "other")?;
    present(&bed, &sign(&claims("other", "1"))?)?;
    assert!(bed.authority().verify_live(&access_token(&issued)).wait().is_ok());
    Ok(())
}

fn one_of_many_presentations_of_an_assertion_wins(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    approved(&bed, "app")?;
    let assertion = sign(&claims("app", "1"))?;
    let answers = at_once(|| present(&bed, &assertion));
    assert!(answers.iter().all(|a| matches!(a, Ok(_) | Err(Error::InvalidGrant(_)))));
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    Ok(())
}

fn a_revocation_ends_what_assertions_gave_and_what_they_would(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    for (n, reopened) in [(0, false), (1, true), (2, false), (3, true)] {
        let id = format!("app {n}");
        let (client, _) = approved(&bed, &id)?;
        let issued = present(&bed, &sign(&claims(&id, "1"))?)?;
        let target = match n {
            0 => Target::Subject("ann"),
            1 => Target::Client(&client),
            2 => Target::Pair(&client, "ann"),
            _ => Target::Everything,
        };
        bed.authority().revoke(target).wait()?;
        if reopened {
            bed.reopen()?;
        }
        assert!(bed.authority().verify_live(&access_token(&issued)).wait().is_err(), "{id}");
        // The approval is gone with the login.
        assert_eq!(code_of(present(&bed, &sign(&claims(&id, "2"))?)), Some("invalid_grant"));
    }
    Ok(())
}

fn salesforces_clients_are_understood_and_told_in_its_words(opener: impl Opener) -> Tested {
    fn settings(builder: Builder) -> Builder {
        builder.profile(Profile::Salesforce).assertion_audiences(["https://login.salesforce.com"])
    }
    let bed = Bed::with(opener, settings)?;
    let (client, _) = approved(&bed, "app")?;
    // simple-salesforce: no jti, a time as text; the CLI: a time in milliseconds; older ones: prn.
    let lenient = with(without(claims("app", ""), "jti"), "exp", json!((START + 180).to_string()));
    let lenient = sign(&with(lenient, "aud", json!("https://login.salesforce.com")))?;
    for _ in 0..2 {
        assert_eq!(present(&bed, &lenient)?.scope.as_str(), "api openid");
    }
    present(&bed, &sign(&with(claims("app", "1"), "exp", json!(START * 1_000 + 300)))?)?;
    let both = with(with(claims("app", "2"), "sub", json!("ben")), "prn", json!("ann"));
    assert_eq!(present(&bed, &sign(&both)?)?.subject.as_str(), "ann");

    let told = |assertion: &str| {
        let error = present(&bed, assertion).err().ok_or("given")?;
        let answer = error.answer(Profile::Salesforce);
        Ok::<_, Boxed>((answer.code, answer.status, answer.description))
    };
    let used = sign(&claims("app", "1"))?;
    assert_eq!(told(&used)?, ("bad_jti_claim", 400, "invalid assertion"));
    let ben = sign(&with(claims("app", "3"), "sub", json!("ben")))?;
    assert_eq!(told(&ben)?, ("invalid_grant", 400, "user hasn't approved this consumer"));
    let elsewhere = sign(&with(claims("app", "3"), "aud", json!("https://x.example")))?;
    assert_eq!(told(&elsewhere)?, ("invalid_grant", 400, "audience is invalid"));
    let unknown = sign(&claims("unknown", "3"))?;
    assert_eq!(told(&unknown)?, ("invalid_client_id", 400, "client identifier invalid"));
    let late = sign(&with(claims("app", "3"), "exp", json!(START - 60)))?;
    for bad in ["", "a.b.c", &late] {
        assert_eq!(told(bad)?, ("invalid_grant", 400, "invalid assertion"));
    }
    let listed = draft("listed")?.permitted_users(PermittedUsers::Listed(Vec::new()));
    bed.register(listed)?;
    let refused = told(&sign(&claims("listed", "1"))?)?;
    let text = "user is not admin approved to access this app";
    assert_eq!(refused, ("invalid_app_access", 400, text));
    bed.authority().block_client(&client).wait()?;
    assert_eq!(told(&sign(&claims("app", "4"))?)?.0, "app_blocked");
    Ok(())
}

fn a_form_with_an_assertion_names_no_client(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    approved(&bed, "app")?;
    let assertion = sign(&claims("app", "1"))?;
    let form = TokenForm::from_pairs([("grant_type", FORM), ("assertion", &assertion)])?;
    let caller = bed.authority().caller(&form.credentials(None, None))?;
    let issued = bed.authority().token(&form.request(&caller)?).wait()?;
    assert_eq!(issued.client_id.as_str(), "app");
    assert!(!format!("{form:?} {caller:?}").contains(&assertion));
    assert!(TokenForm::from_pairs([("grant_type", FORM)])?.request(&caller).is_err());
    // Nobody is nobody everywhere else.
    let request = TokenRequest::client_credentials(&caller);
    assert_eq!(code_of(bed.authority().token(&request).wait()), Some("invalid_client"));
    assert!(bed.authority().caller(&Credentials::default()).is_err());
    Ok(())
}
