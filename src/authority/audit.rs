//! The audit trail as it happens: what was issued, redeemed, replayed, revoked, registered and
//! refused, told to the host and to `tracing`. No event holds a secret.
//!
//! An event is told when the store has decided, which is before that is durable: a crash in between
//! leaves an event of something that never was, and a refusal is in no store at all. What is durable
//! is in the ledger ([`DurableStore::ledger`](crate::store::DurableStore::ledger)).

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::Inner;
use super::authorize::AuthorizationError;
use super::error::Error;
use super::mint::{Decided, Terms};
use crate::ids::{ClientId, Subject};
use crate::store::{self, Store, StoreError, Ticket};
use crate::time::Timestamp;

/// Where the events of an authority go.
pub trait Audit: Send + Sync + 'static {
    /// Takes an event.
    ///
    /// # Blocks
    /// The call is made on the thread of the request, before its answer, and under a lock of the
    /// authority where a client or a key is changed. Hand the event on, and ask the authority nothing.
    fn record(&self, event: &AuditEvent<'_>);
}

impl<F: Fn(&AuditEvent<'_>) + Send + Sync + 'static> Audit for F {
    fn record(&self, event: &AuditEvent<'_>) {
        self(event);
    }
}

/// What was done, or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// A login was born, with an access token: by the host, by a code, by client credentials.
    Issue,
    /// A pair got the access token again that it has.
    Reuse,
    /// A user agreed: a code was born.
    Authorize,
    /// An authorization request was pushed.
    Push,
    /// A device began to wait for its user.
    Device,
    /// A one-time code was sent.
    Passcode,
    /// A user did not agree to what a device asks for.
    Deny,
    /// A refresh token was redeemed.
    Redeem,
    /// A refresh token was redeemed before, and its answer was given again.
    Retry,
    /// A refresh token or a code that was spent came back: what it gave has ended.
    Replay,
    /// A token was introspected. Told where that is refused.
    Introspect,
    /// Something was revoked.
    Revoke,
    /// A client was registered.
    Register,
    /// What a client is registered with was read. Told where that is refused.
    Inspect,
    /// A client was changed: its settings, its tokens of registration.
    Update,
    /// A secret of a client was drawn, promoted, dropped or replaced.
    Secret,
    /// A client was blocked.
    Block,
    /// A client was let in again.
    Unblock,
    /// A client was removed.
    Remove,
    /// A signing key was added.
    AddKey,
    /// A signing key was retired.
    RetireKey,
}

impl Action {
    /// Its name in a log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Action::Issue => "issue",
            Action::Reuse => "reuse",
            Action::Authorize => "authorize",
            Action::Push => "push",
            Action::Device => "device",
            Action::Deny => "deny",
            Action::Passcode => "passcode",
            Action::Redeem => "redeem",
            Action::Retry => "retry",
            Action::Replay => "replay",
            Action::Introspect => "introspect",
            Action::Revoke => "revoke",
            Action::Register => "register",
            Action::Inspect => "inspect",
            Action::Update => "update",
            Action::Secret => "secret",
            Action::Block => "block",
            Action::Unblock => "unblock",
            Action::Remove => "remove",
            Action::AddKey => "add_key",
            Action::RetireKey => "retire_key",
        }
    }
}

/// One event. What is not known, or does not apply, is `None`.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct AuditEvent<'a> {
    /// When, by the clock of the authority.
    #[serde(serialize_with = "seconds")]
    pub at: Timestamp,
    /// What was done, or asked for.
    #[serde(serialize_with = "name")]
    pub action: Action,
    /// Why it was not done.
    #[serde(serialize_with = "refusal", skip_serializing_if = "Option::is_none")]
    pub refusal: Option<&'a Error>,
    /// The client: as it said where it was refused, as it proved to be else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<&'a str>,
    /// The subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<&'a str>,
    /// The grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant: Option<u64>,
    /// The family.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<u64>,
    /// The generation of the family that was born or presented.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// The scope that was granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<&'a str>,
    /// What kind of thing was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<&'static str>,
    /// The `kid` of a signing key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kid: Option<&'a str>,
    /// Where the request came from, where the host said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
}

fn seconds<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(at.0)
}

fn name<S: Serializer>(action: &Action, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(action.name())
}

fn refusal<S: Serializer>(error: &Option<&Error>, to: S) -> Result<S::Ok, S::Error> {
    let Some(error) = error else { return to.serialize_none() };
    let reason = error.reason().map_or("the store refused", super::error::Reason::text);
    to.collect_str(&format_args!("{}: {reason}", error.code()))
}

