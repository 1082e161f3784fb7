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

    /// The audiences that are in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Audience) -> Audience {
        Audience(self.0.intersection(&other.0))
    }

    pub(super) fn to_shared(&self) -> Arc<str> {
        self.0.to_shared()
    }
}

/// The `resource` parameters of a request, which may be repeated (RFC 8707 section 2): the audiences
/// that it asks for, as absolute URIs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resources<'a> {
    listed: [Option<&'a str>; AUDIENCES_MAX],
    len: usize,
}

impl<'a> Resources<'a> {
    /// These.
    #[must_use]
    pub fn of(uris: impl IntoIterator<Item = &'a str>) -> Resources<'a> {
        uris.into_iter().fold(Resources::default(), Resources::and)
    }

    /// These and one more. One without a value counts for nothing.
    #[must_use]
    pub fn and(mut self, uri: &'a str) -> Resources<'a> {
        if uri.is_empty() {
            return self;
        }
        if let Some(place) = self.listed.get_mut(self.len) {
            *place = Some(uri);
        }
        self.len += 1;
        self
    }

    /// The URIs, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> {
        self.listed.into_iter().flatten()
    }

    /// The audience that they and `others`, a space-delimited list, ask for; `None` for none.
    pub(super) fn audience(&self, others: Option<&str>) -> Result<Option<Audience>, Error> {
        if self.len > AUDIENCES_MAX {
            return Err(Error::InvalidTarget(Reason::new("too many resources")));
        }
        // "Its value MUST be an absolute URI [...] The URI MUST NOT include a fragment component."
        if !self.iter().all(is_absolute_uri) {
            return Err(Error::InvalidTarget(Reason::new("a resource is no absolute URI")));
        }
        if self.len == 0 {
            return others.map(Audience::parse).transpose();
        }
        let mut all = others.unwrap_or_default().to_owned();
        for uri in self.iter() {
            all.push(' ');
            all.push_str(uri);
        }
        Audience::parse(&all).map(Some)
    }
}

fn is_absolute_uri(uri: &str) -> bool {
    let named = uri.split_once(':').is_some_and(|(scheme, rest)| {
        let of_scheme = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(of_scheme)
            && !rest.is_empty()
    });
    named && uri.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
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
    fn resources_are_absolute_uris() -> Result<(), Error> {
        for good in ["https://a.example/x?y=1", "urn:a:b", "api-1:x"] {
            let asked = Resources::of([good, "", good]).audience(None)?;
            assert_eq!(asked.as_ref().map(Audience::as_str), Some(good));
        }
        for bad in
            ["a", "/x", ":x", "1a:x", "a b:c", "https:", "https://a#b", "https://a b", "\u{e9}:x"]
        {
            let refused = Resources::of([bad]).audience(None);
            assert!(matches!(refused, Err(Error::InvalidTarget(_))), "{bad}");
        }
        assert!(Resources::of(["", ""]).audience(None)?.is_none());
        let both = Resources::of(["urn:b"]).audience(Some("a"))?;
        assert_eq!(both.as_ref().map(Audience::as_str), Some("a urn:b"));
        let many: Vec<String> = (0..=AUDIENCES_MAX).map(|n| format!("urn:a:{n}")).collect();
        let many = Resources::of(many.iter().map(String::as_str));
        assert!(matches!(many.audience(None), Err(Error::InvalidTarget(_))));
        Ok(())
    }

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
