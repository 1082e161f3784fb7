//! The birth of a family: minted, decided by the store, and told.

use std::sync::Arc;

use super::Inner;
use super::audience::Audience;
use super::audit::{Action, AuditEvent};
use super::client::{RegisteredClient, TokenFormat};
use super::confirmation::Confirmation;
use super::derive::{Reused, request_digest};
use super::error::{Error, Reason};
use super::exchange::Actors;
use super::identity::LoginFacts;
use super::issued::Issued;
use super::limits::Counted;
use super::mint::{Decided, Form, Settled, Terms, jti_text, no_version};
use super::sender::Sender;
use super::session::place_secs;
use crate::codec::handle::HandleKind;
use crate::entropy::random;
use crate::ids::{DeviceId, Subject};
use crate::locator::{Digest, Locator};
use crate::scope::Scope;
use crate::secret::{SecretBytes, SecretText};
use crate::store::{
    self, AccessBirth, CodeUse, IssueOutcome, Mint, Near, Outcome, Pair, PairPolicy, RefreshBirth,
    Seq, Store, StoreError, Ticket, Verb,
};
use crate::time::Timestamp;

/// A birth that was checked: nothing in it exceeds what the client may have.
pub(super) struct Granted {
    pub(super) admission: Seq,
    pub(super) client: Arc<RegisteredClient>,
    pub(super) subject: Subject,
    pub(super) device: Option<DeviceId>,
    pub(super) scope: Scope,
    pub(super) audience: Audience,
    pub(super) refresh: bool,
    /// Of a login, whose client gets an ID token where the scope asks for one.
    pub(super) login: Option<LoginFacts>,
    /// What the tokens are bound to.
    pub(super) sender: Sender,
    /// The code that is redeemed for it.
    pub(super) code: Option<RedeemedCode>,
    /// When the access token ends at the latest.
    pub(super) ends_at: Option<Timestamp>,
    /// Who acts for the subject.
    pub(super) actors: Actors,
}

impl Granted {
    /// An access token alone, of no login here.
    pub(super) fn access(
        admission: Seq,
        client: Arc<RegisteredClient>,
        subject: Subject,
        (scope, audience): (Scope, Audience),
        sender: Sender,
    ) -> Granted {
        Granted {
            admission,
            client,
            subject,
            device: None,
            scope,
            audience,
            refresh: false,
            login: None,
            sender,
            code: None,
            ends_at: None,
            actors: Actors::default(),
        }
    }
}

/// A code that is presented for a birth.
#[derive(Clone)]
pub(super) struct RedeemedCode {
    pub(super) code: CodeUse,
    /// What the subject authorized, of which the access token may have a part.
    pub(super) audience: Audience,
    /// Whether it was redeemed before: then nothing is born, and what it gave ends.
    pub(super) is_spent: bool,
}

/// How often a birth is signed again because its family was another one by then.
const FAMILIES_TRIED_MAX: usize = 4;

/// What the answer is made of when the store says that the tokens were born.
#[derive(Clone)]
struct Expected {
    pair: Pair,
    request: [u8; 16],
    form: Form,
    terms: Terms,
    refresh_token: Option<SecretText>,
    generation: u32,
    key_version: u8,
    /// Why nothing may be born.
    over: Option<Error>,
}

