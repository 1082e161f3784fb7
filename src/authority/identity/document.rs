//! Salesforce's identity URL (`/id/{organization}/{user}`) without HTTP: who a user is, and where the
//! services are that its client may talk to.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::super::active::ActiveToken;
use super::super::authorize::push_encoded;
use super::super::error::{Cause, Error, Reason};
use super::super::json;
use super::super::lookup::ticket;
use super::super::profile::Profile;
use super::super::sender::Presented;
use super::super::{Authority, Inner};
use super::user::{Parts, User};
use super::user_info::Photos;
use crate::ids::Subject;
use crate::store::{Store, Ticket};
use crate::time::Timestamp;

/// What stands in every version of a service URL until it is known.
const VERSION: &str = "{version}";

/// Salesforce's services, by the names that its clients know, below the instance URL.
const SALESFORCE_SERVICES: [(&str, &str); 13] = [
    ("enterprise", "/services/Soap/c/{version}/{organization}"),
    ("metadata", "/services/Soap/m/{version}/{organization}"),
    ("partner", "/services/Soap/u/{version}/{organization}"),
    ("rest", "/services/data/v{version}/"),
    ("sobjects", "/services/data/v{version}/sobjects/"),
    ("search", "/services/data/v{version}/search/"),
    ("query", "/services/data/v{version}/query/"),
    ("recent", "/services/data/v{version}/recent/"),
    ("profile", "/{user}"),
    ("feeds", "/services/data/v{version}/chatter/feeds"),
    ("groups", "/services/data/v{version}/chatter/groups"),
    ("users", "/services/data/v{version}/chatter/users"),
    ("feed_items", "/services/data/v{version}/chatter/feed-items"),
];

/// How an identity URL was asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdentityOptions<'a> {
    /// `version`, such as `63.0`: it stands in the URLs in place of `{version}`.
    pub version: Option<&'a str>,
}

/// What an identity URL answers.
#[derive(Clone, Debug)]
pub struct Identity {
    id: String,
    is_own: bool,
    subject: Subject,
    organization: String,
    user: User,
    parts: Parts,
    urls: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Wire<'a> {
    id: &'a str,
    asserted_user: bool,
    user_id: &'a str,
    organization_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nick_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    display_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email_verified: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timezone: Option<&'a str>,
    photos: Photos<'a>,
    urls: &'a BTreeMap<String, String>,
    active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    locale: Option<&'a str>,
    #[serde(rename = "utcOffset", skip_serializing_if = "Option::is_none")]
    utc_offset: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_modified_date: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    custom_attributes: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_permissions: Option<&'a BTreeMap<String, String>>,
}

impl Identity {
    /// Who it is about.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Whether it is about the user that the access token speaks for (`asserted_user`).
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.is_own
    }

    /// The body of the response, appended to `out`.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let Identity { user, parts, .. } = self;
        let user = match parts.profile {
            true => user,
            // What is left are the members of other parts.
            false => &User { email: user.email.clone(), ..User::default() },
        };
        let email = user.email.as_deref().filter(|_| parts.email);
        let permissions = &self.user.custom_permissions;
        let wire = Wire {
            id: &self.id,
            asserted_user: self.is_own,
            user_id: self.subject.as_str(),
            organization_id: &self.organization,
            username: user.username.as_deref(),
            nick_name: user.nickname.as_deref(),
            display_name: user.name.as_deref(),
            email,
            email_verified: email.map(|_| self.user.email_verified),
            first_name: user.given_name.as_deref(),
            last_name: user.family_name.as_deref(),
            timezone: user.zoneinfo.as_deref(),
            photos: Photos::of(user),
            urls: &self.urls,
            active: !self.user.is_inactive,
            user_type: user.user_type.as_deref(),
            language: user.language.as_deref(),
            locale: user.locale.as_deref(),
            utc_offset: user.utc_offset_millis,
            last_modified_date: user.updated_at.map(date_text),
            custom_attributes: &user.custom_attributes,
            custom_permissions: Some(permissions).filter(|_| parts.permissions),
        };
        json::write(&wire, out);
    }

    /// The body of the response.
    #[must_use]
    pub fn to_json(&self) -> String {
        json::text(|out| self.write_json(out))
    }
}

impl<S: Store> Authority<S> {
    /// The identity URL of a subject, the `id` of token responses.
    #[must_use]
    pub fn identity_url(&self, subject: &Subject) -> String {
        self.inner.identity_url(subject)
    }

