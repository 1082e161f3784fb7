//! The types of tokens, which no token has two of.

/// What a token is for. Its header says so, and a verifier takes one of them only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenType {
    /// RFC 9068 section 2.1.
    Access,
    /// OpenID Connect Core 1.0 section 2.
    Id,
}

impl TokenType {
    pub(in crate::codec) const ALL: [TokenType; 2] = [TokenType::Access, TokenType::Id];

    /// What is written as `typ`.
    pub(in crate::codec) const fn typ(self) -> &'static str {
        match self {
            TokenType::Access => "at+jwt",
            TokenType::Id => "JWT",
        }
    }
}
