//! Laws of ID tokens from the flows, UserInfo, the identity URL and token responses.

mod support;

use std::collections::BTreeMap;
use std::error::Error;

use mintage::authority::{
    Authority, AuthorizationRequest, Builder, Caller, Client, Endpoints, GrantType, ID_TOKEN_SECS,
    IdentityOptions, Issue, Issued, Login, Profile, RefreshPolicy, Target, TokenFormat,
    TokenRequest, User, Users,
};
use mintage::codec::algorithm::Algorithm;
use mintage::codec::jws::{IdExpected, IdVerifier, Scratch, VerifyError};
use mintage::codec::keyring::Keyring;
use mintage::codec::keys::{SigningKey, VerifyingKey};
use mintage::entropy::SeededEntropy;
use mintage::ids::{ClientId, Subject};
use mintage::store::Store;
use mintage::time::Timestamp;
use ring::hmac;
use serde_json::{Value, json};
use support::{Bed, ISSUER, Opener, START, Tested, access_token, refresh_token};

laws![
    a_code_with_openid_gives_an_id_token_of_the_login,
    a_refresh_gives_an_id_token_of_the_same_login,
    a_retry_has_an_id_token_if_the_refresh_had_one,
    only_openid_and_a_login_give_id_tokens,
    a_login_is_as_old_as_its_host_says,
    what_has_no_room_in_its_id_token_is_not_born,
    an_id_token_says_what_its_client_is_registered_for,
    an_id_token_is_no_access_token,
    a_rotated_key_signs_id_tokens_that_old_ones_stand_beside,
    userinfo_tells_what_the_scope_asks_for,
    userinfo_refuses_what_is_no_live_access_token,
    salesforce_names_users_by_their_identity_url,
    an_identity_url_answers_its_own_user,
    an_identity_url_shows_others_to_those_who_may_see_them,
    an_identity_url_tells_what_the_scope_asks_for,
    every_token_response_has_id_and_instance_url,
    a_salesforce_response_is_signed_with_the_clients_secret,
    metadata_says_what_there_is,
    salesforce_spells_introspection_in_its_own_way,
    the_key_set_holds_public_keys_alone,
];

type Boxed = Box<dyn Error>;

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";
const CB: &str = "https://app.example/cb";

struct Directory;

impl Users for Directory {
    fn user(&self, subject: &Subject) -> Option<User> {
        let text = |text: &str| Some(text.to_owned());
        (subject.as_str() != "ghost").then(|| User {
            username: Some(format!("{subject}@example.com")),
            name: text("Ann \"A\" Lee"),
            given_name: text("Ann"),
            family_name: text("Lee"),
            email: text("ann@example.com"),
            email_verified: true,
            phone_number: text("+1 555"),
            address: BTreeMap::from([("country".to_owned(), "FR".to_owned())]),
            zoneinfo: text("Europe/Paris"),
            locale: text("fr_FR"),
            user_type: text("STANDARD"),
            utc_offset_millis: Some(-28_800_000),
            updated_at: Some(Timestamp(1_277_758_449)),
            custom_attributes: BTreeMap::from([("dept".to_owned(), "7".to_owned())]),
            custom_permissions: BTreeMap::from([("Approve".to_owned(), "true".to_owned())]),
            ..User::default()
        })
    }

    fn may_see(&self, client: &ClientId, viewer: &Subject, seen: &Subject) -> bool {
        client.as_str() == "app" && viewer.as_str() == "ann" && seen.as_str() != "root"
    }
}

fn settings(builder: Builder) -> Builder {
    builder.users(Directory)
}

fn salesforce(builder: Builder) -> Builder {
    let builder = builder.users(Directory).profile(Profile::Salesforce).org("00D1");
    builder.instance_url("https://acme.example/").api_instance_url("https://api.example")
}

const SCOPES: [&str; 9] = [
    "api",
    "openid",
    "profile",
    "email",
    "phone",
    "address",
    "id",
    "custom_permissions",
    "refresh_token",
];

fn draft(id: &str) -> Client {
    Client::public(id)
        .grants([GrantType::AuthorizationCode, GrantType::RefreshToken])
        .redirect_uris([CB])
        .scopes(SCOPES)
}

/// Logs ann in at `at`, and redeems the code.
fn log_in<O: Opener>(
    bed: &Bed<O>,
    caller: &Caller,
    id: &str,
    scope: &str,
    nonce: Option<&str>,
    at: u64,
) -> Result<Issued, Boxed> {
    let authority = bed.authority();
    let request = AuthorizationRequest {
        response_type: Some("code"),
        client_id: Some(id),
        scope: Some(scope),
        code_challenge: Some(CHALLENGE),
        code_challenge_method: Some("S256"),
        nonce,
        ..AuthorizationRequest::default()
    };
    let authorization = authority.authorize(&request)?;
    let login = Login::at("ann", Timestamp(at))?;
    let url = authority.approve(&authorization, &login, scope).wait()?;
    let code = url.expose().split(['=', '&']).nth(1).ok_or("no code")?.to_owned();
    Ok(authority.token(&TokenRequest::code(&code, caller).code_verifier(VERIFIER)).wait()?)
}

