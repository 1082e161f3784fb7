//! A client as bytes: its document in the store, and the metadata document it may come from
//! (RFC 7591).

use std::sync::Arc;

use base64_simd::URL_SAFE_NO_PAD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::audience::Audience;
use super::client::{Client, GrantType, Introspects, RefreshPolicy, RegisteredClient, TokenFormat};
use super::client_auth::{AuthMethod, ClientKeys, KeptSecret, SECRETS_MAX, SecretForm};
use super::client_settings::Settings;
use super::error::{Error, Reason};
use super::policy::{IpRange, PermittedUsers};
use crate::codec::jwk_set::JwkSet;
use crate::ids::{ClientId, Subject};
use crate::scope::Scope;
use crate::secret::SecretBytes;
use crate::store::PairPolicy;
use crate::time::Timestamp;

/// The longest metadata document, in bytes.
pub const METADATA_LEN_MAX: usize = 16 * 1024;

const FORMAT: u32 = 3;

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
    jwks: Option<serde_json::Value>,
    jwks_uri: Option<String>,
    #[serde(default)]
    redirect_uris: Vec<String>,
}

impl Client {
    /// Reads a client metadata document (RFC 7591 section 2). `client_id`, `client_name`, `scope`,
    /// `grant_types`, `redirect_uris`, `token_endpoint_auth_method`, `jwks` and `jwks_uri` count; other members are
    /// left out. The keys at a `jwks_uri` are asked of the host's
    /// [`KeySource`](super::KeySource); certificates of `self_signed_tls_client_auth` stand in `jwks`
    /// as `x5c` (RFC 8705 section 2.2.2). Without
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
        let method = metadata.token_endpoint_auth_method.as_deref();
        let method = AuthMethod::from_name(method.unwrap_or("client_secret_basic"))
            .ok_or_else(|| refuse("unknown token_endpoint_auth_method"))?;
        let client = match method {
            AuthMethod::None => Client::public(metadata.client_id),
            method => Client::confidential(metadata.client_id).authenticates([method]),
        };
        // RFC 7591 section 2: "The "jwks_uri" and "jwks" parameters MUST NOT both be present".
        let client = match (method, &metadata.jwks, &metadata.jwks_uri) {
            (_, Some(_), Some(_)) => return Err(refuse("both jwks and jwks_uri")),
            (AuthMethod::PrivateKeyJwt, Some(jwks), None) => client.keys(&jwks.to_string()),
            (AuthMethod::PrivateKeyJwt, None, Some(_)) => client.hosted_keys(),
            (AuthMethod::SelfSignedTls, Some(jwks), None) => {
                let found = thumbprints(jwks).ok_or_else(|| refuse("an x5c is malformed"))?;
                client.certificates(found)
            }
            _ => client,
        };
        let mut grants = Vec::new();
        for name in metadata.grant_types.iter().flatten() {
            grants.push(GrantType::from_name(name).ok_or_else(|| refuse("unknown grant type"))?);
        }
        if metadata.grant_types.is_none() {
            grants.push(GrantType::AuthorizationCode);
        }
        let client = client.name(metadata.client_name).grants(grants);
        let client = client.redirect_uris(metadata.redirect_uris);
        Ok(client.scopes(metadata.scope.split(' ').filter(|token| !token.is_empty())))
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

/// A registered client as it lies in the store. The name of the document is its `client_id`.
#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    methods: Vec<String>,
    /// The JWK Set that was registered; empty where the host gives the keys.
    jwks: Option<String>,
    certificates: Vec<Bytes<32>>,
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
    refreshes: bool,
    permitted: StoredPermitted,
    secret_optional: Vec<String>,
    pkce_required: bool,
    ip_ranges: Vec<String>,
    ip_relaxed_for_refresh: bool,
    redirect_uris: Vec<String>,
    logout_url: Option<String>,
    blocked: bool,
    parent: Option<String>,
    run_as: Option<String>,
    secrets: Vec<StoredSecret>,
    registered_at: u64,
}

#[derive(Serialize, Deserialize)]
enum StoredPermitted {
    SelfAuthorized,
    Listed(Vec<String>),
    AdminApproved,
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
    digest: Bytes<32>,
    /// What Argon2id was computed with, where the digest is one of it.
    argon2id: Option<StoredArgon2id>,
    ends_at: Option<u64>,
    sealed: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct StoredArgon2id {
    salt: Bytes<16>,
    memory_kib: u32,
    passes: u32,
}

/// Bytes as base64url text, as they lie everywhere else.
struct Bytes<const N: usize>([u8; N]);

impl<const N: usize> Serialize for Bytes<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        URL_SAFE_NO_PAD.encode_to_string(self.0).serialize(serializer)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Bytes<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes<N>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = URL_SAFE_NO_PAD.decode_to_vec(text).ok();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(Bytes).ok_or_else(|| D::Error::custom("no base64url of that length"))
    }
}

