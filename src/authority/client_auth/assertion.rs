//! Authenticating by assertion (RFC 7523 section 2.2): `private_key_jwt` and `client_secret_jwt`.

use std::sync::Arc;

use super::super::Inner;
use super::super::client::RegisteredClient;
use super::super::derive::DeriveKeys;
use super::super::error::{Cause, Error, Reason};
use super::keys::ClientKeys;
use super::{AuthMethod, Authenticated, unknown_client};
use crate::codec::assertion::{Assertion, AssertionError, AssertionVerifier, VerifiedAssertion};
use crate::codec::keys::VerifyingKey;
use crate::ids::ClientId;
use crate::secret::SecretText;
use crate::store::{Outcome, Store, StoreError, Ticket, UseOnce, UseOnceOutcome, Verb};
use crate::time::Timestamp;

/// How far ahead an assertion may expire unless a host says otherwise, in seconds: what the
/// libraries of clients use at most.
pub const ASSERTION_SECS_MAX: u64 = 3_600;
/// How many unexpired assertions of one issuer are remembered unless a host says otherwise.
pub const ASSERTIONS_MAX: u32 = 100_000;

impl<S: Store> Inner<S> {
    /// The client that signed an assertion, once for each.
    pub(super) fn by_assertion(
        &self,
        text: &SecretText,
        client_id: Option<&ClientId>,
    ) -> Result<Authenticated, Error> {
        let now = self.clock.read();
        let assertion = self.assertions.read(text.expose()).map_err(refused)?;
        // RFC 7523 section 3: for client authentication "iss" and "sub" are the client_id.
        let said = assertion.said_issuer().ok_or(AssertionError::MissingClaim("iss"));
        let id = ClientId::new(said.map_err(refused)?)
            .map_err(|error| Error::InvalidClient(Reason::with("iss is no client_id", error)))?;
        // RFC 7521 section 4.2: "The "client_id" [...] MUST identify the same client as is
        // identified by the client assertion."
        if client_id.is_some_and(|client_id| *client_id != id) {
            return Err(Error::InvalidClient(Reason::new(
                "client_id is not that of the assertion",
            )));
        }
        let client = self.clients.get(&id).ok_or_else(unknown_client)?;
        let verified = self.verified(&client, assertion, text, now.unix)?;
        if verified.subject() != Some(id.as_str()) {
            return Err(Error::InvalidClient(Reason::new("sub is not the client_id")));
        }
        // OpenID Connect Core section 9: jti is required and opens once.
        let jti = verified.jti().ok_or(AssertionError::MissingClaim("jti")).map_err(refused)?;
        let used = self.use_assertion(id.as_str(), jti, verified.expires_at(), || {
            let reason = Reason::new("the assertion was used before, or has expired");
            Error::InvalidClient(reason.because(Cause::JtiUsed))
        })?;
        Ok(Authenticated { client, used: Some(used) })
    }

    fn verified(
        &self,
        client: &RegisteredClient,
        assertion: Assertion<'_>,
        text: &SecretText,
        now: Timestamp,
    ) -> Result<VerifiedAssertion, Error> {
        let method = method_of(&assertion);
        if !client.settings.methods.contains(&method) {
            return Err(Error::InvalidClient(Reason::new("not registered for this assertion")));
        }
        if method == AuthMethod::PrivateKeyJwt {
            let verifier = &self.assertions;
            return self
                .signed_by(client, verifier, assertion, text.expose(), now)
                .map_err(refused);
        }
        let live_at = self.now();
        let live = client.secrets.iter().filter(|kept| kept.is_live(live_at));
        let keys: Vec<VerifyingKey> = live.filter_map(|kept| kept.hmac().cloned()).collect();
        self.assertions.verify(assertion, &keys, now).map_err(refused)
    }

    /// What a client signed with a key of its own; `text` is the assertion as it came.
    pub(in crate::authority) fn signed_by(
        &self,
        client: &RegisteredClient,
        verifier: &AssertionVerifier,
        assertion: Assertion<'_>,
        text: &str,
        now: Timestamp,
    ) -> Result<VerifiedAssertion, AssertionError> {
        let kid = assertion.said_kid().map(str::to_owned);
        match verifier.verify(assertion, &self.keys_of(client, None), now) {
            // The client may have changed its keys, under the same names too: the host may know newer
            // ones.
            Err(AssertionError::UnknownKey | AssertionError::BadSignature)
                if matches!(client.settings.keys, Some(ClientKeys::Hosted(_))) =>
            {
                let keys = self.keys_of(client, Some(kid.as_deref().unwrap_or_default()));
                verifier.verify(verifier.read(text)?, &keys, now)
            }
            verified => verified,
        }
    }

    fn keys_of(&self, client: &RegisteredClient, unknown_kid: Option<&str>) -> Vec<VerifyingKey> {
        let set = match (&client.settings.keys, unknown_kid) {
            (Some(ClientKeys::Registered(set)), None) => Some(Arc::clone(set)),
            (Some(ClientKeys::Hosted(_)), _) => {
                self.key_source.keys(client.client_id().as_str(), unknown_kid)
            }
            _ => None,
        };
        set.map(|set| set.keys().to_vec()).unwrap_or_default()
    }

    /// Uses an assertion up. It is decided when this returns; the ticket resolves when it is durable.
    pub(in crate::authority) fn use_assertion(
        &self,
        issuer: &str,
        jti: &str,
        expires_at: Timestamp,
        again: impl FnOnce() -> Error + Send + 'static,
    ) -> Result<Ticket<(), Error>, Error> {
        let (owner, digest) = DeriveKeys::assertion_digests(issuer, jti);
        let verb = Verb::UseOnce(UseOnce {
            owner,
            digest,
            expires_at: expires_at.plus(self.assertions.leeway_secs()),
            owner_max: self.assertions_max,
            now: self.clock.read(),
        });
        self.use_once(verb, again)
    }

    /// Uses a value up that opens once, or says what `again` does. It is decided when this returns;
    /// the ticket resolves when it is durable.
    pub(in crate::authority) fn use_once(
        &self,
        verb: Verb,
        again: impl FnOnce() -> Error + Send + 'static,
    ) -> Result<Ticket<(), Error>, Error> {
        let used = self.store.apply(verb).and_then(|outcome| match outcome? {
            Outcome::UseOnce(UseOnceOutcome::First) => Ok(()),
            Outcome::UseOnce(UseOnceOutcome::Again | UseOnceOutcome::Expired) => Err(again()),
            Outcome::UseOnce(UseOnceOutcome::Full) => {
                tracing::warn!("a client has used too many values that have not expired");
                Err(StoreError::Busy.into())
            }
            _ => Err(Error::ServerError(Reason::new("the store answered another question"))),
        });
        match used.decided() {
            Some(Err(error)) => Err(error.clone()),
            Some(Ok(())) => Ok(used),
            // A store that cannot decide at once: nothing may happen before it has.
            None => used.wait().map(|()| Ticket::ready(Ok(()))),
        }
    }
}

pub(super) fn method_of(assertion: &Assertion<'_>) -> AuthMethod {
    match assertion.is_symmetric() {
        true => AuthMethod::ClientSecretJwt,
        false => AuthMethod::PrivateKeyJwt,
    }
}

fn refused(error: AssertionError) -> Error {
    Error::InvalidClient(Reason::with("assertion", error))
}
