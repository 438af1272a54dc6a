//! The phases of a restore, each a type of its own, so that no target can skip one:
//!
//! ```text
//! Checked --compare--> Compared --make_unbootable--> Unbootable --write--> Proven --make_bootable--> Bootable --finish--> Restored
//!                          \--keep: nothing differs on any disk--> Restored
//! ```
//!
//! The disks of a machine belong together, as its boot loader, its volumes and its data do. Whoever restores several
//! brings all of them through one phase before the first enters the next: then no disk boots before all of them hold what
//! they must, and a cut at any moment leaves disks that boot with the old content only, or with the new one only, or do
//! not boot at all.
//!
//! Memory: the boot areas of every target wait until all are proven, 3 MiB and 8 KiB for each; and the members that the
//! targets lack, within one bound for all of them ([`MemberMemory`](crate::image::MemberMemory)).
#![forbid(unsafe_code)]

use crate::block::BlockDevice;
use crate::image::error::ImageError;
use crate::image::restore::boot_areas::{BootAreas, TableFit};
use crate::image::restore::lack::Lack;
use crate::image::restore::needed::{Needed, SHRINK};
use crate::image::restore::restored::Restored;
use crate::progress::Progress;
use crate::used::Growth;
use std::sync::atomic::Ordering::Relaxed;

/// What is written onto a disk, without what makes it bootable.
pub trait Body {
    /// Bytes of disk that it fills.
    fn size(&self) -> u64;

    /// Logical block size in bytes that the disk must have.
    fn logical_block_size(&self) -> Option<u32>;

    /// What a disk must have at least; asked where it has less than [`Body::size`].
    ///
    /// # Errors
    /// What is wrong with the source.
    fn needed(&self) -> Result<Needed, ImageError>;

    /// Whatever else can be checked before the first write.
    ///
    /// # Errors
    /// What is wrong with the source.
    fn check(&self, progress: &Progress) -> Result<(), ImageError>;

    /// Finds out what the disk lacks, and proves it; has `areas` keep what boots. Nothing is written.
    ///
    /// # Errors
    /// What is wrong with the source; the disk is gone.
    fn compare(
        &self,
        disk: &dyn BlockDevice,
        areas: &BootAreas,
        progress: &Progress,
    ) -> Result<Lack, ImageError>;

    /// What [`Body::write`] counts as done in the end.
    fn work(&self) -> u64;

    /// Whether the last partition grows up to the end of a larger disk.
    fn grows(&self) -> bool {
        false
    }

    /// Writes what is lacking but what boots, which `areas` keeps; flushes it, reads it back, and compares.
    ///
    /// # Errors
    /// What failed first.
    fn write(
        &self,
        disk: &dyn BlockDevice,
        areas: &BootAreas,
        lack: &Lack,
        progress: &Progress,
    ) -> Result<Restored, ImageError>;
}

/// A target and its source that fit. Nothing was written.
pub struct CheckedTarget<'a> {
    disk: &'a dyn BlockDevice,
    body: &'a dyn Body,
}

/// A target of which it is known what it lacks; that is proven. Nothing was written.
pub struct ComparedTarget<'a> {
    disk: &'a dyn BlockDevice,
    body: &'a dyn Body,
    areas: BootAreas<'a>,
    lack: Lack,
}

/// A target that no firmware boots. Its body is still the old one.
pub struct Unbootable<'a> {
    disk: &'a dyn BlockDevice,
    body: &'a dyn Body,
    areas: BootAreas<'a>,
    lack: Lack,
}

/// A target whose body was written, flushed, and read back. It does not boot yet.
pub struct ProvenImage<'a> {
    disk: &'a dyn BlockDevice,
    areas: BootAreas<'a>,
    work: u64,
    restored: Restored,
}

/// A target that holds all of its image.
pub struct Bootable<'a>(ProvenImage<'a>);

/// What is left of a target that failed.
const LEFT_UNBOOTABLE: &str = "The disk is left unbootable on purpose; a restore that succeeds mends it";
const PERHAPS_OLD: &str = "The disk could not even be made unbootable: its old boot sectors may still be there, nothing else was written";
const PERHAPS_NEW: &str =
    "All but its boot sectors is right, and those could not be zeroed again: do not boot it";

impl<'a> CheckedTarget<'a> {
    /// Checks all that can be checked before the first write.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`](crate::image::ErrorKind::Refused) where they do not fit, and what [`Body::check`] finds.
    pub fn new(
        disk: &'a dyn BlockDevice,
        body: &'a dyn Body,
        progress: &Progress,
    ) -> Result<Self, ImageError> {
        check_fit(disk, body)?;
        body.check(progress)?;
        Ok(CheckedTarget { disk, body })
    }

    /// Compares the disk with its source, and proves what it lacks.
    ///
    /// # Errors
    /// Those of [`Body::compare`].
    pub fn compare(self, progress: &Progress) -> Result<ComparedTarget<'a>, ImageError> {
        let CheckedTarget { disk, body } = self;
        let areas = BootAreas::new(disk, body.size());
        let lack = ImageError::catch(|| body.compare(disk, &areas, progress))?;
        Ok(ComparedTarget { disk, body, areas, lack })
    }
}

impl<'a> ComparedTarget<'a> {
    /// True where the disk holds all of its source, and what boots of it.
    pub fn lacks_nothing(&self) -> bool {
        self.lack.is_nothing
    }

