//! Who asks: a client, with what proves it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::ids::{ClientId, IdError};
use crate::secret::SecretText;

/// A client that asks for something, not yet authenticated.
#[derive(Clone)]
pub struct Caller {
    /// A malformed one is refused like an unknown one; `None` where the assertion says who it is.
    pub(in crate::authority) client_id: Option<Result<ClientId, IdError>>,
    /// How else the identifier may have been meant.
    pub(super) raw_id: Option<ClientId>,
    pub(super) proof: Proof,
    /// SHA-256 thumbprint of the certificate of the connection.
    pub(in crate::authority) certificate: Option<[u8; 32]>,
    /// The proof of a key, and the request that it came with.
    pub(in crate::authority) proof_of_key: Option<Arc<ProofOfKey>>,
    pub(in crate::authority) address: Option<IpAddr>,
}

/// The proof of a key, not yet read.
pub(in crate::authority) struct ProofOfKey {
    pub(in crate::authority) proof: String,
    pub(in crate::authority) method: String,
    pub(in crate::authority) url: String,
}

/// What a caller proves itself with.
#[derive(Clone)]
pub(super) enum Proof {
    None,
    /// The secret, and how else it may have been meant.
    Secret(SecretText, Option<SecretText>),
    Assertion(SecretText),
}

impl Caller {
    /// A client with its secret (RFC 6749 section 2.3.1).
    #[must_use]
    pub fn secret(client_id: impl AsRef<str>, secret: impl Into<String>) -> Caller {
        let proof = Proof::Secret(SecretText::new(secret), None);
        Caller { proof, ..Caller::public(client_id) }
    }

    /// A public client: it says who it is and proves nothing.
    #[must_use]
    pub fn public(client_id: impl AsRef<str>) -> Caller {
        let client_id = Some(ClientId::new(client_id));
        let proof = Proof::None;
        Caller {
            client_id,
            raw_id: None,
            proof,
            certificate: None,
            proof_of_key: None,
            address: None,
        }
    }

    /// Nobody by name: what it asks with says who asks. For
    /// [`TokenRequest::jwt_bearer`](super::super::TokenRequest::jwt_bearer) alone.
    #[must_use]
    pub fn nobody() -> Caller {
        Caller { client_id: None, ..Caller::public("") }
    }

    /// Whether it brings anything that proves who it is.
    pub(in crate::authority) fn proves(&self) -> bool {
        !matches!(self.proof, Proof::None) || self.certificate.is_some()
    }

    /// A client with an assertion (RFC 7523 section 2.2), signed with its key or its secret. The
    /// assertion says which client it is, and opens once.
    #[must_use]
    pub fn assertion(assertion: impl Into<String>) -> Caller {
        let proof = Proof::Assertion(SecretText::new(assertion));
        Caller { client_id: None, proof, ..Caller::public("") }
    }

    /// A client with the certificate of its connection (RFC 8705 section 2.2), given by its SHA-256
    /// thumbprint. The host has checked that the peer holds the certificate's key.
    #[must_use]
    pub fn certificate(client_id: impl AsRef<str>, thumbprint: [u8; 32]) -> Caller {
        Caller::public(client_id).with_certificate(thumbprint)
    }

    /// The certificate of the connection, beside what the caller proves itself with.
    #[must_use]
    pub fn with_certificate(self, thumbprint: [u8; 32]) -> Caller {
        Caller { certificate: Some(thumbprint), ..self }
    }

    /// The header `DPoP` of its request, which has this method and URL (RFC 9449 section 5): its tokens
    /// are bound to the key of the proof.
    #[must_use]
    pub fn with_proof(
        self,
        proof: impl Into<String>,
        method: impl Into<String>,
        url: impl Into<String>,
    ) -> Caller {
        let given = ProofOfKey { proof: proof.into(), method: method.into(), url: url.into() };
        Caller { proof_of_key: Some(Arc::new(given)), ..self }
    }

    /// Settles how its identifier was meant: as it stands where that is the only one that is known.
    pub(super) fn meant(mut self, is_known: impl Fn(&ClientId) -> bool) -> Caller {
        let decoded = self.client_id.as_ref().and_then(|id| id.as_ref().ok());
        let raw = self.raw_id.take().filter(|raw| is_known(raw));
        match raw {
            Some(raw) if !decoded.is_some_and(is_known) => {
                Caller { client_id: Some(Ok(raw)), ..self }
            }
            _ => self,
        }
    }

    /// Where the request comes from. A client with address ranges is refused without it.
    #[must_use]
    pub fn from_address(self, address: IpAddr) -> Caller {
        Caller { address: Some(address), ..self }
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proof = match self.proof {
            Proof::None if self.certificate.is_some() => "certificate",
            Proof::None => "none",
            Proof::Secret(..) => "secret",
            Proof::Assertion(_) => "assertion",
        };
        f.debug_struct("Caller")
            .field("client_id", &self.client_id)
            .field("proof", &proof)
            .finish_non_exhaustive()
    }
}
