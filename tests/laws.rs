//! The laws that came out of other servers' failures. Each carries the number that SECURITY.md
//! lists it under.

mod support;

use std::collections::HashSet;
use std::error::Error;
use std::fs;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use mintage::authority::{
    Authority, Caller, Client, Error as Refused, Issue, Issued, Scratch, Target, TokenFormat,
    TokenRequest,
};
use mintage::codec::algorithm::Algorithm;
use mintage::codec::keys::SigningKey;
use mintage::ids::ClientId;
use mintage::store::{PairPolicy, Store as _};
use mintage::time::{Clock as _, Timestamp};
use support::{Bed, Durable, Memory, Opener, Tested, access_token, payload, refresh_token};

laws![
    r1_a_lost_answer_is_given_again,
    r1_an_answer_lost_before_it_was_read_is_given_again,
    r2_concurrent_refreshes_get_one_answer,
    r4_generations_do_not_need_the_clock,
    r6_retries_write_nothing_and_leave_one_refresh_token,
    r7_a_refresh_never_outlives_a_revocation,
    r9_every_revocation_reaches_every_token_on_every_path,
    r16_logins_of_one_pair_stay_within_its_policy,
    r25_only_what_is_wholly_dead_is_swept,
    tickets_can_be_awaited_on_any_executor,
    a_dropped_ticket_undoes_nothing,
];

type Anything<T> = Result<T, Box<dyn Error>>;

fn test_key(algorithm: Algorithm) -> Anything<SigningKey> {
    let file = match algorithm {
        Algorithm::Es256 => "p256.pk8.pem",
        Algorithm::Es384 => "p384.pk8.pem",
        Algorithm::EdDsa => "ed25519.pk8.pem",
        Algorithm::Rs256 | Algorithm::Ps256 => "rsa2048.pk8.pem",
        _ => return Ok(SigningKey::hmac(Some("HS256"), &[5; 32])?),
    };
    let pem = fs::read_to_string(format!("tests/data/{file}"))?;
    Ok(SigningKey::from_pem(algorithm, Some(algorithm.name()), &pem)?)
}

/// What a retry must give again: all of it, but for the signatures that ring randomises.
fn same_answer(lost: &Issued, again: &Issued, signed_alike: bool) -> Tested {
    assert_eq!(refresh_token(again)?, refresh_token(lost)?);
    assert_eq!((again.scope.as_str(), again.family), (lost.scope.as_str(), lost.family));
    assert_eq!((again.issued_at, again.expires_at), (lost.issued_at, lost.expires_at));
    let (lost, again) = (access_token(lost), access_token(again));
    if signed_alike {
        assert_eq!(again, lost);
    } else {
        assert_eq!(payload(&again)?, payload(&lost)?);
    }
    Ok(())
}

fn r1_a_lost_answer_is_given_again(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let (opaque, opaque_caller) = bed.app("opaque", TokenFormat::Opaque)?;
    let (jwt, jwt_caller) = bed.app("jwt", TokenFormat::Jwt)?;
    for algorithm in [None].into_iter().chain(Algorithm::ALL.map(Some)) {
        let (client, caller) = match algorithm {
            Some(algorithm) => {
                bed.authority().keys().import(test_key(algorithm)?).wait()?;
                (&jwt, &jwt_caller)
            }
            None => (&opaque, &opaque_caller),
        };
        let signed_alike =
            !matches!(algorithm, Some(Algorithm::Es256 | Algorithm::Es384 | Algorithm::Ps256));
        let subject = algorithm.map_or("opaque", Algorithm::name);
        let mut token = refresh_token(&bed.issue(subject, client)?)?;
        for _ in 0..3 {
            let lost = bed.refresh(&token, caller)?;
            same_answer(&lost, &bed.refresh(&token, caller)?, signed_alike)?;
            bed.reopen()?;
            bed.clock.advance(1);
            let again = bed.refresh(&token, caller)?;
            same_answer(&lost, &again, signed_alike)?;
            token = refresh_token(&again)?;
        }
        let first_use = bed.refresh(&token, caller)?;
        bed.authority().verify_live(&access_token(&first_use)).wait()?;
        let listed = bed.authority().grants().of_subject(subject).page(10).wait()?;
        assert_eq!(listed.grants.len(), 1, "no second branch");
    }
    Ok(())
}

