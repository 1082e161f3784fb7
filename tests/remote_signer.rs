//! A signing key that is elsewhere: nothing is born before its signature is there, and whatever goes
//! wrong with the signer leaves no token, no commit and a clear error.

mod support;

#[path = "../examples/kms_signer.rs"]
#[allow(dead_code, reason = "the example is a program of its own")]
mod example;

use std::collections::VecDeque;
use std::error::Error as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use mintage::authority::{
    Authority, Builder, Caller, Client, Error, Issue, Issued, Limits, OpenError, Profile, Rate,
    Scratch, TokenFormat, TokenRequest,
};
use mintage::codec::algorithm::Algorithm;
use mintage::codec::claims::{AccessClaims, NoExtraClaims};
use mintage::codec::jwk::Jwk;
use mintage::codec::jws::SignError;
use mintage::codec::keys::{KeyError, Signer, SignerError, Signing, SigningKey};
use mintage::entropy::SeededEntropy;
use mintage::ids::ClientId;
use mintage::root_key::RootKey;
use mintage::store::{MemoryStore, PairPolicy, Store, Ticket};
use mintage::time::{ManualClock, Timestamp};
use ring::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use support::{ISSUER, START, Tested, access_token, block_on, refresh_token};

/// A signer whose every answer is given by the test.
#[derive(Clone, Default)]
struct Desk(Arc<Mutex<Open>>);

#[derive(Default)]
struct Open {
    requests: VecDeque<(Vec<u8>, Arc<Mutex<Slot>>)>,
    /// Given at once where there is one.
    standing: Option<Answers>,
}

type Answers = fn(&[u8]) -> Result<Vec<u8>, SignerError>;

#[derive(Default)]
struct Slot {
    answer: Option<Result<Vec<u8>, SignerError>>,
    waker: Option<Waker>,
}

struct Waiting(Arc<Mutex<Slot>>);

impl Future for Waiting {
    type Output = Result<Vec<u8>, SignerError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.0.lock().expect("no panic");
        match slot.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                slot.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Signer for Desk {
    fn sign(&self, input: &[u8]) -> Signing {
        let mut open = self.0.lock().expect("no panic");
        let slot = Arc::new(Mutex::new(Slot::default()));
        match open.standing {
            Some(answers) => slot.lock().expect("no panic").answer = Some(answers(input)),
            None => open.requests.push_back((input.to_vec(), Arc::clone(&slot))),
        }
        Box::pin(Waiting(slot))
    }
}

impl Desk {
    fn that(answers: Answers) -> Desk {
        let desk = Desk::default();
        desk.give_always(answers);
        desk
    }

    fn give_always(&self, answers: Answers) {
        self.0.lock().expect("no panic").standing = Some(answers);
    }

    fn held(&self) {
        self.0.lock().expect("no panic").standing = None;
    }

    fn waiting(&self) -> usize {
        self.0.lock().expect("no panic").requests.len()
    }

    /// Answers the oldest request.
    fn answer(&self, answers: Answers) {
        let (input, slot) = self.0.lock().expect("no panic").requests.pop_front().expect("asked");
        let mut slot = slot.lock().expect("no panic");
        slot.answer = Some(answers(&input));
        if let Some(waker) = slot.waker.take() {
            waker.wake();
        }
    }
}

/// The private half, which only the desk has.
const SEED: [u8; 32] = *b"a seed of thirty-two bytes, 3232";

fn pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&SEED).expect("a seed")
}

fn signs(input: &[u8]) -> Result<Vec<u8>, SignerError> {
    Ok(pair().sign(input).as_ref().to_vec())
}

fn remote(desk: &Desk) -> Result<SigningKey, KeyError> {
    let x = base64_simd::URL_SAFE_NO_PAD.encode_to_string(pair().public_key().as_ref());
    let jwk = format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"hsm","x":"{x}"}}"#);
    SigningKey::remote(Jwk::parse(jwk.as_bytes())?, desk.clone())
}

