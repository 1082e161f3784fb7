//! What an authority refuses with: the OAuth wire codes on top, a private reason below.
//!
//! A client is shown `code`, `status` and a constant description, all from one table. The reason
//! tells an operator more than a stranger may know, so it goes to `tracing` and never to a client.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::profile::{Profile, salesforce};
use crate::entropy::EntropyError;
use crate::store::StoreError;

/// After how long a store that is busy is worth asking again.
const BUSY_FOR: Duration = Duration::from_secs(1);

/// Why, for the operator. It is traced when it is made and never shown in [`Error`]'s `Display`.
#[derive(Clone, Debug)]
pub struct Reason {
    text: &'static str,
    source: Option<Arc<dyn StdError + Send + Sync>>,
    cause: Cause,
}

/// Causes that a profile has words of its own for. The words of the RFCs do not tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Other,
    UnknownClient,
    BasicHeader,
    AssertionType,
    JtiUsed,
    Blocked,
    NotAdminApproved,
    NoRunAs,
    RedirectMismatch,
    RedirectMissing,
    Immediate,
    WrongVerifier,
    DeadCode,
    RegistrationLimit,
    WrongOrganization,
    UnknownUser,
    HybridRotation,
    NothingToRevoke,
    NotApproved,
    BadAssertion,
    WrongAudience,
    HandlerRefused,
    BadExchange,
    WrongPassword,
    WrongPasscode,
    BadHeaders,
    BadUvid,
}

impl Reason {
    pub(super) fn new(text: &'static str) -> Reason {
        tracing::debug!(reason = text, "refused");
        Reason { text, source: None, cause: Cause::Other }
    }

    pub(super) fn with(
        text: &'static str,
        source: impl StdError + Send + Sync + 'static,
    ) -> Reason {
        tracing::debug!(reason = text, source = %source, "refused");
        Reason { text, source: Some(Arc::new(source)), cause: Cause::Other }
    }

    pub(super) fn because(self, cause: Cause) -> Reason {
        Reason { cause, ..self }
    }

    pub(super) fn cause(&self) -> Cause {
        self.cause
    }

    /// The reason in words. Not for a client.
    #[must_use]
    pub fn text(&self) -> &'static str {
        self.text
    }
}

/// Why an authority refused. The variants are the OAuth error codes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The request is malformed (RFC 6749 section 5.2).
    InvalidRequest(Reason),
    /// The client is unknown or did not authenticate (RFC 6749 section 5.2).
    InvalidClient(Reason),
    /// The code or refresh token is invalid, expired, revoked or another client's (RFC 6749 section
    /// 5.2).
    InvalidGrant(Reason),
    /// The client may not use this grant type (RFC 6749 section 5.2).
    UnauthorizedClient(Reason),
    /// The authority does not know this grant type (RFC 6749 section 5.2).
    UnsupportedGrantType(Reason),
    /// The authority does not know this response type (RFC 6749 section 4.1.2.1).
    UnsupportedResponseType(Reason),
    /// The `request_uri` is unknown, expired, used or another client's (RFC 9101 section 6.3).
    InvalidRequestUri(Reason),
    /// The user must log in, and nothing may be shown (OpenID Connect Core section 3.1.2.6).
    LoginRequired(Reason),
    /// The user must consent, and nothing may be shown (OpenID Connect Core section 3.1.2.6).
    ConsentRequired(Reason),
    /// The scope is malformed or exceeds what was granted (RFC 6749 section 5.2).
    InvalidScope(Reason),
    /// The audience is malformed or exceeds what was granted (RFC 8707 section 2).
    InvalidTarget(Reason),
    /// A policy forbids it (RFC 6749 section 4.1.2.1).
    AccessDenied(Reason),
    /// The access token is malformed, expired, revoked or foreign (RFC 6750 section 3.1).
    InvalidToken(Reason),
    /// The access token lacks a scope (RFC 6750 section 3.1).
    InsufficientScope(Reason),
    /// The proof of a key is missing, malformed, for another request, too old or used before (RFC 9449
    /// section 5).
    InvalidDpopProof(Reason),
    /// The proof of a key must be made again with this nonce, which goes into the header `DPoP-Nonce`
    /// (RFC 9449 section 8).
    UseDpopNonce(Reason, Arc<str>),
    /// The user of a device has not decided yet: ask again (RFC 8628 section 3.5).
    AuthorizationPending(Reason),
    /// The same, for a device that asks too often: wait five seconds more from now on (RFC 8628 section
    /// 3.5).
    SlowDown(Reason),
    /// The device code has expired (RFC 8628 section 3.5).
    ExpiredToken(Reason),
    /// A redirect URI may not be registered (RFC 7591 section 3.2.2).
    InvalidRedirectUri(Reason),
    /// The client metadata is unusable (RFC 7591 section 3.2.2).
    InvalidClientMetadata(Reason),
    /// More was asked for than [`Limits`](super::Limits) allow; how long to wait (RFC 6585 section 4). So
    /// is refused whatever gives birth to an access token, and for a client's callers that failed too
    /// often whatever authenticates a client. A code, a refresh token or a proof of a key that was
    /// presented is as it was; an assertion is used up once its client was authenticated.
    TooManyRequests(Reason, Duration),
    /// The store cannot do it now, or cannot say whether it did: never an OAuth refusal.
    TemporarilyUnavailable(StoreError),
    /// Something inside failed, such as the source of randomness or a signer.
    ServerError(Reason),
}

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The error code on the wire (`error`).
    pub code: &'static str,
    /// The HTTP status that goes with it.
    pub status: u16,
    /// The public description (`error_description`).
    pub description: &'static str,
}

