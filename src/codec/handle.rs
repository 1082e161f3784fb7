//! Opaque handles: the text of a token that says nothing to its holder.
//!
//! `mrt_00D1_<body>`: a prefix by kind, for secret scanners; the organisation, for routing; and a
//! body that carries the token's locator, its 256-bit secret, a MAC and a checksum. One BLAKE3 block
//! gives both the MAC and the key that the token is stored under, so a forgery is refused before
//! any lookup and a genuine handle needs no second hash.
//!
//! ```text
//! body   format 1 | key version 1 | class 1 | bucket 4 | id 8 | secret 32 | mac 8 | crc32 4
//! block  kind 1 | format 1 | key version 1 | class 1 | org 8 | bucket 4 | id 8 | secret 32
//! format 1; 2 and 3 for a token that is bound to a key or a certificate: its thumbprint, 32 bytes,
//!        comes after the secret, in both
//! h = BLAKE3-keyed(subkey of the version, block); digest = h[..16], mac = h[16..24]
//! crc32 over prefix, organisation and the body before it: a scanner needs no key to check it
//! ```
//!
//! # Examples
//! ```
//! use mintage::codec::handle::{HandleBuf, HandleKeys, HandleKind};
//! use mintage::ids::OrgId;
//! use mintage::locator::Locator;
//! use mintage::root_key::RootKey;
//! use mintage::secret::SecretBytes;
//!
//! let keys = HandleKeys::new(&RootKey::from_bytes(1, [7; 32]), OrgId::new("00D1")?)?;
//! let locator = Locator { class: 6, bucket: 29_000_000, id: 42 };
//! let mut out = HandleBuf::new();
//! let digest = keys.mint(HandleKind::Access, locator, &SecretBytes::new([9; 32]), &mut out);
//! let handle = keys.parse(HandleKind::Access, out.as_str())?;
//! assert_eq!((handle.digest, handle.locator), (digest, locator));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;

use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

use super::base64url;
use crate::ids::{ORG_ID_LEN_MAX, OrgId};
use crate::locator::{Digest, Locator};
use crate::root_key::{Purpose, RootKey};
use crate::secret::{SecretBytes, same_bytes};

/// The longest handle, in bytes. A longer text is refused unread.
pub const HANDLE_LEN_MAX: usize = PREFIX_LEN + 1 + ORG_ID_LEN_MAX + 1 + BODY_TEXT_LEN;

const FORMAT: u8 = 1;
const FORMAT_KEY: u8 = 2;
const FORMAT_CERTIFICATE: u8 = 3;
const PREFIX_LEN: usize = 3;
const SECRET_AT: usize = 15;
const MAC_LEN: usize = 8;
const CRC_LEN: usize = 4;
const BODY_LEN: usize = SECRET_AT + 32 + MAC_LEN + CRC_LEN;
const BODY_LEN_MAX: usize = BODY_LEN + 32;
const BODY_TEXT_LEN: usize = base64url::encoded_len(BODY_LEN_MAX);
const ORG_TAG_LEN: usize = 8;
const BLOCK_LEN: usize = 56;
const BLOCK_LEN_MAX: usize = BLOCK_LEN + 32;

/// What a handle stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HandleKind {
    /// An access token, `mat_`.
    Access,
    /// A refresh token, `mrt_`.
    Refresh,
    /// An authorization code, `mac_`.
    Code,
    /// The right to delete a grant, `mdt_`.
    Delete,
}

impl HandleKind {
    const ALL: [HandleKind; 4] =
        [HandleKind::Access, HandleKind::Refresh, HandleKind::Code, HandleKind::Delete];

    /// The text before the first `_`.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            HandleKind::Access => "mat",
            HandleKind::Refresh => "mrt",
            HandleKind::Code => "mac",
            HandleKind::Delete => "mdt",
        }
    }

    const fn tag(self) -> u8 {
        match self {
            HandleKind::Access => 1,
            HandleKind::Refresh => 2,
            HandleKind::Code => 3,
            HandleKind::Delete => 4,
        }
    }
}

/// What a token is bound to: without it the handle is worth nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binding {
    /// A key, by its SHA-256 JWK thumbprint.
    Key([u8; 32]),
    /// A certificate, by its SHA-256 thumbprint.
    Certificate([u8; 32]),
}

impl Binding {
    fn format(this: Option<&Binding>) -> u8 {
        match this {
            None => FORMAT,
            Some(Binding::Key(_)) => FORMAT_KEY,
            Some(Binding::Certificate(_)) => FORMAT_CERTIFICATE,
        }
    }

