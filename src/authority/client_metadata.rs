//! Client metadata (RFC 7591 section 2): the document that a client may come from, and the one that
//! says what was registered.

use serde::{Deserialize, Serialize};

use super::authorize::needs_tokens_in_front;
use super::client::{Client, GrantType, RegisteredClient};
use super::client_auth::{AuthMethod, ClientKeys};
use super::client_settings::Settings;
use super::error::{Error, Reason};
use super::profile::Profile;
use super::sender::SenderConstraint;
use crate::secret::SecretText;

/// The longest metadata document, in bytes.
pub const METADATA_LEN_MAX: usize = 16 * 1024;

/// The members of a metadata document that mean something here; all others are left out.
#[derive(Deserialize)]
pub(super) struct Metadata {
    pub(super) client_id: Option<String>,
    #[serde(default)]
    client_name: String,
    pub(super) scope: Option<String>,
    grant_types: Option<Vec<String>>,
    response_types: Option<Vec<String>>,
    token_endpoint_auth_method: Option<String>,
    jwks: Option<serde_json::Value>,
    jwks_uri: Option<String>,
    #[serde(default)]
    redirect_uris: Vec<String>,
    #[serde(default)]
    post_logout_redirect_uris: Vec<String>,
    frontchannel_logout_uri: Option<String>,
    #[serde(default)]
    dpop_bound_access_tokens: bool,
    #[serde(default)]
    tls_client_certificate_bound_access_tokens: bool,
}

impl Client {
    /// Reads a client metadata document (RFC 7591 section 2). `client_id`, `client_name`, `scope`,
    /// `grant_types`, `redirect_uris`, `token_endpoint_auth_method`, `jwks`, `jwks_uri`,
    /// `post_logout_redirect_uris`, `frontchannel_logout_uri`, `dpop_bound_access_tokens` and `tls_client_certificate_bound_access_tokens` count; other members
    /// are left out. The keys at a `jwks_uri` are asked of the host's
    /// [`KeySource`](super::KeySource); certificates of `self_signed_tls_client_auth` stand in `jwks`
    /// as `x5c` (RFC 8705 section 2.2.2). Without `grant_types` a client may use
    /// `authorization_code` alone, as the RFC has it.
    ///
    /// The document is taken at its word, its `client_id`, scopes and grants too: it must come from
    /// somebody whom the host trusts with them. Remember that the subject of a `client_credentials`
    /// token is the `client_id` (RFC 9068 section 2.2). For others there is
    /// [`Authority::register_dynamic`](super::Authority::register_dynamic).
    ///
    /// # Errors
    /// [`Error::InvalidClientMetadata`] for a document over [`METADATA_LEN_MAX`] bytes, for one
    /// that is not JSON or lacks a `client_id`, and for a grant type or an authentication method
    /// that the authority does not know.
    pub fn from_metadata(json: &str) -> Result<Client, Error> {
        let metadata = Metadata::read(json)?;
        let id = metadata.client_id.clone().ok_or_else(|| refuse("no client_id"))?;
        let client = Client { id, ..Client::confidential("") };
        metadata.apply(client)
    }
}

fn refuse(why: &'static str) -> Error {
    Error::InvalidClientMetadata(Reason::new(why))
}

impl Metadata {
    pub(super) fn read(json: &str) -> Result<Metadata, Error> {
        if json.len() > METADATA_LEN_MAX {
            return Err(refuse("the document is too long"));
        }
        serde_json::from_str(json).map_err(|error| {
            Error::InvalidClientMetadata(Reason::with("the document is malformed", error))
        })
    }

