//! Counters that a running step shares with whoever shows them: console, `status.json`, `testboxctl`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Live counters of one imaging step. All figures are bytes.
///
/// Written by the pipelines, read by a reporter on another thread; each counter is exact, a set of them read
/// together is only about right, which is all a display needs.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes of disk that the step will handle; 0 while unknown.
    pub total: AtomicU64,
    /// Bytes of disk handled so far.
    pub done: AtomicU64,
    /// Of `done`: zero runs (neither compressed nor sent).
    pub zero: AtomicU64,
    /// Beside `total` and `done`: unallocated space, and what therefore was neither read nor written.
    pub skipped: AtomicU64,
    /// Of `done`: stored because they do not compress.
    pub stored: AtomicU64,
    /// Of `done`: neither compressed nor, where a cut backup goes on, written again.
    pub taken: AtomicU64,
    /// Bytes of image file written or read so far.
    pub image: AtomicU64,
    cancel: AtomicBool,
}

impl Progress {
    /// Fresh counters, shared.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Starts a step of `total` bytes: every counter back to zero.
    pub fn start(&self, total: u64) {
        self.total.store(total, Relaxed);
        for counter in [&self.done, &self.zero, &self.skipped, &self.stored, &self.taken, &self.image] {
            counter.store(0, Relaxed);
        }
    }

    /// Adds `bytes` of handled disk.
    pub fn add_done(&self, bytes: u64) {
        self.done.fetch_add(bytes, Relaxed);
    }

    /// Asks the running step to stop at the next chunk; it then ends with an error.
    pub fn cancel(&self) {
        self.cancel.store(true, Relaxed);
    }

    /// True once [`Progress::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.load(Relaxed)
    }
}

/// Time over which [`Meter`] averages.
const WINDOW: Duration = Duration::from_secs(30);

/// Rate and remaining time of a step, from what [`Progress::done`] was at several times.
///
/// An average over the last 30 seconds: steady enough to read, and soon right where a disk changes from zeros to
/// data. Times are those of a clock that never goes back.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    samples: VecDeque<(Duration, u64)>,
}

impl Meter {
    /// A meter that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that `done` bytes were handled at the time `now`. A smaller `done` than before is a new step.
    pub fn update(&mut self, now: Duration, done: u64) {
        if self.samples.back().is_some_and(|(at, before)| done < *before || now < *at) {
            self.samples.clear();
        }
        self.samples.push_back((now, done));
        // The one just outside the window stays, so that the samples span it whole.
        while self.samples.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Bytes per second; 0 until two updates at different times were seen.
    pub fn rate(&self) -> u64 {
        let (Some((from, before)), Some((to, done))) = (self.samples.front(), self.samples.back()) else {
            return 0;
        };
        let millis = to.saturating_sub(*from).as_millis();
        let bytes = u128::from(done - before) * 1000;
        bytes.checked_div(millis).map_or(0, |rate| u64::try_from(rate).unwrap_or(u64::MAX))
    }

    /// Time until `total` bytes are handled at this rate; `None` while nothing moves.
    pub fn eta(&self, total: u64) -> Option<Duration> {
        let (_, done) = self.samples.back()?;
        total.saturating_sub(*done).checked_div(self.rate()).map(Duration::from_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_meter_averages_over_its_window_and_restarts_with_a_step() {
        let seconds = Duration::from_secs;
        let mut meter = Meter::new();
        assert_eq!((meter.rate(), meter.eta(100)), (0, None));
        meter.update(seconds(0), 0);
        assert_eq!((meter.rate(), meter.eta(100)), (0, None));
        meter.update(seconds(10), 1000);
        assert_eq!((meter.rate(), meter.eta(2000)), (100, Some(seconds(10))));
        for second in 11..=60 {
            meter.update(seconds(second), 1000 + (second - 10) * 500);
        }
        assert_eq!(meter.rate(), 500, "what was slow is out of the window");
        assert_eq!(meter.eta(0), Some(seconds(0)));
        assert!(meter.samples.len() <= 32);
        meter.update(seconds(61), 10);
        assert_eq!(meter.rate(), 0);
        meter.update(seconds(61), u64::MAX);
        assert_eq!(meter.rate(), 0, "no time has passed");
        meter.update(seconds(70), u64::MAX);
        assert!(meter.rate() > 0);
    }
}
