//! What can go wrong with an image or its disk: what was done, to what, where, and why.
//!
//! Whoever decides by an error goes by [`ImageError::kind`], [`ImageError::op`] and [`ImageError::what`], never by its
//! text. The text does not have the [source](std::error::Error::source): who prints an error prints all of them, by
//! [`crate::text::with_sources`].
#![forbid(unsafe_code)]

mod disk;
#[cfg(test)]
mod tests;

pub(super) use disk::check_size;

use crate::block::BlockDevice;
use std::any::Any;
use std::fmt;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What went wrong, as far as callers tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Image and disk do not fit, or an option makes no sense. Nothing was written.
    Refused,
    /// The file is not a whole image: something else, cut short, or not what its hashes say.
    Corrupt,
    /// The medium of the disk does not give its data, or does not take it.
    Medium,
    /// The disk does not hold what the image says.
    Differs,
    /// The disk is not there any more.
    Gone,
    /// The disk has another size than when it was opened.
    Resized,
    /// Any other call on the disk or the image file failed.
    Io,
    /// The machine has not got what the work needs.
    Resource,
    /// An error of this program: no input, disk or share can be the reason.
    Internal,
    /// [`crate::progress::Progress::cancel`] was called.
    Cancelled,
}

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageOp {
    /// The work as a whole.
    Work,
    /// Reading.
    Read,
    /// Looking for the next range that may hold data.
    SeekData,
    /// Writing.
    Write,
    /// Writing zeros.
    Zero,
    /// Discarding.
    Discard,
    /// Making what was written to a disk durable.
    Flush,
    /// Forgetting cached pages of a disk.
    DropCache,
    /// Making the image file.
    Create,
    /// Cutting an unfinished image file to what is right of it, to write the rest.
    Resume,
    /// Making the image file durable.
    Sync,
    /// Comparing a disk with an image.
    Compare,
    /// Comparing what was written a moment ago.
    ReadBack,
    /// Starting a thread.
    StartThread,
    /// Getting random bytes.
    GetRandom,
}

impl fmt::Display for ImageOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ImageOp::Work => "do the work",
            ImageOp::Read => "read",
            ImageOp::SeekData => "seek data",
            ImageOp::Write => "write",
            ImageOp::Zero => "zero",
            ImageOp::Discard => "discard",
            ImageOp::Flush => "flush",
            ImageOp::DropCache => "drop the cache",
            ImageOp::Create => "create",
            ImageOp::Resume => "resume",
            ImageOp::Sync => "sync",
            ImageOp::Compare => "compare",
            ImageOp::ReadBack => "read back",
            ImageOp::StartThread => "start a thread",
            ImageOp::GetRandom => "get random bytes",
        })
    }
}

/// What it was done to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A disk.
    Disk {
        /// Its name.
        name: String,
        /// Bytes of its logical blocks.
        block: u32,
    },
    /// An image file, to be read or to be written.
    Image,
    /// A gzip file that testbox did not make.
    Gzip,
    /// The machine that does the work.
    Machine,
}

/// A restore that failed after its first write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnfinishedRestore {
    /// Name of the disk.
    pub disk: String,
    /// Bytes of disk handled.
    pub done: u64,
    /// Bytes of disk in all.
    pub total: u64,
    /// What the disk is now.
    pub state: &'static str,
}

/// An imaging operation failed. Positions and lengths are bytes; `LBA` in the text counts logical blocks of the disk.
#[derive(Debug)]
pub struct ImageError {
    /// What went wrong.
    pub kind: ErrorKind,
    /// What was being done.
    pub op: ImageOp,
    /// What to.
    pub what: Subject,
    /// Where on the disk or in the file; of a [`Subject::Gzip`], of what it holds.
    pub offset: Option<u64>,
    /// How much.
    pub len: u64,
    /// The restore that ended by it, where that had begun to write.
    pub unfinished: Option<Box<UnfinishedRestore>>,
    /// What was found, where that is not said by all the rest.
    found: String,
    /// The kernel's reason.
    source: Option<io::Error>,
}

