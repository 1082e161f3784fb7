//! Refreshing: the presented token is spent, its successor is derived from it.
//!
//! The store says whether a redeem is the first, a retry or a replay. A retry derives everything
//! again from what the store kept and the secret that the client presents, so a lost answer costs
//! nothing and the store holds no secret.

use std::sync::Arc;

use super::Inner;
use super::audience::Audience;
use super::audit::{Action, AuditEvent};
use super::client::{GrantType, RegisteredClient, TokenFormat};
use super::confirmation::Confirmation;
use super::derive::{Redeemed, request_digest};
use super::error::{Error, Reason};
use super::exchange::Actors;
use super::headless::Uvid;
use super::identity::{IdTerms, LoginFacts};
use super::issue::{narrow_audience, narrow_granted};
use super::issued::Issued;
use super::limits::Counted;
use super::lookup::ticket;
use super::mint::{Decided, Form, Settled, Terms, jti_text, no_version};
use super::policy::not_permitted;
use super::sender::Sender;
use super::session::place_secs;
use super::token::TokenRequest;
use crate::codec::handle::{Handle, HandleKind};
use crate::entropy::random;
use crate::ids::Subject;
use crate::locator::{Digest, Locator};
use crate::scope::Scope;
use crate::secret::SecretText;
use crate::store::{
    Find, Mint, Outcome, Redeem, RedeemOutcome, Seq, Store, StoreError, Ticket, TokenView, Verb,
};
use crate::time::{Reading, Timestamp};

/// A refresh token in the hands of an authenticated client.
struct Presented {
    handle: Handle,
    client: Arc<RegisteredClient>,
    arrival: Seq,
    now: Reading,
    asked: Asked,
    request: [u8; 16],
    sender: Sender,
}

/// The scope and audience of the request. One that cannot be had is no reason to look away from a
/// replay, so it is refused only after the token was judged.
type Asked = Result<(Option<Scope>, Option<Audience>), Error>;

/// What the answer is made of once the store has decided.
struct Expected {
    presented: Presented,
    grant: u64,
    successor: Option<SecretText>,
    form: Form,
    terms: Terms,
    key_version: u8,
    counted: Counted,
}

impl<S: Store> Inner<S> {
    pub(super) fn refresh(
        self: &Arc<Self>,
        arrival: Seq,
        client: Arc<RegisteredClient>,
        token: &str,
        request: &TokenRequest<'_>,
    ) -> Result<Ticket<Issued, Error>, Error> {
        if !client.may_use(GrantType::RefreshToken) {
            return Err(Error::UnauthorizedClient(Reason::new("no refresh_token")));
        }
        let handle = self
            .handles
            .parse(HandleKind::Refresh, token)
            .map_err(|error| Error::InvalidGrant(Reason::with("no refresh token", error)))?;
        let sender = self.sender(&client, request.caller)?;
        let bound = handle.binding.map(Confirmation::of_binding);
        Self::check_bound(bound, &sender)?;
        if bound.is_none() && Sender::must_be_bound(&client) {
            return Err(Error::InvalidGrant(Reason::new("from before its client had to be bound")));
        }
        let asked = asked(request);
        let (scope, audience) = match &asked {
            Ok((scope, audience)) => (
                scope.as_ref().map_or("", Scope::as_str),
                audience.as_ref().map_or("", Audience::as_str),
            ),
            // No request that was granted is like it.
            Err(_) => (request.scope.unwrap_or(""), "\n"),
        };
        let digest = request_digest(client.client_id(), scope, audience, sender.confirmation);
        let find = Find::Family(handle.locator.id);
        let now = self.clock.read();
        let request = digest;
        let presented = Presented { handle, client, arrival, now, asked, request, sender };
        Ok(self.find_then(find, now, move |inner, view| ticket(inner.redeem(presented, view))))
    }

