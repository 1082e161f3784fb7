//! The device flow (RFC 8628) without HTTP: a device that has no browser shows a short code, its user
//! types it elsewhere and agrees, and the device, which has asked all the while, gets its tokens.
//!
//! ```text
//! device  DeviceRequest --authorize_device--> DeviceAuthorization --TokenRequest::device, again and again--> Issued
//! user    user code --device_prompt--> DevicePrompt --approve_device or deny_device-->
//! ```
//! The host authenticates the user and draws the page. What is pending, what was decided and what is
//! approved are three codes of the store, so each is durable, swept, and dead with what is revoked above
//! it: the first two lie where the user code leads, the third under the pair that its tokens will have.
//!
//! # Examples
//! ```
//! use mintage::authority::{Authority, Caller, Client, DeviceRequest, GrantType, Login, TokenRequest};
//! # use mintage::root_key::RootKey;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let root = RootKey::from_bytes(1, [7; 32]);
//! # let authority = Authority::builder("https://login.example.com").in_memory(root)?;
//! let tv = Client::public("tv").grants([GrantType::DeviceCode]).scopes(["api"]);
//! authority.register(tv).wait()?;
//! let tv = Caller::public("tv");
//!
//! // On the device:
//! let shown = authority.authorize_device(&DeviceRequest::new(), &tv).wait()?;
//! let request = TokenRequest::device(shown.device_code.expose(), &tv);
//! assert_eq!(authority.token(&request).wait().err().map(|e| e.code()), Some("authorization_pending"));
//!
//! // On the user's phone, logged in as ann:
//! let prompt = authority.device_prompt(&shown.user_code.to_string(), None).wait()?;
//! let scope = prompt.scope().as_str().to_owned();
//! authority.approve_device(&prompt, &Login::now("ann", &authority)?, &scope).wait()?;
//!
//! // On the device again:
//! assert_eq!(authority.token(&request).wait()?.subject.as_str(), "ann");
//! # Ok(())
//! # }
//! ```

mod approve;
mod polls;
mod redeem;
mod user_code;

pub use approve::DevicePrompt;
pub use user_code::UserCode;

pub(super) use polls::Polls;
pub(super) use user_code::LEN as USER_CODE_LEN;

use std::fmt;
use std::sync::Arc;

use base64_simd::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::audience::{Audience, Resources};
use super::audit::{Action, AuditEvent};
use super::builder::Builder;
use super::client::{GrantType, RegisteredClient};
use super::client_auth::Caller;
use super::error::{Error, Reason};
use super::issue::narrow_scope;
use super::json;
use super::mint::no_version;
use super::{Authority, Inner};
use crate::codec::handle::HandleKind;
use crate::entropy::random;
use crate::ids::{ClientId, DeviceId, Subject};
use crate::locator::{Digest, Locator};
use crate::scope::Scope;
use crate::secret::{SecretBytes, SecretText};
use crate::store::{
    CodeBirth, CodeOutcome, CodeUse, Listing, Outcome, Pair, Seq, Store, StoreError, Ticket, Verb,
};
use crate::time::Timestamp;

/// How long a user has to type the code and agree unless a host says otherwise, in seconds: that of
/// Salesforce.
pub const DEVICE_SECS: u64 = 600;
/// The longest such time, in seconds.
pub const DEVICE_SECS_MAX: u64 = 1_800;
/// How long a device waits between two polls unless a host says otherwise, in seconds (RFC 8628 section
/// 3.2).
pub const DEVICE_INTERVAL_SECS: u64 = 5;

/// How many user codes are drawn until one is free.
const DRAWS_MAX: usize = 8;
/// Stands where a device of the client as its own subject would.
const PLACE: &str = "device authorization";

impl Builder {
    /// How long a user has to type a device's code and agree, in seconds; [`DEVICE_SECS`] by default, at
    /// most [`DEVICE_SECS_MAX`].
    pub fn device_secs(mut self, secs: u64) -> Builder {
        self.flows.device_secs = secs;
        self
    }

    /// How long a device waits between two polls, in seconds; [`DEVICE_INTERVAL_SECS`] by default.
    pub fn device_interval_secs(mut self, secs: u64) -> Builder {
        self.flows.device_interval_secs = secs;
        self
    }
}

/// What a device asks for (RFC 8628 section 3.1).
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "nothing is asked for until the authority gets it"]
pub struct DeviceRequest<'a> {
    scope: Option<&'a str>,
    audience: Option<&'a str>,
    resources: Resources<'a>,
}

