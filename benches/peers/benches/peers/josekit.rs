//! `josekit`, on OpenSSL, built for it. It leaves `typ` to the program.

use std::time::{Duration, SystemTime};

use josekit::jwk::Jwk;
use josekit::jws::{ES256, ES384, EdDSA, HS256, JwsHeader, JwsSigner, JwsVerifier, PS256, RS256};
use josekit::jwt::{self, JwtPayload, JwtPayloadValidator};
use mintage::codec::algorithm::Algorithm;

use crate::peer::{Keys, Peer, Sign, TYPE, Verify};
use crate::support::{AUDIENCE, CLIENT_ID, ISSUER, JTI, KID, Made, RSA_PEM, SCOPE, SID, SUBJECT};

const RSA_JWK: &[u8] = include_bytes!("../../../../tests/data/rsa2048.jwk.json");

fn payload() -> Option<JwtPayload> {
    let mut payload = JwtPayload::new();
    payload.set_issuer(ISSUER);
    payload.set_audience(vec![AUDIENCE]);
    payload.set_subject(SUBJECT);
    payload.set_jwt_id(JTI);
    payload.set_expires_at(&(SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000)));
    // Its own setters write these two as `1700000000.0`, which mintage takes for no time of a token.
    for name in ["iat", "nbf"] {
        payload.set_claim(name, Some(1_700_000_000_u64.into())).ok()?;
    }
    for (name, value) in [("client_id", CLIENT_ID), ("scope", SCOPE), ("sid", SID)] {
        payload.set_claim(name, Some(value.into())).ok()?;
    }
    Some(payload)
}

pub(crate) fn peers(keys: &Keys) -> Made<Vec<Peer>> {
    let jwk = || Jwk::from_bytes(keys.jwk.to_string().as_bytes());
    let private = &keys.private[..];
    // Signer and verifier of an algorithm are types of their own.
    fn boxed(
        signer: impl JwsSigner + 'static,
        verifier: impl JwsVerifier + 'static,
    ) -> (Box<dyn JwsSigner>, Box<dyn JwsVerifier>) {
        (Box::new(signer), Box::new(verifier))
    }
    let (signer, verifier) = match keys.algorithm {
        Algorithm::Hs256 => {
            boxed(HS256.signer_from_bytes(private)?, HS256.verifier_from_bytes(private)?)
        }
        Algorithm::Es256 => {
            boxed(ES256.signer_from_der(private)?, ES256.verifier_from_jwk(&jwk()?)?)
        }
        Algorithm::Es384 => {
            boxed(ES384.signer_from_der(private)?, ES384.verifier_from_jwk(&jwk()?)?)
        }
        Algorithm::EdDsa => {
            // OpenSSL 3.0 reads the first version of PKCS#8 alone.
            let mut der = private.get(..48).unwrap_or(&[]).to_vec();
            (der[1], der[4]) = (46, 0);
            boxed(EdDSA.signer_from_der(&der)?, EdDSA.verifier_from_jwk(&jwk()?)?)
        }
        Algorithm::Rs256 => {
            boxed(RS256.signer_from_pem(RSA_PEM)?, RS256.verifier_from_jwk(&jwk()?)?)
        }
        _ => {
            // A PEM would have to say that the key is for PSS alone.
            let mut private = Jwk::from_bytes(RSA_JWK)?;
            private.set_algorithm("PS256");
            private.set_key_id(KID);
            boxed(PS256.signer_from_jwk(&private)?, PS256.verifier_from_jwk(&jwk()?)?)
        }
    };
    let mut header = JwsHeader::new();
    header.set_token_type(TYPE);
    header.set_key_id(KID);
    let sign: Sign = Box::new(move || jwt::encode_with_signer(&payload()?, &header, &*signer).ok());
    let mut validator = JwtPayloadValidator::new();
    validator.set_issuer(ISSUER);
    validator.set_audience(AUDIENCE);
    let verify: Verify = Box::new(move |token| {
        let Ok((payload, header)) = jwt::decode_with_verifier(token, &*verifier) else {
            return false;
        };
        validator.set_base_time(SystemTime::now());
        validator.validate(&payload).is_ok() && header.token_type() == Some(TYPE)
    });
    Ok(vec![Peer { name: "josekit 0.10.3 (OpenSSL)", sign, verify }])
}
