//! Laws of what a client's owner decides: whose tokens, from where, for how long, and whether at all.

mod support;

use std::sync::LazyLock;
use std::sync::Mutex;

use mintage::authority::{
    Answer, AuthMethod, Caller, Client, Error, GrantType, Introspects, IpRange, Issue, Issued,
    PermittedUsers, Profile, RefreshPolicy, Target, TokenFormat, TokenRequest,
};
use mintage::ids::{ClientId, Subject};
use support::{Bed, Opener, Tested, access_token, refresh_token};

laws![
    listed_subjects_alone_are_permitted,
    the_host_says_who_is_approved,
    a_secret_may_be_optional_for_a_refresh,
    requests_come_from_permitted_addresses,
    refresh_tokens_may_never_be_given,
    a_blocked_client_is_refused_and_holds_nothing,
    an_updated_client_follows_its_new_settings,
    an_updated_client_keeps_or_changes_its_secret,
    a_parent_introspects_its_children,
    a_client_runs_as_a_subject,
];

const SCOPES: [&str; 3] = ["api", "web", "refresh_token"];

fn code_of(refused: Result<Issued, Error>) -> Option<&'static str> {
    refused.err().map(|error| error.code())
}

fn credentials<O: Opener>(bed: &Bed<O>, caller: &Caller) -> Result<Issued, Error> {
    bed.authority().token(&TokenRequest::client_credentials(caller)).wait()
}

fn issue<O: Opener>(bed: &Bed<O>, subject: &str, client: &ClientId) -> Result<Issued, Error> {
    bed.authority().issue(Issue::to(subject, client)).wait()
}

fn listed_subjects_alone_are_permitted(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let draft = |subjects: &[&str]| {
        let subjects = subjects.iter().map(Subject::new).collect::<Result<Vec<_>, _>>()?;
        let users = PermittedUsers::Listed(subjects);
        Ok::<_, mintage::ids::IdError>(Client::public("app").scopes(SCOPES).permitted_users(users))
    };
    let (client, caller) = bed.register(draft(&["ann", "bob"])?)?;
    bed.reopen()?;
    let ann = refresh_token(&issue(&bed, "ann", &client)?)?;
    let bob = refresh_token(&issue(&bed, "bob", &client)?)?;
    let refused = issue(&bed, "eve", &client).err().ok_or("issued")?;
    assert_eq!(refused.code(), "access_denied");
    let wanted = Answer {
        code: "invalid_app_access",
        status: 400,
        description: "user is not admin approved to access this app",
    };
    assert_eq!(refused.answer(Profile::Salesforce), wanted);
    // Bob is taken off the list: his login rests until he is on it again.
    bed.authority().update_client(draft(&["ann"])?).wait()?;
    bed.refresh(&ann, &caller)?;
    assert_eq!(code_of(bed.refresh(&bob, &caller)), Some("invalid_grant"));
    bed.authority().update_client(draft(&["bob"])?).wait()?;
    let next = refresh_token(&bed.refresh(&bob, &caller)?)?;
    // A replay is seen even while its subject is not permitted.
    bed.clock.advance(61);
    bed.authority().update_client(draft(&[])?).wait()?;
    assert_eq!(code_of(bed.refresh(&bob, &caller)), Some("invalid_grant"));
    bed.authority().update_client(draft(&["bob"])?).wait()?;
    assert_eq!(code_of(bed.refresh(&next, &caller)), Some("invalid_grant"));
    let many: Vec<String> = (0..257).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let refused = bed.authority().update_client(draft(&many)?).wait();
    assert!(matches!(refused, Err(Error::InvalidClientMetadata(_))));
    Ok(())
}

/// Subjects that an administrator has approved; one list for every store of the law.
static APPROVED: LazyLock<Mutex<Vec<String>>> = LazyLock::new(Mutex::default);

