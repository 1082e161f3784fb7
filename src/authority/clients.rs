//! Registering, knowing and removing clients. Every client is in memory, so that authenticating
//! takes no lookup in the store.

use std::sync::Arc;

use base64_simd::URL_SAFE_NO_PAD;

use super::audit::{Action, Asker, AuditEvent};
use super::client::{Client, Registered, RegisteredClient};
use super::client_auth::{Keeping, KeptSecret, SecretForm};
use super::client_document::{from_document, to_document};
use super::client_settings::{Checked, Settings};
use super::error::{Error, OpenError, Reason};
use super::lookup::{at_once, ticket};
use super::{Authority, Inner, documents};
use crate::entropy::random;
use crate::ids::ClientId;
use crate::root_key::RootKey;
use crate::secret::{SecretBytes, SecretText};
use crate::store::{Listing, Outcome, Put, Revoke, Store, StoreError, Target, Ticket, Verb};
use crate::sync::{HashMap, Mutex, PoisonError, RwLock};
use crate::time::Timestamp;

/// Prefix of a generated client secret, for secret scanners.
const SECRET_PREFIX: &str = "mcs_";

/// The clients in memory.
pub(super) struct Clients {
    by_id: RwLock<HashMap<ClientId, Arc<RegisteredClient>>>,
    /// Held while a change is decided by the store and made here, so that both see changes in one
    /// order. Deciding does not wait for the disk (I7).
    changes: Mutex<()>,
    /// Stands in for unknown clients where one must be judged. Nothing opens it.
    decoy: Arc<RegisteredClient>,
}

impl Clients {
    /// Reads every client of `store`, and unseals with `root` what must be.
    pub(super) fn load<S: Store>(store: &S, root: &RootKey) -> Result<Clients, OpenError> {
        let mut by_id = HashMap::default();
        for document in documents::all(store, documents::CLIENT)? {
            let mut client = from_document(&document.name, &document.body)
                .ok_or(OpenError::Document { what: "client" })?;
            for secret in &mut client.secrets {
                secret.unseal(root, &client.id);
            }
            by_id.insert(client.id.clone(), Arc::new(client));
        }
        let decoy = Arc::new(decoy(root.current())?);
        Ok(Clients { by_id: RwLock::new(by_id), changes: Mutex::new(()), decoy })
    }

    pub(super) fn decoy(&self) -> Arc<RegisteredClient> {
        Arc::clone(&self.decoy)
    }

    pub(super) fn get(&self, id: &ClientId) -> Option<Arc<RegisteredClient>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// How many clients a client has registered. It walks over all of them: registering is rare.
    pub(super) fn children_of(&self, parent: &ClientId) -> usize {
        let clients = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        clients.values().filter(|client| client.parent() == Some(parent)).count()
    }

    fn insert(&self, client: Arc<RegisteredClient>) {
        let mut clients = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        clients.insert(client.id.clone(), client);
    }

    fn remove(&self, id: &ClientId) -> Option<Arc<RegisteredClient>> {
        self.by_id.write().unwrap_or_else(PoisonError::into_inner).remove(id)
    }
}

/// What a change of a client is to the store.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It may be refused before revocations are.
    Gives,
    /// A secret or a right ends: refused last, and in effect also where it is not durable.
    Ends,
}

impl<S: Store> Authority<S> {
    /// Registers a client. One that authenticates with a secret gets one of 256 random bits, shown
    /// this once, unless it brings its own.
    ///
    /// # Blocks
    /// For an Argon2id computation, some 20 ms, when it brings its own secret.
    ///
    /// # Durability
    /// The ticket resolves when the client is on stable storage.
    ///
    /// # Errors
    /// [`Error::InvalidClientMetadata`] for an unusable draft and for a `client_id` that is taken;
    /// [`Error::TemporarilyUnavailable`] when the store cannot.
    pub fn register(&self, client: Client) -> Ticket<Registered, Error> {
        let id = ClientId::new(&client.id).ok();
        let registered = ticket(self.inner.register(client, None));
        let asker = || Asker { client: id, address: None };
        self.inner.audited(Action::Register, asker, registered)
    }

