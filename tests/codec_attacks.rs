//! Tokens that must be refused, and those beside them that must be accepted.

use std::error::Error;

use mintage::codec::algorithm::Algorithm;
use mintage::codec::claims::{AccessClaims, NoExtraClaims};
use mintage::codec::jwk::Jwk;
use mintage::codec::jws::{Scratch, TOKEN_LEN_MAX, Verifier, VerifyError, peek};
use mintage::codec::keyring::Keyring;
use mintage::codec::keys::{KeyError, SigningKey, VerifyingKey};
use mintage::entropy::SeededEntropy;
use mintage::time::Timestamp;
use ring::hmac;
use serde::Deserialize;

type Tested = Result<(), Box<dyn Error>>;

const NOW: Timestamp = Timestamp(1_700_000_100);
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const HEADER: &str = r#"{"alg":"HS256","typ":"at+jwt","kid":"k1"}"#;

#[derive(Deserialize)]
struct Cases {
    literal: String,
    accepted: Vec<Case>,
    refused: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    header: String,
    #[serde(default)]
    claims: String,
    #[serde(default)]
    leeway_secs: u64,
    #[serde(default)]
    error: String,
}

fn cases() -> Result<Cases, serde_json::Error> {
    serde_json::from_str(include_str!("data/codec_cases.json"))
}

fn base64url(bytes: &[u8]) -> String {
    base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes)
}

fn signed(header: &str, claims: &[u8]) -> String {
    let input = format!("{}.{}", base64url(header.as_bytes()), base64url(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), input.as_bytes());
    format!("{input}.{}", base64url(tag.as_ref()))
}

fn verifier(leeway_secs: u64) -> Verifier {
    Verifier::new("https://as.example", &["api"], leeway_secs)
}

fn hmac_ring() -> Result<Keyring, KeyError> {
    Ok(Keyring::new(SigningKey::hmac(Some("k1"), SECRET)?))
}

fn refusal(ring: &Keyring, token: impl AsRef<[u8]>) -> Option<VerifyError> {
    verifier(0).verify(ring, token.as_ref(), NOW, &mut Scratch::new()).err()
}

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

fn generated(algorithm: Algorithm, kid: &str) -> Result<SigningKey, KeyError> {
    SigningKey::generate(algorithm, Some(kid), &SeededEntropy::new(7))
}

/// The token that a case's text makes of the valid one.
fn expand(template: &str, valid: &str) -> String {
    let mut parts = valid.split('.');
    let mut part = || parts.next().unwrap_or_default();
    let (header, payload, signature) = (part(), part(), part());
    let mut malleable = valid.to_owned();
    let last = malleable.pop().map_or('A', |c| char::from(c as u8 + 1));
    malleable.push(last);
    template
        .replace("{valid}", valid)
        .replace("{malleable}", &malleable)
        .replace("{header}", header)
        .replace("{payload}", payload)
        .replace("{signature}", signature)
}

#[test]
fn every_case_of_the_table_has_its_answer() -> Tested {
    let (cases, ring) = (cases()?, hmac_ring()?);
    let valid = signed(&cases.accepted[0].header, cases.accepted[0].claims.as_bytes());
    assert_eq!(valid, cases.literal, "another program's HS256 token");
    let mut scratch = Scratch::new();
    for case in &cases.accepted {
        let token = signed(&case.header, case.claims.as_bytes());
        let verifier = verifier(case.leeway_secs);
        let verified = verifier.verify(&ring, token.as_bytes(), NOW, &mut scratch);
        let verified = verified.map_err(|error| format!("{}: {error:?}", case.name))?;
        assert_eq!((verified.subject(), verified.client_id()), ("u1", "C1"), "{}", case.name);
        assert_eq!((verified.issuer(), verified.jti()), ("https://as.example", "j1"));
        assert!(verified.audience().any(|audience| audience == "api"), "{}", case.name);
    }
    assert!(cases.refused.len() > 150);
    for case in &cases.refused {
        let token = match &case.token {
            Some(template) => expand(template, &valid),
            None => signed(&case.header, case.claims.as_bytes()),
        };
        let verifier = verifier(case.leeway_secs);
        let error = verifier.verify(&ring, token.as_bytes(), NOW, &mut scratch).err();
        let error = error.map(|error| format!("{error:?}")).unwrap_or_default();
        assert_eq!(error, case.error, "{}", case.name);
        assert!(verifier.verify(&ring, valid.as_bytes(), NOW, &mut scratch).is_ok());
    }
    Ok(())
}

