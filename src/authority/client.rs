//! Clients: what an application may ask for and what its tokens are like.
//!
//! A [`Client`] is a draft that a host fills in; registering checks it whole and turns it into a
//! [`RegisteredClient`], which is valid because it exists.

use std::fmt;
use std::sync::Arc;

use super::audience::Audience;
use super::client_auth::{AuthMethod, ClientKeys, KeptSecret};
use super::client_settings::{Checked, Settings};
use super::error::{Error, Reason};
use crate::codec::jwk_set::JwkSet;
use crate::ids::ClientId;
use crate::scope::Scope;
use crate::secret::SecretText;
use crate::store::PairPolicy;
use crate::time::Timestamp;

/// The longest lifetime of an access token, in seconds.
pub const ACCESS_SECS_MAX: u64 = 86_400;
/// The lifetime of an opaque access token unless a client says otherwise, in seconds.
pub const OPAQUE_SECS: u64 = 7_200;
/// The lifetime of a JWT access token unless a client says otherwise, in seconds. It is short,
/// since an offline verifier learns of no revocation.
pub const JWT_SECS: u64 = 300;
/// After so many seconds without a redeem a refresh token ends, unless a client says otherwise.
pub const IDLE_SECS: u64 = 30 * 86_400;

/// The scopes that ask for a refresh token (OpenID Connect Core section 11, and Salesforce's name).
pub(super) const REFRESH_SCOPES: [&str; 2] = ["offline_access", "refresh_token"];

/// How a client may obtain tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GrantType {
    /// `authorization_code` (RFC 6749 section 4.1).
    AuthorizationCode,
    /// `client_credentials` (RFC 6749 section 4.4).
    ClientCredentials,
    /// `refresh_token` (RFC 6749 section 6).
    RefreshToken,
    /// `implicit` (RFC 6749 section 4.2): tokens through the browser. The authority must permit it, too
    /// ([`Builder::tokens_in_front`](super::Builder::tokens_in_front)).
    Implicit,
    /// Salesforce's `hybrid_auth_code`: `authorization_code`, which it needs beside it, with the
    /// identifiers of web sessions.
    HybridAuthCode,
    /// Salesforce's `hybrid_refresh`: `refresh_token`, which it needs beside it, with the identifiers of
    /// web sessions.
    HybridRefresh,
    /// `urn:ietf:params:oauth:grant-type:jwt-bearer` (RFC 7523 section 2.1): the client signs whom it
    /// acts for, with one of its keys ([`Client::keys`], [`Client::hosted_keys`]).
    JwtBearer,
    /// `urn:ietf:params:oauth:grant-type:device_code` (RFC 8628): for devices without a browser.
    DeviceCode,
    /// `urn:ietf:params:oauth:grant-type:token-exchange` (RFC 8693).
    TokenExchange,
    /// `password` (RFC 6749 section 4.3): a user's password in the client's hands. The authority must permit
    /// it, too ([`Builder::passwords`](super::Builder::passwords)).
    Password,
}

impl GrantType {
    pub(super) const ALL: [GrantType; 10] = [
        GrantType::AuthorizationCode,
        GrantType::ClientCredentials,
        GrantType::RefreshToken,
        GrantType::Implicit,
        GrantType::HybridAuthCode,
        GrantType::HybridRefresh,
        GrantType::JwtBearer,
        GrantType::DeviceCode,
        GrantType::TokenExchange,
        GrantType::Password,
    ];

    /// The registered name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            GrantType::AuthorizationCode => "authorization_code",
            GrantType::ClientCredentials => "client_credentials",
            GrantType::RefreshToken => "refresh_token",
            GrantType::Implicit => "implicit",
            GrantType::HybridAuthCode => "hybrid_auth_code",
            GrantType::HybridRefresh => "hybrid_refresh",
            GrantType::JwtBearer => "urn:ietf:params:oauth:grant-type:jwt-bearer",
            GrantType::DeviceCode => "urn:ietf:params:oauth:grant-type:device_code",
            GrantType::TokenExchange => "urn:ietf:params:oauth:grant-type:token-exchange",
            GrantType::Password => "password",
        }
    }

    /// The grant type of that registered name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<GrantType> {
        GrantType::ALL.into_iter().find(|grant| grant.name() == name)
    }
}

/// What a client's access tokens look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenFormat {
    /// A handle that says nothing to its holder; checked by asking the authority.
    Opaque,
    /// A signed JWT (RFC 9068); checked offline.
    Jwt,
    /// A signed JWT in Salesforce's form, for resource servers that were written for it: `scp`, `aud`
    /// as an array, `sub` with `uid:` before it, `nbf`. Checked offline, too.
    SalesforceJwt,
}

