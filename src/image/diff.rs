//! Diff: where two images hold different bytes, from their indexes as far as that goes.
#![forbid(unsafe_code)]

use crate::image::error::ImageError;
use crate::image::format::member::MemberKind;
use crate::image::format::run::Run;
use crate::image::reader::{Image, ImageRuns};
use crate::image::workspace::Workspace;
use crate::io::is_zero;
use crate::progress::Progress;
use std::ops::Range;

/// Calls `found` for every range of the disk, in order and joined, in which the images differ.
///
/// Runs that stand at the same place with the same length are compared by their hashes, and differ as a whole. Only
/// where runs of data overlap otherwise, or meet zeros, are members read; then the bytes that both have in common are
/// compared. Zero and unallocated are equal; what a disk did not give is equal only to what the other did not give.
/// Beyond the end of the smaller disk everything differs. Progress counts bytes of disk.
///
/// # Errors
/// Either image cannot be read or is damaged; those of `found`.
pub fn diff(
    a: &Image,
    b: &Image,
    progress: &Progress,
    mut found: impl FnMut(Range<u64>) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let sizes = (a.summary().disk, b.summary().disk);
    let (common, all) = (sizes.0.min(sizes.1), sizes.0.max(sizes.1));
    progress.start(all);
    let (mut a, mut b) = (Side::new(a), Side::new(b));
    let mut pending: Option<Range<u64>> = None;
    let mut differs = |part: Range<u64>| match &mut pending {
        Some(before) if before.end == part.start => {
            before.end = part.end;
            Ok(())
        }
        before => before.replace(part).map_or(Ok(()), &mut found),
    };
    let mut at = 0;
    while at < common {
        if progress.is_cancelled() {
            return Err(ImageError::cancelled());
        }
        let (one, other) = (a.run_at(at)?, b.run_at(at)?);
        let part = at..one.range().end.min(other.range().end).min(common);
        let is_empty = |run: &Run| matches!(run.kind, MemberKind::Zero | MemberKind::Unallocated);
        let is_same = match (one.kind, other.kind) {
            (MemberKind::Unreadable, kind) | (kind, MemberKind::Unreadable) => kind == MemberKind::Unreadable,
            (MemberKind::Data, MemberKind::Data)
                if one.range() == other.range() && one.hash == other.hash =>
            {
                true
            }
            // Gaps are in the hash, and zeros in the bytes.
            (MemberKind::Data, MemberKind::Data)
                if one.range() == other.range() && !one.has_gaps && !other.has_gaps =>
            {
                false
            }
            (MemberKind::Data, MemberKind::Data) => a.bytes(&one, &part)? == b.bytes(&other, &part)?,
            (MemberKind::Data, _) => is_zero(a.bytes(&one, &part)?),
            (_, MemberKind::Data) => is_zero(b.bytes(&other, &part)?),
            _ => is_empty(&one) && is_empty(&other),
        };
        progress.add_done(part.end - part.start);
        at = part.end;
        if !is_same {
            differs(part)?;
        }
    }
    if common < all {
        differs(common..all)?;
    }
    pending.map_or(Ok(()), found)
}

/// One image, walked from its start.
struct Side<'a> {
    image: &'a Image,
    runs: ImageRuns<'a>,
    run: Option<Run>,
    space: Workspace,
    /// Offset of the run whose bytes are in the workspace.
    loaded: Option<u64>,
}

impl<'a> Side<'a> {
    fn new(image: &'a Image) -> Self {
        Side { image, runs: image.runs(), run: None, space: Workspace::new(image), loaded: None }
    }

    /// The run that holds this byte, which lies on the disk and not before one asked for earlier.
    fn run_at(&mut self, at: u64) -> Result<Run, ImageError> {
        loop {
            match self.run {
                Some(run) if run.range().end > at => return Ok(run),
                _ => self.run = self.runs.next().transpose()?,
            }
            if self.run.is_none() {
                let end = self.image.summary().image;
                return Err(ImageError::damaged(end, "the index ends before the disk does"));
            }
        }
    }

    /// The bytes of a part of a data run.
    fn bytes(&mut self, run: &Run, part: &Range<u64>) -> Result<&[u8], ImageError> {
        if self.loaded != Some(run.offset) {
            self.loaded = None;
            self.space.load(self.image, run)?;
            self.loaded = Some(run.offset);
        }
        let at = |byte: u64| (byte - run.offset) as usize;
        Ok(&self.space.raw[at(part.start)..at(part.end)])
    }
}
