//! Who a subject is, told to those who may know: ID tokens, the UserInfo document and Salesforce's
//! identity URL. What is known of a user is the host's to say ([`Users`]).

mod document;
mod id_token;
mod user;
mod user_info;

pub use document::{Identity, IdentityOptions};
pub use id_token::{ID_TOKEN_SECS, ID_TOKEN_SECS_MAX};
pub use user::{User, Users};
pub use user_info::UserInfo;

pub(super) use id_token::{IdTerms, LoginFacts, OPENID};
pub(super) use user::NoUsers;

use super::Inner;
use super::authorize::push_encoded;
use super::profile::Profile;
use crate::ids::Subject;

impl<S> Inner<S> {
    /// Salesforce's identity URL of a subject.
    pub(super) fn identity_url(&self, subject: &Subject) -> String {
        let mut url = String::from(self.issuer.trim_end_matches('/'));
        url.push_str("/id/");
        url.push_str(self.handles.org().as_str());
        url.push('/');
        push_encoded(&mut url, subject.as_str());
        url
    }

    /// The subject that has that name.
    pub(super) fn subject_named(&self, name: &str) -> Option<Subject> {
        let text = match self.profile {
            Profile::Standard => name.to_owned(),
            Profile::Salesforce => {
                let base =
                    format!("{}/id/{}/", self.issuer.trim_end_matches('/'), self.handles.org());
                decoded(name.strip_prefix(&base)?)?
            }
        };
        Subject::new(text).ok()
    }

    /// How a subject is named to clients: one name in every answer.
    pub(super) fn subject_of(&self, subject: &Subject) -> String {
        match self.profile {
            Profile::Standard => subject.as_str().to_owned(),
            Profile::Salesforce => self.identity_url(subject),
        }
    }
}

/// The text of what `push_encoded` wrote.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}
