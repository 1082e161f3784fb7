//! What the fuzz targets reach into: parts that no user of the crate sees. Compiled for fuzzing
//! alone.

use super::base64url;

/// The bytes of `text`, if it is canonical base64url; both readers and the checker must agree.
#[must_use]
pub fn base64url_decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![0; text.len()];
    let into = base64url::decode_into(text, &mut out).map(|bytes| bytes.to_vec()).ok();
    let owned = std::str::from_utf8(text).ok().and_then(|text| base64url::decode(text).ok());
    assert_eq!(into, owned, "two readers of one text");
    assert_eq!(base64url::is_canonical(text), into.is_some(), "the checker and the reader");
    into
}

/// `bytes` as text; both writers must agree, and no room is taken that was not given.
#[must_use]
pub fn base64url_encode(bytes: &[u8]) -> String {
    let text = base64url::encode(bytes);
    assert_eq!(text.len(), base64url::encoded_len(bytes.len()));
    let mut out = vec![b'!'; text.len() + 1];
    assert_eq!(base64url::encode_into(bytes, &mut out), Some(text.len()));
    assert_eq!((&out[..text.len()], out[text.len()]), (text.as_bytes(), b'!'));
    if !text.is_empty() {
        assert_eq!(base64url::encode_into(bytes, &mut out[..text.len() - 1]), None);
    }
    text
}
