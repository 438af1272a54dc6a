//! `image`: the imaging engine on regular files and block devices of this computer.

mod create;
mod diff;
mod export;
mod foreign;
mod fuse;
mod import;
mod mount;
mod parts;
mod qemu;
mod read;
mod restore;
mod sharing;
pub(super) mod show;
mod source;

use super::config::SettingsFile;
use super::output::{Out, closed_or};
use super::shares::{self, ShareFolder};
use super::{Answer, Error};
use crate::block::{BlockDevice, DirectFile, FileId, RealDisk};
use crate::image::{ErrorKind, Image, ImageError, ImageFile, ImageOp, Subject};
use crate::sys::drop_cached;
use crate::text::with_sources;
use rustix::fs::OFlags;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const CREATE_HELP: &str = "\
IMAGE is a plain gzip file: 'zcat IMAGE' gives the raw disk. It is written as IMAGE.part, read back and checked \
against the hashes that were taken from the disk, and only then gets its name. What no file system uses is not read, \
and zeros in the image; 'image info' says for each partition what was left out, or why all of it was imaged.

Example:
  testboxctl image create /dev/sdb sdb.raw.gz";

const RESTORE_HELP: &str = "\
IMAGE is one of testbox, or any gzip of a disk. What the disk holds already is found by its hashes, \
and neither read from the image nor written again; the rest of the image is checked before the first write (a gzip: all \
of it); what was written is read back; what boots is written last. A missing DISK is created as a file; an existing file wants --overwrite and must be large enough, and \
is never an image, a file with a second name, or one that is in use.

Example:
  testboxctl image restore sda.raw.gz disk.raw
  testboxctl image restore --yes sda.raw.gz /dev/sdb";

/// The commands on images.
#[derive(Debug, clap::Subcommand)]
pub(super) enum ImageCommand {
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
    /// Show the disks of images, and their partitions, as files of a folder
    #[command(after_help = mount::HELP)]
    Mount(mount::Args),
    /// Write the disk of an image into a file that a virtual machine can start from
    #[command(after_help = export::HELP)]
    Export(export::Args),
    /// Make disks of virtual machines a set of a machine
    #[command(after_help = import::HELP)]
    Import(import::Args),
}

pub(super) fn run(command: ImageCommand, file: SettingsFile, out: &mut Out) -> Answer {
    match command {
        ImageCommand::Create(args) => create::run(&args, out),
        ImageCommand::Restore(args) => restore::run(&args, out),
        ImageCommand::Verify(args) => read::verify(&args, out),
        ImageCommand::Info(args) => read::info(&args, out),
        ImageCommand::Cat(args) => read::cat(&args, out),
        ImageCommand::Diff(args) => diff::run(&args, out),
        ImageCommand::Mount(args) => mount::run(args, file, out),
        ImageCommand::Export(args) => export::run(args, file, out),
        ImageCommand::Import(args) => import::run(args, file, out),
    }
}

/// Opens an image: see [`ImageFile::open`].
fn open_image(path: &Path) -> Result<ImageFile, Error> {
    open_image_file(path).map(|(image, _)| image)
}

/// The same, and which file that is.
fn open_image_file(path: &Path) -> Result<(ImageFile, FileId), Error> {
    let (file, id) = open_file(path)?;
    Ok((ImageFile::open(file).map_err(|e| image_error(path, &e))?, id))
}

/// Opens a file that should be an image, to be read from its disk or server, and says which file that is.
fn open_file(path: &Path) -> Result<(Arc<DirectFile>, FileId), Error> {
    let failed = |what: String| Error::failed(format!("{}: {what}", path.display()));
    let no_open = |e: io::Error| failed(format!("cannot open it: {e}"));
    let not_regular = || failed("not a regular file".into());
    // A FIFO or a device would block, or act.
    if !fs::metadata(path).map_err(no_open)?.is_file() {
        return Err(not_regular());
    }
    let nonblock = OFlags::NONBLOCK.bits() as i32;
    let file = fs::File::options().read(true).custom_flags(nonblock).open(path).map_err(no_open)?;
    if !file.metadata().map_err(no_open)?.is_file() {
        return Err(not_regular());
    }
    let id = FileId::of(&file).map_err(no_open)?;
    // What it means beside such a record only a newer program knows.
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    ShareFolder::open(dir).map_or(Ok(()), |folder| shares::refuse_newer(&folder, ""))?;
    // What is proven is the file on its disk or server, and not what this computer remembers of it.
    drop_cached(&file, 0, None).map_err(|e| failed(format!("cannot drop its cached pages: {e}")))?;
    let this = format!("/proc/self/fd/{}", file.as_raw_fd());
    let direct = fs::File::options().read(true).custom_flags(libc::O_DIRECT).open(this);
    Ok((Arc::new(DirectFile::new(file, direct)), id))
}

/// Opens an image of testbox, to be compared with another one.
fn open_own(path: &Path) -> Result<Box<Image>, Error> {
    open_own_file(path).map(|(image, _)| image)
}

/// The same, and which file that is.
fn open_own_file(path: &Path) -> Result<(Box<Image>, FileId), Error> {
    match open_image_file(path)? {
        (ImageFile::Own(image), id) => Ok((image, id)),
        (ImageFile::Foreign(_), _) => Err(Error::failed(format!(
            "{}: a gzip file, not of testbox: it has no index to go by; cmp <(zcat A) <(zcat B) compares any two",
            path.display()
        ))),
    }
}

/// What an error of the engine says, with the image's path and what to do.
fn image_error(path: &Path, error: &ImageError) -> Error {
    let advice = match (error.kind, &error.what) {
        (ErrorKind::Corrupt, Subject::Gzip) => "; do not use it: take another copy of it",
        (ErrorKind::Corrupt, _) => {
            "; do not use it: use another copy of the image, or an older set of history/"
        }
        _ => "",
    };
    let what = if error.kind == ErrorKind::Cancelled { "interrupted".into() } else { with_sources(error) };
    let text = format!("{}: {what}{advice}", path.display());
    if error.is_internal() { Error::Internal(text) } else { Error::Failed(text) }
}

/// A block device under its kernel name, whatever link led to it.
fn real_path(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Opens a disk that is only read.
fn open_disk(path: &Path) -> Result<RealDisk, Error> {
    RealDisk::open_read(real_path(path)).map_err(|e| Error::failed(e.to_string()))
}

/// The error of an engine that writes to standard output.
fn stream_error(path: &Path, error: &ImageError) -> Error {
    match error.io_source().filter(|_| error.what == Subject::Image && error.op == ImageOp::Write) {
        Some(source) => closed_or(source),
        None => image_error(path, error),
    }
}

/// Size, for messages.
fn sized(disk: &dyn BlockDevice) -> String {
    format!("{} ({} bytes)", crate::text::human_bytes(disk.size()), disk.size())
}
