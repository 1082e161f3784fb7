//! Laws of the device flow.

mod support;

use std::net::IpAddr;

use mintage::authority::{
    Authorization, AuthorizationRequest, Builder, Caller, Client, DEVICE_SECS, DeviceAuthorization,
    DevicePrompt, DeviceRequest, Endpoints, Error, GrantType, Issued, Login, PermittedUsers,
    Profile, Target, TokenForm, TokenFormat, TokenRequest, UserCode,
};
use mintage::ids::Subject;
use mintage::store::Store as _;
use support::{Bed, Boxed, Opener, Tested, access_token, at_once, refresh_token};

laws![
    a_device_gets_its_tokens_once_its_user_agrees,
    a_device_that_asks_too_often_is_slowed_down,
    a_denial_is_told_and_the_first_decision_stands,
    one_of_many_decisions_on_a_user_code_stands,
    codes_of_devices_expire_and_are_swept,
    a_device_code_is_its_clients_alone_and_no_other_code,
    a_device_code_gives_tokens_once_and_a_second_use_ends_them,
    one_of_many_polls_of_an_approved_device_wins,
    a_device_gets_no_more_than_was_asked_for_approved_and_permitted,
    a_revocation_at_any_step_reaches_the_device,
    a_device_flow_stands_after_reopening,
    who_guesses_user_codes_waits,
    salesforces_devices_are_understood_and_told_in_its_words,
    an_authority_without_a_page_has_no_devices,
];

const CB: &str = "https://app.example/cb";

fn draft(id: &str) -> Client {
    Client::public(id).grants([GrantType::DeviceCode, GrantType::RefreshToken]).scopes([
        "api",
        "web",
        "openid",
        "refresh_token",
    ])
}

fn begin<O: Opener>(bed: &Bed<O>, caller: &Caller) -> Result<DeviceAuthorization, Error> {
    bed.authority().authorize_device(&DeviceRequest::new(), caller).wait()
}

fn prompt<O: Opener>(bed: &Bed<O>, user_code: UserCode) -> Result<DevicePrompt, Error> {
    bed.authority().device_prompt(&user_code.to_string(), None).wait()
}

fn approve<O: Opener>(bed: &Bed<O>, user_code: UserCode, subject: &str) -> Tested {
    let prompt = prompt(bed, user_code)?;
    let login = Login::now(subject, &bed.authority())?;
    Ok(bed.authority().approve_device(&prompt, &login, "api openid refresh_token").wait()?)
}

fn poll<O: Opener>(
    bed: &Bed<O>,
    shown: &DeviceAuthorization,
    caller: &Caller,
) -> Result<Issued, Error> {
    bed.authority().token(&TokenRequest::device(shown.device_code.expose(), caller)).wait()
}

fn code_of<T>(refused: Result<T, Error>) -> Option<&'static str> {
    refused.err().map(|error| error.code())
}

fn a_device_gets_its_tokens_once_its_user_agrees(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let id = format!("{format:?}");
        let (client, caller) = bed.register(draft(&id).format(format))?;
        let shown = begin(&bed, &caller)?;
        assert_eq!((shown.expires_in, shown.interval), (DEVICE_SECS, 5));
        assert_eq!(shown.verification_uri, "https://login.example.com/setup/connect");
        let complete = format!("{}?user_code={}", shown.verification_uri, shown.user_code);
        assert_eq!(shown.verification_uri_complete, complete);
        let json: serde_json::Value = serde_json::from_str(shown.to_json().expose())?;
        assert_eq!(json["user_code"], shown.user_code.to_string());
        assert_eq!((&json["expires_in"], &json["interval"]), (&600.into(), &5.into()));
        assert_eq!(code_of(poll(&bed, &shown, &caller)), Some("authorization_pending"));
        // However it is typed.
        let typed = format!(" {} ", shown.user_code.to_string().replace('-', " ").to_lowercase());
        let prompt = bed.authority().device_prompt(&typed, None).wait()?;
        assert_eq!(prompt.client().client_id(), &client);
        assert_eq!(prompt.scope().as_str(), "api openid refresh_token web");
        let login = Login::now("ann", &bed.authority())?.device("tv")?;
        let scope = "api openid refresh_token";
        bed.authority().approve_device(&prompt, &login, scope).wait()?;
        bed.clock.advance(1);
        let issued = poll(&bed, &shown, &caller)?;
        assert_eq!((issued.subject.as_str(), &issued.client_id), ("ann", &client));
        assert_eq!(issued.scope.as_str(), scope);
        assert!(issued.id_token.is_some());
        let active = bed.authority().introspect(&access_token(&issued), &auditor).wait()?;
        let device = active.token().and_then(|token| token.device.clone());
        assert_eq!(device.ok_or("dead")?.as_str(), "tv");
        bed.refresh(&refresh_token(&issued)?, &caller)?;
    }
    Ok(())
}

