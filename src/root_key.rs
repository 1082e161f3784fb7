//! The root key: the one secret that is never in the data directory, and the subkeys it gives.
//!
//! Losing it makes every token dead and every sealed signing key unreadable; whoever has it and the
//! data directory can mint tokens. It has versions: the newest serves new births, older ones keep
//! what was born under them valid.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use ring::aead;
use zeroize::Zeroizing;

use crate::entropy::{Entropy, EntropyError, SystemEntropy, random};
use crate::secret::SecretBytes;

/// The most versions that one root key may hold.
pub const VERSIONS_MAX: usize = 16;
/// What sealing adds to a text: version, nonce and tag, in bytes.
pub const SEAL_OVERHEAD: usize = 1 + aead::NONCE_LEN + 16;

const FILE_LEN_MAX: u64 = 16 * 1024;
const LINE_TAG: &str = "mintage-root-key";

/// What a subkey is for. Every purpose has a context of its own, so that no two ever meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// Digest and MAC of opaque handles.
    Handle,
    /// Derivation of refresh tokens and of what is born with them.
    Refresh,
    /// Derivation of tokens under the pair policy `reuse`.
    Reuse,
    /// The private claim that carries family and birth in a JWT.
    Birth,
    /// Digests of generated client secrets.
    ClientSecret,
    /// Sealing of signing keys and other secrets at rest.
    Seal,
}

impl Purpose {
    const fn context(self) -> &'static str {
        match self {
            Purpose::Handle => "mintage 2026-11 opaque handle digest and mac",
            Purpose::Refresh => "mintage 2026-11 refresh token derivation",
            Purpose::Reuse => "mintage 2026-11 reused token derivation",
            Purpose::Birth => "mintage 2026-11 birth claim of a jwt",
            Purpose::ClientSecret => "mintage 2026-11 client secret digest",
            Purpose::Seal => "mintage 2026-11 sealing at rest",
        }
    }
}

/// Why there is no usable root key.
#[derive(Debug)]
#[non_exhaustive]
pub enum RootKeyError {
    /// The key file could not be read or written.
    Io(PathBuf, io::Error),
    /// The key file is readable by others than its owner (mode in octal); `chmod 600` it.
    TooOpen(PathBuf, u32),
    /// The key file has a line that is no key.
    Malformed(PathBuf),
    /// Two keys claim one version, or there are none, or more than [`VERSIONS_MAX`].
    BadVersions,
    /// The source of randomness failed.
    Entropy(EntropyError),
    /// A host's key service failed.
    Provider(Box<dyn std::error::Error + Send + Sync>),
}

impl fmt::Display for RootKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RootKeyError::Io(path, _) => {
                write!(f, "the root key file {} cannot be used", path.display())
            }
            RootKeyError::TooOpen(path, mode) => write!(
                f,
                "the root key file {} has mode {mode:03o}; run chmod 600 on it",
                path.display()
            ),
            RootKeyError::Malformed(path) => {
                write!(f, "{} is not a root key file; restore it from its copy", path.display())
            }
            RootKeyError::BadVersions => {
                write!(f, "a root key needs 1 to {VERSIONS_MAX} versions, each number once")
            }
            RootKeyError::Entropy(_) => f.write_str("no root key could be drawn"),
            RootKeyError::Provider(_) => f.write_str("the key service gave no root key"),
        }
    }
}

impl std::error::Error for RootKeyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RootKeyError::Io(_, error) => Some(error),
            RootKeyError::Entropy(error) => Some(error),
            RootKeyError::Provider(error) => Some(error.as_ref()),
            _ => None,
        }
    }
}

/// A host's key service (KMS, HSM, secret store) that hands the root key over at `open`.
pub trait RootKeyProvider {
    /// Every version that is still needed, in any order.
    ///
    /// # Errors
    /// Whatever the service says; `open` then refuses.
    fn versions(
        &self,
    ) -> Result<Vec<(u8, SecretBytes<32>)>, Box<dyn std::error::Error + Send + Sync>>;
}

/// The root key with all its versions. Cloning copies the secret.
#[derive(Clone)]
pub struct RootKey {
    /// Sorted by version, never empty.
    versions: Vec<(u8, SecretBytes<32>)>,
    /// Where a key drawn just now goes once a new store is made with it.
    unsaved: Option<PathBuf>,
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<u8> = self.versions.iter().map(|(v, _)| *v).collect();
        write!(f, "RootKey(versions {numbers:?}, [redacted])")
    }
}

