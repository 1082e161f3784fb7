//! Issuing: the birth of a family, with its access token and, where the client gets one, its refresh
//! token.

use std::sync::Arc;

use super::audience::Audience;
use super::audit::{Action, Asker};
use super::authorize::NONCE_LEN_MAX;
use super::client::{REFRESH_SCOPES, RegisteredClient};
use super::confirmation::Confirmation;
use super::error::{Cause, Error, Reason};
use super::exchange::Actors;
use super::granted::Granted;
use super::identity::LoginFacts;
use super::issued::Issued;
use super::lookup::ticket;
use super::policy::not_permitted;
use super::profile::Profile;
use super::sender::Sender;
use super::{Authority, Inner};
use crate::ids::{ClientId, DeviceId, Subject};
use crate::scope::Scope;
use crate::store::{Batch, Seq, Store, Ticket};
use crate::sync::planted;
use crate::time::Timestamp;

/// What a host issues directly: it has authenticated the subject by itself.
#[derive(Clone, Debug)]
#[must_use = "nothing is issued until the authority is told to"]
pub struct Issue {
    subject: String,
    client_id: ClientId,
    scope: Option<String>,
    audience: Option<String>,
    device: Option<String>,
    refresh: bool,
    nonce: Option<String>,
    authenticated_at: Option<Timestamp>,
    sender: Option<Confirmation>,
    admission: Option<Admission>,
}

/// A moment in the order of revocations, taken by [`Authority::begin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission(pub(super) Seq);

impl Issue {
    /// Tokens for `subject` in the hands of a client.
    pub fn to(subject: impl Into<String>, client_id: &ClientId) -> Issue {
        Issue {
            subject: subject.into(),
            client_id: client_id.clone(),
            scope: None,
            audience: None,
            device: None,
            refresh: true,
            nonce: None,
            authenticated_at: None,
            sender: None,
            admission: None,
        }
    }

    /// The moment at which the host began to authenticate the subject: a revocation since then
    /// prevents the birth. Without it, only one during the call does.
    pub fn admitted(mut self, admission: Admission) -> Issue {
        self.admission = Some(admission);
        self
    }

    /// The scope, space-delimited, within that of the client; all of the client's by default. A
    /// refresh token is born when it has `refresh_token` or `offline_access` and the client may use
    /// the grant type `refresh_token`.
    pub fn scope(mut self, scope: impl Into<String>) -> Issue {
        self.scope = Some(scope.into());
        self
    }

    /// The audience, space-delimited, within those of the client; all of them by default.
    pub fn audience(mut self, audience: impl Into<String>) -> Issue {
        self.audience = Some(audience.into());
        self
    }

    /// The device, where the host tells devices apart; each has its own place under the client's
    /// pair policy.
    pub fn device(mut self, device: impl Into<String>) -> Issue {
        self.device = Some(device.into());
        self
    }

    /// The `nonce` of the ID token, which there is with the scope `openid`; at most
    /// [`NONCE_LEN_MAX`](super::NONCE_LEN_MAX) bytes.
    pub fn nonce(mut self, nonce: impl Into<String>) -> Issue {
        self.nonce = Some(nonce.into());
        self
    }

    /// When the subject was authenticated (`auth_time` of its ID tokens, those of later refreshes too);
    /// now by default.
    pub fn authenticated_at(mut self, at: Timestamp) -> Issue {
        self.authenticated_at = Some(at);
        self
    }

    /// What the tokens are bound to: the host has seen that the client has it.
    pub fn bound_to(mut self, sender: Confirmation) -> Issue {
        self.sender = Some(sender);
        self
    }

    /// No refresh token, whatever the scope says.
    pub fn without_refresh(mut self) -> Issue {
        self.refresh = false;
        self
    }
}

