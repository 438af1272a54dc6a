//! `image diff`: where two images differ, and which partitions that concerns.

use super::super::output::{Out, warn};
use super::super::{Answer, Error};
use super::{image_error, open_own, show};
use crate::image::{Image, diff};
use crate::progress::Progress;
use crate::text::{ascii, with_sources};
use crate::used::partitions::{self, PartitionTable};
use serde_json::json;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Ranges that are listed; the totals count all.
const LISTED: usize = 1000;

/// Arguments of `image diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Works from the hashes in the images, so it takes seconds, and tells ranges as exactly as the images were cut (1 MiB \
by default). Exit code 0: they hold the same disk, 1: they do not.

Example: what has changed since the set before
  testboxctl image diff history/7/sda.raw.gz sda.raw.gz")]
pub(in super::super) struct Args {
    /// Image of testbox
    a: PathBuf,
    /// Another one; the partitions are those of the first
    b: PathBuf,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// A place on the disk that has a name.
struct DiffPlace {
    number: usize,
    name: String,
    range: Range<u64>,
    differing: u64,
}

pub(in super::super) fn run(args: &Args, out: &mut Out) -> Answer {
    let (a, b) = (open_own(&args.a)?, open_own(&args.b)?);
    let table = table(&args.a, &a)?;
    if table.partitions != self::table(&args.b, &b)?.partitions {
        warn(&format!("the partition tables differ; shown are the partitions of {}", args.a.display()));
    }
    let mut places = places(&table);
    let (mut listed, mut count, mut bytes, mut outside) = (Vec::new(), 0u64, 0u64, 0u64);
    let progress = Progress::new();
    let work = || {
        diff(&a, &b, &progress, |range| {
            count += 1;
            bytes += range.end - range.start;
            let mut covered = 0;
            for place in &mut places {
                let both = place.range.start.max(range.start)..place.range.end.min(range.end);
                let len = both.end.saturating_sub(both.start);
                place.differing += len;
                covered += len;
            }
            outside += (range.end - range.start).saturating_sub(covered);
            if listed.len() < LISTED {
                listed.push(range);
            }
            Ok(())
        })
    };
    // The index or a member of either may be damaged; the error does not know whose file that is.
    let (done, _) = show::timed("compare", &progress, work);
    done.map_err(|e| {
        if e.is_internal() {
            return image_error(&args.a, &e);
        }
        Error::failed(format!(
            "{} and {}: {}; 'image verify' tells which",
            args.a.display(),
            args.b.display(),
            with_sources(&e)
        ))
    })?;
    let numbers = |range: &Range<u64>| -> Vec<usize> {
        let inside = places.iter().filter(|p| p.range.start < range.end && range.start < p.range.end);
        inside.map(|p| p.number).collect()
    };
    if args.json {
        let ranges = listed
            .iter()
            .map(|r| json!({ "offset": r.start, "length": r.end - r.start, "partitions": numbers(r) }));
        let partitions = places.iter().map(|p| {
            json!({
                "number": p.number,
                "name": p.name,
                "offset": p.range.start,
                "length": p.range.end - p.range.start,
                "differing_bytes": p.differing,
            })
        });
        let all = json!({
            "equal": count == 0,
            "differing_bytes": bytes,
            "range_count": count,
            "ranges": ranges.collect::<Vec<_>>(),
            "partition_table": table.scheme,
            "partitions": partitions.collect::<Vec<_>>(),
            "outside_partitions_bytes": outside,
        });
        out.json(&all, false)?;
        return Ok(count == 0);
    }
    if count == 0 {
        out.line(format!("{} and {} hold the same disk", args.a.display(), args.b.display()))?;
        return Ok(true);
    }
    let size = a.summary().disk.max(b.summary().disk);
    out.line(format!("{} of {} differ, in {count} ranges", show::size(bytes), show::size(size)))?;
    for place in places.iter().filter(|p| p.differing > 0) {
        out.line(format!("partition {:<3} {}: {}", place.number, show::size(place.differing), place.name))?;
    }
    if outside > 0 {
        out.line(format!("outside       {}: partition tables, boot loaders, gaps", show::size(outside)))?;
    }
    for range in &listed {
        let inside: Vec<String> = numbers(range).iter().map(usize::to_string).collect();
        let inside = if inside.is_empty() { "-".into() } else { inside.join(",") };
        out.line(format!("bytes {} to {} ({inside})", range.start, range.end - 1))?;
    }
    if count > listed.len() as u64 {
        out.line(format!("and {} ranges more", count - listed.len() as u64))?;
    }
    Ok(false)
}

fn table(path: &Path, image: &Image) -> Result<PartitionTable, Error> {
    if image.summary().disk < 512 {
        return Ok(PartitionTable::default());
    }
    partitions::read(&image.content(), image.header().disk.logical_block_size).map_err(|e| {
        Error::failed(format!("{}: cannot read the partition table: {}", path.display(), with_sources(&e)))
    })
}

/// The partitions in bytes. An extended one is left out where others lie in it: it would count them twice.
fn places(table: &PartitionTable) -> Vec<DiffPlace> {
    let block = u64::from(table.block_size);
    let bytes = |first: u64, blocks: u64| {
        first.saturating_mul(block)..first.saturating_add(blocks).saturating_mul(block)
    };
    let has_logical = table.scheme == "MBR" && table.partitions.iter().any(|p| p.number > 4);
    let shown = table.partitions.iter().filter(|p| !(has_logical && p.kind.starts_with("extended")));
    let place = |p: &partitions::Partition| DiffPlace {
        number: p.number,
        name: ascii(&format!("{} {}", p.kind, p.label)).trim_end().to_owned(),
        range: bytes(p.first, p.blocks),
        differing: 0,
    };
    shown.map(place).collect()
}