fn id_token(issued: &Issued) -> Result<String, Boxed> {
    Ok(issued.id_token.as_ref().ok_or("no ID token")?.expose().to_owned())
}

/// The published keys, as a relying party has them.
fn keyring<S: Store>(authority: &Authority<S>) -> Result<Keyring, Boxed> {
    let jwks: Value = serde_json::from_str(&authority.keys().jwks())?;
    let unused = SigningKey::generate(Algorithm::EdDsa, Some("unused"), &SeededEntropy::new(9))?;
    let mut ring = Keyring::new(unused);
    for jwk in jwks["keys"].as_array().ok_or("no keys")? {
        ring = ring.with_retired(&VerifyingKey::from_jwk(jwk.to_string().as_bytes())?)?;
    }
    Ok(ring)
}

/// The claims of a JWT, whoever signed it.
fn claims(jwt: &str) -> Result<Value, Boxed> {
    let payload = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(support::payload(jwt)?)?;
    Ok(serde_json::from_slice(&payload)?)
}

fn a_code_with_openid_gives_an_id_token_of_the_login(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let id = format!("{format:?}");
        let (_, caller) = bed.register(draft(&id).format(format))?;
        let issued = log_in(&bed, &caller, &id, "openid api", Some("n-1"), START - 50)?;
        let token = id_token(&issued)?;
        let ring = keyring(&bed.authority())?;
        let (mut scratch, access) = (Scratch::new(), access_token(&issued));
        let expected = IdExpected::with_nonce("n-1").max_age_secs(60).access_token(&access);
        let verifier = IdVerifier::new(ISSUER, &id, 0);
        let now = Timestamp(START);
        let seen = verifier.verify(&ring, token.as_bytes(), &expected, now, &mut scratch)?;
        assert_eq!((seen.issuer(), seen.subject()), (ISSUER, "ann"));
        assert_eq!(seen.auth_time(), Some(Timestamp(START - 50)));
        assert_eq!(seen.expires_at(), Timestamp(START + ID_TOKEN_SECS));
        assert!(seen.get("email").is_none(), "UserInfo has the claims");
        // It expires, is bound to its access token and nonce, and is its client's.
        let late = Timestamp(START + ID_TOKEN_SECS);
        let refused = verifier.verify(&ring, token.as_bytes(), &expected, late, &mut scratch);
        assert_eq!(refused.err(), Some(VerifyError::Expired));
        let other = expected.access_token("other");
        let refused = verifier.verify(&ring, token.as_bytes(), &other, now, &mut scratch);
        assert_eq!(refused.err(), Some(VerifyError::WrongHash("at_hash")));
        let theirs = IdVerifier::new(ISSUER, "other", 0);
        let refused = theirs.verify(&ring, token.as_bytes(), &expected, now, &mut scratch);
        assert_eq!(refused.err(), Some(VerifyError::WrongAudience));
        let wire: Value = serde_json::from_str(issued.to_json().expose())?;
        assert_eq!(wire["id_token"], json!(token));
    }
    Ok(())
}

fn a_refresh_gives_an_id_token_of_the_same_login(opener: impl Opener) -> Tested {
    let mut bed = Bed::with(opener, settings)?;
    let fixed = draft("fixed").secret_optional([]).refresh(RefreshPolicy::rotate());
    let (_, caller) = bed.register(fixed)?;
    let kept = Client::confidential("kept")
        .grants([GrantType::AuthorizationCode, GrantType::RefreshToken])
        .redirect_uris([CB])
        .scopes(SCOPES);
    let (_, secret) = bed.register(kept)?;
    for (id, caller) in [("fixed", &caller), ("kept", &secret)] {
        let scope = "openid api refresh_token";
        let mut issued = log_in(&bed, caller, id, scope, Some("n-1"), START - 50)?;
        let first = refresh_token(&issued)?;
        for round in 0..3 {
            bed.clock.advance(100);
            if round == 1 {
                bed.reopen()?;
            }
            let token = issued.refresh_token.as_ref().map_or(&*first, |token| token.expose());
            let again = bed.refresh(token, caller)?;
            let said = claims(&id_token(&again)?)?;
            assert_eq!(said["auth_time"], json!(START - 50), "{id}: of the original login");
            assert_eq!(said["nonce"], Value::Null, "{id}: of the first answer alone");
            assert_eq!((&said["sub"], &said["iss"]), (&json!("ann"), &json!(ISSUER)));
            assert_eq!(said["iat"], json!(again.issued_at.0));
            // Narrowed to no openid, there is none.
            if id == "kept" {
                let narrow = TokenRequest::refresh(&first, caller).scope("api");
                assert!(bed.authority().token(&narrow).wait()?.id_token.is_none());
            }
            issued = again;
        }
    }
    // A lost answer is given again, with its ID token.
    let issued = log_in(&bed, &caller, "fixed", "openid refresh_token", None, START)?;
    let token = refresh_token(&issued)?;
    let (one, two) = (bed.refresh(&token, &caller)?, bed.refresh(&token, &caller)?);
    assert_eq!(one.access_token, two.access_token);
    assert_eq!(claims(&id_token(&one)?)?["at_hash"], claims(&id_token(&two)?)?["at_hash"]);
    // One that had none is given again without.
    let issued = log_in(&bed, &caller, "fixed", "openid api refresh_token", None, START)?;
    let token = refresh_token(&issued)?;
    let narrow = || bed.authority().token(&TokenRequest::refresh(&token, &caller).scope("api"));
    for _ in 0..2 {
        assert!(narrow().wait()?.id_token.is_none());
    }
    Ok(())
}

