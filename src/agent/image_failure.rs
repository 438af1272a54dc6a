//! What is said where imaging fails: the outcome, what happened, and what to do.

use crate::failure::{Failure, Kind};
use crate::image::{ErrorKind, ImageError, ImageOp, Subject};
use crate::inventory::Disk;
use crate::plan::OnBad;
use crate::store::layout::{image_file, map_file};
use crate::store::{self, cannot_read, cannot_write};
use crate::text::with_sources;
use std::fmt::Display;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A sector that cannot be read ends the backup.
pub fn bad_sector(error: &ImageError, part: &str, on_bad: OnBad) -> Failure {
    let what = format!("{part}: {}", with_sources(error));
    if on_bad == OnBad::KeepComplete {
        let what = format!("{what}; the set would be DEGRADED, and the one that is there is complete");
        let advice = "the complete set stays as it is. To have the degraded one in its place, and the complete one in \
                      history/: testbox.degraded=replace (testboxctl arm --degraded replace). Better replace the disk.";
        return Failure::new(Kind::Degraded, what, advice);
    }
    let advice = "the disk or its cable is failing: replace it, and restore the last good set. To image what can be read, \
                  with zeros for the rest: testbox.bad-sectors=degraded (testboxctl arm --bad-sectors degraded).";
    Failure::new(Kind::DiskRead, what, advice)
}

/// What a set says about an image with holes.
pub fn degraded_note(disk: &Disk, name: &str, bad: &[Range<u64>]) -> String {
    let bytes: u64 = bad.iter().map(|range| range.end - range.start).sum();
    let first = bad.first().map_or(0, |range| range.start / u64::from(disk.logical_block_size.max(1)));
    format!(
        "DEGRADED: {}: {bytes} bytes of {} in {} ranges cannot be read, the first at LBA {first}; they are zeros in the \
         image, and {} lists them",
        image_file(name),
        disk.name,
        bad.len(),
        map_file(name)
    )
}

/// What cannot happen.
pub fn internal(what: impl AsRef<str>) -> Failure {
    let what = format!("internal error, please report: {}", what.as_ref());
    Failure::new(Kind::Internal, what, REPORT)
}

/// Runs `work`; a panic that nobody nearer to it caught becomes a failure that names the `step`.
pub fn caught<T>(step: &dyn Display, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let what = format!("{step}: {}", ImageError::of_panic(&*panic));
        Err(Failure::new(Kind::Internal, what, REPORT))
    })
}

const REPORT: &str = "report it with the log of the machine.";

/// A file of the share cannot be read.
pub fn share_read(path: &str, error: &io::Error) -> Failure {
    cannot_read(&format!("read {path}"), error)
}

/// A file of the share cannot be written.
pub fn share_write(name: &str, error: &io::Error) -> Failure {
    cannot_write(&format!("write {name}"), error)
}

/// The share got full meanwhile.
pub fn no_space(name: &str) -> Failure {
    Failure::new(
        Kind::NoSpace,
        format!("the backup share is nearly full: the image of {name} was given up"),
        "make room on the share. The set before is untouched.",
    )
}

/// Which outcome an imaging error is.
pub fn image_failure(error: &ImageError, image: &str) -> Failure {
    let (kind, advice) = match (error.kind, error.op) {
        (ErrorKind::Io, ImageOp::Read) if error.what == Subject::Image => {
            let advice = error.io_source().and_then(store::advice);
            (Kind::ShareRead, advice.unwrap_or("check the share."))
        }
        (ErrorKind::Io, _) if error.what == Subject::Image => {
            return error.io_source().map_or_else(|| internal(error.to_string()), |e| share_write(image, e));
        }
        (ErrorKind::Medium | ErrorKind::Io, ImageOp::Read | ImageOp::SeekData | ImageOp::Work) => {
            (Kind::DiskRead, "the disk or its cable is failing: replace it, and restore the last good set.")
        }
        (ErrorKind::Medium | ErrorKind::Io | ErrorKind::Differs, _) => {
            (Kind::DiskWrite, "the disk or its cable is failing: replace it.")
        }
        (ErrorKind::Gone, _) => (
            Kind::DiskGone,
            "look at the disk, its cable, power and controller; the kernel's log tells more.",
        ),
        (ErrorKind::Resized, _) => {
            (Kind::DiskChanged, "look who resizes the disk, or for a controller that comes and goes.")
        }
        (ErrorKind::Corrupt, ImageOp::ReadBack) => {
            (Kind::BadImage, "check the file server: it does not keep what it is given.")
        }
        (ErrorKind::Corrupt, _) => {
            (Kind::BadImage, "this image must not be used; an older set may be in history/.")
        }
        (ErrorKind::Refused, _) => (Kind::Unfit, "nothing was written."),
        (ErrorKind::Internal, _) => (Kind::Internal, REPORT),
        (ErrorKind::Resource, _) => (
            Kind::Internal,
            "the machine has too little memory, or its kernel refuses; report it with the log.",
        ),
        (ErrorKind::Cancelled, _) => (Kind::Internal, "it was cancelled."),
    };
    let advice = match error.disk_was_touched() {
        true => "do not use this disk until a restore succeeds; the next attempt begins anew.",
        false => advice,
    };
    Failure::new(kind, format!("{image}: {}", with_sources(error)), advice)
}
