//! Laws of client authentication. Assertions are signed by another library, as clients sign them.

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier, LazyLock};

use base64_simd::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use mintage::authority::{
    Answer, AuthMethod, Builder, Caller, Client, Credentials, Error, JWT_BEARER, KeySource,
    KeyTable, OpenError, Profile, RETIRED_SECRET_SECS, TokenFormat, TokenRequest,
};
use mintage::codec::algorithm::Algorithm as Alg;
use mintage::codec::jwk_set::JwkSet;
use mintage::codec::keys::SigningKey;
use mintage::entropy::SeededEntropy;
use mintage::root_key::RootKey;
use mintage::store::{DurableOptions, Store as _, StoreError};
use mintage::time::ManualClock;
use serde_json::{Value, json};
use support::{Bed, ISSUER, Opener, START, Tested, access_token, refresh_token};

laws![
    a_secret_opens_in_the_header_and_in_the_body,
    a_chosen_secret_is_slow_once_in_a_process,
    two_secrets_open_while_one_follows_the_other,
    a_leaked_secret_is_replaced_at_once,
    a_secret_that_has_ended_stays_ended_when_the_clock_is_put_back,
    a_secret_opens_without_the_root_key_of_the_one_before,
    an_assertion_of_every_algorithm_opens_once,
    a_used_assertion_stays_used_after_reopening,
    wrong_assertions_close_a_client_to_assertions_of_their_address,
    what_is_no_proper_assertion_is_refused_and_uses_nothing_up,
    a_client_opens_only_as_it_was_registered,
    a_shared_secret_signs_assertions,
    keys_of_the_host_change_under_a_client,
    keys_set_by_hand_hold_at_once,
    a_certificate_opens_for_its_client_alone,
    one_of_many_uses_of_an_assertion_wins,
    one_client_does_not_fill_the_room_of_all,
    an_assertion_introspects_and_revokes,
    refused_callers_look_alike,
    salesforce_has_its_own_order_and_words,
];

const ED25519: &str = include_str!("data/ed25519.pk8.pem");
const RSA: &str = include_str!("data/rsa2048.pk8.pem");
const P256: &str = include_str!("data/p256.pk8.pem");
const P384: &str = include_str!("data/p384.pk8.pem");

fn token<O: Opener>(bed: &Bed<O>, caller: &Caller) -> Result<String, Error> {
    let request = TokenRequest::client_credentials(caller);
    Ok(access_token(&bed.authority().token(&request).wait()?))
}

fn is_refused<O: Opener>(bed: &Bed<O>, caller: &Caller) -> bool {
    matches!(token(bed, caller), Err(Error::InvalidClient(_)))
}

