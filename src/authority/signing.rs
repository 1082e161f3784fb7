//! Signing keys: sealed in the store, opened once, one of them active.
//!
//! The key of the highest rank signs; the others verify what they signed before. So rotating is one
//! document, and a crash leaves the old key active or the new one.
//!
//! ```text
//! document  format 1 | rank 8 | private bytes, sealed under the label "signing key <rank> <kid>"
//! ```

use std::sync::Arc;

use super::audit::{Action, Asker, AuditEvent};
use super::error::{Error, OpenError, Reason};
use super::headless::Uvid;
use super::lookup::ticket;
use super::mint::Terms;
use super::templates::Templates;
use super::{Authority, Inner, documents};
use super::{birth, confirmation, exchange};
use crate::codec::algorithm::Algorithm;
use crate::codec::claims::{
    AccessClaims, ClaimsWriter, ExtraClaims, IdClaims, SalesforceClaims, TokenClaims,
};
use crate::codec::jws::SignError;
use crate::codec::keyring::{Keyring, KeyringError};
use crate::codec::keys::{KeyError, SigningKey};
use crate::entropy::{Entropy, EntropyError};
use crate::root_key::RootKey;
use crate::secret::SecretText;
use crate::store::{Listing, Outcome, Put, Store, Ticket, Verb};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, PoisonError, RwLock};

/// The algorithm of the key that a new store gets. Ed25519 signs the same payload to the same
/// bytes, so that a retried refresh gives the whole JWT again; its tokens are also the shortest of
/// the algorithms with a public key.
const FIRST_ALGORITHM: Algorithm = Algorithm::EdDsa;

const FORMAT: u8 = 1;

/// Numbers key sets, so that a verifier sees without a lock whether its own is still the newest.
static NEXT_SET: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);

/// The keys at one moment. A change makes another set.
pub(super) struct KeySet {
    id: u64,
    ring: Keyring,
    /// Rank of the active key.
    rank: u64,
    /// Of the active key.
    templates: Templates,
}

impl KeySet {
    fn new(ring: Keyring, rank: u64) -> KeySet {
        let id = NEXT_SET.fetch_add(1, Ordering::Relaxed);
        KeySet { id, ring, rank, templates: Templates::new() }
    }

    /// Different for every set of the process.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn ring(&self) -> &Keyring {
        &self.ring
    }

    /// The JWT of these terms. A retry, too, is signed by the active key: the one that signed first
    /// may have been retired since.
    pub(super) fn sign(
        &self,
        issuer: &str,
        terms: &Terms,
        jti: &str,
        birth: &Birthmark,
    ) -> Result<SecretText, Error> {
        let signed = match &birth.fingerprint {
            None => with_claims(issuer, terms, jti, birth, |claims| {
                let template = self.templates.of(self.ring.active(), claims)?;
                let mut out = vec![0; template.token_len(claims)?];
                template.sign_into(claims, &mut out).map(SecretText::new)
            }),
            Some(fingerprint) => with_claims(issuer, terms, jti, birth, |claims| {
                self.sign_claims(&SalesforceClaims { claims: *claims, fingerprint })
            }),
        };
        signed.map_err(unsigned)
    }

    fn sign_claims<C: TokenClaims>(&self, claims: &C) -> Result<SecretText, SignError> {
        let key = self.ring.active();
        let mut out = vec![0; key.token_len(claims)?];
        key.sign_into(claims, &mut out).map(SecretText::new)
    }

    /// As [`KeySet::sign`], with a key that may be elsewhere.
    pub(super) fn sign_async(
        &self,
        issuer: &str,
        terms: &Terms,
        jti: &str,
        birth: &Birthmark,
    ) -> impl Future<Output = Result<SecretText, Error>> + Send + use<> {
        let key = self.ring.active();
        let signing = with_claims(issuer, terms, jti, birth, |claims| match &birth.fingerprint {
            None => key.sign_async(claims),
            Some(fingerprint) => key.sign_async(&SalesforceClaims { claims: *claims, fingerprint }),
        });
        async move { signing.await.map(SecretText::new).map_err(unsigned) }
    }

    /// The ID token with these claims.
    pub(super) fn sign_id(&self, claims: &IdClaims<'_>) -> Result<SecretText, Error> {
        self.sign_claims(claims).map_err(unsigned)
    }

    /// Whether a signature of the active key must be waited for.
    pub(super) fn is_remote(&self) -> bool {
        self.ring.active().is_remote()
    }
}