    fn redeem(
        self: &Arc<Self>,
        presented: Presented,
        view: Option<TokenView>,
    ) -> Result<Ticket<Issued, Error>, Error> {
        let family = view.filter(|view| view.live);
        let family =
            family.ok_or_else(|| Error::InvalidGrant(Reason::new("the family is not live")))?;
        // RFC 6749 section 6: "the refresh token is bound to the client to which it was issued".
        // Another client's try has no effect: it proves no theft of the owner's making.
        if family.client != presented.client.id {
            return Err(Error::InvalidGrant(Reason::new("another client's refresh token")));
        }
        let terms = self.terms(&presented, &family)?;
        let key_version = self.handles.current_version();
        let salt = random::<16>(&*self.entropy)?;
        let rotates = presented.client.settings.refresh.rotates;
        let generation = presented.handle.locator.bucket;
        // A generation that is spent gives birth to nothing: it is a retry or a replay.
        let is_birth = generation == family.generation;
        if is_birth {
            self.check_id(&terms)?;
        }
        let next = generation.checked_add(u32::from(rotates));
        let next = next.ok_or_else(|| Error::InvalidGrant(Reason::new("no generation left")))?;
        let from = presented.derivation(next, &salt);
        let bound = presented.handle.binding.map(Confirmation::of_binding);
        let (successor, successor_digest) =
            self.successor(rotates, key_version, &from, bound)?.unzip();
        let locator = (presented.client.format() == TokenFormat::Opaque).then(|| {
            let lives = terms.expires_at.since(terms.issued_at);
            let lives = place_secs(presented.client.settings.sliding_secs, lives);
            self.locate(from.family, terms.issued_at, lives)
        });
        let (form, handle) = self.form_of(key_version, &from, locator, terms.sender)?;
        let counted = match is_birth {
            true => self.limiter.count(&family.client, &family.subject, presented.now.elapsed)?,
            false => Counted::default(),
        };
        self.spend_proof(presented.sender.proof, &family.client, &family.subject)?;
        let verb = Verb::Redeem(Box::new(Redeem {
            family: from.family,
            generation,
            digest: presented.handle.digest,
            arrival: presented.arrival,
            was_in_force: is_birth,
            now: presented.now,
            retry_secs_max: self.retry_secs_max,
            key_version,
            salt,
            request: presented.request,
            successor: successor_digest,
            access: terms.birth(handle, family.tag),
        }));
        let grant = family.grant;
        let decided = is_birth.then(|| Decided {
            grant,
            family: presented.handle.locator.id,
            generation: next,
            admission: family.admission.min(presented.arrival),
            key_version,
        });
        let signing = self.sign_ahead(&form, &terms, decided)?;
        let expected = Expected { presented, grant, successor, form, terms, key_version, counted };
        Ok(self.decide(verb, signing, move |inner, outcome| inner.redeemed(expected, outcome)))
    }

    /// What the access token will say: never more than the family (I9).
    fn terms(&self, presented: &Presented, family: &TokenView) -> Result<Terms, Error> {
        let of_family = Audience::parse(&family.audience)?;
        // A spent token gets nothing new: the store says whether it is a retry or a replay.
        let (scope, audience) = match presented.handle.locator.bucket == family.generation {
            true => {
                if !self.is_permitted(&presented.client, &family.subject) {
                    return Err(Error::InvalidGrant(not_permitted()));
                }
                if !presented.client.refreshes() {
                    return Err(Error::InvalidGrant(Reason::new("no refresh tokens any more")));
                }
                let (scope, audience) = presented.asked.as_ref().map_err(Error::clone)?;
                let scope = scope.as_ref().map(Scope::as_str);
                // What was taken from the client since is not in its next token.
                let client = &presented.client;
                let scope = narrow_granted(scope, &family.scope, client, self.profile)?;
                let of_family = self.still_of(&of_family, client)?;
                (scope, narrow_audience(audience.clone(), &of_family)?)
            }
            false => (family.scope.clone(), of_family),
        };
        let issued_at = presented.now.unix;
        let id = self.id_again(&presented.client, &family.subject, &scope, family.tag);
        Ok(Terms {
            client: family.client.clone(),
            subject: family.subject.clone(),
            scope,
            audience: audience.to_shared(),
            issued_at,
            expires_at: issued_at.plus(presented.client.access_secs()).min(family.family_ends_at),
            sender: presented.sender.confirmation,
            is_salesforce: presented.client.format() == TokenFormat::SalesforceJwt,
            actors: Actors::default(),
            id,
        })
    }

    /// The ID token of an access token with that scope.
    fn id_again(
        &self,
        client: &RegisteredClient,
        subject: &Subject,
        scope: &Scope,
        tag: u64,
    ) -> Option<Box<IdTerms>> {
        // OpenID Connect Core section 12.2: "its value MUST represent the time of the original
        // authentication", and "it SHOULD NOT have a nonce Claim".
        let at = Some(Timestamp(tag)).filter(|at| at.0 > 0);
        let is_told = Uvid::of_guest(subject).is_none();
        let facts = LoginFacts { nonce: None, at, code: None, is_told };
        self.id_terms(client, subject, scope, facts)
    }

