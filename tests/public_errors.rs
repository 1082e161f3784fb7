//! Every public error is an `Error` that can cross threads, and says what lies below it.

use std::error::Error;
use std::io;
use std::sync::Arc;

use mintage::store::{CheckpointError, StoreError};

fn is_error<E: Error + Send + Sync + 'static>() {}

/// Compiles, or some public error is none.
#[test]
fn public_errors_implement_error() {
    is_error::<mintage::authority::AuthorizationError>();
    is_error::<mintage::authority::Error>();
    is_error::<mintage::authority::OpenError>();
    is_error::<mintage::codec::assertion::AssertionError>();
    is_error::<mintage::codec::dpop::ProofError>();
    is_error::<mintage::codec::handle::HandleError>();
    is_error::<mintage::codec::json::JsonError>();
    is_error::<mintage::codec::jws::SignError>();
    is_error::<mintage::codec::jws::VerifyError>();
    is_error::<mintage::codec::keyring::KeyringError>();
    is_error::<mintage::codec::keys::KeyError>();
    is_error::<mintage::entropy::EntropyError>();
    is_error::<mintage::ids::IdError>();
    is_error::<mintage::root_key::RootKeyError>();
    is_error::<mintage::scope::ScopeError>();
    is_error::<CheckpointError>();
    is_error::<StoreError>();
}

#[test]
fn sources_lead_to_the_system() {
    let refused = || Arc::new(io::Error::other("refused"));
    let unknown = StoreError::Unknown(refused());
    let above = mintage::authority::OpenError::Store(unknown.clone());
    let mut depth = 0;
    let mut below: Option<&(dyn Error + 'static)> = Some(&above);
    while let Some(error) = below {
        assert!(!error.to_string().is_empty());
        depth += 1;
        below = error.source();
    }
    assert_eq!(depth, 3, "authority, store, system");
    let wire = mintage::authority::Error::TemporarilyUnavailable(unknown);
    assert!(wire.source().is_some());
    let io = StoreError::Io { doing: "read", path: "x".into(), error: refused() };
    assert!(io.source().is_some());
    assert!(CheckpointError::Engine("torn".into()).source().is_some());
}
