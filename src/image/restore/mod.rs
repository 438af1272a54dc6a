//! Restore: image in, disk out, and never a disk that looks whole but is not.
//!
//! Order: check everything that can be checked -> zero what boots ([`crate::image::restore::seal`]) -> discard what nobody uses, where
//! that is wanted -> write the body where the disk differs ([`crate::image::restore::delta`]), each run's hash checked before it is
//! written -> flush -> read back what was written and compare ([`crate::image::restore::leg`]: both go on at the same time, one behind
//! the other) -> write what boots. What was not written was read and found right. A restore that was interrupted is
//! repeated: that is a delta restore, which finds what is there already.
#![forbid(unsafe_code)]

pub(crate) mod delta;
pub mod foreign;
pub(crate) mod leg;
pub(crate) mod seal;

use crate::block::BlockDevice;
use crate::image::bad_sectors::disk_error;
use crate::image::error::ImageError;
use crate::image::parallel::{for_each_run, io_threads, make_and_finish, thread_count};
use crate::image::reader::Image;
use crate::image::restore::delta::Bring;
use crate::image::restore::leg::{Leg, drop_cache};
use crate::image::restore::seal::Seal;
use crate::progress::Progress;
use crate::types::{Delta, FreeSpace};
use std::iter;
use std::sync::atomic::Ordering::Relaxed;

/// How to restore.
#[derive(Clone, Debug, Default)]
pub struct RestoreOptions {
    /// Threads that inflate; 0 is one per core.
    pub threads: usize,
    /// Whether what the disk holds is read first, and written only where it differs.
    pub delta: Delta,
    /// What becomes of the space that nobody used when the disk was imaged.
    pub free: FreeSpace,
    /// Bytes after which what was written is flushed and read back; `None` for what suits the disk.
    pub leg: Option<u64>,
}

/// A disk that was written, read back and found right. All sizes are bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Size of the content.
    pub disk_bytes: u64,
    /// Of it, zeros now: the image's zero runs, and its unallocated ones with [`FreeSpace::Zero`].
    pub zero_bytes: u64,
    /// Of it, what the disk did not give when it was imaged, zeroed.
    pub unreadable_bytes: u64,
    /// Of it, found on the disk and left alone.
    pub kept_bytes: u64,
    /// Of it, written; what makes a disk bootable always is.
    pub written_bytes: u64,
    /// Of it, what nobody used, and what was neither read, written nor compared: with the three above it makes the
    /// whole.
    pub left_bytes: u64,
    /// Of `left_bytes`, discarded; that proves nothing about what is there now.
    pub discarded_bytes: u64,
    /// Why not more was discarded.
    pub discard_error: Option<String>,
    /// The kernel did not take over the new partition table; the next boot will.
    pub reread_error: Option<String>,
}

/// Writes an image onto a disk. See the module's text for the order; a failure at any point leaves the disk
/// unbootable, and [`ImageError::disk_was_touched`] tells whether it came to that.
///
/// Zero and unreadable runs become zeros, unallocated ones what [`RestoreOptions::free`] says; where they reach into
/// what is sealed, they are zeros in any case. Progress counts every byte of disk that is brought there twice: brought
/// onto the disk and proven to be there, which for what was kept is one and the same.
pub fn restore(
    image: &Image,
    disk: &dyn BlockDevice,
    opts: &RestoreOptions,
    progress: &Progress,
) -> Result<Restored, ImageError> {
    let summary = image.summary();
    check_fit(disk, summary.disk, Some(image.header().disk.logical_block_size))?;
    // The whole index before the first write: what is damaged there shows now.
    for run in image.runs() {
        run?;
        if progress.is_cancelled() {
            return Err(ImageError::Cancelled);
        }
    }
    let left = if opts.free == FreeSpace::Zero { 0 } else { summary.unallocated };
    progress.start(summary.disk.saturating_sub(left).saturating_mul(2));
    let mut restored = Restored {
        disk_bytes: summary.disk,
        zero_bytes: summary.zero.saturating_add(summary.unallocated - left),
        unreadable_bytes: summary.unreadable,
        ..Restored::default()
    };
    sealed(disk, summary.disk, progress, |seal| {
        if opts.free != FreeSpace::Zero {
            leave(image, disk, seal, opts.free, progress, &mut restored)?;
        }
        // What is kept must be on the disk, and not only in memory.
        drop_cache(disk)?;
        let written = write_and_prove(image, disk, seal, opts, progress)?;
        restored.written_bytes = written + seal.bytes();
        Ok(())
    })?;
    restored.kept_bytes = summary.disk.saturating_sub(restored.written_bytes + restored.left_bytes);
    restored.reread_error = reread(disk);
    Ok(restored)
}

