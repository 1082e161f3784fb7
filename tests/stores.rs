//! Laws of an authority over a store that answers late, or not at all.

mod support;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use mintage::authority::{
    Authority, Caller, Client, Error, Introspects, Issue, Target, TokenFormat, TokenRequest,
};
use mintage::codec::algorithm::Algorithm;
use mintage::entropy::SeededEntropy;
use mintage::store::{
    Find, Listing, MemoryStore, Near, Outcome, Page, Revoke, Seq, Stats, Store, StoreError, Swept,
    Ticket, TokenView, Verb,
};
use mintage::time::{Clock, ManualClock, Reading, Timestamp};
use support::{ISSUER, START, Tested, access_token, refresh_token, root};

/// What a [`Moody`] store does instead of its work.
const WELL: u8 = 0;
const LATE: u8 = 1;
const BUSY: u8 = 2;
const READ_ONLY: u8 = 3;
const UNKNOWN: u8 = 4;
const DENIES_NO_MORE: u8 = 5;

/// A store that is late or refuses, as it is told.
#[derive(Clone)]
struct Moody {
    store: MemoryStore,
    mood: Arc<AtomicU8>,
}

impl Moody {
    fn refusal(&self) -> Option<StoreError> {
        match self.mood.load(Ordering::SeqCst) {
            BUSY => Some(StoreError::Busy),
            READ_ONLY => Some(StoreError::ReadOnly),
            UNKNOWN => Some(StoreError::Unknown(Arc::new(io::Error::other("the disk is gone")))),
            _ => None,
        }
    }

    fn is_late(&self) -> bool {
        self.mood.load(Ordering::SeqCst) == LATE
    }
}

/// Pending once, and then ready.
struct Later(bool);

impl Future for Later {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.0 {
            return Poll::Ready(());
        }
        self.0 = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Store for Moody {
    fn admission(&self) -> Seq {
        self.store.admission()
    }

    fn now(&self, reading: Reading) -> Timestamp {
        self.store.now(reading)
    }

    fn draw(&self, near: Near<'_>) -> u64 {
        self.store.draw(near)
    }

    fn apply(&self, verb: Verb) -> Ticket<Outcome> {
        if let Some(refusal) = self.refusal() {
            return Ticket::ready(Err(refusal));
        }
        let denies = matches!(
            &verb,
            Verb::Revoke(Revoke { target: mintage::store::Target::Jwt { .. }, .. })
        );
        if denies && self.mood.load(Ordering::SeqCst) == DENIES_NO_MORE {
            return Ticket::ready(Err(StoreError::Busy));
        }
        let decided = self.store.apply(verb);
        if !self.is_late() {
            return decided;
        }
        Ticket::slow(async move {
            Later(false).await;
            decided.await
        })
    }

    fn find(
        &self,
        find: Find,
        now: Reading,
    ) -> impl Future<Output = Result<Option<TokenView>, StoreError>> + Send + 'static {
        let (me, is_late) = (self.clone(), self.is_late());
        async move {
            if is_late {
                Later(false).await;
            }
            match me.refusal() {
                Some(_) => Err(StoreError::Unavailable),
                None => me.store.find(find, now).await,
            }
        }
    }

    fn list(
        &self,
        listing: Listing,
        cursor: Option<&[u8]>,
        limit: usize,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send + 'static {
        let (list, is_late) = (self.store.list(listing, cursor, limit), self.is_late());
        let refusal = self.refusal();
        async move {
            if is_late {
                Later(false).await;
            }
            match refusal {
                Some(_) => Err(StoreError::Unavailable),
                None => list.await,
            }
        }
    }

    fn sweep(&self, now: Reading) -> Result<Swept, StoreError> {
        self.store.sweep(now)
    }

    fn stats(&self) -> Stats {
        self.store.stats()
    }
}

fn moody(mood: u8) -> Result<(Authority<Moody>, Arc<AtomicU8>), Box<dyn std::error::Error>> {
    let clock = Arc::new(ManualClock::at(START));
    let store = MemoryStore::new(clock.clone(), &SeededEntropy::new(3))?;
    let mood = Arc::new(AtomicU8::new(mood));
    let store = Moody { store, mood: Arc::clone(&mood) };
    let builder = Authority::builder(ISSUER).clock(clock).entropy(SeededEntropy::new(4));
    Ok((builder.with_store(store, root())?, mood))
}

