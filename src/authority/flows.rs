//! Settings of the grants that need more than a client and its tokens.

use std::sync::Arc;

use super::client_auth::ASSERTION_SECS_MAX;
use super::device::{DEVICE_INTERVAL_SECS, DEVICE_SECS, DEVICE_SECS_MAX};
use super::error::OpenError;
use super::exchange::{HANDLER_NAME_LEN_MAX, Handler};
use super::headless::Headless;
use super::jwt_bearer::JWT_BEARER_SECS;
use super::password::Passwords;

/// The longest interval between two polls of a device, in seconds.
const DEVICE_INTERVAL_SECS_MAX: u64 = 60;

/// What a host has set for them.
#[derive(Clone)]
pub(super) struct Flows {
    pub(super) jwt_bearer_secs_max: u64,
    pub(super) device_secs: u64,
    pub(super) device_interval_secs: u64,
    pub(super) handlers: Vec<Handler>,
    pub(super) passwords: Option<Arc<dyn Passwords>>,
    pub(super) headless: Option<Arc<dyn Headless>>,
}

impl Default for Flows {
    fn default() -> Flows {
        Flows {
            jwt_bearer_secs_max: JWT_BEARER_SECS,
            device_secs: DEVICE_SECS,
            device_interval_secs: DEVICE_INTERVAL_SECS,
            handlers: Vec::new(),
            passwords: None,
            headless: None,
        }
    }
}

impl Flows {
    pub(super) fn check(&self) -> Result<(), OpenError> {
        if !(1..=ASSERTION_SECS_MAX).contains(&self.jwt_bearer_secs_max) {
            return Err(OpenError::Setting("the lifetime of assertions that are grants"));
        }
        if !(1..=DEVICE_SECS_MAX).contains(&self.device_secs) {
            return Err(OpenError::Setting("the lifetime of device codes"));
        }
        if !(1..=DEVICE_INTERVAL_SECS_MAX).contains(&self.device_interval_secs) {
            return Err(OpenError::Setting("the interval of polls"));
        }
        let is_name = |name: &str| (1..=HANDLER_NAME_LEN_MAX).contains(&name.len());
        if !self.handlers.iter().all(|handler| is_name(&handler.name)) {
            return Err(OpenError::Setting("the name of a handler of exchanges"));
        }
        Ok(())
    }
}
