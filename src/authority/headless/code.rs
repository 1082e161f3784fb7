//! From what a user typed on a page of the app's to a code.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use base64_simd::STANDARD;

use super::super::audit::{Action, Asker};
use super::super::authorize::{Authorization, AuthorizationRequest, Login, Via};
use super::super::client::TokenFormat;
use super::super::error::{Cause, Error, Reason};
use super::super::issue::narrow_scope;
use super::super::lookup::ticket;
use super::super::password::{PASSWORD_LEN_MAX, USERNAME_LEN_MAX};
use super::super::read::Read;
use super::super::{Authority, Inner};
use super::Uvid;
use crate::ids::{ClientId, Subject};
use crate::scope::Scope;
use crate::secret::SecretText;
use crate::store::{Seq, Store, Ticket};

/// The longest `Authorization` header that is looked at, in bytes.
const HEADER_LEN_MAX: usize = 8 + (USERNAME_LEN_MAX + PASSWORD_LEN_MAX) * 4 / 3;
/// Who logs in, in the header `Auth-Request-Type`.
const NAMED: &str = "Named-User";
const PASSWORDLESS: &str = "passwordless-login";
const REGISTRATION: &str = "user-registration";
const GUEST: &str = "guest";

/// A request with `response_type=code_credentials`: the parts that an authorization request has, and what
/// the user typed. `Debug` shows none of that.
#[derive(Clone, Copy, Default)]
pub struct CodeCredentials<'a> {
    /// The parameters of the authorization request.
    pub request: AuthorizationRequest<'a>,
    /// The header `Auth-Request-Type`: `Named-User`, which is meant without it too, `passwordless-login`,
    /// `user-registration` or `guest`.
    pub request_type: Option<&'a str>,
    /// The header `Authorization`: `Basic` with name and password, or with identifier and one-time code.
    pub authorization: Option<&'a str>,
    /// The parameter `username`, in place of the header.
    pub username: Option<&'a str>,
    /// The parameter `password`, in place of the header.
    pub password: Option<&'a str>,
    /// The header `Uvid-Hint` or the parameter `uvid_hint`: `UVID` and an id, `JWT` and an earlier guest's
    /// token, or an id alone.
    pub uvid_hint: Option<&'a str>,
    /// Where the request comes from.
    pub address: Option<IpAddr>,
}

impl fmt::Debug for CodeCredentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeCredentials")
            .field("client_id", &self.request.client_id)
            .field("request_type", &self.request_type)
            .finish_non_exhaustive()
    }
}

/// A request that was checked.
struct Checked {
    admission: Seq,
    authorization: Authorization,
    uvid: Option<Uvid>,
}

impl<S: Store> Authority<S> {
    /// Gives a code for what a user typed on a page of the app's (Salesforce's authorization code and
    /// credentials flow). It is redeemed as any other ([`TokenRequest::code`](super::super::TokenRequest::code)),
    /// with the redirect URI of the request though no browser goes there; a guest's needs the same
    /// [`TokenRequest::uvid_hint`](super::super::TokenRequest::uvid_hint).
    ///
    /// # Durability
    /// The ticket resolves when the code is on stable storage.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for a request that is malformed, and for a visitor id that is none;
    /// [`Error::UnauthorizedClient`] for a client without the switch; [`Error::InvalidGrant`] for a wrong
    /// password or one-time code, and for a user who has not approved the client;
    /// [`Error::InvalidScope`]; [`Error::TooManyRequests`]; [`Error::TemporarilyUnavailable`].
    pub fn code_credentials(&self, credentials: &CodeCredentials<'_>) -> Ticket<SecretText, Error> {
        let admission = self.inner.store.admission();
        let code = ticket(self.inner.code_credentials(admission, credentials));
        let client = credentials.request.client_id.and_then(|id| ClientId::new(id).ok());
        let asker = || Asker { client, address: credentials.address };
        self.inner.audited(Action::Authorize, asker, code)
    }
}

impl<S: Store> Inner<S> {
    pub(super) fn code_credentials(
        self: &Arc<Self>,
        admission: Seq,
        credentials: &CodeCredentials<'_>,
    ) -> Result<Ticket<SecretText, Error>, Error> {
        if credentials.request.response_type != Some("code_credentials") {
            return Err(Error::UnsupportedResponseType(Reason::new("no code_credentials")));
        }
        let request = AuthorizationRequest { response_type: Some("code"), ..credentials.request };
        let authorization = self.authorize(admission, &request.without_empty(), Via::Push)?;
        authorization.client.check_address(credentials.address, false)?;
        if !authorization.client.settings.code_credentials {
            return Err(Error::UnauthorizedClient(Reason::new("no code and credentials")));
        }
        let checked = Checked { admission, authorization, uvid: None };
        if credentials.request_type == Some(GUEST) {
            let hint = credentials.uvid_hint.ok_or_else(bad_uvid)?.to_owned();
            let inner = Arc::clone(self);
            return Ok(Ticket::slow(async move { inner.guest_code(checked, &hint).await }));
        }
        let hint = credentials.uvid_hint.map(str::to_owned);
        let (name, secret) = name_and_secret(credentials)?;
        let registers = match credentials.request_type {
            None | Some(NAMED) => {
                let client = &checked.authorization.client;
                let subject =
                    self.subject_by_password(client, &name, secret.expose(), credentials.address)?;
                let inner = Arc::clone(self);
                return Ok(Ticket::slow(async move {
                    let checked = inner.with_uvid(checked, hint.as_deref()).await?;
                    inner.named_code(checked, &subject)?.await
                }));
            }
            Some(PASSWORDLESS) => false,
            Some(REGISTRATION) => true,
            Some(_) => {
                let reason = Reason::new("unknown Auth-Request-Type").because(Cause::BadHeaders);
                return Err(Error::InvalidRequest(reason));
            }
        };
        let headless = self.headless_of(&checked.authorization.client)?;
        let inner = Arc::clone(self);
        Ok(Ticket::slow(async move {
            let checked = inner.with_uvid(checked, hint.as_deref()).await?;
            let client = Arc::clone(&checked.authorization.client);
            let (subject, sent) =
                inner.by_passcode(&client, &name, secret.expose(), registers).await?;
            if registers && !headless.complete_registration(&subject) {
                return Err(Error::AccessDenied(Reason::new("the user could not be made")));
            }
            // I3: it derives from the moment at which the one-time code was sent, too.
            let admission = checked.admission.min(sent);
            inner.named_code(Checked { admission, ..checked }, &subject)?.await
        }))
    }

