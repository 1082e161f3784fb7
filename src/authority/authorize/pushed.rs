//! Pushed authorization requests (RFC 9126): the client hands its request over directly and
//! authenticated, and the browser carries a reference alone.
//!
//! A pushed request lies in the store as a code of the client itself does, under a body of its own
//! kind: it dies with everything that is revoked above its client.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::audience::Resources;
use super::super::audit::{Action, Asker, AuditEvent};
use super::super::client::{GrantType, RegisteredClient};
use super::super::client_auth::Caller;
use super::super::error::{Error, Reason};
use super::super::{Authority, Inner};
use super::request::{Authorization, AuthorizationError, AuthorizationRequest, Reference, Via};
use crate::codec::handle::HandleKind;
use crate::entropy::random;
use crate::ids::{ClientId, DeviceId, Subject};
use crate::locator::Locator;
use crate::secret::SecretBytes;
use crate::store::{
    CodeBirth, CodeOutcome, CodeUse, CodeView, Listing, Near, Outcome, Pair, Seq, Store, Ticket,
    Verb,
};

/// How long a pushed request may be used, in seconds: as long as a user takes to log in.
pub const PUSHED_SECS: u64 = 600;

const URN: &str = "urn:ietf:params:oauth:request_uri:";
/// Stands where a device of the client as its own subject would. There are several, so that the
/// requests of a client lie apart: each place has room for so many codes.
const PLACE: &str = "pushed authorization request ";
const PLACES: u8 = 16;

/// The answer to a pushed request: status 201 (RFC 9126 section 2.2).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pushed {
    /// The reference that the browser carries.
    pub request_uri: String,
    /// How long it may be used, in seconds.
    pub expires_in: u64,
}

/// The parameters of a pushed request, as they lie in the store.
#[derive(Serialize, Deserialize)]
struct Parameters {
    /// Tells it from the terms of a code.
    pushed: bool,
    response_type: Option<String>,
    response_mode: Option<String>,
    redirect_uri: Option<String>,
    scope: Option<String>,
    state: Option<String>,
    nonce: Option<String>,
    code_challenge: Option<String>,
    code_challenge_method: Option<String>,
    prompt: Option<String>,
    max_age: Option<String>,
    login_hint: Option<String>,
    immediate: Option<String>,
    resources: Vec<String>,
    dpop_jkt: Option<String>,
}

impl<S: Store> Authority<S> {
    /// Takes an authorization request from its client, checks it, and gives a reference for it.
    ///
    /// # Durability
    /// The ticket resolves when the request is on stable storage.
    ///
    /// # Errors
    /// [`Error::InvalidClient`] when the caller does not authenticate; [`Error::InvalidRequest`]
    /// for another client's `client_id`; [`Error::InvalidDpopProof`] and [`Error::UseDpopNonce`] for a
    /// proof that comes with it; and all that [`Authority::authorize`] refuses with;
    /// [`Error::TemporarilyUnavailable`].
    pub fn push(
        &self,
        request: &AuthorizationRequest<'_>,
        caller: &Caller,
    ) -> Ticket<Pushed, Error> {
        let admission = self.inner.store.admission();
        let grant = Some(GrantType::AuthorizationCode);
        self.inner.as_client(caller, Action::Push, grant, |client| {
            self.inner.push(admission, &client, request, caller)
        })
    }

    /// Checks an authorization request that names a pushed one: `client_id` and `request_uri`; other
    /// parameters of the browser count for nothing (RFC 9126 section 4). The reference is used up
    /// when it is approved, so that a user may load a page again.
    ///
    /// # Errors
    /// [`AuthorizationError`] without a redirect: [`Error::InvalidRequestUri`] for a reference that
    /// is unknown, expired, revoked, or another client's; as [`Authority::authorize`] else.
    pub fn authorize_pushed(
        &self,
        client_id: &str,
        request_uri: &str,
    ) -> Ticket<Authorization, AuthorizationError> {
        let admission = self.inner.store.admission();
        let refuse = |why| {
            let error = Error::InvalidRequestUri(Reason::new(why));
            let refused = Ticket::ready(Err(AuthorizationError::shown(error)));
            self.inner.audited(Action::Authorize, Asker::default, refused)
        };
        let Some(text) = request_uri.strip_prefix(URN) else {
            return refuse("no reference to a pushed request");
        };
        let Ok(handle) = self.inner.handles.parse(HandleKind::Code, text) else {
            return refuse("no reference to a pushed request");
        };
        let Ok(client_id) = ClientId::new(client_id) else { return refuse("malformed client_id") };
        let code = CodeUse { id: handle.locator.id, digest: handle.digest };
        let inner = Arc::clone(&self.inner);
        let page = inner.store.list(Listing::Code(code), None, 1);
        let asker = Asker::client(&client_id);
        let known = Ticket::slow(async move {
            let view = page.await?.code;
            inner.authorize_known(admission, &client_id, code, view)
        });
        self.inner.audited(Action::Authorize, || asker, known)
    }
}

