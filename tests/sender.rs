//! Laws of tokens that are bound to a key (DPoP, RFC 9449) or to a certificate (RFC 8705).

mod support;

use std::sync::{Arc, Barrier};

use mintage::authority::{
    AuthorizationRequest, Builder, Caller, Client, Confirmation, Error, GrantType, Issue, Issued,
    Login, PROOF_SECS, Presented, RefreshPolicy, Scheme, Scratch, SenderConstraint, Target,
    TokenFormat, TokenRequest,
};
use mintage::codec::jwk::Jwk;
use mintage::time::Clock as _;
use ring::digest::{SHA256, digest};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use support::{Bed, ISSUER, Opener, START, Tested, access_token, refresh_token};

laws![
    a_proof_binds_the_access_token_to_its_key,
    a_bound_token_is_worth_nothing_without_its_key,
    a_proof_is_for_one_request_and_good_once,
    a_public_clients_refresh_token_is_bound_and_a_confidential_ones_is_not,
    a_lost_answer_is_given_again_to_the_same_key_alone,
    a_code_is_bound_to_the_key_of_its_request,
    nonces_are_given_out_and_demanded,
    a_proof_that_is_older_than_the_process_needs_a_nonce,
    a_required_constraint_is_required,
    a_certificate_binds_what_comes_over_its_connection,
    a_bound_refresh_token_need_not_rotate,
    a_refresh_token_from_before_a_constraint_is_worth_nothing,
    bound_tokens_stand_after_reopening,
    one_of_many_uses_of_a_proof_wins,
    a_proof_that_comes_with_nothing_live_takes_no_place,
    nobody_takes_the_room_of_others,
    a_proof_is_remembered_while_it_could_be_taken,
];

type Boxed = Box<dyn std::error::Error>;

const TOKEN_URL: &str = "https://login.example.com/token";
/// So many seconds after a restart a proof needs no nonce.
const KNOWN_AFTER: u64 = 91;
const API_URL: &str = "https://api.example.com/things";

/// A client's key.
struct Key(Ed25519KeyPair);

impl Key {
    fn new(seed: u8) -> Key {
        Key(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a seed"))
    }

    fn jwk(&self) -> Value {
        let x = base64_simd::URL_SAFE_NO_PAD.encode_to_string(self.0.public_key().as_ref());
        json!({"kty": "OKP", "crv": "Ed25519", "x": x})
    }

    fn thumbprint(&self) -> String {
        Jwk::parse(self.jwk().to_string().as_bytes()).expect("a key").thumbprint()
    }

    fn confirmation(&self) -> Result<Confirmation, Boxed> {
        let thumbprint = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(self.thumbprint())?;
        Ok(Confirmation::Key(thumbprint.try_into().map_err(|_| "no thumbprint")?))
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let encode = |value: &Value| {
            base64_simd::URL_SAFE_NO_PAD.encode_to_string(value.to_string().as_bytes())
        };
        let input = format!("{}.{}", encode(header), encode(claims));
        let signature = self.0.sign(input.as_bytes());
        format!("{input}.{}", base64_simd::URL_SAFE_NO_PAD.encode_to_string(signature.as_ref()))
    }

    fn header(&self) -> Value {
        json!({"typ": "dpop+jwt", "alg": "EdDSA", "jwk": self.jwk()})
    }

    fn prove(&self, claims: &Value) -> String {
        self.sign(&self.header(), claims)
    }

    /// A caller whose request comes with a fresh proof.
    fn with(&self, caller: &Caller, jti: &str, now: u64) -> Caller {
        let claims = json!({"jti": jti, "htm": "POST", "htu": TOKEN_URL, "iat": now});
        caller.clone().with_proof(self.prove(&claims), "POST", TOKEN_URL)
    }

    /// As [`Key::with`], with a nonce of the authority.
    fn with_nonce(&self, caller: &Caller, jti: &str, now: u64, nonce: &str) -> Caller {
        let claims =
            json!({"jti": jti, "htm": "POST", "htu": TOKEN_URL, "iat": now, "nonce": nonce});
        caller.clone().with_proof(self.prove(&claims), "POST", TOKEN_URL)
    }

    /// A proof for the use of an access token.
    fn for_api(&self, token: &str, jti: &str, now: u64) -> String {
        let hash = digest(&SHA256, token.as_bytes());
        let ath = base64_simd::URL_SAFE_NO_PAD.encode_to_string(hash.as_ref());
        self.prove(&json!({"jti": jti, "htm": "GET", "htu": API_URL, "iat": now, "ath": ath}))
    }
}

fn draft(id: &str, format: TokenFormat) -> Client {
    Client::public(id)
        .grants([GrantType::AuthorizationCode, GrantType::RefreshToken])
        .redirect_uris([CB])
        .scopes(["api", "openid", "refresh_token"])
        .format(format)
}

const FORMATS: [TokenFormat; 3] =
    [TokenFormat::Opaque, TokenFormat::Jwt, TokenFormat::SalesforceJwt];

fn robot<O: Opener>(
    bed: &Bed<O>,
    id: &str,
    set: impl Fn(Client) -> Client,
) -> Result<Caller, Boxed> {
    Ok(bed.register(set(Client::confidential(id).scopes(["api", "refresh_token"])))?.1)
}

fn code_of<T>(refused: Result<T, Error>) -> Option<&'static str> {
    refused.err().map(|error| error.code())
}

