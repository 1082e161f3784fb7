//! Laws of sessions that slide, of scopes that hold others, and of repeated resources.

mod support;

use mintage::authority::{
    Authority, AuthorizationRequest, Builder, Client, Error, GrantType, Issue, Issued, Login,
    Profile, RefreshPolicy, Resources, SLIDING_SECS_MAX, Target, TokenFormat, TokenRequest,
};
use mintage::scope::Scope;
use mintage::store::{PairPolicy, Store, Ticket};
use mintage::time::Timestamp;
use support::{Bed, Boxed, Opener, START, Tested, access_token, refresh_token};

laws![
    a_session_that_is_used_lives_on,
    a_fixed_session_ends_however_it_is_used,
    a_session_ends_at_its_longest_life_and_with_its_login,
    a_moved_end_stands_after_reopening,
    a_dead_session_does_not_come_back,
    every_use_moves_the_end_and_a_look_does_not,
    sliding_is_for_opaque_tokens_within_bounds,
    salesforces_scopes_hold_others_in_every_flow,
    salesforces_scopes_widen_in_no_number_of_steps,
    repeated_resources_narrow_the_audience,
    an_audience_that_was_taken_from_a_client_is_in_no_token_of_it,
];

const HOUR: u64 = 3_600;

fn draft(id: &str) -> Client {
    Client::public(id).scopes(["api", "openid", "refresh_token"]).access_secs(2 * HOUR)
}

fn a_session_that_is_used_lives_on(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (client, _) = bed.register(draft("app").sliding(24 * HOUR))?;
    let token = access_token(&bed.issue("ann", &client)?);
    let authority = bed.authority();
    // In the first half of its time nothing moves.
    bed.clock.advance(HOUR - 1);
    authority.verify_live(&token).wait()?;
    assert_eq!(authority.verify_live(&token).wait()?.expires_at, Timestamp(START + 2 * HOUR));
    for round in 1..10 {
        bed.clock.advance(HOUR);
        let now = START + HOUR - 1 + round * HOUR;
        authority.verify_live(&token).wait()?;
        let ends_at = authority.verify_live(&token).wait()?.expires_at;
        assert_eq!(ends_at, Timestamp(now + 2 * HOUR), "round {round}");
    }
    // "Session expired or invalid" once it was left alone.
    bed.clock.advance(2 * HOUR);
    let refused = authority.verify_live(&token).wait().err().ok_or("lives")?;
    let answer = refused.answer(Profile::Salesforce);
    assert_eq!((answer.code, answer.status), ("INVALID_SESSION_ID", 401));
    assert_eq!(answer.description, "Session expired or invalid");
    Ok(())
}

fn a_fixed_session_ends_however_it_is_used(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    for secs in [1, 20, 60, 61, 2 * HOUR] {
        let (client, _) = bed.register(draft(&format!("app-{secs}")).access_secs(secs))?;
        let token = access_token(&bed.issue("ann", &client)?);
        bed.clock.advance(secs - 1);
        assert!(bed.authority().verify_live(&token).wait().is_ok());
        bed.clock.advance(1);
        assert!(bed.authority().verify_live(&token).wait().is_err(), "{secs}");
    }
    Ok(())
}

fn a_session_ends_at_its_longest_life_and_with_its_login(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (longest, _) = bed.register(draft("longest").sliding(5 * HOUR))?;
    let login =
        draft("login").sliding(24 * HOUR).refresh(RefreshPolicy::rotate().absolute_secs(5 * HOUR));
    let (login, _) = bed.register(login)?;
    let tokens = [bed.issue("ann", &longest)?, bed.issue("ann", &login)?];
    for _ in 0..4 {
        bed.clock.advance(HOUR + 10);
        for token in &tokens {
            bed.authority().verify_live(&access_token(token)).wait()?;
        }
    }
    for token in &tokens {
        let seen = bed.authority().verify_live(&access_token(token)).wait()?;
        assert_eq!(seen.expires_at, Timestamp(START + 5 * HOUR));
    }
    bed.clock.advance(HOUR - 40);
    for token in &tokens {
        assert!(bed.authority().verify_live(&access_token(token)).wait().is_err());
    }
    Ok(())
}

