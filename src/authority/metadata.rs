//! What an authority says of itself (OpenID Connect Discovery 1.0, RFC 8414), without HTTP.

use serde::Serialize;

use super::client::GrantType;
use super::client_auth::AuthMethod;
use super::profile::Profile;
use super::{Authority, Inner, json};
use crate::codec::algorithm::Algorithm;
use crate::store::Store;

/// The URLs under which a host serves an authority. One that it does not serve is `None`, and then
/// nobody is told of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Endpoints {
    /// `authorization_endpoint`.
    pub authorization: Option<String>,
    /// `token_endpoint`.
    pub token: Option<String>,
    /// `revocation_endpoint`.
    pub revocation: Option<String>,
    /// `introspection_endpoint`.
    pub introspection: Option<String>,
    /// `userinfo_endpoint`.
    pub userinfo: Option<String>,
    /// `jwks_uri`.
    pub jwks: Option<String>,
    /// `registration_endpoint`.
    pub registration: Option<String>,
    /// `pushed_authorization_request_endpoint`.
    pub pushed_authorization: Option<String>,
    /// `end_session_endpoint`.
    pub end_session: Option<String>,
    /// `device_authorization_endpoint` (RFC 8628 section 4).
    pub device_authorization: Option<String>,
    /// The page on which users type the codes of their devices, as devices show it
    /// (`verification_uri`); without it there is no device flow.
    pub device_verification: Option<String>,
}

impl Endpoints {
    /// All of them, where Salesforce has them, below `base`.
    #[must_use]
    pub fn below(base: &str) -> Endpoints {
        let base = base.trim_end_matches('/');
        let at = |path| Some(format!("{base}{path}"));
        Endpoints {
            authorization: at("/services/oauth2/authorize"),
            token: at("/services/oauth2/token"),
            revocation: at("/services/oauth2/revoke"),
            introspection: at("/services/oauth2/introspect"),
            userinfo: at("/services/oauth2/userinfo"),
            jwks: at("/id/keys"),
            registration: at("/services/oauth2/register"),
            pushed_authorization: at("/services/oauth2/par"),
            end_session: at("/services/auth/idp/oidc/logout"),
            device_authorization: at("/services/oauth2/device_authorization"),
            device_verification: at("/setup/connect"),
        }
    }
}

