//! Signing: the token is built where it will stay.

use std::fmt;

use bytes::BytesMut;

use super::TOKEN_LEN_MAX;
use crate::codec::base64url;
use crate::codec::claims::{Carried, ClaimsWriter, TokenClaims};
use crate::codec::keys::{Absorbed, SignerError, SigningKey};

/// Why no token was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignError {
    /// The buffer is shorter than [`SigningKey::token_len`] says.
    BufferTooShort,
    /// The token would be longer than [`TOKEN_LEN_MAX`], and so refused everywhere.
    TooLong,
    /// There is no audience (RFC 9068 section 2.2 requires one).
    NoAudience,
    /// A time is later than [`NUMERIC_DATE_MAX`](crate::codec::claims::NUMERIC_DATE_MAX).
    DateOutOfRange,
    /// An extra claim has the name of a standard one.
    ReservedClaim,
    /// Two extra claims have one name.
    DuplicateClaim,
    /// There are more extra claims than
    /// [`EXTRA_CLAIMS_MAX`](crate::codec::claims::EXTRA_CLAIMS_MAX).
    TooManyClaims,
    /// The claims are not of the type of the template, or differ from it in those that its tokens
    /// have in common.
    OtherTemplate,
    /// The crypto library refused to sign: its randomness failed, or the key is faulty.
    Refused,
    /// The private key is elsewhere: only [`SigningKey::sign_async`] can wait for its signature.
    Remote,
    /// The remote signer has not signed.
    Signer(SignerError),
    /// What the remote signer gave is no signature of its key, or not in the form of RFC 7518.
    WrongSignature,
}

impl fmt::Display for SignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SignError::BufferTooShort => "the buffer is too short for the token",
            SignError::TooLong => "the token would be too long",
            SignError::NoAudience => "a token needs an audience",
            SignError::DateOutOfRange => "a time is too late for a token to carry",
            SignError::ReservedClaim => "an extra claim has the name of a standard claim",
            SignError::DuplicateClaim => "two extra claims have one name",
            SignError::TooManyClaims => "there are too many extra claims",
            SignError::OtherTemplate => "the claims are not those of the template",
            SignError::Refused => "the crypto library refused to sign",
            SignError::Remote => "the private key is elsewhere and must be waited for",
            SignError::Signer(error) => return error.fmt(f),
            SignError::WrongSignature => "the remote signer gave no signature of its key",
        })
    }
}

impl std::error::Error for SignError {}

impl SigningKey {
    /// The exact length of the token with these claims, in bytes.
    ///
    /// # Errors
    /// [`SignError`] when no such token can be made.
    pub fn token_len<C: TokenClaims>(&self, claims: &C) -> Result<usize, SignError> {
        token_len(self, Begun::of_key::<C>(self), claims)
    }

    /// Writes the token with these claims to the start of `out` and returns it. Who makes many
    /// tokens for one client keeps a [`Template`](super::Template).
    ///
    /// # Errors
    /// [`SignError`]; what `out` holds then is no token.
    pub fn sign_into<'o, C: TokenClaims>(
        &self,
        claims: &C,
        out: &'o mut [u8],
    ) -> Result<&'o str, SignError> {
        sign_into(self, Begun::of_key::<C>(self), claims, out)
    }

    /// Appends the token with these claims to `out`, which grows only if its capacity is short of
    /// [`SigningKey::token_len`].
    ///
    /// # Errors
    /// [`SignError`]; `out` is then as it was.
    pub fn sign_to<C: TokenClaims>(&self, claims: &C, out: &mut BytesMut) -> Result<(), SignError> {
        sign_to(self, Begun::of_key::<C>(self), claims, out)
    }
}

/// What of a token is there before its claims are looked at.
#[derive(Clone, Copy)]
pub(super) struct Begun<'a> {
    /// The start of the token. It ends where base64url starts a new group of four characters.
    pub(super) text: &'a [u8],
    /// The text as a MAC takes it in.
    pub(super) absorbed: Option<&'a Absorbed>,
    /// Whether the claims that tokens have in common are in the text.
    pub(super) has_common: bool,
    /// What of them is not.
    pub(super) carried: Carried,
}