impl Error {
    /// The error code on the wire.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.standard().code
    }

    /// The HTTP status that goes with it.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.standard().status
    }

    /// The public description, constant for each code: it tells unknown, expired, revoked and
    /// foreign tokens apart for nobody.
    #[must_use]
    pub fn description(&self) -> &'static str {
        self.standard().description
    }

    /// The private reason, where there is one. Not for a client.
    #[must_use]
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Error::InvalidRequest(reason)
            | Error::InvalidClient(reason)
            | Error::InvalidGrant(reason)
            | Error::UnauthorizedClient(reason)
            | Error::UnsupportedGrantType(reason)
            | Error::UnsupportedResponseType(reason)
            | Error::InvalidRequestUri(reason)
            | Error::LoginRequired(reason)
            | Error::ConsentRequired(reason)
            | Error::InvalidScope(reason)
            | Error::InvalidTarget(reason)
            | Error::AccessDenied(reason)
            | Error::InvalidToken(reason)
            | Error::InsufficientScope(reason)
            | Error::InvalidRedirectUri(reason)
            | Error::InvalidClientMetadata(reason)
            | Error::InvalidDpopProof(reason)
            | Error::AuthorizationPending(reason)
            | Error::SlowDown(reason)
            | Error::ExpiredToken(reason)
            | Error::UseDpopNonce(reason, _)
            | Error::TooManyRequests(reason, _)
            | Error::ServerError(reason) => Some(reason),
            Error::TemporarilyUnavailable(_) => None,
        }
    }

    /// The nonce for the header `DPoP-Nonce`, where the client must use it.
    #[must_use]
    pub fn dpop_nonce(&self) -> Option<&str> {
        match self {
            Error::UseDpopNonce(_, nonce) => Some(nonce),
            _ => None,
        }
    }

    /// After how long the same request may succeed, where that is known (`Retry-After`, RFC 9110
    /// section 10.2.3, in whole seconds rounded up).
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::TooManyRequests(_, wait) => Some(*wait),
            Error::TemporarilyUnavailable(StoreError::Busy | StoreError::Unavailable) => {
                Some(BUSY_FOR)
            }
            _ => None,
        }
    }

    /// Code, status and description under a profile.
    #[must_use]
    pub fn answer(&self, profile: Profile) -> Answer {
        match profile {
            Profile::Standard => self.standard(),
            Profile::Salesforce => salesforce(self),
        }
    }

    fn standard(&self) -> Answer {
        let (code, status, description) = match self {
            Error::InvalidRequest(_) => ("invalid_request", 400, "the request is malformed"),
            Error::InvalidClient(_) => ("invalid_client", 401, "client authentication failed"),
            Error::InvalidGrant(_) => ("invalid_grant", 400, "the grant is invalid"),
            Error::UnauthorizedClient(_) => {
                ("unauthorized_client", 400, "the client may not use this grant type")
            }
            Error::UnsupportedGrantType(_) => {
                ("unsupported_grant_type", 400, "the grant type is not supported")
            }
            Error::UnsupportedResponseType(_) => {
                ("unsupported_response_type", 400, "the response type is not supported")
            }
            Error::InvalidRequestUri(_) => {
                ("invalid_request_uri", 400, "the pushed request is invalid")
            }
            Error::LoginRequired(_) => ("login_required", 400, "the user must log in"),
            Error::ConsentRequired(_) => ("consent_required", 400, "the user must consent"),
            Error::InvalidScope(_) => ("invalid_scope", 400, "the scope exceeds what was granted"),
            Error::InvalidTarget(_) => {
                ("invalid_target", 400, "the audience exceeds what was granted")
            }
            Error::AccessDenied(_) => ("access_denied", 403, "a policy forbids it"),
            Error::InvalidToken(_) => ("invalid_token", 401, "the access token is invalid"),
            Error::InsufficientScope(_) => {
                ("insufficient_scope", 403, "the access token lacks a scope")
            }
            Error::InvalidDpopProof(_) => ("invalid_dpop_proof", 400, "the DPoP proof is invalid"),
            Error::UseDpopNonce(..) => ("use_dpop_nonce", 400, "the DPoP proof needs a nonce"),
            Error::AuthorizationPending(_) => {
                ("authorization_pending", 400, "the user has not decided yet")
            }
            Error::SlowDown(_) => ("slow_down", 400, "wait five seconds more between requests"),
            Error::ExpiredToken(_) => ("expired_token", 400, "the device code has expired"),
            Error::InvalidRedirectUri(_) => {
                ("invalid_redirect_uri", 400, "a redirect URI may not be registered")
            }
            Error::InvalidClientMetadata(_) => {
                ("invalid_client_metadata", 400, "the client metadata is unusable")
            }
            // The code is that of RFC 6749 section 4.1.2.1; only the status tells why.
            Error::TooManyRequests(..) => ("temporarily_unavailable", 429, "too many requests"),
            Error::TemporarilyUnavailable(_) => {
                ("temporarily_unavailable", 503, "try again shortly")
            }
            Error::ServerError(_) => ("server_error", 500, "the request could not be completed"),
        };
        Answer { code, status, description }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code(), self.description())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Error::TemporarilyUnavailable(error) => Some(error),
            other => other.reason()?.source.as_deref().map(|source| source as _),
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Error {
        tracing::warn!(%error, "the store refused");
        Error::TemporarilyUnavailable(error)
    }
}