    fn bytes(this: Option<&Binding>) -> &[u8] {
        match this {
            None => &[],
            Some(Binding::Key(thumbprint) | Binding::Certificate(thumbprint)) => thumbprint,
        }
    }
}

/// Why a text is no handle of this authority. For logs: a client is told "invalid" whatever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandleError {
    /// It is longer than [`HANDLE_LEN_MAX`].
    TooLong,
    /// It has not the form of a handle.
    Malformed,
    /// It is a handle of another kind than asked for.
    WrongKind,
    /// It is a handle of another organisation.
    WrongOrg,
    /// Its checksum is wrong: mistyped or cut.
    BadChecksum,
    /// The root key lacks the version that it was made under.
    UnknownKeyVersion,
    /// Its MAC is wrong: nobody with the root key made it.
    Forged,
}

impl fmt::Display for HandleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HandleError::TooLong => "the handle is too long",
            HandleError::Malformed => "the text is not a handle",
            HandleError::WrongKind => "the handle is of another kind",
            HandleError::WrongOrg => "the handle is of another organisation",
            HandleError::BadChecksum => "the checksum of the handle is wrong",
            HandleError::UnknownKeyVersion => "the root key lacks the version of the handle",
            HandleError::Forged => "the handle is forged",
        })
    }
}

impl std::error::Error for HandleError {}

/// A genuine handle, taken apart.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Handle {
    /// What it stands for.
    pub kind: HandleKind,
    /// The root key version that it was made under.
    pub key_version: u8,
    /// Where its token is.
    pub locator: Locator,
    /// What its token is stored under.
    pub digest: Digest,
    /// Its secret part.
    pub secret: SecretBytes<32>,
    /// What its token is bound to.
    pub binding: Option<Binding>,
}

/// Room for the text of one handle. Wiped when dropped; `Debug` shows nothing.
#[derive(Clone, ZeroizeOnDrop)]
pub struct HandleBuf {
    text: [u8; HANDLE_LEN_MAX],
    len: usize,
}

impl HandleBuf {
    /// An empty buffer.
    #[must_use]
    pub const fn new() -> HandleBuf {
        HandleBuf { text: [0; HANDLE_LEN_MAX], len: 0 }
    }

    /// The handle that was minted last, `""` before that. Keep it out of logs.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.text.get(..self.len).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or("")
    }

    fn push(&mut self, text: &[u8]) {
        if let Some(room) = self.text.get_mut(self.len..self.len + text.len()) {
            room.copy_from_slice(text);
            self.len += text.len();
        }
    }

    fn push_base64url(&mut self, bytes: &[u8]) {
        let room = self.text.get_mut(self.len..).unwrap_or(&mut []);
        self.len += base64url::encode_into(bytes, room).unwrap_or(0);
    }
}

impl Default for HandleBuf {
    fn default() -> HandleBuf {
        HandleBuf::new()
    }
}

impl fmt::Debug for HandleBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandleBuf([redacted])")
    }
}

/// Makes and checks the handles of one organisation.
#[derive(Clone, Debug)]
pub struct HandleKeys {
    org: OrgId,
    current: VersionKey,
    older: Vec<VersionKey>,
}

/// The handle subkey of one root key version, with the organisation already hashed under it.
#[derive(Clone, Debug)]
struct VersionKey {
    version: u8,
    subkey: SecretBytes<32>,
    org_tag: [u8; ORG_TAG_LEN],
}

impl HandleKeys {
    /// The keys of `org` under every version of `root`.
    ///
    /// # Errors
    /// [`HandleError::UnknownKeyVersion`] when `root` has no version at all.
    pub fn new(root: &RootKey, org: OrgId) -> Result<HandleKeys, HandleError> {
        let of = |version| {
            let subkey = root.subkey(version, Purpose::Handle)?;
            let hash = blake3::keyed_hash(subkey.expose(), org.as_str().as_bytes());
            let org_tag = *hash.as_bytes().first_chunk()?;
            Some(VersionKey { version, subkey, org_tag })
        };
        let current = of(root.current()).ok_or(HandleError::UnknownKeyVersion)?;
        let older = root.versions().filter(|v| *v != current.version).filter_map(of).collect();
        Ok(HandleKeys { org, current, older })
    }

    /// The organisation.
    #[must_use]
    pub fn org(&self) -> &OrgId {
        &self.org
    }

    /// The version under which new handles are made.
    #[must_use]
    pub fn current_version(&self) -> u8 {
        self.current.version
    }

    /// Writes the handle of these parts to `out` under the current version and returns the digest
    /// that its token is stored under.
    pub fn mint(
        &self,
        kind: HandleKind,
        locator: Locator,
        secret: &SecretBytes<32>,
        out: &mut HandleBuf,
    ) -> Digest {
        self.write(&self.current, kind, locator, secret, None, out)
    }