fn builder() -> Builder {
    Authority::builder(ISSUER)
        .clock(Arc::new(ManualClock::at(START)))
        .entropy(SeededEntropy::new(1))
}

fn root() -> RootKey {
    RootKey::from_bytes(1, [7; 32])
}

struct Bed {
    desk: Desk,
    authority: Authority<MemoryStore>,
    app: ClientId,
}

impl Bed {
    fn new() -> Result<Bed, Box<dyn std::error::Error>> {
        let desk = Desk::that(signs);
        let authority = builder().remote_key(remote(&desk)?).in_memory(root())?;
        let app = Client::public("app").scopes(["api", "refresh_token"]).format(TokenFormat::Jwt);
        let app = authority.register(app).wait()?.client_id;
        Ok(Bed { desk, authority, app })
    }

    fn issue(&self, subject: &str) -> Result<Issued, Error> {
        self.authority.issue(Issue::to(subject, &self.app)).wait()
    }

    fn refresh(&self, token: &str) -> Result<Issued, Error> {
        let caller = Caller::public(&self.app);
        self.authority.token(&TokenRequest::refresh(token, &caller)).wait()
    }

    fn committed(&self) -> (u64, u64, u64) {
        let stats = self.authority.stats();
        (stats.records, stats.families, stats.tokens_resident)
    }
}

fn verifies<S: Store>(authority: &Authority<S>, issued: &Issued) -> Result<(), Error> {
    authority.verify(issued.access_token.expose(), &mut Scratch::new()).map(|_| ())
}

/// Everything that a signer can answer and that is no signature of its key.
const FAILURES: [(Answers, SignError); 9] = [
    (|_| Err(SignerError::TimedOut), SignError::Signer(SignerError::TimedOut)),
    (|_| Err(SignerError::Unavailable), SignError::Signer(SignerError::Unavailable)),
    (|_| Err(SignerError::Refused), SignError::Signer(SignerError::Refused)),
    (|_| Ok(Vec::new()), SignError::WrongSignature),
    (|_| Ok(vec![0; 64]), SignError::WrongSignature),
    (|input| signs(input).map(|raw| raw[..63].to_vec()), SignError::WrongSignature),
    (|input| signs(input).map(|raw| [&raw[..], &[0]].concat()), SignError::WrongSignature),
    (|input| signs(&input[1..]), SignError::WrongSignature),
    (|_| Ok(vec![0x30; 100_000]), SignError::WrongSignature),
];

#[test]
fn the_example_runs() -> Tested {
    example::main()
}

#[test]
fn a_jwt_is_born_only_when_its_signature_is_there() -> Tested {
    let bed = Bed::new()?;
    bed.desk.held();
    let before = bed.committed();
    let mut ticket = bed.authority.issue(Issue::to("ann", &bed.app));
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..3 {
        assert!(Pin::new(&mut ticket).poll(&mut cx).is_pending());
        assert_eq!((bed.committed(), bed.desk.waiting()), (before, 1));
    }
    let answerer = {
        let desk = bed.desk.clone();
        std::thread::spawn(move || desk.answer(signs))
    };
    let issued = block_on(ticket)?;
    answerer.join().map_err(|_| "the answerer panicked")?;
    verifies(&bed.authority, &issued)?;
    assert!(bed.authority.verify_live(issued.access_token.expose()).wait().is_ok());
    assert_eq!(bed.committed().1, before.1 + 1);
    Ok(())
}

#[test]
fn what_is_not_signed_is_not_born() -> Tested {
    let bed = Bed::new()?;
    for (failure, wanted) in FAILURES {
        bed.desk.give_always(failure);
        let before = bed.committed();
        let error = bed.issue("ann").err().ok_or("issued without a signature")?;
        assert_eq!((error.code(), error.status()), ("server_error", 500));
        let source = error.source().and_then(|source| source.downcast_ref::<SignError>());
        assert_eq!(source, Some(&wanted));
        assert_eq!(bed.committed(), before, "{wanted:?}");
        let listed = bed.authority.grants().of_subject("ann").page(10).wait()?;
        assert!(listed.grants.is_empty(), "{wanted:?}");
    }
    bed.desk.give_always(signs);
    verifies(&bed.authority, &bed.issue("ann")?)?;
    Ok(())
}