fn a_retry_has_an_id_token_if_the_refresh_had_one(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, salesforce)?;
    let app = Client::public("app").scopes(["full", "refresh_token"]);
    let (client, caller) = bed.register(app)?;
    // What holds `openid` by another name gets an ID token for asking.
    for (scope, is_told) in [("full", false), ("openid", true), ("api", false)] {
        let token = refresh_token(&bed.issue("ann", &client)?)?;
        let ask = || bed.authority().token(&TokenRequest::refresh(&token, &caller).scope(scope));
        let (one, two) = (ask().wait()?, ask().wait()?);
        assert_eq!(one.access_token, two.access_token);
        for issued in [one, two] {
            assert_eq!(issued.id_token.is_some(), is_told, "{scope}");
        }
    }
    Ok(())
}

fn only_openid_and_a_login_give_id_tokens(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    let (client, caller) = bed.register(draft("app"))?;
    assert!(log_in(&bed, &caller, "app", "api id", None, START)?.id_token.is_none());
    let robot = Client::confidential("robot").scopes(["openid", "api"]);
    let (_, robot) = bed.register(robot)?;
    let issued = bed.authority().token(&TokenRequest::client_credentials(&robot)).wait()?;
    assert_eq!((issued.scope.as_str(), &issued.id_token), ("api openid", &None));
    // What a host issues itself is a login.
    let issue = Issue::to("ann", &client).scope("openid").nonce("n-2");
    let issued = bed.authority().issue(issue).wait()?;
    let said = claims(&id_token(&issued)?)?;
    assert_eq!((&said["nonce"], &said["auth_time"]), (&json!("n-2"), &json!(START)));
    Ok(())
}

fn a_login_is_as_old_as_its_host_says(opener: impl Opener) -> Tested {
    let mut bed = Bed::with(opener, settings)?;
    let (client, caller) = bed.register(draft("app"))?;
    let issue = Issue::to("ann", &client).authenticated_at(Timestamp(START - 500));
    let issued = bed.authority().issue(issue).wait()?;
    bed.clock.advance(100);
    bed.reopen()?;
    let again = bed.refresh(&refresh_token(&issued)?, &caller)?;
    for issued in [issued, again] {
        assert_eq!(claims(&id_token(&issued)?)?["auth_time"], json!(START - 500));
    }
    // One that no token can say is no birth.
    let before = bed.authority().stats().families;
    let issue = Issue::to("ann", &client).authenticated_at(Timestamp(u64::MAX));
    let refused = bed.authority().issue(issue).wait();
    assert_eq!(refused.err().map(|error| error.code()), Some("server_error"));
    assert_eq!(bed.authority().stats().families, before);
    Ok(())
}

fn many(builder: Builder) -> Builder {
    builder.users(|subject: &Subject| {
        let text = match subject.as_str() {
            "big" => "x".repeat(10_000),
            _ => String::new(),
        };
        Some(User { name: Some(text), ..User::default() })
    })
}

