//! What a client is registered with: the same for a draft and a registered client, and checked whole.

use super::audience::Audience;
use super::authorize::{REDIRECT_URIS_LEN_MAX, REDIRECT_URIS_MAX, is_redirect_uri};
use super::client::{ACCESS_SECS_MAX, GrantType, Introspects, RefreshPolicy, TokenFormat};
use super::client_auth::{AuthMethod, CHOSEN_SECRET_LEN_MIN, CLIENT_SECRET_LEN_MAX, ClientKeys};
use super::exchange::{HANDLER_NAME_LEN_MAX, HANDLERS_OF_CLIENT_MAX};
use super::identity::ID_TOKEN_SECS_MAX;
use super::policy::{IP_RANGES_MAX, IpRange, PERMITTED_SUBJECTS_MAX, PermittedUsers};
use super::sender::SenderConstraint;
use super::session::SLIDING_SECS_MAX;
use crate::ids::{ClientId, Subject};
use crate::scope::Scope;
use crate::secret::SecretText;
use crate::store::PairPolicy;

const NAME_LEN_MAX: usize = 255;
const CERTIFICATES_MAX: usize = 16;
const URL_LEN_MAX: usize = 2_048;

/// What is the same for a draft and a registered client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// How it authenticates; never empty, and `None` stands alone.
    pub(super) methods: Vec<AuthMethod>,
    pub(super) keys: Option<ClientKeys>,
    /// SHA-256 thumbprints of its certificates.
    pub(super) certificates: Vec<[u8; 32]>,
    pub(super) name: String,
    pub(super) grants: Vec<GrantType>,
    pub(super) scopes: Scope,
    pub(super) audiences: Audience,
    pub(super) format: TokenFormat,
    pub(super) access_secs: Option<u64>,
    /// The longest life of opaque tokens that live on while they are used.
    pub(super) sliding_secs: Option<u64>,
    pub(super) refresh: RefreshPolicy,
    pub(super) pairs: PairPolicy,
    pub(super) introspects: Introspects,
    /// Whose tokens it may have.
    pub(super) permitted: PermittedUsers,
    /// Grant types for which it need not prove who it is.
    pub(super) secret_optional: Vec<GrantType>,
    pub(super) pkce_required: bool,
    pub(super) pushed_required: bool,
    /// Where its token requests may come from; anywhere when empty.
    pub(super) ip_ranges: Vec<IpRange>,
    pub(super) ip_relaxed_for_refresh: bool,
    pub(super) redirect_uris: Vec<String>,
    pub(super) logout_url: Option<String>,
    pub(super) post_logout_redirect_uris: Vec<String>,
    pub(super) blocked: bool,
    /// The client that registered it.
    pub(super) parent: Option<ClientId>,
    /// Whom its `client_credentials` tokens speak for, if not for itself.
    pub(super) run_as: Option<Subject>,
    /// Whether it may send what its users type on pages of its own.
    pub(super) code_credentials: bool,
    /// Whether it may have tokens of guests.
    pub(super) guests: bool,
    /// Handlers that its exchanges may go to, the one without a name first.
    pub(super) exchange_handlers: Vec<String>,
    pub(super) id_tokens: IdTokens,
    /// What its tokens must be bound to.
    pub(super) sender: SenderConstraint,
}

/// What its ID tokens are like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IdTokens {
    pub(super) secs: Option<u64>,
    /// Beside the client.
    pub(super) audiences: Audience,
    pub(super) claims: bool,
    pub(super) attributes: bool,
}

/// A draft in which nothing is wrong.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) id: ClientId,
    pub(super) settings: Settings,
    /// The secret that somebody chose.
    pub(super) secret: Option<SecretText>,
}

