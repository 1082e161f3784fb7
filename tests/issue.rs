//! Laws of issuing.

mod support;

use mintage::authority::{
    Audience, Client, Error, GrantType, Issue, RefreshPolicy, Scratch, Target, TokenFormat,
    TokenRequest,
};
use mintage::store::PairPolicy;
use support::{Bed, ISSUER, Opener, START, Tested, access_token, payload, refresh_token};

laws![
    a_revocation_since_the_host_began_prevents_the_birth,
    issued_opaque_token_is_live_and_says_what_was_granted,
    issued_jwt_verifies_offline_and_live,
    scope_and_audience_only_narrow,
    refresh_token_needs_the_grant_and_the_scope,
    tokens_die_at_the_second_of_their_expiry,
    client_credentials_speak_for_the_client_itself,
    unusable_requests_issue_nothing,
    replace_leaves_one_login_of_a_pair,
    newest_leaves_so_many_logins_of_a_pair,
    reject_refuses_a_second_login_of_a_pair,
    devices_are_pairs_of_their_own,
    reuse_gives_the_same_token_until_little_is_left,
    tokens_are_redacted,
    many_are_answered_each_for_itself,
];

fn many_are_answered_each_for_itself(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let (client, _) = bed.app(&format!("{format:?}"), format)?;
        let issue = |subject: &str| Issue::to(subject, &client).scope("api");
        let issues = [issue("ann"), issue("ann").scope("not-granted"), issue("ben")];
        let answers = bed.authority().issue_many(issues).wait();
        assert_eq!(answers.len(), 3);
        assert!(matches!(answers[1], Err(Error::InvalidScope(_))));
        for (n, subject) in [(0, "ann"), (2, "ben")] {
            let token = access_token(answers[n].as_ref().map_err(|error| format!("{error:?}"))?);
            assert_eq!(bed.authority().verify_live(&token).wait()?.subject.as_str(), subject);
        }
    }
    Ok(())
}

fn a_revocation_since_the_host_began_prevents_the_birth(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (client, _) = bed.app("app", TokenFormat::Opaque)?;
    let begun = bed.authority().begin();
    // The password of ann is being checked, and meanwhile:
    bed.authority().revoke(Target::Subject("ann")).wait()?;
    let issue = Issue::to("ann", &client).admitted(begun);
    let refused = bed.authority().issue(issue).wait();
    assert!(matches!(refused, Err(Error::InvalidGrant(_))));
    bed.authority().issue(Issue::to("ann", &client).admitted(bed.authority().begin())).wait()?;
    Ok(())
}

fn issued_opaque_token_is_live_and_says_what_was_granted(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let (client, _) = bed.app("app", TokenFormat::Opaque)?;
    let issued = bed.authority().issue(Issue::to("ann", &client).scope("api")).wait()?;
    assert_eq!((issued.token_type, issued.expires_in), ("Bearer", 7_200));
    assert_eq!(issued.scope.as_str(), "api");
    assert!(issued.refresh_token.is_none());
    let token = access_token(&issued);
    assert!(token.starts_with("mat_mintage_"));
    let shown = bed.authority().introspect(&token, &auditor).wait()?;
    let shown: serde_json::Value = serde_json::from_str(&shown.to_json())?;
    let expected = serde_json::json!({
        "active": true, "scope": "api", "client_id": "app", "sub": "ann", "token_type": "Bearer",
        "iss": ISSUER, "aud": [ISSUER], "iat": START, "exp": START + 7_200,
    });
    assert_eq!(shown, expected);
    let live = bed.authority().verify_live(&token).wait()?;
    assert_eq!((live.subject.as_str(), live.scope.as_str()), ("ann", "api"));
    Ok(())
}

fn issued_jwt_verifies_offline_and_live(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let (client, _) = bed.app("app", TokenFormat::Jwt)?;
    let issued = bed.issue("ann", &client)?;
    assert_eq!(issued.expires_in, 300);
    let token = access_token(&issued);
    let mut scratch = Scratch::new();
    for _ in 0..2 {
        let authority = bed.authority();
        let claims = authority.verify(&token, &mut scratch)?;
        assert_eq!((claims.subject(), claims.client_id()), ("ann", "app"));
        assert_eq!(claims.scope(), "api refresh_token web");
        assert_eq!(claims.expires_at().0, START + 300);
    }
    let live = bed.authority().verify_live(&token).wait()?;
    assert!(live.jti.is_some());
    assert!(bed.is_active(&token, &auditor)?);
    let bent = token.replace('.', "A.");
    assert!(matches!(bed.authority().verify(&bent, &mut scratch), Err(Error::InvalidToken(_))));
    Ok(())
}

