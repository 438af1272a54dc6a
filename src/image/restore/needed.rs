//! How much disk an image needs at least: a disk that is smaller than the imaged one, and has room for all that is used, is
//! a target too.
#![forbid(unsafe_code)]

use crate::image::error::ImageError;
use crate::image::format::member::MemberKind;
use crate::image::format::run::Run;
use crate::image::reader::Image;
use crate::image::workspace::Workspace;
use crate::used::relocate::{Movable, partitions_end};
use std::ops::Range;

/// What an image needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    /// Bytes of disk; all of the imaged disk's where nothing says that its end is not used.
    pub bytes: u64,
    /// What needs the last of them.
    pub why: String,
}

impl Needed {
    fn new(bytes: u64, why: impl Into<String>) -> Self {
        Needed { bytes, why: why.into() }
    }

    /// What a refusal says about a disk of `size` bytes.
    pub fn missing_on(&self, size: u64) -> String {
        let Needed { bytes, why } = self;
        format!(
            "it has {size} bytes, the image needs {bytes} ({why}): {} are missing",
            bytes.saturating_sub(size)
        )
    }
}

/// What to do about a disk that is too small.
pub const SHRINK: &str = "use a larger disk; or shrink the last partition and its file system on the machine, and make a new backup";

/// How much disk `image` needs: all partitions and everything behind them that is not zero must be on it, and the GPT
/// needs its place behind them. What has no partition table, or one that is in doubt, needs all of the imaged disk.
///
/// # Errors
/// The image cannot be read or is damaged.
pub fn needed(image: &Image) -> Result<Needed, ImageError> {
    let size = image.summary().disk;
    let sector = image.header().disk.logical_block_size;
    let content = image.content();
    let (table, tail) = match Movable::find(&content, size, sector) {
        Ok(Some(gpt)) => (Needed::new(gpt.needed(), "its partitions and the GPT behind them"), gpt.tail()),
        Ok(None) => match partitions_end(&content, size, sector) {
            Ok(end) => (Needed::new(end, "its partitions"), size..size),
            Err(why) => return Ok(Needed::new(size, why)),
        },
        Err(why) => return Ok(Needed::new(size, format!("its GPT is not right: {why}"))),
    };
    let moves = tail.end - tail.start;
    let behind = table.bytes.saturating_sub(moves).min(tail.start)..tail.start;
    let Some(end) = data_end(image, &behind)? else { return Ok(table) };
    let end = end.next_multiple_of(u64::from(sector)).saturating_add(moves);
    if end <= table.bytes {
        return Ok(table);
    }
    Ok(Needed::new(end.min(size), "something that is not zero stands behind its partitions"))
}

/// Byte behind the last one in `range` that is not zero, or not known to be.
fn data_end(image: &Image, range: &Range<u64>) -> Result<Option<u64>, ImageError> {
    let mut last = [None, None];
    for run in image.runs_in(range.clone()) {
        let run = run?;
        if run.kind != MemberKind::Zero {
            last = [last[1].take(), Some(run)];
        }
    }
    // The last run can reach out of the range by what is not zero, and the first into it. Another one holds something.
    for run in last.iter().rev().flatten() {
        if let Some(end) = end_in(image, run, range)? {
            return Ok(Some(end));
        }
    }
    let inside = last[0].as_ref().filter(|run| run.offset >= range.start);
    Ok(inside.map(|run| run.range().end.min(range.end)))
}

fn end_in(image: &Image, run: &Run, range: &Range<u64>) -> Result<Option<u64>, ImageError> {
    let both = run.offset.max(range.start)..(run.offset + run.length).min(range.end);
    // What is unallocated belongs to a file system, which reaches there.
    if run.kind != MemberKind::Data || run.has_gaps {
        return Ok(Some(both.end));
    }
    let mut space = Workspace::new(image);
    let raw = space.load(image, run)?;
    let bytes = &raw[(both.start - run.offset) as usize..(both.end - run.offset) as usize];
    Ok(bytes.iter().rposition(|byte| *byte != 0).map(|at| both.start + at as u64 + 1))
}
