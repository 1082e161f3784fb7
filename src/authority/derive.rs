//! What is derived instead of stored: the tokens that a retry must get again, byte for byte, though
//! only their digests were kept.
//!
//! Every input has a fixed width and every use a domain of its own, so that no two ever meet. The
//! caller's secret is among the inputs of a refresh: root key and data directory together do not
//! give the successor.

use super::confirmation::Confirmation;
use super::device::USER_CODE_LEN;
use crate::ids::ClientId;
use crate::locator::{Digest, Locator};
use crate::root_key::{Purpose, RootKey};
use crate::secret::SecretBytes;
use crate::store::{CodeUse, Pair};
use crate::time::Timestamp;

/// Bytes of a JWT's identifier (`jti`).
pub(super) const JTI_LEN: usize = 16;

const SUCCESSOR: u8 = 1;
const ACCESS: u8 = 2;
const JTI: u8 = 3;
const DELETE: u8 = 4;
const FINGERPRINT: u8 = 5;
const USER_CODE: u8 = 6;
const WAITING: u8 = 7;

/// Identifiers that are derived begin with this bit, and those that are drawn never get so far.
const DERIVED: u64 = 1 << 63;
/// Set in the identifier of what was decided about the one without it.
const DECIDED: u64 = 1 << 62;
/// The bits of a derived identifier that are hashed: more than a user code has.
const HASHED: u64 = (1 << 46) - 1;

const PAIR_CONTEXT: &str = "mintage 2026-11 digest of a pair";
const REQUEST_CONTEXT: &str = "mintage 2026-11 digest of a request";
const ASSERTION_CONTEXT: &str = "mintage 2026-11 digest of an assertion";
const DECISION_CONTEXT: &str = "mintage 2026-11 decision about a device";
const JTI_CONTEXT: &str = "mintage 2026-11 digest of a jti";

/// The derivation subkeys of every version of a root key.
#[derive(Clone, Debug)]
pub(super) struct DeriveKeys {
    versions: Vec<VersionKeys>,
}

#[derive(Clone, Debug)]
struct VersionKeys {
    version: u8,
    refresh: SecretBytes<32>,
    reuse: SecretBytes<32>,
    birth: SecretBytes<32>,
    client_secret: SecretBytes<32>,
}

/// Everything that the tokens born by one redeem follow from.
#[derive(Clone, Copy)]
pub(super) struct Redeemed<'a> {
    pub(super) family: u64,
    /// Generation of the refresh token that is in force afterwards.
    pub(super) generation: u32,
    pub(super) salt: &'a [u8; 16],
    pub(super) request: &'a [u8; 16],
    /// Secret of the refresh token that was presented.
    pub(super) presented: &'a SecretBytes<32>,
}

/// Everything that a token under the pair policy `reuse` follows from.
#[derive(Clone, Copy)]
pub(super) struct Reused<'a> {
    pub(super) pair: &'a Pair,
    pub(super) salt: &'a [u8; 16],
    pub(super) request: &'a [u8; 16],
    pub(super) locator: Option<Locator>,
    pub(super) issued_at: Timestamp,
    pub(super) expires_at: Timestamp,
}

impl DeriveKeys {
    pub(super) fn new(root: &RootKey) -> DeriveKeys {
        let of = |version| {
            Some(VersionKeys {
                version,
                refresh: root.subkey(version, Purpose::Refresh)?,
                reuse: root.subkey(version, Purpose::Reuse)?,
                birth: root.subkey(version, Purpose::Birth)?,
                client_secret: root.subkey(version, Purpose::ClientSecret)?,
            })
        };
        DeriveKeys { versions: root.versions().filter_map(of).collect() }
    }

    /// The refresh token that follows the presented one.
    pub(super) fn successor(&self, version: u8, from: &Redeemed<'_>) -> Option<SecretBytes<32>> {
        self.of_redeem(version, SUCCESSOR, from)
    }

    /// The opaque access token born with it.
    pub(super) fn access(&self, version: u8, from: &Redeemed<'_>) -> Option<SecretBytes<32>> {
        self.of_redeem(version, ACCESS, from)
    }

    /// The identifier of the JWT born with it.
    pub(super) fn jti(&self, version: u8, from: &Redeemed<'_>) -> Option<[u8; JTI_LEN]> {
        self.of_redeem(version, JTI, from).map(|bytes| jti_of(&bytes))
    }

    /// The opaque access token of a pair that gets the same one again.
    pub(super) fn reused(&self, version: u8, from: &Reused<'_>) -> Option<SecretBytes<32>> {
        self.of_pair(version, ACCESS, from)
    }

    /// The identifier of the JWT of a pair that gets the same one again.
    pub(super) fn reused_jti(&self, version: u8, from: &Reused<'_>) -> Option<[u8; JTI_LEN]> {
        self.of_pair(version, JTI, from).map(|bytes| jti_of(&bytes))
    }

    /// The secret of the handle that deletes a family.
    pub(super) fn delete(&self, version: u8, family: u64) -> Option<SecretBytes<32>> {
        let mut hasher = blake3::Hasher::new_keyed(self.keys(version)?.refresh.expose());
        hasher.update(&[DELETE]);
        hasher.update(&family.to_be_bytes());
        Some(SecretBytes::new(*hasher.finalize().as_bytes()))
    }

