//! Whose a token is beyond its bearer: the key or certificate without which it is worth nothing
//! (`cnf`, RFC 7800).

use base64_simd::{AsOut as _, URL_SAFE_NO_PAD};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use crate::codec::handle::Binding;
use crate::codec::jws::Verified;

/// 32 bytes in base64url.
const TEXT_LEN: usize = 43;

/// Name of the claim.
pub(super) const CLAIM: &str = "cnf";

/// What the holder of a token must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Confirmation {
    /// The key with that SHA-256 JWK thumbprint: `jkt` (RFC 9449 section 6.1).
    Key([u8; 32]),
    /// The certificate with that SHA-256 thumbprint: `x5t#S256` (RFC 8705 section 3.1).
    Certificate([u8; 32]),
}

impl Confirmation {
    /// The member of `cnf`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Confirmation::Key(_) => "jkt",
            Confirmation::Certificate(_) => "x5t#S256",
        }
    }

    /// Its value.
    #[must_use]
    pub fn value(&self) -> String {
        URL_SAFE_NO_PAD.encode_to_string(self.thumbprint_of())
    }

    fn thumbprint_of(&self) -> &[u8; 32] {
        let (Confirmation::Key(thumbprint) | Confirmation::Certificate(thumbprint)) = self;
        thumbprint
    }

    /// What a JWT of this authority says; `None` when that is nothing that this version wrote.
    #[allow(clippy::option_option, reason = "absent and malformed are two things")]
    pub(super) fn of_claims(verified: &Verified<'_>) -> Option<Option<Confirmation>> {
        let Some(claim) = verified.get(CLAIM) else { return Some(None) };
        let member = claim.as_json()?.strip_prefix("{\"")?.strip_suffix("\"}")?;
        let (name, value) = member.split_once("\":\"")?;
        let thumbprint = Confirmation::thumbprint(value)?;
        match name {
            "jkt" => Some(Some(Confirmation::Key(thumbprint))),
            "x5t#S256" => Some(Some(Confirmation::Certificate(thumbprint))),
            _ => None,
        }
    }

    /// Whether a text is a thumbprint.
    pub(super) fn is_thumbprint(text: &str) -> bool {
        Confirmation::thumbprint(text).is_some()
    }

    /// The thumbprint of a text.
    pub(super) fn thumbprint(text: &str) -> Option<[u8; 32]> {
        if URL_SAFE_NO_PAD.decoded_length(text.as_bytes()).ok()? != 32 {
            return None;
        }
        let mut out = [0; 32];
        URL_SAFE_NO_PAD.decode(text.as_bytes(), out.as_mut_slice().as_out()).ok()?;
        Some(out)
    }

    /// What a handle carries of it.
    pub(super) fn binding(self) -> Binding {
        match self {
            Confirmation::Key(thumbprint) => Binding::Key(thumbprint),
            Confirmation::Certificate(thumbprint) => Binding::Certificate(thumbprint),
        }
    }

    pub(super) fn of_binding(binding: Binding) -> Confirmation {
        match binding {
            Binding::Key(thumbprint) => Confirmation::Key(thumbprint),
            Binding::Certificate(thumbprint) => Confirmation::Certificate(thumbprint),
        }
    }
}

/// The value of `cnf`.
impl Serialize for Confirmation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = [0; TEXT_LEN];
        let value =
            URL_SAFE_NO_PAD.encode_as_str(self.thumbprint_of(), text.as_mut_slice().as_out());
        let mut cnf = serializer.serialize_map(Some(1))?;
        cnf.serialize_entry(self.name(), &*value)?;
        cnf.end()
    }
}