#[test]
fn what_comes_without_its_id_token_is_not_born() -> Tested {
    let bed = Bed::new()?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let id = format!("{format:?}");
        let app = Client::public(&id).scopes(["openid", "refresh_token"]).format(format);
        let app = bed.authority.register(app).wait()?.client_id;
        let caller = Caller::public(&app);
        let issue = |scope: &str| bed.authority.issue(Issue::to("ann", &app).scope(scope)).wait();
        bed.desk.give_always(signs);
        let token = refresh_token(&issue("openid refresh_token")?)?;
        for (failure, wanted) in FAILURES {
            bed.desk.give_always(failure);
            let before = bed.committed();
            for scope in ["openid", "openid refresh_token"] {
                let error = issue(scope).err().ok_or("issued without a signature")?;
                assert_eq!(error.code(), "server_error", "{id} {wanted:?}");
            }
            assert!(bed.authority.token(&TokenRequest::refresh(&token, &caller)).wait().is_err());
            assert_eq!(bed.committed(), before, "{id} {wanted:?}");
        }
        // Each signature is asked for once.
        bed.desk.held();
        let mut ticket = bed.authority.token(&TokenRequest::refresh(&token, &caller));
        for _ in 0..1 + usize::from(format == TokenFormat::Jwt) {
            assert!(poll(&mut ticket).is_pending());
            assert_eq!(bed.desk.waiting(), 1);
            bed.desk.answer(signs);
        }
        let issued = block_on(ticket)?;
        assert_eq!(bed.desk.waiting(), 0);
        assert_ne!(refresh_token(&issued)?, token);
        let jwt = issued.id_token.ok_or("no ID token")?;
        let (input, signature) = jwt.expose().rsplit_once('.').ok_or("no JWT")?;
        let signature = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(signature)?;
        assert_eq!(signature, signs(input.as_bytes()).map_err(|_| "unsigned")?);
    }
    Ok(())
}

#[test]
fn a_retry_is_signed_with_its_id_token() -> Tested {
    let desk = Desk::that(signs);
    let salesforce = builder().profile(Profile::Salesforce);
    let authority = salesforce.remote_key(remote(&desk)?).in_memory(root())?;
    let app = Client::public("app").scopes(["full", "refresh_token"]);
    let app = authority.register(app).wait()?.client_id;
    let caller = Caller::public(&app);
    let token = refresh_token(&authority.issue(Issue::to("ann", &app)).wait()?)?;
    let ask = || authority.token(&TokenRequest::refresh(&token, &caller).scope("openid")).wait();
    let (one, two) = (ask()?, ask()?);
    assert_eq!((&one.access_token, &one.refresh_token), (&two.access_token, &two.refresh_token));
    assert!(one.id_token.is_some() && two.id_token.is_some());
    Ok(())
}

#[test]
fn a_refresh_that_is_not_signed_spends_nothing() -> Tested {
    let bed = Bed::new()?;
    let first = refresh_token(&bed.issue("ann")?)?;
    for (failure, wanted) in FAILURES {
        bed.desk.give_always(failure);
        let before = bed.committed();
        let error = bed.refresh(&first).err().ok_or("refreshed without a signature")?;
        assert_eq!(error.code(), "server_error", "{wanted:?}");
        assert_eq!(bed.committed(), before, "{wanted:?}");
    }
    bed.desk.give_always(signs);
    // Another request than those that failed: were the token spent, this would be refused.
    let caller = Caller::public(&bed.app);
    let narrower = TokenRequest::refresh(&first, &caller).scope("api");
    let second = bed.authority.token(&narrower).wait()?;
    verifies(&bed.authority, &second)?;
    // The retry of a lost answer is signed again: the same bytes, as Ed25519 has it.
    let again = bed.authority.token(&narrower).wait()?;
    assert_eq!(access_token(&again), access_token(&second));
    assert_eq!(refresh_token(&again)?, refresh_token(&second)?);
    assert!(bed.refresh(&refresh_token(&second)?).is_ok());
    Ok(())
}

