//! `image verify`, `info` and `cat`: what only reads.

use super::super::output::Out;
use super::super::{Answer, Error, sign};
use super::sharing::who_shares;
use super::{image_error, open_disk, open_image, open_own, show, stream_error};
use crate::block::{BlockDevice, RealDisk};
use crate::image::{ErrorKind, Image, ImageError, ImageFile, Measured, Proof};
use crate::progress::Progress;
use crate::text::{ascii, human_bytes};
use crate::used::{FoundVolume, Growth};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Unreadable ranges that `info` lists.
const LISTED: usize = 1000;

/// Arguments of `image verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  testboxctl image verify sda.raw.gz --against /dev/sda")]
pub(in super::super) struct VerifyArgs {
    /// Image to check
    image: PathBuf,
    /// Compare this disk or file with it too
    #[arg(long, value_name = "DISK")]
    against: Option<PathBuf>,
    /// Do not inflate: check only that no byte has changed since the image was made; several times as fast
    #[arg(long)]
    scrub: bool,
    /// Do not inflate what this image has too: it must have been verified when it was made
    #[arg(long, value_name = "IMAGE", conflicts_with = "scrub")]
    base: Option<PathBuf>,
    /// Threads that inflate [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// Arguments of `image info`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct InfoArgs {
    /// Image to look at
    image: PathBuf,
    /// Public key whose signature of the set is trusted; may be repeated
    #[arg(long, value_name = "FILE")]
    trusted_key: Vec<PathBuf>,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// Arguments of `image cat`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: the boot sector and partition table of a disk\n  testboxctl image cat --length 17408 sda.raw.gz | od -A d -t x1z"
)]
pub(in super::super) struct CatArgs {
    /// Image to read
    image: PathBuf,
    /// First byte of the disk
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    offset: u64,
    /// How many bytes [default: up to the end]
    #[arg(long, value_name = "BYTES")]
    length: Option<u64>,
}

pub(in super::super) fn verify(args: &VerifyArgs, out: &mut Out) -> Answer {
    let (path, progress) = (&args.image, Progress::new());
    let disk = args.against.as_deref().map(open_disk).transpose()?;
    let image = open_image(path)?;
    let base = args.base.as_deref().map(open_own).transpose()?;
    let proof = match &base {
        Some(base) => Proof::Base(base),
        None if args.scrub => Proof::Scrub,
        None => Proof::Inflate,
    };
    let work = || image.verify(proof, i64::MAX as u64, args.threads, &progress);
    let (measured, time) = show::timed("verify", &progress, work);
    let measured = measured.map_err(|e| match &image {
        ImageFile::Own(own) => image_error(path, &e).and(&who_shares(path, own, &e)),
        ImageFile::Foreign(_) => image_error(path, &e),
    })?;
    let compared = compare(path, disk.as_ref(), image.unallocated(), |disk| {
        let work = || image.compare(&measured, disk, args.threads, &progress);
        show::timed("compare", &progress, work).0
    });
    let is_own = matches!(image, ImageFile::Own(_));
    let is_degraded = matches!(&image, ImageFile::Own(own) if own.summary().degraded);
    let mut value = json!({
        "image": path.display().to_string(),
        "kind": if is_own { "testbox" } else { "gzip" },
        "whole": is_own,
        "degraded": is_degraded,
        "disk_bytes": measured.size,
        "root_hash": is_own.then(|| measured.hash.to_string()),
        "seconds": time.as_secs_f64(),
        "equal": null,
    });
    let mut lines = vec![whole(path, &image, &measured, time)];
    let (is_equal, failed) = match compared {
        Ok(None) => (true, None),
        Ok(Some((is_equal, line))) => {
            value["equal"] = is_equal.into();
            lines.push(line);
            (is_equal, None)
        }
        // That the image is whole is worth knowing all the same.
        Err(e) => (false, Some(e)),
    };
    out.result(args.json, &value, &lines)?;
    failed.map_or(Ok(is_equal), Err)
}