fn what_has_no_room_in_its_id_token_is_not_born(opener: impl Opener) -> Tested {
    let mut bed = Bed::with(opener, settings)?;
    for (n, format) in [TokenFormat::Opaque, TokenFormat::Jwt].into_iter().enumerate() {
        let id = format!("app{n}");
        let app = draft(&id).format(format).id_token_claims();
        let (client, caller) = bed.register(app)?;
        bed.settings(settings);
        bed.reopen()?;
        let scope = "openid profile refresh_token";
        let issue =
            |bed: &Bed<_>| bed.authority().issue(Issue::to("big", &client).scope(scope)).wait();
        let token = refresh_token(&issue(&bed)?)?;
        let request = AuthorizationRequest {
            response_type: Some("code"),
            client_id: Some(&id),
            scope: Some(scope),
            code_challenge: Some(CHALLENGE),
            code_challenge_method: Some("S256"),
            ..AuthorizationRequest::default()
        };
        let authorization = bed.authority().authorize(&request)?;
        let login = Login::now("big", &bed.authority())?;
        let url = bed.authority().approve(&authorization, &login, scope).wait()?;
        let code = url.expose().split(['=', '&']).nth(1).ok_or("no code")?;
        let redeem = |bed: &Bed<_>| {
            let redeem = TokenRequest::code(code, &caller).code_verifier(VERIFIER);
            bed.authority().token(&redeem).wait()
        };
        bed.settings(many);
        bed.reopen()?;
        let before = (bed.authority().stats().families, bed.authority().stats().tokens_resident);
        for refused in [issue(&bed), bed.refresh(&token, &caller), redeem(&bed)] {
            assert_eq!(refused.err().map(|error| error.code()), Some("server_error"), "{id}");
        }
        let after = (bed.authority().stats().families, bed.authority().stats().tokens_resident);
        assert_eq!(before, after, "{id}");
        // Nothing was spent: these are first uses, with ID tokens.
        bed.settings(settings);
        bed.reopen()?;
        let narrow = TokenRequest::refresh(&token, &caller).scope("openid");
        assert!(bed.authority().token(&narrow).wait()?.id_token.is_some());
        assert!(redeem(&bed)?.id_token.is_some());
    }
    Ok(())
}

fn an_id_token_says_what_its_client_is_registered_for(opener: impl Opener) -> Tested {
    let mut bed = Bed::with(opener, settings)?;
    let client = draft("app")
        .id_token_secs(600)
        .id_token_audiences(["https://b.example", "app"])
        .id_token_claims()
        .id_token_attributes();
    let (_, caller) = bed.register(client)?;
    bed.reopen()?;
    let issued = log_in(&bed, &caller, "app", "openid email", None, START)?;
    let said = claims(&id_token(&issued)?)?;
    assert_eq!(said["aud"], json!(["app", "https://b.example"]));
    assert_eq!((&said["azp"], &said["exp"]), (&json!("app"), &json!(START + 600)));
    assert_eq!(
        (&said["email"], &said["email_verified"]),
        (&json!("ann@example.com"), &json!(true))
    );
    assert_eq!((&said["name"], &said["address"]), (&Value::Null, &Value::Null));
    assert_eq!(said["custom_attributes"], json!({"dept": "7"}));
    assert_eq!(said["custom_permissions"], Value::Null);
    let scope = "openid profile address phone custom_permissions";
    let said = claims(&id_token(&log_in(&bed, &caller, "app", scope, None, START)?)?)?;
    assert_eq!((&said["name"], &said["email"]), (&json!("Ann \"A\" Lee"), &Value::Null));
    assert_eq!(said["address"], json!({"country": "FR"}));
    assert_eq!(said["phone_number"], json!("+1 555"));
    assert_eq!(said["custom_permissions"], json!({"Approve": "true"}));
    for bad in [0, mintage::authority::ID_TOKEN_SECS_MAX + 1] {
        let refused = bed.authority().register(draft("b").id_token_secs(bad)).wait();
        assert_eq!(refused.err().map(|error| error.code()), Some("invalid_client_metadata"));
    }
    Ok(())
}

fn an_id_token_is_no_access_token(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    let auditor = bed.auditor()?;
    let (_, caller) = bed.register(draft("app").format(TokenFormat::Jwt))?;
    let issued = log_in(&bed, &caller, "app", "openid", None, START)?;
    let token = id_token(&issued)?;
    let authority = bed.authority();
    let mut scratch = mintage::authority::Scratch::new();
    assert!(authority.verify(&token, &mut scratch).is_err());
    assert!(authority.verify_live(&token).wait().is_err());
    assert!(authority.user_info(&token).wait().is_err());
    assert!(!bed.is_active(&token, &auditor)?);
    authority.revoke(Target::Token(&token)).wait()?;
    assert!(bed.is_active(&access_token(&issued), &auditor)?);
    Ok(())
}