#[test]
fn what_is_not_born_for_want_of_a_signature_is_not_counted() -> Tested {
    let desk = Desk::default();
    let limits = Limits::new().per_subject(Rate::new(2, 3_600));
    let authority = builder().limits(limits).remote_key(remote(&desk)?).in_memory(root())?;
    let jwts = Client::public("jwts").format(TokenFormat::Jwt);
    let bare = authority.register(jwts.clone().scopes(["api"])).wait()?.client_id;
    let lasting = Client::public("lasting").format(TokenFormat::Jwt);
    let lasting = authority.register(lasting.scopes(["api", "refresh_token"])).wait()?.client_id;
    desk.give_always(|_| Err(SignerError::Unavailable));
    for client in [&bare, &lasting].into_iter().cycle().take(6) {
        assert!(authority.issue(Issue::to("ann", client)).wait().is_err());
        drop(authority.issue(Issue::to("ann", client)));
    }
    desk.give_always(signs);
    let first = authority.issue(Issue::to("ann", &lasting)).wait()?;
    let token = refresh_token(&first)?;
    let caller = Caller::public("lasting");
    let refresh = || authority.token(&TokenRequest::refresh(&token, &caller));
    desk.give_always(|_| Err(SignerError::Unavailable));
    for _ in 0..4 {
        assert!(refresh().wait().is_err());
        drop(refresh());
    }
    desk.give_always(signs);
    refresh().wait()?;
    let over = authority.issue(Issue::to("ann", &bare)).wait();
    assert!(matches!(over, Err(Error::TooManyRequests(..))), "{over:?}");
    Ok(())
}

#[test]
fn a_replay_ends_the_login_though_nobody_signs() -> Tested {
    let bed = Bed::new()?;
    let first = refresh_token(&bed.issue("ann")?)?;
    let second = refresh_token(&bed.refresh(&first)?)?;
    let third = refresh_token(&bed.refresh(&second)?)?;
    bed.desk.held();
    let caller = Caller::public(&bed.app);
    // The ticket is dropped: what it did is done.
    drop(bed.authority.token(&TokenRequest::refresh(&first, &caller)));
    assert_eq!(bed.desk.waiting(), 0, "a replay asks for no signature");
    bed.desk.give_always(signs);
    assert_eq!(bed.refresh(&third).err().map(|error| error.code()), Some("invalid_grant"));
    Ok(())
}

#[test]
fn a_revocation_while_the_signer_works_prevents_the_birth() -> Tested {
    let bed = Bed::new()?;
    bed.desk.held();
    let ticket = bed.authority.issue(Issue::to("ann", &bed.app));
    bed.authority.revoke(mintage::authority::Target::Subject("ann")).wait()?;
    bed.desk.answer(signs);
    let before = bed.committed();
    assert_eq!(ticket.wait().err().map(|error| error.code()), Some("invalid_grant"));
    assert_eq!(bed.committed(), before);
    Ok(())
}

/// Polls once.
fn poll<T: Unpin>(ticket: &mut Ticket<T, Error>) -> Poll<Result<T, Error>> {
    Pin::new(ticket).poll(&mut Context::from_waker(Waker::noop()))
}