fn now_of<O: Opener>(bed: &Bed<O>) -> u64 {
    bed.clock.read().unix.0
}

fn own<O: Opener>(bed: &Bed<O>, caller: &Caller) -> Result<Issued, Error> {
    bed.authority().token(&TokenRequest::client_credentials(caller)).wait()
}

fn a_proof_binds_the_access_token_to_its_key(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let key = Key::new(1);
    for format in FORMATS {
        let id = format!("{format:?}");
        let caller = robot(&bed, &id, |client| client.format(format))?;
        let issued = own(&bed, &key.with(&caller, &id, START))?;
        assert_eq!(issued.token_type, "DPoP");
        let token = access_token(&issued);
        let seen = bed.authority().introspect(&token, &auditor).wait()?;
        let told: Value = serde_json::from_str(&seen.to_json())?;
        assert_eq!(told["cnf"], json!({"jkt": key.thumbprint()}), "{id}");
        assert_eq!(told["token_type"], json!("DPoP"));
        let proof = key.for_api(&token, &format!("{id}1"), START);
        let presented = Presented::dpop(&token, &proof, "GET", API_URL);
        let active = bed.authority().verify_live(presented).wait()?;
        assert!(matches!(active.confirmation, Some(Confirmation::Key(_))));
        let proof = key.for_api(&token, &format!("{id}2"), START);
        let presented = Presented::dpop(&token, &proof, "GET", API_URL);
        let offline = bed.authority().verify(presented, &mut Scratch::new()).is_ok();
        assert_eq!(offline, format != TokenFormat::Opaque);
        // Without a proof it is a bearer's.
        let bare = own(&bed, &caller)?;
        assert_eq!(bare.token_type, "Bearer");
        let seen = bed.authority().introspect(&access_token(&bare), &auditor).wait()?;
        assert!(!seen.to_json().contains("cnf"));
        assert!(bed.authority().verify_live(&access_token(&bare)).wait().is_ok());
    }
    Ok(())
}

fn a_bound_token_is_worth_nothing_without_its_key(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (key, other) = (Key::new(1), Key::new(2));
    for format in FORMATS {
        let id = format!("{format:?}");
        let caller = robot(&bed, &id, |client| client.format(format))?;
        let token = access_token(&own(&bed, &key.with(&caller, &id, START))?);
        let bare = access_token(&own(&bed, &caller)?);
        let authority = bed.authority();
        let stolen = [
            ("bearer", &token, None),
            ("another key", &token, Some(other.for_api(&token, &format!("{id}a"), START))),
            ("no hash", &token, Some(key.with_api(&format!("{id}b")))),
            ("another token", &token, Some(key.for_api(&bare, &format!("{id}c"), START))),
            ("a bearer's token", &bare, Some(key.for_api(&bare, &format!("{id}d"), START))),
        ];
        for (what, token, proof) in &stolen {
            let presented = match proof {
                Some(proof) => Presented::dpop(token, proof, "GET", API_URL),
                None => Presented::bearer(token),
            };
            let live = code_of(authority.verify_live(presented).wait());
            assert!(matches!(live, Some("invalid_token" | "invalid_dpop_proof")), "{what} {id}");
            assert!(authority.user_info(presented).wait().is_err(), "{what} {id}");
            assert!(authority.verify(presented, &mut Scratch::new()).is_err(), "{what} {id}");
        }
        let certificate = Presented::certificate(&token, [1; 32]);
        assert_eq!(code_of(authority.verify_live(certificate).wait()), Some("invalid_token"));
    }
    Ok(())
}

