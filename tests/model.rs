//! Random runs against a naive model: what a token is worth after any sequence of issues, refreshes,
//! retries, replays, codes, uses, revocations, clock steps and reopenings.
//!
//! `MINTAGE_MODEL_RUNS` sets how many sequences run in memory (default 2,000),
//! `MINTAGE_MODEL_DURABLE_RUNS` how many on disk (default 200; 2,000 in `.ci/run`).

mod support;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use mintage::authority::{
    AuthorizationRequest, Caller, Client, Error, GrantType, Issue, Issued, Login, Target,
    TokenFormat, TokenRequest,
};
use mintage::ids::ClientId;
use mintage::scope::Scope;
use mintage::store::PairPolicy;
use mintage::time::{Clock as _, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use support::{Bed, Durable, Memory, Opener, Tested, access_token, refresh_token, with_causes};

const CLIENTS: usize = 2;
const SUBJECTS: usize = 3;
const SCOPES: [&str; 3] = ["api refresh_token", "web refresh_token", "api web refresh_token"];
const NEWEST: usize = 2;
/// How long a code may be redeemed, and when it may have been swept.
const CODE_SECS: u64 = 60;
const CODE_SWEPT_SECS: u64 = CODE_SECS + 300;
/// Runs share a store, for a store is dear to open, and leave it before it has grown.
const RUNS_PER_BED: u32 = 20;

#[derive(Clone, Debug)]
enum Step {
    Issue {
        client: usize,
        subject: usize,
        scope: usize,
    },
    /// A user agrees: a code is out.
    Approve {
        client: usize,
        subject: usize,
        scope: usize,
    },
    /// The code at that place, by its client or by another.
    Redeem {
        code: usize,
        foreign: bool,
    },
    /// Of the family at that place: its refresh token so many generations back.
    Refresh {
        family: usize,
        back: usize,
        narrow: bool,
    },
    /// The access token so many generations back, by introspection or by live verification.
    Use {
        family: usize,
        back: usize,
        introspect: bool,
    },
    Revoke {
        family: usize,
        what: usize,
    },
    Advance(u64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let family = 0..8usize;
    prop_oneof![
        4 => (0..CLIENTS, 0..SUBJECTS, 0..SCOPES.len())
            .prop_map(|(client, subject, scope)| Step::Issue { client, subject, scope }),
        3 => (0..CLIENTS, 0..SUBJECTS, 0..SCOPES.len())
            .prop_map(|(client, subject, scope)| Step::Approve { client, subject, scope }),
        4 => (0..6usize, prop::bool::weighted(0.15))
            .prop_map(|(code, foreign)| Step::Redeem { code, foreign }),
        8 => (family.clone(), prop_oneof![6 => Just(0), 4 => Just(1), 1 => Just(2)], prop::bool::weighted(0.2))
            .prop_map(|(family, back, narrow)| Step::Refresh { family, back, narrow }),
        3 => (family.clone(), 0..2usize, any::<bool>())
            .prop_map(|(family, back, introspect)| Step::Use { family, back, introspect }),
        2 => (family, 0..9usize).prop_map(|(family, what)| Step::Revoke { family, what }),
        3 => prop_oneof![Just(1), Just(30), Just(61), Just(300), Just(1_000)]
            .prop_map(Step::Advance),
        1 => Just(Step::Reopen),
    ]
}

/// One login, as anybody would note it down.
struct Family {
    client: usize,
    subject: usize,
    scope: Scope,
    answers: Vec<Issued>,
    dead: bool,
    dead_access: Vec<bool>,
    used: bool,
    narrow: bool,
    redeemed_at: Timestamp,
    /// Reopening restarts the time for a retry and may forget a use: whether a retry is still one
    /// is then open until the next redeem.
    reopened: bool,
}

impl Family {
    fn newest(&self) -> usize {
        self.answers.len() - 1
    }

    fn is_access_live(&self, at: usize, now: Timestamp) -> bool {
        !self.dead && !self.dead_access[at] && now < self.answers[at].expires_at
    }
}

/// One code, as anybody would note it down.
struct Code {
    client: usize,
    subject: usize,
    scope: Scope,
    text: String,
    issued_at: Timestamp,
    dead: bool,
    /// The family that it gave.
    gave: Option<usize>,
}

struct Run<'a, O: Opener> {
    bed: &'a RefCell<Bed<O>>,
    auditor: &'a Caller,
    clients: Vec<(ClientId, Caller)>,
    subjects: Vec<String>,
    families: Vec<Family>,
    codes: Vec<Code>,
    grants: HashMap<(usize, usize), u64>,
}

type Checked = Result<(), Box<dyn std::error::Error>>;

impl<O: Opener> Run<'_, O> {
    fn now(&self) -> Timestamp {
        self.bed.borrow().clock.read().unix
    }

    fn take(&mut self, step: &Step) -> Checked {
        match *step {
            Step::Issue { client, subject, scope } => self.issue(client, subject, SCOPES[scope])?,
            Step::Approve { client, subject, scope } => {
                self.approve(client, subject, SCOPES[scope])?;
            }
            Step::Redeem { code, foreign } => self.redeem(code, foreign)?,
            Step::Refresh { family, back, narrow } => self.refresh(family, back, narrow)?,
            Step::Use { family, back, introspect } => self.use_access(family, back, introspect)?,
            Step::Revoke { family, what } => self.revoke(family, what)?,
            Step::Advance(secs) => self.bed.borrow().clock.advance(secs),
            Step::Reopen => {
                self.bed.borrow_mut().reopen()?;
                self.families.iter_mut().for_each(|family| family.reopened = true);
            }
        }
        self.check(2)
    }

    fn issue(&mut self, client: usize, subject: usize, scope: &str) -> Checked {
        let issue = Issue::to(&self.subjects[subject], &self.clients[client].0).scope(scope);
        let issued = self.bed.borrow().authority().issue(issue).wait()?;
        self.born(client, subject, issued);
        Ok(())
    }

    fn approve(&mut self, client: usize, subject: usize, scope: &str) -> Checked {
        let authority = self.bed.borrow().authority();
        let request = AuthorizationRequest {
            response_type: Some("code"),
            client_id: Some(self.clients[client].0.as_str()),
            scope: Some(scope),
            ..AuthorizationRequest::default()
        };
        let authorization = authority.authorize(&request)?;
        let login = Login::now(&self.subjects[subject], &authority)?;
        let url = authority.approve(&authorization, &login, scope).wait()?;
        let text = url.expose().split(['=', '&']).nth(1).ok_or("no code")?.to_owned();
        let scope = Scope::parse(scope)?;
        let issued_at = self.now();
        self.codes.push(Code { client, subject, scope, text, issued_at, dead: false, gave: None });
        Ok(())
    }

    fn redeem(&mut self, at: usize, foreign: bool) -> Checked {
        let now = self.now();
        let Some(code) = self.codes.get(at) else { return Ok(()) };
        if now.since(code.issued_at) >= CODE_SWEPT_SECS && code.gave.is_some() {
            // Whether it is still remembered is open.
            return Ok(());
        }
        let presenter = if foreign { (code.client + 1) % CLIENTS } else { code.client };
        let request = TokenRequest::code(&code.text, &self.clients[presenter].1);
        let got = self.bed.borrow().authority().token(&request).wait();
        let is_live = !code.dead && now.since(code.issued_at) < CODE_SECS && code.gave.is_none();
        match got {
            Ok(issued) if is_live && !foreign => {
                assert_eq!(issued.scope, code.scope);
                let (client, subject) = (code.client, code.subject);
                self.codes[at].gave = Some(self.families.len());
                self.born(client, subject, issued);
            }
            Err(Error::InvalidGrant(_)) if foreign => {}
            Err(Error::InvalidGrant(_)) if !is_live => {
                // I5: what a code gave ends with its second use.
                if let Some(family) = code.gave {
                    self.families[family].dead = true;
                }
            }
            got => return Err(format!("a code gave {got:?}, live: {is_live}").into()),
        }
        Ok(())
    }

    fn born(&mut self, client: usize, subject: usize, issued: Issued) {
        // I6: one grant per client and subject.
        let grant = *self.grants.entry((client, subject)).or_insert(issued.grant);
        assert_eq!(issued.grant, grant, "a second grant for one pair");
        if client == 1 {
            let mut living: Vec<&mut Family> = self
                .families
                .iter_mut()
                .filter(|f| (f.client, f.subject) == (client, subject) && !f.dead)
                .collect();
            let excess = (living.len() + 1).saturating_sub(NEWEST);
            living.iter_mut().take(excess).for_each(|family| family.dead = true);
        }
        self.families.push(Family {
            client,
            subject,
            scope: issued.scope.clone(),
            redeemed_at: issued.issued_at,
            answers: vec![issued],
            dead: false,
            dead_access: vec![false],
            used: false,
            narrow: false,
            reopened: false,
        });
    }

    fn refresh(&mut self, family: usize, back: usize, narrow: bool) -> Checked {
        let now = self.now();
        let Some(family) = self.families.get_mut(family) else { return Ok(()) };
        let newest = family.newest();
        let Some(at) = newest.checked_sub(back) else { return Ok(()) };
        if back == 1 && family.reopened && !family.dead {
            return Ok(());
        }
        let caller = &self.clients[family.client].1;
        let token = refresh_token(&family.answers[at])?;
        let mut request = TokenRequest::refresh(&token, caller);
        if narrow {
            request = request.scope("refresh_token");
        }
        let got = self.bed.borrow().authority().token(&request).wait();
        let in_time = !family.used
            && now.since(family.redeemed_at) <= 60
            && now < family.answers[newest].expires_at;
        match (back, got) {
            (_, Err(Error::InvalidGrant(_))) if family.dead => {}
            (0, got) => {
                let got = got?;
                // I9: within the family's scope.
                assert!(got.scope.is_within(&family.scope));
                assert_eq!(got.scope.as_str() == "refresh_token", narrow);
                family.answers.push(got);
                family.dead_access.push(false);
                (family.used, family.redeemed_at, family.reopened) = (false, now, false);
                family.narrow = narrow;
            }
            (1, Ok(got)) if in_time && narrow == family.narrow => {
                assert_eq!(refresh_token(&got)?, refresh_token(&family.answers[newest])?);
                assert_eq!(access_token(&got), access_token(&family.answers[newest]));
            }
            (1, Err(Error::InvalidGrant(_))) if in_time && narrow != family.narrow => {}
            // I5: outside the retry rule the family dies.
            (_, Err(Error::InvalidGrant(_))) => family.dead = true,
            (_, got) => return Err(format!("{back} back gave {got:?}").into()),
        }
        Ok(())
    }

    fn use_access(&mut self, family: usize, back: usize, introspect: bool) -> Checked {
        let now = self.now();
        let Some(family) = self.families.get_mut(family) else { return Ok(()) };
        let newest = family.newest();
        let Some(at) = newest.checked_sub(back) else { return Ok(()) };
        let token = access_token(&family.answers[at]);
        let bed = self.bed.borrow();
        let is_live = match introspect {
            true => bed.is_active(&token, self.auditor)?,
            false => bed.authority().verify_live(&token).wait().is_ok(),
        };
        assert_eq!(is_live, family.is_access_live(at, now), "a use");
        family.used |= is_live && back == 0;
        Ok(())
    }

    fn revoke(&mut self, at: usize, what: usize) -> Checked {
        let Some(family) = self.families.get(at) else { return Ok(()) };
        let (client, subject) = (family.client, family.subject);
        let issued = family.answers[family.newest()].clone();
        let (access, refresh) = (access_token(&issued), refresh_token(&issued)?);
        let (id, caller) = &self.clients[client];
        let bed = self.bed.borrow();
        let authority = bed.authority();
        match what {
            0 => authority.revoke(Target::Everything).wait()?,
            1 => authority.revoke(Target::Client(id)).wait()?,
            2 => authority.revoke(Target::Subject(&self.subjects[subject])).wait()?,
            3 => authority.revoke(Target::Pair(id, &self.subjects[subject])).wait()?,
            4 => authority.revoke(Target::Grant(issued.grant)).wait()?,
            5 => authority.revoke(Target::Family(issued.family)).wait()?,
            6 => authority.revoke_token(&refresh, caller).wait()?,
            7 => authority.revoke(Target::Token(&refresh)).wait()?,
            _ => authority.revoke_token(&access, caller).wait()?,
        }
        for code in &mut self.codes {
            code.dead |= match what {
                0 => true,
                1 => code.client == client,
                2 => code.subject == subject,
                3 | 4 => (code.client, code.subject) == (client, subject),
                _ => false,
            };
        }
        for (n, family) in self.families.iter_mut().enumerate() {
            let ends = match what {
                0 => true,
                1 => family.client == client,
                2 => family.subject == subject,
                3 | 4 => (family.client, family.subject) == (client, subject),
                5..=7 => n == at,
                _ => false,
            };
            family.dead |= ends;
            if what == 8 && n == at {
                let newest = family.newest();
                family.dead_access[newest] = true;
            }
        }
        Ok(())
    }

    /// I4: everything is worth what the model says. Refresh tokens are looked at by introspection,
    /// which is no use of them; access tokens by their use alone, for looking is a use.
    /// Of each family the newest so many.
    fn check(&self, newest: usize) -> Checked {
        let bed = self.bed.borrow();
        for family in &self.families {
            for (at, answer) in family.answers.iter().enumerate().rev().take(newest) {
                let is_live = bed.is_active(&refresh_token(answer)?, self.auditor)?;
                assert_eq!(is_live, !family.dead && at == family.newest(), "refresh token {at}");
            }
        }
        Ok(())
    }

    fn check_access_tokens(&self) -> Checked {
        let (bed, now) = (self.bed.borrow(), self.now());
        for family in &self.families {
            for (at, answer) in family.answers.iter().enumerate() {
                let is_live = bed.is_active(&access_token(answer), self.auditor)?;
                assert_eq!(is_live, family.is_access_live(at, now), "access token {at}");
            }
        }
        Ok(())
    }
}