/// One signature a birth: were a second one asked for after the commit, its failure would leave a
/// login that nobody holds, in the place of one that somebody held.
#[test]
fn what_is_born_needs_no_second_signature() -> Tested {
    let bed = Bed::new()?;
    let client = |name: &str, pairs: PairPolicy| {
        let client = Client::public(name).scopes(["api", "refresh_token"]).pairs(pairs);
        Ok::<_, Error>(bed.authority.register(client.format(TokenFormat::Jwt)).wait()?.client_id)
    };
    for (name, pairs) in [
        ("unlimited", PairPolicy::Unlimited),
        ("newest", PairPolicy::Newest(1)),
        ("replace", PairPolicy::Replace),
    ] {
        let id = client(name, pairs)?;
        for gets_refresh in [true, false] {
            let issue = || match gets_refresh {
                true => Issue::to("ann", &id),
                false => Issue::to("ann", &id).without_refresh(),
            };
            bed.desk.give_always(signs);
            let mut grants = vec![bed.authority.issue(issue()).wait()?.grant];
            for _ in 0..2 {
                bed.desk.held();
                let mut ticket = bed.authority.issue(issue());
                assert!(poll(&mut ticket).is_pending());
                bed.desk.answer(signs);
                let Poll::Ready(issued) = poll(&mut ticket) else {
                    return Err(format!("{name} asked for another signature").into());
                };
                assert_eq!(bed.desk.waiting(), 0, "{name}");
                let issued = issued?;
                verifies(&bed.authority, &issued)?;
                let live = bed.authority.verify_live(issued.access_token.expose());
                assert!(live.wait().is_ok(), "{name}");
                grants.push(issued.grant);
            }
            grants.dedup();
            assert_eq!(grants.len(), 1, "{name}");
            // Not signed: what the pair had is as it was.
            let before = bed.committed();
            bed.desk.give_always(|_| Err(SignerError::TimedOut));
            assert!(bed.authority.issue(issue()).wait().is_err());
            assert_eq!(bed.committed(), before, "{name}");
        }
    }
    Ok(())
}

#[test]
fn a_taken_pair_and_a_reused_token_are_known_before_anything_is_signed() -> Tested {
    let bed = Bed::new()?;
    let client = |name: &str, pairs: PairPolicy| {
        let client = Client::public(name).grants([]).scopes(["api"]).pairs(pairs);
        Ok::<_, Error>(bed.authority.register(client.format(TokenFormat::Jwt)).wait()?.client_id)
    };
    let one = client("one", PairPolicy::Reject)?;
    bed.authority.issue(Issue::to("ann", &one)).wait()?;
    let reuse = client("reuse", PairPolicy::Reuse { left_secs_min: 60 })?;
    let first = bed.authority.issue(Issue::to("ann", &reuse)).wait()?;
    bed.desk.held();
    let mut taken = bed.authority.issue(Issue::to("ann", &one));
    let Poll::Ready(Err(error)) = poll(&mut taken) else { return Err("it was signed".into()) };
    assert_eq!((error.code(), bed.desk.waiting()), ("access_denied", 0));
    let mut again = bed.authority.issue(Issue::to("ann", &reuse));
    assert!(poll(&mut again).is_pending());
    bed.desk.answer(signs);
    let Poll::Ready(again) = poll(&mut again) else { return Err("it was signed twice".into()) };
    assert_eq!(access_token(&again?), access_token(&first));
    Ok(())
}

/// Two births draw near at once in a family that is not there yet: the one that comes second is
/// signed again for the family of the first, before it is born.
#[test]
fn a_birth_whose_family_came_meanwhile_is_signed_for_that_one() -> Tested {
    let bed = Bed::new()?;
    let issue = || Issue::to("ann", &bed.app).without_refresh();
    bed.desk.held();
    let (mut one, mut two) = (bed.authority.issue(issue()), bed.authority.issue(issue()));
    assert!(poll(&mut one).is_pending() && poll(&mut two).is_pending());
    bed.desk.answer(signs);
    let Poll::Ready(one) = poll(&mut one) else { return Err("one was not born".into()) };
    let before = bed.committed();
    bed.desk.answer(signs);
    assert!(poll(&mut two).is_pending());
    assert_eq!((bed.committed(), bed.desk.waiting()), (before, 1));
    bed.desk.answer(signs);
    let Poll::Ready(two) = poll(&mut two) else { return Err("two was not born".into()) };
    let (one, two) = (one?, two?);
    assert_eq!((one.family, one.grant), (two.family, two.grant));
    for issued in [&one, &two] {
        assert!(bed.authority.verify_live(issued.access_token.expose()).wait().is_ok());
    }
    Ok(())
}

