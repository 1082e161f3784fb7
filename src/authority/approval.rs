//! Approval that was given before: the condition of every grant in which no user is there to ask.
//!
//! Either the client's owner says whose tokens it may have, or the user has approved it in a login whose
//! refresh token still stands.

use std::sync::Arc;

use super::Inner;
use super::client::{REFRESH_SCOPES, RegisteredClient};
use super::error::{Cause, Error, Reason};
use super::lookup::ticket;
use super::policy::{PermittedUsers, not_permitted};
use crate::ids::Subject;
use crate::scope::Scope;
use crate::store::{Listing, Page, Pair, Store, Ticket};

/// How many logins are asked what was approved.
const LOGINS_READ_MAX: usize = 64;

impl<S: Store> Inner<S> {
    /// Goes on with all that a client may have of a subject without asking anybody: its own scopes where
    /// its owner permits the subject, and otherwise what the subject has approved for it.
    ///
    /// [`Error::InvalidGrant`] where that is nothing.
    pub(super) fn approved_then<T: Send + Unpin + 'static>(
        self: &Arc<Self>,
        client: &Arc<RegisteredClient>,
        subject: &Subject,
        then: impl FnOnce(&Arc<Self>, Scope) -> Result<Ticket<T, Error>, Error> + Send + 'static,
    ) -> Result<Ticket<T, Error>, Error> {
        if !self.is_permitted(client, subject) {
            return Err(Error::InvalidGrant(not_permitted()));
        }
        if client.settings.permitted != PermittedUsers::SelfAuthorized {
            return Ok(ticket(then(self, client.scopes().clone())));
        }
        let pair = Pair { client: client.id.clone(), subject: subject.clone(), device: None };
        let (client, subject) = (Arc::clone(client), subject.clone());
        Ok(self.list_then(Listing::OfPair(pair), LOGINS_READ_MAX, move |inner, page| {
            match inner.approved_in(&client, &page) {
                Some(scope) => ticket(then(inner, scope)),
                // On one of the subject's devices, perhaps.
                None => inner.list_then(
                    Listing::OfSubject(subject),
                    LOGINS_READ_MAX,
                    move |inner, page| {
                        let scope = inner.approved_in(&client, &page).ok_or_else(not_approved);
                        ticket(scope.and_then(|scope| then(inner, scope)))
                    },
                ),
            }
        }))
    }

    /// What the logins of a page have approved for a client, and it still may ask for; `None` where that
    /// is nothing but to refresh.
    fn approved_in(&self, client: &RegisteredClient, page: &Page) -> Option<Scope> {
        let theirs = page.grants.iter().filter(|row| row.refreshable && row.client == client.id);
        // Too many to hold: what does not fit counts as not approved.
        let approved = theirs.fold(Scope::empty(), |all, row| all.union(&row.scope).unwrap_or(all));
        let approved = self.profile.covered(&approved, client.scopes());
        let is_some = approved.tokens().any(|token| !REFRESH_SCOPES.contains(&token));
        is_some.then_some(approved)
    }
}

fn not_approved() -> Error {
    Error::InvalidGrant(Reason::new("the subject has not approved it").because(Cause::NotApproved))
}
