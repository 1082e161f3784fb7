//! Laws of logging out, of Salesforce's ways to revoke, and of the end of all JWTs.

mod support;

use std::sync::{Arc, Barrier};

use mintage::authority::{
    Builder, Client, Error, Issue, Issued, LogoutRequest, LogoutScope, OauthTokenType, Profile,
    Scratch, TokenFormat,
};
use mintage::codec::algorithm::Algorithm;
use mintage::codec::keys::SigningKey;
use mintage::entropy::SeededEntropy;
use mintage::ids::{ClientId, Subject};
use support::{Bed, Opener, Tested, access_token, refresh_token};

laws![
    a_logout_request_is_who_it_says_it_is,
    a_hint_may_be_old_and_must_be_ours,
    salesforces_hints_name_the_user_by_url,
    a_logout_ends_sessions_and_names_whom_to_tell,
    a_logout_of_everything_ends_refreshes_too,
    a_token_is_revoked_by_its_kind_alone,
    whoever_holds_a_token_may_end_it_under_salesforce,
    all_jwts_end_with_their_keys_and_sessions_stay,
    concurrent_revocations_by_kind_all_hold,
];

type Boxed = Box<dyn std::error::Error>;

const BYE: &str = "https://app.example/bye?x=1";

fn draft(id: &str, format: TokenFormat) -> Client {
    Client::public(id)
        .scopes(["openid", "api", "refresh_token"])
        .format(format)
        .post_logout_redirect_uris([BYE])
}

fn issue<O: Opener>(bed: &Bed<O>, client: &ClientId, scope: &str) -> Result<Issued, Boxed> {
    Ok(bed.authority().issue(Issue::to("ann", client).scope(scope)).wait()?)
}

fn hint(issued: &Issued) -> Result<String, Boxed> {
    Ok(issued.id_token.as_ref().ok_or("no ID token")?.expose().to_owned())
}

fn code_of<T>(refused: Result<T, Error>) -> Option<&'static str> {
    refused.err().map(|error| error.code())
}

fn a_logout_request_is_who_it_says_it_is(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let (app, _) = bed.register(draft("app", TokenFormat::Opaque))?;
    bed.register(draft("other", TokenFormat::Opaque).post_logout_redirect_uris(["app:/bye"]))?;
    let hint = hint(&issue(&bed, &app, "openid")?)?;
    bed.reopen()?;
    let base = LogoutRequest { id_token_hint: Some(&hint), ..LogoutRequest::default() };
    let read = |request: &LogoutRequest<'_>| bed.authority().read_logout(request);
    let seen = read(&base)?;
    assert_eq!(seen.subject.as_ref().map(Subject::as_str), Some("ann"));
    assert_eq!((seen.client_id.as_ref(), &seen.redirect), (Some(&app), &None));
    let back = LogoutRequest { post_logout_redirect_uri: Some(BYE), state: Some("a b"), ..base };
    assert_eq!(read(&back)?.redirect.as_deref(), Some("https://app.example/bye?x=1&state=a%20b"));
    let named = LogoutRequest { id_token_hint: None, client_id: Some("app"), ..back };
    let seen = read(&named)?;
    assert_eq!((seen.subject, seen.redirect.is_some()), (None, true));
    let long = "x".repeat(mintage::authority::STATE_LEN_MAX + 1);
    for (what, bad) in [
        ("another's URI", LogoutRequest { post_logout_redirect_uri: Some("app:/bye"), ..base }),
        ("nobody's URI", LogoutRequest { id_token_hint: None, ..back }),
        ("an unknown client", LogoutRequest { id_token_hint: None, client_id: Some("x"), ..back }),
        ("another client's hint", LogoutRequest { client_id: Some("other"), ..base }),
        ("a longer URI", LogoutRequest { post_logout_redirect_uri: Some(&BYE[..26]), ..base }),
        ("a long state", LogoutRequest { state: Some(&long), ..base }),
    ] {
        assert_eq!(code_of(read(&bad)), Some("invalid_request"), "{what}");
    }
    assert!(read(&LogoutRequest::default())?.subject.is_none());
    let refused = bed
        .authority()
        .register(draft("b", TokenFormat::Opaque).post_logout_redirect_uris(["javascript:x"]));
    assert_eq!(code_of(refused.wait()), Some("invalid_client_metadata"));
    Ok(())
}

