//! Authenticating clients (RFC 6749 section 2.3): by secret, by assertion, by certificate, or not at
//! all where a client can keep no secret.
//!
//! The authority authenticates a caller itself, after it has noted the sequence: a client that is
//! revoked in between gets nothing that outlives the revocation.

mod assertion;
mod caller;
mod credentials;
mod keys;
mod method;
mod secret;
mod slow_room;

use std::sync::Arc;

pub use assertion::{ASSERTION_SECS_MAX, ASSERTIONS_MAX};
pub use caller::Caller;
pub use credentials::{Credentials, JWT_BEARER};
pub use keys::{KeySource, KeyTable};
pub use method::AuthMethod;
pub use secret::{CHOSEN_SECRET_LEN_MIN, CLIENT_SECRET_LEN_MAX};

pub(super) use keys::ClientKeys;
pub(super) use secret::{Keeping, KeptSecret, SECRETS_MAX, SecretForm};
pub(super) use slow_room::SlowRoom;

use caller::Proof;
use secret::Opens;

use super::audit::{Action, Asker};
use super::client::{GrantType, RegisteredClient};
use super::error::{Cause, Error, Reason};
use super::lookup::ticket;
use super::{Authority, Inner};
use crate::ids::ClientId;
use crate::secret::{SecretBytes, SecretText, same_bytes};
use crate::store::{Store, Ticket};

/// A client that has proven itself.
pub(super) struct Authenticated {
    client: Arc<RegisteredClient>,
    /// Resolves when the use of its assertion is durable.
    used: Option<Ticket<(), Error>>,
}

/// A secret in the hands of a caller, with its fast digest.
struct Given<'a> {
    text: &'a str,
    version: u8,
    fast: SecretBytes<32>,
}

impl<S: Store> Authority<S> {
    /// Whether authenticating `caller` takes an Argon2id computation: some 20 ms of a core and
    /// 19 MiB, on the thread that makes the request. It does for a client with a secret that somebody
    /// chose, until that has opened once in this process. Make such a request on a thread that may
    /// block; at most two run at a time, one for each client, and others are answered "busy". After
    /// some wrong secrets in a row a client's next one is computed only after a pause, of two seconds
    /// at most.
    #[must_use]
    pub fn is_slow(&self, caller: &Caller) -> bool {
        self.inner.is_slow(caller)
    }
}

