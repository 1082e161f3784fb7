//! Scopes as a set with one canonical text, so that equal sets are equal bytes.

use std::fmt;
use std::sync::Arc;

/// The longest scope text, in bytes.
pub const SCOPE_LEN_MAX: usize = 2_048;
/// The most scope tokens in one set.
pub const SCOPE_TOKENS_MAX: usize = 128;

/// A text that is no scope (RFC 6749 section 3.3), or one over the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScopeError;

impl fmt::Display for ScopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the scope is malformed or too long")
    }
}

impl std::error::Error for ScopeError {}

/// A set of scope tokens: sorted, without duplicates, one space between them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope(Arc<str>);

impl Scope {
    /// The empty set.
    #[must_use]
    pub fn empty() -> Scope {
        Scope(Arc::from(""))
    }

    /// Reads a space-delimited list. Order and duplicates do not matter.
    ///
    /// # Errors
    /// [`ScopeError`] when a token has a character outside `%x21 / %x23-5B / %x5D-7E`, or the text
    /// is over [`SCOPE_LEN_MAX`] bytes or [`SCOPE_TOKENS_MAX`] tokens.
    pub fn parse(text: &str) -> Result<Scope, ScopeError> {
        if text.len() > SCOPE_LEN_MAX {
            return Err(ScopeError);
        }
        let mut tokens: Vec<&str> = text.split(' ').filter(|t| !t.is_empty()).collect();
        let valid = |t: &str| t.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5B | 0x5D..=0x7E));
        if tokens.len() > SCOPE_TOKENS_MAX || !tokens.iter().all(|t| valid(t)) {
            return Err(ScopeError);
        }
        tokens.sort_unstable();
        tokens.dedup();
        Ok(Scope(Arc::from(tokens.join(" "))))
    }

    /// Takes over a text that [`Scope::as_str`] gave.
    pub(crate) fn from_canonical(text: Arc<str>) -> Scope {
        Scope(text)
    }

    /// The canonical text, `""` for the empty set.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The canonical text, shared.
    #[must_use]
    pub fn to_shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// The tokens in order.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.0.split(' ').filter(|t| !t.is_empty())
    }

    /// Whether the set has no token.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `token` is in the set.
    #[must_use]
    pub fn has(&self, token: &str) -> bool {
        self.tokens().any(|t| t == token)
    }

    /// The tokens that are in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Scope) -> Scope {
        self.filtered(|token| other.has(token))
    }

    /// The tokens of this set that are not in `other`.
    #[must_use]
    pub fn without(&self, other: &Scope) -> Scope {
        self.filtered(|token| !other.has(token))
    }

    /// The tokens that `keep` keeps.
    pub(crate) fn filtered(&self, keep: impl Fn(&str) -> bool) -> Scope {
        if self.tokens().all(&keep) {
            return self.clone();
        }
        let kept: Vec<&str> = self.tokens().filter(|token| keep(token)).collect();
        Scope(Arc::from(kept.join(" ")))
    }

    /// The tokens that are in either set.
    ///
    /// # Errors
    /// [`ScopeError`] when there are too many.
    pub fn union(&self, other: &Scope) -> Result<Scope, ScopeError> {
        Scope::parse(&format!("{self} {other}"))
    }

    /// Whether every token of this set is in `of`.
    #[must_use]
    pub fn is_within(&self, of: &Scope) -> bool {
        self.tokens().all(|t| of.has(t))
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope({:?})", &*self.0)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_have_equal_text() -> Result<(), ScopeError> {
        assert_eq!(Scope::parse("web api  api")?.as_str(), "api web");
        assert_eq!(Scope::parse("")?, Scope::empty());
        assert!(Scope::parse("api")?.is_within(&Scope::parse("web api")?));
        assert!(!Scope::parse("api full")?.is_within(&Scope::parse("web api")?));
        let (some, others) = (Scope::parse("a b c")?, Scope::parse("b c d")?);
        assert_eq!(some.intersection(&others).as_str(), "b c");
        assert_eq!(some.union(&others)?.as_str(), "a b c d");
        assert_eq!((some.without(&others).as_str(), others.without(&some).as_str()), ("a", "d"));
        assert_eq!(some.intersection(&Scope::empty()), Scope::empty());
        assert_eq!(Scope::parse("a\"b"), Err(ScopeError));
        assert_eq!(Scope::parse("a\tb"), Err(ScopeError));
        assert_eq!(Scope::parse(&"x".repeat(SCOPE_LEN_MAX + 1)), Err(ScopeError));
        Ok(())
    }
}
