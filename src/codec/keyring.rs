//! The keys of one authority: the active one signs, retired ones verify what they signed before.
//!
//! A keyring is a value: changing it makes another one, so that readers hold an `Arc` of the ring
//! they started with and never wait.

use std::fmt;
use std::sync::Arc;

use super::jwk::Jwk;
use super::jws::TokenType;
use super::keys::{SigningKey, VerifyingKey};

/// The most keys in one ring.
pub const KEYS_MAX: usize = 32;

/// Why a ring cannot be changed so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyringError {
    /// Another key of the ring has that `kid`.
    DuplicateKid,
    /// No key of the ring has that `kid`.
    UnknownKid,
    /// The active key cannot be taken out; make another one active first.
    StillActive,
    /// The ring has [`KEYS_MAX`] keys.
    TooManyKeys,
}

impl fmt::Display for KeyringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyringError::DuplicateKid => "the keyring has a key of that kid",
            KeyringError::UnknownKid => "the keyring has no key of that kid",
            KeyringError::StillActive => "the active key cannot be taken out",
            KeyringError::TooManyKeys => "the keyring is full",
        })
    }
}

impl std::error::Error for KeyringError {}

/// One active key and any number of retired ones. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Keyring {
    active: Arc<SigningKey>,
    /// The active key first, then the retired ones, newest first. Every `kid` is there once.
    verifying: Vec<VerifyingKey>,
}

impl Keyring {
    /// A ring of one key.
    #[must_use]
    pub fn new(active: SigningKey) -> Keyring {
        let verifying = vec![active.verifying_key().clone()];
        Keyring { active: Arc::new(active), verifying }
    }

    /// The key that signs.
    #[must_use]
    pub fn active(&self) -> &Arc<SigningKey> {
        &self.active
    }

    /// Every key that verifies, the active one first.
    pub fn keys(&self) -> impl Iterator<Item = &VerifyingKey> {
        self.verifying.iter()
    }

    /// The key of that `kid`.
    #[must_use]
    pub fn find(&self, kid: &str) -> Option<&VerifyingKey> {
        self.verifying.iter().find(|key| key.kid() == kid)
    }

    /// The ring in which `active` signs and this ring's active key is retired.
    ///
    /// # Errors
    /// [`KeyringError::DuplicateKid`], [`KeyringError::TooManyKeys`].
    pub fn with_active(&self, active: SigningKey) -> Result<Keyring, KeyringError> {
        let verifying = self.with(0, active.verifying_key())?;
        Ok(Keyring { active: Arc::new(active), verifying })
    }

    /// The ring with one more key that verifies only: retired earlier, or about to be active
    /// elsewhere.
    ///
    /// # Errors
    /// [`KeyringError::DuplicateKid`], [`KeyringError::TooManyKeys`].
    pub fn with_retired(&self, key: &VerifyingKey) -> Result<Keyring, KeyringError> {
        let verifying = self.with(self.verifying.len(), key)?;
        Ok(Keyring { active: Arc::clone(&self.active), verifying })
    }

    /// The ring without the retired key of that `kid`: whatever it signed is refused from then on.
    ///
    /// # Errors
    /// [`KeyringError::StillActive`], [`KeyringError::UnknownKid`].
    pub fn without(&self, kid: &str) -> Result<Keyring, KeyringError> {
        if self.active.kid() == kid {
            return Err(KeyringError::StillActive);
        }
        let mut verifying = self.verifying.clone();
        verifying.retain(|key| key.kid() != kid);
        if verifying.len() == self.verifying.len() {
            return Err(KeyringError::UnknownKid);
        }
        Ok(Keyring { active: Arc::clone(&self.active), verifying })
    }

    /// The JWK Set (RFC 7517 section 5) of the public keys. HMAC keys are never in it.
    #[must_use]
    pub fn jwks(&self) -> String {
        let keys: Vec<String> =
            self.keys().filter_map(|key| key.public_jwk().map(Jwk::to_json)).collect();
        format!("{{\"keys\":[{}]}}", keys.join(","))
    }

    /// The key whose tokens of that type start as this one does.
    pub(super) fn find_start(&self, token: &[u8], typ: TokenType) -> Option<&VerifyingKey> {
        self.verifying.iter().find(|key| token.starts_with(key.start(typ)))
    }

    fn with(&self, at: usize, key: &VerifyingKey) -> Result<Vec<VerifyingKey>, KeyringError> {
        if self.find(key.kid()).is_some() {
            return Err(KeyringError::DuplicateKid);
        }
        if self.verifying.len() >= KEYS_MAX {
            return Err(KeyringError::TooManyKeys);
        }
        let mut verifying = self.verifying.clone();
        verifying.insert(at, key.clone());
        Ok(verifying)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::algorithm::Algorithm;
    use crate::entropy::SeededEntropy;

    fn key(algorithm: Algorithm, kid: &str) -> Result<SigningKey, Box<dyn std::error::Error>> {
        Ok(SigningKey::generate(algorithm, Some(kid), &SeededEntropy::new(1))?)
    }

    #[test]
    fn a_kid_is_in_a_ring_once() -> Result<(), Box<dyn std::error::Error>> {
        let ring = Keyring::new(key(Algorithm::EdDsa, "a")?);
        let again = ring.with_active(key(Algorithm::Hs256, "a")?).err();
        assert_eq!(again, Some(KeyringError::DuplicateKid));
        let ring = ring.with_active(key(Algorithm::Es256, "b")?)?;
        assert_eq!(ring.keys().map(VerifyingKey::kid).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(ring.active().kid(), "b");
        assert_eq!(ring.without("b").err(), Some(KeyringError::StillActive));
        assert_eq!(ring.without("c").err(), Some(KeyringError::UnknownKid));
        assert!(ring.without("a")?.find("a").is_none());
        Ok(())
    }

    #[test]
    fn a_full_ring_takes_no_more() -> Result<(), Box<dyn std::error::Error>> {
        let mut ring = Keyring::new(key(Algorithm::Hs256, "active")?);
        for number in 1..KEYS_MAX {
            let retired = key(Algorithm::Hs256, &format!("k{number}"))?;
            ring = ring.with_retired(retired.verifying_key())?;
        }
        let more = ring.with_active(key(Algorithm::Hs256, "more")?).err();
        assert_eq!(more, Some(KeyringError::TooManyKeys));
        Ok(())
    }

    #[test]
    fn the_jwk_set_shows_public_keys_alone() -> Result<(), Box<dyn std::error::Error>> {
        let ring = Keyring::new(key(Algorithm::Hs256, "secret")?);
        assert_eq!(ring.jwks(), r#"{"keys":[]}"#);
        let ring = ring.with_active(key(Algorithm::Es256, "public")?)?;
        let set: serde_json::Value = serde_json::from_str(&ring.jwks())?;
        assert_eq!(set["keys"].as_array().map(Vec::len), Some(1));
        assert_eq!(set["keys"][0]["kid"], "public");
        assert_eq!(set["keys"][0]["use"], "sig");
        assert!(set["keys"][0].get("d").is_none());
        Ok(())
    }
}
