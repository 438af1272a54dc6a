//! The targets of a restore, all together from phase to phase: a machine whose disks are half old and half new is worse
//! than one that does not boot.
//!
//! Every target is compared with its image, and what it lacks proven; where none lacks anything, that is the end. Then every
//! target is made unbootable, then every body written and proven, and then, one disk after the other, what boots is written.
//! Whatever ends this early leaves no disk that boots beside one that is not finished.

use super::context::{RestoreTarget, StepContext};
use super::listed::check_listed;
use super::verify::Verify;
use super::{damage, grow};
use crate::agent::image_failure::{image_failure, internal};
use crate::failure::{Failure, Kind};
use crate::image::phases::{Body, Bootable, CheckedTarget, ComparedTarget, ProvenImage, Unbootable};
use crate::image::{ErrorKind, ImageError, Measured, MemberMemory, RestoreOptions, Restored};
use crate::inventory::Disk;
use crate::plan::{Grown, Plan, PlanStep, SetSource};
use crate::progress::Progress;
use crate::text::human_bytes;
use crate::types::{Delta, FreeSpace, ReadTwice};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a restore knows beside the context.
pub struct Restore {
    /// Whether it reads what the disk holds first.
    pub delta: Delta,
    /// What becomes of unallocated space.
    pub free: FreeSpace,
    /// Whether what finds no room in memory is read twice.
    pub read_twice: ReadTwice,
    /// The root whose tools grow file systems.
    pub root: Option<PathBuf>,
}

impl Restore {
    /// Every disk that will be written is opened, exclusively, before the first of them is written.
    pub fn open_targets(&self, cx: &StepContext<'_>, plan: &Plan) -> Result<Vec<RestoreTarget>, Failure> {
        let restores = plan.steps.iter().filter_map(|step| match step {
            PlanStep::RestoreDisk { source, disk, grown } => Some((source, disk, grown)),
            _ => None,
        });
        let open = |(source, disk, grown): (&SetSource, &Disk, &Option<Grown>)| {
            let device = check_listed(disk, cx.world.open_target(disk)?)?;
            let device = cx.reporter.watch(device);
            Ok(RestoreTarget { source: source.clone(), disk: disk.clone(), device, grown: grown.clone() })
        };
        restores.map(open).collect()
    }

    /// Writes all targets; what there is to say of the result, and what has not grown that should. `measured` is what the
    /// images hold, by their paths.
    pub fn run(
        &self,
        cx: &StepContext<'_>,
        verify: &Verify,
        targets: &[RestoreTarget],
        measured: &BTreeMap<String, Measured>,
    ) -> Result<(Vec<String>, Option<Failure>), Failure> {
        let opened: Result<Vec<_>, Failure> =
            targets.iter().map(|target| verify.open_checked(&target.source, measured)).collect();
        let opened = opened?;
        // What the server has just proven from its disk need not be read to be proven, and then once more.
        let read_twice = if cx.folder.keeper().is_some() { ReadTwice::No } else { self.read_twice };
        let memory = MemberMemory::of_available(cx.world.system().available_memory());
        let mut bodies = Vec::new();
        for (target, (image, measured)) in targets.iter().zip(&opened) {
            let options = RestoreOptions {
                delta: self.delta,
                free: self.free,
                read_twice,
                memory: memory.clone(),
                grow: target.grown.is_some(),
                ..RestoreOptions::default()
            };
            let body = image.body(measured, &options);
            bodies.push(body.map_err(|e| image_failure(&e, &target.source.path))?);
        }
        let bodies = bodies.iter().map(|body| &**body).collect();
        let compared = compare(cx, targets, check_bodies(targets, bodies)?)?;
        if compared.iter().all(ComparedTarget::lacks_nothing) {
            return Ok((keep(cx, targets, compared)?, None));
        }
        let unbootable = make_unbootable(cx, targets, compared)?;
        let proven = write(cx, targets, unbootable)?;
        let (mut notes, mut not_grown) = (Vec::new(), None);
        for (target, proven) in targets.iter().zip(&proven) {
            match self.grow(cx, target, proven)? {
                Ok(note) => notes.extend(note),
                Err(failure) => {
                    notes.push(format!("NOT GROWN: {}", failure.what));
                    not_grown.get_or_insert(failure);
                }
            }
        }
        cx.reporter.commit()?;
        let bootable = make_bootable(cx, targets, proven)?;
        for (target, bootable) in targets.iter().zip(bootable) {
            let step = format!("rereading the partition table of {}", target.disk.name);
            let restored = phase(cx, target, &step, |_| Ok(bootable.finish()))?;
            tell_restored(cx, &target.disk, &restored);
            notes.extend(restored.table.said().map(|table| format!("{}: {table}", target.disk.name)));
        }
        Ok((notes, not_grown))
    }

