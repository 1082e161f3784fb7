//! What the tokens for one client have in common, encoded and absorbed once.

use std::fmt;
use std::sync::Arc;

use bytes::BytesMut;

use super::sign::{Begun, sign_into, sign_to, token_len};
use super::{SignError, TokenType};
use crate::codec::base64url;
use crate::codec::claims::{Carried, ClaimsWriter, Common, TokenClaims};
use crate::codec::keys::{Absorbed, SigningKey};

/// The start of all tokens of one key and type for one client: the header, the issuer, the audience
/// and the client (`client_id`, or `azp` of an ID token). HMAC keys have it hashed, too.
///
/// A token is the same whether a template made it or not.
///
/// # Examples
/// ```
/// use std::sync::Arc;
///
/// use mintage::codec::claims::{AccessClaims, NoExtraClaims};
/// use mintage::codec::jws::Template;
/// use mintage::codec::keys::SigningKey;
/// use mintage::time::Timestamp;
///
/// let key = Arc::new(SigningKey::hmac(None, b"a secret of thirty-two bytes, 32")?);
/// let claims = AccessClaims {
///     issuer: "https://login.example.com",
///     subject: "user-42",
///     audience: &["https://api.example.com"],
///     client_id: "reports",
///     scope: "api",
///     issued_at: Timestamp(1_700_000_000),
///     not_before: None,
///     expires_at: Timestamp(1_700_003_600),
///     jti: "7c9e6679",
///     extra: &NoExtraClaims,
/// };
/// let template = Template::new(Arc::clone(&key), &claims)?;
/// let mut out = [0; 1_024];
/// let next = AccessClaims { subject: "user-43", jti: "25de944b", ..claims };
/// let token = template.sign_into(&next, &mut out)?.to_owned();
/// assert_eq!(token, key.sign_into(&next, &mut out)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Template {
    key: Arc<SigningKey>,
    typ: TokenType,
    issuer: Box<str>,
    audience: Box<[Box<str>]>,
    party: Option<Box<str>>,
    text: Box<[u8]>,
    absorbed: Option<Absorbed>,
    carried: Carried,
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({:?}, {:?})", self.key, self.party)
    }
}

impl Template {
    /// The template of `key` for tokens that have issuer, audience and client in common with
    /// `like`.
    ///
    /// # Errors
    /// [`SignError::NoAudience`], [`SignError::TooLong`].
    pub fn new<C: TokenClaims>(key: Arc<SigningKey>, like: &C) -> Result<Template, SignError> {
        let common = like.common();
        let json_len = {
            let mut counting = ClaimsWriter::new(None, C::is_reserved);
            common.write(&mut counting)?;
            counting.json_len()
        };
        let start = key.verifying_key().start(C::TYPE);
        let mut text = vec![0; start.len() + base64url::encoded_len(json_len)];
        if text.len() > super::TOKEN_LEN_MAX {
            return Err(SignError::TooLong);
        }
        let (head, payload) = text.split_at_mut(start.len());
        head.copy_from_slice(start);
        let mut writer = ClaimsWriter::new(Some(payload), C::is_reserved);
        common.write(&mut writer)?;
        writer.finish()?;
        // Whole groups of three bytes are encoded; what is left over goes before what follows.
        let groups = start.len() + json_len / 3 * 4;
        let mut carried = [0; 3];
        let last = text.get(groups..).unwrap_or(&[]);
        let len = base64url::decode_into(last, &mut carried).map_err(|_| SignError::Refused)?.len();
        text.truncate(groups);
        Ok(Template {
            typ: C::TYPE,
            issuer: common.issuer.into(),
            audience: common.audience.iter().map(|one| Box::from(*one)).collect(),
            party: common.party.map(Box::from),
            absorbed: key.absorb(&text),
            text: text.into(),
            carried: Carried { bytes: [carried[0], carried[1]], len },
            key,
        })
    }

    /// Whether the template is for such claims.
    #[must_use]
    pub fn fits<C: TokenClaims>(&self, claims: &C) -> bool {
        let Common { issuer, audience, party, .. } = claims.common();
        self.typ == C::TYPE
            && *self.issuer == *issuer
            && self.party.as_deref() == party
            && self.audience.len() == audience.len()
            && self.audience.iter().zip(audience).all(|(one, other)| **one == **other)
    }

    /// As [`SigningKey::token_len`].
    ///
    /// # Errors
    /// [`SignError`], also [`SignError::OtherTemplate`] if the template does not [fit](Self::fits).
    pub fn token_len<C: TokenClaims>(&self, claims: &C) -> Result<usize, SignError> {
        token_len(&self.key, self.begun(claims)?, claims)
    }

