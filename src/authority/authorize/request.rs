//! An authorization request: read, and checked against its client before anything is shown.
//!
//! What is wrong with the client or its redirect URI is shown on a page of the host, since nobody
//! knows where to send the browser; everything else is told to the client (RFC 6749 section 4.1.2.1).

use std::fmt;
use std::sync::Arc;

use super::super::audience::{Audience, Resources};
use super::super::audit::{Action, Asker};
use super::super::client::{GrantType, RegisteredClient};
use super::super::confirmation::Confirmation;
use super::super::error::{Cause, Error, Reason};
use super::super::identity::OPENID;
use super::super::issue::narrow_scope;
use super::super::profile::Profile;
use super::super::sender::SenderConstraint;
use super::super::{Authority, Inner};
use super::pkce::{self, Challenge};
use super::redirect::Redirect;
use super::response_type::ResponseType;
use super::step::Prompt;
use crate::ids::ClientId;
use crate::locator::Digest;
use crate::scope::Scope;
use crate::store::{PairPolicy, Seq, Store};
use crate::time::Timestamp;

/// The longest `state`, in bytes.
pub const STATE_LEN_MAX: usize = 2_048;
/// The longest `nonce`, in bytes.
pub const NONCE_LEN_MAX: usize = 512;

/// The parameters of an authorization request (RFC 6749 section 4.1.1, RFC 7636, OpenID Connect Core
/// section 3.1.2.1), decoded once. Unknown ones are left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuthorizationRequest<'a> {
    /// `response_type`.
    pub response_type: Option<&'a str>,
    /// `response_mode`: `query` or `fragment`.
    pub response_mode: Option<&'a str>,
    /// `client_id`.
    pub client_id: Option<&'a str>,
    /// `redirect_uri`.
    pub redirect_uri: Option<&'a str>,
    /// `scope`.
    pub scope: Option<&'a str>,
    /// `state`.
    pub state: Option<&'a str>,
    /// `nonce`.
    pub nonce: Option<&'a str>,
    /// `code_challenge`.
    pub code_challenge: Option<&'a str>,
    /// `code_challenge_method`.
    pub code_challenge_method: Option<&'a str>,
    /// `prompt`.
    pub prompt: Option<&'a str>,
    /// `max_age`.
    pub max_age: Option<&'a str>,
    /// `login_hint`.
    pub login_hint: Option<&'a str>,
    /// Salesforce's `immediate`: `true` is `prompt=none`.
    pub immediate: Option<&'a str>,
    /// `dpop_jkt`: the key that the code is bound to (RFC 9449 section 10).
    pub dpop_jkt: Option<&'a str>,
    /// `resource`, which may be repeated (RFC 8707).
    pub resources: Resources<'a>,
}

impl<'a> AuthorizationRequest<'a> {
    /// The request of a query or form.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for a parameter other than `resource` that is there twice (RFC 6749
    /// section 3.1: "Request and response parameters MUST NOT be included more than once").
    pub fn from_pairs(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<AuthorizationRequest<'a>, Error> {
        let mut request = AuthorizationRequest::default();
        for (name, value) in pairs {
            let place = match name {
                "response_type" => &mut request.response_type,
                "response_mode" => &mut request.response_mode,
                "client_id" => &mut request.client_id,
                "redirect_uri" => &mut request.redirect_uri,
                "scope" => &mut request.scope,
                "state" => &mut request.state,
                "nonce" => &mut request.nonce,
                "code_challenge" => &mut request.code_challenge,
                "code_challenge_method" => &mut request.code_challenge_method,
                "prompt" => &mut request.prompt,
                "max_age" => &mut request.max_age,
                "login_hint" => &mut request.login_hint,
                "immediate" => &mut request.immediate,
                "dpop_jkt" => &mut request.dpop_jkt,
                "resource" => {
                    request.resources = request.resources.and(value);
                    continue;
                }
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(Error::InvalidRequest(Reason::new("a parameter is there twice")));
            }
        }
        Ok(request)
    }

