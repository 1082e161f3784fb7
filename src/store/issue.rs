//! Issue: an access token is born, with its grant and family where they are new.

use super::code::JudgedCode;
use super::core::{Core, Journal, Lane};
use super::decide::{Decided, mint_row};
use super::record::{FamilyRow, GrantRow, Record, TokenRow};
use super::shard::{FamilyEntry, GrantEntry, Shard};
use super::ticket::Ticket;
use super::{Issue, IssueOutcome, Lsn, Outcome, PairPolicy, Seq};
use crate::locator::Digest;
use crate::sync::atomic::Ordering;
use crate::sync::planted;
use crate::time::Timestamp;

impl<J: Journal> Core<J> {
    /// Decides and enqueues an issue.
    pub(crate) fn issue(&self, issue: &Issue) -> Decided {
        let now = self.now(issue.now);
        let mut guard = self.shard_mut(issue.family);
        let shard = &mut *guard;
        let unique = self.names.unique(&issue.pair);
        let refused = |outcome| Ok(Ticket::ready(Ok(Outcome::Issue(outcome))));
        let bounded;
        let issue = match issue.code {
            None => issue,
            Some(code) => match self.judge_code(shard, &code, &issue.pair, now) {
                // I3: what is born derives from the code.
                JudgedCode::Live(admission) => {
                    let admission = admission.min(issue.admission);
                    bounded = Issue { admission, ..issue.clone() };
                    &bounded
                }
                JudgedCode::Spent(family) => {
                    let outcome = Outcome::Issue(IssueOutcome::CodeReplayed);
                    return self.replay_code(shard, family, outcome);
                }
                JudgedCode::Dead => return refused(IssueOutcome::CodeDead),
            },
        };

        let known = shard.pairs.get(&unique).copied();
        if let Some(grant) = known.and_then(|id| shard.grants.get(&id))
            && let Some(token) = self.joining(shard, grant, issue, now)
        {
            return self.join(shard, token, issue.admission);
        }
        let (entry, row) = match known.and_then(|id| shard.grants.get(&id)) {
            Some(entry) => (None, entry.state.now.clone()),
            None => {
                let row = GrantRow {
                    id: issue.grant,
                    created_at: now,
                    revoked_at: Seq(0),
                    base_family: 0,
                    client: issue.pair.client.clone(),
                    subject: issue.pair.subject.clone(),
                    device: issue.pair.device.clone(),
                };
                (Some(self.grant_entry(row.clone(), Lsn(0))), row)
            }
        };
        let Some(grant) = entry.as_ref().or_else(|| shard.grants.get(&row.id)) else {
            return refused(IssueOutcome::Revoked);
        };
        let admission = self.admission_of(issue);
        if !self.admits(admission, grant, &row) {
            return refused(IssueOutcome::Revoked);
        }
        let mut live = Vec::new();
        if issue.policy != PairPolicy::Unlimited {
            // The killed leave the pair's list here, so that a busy pair's list stays short. Those
            // that only look too old stay: the clock may be wrong, and the sweep knows better.
            let held = self.unkilled_families(shard, grant, &row);
            let mark = self.time.observe(issue.now);
            let may_live = |id: &&u64| {
                shard.families.get(id).is_some_and(|family| family.state.now.may_live(mark))
            };
            live = held.iter().filter(may_live).copied().collect();
            if let Some(grant) = shard.grants.get_mut(&row.id) {
                grant.families = held;
            }
        }
        if let PairPolicy::Reuse { left_secs_min } = issue.policy
            && let Some(reused) = self.reused(shard, &live, issue, left_secs_min, now)
        {
            return self.hand_out_again(shard, issue, reused);
        }
        if issue.policy == PairPolicy::Reject
            && let Some(holder) = live.iter().rev().find_map(|id| shard.families.get(id))
        {
            // Whoever holds the pair may still be on its way to the disk.
            return self.attached(holder.state.lsn, Outcome::Issue(IssueOutcome::PairTaken));
        }
        let evicted = evicted(issue.policy, &live);
        self.write_issue(
            shard,
            Birth { issue, admission, now, new_grant: entry, grant: row, evicted },
        )
    }