impl<S: Store> Authority<S> {
    /// Call it **before** authenticating a subject and hand the result to [`Issue::admitted`]: a
    /// subject that is revoked while its password is being checked then gets no token.
    #[must_use]
    pub fn begin(&self) -> Admission {
        Admission(self.inner.store.admission())
    }

    /// Issues tokens for a subject that the host has authenticated.
    ///
    /// # Durability
    /// The ticket resolves when the tokens are on stable storage. Dropping it leaves them live; with
    /// a remote signing key ([`SigningKey::remote`]), a ticket of a JWT that is dropped before the
    /// signature is there leaves nothing.
    ///
    /// # Errors
    /// [`Error::InvalidClient`] for an unknown client; [`Error::InvalidScope`],
    /// [`Error::InvalidTarget`], [`Error::InvalidRequest`] for a scope, audience, subject, device
    /// or nonce that is malformed or exceeds the client's; [`Error::AccessDenied`] for a subject whose tokens
    /// the client may not have, and when the pair is taken
    /// (policy `Reject`); [`Error::InvalidGrant`] when a revocation came in between;
    /// [`Error::TooManyRequests`] beyond what the limits allow; [`Error::ServerError`] when a remote key
    /// has not signed, or the ID token would be too long, and then nothing is born;
    /// [`Error::TemporarilyUnavailable`].
    ///
    /// [`SigningKey::remote`]: crate::codec::keys::SigningKey::remote
    pub fn issue(&self, issue: Issue) -> Ticket<Issued, Error> {
        let now = self.inner.store.admission();
        // I3: the least of what it derives from.
        let admission = issue.admission.map_or(now, |begun| begun.0.min(now));
        let client = issue.client_id.clone();
        let issued = ticket(self.inner.issue(admission, issue));
        self.inner.audited(Action::Issue, || Asker::client(&client), issued)
    }

    /// Issues tokens for many subjects, in their order, as [`Authority::issue`] would one by one: each
    /// has an answer of its own, and one that is refused stops no other. One wait is enough for all.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mintage::authority::{Authority, Client, GrantType, Issue};
    /// # use mintage::root_key::RootKey;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let authority = Authority::builder("https://login.example.com").in_memory(RootKey::from_bytes(1, [7; 32]))?;
    /// # let client = Client::confidential("app").grants([GrantType::RefreshToken]).scopes(["api"]);
    /// # let client = authority.register(client).wait()?;
    /// let issues = ["ann", "ben"].map(|subject| Issue::to(subject, &client.client_id));
    /// for issued in authority.issue_many(issues).wait() {
    ///     println!("{}", issued?.expires_in);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn issue_many(&self, issues: impl IntoIterator<Item = Issue>) -> Batch<Issued, Error> {
        // The iterator is foreign code, and may take its time.
        let issues: Vec<Issue> = issues.into_iter().collect();
        let issue = || issues.into_iter().map(|issue| self.issue(issue)).collect();
        Batch::of(self.inner.store.together(issue))
    }
}

