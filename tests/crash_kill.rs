//! kill -9 at random moments: a child acknowledges on a pipe, is killed, and the store is reopened.
//! Between runs sled's files are deleted, shortened or replaced by older ones.
//!
//! `MINTAGE_KILLS` sets how many kills (default 50).
#![allow(clippy::print_stdout)]

mod crash_support;
mod store_support;

use std::time::Duration;

use crash_support::{Broken, Ledger, harm_checkpoint, open, rounds, work_if_child};
use store_support::TempDir;
use store_support::sim::Random;

/// Not a test of its own: the parent runs it as the child.
#[test]
fn child_process() {
    work_if_child();
}

#[test]
fn acknowledged_survives_kill_dash_nine() {
    let kills = rounds("MINTAGE_KILLS", 50);
    let mut random = Random::new(rounds("MINTAGE_CRASH_CAMPAIGN", 1));
    let mut acknowledged = 0;
    let mut done = 0;
    while done < kills {
        let dir = TempDir::new("kill");
        let older = TempDir::new("kill-older");
        let mut ledger = Ledger::new(random.below(1 << 32));
        for _ in 0..10.min(kills - done) {
            let life = Duration::from_millis(random.below(120));
            ledger.run_child(dir.path(), life, |_| ());
            harm_checkpoint(dir.path(), older.path(), &mut random);
            let store = open(dir.path()).unwrap();
            let broken = ledger.check(&store);
            if broken != Broken::default() {
                drop(store);
                println!("what is left is kept in {}", dir.keep().display());
                panic!("after kill {done}: {broken:?}");
            }
            if random.one_in(2) {
                store.close().unwrap();
            }
            done += 1;
        }
        acknowledged += ledger.acknowledged;
    }
    println!("{done} kills, {acknowledged} acknowledged operations, 0 promises broken");
    assert!(acknowledged > kills, "the children did next to nothing");
}