/// The public JWK Set of private keys.
fn jwks(keys: &[(Alg, &str, &str)]) -> Result<String, Box<dyn std::error::Error>> {
    let mut texts = Vec::new();
    for (algorithm, kid, pem) in keys {
        let key = SigningKey::from_pem(*algorithm, Some(kid), pem)?;
        texts.push(key.verifying_key().public_jwk().ok_or("no public key")?.to_json());
    }
    Ok(format!(r#"{{"keys":[{}]}}"#, texts.join(",")))
}

fn ed25519() -> Result<String, Box<dyn std::error::Error>> {
    jwks(&[(Alg::EdDsa, "ed", ED25519)])
}

fn signing_client(id: &str, keys: &str) -> Client {
    Client::confidential(id).authenticates([AuthMethod::PrivateKeyJwt]).keys(keys)
}

/// The claims of a proper assertion of `client`.
fn claims(client: &str, jti: &str) -> Value {
    json!({"iss": client, "sub": client, "aud": ISSUER, "jti": jti, "exp": START + 60, "iat": START})
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

fn sign(claims: &Value) -> Result<Caller, Box<dyn std::error::Error>> {
    let key = EncodingKey::from_ed_pem(ED25519.as_bytes())?;
    Ok(Caller::assertion(encode(&Header::new(Algorithm::EdDSA), claims, &key)?))
}

fn a_secret_opens_in_the_header_and_in_the_body(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let registered = bed.authority().register(Client::confidential("a b")).wait()?;
    let secret = registered.client_secret.ok_or("no secret")?.expose().to_owned();
    let header = |id: &str, secret: &str| {
        format!("Basic {}", STANDARD.encode_to_string(format!("{id}:{secret}")))
    };
    for header in [header("a b", &secret), header("a+b", &secret), header("a%20b", &secret)] {
        let credentials = Credentials { authorization: Some(&header), ..Credentials::default() };
        token(&bed, &bed.authority().caller(&credentials)?)?;
        let named = Credentials { client_id: Some("a b"), ..credentials };
        token(&bed, &bed.authority().caller(&named)?)?;
        let both = Credentials { client_secret: Some(&secret), ..named };
        assert!(matches!(bed.authority().caller(&both), Err(Error::InvalidRequest(_))));
    }
    let body = Credentials {
        client_id: Some("a b"),
        client_secret: Some(&secret),
        ..Credentials::default()
    };
    token(&bed, &bed.authority().caller(&body)?)?;
    assert!(!format!("{body:?}{:?}", bed.authority().caller(&body)?).contains(&secret));
    let wrong = Credentials { client_secret: Some("mcs_guess"), ..body };
    assert!(is_refused(&bed, &bed.authority().caller(&wrong)?));
    // Identifiers with the characters of the encoding: sent as RFC 6749 has it, or raw.
    for id in ["a+c", "100%", "a%20d"] {
        let (_, registered) = (id, bed.authority().register(Client::confidential(id)).wait()?);
        let secret = registered.client_secret.ok_or("no secret")?.expose().to_owned();
        let encoded = id.replace('%', "%25").replace('+', "%2B");
        for spelling in [id, &encoded] {
            let header = header(spelling, &secret);
            let credentials =
                Credentials { authorization: Some(&header), ..Credentials::default() };
            for client_id in [None, Some(id)] {
                let named = Credentials { client_id, ..credentials };
                token(&bed, &bed.authority().caller(&named)?)?;
            }
            let other = Credentials { client_id: Some("a b"), ..credentials };
            assert!(matches!(bed.authority().caller(&other), Err(Error::InvalidRequest(_))));
        }
    }
    // The decoded reading goes first: another client's name opens nothing.
    bed.register(Client::confidential("a c"))?;
    let taken = header("a+c", &secret);
    let credentials = Credentials { authorization: Some(&taken), ..Credentials::default() };
    assert!(is_refused(&bed, &bed.authority().caller(&credentials)?));
    // Raw and form-encoded spellings of a chosen secret open alike.
    bed.authority().register(Client::confidential("raw").secret("50% + tax = 1/2")).wait()?;
    for spelling in ["50% + tax = 1/2", "50%25+%2B+tax+%3D+1%2F2"] {
        let header = header("raw", spelling);
        let credentials = Credentials { authorization: Some(&header), ..Credentials::default() };
        token(&bed, &bed.authority().caller(&credentials)?)?;
    }
    Ok(())
}

fn a_chosen_secret_is_slow_once_in_a_process(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let client = Client::confidential("old").secret("correct horse");
    assert!(bed.authority().register(client).wait()?.client_secret.is_none());
    let (right, wrong) =
        (Caller::secret("old", "correct horse"), Caller::secret("old", "battery staple"));
    for _ in 0..2 {
        assert!(bed.authority().is_slow(&right) && bed.authority().is_slow(&wrong));
        assert!(is_refused(&bed, &wrong));
        assert!(bed.authority().is_slow(&right));
        token(&bed, &right)?;
        assert!(!bed.authority().is_slow(&right) && !bed.authority().is_slow(&wrong));
        assert!(is_refused(&bed, &wrong));
        assert!(is_refused(&bed, &Caller::secret("old", "correct horse\0")));
        token(&bed, &right)?;
        bed.reopen()?;
    }
    let (_, generated) = bed.register(Client::confidential("new"))?;
    assert!(!bed.authority().is_slow(&generated));
    assert!(!bed.authority().is_slow(&Caller::secret("nobody", "correct horse")));
    Ok(())
}

fn two_secrets_open_while_one_follows_the_other(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let (client, first) = bed.register(Client::confidential("reports"))?;
    let invalid = |refused: Option<Error>| matches!(refused, Some(Error::InvalidRequest(_)));
    assert!(invalid(bed.authority().promote_secret(&client).wait().err()));
    assert!(invalid(bed.authority().drop_staged_secret(&client).wait().err()));
    assert!(invalid(bed.authority().drop_retired_secret(&client).wait().err()));
    let stage = |bed: &Bed<_>| {
        let secret = bed.authority().stage_secret(&client).wait()?;
        Ok::<_, Error>(Caller::secret(&client, secret.expose()))
    };
    let second = stage(&bed)?;
    assert!(invalid(stage(&bed).err()));
    assert!(invalid(bed.authority().drop_retired_secret(&client).wait().err()));
    bed.reopen()?;
    token(&bed, &first)?;
    token(&bed, &second)?;
    bed.authority().promote_secret(&client).wait()?;
    assert!(invalid(bed.authority().promote_secret(&client).wait().err()));
    bed.reopen()?;
    bed.clock.advance(RETIRED_SECRET_SECS - 1);
    token(&bed, &first)?;
    assert!(invalid(stage(&bed).err()));
    bed.clock.advance(1);
    assert!(is_refused(&bed, &first));
    // Its place is free again.
    let third = stage(&bed)?;
    bed.authority().promote_secret(&client).wait()?;
    token(&bed, &second)?;
    assert!(invalid(bed.authority().drop_staged_secret(&client).wait().err()));
    bed.authority().drop_retired_secret(&client).wait()?;
    bed.reopen()?;
    assert!(is_refused(&bed, &second) && is_refused(&bed, &first));
    token(&bed, &third)?;
    let (app, _) = bed.app("app", TokenFormat::Opaque)?;
    assert!(invalid(bed.authority().stage_secret(&app).wait().err()));
    let nobody = mintage::ids::ClientId::new("nobody")?;
    let refused = bed.authority().stage_secret(&nobody).wait();
    assert!(matches!(refused, Err(Error::InvalidClient(_))));
    Ok(())
}

fn a_secret_that_has_ended_stays_ended_when_the_clock_is_put_back(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let client = Client::confidential("reports")
        .authenticates([AuthMethod::ClientSecret, AuthMethod::ClientSecretJwt]);
    let registered = bed.authority().register(client).wait()?;
    let old = registered.client_secret.ok_or("no secret")?.expose().to_owned();
    bed.authority().stage_secret(&registered.client_id).wait()?;
    bed.authority().promote_secret(&registered.client_id).wait()?;
    let sent = Caller::secret(&registered.client_id, &*old);
    token(&bed, &sent)?;
    // A clock is believed back by a minute.
    bed.clock.advance(RETIRED_SECRET_SECS + 60);
    assert!(is_refused(&bed, &sent));
    for jti in ["1", "2"] {
        bed.clock.set(START + 10);
        assert!(is_refused(&bed, &sent));
        let key = EncodingKey::from_secret(old.as_bytes());
        let text = encode(&Header::new(Algorithm::HS256), &claims("reports", jti), &key)?;
        assert!(is_refused(&bed, &Caller::assertion(text)));
        bed.reopen()?;
    }
    Ok(())
}

fn a_leaked_secret_is_replaced_at_once(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let (client, first) = bed.register(Client::confidential("reports"))?;
    let staged = bed.authority().stage_secret(&client).wait()?;
    let fresh = bed.authority().replace_secret(&client).wait()?;
    for _ in 0..2 {
        assert!(is_refused(&bed, &first));
        assert!(is_refused(&bed, &Caller::secret(&client, staged.expose())));
        token(&bed, &Caller::secret(&client, fresh.expose()))?;
        bed.reopen()?;
    }
    let (app, _) = bed.app("app", TokenFormat::Opaque)?;
    let refused = bed.authority().replace_secret(&app).wait();
    assert!(matches!(refused, Err(Error::InvalidRequest(_))));
    Ok(())
}

fn a_secret_opens_without_the_root_key_of_the_one_before(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let (client, first) = bed.register(Client::confidential("reports"))?;
    bed.root = bed.root.clone().with_version(2, [8; 32])?;
    bed.reopen()?;
    let staged = bed.authority().stage_secret(&client).wait()?;
    let staged = Caller::secret(&client, staged.expose());
    token(&bed, &first)?;
    bed.root = RootKey::from_bytes(2, [8; 32]);
    bed.reopen()?;
    assert!(is_refused(&bed, &first));
    token(&bed, &staged)?;
    Ok(())
}

fn an_assertion_of_every_algorithm_opens_once(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let keys = jwks(&[
        (Alg::Rs256, "rs", RSA),
        (Alg::Ps256, "ps", RSA),
        (Alg::Es256, "p256", P256),
        (Alg::Es384, "p384", P384),
        (Alg::EdDsa, "ed", ED25519),
    ])?;
    let registered = bed.authority().register(signing_client("reports", &keys)).wait()?;
    assert!(registered.client_secret.is_none());
    let rsa = EncodingKey::from_rsa_pem(RSA.as_bytes())?;
    for (algorithm, kid, key) in [
        (Algorithm::RS256, "rs", &rsa),
        (Algorithm::PS256, "ps", &rsa),
        (Algorithm::ES256, "p256", &EncodingKey::from_ec_pem(P256.as_bytes())?),
        (Algorithm::ES384, "p384", &EncodingKey::from_ec_pem(P384.as_bytes())?),
        (Algorithm::EdDSA, "ed", &EncodingKey::from_ed_pem(ED25519.as_bytes())?),
    ] {
        for (n, kid) in [None, Some(kid.to_owned())].into_iter().enumerate() {
            let header = Header { kid, ..Header::new(algorithm) };
            let text = encode(&header, &claims("reports", &format!("{algorithm:?}{n}")), key)?;
            token(&bed, &Caller::assertion(&*text))?;
            assert!(is_refused(&bed, &Caller::assertion(&*text)), "{algorithm:?}");
        }
    }
    Ok(())
}

fn a_used_assertion_stays_used_after_reopening(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    bed.register(signing_client("reports", &ed25519()?))?;
    let used = sign(&claims("reports", "1"))?;
    token(&bed, &used)?;
    for _ in 0..2 {
        bed.reopen()?;
        assert!(is_refused(&bed, &used));
        // The claim counts, not the text.
        assert!(is_refused(&bed, &sign(&with(claims("reports", "1"), "exp", json!(START + 90)))?));
    }
    token(&bed, &sign(&claims("reports", "2"))?)?;
    Ok(())
}

fn wrong_assertions_close_a_client_to_assertions_of_their_address(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let client = signing_client("reports", &ed25519()?);
    bed.register(client.authenticates([AuthMethod::PrivateKeyJwt, AuthMethod::ClientSecret]))?;
    let here = |caller: Caller| -> Result<_, Box<dyn std::error::Error>> {
        Ok(token(&bed, &caller.from_address("192.0.2.1".parse()?)))
    };
    let proper = |jti: &str| sign(&claims("reports", jti));
    // What is signed with a secret is nothing that the client proves itself with.
    let key = EncodingKey::from_secret(b"a guess of thirty-two bytes, 32!");
    for n in 0..20 {
        let text = encode(&Header::new(Algorithm::HS256), &claims("reports", "a"), &key)?;
        assert!(matches!(here(Caller::assertion(text))?, Err(Error::InvalidClient(_))) || n > 10);
    }
    here(proper("1")?)??;
    // Nor is a secret an assertion.
    for _ in 0..11 {
        assert!(here(Caller::secret("reports", "wrong"))?.is_err());
    }
    for n in 0..11 {
        let elsewhere = with(claims("reports", &format!("b{n}")), "aud", json!("https://other"));
        assert!(matches!(here(sign(&elsewhere)?)?, Err(Error::InvalidClient(_))));
    }
    assert!(matches!(here(proper("2")?)?, Err(Error::TooManyRequests(..))));
    token(&bed, &proper("2")?)?;
    bed.clock.advance(1);
    here(proper("3")?)??;
    Ok(())
}

fn what_is_no_proper_assertion_is_refused_and_uses_nothing_up(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, |builder| {
        builder.assertion_audiences(["https://login.example.com/token"]).assertion_secs_max(300)
    })?;
    bed.register(signing_client("reports", &ed25519()?))?;
    bed.register(signing_client("other", &jwks(&[(Alg::Es256, "p256", P256)])?))?;
    let proper = || claims("reports", "the one");
    let refused = [
        ("issuer", with(proper(), "iss", json!("other"))),
        ("unknown issuer", with(with(proper(), "iss", json!("nobody")), "sub", json!("nobody"))),
        ("subject", with(proper(), "sub", json!("ann"))),
        ("audience", with(proper(), "aud", json!("https://login.example.com/"))),
        ("audience in another case", with(proper(), "aud", json!("https://LOGIN.example.com"))),
        ("audiences", with(proper(), "aud", json!(["https://elsewhere.example", ""]))),
        ("expired", with(proper(), "exp", json!(START - 30))),
        ("expires too late", with(proper(), "exp", json!(START + 331))),
        ("in milliseconds", with(proper(), "exp", json!((START + 60) * 1_000))),
        ("exp as text", with(proper(), "exp", json!((START + 60).to_string()))),
        ("exp as exponent", with(proper(), "exp", json!(1.8e10))),
        ("exp negative", with(proper(), "exp", json!(-1))),
        ("exp null", with(proper(), "exp", Value::Null)),
        ("aud null", with(proper(), "aud", Value::Null)),
        ("aud empty", with(proper(), "aud", json!([]))),
        ("aud of numbers", with(proper(), "aud", json!([1, ISSUER]))),
        ("jti number", with(proper(), "jti", json!(7))),
        ("jti empty", with(proper(), "jti", json!(""))),
        ("iat text", with(proper(), "iat", json!("now"))),
        ("nbf ahead", with(proper(), "nbf", json!(START + 31))),
        ("iat ahead", with(proper(), "iat", json!(START + 31))),
        ("no iss", without(proper(), "iss")),
        ("no sub", without(proper(), "sub")),
        ("no aud", without(proper(), "aud")),
        ("no exp", without(proper(), "exp")),
        ("no jti", without(proper(), "jti")),
    ];
    for (what, claims) in &refused {
        assert!(is_refused(&bed, &sign(claims)?), "{what}");
    }
    let ed = EncodingKey::from_ed_pem(ED25519.as_bytes())?;
    let header = |typ: &str| Header { typ: Some(typ.to_owned()), ..Header::new(Algorithm::EdDSA) };
    let named = |kid: &str| Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::EdDSA) };
    let mut texts = vec![
        ("typ", encode(&header("at+jwt"), &proper(), &ed)?),
        ("kid", encode(&named("of nobody"), &proper(), &ed)?),
        ("long kid", encode(&named(&"k".repeat(65)), &proper(), &ed)?),
        ("another key", {
            let key = EncodingKey::from_ec_pem(P256.as_bytes())?;
            encode(&Header::new(Algorithm::ES256), &proper(), &key)?
        }),
        ("the public key as a secret", {
            let public = ed25519()?;
            let key = EncodingKey::from_secret(public.as_bytes());
            encode(&Header::new(Algorithm::HS256), &proper(), &key)?
        }),
        ("empty", String::new()),
        ("long", format!("{}.a.b", "A".repeat(9_000))),
        ("dots", "...".to_owned()),
    ];
    let genuine = encode(&Header::new(Algorithm::EdDSA), &proper(), &ed)?;
    let (signed, signature) = genuine.rsplit_once('.').ok_or("no signature")?;
    let payload = signed.split_once('.').ok_or("no payload")?.1;
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "EdDSA", "crit": ["b64"], "b64": false}),
        json!({"alg": "EdDSA", "jwk": {"kty": "OKP"}}),
        json!({"alg": "EdDSA", "jku": "https://evil.example"}),
        json!({"alg": "EdDSA", "x5u": "https://evil.example"}),
        json!({"alg": ["EdDSA"]}),
        json!({"typ": "JWT"}),
    ] {
        let header = URL_SAFE_NO_PAD.encode_to_string(header.to_string());
        texts.push(("header", format!("{header}.{payload}.{signature}")));
        texts.push(("unsigned", format!("{header}.{payload}.")));
    }
    texts.push(("padded", format!("{genuine}=")));
    texts.push(("cut", signed.to_owned()));
    texts.push(("twice", format!("{genuine}.{signature}")));
    for (what, text) in &texts {
        assert!(is_refused(&bed, &Caller::assertion(&**text)), "{what}");
    }
    // Not one changed character opens.
    for at in (0..genuine.len()).step_by(7) {
        let mut bytes = genuine.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let bent = String::from_utf8(bytes)?;
        assert!(bent == genuine || is_refused(&bed, &Caller::assertion(bent)), "at {at}");
    }
    let other = Credentials {
        client_id: Some("other"),
        client_assertion_type: Some(JWT_BEARER),
        client_assertion: Some(&genuine),
        ..Credentials::default()
    };
    assert!(is_refused(&bed, &bed.authority().caller(&other)?));
    // None of them used the one up.
    let own = Credentials { client_id: Some("reports"), ..other };
    token(&bed, &bed.authority().caller(&own)?)?;
    for (what, claims) in [
        ("token endpoint", with(proper(), "aud", json!("https://login.example.com/token"))),
        ("several", with(proper(), "aud", json!(["https://elsewhere.example", ISSUER]))),
        ("fraction", with(proper(), "exp", json!(START as f64 + 60.5))),
        ("late", with(proper(), "exp", json!(START - 29))),
        ("early", with(proper(), "nbf", json!(START + 30))),
        ("long", with(proper(), "exp", json!(START + 330))),
        ("more", with(proper(), "extra", json!({"a": [1, {"b": null}]}))),
    ] {
        token(&bed, &sign(&with(claims, "jti", json!(what)))?)?;
    }
    let untyped = Header { typ: None, ..Header::new(Algorithm::EdDSA) };
    for header in [untyped, header("jwt"), header("client-authentication+jwt")] {
        let text = encode(&header, &claims("reports", &format!("{:?}", header.typ)), &ed)?;
        token(&bed, &Caller::assertion(text))?;
    }
    Ok(())
}