impl Key {
    fn with_api(&self, jti: &str) -> String {
        self.prove(&json!({"jti": jti, "htm": "GET", "htu": API_URL, "iat": START}))
    }
}

fn a_proof_is_for_one_request_and_good_once(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let key = Key::new(1);
    let caller = robot(&bed, "robot", |client| client)?;
    let good = json!({"jti": "1", "htm": "POST", "htu": TOKEN_URL, "iat": START});
    let ask = |proof: String| own(&bed, &caller.clone().with_proof(proof, "POST", TOKEN_URL));
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        key.prove(&claims)
    };
    let without = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().expect("an object").remove(name);
        key.prove(&claims)
    };
    let headed = |name: &str, value: Value| {
        let mut header = key.header();
        header[name] = value;
        key.sign(&header, &good)
    };
    let mut private = key.jwk();
    private["d"] = json!("AAAA");
    let bad = [
        String::new(),
        "a.b.c".to_owned(),
        "x".repeat(9_000),
        with("htm", json!("GET")),
        with("htu", json!("https://login.example.com/other")),
        with("htu", json!(7)),
        with("iat", json!(START - PROOF_SECS - 31)),
        with("iat", json!(START + 31)),
        with("iat", json!("1800000000")),
        with("jti", json!("")),
        without("jti"),
        without("htm"),
        without("htu"),
        without("iat"),
        headed("typ", json!("JWT")),
        headed("alg", json!("none")),
        headed("alg", json!("HS256")),
        headed("alg", json!("ES256")),
        headed("crit", json!(["b64"])),
        headed("jwk", json!({"kty": "oct", "k": "AAAA"})),
        headed("jwk", private),
        headed("jwk", Key::new(2).jwk()),
        headed("jwk", json!("x")),
    ];
    for proof in bad {
        assert_eq!(code_of(ask(proof.clone())), Some("invalid_dpop_proof"), "{proof}");
    }
    let proof = key.prove(&good);
    assert_eq!(ask(proof.clone())?.token_type, "DPoP", "none of them used it up");
    let again = ask(proof).err().ok_or("taken twice")?;
    assert_eq!((again.code(), again.status()), ("invalid_dpop_proof", 400));
    // The name of another key's proof is another's.
    let other = Key::new(2).prove(&good);
    assert!(ask(other).is_ok());
    // Spelt otherwise, the URL is the same.
    assert!(ask(with("htu", json!("HTTPS://LOGIN.example.com:443/token?x=1#y"))).is_err());
    let mut spelt = good.clone();
    spelt["htu"] = json!("HTTPS://LOGIN.example.com:443/token?x=1#y");
    spelt["jti"] = json!("2");
    spelt["iat"] = json!(f64::from(u32::try_from(START)?) + 0.25);
    assert!(ask(key.prove(&spelt)).is_ok());
    // It is remembered for as long as it could be taken.
    for _ in 0..40 {
        bed.clock.advance(7);
        assert!(ask(key.prove(&good)).is_err());
    }
    Ok(())
}

fn log_in<O: Opener>(bed: &Bed<O>, id: &str, caller: &Caller) -> Result<Issued, Boxed> {
    let code = code(bed, &request(id))?;
    Ok(bed.authority().token(&TokenRequest::code(&code, caller).code_verifier(VERIFIER)).wait()?)
}

