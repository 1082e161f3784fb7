//! The law that no secret lies on the disk or in a log line.

mod support;

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use base64_simd::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use mintage::authority::{
    AuthMethod, AuthorizationRequest, Caller, Client, Credentials, GrantType, Login, Profile,
    Target, TokenFormat, TokenRequest,
};
use mintage::codec::keys::SigningKey;
use mintage::root_key::RootKey;
use support::{Bed, Durable, Memory, Tested, access_token, refresh_token};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

const HMAC_SECRET: &[u8] = b"a secret of thirty-two bytes, 32";
const ROOT: [u8; 32] = *b"\xf1\x07root key\xa5 that must not leak!\x93";

/// Every file below a directory, one after the other.
fn contents(dir: &Path, out: &mut Vec<Vec<u8>>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            contents(&path, out)?;
        } else {
            out.push(fs::read(path)?);
        }
    }
    Ok(())
}

fn hex(bytes: &[u8], upper: bool) -> String {
    bytes
        .iter()
        .map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") })
        .collect()
}

/// A secret in the clear and in every usual coat; the last is how `serde_json` writes bytes.
fn coats(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut coats =
        vec![secret.to_vec(), hex(secret, false).into_bytes(), hex(secret, true).into_bytes()];
    // Base64 depends on where the secret begins; the part that does not is looked for.
    for skip in 0..3 {
        let aligned = &secret[skip..secret.len() - (secret.len() - skip) % 3];
        coats.push(STANDARD_NO_PAD.encode_to_string(aligned).into_bytes());
        coats.push(URL_SAFE_NO_PAD.encode_to_string(aligned).into_bytes());
    }
    let numbers: Vec<String> = secret.iter().map(u8::to_string).collect();
    coats.push(numbers.join(",").into_bytes());
    coats
}

fn has(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// The secret part of an opaque handle: what is left of it without prefix, locator, MAC, checksum.
fn secret_part(handle: &str) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let body = handle.splitn(3, '_').nth(2).ok_or("no body")?;
    let body = URL_SAFE_NO_PAD.decode_to_vec(body).map_err(|_| "no base64url")?;
    Ok(body.get(15..47).ok_or("too short")?.to_vec())
}

#[test]
fn a_coat_is_that_of_the_libraries() -> Tested {
    let secret: Vec<u8> = (90..130).collect();
    let padded = [b"x", secret.as_slice(), b"yz"].concat();
    for stored in [
        serde_json::to_vec(&padded)?,
        URL_SAFE_NO_PAD.encode_to_string(&padded).into_bytes(),
        STANDARD_NO_PAD.encode_to_string(&padded).into_bytes(),
        hex(&padded, true).into_bytes(),
    ] {
        assert!(coats(&secret).iter().any(|coat| has(&stored, coat)));
    }
    Ok(())
}