fn a_moved_end_stands_after_reopening(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let (client, caller) = bed.register(draft("app").sliding(24 * HOUR))?;
    let issued = bed.issue("ann", &client)?;
    let bare = bed.authority().issue(Issue::to("bob", &client).without_refresh()).wait()?;
    let refreshed = bed.refresh(&refresh_token(&issued)?, &caller)?;
    let tokens = [access_token(&issued), access_token(&bare), access_token(&refreshed)];
    for round in 0..6 {
        bed.clock.advance(HOUR + 60);
        for token in &tokens {
            let seen = bed.authority().verify_live(token).wait();
            assert!(seen.is_ok(), "round {round}");
        }
        bed.reopen()?;
        // Births and sweeps between must not take what slides along.
        for _ in 0..64 {
            bed.authority().store().sweep(mintage::time::Clock::read(&*bed.clock))?;
        }
    }
    bed.clock.advance(2 * HOUR);
    for token in &tokens {
        assert!(bed.authority().verify_live(token).wait().is_err());
    }
    Ok(())
}

fn a_dead_session_does_not_come_back(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (client, _) = bed.register(draft("app").sliding(24 * HOUR))?;
    let token = access_token(&bed.issue("ann", &client)?);
    let authority = bed.authority();
    bed.clock.advance(HOUR + 60);
    authority.verify_live(&token).wait()?;
    authority.revoke(Target::Token(&token)).wait()?;
    for _ in 0..3 {
        assert!(authority.verify_live(&token).wait().is_err());
        bed.clock.advance(HOUR);
    }
    let expired = access_token(&bed.issue("ann", &client)?);
    bed.clock.advance(2 * HOUR);
    for _ in 0..2 {
        assert!(authority.verify_live(&expired).wait().is_err());
    }
    Ok(())
}

fn every_use_moves_the_end_and_a_look_does_not(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let (client, caller) = bed.register(draft("app").sliding(24 * HOUR))?;
    let (_, stranger) = bed.register(Client::confidential("stranger"))?;
    let authority = bed.authority();
    let moved = |use_it: &dyn Fn(&str) -> Tested| -> Result<bool, Box<dyn std::error::Error>> {
        let issued = authority.issue(Issue::to("ann", &client)).wait()?;
        let (token, now) = (access_token(&issued), issued.issued_at);
        bed.clock.advance(HOUR + 60);
        use_it(&token)?;
        let ends_at = authority.verify_live(&token).wait()?.expires_at;
        Ok(ends_at > now.plus(2 * HOUR))
    };
    assert!(moved(&|token| done(authority.verify_live(token)))?);
    assert!(moved(&|token| done(authority.user_info(token)))?);
    assert!(moved(&|token| done(authority.introspect(token, &auditor)))?);
    // Who may not see it does not use it; a refresh is no use of the access token.
    assert!(!moved(&|token| done(authority.introspect(token, &stranger)))?);
    assert!(!moved(&|_| {
        let other = authority.issue(Issue::to("ann", &client)).wait()?;
        bed.refresh(&refresh_token(&other)?, &caller)?;
        Ok(())
    })?);
    Ok(())
}

/// Waits for an answer that counts by being there.
fn done<T: Send + 'static>(ticket: Ticket<T, Error>) -> Tested {
    ticket.wait()?;
    Ok(())
}

fn sliding_is_for_opaque_tokens_within_bounds(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (client, _) = bed.register(draft("jwt").format(TokenFormat::Jwt).sliding(24 * HOUR))?;
    let token = access_token(&bed.issue("ann", &client)?);
    bed.clock.advance(HOUR + 60);
    assert!(bed.authority().verify_live(&token).wait().is_ok());
    bed.clock.advance(HOUR - 60);
    assert!(bed.authority().verify_live(&token).wait().is_err());
    let bare = || Client::confidential("b").grants([GrantType::ClientCredentials]);
    for bad in [
        bare().sliding(59),
        bare().sliding(SLIDING_SECS_MAX + 1),
        bare().sliding(HOUR).pairs(PairPolicy::Reuse { left_secs_min: 1 }),
    ] {
        let refused = bed.authority().register(bad).wait();
        assert_eq!(refused.err().map(|error| error.code()), Some("invalid_client_metadata"));
    }
    Ok(())
}

