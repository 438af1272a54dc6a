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

    /// Goes on with the next part of a step, of `total` bytes of disk; what was read or written of image files stays.
    pub fn restart(&self, total: u64) {
        let image = self.image.load(Relaxed);
        self.start(total);
        self.image.store(image, Relaxed);
    }

    /// Adds `bytes` of handled disk.
    pub fn add_done(&self, bytes: u64) {
        self.done.fetch_add(bytes, Relaxed);
    }

    /// Bytes of disk handled so far that were more than zeros: what a rate is made of.
    pub fn moved(&self) -> u64 {
        self.done.load(Relaxed).saturating_sub(self.zero.load(Relaxed))
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
    samples: VecDeque<Sample>,
}

/// What was seen at a time.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Duration,
    done: u64,
    moved: u64,
}

impl Meter {
    /// A meter that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes how far a step is at the time `now`. Fewer bytes done than before are a new step.
    pub fn update(&mut self, now: Duration, progress: &Progress) {
        self.note(now, progress.done.load(Relaxed), progress.moved());
    }

    fn note(&mut self, at: Duration, done: u64, moved: u64) {
        if self.samples.back().is_some_and(|before| done < before.done || at < before.at) {
            self.samples.clear();
        }
        self.samples.push_back(Sample { at, done, moved });
        // The one just outside the window stays, so that the samples span it whole.
        while self.samples.get(1).is_some_and(|sample| at.saturating_sub(sample.at) >= WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Bytes per second, without zeros and holes, which cost next to no time; 0 until two updates at different times were
    /// seen.
    pub fn rate(&self) -> u64 {
        self.pace(|sample| sample.moved)
    }

    fn pace(&self, bytes: impl Fn(&Sample) -> u64) -> u64 {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else { return 0 };
        let millis = last.at.saturating_sub(first.at).as_millis();
        let bytes = u128::from(bytes(last).saturating_sub(bytes(first))) * 1000;
        bytes.checked_div(millis).map_or(0, |rate| u64::try_from(rate).unwrap_or(u64::MAX))
    }

    /// Time until `total` bytes are handled, zeros as fast as lately; `None` while nothing moves.
    pub fn eta(&self, total: u64) -> Option<Duration> {
        let done = self.samples.back()?.done;
        total.saturating_sub(done).checked_div(self.pace(|sample| sample.done)).map(Duration::from_secs)
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
        meter.note(seconds(0), 0, 0);
        assert_eq!((meter.rate(), meter.eta(100)), (0, None));
        meter.note(seconds(10), 1000, 1000);
        assert_eq!((meter.rate(), meter.eta(2000)), (100, Some(seconds(10))));
        for second in 11..=60 {
            meter.note(seconds(second), 1000 + (second - 10) * 500, 1000 + (second - 10) * 500);
        }
        assert_eq!(meter.rate(), 500, "what was slow is out of the window");
        assert_eq!(meter.eta(0), Some(seconds(0)));
        assert!(meter.samples.len() <= 32);
        meter.note(seconds(61), 10, 10);
        assert_eq!(meter.rate(), 0);
        meter.note(seconds(61), u64::MAX, u64::MAX);
        assert_eq!(meter.rate(), 0, "no time has passed");
        meter.note(seconds(70), u64::MAX, u64::MAX);
        assert!(meter.rate() > 0);
    }

    #[test]
    fn rates_count_neither_zeros_nor_holes_and_times_do() {
        let (seconds, progress, mut meter) = (Duration::from_secs, Progress::default(), Meter::new());
        meter.update(seconds(0), &progress);
        progress.add_done(1 << 40);
        progress.zero.fetch_add(1 << 40, Relaxed);
        meter.update(seconds(4), &progress);
        assert_eq!((meter.rate(), meter.eta(3 << 39)), (0, Some(seconds(2))), "a hole of 1 TiB");
        progress.add_done(4000);
        meter.update(seconds(8), &progress);
        assert_eq!(meter.rate(), 500);
    }
}
