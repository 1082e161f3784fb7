//! How a client may prove who it is.

/// A way for a client to authenticate (RFC 6749 section 2.3, RFC 7523, RFC 8705). One that a client
/// is not registered for does not open, so that nobody can fall back to a weaker one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuthMethod {
    /// `none`: it says who it is and proves nothing. For clients that can keep no secret.
    None,
    /// `client_secret_basic` and `client_secret_post`: its secret, in the `Authorization` header or
    /// in the body. They are one method, for the secret is the same.
    ClientSecret,
    /// `client_secret_jwt`: an assertion under an HMAC of its secret. The authority then keeps the
    /// secret itself, sealed, and not a digest alone; prefer [`AuthMethod::PrivateKeyJwt`].
    ClientSecretJwt,
    /// `private_key_jwt`: an assertion signed with a key of its own.
    PrivateKeyJwt,
    /// `self_signed_tls_client_auth`: the certificate of its connection, known by its thumbprint.
    SelfSignedTls,
}

impl AuthMethod {
    const NAMES: [(&'static str, AuthMethod); 6] = [
        ("none", AuthMethod::None),
        ("client_secret_basic", AuthMethod::ClientSecret),
        ("client_secret_post", AuthMethod::ClientSecret),
        ("client_secret_jwt", AuthMethod::ClientSecretJwt),
        ("private_key_jwt", AuthMethod::PrivateKeyJwt),
        ("self_signed_tls_client_auth", AuthMethod::SelfSignedTls),
    ];

    /// The registered name (`token_endpoint_auth_method`); of two names, the one that RFC 6749 has
    /// every server support.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            AuthMethod::None => "none",
            AuthMethod::ClientSecret => "client_secret_basic",
            AuthMethod::ClientSecretJwt => "client_secret_jwt",
            AuthMethod::PrivateKeyJwt => "private_key_jwt",
            AuthMethod::SelfSignedTls => "self_signed_tls_client_auth",
        }
    }

    /// Every registered name.
    pub(in crate::authority) fn names() -> impl Iterator<Item = &'static str> {
        AuthMethod::NAMES.into_iter().map(|(name, _)| name)
    }

    /// The method of that registered name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<AuthMethod> {
        AuthMethod::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, method)| method)
    }

    /// Whether it takes a secret that both sides have.
    pub(in crate::authority) const fn takes_secret(self) -> bool {
        matches!(self, AuthMethod::ClientSecret | AuthMethod::ClientSecretJwt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_are_registered() {
        for (name, method) in AuthMethod::NAMES {
            assert_eq!(AuthMethod::from_name(name), Some(method));
            assert_eq!(AuthMethod::from_name(method.name()), Some(method));
        }
        assert_eq!(AuthMethod::from_name("tls_client_auth"), None);
    }
}
