//! The JWT bearer grant (RFC 7523 section 2.1): a client signs whom it acts for, and no user is there to
//! ask.

use std::sync::Arc;

use super::Inner;
use super::audience::Audience;
use super::audit::{Action, Asker};
use super::builder::Builder;
use super::client::{GrantType, RegisteredClient};
use super::client_auth::{AuthMethod, Caller};
use super::error::{Cause, Error, Reason};
use super::granted::Granted;
use super::issue::narrow_granted;
use super::issued::Issued;
use super::lookup::ticket;
use super::profile::Profile;
use super::sender::Sender;
use super::token::{TokenRequest, without_refresh};
use crate::codec::assertion::{AssertionError, VerifiedAssertion};
use crate::ids::{ClientId, Subject};
use crate::scope::Scope;
use crate::store::{Seq, Store, Ticket};

/// How far ahead the assertion of a JWT bearer request may expire unless a host says otherwise, in
/// seconds.
pub const JWT_BEARER_SECS: u64 = 300;

impl Builder {
    /// How far ahead the assertion of a JWT bearer request may expire, in seconds; [`JWT_BEARER_SECS`]
    /// by default, at most [`ASSERTION_SECS_MAX`](super::ASSERTION_SECS_MAX). Salesforce takes 180.
    pub fn jwt_bearer_secs_max(mut self, secs: u64) -> Builder {
        self.flows.jwt_bearer_secs_max = secs;
        self
    }
}

impl<'a> TokenRequest<'a> {
    /// An access token for the subject that a client has signed an assertion for (RFC 7523 section 2.1).
    /// `iss` is the client, `sub` the subject, `aud` the issuer of the authority or another text that it
    /// takes ([`Builder::assertion_audiences`]); with [`Profile::Standard`] a `jti` is needed, and one
    /// that is there opens once. The client need not authenticate otherwise: [`Caller::nobody`] will do.
    ///
    /// The subject must have approved the client, in a login that still stands or by its owner's word
    /// ([`PermittedUsers`](super::PermittedUsers)); the scope is within that, and there is never a refresh
    /// token.
    pub fn jwt_bearer(assertion: &'a str, caller: &'a Caller) -> TokenRequest<'a> {
        TokenRequest::of(super::token::Grant::JwtBearer(assertion), caller)
    }
}

/// What a request asks for, once its assertion is known to be genuine.
struct Asked {
    admission: Seq,
    client: Arc<RegisteredClient>,
    subject: Subject,
    verified: VerifiedAssertion,
    scope: Option<String>,
    audience: Option<Audience>,
    sender: Sender,
}

impl<S: Store> Inner<S> {
    /// Of a client that is known by its assertion alone.
    pub(super) fn jwt_bearer(
        self: &Arc<Self>,
        admission: Seq,
        assertion: &str,
        request: &TokenRequest<'_>,
    ) -> Ticket<Issued, Error> {
        let caller = request.caller;
        let issued = match caller.client_id.clone() {
            Some(Err(error)) => {
                let reason = Reason::with("malformed client_id", error);
                Ticket::ready(Err(Error::InvalidClient(reason.because(Cause::UnknownClient))))
            }
            Some(Ok(named)) => ticket(self.by_bearer(admission, assertion, Some(&named), request)),
            None => ticket(self.by_bearer(admission, assertion, None, request)),
        };
        let asker = || Asker {
            client: caller.client_id.clone().and_then(Result::ok),
            address: caller.address,
        };
        self.audited(Action::Issue, asker, issued)
    }

    /// `named` is the client that the caller says, or has proved, to be.
    pub(super) fn by_bearer(
        self: &Arc<Self>,
        admission: Seq,
        assertion: &str,
        named: Option<&ClientId>,
        request: &TokenRequest<'_>,
    ) -> Result<Ticket<Issued, Error>, Error> {
        let (client, verified) = self.bearer(assertion, named, request.caller)?;
        if client.is_blocked() {
            let reason = Reason::new("the client is blocked").because(Cause::Blocked);
            return Err(Error::InvalidClient(reason));
        }
        client.check_address(request.caller.address, false)?;
        if !client.may_use(GrantType::JwtBearer) {
            return Err(Error::UnauthorizedClient(Reason::new("no jwt-bearer")));
        }
        let asked = Asked {
            admission,
            subject: self.bearer_subject(&verified)?,
            scope: request.scope.map(str::to_owned),
            audience: request.asked_audience()?,
            sender: self.sender(&client, request.caller)?,
            client,
            verified,
        };
        let (client, subject) = (Arc::clone(&asked.client), asked.subject.clone());
        self.approved_then(&client, &subject, move |inner, approved| {
            inner.bearer_approved(asked, &approved)
        })
    }