fn with_claims<T>(
    issuer: &str,
    terms: &Terms,
    jti: &str,
    birth: &Birthmark,
    then: impl FnOnce(&AccessClaims<'_>) -> T,
) -> T {
    let prefixed = birth.fingerprint.as_ref().filter(|_| Uvid::of_guest(&terms.subject).is_none());
    let prefixed = prefixed.map(|_| format!("uid:{}", terms.subject.as_str()));
    let sender = terms.sender.map(|sender| (sender.name(), sender.value()));
    let audience: Vec<&str> = terms.audience.split(' ').collect();
    let actors: Vec<&str> = terms.actors.subjects().collect();
    then(&AccessClaims {
        issuer,
        subject: prefixed.as_deref().unwrap_or(terms.subject.as_str()),
        audience: &audience,
        client_id: terms.client.as_str(),
        scope: terms.scope.as_str(),
        issued_at: terms.issued_at,
        not_before: None,
        expires_at: terms.expires_at,
        jti,
        extra: &OwnClaims { birth: &birth.claim, sender: sender.as_ref(), actors: &actors },
    })
}

pub(super) fn unsigned(error: SignError) -> Error {
    Error::ServerError(Reason::with("the token could not be signed", error))
}

/// Where a JWT hangs, as it says itself.
pub(super) struct Birthmark {
    /// The claim of its birth, as text.
    pub(super) claim: String,
    /// `sfi` of a token in Salesforce's form.
    pub(super) fingerprint: Option<String>,
}

struct OwnClaims<'a> {
    birth: &'a str,
    sender: Option<&'a (&'static str, String)>,
    actors: &'a [&'a str],
}

impl ExtraClaims for OwnClaims<'_> {
    fn write<'c>(&'c self, claims: &mut ClaimsWriter<'c>) -> Result<(), SignError> {
        claims.str(birth::CLAIM, self.birth)?;
        if let Some((name, value)) = self.sender {
            claims.object(confirmation::CLAIM, [(*name, &**value)])?;
        }
        match self.actors {
            [] => Ok(()),
            actors => claims.actors(exchange::CLAIM, actors),
        }
    }
}

/// The signing keys of an authority.
pub(super) struct SigningKeys {
    current: RwLock<Arc<KeySet>>,
    /// [`KeySet::id`] of the current set.
    newest: AtomicU64,
    /// Held while a change is decided by the store and made here.
    changes: Mutex<()>,
}

impl SigningKeys {
    /// Opens every key of `store`, and draws the first one for a store that has none. `remote` are
    /// the keys that the host has a signer for.
    pub(super) fn load<S: Store>(
        store: &S,
        root: &RootKey,
        entropy: &dyn Entropy,
        remote: Vec<SigningKey>,
    ) -> Result<SigningKeys, OpenError> {
        let mut keys = Vec::new();
        for document in documents::all(store, documents::SIGNING_KEY)? {
            let (rank, sealed) = split(&document.body).ok_or(UNREADABLE)?;
            let kid = &*document.name;
            let bytes = root
                .unseal(&label(rank, kid), sealed)
                .ok_or(OpenError::WrongKey { what: "a signing key" })?;
            let key = SigningKey::from_private_bytes(&bytes).map_err(key_error)?;
            if sealed.first() != Some(&root.current()) {
                // A root key version can be retired only when nothing is sealed under it.
                apply(store, put(root, entropy, &key, rank, false)?)?;
            }
            keys.push((rank, key));
        }
        let mut remote = remote.into_iter();
        if keys.is_empty() {
            let first = remote.next();
            if let Some(other) = remote.next() {
                return Err(OpenError::UnknownRemoteKey { kid: other.kid().into() });
            }
            let key = match first {
                Some(key) => key,
                None => SigningKey::generate(FIRST_ALGORITHM, None, entropy).map_err(key_error)?,
            };
            apply(store, put(root, entropy, &key, 1, true)?)?;
            keys.push((1, key));
        }
        keys.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
        let remote: Vec<SigningKey> = remote.collect();
        let is_given =
            |key: &SigningKey, given: &SigningKey| key.public_jwk() == given.public_jwk();
        let unknown = remote.iter().find(|given| !keys.iter().any(|(_, key)| is_given(key, given)));
        let unknown = unknown.map(|key| OpenError::UnknownRemoteKey { kid: key.kid().into() });
        let mut keys = keys.into_iter();
        let (rank, active) = keys.next().ok_or(UNREADABLE)?;
        let active = match active.is_without_signer() {
            true => remote
                .into_iter()
                .find(|given| is_given(&active, given))
                .ok_or_else(|| OpenError::NoSigner { kid: active.kid().into() })?,
            false => active,
        };
        if let Some(unknown) = unknown {
            return Err(unknown);
        }
        let mut ring = Keyring::new(active);
        for (_, key) in keys {
            ring = ring.with_retired(key.verifying_key()).map_err(|_| UNREADABLE)?;
        }
        let set = KeySet::new(ring, rank);
        let newest = AtomicU64::new(set.id);
        Ok(SigningKeys { current: RwLock::new(Arc::new(set)), newest, changes: Mutex::new(()) })
    }