impl From<EntropyError> for Error {
    fn from(error: EntropyError) -> Error {
        Error::ServerError(Reason::with("no randomness", error))
    }
}

/// Why an authority cannot be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// A setting is unusable; the text says which.
    Setting(&'static str),
    /// The store cannot be opened, or holds what cannot be read.
    Store(StoreError),
    /// The root key cannot open what the store holds sealed.
    WrongKey {
        /// What could not be opened.
        what: &'static str,
    },
    /// A document of the store is none that this version wrote.
    Document {
        /// What kind of document.
        what: &'static str,
    },
    /// No randomness for the first signing key.
    Entropy(EntropyError),
    /// A signing key could not be made or read.
    Key(Arc<dyn StdError + Send + Sync>),
    /// A remote key was given that is none of the store's: import it, or leave it out.
    UnknownRemoteKey {
        /// Its `kid`.
        kid: Box<str>,
    },
    /// The key that signs is a remote one, and no signer was given for it.
    NoSigner {
        /// Its `kid`.
        kid: Box<str>,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Setting(what) => write!(f, "unusable setting: {what}"),
            OpenError::Store(_) => f.write_str("the store cannot be opened"),
            OpenError::WrongKey { what } => {
                write!(f, "wrong root key: it does not open {what}; give the key of this store")
            }
            OpenError::Document { what } => {
                write!(f, "the store holds a {what} that this version cannot read")
            }
            OpenError::Entropy(_) => f.write_str("no signing key could be drawn"),
            OpenError::Key(_) => f.write_str("a signing key cannot be used"),
            OpenError::UnknownRemoteKey { kid } => {
                write!(f, "the store has no remote key {kid}: import it once it is open")
            }
            OpenError::NoSigner { kid } => {
                write!(f, "the signing key {kid} is a remote one: give its signer to remote_key")
            }
        }
    }
}