fn scope_and_audience_only_narrow(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let client = Client::public("app").scopes(["api", "web"]).audiences(["urn:a", "urn:b"]);
    let (client, _) = bed.register(client)?;
    let issue = |issue: Issue| bed.authority().issue(issue).wait();
    let all = issue(Issue::to("ann", &client))?;
    assert_eq!(all.scope.as_str(), "api web");
    let narrow = issue(Issue::to("ann", &client).scope("web").audience("urn:b"))?;
    assert_eq!(narrow.scope.as_str(), "web");
    assert!(matches!(
        issue(Issue::to("ann", &client).scope("web admin")),
        Err(Error::InvalidScope(_))
    ));
    assert!(matches!(issue(Issue::to("ann", &client).scope("a\"b")), Err(Error::InvalidScope(_))));
    for audience in ["urn:c", "urn:a urn:c", "", "a\"b", ISSUER] {
        let refused = issue(Issue::to("ann", &client).audience(audience));
        assert!(matches!(refused, Err(Error::InvalidTarget(_))), "{audience}");
    }
    assert_eq!(Audience::parse("urn:b urn:a")?.as_str(), "urn:a urn:b");
    // A token for others is none for this authority's own resources.
    let refused = bed.authority().verify_live(&access_token(&narrow)).wait();
    assert!(matches!(refused, Err(Error::InvalidToken(_))));
    Ok(())
}

fn refresh_token_needs_the_grant_and_the_scope(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let scopes = ["api", "offline_access"];
    let (with, _) = bed.register(Client::public("with").scopes(scopes))?;
    let (without, _) = bed.register(Client::public("without").grants([]).scopes(scopes))?;
    let has =
        |issue: Issue| Ok::<_, Error>(bed.authority().issue(issue).wait()?.refresh_token.is_some());
    assert!(has(Issue::to("ann", &with))?);
    assert!(has(Issue::to("ann", &with).scope("offline_access"))?);
    assert!(!has(Issue::to("ann", &with).scope("api"))?);
    assert!(!has(Issue::to("ann", &with).without_refresh())?);
    assert!(!has(Issue::to("ann", &without))?);
    Ok(())
}

fn tokens_die_at_the_second_of_their_expiry(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let client = Client::public(format!("{format:?}")).format(format).access_secs(100);
        let (client, _) = bed.register(client)?;
        let token = access_token(&bed.issue("ann", &client)?);
        bed.clock.advance(99);
        assert!(bed.is_active(&token, &auditor)?);
        assert!(bed.authority().verify_live(&token).wait().is_ok());
        bed.clock.advance(1);
        assert!(!bed.is_active(&token, &auditor)?);
        assert!(bed.authority().verify_live(&token).wait().is_err());
        assert!(bed.authority().verify(&token, &mut Scratch::new()).is_err());
    }
    Ok(())
}

fn client_credentials_speak_for_the_client_itself(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (_, caller) =
        bed.register(Client::confidential("reports").scopes(["api", "refresh_token"]))?;
    let token = |request: TokenRequest<'_>| bed.authority().token(&request).wait();
    let issued = token(TokenRequest::client_credentials(&caller))?;
    assert_eq!((issued.subject.as_str(), issued.scope.as_str()), ("reports", "api"));
    assert!(issued.refresh_token.is_none());
    let refused = token(TokenRequest::client_credentials(&caller).scope("admin"));
    assert!(matches!(refused, Err(Error::InvalidScope(_))));
    let client = Client::confidential("login").grants([GrantType::RefreshToken]);
    let (_, caller) = bed.register(client)?;
    let refused = token(TokenRequest::client_credentials(&caller));
    assert!(matches!(refused, Err(Error::UnauthorizedClient(_))));
    let (_, caller) = bed.app("app", TokenFormat::Opaque)?;
    let refused = token(TokenRequest::client_credentials(&caller));
    assert!(matches!(refused, Err(Error::UnauthorizedClient(_))));
    Ok(())
}

fn unusable_requests_issue_nothing(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (client, _) = bed.app("app", TokenFormat::Opaque)?;
    let issue = |issue: Issue| bed.authority().issue(issue).wait();
    for subject in ["", "a\nb", &"x".repeat(256)] {
        assert!(matches!(issue(Issue::to(subject, &client)), Err(Error::InvalidRequest(_))));
        let refused = issue(Issue::to("ann", &client).device(subject));
        assert!(matches!(refused, Err(Error::InvalidRequest(_))));
    }
    let unknown = mintage::ids::ClientId::new("nobody")?;
    assert!(matches!(issue(Issue::to("ann", &unknown)), Err(Error::InvalidClient(_))));
    assert!(bed.authority().grants().of_client(&client).page(10).wait()?.grants.is_empty());
    Ok(())
}