    /// "Parameters sent without a value MUST be treated as if they were omitted from the request."
    pub(in crate::authority) fn without_empty(self) -> AuthorizationRequest<'a> {
        let some = |text: Option<&'a str>| text.filter(|text| !text.is_empty());
        AuthorizationRequest {
            response_type: some(self.response_type),
            response_mode: some(self.response_mode),
            client_id: some(self.client_id),
            redirect_uri: some(self.redirect_uri),
            scope: some(self.scope),
            state: some(self.state),
            nonce: some(self.nonce),
            code_challenge: some(self.code_challenge),
            code_challenge_method: some(self.code_challenge_method),
            prompt: some(self.prompt),
            max_age: some(self.max_age),
            login_hint: some(self.login_hint),
            immediate: some(self.immediate),
            dpop_jkt: some(self.dpop_jkt),
            resources: self.resources,
        }
    }
}

/// Why an authorization request was refused, and where the browser goes with that.
#[derive(Clone)]
pub struct AuthorizationError {
    error: Error,
    redirect: Option<String>,
}

impl AuthorizationError {
    /// The refusal.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// The URL that the browser is sent to, which tells the client. `None`: show the refusal on a
    /// page, for the client or its redirect URI is what is wrong, and **send the browser nowhere**.
    #[must_use]
    pub fn redirect(&self) -> Option<&str> {
        self.redirect.as_deref()
    }

    pub(super) fn shown(error: Error) -> AuthorizationError {
        AuthorizationError { error, redirect: None }
    }
}

impl From<AuthorizationError> for Error {
    fn from(error: AuthorizationError) -> Error {
        error.error
    }
}

impl fmt::Display for AuthorizationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl fmt::Debug for AuthorizationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationError").field("error", &self.error).finish_non_exhaustive()
    }
}

impl std::error::Error for AuthorizationError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<crate::store::StoreError> for AuthorizationError {
    fn from(error: crate::store::StoreError) -> AuthorizationError {
        AuthorizationError::shown(error.into())
    }
}

/// An authorization request that was checked: its client is known, its redirect URI is the
/// client's, and it asks for nothing that the client may not have.
#[derive(Clone)]
pub struct Authorization {
    pub(super) admission: Seq,
    pub(in crate::authority) client: Arc<RegisteredClient>,
    pub(super) redirect: Redirect,
    pub(super) response: ResponseType,
    /// Whether the request named its redirect URI.
    pub(super) names_redirect: bool,
    pub(super) scope: Scope,
    pub(super) audience: Audience,
    pub(super) challenge: Option<Challenge>,
    pub(super) nonce: Option<String>,
    /// The key that the code is bound to.
    pub(super) dpop_jkt: Option<String>,
    pub(super) prompt: Prompt,
    pub(super) max_age: Option<u64>,
    pub(super) begun_at: Timestamp,
    login_hint: Option<String>,
    /// The pushed request that it came of.
    pub(super) reference: Option<Reference>,
    profile: Profile,
}

/// How a request came.
#[derive(Clone, Copy)]
pub(in crate::authority) enum Via {
    /// In the browser's own query.
    Browser,
    /// From the client, directly.
    Push,
    /// In the browser, by a reference to what was pushed.
    Reference(Reference),
}

/// A pushed request, which is approved once.
#[derive(Clone, Copy)]
pub(in crate::authority) struct Reference {
    pub(super) digest: Digest,
    pub(super) expires_at: Timestamp,
}

impl Authorization {
    /// The client that asks.
    #[must_use]
    pub fn client(&self) -> &RegisteredClient {
        &self.client
    }

    /// The scope that it asks for.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The audiences that it asks for.
    #[must_use]
    pub fn audience(&self) -> &Audience {
        &self.audience
    }

    /// Whom the client expects to log in.
    #[must_use]
    pub fn login_hint(&self) -> Option<&str> {
        self.login_hint.as_deref()
    }

    /// The URL for a user who does not agree (`access_denied`).
    #[must_use]
    pub fn deny(&self) -> String {
        self.refusal(&Error::AccessDenied(Reason::new("the user did not agree")))
    }

    /// The refusal, told to the client.
    pub(super) fn refused(&self, error: Error) -> AuthorizationError {
        let redirect = Some(self.refusal(&error));
        AuthorizationError { error, redirect }
    }

