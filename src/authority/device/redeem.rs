//! Polling (RFC 8628 section 3.4): a device asks for its tokens until its user has decided.

use std::sync::Arc;
use std::time::Duration;

use super::super::Inner;
use super::super::audience::Audience;
use super::super::client::{GrantType, REFRESH_SCOPES, RegisteredClient};
use super::super::client_auth::Caller;
use super::super::derive::DeriveKeys;
use super::super::error::{Cause, Error, Reason};
use super::super::exchange::Actors;
use super::super::granted::{Granted, RedeemedCode};
use super::super::identity::LoginFacts;
use super::super::issue::{narrow_audience, narrow_granted};
use super::super::issued::Issued;
use super::super::lookup::ticket;
use super::super::mint::no_version;
use super::super::policy::not_permitted;
use super::super::sender::Sender;
use super::super::token::{Grant, TokenRequest};
use super::{Approved, DEVICE_SECS_MAX, Decision, Pending};
use crate::codec::handle::{Handle, HandleKind};
use crate::scope::Scope;
use crate::store::{CodeUse, CodeView, Listing, Seq, Store, Ticket};
use crate::time::Timestamp;

impl<'a> TokenRequest<'a> {
    /// Tokens for the device code of [`Authority::authorize_device`](super::super::Authority::authorize_device)
    /// (RFC 8628 section 3.4; Salesforce's `grant_type=device`), once its user agrees: until then
    /// [`Error::AuthorizationPending`], or [`Error::SlowDown`] for who asks too often. It gives tokens
    /// once; presented again by its client, it ends what it gave, as a code does.
    pub fn device(device_code: &'a str, caller: &'a Caller) -> TokenRequest<'a> {
        TokenRequest::of(Grant::Device(device_code), caller)
    }
}

/// A device code in the hands of an authenticated client.
struct Presented {
    admission: Seq,
    client: Arc<RegisteredClient>,
    handle: Handle,
    /// Where its device waits.
    place: CodeUse,
    sender: Sender,
    scope: Option<String>,
    /// One that cannot be had is no reason to look away from a replay.
    audience: Result<Option<Audience>, Error>,
}

impl<S: Store> Inner<S> {
    pub(in crate::authority) fn redeem_device(
        self: &Arc<Self>,
        admission: Seq,
        client: Arc<RegisteredClient>,
        device_code: &str,
        request: &TokenRequest<'_>,
    ) -> Result<Ticket<Issued, Error>, Error> {
        if !client.may_use(GrantType::DeviceCode) {
            return Err(Error::UnauthorizedClient(Reason::new("no device_code")));
        }
        let handle = self.handles.parse(HandleKind::Code, device_code).map_err(|error| {
            Error::InvalidGrant(Reason::with("no device code", error).because(Cause::DeadCode))
        })?;
        let place =
            self.derive.waiting(handle.key_version, handle.locator.id).ok_or_else(no_version)?;
        let presented = Presented {
            admission,
            handle,
            place,
            sender: self.sender(&client, request.caller)?,
            client,
            scope: request.scope.map(str::to_owned),
            audience: request.asked_audience(),
        };
        Ok(self.list_then(Listing::Code(place), 1, move |inner, page| {
            ticket(inner.poll(presented, page.code))
        }))
    }

    fn poll(
        self: &Arc<Self>,
        presented: Presented,
        waiting: Option<CodeView>,
    ) -> Result<Ticket<Issued, Error>, Error> {
        let Some(waiting) = waiting else { return Err(self.unknown_device(&presented.handle)) };
        let pending: Option<Pending> = serde_json::from_slice(&waiting.body).ok();
        let is_it = pending.is_some_and(|known| known.digest() == Some(presented.handle.digest));
        if !is_it || waiting.pair.client != presented.client.id {
            return Err(dead("another device code, or another client's"));
        }
        let decided = DeriveKeys::decision(presented.place);
        Ok(self.list_then(Listing::Code(decided), 1, move |inner, page| {
            ticket(inner.poll_decided(presented, &waiting, page.code))
        }))
    }

