//! `image restore`: image in, disk out.

use super::super::output::{Out, warn};
use super::super::target::{ImageTarget, TargetContent, sync_folder};
use super::super::{Answer, Error};
use super::{image_error, open_image_file, real_path, show, sized};
use crate::block::{BlockDevice, FileId, RealDisk, backing_of};
use crate::image::{ImageError, MemberMemory, Proof, RestoreOptions, Restored};
use crate::inventory::Inventory;
use crate::progress::Progress;
use crate::share::ownership::PRIVATE_FILE;
use crate::sys::{RealSystem, System};
use crate::text::human_bytes;
use crate::types::{Delta, FreeSpace, ReadTwice};
use serde_json::json;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Arguments of `image restore`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Args {
    /// Image to read
    image: PathBuf,
    /// Block device or file to overwrite
    disk: PathBuf,
    /// Overwrite a block device
    #[arg(long)]
    yes: bool,
    /// Overwrite a regular file that is there: never an image, a file with a second name, or one that is in use
    #[arg(long)]
    overwrite: bool,
    /// Read what is needed of the image, and has no room in memory, once: it is checked when it is written, not before the
    /// first write; for images of testbox
    #[arg(long)]
    no_verify: bool,
    /// Threads that inflate [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,
    /// Read what the disk holds and write only what differs: auto (as long as that is faster), always or never; for
    /// images of testbox
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    delta: Delta,
    /// What becomes of the space that was unallocated when the disk was imaged: leave it as it is, discard it, or zero it;
    /// for images of testbox
    #[arg(long, value_name = "HOW", default_value = "leave")]
    free: FreeSpace,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// What will be written.
enum Onto {
    /// A block device, by its kernel name.
    Device(PathBuf),
    /// A regular file that somebody wants overwritten.
    File(ImageTarget),
    /// A file that is not there yet.
    New(PathBuf),
}

pub(in super::super) fn run(args: &Args, out: &mut Out) -> Answer {
    let (image, id) = open_image_file(&args.image)?;
    let onto = Onto::find(args, id)?;
    let progress = Progress::new();
    let measured = match image.claim() {
        // What the disk lacks is proven once that is known.
        Some(claim) => claim,
        None => {
            let room = onto.room()?;
            let work = || image.verify(Proof::Scrub, room, args.threads, &progress);
            show::timed("check image", &progress, work).0.map_err(|e| untouched(&args.image, &e))?
        }
    };
    let options = RestoreOptions {
        threads: args.threads,
        delta: args.delta,
        free: args.free,
        memory: MemberMemory::of_available(RealSystem::new().available_memory()),
        read_twice: if args.no_verify { ReadTwice::No } else { ReadTwice::Yes },
        ..RestoreOptions::default()
    };
    let (restored, time) = onto.write(measured.size, |disk| {
        show::timed("restore", &progress, || image.restore(&measured, disk, &options, &progress))
    })?;
    let restored = restored.map_err(|e| match e.disk_was_touched() {
        true => image_error(&args.image, &e).and(&onto.left()),
        false => untouched(&args.image, &e),
    })?;
    if let Some(error) = &restored.reread_error {
        warn(&format!("the kernel does not read the new partition table yet: {error}"));
    }
    if let Some(error) = &restored.discard_error {
        warn(&format!("not everything unallocated was discarded: {error}"));
    }
    let value = json!({
        "disk": onto.path().display().to_string(),
        "disk_bytes": restored.disk_bytes,
        "written_bytes": restored.written_bytes,
        "kept_bytes": restored.kept_bytes,
        "read_bytes": restored.read_bytes,
        "image_bytes": restored.image_bytes,
        "zero_bytes": restored.zero_bytes,
        "left_bytes": restored.left_bytes,
        "discarded_bytes": restored.discarded_bytes,
        "unreadable_bytes": restored.unreadable_bytes,
        "seconds": time.as_secs_f64(),
    });
    out.result(args.json, &value, &lines(onto.path(), &restored, time)).map(|()| true)
}

/// What was done, for people.
fn lines(path: &Path, restored: &Restored, time: Duration) -> Vec<String> {
    let data = restored.disk_bytes.saturating_sub(restored.zero_bytes).saturating_sub(restored.left_bytes);
    let mut lines = vec![format!(
        "{}: {} restored: {} written and read back, {} was right already, {} read of the image's {}; {} of it zero, {}",
        path.display(),
        show::size(restored.disk_bytes),
        show::size(restored.written_bytes),
        show::size(restored.kept_bytes),
        show::size(restored.read_bytes),
        human_bytes(restored.image_bytes),
        show::size(restored.zero_bytes),
        show::speed(data, time)
    )];
    lines.extend(restored.table.said().map(|table| format!("{}: {table}", path.display())));
    if restored.left_bytes > 0 {
        lines.push(format!(
            "{} unallocated, left as it was on the disk; {} of it discarded",
            show::size(restored.left_bytes),
            show::size(restored.discarded_bytes)
        ));
    }
    if restored.unreadable_bytes > 0 {
        lines.push(format!(
            "DEGRADED: {} could not be read when the image was made, and are zeros now",
            show::size(restored.unreadable_bytes)
        ));
    }
    lines
}

type Outcome = (Result<Restored, ImageError>, Duration);

impl Onto {
    /// Refuses what nobody has asked to be overwritten, and what must not be, whoever asks.
    fn find(args: &Args, image: FileId) -> Result<Onto, Error> {
        let path = &args.disk;
        let refused = |what: &str| Error::failed(format!("{}: {what}; nothing was written", path.display()));
        if fs::metadata(path).is_ok_and(|there| there.file_type().is_block_device()) {
            let device = real_path(path);
            if !args.yes {
                let device = describe(&device);
                return Err(Error::usage(format!(
                    "{device} would be overwritten: say --yes if that is meant"
                )));
            }
            if backing_of(&device) == Some(image) {
                return Err(refused("it is a loop device of the image"));
            }
            return Ok(Onto::Device(device));
        }
        let Some(there) = ImageTarget::open(path, args.overwrite)? else {
            return Ok(Onto::New(path.clone()));
        };
        there.check_bytes(&[("the image", image)])?;
        if !args.overwrite {
            return Err(refused("it exists: give another name, or --overwrite if that is meant"));
        }
        there.lock()?;
        match there.content()? {
            TargetContent::Image => {
                Err(refused("it is an image: remove it first if it is not wanted any more"))
            }
            TargetContent::Unfinished if there.file.metadata().is_ok_and(|about| about.len() > 0) => {
                Err(refused("it is an image that is cut or damaged: remove it first if it is not wanted"))
            }
            TargetContent::Gzip => {
                Err(refused("it is a gzip file, perhaps an image: remove it first if it is not wanted"))
            }
            TargetContent::Unfinished | TargetContent::Other => Ok(Onto::File(there)),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Onto::Device(path) | Onto::New(path) => path,
            Onto::File(target) => &target.path,
        }
    }

    /// What a restore leaves that has failed or was ended behind its first write.
    fn left(&self) -> String {
        match self {
            Onto::New(path) => format!("; {} was removed", path.display()),
            Onto::Device(path) => {
                format!("; {} is unfinished and does not boot: restore it again", path.display())
            }
            Onto::File(target) => format!("; {} is unfinished: restore it again", target.path.display()),
        }
    }

    /// The bytes that there is room for.
    fn room(&self) -> Result<u64, Error> {
        match self {
            Onto::Device(path) => Ok(open(path)?.size()),
            Onto::File(target) => Ok(from_file(target)?.size()),
            Onto::New(_) => Ok(i64::MAX as u64),
        }
    }

    /// Opens or creates the target and writes to it; a file that was created for a restore that failed is removed.
    fn write(&self, size: u64, write: impl FnOnce(&RealDisk) -> Outcome) -> Result<Outcome, Error> {
        let path = match self {
            Onto::Device(path) => return Ok(write(&open(path)?)),
            Onto::File(target) => return Ok(write(&from_file(target)?)),
            Onto::New(path) => path,
        };
        let failed =
            |what: &str, e: io::Error| Error::failed(format!("{}: cannot {what}: {e}", path.display()));
        let target = ImageTarget::create(path, PRIVATE_FILE)?;
        let outcome = target.file.set_len(size).map_err(|e| failed("give it its size", e)).and_then(|()| {
            target.lock()?;
            Ok(write(&from_file(&target)?))
        });
        if !outcome.as_ref().is_ok_and(|(restored, _)| restored.is_ok()) {
            target.remove();
            return outcome;
        }
        sync_folder(path).map_err(|e| failed("make its name durable", e))?;
        outcome
    }
}

fn open(path: &Path) -> Result<RealDisk, Error> {
    RealDisk::open_write(path).map_err(|e| Error::failed(e.to_string()))
}

fn from_file(target: &ImageTarget) -> Result<RealDisk, Error> {
    RealDisk::from_file(&target.file, &target.path).map_err(|e| Error::failed(e.to_string()))
}

/// An error that came before the first write.
fn untouched(image: &Path, error: &ImageError) -> Error {
    image_error(image, error).and("; nothing was written")
}

/// A block device in the words by which a person can tell that it is the right one.
fn describe(path: &Path) -> String {
    let inventory = Inventory::scan(Path::new("/sys"), Path::new("/dev")).unwrap_or_default();
    match (inventory.disks.iter().find(|d| d.path == path), RealDisk::open_read(path)) {
        (Some(disk), _) => disk.to_string(),
        (None, Ok(disk)) => format!("{}, {}", path.display(), sized(&disk)),
        (None, Err(_)) => path.display().to_string(),
    }
}
