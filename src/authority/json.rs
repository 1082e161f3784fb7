//! Answers as JSON, written where the caller wants them.

use serde::Serialize;

/// Appends `value`, a struct of texts and numbers, which always has a JSON form.
pub(super) fn write(value: &impl Serialize, out: &mut Vec<u8>) {
    let at = out.len();
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(at);
    }
}

/// What `write` appends, as a text.
pub(super) fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap_or_default()
}