fn r1_an_answer_lost_before_it_was_read_is_given_again(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let (client, caller) = bed.app(&format!("{format:?}"), format)?;
        let mut token = refresh_token(&bed.issue("ann", &client)?)?;
        for round in 0..20 {
            // The connection breaks before the answer is sent: nobody waits for the ticket.
            drop(bed.authority().token(&TokenRequest::refresh(&token, &caller)));
            if round % 5 == 0 {
                bed.reopen()?;
            }
            let first = bed.refresh(&token, &caller)?;
            let again = bed.refresh(&token, &caller)?;
            same_answer(&first, &again, true)?;
            token = refresh_token(&again)?;
        }
    }
    Ok(())
}

fn r2_concurrent_refreshes_get_one_answer(opener: impl Opener) -> Tested {
    const CALLERS: usize = 64;
    let bed = Bed::new(opener)?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let (client, caller) = bed.app(&format!("{format:?}"), format)?;
        let mut token = refresh_token(&bed.issue("ann", &client)?)?;
        for _ in 0..5 {
            let start = Barrier::new(CALLERS);
            let answers: Vec<Result<Issued, Refused>> = std::thread::scope(|scope| {
                let calls: Vec<_> = (0..CALLERS)
                    .map(|_| {
                        scope.spawn(|| {
                            start.wait();
                            bed.refresh(&token, &caller)
                        })
                    })
                    .collect();
                calls.into_iter().filter_map(|call| call.join().ok()).collect()
            });
            assert_eq!(answers.len(), CALLERS);
            let mut seen = HashSet::new();
            for answer in answers {
                let answer = answer?;
                seen.insert((refresh_token(&answer)?, access_token(&answer)));
            }
            assert_eq!(seen.len(), 1, "one rotation, one answer");
            token = seen.into_iter().next().map(|(refresh, _)| refresh).ok_or("no answer")?;
        }
        assert_eq!(bed.authority().grants().of_client(&client).page(10).wait()?.grants.len(), 1);
    }
    Ok(())
}

fn r4_generations_do_not_need_the_clock(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let (client, caller) = bed.app("app", TokenFormat::Opaque)?;
    let mut tokens = vec![refresh_token(&bed.issue("ann", &client)?)?];
    let mut last = None;
    for _ in 0..1_000 {
        let next = bed.refresh(&tokens[tokens.len() - 1], &caller)?;
        tokens.push(refresh_token(&next)?);
        last = Some(access_token(&next));
    }
    let last = last.ok_or("no rotation")?;
    assert!(bed.is_active(&last, &auditor)?);
    for token in tokens.iter().take(999) {
        assert!(matches!(bed.refresh(token, &caller), Err(Refused::InvalidGrant(_))));
        assert!(!bed.is_active(&last, &auditor)?);
    }
    assert!(bed.refresh(&tokens[1_000], &caller).is_err());
    Ok(())
}

/// R5: generation g-1 may be presented again until g is used, for 60 seconds, and nothing else may.
struct Family {
    answers: Vec<Issued>,
    dead: bool,
    used: bool,
    redeemed_at: Timestamp,
}

impl Family {
    fn refresh(&mut self, at: usize, now: Timestamp, got: Result<Issued, Refused>) -> Tested {
        let newest = self.answers.len() - 1;
        let in_time = !self.used && now.since(self.redeemed_at) <= 60;
        if self.dead || (at != newest && (at + 1 != newest || !in_time)) {
            assert!(matches!(got, Err(Refused::InvalidGrant(_))), "a replay was answered");
            self.dead = true;
        } else if at == newest {
            let got = got?;
            assert!(self.answers.iter().all(|old| old.access_token != got.access_token));
            self.answers.push(got);
            (self.used, self.redeemed_at) = (false, now);
        } else {
            same_answer(&self.answers[newest], &got?, true)?;
        }
        Ok(())
    }
}

fn r5_follow_the_model<O: Opener>(opener: O, sequences: u64) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let (client, caller) = bed.app("app", TokenFormat::Opaque)?;
    for seed in 0..sequences {
        let mut dice = Dice(seed);
        let (mut steps, now) = (Vec::new(), || bed.clock.read().unix);
        let first = bed.issue("ann", &client)?;
        let mut family =
            Family { answers: vec![first], dead: false, used: false, redeemed_at: now() };
        for _ in 0..30 {
            let newest = family.answers.len() - 1;
            let at = newest.saturating_sub([0, 0, 1, 1, 1, 2][dice.below(6)]);
            let step = (dice.below(8), at);
            steps.push(step);
            let result = match step.0 {
                0 => {
                    bed.clock.advance(40);
                    Ok(())
                }
                1 => {
                    let is_active = bed.is_active(&access_token(&family.answers[at]), &auditor)?;
                    assert_eq!(is_active, !family.dead, "seed {seed}, {steps:?}");
                    family.used |= is_active && at == newest;
                    Ok(())
                }
                _ => {
                    let got = bed.refresh(&refresh_token(&family.answers[at])?, &caller);
                    let judge = std::panic::AssertUnwindSafe(|| family.refresh(at, now(), got));
                    std::panic::catch_unwind(judge).unwrap_or_else(|_| Err("a law broke".into()))
                }
            };
            if let Err(error) = result {
                return Err(format!("seed {seed}, steps {steps:?}: {error}").into());
            }
        }
    }
    Ok(())
}

