//! The user's side: what a user code stands for, and what its user says to it (RFC 8628 section 3.3).

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::super::audience::Audience;
use super::super::audit::{Action, Asker, AuditEvent};
use super::super::authorize::Login;
use super::super::client::{GrantType, RegisteredClient};
use super::super::client_auth::AuthMethod;
use super::super::derive::DeriveKeys;
use super::super::error::{Error, Reason};
use super::super::issue::narrow_scope;
use super::super::lookup::ticket;
use super::super::policy::not_permitted;
use super::super::{Authority, Inner};
use super::{Approved, Decision, Pending, UserCode, waiting_room};
use crate::ids::ClientId;
use crate::locator::Digest;
use crate::scope::Scope;
use crate::store::{CodeUse, CodeView, Listing, Near, Pair, Seq, Store, Ticket, UseOnce, Verb};
use crate::time::Timestamp;

/// For whom wrong user codes are counted.
const GUESSED: &str = "user codes";

/// What a device waits for: for the page on which its user agrees.
#[derive(Clone)]
pub struct DevicePrompt {
    pub(super) client: Arc<RegisteredClient>,
    scope: Scope,
    audience: Audience,
    place: CodeUse,
    /// Digest of the device code.
    device_code: Digest,
    admission: Seq,
    expires_at: Timestamp,
}

impl DevicePrompt {
    /// The client on the device: show its name.
    #[must_use]
    pub fn client(&self) -> &RegisteredClient {
        &self.client
    }

    /// What the device asks for.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// For which resource servers.
    #[must_use]
    pub fn audience(&self) -> &Audience {
        &self.audience
    }
}

impl fmt::Debug for DevicePrompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DevicePrompt({:?}, {:?})", self.client.id, self.scope)
    }
}

impl<S: Store> Authority<S> {
    /// What the user code stands for that somebody typed, or that came in a link. Show the user the client
    /// and the scope, and have the user confirm that the code is that of a device in hand (RFC 8628
    /// section 5.4); nothing is used up.
    ///
    /// Give the address that the request comes from: after some wrong codes whoever is there waits
    /// ([`Backoff`](super::super::Backoff)).
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for a code that is malformed, unknown, expired, decided, or of a client
    /// that may not any more: one answer; [`Error::TooManyRequests`]; [`Error::TemporarilyUnavailable`].
    pub fn device_prompt(
        &self,
        user_code: &str,
        address: Option<IpAddr>,
    ) -> Ticket<DevicePrompt, Error> {
        // Before anything is looked at: what is approved derives from this moment.
        let admission = self.inner.store.admission();
        let (inner, parsed) = (Arc::clone(&self.inner), UserCode::parse(user_code));
        let asker = || Asker { client: None, address };
        let prompt = Ticket::slow(async move { inner.prompt(admission, parsed, address).await });
        self.inner.audited(Action::Authorize, asker, prompt)
    }

    /// The user agrees: the device gets its tokens, with `scope` of what it asked for, at its next poll.
    /// The first decision on a code stands.
    ///
    /// # Durability
    /// The ticket resolves when the decision is on stable storage.
    ///
    /// # Errors
    /// [`Error::InvalidScope`] for more than was asked for; [`Error::AccessDenied`] for a user whose tokens
    /// the client may not have, and when a revocation came in between; [`Error::InvalidRequest`] when it
    /// was decided, or has expired; [`Error::TemporarilyUnavailable`].
    pub fn approve_device(
        &self,
        prompt: &DevicePrompt,
        login: &Login,
        scope: &str,
    ) -> Ticket<(), Error> {
        let approved = ticket(self.inner.approve_device(prompt, login, scope));
        let inner = Arc::clone(&self.inner);
        let (client, subject) = (prompt.client.id.clone(), login.subject().clone());
        let scope = scope.to_owned();
        let approved = approved.and_then(move |approved: Result<(), Error>| {
            if approved.is_ok() {
                inner.tell(|| AuditEvent {
                    subject: Some(subject.as_str()),
                    scope: Some(&scope),
                    ..AuditEvent::of(Action::Authorize).client(&client)
                });
            }
            approved
        });
        self.inner.audited(Action::Authorize, || Asker::client(&prompt.client.id), approved)
    }

    /// The user does not agree: the device is told so at its next poll. The first decision on a code
    /// stands.
    ///
    /// # Durability
    /// The ticket resolves when the decision is on stable storage.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] when it was decided, or has expired; [`Error::AccessDenied`] when a
    /// revocation came in between; [`Error::TemporarilyUnavailable`].
    pub fn deny_device(&self, prompt: &DevicePrompt) -> Ticket<(), Error> {
        let denied = ticket(self.inner.deny_device(prompt));
        let (inner, client) = (Arc::clone(&self.inner), prompt.client.id.clone());
        let denied = denied.and_then(move |denied: Result<(), Error>| {
            if denied.is_ok() {
                inner.tell(|| AuditEvent::of(Action::Deny).client(&client));
            }
            denied
        });
        self.inner.audited(Action::Deny, || Asker::client(&prompt.client.id), denied)
    }
}

