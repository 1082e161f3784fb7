//! The rules: who may have which token, and what becomes of it.
//!
//! An [`Authority`] puts the two lower layers together, tokens as text (codec) and tokens as state
//! (store). It decides who may ask for what; the store alone decides what lives. It has no threads
//! of its own, and no lock of it is held while a disk is waited for.

mod active;
mod audience;
mod birth;
mod builder;
mod caller;
mod client;
mod client_document;
mod clients;
mod derive;
mod documents;
mod error;
mod grants;
mod introspect;
mod issue;
mod issued;
mod lookup;
mod mint;
mod read;
mod refresh;
mod revoke;
mod signing;
mod token;
mod verify;

pub use active::{ActiveToken, TokenKind};
pub use audience::{AUDIENCES_MAX, Audience};
pub use builder::{Builder, ISSUER_LEN_MAX, LEEWAY_SECS_MAX, RETRY_SECS_MAX};
pub use caller::{CLIENT_SECRET_LEN_MAX, Caller};
pub use client::{
    ACCESS_SECS_MAX, Client, GrantType, IDLE_SECS, Introspects, JWT_SECS, OPAQUE_SECS,
    RefreshPolicy, Registered, RegisteredClient, TokenFormat,
};
pub use client_document::METADATA_LEN_MAX;
pub use error::{Error, OpenError, Reason};
pub use grants::{Cursor, GRANTS_PAGE_MAX, Grant, GrantList, GrantPage, Grants};
pub use introspect::Introspection;
pub use issue::Issue;
pub use issued::Issued;
pub use revoke::Target;
pub use signing::Keys;
pub use token::TokenRequest;
pub use verify::{Scratch, VerifiedClaims};

use std::fmt;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use crate::codec::handle::HandleKeys;
use crate::codec::jws::{self, Verifier};
use crate::entropy::Entropy;
use crate::root_key::RootKey;
use crate::store::{MemoryStore, Stats, Store};
use crate::time::Clock;

/// A token authority over a store. Cloning shares it.
pub struct Authority<S: Store = MemoryStore> {
    inner: Arc<Inner<S>>,
}

struct Inner<S> {
    store: S,
    root: RootKey,
    issuer: Arc<str>,
    /// Audience of clients that have none, and of offline verification.
    audience: Audience,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    leeway_secs: u64,
    retry_secs_max: u64,
    handles: HandleKeys,
    derive: derive::DeriveKeys,
    verifier: Verifier,
    any_audience: Verifier,
    clients: clients::Clients,
    keys: signing::SigningKeys,
    scratches: ArrayQueue<jws::Scratch>,
}

impl Authority {
    /// Begins to open an authority; `issuer` is its URL, as `iss` and in metadata (RFC 8414
    /// section 2).
    pub fn builder(issuer: impl Into<String>) -> Builder {
        Builder::new(issuer.into())
    }
}

impl<S: Store> Authority<S> {
    /// The issuer.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.inner.issuer
    }

    /// The store below, for its counters, its feed and its sweep.
    #[must_use]
    pub fn store(&self) -> &S {
        &self.inner.store
    }

    /// Counters of the store.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.store.stats()
    }
}

impl<S: Store> Clone for Authority<S> {
    fn clone(&self) -> Authority<S> {
        Authority { inner: Arc::clone(&self.inner) }
    }
}

impl<S: Store> fmt::Debug for Authority<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("issuer", &self.inner.issuer).finish_non_exhaustive()
    }
}
