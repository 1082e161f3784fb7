//! Token exchange (RFC 8693): a token of somebody else, or one of our own, for one that says less or as
//! much.
//!
//! ```text
//! one of our own    -> whose is it, does it live, may this client have it -> its scope, audience, end
//! somebody else's   -> handler: is it good, whose is it                   -> the client's scope, audience
//! either            -> approval -> narrowed -> the birth, with the least admission of all that it derives from
//! ```
//! What comes out never holds more scope, audience or life than what went in, and is bound to the same
//! sender. An actor token makes it a delegation: the token then says who acts (`act`), which only a JWT can.

mod actors;
mod handler;
mod own;

pub use actors::ACTORS_MAX;
pub use handler::{
    ExchangeHandler, HandlerOptions, IncomingToken, Mapped, TokenRefused, ValidToken,
};

pub(super) use actors::{Actors, CLAIM};
pub(super) use handler::{HANDLER_NAME_LEN_MAX, HANDLERS_OF_CLIENT_MAX, Handler};

use std::fmt;
use std::sync::Arc;

use super::Inner;
use super::audience::Audience;
use super::client::{GrantType, REFRESH_SCOPES, RegisteredClient, TokenFormat};
use super::client_auth::Caller;
use super::derive::DeriveKeys;
use super::error::{Cause, Error, Reason};
use super::granted::Granted;
use super::identity::LoginFacts;
use super::issue::{narrow_audience, narrow_granted};
use super::issued::Issued;
use super::lookup::ticket;
use super::policy::{PermittedUsers, not_permitted};
use super::sender::Sender;
use super::token::{Grant, TokenRequest, without_refresh};
use crate::ids::{ClientId, Subject};
use crate::scope::Scope;
use crate::secret::SecretText;
use crate::store::{Seq, Store, Ticket, UseOnce, Verb};
use crate::time::Timestamp;

/// The longest subject or actor token, in bytes: that of Salesforce.
pub const EXCHANGE_TOKEN_LEN_MAX: usize = 10_000;

const URN: &str = "urn:ietf:params:oauth:token-type:";

/// A kind of token, by its registered name (RFC 8693 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenType {
    /// `urn:ietf:params:oauth:token-type:access_token`.
    AccessToken,
    /// `urn:ietf:params:oauth:token-type:refresh_token`.
    RefreshToken,
    /// `urn:ietf:params:oauth:token-type:id_token`.
    IdToken,
    /// `urn:ietf:params:oauth:token-type:saml2`: an assertion in base64url.
    Saml2,
    /// `urn:ietf:params:oauth:token-type:jwt`, in any case: Salesforce writes `JWT`.
    Jwt,
}

impl TokenType {
    /// The kind of that name.
    #[must_use]
    pub fn from_urn(urn: &str) -> Option<TokenType> {
        match urn.strip_prefix(URN)? {
            "access_token" => Some(TokenType::AccessToken),
            "refresh_token" => Some(TokenType::RefreshToken),
            "id_token" => Some(TokenType::IdToken),
            "saml2" => Some(TokenType::Saml2),
            jwt if jwt.eq_ignore_ascii_case("jwt") => Some(TokenType::Jwt),
            _ => None,
        }
    }

    /// The registered name.
    #[must_use]
    pub const fn urn(self) -> &'static str {
        match self {
            TokenType::AccessToken => "urn:ietf:params:oauth:token-type:access_token",
            TokenType::RefreshToken => "urn:ietf:params:oauth:token-type:refresh_token",
            TokenType::IdToken => "urn:ietf:params:oauth:token-type:id_token",
            TokenType::Saml2 => "urn:ietf:params:oauth:token-type:saml2",
            TokenType::Jwt => "urn:ietf:params:oauth:token-type:jwt",
        }
    }
}