fn the_host_says_who_is_approved(opener: impl Opener) -> Tested {
    fn listed(subject: &str) -> bool {
        APPROVED.lock().is_ok_and(|list| list.iter().any(|one| one == subject))
    }
    let bed = Bed::with(opener, |builder| {
        builder.approvals(|client: &ClientId, subject: &Subject| {
            client.as_str() == "app" && listed(subject.as_str())
        })
    })?;
    // Unlike that of the other store.
    let subject = format!("ann of {:p}", &raw const bed);
    let draft = |id| {
        let users = PermittedUsers::AdminApproved;
        Client::public(id).scopes(SCOPES).permitted_users(users)
    };
    let (client, caller) = bed.register(draft("app"))?;
    let (other, _) = bed.register(draft("other"))?;
    assert_eq!(code_of(issue(&bed, &subject, &client)), Some("access_denied"));
    APPROVED.lock().map_err(|_| "poisoned")?.push(subject.clone());
    let token = refresh_token(&issue(&bed, &subject, &client)?)?;
    assert_eq!(code_of(issue(&bed, &subject, &other)), Some("access_denied"));
    APPROVED.lock().map_err(|_| "poisoned")?.retain(|one| *one != subject);
    assert_eq!(code_of(bed.refresh(&token, &caller)), Some("invalid_grant"));
    Ok(())
}

fn a_secret_may_be_optional_for_a_refresh(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let draft =
        || Client::confidential("app").scopes(SCOPES).secret_optional([GrantType::RefreshToken]);
    let refused = bed.authority().register(draft()).wait();
    assert!(matches!(refused, Err(Error::InvalidClientMetadata(_))), "tokens must rotate");
    let (client, caller) = bed.register(draft().refresh(RefreshPolicy::rotate()))?;
    bed.reopen()?;
    let mut token = refresh_token(&issue(&bed, "ann", &client)?)?;
    for caller in [&Caller::public("app"), &caller, &Caller::public("app")] {
        token = refresh_token(&bed.refresh(&token, caller)?)?;
    }
    let wrong = Caller::secret("app", "mcs_guess");
    assert_eq!(code_of(bed.refresh(&token, &wrong)), Some("invalid_client"));
    assert_eq!(code_of(credentials(&bed, &Caller::public("app"))), Some("invalid_client"));
    assert!(bed.authority().introspect(&token, &Caller::public("app")).wait().is_err());
    credentials(&bed, &caller)?;
    for grants in [[GrantType::ClientCredentials], [GrantType::AuthorizationCode]] {
        let draft = Client::confidential("x").secret_optional(grants).pkce_required(false);
        let refused = bed.authority().register(draft).wait();
        assert!(matches!(refused, Err(Error::InvalidClientMetadata(_))));
    }
    Ok(())
}

fn requests_come_from_permitted_addresses(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let ranges = || ["10.0.0.0/8", "2001:db8::/32"].into_iter().filter_map(IpRange::parse);
    let (inside, outside) = ("10.1.2.3".parse()?, "192.0.2.1".parse()?);
    let draft = |id| Client::confidential(id).scopes(SCOPES).ip_ranges(ranges());
    let (strict, caller) = bed.register(draft("strict"))?;
    let (relaxed, lax) = bed.register(draft("relaxed").ip_relaxed_for_refresh())?;
    bed.reopen()?;
    credentials(&bed, &caller.clone().from_address(inside))?;
    credentials(&bed, &caller.clone().from_address("::ffff:10.1.2.3".parse()?))?;
    credentials(&bed, &caller.clone().from_address("2001:db8::1".parse()?))?;
    for caller in [&caller, &lax] {
        assert_eq!(code_of(credentials(&bed, caller)), Some("access_denied"), "unknown address");
        let elsewhere = caller.clone().from_address(outside);
        assert_eq!(code_of(credentials(&bed, &elsewhere)), Some("access_denied"));
    }
    let token = refresh_token(&issue(&bed, "ann", &strict)?)?;
    let elsewhere = bed.refresh(&token, &caller.clone().from_address(outside));
    assert_eq!(code_of(elsewhere), Some("access_denied"));
    bed.refresh(&token, &caller.clone().from_address(inside))?;
    let token = refresh_token(&issue(&bed, "ann", &relaxed)?)?;
    bed.refresh(&token, &lax.from_address(outside))?;
    let known = bed.authority().client(&strict).ok_or("unknown")?;
    assert!(known.permits_address(inside) && !known.permits_address(outside));
    Ok(())
}