    /// As [`HandleKeys::mint`], for a token that may be bound, and under a version that need not be
    /// the current one: a retried refresh gives the bytes that it gave first, though the root key was
    /// rotated in between.
    ///
    /// # Errors
    /// [`HandleError::UnknownKeyVersion`]; `out` is unchanged then.
    pub fn mint_with_version(
        &self,
        version: u8,
        kind: HandleKind,
        locator: Locator,
        secret: &SecretBytes<32>,
        binding: Option<&Binding>,
        out: &mut HandleBuf,
    ) -> Result<Digest, HandleError> {
        let key = self.key(version).ok_or(HandleError::UnknownKeyVersion)?;
        Ok(self.write(key, kind, locator, secret, binding, out))
    }

    /// Takes a handle apart; `kind` is the one that is wanted, or `None` for any. A handle that is
    /// returned was made with this root key for this organisation; whether its token lives is the
    /// store's to say.
    ///
    /// # Errors
    /// [`HandleError`], with the first thing that is wrong.
    pub fn parse(
        &self,
        kind: impl Into<Option<HandleKind>>,
        text: &str,
    ) -> Result<Handle, HandleError> {
        if text.len() > HANDLE_LEN_MAX {
            return Err(HandleError::TooLong);
        }
        let (prefix, rest) = text.split_once('_').ok_or(HandleError::Malformed)?;
        let (org, body_text) = rest.split_once('_').ok_or(HandleError::Malformed)?;
        let found = HandleKind::ALL.into_iter().find(|kind| kind.prefix() == prefix);
        let found = found.ok_or(HandleError::Malformed)?;
        if kind.into().is_some_and(|wanted| wanted != found) {
            return Err(HandleError::WrongKind);
        }
        if org != self.org.as_str() {
            return Err(HandleError::WrongOrg);
        }
        let mut body = Zeroizing::new([0; BODY_LEN_MAX]);
        let decoded = base64url::decode_into(body_text.as_bytes(), &mut *body);
        let body = decoded.map_err(|_| HandleError::Malformed)?;
        self.open(found, body)
    }

    fn open(&self, kind: HandleKind, body: &[u8]) -> Result<Handle, HandleError> {
        let mut fields = Fields(body);
        let [format, version, class] = fields.take().ok_or(HandleError::Malformed)?;
        let bucket = fields.take().map(u32::from_be_bytes).ok_or(HandleError::Malformed)?;
        let id = fields.take().map(u64::from_be_bytes).ok_or(HandleError::Malformed)?;
        let secret = fields.take().map(SecretBytes::new).ok_or(HandleError::Malformed)?;
        let binding = match format {
            FORMAT => None,
            FORMAT_KEY => Some(Binding::Key(fields.take().ok_or(HandleError::Malformed)?)),
            FORMAT_CERTIFICATE => {
                Some(Binding::Certificate(fields.take().ok_or(HandleError::Malformed)?))
            }
            _ => return Err(HandleError::Malformed),
        };
        let mac: [u8; MAC_LEN] = fields.take().ok_or(HandleError::Malformed)?;
        let crc = fields.take().map(u32::from_be_bytes).ok_or(HandleError::Malformed)?;
        if !fields.0.is_empty() {
            return Err(HandleError::Malformed);
        }
        if crc != self.checksum(kind, body) {
            return Err(HandleError::BadChecksum);
        }
        let key = self.key(version).ok_or(HandleError::UnknownKeyVersion)?;
        let locator = Locator { class, bucket, id };
        let (digest, genuine) = key.hash(kind, locator, &secret, binding.as_ref());
        if !same_bytes(&mac, &genuine) {
            return Err(HandleError::Forged);
        }
        Ok(Handle { kind, key_version: version, locator, digest, secret, binding })
    }

    fn write(
        &self,
        key: &VersionKey,
        kind: HandleKind,
        locator: Locator,
        secret: &SecretBytes<32>,
        binding: Option<&Binding>,
        out: &mut HandleBuf,
    ) -> Digest {
        let (digest, mac) = key.hash(kind, locator, secret, binding);
        let mut body = Zeroizing::new([0; BODY_LEN_MAX]);
        let bound = Binding::bytes(binding);
        lay_out(
            &mut *body,
            &[
                &[Binding::format(binding), key.version, locator.class],
                &locator.bucket.to_be_bytes(),
                &locator.id.to_be_bytes(),
                secret.expose(),
                bound,
                &mac,
            ],
        );
        let body = body.get_mut(..BODY_LEN + bound.len()).unwrap_or(&mut []);
        let crc = self.checksum(kind, body).to_be_bytes();
        if let Some(last) = body.last_chunk_mut() {
            *last = crc;
        }
        out.len = 0;
        out.push(kind.prefix().as_bytes());
        out.push(b"_");
        out.push(self.org.as_str().as_bytes());
        out.push(b"_");
        out.push_base64url(body);
        digest
    }

