//! How much may be minted, and how long who guesses wrong waits.

mod support;

use std::time::Duration;

use mintage::authority::{
    Authority, AuthorizationRequest, Backoff, Builder, Caller, Client, Error, GrantType, Issue,
    Issued, Limits, Login, Profile, Rate, RefreshPolicy, TokenFormat, TokenRequest,
};
use mintage::ids::ClientId;
use mintage::store::PairPolicy;
use support::{Bed, ISSUER, Opener, Tested, access_token, refresh_token, root};

laws![
    a_subject_has_so_many_tokens_in_so_much_time,
    a_client_has_so_many_tokens_in_so_much_time,
    what_was_refused_for_its_number_is_as_it_was,
    a_replay_is_judged_however_much_was_minted,
    what_is_not_born_is_not_counted,
    salesforce_gives_3600_logins_an_hour,
    failures_close_a_client_to_their_address_alone,
    failures_are_forgotten,
    without_an_address_nobody_is_kept_out,
    who_proves_nothing_is_not_kept_out_and_forgives_nothing,
];

/// How long a refusal says to wait.
fn wait_of<T: std::fmt::Debug>(
    answer: Result<T, Error>,
) -> Result<u64, Box<dyn std::error::Error>> {
    let error = answer.err().ok_or("it was not refused")?;
    assert!(matches!(error, Error::TooManyRequests(..)), "{error:?}");
    assert_eq!((error.status(), error.code()), (429, "temporarily_unavailable"));
    Ok(error.retry_after().ok_or("no time to wait")?.as_secs())
}

fn issue<O: Opener>(bed: &Bed<O>, subject: &str, client: &ClientId) -> Result<Issued, Error> {
    bed.authority().issue(Issue::to(subject, client)).wait()
}

fn a_subject_has_so_many_tokens_in_so_much_time(opener: impl Opener) -> Tested {
    let limits = |b: Builder| b.limits(Limits::new().per_subject(Rate::new(3, 60)));
    let bed = Bed::with(opener, limits)?;
    let (one, _) = bed.app("one", TokenFormat::Opaque)?;
    let (two, _) = bed.app("two", TokenFormat::Jwt)?;
    for client in [&one, &two, &one] {
        issue(&bed, "ann", client)?;
    }
    assert_eq!(wait_of(issue(&bed, "ann", &two))?, 20);
    issue(&bed, "bob", &two)?;
    bed.clock.advance(19);
    assert_eq!(wait_of(issue(&bed, "ann", &two))?, 1);
    bed.clock.advance(1);
    issue(&bed, "ann", &two)?;
    assert_eq!(wait_of(issue(&bed, "ann", &one))?, 20);
    bed.clock.advance(3_600);
    for _ in 0..3 {
        issue(&bed, "ann", &one)?;
    }
    assert_eq!(wait_of(issue(&bed, "ann", &one))?, 20);
    Ok(())
}

fn a_client_has_so_many_tokens_in_so_much_time(opener: impl Opener) -> Tested {
    let limits = |b: Builder| b.limits(Limits::new().per_client(Rate::new(2, 10)));
    let bed = Bed::with(opener, limits)?;
    let service =
        |id| Client::confidential(id).grants([GrantType::ClientCredentials]).scopes(["api"]);
    let (_, busy) = bed.register(service("busy"))?;
    let (_, calm) = bed.register(service("calm"))?;
    let authority = bed.authority();
    let ask = |caller: &Caller| authority.token(&TokenRequest::client_credentials(caller)).wait();
    ask(&busy)?;
    ask(&busy)?;
    assert_eq!(wait_of(ask(&busy))?, 5);
    ask(&calm)?;
    bed.clock.advance(5);
    ask(&busy)?;
    Ok(())
}

fn what_was_refused_for_its_number_is_as_it_was(opener: impl Opener) -> Tested {
    let limits = |b: Builder| b.limits(Limits::new().per_subject(Rate::new(2, 20)));
    let bed = Bed::with(opener, limits)?;
    let app = Client::confidential("app")
        .grants([GrantType::AuthorizationCode, GrantType::RefreshToken])
        .pkce_required(false)
        .scopes(["api", "refresh_token"]);
    let (client, caller) = bed.register(app.redirect_uris(["https://app.example/cb"]))?;
    let authority = bed.authority();
    let request = AuthorizationRequest {
        response_type: Some("code"),
        client_id: Some("app"),
        redirect_uri: Some("https://app.example/cb"),
        ..AuthorizationRequest::default()
    };
    let request = authority.authorize(&request)?;
    let login = Login::now("ann", &authority)?;
    let location = authority.approve(&request, &login, "api refresh_token").wait()?;
    let code = location.expose().split("code=").nth(1).and_then(|rest| rest.split('&').next());
    let code = code.ok_or("no code")?.to_owned();
    let redeem = || {
        let request = TokenRequest::code(&code, &caller).redirect_uri("https://app.example/cb");
        authority.token(&request).wait()
    };

    let held = refresh_token(&issue(&bed, "ann", &client)?)?;
    issue(&bed, "ann", &client)?;
    let before = authority.stats();
    assert_eq!(wait_of(redeem())?, 10);
    assert_eq!(wait_of(bed.refresh(&held, &caller))?, 10);
    assert_eq!(authority.stats().records, before.records);

    bed.clock.advance(20);
    redeem()?;
    bed.refresh(&held, &caller)?;
    Ok(())
}