    pub(super) fn current(&self) -> Arc<KeySet> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a set with that id is still the current one.
    pub(super) fn is_current(&self, id: u64) -> bool {
        self.newest.load(Ordering::Acquire) == id
    }

    fn replace(&self, set: KeySet) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        self.newest.store(set.id, Ordering::Release);
        *current = Arc::new(set);
    }
}

/// The signing keys of an [`Authority`].
#[must_use]
pub struct Keys<'a, S: Store> {
    inner: &'a Arc<Inner<S>>,
}

impl<S: Store> Authority<S> {
    /// The signing keys. A new store has one Ed25519 key.
    pub fn keys(&self) -> Keys<'_, S> {
        Keys { inner: &self.inner }
    }
}

impl<S: Store> Keys<'_, S> {
    /// Makes `key` the one that signs. The one before it is retired: it verifies what it signed.
    ///
    /// # Durability
    /// The key is stored sealed under the root key; the ticket resolves when it is on stable
    /// storage. Of a remote key ([`SigningKey::remote`]) the public half is stored: while it is the
    /// one that signs, [`Builder::remote_key`](super::Builder::remote_key) brings its signer to every
    /// open.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] when there is a key of that `kid`, or too many keys;
    /// [`Error::TemporarilyUnavailable`].
    pub fn import(&self, key: SigningKey) -> Ticket<(), Error> {
        let kid = key.kid().to_owned();
        self.inner.told_of_key(Action::AddKey, kid, ticket(self.inner.add_key(key)))
    }

    /// Draws a fresh key and makes it the one that signs; the ticket gives its `kid`.
    ///
    /// # Durability
    /// As [`Keys::import`].
    ///
    /// # Errors
    /// As [`Keys::import`]; [`Error::InvalidRequest`] also for RSA, whose keys are imported alone.
    pub fn generate(&self, algorithm: Algorithm) -> Ticket<String, Error> {
        let key = match SigningKey::generate(algorithm, None, &*self.inner.entropy) {
            Ok(key) => key,
            Err(error) => return Ticket::ready(Err(bad_key(error))),
        };
        let kid = key.kid().to_owned();
        self.import(key).and_then(move |added| added.map(|()| kid))
    }

    /// Takes a retired key out: whatever it signed is refused from now on.
    ///
    /// # Durability
    /// The ticket resolves when it is on stable storage; it is in effect before that.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for an unknown `kid` and for the key that signs;
    /// [`Error::TemporarilyUnavailable`].
    pub fn retire(&self, kid: &str) -> Ticket<(), Error> {
        let retired = ticket(self.inner.drop_key(kid));
        self.inner.told_of_key(Action::RetireKey, kid.to_owned(), retired)
    }

    /// Makes `key` the one that signs and takes all others out: every JWT that was signed so far is
    /// refused from then on, ID tokens too. Opaque tokens and refresh tokens live on.
    ///
    /// # Durability
    /// The ticket resolves when all of it is on stable storage. JWTs die once `key` is; dropping the
    /// ticket, or a crash, may leave some of the others in: call it again.
    ///
    /// # Errors
    /// As [`Keys::import`].
    pub fn replace_all(&self, key: SigningKey) -> Ticket<(), Error> {
        let (inner, kid) = (Arc::clone(self.inner), key.kid().to_owned());
        let added = self.import(key);
        Ticket::slow(async move {
            added.await?;
            let set = inner.keys.current();
            let old: Vec<String> = set.ring.keys().map(|key| key.kid().to_owned()).collect();
            // All are refused before anybody waits for a disk.
            let dropped: Vec<Ticket<(), Error>> = old
                .iter()
                .filter(|old| **old != kid)
                .map(|old| ticket(inner.drop_key(old)))
                .collect();
            for dropped in dropped {
                dropped.await?;
            }
            Ok(())
        })
    }

    /// The `kid` of the key that signs.
    #[must_use]
    pub fn active_kid(&self) -> String {
        self.inner.keys.current().ring.active().kid().to_owned()
    }

    /// The algorithm of the key that signs.
    #[must_use]
    pub fn active_algorithm(&self) -> Algorithm {
        self.inner.keys.current().ring.active().algorithm()
    }

    /// The public keys as a JWK Set (RFC 7517 section 5), retired ones included.
    #[must_use]
    pub fn jwks(&self) -> String {
        self.inner.keys.current().ring.jwks()
    }
}

