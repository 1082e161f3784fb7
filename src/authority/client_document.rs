//! A client as bytes: its document in the store, and the metadata document it may come from
//! (RFC 7591).

use serde::{Deserialize, Serialize};

use super::audience::Audience;
use super::client::{
    Client, GrantType, Introspects, KeptSecret, RefreshPolicy, RegisteredClient, Settings,
    TokenFormat,
};
use super::error::{Error, Reason};
use crate::ids::ClientId;
use crate::scope::Scope;
use crate::secret::SecretBytes;
use crate::store::PairPolicy;
use crate::time::Timestamp;

/// The longest metadata document, in bytes.
pub const METADATA_LEN_MAX: usize = 16 * 1024;

const FORMAT: u32 = 1;

/// The members of a metadata document that mean something here; all others are left out.
#[derive(Deserialize)]
struct Metadata {
    client_id: String,
    #[serde(default)]
    client_name: String,
    #[serde(default)]
    scope: String,
    grant_types: Option<Vec<String>>,
    token_endpoint_auth_method: Option<String>,
}

impl Client {
    /// Reads a client metadata document (RFC 7591 section 2). `client_id`, `client_name`, `scope`,
    /// `grant_types` and `token_endpoint_auth_method` count; other members are left out. Without
    /// `grant_types` a client may use `authorization_code` alone, as the RFC has it.
    ///
    /// The document is taken at its word, its `client_id`, scopes and grants too: it must come from
    /// somebody whom the host trusts with them. Remember that the subject of a `client_credentials`
    /// token is the `client_id` (RFC 9068 section 2.2).
    ///
    /// # Errors
    /// [`Error::InvalidClientMetadata`] for a document over [`METADATA_LEN_MAX`] bytes, for one
    /// that is not JSON or lacks a `client_id`, and for a grant type or an authentication method
    /// that the authority does not know.
    pub fn from_metadata(json: &str) -> Result<Client, Error> {
        let refuse = |why| Error::InvalidClientMetadata(Reason::new(why));
        if json.len() > METADATA_LEN_MAX {
            return Err(refuse("the document is too long"));
        }
        let metadata: Metadata = serde_json::from_str(json).map_err(|error| {
            Error::InvalidClientMetadata(Reason::with("the document is malformed", error))
        })?;
        // RFC 7591 section 2: "If unspecified or omitted, the default is client_secret_basic".
        let client = match metadata.token_endpoint_auth_method.as_deref() {
            Some("none") => Client::public(metadata.client_id),
            None | Some("client_secret_basic" | "client_secret_post") => {
                Client::confidential(metadata.client_id)
            }
            Some(_) => return Err(refuse("unknown token_endpoint_auth_method")),
        };
        let mut grants = Vec::new();
        for name in metadata.grant_types.iter().flatten() {
            grants.push(GrantType::from_name(name).ok_or_else(|| refuse("unknown grant type"))?);
        }
        if metadata.grant_types.is_none() {
            grants.push(GrantType::AuthorizationCode);
        }
        let client = client.name(metadata.client_name).grants(grants);
        Ok(client.scopes(metadata.scope.split(' ').filter(|token| !token.is_empty())))
    }
}

/// A registered client as it lies in the store. The name of the document is its `client_id`.
#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    confidential: bool,
    name: String,
    grants: Vec<String>,
    scope: String,
    audience: String,
    jwt: bool,
    access_secs: Option<u64>,
    rotates: bool,
    absolute_secs: u64,
    idle_secs: u64,
    pairs: StoredPairs,
    introspects: u8,
    secret: Option<StoredSecret>,
    registered_at: u64,
}

#[derive(Serialize, Deserialize)]
enum StoredPairs {
    Unlimited,
    Newest(u16),
    Replace,
    Reject,
    Reuse(u64),
}

#[derive(Serialize, Deserialize)]
struct StoredSecret {
    key_version: u8,
    digest: [u8; 32],
}

/// The document of a client; `None` cannot happen for a client that was checked.
pub(super) fn to_document(client: &RegisteredClient) -> Option<Vec<u8>> {
    let settings = &client.settings;
    let stored = Stored {
        format: FORMAT,
        confidential: settings.confidential,
        name: settings.name.clone(),
        grants: settings.grants.iter().map(|grant| grant.name().to_owned()).collect(),
        scope: settings.scopes.as_str().to_owned(),
        audience: settings.audiences.as_str().to_owned(),
        jwt: settings.format == TokenFormat::Jwt,
        access_secs: settings.access_secs,
        rotates: settings.refresh.rotates,
        absolute_secs: settings.refresh.absolute_secs,
        idle_secs: settings.refresh.idle_secs,
        pairs: match settings.pairs {
            PairPolicy::Unlimited => StoredPairs::Unlimited,
            PairPolicy::Newest(n) => StoredPairs::Newest(n),
            PairPolicy::Replace => StoredPairs::Replace,
            PairPolicy::Reject => StoredPairs::Reject,
            PairPolicy::Reuse { left_secs_min } => StoredPairs::Reuse(left_secs_min),
        },
        introspects: match settings.introspects {
            Introspects::Own => 0,
            Introspects::OwnAndAudience => 1,
            Introspects::All => 2,
        },
        secret: client.secret.as_ref().map(|secret| StoredSecret {
            key_version: secret.key_version,
            digest: *secret.digest.expose(),
        }),
        registered_at: client.registered_at.0,
    };
    serde_json::to_vec(&stored).ok()
}