fn refresh_tokens_may_never_be_given(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let draft = |policy| Client::public("app").scopes(SCOPES).refresh(policy);
    let (client, caller) = bed.register(draft(RefreshPolicy::rotate()))?;
    let token = refresh_token(&issue(&bed, "ann", &client)?)?;
    bed.authority().update_client(draft(RefreshPolicy::never())).wait()?;
    bed.reopen()?;
    assert!(issue(&bed, "ann", &client)?.refresh_token.is_none());
    assert_eq!(code_of(bed.refresh(&token, &caller)), Some("invalid_grant"));
    Ok(())
}

fn a_blocked_client_is_refused_and_holds_nothing(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let (client, caller) = bed.app(&format!("{format:?}"), format)?;
        let old = issue(&bed, "ann", &client)?;
        bed.authority().block_client(&client).wait()?;
        for _ in 0..2 {
            assert!(bed.authority().client(&client).ok_or("unknown")?.is_blocked());
            let refused = bed.refresh(&refresh_token(&old)?, &caller).err().ok_or("refreshed")?;
            assert_eq!(refused.code(), "invalid_client");
            assert_eq!(refused.answer(Profile::Salesforce).code, "app_blocked");
            assert_eq!(code_of(issue(&bed, "ann", &client)), Some("invalid_client"));
            assert!(!bed.is_active(&access_token(&old), &auditor)?);
            assert!(!bed.is_active(&refresh_token(&old)?, &auditor)?);
            bed.reopen()?;
        }
        bed.authority().unblock_client(&client).wait()?;
        bed.reopen()?;
        assert!(!bed.is_active(&access_token(&old), &auditor)?);
        assert_eq!(code_of(bed.refresh(&refresh_token(&old)?, &caller)), Some("invalid_grant"));
        let new = issue(&bed, "ann", &client)?;
        bed.refresh(&refresh_token(&new)?, &caller)?;
    }
    let nobody = ClientId::new("nobody")?;
    let refused = bed.authority().block_client(&nobody).wait();
    assert!(matches!(refused, Err(Error::InvalidClient(_))));
    Ok(())
}

fn an_updated_client_follows_its_new_settings(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let (client, caller) = bed.app("app", TokenFormat::Opaque)?;
    let token = refresh_token(&issue(&bed, "ann", &client)?)?;
    let draft = Client::public("app")
        .scopes(["api", "refresh_token", "more"])
        .format(TokenFormat::Jwt)
        .access_secs(60);
    assert!(bed.authority().update_client(draft).wait()?.client_secret.is_none());
    for _ in 0..2 {
        let issued = issue(&bed, "bob", &client)?;
        assert_eq!((issued.scope.as_str(), issued.expires_in), ("api more refresh_token", 60));
        assert!(access_token(&issued).contains('.'));
        bed.reopen()?;
    }
    // What was taken away is gone; what was added was never consented to.
    let refreshed = bed.refresh(&token, &caller)?;
    assert_eq!(refreshed.scope.as_str(), "api refresh_token");
    let token = refresh_token(&refreshed)?;
    let request = TokenRequest::refresh(&token, &caller).scope("web");
    assert_eq!(code_of(bed.authority().token(&request).wait()), Some("invalid_scope"));
    let unusable = Client::public("app").grants([GrantType::ClientCredentials]);
    let refused = bed.authority().update_client(unusable).wait();
    assert!(matches!(refused, Err(Error::InvalidClientMetadata(_))));
    let refused = bed.authority().update_client(Client::public("nobody")).wait();
    assert!(matches!(refused, Err(Error::InvalidClient(_))));
    bed.refresh(&token, &caller)?;
    Ok(())
}