impl<S: Store> Inner<S> {
    /// Goes on as the client that `caller` proves to be, for a grant where it asks for tokens. Call it
    /// after the sequence was noted (rule: note, then authenticate).
    ///
    /// The answer is held back until the use of an assertion is durable: after a crash nobody gets a
    /// second answer for one assertion.
    pub(super) fn as_client<T: Unpin + Send + 'static>(
        self: &Arc<Self>,
        caller: &Caller,
        action: Action,
        grant: Option<GrantType>,
        answer: impl FnOnce(Arc<RegisteredClient>) -> Result<Ticket<T, Error>, Error>,
    ) -> Ticket<T, Error> {
        let Authenticated { client, used } = match self.authenticate(caller, grant) {
            Ok(authenticated) => authenticated,
            Err(error) => {
                let client = caller.client_id.clone().and_then(Result::ok);
                let asker = || Asker { client, address: caller.address };
                return self.audited(action, asker, Ticket::ready(Err(error)));
            }
        };
        let asker = Asker { client: Some(client.id.clone()), address: caller.address };
        let answer = ticket(answer(client));
        let answer = match used {
            None => answer,
            Some(used) => Ticket::slow(async move {
                used.await?;
                answer.await
            }),
        };
        self.audited(action, || asker, answer)
    }

    fn authenticate(
        &self,
        caller: &Caller,
        grant: Option<GrantType>,
    ) -> Result<Authenticated, Error> {
        let elapsed = || self.clock.read().elapsed;
        let guesser = self.limiter.admit(|| self.guessed(caller), caller.address, elapsed)?;
        let proven = self.prove(caller, grant);
        match &proven {
            Ok(_) => self.limiter.judged(guesser, true, elapsed),
            Err(Error::InvalidClient(_)) => self.limiter.judged(guesser, false, elapsed),
            Err(_) => {}
        }
        let authenticated = proven?;
        if authenticated.client.settings.blocked {
            let reason = Reason::new("the client is blocked").because(Cause::Blocked);
            return Err(Error::InvalidClient(reason));
        }
        Ok(authenticated)
    }

    /// Whose secret or key a caller might guess, and by which method: who proves nothing guesses
    /// nothing, and a guess at a secret says nothing of a key.
    fn guessed(&self, caller: &Caller) -> Option<(ClientId, AuthMethod)> {
        match &caller.proof {
            Proof::None => None,
            Proof::Secret(..) => {
                let id = caller.client_id.as_ref()?.as_ref().ok()?;
                Some((id.clone(), AuthMethod::ClientSecret))
            }
            Proof::Assertion(text) => {
                let assertion = self.assertions.read(text.expose()).ok()?;
                let id = ClientId::new(assertion.said_issuer()?).ok()?;
                Some((id, assertion::method_of(&assertion)))
            }
        }
    }

    fn prove(&self, caller: &Caller, grant: Option<GrantType>) -> Result<Authenticated, Error> {
        let id = match &caller.client_id {
            Some(Ok(id)) => Some(id),
            Some(Err(error)) => {
                let reason = Reason::with("malformed client_id", *error);
                return Err(Error::InvalidClient(reason.because(Cause::UnknownClient)));
            }
            None => None,
        };
        let known = |client: Arc<RegisteredClient>| Authenticated { client, used: None };
        match (&caller.proof, id) {
            (Proof::Assertion(text), _) => self.by_assertion(text, id),
            (Proof::Secret(text, other), Some(id)) => {
                self.by_secret(id, text, other.as_ref()).map(known)
            }
            (Proof::None, Some(id)) => self.by_presence(id, caller.certificate, grant).map(known),
            (_, None) => Err(unknown_client()),
        }
    }

    fn by_secret(
        &self,
        id: &ClientId,
        text: &SecretText,
        other: Option<&SecretText>,
    ) -> Result<Arc<RegisteredClient>, Error> {
        if text.expose().len() > CLIENT_SECRET_LEN_MAX {
            return Err(Error::InvalidClient(Reason::new("the secret is too long")));
        }
        let known = self.clients.get(id);
        let is_known = known.is_some();
        let client = known.unwrap_or_else(|| self.clients.decoy());
        let first = self.opens(id, &client, text.expose())?;
        let opens = match other {
            Some(other) if !first => self.opens(id, &client, other.expose())?,
            _ => first,
        };
        if !is_known {
            return Err(unknown_client());
        }
        if client.settings.methods.contains(&AuthMethod::None) {
            return Err(Error::InvalidClient(Reason::new("a public client gave a secret")));
        }
        if !client.settings.methods.contains(&AuthMethod::ClientSecret) {
            return Err(Error::InvalidClient(Reason::new("not registered for a secret")));
        }
        match opens {
            true => Ok(client),
            false => Err(Error::InvalidClient(Reason::new("wrong secret"))),
        }
    }

    /// Whether a secret opens a client. For an unknown one a decoy is asked, so that time does not
    /// tell it from a wrong secret.
    fn opens(&self, id: &ClientId, client: &RegisteredClient, text: &str) -> Result<bool, Error> {
        let now = self.now();
        let mut given: Option<Given<'_>> = None;
        let mut opens = false;
        for kept in &client.secrets {
            if given.as_ref().is_none_or(|given| given.version != kept.key_version) {
                given = self.given(kept.key_version, id, text);
            }
            let Some(given) = &given else {
                tracing::debug!(client_id = %id, "the root key lacks the version of a secret");
                continue;
            };
            let found = match kept.opens_fast(&given.fast) {
                _ if !kept.is_live(now) => false,
                Opens::Yes => true,
                Opens::No => false,
                Opens::AskSlowly if opens => false,
                Opens::AskSlowly => {
                    let place = self.slow_room.guess(id, self.clock.read().elapsed)?;
                    let opens = kept.opens_slowly(&self.derive, given.text, &given.fast)?;
                    place.judged(opens, self.clock.read().elapsed);
                    opens
                }
            };
            opens |= found;
        }
        Ok(opens)
    }

    /// The secret that a caller proved itself with, as it was meant.
    pub(super) fn secret_of(&self, caller: &Caller) -> Option<SecretText> {
        let (Some(Ok(id)), Proof::Secret(text, other)) = (&caller.client_id, &caller.proof) else {
            return None;
        };
        let Some(other) = other else { return Some(text.clone()) };
        let client = self.clients.get(id)?;
        let is_first = self.opens(id, &client, text.expose()).is_ok_and(|opens| opens);
        Some(if is_first { text.clone() } else { other.clone() })
    }

    /// Whether a token, which has the entropy of a generated secret, is the kept one.
    pub(super) fn is_token(&self, kept: &KeptSecret, id: &ClientId, token: &str) -> bool {
        let given = self.given(kept.key_version, id, token);
        given.is_some_and(|given| kept.opens_fast(&given.fast) == Opens::Yes)
    }

    fn given<'a>(&self, version: u8, id: &ClientId, text: &'a str) -> Option<Given<'a>> {
        let fast = self.derive.client_secret(version, id, text)?;
        Some(Given { text, version, fast })
    }

    fn is_slow(&self, caller: &Caller) -> bool {
        let (Some(Ok(id)), Proof::Secret(text, _)) = (&caller.client_id, &caller.proof) else {
            return false;
        };
        let Some(client) = self.clients.get(id) else { return false };
        let now = self.now();
        let slow = |kept: &KeptSecret| {
            let given = self.given(kept.key_version, id, text.expose());
            given.is_some_and(|given| kept.opens_fast(&given.fast) == Opens::AskSlowly)
        };
        text.expose().len() <= CLIENT_SECRET_LEN_MAX
            && client.secrets.iter().any(|kept| kept.is_live(now) && slow(kept))
    }

    /// A client that says who it is, and may have a certificate to show.
    fn by_presence(
        &self,
        id: &ClientId,
        certificate: Option<[u8; 32]>,
        grant: Option<GrantType>,
    ) -> Result<Arc<RegisteredClient>, Error> {
        let refuse = |why| Error::InvalidClient(Reason::new(why));
        let client = self.clients.get(id).ok_or_else(unknown_client)?;
        let methods = &client.settings.methods;
        let by_certificate = methods.contains(&AuthMethod::SelfSignedTls) && certificate.is_some();
        let optional =
            |grant: GrantType| !by_certificate && client.settings.secret_optional.contains(&grant);
        if methods.contains(&AuthMethod::None) || grant.is_some_and(optional) {
            return Ok(client);
        }
        if !methods.contains(&AuthMethod::SelfSignedTls) {
            return Err(refuse("a confidential client gave no proof"));
        }
        let given = certificate.ok_or_else(|| refuse("no certificate"))?;
        let mut known = client.settings.certificates.iter();
        match known.any(|known| same_bytes(known, &given)) {
            true => Ok(client),
            false => Err(refuse("another certificate")),
        }
    }
}

fn unknown_client() -> Error {
    Error::InvalidClient(Reason::new("unknown client").because(Cause::UnknownClient))
}
