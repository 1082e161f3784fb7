//! The answer to a token request (RFC 6749 section 5.1).

use std::sync::Arc;

use base64_simd::STANDARD;
use ring::hmac;
use serde::Serialize;

use super::exchange::TokenType;
use super::json;
use super::web_session::{SessionWire, WebSession};
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
    /// How to use it: `Bearer` (RFC 6750), or `DPoP` when it is bound to a key (RFC 9449).
    pub token_type: &'static str,
    /// How long it still lives, in seconds.
    pub expires_in: u64,
    /// The refresh token, where the client got a new one.
    pub refresh_token: Option<SecretText>,
    /// The ID token, where the scope has `openid` and somebody has logged in (OpenID Connect Core
    /// section 3.1.3.3).
    pub id_token: Option<SecretText>,
    /// Salesforce's identity URL of the subject ([`Authority::identity`](super::Authority::identity)).
    pub id: String,
    /// Where the services are that the token is for.
    pub instance_url: Arc<str>,
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
    /// Web sessions, where they were asked for.
    pub web_session: Option<WebSession>,
    /// Of an exchange: what kind the access token is (RFC 8693 section 2.2.1).
    pub issued_token_type: Option<TokenType>,
    pub(super) salesforce: Option<SalesforceFields>,
}

/// What Salesforce adds.
#[derive(Clone, Debug)]
pub(super) struct SalesforceFields {
    /// The time of issue in milliseconds, as text.
    issued_at: String,
    /// Made with the client's secret: who has it can try secrets on it.
    signature: Option<SecretText>,
    token_format: &'static str,
    api_instance_url: Option<Arc<str>>,
}

impl SalesforceFields {
    /// Those of an answer; `secret` is what the client proved itself with.
    pub(super) fn of(
        issued: &Issued,
        secret: Option<&SecretText>,
        api_instance_url: Option<&Arc<str>>,
    ) -> SalesforceFields {
        let issued_at = format!("{}000", issued.issued_at);
        let is_jwt = issued.access_token.expose().contains('.');
        SalesforceFields {
            signature: secret
                .map(|secret| SecretText::new(signature(secret, &issued.id, &issued_at))),
            issued_at,
            token_format: if is_jwt { "jwt" } else { "opaque" },
            api_instance_url: api_instance_url.filter(|_| is_jwt).cloned(),
        }
    }
}

/// HMAC-SHA256 under the client's secret, over identity URL and time: so a client knows that the two
/// came from the authority.
fn signature(secret: &SecretText, id: &str, issued_at: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(id.as_bytes());
    context.update(issued_at.as_bytes());
    STANDARD.encode_to_string(context.sign().as_ref())
}

/// The members that go over the wire.
#[derive(Serialize)]
struct Wire<'a> {
    access_token: &'a str,
    token_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_token_type: Option<&'a str>,
    expires_in: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token: Option<&'a str>,
    scope: &'a str,
    id: &'a str,
    instance_url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_instance_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_at: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_format: Option<&'a str>,
    #[serde(flatten)]
    web_session: Option<SessionWire<'a>>,
}

impl Issued {
    /// The body of the response (RFC 6749 section 5.1), appended to `out`. It goes with
    /// `Cache-Control: no-store`, and `out` holds secrets then.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let salesforce = self.salesforce.as_ref();
        json::write(
            &Wire {
                access_token: self.access_token.expose(),
                token_type: self.token_type,
                issued_token_type: self.issued_token_type.map(TokenType::urn),
                expires_in: self.expires_in,
                refresh_token: self.refresh_token.as_ref().map(SecretText::expose),
                id_token: self.id_token.as_ref().map(SecretText::expose),
                scope: self.scope.as_str(),
                id: &self.id,
                instance_url: &self.instance_url,
                api_instance_url: salesforce.and_then(|more| more.api_instance_url.as_deref()),
                issued_at: salesforce.map(|more| &*more.issued_at),
                signature: salesforce
                    .and_then(|more| more.signature.as_ref())
                    .map(SecretText::expose),
                token_format: salesforce.map(|more| more.token_format),
                web_session: self.web_session.as_ref().map(WebSession::wire),
            },
            out,
        );
    }

    /// What Salesforce adds, and web sessions, as parameters of a redirect.
    pub(super) fn more_parameters(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let theirs = self.salesforce.iter().flat_map(|more| {
            let signature = more.signature.as_ref().map(SecretText::expose);
            let api = more.api_instance_url.as_deref();
            [
                ("issued_at", Some(&*more.issued_at)),
                ("signature", signature),
                ("token_format", Some(more.token_format)),
                ("api_instance_url", api),
            ]
        });
        let theirs = theirs.filter_map(|(name, value)| Some((name, value?)));
        theirs.chain(self.web_session.iter().flat_map(WebSession::parameters))
    }

    /// The body of the response.
    #[must_use]
    pub fn to_json(&self) -> SecretText {
        SecretText::new(json::text(|out| self.write_json(out)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_salesforce() {
        // Computed with OpenSSL: printf %s "$ID$AT" | openssl dgst -sha256 -hmac hush -binary | base64
        let id = "https://login.example.com/id/00D1/005";
        let found = signature(&SecretText::new("hush"), id, "1800000000000");
        assert_eq!(found, "h3dY65utWDb09TMNhpA2S+UkpmV6Uktk99askAjOL7s=");
    }
}
