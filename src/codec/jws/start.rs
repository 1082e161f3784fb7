//! What the tokens of one key, issuer and audience start with, as a MAC takes it in: a verifier that
//! expects them hashes it once.

use std::fmt;

use super::TokenType;
use crate::codec::base64url;
use crate::codec::keys::{Absorbed, VerifyingKey};

/// Of access tokens.
#[derive(Clone)]
pub(super) struct KnownStart {
    key: VerifyingKey,
    text: Box<[u8]>,
    absorbed: Absorbed,
}

/// It holds what can forge tokens.
impl fmt::Debug for KnownStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KnownStart({:?})", self.key)
    }
}

impl KnownStart {
    /// `None` for a key pair, which hashes the whole input by itself.
    pub(super) fn of(
        key: &VerifyingKey,
        issuer: &str,
        audience: Option<&str>,
    ) -> Option<KnownStart> {
        let head = key.start(TokenType::Access);
        let absorbed = key.absorbed_start(TokenType::Access)?;
        let mut claims = Vec::new();
        claims.extend_from_slice(b"{\"iss\":");
        serde_json::to_writer(&mut claims, issuer).ok()?;
        claims.extend_from_slice(b",\"aud\":");
        if let Some(audience) = audience {
            serde_json::to_writer(&mut claims, audience).ok()?;
            claims.push(b',');
        }
        // Whole groups of three bytes have the same text whatever follows.
        let groups = claims.len() / 3 * 3;
        let more = base64url::encode(claims.get(..groups)?);
        let absorbed = absorbed.and(more.as_bytes());
        let text = [head, more.as_bytes()].concat().into();
        Some(KnownStart { key: key.clone(), text, absorbed })
    }

    /// What is absorbed, if `input` is of that key and starts so.
    #[inline(always)]
    pub(super) fn absorbed(&self, key: &VerifyingKey, input: &[u8]) -> Option<&Absorbed> {
        (self.key.is(key) && input.starts_with(&self.text)).then_some(&self.absorbed)
    }
}

#[cfg(test)]
mod tests {
    use crate::codec::claims::{AccessClaims, NoExtraClaims};
    use crate::codec::jws::{Scratch, Verifier, VerifyError};
    use crate::codec::keyring::Keyring;
    use crate::codec::keys::SigningKey;
    use crate::time::Timestamp;

    type Tested = Result<(), Box<dyn std::error::Error>>;

    const ISSUER: &str = "https://login.example.com";
    const CLAIMS: AccessClaims<'static> = AccessClaims {
        issuer: ISSUER,
        subject: "u1",
        audience: &["https://api.example.com"],
        client_id: "C1",
        scope: "a b",
        issued_at: Timestamp(1),
        not_before: None,
        expires_at: Timestamp(9),
        jti: "j1",
        extra: &NoExtraClaims,
    };

    /// Both verifiers' answer, which must be one.
    fn answer(
        plain: &Verifier,
        keyring: &Keyring,
        known: &Verifier,
        token: &[u8],
    ) -> Result<String, VerifyError> {
        let mut scratches = [Scratch::new(), Scratch::new()];
        let [one, two] = &mut scratches;
        let read = |verifier: &Verifier, scratch| {
            let verified = verifier.verify(keyring, token, Timestamp(5), scratch)?;
            Ok(format!("{} {}", verified.kid(), verified.subject()))
        };
        let (without, with) = (read(plain, one), read(known, two));
        assert_eq!(without, with, "{}", String::from_utf8_lossy(token));
        with
    }

    fn hmac(kid: &str, byte: u8) -> Result<SigningKey, Box<dyn std::error::Error>> {
        Ok(SigningKey::hmac(Some(kid), &[byte; 32])?)
    }

    #[test]
    fn a_known_start_changes_no_answer() -> Tested {
        let keyring = Keyring::new(hmac("k1", 1)?).with_active(hmac("k2", 2)?)?;
        let plain = Verifier::new(ISSUER, CLAIMS.audience, 0);
        let known = plain.clone().with_starts_of(&keyring);
        assert_eq!(known.starts.len(), 2);
        let mut out = [0; 1_024];
        let token = keyring.active().sign_into(&CLAIMS, &mut out)?.to_owned();
        let start = &known.starts[0];
        assert!(start.absorbed(&start.key, token.as_bytes()).is_some());
        assert_eq!(answer(&plain, &keyring, &known, token.as_bytes()), Ok("k2 u1".into()));
        for at in 0..token.len() {
            for other in [b'A', b'B', b'.', 0] {
                let mut token = token.clone().into_bytes();
                if token[at] != other {
                    token[at] = other;
                    assert!(answer(&plain, &keyring, &known, &token).is_err(), "{at}");
                }
            }
            assert!(answer(&plain, &keyring, &known, &token.as_bytes()[..at]).is_err());
        }
        for claims in [
            AccessClaims { issuer: "https://login.example.org", ..CLAIMS },
            AccessClaims { audience: &["https://api.example.org"], ..CLAIMS },
            AccessClaims { audience: &["https://api.example.com", "b"], ..CLAIMS },
            AccessClaims { expires_at: Timestamp(5), ..CLAIMS },
        ] {
            let token = keyring.active().sign_into(&claims, &mut out)?.to_owned();
            let _ = answer(&plain, &keyring, &known, token.as_bytes());
        }
        Ok(())
    }

    #[test]
    fn a_known_start_outlives_no_key() -> Tested {
        let plain = Verifier::new(ISSUER, CLAIMS.audience, 0);
        let keyring = Keyring::new(hmac("k1", 1)?);
        let known = plain.clone().with_starts_of(&keyring);
        let mut out = [0; 1_024];
        let token = keyring.active().sign_into(&CLAIMS, &mut out)?.to_owned();
        let rotated = keyring.with_active(hmac("k2", 2)?)?;
        assert_eq!(answer(&plain, &rotated, &known, token.as_bytes()), Ok("k1 u1".into()));
        let without = rotated.without("k1")?;
        let refused = answer(&plain, &without, &known, token.as_bytes());
        assert_eq!(refused, Err(VerifyError::UnknownKey));
        // Another key under the name of the one before.
        let other = Keyring::new(hmac("k1", 3)?);
        let refused = answer(&plain, &other, &known, token.as_bytes());
        assert_eq!(refused, Err(VerifyError::BadSignature));
        let token = other.active().sign_into(&CLAIMS, &mut out)?.to_owned();
        assert_eq!(answer(&plain, &other, &known, token.as_bytes()), Ok("k1 u1".into()));
        Ok(())
    }
}