fn a_public_clients_refresh_token_is_bound_and_a_confidential_ones_is_not(
    opener: impl Opener,
) -> Tested {
    let bed = Bed::new(opener)?;
    let (key, other) = (Key::new(1), Key::new(2));
    let (_, public) = bed.register(draft("public", TokenFormat::Opaque))?;
    let client = Client::confidential("confidential")
        .grants([GrantType::AuthorizationCode, GrantType::RefreshToken])
        .redirect_uris([CB])
        .scopes(["api", "refresh_token"]);
    let (_, confidential) = bed.register(client)?;
    let issued = log_in(&bed, "public", &key.with(&public, "1", START))?;
    let token = refresh_token(&issued)?;
    // Whoever stole it has no use of it, and ends nothing.
    for (thief, jti) in [(public.clone(), ""), (other.with(&public, "2", START), "2")] {
        assert_eq!(code_of(bed.refresh(&token, &thief)), Some("invalid_grant"), "{jti}");
    }
    let again = bed.refresh(&token, &key.with(&public, "3", START))?;
    assert_eq!(again.token_type, "DPoP");
    let next = refresh_token(&again)?;
    assert_eq!(
        code_of(bed.refresh(&next, &other.with(&public, "4", START))),
        Some("invalid_grant")
    );
    bed.refresh(&next, &key.with(&public, "5", START))?;
    // One that proves itself may take a new key.
    let issued = log_in(&bed, "confidential", &key.with(&confidential, "6", START))?;
    let token = refresh_token(&issued)?;
    let again = bed.refresh(&token, &other.with(&confidential, "7", START))?;
    let proof = other.for_api(&access_token(&again), "8", START);
    let presented = Presented::dpop(again.access_token.expose(), &proof, "GET", API_URL);
    assert!(bed.authority().verify_live(presented).wait().is_ok());
    assert_eq!(bed.refresh(&token, &confidential)?.token_type, "Bearer");
    Ok(())
}

fn a_lost_answer_is_given_again_to_the_same_key_alone(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let (key, other) = (Key::new(1), Key::new(2));
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let id = format!("{format:?}");
        let (_, caller) = bed.register(draft(&id, format))?;
        let with = |bed: &Bed<_>, key: &Key, n: &str| {
            key.with_nonce(&caller, &format!("{id}{n}"), START, &bed.authority().dpop_nonce())
        };
        let issued = log_in(&bed, &id, &with(&bed, &key, "1"))?;
        let token = refresh_token(&issued)?;
        let one = bed.refresh(&token, &with(&bed, &key, "2"))?;
        bed.reopen()?;
        let two = bed.refresh(&token, &with(&bed, &key, "3"))?;
        assert_eq!(
            (&one.access_token, &one.refresh_token),
            (&two.access_token, &two.refresh_token)
        );
        let stolen = bed.refresh(&token, &with(&bed, &other, "4"));
        assert_eq!(code_of(stolen), Some("invalid_grant"));
        let next = bed.refresh(&refresh_token(&two)?, &with(&bed, &key, "5"));
        assert!(next.is_ok(), "nothing was ended");
    }
    Ok(())
}

const CB: &str = "https://app.example/cb";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

fn request(id: &str) -> AuthorizationRequest<'_> {
    AuthorizationRequest {
        response_type: Some("code"),
        client_id: Some(id),
        code_challenge: Some(CHALLENGE),
        code_challenge_method: Some("S256"),
        ..AuthorizationRequest::default()
    }
}

fn code<O: Opener>(bed: &Bed<O>, request: &AuthorizationRequest<'_>) -> Result<String, Boxed> {
    let authorization = bed.authority().authorize(request)?;
    let login = Login::now("ann", &bed.authority())?;
    let scope = authorization.scope().as_str().to_owned();
    let url = bed.authority().approve(&authorization, &login, &scope).wait()?;
    Ok(url.expose().split(['=', '&']).nth(1).ok_or("no code")?.to_owned())
}