/// What is exchanged (RFC 8693 section 2.1). `Debug` shows no token.
#[derive(Clone, Copy)]
#[must_use = "nothing is exchanged until the authority gets it"]
pub struct Exchange<'a> {
    subject: (&'a str, TokenType),
    actor: Option<(&'a str, TokenType)>,
    requested: Option<&'a str>,
    handler: Option<&'a str>,
}

impl<'a> Exchange<'a> {
    /// This token, of that kind.
    pub fn of(subject_token: &'a str, subject_token_type: TokenType) -> Exchange<'a> {
        let subject = (subject_token, subject_token_type);
        Exchange { subject, actor: None, requested: None, handler: None }
    }

    /// Who acts for the subject: the new token says so (delegation, RFC 8693 section 1.1). Without it
    /// the new token is the subject's and nothing else (impersonation).
    pub fn actor(self, actor_token: &'a str, actor_token_type: TokenType) -> Exchange<'a> {
        Exchange { actor: Some((actor_token, actor_token_type)), ..self }
    }

    /// The kind of token wanted: an access token, or a JWT where the client's are such; whatever the
    /// client's are by default.
    pub fn requested(self, token_type: &'a str) -> Exchange<'a> {
        Exchange { requested: Some(token_type).filter(|urn| !urn.is_empty()), ..self }
    }

    /// The handler (Salesforce's `token_handler`); the client's first one by default.
    pub fn handler(self, name: &'a str) -> Exchange<'a> {
        Exchange { handler: Some(name).filter(|name| !name.is_empty()), ..self }
    }
}

impl fmt::Debug for Exchange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let actor = self.actor.map(|(_, token_type)| token_type);
        write!(f, "Exchange({:?}, actor {actor:?}, [redacted])", self.subject.1)
    }
}

impl<'a> TokenRequest<'a> {
    /// A token for another one (RFC 8693). One of the authority's own is taken from the client that it was
    /// issued to or that it is meant for; one of somebody else goes to a handler
    /// ([`Builder::exchange_handler`](super::Builder::exchange_handler)). The subject must have approved
    /// the client, as for [`TokenRequest::jwt_bearer`].
    ///
    /// Scope, audience and life are within those of the subject token. There is a refresh token where a
    /// handler has not bound the answer to its token's end, nobody acts, and the scope asks for one.
    pub fn exchange(exchange: Exchange<'a>, caller: &'a Caller) -> TokenRequest<'a> {
        TokenRequest::of(Grant::Exchange(exchange), caller)
    }
}

/// What a subject or actor token is good for, whoever made it.
#[derive(Clone)]
pub(super) struct Source {
    subject: Subject,
    /// The client that the token was issued to, where it is one of our own.
    client: Option<ClientId>,
    /// What the answer may be for at most, where the token says.
    scope: Option<Scope>,
    audience: Option<Audience>,
    ends_at: Option<Timestamp>,
    admission: Seq,
    actors: Actors,
    /// Of somebody else's that may be exchanged once: whose, its name, until when.
    once: Option<(String, String, Timestamp)>,
    /// Whom to make first.
    makes: Option<(Handler, ValidToken)>,
}

/// A request, once its client is known.
#[derive(Clone)]
pub(super) struct Asked {
    admission: Seq,
    client: Arc<RegisteredClient>,
    sender: Sender,
    scope: Option<String>,
    audience: Option<Audience>,
    handler: Option<String>,
    is_jwt: bool,
    /// Whether the client proved who it is.
    proves: bool,
}

/// A token in a request.
#[derive(Clone)]
struct Given {
    token: SecretText,
    token_type: TokenType,
    is_actor: bool,
}

impl<S: Store> Inner<S> {
    pub(super) fn exchange(
        self: &Arc<Self>,
        admission: Seq,
        client: Arc<RegisteredClient>,
        exchange: &Exchange<'_>,
        request: &TokenRequest<'_>,
    ) -> Result<Ticket<Issued, Error>, Error> {
        if !client.may_use(GrantType::TokenExchange) {
            return Err(Error::UnauthorizedClient(Reason::new("no token-exchange")));
        }
        let is_jwt = client.format() != TokenFormat::Opaque;
        let issued_type = match exchange.requested.map(TokenType::from_urn) {
            None | Some(Some(TokenType::AccessToken)) => TokenType::AccessToken,
            Some(Some(TokenType::Jwt)) if is_jwt => TokenType::Jwt,
            Some(_) => return Err(refused("the requested kind of token is not given")),
        };
        let given = |(token, token_type): (&str, TokenType), is_actor| match (1
            ..=EXCHANGE_TOKEN_LEN_MAX)
            .contains(&token.len())
        {
            true => {
                let token = SecretText::new(token);
                Ok(Given { token, token_type, is_actor })
            }
            false => Err(refused("a token is empty or too long")),
        };
        let subject = given(exchange.subject, false)?;
        let actor = exchange.actor.map(|actor| given(actor, true)).transpose()?;
        let asked = Asked {
            admission,
            sender: self.sender(&client, request.caller)?,
            client,
            scope: request.scope.map(str::to_owned),
            audience: request.asked_audience()?,
            handler: exchange.handler.map(str::to_owned),
            is_jwt,
            proves: request.caller.proves(),
        };
        let issued = self.source_then(&asked.clone(), &subject, move |inner, subject| {
            let Some(actor) = actor else { return inner.exchanged(asked, subject, None) };
            Ok(inner.source_then(&asked.clone(), &actor, move |inner, actor| {
                inner.exchanged(asked, subject, Some(actor))
            }))
        });
        Ok(issued.and_then(move |issued: Result<Issued, Error>| {
            Ok(Issued { issued_token_type: Some(issued_type), ..issued? })
        }))
    }

    /// Goes on with what a token is good for.
    fn source_then(
        self: &Arc<Self>,
        asked: &Asked,
        given: &Given,
        then: impl FnOnce(&Arc<Self>, Source) -> Result<Ticket<Issued, Error>, Error> + Send + 'static,
    ) -> Ticket<Issued, Error> {
        let may_be_own = matches!(
            given.token_type,
            TokenType::AccessToken | TokenType::RefreshToken | TokenType::Jwt
        );
        if may_be_own
            && asked.handler.is_none()
            && let Ok(read) = self.read(given.token.expose())
        {
            return ticket(self.own_then(asked, given, read, then));
        }
        ticket(self.by_handler(asked, given).and_then(|source| then(self, source)))
    }

    /// What a handler makes of a token.
    fn by_handler(&self, asked: &Asked, given: &Given) -> Result<Source, Error> {
        let refuse = |why| Error::InvalidRequest(Reason::new(why).because(Cause::HandlerRefused));
        let of_client = &asked.client.settings.exchange_handlers;
        let name = match &asked.handler {
            Some(name) => of_client.iter().find(|known| *known == name),
            None => of_client.first(),
        };
        let known = |name: &String| self.flows.handlers.iter().find(|known| *known.name == **name);
        let handler = name.and_then(known).ok_or_else(|| refuse("no such handler"))?;
        if !handler.options.types.contains(&given.token_type) {
            return Err(refuse("the handler is not for such tokens"));
        }
        let incoming = IncomingToken {
            token: given.token.expose(),
            token_type: given.token_type,
            is_actor: given.is_actor,
            client: &asked.client,
            now: self.now(),
        };
        let valid = handler.code.validate(&incoming).map_err(|why| {
            let reason = Reason::with("the handler refused the token", why);
            Error::InvalidRequest(reason.because(Cause::HandlerRefused))
        })?;
        if valid.expires_at.is_some_and(|end| self.now() >= end) {
            return Err(refuse("the token has ended"));
        }
        let (subject, makes) = match handler.code.subject(&valid, &asked.client) {
            Mapped::Known(subject) => (subject, None),
            Mapped::New(subject) if handler.options.creates_users && !given.is_actor => {
                (subject, Some((handler.clone(), valid.clone())))
            }
            Mapped::New(_) => return Err(refuse("the user would have to be made")),
            Mapped::Nobody => return Err(refuse("the token is nobody's here")),
        };
        Ok(Source {
            subject,
            client: None,
            scope: valid.scope,
            audience: None,
            ends_at: valid.expires_at,
            admission: asked.admission,
            actors: Actors::default(),
            once: valid.once.map(|(id, until)| (handler.name.to_string(), id, until)),
            makes,
        })
    }

    /// With both tokens known: the approval, and all that bounds the answer.
    fn exchanged(
        self: &Arc<Self>,
        asked: Asked,
        subject: Source,
        actor: Option<Source>,
    ) -> Result<Ticket<Issued, Error>, Error> {
        let actors = match &actor {
            None => subject.actors.clone(),
            Some(actor) if !actor.actors.is_empty() => {
                return Err(refused("somebody else acts for the actor"));
            }
            Some(actor) => {
                let newest = self.subject_of(&actor.subject);
                subject.actors.and(newest).ok_or_else(|| refused("too many actors"))?
            }
        };
        if !actors.is_empty() && !asked.is_jwt {
            // RFC 8693 section 4.1: `act` is a claim of a JWT.
            return Err(refused("the client's tokens cannot say who acts"));
        }
        let (client, whose) = (Arc::clone(&asked.client), subject.subject.clone());
        if subject.client.as_ref() == Some(&client.id) {
            // What it holds of a subject was approved.
            if !self.is_permitted(&client, &whose) {
                return Err(Error::InvalidGrant(not_permitted()));
            }
            let within = client.scopes().clone();
            return self.exchange_approved(asked, &subject, actor.as_ref(), actors, &within);
        }
        if let Some((handler, valid)) = &subject.makes {
            // A user that is made now has approved nothing: the owner must have.
            let is_approved = client.settings.permitted != PermittedUsers::SelfAuthorized
                && self.is_permitted(&client, &whose);
            if !is_approved {
                let reason = Reason::new("a new user, whom nobody has approved");
                return Err(Error::InvalidGrant(reason.because(Cause::NotApproved)));
            }
            if !handler.code.create(valid, &whose) {
                let reason = Reason::new("the user could not be made");
                return Err(Error::InvalidRequest(reason.because(Cause::HandlerRefused)));
            }
        }
        self.approved_then(&client, &whose, move |inner, approved| {
            inner.exchange_approved(asked, &subject, actor.as_ref(), actors, &approved)
        })
    }

    fn exchange_approved(
        self: &Arc<Self>,
        asked: Asked,
        subject: &Source,
        actor: Option<&Source>,
        actors: Actors,
        approved: &Scope,
    ) -> Result<Ticket<Issued, Error>, Error> {
        let Asked { admission, client, sender, scope, audience, .. } = asked;
        let both = || [Some(subject), actor].into_iter().flatten();
        // I9: whom somebody acts for is what counts; the actor lends no scope of its own.
        let within = self.profile.covered(approved, client.scopes());
        let within = match &subject.scope {
            Some(scope) => self.profile.both(&within, scope),
            None => within,
        };
        let audiences = self.narrow_audience(None, &client)?;
        let audiences = match &subject.audience {
            Some(audience) => audiences.intersection(audience),
            None => audiences,
        };
        let scope = narrow_granted(scope.as_deref(), &within, &client, self.profile)?;
        // Of scopes that hold others none is reached by way of another bound.
        let mut bounds = [Some(approved), subject.scope.as_ref()].into_iter().flatten();
        if !bounds.all(|bound| scope.tokens().all(|token| self.profile.covers(bound, token))) {
            return Err(Error::InvalidScope(Reason::new("the scope exceeds what it derives from")));
        }
        let audience = narrow_audience(audience, &audiences)?;
        if audience.is_empty() {
            return Err(Error::InvalidTarget(Reason::new("no audience is left")));
        }
        let ends_at = both().filter_map(|source| source.ends_at).min();
        let may_refresh = subject.client.is_none() && ends_at.is_none() && actors.is_empty();
        let scope = if may_refresh { scope } else { without_refresh(&scope)? };
        let refresh = may_refresh
            && client.refreshes()
            && REFRESH_SCOPES.iter().any(|token| scope.has(token));
        let used = self.use_sources(both())?;
        let born = self.give_birth(Granted {
            // I3: the least of all that it derives from.
            admission: both().map(|source| source.admission).fold(admission, Seq::min),
            client,
            subject: subject.subject.clone(),
            device: None,
            scope,
            audience,
            refresh,
            // When somebody was authenticated elsewhere is not known.
            login: Some(LoginFacts { nonce: None, at: None, code: None, is_told: true }),
            sender,
            code: None,
            ends_at,
            actors,
        })?;
        Ok(match used.is_empty() {
            true => born,
            // After a crash nobody gets a second token for one that may be exchanged once.
            false => Ticket::slow(async move {
                for used in used {
                    used.await?;
                }
                born.await
            }),
        })
    }

    /// Uses up what may be exchanged once.
    fn use_sources<'s>(
        &self,
        sources: impl Iterator<Item = &'s Source>,
    ) -> Result<Vec<Ticket<(), Error>>, Error> {
        let uses = sources.filter_map(|source| source.once.as_ref()).map(|(handler, id, until)| {
            let (owner, digest) = DeriveKeys::assertion_digests(&format!("handler {handler}"), id);
            let verb = Verb::UseOnce(UseOnce {
                owner,
                digest,
                expires_at: *until,
                owner_max: self.assertions_max,
                now: self.clock.read(),
            });
            self.use_once(verb, || refused("the token was exchanged before, or has expired"))
        });
        uses.collect()
    }
}

/// RFC 8693 section 2.2.2: "If either the "subject_token" or "actor_token" are invalid for any reason, or
/// are unacceptable based on policy, [...] the value of the "error" parameter MUST be the
/// "invalid_request" error code."
fn refused(why: &'static str) -> Error {
    Error::InvalidRequest(Reason::new(why).because(Cause::BadExchange))
}