fn follow<O: Opener + Default>(sequences: u32) -> Tested {
    let bed = Bed::new(O::default())?;
    let auditor = RefCell::new(bed.auditor()?);
    let bed = RefCell::new(bed);
    let number = Cell::new(0u32);
    let one = |steps: &[Step]| -> Tested {
        number.set(number.get() + 1);
        if number.get().is_multiple_of(RUNS_PER_BED) {
            let fresh = Bed::new(O::default())?;
            auditor.replace(fresh.auditor()?);
            bed.replace(fresh);
        }
        one_run(&bed, &auditor.borrow(), number.get(), steps)
    };
    let run =
        |steps: Vec<Step>| one(&steps).map_err(|error| TestCaseError::fail(with_causes(&*error)));
    let config = Config { cases: sequences, failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(&prop::collection::vec(step(), 1..40), run)?;
    Ok(())
}

fn one_run<O: Opener>(
    bed: &RefCell<Bed<O>>,
    auditor: &Caller,
    number: u32,
    steps: &[Step],
) -> Tested {
    let draft = |name: &str, format| {
        let client = Client::public(format!("{name} {number}"));
        client
            .grants([GrantType::AuthorizationCode, GrantType::RefreshToken])
            .redirect_uris(["https://app.example/cb"])
            .pkce_required(false)
            .scopes(["api", "web", "refresh_token"])
            .format(format)
    };
    let clients = vec![
        bed.borrow().register(draft("opaque", TokenFormat::Opaque).access_secs(1_000))?,
        bed.borrow().register(
            draft("jwt", TokenFormat::Jwt).pairs(PairPolicy::Newest(u16::try_from(NEWEST)?)),
        )?,
    ];
    let subjects = (0..SUBJECTS).map(|n| format!("user {number} {n}")).collect();
    let (families, codes, grants) = (Vec::new(), Vec::new(), HashMap::new());
    let mut run = Run { bed, auditor, clients, subjects, families, codes, grants };
    for step in steps {
        run.take(step)?;
    }
    run.check(usize::MAX)?;
    run.check_access_tokens()
}

fn number(variable: &str, usual: u32) -> u32 {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

#[test]
fn any_run_in_memory_is_worth_what_the_model_says() -> Tested {
    follow::<Memory>(number("MINTAGE_MODEL_RUNS", 2_000))
}

#[test]
fn any_durable_run_is_worth_what_the_model_says() -> Tested {
    follow::<Durable>(number("MINTAGE_MODEL_DURABLE_RUNS", 200))
}