impl ImageError {
    fn new(kind: ErrorKind, op: ImageOp, what: Subject) -> Self {
        ImageError {
            kind,
            op,
            what,
            offset: None,
            len: 0,
            unfinished: None,
            found: String::new(),
            source: None,
        }
    }

    fn at(self, offset: u64, len: u64) -> Self {
        ImageError { offset: Some(offset), len, ..self }
    }

    fn found(self, found: impl Into<String>) -> Self {
        ImageError { found: found.into(), ..self }
    }

    fn because(self, source: impl Into<Option<io::Error>>) -> Self {
        ImageError { source: source.into(), ..self }
    }

    /// True where the target disk was written to: it is unbootable until a restore succeeds.
    pub fn disk_was_touched(&self) -> bool {
        self.unfinished.is_some()
    }

    /// True where neither input nor disk nor share is the reason: code 70.
    pub fn is_internal(&self) -> bool {
        matches!(self.kind, ErrorKind::Internal | ErrorKind::Resource)
    }

    /// True where the medium of a disk does not give its data.
    pub fn is_bad_sector(&self) -> bool {
        self.kind == ErrorKind::Medium && self.op == ImageOp::Read
    }

    /// True for what reading an image, old or new, can show to be wrong with it, or with the share that it is on.
    pub fn is_of_image(&self) -> bool {
        let is_read = self.kind == ErrorKind::Io && self.op == ImageOp::Read;
        self.what == Subject::Image && (is_read || self.kind == ErrorKind::Corrupt)
    }

    /// The kernel's reason where a call failed.
    pub fn io_source(&self) -> Option<&io::Error> {
        self.source.as_ref()
    }

    /// The error of a share that an image could not be read from.
    ///
    /// # Errors
    /// This error again, where it is any other.
    pub fn into_read_error(mut self) -> Result<io::Error, Self> {
        let source = self.source.take_if(|_| self.what == Subject::Image && self.op == ImageOp::Read);
        source.ok_or(self)
    }

    /// An error of this program.
    pub fn internal(what: impl Into<String>) -> Self {
        ImageError::new(ErrorKind::Internal, ImageOp::Work, Subject::Machine).found(what)
    }