fn a_hint_may_be_old_and_must_be_ours(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (app, _) = bed.register(draft("app", TokenFormat::Jwt))?;
    let issued = issue(&bed, &app, "openid")?;
    let (hint, access) = (hint(&issued)?, access_token(&issued));
    bed.clock.advance(1_000_000);
    bed.authority().keys().generate(Algorithm::Es256).wait()?;
    let read = |hint: &str| {
        let hint = Some(hint);
        bed.authority().read_logout(&LogoutRequest { id_token_hint: hint, ..Default::default() })
    };
    assert!(read(&hint)?.subject.is_some());
    let mut forged = hint.clone();
    forged.replace_range(hint.len() - 2.., "AA");
    for bad in ["x", "a.b.c", &access, &forged, &"x".repeat(100_000)] {
        assert_eq!(code_of(read(bad)), Some("invalid_request"), "{bad:.40}");
    }
    // A key that was taken out vouches for nobody.
    let key = SigningKey::generate(Algorithm::EdDsa, Some("new"), &SeededEntropy::new(5))?;
    bed.authority().keys().replace_all(key).wait()?;
    assert_eq!(code_of(read(&hint)), Some("invalid_request"));
    Ok(())
}

fn salesforce(builder: Builder) -> Builder {
    builder.profile(Profile::Salesforce)
}

fn salesforces_hints_name_the_user_by_url(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, salesforce)?;
    let (app, _) = bed.register(draft("app", TokenFormat::Opaque))?;
    let odd = "a/b c%\u{e9}";
    let issued = bed.authority().issue(Issue::to(odd, &app).scope("openid")).wait()?;
    let hint = hint(&issued)?;
    let request = LogoutRequest { id_token_hint: Some(&hint), ..LogoutRequest::default() };
    let seen = bed.authority().read_logout(&request)?;
    assert_eq!(seen.subject.as_ref().map(Subject::as_str), Some(odd));
    Ok(())
}

fn a_logout_ends_sessions_and_names_whom_to_tell(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let (ann, mut tokens) = (Subject::new("ann")?, Vec::new());
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let id = format!("{format:?}");
        let told =
            draft(&id, format).logout_url(format!("https://{}.example/out", id.to_lowercase()));
        let (client, caller) = bed.register(told)?;
        let session = issue(&bed, &client, "api")?;
        let login = issue(&bed, &client, "api refresh_token")?;
        let other = bed.authority().issue(Issue::to("bob", &client).scope("api")).wait()?;
        tokens.push((session, login, other, caller));
    }
    let (quiet, _) = bed.register(draft("quiet", TokenFormat::Opaque))?;
    issue(&bed, &quiet, "api")?;
    let told = bed.authority().end_sessions(&ann, LogoutScope::Session).wait()?;
    let mut told: Vec<(String, Option<String>)> = told
        .into_iter()
        .map(|told| (told.client_id.as_str().to_owned(), told.logout_url))
        .collect();
    told.sort();
    let url = |host: &str| Some(format!("https://{host}.example/out"));
    let wanted = [
        ("Jwt".to_owned(), url("jwt")),
        ("Opaque".to_owned(), url("opaque")),
        ("quiet".to_owned(), None),
    ];
    assert_eq!(told, wanted);
    for round in 0..2 {
        for (session, login, other, _) in &tokens {
            assert!(!bed.is_active(&access_token(session), &auditor)?, "{round}");
            assert!(
                bed.is_active(&access_token(login), &auditor)?,
                "it was to outlast the session"
            );
            assert!(bed.is_active(&access_token(other), &auditor)?, "another user's");
        }
        bed.reopen()?;
    }
    for (_, login, _, caller) in &tokens {
        assert!(bed.refresh(&refresh_token(login)?, caller).is_ok());
    }
    assert!(bed.authority().end_sessions(&ann, LogoutScope::Session).wait()?.is_empty());
    // Whoever logs in again is logged in.
    assert!(bed.is_active(&access_token(&issue(&bed, &quiet, "api")?), &auditor)?);
    Ok(())
}

