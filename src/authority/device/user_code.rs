//! What a user types to say which device is theirs (RFC 8628 section 6.1).

use std::fmt;

use crate::entropy::{Entropy, EntropyError, random};

/// Letters of a user code.
pub(in crate::authority) const LEN: usize = 8;
/// No vowels, so that no words come out, and nothing that looks like something else: the alphabet of
/// RFC 8628 section 6.1.
const ALPHABET: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
/// The longest text that is looked at, in bytes.
const TEXT_LEN_MAX: usize = 64;
/// Bytes from here on would favour some letters.
const FAIR: u8 = 240;

/// A user code: eight of twenty letters, 34 bits. Shown as `WDJB-MJHT`; read in any case, with whatever
/// dashes and spaces somebody typed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UserCode([u8; LEN]);

impl UserCode {
    /// Reads what a user typed; `None` when it is no user code.
    #[must_use]
    pub fn parse(text: &str) -> Option<UserCode> {
        if text.len() > TEXT_LEN_MAX {
            return None;
        }
        let mut letters = [0; LEN];
        let mut places = letters.iter_mut();
        // RFC 8628 section 6.1: "the server should [...] strip dashes and other punctuation".
        for byte in text.bytes().filter(|byte| !matches!(byte, b'-' | b' ' | b'_' | b'.')) {
            let letter = byte.to_ascii_uppercase();
            let known = ALPHABET.contains(&letter).then_some(letter)?;
            *places.next()? = known;
        }
        places.next().is_none().then_some(UserCode(letters))
    }

    pub(super) fn draw(entropy: &dyn Entropy) -> Result<UserCode, EntropyError> {
        let mut letters = [0; LEN];
        let mut places = letters.iter_mut();
        let mut place = places.next();
        while place.is_some() {
            for byte in random::<16>(entropy)? {
                let letter = ALPHABET.get(usize::from(byte) % ALPHABET.len());
                if let (Some(to), Some(letter), true) = (place.as_mut(), letter, byte < FAIR) {
                    **to = *letter;
                    place = places.next();
                }
            }
        }
        Ok(UserCode(letters))
    }

    pub(super) fn letters(&self) -> &[u8; LEN] {
        &self.0
    }
}

impl fmt::Display for UserCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = self.0.split_at(LEN / 2);
        for (part, dash) in [(first, "-"), (last, "")] {
            for letter in part {
                write!(f, "{}", char::from(*letter))?;
            }
            f.write_str(dash)?;
        }
        Ok(())
    }
}

impl fmt::Debug for UserCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserCode([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;

    #[test]
    fn a_user_code_is_read_as_people_type_it() {
        let code = UserCode::parse("WDJB-MJHT");
        assert!(code.is_some());
        for text in ["wdjbmjht", " WDJB MJHT ", "w-d-j-b-m-j-h-t", "WDJB--MJHT", "wdjb_mj.ht"] {
            assert_eq!(UserCode::parse(text), code, "{text}");
        }
        let long = format!("WDJB{}MJHT", "-".repeat(57));
        for text in [
            "",
            "WDJB",
            "WDJB-MJH",
            "WDJB-MJHTB",
            "WDJB-MJHA",
            "WDJB/MJHT",
            "WDJB-MJH\u{e9}",
            &long,
        ] {
            assert_eq!(UserCode::parse(text), None, "{text}");
        }
        let shown = code.map(|code| code.to_string());
        assert_eq!(shown.as_deref(), Some("WDJB-MJHT"));
        assert_eq!(format!("{code:?}"), "Some(UserCode([redacted]))");
    }

    #[test]
    fn every_letter_is_drawn_as_often_as_any_other() -> Result<(), EntropyError> {
        let entropy = SeededEntropy::new(1);
        let mut times = [0_u32; 256];
        let mut seen = std::collections::HashSet::new();
        for _ in 0..10_000 {
            let code = UserCode::draw(&entropy)?;
            assert_eq!(UserCode::parse(&code.to_string()), Some(code));
            seen.insert(code.0);
            for letter in code.0 {
                times[usize::from(letter)] += 1;
            }
        }
        assert_eq!(seen.len(), 10_000);
        // 4,000 are expected of each, give or take some 62.
        assert!(
            ALPHABET.iter().all(|letter| (3_600..4_400).contains(&times[usize::from(*letter)]))
        );
        Ok(())
    }
}
