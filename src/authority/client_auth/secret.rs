//! Client secrets: what is kept of them, and whether a given one opens.
//!
//! A generated secret has 256 random bits: guessing it is hopeless, so a fast keyed digest is kept
//! and checking costs a microsecond. A chosen one may be guessable, so Argon2id is kept, under a key
//! that is not in the data directory. Once a chosen secret has opened, its fast digest is remembered
//! in memory: the slow computation is paid once per process.

use std::sync::{Arc, OnceLock};

use argon2::{Algorithm, Argon2, Params, Version};

use super::super::derive::DeriveKeys;
use super::super::error::{Error, Reason};
use crate::codec::keys::{SigningKey, VerifyingKey};
use crate::entropy::{Entropy, random};
use crate::ids::ClientId;
use crate::root_key::RootKey;
use crate::secret::{SecretBytes, SecretText};
use crate::time::Timestamp;

/// The longest client secret that is looked at, in bytes.
pub const CLIENT_SECRET_LEN_MAX: usize = 4_096;
/// The shortest secret that a host may choose for a client, in bytes.
pub const CHOSEN_SECRET_LEN_MIN: usize = 8;
/// The most secrets of one client that open at a time.
pub(in crate::authority) const SECRETS_MAX: usize = 2;

/// Argon2id as OWASP recommends it: 19 MiB, 2 passes, 1 lane.
const MEMORY_KIB: u32 = 19 * 1_024;
const PASSES: u32 = 2;

/// What is kept of one secret.
#[derive(Clone)]
pub(in crate::authority) struct KeptSecret {
    /// Version of the root key that it is kept under.
    pub(in crate::authority) key_version: u8,
    pub(in crate::authority) form: SecretForm,
    /// The first second at which it opens no more; for one that was rotated out.
    pub(in crate::authority) ends_at: Option<Timestamp>,
    /// The secret itself, sealed: for `client_secret_jwt` alone, which needs it.
    pub(in crate::authority) sealed: Option<Arc<[u8]>>,
    /// The HMAC key of the secret, where it could be unsealed.
    hmac: Option<VerifyingKey>,
    /// Fast digest of a chosen secret that has opened in this process.
    proven: Arc<OnceLock<SecretBytes<32>>>,
}

#[derive(Clone, PartialEq, Eq)]
pub(in crate::authority) enum SecretForm {
    /// Of a generated secret.
    Digest(SecretBytes<32>),
    /// Of a chosen one.
    Argon2id { salt: [u8; 16], hash: SecretBytes<32>, memory_kib: u32, passes: u32 },
}

/// What a secret is kept under and for.
pub(in crate::authority) struct Keeping<'a> {
    pub(in crate::authority) derive: &'a DeriveKeys,
    pub(in crate::authority) root: &'a RootKey,
    pub(in crate::authority) entropy: &'a dyn Entropy,
    pub(in crate::authority) key_version: u8,
    pub(in crate::authority) client: &'a ClientId,
    /// Whether the client may sign with it (`client_secret_jwt`).
    pub(in crate::authority) signs: bool,
}

/// Whether a given secret is the kept one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::authority) enum Opens {
    Yes,
    No,
    /// Only an Argon2id computation can tell.
    AskSlowly,
}

impl KeptSecret {
    /// Keeps a secret that was drawn from 256 random bits.
    pub(in crate::authority) fn generated(
        keeping: &Keeping<'_>,
        secret: &SecretText,
    ) -> Result<KeptSecret, Error> {
        let version = keeping.key_version;
        let digest = keeping.derive.client_secret(version, keeping.client, secret.expose());
        keeping.keep(SecretForm::Digest(digest.ok_or_else(no_version)?), secret)
    }

    /// Keeps a secret that somebody chose.
    ///
    /// # Blocks
    /// For one Argon2id computation.
    pub(in crate::authority) fn chosen(
        keeping: &Keeping<'_>,
        secret: &SecretText,
    ) -> Result<KeptSecret, Error> {
        let salt = random::<16>(keeping.entropy)?;
        let version = keeping.key_version;
        let hash = argon2id(keeping.derive, version, &salt, secret.expose(), (MEMORY_KIB, PASSES))?;
        let (memory_kib, passes) = (MEMORY_KIB, PASSES);
        keeping.keep(SecretForm::Argon2id { salt, hash, memory_kib, passes }, secret)
    }

    /// What a document says was kept.
    pub(in crate::authority) fn read(
        key_version: u8,
        form: SecretForm,
        ends_at: Option<Timestamp>,
        sealed: Option<Vec<u8>>,
    ) -> KeptSecret {
        let proven = Arc::default();
        let sealed = sealed.map(Arc::from);
        KeptSecret { key_version, form, ends_at, sealed, hmac: None, proven }
    }

    /// Unseals what `client_secret_jwt` needs. Where the root key lacks the version, the secret does
    /// not open.
    pub(in crate::authority) fn unseal(&mut self, root: &RootKey, client: &ClientId) {
        let Some(sealed) = &self.sealed else { return };
        let secret = root.unseal(&label(client), sealed);
        self.hmac = secret.and_then(|secret| hmac_key(&secret));
    }

