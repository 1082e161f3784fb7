//! Minting: from what a token is to say to its text. Issue and refresh share it, and a retry goes
//! through it again.
//!
//! A key of this process signs once the store has decided, while the commit is under way. A remote
//! key signs before the store is asked: what it does not sign is not born.

use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;

use base64_simd::URL_SAFE_NO_PAD;

use super::Inner;
use super::birth::Birth;
use super::confirmation::Confirmation;
use super::derive::JTI_LEN;
use super::error::{Error, Reason};
use super::exchange::Actors;
use super::identity::IdTerms;
use super::issued::Issued;
use super::signing::{Birthmark, KeySet};
use crate::codec::handle::{HandleBuf, HandleKind};
use crate::ids::{ClientId, Subject};
use crate::locator::{Digest, Locator};
use crate::scope::Scope;
use crate::secret::{SecretBytes, SecretText};
use crate::store::{Near, Outcome, Seq, Store, StoreError, Ticket, Verb};
use crate::time::Timestamp;

/// Everything that an access token says, whatever its form.
#[derive(Clone)]
pub(super) struct Terms {
    pub(super) client: ClientId,
    pub(super) subject: Subject,
    pub(super) scope: Scope,
    pub(super) audience: Arc<str>,
    pub(super) issued_at: Timestamp,
    pub(super) expires_at: Timestamp,
    /// What its holder must have.
    pub(super) sender: Option<Confirmation>,
    /// Whether a JWT is in Salesforce's form.
    pub(super) is_salesforce: bool,
    /// Who acts for the subject.
    pub(super) actors: Actors,
    /// The ID token that comes with it.
    pub(super) id: Option<Box<IdTerms>>,
}

/// An access token that lacks only what the store decides.
#[derive(Clone)]
pub(super) enum Form {
    Opaque(SecretText),
    Jwt { jti: String, keys: Arc<KeySet> },
}

impl Form {
    /// Whether its signature must be waited for.
    pub(super) fn is_remote(&self) -> bool {
        matches!(self, Form::Jwt { keys, .. } if keys.is_remote())
    }
}

/// What the store decided about a birth.
#[derive(Clone, Copy)]
pub(super) struct Decided {
    pub(super) grant: u64,
    pub(super) family: u64,
    pub(super) generation: u32,
    pub(super) admission: Seq,
    pub(super) key_version: u8,
}

/// An answer that lacks only the text of its access token.
pub(super) struct Settled {
    pub(super) form: Form,
    pub(super) terms: Terms,
    pub(super) decided: Decided,
    pub(super) refresh_token: Option<SecretText>,
}

/// Who signs, and when.
pub(super) enum SignAhead {
    /// Opaque tokens, and a key of this process: as soon as the store has decided.
    No,
    /// A remote key, once the store has decided: what is asked for again is no birth.
    Later,
    /// A remote key, before the store decides a birth.
    Asked(Signed),
}

type Signed = Pin<Box<dyn Future<Output = Result<Presigned, Error>> + Send>>;
type SignedText = Pin<Box<dyn Future<Output = Result<SecretText, Error>> + Send>>;

/// All of a JWT that depends on what the store decides.
pub(super) struct SignedBirth {
    jti: String,
    /// The claim of the birth, as text.
    claim: String,
}

/// What was signed for a birth as it was expected.
pub(super) struct Presigned {
    /// Of a JWT.
    birth: Option<SignedBirth>,
    access_token: SecretText,
    id_token: Option<SecretText>,
}

impl SignAhead {
    /// What was signed, once it is; `None` where nothing is signed ahead.
    pub(super) async fn signed(self) -> Result<Option<Presigned>, Error> {
        match self {
            SignAhead::No | SignAhead::Later => Ok(None),
            SignAhead::Asked(signing) => signing.await.map(Some),
        }
    }
}

impl<S: Store> Inner<S> {
    /// The address of an opaque access token that is born now.
    pub(super) fn locate(&self, family: u64, issued_at: Timestamp, lives: u64) -> Locator {
        Locator {
            class: class_of(lives),
            bucket: u32::try_from(issued_at.0 / 60).unwrap_or(u32::MAX),
            id: self.store.draw(Near::Id(family)),
        }
    }

