//! Every compiled backend is the same key: what one signs another verifies, what one refuses the
//! others refuse, and what is stored comes back on the backend that its key chose.

use std::error::Error;
use std::fs;

use mintage::authority::{Authority, Client, Issue, Scratch as AuthorityScratch, TokenFormat};
use mintage::codec::algorithm::Algorithm;
use mintage::codec::claims::{AccessClaims, NoExtraClaims};
use mintage::codec::jws::{Scratch, Verifier, VerifyError};
use mintage::codec::keyring::Keyring;
use mintage::codec::keys::{Backend, KeyError, SigningKey, VerifyingKey};
use mintage::entropy::SeededEntropy;
use mintage::root_key::RootKey;
use mintage::time::Timestamp;

type Tested = Result<(), Box<dyn Error>>;

const NOW: Timestamp = Timestamp(1_700_000_100);
const JWKS: [&str; 3] = [
    include_str!("data/rsa2048.jwk.json"),
    // RFC 7515 appendix A.3.
    r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    "d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}"#,
    // RFC 8037 appendix A.
    r#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
    "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
];

fn claims() -> AccessClaims<'static> {
    AccessClaims {
        issuer: "https://as.example",
        subject: "u1",
        audience: &["api"],
        client_id: "C1",
        scope: "api",
        issued_at: Timestamp(1_700_000_000),
        not_before: None,
        expires_at: Timestamp(1_700_003_600),
        jti: "j1",
        extra: &NoExtraClaims,
    }
}

fn token_of(key: &SigningKey) -> Result<String, Box<dyn Error>> {
    let mut out = vec![0; key.token_len(&claims())?];
    Ok(key.sign_into(&claims(), &mut out)?.to_owned())
}

fn refusal(ring: &Keyring, token: &str) -> Option<VerifyError> {
    let verifier = Verifier::new("https://as.example", &["api"], 0);
    verifier.verify(ring, token.as_bytes(), NOW, &mut Scratch::new()).err()
}

/// Every kind of key in every form that it can be imported from, freshly read each time.
fn keys() -> Result<Vec<SigningKey>, Box<dyn Error>> {
    let mut keys = vec![SigningKey::hmac(Some("hmac"), &[7; 32])?];
    for (algorithm, file) in [
        (Algorithm::Es256, "p256.pk8.pem"),
        (Algorithm::Es384, "p384.pk8.pem"),
        (Algorithm::EdDsa, "ed25519.pk8.pem"),
        (Algorithm::Rs256, "rsa2048.pk8.pem"),
        (Algorithm::Ps256, "rsa2048.pk8.pem"),
    ] {
        let pem = fs::read_to_string(format!("tests/data/{file}"))?;
        keys.push(SigningKey::from_pem(algorithm, Some("of-openssl"), &pem)?);
    }
    for jwk in JWKS {
        keys.push(SigningKey::from_jwk(jwk.as_bytes())?);
    }
    for algorithm in [Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa] {
        keys.push(SigningKey::generate(algorithm, Some("drawn"), &SeededEntropy::new(3))?);
    }
    Ok(keys)
}

fn copy(key: &SigningKey) -> Result<SigningKey, KeyError> {
    SigningKey::from_private_bytes(&key.to_private_bytes())
}

#[test]
fn ring_is_the_default_whatever_features_are_on() -> Tested {
    assert_eq!(Backend::default(), Backend::Ring);
    assert_eq!(Backend::ALL[0], Backend::Ring);
    assert_eq!(Backend::ALL.len(), 1 + usize::from(cfg!(feature = "aws-lc-rs")));
    for key in keys()? {
        assert_eq!((key.backend(), key.verifying_key().backend()), (Backend::Ring, Backend::Ring));
    }
    Ok(())
}