fn a_logout_of_everything_ends_refreshes_too(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let (app, caller) = bed.register(draft("app", TokenFormat::Opaque))?;
    let mut logins = Vec::new();
    for n in 0..300 {
        let device = format!("device-{n}");
        let issue = Issue::to("ann", &app).scope("api refresh_token").device(device);
        logins.push(bed.authority().issue(issue).wait()?);
    }
    let ann = Subject::new("ann")?;
    let told = bed.authority().end_sessions(&ann, LogoutScope::Everything).wait()?;
    assert_eq!(told.len(), 1, "a client is told once");
    for login in &logins {
        assert!(!bed.is_active(&access_token(login), &auditor)?);
    }
    assert_eq!(code_of(bed.refresh(&refresh_token(&logins[299])?, &caller)), Some("invalid_grant"));
    Ok(())
}

/// Live tokens of every kind, each of a login of its own.
fn kinds<O: Opener>(bed: &Bed<O>) -> Result<Vec<(OauthTokenType, String, String)>, Boxed> {
    let id = |kind: &str| format!("{kind}-{}", bed.authority().stats().families);
    let (opaque, _) = bed.register(draft(&id("opaque"), TokenFormat::Opaque))?;
    let (jwt, _) = bed.register(draft(&id("jwt"), TokenFormat::Jwt))?;
    let one = issue(bed, &opaque, "api refresh_token")?;
    let two = issue(bed, &opaque, "api refresh_token")?;
    let three = issue(bed, &opaque, "api refresh_token")?;
    let four = issue(bed, &jwt, "api refresh_token")?;
    let rows = bed.authority().grants().of_client(&opaque).page(10).wait()?;
    let row = rows.grants.iter().find(|row| row.family == three.family).ok_or("no row")?;
    let handle = row.delete_handle.expose().to_owned();
    Ok(vec![
        (OauthTokenType::AccessToken, access_token(&one), access_token(&one)),
        (OauthTokenType::RefreshToken, refresh_token(&two)?, access_token(&two)),
        (OauthTokenType::DeleteToken, handle, access_token(&three)),
        (OauthTokenType::OrgJwt, access_token(&four), access_token(&four)),
    ])
}

fn a_token_is_revoked_by_its_kind_alone(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let kinds = kinds(&bed)?;
    for (kind, token, shown) in &kinds {
        assert_eq!(OauthTokenType::from_name(kind.name()), Some(*kind));
        for (other, ..) in kinds.iter().filter(|(other, ..)| other != kind) {
            let refused = bed.authority().revoke_by_type(*other, token).wait();
            assert_eq!(code_of(refused), Some("invalid_token"), "{kind:?} as {other:?}");
            assert!(bed.is_active(shown, &auditor)?);
        }
        bed.authority().revoke_by_type(*kind, token).wait()?;
        assert!(!bed.is_active(shown, &auditor)?, "{kind:?}");
        bed.reopen()?;
        assert!(!bed.is_active(shown, &auditor)?, "{kind:?} after reopening");
        if *kind != OauthTokenType::DeleteToken {
            let again = bed.authority().revoke_by_type(*kind, token).wait();
            assert_eq!(code_of(again), Some("invalid_token"), "{kind:?} twice");
        }
    }
    for text in ["", "x", "a.b.c"] {
        let refused = bed.authority().revoke_by_type(OauthTokenType::AccessToken, text).wait();
        assert_eq!(code_of(refused), Some("invalid_token"));
    }
    assert_eq!(OauthTokenType::from_name("access_token"), None);
    Ok(())
}