impl<S: Store> Inner<S> {
    fn told_of_key(
        self: &Arc<Self>,
        action: Action,
        kid: String,
        changed: Ticket<(), Error>,
    ) -> Ticket<(), Error> {
        let inner = Arc::clone(self);
        let changed = changed.and_then(move |changed| {
            if changed.is_ok() {
                inner.tell(|| AuditEvent { kid: Some(&kid), ..AuditEvent::of(action) });
            }
            changed
        });
        self.audited(action, Asker::default, changed)
    }

    fn add_key(self: &Arc<Self>, key: SigningKey) -> Result<Ticket<(), Error>, Error> {
        let _changes = self.keys.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let set = self.keys.current();
        let rank = set.rank.saturating_add(1);
        let put = put(&self.root, &*self.entropy, &key, rank, true)?;
        if put.body.as_ref().is_some_and(|body| body.len() > documents::BODY_LEN_MAX) {
            return Err(Error::InvalidRequest(Reason::new("the key is too large")));
        }
        let ring = set.ring.with_active(key).map_err(bad_ring)?;
        let inner = Arc::clone(self);
        Ok(self.store.apply(Verb::Put(put)).and_then(move |outcome| match outcome? {
            Outcome::Put(true) => {
                inner.keys.replace(KeySet::new(ring, rank));
                Ok(())
            }
            _ => Err(Error::InvalidRequest(Reason::new("there is a key of that kid"))),
        }))
    }

    fn drop_key(self: &Arc<Self>, kid: &str) -> Result<Ticket<(), Error>, Error> {
        let _changes = self.keys.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let set = self.keys.current();
        match set.ring.without(kid) {
            // Refused first, forgotten next.
            Ok(ring) => self.keys.replace(KeySet::new(ring, set.rank)),
            Err(KeyringError::UnknownKid) => return Ok(self.drop_document(kid)),
            Err(error) => return Err(bad_ring(error)),
        }
        Ok(self.store.apply(Verb::Put(removal(kid))).and_then(|outcome| Ok(outcome.map(|_| ())?)))
    }

    /// A key that is refused already, though the store could not forget it when it was told to.
    fn drop_document(self: &Arc<Self>, kid: &str) -> Ticket<(), Error> {
        let name = Arc::from(kid);
        let found = self.store.list(Listing::Document(documents::SIGNING_KEY, name), None, 1);
        let (inner, put) = (Arc::clone(self), removal(kid));
        Ticket::slow(async move {
            if found.await?.documents.is_empty() {
                return Err(bad_ring(KeyringError::UnknownKid));
            }
            inner.store.apply(Verb::Put(put)).await?;
            Ok(())
        })
    }
}

fn removal(kid: &str) -> Put {
    let name = Arc::from(kid);
    Put { kind: documents::SIGNING_KEY, name, body: None, create: false, ends: true }
}

const UNREADABLE: OpenError = OpenError::Document { what: "signing key" };

fn key_error(error: KeyError) -> OpenError {
    OpenError::Key(Arc::new(error))
}

fn bad_key(error: KeyError) -> Error {
    Error::InvalidRequest(Reason::with("no such key can be made", error))
}

fn bad_ring(error: KeyringError) -> Error {
    Error::InvalidRequest(Reason::with("the keys cannot be changed so", error))
}

fn label(rank: u64, kid: &str) -> String {
    format!("signing key {rank} {kid}")
}

fn split(body: &[u8]) -> Option<(u64, &[u8])> {
    let (rank, sealed) = body.strip_prefix(&[FORMAT])?.split_first_chunk()?;
    Some((u64::from_be_bytes(*rank), sealed))
}

fn put(
    root: &RootKey,
    entropy: &dyn Entropy,
    key: &SigningKey,
    rank: u64,
    create: bool,
) -> Result<Put, EntropyError> {
    let mut body = vec![FORMAT];
    body.extend_from_slice(&rank.to_be_bytes());
    body.extend(root.seal(&label(rank, key.kid()), &key.to_private_bytes(), entropy)?);
    Ok(Put {
        kind: documents::SIGNING_KEY,
        name: Arc::from(key.kid()),
        body: Some(Arc::from(body)),
        create,
        ends: false,
    })
}

/// Opening waits for its own writes.
fn apply<S: Store>(store: &S, put: Put) -> Result<(), OpenError> {
    store.apply(Verb::Put(put)).wait()?;
    Ok(())
}
