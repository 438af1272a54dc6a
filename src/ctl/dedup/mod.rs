//! `dedup`: lets the file system of the backup share have equal members of images once.
//!
//! Where equal members are, the images' indexes say; that they are equal, the kernel proves, which compares all bytes before it
//! shares them. So it takes no lease, changes no byte of any file, and can be stopped at any moment.

mod images;
mod places;
mod report;
mod rest;
mod sharer;
mod table;

use super::config::SettingsFile;
use super::image::show;
use super::output::{Out, warn};
use super::published::{self, Published};
use super::shares::{self, ShareFolder};
use super::{Answer, Error};
use crate::progress::Progress;
use crate::share::Files;
use crate::store::layout::BACKUP_MARKER;
use crate::sys::{errno_words, knows_dedupe};
use images::ShareImages;
use report::{MachineTotals, Report};
use sharer::Sharer;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use table::{MAX_COPIES, Table};

const AFTER_HELP: &str = "\
Run it on the storage server, as root or as the owner of the images, for example every night: only what is new since \
the last run is work. The file system must be XFS (made with reflink=1, as it is by default), btrfs, or another that \
knows FIDEDUPERANGE. It takes no lease and may run beside backups and restores; the kernel compares all bytes before it \
lets two images share them, so no byte of any image changes, and it may be stopped at any moment. An image that is \
found damaged on the way is named, and the exit code is 1.

What is shared is there once: one bad sector then damages every set that has it, and 'image verify' lists these sets. \
--copies 2 leaves two copies of everything that is there twice.

Memory: 215 MB at most; beyond 7 million different members (about 480 GB of disks) some equal members are not found.

Examples:
  testboxctl dedup --dry-run
  testboxctl dedup --backup-dir /srv/testbox-backup --copies 2";

/// Arguments of `dedup`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// Only say what could be shared
    #[arg(long)]
    dry_run: bool,
    /// How many copies of equal members stay on the disk, where there are as many
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MAX_COPIES))]
    copies: u64,
    /// For programs
    #[arg(long)]
    json: bool,
    /// Root of the backup share [default: /export/testbox-backup]
    #[arg(long, value_name = "DIR")]
    backup_dir: Option<PathBuf>,
}

pub(super) fn run(args: Args, file: SettingsFile, out: &mut Out) -> Answer {
    let settings = SettingsFile { backup_dir: args.backup_dir.clone(), ..SettingsFile::default() }.or(file);
    let share = shares::need_backup_dir(&settings)?;
    let (list, problems) = published::all(&share)?;
    let progress = Progress::new();
    progress.start(list.iter().fold(0, |sum, image| sum.saturating_add(image.room)));
    let (mut report, time) = show::timed("dedup", &progress, || work(&share, &list, &args, &progress));
    report.problems.splice(0..0, problems);
    report.seconds = time.as_secs_f64();
    if args.json {
        out.json(&report.to_json(), false)?;
    } else {
        report.lines().iter().try_for_each(|line| out.line(line))?;
    }
    report.problems.iter().chain(&report.damaged).for_each(|what| warn(what));
    match &report.refused {
        Some(why) => Err(Error::failed(format!("{}: {why}", share.path.display()))),
        None => Ok(report.problems.is_empty() && report.damaged.is_empty()),
    }
}

/// Goes through all images, and says what came out.
fn work(share: &ShareFolder, list: &[Published], args: &Args, progress: &Progress) -> Report {
    let images = ShareImages::new(share, list);
    let mut sharer = Sharer::new(&images, Table::new(), args.copies, args.dry_run, progress);
    sharer.refused = refusal(share);
    let mut report = Report::new(args.dry_run);
    let mut left = list.len();
    for (number, image) in list.iter().enumerate() {
        let (totals, walked) = sharer.share_image(number);
        if let Err(what) = walked {
            report.problems.push(format!("{}: {what}", share.path.join(&image.path).display()));
        }
        report.add(image.machine, &MachineTotals { images: 1, room: image.room, shared: totals });
        if progress.is_cancelled() {
            break;
        }
        left -= 1;
    }
    if left > 0 {
        let what = format!(
            "interrupted: {left} images are not done; no byte of any image has changed, run it again"
        );
        report.problems.push(what);
    }
    let place = |spot: &table::Spot| {
        let image = &list[spot.image];
        format!("{} (byte {} of the file)", image.label(), spot.position)
    };
    report.damaged.extend(sharer.damaged.iter().map(|spot| {
        format!(
            "{}: a member is not what its index says; run 'testboxctl image verify {}'",
            place(spot),
            share.path.join(&list[spot.image].path).display()
        )
    }));
    report.problems.extend(sharer.failed.iter().map(|(from, to, length, e)| {
        format!("{length} bytes of {} and {} could not be shared: {}", place(to), place(from), errno_words(e))
    }));
    report.refused = sharer.refused.map(|e| report::refused(&e, share));
    report
}

/// What the file system of the share says before there is anything to share.
fn refusal(share: &ShareFolder) -> Option<io::Error> {
    let marker = share.files.open(BACKUP_MARKER).ok()?;
    let marker = marker.as_any()?.downcast_ref::<File>()?;
    let error = knows_dedupe(marker).err()?;
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOTTY | libc::ENOSYS)).then_some(error)
}
