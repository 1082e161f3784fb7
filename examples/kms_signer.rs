//! Signing keys that are elsewhere: signed there, waited for with a limit, rotated without an outage.
//! Here a thread plays the key service, with its own pace and its own failures; in production it is a
//! KMS, an HSM or a process that alone may read the key.
//!
//! `cargo run --example kms_signer`
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use mintage::authority::{Authority, Client, Issue, Scratch, TokenFormat};
use mintage::codec::jwk::Jwk;
use mintage::codec::keys::{Signer, SignerError, Signing, SigningKey};
use mintage::root_key::RootKey;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

type Done<T = ()> = Result<T, Box<dyn Error>>;

const ISSUER: &str = "https://login.example.com";
/// How long the service is waited for: the authority keeps no time limit of its own.
const PATIENCE: Duration = Duration::from_millis(200);

/// The signature, unless it was refused.
type Reply = Option<Vec<u8>>;
type Said = Result<Vec<u8>, SignerError>;

/// What the key service does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Signs,
    Refuses,
    IsSilent,
}

/// The other side: it alone holds the key.
struct KeyService {
    key: Ed25519KeyPair,
    mood: Arc<Mutex<Mood>>,
}

impl KeyService {
    fn serve(&self, requests: &Receiver<(Vec<u8>, Sender<Reply>)>) {
        while let Ok((input, reply)) = requests.recv() {
            let answer = match *self.mood.lock().unwrap_or_else(PoisonError::into_inner) {
                Mood::Signs => Some(self.key.sign(&input).as_ref().to_vec()),
                Mood::Refuses => None,
                Mood::IsSilent => {
                    // Keeps the line open and says nothing.
                    std::mem::forget(reply);
                    continue;
                }
            };
            let _ = reply.send(answer);
        }
    }
}

/// Our side of the line: a thread that forwards, and keeps the time limit.
struct RemoteKey {
    requests: Sender<(Vec<u8>, Arc<Answer>)>,
    mood: Arc<Mutex<Mood>>,
    public: Jwk,
}

impl RemoteKey {
    /// Starts a key service with a fresh Ed25519 key of that name, and a line to it.
    fn start(kid: &str, patience: Duration) -> Done<RemoteKey> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| "no key")?;
        let key = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).map_err(|error| error.to_string())?;
        let x = base64_simd::URL_SAFE_NO_PAD.encode_to_string(key.public_key().as_ref());
        let public = format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"{kid}","x":"{x}"}}"#);
        let public = Jwk::parse(public.as_bytes())?;
        let mood = Arc::new(Mutex::new(Mood::Signs));
        let service = KeyService { key, mood: Arc::clone(&mood) };
        let (to_service, at_service) = mpsc::channel();
        thread::spawn(move || service.serve(&at_service));
        let (requests, here) = mpsc::channel::<(Vec<u8>, Arc<Answer>)>();
        thread::spawn(move || {
            while let Ok((input, answer)) = here.recv() {
                let (reply, replied) = mpsc::channel();
                let asked = to_service.send((input, reply));
                let said = asked.map_err(|_| SignerError::Unavailable).and_then(|()| {
                    replied.recv_timeout(patience).map_err(|error| match error {
                        RecvTimeoutError::Timeout => SignerError::TimedOut,
                        RecvTimeoutError::Disconnected => SignerError::Unavailable,
                    })
                });
                answer.give(said.and_then(|signature| signature.ok_or(SignerError::Refused)));
            }
        });
        Ok(RemoteKey { requests, mood, public })
    }

    fn be(&self, mood: Mood) {
        *self.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
    }

    /// The key as an authority takes it.
    fn signing_key(&self) -> Done<SigningKey> {
        Ok(SigningKey::remote(self.public.clone(), Line(Mutex::new(self.requests.clone())))?)
    }
}

struct Line(Mutex<Sender<(Vec<u8>, Arc<Answer>)>>);

impl Signer for Line {
    fn sign(&self, input: &[u8]) -> Signing {
        let answer = Arc::new(Answer::default());
        let line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if line.send((input.to_vec(), Arc::clone(&answer))).is_err() {
            answer.give(Err(SignerError::Unavailable));
        }
        Box::pin(Awaited(answer))
    }
}

/// A signature that will be there.
#[derive(Default)]
struct Answer(Mutex<(Option<Said>, Option<Waker>)>);

impl Answer {
    fn give(&self, said: Said) {
        let waker = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.0 = Some(said);
            state.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

struct Awaited(Arc<Answer>);

impl Future for Awaited {
    type Output = Said;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.0.take() {
            Some(said) => Poll::Ready(said),
            None => {
                state.1 = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

pub(crate) fn main() -> Done {
    let remote = RemoteKey::start("kms-1", PATIENCE)?;
    let authority = Authority::builder(ISSUER)
        .remote_key(remote.signing_key()?)
        .in_memory(RootKey::from_bytes(1, [7; 32]))?;
    let app = Client::public("app").scopes(["api", "refresh_token"]).format(TokenFormat::Jwt);
    let app = authority.register(app).wait()?.client_id;

    let issued = authority.issue(Issue::to("user-42", &app)).wait()?;
    let mut scratch = Scratch::new();
    let claims = authority.verify(issued.access_token.expose(), &mut scratch)?;
    println!("signed by {} elsewhere, for {}", authority.keys().active_kid(), claims.subject());
    println!("its public key is in the JWK Set: {}", authority.keys().jwks());

    for mood in [Mood::Refuses, Mood::IsSilent] {
        remote.be(mood);
        let before = authority.stats();
        let refused = authority.issue(Issue::to("user-43", &app)).wait();
        let error = refused.err().ok_or("a token without a signature")?;
        let why = error.source().map(ToString::to_string).unwrap_or_default();
        println!("the service {mood:?}: {error} ({why})");
        let after = authority.stats();
        if (before.records, before.families) != (after.records, after.families) {
            return Err("something was committed without a signature".into());
        }
    }
    println!("and nothing was committed");

    remote.be(Mood::Signs);
    authority.issue(Issue::to("user-43", &app)).wait()?;
    println!("the service signs again: issued");

    // A new version of the key: it signs from now on, and what the old one signed is verified until
    // it is retired. At the next open, `Builder::remote_key` takes the one that signs.
    let next = RemoteKey::start("kms-2", PATIENCE)?;
    authority.keys().import(next.signing_key()?).wait()?;
    let newer = authority.issue(Issue::to("user-44", &app)).wait()?;
    for token in [&issued, &newer] {
        authority.verify(token.access_token.expose(), &mut scratch)?;
    }
    remote.be(Mood::IsSilent);
    println!("{} signs, and kms-1 is asked no more", authority.keys().active_kid());
    authority.keys().retire("kms-1").wait()?;
    if authority.verify(issued.access_token.expose(), &mut scratch).is_ok() {
        return Err("a retired key verifies".into());
    }
    authority.verify(newer.access_token.expose(), &mut scratch)?;
    println!("kms-1 is retired: what it signed is refused at once");
    Ok(())
}