#[test]
fn r20_no_secret_lies_in_the_data_directory_or_its_backup() -> Tested {
    let opener = Durable::default();
    let dir = opener.dir.path().to_owned();
    let mut bed = Bed::new(opener)?;
    bed.root = bed.root.clone().with_version(2, ROOT)?;
    bed.reopen()?;
    bed.authority().keys().import(SigningKey::hmac(Some("hmac"), HMAC_SECRET)?).wait()?;
    let pem = fs::read_to_string("tests/data/p256.pk8.pem")?;
    let ecdsa = SigningKey::from_pem(mintage::codec::algorithm::Algorithm::Es256, None, &pem)?;
    let pkcs8 = ecdsa.to_private_bytes();
    bed.authority().keys().import(ecdsa).wait()?;

    let mut texts = Vec::new();
    let mut secrets: Vec<Vec<u8>> = vec![
        HMAC_SECRET.to_vec(),
        ROOT.to_vec(),
        vec![7; 32],
        // The private scalar and its neighbourhood, whatever frames it.
        pkcs8[pkcs8.len() - 120..pkcs8.len() - 70].to_vec(),
    ];
    let registered = bed.authority().register(Client::confidential("reports")).wait()?;
    let secret = registered.client_secret.as_ref().ok_or("no secret")?.expose().to_owned();
    let chosen = "a secret that somebody chose";
    let client = Client::confidential("chosen").secret(chosen);
    bed.authority().register(client).wait()?;
    bed.authority()
        .token(&TokenRequest::client_credentials(&Caller::secret("chosen", chosen)))
        .wait()?;
    texts.push(chosen.to_owned());
    // Kept itself, but sealed: it signs.
    let client = Client::confidential("signs").authenticates([AuthMethod::ClientSecretJwt]);
    let signs = bed.authority().register(client).wait()?;
    texts.push(signs.client_secret.as_ref().ok_or("no secret")?.expose().to_owned());
    let staged = bed.authority().stage_secret(&signs.client_id).wait()?;
    texts.push(staged.expose().to_owned());
    let gateway = Client::confidential("gateway")
        .grants([GrantType::AuthorizationCode])
        .redirect_uris(["https://app.example/cb"])
        .pkce_required(false);
    let gateway = bed.authority().register(gateway).wait()?.client_id;
    let initial = bed.authority().renew_initial_access_token(&gateway).wait()?;
    let child = bed.authority().register_dynamic("{}", initial.expose()).wait()?;
    let management = child.registration_access_token.as_ref().ok_or("no token")?;
    texts.extend([initial.expose().to_owned(), management.expose().to_owned()]);
    let asked = AuthorizationRequest {
        response_type: Some("code"),
        client_id: Some("gateway"),
        ..AuthorizationRequest::default()
    };
    let asked = bed.authority().authorize(&asked)?;
    let login = Login::now("ann", &bed.authority())?;
    let url = bed.authority().approve(&asked, &login, "").wait()?;
    let code = url.expose().split(['=', '&']).nth(1).ok_or("no code")?;
    texts.push(code.to_owned());
    let reports = Caller::secret("reports", &*secret);
    let credentials = TokenRequest::client_credentials(&reports);
    texts.push(access_token(&bed.authority().token(&credentials).wait()?));
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let (client, caller) = bed.app(&format!("{format:?}"), format)?;
        for subject in 0..20 {
            let mut issued = bed.issue(&format!("user-{subject}"), &client)?;
            for _ in 0..3 {
                texts.extend([access_token(&issued), refresh_token(&issued)?]);
                issued = bed.refresh(&refresh_token(&issued)?, &caller)?;
            }
        }
        let page = bed.authority().grants().of_client(&client).page(500).wait()?;
        texts.extend(page.into_iter().map(|row| row.delete_handle.expose().to_owned()));
    }
    bed.authority().revoke(Target::Subject("user-3")).wait()?;
    for text in &texts {
        // The secret part of a handle lies apart from the rest; other texts are looked for whole.
        if ["mat_", "mrt_", "mdt_", "mac_"].iter().any(|kind| text.starts_with(kind)) {
            secrets.push(secret_part(text)?);
        }
    }
    texts.push(secret);

    let mut files = Vec::new();
    contents(&dir, &mut files)?;
    bed.reopen()?;
    contents(&dir, &mut files)?;
    assert!(files.iter().map(Vec::len).sum::<usize>() > 10_000);
    // The search finds what is there: a client's name.
    assert!(files.iter().any(|file| has(file, b"reports")));
    // One pass per file over the first bytes of everything looked for.
    let needles: Vec<Vec<u8>> = secrets
        .iter()
        .map(Vec::as_slice)
        .chain(texts.iter().map(String::as_bytes))
        .flat_map(coats)
        .collect();
    let mut by_start = std::collections::HashMap::<[u8; 4], Vec<&[u8]>>::new();
    for needle in &needles {
        let start = *needle.first_chunk().ok_or("too short to look for")?;
        by_start.entry(start).or_default().push(needle);
    }
    for file in &files {
        for at in 0..file.len().saturating_sub(4) {
            let rest = &file[at..];
            let Some(start) = rest.first_chunk::<4>() else { break };
            for needle in by_start.get(start).into_iter().flatten() {
                assert!(!rest.starts_with(needle), "a secret lies at byte {at}");
            }
        }
    }
    Ok(())
}

/// Everything that is traced, as text.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<String>>);

