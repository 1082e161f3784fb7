//! PEM of one PKCS#8 private key (RFC 7468 section 10), read strictly.

use base64_simd::STANDARD;
use zeroize::Zeroizing;

use super::{KEY_TEXT_LEN_MAX, KeyError};

/// The DER inside `text`. Anything around the one block but white space is refused.
pub(super) fn der_of(text: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    if text.len() > KEY_TEXT_LEN_MAX {
        return Err(KeyError::TooLong);
    }
    let base64 = text
        .trim_ascii()
        .strip_prefix("-----BEGIN PRIVATE KEY-----")
        .and_then(|rest| rest.strip_suffix("-----END PRIVATE KEY-----"))
        .ok_or(KeyError::BadPem)?;
    let mut joined = Zeroizing::new(Vec::with_capacity(base64.len()));
    for line in base64.lines() {
        joined.extend_from_slice(line.as_bytes());
    }
    STANDARD.decode_to_vec(joined.as_slice()).map(Zeroizing::new).map_err(|_| KeyError::BadPem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_plain_block_is_read_and_nothing_else() {
        let pem =
            |body: &str| format!("-----BEGIN PRIVATE KEY-----{body}-----END PRIVATE KEY-----");
        for good in [pem("\nAAEC\n"), pem("\r\nAA\r\nEC\r\n"), format!("{}\n", pem("\nAAEC\n"))] {
            assert_eq!(der_of(&good).map(|der| der.to_vec()).ok(), Some(vec![0, 1, 2]), "{good}");
        }
        for bad in [
            String::new(),
            pem("\nAAE\n"),
            pem("\nA EC\n"),
            pem("\nAA-_\n"),
            pem("\nProc-Type: 4,ENCRYPTED\n\nAAEC\n"),
            format!("x{}", pem("\nAAEC\n")),
            format!("{0}\n{0}", pem("\nAAEC\n")),
            pem("\nAAEC\n").replace("PRIVATE", "RSA PRIVATE"),
        ] {
            assert!(matches!(der_of(&bad), Err(KeyError::BadPem)), "{bad}");
        }
        assert!(matches!(der_of(&" ".repeat(KEY_TEXT_LEN_MAX + 1)), Err(KeyError::TooLong)));
    }
}
