//! Randomness comes in through one trait. ring's `SecureRandom` is sealed, so this one is ours.

use std::fmt;
use std::sync::Mutex;

use ring::rand::SecureRandom as _;

/// The source of randomness gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntropyError;

impl fmt::Display for EntropyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the source of randomness failed")
    }
}

impl std::error::Error for EntropyError {}

/// Where secrets, salts and identifiers take their bytes from.
pub trait Entropy: Send + Sync + 'static {
    /// Fills `out` with bytes that nobody can predict.
    ///
    /// # Errors
    /// [`EntropyError`] when the source fails; `out` must not be used then.
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyError>;
}

/// `N` bytes from `entropy`.
///
/// # Errors
/// As [`Entropy::fill`].
pub fn random<const N: usize>(entropy: &dyn Entropy) -> Result<[u8; N], EntropyError> {
    let mut out = [0; N];
    entropy.fill(&mut out)?;
    Ok(out)
}

/// The operating system's randomness, through ring. It is read for every secret: no pool in user
/// space, so a forked or cloned process never repeats another's bytes.
#[derive(Debug)]
pub struct SystemEntropy {
    rng: ring::rand::SystemRandom,
}

impl SystemEntropy {
    /// The operating system's randomness.
    #[must_use]
    pub fn new() -> SystemEntropy {
        SystemEntropy { rng: ring::rand::SystemRandom::new() }
    }
}

impl Default for SystemEntropy {
    fn default() -> SystemEntropy {
        SystemEntropy::new()
    }
}

impl Entropy for SystemEntropy {
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyError> {
        self.rng.fill(out).map_err(|_| EntropyError)
    }
}

/// Bytes that follow from a seed, for tests and simulations. **Never for real tokens.**
pub struct SeededEntropy {
    stream: Mutex<blake3::OutputReader>,
}

impl SeededEntropy {
    /// The stream of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> SeededEntropy {
        let mut hasher = blake3::Hasher::new_derive_key("mintage 2026 seeded entropy for tests");
        hasher.update(&seed.to_le_bytes());
        SeededEntropy { stream: Mutex::new(hasher.finalize_xof()) }
    }
}

impl fmt::Debug for SeededEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeededEntropy")
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyError> {
        self.stream.lock().map_err(|_| EntropyError)?.fill(out);
        Ok(())
    }
}

impl<E: Entropy> Entropy for std::sync::Arc<E> {
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyError> {
        (**self).fill(out)
    }
}
