//! `image create`: disk in, image out, verified before it gets its name.

use super::super::output::{Out, warn};
use super::super::{Answer, Error};
use super::{ImageFile, image_error, is_same, open_image, open_own, real_path, show};
use crate::block::sink::FileSink;
use crate::block::{BlockDevice, Disk};
use crate::image::{BackupOptions, DiskAbout, Earlier, Image, ImageError, Written, backup_again, verify};
use crate::inventory::{self, Identity, why_in_use};
use crate::progress::Progress;
use crate::used::{self, Used};
use rustix::fs::{CWD, FlockOperation, OFlags, RenameFlags};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Arguments of `image create`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Args {
    /// Block device or file to read
    disk: PathBuf,
    /// Image to write, such as sda.raw.gz
    image: PathBuf,
    /// Replace an image that is there, once the new one is verified
    #[arg(long)]
    force: bool,
    /// Do not read the image back
    #[arg(long)]
    no_verify: bool,
    /// Make an image although some sectors cannot be read: they become zeros, and the image says so
    #[arg(long)]
    allow_bad_sectors: bool,
    /// Leave out what no file system uses, where that is certain: auto, no-swap (also what is in
    /// swap areas and in page and hibernation files of Windows) or off.
    /// All of a disk that is in use is imaged
    #[arg(long, value_name = "HOW", default_value = "auto")]
    used: Used,
    /// Take over what this earlier image of the same disk has already, instead of compressing it again
    #[arg(long, value_name = "IMAGE")]
    base: Option<PathBuf>,
    /// Threads that compress [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,
}

pub(in super::super) fn run(args: &Args, out: &mut Out) -> Answer {
    let image = &args.image;
    may_replace(args)?;
    let disk = Disk::open_source(real_path(&args.disk)).map_err(|e| Error::failed(e.to_string()))?;
    let about = about(&disk, &args.disk);
    let base = args.base.as_deref().map(open_own).transpose()?.map(Arc::from);
    let part = part_of(image);
    let file = take_part(&part)?;
    let made = make(args, &disk, &about, base, &part, &file);
    if made.is_err() {
        // Best effort: the error is what counts, and the next create takes a leftover over.
        let _ = fs::remove_file(&part);
    }
    let report = made?;
    publish(&part, image, args.force)?;
    for line in report {
        out.line(line)?;
    }
    Ok(true)
}

/// `IMAGE.part`, in the same folder.
fn part_of(image: &Path) -> PathBuf {
    let mut name = image.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// Refuses what would be overwritten without anybody having asked for it.
fn may_replace(args: &Args) -> Result<(), Error> {
    let image = &args.image;
    let failed = |what: &str| Err(Error::failed(format!("{}: {what}", image.display())));
    match fs::symlink_metadata(image) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => failed(&format!("cannot look at it: {e}")),
        Ok(_) if is_same(&args.disk, image) => failed("it is the disk itself: give the image another name"),
        Ok(there) if !there.is_file() => {
            failed("it is there and no regular file: give the image another name")
        }
        Ok(_) if !args.force => failed("it exists: give another name, or --force to replace it"),
        Ok(_) => Ok(()),
    }
}

/// Opens the part file for this process alone. What an interrupted create has left is taken over.
fn take_part(part: &Path) -> Result<File, Error> {
    let failed = |what: &str, e: io::Error| Error::failed(format!("{}: cannot {what}: {e}", part.display()));
    let busy = || Error::failed(format!("{}: another testboxctl is writing it", part.display()));
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(flags.bits() as i32)
        .open(part)
        .map_err(|e| failed("create it", e))?;
    // Any other error: a share that has no locks.
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
        return Err(busy());
    }
    let ours = file.metadata().map_err(|e| failed("look at it", e))?;
    let is_still_it =
        fs::symlink_metadata(part).is_ok_and(|m| (m.dev(), m.ino()) == (ours.dev(), ours.ino()));
    if !is_still_it || !ours.is_file() {
        // Published between our opening and our lock: it is somebody's image now.
        return Err(busy());
    }
    Ok(file)
}

/// Writes and verifies the part file; the lines that tell about it.
fn make(
    args: &Args,
    disk: &Disk,
    about: &DiskAbout,
    base: Option<Arc<Image>>,
    part: &Path,
    file: &File,
) -> Result<Vec<String>, Error> {
    let progress = Progress::new();
    let look = || used::survey(disk, args.used, &progress);
    let ((map, verdicts), _) = show::timed("look for what is used", &progress, look);
    let options = BackupOptions {
        threads: args.threads,
        allow_bad_sectors: args.allow_bad_sectors,
        used: Arc::new(map),
        ..BackupOptions::default()
    };
    let mut earlier = Earlier { base, ..Earlier::default() };
    let mut again = false;
    loop {
        // Members of the base are taken over unread: all of the new image is inflated afterwards.
        earlier.prove_base = again;
        match make_once(args, disk, about, &options, &earlier, part, file) {
            Err(Made::Unproven(error)) if !again => {
                warn(&format!("{error}; it is made again, each member of the base being read first"));
                again = true;
            }
            Err(Made::Unproven(error) | Made::Failed(error)) => return Err(error),
            Ok(lines) => return Ok(verdicts.into_iter().chain(lines).collect()),
        }
    }
}

