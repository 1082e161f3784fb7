//! Minting: from what a token is to say to its text. Issue and refresh share it, and a retry goes
//! through it again.

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
use crate::store::{Near, Seq, Store};
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

    /// The text of the access token, once the store has decided.
    pub(super) fn access_text(
        &self,
        form: Form,
        terms: &Terms,
        decided: Decided,
    ) -> Result<SecretText, Error> {
        match form {
            Form::Opaque(text) => Ok(text),
            Form::Jwt { jti, keys } => {
                let Decided { family, admission, generation, key_version, .. } = decided;
                let birth = Birth { family, admission, generation };
                let birth =
                    birth.to_claim(&self.derive, key_version, &jti).ok_or_else(no_version)?;
                keys.sign(&self.issuer, terms, &jti, &birth)
            }
        }
    }

    /// The answer to the request.
    pub(super) fn issued(
        &self,
        form: Form,
        terms: Terms,
        decided: Decided,
        refresh_token: Option<SecretText>,
    ) -> Result<Issued, Error> {
        let access_token = self.access_text(form, &terms, decided)?;
        Ok(Issued {
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
        })
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
