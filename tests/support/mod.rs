//! A bed for the tests of the authority: one per store, with a clock that is stepped and randomness
//! that is seeded, so that a law is written once and holds over every store.

#![allow(dead_code, unreachable_pub, reason = "each test file uses the part that it needs")]

use std::error::Error;
use std::sync::Arc;

use mintage::authority::{
    Authority, Builder, Caller, Client, GrantType, Issue, Issued, OpenError, TokenFormat,
    TokenRequest,
};
use mintage::entropy::SeededEntropy;
use mintage::ids::ClientId;
use mintage::root_key::RootKey;
use mintage::store::{DurableOptions, DurableStore, MemoryStore, Store};
use mintage::time::ManualClock;

pub type Boxed = Box<dyn Error>;
pub type Tested = Result<(), Box<dyn Error>>;

pub const ISSUER: &str = "https://login.example.com";
/// The time at which every bed begins.
pub const START: u64 = 1_800_000_000;

/// How a store is opened, closed and opened again.
pub trait Opener: Send + Sync {
    type Store: Store;
    fn open(
        &mut self,
        builder: Builder,
        root: RootKey,
    ) -> Result<Authority<Self::Store>, OpenError>;
    fn close(&mut self, authority: Authority<Self::Store>) -> Tested;
}

/// The store in memory outlives its authority: reopening makes a new authority over it.
#[derive(Default)]
pub struct Memory {
    store: Option<MemoryStore>,
}

impl Opener for Memory {
    type Store = MemoryStore;

    fn open(
        &mut self,
        builder: Builder,
        root: RootKey,
    ) -> Result<Authority<MemoryStore>, OpenError> {
        let authority = match self.store.clone() {
            None => builder.in_memory(root)?,
            Some(store) => builder.with_store(store, root)?,
        };
        self.store = Some(authority.store().clone());
        Ok(authority)
    }

    fn close(&mut self, _: Authority<MemoryStore>) -> Tested {
        Ok(())
    }
}

/// The durable store in a directory of its own.
pub struct Durable {
    pub dir: tempfile::TempDir,
}

impl Default for Durable {
    fn default() -> Durable {
        Durable { dir: tempfile::tempdir().expect("a directory for the test") }
    }
}

impl Opener for Durable {
    type Store = DurableStore;

    fn open(&mut self, builder: Builder, root: RootKey) -> Result<Authority, OpenError> {
        builder.durable(DurableOptions::default().segment_len(1 << 20)).open(self.dir.path(), root)
    }

    fn close(&mut self, authority: Authority) -> Tested {
        Ok(authority.close()?)
    }
}

/// An authority with its clock, which can be closed and opened again.
pub struct Bed<O: Opener> {
    // Dropped before the directory that it is in.
    authority: Option<Authority<O::Store>>,
    opener: O,
    settings: fn(Builder) -> Builder,
    seed: u64,
    pub root: RootKey,
    pub clock: Arc<ManualClock>,
}

pub fn root() -> RootKey {
    RootKey::from_bytes(1, [7; 32])
}

impl<O: Opener> Bed<O> {
    pub fn new(opener: O) -> Result<Bed<O>, Box<dyn Error>> {
        Bed::with(opener, |builder| builder)
    }

    pub fn with(opener: O, settings: fn(Builder) -> Builder) -> Result<Bed<O>, Box<dyn Error>> {
        let clock = Arc::new(ManualClock::at(START));
        let mut bed = Bed { opener, authority: None, settings, seed: 1, root: root(), clock };
        bed.open()?;
        Ok(bed)
    }

    fn open(&mut self) -> Result<(), OpenError> {
        let builder = Authority::builder(ISSUER)
            .clock(Arc::clone(&self.clock))
            .entropy(SeededEntropy::new(self.seed));
        self.seed += 1;
        let authority = self.opener.open((self.settings)(builder), self.root.clone())?;
        self.authority = Some(authority);
        Ok(())
    }

    pub fn authority(&self) -> Authority<O::Store> {
        self.authority.clone().expect("a bed is open but while it is being reopened")
    }

