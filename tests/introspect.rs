//! Laws of introspection.

mod support;

use mintage::authority::{Authority, Client, Error, Introspects, Target, TokenFormat};
use mintage::codec::keys::VerifyingKey;
use mintage::entropy::SeededEntropy;
use mintage::root_key::RootKey;
use serde_json::{Value, json};
use support::{Bed, ISSUER, Opener, START, Tested, access_token, refresh_token};

laws![
    unknown_expired_revoked_foreign_and_hidden_tokens_look_alike,
    a_client_sees_what_it_is_entitled_to,
    a_public_or_unknown_caller_learns_nothing,
    a_hidden_introspection_uses_nothing_up,
    a_refresh_token_is_shown_without_an_access_type,
    a_code_or_garbage_is_inactive,
    a_clock_set_back_changes_no_answer,
    a_signed_answer_is_for_the_one_who_asked,
];

const INACTIVE: &str = r#"{"active":false}"#;

fn unknown_expired_revoked_foreign_and_hidden_tokens_look_alike(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let (_, stranger) = bed.register(Client::confidential("stranger"))?;
    let elsewhere = Authority::builder(ISSUER)
        .clock(std::sync::Arc::clone(&bed.clock))
        .entropy(SeededEntropy::new(99))
        .in_memory(RootKey::from_bytes(1, [8; 32]))?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let draft = || Client::public(format!("{format:?}")).format(format).access_secs(100);
        let (client, _) = bed.register(draft())?;
        let live = access_token(&bed.issue("ann", &client)?);
        let revoked = access_token(&bed.issue("ann", &client)?);
        bed.authority().revoke(Target::Token(&revoked)).wait()?;
        let registered = elsewhere.register(draft()).wait()?;
        let foreign = elsewhere.issue(mintage::authority::Issue::to("ann", &registered.client_id));
        let foreign = access_token(&foreign.wait()?);
        let answer = |token: &str, caller| {
            Ok::<_, Error>(bed.authority().introspect(token, caller).wait()?.to_json())
        };
        assert_ne!(answer(&live, &auditor)?, INACTIVE);
        assert_eq!(answer(&live, &stranger)?, INACTIVE);
        assert_eq!(answer(&revoked, &auditor)?, INACTIVE);
        assert_eq!(answer(&foreign, &auditor)?, INACTIVE);
        assert_eq!(answer(&live[..live.len() - 1], &auditor)?, INACTIVE);
        bed.clock.advance(100);
        assert_eq!(answer(&live, &auditor)?, INACTIVE);
    }
    Ok(())
}

fn a_client_sees_what_it_is_entitled_to(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let id = |name: &str| format!("{name} {format:?}");
        let owner = Client::confidential(id("owner"))
            .scopes(["refresh_token"])
            .format(format)
            .audiences(["urn:a"]);
        let (owner, own) = bed.register(owner)?;
        let server = |name: &str, audience: &str| {
            let client = Client::confidential(id(name)).introspects(Introspects::OwnAndAudience);
            bed.register(client.audiences([audience]))
        };
        let (_, meant) = server("meant", "urn:a")?;
        let (_, other) = server("other", "urn:b")?;
        let all = Client::confidential(id("all")).introspects(Introspects::All);
        let (_, all) = bed.register(all)?;
        let (_, spaced) = bed.register(
            Client::confidential(format!("x urn:a {format:?}"))
                .introspects(Introspects::OwnAndAudience),
        )?;
        let (_, plain) = bed.register(Client::confidential(id("plain")).audiences(["urn:a"]))?;
        let issued = bed.issue("ann", &owner)?;
        let (access, refresh) = (access_token(&issued), refresh_token(&issued)?);
        for (caller, sees_access, sees_refresh) in [
            (&own, true, true),
            (&meant, true, false),
            (&other, false, false),
            (&all, true, true),
            (&plain, false, false),
            (&spaced, false, false),
        ] {
            assert_eq!(bed.is_active(&access, caller)?, sees_access, "{caller:?}");
            assert_eq!(bed.is_active(&refresh, caller)?, sees_refresh, "{caller:?}");
        }
    }
    Ok(())
}

fn a_public_or_unknown_caller_learns_nothing(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (client, public) = bed.app("app", TokenFormat::Opaque)?;
    let token = access_token(&bed.issue("ann", &client)?);
    let unknown = mintage::authority::Caller::secret("nobody", "mcs_x");
    for caller in [&public, &unknown] {
        let refused = bed.authority().introspect(&token, caller).wait();
        assert!(matches!(refused, Err(Error::InvalidClient(_))));
    }
    Ok(())
}