fn a_rotated_key_signs_id_tokens_that_old_ones_stand_beside(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    let (_, caller) = bed.register(draft("app"))?;
    let authority = bed.authority();
    let old = id_token(&log_in(&bed, &caller, "app", "openid", None, START)?)?;
    for algorithm in [Algorithm::Es256, Algorithm::Es384] {
        authority.keys().generate(algorithm).wait()?;
        let issued = log_in(&bed, &caller, "app", "openid", None, START)?;
        let (ring, new) = (keyring(&authority)?, id_token(&issued)?);
        let access = access_token(&issued);
        let (verifier, mut scratch) = (IdVerifier::new(ISSUER, "app", 0), Scratch::new());
        let expected = IdExpected::without_nonce();
        for (token, expected) in [(&old, expected), (&new, expected.access_token(&access))] {
            verifier.verify(&ring, token.as_bytes(), &expected, Timestamp(START), &mut scratch)?;
        }
    }
    Ok(())
}

fn userinfo_tells_what_the_scope_asks_for(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let id = format!("{format:?}");
        // Its tokens are meant for others; UserInfo is the authority's own.
        let draft = draft(&id).format(format).audiences(["https://api.example"]);
        let (_, caller) = bed.register(draft)?;
        let told = |scope: &str| -> Result<Value, Boxed> {
            let issued = log_in(&bed, &caller, &id, scope, None, START)?;
            let info = bed.authority().user_info(&access_token(&issued)).wait()?;
            let mut out = b"kept".to_vec();
            info.write_json(&mut out);
            assert_eq!(out, format!("kept{}", info.to_json()).into_bytes());
            Ok(serde_json::from_str(&info.to_json())?)
        };
        assert_eq!(told("openid")?, json!({"sub": "ann"}));
        assert_eq!(
            told("openid email phone address")?,
            json!({
                "sub": "ann", "email": "ann@example.com", "email_verified": true,
                "phone_number": "+1 555", "phone_number_verified": false,
                "address": {"country": "FR"},
            })
        );
        assert_eq!(
            told("openid profile")?,
            json!({
                "sub": "ann", "name": "Ann \"A\" Lee", "given_name": "Ann", "family_name": "Lee",
                "preferred_username": "ann@example.com", "zoneinfo": "Europe/Paris",
                "locale": "fr_FR", "updated_at": 1_277_758_449,
            })
        );
    }
    Ok(())
}

fn userinfo_refuses_what_is_no_live_access_token(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    let (client, caller) = bed.register(draft("app"))?;
    let refused = |token: &str| {
        bed.authority().user_info(token).wait().err().map(|error| (error.code(), error.status()))
    };
    let issued = log_in(&bed, &caller, "app", "openid refresh_token", None, START)?;
    let dead = Some(("invalid_token", 401));
    for token in ["", "x", "a.b.c", &refresh_token(&issued)?] {
        assert_eq!(refused(token), dead, "{token}");
    }
    let narrow = log_in(&bed, &caller, "app", "api profile", None, START)?;
    assert_eq!(refused(&access_token(&narrow)), Some(("insufficient_scope", 403)));
    let ghost = Issue::to("ghost", &client).scope("openid");
    let ghost = bed.authority().issue(ghost).wait()?;
    assert_eq!(refused(&access_token(&ghost)), dead);
    let token = access_token(&issued);
    assert_eq!(refused(&token), None);
    bed.authority().revoke(Target::Subject("ann")).wait()?;
    assert_eq!(refused(&token), dead);
    let issued = log_in(&bed, &caller, "app", "openid", None, START)?;
    bed.clock.advance(mintage::authority::OPAQUE_SECS);
    assert_eq!(refused(&access_token(&issued)), dead);
    Ok(())
}

fn salesforce_names_users_by_their_identity_url(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, salesforce)?;
    let (_, caller) = bed.register(draft("app"))?;
    let issued = log_in(&bed, &caller, "app", "openid api", None, START)?;
    let url = format!("{ISSUER}/id/00D1/ann");
    assert_eq!(claims(&id_token(&issued)?)?["sub"], json!(url));
    let info = bed.authority().user_info(&access_token(&issued)).wait()?.to_json();
    let info: Value = serde_json::from_str(&info)?;
    for (name, wanted) in [
        ("sub", json!(url)),
        ("user_id", json!("ann")),
        ("organization_id", json!("00D1")),
        ("preferred_username", json!("ann@example.com")),
        ("email", json!("ann@example.com")),
        ("active", json!(true)),
        ("utcOffset", json!(-28_800_000)),
        ("custom_attributes", json!({"dept": "7"})),
        ("custom_permissions", Value::Null),
    ] {
        assert_eq!(info[name], wanted, "{name}");
    }
    assert_eq!(info["urls"]["rest"], json!("https://acme.example/services/data/v{version}/"));
    assert_eq!(info["urls"]["profile"], json!("https://acme.example/ann"));
    // The right to see who it is comes with other scopes, too; with none of them it does not.
    for (scope, open) in [("id", true), ("api", true), ("refresh_token", false)] {
        let issued = log_in(&bed, &caller, "app", scope, None, START)?;
        let told = bed.authority().user_info(&access_token(&issued)).wait();
        assert_eq!(told.is_ok(), open, "{scope}");
    }
    Ok(())
}

