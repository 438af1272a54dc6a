//! The steps of a plan, each one call into the imaging pipelines or the share.

use super::image_failure::{
    bad_sector, caught, degraded_note, image_failure, internal, no_space, share_write,
};
use super::journal::Journal;
use super::listed::check_listed;
use super::part_file::PartFile;
use super::report::Reporter;
use super::restore::Target;
use super::space::Room;
use crate::agent::info::Who;
use crate::agent::world::World;
use crate::block::BlockDevice;
use crate::failure::{Failure, Kind};
use crate::image::{self, BackupOptions, DiskAbout, ErrorKind, Image, ImageError, Measured, ReadBack};
use crate::inventory::Disk;
use crate::job::Action;
use crate::job::DegradedSet;
use crate::net::quota::Export;
use crate::plan::{OnBad, Plan, Publish, Source, Step};
use crate::progress::Progress;
use crate::store::Folder;
use crate::store::layout::{INFO_TEXT, INFO_ZIP, PART, RECORD, RECORD_PENDING, image_file, part_file};
use crate::store::publish;
use crate::store::record::{BAD_RANGES, BadRange, ImageRecord, Machine, Record, SetState};
use crate::text::with_sources;
use crate::types::{Delta, FreeSpace};
use crate::used::{self, Beyond, Map, Used};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Everything that the steps of one plan share.
pub struct Run<'a> {
    /// Disks and the machine's facts.
    pub world: &'a dyn World,
    /// All disks of the machine, those that no step names too.
    pub disks: &'a [Disk],
    /// Where lines go.
    pub journal: &'a Journal,
    /// The machine's folder, writable.
    pub folder: &'a Folder,
    /// Where its share is mounted from.
    pub export: &'a Export,
    /// The same folder through the mount that images are read from.
    pub images: Folder,
    /// Who the machine is.
    pub who: &'a Who,
    /// The same, for the record.
    pub machine: Machine,
    /// The job, for the record.
    pub job_id: Option<String>,
    /// Sets to keep in the history.
    pub keep: u32,
    /// Whether a restore reads what the disk holds first.
    pub delta: Delta,
    /// What a restore does with unallocated space.
    pub free: FreeSpace,
    /// What a degraded set may do.
    pub degraded: DegradedSet,
    /// There will be another attempt.
    pub may_go_on: bool,
    /// Tells how it goes.
    pub reporter: Reporter<'a>,
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
}

