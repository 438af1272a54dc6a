//! Tells how a running step is getting on: `status.json` every few seconds, a console line now and then.

use super::Folder;
use super::journal::Journal;
use crate::console::progress_line;
use crate::progress::{Meter, Progress};
use crate::share::write_atomic;
use crate::status::{STATUS, Status};
use crate::sys::System;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often the status is written.
const TICK: Duration = Duration::from_secs(3);
/// Every how many ticks the console gets a line.
const CONSOLE_TICKS: u32 = 3;
/// A share with less free space than this, in bytes, is full: other machines log there too.
pub const RESERVE: u64 = 64 << 20;

/// Reports the steps of one plan.
pub struct Reporter<'a> {
    system: Arc<dyn System>,
    journal: &'a Journal,
    folder: &'a Folder,
    status: Mutex<Status>,
}

impl<'a> Reporter<'a> {
    /// A reporter that goes on from this status.
    pub fn new(system: Arc<dyn System>, journal: &'a Journal, folder: &'a Folder, status: Status) -> Self {
        Reporter { system, journal, folder, status: Mutex::new(status) }
    }

    /// The status as it stands.
    pub fn into_status(self) -> Status {
        self.status.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one step and reports it meanwhile. `watches_space` ends it when the share is nearly full.
    pub fn during<T>(
        &self,
        step: &str,
        disk: Option<&str>,
        progress: &Progress,
        watches_space: bool,
        work: impl FnOnce() -> T,
    ) -> T {
        {
            let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
            status.step = step.into();
            status.disk = disk.map(Into::into);
        }
        self.journal.info(step);
        self.tick(progress, &mut Meter::new());
        std::thread::scope(|scope| {
            let (finished, wait) = mpsc::channel::<()>();
            scope.spawn(move || {
                let mut meter = Meter::new();
                let mut ticks = 0u32;
                while wait.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                    ticks = ticks.wrapping_add(1);
                    self.tick(progress, &mut meter);
                    if ticks.is_multiple_of(CONSOLE_TICKS) {
                        self.show();
                    }
                    if watches_space && self.folder.files.free_bytes().is_ok_and(|free| free < RESERVE) {
                        self.journal.warn("the backup share is nearly full: stopping");
                        progress.cancel();
                    }
                }
            });
            let result = work();
            drop(finished);
            result
        })
    }

    fn tick(&self, progress: &Progress, meter: &mut Meter) {
        let (done, total) = (progress.done.load(Relaxed), progress.total.load(Relaxed));
        meter.update(self.system.monotonic(), done);
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.bytes_done = done;
        status.bytes_total = total;
        status.rate = meter.rate();
        status.eta = meter.eta(total).map(|eta| eta.as_secs());
        status.updated = self.system.now();
        let path = self.folder.path(STATUS);
        if let Err(e) = write_atomic(&*self.folder.files, &path, &status.to_bytes()) {
            self.journal.detail(&format!("cannot write {path}: {e}"));
        }
    }

    fn show(&self) {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let line = progress_line(
            status.disk.as_deref().unwrap_or(&status.step),
            status.bytes_done,
            status.bytes_total,
            status.rate,
            status.eta.map(Duration::from_secs),
        );
        self.journal.progress(&line);
    }
}
