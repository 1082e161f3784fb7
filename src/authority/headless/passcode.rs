//! One-time codes: drawn here, delivered by the host, good once and for a few tries.

use std::sync::Arc;

use base64_simd::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::super::audit::{Action, AuditEvent};
use super::super::client::{GrantType, RegisteredClient};
use super::super::client_auth::Caller;
use super::super::derive::DeriveKeys;
use super::super::error::{Cause, Error, Reason};
use super::super::mint::no_version;
use super::super::password::USERNAME_LEN_MAX;
use super::super::{Authority, Inner};
use super::{Delivery, Headless, Passcode};
use crate::codec::handle::HandleKind;
use crate::entropy::random;
use crate::ids::{ClientId, DeviceId, Subject};
use crate::locator::Locator;
use crate::secret::{SecretBytes, SecretText, same_bytes};
use crate::store::{CodeUse, Listing, Near, Pair, Seq, Store, StoreError, Ticket, UseOnce, Verb};

/// How long a one-time code may be used, in seconds.
pub const PASSCODE_SECS: u64 = 600;
/// How often a one-time code may be tried.
pub const PASSCODE_TRIES_MAX: u32 = 5;
/// The longest description of a user who registers, in bytes.
const USER_LEN_MAX: usize = 16 * 1_024;
/// Stands where a device of the client as its own subject would.
const PLACE: &str = "passcode";

/// A one-time code is on its way.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PasscodeSent {
    /// What the app sends back with the code that its user types.
    pub identifier: SecretText,
    /// How it was sent.
    pub delivery: Delivery,
}

/// What a one-time code is for, as it lies in the store.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// Digest of the code, keyed, in base64url.
    passcode: String,
    key_version: u8,
    /// Nobody's, for a name that nobody has.
    of: Option<String>,
    registers: bool,
}

impl<S: Store> Authority<S> {
    /// Begins a login without a password (`init/passwordless/login`): a one-time code is drawn, and the
    /// host delivers it. A name that nobody has is answered alike. Check first that a person asks (such as
    /// by a CAPTCHA), where the client proves nothing.
    ///
    /// # Durability
    /// The ticket resolves when the code is on stable storage and was delivered.
    ///
    /// # Errors
    /// [`Error::InvalidClient`] when the caller does not authenticate; [`Error::UnauthorizedClient`]
    /// without [`Client::code_credentials`](super::super::Client::code_credentials);
    /// [`Error::UnsupportedGrantType`] where the host has no [`Headless`]; [`Error::InvalidRequest`] for a
    /// name that is none; [`Error::TemporarilyUnavailable`].
    pub fn send_passcode(
        &self,
        username: &str,
        delivery: Delivery,
        caller: &Caller,
    ) -> Ticket<PasscodeSent, Error> {
        self.inner.begin(caller, delivery, false, |headless, _| find(headless, username))
    }

    /// Begins a registration (`init/registration`) of a user whom `user` describes, a JSON text of at most
    /// 16 KiB for the host; see [`Authority::send_passcode`].
    ///
    /// # Errors
    /// As [`Authority::send_passcode`]; [`Error::AccessDenied`] for somebody who may not register.
    pub fn begin_registration(
        &self,
        user: &str,
        delivery: Delivery,
        caller: &Caller,
    ) -> Ticket<PasscodeSent, Error> {
        self.inner.begin(caller, delivery, true, |headless, client| {
            if user.len() > USER_LEN_MAX {
                return Err(Error::InvalidRequest(Reason::new("too much is said of the user")));
            }
            let subject = headless.begin_registration(client, user);
            let refused = || Error::AccessDenied(Reason::new("the user may not register"));
            subject.map(Some).ok_or_else(refused)
        })
    }
}

impl<S: Store> Inner<S> {
    fn begin(
        self: &Arc<Self>,
        caller: &Caller,
        delivery: Delivery,
        registers: bool,
        who: impl FnOnce(&dyn Headless, &RegisteredClient) -> Result<Option<Subject>, Error>,
    ) -> Ticket<PasscodeSent, Error> {
        let admission = self.store.admission();
        let grant = Some(GrantType::AuthorizationCode);
        self.as_client(caller, Action::Passcode, grant, |client| {
            client.check_address(caller.address, false)?;
            let headless = self.headless_of(&client)?;
            let subject = who(&*headless, &client)?;
            Ok(self.send_to(admission, client, headless, subject, (delivery, registers)))
        })
    }

    /// As [`Authority::send_passcode`], for a client that has proved itself.
    pub(super) fn send_passcode_to(
        self: &Arc<Self>,
        client: &Arc<RegisteredClient>,
        username: &str,
        delivery: Delivery,
    ) -> Result<Ticket<PasscodeSent, Error>, Error> {
        let admission = self.store.admission();
        let headless = self.headless_of(client)?;
        let subject = find(&*headless, username)?;
        Ok(self.send_to(admission, Arc::clone(client), headless, subject, (delivery, false)))
    }

    fn send_to(
        self: &Arc<Self>,
        admission: Seq,
        client: Arc<RegisteredClient>,
        headless: Arc<dyn Headless>,
        subject: Option<Subject>,
        kept: (Delivery, bool),
    ) -> Ticket<PasscodeSent, Error> {
        let inner = Arc::clone(self);
        Ticket::slow(async move { inner.send(admission, &client, &*headless, subject, kept).await })
    }