fn a_device_that_asks_too_often_is_slowed_down(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (_, caller) = bed.register(draft("tv"))?;
    let (shown, beside) = (begin(&bed, &caller)?, begin(&bed, &caller)?);
    // Each time five seconds more (RFC 8628 section 3.5).
    let (pending, slow) = ("authorization_pending", "slow_down");
    for (wait, wanted) in [(0, pending), (5, pending), (4, slow), (9, slow), (15, pending)] {
        bed.clock.advance(wait);
        assert_eq!(code_of(poll(&bed, &shown, &caller)), Some(wanted), "{wait}");
    }
    assert_eq!(code_of(poll(&bed, &beside, &caller)), Some(pending));
    // Who asks too often gets its tokens all the same.
    approve(&bed, shown.user_code, "ann")?;
    poll(&bed, &shown, &caller)?;
    Ok(())
}

fn a_denial_is_told_and_the_first_decision_stands(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (_, caller) = bed.register(draft("tv"))?;
    let authority = bed.authority();
    let ann = Login::now("ann", &authority)?;
    let denied = begin(&bed, &caller)?;
    let asked = prompt(&bed, denied.user_code)?;
    authority.deny_device(&asked).wait()?;
    for _ in 0..2 {
        assert_eq!(code_of(poll(&bed, &denied, &caller)), Some("access_denied"));
        assert_eq!(
            code_of(authority.approve_device(&asked, &ann, "api").wait()),
            Some("invalid_request")
        );
        assert_eq!(code_of(authority.deny_device(&asked).wait()), Some("invalid_request"));
        assert_eq!(code_of(prompt(&bed, denied.user_code)), Some("invalid_request"));
    }
    let approved = begin(&bed, &caller)?;
    let asked = prompt(&bed, approved.user_code)?;
    authority.approve_device(&asked, &ann, "api").wait()?;
    assert_eq!(code_of(authority.deny_device(&asked).wait()), Some("invalid_request"));
    let ben = Login::now("ben", &authority)?;
    assert_eq!(
        code_of(authority.approve_device(&asked, &ben, "api").wait()),
        Some("invalid_request")
    );
    assert_eq!(poll(&bed, &approved, &caller)?.subject.as_str(), "ann");
    Ok(())
}

fn one_of_many_decisions_on_a_user_code_stands(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (_, caller) = bed.register(draft("tv"))?;
    let shown = begin(&bed, &caller)?;
    let asked = prompt(&bed, shown.user_code)?;
    let next = std::sync::atomic::AtomicUsize::new(0);
    let decided = at_once(|| {
        let n = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let subject = format!("user-{n}");
        let authority = bed.authority();
        let login = Login::now(&subject, &authority)?;
        authority.approve_device(&asked, &login, "api").wait().map(|()| subject)
    });
    let won: Vec<_> = decided.iter().flatten().collect();
    assert_eq!(won.len(), 1);
    assert!(decided.iter().flatten().count() + decided.iter().filter(|d| d.is_err()).count() == 64);
    assert_eq!(poll(&bed, &shown, &caller)?.subject.as_str(), won[0]);
    Ok(())
}

fn codes_of_devices_expire_and_are_swept(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let (_, caller) = bed.register(draft("tv"))?;
    let (waits, approved) = (begin(&bed, &caller)?, begin(&bed, &caller)?);
    let asked = prompt(&bed, waits.user_code)?;
    approve(&bed, approved.user_code, "ann")?;
    bed.clock.advance(DEVICE_SECS - 1);
    assert_eq!(code_of(poll(&bed, &waits, &caller)), Some("authorization_pending"));
    bed.clock.advance(1);
    for swept in [false, true] {
        assert_eq!(code_of(poll(&bed, &waits, &caller)), Some("expired_token"), "{swept}");
        assert_eq!(code_of(poll(&bed, &approved, &caller)), Some("expired_token"), "{swept}");
        assert_eq!(code_of(prompt(&bed, waits.user_code)), Some("invalid_request"));
        let login = Login::now("ann", &bed.authority())?;
        let late = bed.authority().approve_device(&asked, &login, "api").wait();
        assert_eq!(code_of(late), Some("invalid_request"));
        // Long after, nothing is left of it.
        for _ in 0..4 {
            bed.clock.advance(3_600);
            bed.reopen()?;
            for _ in 0..128 {
                bed.authority().store().sweep(mintage::time::Clock::read(&*bed.clock))?;
            }
        }
    }
    assert_eq!(bed.authority().stats().codes, 0);
    Ok(())
}