    /// The client that has signed an assertion. Whoever guesses at a client's keys waits as one who
    /// guesses at its secret does.
    fn bearer(
        &self,
        text: &str,
        named: Option<&ClientId>,
        caller: &Caller,
    ) -> Result<(Arc<RegisteredClient>, VerifiedAssertion), Error> {
        let assertion = self.bearer_assertions.read(text).map_err(refused)?;
        let said = assertion.said_issuer().ok_or(AssertionError::MissingClaim("iss"));
        let id = ClientId::new(said.map_err(refused)?)
            .map_err(|error| Error::InvalidGrant(Reason::with("iss is no client_id", error)))?;
        // RFC 7521 section 4.1: an optional client_id "MUST identify the same client".
        if named.is_some_and(|named| *named != id) {
            let reason = Reason::new("client_id is not that of the assertion");
            return Err(Error::InvalidGrant(reason.because(Cause::BadAssertion)));
        }
        let elapsed = || self.clock.read().elapsed;
        let guessed = || Some((id.clone(), AuthMethod::PrivateKeyJwt));
        let guesser = self.limiter.admit(guessed, caller.address, elapsed)?;
        let proven = self.bearer_of(&id, text);
        self.limiter.judged(guesser, proven.is_ok(), elapsed);
        proven
    }

    fn bearer_of(
        &self,
        id: &ClientId,
        text: &str,
    ) -> Result<(Arc<RegisteredClient>, VerifiedAssertion), Error> {
        let client = self.clients.get(id).ok_or_else(|| {
            Error::InvalidGrant(Reason::new("unknown client").because(Cause::UnknownClient))
        })?;
        let verifier = &self.bearer_assertions;
        let assertion = verifier.read(text).map_err(refused)?;
        if assertion.is_symmetric() {
            return Err(refused(AssertionError::AlgNotAllowed));
        }
        let now = self.clock.read().unix;
        let verified = self.signed_by(&client, verifier, assertion, text, now).map_err(refused)?;
        Ok((client, verified))
    }

    /// Whom it is for. Salesforce's clients once called it `prn`, and there that wins.
    fn bearer_subject(&self, verified: &VerifiedAssertion) -> Result<Subject, Error> {
        let named = match (self.profile, verified.principal(), verified.subject()) {
            (Profile::Salesforce, Some(principal), _) => principal,
            (Profile::Standard, Some(_), _) => {
                return Err(refused(AssertionError::BadClaim("prn")));
            }
            (_, None, Some(subject)) => subject,
            (_, None, None) => return Err(refused(AssertionError::MissingClaim("sub"))),
        };
        Subject::new(named).map_err(|error| {
            Error::InvalidGrant(Reason::with("sub", error).because(Cause::BadAssertion))
        })
    }

    fn bearer_approved(
        self: &Arc<Self>,
        asked: Asked,
        approved: &Scope,
    ) -> Result<Ticket<Issued, Error>, Error> {
        let Asked { admission, client, subject, verified, scope, audience, sender } = asked;
        let scope = narrow_granted(scope.as_deref(), approved, &client, self.profile)?;
        let scope = without_refresh(&scope)?;
        let audience = self.narrow_audience(audience, &client)?;
        let used = match verified.jti() {
            Some(jti) => {
                let issuer = client.client_id().as_str();
                Some(self.use_assertion(issuer, jti, verified.expires_at(), || {
                    let reason = Reason::new("the assertion was used before, or has expired");
                    Error::InvalidGrant(reason.because(Cause::JtiUsed))
                })?)
            }
            None if self.profile == Profile::Salesforce => None,
            None => return Err(refused(AssertionError::MissingClaim("jti"))),
        };
        let born = self.give_birth(Granted::access(
            admission,
            client,
            subject,
            (scope, audience),
            sender,
        ))?;
        Ok(match used {
            None => born,
            // After a crash nobody gets a second token for one assertion.
            Some(used) => Ticket::slow(async move {
                used.await?;
                born.await
            }),
        })
    }
}

/// RFC 7521 section 4.1.1: "If the assertion is not valid or has expired [...] the value of the "error"
/// parameter MUST be the "invalid_grant" error code."
fn refused(error: AssertionError) -> Error {
    let cause = match error {
        AssertionError::WrongAudience => Cause::WrongAudience,
        _ => Cause::BadAssertion,
    };
    Error::InvalidGrant(Reason::with("assertion", error).because(cause))
}