impl RootKey {
    /// Reads the key file at `path`. If there is none, draws a new key, which [`RootKey::save`]
    /// writes (mode 0600) as soon as a *new* store is made with it; an existing store refuses it.
    /// The file belongs beside the data directory, never inside it.
    ///
    /// # Errors
    /// [`RootKeyError`] when the file cannot be read, is open to others, or is no key file.
    pub fn from_file(path: impl AsRef<Path>) -> Result<RootKey, RootKeyError> {
        let path = path.as_ref();
        match File::open(path) {
            Ok(file) => read_file(path, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = random::<32>(&SystemEntropy::new()).map_err(RootKeyError::Entropy)?;
                Ok(RootKey {
                    versions: vec![(1, SecretBytes::new(key))],
                    unsaved: Some(path.to_owned()),
                })
            }
            Err(error) => Err(RootKeyError::Io(path.to_owned(), error)),
        }
    }

    /// A key of one version from bytes that the host keeps.
    #[must_use]
    pub fn from_bytes(version: u8, bytes: [u8; 32]) -> RootKey {
        RootKey { versions: vec![(version, SecretBytes::new(bytes))], unsaved: None }
    }

    /// The key that a host's key service hands over.
    ///
    /// # Errors
    /// [`RootKeyError::Provider`], or [`RootKeyError::BadVersions`] for a useless list.
    pub fn from_provider(provider: &dyn RootKeyProvider) -> Result<RootKey, RootKeyError> {
        RootKey::from_versions(provider.versions().map_err(RootKeyError::Provider)?)
    }

    /// Adds a version. The highest serves new births.
    ///
    /// # Errors
    /// [`RootKeyError::BadVersions`] when the version is there already or there are too many.
    pub fn with_version(self, version: u8, bytes: [u8; 32]) -> Result<RootKey, RootKeyError> {
        let mut versions = self.versions;
        versions.push((version, SecretBytes::new(bytes)));
        Ok(RootKey { unsaved: self.unsaved, ..RootKey::from_versions(versions)? })
    }

    /// Adds a freshly drawn version to the key file at `path` and returns the new key.
    ///
    /// # Durability
    /// The file is replaced by rename and synced with its directory before this returns.
    ///
    /// # Errors
    /// [`RootKeyError`] as for [`RootKey::from_file`], and when the versions are used up.
    pub fn rotate_file(path: impl AsRef<Path>) -> Result<RootKey, RootKeyError> {
        let path = path.as_ref();
        let key = RootKey::from_file(path)?;
        if key.is_unsaved() {
            return Err(RootKeyError::Io(path.to_owned(), io::ErrorKind::NotFound.into()));
        }
        let next = key.current().checked_add(1).ok_or(RootKeyError::BadVersions)?;
        let bytes = random::<32>(&SystemEntropy::new()).map_err(RootKeyError::Entropy)?;
        let key = key.with_version(next, bytes)?;
        key.write(path, false)?;
        Ok(key)
    }

    /// The newest version, under which new tokens are born.
    #[must_use]
    pub fn current(&self) -> u8 {
        self.versions.last().map_or(0, |(v, _)| *v)
    }

    /// The versions that this key holds, oldest first.
    pub fn versions(&self) -> impl Iterator<Item = u8> {
        self.versions.iter().map(|(v, _)| *v)
    }

    /// The subkey of `version` for `purpose`; `None` when this key lacks the version.
    #[must_use]
    pub fn subkey(&self, version: u8, purpose: Purpose) -> Option<SecretBytes<32>> {
        let (_, root) = self.versions.iter().find(|(v, _)| *v == version)?;
        Some(SecretBytes::new(blake3::derive_key(purpose.context(), root.expose())))
    }

    /// Whether the key was drawn just now and is not yet in its file.
    #[must_use]
    pub fn is_unsaved(&self) -> bool {
        self.unsaved.is_some()
    }