    /// What was found so far: bytes of disk that differ or were not compared, and what was read for that.
    pub fn lack(&self) -> &Lack {
        &self.lack
    }

    /// The end for a disk that lacks nothing, as no other of the restore does: only its cache is flushed, because what it
    /// holds may be from a restore that was cut.
    ///
    /// # Errors
    /// The disk cannot be flushed; internal where something is lacking.
    pub fn keep(self, progress: &Progress) -> Result<Restored, ImageError> {
        if !self.lacks_nothing() {
            return Err(ImageError::internal("a disk is kept that lacks something"));
        }
        self.areas.flush()?;
        progress.total.store(self.body.work(), Relaxed);
        progress.done.store(self.body.work(), Relaxed);
        Ok(self.lack.restored)
    }

    /// Zeros what boots.
    ///
    /// # Errors
    /// `ImageError::unfinished`: what boots may be old, and the body is.
    pub fn make_unbootable(self) -> Result<Unbootable<'a>, ImageError> {
        let ComparedTarget { disk, body, areas, lack } = self;
        ImageError::catch(|| areas.zero()).map_err(|e| e.unfinished(disk, (0, body.work()), PERHAPS_OLD))?;
        Ok(Unbootable { disk, body, areas, lack })
    }
}

impl<'a> Unbootable<'a> {
    /// Writes the body and proves it.
    ///
    /// # Errors
    /// `ImageError::unfinished`: the disk stays unbootable.
    pub fn write(self, progress: &Progress) -> Result<ProvenImage<'a>, ImageError> {
        let Unbootable { disk, body, areas, lack } = self;
        progress.restart(body.work());
        let failed = |e: ImageError| {
            let done = (progress.done.load(Relaxed), progress.total.load(Relaxed));
            e.unfinished(disk, done, LEFT_UNBOOTABLE)
        };
        let written = ImageError::catch(|| {
            let mut restored = body.write(disk, &areas, &lack, progress)?;
            // All of the content is known by now, and nothing of a table is on the disk.
            let sector = body.logical_block_size().unwrap_or(disk.logical_block_size());
            restored.table = areas.fit_table(sector, body.grows());
            if let TableFit::Grown(growth) = &restored.table {
                areas.expose(growth)?;
            }
            Ok(restored)
        });
        let restored = written.map_err(failed)?;
        Ok(ProvenImage { disk, areas, work: body.work(), restored })
    }
}

impl<'a> ProvenImage<'a> {
    /// The partition that has grown: all of it is on the disk already, and only the table that says so is not.
    pub fn growth(&self) -> Option<&Growth> {
        match &self.restored.table {
            TableFit::Grown(growth) => Some(growth),
            _ => None,
        }
    }

    /// Writes what boots.
    ///
    /// # Errors
    /// `ImageError::unfinished`: it is zeroed again, unless the error says that this failed too.
    pub fn make_bootable(self) -> Result<Bootable<'a>, ImageError> {
        match self.areas.write_last() {
            Ok(()) => Ok(Bootable(self)),
            Err(not) => {
                let state = if not.zeroed { LEFT_UNBOOTABLE } else { PERHAPS_NEW };
                Err(not.error.unfinished(self.disk, (self.work, self.work), state))
            }
        }
    }
}

impl Bootable<'_> {
    /// Zeros what boots once more: another disk of the machine could not be finished.
    ///
    /// # Errors
    /// `ImageError::unfinished`: the disk may boot, and holds all of its image.
    pub fn take_back(self) -> Result<(), ImageError> {
        let ProvenImage { disk, areas, work, .. } = self.0;
        areas.zero().map_err(|e| e.unfinished(disk, (work, work), PERHAPS_NEW))
    }

    /// The end: has the kernel look at the new partition table.
    pub fn finish(self) -> Restored {
        let ProvenImage { disk, mut restored, .. } = self.0;
        let reread = disk.reread_partition_table();
        restored.reread_error = reread.err().map(|e| format!("{}: {e}", disk.name()));
        restored
    }
}

/// All phases of one target.
pub(in crate::image) fn restore_one(
    disk: &dyn BlockDevice,
    body: &dyn Body,
    progress: &Progress,
) -> Result<Restored, ImageError> {
    let compared = CheckedTarget::new(disk, body, progress)?.compare(progress)?;
    if compared.lacks_nothing() {
        return compared.keep(progress);
    }
    Ok(compared.make_unbootable()?.write(progress)?.make_bootable()?.finish())
}

/// The rules that image and disk must meet before the first write.
fn check_fit(disk: &dyn BlockDevice, body: &dyn Body) -> Result<(), ImageError> {
    let (own, size) = (disk.logical_block_size(), body.size());
    let refused = |what: String| Err(ImageError::refused(disk, format!("{what}; nothing was written")));
    if let Some(block) = body.logical_block_size().filter(|b| *b != own && !disk.is_regular_file()) {
        return refused(format!(
            "the disk has logical blocks of {own} bytes, the image is of a disk with {block}: \
             its partition tables would not be valid here"
        ));
    }
    if size == 0 || !size.is_multiple_of(u64::from(own.max(1))) {
        return refused(format!("{size} bytes of content are not a whole number of blocks of {own} bytes"));
    }
    if disk.size() < size {
        let needed = body.needed()?;
        if disk.size() < needed.bytes {
            return refused(format!("{}. Nothing can be left out: {SHRINK}", needed.missing_on(disk.size())));
        }
    }
    Ok(())
}
