//! Handlers: the host's code that judges tokens of others and says whose they are.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use super::super::builder::Builder;
use super::super::client::{Client, RegisteredClient};
use super::TokenType;
use crate::ids::Subject;
use crate::scope::Scope;
use crate::time::Timestamp;

/// The longest name of a handler, in bytes: that of Salesforce.
pub(in crate::authority) const HANDLER_NAME_LEN_MAX: usize = 80;
/// The most handlers of one client.
pub(in crate::authority) const HANDLERS_OF_CLIENT_MAX: usize = 16;

/// A host's judgement on tokens of others, in two steps (RFC 8693; Salesforce's token exchange
/// handlers): is this token good, and whose is it here. It replaces neither the approval of the client
/// nor anything else that the authority checks.
///
/// # Blocks
/// The calls are made on the thread of the request, before its ticket is returned, with no lock held. A
/// handler that has to ask a network makes the request wait.
pub trait ExchangeHandler: Send + Sync + 'static {
    /// Checks a token: who signed it, for whom, until when. `Err` whatever is wrong: the reason goes to
    /// the log, and to nobody else.
    ///
    /// # Errors
    /// Why the token is not good.
    fn validate(&self, token: &IncomingToken<'_>) -> Result<ValidToken, TokenRefused>;

    /// Whose the token is here.
    fn subject(&self, token: &ValidToken, client: &RegisteredClient) -> Mapped;

    /// Makes the user that [`Mapped::New`] named. It is called only where the handler was registered for
    /// it ([`HandlerOptions::creates_users`]) and the client's owner permits the subject. Nobody is made
    /// by default.
    fn create(&self, token: &ValidToken, subject: &Subject) -> bool {
        let _ = (token, subject);
        false
    }
}

/// A token of somebody else, as it came.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct IncomingToken<'a> {
    /// The token; of SAML, the assertion in base64url.
    pub token: &'a str,
    /// What kind of token it is said to be.
    pub token_type: TokenType,
    /// Whether it is to say who acts, and not for whom.
    pub is_actor: bool,
    /// The client that brings it.
    pub client: &'a RegisteredClient,
    /// The time.
    pub now: Timestamp,
}

/// What a handler makes of a token that is good.
#[derive(Clone)]
#[must_use = "it is the handler's answer"]
pub struct ValidToken {
    name: String,
    pub(super) scope: Option<Scope>,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) once: Option<(String, Timestamp)>,
    data: Option<Arc<dyn Any + Send + Sync>>,
}

/// Why a token is not good: for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenRefused(pub &'static str);

/// Whose a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// A subject that is known here.
    Known(Subject),
    /// One that would have to be made first ([`ExchangeHandler::create`]).
    New(Subject),
    /// Nobody's.
    Nobody,
}

impl ValidToken {
    /// Of whom it speaks, by the name that its issuer has for it.
    pub fn of(name: impl Into<String>) -> ValidToken {
        ValidToken { name: name.into(), scope: None, expires_at: None, once: None, data: None }
    }

    /// What it may be used for: what it is exchanged for may be used for no more.
    pub fn scope(self, scope: Scope) -> ValidToken {
        ValidToken { scope: Some(scope), ..self }
    }

    /// When it ends: what it is exchanged for does not live longer, and there is no refresh token then.
    pub fn ends_with_it(self, expires_at: Timestamp) -> ValidToken {
        ValidToken { expires_at: Some(expires_at), ..self }
    }

    /// It may be exchanged once, by this name of it (its `jti`), which is remembered until then.
    pub fn once(self, id: impl Into<String>, until: Timestamp) -> ValidToken {
        ValidToken { once: Some((id.into(), until)), ..self }
    }

    /// Anything that the second step wants to know.
    pub fn data(self, data: impl Any + Send + Sync) -> ValidToken {
        ValidToken { data: Some(Arc::new(data)), ..self }
    }

    /// Of whom it speaks, by the name that its issuer has for it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the first step left, if it is of that type.
    #[must_use]
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.data.as_deref()?.downcast_ref()
    }
}

/// For what a handler is there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "options do nothing until a builder gets them"]
pub struct HandlerOptions {
    pub(super) types: Vec<TokenType>,
    pub(super) creates_users: bool,
}

impl HandlerOptions {
    /// For tokens of these types; it makes no users.
    pub fn new(types: impl IntoIterator<Item = TokenType>) -> HandlerOptions {
        HandlerOptions { types: types.into_iter().collect(), creates_users: false }
    }

    /// It may make users (Salesforce's `IsUserCreationAllowed`).
    pub fn creates_users(self) -> HandlerOptions {
        HandlerOptions { creates_users: true, ..self }
    }
}

/// A handler as it was registered.
#[derive(Clone)]
pub(in crate::authority) struct Handler {
    pub(in crate::authority) name: Arc<str>,
    pub(super) options: HandlerOptions,
    pub(super) code: Arc<dyn ExchangeHandler>,
}

impl Builder {
    /// A handler for tokens of others, under a name of at most 80 bytes by which clients are registered
    /// for it ([`Client::exchange_handlers`]) and name it (`token_handler`). A later one of the same name
    /// takes the place of the one before.
    pub fn exchange_handler(
        mut self,
        name: impl Into<String>,
        options: HandlerOptions,
        handler: impl ExchangeHandler,
    ) -> Builder {
        let name: Arc<str> = Arc::from(name.into());
        let handler = Handler { name: Arc::clone(&name), options, code: Arc::new(handler) };
        self.flows.handlers.retain(|known| known.name != name);
        self.flows.handlers.push(handler);
        self
    }
}

impl Client {
    /// The handlers that it may have its tokens exchanged by, by name; the first one where it names none.
    /// Tokens of the authority's own need no handler.
    pub fn exchange_handlers<T: Into<String>>(
        mut self,
        names: impl IntoIterator<Item = T>,
    ) -> Client {
        self.settings.exchange_handlers = names.into_iter().map(Into::into).collect();
        self
    }
}

impl fmt::Debug for IncomingToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "IncomingToken({:?} of {:?}, [redacted])",
            self.token_type,
            self.client.client_id()
        )
    }
}

impl fmt::Debug for ValidToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ValidToken({:?})", self.name)
    }
}

impl fmt::Display for TokenRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for TokenRefused {}
