//! What every state of a run has: the world, where lines go, and the settings in force.

use super::times::{Times, line};
use super::{Ending, Journal, Mode, NetReport, policy};
use crate::agent::world::World;
use crate::failure::Failure;
use crate::job::{OnError, Options, Settings};
use crate::signature::{Trust, Verdict};
use crate::store::Folder;
use crate::store::status::{StageTime, Status};
use std::sync::Arc;

/// The surroundings of a run.
#[derive(Clone)]
pub struct Context<'a> {
    /// Disks, network, clock.
    pub world: &'a dyn World,
    /// Where lines go.
    pub journal: &'a Journal,
    /// Where the agent runs.
    pub mode: &'a Mode,
    /// What the initramfs says of signatures.
    pub trust: Trust,
    /// Those of the kernel command line; from [`super::named::Named`] on those of the job.
    pub settings: Settings,
    /// Where the time goes.
    pub times: Arc<Times>,
}

impl<'a> Context<'a> {
    /// The same with other options in force. A shell has the disks: where a job must be signed to touch them, an unsigned
    /// one gets no shell by failing either.
    pub fn with_options(&self, options: &Options, signed: &Verdict) -> Context<'a> {
        let mut settings = options.settings();
        if self.trust.required && signed.why_not().is_some() && settings.on_error == OnError::Shell {
            settings.on_error = OnError::Hold;
        }
        Context { settings, ..self.clone() }
    }

    /// The log says where the time of this boot went until now; so does the status, with the answer.
    pub fn tell_times(&self) -> Vec<StageTime> {
        let spent = self.times.spent();
        self.journal.info(&line(&spent));
        spent
    }

    /// Every failure ends here, unless the watch over a share that hangs has ended the run already: log, status, console;
    /// then wait and reboot, hold, or a shell. What the network looks like is asked for only where that is the reason.
    pub fn fail(
        &self,
        failure: &Failure,
        network: impl FnOnce() -> NetReport,
        mut status: Option<&mut Status>,
        folder: Option<&Folder>,
    ) -> Ending {
        if failure.kind.is_of_network() {
            self.journal.report(&network().lines());
        }
        let spent = self.tell_times();
        if let Some(status) = &mut status {
            status.stages = spent;
        }
        policy::fail(self.journal, &*self.world.system(), &self.settings, failure, status, folder)
    }
}
