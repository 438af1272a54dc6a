//! What one thread needs to handle the runs of an image.
#![forbid(unsafe_code)]

use crate::block::AlignedBuf;
use crate::image::error::ImageError;
use crate::image::format::codec::{Codec, Inflate};
use crate::image::format::gaps::{Gaps, MAX_LIST};
use crate::image::format::member::{FRAME, MemberKind, RUN_PAYLOAD, UNIT};
use crate::image::format::run::{Run, data_member, longest_data_member};
use crate::image::format::zeros::{MAX_ZERO_RUN, ZeroMembers, member_len};
use crate::image::reader::Image;

/// Bytes of a data member that hold its list of gaps and all that stands before the deflate stream, in whole units.
const GAPS_END: usize = (FRAME + RUN_PAYLOAD + MAX_LIST + UNIT).next_multiple_of(UNIT);

/// What one thread needs to handle runs; made once, reused for every run.
pub(super) struct Workspace {
    /// Room for any member. Members lie at multiples of 4096 of the file: they are read past the page cache.
    pub member: AlignedBuf,
    /// Room for the raw bytes of any data run.
    pub raw: AlignedBuf,
    /// Room for what a disk holds in the place of a data run; made when it is first needed.
    found: Option<AlignedBuf>,
    /// Members of zeros, to compare with.
    pub zeros: ZeroMembers,
    /// The gaps of the run that was looked at last.
    pub gaps: Gaps,
    inflater: Box<dyn Inflate>,
}

impl Workspace {
    /// Buffers that fit this image.
    pub fn new(image: &Image) -> Self {
        let chunk = image.header().chunk_size;
        let member = longest_data_member(chunk.into()).max(member_len(MAX_ZERO_RUN));
        Workspace {
            member: AlignedBuf::new(member as usize),
            raw: AlignedBuf::new(chunk as usize),
            found: None,
            zeros: ZeroMembers::default(),
            gaps: Gaps::default(),
            inflater: Codec::default().inflater(),
        }
    }

    /// `len` bytes of room, at most a chunk, beside the raw bytes.
    pub fn found(&mut self, len: usize) -> &mut [u8] {
        let chunk = self.raw.len();
        &mut self.found.get_or_insert_with(|| AlignedBuf::new(chunk))[..len]
    }

    /// What was put into [`Workspace::found`].
    pub fn found_before(&self, len: usize) -> &[u8] {
        self.found.as_ref().map_or(&[], |found| &found[..len])
    }

    /// Reads the member of a run as it is. The index was checked: it fits.
    pub fn read_member(&mut self, image: &Image, run: &Run) -> Result<&[u8], ImageError> {
        let bytes = &mut self.member[..run.member_length as usize];
        // All of a member of zeros but its first and last block is zero: a hole, where it was written into a new file.
        let inner = UNIT..bytes.len().saturating_sub(UNIT);
        let place = run.position + inner.start as u64..run.position + inner.end as u64;
        if run.kind != MemberKind::Data && !inner.is_empty() && image.file().is_hole(&place) {
            bytes[inner.clone()].fill(0);
            image.read(&mut bytes[..inner.start], run.position)?;
            image.read(&mut bytes[inner.end..], place.end)?;
        } else {
            image.read(bytes, run.position)?;
        }
        Ok(bytes)
    }

    /// The raw bytes of a data run, checked against its hash.
    pub fn load(&mut self, image: &Image, run: &Run) -> Result<&[u8], ImageError> {
        self.read_member(image, run)?;
        self.inflate_member(run)
    }

    /// Inflates the member that was read before, and checks its bytes against the run's hash.
    pub fn inflate_member(&mut self, run: &Run) -> Result<&[u8], ImageError> {
        let bad =
            |what: &str| ImageError::damaged(run.position, format!("{what} (disk byte {})", run.offset));
        let (gaps, stream) = data_member(&self.member[..run.member_length as usize], run).map_err(bad)?;
        let raw = &mut self.raw[..run.length as usize];
        self.inflater.inflate(stream, raw).map_err(|e| bad(&e.0))?;
        if gaps.hash(raw) != run.hash {
            return Err(bad("the hash of a data run is wrong"));
        }
        if !gaps.are_zero_in(raw) {
            return Err(bad("a data run has bytes where it should be unallocated"));
        }
        self.gaps = gaps;
        Ok(raw)
    }

    /// Fetches the gaps of a data run into [`Workspace::gaps`], of its member only as much as that takes. Whoever has
    /// bytes with which they give the run's hash has the right ones.
    pub fn read_gaps(&mut self, image: &Image, run: &Run) -> Result<(), ImageError> {
        self.gaps.clear();
        if run.has_gaps {
            let head = &mut self.member[..(run.member_length as usize).min(GAPS_END)];
            image.read(head, run.position)?;
            let member = data_member(head, run);
            self.gaps = member.map_err(|what| ImageError::damaged(run.position, what))?.0;
        }
        Ok(())
    }
}