    /// Answers an identity URL to the holder of an access token: about the user that it speaks for, with
    /// a scope that UserInfo takes, `api` or `full`; or about another one whom that user may see
    /// ([`Users::may_see`](super::Users::may_see)), with the scope `api` or `full`. As UserInfo it tells
    /// what the scope asks for; with [`Profile::Salesforce`] everything. It is a use of the token, as
    /// [`Authority::verify_live`] is.
    ///
    /// # Errors
    /// As [`Authority::verify_live`]; [`Error::AccessDenied`] for another organisation, and for a user who is unknown or whom the
    /// holder may not see: one answer; [`Error::InsufficientScope`] without such a scope; [`Error::TemporarilyUnavailable`] when a cold record could not be read.
    pub fn identity<'t>(
        &self,
        organization: &str,
        user: &str,
        token: impl Into<Presented<'t>>,
        options: IdentityOptions<'_>,
    ) -> Ticket<Identity, Error> {
        let inner = Arc::clone(&self.inner);
        let asked = (organization.to_owned(), user.to_owned());
        let version = options.version.map(str::to_owned);
        ticket(self.inner.live_for_us(&token.into())).and_then(
            move |token: Result<ActiveToken, Error>| {
                inner.identity(&asked.0, &asked.1, version.as_deref(), &token?)
            },
        )
    }
}

impl<S: Store> Inner<S> {
    fn identity(
        &self,
        organization: &str,
        user: &str,
        version: Option<&str>,
        token: &ActiveToken,
    ) -> Result<Identity, Error> {
        let refuse = |why, cause| Error::AccessDenied(Reason::new(why).because(cause));
        if organization != self.handles.org().as_str() {
            return Err(refuse("another organisation", Cause::WrongOrganization));
        }
        let unknown = || refuse("no such user for this token", Cause::UnknownUser);
        let subject = Subject::new(user).map_err(|_| unknown())?;
        let is_own = subject == token.subject;
        let covers = |name| self.profile.covers(&token.scope, name);
        let may_ask = (is_own && self.is_told_of_own(&token.scope)) || covers("api");
        if !may_ask && !token.scope.has("full") {
            return Err(Error::InsufficientScope(Reason::new("no scope for that user's identity")));
        }
        if !is_own && !self.users.may_see(&token.client_id, &token.subject, &subject) {
            return Err(unknown());
        }
        Ok(Identity {
            id: self.identity_url(&subject),
            is_own,
            user: self.users.user(&subject).ok_or_else(unknown)?,
            organization: organization.to_owned(),
            parts: self.told_of_users(&token.scope),
            urls: self.service_urls(&subject, version.filter(|version| is_version(version))),
            subject,
        })
    }

    /// The URLs of the services, for a subject.
    pub(super) fn service_urls(
        &self,
        subject: &Subject,
        version: Option<&str>,
    ) -> BTreeMap<String, String> {
        let of_profile: &[(&str, &str)] = match self.profile {
            Profile::Standard => &[],
            Profile::Salesforce => &SALESFORCE_SERVICES,
        };
        let instance = self.instance_url.trim_end_matches('/');
        let theirs =
            of_profile.iter().map(|(name, path)| ((*name).to_owned(), format!("{instance}{path}")));
        let all = theirs.chain(self.service_urls.iter().cloned());
        let organization = self.handles.org().as_str();
        let mut user = String::new();
        push_encoded(&mut user, subject.as_str());
        let filled = all.map(|(name, url)| {
            let url = url.replace("{organization}", organization);
            let url = url.replace("{user}", &user);
            (name, version.map_or(url.clone(), |version| url.replace(VERSION, version)))
        });
        filled.collect()
    }
}

/// A number such as `63.0`. Whatever else is asked for changes nothing.
fn is_version(text: &str) -> bool {
    text.len() <= 8 && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// A time as Salesforce writes it.
fn date_text(at: Timestamp) -> String {
    let (days, secs) = (at.0 / 86_400, at.0 % 86_400);
    let (year, month, day) = civil(days.min(DAYS_MAX));
    let (hour, minute, second) = (secs / 3_600, secs / 60 % 60, secs % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.000+0000")
}

/// 9999-12-31.
const DAYS_MAX: u64 = 2_932_896;

/// The date of a day since 1970, in the Gregorian calendar: years begin in March, so that the leap
/// day is the last one.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, date)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (at, text) in [
            (0, "1970-01-01T00:00:00.000+0000"),
            (951_782_400, "2000-02-29T00:00:00.000+0000"),
            (1_277_758_449, "2010-06-28T20:54:09.000+0000"),
            (4_107_542_399, "2100-02-28T23:59:59.000+0000"),
            (4_107_542_400, "2100-03-01T00:00:00.000+0000"),
            (u64::MAX, "9999-12-31T07:00:15.000+0000"),
        ] {
            assert_eq!(date_text(Timestamp(at)), text);
        }
    }
}