fn a_client_opens_only_as_it_was_registered(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    bed.register(signing_client("signs", &ed25519()?))?;
    let (_, secret) = bed.register(Client::confidential("secret"))?;
    bed.app("public", TokenFormat::Opaque)?;
    let client = Client::confidential("both")
        .authenticates([AuthMethod::ClientSecret, AuthMethod::PrivateKeyJwt])
        .keys(&ed25519()?);
    let (_, both) = bed.register(client)?;
    for refused in [
        Caller::public("signs"),
        Caller::secret("signs", ""),
        Caller::secret("signs", "mcs_guess"),
        Caller::certificate("signs", [1; 32]),
        Caller::public("secret"),
        sign(&claims("secret", "1"))?,
        sign(&claims("public", "1"))?,
        Caller::certificate("secret", [1; 32]),
        Caller::public("both"),
    ] {
        assert!(is_refused(&bed, &refused), "{refused:?}");
    }
    token(&bed, &sign(&claims("signs", "1"))?)?;
    token(&bed, &secret)?;
    token(&bed, &both)?;
    token(&bed, &sign(&claims("both", "1"))?)?;
    // An access token is no assertion, whoever signed it.
    bed.authority().keys().import(SigningKey::from_pem(Alg::EdDsa, Some("ed"), ED25519)?).wait()?;
    let (app, _) = bed.app("app", TokenFormat::Jwt)?;
    let access = access_token(&bed.issue("signs", &app)?);
    assert!(is_refused(&bed, &Caller::assertion(access)));
    Ok(())
}

