//! The folder is this agent's: the job is carried out, and the machine disarmed.

use super::connected::Connected;
use super::context::Context;
use super::named::Named;
use super::proven::{BootFiles, ProvenJob};
use super::report::Reporter;
use super::shares::Shares;
use super::steps::{Backup, Publisher, Restore, StepContext, StepOutcome, Verify};
use super::times::BootStage;
use super::{Ending, Mode, arming, own_boot, policy, steps};
use crate::agent::world::Purpose;
use crate::failure::{Failure, Kind};
use crate::inventory::Inventory;
use crate::inventory::pci::{self, PciClass};
use crate::job::{Action, Grow, Job};
use crate::plan::{self, Plan, PlanRequest};
use crate::store::layout::RECORD;
use crate::store::lease::LeaseHolder;
use crate::store::protocol::{DisarmResult, Recovery};
use crate::store::publish;
use crate::store::record::Machine;
use crate::store::status::{JobState, Status};
use crate::store::{Folder, cannot_write};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The lease is held, and the attempt counted.
pub struct Working<'c, 'a> {
    pub connected: &'c Connected<'a>,
    pub lease: Arc<LeaseHolder>,
    pub status: Status,
}

/// How the steps of a plan have ended, where they have not failed.
enum Worked {
    Done(StepOutcome),
    /// The watchdog has ended the run, whose disk hung.
    GivenUp(Ending),
}

impl Working<'_, '_> {
    /// Carries the job out, and disarms the machine; or only disarms it, where it is done.
    ///
    /// # Errors
    /// Those of the job, the plan and its steps, and of disarming.
    pub fn perform(&mut self, shares: &mut Shares<'_>) -> Result<Ending, Failure> {
        let Connected { named, proven, .. } = self.connected;
        let job = named.order.job()?;
        arming::check(&proven.armed)?;
        if let Some(unsigned) = &named.unsigned {
            return Err(unsigned.clone());
        }
        if let Some(outcome) = self.finish_earlier_attempt(&job)? {
            return self.succeed(&job, outcome);
        }
        self.refuse_late(&job)?;
        self.refuse_again(&job)?;
        match self.carry_out(&job, shares)? {
            Worked::Done(outcome) => self.succeed(&job, outcome),
            Worked::GivenUp(ending) => Ok(ending),
        }
    }

