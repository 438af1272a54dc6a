//! Restore: image in, disk out, and never a disk that looks whole but is not.
//!
//! Order ([`phases`]): check everything that can be checked -> zero what boots ([`boot_areas`]) -> discard what is unallocated,
//! where that is wanted -> write the body where the disk differs ([`delta`]), each run's hash checked before it is written
//! -> flush -> read back what was written and compare ([`batch`]: both go on at the same time, one behind the other) ->
//! write what boots. What was not written was read and found right. A restore that was interrupted is repeated: that is a
//! delta restore, which finds what is there already.
#![forbid(unsafe_code)]

pub(crate) mod batch;
pub(crate) mod boot_areas;
pub(crate) mod delta;
pub mod foreign;
pub(crate) mod needed;
pub(crate) mod options;
pub mod phases;

use crate::block::BlockDevice;
use crate::image::error::{ImageError, ImageOp};
use crate::image::parallel::{for_each_run, io_threads, make_and_finish, thread_count};
use crate::image::reader::Image;
use crate::image::restore::batch::{Batch, drop_cache};
use crate::image::restore::boot_areas::BootAreas;
use crate::image::restore::delta::RunWriter;
use crate::image::restore::needed::{Needed, needed};
use crate::image::restore::options::RestoreOptions;
use crate::image::restore::phases::{Body, Restored, restore_one};
use crate::progress::Progress;
use crate::text::with_sources;
use crate::types::FreeSpace;
use std::iter;

/// Writes an image onto one disk: all phases, one after the other. See the module's text for the order; a failure at any
/// point leaves the disk unbootable, and [`ImageError::disk_was_touched`] tells whether it came to that.
///
/// # Errors
/// [`ErrorKind::Refused`](crate::image::ErrorKind::Refused) before the first write where disk and image do not fit;
/// `ImageError::unfinished` is there after it.
pub fn restore(
    image: &Image,
    disk: &dyn BlockDevice,
    opts: &RestoreOptions,
    progress: &Progress,
) -> Result<Restored, ImageError> {
    restore_one(disk, &ImageBody::new(image, opts.clone()), progress)
}

/// What an image holds, to be written onto a disk.
///
/// Zero and unreadable runs become zeros, unallocated ones what [`RestoreOptions::free`] says; where they reach into
/// the boot areas, they are zeros in any case. Progress counts every byte of disk that is brought there twice: brought
/// onto the disk and proven to be there, which for what was kept is one and the same.
pub struct ImageBody<'a> {
    image: &'a Image,
    opts: RestoreOptions,
}

impl<'a> ImageBody<'a> {
    /// The content of this image.
    pub fn new(image: &'a Image, opts: RestoreOptions) -> Self {
        ImageBody { image, opts }
    }

    /// Bytes that are neither written nor looked at.
    fn left(&self) -> u64 {
        if self.opts.free == FreeSpace::Zero { 0 } else { self.image.summary().unallocated }
    }
}

impl Body for ImageBody<'_> {
    fn size(&self) -> u64 {
        self.image.summary().disk
    }

    fn logical_block_size(&self) -> Option<u32> {
        Some(self.image.header().disk.logical_block_size)
    }

    fn needed(&self) -> Result<Needed, ImageError> {
        needed(self.image)
    }

    /// The whole index: what is damaged there shows now.
    fn check(&self, progress: &Progress) -> Result<(), ImageError> {
        for run in self.image.runs() {
            run?;
            if progress.is_cancelled() {
                return Err(ImageError::cancelled());
            }
        }
        Ok(())
    }

    fn work(&self) -> u64 {
        self.size().saturating_sub(self.left()).saturating_mul(2)
    }

    fn grows(&self) -> bool {
        self.opts.grow
    }

    fn write(
        &self,
        disk: &dyn BlockDevice,
        areas: &BootAreas,
        progress: &Progress,
    ) -> Result<Restored, ImageError> {
        let ImageBody { image, opts } = self;
        let summary = image.summary();
        // What a smaller disk has no room for is zeros.
        let missing = summary.disk.saturating_sub(disk.size());
        let mut restored = Restored {
            disk_bytes: summary.disk - missing,
            zero_bytes: (summary.zero + summary.unallocated - self.left()).saturating_sub(missing),
            unreadable_bytes: summary.unreadable,
            ..Restored::default()
        };
        if opts.free != FreeSpace::Zero {
            leave(image, disk, areas, opts.free, progress, &mut restored)?;
        }
        // What is kept must be on the disk, and not only in memory.
        drop_cache(disk)?;
        let written = write_and_prove(image, disk, areas, opts, progress)?;
        restored.written_bytes = written + areas.bytes();
        restored.kept_bytes =
            restored.disk_bytes.saturating_sub(restored.written_bytes + restored.left_bytes);
        Ok(restored)
    }
}

/// Brings the body onto the disk, batch by batch; returns the bytes that were written.
fn write_and_prove(
    image: &Image,
    disk: &dyn BlockDevice,
    areas: &BootAreas,
    opts: &RestoreOptions,
    progress: &Progress,
) -> Result<u64, ImageError> {
    let writer = RunWriter::new(image, disk, areas, opts, progress);
    let threads = io_threads(opts.threads);
    let mut runs = image.runs().peekable();
    let mut written = 0;
    let write = || {
        if runs.peek().is_none() {
            return Ok(None);
        }
        let batch = Batch::new(disk, opts.batch);
        let until_full = iter::from_fn(|| if batch.is_full() { None } else { runs.next() });
        for_each_run(image, until_full, threads, progress, |space, run| writer.run(space, run, &batch))?;
        written += batch.bytes();
        Ok(Some(batch))
    };
    let chunk = image.header().chunk_size;
    // Reading back only waits for the disk: more threads would only hold up those that write.
    let readers = thread_count(opts.threads) + 1;
    let prove = |batch: Batch| batch.prove(disk, areas, chunk, readers, progress);
    make_and_finish(!disk.is_rotational(), write, prove)?;
    Ok(written)
}

/// Counts what is left alone, and discards it, if that is wanted. Nothing else of the body was read or written yet: a
/// disk that discards more than it was told to is found out by all that follows.
fn leave(
    image: &Image,
    disk: &dyn BlockDevice,
    areas: &BootAreas,
    free: FreeSpace,
    progress: &Progress,
    restored: &mut Restored,
) -> Result<(), ImageError> {
    let mut discards = free == FreeSpace::Discard;
    for run in image.unallocated_runs() {
        let Some(body) = areas.body(&run?.range()) else { continue };
        if progress.is_cancelled() {
            return Err(ImageError::cancelled());
        }
        let len = body.end - body.start;
        restored.left_bytes += len;
        if !discards {
            continue;
        }
        match disk.discard(body.start, len) {
            Ok(()) => restored.discarded_bytes += len,
            Err(e) => {
                // A disk that cannot do it will not do it elsewhere. Nothing rests on it.
                let error = ImageError::transfer(disk, ImageOp::Discard, body.start, len, e);
                restored.discard_error = Some(with_sources(&error));
                discards = false;
            }
        }
    }
    Ok(())
}
