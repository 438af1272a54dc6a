//! Errors of disks: which kind, and where.
#![forbid(unsafe_code)]

use super::{ErrorKind, ImageError, ImageOp, Subject};
use crate::block::{BlockDevice, is_medium_error};
use std::io;
use std::ops::Range;

impl ImageError {
    fn disk(kind: ErrorKind, op: ImageOp, disk: &dyn BlockDevice) -> Self {
        let what = Subject::Disk { name: disk.name().to_owned(), block: disk.logical_block_size() };
        ImageError::new(kind, op, what)
    }

    /// Image and disk do not fit.
    pub(in crate::image) fn refused(disk: &dyn BlockDevice, why: impl Into<String>) -> Self {
        ImageError::disk(ErrorKind::Refused, ImageOp::Work, disk).found(why)
    }

    /// A range of the disk does not hold what it should; `op` is [`ImageOp::Compare`] or [`ImageOp::ReadBack`].
    pub(in crate::image) fn differs(disk: &dyn BlockDevice, range: &Range<u64>, op: ImageOp) -> Self {
        ImageError::disk(ErrorKind::Differs, op, disk).at(range.start, range.end - range.start)
    }

    /// So much of the disk cannot be read, up to byte `end`, that no image is made of it. `limit` is bytes.
    pub(in crate::image) fn failing(disk: &dyn BlockDevice, limit: u64, end: u64) -> Self {
        let what = format!("more than {limit} bytes cannot be read, up to byte {end}: the disk is failing");
        ImageError::disk(ErrorKind::Medium, ImageOp::Work, disk).at(end, 0).found(what)
    }

    /// A call on a disk failed that has no position.
    pub(in crate::image) fn disk_call(disk: &dyn BlockDevice, op: ImageOp, source: io::Error) -> Self {
        ImageError::disk(ErrorKind::Io, op, disk).because(source)
    }

    pub(in crate::image) fn gone(disk: &dyn BlockDevice, source: Option<io::Error>) -> Self {
        ImageError::disk(ErrorKind::Gone, ImageOp::Work, disk).because(source)
    }

    /// A transfer failed. Where the disk is gone, or has another size by now, that is the error.
    pub(in crate::image) fn transfer(
        disk: &dyn BlockDevice,
        op: ImageOp,
        offset: u64,
        len: u64,
        source: io::Error,
    ) -> Self {
        if let Err(changed) = check_size(disk) {
            return changed;
        }
        if matches!(source.raw_os_error(), Some(libc::ENXIO | libc::ENODEV)) {
            return ImageError::gone(disk, Some(source));
        }
        let kind = if is_medium_error(&source) { ErrorKind::Medium } else { ErrorKind::Io };
        let short = |what: &str| io::Error::new(source.kind(), format!("the disk stopped short: {what}"));
        let source = match source.kind() {
            io::ErrorKind::UnexpectedEof => short("it gave fewer bytes than it has there"),
            io::ErrorKind::WriteZero => short("it took fewer bytes than it was given"),
            _ => source,
        };
        ImageError::disk(kind, op, disk).at(offset, len).because(source)
    }
}

/// Fails where the disk is not there any more, or has another size than when it was opened.
pub(in crate::image) fn check_size(disk: &dyn BlockDevice) -> Result<(), ImageError> {
    let was = disk.size();
    match disk.size_now() {
        Ok(now) if now == was => Ok(()),
        // What the kernel says of a disk that was taken away: no sectors, or no such device.
        Ok(0) => Err(ImageError::gone(disk, None)),
        Ok(now) => {
            let found =
                format!("the disk has {now} bytes now, it had {was}: it was resized, or replaced by another");
            Err(ImageError::disk(ErrorKind::Resized, ImageOp::Work, disk).found(found))
        }
        Err(source) => Err(ImageError::gone(disk, Some(source))),
    }
}
