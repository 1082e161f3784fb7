//! The ledger: what the log has, once each and in order, for as long as it is kept.

mod support;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use mintage::authority::{Authority, Caller, Client, Error, Issue, Target, TokenRequest};
use mintage::entropy::SeededEntropy;
use mintage::ids::Subject;
use mintage::store::{
    DurableOptions, DurableStore, LedgerEntry, LoginChange, Lsn, Recorded, RevokedScope,
    StoreError, Ticket,
};
use mintage::time::ManualClock;
use support::{ISSUER, START, Tested, root};

const SEGMENT_LEN: usize = 128 * 1024;
const LOGINS: usize = 4_000;

fn open(
    path: &Path,
    clock: &Arc<ManualClock>,
    segment_len: usize,
    kept: u64,
) -> Result<Authority, support::Boxed> {
    let options = DurableOptions::default().segment_len(segment_len).ledger_len_max(kept);
    let builder = Authority::builder(ISSUER).clock(Arc::clone(clock));
    Ok(builder.entropy(SeededEntropy::new(9)).durable(options).open(path, root())?)
}

/// The whole ledger, read in pages of so many rows.
fn all(
    store: &DurableStore,
    from: Option<Lsn>,
    rows: usize,
) -> Result<Vec<LedgerEntry>, StoreError> {
    let (mut entries, mut after) = (Vec::new(), from);
    loop {
        let page = store.ledger(after, rows)?;
        if page.entries.is_empty() {
            return Ok(entries);
        }
        entries.extend(page.entries);
        after = Some(page.next);
    }
}

fn lines(entries: &[LedgerEntry]) -> Vec<String> {
    entries.iter().map(|e| format!("{} {:?} {:?}", e.lsn, e.chain, e.what)).collect()
}

/// The changes of logins, with whose they are.
fn changes(entries: &[LedgerEntry]) -> Vec<(LoginChange, u32, String)> {
    let of = |entry: &LedgerEntry| match &entry.what {
        Recorded::Login { change, generation, .. } => {
            let name = entry.subject.as_ref().map_or("?", |subject| subject.as_str());
            Some((*change, *generation, name.to_owned()))
        }
        _ => None,
    };
    entries.iter().filter_map(of).collect()
}

#[test]
fn the_ledger_says_what_was_done_in_order() -> Tested {
    let dir = tempfile::tempdir()?;
    let clock = Arc::new(ManualClock::at(START));
    let authority = open(dir.path(), &clock, 1 << 20, 0)?;
    let app = Client::public("app").scopes(["api", "refresh_token"]);
    let app = authority.register(app).wait()?.client_id;
    let caller = Caller::public("app");
    let first = authority.issue(Issue::to("ann", &app)).wait()?.refresh_token.ok_or("none")?;
    let refresh = || authority.token(&TokenRequest::refresh(first.expose(), &caller)).wait();
    refresh()?;
    refresh()?;
    clock.advance(100);
    assert!(refresh().is_err());
    let bob = authority.issue(Issue::to("bob", &app)).wait()?;
    authority.revoke(Target::Token(bob.access_token.expose())).wait()?;
    authority.revoke(Target::Subject("bob")).wait()?;

    let entries = all(authority.store(), None, 1_000)?;
    let expected = [
        (LoginChange::Issued, 1, "ann".to_owned()),
        (LoginChange::Redeemed, 2, "ann".to_owned()),
        (LoginChange::Ended, 2, "ann".to_owned()),
        (LoginChange::Issued, 1, "bob".to_owned()),
    ];
    assert_eq!(changes(&entries), expected, "a retry is no news, a replay is an end");
    let has = |what: &dyn Fn(&LedgerEntry) -> bool| entries.iter().filter(|e| what(e)).count();
    let documents = |e: &LedgerEntry| matches!(&e.what, Recorded::Document { name, is_removed: false, .. } if &**name == "app");
    assert_eq!(has(&documents), 1);
    assert_eq!(has(&|e| matches!(e.what, Recorded::Grant { .. })), 2);
    assert_eq!(has(&|e| matches!(e.what, Recorded::AccessToken { .. })), 3);
    assert_eq!(has(&|e| matches!(e.what, Recorded::AccessTokenRevoked { .. })), 1);
    let revoked = entries.last().ok_or("empty")?;
    let what = &revoked.what;
    assert!(matches!(what, Recorded::Revoked { scope: RevokedScope::Subject, .. }), "{what:?}");
    assert_eq!(revoked.subject.as_ref().map(Subject::as_str), Some("bob"));
    assert!(entries.windows(2).all(|two| two[0].lsn < two[1].lsn && two[0].at <= two[1].at));
    assert_eq!(revoked.at.0, START + 100);

    // Pages of one row are the same ledger, and so is the one after a reopening.
    assert_eq!(lines(&all(authority.store(), None, 1)?), lines(&entries));
    let next = authority.store().ledger(Some(revoked.lsn), 10)?;
    assert!(next.entries.is_empty());
    authority.close()?;
    let authority = open(dir.path(), &clock, 1 << 20, 0)?;
    assert_eq!(lines(&all(authority.store(), None, 7)?), lines(&entries));
    authority.issue(Issue::to("eve", &app)).wait()?;
    let page = authority.store().ledger(Some(next.next), 10)?;
    assert_eq!(changes(&page.entries), [(LoginChange::Issued, 1, "eve".to_owned())]);
    Ok(())
}