fn a_shared_secret_signs_assertions(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let client = Client::confidential("reports")
        .authenticates([AuthMethod::ClientSecretJwt, AuthMethod::ClientSecret]);
    let registered = bed.authority().register(client).wait()?;
    let secret = registered.client_secret.ok_or("no secret")?;
    let sign = |secret: &str, jti: &str| {
        let key = EncodingKey::from_secret(secret.as_bytes());
        let header = Header { kid: Some("any".to_owned()), ..Header::new(Algorithm::HS256) };
        Ok::<_, jsonwebtoken::errors::Error>(Caller::assertion(encode(
            &header,
            &claims("reports", jti),
            &key,
        )?))
    };
    token(&bed, &sign(secret.expose(), "1")?)?;
    bed.reopen()?;
    assert!(is_refused(&bed, &sign(secret.expose(), "1")?));
    token(&bed, &sign(secret.expose(), "2")?)?;
    token(&bed, &Caller::secret("reports", secret.expose()))?;
    let staged = bed.authority().stage_secret(&registered.client_id).wait()?;
    token(&bed, &sign(secret.expose(), "3")?)?;
    token(&bed, &sign(staged.expose(), "4")?)?;
    bed.authority().drop_staged_secret(&registered.client_id).wait()?;
    assert!(is_refused(&bed, &sign(staged.expose(), "5")?));
    // A client that only sends its secret cannot sign with it.
    let (_, _) = bed.register(Client::confidential("sends"))?;
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    let text = encode(&Header::new(Algorithm::HS256), &claims("sends", "1"), &key)?;
    assert!(is_refused(&bed, &Caller::assertion(text)));
    let short = Client::confidential("short")
        .authenticates([AuthMethod::ClientSecretJwt])
        .secret("x".repeat(31));
    let refused = bed.authority().register(short).wait();
    assert!(matches!(refused, Err(Error::InvalidClientMetadata(_))));
    Ok(())
}

