//! Proof Key for Code Exchange (RFC 7636) with `S256` alone: `plain` protects nobody who can read the
//! request.

use base64_simd::URL_SAFE_NO_PAD;

use super::super::error::{Cause, Error, Reason};
use super::super::profile::Profile;

/// The shortest and the longest `code_verifier`, in bytes (RFC 7636 section 4.1).
const VERIFIER_LEN_MIN: usize = 43;
const VERIFIER_LEN_MAX: usize = 128;
/// Clients of Salesforce send up to 171.
const SALESFORCE_VERIFIER_LEN_MAX: usize = 256;

/// SHA-256 of a verifier.
pub(super) type Challenge = [u8; 32];

/// Reads `code_challenge` and `code_challenge_method`.
pub(super) fn challenge(
    challenge: Option<&str>,
    method: Option<&str>,
    profile: Profile,
) -> Result<Option<Challenge>, Error> {
    let refuse = |why| Error::InvalidRequest(Reason::new(why));
    let Some(text) = challenge else {
        return match method {
            None => Ok(None),
            Some(_) => Err(refuse("a code_challenge_method without a code_challenge")),
        };
    };
    match method {
        Some("S256") => {}
        // RFC 7636 section 4.3: it "defaults to "plain" if not present"; clients of Salesforce mean
        // S256.
        None if profile == Profile::Salesforce => {}
        _ => return Err(refuse("the code_challenge_method is not S256")),
    }
    if text.len() != 43 {
        return Err(refuse("the code_challenge is no SHA-256"));
    }
    let bytes = URL_SAFE_NO_PAD.decode_to_vec(text).ok();
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.map(Some).ok_or_else(|| refuse("the code_challenge is no SHA-256"))
}

/// Checks a verifier against the challenge of its code.
pub(super) fn check(
    challenge: Option<&Challenge>,
    verifier: Option<&str>,
    profile: Profile,
) -> Result<(), Error> {
    let refuse = |why| Error::InvalidGrant(Reason::new(why));
    let (challenge, verifier) = match (challenge, verifier) {
        (None, None) => return Ok(()),
        (Some(_), None) => return Err(refuse("no code_verifier")),
        // RFC 9700 section 2.1.1: a verifier without a challenge is a downgrade.
        (None, Some(_)) => return Err(refuse("a code_verifier without a code_challenge")),
        (Some(challenge), Some(verifier)) => (challenge, verifier),
    };
    let longest = match profile {
        Profile::Salesforce => SALESFORCE_VERIFIER_LEN_MAX,
        Profile::Standard => VERIFIER_LEN_MAX,
    };
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    if !(VERIFIER_LEN_MIN..=longest).contains(&verifier.len()) || !verifier.bytes().all(unreserved)
    {
        return Err(refuse("the code_verifier is malformed"));
    }
    let hash = ring::digest::digest(&ring::digest::SHA256, verifier.as_bytes());
    match crate::secret::same_bytes(hash.as_ref(), challenge) {
        true => Ok(()),
        false => {
            let reason = Reason::new("the code_verifier is not that of the code_challenge");
            Err(Error::InvalidGrant(reason.because(Cause::WrongVerifier)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7636 appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    #[test]
    fn the_example_of_the_rfc_fits() -> Result<(), Error> {
        let standard = Profile::Standard;
        let known = challenge(Some(CHALLENGE), Some("S256"), standard)?;
        check(known.as_ref(), Some(VERIFIER), standard)?;
        check(None, None, standard)?;
        let other = VERIFIER.replace('d', "e");
        let (short, long) = (&VERIFIER[1..], VERIFIER.repeat(3));
        for wrong in [None, Some(&*other), Some(short), Some(&*long), Some(CHALLENGE), Some("")] {
            assert!(check(known.as_ref(), wrong, standard).is_err(), "{wrong:?}");
        }
        assert!(check(None, Some(VERIFIER), standard).is_err());
        Ok(())
    }

    #[test]
    fn plain_is_refused_and_s256_is_not_guessed() -> Result<(), Error> {
        let read = |text, method, profile| challenge(text, method, profile);
        for method in [Some("plain"), Some("s256"), Some(""), None] {
            assert!(read(Some(CHALLENGE), method, Profile::Standard).is_err(), "{method:?}");
        }
        assert!(read(Some(CHALLENGE), None, Profile::Salesforce)?.is_some());
        assert!(read(Some(CHALLENGE), Some("plain"), Profile::Salesforce).is_err());
        assert!(read(None, Some("S256"), Profile::Standard).is_err());
        for text in ["", VERIFIER_SHORT, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw+cM"] {
            assert!(read(Some(text), Some("S256"), Profile::Standard).is_err(), "{text}");
        }
        Ok(())
    }

    const VERIFIER_SHORT: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-c";
}
