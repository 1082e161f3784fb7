//! Tokens as text: opaque handles, JWT access tokens, the keys that make and check them.
//!
//! No I/O, no clock and no state: a caller passes the time in, and what a token claims is believed
//! only after its signature or MAC was checked. Everything that a stranger can send is bounded in
//! length before it is parsed.

pub mod algorithm;
pub mod assertion;
mod base64url;
pub mod claims;
pub mod dpop;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod handle;
pub mod json;
pub mod jwk;
pub mod jwk_set;
pub mod jws;
pub mod keyring;
pub mod keys;
