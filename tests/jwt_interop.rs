//! Our tokens in the hands of another library: `jsonwebtoken` reads the exported JWK Set with its
//! own types and accepts what we sign, whatever the algorithm, and nothing else.

use std::error::Error;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use mintage::codec::algorithm::Algorithm;
use mintage::codec::claims::{AccessClaims, ClaimsWriter, ExtraClaims};
use mintage::codec::jws::{Scratch, SignError, Verifier};
use mintage::codec::keyring::Keyring;
use mintage::codec::keys::{KeyError, SigningKey};
use mintage::entropy::SeededEntropy;
use mintage::time::{Clock as _, SystemClock, Timestamp};
use serde_json::{Value, json};

type Tested = Result<(), Box<dyn Error>>;

const HMAC_SECRET: &[u8] = b"a secret of thirty-two bytes, 32";

struct Session;

impl ExtraClaims for Session {
    fn write<'c>(&'c self, claims: &mut ClaimsWriter<'c>) -> Result<(), SignError> {
        claims.str("sid", "line\n\"quoted\" \\ ü \u{1}")?;
        claims.u64("auth_time", u64::MAX)?;
        claims.bool("mfa", true)?;
        claims.strs("groups", &["a", "b \"c\""])
    }
}

fn claims(now: Timestamp) -> AccessClaims<'static> {
    AccessClaims {
        issuer: "https://as.example",
        subject: "üser \"1\"",
        audience: &["https://api.example", "other"],
        client_id: "reports",
        scope: "api web",
        issued_at: now,
        not_before: Some(now),
        expires_at: now.plus(600),
        jti: "j1",
        extra: &Session,
    }
}

fn key(algorithm: Algorithm) -> Result<SigningKey, KeyError> {
    match algorithm {
        Algorithm::Hs256 => SigningKey::hmac(Some("HS256"), HMAC_SECRET),
        Algorithm::Rs256 | Algorithm::Ps256 => {
            let pem = include_str!("data/rsa2048.pk8.pem");
            SigningKey::from_pem(algorithm, Some(algorithm.name()), pem)
        }
        _ => SigningKey::generate(algorithm, Some(algorithm.name()), &SeededEntropy::new(1)),
    }
}

fn peer_reads(ring: &Keyring, token: &str) -> Result<Value, Box<dyn Error>> {
    let header = decode_header(token)?;
    let kid = header.kid.ok_or("no kid")?;
    let key = match kid.as_str() {
        "HS256" => DecodingKey::from_secret(HMAC_SECRET),
        kid => {
            let set: JwkSet = serde_json::from_str(&ring.jwks())?;
            DecodingKey::from_jwk(set.find(kid).ok_or("kid not in the JWK Set")?)?
        }
    };
    let mut validation = Validation::new(kid.parse()?);
    validation.set_issuer(&["https://as.example"]);
    validation.set_audience(&["https://api.example"]);
    validation.validate_nbf = true;
    Ok(decode::<Value>(token, &key, &validation)?.claims)
}