    fn poll_decided(
        self: &Arc<Self>,
        presented: Presented,
        waiting: &CodeView,
        decision: Option<CodeView>,
    ) -> Result<Ticket<Issued, Error>, Error> {
        let place = presented.place.id;
        let decision = decision.map(|view| serde_json::from_slice(&view.body));
        match decision {
            None => Err(self.not_decided(waiting, place)),
            Some(Ok(Decision::Denied)) => {
                self.polls.forget(place);
                Err(Error::AccessDenied(Reason::new("the user has not agreed")))
            }
            Some(Ok(Decision::Approved(id))) => {
                self.polls.forget(place);
                let code = CodeUse { id, digest: presented.handle.digest };
                Ok(self.list_then(Listing::Code(code), 1, move |inner, page| {
                    ticket(inner.redeem_approved(&presented, code, page.code))
                }))
            }
            Some(Err(_)) => Err(dead("another decision than about a device")),
        }
    }

    /// What a device is told whose user has not decided.
    fn not_decided(&self, waiting: &CodeView, place: u64) -> Error {
        if self.now() >= waiting.expires_at {
            return expired();
        }
        if !waiting.live {
            return dead("revoked");
        }
        let interval = Duration::from_secs(self.flows.device_interval_secs);
        match self.polls.is_too_soon(place, interval, self.clock.read().elapsed) {
            true => Error::SlowDown(Reason::new("it asks too often")),
            false => Error::AuthorizationPending(Reason::new("the user has not decided yet")),
        }
    }

    /// What a device is told whose code is genuine and leads nowhere: its row was swept, or never was.
    fn unknown_device(&self, handle: &Handle) -> Error {
        let begun_at = Timestamp(u64::from(handle.locator.bucket) * 60);
        match self.now() >= begun_at.plus(DEVICE_SECS_MAX) {
            true => expired(),
            false => dead("unknown device code"),
        }
    }

    fn redeem_approved(
        self: &Arc<Self>,
        presented: &Presented,
        code: CodeUse,
        view: Option<CodeView>,
    ) -> Result<Ticket<Issued, Error>, Error> {
        let view = view.ok_or_else(|| dead("what was approved is gone"))?;
        let Presented { admission, client, sender, .. } = presented;
        let read = Approved::read(&view.body).filter(|_| view.pair.client == client.id);
        let (scope, audience, at) = read.ok_or_else(|| dead("nothing for a device"))?;
        if !view.spent {
            if self.now() >= view.expires_at {
                return Err(expired());
            }
            if !view.live {
                return Err(dead("revoked since it was approved"));
            }
            if !self.is_permitted(client, &view.pair.subject) {
                return Err(Error::InvalidGrant(not_permitted()));
            }
        }
        // What was taken from the client since is not in its token.
        let (scope, audience, authorized) = match view.spent {
            // Only its end is decided.
            true => (scope, audience.clone(), audience),
            false => {
                let within = self.still_of(&audience, client)?;
                (
                    narrow_granted(presented.scope.as_deref(), &scope, client, self.profile)?,
                    narrow_audience(presented.audience.clone()?, &within)?,
                    within,
                )
            }
        };
        let wants_refresh = REFRESH_SCOPES.iter().any(|token| scope.has(token));
        self.give_birth(Granted {
            // I3: what is born derives from what was approved.
            admission: view.admission.min(*admission),
            client: Arc::clone(client),
            subject: view.pair.subject,
            device: view.pair.device,
            refresh: wants_refresh && client.refreshes(),
            scope,
            audience,
            login: Some(LoginFacts { nonce: None, at: Some(at), code: None, is_told: true }),
            sender: *sender,
            code: Some(RedeemedCode { code, audience: authorized, is_spent: view.spent }),
            ends_at: None,
            actors: Actors::default(),
        })
    }
}

impl Approved {
    fn read(body: &[u8]) -> Option<(Scope, Audience, Timestamp)> {
        let approved: Approved = serde_json::from_slice(body).ok()?;
        let scope = Scope::parse(&approved.device_scope).ok()?;
        let audience = Audience::parse(&approved.audience).ok()?;
        Some((scope, audience, Timestamp(approved.authenticated_at)))
    }
}

fn dead(why: &'static str) -> Error {
    Error::InvalidGrant(Reason::new(why).because(Cause::DeadCode))
}

fn expired() -> Error {
    Error::ExpiredToken(Reason::new("the device code has expired").because(Cause::DeadCode))
}