#[test]
fn what_one_backend_signs_every_backend_verifies() -> Tested {
    for key in keys()? {
        for signs in Backend::ALL {
            let signer = copy(&key)?.with_backend(*signs)?;
            let token = token_of(&signer)?;
            for verifies in Backend::ALL {
                let what = format!("{} {signs} {verifies}", key.algorithm());
                let verifier = signer.verifying_key().with_backend(*verifies)?;
                // A ring whose active key is another one: only the key in question can verify.
                let other = SigningKey::generate(Algorithm::EdDsa, None, &SeededEntropy::new(9))?;
                let ring = Keyring::new(other).with_retired(&verifier)?;
                assert_eq!(refusal(&ring, &token), None, "{what}");
                let (input, signature) = token.rsplit_once('.').ok_or("no signature")?;
                for at in [0, signature.len() / 2, signature.len() - 3] {
                    let mut changed = signature.as_bytes().to_vec();
                    changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
                    let changed = format!("{input}.{}", String::from_utf8(changed)?);
                    assert_eq!(refusal(&ring, &changed), Some(VerifyError::BadSignature), "{what}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn deterministic_signatures_are_the_same_bytes_on_every_backend() -> Tested {
    for key in keys()? {
        if matches!(key.algorithm(), Algorithm::EdDsa | Algorithm::Rs256 | Algorithm::Hs256) {
            let token = token_of(&key)?;
            for backend in Backend::ALL {
                assert_eq!(token_of(&copy(&key)?.with_backend(*backend)?)?, token, "{backend}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_key_comes_back_on_the_backend_that_it_chose() -> Tested {
    for backend in Backend::ALL {
        for key in keys()? {
            let key = key.with_backend(*backend)?;
            let is_pair = key.algorithm() != Algorithm::Hs256;
            assert_eq!(key.backend(), if is_pair { *backend } else { Backend::Ring });
            let back = copy(&key)?;
            assert_eq!((back.backend(), back.kid()), (key.backend(), key.kid()));
            assert_eq!(back.public_jwk(), key.public_jwk());
            // And from there to ring again.
            let ring = back.with_backend(Backend::Ring)?;
            assert_eq!((ring.backend(), ring.kid()), (Backend::Ring, key.kid()));
        }
    }
    Ok(())
}

#[test]
fn a_backend_that_was_not_compiled_in_gives_way_to_ring() -> Tested {
    let key = SigningKey::generate(Algorithm::EdDsa, Some("k"), &SeededEntropy::new(1))?;
    let mut stored = key.to_private_bytes().to_vec();
    // The second byte is the backend's number.
    stored[1] = 200;
    let back = SigningKey::from_private_bytes(&stored)?;
    assert_eq!((back.backend(), back.kid()), (Backend::Ring, "k"));
    assert_eq!(token_of(&back)?, token_of(&key)?);
    Ok(())
}

#[test]
fn a_public_jwk_verifies_on_every_backend() -> Tested {
    for key in keys()? {
        let Some(jwk) = key.public_jwk() else { continue };
        for backend in Backend::ALL {
            let public =
                VerifyingKey::from_jwk(jwk.to_json().as_bytes())?.with_backend(*backend)?;
            assert_eq!(public.backend(), *backend);
            let token = token_of(&key)?;
            let (input, signature) = token.rsplit_once('.').ok_or("no signature")?;
            let mut raw = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(signature)?;
            assert!(public.verify(input.as_bytes(), &raw));
            assert!(!public.verify(&input.as_bytes()[1..], &raw));
            assert!(!public.verify(input.as_bytes(), &raw[1..]));
            raw.push(0);
            assert!(!public.verify(input.as_bytes(), &raw));
        }
    }
    Ok(())
}

#[test]
fn a_flipped_bit_and_a_cut_are_refused_on_every_backend() -> Tested {
    for key in keys()? {
        let key = copy(&key)?;
        let token = token_of(&key)?.into_bytes();
        for backend in Backend::ALL {
            let public = key.verifying_key().with_backend(*backend)?;
            let other = SigningKey::generate(Algorithm::EdDsa, None, &SeededEntropy::new(9))?;
            let ring = Keyring::new(other).with_retired(&public)?;
            let verifier = Verifier::new("https://as.example", &["api"], 0);
            let mut scratch = Scratch::new();
            let mut is_refused =
                |token: &[u8]| verifier.verify(&ring, token, NOW, &mut scratch).is_err();
            assert!(!is_refused(&token));
            let signature_at = token.iter().rposition(|byte| *byte == b'.').ok_or("no dot")?;
            // One bit of every byte, and every bit where the signature begins and ends.
            for at in 0..token.len() {
                let is_edge = at.abs_diff(signature_at) < 4 || at + 4 > token.len();
                for bit in if is_edge { 0..8 } else { 0..1 } {
                    let mut flipped = token.clone();
                    flipped[at] ^= 1 << bit;
                    assert!(is_refused(&flipped), "{} {backend}: {bit} of {at}", key.algorithm());
                }
            }
            for len in (0..token.len()).step_by(7) {
                assert!(is_refused(&token[..len]), "{} {backend} cut at {len}", key.algorithm());
            }
        }
    }
    Ok(())
}

#[test]
fn an_authority_signs_with_the_backend_of_its_key_also_after_reopening() -> Tested {
    for backend in Backend::ALL {
        for key in keys()? {
            let builder = || Authority::builder("https://login.example.com");
            let root = || RootKey::from_bytes(1, [7; 32]);
            let authority = builder().in_memory(root())?;
            let kid = key.kid().to_owned();
            authority.keys().import(key.with_backend(*backend)?).wait()?;
            let app = Client::public("app").scopes(["api"]).format(TokenFormat::Jwt);
            let app = authority.register(app).wait()?.client_id;
            let old = authority.issue(Issue::to("ann", &app)).wait()?;
            let authority = builder().with_store(authority.store().clone(), root())?;
            let new = authority.issue(Issue::to("ann", &app)).wait()?;
            let mut scratch = AuthorityScratch::new();
            for issued in [old, new] {
                let claims = authority.verify(issued.access_token.expose(), &mut scratch)?;
                assert_eq!(claims.subject(), "ann", "{kid} on {backend}");
            }
        }
    }
    Ok(())
}