    /// As [`SigningKey::sign_into`].
    ///
    /// # Errors
    /// As [`Template::token_len`].
    pub fn sign_into<'o, C: TokenClaims>(
        &self,
        claims: &C,
        out: &'o mut [u8],
    ) -> Result<&'o str, SignError> {
        sign_into(&self.key, self.begun(claims)?, claims, out)
    }

    /// As [`SigningKey::sign_to`].
    ///
    /// # Errors
    /// As [`Template::token_len`].
    pub fn sign_to<C: TokenClaims>(&self, claims: &C, out: &mut BytesMut) -> Result<(), SignError> {
        sign_to(&self.key, self.begun(claims)?, claims, out)
    }

    fn begun<C: TokenClaims>(&self, claims: &C) -> Result<Begun<'_>, SignError> {
        if !self.fits(claims) {
            return Err(SignError::OtherTemplate);
        }
        Ok(Begun {
            text: &self.text,
            absorbed: self.absorbed.as_ref(),
            has_common: true,
            carried: self.carried,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::algorithm::Algorithm;
    use crate::codec::claims::{AccessClaims, IdClaims, NoExtraClaims};
    use crate::entropy::SeededEntropy;
    use crate::time::Timestamp;

    const ACCESS: AccessClaims<'static> = AccessClaims {
        issuer: "https://as.example",
        subject: "u1",
        audience: &["api"],
        client_id: "C1",
        scope: "a b",
        issued_at: Timestamp(1),
        not_before: None,
        expires_at: Timestamp(2),
        jti: "j1",
        extra: &NoExtraClaims,
    };
    const ID: IdClaims<'static> = IdClaims {
        issuer: "https://as.example",
        subject: "u1",
        audience: &["C1"],
        authorized_party: None,
        issued_at: Timestamp(1),
        expires_at: Timestamp(2),
        auth_time: None,
        nonce: None,
        acr: None,
        amr: &[],
        at_hash: None,
        c_hash: None,
        extra: &NoExtraClaims,
    };

    #[test]
    fn a_token_is_the_same_with_and_without_a_template() -> Result<(), Box<dyn std::error::Error>> {
        let mut outs = [[0; 2_048]; 2];
        let [one, two] = &mut outs;
        for algorithm in [Algorithm::Hs256, Algorithm::EdDsa] {
            let key = SigningKey::generate(algorithm, Some("k1"), &SeededEntropy::new(1))?;
            let key = Arc::new(key);
            for len in 0..50 {
                let client = "\"".repeat(len);
                let access = AccessClaims { client_id: &client, ..ACCESS };
                let template = Template::new(Arc::clone(&key), &access)?;
                let token = template.sign_into(&access, one)?;
                assert_eq!(token, key.sign_into(&access, two)?, "{algorithm} {len}");
                assert_eq!(template.token_len(&access)?, token.len());
                let mut appended = BytesMut::new();
                template.sign_to(&access, &mut appended)?;
                assert_eq!(appended, token);
                let id = IdClaims { authorized_party: Some(&client), ..ID };
                let template = Template::new(Arc::clone(&key), &id)?;
                assert_eq!(template.sign_into(&id, one)?, key.sign_into(&id, two)?);
            }
        }
        Ok(())
    }

    #[test]
    fn a_template_makes_no_other_tokens() -> Result<(), Box<dyn std::error::Error>> {
        let key = Arc::new(SigningKey::hmac(Some("k1"), &[7; 32])?);
        let template = Template::new(Arc::clone(&key), &ACCESS)?;
        let mut out = [0; 1_024];
        for other in [
            AccessClaims { issuer: "https://other.example", ..ACCESS },
            AccessClaims { audience: &["api", "b"], ..ACCESS },
            AccessClaims { audience: &["b"], ..ACCESS },
            AccessClaims { client_id: "C2", ..ACCESS },
        ] {
            let refused = template.sign_into(&other, &mut out).err();
            assert_eq!(refused, Some(SignError::OtherTemplate), "{other:?}");
            assert_eq!(template.token_len(&other).err(), refused);
        }
        let id = IdClaims { audience: &["api"], authorized_party: Some("C1"), ..ID };
        assert_eq!(template.sign_into(&id, &mut out).err(), Some(SignError::OtherTemplate));
        let none = Template::new(key, &AccessClaims { audience: &[], ..ACCESS }).err();
        assert_eq!(none, Some(SignError::NoAudience));
        Ok(())
    }
}
