//! Tokens that must be refused, and those beside them that must be accepted.

use std::error::Error;

use mintage::codec::algorithm::Algorithm;
use mintage::codec::claims::{AccessClaims, NoExtraClaims};
use mintage::codec::jws::{Scratch, TOKEN_LEN_MAX, Verifier, VerifyError, peek};
use mintage::codec::keyring::Keyring;
use mintage::codec::keys::{Backend, KeyError, SigningKey, VerifyingKey};
use mintage::entropy::SeededEntropy;
use mintage::time::Timestamp;
use ring::hmac;
use serde::Deserialize;

type Tested = Result<(), Box<dyn Error>>;

const NOW: Timestamp = Timestamp(1_700_000_100);
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const HEADER: &str = r#"{"alg":"HS256","typ":"at+jwt","kid":"k1"}"#;

/// SEC 2, big-endian.
const P256_ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";

#[derive(Deserialize)]
struct Cases {
    literal: String,
    accepted: Vec<Case>,
    refused: Vec<Case>,
    accepted_keys: Vec<KeyCase>,
    refused_keys: Vec<KeyCase>,
}

#[derive(Deserialize)]
struct KeyCase {
    name: String,
    jwk: serde_json::Value,
    #[serde(default)]
    error: String,
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
    // The order of the group (SEC 2), big-endian, like that of P-256.
    let p384 = "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf\
                581a0db248b0a77aecec196accc52973";
    for (algorithm, order) in [(Algorithm::Es256, P256_ORDER), (Algorithm::Es384, p384)] {
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
fn every_key_of_the_table_has_its_answer() -> Tested {
    let cases = cases()?;
    assert!(cases.refused_keys.len() > 100);
    for backend in Backend::ALL {
        for case in &cases.accepted_keys {
            let read = VerifyingKey::from_jwk(case.jwk.to_string().as_bytes());
            let read = read.and_then(|key| key.with_backend(*backend));
            assert!(read.is_ok(), "{}: {read:?}", case.name);
        }
    }
    for case in &cases.refused_keys {
        let error = VerifyingKey::from_jwk(case.jwk.to_string().as_bytes()).err();
        let error = error.map(|error| format!("{error:?}")).unwrap_or_default();
        assert_eq!(error, case.error, "{}", case.name);
        // With whatever private half, it is no better.
        let mut private = case.jwk.clone();
        for name in ["d", "p", "q", "dp", "dq", "qi", "k"] {
            private[name] = "AQAB".into();
        }
        assert!(SigningKey::from_jwk(private.to_string().as_bytes()).is_err(), "{}", case.name);
    }
    Ok(())
}

/// Members that nobody knows are ignored, but they are JSON.
#[test]
fn a_jwk_is_json_in_every_member() -> Tested {
    let known = r#""kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo""#;
    let parse =
        |more: &[u8]| VerifyingKey::from_jwk(&[b"{", known.as_bytes(), more, b"}"].concat()).err();
    assert!(parse(br#","a":{"b":[1,"\u00fc"]}"#).is_none());
    for more in [
        &b",\"a\":\"\xF3\""[..],
        br#","a":"\ud800""#,
        br#","a":1,"a":2"#,
        br#","a":{"b":1,"b":2}"#,
        br#","a":01"#,
        br#","a":1,"#,
        br#"}x"#,
    ] {
        let refused = parse(more);
        assert!(matches!(refused, Some(KeyError::BadJwk(_))), "{more:?}: {refused:?}");
    }
    let deep = format!(r#","a":{}{}"#, "[".repeat(4_000), "]".repeat(4_000));
    assert!(matches!(parse(deep.as_bytes()), Some(KeyError::BadJwk(_))));
    let long = format!(r#","a":"{}""#, "x".repeat(8_192));
    assert!(matches!(parse(long.as_bytes()), Some(KeyError::TooLong)));
    Ok(())
}

/// What the table forbids is no theory: ring itself verifies with the identity as a key.
#[test]
fn a_signature_that_nobody_made_verifies_under_a_point_of_small_order() {
    let mut identity = [0; 32];
    identity[0] = 1;
    // R is the identity and S is 0: RFC 8032's equation holds for every message.
    let forged = [identity, [0; 32]].concat();
    let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, identity);
    assert!(key.verify(b"anything at all", &forged).is_ok());
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

/// CVE-2016-10555 and its many successors: whatever spelling of the public key is taken for an HMAC
/// secret, the key stays what it is.
#[test]
fn no_spelling_of_a_public_key_is_an_hmac_secret() -> Tested {
    let rsa = include_str!("data/rsa2048.pk8.pem");
    let keys = [
        SigningKey::from_pem(Algorithm::Rs256, Some("k1"), rsa)?,
        SigningKey::from_pem(Algorithm::Ps256, Some("k1"), rsa)?,
        generated(Algorithm::Es256, "k1")?,
        generated(Algorithm::Es384, "k1")?,
        generated(Algorithm::EdDsa, "k1")?,
    ];
    for key in keys {
        let algorithm = key.algorithm();
        let token = token_of(&key)?;
        let payload = token.split('.').nth(1).ok_or("no payload")?.to_owned();
        let jwk = key.public_jwk().ok_or("no public key")?.to_json();
        let numbers: serde_json::Value = serde_json::from_str(&jwk)?;
        let main = numbers["n"].as_str().or(numbers["x"].as_str()).ok_or("no number")?;
        let raw = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(main)?;
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{main}\n-----END PUBLIC KEY-----\n");
        let spellings: [&[u8]; 8] = [
            jwk.as_bytes(),
            main.as_bytes(),
            &raw,
            &[&[4], &raw[..]].concat(),
            pem.as_bytes(),
            pem.trim().as_bytes(),
            // CVE-2026-34950: a leading space beat the test for a public key.
            &[b" ", pem.as_bytes()].concat(),
            b"",
        ];
        let ring = Keyring::new(key);
        for secret in spellings {
            let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
            for alg in ["HS256", algorithm.name()] {
                let header = format!(r#"{{"alg":"{alg}","typ":"at+jwt","kid":"k1"}}"#);
                let input = format!("{}.{payload}", base64url(header.as_bytes()));
                let tag = hmac::sign(&secret, input.as_bytes());
                let refused = refusal(&ring, format!("{input}.{}", base64url(tag.as_ref())));
                let wanted = match alg {
                    "HS256" => VerifyError::AlgKeyMismatch,
                    _ => VerifyError::BadSignature,
                };
                assert_eq!(refused, Some(wanted), "{algorithm} {alg}");
            }
        }
        assert_eq!(refusal(&ring, &token), None);
    }
    Ok(())
}

/// CVE-2018-0114: the key comes along with the token.
#[test]
fn a_key_that_a_token_brings_along_is_not_used() -> Tested {
    let ring = Keyring::new(generated(Algorithm::EdDsa, "k1")?);
    let attacker = SigningKey::generate(Algorithm::EdDsa, Some("k1"), &SeededEntropy::new(666))?;
    let token = token_of(&attacker)?;
    assert_eq!(refusal(&ring, &token), Some(VerifyError::BadSignature));
    let payload = token.split('.').nth(1).ok_or("no payload")?;
    let jwk = attacker.public_jwk().ok_or("no public key")?.to_json();
    let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&[1; 32])
        .map_err(|e| e.to_string())?;
    for extra in [
        format!(r#""jwk":{jwk}"#),
        r#""jku":"https://evil.example/jwks""#.to_owned(),
        r#""x5u":"https://evil.example/cert""#.to_owned(),
        r#""x5c":["MIIB"]"#.to_owned(),
    ] {
        let header = format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"k1",{extra}}}"#);
        let input = format!("{}.{payload}", base64url(header.as_bytes()));
        let signature = base64url(pair.sign(input.as_bytes()).as_ref());
        let refused = refusal(&ring, format!("{input}.{signature}"));
        // A header that is longer than any of ours is not read at all.
        assert!(
            matches!(refused, Some(VerifyError::HeaderNotAllowed | VerifyError::BadHeader)),
            "{extra}: {refused:?}"
        );
    }
    Ok(())
}

#[test]
fn signatures_of_another_length_or_in_der_are_refused() -> Tested {
    for backend in Backend::ALL {
        for algorithm in [Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa] {
            let key = generated(algorithm, "k1")?.with_backend(*backend)?;
            let token = token_of(&key)?;
            let (input, signature) = token.rsplit_once('.').ok_or("no signature")?;
            let raw = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(signature)?;
            let ring = Keyring::new(key);
            for len in 0..raw.len() + 9 {
                let mut changed = raw.clone();
                changed.resize(len, 0);
                let refused = refusal(&ring, format!("{input}.{}", base64url(&changed)));
                let wanted = (len != raw.len()).then_some(VerifyError::BadSignature);
                assert_eq!(refused, wanted, "{algorithm} {len}");
            }
            let der = der_of(&raw);
            let refused = refusal(&ring, format!("{input}.{}", base64url(&der)));
            assert_eq!(refused, Some(VerifyError::BadSignature), "{algorithm} in DER");
        }
    }
    Ok(())
}

/// SEQUENCE of two INTEGERs (RFC 3279 section 2.2.3).
fn der_of(raw: &[u8]) -> Vec<u8> {
    let integer = |half: &[u8]| {
        let digits = &half[half.iter().take_while(|byte| **byte == 0).count()..];
        let sign: &[u8] = if digits.first().is_some_and(|top| *top >= 0x80) { &[0] } else { &[] };
        let len = u8::try_from(sign.len() + digits.len()).unwrap_or_default();
        [&[2, len], sign, digits].concat()
    };
    let (r, s) = raw.split_at(raw.len() / 2);
    let body = [integer(r), integer(s)].concat();
    let len = u8::try_from(body.len()).unwrap_or_default();
    [&[0x30, len], body.as_slice()].concat()
}

/// RFC 7518 section 3.4 does not forbid it, and who refuses it refuses honest signers: (r, n - s)
/// verifies where (r, s) does. So the text of a token is no key to anything.
#[test]
fn the_other_half_of_an_ecdsa_signature_verifies_too() -> Tested {
    let order = unhex(P256_ORDER)?;
    for backend in Backend::ALL {
        let key = generated(Algorithm::Es256, "k1")?.with_backend(*backend)?;
        let token = token_of(&key)?;
        let (input, signature) = token.rsplit_once('.').ok_or("no signature")?;
        let mut raw = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(signature)?;
        let mut borrow = 0;
        for (s, n) in raw[32..].iter_mut().zip(&order).rev() {
            let difference = i16::from(*n) - i16::from(*s) - borrow;
            borrow = i16::from(difference < 0);
            *s = difference.rem_euclid(256).to_le_bytes()[0];
        }
        let other = format!("{input}.{}", base64url(&raw));
        assert_ne!(other, token);
        assert_eq!(refusal(&Keyring::new(key), other), None);
    }
    Ok(())
}

#[test]
fn more_members_than_the_bound_are_refused() -> Tested {
    let ring = hmac_ring()?;
    let valid = cases()?.accepted.remove(0).claims;
    let with = |count: usize| {
        let more: String = (0..count).map(|at| format!(r#","m{at}":{at}"#)).collect();
        signed(HEADER, format!("{}{more}}}", valid.trim_end_matches('}')).as_bytes())
    };
    assert_eq!(refusal(&ring, with(64 - 7)), None);
    assert_eq!(refusal(&ring, with(64 - 7 + 1)), Some(VerifyError::TooManyMembers));
    Ok(())
}

fn unhex(hex: &str) -> Result<Vec<u8>, std::num::ParseIntError> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16)).collect()
}
