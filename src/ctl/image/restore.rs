//! `image restore`: image in, disk out.

use super::super::output::{Out, warn};
use super::super::{Answer, Error};
use super::create::sync_folder;
use super::{ImageFile, image_error, is_same, open_image, real_path, show, sized};
use crate::block::{BlockDevice, Disk};
use crate::image::{Delta, FreeSpace, ImageError, RestoreOptions, Restored, foreign, restore, scrub};
use crate::inventory::Inventory;
use crate::progress::Progress;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

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
    /// Do not check the whole image before the first write: each part is still checked before it is written
    #[arg(long)]
    no_verify: bool,
    /// Threads that inflate [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,
    /// Read what the disk holds and write only what differs: auto (as long as that is faster), always or never; for
    /// images of testbox
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    delta: Delta,
    /// What becomes of the space that nobody used when the disk was imaged: leave it as it is, discard it, or zero it;
    /// for images of testbox
    #[arg(long, value_name = "HOW", default_value = "leave")]
    free: FreeSpace,
}

pub(in super::super) fn run(args: &Args, out: &mut Out) -> Answer {
    let path = real_path(&args.disk);
    if is_same(&args.image, &path) {
        return Err(Error::failed(format!("{}: image and disk are the same", args.image.display())));
    }
    let is_missing = match fs::metadata(&path) {
        Ok(there) if there.file_type().is_block_device() && !args.yes => {
            return Err(Error::usage(format!(
                "{} would be overwritten: say --yes if that is meant",
                describe(&path)
            )));
        }
        Ok(_) => false,
        Err(e) if e.kind() == io::ErrorKind::NotFound => true,
        Err(e) => return Err(Error::failed(format!("{}: cannot look at it: {e}", path.display()))),
    };
    let (restored, time) = match open_image(&args.image)? {
        ImageFile::Own(image) => {
            let progress = Progress::new();
            if !args.no_verify {
                // Not inflated: each run is, and its raw hash checked, before it is written.
                let work = || scrub(&image, args.threads, &progress);
                show::timed("check image", &progress, work).0.map_err(|e| untouched(&args.image, &e))?;
            }
            let size = image.summary().disk;
            let options = RestoreOptions {
                threads: args.threads,
                delta: args.delta,
                free: args.free,
                ..RestoreOptions::default()
            };
            onto(&path, is_missing, size, |disk| {
                show::timed("restore", &progress, || restore(&image, disk, &options, &progress))
            })
        }
        ImageFile::Foreign(file) => {
            let progress = Progress::new();
            let limit = if is_missing { i64::MAX as u64 } else { open(&path)?.size() };
            let work = || foreign::measure(&*file, limit, &progress);
            let content =
                show::timed("check gzip", &progress, work).0.map_err(|e| untouched(&args.image, &e))?;
            onto(&path, is_missing, content.size, |disk| {
                show::timed("restore", &progress, || foreign::restore(&*file, &content, disk, &progress))
            })
        }
    }?;
    let restored = restored.map_err(|e| image_error(&args.image, &e))?;
    if let Some(error) = &restored.reread_error {
        warn(&format!("the kernel does not read the new partition table yet: {error}"));
    }
    if let Some(error) = &restored.discard_error {
        warn(&format!("not all that nobody uses was discarded: {error}"));
    }
    out.line(format!(
        "{}: {} restored: {} written and read back, {} was right already; {} of it zero, {}",
        path.display(),
        show::size(restored.disk_bytes),
        show::size(restored.written_bytes),
        show::size(restored.kept_bytes),
        show::size(restored.zero_bytes),
        show::speed(restored.disk_bytes, time)
    ))?;
    if restored.left_bytes > 0 {
        out.line(format!(
            "{} used by nobody, left as it was on the disk; {} of it discarded",
            show::size(restored.left_bytes),
            show::size(restored.discarded_bytes)
        ))?;
    }
    if restored.unreadable_bytes > 0 {
        out.line(format!(
            "DEGRADED: {} could not be read when the image was made, and are zeros now",
            show::size(restored.unreadable_bytes)
        ))?;
    }
    Ok(true)
}

type Outcome = (Result<Restored, ImageError>, std::time::Duration);

/// Opens or creates the target and writes to it; a file that was created for a restore that failed is removed.
fn onto(
    path: &Path,
    is_missing: bool,
    size: u64,
    write: impl FnOnce(&Disk) -> Outcome,
) -> Result<Outcome, Error> {
    if !is_missing {
        return Ok(write(&open(path)?));
    }
    let disk = Disk::create_file(path, size).map_err(|e| Error::failed(e.to_string()))?;
    let outcome = write(&disk);
    if outcome.0.is_err() {
        // Best effort: the restore's own error is what counts.
        let _ = fs::remove_file(path);
        return Ok(outcome);
    }
    sync_folder(path)
        .map_err(|e| Error::failed(format!("{}: cannot make its name durable: {e}", path.display())))?;
    Ok(outcome)
}

fn open(path: &Path) -> Result<Disk, Error> {
    Disk::open_write(path).map_err(|e| Error::failed(e.to_string()))
}

/// An error that came before the first write.
fn untouched(image: &Path, error: &ImageError) -> Error {
    Error::failed(format!("{}; nothing was written", image_error(image, error)))
}

/// A block device in the words by which a person can tell that it is the right one.
fn describe(path: &Path) -> String {
    let inventory = Inventory::scan(Path::new("/sys"), Path::new("/dev")).unwrap_or_default();
    match (inventory.disks.iter().find(|d| d.path == path), Disk::open_read(path)) {
        (Some(disk), _) => disk.to_string(),
        (None, Ok(disk)) => format!("{}, {}", path.display(), sized(&disk)),
        (None, Err(_)) => path.display().to_string(),
    }
}
