//! Who sends a token: proofs of a key (DPoP, RFC 9449) and the certificate of a connection (RFC 8705),
//! which make a stolen token worth nothing.
//!
//! A proof is good once: a bounded filter in memory remembers what was used while it is fresh. What was
//! used before this process began it cannot know, so a proof that is older than the process is asked
//! for again with a nonce of this one.

use std::fmt;
use std::sync::Arc;

use base64_simd::URL_SAFE_NO_PAD;

use super::client::{Client, GrantType, RegisteredClient};
use super::client_auth::Caller;
use super::confirmation::Confirmation;
use super::error::{Error, Reason};
use super::{Authority, Inner};
use crate::codec::dpop::{Proof, ProofExpected};
use crate::secret::{SecretBytes, same_bytes};
use crate::store::{Store, StoreError};
use crate::sync::{HashSet, Mutex, PoisonError};
use crate::time::Timestamp;

/// How old a proof may be, in seconds.
pub const PROOF_SECS: u64 = 60;
/// The most proofs that are remembered at a time. Whoever comes when there are so many is answered
/// "busy".
pub const PROOFS_MAX: usize = 1 << 18;

/// How far the clocks of clients may differ, in seconds.
const PROOF_LEEWAY_SECS: u64 = 30;
/// How long one nonce is given out, in seconds; it is taken for as long again.
const NONCE_SECS: u64 = 300;
/// For how long a used proof could be presented again, in seconds.
const FRESH_SECS: u64 = PROOF_SECS + 2 * PROOF_LEEWAY_SECS;

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
#[derive(Clone, Debug, Default)]
pub(super) struct Sender {
    /// What the tokens are bound to.
    pub(super) confirmation: Option<Confirmation>,
    /// The proof, which is used up with the request.
    proof: Option<Arc<Proof>>,
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
        let settings = &client.settings;
        let proves = client.is_confidential()
            && !settings.secret_optional.contains(&GrantType::RefreshToken);
        self.confirmation.filter(|_| !proves)
    }
}

/// Nonces of this process, and what was used while it is fresh.
pub(super) struct Proofs {
    key: SecretBytes<32>,
    began_at: Timestamp,
    are_nonces_required: bool,
    used: Mutex<Used>,
}

/// Two generations of used proofs: a proof is as good as forgotten once it is too old to be taken.
#[derive(Default)]
struct Used {
    turned_at: Timestamp,
    now: HashSet<[u8; 16]>,
    before: HashSet<[u8; 16]>,
}

impl Proofs {
    pub(super) fn new(key: [u8; 32], began_at: Timestamp, are_nonces_required: bool) -> Proofs {
        let used = Mutex::new(Used { turned_at: began_at, ..Used::default() });
        Proofs { key: SecretBytes::new(key), began_at, are_nonces_required, used }
    }

    /// The nonce of a time.
    fn nonce(&self, at: Timestamp) -> String {
        self.nonce_of(at.0 / NONCE_SECS)
    }

    fn nonce_of(&self, turn: u64) -> String {
        let hash = blake3::keyed_hash(self.key.expose(), &turn.to_be_bytes());
        URL_SAFE_NO_PAD.encode_to_string(hash.as_bytes().split_at(16).0)
    }

    fn is_nonce(&self, text: &str, now: Timestamp) -> bool {
        let turn = now.0 / NONCE_SECS;
        let is = |turn| same_bytes(self.nonce_of(turn).as_bytes(), text.as_bytes());
        is(turn) || is(turn.wrapping_sub(1))
    }

    fn check_nonce(&self, proof: &Proof, now: Timestamp) -> Result<(), Error> {
        let again = |why| Error::UseDpopNonce(Reason::new(why), Arc::from(self.nonce(now)));
        match proof.nonce() {
            Some(nonce) if self.is_nonce(nonce, now) => Ok(()),
            Some(_) => Err(again("the nonce is not one of this process, or too old")),
            None if self.are_nonces_required => Err(again("no nonce")),
            None if proof.issued_at() < self.began_at => Err(again("older than the process")),
            None => Ok(()),
        }
    }

