//! The steps of a plan, each one call into the imaging pipelines or the share.

mod backup;
mod beyond;
mod boot_entries;
mod context;
mod damage;
mod firmware;
mod grow;
mod listed;
mod part_file;
mod publish;
mod restore;
mod space;
mod verify;

pub use backup::Backup;
pub use context::StepContext;
pub use publish::Publisher;
pub use restore::Restore;
pub use verify::Verify;

use super::image_failure::{caught, share_write};
use super::times::{BootStage, Times};
use crate::agent::info::MachineIdentity;
use crate::efi::{Esp, FirmwareRecord};
use crate::failure::{Failure, Kind};
use crate::image::Measured;
use crate::job::Action;
use crate::plan::{Plan, PlanStep};
use crate::progress::Progress;
use crate::store::layout::{INFO_TEXT, INFO_ZIP, RECORD_PENDING, part_file};
use crate::store::record::ImageRecord;
use crate::used::Beyond;
use context::RestoreTarget;
use std::collections::BTreeMap;

/// The steps of one plan.
pub struct JobRun<'a> {
    /// What all of them have.
    pub context: StepContext<'a>,
    /// What a backup has beside it.
    pub backup: Backup<'a>,
    /// What a look at an image has.
    pub verify: Verify,
    /// What a restore has.
    pub restore: Restore,
    /// What publishing has.
    pub publisher: Publisher,
    /// Where the time goes.
    pub times: &'a Times,
    /// Who the machine is.
    pub who: &'a MachineIdentity,
    /// There will be another attempt.
    pub can_resume: bool,
}

/// What the steps so far have found out and made.
#[derive(Default)]
struct Results {
    /// What all disks of the machine say of those that are imaged; asked before the first of them is.
    beyond: Option<Beyond>,
    made: Vec<ImageRecord>,
    /// What the images hold, by their paths.
    measured: BTreeMap<String, Measured>,
    /// Results that are neither success nor failure.
    notes: Vec<String>,
    /// What the firmware says, for the record.
    firmware: Option<FirmwareRecord>,
    /// The EFI system partitions of the disks that were compared.
    esps: Vec<Esp>,
}

/// What the steps of a plan have come to, where they have not failed.
#[derive(Default)]
pub struct StepOutcome {
    /// Results that are neither success nor failure.
    pub notes: Vec<String>,
    /// The data are safe, and the job is done with; but the machine needs somebody's hand.
    pub unfinished: Option<Failure>,
}

