//! UserInfo (OpenID Connect Core section 5.3) without HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::super::active::ActiveToken;
use super::super::error::{Error, Reason};
use super::super::json;
use super::super::lookup::ticket;
use super::super::profile::Profile;
use super::super::sender::Presented;
use super::super::{Authority, Inner};
use super::id_token::OPENID;
use super::user::{Parts, User};
use crate::ids::Subject;
use crate::scope::Scope;
use crate::store::{Store, Ticket};

/// What UserInfo answers.
#[derive(Clone, Debug)]
pub struct UserInfo {
    subject: Subject,
    sub: String,
    user: User,
    parts: Parts,
    salesforce: Option<SalesforceParts>,
}

/// What Salesforce adds.
#[derive(Clone, Debug)]
struct SalesforceParts {
    organization: String,
    urls: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Wire<'a> {
    sub: &'a str,
    #[serde(flatten)]
    salesforce: Option<SalesforceWire<'a>>,
    #[serde(flatten)]
    profile: Option<ProfileWire<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email_verified: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone_number: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone_number_verified: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<&'a BTreeMap<String, String>>,
}

#[derive(Serialize)]
struct ProfileWire<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    given_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    family_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nickname: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preferred_username: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    picture: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    zoneinfo: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    locale: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<u64>,
}

#[derive(Serialize)]
struct SalesforceWire<'a> {
    user_id: &'a str,
    organization_id: &'a str,
    photos: Photos<'a>,
    urls: &'a BTreeMap<String, String>,
    active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<&'a str>,
    #[serde(rename = "utcOffset", skip_serializing_if = "Option::is_none")]
    utc_offset: Option<i64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    custom_attributes: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_permissions: Option<&'a BTreeMap<String, String>>,
    is_app_installed: bool,
}

/// Salesforce's `photos`.
#[derive(Serialize)]
pub(super) struct Photos<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    picture: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thumbnail: Option<&'a str>,
}

impl<'a> Photos<'a> {
    pub(super) fn of(user: &'a User) -> Photos<'a> {
        Photos { picture: user.picture.as_deref(), thumbnail: user.thumbnail.as_deref() }
    }
}

impl UserInfo {
    /// Whom the access token speaks for.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// The body of the response (section 5.3.2), appended to `out`.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let UserInfo { sub, user, parts, .. } = self;
        let profile = parts.profile.then(|| ProfileWire {
            name: user.name.as_deref(),
            given_name: user.given_name.as_deref(),
            family_name: user.family_name.as_deref(),
            nickname: user.nickname.as_deref(),
            preferred_username: user.username.as_deref(),
            profile: user.profile.as_deref(),
            picture: user.picture.as_deref(),
            zoneinfo: user.zoneinfo.as_deref(),
            locale: user.locale.as_deref(),
            updated_at: user.updated_at.map(|at| at.0),
        });
        let email = user.email.as_deref().filter(|_| parts.email);
        let phone_number = user.phone_number.as_deref().filter(|_| parts.phone);
        let wire = Wire {
            sub,
            salesforce: self.salesforce.as_ref().map(|more| self.salesforce(more)),
            profile,
            email,
            email_verified: email.map(|_| user.email_verified),
            phone_number,
            phone_number_verified: phone_number.map(|_| user.phone_number_verified),
            address: Some(&user.address).filter(|address| parts.address && !address.is_empty()),
        };
        json::write(&wire, out);
    }

    /// The body of the response.
    #[must_use]
    pub fn to_json(&self) -> String {
        json::text(|out| self.write_json(out))
    }

    fn salesforce<'a>(&'a self, more: &'a SalesforceParts) -> SalesforceWire<'a> {
        let user = &self.user;
        SalesforceWire {
            user_id: self.subject.as_str(),
            organization_id: &more.organization,
            photos: Photos::of(user),
            urls: &more.urls,
            active: !user.is_inactive,
            user_type: user.user_type.as_deref(),
            language: user.language.as_deref(),
            utc_offset: user.utc_offset_millis,
            custom_attributes: &user.custom_attributes,
            custom_permissions: Some(&user.custom_permissions).filter(|_| self.parts.permissions),
            is_app_installed: true,
        }
    }
}

impl<S: Store> Authority<S> {
    /// Tells the holder of an access token about the user that it speaks for. It is a use of the
    /// token, as [`Authority::verify_live`] is; the token may be meant for any audience.
    ///
    /// # Errors
    /// As [`Authority::verify_live`]; [`Error::InvalidToken`] also for a user who is unknown; [`Error::InsufficientScope`] without the scope `openid` (with
    /// [`Profile::Salesforce`] `id`, `api` or `full` will do);
    /// [`Error::TemporarilyUnavailable`] when a cold record could not be read.
    pub fn user_info<'t>(&self, token: impl Into<Presented<'t>>) -> Ticket<UserInfo, Error> {
        let inner = Arc::clone(&self.inner);
        ticket(self.inner.live_for_us(&token.into()))
            .and_then(move |token: Result<ActiveToken, Error>| inner.user_info(token?))
    }
}

impl<S: Store> Inner<S> {
    /// Whether a token with that scope is told of the user that it speaks for.
    pub(super) fn is_told_of_own(&self, scope: &Scope) -> bool {
        match self.profile {
            Profile::Standard => scope.has(OPENID),
            Profile::Salesforce => {
                [OPENID, "id", "api"].iter().any(|t| self.profile.covers(scope, t))
            }
        }
    }

    /// What it is told of a user.
    pub(super) fn told_of_users(&self, scope: &Scope) -> Parts {
        match self.profile {
            Profile::Standard => Parts::of(scope, self.profile),
            // Salesforce tells whoever may ask.
            Profile::Salesforce => Parts::all(self.profile.covers(scope, "custom_permissions")),
        }
    }

    fn user_info(&self, token: ActiveToken) -> Result<UserInfo, Error> {
        if !self.is_told_of_own(&token.scope) {
            return Err(Error::InsufficientScope(Reason::new("no openid")));
        }
        let user = self.users.user(&token.subject);
        let user = user.ok_or_else(|| Error::InvalidToken(Reason::new("the user is unknown")))?;
        let salesforce = (self.profile == Profile::Salesforce).then(|| SalesforceParts {
            organization: self.handles.org().as_str().to_owned(),
            urls: self.service_urls(&token.subject, None),
        });
        let sub = self.subject_of(&token.subject);
        let parts = self.told_of_users(&token.scope);
        Ok(UserInfo { subject: token.subject, sub, user, parts, salesforce })
    }
}