#[test]
fn r5_one_generation_back_until_the_first_use_in_memory() -> Tested {
    r5_follow_the_model(Memory::default(), 2_000)
}

#[test]
fn r5_one_generation_back_until_the_first_use_durable() -> Tested {
    r5_follow_the_model(Durable::default(), 50)
}

fn r6_retries_write_nothing_and_leave_one_refresh_token(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let (client, caller) = bed.app("app", TokenFormat::Opaque)?;
    let first = refresh_token(&bed.issue("ann", &client)?)?;
    let second = bed.refresh(&first, &caller)?;
    let before = bed.authority().stats();
    for _ in 0..1_000 {
        let again = bed.refresh(&first, &caller)?;
        assert_eq!(again.access_token, second.access_token);
    }
    let after = bed.authority().stats();
    assert_eq!(after.records, before.records);
    assert_eq!(after.tokens_resident, before.tokens_resident);
    assert_eq!((after.families, after.grants), (before.families, before.grants));
    assert!(!bed.is_active(&first, &auditor)?);
    assert!(bed.is_active(&refresh_token(&second)?, &auditor)?);
    Ok(())
}

fn r7_a_refresh_never_outlives_a_revocation(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let (client, caller) = bed.app(&format!("{format:?}"), format)?;
        for round in 0..10 {
            let subject = format!("user-{round}");
            let families: Vec<String> = (0..4)
                .map(|_| refresh_token(&bed.issue(&subject, &client)?))
                .collect::<Result<_, _>>()?;
            let is_revoked = AtomicBool::new(false);
            let born = std::thread::scope(|scope| {
                let threads: Vec<_> = families
                    .iter()
                    .map(|token| scope.spawn(|| rotate_until(&bed, token, &caller, &is_revoked)))
                    .collect();
                let revoked = bed.authority().revoke(Target::Subject(&subject)).wait();
                is_revoked.store(true, Ordering::SeqCst);
                assert!(revoked.is_ok());
                let born = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
                born.map(|born| born.map_err(|_| "a refresh outlived the revocation"))
                    .collect::<Result<Vec<_>, _>>()
            });
            for issued in born?.iter().flatten() {
                assert!(!bed.is_active(&access_token(issued), &auditor)?);
                assert!(!bed.is_active(&refresh_token(issued)?, &auditor)?);
            }
        }
    }
    Ok(())
}

/// Everything that rotating gave until it was refused, and after the revocation was acknowledged
/// nothing more.
fn rotate_until<O: Opener>(
    bed: &Bed<O>,
    token: &str,
    caller: &Caller,
    is_revoked: &AtomicBool,
) -> Vec<Issued> {
    let mut born: Vec<Issued> = Vec::new();
    loop {
        let newest = born.last().and_then(|issued| issued.refresh_token.as_ref());
        let newest = newest.map_or(token, |token| token.expose());
        let was_revoked = is_revoked.load(Ordering::SeqCst);
        match bed.refresh(newest, caller) {
            Ok(issued) => {
                assert!(!was_revoked, "a refresh outlived the revocation");
                born.push(issued);
            }
            Err(_) => return born,
        }
    }
}

/// What a cascade is checked on: an opaque and a JWT client, each with a login that was refreshed
/// once.
struct Logins {
    callers: Vec<(ClientId, Caller)>,
    issued: Vec<[Issued; 2]>,
}

fn logins<O: Opener>(bed: &Bed<O>, name: &str, subject: &str) -> Anything<Logins> {
    let mut logins = Logins { callers: Vec::new(), issued: Vec::new() };
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let (client, caller) = bed.app(&format!("{name} {format:?}"), format)?;
        let first = bed.issue(subject, &client)?;
        let second = bed.refresh(&refresh_token(&first)?, &caller)?;
        logins.callers.push((client, caller));
        logins.issued.push([first, second]);
    }
    Ok(logins)
}