fn a_code_is_bound_to_the_key_of_its_request(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (key, other) = (Key::new(1), Key::new(2));
    let (_, caller) = bed.register(draft("app", TokenFormat::Opaque))?;
    let thumbprint = key.thumbprint();
    let bound = AuthorizationRequest { dpop_jkt: Some(&thumbprint), ..request("app") };
    let one = code(&bed, &bound)?;
    // A push takes the key of its proof.
    let pushed = bed.authority().push(&request("app"), &key.with(&caller, "p", START)).wait()?;
    let authorization = bed.authority().authorize_pushed("app", &pushed.request_uri).wait()?;
    let login = Login::now("ann", &bed.authority())?;
    let url = bed.authority().approve(&authorization, &login, "api").wait()?;
    let two = url.expose().split(['=', '&']).nth(1).ok_or("no code")?.to_owned();
    for (n, code) in [one, two].iter().enumerate() {
        let redeem = |caller: &Caller| {
            let request = TokenRequest::code(code, caller).code_verifier(VERIFIER);
            bed.authority().token(&request).wait()
        };
        assert_eq!(code_of(redeem(&caller)), Some("invalid_grant"));
        let thief = other.with(&caller, &format!("t{n}"), START);
        assert_eq!(code_of(redeem(&thief)), Some("invalid_grant"));
        assert_eq!(redeem(&key.with(&caller, &format!("o{n}"), START))?.token_type, "DPoP");
    }
    let mixed = bed.authority().push(&bound, &other.with(&caller, "m", START)).wait();
    assert_eq!(code_of(mixed), Some("invalid_dpop_proof"));
    for bad in ["x", "AAAA", &"A".repeat(44)] {
        let bad = AuthorizationRequest { dpop_jkt: Some(bad), ..request("app") };
        let refused = bed.authority().authorize(&bad);
        assert_eq!(refused.err().map(|e| e.error().code()), Some("invalid_request"));
    }
    Ok(())
}

fn nonces(builder: Builder) -> Builder {
    builder.dpop_nonces(true)
}

fn nonces_are_given_out_and_demanded(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, nonces)?;
    let key = Key::new(1);
    let caller = robot(&bed, "robot", |client| client)?;
    let ask = |jti: &str, nonce: Option<&str>, now: u64| {
        let mut claims = json!({"jti": jti, "htm": "POST", "htu": TOKEN_URL, "iat": now});
        if let Some(nonce) = nonce {
            claims["nonce"] = json!(nonce);
        }
        own(&bed, &caller.clone().with_proof(key.prove(&claims), "POST", TOKEN_URL))
    };
    let refused = ask("1", None, START).err().ok_or("taken without a nonce")?;
    assert_eq!((refused.code(), refused.status()), ("use_dpop_nonce", 400));
    let challenge = refused.challenge(Scheme::Bearer).ok_or("no challenge")?;
    assert_eq!((challenge.status, challenge.scheme), (401, Scheme::Dpop));
    let nonce = refused.dpop_nonce().ok_or("no nonce")?.to_owned();
    assert_eq!(nonce, bed.authority().dpop_nonce());
    assert!(ask("1", Some(&nonce), START).is_ok());
    assert_eq!(code_of(ask("2", Some("made up"), START)), Some("use_dpop_nonce"));
    // A nonce is taken for a while, then another one is needed.
    bed.clock.advance(300);
    assert!(ask("3", Some(&nonce), START + 300).is_ok());
    bed.clock.advance(300);
    assert_eq!(code_of(ask("4", Some(&nonce), START + 600)), Some("use_dpop_nonce"));
    assert_ne!(nonce, bed.authority().dpop_nonce());
    // At a resource, too.
    let nonce = bed.authority().dpop_nonce();
    let token = access_token(&ask("5", Some(&nonce), START + 600)?);
    let proof = key.for_api(&token, "6", START + 600);
    let presented = Presented::dpop(&token, &proof, "GET", API_URL);
    let refused = bed.authority().verify_live(presented).wait();
    assert_eq!(code_of(refused), Some("use_dpop_nonce"));
    Ok(())
}

fn a_proof_that_is_older_than_the_process_needs_a_nonce(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let key = Key::new(1);
    let caller = robot(&bed, "robot", |client| client)?;
    let ask = |bed: &Bed<_>, jti: &str, iat: u64| own(bed, &key.with(&caller, jti, iat));
    // Of now, and as far ahead of the clock as is taken.
    for (jti, ahead) in [("1", 0), ("2", 30)] {
        ask(&bed, jti, START + ahead)?;
    }
    // In the second of the restart, after it, and with a clock that is put back.
    for (advance, back) in [(0, 0), (10, 0), (20, 0), (0, 30)] {
        bed.clock.advance(advance);
        let now = now_of(&bed) - back;
        bed.clock.set(now);
        bed.reopen()?;
        // What was used is forgotten, and yet good for nothing.
        for (jti, ahead) in [("1", 0), ("2", 30)] {
            let again = code_of(ask(&bed, jti, START + ahead));
            assert_eq!(again, Some("use_dpop_nonce"), "{jti} {advance}");
        }
        let nonce = bed.authority().dpop_nonce();
        own(&bed, &key.with_nonce(&caller, &format!("n{advance}{back}"), now, &nonce))?;
    }
    bed.clock.advance(KNOWN_AFTER);
    ask(&bed, "3", now_of(&bed))?;
    Ok(())
}