impl<'a> Begun<'a> {
    pub(super) fn of_key<C: TokenClaims>(key: &'a SigningKey) -> Begun<'a> {
        let public = key.verifying_key();
        Begun {
            text: public.start(C::TYPE),
            absorbed: public.absorbed_start(C::TYPE),
            has_common: false,
            carried: Carried::default(),
        }
    }

    /// Writes the claims that are not in the text yet, and returns how many characters they take.
    fn write<'c, C: TokenClaims>(
        self,
        claims: &'c C,
        out: Option<&'c mut [u8]>,
    ) -> Result<usize, SignError> {
        let mut writer = ClaimsWriter::new(out, C::is_reserved);
        if self.has_common {
            writer.carry_on(self.carried);
        } else {
            claims.common().write(&mut writer)?;
        }
        claims.write_rest(&mut writer)?;
        writer.finish()
    }
}

pub(super) fn token_len<C: TokenClaims>(
    key: &SigningKey,
    begun: Begun<'_>,
    claims: &C,
) -> Result<usize, SignError> {
    let signature_len = base64url::encoded_len(key.verifying_key().signature_len());
    let len = begun.text.len() + begun.write(claims, None)? + 1 + signature_len;
    if len > TOKEN_LEN_MAX { Err(SignError::TooLong) } else { Ok(len) }
}

pub(super) fn sign_into<'o, C: TokenClaims>(
    key: &SigningKey,
    begun: Begun<'_>,
    claims: &C,
    out: &'o mut [u8],
) -> Result<&'o str, SignError> {
    let input_len = write_input(begun, claims, out)?;
    let (input, rest) = out.split_at_mut_checked(input_len).ok_or(SignError::BufferTooShort)?;
    let (dot, room) = rest.split_first_mut().ok_or(SignError::BufferTooShort)?;
    *dot = b'.';
    let len = input_len + 1 + key.sign(begun.absorbed, input, room)?;
    if len > TOKEN_LEN_MAX {
        return Err(SignError::TooLong);
    }
    let token = out.get(..len).ok_or(SignError::BufferTooShort)?;
    std::str::from_utf8(token).map_err(|_| SignError::Refused)
}

/// Writes the JWS Signing Input (RFC 7515 section 5.1) to the start of `out` and returns its length.
pub(super) fn write_input<C: TokenClaims>(
    begun: Begun<'_>,
    claims: &C,
    out: &mut [u8],
) -> Result<usize, SignError> {
    let (start, room) =
        out.split_at_mut_checked(begun.text.len()).ok_or(SignError::BufferTooShort)?;
    start.copy_from_slice(begun.text);
    Ok(begun.text.len() + begun.write(claims, Some(room))?)
}