fn a_device_code_is_its_clients_alone_and_no_other_code(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let both = [GrantType::DeviceCode, GrantType::AuthorizationCode, GrantType::RefreshToken];
    let web = |id: &str| draft(id).grants(both).redirect_uris([CB]).pkce_required(false);
    let (_, caller) = bed.register(web("tv"))?;
    let (_, thief) = bed.register(draft("thief"))?;
    let (_, without) = bed.register(draft("without").grants([GrantType::RefreshToken]))?;
    let shown = begin(&bed, &caller)?;
    assert_eq!(code_of(begin(&bed, &without)), Some("unauthorized_client"));
    assert_eq!(code_of(begin(&bed, &Caller::public("unknown"))), Some("invalid_client"));
    for approved in [false, true] {
        assert_eq!(code_of(poll(&bed, &shown, &thief)), Some("invalid_grant"), "{approved}");
        assert_eq!(code_of(poll(&bed, &shown, &without)), Some("unauthorized_client"));
        let unknown = Caller::public("unknown");
        assert_eq!(code_of(poll(&bed, &shown, &unknown)), Some("invalid_client"));
        // It is neither an authorization code nor a token.
        let text = shown.device_code.expose();
        let code = TokenRequest::code(text, &caller).redirect_uri(CB);
        assert_eq!(code_of(bed.authority().token(&code).wait()), Some("invalid_grant"));
        assert_eq!(code_of(bed.refresh(text, &caller)), Some("invalid_grant"));
        assert!(bed.authority().verify_live(text).wait().is_err());
        if !approved {
            approve(&bed, shown.user_code, "ann")?;
        }
    }
    // Nor is an authorization code a device code; nor is what nobody made.
    let request = AuthorizationRequest {
        response_type: Some("code"),
        client_id: Some("tv"),
        redirect_uri: Some(CB),
        ..AuthorizationRequest::default()
    };
    let authorization: Authorization = bed.authority().authorize(&request)?;
    let login = Login::now("ann", &bed.authority())?;
    let url = bed.authority().approve(&authorization, &login, "api").wait()?;
    let code = url.expose().split(['=', '&']).nth(1).ok_or("no code")?.to_owned();
    let mut garbled = shown.device_code.expose().to_owned();
    garbled.pop();
    for text in [&*code, "", "device", &garbled] {
        let request = TokenRequest::device(text, &caller);
        let refused = code_of(bed.authority().token(&request).wait());
        assert_eq!(refused, Some("invalid_grant"), "{text}");
    }
    poll(&bed, &shown, &caller)?;
    Ok(())
}

fn a_device_code_gives_tokens_once_and_a_second_use_ends_them(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let (_, caller) = bed.register(draft("tv"))?;
    let (_, thief) = bed.register(draft("thief"))?;
    let (shown, beside) = (begin(&bed, &caller)?, begin(&bed, &caller)?);
    for waiting in [&shown, &beside] {
        approve(&bed, waiting.user_code, "ann")?;
    }
    let (issued, other) = (poll(&bed, &shown, &caller)?, poll(&bed, &beside, &caller)?);
    // Who cannot redeem it cannot end what it gave.
    assert_eq!(code_of(poll(&bed, &shown, &thief)), Some("invalid_grant"));
    assert!(bed.is_active(&access_token(&issued), &auditor)?);
    for _ in 0..2 {
        assert_eq!(code_of(poll(&bed, &shown, &caller)), Some("invalid_grant"));
        assert!(!bed.is_active(&access_token(&issued), &auditor)?);
        assert!(!bed.is_active(&refresh_token(&issued)?, &auditor)?);
        assert!(bed.is_active(&access_token(&other), &auditor)?);
        bed.reopen()?;
    }
    Ok(())
}

fn one_of_many_polls_of_an_approved_device_wins(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (_, caller) = bed.register(draft("tv"))?;
    let shown = begin(&bed, &caller)?;
    approve(&bed, shown.user_code, "ann")?;
    let answers = at_once(|| poll(&bed, &shown, &caller));
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert!(answers.iter().all(|a| matches!(a, Ok(_) | Err(Error::InvalidGrant(_)))));
    Ok(())
}

