//! Laws of access tokens in Salesforce's form, and of their verification by others.

mod support;

use jsonwebtoken::{Algorithm as Alg, DecodingKey, Validation, decode};
use mintage::authority::{Client, Issue, Scratch, Target, TokenFormat};
use mintage::codec::algorithm::Algorithm;
use mintage::codec::claims::{AccessClaims, NoExtraClaims, SalesforceClaims};
use mintage::codec::jws::{
    IdExpected, IdVerifier, Scratch as CodecScratch, SignError, Template, Verifier, VerifyError,
};
use mintage::codec::keyring::Keyring;
use mintage::codec::keys::SigningKey;
use mintage::store::PairPolicy;
use mintage::time::Timestamp;
use serde_json::{Value, json};
use support::{Bed, ISSUER, Opener, START, Tested, access_token, payload, refresh_token};

laws![
    a_token_has_salesforces_claims,
    it_is_verified_introspected_and_revoked_like_any_other,
    the_tokens_of_a_login_have_one_fingerprint,
    a_client_changes_between_the_forms,
    reuse_gives_the_same_token_again,
];

const SALESFORCE: TokenFormat = TokenFormat::SalesforceJwt;

fn decoded(segment: &str) -> Result<Value, Box<dyn std::error::Error>> {
    Ok(serde_json::from_slice(&base64_simd::URL_SAFE_NO_PAD.decode_to_vec(segment)?)?)
}

fn claims(jwt: &str) -> Result<Value, Box<dyn std::error::Error>> {
    decoded(payload(jwt)?)
}

fn a_token_has_salesforces_claims(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let pem = std::fs::read_to_string("tests/data/rsa2048.pk8.pem")?;
    let rsa = SigningKey::from_pem(Algorithm::Rs256, Some("CORE_ATJWT.1"), &pem)?;
    let public = rsa.public_jwk().ok_or("no public key")?.clone();
    bed.authority().keys().import(rsa).wait()?;
    let (client, _) = bed.app("app", SALESFORCE)?;
    let token = access_token(&bed.issue("005xx", &client)?);
    let header = decoded(token.split('.').next().ok_or("no header")?)?;
    let wanted = json!({
        "alg": "RS256", "typ": "JWT", "kid": "CORE_ATJWT.1", "tty": "sfdc-core-token", "ver": "1.0",
    });
    assert_eq!(header, wanted);
    let said = claims(&token)?;
    for (name, wanted) in [
        ("iss", json!(ISSUER)),
        ("aud", json!([ISSUER])),
        ("sub", json!("uid:005xx")),
        ("client_id", json!("app")),
        ("scp", json!("api refresh_token web")),
        ("scope", Value::Null),
        ("iat", json!(START)),
        ("nbf", json!(START - 15)),
        ("exp", json!(START + mintage::authority::JWT_SECS)),
        ("mty", json!("oauth")),
        ("roles", json!([])),
        ("hsc", json!(false)),
    ] {
        assert_eq!(said[name], wanted, "{name}");
    }
    let fingerprint = said["sfi"].as_str().ok_or("no sfi")?;
    assert!(fingerprint.len() == 64 && fingerprint.bytes().all(|b| b.is_ascii_hexdigit()));
    // Another implementation verifies it.
    let jwk: Value = serde_json::from_str(&public.to_json())?;
    let part = |name: &str| jwk[name].as_str().unwrap_or_default().to_owned();
    let key = DecodingKey::from_rsa_components(&part("n"), &part("e"))?;
    let mut validation = Validation::new(Alg::RS256);
    validation.set_audience(&[ISSUER]);
    validation.set_issuer(&[ISSUER]);
    validation.validate_exp = false;
    assert!(decode::<Value>(&token, &key, &validation).is_ok());
    Ok(())
}

fn it_is_verified_introspected_and_revoked_like_any_other(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let (client, caller) = bed.app("app", SALESFORCE)?;
    let issued = bed.issue("ann", &client)?;
    let token = access_token(&issued);
    let mut scratch = Scratch::new();
    let authority = bed.authority();
    let seen = authority.verify(&token, &mut scratch)?;
    assert_eq!((seen.subject(), seen.scope()), ("ann", "api refresh_token web"));
    assert_eq!(seen.client_id(), "app");
    let live = authority.verify_live(&token).wait()?;
    assert_eq!((live.subject.as_str(), live.scope.as_str()), ("ann", "api refresh_token web"));
    let told = authority.introspect(&token, &auditor).wait()?.to_json();
    assert_eq!(serde_json::from_str::<Value>(&told)?["sub"], json!("ann"));
    // The audience is the one that it names, and a changed token is none.
    let (payload, other) = (payload(&token)?, token.replace(payload(&token)?, "e30"));
    assert!(!payload.is_empty() && authority.verify(&other, &mut scratch).is_err());
    let again = bed.refresh(&refresh_token(&issued)?, &caller)?;
    assert!(claims(&access_token(&again))?["scp"].is_string());
    authority.revoke(Target::Token(&token)).wait()?;
    assert!(!bed.is_active(&token, &auditor)?);
    assert!(bed.is_active(&access_token(&again), &auditor)?);
    bed.reopen()?;
    assert!(!bed.is_active(&token, &auditor)?);
    bed.authority().revoke(Target::Subject("ann")).wait()?;
    assert!(!bed.is_active(&access_token(&again), &auditor)?);
    Ok(())
}