fn an_identity_url_answers_its_own_user(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, salesforce)?;
    let (_, caller) = bed.register(draft("app"))?;
    let issued = log_in(&bed, &caller, "app", "id", None, START)?;
    let token = access_token(&issued);
    let authority = bed.authority();
    let ask = |org: &str, user: &str, token: &str, version| {
        authority.identity(org, user, token, IdentityOptions { version }).wait()
    };
    let told: Value = serde_json::from_str(&ask("00D1", "ann", &token, Some("63.0"))?.to_json())?;
    for (name, wanted) in [
        ("id", json!(issued.id)),
        ("asserted_user", json!(true)),
        ("user_id", json!("ann")),
        ("organization_id", json!("00D1")),
        ("username", json!("ann@example.com")),
        ("display_name", json!("Ann \"A\" Lee")),
        ("first_name", json!("Ann")),
        ("timezone", json!("Europe/Paris")),
        ("last_modified_date", json!("2010-06-28T20:54:09.000+0000")),
        ("custom_permissions", Value::Null),
    ] {
        assert_eq!(told[name], wanted, "{name}");
    }
    let rest = |told: &Value| told["urls"]["enterprise"].clone();
    assert_eq!(rest(&told), json!("https://acme.example/services/Soap/c/63.0/00D1"));
    let bad: Value = serde_json::from_str(&ask("00D1", "ann", &token, Some("6\"/x"))?.to_json())?;
    assert_eq!(rest(&bad), json!("https://acme.example/services/Soap/c/{version}/00D1"));
    for (org, user, token, wanted) in [
        ("00D2", "ann", &*token, ("Wrong_Org", 403)),
        ("00D1", "ann", "x", ("INVALID_SESSION_ID", 401)),
        ("00D1", "bob", &token, ("insufficient_scope", 403)),
        ("00D1", "\u{1}", &token, ("Bad_Id", 404)),
    ] {
        let refused = ask(org, user, token, None).err().ok_or("answered")?;
        let answer = refused.answer(Profile::Salesforce);
        assert_eq!((answer.code, answer.status), wanted, "{org} {user}");
    }
    authority.revoke(Target::Token(&token)).wait()?;
    assert_eq!(ask("00D1", "ann", &token, None).err().map(|e| e.code()), Some("invalid_token"));
    Ok(())
}

fn an_identity_url_shows_others_to_those_who_may_see_them(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, salesforce)?;
    let (_, app) = bed.register(draft("app"))?;
    let (_, other) = bed.register(draft("other"))?;
    let seen = |caller: &Caller, id: &str, scope: &str, user: &str| -> Result<_, Boxed> {
        let token = access_token(&log_in(&bed, caller, id, scope, None, START)?);
        let options = IdentityOptions::default();
        let told = bed.authority().identity("00D1", user, &token, options).wait();
        Ok(told.map(|told| told.is_own()).map_err(|error| error.code()))
    };
    assert_eq!(seen(&app, "app", "api", "bob")?, Ok(false));
    assert_eq!(seen(&app, "app", "api", "ann")?, Ok(true));
    assert_eq!(seen(&app, "app", "api", "root")?, Err("access_denied"));
    assert_eq!(seen(&app, "app", "api", "ghost")?, Err("access_denied"));
    assert_eq!(seen(&app, "app", "id", "bob")?, Err("insufficient_scope"));
    assert_eq!(seen(&other, "other", "api", "bob")?, Err("access_denied"));
    Ok(())
}

fn an_identity_url_tells_what_the_scope_asks_for(opener: impl Opener) -> Tested {
    let mut bed = Bed::with(opener, salesforce)?;
    let (_, app) = bed.register(draft("app"))?;
    let ask = |bed: &Bed<_>, scope: &str| -> Result<Result<Value, &str>, Boxed> {
        let token = access_token(&log_in(bed, &app, "app", scope, None, START)?);
        let (authority, options) = (bed.authority(), IdentityOptions::default());
        let org = authority.identity_url(&Subject::new("ann")?);
        let org = org.rsplit('/').nth(1).ok_or("no organisation")?.to_owned();
        match authority.identity(&org, "ann", &token, options).wait() {
            Ok(told) => Ok(Ok(serde_json::from_str(&told.to_json())?)),
            Err(error) => Ok(Err(error.code())),
        }
    };
    for (scope, is_told) in [
        ("refresh_token", false),
        ("custom_permissions", false),
        ("id", true),
        ("email", true),
        ("api", true),
        ("openid", true),
    ] {
        let told = ask(&bed, scope)?;
        let wanted = if is_told { Ok(json!("ann@example.com")) } else { Err("insufficient_scope") };
        assert_eq!(told.map(|told| told["email"].clone()), wanted, "{scope}");
    }
    bed.settings(settings);
    bed.reopen()?;
    for (scope, wanted) in [
        ("refresh_token", Err("insufficient_scope")),
        ("email", Err("insufficient_scope")),
        ("api", Ok((false, false))),
        ("openid", Ok((false, false))),
        ("openid email", Ok((false, true))),
        ("openid profile", Ok((true, false))),
        ("openid profile email", Ok((true, true))),
    ] {
        let told = ask(&bed, scope)?;
        let told = told.map(|told| {
            assert_eq!(told["user_id"], json!("ann"));
            assert_eq!(told["username"].is_string(), told["last_modified_date"].is_string());
            assert_eq!(told["email"].is_string(), told["email_verified"].is_boolean());
            (told["username"].is_string(), told["email"].is_string())
        });
        assert_eq!(told, wanted, "{scope}");
    }
    Ok(())
}

