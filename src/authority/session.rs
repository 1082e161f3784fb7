//! Sessions that slide: an opaque access token of such a client lives on while it is used, as
//! Salesforce's session timeout has it.

use super::Inner;
use super::client::Client;
use crate::locator::{Digest, Locator};
use crate::store::{Extend, Store, TokenView, Verb};
use crate::time::Reading;

/// The longest life of a session that slides, in seconds.
pub const SLIDING_SECS_MAX: u64 = 30 * 86_400;

impl Client {
    /// Its opaque access tokens end when they were not used for
    /// [`access_secs`](Client::access_secs), and after `secs` whatever is done with them; at most
    /// [`SLIDING_SECS_MAX`]. By default a token's life is fixed, as a JWT's always is. A use is a live
    /// verification, an introspection or UserInfo; the end moves once half of the time is gone.
    ///
    /// # Durability
    /// A crash may take the latest move back.
    pub fn sliding(mut self, secs: u64) -> Client {
        self.settings.sliding_secs = Some(secs);
        self
    }
}

/// For how long the place of a token must last. A token that slides has one for twice its longest
/// life, so that any token shows by its place whether it may be one.
pub(super) fn place_secs(sliding_secs: Option<u64>, lives_secs: u64) -> u64 {
    sliding_secs.map_or(lives_secs, |secs| secs.saturating_mul(2))
}

impl<S: Store> Inner<S> {
    /// Moves the end of a live token that was used, where its client's sessions slide.
    pub(super) fn slide(&self, view: &TokenView, locator: Locator, digest: Digest, now: Reading) {
        let place = 60u64.checked_shl(u32::from(locator.class)).unwrap_or(0);
        let lives = view.expires_at.since(view.issued_at);
        if lives.saturating_mul(2) > place {
            return;
        }
        let Some(client) = self.clients.get(&view.client) else { return };
        let Some(longest) = client.settings.sliding_secs else { return };
        let timeout = client.access_secs();
        // Of so short a life the place does not show whether it slides.
        if lives.saturating_mul(2) <= 60 && lives < timeout {
            return;
        }
        let left = view.expires_at.since(now.unix);
        let expires_at = now.unix.plus(timeout).min(view.issued_at.plus(longest));
        if left.saturating_mul(2) <= timeout && expires_at > view.expires_at {
            // Nobody waits for it: the answer is about the token as it was found.
            drop(self.store.apply(Verb::Extend(Extend { locator, digest, expires_at, now })));
        }
    }
}