fn the_tokens_of_a_login_have_one_fingerprint(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (client, caller) = bed.app("app", SALESFORCE)?;
    let (one, two) = (bed.issue("ann", &client)?, bed.issue("ann", &client)?);
    let again = bed.refresh(&refresh_token(&one)?, &caller)?;
    let print =
        |issued| Ok::<_, Box<dyn std::error::Error>>(claims(&access_token(issued))?["sfi"].clone());
    assert_eq!(print(&one)?, print(&again)?);
    assert_ne!(print(&one)?, print(&two)?);
    // A lost answer has the same payload again.
    let lost = bed.refresh(&refresh_token(&one)?, &caller);
    assert_eq!(lost?.access_token, again.access_token);
    Ok(())
}

fn a_client_changes_between_the_forms(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let draft = |format| Client::public("app").scopes(["api", "refresh_token"]).format(format);
    let (client, caller) = bed.register(draft(TokenFormat::Jwt))?;
    let issued = bed.issue("ann", &client)?;
    bed.authority().update_client(draft(SALESFORCE)).wait()?;
    bed.reopen()?;
    let again = bed.refresh(&refresh_token(&issued)?, &caller)?;
    assert_eq!(claims(&access_token(&again))?["sub"], json!("uid:ann"));
    for issued in [&issued, &again] {
        let live = bed.authority().verify_live(issued.access_token.expose()).wait()?;
        assert_eq!(live.subject.as_str(), "ann");
    }
    Ok(())
}

fn reuse_gives_the_same_token_again(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let client = Client::confidential("app")
        .grants([mintage::authority::GrantType::ClientCredentials])
        .scopes(["api"])
        .format(SALESFORCE)
        .pairs(PairPolicy::Reuse { left_secs_min: 30 });
    let (client, _) = bed.register(client)?;
    let issue = || bed.authority().issue(Issue::to("ann", &client)).wait();
    assert_eq!(issue()?.access_token, issue()?.access_token);
    Ok(())
}

const CLAIMS: AccessClaims<'static> = AccessClaims {
    issuer: "https://as.example",
    subject: "uid:u1",
    audience: &["api"],
    client_id: "C1",
    scope: "a b",
    issued_at: Timestamp(1_700_000_000),
    not_before: None,
    expires_at: Timestamp(1_700_000_600),
    jti: "j1",
    extra: &NoExtraClaims,
};

#[test]
fn no_type_of_token_is_taken_for_another() -> Tested {
    let ring = Keyring::new(SigningKey::hmac(Some("k1"), &[7; 32])?);
    let fingerprint = "0".repeat(64);
    let salesforce = SalesforceClaims { claims: CLAIMS, fingerprint: &fingerprint };
    let key = ring.active();
    let mut out = [0; 2_048];
    let theirs = key.sign_into(&salesforce, &mut out)?.to_owned();
    assert_eq!(theirs.len(), key.token_len(&salesforce)?);
    let template = Template::new(std::sync::Arc::clone(key), &salesforce)?;
    assert_eq!(template.sign_into(&salesforce, &mut out)?, theirs);
    assert!(!template.fits(&CLAIMS));
    let verifier = Verifier::new("https://as.example", &["api"], 0);
    let (now, mut scratch) = (Timestamp(1_700_000_001), CodecScratch::new());
    let seen = verifier.verify(&ring, theirs.as_bytes(), now, &mut scratch)?;
    assert_eq!((seen.subject(), seen.scope(), seen.jti()), ("u1", "a b", "j1"));
    // It is no ID token, though its `typ` is that of one.
    let as_id = IdVerifier::new("https://as.example", "api", 0);
    let expected = IdExpected::without_nonce();
    let refused = as_id.verify(&ring, theirs.as_bytes(), &expected, now, &mut scratch);
    assert_eq!(refused.err(), Some(VerifyError::HeaderNotAllowed));
    // Nor is a token of either type believed under the other's header.
    let ours = key.sign_into(&CLAIMS, &mut out)?.to_owned();
    let swapped = |header: &str, body: &str| -> Result<String, Box<dyn std::error::Error>> {
        let input = format!("{}.{}", header.split('.').next().ok_or("none")?, payload(body)?);
        let tag = ring::hmac::sign(
            &ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &[7; 32]),
            input.as_bytes(),
        );
        Ok(format!("{input}.{}", base64_simd::URL_SAFE_NO_PAD.encode_to_string(tag.as_ref())))
    };
    let mixed = swapped(&theirs, &ours)?;
    let seen = verifier.verify(&ring, mixed.as_bytes(), now, &mut scratch)?;
    assert_eq!((seen.subject(), seen.scope()), ("u1", ""), "the key's holder wrote it so");
    let plain = AccessClaims { subject: "u1", ..CLAIMS };
    let plain = key.sign_into(&plain, &mut out)?.to_owned();
    let mixed = swapped(&theirs, &plain)?;
    let refused = verifier.verify(&ring, mixed.as_bytes(), now, &mut scratch);
    assert_eq!(refused.err(), Some(VerifyError::BadClaim("sub")));
    // Without the prefix there is no such token.
    let bare = AccessClaims { subject: "u1", ..CLAIMS };
    let bare = SalesforceClaims { claims: bare, fingerprint: &fingerprint };
    assert_eq!(key.sign_into(&bare, &mut out).err(), Some(SignError::ReservedClaim));
    Ok(())
}
