//! The steps of a plan, each one call into the imaging pipelines or the share.

use super::image_failure::{
    bad_sector, caught, degraded_note, image_failure, internal, no_space, share_write,
};
use super::journal::Journal;
use super::listed::check_listed;
use super::report::Reporter;
use super::restore::Target;
use super::space::Room;
use crate::agent::info::Who;
use crate::agent::world::World;
use crate::block::BlockDevice;
use crate::failure::{Failure, Kind};
use crate::image::{
    self, BackupOptions, DiskAbout, Earlier, ErrorKind, Image, ImageError, Op, Part, Written, foreign,
};
use crate::inventory::Disk;
use crate::io::SyncWrite;
use crate::job::Action;
use crate::job::DegradedSet;
use crate::net::quota::Export;
use crate::plan::{OnBad, Plan, Publish, Source, Step};
use crate::progress::Progress;
use crate::share::Files;
use crate::store::Folder;
use crate::store::layout::{INFO_TEXT, INFO_ZIP, PART, RECORD_PENDING, image_file, part_file};
use crate::store::publish;
use crate::store::record::{BAD_RANGES, BadRange, ImageRecord, Machine, RECORD, Record, SetState};
use crate::text::with_sources;
use crate::types::{Delta, FreeSpace};
use crate::used::{self, Beyond, Found, Map, Used};
use std::collections::BTreeMap;
use std::io;
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
    /// What a restore does with space that nobody used.
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
    /// What foreign gzip files hold, by their paths.
    measured: BTreeMap<String, foreign::Content>,
    /// Results that are neither success nor failure.
    notes: Vec<String>,
}

