//! Where a token is and what it is stored under: the two values that the text side (codec) and the
//! state side (store) both need.

use std::fmt;

/// The key that a token is stored under: 16 bytes of a keyed hash of its secret. Nobody gets from
/// it to the token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 16]);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(")?;
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

/// The logical, immutable address that a handle carries. It never changes when records are
/// rewritten.
///
/// For an access token: its lifetime class, the bucket of its birth and its identifier. For a
/// refresh token: class 0, the generation as bucket, and the identifier of its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locator {
    /// Lifetime class: the token lives at most `60 << class` seconds; 0 for a refresh token.
    pub class: u8,
    /// Minutes since the epoch at the birth of an access token, generation of a refresh token.
    pub bucket: u32,
    /// Identifier of the access token, or of the family of a refresh token.
    pub id: u64,
}
