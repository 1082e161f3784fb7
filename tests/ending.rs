//! What is taken away stays away when the store fails: removing a client and dropping a secret, on a
//! disk that waits or fails and over a store that is busy.

mod store_support;
mod support;

use std::future::Future;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};

use mintage::authority::{Authority, Caller, Client, Error, Issue, TokenFormat, TokenRequest};
use mintage::entropy::SeededEntropy;
use mintage::ids::ClientId;
use mintage::store::{
    DurableStore, Find, Listing, MemoryCheckpointHome, MemoryStore, Near, Outcome, Page, Seq,
    Stats, Storage, Store, StoreError, Swept, Ticket, TokenView, Verb,
};
use mintage::time::{Reading, Timestamp};
use store_support::gate::GatedStorage;
use store_support::sim::{Call, Fault, SimStorage};
use store_support::{clock, options};
use support::{ISSUER, Tested, access_token, root};

fn over<S: Store>(store: S, seed: u64) -> Result<Authority<S>, Box<dyn std::error::Error>> {
    let builder = Authority::builder(ISSUER).clock(clock()).entropy(SeededEntropy::new(seed));
    Ok(builder.with_store(store, root())?)
}

fn on(storage: impl Storage, seed: u64) -> Result<Authority, Box<dyn std::error::Error>> {
    let home = Arc::new(MemoryCheckpointHome::default());
    let store = DurableStore::open_on(
        Arc::new(storage),
        home,
        &root(),
        options(&clock()).segment_len(1 << 20),
    )?;
    over(store, seed)
}

/// A client with a token.
fn app<S: Store>(authority: &Authority<S>) -> Result<(ClientId, String), Error> {
    let app = Client::public("app").scopes(["api"]).format(TokenFormat::Jwt);
    let app = authority.register(app).wait()?.client_id;
    let issued = authority.issue(Issue::to("ann", &app)).wait()?;
    Ok((app, access_token(&issued)))
}

fn is_live<S: Store>(authority: &Authority<S>, token: &str) -> bool {
    authority.verify_live(token).wait().is_ok()
}

