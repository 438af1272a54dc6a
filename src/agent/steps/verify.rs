//! Images are proven whole before anything rests on them.

use super::context::{RestoreTarget, StepContext};
use super::{damage, firmware};
use crate::agent::image_failure::{image_failure, internal, share_read};
use crate::efi::{Esp, FirmwareRecord};
use crate::failure::{Failure, Kind};
use crate::image::{ErrorKind, ImageError, ImageFile, Measured, Proof};
use crate::inventory::Disk;
use crate::job::Action;
use crate::job::DegradedSet;
use crate::plan::{SetSource, refuse_degraded};
use crate::progress::Progress;
use crate::store::layout::RECORD;
use crate::store::publish;
use crate::store::{Folder, Keeper, NotProven};
use crate::used::Growth;
use std::collections::BTreeMap;

/// What a look at an image knows beside the context.
pub struct Verify {
    /// The machine's folder through the mount that images are read from.
    pub images: Folder,
    /// What a degraded set may do.
    pub degraded: DegradedSet,
}

impl Verify {
    /// Opens an image; where a record names it, it must be that one.
    pub fn open_image(&self, source: &SetSource) -> Result<ImageFile, Failure> {
        let path = self.images.path(&source.path);
        let failed = |e: ImageError| image_failure(&e, &source.path);
        let file = self.images.files.open(&path).map_err(|e| share_read(&path, &e))?;
        let image = ImageFile::open(file).map_err(failed)?;
        let Some(record) = &source.record else { return Ok(image) };
        let image = image.into_own().map_err(failed)?;
        if image.summary().root_hash != record.root_hash {
            return Err(Failure::new(
                Kind::BadImage,
                format!("{} is not the image that {RECORD} names: it was replaced meanwhile", source.path),
                "look who else writes to the share.",
            ));
        }
        Ok(ImageFile::Own(image))
    }

    /// An image that was proven before, and what it was found to hold.
    pub fn open_checked(
        &self,
        source: &SetSource,
        measured: &BTreeMap<String, Measured>,
    ) -> Result<(ImageFile, Measured), Failure> {
        let measured = measured.get(&source.path).copied();
        let measured = measured.ok_or_else(|| internal(format!("{} was not checked", source.path)))?;
        Ok((self.open_image(source)?, measured))
    }

    /// Proves an image whole; what it holds.
    pub fn check_image(
        &self,
        cx: &StepContext<'_>,
        source: &SetSource,
        action: Action,
        targets: &[RestoreTarget],
    ) -> Result<Measured, Failure> {
        let image = self.open_image(source)?;
        if action == Action::Restore && image.is_degraded() && self.degraded != DegradedSet::Restore {
            let what = format!("DEGRADED: {}: parts of the disk could not be read", source.path);
            return Err(refuse_degraded(what));
        }
        if let (Some(claim), Some(keeper)) = (image.claim(), cx.folder.keeper()) {
            self.have_proven(cx, source, keeper, &claim)?;
            tell_whole(cx, source, action, &claim);
            return Ok(claim);
        }
        // What the disk lacks is proven before the first write, once that is known.
        if let Some(claim) = image.claim().filter(|_| action == Action::Restore) {
            return Ok(claim);
        }
        // The disk bounds what a foreign gzip may inflate to.
        let target = targets.iter().find(|target| target.source.path == source.path);
        let limit = target.map_or(u64::MAX, |target| target.device.size());
        let progress = Progress::new();
        let step = format!("checking {}", source.path);
        let verify = || image.verify(Proof::Inflate, limit, 0, &progress);
        let verified = cx.reporter.during(&step, Some(&source.name), &progress, false, verify);
        if let (Some(record), Err(e)) = (&source.record, &verified)
            && e.kind == ErrorKind::Corrupt
        {
            let image = (&*source.path, &record.root_hash);
            damage::note(&cx.reporter, cx.journal, cx.folder, image, &e.to_string());
        }
        let measured = verified.map_err(|e| image_failure(&e, &source.path))?;
        match image {
            ImageFile::Own(_) => tell_whole(cx, source, action, &measured),
            ImageFile::Foreign(_) => check_size(cx, source, &measured, target)?,
        }
        Ok(measured)
    }

