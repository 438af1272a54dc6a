//! What a restore reads of its image, beside what it has to read.

use anyhow::{Context, Result};
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use testbox::image::{Image, MemberKind, Run};

/// Bytes at both ends of a disk whose members are read in any case.
const END: u64 = 1 << 20;
/// Times index and members that differ which a restore may read.
const MOST: f64 = 1.1;

/// Prints the ratio. `said` is what the restore has printed, `changed` where the disk differed.
pub fn tell(name: &str, image: &Path, said: &str, changed: &[Range<u64>]) -> Result<()> {
    let before = said.split(" bytes) read of the image").next().context("nothing was read")?;
    let read: u64 = before.rsplit('(').next().context("no number")?.parse()?;
    let image = Image::open(Arc::new(File::open(image)?))?;
    let runs = image.runs().collect::<Result<Vec<Run>, _>>()?;
    let disk = image.summary().disk;
    let is_needed = |run: &&Run| {
        let differs = changed.iter().any(|part| part.start < run.range().end && run.offset < part.end);
        run.kind == MemberKind::Data && (differs || run.offset < END || run.range().end > disk - END)
    };
    let bytes =
        |runs: &mut dyn Iterator<Item = &Run>| runs.map(|run| u64::from(run.member_length)).sum::<u64>();
    let index = image.summary().image - bytes(&mut runs.iter());
    let needed = index + bytes(&mut runs.iter().filter(is_needed));
    let ratio = read as f64 / needed as f64;
    let verdict = if ratio <= MOST { "met" } else { "MISSED" };
    println!(
        "Goal: {name}: {:.1} MB read of the image, at most {MOST} times the {:.1} MB of index and members that differ: \
         {ratio:.2}, {verdict}",
        read as f64 / 1e6,
        needed as f64 / 1e6,
    );
    Ok(())
}