    /// Registers a known client anew: its settings are those of the draft, whole. It keeps its
    /// secrets, unless the draft brings one, or goes by another method now: then it gets a new one
    /// where it needs one, shown this once. What it holds lives on; its next tokens follow the new
    /// settings, and a scope that was taken away is in no refreshed token. Whether it is blocked, and
    /// who registered it, does not change.
    ///
    /// # Durability
    /// The ticket resolves when the change is on stable storage.
    ///
    /// # Blocks
    /// As [`Authority::register`].
    ///
    /// # Errors
    /// [`Error::InvalidClient`] for an unknown client; [`Error::InvalidClientMetadata`] for an
    /// unusable draft; [`Error::TemporarilyUnavailable`] when the store cannot.
    pub fn update_client(&self, client: Client) -> Ticket<Registered, Error> {
        let id = ClientId::new(&client.id).ok();
        let updated = ticket(self.inner.update(client));
        self.inner.audited(Action::Update, || Asker { client: id, address: None }, updated)
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
    /// [`Error::TemporarilyUnavailable`] when the store cannot; call again then. Where the store is
    /// only not durable any more ([`StoreError::NotDurable`]), the client is refused until the
    /// process ends.
    pub fn remove_client(&self, client_id: &ClientId) -> Ticket<(), Error> {
        let removed = self.inner.remove_client(client_id);
        self.inner.audited(Action::Remove, || Asker::client(client_id), removed)
    }
}

impl<S: Store> Inner<S> {
    fn remove_client(self: &Arc<Self>, client_id: &ClientId) -> Ticket<(), Error> {
        let inner = self;
        let _changes = inner.clients.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.clients.get(client_id).is_some() {
            return inner.end_client(client_id);
        }
        // Refused already, though its end may still be on its way, or the store could not do it.
        let name = Arc::from(client_id.as_str());
        let found = inner.store.list(Listing::Document(documents::CLIENT, name), None, 1);
        let found = match at_once(Ticket::slow(found)) {
            Ok(found) => found,
            Err(error) => return Ticket::ready(Err(error.into())),
        };
        match found.decided() {
            Some(Ok(page)) if page.documents.is_empty() => Ticket::ready(Ok(())),
            Some(_) => inner.end_client(client_id),
            None => {
                let (inner, id) = (Arc::clone(inner), client_id.clone());
                Ticket::slow(async move {
                    match found.await?.documents.is_empty() {
                        true => Ok(()),
                        false => inner.end_client_alone(&id).await,
                    }
                })
            }
        }
    }

    fn end_client_alone(&self, id: &ClientId) -> Ticket<(), Error> {
        let _changes = self.clients.changes.lock().unwrap_or_else(PoisonError::into_inner);
        self.end_client(id)
    }

    /// Ends a client and all that it holds. Call it with the lock of changes held.
    fn end_client(&self, id: &ClientId) -> Ticket<(), Error> {
        // Refused first, revoked next: whoever authenticated before has an admission below the
        // revocation's number.
        let held = self.clients.remove(id);
        let target = Target::Client(id.clone());
        let revoke = Verb::Revoke(Revoke { target, now: self.clock.read() });
        let revoked = match at_once(self.store.apply(revoke)) {
            // In effect until the process ends.
            Err(error @ (StoreError::NotDurable | StoreError::Unknown(_))) => Err(error),
            // Its name must not be free while its tokens are alive.
            Err(error) => {
                held.into_iter().for_each(|client| self.clients.insert(client));
                return Ticket::ready(Err(error.into()));
            }
            Ok(revoked) => Ok(revoked),
        };
        self.tell(|| AuditEvent::of(Action::Remove).client(id));
        let removed = self.store.apply(Verb::Put(Put {
            kind: documents::CLIENT,
            name: Arc::from(id.as_str()),
            body: None,
            create: false,
            ends: true,
        }));
        Ticket::slow(async move {
            revoked?.await?;
            removed.await?;
            Ok(())
        })
    }

    pub(super) fn register(
        self: &Arc<Self>,
        client: Client,
        management: Option<KeptSecret>,
    ) -> Result<Ticket<Registered, Error>, Error> {
        let Checked { id, settings, secret: chosen } = client.check()?;
        let (secrets, generated) = self.first_secret(&id, &settings, chosen.as_ref())?;
        let registered_at = self.clock.read().unix;
        let registered = RegisteredClient {
            id,
            settings,
            secrets,
            initial_access: None,
            management,
            registered_at,
        };
        let put = document_of(&registered, true)?;
        let _changes = self.clients.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = Arc::clone(self);
        Ok(self.store.apply(Verb::Put(put)).and_then(move |outcome| match outcome? {
            Outcome::Put(true) => {
                let client_id = registered.id.clone();
                inner.tell(|| AuditEvent::of(Action::Register).client(&client_id));
                // Known before it is durable: whatever is born under it comes later in the log.
                inner.clients.insert(Arc::new(registered));
                Ok(Registered { client_id, client_secret: generated })
            }
            _ => Err(Error::InvalidClientMetadata(Reason::new("the client_id is taken"))),
        }))
    }

    /// What is kept of a client's first secret, where it goes by one, and that secret if it was drawn.
    fn first_secret(
        &self,
        id: &ClientId,
        settings: &Settings,
        chosen: Option<&SecretText>,
    ) -> Result<(Vec<KeptSecret>, Option<SecretText>), Error> {
        let keeping = self.keeping(id, settings);
        if let Some(secret) = chosen {
            let _place = self.slow_room.register()?;
            return Ok((vec![KeptSecret::chosen(&keeping, secret)?], None));
        }
        if !settings.has_secret() {
            return Ok((Vec::new(), None));
        }
        let secret = self.draw_secret()?;
        Ok((vec![KeptSecret::generated(&keeping, &secret)?], Some(secret)))
    }