#[test]
fn a_dropped_ticket_leaves_nothing_and_holds_nothing_up() -> Tested {
    let bed = Bed::new()?;
    bed.desk.held();
    let before = bed.committed();
    let dropped = bed.authority.issue(Issue::to("ann", &bed.app));
    let kept = bed.authority.issue(Issue::to("ben", &bed.app));
    drop(dropped);
    bed.desk.answer(signs);
    assert_eq!(bed.committed(), before);
    bed.desk.answer(signs);
    verifies(&bed.authority, &kept.wait()?)?;
    assert_eq!(bed.committed().1, before.1 + 1);
    Ok(())
}

#[test]
fn a_concurrent_refresh_that_came_first_is_retried_and_not_doubled() -> Tested {
    let bed = Bed::new()?;
    let first = refresh_token(&bed.issue("ann")?)?;
    bed.desk.held();
    let caller = Caller::public(&bed.app);
    let slow = bed.authority.token(&TokenRequest::refresh(&first, &caller));
    let quick = bed.authority.token(&TokenRequest::refresh(&first, &caller));
    let both = std::thread::scope(|scope| {
        let slow = scope.spawn(|| slow.wait());
        let quick = scope.spawn(|| quick.wait());
        let mut answered = 0;
        while !(slow.is_finished() && quick.is_finished()) {
            if bed.desk.waiting() > 0 {
                bed.desk.answer(signs);
                answered += 1;
            }
            std::thread::yield_now();
        }
        assert!((2..=3).contains(&answered), "{answered}");
        (slow.join(), quick.join())
    });
    let (Ok(slow), Ok(quick)) = both else { return Err("a thread panicked".into()) };
    let (slow, quick) = (slow?, quick?);
    assert_eq!(access_token(&slow), access_token(&quick));
    assert_eq!(refresh_token(&slow)?, refresh_token(&quick)?);
    Ok(())
}

/// The slow answer to an honest request must not look like a theft when it comes.
#[test]
fn a_refresh_that_was_overtaken_while_it_was_signed_is_no_replay() -> Tested {
    let bed = Bed::new()?;
    let first = refresh_token(&bed.issue("ann")?)?;
    bed.desk.held();
    let caller = Caller::public(&bed.app);
    let mut slow = bed.authority.token(&TokenRequest::refresh(&first, &caller));
    assert!(poll(&mut slow).is_pending());
    let overtaking = bed.desk.clone();
    bed.desk.give_always(signs);
    let second = refresh_token(&bed.refresh(&first)?)?;
    let third = refresh_token(&bed.refresh(&second)?)?;
    overtaking.answer(signs);
    assert_eq!(slow.wait().err().map(|error| error.code()), Some("invalid_grant"));
    let fourth = refresh_token(&bed.refresh(&third)?)?;
    // Whoever comes with it now comes after its successor was used.
    assert!(bed.refresh(&first).is_err());
    assert!(bed.refresh(&fourth).is_err(), "a replay ends the login");
    Ok(())
}

#[test]
fn clients_get_their_own_tokens_and_reused_ones_are_signed_again() -> Tested {
    let bed = Bed::new()?;
    let batch = Client::confidential("batch").format(TokenFormat::Jwt).scopes(["api"]);
    let registered = bed.authority.register(batch).wait()?;
    let secret = registered.client_secret.ok_or("no secret")?;
    let caller = Caller::secret(&registered.client_id, secret.expose());
    let request = TokenRequest::client_credentials(&caller);
    verifies(&bed.authority, &bed.authority.token(&request).wait()?)?;
    bed.desk.give_always(|_| Err(SignerError::TimedOut));
    let before = bed.committed();
    let failed = bed.authority.token(&request).wait().err();
    assert_eq!(failed.map(|error| error.code()), Some("server_error"));
    assert_eq!(bed.committed(), before);

    bed.desk.give_always(signs);
    let kiosk = Client::public("kiosk")
        .grants([])
        .scopes(["api"])
        .format(TokenFormat::Jwt)
        .pairs(PairPolicy::Reuse { left_secs_min: 60 });
    let kiosk = bed.authority.register(kiosk).wait()?.client_id;
    let issue = || bed.authority.issue(Issue::to("ann", &kiosk)).wait();
    let (one, two) = (issue()?, issue()?);
    assert_eq!(access_token(&one), access_token(&two));
    Ok(())
}

