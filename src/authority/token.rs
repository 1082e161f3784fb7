//! The token endpoint (RFC 6749 section 3.2) without HTTP: a request from a client, tokens or a
//! refusal.

use std::fmt;
use std::sync::Arc;

use super::audience::{Audience, Resources};
use super::audit::Action;
use super::client::{GrantType, REFRESH_SCOPES, RegisteredClient};
use super::client_auth::Caller;
use super::error::{Cause, Error, Reason};
use super::exchange::Exchange;
use super::granted::Granted;
use super::issue::narrow_scope;
use super::issued::{Issued, SalesforceFields};
use super::profile::Profile;
use super::{Authority, Inner};
use crate::ids::Subject;
use crate::scope::Scope;
use crate::secret::SecretText;
use crate::store::{Batch, Seq, Store, Ticket};

/// What a client asks the authority for.
#[derive(Clone, Copy)]
#[must_use = "nothing is asked for until the authority gets it"]
pub struct TokenRequest<'a> {
    pub(super) grant: Grant<'a>,
    pub(super) caller: &'a Caller,
    pub(super) scope: Option<&'a str>,
    pub(super) audience: Option<&'a str>,
    pub(super) resources: Resources<'a>,
    pub(super) redirect_uri: Option<&'a str>,
    pub(super) verifier: Option<&'a str>,
    /// The visitor that a guest's code is of.
    pub(super) uvid_hint: Option<&'a str>,
    /// Whether web sessions come with it.
    pub(super) hybrid: bool,
}