    /// Has what is in a partition that has grown follow it, while its disk does not boot yet.
    fn grow(
        &self,
        cx: &StepContext<'_>,
        target: &RestoreTarget,
        proven: &ProvenImage<'_>,
    ) -> Result<Result<Option<String>, Failure>, Failure> {
        let (Some(grown), Some(root)) = (&target.grown, &self.root) else { return Ok(Ok(None)) };
        match proven.growth() {
            Some(growth) if *growth == grown.growth => Ok(grow::grow(cx, root, target, grown)?.map(Some)),
            _ => {
                Err(internal(format!("{}: its table is not the one that was planned for", target.disk.name)))
            }
        }
    }
}

fn check_bodies<'t>(
    targets: &'t [RestoreTarget],
    bodies: Vec<&'t dyn Body>,
) -> Result<Vec<CheckedTarget<'t>>, Failure> {
    let check = |(target, body): (&'t RestoreTarget, &'t dyn Body)| {
        let checked = CheckedTarget::new(&*target.device, body, &Progress::new());
        checked.map_err(|e| image_failure(&e, &target.source.path))
    };
    targets.iter().zip(bodies).map(check).collect()
}

/// Nothing is written so far, and what will be is proven.
fn compare<'t>(
    cx: &StepContext<'_>,
    targets: &'t [RestoreTarget],
    checked: Vec<CheckedTarget<'t>>,
) -> Result<Vec<ComparedTarget<'t>>, Failure> {
    let compare = |(target, checked): (&'t RestoreTarget, CheckedTarget<'t>)| {
        let (disk, path) = (&target.disk.name, &target.source.path);
        let step = format!("comparing {disk} with {path}, and reading what it lacks");
        let compared = phase(cx, target, &step, |progress| checked.compare(progress))?;
        cx.journal.info(&format!("{disk}: {}; nothing is written yet", compared.lack()));
        Ok(compared)
    };
    targets.iter().zip(checked).map(compare).collect()
}

/// All disks hold all of their images.
fn keep<'t>(
    cx: &StepContext<'_>,
    targets: &'t [RestoreTarget],
    compared: Vec<ComparedTarget<'t>>,
) -> Result<Vec<String>, Failure> {
    let mut notes = Vec::new();
    for (target, compared) in targets.iter().zip(compared) {
        let (disk, path) = (&target.disk.name, &target.source.path);
        let step = format!("flushing {disk}, which holds all of {path}");
        let restored = phase(cx, target, &step, |progress| compared.keep(progress))?;
        tell_restored(cx, &target.disk, &restored);
        notes.push(format!("{disk} held all of {path} already: nothing was written to it"));
    }
    Ok(notes)
}

fn make_unbootable<'t>(
    cx: &StepContext<'_>,
    targets: &'t [RestoreTarget],
    compared: Vec<ComparedTarget<'t>>,
) -> Result<Vec<Unbootable<'t>>, Failure> {
    let mut done = Vec::new();
    for (target, compared) in targets.iter().zip(compared) {
        let step = format!("making {} unbootable", target.disk.name);
        let made = phase(cx, target, &step, |_| compared.make_unbootable());
        done.push(made.map_err(|e| together(e, target, targets, done.len()))?);
    }
    Ok(done)
}

fn write<'t>(
    cx: &StepContext<'_>,
    targets: &'t [RestoreTarget],
    unbootable: Vec<Unbootable<'t>>,
) -> Result<Vec<ProvenImage<'t>>, Failure> {
    let write = |(target, unbootable): (&'t RestoreTarget, Unbootable<'t>)| {
        let step = format!("writing {} onto {}", target.source.path, target.disk.name);
        let written = phase(cx, target, &step, |progress| unbootable.write(progress));
        written.map_err(|e| together(e, target, targets, targets.len()))
    };
    targets.iter().zip(unbootable).map(write).collect()
}