/// A host that fetches: it knows of newer keys only when it is asked about one that it lacks.
struct Fetching {
    asked: AtomicU32,
    old: JwkSet,
    new: JwkSet,
}

impl KeySource for Fetching {
    fn keys(&self, _: &str, unknown_kid: Option<&str>) -> Option<Arc<JwkSet>> {
        let newer = unknown_kid.is_some() || self.asked.load(Ordering::SeqCst) > 0;
        if unknown_kid.is_some() {
            self.asked.fetch_add(1, Ordering::SeqCst);
        }
        Some(Arc::new(if newer { self.new.clone() } else { self.old.clone() }))
    }
}

#[test]
fn keys_that_change_under_one_name_are_asked_for_again() -> Tested {
    let other = SigningKey::generate(Alg::EdDsa, Some("ed"), &SeededEntropy::new(9))?;
    let other = other.public_jwk().ok_or("no public key")?.to_json();
    let source = Arc::new(Fetching {
        asked: AtomicU32::new(0),
        old: JwkSet::parse(format!(r#"{{"keys":[{other}]}}"#).as_bytes())?,
        new: JwkSet::parse(ed25519()?.as_bytes())?,
    });
    let builder = mintage::authority::Authority::builder(ISSUER).clock(ManualClock::at(START));
    let authority = builder.key_source(Arc::clone(&source)).in_memory(support::root())?;
    let client = |id: &str| Client::confidential(id).authenticates([AuthMethod::PrivateKeyJwt]);
    authority.register(client("hosted").hosted_keys()).wait()?;
    authority.register(client("registered").keys(&jwks(&[(Alg::Es256, "ed", P256)])?)).wait()?;
    let named = |id: &str, jti: &str| {
        let header = Header { kid: Some("ed".to_owned()), ..Header::new(Algorithm::EdDSA) };
        let key = EncodingKey::from_ed_pem(ED25519.as_bytes())?;
        let text = encode(&header, &claims(id, jti), &key)?;
        Ok::<_, jsonwebtoken::errors::Error>(Caller::assertion(text))
    };
    let opens =
        |caller: &Caller| authority.token(&TokenRequest::client_credentials(caller)).wait().is_ok();
    assert!(!opens(&named("registered", "0")?));
    assert_eq!(source.asked.load(Ordering::SeqCst), 0);
    assert!(opens(&named("hosted", "1")?) && opens(&named("hosted", "2")?));
    assert_eq!(source.asked.load(Ordering::SeqCst), 1);
    Ok(())
}

static TABLE: LazyLock<Arc<KeyTable>> = LazyLock::new(Arc::default);

fn keys_of_the_host_change_under_a_client(opener: impl Opener) -> Tested {
    fn hosted(builder: Builder) -> Builder {
        let set = |keys: &[(Alg, &str, &str)]| {
            let set = jwks(keys).and_then(|text| Ok(JwkSet::parse(text.as_bytes())?));
            set.unwrap_or_default()
        };
        builder.key_source(Fetching {
            asked: AtomicU32::new(0),
            old: set(&[(Alg::Es256, "old", P256)]),
            new: set(&[(Alg::EdDsa, "new", ED25519)]),
        })
    }
    let bed = Bed::with(opener, hosted)?;
    let client = |id: &str| {
        Client::confidential(id).authenticates([AuthMethod::PrivateKeyJwt]).hosted_keys()
    };
    bed.register(client("fetched"))?;
    let old = |jti: &str| {
        let header = Header { kid: Some("old".to_owned()), ..Header::new(Algorithm::ES256) };
        let key = EncodingKey::from_ec_pem(P256.as_bytes())?;
        Ok::<_, jsonwebtoken::errors::Error>(Caller::assertion(encode(
            &header,
            &claims("fetched", jti),
            &key,
        )?))
    };
    token(&bed, &old("1")?)?;
    // Signed with a key that nobody has heard of yet.
    token(&bed, &sign(&claims("fetched", "2"))?)?;
    assert!(is_refused(&bed, &old("3")?));
    Ok(())
}

fn keys_set_by_hand_hold_at_once(opener: impl Opener) -> Tested {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let bed = Bed::with(opener, |builder| builder.key_source(Arc::clone(&TABLE)))?;
    // The table is one for all stores.
    let id = format!("by hand {}", NEXT.fetch_add(1, Ordering::SeqCst));
    let client =
        Client::confidential(&*id).authenticates([AuthMethod::PrivateKeyJwt]).hosted_keys();
    bed.register(client)?;
    assert!(is_refused(&bed, &sign(&claims(&id, "1"))?));
    TABLE.set(&*id, JwkSet::parse(ed25519()?.as_bytes())?);
    token(&bed, &sign(&claims(&id, "1"))?)?;
    TABLE.set(&*id, JwkSet::parse(jwks(&[(Alg::Es256, "p256", P256)])?.as_bytes())?);
    assert!(is_refused(&bed, &sign(&claims(&id, "2"))?));
    Ok(())
}

fn a_certificate_opens_for_its_client_alone(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let client = |id: &str, thumbprints: &[[u8; 32]]| {
        Client::confidential(id)
            .authenticates([AuthMethod::SelfSignedTls])
            .certificates(thumbprints.iter().copied())
    };
    bed.register(client("one", &[[1; 32], [2; 32]]))?;
    bed.register(client("two", &[[3; 32]]))?;
    bed.reopen()?;
    token(&bed, &Caller::certificate("one", [1; 32]))?;
    token(&bed, &Caller::certificate("one", [2; 32]))?;
    for refused in [
        Caller::certificate("one", [3; 32]),
        Caller::certificate("two", [1; 32]),
        Caller::public("one"),
        Caller::secret("one", "mcs_guess").with_certificate([1; 32]),
    ] {
        assert!(is_refused(&bed, &refused), "{refused:?}");
    }
    let credentials = Credentials {
        client_id: Some("two"),
        certificate: Some([3; 32]),
        ..Credentials::default()
    };
    token(&bed, &bed.authority().caller(&credentials)?)?;
    Ok(())
}

fn one_of_many_uses_of_an_assertion_wins(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    bed.register(signing_client("reports", &ed25519()?))?;
    let caller = sign(&claims("reports", "1"))?;
    let barrier = Barrier::new(64);
    let won = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..64)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    token(&bed, &caller)
                })
            })
            .collect();
        let answers: Vec<_> = threads.into_iter().filter_map(|t| t.join().ok()).collect();
        assert!(answers.iter().all(|a| matches!(a, Ok(_) | Err(Error::InvalidClient(_)))));
        answers.iter().filter(|answer| answer.is_ok()).count()
    });
    assert_eq!(won, 1);
    Ok(())
}

