//! A client as bytes: its document in the store.

use std::sync::Arc;

use base64_simd::URL_SAFE_NO_PAD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::audience::Audience;
use super::client::{GrantType, Introspects, RefreshPolicy, RegisteredClient, TokenFormat};
use super::client_auth::{AuthMethod, ClientKeys, KeptSecret, SECRETS_MAX, SecretForm};
use super::client_settings::{IdTokens, Settings};
use super::policy::{IpRange, PermittedUsers};
use super::sender::SenderConstraint;
use crate::codec::jwk_set::JwkSet;
use crate::ids::{ClientId, Subject};
use crate::scope::Scope;
use crate::secret::SecretBytes;
use crate::store::PairPolicy;
use crate::time::Timestamp;

const FORMAT: u32 = 5;

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
    token: StoredFormat,
    access_secs: Option<u64>,
    sliding_secs: Option<u64>,
    rotates: bool,
    absolute_secs: u64,
    idle_secs: u64,
    pairs: StoredPairs,
    introspects: u8,
    refreshes: bool,
    permitted: StoredPermitted,
    secret_optional: Vec<String>,
    pkce_required: bool,
    pushed_required: bool,
    ip_ranges: Vec<String>,
    ip_relaxed_for_refresh: bool,
    redirect_uris: Vec<String>,
    logout_url: Option<String>,
    post_logout_redirect_uris: Vec<String>,
    blocked: bool,
    parent: Option<String>,
    run_as: Option<String>,
    exchange_handlers: Vec<String>,
    code_credentials: bool,
    guests: bool,
    id_tokens: StoredIdTokens,
    sender: StoredSender,
    secrets: Vec<StoredSecret>,
    jwks_uri: Option<String>,
    initial_access: Option<StoredSecret>,
    management: Option<StoredSecret>,
    registered_at: u64,
}

#[derive(Serialize, Deserialize)]
enum StoredPermitted {
    SelfAuthorized,
    Listed(Vec<String>),
    AdminApproved,
}

#[derive(Serialize, Deserialize)]
enum StoredFormat {
    Opaque,
    Jwt,
    SalesforceJwt,
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
enum StoredSender {
    Offered,
    Key,
    Certificate,
}

#[derive(Serialize, Deserialize)]
struct StoredIdTokens {
    secs: Option<u64>,
    audience: String,
    claims: bool,
    attributes: bool,
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

/// A kept token, where there is one; `None` when it is malformed.
#[allow(clippy::option_option, reason = "absent and malformed are two things")]
fn optional(stored: Option<StoredSecret>) -> Option<Option<KeptSecret>> {
    match stored {
        None => Some(None),
        Some(stored) => stored.into_kept().map(Some),
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
            ClientKeys::Hosted(_) => String::new(),
        }),
        jwks_uri: settings.jwks_uri().map(str::to_owned),
        certificates: settings.certificates.iter().copied().map(Bytes).collect(),
        name: settings.name.clone(),
        grants: names(&settings.grants),
        scope: settings.scopes.as_str().to_owned(),
        audience: settings.audiences.as_str().to_owned(),
        token: match settings.format {
            TokenFormat::Opaque => StoredFormat::Opaque,
            TokenFormat::Jwt => StoredFormat::Jwt,
            TokenFormat::SalesforceJwt => StoredFormat::SalesforceJwt,
        },
        access_secs: settings.access_secs,
        sliding_secs: settings.sliding_secs,
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
        pushed_required: settings.pushed_required,
        ip_ranges: settings.ip_ranges.iter().map(IpRange::to_string).collect(),
        ip_relaxed_for_refresh: settings.ip_relaxed_for_refresh,
        redirect_uris: settings.redirect_uris.clone(),
        logout_url: settings.logout_url.clone(),
        post_logout_redirect_uris: settings.post_logout_redirect_uris.clone(),
        blocked: settings.blocked,
        parent: settings.parent.as_ref().map(|parent| parent.as_str().to_owned()),
        run_as: settings.run_as.as_ref().map(|subject| subject.as_str().to_owned()),
        exchange_handlers: settings.exchange_handlers.clone(),
        code_credentials: settings.code_credentials,
        guests: settings.guests,
        id_tokens: StoredIdTokens {
            secs: settings.id_tokens.secs,
            audience: settings.id_tokens.audiences.as_str().to_owned(),
            claims: settings.id_tokens.claims,
            attributes: settings.id_tokens.attributes,
        },
        sender: match settings.sender {
            SenderConstraint::Offered => StoredSender::Offered,
            SenderConstraint::Key => StoredSender::Key,
            SenderConstraint::Certificate => StoredSender::Certificate,
        },
        secrets: client.secrets.iter().map(StoredSecret::of).collect(),
        initial_access: client.initial_access.as_ref().map(StoredSecret::of),
        management: client.management.as_ref().map(StoredSecret::of),
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
        Some("") => Some(ClientKeys::Hosted(stored.jwks_uri)),
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
        format: match stored.token {
            StoredFormat::Opaque => TokenFormat::Opaque,
            StoredFormat::Jwt => TokenFormat::Jwt,
            StoredFormat::SalesforceJwt => TokenFormat::SalesforceJwt,
        },
        access_secs: stored.access_secs,
        sliding_secs: stored.sliding_secs,
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
        pushed_required: stored.pushed_required,
        ip_ranges: stored
            .ip_ranges
            .iter()
            .map(|range| IpRange::parse(range))
            .collect::<Option<_>>()?,
        ip_relaxed_for_refresh: stored.ip_relaxed_for_refresh,
        redirect_uris: stored.redirect_uris,
        logout_url: stored.logout_url,
        post_logout_redirect_uris: stored.post_logout_redirect_uris,
        blocked: stored.blocked,
        parent: stored.parent.map(ClientId::new).transpose().ok()?,
        run_as: stored.run_as.map(Subject::new).transpose().ok()?,
        exchange_handlers: stored.exchange_handlers,
        code_credentials: stored.code_credentials,
        guests: stored.guests,
        id_tokens: IdTokens {
            secs: stored.id_tokens.secs,
            audiences: Audience::parse(&stored.id_tokens.audience).ok()?,
            claims: stored.id_tokens.claims,
            attributes: stored.id_tokens.attributes,
        },
        sender: match stored.sender {
            StoredSender::Offered => SenderConstraint::Offered,
            StoredSender::Key => SenderConstraint::Key,
            StoredSender::Certificate => SenderConstraint::Certificate,
        },
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
        initial_access: optional(stored.initial_access)?,
        management: optional(stored.management)?,
        registered_at: Timestamp(stored.registered_at),
    })
}

