//! As much DER (X.690) as it takes to say what is wrong with an RSA key: ring calls a short modulus
//! and a small exponent by one name.

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;

/// The length in bits of the modulus in a PKCS#8 RSA key (RFC 5208 section 5, RFC 8017 appendix
/// A.1.2).
pub(super) fn rsa_modulus_bits(pkcs8: &[u8]) -> Option<usize> {
    let (info, _) = value(SEQUENCE, pkcs8)?;
    let (_version, rest) = value(INTEGER, info)?;
    let (_algorithm, rest) = value(SEQUENCE, rest)?;
    let (key, _) = value(OCTET_STRING, rest)?;
    let (key, _) = value(SEQUENCE, key)?;
    let (_version, rest) = value(INTEGER, key)?;
    let (n, _) = value(INTEGER, rest)?;
    let zeros = n.iter().take_while(|byte| **byte == 0).count();
    let n = n.get(zeros..)?;
    Some(n.len() * 8 - n.first().map_or(0, |top| top.leading_zeros() as usize))
}

/// The contents of the element with that tag at the start of `der`, and what follows it.
fn value(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = der.strip_prefix(&[tag])?.split_first()?;
    let (len, rest) = match usize::from(*len) {
        len @ ..0x80 => (len, rest),
        long => {
            let (len, rest) = rest.split_at_checked(long - 0x80)?;
            if len.len() > 2 {
                return None;
            }
            (len.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
    };
    rest.split_at_checked(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::keys::pem;

    #[test]
    fn the_modulus_is_found_and_no_cut_key_panics() -> Result<(), Box<dyn std::error::Error>> {
        for (bits, text) in [
            (2_048, include_str!("../../../tests/data/rsa2048.pk8.pem")),
            (1_024, include_str!("../../../tests/data/rsa1024.pk8.pem")),
        ] {
            let der = pem::der_of(text)?;
            assert_eq!(rsa_modulus_bits(&der), Some(bits));
            for len in 0..der.len() {
                assert_eq!(rsa_modulus_bits(&der[..len]), None, "{len}");
            }
        }
        assert_eq!(rsa_modulus_bits(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
        Ok(())
    }
}