/// What there is to say of an image that was proven, as far as its kind can be.
fn whole(path: &Path, image: &ImageFile, measured: &Measured, time: Duration) -> String {
    let (path, size) = (path.display(), show::size(measured.size));
    let empty = match image {
        ImageFile::Own(image) => image.summary().zero.saturating_add(image.summary().unallocated),
        ImageFile::Foreign(_) => 0,
    };
    let speed = show::speed(measured.size.saturating_sub(empty), time);
    match image {
        ImageFile::Own(image) => {
            let degraded =
                if image.summary().degraded { ", DEGRADED: parts of the disk could not be read" } else { "" };
            format!("{path}: whole, {size} of disk, root hash {}, {speed}{degraded}", measured.hash)
        }
        ImageFile::Foreign(_) => format!(
            "{path}: a gzip file, not of testbox: its checksums are right, but it cannot prove that it is whole; {size} of \
             disk, {speed}"
        ),
    }
}

/// Compares with the disk, if one was given: whether they are equal, and that in words.
fn compare(
    image: &Path,
    disk: Option<&RealDisk>,
    unused: u64,
    compare: impl FnOnce(&RealDisk) -> Result<Option<Growth>, ImageError>,
) -> Result<Option<(bool, String)>, Error> {
    let Some(disk) = disk else { return Ok(None) };
    match compare(disk) {
        Ok(grown) => {
            let unused = (unused > 0)
                .then(|| format!("; {} of unallocated space was not compared", show::size(unused)));
            let grown = grown.map(|growth| format!("; {}", growth.not_compared()));
            let but = [unused, grown].into_iter().flatten().collect::<String>();
            Ok(Some((true, format!("{}: equal to {}{but}", disk.name(), image.display()))))
        }
        Err(e) if matches!(e.kind, ErrorKind::Differs | ErrorKind::Refused) => {
            Ok(Some((false, format!("{}: differs: {e}", image.display()))))
        }
        Err(e) => Err(image_error(image, &e)),
    }
}

pub(in super::super) fn info(args: &InfoArgs, out: &mut Out) -> Answer {
    let path = &args.image;
    match open_image(path)? {
        ImageFile::Own(image) => own_info(args, &image, out),
        ImageFile::Foreign(file) => {
            let size = file.size().map_err(|e| Error::failed(format!("{}: {e}", path.display())))?;
            if args.json {
                out.json(&json!({ "kind": "gzip", "image_bytes": size }), true)?;
            } else {
                out.line(format!(
                    "{}: a gzip file, not of testbox, {}; 'image verify' finds out how much disk it holds",
                    path.display(),
                    show::size(size)
                ))?;
            }
            Ok(true)
        }
    }
}