pub(super) fn sign_to<C: TokenClaims>(
    key: &SigningKey,
    begun: Begun<'_>,
    claims: &C,
    out: &mut BytesMut,
) -> Result<(), SignError> {
    let start = out.len();
    out.resize(start + token_len(key, begun, claims)?, 0);
    let signed = match out.get_mut(start..) {
        Some(room) => sign_into(key, begun, claims, room).map(|_| ()),
        None => Err(SignError::BufferTooShort),
    };
    if signed.is_err() {
        out.truncate(start);
    }
    signed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::claims::{
        AccessClaims, EXTRA_CLAIMS_MAX, ExtraClaims, NUMERIC_DATE_MAX, NoExtraClaims,
    };
    use crate::codec::keys::KeyError;
    use crate::time::Timestamp;

    struct Extra(Vec<(&'static str, String)>);

    impl ExtraClaims for Extra {
        fn write<'c>(&'c self, claims: &mut ClaimsWriter<'c>) -> Result<(), SignError> {
            self.0.iter().try_for_each(|(name, value)| claims.str(name, value))
        }
    }

    fn key() -> Result<SigningKey, KeyError> {
        SigningKey::hmac(Some("k1"), &[7; 32])
    }

    fn claims<'a>(extra: &'a dyn ExtraClaims) -> AccessClaims<'a> {
        AccessClaims {
            issuer: "https://as.example",
            subject: "u1",
            audience: &["api"],
            client_id: "C1",
            scope: "",
            issued_at: Timestamp(0),
            not_before: None,
            expires_at: Timestamp(NUMERIC_DATE_MAX),
            jti: "j1",
            extra,
        }
    }

    fn refusal(claims: &AccessClaims<'_>) -> Result<Option<SignError>, KeyError> {
        let (key, mut out) = (key()?, vec![0; 2 * TOKEN_LEN_MAX]);
        let refused = key.sign_into(claims, &mut out).err();
        assert_eq!(key.token_len(claims).err(), refused);
        Ok(refused)
    }

    #[test]
    fn the_payload_is_the_claims_and_no_more() -> Result<(), Box<dyn std::error::Error>> {
        let mut out = [0; 512];
        let token = key()?.sign_into(&claims(&NoExtraClaims), &mut out)?;
        let payload = token.split('.').nth(1).ok_or("no payload")?;
        let json = base64url::decode(payload).map_err(|_| "no base64url")?;
        let wanted =
            r#"{"iss":"https://as.example","aud":"api","client_id":"C1","sub":"u1","iat":0,"#;
        assert_eq!(
            std::str::from_utf8(&json)?,
            format!(r#"{wanted}"exp":{NUMERIC_DATE_MAX},"jti":"j1"}}"#)
        );
        Ok(())
    }

    #[test]
    fn the_length_is_exact_at_every_length() -> Result<(), Box<dyn std::error::Error>> {
        let key = key()?;
        for len in 0..1_000 {
            let extra = Extra(vec![("pad", "x".repeat(len))]);
            let claims = claims(&extra);
            let wanted = key.token_len(&claims)?;
            let mut out = vec![0; wanted];
            assert_eq!(key.sign_into(&claims, &mut out)?.len(), wanted);
            if len % 97 == 0 {
                for short in 0..wanted {
                    let refused = key.sign_into(&claims, &mut out[..short]).err();
                    assert_eq!(refused, Some(SignError::BufferTooShort), "{short} of {wanted}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn what_would_be_refused_is_not_signed() -> Result<(), KeyError> {
        let extra = |names: &[&'static str]| {
            Extra(names.iter().map(|name| (*name, String::new())).collect())
        };
        assert_eq!(refusal(&claims(&NoExtraClaims))?, None);
        let none = AccessClaims { audience: &[], ..claims(&NoExtraClaims) };
        assert_eq!(refusal(&none)?, Some(SignError::NoAudience));
        let late = Timestamp(NUMERIC_DATE_MAX + 1);
        let never = AccessClaims { expires_at: late, ..claims(&NoExtraClaims) };
        assert_eq!(refusal(&never)?, Some(SignError::DateOutOfRange));
        for name in ["iss", "sub", "aud", "client_id", "scope", "iat", "nbf", "exp", "jti"] {
            assert_eq!(refusal(&claims(&extra(&[name])))?, Some(SignError::ReservedClaim));
        }
        let twice = refusal(&claims(&extra(&["a", "b", "a"])))?;
        assert_eq!(twice, Some(SignError::DuplicateClaim));
        let names: Vec<&'static str> =
            (0..=EXTRA_CLAIMS_MAX).map(|at| &*format!("c{at}").leak()).collect();
        assert_eq!(refusal(&claims(&extra(&names[1..])))?, None);
        assert_eq!(refusal(&claims(&extra(&names)))?, Some(SignError::TooManyClaims));
        let long = Extra(vec![("pad", "x".repeat(TOKEN_LEN_MAX))]);
        assert_eq!(refusal(&claims(&long))?, Some(SignError::TooLong));
        Ok(())
    }

    #[test]
    fn appending_leaves_what_was_there() -> Result<(), Box<dyn std::error::Error>> {
        let mut out = BytesMut::from("Bearer ");
        key()?.sign_to(&claims(&NoExtraClaims), &mut out)?;
        let mut alone = [0; 512];
        let token = key()?.sign_into(&claims(&NoExtraClaims), &mut alone)?;
        assert_eq!(out, format!("Bearer {token}"));
        let none = AccessClaims { audience: &[], ..claims(&NoExtraClaims) };
        assert!(key()?.sign_to(&none, &mut out).is_err());
        assert_eq!(out, format!("Bearer {token}"));
        Ok(())
    }
}
