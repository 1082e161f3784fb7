//! Private keys as JWK (RFC 7518 section 6, RFC 8037 section 2).

use ring::hmac;
use zeroize::Zeroizing;

use super::backend::{PrivateNumbers, RsaNumbers};
use super::signing::hmac_key;
use super::{KeyError, RSA_SIGN_BITS_MAX, RSA_SIGN_EXPONENT_MIN};
use crate::codec::algorithm::Algorithm;
use crate::codec::base64url;
use crate::codec::jwk::{Jwk, PublicMaterial, RawJwk};

/// What a private JWK holds.
pub(super) enum PrivateJwk {
    Hmac { kid: Option<String>, secret: Zeroizing<Vec<u8>>, key: hmac::Key },
    Pair { public: Jwk, numbers: PrivateNumbers },
}

pub(super) fn read(json: &[u8]) -> Result<PrivateJwk, KeyError> {
    let raw = RawJwk::parse(json)?;
    raw.check_purpose("sign")?;
    let algorithm = raw.algorithm()?;
    if algorithm == Algorithm::Hs256 {
        let secret = secret_member(raw.k, "k")?;
        let key = hmac_key(&secret)?;
        return Ok(PrivateJwk::Hmac { kid: raw.kid, secret, key });
    }
    let public = raw.public()?;
    let numbers = match public.material() {
        PublicMaterial::Ec { .. } | PublicMaterial::Okp { .. } => {
            PrivateNumbers::Curve(secret_member(raw.d, "d")?)
        }
        PublicMaterial::Rsa { n, e } => {
            if n.len() * 8 > RSA_SIGN_BITS_MAX {
                return Err(KeyError::RsaTooLong);
            }
            let exponent = e.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
            if exponent < RSA_SIGN_EXPONENT_MIN {
                return Err(KeyError::BadRsaExponent);
            }
            PrivateNumbers::Rsa(Box::new(rsa_numbers(&raw)?))
        }
    };
    Ok(PrivateJwk::Pair { public, numbers })
}

fn rsa_numbers(raw: &RawJwk<'_>) -> Result<RsaNumbers, KeyError> {
    if raw.oth.is_some() {
        return Err(KeyError::BadJwk("RSA keys of more than two primes are not supported"));
    }
    Ok(RsaNumbers {
        d: secret_member(raw.d, "d")?,
        p: secret_member(raw.p, "p")?,
        q: secret_member(raw.q, "q")?,
        dp: secret_member(raw.dp, "dp")?,
        dq: secret_member(raw.dq, "dq")?,
        qi: secret_member(raw.qi, "qi")?,
    })
}

fn secret_member(member: Option<&str>, name: &'static str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let text = member.ok_or(KeyError::BadJwk(name))?;
    base64url::decode(text).map(Zeroizing::new).map_err(|_| KeyError::BadJwk(name))
}
