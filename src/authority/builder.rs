//! Opening an authority: the issuer is required, everything else has a default.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use super::audience::Audience;
use super::audit::Audit;
use super::client_auth::{ASSERTION_SECS_MAX, ASSERTIONS_MAX, KeySource, KeyTable, SlowRoom};
use super::clients::Clients;
use super::derive::DeriveKeys;
use super::device::Polls;
use super::documents;
use super::error::OpenError;
use super::flows::Flows;
use super::identity::{NoUsers, Users};
use super::limits::{Limiter, Limits};
use super::metadata::Endpoints;
use super::policy::{Approvals, NoApprovals};
use super::profile::Profile;
use super::proofs::{PROOFS_MAX, Proofs};
use super::signing::SigningKeys;
use super::web_session::WebSessions;
use super::{Authority, Inner};
use crate::codec::assertion::AssertionVerifier;
use crate::codec::handle::HandleKeys;
use crate::codec::jws::Verifier;
use crate::codec::keys::SigningKey;
use crate::entropy::{Entropy, SystemEntropy, random};
use crate::ids::OrgId;
use crate::root_key::RootKey;
use crate::store::{DurableOptions, DurableStore, MemoryStore, Store};
use crate::time::{Clock, SystemClock};

/// The longest issuer, in bytes.
pub const ISSUER_LEN_MAX: usize = 2_048;
/// The longest retry cap, in seconds.
pub const RETRY_SECS_MAX: u64 = 3_600;
/// The largest leeway, in seconds.
pub const LEEWAY_SECS_MAX: u64 = 300;

/// The longest lifetime of an authorization code, in seconds: that of Salesforce.
pub const CODE_SECS_MAX: u64 = 900;

const CODE_SECS: u64 = 60;
const ORG: &str = "mintage";
const RETRY_SECS: u64 = 60;
const SCOPES_SUPPORTED: [&str; 6] =
    ["openid", "profile", "email", "address", "phone", "offline_access"];
/// The least leeway for what clients sign, in seconds: their clocks are never quite right, and many
/// say `nbf` to the second.
const ASSERTION_LEEWAY_SECS: u64 = 30;
/// A leeway under which no time is judged: whether a token of our own lives is the store's to say.
const ANY_TIME: u64 = u64::MAX;
/// How many scratches for JWTs are kept ready; more are made and dropped as needed.
const SCRATCHES_MAX: usize = 64;

/// Settings of an [`Authority`] about to be opened.
#[must_use = "nothing is opened yet"]
pub struct Builder {
    issuer: String,
    org: String,
    audience: Option<String>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    leeway_secs: u64,
    retry_secs_max: u64,
    durable: DurableOptions,
    remote_keys: Vec<SigningKey>,
    profile: Profile,
    assertion_audiences: Vec<String>,
    assertion_secs_max: u64,
    assertions_max: u32,
    key_source: Arc<dyn KeySource>,
    approvals: Arc<dyn Approvals>,
    code_secs: u64,
    registration_uri: Option<String>,
    users: Arc<dyn Users>,
    instance_url: Option<String>,
    api_instance_url: Option<String>,
    service_urls: Vec<(String, String)>,
    endpoints: Option<Endpoints>,
    scopes_supported: Vec<String>,
    dpop_nonces: bool,
    proofs_max: usize,
    tokens_in_front: bool,
    web_sessions: Option<Arc<dyn WebSessions>>,
    limits: Limits,
    audit: Option<Arc<dyn Audit>>,
    pub(super) flows: Flows,
}

impl Builder {
    pub(super) fn new(issuer: String) -> Builder {
        Builder {
            issuer,
            org: ORG.to_owned(),
            audience: None,
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(SystemEntropy::new()),
            leeway_secs: 0,
            retry_secs_max: RETRY_SECS,
            durable: DurableOptions::default(),
            remote_keys: Vec::new(),
            profile: Profile::Standard,
            assertion_audiences: Vec::new(),
            assertion_secs_max: ASSERTION_SECS_MAX,
            assertions_max: ASSERTIONS_MAX,
            key_source: Arc::new(KeyTable::new()),
            approvals: Arc::new(NoApprovals),
            code_secs: CODE_SECS,
            registration_uri: None,
            users: Arc::new(NoUsers),
            instance_url: None,
            api_instance_url: None,
            service_urls: Vec::new(),
            endpoints: None,
            scopes_supported: SCOPES_SUPPORTED.map(str::to_owned).to_vec(),
            dpop_nonces: false,
            proofs_max: PROOFS_MAX,
            tokens_in_front: false,
            web_sessions: None,
            limits: Limits::new(),
            audit: None,
            flows: Flows::default(),
        }
    }