fn a_replay_is_judged_however_much_was_minted(opener: impl Opener) -> Tested {
    let limits = |b: Builder| b.limits(Limits::new().per_subject(Rate::new(3, 3_600)));
    let bed = Bed::with(opener, limits)?;
    let auditor = bed.auditor()?;
    let (client, caller) = bed.app("app", TokenFormat::Opaque)?;
    let first = refresh_token(&bed.issue("ann", &client)?)?;
    let second = bed.refresh(&first, &caller)?;
    // Asked again, it is the same answer: nothing is minted.
    for _ in 0..10 {
        assert_eq!(bed.refresh(&first, &caller)?.access_token, second.access_token);
    }
    let third = bed.refresh(&refresh_token(&second)?, &caller)?;
    wait_of(bed.refresh(&refresh_token(&third)?, &caller))?;
    assert!(matches!(bed.refresh(&first, &caller), Err(Error::InvalidGrant(_))));
    assert!(!bed.is_active(&access_token(&third), &auditor)?, "the replay ended the login");
    Ok(())
}

fn what_is_not_born_is_not_counted(opener: impl Opener) -> Tested {
    let limits = |b: Builder| b.limits(Limits::new().per_subject(Rate::new(2, 3_600)));
    let bed = Bed::with(opener, limits)?;
    let (one, _) = bed.register(Client::public("one").scopes(["api"]).pairs(PairPolicy::Reject))?;
    issue(&bed, "ann", &one)?;
    for _ in 0..10 {
        assert!(matches!(issue(&bed, "ann", &one), Err(Error::AccessDenied(_))));
    }
    let reuse = PairPolicy::Reuse { left_secs_min: 1 };
    let again = Client::confidential("again").grants([GrantType::ClientCredentials]);
    let again = again.scopes(["api"]).pairs(reuse);
    let (again, _) = bed.register(again)?;
    for _ in 0..10 {
        issue(&bed, "ann", &again)?;
    }
    let (other, _) = bed.app("other", TokenFormat::Opaque)?;
    wait_of(issue(&bed, "ann", &other))?;
    Ok(())
}

fn salesforce_gives_3600_logins_an_hour(opener: impl Opener) -> Tested {
    let settings = |b: Builder| b.limits(Limits::salesforce()).profile(Profile::Salesforce);
    let bed = Bed::with(opener, settings)?;
    let (client, _) = bed.app("app", TokenFormat::Opaque)?;
    let authority = bed.authority();
    let mut last = None;
    for _ in 0..3_600 {
        last = Some(authority.issue(Issue::to("ann", &client)));
    }
    last.ok_or("nothing")?.wait()?;
    let refused = issue(&bed, "ann", &client).err().ok_or("the limit is not kept")?;
    let answer = refused.answer(Profile::Salesforce);
    assert_eq!((answer.status, answer.description), (429, "login rate exceeded"));
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(1)));
    bed.clock.advance(1);
    issue(&bed, "ann", &client)?;
    Ok(())
}

/// A confidential client, with its right and with a wrong secret.
fn service<O: Opener>(bed: &Bed<O>) -> Result<(Caller, Caller), Box<dyn std::error::Error>> {
    let client = Client::confidential("svc").grants([GrantType::ClientCredentials]);
    let (_, right) = bed.register(client.scopes(["api"]))?;
    Ok((right, Caller::secret("svc", "wrong")))
}

fn failures_close_a_client_to_their_address_alone(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (right, wrong) = service(&bed)?;
    let authority = bed.authority();
    let ask = |caller: &Caller, from: &str| -> Result<_, Box<dyn std::error::Error>> {
        let caller = caller.clone().from_address(from.parse()?);
        Ok(authority.token(&TokenRequest::client_credentials(&caller)).wait())
    };
    let (here, there) = ("192.0.2.1", "192.0.2.2");
    let unknown = Caller::secret("nobody", "wrong");
    for caller in [&wrong, &unknown] {
        for _ in 0..11 {
            assert!(matches!(ask(caller, here)?, Err(Error::InvalidClient(_))));
        }
        assert_eq!(wait_of(ask(caller, here)?)?, 1, "a client that is none is judged alike");
    }
    assert_eq!(wait_of(ask(&right, here)?)?, 1, "a right secret does not tell that it is right");
    ask(&right, there)??;
    bed.clock.advance(1);
    assert!(matches!(ask(&wrong, here)?, Err(Error::InvalidClient(_))));
    assert_eq!(wait_of(ask(&right, here)?)?, 2);
    bed.clock.advance(2);
    ask(&right, here)??;
    // Once it has opened, the failures before count no more.
    for _ in 0..11 {
        assert!(matches!(ask(&wrong, here)?, Err(Error::InvalidClient(_))));
    }
    assert_eq!(wait_of(ask(&right, here)?)?, 1);
    Ok(())
}