/// The client of a document; `None` when it is none that this version wrote.
pub(super) fn from_document(client_id: &str, body: &[u8]) -> Option<RegisteredClient> {
    let stored: Stored = serde_json::from_slice(body).ok()?;
    if stored.format != FORMAT {
        return None;
    }
    let grants: Option<Vec<GrantType>> =
        stored.grants.iter().map(|name| GrantType::from_name(name)).collect();
    let settings = Settings {
        confidential: stored.confidential,
        name: stored.name,
        grants: grants?,
        scopes: Scope::parse(&stored.scope).ok()?,
        audiences: Audience::parse(&stored.audience).ok()?,
        format: if stored.jwt { TokenFormat::Jwt } else { TokenFormat::Opaque },
        access_secs: stored.access_secs,
        refresh: RefreshPolicy {
            rotates: stored.rotates,
            absolute_secs: stored.absolute_secs,
            idle_secs: stored.idle_secs,
        },
        pairs: match stored.pairs {
            StoredPairs::Unlimited => PairPolicy::Unlimited,
            StoredPairs::Newest(n) => PairPolicy::Newest(n),
            StoredPairs::Replace => PairPolicy::Replace,
            StoredPairs::Reject => PairPolicy::Reject,
            StoredPairs::Reuse(left_secs_min) => PairPolicy::Reuse { left_secs_min },
        },
        introspects: match stored.introspects {
            0 => Introspects::Own,
            1 => Introspects::OwnAndAudience,
            2 => Introspects::All,
            _ => return None,
        },
    };
    // A confidential client without a secret would pass for a public one.
    if settings.problem().is_some() || settings.confidential != stored.secret.is_some() {
        return None;
    }
    Some(RegisteredClient {
        id: ClientId::new(client_id).ok()?,
        settings,
        secret: stored.secret.map(|secret| KeptSecret {
            key_version: secret.key_version,
            digest: SecretBytes::new(secret.digest),
        }),
        registered_at: Timestamp(stored.registered_at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metadata_document_becomes_a_client() -> Result<(), Error> {
        let (id, settings) = Client::from_metadata(
            r#"{"client_id":"app","client_name":"App","scope":"web api","jwks_uri":"https://x",
                "grant_types":["refresh_token"],"token_endpoint_auth_method":"none"}"#,
        )?
        .check()?;
        assert_eq!(id.as_str(), "app");
        assert!(!settings.confidential && settings.refresh.rotates);
        assert_eq!(settings.scopes.as_str(), "api web");
        assert_eq!(settings.grants, [GrantType::RefreshToken]);
        let (_, settings) = Client::from_metadata(r#"{"client_id":"app"}"#)?.check()?;
        assert!(settings.confidential);
        assert_eq!(settings.grants, [GrantType::AuthorizationCode]);
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
            r#"{"client_id":"a","grant_types":["implicit"]}"#,
            r#"{"client_id":"a","token_endpoint_auth_method":"private_key_jwt"}"#,
            &long,
            &deep,
        ];
        for json in refused {
            let client = Client::from_metadata(json);
            assert!(matches!(client, Err(Error::InvalidClientMetadata(_))), "{json:.60}");
        }
    }

    #[test]
    fn a_document_reads_back_as_written() -> Result<(), Box<dyn std::error::Error>> {
        let draft = Client::confidential("a b")
            .name("A")
            .scopes(["api"])
            .audiences(["https://a.example"])
            .format(TokenFormat::Jwt)
            .access_secs(60)
            .refresh(RefreshPolicy::rotate().absolute_secs(9).idle_secs(3))
            .pairs(PairPolicy::Newest(5))
            .introspects(Introspects::OwnAndAudience);
        let (id, settings) = draft.check()?;
        let secret = KeptSecret { key_version: 1, digest: SecretBytes::new([7; 32]) };
        let client =
            RegisteredClient { id, settings, secret: Some(secret), registered_at: Timestamp(5) };
        let body = to_document(&client).ok_or("no document")?;
        let read = from_document("a b", &body).ok_or("unreadable")?;
        assert_eq!(read.settings, client.settings);
        assert!(read.secret == client.secret && read.registered_at == client.registered_at);
        assert!(from_document("a b", b"{}").is_none());
        Ok(())
    }
}