    /// The organisation that stands readable in every opaque handle; `mintage` by default. Handles
    /// of another organisation are refused, so keep it once tokens are out.
    pub fn org(mut self, org: impl Into<String>) -> Builder {
        self.org = org.into();
        self
    }

    /// The audience, space-delimited, of clients that have none of their own, and the one that
    /// [`Authority::verify`] demands; the issuer by default. When it is changed, such clients keep of
    /// their logins what is in both: where that is nothing, a refresh is refused.
    pub fn audience(mut self, audience: impl Into<String>) -> Builder {
        self.audience = Some(audience.into());
        self
    }

    /// Where the time comes from; the operating system by default.
    pub fn clock(mut self, clock: impl Clock) -> Builder {
        self.clock = Arc::new(clock);
        self
    }

    /// Where randomness comes from; the operating system by default.
    pub fn entropy(mut self, entropy: impl Entropy) -> Builder {
        self.entropy = Arc::new(entropy);
        self
    }

    /// How far the clocks of others may differ when a JWT is verified, in seconds; 0 by default, at
    /// most [`LEEWAY_SECS_MAX`].
    pub fn leeway_secs(mut self, secs: u64) -> Builder {
        self.leeway_secs = secs;
        self
    }

    /// How long after a refresh its lost answer can be asked for again, in seconds; 60 by default,
    /// 0 for never, at most [`RETRY_SECS_MAX`]. Whoever holds the spent token in that time gets what
    /// its owner got.
    pub fn retry_secs_max(mut self, secs: u64) -> Builder {
        self.retry_secs_max = secs;
        self
    }

    /// Whose ways the authority has where the RFCs and Salesforce differ; those of the RFCs by
    /// default.
    pub fn profile(mut self, profile: Profile) -> Builder {
        self.profile = profile;
        self
    }

    /// What assertions may name as their audience (`aud`) beside the issuer, such as the URL of the
    /// token endpoint. Exactly these texts: a slash more is another audience.
    pub fn assertion_audiences<T: Into<String>>(
        mut self,
        audiences: impl IntoIterator<Item = T>,
    ) -> Builder {
        self.assertion_audiences = audiences.into_iter().map(Into::into).collect();
        self
    }

    /// How far ahead an assertion may expire, in seconds; [`ASSERTION_SECS_MAX`] by default, and at
    /// most.
    pub fn assertion_secs_max(mut self, secs: u64) -> Builder {
        self.assertion_secs_max = secs;
        self
    }

    /// How many unexpired assertions of one issuer are remembered; [`ASSERTIONS_MAX`] by default.
    /// One that sends more is answered "busy" until some have expired. At least 1;
    /// [`DurableOptions::used_max`] bounds those of all issuers together.
    pub fn assertions_max(mut self, count: u32) -> Builder {
        self.assertions_max = count;
        self
    }

    /// Where the keys of clients come from that are registered without any; a table that is empty
    /// by default.
    pub fn key_source(mut self, source: impl KeySource) -> Builder {
        self.key_source = Arc::new(source);
        self
    }

    /// Which subjects an administrator has approved for which clients, for those registered with
    /// [`PermittedUsers::AdminApproved`](super::PermittedUsers::AdminApproved); nobody by default.
    pub fn approvals(mut self, approvals: impl Approvals) -> Builder {
        self.approvals = Arc::new(approvals);
        self
    }

    /// How long an authorization code may be redeemed, in seconds; 60 by default, at most
    /// [`CODE_SECS_MAX`].
    pub fn code_secs(mut self, secs: u64) -> Builder {
        self.code_secs = secs;
        self
    }

    /// Where clients manage their registration (RFC 7592): `registration_client_uri` is this, a slash
    /// and the client id in base64url. It is left out by default.
    pub fn registration_uri(mut self, uri: impl Into<String>) -> Builder {
        self.registration_uri = Some(uri.into());
        self
    }

    /// What is known of users, for ID tokens, UserInfo and the identity URL; nothing by default.
    pub fn users(mut self, users: impl Users) -> Builder {
        self.users = Arc::new(users);
        self
    }

    /// Where the services are that tokens are for: Salesforce's `instance_url`, in every token
    /// response; the issuer by default.
    pub fn instance_url(mut self, url: impl Into<String>) -> Builder {
        self.instance_url = Some(url.into());
        self
    }

    /// Salesforce's `api_instance_url`, in token responses with a JWT; left out by default.
    pub fn api_instance_url(mut self, url: impl Into<String>) -> Builder {
        self.api_instance_url = Some(url.into());
        self
    }

    /// URLs of services, by name, that UserInfo and the identity URL tell the user's clients (`urls`),
    /// beside Salesforce's own with [`Profile::Salesforce`]. `{organization}`, `{user}` and `{version}`
    /// in them are filled in.
    pub fn service_urls<N: Into<String>, U: Into<String>>(
        mut self,
        urls: impl IntoIterator<Item = (N, U)>,
    ) -> Builder {
        let urls = urls.into_iter().map(|(name, url)| (name.into(), url.into()));
        self.service_urls = urls.collect();
        self
    }

