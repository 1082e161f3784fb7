//! `jwt-compact`, on RustCrypto and dalek. It has no ES384, and leaves issuer, audience and `typ` to the
//! program.

use chrono::{DateTime, Utc};
use jwt_compact::alg::{Ed25519, Es256, Hs256, Hs256Key, Rsa, RsaPrivateKey};
use jwt_compact::jwk::JsonWebKey;
use jwt_compact::prelude::*;
use mintage::codec::algorithm::Algorithm;
use serde::{Deserialize, Serialize};

use crate::peer::{Keys, Peer, Sign, TYPE, Verify};
use crate::support::{AUDIENCE, CLIENT_ID, ISSUER, JTI, KID, Made, SCOPE, SID, SUBJECT};

const RSA_JWK: &str = include_str!("../../../../tests/data/rsa2048.jwk.json");

#[derive(Clone, Serialize, Deserialize)]
struct Custom {
    iss: String,
    aud: String,
    client_id: String,
    sub: String,
    scope: String,
    jti: String,
    sid: String,
}

fn claims() -> Option<Claims<Custom>> {
    let at = |secs| DateTime::<Utc>::from_timestamp(secs, 0);
    let mut claims = Claims::new(Custom {
        iss: ISSUER.into(),
        aud: AUDIENCE.into(),
        client_id: CLIENT_ID.into(),
        sub: SUBJECT.into(),
        scope: SCOPE.into(),
        jti: JTI.into(),
        sid: SID.into(),
    });
    claims.issued_at = Some(at(1_700_000_000)?);
    claims.not_before = Some(at(1_700_000_000)?);
    claims.expiration = Some(at(4_000_000_000)?);
    Some(claims)
}

fn runs<A>(signs: A, verifies: A, key: A::SigningKey, public: A::VerifyingKey) -> (Sign, Verify)
where
    A: jwt_compact::Algorithm + 'static,
    A::SigningKey: 'static,
    A::VerifyingKey: 'static,
{
    let sign: Sign = Box::new(move || {
        let header = Header::empty().with_key_id(KID).with_token_type(TYPE);
        signs.token(&header, &claims()?, &key).ok()
    });
    let verify: Verify = Box::new(move |token| {
        let Ok(token) = UntrustedToken::new(token) else { return false };
        let Ok(token) = verifies.validator::<Custom>(&public).validate(&token) else {
            return false;
        };
        let (claims, options) = (token.claims(), TimeOptions::default());
        claims.validate_expiration(&options).is_ok()
            && claims.validate_maturity(&options).is_ok()
            && claims.custom.iss == ISSUER
            && claims.custom.aud == AUDIENCE
            && token.header().token_type.as_deref() == Some(TYPE)
    });
    (sign, verify)
}

pub(crate) fn peers(keys: &Keys) -> Made<Vec<Peer>> {
    let private = &keys.private[..];
    let rsa = |algorithm: fn() -> Rsa| {
        let jwk: JsonWebKey<'_> = serde_json::from_str(RSA_JWK)?;
        let key = RsaPrivateKey::try_from(&jwk)?;
        let public = key.to_public_key();
        Made::Ok(runs(algorithm(), algorithm(), key, public))
    };
    let (sign, verify) = match keys.algorithm {
        Algorithm::Hs256 => {
            let key = || Hs256Key::new(private);
            runs(Hs256, Hs256, key(), key())
        }
        // The private parts stand at fixed places of what ring generates.
        Algorithm::Es256 => {
            let key = <Es256 as jwt_compact::Algorithm>::SigningKey::from_slice(&private[36..68])?;
            let public = jwt_compact::alg::SigningKey::<Es256>::to_verifying_key(&key);
            runs(Es256, Es256, key, public)
        }
        Algorithm::EdDsa => {
            let seed: [u8; 32] = private[16..48].try_into()?;
            let key = ed25519_dalek::SigningKey::from_bytes(&seed);
            let public = key.verifying_key();
            runs(Ed25519, Ed25519, key, public)
        }
        Algorithm::Rs256 => rsa(Rsa::rs256)?,
        Algorithm::Ps256 => rsa(Rsa::ps256)?,
        _ => return Ok(Vec::new()),
    };
    Ok(vec![Peer { name: "jwt-compact 0.9.0-beta.1 (RustCrypto)", sign, verify }])
}