#[test]
fn another_library_accepts_our_tokens_and_no_changed_ones() -> Tested {
    let now = SystemClock::new().read().unix;
    let verifier = Verifier::new("https://as.example", &["https://api.example"], 0);
    let mut scratch = Scratch::new();
    let mut ring = Keyring::new(key(Algorithm::Hs256)?);
    for algorithm in Algorithm::ALL.into_iter().skip(1) {
        ring = ring.with_active(key(algorithm)?)?;
    }
    for algorithm in Algorithm::ALL {
        let key = key(algorithm)?;
        let mut ring = ring.clone();
        if !matches!(algorithm, Algorithm::Hs256 | Algorithm::Rs256 | Algorithm::Ps256) {
            ring = Keyring::new(SigningKey::from_private_bytes(&key.to_private_bytes())?);
        }
        let mut out = vec![0; key.token_len(&claims(now))?];
        let len = out.len();
        let token = key.sign_into(&claims(now), &mut out)?.to_owned();
        assert_eq!(token.len(), len, "{algorithm}");

        let read = peer_reads(&ring, &token).map_err(|error| format!("{algorithm}: {error}"))?;
        let wanted = json!({
            "iss": "https://as.example", "sub": "üser \"1\"", "client_id": "reports",
            "aud": ["https://api.example", "other"], "scope": "api web",
            "iat": now.0, "nbf": now.0, "exp": now.0 + 600, "jti": "j1",
            "sid": "line\n\"quoted\" \\ ü \u{1}", "auth_time": u64::MAX, "mfa": true,
            "groups": ["a", "b \"c\""],
        });
        assert_eq!(read, wanted, "{algorithm}");

        let verified = verifier.verify(&ring, token.as_bytes(), now, &mut scratch)?;
        assert_eq!(verified.subject(), "üser \"1\"");
        assert_eq!(verified.kid(), algorithm.name());
        assert_eq!(verified.audience().collect::<Vec<_>>(), ["https://api.example", "other"]);
        assert_eq!((verified.scope(), verified.not_before()), ("api web", Some(now)));
        let get = |name| verified.get(name).ok_or(name);
        assert_eq!(get("sid")?.as_str(), Some("line\n\"quoted\" \\ ü \u{1}"));
        assert_eq!(get("auth_time")?.as_u64(), Some(u64::MAX));
        assert_eq!(get("mfa")?.as_bool(), Some(true));
        let groups: Vec<_> = get("groups")?.as_strings().into_iter().flatten().collect();
        assert_eq!(groups, ["a", "b \"c\""]);
        assert!(verified.get("sub").is_none() && verified.get("nothing").is_none());

        for at in [0, token.len() / 2, token.len() - 5] {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed)?;
            assert!(peer_reads(&ring, &changed).is_err(), "{algorithm} at {at}");
            let ours = verifier.verify(&ring, changed.as_bytes(), now, &mut scratch);
            assert!(ours.is_err(), "{algorithm} at {at}");
        }
    }
    Ok(())
}

#[test]
fn keys_of_openssl_are_read_and_live_through_storage() -> Tested {
    let rsa = include_str!("data/rsa2048.pk8.pem");
    let now = Timestamp(1_700_000_000);
    for (algorithm, pem) in [
        (Algorithm::Es256, include_str!("data/p256.pk8.pem")),
        (Algorithm::Es384, include_str!("data/p384.pk8.pem")),
        (Algorithm::EdDsa, include_str!("data/ed25519.pk8.pem")),
        (Algorithm::Rs256, rsa),
        (Algorithm::Ps256, rsa),
    ] {
        let key = SigningKey::from_pem(algorithm, None, pem)?;
        let stored = SigningKey::from_private_bytes(&key.to_private_bytes())?;
        assert_eq!(stored.kid(), key.kid());
        let thumbprint = key.public_jwk().map(mintage::codec::jwk::Jwk::thumbprint);
        assert_eq!(thumbprint.as_deref(), Some(key.kid()));
        let mut out = vec![0; stored.token_len(&claims(now))?];
        let token = stored.sign_into(&claims(now), &mut out)?.as_bytes();
        let verifier = Verifier::new("https://as.example", &["other"], 0);
        assert!(verifier.verify(&Keyring::new(key), token, now, &mut Scratch::new()).is_ok());
    }
    let jwk = SigningKey::from_jwk(include_bytes!("data/rsa2048.jwk.json"))?;
    let pem = SigningKey::from_pem(Algorithm::Rs256, Some(jwk.kid()), rsa)?;
    assert_eq!(jwk.public_jwk(), pem.public_jwk());
    let stored = SigningKey::from_private_bytes(&jwk.to_private_bytes())?;
    let (mut ours, mut theirs) = (vec![0; 2_048], vec![0; 2_048]);
    let theirs = pem.sign_into(&claims(now), &mut theirs)?;
    assert_eq!(stored.sign_into(&claims(now), &mut ours)?, theirs);
    Ok(())
}