    /// Where the host serves the authority, for its metadata; by default all of it, where Salesforce
    /// does, below the issuer.
    pub fn endpoints(mut self, endpoints: Endpoints) -> Builder {
        self.endpoints = Some(endpoints);
        self
    }

    /// The scopes that its metadata names; those of OpenID Connect by default.
    pub fn scopes_supported<T: Into<String>>(
        mut self,
        scopes: impl IntoIterator<Item = T>,
    ) -> Builder {
        self.scopes_supported = scopes.into_iter().map(Into::into).collect();
        self
    }

    /// Whether every DPoP proof needs a nonce of the authority (RFC 9449 section 8), so that none can be
    /// made in advance; by default only one that may have been used before this process began does.
    pub fn dpop_nonces(mut self, required: bool) -> Builder {
        self.dpop_nonces = required;
        self
    }

    /// How many used DPoP proofs are remembered at a time, each for 90 seconds from its `iat`;
    /// [`PROOFS_MAX`](super::PROOFS_MAX) by default, and at least 1. A subject has places for as many at a
    /// client as it leaves to all others, and is answered "busy" beyond that.
    pub fn proofs_max(mut self, count: usize) -> Builder {
        self.proofs_max = count;
        self
    }

    /// Whether tokens may come through the browser: the implicit flow and the other answers of the
    /// authorization endpoint that hold tokens, for clients with
    /// [`GrantType::Implicit`](super::GrantType::Implicit). Off by default: RFC 9700 section 2.1.2 has it
    /// that they should not.
    pub fn tokens_in_front(mut self, permitted: bool) -> Builder {
        self.tokens_in_front = permitted;
        self
    }

    /// The web sessions of hybrid apps; without them there are no hybrid answers.
    pub fn web_sessions(mut self, sessions: impl WebSessions) -> Builder {
        self.web_sessions = Some(Arc::new(sessions));
        self
    }

    /// How much a subject and a client may ask for, and how long who guesses wrong must wait;
    /// [`Limits::new`] by default.
    pub fn limits(mut self, limits: Limits) -> Builder {
        self.limits = limits;
        self
    }

    /// Where events go, beside `tracing` (target `mintage::audit`): what was issued, redeemed, replayed,
    /// revoked, registered and refused.
    pub fn audit(mut self, audit: impl Audit) -> Builder {
        self.audit = Some(Arc::new(audit));
        self
    }

    /// Settings of the durable store. Its clock and entropy are the authority's, whatever these
    /// say. A store in memory takes [`DurableOptions::used_max`] from them.
    pub fn durable(mut self, options: DurableOptions) -> Builder {
        self.durable = options;
        self
    }

    /// A key whose private half is elsewhere ([`SigningKey::remote`]), with its signer. It is the
    /// first key of a new store. Of a store that has keys it must be one: it signs if it is the
    /// newest, and [`Keys::import`](super::Keys::import) makes another one that. May be called for
    /// several keys of a store; opening refuses those that it does not know
    /// ([`OpenError::UnknownRemoteKey`]).
    pub fn remote_key(mut self, key: SigningKey) -> Builder {
        self.remote_keys.push(key);
        self
    }

    /// Opens the authority whose durable store is in the directory `path`, or makes one there. The
    /// root key belongs beside the directory, never inside it.
    ///
    /// # Durability
    /// A new store, its root key file and its first signing key are on stable storage when this
    /// returns.
    ///
    /// # Blocks
    /// While the log is read; see [`DurableStore::open`].
    ///
    /// # Errors
    /// [`OpenError`], with what is wrong: the directory is in use, the root key is another one, the
    /// data is damaged.
    pub fn open(
        self,
        path: impl Into<PathBuf>,
        root: RootKey,
    ) -> Result<Authority<DurableStore>, OpenError> {
        self.check()?;
        let options = self.durable.clone();
        let options = options.clock(Arc::clone(&self.clock)).entropy(Arc::clone(&self.entropy));
        let store = DurableStore::open(path, &root, options)?;
        self.with_store(store, root)
    }

    /// Opens an authority whose store is in memory: for tests, and for tokens that may end with the
    /// process.
    ///
    /// # Errors
    /// [`OpenError`], with what is wrong.
    pub fn in_memory(self, root: RootKey) -> Result<Authority<MemoryStore>, OpenError> {
        let store = MemoryStore::new(Arc::clone(&self.clock), &*self.entropy)?;
        let store = store.used_max(self.durable.used_max);
        self.with_store(store, root)
    }