impl Settings {
    /// Those of a client that keeps a secret.
    pub(super) fn confidential() -> Settings {
        Settings {
            methods: vec![AuthMethod::ClientSecret],
            keys: None,
            certificates: Vec::new(),
            name: String::new(),
            grants: vec![GrantType::ClientCredentials, GrantType::RefreshToken],
            scopes: Scope::empty(),
            audiences: Audience::empty(),
            format: TokenFormat::Opaque,
            access_secs: None,
            sliding_secs: None,
            refresh: RefreshPolicy::fixed(),
            pairs: PairPolicy::Unlimited,
            introspects: Introspects::Own,
            permitted: PermittedUsers::SelfAuthorized,
            secret_optional: Vec::new(),
            pkce_required: true,
            pushed_required: false,
            ip_ranges: Vec::new(),
            ip_relaxed_for_refresh: false,
            redirect_uris: Vec::new(),
            logout_url: None,
            post_logout_redirect_uris: Vec::new(),
            blocked: false,
            parent: None,
            run_as: None,
            code_credentials: false,
            guests: false,
            exchange_handlers: Vec::new(),
            id_tokens: IdTokens {
                secs: None,
                audiences: Audience::empty(),
                claims: false,
                attributes: false,
            },
            sender: SenderConstraint::Offered,
        }
    }

    pub(super) fn is_confidential(&self) -> bool {
        !self.methods.contains(&AuthMethod::None)
    }

    /// Whether a secret belongs to it.
    pub(super) fn has_secret(&self) -> bool {
        self.methods.iter().any(|method| method.takes_secret())
    }

    /// Whether it signs with a key of its own.
    fn signs_with_key(&self) -> bool {
        self.methods.contains(&AuthMethod::PrivateKeyJwt)
            || self.grants.contains(&GrantType::JwtBearer)
    }

    /// Whether it signs with its secret, which must be kept for that.
    pub(super) fn signs_with_secret(&self) -> bool {
        self.methods.contains(&AuthMethod::ClientSecretJwt)
    }