    /// From the next opening on it has these settings.
    pub fn settings(&mut self, settings: fn(Builder) -> Builder) {
        self.settings = settings;
    }

    /// Closes and opens again, under whatever `root` is now.
    pub fn reopen(&mut self) -> Result<(), Box<dyn Error>> {
        if let Some(authority) = self.authority.take() {
            self.opener.close(authority)?;
        }
        Ok(self.open()?)
    }

    /// Opens again with another entropy than any before; `Err` is what opening refused with.
    pub fn try_reopen(&mut self) -> Result<Result<(), OpenError>, Box<dyn Error>> {
        if let Some(authority) = self.authority.take() {
            self.opener.close(authority)?;
        }
        Ok(self.open())
    }

    pub fn register(&self, client: Client) -> Result<(ClientId, Caller), Box<dyn Error>> {
        let registered = self.authority().register(client).wait()?;
        let caller = match &registered.client_secret {
            Some(secret) => Caller::secret(&registered.client_id, secret.expose()),
            None => Caller::public(&registered.client_id),
        };
        Ok((registered.client_id, caller))
    }

    /// A public client with rotating refresh tokens.
    pub fn app(&self, id: &str, format: TokenFormat) -> Result<(ClientId, Caller), Box<dyn Error>> {
        self.register(Client::public(id).scopes(["api", "web", "refresh_token"]).format(format))
    }

    /// A confidential client that may introspect everything.
    pub fn auditor(&self) -> Result<Caller, Box<dyn Error>> {
        let client = Client::confidential("auditor")
            .grants([GrantType::ClientCredentials])
            .introspects(mintage::authority::Introspects::All);
        Ok(self.register(client)?.1)
    }

    pub fn issue(&self, subject: &str, client: &ClientId) -> Result<Issued, Box<dyn Error>> {
        Ok(self.authority().issue(Issue::to(subject, client)).wait()?)
    }

    pub fn refresh(
        &self,
        refresh_token: &str,
        caller: &Caller,
    ) -> Result<Issued, mintage::authority::Error> {
        self.authority().token(&TokenRequest::refresh(refresh_token, caller)).wait()
    }

    pub fn is_active(&self, token: &str, auditor: &Caller) -> Result<bool, Box<dyn Error>> {
        Ok(self.authority().introspect(token, auditor).wait()?.is_active())
    }
}

/// An error with what caused it.
pub fn with_causes(error: &dyn Error) -> String {
    match error.source() {
        None => error.to_string(),
        Some(cause) => format!("{error}: {}", with_causes(cause)),
    }
}

/// The refresh token of an answer.
pub fn refresh_token(issued: &Issued) -> Result<String, Box<dyn Error>> {
    let token = issued.refresh_token.as_ref().ok_or("no refresh token")?;
    Ok(token.expose().to_owned())
}

/// The access token of an answer.
pub fn access_token(issued: &Issued) -> String {
    issued.access_token.expose().to_owned()
}

/// The payload segment of a JWT.
pub fn payload(jwt: &str) -> Result<&str, Box<dyn Error>> {
    Ok(jwt.split('.').nth(1).ok_or("no payload")?)
}

/// Runs each law over every store.
#[macro_export]
macro_rules! laws {
    ($($name:ident),* $(,)?) => {
        mod in_memory {
            $(
                #[test]
                fn $name() -> $crate::support::Tested {
                    super::$name($crate::support::Memory::default())
                }
            )*
        }

        mod durable {
            $(
                #[test]
                fn $name() -> $crate::support::Tested {
                    super::$name($crate::support::Durable::default())
                }
            )*
        }
    };
}

/// The smallest executor: it parks its thread until it is woken.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::task::Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut cx) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

/// What 64 threads get that ask at the same moment.
pub fn at_once<T: Send>(ask: impl Fn() -> T + Sync) -> Vec<T> {
    let barrier = std::sync::Barrier::new(64);
    std::thread::scope(|scope| {
        let ask = || {
            barrier.wait();
            ask()
        };
        let threads: Vec<_> = (0..64).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    })
}
