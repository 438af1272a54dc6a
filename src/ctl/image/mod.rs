//! `image`: the imaging engine on regular files and block devices of this computer.

mod create;
mod diff;
mod read;
mod restore;
mod show;

use super::output::{Out, closed_or};
use super::{Answer, Error};
use crate::block::{BlockDevice, DirectFile, Disk};
use crate::image::{FileKind, Image, ImageError, file_kind};
use crate::sys::drop_cached;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const CREATE_HELP: &str = "\
IMAGE is a plain gzip file: 'zcat IMAGE' gives the raw disk. It is written as IMAGE.part, read back and checked \
against the hashes that were taken from the disk, and only then gets its name. What no file system uses is not read, \
and zeros in the image; 'image info' says for each partition what was left out, or why all of it was imaged.

Example:
  testboxctl image create /dev/sdb sdb.raw.gz";

const RESTORE_HELP: &str = "\
IMAGE is one of testbox, or any gzip of a disk. The image is checked whole before the first write; \
what the disk holds already is found by its hashes and not written again; what was written is read back; what boots \
is written last. A missing DISK is created as a file, an existing file must be large enough.

Example:
  testboxctl image restore sda.raw.gz disk.raw
  testboxctl image restore --yes sda.raw.gz /dev/sdb";

/// The commands on images.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Image a disk or a file
    #[command(after_help = CREATE_HELP)]
    Create(create::Args),
    /// Write an image onto a disk or into a file
    #[command(after_help = RESTORE_HELP)]
    Restore(restore::Args),
    /// Prove an image whole, and perhaps equal to a disk
    Verify(read::VerifyArgs),
    /// Show which disk an image is of, and its totals
    Info(read::InfoArgs),
    /// Write the disk, or a range of it, to standard output
    Cat(read::CatArgs),
    /// Show in which ranges and partitions two images differ
    Diff(diff::Args),
}

pub(super) fn run(command: Command, out: &mut Out) -> Answer {
    match command {
        Command::Create(args) => create::run(&args, out),
        Command::Restore(args) => restore::run(&args, out),
        Command::Verify(args) => read::verify(&args, out),
        Command::Info(args) => read::info(&args, out),
        Command::Cat(args) => read::cat(&args, out),
        Command::Diff(args) => diff::run(&args, out),
    }
}

/// An open image file.
enum ImageFile {
    /// One of testbox.
    Own(Box<Image>),
    /// A gzip file of somebody else.
    Foreign(Arc<DirectFile>),
}

/// Opens an image. A damaged one of testbox is an error, and never a foreign gzip: a gzip reader could not tell that
/// it was cut.
fn open_image(path: &Path) -> Result<ImageFile, Error> {
    let failed = |what: String| Error::failed(format!("{}: {what}", path.display()));
    // A FIFO or a device would block, or act.
    if !fs::metadata(path).map_err(|e| failed(format!("cannot open it: {e}")))?.is_file() {
        return Err(failed("it is no regular file".into()));
    }
    let file = fs::File::open(path).map_err(|e| failed(format!("cannot open it: {e}")))?;
    // What is proven is the file on its disk or server, and not what this computer remembers of it.
    drop_cached(&file, 0, None).map_err(|e| failed(format!("cannot drop its cached pages: {e}")))?;
    let direct = fs::File::options().read(true).custom_flags(libc::O_DIRECT).open(path);
    let file = Arc::new(DirectFile::new(file, direct));
    match file_kind(&*file).map_err(|e| image_error(path, &e))? {
        FileKind::Testbox => {
            Image::open(file).map(|image| ImageFile::Own(Box::new(image))).map_err(|e| image_error(path, &e))
        }
        FileKind::Gzip => Ok(ImageFile::Foreign(file)),
        FileKind::Other => Err(failed("it is neither a testbox image nor a gzip file".into())),
    }
}

/// Opens an image of testbox, to be compared with another one.
fn open_own(path: &Path) -> Result<Box<Image>, Error> {
    match open_image(path)? {
        ImageFile::Own(image) => Ok(image),
        ImageFile::Foreign(_) => Err(Error::failed(format!(
            "{}: a gzip file, not of testbox: it has no index to go by; cmp <(zcat A) <(zcat B) compares any two",
            path.display()
        ))),
    }
}

/// What an error of the engine says, with the image's path and what to do.
fn image_error(path: &Path, error: &ImageError) -> Error {
    let advice = match error {
        ImageError::NotAnImage(_) | ImageError::Damaged { .. } => {
            "; do not use it: use another copy of the image, or an older set of history/"
        }
        ImageError::Foreign { .. } => "; do not use it: take another copy of it",
        _ => "",
    };
    Error::failed(format!("{}: {error}{advice}", path.display()))
}

/// A block device under its kernel name, whatever link led to it.
fn real_path(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// True where both paths are the same file or device.
fn is_same(a: &Path, b: &Path) -> bool {
    match (fs::metadata(a), fs::metadata(b)) {
        (Ok(a), Ok(b)) if a.file_type().is_block_device() && b.file_type().is_block_device() => {
            a.rdev() == b.rdev()
        }
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// Opens a disk that is only read.
fn open_disk(path: &Path) -> Result<Disk, Error> {
    Disk::open_read(real_path(path)).map_err(|e| Error::failed(e.to_string()))
}

/// The error of an engine that writes to standard output.
fn stream_error(path: &Path, error: &ImageError) -> Error {
    match error {
        ImageError::Sink { source, .. } => closed_or(source),
        error => image_error(path, error),
    }
}

/// Size, for messages.
fn sized(disk: &dyn BlockDevice) -> String {
    format!("{} ({} bytes)", crate::console::human_bytes(disk.size()), disk.size())
}