/// Which tokens live, on the paths introspect, live verification and refresh.
fn are_live<O: Opener>(bed: &Bed<O>, logins: &Logins, auditor: &Caller) -> Anything<Vec<bool>> {
    let mut live = Vec::new();
    for ([first, second], (_, caller)) in logins.issued.iter().zip(&logins.callers) {
        for access in [access_token(first), access_token(second)] {
            live.push(bed.is_active(&access, auditor)?);
            live.push(bed.authority().verify_live(&access).wait().is_ok());
        }
        let newest = refresh_token(second)?;
        live.push(bed.is_active(&newest, auditor)?);
        // Last, for it changes what lives.
        live.push(bed.refresh(&newest, caller).is_ok());
    }
    Ok(live)
}

fn r9_every_revocation_reaches_every_token_on_every_path(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let scopes = [
        "everything",
        "client",
        "remove",
        "subject",
        "pair",
        "grant",
        "family",
        "refresh token",
        "delete handle",
    ];
    for scope in scopes {
        for reopen in [false, true] {
            let name = format!("{scope} {reopen}");
            let hit = logins(&bed, &name, &name)?;
            let missed = logins(&bed, &format!("missed {name}"), "bystander")?;
            for ([_, issued], (client, _)) in hit.issued.iter().zip(&hit.callers) {
                let authority = bed.authority();
                match scope {
                    "everything" => authority.revoke(Target::Everything).wait()?,
                    "client" => authority.revoke(Target::Client(client)).wait()?,
                    "remove" => authority.remove_client(client).wait()?,
                    "subject" => authority.revoke(Target::Subject(&name)).wait()?,
                    "pair" => authority.revoke(Target::Pair(client, &name)).wait()?,
                    "grant" => authority.revoke(Target::Grant(issued.grant)).wait()?,
                    "family" => authority.revoke(Target::Family(issued.family)).wait()?,
                    "refresh token" => {
                        authority.revoke(Target::Token(&refresh_token(issued)?)).wait()?;
                    }
                    _ => {
                        let page = authority.grants().of_client(client).page(1).wait()?;
                        let row = page.into_iter().next().ok_or("no row")?;
                        authority.revoke_by_delete_handle(row.delete_handle.expose()).wait()?;
                    }
                }
            }
            if reopen {
                bed.reopen()?;
            }
            let live = are_live(&bed, &hit, &auditor)?;
            assert!(live.iter().all(|live| !live), "{name}: {live:?}");
            let live = are_live(&bed, &missed, &auditor)?;
            let expected = scope != "everything";
            assert!(live.iter().all(|live| *live == expected), "bystander, {name}: {live:?}");
        }
    }
    Ok(())
}

fn r16_logins_of_one_pair_stay_within_its_policy(opener: impl Opener) -> Tested {
    const CALLERS: usize = 256;
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    for (policy, allowed) in [(PairPolicy::Replace, 1), (PairPolicy::Newest(5), 5)] {
        let client = Client::public(format!("{policy:?}")).scopes(["refresh_token"]).pairs(policy);
        let (client, _) = bed.register(client)?;
        let start = Barrier::new(CALLERS);
        let issued: Vec<Issued> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..CALLERS)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        bed.authority().issue(Issue::to("ann", &client)).wait()
                    })
                })
                .collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()?.ok()).collect()
        });
        assert_eq!(issued.len(), CALLERS, "no errors");
        assert_eq!(issued.iter().map(|i| i.grant).collect::<HashSet<_>>().len(), 1);
        let mut live = 0;
        for issued in &issued {
            let is_live = bed.is_active(&access_token(issued), &auditor)?;
            assert_eq!(bed.is_active(&refresh_token(issued)?, &auditor)?, is_live);
            live += usize::from(is_live);
        }
        assert_eq!(live, allowed);
    }
    Ok(())
}

fn r25_only_what_is_wholly_dead_is_swept(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let (opaque, opaque_caller) = bed.app("opaque", TokenFormat::Opaque)?;
    let (jwt, jwt_caller) = bed.app("jwt", TokenFormat::Jwt)?;
    let sweep = || -> Tested {
        for _ in 0..200 {
            bed.authority().store().sweep(bed.clock.read())?;
        }
        Ok(())
    };
    let by_opaque = bed.issue("ann", &opaque)?;
    let by_jwt = bed.issue("ann", &jwt)?;
    let alone = bed.authority().issue(Issue::to("bob", &jwt).without_refresh()).wait()?;
    bed.clock.advance(299);
    sweep()?;
    for issued in [&by_opaque, &by_jwt, &alone] {
        assert!(bed.is_active(&access_token(issued), &auditor)?);
    }
    bed.clock.advance(20 * 86_400);
    sweep()?;
    assert!(!bed.is_active(&access_token(&by_opaque), &auditor)?);
    let kept = bed.refresh(&refresh_token(&by_opaque)?, &opaque_caller)?;
    assert!(bed.is_active(&access_token(&kept), &auditor)?);
    bed.refresh(&refresh_token(&by_jwt)?, &jwt_caller)?;
    Ok(())
}

