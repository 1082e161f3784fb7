//! Who asks: a client, with what proves it.
//!
//! The authority authenticates a caller itself, after it has noted the sequence: a client that is
//! revoked in between gets nothing that outlives the revocation.

use std::fmt;
use std::sync::Arc;

use super::Inner;
use super::client::RegisteredClient;
use super::error::{Error, Reason};
use crate::ids::{ClientId, IdError};
use crate::secret::SecretText;
use crate::store::Store;

/// The longest client secret that is looked at, in bytes.
pub const CLIENT_SECRET_LEN_MAX: usize = 4_096;

/// A client that asks for something, not yet authenticated.
#[derive(Clone)]
pub struct Caller {
    /// A malformed one is refused like an unknown one.
    client_id: Result<ClientId, IdError>,
    secret: Option<SecretText>,
}

impl Caller {
    /// A confidential client with its secret (RFC 6749 section 2.3.1).
    #[must_use]
    pub fn secret(client_id: impl AsRef<str>, secret: impl Into<String>) -> Caller {
        Caller { client_id: ClientId::new(client_id), secret: Some(SecretText::new(secret)) }
    }

    /// A public client: it says who it is and proves nothing.
    #[must_use]
    pub fn public(client_id: impl AsRef<str>) -> Caller {
        Caller { client_id: ClientId::new(client_id), secret: None }
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

impl<S: Store> Inner<S> {
    /// The client that `caller` proves to be. Call it after the sequence was noted (rule: note,
    /// then authenticate).
    pub(super) fn authenticate(&self, caller: &Caller) -> Result<Arc<RegisteredClient>, Error> {
        let refuse = |why| Error::InvalidClient(Reason::new(why));
        let id = caller
            .client_id
            .as_ref()
            .map_err(|error| Error::InvalidClient(Reason::with("malformed client_id", *error)))?;
        let client = self.clients.get(id).ok_or_else(|| refuse("unknown client"))?;
        match (&client.secret, &caller.secret) {
            (None, None) => Ok(client),
            (None, Some(_)) => Err(refuse("a public client gave a secret")),
            (Some(_), None) => Err(refuse("a confidential client gave no secret")),
            (Some(_), Some(given)) if given.expose().len() > CLIENT_SECRET_LEN_MAX => {
                Err(refuse("the secret is too long"))
            }
            (Some(kept), Some(given)) => {
                let digest = self.derive.client_secret(kept.key_version, id, given.expose());
                match digest {
                    // SecretBytes compares in constant time.
                    Some(digest) if digest == kept.digest => Ok(client),
                    Some(_) => Err(refuse("wrong secret")),
                    None => Err(refuse("the root key lacks the version of the secret")),
                }
            }
        }
    }
}