    /// The family of a grant that access tokens without a refresh token share, while it lives.
    fn base_of<'a>(
        &self,
        shard: &'a Shard,
        grant: &GrantEntry,
        issue: &Issue,
        now: Timestamp,
    ) -> Option<&'a FamilyEntry> {
        let above = &grant.state.now;
        let base = shard.families.get(&above.base_family)?;
        let row = &base.state.now;
        let lives = !row.dead && now < row.horizon && self.admits(row.admission, grant, above);
        (shares_base(issue) && lives).then_some(base)
    }

    /// What most issues of access tokens alone come to: one more in a family that is there already,
    /// where neither it nor its texts change.
    fn joining(
        &self,
        shard: &Shard,
        grant: &GrantEntry,
        issue: &Issue,
        now: Timestamp,
    ) -> Option<TokenRow> {
        let base = self.base_of(shard, grant, issue, now)?;
        let family = &base.state.now;
        let admission = self.admission_of(issue);
        let access = &issue.access;
        let joins = issue.only_in.is_none_or(|only| only == family.id)
            && access.expires_at <= family.horizon
            && self.admits(admission, grant, &grant.state.now)
            && self.has_texts(family, access);
        if !joins {
            return None;
        }
        let (scope, audience) = (family.scope, family.audience);
        self.token_row(access, family, family.generation, admission, scope, audience)
    }

    fn join(&self, shard: &mut Shard, token: TokenRow, admission: Seq) -> Decided {
        let family = token.family;
        let grant = shard.families.get(&family).map_or(0, |family| family.state.now.grant);
        let outcome = Outcome::Issue(IssueOutcome::Issued { family, grant, admission });
        let records = [Record::Token(token)];
        let appended = self.append(&records, Lane::Birth)?;
        self.note(shard, &records, &appended);
        Ok(appended.ticket(outcome))
    }

    /// I3: what the request noted, and nothing that was read since.
    fn admission_of(&self, issue: &Issue) -> Seq {
        if planted!(AdmittedAtBirth) { self.admission() } else { issue.admission }
    }

    /// Builds the unit of an issue, enqueues it and notes it in the shard.
    fn write_issue(&self, shard: &mut Shard, birth: Birth<'_>) -> Decided {
        let Birth { issue, admission, now, new_grant, mut grant, evicted } = birth;
        let mut records = Vec::new();
        let scope = self.intern(&issue.access.scope.to_shared(), &mut records)?;
        let audience = self.intern(&issue.access.audience, &mut records)?;
        let of_family = issue.refresh.as_ref().and_then(|refresh| refresh.audience.as_ref());
        let of_family = of_family.filter(|text| **text != issue.access.audience);
        let of_family = match of_family {
            Some(text) => self.intern(text, &mut records)?,
            None => audience,
        };
        let shares_base = shares_base(issue);
        let held = new_grant.as_ref().or_else(|| shard.grants.get(&grant.id));
        let base = held.and_then(|held| self.base_of(shard, held, issue, now));
        let mut grant_changed = new_grant.is_some();
        let mut family = match base {
            Some(base) => base.row_with_uses(),
            None => FamilyRow {
                admission,
                audience: of_family,
                ..self.new_family(issue, &grant, now, scope, audience)
            },
        };
        if issue.only_in.is_some_and(|only| only != family.id) {
            let outcome = IssueOutcome::Elsewhere { family: family.id };
            return Ok(Ticket::ready(Ok(Outcome::Issue(outcome))));
        }
        let base_lsn = base.map(|base| base.state.lsn);
        let is_new_family = base.is_none();
        if is_new_family && shares_base {
            grant.base_family = family.id;
            grant_changed = true;
        }
        // A shared family's horizon is moved ahead by more than the token needs, so that most
        // births in it write no family record.
        let outgrown = issue.access.expires_at > family.horizon;
        if is_new_family || outgrown {
            let spare = if shares_base { issue.access.expires_at.since(now) } else { 0 };
            family.horizon = family.horizon.max(issue.access.expires_at.plus(spare));
        }
        if grant_changed {
            records.push(Record::Grant(grant.clone()));
        }
        if is_new_family || outgrown {
            records.push(Record::Family(family.clone()));
        }
        for id in evicted {
            if let Some(old) = shard.families.get(id) {
                records.push(Record::Family(FamilyRow { dead: true, ..old.row_with_uses() }));
            }
        }
        // The token of a shared family is admitted by itself; everything above it is checked when
        // it is used.
        let token = self.token_row(&issue.access, &family, 0, admission, scope, audience);
        let token = token.map(|row| TokenRow { generation: family.generation, ..row });
        records.extend(token.map(Record::Token));
        records.extend(issue.code.and_then(|code| self.spent_code(shard, &code, family.id)));
        let outcome = Outcome::Issue(IssueOutcome::Issued {
            family: family.id,
            grant: grant.id,
            admission: issue.admission,
        });
        if records.is_empty() {
            // A JWT in a family that is there already: it depends on that family alone.
            return self.attached(base_lsn.unwrap_or_default(), outcome);
        }
        let appended = self.append(&records, Lane::Birth)?;
        self.note_sets(&records, &appended);
        if let Some(entry) = new_grant {
            shard.pairs.insert(entry.unique, grant.id);
            self.index_grant(&entry);
            shard.grants.insert(grant.id, entry);
        }
        self.note(shard, &records, &appended);
        Ok(appended.ticket(outcome))
    }

    /// Families of a grant that nothing ended, oldest first.
    fn unkilled_families(&self, shard: &Shard, grant: &GrantEntry, row: &GrantRow) -> Vec<u64> {
        let is_unkilled = |id: &&u64| {
            shard.families.get(id).is_some_and(|family| {
                let family = &family.state.now;
                !family.dead && self.admits(family.admission, grant, row)
            })
        };
        self.rows_walked.fetch_add(grant.families.len() as u64, Ordering::Relaxed);
        grant.families.iter().filter(is_unkilled).copied().collect()
    }

    fn reused(
        &self,
        shard: &Shard,
        live: &[u64],
        issue: &Issue,
        left_secs_min: u64,
        now: Timestamp,
    ) -> Option<(Lsn, u64, IssueOutcome)> {
        let entry = shard.families.get(live.last()?)?;
        let row = &entry.state.now;
        let mint = &row.mint;
        // A mint under another version of the root key is not derived again: that version may be
        // gone for a reason.
        let fits = mint.request == issue.request
            && mint.key_version == issue.key_version
            && row.generation == 0
            && mint.expires_at.since(now) >= left_secs_min.max(1)
            && mint.locator.is_some() == issue.access.handle.is_some();
        fits.then(|| {
            let outcome = IssueOutcome::Reused {
                family: row.id,
                grant: row.grant,
                admission: row.admission,
                mint: self.mint_of(mint),
            };
            (entry.state.lsn, row.id, outcome)
        })
    }

    /// The live token of a pair once more; a code that was presented for it is spent.
    fn hand_out_again(
        &self,
        shard: &mut Shard,
        issue: &Issue,
        (lsn, family, outcome): (Lsn, u64, IssueOutcome),
    ) -> Decided {
        let outcome = Outcome::Issue(outcome);
        let is_taken = issue.only_in.is_none_or(|only| only == family);
        let code = issue.code.filter(|_| is_taken);
        let spent = code.and_then(|code| self.spent_code(shard, &code, family));
        let Some(record) = spent else { return self.attached(lsn, outcome) };
        let appended = self.append(std::slice::from_ref(&record), Lane::Birth)?;
        self.note(shard, &[record], &appended);
        Ok(appended.ticket(outcome))
    }

    fn new_family(
        &self,
        issue: &Issue,
        grant: &GrantRow,
        now: Timestamp,
        scope: u64,
        audience: u64,
    ) -> FamilyRow {
        let generation = u32::from(issue.refresh.is_some());
        let refresh = issue.refresh.as_ref();
        FamilyRow {
            id: issue.family,
            grant: grant.id,
            admission: issue.admission,
            created_at: now,
            dead: false,
            generation,
            digest: refresh.map_or(Digest([0; 16]), |r| r.digest),
            previous: Digest([0; 16]),
            expires_at: refresh.map_or(Timestamp(0), |r| r.expires_at),
            idle_secs: refresh.map_or(0, |r| r.idle_secs),
            redeemed_at: now,
            scope,
            audience,
            mint: mint_row(
                &issue.access,
                generation,
                issue.key_version,
                issue.salt,
                issue.request,
                (scope, audience),
            ),
            horizon: Timestamp(0),
            last_used_at: now,
            use_count: 0,
        }
    }
}

/// An issue that was judged and may be written.
struct Birth<'a> {
    issue: &'a Issue,
    admission: Seq,
    now: Timestamp,
    /// The grant where it is new.
    new_grant: Option<GrantEntry>,
    grant: GrantRow,
    /// Families that the new one pushes out.
    evicted: &'a [u64],
}

/// Whether an issue belongs in the family that its pair's access tokens share. What a code gives can
/// be ended by itself.
fn shares_base(issue: &Issue) -> bool {
    issue.policy == PairPolicy::Unlimited && issue.refresh.is_none() && issue.code.is_none()
}

/// The most families that one issue pushes out. A pair has more only after its policy became
/// stricter; the next issues end the rest.
const EVICTED_MAX: usize = 128;

/// The families that one more pushes out, oldest first.
fn evicted(policy: PairPolicy, live: &[u64]) -> &[u64] {
    let room = match policy {
        PairPolicy::Unlimited | PairPolicy::Reject => return &[],
        PairPolicy::Replace | PairPolicy::Reuse { .. } => 0,
        PairPolicy::Newest(n) => usize::from(n.max(1)) - 1,
    };
    live.get(..live.len().saturating_sub(room).min(EVICTED_MAX)).unwrap_or(&[])
}
