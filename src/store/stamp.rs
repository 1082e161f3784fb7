//! Stamps: `revoked_at` of everything, clients, subjects and pairs. One number ends whatever hangs
//! below, without a walk over it.

use super::record::{StampKind, StampRow};
use super::{Lsn, Seq, StoreError};
use crate::ids::{ClientId, Subject};
use crate::locator::Digest;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{HashMap, PoisonError, RwLock};

/// Digests of the names that stamps and pairs are found under. Their key is drawn with the store
/// and stays, whatever version the root key has.
pub(crate) struct Names {
    key: [u8; 32],
}

impl Names {
    pub(crate) fn new(key: [u8; 32]) -> Names {
        Names { key }
    }

    pub(crate) fn client(&self, client: &ClientId) -> Digest {
        self.digest(1, &[client.as_str()])
    }

    pub(crate) fn subject(&self, subject: &Subject) -> Digest {
        self.digest(2, &[subject.as_str()])
    }

    pub(crate) fn pair(&self, client: &ClientId, subject: &Subject) -> Digest {
        self.digest(3, &[client.as_str(), subject.as_str()])
    }

    /// The unique pair, with its device where there is one.
    pub(crate) fn unique(&self, pair: &super::Pair) -> Digest {
        let device = pair.device.as_ref().map_or("", |d| d.as_str());
        self.digest(4, &[pair.client.as_str(), pair.subject.as_str(), device])
    }

    /// The identifier of a scope or audience text.
    pub(crate) fn set(&self, text: &str) -> u64 {
        let Digest(bytes) = self.digest(5, &[text]);
        let (head, _) = bytes.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        u64::from_le_bytes(*head)
    }

    fn digest(&self, domain: u8, parts: &[&str]) -> Digest {
        // Short names are hashed in one piece: that takes half the time.
        let mut short = [0; SHORT_LEN];
        let hash = match join(&mut short, domain, parts) {
            Some(len) => blake3::keyed_hash(&self.key, short.get(..len).unwrap_or(&[])),
            None => {
                let mut hasher = blake3::Hasher::new_keyed(&self.key);
                hasher.update(&[domain]);
                for part in parts {
                    hasher.update(&(part.len() as u64).to_le_bytes());
                    hasher.update(part.as_bytes());
                }
                hasher.finalize()
            }
        };
        Digest(hash.as_bytes().first_chunk().copied().unwrap_or_default())
    }
}

/// Names up to so many bytes, with their lengths, are hashed in one piece.
const SHORT_LEN: usize = 128;

/// What is hashed of names, where it fits `out`: its length.
fn join(out: &mut [u8], domain: u8, parts: &[&str]) -> Option<usize> {
    let mut at = 0;
    let mut put = |bytes: &[u8]| -> Option<usize> {
        out.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
        at += bytes.len();
        Some(at)
    };
    put(&[domain])?;
    let mut len = 1;
    for part in parts {
        put(&(part.len() as u64).to_le_bytes())?;
        len = put(part.as_bytes())?;
    }
    Some(len)
}

/// All stamps, resident and loaded before the first answer; what has none was never revoked.
#[derive(Default)]
pub(crate) struct Stamps {
    /// The newest stamp anywhere: whatever was admitted at or after it needs no lookup.
    newest: AtomicU64,
    map: RwLock<Stamped>,
}

impl Stamps {
    /// Whether something with these names above it and this admission was never revoked since.
    pub(crate) fn allow(
        &self,
        admission: Seq,
        names: &[(StampKind, Digest)],
        unique: Digest,
    ) -> bool {
        if admission.0 >= self.newest.load(Ordering::SeqCst) {
            return true;
        }
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        let everything = (StampKind::Everything, Digest([0; 16]));
        [everything, (StampKind::Unique, unique)]
            .iter()
            .chain(names)
            .all(|name| map.get(name).is_none_or(|stamp| admission >= stamp.revoked_at))
    }