#[test]
fn a_session_that_slides_is_no_news() -> Tested {
    let dir = tempfile::tempdir()?;
    let clock = Arc::new(ManualClock::at(START));
    let authority = open(dir.path(), &clock, 1 << 20, 0)?;
    let app = Client::public("app").access_secs(3_600).sliding(24 * 3_600);
    let app = authority.register(app.scopes(["api", "refresh_token"])).wait()?.client_id;
    let bare = Client::public("bare").access_secs(3_600).sliding(24 * 3_600).scopes(["api"]);
    let bare = authority.register(bare).wait()?.client_id;
    let born = [&app, &bare].map(|client| authority.issue(Issue::to("ann", client)).wait());
    let born = born.into_iter().collect::<Result<Vec<_>, _>>()?;
    let refresh = born[0].refresh_token.as_ref().ok_or("none")?;
    authority.token(&TokenRequest::refresh(refresh.expose(), &Caller::public("app"))).wait()?;
    let before = all(authority.store(), None, 1_000)?;
    // Each time it would have ended, had it not been moved.
    for _ in 0..3 {
        clock.advance(3_000);
        for issued in &born {
            authority.verify_live(issued.access_token.expose()).wait()?;
        }
    }
    assert_eq!(lines(&all(authority.store(), None, 1_000)?), lines(&before));
    // The log is read as it was meant.
    authority.close()?;
    let authority = open(dir.path(), &clock, 1 << 20, 0)?;
    assert_eq!(lines(&all(authority.store(), None, 1_000)?), lines(&before));
    for issued in &born {
        authority.verify_live(issued.access_token.expose()).wait()?;
    }
    Ok(())
}

/// Waits for a ticket, and asks again while the store is busy.
fn patiently<T: Send + 'static>(
    ticket: impl Fn() -> Ticket<T, Error>,
) -> impl FnOnce() -> Result<T, Error> {
    let first = ticket();
    move || {
        let mut answer = first.wait();
        while answer.as_ref().is_err_and(|error| error.retry_after().is_some()) {
            std::thread::yield_now();
            answer = ticket().wait();
        }
        answer
    }
}

