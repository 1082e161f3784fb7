//! Strict base64url (RFC 4648 section 5): no padding, no white space, no trailing bits, so that a
//! value has one text.

use base64_simd::{AsOut as _, URL_SAFE_NO_PAD};

/// A text that is not canonical base64url, or one that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotBase64url;

/// How many characters `len` bytes take.
pub(super) const fn encoded_len(len: usize) -> usize {
    (len * 4).div_ceil(3)
}

/// Writes `bytes` to the start of `out` and returns how many characters that took; `None` when
/// they do not fit.
pub(super) fn encode_into(bytes: &[u8], out: &mut [u8]) -> Option<usize> {
    let out = out.get_mut(..encoded_len(bytes.len()))?;
    Some(URL_SAFE_NO_PAD.encode(bytes, out.as_out()).len())
}

/// Decodes `text` to the start of `out`.
pub(super) fn decode_into<'o>(
    text: &[u8],
    out: &'o mut [u8],
) -> Result<&'o mut [u8], NotBase64url> {
    let len = URL_SAFE_NO_PAD.decoded_length(text).map_err(|_| NotBase64url)?;
    let out = out.get_mut(..len).ok_or(NotBase64url)?;
    URL_SAFE_NO_PAD.decode(text, out.as_out()).map_err(|_| NotBase64url)
}

/// Whether `text` is canonical.
pub(super) fn is_canonical(text: &[u8]) -> bool {
    URL_SAFE_NO_PAD.check(text).is_ok()
}

/// `bytes` as text of its own.
pub(super) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode_to_string(bytes)
}

/// The bytes of `text`.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, NotBase64url> {
    URL_SAFE_NO_PAD.decode_to_vec(text).map_err(|_| NotBase64url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_one_text() {
        let mut out = [0; 8];
        assert_eq!(decode_into(b"AA", &mut out), Ok(&mut [0][..]));
        for text in ["AB", "AA==", "A", "AAAAA", "AA\n", " AA", "A+", "A/", "AAB", "A?AA", "é"] {
            assert_eq!(decode_into(text.as_bytes(), &mut out), Err(NotBase64url), "{text:?}");
            assert!(!is_canonical(text.as_bytes()), "{text:?}");
            assert_eq!(decode(text), Err(NotBase64url), "{text:?}");
        }
    }

    #[test]
    fn the_length_is_known_beforehand() {
        let mut out = [0; 400];
        for len in 0..256 {
            let bytes = vec![0xA5; len];
            assert_eq!(encode_into(&bytes, &mut out), Some(encoded_len(len)));
            assert_eq!(encode(&bytes).len(), encoded_len(len));
            if len > 0 {
                assert_eq!(encode_into(&bytes, &mut out[..encoded_len(len) - 1]), None);
            }
        }
    }
}