/// What a client may learn by introspection (RFC 7662 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Introspects {
    /// Its own tokens.
    Own,
    /// Its own tokens, and access tokens meant for one of its audiences or for its client id.
    OwnAndAudience,
    /// Its own tokens, and those of the clients that it registered.
    OwnAndChildren,
    /// Every token.
    All,
}

/// How long a refresh token lives, and whether each use replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshPolicy {
    pub(super) rotates: bool,
    pub(super) absolute_secs: u64,
    pub(super) idle_secs: u64,
    /// Whether there are any at all.
    pub(super) gives: bool,
}

impl RefreshPolicy {
    /// Each use replaces the token, and a replay kills its family (RFC 9700 section 4.14.2). Idle
    /// limit [`IDLE_SECS`], no absolute limit.
    #[must_use]
    pub const fn rotate() -> RefreshPolicy {
        RefreshPolicy { rotates: true, absolute_secs: 0, idle_secs: IDLE_SECS, gives: true }
    }

    /// The token stays the same; for clients that authenticate. Idle limit [`IDLE_SECS`], no
    /// absolute limit.
    #[must_use]
    pub const fn fixed() -> RefreshPolicy {
        RefreshPolicy { rotates: false, absolute_secs: 0, idle_secs: IDLE_SECS, gives: true }
    }

    /// No refresh token is ever given, whatever the scope says ("immediately expire").
    #[must_use]
    pub const fn never() -> RefreshPolicy {
        RefreshPolicy { gives: false, ..RefreshPolicy::rotate() }
    }

    /// The family ends so many seconds after its birth; 0 for no such limit.
    #[must_use]
    pub const fn absolute_secs(self, secs: u64) -> RefreshPolicy {
        RefreshPolicy { absolute_secs: secs, ..self }
    }

    /// The family ends when it was not redeemed for so many seconds; 0 for no such limit.
    #[must_use]
    pub const fn idle_secs(self, secs: u64) -> RefreshPolicy {
        RefreshPolicy { idle_secs: secs, ..self }
    }

    /// When a family born at `now` ends.
    pub(super) const fn expires_at(self, now: Timestamp) -> Timestamp {
        if self.absolute_secs == 0 { Timestamp::NEVER } else { now.plus(self.absolute_secs) }
    }
}

/// A client about to be registered. Unusable values are reported by registering.
#[derive(Clone, Debug)]
#[must_use = "a client does nothing until it is registered"]
pub struct Client {
    pub(super) id: String,
    pub(super) settings: Settings,
    /// The secret that somebody chose for it.
    pub(super) secret: Option<SecretText>,
    pub(super) problem: Option<&'static str>,
}

impl Client {
    /// A client that keeps a secret (RFC 6749 section 2.1): grants `client_credentials` and
    /// `refresh_token`, opaque tokens, refresh tokens stay the same.
    pub fn confidential(client_id: impl Into<String>) -> Client {
        Client {
            id: client_id.into(),
            settings: Settings::confidential(),
            secret: None,
            problem: None,
        }
    }

    /// A client that can keep no secret, such as an app on a phone: grant `refresh_token`, opaque
    /// tokens, refresh tokens rotate (RFC 9700 section 2.2.2).
    pub fn public(client_id: impl Into<String>) -> Client {
        let mut client = Client::confidential(client_id);
        client.settings.methods = vec![AuthMethod::None];
        client.settings.grants = vec![GrantType::RefreshToken];
        client.settings.refresh = RefreshPolicy::rotate();
        client
    }

    /// A name for people.
    pub fn name(mut self, name: impl Into<String>) -> Client {
        self.settings.name = name.into();
        self
    }

    /// How it may authenticate, in place of its secret. A client that is registered for an assertion
    /// or a certificate alone gets no secret.
    pub fn authenticates(mut self, methods: impl IntoIterator<Item = AuthMethod>) -> Client {
        self.settings.methods.clear();
        for method in methods {
            if !self.settings.methods.contains(&method) {
                self.settings.methods.push(method);
            }
        }
        self
    }

    /// The secret, in place of a generated one, such as one that it has already. It may be guessable,
    /// so registering and the first use in every process take an Argon2id computation
    /// ([`Authority::is_slow`](super::Authority::is_slow)). Prefer a generated one.
    pub fn secret(mut self, secret: impl Into<String>) -> Client {
        self.secret = Some(SecretText::new(secret));
        self
    }

