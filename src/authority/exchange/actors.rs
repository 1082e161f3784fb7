//! Who acts for a subject (RFC 8693 section 4.1): a chain, the newest actor first.

use std::sync::Arc;

use serde_json::Value;

use crate::codec::jws::Verified;

/// The most actors of one token.
pub const ACTORS_MAX: usize = 4;

/// Name of the claim.
pub(in crate::authority) const CLAIM: &str = "act";

/// The `sub` of each, the newest first; most tokens have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::authority) struct Actors(Option<Arc<[String]>>);

impl Actors {
    pub(in crate::authority) fn of(subjects: &[String]) -> Actors {
        Actors((!subjects.is_empty()).then(|| subjects.into()))
    }

    pub(in crate::authority) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// With one more, who acts for all of these; `None` for one too many.
    pub(super) fn and(&self, newest: String) -> Option<Actors> {
        let before = self.0.as_deref().unwrap_or_default();
        (before.len() < ACTORS_MAX)
            .then(|| Actors(Some(std::iter::once(newest).chain(before.iter().cloned()).collect())))
    }

    pub(in crate::authority) fn subjects(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(|all| all.iter()).map(String::as_str)
    }

    /// What a JWT of this authority says; `None` when it is malformed.
    pub(in crate::authority) fn of_claims(verified: &Verified<'_>) -> Option<Actors> {
        let Some(claim) = verified.get(CLAIM) else { return Some(Actors::default()) };
        let claim: Value = serde_json::from_str(claim.as_json()?).ok()?;
        let (mut all, mut at) = (Vec::new(), Some(&claim));
        while let Some(actor) = at {
            if all.len() >= ACTORS_MAX {
                return None;
            }
            all.push(actor.get("sub")?.as_str()?.to_owned());
            at = actor.get("act");
        }
        Some(Actors(Some(all.into())))
    }

    /// The claim, for an answer in JSON.
    pub(in crate::authority) fn to_json(&self) -> Option<Value> {
        let all = self.0.as_deref()?;
        all.iter().rev().fold(None, |inner, subject| {
            let mut actor = serde_json::Map::new();
            actor.insert("sub".to_owned(), Value::from(subject.as_str()));
            actor.extend(inner.map(|inner| ("act".to_owned(), inner)));
            Some(Value::Object(actor))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_of_actors_is_bounded_and_nested() -> Result<(), Box<dyn std::error::Error>> {
        let mut actors = Actors::default();
        assert!(actors.is_empty() && actors.to_json().is_none());
        for n in 0..ACTORS_MAX {
            actors = actors.and(format!("a{n}")).ok_or("room")?;
        }
        assert_eq!(actors.subjects().collect::<Vec<_>>(), ["a3", "a2", "a1", "a0"]);
        assert!(actors.and("one more".to_owned()).is_none());
        let json = actors.to_json().ok_or("none")?.to_string();
        let wanted = r#"{"act":{"act":{"act":{"sub":"a0"},"sub":"a1"},"sub":"a2"},"sub":"a3"}"#;
        assert_eq!(json, wanted);
        Ok(())
    }
}