fn is_pending<T: Unpin>(ticket: &mut Ticket<T, Error>) -> bool {
    Pin::new(ticket).poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

/// Every write of the log fails from now on.
fn fail(disk: &SimStorage) {
    let fault = Fault {
        call: Call::Write,
        nth: 1,
        for_good: true,
        kind: ErrorKind::StorageFull,
        short: false,
    };
    disk.set_fault(Some(fault));
}

#[test]
fn a_removal_on_its_way_is_waited_for_by_whoever_asks_again() -> Tested {
    let disk = GatedStorage::default();
    let authority = on(disk.clone(), 1)?;
    let (app, token) = app(&authority)?;
    let held = disk.hold();
    let mut first = authority.remove_client(&app);
    disk.wait_for_sync();
    let mut again = authority.remove_client(&app);
    assert!(is_pending(&mut first) && is_pending(&mut again));
    assert!(!is_live(&authority, &token));
    drop(held);
    first.wait()?;
    again.wait()?;
    authority.remove_client(&app).wait()?;
    Ok(())
}

#[test]
fn a_removal_that_failed_is_never_called_durable() -> Tested {
    let disk = SimStorage::new();
    let authority = on(disk.clone(), 1)?;
    let (app, token) = app(&authority)?;
    fail(&disk);
    for _ in 0..3 {
        let refused = authority.remove_client(&app).wait();
        assert!(matches!(refused, Err(Error::TemporarilyUnavailable(_))), "{refused:?}");
        assert!(authority.client(&app).is_none() && !is_live(&authority, &token));
    }
    let authority = on(disk.kill(), 2)?;
    // It did not reach the disk; now it does.
    assert!(authority.client(&app).is_some() && is_live(&authority, &token));
    authority.remove_client(&app).wait()?;
    assert!(!is_live(&authority, &token));
    Ok(())
}

#[test]
fn what_is_dropped_stays_dropped_in_a_store_that_refuses_writes() -> Tested {
    let disk = SimStorage::new();
    let authority = on(disk.clone(), 1)?;
    let (gone, token) = app(&authority)?;
    let callers = |id: &str| {
        let registered = authority.register(Client::confidential(id)).wait()?;
        let first = registered.client_secret.as_ref().map_or("", |secret| secret.expose());
        let first = Caller::secret(id, first);
        let second = authority.stage_secret(&registered.client_id).wait()?;
        Ok::<_, Error>((registered.client_id, first, Caller::secret(id, second.expose())))
    };
    let (one, in_force, staged) = callers("one")?;
    let (two, retired, promoted) = callers("two")?;
    authority.promote_secret(&two).wait()?;
    let (three, leaked, _) = callers("three")?;
    let (four, blocked, _) = callers("four")?;
    fail(&disk);
    let refused = authority.issue(Issue::to("ben", &gone)).wait();
    assert!(matches!(refused, Err(Error::TemporarilyUnavailable(StoreError::Unknown(_)))));

    let is_not_durable = |done: Result<(), Error>| {
        matches!(done, Err(Error::TemporarilyUnavailable(StoreError::NotDurable)))
    };
    assert!(is_not_durable(authority.drop_staged_secret(&one).wait()));
    assert!(is_not_durable(authority.drop_retired_secret(&two).wait()));
    assert!(is_not_durable(authority.replace_secret(&three).wait().map(drop)));
    assert!(is_not_durable(authority.block_client(&four).wait()));
    assert!(is_not_durable(authority.remove_client(&gone).wait()));
    assert!(authority.client(&gone).is_none() && !is_live(&authority, &token));
    let refused = |caller: &Caller| {
        let request = TokenRequest::client_credentials(caller);
        matches!(authority.token(&request).wait(), Err(Error::InvalidClient(_)))
    };
    assert!([staged, retired, leaked, blocked].iter().all(refused));
    assert!(!refused(&in_force) && !refused(&promoted));
    Ok(())
}

/// A store that is busy for documents while it is told to be.
#[derive(Clone)]
struct Busy {
    store: MemoryStore,
    refuses: Arc<AtomicBool>,
}

impl Store for Busy {
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
        match verb {
            Verb::Put(_) if self.refuses.load(Ordering::SeqCst) => {
                Ticket::ready(Err(StoreError::Busy))
            }
            verb => self.store.apply(verb),
        }
    }

    fn find(
        &self,
        find: Find,
        now: Reading,
    ) -> impl Future<Output = Result<Option<TokenView>, StoreError>> + Send + 'static {
        self.store.find(find, now)
    }

    fn list(
        &self,
        listing: Listing,
        cursor: Option<&[u8]>,
        limit: usize,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send + 'static {
        self.store.list(listing, cursor, limit)
    }

    fn sweep(&self, now: Reading) -> Result<Swept, StoreError> {
        self.store.sweep(now)
    }

    fn stats(&self) -> Stats {
        self.store.stats()
    }
}

#[test]
fn a_removal_that_stopped_half_way_is_finished_by_the_next_call() -> Tested {
    let store = MemoryStore::new(clock(), &SeededEntropy::new(3))?;
    let busy = Busy { store, refuses: Arc::default() };
    let authority = over(busy.clone(), 1)?;
    let (app, token) = app(&authority)?;
    busy.refuses.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        let refused = authority.remove_client(&app).wait();
        assert!(matches!(refused, Err(Error::TemporarilyUnavailable(StoreError::Busy))));
        assert!(authority.client(&app).is_none() && !is_live(&authority, &token));
    }
    busy.refuses.store(false, Ordering::SeqCst);
    authority.remove_client(&app).wait()?;
    // An authority over the same store does not know it either.
    let again = over(busy, 2)?;
    assert!(again.client(&app).is_none() && !is_live(&again, &token));
    Ok(())
}
