//! Faults that are planted in the library, one at a time: each is found, or the simulation is worth
//! nothing.

use std::sync::{Arc, Mutex};

use mintage::sim::{Bug, spawn};

use crate::sim_support::world::{self, Weather};
use crate::sim_support::{Plan, campaign};
use crate::store_support::{clock, root};

/// The first seed that finds `bug`, which must be among the first `most`; without the bug that seed
/// finds nothing.
fn finds(bug: Bug, weather: Weather, most: u64) {
    let plan = Plan { bug: Some(bug), ..Plan::default() };
    let found = campaign(0..most, plan, move |seed| {
        world::run(seed, weather);
    });
    let failure = found.expect_err("the planted fault was not found");
    println!("{bug:?}: seed {}: {}", failure.seed, failure.what);
    let seed = failure.seed;
    campaign(seed..seed + 1, Plan::default(), move |seed| {
        world::run(seed, weather);
    })
    .expect("without the fault the same seed finds nothing");
}

#[test]
fn a_skipped_sync_is_found() {
    finds(Bug::SyncSkipped, Weather::CALM, 1_000);
}

#[test]
fn a_group_that_calls_its_own_write_synced_is_found() {
    finds(Bug::SyncedWithinWrite, Weather::CALM, 10_000);
}

#[test]
fn an_answer_before_the_commit_is_found() {
    finds(Bug::AnsweredBeforeCommit, Weather::CALM, 1_000);
}

#[test]
fn a_table_published_before_the_commit_is_found() {
    finds(Bug::PublishedBeforeCommit, Weather::CALM, 10_000);
}

#[test]
fn an_admission_read_at_birth_is_found() {
    finds(Bug::AdmittedAtBirth, Weather::CALM, 10_000);
}

#[test]
fn a_segment_dropped_before_its_survivors_were_synced_is_found() {
    finds(Bug::DroppedBeforeSync, Weather::LONG, 10_000);
}

#[test]
fn a_survivor_copied_from_the_bytes_read_is_found() {
    finds(Bug::SurvivorAsRead, Weather::LONG, 10_000);
}

#[test]
fn a_segment_dropped_out_of_order_is_found() {
    finds(Bug::DroppedOutOfOrder, Weather::LONG, 10_000);
}

#[test]
fn a_region_that_is_not_compared_with_its_summary_is_found() {
    finds(Bug::RegionUnchecked, Weather::CALM, 10_000);
}

#[test]
fn a_torn_tail_accepted_in_the_middle_is_found() {
    finds(Bug::TornInTheMiddle, Weather::ROTTEN, 10_000);
}

#[test]
fn a_redeem_outside_its_lock_is_found() {
    finds(Bug::RedeemedOutsideTheLock, Weather::CALM, 10_000);
}

#[test]
fn a_block_of_numbers_used_again_is_found() {
    finds(Bug::BlockUsedAgain, Weather::ROTTEN, 10_000);
}

/// A client is removed while tokens are issued to it: none of them lives.
fn removed_while_issuing(seed: u64) {
    use mintage::authority::{Authority, Client, Issue};
    use mintage::entropy::SeededEntropy;

    let clock = clock();
    let authority = Authority::builder("https://login.example")
        .clock(clock)
        .entropy(SeededEntropy::new(seed))
        .in_memory(root())
        .unwrap();
    let registered =
        authority.register(Client::confidential("reports").scopes(["api"])).wait().unwrap();
    let id = registered.client_id;
    let issued = Arc::new(Mutex::new(Vec::new()));
    let issuers: Vec<_> = (0..2)
        .map(|n| {
            let (authority, id, issued) = (authority.clone(), id.clone(), Arc::clone(&issued));
            spawn(move || {
                for m in 0..2 {
                    let issue = Issue::to(format!("user-{n}-{m}"), &id).scope("api");
                    if let Ok(token) = authority.issue(issue).wait() {
                        issued.lock().unwrap().push(token);
                    }
                }
            })
        })
        .collect();
    authority.remove_client(&id).wait().unwrap();
    for issuer in issuers {
        issuer.join().unwrap();
    }
    for token in issued.lock().unwrap().iter() {
        let found = authority.verify_live(token.access_token.expose()).wait();
        assert!(found.is_err(), "a removed client has a live token");
    }
}

#[test]
fn an_admission_noted_after_authentication_is_found() {
    let plan = Plan { bug: Some(Bug::NotedAfterAuthentication), is_fine: true };
    let found = campaign(0..10_000, plan, removed_while_issuing);
    let failure = found.expect_err("the planted fault was not found");
    println!("{:?}: seed {}: {}", Bug::NotedAfterAuthentication, failure.seed, failure.what);
    let plan = Plan { bug: None, ..plan };
    campaign(0..failure.seed + 200, plan, removed_while_issuing)
        .unwrap_or_else(|failure| panic!("seed {}: {}", failure.seed, failure.what));
}

/// One number replays a world exactly: everything that was asked and answered in it.
#[test]
fn a_seed_is_a_world() {
    let digests = |seeds: std::ops::Range<u64>| {
        let all = Arc::new(Mutex::new(std::collections::BTreeMap::new()));
        let to = Arc::clone(&all);
        let ran = campaign(seeds, Plan::default(), move |seed| {
            let digest = world::run(seed, Weather::asked());
            to.lock().unwrap().insert(seed, digest);
        });
        ran.unwrap_or_else(|failure| panic!("seed {}: {}", failure.seed, failure.what));
        let all = all.lock().unwrap();
        all.clone()
    };
    let first = digests(1_000..1_300);
    // In another order, and so with other worlds before each.
    let mut again = digests(1_150..1_300);
    again.extend(digests(1_000..1_150));
    assert_eq!(first, again);
    let distinct: std::collections::BTreeSet<[u8; 32]> = first.values().copied().collect();
    assert!(distinct.len() > 290, "seeds differ");
}
