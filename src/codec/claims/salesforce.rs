//! The claims of Salesforce's JWT access tokens, for resource servers that were written for it.

use super::sealed::Claims;
use super::{AccessClaims, ClaimsWriter, Common};
use crate::codec::jws::{SignError, TokenType};

/// What stands before the subject in `sub`.
pub(in crate::codec) const SUBJECT_PREFIX: &str = "uid:";
/// What stands before the id of a guest.
const GUEST_PREFIX: &str = "uvid:";

/// Whether it is a subject as Salesforce's tokens have it.
pub(in crate::codec) fn is_prefixed(subject: &str) -> bool {
    subject.starts_with(SUBJECT_PREFIX) || subject.starts_with(GUEST_PREFIX)
}
/// How far `nbf` lies before `iat`, in seconds: for verifiers whose clocks are slow.
const NOT_BEFORE_SECS: u64 = 15;

/// The claims of an access token, spelt as Salesforce spells them: `scp`, `aud` as an array, `sub`
/// with `uid:` before it, `nbf`, `mty`, `sfi`, `roles` and `hsc`. Its header has `tty` and `ver`, and
/// `typ` is that of any JWT: RFC 9068 it is not.
#[derive(Clone, Copy, Debug)]
pub struct SalesforceClaims<'a> {
    /// The claims; `not_before` counts for nothing. `subject` has the prefix `uid:`.
    pub claims: AccessClaims<'a>,
    /// `sfi`: 64 hexadecimal digits that tell one session from another.
    pub fingerprint: &'a str,
}

impl Claims for SalesforceClaims<'_> {
    const TYPE: TokenType = TokenType::Salesforce;

    #[inline]
    fn common(&self) -> Common<'_> {
        Common { is_list: true, ..self.claims.common() }
    }

    fn write_rest<'c>(&'c self, out: &mut ClaimsWriter<'c>) -> Result<(), SignError> {
        let AccessClaims { subject, scope, issued_at, expires_at, jti, extra, .. } = &self.claims;
        if !is_prefixed(subject) {
            return Err(SignError::ReservedClaim);
        }
        out.push(b",\"sub\":")?;
        out.quoted(subject)?;
        if !scope.is_empty() {
            out.push(b",\"scp\":")?;
            out.quoted(scope)?;
        }
        out.date(b",\"iat\":", *issued_at)?;
        out.date(b",\"nbf\":", issued_at.minus(NOT_BEFORE_SECS))?;
        out.date(b",\"exp\":", *expires_at)?;
        out.push(b",\"jti\":")?;
        out.quoted(jti)?;
        out.push(b",\"mty\":\"oauth\",\"sfi\":")?;
        out.quoted(self.fingerprint)?;
        out.push(b",\"roles\":[],\"hsc\":false")?;
        extra.write(out)?;
        out.push(b"}")
    }

    fn is_reserved(name: &str) -> bool {
        super::is_access_claim(name) || matches!(name, "scp" | "mty" | "sfi" | "roles" | "hsc")
    }
}
