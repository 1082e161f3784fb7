//! The rules: who may have which token, and what becomes of it.
//!
//! An [`Authority`] puts the two lower layers together, tokens as text (codec) and tokens as state
//! (store). It decides who may ask for what; the store alone decides what lives. It has no threads
//! of its own, and no lock of it is held while a disk is waited for.
//!
//! # Examples
//! ```
//! use mintage::authority::{Authority, Caller, Client, Issue, Scratch, TokenFormat, TokenRequest};
//! use mintage::root_key::RootKey;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let root = RootKey::from_bytes(1, [7; 32]); // RootKey::from_file("mintage-data.key") outlives it
//! let authority = Authority::builder("https://login.example.com").in_memory(root)?;
//!
//! let app = Client::public("app").scopes(["api", "refresh_token"]).format(TokenFormat::Jwt);
//! let app = authority.register(app).wait()?.client_id;
//! let issued = authority.issue(Issue::to("user-42", &app)).wait()?;
//!
//! let mut scratch = Scratch::new();
//! let claims = authority.verify(issued.access_token.expose(), &mut scratch)?;
//! assert_eq!(claims.subject(), "user-42");
//!
//! let caller = Caller::public(&app);
//! let refresh_token = issued.refresh_token.ok_or("none")?;
//! let request = TokenRequest::refresh(refresh_token.expose(), &caller);
//! let again = authority.token(&request).wait()?;
//! assert!(authority.verify_live(again.access_token.expose()).wait().is_ok());
//! # Ok(())
//! # }
//! ```

mod active;
mod approval;
mod audience;
mod audit;
mod authorize;
mod birth;
mod builder;
mod challenge;
mod client;
mod client_auth;
mod client_document;
mod client_metadata;
mod client_secrets;
mod client_settings;
mod clients;
mod confirmation;
mod derive;
mod device;
mod documents;
mod error;
mod exchange;
mod flows;
mod granted;
mod grants;
mod headless;
mod identity;
mod introspect;
mod issue;
mod issued;
mod json;
mod jwt_bearer;
mod limits;
mod logout;
mod lookup;
mod metadata;
mod mint;
mod oauth_token;
mod password;
mod policy;
mod profile;
mod proofs;
mod read;
mod refresh;
mod registration;
mod revoke;
mod scopes;
mod sender;
mod session;
mod signing;
mod templates;
mod token;
mod token_form;
mod verify;
mod web_session;

pub use active::{ActiveToken, TokenKind};
pub use audience::{AUDIENCES_MAX, Audience, Resources};
pub use audit::{Action, Audit, AuditEvent};
pub use authorize::{
    Authorization, AuthorizationError, AuthorizationRequest, Login, NONCE_LEN_MAX, PUSHED_SECS,
    Pushed, REDIRECT_URIS_LEN_MAX, REDIRECT_URIS_MAX, STATE_LEN_MAX, Step,
};
pub use builder::{Builder, CODE_SECS_MAX, ISSUER_LEN_MAX, LEEWAY_SECS_MAX, RETRY_SECS_MAX};
pub use challenge::{Challenge, Scheme};
pub use client::{
    ACCESS_SECS_MAX, Client, GrantType, IDLE_SECS, Introspects, JWT_SECS, OPAQUE_SECS,
    RefreshPolicy, Registered, RegisteredClient, TokenFormat,
};
pub use client_auth::{
    ASSERTION_SECS_MAX, ASSERTIONS_MAX, AuthMethod, CHOSEN_SECRET_LEN_MIN, CLIENT_SECRET_LEN_MAX,
    Caller, Credentials, JWT_BEARER, KeySource, KeyTable,
};
pub use client_metadata::METADATA_LEN_MAX;
pub use client_secrets::RETIRED_SECRET_SECS;
pub use confirmation::Confirmation;
pub use device::{
    DEVICE_INTERVAL_SECS, DEVICE_SECS, DEVICE_SECS_MAX, DeviceAuthorization, DevicePrompt,
    DeviceRequest, UserCode,
};
pub use error::{Answer, Error, OpenError, Reason};
pub use exchange::{
    ACTORS_MAX, EXCHANGE_TOKEN_LEN_MAX, Exchange, ExchangeHandler, HandlerOptions, IncomingToken,
    Mapped, TokenRefused, TokenType, ValidToken,
};
pub use grants::{Cursor, GRANTS_PAGE_MAX, Grant, GrantList, GrantPage, Grants};
pub use headless::{
    AuthorizationChallenge, ChallengeRequest, CodeCredentials, Delivery, Headless, PASSCODE_SECS,
    PASSCODE_TRIES_MAX, Passcode, PasscodeSent, Uvid,
};
pub use identity::{
    ID_TOKEN_SECS, ID_TOKEN_SECS_MAX, Identity, IdentityOptions, User, UserInfo, Users,
};
pub use introspect::Introspection;
pub use issue::{Admission, Issue};
pub use issued::Issued;
pub use jwt_bearer::JWT_BEARER_SECS;
pub use limits::{Backoff, Limits, Rate};
pub use logout::{LoggedOut, Logout, LogoutRequest, LogoutScope};
pub use metadata::{Endpoints, Metadata};
pub use oauth_token::OauthTokenType;
pub use password::{PASSWORD_LEN_MAX, PasswordCredentials, Passwords, USERNAME_LEN_MAX};
pub use policy::{Approvals, IP_RANGES_MAX, IpRange, PERMITTED_SUBJECTS_MAX, PermittedUsers};
pub use profile::Profile;
pub use proofs::{PROOF_SECS, PROOFS_MAX};
pub use registration::{CHILDREN_MAX, Registration};
pub use revoke::Target;
pub use sender::{Presented, SenderConstraint};
pub use session::SLIDING_SECS_MAX;
pub use signing::Keys;
pub use token::TokenRequest;
pub use token_form::{FORM_LEN_MAX, TokenForm};
pub use verify::{Scratch, VerifiedClaims};
pub use web_session::{DomainSession, WebSession, WebSessionRequest, WebSessions};