    /// Opens an authority over a store that the host has opened. The store must have the same clock.
    ///
    /// # Durability
    /// A new store gets its first signing key, durably, before this returns.
    ///
    /// # Blocks
    /// For that, and for keys that must be sealed again under a newer version of the root key.
    ///
    /// # Errors
    /// [`OpenError`], with what is wrong.
    pub fn with_store<S: Store>(self, store: S, root: RootKey) -> Result<Authority<S>, OpenError> {
        let (org, audience) = self.check()?;
        let issuer = self.issuer;
        let endpoints = self.endpoints.unwrap_or_else(|| Endpoints::below(&issuer));
        let instance_url = self.instance_url.map_or_else(|| Arc::from(&*issuer), Arc::from);
        let handles =
            HandleKeys::new(&root, org).map_err(|_| OpenError::Setting("the root key is empty"))?;
        let names: Vec<&str> = audience.iter().collect();
        let verifier = Verifier::new(&issuer, &names, self.leeway_secs);
        let own = Verifier::for_any_audience(&issuer, ANY_TIME);
        let clients = Clients::load(&store, &root)?;
        let meant: Vec<&str> = std::iter::once(issuer.as_str())
            .chain(self.assertion_audiences.iter().map(String::as_str))
            .collect();
        let verifier_of = |secs_max| {
            let leeway_secs = self.leeway_secs.max(ASSERTION_LEEWAY_SECS);
            let verifier = AssertionVerifier::new(&meant, leeway_secs, secs_max);
            match self.profile {
                Profile::Salesforce => verifier.lenient_dates(),
                Profile::Standard => verifier,
            }
        };
        let is_new = documents::all(&store, documents::SIGNING_KEY)?.is_empty();
        let assertions = verifier_of(self.assertion_secs_max);
        let bearer_assertions = verifier_of(self.flows.jwt_bearer_secs_max);
        let keys = SigningKeys::load(&store, &root, &*self.entropy, self.remote_keys)?;
        let proofs_key = random(&*self.entropy)?;
        let began_at = (!is_new).then(|| store.now(self.clock.read()));
        let proofs = Proofs::new(proofs_key, began_at, self.dpop_nonces, self.proofs_max);
        let inner = Inner {
            derive: DeriveKeys::new(&root),
            issuer: Arc::from(issuer),
            clock: self.clock,
            entropy: self.entropy,
            leeway_secs: self.leeway_secs,
            retry_secs_max: self.retry_secs_max,
            scratches: ArrayQueue::new(SCRATCHES_MAX),
            store,
            root,
            audience,
            handles,
            verifier,
            own,
            clients,
            keys,
            profile: self.profile,
            assertions,
            bearer_assertions,
            assertions_max: self.assertions_max,
            key_source: self.key_source,
            approvals: self.approvals,
            code_secs: self.code_secs,
            registration_uri: self.registration_uri,
            users: self.users,
            instance_url,
            api_instance_url: self.api_instance_url.map(Arc::from),
            service_urls: self.service_urls,
            endpoints,
            proofs,
            flows: self.flows,
            polls: Polls::default(),
            tokens_in_front: self.tokens_in_front,
            web_sessions: self.web_sessions,
            scopes_supported: self.scopes_supported,
            slow_room: SlowRoom::default(),
            limiter: Arc::new(Limiter::new(self.limits)),
            audit: self.audit,
        };
        Ok(Authority { inner: Arc::new(inner) })
    }

    /// Checks the settings, before anything is opened or made.
    fn check(&self) -> Result<(OrgId, Audience), OpenError> {
        let unusable = OpenError::Setting;
        if self.issuer.is_empty() || self.issuer.len() > ISSUER_LEN_MAX {
            return Err(unusable("the issuer is empty or too long"));
        }
        let audience = self.audience.as_deref().unwrap_or(&self.issuer);
        let audience = Audience::parse(audience).map_err(|_| unusable("the audience"))?;
        if audience.is_empty() {
            return Err(unusable("the audience is empty"));
        }
        if self.leeway_secs > LEEWAY_SECS_MAX || self.retry_secs_max > RETRY_SECS_MAX {
            return Err(unusable("the leeway or the retry cap is too long"));
        }
        if !(1..=ASSERTION_SECS_MAX).contains(&self.assertion_secs_max) {
            return Err(unusable("the lifetime of assertions"));
        }
        if self.assertions_max == 0 {
            return Err(unusable("no assertion could be remembered"));
        }
        if self.proofs_max == 0 {
            return Err(unusable("no proof could be remembered"));
        }
        if !(1..=CODE_SECS_MAX).contains(&self.code_secs) {
            return Err(unusable("the lifetime of codes"));
        }
        self.limits.check()?;
        self.flows.check()?;
        let org = OrgId::new(&self.org).map_err(|_| unusable("the organisation"))?;
        Ok((org, audience))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}
