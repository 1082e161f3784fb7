//! Proofs of a key that were used: each is good once.
//!
//! A bounded table in memory remembers a proof for as long as it could be presented again. Nobody
//! takes more places than he leaves to all others, and none is taken before what a proof comes with
//! was found live. What was used before this process began the table cannot know, so a proof that may
//! be from then is asked for again with a nonce of this process.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64_simd::URL_SAFE_NO_PAD;

use super::error::{Error, Reason};
use crate::codec::dpop::Proof;
use crate::secret::{SecretBytes, same_bytes};
use crate::store::StoreError;
use crate::sync::{HashMap, HashSet, Mutex, MutexGuard, PoisonError};
use crate::time::Timestamp;

/// How old a proof may be, in seconds.
pub const PROOF_SECS: u64 = 60;
/// How many used proofs are remembered at a time, unless a builder says otherwise.
pub const PROOFS_MAX: usize = 1 << 18;

/// How far the clocks of clients may differ, in seconds.
pub(super) const PROOF_LEEWAY_SECS: u64 = 30;
/// How far the clock may have been put back over a restart, in seconds.
const BACK_SECS: u64 = 60;
/// How long one nonce is given out, in seconds; it is taken for as long again.
const NONCE_SECS: u64 = 300;

/// A keyed digest of a proof or of an owner.
type Short = [u8; 16];

/// A proof that was checked, and may be used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unused {
    digest: Short,
    issued_at: Timestamp,
}

/// Whose place a used proof takes.
#[derive(Clone, Copy)]
pub(super) enum Owner<'a> {
    /// A subject at a client: known from the live token or code that the proof came with.
    Login(&'a str, &'a str),
    /// A key, where nothing else is known.
    Key(&'a [u8; 32]),
}

/// Nonces of this process, and the proofs that were used while they could be presented again.
pub(super) struct Proofs {
    key: SecretBytes<32>,
    /// Proofs up to here may have been used before this process began.
    foreign_to: Timestamp,
    are_nonces_required: bool,
    room: usize,
    used: Mutex<Used>,
}

#[derive(Default)]
struct Used {
    all: HashSet<Short>,
    /// By the second that they say they were made in, with their owners.
    by_second: BTreeMap<u64, Vec<(Short, Short)>>,
    of_owner: HashMap<Short, usize>,
    /// What was made before that is forgotten.
    known_from: Timestamp,
}

impl Proofs {
    /// `began_at` is `None` over a store that no process used before.
    pub(super) fn new(
        key: [u8; 32],
        began_at: Option<Timestamp>,
        are_nonces_required: bool,
        room: usize,
    ) -> Proofs {
        let foreign_to = began_at.map_or(Timestamp::default(), |at| {
            // A proof that was taken may be dated ahead, and the clock may have been ahead of ours.
            at.plus(PROOF_LEEWAY_SECS).plus(BACK_SECS)
        });
        let key = SecretBytes::new(key);
        Proofs { key, foreign_to, are_nonces_required, room, used: Mutex::default() }
    }

    /// The nonce of a time.
    pub(super) fn nonce(&self, at: Timestamp) -> String {
        self.nonce_of(at.0 / NONCE_SECS)
    }

    fn nonce_of(&self, turn: u64) -> String {
        let hash = blake3::keyed_hash(self.key.expose(), &turn.to_be_bytes());
        URL_SAFE_NO_PAD.encode_to_string(hash.as_bytes().split_at(16).0)
    }

    fn is_nonce(&self, text: &str, now: Timestamp) -> bool {
        let turn = now.0 / NONCE_SECS;
        let is = |turn| same_bytes(self.nonce_of(turn).as_bytes(), text.as_bytes());
        is(turn) || is(turn.wrapping_sub(1))
    }

    /// Looks at the nonce of a proof, and whether it was used. Nothing is remembered of it yet.
    pub(super) fn check(&self, proof: &Proof, now: Timestamp) -> Result<Unused, Error> {
        let again = |why| Error::UseDpopNonce(Reason::new(why), Arc::from(self.nonce(now)));
        match proof.nonce() {
            Some(nonce) if self.is_nonce(nonce, now) => {}
            Some(_) => return Err(again("the nonce is not one of this process, or too old")),
            None if self.are_nonces_required => return Err(again("no nonce")),
            None if proof.issued_at() <= self.foreign_to => {
                return Err(again("it may have been used before this process began"));
            }
            None => {}
        }
        let mut digest = [0; 16];
        let mut hasher = blake3::Hasher::new_keyed(self.key.expose());
        hasher.update(&proof.thumbprint());
        hasher.update(proof.jti().as_bytes());
        hasher.finalize_xof().fill(&mut digest);
        let unused = Unused { digest, issued_at: proof.issued_at() };
        self.used(now).refuse_again(unused)?;
        Ok(unused)
    }

    /// Uses a proof up. Call it last: what it came with is live, and bound to its key.
    pub(super) fn spend(
        &self,
        proof: Unused,
        owner: Owner<'_>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let owner = self.digest_of(owner);
        let mut used = self.used(now);
        used.refuse_again(proof)?;
        let free = self.room.saturating_sub(used.all.len());
        let held = used.of_owner.get(&owner).copied().unwrap_or_default();
        if held >= free {
            return Err(StoreError::Busy.into());
        }
        used.of_owner.insert(owner, held + 1);
        used.all.insert(proof.digest);
        used.by_second.entry(proof.issued_at.0).or_default().push((proof.digest, owner));
        Ok(())
    }

    /// What was used and is not yet too old to be taken.
    fn used(&self, now: Timestamp) -> MutexGuard<'_, Used> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.forget_before(now.minus(PROOF_SECS).minus(PROOF_LEEWAY_SECS));
        used
    }

    fn digest_of(&self, owner: Owner<'_>) -> Short {
        let mut hasher = blake3::Hasher::new_keyed(self.key.expose());
        match owner {
            Owner::Login(client, subject) => {
                hasher.update(b"l").update(&(client.len() as u64).to_be_bytes());
                hasher.update(client.as_bytes()).update(subject.as_bytes());
            }
            Owner::Key(thumbprint) => {
                hasher.update(b"k").update(thumbprint);
            }
        }
        let mut digest = [0; 16];
        hasher.finalize_xof().fill(&mut digest);
        digest
    }
}

impl Used {
    fn refuse_again(&self, proof: Unused) -> Result<(), Error> {
        let why = match self.all.contains(&proof.digest) {
            true => "the proof was used before",
            // Only under a clock that was put back.
            false if proof.issued_at < self.known_from => "the proof may have been used before",
            false => return Ok(()),
        };
        Err(Error::InvalidDpopProof(Reason::new(why)))
    }

    /// Forgets what was made before a time: it is too old to be taken.
    fn forget_before(&mut self, oldest: Timestamp) {
        self.known_from = self.known_from.max(oldest);
        while let Some(second) = self.by_second.first_entry()
            && *second.key() < oldest.0
        {
            for (digest, owner) in second.remove() {
                self.all.remove(&digest);
                if let Some(held) = self.of_owner.get_mut(&owner) {
                    *held -= 1;
                    if *held == 0 {
                        self.of_owner.remove(&owner);
                    }
                }
            }
        }
    }
}
