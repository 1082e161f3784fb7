//! Tokens that come through the browser: the implicit flow (RFC 6749 section 4.2), OpenID Connect's
//! `id_token` and hybrid answers (Core sections 3.2 and 3.3), and Salesforce's `hybrid_token`.

use std::sync::Arc;

use super::super::Inner;
use super::super::client::REFRESH_SCOPES;
use super::super::error::Error;
use super::super::exchange::Actors;
use super::super::granted::Granted;
use super::super::identity::LoginFacts;
use super::super::issued::Issued;
use super::super::profile::Profile;
use super::super::sender::Sender;
use super::approve::Login;
use super::request::{Authorization, AuthorizationError};
use crate::scope::Scope;
use crate::secret::SecretText;
use crate::store::{Seq, Store, Ticket};

/// What was agreed to.
pub(super) struct Agreed {
    pub(super) authorization: Authorization,
    pub(super) login: Login,
    pub(super) scope: Scope,
    pub(super) admission: Seq,
}

impl<S: Store> Inner<S> {
    /// The redirect with all that the request asked for, once `before` (the use of a pushed request,
    /// and the birth of a code) is durable.
    pub(super) async fn answer_in_front(
        self: Arc<Self>,
        agreed: Agreed,
        before: Option<Ticket<(), Error>>,
        code: Option<(SecretText, Ticket<(), Error>)>,
    ) -> Result<SecretText, AuthorizationError> {
        let refuse = |error| {
            agreed.authorization.refused(match error {
                // There is no such error here: a revocation came in between.
                Error::InvalidGrant(reason) => Error::AccessDenied(reason),
                other => other,
            })
        };
        if let Some(before) = before {
            before.await.map_err(refuse)?;
        }
        let response = agreed.authorization.response;
        let code = match code {
            None => None,
            Some((text, born)) => {
                born.await.map_err(refuse)?;
                response.code.then_some(text)
            }
        };
        let (issued, id_token) = match response.token {
            true => {
                let issued = self.issue_in_front(&agreed, code.as_ref()).map_err(refuse)?;
                let issued = issued.await.map_err(refuse)?;
                let id_token = issued.id_token.clone();
                (Some(issued), id_token)
            }
            false => {
                let id_token = self.id_token_in_front(&agreed, code.as_ref());
                (None, id_token.await.map_err(refuse)?)
            }
        };
        let issued = issued.map(|issued| match self.profile {
            Profile::Standard => issued,
            Profile::Salesforce => self.as_salesforce_does(issued, None),
        });
        let issued = match (issued, response.hybrid) {
            (Some(issued), true) => Some(self.with_web_session(issued).await.map_err(refuse)?),
            (issued, _) => issued,
        };
        Ok(self.redirect(&agreed.authorization, code.as_ref(), issued.as_ref(), id_token.as_ref()))
    }

    fn issue_in_front(
        self: &Arc<Self>,
        agreed: &Agreed,
        code: Option<&SecretText>,
    ) -> Result<Ticket<Issued, Error>, Error> {
        let Agreed { authorization, login, scope, admission } = agreed;
        let client = &authorization.client;
        let wants_refresh = REFRESH_SCOPES.iter().any(|token| scope.has(token));
        // Salesforce's extension: RFC 6749 section 4.2.2 has "MUST NOT issue a refresh token".
        let may_have = self.profile == Profile::Salesforce
            && authorization.redirect.is_of_an_app()
            && client.refreshes();
        self.give_birth(Granted {
            admission: *admission,
            client: Arc::clone(client),
            subject: login.subject().clone(),
            device: login.device_id().cloned(),
            scope: scope.clone(),
            audience: authorization.audience.clone(),
            refresh: wants_refresh && may_have,
            login: Some(self.facts(agreed, code)),
            sender: Sender::default(),
            code: None,
            ends_at: None,
            actors: Actors::default(),
        })
    }

    fn facts(&self, agreed: &Agreed, code: Option<&SecretText>) -> LoginFacts {
        let authorization = &agreed.authorization;
        LoginFacts {
            nonce: authorization.nonce.clone(),
            at: Some(agreed.login.authenticated_at()),
            code: code.cloned(),
            is_told: authorization.response.id_token,
        }
    }

    /// An ID token without an access token holds the claims itself (OpenID Connect Core section 5.4).
    async fn id_token_in_front(
        &self,
        agreed: &Agreed,
        code: Option<&SecretText>,
    ) -> Result<Option<SecretText>, Error> {
        let Agreed { authorization, login, scope, .. } = agreed;
        let facts = self.facts(agreed, code);
        let (client, subject) = (&authorization.client, login.subject());
        let terms = self.id_terms(client, subject, scope, facts);
        let terms = terms.map(|terms| match authorization.response.code {
            true => terms,
            false => Box::new(terms.with_claims(self.users.user(subject))),
        });
        self.id_token_async(terms.as_deref(), &client.id, subject, None).await
    }

    fn redirect(
        &self,
        authorization: &Authorization,
        code: Option<&SecretText>,
        issued: Option<&Issued>,
        id_token: Option<&SecretText>,
    ) -> SecretText {
        let mut parameters: Vec<(&str, &str)> = Vec::new();
        if let Some(code) = code {
            parameters.push(("code", code.expose()));
        }
        let expires_in = issued.map(|issued| issued.expires_in.to_string()).unwrap_or_default();
        if let Some(issued) = issued {
            parameters.push(("access_token", issued.access_token.expose()));
            parameters.push(("token_type", issued.token_type));
            parameters.push(("expires_in", &expires_in));
            parameters.push(("scope", issued.scope.as_str()));
            parameters.push(("id", &issued.id));
            parameters.push(("instance_url", &issued.instance_url));
            if let Some(token) = &issued.refresh_token {
                parameters.push(("refresh_token", token.expose()));
            }
            parameters.extend(issued.more_parameters());
        }
        if let Some(token) = id_token {
            parameters.push(("id_token", token.expose()));
        }
        SecretText::new(authorization.redirect.url(&parameters))
    }
}