#[test]
fn bounds_are_checked_before_anything_is_read() -> Tested {
    let ring = hmac_ring()?;
    let dots = |len| ".".repeat(len);
    assert_eq!(refusal(&ring, dots(TOKEN_LEN_MAX)), Some(VerifyError::Malformed));
    assert_eq!(refusal(&ring, dots(TOKEN_LEN_MAX + 1)), Some(VerifyError::TooLong));
    let head = r#"{"iss":"https://as.example","sub":"u1","aud":"api","client_id":"C1","#;
    let head = format!(r#"{head}"iat":1700000000,"exp":1700003600,"jti":"j1","pad":""#);
    let padded = |len| signed(HEADER, format!("{head}{}\"}}", "x".repeat(len)).as_bytes());
    let longest = (0..7_000).map(padded).take_while(|token| token.len() <= TOKEN_LEN_MAX).last();
    assert_eq!(longest.map(|token| refusal(&ring, token)), Some(None));
    let longer = (0..7_000).map(padded).find(|token| token.len() > TOKEN_LEN_MAX);
    let refused = longer.and_then(|token| refusal(&ring, token));
    assert_eq!(refused, Some(VerifyError::TooLong));
    let long_kid = HEADER.replace("k1", &"a".repeat(4_096));
    assert_eq!(refusal(&ring, signed(&long_kid, b"{}")), Some(VerifyError::BadHeader));
    Ok(())
}

#[test]
fn deep_nesting_is_refused_on_a_small_stack() -> Tested {
    let ring = hmac_ring()?;
    let deep = |open: &str| {
        signed(HEADER, format!("{{\"a\":{}", open.repeat(5_000 / open.len())).as_bytes())
    };
    let tokens = [deep("["), deep("{\"a\":"), deep("[{\"a\":")];
    let run = move || tokens.map(|token| refusal(&ring, token));
    let refused = std::thread::Builder::new().stack_size(64 * 1_024).spawn(run)?.join();
    assert_eq!(refused.ok(), Some([Some(VerifyError::TooDeep); 3]));
    Ok(())
}

#[test]
fn claims_that_are_no_utf_8_are_refused() -> Tested {
    let ring = hmac_ring()?;
    for bytes in [&b"\xFF"[..], b"\xC0\xAF", b"\xED\xA0\x80", b"\xF4\x90\x80\x80", b"\xE2\x82"] {
        let claims = [b"{\"sub\":\"", bytes, b"\"}"].concat();
        let refused = refusal(&ring, signed(HEADER, &claims));
        assert_eq!(refused, Some(VerifyError::BadJson), "{bytes:?}");
    }
    Ok(())
}

#[test]
fn a_key_never_verifies_under_another_algorithm() -> Tested {
    let (one, two) = (generated(Algorithm::Es256, "k1")?, generated(Algorithm::EdDsa, "k2")?);
    let forged = token_of(&generated(Algorithm::EdDsa, "k1")?)?;
    let ring = Keyring::new(one).with_active(two)?;
    assert_eq!(refusal(&ring, forged), Some(VerifyError::AlgKeyMismatch));
    for algorithm in [Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa] {
        let key = generated(algorithm, "k1")?;
        let public = key.public_jwk().ok_or("no public key")?.to_json();
        let confused = SigningKey::hmac(Some("k1"), public.as_bytes())?;
        let refused = refusal(&Keyring::new(key), token_of(&confused)?);
        assert_eq!(refused, Some(VerifyError::AlgKeyMismatch));
    }
    Ok(())
}

#[test]
fn a_taken_out_key_verifies_nothing_more() -> Tested {
    let old = generated(Algorithm::EdDsa, "old")?;
    let token = token_of(&old)?;
    let ring = Keyring::new(old).with_active(generated(Algorithm::Es256, "new")?)?;
    assert_eq!(refusal(&ring, &token), None);
    assert_eq!(refusal(&ring.without("old")?, &token), Some(VerifyError::UnknownKey));
    Ok(())
}

#[test]
fn verified_claims_outlive_the_ring_and_the_token() -> Tested {
    let mut scratch = Scratch::new();
    let verified = {
        let key = generated(Algorithm::EdDsa, "a-kid-of-this-ring")?;
        let token = token_of(&key)?;
        verifier(0).verify(&Keyring::new(key), token.as_bytes(), NOW, &mut scratch)?
    };
    assert_eq!((verified.kid(), verified.subject()), ("a-kid-of-this-ring", "u1"));
    Ok(())
}

#[test]
fn every_flipped_bit_and_every_cut_is_refused() -> Tested {
    for algorithm in [Algorithm::Hs256, Algorithm::EdDsa] {
        let key = generated(algorithm, "k1")?;
        let token = token_of(&key)?.into_bytes();
        let ring = Keyring::new(key);
        assert_eq!(refusal(&ring, &token), None);
        for at in 0..token.len() {
            assert!(refusal(&ring, &token[..at]).is_some(), "{algorithm} cut at {at}");
            for bit in 0..8 {
                let mut flipped = token.clone();
                flipped[at] ^= 1 << bit;
                assert!(refusal(&ring, &flipped).is_some(), "{algorithm} bit {bit} of {at}");
            }
        }
        let longer = [&token[..], b"A"].concat();
        assert!(refusal(&ring, longer).is_some());
    }
    Ok(())
}

#[test]
fn cut_and_padded_tags_are_bad_signatures() -> Tested {
    let (ring, valid) = (hmac_ring()?, cases()?.literal);
    let (input, tag) = valid.rsplit_once('.').ok_or("no tag")?;
    let tag = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(tag)?;
    for len in 0..40 {
        let mut changed = tag.clone();
        changed.resize(len, 0);
        let refused = refusal(&ring, format!("{input}.{}", base64url(&changed)));
        let wanted = (len != tag.len()).then_some(VerifyError::BadSignature);
        assert_eq!(refused, wanted, "{len} bytes");
    }
    Ok(())
}

#[test]
fn edge_values_are_no_signatures() -> Tested {
    // The orders of the groups (SEC 2), big-endian.
    let p256 = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let p384 = "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf\
                581a0db248b0a77aecec196accc52973";
    for (algorithm, order) in [(Algorithm::Es256, p256), (Algorithm::Es384, p384)] {
        let n = unhex(order)?;
        let small = |value: u8| [vec![0; n.len() - 1], vec![value]].concat();
        let less = |by: u8| [&n[..n.len() - 1], &[n[n.len() - 1] - by]].concat();
        let edges =
            [small(0), small(1), small(2), less(1), n.clone(), less(0), vec![0xFF; n.len()]];
        let key = generated(algorithm, "k1")?;
        let token = token_of(&key)?;
        let (input, _) = token.rsplit_once('.').ok_or("no signature")?;
        let ring = Keyring::new(key);
        for r in &edges {
            for s in &edges {
                let raw = [r.as_slice(), s.as_slice()].concat();
                let refused = refusal(&ring, format!("{input}.{}", base64url(&raw)));
                assert_eq!(refused, Some(VerifyError::BadSignature), "{algorithm} {r:?} {s:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn an_eddsa_signature_has_one_encoding() -> Tested {
    let key = generated(Algorithm::EdDsa, "k1")?;
    let token = token_of(&key)?;
    let (input, signature) = token.rsplit_once('.').ok_or("no signature")?;
    let mut raw = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(signature)?;
    // RFC 8032 section 5.1.7: S must be below the order L; S + L satisfies the same equation.
    let order = unhex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")?;
    let mut carry = 0;
    for (byte, add) in raw[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    let refused = refusal(&Keyring::new(key), format!("{input}.{}", base64url(&raw)));
    assert_eq!(refused, Some(VerifyError::BadSignature));
    Ok(())
}

#[test]
fn weak_ed25519_keys_are_refused_at_import() -> Tested {
    let parse = |x: &[u8]| {
        Jwk::parse(format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"}}"#, base64url(x)).as_bytes())
    };
    let small = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    for hex in small {
        let mut x = unhex(hex)?;
        assert!(matches!(parse(&x), Err(KeyError::SmallOrder)), "{hex}");
        x[31] |= 0x80;
        assert!(matches!(parse(&x), Err(KeyError::SmallOrder)), "{hex} with its sign");
    }
    for low in 0xed..=0xff {
        let mut x = [0xff; 32];
        (x[0], x[31]) = (low, 0x7f);
        assert!(matches!(parse(&x), Err(KeyError::NonCanonical)), "{low}");
        x[31] = 0xff;
        assert!(matches!(parse(&x), Err(KeyError::NonCanonical)), "{low} with its sign");
    }
    assert!(matches!(parse(&[9; 31]), Err(KeyError::BadJwk("x"))));
    assert!(
        parse(&unhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")?).is_ok()
    );
    Ok(())
}

#[test]
fn a_peek_shows_what_is_claimed_and_no_more() -> Tested {
    let mut scratch = Scratch::new();
    let forged =
        signed(r#"{"alg":"none","kid":"x"}"#, br#"{"iss":"https://evil.example","iss2":1}"#);
    let seen = peek(forged.as_bytes(), &mut scratch)?;
    assert_eq!((seen.issuer(), seen.kid()), (Some("https://evil.example"), Some("x")));
    let silent = signed("{}", br#"{"iss":1}"#);
    let seen = peek(silent.as_bytes(), &mut scratch)?;
    assert_eq!((seen.issuer(), seen.kid()), (None, None));
    assert_eq!(peek(b"a.b", &mut scratch).err(), Some(VerifyError::Malformed));
    let long = vec![b'a'; TOKEN_LEN_MAX + 1];
    assert_eq!(peek(&long, &mut scratch).err(), Some(VerifyError::TooLong));
    Ok(())
}

#[test]
fn a_public_key_off_its_curve_is_refused() -> Tested {
    for (algorithm, len) in [(Algorithm::Es256, 32), (Algorithm::Es384, 48)] {
        let key = generated(algorithm, "k1")?;
        let json = key.public_jwk().ok_or("no public key")?.to_json();
        assert!(VerifyingKey::from_jwk(json.as_bytes()).is_ok());
        let mut jwk: serde_json::Value = serde_json::from_str(&json)?;
        jwk["y"] = base64url(&vec![3; len]).into();
        let refused = VerifyingKey::from_jwk(jwk.to_string().as_bytes());
        assert!(matches!(refused, Err(KeyError::PointOffCurve)), "{algorithm}");
        jwk["y"] = base64url(&vec![3; len - 1]).into();
        let refused = VerifyingKey::from_jwk(jwk.to_string().as_bytes());
        assert!(matches!(refused, Err(KeyError::BadJwk(_))), "{algorithm}");
    }
    Ok(())
}

fn unhex(hex: &str) -> Result<Vec<u8>, std::num::ParseIntError> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16)).collect()
}