impl Visit for Lines {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if let Ok(mut text) = self.0.lock() {
            text.push_str(&format!("{field}={value:?} "));
        }
    }
}

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut self.clone());
    }
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn i1_reasons_are_traced_and_secrets_are_not() -> Tested {
    let lines = Lines::default();
    let traced = Arc::clone(&lines.0);
    let mut texts = Vec::new();
    tracing::subscriber::with_default(lines, || -> Tested {
        let bed = Bed::new(Memory::default())?;
        let auditor = bed.auditor()?;
        for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
            let (client, caller) = bed.app(&format!("{format:?}"), format)?;
            let first = bed.issue("ann", &client)?;
            let second = bed.refresh(&refresh_token(&first)?, &caller)?;
            bed.clock.advance(100);
            assert!(bed.refresh(&refresh_token(&first)?, &caller).is_err());
            for issued in [&first, &second] {
                let (access, refresh) = (access_token(issued), refresh_token(issued)?);
                for token in [&access, &refresh, &access[1..].to_owned(), &format!("{refresh}A")] {
                    assert!(!bed.is_active(token, &auditor)?);
                    assert!(bed.authority().verify_live(token).wait().is_err());
                    assert!(bed.refresh(token, &caller).is_err());
                }
                texts.extend([access, refresh]);
            }
        }
        let wrong = Caller::secret("auditor", "mcs_a-wrong-secret");
        assert!(bed.authority().introspect("x", &wrong).wait().is_err());
        texts.push("mcs_a-wrong-secret".to_owned());
        let header = STANDARD_NO_PAD.encode_to_string("auditor:a secret in a header, sent in vain");
        let basic = format!("Basic {header}");
        let credentials = Credentials { authorization: Some(&basic), ..Credentials::default() };
        for caller in [
            bed.authority().caller(&credentials)?,
            Caller::assertion(
                "eyJhbGciOiJFZERTQSJ9.eyJpc3MiOiJhdWRpdG9yIn0.c2VjcmV0LXNpZ25hdHVyZQ",
            ),
        ] {
            assert!(bed.authority().introspect("x", &caller).wait().is_err());
            assert!(!format!("{credentials:?}{caller:?}").contains("ecret in"));
        }
        texts.push("a secret in a header, sent in vain".to_owned());
        texts
            .push("eyJhbGciOiJFZERTQSJ9.eyJpc3MiOiJhdWRpdG9yIn0.c2VjcmV0LXNpZ25hdHVyZQ".to_owned());
        Ok(())
    })?;
    let traced = traced.lock().map_err(|_| "poisoned")?;
    assert!(traced.contains("replayed") && traced.contains("wrong secret"), "{traced}");
    for text in &texts {
        let cut = text.len().min(60);
        assert!(!traced.contains(&text[text.len() - cut..]), "a secret was traced");
        assert!(!traced.contains(&text[..cut]), "a secret was traced");
    }
    Ok(())
}

#[test]
fn i1_answers_show_no_secret() -> Tested {
    for profile in [Profile::Standard, Profile::Salesforce] {
        let bed = Bed::with(
            Memory::default(),
            match profile {
                Profile::Salesforce => |builder| builder.profile(Profile::Salesforce),
                _ => |builder| builder.profile(Profile::Standard),
            },
        )?;
        let client = Client::confidential("app").grants([GrantType::ClientCredentials]);
        let (_, caller) = bed.register(client.scopes(["api"]).run_as("robot"))?;
        let request = TokenRequest::client_credentials(&caller);
        let issued = bed.authority().token(&request).wait()?;
        let shown = format!("{issued:?}{:?}", issued.to_json());
        let wire = issued.to_json();
        let wire: serde_json::Value = serde_json::from_str(wire.expose())?;
        assert_eq!(wire["signature"].is_string(), profile == Profile::Salesforce);
        for name in ["access_token", "refresh_token", "id_token", "signature"] {
            let Some(secret) = wire[name].as_str() else { continue };
            assert!(!shown.contains(secret), "{name} of {profile:?} is shown");
        }
    }
    Ok(())
}

#[test]
fn r20_a_wrong_root_key_is_refused_clearly() -> Tested {
    let mut bed = Bed::new(Durable::default())?;
    bed.root = RootKey::from_bytes(1, [99; 32]);
    let refused = bed.try_reopen()?.err().ok_or("a wrong key opened the store")?;
    let mut text = refused.to_string();
    let mut error: &dyn std::error::Error = &refused;
    while let Some(source) = error.source() {
        text.push_str(&format!(": {source}"));
        error = source;
    }
    assert!(text.contains("root key"), "{text}");
    Ok(())
}