#[derive(Clone, Copy)]
pub(super) enum Grant<'a> {
    ClientCredentials,
    Code(&'a str),
    Refresh(&'a str),
    JwtBearer(&'a str),
    Device(&'a str),
    Exchange(Exchange<'a>),
    Password(&'a str, &'a str),
}

impl Grant<'_> {
    fn grant_type(self) -> GrantType {
        match self {
            Grant::ClientCredentials => GrantType::ClientCredentials,
            Grant::Code(_) => GrantType::AuthorizationCode,
            Grant::Refresh(_) => GrantType::RefreshToken,
            Grant::JwtBearer(_) => GrantType::JwtBearer,
            Grant::Device(_) => GrantType::DeviceCode,
            Grant::Exchange(_) => GrantType::TokenExchange,
            Grant::Password(..) => GrantType::Password,
        }
    }
}

impl<'a> TokenRequest<'a> {
    /// An access token for the client itself (RFC 6749 section 4.4). Its subject is the client id, or
    /// whom the client runs as ([`Client::run_as`](super::Client::run_as), which
    /// [`Profile::Salesforce`] demands), and there is never a refresh token with it.
    pub fn client_credentials(caller: &'a Caller) -> TokenRequest<'a> {
        TokenRequest::of(Grant::ClientCredentials, caller)
    }

    /// A fresh access token for a refresh token (RFC 6749 section 6). Where the client's refresh
    /// tokens rotate, the presented one is spent and its successor comes with the answer; asked
    /// again after a lost answer, it gives the same tokens.
    pub fn refresh(refresh_token: &'a str, caller: &'a Caller) -> TokenRequest<'a> {
        TokenRequest::of(Grant::Refresh(refresh_token), caller)
    }

    /// Tokens for an authorization code (RFC 6749 section 4.1.3). A code is redeemed once; presented
    /// again by its client, with what it is bound to, it ends what it gave.
    pub fn code(code: &'a str, caller: &'a Caller) -> TokenRequest<'a> {
        TokenRequest::of(Grant::Code(code), caller)
    }

    /// As [`TokenRequest::code`], with the identifiers of web sessions (Salesforce's
    /// `hybrid_auth_code`).
    pub fn hybrid_code(code: &'a str, caller: &'a Caller) -> TokenRequest<'a> {
        TokenRequest { hybrid: true, ..TokenRequest::code(code, caller) }
    }

    /// As [`TokenRequest::refresh`], with the identifiers of web sessions (Salesforce's
    /// `hybrid_refresh`). It takes the refresh tokens of every flow.
    pub fn hybrid_refresh(refresh_token: &'a str, caller: &'a Caller) -> TokenRequest<'a> {
        TokenRequest { hybrid: true, ..TokenRequest::refresh(refresh_token, caller) }
    }

    pub(super) fn of(grant: Grant<'a>, caller: &'a Caller) -> TokenRequest<'a> {
        TokenRequest {
            grant,
            caller,
            scope: None,
            audience: None,
            resources: Resources::default(),
            redirect_uri: None,
            verifier: None,
            uvid_hint: None,
            hybrid: false,
        }
    }

    /// The `redirect_uri` of the authorization request: required if that named one.
    pub fn redirect_uri(self, uri: &'a str) -> TokenRequest<'a> {
        TokenRequest { redirect_uri: Some(uri).filter(|uri| !uri.is_empty()), ..self }
    }

    /// The `code_verifier` (RFC 7636 section 4.5).
    pub fn code_verifier(self, verifier: &'a str) -> TokenRequest<'a> {
        TokenRequest { verifier: Some(verifier).filter(|text| !text.is_empty()), ..self }
    }

    /// The visitor whose code it is, as the header `Uvid-Hint` has it here: the id alone.
    pub fn uvid_hint(self, uvid: &'a str) -> TokenRequest<'a> {
        TokenRequest { uvid_hint: Some(uvid), ..self }
    }

    /// The scope, space-delimited, within what was granted; all of it by default. RFC 6749 section
    /// 3.1: "Parameters sent without a value MUST be treated as if they were omitted".
    pub fn scope(self, scope: &'a str) -> TokenRequest<'a> {
        TokenRequest { scope: Some(scope).filter(|scope| !scope.is_empty()), ..self }
    }

    /// The audience, space-delimited, within what was granted; all of it by default.
    pub fn audience(self, audience: &'a str) -> TokenRequest<'a> {
        TokenRequest { audience: Some(audience), ..self }
    }

    /// One more resource (RFC 8707), an absolute URI: an audience, as those that
    /// [`TokenRequest::audience`] names.
    pub fn resource(self, uri: &'a str) -> TokenRequest<'a> {
        TokenRequest { resources: self.resources.and(uri), ..self }
    }

    pub(super) fn asked_audience(&self) -> Result<Option<Audience>, Error> {
        self.resources.audience(self.audience)
    }
}

impl fmt::Debug for TokenRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grant = self.grant.grant_type().name();
        write!(f, "TokenRequest({grant} of {:?})", self.caller)
    }
}

impl<S: Store> Authority<S> {
    /// Answers a token request.
    ///
    /// # Durability
    /// The ticket resolves when the tokens, and the spending of a refresh token, are on stable
    /// storage; a replay is answered when its family's death is. Dropping the ticket undoes nothing;
    /// with a remote signing key ([`SigningKey::remote`](crate::codec::keys::SigningKey::remote)), a
    /// ticket of a JWT that is dropped before the signature is there leaves nothing and spends nothing.
    ///
    /// # Errors
    /// [`Error::InvalidClient`] when the caller does not authenticate;
    /// [`Error::UnauthorizedClient`] when it may not use the grant type; [`Error::InvalidGrant`] for
    /// a refresh token that is unknown, expired, revoked, another client's or replayed;
    /// [`Error::InvalidScope`] and [`Error::InvalidTarget`] for more than was granted;
    /// [`Error::InvalidDpopProof`] and [`Error::UseDpopNonce`] for what is wrong with the proof of a key;
    /// [`Error::AccessDenied`] when the pair is taken, and for a request from outside the client's
    /// address ranges; [`Error::TooManyRequests`] beyond what the limits allow; [`Error::ServerError`]
    /// when a remote key has not signed, or the ID token would be too long, and then nothing is born or
    /// spent; [`Error::TemporarilyUnavailable`] when the store cannot do it or cannot say whether it did.
    pub fn token(&self, request: &TokenRequest<'_>) -> Ticket<Issued, Error> {
        // Noted before the client is authenticated: a revocation in between outlives this request.
        let admission = self.inner.store.admission();
        let grant = request.grant.grant_type();
        let action = match grant {
            GrantType::RefreshToken => Action::Redeem,
            _ => Action::Issue,
        };
        let inner = &self.inner;
        let issued = match request.grant {
            Grant::JwtBearer(assertion) if !request.caller.proves() => {
                inner.jwt_bearer(admission, assertion, request)
            }
            _ => inner.as_client(request.caller, action, Some(grant), |client| {
                inner.token(admission, client, request)
            }),
        };
        let issued = match inner.profile {
            Profile::Standard => issued,
            Profile::Salesforce => {
                let (inner, caller) = (Arc::clone(inner), request.caller.clone());
                issued.and_then(move |issued: Result<Issued, Error>| {
                    Ok(inner.as_salesforce_does(issued?, inner.secret_of(&caller).as_ref()))
                })
            }
        };
        match request.hybrid {
            false => issued,
            true => {
                let inner = Arc::clone(inner);
                // Nobody gets sessions for tokens that are not there.
                Ticket::slow(async move { inner.with_web_session(issued.await?).await })
            }
        }
    }

    /// Answers many token requests, in their order, as [`Authority::token`] would one by one: each
    /// has an answer of its own, and one that is refused stops no other. One wait is enough for all.
    pub fn token_many<'a>(
        &self,
        requests: impl IntoIterator<Item = TokenRequest<'a>>,
    ) -> Batch<Issued, Error> {
        // The iterator is foreign code, and may take its time.
        let requests: Vec<TokenRequest<'_>> = requests.into_iter().collect();
        let answer = || requests.iter().map(|request| self.token(request)).collect();
        Batch::of(self.inner.store.together(answer))
    }
}

impl<S: Store> Inner<S> {
    pub(super) fn as_salesforce_does(&self, issued: Issued, secret: Option<&SecretText>) -> Issued {
        let api = self.api_instance_url.as_ref();
        let fields = SalesforceFields::of(&issued, secret, api);
        Issued { salesforce: Some(fields), ..issued }
    }

    fn token(
        self: &Arc<Self>,
        admission: Seq,
        client: Arc<RegisteredClient>,
        request: &TokenRequest<'_>,
    ) -> Result<Ticket<Issued, Error>, Error> {
        let is_refresh = request.grant.grant_type() == GrantType::RefreshToken;
        client.check_address(request.caller.address, is_refresh)?;
        if request.hybrid {
            let grant =
                if is_refresh { GrantType::HybridRefresh } else { GrantType::HybridAuthCode };
            if !client.may_use(grant) {
                return Err(Error::UnauthorizedClient(Reason::new("no hybrid grant")));
            }
            self.check_hybrid(&client)?;
        }
        match request.grant {
            Grant::ClientCredentials => self.client_credentials(admission, client, request),
            Grant::Code(code) => self.redeem_code(admission, client, code, request),
            Grant::Refresh(token) => self.refresh(admission, client, token, request),
            Grant::Exchange(exchange) => self.exchange(admission, client, &exchange, request),
            Grant::Password(name, password) => {
                self.password(admission, client, (name, password), request)
            }
            Grant::Device(code) => self.redeem_device(admission, client, code, request),
            Grant::JwtBearer(assertion) => {
                self.by_bearer(admission, assertion, Some(client.client_id()), request)
            }
        }
    }

    fn client_credentials(
        self: &Arc<Self>,
        admission: Seq,
        client: Arc<RegisteredClient>,
        request: &TokenRequest<'_>,
    ) -> Result<Ticket<Issued, Error>, Error> {
        if !client.may_use(GrantType::ClientCredentials) {
            return Err(Error::UnauthorizedClient(Reason::new("no client_credentials")));
        }
        let asked = narrow_scope(request.scope, client.scopes(), self.profile)?;
        let scope = without_refresh(&asked)?;
        let audience = self.narrow_audience(request.asked_audience()?, &client)?;
        let subject = match &client.settings.run_as {
            Some(subject) => subject.clone(),
            None if self.profile == Profile::Salesforce => {
                let reason = Reason::new("no subject to run as").because(Cause::NoRunAs);
                return Err(Error::UnauthorizedClient(reason));
            }
            None => Subject::new(client.client_id())
                .map_err(|error| Error::ServerError(Reason::with("subject", error)))?,
        };
        let sender = self.sender(&client, request.caller)?;
        self.give_birth(Granted::access(admission, client, subject, (scope, audience), sender))
    }
}

/// RFC 6749 section 4.4.3: "A refresh token SHOULD NOT be included", so the scope does not promise
/// one.
pub(super) fn without_refresh(scope: &Scope) -> Result<Scope, Error> {
    if !scope.tokens().any(|token| REFRESH_SCOPES.contains(&token)) {
        return Ok(scope.clone());
    }
    let kept: Vec<&str> = scope.tokens().filter(|t| !REFRESH_SCOPES.contains(t)).collect();
    Scope::parse(&kept.join(" ")).map_err(|error| Error::ServerError(Reason::with("scope", error)))
}