impl<S: Store> Inner<S> {
    fn issue(
        self: &Arc<Self>,
        admission: Seq,
        issue: Issue,
    ) -> Result<Ticket<Issued, Error>, Error> {
        let Issue { subject, client_id, scope, audience, device, refresh, nonce, sender, .. } =
            issue;
        let authenticated_at = issue.authenticated_at;
        let client = self
            .clients
            .get(&client_id)
            .ok_or_else(|| Error::InvalidClient(Reason::new("unknown client")))?;
        let late = planted!(NotedAfterAuthentication);
        let admission = if late { self.store.admission() } else { admission };
        let subject = Subject::new(subject)
            .map_err(|error| Error::InvalidRequest(Reason::with("subject", error)))?;
        if !self.is_permitted(&client, &subject) {
            return Err(Error::AccessDenied(not_permitted()));
        }
        if client.is_blocked() {
            let reason = Reason::new("the client is blocked").because(Cause::Blocked);
            return Err(Error::InvalidClient(reason));
        }
        if nonce.as_ref().is_some_and(|nonce| nonce.len() > NONCE_LEN_MAX) {
            return Err(Error::InvalidRequest(Reason::new("the nonce is too long")));
        }
        let device = device.map(DeviceId::new).transpose();
        let device =
            device.map_err(|error| Error::InvalidRequest(Reason::with("device", error)))?;
        let scope = narrow_scope(scope.as_deref(), client.scopes(), self.profile)?;
        let audience = audience.as_deref().map(Audience::parse).transpose()?;
        let audience = self.narrow_audience(audience, &client)?;
        let wants_refresh = REFRESH_SCOPES.iter().any(|token| scope.has(token));
        let refresh = refresh && wants_refresh && client.refreshes();
        let code = None;
        let sender = Sender::seen_by_host(&client, sender)?;
        self.give_birth(Granted {
            admission,
            client,
            subject,
            device,
            scope,
            audience,
            refresh,
            login: Some(LoginFacts {
                nonce,
                at: Some(authenticated_at.unwrap_or_else(|| self.clock.read().unix)),
                code: None,
                is_told: true,
            }),
            sender,
            code,
            ends_at: None,
            actors: Actors::default(),
        })
    }

    /// The audience asked for within the client's, or all of the client's.
    pub(super) fn narrow_audience(
        &self,
        asked: Option<Audience>,
        client: &RegisteredClient,
    ) -> Result<Audience, Error> {
        narrow_audience(asked, self.audiences_of(client))
    }

    /// What of the audiences that were granted the client may have still.
    pub(super) fn still_of(
        &self,
        granted: &Audience,
        client: &RegisteredClient,
    ) -> Result<Audience, Error> {
        let common = granted.intersection(self.audiences_of(client));
        match common.is_empty() {
            false => Ok(common),
            true => {
                let reason = Reason::new("the client has none of the granted audiences any more");
                Err(Error::InvalidTarget(reason))
            }
        }
    }

    fn audiences_of<'a>(&'a self, client: &'a RegisteredClient) -> &'a Audience {
        let own = client.audiences();
        if own.is_empty() { &self.audience } else { own }
    }
}

/// The scope asked for, or all of `within` when none is (I9).
pub(super) fn narrow_scope(
    asked: Option<&str>,
    within: &Scope,
    profile: Profile,
) -> Result<Scope, Error> {
    let Some(asked) = asked else { return Ok(within.clone()) };
    let asked =
        Scope::parse(asked).map_err(|error| Error::InvalidScope(Reason::with("scope", error)))?;
    let is_held = asked.tokens().all(|token| profile.covers(within, token));
    match is_held {
        true => Ok(asked),
        false => Err(Error::InvalidScope(Reason::new("the scope exceeds what was granted"))),
    }
}

/// The scope asked for, or all that was granted, as far as the client may have it still (I9). Of scopes
/// that hold others neither is reached by way of the other: a token is within what was granted, and
/// within what is registered.
pub(super) fn narrow_granted(
    asked: Option<&str>,
    granted: &Scope,
    client: &RegisteredClient,
    profile: Profile,
) -> Result<Scope, Error> {
    let within = profile.covered(granted, client.scopes());
    let scope = narrow_scope(asked, &within, profile)?;
    let is_registered = scope.tokens().all(|token| profile.covers(client.scopes(), token));
    match is_registered {
        true => Ok(scope),
        false => Err(Error::InvalidScope(Reason::new("the scope exceeds the client's"))),
    }
}

/// The audience asked for, or all of `within` when none is (I9).
pub(super) fn narrow_audience(
    asked: Option<Audience>,
    within: &Audience,
) -> Result<Audience, Error> {
    let Some(asked) = asked else { return Ok(within.clone()) };
    match asked.is_within(within) && !asked.is_empty() {
        true => Ok(asked),
        false => Err(Error::InvalidTarget(Reason::new("the audience exceeds what was granted"))),
    }
}
