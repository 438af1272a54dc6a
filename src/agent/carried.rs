//! What is published is there: a set names no image that was not opened and compared with its record.

use super::image_failure::image_failure;
use super::steps::Run;
use crate::failure::{Failure, Kind};
use crate::image::{ErrorKind, Image};
use crate::plan::{Plan, Step};
use crate::store::cannot_read;
use crate::store::record::ImageRecord;
use std::io;

const ADVICE: &str = "the set before stays as it is. Image this disk too, which needs no testbox.disks; or put a good copy of the \
                      file back, from history/ or from elsewhere.";

impl Run<'_> {
    /// Looks for the images that are carried over into the new set, before anything is imaged for hours.
    ///
    /// # Errors
    /// As [`Run::check_there`].
    pub fn check_carried(&self, plan: &Plan) -> Result<(), Failure> {
        plan.steps.iter().try_for_each(|step| match step {
            Step::Publish(publish) => self.check_there(publish.generation, &publish.carried, ""),
            _ => Ok(()),
        })
    }

    /// Opens each image, whose file name ends in `suffix` yet, and compares it with its record: size and root hash.
    ///
    /// # Errors
    /// [`Kind::BadImage`] where one is missing, cut, not an image, or another one; those of the share.
    pub fn check_there(&self, generation: u64, images: &[ImageRecord], suffix: &str) -> Result<(), Failure> {
        for image in images {
            let file = format!("{}{suffix}", image.file());
            if let Some(why) = self.not_there(image, &file)? {
                let what = format!("{file}, which set {generation} is to name, {why}");
                return Err(Failure::new(Kind::BadImage, what, ADVICE));
            }
        }
        Ok(())
    }

    /// Why the file is not the image that the record describes; `None` where it is.
    fn not_there(&self, image: &ImageRecord, file: &str) -> Result<Option<String>, Failure> {
        let path = self.folder.path(file);
        let opened = match self.folder.files.open(&path) {
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
}
