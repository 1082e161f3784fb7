//! ID tokens (OpenID Connect Core 1.0): what is written is verified, each rule of section 3.1.3.7 has
//! its refusal, and no token is an access token and an ID token.

use std::error::Error;

use jsonwebtoken::{DecodingKey, Validation, decode};
use mintage::codec::algorithm::Algorithm;
use mintage::codec::claims::{
    AccessClaims, ClaimsWriter, ExtraClaims, HalfHash, IdClaims, NoExtraClaims,
};
use mintage::codec::jws::{
    IdExpected, IdVerifier, Scratch, SignError, VerifiedId, Verifier, VerifyError,
};
use mintage::codec::keyring::Keyring;
use mintage::codec::keys::SigningKey;
use mintage::entropy::SeededEntropy;
use mintage::time::Timestamp;
use ring::hmac;
use serde_json::{Value, json};

type Tested = Result<(), Box<dyn Error>>;

const NOW: Timestamp = Timestamp(1_700_000_100);
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT","kid":"k1"}"#;

struct Email;

impl ExtraClaims for Email {
    fn write<'c>(&'c self, claims: &mut ClaimsWriter<'c>) -> Result<(), SignError> {
        claims.str("email", "\"ann\"@example.com")?;
        claims.bool("email_verified", true)
    }
}

fn claims() -> IdClaims<'static> {
    IdClaims {
        issuer: "https://as.example",
        subject: "u1",
        audience: &["C1"],
        authorized_party: None,
        issued_at: Timestamp(1_700_000_000),
        expires_at: Timestamp(1_700_000_600),
        auth_time: Some(Timestamp(1_699_999_990)),
        nonce: Some("n-0S6_WzA2Mj"),
        acr: Some("urn:mace:incommon:iap:silver"),
        amr: &["pwd", "otp"],
        at_hash: Some(HalfHash::of(Algorithm::Hs256, "at")),
        c_hash: Some(HalfHash::of(Algorithm::Hs256, "code")),
        extra: &Email,
    }
}

fn ring() -> Result<Keyring, Box<dyn Error>> {
    Ok(Keyring::new(SigningKey::hmac(Some("k1"), SECRET)?))
}

fn verifier() -> IdVerifier {
    IdVerifier::new("https://as.example", "C1", 0)
}

fn expected() -> IdExpected<'static> {
    IdExpected::with_nonce("n-0S6_WzA2Mj")
}

fn token_of(claims: &IdClaims<'_>) -> Result<String, Box<dyn Error>> {
    let mut out = [0; 2_048];
    Ok(ring()?.active().sign_into(claims, &mut out)?.to_owned())
}

fn signed(header: &str, claims: &str) -> String {
    let encode = |bytes: &[u8]| base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes);
    let input = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), input.as_bytes());
    format!("{input}.{}", encode(tag.as_ref()))
}

fn verified<'s>(
    token: &str,
    expected: &IdExpected<'_>,
    scratch: &'s mut Scratch,
) -> Result<Result<VerifiedId<'s>, VerifyError>, Box<dyn Error>> {
    Ok(verifier().verify(&ring()?, token.as_bytes(), expected, NOW, scratch))
}

fn refusal(token: &str, expected: &IdExpected<'_>) -> Result<Option<VerifyError>, Box<dyn Error>> {
    Ok(verified(token, expected, &mut Scratch::new())?.err())
}

/// The refusal of a token with these JSON claims.
fn refusal_of(claims: &Value) -> Result<Option<VerifyError>, Box<dyn Error>> {
    refusal(&signed(HEADER, &claims.to_string()), &expected())
}