    /// A draft with what the document says; everything else is as in `draft`.
    pub(super) fn apply(self, draft: Client) -> Result<Client, Error> {
        // RFC 7591 section 2: "If unspecified or omitted, the default is client_secret_basic".
        let method = self.token_endpoint_auth_method.as_deref();
        let method = AuthMethod::from_name(method.unwrap_or("client_secret_basic"))
            .ok_or_else(|| refuse("unknown token_endpoint_auth_method"))?;
        let mut client = draft.authenticates([method]);
        if method == AuthMethod::None {
            client.settings.refresh.rotates = true;
        }
        let named =
            |grant: GrantType| self.grant_types.iter().flatten().any(|name| name == grant.name());
        let signs = method == AuthMethod::PrivateKeyJwt || named(GrantType::JwtBearer);
        // RFC 7591 section 2: "The "jwks_uri" and "jwks" parameters MUST NOT both be present".
        let client = match (method, &self.jwks, self.jwks_uri) {
            (_, Some(_), Some(_)) => return Err(refuse("both jwks and jwks_uri")),
            (_, Some(jwks), None) if signs => client.keys(&jwks.to_string()),
            (_, None, Some(uri)) if signs => {
                client.settings.keys = Some(ClientKeys::Hosted(Some(uri)));
                client
            }
            (AuthMethod::SelfSignedTls, Some(jwks), None) => {
                let found = thumbprints(jwks).ok_or_else(|| refuse("an x5c is malformed"))?;
                client.certificates(found)
            }
            _ => client,
        };
        let mut grants = Vec::new();
        for name in self.grant_types.iter().flatten() {
            grants.push(GrantType::from_name(name).ok_or_else(|| refuse("unknown grant type"))?);
        }
        if self.grant_types.is_none() {
            grants.push(GrantType::AuthorizationCode);
        }
        for name in self.response_types.iter().flatten() {
            match needs_tokens_in_front(name) {
                None => return Err(refuse("unknown response type")),
                // RFC 7591 section 2.1: the two must not say different things.
                Some(true) if !grants.contains(&GrantType::Implicit) => {
                    return Err(refuse("a response type without its grant type"));
                }
                Some(_) => {}
            }
        }
        let bound =
            (self.dpop_bound_access_tokens, self.tls_client_certificate_bound_access_tokens);
        let sender = match bound {
            (false, false) => client.settings.sender,
            (true, false) => SenderConstraint::Key,
            (false, true) => SenderConstraint::Certificate,
            (true, true) => return Err(refuse("tokens bound to a key and a certificate")),
        };
        let client = client.sender_constraint(sender);
        let client = client.post_logout_redirect_uris(self.post_logout_redirect_uris);
        let client = match self.frontchannel_logout_uri {
            Some(url) => client.logout_url(url),
            None => client,
        };
        let scope = self.scope.unwrap_or_default();
        let client = client.name(self.client_name).grants(grants).redirect_uris(self.redirect_uris);
        Ok(client.scopes(scope.split(' ').filter(|token| !token.is_empty())))
    }
}

/// SHA-256 of the first certificate of each key; `None` when one is malformed.
fn thumbprints(jwks: &serde_json::Value) -> Option<Vec<[u8; 32]>> {
    let keys = jwks.get("keys").and_then(|keys| keys.as_array()).map_or(&[][..], Vec::as_slice);
    let certificates = keys.iter().filter_map(|key| key.get("x5c")?.get(0));
    let thumbprint = |certificate: &serde_json::Value| {
        let der = base64_simd::STANDARD.decode_to_vec(certificate.as_str()?).ok()?;
        ring::digest::digest(&ring::digest::SHA256, &der).as_ref().try_into().ok()
    };
    certificates.map(thumbprint).collect()
}

impl Settings {
    /// Where the client publishes its keys, if it says so.
    pub(super) fn jwks_uri(&self) -> Option<&str> {
        match &self.keys {
            Some(ClientKeys::Hosted(uri)) => uri.as_deref(),
            _ => None,
        }
    }
}

/// What a registered client is told of itself, beside its settings.
pub(super) struct Told<'a> {
    pub(super) secret: Option<&'a SecretText>,
    pub(super) management: Option<&'a SecretText>,
    pub(super) uri: Option<&'a str>,
    pub(super) profile: Profile,
}

/// The members that go over the wire (RFC 7591 section 3.2.1, RFC 7592 section 3).
#[derive(Serialize)]
struct Wire<'a> {
    client_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<&'a str>,
    client_id_issued_at: u64,
    /// 0: it does not expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret_expires_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registration_access_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registration_client_uri: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    client_name: &'a str,
    token_endpoint_auth_method: &'a str,
    grant_types: Vec<&'a str>,
    response_types: Vec<&'a str>,
    redirect_uris: &'a [String],
    scope: &'a str,
    /// Salesforce's spelling.
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwks: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwks_uri: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    post_logout_redirect_uris: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    frontchannel_logout_uri: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dpop_bound_access_tokens: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    tls_client_certificate_bound_access_tokens: bool,
}