impl<S: Store> Inner<S> {
    /// Mints, and has the store decide and keep what was minted.
    pub(super) fn give_birth(
        self: &Arc<Self>,
        granted: Granted,
    ) -> Result<Ticket<Issued, Error>, Error> {
        let Granted { admission, client, subject, device, scope, audience, refresh, .. } = granted;
        let (login, code, sender) = (granted.login, granted.code, granted.sender);
        let (ends_at, actors) = (granted.ends_at, granted.actors);
        let tag = login_tag(login.as_ref().and_then(|login| login.at));
        let id = login.and_then(|login| self.id_terms(&client, &subject, &scope, login));
        let now = self.clock.read();
        let is_birth = code.as_ref().is_none_or(|redeemed| !redeemed.is_spent);
        // A code that comes back ends what it gave, however much was minted.
        let counted = match is_birth {
            true => self.limiter.count(client.client_id(), &subject, now.elapsed),
            false => Ok(Counted::default()),
        };
        let may_reuse = code.is_none() && matches!(client.settings.pairs, PairPolicy::Reuse { .. });
        let (counted, over) = match counted {
            Ok(counted) => (counted, None),
            // The token that the pair has already is no new one: the store is asked for that alone.
            Err(error) if may_reuse => (Counted::default(), Some(error)),
            Err(error) => return Err(error),
        };
        self.spend_proof(sender.proof, &client.id, &subject)?;
        let key_version = self.handles.current_version();
        // One call to the system for both.
        let (salt, fresh) = self.draw_birth()?;
        let bound = sender.confirmation;
        let request = match actors.is_empty() {
            true => request_digest(client.client_id(), scope.as_str(), audience.as_str(), bound),
            // No audience has a line break in it.
            false => {
                let acted = actors
                    .subjects()
                    .fold(audience.as_str().to_owned(), |all, one| all + "\n" + one);
                request_digest(client.client_id(), scope.as_str(), &acted, bound)
            }
        };
        let pair = Pair { client: client.id.clone(), subject: subject.clone(), device };
        let family = self.store.draw(Near::Pair(&pair));
        let grant = self.store.draw(Near::Id(family));
        // An access token does not outlive the login that it belongs to.
        let end = match refresh {
            true => client.settings.refresh.expires_at(now.unix),
            false => Timestamp::NEVER,
        };
        let end = ends_at.map_or(end, |at| at.min(end));
        let terms = Terms {
            client: client.id.clone(),
            subject,
            scope,
            audience: audience.to_shared(),
            issued_at: now.unix,
            expires_at: now.unix.plus(client.access_secs()).min(end),
            sender: bound,
            is_salesforce: client.format() == TokenFormat::SalesforceJwt,
            actors,
            id,
        };
        if is_birth {
            self.check_id(&terms)?;
        }
        let seed = Seed { pair: &pair, request: &request, salt: &salt, family, key_version };
        let (form, handle) = self.form(&client, &terms, &seed, fresh)?;
        let (refresh_token, refresh) = match refresh {
            true => {
                let bound = sender.of_refresh(&client);
                let (text, birth) =
                    self.first_refresh(&client, family, key_version, now.unix, bound)?;
                // RFC 8707 section 2.2: the next access token may be for another part of it.
                let audience = code.as_ref().map(|redeemed| redeemed.audience.to_shared());
                (Some(text), Some(RefreshBirth { audience, ..birth }))
            }
            false => (None, None),
        };
        let generation = u32::from(refresh_token.is_some());
        let issue = store::Issue {
            pair: pair.clone(),
            policy: client.settings.pairs,
            admission,
            now,
            family,
            only_in: over.as_ref().map(|_| 0),
            grant,
            key_version,
            salt,
            request,
            access: terms.birth(handle, tag),
            refresh,
            code: code.map(|redeemed| redeemed.code),
        };
        let expected =
            Expected { pair, request, form, terms, refresh_token, generation, key_version, over };
        if is_birth && expected.form.is_remote() && issue.refresh.is_none() {
            return Ok(Ticket::slow(Arc::clone(self).born_as_signed(issue, expected, counted)));
        }
        let decided = Decided { grant, family, generation, admission, key_version };
        let signing =
            self.sign_ahead(&expected.form, &expected.terms, is_birth.then_some(decided))?;
        let verb = Verb::Issue(Box::new(issue));
        Ok(self.decide(verb, signing, move |inner, outcome| inner.born(expected, counted, outcome)))
    }