impl StoredSecret {
    fn of(kept: &KeptSecret) -> StoredSecret {
        let (digest, argon2id) = match &kept.form {
            SecretForm::Digest(digest) => (Bytes(*digest.expose()), None),
            SecretForm::Argon2id { salt, hash, memory_kib, passes } => {
                let (salt, memory_kib, passes) = (Bytes(*salt), *memory_kib, *passes);
                (Bytes(*hash.expose()), Some(StoredArgon2id { salt, memory_kib, passes }))
            }
        };
        StoredSecret {
            key_version: kept.key_version,
            digest,
            argon2id,
            ends_at: kept.ends_at.map(|end| end.0),
            sealed: kept.sealed.as_deref().map(|sealed| URL_SAFE_NO_PAD.encode_to_string(sealed)),
        }
    }

    fn into_kept(self) -> Option<KeptSecret> {
        let digest = SecretBytes::new(self.digest.0);
        let form = match self.argon2id {
            None => SecretForm::Digest(digest),
            Some(StoredArgon2id { salt, memory_kib, passes }) => {
                SecretForm::Argon2id { salt: salt.0, hash: digest, memory_kib, passes }
            }
        };
        let sealed = self.sealed.map(|text| URL_SAFE_NO_PAD.decode_to_vec(text));
        let ends_at = self.ends_at.map(Timestamp);
        Some(KeptSecret::read(self.key_version, form, ends_at, sealed.transpose().ok()?))
    }
}

fn names(grants: &[GrantType]) -> Vec<String> {
    grants.iter().map(|grant| grant.name().to_owned()).collect()
}

fn grants(names: &[String]) -> Option<Vec<GrantType>> {
    names.iter().map(|name| GrantType::from_name(name)).collect()
}

