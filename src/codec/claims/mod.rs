//! The claims of access tokens (RFC 9068 section 2.2) and ID tokens (OpenID Connect Core 1.0 section
//! 2), written straight into the token: no copy of the JSON is ever made, and its length is known
//! beforehand.
//!
//! What tokens for one client have in common comes first, so that a
//! [`Template`](super::jws::Template) can keep it encoded.

mod id;
mod introspection;
mod salesforce;
mod writer;

use std::fmt;

use super::jws::{SignError, TokenType};
use crate::time::Timestamp;

pub use id::{HalfHash, IdClaims};
pub use salesforce::SalesforceClaims;
pub use writer::ClaimsWriter;

pub(crate) use introspection::IntrospectionClaims;

pub(super) use id::is_id_claim;
pub(super) use salesforce::{SUBJECT_PREFIX, is_prefixed};
pub(super) use writer::Carried;

/// The most extra claims in one token.
pub const EXTRA_CLAIMS_MAX: usize = 32;
/// The latest time that a token can carry: what every JSON reader can hold exactly (RFC 7493
/// section 2.2).
pub const NUMERIC_DATE_MAX: u64 = (1 << 53) - 1;

/// The claims of a type of token: [`AccessClaims`], [`SalesforceClaims`] and [`IdClaims`], no others of
/// yours.
pub trait TokenClaims: sealed::Claims {}

impl TokenClaims for AccessClaims<'_> {}
impl TokenClaims for IdClaims<'_> {}
impl TokenClaims for SalesforceClaims<'_> {}

/// Here, so that nobody else can call or implement it.
pub(super) mod sealed {
    use super::{ClaimsWriter, Common, SignError, TokenType};

    pub trait Claims {
        #[doc(hidden)]
        const TYPE: TokenType;

        /// What tokens for one client have in common.
        #[doc(hidden)]
        fn common(&self) -> Common<'_>;

        /// The rest of the object, its end included.
        #[doc(hidden)]
        fn write_rest<'c>(&'c self, out: &mut ClaimsWriter<'c>) -> Result<(), SignError>;

        /// Whether there is a field for that claim.
        #[doc(hidden)]
        fn is_reserved(name: &str) -> bool;
    }
}

/// The claims that stand first, and the name of the last of them, if it is there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Common<'a> {
    pub(super) issuer: &'a str,
    pub(super) audience: &'a [&'a str],
    pub(super) party_name: &'static str,
    pub(super) party: Option<&'a str>,
    /// Whether a single audience is an array, too.
    pub(super) is_list: bool,
}

impl Common<'_> {
    pub(super) fn write(&self, out: &mut ClaimsWriter<'_>) -> Result<(), SignError> {
        out.push(b"{\"iss\":")?;
        out.quoted(self.issuer)?;
        out.push(b",\"aud\":")?;
        match self.audience {
            [] => return Err(SignError::NoAudience),
            [one] if !self.is_list => out.quoted(one)?,
            several => out.array(several)?,
        }
        if let Some(party) = self.party {
            out.push(b",")?;
            out.quoted(self.party_name)?;
            out.push(b":")?;
            out.quoted(party)?;
        }
        Ok(())
    }
}

/// The claims of one access token, borrowed from wherever they are.
#[derive(Clone, Copy)]
pub struct AccessClaims<'a> {
    /// `iss`: the issuer identifier of the authority.
    pub issuer: &'a str,
    /// `sub`: whom the token speaks for.
    pub subject: &'a str,
    /// `aud`: at least one; a single one is written as a string, more as an array.
    pub audience: &'a [&'a str],
    /// `client_id`: the client that the token was issued to.
    pub client_id: &'a str,
    /// `scope`: space-delimited; left out when empty.
    pub scope: &'a str,
    /// `iat`.
    pub issued_at: Timestamp,
    /// `nbf`, if any.
    pub not_before: Option<Timestamp>,
    /// `exp`.
    pub expires_at: Timestamp,
    /// `jti`.
    pub jti: &'a str,
    /// Whatever else; [`NoExtraClaims`] for nothing.
    pub extra: &'a dyn ExtraClaims,
}

impl fmt::Debug for AccessClaims<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessClaims").field("jti", &self.jti).finish_non_exhaustive()
    }
}

impl sealed::Claims for AccessClaims<'_> {
    const TYPE: TokenType = TokenType::Access;

    #[inline]
    fn common(&self) -> Common<'_> {
        Common {
            issuer: self.issuer,
            audience: self.audience,
            party_name: "client_id",
            party: Some(self.client_id),
            is_list: false,
        }
    }

    fn write_rest<'c>(&'c self, out: &mut ClaimsWriter<'c>) -> Result<(), SignError> {
        out.push(b",\"sub\":")?;
        out.quoted(self.subject)?;
        if !self.scope.is_empty() {
            out.push(b",\"scope\":")?;
            out.quoted(self.scope)?;
        }
        out.date(b",\"iat\":", self.issued_at)?;
        if let Some(not_before) = self.not_before {
            out.date(b",\"nbf\":", not_before)?;
        }
        out.date(b",\"exp\":", self.expires_at)?;
        out.push(b",\"jti\":")?;
        out.quoted(self.jti)?;
        self.extra.write(out)?;
        out.push(b"}")
    }

    fn is_reserved(name: &str) -> bool {
        is_access_claim(name)
    }
}

/// Claims beyond the standard ones. It is called twice per token, for the length and for the
/// text, and must write the same both times.
///
/// # Examples
/// ```
/// use mintage::codec::claims::{ClaimsWriter, ExtraClaims};
/// use mintage::codec::jws::SignError;
///
/// struct Session<'a>(&'a str);
///
/// impl ExtraClaims for Session<'_> {
///     fn write<'c>(&'c self, claims: &mut ClaimsWriter<'c>) -> Result<(), SignError> {
///         claims.str("sid", self.0)
///     }
/// }
/// ```
pub trait ExtraClaims {
    /// Writes the claims, each name once.
    ///
    /// # Errors
    /// What `claims` returned.
    fn write<'c>(&'c self, claims: &mut ClaimsWriter<'c>) -> Result<(), SignError>;
}

/// No extra claims.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoExtraClaims;

impl ExtraClaims for NoExtraClaims {
    fn write<'c>(&'c self, _claims: &mut ClaimsWriter<'c>) -> Result<(), SignError> {
        Ok(())
    }
}

/// Whether [`AccessClaims`] has a field of its own for that claim.
pub(super) fn is_access_claim(name: &str) -> bool {
    matches!(name, "iss" | "sub" | "aud" | "client_id" | "scope" | "iat" | "nbf" | "exp" | "jti")
}