#[cfg(test)]
mod tests {
    use super::super::client::Client;
    use super::*;

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
            .format(TokenFormat::SalesforceJwt)
            .access_secs(60)
            .sliding(600)
            .refresh(RefreshPolicy::rotate().absolute_secs(9).idle_secs(3))
            .pairs(PairPolicy::Newest(5))
            .introspects(Introspects::OwnAndChildren)
            .permitted_users(PermittedUsers::Listed(vec![Subject::new("ann")?]))
            .pushed_required(true)
            .exchange_handlers(["Idp"])
            .code_credentials()
            .guests()
            .secret_optional([GrantType::AuthorizationCode])
            .ip_ranges(IpRange::parse("10.0.0.0/8"))
            .ip_relaxed_for_refresh()
            .redirect_uris(["https://a.example/cb", "app:/cb"])
            .logout_url("https://a.example/out")
            .post_logout_redirect_uris(["https://a.example/bye"])
            .parent(&ClientId::new("parent")?)
            .run_as("robot")
            .id_token_secs(7)
            .id_token_audiences(["https://b.example"])
            .id_token_claims()
            .id_token_attributes()
            .sender_constraint(SenderConstraint::Key);
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
            initial_access: Some(secrets[0].clone()),
            management: Some(secrets[0].clone()),
            secrets,
            registered_at: Timestamp(5),
        };
        let body = to_document(&client).ok_or("no document")?;
        let numbers = body.windows(2).any(|two| two[0] == b'[' && two[1].is_ascii_digit());
        assert!(!numbers, "bytes lie in it as a list of numbers");
        let read = from_document("a b", &body).ok_or("unreadable")?;
        assert_eq!(read.settings, client.settings);
        assert!(read.secrets == client.secrets && read.registered_at == client.registered_at);
        assert!(read.initial_access == client.initial_access);
        assert!(read.management == client.management);
        assert!(from_document("a b", b"{}").is_none());
        let bare = RegisteredClient { secrets: Vec::new(), ..client };
        let body = to_document(&bare).ok_or("no document")?;
        assert!(from_document("a b", &body).is_none(), "a secret is missing");
        Ok(())
    }

    const ED25519: &str =
        r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
}