const CB: &str = "https://app.example/cb";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// Approves `scope` of what `request` asks for, and gives the code.
fn code<O: Opener>(
    bed: &Bed<O>,
    request: &AuthorizationRequest<'_>,
    scope: &str,
) -> Result<String, Boxed> {
    let request = AuthorizationRequest {
        response_type: Some("code"),
        code_challenge: Some(CHALLENGE),
        code_challenge_method: Some("S256"),
        ..*request
    };
    let authorization = bed.authority().authorize(&request)?;
    let login = Login::now("ann", &bed.authority())?;
    let url = bed.authority().approve(&authorization, &login, scope).wait()?;
    Ok(url.expose().split(['=', '&']).nth(1).ok_or("no code")?.to_owned())
}

fn salesforce(builder: Builder) -> Builder {
    builder.profile(Profile::Salesforce)
}

fn salesforces_scopes_hold_others_in_every_flow(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, salesforce)?;
    let authority = bed.authority();
    let app = Client::public("app")
        .grants([GrantType::AuthorizationCode, GrantType::RefreshToken])
        .redirect_uris([CB])
        .scopes(["api", "web", "refresh_token"]);
    let (client, caller) = bed.register(app)?;
    // Issue, code, redemption and refresh narrow to what is held.
    let issued = authority.issue(Issue::to("ann", &client).scope("chatter_api")).wait()?;
    assert_eq!(issued.scope.as_str(), "chatter_api");
    let request = AuthorizationRequest {
        client_id: Some("app"),
        scope: Some("api visualforce offline_access"),
        ..AuthorizationRequest::default()
    };
    let code = code(&bed, &request, "api visualforce offline_access")?;
    let redeem = TokenRequest::code(&code, &caller).code_verifier(VERIFIER);
    let issued = authority.token(&redeem.scope("chatter_api visualforce refresh_token")).wait()?;
    assert_eq!(issued.scope.as_str(), "chatter_api refresh_token visualforce");
    let token = refresh_token(&issued)?;
    let wide = authority.token(&TokenRequest::refresh(&token, &caller).scope("api")).wait();
    assert_eq!(wide.err().map(|error| error.code()), Some("invalid_scope"), "nothing widens");
    let again = authority.token(&TokenRequest::refresh(&token, &caller)).wait()?;
    assert_eq!(again.scope.as_str(), "chatter_api refresh_token visualforce");
    // What was taken from the client is in no token of it; what it still holds by another name is.
    authority.update_client(Client::public("app").scopes(["api", "refresh_token"])).wait()?;
    let again = bed.refresh(&refresh_token(&again)?, &caller)?;
    assert_eq!(again.scope.as_str(), "chatter_api refresh_token");
    let (robot, _) = bed.register(Client::confidential("robot").scopes(["full"]).run_as("r"))?;
    let full = authority.issue(Issue::to("r", &robot).scope("api cdp_query_api")).wait()?;
    assert_eq!(full.scope.as_str(), "api cdp_query_api");
    for token in ["refresh_token", "offline_access"] {
        let refused = authority.issue(Issue::to("r", &robot).scope(token)).wait();
        assert_eq!(refused.err().map(|error| error.code()), Some("invalid_scope"));
    }
    // A resource asks whether a token will do.
    assert!(authority.require_scope(&full.scope, "chatter_api").is_ok());
    let refused = authority.require_scope(&full.scope, "web").err().ok_or("will do")?;
    assert_eq!((refused.code(), refused.status()), ("insufficient_scope", 403));
    Ok(())
}

