//! `jwt-simple`, of the version and backend that the program names `jwt_simple`. The backend makes a
//! difference to RSA alone: its HMAC, ECDSA and Ed25519 are pure Rust on both.

use std::collections::HashSet;

use mintage::codec::algorithm::Algorithm;
use serde::{Deserialize, Serialize};

use crate::jwt_simple::prelude::*;
use crate::peer::{Keys, Peer, Sign, TYPE, Verify};
use crate::support::{AUDIENCE, CLIENT_ID, ISSUER, JTI, KID, Made, RSA_PEM, SCOPE, SID, SUBJECT};

#[derive(Clone, Serialize, Deserialize)]
struct Custom {
    client_id: String,
    scope: String,
    sid: String,
}

/// It takes its claims by value.
fn claims() -> JWTClaims<Custom> {
    let custom = Custom { client_id: CLIENT_ID.into(), scope: SCOPE.into(), sid: SID.into() };
    let mut claims = Claims::with_custom_claims(custom, Duration::from_secs(1))
        .with_issuer(ISSUER)
        .with_audience(AUDIENCE)
        .with_subject(SUBJECT)
        .with_jwt_id(JTI);
    claims.issued_at = Some(UnixTimeStamp::from_secs(1_700_000_000));
    claims.invalid_before = Some(UnixTimeStamp::from_secs(1_700_000_000));
    claims.expires_at = Some(UnixTimeStamp::from_secs(4_000_000_000));
    claims
}

/// It takes them by value, too.
fn options() -> VerificationOptions {
    VerificationOptions {
        allowed_issuers: Some(HashSet::from([ISSUER.to_owned()])),
        allowed_audiences: Some(HashSet::from([AUDIENCE.to_owned()])),
        required_signature_type: Some(TYPE.to_owned()),
        ..VerificationOptions::default()
    }
}

macro_rules! runs {
    ($key:expr, $public:expr, $sign:ident) => {{
        let (key, public) = ($key.with_key_id(KID), $public);
        let header = HeaderOptions { signature_type: Some(TYPE.to_owned()), content_type: None };
        let sign: Sign = Box::new(move || key.$sign(claims(), &header).ok());
        let options = options();
        let verify: Verify = Box::new(move |token| {
            public.verify_token::<Custom>(token, Some(options.clone())).is_ok()
        });
        (sign, verify)
    }};
}

pub(crate) fn peer(name: &'static str, keys: &Keys) -> Made<Peer> {
    let private = &keys.private[..];
    let (sign, verify) = match keys.algorithm {
        Algorithm::Hs256 => {
            let key = || HS256Key::from_bytes(private);
            runs!(key(), key(), authenticate_with_options)
        }
        // The private parts stand at fixed places of what ring generates.
        Algorithm::Es256 => {
            let key = || ES256KeyPair::from_bytes(&private[36..68]);
            runs!(key()?, key()?.public_key(), sign_with_options)
        }
        Algorithm::Es384 => {
            let key = || ES384KeyPair::from_bytes(&private[35..83]);
            runs!(key()?, key()?.public_key(), sign_with_options)
        }
        Algorithm::EdDsa => {
            let public = private.len() - 32;
            let pair = [&private[16..48], &private[public..]].concat();
            let key = || Ed25519KeyPair::from_bytes(&pair);
            runs!(key()?, key()?.public_key(), sign_with_options)
        }
        Algorithm::Rs256 => {
            let key = || RS256KeyPair::from_pem(RSA_PEM);
            runs!(key()?, key()?.public_key(), sign_with_options)
        }
        _ => {
            let key = || PS256KeyPair::from_pem(RSA_PEM);
            runs!(key()?, key()?.public_key(), sign_with_options)
        }
    };
    Ok(Peer { name, sign, verify })
}
