//! Which scopes hold others. The RFCs know no such thing but two names for the right to refresh;
//! Salesforce's scopes have an order.

use super::client::REFRESH_SCOPES;
use super::error::{Error, Reason};
use super::profile::Profile;
use super::{Authority, Inner};
use crate::scope::Scope;
use crate::store::Store;

/// Salesforce's: the left one holds the right ones.
const IMPLIED: [(&str, &[&str]); 7] = [
    ("api", &["chatter_api"]),
    ("web", &["visualforce"]),
    ("id", &["profile", "email", "address", "phone"]),
    ("profile", &["id"]),
    ("email", &["id"]),
    ("address", &["id"]),
    ("phone", &["id"]),
];

impl Profile {
    /// Whether a scope holds `token`: it has it, or, with Salesforce, one that implies it. `full` holds
    /// everything but the right to refresh.
    pub(super) fn covers(self, scope: &Scope, token: &str) -> bool {
        if scope.has(token) {
            return true;
        }
        if REFRESH_SCOPES.contains(&token) {
            return REFRESH_SCOPES.iter().any(|name| scope.has(name));
        }
        let implies = |(holder, held): &(&str, &[&str])| held.contains(&token) && scope.has(holder);
        self == Profile::Salesforce && (scope.has("full") || IMPLIED.iter().any(implies))
    }

    /// What both hold.
    pub(super) fn both(self, one: &Scope, other: &Scope) -> Scope {
        let held = |scope: &Scope, within| self.covered(scope, within);
        // What one of them names and the other holds, whichever it is that names it.
        let (a, b) = (held(one, other), held(other, one));
        a.union(&b).unwrap_or(a)
    }

    /// What of `scope` is held by `within`.
    pub(super) fn covered(self, scope: &Scope, within: &Scope) -> Scope {
        scope.filtered(|token| self.covers(within, token))
    }
}

impl<S: Store> Authority<S> {
    /// Whether a token with the scope `granted` may be used for what needs `needed`, one scope token.
    /// With [`Profile::Salesforce`], `full` will do for everything but refreshing, `api` for
    /// `chatter_api`, `web` for `visualforce`, and `id` for `profile`, `email`, `address` and `phone`.
    ///
    /// # Errors
    /// [`Error::InsufficientScope`].
    pub fn require_scope(&self, granted: &Scope, needed: &str) -> Result<(), Error> {
        self.inner.require_scope(granted, needed)
    }
}

impl<S> Inner<S> {
    pub(super) fn require_scope(&self, granted: &Scope, needed: &str) -> Result<(), Error> {
        match self.profile.covers(granted, needed) {
            true => Ok(()),
            false => Err(Error::InsufficientScope(Reason::new("the scope does not hold it"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope::ScopeError;

    #[test]
    fn salesforces_scopes_hold_others_and_those_of_the_rfcs_do_not() -> Result<(), ScopeError> {
        let table = [
            ("api", "chatter_api", true),
            ("chatter_api", "api", false),
            ("web", "visualforce", true),
            ("visualforce", "web", false),
            ("full", "api", true),
            ("full", "anything", true),
            ("full", "refresh_token", false),
            ("full", "offline_access", false),
            ("api web", "full", false),
            ("id", "email", true),
            ("email", "id", true),
            ("email", "phone", false),
            ("api", "web", false),
            ("", "api", false),
        ];
        for (scope, token, held) in table {
            let scope = Scope::parse(scope)?;
            assert_eq!(Profile::Salesforce.covers(&scope, token), held, "{scope:?} {token}");
            assert!(!Profile::Standard.covers(&scope, token), "{scope:?} {token}");
        }
        for profile in [Profile::Standard, Profile::Salesforce] {
            assert!(profile.covers(&Scope::parse("offline_access")?, "refresh_token"));
            assert!(profile.covers(&Scope::parse("refresh_token")?, "offline_access"));
        }
        let (some, within) = (Scope::parse("a chatter_api")?, Scope::parse("api")?);
        assert_eq!(Profile::Salesforce.covered(&some, &within).as_str(), "chatter_api");
        assert_eq!(Profile::Standard.covered(&some, &within), Scope::empty());
        Ok(())
    }
}