/// The metadata of an authority: one document for both specifications.
#[derive(Clone, Debug, Serialize)]
pub struct Metadata {
    issuer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revocation_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    introspection_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    userinfo_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwks_uri: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registration_endpoint: Option<String>,
    /// Salesforce's spelling.
    #[serde(skip_serializing_if = "Option::is_none")]
    register_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pushed_authorization_request_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_session_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_authorization_endpoint: Option<String>,
    scopes_supported: Vec<String>,
    response_types_supported: Vec<&'static str>,
    response_modes_supported: Vec<&'static str>,
    grant_types_supported: Vec<&'static str>,
    subject_types_supported: [&'static str; 1],
    id_token_signing_alg_values_supported: Vec<&'static str>,
    token_endpoint_auth_methods_supported: Vec<&'static str>,
    token_endpoint_auth_signing_alg_values_supported: Vec<&'static str>,
    revocation_endpoint_auth_methods_supported: Vec<&'static str>,
    introspection_endpoint_auth_methods_supported: Vec<&'static str>,
    code_challenge_methods_supported: [&'static str; 1],
    authorization_response_iss_parameter_supported: bool,
    prompt_values_supported: [&'static str; 4],
    display_values_supported: [&'static str; 1],
    claims_supported: Vec<&'static str>,
    frontchannel_logout_supported: bool,
    dpop_signing_alg_values_supported: Vec<&'static str>,
    tls_client_certificate_bound_access_tokens: bool,
    claims_parameter_supported: bool,
    request_parameter_supported: bool,
    request_uri_parameter_supported: bool,
}

/// Answers with tokens in them.
const IN_FRONT: [&str; 6] =
    ["token", "id_token", "id_token token", "code id_token", "code token", "code id_token token"];

const CLAIMS: [&str; 23] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "iat",
    "auth_time",
    "nonce",
    "at_hash",
    "azp",
    "name",
    "given_name",
    "family_name",
    "nickname",
    "preferred_username",
    "profile",
    "picture",
    "email",
    "email_verified",
    "phone_number",
    "address",
    "zoneinfo",
    "locale",
    "updated_at",
];

impl Metadata {
    /// The issuer.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Where OpenID Connect Discovery section 4 has it: the issuer with a path behind it.
    #[must_use]
    pub fn openid_configuration_url(&self) -> String {
        format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'))
    }

    /// Where RFC 8414 section 3.1 has it: the path of the issuer comes after the well-known one.
    #[must_use]
    pub fn authorization_server_url(&self) -> String {
        let issuer = self.issuer.trim_end_matches('/');
        let host_at = issuer.find("://").map_or(0, |at| at + 3);
        let path_at = issuer.get(host_at..).and_then(|rest| rest.find('/'));
        let (host, path) = issuer.split_at(path_at.map_or(issuer.len(), |at| host_at + at));
        format!("{host}/.well-known/oauth-authorization-server{path}")
    }

    /// The document, appended to `out`.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        json::write(self, out);
    }

    /// The document.
    #[must_use]
    pub fn to_json(&self) -> String {
        json::text(|out| self.write_json(out))
    }
}

impl<S: Store> Authority<S> {
    /// What the authority says of itself, as it is now.
    #[must_use]
    pub fn metadata(&self) -> Metadata {
        self.inner.metadata()
    }
}

impl<S> Inner<S> {
    fn metadata(&self) -> Metadata {
        let endpoints = self.endpoints.clone();
        let is_salesforce = self.profile == Profile::Salesforce;
        let may_ask = endpoints.authorization.is_some();
        let in_front = may_ask && self.tokens_in_front;
        let has_devices = endpoints.device_verification.is_some();
        let is_hybrid = in_front && self.web_sessions.is_some();
        let mut responses = Vec::new();
        responses.extend(may_ask.then_some("code"));
        responses.extend(in_front.then_some(IN_FRONT).into_iter().flatten());
        responses.extend(is_hybrid.then_some("hybrid_token"));
        let modes: &[&str] = if may_ask { &["query", "fragment"] } else { &[] };
        let grants = GrantType::ALL.into_iter().filter(|grant| match grant {
            GrantType::AuthorizationCode => may_ask,
            GrantType::Implicit => in_front,
            GrantType::DeviceCode => has_devices,
            GrantType::Password => self.flows.passwords.is_some(),
            GrantType::HybridAuthCode => may_ask && self.web_sessions.is_some(),
            GrantType::HybridRefresh => self.web_sessions.is_some(),
            GrantType::ClientCredentials
            | GrantType::RefreshToken
            | GrantType::JwtBearer
            | GrantType::TokenExchange => true,
        });
        let keys = self.keys.current();
        let mut id_algorithms: Vec<&str> = Vec::new();
        for key in keys.ring().keys().filter(|key| !key.algorithm().is_symmetric()) {
            if !id_algorithms.contains(&key.algorithm().name()) {
                id_algorithms.push(key.algorithm().name());
            }
        }
        let methods: Vec<&str> = AuthMethod::names().collect();
        let proving = || methods.iter().copied().filter(|name| *name != "none").collect();
        let algorithms = Algorithm::ALL.map(Algorithm::name).to_vec();
        let asymmetric = Algorithm::ALL.iter().filter(|algorithm| !algorithm.is_symmetric());
        let asymmetric = asymmetric.map(|algorithm| algorithm.name()).collect();
        Metadata {
            issuer: self.issuer.to_string(),
            authorization_endpoint: endpoints.authorization,
            token_endpoint: endpoints.token,
            revocation_endpoint: endpoints.revocation,
            introspection_endpoint: endpoints.introspection,
            userinfo_endpoint: endpoints.userinfo,
            jwks_uri: endpoints.jwks,
            register_endpoint: endpoints.registration.clone().filter(|_| is_salesforce),
            registration_endpoint: endpoints.registration,
            pushed_authorization_request_endpoint: endpoints.pushed_authorization,
            end_session_endpoint: endpoints.end_session,
            device_authorization_endpoint: endpoints.device_authorization.filter(|_| has_devices),
            scopes_supported: self.scopes_supported.clone(),
            response_types_supported: responses,
            response_modes_supported: modes.to_vec(),
            grant_types_supported: grants.map(GrantType::name).collect(),
            subject_types_supported: ["public"],
            id_token_signing_alg_values_supported: id_algorithms,
            token_endpoint_auth_signing_alg_values_supported: algorithms,
            revocation_endpoint_auth_methods_supported: methods.clone(),
            introspection_endpoint_auth_methods_supported: proving(),
            token_endpoint_auth_methods_supported: methods,
            code_challenge_methods_supported: ["S256"],
            authorization_response_iss_parameter_supported: true,
            prompt_values_supported: ["none", "login", "consent", "select_account"],
            display_values_supported: ["page"],
            claims_supported: CLAIMS.to_vec(),
            frontchannel_logout_supported: true,
            dpop_signing_alg_values_supported: asymmetric,
            tls_client_certificate_bound_access_tokens: true,
            claims_parameter_supported: false,
            request_parameter_supported: false,
            request_uri_parameter_supported: false,
        }
    }
}
