//! The answer to a token request (RFC 6749 section 5.1).

use serde::Serialize;

use crate::ids::{ClientId, Subject};
use crate::scope::Scope;
use crate::secret::SecretText;
use crate::time::Timestamp;

/// Tokens, fresh or again. `Debug` shows no secret.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Issued {
    /// The access token.
    pub access_token: SecretText,
    /// How to use it: `Bearer` (RFC 6750).
    pub token_type: &'static str,
    /// How long it still lives, in seconds.
    pub expires_in: u64,
    /// The refresh token, where the client got a new one.
    pub refresh_token: Option<SecretText>,
    /// The scope granted.
    pub scope: Scope,
    /// When the access token was issued.
    pub issued_at: Timestamp,
    /// The first second at which the access token is dead.
    pub expires_at: Timestamp,
    /// The client.
    pub client_id: ClientId,
    /// Whom the tokens speak for.
    pub subject: Subject,
    /// The grant: stable, no secret.
    pub grant: u64,
    /// The family: one login of the grant.
    pub family: u64,
    /// The `nonce` of the authorization request, for an ID token.
    pub nonce: Option<String>,
    /// When the subject logged in, where a code was redeemed: `auth_time` of an ID token.
    pub authenticated_at: Option<Timestamp>,
}

/// The members that go over the wire.
#[derive(Serialize)]
struct Wire<'a> {
    access_token: &'a str,
    token_type: &'a str,
    expires_in: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
    scope: &'a str,
}

impl Issued {
    /// The body of the response (RFC 6749 section 5.1). It goes with `Cache-Control: no-store`.
    #[must_use]
    pub fn to_json(&self) -> SecretText {
        let wire = Wire {
            access_token: self.access_token.expose(),
            token_type: self.token_type,
            expires_in: self.expires_in,
            refresh_token: self.refresh_token.as_ref().map(SecretText::expose),
            scope: self.scope.as_str(),
        };
        // A struct of texts and numbers has a JSON form, always.
        SecretText::new(serde_json::to_string(&wire).unwrap_or_default())
    }
}
