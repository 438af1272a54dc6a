//! What all disks of the machine hold of layers that read free space: asked before the first of them is imaged.

use super::backup::Backup;
use super::context::StepContext;
use crate::agent::image_failure::caught;
use crate::block::View;
use crate::failure::Failure;
use crate::plan::{Plan, PlanStep};
use crate::progress::Progress;
use crate::used::{Beyond, Used};

impl Backup<'_> {
    /// A hash tree of dm-verity can lie on another disk than its file system, and on one that is not imaged. Nothing is
    /// looked at where the plan leaves no free space out.
    pub(super) fn look_beyond(&self, cx: &StepContext<'_>, plan: &Plan) -> Result<Beyond, Failure> {
        let mut beyond = Beyond::default();
        let thins = |step: &PlanStep| matches!(step, PlanStep::BackupDisk { used, .. } if *used != Used::Off);
        if !plan.steps.iter().any(thins) {
            return Ok(beyond);
        }
        for disk in self.disks {
            let progress = Progress::new();
            let step = format!("looking for what reads free space on {}", disk.name);
            let look = || match cx.open_source(disk) {
                Ok(device) => {
                    beyond.look(&View::new(&*device, &progress), &disk.name, disk.logical_block_size)
                }
                Err(failure) => beyond.cannot_look(&disk.name, &failure.what),
            };
            caught(&step, || {
                cx.reporter.during(&step, Some(&disk.name), &progress, false, look);
                Ok(())
            })?;
        }
        if let Some(why) = beyond.why() {
            cx.journal.warn(&format!("no file system of this machine is thinned: {why}"));
        }
        Ok(beyond)
    }
}
