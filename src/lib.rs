//! An embedded OAuth 2.0 token authority.
//!
//! `mintage` issues, stores, verifies, introspects, refreshes and revokes tokens inside the process
//! that needs them. See the README for the guarantees and `ARCHITECTURE.md` for the layers.
//!
//! Layers, top down: [`authority`] (the rules) over [`store`] (tokens as state) and [`codec`]
//! (tokens as text), both over the vocabulary in this file's other modules. The store and the codec
//! never see each other.

#![forbid(unsafe_code)]

pub mod authority;
pub mod codec;
pub mod entropy;
pub mod ids;
pub mod locator;
pub mod root_key;
pub mod scope;
pub mod secret;
#[cfg(mintage_sim)]
#[doc(hidden)]
pub mod sim;
pub mod store;
mod sync;
pub mod time;

#[doc = include_str!("../docs/capabilities.md")]
pub mod _capabilities {}

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
