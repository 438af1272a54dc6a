//! How a run ends: a success that disarms, a failure that is told and waits, and the shares that are closed.

use super::image_failure::internal;
use super::network::Network;
use super::share_guard::ShareGuard;
use super::world::Share;
use super::{Ending, Engine, NetReport, arming, network_report, policy};
use crate::failure::{Failure, Kind};
use crate::job::{Found, Job};
use crate::store::status::{State, Status};
use std::time::Duration;

/// How long closing one share may take at the end. A dead server must not keep the machine from rebooting.
pub(super) const CLOSE_LIMIT: Duration = Duration::from_secs(60);

impl Engine<'_> {
    /// The commit: the status says done before the PXE config goes, so that a cut between the two repeats nothing.
    pub(super) fn succeed(
        &mut self,
        job: &Job,
        network: &Network,
        armed: &Found,
        notes: Vec<String>,
    ) -> Result<Ending, Failure> {
        for note in &notes {
            self.journal.info(note);
        }
        self.lease.as_ref().ok_or_else(|| internal("no lease"))?.check()?;
        self.address.as_ref().map_or(Ok(()), |address| address.check())?;
        self.write_status(|status| {
            status.state = State::Done;
            status.step = "done".into();
            status.disk = None;
            status.notes = notes;
        });
        let tftp = self.tftp.as_ref().ok_or_else(|| internal("no TFTP share"))?;
        match arming::disarm(self.world, self.journal, network, tftp, armed)? {
            arming::Disarmed::Removed => self.journal.info(&format!("disarmed: {} is gone", armed.path)),
            arming::Disarmed::WasGone => self.journal.warn(&format!("{} was gone already", armed.path)),
            arming::Disarmed::ArmedAgain => {
                self.journal
                    .global(&format!("{} holds another job by now: the machine stays armed", armed.path));
            }
        }
        self.journal.global(&format!("{}: done", job.action));
        let mut texts =
            vec![format!("{} of {} is done", job.action, self.who.as_ref().map_or("?", |w| &w.hostname))];
        texts.extend(self.status.iter().flat_map(|s| s.notes.iter().cloned()));
        self.journal.verdict(true, &texts);
        Ok(Ending::Machine(self.settings.reboot))
    }

    /// Every failure ends here: both logs, the status, the console; then wait and reboot, hold, or a shell.
    pub(super) fn fail(&mut self, failure: &Failure) -> Ending {
        // The watchdog has said it all while this thread was stuck.
        if let Some(ending) = self.given_up {
            return ending;
        }
        // So has the guard of the shares; it waits here where it is not done yet.
        if let Some(ending) = self.guard.as_ref().and_then(ShareGuard::given_up) {
            return ending;
        }
        let (journal, system) = (self.journal, self.world.system());
        if failure.kind == Kind::Lease && self.folder.is_none() {
            // The folder is another's. All machines' log tells who was refused.
            let write = |share: &Share| journal.only_global(&*share.files, &failure.to_string());
            if let Some(Err(e)) = self.backup.as_ref().map(write) {
                journal.warn(&format!("cannot write to the log of all machines: {e}"));
            }
        }
        if self.lease.as_ref().is_some_and(|lease| lease.is_lost()) {
            // So is the status in it.
            self.status = None;
        }
        if failure.kind.is_of_network() {
            journal.report(&self.net_report().lines());
        }
        policy::fail(journal, &*system, &self.settings, failure, self.status.as_mut(), self.folder.as_ref())
    }

    pub(super) fn net_report(&self) -> NetReport {
        match &self.network {
            Some(network) => network.report(self.world),
            None => network_report(self.world),
        }
    }

    /// Status is news: a failure to write it is said, and stops nothing.
    pub(super) fn write_status(&mut self, change: impl FnOnce(&mut Status)) {
        if let Some(status) = self.status.as_mut() {
            change(status);
        }
        let (journal, system) = (self.journal, self.world.system());
        policy::write_status(journal, &*system, self.status.as_mut(), self.folder.as_ref());
    }

    /// Flushes logs and shares; each within its deadline, because a dead hard mount blocks for ever.
    pub(super) fn close(&mut self) {
        if let Some(lease) = self.lease.take()
            && let Err(e) = lease.release(CLOSE_LIMIT)
        {
            self.journal
                .warn(&format!("the lease of the folder is not released, the next agent has to wait: {e}"));
        }
        if !self.journal.detach(CLOSE_LIMIT) && self.folder.is_some() {
            self.journal.warn("the last lines of the log did not reach the share");
        }
        self.folder = None;
        for share in [self.backup.take(), self.tftp.take()].into_iter().flatten() {
            let Share { name, files, close, .. } = share;
            drop(files);
            if let Err(e) = close(CLOSE_LIMIT) {
                self.journal.warn(&format!("cannot unmount {name}: {e}"));
            }
        }
    }
}