fn one_client_does_not_fill_the_room_of_all(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, |builder| builder.assertions_max(3))?;
    bed.register(signing_client("eager", &ed25519()?))?;
    bed.register(signing_client("calm", &ed25519()?))?;
    for n in 0..3 {
        token(&bed, &sign(&claims("eager", &n.to_string()))?)?;
    }
    let refused = token(&bed, &sign(&claims("eager", "3"))?);
    assert!(matches!(refused, Err(Error::TemporarilyUnavailable(StoreError::Busy))));
    token(&bed, &sign(&claims("calm", "0"))?)?;
    // Its room comes back when its assertions have expired.
    bed.clock.advance(60 + 30 + 300);
    for _ in 0..64 {
        bed.authority().store().sweep(mintage::time::Clock::read(&*bed.clock))?;
    }
    token(&bed, &sign(&with(claims("eager", "3"), "exp", json!(START + 600)))?)?;
    assert_eq!(bed.authority().stats().used, 1);
    Ok(())
}

#[test]
fn room_comes_back_without_a_sweep_of_the_host() -> Tested {
    let opener = support::Memory::default();
    let bed = Bed::with(opener, |builder| builder.durable(DurableOptions::default().used_max(4)))?;
    for id in ["eager", "calm"] {
        bed.register(signing_client(id, &ed25519()?))?;
    }
    let assertion =
        |id: &str, n: u64, exp: u64| sign(&with(claims(id, &n.to_string()), "exp", json!(exp)));
    for n in 0..2 {
        token(&bed, &assertion("eager", n, START + 60)?)?;
    }
    let busy = |refused| matches!(refused, Err(Error::TemporarilyUnavailable(StoreError::Busy)));
    assert!(busy(token(&bed, &assertion("eager", 2, START + 60)?)));
    token(&bed, &assertion("calm", 0, START + 60)?)?;
    bed.clock.advance(60 + 30 + 300);
    for n in 3..5 {
        token(&bed, &assertion("eager", n, START + 900)?)?;
    }
    Ok(())
}