    /// Whether something with these names above it and this admission was revoked for good: by a
    /// stamp that is on disk. Of what a pending or a refused one covers nothing may be given up yet.
    pub(crate) fn forbid_for_good(
        &self,
        admission: Seq,
        names: &[(StampKind, Digest)],
        unique: Digest,
        published: Lsn,
    ) -> bool {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        let everything = (StampKind::Everything, Digest([0; 16]));
        [everything, (StampKind::Unique, unique)].iter().chain(names).any(|name| {
            map.get(name).is_some_and(|at| at.lsn <= published && admission < at.written)
        })
    }

    /// Moves a stamp. `log` takes the number, writes the record and says where; when it refuses,
    /// nothing moves. The lock is held across it so that stamps move in the order of the log.
    pub(crate) fn raise(
        &self,
        kind: StampKind,
        digest: Digest,
        log: impl FnOnce() -> Result<(Seq, Lsn), (Option<Seq>, StoreError)>,
    ) -> Result<(Seq, Lsn), StoreError> {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        // From before the number is taken until its stamp stands every read looks here and waits:
        // whoever was admitted after the number sees the stamp.
        let newest = self.newest.swap(u64::MAX, Ordering::SeqCst);
        let (raised, answer) = match log() {
            Ok((seq, lsn)) => {
                merge(&mut map, kind, digest, seq, lsn);
                (Some(seq), Ok((seq, lsn)))
            }
            Err((Some(seq), error)) => {
                // In effect, and on no disk.
                let stamp = map.entry((kind, digest)).or_default();
                stamp.revoked_at = stamp.revoked_at.max(seq);
                (Some(seq), Err(error))
            }
            Err((None, error)) => (None, Err(error)),
        };
        let now = raised.map_or(newest, |seq| newest.max(seq.0));
        self.newest.store(now, Ordering::SeqCst);
        answer
    }

    /// Takes a stamp from the log or the checkpoint. Stamps only grow.
    pub(crate) fn redo(&self, row: &StampRow, lsn: Lsn) {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        merge(&mut map, row.kind, row.digest, row.revoked_at, lsn);
        self.newest.fetch_max(row.revoked_at.0, Ordering::SeqCst);
    }

    /// Writes a stamp again through `log` if its latest record is the one at `lsn`.
    pub(crate) fn rewrite(
        &self,
        kind: StampKind,
        digest: Digest,
        lsn: Lsn,
        log: impl FnOnce(StampRow) -> Result<Lsn, StoreError>,
    ) -> Result<Option<Lsn>, StoreError> {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        match map.get_mut(&(kind, digest)) {
            Some(stamp) if stamp.lsn == lsn => {
                stamp.lsn = log(StampRow { kind, digest, revoked_at: stamp.revoked_at })?;
                stamp.written = stamp.revoked_at;
                Ok(Some(stamp.lsn))
            }
            _ => Ok(None),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.map.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}

type Stamped = HashMap<(StampKind, Digest), Stamp>;

#[derive(Default)]
struct Stamp {
    revoked_at: Seq,
    /// What the latest record of it says; less than `revoked_at` when the log refused a later one.
    written: Seq,
    /// Position of the latest record.
    lsn: Lsn,
}

/// Stamps only grow.
fn merge(map: &mut Stamped, kind: StampKind, digest: Digest, seq: Seq, lsn: Lsn) {
    let stamp = map.entry((kind, digest)).or_default();
    stamp.revoked_at = stamp.revoked_at.max(seq);
    stamp.written = stamp.written.max(seq);
    stamp.lsn = stamp.lsn.max(lsn);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_digest_whatever_their_length() {
        let names = Names::new([7; 32]);
        for len in 0..=2 * SHORT_LEN {
            let (one, other) = ("a".repeat(len), "b".repeat(len / 3));
            let mut hasher = blake3::Hasher::new_keyed(&[7; 32]);
            hasher.update(&[4]);
            for part in [one.as_str(), other.as_str()] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part.as_bytes());
            }
            let whole = hasher.finalize();
            let Digest(digest) = names.digest(4, &[&one, &other]);
            assert_eq!(whole.as_bytes().first_chunk(), Some(&digest), "{len}");
        }
    }
}
