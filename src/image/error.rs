//! What can go wrong with an image or its disk, in words that name the disk, the place and what is left behind.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// An imaging operation failed. Positions are bytes; `LBA` counts logical blocks of the named disk.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The disk failed an operation.
    #[error("{disk}: cannot {op} {len} bytes at byte {offset} (LBA {lba}): {source}")]
    Disk {
        /// Name of the disk.
        disk: String,
        /// `read`, `write`, `zero`, ...
        op: &'static str,
        /// Where, in bytes.
        offset: u64,
        /// Where, in logical blocks.
        lba: u64,
        /// Bytes of the transfer.
        len: u64,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The disk failed a call that has no position.
    #[error("{disk}: cannot {op}: {source}")]
    DiskCall {
        /// Name of the disk.
        disk: String,
        /// `flush`, `reread the partition table`, ...
        op: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The disk is not there any more.
    #[error("{disk}: the disk is gone: it was taken away, or its controller has given it up{}", because(.source))]
    Gone {
        /// Name of the disk.
        disk: String,
        /// The kernel's reason, where it gave one.
        source: Option<io::Error>,
    },
    /// The disk has another size than when it was opened. Both are bytes.
    #[error("{disk}: the disk has {now} bytes now, it had {was}: it was resized, or replaced by another")]
    Resized {
        /// Name of the disk.
        disk: String,
        /// What it was.
        was: u64,
        /// What it is.
        now: u64,
    },
    /// So much of the disk cannot be read that no image is made of it.
    #[error("{disk}: more than {limit} bytes cannot be read, up to byte {end}: the disk is failing")]
    Failing {
        /// Name of the disk.
        disk: String,
        /// How much may be unreadable, in bytes.
        limit: u64,
        /// Where the last unreadable range ends, in bytes.
        end: u64,
    },
    /// The image file could not be written.
    #[error("cannot {op} the image after {written} bytes of it: {source}")]
    Sink {
        /// `write` or `sync`.
        op: &'static str,
        /// Bytes of image written before.
        written: u64,
        /// The reason.
        source: io::Error,
    },
    /// The image file could not be read.
    #[error("cannot read the image at byte {position}: {source}")]
    Read {
        /// Position in the file.
        position: u64,
        /// The reason.
        source: io::Error,
    },
    /// The file is no testbox image, or it was cut short.
    #[error("not a whole testbox image: {0}")]
    NotAnImage(String),
    /// A part of the image is not what its hashes say.
    #[error("the image is damaged at byte {position} of the file: {what}")]
    Damaged {
        /// Position in the file.
        position: u64,
        /// What is wrong there.
        what: String,
    },
    /// Image and disk do not fit, or an option makes no sense. Nothing was written.
    #[error("{0}")]
    Refused(String),
    /// The disk does not hold what the image says.
    #[error("{disk}: {len} bytes at byte {offset} (LBA {lba}) are not what the image holds{after_write}")]
    Differs {
        /// Name of the disk.
        disk: String,
        /// Where, in bytes.
        offset: u64,
        /// Where, in logical blocks.
        lba: u64,
        /// Bytes compared.
        len: u64,
        /// ` although they were just written`, or nothing.
        after_write: &'static str,
    },
    /// A foreign gzip cannot be used.
    #[error("the gzip file is no good after {done} bytes of content: {what}")]
    Foreign {
        /// Bytes of content before.
        done: u64,
        /// What is wrong.
        what: String,
    },
    /// An error of this program: no input, disk or share can be the reason.
    #[error("internal error, please report: {what}")]
    Internal {
        /// What was found to be impossible.
        what: String,
    },
    /// The machine has not got what the work needs.
    #[error("cannot {op}: {source}")]
    Resource {
        /// `start a thread`, `get random bytes`.
        op: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// [`crate::progress::Progress::cancel`] was called.
    #[error("cancelled")]
    Cancelled,
    /// A restore failed after its first write.
    #[error("{disk}: {done} of {total} bytes were handled, then: {source}. {state}")]
    Unfinished {
        /// Name of the disk.
        disk: String,
        /// Bytes of disk handled.
        done: u64,
        /// Bytes of disk in all.
        total: u64,
        /// What the disk is now.
        state: &'static str,
        /// Why.
        source: Box<ImageError>,
    },
}

fn because(source: &Option<io::Error>) -> String {
    source.as_ref().map_or_else(String::new, |e| format!(" ({e})"))
}

impl ImageError {
    /// True where the target disk was written to: it is unbootable until a restore succeeds.
    pub fn disk_was_touched(&self) -> bool {
        matches!(self, ImageError::Unfinished { .. })
    }

    /// True where neither input nor disk nor share is the reason.
    pub fn is_internal(&self) -> bool {
        match self {
            ImageError::Unfinished { source, .. } => source.is_internal(),
            other => matches!(other, ImageError::Internal { .. } | ImageError::Resource { .. }),
        }
    }

    /// True where the medium of a disk does not give its data.
    pub fn is_bad_sector(&self) -> bool {
        matches!(self, ImageError::Disk { op: "read", source, .. } if crate::block::is_medium_error(source))
    }

    /// An error of this program.
    pub fn internal(what: impl Into<String>) -> Self {
        ImageError::Internal { what: what.into() }
    }

    /// Runs `work`, whose panic becomes an error: the caller can say what was touched, and no other thread waits for it.
    ///
    /// # Errors
    /// Those of `work`, and [`ImageError::Internal`].
    pub fn catch<T>(work: impl FnOnce() -> Result<T, ImageError>) -> Result<T, ImageError> {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(ImageError::of_panic(&*panic)))
    }

    /// The error that a panic is.
    pub fn of_panic(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        ImageError::internal(format!("panicked: {}", text.unwrap_or_else(|| "without a text".into())))
    }

    pub(super) fn damaged(position: u64, what: impl Into<String>) -> Self {
        ImageError::Damaged { position, what: what.into() }
    }
}
