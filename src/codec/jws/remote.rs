//! Signing with a key that may be elsewhere: the token is complete when its signature is there and
//! was checked.

use std::future::Future;

use super::SignError;
use crate::codec::base64url;
use crate::codec::claims::AccessClaims;
use crate::codec::keys::{Signing, SigningKey, VerifyingKey};

impl SigningKey {
    /// The token with these claims, wherever the private key is. A remote signer is asked at once,
    /// and awaited by the future; a key that is here has signed when this returns.
    ///
    /// # Errors
    /// [`SignError`]: also [`SignError::Signer`], and [`SignError::WrongSignature`] for a signature
    /// that the public key does not verify.
    pub fn sign_async(
        &self,
        claims: &AccessClaims<'_>,
    ) -> impl Future<Output = Result<String, SignError>> + Send + use<> {
        let begun = self.begin(claims);
        async move { begun?.finish().await }
    }

    fn begin(&self, claims: &AccessClaims<'_>) -> Result<Begun, SignError> {
        let mut out = vec![0; self.token_len(claims)?];
        let Some(signer) = self.signer() else {
            return self.sign_into(claims, &mut out).map(|token| Begun::Signed(token.to_owned()));
        };
        let input_len = self.write_input(claims, &mut out)?;
        out.truncate(input_len);
        let signing = signer.sign(&out);
        let input = String::from_utf8(out).map_err(|_| SignError::Refused)?;
        Ok(Begun::Asked { key: self.verifying_key().clone(), input, signing })
    }
}

enum Begun {
    Signed(String),
    Asked { key: VerifyingKey, input: String, signing: Signing },
}

impl Begun {
    async fn finish(self) -> Result<String, SignError> {
        let (key, mut token, signing) = match self {
            Begun::Signed(token) => return Ok(token),
            Begun::Asked { key, input, signing } => (key, input, signing),
        };
        let signature = signing.await.map_err(SignError::Signer)?;
        if !key.verify(token.as_bytes(), &signature) {
            return Err(SignError::WrongSignature);
        }
        token.push('.');
        token.push_str(&base64url::encode(&signature));
        Ok(token)
    }
}