fn register(
    authority: &Authority<Moody>,
    client: Client,
) -> Result<(mintage::ids::ClientId, Caller), Box<dyn std::error::Error>> {
    let registered = authority.register(client).wait()?;
    let secret = registered.client_secret.as_ref().ok_or("no secret")?;
    let caller = Caller::secret(&registered.client_id, secret.expose());
    Ok((registered.client_id, caller))
}

#[test]
fn a_late_store_changes_no_answer() -> Tested {
    let (authority, _) = moody(LATE)?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let client = Client::confidential(format!("{format:?}"))
            .scopes(["refresh_token"])
            .refresh(mintage::authority::RefreshPolicy::rotate())
            .introspects(Introspects::All)
            .format(format);
        let (client, caller) = register(&authority, client)?;
        let first = authority.issue(Issue::to("ann", &client)).wait()?;
        let token = refresh_token(&first)?;
        let second = authority.token(&TokenRequest::refresh(&token, &caller)).wait()?;
        let again = authority.token(&TokenRequest::refresh(&token, &caller)).wait()?;
        assert_eq!(refresh_token(&again)?, refresh_token(&second)?);
        assert_eq!(access_token(&again), access_token(&second));
        let access = access_token(&second);
        assert!(authority.introspect(&access, &caller).wait()?.is_active());
        assert!(authority.introspect(&refresh_token(&second)?, &caller).wait()?.is_active());
        authority.verify_live(&access).wait()?;
        assert!(authority.token(&TokenRequest::refresh(&token, &caller)).wait().is_err());
        assert!(!authority.introspect(&access, &caller).wait()?.is_active());
        let other = authority.issue(Issue::to("ann", &client)).wait()?;
        authority.revoke_token(&access_token(&other), &caller).wait()?;
        assert!(authority.verify_live(&access_token(&other)).wait().is_err());
        let listed = authority.grants().of_subject("ann").page(5).wait()?;
        assert_eq!(listed.grants.len(), 1);
        authority.remove_client(&client).wait()?;
        assert!(authority.client(&client).is_none());
    }
    authority.keys().generate(Algorithm::EdDsa).wait()?;
    assert_eq!(authority.keys().active_algorithm(), Algorithm::EdDsa);
    Ok(())
}

#[test]
fn trouble_of_the_store_is_never_an_oauth_refusal() -> Tested {
    let (authority, mood) = moody(WELL)?;
    let client = Client::confidential("app").scopes(["refresh_token"]);
    let (client, caller) = register(&authority, client)?;
    let issued = authority.issue(Issue::to("ann", &client)).wait()?;
    let (access, refresh) = (access_token(&issued), refresh_token(&issued)?);
    let kid = authority.keys().active_kid();
    for trouble in [BUSY, READ_ONLY, UNKNOWN] {
        mood.store(trouble, Ordering::SeqCst);
        let answers = [
            authority.issue(Issue::to("ann", &client)).wait().map(|_| ()),
            authority.token(&TokenRequest::client_credentials(&caller)).wait().map(|_| ()),
            authority.token(&TokenRequest::refresh(&refresh, &caller)).wait().map(|_| ()),
            authority.introspect(&access, &caller).wait().map(|_| ()),
            authority.introspect(&refresh, &caller).wait().map(|_| ()),
            authority.verify_live(&access).wait().map(|_| ()),
            authority.revoke(Target::Subject("ann")).wait(),
            authority.revoke_token(&access, &caller).wait(),
            authority.grants().of_subject("ann").page(5).wait().map(|_| ()),
            authority.register(Client::public("other")).wait().map(|_| ()),
            authority.keys().generate(Algorithm::EdDsa).wait().map(|_| ()),
        ];
        for answer in answers {
            let error = answer.err().ok_or("something was done")?;
            assert_eq!((error.code(), error.status()), ("temporarily_unavailable", 503));
            assert!(std::error::Error::source(&error).is_some());
        }
        // Known to nobody, since it is not in the store.
        assert!(authority.client(&mintage::ids::ClientId::new("other")?).is_none());
        assert_eq!(authority.keys().active_kid(), kid);
        // What needs no store goes on: a wrong caller is still a wrong caller.
        let wrong = Caller::secret("app", "mcs_wrong");
        let refused = authority.token(&TokenRequest::client_credentials(&wrong)).wait();
        assert!(matches!(refused, Err(Error::InvalidClient(_))));
    }
    mood.store(WELL, Ordering::SeqCst);
    assert!(authority.introspect(&access, &caller).wait()?.is_active());
    authority.token(&TokenRequest::refresh(&refresh, &caller)).wait()?;
    Ok(())
}