fn salesforces_scopes_widen_in_no_number_of_steps(opener: impl Opener) -> Tested {
    let in_front = |builder| salesforce(builder).tokens_in_front(true);
    let bed = Bed::with(opener, in_front)?;
    let authority = bed.authority();
    let names = ["email", "id", "phone", "full", "chatter_api"];
    let mut granted = 0;
    for registered in names {
        let app = Client::public(registered)
            .grants([GrantType::AuthorizationCode, GrantType::RefreshToken, GrantType::Implicit])
            .redirect_uris([CB])
            .scopes([registered, "refresh_token"]);
        let (client, caller) = bed.register(app)?;
        let own = Scope::parse(registered)?;
        let mut check = |scope: &Scope, steps: &[&str]| {
            granted += 1;
            for token in scope.tokens().filter(|token| *token != "refresh_token") {
                assert!(authority.require_scope(&own, token).is_ok(), "{registered} {steps:?}");
            }
        };
        let refreshes =
            |issued: &Issued, steps: &[&str], check: &mut dyn FnMut(&Scope, &[&str])| {
                let Ok(token) = refresh_token(issued) else { return Ok(()) };
                for name in names {
                    let request = TokenRequest::refresh(&token, &caller).scope(name);
                    // Refused ones spend nothing; a granted one is the last.
                    if let Ok(again) = authority.token(&request).wait() {
                        check(&again.scope, &[steps, &[name]].concat());
                        break;
                    }
                }
                Tested::Ok(())
            };
        for first in names {
            let scope = format!("{first} refresh_token");
            if let Ok(issued) = authority.issue(Issue::to("ann", &client).scope(&scope)).wait() {
                check(&issued.scope, &[first]);
                refreshes(&issued, &[first], &mut check)?;
            }
            for (second, response) in
                names.iter().flat_map(|name| [(*name, "code"), (*name, "token")])
            {
                let agreed = format!("{second} refresh_token");
                for third in names {
                    let request = AuthorizationRequest {
                        response_type: Some(response),
                        client_id: Some(registered),
                        scope: Some(&scope),
                        code_challenge: Some(CHALLENGE).filter(|_| response == "code"),
                        code_challenge_method: Some("S256").filter(|_| response == "code"),
                        ..AuthorizationRequest::default()
                    };
                    let Ok(authorization) = authority.authorize(&request) else { continue };
                    let login = Login::now("ann", &authority)?;
                    let Ok(url) = authority.approve(&authorization, &login, &agreed).wait() else {
                        continue;
                    };
                    let steps = [first, second, third];
                    if response == "token" {
                        let text = url.expose().split("&scope=").nth(1).ok_or("no scope")?;
                        let text = text.split('&').next().unwrap_or_default().replace("%20", " ");
                        check(&Scope::parse(&text)?, &steps);
                        break;
                    }
                    let code = url.expose().split(['=', '&']).nth(1).ok_or("no code")?;
                    let third_too = format!("{third} refresh_token");
                    let redeem = TokenRequest::code(code, &caller).code_verifier(VERIFIER);
                    if let Ok(issued) = authority.token(&redeem.scope(&third_too)).wait() {
                        check(&issued.scope, &steps);
                        refreshes(&issued, &steps, &mut check)?;
                    }
                }
            }
        }
    }
    assert!(granted > 100, "{granted} requests were granted");
    Ok(())
}

fn an_audience_that_was_taken_from_a_client_is_in_no_token_of_it(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let three = ["https://a.example", "https://b.example", "https://c.example"];
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let id = format!("{format:?}");
        let app = |audiences: &[&str]| {
            Client::public(&id)
                .grants([GrantType::AuthorizationCode, GrantType::RefreshToken])
                .redirect_uris([CB])
                .scopes(["api", "refresh_token"])
                .format(format)
                .audiences(audiences.iter().copied())
        };
        let (client, caller) = bed.register(app(&three))?;
        let issued = bed.issue("ann", &client)?;
        let asked = AuthorizationRequest { client_id: Some(&id), ..Default::default() };
        let codes =
            [code(&bed, &asked, "api refresh_token")?, code(&bed, &asked, "api refresh_token")?];
        bed.authority().update_client(app(&[three[1], "https://d.example"])).wait()?;
        bed.reopen()?;
        let authority = bed.authority();
        let audience = |issued: &Issued| -> Result<String, Boxed> {
            let seen = authority.introspect(&access_token(issued), &auditor).wait()?;
            Ok(seen.token().map(|token| token.audience.to_string()).unwrap_or_default())
        };
        let token = refresh_token(&issued)?;
        for resource in [three[0], "https://d.example"] {
            let refused = TokenRequest::refresh(&token, &caller).resource(resource);
            let refused = authority.token(&refused).wait();
            assert_eq!(refused.err().map(|error| error.code()), Some("invalid_target"));
        }
        let again = bed.refresh(&token, &caller)?;
        assert_eq!(audience(&again)?, three[1]);
        let redeem = TokenRequest::code(&codes[0], &caller).code_verifier(VERIFIER);
        let redeemed = authority.token(&redeem).wait()?;
        assert_eq!(audience(&redeemed)?, three[1]);
        // What is given back is there again; what the code lacked when it was redeemed is not.
        authority.update_client(app(&three)).wait()?;
        let again = bed.refresh(&refresh_token(&again)?, &caller)?;
        assert_eq!(audience(&again)?, three.join(" "));
        let redeemed = bed.refresh(&refresh_token(&redeemed)?, &caller)?;
        assert_eq!(audience(&redeemed)?, three[1]);
        // Where nothing is left, there is no token for nobody, and nothing is spent.
        authority.update_client(app(&["https://d.example"])).wait()?;
        let token = refresh_token(&again)?;
        let refused = bed.refresh(&token, &caller);
        assert_eq!(refused.err().map(|error| error.code()), Some("invalid_target"));
        let redeem = TokenRequest::code(&codes[1], &caller).code_verifier(VERIFIER);
        let refused = authority.token(&redeem).wait();
        assert_eq!(refused.err().map(|error| error.code()), Some("invalid_target"));
        authority.update_client(app(&three)).wait()?;
        bed.refresh(&token, &caller)?;
        authority.token(&redeem).wait()?;
    }
    Ok(())
}

