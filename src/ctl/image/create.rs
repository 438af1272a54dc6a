//! `image create`: disk in, image out, verified before it gets its name.

use super::super::output::{Out, warn};
use super::super::target::{ImageTarget, Others, TargetContent};
use super::super::{Answer, Error};
use super::{image_error, open_file, open_own_file, real_path, show};
use crate::block::sink::FileSink;
use crate::block::{BlockDevice, RealDisk, View};
use crate::image::{
    BackupFile, BackupOptions, DiskAbout, Image, ImageError, Part, Pass, ReadBack, Written,
    backup_unverified, backup_verified,
};
use crate::inventory::{self, Identity, why_in_use};
use crate::io::{ReadAt, SyncWrite};
use crate::progress::Progress;
use crate::share::ownership::PRIVATE_FILE;
use crate::store::layout::PART;
use crate::sys::{is_ending, note_ending_signals};
use crate::types::Compression;
use crate::used::{self, Beyond, Used};
use serde_json::{Value, json};
use std::cell::Cell;
use std::fs;
use std::io::{self, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

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
    /// Another disk of the same machine: where it holds hashes for dm-verity or the like, free space is imaged too.
    /// Once for each disk
    #[arg(long, value_name = "DISK")]
    beside: Vec<PathBuf>,
    /// Take over what this earlier image of the same disk has already, instead of compressing it again
    #[arg(long, value_name = "IMAGE")]
    base: Option<PathBuf>,
    /// How small: 1 (the fastest), 3, 6 or 9
    #[arg(long, value_name = "N", default_value = "1")]
    level: Compression,
    /// Threads that compress [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,
    /// For programs
    #[arg(long)]
    json: bool,
}

pub(in super::super) fn run(args: &Args, out: &mut Out) -> Answer {
    // From here on, so that the part is never left by whoever ends this.
    note_ending_signals();
    let image = &args.image;
    let disk = RealDisk::open_source(real_path(&args.disk)).map_err(|e| Error::failed(e.to_string()))?;
    let (base, base_id) = args.base.as_deref().map(open_own_file).transpose()?.unzip();
    let source = disk.file_id().map_err(|e| Error::failed(format!("{}: {e}", args.disk.display())))?;
    let mut others = vec![("the disk", source)];
    others.extend(base_id.map(|id| ("the base", id)));
    let replaces = replaced(args, &others)?;
    others.extend(replaces.as_ref().map(|there| ("the image that is there", there.id)));
    let part = take_part(&part_of(image), args.force, &others)?;
    let about = about(&disk, &args.disk);
    let (lines, value) = match make(args, &disk, &about, base.map(Arc::from), &part) {
        Ok(made) => made,
        Err(e) => {
            part.remove();
            // Whoever has ended it, and whoever meets an error of this program, must know what is left.
            let is_told = matches!(e, Error::Internal(_)) || is_ending();
            return Err(if is_told { e.and("; it was removed, and no image was made") } else { e });
        }
    };
    part.publish(image, replaces.as_ref())?;
    out.result(args.json, &value, &lines).map(|()| true)
}

/// `IMAGE.part`, in the same folder.
fn part_of(image: &Path) -> PathBuf {
    let mut name = image.as_os_str().to_owned();
    name.push(PART);
    name.into()
}

/// The image that will be replaced, where somebody has asked for that.
fn replaced(args: &Args, others: Others) -> Result<Option<ImageTarget>, Error> {
    let Some(there) = ImageTarget::open(&args.image, false)? else { return Ok(None) };
    there.check(others)?;
    if !args.force {
        return Err(Error::failed(format!(
            "{}: it exists: give another name, or --force to replace it",
            args.image.display()
        )));
    }
    Ok(Some(there))
}

/// Opens the part file for this process alone. What an interrupted create has left is taken over, and truncated when
/// it is known to be that.
fn take_part(path: &Path, force: bool, others: Others) -> Result<ImageTarget, Error> {
    let Some(part) = ImageTarget::open(path, true)? else {
        let part = ImageTarget::create(path, PRIVATE_FILE)?;
        part.lock()?;
        return Ok(part);
    };
    part.check_bytes(others)?;
    part.lock()?;
    match part.content()? {
        TargetContent::Unfinished => {}
        TargetContent::Image => {
            return Err(Error::failed(format!(
                "{}: it is a whole image: rename it to keep it, or remove it",
                path.display()
            )));
        }
        TargetContent::Gzip | TargetContent::Other if force => {}
        TargetContent::Gzip | TargetContent::Other => {
            return Err(Error::failed(format!(
                "{}: not what an interrupted create has left: give the image another name, or --force to overwrite it",
                path.display()
            )));
        }
    }
    part.set_mode(PRIVATE_FILE)?;
    Ok(part)
}

