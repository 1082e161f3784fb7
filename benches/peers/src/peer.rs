//! A peer, what it is given, and whether it does the work that its time is compared for.
// Each program uses a part.
#![allow(dead_code)]

use std::hint::black_box;
use std::time::Duration;

use mintage::codec::algorithm::Algorithm;
use serde::{Deserialize, Serialize};

use crate::support::bare_ring::Bare;
use crate::support::cpu_time::CpuTime;
use crate::support::{self, Made, Tokens};

/// The type that a token must have.
pub(crate) const TYPE: &str = "at+jwt";

/// One whole token of the library's, from claims to text.
pub(crate) type Sign = Box<dyn FnMut() -> Option<String>>;
/// Whether a token is good: signature, issuer, audience, type, expiry and `nbf`.
pub(crate) type Verify = Box<dyn FnMut(&str) -> bool>;
/// The work of one contender.
pub(crate) type Run = Box<dyn FnMut() -> bool>;

pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) sign: Sign,
    pub(crate) verify: Verify,
}

/// The keys of one algorithm, in the forms that the libraries ask for.
pub(crate) struct Keys {
    pub(crate) algorithm: Algorithm,
    /// PKCS#8, or the secret.
    pub(crate) private: Vec<u8>,
    /// The public key as JWK, with base64url members.
    pub(crate) jwk: serde_json::Value,
    /// A token of mintage's.
    pub(crate) token: String,
}

/// The claims as a program would have them that uses serde.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) iss: String,
    pub(crate) aud: String,
    pub(crate) client_id: String,
    pub(crate) sub: String,
    pub(crate) scope: String,
    pub(crate) iat: u64,
    pub(crate) nbf: u64,
    pub(crate) exp: u64,
    pub(crate) jti: String,
    pub(crate) sid: String,
}

impl Claims {
    pub(crate) fn new() -> Claims {
        Claims {
            iss: support::ISSUER.into(),
            aud: support::AUDIENCE.into(),
            client_id: support::CLIENT_ID.into(),
            sub: support::SUBJECT.into(),
            scope: support::SCOPE.into(),
            iat: 1_700_000_000,
            nbf: 1_700_000_000,
            exp: 4_000_000_000,
            jti: support::JTI.into(),
            sid: support::SID.into(),
        }
    }
}

impl Keys {
    pub(crate) fn new(algorithm: Algorithm) -> Made<Keys> {
        let private = support::private_key(algorithm)?;
        let key = support::signing_key(algorithm, &private)?;
        let jwk = key.public_jwk().map(|jwk| serde_json::from_str(&jwk.to_json())).transpose()?;
        let token = Tokens::new(key)?.token;
        Ok(Keys { algorithm, private, jwk: jwk.unwrap_or_default(), token })
    }

    /// A token that no library made.
    fn by_hand(&self, typ: &str, claims: &Claims) -> Made<String> {
        let header = serde_json::json!({
            "alg": self.algorithm.name(), "kid": support::KID, "typ": typ
        });
        let base64 = |bytes: &[u8]| base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes);
        let claims = base64(&serde_json::to_vec(claims)?);
        let input = format!("{}.{claims}", base64(header.to_string().as_bytes()));
        let mut out = [0; 256];
        Bare::new(self.algorithm, &self.private)?.sign(input.as_bytes(), &mut out);
        let len = match self.algorithm {
            Algorithm::Hs256 => 32,
            Algorithm::Es256 | Algorithm::EdDsa => 64,
            Algorithm::Es384 => 96,
            _ => 256,
        };
        Ok(format!("{input}.{}", base64(&out[..len])))
    }

    /// Tokens that must be refused, each for one reason.
    fn bad(&self) -> Made<Vec<(&'static str, String)>> {
        let with = |change: fn(&mut Claims)| {
            let mut claims = Claims::new();
            change(&mut claims);
            self.by_hand(TYPE, &claims)
        };
        let (input, signature) = self.token.rsplit_once('.').ok_or("no signature")?;
        let (begin, end) = signature.split_at(signature.len() / 2);
        let other = if end.starts_with('A') { "B" } else { "A" };
        let flipped = format!("{input}.{begin}{other}{}", &end[1..]);
        Ok(vec![
            ("signature", flipped),
            ("issuer", with(|claims| claims.iss.push('x'))?),
            ("audience", with(|claims| claims.aud.push('x'))?),
            ("expiry", with(|claims| claims.exp = 1_700_000_001)?),
            ("nbf", with(|claims| claims.nbf = 3_900_000_000)?),
            ("type", self.by_hand("JWT", &Claims::new())?),
        ])
    }
}

impl Peer {
    /// Signs what mintage accepts, accepts what mintage signs and what nobody of them did, and
    /// refuses what is wrong in one place.
    pub(crate) fn check(&mut self, keys: &Keys) -> Made<()> {
        let name = self.name;
        let signed = (self.sign)().ok_or(format!("{name} does not sign"))?;
        let mut ours = Tokens::new(support::signing_key(keys.algorithm, &keys.private)?)?;
        if !ours.verify(signed.as_bytes()) {
            return Err(format!("{name} signs what mintage refuses: {signed}").into());
        }
        for token in [&keys.token, &signed, &keys.by_hand(TYPE, &Claims::new())?] {
            if !(self.verify)(token) {
                return Err(format!("{name} refuses {token}").into());
            }
        }
        for (what, token) in keys.bad()? {
            if (self.verify)(&token) {
                return Err(format!("{name} accepts a wrong {what}").into());
            }
        }
        Ok(())
    }

    /// To sign, and to verify the token of mintage's.
    pub(crate) fn runs(self, keys: &Keys) -> (Run, Run) {
        let Peer { mut sign, mut verify, .. } = self;
        let token = keys.token.clone();
        (Box::new(move || black_box(sign()).is_some()), Box::new(move || verify(black_box(&token))))
    }
}

/// What `run` takes so many times, by the clock of the thread.
pub(crate) fn time(run: &mut Run, runs: u64) -> Duration {
    let begun = CpuTime::now();
    for _ in 0..runs {
        assert!(run());
    }
    CpuTime::now() - begun
}
