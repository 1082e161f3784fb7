//! Dynamic registration (RFC 7591, RFC 7592): a client registers others with the token that it was
//! given for it, and each of those manages itself.
//!
//! What is registered so is a *child* of the client whose token was used: its id is drawn, its
//! scopes, audiences and grant types are within the parent's, and its policies are the parent's.

use std::sync::Arc;

use base64_simd::URL_SAFE_NO_PAD;

use super::audit::{Action, Asker};
use super::client::{Client, RegisteredClient};
use super::client_auth::KeptSecret;
use super::client_metadata::{Metadata, Told};
use super::client_settings::Settings;
use super::clients::Change;
use super::error::{Cause, Error, Reason};
use super::lookup::ticket;
use super::{Authority, Inner};
use crate::entropy::random;
use crate::ids::ClientId;
use crate::secret::SecretText;
use crate::store::{Store, Ticket};

/// The most clients that one client registers.
pub const CHILDREN_MAX: usize = 1_000;

/// Prefixes of the tokens, for secret scanners.
const INITIAL_PREFIX: &str = "mit_";
const MANAGEMENT_PREFIX: &str = "mgt_";
const CHILD_PREFIX: &str = "mci_";
/// Characters of 32 random bytes.
const SECRET_LEN: usize = 43;

/// A registered client as it is told of itself. `Debug` shows no secret.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Registration {
    /// Its identifier.
    pub client_id: ClientId,
    /// Its secret, where one was generated now.
    pub client_secret: Option<SecretText>,
    /// With it the client reads, changes and ends its registration (RFC 7592); shown when it is
    /// registered.
    pub registration_access_token: Option<SecretText>,
    json: SecretText,
}

impl Registration {
    /// The body of the response (RFC 7591 section 3.2.1): status 201 where it is new, 200 else, with
    /// `Cache-Control: no-store`.
    #[must_use]
    pub fn to_json(&self) -> &SecretText {
        &self.json
    }
}

impl<S: Store> Authority<S> {
    /// Draws the token with which a client registers others (RFC 7591 section 3), shown this once.
    /// It has one at a time: the one before opens no more.
    ///
    /// # Durability
    /// The ticket resolves when the token is on stable storage.
    ///
    /// # Errors
    /// [`Error::InvalidClient`] for an unknown client; [`Error::TemporarilyUnavailable`].
    ///
    /// # Examples
    /// ```
    /// use mintage::authority::{Authority, Client, GrantType};
    /// # use mintage::root_key::RootKey;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let root = RootKey::from_bytes(1, [7; 32]);
    /// # let authority = Authority::builder("https://login.example.com").in_memory(root)?;
    /// let gateway = Client::confidential("gateway")
    ///     .grants([GrantType::AuthorizationCode, GrantType::RefreshToken])
    ///     .scopes(["api", "refresh_token"]);
    /// let gateway = authority.register(gateway).wait()?.client_id;
    /// let token = authority.renew_initial_access_token(&gateway).wait()?;
    ///
    /// // POST /register, Authorization: Bearer <token>
    /// let metadata = r#"{"redirect_uris": ["https://app.example/cb"], "scope": "api"}"#;
    /// let app = authority.register_dynamic(metadata, token.expose()).wait()?;
    /// assert!(app.to_json().expose().contains(app.client_id.as_str()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn renew_initial_access_token(&self, client_id: &ClientId) -> Ticket<SecretText, Error> {
        let inner = &self.inner;
        inner.change_client(client_id, Change::Ends, Action::Update, |client| {
            let (token, kept) = inner.draw_token(INITIAL_PREFIX, &client.id)?;
            client.initial_access = Some(kept);
            Ok(token)
        })
    }

    /// From now on a client registers no others. Those that it has registered stay.
    ///
    /// # Durability
    /// In effect when this returns; the ticket resolves when that is on stable storage.
    ///
    /// # Errors
    /// As [`Authority::renew_initial_access_token`].
    pub fn drop_initial_access_token(&self, client_id: &ClientId) -> Ticket<(), Error> {
        self.inner.change_client(client_id, Change::Ends, Action::Update, |client| {
            client.initial_access = None;
            Ok(())
        })
    }

    /// Registers the client of a metadata document for whoever holds an initial access token. Its id
    /// is drawn; `client_id` in the document is left out. Without `scope` it may ask for all that its
    /// parent may. Surplus members are left out, and so is a `software_statement`.
    ///
    /// # Durability
    /// The ticket resolves when the client is on stable storage.
    ///
    /// # Errors
    /// [`Error::InvalidToken`] for a token that does not open; [`Error::InvalidRedirectUri`] and
    /// [`Error::InvalidClientMetadata`] for an unusable document, and for more than the parent may;
    /// [`Error::AccessDenied`] when the parent has [`CHILDREN_MAX`] children;
    /// [`Error::TemporarilyUnavailable`].
    pub fn register_dynamic(
        &self,
        json: &str,
        initial_access_token: &str,
    ) -> Ticket<Registration, Error> {
        let registered = ticket(self.inner.register_child(json, initial_access_token));
        self.inner.audited(Action::Register, Asker::default, registered)
    }

    /// What is registered for the client that holds a registration access token (RFC 7592 section
    /// 2.1).
    ///
    /// # Errors
    /// [`Error::InvalidToken`].
    pub fn registration(&self, registration_access_token: &str) -> Result<Registration, Error> {
        let managed = self.inner.managed(registration_access_token);
        if let Err(error) = &managed {
            self.inner.tell_refusal(Action::Inspect, &Asker::default(), error);
        }
        managed.map(|client| self.inner.told(&client, None, None))
    }

    /// Registers a managed client anew: the document replaces what was registered (RFC 7592 section
    /// 2.2). It names its own `client_id`, and may not exceed its parent. Its tokens live on, its
    /// secret stays unless it needs another.
    ///
    /// # Durability
    /// The ticket resolves when the change is on stable storage.
    ///
    /// # Errors
    /// [`Error::InvalidToken`], and as [`Authority::register_dynamic`].
    pub fn update_registration(
        &self,
        json: &str,
        registration_access_token: &str,
    ) -> Ticket<Registration, Error> {
        let updated = ticket(self.inner.update_child(json, registration_access_token));
        self.inner.audited(Action::Update, Asker::default, updated)
    }

    /// Removes a managed client with all that it holds (RFC 7592 section 2.3).
    ///
    /// # Durability
    /// As [`Authority::remove_client`].
    ///
    /// # Errors
    /// [`Error::InvalidToken`], [`Error::TemporarilyUnavailable`].
    pub fn end_registration(&self, registration_access_token: &str) -> Ticket<(), Error> {
        match self.inner.managed(registration_access_token) {
            Ok(client) => self.remove_client(client.client_id()),
            Err(error) => {
                self.inner.audited(Action::Remove, Asker::default, Ticket::ready(Err(error)))
            }
        }
    }
}

