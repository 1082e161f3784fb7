//! DPoP proofs: none of a key that we do not have is taken but the genuine one. An input is a proof as it
//! stands, the JWK of a header that nobody signed, and a list of edits (position, operation, byte) of
//! the genuine proof.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use mintage::codec::dpop::{Proof, ProofExpected};
use mintage::time::Timestamp;

/// RFC 9449 section 4.1.
const GENUINE: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";
/// RFC 9449 section 6.1.
const THUMBPRINT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";

fn proves(text: &str) -> bool {
    let Ok(proof) = Proof::read(text) else { return false };
    let expected = ProofExpected {
        method: "POST",
        url: "https://server.example.com/token",
        access_token: None,
        now: Timestamp(1_562_262_618),
        age_secs_max: 60,
        leeway_secs: 0,
    };
    let bound = ProofExpected { access_token: Some("a token"), ..expected };
    assert!(proof.check(&bound).is_err() || proof.check(&expected).is_ok());
    let _ = (proof.jti(), proof.nonce(), proof.issued_at(), format!("{proof:?}"));
    proof.check(&expected).is_ok() && URL_SAFE_NO_PAD.encode(proof.thumbprint()) == THUMBPRINT
}

fuzz_target!(|input: &[u8]| {
    assert!(proves(GENUINE));
    if let Ok(text) = std::str::from_utf8(input) {
        assert_eq!(proves(text), text == GENUINE);
        let header = format!(r#"{{"typ":"dpop+jwt","alg":"ES256","jwk":{text}}}"#);
        let rest = GENUINE.split_once('.').map_or("", |(_, rest)| rest);
        let forged = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header));
        assert_eq!(proves(&forged), forged == GENUINE);
    }
    let mut bytes = GENUINE.as_bytes().to_vec();
    for edit in input.chunks_exact(4) {
        let at = usize::from(u16::from_be_bytes([edit[0], edit[1]])) % (bytes.len() + 1);
        match edit[2] % 5 {
            0 if at < bytes.len() => bytes[at] = edit[3],
            1 if at < bytes.len() => bytes[at] ^= 1 << (edit[3] % 8),
            2 => bytes.insert(at, edit[3]),
            3 if at < bytes.len() => drop(bytes.remove(at)),
            4 => bytes.truncate(at),
            _ => {}
        }
    }
    if let Ok(text) = std::str::from_utf8(&bytes) {
        assert_eq!(proves(text), text == GENUINE);
    }
});