    /// A birth by a remote key in a family that may be there already: the store says in which one
    /// before anything is signed, and is held to it. So nothing is born without its signature.
    async fn born_as_signed(
        self: Arc<Self>,
        mut issue: store::Issue,
        expected: Expected,
        counted: Counted,
    ) -> Result<Issued, Error> {
        let mut presigned = None;
        let mut counted = Some(counted);
        issue.only_in = Some(0);
        for _ in 0..FAMILIES_TRIED_MAX {
            let applied = self.store.apply(Verb::Issue(Box::new(issue.clone())));
            if matches!(applied.decided(), Some(Ok(Outcome::Issue(IssueOutcome::Issued { .. })))) {
                // Whether or not anybody waits for the answer.
                counted.take().unwrap_or_default().keep();
            }
            let outcome = applied.await;
            let Expected { generation, key_version, .. } = expected;
            let (signing, family) = match &outcome {
                Ok(Outcome::Issue(IssueOutcome::Elsewhere { family }))
                    if expected.over.is_none() =>
                {
                    let (grant, family, admission) = (issue.grant, *family, issue.admission);
                    let decided = Decided { grant, family, generation, admission, key_version };
                    let Expected { form, terms, .. } = &expected;
                    (self.sign_ahead(form, terms, Some(decided))?, family)
                }
                // A code is spent for it only once it is signed.
                Ok(Outcome::Issue(IssueOutcome::Reused { family, .. }))
                    if issue.code.is_some() && issue.only_in != Some(*family) =>
                {
                    let family = *family;
                    let none = Counted::default();
                    let Settled { form, terms, decided, .. } =
                        self.born(expected.clone(), none, outcome)?;
                    (self.sign_ahead(&form, &terms, Some(decided))?, family)
                }
                _ => {
                    let settled =
                        self.born(expected, counted.take().unwrap_or_default(), outcome)?;
                    return self.issued_async(settled, presigned).await;
                }
            };
            presigned = signing.signed().await?;
            issue.only_in = Some(family);
        }
        Err(StoreError::Busy.into())
    }

    /// The salt of a birth, and the secret of its access token.
    fn draw_birth(&self) -> Result<([u8; 16], SecretBytes<32>), Error> {
        let drawn = zeroize::Zeroizing::new(random::<48>(&*self.entropy)?);
        let (mut salt, mut secret) = ([0; 16], [0; 32]);
        let (for_salt, for_secret) = drawn.split_at(salt.len());
        salt.copy_from_slice(for_salt);
        secret.copy_from_slice(for_secret);
        let fresh = SecretBytes::new(secret);
        zeroize::Zeroize::zeroize(&mut secret);
        Ok((salt, fresh))
    }

    /// The access token of a birth: random, or derived where the pair may get it again.
    fn form(
        &self,
        client: &RegisteredClient,
        terms: &Terms,
        seed: &Seed<'_>,
        fresh: SecretBytes<32>,
    ) -> Result<(Form, Option<(Locator, Digest)>), Error> {
        let derived = matches!(client.settings.pairs, PairPolicy::Reuse { .. });
        match client.format() {
            TokenFormat::Opaque => {
                let lives = terms.expires_at.since(terms.issued_at);
                // What must end sooner than the client's tokens do does not slide.
                let slides = client.settings.sliding_secs.filter(|_| lives >= client.access_secs());
                let lives = place_secs(slides, lives);
                let locator = self.locate(seed.family, terms.issued_at, lives);
                let secret = match derived {
                    true => {
                        let from = seed.reused(terms, Some(locator));
                        self.derive.reused(seed.key_version, &from).ok_or_else(no_version)?
                    }
                    false => fresh,
                };
                let kind = HandleKind::Access;
                let (text, digest) =
                    self.handle(seed.key_version, kind, locator, &secret, terms.sender)?;
                Ok((Form::Opaque(text), Some((locator, digest))))
            }
            TokenFormat::Jwt | TokenFormat::SalesforceJwt => {
                let jti = match derived {
                    true => {
                        let from = seed.reused(terms, None);
                        self.derive.reused_jti(seed.key_version, &from).ok_or_else(no_version)?
                    }
                    false => random(&*self.entropy)?,
                };
                Ok((Form::Jwt { jti: jti_text(jti), keys: self.keys.current() }, None))
            }
        }
    }

    /// The refresh token of generation 1.
    fn first_refresh(
        &self,
        client: &RegisteredClient,
        family: u64,
        key_version: u8,
        now: Timestamp,
        bound: Option<Confirmation>,
    ) -> Result<(SecretText, RefreshBirth), Error> {
        let secret = SecretBytes::new(random(&*self.entropy)?);
        let locator = Locator { class: 0, bucket: 1, id: family };
        let kind = HandleKind::Refresh;
        let (text, digest) = self.handle(key_version, kind, locator, &secret, bound)?;
        let policy = client.settings.refresh;
        let (expires_at, idle_secs) = (policy.expires_at(now), policy.idle_secs);
        Ok((text, RefreshBirth { digest, expires_at, idle_secs, audience: None }))
    }

