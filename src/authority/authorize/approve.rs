//! From a user who agrees to a code.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::audience::Audience;
use super::super::audit::{Action, Asker, AuditEvent};
use super::super::client::RegisteredClient;
use super::super::derive::DeriveKeys;
use super::super::error::{Error, Reason};
use super::super::issue::{Admission, narrow_scope};
use super::super::policy::{PermittedUsers, not_permitted};
use super::super::{Authority, Inner};
use super::front::Agreed;
use super::pkce::Challenge;
use super::request::{Authorization, AuthorizationError};
use super::step::{Situation, Step, is_logged_in, next};
use crate::codec::handle::HandleKind;
use crate::entropy::random;
use crate::ids::{DeviceId, Subject};
use crate::locator::Locator;
use crate::scope::Scope;
use crate::secret::{SecretBytes, SecretText};
use crate::store::{
    CodeBirth, CodeOutcome, Listing, Near, Outcome, Pair, Seq, Store, Ticket, UseOnce, Verb,
};
use crate::time::Timestamp;

/// How many logins of a pair are asked what was approved before.
const APPROVALS_READ_MAX: usize = 64;

/// Who is logged in at the host, and since when.
#[derive(Clone, Debug)]
pub struct Login {
    subject: Subject,
    device: Option<DeviceId>,
    at: Timestamp,
    is_chosen: bool,
    admission: Option<Seq>,
    address: Option<IpAddr>,
}

impl Login {
    /// Somebody who has just logged in.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for a malformed subject.
    pub fn now<S: Store>(
        subject: impl AsRef<str>,
        authority: &Authority<S>,
    ) -> Result<Login, Error> {
        Login::at(subject, authority.inner.clock.read().unix)
    }

    /// Somebody who logged in at that time, by the host's session.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for a malformed subject.
    pub fn at(subject: impl AsRef<str>, at: Timestamp) -> Result<Login, Error> {
        let subject = Subject::new(subject)
            .map_err(|error| Error::InvalidRequest(Reason::with("subject", error)))?;
        Ok(Login { subject, device: None, at, is_chosen: false, admission: None, address: None })
    }

    /// The device, where the host tells devices apart.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for a malformed device.
    pub fn device(self, device: impl AsRef<str>) -> Result<Login, Error> {
        let device = DeviceId::new(device)
            .map_err(|error| Error::InvalidRequest(Reason::with("device", error)))?;
        Ok(Login { device: Some(device), ..self })
    }

    /// The user chose this account for this request ([`Step::SelectAccount`]).
    #[must_use]
    pub fn chosen(self) -> Login {
        Login { is_chosen: true, ..self }
    }

    /// Where the user's browser is. Tokens come through it only to where the client's
    /// [`ip_ranges`](super::super::Client::ip_ranges) permit, and with no address to no client that has any.
    #[must_use]
    pub fn from_address(self, address: IpAddr) -> Login {
        Login { address: Some(address), ..self }
    }

    /// The moment at which the host began to authenticate the subject, from
    /// [`Authority::begin`]: whoever is revoked since then gets no code.
    #[must_use]
    pub fn admitted(self, admission: Admission) -> Login {
        Login { admission: Some(admission.0), ..self }
    }
}

/// What a code stands for, as it lies in the store. There is no secret in it.
#[derive(Serialize, Deserialize)]
pub(super) struct Terms {
    pub(super) redirect_uri: String,
    /// Whether the redemption must name it.
    pub(super) names_redirect: bool,
    pub(super) challenge: Option<Challenge>,
    pub(super) scope: String,
    pub(super) audience: String,
    pub(super) nonce: Option<String>,
    pub(super) dpop_jkt: Option<String>,
    pub(super) authenticated_at: u64,
}

impl<S: Store> Authority<S> {
    /// What the host shows next. What a user has approved for a client before, and still stands as a
    /// login of theirs, is not asked again; a client with [`PermittedUsers::Listed`] or
    /// [`PermittedUsers::AdminApproved`] asks nobody.
    ///
    /// # Errors
    /// [`AuthorizationError`] with a redirect: [`Error::LoginRequired`] and
    /// [`Error::ConsentRequired`] where nothing may be shown; [`Error::AccessDenied`] for a user
    /// whose tokens the client may not have; [`Error::TemporarilyUnavailable`].
    pub fn next_step(
        &self,
        authorization: &Authorization,
        login: Option<&Login>,
    ) -> Ticket<Step, AuthorizationError> {
        let inner = Arc::clone(&self.inner);
        let (authorization, login) = (authorization.clone(), login.cloned());
        let Some(login) = login else {
            return Ticket::ready(inner.step(&authorization, None, &Scope::empty()));
        };
        let approvals =
            inner.store.list(Listing::OfPair(login.pair(&authorization)), None, APPROVALS_READ_MAX);
        Ticket::slow(async move {
            let page = approvals.await.map_err(|error| authorization.refused(error.into()))?;
            let stands = page.grants.iter().filter(|row| row.refreshable);
            let approved = stands.fold(Scope::empty(), |all, row| {
                // Too many to hold: what does not fit is asked again.
                all.union(&row.scope).unwrap_or(all)
            });
            inner.step(&authorization, Some(&login), &approved)
        })
    }

