//! Redeeming a code at the token endpoint (RFC 6749 section 4.1.3, RFC 7636 section 4.6).

use std::sync::Arc;

use super::super::Inner;
use super::super::audience::Audience;
use super::super::client::{GrantType, REFRESH_SCOPES, RegisteredClient};
use super::super::confirmation::Confirmation;
use super::super::error::{Cause, Error, Reason};
use super::super::exchange::Actors;
use super::super::granted::{Granted, RedeemedCode};
use super::super::headless::{Uvid, bad_uvid};
use super::super::identity::LoginFacts;
use super::super::issue::{narrow_audience, narrow_granted};
use super::super::issued::Issued;
use super::super::lookup::ticket;
use super::super::policy::not_permitted;
use super::super::sender::Sender;
use super::super::token::TokenRequest;
use super::approve::Terms;
use super::pkce;
use crate::codec::handle::HandleKind;
use crate::store::{CodeUse, CodeView, Listing, Seq, Store, Ticket};
use crate::time::Timestamp;

/// What a redemption brings beside the code, in the hands of an authenticated client.
struct Presented {
    admission: Seq,
    client: Arc<RegisteredClient>,
    code: CodeUse,
    redirect_uri: Option<String>,
    verifier: Option<String>,
    sender: Sender,
    scope: Option<String>,
    uvid_hint: Option<String>,
    /// One that cannot be had is no reason to look away from a replay.
    audience: Result<Option<Audience>, Error>,
}

impl<S: Store> Inner<S> {
    pub(in crate::authority) fn redeem_code(
        self: &Arc<Self>,
        admission: Seq,
        client: Arc<RegisteredClient>,
        code: &str,
        request: &TokenRequest<'_>,
    ) -> Result<Ticket<Issued, Error>, Error> {
        if !client.may_use(GrantType::AuthorizationCode) {
            return Err(Error::UnauthorizedClient(Reason::new("no authorization_code")));
        }
        let handle = self.handles.parse(HandleKind::Code, code).map_err(|error| {
            Error::InvalidGrant(Reason::with("no code", error).because(Cause::DeadCode))
        })?;
        let sender = self.sender(&client, request.caller)?;
        let code = CodeUse { id: handle.locator.id, digest: handle.digest };
        let presented = Presented {
            admission,
            client,
            code,
            redirect_uri: request.redirect_uri.map(str::to_owned),
            verifier: request.verifier.map(str::to_owned),
            sender,
            scope: request.scope.map(str::to_owned),
            uvid_hint: request.uvid_hint.map(str::to_owned),
            audience: request.asked_audience(),
        };
        Ok(self.list_then(Listing::Code(code), 1, move |inner, page| {
            ticket(inner.redeem_known(&presented, page.code))
        }))
    }

    fn redeem_known(
        self: &Arc<Self>,
        presented: &Presented,
        view: Option<CodeView>,
    ) -> Result<Ticket<Issued, Error>, Error> {
        let refuse = |why| Error::InvalidGrant(Reason::new(why).because(Cause::DeadCode));
        let view = view.ok_or_else(|| refuse("unknown code"))?;
        let Presented { admission, client, code, .. } = presented;
        // RFC 6749 section 4.1.2: "The authorization code is bound to the client identifier and
        // redirection URI." What is not bound so has no effect: it proves no theft of the owner's
        // making.
        if view.pair.client != client.id {
            return Err(refuse("another client's code"));
        }
        let read = Terms::read(&view.body);
        // A pushed request is no code.
        let (terms, scope, audience) = read.ok_or_else(|| refuse("the code has no terms"))?;
        let named = presented.redirect_uri.as_deref();
        let fits = named.map_or(!terms.names_redirect, |uri| uri == terms.redirect_uri);
        if !fits {
            let reason = Reason::new("another redirect_uri").because(Cause::RedirectMismatch);
            return Err(Error::InvalidGrant(reason));
        }
        let bound = terms.dpop_jkt.as_deref().and_then(Confirmation::thumbprint);
        Self::check_bound(bound.map(Confirmation::Key), &presented.sender)?;
        pkce::check(terms.challenge.as_ref(), presented.verifier.as_deref(), self.profile)?;
        let guest = Uvid::of_guest(&view.pair.subject);
        if let Some(guest) = &guest
            && presented.uvid_hint.as_deref().and_then(Uvid::parse).as_ref() != Some(guest)
        {
            return Err(bad_uvid());
        }
        if !view.live && !view.spent {
            return Err(refuse("the code is dead"));
        }
        if !view.spent && !self.is_permitted(client, &view.pair.subject) {
            return Err(Error::InvalidGrant(not_permitted()));
        }
        // What was taken from the client since is not in its token.
        let scope = match view.spent {
            // Only its end is decided.
            true => scope,
            false => narrow_granted(presented.scope.as_deref(), &scope, client, self.profile)?,
        };
        // RFC 8707 section 2.2: within "the resource(s) that the resource owner authorized".
        let (authorized, audience) = match view.spent {
            true => (audience.clone(), audience),
            false => {
                let within = self.still_of(&audience, client)?;
                let asked = narrow_audience(presented.audience.clone()?, &within)?;
                (within, asked)
            }
        };
        let wants_refresh = REFRESH_SCOPES.iter().any(|token| scope.has(token));
        let refresh = wants_refresh && client.refreshes();
        let granted = Granted {
            // I3: what is born derives from the code.
            admission: view.admission.min(*admission),
            client: Arc::clone(client),
            subject: view.pair.subject,
            device: view.pair.device,
            scope,
            audience,
            refresh,
            login: Some(LoginFacts {
                nonce: terms.nonce,
                at: Some(Timestamp(terms.authenticated_at)),
                code: None,
                is_told: guest.is_none(),
            }),
            sender: presented.sender,
            code: Some(RedeemedCode { code: *code, audience: authorized, is_spent: view.spent }),
            ends_at: None,
            actors: Actors::default(),
        };
        self.give_birth(granted)
    }
}