/// Writes and verifies the part file; what there is to tell about it.
fn make(
    args: &Args,
    disk: &RealDisk,
    about: &DiskAbout,
    base: Option<Arc<Image>>,
    part: &ImageTarget,
) -> Result<(Vec<String>, Value), Error> {
    let progress = Progress::new();
    let beyond = beyond(args, disk, &progress)?;
    let look = || used::survey_beside(disk, args.used, &beyond, &progress);
    let ((map, mut lines), _) = show::timed("look for what is used", &progress, look);
    let options = BackupOptions {
        threads: args.threads,
        allow_bad_sectors: args.allow_bad_sectors,
        codec: args.level.into(),
        used: Arc::new(map),
        ..BackupOptions::default()
    };
    if let Some((base, path)) = base.as_deref().zip(args.base.as_ref())
        && let Err(why) = options.check_base(base)
    {
        warn(&format!("nothing is taken over from {}: {why}", path.display()));
    }
    let file = CreatedFile { part, name: &about.name, writing: Cell::default(), reading: Cell::default() };
    // Members of the base are taken over unread, and nobody vouches for it: all of the new image is inflated afterwards.
    let made = match args.no_verify {
        true => backup_unverified(disk, about, &options, base, &file),
        false => backup_verified(disk, about, &options, base, ReadBack::Inflate, &file).map(|(made, _)| made),
    };
    let written = made.map_err(|e| image_error(&part.path, &e))?;
    lines.extend(figures(args, &written, file.writing.get()));
    if !args.no_verify {
        let speed = show::speed(data_bytes(&written), file.reading.get());
        lines.push(format!("verified by reading it back: {speed}"));
    } else if written.unread_bytes > 0 {
        lines.push("what was taken over was not read: verify the image before you rely on it".to_owned());
    }
    let value = json!({
        "image": args.image.display().to_string(),
        "disk_bytes": written.disk_bytes,
        "unallocated_bytes": written.unallocated_bytes,
        "zero_bytes": written.zero_bytes,
        "stored_bytes": written.stored_bytes,
        "taken_bytes": written.taken_bytes,
        "unreadable_bytes": written.unreadable_bytes,
        "image_bytes": written.image_bytes,
        "hole_bytes": written.hole_bytes,
        "root_hash": written.root_hash.to_string(),
        "degraded": written.is_degraded(),
        "verified": !args.no_verify,
        "seconds": file.writing.get().as_secs_f64(),
    });
    Ok((lines, value))
}

/// What the disk, and those beside it, hold of layers that read free space.
fn beyond(args: &Args, disk: &RealDisk, progress: &Progress) -> Result<Beyond, Error> {
    let mut beyond = Beyond::default();
    if args.used == Used::Off {
        return Ok(beyond);
    }
    progress.start(0);
    beyond.look(&View::new(disk, progress), disk.name(), disk.logical_block_size());
    for path in &args.beside {
        let other = RealDisk::open_source(real_path(path)).map_err(|e| Error::failed(e.to_string()))?;
        beyond.look(&View::new(&other, progress), other.name(), other.logical_block_size());
    }
    Ok(beyond)
}

/// Bytes of disk that are neither zero nor unallocated.
fn data_bytes(written: &Written) -> u64 {
    written.disk_bytes.saturating_sub(written.zero_bytes).saturating_sub(written.unallocated_bytes)
}

/// What was written, in lines for a person; what is wrong with disk or base is warned of.
fn figures(args: &Args, written: &Written, time: Duration) -> Vec<String> {
    let empty = written.zero_bytes + written.unallocated_bytes;
    let mut lines = vec![
        format!(
            "{}: {} of disk, {} of it unallocated and not imaged, {} zero, {} stored",
            args.image.display(),
            show::size(written.disk_bytes),
            show::size(written.unallocated_bytes),
            show::size(written.zero_bytes),
            show::size(written.stored_bytes)
        ),
        format!(
            "image {}, {}, {}, {}",
            show::size(written.image_bytes),
            show::holes(written.hole_bytes),
            show::ratio(written.disk_bytes, empty, written.image_bytes),
            show::speed(data_bytes(written), time)
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
    for bad in &written.unreadable {
        warn(&format!("{}: bytes {} to {} could not be read", args.disk.display(), bad.start, bad.end));
    }
    if written.is_degraded() {
        lines.push(format!("DEGRADED: {} could not be read", show::size(written.unreadable_bytes)));
    }
    lines
}

/// The part file while the image is made, and how long that took.
struct CreatedFile<'a> {
    part: &'a ImageTarget,
    /// What the disk is called.
    name: &'a str,
    writing: Cell<Duration>,
    reading: Cell<Duration>,
}

impl BackupFile for CreatedFile<'_> {
    fn during<T>(&self, pass: Pass, work: impl FnOnce(&Progress) -> T) -> T {
        let progress = Progress::new();
        let (label, time) = match pass {
            Pass::Write => (format!("create {}", self.name), &self.writing),
            Pass::ReadBack => ("verify".to_owned(), &self.reading),
        };
        let (done, took) = show::timed(&label, &progress, || work(&progress));
        time.set(took);
        done
    }

    fn begin(&self) -> io::Result<(Box<dyn SyncWrite>, Option<Part>)> {
        let mut file = &self.part.file;
        file.set_len(0)?;
        file.rewind()?;
        Ok((Box::new(FileSink::new(file.try_clone()?)), None))
    }

    fn written(&self, _: &Written) {}

    fn reopen(&self) -> io::Result<Arc<dyn ReadAt>> {
        let (file, id) = open_file(&self.part.path).map_err(io::Error::other)?;
        if id != self.part.id {
            return Err(io::Error::other("its name is that of another file by now"));
        }
        Ok(file)
    }

    /// The next attempt empties it.
    fn discard(&self, why: &ImageError) -> io::Result<()> {
        let why = image_error(&self.part.path, why);
        warn(&format!("{why}; it is made again, each member of the base being read first"));
        Ok(())
    }
}

/// What is known of the disk: for a block device, who it is.
fn about(disk: &RealDisk, path: &Path) -> DiskAbout {
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
