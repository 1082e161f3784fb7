//! Audiences as a set with one canonical text: the resource servers that a token is meant for
//! (RFC 8707; `aud`, RFC 7519 section 4.1.3).

use std::fmt;
use std::sync::Arc;

use super::error::{Error, Reason};
use crate::scope::Scope;

/// The most audiences of one token.
pub const AUDIENCES_MAX: usize = 16;

/// A set of audiences. Their texts have the grammar of scope tokens: visible ASCII without quote,
/// backslash and space, which every absolute URI has.
#[derive(Clone, PartialEq, Eq)]
pub struct Audience(Scope);

impl Audience {
    /// No audience.
    #[must_use]
    pub fn empty() -> Audience {
        Audience(Scope::empty())
    }

    /// Reads a space-delimited list. Order and duplicates do not matter.
    ///
    /// # Errors
    /// [`Error::InvalidTarget`] for a malformed text and for more than [`AUDIENCES_MAX`].
    pub fn parse(text: &str) -> Result<Audience, Error> {
        let set = Scope::parse(text);
        let set = set.map_err(|error| Error::InvalidTarget(Reason::with("audience", error)))?;
        if set.tokens().count() > AUDIENCES_MAX {
            return Err(Error::InvalidTarget(Reason::new("too many audiences")));
        }
        Ok(Audience(set))
    }

    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The audiences in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.tokens()
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every audience of this set is in `of`.
    #[must_use]
    pub fn is_within(&self, of: &Audience) -> bool {
        self.0.is_within(&of.0)
    }

    pub(super) fn to_shared(&self) -> Arc<str> {
        self.0.to_shared()
    }
}

impl fmt::Debug for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Audience({:?})", self.as_str())
    }
}

/// Whether two canonical texts have an audience in common.
pub(super) fn overlap(a: &str, b: &str) -> bool {
    a.split(' ').any(|one| !one.is_empty() && b.split(' ').any(|other| one == other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audiences_are_a_bounded_set() -> Result<(), Error> {
        let two = Audience::parse("https://b.example https://a.example https://b.example")?;
        assert_eq!(two.as_str(), "https://a.example https://b.example");
        assert!(Audience::parse("https://a.example")?.is_within(&two));
        let many: Vec<String> = (0..=AUDIENCES_MAX).map(|n| format!("urn:a:{n}")).collect();
        assert!(matches!(Audience::parse(&many.join(" ")), Err(Error::InvalidTarget(_))));
        assert!(matches!(Audience::parse("a\"b"), Err(Error::InvalidTarget(_))));
        assert!(overlap("a b", "c b") && !overlap("a b", "c") && !overlap("", ""));
        Ok(())
    }
}