    fn context(&self) -> &Context<'_> {
        &self.connected.named.context
    }

    fn folder(&self) -> &Folder {
        &self.connected.proven.folder
    }

    /// What an earlier boot with the same job has left: a set that was cut while it was published is completed or
    /// rolled back. A job that is done is only disarmed, with the notes of then.
    fn finish_earlier_attempt(&self, job: &Job) -> Result<Option<StepOutcome>, Failure> {
        let Context { journal, ref settings, .. } = *self.context();
        let folder = self.folder();
        let id = job.id.as_ref().map(|id| id.as_str().to_owned());
        // Only the action that made a set removes older ones.
        let maker = id.as_deref().filter(|_| job.action.is_backup());
        let recovery = match &self.lease.recovery {
            Some(recovery) => recovery.clone(),
            None => publish::recover(folder, maker, settings.keep, &|| self.lease.check())?,
        };
        match recovery {
            Recovery::Nothing => {}
            Recovery::Completed(generation) => {
                journal.global(&format!("completed set {generation}, whose publishing was cut"));
            }
            Recovery::RolledBack(why) => {
                journal.warn(&format!("rolled back a set whose publishing was cut: {why}"));
            }
        }
        let Status { ref notes, state, code, .. } = self.status;
        let is_published =
            id.is_some() && job.action.is_backup() && folder.record(RECORD)?.is_some_and(|r| r.job == id);
        if state == JobState::Done || is_published {
            journal.global(&format!("{}: this job is done already; disarming", job.action));
            let kind = Kind::ALL.iter().find(|kind| kind.is_of_done_job() && code == Some(kind.code()));
            let unfinished = kind.map(|kind| {
                let left = match kind {
                    Kind::NotGrown => "a file system did not grow",
                    _ => "the boot entries were not put back",
                };
                let what = format!("the disks are restored and verified, but {left}");
                Failure::new(*kind, what, "read maintenance.log for the reason and what to do.")
            });
            return Ok(Some(StepOutcome { notes: notes.clone(), unfinished }));
        }
        Ok(None)
    }

    /// A job that has expired is not begun, and its file is removed: the machine boots its own system again.
    fn refuse_late(&mut self, job: &Job) -> Result<(), Failure> {
        let Some(expires) = job.settings.expires else { return Ok(()) };
        let Connected { named, proven, .. } = self.connected;
        let folder = &proven.folder;
        let now = folder.files.clock(&folder.path(""));
        let now = now.map_err(|e| cannot_write("have the server of the backups tell its time", &e))?;
        let Err(failure) = expires.check(now, &proven.backup.name) else { return Ok(()) };
        let status = &mut self.status;
        status.state = JobState::Failed;
        status.error = Some(failure.to_string());
        status.code = Some(failure.kind.code());
        policy::write_status(named.context.journal, &*named.context.world.system(), status, folder);
        self.disarm()?;
        Err(failure)
    }

    fn refuse_again(&self, job: &Job) -> Result<(), Failure> {
        let attempts = self.context().settings.attempts;
        if self.status.attempt <= attempts {
            return Ok(());
        }
        let what = format!("{} was tried {attempts} times without success", job.action);
        let advice = "read maintenance.log for the reason; arm the machine again when it is mended.";
        Err(Failure::new(Kind::TooManyAttempts, what, advice))
    }

    fn carry_out(&mut self, job: &Job, shares: &mut Shares<'_>) -> Result<Worked, Failure> {
        let Connected { named, address, proven, .. } = self.connected;
        let Context { world, journal, ref settings, .. } = named.context;
        let (folder, who) = (&proven.folder, &named.who);
        let times = &named.context.times;
        let inventory =
            if job.action == Action::RefreshInfo { Inventory::default() } else { self.inventory()? };
        let plan = self.plan(job, &inventory)?;
        let images = match job.action {
            // Images are read through a mount that cannot write them.
            Action::Restore | Action::Verify if folder.keeper().is_none() => {
                let share = named.mount(shares, Purpose::Images, settings.mount_wait)?;
                Folder::new(share.files, folder.path(""))
            }
            _ => folder.clone(),
        };
        let machine =
            Machine { ip: who.ip.to_string(), hexip: who.hexip.clone(), hostname: who.hostname.clone() };
        let (status, lease) = (self.status.clone(), self.lease.clone());
        let can_resume = status.attempt < settings.attempts;
        let publisher = Publisher { machine, job_id: status.job.clone(), keep: settings.keep };
        let reporter = Reporter::new(world, journal, folder, status, settings, lease, address.clone());
        let run = steps::JobRun {
            context: StepContext { world, journal, folder, reporter },
            backup: Backup { disks: &inventory.disks, export: proven.backup.export.as_ref() },
            verify: Verify { images, degraded: settings.degraded },
            restore: Restore {
                delta: settings.delta,
                free: settings.free,
                read_twice: settings.read_twice,
                root: self.root().cloned(),
            },
            publisher,
            times,
            who,
            can_resume,
        };
        times.enter(BootStage::Work);
        let result = run.all(&plan);
        let (status, given_up) = run.context.reporter.end();
        self.status = status;
        given_up.map_or_else(|| result.map(Worked::Done), |ending| Ok(Worked::GivenUp(ending)))
    }

    fn plan(&self, job: &Job, inventory: &Inventory) -> Result<Plan, Failure> {
        let Context { journal, ref settings, ref trust, .. } = *self.context();
        let mut state = self.folder().state(trust)?;
        if let Some(smallest) = inventory.disks.iter().map(|disk| disk.size).min()
            && job.action == Action::Restore
        {
            self.folder().ask_needed(&mut state, smallest)?;
        }
        let request = PlanRequest {
            action: job.action,
            disks: job.options.disks.clone(),
            map: job.options.map.clone(),
            used: settings.used,
            bad_sectors: settings.bad_sectors,
            degraded: settings.degraded,
            set: job.options.set,
            signed_for: trust.required.then_some(self.connected.named.who.ip),
            failing_disk: settings.failing_disk,
        };
        let mut plan =
            plan::plan(&request, inventory, &state).map_err(|failure| self.without_disk(failure))?;
        if settings.grow == Grow::Last {
            self.plan_growth(&mut plan)?;
        }
        plan.findings.iter().for_each(|finding| journal.warn(finding));
        journal.lines(&plan.to_string());
        if job.action.is_backup() {
            // The agent that was taken over may have its images open, and come back: they are made under new files.
            let resumed = if self.lease.is_from_another { Vec::new() } else { steps::imaged(&plan) };
            // Settling has taken a while.
            self.lease.check()?;
            publish::sweep(self.folder(), &resumed)?;
        }
        Ok(plan)
    }

    /// The NFS root, whose tools grow file systems.
    fn root(&self) -> Option<&PathBuf> {
        match self.context().mode {
            Mode::NfsRoot(root) => Some(root),
            Mode::AgentOnly => None,
        }
    }

    /// Only images that go to larger disks are asked.
    fn plan_growth(&self, plan: &mut Plan) -> Result<(), Failure> {
        let system = self.context().world.system();
        let mut images = BTreeMap::new();
        for path in plan.larger() {
            let found = self.folder().growable(&path)?;
            images.insert(path, found);
        }
        let root = self.root();
        let has = |name: &str| root.is_some_and(|root| system.has_program(root, name));
        plan::plan_growth(plan, &images, root.is_some(), &has)
    }

    /// A machine without a disk may have a controller that nothing drives.
    fn without_disk(&self, mut failure: Failure) -> Failure {
        let blame = pci::blame(&self.context().world.pci(), PciClass::Storage);
        if failure.kind == Kind::NoDisk && !blame.is_empty() {
            failure.what += &blame;
            failure.advice = format!("{} Or {}", failure.advice, pci::NO_DRIVER);
        }
        failure
    }

    /// The disk list once it has stopped changing: a driver that is late must not make a disk look gone.
    fn inventory(&self) -> Result<Inventory, Failure> {
        let Context { world, journal, ref settings, ref times, .. } = *self.context();
        let (disks, wait) = (&self.connected.disks, settings.settle);
        times.enter(BootStage::Settle);
        let over = disks.quiet().min(wait).as_secs();
        journal.info(&format!("waiting for the disks to settle ({} s, {over} s of it over)", wait.as_secs()));
        let found = disks.settled(wait);
        times.enter(BootStage::Plan);
        for device in pci::without_driver(&world.pci(), PciClass::Storage) {
            journal
                .info(&format!("no driver is bound to the disk controller {device}: its disks are not seen"));
        }
        let mut inventory = found.map_err(|e| {
            Failure::new(
                Kind::Inventory,
                e.to_string(),
                "look for a disk, cable or controller that comes and goes.",
            )
        })?;
        for disk in &mut inventory.disks {
            disk.health = world.health(disk);
            if !disk.health.locked {
                disk.content = world.content(disk);
                disk.raid = std::mem::take(&mut disk.content.raid);
            }
            journal.info(&format!("disk {disk}"));
        }
        Ok(inventory)
    }

    /// The commit: the status says done before the PXE config goes, so that a cut between the two repeats nothing.
    fn succeed(&mut self, job: &Job, outcome: StepOutcome) -> Result<Ending, Failure> {
        let StepOutcome { notes, unfinished } = outcome;
        let Connected { named, address, proven, .. } = self.connected;
        let Named { context, who, .. } = named;
        let Context { world, journal, ref settings, .. } = *context;
        notes.iter().for_each(|note| journal.info(note));
        context.times.enter(BootStage::Disarm);
        self.lease.check()?;
        address.as_ref().map_or(Ok(()), |address| address.check())?;
        let status = &mut self.status;
        status.state = JobState::Done;
        status.step = "done".into();
        status.disk = None;
        status.notes = notes;
        status.stages = context.times.spent();
        if let Some(failure) = &unfinished {
            status.code = Some(failure.kind.code());
        }
        policy::write_status(journal, &*world.system(), status, &proven.folder);
        self.disarm()?;
        if let Some(failure) = unfinished {
            return Err(failure);
        }
        journal.global(&format!("{}: done", job.action));
        context.tell_times();
        let mut texts = vec![format!("{} of {} is done", job.action, who.hostname)];
        texts.extend(self.status.notes.iter().cloned());
        journal.verdict(true, &texts);
        Ok(Ending::Machine(settings.reboot))
    }

    fn disarm(&self) -> Result<(), Failure> {
        let Connected { named, proven, .. } = self.connected;
        let Named { context: Context { world, journal, .. }, network, .. } = named;
        let ProvenJob { boot, armed, .. } = proven;
        own_boot::tell_loader(*world, journal, network, boot);
        let disarmed = match boot {
            BootFiles::Mounted(tftp) => arming::disarm(*world, journal, network, tftp, armed)?,
            BootFiles::Kept(keeper) => keeper.disarm()?,
        };
        match disarmed {
            DisarmResult::Removed => journal.info(&format!("disarmed: {} is gone", armed.path)),
            DisarmResult::WasGone => journal.warn(&format!("{} was gone already", armed.path)),
            DisarmResult::ArmedAgain => {
                journal.global(&format!("{} holds another job by now: the machine stays armed", armed.path));
            }
        }
        Ok(())
    }

    /// Ends the run with this failure.
    pub fn fail(&mut self, shares: &Shares<'_>, failure: &Failure) -> Ending {
        let Connected { named, proven, .. } = self.connected;
        // Where the folder is another agent's by now, so is the status in it.
        let status = if self.lease.is_lost() { None } else { Some(&mut self.status) };
        named.fail(shares, failure, status, Some(&proven.folder))
    }
}
