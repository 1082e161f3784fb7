//! How often devices poll (RFC 8628 section 3.5). In memory: whoever forgets it only waits less.

use std::time::Duration;

use crate::sync::{HashMap, Mutex, PoisonError};

/// The most devices that are told apart. With more, those that poll first are not slowed down.
const DEVICES_MAX: usize = 1 << 16;
/// RFC 8628 section 3.5: "the interval MUST be increased by 5 seconds for this and all subsequent
/// requests".
const STEP: Duration = Duration::from_secs(5);

#[derive(Clone, Copy)]
struct Poll {
    at: Duration,
    interval: Duration,
}

/// When each device polled last.
#[derive(Default)]
pub(in crate::authority) struct Polls {
    by_place: Mutex<HashMap<u64, Poll>>,
}

impl Polls {
    /// Notes a poll, and says whether it came too soon after the one before.
    pub(super) fn is_too_soon(&self, place: u64, interval: Duration, now: Duration) -> bool {
        let mut polls = self.by_place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(poll) = polls.get_mut(&place) {
            let is_too_soon = now < poll.at.saturating_add(poll.interval);
            if is_too_soon {
                poll.interval = poll.interval.saturating_add(STEP);
            }
            poll.at = now;
            return is_too_soon;
        }
        if polls.len() >= DEVICES_MAX {
            polls.retain(|_, poll| now < poll.at.saturating_add(poll.interval));
        }
        if polls.len() < DEVICES_MAX {
            polls.insert(place, Poll { at: now, interval });
        }
        false
    }

    /// A device that polls no more.
    pub(super) fn forget(&self, place: u64) {
        self.by_place.lock().unwrap_or_else(PoisonError::into_inner).remove(&place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIVE: Duration = Duration::from_secs(5);

    #[test]
    fn each_poll_that_comes_too_soon_makes_the_interval_longer() {
        let polls = Polls::default();
        let mut now = Duration::from_secs(100);
        for (wait, is_too_soon) in
            [(0, false), (5, false), (4, true), (9, true), (15, false), (14, true), (20, false)]
        {
            now += Duration::from_secs(wait);
            assert_eq!(polls.is_too_soon(1, FIVE, now), is_too_soon, "{now:?}");
        }
        assert!(!polls.is_too_soon(2, FIVE, now), "another device");
        polls.forget(1);
        assert!(!polls.is_too_soon(1, FIVE, now));
    }

    #[test]
    fn so_many_devices_are_told_apart_and_no_more() {
        let polls = Polls::default();
        for place in 0..=DEVICES_MAX as u64 {
            assert!(!polls.is_too_soon(place, FIVE, FIVE));
        }
        let len = || polls.by_place.lock().map_or(0, |polls| polls.len());
        assert_eq!(len(), DEVICES_MAX);
        // Those that have waited make room.
        assert!(!polls.is_too_soon(u64::MAX, FIVE, 3 * FIVE));
        assert_eq!(len(), 1);
    }
}