fn own_info(args: &InfoArgs, image: &Image, out: &mut Out) -> Answer {
    let path = &args.image;
    let (header, summary) = (image.header(), image.summary());
    let disk = &header.disk;
    let mut bad = Vec::new();
    for run in image.unreadable_runs().take(LISTED) {
        let run = run.map_err(|e| image_error(path, &e))?;
        bad.push((run.offset, run.length));
    }
    let id: String = header.image_id.iter().map(|b| format!("{b:02x}")).collect();
    let signed = sign::about(path, &summary.root_hash, &args.trusted_key)?;
    if args.json {
        let ranges: Vec<_> =
            bad.iter().map(|(offset, length)| json!({ "offset": offset, "length": length })).collect();
        let all = json!({
            "kind": "testbox",
            "name": disk.name,
            "identity": disk.identity,
            "disk_bytes": summary.disk,
            "logical_block_size": disk.logical_block_size,
            "physical_block_size": disk.physical_block_size,
            "chunk_size": header.chunk_size,
            "image_id": id,
            "codec": header.codec,
            "writer": header.writer,
            "root_hash": summary.root_hash.to_string(),
            "signature": signed,
            "degraded": summary.degraded,
            "image_bytes": summary.image,
            "room_bytes": show::room_bytes(path),
            "runs": summary.runs,
            "data_bytes": summary.data,
            "zero_bytes": summary.zero,
            "unallocated_bytes": summary.unallocated,
            "unreadable_bytes": summary.unreadable,
            "unreadable": ranges,
            "partitions": header.found.list.iter().map(|found| {
                json!({
                    "number": found.number,
                    "offset": found.start,
                    "length": found.size,
                    "kind": found.kind,
                    "label": found.label,
                "partition_type": found.partition_type,
                "name": found.name,
                "logical_volume": found.logical_volume,
                    "used_bytes": found.used(),
                    "skipped_bytes": found.skipped,
                    "behind_bytes": found.behind,
                    "why_all": found.why_all,
                })
            }).collect::<Vec<_>>(),
            "partitions_not_listed": header.found.more,
        });
        out.json(&all, false)?;
        return Ok(true);
    }
    let lines = [
        ("disk", format!("{}: {}", ascii(&disk.name), ascii(&disk.identity.to_string()))),
        ("disk size", show::size(summary.disk)),
        ("block size", format!("{} logical, {} physical", disk.logical_block_size, disk.physical_block_size)),
        (
            "image size",
            format!(
                "{}, {}, {}",
                show::size(summary.image),
                show::room(path),
                show::ratio(summary.disk, summary.zero.saturating_add(summary.unallocated), summary.image)
            ),
        ),
        ("data", show::size(summary.data)),
        ("zero", show::size(summary.zero)),
        ("unallocated", show::size(summary.unallocated)),
        ("unreadable", show::size(summary.unreadable)),
        ("runs", format!("{}, of at most {} bytes where it is data", summary.runs, header.chunk_size)),
        ("state", if summary.degraded { "DEGRADED" } else { "complete" }.to_owned()),
        ("image id", id),
        ("root hash", summary.root_hash.to_string()),
        ("written by", format!("{}, codec {}", ascii(&header.writer), ascii(&header.codec))),
    ];
    for (what, text) in lines {
        out.line(format!("{what:<12} {text}"))?;
    }
    if let Some(signed) = signed {
        out.line(format!("{:<12} {}", "set", ascii(&signed)))?;
    }
    for found in &header.found.list {
        out.line(format!("{:<12} {}", "partition", partition(found)))?;
    }
    if header.found.more > 0 {
        out.line(format!("{:<12} and {} more", "partition", header.found.more))?;
    }
    for (offset, length) in bad {
        out.line(format!("{:<12} {length} bytes at byte {offset}", "unreadable"))?;
    }
    Ok(true)
}

/// A partition: `1: Linux (83), ext4 'root', 40.0 GB (40000000000 bytes) at byte 1048576: 12.3 GB used, 27.7 GB skipped`.
fn partition(found: &FoundVolume) -> String {
    let label = found.label.as_ref().map_or_else(String::new, |label| format!(" '{}'", ascii(label)));
    let number = if found.number == 0 { "whole disk".into() } else { found.number.to_string() };
    let volume = found.logical_volume.as_ref().map_or_else(String::new, |name| format!(" {}", ascii(name)));
    let kind_of = found.partition_type.as_ref().map_or_else(String::new, |kind| format!("{}, ", ascii(kind)));
    let verdict = match &found.why_all {
        Some(why) => format!("all of it imaged: {}", ascii(why)),
        None => format!(
            "{} used, {} skipped{}",
            human_bytes(found.used()),
            human_bytes(found.skipped),
            found.behind()
        ),
    };
    let (kind, size) = (ascii(&found.kind), show::size(found.size));
    format!("{number}{volume}: {kind_of}{kind}{label}, {size} at byte {}: {verdict}", found.start)
}

pub(in super::super) fn cat(args: &CatArgs, out: &mut Out) -> Answer {
    let path = &args.image;
    let ImageFile::Own(image) = open_image(path)? else {
        return Err(Error::failed(format!("{}: not an image of testbox: use zcat for it", path.display())));
    };
    let size = image.summary().disk;
    let end = match args.length {
        Some(length) => args.offset.checked_add(length),
        None => Some(size),
    };
    match end {
        Some(end) if args.offset <= end && end <= size => {
            image.cat(args.offset..end, out.bytes()).map_err(|e| stream_error(path, &e))?;
            Ok(true)
        }
        _ => Err(Error::usage(format!(
            "{}: the disk has {size} bytes, and that range is not in it",
            path.display()
        ))),
    }
}