fn a_hidden_introspection_uses_nothing_up(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (_, stranger) = bed.register(Client::confidential("stranger"))?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let (client, caller) = bed.app(&format!("{format:?}"), format)?;
        let first = refresh_token(&bed.issue("ann", &client)?)?;
        let second = bed.refresh(&first, &caller)?;
        assert!(!bed.is_active(&access_token(&second), &stranger)?);
        let again = bed.refresh(&first, &caller)?;
        assert_eq!(refresh_token(&again)?, refresh_token(&second)?);
    }
    Ok(())
}

fn a_refresh_token_is_shown_without_an_access_type(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let client = Client::public("app").scopes(["refresh_token"]);
    let policy = mintage::authority::RefreshPolicy::rotate().idle_secs(0);
    let (client, _) = bed.register(client.refresh(policy))?;
    let token = refresh_token(&bed.issue("ann", &client)?)?;
    let shown = bed.authority().introspect(&token, &auditor).wait()?.to_json();
    let shown: serde_json::Value = serde_json::from_str(&shown)?;
    assert_eq!(shown["active"], true);
    assert_eq!(shown["sub"], "ann");
    assert!(shown.get("token_type").is_none() && shown.get("exp").is_none());
    Ok(())
}

fn a_code_or_garbage_is_inactive(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let long = format!("{}.", "x".repeat(1 << 20));
    for text in ["", ".", "a.b.c", "mat_mintage_AAAA", "mxt_mintage_AAAA", &long, "é\u{0}"] {
        assert!(!bed.is_active(text, &auditor)?);
        assert!(bed.authority().verify_live(text).wait().is_err());
    }
    Ok(())
}

fn a_clock_set_back_changes_no_answer(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let mut tokens = Vec::new();
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let client = Client::public(format!("{format:?}")).format(format).access_secs(1_000);
        let (client, _) = bed.register(client)?;
        tokens.push(access_token(&bed.issue("ann", &client)?));
    }
    let are = |live: bool| -> Tested {
        for token in &tokens {
            assert_eq!(bed.is_active(token, &auditor)?, live);
            assert_eq!(bed.authority().verify_live(token).wait().is_ok(), live);
        }
        Ok(())
    };
    are(true)?;
    bed.clock.set(START - 10_000);
    are(true)?;
    bed.clock.set(START);
    bed.clock.advance(1_061);
    are(false)?;
    // The store judges by a time that goes back by a minute at most.
    bed.clock.set(START);
    are(false)
}

fn a_signed_answer_is_for_the_one_who_asked(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let authority = bed.authority();
    let (client, _) = bed.app("app", TokenFormat::Jwt)?;
    let token = access_token(&bed.issue("ann", &client)?);
    for (token, active) in [(token.as_str(), true), ("garbage", false)] {
        let answer = authority.introspect(token, &auditor).wait()?;
        let jwt = authority.sign_introspection(&answer).wait()?;
        let (input, signature) = jwt.rsplit_once('.').ok_or("no JWT")?;
        let decode = |text: &str| base64_simd::URL_SAFE_NO_PAD.decode_to_vec(text);
        let jwks: Value = serde_json::from_str(&authority.keys().jwks())?;
        let key = VerifyingKey::from_jwk(jwks["keys"][0].to_string().as_bytes())?;
        assert!(key.verify(input.as_bytes(), &decode(signature)?));
        let (header, payload) = input.split_once('.').ok_or("no header")?;
        let header: Value = serde_json::from_slice(&decode(header)?)?;
        assert_eq!(header["typ"], json!("token-introspection+jwt"));
        let said: Value = serde_json::from_slice(&decode(payload)?)?;
        assert_eq!((&said["iss"], &said["aud"]), (&json!(ISSUER), &json!("auditor")));
        assert_eq!((&said["iat"], &said["exp"]), (&json!(START), &Value::Null));
        let told: Value = serde_json::from_str(&answer.to_json())?;
        assert_eq!((&said["token_introspection"], &told["active"]), (&told, &json!(active)));
        // It is no token of any kind.
        assert!(authority.verify_live(&jwt).wait().is_err());
        assert!(!bed.is_active(&jwt, &auditor)?);
    }
    Ok(())
}
