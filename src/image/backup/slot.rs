//! What goes round in a backup: a window of the disk with its buffers, and the pieces that it is cut into.
#![forbid(unsafe_code)]

use crate::block::AlignedBuf;
use crate::image::backup::cut::BlockMark;
use crate::image::error::ImageError;
use crate::image::format::codec::DataMember;
use crate::image::format::gaps::{Gaps, SECTOR};
use crate::image::format::run::Run;
use std::ops::Range;

/// How a window of the disk was read.
pub(super) enum WindowContent {
    /// Read, but for its bad ranges.
    Raw,
    /// All zero, and not read.
    Hole,
    /// Unallocated: not read.
    Unallocated,
    /// Not to be had.
    Failed(ImageError),
}

/// A piece of disk that will be a run, or a part of one.
pub(super) struct DiskPiece {
    /// Bytes of the disk.
    pub range: Range<u64>,
    pub content: PieceContent,
    /// The run of the unfinished image at this place.
    pub kept: Option<Run>,
    /// The run of the base at this place.
    pub old: Option<Run>,
}

/// What became of a piece of disk.
pub(super) enum PieceContent {
    /// All zero, or a hole.
    Zero,
    /// Not allocated: not read.
    Unallocated,
    /// The disk did not give it.
    Unreadable,
    /// Read, not looked at yet.
    Raw,
    /// Compressed; the member stands in the slot at the given place.
    Data(DataMember),
    /// The base's member of this run has the same data, and stands in the slot at the given place.
    Taken(Run, Range<usize>),
    /// The base has the same data in the member of this run, which was not looked at.
    Unread(Run),
    /// The unfinished image has the same data in the member of this run.
    Kept(Run),
}

/// A window of the disk, and everything that it needs on its way. Windows follow each other without gaps.
pub(super) struct WindowSlot {
    /// Windows are numbered in the order of the disk.
    pub number: u64,
    /// First byte on the disk.
    pub offset: u64,
    /// Bytes of disk.
    pub length: u64,
    pub content: WindowContent,
    /// Room for what the window before did not end, and behind it for the window.
    raw: AlignedBuf,
    /// Bytes of that room in front.
    front: usize,
    /// What the disk did not give, in bytes of the disk, in order.
    pub bad: Vec<Range<u64>>,
    /// What each block of the window says; the first and the last may be parts of blocks.
    pub marks: Vec<BlockMark>,
    /// What is unallocated of a raw window, in bytes of the disk, whole sectors, in order; zeros in all that is made of it.
    pub gaps: Vec<Range<u64>>,
    /// What it was cut into, in the order of the disk.
    pub pieces: Vec<DiskPiece>,
    /// The members of pieces, one behind the other.
    pub members: Vec<u8>,
    /// What is wrong with the base here.
    pub bad_base: Vec<ImageError>,
}

impl WindowSlot {
    /// Room for `window` bytes, and `front` before them.
    pub fn new(front: usize, window: usize) -> Self {
        WindowSlot {
            number: 0,
            offset: 0,
            length: 0,
            content: WindowContent::Raw,
            raw: AlignedBuf::new(front + window),
            front,
            bad: Vec::new(),
            marks: Vec::new(),
            gaps: Vec::new(),
            pieces: Vec::new(),
            members: Vec::new(),
            bad_base: Vec::new(),
        }
    }

    /// Begins anew, with no bytes of disk.
    pub fn reset(&mut self, number: u64, offset: u64) {
        (self.number, self.offset, self.length) = (number, offset, 0);
        self.content = WindowContent::Raw;
        self.bad.clear();
        self.marks.clear();
        self.gaps.clear();
        self.pieces.clear();
        self.members.clear();
        self.bad_base.clear();
    }

    /// Byte behind the window.
    pub fn end(&self) -> u64 {
        self.offset + self.length
    }

    /// The window's bytes.
    pub fn window(&mut self) -> &mut [u8] {
        &mut self.raw[self.front..self.front + self.length as usize]
    }

    /// All of the window's room, whatever its length.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.raw[self.front..]
    }

    /// Puts `bytes` in front of the window.
    pub fn put_before(&mut self, bytes: &[u8]) {
        let at = self.front - bytes.len();
        self.raw[at..self.front].copy_from_slice(bytes);
    }

    /// The bytes of a range of the disk, which ends in the window, and its gaps.
    pub fn bytes(&self, range: &Range<u64>) -> (&[u8], Gaps) {
        let at = |byte: u64| (byte + self.front as u64 - self.offset) as usize;
        (&self.raw[at(range.start)..at(range.end)], gaps_within(&self.gaps, range))
    }
}

/// The gaps of a run, from its first byte on.
fn gaps_within(gaps: &[Range<u64>], run: &Range<u64>) -> Gaps {
    let mut found = Gaps::default();
    let mut last: Option<Range<u64>> = None;
    for gap in &gaps[gaps.partition_point(|gap| gap.end <= run.start)..] {
        let (start, end) = (gap.start.max(run.start), gap.end.min(run.end));
        if start >= end {
            break;
        }
        // The end of a window may have cut a gap in two.
        match &mut last {
            Some(before) if before.end == start => before.end = end,
            before => {
                let done = before.replace(start..end);
                done.into_iter()
                    .for_each(|gap| found.push(gap.start - run.start..gap.end - run.start, SECTOR));
            }
        }
    }
    last.into_iter().for_each(|gap| found.push(gap.start - run.start..gap.end - run.start, SECTOR));
    found
}
