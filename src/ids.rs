//! Identifiers as the RFCs have them. A value that exists is valid.

use std::fmt;
use std::sync::Arc;

/// The longest client identifier or subject, in bytes.
pub const IDENTIFIER_LEN_MAX: usize = 255;
/// The longest organisation identifier, in bytes.
pub const ORG_ID_LEN_MAX: usize = 18;

/// Why a text is no identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdError {
    /// It has no characters.
    Empty,
    /// It is longer than the limit.
    TooLong,
    /// It has a character that its grammar forbids.
    BadCharacter,
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IdError::Empty => "the identifier is empty",
            IdError::TooLong => "the identifier is too long",
            IdError::BadCharacter => "the identifier has a forbidden character",
        })
    }
}

impl std::error::Error for IdError {}

fn bounded(text: &str, max: usize, allowed: impl Fn(char) -> bool) -> Result<(), IdError> {
    if text.is_empty() {
        Err(IdError::Empty)
    } else if text.len() > max {
        Err(IdError::TooLong)
    } else if text.chars().all(allowed) {
        Ok(())
    } else {
        Err(IdError::BadCharacter)
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $max:expr, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and takes over `text`.
            ///
            /// # Errors
            /// [`IdError`] when `text` is empty, too long or has a forbidden character.
            pub fn new(text: impl AsRef<str>) -> Result<$name, IdError> {
                let text = text.as_ref();
                bounded(text, $max, $allowed)?;
                Ok($name(Arc::from(text)))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($name), &*self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<&str> for $name {
            type Error = IdError;
            fn try_from(text: &str) -> Result<$name, IdError> {
                $name::new(text)
            }
        }
    };
}

text_id! {
    /// A client identifier: 1 to 255 visible ASCII characters or spaces (RFC 6749 appendix A.1).
    ClientId, IDENTIFIER_LEN_MAX, |c| (' '..='~').contains(&c)
}

text_id! {
    /// Whom a token speaks for (`sub`, RFC 7519 section 4.1.2): 1 to 255 bytes of UTF-8 without
    /// control characters.
    Subject, IDENTIFIER_LEN_MAX, |c| !c.is_control()
}

text_id! {
    /// The organisation (tenant) of an authority: 1 to 18 ASCII letters and digits. It stands
    /// readable in every opaque handle, so that a gateway can route without a lookup.
    OrgId, ORG_ID_LEN_MAX, |c| c.is_ascii_alphanumeric()
}

text_id! {
    /// A device or installation that a host tells apart when it makes pairs unique: 1 to 255 bytes
    /// of UTF-8 without control characters.
    DeviceId, IDENTIFIER_LEN_MAX, |c| !c.is_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_keep_to_their_grammar() {
        assert!(ClientId::new("reports 1").is_ok());
        assert_eq!(ClientId::new(""), Err(IdError::Empty));
        assert_eq!(ClientId::new("a\nb"), Err(IdError::BadCharacter));
        assert_eq!(ClientId::new("ü"), Err(IdError::BadCharacter));
        assert_eq!(Subject::new("x".repeat(256)), Err(IdError::TooLong));
        assert!(Subject::new("ü".repeat(127)).is_ok());
        assert_eq!(OrgId::new("00D-1"), Err(IdError::BadCharacter));
    }
}
