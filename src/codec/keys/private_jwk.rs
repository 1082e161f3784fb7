//! Private keys as JWK (RFC 7518 section 6, RFC 8037 section 2).

use ring::rand::SystemRandom;
use ring::rsa::{KeyPairComponents, PublicKeyComponents};
use ring::signature::{EcdsaKeyPair, Ed25519KeyPair};
use ring::{hmac, rsa};
use zeroize::Zeroizing;

use super::signing::{Material, ecdsa_signing, hmac_key, rsa_padding};
use super::{KeyError, RSA_SIGN_BITS_MAX};
use crate::codec::algorithm::Algorithm;
use crate::codec::base64url;
use crate::codec::jwk::{Jwk, PrivateMember, PublicMaterial, RawJwk};

/// What a private JWK holds.
pub(super) enum PrivateJwk {
    Hmac { kid: Option<String>, secret: Zeroizing<Vec<u8>>, key: hmac::Key },
    Pair { public: Jwk, material: Material },
}

pub(super) fn read(json: &[u8]) -> Result<PrivateJwk, KeyError> {
    let raw = RawJwk::parse(json)?;
    raw.check_purpose("sign")?;
    let algorithm = raw.algorithm()?;
    if algorithm == Algorithm::Hs256 {
        let secret = secret_member(raw.k.as_ref(), "k")?;
        let key = hmac_key(&secret)?;
        return Ok(PrivateJwk::Hmac { kid: raw.kid, secret, key });
    }
    let public = raw.public()?;
    let material = match public.material() {
        PublicMaterial::Ec { point } => {
            let d = secret_member(raw.d.as_ref(), "d")?;
            let pair = EcdsaKeyPair::from_private_key_and_public_key(
                ecdsa_signing(algorithm)?,
                &d,
                point,
                &SystemRandom::new(),
            )?;
            Material::Ecdsa(pair)
        }
        PublicMaterial::Okp { x } => {
            let d = secret_member(raw.d.as_ref(), "d")?;
            Material::Ed25519(Ed25519KeyPair::from_seed_and_public_key(&d, x)?)
        }
        PublicMaterial::Rsa { n, e } => {
            if n.len() * 8 > RSA_SIGN_BITS_MAX {
                return Err(KeyError::RsaTooLong);
            }
            Material::Rsa(rsa_pair(&raw, n, e)?, rsa_padding(algorithm)?)
        }
    };
    Ok(PrivateJwk::Pair { public, material })
}

fn rsa_pair(raw: &RawJwk, n: &[u8], e: &[u8]) -> Result<rsa::KeyPair, KeyError> {
    if raw.oth.is_some() {
        return Err(KeyError::BadJwk("RSA keys of more than two primes are not supported"));
    }
    let d = secret_member(raw.d.as_ref(), "d")?;
    let p = secret_member(raw.p.as_ref(), "p")?;
    let q = secret_member(raw.q.as_ref(), "q")?;
    let dp = secret_member(raw.dp.as_ref(), "dp")?;
    let dq = secret_member(raw.dq.as_ref(), "dq")?;
    let qi = secret_member(raw.qi.as_ref(), "qi")?;
    let components = KeyPairComponents {
        public_key: PublicKeyComponents { n, e },
        d: d.as_slice(),
        p: p.as_slice(),
        q: q.as_slice(),
        dP: dp.as_slice(),
        dQ: dq.as_slice(),
        qInv: qi.as_slice(),
    };
    Ok(rsa::KeyPair::from_components(&components)?)
}

fn secret_member(
    member: Option<&PrivateMember>,
    name: &'static str,
) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let text = member.ok_or(KeyError::BadJwk(name))?.expose();
    base64url::decode(text).map(Zeroizing::new).map_err(|_| KeyError::BadJwk(name))
}
