//! Extend: an opaque access token that is in use lives on.

use super::core::{Core, Journal, Lane};
use super::decide::Decided;
use super::record::{FamilyRow, Record, TokenRow};
use super::ticket::Ticket;
use super::{Extend, Outcome};
use crate::time::Timestamp;

/// The least lifetime class, in seconds: class `c` is for what lives at most so long, doubled `c`
/// times.
const CLASS_SECS: u64 = 60;
/// The class of what lives for good.
const CLASS_MAX: u8 = 31;

impl<J: Journal> Core<J> {
    /// Decides and enqueues an extension. A token that is not in memory is as it was: whoever looked
    /// it up has just brought it there.
    pub(crate) fn extend(&self, extend: &Extend) -> Decided {
        let nothing = || Ok(Ticket::ready(Ok(Outcome::Extend(None))));
        let now = self.now(extend.now);
        let mut guard = self.shard_mut(extend.locator.id);
        let shard = &mut *guard;
        let Some(token) = shard.tokens.get_mut(&extend.digest) else { return nothing() };
        let Some(family) = shard.families.get_mut(&token.row.family) else { return nothing() };
        let Some(grant) = shard.grants.get(&family.state.now.grant) else { return nothing() };
        let is_live = token.row.locator == extend.locator
            && !token.row.dead
            && !family.state.now.dead
            && now < token.row.expires_at
            && self.admits(token.row.admission, grant, &grant.state.now);
        if !is_live {
            return nothing();
        }
        // What lies with it is dropped when the longest-lived of its class has expired.
        let class_secs = match extend.locator.class {
            class @ 0..=CLASS_MAX => CLASS_SECS << class,
            _ => u64::MAX,
        };
        let class_end = Timestamp(u64::from(extend.locator.bucket) * 60).plus(class_secs);
        let family_row = &family.state.now;
        let expires_at = extend.expires_at.min(class_end).min(family_row.ends_at());
        if expires_at <= token.row.expires_at {
            let outcome = Outcome::Extend(Some(token.row.expires_at));
            return self.attached(token.lsn, outcome);
        }
        // A use is no news: nothing was born.
        let moved = TokenRow { expires_at, ..token.row.clone() };
        let mut records = vec![Record::Token(moved).again()];
        let outgrown = (expires_at > family_row.horizon).then(|| {
            let horizon = expires_at.plus(expires_at.since(now));
            FamilyRow { horizon, ..family.row_with_uses() }
        });
        records.extend(outgrown.clone().map(|row| Record::Family(row).again()));
        let appended = self.append(&records, Lane::Birth)?;
        token.row.expires_at = expires_at;
        token.lsn = appended.first;
        if let Some(row) = outgrown {
            family.state.put(row, appended.nth(1), self.journal.published());
        }
        Ok(appended.ticket(Outcome::Extend(Some(expires_at))))
    }
}