fn make_bootable<'t>(
    cx: &StepContext<'_>,
    targets: &'t [RestoreTarget],
    proven: Vec<ProvenImage<'t>>,
) -> Result<Vec<Bootable<'t>>, Failure> {
    let mut done = Vec::new();
    for (target, proven) in targets.iter().zip(proven) {
        let step = format!("making {} bootable", target.disk.name);
        match phase(cx, target, &step, |_| proven.make_bootable()) {
            Ok(bootable) => done.push(bootable),
            // Nothing is written any more once the folder is another agent's, or the machine was given up.
            Err(failure) if cx.reporter.check().is_err() => {
                return Err(together(failure, target, targets, targets.len()));
            }
            Err(failure) => {
                let failure = together(failure, target, targets, targets.len());
                return Err(take_back(cx, targets, done, failure));
            }
        }
    }
    Ok(done)
}

/// The disks that boot already must not: one of the machine's could not be finished.
fn take_back<'t>(
    cx: &StepContext<'_>,
    targets: &'t [RestoreTarget],
    bootable: Vec<Bootable<'t>>,
    failure: Failure,
) -> Failure {
    let mut failure = failure;
    for (target, bootable) in targets.iter().zip(bootable) {
        let step = format!("making {} unbootable again", target.disk.name);
        if let Err(other) = phase(cx, target, &step, |_| bootable.take_back()) {
            failure.what = format!("{}. And then: {}", failure.what, other.what);
        }
    }
    failure
}

/// One phase of one target.
fn phase<T>(
    cx: &StepContext<'_>,
    target: &RestoreTarget,
    step: &str,
    work: impl FnOnce(&Progress) -> Result<T, ImageError>,
) -> Result<T, Failure> {
    cx.reporter.check_lease()?;
    let progress = Progress::new();
    let done = cx.reporter.during(step, Some(&target.disk.name), &progress, false, || work(&progress));
    if done.is_err() {
        // Perhaps because the folder is another agent's by now: then that is the reason.
        let _ = cx.reporter.check_lease();
    }
    cx.reporter.check()?;
    if let (Some(record), Err(e)) = (&target.source.record, &done)
        && e.kind == ErrorKind::Corrupt
    {
        let image = (&*target.source.path, &record.root_hash);
        damage::note(&cx.reporter, cx.journal, cx.folder, image, &e.to_string());
    }
    done.map_err(|e| image_failure(&e, &target.source.path))
}

fn tell_restored(cx: &StepContext<'_>, disk: &Disk, restored: &Restored) {
    cx.journal.info(&format!(
        "{}: {} bytes restored and verified: {} written and read back, {} were there already, {} are unallocated \
         and were left alone ({} of them discarded); {} are zeros. {} of the image's {} were read from the share",
        disk.name,
        restored.disk_bytes,
        restored.written_bytes,
        restored.kept_bytes,
        restored.left_bytes,
        restored.discarded_bytes,
        restored.zero_bytes,
        human_bytes(restored.read_bytes),
        human_bytes(restored.image_bytes)
    ));
    if let Some(why) = &restored.discard_error {
        cx.journal.warn(&format!("not everything unallocated was discarded: {why}"));
    }
    if let Some(why) = &restored.reread_error {
        cx.journal.warn(&format!("{}: the kernel did not reread the partition table: {why}", disk.name));
    }
}

/// What the failure of one target means for the others, of which the first `unbootable` do not boot.
fn together(
    mut failure: Failure,
    failed: &RestoreTarget,
    targets: &[RestoreTarget],
    unbootable: usize,
) -> Failure {
    let others = || targets.iter().enumerate().filter(|(_, target)| target.disk.name != failed.disk.name);
    if others().next().is_none() {
        return failure;
    }
    let disks = |is_unbootable: bool| {
        let disks = others().filter(|(n, _)| (*n < unbootable) == is_unbootable);
        disks.map(|(_, target)| target.disk.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    for (disks, state) in [(disks(true), "left unbootable with it"), (disks(false), "not touched")] {
        if !disks.is_empty() {
            failure.what = format!("{}. The other disks of this restore: {disks}: {state}", failure.what);
        }
    }
    if failure.kind != Kind::Lease {
        let rest: Vec<&str> = others().map(|(_, target)| target.source.name.as_str()).collect();
        let (advice, rest) = (&failure.advice, rest.join(","));
        failure.advice =
            format!("{advice} To restore the other disks without {}: testbox.disks={rest}", failed.disk.name);
    }
    failure
}
