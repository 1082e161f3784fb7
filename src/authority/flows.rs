//! Settings of the grants that need more than a client and its tokens.

use super::client_auth::ASSERTION_SECS_MAX;
use super::error::OpenError;
use super::jwt_bearer::JWT_BEARER_SECS;

/// What a host has set for them.
#[derive(Clone)]
pub(super) struct Flows {
    pub(super) jwt_bearer_secs_max: u64,
}

impl Default for Flows {
    fn default() -> Flows {
        Flows { jwt_bearer_secs_max: JWT_BEARER_SECS }
    }
}

impl Flows {
    pub(super) fn check(&self) -> Result<(), OpenError> {
        if !(1..=ASSERTION_SECS_MAX).contains(&self.jwt_bearer_secs_max) {
            return Err(OpenError::Setting("the lifetime of assertions that are grants"));
        }
        Ok(())
    }
}
