//! What the host shows next: one pure function of what is asked, who is logged in and what was
//! approved before.

use super::super::error::{Cause, Error, Reason};
use crate::scope::Scope;
use crate::time::Timestamp;

/// What the host does next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Have the user log in, again where somebody is logged in already.
    Login,
    /// Have the user choose among accounts.
    SelectAccount,
    /// Ask the user for consent.
    Consent {
        /// What was not approved yet.
        new: Scope,
        /// What is asked for and was approved before.
        approved: Scope,
    },
    /// Nothing: [`Authority::approve`](super::super::Authority::approve).
    Approve,
}

/// What a request wants shown (`prompt`, OpenID Connect Core section 3.1.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Prompt {
    /// `none`, and Salesforce's `immediate`: nothing may be shown.
    pub(super) none: bool,
    pub(super) login: bool,
    pub(super) consent: bool,
    pub(super) select_account: bool,
}

impl Prompt {
    /// Reads a space-delimited list.
    pub(super) fn parse(text: &str) -> Result<Prompt, Error> {
        let mut prompt = Prompt::default();
        for one in text.split(' ').filter(|one| !one.is_empty()) {
            match one {
                "none" => prompt.none = true,
                "login" => prompt.login = true,
                "consent" => prompt.consent = true,
                "select_account" => prompt.select_account = true,
                _ => return Err(Error::InvalidRequest(Reason::new("unknown prompt"))),
            }
        }
        let others = prompt.login || prompt.consent || prompt.select_account;
        match prompt.none && others {
            true => Err(Error::InvalidRequest(Reason::new("prompt none with others"))),
            false => Ok(prompt),
        }
    }
}

/// Everything that the next step depends on.
#[derive(Clone, Debug)]
pub(super) struct Situation<'a> {
    pub(super) prompt: Prompt,
    pub(super) max_age: Option<u64>,
    /// When the request was made.
    pub(super) begun_at: Timestamp,
    pub(super) now: Timestamp,
    /// When the user logged in, if somebody is.
    pub(super) logged_in_at: Option<Timestamp>,
    /// Whether the user chose this account for this request.
    pub(super) is_chosen: bool,
    pub(super) asked: &'a Scope,
    /// What the user approved for this client before, and still stands.
    pub(super) approved: &'a Scope,
    /// Whether the owner has approved the user: then nobody is asked.
    pub(super) is_pre_approved: bool,
}

/// The next step, or why there is none.
pub(super) fn next(situation: &Situation<'_>) -> Result<Step, Error> {
    let Situation { prompt, asked, approved, .. } = situation;
    if !is_logged_in(situation) {
        return match prompt.none {
            true => Err(Error::LoginRequired(unseen("nobody is logged in, or too long ago"))),
            false if prompt.select_account && !situation.is_chosen => Ok(Step::SelectAccount),
            false => Ok(Step::Login),
        };
    }
    let is_known = asked.is_within(approved) || situation.is_pre_approved;
    if is_known && !prompt.consent {
        return Ok(Step::Approve);
    }
    if prompt.none {
        return Err(Error::ConsentRequired(unseen("the user has not approved it")));
    }
    let known = asked.intersection(approved);
    Ok(Step::Consent { new: asked.without(&known), approved: known })
}

/// Whether a login counts for the request.
pub(super) fn is_logged_in(situation: &Situation<'_>) -> bool {
    let Situation { prompt, max_age, begun_at, now, logged_in_at, is_chosen, .. } = situation;
    logged_in_at.is_some_and(|at| {
        let too_old = max_age.is_some_and(|age| now.since(at) > age && at < *begun_at);
        !too_old && (!prompt.login || at >= *begun_at) && (!prompt.select_account || *is_chosen)
    })
}

fn unseen(why: &'static str) -> Reason {
    Reason::new(why).because(Cause::Immediate)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGUN: Timestamp = Timestamp(1_000);
    /// Added to the time of a login whose account the user chose.
    const CHOSEN: u64 = 1_000_000;

    fn step(
        prompt: &str,
        max_age: Option<u64>,
        logged_in_at: Option<u64>,
        approved: &str,
        is_pre_approved: bool,
    ) -> Result<Result<Step, &'static str>, Box<dyn std::error::Error>> {
        let (asked, approved) = (Scope::parse("a b")?, Scope::parse(approved)?);
        let situation = Situation {
            prompt: Prompt::parse(prompt)?,
            max_age,
            begun_at: BEGUN,
            now: Timestamp(1_100),
            logged_in_at: logged_in_at.map(|at| Timestamp(at % CHOSEN)),
            is_chosen: logged_in_at.is_some_and(|at| at > CHOSEN),
            asked: &asked,
            approved: &approved,
            is_pre_approved,
        };
        Ok(next(&situation).map_err(|error| error.code()))
    }

    #[test]
    fn the_next_step_follows_from_the_situation() -> Result<(), Box<dyn std::error::Error>> {
        let consent = |new: &str, approved: &str| {
            let (new, approved) = (Scope::parse(new)?, Scope::parse(approved)?);
            Ok::<_, crate::scope::ScopeError>(Ok(Step::Consent { new, approved }))
        };
        let login = || Ok(Step::Login);
        let approve = || Ok(Step::Approve);
        let table = [
            // prompt, max_age, logged in, approved, pre-approved -> step
            ("", None, None, "a b", true, login()),
            ("", None, Some(1), "", false, consent("a b", "")?),
            ("", None, Some(1), "a c", false, consent("b", "a")?),
            ("", None, Some(1), "a b c", false, approve()),
            ("", None, Some(1), "", true, approve()),
            ("consent", None, Some(1), "a b", false, consent("", "a b")?),
            ("consent", None, Some(1), "", true, consent("a b", "")?),
            ("login", None, Some(999), "a b", false, login()),
            ("login", None, Some(1_000), "a b", false, approve()),
            ("login consent", None, Some(999), "a b", false, login()),
            ("login consent", None, Some(1_000), "a b", false, consent("", "a b")?),
            ("select_account", None, Some(999), "a b", false, Ok(Step::SelectAccount)),
            ("select_account", None, None, "a b", false, Ok(Step::SelectAccount)),
            ("select_account", None, Some(1_001), "a b", false, Ok(Step::SelectAccount)),
            ("select_account", None, Some(CHOSEN + 1), "a b", false, approve()),
            ("select_account login", None, Some(CHOSEN + 1), "a b", false, login()),
            ("select_account login", None, Some(CHOSEN + 1_000), "a b", false, approve()),
            ("", Some(100), Some(999), "a b", false, login()),
            ("", Some(101), Some(999), "a b", false, approve()),
            ("", Some(0), Some(999), "a b", false, login()),
            // A login for this very request is never too old for it.
            ("", Some(0), Some(1_000), "a b", false, approve()),
            ("none", None, None, "a b", false, Err("login_required")),
            ("none", Some(5), Some(999), "a b", false, Err("login_required")),
            ("none", None, Some(1), "a", false, Err("consent_required")),
            ("none", None, Some(1), "a b", false, approve()),
            ("none", None, Some(1), "", true, approve()),
        ];
        for (prompt, max_age, logged_in, approved, pre, wanted) in table {
            let found = step(prompt, max_age, logged_in, approved, pre)?;
            assert_eq!(found, wanted, "{prompt:?} {max_age:?} {logged_in:?} {approved:?} {pre}");
        }
        for bad in ["none login", "consent none", "create", "NONE"] {
            assert!(Prompt::parse(bad).is_err(), "{bad}");
        }
        Ok(())
    }
}
