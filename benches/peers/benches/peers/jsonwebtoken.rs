//! `jsonwebtoken`: the last version on ring, and the newest on each of its backends. It chooses one of
//! them for the process; a provider of our own asks a flag, so that both are in one binary. It leaves
//! `typ` to the program.

use std::sync::atomic::{AtomicBool, Ordering};

use jsonwebtoken_9 as v9;
use jsonwebtoken_11 as v11;
use mintage::codec::algorithm::Algorithm;
use v11::crypto::{CryptoProvider, KeyUtils, aws_lc, rust_crypto};

use crate::peer::{Claims, Keys, Peer, Sign, TYPE, Verify};
use crate::support::{AUDIENCE, ISSUER, KID, Made, RSA_PEM};

static ON_AWS_LC: AtomicBool = AtomicBool::new(true);

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| (current().signer_factory)(algorithm, key),
    verifier_factory: |algorithm, key| (current().verifier_factory)(algorithm, key),
    key_utils: KeyUtils::new_unimplemented(),
};

fn current() -> &'static CryptoProvider {
    match ON_AWS_LC.load(Ordering::Relaxed) {
        true => &aws_lc::DEFAULT_PROVIDER,
        false => &rust_crypto::DEFAULT_PROVIDER,
    }
}

pub(crate) fn install() {
    PROVIDER.install_default().expect("the first provider");
}

/// Both versions have one interface.
macro_rules! version {
    ($name:literal, $version:ident, $keys:expr, $before:path) => {{
        let keys: &Keys = $keys;
        let algorithm = match keys.algorithm {
            Algorithm::Hs256 => $version::Algorithm::HS256,
            Algorithm::Es256 => $version::Algorithm::ES256,
            Algorithm::Es384 => $version::Algorithm::ES384,
            Algorithm::EdDsa => $version::Algorithm::EdDSA,
            Algorithm::Rs256 => $version::Algorithm::RS256,
            _ => $version::Algorithm::PS256,
        };
        let member = |name: &str| keys.jwk[name].as_str().unwrap_or_default();
        let (private, public) = match keys.algorithm {
            Algorithm::Hs256 => (
                $version::EncodingKey::from_secret(&keys.private),
                $version::DecodingKey::from_secret(&keys.private),
            ),
            Algorithm::EdDsa => (
                $version::EncodingKey::from_ed_der(&keys.private),
                $version::DecodingKey::from_ed_components(member("x"))?,
            ),
            Algorithm::Es256 | Algorithm::Es384 => (
                $version::EncodingKey::from_ec_der(&keys.private),
                $version::DecodingKey::from_ec_components(member("x"), member("y"))?,
            ),
            _ => (
                $version::EncodingKey::from_rsa_pem(RSA_PEM.as_bytes())?,
                $version::DecodingKey::from_rsa_components(member("n"), member("e"))?,
            ),
        };
        let mut header = $version::Header::new(algorithm);
        header.typ = Some(TYPE.into());
        header.kid = Some(KID.into());
        let claims = Claims::new();
        let sign: Sign = Box::new(move || {
            $before();
            $version::encode(&header, &claims, &private).ok()
        });
        let mut validation = $version::Validation::new(algorithm);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.validate_nbf = true;
        let verify: Verify = Box::new(move |token| {
            $before();
            let read = $version::decode::<Claims>(token, &public, &validation);
            read.is_ok_and(|read| read.header.typ.as_deref() == Some(TYPE))
        });
        Peer { name: $name, sign, verify }
    }};
}

fn on_its_only_one() {}

fn on_aws_lc() {
    ON_AWS_LC.store(true, Ordering::Relaxed);
}

fn on_rust_crypto() {
    ON_AWS_LC.store(false, Ordering::Relaxed);
}

pub(crate) fn peers(keys: &Keys) -> Made<Vec<Peer>> {
    Ok(vec![
        version!("jsonwebtoken 9.3.1 (ring)", v9, keys, on_its_only_one),
        version!("jsonwebtoken 11.1.0 (aws-lc)", v11, keys, on_aws_lc),
        version!("jsonwebtoken 11.1.0 (RustCrypto)", v11, keys, on_rust_crypto),
    ])
}