impl StdError for OpenError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            OpenError::Store(error) => Some(error),
            OpenError::Entropy(error) => Some(error),
            OpenError::Key(error) => Some(error.as_ref()),
            _ => None,
        }
    }
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> OpenError {
        OpenError::Store(error)
    }
}

impl From<EntropyError> for OpenError {
    fn from(error: EntropyError) -> OpenError {
        OpenError::Entropy(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_never_sees_the_reason() {
        let error = Error::InvalidGrant(Reason::new("replayed"));
        assert_eq!(error.to_string(), "invalid_grant: the grant is invalid");
        assert_eq!(error.reason().map(Reason::text), Some("replayed"));
    }

    #[test]
    fn store_trouble_is_never_an_oauth_refusal() {
        let error = Error::from(StoreError::Busy);
        assert_eq!((error.code(), error.status()), ("temporarily_unavailable", 503));
        assert!(error.source().is_some());
        assert_eq!(error.retry_after(), Some(BUSY_FOR));
    }

    #[test]
    fn codes_and_statuses_are_those_of_the_rfcs() {
        let reason = || Reason::new("test");
        let table = [
            (Error::InvalidRequest(reason()), "invalid_request", 400),
            (Error::InvalidClient(reason()), "invalid_client", 401),
            (Error::InvalidGrant(reason()), "invalid_grant", 400),
            (Error::UnauthorizedClient(reason()), "unauthorized_client", 400),
            (Error::UnsupportedGrantType(reason()), "unsupported_grant_type", 400),
            (Error::UnsupportedResponseType(reason()), "unsupported_response_type", 400),
            (Error::InvalidRequestUri(reason()), "invalid_request_uri", 400),
            (Error::LoginRequired(reason()), "login_required", 400),
            (Error::ConsentRequired(reason()), "consent_required", 400),
            (Error::InvalidScope(reason()), "invalid_scope", 400),
            (Error::InvalidTarget(reason()), "invalid_target", 400),
            (Error::AccessDenied(reason()), "access_denied", 403),
            (Error::InvalidToken(reason()), "invalid_token", 401),
            (Error::InsufficientScope(reason()), "insufficient_scope", 403),
            (Error::InvalidRedirectUri(reason()), "invalid_redirect_uri", 400),
            (Error::InvalidClientMetadata(reason()), "invalid_client_metadata", 400),
            (Error::InvalidDpopProof(reason()), "invalid_dpop_proof", 400),
            (Error::UseDpopNonce(reason(), Arc::from("n")), "use_dpop_nonce", 400),
            (Error::AuthorizationPending(reason()), "authorization_pending", 400),
            (Error::SlowDown(reason()), "slow_down", 400),
            (Error::ExpiredToken(reason()), "expired_token", 400),
            (Error::TooManyRequests(reason(), Duration::ZERO), "temporarily_unavailable", 429),
            (Error::ServerError(reason()), "server_error", 500),
        ];
        for (error, code, status) in table {
            assert_eq!((error.code(), error.status()), (code, status));
            assert!(!error.description().is_empty());
        }
    }
}
