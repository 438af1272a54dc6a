//! `image export`: the disk of an image as a raw file or a qcow2.

use super::super::config::SettingsFile;
use super::super::output::{Out, warn};
use super::super::target::ImageTarget;
use super::super::{Answer, Error};
use super::fuse::{MountedFile, MountedFolder};
use super::qemu::{OwnFolder, QCOW2, RAW, convert};
use super::source::{SourceArgs, SourceImage};
use super::{image_error, show};
use crate::block::FileId;
use crate::image::{Image, ImageDisk, Summary, Unreadable, unpack};
use crate::progress::Progress;
use crate::share::ownership::PRIVATE_FILE;
use crate::store::layout::PART;
use crate::sys::note_ending_signals;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// Time between two attempts to unmount.
const LOOK: Duration = Duration::from_millis(50);
/// How long unmounting may be refused after qemu-img has ended: the kernel may be reading ahead.
const LET_GO: Duration = Duration::from_secs(10);

pub(super) const HELP: &str = "\
Each part of the image is checked against its hash on the way; the file gets its name when all of it is on the disk. raw is a \
sparse file; qcow2 is written by qemu-img (apt install qemu-utils), which reads the disk through a mount as 'image mount' makes \
it: nothing is unpacked in between. What was unallocated is zeros.

Examples:
  testboxctl image export tb1 --format qcow2 tb1.qcow2
  qemu-system-x86_64 -m 2G -drive file=tb1.qcow2,if=virtio -snapshot
  testboxctl image export tb1:previous --format raw /srv/disks/
  testboxctl image export sda.raw.gz --format raw sda.raw";

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum DiskFormat {
    /// The bytes of the disk, with holes where they are zeros
    Raw,
    /// QEMU's
    Qcow2,
}

/// Arguments of `image export`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Args {
    #[command(flatten)]
    source: SourceArgs,
    /// File to write; or a folder, which gets a file for each disk, as sda.raw
    out: PathBuf,
    /// What to write
    #[arg(long, value_name = "FORMAT")]
    format: DiskFormat,
    /// Replace a file that is there, once the new one is whole
    #[arg(long)]
    force: bool,
    /// Export an image although the disk did not give all of its bytes: zeros stand in for them
    #[arg(long)]
    degraded: bool,
    /// Threads that inflate [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// One disk, and where it goes.
struct DiskExport {
    source: SourceImage,
    name: PathBuf,
    part: ImageTarget,
    replaces: Option<ImageTarget>,
}

pub(in super::super) fn run(args: Args, file: SettingsFile, out: &mut Out) -> Answer {
    note_ending_signals();
    let sources = args.source.clone().open(file)?;
    for source in &sources {
        let Summary { degraded, unreadable, .. } = source.image.summary();
        if degraded && !args.degraded {
            return Err(Error::failed(format!(
                "{}: DEGRADED: {} of the disk could not be read; --degraded exports it, with zeros there",
                source.path.display(),
                show::size(unreadable)
            )));
        }
    }
    let mut all = Vec::new();
    // All that can be refused is, before the first is written.
    for export in targets(&args, sources)? {
        let (summary, part) = (export.source.image.summary(), export.part.path.clone());
        let label = format!("export {}", export.source.stem);
        let (name, stem) = (export.name.clone(), export.source.stem.clone());
        let time = match export.write(&args, &label) {
            Ok(time) => time,
            Err(e) => {
                return Err(e.and(&format!(
                    "; {} was removed, and nothing was exported to {}",
                    part.display(),
                    name.display()
                )));
            }
        };
        if summary.degraded {
            warn(&format!(
                "{}: DEGRADED: {} of it are zeros that the disk did not give",
                name.display(),
                show::size(summary.unreadable)
            ));
        }
        if !args.json {
            out.line(format!(
                "{}: {stem}, {} of disk, {}, every hash was right, {}",
                name.display(),
                show::size(summary.disk),
                show::room(&name),
                show::speed(summary.data, time)
            ))?;
        }
        all.push(json!({
            "file": name.display().to_string(),
            "disk": stem,
            "disk_bytes": summary.disk,
            "room_bytes": show::room_bytes(&name),
            "root_hash": summary.root_hash.to_string(),
            "degraded": summary.degraded,
            "seconds": time.as_secs_f64(),
        }));
    }
    if args.json {
        out.json(&Value::Array(all), false)?;
    }
    Ok(true)
}

