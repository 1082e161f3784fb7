//! Laws of the password grant.

mod support;

use std::net::IpAddr;
use std::sync::Mutex;

use mintage::authority::{
    Builder, Caller, Client, Error, GrantType, Issued, PASSWORD_LEN_MAX, PasswordCredentials,
    PermittedUsers, Profile, Target, TokenForm, TokenFormat, TokenRequest, USERNAME_LEN_MAX,
};
use mintage::ids::Subject;
use support::{Bed, Boxed, Opener, Tested, access_token, at_once};

laws![
    a_password_gives_an_access_token_where_both_permit_it,
    a_wrong_password_gives_nothing_and_looks_like_an_unknown_name,
    a_password_gives_no_more_scope_than_the_client_has,
    many_may_use_one_password_at_once,
    who_guesses_passwords_waits,
    a_revocation_while_a_password_is_checked_reaches_the_token,
    a_password_in_a_form_is_told_in_the_words_of_its_profile,
];

/// What happens while a password is checked.
static MEANWHILE: Mutex<Option<Box<dyn FnOnce() + Send>>> = Mutex::new(None);

fn check(credentials: &PasswordCredentials<'_>) -> Option<Subject> {
    let is_shown = format!("{credentials:?}").contains(credentials.password);
    assert!(credentials.password.is_empty() || !is_shown);
    let subject = match (credentials.username, credentials.password) {
        ("ann@example.com", "right + wrong") => "ann",
        ("ben@example.com", "right") => "ben",
        ("slow@example.com", "right") => {
            let run = MEANWHILE.lock().ok().and_then(|mut held| held.take());
            run.into_iter().for_each(|run| run());
            "ann"
        }
        _ => return None,
    };
    Subject::new(subject).ok()
}

fn settings(builder: Builder) -> Builder {
    builder.passwords(check)
}

const ANN: (&str, &str) = ("ann@example.com", "right + wrong");

fn draft(id: &str) -> Client {
    Client::confidential(id).grants([GrantType::Password, GrantType::RefreshToken]).scopes([
        "api",
        "web",
        "openid",
        "refresh_token",
    ])
}

fn ask<O: Opener>(
    bed: &Bed<O>,
    (name, password): (&str, &str),
    caller: &Caller,
) -> Result<Issued, Error> {
    bed.authority().token(&TokenRequest::password(name, password, caller)).wait()
}

fn code_of(refused: Result<Issued, Error>) -> Option<&'static str> {
    refused.err().map(|error| error.code())
}

fn a_password_gives_an_access_token_where_both_permit_it(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let (_, caller) = bed.register(draft("app"))?;
    assert_eq!(code_of(ask(&bed, ANN, &caller)), Some("unsupported_grant_type"));
    assert!(!bed.authority().metadata().to_json().contains("\"password\""));
    bed.settings(settings);
    bed.reopen()?;
    assert!(bed.authority().metadata().to_json().contains("\"password\""));
    let (_, jwt) = bed.register(draft("jwt").format(TokenFormat::Jwt))?;
    for caller in [&caller, &jwt] {
        let issued = ask(&bed, ANN, caller)?;
        assert_eq!((issued.subject.as_str(), issued.scope.as_str()), ("ann", "api openid web"));
        assert!(issued.refresh_token.is_none() && issued.id_token.is_none());
        bed.reopen()?;
        assert!(bed.authority().verify_live(&access_token(&issued)).wait().is_ok());
    }
    let (_, other) = bed.register(draft("other").grants([GrantType::RefreshToken]))?;
    assert_eq!(code_of(ask(&bed, ANN, &other)), Some("unauthorized_client"));
    let wrong = Caller::secret("app", "wrong");
    assert_eq!(code_of(ask(&bed, ANN, &wrong)), Some("invalid_client"));
    let listed = PermittedUsers::Listed(vec![Subject::new("ben")?]);
    let (_, listed) = bed.register(draft("listed").permitted_users(listed))?;
    assert_eq!(code_of(ask(&bed, ANN, &listed)), Some("invalid_grant"));
    ask(&bed, ("ben@example.com", "right"), &listed)?;
    Ok(())
}

fn a_wrong_password_gives_nothing_and_looks_like_an_unknown_name(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    let (_, caller) = bed.register(draft("app"))?;
    let (long, longer) = ("n".repeat(USERNAME_LEN_MAX + 1), "p".repeat(PASSWORD_LEN_MAX + 1));
    let told: Vec<String> = [
        (ANN.0, "wrong"),
        (ANN.0, ""),
        ("", ANN.1),
        ("unknown@example.com", ANN.1),
        (&long, ANN.1),
        (ANN.0, &longer),
        (ANN.0, "right   wrong"),
    ]
    .into_iter()
    .map(|pair| ask(&bed, pair, &caller).map_or_else(|e| e.to_string(), |_| "given".to_owned()))
    .collect();
    assert!(told.iter().all(|text| *text == told[0] && text.starts_with("invalid_grant")));
    Ok(())
}