fn every_token_response_has_id_and_instance_url(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    let (_, app) = bed.register(draft("app"))?;
    let (_, robot) = bed.register(Client::confidential("ro bot").scopes(["api"]))?;
    let issued = log_in(&bed, &app, "app", "api refresh_token", None, START)?;
    let refreshed = bed.refresh(&refresh_token(&issued)?, &app)?;
    let own = bed.authority().token(&TokenRequest::client_credentials(&robot)).wait()?;
    for (issued, user) in [(&issued, "ann"), (&refreshed, "ann"), (&own, "ro%20bot")] {
        let mut out = Vec::new();
        issued.write_json(&mut out);
        let wire: Value = serde_json::from_slice(&out)?;
        assert_eq!(wire["id"], json!(format!("{ISSUER}/id/mintage/{user}")));
        assert_eq!(wire["instance_url"], json!(ISSUER));
        assert_eq!((&wire["token_type"], &wire["expires_in"]), (&json!("Bearer"), &json!(7_200)));
        for absent in ["issued_at", "signature", "token_format", "id_token"] {
            assert_eq!(wire[absent], Value::Null, "{absent}");
        }
    }
    Ok(())
}

fn a_salesforce_response_is_signed_with_the_clients_secret(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, salesforce)?;
    let client = Client::confidential("robot").scopes(["api"]).run_as("ann");
    let registered = bed.authority().register(client.clone()).wait()?;
    let secret = registered.client_secret.ok_or("no secret")?;
    let caller = Caller::secret("robot", secret.expose());
    let wire = |caller: &Caller| -> Result<Value, Boxed> {
        let request = TokenRequest::client_credentials(caller);
        let issued = bed.authority().token(&request).wait()?;
        let told: Value = serde_json::from_str(issued.to_json().expose())?;
        // Secrets that were chosen could be tried on it.
        let signature = told["signature"].as_str().ok_or("no signature")?;
        assert!(!format!("{issued:?}").contains(signature));
        Ok(told)
    };
    let told = wire(&caller)?;
    let issued_at = told["issued_at"].as_str().ok_or("no text")?;
    assert_eq!(issued_at, format!("{START}000"));
    let message = format!("{ISSUER}/id/00D1/ann{issued_at}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    let wanted = base64_simd::STANDARD.encode_to_string(hmac::sign(&key, message.as_bytes()));
    assert_eq!(told["signature"], json!(wanted));
    assert_eq!(told["expires_in"], json!(7_200), "always");
    assert_eq!(told["token_format"], json!("opaque"));
    assert_eq!(told["api_instance_url"], Value::Null);
    bed.authority().update_client(client.format(TokenFormat::Jwt)).wait()?;
    let told = wire(&caller)?;
    assert_eq!(told["token_format"], json!("jwt"));
    assert_eq!(told["api_instance_url"], json!("https://api.example"));
    // Who has no secret can check no signature.
    let (_, app) = bed.register(draft("app"))?;
    let issued = log_in(&bed, &app, "app", "api", None, START)?;
    let told: Value = serde_json::from_str(issued.to_json().expose())?;
    assert_eq!((told["issued_at"].is_string(), &told["signature"]), (true, &Value::Null));
    Ok(())
}

