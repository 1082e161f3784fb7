//! Who sends a token: proofs of a key (DPoP, RFC 9449) and the certificate of a connection (RFC 8705),
//! which make a stolen token worth nothing.

use std::fmt;

use super::client::{Client, GrantType, RegisteredClient};
use super::client_auth::Caller;
use super::confirmation::Confirmation;
use super::error::{Error, Reason};
use super::proofs::{Owner, PROOF_LEEWAY_SECS, PROOF_SECS, Unused};
use super::{Authority, Inner};
use crate::codec::dpop::{Proof, ProofExpected};
use crate::ids::{ClientId, Subject};
use crate::secret::same_bytes;
use crate::store::Store;

/// What the tokens of a client must be bound to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SenderConstraint {
    /// To the key of its proof where it sends one; to nothing otherwise.
    #[default]
    Offered,
    /// To a key: a request without a proof is refused (`dpop_bound_access_tokens`).
    Key,
    /// To the certificate of the connection (`tls_client_certificate_bound_access_tokens`).
    Certificate,
}

/// A token as it was presented, with what shows whose it is.
#[derive(Clone, Copy)]
#[must_use = "nothing is checked until the authority gets it"]
pub struct Presented<'a> {
    pub(super) token: &'a str,
    certificate: Option<[u8; 32]>,
    proof: Option<Request<'a>>,
}

/// A proof, and the request that it came with.
#[derive(Clone, Copy)]
struct Request<'a> {
    proof: &'a str,
    method: &'a str,
    url: &'a str,
}

impl<'a> Presented<'a> {
    /// A bearer's (RFC 6750).
    pub fn bearer(token: &'a str) -> Presented<'a> {
        Presented { token, certificate: None, proof: None }
    }

    /// With a proof: the headers `Authorization: DPoP` and `DPoP` of a request with this method and URL
    /// (RFC 9449 section 7.1).
    pub fn dpop(token: &'a str, proof: &'a str, method: &'a str, url: &'a str) -> Presented<'a> {
        Presented { proof: Some(Request { proof, method, url }), ..Presented::bearer(token) }
    }

    /// With the certificate of the connection, by its SHA-256 thumbprint (RFC 8705 section 3).
    pub fn certificate(token: &'a str, thumbprint: [u8; 32]) -> Presented<'a> {
        Presented { certificate: Some(thumbprint), ..Presented::bearer(token) }
    }
}

impl<'a> From<&'a str> for Presented<'a> {
    fn from(token: &'a str) -> Presented<'a> {
        Presented::bearer(token)
    }
}

impl<'a> From<&'a String> for Presented<'a> {
    fn from(token: &'a String) -> Presented<'a> {
        Presented::bearer(token)
    }
}

impl fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Presented([redacted])")
    }
}

impl Client {
    /// What its tokens must be bound to; by default to what it offers. Refresh tokens of a client that
    /// does not authenticate are bound to the same, and need not rotate then.
    pub fn sender_constraint(mut self, constraint: SenderConstraint) -> Client {
        self.settings.sender = constraint;
        self
    }
}

/// What a token request shows of its sender.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sender {
    /// What the tokens are bound to.
    pub(super) confirmation: Option<Confirmation>,
    /// The proof, which is used up with the request.
    pub(super) proof: Option<Unused>,
}

impl Sender {
    /// What the host has seen itself.
    pub(super) fn seen_by_host(
        client: &RegisteredClient,
        confirmation: Option<Confirmation>,
    ) -> Result<Sender, Error> {
        let fits = match client.settings.sender {
            SenderConstraint::Offered => true,
            SenderConstraint::Key => matches!(confirmation, Some(Confirmation::Key(_))),
            SenderConstraint::Certificate => {
                matches!(confirmation, Some(Confirmation::Certificate(_)))
            }
        };
        match fits {
            true => Ok(Sender { confirmation, proof: None }),
            false => {
                let why = "the client's tokens must be bound to something else";
                Err(Error::InvalidRequest(Reason::new(why)))
            }
        }
    }

    /// What a refresh token of this client is bound to: one that proves itself needs nothing more
    /// (RFC 9449 section 5, RFC 8705 section 7.1).
    pub(super) fn of_refresh(&self, client: &RegisteredClient) -> Option<Confirmation> {
        self.confirmation.filter(|_| !proves_at_refresh(client))
    }

    /// Whether a refresh token of this client that is bound to nothing is worth nothing: it is from a
    /// time when the client's tokens did not have to be bound.
    pub(super) fn must_be_bound(client: &RegisteredClient) -> bool {
        client.settings.sender != SenderConstraint::Offered && !proves_at_refresh(client)
    }
}

/// Whether a client proves itself where it refreshes.
fn proves_at_refresh(client: &RegisteredClient) -> bool {
    let optional = &client.settings.secret_optional;
    client.is_confidential() && !optional.contains(&GrantType::RefreshToken)
}

impl<S: Store> Authority<S> {
    /// The nonce that a client should put into its next proof: the header `DPoP-Nonce` of any answer
    /// (RFC 9449 section 8).
    #[must_use]
    pub fn dpop_nonce(&self) -> String {
        self.inner.proofs.nonce(self.inner.now())
    }