fn a_password_gives_no_more_scope_than_the_client_has(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    let (_, caller) = bed.register(draft("app"))?;
    let request = TokenRequest::password(ANN.0, ANN.1, &caller);
    let asked = |request: TokenRequest<'_>| bed.authority().token(&request).wait();
    assert_eq!(asked(request.scope("web"))?.scope.as_str(), "web");
    assert_eq!(code_of(asked(request.scope("web admin"))), Some("invalid_scope"));
    assert_eq!(code_of(asked(request.audience("https://b.example"))), Some("invalid_target"));
    Ok(())
}

fn many_may_use_one_password_at_once(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    let (_, caller) = bed.register(draft("app"))?;
    let mut tokens = Vec::new();
    for issued in at_once(|| ask(&bed, ANN, &caller)) {
        tokens.push(access_token(&issued?));
    }
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), 64);
    Ok(())
}

fn who_guesses_passwords_waits(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, settings)?;
    let (_, caller) = bed.register(draft("app"))?;
    let at = |address: &str| -> Result<Caller, Boxed> {
        Ok(caller.clone().from_address(address.parse::<IpAddr>()?))
    };
    let (here, there) = (at("192.0.2.1")?, at("192.0.2.2")?);
    for name in [ANN.0, "unknown@example.com"] {
        for _ in 0..11 {
            assert_eq!(code_of(ask(&bed, (name, "wrong"), &here)), Some("invalid_grant"));
        }
        let waits = ask(&bed, (name, ANN.1), &here);
        assert!(matches!(waits, Err(Error::TooManyRequests(..))), "{name}");
    }
    // Neither elsewhere nor for another name.
    ask(&bed, ANN, &there)?;
    ask(&bed, ("ben@example.com", "right"), &here)?;
    bed.clock.advance(2);
    ask(&bed, ANN, &here)?;
    Ok(())
}

fn a_revocation_while_a_password_is_checked_reaches_the_token(opener: impl Opener) -> Tested {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock();
    let bed = Bed::with(opener, settings)?;
    let (client, caller) = bed.register(draft("app"))?;
    for what in 0..4 {
        let (authority, client) = (bed.authority(), client.clone());
        let run: Box<dyn FnOnce() + Send> = Box::new(move || {
            let target = match what {
                0 => Target::Subject("ann"),
                1 => Target::Client(&client),
                2 => Target::Pair(&client, "ann"),
                _ => Target::Everything,
            };
            authority.revoke(target).wait().expect("revoked");
        });
        *MEANWHILE.lock().map_err(|_| "poisoned")? = Some(run);
        let slow = ("slow@example.com", "right");
        assert_eq!(code_of(ask(&bed, slow, &caller)), Some("invalid_grant"), "{what}");
        let issued = ask(&bed, slow, &caller)?;
        assert!(bed.authority().verify_live(&access_token(&issued)).wait().is_ok());
    }
    Ok(())
}

fn a_password_in_a_form_is_told_in_the_words_of_its_profile(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, |builder| settings(builder).profile(Profile::Salesforce))?;
    let registered = bed.authority().register(draft("app")).wait()?;
    let secret = registered.client_secret.ok_or("no secret")?;
    let ask = |password: &str| {
        let form = TokenForm::from_pairs([
            ("grant_type", "password"),
            ("client_id", "app"),
            ("client_secret", secret.expose()),
            ("username", ANN.0),
            ("password", password),
        ])?;
        assert!(!format!("{form:?}").contains("right"));
        let caller = bed.authority().caller(&form.credentials(None, None))?;
        let request = form.request(&caller)?;
        assert!(!format!("{request:?}").contains("right"));
        bed.authority().token(&request).wait()
    };
    assert_eq!(ask(ANN.1)?.subject.as_str(), "ann");
    let answer = ask("wrong").err().ok_or("given")?.answer(Profile::Salesforce);
    let told = (answer.code, answer.status, answer.description);
    assert_eq!(told, ("invalid_grant", 400, "authentication failure"));
    let answer = ask("").err().ok_or("given")?.answer(Profile::Salesforce);
    assert_eq!(answer.code, "invalid_request");
    Ok(())
}
