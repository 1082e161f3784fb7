//! Laws of refreshing.

mod support;

use mintage::authority::{
    Client, Error, GrantType, RefreshPolicy, Scratch, TokenFormat, TokenRequest,
};
use support::{Bed, Opener, Tested, access_token, payload, refresh_token};

laws![
    rotation_spends_the_presented_token,
    replayed_refresh_token_kills_its_family,
    a_replay_that_asks_for_too_much_is_a_replay_all_the_same,
    an_access_token_does_not_outlive_its_login,
    replay_is_judged_at_once_under_cap_zero,
    another_clients_refresh_token_has_no_effect,
    a_retry_gives_the_same_answer_with_less_time_left,
    a_retry_after_the_cap_is_a_replay,
    a_retry_ends_with_the_first_use_of_its_successor,
    a_retry_with_another_request_kills_nothing,
    fixed_refresh_token_stays,
    scope_and_audience_narrow_at_a_refresh,
    idle_and_absolute_limits_end_a_family,
    what_is_no_refresh_token_is_refused,
    the_grant_type_is_needed,
    many_refreshes_are_answered_each_for_itself,
];

fn many_refreshes_are_answered_each_for_itself(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (client, caller) = bed.app("app", TokenFormat::Opaque)?;
    let (ann, ben) = (bed.issue("ann", &client)?, bed.issue("ben", &client)?);
    let tokens = [refresh_token(&ann)?, refresh_token(&ben)?, "no token".to_owned()];
    // The first one again: a retry of what stands before it in the batch.
    let asked = [&tokens[0], &tokens[1], &tokens[2], &tokens[0]];
    let answers =
        bed.authority().token_many(asked.map(|token| TokenRequest::refresh(token, &caller))).wait();
    assert!(is_invalid_grant(&answers[2]));
    let of = |n: usize| answers[n].as_ref().map_err(|error| format!("{error:?}"));
    assert_eq!((of(0)?.family, of(1)?.family), (ann.family, ben.family));
    assert_eq!(refresh_token(of(3)?)?, refresh_token(of(0)?)?);
    Ok(())
}

fn is_invalid_grant<T>(answer: &Result<T, Error>) -> bool {
    matches!(answer, Err(Error::InvalidGrant(_)))
}

fn rotation_spends_the_presented_token(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let (client, caller) = bed.app(&format!("{format:?}"), format)?;
        let first = bed.issue("ann", &client)?;
        let second = bed.refresh(&refresh_token(&first)?, &caller)?;
        assert_ne!(refresh_token(&second)?, refresh_token(&first)?);
        assert_eq!((second.family, second.grant), (first.family, first.grant));
        assert_eq!(second.scope, first.scope);
        assert!(!bed.is_active(&refresh_token(&first)?, &auditor)?);
        for token in [refresh_token(&second)?, access_token(&second), access_token(&first)] {
            assert!(bed.is_active(&token, &auditor)?);
        }
        if format == TokenFormat::Jwt {
            let authority = bed.authority();
            let mut scratch = Scratch::new();
            assert_eq!(authority.verify(&access_token(&second), &mut scratch)?.subject(), "ann");
        }
    }
    Ok(())
}

fn replayed_refresh_token_kills_its_family(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let (client, caller) = bed.app("app", TokenFormat::Opaque)?;
    let first = bed.issue("ann", &client)?;
    let other = bed.issue("ann", &client)?;
    let second = bed.refresh(&refresh_token(&first)?, &caller)?;
    let third = bed.refresh(&refresh_token(&second)?, &caller)?;
    assert!(is_invalid_grant(&bed.refresh(&refresh_token(&first)?, &caller)));
    for _ in 0..2 {
        for issued in [&first, &second, &third] {
            assert!(!bed.is_active(&access_token(issued), &auditor)?);
            assert!(!bed.is_active(&refresh_token(issued)?, &auditor)?);
            assert!(is_invalid_grant(&bed.refresh(&refresh_token(issued)?, &caller)));
        }
        assert!(bed.is_active(&refresh_token(&other)?, &auditor)?);
        bed.reopen()?;
    }
    Ok(())
}