impl<'a> DeviceRequest<'a> {
    /// All that its client may have.
    pub fn new() -> DeviceRequest<'a> {
        DeviceRequest::default()
    }

    /// The scope, space-delimited, within the client's.
    pub fn scope(self, scope: &'a str) -> DeviceRequest<'a> {
        DeviceRequest { scope: Some(scope).filter(|scope| !scope.is_empty()), ..self }
    }

    /// The audience, space-delimited, within the client's.
    pub fn audience(self, audience: &'a str) -> DeviceRequest<'a> {
        DeviceRequest { audience: Some(audience), ..self }
    }

    /// One more resource (RFC 8707).
    pub fn resource(self, uri: &'a str) -> DeviceRequest<'a> {
        DeviceRequest { resources: self.resources.and(uri), ..self }
    }
}

/// The answer to a device (RFC 8628 section 3.2).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeviceAuthorization {
    /// What the device asks with for its tokens.
    pub device_code: SecretText,
    /// What it shows its user.
    pub user_code: UserCode,
    /// Where the user types it.
    pub verification_uri: String,
    /// The same with the code in it, for a QR code.
    pub verification_uri_complete: String,
    /// How long the codes may be used, in seconds.
    pub expires_in: u64,
    /// How long to wait between two polls, in seconds.
    pub interval: u64,
}

#[derive(Serialize)]
struct Wire<'a> {
    device_code: &'a str,
    user_code: String,
    verification_uri: &'a str,
    verification_uri_complete: &'a str,
    expires_in: u64,
    interval: u64,
}

impl DeviceAuthorization {
    /// The body of the response. It goes with `Cache-Control: no-store`.
    #[must_use]
    pub fn to_json(&self) -> SecretText {
        let wire = Wire {
            device_code: self.device_code.expose(),
            user_code: self.user_code.to_string(),
            verification_uri: &self.verification_uri,
            verification_uri_complete: &self.verification_uri_complete,
            expires_in: self.expires_in,
            interval: self.interval,
        };
        SecretText::new(json::text(|out| json::write(&wire, out)))
    }
}

/// What is pending, as it lies in the store where its user code leads.
#[derive(Serialize, Deserialize)]
struct Pending {
    /// Digest of the device code, in base64url.
    device_code: String,
    scope: String,
    audience: String,
}

impl Pending {
    fn digest(&self) -> Option<Digest> {
        let bytes = URL_SAFE_NO_PAD.decode_to_vec(&self.device_code).ok()?;
        Some(Digest(bytes.try_into().ok()?))
    }
}

/// What a user has decided, as it lies in the store beside it.
#[derive(Serialize, Deserialize)]
enum Decision {
    /// By this code, whose digest is that of the device code.
    Approved(u64),
    Denied,
}

/// What was approved, as it lies in the store under the pair that its tokens will have.
#[derive(Serialize, Deserialize)]
struct Approved {
    device_scope: String,
    audience: String,
    authenticated_at: u64,
}

impl<S: Store> Authority<S> {
    /// Begins the flow for a device, whose client may use [`GrantType::DeviceCode`]
    /// (RFC 8628 section 3.1; Salesforce's `response_type=device_code`).
    ///
    /// # Durability
    /// The ticket resolves when the codes are on stable storage.
    ///
    /// # Errors
    /// [`Error::InvalidClient`] when the caller does not authenticate; [`Error::UnauthorizedClient`] when it
    /// may not use the grant type; [`Error::InvalidScope`] and [`Error::InvalidTarget`] for more than
    /// it may have; [`Error::UnsupportedGrantType`] where the host serves no page for it
    /// ([`Endpoints::device_verification`](super::Endpoints::device_verification));
    /// [`Error::TemporarilyUnavailable`], also for a client with too many devices that wait.
    pub fn authorize_device(
        &self,
        request: &DeviceRequest<'_>,
        caller: &Caller,
    ) -> Ticket<DeviceAuthorization, Error> {
        let admission = self.inner.store.admission();
        let inner = &self.inner;
        inner.as_client(caller, Action::Device, Some(GrantType::DeviceCode), |client| {
            client.check_address(caller.address, false)?;
            inner.authorize_device(admission, client, request)
        })
    }
}