fn whoever_holds_a_token_may_end_it_under_salesforce(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let (app, _) = bed.register(draft("app", TokenFormat::Opaque))?;
    let token = access_token(&issue(&bed, &app, "api")?);
    let refused = bed.authority().revoke_as_holder(&token).wait();
    assert_eq!(code_of(refused), Some("invalid_client"), "RFC 7009 takes a client");
    assert!(bed.authority().verify_live(&token).wait().is_ok());
    bed.settings(salesforce);
    bed.reopen()?;
    let auditor = bed.auditor()?;
    for (kind, token, shown) in kinds(&bed)? {
        bed.authority().revoke_as_holder(&token).wait()?;
        assert!(!bed.is_active(&shown, &auditor)?, "{kind:?}");
    }
    for text in ["", "x", "a.b.c", &format!("{token}x")] {
        let refused = bed.authority().revoke_as_holder(text).wait().err().ok_or("revoked")?;
        let answer = refused.answer(Profile::Salesforce);
        assert_eq!((answer.code, answer.status), ("invalid_token", 400), "{text}");
    }
    // A client that authenticates has the RFC's way: what is no token is no error.
    let (_, caller) = bed.register(Client::confidential("robot"))?;
    bed.authority().revoke_token("x", &caller).wait()?;
    Ok(())
}

fn all_jwts_end_with_their_keys_and_sessions_stay(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let (opaque, _) = bed.register(draft("opaque", TokenFormat::Opaque))?;
    let (jwt, caller) = bed.register(draft("jwt", TokenFormat::Jwt))?;
    let (theirs, _) = bed.register(draft("theirs", TokenFormat::SalesforceJwt))?;
    let session = access_token(&issue(&bed, &opaque, "api")?);
    let login = issue(&bed, &jwt, "api refresh_token")?;
    bed.authority().keys().generate(Algorithm::Es256).wait()?;
    let second = issue(&bed, &theirs, "api")?;
    let jwts = [access_token(&login), access_token(&second)];
    assert!(jwts.iter().all(|jwt| bed.authority().verify(jwt, &mut Scratch::new()).is_ok()));
    let key = SigningKey::generate(Algorithm::EdDsa, Some("fresh"), &SeededEntropy::new(5))?;
    bed.authority().keys().replace_all(key).wait()?;
    for _ in 0..2 {
        for jwt in &jwts {
            assert!(bed.authority().verify(jwt, &mut Scratch::new()).is_err());
            assert!(bed.authority().verify_live(jwt).wait().is_err());
            assert!(!bed.is_active(jwt, &auditor)?);
        }
        assert!(bed.is_active(&session, &auditor)?, "a session is no JWT");
        assert_eq!(bed.authority().keys().active_kid(), "fresh");
        bed.reopen()?;
    }
    // The login stands: a refresh gives a JWT of the new key.
    let again = bed.refresh(&refresh_token(&login)?, &caller)?;
    assert!(bed.authority().verify(again.access_token.expose(), &mut Scratch::new()).is_ok());
    Ok(())
}

fn concurrent_revocations_by_kind_all_hold(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let kinds = kinds(&bed)?;
    let start = Arc::new(Barrier::new(2 * kinds.len()));
    std::thread::scope(|scope| {
        for (kind, token, _) in kinds.iter().chain(&kinds) {
            let (authority, start) = (bed.authority(), Arc::clone(&start));
            scope.spawn(move || {
                start.wait();
                let done = authority.revoke_by_type(*kind, token).wait();
                assert!(matches!(code_of(done), None | Some("invalid_token")));
            });
        }
    });
    for (kind, _, shown) in &kinds {
        assert!(!bed.is_active(shown, &auditor)?, "{kind:?}");
    }
    Ok(())
}