    /// A code for a user whom the client may have without asking.
    fn named_code(
        self: &Arc<Self>,
        checked: Checked,
        subject: &Subject,
    ) -> Result<Ticket<SecretText, Error>, Error> {
        let Checked { admission, authorization, uvid } = checked;
        let client = Arc::clone(&authorization.client);
        let login = Login::at(subject, self.clock.read().unix)?;
        let login = match &uvid {
            Some(uvid) => login.device(uvid.as_str())?,
            None => login,
        };
        self.approved_then(&client, subject, move |inner, approved| {
            let asked = authorization.scope().as_str();
            let scope = narrow_scope(Some(asked), &approved, inner.profile)?;
            inner.code_for(&authorization, &login, &scope, admission)
        })
    }

    /// A code for a guest: a JWT of nobody whom the authority knows.
    async fn guest_code(
        self: Arc<Self>,
        checked: Checked,
        hint: &str,
    ) -> Result<SecretText, Error> {
        let Checked { admission, authorization, .. } = self.with_uvid(checked, Some(hint)).await?;
        let client = &authorization.client;
        if !client.settings.guests || client.format() == TokenFormat::Opaque {
            return Err(Error::UnauthorizedClient(Reason::new("no guests")));
        }
        let uvid = self.uvid(hint).await?;
        let login = Login::at(uvid.guest().ok_or_else(bad_uvid)?, self.clock.read().unix)?;
        let scope = authorization.scope().clone();
        self.code_for(&authorization, &login, &scope, admission)?.await
    }

    fn code_for(
        &self,
        authorization: &Authorization,
        login: &Login,
        scope: &Scope,
        admission: Seq,
    ) -> Result<Ticket<SecretText, Error>, Error> {
        let (code, born) = self.offer_code(authorization, login, scope, admission)?;
        Ok(born.and_then(move |born: Result<(), Error>| born.map(|()| code)))
    }

    async fn with_uvid(&self, checked: Checked, hint: Option<&str>) -> Result<Checked, Error> {
        match hint {
            None => Ok(checked),
            Some(hint) => Ok(Checked { uvid: Some(self.uvid(hint).await?), ..checked }),
        }
    }

    /// The visitor that a hint names: by its id, or by a guest's token that still lives.
    async fn uvid(&self, hint: &str) -> Result<Uvid, Error> {
        let Some(token) = hint.strip_prefix("JWT ") else {
            let id = hint.strip_prefix("UVID ").unwrap_or(hint);
            return Uvid::parse(id).ok_or_else(bad_uvid);
        };
        let Ok(Read::Jwt(jwt)) = self.read(token) else { return Err(bad_uvid()) };
        let view = self.store.find(jwt.find(false), self.clock.read()).await?;
        let lives = view.is_some_and(|view| view.live && view.client == jwt.client);
        Uvid::of_guest(&jwt.subject).filter(|_| lives).ok_or_else(bad_uvid)
    }
}

/// What the user typed, from the header or from the body.
fn name_and_secret(credentials: &CodeCredentials<'_>) -> Result<(String, SecretText), Error> {
    let refuse = |why| Error::InvalidRequest(Reason::new(why).because(Cause::BadHeaders));
    match (credentials.authorization, credentials.username, credentials.password) {
        (Some(header), None, None) => {
            if header.len() > HEADER_LEN_MAX {
                return Err(refuse("the Authorization header is too long"));
            }
            let encoded = header.split_once(' ').filter(|(s, _)| s.eq_ignore_ascii_case("basic"));
            let (_, encoded) = encoded.ok_or_else(|| refuse("no Basic header"))?;
            let bytes = STANDARD.decode_to_vec(encoded).map_err(|_| refuse("no base64"))?;
            let bytes = zeroize::Zeroizing::new(bytes);
            let text = std::str::from_utf8(&bytes).map_err(|_| refuse("no UTF-8"))?;
            let (name, secret) = text.split_once(':').ok_or_else(|| refuse("no colon"))?;
            Ok((name.to_owned(), SecretText::new(secret)))
        }
        (None, Some(name), Some(secret)) => Ok((name.to_owned(), SecretText::new(secret))),
        _ => Err(refuse("no credentials, or more than one")),
    }
}

pub(in crate::authority) fn bad_uvid() -> Error {
    Error::InvalidRequest(Reason::new("no visitor id, or another one").because(Cause::BadUvid))
}
