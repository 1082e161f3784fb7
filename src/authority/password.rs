//! The resource owner password credentials grant (RFC 6749 section 4.3), for clients that cannot do
//! better: off unless the host says who checks passwords and the client may use it. RFC 9700 section 2.4
//! has it that it "MUST NOT be used".

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::Inner;
use super::builder::Builder;
use super::client::{GrantType, RegisteredClient};
use super::client_auth::{AuthMethod, Caller};
use super::error::{Cause, Error, Reason};
use super::granted::Granted;
use super::issue::narrow_scope;
use super::issued::Issued;
use super::policy::not_permitted;
use super::token::{Grant, TokenRequest, without_refresh};
use crate::ids::{ClientId, Subject};
use crate::store::{Seq, Store, Ticket};

/// The longest name of a user, in bytes.
pub const USERNAME_LEN_MAX: usize = 255;
/// The longest password, in bytes: that of Salesforce's clients.
pub const PASSWORD_LEN_MAX: usize = 16_000;

/// The host's check of passwords.
///
/// # Blocks
/// The call is made on the thread of the request, with no lock held. It is slow, as a hash of a password
/// is: make such requests on threads that may block.
pub trait Passwords: Send + Sync + 'static {
    /// Whose name and password these are; `None` when they are wrong, and for a user who is switched off.
    /// Answer equally slowly for a name that is unknown.
    fn check(&self, credentials: &PasswordCredentials<'_>) -> Option<Subject>;
}

impl<F: Fn(&PasswordCredentials<'_>) -> Option<Subject> + Send + Sync + 'static> Passwords for F {
    fn check(&self, credentials: &PasswordCredentials<'_>) -> Option<Subject> {
        self(credentials)
    }
}

/// A name and a password, and who brings them. `Debug` shows no password.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct PasswordCredentials<'a> {
    /// The name.
    pub username: &'a str,
    /// The password; with Salesforce's clients perhaps with a security token behind it.
    pub password: &'a str,
    /// The client.
    pub client: &'a RegisteredClient,
    /// Where the request comes from, where the host said so.
    pub address: Option<IpAddr>,
}

impl fmt::Debug for PasswordCredentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PasswordCredentials(of {:?}, [redacted])", self.client.client_id())
    }
}

impl Builder {
    /// Who checks passwords. Without it nobody gets anything for one, whatever a client may use.
    pub fn passwords(mut self, passwords: impl Passwords) -> Builder {
        self.flows.passwords = Some(Arc::new(passwords));
        self
    }
}

impl<'a> TokenRequest<'a> {
    /// An access token for a name and a password (RFC 6749 section 4.3), without a refresh token, as with
    /// Salesforce. Off by default: see [`Builder::passwords`].
    pub fn password(username: &'a str, password: &'a str, caller: &'a Caller) -> TokenRequest<'a> {
        TokenRequest::of(Grant::Password(username, password), caller)
    }
}

impl<S: Store> Inner<S> {
    pub(super) fn password(
        self: &Arc<Self>,
        admission: Seq,
        client: Arc<RegisteredClient>,
        (username, password): (&str, &str),
        request: &TokenRequest<'_>,
    ) -> Result<Ticket<Issued, Error>, Error> {
        if self.flows.passwords.is_none() {
            return Err(Error::UnsupportedGrantType(Reason::new("nobody checks passwords")));
        }
        if !client.may_use(GrantType::Password) {
            return Err(Error::UnauthorizedClient(Reason::new("no password")));
        }
        // What can be refused without a slow check is.
        let scope = narrow_scope(request.scope, client.scopes(), self.profile)?;
        let scope = without_refresh(&scope)?;
        let audience = self.narrow_audience(request.asked_audience()?, &client)?;
        let sender = self.sender(&client, request.caller)?;
        let subject =
            self.subject_by_password(&client, username, password, request.caller.address)?;
        if !self.is_permitted(&client, &subject) {
            return Err(Error::InvalidGrant(not_permitted()));
        }
        self.give_birth(Granted::access(admission, client, subject, (scope, audience), sender))
    }

    /// Whose name and password these are. After some wrong ones for a name whoever is at the address
    /// waits, whether or not there is such a name.
    pub(super) fn subject_by_password(
        &self,
        client: &RegisteredClient,
        username: &str,
        password: &str,
        address: Option<IpAddr>,
    ) -> Result<Subject, Error> {
        let wrong = |why| Error::InvalidGrant(Reason::new(why).because(Cause::WrongPassword));
        let passwords =
            self.flows.passwords.as_ref().ok_or_else(|| {
                Error::UnsupportedGrantType(Reason::new("nobody checks passwords"))
            })?;
        if !(1..=USERNAME_LEN_MAX).contains(&username.len()) || password.len() > PASSWORD_LEN_MAX {
            return Err(wrong("the name or the password is empty or too long"));
        }
        let elapsed = || self.clock.read().elapsed;
        let guessed = guessed(username)?;
        let guesser = self.limiter.admit(|| Some((guessed, AuthMethod::None)), address, elapsed)?;
        let credentials = PasswordCredentials { username, password, client, address };
        let subject = passwords.check(&credentials);
        self.limiter.judged(guesser, subject.is_some(), elapsed);
        subject.ok_or_else(|| wrong("wrong name or password"))
    }
}

/// Under what wrong passwords of a name are counted.
fn guessed(username: &str) -> Result<ClientId, Error> {
    let name = format!("password {}", blake3::hash(username.as_bytes()).to_hex());
    ClientId::new(name).map_err(|error| Error::ServerError(Reason::with("name", error)))
}