/// Where each disk goes, with its unfinished file open.
fn targets(args: &Args, sources: Vec<SourceImage>) -> Result<Vec<DiskExport>, Error> {
    let extension = if args.format == DiskFormat::Raw { RAW } else { QCOW2 };
    let is_folder = args.out.is_dir();
    if !is_folder && sources.len() > 1 {
        let all: Vec<&str> = sources.iter().map(|source| source.stem.as_str()).collect();
        return Err(Error::usage(format!(
            "{}: it has {} disks ({}): name one with --disk, or a folder that is there in place of {}",
            args.source.word(),
            all.len(),
            all.join(", "),
            args.out.display()
        )));
    }
    let one = |source: SourceImage| {
        let name = match is_folder {
            true => args.out.join(format!("{}.{extension}", source.stem)),
            false => args.out.clone(),
        };
        let about = fs::metadata(&source.path);
        let image = about
            .map(|about| FileId::from(&about))
            .map_err(|e| Error::failed(format!("{}: {e}", source.path.display())))?;
        let others = [("the image", image)];
        let replaces = ImageTarget::open(&name, false)?;
        if let Some(there) = &replaces {
            there.check(&others)?;
            if !args.force {
                return Err(Error::failed(format!(
                    "{}: it exists: give another name, or --force to replace it",
                    name.display()
                )));
            }
        }
        Ok((source, name, replaces))
    };
    let found = sources.into_iter().map(one).collect::<Result<Vec<_>, _>>()?;
    let mut exports: Vec<DiskExport> = Vec::new();
    for (source, name, replaces) in found {
        match part_of(&name, args.force) {
            Ok(part) => exports.push(DiskExport { source, name, part, replaces }),
            Err(e) => {
                exports.iter().for_each(|export| export.part.remove());
                return Err(e);
            }
        }
    }
    Ok(exports)
}

/// Makes the file that gets its name in the end.
fn part_of(name: &Path, force: bool) -> Result<ImageTarget, Error> {
    let mut path = name.as_os_str().to_owned();
    path.push(PART);
    let path = PathBuf::from(path);
    let Some(part) = ImageTarget::open(&path, true)? else {
        let part = ImageTarget::create(&path, PRIVATE_FILE)?;
        part.lock()?;
        return Ok(part);
    };
    if !force {
        return Err(Error::failed(format!(
            "{}: it is there, perhaps from an export that was cut: remove it, or --force to overwrite it",
            path.display()
        )));
    }
    part.check_bytes(&[])?;
    part.lock()?;
    part.set_mode(PRIVATE_FILE)?;
    Ok(part)
}

impl DiskExport {
    /// Writes it and gives it its name; the unfinished file is removed where that fails.
    fn write(self, args: &Args, label: &str) -> Result<Duration, Error> {
        let DiskExport { source, name, part, replaces } = self;
        let written = match args.format {
            DiskFormat::Raw => raw(&source.path, &source.image, &part, args.threads, label),
            DiskFormat::Qcow2 => qcow2(source, &part, label),
        };
        let written = written.and_then(|time| {
            let synced = part.file.sync_all();
            synced.map_err(|e| {
                Error::failed(format!("{}: cannot make it durable: {e}", part.path.display()))
            })?;
            Ok(time)
        });
        match written {
            Ok(time) => part.publish(&name, replaces.as_ref()).map(|()| time),
            Err(e) => {
                part.remove();
                Err(e)
            }
        }
    }
}

fn raw(
    path: &Path,
    image: &Image,
    part: &ImageTarget,
    threads: usize,
    label: &str,
) -> Result<Duration, Error> {
    let size = image.summary().disk;
    let sized = part.file.set_len(0).and_then(|()| part.file.set_len(size));
    sized.map_err(|e| Error::failed(format!("{}: cannot give it its size: {e}", part.path.display())))?;
    let progress = Progress::new();
    let write = |bytes: &[u8], at: u64| part.file.write_all_at(bytes, at);
    let (done, time) = show::timed(label, &progress, || unpack(image, threads, &progress, write));
    done.map(|()| time).map_err(|e| match e.op {
        crate::image::ImageOp::Write => image_error(&part.path, &e),
        _ => image_error(path, &e),
    })
}

/// Has qemu-img write it from a mount of the disk that is only this command's.
fn qcow2(source: SourceImage, part: &ImageTarget, label: &str) -> Result<Duration, Error> {
    let SourceImage { path, image, .. } = source;
    let Summary { disk: size, data, .. } = image.summary();
    let progress = Progress::new();
    progress.start(data);
    let disk = Arc::new(ImageDisk::new(image, Unreadable::Zeros, progress.clone()));
    let file = MountedFile {
        name: "disk.raw".into(),
        disk,
        range: 0..size,
        image: path,
        modified: SystemTime::UNIX_EPOCH,
    };
    let dir = OwnFolder::make()?;
    let folder = MountedFolder::mount(vec![file], dir.path(), false)
        .map_err(|e| e.and(" (for qemu-img; --format raw needs no mount)"))?;
    let work = || convert((&folder.dir().join("disk.raw"), RAW), (&part.path, QCOW2), &progress);
    let (done, time) = show::timed(label, &progress, work);
    let until = Instant::now() + LET_GO;
    while let Err(why) = folder.unmount() {
        if folder.is_over() {
            break;
        }
        if Instant::now() > until {
            warn(&format!("{}: cannot unmount it: {why}", folder.dir().display()));
            return done.map(|()| time);
        }
        thread::sleep(LOOK);
    }
    done?;
    folder.join()?;
    Ok(time)
}