fn few_proofs(builder: Builder) -> Builder {
    builder.proofs_max(8)
}

fn a_proof_that_comes_with_nothing_live_takes_no_place(opener: impl Opener) -> Tested {
    let mut bed = Bed::with(opener, few_proofs)?;
    let (key, other) = (Key::new(1), Key::new(2));
    let robot = robot(&bed, "robot", |client| client)?;
    let (_, caller) = bed.register(draft("app", TokenFormat::Opaque))?;
    let (_, jwts) = bed.register(draft("jwts", TokenFormat::Jwt))?;
    let with = |caller: &Caller, n: u32| key.with(caller, &format!("{n}"), START);
    let dead = log_in(&bed, "app", &with(&caller, 1))?;
    let dead_jwt = log_in(&bed, "jwts", &with(&jwts, 2))?;
    let (opaque, jwt) = (access_token(&dead), access_token(&dead_jwt));
    for token in [refresh_token(&dead)?, refresh_token(&dead_jwt)?] {
        bed.authority().revoke(Target::Token(&token)).wait()?;
    }
    bed.reopen()?;
    bed.clock.advance(200);
    let now = START + 200;
    let refresh = refresh_token(&dead)?;
    let code = code(&bed, &request("app"))?;
    let redeem = |caller: &Caller, verifier: &str| {
        let request = TokenRequest::code(&code, caller).code_verifier(verifier);
        bed.authority().token(&request).wait()
    };
    let verify = |token: &str, jti: &str| {
        let proof = key.for_api(token, jti, now);
        let presented = Presented::dpop(token, &proof, "GET", API_URL);
        let told = bed.authority().user_info(presented).wait().is_err();
        told && bed.authority().verify_live(presented).wait().is_err()
    };
    for n in 0..20 {
        let with = |caller: &Caller| key.with(caller, &format!("f{n}"), now);
        assert_eq!(code_of(bed.refresh(&refresh, &with(&caller))), Some("invalid_grant"));
        assert_eq!(code_of(redeem(&with(&caller), "wrong")), Some("invalid_grant"));
        assert_eq!(code_of(redeem(&with(&jwts), VERIFIER)), Some("invalid_grant"));
        assert!(verify(&opaque, &format!("o{n}")) && verify(&jwt, &format!("j{n}")));
    }
    // So all of them are as good as new.
    redeem(&key.with(&caller, "f0", now), VERIFIER)?;
    own(&bed, &key.with(&robot, "f1", now))?;
    own(&bed, &other.with(&robot, "f1", now))?;
    Ok(())
}

fn nobody_takes_the_room_of_others(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, few_proofs)?;
    let keys = [1, 2, 3].map(Key::new);
    let (_, caller) = bed.register(draft("app", TokenFormat::Opaque))?;
    let mine = log_in(&bed, "app", &keys[0].with(&caller, "1", START))?;
    let token = access_token(&mine);
    let mut taken = 1;
    for n in 0..20 {
        let proof = keys[0].for_api(&token, &format!("a{n}"), START);
        let live = bed.authority().verify_live(Presented::dpop(&token, &proof, "GET", API_URL));
        taken += u32::from(live.wait().is_ok());
    }
    assert_eq!(taken, 4, "as many as are left");
    // Others at the same client, and other clients, are served. It counts whose the proofs are, and
    // not by how many keys they come.
    let robots = robot(&bed, "robot", |client| client)?;
    let asked = keys.iter().map(|key| own(&bed, &key.with(&robots, "r", START)).is_ok());
    assert_eq!(asked.filter(|given| *given).count(), 2);
    let to_ben = Issue::to("ben", &mine.client_id).bound_to(keys[1].confirmation()?);
    let theirs = bed.authority().issue(to_ben);
    let theirs = access_token(&theirs.wait()?);
    let proof = keys[1].for_api(&theirs, "b", START);
    bed.authority().verify_live(Presented::dpop(&theirs, &proof, "GET", API_URL)).wait()?;
    // Once they are too old to be taken there is room again.
    bed.clock.advance(91);
    let proof = keys[0].for_api(&token, "a0", START + 91);
    bed.authority().verify_live(Presented::dpop(&token, &proof, "GET", API_URL)).wait()?;
    Ok(())
}

