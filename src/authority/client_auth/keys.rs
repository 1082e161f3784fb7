//! Public keys of clients: registered with them, or given by the host as they change.

use std::fmt;
use std::sync::Arc;

use crate::codec::jwk_set::JwkSet;
use crate::sync::{HashMap, PoisonError, RwLock};

/// Where the public keys of others come from, such as a client's `jwks_uri`. The library fetches
/// nothing by itself: a host that fetches keeps what it got and answers from that.
pub trait KeySource: Send + Sync + 'static {
    /// The keys of `owner`, a client id or an issuer, as they are known now; `None` when there are
    /// none.
    ///
    /// It is asked a second time, with `unknown_kid`, when an assertion names a key that the first
    /// answer lacks: the owner may have changed its keys, so the host may fetch them again. **Anybody
    /// can send an assertion with any `kid`**: the host limits how often it fetches, whatever it is
    /// asked.
    ///
    /// # Blocks
    /// The call is made on the thread of the request, before a ticket is returned. A source that has
    /// to wait for a network should answer what it has and fetch beside.
    fn keys(&self, owner: &str, unknown_kid: Option<&str>) -> Option<Arc<JwkSet>>;
}

/// Keys that a host sets by hand, and the [`KeySource`] of an authority that was given none.
#[derive(Default)]
pub struct KeyTable {
    by_owner: RwLock<HashMap<String, Arc<JwkSet>>>,
}

impl KeyTable {
    /// No keys.
    #[must_use]
    pub fn new() -> KeyTable {
        KeyTable::default()
    }

    /// From now on the keys of `owner` are these. What older keys signed is refused at once.
    pub fn set(&self, owner: impl Into<String>, keys: JwkSet) {
        let mut table = self.by_owner.write().unwrap_or_else(PoisonError::into_inner);
        table.insert(owner.into(), Arc::new(keys));
    }
}

impl KeySource for KeyTable {
    fn keys(&self, owner: &str, _: Option<&str>) -> Option<Arc<JwkSet>> {
        self.by_owner.read().unwrap_or_else(PoisonError::into_inner).get(owner).cloned()
    }
}

impl<K: KeySource> KeySource for Arc<K> {
    fn keys(&self, owner: &str, unknown_kid: Option<&str>) -> Option<Arc<JwkSet>> {
        (**self).keys(owner, unknown_kid)
    }
}

impl fmt::Debug for KeyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyTable")
    }
}

/// Where the keys of one client are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::authority) enum ClientKeys {
    /// Registered with it (`jwks`).
    Registered(Arc<JwkSet>),
    /// Given by the host; with the `jwks_uri` that the client registered, if it did.
    Hosted(Option<String>),
}