    /// Runs `work`, whose panic becomes an error: the caller can say what was touched, and no other thread waits for it.
    ///
    /// # Errors
    /// Those of `work`, and [`ErrorKind::Internal`].
    pub fn catch<T>(work: impl FnOnce() -> Result<T, ImageError>) -> Result<T, ImageError> {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(ImageError::of_panic(&*panic)))
    }

    /// The error that a panic is.
    pub fn of_panic(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        ImageError::internal(format!("panicked: {}", text.unwrap_or_else(|| "without a text".into())))
    }

    /// An image file could not be read at byte `position`.
    pub fn read(position: u64, source: io::Error) -> Self {
        ImageError::new(ErrorKind::Io, ImageOp::Read, Subject::Image).at(position, 0).because(source)
    }

    /// `op` on an image file failed after `written` bytes of it.
    pub fn sink(op: ImageOp, written: u64, source: io::Error) -> Self {
        ImageError::new(ErrorKind::Io, op, Subject::Image).at(written, 0).because(source)
    }

    pub(in crate::image) fn cancelled() -> Self {
        ImageError::new(ErrorKind::Cancelled, ImageOp::Work, Subject::Machine)
    }

    pub(in crate::image) fn resource(op: ImageOp, source: io::Error) -> Self {
        ImageError::new(ErrorKind::Resource, op, Subject::Machine).because(source)
    }

    /// A range that the image does not have.
    pub(in crate::image) fn refused_range(range: &Range<u64>, disk_size: u64) -> Self {
        let Range { start, end } = range;
        let what = format!("bytes {start} to {end} are not on a disk of {disk_size} bytes");
        ImageError::new(ErrorKind::Refused, ImageOp::Read, Subject::Image).found(what)
    }

    /// What the image has not got, because the disk did not give it.
    pub(in crate::image) fn not_imaged(range: &Range<u64>) -> Self {
        let Range { start, end } = range;
        let what = format!("the disk did not give its bytes {start} to {end} when it was imaged");
        ImageError::new(ErrorKind::Medium, ImageOp::Read, Subject::Image).at(*start, end - start).found(what)
    }

    /// Not the image that it should be.
    pub(in crate::image) fn corrupt(what: impl Into<String>) -> Self {
        ImageError::new(ErrorKind::Corrupt, ImageOp::Read, Subject::Image).found(what)
    }

    /// Not a testbox image, or cut short.
    pub(in crate::image) fn not_an_image(why: impl Into<String>) -> Self {
        ImageError::corrupt(format!("not a whole testbox image: {}", why.into()))
    }

    /// What was written a moment ago reads back as something else.
    pub(in crate::image) fn not_written(what: impl Into<String>) -> Self {
        ImageError { op: ImageOp::ReadBack, ..ImageError::corrupt(what) }
    }

    /// A part of the image is not what its hashes say.
    pub fn damaged(position: u64, what: impl Into<String>) -> Self {
        ImageError::corrupt(what).at(position, 0)
    }

    /// A gzip file that cannot be used, after `done` bytes of its content.
    pub(in crate::image) fn foreign(done: u64, what: impl Into<String>) -> Self {
        ImageError::new(ErrorKind::Corrupt, ImageOp::Read, Subject::Gzip).at(done, 0).found(what)
    }

    /// The same error, of a restore that had begun to write.
    pub(in crate::image) fn unfinished(
        self,
        disk: &dyn BlockDevice,
        (done, total): (u64, u64),
        state: &'static str,
    ) -> Self {
        let unfinished = UnfinishedRestore { disk: disk.name().to_owned(), done, total, state };
        ImageError { unfinished: Some(Box::new(unfinished)), ..self }
    }

    fn tell(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ImageError { op, found, len, .. } = self;
        match (self.kind, self.offset) {
            (ErrorKind::Cancelled, _) => f.write_str("cancelled"),
            (ErrorKind::Internal, _) => write!(f, "internal error, please report: {found}"),
            (ErrorKind::Gone, _) => {
                f.write_str("the disk is gone: it was taken away, or its controller has given it up")
            }
            (ErrorKind::Corrupt, Some(at)) if self.what == Subject::Gzip => {
                write!(f, "the gzip file is damaged after {at} bytes of content: {found}")
            }
            (ErrorKind::Corrupt, Some(at)) => {
                write!(f, "the image is damaged at byte {at} of the file: {found}")
            }
            (ErrorKind::Differs, at) => {
                let (at, lba) = (at.unwrap_or(0), self.lba());
                write!(f, "{len} bytes at byte {at} (LBA {lba}) are not what the image holds")?;
                match op {
                    ImageOp::ReadBack => {
                        f.write_str(" although it was just written: the disk loses or changes writes")
                    }
                    _ => Ok(()),
                }
            }
            _ if !found.is_empty() => f.write_str(found),
            (_, None) => write!(f, "cannot {op}"),
            (_, Some(at)) => match (&self.what, op) {
                (Subject::Disk { .. }, _) => {
                    write!(f, "cannot {op} {len} bytes at byte {at} (LBA {})", self.lba())
                }
                (_, ImageOp::Read) => write!(f, "cannot read the image at byte {at}"),
                _ => write!(f, "cannot {op} the image after {at} bytes of it"),
            },
        }
    }

    fn lba(&self) -> u64 {
        match self.what {
            Subject::Disk { block, .. } => self.offset.unwrap_or(0) / u64::from(block.max(1)),
            _ => 0,
        }
    }
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(unfinished) = &self.unfinished {
            let UnfinishedRestore { disk, done, total, state } = &**unfinished;
            write!(f, "{disk}: {done} of {total} bytes were handled. {state}. Why: ")?;
        }
        if let Subject::Disk { name, .. } = &self.what {
            write!(f, "{name}: ")?;
        }
        self.tell(f)
    }
}

impl std::error::Error for ImageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