impl<S: Store> Inner<S> {
    fn register_child(
        self: &Arc<Self>,
        json: &str,
        token: &str,
    ) -> Result<Ticket<Registration, Error>, Error> {
        let parent = self.holder(token, INITIAL_PREFIX, |client| client.initial_access.as_ref())?;
        if self.clients.children_of(&parent.id) >= CHILDREN_MAX {
            let reason = Reason::new("the client has registered too many");
            return Err(Error::AccessDenied(reason.because(Cause::RegistrationLimit)));
        }
        let drawn = URL_SAFE_NO_PAD.encode_to_string(random::<16>(&*self.entropy)?);
        let draft = child(&parent, format!("{CHILD_PREFIX}{drawn}"), Metadata::read(json)?)?;
        let id = ClientId::new(&draft.id)
            .map_err(|error| Error::ServerError(Reason::with("client_id", error)))?;
        let (management, kept) = self.draw_token(MANAGEMENT_PREFIX, &id)?;
        let inner = Arc::clone(self);
        let registered = self.register(draft, Some(kept))?;
        Ok(registered.and_then(move |registered| {
            let secret = registered?.client_secret;
            let client = inner.clients.get(&id);
            let client =
                client.ok_or_else(|| Error::ServerError(Reason::new("the client is gone")))?;
            Ok(inner.told(&client, secret, Some(management)))
        }))
    }

    fn update_child(
        self: &Arc<Self>,
        json: &str,
        token: &str,
    ) -> Result<Ticket<Registration, Error>, Error> {
        let held = self.managed(token)?;
        let metadata = Metadata::read(json)?;
        // RFC 7592 section 2.2: it "MUST include all the client metadata fields", the client_id
        // among them.
        if metadata.client_id.as_deref() != Some(held.id.as_str()) {
            return Err(Error::InvalidClientMetadata(Reason::new("not its own client_id")));
        }
        let parent = held.parent().and_then(|parent| self.clients.get(parent));
        let parent = parent.unwrap_or_else(|| Arc::clone(&held));
        let draft = child(&parent, held.id.as_str().to_owned(), metadata)?;
        let (inner, id) = (Arc::clone(self), held.id.clone());
        Ok(self.update(draft)?.and_then(move |updated| {
            let secret = updated?.client_secret;
            let client = inner.clients.get(&id);
            let client =
                client.ok_or_else(|| Error::ServerError(Reason::new("the client is gone")))?;
            Ok(inner.told(&client, secret, None))
        }))
    }