    /// Its public keys for [`AuthMethod::PrivateKeyJwt`] and [`GrantType::JwtBearer`], as a JWK Set
    /// (RFC 7517 section 5).
    pub fn keys(mut self, jwks: &str) -> Client {
        match JwkSet::parse(jwks.as_bytes()) {
            Ok(set) if !set.is_empty() => {
                self.settings.keys = Some(ClientKeys::Registered(Arc::new(set)));
            }
            _ => self.problem = Some("its keys are malformed, or none of them can be used"),
        }
        self
    }

    /// Its public keys are asked of the host's [`KeySource`](super::KeySource) under its client id,
    /// as they change (`jwks_uri`).
    pub fn hosted_keys(mut self) -> Client {
        self.settings.keys = Some(ClientKeys::Hosted(None));
        self
    }

    /// SHA-256 thumbprints of its certificates for [`AuthMethod::SelfSignedTls`].
    pub fn certificates(mut self, thumbprints: impl IntoIterator<Item = [u8; 32]>) -> Client {
        self.settings.certificates = thumbprints.into_iter().collect();
        self
    }

    /// The grant types that it may use, in place of the default ones.
    pub fn grants(mut self, grants: impl IntoIterator<Item = GrantType>) -> Client {
        self.settings.grants.clear();
        for grant in grants {
            if !self.settings.grants.contains(&grant) {
                self.settings.grants.push(grant);
            }
        }
        self
    }

    /// The scopes that it may ask for; none by default. `refresh_token` or `offline_access` lets it
    /// ask for refresh tokens.
    pub fn scopes<T: AsRef<str>>(mut self, scopes: impl IntoIterator<Item = T>) -> Client {
        match Scope::parse(&joined(scopes)) {
            Ok(scopes) => self.settings.scopes = scopes,
            Err(_) => self.problem = Some("its scopes are malformed"),
        }
        self
    }

    /// The audiences that it may ask for; the authority's default audience if there are none.
    pub fn audiences<T: AsRef<str>>(mut self, audiences: impl IntoIterator<Item = T>) -> Client {
        match Audience::parse(&joined(audiences)) {
            Ok(audiences) => self.settings.audiences = audiences,
            Err(_) => self.problem = Some("its audiences are malformed"),
        }
        self
    }

    /// What its access tokens look like; opaque by default.
    pub fn format(mut self, format: TokenFormat) -> Client {
        self.settings.format = format;
        self
    }

    /// The lifetime of its access tokens, 1 to [`ACCESS_SECS_MAX`] seconds; by default
    /// [`OPAQUE_SECS`] or [`JWT_SECS`].
    pub fn access_secs(mut self, secs: u64) -> Client {
        self.settings.access_secs = Some(secs);
        self
    }

    /// What its refresh tokens are like.
    pub fn refresh(mut self, policy: RefreshPolicy) -> Client {
        self.settings.refresh = policy;
        self
    }

    /// How many logins it may have for one subject and device at a time; unlimited by default.
    ///
    /// Under [`PairPolicy::Reuse`] tokens are derived: root key and data directory together give
    /// them, so it is for clients without refresh tokens alone and never a default.
    pub fn pairs(mut self, policy: PairPolicy) -> Client {
        self.settings.pairs = policy;
        self
    }

    /// What it may learn by introspection; its own tokens by default.
    pub fn introspects(mut self, entitlement: Introspects) -> Client {
        self.settings.introspects = entitlement;
        self
    }

    /// Checks the draft whole.
    pub(super) fn check(self) -> Result<Checked, Error> {
        let refuse = |why| Error::InvalidClientMetadata(Reason::new(why));
        let id = ClientId::new(&self.id).map_err(|error| {
            Error::InvalidClientMetadata(Reason::with("its client_id is unusable", error))
        })?;
        if let Some(problem) = self.problem {
            return Err(refuse(problem));
        }
        let settings = self.settings;
        if let Some(problem) = settings.problem() {
            return Err(refuse(problem));
        }
        if let Some(problem) = self.secret.as_ref().and_then(|secret| settings.no_secret(secret)) {
            return Err(refuse(problem));
        }
        Ok(Checked { id, settings, secret: self.secret })
    }
}

/// A client that the authority knows.
#[derive(Clone)]
pub struct RegisteredClient {
    pub(super) id: ClientId,
    pub(super) settings: Settings,
    /// The secret in force, and beside it one that is staged or was rotated out.
    pub(super) secrets: Vec<KeptSecret>,
    /// The token with which it registers others.
    pub(super) initial_access: Option<KeptSecret>,
    /// The token with which it manages itself.
    pub(super) management: Option<KeptSecret>,
    pub(super) registered_at: Timestamp,
}

impl RegisteredClient {
    /// Its identifier.
    #[must_use]
    pub fn client_id(&self) -> &ClientId {
        &self.id
    }