    fn refusal(&self, error: &Error) -> String {
        self.redirect.refusal(error, self.profile)
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorization")
            .field("client", self.client.client_id())
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

impl<S: Store> Authority<S> {
    /// Checks an authorization request, before anybody logs in.
    ///
    /// # Errors
    /// [`AuthorizationError`]: without a redirect for [`Error::InvalidClient`] (unknown or blocked
    /// client) and for [`Error::InvalidRequest`] (a redirect URI that is missing or not the
    /// client's); with one for [`Error::UnsupportedResponseType`], [`Error::UnauthorizedClient`],
    /// [`Error::InvalidScope`], [`Error::InvalidTarget`] and [`Error::InvalidRequest`].
    pub fn authorize(
        &self,
        request: &AuthorizationRequest<'_>,
    ) -> Result<Authorization, AuthorizationError> {
        // Noted before the subject and its grant are checked: a revocation in between outlives it.
        let admission = self.inner.store.admission();
        let checked = self.inner.authorize(admission, &request.without_empty(), Via::Browser);
        if let Err(refused) = &checked {
            let client = request.client_id.and_then(|id| ClientId::new(id).ok());
            let asker = Asker { client, address: None };
            self.inner.tell_refusal(Action::Authorize, &asker, refused.error());
        }
        checked
    }
}

impl<S: Store> Inner<S> {
    pub(in crate::authority) fn authorize(
        &self,
        admission: Seq,
        request: &AuthorizationRequest<'_>,
        via: Via,
    ) -> Result<Authorization, AuthorizationError> {
        let client = self.asking_client(request).map_err(AuthorizationError::shown)?;
        let uri = redirect_uri(&client, request).map_err(AuthorizationError::shown)?;
        let state = request.state.filter(|state| state.len() <= STATE_LEN_MAX);
        let redirect = Redirect {
            uri: uri.to_owned(),
            state: state.map(str::to_owned),
            issuer: Arc::clone(&self.issuer),
            in_fragment: is_in_fragment(request),
        };
        let must_push = client.settings.pushed_required && matches!(via, Via::Browser);
        let checked = match must_push {
            true => Err(Error::InvalidRequest(Reason::new("the request must be pushed"))),
            false => self.checked(admission, client, redirect.clone(), request),
        };
        let reference = match via {
            Via::Reference(reference) => Some(reference),
            Via::Browser | Via::Push => None,
        };
        let checked = checked.map(|checked| Authorization { reference, ..checked });
        checked.map_err(|error| {
            let redirect = Some(redirect.refusal(&error, self.profile));
            AuthorizationError { error, redirect }
        })
    }

    fn asking_client(
        &self,
        request: &AuthorizationRequest<'_>,
    ) -> Result<Arc<RegisteredClient>, Error> {
        let unknown =
            || Error::InvalidClient(Reason::new("unknown client").because(Cause::UnknownClient));
        let id = ClientId::new(request.client_id.unwrap_or_default()).map_err(|_| unknown())?;
        let client = self.clients.get(&id).ok_or_else(unknown)?;
        if client.is_blocked() {
            let reason = Reason::new("the client is blocked").because(Cause::Blocked);
            return Err(Error::InvalidClient(reason));
        }
        Ok(client)
    }

    /// What the answer will be made of, if the client may have that.
    fn response_type(
        &self,
        client: &RegisteredClient,
        request: &AuthorizationRequest<'_>,
    ) -> Result<ResponseType, Error> {
        let refuse = |why| Error::InvalidRequest(Reason::new(why));
        let unsupported = |why| Error::UnsupportedResponseType(Reason::new(why));
        let text = request.response_type.ok_or_else(|| refuse("no response_type"))?;
        let response =
            ResponseType::parse(text).ok_or_else(|| unsupported("unknown response_type"))?;
        if response.is_front() && !self.tokens_in_front {
            return Err(unsupported("no tokens through the browser"));
        }
        if response.hybrid && self.web_sessions.is_none() {
            return Err(unsupported("no web sessions"));
        }
        match request.response_mode {
            None | Some("fragment") => {}
            Some("query") if !response.is_front() => {}
            Some(_) => return Err(refuse("not with that response_mode")),
        }
        if response.code && !client.may_use(GrantType::AuthorizationCode) {
            return Err(Error::UnauthorizedClient(Reason::new("no authorization_code")));
        }
        if response.is_front() && !client.may_use(GrantType::Implicit) {
            return Err(Error::UnauthorizedClient(Reason::new("no implicit")));
        }
        if response.code && response.token && has_one_login(client.settings.pairs) {
            // The token and what the code gives are two logins of one pair.
            return Err(refuse("a code and a token for a client with one login a user"));
        }
        if response.token && client.settings.sender != SenderConstraint::Offered {
            return Err(refuse("nothing that comes through the browser is bound"));
        }
        if response.hybrid {
            self.check_hybrid(client)?;
        }
        Ok(response)
    }

    /// What is wrong from here on is told to the client.
    fn checked(
        &self,
        admission: Seq,
        client: Arc<RegisteredClient>,
        redirect: Redirect,
        request: &AuthorizationRequest<'_>,
    ) -> Result<Authorization, Error> {
        let refuse = |why| Error::InvalidRequest(Reason::new(why));
        if request.state.is_some_and(|state| state.len() > STATE_LEN_MAX) {
            return Err(refuse("the state is too long"));
        }
        let response = self.response_type(&client, request)?;
        let method = request.code_challenge_method;
        let challenge = pkce::challenge(request.code_challenge, method, self.profile)?;
        if response.code && challenge.is_none() && client.settings.pkce_required {
            return Err(refuse("no code_challenge"));
        }
        if request.nonce.is_some_and(|nonce| nonce.len() > NONCE_LEN_MAX) {
            return Err(refuse("the nonce is too long"));
        }
        if request.dpop_jkt.is_some_and(|jkt| !Confirmation::is_thumbprint(jkt)) {
            return Err(refuse("the dpop_jkt is no thumbprint"));
        }
        let mut prompt = Prompt::parse(request.prompt.unwrap_or_default())?;
        if request.immediate == Some("true") {
            prompt = Prompt { none: true, ..Prompt::default() };
        }
        let max_age = request.max_age.map(str::parse).transpose();
        let max_age = max_age.map_err(|_| refuse("the max_age is no number"))?;
        let scope = narrow_scope(request.scope, client.scopes(), self.profile)?;
        if response.id_token && !scope.has(OPENID) {
            return Err(refuse("an id_token without openid"));
        }
        // OpenID Connect Core sections 3.2.2.1 and 3.3.2.11.
        if response.id_token && request.nonce.is_none() {
            return Err(refuse("an id_token without a nonce"));
        }
        let audience = self.narrow_audience(request.resources.audience(None)?, &client)?;
        Ok(Authorization {
            admission,
            client,
            redirect,
            response,
            names_redirect: request.redirect_uri.is_some(),
            scope,
            audience,
            challenge,
            nonce: request.nonce.map(str::to_owned),
            dpop_jkt: request.dpop_jkt.map(str::to_owned),
            prompt,
            max_age,
            begun_at: self.clock.read().unix,
            login_hint: request.login_hint.map(str::to_owned),
            reference: None,
            profile: self.profile,
        })
    }
}

/// Whether a pair has one login at a time, so that a second one ends or is refused.
fn has_one_login(policy: PairPolicy) -> bool {
    match policy {
        PairPolicy::Replace | PairPolicy::Reject | PairPolicy::Newest(0 | 1) => true,
        PairPolicy::Unlimited | PairPolicy::Reuse { .. } | PairPolicy::Newest(_) => false,
    }
}

/// Where the answer stands: with tokens in it, in the fragment (OAuth 2.0 Multiple Response Types
/// section 5).
fn is_in_fragment(request: &AuthorizationRequest<'_>) -> bool {
    let response = request.response_type.and_then(ResponseType::parse);
    request.response_mode == Some("fragment") || response.is_some_and(ResponseType::is_front)
}

/// The redirect URI of a request: the one that it names, if it is the client's, or the client's only
/// one (RFC 6749 section 3.1.2.3).
fn redirect_uri<'r>(
    client: &'r RegisteredClient,
    request: &AuthorizationRequest<'r>,
) -> Result<&'r str, Error> {
    let refuse = |why, cause| Error::InvalidRequest(Reason::new(why).because(cause));
    match (request.redirect_uri, client.settings.redirect_uris.as_slice()) {
        (Some(uri), _) if client.has_redirect_uri(uri) => Ok(uri),
        (Some(_), _) => {
            Err(refuse("the redirect_uri is not the client's", Cause::RedirectMismatch))
        }
        (None, [only]) => Ok(only),
        (None, _) => Err(refuse("no redirect_uri", Cause::RedirectMissing)),
    }
}
