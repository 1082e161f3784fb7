//! Laws of clients.

mod support;

use mintage::authority::{
    Caller, Client, Error, GrantType, METADATA_LEN_MAX, TokenFormat, TokenRequest,
};
use mintage::ids::ClientId;
use support::{Bed, Opener, Tested, access_token, refresh_token};

laws![
    a_generated_secret_is_shown_once_and_opens,
    a_wrong_secret_is_refused_to_its_last_byte,
    a_caller_is_what_it_was_registered_as,
    a_taken_client_id_is_refused,
    an_unusable_client_is_refused,
    clients_survive_reopening,
    a_removed_client_is_refused_and_its_tokens_are_dead,
    a_client_registered_again_does_not_revive_its_tokens,
    a_client_may_come_from_its_metadata_document,
    registering_one_id_at_once_succeeds_once,
];

fn token<O: Opener>(bed: &Bed<O>, caller: &Caller) -> Result<String, Error> {
    let request = TokenRequest::client_credentials(caller);
    Ok(access_token(&bed.authority().token(&request).wait()?))
}

fn a_generated_secret_is_shown_once_and_opens(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let registered = bed.authority().register(Client::confidential("reports")).wait()?;
    let secret = registered.client_secret.as_ref().ok_or("no secret")?;
    assert!(secret.expose().starts_with("mcs_") && secret.expose().len() == 47);
    assert!(!format!("{registered:?}").contains(secret.expose()));
    token(&bed, &Caller::secret(&registered.client_id, secret.expose()))?;
    let known = bed.authority().client(&registered.client_id).ok_or("unknown")?;
    assert!(known.is_confidential() && known.may_use(GrantType::ClientCredentials));
    let other = bed.authority().register(Client::confidential("other")).wait()?;
    assert_ne!(other.client_secret, registered.client_secret);
    Ok(())
}

fn a_wrong_secret_is_refused_to_its_last_byte(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let registered = bed.authority().register(Client::confidential("reports")).wait()?;
    let secret = registered.client_secret.ok_or("no secret")?.expose().to_owned();
    let (start, last) = secret.split_at(secret.len() - 1);
    let wrong_last = format!("{start}{}", if last == "A" { "B" } else { "A" });
    let padded = format!("{secret}{}", "\0".repeat(1_024));
    let long = secret.repeat(1_000);
    for wrong in ["", start, &wrong_last, &format!("{secret} "), &padded, &long] {
        let refused = token(&bed, &Caller::secret("reports", wrong));
        assert!(matches!(refused, Err(Error::InvalidClient(_))));
    }
    let refused = token(&bed, &Caller::secret("Reports", &*secret));
    assert!(matches!(refused, Err(Error::InvalidClient(_))));
    token(&bed, &Caller::secret("reports", secret))?;
    Ok(())
}

fn a_caller_is_what_it_was_registered_as(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (_, reports) = bed.register(Client::confidential("reports"))?;
    let (app, _) = bed.app("app", TokenFormat::Opaque)?;
    let refresh = refresh_token(&bed.issue("ann", &app)?)?;
    let refused = [
        token(&bed, &Caller::public("reports")),
        token(&bed, &Caller::public("nobody")),
        token(&bed, &Caller::public("a\nb")),
        bed.refresh(&refresh, &Caller::secret("app", "mcs_guess")).map(|i| access_token(&i)),
    ];
    for refused in refused {
        assert!(matches!(refused, Err(Error::InvalidClient(_))));
    }
    token(&bed, &reports)?;
    bed.refresh(&refresh, &Caller::public("app"))?;
    Ok(())
}

fn a_taken_client_id_is_refused(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (_, first) = bed.register(Client::confidential("reports"))?;
    let refused = bed.authority().register(Client::public("reports")).wait();
    assert!(matches!(refused, Err(Error::InvalidClientMetadata(_))));
    token(&bed, &first)?;
    Ok(())
}

fn an_unusable_client_is_refused(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    for client in [
        Client::public(""),
        Client::public("x".repeat(256)),
        Client::public("app").scopes(["a\"b"]),
        Client::public("app").grants([GrantType::ClientCredentials]),
    ] {
        let refused = bed.authority().register(client).wait();
        assert!(matches!(refused, Err(Error::InvalidClientMetadata(_))));
    }
    assert!(bed.authority().client(&ClientId::new("app")?).is_none());
    Ok(())
}

fn clients_survive_reopening(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let mut callers = Vec::new();
    for number in 0..300 {
        callers.push(bed.register(Client::confidential(format!("client {number}")))?.1);
    }
    bed.reopen()?;
    for caller in &callers {
        token(&bed, caller)?;
    }
    Ok(())
}

fn a_removed_client_is_refused_and_its_tokens_are_dead(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let (client, caller) = bed.app(&format!("{format:?}"), format)?;
        let issued = bed.issue("ann", &client)?;
        bed.authority().remove_client(&client).wait()?;
        for _ in 0..2 {
            assert!(bed.authority().client(&client).is_none());
            let refused = bed.refresh(&refresh_token(&issued)?, &caller);
            assert!(matches!(refused, Err(Error::InvalidClient(_))));
            assert!(!bed.is_active(&access_token(&issued), &auditor)?);
            assert!(!bed.is_active(&refresh_token(&issued)?, &auditor)?);
            assert!(bed.authority().verify_live(&access_token(&issued)).wait().is_err());
            assert!(bed.issue("ann", &client).is_err());
            bed.reopen()?;
        }
        bed.authority().remove_client(&client).wait()?;
    }
    Ok(())
}

fn a_client_registered_again_does_not_revive_its_tokens(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let name = format!("{format:?}");
        let (client, _) = bed.app(&name, format)?;
        let old = bed.issue("ann", &client)?;
        bed.authority().remove_client(&client).wait()?;
        let (client, caller) = bed.app(&name, format)?;
        let new = bed.issue("ann", &client)?;
        for _ in 0..2 {
            assert!(!bed.is_active(&access_token(&old), &auditor)?);
            assert!(!bed.is_active(&refresh_token(&old)?, &auditor)?);
            assert!(bed.is_active(&access_token(&new), &auditor)?);
            assert!(bed.refresh(&refresh_token(&old)?, &caller).is_err());
            bed.reopen()?;
        }
        bed.refresh(&refresh_token(&new)?, &caller)?;
    }
    Ok(())
}

fn a_client_may_come_from_its_metadata_document(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let client = Client::from_metadata(
        r#"{"client_id": "reports", "client_name": "Reports", "scope": "api refresh_token",
            "grant_types": ["client_credentials", "refresh_token"], "contacts": ["a@b.example"],
            "token_endpoint_auth_method": "client_secret_basic"}"#,
    )?;
    let (client, caller) = bed.register(client)?;
    bed.reopen()?;
    let known = bed.authority().client(&client).ok_or("unknown")?;
    assert_eq!((known.name(), known.scopes().as_str()), ("Reports", "api refresh_token"));
    token(&bed, &caller)?;
    let long = format!(r#"{{"client_id":"{}"}}"#, "x".repeat(METADATA_LEN_MAX));
    assert!(matches!(Client::from_metadata(&long), Err(Error::InvalidClientMetadata(_))));
    Ok(())
}

fn registering_one_id_at_once_succeeds_once(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let authority = bed.authority();
    let won = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| authority.register(Client::confidential("one")).wait()))
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()?.ok()).collect::<Vec<_>>()
    });
    let [one] = &won[..] else { return Err("not one winner".into()) };
    let secret = one.client_secret.as_ref().ok_or("no secret")?;
    token(&bed, &Caller::secret("one", secret.expose()))?;
    Ok(())
}
