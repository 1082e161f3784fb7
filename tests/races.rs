//! Sixty-four at once, a thousand times.

mod support;

use std::sync::{Barrier, Mutex};

use mintage::authority::{
    AuthorizationRequest, Client, Error, GrantType, Issued, Login, TokenFormat, TokenRequest,
};
use mintage::store::{LoginChange, Recorded};
use support::{Bed, Boxed, Durable, Memory, Opener, Tested, access_token, refresh_token};

const CALLERS: usize = 64;
const CB: &str = "https://app.example/cb";

/// One token or code for each round, presented by all callers at once; what each was answered, and
/// what it saw the moment it was.
fn at_once<T: Send>(
    presented: &[String],
    present: impl Fn(usize, &str) -> T + Sync,
) -> Vec<Vec<T>> {
    let start = Barrier::new(CALLERS);
    let rounds: Vec<Mutex<Vec<T>>> = presented.iter().map(|_| Mutex::default()).collect();
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                for (round, (text, answers)) in presented.iter().zip(&rounds).enumerate() {
                    start.wait();
                    let answer = present(round, text);
                    answers.lock().expect("nobody panics with it").push(answer);
                }
            });
        }
    });
    rounds.into_iter().map(|round| round.into_inner().unwrap_or_default()).collect()
}

fn codes_redeemed_at_once<O: Opener>(opener: O, rounds: usize) -> Tested
where
    Bed<O>: Sync,
{
    let bed = Bed::with(opener, |builder| builder.code_secs(900))?;
    let auditor = bed.auditor()?;
    let app = Client::confidential("app")
        .grants([GrantType::AuthorizationCode, GrantType::RefreshToken])
        .pkce_required(false)
        .redirect_uris([CB])
        .scopes(["api", "refresh_token"]);
    let (_, caller) = bed.register(app)?;
    let authority = bed.authority();
    let code_of = |round: usize| -> Result<String, Boxed> {
        let request = AuthorizationRequest {
            response_type: Some("code"),
            client_id: Some("app"),
            redirect_uri: Some(CB),
            ..AuthorizationRequest::default()
        };
        let login = Login::now(format!("user-{round}"), &authority)?;
        let request = authority.authorize(&request)?;
        let url = authority.approve(&request, &login, "api refresh_token").wait()?;
        let code = url.expose().split(['=', '&']).nth(1);
        Ok(code.ok_or("no code")?.to_owned())
    };
    let codes = (0..rounds).map(code_of).collect::<Result<Vec<_>, _>>()?;
    let answers = at_once(&codes, |round, code| {
        let request = TokenRequest::code(code, &caller).redirect_uri(CB);
        let answer = authority.token(&request).wait();
        // Before this refusal was answered, what the winner got had ended.
        let subject = format!("user-{round}");
        let stands = answer.is_err().then(|| {
            let page = authority.grants().of_subject(&subject).page(10).wait();
            page.map(|page| page.grants.len())
        });
        (answer, stands)
    });
    for answers in answers {
        assert_eq!(answers.len(), CALLERS);
        let (won, lost): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|(answer, _)| answer.is_ok());
        assert_eq!(won.len(), 1);
        for (answer, stands) in lost {
            assert!(matches!(answer, Err(Error::InvalidGrant(_))), "{answer:?}");
            assert_eq!(stands.ok_or("it was refused")??, 0, "a login stood beside a refusal");
        }
        for (issued, _) in won {
            let issued: Issued = issued?;
            assert!(!bed.is_active(&access_token(&issued), &auditor)?);
            assert!(!bed.is_active(&refresh_token(&issued)?, &auditor)?);
        }
    }
    Ok(())
}

#[test]
fn of_64_redemptions_of_a_code_one_succeeds_and_ends_with_the_first_refusal() -> Tested {
    codes_redeemed_at_once(Memory::default(), 1_000)
}

