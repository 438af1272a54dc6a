//! Counters that a running step shares with whoever shows them: console, `status.json`, `testboxctl`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

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
    /// Of `done`: stored because they do not compress.
    pub stored: AtomicU64,
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
        for counter in [&self.done, &self.zero, &self.stored, &self.image] {
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
