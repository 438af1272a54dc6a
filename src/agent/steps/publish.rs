//! What is published is there: a set names no image that was not opened and compared with its record.

use super::context::StepContext;
use crate::agent::image_failure::image_failure;
use crate::efi::{FirmwareKind, FirmwareRecord, Loaders};
use crate::failure::{Failure, Kind};
use crate::image::{ErrorKind, Image};
use crate::plan::{Plan, PlanStep, Publish};
use crate::progress::Progress;
use crate::store::layout::{PART, RECORD};
use crate::store::record::{ImageRecord, Machine, Record};
use crate::store::{cannot_read, publish};
use std::io;

const ADVICE: &str = "the set before stays as it is. Image this disk too, which needs no testbox.disks; or put a good copy of the \
                      file back, from history/ or from elsewhere.";

/// What publishing knows beside the context.
pub struct Publisher {
    /// Who the machine is, for the record.
    pub machine: Machine,
    /// The job, for the record.
    pub job_id: Option<String>,
    /// Sets to keep in the history.
    pub keep: u32,
}

impl Publisher {
    /// Makes the images, which were read back, the machine's set.
    ///
    /// # Errors
    /// Those of the images that are not there, and of [`publish::publish`].
    pub fn publish(
        &self,
        cx: &StepContext<'_>,
        set: &Publish,
        made: &[ImageRecord],
        firmware: Option<FirmwareRecord>,
    ) -> Result<(), Failure> {
        let now = cx.world.system().now();
        let mut record = Record::new(set.generation, self.job_id.clone(), self.machine.clone(), now);
        record.images = made.iter().chain(&set.carried).cloned().collect();
        record.images.sort_by(|a, b| a.name.cmp(&b.name));
        record.others = set.others.clone();
        record.firmware = match firmware {
            Some(firmware) => Some(carry_loaders(cx, firmware, &set.carried)?),
            None => None,
        };
        // Hours may have passed since the first look.
        check_there(cx, set.generation, &set.carried, "")?;
        check_there(cx, set.generation, made, PART)?;
        let step = format!("publishing set {}", set.generation);
        let generation = cx.reporter.during(&step, None, &Progress::default(), false, || {
            publish::publish(cx.folder, &record, self.keep, &|| cx.reporter.check_lease())
        })?;
        if generation != set.generation {
            cx.journal.info(&format!("its number was taken meanwhile: published as set {generation}"));
        }
        Ok(())
    }

    /// Looks for the images that are carried over into the new set, before anything is imaged for hours.
    ///
    /// # Errors
    /// As [`check_there`].
    pub fn check_carried(&self, cx: &StepContext<'_>, plan: &Plan) -> Result<(), Failure> {
        plan.steps.iter().try_for_each(|step| match step {
            PlanStep::Publish(publish) => check_there(cx, publish.generation, &publish.carried, ""),
            _ => Ok(()),
        })
    }
}

/// The loaders of images that are carried over are those of the set before.
fn carry_loaders(
    cx: &StepContext<'_>,
    mut firmware: FirmwareRecord,
    carried: &[ImageRecord],
) -> Result<FirmwareRecord, Failure> {
    if firmware.kind == FirmwareKind::Bios || carried.is_empty() {
        return Ok(firmware);
    }
    let before = cx.folder.record(RECORD)?.and_then(|record| record.firmware).unwrap_or_default();
    let is_carried = |loaders: &Loaders| carried.iter().any(|image| image.name == loaders.image);
    firmware.loaders.extend(before.loaders.into_iter().filter(is_carried));
    firmware.loaders.sort_by(|a, b| (&a.image, a.partition.number).cmp(&(&b.image, b.partition.number)));
    Ok(firmware)
}

/// Opens each image, whose file name ends in `suffix` yet, and compares it with its record: size and root hash.
///
/// # Errors
/// [`Kind::BadImage`] where one is missing, cut, not an image, or another one; those of the share.
fn check_there(
    cx: &StepContext<'_>,
    generation: u64,
    images: &[ImageRecord],
    suffix: &str,
) -> Result<(), Failure> {
    for image in images {
        let file = format!("{}{suffix}", image.file());
        if let Some(why) = not_there(cx, image, &file)? {
            let what = format!("{file}, which set {generation} is to name, {why}");
            return Err(Failure::new(Kind::BadImage, what, ADVICE));
        }
    }
    Ok(())
}

/// Why the file is not the image that the record describes; `None` where it is.
fn not_there(cx: &StepContext<'_>, image: &ImageRecord, file: &str) -> Result<Option<String>, Failure> {
    let path = cx.folder.path(file);
    let opened = match cx.folder.files.open(&path) {
        Ok(opened) => opened,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Some("is missing".into())),
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
            return Ok(Some("is not a regular file".into()));
        }
        Err(e) => return Err(cannot_read(&format!("read {path}"), &e)),
    };
    let summary = match Image::open(opened) {
        Ok(opened) => opened.summary(),
        Err(e) if e.kind == ErrorKind::Corrupt => return Ok(Some(format!("is damaged: {e}"))),
        Err(e) => return Err(image_failure(&e, file)),
    };
    let is_same = summary.root_hash == image.root_hash && summary.image == image.image_size;
    Ok((!is_same).then(|| "is another image than the one of its record".into()))
}