/// Why there is no image.
enum Made {
    /// What was taken over from the base may be why.
    Unproven(Error),
    Failed(Error),
}

impl From<Error> for Made {
    fn from(error: Error) -> Self {
        Made::Failed(error)
    }
}

fn make_once(
    args: &Args,
    disk: &Disk,
    about: &DiskAbout,
    options: &BackupOptions,
    earlier: &Earlier,
    part: &Path,
    mut file: &File,
) -> Result<Vec<String>, Made> {
    let progress = Progress::new();
    let part_error = |e: io::Error| Error::failed(format!("{}: {e}", part.display()));
    file.set_len(0).and_then(|()| file.rewind()).map_err(part_error)?;
    let mut sink = FileSink::new(file.try_clone().map_err(part_error)?);
    let work = || backup_again(disk, &mut sink, about, options, earlier, &progress);
    let (written, time) = show::timed(&format!("create {}", about.name), &progress, work);
    let written = written.map_err(|e| match e {
        ImageError::Read { .. } => Made::Unproven(image_error(part, &e)),
        e => Made::Failed(image_error(part, &e)),
    })?;
    let empty = written.zero_bytes + written.unallocated_bytes;
    let mut lines = vec![
        format!(
            "{}: {} of disk, {} of it used by nobody and not imaged, {} zero, {} stored",
            args.image.display(),
            show::size(written.disk_bytes),
            show::size(written.unallocated_bytes),
            show::size(written.zero_bytes),
            show::size(written.stored_bytes)
        ),
        format!(
            "image {}, {}, {}",
            show::size(written.image_bytes),
            show::ratio(written.disk_bytes, empty, written.image_bytes),
            show::speed(written.disk_bytes, time)
        ),
        format!("root hash {}", written.root_hash),
    ];
    if let Some(base) = &args.base {
        lines.push(format!("{} taken over from {}", show::size(written.taken_bytes), base.display()));
        if let Some(why) = &written.bad_base {
            warn(&format!(
                "{}: {why}; do not use it: what was bad of it was made from the disk again",
                base.display()
            ));
        }
    }
    if !args.no_verify {
        let (checked, time) =
            show::timed("verify", &progress, || read_back(part, args.threads, &written, &progress));
        checked.map_err(|e| if written.unread_bytes > 0 { Made::Unproven(e) } else { Made::Failed(e) })?;
        lines.push(format!("verified by reading it back: {}", show::speed(written.disk_bytes, time)));
    }
    if args.no_verify && written.unread_bytes > 0 {
        lines.push("what was taken over was not read: verify the image before you rely on it".to_owned());
    }
    for bad in &written.unreadable {
        warn(&format!("{}: bytes {} to {} could not be read", args.disk.display(), bad.start, bad.end));
    }
    if written.is_degraded() {
        lines.push(format!("DEGRADED: {} could not be read", show::size(written.unreadable_bytes)));
    }
    Ok(lines)
}

/// The image must be whole, and the one that was written.
fn read_back(part: &Path, threads: usize, written: &Written, progress: &Progress) -> Result<(), Error> {
    let ImageFile::Own(image) = open_image(part)? else {
        return Err(Error::failed(format!("{}: it does not read back as an image", part.display())));
    };
    let summary = verify(&image, threads, progress).map_err(|e| image_error(part, &e))?;
    if summary.root_hash != written.root_hash {
        return Err(Error::failed(format!(
            "{}: another image than the one written was read back",
            part.display()
        )));
    }
    Ok(())
}

/// Gives the image its name, for good.
fn publish(part: &Path, image: &Path, force: bool) -> Result<(), Error> {
    let failed = |what: &str, e: io::Error| {
        Error::failed(format!(
            "{}: cannot {what}: {e}; the image is whole in {}",
            image.display(),
            part.display()
        ))
    };
    let renamed = if force {
        fs::rename(part, image)
    } else {
        match rustix::fs::renameat_with(CWD, part, CWD, image, RenameFlags::NOREPLACE) {
            // A file system without this flag.
            Err(Errno::INVAL | Errno::NOSYS) if !image.exists() => fs::rename(part, image),
            renamed => renamed.map_err(io::Error::from),
        }
    };
    renamed.map_err(|e| failed("rename the image to it", e))?;
    sync_folder(image).map_err(|e| failed("make its name durable", e))
}

/// fsync of the folder that holds `path`.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// What is known of the disk: for a block device, who it is.
fn about(disk: &Disk, path: &Path) -> DiskAbout {
    if disk.is_regular_file() {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        return DiskAbout::new(&name, Identity::default(), disk);
    }
    let proc = |name: &str| fs::read_to_string(format!("/proc/{name}")).unwrap_or_default();
    let users = why_in_use(Path::new("/sys"), disk.name(), &proc("self/mountinfo"), &proc("swaps"));
    for user in users {
        warn(&format!("{user}: what is written there meanwhile makes the image inconsistent"));
    }
    // By the descriptor: the name may mean another disk by now, whose serial the image must not carry.
    let found = disk
        .device_number()
        .and_then(|number| inventory::Disk::of_number(Path::new("/sys"), Path::new("/dev"), number));
    let found = found.map_err(|e| {
        warn(&format!("{}: {e}; the image will not know the disk's serial number", disk.name()))
    });
    DiskAbout::new(disk.name(), found.map(|d| d.identity).unwrap_or_default(), disk)
}