    /// Gives the client a code for `scope`, which the user has agreed to or is not asked for, and
    /// says where the browser goes: the redirect URI with the code, the state and the issuer. The
    /// text holds the code: keep it out of logs.
    ///
    /// # Durability
    /// The ticket resolves when the code is on stable storage.
    ///
    /// # Errors
    /// [`AuthorizationError`] with a redirect: [`Error::LoginRequired`] when the login is not the one
    /// that the request demands; [`Error::InvalidScope`] for more than was asked for;
    /// [`Error::AccessDenied`] for a user whose tokens the client may not have, and when a revocation
    /// came in between; [`Error::TemporarilyUnavailable`].
    pub fn approve(
        &self,
        authorization: &Authorization,
        login: &Login,
        scope: &str,
    ) -> Ticket<SecretText, AuthorizationError> {
        let code = match self.inner.approve(authorization, login, scope) {
            Ok(ticket) => ticket,
            Err(error) => Ticket::ready(Err(authorization.refused(error))),
        };
        let inner = Arc::clone(&self.inner);
        let (pair, scope) = (login.pair(authorization), scope.to_owned());
        let code = code.and_then(move |code| {
            if code.is_ok() {
                let event = AuditEvent::of(Action::Authorize).client(&pair.client);
                let (subject, scope) = (Some(pair.subject.as_str()), Some(scope.as_str()));
                inner.tell(|| AuditEvent { subject, scope, ..event });
            }
            code
        });
        self.inner.audited(Action::Authorize, || Asker::client(&authorization.client.id), code)
    }
}

impl<S: Store> Inner<S> {
    fn step(
        &self,
        authorization: &Authorization,
        login: Option<&Login>,
        approved: &Scope,
    ) -> Result<Step, AuthorizationError> {
        let refuse = |error| authorization.refused(error);
        let client = &authorization.client;
        if let Some(login) = login {
            self.check_login(client, authorization, login).map_err(refuse)?;
        }
        let is_pre_approved = client.settings.permitted != PermittedUsers::SelfAuthorized;
        let situation = self.situation(authorization, login, approved, is_pre_approved);
        next(&situation).map_err(refuse)
    }

    /// Whether the client may have what was asked for of whoever logged in, where he is.
    fn check_login(
        &self,
        client: &RegisteredClient,
        authorization: &Authorization,
        login: &Login,
    ) -> Result<(), Error> {
        if !self.is_permitted(client, &login.subject) {
            return Err(Error::AccessDenied(not_permitted()));
        }
        match authorization.response.is_front() {
            true => client.check_address(login.address, false),
            // Whoever redeems the code is asked where it is.
            false => Ok(()),
        }
    }