impl<S: Store> Inner<S> {
    async fn prompt(
        self: Arc<Self>,
        admission: Seq,
        user_code: Option<UserCode>,
        address: Option<IpAddr>,
    ) -> Result<DevicePrompt, Error> {
        let guessed = ClientId::new(GUESSED)
            .map_err(|error| Error::ServerError(Reason::with("user codes", error)))?;
        let elapsed = || self.clock.read().elapsed;
        let guesser = self.limiter.admit(|| Some((guessed, AuthMethod::None)), address, elapsed)?;
        let known = self.pending(admission, user_code).await?;
        // A right code forgives no wrong ones: an attacker has one of its own.
        if known.is_none() {
            self.limiter.judged(guesser, false, elapsed);
        }
        known.ok_or_else(|| Error::InvalidRequest(Reason::new("no device waits with that code")))
    }

    /// What waits under a user code, and nobody has decided.
    async fn pending(
        &self,
        admission: Seq,
        user_code: Option<UserCode>,
    ) -> Result<Option<DevicePrompt>, Error> {
        let Some(user_code) = user_code else { return Ok(None) };
        for version in self.root.versions() {
            let Some(place) = self.derive.device(version, user_code.letters()) else { continue };
            let view = self.store.list(Listing::Code(place), None, 1).await?.code;
            let Some(prompt) = view.and_then(|view| self.prompt_of(admission, place, &view)) else {
                continue;
            };
            let decided = DeriveKeys::decision(place);
            let decision = self.store.list(Listing::Code(decided), None, 1).await?.code;
            return Ok(decision.is_none().then_some(prompt));
        }
        Ok(None)
    }

    fn prompt_of(&self, admission: Seq, place: CodeUse, view: &CodeView) -> Option<DevicePrompt> {
        let pending: Pending = serde_json::from_slice(&view.body).ok()?;
        let client = self.clients.get(&view.pair.client)?;
        let may = view.live && !client.is_blocked() && client.may_use(GrantType::DeviceCode);
        let scope = Scope::parse(&pending.scope).ok()?;
        may.then_some(DevicePrompt {
            device_code: pending.digest()?,
            // What was taken from the client since is asked of nobody.
            scope: self.profile.covered(&scope, client.scopes()),
            audience: Audience::parse(&pending.audience).ok()?,
            client,
            place,
            // I3: what comes of it derives from the request.
            admission: admission.min(view.admission),
            expires_at: view.expires_at,
        })
    }

    fn approve_device(
        self: &Arc<Self>,
        prompt: &DevicePrompt,
        login: &Login,
        scope: &str,
    ) -> Result<Ticket<(), Error>, Error> {
        let client = self.clients.get(&prompt.client.id).filter(|client| !client.is_blocked());
        let client = client
            .ok_or_else(|| Error::AccessDenied(Reason::new("the client is gone or blocked")))?;
        if !self.is_permitted(&client, login.subject()) {
            return Err(Error::AccessDenied(not_permitted()));
        }
        let scope = narrow_scope(Some(scope), &prompt.scope, self.profile)?;
        let pair = Pair {
            client: client.id.clone(),
            subject: login.subject().clone(),
            device: login.device_id().cloned(),
        };
        // Before anything is decided: a subject that was revoked since decides nothing.
        let admission = login.admission().map_or(prompt.admission, |at| at.min(prompt.admission));
        let first = self.decide_first(prompt)?;
        let id = self.store.draw(Near::Pair(&pair));
        let place = CodeUse { id, digest: prompt.device_code };
        let approved = Approved {
            device_scope: scope.as_str().to_owned(),
            audience: prompt.audience.as_str().to_owned(),
            authenticated_at: login.authenticated_at().0,
        };
        let born = self.keep(place, pair, admission, prompt.expires_at, &approved)?;
        let noted = self.note(prompt, &Decision::Approved(id))?;
        Ok(Ticket::slow(async move {
            first.await?;
            born.await?;
            noted.await
        }))
    }

    fn deny_device(self: &Arc<Self>, prompt: &DevicePrompt) -> Result<Ticket<(), Error>, Error> {
        let first = self.decide_first(prompt)?;
        let noted = self.note(prompt, &Decision::Denied)?;
        Ok(Ticket::slow(async move {
            first.await?;
            noted.await
        }))
    }

    /// Of several decisions on a code the first one stands.
    fn decide_first(&self, prompt: &DevicePrompt) -> Result<Ticket<(), Error>, Error> {
        let (owner, _) = DeriveKeys::assertion_digests(prompt.client.id.as_str(), "");
        let verb = Verb::UseOnce(UseOnce {
            owner,
            digest: prompt.device_code,
            expires_at: prompt.expires_at,
            owner_max: self.assertions_max,
            now: self.clock.read(),
        });
        self.use_once(verb, || Error::InvalidRequest(Reason::new("it was decided, or has expired")))
    }

    fn note(&self, prompt: &DevicePrompt, decision: &Decision) -> Result<Ticket<(), Error>, Error> {
        let place = DeriveKeys::decision(prompt.place);
        let pair = waiting_room(&prompt.client.id)?;
        self.keep(place, pair, prompt.admission, prompt.expires_at, decision)
    }
}
