//! What a host knows of its users, and which of it a scope asks for.

use std::collections::BTreeMap;

use super::super::profile::Profile;
use crate::codec::claims::{ClaimsWriter, ExtraClaims};
use crate::codec::jws::SignError;
use crate::ids::{ClientId, Subject};
use crate::scope::Scope;
use crate::time::Timestamp;

/// What is known of a user (OpenID Connect Core section 5.1, and Salesforce's additions). What is
/// `None` or empty is left out wherever it would stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// `preferred_username`; Salesforce's `username`.
    pub username: Option<String>,
    /// `name`; Salesforce's `display_name`.
    pub name: Option<String>,
    /// `given_name`.
    pub given_name: Option<String>,
    /// `family_name`.
    pub family_name: Option<String>,
    /// `nickname`.
    pub nickname: Option<String>,
    /// `email`.
    pub email: Option<String>,
    /// `email_verified`.
    pub email_verified: bool,
    /// `phone_number`.
    pub phone_number: Option<String>,
    /// `phone_number_verified`.
    pub phone_number_verified: bool,
    /// `address`, its members by name, such as `locality` and `country` (section 5.1.1).
    pub address: BTreeMap<String, String>,
    /// `zoneinfo`, such as `Europe/Paris`.
    pub zoneinfo: Option<String>,
    /// `locale`, such as `en-US`.
    pub locale: Option<String>,
    /// Salesforce's `language`.
    pub language: Option<String>,
    /// `profile`: URL of a page about the user.
    pub profile: Option<String>,
    /// `picture`: URL of an image.
    pub picture: Option<String>,
    /// URL of a small image; in Salesforce's `photos`.
    pub thumbnail: Option<String>,
    /// Salesforce's `user_type`, such as `STANDARD`.
    pub user_type: Option<String>,
    /// Salesforce's `utcOffset`, in milliseconds.
    pub utc_offset_millis: Option<i64>,
    /// Whether the user is switched off.
    pub is_inactive: bool,
    /// `updated_at`.
    pub updated_at: Option<Timestamp>,
    /// Salesforce's `custom_attributes`.
    pub custom_attributes: BTreeMap<String, String>,
    /// Salesforce's `custom_permissions`, for the scope of that name.
    pub custom_permissions: BTreeMap<String, String>,
}

/// The host's word on its users, for ID tokens, UserInfo and the identity URL.
///
/// # Blocks
/// The calls are made on the thread of the request. Answer from memory.
pub trait Users: Send + Sync + 'static {
    /// What is known of a user; `None` for one who is unknown.
    fn user(&self, subject: &Subject) -> Option<User>;

    /// Whether `viewer` may see another user's identity, with a token of `client` that has the scope
    /// for it. Nobody may by default.
    fn may_see(&self, client: &ClientId, viewer: &Subject, seen: &Subject) -> bool {
        let _ = (client, viewer, seen);
        false
    }
}

impl<F: Fn(&Subject) -> Option<User> + Send + Sync + 'static> Users for F {
    fn user(&self, subject: &Subject) -> Option<User> {
        self(subject)
    }
}

/// Nothing is known of anybody.
pub(in crate::authority) struct NoUsers;

impl Users for NoUsers {
    fn user(&self, _: &Subject) -> Option<User> {
        Some(User::default())
    }
}

/// Which parts of a user a scope asks for (OpenID Connect Core section 5.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) profile: bool,
    pub(super) email: bool,
    pub(super) address: bool,
    pub(super) phone: bool,
    pub(super) permissions: bool,
}

impl Parts {
    /// Everything, but permissions only where that is said.
    pub(super) fn all(permissions: bool) -> Parts {
        Parts { profile: true, email: true, address: true, phone: true, permissions }
    }

    pub(super) fn of(scope: &Scope, authority: Profile) -> Parts {
        let has = |token| authority.covers(scope, token);
        Parts {
            profile: has("profile"),
            email: has("email"),
            address: has("address"),
            phone: has("phone"),
            permissions: has("custom_permissions"),
        }
    }
}

/// The standard claims of a user, as they stand in an ID token.
pub(super) struct UserClaims<'a> {
    pub(super) user: &'a User,
    pub(super) parts: Parts,
    /// Salesforce's additions, too.
    pub(super) with_custom: bool,
}

impl ExtraClaims for UserClaims<'_> {
    fn write<'c>(&'c self, claims: &mut ClaimsWriter<'c>) -> Result<(), SignError> {
        let UserClaims { user, parts, with_custom } = self;
        let mut text = |when: bool, name: &'static str, value: &Option<String>| match value {
            Some(value) if when => claims.str(name, value),
            _ => Ok(()),
        };
        text(parts.profile, "preferred_username", &user.username)?;
        text(parts.profile, "name", &user.name)?;
        text(parts.profile, "given_name", &user.given_name)?;
        text(parts.profile, "family_name", &user.family_name)?;
        text(parts.profile, "nickname", &user.nickname)?;
        text(parts.profile, "zoneinfo", &user.zoneinfo)?;
        text(parts.profile, "locale", &user.locale)?;
        text(parts.profile, "profile", &user.profile)?;
        text(parts.profile, "picture", &user.picture)?;
        text(parts.email, "email", &user.email)?;
        text(parts.phone, "phone_number", &user.phone_number)?;
        if parts.email && user.email.is_some() {
            claims.bool("email_verified", user.email_verified)?;
        }
        if parts.phone && user.phone_number.is_some() {
            claims.bool("phone_number_verified", user.phone_number_verified)?;
        }
        if let (true, Some(at)) = (parts.profile, user.updated_at) {
            claims.u64("updated_at", at.0)?;
        }
        let mut object = |when: bool, name: &'static str, members: &BTreeMap<String, String>| {
            if !when || members.is_empty() {
                return Ok(());
            }
            claims.object(name, members.iter().map(|(name, value)| (&**name, &**value)))
        };
        object(parts.address, "address", &user.address)?;
        object(*with_custom, "custom_attributes", &user.custom_attributes)?;
        object(*with_custom && parts.permissions, "custom_permissions", &user.custom_permissions)
    }
}
