//! Signing with a key that may be elsewhere: the token is complete when its signature is there and
//! was checked.

use std::future::Future;
use std::pin::Pin;

use super::SignError;
use super::sign::{Begun, write_input};
use crate::codec::base64url;
use crate::codec::claims::TokenClaims;
use crate::codec::keys::{Signing, SigningKey, VerifyingKey};

/// A token that is being signed, or why there is none.
pub type TokenFuture = Pin<Box<dyn Future<Output = Result<String, SignError>> + Send>>;

impl SigningKey {
    /// The token with these claims, wherever the private key is. A remote signer is asked at once,
    /// and awaited by the future; a key that is here has signed when this returns.
    ///
    /// # Errors
    /// [`SignError`]: also [`SignError::Signer`], and [`SignError::WrongSignature`] for a signature
    /// that the public key does not verify.
    pub fn sign_async<C: TokenClaims>(&self, claims: &C) -> TokenFuture {
        let begun = self.begin(claims);
        Box::pin(async move { begun?.finish().await })
    }

    fn begin<C: TokenClaims>(&self, claims: &C) -> Result<Pending, SignError> {
        let mut out = vec![0; self.token_len(claims)?];
        let Some(signer) = self.signer() else {
            return self.sign_into(claims, &mut out).map(|token| Pending::Signed(token.to_owned()));
        };
        let input_len = write_input(Begun::of_key::<C>(self), claims, &mut out)?;
        out.truncate(input_len);
        let signing = signer.sign(&out);
        let input = String::from_utf8(out).map_err(|_| SignError::Refused)?;
        Ok(Pending::Asked { key: self.verifying_key().clone(), input, signing })
    }
}

enum Pending {
    Signed(String),
    Asked { key: VerifyingKey, input: String, signing: Signing },
}

impl Pending {
    async fn finish(self) -> Result<String, SignError> {
        let (key, mut token, signing) = match self {
            Pending::Signed(token) => return Ok(token),
            Pending::Asked { key, input, signing } => (key, input, signing),
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
