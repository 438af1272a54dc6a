//! What goes round in a backup: a piece of disk with its buffers, and where it may be found compressed already.
#![forbid(unsafe_code)]

use crate::block::AlignedBuf;
use crate::image::backup::resume::KeptRuns;
use crate::image::error::ImageError;
use crate::image::format::codec::DataMember;
use crate::image::format::gaps::Gaps;
use crate::image::format::run::Run;
use crate::image::reader::Image;
use std::ops::Range;
use std::sync::atomic::AtomicBool;

/// Where a chunk may be found compressed already.
pub(super) struct MemberSources<'a> {
    /// The image before.
    pub base: Option<&'a Image>,
    /// Members of the base need not be read: the sink has them copied, and verification proves them.
    pub unread: &'a AtomicBool,
    /// What stands in the file already.
    pub kept: Option<KeptRuns>,
}

/// What became of a piece of disk.
pub(super) enum PieceContent {
    /// All zero, or a hole.
    Zero,
    /// Nobody uses it: not read.
    Unallocated,
    /// Read, not looked at yet.
    Raw,
    /// Compressed into the slot's member buffer.
    Data(DataMember),
    /// The base's member of this run has the same data, and stands at the beginning of the slot's member buffer.
    Taken(Run),
    /// The base has the same data in the member of this run, which was not looked at.
    Unread(Run),
    /// The unfinished image has the same data in the member of this run.
    Kept(Run),
    /// Read with holes, which are bad.
    BadRanges(Vec<Range<u64>>),
    /// Not to be had.
    Failed(ImageError),
}

/// Everything that a piece of disk needs on its way.
pub(super) struct PieceSlot {
    /// Pieces are numbered in the order of the disk.
    pub number: u64,
    pub offset: u64,
    pub length: u64,
    pub raw: AlignedBuf,
    pub member: Vec<u8>,
    pub content: PieceContent,
    /// What is unallocated in a raw piece; zeros in all that is made of it.
    pub gaps: Gaps,
    /// The run of the unfinished image at this place.
    pub kept: Option<Run>,
    /// The run of the base at this place.
    pub old: Option<Run>,
    /// What is wrong with the base here.
    pub bad_base: Option<ImageError>,
}