    /// The text of a handle, and the digest that its token is stored under.
    pub(super) fn handle(
        &self,
        version: u8,
        kind: HandleKind,
        locator: Locator,
        secret: &SecretBytes<32>,
        sender: Option<Confirmation>,
    ) -> Result<(SecretText, Digest), Error> {
        let mut text = HandleBuf::new();
        let binding = sender.map(Confirmation::binding);
        let bound = binding.as_ref();
        let digest =
            self.handles.mint_with_version(version, kind, locator, secret, bound, &mut text);
        let digest = digest
            .map_err(|error| Error::ServerError(Reason::with("the handle has no key", error)))?;
        Ok((SecretText::new(text.as_str()), digest))
    }

    /// Asks a remote key for the signature of a birth before it is one. `decided` is what the store
    /// will say of it, `None` where nothing can be born.
    pub(super) fn sign_ahead(
        self: &Arc<Self>,
        form: &Form,
        terms: &Terms,
        decided: Option<Decided>,
    ) -> Result<SignAhead, Error> {
        let is_remote_id = match decided {
            Some(_) => terms.id.as_ref().is_some_and(|id| id.keys().is_remote()),
            // Whether it has one is known from what was minted.
            None => self.keys.current().is_remote(),
        };
        if !form.is_remote() && !is_remote_id {
            return Ok(SignAhead::No);
        }
        let Some(decided) = decided else { return Ok(SignAhead::Later) };
        // A remote key is asked for the access token at once.
        let (birth, access_token) = self.access_token_async(form.clone(), terms, decided)?;
        let (inner, terms) = (Arc::clone(self), terms.clone());
        Ok(SignAhead::Asked(Box::pin(async move {
            let access_token = access_token.await?;
            let (id, token) = (terms.id.as_deref(), Some(&access_token));
            let id_token = inner.id_token_async(id, &terms.client, &terms.subject, token).await?;
            Ok(Presigned { birth, access_token, id_token })
        })))
    }

    fn access_token_async(
        &self,
        form: Form,
        terms: &Terms,
        decided: Decided,
    ) -> Result<(Option<SignedBirth>, SignedText), Error> {
        let (jti, keys) = match form {
            Form::Opaque(text) => return Ok((None, Box::pin(ready(Ok(text))))),
            Form::Jwt { jti, keys } => (jti, keys),
        };
        let birth = self.birthmark(terms, &jti, decided)?;
        let signing = Box::pin(keys.sign_async(&self.issuer, terms, &jti, &birth));
        Ok((Some(SignedBirth { jti, claim: birth.claim }), signing))
    }

    /// Has the store decide `verb`, and makes the answer of what `settle` reads from the outcome.
    /// A replay is judged at once, whoever signs.
    pub(super) fn decide(
        self: &Arc<Self>,
        verb: Verb,
        signing: SignAhead,
        settle: impl FnOnce(&Self, Result<Outcome, StoreError>) -> Result<Settled, Error>
        + Send
        + 'static,
    ) -> Ticket<Issued, Error> {
        let inner = Arc::clone(self);
        match signing {
            SignAhead::No => {
                let decided = self.store.apply(verb);
                decided.and_then(move |outcome| inner.issued(settle(&inner, outcome)?))
            }
            SignAhead::Later => {
                let to = Arc::clone(&inner);
                let settled = self.store.apply(verb).and_then(move |outcome| settle(&to, outcome));
                Ticket::slow(async move { inner.issued_async(settled.await?, None).await })
            }
            signing @ SignAhead::Asked(_) => Ticket::slow(async move {
                let presigned = signing.signed().await?;
                let to = Arc::clone(&inner);
                let settled = inner.store.apply(verb).and_then(move |outcome| settle(&to, outcome));
                inner.issued_async(settled.await?, presigned).await
            }),
        }
    }