#[test]
fn of_64_redemptions_of_a_code_on_disk_one_succeeds() -> Tested {
    codes_redeemed_at_once(Durable::default(), 20)
}

/// Refresh tokens of logins of their own, redeemed at once by their own client: how many answers
/// each got, and whether they were one.
fn refreshed_at_once<O: Opener>(bed: &Bed<O>, rounds: usize) -> Tested
where
    Bed<O>: Sync,
{
    let (client, caller) = bed.app("app", TokenFormat::Opaque)?;
    let issue = |round| refresh_token(&bed.issue(&format!("user-{round}"), &client)?);
    let tokens = (0..rounds).map(issue).collect::<Result<Vec<_>, _>>()?;
    let answers = at_once(&tokens, |_, token| bed.refresh(token, &caller));
    for answers in answers {
        let mut seen = Vec::new();
        for answer in answers {
            let answer = answer?;
            seen.push((access_token(&answer), refresh_token(&answer)?));
        }
        assert_eq!(seen.len(), CALLERS, "nobody was refused");
        seen.dedup();
        assert_eq!(seen.len(), 1, "one answer for all");
    }
    Ok(())
}

#[test]
fn of_64_refreshes_at_once_all_get_the_one_answer() -> Tested {
    let bed = Bed::new(Memory::default())?;
    // What one redemption writes.
    let (client, caller) = bed.app("alone", TokenFormat::Opaque)?;
    let token = refresh_token(&bed.issue("ann", &client)?)?;
    let begun = bed.authority().stats().durable.0;
    bed.refresh(&token, &caller)?;
    let one = bed.authority().stats().durable.0 - begun;

    let app = bed.authority();
    let rounds = 1_000;
    let begun = app.stats().durable.0;
    let (client, _) = bed.app("count", TokenFormat::Opaque)?;
    let registered = app.stats().durable.0 - begun;
    let begun = app.stats().durable.0;
    for round in 0..rounds {
        bed.issue(&format!("user-{round}"), &client)?;
    }
    let births = app.stats().durable.0 - begun;

    let begun = app.stats().durable.0;
    refreshed_at_once(&bed, rounds)?;
    let written = app.stats().durable.0 - begun;
    assert_eq!(written, registered + births + one * rounds as u64, "one redemption each");
    Ok(())
}

#[test]
fn of_64_refreshes_at_once_on_disk_one_is_in_the_log() -> Tested {
    let bed = Bed::new(Durable::default())?;
    refreshed_at_once(&bed, 20)?;
    let page = bed.authority().store().ledger(None, 10_000)?;
    let redeemed = |what: &Recorded| {
        matches!(what, Recorded::Login { change: LoginChange::Redeemed, generation: 2, .. })
    };
    assert_eq!(page.entries.iter().filter(|entry| redeemed(&entry.what)).count(), 20);
    let logins = |what: &Recorded| matches!(what, Recorded::Login { .. });
    assert_eq!(page.entries.iter().filter(|entry| logins(&entry.what)).count(), 40);
    Ok(())
}

/// A replay by another than the winner's retry: with cap 0 every second presentation is one.
#[test]
fn of_64_refreshes_without_retries_one_succeeds_and_its_login_has_ended() -> Tested {
    let bed = Bed::with(Memory::default(), |builder| builder.retry_secs_max(0))?;
    let auditor = bed.auditor()?;
    let (client, caller) = bed.app("app", TokenFormat::Opaque)?;
    let issue = |round| refresh_token(&bed.issue(&format!("user-{round}"), &client)?);
    let tokens = (0..200).map(issue).collect::<Result<Vec<_>, _>>()?;
    for answers in at_once(&tokens, |_, token| bed.refresh(token, &caller)) {
        let won: Vec<_> = answers.into_iter().filter_map(Result::ok).collect();
        assert_eq!(won.len(), 1);
        assert!(!bed.is_active(&access_token(&won[0]), &auditor)?);
    }
    Ok(())
}