fn live_of(
    bed: &Bed<impl Opener>,
    policy: PairPolicy,
    logins: usize,
) -> Result<Vec<bool>, Box<dyn std::error::Error>> {
    let auditor = bed.auditor()?;
    let client = Client::public("app").scopes(["refresh_token"]).pairs(policy);
    let (client, _) = bed.register(client)?;
    let mut issued = Vec::new();
    for _ in 0..logins {
        issued.push(bed.issue("ann", &client)?);
    }
    let other = bed.issue("bob", &client)?;
    assert!(bed.is_active(&access_token(&other), &auditor)?);
    let mut live = Vec::new();
    for issued in &issued {
        let access = bed.is_active(&access_token(issued), &auditor)?;
        assert_eq!(bed.is_active(&refresh_token(issued)?, &auditor)?, access);
        live.push(access);
    }
    Ok(live)
}

fn replace_leaves_one_login_of_a_pair(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    assert_eq!(live_of(&bed, PairPolicy::Replace, 3)?, [false, false, true]);
    Ok(())
}

fn newest_leaves_so_many_logins_of_a_pair(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    assert_eq!(live_of(&bed, PairPolicy::Newest(2), 4)?, [false, false, true, true]);
    Ok(())
}

fn reject_refuses_a_second_login_of_a_pair(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let client = Client::public("app")
        .scopes(["refresh_token"])
        .refresh(RefreshPolicy::rotate().absolute_secs(10_000))
        .pairs(PairPolicy::Reject);
    let (client, _) = bed.register(client)?;
    bed.issue("ann", &client)?;
    let refused = bed.authority().issue(Issue::to("ann", &client)).wait();
    assert!(matches!(refused, Err(Error::AccessDenied(_))));
    bed.issue("bob", &client)?;
    bed.clock.advance(10_000);
    bed.issue("ann", &client)?;
    Ok(())
}

fn devices_are_pairs_of_their_own(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let client = Client::public("app").scopes(["refresh_token"]).pairs(PairPolicy::Replace);
    let (client, _) = bed.register(client)?;
    let on = |device| bed.authority().issue(Issue::to("ann", &client).device(device)).wait();
    let (phone, tablet) = (on("phone")?, on("tablet")?);
    assert_ne!(phone.grant, tablet.grant);
    assert!(bed.is_active(&access_token(&phone), &auditor)?);
    on("phone")?;
    assert!(!bed.is_active(&access_token(&phone), &auditor)?);
    assert!(bed.is_active(&access_token(&tablet), &auditor)?);
    Ok(())
}

fn reuse_gives_the_same_token_until_little_is_left(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let client = Client::public(format!("{format:?}"))
            .grants([])
            .scopes(["api", "web"])
            .format(format)
            .access_secs(1_000)
            .pairs(PairPolicy::Reuse { left_secs_min: 200 });
        let (client, _) = bed.register(client)?;
        let first = bed.issue("ann", &client)?;
        bed.clock.advance(100);
        let again = bed.issue("ann", &client)?;
        assert_eq!(access_token(&again), access_token(&first));
        assert_eq!((again.expires_in, again.family), (900, first.family));
        bed.reopen()?;
        let after = bed.issue("ann", &client)?;
        assert_eq!(access_token(&after), access_token(&first));
        assert_ne!(access_token(&bed.issue("bob", &client)?), access_token(&first));
        bed.clock.advance(701);
        let fresh = bed.issue("ann", &client)?;
        assert_ne!(access_token(&fresh), access_token(&first));
        assert!(!bed.is_active(&access_token(&first), &auditor)?);
        // Another request never gets it.
        let issue = Issue::to("ann", &client).scope("api");
        let other = bed.authority().issue(issue).wait()?;
        assert_ne!(access_token(&other), access_token(&fresh));
        if format == TokenFormat::Jwt {
            assert_ne!(payload(&access_token(&other))?, payload(&access_token(&fresh))?);
        }
    }
    Ok(())
}

fn tokens_are_redacted(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (client, caller) = bed.app("app", TokenFormat::Opaque)?;
    let issued = bed.issue("ann", &client)?;
    let shown = format!("{issued:?} {:?} {caller:?}", issued.to_json());
    assert!(!shown.contains(&access_token(&issued)) && !shown.contains(&refresh_token(&issued)?));
    let json: serde_json::Value = serde_json::from_str(issued.to_json().expose())?;
    assert_eq!(json["access_token"], access_token(&issued));
    assert_eq!(json["refresh_token"], refresh_token(&issued)?);
    Ok(())
}