#[test]
fn r25_one_call_each_and_no_trait_to_implement() -> Tested {
    let dir = tempfile::tempdir()?;
    let key = dir.path().with_extension("key");
    let root = mintage::root_key::RootKey::from_file(&key)?;
    let authority = Authority::builder("https://login.example.com").open(dir.path(), root)?;
    let reports = Client::confidential("reports").scopes(["api", "refresh_token"]);
    let registered = authority.register(reports).wait()?;
    let secret = registered.client_secret.as_ref().ok_or("no secret")?.expose();
    let caller = Caller::secret(&registered.client_id, secret);
    let issued = authority.issue(Issue::to("user-42", &registered.client_id)).wait()?;
    let refresh = refresh_token(&issued)?;
    let again = authority.token(&TokenRequest::refresh(&refresh, &caller)).wait()?;
    assert!(authority.introspect(again.access_token.expose(), &caller).wait()?.is_active());
    authority.revoke(Target::Subject("user-42")).wait()?;
    assert!(!authority.introspect(again.access_token.expose(), &caller).wait()?.is_active());

    // A second opener is told who holds the directory; after the first has closed it may open.
    let root = || mintage::root_key::RootKey::from_file(&key);
    let second = Authority::builder("https://login.example.com").open(dir.path(), root()?);
    assert!(second.is_err());
    authority.close()?;
    let authority = Authority::builder("https://login.example.com").open(dir.path(), root()?)?;
    assert!(!authority.introspect(again.access_token.expose(), &caller).wait()?.is_active());
    drop(authority);
    fs::remove_file(key)?;
    Ok(())
}

fn tickets_can_be_awaited_on_any_executor(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let authority = bed.authority();
    let (client, caller) = bed.app("app", TokenFormat::Jwt)?;
    support::block_on(async {
        let issued = authority.issue(Issue::to("ann", &client)).await?;
        let token = refresh_token(&issued)?;
        let again = authority.token(&TokenRequest::refresh(&token, &caller)).await?;
        authority.verify_live(&access_token(&again)).await?;
        authority.revoke(Target::Subject("ann")).await?;
        assert!(authority.verify_live(&access_token(&again)).await.is_err());
        assert!(authority.grants().of_subject("ann").page(5).await?.grants.is_empty());
        Ok(())
    })
}

fn a_dropped_ticket_undoes_nothing(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let (client, _) = bed.app("app", TokenFormat::Opaque)?;
    drop(bed.authority().issue(Issue::to("ann", &client)));
    bed.reopen()?;
    assert_eq!(bed.authority().grants().of_subject("ann").page(5).wait()?.grants.len(), 1);
    drop(bed.authority().remove_client(&client));
    bed.reopen()?;
    assert!(bed.authority().client(&client).is_none());
    assert!(bed.authority().grants().of_subject("ann").page(5).wait()?.grants.is_empty());
    Ok(())
}

#[test]
fn i10_one_seed_gives_one_run() -> Tested {
    let run = || -> Anything<Vec<String>> {
        let bed = Bed::new(Memory::default())?;
        let mut tokens = vec![bed.authority().keys().jwks()];
        for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
            let (client, caller) = bed.app(&format!("{format:?}"), format)?;
            let issued = bed.issue("ann", &client)?;
            let again = bed.refresh(&refresh_token(&issued)?, &caller)?;
            for issued in [&issued, &again] {
                tokens.extend([access_token(issued), refresh_token(issued)?]);
            }
        }
        Ok(tokens)
    };
    assert_eq!(run()?, run()?);
    Ok(())
}

#[test]
fn an_authority_is_shared_between_threads() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    fn sent<T: Send + Sync + 'static>() {}
    shared::<Authority>();
    sent::<Refused>();
    sent::<mintage::authority::OpenError>();
    sent::<Scratch>();
    sent::<Issued>();
}

/// A small stream of choices that follows from its seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed >> 33) as usize) % sides
    }
}