fn a_device_gets_no_more_than_was_asked_for_approved_and_permitted(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (_, caller) = bed.register(draft("tv"))?;
    let authority = bed.authority();
    let ask = |request: DeviceRequest<'_>| authority.authorize_device(&request, &caller).wait();
    assert_eq!(code_of(ask(DeviceRequest::new().scope("admin"))), Some("invalid_scope"));
    assert_eq!(code_of(ask(DeviceRequest::new().scope("a\"b"))), Some("invalid_scope"));
    let other = DeviceRequest::new().resource("https://other.example");
    assert_eq!(code_of(ask(other)), Some("invalid_target"));
    let shown = ask(DeviceRequest::new().scope("api openid"))?;
    let (asked, ann) = (prompt(&bed, shown.user_code)?, Login::now("ann", &authority)?);
    assert_eq!(asked.scope().as_str(), "api openid");
    let more = authority.approve_device(&asked, &ann, "api web").wait();
    assert_eq!(code_of(more), Some("invalid_scope"));
    authority.approve_device(&asked, &ann, "api").wait()?;
    let poll_for = |scope: &str| {
        let request = TokenRequest::device(shown.device_code.expose(), &caller);
        authority.token(&request.scope(scope)).wait()
    };
    assert_eq!(code_of(poll_for("api openid")), Some("invalid_scope"));
    let issued = poll_for("")?;
    assert_eq!(issued.scope.as_str(), "api");
    assert!(issued.refresh_token.is_none() && issued.id_token.is_none());
    // What is taken from the client in between is in none of its tokens.
    let shown = begin(&bed, &caller)?;
    approve(&bed, shown.user_code, "ann")?;
    authority.update_client(draft("tv").scopes(["web", "openid"])).wait()?;
    assert_eq!(poll(&bed, &shown, &caller)?.scope.as_str(), "openid");
    // Whose tokens it may not have.
    let listed = PermittedUsers::Listed(vec![Subject::new("ann")?]);
    let (_, caller) = bed.register(draft("listed").permitted_users(listed))?;
    let shown = begin(&bed, &caller)?;
    let asked = prompt(&bed, shown.user_code)?;
    let ben = Login::now("ben", &authority)?;
    assert_eq!(
        code_of(authority.approve_device(&asked, &ben, "api").wait()),
        Some("access_denied")
    );
    authority.approve_device(&asked, &ann, "api").wait()?;
    let nobody = draft("listed").permitted_users(PermittedUsers::Listed(Vec::new()));
    authority.update_client(nobody).wait()?;
    assert_eq!(code_of(poll(&bed, &shown, &caller)), Some("invalid_grant"));
    Ok(())
}

/// When something is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Moment {
    Waiting,
    Prompted,
    Authenticated,
    Approved,
    Redeemed,
}

fn a_revocation_at_any_step_reaches_the_device(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    for moment in [
        Moment::Waiting,
        Moment::Prompted,
        Moment::Authenticated,
        Moment::Approved,
        Moment::Redeemed,
    ] {
        for what in 0..5 {
            let id = format!("{moment:?} {what}");
            let (client, caller) = bed.register(draft(&id))?;
            let authority = bed.authority();
            let revoke = |at: Moment| -> Tested {
                if at != moment {
                    return Ok(());
                }
                match what {
                    0 => authority.revoke(Target::Subject("ann")).wait()?,
                    1 => authority.revoke(Target::Client(&client)).wait()?,
                    2 => authority.revoke(Target::Pair(&client, "ann")).wait()?,
                    3 => authority.block_client(&client).wait()?,
                    _ => authority.revoke(Target::Everything).wait()?,
                }
                Ok(())
            };
            let shown = begin(&bed, &caller)?;
            revoke(Moment::Waiting)?;
            let got = (|| {
                let asked = prompt(&bed, shown.user_code)?;
                revoke(Moment::Prompted)?;
                let login = Login::now("ann", &authority)?.admitted(authority.begin());
                revoke(Moment::Authenticated)?;
                let scope = "api refresh_token";
                authority.approve_device(&asked, &login, scope).wait()?;
                revoke(Moment::Approved)?;
                let issued = poll(&bed, &shown, &caller)?;
                revoke(Moment::Redeemed)?;
                Ok::<_, Boxed>(issued)
            })();
            drop(authority);
            bed.reopen()?;
            let lives = got.is_ok_and(|issued| {
                bed.authority().verify_live(&access_token(&issued)).wait().is_ok()
            });
            assert!(!lives, "{id}");
            if moment < Moment::Redeemed {
                assert!(poll(&bed, &shown, &caller).is_err(), "{id}");
            }
        }
    }
    Ok(())
}