fn a_replay_that_asks_for_too_much_is_a_replay_all_the_same(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (client, caller) = bed.app("app", TokenFormat::Opaque)?;
    for scope in ["nosuch", "mal\"formed"] {
        let first = bed.issue("ann", &client)?;
        let second = bed.refresh(&refresh_token(&first)?, &caller)?;
        let third = bed.refresh(&refresh_token(&second)?, &caller)?;
        let spent = refresh_token(&first)?;
        let request = TokenRequest::refresh(&spent, &caller).scope(scope);
        assert!(is_invalid_grant(&bed.authority().token(&request).wait()));
        assert!(is_invalid_grant(&bed.refresh(&refresh_token(&third)?, &caller)));
        // The token in force is not spent by a scope that cannot be had.
        let fresh = refresh_token(&bed.issue("ann", &client)?)?;
        let request = TokenRequest::refresh(&fresh, &caller).scope(scope);
        let refused = bed.authority().token(&request).wait();
        assert!(matches!(refused, Err(Error::InvalidScope(_))));
        bed.refresh(&fresh, &caller)?;
    }
    Ok(())
}

fn an_access_token_does_not_outlive_its_login(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let client = Client::public(format!("short {format:?}"))
            .scopes(["api", "refresh_token"])
            .format(format)
            .access_secs(3_600)
            .refresh(RefreshPolicy::rotate().absolute_secs(1_000));
        let (client, caller) = bed.register(client)?;
        let first = bed.issue("ann", &client)?;
        assert_eq!(first.expires_in, 1_000);
        bed.clock.advance(400);
        let second = bed.refresh(&refresh_token(&first)?, &caller)?;
        assert_eq!(second.expires_in, 600);
    }
    Ok(())
}

fn replay_is_judged_at_once_under_cap_zero(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, |builder| builder.retry_secs_max(0))?;
    let (client, caller) = bed.app("app", TokenFormat::Opaque)?;
    let first = bed.issue("ann", &client)?;
    let second = bed.refresh(&refresh_token(&first)?, &caller)?;
    assert!(is_invalid_grant(&bed.refresh(&refresh_token(&first)?, &caller)));
    assert!(is_invalid_grant(&bed.refresh(&refresh_token(&second)?, &caller)));
    Ok(())
}

fn another_clients_refresh_token_has_no_effect(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (client, caller) = bed.app("app", TokenFormat::Opaque)?;
    let (_, thief) = bed.app("thief", TokenFormat::Opaque)?;
    let first = bed.issue("ann", &client)?;
    assert!(is_invalid_grant(&bed.refresh(&refresh_token(&first)?, &thief)));
    let second = bed.refresh(&refresh_token(&first)?, &caller)?;
    bed.clock.advance(100);
    assert!(is_invalid_grant(&bed.refresh(&refresh_token(&first)?, &thief)));
    bed.refresh(&refresh_token(&second)?, &caller)?;
    Ok(())
}

fn a_retry_gives_the_same_answer_with_less_time_left(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let (client, caller) = bed.app(&format!("{format:?}"), format)?;
        let first = bed.issue("ann", &client)?;
        let lost = bed.refresh(&refresh_token(&first)?, &caller)?;
        bed.clock.advance(40);
        let again = bed.refresh(&refresh_token(&first)?, &caller)?;
        assert_eq!(refresh_token(&again)?, refresh_token(&lost)?);
        assert_eq!(access_token(&again), access_token(&lost));
        assert_eq!(again.expires_in, lost.expires_in - 40);
        assert_eq!(again.expires_at, lost.expires_at);
    }
    Ok(())
}

fn a_retry_after_the_cap_is_a_replay(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (client, caller) = bed.app("app", TokenFormat::Opaque)?;
    let first = bed.issue("ann", &client)?;
    let second = bed.refresh(&refresh_token(&first)?, &caller)?;
    bed.clock.advance(61);
    assert!(is_invalid_grant(&bed.refresh(&refresh_token(&first)?, &caller)));
    assert!(is_invalid_grant(&bed.refresh(&refresh_token(&second)?, &caller)));
    Ok(())
}

fn a_retry_ends_with_the_first_use_of_its_successor(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        for by_introspection in [true, false] {
            let name = format!("{format:?} {by_introspection}");
            let (client, caller) = bed.app(&name, format)?;
            let first = bed.issue("ann", &client)?;
            let second = bed.refresh(&refresh_token(&first)?, &caller)?;
            let used = access_token(&second);
            match by_introspection {
                true => assert!(bed.is_active(&used, &auditor)?),
                false => assert!(bed.authority().verify_live(&used).wait().is_ok()),
            }
            assert!(is_invalid_grant(&bed.refresh(&refresh_token(&first)?, &caller)), "{name}");
            assert!(!bed.is_active(&used, &auditor)?);
        }
    }
    // Offline verification is no use that anybody learns of.
    let (client, caller) = bed.app("offline", TokenFormat::Jwt)?;
    let first = bed.issue("ann", &client)?;
    let second = bed.refresh(&refresh_token(&first)?, &caller)?;
    bed.authority().verify(&access_token(&second), &mut Scratch::new())?;
    let again = bed.refresh(&refresh_token(&first)?, &caller)?;
    assert_eq!(payload(&access_token(&again))?, payload(&access_token(&second))?);
    Ok(())
}

