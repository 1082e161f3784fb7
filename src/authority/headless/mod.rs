//! Headless identity (Salesforce's authorization code and credentials flow) without HTTP: an app with
//! login pages of its own gets a code for what its user typed there, and redeems it as any other code.
//!
//! ```text
//! password       CodeCredentials (Named-User) ---------------------------------------> code
//! passwordless   send_passcode -> host delivers it -> CodeCredentials (passwordless-login) -> code
//! registration   begin_registration -> host delivers -> CodeCredentials (user-registration) -> code
//! guest          CodeCredentials (guest), with the id that the app drew --------------> code
//! ```
//! There is no page of the authority's to ask for consent on, so the user must have approved the client
//! before, as for [`TokenRequest::jwt_bearer`](super::TokenRequest::jwt_bearer).

mod challenge;
mod code;
mod passcode;
mod uvid;

pub use challenge::{AuthorizationChallenge, ChallengeRequest};
pub use code::CodeCredentials;
pub use passcode::{PASSCODE_SECS, PASSCODE_TRIES_MAX, PasscodeSent};
pub use uvid::Uvid;

pub(super) use code::bad_uvid;

use std::fmt;
use std::sync::Arc;

use super::builder::Builder;
use super::client::{Client, RegisteredClient};
use crate::ids::Subject;

/// How a one-time code is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// `email`.
    Email,
    /// `sms`.
    Sms,
}

impl Delivery {
    /// Reads `email` or `sms`, in any case (`Auth-Verification-Type`).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Delivery> {
        [Delivery::Email, Delivery::Sms].into_iter().find(|d| d.name().eq_ignore_ascii_case(name))
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Delivery::Email => "email",
            Delivery::Sms => "sms",
        }
    }
}

/// A one-time code on its way to a user. `Debug` does not show it.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Passcode<'a> {
    /// Six digits.
    pub code: &'a str,
    /// Whose it is.
    pub subject: &'a Subject,
    /// How it is sent.
    pub delivery: Delivery,
    /// The app that asked for it.
    pub client: &'a RegisteredClient,
}

impl fmt::Debug for Passcode<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Passcode(of {:?}, [redacted])", self.subject)
    }
}

/// The host's users, for logins and registrations without a page of the authority's. Passwords are
/// checked by [`Passwords`](super::Passwords).
///
/// # Blocks
/// [`Headless::deliver`] is called on the thread that waits for the answer, everything else on that of the
/// request; with no lock held.
pub trait Headless: Send + Sync + 'static {
    /// Who has that name, and may log in with a one-time code; `None` for nobody, whom the app is told
    /// nothing of.
    fn find(&self, username: &str) -> Option<Subject>;

    /// Sends a one-time code to an address that the host knows the subject by. Whether it went out.
    fn deliver(&self, passcode: &Passcode<'_>) -> bool;

    /// Notes somebody who wants to be a user, by what the app says of them (a JSON text, password
    /// included, which the authority does not keep); `None` where they may not be. They are no user before
    /// [`Headless::complete_registration`]. Nobody may register by default.
    fn begin_registration(&self, client: &RegisteredClient, user: &str) -> Option<Subject> {
        let _ = (client, user);
        None
    }

    /// Makes a user of somebody whose address was proved by a one-time code. Whether it worked.
    fn complete_registration(&self, subject: &Subject) -> bool {
        let _ = subject;
        false
    }
}

impl Builder {
    /// The host's users, for logins with a one-time code and for registrations.
    pub fn headless(mut self, headless: impl Headless) -> Builder {
        self.flows.headless = Some(Arc::new(headless));
        self
    }
}

impl Client {
    /// It may send what its users type on pages of its own
    /// ([`Authority::code_credentials`](super::Authority::code_credentials)); off by default.
    pub fn code_credentials(mut self) -> Client {
        self.settings.code_credentials = true;
        self
    }

    /// It may have tokens of guests: JWTs alone, for ids that it draws ([`Uvid`]); off by default.
    pub fn guests(mut self) -> Client {
        self.settings.guests = true;
        self
    }
}
