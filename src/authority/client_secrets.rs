//! Rotating client secrets without an hour of downtime: a second one opens beside the first, then
//! takes its place; and ending one that leaked.

use super::audit::Action;
use super::client::RegisteredClient;
use super::client_auth::{KeptSecret, SECRETS_MAX};
use super::clients::Change;
use super::error::{Error, Reason};
use super::{Authority, Inner};
use crate::ids::ClientId;
use crate::secret::SecretText;
use crate::store::{Store, Ticket};
use crate::time::Timestamp;

/// For so many seconds a secret that was rotated out still opens, unless it is dropped before.
pub const RETIRED_SECRET_SECS: u64 = 30 * 86_400;

impl<S: Store> Authority<S> {
    /// Draws a second secret for a client, shown this once. Both open from now on; give the new one
    /// to every instance of the client, then [`Authority::promote_secret`].
    ///
    /// # Durability
    /// The ticket resolves when the secret is on stable storage.
    ///
    /// # Errors
    /// [`Error::InvalidClient`] for an unknown client; [`Error::InvalidRequest`] for one that goes
    /// without a secret, or has two already; [`Error::TemporarilyUnavailable`].
    ///
    /// # Examples
    /// ```
    /// use mintage::authority::{Authority, Caller, Client, TokenRequest};
    /// # use mintage::root_key::RootKey;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let root = RootKey::from_bytes(1, [7; 32]);
    /// # let authority = Authority::builder("https://login.example.com").in_memory(root)?;
    /// let reports = authority.register(Client::confidential("reports")).wait()?;
    /// let old = reports.client_secret.ok_or("none")?;
    /// let new = authority.stage_secret(&reports.client_id).wait()?;
    ///
    /// for secret in [&old, &new] {
    ///     let caller = Caller::secret("reports", secret.expose());
    ///     authority.token(&TokenRequest::client_credentials(&caller)).wait()?;
    /// }
    /// authority.promote_secret(&reports.client_id).wait()?; // the old one opens 30 days more
    /// authority.drop_retired_secret(&reports.client_id).wait()?; // not even that
    ///
    /// let caller = Caller::secret("reports", old.expose());
    /// assert!(authority.token(&TokenRequest::client_credentials(&caller)).wait().is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn stage_secret(&self, client_id: &ClientId) -> Ticket<SecretText, Error> {
        let inner = &self.inner;
        let now = inner.now();
        inner.change_client(client_id, Change::Gives, Action::Secret, |client| {
            client.secrets.retain(|kept| kept.is_live(now));
            if client.secrets.len() >= SECRETS_MAX {
                return Err(Error::InvalidRequest(Reason::new("the client has two secrets")));
            }
            let (kept, secret) = inner.fresh_secret(client)?;
            client.secrets.push(kept);
            Ok(secret)
        })
    }

    /// Puts the staged secret of a client in the place of the one in force, which opens for
    /// [`RETIRED_SECRET_SECS`] more.
    ///
    /// # Durability
    /// As [`Authority::stage_secret`].
    ///
    /// # Errors
    /// [`Error::InvalidClient`] for an unknown client; [`Error::InvalidRequest`] when no secret is
    /// staged; [`Error::TemporarilyUnavailable`].
    pub fn promote_secret(&self, client_id: &ClientId) -> Ticket<(), Error> {
        let inner = &self.inner;
        let ends_at = inner.now().plus(RETIRED_SECRET_SECS);
        inner.change_client(client_id, Change::Gives, Action::Secret, |client| {
            promote(client, ends_at)
        })
    }

    /// Drops the staged secret of a client: it opens no more. Tokens that it got live on;
    /// [`Target::Client`](super::Target::Client) ends them.
    ///
    /// # Durability
    /// From this call on it is refused; the ticket resolves when that is on stable storage.
    ///
    /// # Errors
    /// [`Error::InvalidClient`] for an unknown client; [`Error::InvalidRequest`] when no secret is
    /// staged; [`Error::TemporarilyUnavailable`].
    pub fn drop_staged_secret(&self, client_id: &ClientId) -> Ticket<(), Error> {
        self.inner.change_client(client_id, Change::Ends, Action::Secret, |client| {
            drop_second(client, |second| second.ends_at.is_none(), "no secret is staged")
        })
    }

    /// Drops the secret that was rotated out: it opens no more, not even for the rest of its time.
    /// Tokens that it got live on; [`Target::Client`](super::Target::Client) ends them.
    ///
    /// # Durability
    /// As [`Authority::drop_staged_secret`].
    ///
    /// # Errors
    /// [`Error::InvalidClient`] for an unknown client; [`Error::InvalidRequest`] when no secret was
    /// rotated out; [`Error::TemporarilyUnavailable`].
    pub fn drop_retired_secret(&self, client_id: &ClientId) -> Ticket<(), Error> {
        self.inner.change_client(client_id, Change::Ends, Action::Secret, |client| {
            drop_second(client, |second| second.ends_at.is_some(), "no secret was rotated out")
        })
    }

    /// Ends every secret of a client at once, and draws a fresh one, shown this once: for a secret
    /// that leaked. Tokens that the old ones got live on; [`Target::Client`](super::Target::Client)
    /// ends them.
    ///
    /// # Durability
    /// From this call on the old secrets are refused, whatever comes of the ticket until the process
    /// ends; it resolves when the change is on stable storage.
    ///
    /// # Errors
    /// [`Error::InvalidClient`] for an unknown client; [`Error::InvalidRequest`] for one that goes
    /// without a secret; [`Error::TemporarilyUnavailable`].
    pub fn replace_secret(&self, client_id: &ClientId) -> Ticket<SecretText, Error> {
        let inner = &self.inner;
        inner.change_client(client_id, Change::Ends, Action::Secret, |client| {
            let (kept, secret) = inner.fresh_secret(client)?;
            client.secrets = vec![kept];
            Ok(secret)
        })
    }
}

impl<S: Store> Inner<S> {
    /// A secret drawn for a client, and what is kept of it.
    fn fresh_secret(&self, client: &RegisteredClient) -> Result<(KeptSecret, SecretText), Error> {
        if !client.settings.has_secret() {
            return Err(Error::InvalidRequest(Reason::new("the client has no secret")));
        }
        let secret = self.draw_secret()?;
        let kept = KeptSecret::generated(&self.keeping(&client.id, &client.settings), &secret)?;
        Ok((kept, secret))
    }
}

fn drop_second(
    client: &mut RegisteredClient,
    is_meant: impl Fn(&KeptSecret) -> bool,
    otherwise: &'static str,
) -> Result<(), Error> {
    match client.secrets.get(1).is_some_and(is_meant) {
        true => {
            client.secrets.truncate(1);
            Ok(())
        }
        false => Err(Error::InvalidRequest(Reason::new(otherwise))),
    }
}

fn promote(client: &mut RegisteredClient, ends_at: Timestamp) -> Result<(), Error> {
    match client.secrets.as_mut_slice() {
        [old, staged] if staged.ends_at.is_none() => {
            std::mem::swap(old, staged);
            staged.ends_at = Some(ends_at);
            Ok(())
        }
        _ => Err(Error::InvalidRequest(Reason::new("no secret is staged"))),
    }
}