#[test]
fn a_jwt_that_cannot_be_denied_takes_its_family_along() -> Tested {
    let (authority, mood) = moody(DENIES_NO_MORE)?;
    let client = Client::confidential("app").scopes(["refresh_token"]).format(TokenFormat::Jwt);
    let (client, caller) = register(&authority, client)?;
    let issued = authority.issue(Issue::to("ann", &client)).wait()?;
    let other = authority.issue(Issue::to("ann", &client)).wait()?;
    authority.revoke_token(&access_token(&issued), &caller).wait()?;
    mood.store(WELL, Ordering::SeqCst);
    for token in [access_token(&issued), refresh_token(&issued)?] {
        assert!(!authority.introspect(&token, &caller).wait()?.is_active());
    }
    assert!(authority.introspect(&access_token(&other), &caller).wait()?.is_active());
    Ok(())
}

#[test]
fn a_store_that_cannot_be_read_opens_no_authority() -> Tested {
    assert!(moody(BUSY).is_err());
    Ok(())
}

type Interruption = Box<dyn FnOnce() + Send>;

/// A clock that does something else first, once.
struct Interrupting(Mutex<Option<Interruption>>);

impl Clock for Interrupting {
    fn read(&self) -> Reading {
        let waiting = self.0.lock().ok().and_then(|mut waiting| waiting.take());
        if let Some(interrupt) = waiting {
            interrupt();
        }
        ManualClock::at(START).read()
    }
}

/// I3: the admission is noted before everything else, so what is revoked while a request is under
/// way stays revoked.
#[test]
fn i3_a_revocation_in_the_middle_of_a_request_outlives_it() -> Tested {
    let clock = Arc::new(Interrupting(Mutex::new(None)));
    let builder = Authority::builder(ISSUER).clock(Arc::clone(&clock));
    let authority = builder.entropy(SeededEntropy::new(5)).in_memory(root())?;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let client = Client::confidential(format!("{format:?}")).format(format);
        let registered = authority.register(client.scopes(["refresh_token"])).wait()?;
        let secret = registered.client_secret.as_ref().ok_or("no secret")?.expose();
        let (client, caller) =
            (registered.client_id.clone(), Caller::secret(&registered.client_id, secret));
        let arm = |by: Authority<MemoryStore>, whole_client: bool| {
            let client = client.clone();
            let interrupt: Interruption = Box::new(move || {
                let target =
                    if whole_client { Target::Client(&client) } else { Target::Subject("ann") };
                assert!(by.revoke(target).wait().is_ok());
            });
            if let Ok(mut waiting) = clock.0.lock() {
                *waiting = Some(interrupt);
            }
        };
        for whole_client in [false, true] {
            let standing = refresh_token(&authority.issue(Issue::to("ann", &client)).wait()?)?;
            arm(authority.clone(), whole_client);
            let issued = authority.issue(Issue::to("ann", &client)).wait();
            assert!(matches!(issued, Err(Error::InvalidGrant(_))), "{issued:?}");
            let refreshed = authority.token(&TokenRequest::refresh(&standing, &caller)).wait();
            assert!(matches!(refreshed, Err(Error::InvalidGrant(_))));
            let standing = refresh_token(&authority.issue(Issue::to("ann", &client)).wait()?)?;
            arm(authority.clone(), whole_client);
            let refreshed = authority.token(&TokenRequest::refresh(&standing, &caller)).wait();
            assert!(matches!(refreshed, Err(Error::InvalidGrant(_))));
        }
        arm(authority.clone(), true);
        let born = authority.token(&TokenRequest::client_credentials(&caller)).wait();
        assert!(matches!(born, Err(Error::InvalidGrant(_))));
    }
    Ok(())
}
