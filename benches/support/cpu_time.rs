//! Criterion's clock is the CPU time of the thread, so that what else the machine does has less of a
//! say.

use std::time::Duration;

use criterion::Throughput;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_THREAD_CPUTIME_ID`.
pub(crate) struct CpuTime;

impl CpuTime {
    pub(crate) fn now() -> Duration {
        let read = clock_gettime(ClockId::ThreadCPUTime);
        let secs = u64::try_from(read.tv_sec).expect("time since the thread began");
        let nanos = u32::try_from(read.tv_nsec).expect("below a second");
        Duration::new(secs, nanos)
    }
}

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        CpuTime::now()
    }

    fn end(&self, start: Duration) -> Duration {
        CpuTime::now() - start
    }

    fn add(&self, one: &Duration, two: &Duration) -> Duration {
        *one + *two
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

/// One operation at a time.
pub(crate) const ONE: Throughput = Throughput::Elements(1);