#[test]
fn an_authority_that_could_remember_no_assertion_is_refused() {
    let builder = mintage::authority::Authority::builder(ISSUER).assertions_max(0);
    let refused = builder.in_memory(RootKey::from_bytes(1, [7; 32]));
    assert!(matches!(refused, Err(OpenError::Setting(_))));
}

fn an_assertion_introspects_and_revokes(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let client = signing_client("reports", &ed25519()?).scopes(["api", "refresh_token"]);
    let (client, _) = bed.register(client)?;
    let issued = bed.issue("ann", &client)?;
    let (access, caller) = (access_token(&issued), sign(&claims("reports", "1"))?);
    assert!(bed.authority().introspect(&access, &caller).wait()?.is_active());
    let again = bed.authority().introspect(&access, &caller).wait();
    assert!(matches!(again, Err(Error::InvalidClient(_))));
    let refreshed = bed.refresh(&refresh_token(&issued)?, &sign(&claims("reports", "2"))?)?;
    bed.authority().revoke_token(&access, &sign(&claims("reports", "3"))?).wait()?;
    assert!(!bed.is_active(&access, &bed.auditor()?)?);
    assert!(refreshed.expires_in > 0);
    Ok(())
}

fn refused_callers_look_alike(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    bed.register(Client::confidential("reports"))?;
    bed.register(signing_client("signs", &ed25519()?))?;
    let used = sign(&claims("signs", "1"))?;
    token(&bed, &used)?;
    let wanted =
        Answer { code: "invalid_client", status: 401, description: "client authentication failed" };
    for refused in [
        Caller::secret("nobody", "mcs_guess"),
        Caller::secret("reports", "mcs_guess"),
        Caller::public("reports"),
        Caller::public("a\nb"),
        Caller::assertion("x"),
        sign(&claims("nobody", "1"))?,
        used,
    ] {
        let error = token(&bed, &refused).err().ok_or("it opened")?;
        assert_eq!(error.answer(Profile::Standard), wanted, "{refused:?}");
    }
    Ok(())
}