/// Logins, and the end of most of them.
fn churn(authority: &Authority) -> Result<HashMap<u64, usize>, support::Boxed> {
    let app = Client::public("app").scopes(["api", "refresh_token"]);
    let app = &patiently(|| authority.register(app.clone()))()?.client_id;
    let mut families = HashMap::new();
    for batch in 0..LOGINS / 200 {
        let issue = |n| move || authority.issue(Issue::to(format!("user-{batch}-{n}"), app));
        let waiting: Vec<_> = (0..200).map(|n| patiently(issue(n))).collect();
        let born = waiting.into_iter().map(|wait| Ok(wait()?.family));
        let born = born.collect::<Result<Vec<u64>, Error>>()?;
        let end = |family: u64| move || authority.revoke(Target::Family(family));
        let waiting: Vec<_> = born.iter().skip(20).map(|family| patiently(end(*family))).collect();
        for wait in waiting {
            wait()?;
        }
        families.extend(born.into_iter().map(|family| (family, 0)));
    }
    Ok(families)
}

fn bytes_of(path: &Path, suffix: &str) -> std::io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(suffix) {
            sum += entry.metadata()?.len();
        }
    }
    Ok(sum)
}

#[test]
fn what_is_kept_is_the_whole_history_and_nothing_is_said_twice() -> Tested {
    let dir = tempfile::tempdir()?;
    let clock = Arc::new(ManualClock::at(START));
    let authority = open(dir.path(), &clock, SEGMENT_LEN, 1 << 30)?;
    let mut families = churn(&authority)?;
    // What ended long ago is swept, so that its segments can go.
    clock.advance(40 * 86_400);
    for _ in 0..256 {
        authority.store().confirm_clock();
        mintage::store::Store::sweep(authority.store(), mintage::time::Clock::read(&*clock))?;
    }
    let begun = std::time::Instant::now();
    while bytes_of(dir.path(), ".old")? < 4 * SEGMENT_LEN as u64 {
        assert!(begun.elapsed().as_secs() < 60, "no segment was dropped");
        std::thread::yield_now();
    }
    let entries = all(authority.store(), Some(Lsn(0)), 1_000)?;
    for entry in &entries {
        if let Recorded::Login { family, change: LoginChange::Issued, .. } = entry.what {
            *families.get_mut(&family).ok_or("a login of nobody")? += 1;
        }
    }
    assert!(families.values().all(|times| *times == 1), "survivors are no news");
    let ended = changes(&entries).iter().filter(|c| c.0 == LoginChange::Ended).count();
    assert_eq!(ended, LOGINS / 10 * 9);
    authority.close()?;

    // It is checked when it is read.
    let oldest = dir.path().join("0000000000000001.old");
    let good = fs::read(&oldest)?;
    let mut bad = good.clone();
    bad[5_000] ^= 1;
    fs::write(&oldest, &bad)?;
    let authority = open(dir.path(), &clock, SEGMENT_LEN, 1 << 30)?;
    let damaged = all(authority.store(), Some(Lsn(0)), 1_000);
    assert!(matches!(damaged, Err(StoreError::Corrupt { .. })), "{damaged:?}");
    fs::write(&oldest, &good)?;
    let again = all(authority.store(), Some(Lsn(0)), 1_000)?;
    assert_eq!(lines(&again)[..entries.len()], lines(&entries));
    authority.close()?;

    // A smaller setting lets go of the oldest, none of all that the store does not need itself.
    let authority = open(dir.path(), &clock, SEGMENT_LEN, 2 * SEGMENT_LEN as u64 + 1)?;
    assert_eq!(bytes_of(dir.path(), ".old")?, 2 * SEGMENT_LEN as u64);
    let cut = all(authority.store(), Some(Lsn(0)), 1_000);
    assert!(matches!(cut, Err(StoreError::SnapshotNeeded)), "{cut:?}");
    assert!(!all(authority.store(), None, 1_000)?.is_empty());
    authority.close()?;
    let authority = open(dir.path(), &clock, SEGMENT_LEN, 0)?;
    assert_eq!(bytes_of(dir.path(), ".old")?, 0);
    assert!(!all(authority.store(), None, 1_000)?.is_empty());
    Ok(())
}