impl<S: Store> Inner<S> {
    fn push(
        self: &Arc<Self>,
        admission: Seq,
        client: &RegisteredClient,
        request: &AuthorizationRequest<'_>,
        caller: &Caller,
    ) -> Result<Ticket<Pushed, Error>, Error> {
        let named = request.client_id.filter(|id| !id.is_empty());
        if named.is_some_and(|id| id != client.id.as_str()) {
            return Err(Error::InvalidRequest(Reason::new("another client's client_id")));
        }
        let mut request = AuthorizationRequest { client_id: Some(client.id.as_str()), ..*request };
        // RFC 9449 section 10.1: a proof that comes with the request binds the code to its key.
        let key = self.key_of_proof(caller)?;
        if let Some(key) = &key {
            if request.dpop_jkt.is_some_and(|named| named != key) {
                return Err(Error::InvalidDpopProof(Reason::new("another key than dpop_jkt")));
            }
            request.dpop_jkt = Some(key);
        }
        // Whatever is wrong with it is told to the client, now.
        self.authorize(admission, &request.without_empty(), Via::Push).map_err(Error::from)?;
        let body = serde_json::to_vec(&Parameters::of(&request.without_empty()))
            .map_err(|error| Error::ServerError(Reason::with("the request has no body", error)))?;
        let now = self.clock.read();
        let [n] = random::<1>(&*self.entropy)?;
        let pair = place(&client.id, n % PLACES)?;
        let id = self.store.draw(Near::Pair(&pair));
        let bucket = u32::try_from(now.unix.0 / 60).unwrap_or(u32::MAX);
        let secret = SecretBytes::new(random(&*self.entropy)?);
        let version = self.handles.current_version();
        let locator = Locator { class: 0, bucket, id };
        let (text, digest) = self.handle(version, HandleKind::Code, locator, &secret, None)?;
        let request_uri = format!("{URN}{}", text.expose());
        let birth = CodeBirth {
            pair,
            admission,
            now,
            id,
            digest,
            issued_at: now.unix,
            expires_at: now.unix.plus(PUSHED_SECS),
            body: Arc::from(body),
        };
        let born = self.store.apply(Verb::Code(Box::new(birth)));
        let (inner, client) = (Arc::clone(self), client.id.clone());
        Ok(born.and_then(move |outcome| match outcome? {
            Outcome::Code(CodeOutcome::Born) => {
                inner.tell(|| AuditEvent::of(Action::Push).client(&client));
                Ok(Pushed { request_uri, expires_in: PUSHED_SECS })
            }
            Outcome::Code(CodeOutcome::Refused) => {
                Err(Error::InvalidRequest(Reason::new("revoked meanwhile, or too long")))
            }
            _ => Err(Error::ServerError(Reason::new("the store answered another question"))),
        }))
    }

    fn authorize_known(
        &self,
        admission: Seq,
        client_id: &ClientId,
        code: CodeUse,
        view: Option<CodeView>,
    ) -> Result<Authorization, AuthorizationError> {
        let refuse = |why| AuthorizationError::shown(Error::InvalidRequestUri(Reason::new(why)));
        let view = view.filter(|view| view.live).ok_or_else(|| refuse("unknown or dead"))?;
        let parameters: Parameters =
            serde_json::from_slice(&view.body).map_err(|_| refuse("a code is no request"))?;
        if view.pair.client != *client_id || !parameters.pushed {
            return Err(refuse("another client's request"));
        }
        let reference = Reference { digest: code.digest, expires_at: view.expires_at };
        // I3: what comes of it derives from the push.
        let admission = admission.min(view.admission);
        self.authorize(admission, &parameters.request(client_id), Via::Reference(reference))
    }
}

/// Where pushed requests of a client lie.
fn place(client: &ClientId, n: u8) -> Result<Pair, Error> {
    let unusable = |error| Error::ServerError(Reason::with("client_id", error));
    Ok(Pair {
        client: client.clone(),
        subject: Subject::new(client).map_err(unusable)?,
        device: Some(DeviceId::new(format!("{PLACE}{n}")).map_err(unusable)?),
    })
}

impl Parameters {
    fn of(request: &AuthorizationRequest<'_>) -> Parameters {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Parameters {
            pushed: true,
            response_type: own(request.response_type),
            response_mode: own(request.response_mode),
            redirect_uri: own(request.redirect_uri),
            scope: own(request.scope),
            state: own(request.state),
            nonce: own(request.nonce),
            code_challenge: own(request.code_challenge),
            code_challenge_method: own(request.code_challenge_method),
            prompt: own(request.prompt),
            max_age: own(request.max_age),
            login_hint: own(request.login_hint),
            immediate: own(request.immediate),
            resources: request.resources.iter().map(str::to_owned).collect(),
            dpop_jkt: own(request.dpop_jkt),
        }
    }

    fn request<'a>(&'a self, client_id: &'a ClientId) -> AuthorizationRequest<'a> {
        AuthorizationRequest {
            client_id: Some(client_id.as_str()),
            response_type: self.response_type.as_deref(),
            response_mode: self.response_mode.as_deref(),
            redirect_uri: self.redirect_uri.as_deref(),
            scope: self.scope.as_deref(),
            state: self.state.as_deref(),
            nonce: self.nonce.as_deref(),
            code_challenge: self.code_challenge.as_deref(),
            code_challenge_method: self.code_challenge_method.as_deref(),
            prompt: self.prompt.as_deref(),
            max_age: self.max_age.as_deref(),
            login_hint: self.login_hint.as_deref(),
            immediate: self.immediate.as_deref(),
            resources: Resources::of(self.resources.iter().map(String::as_str)),
            dpop_jkt: self.dpop_jkt.as_deref(),
        }
    }
}