    /// Checks that a token, which says that it is bound to `confirmation`, was presented by whom it is
    /// bound to: for a resource server that learned of the token by introspection.
    ///
    /// # Errors
    /// [`Error::InvalidToken`] without the proof or certificate, or with another one's, and for a proof
    /// with a token that is bound to none; [`Error::InvalidDpopProof`] for a proof that is malformed,
    /// for another request or token, too old or used before; [`Error::UseDpopNonce`].
    pub fn check_sender<'a>(
        &self,
        presented: impl Into<Presented<'a>>,
        confirmation: Option<Confirmation>,
    ) -> Result<(), Error> {
        let proof = self.inner.check_sender(&presented.into(), confirmation)?;
        match (proof, confirmation) {
            (Some(proof), Some(Confirmation::Key(key))) => {
                self.inner.proofs.spend(proof, Owner::Key(&key), self.inner.now())
            }
            _ => Ok(()),
        }
    }
}

impl<S: Store> Inner<S> {
    /// What a token request shows of its sender, and what its client must show.
    pub(super) fn sender(
        &self,
        client: &RegisteredClient,
        caller: &Caller,
    ) -> Result<Sender, Error> {
        let (key, proof) = match &caller.proof_of_key {
            Some(given) => {
                let (key, proof) = self.proof(&given.proof, &given.method, &given.url, None)?;
                (Some(Confirmation::Key(key)), Some(proof))
            }
            None => (None, None),
        };
        let confirmation = match client.settings.sender {
            SenderConstraint::Offered => key,
            SenderConstraint::Key => Some(key.ok_or_else(|| {
                Error::InvalidDpopProof(Reason::new("the client must send a proof"))
            })?),
            SenderConstraint::Certificate => {
                if key.is_some() {
                    let why = "the client's tokens are bound to its certificate";
                    return Err(Error::InvalidRequest(Reason::new(why)));
                }
                let none =
                    || Error::InvalidRequest(Reason::new("the client must show a certificate"));
                Some(Confirmation::Certificate(caller.certificate.ok_or_else(none)?))
            }
        };
        Ok(Sender { confirmation, proof })
    }

    /// The key of the proof that comes with a pushed request, as `dpop_jkt` has it. It is not used up:
    /// it only binds the code to itself, and anybody can push in a public client's name.
    pub(super) fn key_of_proof(&self, caller: &Caller) -> Result<Option<String>, Error> {
        let Some(given) = &caller.proof_of_key else { return Ok(None) };
        let (key, _) = self.proof(&given.proof, &given.method, &given.url, None)?;
        Ok(Some(Confirmation::Key(key).value()))
    }

    /// Uses a proof up that came with what is live and the login's. Of many uses one goes on from here.
    pub(super) fn spend_proof(
        &self,
        proof: Option<Unused>,
        client: &ClientId,
        subject: &Subject,
    ) -> Result<(), Error> {
        let owner = Owner::Login(client.as_str(), subject.as_str());
        proof.map_or(Ok(()), |proof| self.proofs.spend(proof, owner, self.now()))
    }

    /// A refresh token or code that is bound is worth nothing to others.
    pub(super) fn check_bound(bound: Option<Confirmation>, sender: &Sender) -> Result<(), Error> {
        match bound {
            Some(bound) if sender.confirmation != Some(bound) => {
                Err(Error::InvalidGrant(Reason::new("it is bound to another sender")))
            }
            _ => Ok(()),
        }
    }

    /// Whether a token is presented by whom it is bound to. The proof is the caller's to spend, once it
    /// knows that the token lives.
    pub(super) fn check_sender(
        &self,
        presented: &Presented<'_>,
        confirmation: Option<Confirmation>,
    ) -> Result<Option<Unused>, Error> {
        let refuse = |why| Err(Error::InvalidToken(Reason::new(why)));
        match (confirmation, presented.proof) {
            (None, None) => Ok(None),
            // RFC 9449 section 7.1: the key must be the one "to which the access token is bound".
            (None, Some(_)) => refuse("a proof with a token that is bound to no key"),
            (Some(Confirmation::Key(_)), None) => refuse("bound to a key, and no proof"),
            (Some(Confirmation::Key(thumbprint)), Some(Request { proof, method, url })) => {
                let (key, proof) = self.proof(proof, method, url, Some(presented.token))?;
                match same_bytes(&key, &thumbprint) {
                    true => Ok(Some(proof)),
                    false => refuse("bound to another key"),
                }
            }
            (Some(Confirmation::Certificate(thumbprint)), None) => match presented.certificate {
                Some(shown) if same_bytes(&shown, &thumbprint) => Ok(None),
                _ => refuse("bound to another certificate"),
            },
            (Some(Confirmation::Certificate(_)), Some(_)) => refuse("bound to a certificate"),
        }
    }

    /// The key of a proof that is good for a request, and the proof, which nobody has used.
    fn proof(
        &self,
        text: &str,
        method: &str,
        url: &str,
        access_token: Option<&str>,
    ) -> Result<([u8; 32], Unused), Error> {
        let now = self.now();
        let refuse = |error| Error::InvalidDpopProof(Reason::with("the proof", error));
        let proof = Proof::read(text).map_err(refuse)?;
        let (age_secs_max, leeway_secs) = (PROOF_SECS, PROOF_LEEWAY_SECS);
        let expected = ProofExpected { method, url, access_token, now, age_secs_max, leeway_secs };
        proof.check(&expected).map_err(refuse)?;
        Ok((proof.thumbprint(), self.proofs.check(&proof, now)?))
    }
}