fn salesforce_has_its_own_order_and_words(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, |builder| builder.profile(Profile::Salesforce))?;
    assert_eq!(bed.authority().profile(), Profile::Salesforce);
    let client = Client::confidential("reports").run_as("robot");
    let registered = bed.authority().register(client).wait()?;
    let secret = registered.client_secret.ok_or("no secret")?;
    bed.register(signing_client("signs", &ed25519()?).run_as("robot"))?;
    let header = format!("Basic {}", STANDARD.encode_to_string("reports:wrong"));
    let credentials = Credentials {
        authorization: Some(&header),
        client_id: Some("reports"),
        client_secret: Some(secret.expose()),
        client_assertion_type: Some(JWT_BEARER),
        client_assertion: Some("x.y.z"),
        ..Credentials::default()
    };
    // The body wins over the header, a secret over an assertion.
    token(&bed, &bed.authority().caller(&credentials)?)?;
    let text_date = with(claims("signs", "1"), "exp", json!((START + 60).to_string()));
    let used = sign(&text_date)?;
    token(&bed, &used)?;
    let without_secret = Credentials { client_secret: None, ..credentials };
    let cases = [
        (Caller::secret("nobody", "x"), "invalid_client_id", "client identifier invalid"),
        (bed.authority().caller(&without_secret)?, "invalid_client", "invalid client credentials"),
        (used, "bad_jti_claim", "invalid client credentials"),
    ];
    for (caller, code, description) in cases {
        let error = token(&bed, &caller).err().ok_or("it opened")?;
        let wanted = Answer { code, status: 400, description };
        assert_eq!(error.answer(bed.authority().profile()), wanted);
    }
    let broken = Credentials { authorization: Some("Basic ?"), ..Credentials::default() };
    let error = bed.authority().caller(&broken).err().ok_or("it opened")?;
    assert_eq!(error.answer(Profile::Salesforce).code, "invalid_basic_auth_header");
    let odd = Credentials {
        client_assertion_type: Some("saml"),
        client_assertion: Some("x"),
        ..Credentials::default()
    };
    let error = bed.authority().caller(&odd).err().ok_or("it opened")?;
    assert_eq!(error.answer(Profile::Salesforce).code, "invalid_assertion_type");
    assert_eq!(error.code(), "invalid_client");
    Ok(())
}