fn a_proof_is_remembered_while_it_could_be_taken(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let key = Key::new(1);
    let caller = robot(&bed, "robot", |client| client)?;
    let ahead = key.with(&caller, "ahead", START + 30);
    let behind = key.with(&caller, "behind", START - 90);
    own(&bed, &ahead)?;
    own(&bed, &behind)?;
    for step in 0..14 {
        for used in [&ahead, &behind] {
            assert_eq!(code_of(own(&bed, used)), Some("invalid_dpop_proof"), "{step}");
        }
        own(&bed, &key.with(&caller, &format!("{step}"), now_of(&bed)))?;
        bed.clock.advance(10);
    }
    // Nor does it begin again when the clock is put back.
    bed.clock.set(START + 80);
    for used in [&ahead, &behind] {
        assert_eq!(code_of(own(&bed, used)), Some("invalid_dpop_proof"));
    }
    Ok(())
}

fn a_required_constraint_is_required(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let key = Key::new(1);
    let keyed = robot(&bed, "keyed", |c| c.sender_constraint(SenderConstraint::Key))?;
    let tls = robot(&bed, "tls", |c| c.sender_constraint(SenderConstraint::Certificate))?;
    bed.reopen()?;
    bed.clock.advance(KNOWN_AFTER);
    assert_eq!(code_of(own(&bed, &keyed)), Some("invalid_dpop_proof"));
    let by_certificate = keyed.clone().with_certificate([1; 32]);
    assert_eq!(code_of(own(&bed, &by_certificate)), Some("invalid_dpop_proof"));
    own(&bed, &key.with(&keyed, "1", START + KNOWN_AFTER))?;
    assert_eq!(code_of(own(&bed, &tls)), Some("invalid_request"));
    assert_eq!(
        code_of(own(&bed, &key.with(&tls, "2", START + KNOWN_AFTER))),
        Some("invalid_request")
    );
    own(&bed, &tls.with_certificate([1; 32]))?;
    // What the host issues itself, too.
    let issue = |id: &str, sender: Option<Confirmation>| {
        let client = mintage::ids::ClientId::new(id).expect("an id");
        let issue = Issue::to("ann", &client);
        let issue = sender.map_or(issue.clone(), |sender| issue.bound_to(sender));
        bed.authority().issue(issue).wait()
    };
    for (id, fits, other) in [
        ("keyed", Confirmation::Key([1; 32]), Confirmation::Certificate([1; 32])),
        ("tls", Confirmation::Certificate([1; 32]), Confirmation::Key([1; 32])),
    ] {
        assert_eq!(code_of(issue(id, None)), Some("invalid_request"));
        assert_eq!(code_of(issue(id, Some(other))), Some("invalid_request"));
        issue(id, Some(fits))?;
    }
    Ok(())
}

fn a_certificate_binds_what_comes_over_its_connection(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    for format in FORMATS {
        let id = format!("{format:?}");
        let client = draft(&id, format).sender_constraint(SenderConstraint::Certificate);
        let (_, caller) = bed.register(client)?;
        let mine = caller.clone().with_certificate([7; 32]);
        let issued = log_in(&bed, &id, &mine)?;
        assert_eq!(issued.token_type, "Bearer", "RFC 8705 has no other");
        let token = access_token(&issued);
        let told = bed.authority().introspect(&token, &auditor).wait()?.to_json();
        let told: Value = serde_json::from_str(&told)?;
        let x5t = base64_simd::URL_SAFE_NO_PAD.encode_to_string([7; 32]);
        assert_eq!(told["cnf"], json!({"x5t#S256": x5t}));
        let live = |presented: Presented<'_>| bed.authority().verify_live(presented).wait();
        assert!(live(Presented::certificate(&token, [7; 32])).is_ok());
        assert_eq!(code_of(live(Presented::certificate(&token, [8; 32]))), Some("invalid_token"));
        assert_eq!(code_of(live(Presented::bearer(&token))), Some("invalid_token"));
        // So is its refresh token.
        let refresh = refresh_token(&issued)?;
        let thief = caller.clone().with_certificate([8; 32]);
        assert_eq!(code_of(bed.refresh(&refresh, &thief)), Some("invalid_grant"));
        assert_eq!(code_of(bed.refresh(&refresh, &caller)), Some("invalid_request"));
        bed.refresh(&refresh, &mine)?;
    }
    Ok(())
}

