//! Restore: image in, disk out, and never a disk that looks whole but is not.
//!
//! Order ([`phases`]): see that image and disk fit -> compare the disk with the index, fetch and prove what it lacks ([`compare`]);
//! nothing was written so far, and nothing is where nothing differs -> zero what boots ([`boot_areas`]) -> discard what is
//! unallocated, where that is wanted -> write the body where the disk differs ([`delta`]), each run's hash checked before it is
//! written -> flush -> read back what was written and compare ([`batch`]: both go on at the same time, one behind the other) ->
//! write what boots.
//!
//! What was not written was read and found right, and since then the disk has reported no error: after one, and where the disk
//! was told to discard, all of it is compared once more before it boots. A restore that was interrupted is repeated, and finds
//! what is there already.
#![forbid(unsafe_code)]

pub(crate) mod batch;
pub(crate) mod boot_areas;
mod chooser;
mod compare;
pub(crate) mod delta;
pub mod foreign;
mod found;
mod lack;
pub(crate) mod memory;
pub(crate) mod needed;
pub(crate) mod options;
pub mod phases;
pub(crate) mod restored;

use crate::block::BlockDevice;
use crate::image::error::{ImageError, ImageOp};
use crate::image::format::run::Run;
use crate::image::group::{GROUP, RunGroups};
use crate::image::parallel::{for_each, io_threads, make_and_finish, thread_count};
use crate::image::reader::Image;
use crate::image::restore::batch::{Batch, drop_cache};
use crate::image::restore::boot_areas::BootAreas;
use crate::image::restore::compare::Comparison;
use crate::image::restore::delta::RunWriter;
use crate::image::restore::lack::Lack;
use crate::image::restore::needed::{Needed, needed};
use crate::image::restore::options::RestoreOptions;
use crate::image::restore::phases::{Body, restore_one};
use crate::image::restore::restored::Restored;
use crate::image::workspace::Workspace;
use crate::progress::Progress;
use crate::text::with_sources;
use crate::types::FreeSpace;
use std::iter;
use std::sync::atomic::Ordering::Relaxed;

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

    /// What is damaged shows when the disk is compared.
    fn check(&self, _: &Progress) -> Result<(), ImageError> {
        Ok(())
    }

    fn compare(
        &self,
        disk: &dyn BlockDevice,
        areas: &BootAreas,
        progress: &Progress,
    ) -> Result<Lack, ImageError> {
        let (image, summary) = (self.image, self.image.summary());
        progress.start(self.work() / 2);
        let mut lack = Comparison::new(image, disk, areas, &self.opts, progress).run()?;
        // What a smaller disk has no room for is zeros.
        let missing = summary.disk.saturating_sub(disk.size());
        let restored = &mut lack.restored;
        restored.disk_bytes = summary.disk - missing;
        restored.zero_bytes = (summary.zero + summary.unallocated - self.left()).saturating_sub(missing);
        restored.unreadable_bytes = summary.unreadable;
        restored.image_bytes = summary.image;
        restored.kept_bytes = restored.disk_bytes.saturating_sub(restored.left_bytes);
        restored.read_bytes = image.bytes_read();
        Ok(lack)
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
        lack: &Lack,
        progress: &Progress,
    ) -> Result<Restored, ImageError> {
        let ImageBody { image, opts } = self;
        let mut restored = lack.restored.clone();
        if opts.free == FreeSpace::Discard {
            discard(image, disk, areas, progress, &mut restored)?;
        }
        drop_cache(disk)?;
        let again =
            lack.rest.map_or(0, |rest| self.size() - rest) + lack.listed().map(|run| run.length).sum::<u64>();
        progress.add_done(self.work().saturating_sub(again.saturating_mul(2)));
        let rest = lack.rest.map(|rest| image.runs_in(rest..u64::MAX));
        let runs = lack.listed().map(Ok).chain(rest.into_iter().flatten());
        let writer = RunWriter::new((image, lack), disk, areas, opts, progress);
        let mut written = self.write_and_prove(runs, &writer, (disk, areas), progress)?;
        if lack.has_failed || writer.has_failed() || opts.free == FreeSpace::Discard {
            // What was kept must not have been found before an error of the disk.
            progress.total.fetch_add(self.work(), Relaxed);
            drop_cache(disk)?;
            written += self.write_and_prove(image.runs(), &writer.strict(), (disk, areas), progress)?;
        }
        progress.total.store(self.work(), Relaxed);
        progress.done.store(self.work(), Relaxed);
        restored.written_bytes = written + areas.bytes();
        restored.kept_bytes =
            restored.disk_bytes.saturating_sub(restored.written_bytes + restored.left_bytes);
        restored.read_bytes = image.bytes_read();
        Ok(restored)
    }
}

impl ImageBody<'_> {
    /// Brings runs onto the disk, batch by batch; returns the bytes that were written.
    fn write_and_prove(
        &self,
        runs: impl Iterator<Item = Result<Run, ImageError>> + Send,
        writer: &RunWriter<'_>,
        (disk, areas): (&dyn BlockDevice, &BootAreas),
        progress: &Progress,
    ) -> Result<u64, ImageError> {
        let ImageBody { image, opts } = self;
        let threads = io_threads(opts.threads);
        let mut groups = RunGroups::new(runs).peekable();
        let mut written = 0;
        let write = || {
            if groups.peek().is_none() {
                return Ok(None);
            }
            let batch = Batch::new(disk, opts.batch);
            let until_full = iter::from_fn(|| {
                let group = if batch.is_full() { None } else { groups.next() };
                group.inspect(|group| {
                    if let Ok(group) = group {
                        batch.begin(group.data_bytes())
                    }
                })
            });
            for_each(
                until_full,
                threads,
                progress,
                || Workspace::new(image),
                |space, group| {
                    writer.group(space, &group, &batch)?;
                    batch.end(group.data_bytes());
                    Ok(())
                },
            )?;
            written += batch.bytes();
            Ok(Some(batch))
        };
        let longest = u64::from(image.header().chunk_size).max(GROUP) as usize;
        // Reading back only waits for the disk: more threads would only hold up those that write.
        let readers = thread_count(opts.threads) + 1;
        let prove = |batch: Batch| batch.prove(disk, areas, longest, readers, progress);
        make_and_finish(!disk.is_rotational(), write, prove)?;
        Ok(written)
    }
}

/// Tells the disk what is unallocated. Nothing of the body was written yet, and all that is kept is compared again later: a
/// disk that discards more than it was told to is found out.
fn discard(
    image: &Image,
    disk: &dyn BlockDevice,
    areas: &BootAreas,
    progress: &Progress,
    restored: &mut Restored,
) -> Result<(), ImageError> {
    for run in image.unallocated_runs() {
        let Some(body) = areas.body(&run?.range()) else { continue };
        if progress.is_cancelled() {
            return Err(ImageError::cancelled());
        }
        let len = body.end - body.start;
        if let Err(e) = disk.discard(body.start, len) {
            // A disk that cannot do it will not do it elsewhere. Nothing rests on it.
            let error = ImageError::transfer(disk, ImageOp::Discard, body.start, len, e);
            restored.discard_error = Some(with_sources(&error));
            break;
        }
        restored.discarded_bytes += len;
    }
    Ok(())
}
