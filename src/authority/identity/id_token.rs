//! The ID tokens of the flows (OpenID Connect Core section 2): what a login is to say to its client,
//! and the token once its access token is known.

use std::future::Future;
use std::sync::Arc;

use super::super::Inner;
use super::super::client::{Client, RegisteredClient};
use super::super::error::Error;
use super::super::mint::Terms;
use super::super::signing::{KeySet, unsigned};
use super::user::{Parts, User, UserClaims};
use crate::codec::claims::{HalfHash, IdClaims};
use crate::ids::{ClientId, Subject};
use crate::scope::Scope;
use crate::secret::SecretText;
use crate::store::Store;
use crate::time::Timestamp;

/// The scope that asks for an ID token.
pub(in crate::authority) const OPENID: &str = "openid";
/// The lifetime of an ID token unless a client says otherwise, in seconds: that of Salesforce.
pub const ID_TOKEN_SECS: u64 = 120;
/// The longest lifetime of an ID token, in seconds.
pub const ID_TOKEN_SECS_MAX: u64 = 86_400;

/// What a flow knows of a login.
#[derive(Clone, Debug, Default)]
pub(in crate::authority) struct LoginFacts {
    pub(in crate::authority) nonce: Option<String>,
    /// When the subject was authenticated, where that is known.
    pub(in crate::authority) at: Option<Timestamp>,
    /// The code that the ID token comes with.
    pub(in crate::authority) code: Option<SecretText>,
    /// Whether the client gets an ID token of it, where the scope asks for one.
    pub(in crate::authority) is_told: bool,
}

/// What an ID token will say, beyond the terms of the access token that it comes with.
#[derive(Clone)]
pub(in crate::authority) struct IdTerms {
    keys: Arc<KeySet>,
    facts: LoginFacts,
    issued_at: Timestamp,
    expires_at: Timestamp,
    audience: Arc<str>,
    scope: Scope,
    /// Whether the claims of the user that the scope asks for stand in the token itself.
    with_claims: bool,
    with_custom: bool,
    /// The user, where anything of it stands in the token; whoever is unknown has no claims.
    user: Arc<User>,
}

impl IdTerms {
    pub(in crate::authority) fn keys(&self) -> &Arc<KeySet> {
        &self.keys
    }

    /// The claims of the user stand in the token itself.
    pub(in crate::authority) fn with_claims(self, user: Option<User>) -> IdTerms {
        IdTerms { with_claims: true, user: Arc::new(user.unwrap_or_default()), ..self }
    }
}

impl Client {
    /// The lifetime of its ID tokens, 1 to [`ID_TOKEN_SECS_MAX`] seconds; [`ID_TOKEN_SECS`] by
    /// default.
    pub fn id_token_secs(mut self, secs: u64) -> Client {
        self.settings.id_tokens.secs = Some(secs);
        self
    }

    /// Audiences of its ID tokens beside itself.
    pub fn id_token_audiences<T: AsRef<str>>(
        mut self,
        audiences: impl IntoIterator<Item = T>,
    ) -> Client {
        let texts: Vec<String> =
            audiences.into_iter().map(|text| text.as_ref().to_owned()).collect();
        match super::super::audience::Audience::parse(&texts.join(" ")) {
            Ok(audiences) => self.settings.id_tokens.audiences = audiences,
            Err(_) => self.problem = Some("the audiences of its ID tokens are malformed"),
        }
        self
    }

    /// Its ID tokens hold the claims of the user that the scope asks for, and not only UserInfo does.
    pub fn id_token_claims(mut self) -> Client {
        self.settings.id_tokens.claims = true;
        self
    }

    /// Its ID tokens hold the user's custom attributes, and with the scope of that name
    /// `custom_permissions`.
    pub fn id_token_attributes(mut self) -> Client {
        self.settings.id_tokens.attributes = true;
        self
    }
}