    fn managed(&self, token: &str) -> Result<Arc<RegisteredClient>, Error> {
        self.holder(token, MANAGEMENT_PREFIX, |client| client.management.as_ref())
    }

    /// The client whose token this is. For an unknown one a decoy is asked.
    fn holder(
        &self,
        token: &str,
        prefix: &str,
        kept: impl Fn(&RegisteredClient) -> Option<&KeptSecret>,
    ) -> Result<Arc<RegisteredClient>, Error> {
        let refuse = |why| Error::InvalidToken(Reason::new(why));
        let id = named_client(token, prefix).ok_or_else(|| refuse("no such token"))?;
        let known = self.clients.get(&id);
        let client = known.clone().unwrap_or_else(|| self.clients.decoy());
        let held = kept(&client);
        let decoy = self.clients.decoy();
        let judged = held.or_else(|| decoy.secrets.first());
        let opens = judged.is_some_and(|kept| self.is_token(kept, &id, token)) && held.is_some();
        match known.filter(|client| opens && !client.is_blocked()) {
            Some(client) => Ok(client),
            None => Err(refuse("the token does not open")),
        }
    }

    fn told(
        &self,
        client: &RegisteredClient,
        client_secret: Option<SecretText>,
        registration_access_token: Option<SecretText>,
    ) -> Registration {
        let uri = self
            .registration_uri
            .as_deref()
            .map(|base| format!("{base}/{}", URL_SAFE_NO_PAD.encode_to_string(client.id.as_str())));
        let json = client.to_metadata(&Told {
            secret: client_secret.as_ref(),
            management: registration_access_token.as_ref(),
            uri: uri.as_deref(),
            profile: self.profile,
        });
        let client_id = client.id.clone();
        Registration { client_id, client_secret, registration_access_token, json }
    }

    /// A token of a client: prefix, 256 random bits, and which client it is of.
    fn draw_token(
        &self,
        prefix: &str,
        client: &ClientId,
    ) -> Result<(SecretText, KeptSecret), Error> {
        let drawn = zeroize::Zeroizing::new(random::<32>(&*self.entropy)?);
        let secret = zeroize::Zeroizing::new(URL_SAFE_NO_PAD.encode_to_string(drawn.as_slice()));
        let named = URL_SAFE_NO_PAD.encode_to_string(client.as_str());
        let token = SecretText::new(format!("{prefix}{}{named}", *secret));
        let keeping = self.keeping(client, &Settings::confidential());
        let kept = KeptSecret::generated(&keeping, &token)?;
        Ok((token, kept))
    }
}

/// The client that a token says it is of.
fn named_client(token: &str, prefix: &str) -> Option<ClientId> {
    let named = token.strip_prefix(prefix)?.get(SECRET_LEN..)?;
    if named.len() > crate::ids::IDENTIFIER_LEN_MAX * 2 {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode_to_vec(named).ok()?;
    ClientId::new(std::str::from_utf8(&bytes).ok()?).ok()
}

/// A child of `parent`: within its scopes and grant types, under its policies.
fn child(parent: &RegisteredClient, id: String, metadata: Metadata) -> Result<Client, Error> {
    let refuse = |why| Error::InvalidClientMetadata(Reason::new(why));
    let asks_all = metadata.scope.is_none();
    let mut template = Client { id, ..Client::confidential("") };
    let settings = &parent.settings;
    template.settings = Settings {
        audiences: settings.audiences.clone(),
        format: settings.format,
        access_secs: settings.access_secs,
        refresh: settings.refresh,
        pairs: settings.pairs,
        permitted: settings.permitted.clone(),
        pkce_required: settings.pkce_required,
        pushed_required: settings.pushed_required,
        ip_ranges: settings.ip_ranges.clone(),
        ip_relaxed_for_refresh: settings.ip_relaxed_for_refresh,
        ..Settings::confidential()
    };
    let mut draft = metadata.apply(template)?;
    if asks_all {
        draft.settings.scopes = settings.scopes.clone();
    }
    draft.settings.parent = Some(parent.id.clone());
    if !draft.settings.scopes.is_within(&settings.scopes) {
        return Err(refuse("its scope exceeds that of its parent"));
    }
    if !draft.settings.grants.iter().all(|grant| settings.grants.contains(grant)) {
        return Err(refuse("its grant types exceed those of its parent"));
    }
    if let Some(problem) = draft.settings.redirect_problem() {
        return Err(Error::InvalidRedirectUri(Reason::new(problem)));
    }
    Ok(draft)
}