fn repeated_resources_narrow_the_audience(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let authority = bed.authority();
    let three = ["https://a.example", "https://b.example", "https://c.example"];
    let app = Client::public("app")
        .grants([GrantType::AuthorizationCode, GrantType::RefreshToken])
        .redirect_uris([CB])
        .scopes(["api", "refresh_token"])
        .audiences(three);
    let (_, caller) = bed.register(app)?;
    let pairs = [("client_id", "app"), ("resource", three[0]), ("resource", three[1])];
    let request = AuthorizationRequest::from_pairs(pairs)?;
    let code = code(&bed, &request, "api refresh_token")?;
    let auditor = bed.auditor()?;
    let seen_by = |authority: &Authority<_>, token: &str| -> Result<String, Boxed> {
        let seen = authority.introspect(token, &auditor).wait()?;
        Ok(seen.token().map(|token| token.audience.to_string()).unwrap_or_default())
    };
    let audience = |token: &str| seen_by(&authority, token);
    let redeem = || TokenRequest::code(&code, &caller).code_verifier(VERIFIER);
    for bad in [three[2], "not-a-uri", "https://a.example#x"] {
        let refused = authority.token(&redeem().resource(bad)).wait();
        assert_eq!(refused.err().map(|error| error.code()), Some("invalid_target"), "{bad}");
    }
    let issued = authority.token(&redeem().resource(three[1])).wait()?;
    assert_eq!(audience(&access_token(&issued))?, three[1]);
    // The login is for all that was authorized, of which each token may have another part (RFC 8707
    // section 2.2).
    let token = refresh_token(&issued)?;
    let wide = authority.token(&TokenRequest::refresh(&token, &caller).resource(three[2])).wait();
    assert_eq!(wide.err().map(|error| error.code()), Some("invalid_target"));
    bed.reopen()?;
    let authority = bed.authority();
    let audience = |token: &str| seen_by(&authority, token);
    let again = TokenRequest::refresh(&token, &caller).resource(three[0]);
    let (again, retry) = (authority.token(&again).wait()?, authority.token(&again).wait()?);
    assert_eq!(again.access_token, retry.access_token);
    assert_eq!(audience(&access_token(&again))?, three[0]);
    let again = bed.refresh(&refresh_token(&again)?, &caller)?;
    assert_eq!(audience(&access_token(&again))?, format!("{} {}", three[0], three[1]));
    let (_, robot) =
        bed.register(Client::confidential("robot").scopes(["api"]).audiences(three))?;
    let two = TokenRequest::client_credentials(&robot).resource(three[2]).resource(three[0]);
    let issued = authority.token(&two).wait()?;
    assert_eq!(audience(&access_token(&issued))?, "https://a.example https://c.example");
    let refused = authority.authorize(&AuthorizationRequest {
        response_type: Some("code"),
        client_id: Some("app"),
        code_challenge: Some(CHALLENGE),
        code_challenge_method: Some("S256"),
        resources: Resources::of(["urn:other"]),
        ..AuthorizationRequest::default()
    });
    assert_eq!(refused.err().map(|error| error.error().code()), Some("invalid_target"));
    Ok(())
}
