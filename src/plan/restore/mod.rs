//! The plan of `restore` and `verify`: which set is trusted, and which disk each image goes to.
//!
//! An image goes to the disk whose identity it records, while that is unique, and no newer record knows the disk in
//! another role. A replaced disk, the main case of a restore, is accepted only when nothing else can be meant: the
//! recorded disk is gone, exactly one disk is left that fits, it is plugged in where the recorded disk was, and no
//! record knows it in another role. A disk somewhere else may be one that was added since, with data on it: that wants
//! the admin's word (`testbox.map`).

mod foreign;
#[cfg(test)]
mod property;
mod set;
mod target;
#[cfg(test)]
mod tests;
mod verified;
mod veto;

use super::memory::{Memory, known};
use super::{Plan, PlanRequest, PlanStep, SetSource};
use crate::failure::{Failure, Kind};
use crate::inventory::Inventory;
use crate::job::Action;
use crate::job::DegradedSet;
use crate::store::ShareState;
use crate::store::record::{ImageRecord, SetState};

pub(super) fn plan(
    request: &PlanRequest,
    inventory: &Inventory,
    share: &ShareState,
) -> Result<Plan, Failure> {
    let mut plan = Plan {
        action: request.action,
        notes: Vec::new(),
        findings: Vec::new(),
        steps: Vec::new(),
        firmware: None,
    };
    if share.record.is_none() && share.history.iter().all(|h| h.record.is_none()) {
        verified::refuse_without_record(request)?;
        foreign::plan(request, inventory, share, &mut plan)?;
        return Ok(plan);
    }
    let memory = Memory::new(inventory, share);
    let set = set::trusted(request, inventory, share, &mut plan.findings)?;
    plan.firmware = set.record.firmware.clone();
    let degraded: Vec<_> =
        set.images.iter().filter(|i| i.state == SetState::Degraded).map(|i| i.file()).collect();
    if !degraded.is_empty() {
        let what = format!(
            "DEGRADED: set {}: parts of the disk could not be read and are zeros in {}",
            set.record.generation,
            degraded.join(", ")
        );
        if request.action == Action::Restore && request.degraded != DegradedSet::Restore {
            return Err(refuse_degraded(what));
        }
        plan.findings.push(what);
    }
    let source = |image: &ImageRecord| SetSource {
        path: format!("{}{}", set.folder, image.file()),
        name: image.name.clone(),
        record: Some(image.clone()),
        is_mapped: false,
    };
    if request.action == Action::Verify {
        for image in &set.images {
            plan.steps.push(PlanStep::CheckImage(source(image)));
        }
        for image in &set.images {
            let entry = known(set.record).find(|entry| entry.is_image(&image.name));
            let disk = entry.and_then(|e| memory.disk_of(&e).or_else(|| memory.in_place(set.record, image)));
            if let Some(disk) = disk {
                plan.steps.push(PlanStep::CompareDisk { source: source(image), disk: disk.clone() });
                continue;
            }
            let is_here = memory.matching_disks(&image.identity).next().is_some();
            let why = if is_here { "cannot be told from another one" } else { "is not here" };
            let (file, identity) = (image.file(), &image.identity);
            plan.notes.push(format!("{file} is not compared: its disk ({identity}) {why}"));
        }
        return Ok(plan);
    }
    let targets = target::assign(request, &memory, &set, &mut plan)?;
    for disk in &inventory.disks {
        if !targets.iter().any(|t| t.name == disk.name) {
            plan.notes.push(format!("not written: {disk}"));
        }
    }
    plan.steps.extend(set.images.iter().map(|i| PlanStep::CheckImage(source(i))));
    for (image, disk) in set.images.iter().zip(targets) {
        plan.steps.push(PlanStep::RestoreDisk { source: source(image), disk: disk.clone(), grown: None });
    }
    Ok(plan)
}

/// A restore of what is known to have holes is nothing to be done by accident.
pub(crate) fn refuse_degraded(what: String) -> Failure {
    Failure::new(
        Kind::Degraded,
        what,
        "nothing was written. The .map file beside each image has the places. A complete set may be in history/: move the \
         current one away to use it. To restore the degraded one all the same: testbox.degraded=restore.",
    )
}