fn plain() -> Value {
    json!({
        "iss": "https://as.example", "sub": "u1", "aud": "C1", "iat": 1_700_000_000,
        "exp": 1_700_000_600, "nonce": "n-0S6_WzA2Mj",
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = plain();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = plain();
    claims.as_object_mut().map(|members| members.remove(name));
    claims
}

#[test]
fn what_is_written_is_verified_with_every_algorithm() -> Tested {
    let mut scratch = Scratch::new();
    for algorithm in Algorithm::ALL {
        let key = match algorithm {
            Algorithm::Rs256 | Algorithm::Ps256 => {
                SigningKey::from_pem(algorithm, None, include_str!("data/rsa2048.pk8.pem"))?
            }
            _ => SigningKey::generate(algorithm, None, &SeededEntropy::new(1))?,
        };
        let claims = IdClaims {
            at_hash: Some(HalfHash::of(algorithm, "at")),
            c_hash: Some(HalfHash::of(algorithm, "code")),
            ..claims()
        };
        let mut out = vec![0; key.token_len(&claims)?];
        let len = out.len();
        let token = key.sign_into(&claims, &mut out)?;
        assert_eq!(token.len(), len);
        let ring = Keyring::new(key);
        let expected = expected().max_age_secs(110).access_token("at").code("code");
        let seen = verifier().verify(&ring, token.as_bytes(), &expected, NOW, &mut scratch)?;
        assert_eq!((seen.issuer(), seen.subject()), ("https://as.example", "u1"));
        assert_eq!(seen.audience().collect::<Vec<_>>(), ["C1"]);
        assert_eq!((seen.authorized_party(), seen.nonce()), (None, Some("n-0S6_WzA2Mj")));
        assert_eq!((seen.issued_at().0, seen.expires_at().0), (1_700_000_000, 1_700_000_600));
        assert_eq!(seen.auth_time(), Some(Timestamp(1_699_999_990)));
        assert_eq!(seen.acr(), Some("urn:mace:incommon:iap:silver"));
        assert_eq!(seen.amr().collect::<Vec<_>>(), ["pwd", "otp"]);
        assert_eq!(seen.fits_access_token("at"), Some(true));
        assert_eq!(seen.fits_code("other"), Some(false));
        let email = seen.get("email").and_then(|value| value.as_str());
        assert_eq!(email, Some("\"ann\"@example.com"));
        assert!(seen.get("sub").is_none() && seen.get("nothing").is_none());
    }
    Ok(())
}

#[test]
fn another_library_reads_what_is_written() -> Tested {
    let mut validation = Validation::new(jsonwebtoken::Algorithm::HS256);
    validation.set_audience(&["C1"]);
    validation.set_issuer(&["https://as.example"]);
    validation.validate_exp = false;
    let key = DecodingKey::from_secret(SECRET);
    let read = decode::<Value>(token_of(&claims())?, &key, &validation)?;
    assert_eq!(read.header.typ.as_deref(), Some("JWT"));
    let wanted = json!({
        "iss": "https://as.example", "sub": "u1", "aud": "C1", "iat": 1_700_000_000,
        "exp": 1_700_000_600, "auth_time": 1_699_999_990, "nonce": "n-0S6_WzA2Mj",
        "acr": "urn:mace:incommon:iap:silver", "amr": ["pwd", "otp"],
        "at_hash": HalfHash::of(Algorithm::Hs256, "at").as_str(),
        "c_hash": HalfHash::of(Algorithm::Hs256, "code").as_str(),
        "email": "\"ann\"@example.com", "email_verified": true,
    });
    assert_eq!(read.claims, wanted);
    Ok(())
}

#[test]
fn no_token_is_of_both_types() -> Tested {
    let ring = ring()?;
    let access = AccessClaims {
        issuer: "https://as.example",
        subject: "u1",
        audience: &["C1"],
        client_id: "C1",
        scope: "openid",
        issued_at: Timestamp(1_700_000_000),
        not_before: None,
        expires_at: Timestamp(1_700_000_600),
        jti: "j1",
        extra: &NoExtraClaims,
    };
    let access_verifier = Verifier::new("https://as.example", &["C1"], 0);
    let mut out = [0; 1_024];
    let access = ring.active().sign_into(&access, &mut out)?.to_owned();
    let mut scratch = Scratch::new();
    assert!(access_verifier.verify(&ring, access.as_bytes(), NOW, &mut scratch).is_ok());
    let refused = refusal(&access, &IdExpected::without_nonce())?;
    assert_eq!(refused, Some(VerifyError::WrongType));

    let id = token_of(&claims())?;
    assert_eq!(refusal(&id, &expected())?, None);
    let refused = access_verifier.verify(&ring, id.as_bytes(), NOW, &mut scratch).err();
    assert_eq!(refused, Some(VerifyError::WrongType));

    // Claims that would do for both, under every spelling of the type.
    let mut both = plain();
    both["client_id"] = "C1".into();
    both["jti"] = "j1".into();
    let mut accepted = [0, 0];
    for typ in [
        r#""at+jwt""#,
        r#""AT+JWT""#,
        r#""application/at+jwt""#,
        r#""APPLICATION/AT+jwt""#,
        r#""JWT""#,
        r#""jwt""#,
        r#""application/jwt""#,
        r#""id_token""#,
        r#""logout+jwt""#,
        r#""secevent+jwt""#,
        r#""""#,
        r#""application/""#,
        "null",
        "1",
    ] {
        let header = format!(r#"{{"alg":"HS256","typ":{typ},"kid":"k1"}}"#);
        let token = signed(&header, &both.to_string());
        let is_access = access_verifier.verify(&ring, token.as_bytes(), NOW, &mut scratch).is_ok();
        let is_id = refusal(&token, &expected())?.is_none();
        assert!(!(is_access && is_id), "{typ}");
        accepted = [accepted[0] + u32::from(is_access), accepted[1] + u32::from(is_id)];
    }
    assert_eq!(accepted, [4, 3]);
    let untyped = signed(r#"{"alg":"HS256","kid":"k1"}"#, &both.to_string());
    assert_eq!(refusal(&untyped, &expected())?, None);
    let refused = access_verifier.verify(&ring, untyped.as_bytes(), NOW, &mut scratch).err();
    assert_eq!(refused, Some(VerifyError::WrongType));
    Ok(())
}

#[test]
fn every_rule_has_its_refusal() -> Tested {
    assert_eq!(refusal_of(&plain())?, None);
    for name in ["iss", "sub", "aud", "iat", "exp", "nonce"] {
        assert_eq!(refusal_of(&without(name))?, Some(VerifyError::MissingClaim(name)));
    }
    for name in
        ["iss", "sub", "azp", "iat", "exp", "auth_time", "nonce", "acr", "amr", "at_hash", "c_hash"]
    {
        for bad in [json!(null), json!({}), json!([1]), json!(true), json!(-1)] {
            let refused = refusal_of(&with(name, bad.clone()))?;
            assert_eq!(refused, Some(VerifyError::BadClaim(name)), "{name} {bad}");
        }
    }
    for bad in [json!(null), json!([]), json!([1]), json!(1), json!(["C1", 1])] {
        assert_eq!(refusal_of(&with("aud", bad))?, Some(VerifyError::BadClaim("aud")));
    }
    let refusals = [
        ("iss", json!("https://as.example/"), VerifyError::WrongIssuer),
        ("aud", json!("C2"), VerifyError::WrongAudience),
        ("aud", json!(["C2", "C3"]), VerifyError::WrongAudience),
        ("aud", json!(["C1", "C2"]), VerifyError::MissingClaim("azp")),
        ("azp", json!("C2"), VerifyError::WrongParty),
        ("exp", json!(1_700_000_100), VerifyError::Expired),
        ("iat", json!(1_700_000_101), VerifyError::NotYetValid),
        ("nbf", json!(1_700_000_101), VerifyError::NotYetValid),
        ("nbf", json!("1"), VerifyError::BadClaim("nbf")),
        ("nonce", json!("other"), VerifyError::WrongNonce),
    ];
    for (name, value, why) in refusals {
        assert_eq!(refusal_of(&with(name, value.clone()))?, Some(why), "{name} {value}");
    }
    assert_eq!(refusal_of(&with("aud", json!(["C1"])))?, None);
    let mut several = with("aud", json!(["C2", "C1"]));
    several["azp"] = "C1".into();
    assert_eq!(refusal_of(&several)?, None);
    Ok(())
}

#[test]
fn the_login_must_be_the_one_that_was_asked_for() -> Tested {
    let token = signed(HEADER, &plain().to_string());
    let refused = refusal(&token, &IdExpected::without_nonce())?;
    assert_eq!(refused, Some(VerifyError::WrongNonce));
    let silent = signed(HEADER, &without("nonce").to_string());
    assert_eq!(refusal(&silent, &IdExpected::without_nonce())?, None);

    let missing = Some(VerifyError::MissingClaim("auth_time"));
    assert_eq!(refusal(&token, &expected().max_age_secs(10))?, missing);
    let token = token_of(&claims())?;
    assert_eq!(refusal(&token, &expected().max_age_secs(110))?, None);
    let refused = refusal(&token, &expected().max_age_secs(109))?;
    assert_eq!(refused, Some(VerifyError::TooLongAgo));

    assert_eq!(refusal(&token, &expected().access_token("at").code("code"))?, None);
    let refused = refusal(&token, &expected().access_token("code"))?;
    assert_eq!(refused, Some(VerifyError::WrongHash("at_hash")));
    let refused = refusal(&token, &expected().code("at"))?;
    assert_eq!(refused, Some(VerifyError::WrongHash("c_hash")));
    let bare = token_of(&IdClaims { at_hash: None, c_hash: None, ..claims() })?;
    let refused = refusal(&bare, &expected().access_token("at"))?;
    assert_eq!(refused, Some(VerifyError::MissingClaim("at_hash")));
    let refused = refusal(&bare, &expected().code("code"))?;
    assert_eq!(refused, Some(VerifyError::MissingClaim("c_hash")));
    let mut scratch = Scratch::new();
    let seen = verified(&bare, &expected(), &mut scratch)??;
    assert_eq!((seen.fits_access_token("at"), seen.fits_code("code")), (None, None));
    Ok(())
}

#[test]
fn the_leeway_is_in_the_tokens_favour() -> Tested {
    let lenient = IdVerifier::new("https://as.example", "C1", 30);
    let ring = ring()?;
    let token = token_of(&claims())?;
    let mut scratch = Scratch::new();
    let mut refused = |now, expected: &IdExpected<'_>| {
        lenient.verify(&ring, token.as_bytes(), expected, Timestamp(now), &mut scratch).err()
    };
    assert_eq!(refused(1_699_999_970, &expected()), None);
    assert_eq!(refused(1_699_999_969, &expected()), Some(VerifyError::NotYetValid));
    assert_eq!(refused(1_700_000_629, &expected()), None);
    assert_eq!(refused(1_700_000_630, &expected()), Some(VerifyError::Expired));
    assert_eq!(refused(1_700_000_120, &expected().max_age_secs(100)), None);
    let late = refused(1_700_000_121, &expected().max_age_secs(100));
    assert_eq!(late, Some(VerifyError::TooLongAgo));
    Ok(())
}

#[test]
fn claims_of_ones_own_cannot_be_written_twice() -> Tested {
    struct Extra(&'static str);

    impl ExtraClaims for Extra {
        fn write<'c>(&'c self, claims: &mut ClaimsWriter<'c>) -> Result<(), SignError> {
            claims.str(self.0, "x")
        }
    }

    let ring = ring()?;
    let mut out = [0; 2_048];
    for name in [
        "iss",
        "sub",
        "aud",
        "azp",
        "iat",
        "exp",
        "auth_time",
        "nonce",
        "acr",
        "amr",
        "at_hash",
        "c_hash",
    ] {
        let extra = Extra(name);
        let claims = IdClaims { extra: &extra, ..claims() };
        let refused = ring.active().sign_into(&claims, &mut out).err();
        assert_eq!(refused, Some(SignError::ReservedClaim), "{name}");
    }
    Ok(())
}
