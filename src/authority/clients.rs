//! Registering, knowing and removing clients. Every client is in memory, so that authenticating
//! takes no lookup in the store.

use std::sync::Arc;

use base64_simd::URL_SAFE_NO_PAD;

use super::client::{Client, KeptSecret, Registered, RegisteredClient};
use super::client_document::{from_document, to_document};
use super::error::{Error, OpenError, Reason};
use super::lookup::{at_once, ticket};
use super::{Authority, Inner, documents};
use crate::entropy::random;
use crate::ids::ClientId;
use crate::secret::SecretText;
use crate::store::{Outcome, Put, Revoke, Store, Target, Ticket, Verb};
use crate::sync::{HashMap, Mutex, PoisonError, RwLock};

/// Prefix of a generated client secret, for secret scanners.
const SECRET_PREFIX: &str = "mcs_";

/// The clients in memory.
pub(super) struct Clients {
    by_id: RwLock<HashMap<ClientId, Arc<RegisteredClient>>>,
    /// Held while a change is decided by the store and made here, so that both see changes in one
    /// order. Deciding does not wait for the disk (I7).
    changes: Mutex<()>,
}

impl Clients {
    /// Reads every client of `store`.
    pub(super) fn load<S: Store>(store: &S) -> Result<Clients, OpenError> {
        let mut by_id = HashMap::default();
        for document in documents::all(store, documents::CLIENT)? {
            let client = from_document(&document.name, &document.body)
                .ok_or(OpenError::Document { what: "client" })?;
            by_id.insert(client.id.clone(), Arc::new(client));
        }
        Ok(Clients { by_id: RwLock::new(by_id), changes: Mutex::new(()) })
    }

    pub(super) fn get(&self, id: &ClientId) -> Option<Arc<RegisteredClient>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    fn insert(&self, client: RegisteredClient) {
        let mut clients = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        clients.insert(client.id.clone(), Arc::new(client));
    }

    fn remove(&self, id: &ClientId) {
        self.by_id.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

impl<S: Store> Authority<S> {
    /// Registers a client. A confidential one gets a secret of 256 random bits, shown this once.
    ///
    /// # Durability
    /// The ticket resolves when the client is on stable storage.
    ///
    /// # Errors
    /// [`Error::InvalidClientMetadata`] for an unusable draft and for a `client_id` that is taken;
    /// [`Error::TemporarilyUnavailable`] when the store cannot.
    pub fn register(&self, client: Client) -> Ticket<Registered, Error> {
        ticket(self.inner.register(client))
    }

    /// A registered client.
    #[must_use]
    pub fn client(&self, client_id: &ClientId) -> Option<Arc<RegisteredClient>> {
        self.inner.clients.get(client_id)
    }

    /// Switches a client off, revokes all that it holds, and removes it. Its tokens stay dead when
    /// the `client_id` is registered again. Removing an unknown client does nothing.
    ///
    /// # Durability
    /// From this call on the client is refused and its tokens are dead; the ticket resolves when
    /// that is on stable storage. Dropping the ticket undoes nothing.
    ///
    /// # Errors
    /// [`Error::TemporarilyUnavailable`] when the store cannot; call again then.
    pub fn remove_client(&self, client_id: &ClientId) -> Ticket<(), Error> {
        let inner = &self.inner;
        let _changes = inner.clients.changes.lock().unwrap_or_else(PoisonError::into_inner);
        // Refused first, revoked next: whoever authenticated before has an admission below the
        // revocation's number.
        let Some(held) = inner.clients.get(client_id) else { return Ticket::ready(Ok(())) };
        inner.clients.remove(client_id);
        let now = inner.clock.read();
        let target = Target::Client(client_id.clone());
        let revoked = match at_once(inner.store.apply(Verb::Revoke(Revoke { target, now }))) {
            // Its name must not be free while its tokens are alive.
            Err(error) => {
                inner
                    .clients
                    .by_id
                    .write()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(client_id.clone(), held);
                return Ticket::ready(Err(error.into()));
            }
            Ok(revoked) => revoked,
        };
        let removed = inner.store.apply(Verb::Put(Put {
            kind: documents::CLIENT,
            name: Arc::from(client_id.as_str()),
            body: None,
            create: false,
        }));
        Ticket::slow(async move {
            revoked.await?;
            removed.await?;
            Ok(())
        })
    }
}

impl<S: Store> Inner<S> {
    fn register(self: &Arc<Self>, client: Client) -> Result<Ticket<Registered, Error>, Error> {
        let (id, settings) = client.check()?;
        let mut registered =
            RegisteredClient { id, settings, secret: None, registered_at: self.clock.read().unix };
        let secret = match registered.settings.confidential {
            true => Some(self.draw_secret(&mut registered)?),
            false => None,
        };
        let body = to_document(&registered)
            .ok_or_else(|| Error::ServerError(Reason::new("the client has no document")))?;
        if body.len() > documents::BODY_LEN_MAX {
            return Err(Error::InvalidClientMetadata(Reason::new("the client is too large")));
        }
        let put = Put {
            kind: documents::CLIENT,
            name: Arc::from(registered.id.as_str()),
            body: Some(Arc::from(body)),
            create: true,
        };
        let _changes = self.clients.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = Arc::clone(self);
        Ok(self.store.apply(Verb::Put(put)).and_then(move |outcome| match outcome? {
            Outcome::Put(true) => {
                let client_id = registered.id.clone();
                // Known before it is durable: whatever is born under it comes later in the log.
                inner.clients.insert(registered);
                Ok(Registered { client_id, client_secret: secret })
            }
            _ => Err(Error::InvalidClientMetadata(Reason::new("the client_id is taken"))),
        }))
    }

    fn draw_secret(&self, client: &mut RegisteredClient) -> Result<SecretText, Error> {
        let drawn = zeroize::Zeroizing::new(random::<32>(&*self.entropy)?);
        let text = format!("{SECRET_PREFIX}{}", URL_SAFE_NO_PAD.encode_to_string(drawn.as_slice()));
        let secret = SecretText::new(text);
        let key_version = self.handles.current_version();
        let digest = self.derive.client_secret(key_version, &client.id, secret.expose());
        let digest = digest
            .ok_or_else(|| Error::ServerError(Reason::new("the root key lacks its version")))?;
        client.secret = Some(KeptSecret { key_version, digest });
        Ok(secret)
    }
}