    /// Whether it opens at all at `now`.
    pub(in crate::authority) fn is_live(&self, now: Timestamp) -> bool {
        self.ends_at.is_none_or(|end| now < end)
    }

    /// The key of `client_secret_jwt`.
    pub(in crate::authority) fn hmac(&self) -> Option<&VerifyingKey> {
        self.hmac.as_ref()
    }

    /// Compares with the fast digest of a given secret.
    pub(in crate::authority) fn opens_fast(&self, given: &SecretBytes<32>) -> Opens {
        let known = match &self.form {
            SecretForm::Digest(digest) => Some(digest),
            SecretForm::Argon2id { .. } => self.proven.get(),
        };
        match known {
            // SecretBytes compares in constant time.
            Some(known) if known == given => Opens::Yes,
            Some(_) => Opens::No,
            None => Opens::AskSlowly,
        }
    }

    /// Computes Argon2id of a given secret, and remembers its fast digest if it is the one.
    pub(in crate::authority) fn opens_slowly(
        &self,
        derive: &DeriveKeys,
        secret: &str,
        fast: &SecretBytes<32>,
    ) -> Result<bool, Error> {
        let SecretForm::Argon2id { salt, hash, memory_kib, passes } = &self.form else {
            return Ok(false);
        };
        let cost = (*memory_kib, *passes);
        let opens = argon2id(derive, self.key_version, salt, secret, cost)? == *hash;
        if opens {
            let _ = self.proven.set(fast.clone());
        }
        Ok(opens)
    }
}

impl PartialEq for KeptSecret {
    fn eq(&self, other: &KeptSecret) -> bool {
        self.key_version == other.key_version
            && self.form == other.form
            && self.ends_at == other.ends_at
            && self.sealed == other.sealed
    }
}

impl Keeping<'_> {
    fn keep(&self, form: SecretForm, secret: &SecretText) -> Result<KeptSecret, Error> {
        let bytes = secret.expose().as_bytes();
        let (mut sealed, mut hmac) = (None, None);
        if self.signs {
            hmac = Some(hmac_key(bytes).ok_or_else(|| {
                let why = "a secret that signs needs 32 bytes (RFC 7518 section 3.2)";
                Error::InvalidClientMetadata(Reason::new(why))
            })?);
            sealed = Some(Arc::from(self.root.seal(&label(self.client), bytes, self.entropy)?));
        }
        let proven = Arc::default();
        Ok(KeptSecret { key_version: self.key_version, form, ends_at: None, sealed, hmac, proven })
    }
}

fn argon2id(
    derive: &DeriveKeys,
    version: u8,
    salt: &[u8; 16],
    secret: &str,
    (memory_kib, passes): (u32, u32),
) -> Result<SecretBytes<32>, Error> {
    let refuse = |error| Error::ServerError(Reason::with("Argon2id cannot be computed", error));
    let pepper = derive.pepper(version).ok_or_else(no_version)?;
    let params = Params::new(memory_kib, passes, 1, Some(32)).map_err(refuse)?;
    let hasher =
        Argon2::new_with_secret(pepper.expose(), Algorithm::Argon2id, Version::V0x13, params)
            .map_err(refuse)?;
    let mut out = zeroize::Zeroizing::new([0; 32]);
    hasher.hash_password_into(secret.as_bytes(), salt, out.as_mut_slice()).map_err(refuse)?;
    Ok(SecretBytes::new(*out))
}

fn hmac_key(secret: &[u8]) -> Option<VerifyingKey> {
    // The kid is never looked at: a client has two secrets at most, and each is tried.
    SigningKey::hmac(Some("client"), secret).ok().map(|key| key.verifying_key().clone())
}

fn label(client: &ClientId) -> String {
    format!("client secret {client}")
}

fn no_version() -> Error {
    Error::InvalidClient(Reason::new("the root key lacks the version of the secret"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;

    type Tested = Result<(), Box<dyn std::error::Error>>;

    #[test]
    fn a_chosen_secret_is_slow_once() -> Tested {
        let root = RootKey::from_bytes(1, [7; 32]);
        let derive = DeriveKeys::new(&root);
        let client = ClientId::new("reports")?;
        let keeping = Keeping {
            derive: &derive,
            root: &root,
            entropy: &SeededEntropy::new(1),
            key_version: 1,
            client: &client,
            signs: false,
        };
        let kept = KeptSecret::chosen(&keeping, &SecretText::new("correct horse"))?;
        let fast = |secret| derive.client_secret(1, &client, secret).ok_or("no version");
        let (right, wrong) = (fast("correct horse")?, fast("correct hors")?);
        assert_eq!(kept.opens_fast(&right), Opens::AskSlowly);
        assert!(!kept.opens_slowly(&derive, "correct hors", &wrong)?);
        assert_eq!(kept.opens_fast(&right), Opens::AskSlowly);
        assert!(kept.opens_slowly(&derive, "correct horse", &right)?);
        assert_eq!(kept.opens_fast(&right), Opens::Yes);
        assert_eq!(kept.opens_fast(&wrong), Opens::No);
        // The directory alone does not say: the key is part of the computation.
        let other = DeriveKeys::new(&RootKey::from_bytes(1, [8; 32]));
        assert!(!kept.opens_slowly(&other, "correct horse", &right)?);
        Ok(())
    }
}