    /// The next refresh token, where there is one.
    fn successor(
        &self,
        rotates: bool,
        version: u8,
        from: &Redeemed<'_>,
        bound: Option<Confirmation>,
    ) -> Result<Option<(SecretText, Digest)>, Error> {
        if !rotates {
            return Ok(None);
        }
        let secret = self.derive.successor(version, from).ok_or_else(no_version)?;
        let locator = Locator { class: 0, bucket: from.generation, id: from.family };
        self.handle(version, HandleKind::Refresh, locator, &secret, bound).map(Some)
    }

    /// The access token: opaque at `locator`, or a JWT.
    fn form_of(
        &self,
        version: u8,
        from: &Redeemed<'_>,
        locator: Option<Locator>,
        sender: Option<Confirmation>,
    ) -> Result<(Form, Option<(Locator, Digest)>), Error> {
        match locator {
            Some(locator) => {
                let secret = self.derive.access(version, from).ok_or_else(no_version)?;
                let kind = HandleKind::Access;
                let (text, digest) = self.handle(version, kind, locator, &secret, sender)?;
                Ok((Form::Opaque(text), Some((locator, digest))))
            }
            None => {
                let jti = self.derive.jti(version, from).ok_or_else(no_version)?;
                Ok((Form::Jwt { jti: jti_text(jti), keys: self.keys.current() }, None))
            }
        }
    }

    fn redeemed(
        &self,
        expected: Expected,
        outcome: Result<Outcome, StoreError>,
    ) -> Result<Settled, Error> {
        let Outcome::Redeem(outcome) = outcome? else {
            return Err(Error::ServerError(Reason::new("the store answered another question")));
        };
        let family = expected.presented.handle.locator.id;
        match outcome {
            RedeemOutcome::Redeemed { generation, admission } => {
                let Expected { grant, successor, form, terms, key_version, counted, .. } = expected;
                counted.keep();
                let decided = Decided { grant, family, generation, admission, key_version };
                self.tell_tokens(Action::Redeem, &terms, &decided);
                Ok(Settled { form, terms, decided, refresh_token: successor })
            }
            RedeemOutcome::Retried { mint, admission } => self.retried(expected, &mint, admission),
            RedeemOutcome::Replayed => {
                let Expected { presented, terms, grant, .. } = &expected;
                self.tell(|| AuditEvent {
                    subject: Some(terms.subject.as_str()),
                    grant: Some(*grant),
                    family: Some(family),
                    generation: Some(presented.handle.locator.bucket),
                    ..AuditEvent::of(Action::Replay).client(&terms.client)
                });
                Err(Error::InvalidGrant(Reason::new("replayed")))
            }
            RedeemOutcome::Overtaken => {
                Err(Error::InvalidGrant(Reason::new("spent and succeeded while it was decided")))
            }
            RedeemOutcome::OtherRequest => {
                Err(Error::InvalidGrant(Reason::new("a retry with another request")))
            }
            RedeemOutcome::Dead => Err(Error::InvalidGrant(Reason::new("the family is dead"))),
        }
    }

    /// The same tokens again, from what the store kept and the secret that was presented.
    fn retried(&self, expected: Expected, mint: &Mint, admission: Seq) -> Result<Settled, Error> {
        let Expected { presented, grant, terms, .. } = expected;
        let from = presented.derivation(mint.generation, &mint.salt);
        let rotated = mint.generation != presented.handle.locator.bucket;
        let bound = presented.handle.binding.map(Confirmation::of_binding);
        let successor = self.successor(rotated, mint.key_version, &from, bound)?;
        let (form, _) = self.form_of(mint.key_version, &from, mint.locator, terms.sender)?;
        let decided = Decided {
            grant,
            family: from.family,
            generation: mint.generation,
            admission,
            key_version: mint.key_version,
        };
        let refresh_token = successor.map(|(text, _)| text);
        // With an ID token if the lost answer had one.
        let id = self.id_again(&presented.client, &terms.subject, &mint.scope, mint.tag);
        let terms = Terms { id, ..terms.again(mint) };
        self.tell_tokens(Action::Retry, &terms, &decided);
        Ok(Settled { form, terms, decided, refresh_token })
    }
}

fn asked(request: &TokenRequest<'_>) -> Asked {
    let scope = request.scope.map(Scope::parse).transpose();
    let scope = scope.map_err(|error| Error::InvalidScope(Reason::with("scope", error)))?;
    Ok((scope, request.asked_audience()?))
}

impl Presented {
    /// What the tokens of `generation` follow from.
    fn derivation<'a>(&'a self, generation: u32, salt: &'a [u8; 16]) -> Redeemed<'a> {
        Redeemed {
            family: self.handle.locator.id,
            generation,
            salt,
            request: &self.request,
            presented: &self.handle.secret,
        }
    }
}
