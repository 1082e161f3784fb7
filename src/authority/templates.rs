//! Templates of the clients that JWTs were issued to lately: a fixed number of places, each of which
//! keeps the last client that fell on it. A client that comes in vain costs what a template saves.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, PoisonError, RwLock};

use crate::codec::claims::AccessClaims;
use crate::codec::jws::{SignError, Template};
use crate::codec::keys::SigningKey;

/// About 1 KiB each.
const PLACES: usize = 256;

/// The templates of one signing key.
pub(super) struct Templates {
    places: Box<[RwLock<Option<Arc<Template>>>]>,
    hasher: RandomState,
}

impl Templates {
    pub(super) fn new() -> Templates {
        let places = (0..PLACES).map(|_| RwLock::new(None)).collect();
        Templates { places, hasher: RandomState::new() }
    }

    /// The template of `key` for such claims.
    pub(super) fn of(
        &self,
        key: &Arc<SigningKey>,
        claims: &AccessClaims<'_>,
    ) -> Result<Arc<Template>, SignError> {
        let hash = self.hasher.hash_one((claims.client_id, claims.audience));
        // The remainder is below the number of places.
        #[allow(clippy::cast_possible_truncation)]
        let place = self.places.get((hash % PLACES as u64) as usize).ok_or(SignError::Refused)?;
        let kept = place.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(template) = kept.filter(|template| template.fits(claims)) {
            return Ok(template);
        }
        let template = Arc::new(Template::new(Arc::clone(key), claims)?);
        *place.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&template));
        Ok(template)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::claims::NoExtraClaims;
    use crate::time::Timestamp;

    #[test]
    fn every_client_gets_its_own_template_however_many_there_are()
    -> Result<(), Box<dyn std::error::Error>> {
        let key = Arc::new(SigningKey::hmac(Some("k1"), &[7; 32])?);
        let templates = Templates::new();
        let (mut ours, mut theirs) = ([0; 1_024], [0; 1_024]);
        for round in 0..3 {
            for client in 0..2 * PLACES {
                let client_id = format!("client-{client}");
                let claims = AccessClaims {
                    issuer: "https://as.example",
                    subject: "u1",
                    audience: if round == 1 { &["api", "b"] } else { &["api"] },
                    client_id: &client_id,
                    scope: "",
                    issued_at: Timestamp(1),
                    not_before: None,
                    expires_at: Timestamp(2),
                    jti: "j1",
                    extra: &NoExtraClaims,
                };
                let token = templates.of(&key, &claims)?.sign_into(&claims, &mut ours)?;
                assert_eq!(token, key.sign_into(&claims, &mut theirs)?);
                let again = [templates.of(&key, &claims)?, templates.of(&key, &claims)?];
                assert!(Arc::ptr_eq(&again[0], &again[1]), "a template is kept");
            }
        }
        Ok(())
    }
}
