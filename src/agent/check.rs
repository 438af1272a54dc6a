//! Images are proven whole before anything rests on them.

use super::image_failure::{image_failure, share_read};
use super::restore::Target;
use super::steps::Run;
use crate::failure::{Failure, Kind};
use crate::image::{self, ErrorKind, FileKind, Image, file_kind, foreign};
use crate::job::Action;
use crate::job::DegradedSet;
use crate::plan::{Source, refuse_degraded};
use crate::progress::Progress;
use crate::store::publish;
use crate::store::record::RECORD;

impl Run<'_> {
    pub fn open_image(&self, source: &Source) -> Result<Image, Failure> {
        let path = self.images.path(&source.path);
        let file = self.images.files.open(&path).map_err(|e| share_read(&path, &e))?;
        let image = Image::open(file).map_err(|e| image_failure(&e, &source.path))?;
        if let Some(record) = &source.record
            && image.summary().root_hash != record.root_hash
        {
            return Err(Failure::new(
                Kind::BadImage,
                format!("{} is not the image that {RECORD} names: it was replaced meanwhile", source.path),
                "look who else writes to the share.",
            ));
        }
        Ok(image)
    }

    /// True where the source is an image of testbox, whole or damaged, false where it is some other gzip.
    pub fn is_own(&self, source: &Source) -> Result<bool, Failure> {
        let path = self.images.path(&source.path);
        let file = self.images.files.open(&path).map_err(|e| share_read(&path, &e))?;
        let kind = file_kind(&*file).map_err(|e| image_failure(&e, &source.path))?;
        Ok(source.record.is_some() || kind == FileKind::Testbox)
    }

    /// Proves an image whole. Of a foreign gzip, what it holds.
    pub fn check_image(
        &self,
        source: &Source,
        action: Action,
        targets: &[Target],
    ) -> Result<Option<foreign::Content>, Failure> {
        let progress = Progress::new();
        let step = format!("checking {}", source.path);
        if self.is_own(source)? {
            let image = self.open_image(source)?;
            if action == Action::Restore && image.summary().degraded && self.degraded != DegradedSet::Restore
            {
                let what = format!("DEGRADED: {}: parts of the disk could not be read", source.path);
                return Err(refuse_degraded(what));
            }
            // All of it, before the first write too: a damaged chunk must show while the disk is still what it was.
            // An image that a record names was inflated when it was made, and its hashes show whether it is still the
            // same; each chunk is inflated and checked before it is written anyway.
            let verify = || match (action, &source.record) {
                (Action::Restore, Some(_)) => image::scrub(&image, 0, &progress),
                _ => image::verify(&image, 0, &progress),
            };
            let verified = self.reporter.during(&step, Some(&source.name), &progress, false, verify);
            if let (Some(record), Err(e)) = (&source.record, &verified)
                && e.kind == ErrorKind::Corrupt
            {
                self.note_damage(&source.path, &record.root_hash, &e.to_string());
            }
            verified.map_err(|e| image_failure(&e, &source.path))?;
            if action == Action::Verify
                && self.reporter.check_lease().is_ok()
                && let Err(e) = publish::clear(self.folder, &source.path)
            {
                self.journal.warn(&format!("cannot remove the note of damage beside {}: {e}", source.path));
            }
            self.journal.info(&format!("{} is whole: root hash {}", source.path, image.summary().root_hash));
            return Ok(None);
        }
        // The disk bounds what the gzip may inflate to.
        let target = targets.iter().find(|target| target.source.path == source.path);
        let target = target.map(|target| &*target.device);
        let limit = target.map_or(u64::MAX, |disk| disk.size());
        let path = self.images.path(&source.path);
        let file = self.images.files.open(&path).map_err(|e| share_read(&path, &e))?;
        let measure = || foreign::measure(&*file, limit, &progress);
        let measured = self.reporter.during(&step, Some(&source.name), &progress, false, measure);
        let content = measured.map_err(|e| image_failure(&e, &source.path))?;
        self.journal.info(&format!("{} is a whole gzip file of {} bytes of disk", source.path, content.size));
        // A gzip that was cut between two of its members passes for a whole one; its size is all that could tell.
        if let Some(disk) = target.filter(|disk| disk.size() != content.size && !source.is_mapped) {
            return Err(Failure::new(
                Kind::Unfit,
                format!(
                    "{} holds {} bytes, {} has {}: it was cut, or it is of another disk",
                    source.path,
                    content.size,
                    disk.name(),
                    disk.size()
                ),
                format!(
                    "nothing was written. If it is right all the same: testbox.map={}:<disk>.",
                    source.name
                ),
            ));
        }
        Ok(Some(content))
    }
}