/// An image that was read back: its figures, what it could not hold, and what was found on its disk.
type Verified = (image::Summary, Vec<Range<u64>>, Vec<Found>);

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
                let content = self.check_image(source, plan.action, targets)?;
                results.measured.extend(content.map(|content| (source.path.clone(), content)));
                Ok(())
            }
            Step::RestoreDisk { .. } => Ok(()),
            Step::CompareDisk { source, disk } => {
                results.notes.push(self.compare_disk(source, disk)?);
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
        let files = &*self.folder.files;
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
        let mut earlier = Earlier { base: base.clone(), ..Earlier::default() };
        let (written, (summary, bad, partitions)) = loop {
            // Looking at the disk can have taken long.
            self.reporter.check_lease()?;
            let written = self.write_image(disk, &*device, &about, earlier.clone(), &opts);
            let taken_unread = match &written {
                Ok(written) => written.unread_bytes > 0 || written.kept_bytes > 0,
                Err(_) => base.is_some(),
            };
            let made = written.and_then(|written| {
                self.tell(&part, &written);
                if let (Some(why), Some(before)) = (&written.bad_base, before) {
                    self.note_damage(&before.file(), &before.root_hash, why);
                }
                let verified = self.verify_image(name, base.as_deref())?;
                Ok((written, verified))
            });
            match made {
                Err(e) if !earlier.prove_base && taken_unread && e.is_of_image() => {
                    // What was taken over unread is not what it was: once more, each member of it read first.
                    self.journal.warn(&format!(
                        "{part}: {}. It is made again, and nothing taken over unread",
                        with_sources(&e)
                    ));
                    files.remove(&folder.path(&part)).map_err(|e| share_write(&part, &e))?;
                    earlier.prove_base = true;
                }
                Err(e) if e.kind == ErrorKind::Cancelled => {
                    self.reporter.check()?;
                    return Err(no_space(name));
                }
                Err(e) if e.is_bad_sector() => return Err(bad_sector(&e, &part, on_bad)),
                made => break made.map_err(|e| image_failure(&e, &part))?,
            }
        };
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
        if summary.root_hash != written.root_hash || summary.image != written.image_bytes {
            let what = format!("{part} on the share is not the image that was written");
            return Err(Failure::new(
                Kind::BadImage,
                what,
                "check the file server: it does not keep what it is given.",
            ));
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

    /// Writes the image of a disk into its part file.
    fn write_image(
        &self,
        disk: &Disk,
        device: &dyn BlockDevice,
        about: &DiskAbout,
        earlier: Earlier,
        opts: &BackupOptions,
    ) -> Result<Written, ImageError> {
        let (folder, files) = (self.folder, &*self.folder.files);
        let image = image_file(&about.name);
        let progress = Progress::new();
        progress.start(disk.size);
        let step = format!("imaging {} as {image}", disk.name);
        self.reporter.during(&step, Some(&about.name), &progress, true, || {
            let sink = |source| ImageError::sink(Op::Create, 0, source);
            let (mut file, part) = begin(files, &folder.path(&format!("{image}{PART}"))).map_err(sink)?;
            // From here on a power cut leaves something to go on with.
            files.sync_dir(&folder.path("")).map_err(sink)?;
            let earlier = Earlier { part, ..earlier };
            image::backup_again(device, &mut *file, about, opts, &earlier, &progress)
        })
    }

    /// Reads the part file of an image back from the share, and proves it.
    fn verify_image(&self, name: &str, base: Option<&Image>) -> Result<Verified, ImageError> {
        let part = part_file(name);
        let progress = Progress::new();
        self.reporter.during(&format!("verifying {part}"), Some(name), &progress, false, || {
            let file = self.folder.files.open(&self.folder.path(&part));
            let image = Image::open(file.map_err(|source| ImageError::read(0, source))?)?;
            let summary = match base {
                Some(base) => image::verify_again(&image, base, 0, &progress)?,
                None => image::verify(&image, 0, &progress)?,
            };
            Ok((summary, image.unreadable_ranges()?, image.header().found.list.clone()))
        })
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

    fn tell(&self, part: &str, written: &Written) {
        let Written { disk_bytes, image_bytes, zero_bytes, stored_bytes, taken_bytes, kept_bytes, .. } =
            written;
        let unused = written.unallocated_bytes;
        let compressed = disk_bytes
            .saturating_sub(unused)
            .saturating_sub(*zero_bytes)
            .saturating_sub(written.unreadable_bytes)
            .saturating_sub(*taken_bytes)
            .saturating_sub(*kept_bytes)
            .saturating_sub(*stored_bytes);
        self.journal.info(&format!(
            "{part}: {disk_bytes} bytes of disk in {image_bytes} bytes of image: {unused} unallocated and not read, \
             {zero_bytes} zero, {compressed} compressed, {stored_bytes} stored, {taken_bytes} taken over from the image before, {kept_bytes} kept \
             from a cut attempt"
        ));
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

    /// A set with an image that was found damaged never counts as a good one from then on.
    pub fn note_damage(&self, path: &str, root_hash: &blake3::Hash, why: &str) {
        if self.reporter.check_lease().is_ok()
            && let Err(e) = publish::mark(self.folder, path, root_hash, why)
        {
            self.journal.warn(&format!("cannot note beside {path} that it is damaged: {e}"));
        }
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

    fn compare_disk(&self, source: &Source, disk: &Disk) -> Result<String, Failure> {
        let device = self.open_source(disk)?;
        let image = self.open_image(source)?;
        let progress = Progress::new();
        progress.start(image.summary().disk);
        let step = format!("comparing {} with {}", disk.name, source.path);
        let compared = self.reporter.during(&step, Some(&disk.name), &progress, false, || {
            image::verify_against(&image, &*device, 0, &progress)
        });
        match compared {
            Ok(()) => Ok(match image.summary().unallocated {
                0 => format!("{} is what {} holds", disk.name, source.path),
                n => {
                    format!("{} is what {} holds, without {n} bytes that nobody used", disk.name, source.path)
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

/// The file that an image is written to, and what a cut attempt has left in it.
fn begin(files: &dyn Files, path: &str) -> io::Result<(Box<dyn SyncWrite>, Option<Part>)> {
    match files.reopen(path) {
        Ok(file) => {
            let there = files.open(path)?;
            return Ok((file, Some(Part::new(there))));
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        // No file to go on with: a link, a file with a second name.
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            files.remove(path)?;
        }
        Err(e) => return Err(e),
    }
    Ok((files.create(path)?, None))
}