impl RegisteredClient {
    /// Everything that was registered, as a response.
    pub(super) fn to_metadata(&self, told: &Told<'_>) -> SecretText {
        let settings = &self.settings;
        let gives_codes = self.may_use(GrantType::AuthorizationCode);
        let gives_tokens = self.may_use(GrantType::Implicit);
        let scopes: Vec<&str> = settings.scopes.tokens().collect();
        let wire = Wire {
            client_id: self.id.as_str(),
            client_secret: told.secret.map(SecretText::expose),
            client_id_issued_at: self.registered_at.0,
            client_secret_expires_at: settings.has_secret().then_some(0),
            registration_access_token: told.management.map(SecretText::expose),
            registration_client_uri: told.uri,
            client_name: &settings.name,
            token_endpoint_auth_method: settings.methods.first().map_or("none", |m| m.name()),
            grant_types: settings.grants.iter().map(|grant| grant.name()).collect(),
            response_types: [(gives_codes, "code"), (gives_tokens, "token")]
                .into_iter()
                .filter_map(|(gives, name)| gives.then_some(name))
                .collect(),
            redirect_uris: &settings.redirect_uris,
            scope: settings.scopes.as_str(),
            scopes: (told.profile == Profile::Salesforce).then_some(scopes),
            jwks: match &settings.keys {
                Some(ClientKeys::Registered(set)) => serde_json::from_str(&set.to_json()).ok(),
                _ => None,
            },
            jwks_uri: settings.jwks_uri(),
            post_logout_redirect_uris: &settings.post_logout_redirect_uris,
            frontchannel_logout_uri: settings.logout_url.as_deref(),
            dpop_bound_access_tokens: settings.sender == SenderConstraint::Key,
            tls_client_certificate_bound_access_tokens: settings.sender
                == SenderConstraint::Certificate,
        };
        // A struct of texts and numbers has a JSON form, always.
        SecretText::new(serde_json::to_string(&wire).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metadata_document_becomes_a_client() -> Result<(), Error> {
        let checked = Client::from_metadata(
            r#"{"client_id":"app","client_name":"App","scope":"web api","jwks_uri":"https://x",
                "grant_types":["refresh_token"],"token_endpoint_auth_method":"none"}"#,
        )?
        .check()?;
        let settings = checked.settings;
        assert_eq!(checked.id.as_str(), "app");
        assert!(!settings.is_confidential() && settings.refresh.rotates);
        assert_eq!(settings.scopes.as_str(), "api web");
        assert_eq!(settings.grants, [GrantType::RefreshToken]);
        for (member, wanted) in [
            ("dpop_bound_access_tokens", SenderConstraint::Key),
            ("tls_client_certificate_bound_access_tokens", SenderConstraint::Certificate),
        ] {
            let document = format!(r#"{{"client_id":"app","{member}":true}}"#);
            assert_eq!(Client::from_metadata(&document)?.check()?.settings.sender, wanted);
        }
        let both = r#"{"client_id":"app","dpop_bound_access_tokens":true,
            "tls_client_certificate_bound_access_tokens":true}"#;
        assert!(Client::from_metadata(both).is_err());
        let settings = Client::from_metadata(r#"{"client_id":"app"}"#)?.check()?.settings;
        assert_eq!(settings.sender, SenderConstraint::Offered);
        assert!(settings.is_confidential());
        assert_eq!(settings.grants, [GrantType::AuthorizationCode]);
        Ok(())
    }

    #[test]
    fn a_metadata_document_brings_its_keys() -> Result<(), Error> {
        let read = |method: &str, keys: &str| {
            let json =
                format!(r#"{{"client_id":"app","token_endpoint_auth_method":"{method}",{keys}}}"#);
            Ok::<_, Error>(Client::from_metadata(&json)?.check()?.settings)
        };
        let (jwk, uri) = (format!(r#""jwks":{{"keys":[{ED25519}]}}"#), r#""jwks_uri":"https://x""#);
        let registered = read("private_key_jwt", &jwk)?;
        assert!(matches!(registered.keys, Some(ClientKeys::Registered(_))));
        assert!(!registered.has_secret() && registered.is_confidential());
        assert_eq!(read("private_key_jwt", uri)?.jwks_uri(), Some("https://x"));
        assert!(read("private_key_jwt", r#""x":1"#).is_err());
        assert!(read("private_key_jwt", &format!("{jwk},{uri}")).is_err());
        assert!(read("private_key_jwt", r#""jwks":{"keys":[]}"#).is_err());
        let certificate = r#""jwks":{"keys":[{"kty":"EC","x5c":["AAEC"]},{"kty":"EC"}]}"#;
        let sha256 = ring::digest::digest(&ring::digest::SHA256, &[0, 1, 2]);
        let mutual = read("self_signed_tls_client_auth", certificate)?;
        assert_eq!(
            mutual.certificates.iter().map(|c| &c[..]).collect::<Vec<_>>(),
            [sha256.as_ref()]
        );
        assert!(read("self_signed_tls_client_auth", &jwk).is_err());
        assert!(read("client_secret_jwt", r#""x":1"#)?.signs_with_secret());
        Ok(())
    }

    #[test]
    fn unusable_metadata_is_refused() {
        let long = format!(r#"{{"client_id":"a","x":"{}"}}"#, "y".repeat(METADATA_LEN_MAX));
        let deep = format!(r#"{{"client_id":"a","x":{}"#, "[".repeat(10_000));
        let refused = [
            "",
            "[]",
            "{}",
            r#"{"client_id":7}"#,
            r#"{"client_id":"a","client_id":"b"}"#,
            r#"{"client_id":"a","grant_types":["magic"]}"#,
            r#"{"client_id":"a","response_types":["code none"]}"#,
            r#"{"client_id":"a","token_endpoint_auth_method":"tls_client_auth"}"#,
            &long,
            &deep,
        ];
        for json in refused {
            let client = Client::from_metadata(json);
            assert!(matches!(client, Err(Error::InvalidClientMetadata(_))), "{json:.60}");
        }
    }

    const ED25519: &str =
        r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
}
