//! The authorization challenge endpoint (OAuth 2.0 for First-Party Applications, a draft; Salesforce's
//! `v1/authorization_challenge`) without HTTP: a code for what the user typed, or what else is needed.

use std::sync::Arc;

use serde::Serialize;

use super::super::audit::Action;
use super::super::authorize::AuthorizationRequest;
use super::super::client_auth::Caller;
use super::super::error::{Cause, Error, Reason};
use super::super::json;
use super::super::lookup::ticket;
use super::super::{Authority, Inner};
use super::{CodeCredentials, Delivery};
use crate::secret::SecretText;
use crate::store::{Store, Ticket};

/// What a first-party app sends: the first time a name, with a password or without, then the session that
/// it was given, with the one-time code that its user typed.
#[derive(Clone, Copy, Default)]
pub struct ChallengeRequest<'a> {
    /// The parameters of the authorization request: `client_id`, `scope`, `code_challenge` ...
    pub request: AuthorizationRequest<'a>,
    /// `username`.
    pub username: Option<&'a str>,
    /// `password`.
    pub password: Option<&'a str>,
    /// `auth_session`.
    pub auth_session: Option<&'a str>,
    /// `otp`.
    pub otp: Option<&'a str>,
    /// How a one-time code is sent; by mail where that is not said.
    pub delivery: Option<Delivery>,
}

/// The answer to a challenge request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AuthorizationChallenge {
    /// A code, as of [`Authority::code_credentials`]: status 200.
    Code(SecretText),
    /// A one-time code was sent, and the app comes back with it and this session: status 403.
    PasscodeSent {
        /// `auth_session`.
        auth_session: SecretText,
        /// How it was sent.
        delivery: Delivery,
    },
    /// What was typed is wrong: status 403.
    InvalidCredentials,
}

#[derive(Serialize)]
struct Wire<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_session: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    login_status: Option<Status>,
}

#[derive(Serialize)]
struct Status {
    state: &'static str,
    r#type: &'static str,
}

impl AuthorizationChallenge {
    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            AuthorizationChallenge::Code(_) => 200,
            _ => 403,
        }
    }

    /// The body of the response. It goes with `Cache-Control: no-store`.
    #[must_use]
    pub fn to_json(&self) -> SecretText {
        let nothing = Wire {
            authorization_code: None,
            error: Some("authorization_required"),
            error_code: None,
            auth_session: None,
            login_status: None,
        };
        let wire = match self {
            AuthorizationChallenge::Code(code) => {
                Wire { authorization_code: Some(code.expose()), error: None, ..nothing }
            }
            AuthorizationChallenge::PasscodeSent { auth_session, delivery } => {
                let r#type = match delivery {
                    Delivery::Email => "EMAIL",
                    Delivery::Sms => "SMS",
                };
                Wire {
                    error_code: Some("login_initialized"),
                    auth_session: Some(auth_session.expose()),
                    login_status: Some(Status { state: "otp_sent", r#type }),
                    ..nothing
                }
            }
            AuthorizationChallenge::InvalidCredentials => {
                Wire { error_code: Some("invalid_credentials"), ..nothing }
            }
        };
        SecretText::new(json::text(|out| json::write(&wire, out)))
    }
}

impl<S: Store> Authority<S> {
    /// Answers a first-party app. Salesforce demands that the app proves itself (`client_assertion`):
    /// register it as a confidential client.
    ///
    /// # Errors
    /// [`Error::InvalidClient`] when the caller does not authenticate, and for a public client;
    /// [`Error::InvalidRequest`] for another client's request or one that says nothing of a user; else as
    /// [`Authority::code_credentials`] and [`Authority::send_passcode`].
    pub fn authorization_challenge(
        &self,
        asked: &ChallengeRequest<'_>,
        caller: &Caller,
    ) -> Ticket<AuthorizationChallenge, Error> {
        self.inner.as_client(caller, Action::Authorize, None, |client| {
            if !client.is_confidential() {
                let why = "a public client cannot prove that it is a first party's";
                return Err(Error::InvalidClient(Reason::new(why)));
            }
            if asked.request.client_id.is_some_and(|id| id != client.id.as_str()) {
                return Err(Error::InvalidRequest(Reason::new("another client's client_id")));
            }
            let id = client.id.as_str();
            let request = AuthorizationRequest {
                client_id: Some(id),
                response_type: Some("code_credentials"),
                ..asked.request
            };
            let base = CodeCredentials { request, address: caller.address, ..Default::default() };
            match (asked.auth_session, asked.otp, asked.username, asked.password) {
                (Some(session), Some(otp), ..) => Ok(self.inner.challenged(&CodeCredentials {
                    request_type: Some("passwordless-login"),
                    username: Some(session),
                    password: Some(otp),
                    ..base
                })),
                (None, None, Some(username), Some(password)) => {
                    Ok(self.inner.challenged(&CodeCredentials {
                        username: Some(username),
                        password: Some(password),
                        ..base
                    }))
                }
                (None, None, Some(username), None) => {
                    let delivery = asked.delivery.unwrap_or(Delivery::Email);
                    let sent = self.inner.send_passcode_to(&client, username, delivery)?;
                    Ok(sent.and_then(|sent| {
                        let sent = sent?;
                        let (auth_session, delivery) = (sent.identifier, sent.delivery);
                        Ok(AuthorizationChallenge::PasscodeSent { auth_session, delivery })
                    }))
                }
                _ => Err(Error::InvalidRequest(Reason::new("it says nothing of a user"))),
            }
        })
    }
}

impl<S: Store> Inner<S> {
    fn challenged(
        self: &Arc<Self>,
        credentials: &CodeCredentials<'_>,
    ) -> Ticket<AuthorizationChallenge, Error> {
        let code = ticket(self.code_credentials(self.store.admission(), credentials));
        code.and_then(|code: Result<SecretText, Error>| match code {
            Ok(code) => Ok(AuthorizationChallenge::Code(code)),
            Err(Error::InvalidGrant(reason))
                if matches!(reason.cause(), Cause::WrongPassword | Cause::WrongPasscode) =>
            {
                Ok(AuthorizationChallenge::InvalidCredentials)
            }
            Err(error) => Err(error),
        })
    }
}
