//! Time comes in through one trait, so that a test is a seed and a clock script.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Seconds since 1970-01-01T00:00:00Z (`NumericDate`, RFC 7519 section 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Later than every time a clock can show: "never expires".
    pub const NEVER: Timestamp = Timestamp(u64::MAX);

    /// This moment plus `secs`, or [`Timestamp::NEVER`] past the end of time.
    #[must_use]
    pub const fn plus(self, secs: u64) -> Timestamp {
        Timestamp(self.0.saturating_add(secs))
    }

    /// This moment minus `secs`, or the epoch.
    #[must_use]
    pub const fn minus(self, secs: u64) -> Timestamp {
        Timestamp(self.0.saturating_sub(secs))
    }

    /// Seconds from `earlier` to this moment, 0 if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Timestamp) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One reading of a clock.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Wall time. It may jump in both directions.
    pub unix: Timestamp,
    /// Time since some fixed start of this process. It never goes back.
    pub elapsed: Duration,
}

/// Where the authority takes its time from.
pub trait Clock: Send + Sync + 'static {
    /// Reads the clock. Cheap, never blocks.
    fn read(&self) -> Reading;
}

/// The clock of the operating system.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose `elapsed` counts from now.
    #[must_use]
    pub fn new() -> SystemClock {
        SystemClock { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn read(&self) -> Reading {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        Reading { unix: Timestamp(unix), elapsed: self.start.elapsed() }
    }
}

/// A clock that a test sets and steps.
#[derive(Debug)]
pub struct ManualClock {
    unix: AtomicU64,
    elapsed_secs: AtomicU64,
}

impl ManualClock {
    /// A clock that shows `unix` until it is told otherwise.
    #[must_use]
    pub fn at(unix: u64) -> ManualClock {
        ManualClock { unix: AtomicU64::new(unix), elapsed_secs: AtomicU64::new(0) }
    }

    /// Lets `secs` pass, on the wall and monotonically.
    pub fn advance(&self, secs: u64) {
        let unix = self.unix.load(Ordering::SeqCst).saturating_add(secs);
        self.unix.store(unix, Ordering::SeqCst);
        self.elapsed_secs.fetch_add(secs, Ordering::SeqCst);
    }

    /// Sets the wall clock alone, as an operator or NTP would.
    pub fn set(&self, unix: u64) {
        self.unix.store(unix, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn read(&self) -> Reading {
        Reading {
            unix: Timestamp(self.unix.load(Ordering::SeqCst)),
            elapsed: Duration::from_secs(self.elapsed_secs.load(Ordering::SeqCst)),
        }
    }
}

impl<C: Clock> Clock for std::sync::Arc<C> {
    fn read(&self) -> Reading {
        (**self).read()
    }
}