fn metadata_says_what_there_is(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    let metadata = bed.authority().metadata();
    assert_eq!(
        metadata.openid_configuration_url(),
        format!("{ISSUER}/.well-known/openid-configuration")
    );
    let told: Value = serde_json::from_str(&metadata.to_json())?;
    for (name, wanted) in [
        ("issuer", json!(ISSUER)),
        ("token_endpoint", json!(format!("{ISSUER}/services/oauth2/token"))),
        ("jwks_uri", json!(format!("{ISSUER}/id/keys"))),
        ("registration_endpoint", json!(format!("{ISSUER}/services/oauth2/register"))),
        ("register_endpoint", Value::Null),
        ("response_types_supported", json!(["code"])),
        ("subject_types_supported", json!(["public"])),
        ("id_token_signing_alg_values_supported", json!(["EdDSA"])),
        ("code_challenge_methods_supported", json!(["S256"])),
        ("authorization_response_iss_parameter_supported", json!(true)),
        (
            "grant_types_supported",
            json!([
                "authorization_code",
                "client_credentials",
                "refresh_token",
                BEARER,
                DEVICE,
                EXCHANGE
            ]),
        ),
        (
            "introspection_endpoint_auth_methods_supported",
            json!([
                "client_secret_basic",
                "client_secret_post",
                "client_secret_jwt",
                "private_key_jwt",
                "self_signed_tls_client_auth"
            ]),
        ),
    ] {
        assert_eq!(told[name], wanted, "{name}");
    }
    bed.authority().keys().generate(Algorithm::Es256).wait()?;
    let told: Value = serde_json::from_str(&bed.authority().metadata().to_json())?;
    assert_eq!(told["id_token_signing_alg_values_supported"], json!(["ES256", "EdDSA"]));
    Ok(())
}

#[test]
fn well_known_urls_have_the_path_of_the_issuer_where_it_belongs() -> Tested {
    for (issuer, openid, oauth) in [
        (
            "https://a.example",
            "https://a.example/.well-known/openid-configuration",
            "https://a.example/.well-known/oauth-authorization-server",
        ),
        (
            "https://a.example/site/x",
            "https://a.example/site/x/.well-known/openid-configuration",
            "https://a.example/.well-known/oauth-authorization-server/site/x",
        ),
    ] {
        let metadata = Authority::builder(issuer).in_memory(support::root())?.metadata();
        assert_eq!(metadata.openid_configuration_url(), openid);
        assert_eq!(metadata.authorization_server_url(), oauth);
    }
    let builder = Authority::builder(ISSUER).profile(Profile::Salesforce);
    let mut endpoints = Endpoints::below("https://b.example/");
    endpoints.authorization = None;
    let metadata = builder.endpoints(endpoints).in_memory(support::root())?.metadata();
    let told: Value = serde_json::from_str(&metadata.to_json())?;
    assert_eq!(told["register_endpoint"], json!("https://b.example/services/oauth2/register"));
    assert_eq!(told["authorization_endpoint"], Value::Null);
    assert_eq!(told["response_types_supported"], json!([]));
    assert_eq!(
        told["grant_types_supported"],
        json!(["client_credentials", "refresh_token", BEARER, DEVICE, EXCHANGE])
    );
    Ok(())
}

fn the_key_set_holds_public_keys_alone(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    let authority = bed.authority();
    for algorithm in [Algorithm::Es384, Algorithm::Hs256, Algorithm::Es256] {
        authority.keys().generate(algorithm).wait()?;
    }
    let set: Value = serde_json::from_str(&authority.keys().jwks())?;
    let keys = set["keys"].as_array().ok_or("no keys")?;
    let algorithms: Vec<&Value> = keys.iter().map(|key| &key["alg"]).collect();
    assert_eq!(algorithms, ["ES256", "ES384", "EdDSA"]);
    for key in keys {
        assert_eq!(
            (&key["d"], &key["k"], &key["use"]),
            (&Value::Null, &Value::Null, &json!("sig"))
        );
    }
    Ok(())
}

fn salesforce_spells_introspection_in_its_own_way(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, salesforce)?;
    let auditor = bed.auditor()?;
    let (_, caller) = bed.register(draft("app"))?;
    let issued = log_in(&bed, &caller, "app", "api refresh_token", None, START)?;
    let told = |token: &str| -> Result<Value, Boxed> {
        let mut out = Vec::new();
        bed.authority().introspect(token, &auditor).wait()?.write_json(&mut out);
        Ok(serde_json::from_slice(&out)?)
    };
    let access = told(&access_token(&issued))?;
    for (name, wanted) in [
        ("active", json!(true)),
        ("token_type", json!("access_token")),
        ("sub", json!(format!("{ISSUER}/id/00D1/ann"))),
        ("username", json!("ann@example.com")),
        ("client_id", json!("app")),
        ("scope", json!("api refresh_token")),
        ("iat", json!(START)),
        ("nbf", json!(START)),
        ("exp", json!(START + 7_200)),
    ] {
        assert_eq!(access[name], wanted, "{name}");
    }
    assert_eq!(told(&refresh_token(&issued)?)?["token_type"], json!("refresh_token"));
    assert_eq!(told("x")?, json!({"active": false}));
    Ok(())
}