fn a_retry_with_another_request_kills_nothing(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (client, caller) = bed.app("app", TokenFormat::Opaque)?;
    let first = refresh_token(&bed.issue("ann", &client)?)?;
    let second = bed.refresh(&first, &caller)?;
    let other = TokenRequest::refresh(&first, &caller).scope("api");
    assert!(is_invalid_grant(&bed.authority().token(&other).wait()));
    let again = bed.refresh(&first, &caller)?;
    assert_eq!(access_token(&again), access_token(&second));
    Ok(())
}

fn fixed_refresh_token_stays(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let client = Client::confidential(format!("{format:?}"));
        let (client, caller) = bed.register(client.scopes(["refresh_token"]).format(format))?;
        let first = bed.issue("ann", &client)?;
        let token = refresh_token(&first)?;
        let mut access = vec![access_token(&first)];
        for _ in 0..3 {
            let next = bed.refresh(&token, &caller)?;
            assert!(next.refresh_token.is_none());
            assert!(!access.contains(&access_token(&next)));
            access.push(access_token(&next));
            bed.clock.advance(1);
            bed.reopen()?;
        }
        for access in &access {
            assert!(bed.is_active(access, &auditor)?);
        }
        assert!(bed.is_active(&token, &auditor)?);
    }
    Ok(())
}

fn scope_and_audience_narrow_at_a_refresh(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let client = Client::public("app").scopes(["api", "web", "refresh_token"]);
    let (client, caller) = bed.register(client.audiences(["urn:a", "urn:b"]))?;
    let issue = mintage::authority::Issue::to("ann", &client).scope("api refresh_token");
    let mut token = refresh_token(&bed.authority().issue(issue).wait()?)?;
    let ask = |token: &str, scope: Option<&str>, audience: Option<&str>| {
        let mut request = TokenRequest::refresh(token, &caller);
        if let Some(scope) = scope {
            request = TokenRequest::refresh(token, &caller).scope(scope);
        }
        if let Some(audience) = audience {
            request = request.audience(audience);
        }
        bed.authority().token(&request).wait()
    };
    assert!(matches!(ask(&token, Some("api web"), None), Err(Error::InvalidScope(_))));
    assert!(matches!(ask(&token, None, Some("urn:c")), Err(Error::InvalidTarget(_))));
    let narrow = ask(&token, Some("api"), Some("urn:a"))?;
    assert_eq!(narrow.scope.as_str(), "api");
    token = refresh_token(&narrow)?;
    // RFC 6749 section 6: the refresh token keeps the scope that was granted.
    let wide = ask(&token, None, None)?;
    assert_eq!(wide.scope.as_str(), "api refresh_token");
    Ok(())
}

fn idle_and_absolute_limits_end_a_family(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let scopes = ["refresh_token"];
    let policy = RefreshPolicy::rotate().idle_secs(100).absolute_secs(250);
    let (client, caller) = bed.register(Client::public("app").scopes(scopes).refresh(policy))?;
    let idle = refresh_token(&bed.issue("ann", &client)?)?;
    let mut token = refresh_token(&bed.issue("ann", &client)?)?;
    for _ in 0..3 {
        bed.clock.advance(80);
        token = refresh_token(&bed.refresh(&token, &caller)?)?;
    }
    assert!(is_invalid_grant(&bed.refresh(&idle, &caller)));
    bed.clock.advance(10);
    assert!(is_invalid_grant(&bed.refresh(&token, &caller)));
    Ok(())
}

fn what_is_no_refresh_token_is_refused(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (client, caller) = bed.app("app", TokenFormat::Opaque)?;
    let issued = bed.issue("ann", &client)?;
    let token = refresh_token(&issued)?;
    let long = "x".repeat(1 << 20);
    let bent = token.replace("mrt_", "mat_");
    for text in ["", "a.b.c", &access_token(&issued), &token[..token.len() - 1], &bent, &long] {
        assert!(is_invalid_grant(&bed.refresh(text, &caller)));
    }
    bed.refresh(&token, &caller)?;
    Ok(())
}

fn the_grant_type_is_needed(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (client, _) = bed.app("app", TokenFormat::Opaque)?;
    let without = Client::confidential("without").grants([GrantType::ClientCredentials]);
    let (_, caller) = bed.register(without)?;
    let token = refresh_token(&bed.issue("ann", &client)?)?;
    assert!(matches!(bed.refresh(&token, &caller), Err(Error::UnauthorizedClient(_))));
    Ok(())
}