    fn situation<'a>(
        &self,
        authorization: &'a Authorization,
        login: Option<&Login>,
        approved: &'a Scope,
        is_pre_approved: bool,
    ) -> Situation<'a> {
        Situation {
            prompt: authorization.prompt,
            max_age: authorization.max_age,
            begun_at: authorization.begun_at,
            now: self.clock.read().unix,
            logged_in_at: login.map(|login| login.at),
            is_chosen: login.is_some_and(|login| login.is_chosen),
            asked: &authorization.scope,
            approved,
            is_pre_approved,
        }
    }

    fn approve(
        self: &Arc<Self>,
        authorization: &Authorization,
        login: &Login,
        scope: &str,
    ) -> Result<Ticket<SecretText, AuthorizationError>, Error> {
        let authorization = &self.as_of_now(authorization)?;
        let none = Scope::empty();
        if !is_logged_in(&self.situation(authorization, Some(login), &none, false)) {
            return Err(Error::LoginRequired(Reason::new("the login is not the one demanded")));
        }
        self.check_login(&authorization.client, authorization, login)?;
        let scope = narrow_scope(Some(scope), &authorization.scope, self.profile)?;
        // What the client may have no more, or may not have by way of what it asked for.
        let scope = self.profile.covered(&scope, authorization.client.scopes());
        let admission = login
            .admission
            .map_or(authorization.admission, |login| login.min(authorization.admission));
        let used = self.use_reference(authorization)?;
        let response = authorization.response;
        // The store judges the birth of an access token, or else that of a code: one that nobody gets
        // where an ID token comes alone.
        let code = match response.code || !response.token {
            true => Some(self.offer_code(authorization, login, &scope, admission)?),
            false => None,
        };
        let (authorization, login) = (authorization.clone(), login.clone());
        Ok(match (code, used) {
            (Some((code, born)), None) if !response.is_front() => born.and_then(move |born| {
                let url = authorization.redirect.url(&[("code", code.expose())]);
                born.map(|()| SecretText::new(url)).map_err(|error| authorization.refused(error))
            }),
            (code, used) => {
                let agreed = Agreed { authorization, login, scope, admission };
                Ticket::slow(Arc::clone(self).answer_in_front(agreed, used, code))
            }
        })
    }

    /// With the client as it is now.
    fn as_of_now(&self, authorization: &Authorization) -> Result<Authorization, Error> {
        let client = self.clients.get(&authorization.client.id);
        let client = client.filter(|client| !client.is_blocked());
        let mut now = authorization.clone();
        now.client = client
            .ok_or_else(|| Error::AccessDenied(Reason::new("the client is gone or blocked")))?;
        Ok(now)
    }

    /// The code, and its birth.
    pub(in crate::authority) fn offer_code(
        &self,
        authorization: &Authorization,
        login: &Login,
        scope: &Scope,
        admission: Seq,
    ) -> Result<(SecretText, Ticket<(), Error>), Error> {
        let now = self.clock.read();
        let pair = login.pair(authorization);
        let id = self.store.draw(Near::Pair(&pair));
        let bucket = u32::try_from(now.unix.0 / 60).unwrap_or(u32::MAX);
        let secret = SecretBytes::new(random(&*self.entropy)?);
        let version = self.handles.current_version();
        let locator = Locator { class: 0, bucket, id };
        let (code, digest) = self.handle(version, HandleKind::Code, locator, &secret, None)?;
        let terms = Terms {
            redirect_uri: authorization.redirect.uri.clone(),
            names_redirect: authorization.names_redirect,
            challenge: authorization.challenge,
            scope: scope.as_str().to_owned(),
            audience: authorization.audience.as_str().to_owned(),
            nonce: authorization.nonce.clone(),
            dpop_jkt: authorization.dpop_jkt.clone(),
            authenticated_at: login.at.0,
        };
        let body = serde_json::to_vec(&terms)
            .map_err(|error| Error::ServerError(Reason::with("the code has no terms", error)))?;
        let birth = CodeBirth {
            pair,
            admission,
            now,
            id,
            digest,
            issued_at: now.unix,
            expires_at: now.unix.plus(self.code_secs),
            body: Arc::from(body),
        };
        let born = self.store.apply(Verb::Code(Box::new(birth)));
        let born = born.and_then(move |outcome| match outcome? {
            Outcome::Code(CodeOutcome::Born) => Ok(()),
            Outcome::Code(CodeOutcome::Refused) => {
                Err(Error::AccessDenied(Reason::new("revoked while it was being approved")))
            }
            _ => Err(Error::ServerError(Reason::new("the store answered another question"))),
        });
        Ok((code, born))
    }

    /// A pushed request is approved once.
    fn use_reference(
        &self,
        authorization: &Authorization,
    ) -> Result<Option<Ticket<(), Error>>, Error> {
        let Some(reference) = authorization.reference else { return Ok(None) };
        let (owner, _) = DeriveKeys::assertion_digests(authorization.client.id.as_str(), "");
        let verb = Verb::UseOnce(UseOnce {
            owner,
            digest: reference.digest,
            expires_at: reference.expires_at,
            owner_max: self.assertions_max,
            now: self.clock.read(),
        });
        let again = || Error::InvalidRequestUri(Reason::new("used before, or expired"));
        self.use_once(verb, again).map(Some)
    }
}

impl Login {
    pub(in crate::authority) fn subject(&self) -> &Subject {
        &self.subject
    }

    pub(in crate::authority) fn device_id(&self) -> Option<&DeviceId> {
        self.device.as_ref()
    }

    pub(in crate::authority) fn authenticated_at(&self) -> Timestamp {
        self.at
    }

    /// The moment at which the host began to authenticate the subject.
    pub(in crate::authority) fn admission(&self) -> Option<Seq> {
        self.admission
    }

    fn pair(&self, authorization: &Authorization) -> Pair {
        Pair {
            client: authorization.client.id.clone(),
            subject: self.subject.clone(),
            device: self.device.clone(),
        }
    }
}

impl Terms {
    pub(super) fn read(body: &[u8]) -> Option<(Terms, Scope, Audience)> {
        let terms: Terms = serde_json::from_slice(body).ok()?;
        let scope = Scope::parse(&terms.scope).ok()?;
        let audience = Audience::parse(&terms.audience).ok()?;
        Some((terms, scope, audience))
    }
}

impl fmt::Debug for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Terms")
    }
}