    fn birthmark(&self, terms: &Terms, jti: &str, decided: Decided) -> Result<Birthmark, Error> {
        let Decided { family, admission, generation, key_version, .. } = decided;
        let birth = Birth { family, admission, generation };
        let claim = birth.to_claim(&self.derive, key_version, jti).ok_or_else(no_version)?;
        let fingerprint = terms.is_salesforce.then(|| self.derive.fingerprint(key_version, family));
        Ok(Birthmark { claim, fingerprint: fingerprint.flatten() })
    }

    fn issued(&self, settled: Settled) -> Result<Issued, Error> {
        let Settled { form, terms, decided, refresh_token } = settled;
        let access_token = match form {
            Form::Opaque(text) => text,
            Form::Jwt { jti, keys } => {
                let birth = self.birthmark(&terms, &jti, decided)?;
                keys.sign(&self.issuer, &terms, &jti, &birth)?
            }
        };
        let id_token = self.id_token(&terms, &access_token)?;
        Ok(self.answer(access_token, id_token, terms, decided, refresh_token))
    }

    /// As [`Inner::issued`], with a remote key: a token that was not born now, but asked for again,
    /// is signed here.
    pub(super) async fn issued_async(
        &self,
        settled: Settled,
        presigned: Option<Presigned>,
    ) -> Result<Issued, Error> {
        let Settled { form, terms, decided, refresh_token } = settled;
        let is_it = |signed: &Presigned| match (&form, &signed.birth) {
            (Form::Opaque(text), None) => *text == signed.access_token,
            (Form::Jwt { jti, .. }, Some(birth)) => {
                let decided = self.birthmark(&terms, jti, decided);
                birth.jti == *jti && decided.is_ok_and(|decided| decided.claim == birth.claim)
            }
            _ => false,
        };
        let (access_token, id_token) = match presigned.filter(is_it) {
            Some(signed) => (signed.access_token, signed.id_token),
            None => {
                let (_, access_token) = self.access_token_async(form, &terms, decided)?;
                let access_token = access_token.await?;
                let (id, token) = (terms.id.as_deref(), Some(&access_token));
                let (client, subject) = (&terms.client, &terms.subject);
                let id_token = self.id_token_async(id, client, subject, token).await?;
                (access_token, id_token)
            }
        };
        Ok(self.answer(access_token, id_token, terms, decided, refresh_token))
    }

    fn answer(
        &self,
        access_token: SecretText,
        id_token: Option<SecretText>,
        terms: Terms,
        decided: Decided,
        refresh_token: Option<SecretText>,
    ) -> Issued {
        Issued {
            access_token,
            token_type: match terms.sender {
                Some(Confirmation::Key(_)) => "DPoP",
                _ => "Bearer",
            },
            expires_in: terms.expires_at.since(self.clock.read().unix),
            refresh_token,
            id_token,
            id: self.identity_url(&terms.subject),
            instance_url: Arc::clone(&self.instance_url),
            scope: terms.scope,
            issued_at: terms.issued_at,
            expires_at: terms.expires_at,
            client_id: terms.client,
            subject: terms.subject,
            grant: decided.grant,
            family: decided.family,
            salesforce: None,
            issued_token_type: None,
            web_session: None,
        }
    }
}

/// A JWT's identifier as text.
pub(super) fn jti_text(jti: [u8; JTI_LEN]) -> String {
    URL_SAFE_NO_PAD.encode_to_string(jti)
}

/// A token of a version that the root key lacks is refused when it is parsed; what is derived under
/// one that was dropped since cannot be derived again.
pub(super) fn no_version() -> Error {
    Error::ServerError(Reason::new("the root key lacks a version"))
}

/// The smallest class whose tokens live as long as that.
fn class_of(lives_secs: u64) -> u8 {
    (0..32u8).find(|class| 60u64 << class >= lives_secs).unwrap_or(32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_covers_the_lifetime_and_no_more_than_twice_of_it() {
        assert_eq!([1, 60, 61, 120, 7_200, 86_400].map(class_of), [0, 0, 1, 1, 7, 11]);
    }
}
