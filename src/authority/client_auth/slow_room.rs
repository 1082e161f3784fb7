//! Room for the slow computations of chosen secrets. When it is taken, a caller is told to come back,
//! and nobody waits.
//!
//! A client has one place at most, and none for a while after wrong guesses, so that whoever guesses
//! at some clients does not keep the others out. Registering has a place of its own.

use std::time::Duration;

use super::super::error::Error;
use crate::ids::ClientId;
use crate::store::StoreError;
use crate::sync::{HashMap, Mutex, MutexGuard, PoisonError};

/// The most computations for callers at a time: each takes 19 MiB and a core for some 20 ms.
const CALLERS_MAX: usize = 2;
/// So many wrong guesses in a row cost a client nothing.
const FREE_GUESSES: u32 = 4;
/// After the next one its place stays closed for so long, after each further one for twice as long.
const CLOSED_FIRST: Duration = Duration::from_millis(100);
/// See [`CLOSED_FIRST`].
const CLOSED_MAX: Duration = Duration::from_secs(2);
/// After so long without a wrong guess they are forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// Beyond so many clients those are let go of that nothing is known of any more.
const KNOWN_MAX: usize = 1_024;

#[derive(Default)]
pub(in crate::authority) struct SlowRoom(Mutex<Places>);

#[derive(Default)]
struct Places {
    callers: usize,
    is_registering: bool,
    clients: HashMap<ClientId, Guesses>,
}

/// What is known of one client's guesses; times count as [`Reading::elapsed`].
///
/// [`Reading::elapsed`]: crate::time::Reading::elapsed
#[derive(Default)]
struct Guesses {
    is_running: bool,
    wrong: u32,
    closed_until: Duration,
}

/// A place for one computation, given back when it is dropped.
pub(in crate::authority) struct SlowPlace<'a> {
    room: &'a SlowRoom,
    /// Of whom it is; nobody registers.
    client: Option<&'a ClientId>,
}

impl SlowRoom {
    /// A place for whoever registers a client.
    pub(in crate::authority) fn register(&self) -> Result<SlowPlace<'_>, Error> {
        let mut places = self.places();
        if std::mem::replace(&mut places.is_registering, true) {
            return Err(StoreError::Busy.into());
        }
        Ok(SlowPlace { room: self, client: None })
    }

    /// A place for a guess at a client's secret.
    pub(in crate::authority) fn guess<'a>(
        &'a self,
        client: &'a ClientId,
        now: Duration,
    ) -> Result<SlowPlace<'a>, Error> {
        let mut places = self.places();
        if places.clients.len() >= KNOWN_MAX {
            places.clients.retain(|_, guesses| !guesses.is_past(now));
        }
        if places.callers >= CALLERS_MAX {
            return Err(StoreError::Busy.into());
        }
        let guesses = places.clients.entry(client.clone()).or_default();
        if guesses.is_running || now < guesses.closed_until {
            return Err(StoreError::Busy.into());
        }
        if guesses.is_past(now) {
            guesses.wrong = 0;
        }
        guesses.is_running = true;
        places.callers += 1;
        Ok(SlowPlace { room: self, client: Some(client) })
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guesses {
    fn is_past(&self, now: Duration) -> bool {
        !self.is_running && now >= self.closed_until.saturating_add(FORGOTTEN_AFTER)
    }
}

impl SlowPlace<'_> {
    /// What came of the guess.
    pub(in crate::authority) fn judged(&self, opens: bool, now: Duration) {
        let Some(client) = self.client else { return };
        let mut places = self.room.places();
        let Some(guesses) = places.clients.get_mut(client) else { return };
        guesses.wrong = if opens { 0 } else { guesses.wrong.saturating_add(1) };
        let further = guesses.wrong.checked_sub(FREE_GUESSES + 1);
        let closed = further.map_or(Duration::ZERO, |further| {
            CLOSED_FIRST.saturating_mul(1 << further.min(16)).min(CLOSED_MAX)
        });
        guesses.closed_until = now.saturating_add(closed);
    }
}

impl Drop for SlowPlace<'_> {
    fn drop(&mut self) {
        let mut places = self.room.places();
        let Some(client) = self.client else {
            places.is_registering = false;
            return;
        };
        places.callers = places.callers.saturating_sub(1);
        if let Some(guesses) = places.clients.get_mut(client) {
            guesses.is_running = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Tested = Result<(), Box<dyn std::error::Error>>;

    fn is_busy(place: &Result<SlowPlace<'_>, Error>) -> bool {
        matches!(place, Err(Error::TemporarilyUnavailable(StoreError::Busy)))
    }

    #[test]
    fn a_client_has_one_place_and_registering_its_own() -> Tested {
        let room = SlowRoom::default();
        let (a, b, c) = (ClientId::new("a")?, ClientId::new("b")?, ClientId::new("c")?);
        let first = room.guess(&a, Duration::ZERO)?;
        assert!(is_busy(&room.guess(&a, Duration::ZERO)));
        let second = room.guess(&b, Duration::ZERO)?;
        assert!(is_busy(&room.guess(&c, Duration::ZERO)));
        let registering = room.register()?;
        assert!(is_busy(&room.register()));
        drop(first);
        let third = room.guess(&c, Duration::ZERO)?;
        drop((second, third, registering));
        drop((room.guess(&a, Duration::ZERO)?, room.register()?));
        assert_eq!(room.places().callers, 0);
        Ok(())
    }

    #[test]
    fn wrong_guesses_close_the_place_of_their_client_alone() -> Tested {
        let room = SlowRoom::default();
        let (a, b) = (ClientId::new("a")?, ClientId::new("b")?);
        let mut now = Duration::from_secs(9);
        for _ in 0..=FREE_GUESSES {
            room.guess(&a, now)?.judged(false, now);
        }
        assert!(is_busy(&room.guess(&a, now)));
        room.guess(&b, now)?.judged(false, now);
        room.guess(&b, now)?.judged(true, now);
        for closed in [100, 200, 400, 800, 1_600, 2_000, 2_000] {
            now += Duration::from_millis(closed - 1);
            assert!(is_busy(&room.guess(&a, now)), "{closed}");
            now += Duration::from_millis(1);
            room.guess(&a, now)?.judged(false, now);
        }
        now += CLOSED_MAX;
        room.guess(&a, now)?.judged(true, now);
        drop(room.guess(&a, now)?);
        Ok(())
    }

    #[test]
    fn wrong_guesses_are_forgotten_and_few_are_known() -> Tested {
        let room = SlowRoom::default();
        let a = ClientId::new("a")?;
        for _ in 0..=FREE_GUESSES {
            room.guess(&a, Duration::ZERO)?.judged(false, Duration::ZERO);
        }
        let later = CLOSED_FIRST + FORGOTTEN_AFTER;
        room.guess(&a, later)?.judged(false, later);
        room.guess(&a, later)?.judged(false, later);
        let much_later = later + later;
        for n in 0..2 * KNOWN_MAX {
            let client = ClientId::new(format!("client {n}"))?;
            room.guess(&client, much_later + FORGOTTEN_AFTER * u32::try_from(n / 500)?)?;
        }
        assert!(room.places().clients.len() < KNOWN_MAX + 500);
        Ok(())
    }
}