fn a_device_flow_stands_after_reopening(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let (_, caller) = bed.register(draft("tv"))?;
    let (shown, denied) = (begin(&bed, &caller)?, begin(&bed, &caller)?);
    // A newer root key, too.
    bed.root = bed.root.clone().with_version(2, [9; 32])?;
    bed.reopen()?;
    assert_eq!(code_of(poll(&bed, &shown, &caller)), Some("authorization_pending"));
    approve(&bed, shown.user_code, "ann")?;
    bed.authority().deny_device(&prompt(&bed, denied.user_code)?).wait()?;
    bed.reopen()?;
    assert_eq!(code_of(poll(&bed, &denied, &caller)), Some("access_denied"));
    let issued = poll(&bed, &shown, &caller)?;
    bed.reopen()?;
    assert!(bed.authority().verify_live(&access_token(&issued)).wait().is_ok());
    assert_eq!(code_of(poll(&bed, &shown, &caller)), Some("invalid_grant"));
    Ok(())
}

fn who_guesses_user_codes_waits(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (_, caller) = bed.register(draft("tv"))?;
    let shown = begin(&bed, &caller)?;
    let (here, there): (IpAddr, IpAddr) = ("192.0.2.1".parse()?, "192.0.2.2".parse()?);
    let ask = |text: &str, from| bed.authority().device_prompt(text, Some(from)).wait();
    let right = shown.user_code.to_string();
    for text in ["", "BBBB-BBBB", "AAAA", &"B".repeat(1_000)].iter().cycle().take(11) {
        assert_eq!(code_of(ask(text, here)), Some("invalid_request"));
        // Whoever guesses has a right one, too: it forgives nothing.
        let _ = ask(&right, here);
    }
    assert!(matches!(ask(&right, here), Err(Error::TooManyRequests(..))));
    ask(&right, there)?;
    bed.clock.advance(2);
    ask(&right, here)?;
    Ok(())
}

fn salesforces_devices_are_understood_and_told_in_its_words(opener: impl Opener) -> Tested {
    fn settings(builder: Builder) -> Builder {
        builder.profile(Profile::Salesforce)
    }
    let bed = Bed::with(opener, settings)?;
    bed.register(draft("tv"))?;
    let start = [("response_type", "device_code"), ("client_id", "tv"), ("scope", "api")];
    let form = TokenForm::from_pairs(start)?;
    assert!(form.begins_device());
    let caller = bed.authority().caller(&form.credentials(None, None))?;
    let shown = bed.authority().authorize_device(&form.device_request(), &caller).wait()?;
    let code = shown.device_code.expose();
    let ask = |code: &str| {
        let form =
            TokenForm::from_pairs([("grant_type", "device"), ("client_id", "tv"), ("code", code)])?;
        assert!(!form.begins_device() && !format!("{form:?}").contains(code));
        bed.authority().token(&form.request(&caller)?).wait()
    };
    let told = |code: &str| {
        let answer = ask(code).err().ok_or("given")?.answer(Profile::Salesforce);
        Ok::<_, Boxed>((answer.code, answer.status, answer.description))
    };
    assert_eq!(told(code)?.0, "authorization_pending");
    assert_eq!(told(code)?.0, "slow_down");
    assert_eq!(told("garbled")?, ("invalid_grant", 400, "expired authorization code"));
    let asked = prompt(&bed, shown.user_code)?;
    bed.authority().approve_device(&asked, &Login::now("ann", &bed.authority())?, "api").wait()?;
    assert_eq!(ask(code)?.subject.as_str(), "ann");
    let denied = begin(&bed, &caller)?;
    bed.authority().deny_device(&prompt(&bed, denied.user_code)?).wait()?;
    let text = "end-user denied authorization";
    assert_eq!(told(denied.device_code.expose())?, ("access_denied", 400, text));
    let late = begin(&bed, &caller)?;
    bed.clock.advance(DEVICE_SECS);
    let text = "expired authorization code";
    assert_eq!(told(late.device_code.expose())?, ("invalid_grant", 400, text));
    Ok(())
}

fn an_authority_without_a_page_has_no_devices(opener: impl Opener) -> Tested {
    fn settings(builder: Builder) -> Builder {
        let mut endpoints = Endpoints::below(support::ISSUER);
        endpoints.device_verification = None;
        builder.endpoints(endpoints)
    }
    let bed = Bed::with(opener, settings)?;
    let (_, caller) = bed.register(draft("tv"))?;
    assert_eq!(code_of(begin(&bed, &caller)), Some("unsupported_grant_type"));
    assert!(!bed.authority().metadata().to_json().contains("device"));
    let other = Bed::new(support::Memory::default())?;
    let told = other.authority().metadata().to_json();
    assert!(told.contains("/services/oauth2/device_authorization\""));
    assert!(told.contains("urn:ietf:params:oauth:grant-type:device_code"));

    Ok(())
}
