//! The clock as the store believes it: it never goes back by more than a minute, and a jump ahead
//! cannot rush the sweep.

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::time::{Reading, Timestamp};

/// How far the clock may go back behind the high-water mark, in seconds.
const BACK_SECS_MAX: u64 = 60;
/// How far the mark may run ahead of the time that really passed, per run of the process.
const AHEAD_SECS_MAX: u64 = 3_600;

/// The high-water mark of time. It follows the clock, but by no more than the time that really
/// passed since the store was opened and an hour, so that a jump ahead that is put right again
/// neither ends tokens for good nor lets the sweep remove them.
pub(crate) struct HighWater {
    mark: AtomicU64,
    opened_at: AtomicU64,
    opened_elapsed_secs: u64,
}

impl HighWater {
    /// Goes on from the mark that was stored; a new store takes the clock's word.
    pub(crate) fn resume(stored: Timestamp, now: Reading) -> HighWater {
        let start = if stored.0 == 0 { now.unix.0 } else { stored.0 };
        HighWater {
            mark: AtomicU64::new(start),
            opened_at: AtomicU64::new(start),
            opened_elapsed_secs: now.elapsed.as_secs(),
        }
    }

    /// The time to judge by.
    pub(crate) fn now(&self, reading: Reading) -> Timestamp {
        reading.unix.max(self.observe(reading).minus(BACK_SECS_MAX))
    }

    /// The time to sweep by: everything dead at this mark is dead for good.
    pub(crate) fn observe(&self, reading: Reading) -> Timestamp {
        let passed = reading.elapsed.as_secs().saturating_sub(self.opened_elapsed_secs);
        let bound =
            Timestamp(self.opened_at.load(Ordering::SeqCst)).plus(passed).plus(AHEAD_SECS_MAX);
        let seen = reading.unix.min(bound).0;
        Timestamp(self.mark.fetch_max(seen, Ordering::SeqCst).max(seen))
    }

    /// The mark as it stands.
    pub(crate) fn mark(&self) -> Timestamp {
        Timestamp(self.mark.load(Ordering::SeqCst))
    }

    /// The host says that the clock is right, however far it jumped.
    pub(crate) fn confirm(&self, reading: Reading) {
        let passed = reading.elapsed.as_secs().saturating_sub(self.opened_elapsed_secs);
        self.opened_at.fetch_max(reading.unix.minus(passed).0, Ordering::SeqCst);
        self.observe(reading);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(unix: u64, elapsed: u64) -> Reading {
        Reading { unix: Timestamp(unix), elapsed: Duration::from_secs(elapsed) }
    }

    #[test]
    fn a_clock_set_back_loses_a_minute_at_most() {
        let mark = HighWater::resume(Timestamp(0), at(10_000, 0));
        assert_eq!(mark.now(at(10_100, 100)), Timestamp(10_100));
        assert_eq!(mark.now(at(5, 101)), Timestamp(10_040));
        assert_eq!(HighWater::resume(Timestamp(10_100), at(5, 0)).now(at(5, 0)), Timestamp(10_040));
    }

    #[test]
    fn a_jump_ahead_moves_the_mark_an_hour_until_it_is_confirmed() {
        let mark = HighWater::resume(Timestamp(10_000), at(10_000, 0));
        let jumped = at(2_000_000_000, 1);
        assert_eq!(mark.observe(jumped), Timestamp(13_601));
        assert_eq!(mark.now(at(10_002, 2)), Timestamp(13_541));
        mark.confirm(jumped);
        assert_eq!(mark.observe(jumped), Timestamp(2_000_000_000));
    }
}