    fn checksum(&self, kind: HandleKind, body: &[u8]) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        crc.update(kind.prefix().as_bytes());
        crc.update(b"_");
        crc.update(self.org.as_str().as_bytes());
        crc.update(b"_");
        crc.update(body.split_at(body.len().saturating_sub(CRC_LEN)).0);
        crc.finalize()
    }

    fn key(&self, version: u8) -> Option<&VersionKey> {
        if self.current.version == version {
            return Some(&self.current);
        }
        self.older.iter().find(|key| key.version == version)
    }
}

impl VersionKey {
    fn hash(
        &self,
        kind: HandleKind,
        locator: Locator,
        secret: &SecretBytes<32>,
        binding: Option<&Binding>,
    ) -> (Digest, [u8; MAC_LEN]) {
        let mut block = Zeroizing::new([0; BLOCK_LEN_MAX]);
        let bound = Binding::bytes(binding);
        lay_out(
            &mut *block,
            &[
                &[kind.tag(), Binding::format(binding), self.version, locator.class],
                &self.org_tag,
                &locator.bucket.to_be_bytes(),
                &locator.id.to_be_bytes(),
                secret.expose(),
                bound,
            ],
        );
        let block = block.get(..BLOCK_LEN + bound.len()).unwrap_or(&[]);
        let mut hash: [u8; 32] = blake3::keyed_hash(self.subkey.expose(), block).into();
        let mut fields = Fields(&hash);
        let digest = Digest(fields.take().unwrap_or_default());
        let mac = fields.take().unwrap_or_default();
        hash.zeroize();
        (digest, mac)
    }
}

/// Copies `parts` one after the other; what is left of `out` stays as it is.
fn lay_out(out: &mut [u8], parts: &[&[u8]]) {
    let mut rest = out;
    for part in parts {
        let Some((room, after)) = std::mem::take(&mut rest).split_at_mut_checked(part.len()) else {
            return;
        };
        room.copy_from_slice(part);
        rest = after;
    }
}