    /// Whoever keeps the image reads all of it from its own disk: nothing of that crosses the link.
    fn have_proven(
        &self,
        cx: &StepContext<'_>,
        source: &SetSource,
        keeper: &dyn Keeper,
        claim: &Measured,
    ) -> Result<(), Failure> {
        let (path, progress) = (self.images.path(&source.path), Progress::new());
        let step = format!("the server proves {}", source.path);
        let prove = || keeper.prove(&path, &progress);
        let error = match cx.reporter.during(&step, Some(&source.name), &progress, false, prove) {
            Ok(proven) if proven.root_hash == claim.hash => return Ok(()),
            Ok(_) => ImageError::damaged(0, "the server has proven another image: it was replaced meanwhile"),
            Err(NotProven::Damaged(why)) => ImageError::damaged(0, why),
            Err(NotProven::Unknown(e)) => ImageError::read(0, e),
        };
        Err(image_failure(&error, &source.path))
    }

    /// Compares a disk with its image: the result as a note, and the EFI system partitions of the disk.
    ///
    /// # Errors
    /// Those of the disk and of the image; a difference is none.
    pub fn compare_disk(
        &self,
        cx: &StepContext<'_>,
        source: &SetSource,
        disk: &Disk,
        measured: &BTreeMap<String, Measured>,
        recorded: Option<&FirmwareRecord>,
    ) -> Result<(String, Vec<Esp>), Failure> {
        let device = cx.open_source(disk)?;
        let (image, measured) = self.open_checked(source, measured)?;
        let progress = Progress::new();
        progress.start(measured.size);
        let step = format!("comparing {} with {}", disk.name, source.path);
        let compared = cx.reporter.during(&step, Some(&disk.name), &progress, false, || {
            image.compare(&measured, &*device, 0, &progress)
        });
        let note = match compared {
            Ok(grown) => tell_same(disk, source, image.unallocated(), grown.as_ref()),
            // A disk that was used since differs: that is a finding, not a fault.
            Err(e) if e.kind == ErrorKind::Differs => format!("DIFFERS: {e}"),
            Err(e) => return Err(image_failure(&e, &source.path)),
        };
        Ok((note, firmware::partitions_of(cx.world, (source, disk, &*device), recorded)))
    }
}

/// What was compared and is the same, and what was not compared.
fn tell_same(disk: &Disk, source: &SetSource, unallocated: u64, grown: Option<&Growth>) -> String {
    let without = match unallocated {
        0 => String::new(),
        n => format!(", without {n} unallocated bytes"),
    };
    let same = format!("{} is what {} holds{without}", disk.name, source.path);
    match grown {
        Some(growth) => format!("GROWN: {same}, as far as it is compared: {}", growth.not_compared()),
        None => same,
    }
}

fn tell_whole(cx: &StepContext<'_>, source: &SetSource, action: Action, measured: &Measured) {
    if action == Action::Verify
        && cx.folder.keeper().is_none()
        && cx.reporter.check_lease().is_ok()
        && let Err(e) = publish::clear(cx.folder, &source.path)
    {
        cx.journal.warn(&format!("cannot remove the note of damage beside {}: {e}", source.path));
    }
    cx.journal.info(&format!("{} is whole: root hash {}", source.path, measured.hash));
}

/// A gzip that was cut between two of its members passes for a whole one; its size is all that could tell.
fn check_size(
    cx: &StepContext<'_>,
    source: &SetSource,
    measured: &Measured,
    target: Option<&RestoreTarget>,
) -> Result<(), Failure> {
    let size = measured.size;
    cx.journal.info(&format!("{} is a whole gzip file of {size} bytes of disk", source.path));
    let disk = target.map(|target| &*target.device);
    let Some(disk) = disk.filter(|disk| disk.size() != size && !source.is_mapped) else { return Ok(()) };
    Err(Failure::new(
        Kind::Unfit,
        format!(
            "{} holds {size} bytes, {} has {}: it was cut, or it is of another disk",
            source.path,
            disk.name(),
            disk.size()
        ),
        format!("nothing was written. If it is right all the same: testbox.map={}:<disk>.", source.name),
    ))
}