/// Brings the body onto the disk, leg by leg; returns the bytes that were written.
fn write_and_prove(
    image: &Image,
    disk: &dyn BlockDevice,
    seal: &Seal,
    opts: &RestoreOptions,
    progress: &Progress,
) -> Result<u64, ImageError> {
    let bring = Bring::new(image, disk, seal, opts, progress);
    let threads = io_threads(opts.threads);
    let mut runs = image.runs().peekable();
    let mut written = 0;
    let write = || {
        if runs.peek().is_none() {
            return Ok(None);
        }
        let leg = Leg::new(disk, opts.leg);
        let until_full = iter::from_fn(|| if leg.is_full() { None } else { runs.next() });
        for_each_run(image, until_full, threads, progress, |space, run| bring.run(space, run, &leg))?;
        written += leg.bytes();
        Ok(Some(leg))
    };
    let chunk = image.header().chunk_size;
    // Reading back only waits for the disk: more threads would only hold up those that write.
    let readers = thread_count(opts.threads) + 1;
    let prove = |leg: Leg| leg.prove(disk, seal, chunk, readers, progress);
    make_and_finish(!disk.is_rotational(), write, prove)?;
    Ok(written)
}

/// Counts what is left alone, and discards it, if that is wanted. Nothing else of the body was read or written yet: a
/// disk that discards more than it was told to is found out by all that follows.
fn leave(
    image: &Image,
    disk: &dyn BlockDevice,
    seal: &Seal,
    free: FreeSpace,
    progress: &Progress,
    restored: &mut Restored,
) -> Result<(), ImageError> {
    let mut discards = free == FreeSpace::Discard;
    for run in image.unallocated_runs() {
        let Some(body) = seal.body(&run?.range()) else { continue };
        if progress.is_cancelled() {
            return Err(ImageError::Cancelled);
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
                let error = disk_error(disk, "discard", body.start, len, e);
                restored.discard_error = Some(error.to_string());
                discards = false;
            }
        }
    }
    Ok(())
}

/// The rules that image and disk must meet before the first write.
pub(super) fn check_fit(disk: &dyn BlockDevice, size: u64, block: Option<u32>) -> Result<(), ImageError> {
    let name = disk.name();
    let own = disk.logical_block_size();
    let refused = |what: String| Err(ImageError::Refused(format!("{name}: {what}; nothing was written")));
    if disk.size() < size {
        return refused(format!("the disk has {} bytes, the image needs {size}", disk.size()));
    }
    if let Some(block) = block.filter(|b| *b != own && !disk.is_regular_file()) {
        return refused(format!(
            "the disk has logical blocks of {own} bytes, the image is of a disk with {block}: \
             its partition tables would not be valid here"
        ));
    }
    if size == 0 || !size.is_multiple_of(u64::from(own.max(1))) {
        return refused(format!("{size} bytes of content are not a whole number of blocks of {own} bytes"));
    }
    Ok(())
}

/// Runs `body` on a disk that is unbootable meanwhile, and makes it bootable only after `body` went well.
pub(super) fn sealed(
    disk: &dyn BlockDevice,
    size: u64,
    progress: &Progress,
    body: impl FnOnce(&Seal) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let seal = Seal::new(disk, size);
    let unfinished = |state| {
        move |source| ImageError::Unfinished {
            disk: disk.name().to_owned(),
            done: progress.done.load(Relaxed),
            total: progress.total.load(Relaxed),
            state,
            source: Box::new(source),
        }
    };
    const HALF: &str = "The disk is left unbootable on purpose; a restore that succeeds mends it";
    seal.close().map_err(unfinished(
        "The disk could not even be made unbootable: its old boot sectors may still be there, nothing else was written",
    ))?;
    body(&seal).map_err(unfinished(HALF))?;
    seal.open().map_err(|not| {
        unfinished(match not.closed {
            true => HALF,
            false => "All but its boot sectors is right, and those could not be zeroed again: do not boot it",
        })(*not.error)
    })
}

/// Has the kernel look at the new partition table; the error, if it does not.
pub(super) fn reread(disk: &dyn BlockDevice) -> Option<String> {
    disk.reread_partition_table().err().map(|e| format!("{}: {e}", disk.name()))
}
