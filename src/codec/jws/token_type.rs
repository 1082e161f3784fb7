//! The types of tokens, which no token has two of.

/// What a token is for. Its header says so, and a verifier takes one of them only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenType {
    /// RFC 9068 section 2.1.
    Access,
    /// OpenID Connect Core 1.0 section 2.
    Id,
    /// An access token as Salesforce writes it.
    Salesforce,
    /// RFC 9701 section 5.
    Introspection,
}

impl TokenType {
    pub(in crate::codec) const ALL: [TokenType; 4] =
        [TokenType::Access, TokenType::Id, TokenType::Salesforce, TokenType::Introspection];

    /// What is written as `typ`.
    pub(in crate::codec) const fn typ(self) -> &'static str {
        match self {
            TokenType::Access => "at+jwt",
            TokenType::Id | TokenType::Salesforce => "JWT",
            TokenType::Introspection => "token-introspection+jwt",
        }
    }

    /// What else its header has. It tells Salesforce's access tokens from ID tokens: a header with
    /// other members than it writes is refused.
    pub(in crate::codec) const fn more(self) -> &'static str {
        match self {
            TokenType::Salesforce => r#","tty":"sfdc-core-token","ver":"1.0""#,
            TokenType::Access | TokenType::Id | TokenType::Introspection => "",
        }
    }
}