    /// The host's users, for a client that may ask for them.
    pub(super) fn headless_of(
        &self,
        client: &RegisteredClient,
    ) -> Result<Arc<dyn Headless>, Error> {
        if !client.settings.code_credentials {
            return Err(Error::UnauthorizedClient(Reason::new("no code and credentials")));
        }
        let none = || Error::UnsupportedGrantType(Reason::new("the host has no headless users"));
        self.flows.headless.clone().ok_or_else(none)
    }

    async fn send(
        self: Arc<Self>,
        admission: Seq,
        client: &RegisteredClient,
        headless: &dyn Headless,
        subject: Option<Subject>,
        (delivery, registers): (Delivery, bool),
    ) -> Result<PasscodeSent, Error> {
        let drawn = u64::from_be_bytes(random(&*self.entropy)?);
        let code = zeroize::Zeroizing::new(format!("{:06}", drawn % 1_000_000));
        let pair = waiting_room(&client.id)?;
        let id = self.store.draw(Near::Pair(&pair));
        let now = self.clock.read();
        let bucket = u32::try_from(now.unix.0 / 60).unwrap_or(u32::MAX);
        let version = self.handles.current_version();
        let secret = SecretBytes::new(random(&*self.entropy)?);
        let locator = Locator { class: 0, bucket, id };
        let (identifier, digest) =
            self.handle(version, HandleKind::Code, locator, &secret, None)?;
        let kept = Kept {
            passcode: self.passcode_digest(version, &client.id, id, &code)?,
            key_version: version,
            of: subject.as_ref().map(|subject| subject.as_str().to_owned()),
            registers,
        };
        let ends_at = now.unix.plus(PASSCODE_SECS);
        self.keep(CodeUse { id, digest }, pair, admission, ends_at, &kept)?.await?;
        if let Some(subject) = &subject {
            let passcode = Passcode { code: &code, subject, delivery, client };
            if !headless.deliver(&passcode) {
                tracing::warn!("a one-time code was not delivered");
                return Err(StoreError::Unavailable.into());
            }
        }
        self.tell(|| AuditEvent::of(Action::Passcode).client(&client.id));
        Ok(PasscodeSent { identifier, delivery })
    }

    /// Goes on with the subject whose one-time code it is, and the admission of its request. A try is
    /// counted before the code is looked at.
    pub(super) async fn by_passcode(
        &self,
        client: &RegisteredClient,
        identifier: &str,
        code: &str,
        registers: bool,
    ) -> Result<(Subject, Seq), Error> {
        let wrong = |why| Error::InvalidGrant(Reason::new(why).because(Cause::WrongPasscode));
        let handle = self.handles.parse(HandleKind::Code, identifier).map_err(|error| {
            Error::InvalidGrant(Reason::with("identifier", error).because(Cause::WrongPasscode))
        })?;
        let place = CodeUse { id: handle.locator.id, digest: handle.digest };
        let view = self.store.list(Listing::Code(place), None, 1).await?.code;
        let view = view.filter(|view| view.live && view.pair.client == client.id);
        let view = view.ok_or_else(|| wrong("unknown, expired, revoked or another client's"))?;
        let kept: Kept =
            serde_json::from_slice(&view.body).map_err(|_| wrong("no one-time code"))?;
        if kept.registers != registers {
            return Err(wrong("a one-time code for something else"));
        }
        let use_up = |what: &str| {
            let what = format!("passcode {} {what}", handle.locator.id);
            let (owner, digest) = DeriveKeys::assertion_digests(client.id.as_str(), &what);
            let (owner_max, now) = (self.assertions_max, self.clock.read());
            let expires_at = view.expires_at;
            let verb = UseOnce { owner, digest, expires_at, owner_max, now };
            self.use_once(Verb::UseOnce(verb), move || wrong("tried too often, or used before"))
        };
        let mut tries = (0..PASSCODE_TRIES_MAX).map(|n| use_up(&n.to_string()));
        let tried = tries.find(|tried| !matches!(tried, Err(Error::InvalidGrant(_))));
        tried.ok_or_else(|| wrong("tried too often"))??.await?;
        let given = self.passcode_digest(kept.key_version, &client.id, place.id, code)?;
        if !same_bytes(given.as_bytes(), kept.passcode.as_bytes()) {
            return Err(wrong("wrong code"));
        }
        let subject = kept.of.and_then(|of| Subject::new(of).ok());
        let subject = subject.ok_or_else(|| wrong("nobody's code"))?;
        use_up("used")?.await?;
        Ok((subject, view.admission))
    }

    /// What a one-time code is kept as: without the root key nobody can try all of them.
    fn passcode_digest(
        &self,
        version: u8,
        client: &ClientId,
        id: u64,
        code: &str,
    ) -> Result<String, Error> {
        let text = zeroize::Zeroizing::new(format!("passcode {id} {code}"));
        let digest = self.derive.client_secret(version, client, &text).ok_or_else(no_version)?;
        Ok(URL_SAFE_NO_PAD.encode_to_string(digest.expose()))
    }
}

fn find(headless: &dyn Headless, username: &str) -> Result<Option<Subject>, Error> {
    match (1..=USERNAME_LEN_MAX).contains(&username.len()) {
        true => Ok(headless.find(username)),
        false => Err(Error::InvalidRequest(Reason::new("no name of a user"))),
    }
}

/// Where one-time codes lie: they die with everything that is revoked above their client.
fn waiting_room(client: &ClientId) -> Result<Pair, Error> {
    let unusable = |error| Error::ServerError(Reason::with("client_id", error));
    Ok(Pair {
        client: client.clone(),
        subject: Subject::new(client).map_err(unusable)?,
        device: Some(DeviceId::new(PLACE).map_err(unusable)?),
    })
}