    /// Writes a key that was drawn just now to its file; does nothing for any other.
    ///
    /// # Durability
    /// Synced, with its directory, before this returns.
    ///
    /// # Errors
    /// [`RootKeyError::Io`].
    pub fn save(&self) -> Result<(), RootKeyError> {
        let Some(path) = self.unsaved.as_deref() else { return Ok(()) };
        match self.write(path, true) {
            // Saved already, by an earlier store that was made with this very key.
            Err(_)
                if RootKey::from_file(path).is_ok_and(|saved| saved.versions == self.versions) =>
            {
                Ok(())
            }
            written => written,
        }
    }

    /// Encrypts and authenticates `text` under the newest version; `label` must be given again to
    /// [`RootKey::unseal`]. The result is [`SEAL_OVERHEAD`] bytes longer than `text`.
    ///
    /// # Errors
    /// [`EntropyError`] when no nonce could be drawn.
    pub fn seal(
        &self,
        label: &str,
        text: &[u8],
        entropy: &dyn Entropy,
    ) -> Result<Vec<u8>, EntropyError> {
        let version = self.current();
        let nonce = random::<{ aead::NONCE_LEN }>(entropy)?;
        let key = self.sealing_key(version).ok_or(EntropyError)?;
        let mut out = Vec::with_capacity(text.len() + SEAL_OVERHEAD);
        out.push(version);
        out.extend_from_slice(&nonce);
        let mut body = Zeroizing::new(text.to_vec());
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        let tag = key
            .seal_in_place_separate_tag(nonce, aead::Aad::from(label.as_bytes()), &mut body)
            .map_err(|_| EntropyError)?;
        out.extend_from_slice(&body);
        out.extend_from_slice(tag.as_ref());
        Ok(out)
    }

    /// What [`RootKey::seal`] was given; `None` when the key is another, its version is missing, or
    /// the bytes or the label were changed.
    #[must_use]
    pub fn unseal(&self, label: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (&version, rest) = sealed.split_first()?;
        let (nonce, body) = rest.split_at_checked(aead::NONCE_LEN)?;
        let nonce = aead::Nonce::try_assume_unique_for_key(nonce).ok()?;
        let key = self.sealing_key(version)?;
        let mut text = Zeroizing::new(body.to_vec());
        let len =
            key.open_in_place(nonce, aead::Aad::from(label.as_bytes()), &mut text).ok()?.len();
        text.truncate(len);
        Some(text)
    }

    fn sealing_key(&self, version: u8) -> Option<aead::LessSafeKey> {
        let subkey = self.subkey(version, Purpose::Seal)?;
        let key = aead::UnboundKey::new(&aead::AES_256_GCM, subkey.expose()).ok()?;
        Some(aead::LessSafeKey::new(key))
    }

    fn from_versions(mut versions: Vec<(u8, SecretBytes<32>)>) -> Result<RootKey, RootKeyError> {
        versions.sort_by_key(|(v, _)| *v);
        let twice = versions.windows(2).any(|pair| matches!(pair, [a, b] if a.0 == b.0));
        if versions.is_empty() || versions.len() > VERSIONS_MAX || twice {
            return Err(RootKeyError::BadVersions);
        }
        Ok(RootKey { versions, unsaved: None })
    }

    /// Temp name, fsync, rename, fsync of the directory: a crash leaves the old file or the new.
    /// A new file never takes the place of another: that one may be another store's only key.
    fn write(&self, path: &Path, is_new: bool) -> Result<(), RootKeyError> {
        let mut text = Zeroizing::new(String::new());
        for (version, key) in &self.versions {
            text.push_str(&format!("{LINE_TAG} {version} "));
            for byte in key.expose() {
                text.push_str(&format!("{byte:02x}"));
            }
            text.push('\n');
        }
        write_durably(path, text.as_bytes(), is_new)
            .map_err(|e| RootKeyError::Io(path.to_owned(), e))
    }
}

fn write_durably(path: &Path, bytes: &[u8], is_new: bool) -> io::Result<()> {
    let mut temp = path.as_os_str().to_owned();
    temp.push(".new");
    let temp = PathBuf::from(temp);
    match fs::remove_file(&temp) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&temp)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    if is_new {
        // Unlike a rename, a link fails where there is a file already.
        fs::hard_link(&temp, path)?;
        fs::remove_file(&temp)?;
    } else {
        fs::rename(&temp, path)?;
    }
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

