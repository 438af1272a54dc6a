//! Tells how a running step is getting on: `status.json` every few seconds, a console line now and then.

use super::address::Address;
use super::journal::Journal;
use super::{Ending, policy};
use crate::agent::world::World;
use crate::block::BlockDevice;
use crate::block::watched::WatchedDisk;
use crate::failure::{Failure, Kind};
use crate::job::{OnError, RebootMode, Settings};
use crate::progress::{Meter, Progress};
use crate::store::Folder;
use crate::store::layout::STATUS;
use crate::store::lease::LeaseHolder;
use crate::store::status::Status;
use crate::sys::{Reboot, System};
use crate::text::progress_line;
use crate::watch::{Finding, InFlightOps, Watch};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Every how many ticks the console gets a line.
const CONSOLE_TICKS: u32 = 3;
/// A share with less free space than this, in bytes, is full: other machines log there too.
pub const RESERVE: u64 = 64 << 20;

/// After this a disk is given up. The kernel's own retries and resets of a bad one are over by then.
const HUNG: Duration = Duration::from_secs(600);

/// How long the last lines may take to the share before a machine whose disk hangs is rebooted.
const LOG_LIMIT: Duration = Duration::from_secs(60);

/// Reports the steps of one plan, and watches its disks.
pub struct Reporter<'a> {
    system: Arc<dyn System>,
    journal: &'a Journal,
    folder: &'a Folder,
    settings: &'a Settings,
    tick: Duration,
    status: Mutex<Status>,
    disks: Arc<InFlightOps>,
    given_up: Mutex<Option<(Failure, Ending)>>,
    lease: Arc<LeaseHolder>,
    address: Option<Arc<Address>>,
    is_committed: AtomicBool,
}

impl<'a> Reporter<'a> {
    /// A reporter that goes on from this status.
    pub fn new(
        world: &dyn World,
        journal: &'a Journal,
        folder: &'a Folder,
        status: Status,
        settings: &'a Settings,
        lease: Arc<LeaseHolder>,
        address: Option<Arc<Address>>,
    ) -> Self {
        let (system, clock) = (world.system(), world.system());
        Reporter {
            system,
            journal,
            folder,
            settings,
            tick: world.tick(),
            status: Mutex::new(status),
            disks: Arc::new(InFlightOps::new(move || clock.monotonic())),
            given_up: Mutex::default(),
            lease,
            address,
            is_committed: AtomicBool::new(false),
        }
    }

    /// The status as it stands, and how the run was ended where a disk hung.
    pub fn end(self) -> (Status, Option<Ending>) {
        let given_up = self.given_up.into_inner().unwrap_or_else(PoisonError::into_inner);
        let status = self.status.into_inner().unwrap_or_else(PoisonError::into_inner);
        (status, given_up.map(|(_, ending)| ending))
    }

    /// A disk that is watched from now on.
    pub fn watch(&self, disk: Arc<dyn BlockDevice>) -> Arc<dyn BlockDevice> {
        Arc::new(WatchedDisk::new(disk, self.disks.clone()))
    }

    /// Fails where a disk hung and came back after all: by then everybody was told that this run is over. And where
    /// the folder was seen to be another agent's, or the address is lost.
    pub fn check(&self) -> Result<(), Failure> {
        let given_up = self.given_up.lock().unwrap_or_else(PoisonError::into_inner);
        let failure = given_up.as_ref().map(|(failure, _)| failure.clone()).or_else(|| self.lease.lost());
        failure.map_or_else(|| self.check_address(), Err)
    }

    /// Looks whether the folder is still this agent's, and the address this machine's.
    pub fn check_lease(&self) -> Result<(), Failure> {
        self.lease.check().and_then(|()| self.check_address())
    }

    /// Looks once more, and no more at the address from now on: all disks are proven, and either all of them become
    /// bootable or none. The end of the job looks again.
    pub fn commit(&self) -> Result<(), Failure> {
        self.check_lease()?;
        self.is_committed.store(true, Relaxed);
        Ok(())
    }

    fn check_address(&self) -> Result<(), Failure> {
        if self.is_committed.load(Relaxed) {
            return Ok(());
        }
        self.address.as_ref().map_or(Ok(()), |address| address.check())
    }

    /// Ends the machine as after any other failure, from this thread: the one that does the work is stuck in the kernel,
    /// and a process that has such a thread cannot even end. So no shell is given; the machine holds instead.
    fn give_up(&self, failure: Failure, progress: &Progress) {
        progress.cancel();
        let mut settings = self.settings.clone();
        if settings.on_error == OnError::Shell {
            settings.on_error = OnError::Hold;
        }
        let mut given_up = self.given_up.lock().unwrap_or_else(PoisonError::into_inner);
        // Held throughout: work that comes back now waits for the end of the machine.
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let (journal, system) = (self.journal, &*self.system);
        let folder = (!self.lease.is_lost()).then_some(self.folder);
        let ending = policy::fail(journal, system, &settings, &failure, Some(&mut status), folder);
        *given_up = Some((failure, ending));
        // To hold needs nothing: the work waits for the disk for ever.
        if ending == Ending::Machine(RebootMode::Reboot) {
            journal.flush(LOG_LIMIT);
            if let Err(e) = system.reboot(Reboot::Restart) {
                journal.warn(&format!("the kernel refuses to end the machine: {e}; holding"));
            }
        }
    }

    /// Runs one step and reports it meanwhile. One that `writes_images` is ended when the share is nearly
    /// full, and when the folder is another agent's; any, when the address is lost.
    pub fn during<T>(
        &self,
        step: &str,
        disk: Option<&str>,
        progress: &Progress,
        writes_images: bool,
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
                let mut watch = Watch::new(HUNG, "the disk");
                // By then the disk may hang, and is watched all the same.
                let mut is_stopped = false;
                while wait.recv_timeout(self.tick) == Err(RecvTimeoutError::Timeout) {
                    ticks = ticks.wrapping_add(1);
                    match watch.look(self.disks.oldest(), self.system.monotonic()) {
                        Some(Finding::Slow(text) | Finding::Back(text)) => self.journal.warn(&text),
                        Some(Finding::Hung(text)) => return self.give_up(hung(&text), progress),
                        None => {}
                    }
                    let lost = self.lease.lost().filter(|_| writes_images);
                    if !is_stopped && let Some(failure) = lost.or_else(|| self.check_address().err()) {
                        self.journal.warn(&format!("stopping: {}", failure.what));
                        progress.cancel();
                        is_stopped = true;
                    }
                    self.tick(progress, &mut meter);
                    if ticks.is_multiple_of(CONSOLE_TICKS) {
                        self.show();
                    }
                    let free = || self.folder.files.free_bytes(&self.folder.path(""));
                    if writes_images && free().is_ok_and(|free| free < RESERVE) {
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
        meter.update(self.system.monotonic(), progress);
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.bytes_done = done;
        status.bytes_total = total;
        status.rate = meter.rate();
        status.eta = meter.eta(total).map(|eta| eta.as_secs());
        status.updated = self.system.now();
        // Whoever has the folder by now writes there what he does himself.
        if self.lease.is_lost() {
            return;
        }
        let path = self.folder.path(STATUS);
        if let Err(e) = self.folder.files.write_atomic(&path, &status.to_bytes()) {
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

fn hung(text: &str) -> Failure {
    let advice = "the disk, its cable or its controller has stopped answering: switch the machine off and on, and look at \
                  them. What was written to a disk is not finished.";
    Failure::new(Kind::DiskHung, format!("{text}: the disk hangs"), advice)
}