    /// Its name for people.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Whether it can prove who it is (RFC 6749 section 2.1).
    #[must_use]
    pub fn is_confidential(&self) -> bool {
        self.settings.is_confidential()
    }

    /// Where it publishes its keys, if it registered that.
    #[must_use]
    pub fn jwks_uri(&self) -> Option<&str> {
        self.settings.jwks_uri()
    }

    /// How it may authenticate.
    #[must_use]
    pub fn methods(&self) -> &[AuthMethod] {
        &self.settings.methods
    }

    /// Whether it may use a grant type.
    #[must_use]
    pub fn may_use(&self, grant: GrantType) -> bool {
        self.settings.grants.contains(&grant)
    }

    /// Whether it is given refresh tokens.
    pub(super) fn refreshes(&self) -> bool {
        self.may_use(GrantType::RefreshToken) && self.settings.refresh.gives
    }

    /// The scopes that it may ask for.
    #[must_use]
    pub fn scopes(&self) -> &Scope {
        &self.settings.scopes
    }

    /// The audiences that it may ask for; empty for the authority's default audience.
    #[must_use]
    pub fn audiences(&self) -> &Audience {
        &self.settings.audiences
    }

    /// What its access tokens look like.
    #[must_use]
    pub fn format(&self) -> TokenFormat {
        self.settings.format
    }

    /// The lifetime of its access tokens, in seconds.
    #[must_use]
    pub fn access_secs(&self) -> u64 {
        self.settings.access_secs.unwrap_or(match self.settings.format {
            TokenFormat::Opaque => OPAQUE_SECS,
            TokenFormat::Jwt | TokenFormat::SalesforceJwt => JWT_SECS,
        })
    }

    /// When it was registered.
    #[must_use]
    pub fn registered_at(&self) -> Timestamp {
        self.registered_at
    }
}

impl fmt::Debug for RegisteredClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisteredClient")
            .field("id", &self.id)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// What registering a client gives. The secret is shown this once.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Registered {
    /// Its identifier.
    pub client_id: ClientId,
    /// Its secret, where one was generated. The authority keeps a digest, and the secret itself for
    /// `client_secret_jwt` alone.
    pub client_secret: Option<SecretText>,
}

fn joined<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    let mut out = String::new();
    for text in texts {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(text.as_ref());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::client_auth::{CHOSEN_SECRET_LEN_MIN, CLIENT_SECRET_LEN_MAX};
    use super::*;

    fn refused(client: Client) -> Option<&'static str> {
        client.check().err().and_then(|error| error.reason().map(Reason::text))
    }

    #[test]
    fn a_draft_is_checked_whole() {
        let client = || Client::confidential("a").scopes(["api", "web"]);
        assert_eq!(refused(client()), None);
        assert!(refused(Client::public("a\n")).is_some());
        assert!(refused(client().scopes(["a\"b"])).is_some());
        assert!(refused(client().audiences(["a\"b"])).is_some());
        assert!(refused(client().access_secs(0)).is_some());
        assert!(refused(client().access_secs(ACCESS_SECS_MAX + 1)).is_some());
        assert_eq!(refused(client().access_secs(ACCESS_SECS_MAX)), None);
        assert!(refused(client().pairs(PairPolicy::Newest(0))).is_some());
        assert!(refused(client().pairs(PairPolicy::Reuse { left_secs_min: 1 })).is_some());
        assert!(refused(client().name("x".repeat(256))).is_some());
        use AuthMethod::{ClientSecret, None as NoProof, PrivateKeyJwt, SelfSignedTls};
        assert!(refused(client().authenticates([])).is_some());
        assert!(refused(client().authenticates([NoProof, ClientSecret])).is_some());
        assert!(refused(client().authenticates([PrivateKeyJwt])).is_some());
        assert!(refused(client().hosted_keys()).is_some());
        assert_eq!(refused(client().authenticates([PrivateKeyJwt]).hosted_keys()), None);
        assert!(refused(client().keys("{}")).is_some());
        assert!(refused(client().authenticates([SelfSignedTls])).is_some());
        assert!(refused(client().secret("x".repeat(CHOSEN_SECRET_LEN_MIN - 1))).is_some());
        assert!(refused(client().secret("x".repeat(CLIENT_SECRET_LEN_MAX + 1))).is_some());
        assert!(refused(Client::public("a").secret("long enough")).is_some());
    }

    #[test]
    fn a_public_client_has_no_credentials_and_rotates() {
        let client = || Client::public("a");
        assert_eq!(refused(client()), None);
        assert!(refused(client().grants([GrantType::ClientCredentials])).is_some());
        assert!(refused(client().refresh(RefreshPolicy::fixed())).is_some());
    }
}