fn read_file(path: &Path, file: File) -> Result<RootKey, RootKeyError> {
    let io = |error| RootKeyError::Io(path.to_owned(), error);
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::MetadataExt::mode(&file.metadata().map_err(io)?) & 0o777;
        if mode & 0o077 != 0 {
            return Err(RootKeyError::TooOpen(path.to_owned(), mode));
        }
    }
    let mut text = Zeroizing::new(String::new());
    file.take(FILE_LEN_MAX).read_to_string(&mut text).map_err(io)?;
    let malformed = || RootKeyError::Malformed(path.to_owned());
    let mut versions = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        versions.push(parse_line(line).ok_or_else(malformed)?);
    }
    RootKey::from_versions(versions).map_err(|_| malformed())
}

fn parse_line(line: &str) -> Option<(u8, SecretBytes<32>)> {
    let mut words = line.split_ascii_whitespace();
    let (LINE_TAG, version, hex, None) =
        (words.next()?, words.next()?, words.next()?, words.next())
    else {
        return None;
    };
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    let mut key = Zeroizing::new([0u8; 32]);
    for (byte, digits) in key.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some((version.parse().ok()?, SecretBytes::new(*key)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;

    #[test]
    fn sealed_text_opens_under_its_key_and_label_alone() -> Result<(), Box<dyn std::error::Error>> {
        let entropy = SeededEntropy::new(1);
        let one = RootKey::from_bytes(1, [1; 32]);
        let sealed = one.seal("label", b"text", &entropy)?;
        assert_eq!(sealed.len(), 4 + SEAL_OVERHEAD);
        assert_eq!(one.unseal("label", &sealed).as_deref().map(Vec::as_slice), Some(&b"text"[..]));
        assert!(one.unseal("other", &sealed).is_none());
        assert!(RootKey::from_bytes(1, [2; 32]).unseal("label", &sealed).is_none());
        assert!(RootKey::from_bytes(2, [1; 32]).unseal("label", &sealed).is_none());
        for at in 0..sealed.len() {
            let mut bent = sealed.clone();
            if let Some(byte) = bent.get_mut(at) {
                *byte ^= 1;
            }
            assert!(one.unseal("label", &bent).is_none());
        }
        let two = one.with_version(2, [3; 32])?;
        assert!(two.unseal("label", &sealed).is_some());
        assert_eq!(two.seal("label", b"text", &entropy)?.first(), Some(&2));
        Ok(())
    }

    #[test]
    fn purposes_and_versions_give_different_subkeys() {
        let key = RootKey::from_bytes(1, [1; 32]);
        let of = |p| key.subkey(1, p).map(|k| *k.expose());
        assert_ne!(of(Purpose::Handle), of(Purpose::Refresh));
        assert!(key.subkey(2, Purpose::Handle).is_none());
    }

    #[test]
    fn the_file_is_private_and_keeps_old_versions() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("a.key");
        assert!(RootKey::rotate_file(&path).is_err() && !path.exists());
        let drawn = RootKey::from_file(&path)?;
        assert!(drawn.is_unsaved() && !path.exists());
        let other = RootKey::from_file(&path)?.with_version(2, [9; 32])?;
        assert!(other.is_unsaved());
        drawn.save()?;
        // Once more is no harm; another key never takes its place.
        drawn.save()?;
        assert!(other.save().is_err());
        let read = RootKey::from_file(&path)?;
        assert!(!read.is_unsaved());
        assert_eq!(read.subkey(1, Purpose::Seal), drawn.subkey(1, Purpose::Seal));
        let rotated = RootKey::rotate_file(&path)?;
        assert_eq!(rotated.current(), 2);
        let read = RootKey::from_file(&path)?;
        assert_eq!(read.subkey(1, Purpose::Seal), drawn.subkey(1, Purpose::Seal));
        assert_eq!(read.versions().collect::<Vec<_>>(), [1, 2]);
        fs::write(&path, "mintage-root-key 1 zz")?;
        assert!(matches!(RootKey::from_file(&path), Err(RootKeyError::Malformed(_))));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640))?;
            assert!(matches!(RootKey::from_file(&path), Err(RootKeyError::TooOpen(_, 0o640))));
        }
        Ok(())
    }
}