/// Takes fixed-size fields off the front of some bytes.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCATOR: Locator = Locator { class: 6, bucket: 0x0102_0304, id: 0x1112_1314_1516_1718 };

    fn keys(org: &str) -> Result<HandleKeys, Box<dyn std::error::Error>> {
        let root = RootKey::from_bytes(1, [1; 32]).with_version(2, [2; 32])?;
        Ok(HandleKeys::new(&root, OrgId::new(org)?)?)
    }

    #[test]
    fn a_minted_handle_parses_to_its_parts() -> Result<(), Box<dyn std::error::Error>> {
        let keys = keys("00D1")?;
        let secret = SecretBytes::new([7; 32]);
        let mut out = HandleBuf::new();
        for kind in HandleKind::ALL {
            for version in [1, 2] {
                let digest =
                    keys.mint_with_version(version, kind, LOCATOR, &secret, None, &mut out)?;
                assert!(out.as_str().starts_with(&format!("{}_00D1_", kind.prefix())));
                let handle = keys.parse(kind, out.as_str())?;
                assert_eq!((handle.kind, handle.key_version), (kind, version));
                assert_eq!((handle.locator, handle.digest), (LOCATOR, digest));
                assert_eq!(handle.secret, secret);
                assert_eq!(keys.parse(None, out.as_str())?.digest, digest);
            }
        }
        let current = keys.mint(HandleKind::Access, LOCATOR, &secret, &mut out);
        assert_eq!(keys.parse(None, out.as_str())?.key_version, 2);
        let older =
            keys.mint_with_version(1, HandleKind::Access, LOCATOR, &secret, None, &mut out)?;
        assert_ne!(current, older);
        let unknown =
            keys.mint_with_version(3, HandleKind::Access, LOCATOR, &secret, None, &mut out);
        assert_eq!(unknown, Err(HandleError::UnknownKeyVersion));
        Ok(())
    }

    #[test]
    fn the_longest_organisation_fits() -> Result<(), Box<dyn std::error::Error>> {
        let keys = keys("00D000000000001EAA")?;
        let mut out = HandleBuf::new();
        let (secret, bound) = (SecretBytes::new([0xFF; 32]), Binding::Key([0xFF; 32]));
        keys.mint_with_version(2, HandleKind::Code, LOCATOR, &secret, Some(&bound), &mut out)?;
        assert_eq!(out.as_str().len(), HANDLE_LEN_MAX);
        assert!(keys.parse(HandleKind::Code, out.as_str()).is_ok());
        let longer = format!("{}A", out.as_str());
        assert_eq!(keys.parse(None, &longer).err(), Some(HandleError::TooLong));
        Ok(())
    }

    #[test]
    fn every_changed_character_is_refused() -> Result<(), Box<dyn std::error::Error>> {
        let keys = keys("00D1")?;
        let mut out = HandleBuf::new();
        let secret = SecretBytes::new([9; 32]);
        for binding in [None, Some(Binding::Key([1; 32])), Some(Binding::Certificate([1; 32]))] {
            let kind = HandleKind::Refresh;
            keys.mint_with_version(2, kind, LOCATOR, &secret, binding.as_ref(), &mut out)?;
            let genuine = out.as_str().to_owned();
            for at in 0..genuine.len() {
                assert!(keys.parse(None, &genuine[..at]).is_err());
                for byte in b"-0189AMZ_amz=+/ \n" {
                    let mut changed = genuine.clone().into_bytes();
                    if changed[at] != *byte {
                        changed[at] = *byte;
                        let changed = String::from_utf8(changed)?;
                        assert!(keys.parse(None, &changed).is_err(), "{changed}");
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn what_a_token_is_bound_to_is_part_of_it() -> Result<(), Box<dyn std::error::Error>> {
        let keys = keys("00D1")?;
        let (mut out, secret) = (HandleBuf::new(), SecretBytes::new([9; 32]));
        let mut digests = Vec::new();
        for binding in [
            None,
            Some(Binding::Key([1; 32])),
            Some(Binding::Key([2; 32])),
            Some(Binding::Certificate([1; 32])),
        ] {
            let kind = HandleKind::Access;
            let bound = binding.as_ref();
            let digest = keys.mint_with_version(1, kind, LOCATOR, &secret, bound, &mut out)?;
            let handle = keys.parse(kind, out.as_str())?;
            assert_eq!((handle.binding, handle.digest), (binding, digest));
            assert!(!digests.contains(&digest));
            digests.push(digest);
        }
        Ok(())
    }

    #[test]
    fn refusals_say_why() -> Result<(), Box<dyn std::error::Error>> {
        let keys_here = keys("00D1")?;
        let mut out = HandleBuf::new();
        let secret = SecretBytes::new([9; 32]);
        keys_here.mint(HandleKind::Access, LOCATOR, &secret, &mut out);
        let refused = |kind, text: &str| keys_here.parse(kind, text).err();
        let wrong_kind = refused(Some(HandleKind::Refresh), out.as_str());
        assert_eq!(wrong_kind, Some(HandleError::WrongKind));
        assert_eq!(refused(None, ""), Some(HandleError::Malformed));
        assert_eq!(refused(None, "mat_00D1_"), Some(HandleError::Malformed));
        assert_eq!(refused(None, "mxt_00D1_AAAA"), Some(HandleError::Malformed));
        let mistyped = out.as_str().replace("_00D1_AQ", "_00D1_AR");
        assert_eq!(refused(None, &mistyped), Some(HandleError::BadChecksum));
        keys("00D2")?.mint(HandleKind::Access, LOCATOR, &secret, &mut out);
        assert_eq!(refused(None, out.as_str()), Some(HandleError::WrongOrg));
        let org = OrgId::new("00D1")?;
        for (version, bytes, why) in
            [(2, [3; 32], HandleError::Forged), (9, [2; 32], HandleError::UnknownKeyVersion)]
        {
            let foreign = HandleKeys::new(&RootKey::from_bytes(version, bytes), org.clone())?;
            foreign.mint(HandleKind::Access, LOCATOR, &secret, &mut out);
            assert_eq!(refused(None, out.as_str()), Some(why));
        }
        Ok(())
    }

    #[test]
    fn the_text_never_changes_between_releases() -> Result<(), Box<dyn std::error::Error>> {
        let mut out = HandleBuf::new();
        let secret = SecretBytes::new([7; 32]);
        let digest = keys("00D1")?.mint(HandleKind::Access, LOCATOR, &secret, &mut out);
        let text = "mat_00D1_AQIGAQIDBBESExQVFhcYBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcLyUAlNpYK87\
                    n2fOw";
        assert_eq!(out.as_str(), text);
        assert_eq!(format!("{digest:?}"), "Digest(6f3f587dd69680e5dcb521d3128e6122)");
        Ok(())
    }
}
