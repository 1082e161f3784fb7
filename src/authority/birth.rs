//! The private claim `mtg`: the family and birth of a JWT, so that a live check needs no record of
//! the JWT itself.
//!
//! The numbers are hidden under a keystream of the token's `jti`, since admissions would show how
//! much an authority commits. The claim stands inside the signature, so the stream need not
//! authenticate; the padding only tells a wrong key from a right one.
//!
//! ```text
//! base64url( key version 1 | ( family 8 | admission 8 | generation 4 | zero 4 ) XOR stream )
//! ```

use base64_simd::{AsOut as _, URL_SAFE_NO_PAD};

use super::derive::DeriveKeys;
use crate::store::Seq;

/// Name of the claim.
pub(super) const CLAIM: &str = "mtg";

const BIRTH_LEN: usize = 24;
const CLAIM_LEN: usize = 1 + BIRTH_LEN;

/// Where a JWT hangs in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Birth {
    pub(super) family: u64,
    pub(super) admission: Seq,
    pub(super) generation: u32,
}

impl Birth {
    /// The claim's text for the JWT with this `jti`; `None` when the root key lacks the version.
    pub(super) fn to_claim(self, keys: &DeriveKeys, version: u8, jti: &str) -> Option<String> {
        let mut bytes = [0; CLAIM_LEN];
        let (head, body) = bytes.split_first_mut()?;
        *head = version;
        let numbers = self.family.to_be_bytes().into_iter();
        let numbers = numbers.chain(self.admission.0.to_be_bytes());
        let numbers = numbers.chain(self.generation.to_be_bytes()).chain([0; 4]);
        let stream = keys.birth_stream(version, jti)?;
        for ((to, number), hide) in body.iter_mut().zip(numbers).zip(stream) {
            *to = number ^ hide;
        }
        Some(URL_SAFE_NO_PAD.encode_to_string(bytes))
    }

    /// Reads the claim of the JWT with this `jti`. Only for a JWT whose signature was checked.
    pub(super) fn from_claim(keys: &DeriveKeys, claim: &str, jti: &str) -> Option<Birth> {
        if URL_SAFE_NO_PAD.decoded_length(claim.as_bytes()).ok()? != CLAIM_LEN {
            return None;
        }
        let mut bytes = [0; CLAIM_LEN];
        URL_SAFE_NO_PAD.decode(claim.as_bytes(), bytes.as_mut_slice().as_out()).ok()?;
        let (version, body) = bytes.split_first_mut()?;
        for (byte, hide) in body.iter_mut().zip(keys.birth_stream(*version, jti)?) {
            *byte ^= hide;
        }
        let (family, rest) = body.split_first_chunk()?;
        let (admission, rest) = rest.split_first_chunk()?;
        let (generation, rest) = rest.split_first_chunk()?;
        (rest == [0; 4]).then(|| Birth {
            family: u64::from_be_bytes(*family),
            admission: Seq(u64::from_be_bytes(*admission)),
            generation: u32::from_be_bytes(*generation),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root_key::RootKey;

    #[test]
    fn a_birth_is_read_back_under_its_key_and_jti_alone() -> Result<(), Box<dyn std::error::Error>>
    {
        let keys = DeriveKeys::new(&RootKey::from_bytes(1, [1; 32]));
        let birth = Birth { family: 7, admission: Seq(1 << 40), generation: 3 };
        let claim = birth.to_claim(&keys, 1, "jti").ok_or("no claim")?;
        assert_eq!(claim.len(), 34);
        assert_eq!(Birth::from_claim(&keys, &claim, "jti"), Some(birth));
        assert_eq!(Birth::from_claim(&keys, &claim, "other"), None);
        let others = DeriveKeys::new(&RootKey::from_bytes(1, [2; 32]));
        assert_eq!(Birth::from_claim(&others, &claim, "jti"), None);
        for bad in ["", "AA", &claim[1..], &format!("{claim}A"), &"é".repeat(17)] {
            assert_eq!(Birth::from_claim(&keys, bad, "jti"), None);
        }
        assert_eq!(birth.to_claim(&keys, 2, "jti"), None);
        Ok(())
    }

    #[test]
    fn neighbouring_births_show_nothing_in_common() -> Result<(), Box<dyn std::error::Error>> {
        let keys = DeriveKeys::new(&RootKey::from_bytes(1, [1; 32]));
        let at =
            |n, jti| Birth { family: 7, admission: Seq(n), generation: 1 }.to_claim(&keys, 1, jti);
        let (a, b) = (at(1, "a").ok_or("none")?, at(2, "b").ok_or("none")?);
        let same = a.bytes().zip(b.bytes()).skip(2).filter(|(x, y)| x == y).count();
        assert!(same < 8, "{same} of 32 characters are equal");
        Ok(())
    }
}
