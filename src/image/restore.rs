//! Restore: image in, disk out, and never a disk that looks whole but is not.
//!
//! Order: check everything that can be checked -> zero what boots ([`super::seal`]) -> write the body, each run's
//! hash checked before it is written -> flush -> read all of it back and compare -> write what boots.
#![forbid(unsafe_code)]

use super::bad_sectors::disk_error;
use super::error::ImageError;
use super::member::Kind;
use super::parallel::{for_each_run, io_threads};
use super::reader::{Image, Workspace};
use super::run::Run;
use super::seal::{JUST_WRITTEN, Seal};
use super::verify::{differs, expect_zeros, read};
use crate::block::BlockDevice;
use crate::progress::Progress;
use std::sync::atomic::Ordering::Relaxed;

/// How to restore.
#[derive(Clone, Debug, Default)]
pub struct RestoreOptions {
    /// Threads that inflate; 0 is one per core.
    pub threads: usize,
}

/// A disk that was written, read back and found right. All sizes are bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Size of the content.
    pub disk_bytes: u64,
    /// Of it, zeroed.
    pub zero_bytes: u64,
    /// Of it, what the disk did not give when it was imaged, zeroed.
    pub unreadable_bytes: u64,
    /// The kernel did not take over the new partition table; the next boot will.
    pub reread_error: Option<String>,
}

/// Writes an image onto a disk. See the module's text for the order; a failure at any point leaves the disk
/// unbootable, and [`ImageError::disk_was_touched`] tells whether it came to that.
///
/// Zeros are written for zero, unallocated and unreadable runs. Progress counts every byte of disk twice: written
/// (first half) and read back.
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
    progress.start(summary.disk.saturating_mul(2));
    let threads = io_threads(opts.threads);
    sealed(disk, summary.disk, progress, |seal| {
        for_each_run(image, image.runs(), threads, progress, |space, run| {
            write_run(image, disk, seal, space, run, progress)?;
            progress.add_done(run.length);
            Ok(())
        })?;
        seal.flush()?;
        disk.drop_cache().map_err(|source| ImageError::DiskCall {
            disk: disk.name().to_owned(),
            op: "drop the cache of",
            source,
        })?;
        for_each_run(image, image.runs(), threads, progress, |space, run| {
            read_back(disk, seal, space, run)?;
            progress.add_done(run.length);
            Ok(())
        })
    })?;
    Ok(Restored {
        disk_bytes: summary.disk,
        zero_bytes: summary.zero + summary.unallocated,
        unreadable_bytes: summary.unreadable,
        reread_error: reread(disk),
    })
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

fn write_run(
    image: &Image,
    disk: &dyn BlockDevice,
    seal: &Seal,
    space: &mut Workspace,
    run: &Run,
    progress: &Progress,
) -> Result<(), ImageError> {
    let range = run.range();
    if run.kind == Kind::Data {
        let raw = space.load(image, run)?;
        seal.keep(raw, run.offset);
        if let Some(body) = seal.body(&range) {
            let len = body.end - body.start;
            let part = &raw[(body.start - run.offset) as usize..(body.end - run.offset) as usize];
            disk.write_at(part, body.start).map_err(|e| disk_error(disk, "write", body.start, len, e))?;
        }
        progress.image.fetch_add(run.member_length.into(), Relaxed);
    } else {
        // What is kept begins as zeros.
        progress.zero.fetch_add(run.length, Relaxed);
        if let Some(body) = seal.body(&range) {
            let len = body.end - body.start;
            disk.write_zeroes(body.start, len).map_err(|e| disk_error(disk, "zero", body.start, len, e))?;
        }
    }
    Ok(())
}

/// Compares what is on the disk now with the image. The sealed parts are not there yet; they are compared when
/// they are written.
fn read_back(
    disk: &dyn BlockDevice,
    seal: &Seal,
    space: &mut Workspace,
    run: &Run,
) -> Result<(), ImageError> {
    let range = run.range();
    let Some(body) = seal.body(&range) else { return Ok(()) };
    if run.kind != Kind::Data {
        return expect_zeros(disk, &mut space.raw, body, JUST_WRITTEN);
    }
    let raw = &mut space.raw[..run.length as usize];
    read(disk, raw, run.offset)?;
    seal.overlay(raw, run.offset);
    if blake3::hash(raw) != run.hash {
        return Err(differs(disk, body, JUST_WRITTEN));
    }
    Ok(())
}