fn failures_are_forgotten(opener: impl Opener) -> Tested {
    let backoff =
        |b: Builder| b.limits(Limits::new().backoff(Backoff::default().free(1).secs(4, 8)));
    let bed = Bed::with(opener, backoff)?;
    let (_, wrong) = service(&bed)?;
    let wrong = wrong.from_address("2001:db8::1".parse()?);
    let ask = || bed.authority().token(&TokenRequest::client_credentials(&wrong)).wait();
    for wait in [0, 4, 8, 8] {
        assert!(matches!(ask(), Err(Error::InvalidClient(_))));
        if wait > 0 {
            assert_eq!(wait_of(ask())?, wait);
        }
        bed.clock.advance(wait);
    }
    bed.clock.advance(600);
    assert!(matches!(ask(), Err(Error::InvalidClient(_))));
    assert!(matches!(ask(), Err(Error::InvalidClient(_))), "it begins anew");
    Ok(())
}

fn without_an_address_nobody_is_kept_out(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (right, wrong) = service(&bed)?;
    let authority = bed.authority();
    let ask = |caller: &Caller| authority.token(&TokenRequest::client_credentials(caller)).wait();
    for _ in 0..50 {
        assert!(matches!(ask(&wrong), Err(Error::InvalidClient(_))));
    }
    ask(&right)?;
    Ok(())
}

fn who_proves_nothing_is_not_kept_out_and_forgives_nothing(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let app = |client: Client| client.scopes(["api", "refresh_token"]);
    let (public, _) = bed.register(app(Client::public("mobile-app")))?;
    let (optional, right) = bed.register(
        app(Client::confidential("optional"))
            .grants([GrantType::AuthorizationCode, GrantType::RefreshToken])
            .refresh(RefreshPolicy::rotate())
            .secret_optional([GrantType::RefreshToken]),
    )?;
    let refresh = |client: &ClientId, caller: &Caller| -> Result<_, support::Boxed> {
        let token = refresh_token(&bed.issue("ann", client)?)?;
        let caller = caller.clone().from_address("192.0.2.1".parse()?);
        Ok(bed.refresh(&token, &caller))
    };
    let guess = |client: &ClientId| refresh(client, &Caller::secret(client.as_str(), "wrong"));
    for _ in 0..20 {
        let _ = guess(&public)?;
    }
    refresh(&public, &Caller::public("mobile-app"))??;

    for n in 0..11 {
        assert!(matches!(guess(&optional)?, Err(Error::InvalidClient(_))), "{n}");
        refresh(&optional, &Caller::public("optional"))??;
    }
    assert_eq!(wait_of(guess(&optional)?)?, 1, "a caller without a secret forgave a guesser");
    assert_eq!(wait_of(refresh(&optional, &right)?)?, 1);
    refresh(&optional, &Caller::public("optional"))??;
    Ok(())
}

#[test]
fn failures_without_an_address_count_where_the_host_says_so() -> Tested {
    let backoff = |b: Builder| {
        b.limits(Limits::new().backoff(Backoff::default().free(0).also_without_address()))
    };
    let bed = Bed::with(support::Memory::default(), backoff)?;
    let (right, wrong) = service(&bed)?;
    let authority = bed.authority();
    let ask = |caller: &Caller| authority.token(&TokenRequest::client_credentials(caller)).wait();
    assert!(matches!(ask(&wrong), Err(Error::InvalidClient(_))));
    assert_eq!(wait_of(ask(&right))?, 1);
    Ok(())
}

#[test]
fn unusable_limits_open_nothing() {
    for bad in [
        Limits::new().per_subject(Rate::new(0, 60)),
        Limits::new().per_client(Rate::new(60, 0)),
        Limits::new().per_client(Rate::new(u32::MAX, 1)),
        Limits::new().per_client(Rate::new(1, u64::MAX)),
        Limits::new().backoff(Backoff::default().secs(61, 60)),
        Limits::new().backoff(Backoff::default().secs(1, u64::MAX)),
    ] {
        assert!(Authority::builder(ISSUER).limits(bad).in_memory(root()).is_err(), "{bad:?}");
    }
}
