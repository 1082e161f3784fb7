//! `biscuit` (the JWT library), on ring. It has no EdDSA, and leaves `typ` to the program.

use std::sync::Arc;

use biscuit::jwa::SignatureAlgorithm;
use biscuit::jws::{Header, RegisteredHeader, Secret};
use biscuit::{
    ClaimsSet, Empty, JWT, RegisteredClaims, SingleOrMultiple, Validation, ValidationOptions,
};
use mintage::codec::algorithm::Algorithm;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, KeyPair as _, RsaKeyPair};
use serde::{Deserialize, Serialize};

use crate::peer::{Keys, Peer, Sign, TYPE, Verify};
use crate::support::{AUDIENCE, CLIENT_ID, ISSUER, JTI, KID, Made, SCOPE, SID, SUBJECT};

#[derive(Clone, Serialize, Deserialize)]
struct Custom {
    client_id: String,
    scope: String,
    sid: String,
}

fn claims() -> ClaimsSet<Custom> {
    ClaimsSet {
        registered: RegisteredClaims {
            issuer: Some(ISSUER.into()),
            subject: Some(SUBJECT.into()),
            audience: Some(SingleOrMultiple::Single(AUDIENCE.into())),
            expiry: Some(4_000_000_000_i64.into()),
            not_before: Some(1_700_000_000_i64.into()),
            issued_at: Some(1_700_000_000_i64.into()),
            id: Some(JTI.into()),
        },
        private: Custom { client_id: CLIENT_ID.into(), scope: SCOPE.into(), sid: SID.into() },
    }
}

pub(crate) fn peers(keys: &Keys) -> Made<Vec<Peer>> {
    let private = &keys.private[..];
    let ecdsa = |curve| {
        let pair = EcdsaKeyPair::from_pkcs8(curve, private, &SystemRandom::new())
            .map_err(|error| error.to_string())?;
        let public = pair.public_key().as_ref().to_vec();
        Made::Ok((Secret::EcdsaKeyPair(Arc::new(pair)), Secret::PublicKey(public)))
    };
    let rsa = || {
        let pair = RsaKeyPair::from_pkcs8(private).map_err(|error| error.to_string())?;
        let public = pair.public_key().as_ref().to_vec();
        Made::Ok((Secret::RsaKeyPair(Arc::new(pair)), Secret::PublicKey(public)))
    };
    let (algorithm, (secret, public)) = match keys.algorithm {
        Algorithm::Hs256 => {
            let secret = || Secret::Bytes(private.to_vec());
            (SignatureAlgorithm::HS256, (secret(), secret()))
        }
        Algorithm::Es256 => {
            let curve = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
            (SignatureAlgorithm::ES256, ecdsa(curve)?)
        }
        Algorithm::Es384 => {
            let curve = &signature::ECDSA_P384_SHA384_FIXED_SIGNING;
            (SignatureAlgorithm::ES384, ecdsa(curve)?)
        }
        Algorithm::Rs256 => (SignatureAlgorithm::RS256, rsa()?),
        Algorithm::Ps256 => (SignatureAlgorithm::PS256, rsa()?),
        _ => return Ok(Vec::new()),
    };
    let sign: Sign = Box::new(move || {
        let header = Header::from_registered_header(RegisteredHeader {
            algorithm,
            media_type: Some(TYPE.into()),
            key_id: Some(KID.into()),
            ..RegisteredHeader::default()
        });
        let token = JWT::<Custom, Empty>::new_decoded(header, claims());
        Some(token.into_encoded(&secret).ok()?.unwrap_encoded().to_string())
    });
    let verify: Verify = Box::new(move |token| {
        let read = JWT::<Custom, Empty>::new_encoded(token).into_decoded(&public, algorithm);
        let options = ValidationOptions {
            issuer: Validation::Validate(ISSUER.into()),
            audience: Validation::Validate(AUDIENCE.into()),
            ..ValidationOptions::default()
        };
        read.is_ok_and(|read| {
            let header = read.header().map(|header| &header.registered.media_type);
            read.validate(options).is_ok() && header.is_ok_and(|typ| typ.as_deref() == Some(TYPE))
        })
    });
    Ok(vec![Peer { name: "biscuit 0.8.0 (ring)", sign, verify }])
}
