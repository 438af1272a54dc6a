//! `image mount`: the disks of images and their partitions as files, for as long as it runs.

use super::super::config::SettingsFile;
use super::super::output::{Out, say, warn};
use super::super::{Answer, Error};
use super::fuse::{MountedFile, MountedFolder};
use super::parts::{DiskPart, parts};
use super::source::{SourceArgs, SourceImage};
use crate::image::{ImageDisk, Unreadable};
use crate::progress::Progress;
use crate::sys::{is_ending, note_ending_signals};
use crate::text::human_bytes;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

/// Time between two looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

pub(super) const HELP: &str = "\
Nothing is unpacked: what is read is inflated, proven by its hash, and at most 64 MiB of it remembered. What is damaged, or was \
not read from the disk, is an I/O error there, and a line on standard error. It runs until it is unmounted or interrupted \
(Ctrl-C, SIGTERM); without root it takes fusermount3. A set that is pruned meanwhile stays readable.

Files come out of a partition by a loop mount as root, with the options that are printed: a journal that should be replayed \
cannot be, on what is read-only. Without root, 7z, debugfs and guestmount read the same files.

Examples:
  testboxctl image mount tb1 /mnt/tb1 &
  mount -o loop,ro,noload /mnt/tb1/sda-p1.raw /mnt/files
  7z l /mnt/tb1/sda-p2.raw
  umount /mnt/files /mnt/tb1
  testboxctl image mount tb1:previous /mnt/tb1
  testboxctl image mount sda.raw.gz /mnt/img";

/// Arguments of `image mount`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Args {
    #[command(flatten)]
    source: SourceArgs,
    /// Empty folder where the files are to be
    dir: PathBuf,
    /// Let other users read them too, as a virtual machine's; else it is this user alone, not even root
    #[arg(long)]
    allow_other: bool,
}

pub(in super::super) fn run(args: Args, file: SettingsFile, out: &mut Out) -> Answer {
    let images = args.source.open(file)?;
    // From here on, so that nothing stays mounted.
    note_ending_signals();
    let (mut files, mut lines) = (Vec::new(), Vec::new());
    for image in images {
        let modified = std::fs::metadata(&image.path).and_then(|about| about.modified());
        let SourceImage { stem, path, image } = image;
        if image.summary().degraded {
            warn(&format!("{}: DEGRADED: what the disk did not give is an I/O error", path.display()));
        }
        let disk = Arc::new(ImageDisk::new(image, Unreadable::Fails, Progress::new()));
        let (parts, odd) = parts(&disk, &stem);
        odd.iter().for_each(|line| warn(line));
        for part in parts {
            lines.push(line(&args.dir.join(&part.name), &part));
            let DiskPart { name, range, .. } = part;
            let modified = *modified.as_ref().unwrap_or(&SystemTime::UNIX_EPOCH);
            files.push(MountedFile { name, disk: disk.clone(), range, image: path.clone(), modified });
        }
    }
    let folder = MountedFolder::mount(files, &args.dir, args.allow_other)?;
    let unmount = if rustix::process::geteuid().is_root() { "umount" } else { "fusermount3 -u" };
    lines.push(format!("mounted until '{unmount} {}' or Ctrl-C", folder.dir().display()));
    for line in lines {
        // Whoever reads no more of this may still read the files.
        match out.line(line) {
            Err(Error::Closed) => break,
            told => told?,
        }
    }
    serve(folder)
}

/// `/mnt/sda-p1.raw  2.1 GB  Linux (type 83), ext4 'root'  mount -o loop,ro,noload`.
fn line(path: &std::path::Path, part: &DiskPart) -> String {
    let size = human_bytes(part.range.end - part.range.start);
    let mount = part.mount.map_or_else(String::new, |options| format!("  mount -o {options}"));
    format!("{}  {size}  {}{mount}", path.display(), part.about)
}

/// Waits until somebody has unmounted it, or this process is to end.
fn serve(folder: MountedFolder) -> Answer {
    let mut has_said = false;
    while !folder.is_over() {
        if is_ending() {
            match folder.unmount() {
                Ok(()) => break,
                Err(_) if folder.is_over() => break,
                Err(why) if !has_said => {
                    has_said = true;
                    say(&format!(
                        "{dir}: still in use: {why}. It is unmounted as soon as it is free: unmount the file systems that are mounted \
                         from it, and leave it in every shell. A second Ctrl-C exits at once; then run 'umount -l {dir}'",
                        dir = folder.dir().display()
                    ));
                }
                Err(_) => {}
            }
        }
        thread::sleep(LOOK);
    }
    folder.join()?;
    Ok(true)
}
