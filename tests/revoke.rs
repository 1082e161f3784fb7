//! Laws of revocation.

mod support;

use mintage::authority::{Client, Error, Issued, Target, TokenFormat};
use support::{Bed, Opener, Tested, access_token, refresh_token};

laws![
    a_refresh_token_takes_its_access_tokens_along,
    an_access_token_ends_alone,
    a_spent_refresh_token_still_ends_its_family,
    another_clients_token_stays,
    what_is_no_token_is_no_error,
    what_is_born_after_a_revocation_lives,
    a_revocation_stands_after_reopening,
    a_malformed_subject_is_refused,
];

fn is_live(
    bed: &Bed<impl Opener>,
    issued: &Issued,
    auditor: &mintage::authority::Caller,
) -> Result<(bool, bool), Box<dyn std::error::Error>> {
    let access = bed.is_active(&access_token(issued), auditor)?;
    Ok((access, bed.is_active(&refresh_token(issued)?, auditor)?))
}

fn a_refresh_token_takes_its_access_tokens_along(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let (client, caller) = bed.app(&format!("{format:?}"), format)?;
        let first = bed.issue("ann", &client)?;
        let second = bed.refresh(&refresh_token(&first)?, &caller)?;
        let other = bed.issue("ann", &client)?;
        bed.authority().revoke_token(&refresh_token(&second)?, &caller).wait()?;
        assert_eq!(is_live(&bed, &first, &auditor)?, (false, false));
        assert_eq!(is_live(&bed, &second, &auditor)?, (false, false));
        assert_eq!(is_live(&bed, &other, &auditor)?, (true, true));
        let refused = bed.refresh(&refresh_token(&second)?, &caller);
        assert!(matches!(refused, Err(Error::InvalidGrant(_))));
    }
    Ok(())
}

fn an_access_token_ends_alone(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let (client, caller) = bed.app(&format!("{format:?}"), format)?;
        let first = bed.issue("ann", &client)?;
        bed.authority().revoke_token(&access_token(&first), &caller).wait()?;
        for _ in 0..2 {
            assert_eq!(is_live(&bed, &first, &auditor)?, (false, true));
            assert!(bed.authority().verify_live(&access_token(&first)).wait().is_err());
            bed.reopen()?;
        }
        let second = bed.refresh(&refresh_token(&first)?, &caller)?;
        assert_eq!(is_live(&bed, &second, &auditor)?, (true, true));
    }
    Ok(())
}

fn a_spent_refresh_token_still_ends_its_family(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let (client, caller) = bed.app("app", TokenFormat::Opaque)?;
    let first = bed.issue("ann", &client)?;
    let second = bed.refresh(&refresh_token(&first)?, &caller)?;
    bed.authority().revoke_token(&refresh_token(&first)?, &caller).wait()?;
    assert_eq!(is_live(&bed, &second, &auditor)?, (false, false));
    Ok(())
}

fn another_clients_token_stays(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let (_, thief) = bed.app("thief", TokenFormat::Opaque)?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let (client, _) = bed.app(&format!("{format:?}"), format)?;
        let issued = bed.issue("ann", &client)?;
        for token in [access_token(&issued), refresh_token(&issued)?] {
            let refused = bed.authority().revoke_token(&token, &thief).wait();
            assert!(matches!(refused, Err(Error::InvalidGrant(_))));
        }
        assert_eq!(is_live(&bed, &issued, &auditor)?, (true, true));
    }
    Ok(())
}

fn what_is_no_token_is_no_error(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (client, caller) = bed.app("app", TokenFormat::Jwt)?;
    let issued = bed.issue("ann", &client)?;
    bed.clock.advance(300);
    for token in ["", "a.b.c", "mat_mintage_AAAA", &access_token(&issued)] {
        bed.authority().revoke_token(token, &caller).wait()?;
        bed.authority().revoke(Target::Token(token)).wait()?;
    }
    for target in [Target::Grant(7), Target::Family(7), Target::Subject("nobody")] {
        bed.authority().revoke(target).wait()?;
    }
    let twice = Target::Family(issued.family);
    bed.authority().revoke(twice).wait()?;
    bed.authority().revoke(twice).wait()?;
    Ok(())
}

fn what_is_born_after_a_revocation_lives(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let (client, _) = bed.app(&format!("{format:?}"), format)?;
        let mut issued = bed.issue("ann", &client)?;
        let targets = [
            Target::Everything,
            Target::Client(&client),
            Target::Subject("ann"),
            Target::Pair(&client, "ann"),
            Target::Grant(issued.grant),
        ];
        for target in targets {
            bed.authority().revoke(target).wait()?;
            assert_eq!(is_live(&bed, &issued, &auditor)?, (false, false), "{target:?}");
            issued = bed.issue("ann", &client)?;
            assert_eq!(is_live(&bed, &issued, &auditor)?, (true, true), "{target:?}");
        }
    }
    Ok(())
}

fn a_revocation_stands_after_reopening(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let (client, caller) = bed
        .register(Client::confidential("app").scopes(["refresh_token"]).format(TokenFormat::Jwt))?;
    let dead = bed.issue("ann", &client)?;
    let alive = bed.issue("bob", &client)?;
    bed.authority().revoke(Target::Subject("ann")).wait()?;
    bed.reopen()?;
    assert_eq!(is_live(&bed, &dead, &auditor)?, (false, false));
    assert_eq!(is_live(&bed, &alive, &auditor)?, (true, true));
    assert!(bed.refresh(&refresh_token(&dead)?, &caller).is_err());
    bed.refresh(&refresh_token(&alive)?, &caller)?;
    Ok(())
}

fn a_malformed_subject_is_refused(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let refused = bed.authority().revoke(Target::Subject("a\nb")).wait();
    assert!(matches!(refused, Err(Error::InvalidRequest(_))));
    Ok(())
}
