//! The claims of a signed answer to an introspection (RFC 9701).

use super::sealed::Claims;
use super::{ClaimsWriter, Common, TokenClaims};
use crate::codec::jws::{SignError, TokenType};
use crate::time::Timestamp;

/// An answer to an introspection, as a JWT for the resource server that asked (RFC 9701 section 5).
#[derive(Clone, Copy, Debug)]
pub(crate) struct IntrospectionClaims<'a> {
    pub(crate) issuer: &'a str,
    /// The resource server.
    pub(crate) audience: &'a [&'a str],
    pub(crate) issued_at: Timestamp,
    /// `token_introspection`: the answer, a JSON object.
    pub(crate) answer: &'a str,
}

impl TokenClaims for IntrospectionClaims<'_> {}

impl Claims for IntrospectionClaims<'_> {
    const TYPE: TokenType = TokenType::Introspection;

    fn common(&self) -> Common<'_> {
        let IntrospectionClaims { issuer, audience, .. } = *self;
        Common { issuer, audience, party_name: "azp", party: None, is_list: false }
    }

    fn write_rest<'c>(&'c self, out: &mut ClaimsWriter<'c>) -> Result<(), SignError> {
        out.date(b",\"iat\":", self.issued_at)?;
        out.push(b",\"token_introspection\":")?;
        out.push(self.answer.as_bytes())?;
        out.push(b"}")
    }

    fn is_reserved(_: &str) -> bool {
        true
    }
}