fn a_bound_refresh_token_need_not_rotate(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let key = Key::new(1);
    let fixed = |id| draft(id, TokenFormat::Opaque).refresh(RefreshPolicy::fixed());
    let refused = bed.authority().register(fixed("bearer")).wait();
    assert_eq!(code_of(refused), Some("invalid_client_metadata"));
    let (_, caller) = bed.register(fixed("bound").sender_constraint(SenderConstraint::Key))?;
    let issued = log_in(&bed, "bound", &key.with(&caller, "1", START))?;
    let token = refresh_token(&issued)?;
    for n in 2..5 {
        let again = bed.refresh(&token, &key.with(&caller, &n.to_string(), START))?;
        assert!(again.refresh_token.is_none());
    }
    let thief = Key::new(2).with(&caller, "9", START);
    assert_eq!(code_of(bed.refresh(&token, &thief)), Some("invalid_grant"));
    Ok(())
}

fn a_refresh_token_from_before_a_constraint_is_worth_nothing(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let key = Key::new(1);
    for (n, policy) in [RefreshPolicy::fixed(), RefreshPolicy::rotate()].into_iter().enumerate() {
        let id = format!("app{n}");
        let (client, caller) = bed.register(draft(&id, TokenFormat::Opaque))?;
        let old = refresh_token(&bed.issue("ann", &client)?)?;
        let bound = log_in(&bed, &id, &key.with(&caller, &format!("{id}0"), START))?;
        let bound = refresh_token(&bound)?;
        let changed = draft(&id, TokenFormat::Opaque).refresh(policy);
        let changed = changed.sender_constraint(SenderConstraint::Key);
        bed.authority().update_client(changed).wait()?;
        for key in [&key, &Key::new(2)] {
            let jti = format!("{id}{}", key.thumbprint());
            let refused = bed.refresh(&old, &key.with(&caller, &jti, START));
            assert_eq!(code_of(refused), Some("invalid_grant"));
        }
        bed.refresh(&bound, &key.with(&caller, &format!("{id}1"), START))?;
    }
    Ok(())
}

fn bound_tokens_stand_after_reopening(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let key = Key::new(1);
    let mut tokens = Vec::new();
    for format in FORMATS {
        let id = format!("{format:?}");
        let (_, caller) = bed.register(draft(&id, format))?;
        tokens.push(access_token(&log_in(&bed, &id, &key.with(&caller, &id, START))?));
    }
    bed.reopen()?;
    bed.clock.advance(KNOWN_AFTER);
    for (n, token) in tokens.iter().enumerate() {
        let proof = key.for_api(token, &n.to_string(), START + KNOWN_AFTER);
        assert!(
            bed.authority()
                .verify_live(Presented::dpop(token, &proof, "GET", API_URL))
                .wait()
                .is_ok()
        );
        assert!(bed.authority().verify_live(token).wait().is_err());
        bed.authority().revoke(Target::Token(token)).wait()?;
        let proof = key.for_api(token, &format!("{n}r"), START + KNOWN_AFTER);
        let presented = Presented::dpop(token, &proof, "GET", API_URL);
        assert_eq!(code_of(bed.authority().verify_live(presented).wait()), Some("invalid_token"));
    }
    assert_eq!(bed.authority().issuer(), ISSUER);
    Ok(())
}

fn one_of_many_uses_of_a_proof_wins(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let key = Key::new(1);
    let caller = robot(&bed, "robot", |client| client)?;
    for round in 0..8 {
        let caller = key.with(&caller, &format!("r{round}"), START);
        let start = Arc::new(Barrier::new(4));
        let wins = std::thread::scope(|scope| {
            let asking: Vec<_> = (0..4)
                .map(|_| {
                    let (bed, caller, start) = (&bed, &caller, Arc::clone(&start));
                    scope.spawn(move || {
                        start.wait();
                        own(bed, caller).is_ok()
                    })
                })
                .collect();
            asking.into_iter().filter_map(|asked| asked.join().ok()).filter(|won| *won).count()
        });
        assert_eq!(wins, 1);
    }
    Ok(())
}