    pub(super) fn update(
        self: &Arc<Self>,
        draft: Client,
    ) -> Result<Ticket<Registered, Error>, Error> {
        let Checked { id, settings, secret: chosen } = draft.check()?;
        let keeps = |held: &RegisteredClient| {
            let signs = settings.signs_with_secret();
            let usable = |kept: &KeptSecret| !signs || kept.hmac().is_some();
            chosen.is_none()
                && settings.has_secret()
                && !held.secrets.is_empty()
                && held.secrets.iter().all(usable)
        };
        // Drawn and hashed before the change is decided, which nobody should wait for.
        let unknown = || Error::InvalidClient(Reason::new("unknown client"));
        let fresh = match keeps(&*self.clients.get(&id).ok_or_else(unknown)?) {
            true => None,
            false => Some(self.first_secret(&id, &settings, chosen.as_ref())?),
        };
        self.try_change(&id.clone(), Change::Gives, Action::Update, |client| {
            let (blocked, parent) = (client.settings.blocked, client.settings.parent.take());
            client.settings = Settings { blocked, parent, ..settings };
            let mut client_secret = None;
            match fresh {
                Some((secrets, generated)) => {
                    client.secrets = secrets;
                    client_secret = generated;
                }
                // Another change came in between.
                None if client.secrets.is_empty() => return Err(StoreError::Busy.into()),
                None => {}
            }
            Ok(Registered { client_id: id, client_secret })
        })
    }

    /// Changes a registered client, and tells of it.
    pub(super) fn change_client<T: Send + 'static>(
        self: &Arc<Self>,
        id: &ClientId,
        kind: Change,
        action: Action,
        change: impl FnOnce(&mut RegisteredClient) -> Result<T, Error>,
    ) -> Ticket<T, Error> {
        let changed = ticket(self.try_change(id, kind, action, change));
        self.audited(action, || Asker::client(id), changed)
    }

    /// The store and what is known here see changes in one order.
    fn try_change<T: Send + 'static>(
        self: &Arc<Self>,
        id: &ClientId,
        kind: Change,
        action: Action,
        change: impl FnOnce(&mut RegisteredClient) -> Result<T, Error>,
    ) -> Result<Ticket<T, Error>, Error> {
        let _changes = self.clients.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.clients.get(id);
        let held = held.ok_or_else(|| Error::InvalidClient(Reason::new("unknown client")))?;
        let mut client = RegisteredClient::clone(&held);
        let answer = change(&mut client)?;
        let ends = kind == Change::Ends;
        let put = Put { ends, ..document_of(&client, false)? };
        let (inner, client) = (Arc::clone(self), Arc::new(client));
        Ok(self.store.apply(Verb::Put(put)).and_then(move |outcome| match outcome {
            Ok(Outcome::Put(true)) => {
                inner.tell(|| AuditEvent::of(action).client(&client.id));
                inner.clients.insert(client);
                Ok(answer)
            }
            Err(error) => {
                if ends && matches!(error, StoreError::NotDurable) {
                    inner.clients.insert(client);
                }
                Err(error.into())
            }
            _ => Err(Error::ServerError(Reason::new("the client was not written"))),
        }))
    }

    /// A fresh client secret of 256 random bits, without a character that forms encode.
    pub(super) fn draw_secret(&self) -> Result<SecretText, Error> {
        let drawn = zeroize::Zeroizing::new(random::<32>(&*self.entropy)?);
        let text = URL_SAFE_NO_PAD.encode_to_string(drawn.as_slice());
        Ok(SecretText::new(format!("{SECRET_PREFIX}{text}")))
    }

    /// What a secret of a client is kept under.
    pub(super) fn keeping<'a>(&'a self, client: &'a ClientId, settings: &Settings) -> Keeping<'a> {
        Keeping {
            derive: &self.derive,
            root: &self.root,
            entropy: &*self.entropy,
            key_version: self.handles.current_version(),
            client,
            signs: settings.signs_with_secret(),
        }
    }
}

fn decoy(key_version: u8) -> Result<RegisteredClient, OpenError> {
    let unusable = |_| OpenError::Document { what: "decoy" };
    let Checked { id, settings, .. } = Client::confidential("decoy").check().map_err(unusable)?;
    let form = SecretForm::Digest(SecretBytes::new([0; 32]));
    let secrets = vec![KeptSecret::read(key_version, form, None, None)];
    let registered_at = Timestamp(0);
    let (initial_access, management) = (None, None);
    Ok(RegisteredClient { id, settings, secrets, initial_access, management, registered_at })
}

fn document_of(client: &RegisteredClient, create: bool) -> Result<Put, Error> {
    let body = to_document(client)
        .ok_or_else(|| Error::ServerError(Reason::new("the client has no document")))?;
    if body.len() > documents::BODY_LEN_MAX {
        return Err(Error::InvalidClientMetadata(Reason::new("the client is too large")));
    }
    Ok(Put {
        kind: documents::CLIENT,
        name: Arc::from(client.id.as_str()),
        body: Some(Arc::from(body)),
        create,
        ends: false,
    })
}