    /// Where the device waits that shows this user code.
    pub(super) fn device(&self, version: u8, letters: &[u8; USER_CODE_LEN]) -> Option<CodeUse> {
        let mut hasher = blake3::Hasher::new_keyed(self.keys(version)?.refresh.expose());
        hasher.update(&[USER_CODE]);
        hasher.update(letters);
        let hash = u128::from_be_bytes(first_16(&hasher.finalize()));
        // 46 bits of it.
        #[allow(clippy::cast_possible_truncation)]
        self.waiting(version, DERIVED | (hash as u64 & HASHED))
    }

    /// Where the device waits that has a device code with this identifier.
    pub(super) fn waiting(&self, version: u8, id: u64) -> Option<CodeUse> {
        let mut hasher = blake3::Hasher::new_keyed(self.keys(version)?.refresh.expose());
        hasher.update(&[WAITING]);
        hasher.update(&id.to_be_bytes());
        Some(CodeUse { id, digest: Digest(first_16(&hasher.finalize())) })
    }

    /// Where it is noted what was decided about the device that waits there.
    pub(super) fn decision(waiting: CodeUse) -> CodeUse {
        let mut hasher = blake3::Hasher::new_derive_key(DECISION_CONTEXT);
        hasher.update(&waiting.id.to_be_bytes());
        hasher.update(&waiting.digest.0);
        CodeUse { id: waiting.id | DECIDED, digest: Digest(first_16(&hasher.finalize())) }
    }

    /// 64 hexadecimal digits that tell a family from others and say nothing of it.
    pub(super) fn fingerprint(&self, version: u8, family: u64) -> Option<String> {
        let mut hasher = blake3::Hasher::new_keyed(self.keys(version)?.birth.expose());
        hasher.update(&[FINGERPRINT]);
        hasher.update(&family.to_be_bytes());
        Some(hasher.finalize().to_hex().to_string())
    }

    /// The bytes that hide the birth of the JWT with this `jti`.
    pub(super) fn birth_stream(&self, version: u8, jti: &str) -> Option<[u8; 32]> {
        let key = &self.keys(version)?.birth;
        Some(*blake3::keyed_hash(key.expose(), jti.as_bytes()).as_bytes())
    }

    /// What a generated client secret is kept as.
    pub(super) fn client_secret(
        &self,
        version: u8,
        client: &ClientId,
        secret: &str,
    ) -> Option<SecretBytes<32>> {
        let key = &self.keys(version)?.client_secret;
        let mut hasher = blake3::Hasher::new_keyed(key.expose());
        update_prefixed(&mut hasher, client.as_str());
        hasher.update(secret.as_bytes());
        Some(SecretBytes::new(*hasher.finalize().as_bytes()))
    }

    /// The key that chosen secrets are hashed with. No client secret's input begins so: that is a
    /// length of at most 255 in 8 bytes.
    pub(super) fn pepper(&self, version: u8) -> Option<SecretBytes<32>> {
        let key = &self.keys(version)?.client_secret;
        let pepper = blake3::keyed_hash(key.expose(), b"pepper of chosen secrets");
        Some(SecretBytes::new(*pepper.as_bytes()))
    }

    /// What an assertion's `jti` is remembered under, and its issuer.
    pub(super) fn assertion_digests(issuer: &str, jti: &str) -> (Digest, Digest) {
        let digest = |parts: &[&str]| {
            let mut hasher = blake3::Hasher::new_derive_key(ASSERTION_CONTEXT);
            for part in parts {
                update_prefixed(&mut hasher, part);
            }
            Digest(first_16(&hasher.finalize()))
        };
        (digest(&[issuer]), digest(&[issuer, jti]))
    }

    fn of_redeem(&self, version: u8, use_: u8, from: &Redeemed<'_>) -> Option<SecretBytes<32>> {
        let mut hasher = blake3::Hasher::new_keyed(self.keys(version)?.refresh.expose());
        hasher.update(&[use_]);
        hasher.update(&from.family.to_be_bytes());
        hasher.update(&from.generation.to_be_bytes());
        hasher.update(from.salt);
        hasher.update(from.request);
        hasher.update(from.presented.expose());
        Some(SecretBytes::new(*hasher.finalize().as_bytes()))
    }

    fn of_pair(&self, version: u8, use_: u8, from: &Reused<'_>) -> Option<SecretBytes<32>> {
        let locator = from.locator.unwrap_or(Locator { class: 0, bucket: 0, id: 0 });
        let mut hasher = blake3::Hasher::new_keyed(self.keys(version)?.reuse.expose());
        hasher.update(&[use_, locator.class]);
        hasher.update(&locator.bucket.to_be_bytes());
        hasher.update(&locator.id.to_be_bytes());
        hasher.update(from.salt);
        hasher.update(from.request);
        hasher.update(&from.issued_at.0.to_be_bytes());
        hasher.update(&from.expires_at.0.to_be_bytes());
        hasher.update(&pair_digest(from.pair));
        Some(SecretBytes::new(*hasher.finalize().as_bytes()))
    }