fn an_updated_client_keeps_or_changes_its_secret(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let draft = || Client::confidential("app").scopes(["api"]);
    let (client, first) = bed.register(draft())?;
    let staged = bed.authority().stage_secret(&client).wait()?;
    let staged = Caller::secret("app", staged.expose());
    assert!(bed.authority().update_client(draft().name("New")).wait()?.client_secret.is_none());
    bed.reopen()?;
    credentials(&bed, &first)?;
    credentials(&bed, &staged)?;
    bed.authority().update_client(draft().secret("correct horse")).wait()?;
    bed.reopen()?;
    assert!(credentials(&bed, &first).is_err() && credentials(&bed, &staged).is_err());
    credentials(&bed, &Caller::secret("app", "correct horse"))?;
    // A secret that must sign cannot be had from a digest.
    let signs = draft().authenticates([AuthMethod::ClientSecretJwt, AuthMethod::ClientSecret]);
    let drawn = bed.authority().update_client(signs.clone()).wait()?.client_secret;
    let drawn = Caller::secret("app", drawn.ok_or("no secret")?.expose());
    assert!(bed.authority().update_client(signs).wait()?.client_secret.is_none());
    credentials(&bed, &drawn)?;
    bed.authority().update_client(Client::public("app")).wait()?;
    bed.reopen()?;
    assert_eq!(code_of(credentials(&bed, &drawn)), Some("invalid_client"));
    assert!(!bed.authority().client(&client).ok_or("unknown")?.is_confidential());
    assert!(bed.authority().update_client(draft()).wait()?.client_secret.is_some());
    Ok(())
}

fn a_parent_introspects_its_children(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let gateway = Client::confidential("gateway").introspects(Introspects::OwnAndChildren);
    let (gateway, parent) = bed.register(gateway)?;
    let (_, stranger) = bed.register(Client::confidential("stranger"))?;
    let child = Client::public("child").scopes(SCOPES).parent(&gateway);
    let (child, _) = bed.register(child)?;
    let (orphan, _) = bed.app("orphan", TokenFormat::Jwt)?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let draft = Client::public("child").scopes(SCOPES).format(format);
        bed.authority().update_client(draft).wait()?;
        bed.reopen()?;
        assert_eq!(bed.authority().client(&child).ok_or("unknown")?.parent(), Some(&gateway));
        let issued = issue(&bed, "ann", &child)?;
        for token in [access_token(&issued), refresh_token(&issued)?] {
            assert!(bed.is_active(&token, &parent)?);
            assert!(!bed.is_active(&token, &stranger)?);
        }
        assert!(!bed.is_active(&access_token(&issue(&bed, "ann", &orphan)?), &parent)?);
    }
    Ok(())
}

fn a_client_runs_as_a_subject(opener: impl Opener) -> Tested {
    let mut bed = Bed::with(opener, |builder| builder.profile(Profile::Salesforce))?;
    let auditor = bed.auditor()?;
    let (_, robot) = bed.register(Client::confidential("nightly").run_as("robot@example"))?;
    let (_, nobody) = bed.register(Client::confidential("nobody"))?;
    bed.reopen()?;
    let issued = credentials(&bed, &robot)?;
    assert_eq!(issued.subject.as_str(), "robot@example");
    assert!(bed.is_active(&access_token(&issued), &auditor)?);
    bed.authority().revoke(Target::Subject("robot@example")).wait()?;
    assert!(!bed.is_active(&access_token(&issued), &auditor)?);
    credentials(&bed, &robot)?;
    let refused = credentials(&bed, &nobody).err().ok_or("issued")?;
    let wanted = Answer {
        code: "invalid_grant",
        status: 400,
        description: "no client credentials user enabled",
    };
    assert_eq!(refused.answer(bed.authority().profile()), wanted);
    assert!(bed.authority().register(Client::confidential("x").run_as("a\n")).wait().is_err());
    Ok(())
}