impl Run<'_> {
    /// Runs every step. What is returned are results that are neither success nor failure.
    pub fn all(&self, plan: &Plan) -> Result<Vec<String>, Failure> {
        let targets = self.open_targets(plan)?;
        self.check_carried(plan)?;
        let mut results = Results { notes: plan.findings.clone(), ..Results::default() };
        let steps: Result<(), Failure> = plan.steps.iter().try_for_each(|step| {
            self.reporter.check_lease()?;
            let done = caught(step, || self.step(step, plan, &targets, &mut results));
            if done.is_err() {
                // Perhaps because the folder is another agent's by now: then that is the reason.
                let _ = self.reporter.check_lease();
            }
            self.reporter.check()?;
            done
        });
        let mut result =
            steps.and_then(|()| caught(&"restore", || self.restore(&targets, &results.measured)));
        if plan.action.is_backup()
            && let Err(failure) = &mut result
            && !matches!(failure.kind, Kind::Lease | Kind::AddressLost)
            && !(self.may_go_on && is_gone_on_after(failure.kind))
        {
            let parts = self.remove_parts(plan);
            if failure.kind == Kind::Internal {
                failure.what = format!("{}. No published image was touched{parts}", failure.what);
            }
        }
        result.map(|()| results.notes)
    }

    /// One step. The disks of a restore are written all together, once every step is done.
    fn step(
        &self,
        step: &Step,
        plan: &Plan,
        targets: &[Target],
        results: &mut Results,
    ) -> Result<(), Failure> {
        match step {
            Step::CollectInfo => self.collect_info(plan.action),
            Step::BackupDisk { disk, name, used, on_bad } => {
                let beyond = match results.beyond.take() {
                    Some(beyond) => beyond,
                    None => self.look_beyond(plan)?,
                };
                let beyond = results.beyond.insert(beyond);
                let image = self.backup_disk(disk, name, (*used, beyond), *on_bad, &mut results.notes)?;
                results.made.push(image);
                Ok(())
            }
            Step::Publish(publish) => self.publish(publish, &results.made),
            Step::CheckImage(source) => {
                let measured = self.check_image(source, plan.action, targets)?;
                results.measured.insert(source.path.clone(), measured);
                Ok(())
            }
            Step::RestoreDisk { .. } => Ok(()),
            Step::CompareDisk { source, disk } => {
                results.notes.push(self.compare_disk(source, disk, &results.measured)?);
                Ok(())
            }
        }
    }

    fn collect_info(&self, action: Action) -> Result<(), Failure> {
        let collected =
            self.reporter.during("collecting machine information", None, &Progress::default(), false, || {
                let (text, zip) = self.world.info(self.who);
                let files = &*self.folder.files;
                files.write_atomic(&self.folder.path(INFO_TEXT), text.as_bytes())?;
                files.write_atomic(&self.folder.path(INFO_ZIP), &zip?)
            });
        match collected {
            Ok(()) => Ok(()),
            Err(e) if action == Action::RefreshInfo => Err(share_write("testbox-info", &e)),
            // News about the machine must not keep its disks from being saved.
            Err(e) => {
                self.journal.warn(&format!("cannot write testbox-info: {e}"));
                Ok(())
            }
        }
    }

    fn backup_disk(
        &self,
        disk: &Disk,
        name: &str,
        (used, beyond): (Used, &Beyond),
        on_bad: OnBad,
        notes: &mut Vec<String>,
    ) -> Result<ImageRecord, Failure> {
        let part = part_file(name);
        let before = self.folder.record(RECORD)?;
        let before = before.as_ref().and_then(|record| record.image(name));
        let Run { world, journal, folder, export, .. } = *self;
        Room { world, journal, folder, export }.check(disk, name, before)?;
        let device = self.open_source(disk)?;
        let about = DiskAbout::new(name, disk.identity.clone(), &*device);
        let base = before.and_then(|image| self.base(image, disk));
        let allow_bad_sectors = on_bad == OnBad::Zeros;
        let used = self.look(&*device, used, beyond);
        let opts = BackupOptions { used, allow_bad_sectors, ..BackupOptions::default() };
        // Looking at the disk can have taken long.
        self.reporter.check_lease()?;
        let file = PartFile { reporter: &self.reporter, folder, journal, disk, name, before };
        let made = image::backup_verified(&*device, &about, &opts, base, ReadBack::TrustBase, &file);
        let (written, image) = made.map_err(|e| self.no_image(&e, name, on_bad))?;
        let (summary, partitions) = (image.summary(), image.header().found.list.clone());
        let bad = image.unreadable_ranges().map_err(|e| image_failure(&e, &part))?;
        drop(device);
        if let Some(why) = &written.bad_base {
            // The old set is published: nothing may be written into it. Whoever relies on it must know.
            let note = format!(
                "DAMAGED: {} of the set before: {why}; {} places of it were bad. The new image was made from the \
                 disk there. Do not rely on the old one, and check the file server",
                image_file(name),
                written.retaken_bad
            );
            self.journal.global(&note);
            notes.push(note);
        }
        if summary.degraded {
            if on_bad != OnBad::Zeros {
                return Err(internal(format!("{part} is degraded, and must not be")));
            }
            let note = degraded_note(disk, name, &bad);
            self.journal.banner(std::slice::from_ref(&note));
            self.journal.global(&note);
            notes.push(note);
        }
        let bad_range =
            |range: &Range<u64>| BadRange { offset: range.start, length: range.end - range.start };
        Ok(ImageRecord {
            name: name.into(),
            identity: disk.identity.clone(),
            location: disk.location.clone(),
            disk_size: disk.size,
            logical_block_size: disk.logical_block_size,
            physical_block_size: disk.physical_block_size,
            image_size: summary.image,
            root_hash: summary.root_hash,
            state: if summary.degraded { SetState::Degraded } else { SetState::Complete },
            bad_ranges: bad.iter().take(BAD_RANGES).map(bad_range).collect(),
            unreadable_bytes: summary.unreadable,
            hidden_bytes: disk.health.hidden,
            partitions,
            content: disk.content.clone(),
            twin: disk.is_twin,
            carried: false,
        })
    }

    pub(super) fn open_source(&self, disk: &Disk) -> Result<Arc<dyn BlockDevice>, Failure> {
        Ok(self.reporter.watch(check_listed(disk, self.world.open_source(disk)?)?))
    }

    /// What of the disk need not be imaged; the log says for each partition what was found.
    fn look(&self, device: &dyn BlockDevice, mode: Used, beyond: &Beyond) -> Arc<Map> {
        let progress = Progress::new();
        let step = format!("looking for what is used of {}", device.name());
        let look = || used::survey_beside(device, mode, beyond, &progress);
        let (map, lines) = self.reporter.during(&step, Some(device.name()), &progress, false, look);
        lines.iter().for_each(|line| self.journal.info(line));
        Arc::new(map)
    }

    /// Why there is no image of a disk.
    fn no_image(&self, error: &ImageError, name: &str, on_bad: OnBad) -> Failure {
        if error.kind == ErrorKind::Cancelled {
            return self.reporter.check().err().unwrap_or_else(|| no_space(name));
        }
        let part = part_file(name);
        if error.is_bad_sector() { bad_sector(error, &part, on_bad) } else { image_failure(error, &part) }
    }

    /// The current image of the disk, where it is the one that the record names: the base of the new one.
    fn base(&self, image: &ImageRecord, disk: &Disk) -> Option<Arc<Image>> {
        let file = image.file();
        let open = || -> Result<Arc<Image>, String> {
            let opened = self.folder.files.open(&self.folder.path(&file)).map_err(|e| e.to_string())?;
            let opened = Image::open(opened).map_err(|e| with_sources(&e))?;
            if opened.summary().root_hash != image.root_hash {
                return Err(format!("it is not the image that {RECORD} names"));
            }
            if opened.header().disk.logical_block_size != disk.logical_block_size {
                return Err("the disk has other blocks now".into());
            }
            Ok(Arc::new(opened))
        };
        match open() {
            Ok(base) => Some(base),
            Err(why) => {
                self.journal.warn(&format!("nothing is taken over from {file} of the set before: {why}"));
                None
            }
        }
    }

    fn publish(&self, publish: &Publish, made: &[ImageRecord]) -> Result<(), Failure> {
        let now = self.world.system().now();
        let mut record = Record::new(publish.generation, self.job_id.clone(), self.machine.clone(), now);
        record.images = made.iter().chain(&publish.carried).cloned().collect();
        record.images.sort_by(|a, b| a.name.cmp(&b.name));
        record.others = publish.others.clone();
        // Hours may have passed since the first look.
        self.check_there(publish.generation, &publish.carried, "")?;
        self.check_there(publish.generation, made, PART)?;
        let step = format!("publishing set {}", publish.generation);
        let generation = self.reporter.during(&step, None, &Progress::default(), false, || {
            publish::publish(self.folder, &record, self.keep, &|| self.reporter.check_lease())
        })?;
        if generation != publish.generation {
            self.journal.info(&format!("its number was taken meanwhile: published as set {generation}"));
        }
        Ok(())
    }

    /// What nothing goes on with is of no use to anybody; a set whose publishing has begun is another matter.
    /// What became of them, for a failure's text.
    fn remove_parts(&self, plan: &Plan) -> String {
        let mut said = String::new();
        if !matches!(self.folder.record(RECORD_PENDING), Ok(None)) {
            return said;
        }
        for name in imaged(plan) {
            let part = self.folder.path(&part_file(&name));
            match self.folder.files.remove_if_exists(&part) {
                Ok(true) => said.push_str(&format!("; {part} was removed")),
                Ok(false) => {}
                Err(e) => {
                    self.journal.warn(&format!("cannot remove {part}: {e}"));
                    said.push_str(&format!("; {part} is left"));
                }
            }
        }
        said
    }

    fn compare_disk(
        &self,
        source: &Source,
        disk: &Disk,
        measured: &BTreeMap<String, Measured>,
    ) -> Result<String, Failure> {
        let device = self.open_source(disk)?;
        let (image, measured) = self.open_checked(source, measured)?;
        let progress = Progress::new();
        progress.start(measured.size);
        let step = format!("comparing {} with {}", disk.name, source.path);
        let compared = self.reporter.during(&step, Some(&disk.name), &progress, false, || {
            image.compare(&measured, &*device, 0, &progress)
        });
        match compared {
            Ok(()) => Ok(match image.unallocated() {
                0 => format!("{} is what {} holds", disk.name, source.path),
                n => {
                    format!("{} is what {} holds, without {n} unallocated bytes", disk.name, source.path)
                }
            }),
            // A disk that was used since differs: that is a finding, not a fault.
            Err(e) if e.kind == ErrorKind::Differs => Ok(format!("DIFFERS: {e}")),
            Err(e) => Err(image_failure(&e, &source.path)),
        }
    }
}

/// Names of the images that a plan makes.
pub fn imaged(plan: &Plan) -> Vec<String> {
    let names = plan.steps.iter().filter_map(|step| match step {
        Step::BackupDisk { name, .. } => Some(name.clone()),
        _ => None,
    });
    names.collect()
}

/// True where the images that a failed backup leaves are good to go on with. After a failed write or sync they are not:
/// Linux tells once that it has lost data, and no later sync of that file tells again. A full share needs the room.
fn is_gone_on_after(kind: Kind) -> bool {
    matches!(kind, Kind::ShareRead | Kind::DiskRead | Kind::Publish)
}