impl JobRun<'_> {
    /// Runs every step.
    pub fn all(&self, plan: &Plan) -> Result<StepOutcome, Failure> {
        let targets = self.restore.open_targets(&self.context, plan)?;
        self.publisher.check_carried(&self.context, plan)?;
        let mut results = Results { notes: plan.findings.clone(), ..Results::default() };
        let steps: Result<(), Failure> = plan.steps.iter().try_for_each(|step| {
            self.context.reporter.check_lease()?;
            let done = caught(step, || self.step(step, plan, &targets, &mut results));
            if done.is_err() {
                // Perhaps because the folder is another agent's by now: then that is the reason.
                let _ = self.context.reporter.check_lease();
            }
            self.context.reporter.check()?;
            done
        });
        let restored = steps.and_then(|()| {
            caught(&"restore", || self.restore.run(&self.context, &self.verify, &targets, &results.measured))
        });
        let mut unfinished = None;
        let mut result = restored.map(|(notes, not_grown)| {
            results.notes.extend(notes);
            unfinished = not_grown;
        });
        if result.is_ok() {
            match caught(&"boot entries", || self.boot_entries(plan, &targets, &mut results)) {
                Ok(failure) => unfinished = failure.or(unfinished),
                Err(failure) => result = Err(failure),
            }
        }
        if plan.action.is_backup()
            && let Err(failure) = &mut result
            && !matches!(failure.kind, Kind::Lease | Kind::AddressLost)
            && !(self.can_resume && is_retryable(failure.kind))
        {
            let parts = self.remove_parts(plan);
            if failure.kind == Kind::Internal {
                failure.what = format!("{}. No published image was touched{parts}", failure.what);
            }
        }
        result.map(|()| StepOutcome { notes: results.notes, unfinished })
    }

    /// The last of a restore and of a verify: what the firmware needs to find the disks.
    fn boot_entries(
        &self,
        plan: &Plan,
        targets: &[RestoreTarget],
        results: &mut Results,
    ) -> Result<Option<Failure>, Failure> {
        let recorded = plan.firmware.as_ref();
        match (plan.action, recorded) {
            (Action::Restore, _) => {
                boot_entries::put_back(&self.context, recorded, targets, &mut results.notes)
            }
            (Action::Verify, Some(recorded)) => {
                let notes = boot_entries::compare(&self.context, recorded, &results.esps);
                results.notes.extend(notes);
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// One step. The disks of a restore are written all together, once every step is done.
    fn step(
        &self,
        step: &PlanStep,
        plan: &Plan,
        targets: &[RestoreTarget],
        results: &mut Results,
    ) -> Result<(), Failure> {
        match step {
            PlanStep::CollectInfo => self.collect_info(plan.action),
            PlanStep::BackupDisk { disk, name, used, on_bad } => {
                let beyond = match results.beyond.take() {
                    Some(beyond) => beyond,
                    None => self.backup.look_beyond(&self.context, plan)?,
                };
                let beyond = results.beyond.insert(beyond);
                let firmware = match results.firmware.take() {
                    Some(firmware) => firmware,
                    None => firmware::read(&self.context, &mut results.notes),
                };
                let firmware = results.firmware.insert(firmware);
                let image = self.backup.disk(
                    &self.context,
                    disk,
                    name,
                    (*used, beyond),
                    *on_bad,
                    (&mut results.notes, firmware),
                )?;
                results.made.push(image);
                Ok(())
            }
            PlanStep::Publish(publish) => {
                self.times.enter(BootStage::Publish);
                let firmware = results.firmware.take();
                self.publisher.publish(&self.context, publish, &results.made, firmware)
            }
            PlanStep::CheckImage(source) => {
                let measured = self.verify.check_image(&self.context, source, plan.action, targets)?;
                results.measured.insert(source.path.clone(), measured);
                Ok(())
            }
            PlanStep::RestoreDisk { .. } => Ok(()),
            PlanStep::CompareDisk { source, disk } => {
                let (recorded, measured) = (plan.firmware.as_ref(), &results.measured);
                let (note, esps) =
                    self.verify.compare_disk(&self.context, source, disk, measured, recorded)?;
                results.notes.push(note);
                results.esps.extend(esps);
                Ok(())
            }
        }
    }

    fn collect_info(&self, action: Action) -> Result<(), Failure> {
        let collected = self.context.reporter.during(
            "collecting machine information",
            None,
            &Progress::default(),
            false,
            || {
                let (text, zip) = self.context.world.info(self.who);
                let files = &*self.context.folder.files;
                files.write_atomic(&self.context.folder.path(INFO_TEXT), text.as_bytes())?;
                files.write_atomic(&self.context.folder.path(INFO_ZIP), &zip?)
            },
        );
        match collected {
            Ok(()) => Ok(()),
            Err(e) if action == Action::RefreshInfo => Err(share_write("testbox-info", &e)),
            // News about the machine must not keep its disks from being saved.
            Err(e) => {
                self.context.journal.warn(&format!("cannot write testbox-info: {e}"));
                Ok(())
            }
        }
    }

    /// What nothing goes on with is of no use to anybody; a set whose publishing has begun is another matter.
    /// What became of them, for a failure's text.
    fn remove_parts(&self, plan: &Plan) -> String {
        let mut said = String::new();
        if !matches!(self.context.folder.record(RECORD_PENDING), Ok(None)) {
            return said;
        }
        for name in imaged(plan) {
            let part = self.context.folder.path(&part_file(&name));
            match self.context.folder.files.remove_if_exists(&part) {
                Ok(true) => said.push_str(&format!("; {part} was removed")),
                Ok(false) => {}
                Err(e) => {
                    self.context.journal.warn(&format!("cannot remove {part}: {e}"));
                    said.push_str(&format!("; {part} is left"));
                }
            }
        }
        said
    }
}

/// Names of the images that a plan makes.
pub fn imaged(plan: &Plan) -> Vec<String> {
    let names = plan.steps.iter().filter_map(|step| match step {
        PlanStep::BackupDisk { name, .. } => Some(name.clone()),
        _ => None,
    });
    names.collect()
}

/// True where the images that a failed backup leaves are good to go on with. After a failed write or sync they are not:
/// Linux tells once that it has lost data, and no later sync of that file tells again. A full share needs the room.
fn is_retryable(kind: Kind) -> bool {
    matches!(kind, Kind::ShareRead | Kind::DiskRead | Kind::Publish)
}