/// The document of a client; `None` cannot happen for a client that was checked.
pub(super) fn to_document(client: &RegisteredClient) -> Option<Vec<u8>> {
    let settings = &client.settings;
    let stored = Stored {
        format: FORMAT,
        methods: settings.methods.iter().map(|method| method.name().to_owned()).collect(),
        jwks: settings.keys.as_ref().map(|keys| match keys {
            ClientKeys::Registered(set) => set.to_json(),
            ClientKeys::Hosted => String::new(),
        }),
        certificates: settings.certificates.iter().copied().map(Bytes).collect(),
        name: settings.name.clone(),
        grants: names(&settings.grants),
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
            Introspects::OwnAndChildren => 3,
        },
        refreshes: settings.refresh.gives,
        permitted: match &settings.permitted {
            PermittedUsers::SelfAuthorized => StoredPermitted::SelfAuthorized,
            PermittedUsers::Listed(subjects) => StoredPermitted::Listed(
                subjects.iter().map(|subject| subject.as_str().to_owned()).collect(),
            ),
            PermittedUsers::AdminApproved => StoredPermitted::AdminApproved,
        },
        secret_optional: names(&settings.secret_optional),
        pkce_required: settings.pkce_required,
        ip_ranges: settings.ip_ranges.iter().map(IpRange::to_string).collect(),
        ip_relaxed_for_refresh: settings.ip_relaxed_for_refresh,
        redirect_uris: settings.redirect_uris.clone(),
        logout_url: settings.logout_url.clone(),
        blocked: settings.blocked,
        parent: settings.parent.as_ref().map(|parent| parent.as_str().to_owned()),
        run_as: settings.run_as.as_ref().map(|subject| subject.as_str().to_owned()),
        secrets: client.secrets.iter().map(StoredSecret::of).collect(),
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
    let permitted = match stored.permitted {
        StoredPermitted::SelfAuthorized => PermittedUsers::SelfAuthorized,
        StoredPermitted::Listed(subjects) => PermittedUsers::Listed(
            subjects.iter().map(Subject::new).collect::<Result<_, _>>().ok()?,
        ),
        StoredPermitted::AdminApproved => PermittedUsers::AdminApproved,
    };
    let methods: Option<Vec<AuthMethod>> =
        stored.methods.iter().map(|name| AuthMethod::from_name(name)).collect();
    let keys = match stored.jwks.as_deref() {
        None => None,
        Some("") => Some(ClientKeys::Hosted),
        Some(jwks) => {
            let set = JwkSet::parse(jwks.as_bytes()).ok().filter(|set| !set.is_empty())?;
            Some(ClientKeys::Registered(Arc::new(set)))
        }
    };
    let settings = Settings {
        methods: methods?,
        keys,
        certificates: stored.certificates.into_iter().map(|bytes| bytes.0).collect(),
        name: stored.name,
        grants: grants(&stored.grants)?,
        scopes: Scope::parse(&stored.scope).ok()?,
        audiences: Audience::parse(&stored.audience).ok()?,
        format: if stored.jwt { TokenFormat::Jwt } else { TokenFormat::Opaque },
        access_secs: stored.access_secs,
        refresh: RefreshPolicy {
            rotates: stored.rotates,
            absolute_secs: stored.absolute_secs,
            idle_secs: stored.idle_secs,
            gives: stored.refreshes,
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
            3 => Introspects::OwnAndChildren,
            _ => return None,
        },
        permitted,
        secret_optional: grants(&stored.secret_optional)?,
        pkce_required: stored.pkce_required,
        ip_ranges: stored
            .ip_ranges
            .iter()
            .map(|range| IpRange::parse(range))
            .collect::<Option<_>>()?,
        ip_relaxed_for_refresh: stored.ip_relaxed_for_refresh,
        redirect_uris: stored.redirect_uris,
        logout_url: stored.logout_url,
        blocked: stored.blocked,
        parent: stored.parent.map(ClientId::new).transpose().ok()?,
        run_as: stored.run_as.map(Subject::new).transpose().ok()?,
    };
    let secrets: Option<Vec<KeptSecret>> =
        stored.secrets.into_iter().map(StoredSecret::into_kept).collect();
    let secrets = secrets?;
    // A client that goes by a secret has one, and no other has.
    let fits = settings.has_secret() != secrets.is_empty() && secrets.len() <= SECRETS_MAX;
    if settings.problem().is_some() || !fits {
        return None;
    }
    Some(RegisteredClient {
        id: ClientId::new(client_id).ok()?,
        settings,
        secrets,
        registered_at: Timestamp(stored.registered_at),
    })
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
        let settings = Client::from_metadata(r#"{"client_id":"app"}"#)?.check()?.settings;
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
        assert_eq!(read("private_key_jwt", uri)?.keys, Some(ClientKeys::Hosted));
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
            r#"{"client_id":"a","grant_types":["implicit"]}"#,
            r#"{"client_id":"a","token_endpoint_auth_method":"tls_client_auth"}"#,
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
        use AuthMethod::{ClientSecret, ClientSecretJwt, PrivateKeyJwt, SelfSignedTls};
        let draft = Client::confidential("a b")
            .authenticates([ClientSecret, ClientSecretJwt, PrivateKeyJwt, SelfSignedTls])
            .keys(&format!(r#"{{"keys":[{ED25519}]}}"#))
            .certificates([[9; 32]])
            .name("A")
            .scopes(["api"])
            .audiences(["https://a.example"])
            .format(TokenFormat::Jwt)
            .access_secs(60)
            .refresh(RefreshPolicy::rotate().absolute_secs(9).idle_secs(3))
            .pairs(PairPolicy::Newest(5))
            .introspects(Introspects::OwnAndChildren)
            .permitted_users(PermittedUsers::Listed(vec![Subject::new("ann")?]))
            .secret_optional([GrantType::AuthorizationCode])
            .ip_ranges(IpRange::parse("10.0.0.0/8"))
            .ip_relaxed_for_refresh()
            .redirect_uris(["https://a.example/cb", "app:/cb"])
            .logout_url("https://a.example/out")
            .parent(&ClientId::new("parent")?)
            .run_as("robot");
        let checked = draft.check()?;
        let digest = SecretBytes::new([7; 32]);
        let argon2id =
            SecretForm::Argon2id { salt: [1; 16], hash: digest.clone(), memory_kib: 8, passes: 1 };
        let secrets = vec![
            KeptSecret::read(1, SecretForm::Digest(digest), None, Some(vec![1, 2])),
            KeptSecret::read(2, argon2id, Some(Timestamp(9)), None),
        ];
        let client = RegisteredClient {
            id: checked.id,
            settings: checked.settings,
            secrets,
            registered_at: Timestamp(5),
        };
        let body = to_document(&client).ok_or("no document")?;
        let numbers = body.windows(2).any(|two| two[0] == b'[' && two[1].is_ascii_digit());
        assert!(!numbers, "bytes lie in it as a list of numbers");
        let read = from_document("a b", &body).ok_or("unreadable")?;
        assert_eq!(read.settings, client.settings);
        assert!(read.secrets == client.secrets && read.registered_at == client.registered_at);
        assert!(from_document("a b", b"{}").is_none());
        let bare = RegisteredClient { secrets: Vec::new(), ..client };
        let body = to_document(&bare).ok_or("no document")?;
        assert!(from_document("a b", &body).is_none(), "a secret is missing");
        Ok(())
    }

    const ED25519: &str =
        r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
}