impl<S: Store> Inner<S> {
    fn authorize_device(
        self: &Arc<Self>,
        admission: Seq,
        client: Arc<RegisteredClient>,
        request: &DeviceRequest<'_>,
    ) -> Result<Ticket<DeviceAuthorization, Error>, Error> {
        if !client.may_use(GrantType::DeviceCode) {
            return Err(Error::UnauthorizedClient(Reason::new("no device_code")));
        }
        let uri =
            self.endpoints.device_verification.clone().ok_or_else(|| {
                Error::UnsupportedGrantType(Reason::new("no page for user codes"))
            })?;
        let scope = narrow_scope(request.scope, client.scopes(), self.profile)?;
        let audience = request.resources.audience(request.audience)?;
        let audience = self.narrow_audience(audience, &client)?;
        let inner = Arc::clone(self);
        Ok(Ticket::slow(async move {
            inner.begin_device(admission, &client, (&scope, &audience), uri).await
        }))
    }

    async fn begin_device(
        self: Arc<Self>,
        admission: Seq,
        client: &RegisteredClient,
        (scope, audience): (&Scope, &Audience),
        verification_uri: String,
    ) -> Result<DeviceAuthorization, Error> {
        let now = self.clock.read();
        let version = self.handles.current_version();
        let (user_code, place) = self.free_user_code(version).await?;
        let secret = SecretBytes::new(random(&*self.entropy)?);
        let bucket = u32::try_from(now.unix.0 / 60).unwrap_or(u32::MAX);
        let locator = Locator { class: 0, bucket, id: place.id };
        let (device_code, digest) =
            self.handle(version, HandleKind::Code, locator, &secret, None)?;
        let pending = Pending {
            device_code: URL_SAFE_NO_PAD.encode_to_string(digest.0),
            scope: scope.as_str().to_owned(),
            audience: audience.as_str().to_owned(),
        };
        let expires_in = self.flows.device_secs;
        let ends_at = now.unix.plus(expires_in);
        let pair = waiting_room(&client.id)?;
        self.keep(place, pair, admission, ends_at, &pending)?.await?;
        self.tell(|| AuditEvent {
            scope: Some(scope.as_str()),
            ..AuditEvent::of(Action::Device).client(&client.id)
        });
        let mark = if verification_uri.contains('?') { '&' } else { '?' };
        Ok(DeviceAuthorization {
            device_code,
            verification_uri_complete: format!("{verification_uri}{mark}user_code={user_code}"),
            verification_uri,
            user_code,
            expires_in,
            interval: self.flows.device_interval_secs,
        })
    }

    /// A user code that nobody waits with.
    async fn free_user_code(&self, version: u8) -> Result<(UserCode, CodeUse), Error> {
        for _ in 0..DRAWS_MAX {
            let user_code = UserCode::draw(&*self.entropy)?;
            let place = self.derive.device(version, user_code.letters()).ok_or_else(no_version)?;
            let page = self.store.list(Listing::Code(place), None, 1).await?;
            if page.code.is_none() {
                return Ok((user_code, place));
            }
        }
        Err(StoreError::Busy.into())
    }

    /// Keeps a row of the flow.
    pub(in crate::authority) fn keep<B: Serialize>(
        &self,
        place: CodeUse,
        pair: Pair,
        admission: Seq,
        expires_at: Timestamp,
        body: &B,
    ) -> Result<Ticket<(), Error>, Error> {
        let body = serde_json::to_vec(body)
            .map_err(|error| Error::ServerError(Reason::with("a row has no body", error)))?;
        let now = self.clock.read();
        let CodeUse { id, digest } = place;
        let issued_at = now.unix;
        let body = Arc::from(body);
        let birth = CodeBirth { pair, admission, now, id, digest, issued_at, expires_at, body };
        let born = self.store.apply(Verb::Code(Box::new(birth)));
        Ok(born.and_then(|outcome| match outcome? {
            Outcome::Code(CodeOutcome::Born) => Ok(()),
            Outcome::Code(CodeOutcome::Refused) => {
                Err(Error::AccessDenied(Reason::new("revoked meanwhile, or too long")))
            }
            _ => Err(Error::ServerError(Reason::new("the store answered another question"))),
        }))
    }
}

/// Where what waits lies: it dies with everything that is revoked above its client.
fn waiting_room(client: &ClientId) -> Result<Pair, Error> {
    let unusable = |error| Error::ServerError(Reason::with("client_id", error));
    Ok(Pair {
        client: client.clone(),
        subject: Subject::new(client).map_err(unusable)?,
        device: Some(DeviceId::new(PLACE).map_err(unusable)?),
    })
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pending")
    }
}