#[test]
fn a_remote_key_needs_its_signer_at_every_open_while_it_signs() -> Tested {
    let dir = tempfile::tempdir()?;
    let desk = Desk::that(signs);
    let open = |key: Option<SigningKey>| {
        let builder = builder();
        let builder = match key {
            Some(key) => builder.remote_key(key),
            None => builder,
        };
        builder.open(dir.path(), root())
    };
    let authority = open(Some(remote(&desk)?))?;
    assert_eq!(authority.keys().active_kid(), "hsm");
    let app = Client::public("app").format(TokenFormat::Jwt).scopes(["api"]);
    let app = authority.register(app).wait()?.client_id;
    let issued = authority.issue(Issue::to("ann", &app)).wait()?;
    authority.close()?;
    drop(authority);

    let refused = open(None).err();
    assert!(matches!(&refused, Some(OpenError::NoSigner { kid }) if &**kid == "hsm"));
    let other = SigningKey::generate(Algorithm::EdDsa, Some("hsm"), &SeededEntropy::new(5))?;
    let other = other.public_jwk().ok_or("no public key")?.clone();
    let refused = open(Some(SigningKey::remote(other, desk.clone())?)).err();
    assert!(matches!(refused, Some(OpenError::NoSigner { .. })), "another key of that kid");

    let authority = open(Some(remote(&desk)?))?;
    verifies(&authority, &issued)?;
    verifies(&authority, &authority.issue(Issue::to("ann", &app)).wait()?)?;
    // Retired, it verifies without a signer.
    authority.keys().generate(Algorithm::EdDsa).wait()?;
    authority.close()?;
    drop(authority);
    let authority = open(None)?;
    verifies(&authority, &issued)?;
    assert_ne!(authority.keys().active_kid(), "hsm");
    Ok(())
}

#[test]
fn a_remote_key_that_would_be_ignored_is_refused() -> Tested {
    let desk = Desk::that(signs);
    let other = || {
        let key = SigningKey::generate(Algorithm::EdDsa, Some("other"), &SeededEntropy::new(5))?;
        let public = key.public_jwk().ok_or("no public key")?.clone();
        Ok::<_, Box<dyn std::error::Error>>(SigningKey::remote(public, desk.clone())?)
    };
    let is_unknown = |opened: Result<(), OpenError>, name: &str| matches!(opened, Err(OpenError::UnknownRemoteKey { kid }) if &*kid == name);
    let two = builder().remote_key(remote(&desk)?).remote_key(other()?);
    assert!(is_unknown(two.in_memory(root()).map(drop), "other"));
    // A store with a key of its own, that gets a remote one, that is retired.
    let authority = builder().in_memory(root())?;
    let store = authority.store().clone();
    let over = |key: SigningKey| {
        let entropy = SeededEntropy::new(77);
        builder().entropy(entropy).remote_key(key).with_store(store.clone(), root()).map(drop)
    };
    assert!(is_unknown(over(remote(&desk)?), "hsm"));
    authority.keys().import(remote(&desk)?).wait()?;
    over(remote(&desk)?)?;
    let both = builder().remote_key(other()?).remote_key(remote(&desk)?);
    assert!(is_unknown(both.with_store(store.clone(), root()).map(drop), "other"));
    authority.keys().generate(Algorithm::EdDsa).wait()?;
    over(remote(&desk)?)?;
    authority.keys().retire("hsm").wait()?;
    assert!(is_unknown(over(remote(&desk)?), "hsm"));
    Ok(())
}