use std::fmt;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use crate::codec::assertion::AssertionVerifier;
use crate::codec::handle::HandleKeys;
use crate::codec::jws::{self, Verifier};
use crate::entropy::Entropy;
use crate::root_key::RootKey;
use crate::store::{DurableStore, Stats, Store, StoreError};
use crate::time::Clock;

/// A token authority over a store. Cloning shares it.
pub struct Authority<S: Store = DurableStore> {
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
    /// Policy of offline verification.
    verifier: Verifier,
    /// Knows a JWT of this authority, whatever its audience and times.
    own: Verifier,
    clients: clients::Clients,
    profile: Profile,
    /// Verifies what clients sign.
    assertions: AssertionVerifier,
    /// Verifies what clients sign to get tokens.
    bearer_assertions: AssertionVerifier,
    assertions_max: u32,
    key_source: Arc<dyn KeySource>,
    approvals: Arc<dyn Approvals>,
    code_secs: u64,
    /// Where clients manage their registration.
    registration_uri: Option<String>,
    users: Arc<dyn identity::Users>,
    instance_url: Arc<str>,
    api_instance_url: Option<Arc<str>>,
    service_urls: Vec<(String, String)>,
    endpoints: Endpoints,
    proofs: proofs::Proofs,
    flows: flows::Flows,
    polls: device::Polls,
    /// Whether tokens may come through the browser.
    tokens_in_front: bool,
    web_sessions: Option<Arc<dyn WebSessions>>,
    scopes_supported: Vec<String>,
    slow_room: client_auth::SlowRoom,
    limiter: Arc<limits::Limiter>,
    audit: Option<Arc<dyn Audit>>,
    keys: signing::SigningKeys,
    scratches: ArrayQueue<jws::Scratch>,
}

impl Authority {
    /// Begins to open an authority; `issuer` is its URL, as `iss` and in metadata (RFC 8414
    /// section 2).
    pub fn builder(issuer: impl Into<String>) -> Builder {
        Builder::new(issuer.into())
    }

    /// Closes the store; every clone is closed with it. Dropping the last clone does the same and
    /// keeps the error to itself; nothing acknowledged is lost either way.
    ///
    /// # Blocks
    /// Until what is queued is on stable storage and the checkpoint has caught up.
    ///
    /// # Errors
    /// The last error of the background work, or that the store had refused writes.
    pub fn close(&self) -> Result<(), StoreError> {
        self.inner.store.close()
    }
}

impl<S: Store> Authority<S> {
    /// The issuer.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.inner.issuer
    }

    /// Whose ways it has where the RFCs and Salesforce differ.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.inner.profile
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
