//! Secrets are one pair of types: zeroized, redacted, compared in constant time.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// Secret bytes of a fixed length. Wiped when dropped; `Debug` shows nothing; there is no `Display`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretBytes<const N: usize>([u8; N]);

impl<const N: usize> SecretBytes<N> {
    /// Takes the bytes over.
    #[must_use]
    pub const fn new(bytes: [u8; N]) -> SecretBytes<N> {
        SecretBytes(bytes)
    }

    /// The bytes themselves. Whoever calls this keeps them out of logs and errors.
    #[must_use]
    pub const fn expose(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> fmt::Debug for SecretBytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes([redacted])")
    }
}

impl<const N: usize> PartialEq for SecretBytes<N> {
    fn eq(&self, other: &SecretBytes<N>) -> bool {
        same_bytes(&self.0, &other.0)
    }
}

impl<const N: usize> Eq for SecretBytes<N> {}

/// Secret text: a token, a client secret. Wiped when dropped; `Debug` shows nothing; there is no
/// `Display`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretText(String);

impl SecretText {
    /// Takes the text over.
    #[must_use]
    pub fn new(text: impl Into<String>) -> SecretText {
        SecretText(text.into())
    }

    /// The text itself. Whoever calls this keeps it out of logs and errors.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText([redacted])")
    }
}

impl PartialEq for SecretText {
    fn eq(&self, other: &SecretText) -> bool {
        same_bytes(self.0.as_bytes(), other.0.as_bytes())
    }
}

impl Eq for SecretText {}

/// Whether `a` and `b` are equal, in a time that depends on their lengths alone.
#[must_use]
pub fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && {
        let differing = a.iter().zip(b).fold(0u8, |sum, (x, y)| sum | (x ^ y));
        std::hint::black_box(differing) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_show_nothing() {
        let text = format!("{:?} {:?}", SecretText::new("hush"), SecretBytes::new([7; 32]));
        assert_eq!(text, "SecretText([redacted]) SecretBytes([redacted])");
    }

    #[test]
    fn comparison_sees_every_byte() {
        let a = [1u8; 32];
        for at in 0..32 {
            let mut b = a;
            b[at] ^= 1;
            assert!(!same_bytes(&a, &b));
        }
        assert!(same_bytes(&a, &a));
        assert!(!same_bytes(&a, &a[..31]));
    }
}
