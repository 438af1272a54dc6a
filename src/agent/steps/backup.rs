//! One disk is imaged, and its image read back.

use super::context::StepContext;
use super::firmware;
use super::part_file::PartFile;
use super::space::ShareSpace;
use crate::agent::image_failure::{bad_sector, degraded_note, image_failure, internal, no_space};
use crate::block::BlockDevice;
use crate::efi::FirmwareRecord;
use crate::failure::Failure;
use crate::image::{self, BackupOptions, DiskAbout, ErrorKind, Image, ImageError, ReadBack};
use crate::inventory::Disk;
use crate::net::quota::Export;
use crate::plan::OnBad;
use crate::progress::Progress;
use crate::store;
use crate::store::layout::{RECORD, image_file, part_file};
use crate::store::record::{BAD_RANGES, BadRange, ImageRecord, SetState};
use crate::text::with_sources;
use crate::types::Compression;
use crate::used::{self, Beyond, Map, Used};
use std::ops::Range;
use std::sync::Arc;

/// What a backup knows beside the context.
pub struct Backup<'a> {
    /// All disks of the machine, those that no step names too.
    pub disks: &'a [Disk],
    /// Where the backup share is mounted from, where it is.
    pub export: Option<&'a Export>,
}

impl Backup<'_> {
    /// Images a disk under this name. What is neither success nor failure goes into `notes`, its loaders into `firmware`.
    ///
    /// # Errors
    /// Those of the disk and of the share; the part file is left.
    pub fn disk(
        &self,
        cx: &StepContext<'_>,
        disk: &Disk,
        name: &str,
        (used, beyond): (Used, &Beyond),
        on_bad: OnBad,
        (notes, firmware): (&mut Vec<String>, &mut FirmwareRecord),
    ) -> Result<ImageRecord, Failure> {
        let part = part_file(name);
        let before = cx.folder.record(RECORD)?;
        let before = before.as_ref().and_then(|record| record.image(name));
        let StepContext { world, journal, folder, ref reporter } = *cx;
        ShareSpace { world, journal, folder, export: self.export }.check(disk, name, before)?;
        let device = cx.open_source(disk)?;
        let about = DiskAbout::new(name, disk.identity.clone(), &*device);
        let base = before.and_then(|image| base(cx, image, disk));
        let allow_bad_sectors = on_bad == OnBad::Zeros;
        let used = look(cx, &*device, used, beyond);
        notes.extend(used.to_mend(device.name()));
        let codec = level(cx, notes).into();
        let opts = BackupOptions { used, codec, allow_bad_sectors, ..BackupOptions::default() };
        // Looking at the disk can have taken long.
        cx.reporter.check_lease()?;
        let file = PartFile { reporter, folder, journal, disk, name, before };
        let made = image::backup_verified(&*device, &about, &opts, base, ReadBack::TrustBase, &file);
        let (written, image) = made.map_err(|e| no_image(cx, &e, name, on_bad))?;
        let (summary, partitions) = (image.summary(), image.header().found.list.clone());
        let bad = image.unreadable_ranges().map_err(|e| image_failure(&e, &part))?;
        firmware::add_loaders(cx, firmware, name, &*device);
        drop(device);
        if let Some(why) = &written.bad_base {
            // The old set is published: nothing may be written into it. Whoever relies on it must know.
            let note = format!(
                "DAMAGED: {} of the set before: {why}; {} places of it were bad. The new image was made from the \
                 disk there. Do not rely on the old one, and check the file server",
                image_file(name),
                written.retaken_bad
            );
            cx.journal.global(&note);
            notes.push(note);
        }
        if summary.degraded {
            if on_bad != OnBad::Zeros {
                return Err(internal(format!("{part} is degraded, and must not be")));
            }
            let note = degraded_note(disk, name, &bad);
            cx.journal.banner(std::slice::from_ref(&note));
            cx.journal.global(&note);
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
}

/// How small the share wants its images. A setting that cannot be used costs room, and ends no backup.
fn level(cx: &StepContext<'_>, notes: &mut Vec<String>) -> Compression {
    store::compression(&*cx.folder.files).unwrap_or_else(|what| {
        let note = format!("{what}; images are made with level {}", Compression::default());
        cx.journal.warn(&note);
        if !notes.contains(&note) {
            notes.push(note);
        }
        Compression::default()
    })
}

/// What of the disk need not be imaged; the log says for each partition what was found.
fn look(cx: &StepContext<'_>, device: &dyn BlockDevice, mode: Used, beyond: &Beyond) -> Arc<Map> {
    let progress = Progress::new();
    let step = format!("looking for what is used of {}", device.name());
    let look = || used::survey_beside(device, mode, beyond, &progress);
    let (map, lines) = cx.reporter.during(&step, Some(device.name()), &progress, false, look);
    lines.iter().for_each(|line| cx.journal.info(line));
    Arc::new(map)
}

/// Why there is no image of a disk.
fn no_image(cx: &StepContext<'_>, error: &ImageError, name: &str, on_bad: OnBad) -> Failure {
    if error.kind == ErrorKind::Cancelled {
        return cx.reporter.check().err().unwrap_or_else(|| no_space(name));
    }
    let part = part_file(name);
    if error.is_bad_sector() { bad_sector(error, &part, on_bad) } else { image_failure(error, &part) }
}

/// The current image of the disk, where it is the one that the record names: the base of the new one.
fn base(cx: &StepContext<'_>, image: &ImageRecord, disk: &Disk) -> Option<Arc<Image>> {
    let file = image.file();
    let open = || -> Result<Arc<Image>, String> {
        let opened = cx.folder.files.open(&cx.folder.path(&file)).map_err(|e| e.to_string())?;
        let opened = Image::open(opened).map_err(|e| with_sources(&e))?;
        if opened.summary().root_hash != image.root_hash {
            return Err(format!("it is not the image that {RECORD} names"));
        }
        if opened.header().disk.logical_block_size != disk.logical_block_size {
            return Err("the disk has other blocks now".into());
        }
        BackupOptions::default().check_base(&opened)?;
        Ok(Arc::new(opened))
    };
    match open() {
        Ok(base) => Some(base),
        Err(why) => {
            cx.journal.warn(&format!("nothing is taken over from {file} of the set before: {why}"));
            None
        }
    }
}
