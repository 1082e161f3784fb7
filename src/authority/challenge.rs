//! What a resource answers a refused token with: a status, and the header `WWW-Authenticate`.

use std::fmt;

use super::error::Error;
use crate::codec::algorithm::Algorithm;

/// How an access token is presented to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scheme {
    /// RFC 6750.
    Bearer,
    /// With a proof of a key (RFC 9449 section 7.1).
    Dpop,
}

impl Scheme {
    /// Its name in a header.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Scheme::Bearer => "Bearer",
            Scheme::Dpop => "DPoP",
        }
    }
}

/// A challenge of a resource (RFC 9110 section 11.6.1, RFC 6750 section 3, RFC 9449 section 7.1). Its
/// text is the value of `WWW-Authenticate`. The nonce for the header `DPoP-Nonce` is the error's
/// ([`Error::dpop_nonce`]).
///
/// # Examples
/// ```
/// use mintage::authority::{Challenge, Scheme};
///
/// let challenge = Challenge::without_token(Scheme::Bearer);
/// assert_eq!((challenge.status, challenge.to_string()), (401, "Bearer".to_owned()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Challenge {
    /// The HTTP status that goes with it.
    pub status: u16,
    /// What is asked for.
    pub scheme: Scheme,
    /// The error code and its description; none for a request without a token.
    pub error: Option<(&'static str, &'static str)>,
}

impl Challenge {
    /// For a request that brought no token: it "SHOULD NOT include an error code" (RFC 6750 section 3.1).
    #[must_use]
    pub const fn without_token(scheme: Scheme) -> Challenge {
        Challenge { status: 401, scheme, error: None }
    }
}

impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scheme.name())?;
        let mut comma = " ";
        if let Some((code, description)) = self.error {
            write!(f, " error=\"{code}\", error_description=\"{description}\"")?;
            comma = ", ";
        }
        if self.scheme == Scheme::Dpop {
            // "A space-delimited list of supported algorithms".
            write!(f, "{comma}algs=\"")?;
            let mut space = "";
            for algorithm in Algorithm::ALL.iter().filter(|one| !one.is_symmetric()) {
                write!(f, "{space}{}", algorithm.name())?;
                space = " ";
            }
            f.write_str("\"")?;
        }
        Ok(())
    }
}

impl Error {
    /// What a resource answers a token with that was presented so and refused; `None` for an error that
    /// is none of a token. At the token endpoint the same errors have [`Error::status`] and no challenge.
    #[must_use]
    pub fn challenge(&self, presented: Scheme) -> Option<Challenge> {
        let (status, scheme) = match self {
            Error::InvalidToken(_) => (401, presented),
            Error::InsufficientScope(_) => (403, presented),
            Error::InvalidDpopProof(_) | Error::UseDpopNonce(..) => (401, Scheme::Dpop),
            _ => return None,
        };
        Some(Challenge { status, scheme, error: Some((self.code(), self.description())) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::Reason;
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_resource_says_what_it_wants() {
        let reason = || Reason::new("test");
        let of = |error: Error, scheme| {
            error.challenge(scheme).map(|challenge| (challenge.status, challenge.to_string()))
        };
        let nonce = Error::UseDpopNonce(reason(), Arc::from("n"));
        let text = "DPoP error=\"use_dpop_nonce\", error_description=\"the DPoP proof needs a nonce\", \
                    algs=\"ES256 ES384 EdDSA RS256 PS256\"";
        assert_eq!(of(nonce, Scheme::Bearer), Some((401, text.to_owned())));
        let text =
            "Bearer error=\"invalid_token\", error_description=\"the access token is invalid\"";
        assert_eq!(of(Error::InvalidToken(reason()), Scheme::Bearer), Some((401, text.to_owned())));
        let scope = of(Error::InsufficientScope(reason()), Scheme::Bearer);
        assert_eq!(scope.map(|(status, _)| status), Some(403));
        let bare = Challenge::without_token(Scheme::Dpop).to_string();
        assert_eq!(bare, "DPoP algs=\"ES256 ES384 EdDSA RS256 PS256\"");
        assert_eq!(of(Error::InvalidGrant(reason()), Scheme::Bearer), None);
    }
}
