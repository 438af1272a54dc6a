//! What one thread needs to handle the runs of an image.
#![forbid(unsafe_code)]

use crate::block::AlignedBuf;
use crate::image::error::ImageError;
use crate::image::format::codec::{Codec, Inflate};
use crate::image::format::gaps::Gaps;
use crate::image::format::member::{MemberKind, UNIT};
use crate::image::format::run::{Run, data_member, gaps_end, longest_data_member, member_gaps};
use crate::image::format::zeros::{MAX_ZERO_RUN, ZeroMembers, member_len};
use crate::image::group::{GROUP, GROUP_MEMBERS, RunGroup};
use crate::image::reader::Image;
use std::ops::Range;

/// What one thread needs to handle runs; made once, reused for every run.
pub(super) struct Workspace {
    /// The members that were read last.
    pub members: MembersRead,
    /// Room for the raw bytes of any data run, or of a group.
    pub raw: AlignedBuf,
    /// Room for what a disk holds in the place of a group; made when it is first needed.
    found: Option<AlignedBuf>,
    /// Members of zeros, to compare with.
    pub zeros: ZeroMembers,
    /// The gaps of the run that was looked at last.
    pub gaps: Gaps,
    inflater: Box<dyn Inflate>,
}

/// A part of the file: the members of a group, or one of any kind.
pub(super) struct MembersRead {
    /// Members lie at multiples of 4096 of the file: they are read past the page cache.
    bytes: AlignedBuf,
    place: Range<u64>,
}

impl MembersRead {
    /// The member of a run that was read.
    ///
    /// # Errors
    /// Internal: it was not.
    pub fn of(&self, run: &Run) -> Result<&[u8], ImageError> {
        let place = run.place();
        let is_there = self.place.start <= place.start && place.end <= self.place.end;
        let at = |position: u64| (position - self.place.start) as usize;
        let bytes = is_there.then(|| self.bytes.get(at(place.start)..at(place.end))).flatten();
        bytes.ok_or_else(|| ImageError::internal("a member is needed that was not read"))
    }

    /// What was read last is not read again where this begins with it: it was the head of a member, for its gaps.
    fn read(&mut self, image: &Image, place: Range<u64>) -> Result<(), ImageError> {
        let is_head = self.place.start == place.start;
        let from = if is_head { self.place.end.min(place.end) } else { place.start };
        let part = (from - place.start) as usize..(place.end - place.start) as usize;
        self.place = 0..0;
        image.read(&mut self.bytes[part], from)?;
        self.place = place;
        Ok(())
    }

    /// Takes all but the first and the last block as zeros.
    fn read_ends(&mut self, image: &Image, place: Range<u64>) -> Result<(), ImageError> {
        let last = (place.end - place.start) as usize - UNIT;
        self.place = 0..0;
        self.bytes[UNIT..last].fill(0);
        image.read(&mut self.bytes[..UNIT], place.start)?;
        image.read(&mut self.bytes[last..last + UNIT], place.end - UNIT as u64)?;
        self.place = place;
        Ok(())
    }
}

impl Workspace {
    /// Buffers that fit this image.
    pub fn new(image: &Image) -> Self {
        let chunk = u64::from(image.header().chunk_size);
        let members = longest_data_member(chunk).max(member_len(MAX_ZERO_RUN)).max(GROUP_MEMBERS);
        Workspace {
            members: MembersRead { bytes: AlignedBuf::new(members as usize), place: 0..0 },
            raw: AlignedBuf::new(chunk.max(GROUP) as usize),
            found: None,
            zeros: ZeroMembers::default(),
            gaps: Gaps::default(),
            inflater: Codec::default().inflater(),
        }
    }

    /// `len` bytes of room, at most a group or a chunk, beside the raw bytes.
    pub fn found(&mut self, len: usize) -> &mut [u8] {
        let most = self.raw.len();
        &mut self.found.get_or_insert_with(|| AlignedBuf::new(most))[..len]
    }

    /// What was put into [`Workspace::found`].
    pub fn found_before(&self, len: usize) -> &[u8] {
        self.found.as_ref().map_or(&[], |found| &found[..len])
    }

    /// Puts a member there that was read and proven before.
    pub fn put_member(&mut self, run: &Run, member: &[u8]) {
        let place = run.place();
        self.members.place = 0..0;
        if let Some(bytes) = self.members.bytes.get_mut(..member.len()) {
            bytes.copy_from_slice(member);
            self.members.place = place.start..place.start + member.len() as u64;
        }
    }

    /// Reads the members of a group as they are, in one call. The index was checked: they fit.
    pub fn read_members(&mut self, image: &Image, group: &RunGroup) -> Result<(), ImageError> {
        match group.runs() {
            [first, .., last] => self.members.read(image, first.position..last.place().end),
            [run] => self.read_member(image, run),
            [] => Ok(()),
        }
    }

    /// Reads the member of a run as it is. The index was checked: it fits.
    pub fn read_member(&mut self, image: &Image, run: &Run) -> Result<(), ImageError> {
        let place = run.place();
        // All of a member of zeros but its first and last block is zero: a hole, where it was written into a new file.
        let inner = place.start + UNIT as u64..place.end.saturating_sub(UNIT as u64);
        if run.kind != MemberKind::Data && !inner.is_empty() && image.file().is_hole(&inner) {
            return self.members.read_ends(image, place);
        }
        self.members.read(image, place)
    }

    /// The raw bytes of a data run, checked against its hash.
    pub fn load(&mut self, image: &Image, run: &Run) -> Result<&[u8], ImageError> {
        self.read_member(image, run)?;
        self.inflate_member(run)
    }

    /// Inflates a member that was read before, and checks its bytes against the run's hash.
    pub fn inflate_member(&mut self, run: &Run) -> Result<&[u8], ImageError> {
        self.inflate_member_at(run, 0)
    }

    /// The same, to byte `at` of the raw bytes: all of a group has room there.
    pub fn inflate_member_at(&mut self, run: &Run, at: usize) -> Result<&[u8], ImageError> {
        let bad =
            |what: &str| ImageError::damaged(run.position, format!("{what} (disk byte {})", run.offset));
        let (gaps, stream) = data_member(self.members.of(run)?, run).map_err(bad)?;
        let raw = &mut self.raw[at..at + run.length as usize];
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
            let len = run.member_length.min(gaps_end(image.header().chunk_size) as u32);
            let head = Run { member_length: len, ..*run };
            self.members.read(image, head.place())?;
            let gaps = member_gaps(self.members.of(&head)?, run);
            self.gaps = gaps.map_err(|what| ImageError::damaged(run.position, what))?;
        }
        Ok(())
    }
}