impl<S: Store> Inner<S> {
    /// What the ID token of a login will say; `None` where the scope asks for none.
    pub(in crate::authority) fn id_terms(
        &self,
        client: &RegisteredClient,
        subject: &Subject,
        scope: &Scope,
        facts: LoginFacts,
    ) -> Option<Box<IdTerms>> {
        // Not by implication: whoever is no OpenID client would get what it cannot use.
        if !scope.has(OPENID) || !facts.is_told {
            return None;
        }
        let settings = &client.settings.id_tokens;
        let issued_at = self.clock.read().unix;
        // Asked once: what was checked before a birth is what is signed after it.
        let user = match settings.claims || settings.attributes {
            true => self.users.user(subject).unwrap_or_default(),
            false => User::default(),
        };
        Some(Box::new(IdTerms {
            keys: self.keys.current(),
            facts,
            issued_at,
            expires_at: issued_at.plus(settings.secs.unwrap_or(ID_TOKEN_SECS)),
            audience: settings.audiences.to_shared(),
            scope: scope.clone(),
            with_claims: settings.claims,
            with_custom: settings.attributes,
            user: Arc::new(user),
        }))
    }

    /// Refuses a birth whose ID token could not be signed: its user has too many claims.
    pub(in crate::authority) fn check_id(&self, terms: &Terms) -> Result<(), Error> {
        let Some(id) = &terms.id else { return Ok(()) };
        // Of whatever text a hash is as long as of another.
        let token = SecretText::new("");
        self.with_id_claims(id, &terms.client, &terms.subject, Some(&token), |claims| {
            id.keys.ring().active().token_len(claims).map(drop).map_err(unsigned)
        })
    }

    /// The ID token that comes with an access token, signed here.
    pub(in crate::authority) fn id_token(
        &self,
        terms: &Terms,
        access_token: &SecretText,
    ) -> Result<Option<SecretText>, Error> {
        let Some(id) = &terms.id else { return Ok(None) };
        let (client, subject, token) = (&terms.client, &terms.subject, Some(access_token));
        self.with_id_claims(id, client, subject, token, |claims| id.keys.sign_id(claims)).map(Some)
    }

    /// As [`Inner::id_token`], with a key that may be elsewhere.
    pub(in crate::authority) fn id_token_async(
        &self,
        id: Option<&IdTerms>,
        client: &ClientId,
        subject: &Subject,
        access_token: Option<&SecretText>,
    ) -> impl Future<Output = Result<Option<SecretText>, Error>> + Send + use<S> {
        let signing = id.map(|id| {
            let sign = |claims: &IdClaims<'_>| Ok(id.keys.ring().active().sign_async(claims));
            self.with_id_claims(id, client, subject, access_token, sign)
        });
        async move {
            match signing {
                None => Ok(None),
                Some(signing) => {
                    signing?.await.map(|text| Some(SecretText::new(text))).map_err(unsigned)
                }
            }
        }
    }

    fn with_id_claims<T>(
        &self,
        id: &IdTerms,
        client: &ClientId,
        subject: &Subject,
        access_token: Option<&SecretText>,
        then: impl FnOnce(&IdClaims<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let asked = Parts::of(&id.scope, self.profile);
        let parts = match id.with_claims {
            true => asked,
            false => Parts { permissions: asked.permissions, ..Parts::default() },
        };
        let client = client.as_str();
        let others = id.audience.split(' ').filter(|one| !one.is_empty() && *one != client);
        let audience: Vec<&str> = std::iter::once(client).chain(others).collect();
        let algorithm = id.keys.ring().active().algorithm();
        let subject = self.subject_of(subject);
        let half = |text: &SecretText| HalfHash::of(algorithm, text.expose());
        then(&IdClaims {
            issuer: &self.issuer,
            subject: &subject,
            audience: &audience,
            authorized_party: (audience.len() > 1).then_some(client),
            issued_at: id.issued_at,
            expires_at: id.expires_at,
            auth_time: id.facts.at,
            nonce: id.facts.nonce.as_deref(),
            acr: None,
            amr: &[],
            at_hash: access_token.map(half),
            c_hash: id.facts.code.as_ref().map(half),
            extra: &UserClaims { user: &id.user, parts, with_custom: id.with_custom },
        })
    }
}