    fn born(
        &self,
        expected: Expected,
        counted: Counted,
        outcome: Result<Outcome, StoreError>,
    ) -> Result<Settled, Error> {
        let Expected { pair, request, form, terms, refresh_token, generation, key_version, over } =
            expected;
        match outcome? {
            Outcome::Issue(IssueOutcome::Issued { family, grant, admission }) => {
                counted.keep();
                let decided = Decided { grant, family, generation, admission, key_version };
                self.tell_tokens(Action::Issue, &terms, &decided);
                Ok(Settled { form, terms, decided, refresh_token })
            }
            Outcome::Issue(IssueOutcome::Reused { family, grant, admission, mint }) => {
                let decided = Decided {
                    grant,
                    family,
                    generation: mint.generation,
                    admission,
                    key_version: mint.key_version,
                };
                let form = self.form_again(&pair, &request, &mint, terms.sender)?;
                let terms = terms.again(&mint);
                self.tell_tokens(Action::Reuse, &terms, &decided);
                Ok(Settled { form, terms, decided, refresh_token: None })
            }
            Outcome::Issue(IssueOutcome::PairTaken) => {
                Err(Error::AccessDenied(Reason::new("the pair has a live login")))
            }
            Outcome::Issue(IssueOutcome::CodeDead) => {
                Err(Error::InvalidGrant(Reason::new("the code is dead")))
            }
            Outcome::Issue(IssueOutcome::CodeReplayed) => {
                self.tell(|| AuditEvent {
                    subject: Some(pair.subject.as_str()),
                    ..AuditEvent::of(Action::Replay).client(&pair.client)
                });
                Err(Error::InvalidGrant(Reason::new("the code was redeemed before")))
            }
            Outcome::Issue(IssueOutcome::Elsewhere { .. }) if let Some(over) = over => Err(over),
            Outcome::Issue(IssueOutcome::Revoked) => {
                Err(Error::InvalidGrant(Reason::new("revoked while it was being issued")))
            }
            _ => Err(Error::ServerError(Reason::new("the store answered another question"))),
        }
    }

    /// The access token that a pair has already, from what it was minted from.
    fn form_again(
        &self,
        pair: &Pair,
        request: &[u8; 16],
        mint: &Mint,
        sender: Option<Confirmation>,
    ) -> Result<Form, Error> {
        let from = Reused {
            pair,
            salt: &mint.salt,
            request,
            locator: mint.locator,
            issued_at: mint.issued_at,
            expires_at: mint.expires_at,
        };
        let version = mint.key_version;
        match mint.locator {
            Some(locator) => {
                let secret = self.derive.reused(version, &from).ok_or_else(no_version)?;
                let kind = HandleKind::Access;
                let (text, _) = self.handle(version, kind, locator, &secret, sender)?;
                Ok(Form::Opaque(text))
            }
            None => {
                let jti = self.derive.reused_jti(version, &from).ok_or_else(no_version)?;
                Ok(Form::Jwt { jti: jti_text(jti), keys: self.keys.current() })
            }
        }
    }
}

/// What a derived access token follows from, beyond its terms.
struct Seed<'a> {
    pair: &'a Pair,
    request: &'a [u8; 16],
    salt: &'a [u8; 16],
    family: u64,
    key_version: u8,
}

impl<'a> Seed<'a> {
    fn reused(&self, terms: &Terms, locator: Option<Locator>) -> Reused<'a> {
        Reused {
            pair: self.pair,
            salt: self.salt,
            request: self.request,
            locator,
            issued_at: terms.issued_at,
            expires_at: terms.expires_at,
        }
    }
}

impl Terms {
    /// What the store is told.
    pub(super) fn birth(&self, handle: Option<(Locator, Digest)>, tag: u64) -> AccessBirth {
        AccessBirth {
            handle,
            issued_at: self.issued_at,
            expires_at: self.expires_at,
            scope: self.scope.clone(),
            audience: Arc::clone(&self.audience),
            tag,
        }
    }

    /// The terms of a token that was minted before, for the same client and subject.
    pub(super) fn again(self, mint: &Mint) -> Terms {
        Terms {
            scope: mint.scope.clone(),
            audience: Arc::clone(&mint.audience),
            issued_at: mint.issued_at,
            expires_at: mint.expires_at,
            ..self
        }
    }
}

/// What the store keeps of a login: when it was, 0 where nobody knows.
fn login_tag(at: Option<Timestamp>) -> u64 {
    at.map_or(0, |at| at.0)
}
