//! Minting: from what a token is to say to its text. Issue and refresh share it, and a retry goes
//! through it again.
//!
//! A key of this process signs once the store has decided, while the commit is under way. A remote
//! key signs before the store is asked: what it does not sign is not born.

use std::pin::Pin;
use std::sync::Arc;

use base64_simd::URL_SAFE_NO_PAD;

use super::Inner;
use super::birth::Birth;
use super::derive::JTI_LEN;
use super::error::{Error, Reason};
use super::issued::Issued;
use super::signing::KeySet;
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
}

/// An access token that lacks only what the store decides.
#[derive(Clone)]
pub(super) enum Form {
    Opaque(SecretText),
    Jwt { jti: String, keys: Arc<KeySet> },
}

impl Form {
    /// What the store keeps about the signing key; 0 for an opaque token.
    pub(super) fn tag(&self) -> u64 {
        match self {
            Form::Opaque(_) => 0,
            Form::Jwt { keys, .. } => keys.active_tag(),
        }
    }

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
    Asked { birth: SignedBirth, text: Signed },
}

type Signed = Pin<Box<dyn Future<Output = Result<SecretText, Error>> + Send>>;

/// All of a JWT that depends on what the store decides.
#[derive(PartialEq, Eq)]
pub(super) struct SignedBirth {
    jti: String,
    /// The claim of the birth, as text.
    claim: String,
}

/// A JWT that was signed for a birth as it was expected.
pub(super) struct Presigned {
    birth: SignedBirth,
    text: SecretText,
}

impl SignAhead {
    /// What was signed, once it is; `None` where nothing is signed ahead.
    pub(super) async fn signed(self) -> Result<Option<Presigned>, Error> {
        match self {
            SignAhead::No | SignAhead::Later => Ok(None),
            SignAhead::Asked { birth, text } => Ok(Some(Presigned { birth, text: text.await? })),
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
    ) -> Result<(SecretText, Digest), Error> {
        let mut text = HandleBuf::new();
        let digest = self.handles.mint_with_version(version, kind, locator, secret, &mut text);
        let digest = digest
            .map_err(|error| Error::ServerError(Reason::with("the handle has no key", error)))?;
        Ok((SecretText::new(text.as_str()), digest))
    }

    /// Asks a remote key for the signature of a birth before it is one. `decided` is what the store
    /// will say of it, `None` where nothing can be born.
    pub(super) fn sign_ahead(
        &self,
        form: &Form,
        terms: &Terms,
        decided: Option<Decided>,
    ) -> Result<SignAhead, Error> {
        let (jti, keys) = match form {
            Form::Jwt { jti, keys } if form.is_remote() => (jti, keys),
            _ => return Ok(SignAhead::No),
        };
        let Some(decided) = decided else { return Ok(SignAhead::Later) };
        let claim = self.birth_claim(jti, decided)?;
        let text = Box::pin(keys.sign_async(&self.issuer, terms, jti, &claim));
        Ok(SignAhead::Asked { birth: SignedBirth { jti: jti.clone(), claim }, text })
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
            signing @ SignAhead::Asked { .. } => Ticket::slow(async move {
                let presigned = signing.signed().await?;
                let to = Arc::clone(&inner);
                let settled = inner.store.apply(verb).and_then(move |outcome| settle(&to, outcome));
                inner.issued_async(settled.await?, presigned).await
            }),
        }
    }

    fn birth_claim(&self, jti: &str, decided: Decided) -> Result<String, Error> {
        let Decided { family, admission, generation, key_version, .. } = decided;
        let birth = Birth { family, admission, generation };
        birth.to_claim(&self.derive, key_version, jti).ok_or_else(no_version)
    }

    fn issued(&self, settled: Settled) -> Result<Issued, Error> {
        let Settled { form, terms, decided, refresh_token } = settled;
        let access_token = match form {
            Form::Opaque(text) => text,
            Form::Jwt { jti, keys } => {
                let birth = self.birth_claim(&jti, decided)?;
                keys.sign(&self.issuer, &terms, &jti, &birth)?
            }
        };
        Ok(self.answer(access_token, terms, decided, refresh_token))
    }

    /// As [`Inner::issued`], with a remote key: a token that was not born now, but asked for again,
    /// is signed here.
    pub(super) async fn issued_async(
        &self,
        settled: Settled,
        presigned: Option<Presigned>,
    ) -> Result<Issued, Error> {
        let Settled { form, terms, decided, refresh_token } = settled;
        let access_token = match form {
            Form::Opaque(text) => text,
            Form::Jwt { jti, keys } => {
                let claim = self.birth_claim(&jti, decided)?;
                let birth = SignedBirth { jti, claim };
                match presigned.filter(|signed| signed.birth == birth) {
                    Some(signed) => signed.text,
                    None => {
                        let SignedBirth { jti, claim } = birth;
                        keys.sign_async(&self.issuer, &terms, &jti, &claim).await?
                    }
                }
            }
        };
        Ok(self.answer(access_token, terms, decided, refresh_token))
    }

    fn answer(
        &self,
        access_token: SecretText,
        terms: Terms,
        decided: Decided,
        refresh_token: Option<SecretText>,
    ) -> Issued {
        Issued {
            access_token,
            token_type: "Bearer",
            expires_in: terms.expires_at.since(self.clock.read().unix),
            refresh_token,
            scope: terms.scope,
            issued_at: terms.issued_at,
            expires_at: terms.expires_at,
            client_id: terms.client,
            subject: terms.subject,
            grant: decided.grant,
            family: decided.family,
            nonce: None,
            authenticated_at: None,
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