impl<'a> AuditEvent<'a> {
    pub(super) fn of(action: Action) -> AuditEvent<'a> {
        AuditEvent {
            at: Timestamp(0),
            action,
            refusal: None,
            client_id: None,
            subject: None,
            grant: None,
            family: None,
            generation: None,
            scope: None,
            target: None,
            kid: None,
            address: None,
        }
    }

    pub(super) fn client(self, client: &'a ClientId) -> AuditEvent<'a> {
        AuditEvent { client_id: Some(client.as_str()), ..self }
    }

    /// One line of JSON, for a log.
    #[must_use]
    pub fn to_json(&self) -> String {
        // A struct of texts and numbers has a JSON form, always.
        serde_json::to_string(self).unwrap_or_default()
    }

    fn trace(&self) {
        let Self { client_id, subject, grant, family, generation, scope, target, kid, .. } = *self;
        let action = self.action.name();
        let (error, reason) = match self.refusal {
            None => (None, None),
            Some(error) => (Some(error.code()), error.reason().map(super::error::Reason::text)),
        };
        let address = self.address.map(tracing::field::display);
        macro_rules! say {
            ($level:ident) => {
                tracing::$level!(
                    target: TARGET, action, error, reason, client_id, subject, grant, family,
                    generation, scope, revoked = target, kid, address
                )
            };
        }
        match self.action {
            Action::Replay => say!(warn),
            _ => say!(info),
        }
    }
}

/// The `target` of what is traced.
const TARGET: &str = "mintage::audit";

/// What may have been refused.
pub(super) trait Refusable {
    fn refusal(&self) -> &Error;
}

impl Refusable for Error {
    fn refusal(&self) -> &Error {
        self
    }
}

impl Refusable for AuthorizationError {
    fn refusal(&self) -> &Error {
        self.error()
    }
}

/// What was asked for, and by whom: for the event of its refusal.
#[derive(Clone, Default)]
pub(super) struct Asker {
    pub(super) client: Option<ClientId>,
    pub(super) address: Option<IpAddr>,
}

impl Asker {
    pub(super) fn client(client: &ClientId) -> Asker {
        Asker { client: Some(client.clone()), address: None }
    }
}

/// Whose token it is, where that is known.
pub(super) type Holder<'a> = Option<(&'a ClientId, &'a Subject)>;

impl<S: Store> Inner<S> {
    /// Tells an event, if anybody listens.
    pub(super) fn tell<'a>(&self, event: impl FnOnce() -> AuditEvent<'a>) {
        let is_traced = tracing::enabled!(target: TARGET, tracing::Level::WARN);
        if self.audit.is_none() && !is_traced {
            return;
        }
        let event = AuditEvent { at: self.clock.read().unix, ..event() };
        event.trace();
        if let Some(audit) = &self.audit {
            audit.record(&event);
        }
    }

    /// Tells of a birth, or of its like.
    pub(super) fn tell_tokens(&self, action: Action, terms: &Terms, decided: &Decided) {
        self.tell(|| AuditEvent {
            subject: Some(terms.subject.as_str()),
            grant: Some(decided.grant),
            family: Some(decided.family),
            generation: Some(decided.generation),
            scope: Some(terms.scope.as_str()),
            ..AuditEvent::of(action).client(&terms.client)
        });
    }

    /// Tells what a host or a client has revoked.
    pub(super) fn tell_revoked(&self, target: &store::Target, of: Holder<'_>) {
        self.tell(|| {
            let event = AuditEvent::of(Action::Revoke);
            let event = match of {
                Some((client, subject)) => {
                    AuditEvent { subject: Some(subject.as_str()), ..event.client(client) }
                }
                None => event,
            };
            let event = match target {
                store::Target::Client(client) => event.client(client),
                store::Target::Pair(client, subject) => {
                    AuditEvent { subject: Some(subject.as_str()), ..event.client(client) }
                }
                store::Target::Subject(subject) => {
                    AuditEvent { subject: Some(subject.as_str()), ..event }
                }
                store::Target::Grant(grant) => AuditEvent { grant: Some(*grant), ..event },
                store::Target::Family(family) => AuditEvent { family: Some(*family), ..event },
                _ => event,
            };
            AuditEvent { target: Some(kind(target)), ..event }
        });
    }

    pub(super) fn tell_refusal(&self, action: Action, asker: &Asker, error: &Error) {
        self.tell(|| AuditEvent {
            refusal: Some(error),
            client_id: asker.client.as_ref().map(ClientId::as_str),
            address: asker.address,
            ..AuditEvent::of(action)
        });
    }

    /// The same answer, and told if it is a refusal. What is decided already is told at once, also
    /// where nobody waits for the ticket.
    pub(super) fn audited<T, E>(
        self: &Arc<Self>,
        action: Action,
        asker: impl FnOnce() -> Asker,
        ticket: Ticket<T, E>,
    ) -> Ticket<T, E>
    where
        T: Send + 'static,
        E: Refusable + From<StoreError> + Send + 'static,
    {
        match ticket.decided() {
            Some(Ok(_)) => ticket,
            Some(Err(error)) => {
                self.tell_refusal(action, &asker(), error.refusal());
                ticket
            }
            None => {
                let (inner, asker) = (Arc::clone(self), asker());
                ticket.and_then(move |answer| {
                    if let Err(error) = &answer {
                        inner.tell_refusal(action, &asker, error.refusal());
                    }
                    answer
                })
            }
        }
    }
}

fn kind(target: &store::Target) -> &'static str {
    match target {
        store::Target::Everything => "everything",
        store::Target::Client(_) => "client",
        store::Target::Subject(_) => "subject",
        store::Target::Pair(..) => "pair",
        store::Target::Grant(_) => "grant",
        store::Target::Family(_) => "family",
        store::Target::Access(..) => "access_token",
        store::Target::Jwt { .. } => "jwt",
    }
}