    /// What is wrong with a secret that somebody chose.
    pub(super) fn no_secret(&self, secret: &SecretText) -> Option<&'static str> {
        let len = secret.expose().len();
        if !self.has_secret() {
            Some("its way to authenticate takes no secret")
        } else if !(CHOSEN_SECRET_LEN_MIN..=CLIENT_SECRET_LEN_MAX).contains(&len) {
            Some("its secret is too short or too long")
        } else {
            None
        }
    }

    /// What is wrong with how it authenticates.
    fn auth_problem(&self) -> Option<&'static str> {
        let has = |method| self.methods.contains(&method);
        if self.methods.is_empty() {
            Some("it has no way to authenticate")
        } else if has(AuthMethod::None) && self.methods.len() > 1 {
            Some("a public client has no other way to authenticate")
        } else if self.signs_with_key() != self.keys.is_some() {
            Some("private_key_jwt and jwt-bearer go with keys, and keys with them")
        } else if has(AuthMethod::SelfSignedTls) == self.certificates.is_empty() {
            Some("self_signed_tls_client_auth goes with certificates")
        } else if self.certificates.len() > CERTIFICATES_MAX {
            Some("it has too many certificates")
        } else {
            None
        }
    }

    /// What is wrong with them, if anything.
    pub(super) fn problem(&self) -> Option<&'static str> {
        let has = |grant| self.grants.contains(&grant);
        let confidential = self.is_confidential();
        if let Some(problem) = self.auth_problem().or_else(|| self.policy_problem()) {
            Some(problem)
        } else if self.access_secs.is_some_and(|secs| !(1..=ACCESS_SECS_MAX).contains(&secs)) {
            Some("its access lifetime is out of range")
        } else if let Some(problem) = self.sliding_problem() {
            Some(problem)
        } else if self.id_tokens.secs.is_some_and(|secs| !(1..=ID_TOKEN_SECS_MAX).contains(&secs)) {
            Some("the lifetime of its ID tokens is out of range")
        } else if self.name.len() > NAME_LEN_MAX {
            Some("its name is too long")
        } else if !confidential && has(GrantType::ClientCredentials) {
            // RFC 6749 section 4.4: "MUST only be used by confidential clients".
            Some("a public client cannot use client_credentials")
        } else if !confidential && self.may_be_stolen() && has(GrantType::RefreshToken) {
            // RFC 9700 section 2.2.2: sender-constrained or rotated for public clients.
            Some("refresh tokens of a public client must rotate")
        } else if self.pairs == PairPolicy::Newest(0) {
            Some("a pair needs room for one login")
        } else if matches!(self.pairs, PairPolicy::Reuse { .. }) && has(GrantType::RefreshToken) {
            Some("the pair policy reuse is for access tokens alone")
        } else {
            None
        }
    }

    /// What is wrong with its policies.
    fn policy_problem(&self) -> Option<&'static str> {
        let optional = |grant| self.secret_optional.contains(&grant);
        let listed = |subjects: &Vec<Subject>| subjects.len() > PERMITTED_SUBJECTS_MAX;
        if matches!(&self.permitted, PermittedUsers::Listed(subjects) if listed(subjects)) {
            Some("its list of subjects is too long")
        } else if self.ip_ranges.len() > IP_RANGES_MAX {
            Some("it has too many address ranges")
        } else if let Some(problem) = self.redirect_problem() {
            Some(problem)
        } else if self.exchange_handlers.len() > HANDLERS_OF_CLIENT_MAX
            || self.exchange_handlers.iter().any(|name| name.len() > HANDLER_NAME_LEN_MAX)
        {
            Some("it has too many handlers of exchanges, or one with a long name")
        } else if optional(GrantType::ClientCredentials) {
            // RFC 6749 section 4.4: "MUST only be used by confidential clients".
            Some("client_credentials needs a proof")
        } else if optional(GrantType::RefreshToken) && self.may_be_stolen() {
            Some("refresh tokens that are redeemed without a proof must rotate")
        } else if optional(GrantType::AuthorizationCode) && !self.pkce_required {
            Some("codes that are redeemed without a proof need PKCE")
        } else if self.logout_url.as_deref().is_some_and(|url| !is_https(url)) {
            Some("its logout URL is no https URL")
        } else {
            None
        }
    }
}

impl Settings {
    /// Whether a stolen refresh token could be used for good.
    fn may_be_stolen(&self) -> bool {
        !self.refresh.rotates && self.sender == SenderConstraint::Offered
    }

    /// What is wrong with its sessions that slide.
    fn sliding_problem(&self) -> Option<&'static str> {
        let longest = self.sliding_secs?;
        if !(60..=SLIDING_SECS_MAX).contains(&longest) {
            Some("the longest life of its sessions is out of range")
        } else if matches!(self.pairs, PairPolicy::Reuse { .. }) {
            Some("the pair policy reuse is for sessions of a fixed length")
        } else {
            None
        }
    }

    /// What is wrong with its redirect URIs.
    pub(super) fn redirect_problem(&self) -> Option<&'static str> {
        let [uris, after] = [&self.redirect_uris, &self.post_logout_redirect_uris];
        let all = || uris.iter().chain(after);
        if !all().all(|uri| is_redirect_uri(uri)) {
            Some("a redirect URI is malformed, or of a kind that may not be registered")
        } else if uris.len().max(after.len()) > REDIRECT_URIS_MAX {
            Some("it has too many redirect URIs")
        } else if [uris, after]
            .into_iter()
            .any(|uris| uris.iter().map(String::len).sum::<usize>() > REDIRECT_URIS_LEN_MAX)
        {
            Some("its redirect URIs are too long")
        } else {
            None
        }
    }
}

fn is_https(url: &str) -> bool {
    let rest = url.strip_prefix("https://").unwrap_or_default();
    let visible = url.bytes().all(|byte| byte.is_ascii_graphic());
    visible && !rest.is_empty() && !rest.starts_with('/') && url.len() <= URL_LEN_MAX
}