    /// Uses a proof up.
    fn spend(&self, proof: &Proof, now: Timestamp) -> Result<(), Error> {
        let mut hasher = blake3::Hasher::new_keyed(self.key.expose());
        hasher.update(&proof.thumbprint());
        hasher.update(proof.jti().as_bytes());
        let mut digest = [0; 16];
        hasher.finalize_xof().fill(&mut digest);
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if now.since(used.turned_at) >= FRESH_SECS {
            let long_ago = now.since(used.turned_at) >= 2 * FRESH_SECS;
            used.before = std::mem::take(&mut used.now);
            if long_ago {
                used.before = HashSet::default();
            }
            used.turned_at = now;
        }
        if used.now.contains(&digest) || used.before.contains(&digest) {
            return Err(Error::InvalidDpopProof(Reason::new("the proof was used before")));
        }
        if used.now.len() + used.before.len() >= PROOFS_MAX {
            return Err(StoreError::Busy.into());
        }
        used.now.insert(digest);
        Ok(())
    }
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
        self.inner.check_sender(&presented.into(), confirmation)
    }
}

impl<S: Store> Inner<S> {
    /// What a token request shows of its sender, and what its client must show.
    pub(super) fn sender(
        &self,
        client: &RegisteredClient,
        caller: &Caller,
    ) -> Result<Sender, Error> {
        let proof = match &caller.proof_of_key {
            Some(given) => {
                Some(Arc::new(self.proof(&given.proof, &given.method, &given.url, None)?))
            }
            None => None,
        };
        let key = proof.as_ref().map(|proof| Confirmation::Key(proof.thumbprint()));
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
        let proof = self.proof(&given.proof, &given.method, &given.url, None)?;
        Ok(Some(Confirmation::Key(proof.thumbprint()).value()))
    }

    /// Uses the proof of a token request up: once what it came with has shown that it is worth the
    /// place.
    pub(super) fn spend_proof(&self, sender: &Sender) -> Result<(), Error> {
        match &sender.proof {
            Some(proof) => self.proofs.spend(proof, self.now()),
            None => Ok(()),
        }
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

    pub(super) fn check_sender(
        &self,
        presented: &Presented<'_>,
        confirmation: Option<Confirmation>,
    ) -> Result<(), Error> {
        let refuse = |why| Err(Error::InvalidToken(Reason::new(why)));
        match (confirmation, presented.proof) {
            (None, None) => Ok(()),
            // RFC 9449 section 7.1: the key must be the one "to which the access token is bound".
            (None, Some(_)) => refuse("a proof with a token that is bound to no key"),
            (Some(Confirmation::Key(_)), None) => refuse("bound to a key, and no proof"),
            (Some(Confirmation::Key(thumbprint)), Some(Request { proof, method, url })) => {
                let proof = self.proof(proof, method, url, Some(presented.token))?;
                if !same_bytes(&proof.thumbprint(), &thumbprint) {
                    return refuse("bound to another key");
                }
                self.proofs.spend(&proof, self.now())
            }
            (Some(Confirmation::Certificate(thumbprint)), None) => match presented.certificate {
                Some(shown) if same_bytes(&shown, &thumbprint) => Ok(()),
                _ => refuse("bound to another certificate"),
            },
            (Some(Confirmation::Certificate(_)), Some(_)) => refuse("bound to a certificate"),
        }
    }

    fn proof(
        &self,
        text: &str,
        method: &str,
        url: &str,
        access_token: Option<&str>,
    ) -> Result<Proof, Error> {
        let now = self.now();
        let refuse = |error| Error::InvalidDpopProof(Reason::with("the proof", error));
        let proof = Proof::read(text).map_err(refuse)?;
        let (age_secs_max, leeway_secs) = (PROOF_SECS, PROOF_LEEWAY_SECS);
        let expected = ProofExpected { method, url, access_token, now, age_secs_max, leeway_secs };
        proof.check(&expected).map_err(refuse)?;
        self.proofs.check_nonce(&proof, now)?;
        Ok(proof)
    }
}