    fn keys(&self, version: u8) -> Option<&VersionKeys> {
        self.versions.iter().find(|keys| keys.version == version)
    }
}

/// What makes two requests the same for the retry rule and for `reuse`.
pub(super) fn request_digest(
    client: &ClientId,
    scope: &str,
    audience: &str,
    sender: Option<Confirmation>,
) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key(REQUEST_CONTEXT);
    for part in [client.as_str(), scope, audience] {
        update_prefixed(&mut hasher, part);
    }
    if let Some(sender) = sender {
        update_prefixed(&mut hasher, sender.name());
        update_prefixed(&mut hasher, &sender.value());
    }
    first_16(&hasher.finalize())
}

/// What a JWT's own revocation is stored under.
pub(super) fn jti_digest(jti: &str) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key(JTI_CONTEXT);
    hasher.update(jti.as_bytes());
    Digest(first_16(&hasher.finalize()))
}

fn pair_digest(pair: &Pair) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(PAIR_CONTEXT);
    update_prefixed(&mut hasher, pair.client.as_str());
    update_prefixed(&mut hasher, pair.subject.as_str());
    update_prefixed(&mut hasher, pair.device.as_ref().map_or("", |device| device.as_str()));
    *hasher.finalize().as_bytes()
}

fn update_prefixed(hasher: &mut blake3::Hasher, part: &str) {
    hasher.update(&(part.len() as u64).to_be_bytes());
    hasher.update(part.as_bytes());
}

fn first_16(hash: &blake3::Hash) -> [u8; 16] {
    let mut out = [0; 16];
    for (to, from) in out.iter_mut().zip(hash.as_bytes()) {
        *to = *from;
    }
    out
}

fn jti_of(bytes: &SecretBytes<32>) -> [u8; JTI_LEN] {
    let mut out = [0; JTI_LEN];
    for (to, from) in out.iter_mut().zip(bytes.expose()) {
        *to = *from;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: [u8; 16] = [1; 16];
    const REQUEST: [u8; 16] = [2; 16];

    fn keys() -> Result<DeriveKeys, Box<dyn std::error::Error>> {
        Ok(DeriveKeys::new(&RootKey::from_bytes(1, [1; 32]).with_version(2, [2; 32])?))
    }

    #[test]
    fn every_input_of_a_redeem_counts() -> Result<(), Box<dyn std::error::Error>> {
        let keys = keys()?;
        let presented = SecretBytes::new([3; 32]);
        let base = Redeemed {
            family: 7,
            generation: 2,
            salt: &SALT,
            request: &REQUEST,
            presented: &presented,
        };
        let first = keys.successor(1, &base);
        assert!(first.is_some());
        assert_eq!(first, keys.successor(1, &base));
        let other = SecretBytes::new([4; 32]);
        let changed = [
            Redeemed { family: 8, ..base },
            Redeemed { generation: 3, ..base },
            Redeemed { salt: &REQUEST, ..base },
            Redeemed { request: &SALT, ..base },
            Redeemed { presented: &other, ..base },
        ];
        for changed in &changed {
            assert_ne!(first, keys.successor(1, changed));
        }
        assert_ne!(first, keys.successor(2, &base));
        assert_ne!(first, keys.access(1, &base));
        assert_eq!(keys.successor(3, &base), None);
        let jti = keys.jti(1, &base).ok_or("no jti")?;
        assert!(first.is_some_and(|secret| !secret.expose().starts_with(&jti)));
        Ok(())
    }

    #[test]
    fn parts_of_a_request_do_not_run_together() -> Result<(), Box<dyn std::error::Error>> {
        let client = ClientId::new("a")?;
        let longer = ClientId::new("ab")?;
        let digest = |client, scope, audience| request_digest(client, scope, audience, None);
        assert_ne!(digest(&client, "bc", ""), digest(&longer, "c", ""));
        assert_ne!(digest(&client, "b", ""), digest(&client, "", "b"));
        let senders = [
            None,
            Some(Confirmation::Key([1; 32])),
            Some(Confirmation::Key([2; 32])),
            Some(Confirmation::Certificate([1; 32])),
        ];
        let digests = senders.map(|sender| request_digest(&client, "", "", sender));
        for (n, digest) in digests.iter().enumerate() {
            assert!(!digests[n + 1..].contains(digest));
        }
        Ok(())
    }

    #[test]
    fn a_client_secret_is_kept_per_client_and_to_its_last_byte()
    -> Result<(), Box<dyn std::error::Error>> {
        let keys = keys()?;
        let (a, b) = (ClientId::new("a")?, ClientId::new("b")?);
        let long = "x".repeat(1_023);
        let kept = keys.client_secret(1, &a, &format!("{long}1"));
        assert_eq!(kept, keys.client_secret(1, &a, &format!("{long}1")));
        assert_ne!(kept, keys.client_secret(1, &a, &format!("{long}2")));
        assert_ne!(kept, keys.client_secret(1, &b, &format!("{long}1")));
        Ok(())
    }
}
