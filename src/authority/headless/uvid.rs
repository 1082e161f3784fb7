//! Unique visitor ids: UUIDs of version 4 that apps draw for users who have not logged in.

use std::fmt;

use crate::ids::Subject;

/// What stands before the id in the subject of a guest.
const PREFIX: &str = "uvid:";
const LEN: usize = 36;

/// A unique visitor id: a UUID of version 4 (RFC 9562 section 5.4), in lower case. The app draws it, and
/// nobody keeps it.
#[derive(Clone, PartialEq, Eq)]
pub struct Uvid(String);

impl Uvid {
    /// Reads a UUID of version 4 with its dashes, in any case; `None` when it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Uvid> {
        let bytes: &[u8; LEN] = text.as_bytes().try_into().ok()?;
        let fits = bytes.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            14 => *byte == b'4',
            19 => matches!(byte.to_ascii_lowercase(), b'8' | b'9' | b'a' | b'b'),
            _ => byte.is_ascii_hexdigit(),
        });
        fits.then(|| Uvid(text.to_ascii_lowercase()))
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The guest with that id.
    pub(super) fn guest(&self) -> Option<Subject> {
        Subject::new(format!("{PREFIX}{}", self.0)).ok()
    }

    /// The id of a guest.
    pub(in crate::authority) fn of_guest(subject: &Subject) -> Option<Uvid> {
        Uvid::parse(subject.as_str().strip_prefix(PREFIX)?)
    }
}

impl fmt::Debug for Uvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uvid({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uvid_is_a_uuid_of_version_4() {
        let text = "7b1f8c9e-3a54-4d0b-9f21-0c5f6a7b8c9d";
        let uvid = Uvid::parse(text);
        assert_eq!(uvid.as_ref().map(Uvid::as_str), Some(text));
        assert_eq!(Uvid::parse(&text.to_uppercase()), uvid);
        let guest = uvid.as_ref().and_then(Uvid::guest);
        assert_eq!(guest.as_ref().and_then(Uvid::of_guest), uvid);
        let nil = "00000000-0000-0000-0000-000000000000";
        let braces = format!("{{{text}}}");
        for bad in ["", nil, &text.replace('-', ""), &braces, &text.replace("4d", "1d"), &text[1..]]
        {
            assert_eq!(Uvid::parse(bad), None, "{bad}");
        }
        assert_eq!(Uvid::parse(&text.replace("9f", "cf")), None);
        assert_eq!(Uvid::parse(&text.replace('7', "\u{e9}")), None);
    }
}