#[test]
fn a_remote_key_can_be_imported_into_a_store_that_has_keys() -> Tested {
    let desk = Desk::that(signs);
    let authority = builder().in_memory(root())?;
    let app = Client::public("app").format(TokenFormat::Jwt).scopes(["api"]);
    let app = authority.register(app).wait()?.client_id;
    let old = authority.issue(Issue::to("ann", &app)).wait()?;
    authority.keys().import(remote(&desk)?).wait()?;
    let new = authority.issue(Issue::to("ann", &app)).wait()?;
    let header = base64_simd::URL_SAFE_NO_PAD
        .decode_to_vec(new.access_token.expose().split('.').next().unwrap_or_default())?;
    assert!(String::from_utf8(header)?.contains("\"hsm\""));
    verifies(&authority, &old)?;
    verifies(&authority, &new)?;
    assert!(authority.keys().jwks().contains("\"hsm\""));
    Ok(())
}

fn claims() -> AccessClaims<'static> {
    AccessClaims {
        issuer: ISSUER,
        subject: "u1",
        audience: &["api"],
        client_id: "C1",
        scope: "",
        issued_at: Timestamp(START),
        not_before: None,
        expires_at: Timestamp(START + 60),
        jti: "j1",
        extra: &NoExtraClaims,
    }
}

#[test]
fn only_the_waiting_way_signs_with_a_remote_key() -> Tested {
    let key = remote(&Desk::that(signs))?;
    assert!(key.is_remote());
    let mut out = vec![0; key.token_len(&claims())?];
    assert_eq!(key.sign_into(&claims(), &mut out).err(), Some(SignError::Remote));
    let token = block_on(key.sign_async(&claims()))?;
    assert_eq!(token.len(), out.len());
    // A key that is here signs the same by the same call.
    let local = SigningKey::generate(Algorithm::EdDsa, Some("local"), &SeededEntropy::new(1))?;
    let mut out = vec![0; local.token_len(&claims())?];
    let signed = local.sign_into(&claims(), &mut out)?.to_owned();
    assert_eq!(block_on(local.sign_async(&claims()))?, signed);
    // What is stored of it is the public half.
    let stored = SigningKey::from_private_bytes(&key.to_private_bytes())?;
    assert!(stored.is_without_signer() && stored.public_jwk() == key.public_jwk());
    let refused = block_on(stored.sign_async(&claims())).err();
    assert_eq!(refused, Some(SignError::Remote));
    assert!(!key.to_private_bytes().windows(32).any(|window| window == SEED));
    Ok(())
}

#[test]
fn a_signature_in_der_is_refused_by_the_form() -> Tested {
    struct Der(EcdsaKeyPair);
    impl Signer for Der {
        fn sign(&self, input: &[u8]) -> Signing {
            let signed = self.0.sign(&ring::rand::SystemRandom::new(), input);
            let signed = signed.map(|raw| raw.as_ref().to_vec());
            Box::pin(async move { signed.map_err(|_| SignerError::Refused) })
        }
    }
    let rng = ring::rand::SystemRandom::new();
    for (algorithm, is_good) in [
        (&ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING, true),
        (&ring::signature::ECDSA_P256_SHA256_ASN1_SIGNING, false),
    ] {
        let pem = include_str!("data/p256.pk8.pem");
        let public = SigningKey::from_pem(Algorithm::Es256, Some("k"), pem)?;
        let public = public.public_jwk().ok_or("no public key")?.clone();
        let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let der = base64_simd::STANDARD.decode_to_vec(der)?;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, &der, &rng).map_err(|e| e.to_string())?;
        let key = SigningKey::remote(public, Der(pair))?;
        let signed = block_on(key.sign_async(&claims()));
        let wanted = (!is_good).then_some(SignError::WrongSignature);
        assert_eq!(signed.err(), wanted);
    }
    Ok(())
}
