//! What a disk holds in the place of a group of runs, read in one piece.
#![forbid(unsafe_code)]

use crate::block::BlockDevice;
use crate::image::error::{ErrorKind, ImageError};
use crate::image::format::run::Run;
use crate::image::group::RunGroup;
use crate::image::reader::Image;
use crate::image::restore::boot_areas::BootAreas;
use crate::image::verify::read;
use crate::image::workspace::Workspace;
use crate::types::FreeSpace;
use std::ops::Range;

/// What was found outside of the boot areas; its bytes are in [`Workspace::found`].
pub(super) struct FoundOnDisk {
    /// The first byte of the disk that was read.
    start: u64,
    /// What of it could not be read, in whole runs.
    pub unread: Vec<Range<u64>>,
    /// A read has failed, be it that a second one did not.
    pub has_failed: bool,
}

/// Places in a buffer that begins at byte `start` of the disk.
pub(super) fn at(part: &Range<u64>, start: u64) -> Range<usize> {
    (part.start - start) as usize..(part.end - start) as usize
}

/// `None` for an error of the disk that writing may mend.
pub(super) fn tolerated<T>(result: Result<T, ImageError>) -> Result<Option<T>, ImageError> {
    match result {
        Err(error) if matches!(error.kind, ErrorKind::Gone | ErrorKind::Resized) => Err(error),
        result => Ok(result.ok()),
    }
}

impl FoundOnDisk {
    /// Reads what stands in the place of a group, of which `body` lies outside of the boot areas; where that fails, run by run.
    /// What `is_bad` is not read.
    ///
    /// # Errors
    /// The disk is gone.
    pub fn read(
        disk: &dyn BlockDevice,
        areas: &BootAreas,
        space: &mut Workspace,
        (group, body): (&RunGroup, &Range<u64>),
        is_bad: impl Fn(&Range<u64>) -> bool,
    ) -> Result<Self, ImageError> {
        let bytes = space.found((body.end - body.start) as usize);
        let mut found = FoundOnDisk { start: body.start, unread: Vec::new(), has_failed: false };
        let is_tried = !is_bad(body);
        if is_tried && tolerated(read(disk, bytes, body.start))?.is_some() {
            return Ok(found);
        }
        found.has_failed = is_tried;
        for part in group.runs().iter().filter_map(|run| areas.body(&run.range())) {
            // A second try of the same would prove nothing.
            let is_known = is_bad(&part) || is_tried && part == *body;
            let bytes = &mut bytes[at(&part, body.start)];
            if is_known || tolerated(read(disk, bytes, part.start))?.is_none() {
                found.has_failed |= !is_known;
                found.unread.push(part);
            }
        }
        Ok(found)
    }

    /// Reads what stands in the place of a group.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read_all(
        disk: &dyn BlockDevice,
        space: &mut Workspace,
        body: &Range<u64>,
    ) -> Result<Self, ImageError> {
        read(disk, space.found((body.end - body.start) as usize), body.start)?;
        Ok(FoundOnDisk { start: body.start, unread: Vec::new(), has_failed: false })
    }

    /// True where all of this range was read.
    pub fn has(&self, range: &Range<u64>) -> bool {
        !self.unread.iter().any(|unread| unread.start < range.end && range.start < unread.end)
    }

    /// True where all of a run was found, which lies outside of the boot areas. Unless all that is unallocated is to be zero,
    /// what stands in its gaps does not count, and is taken as zero from here on.
    ///
    /// # Errors
    /// The head of its member, with its gaps, cannot be read or is damaged.
    pub fn is_there(
        &self,
        image: &Image,
        space: &mut Workspace,
        run: &Run,
        free: FreeSpace,
    ) -> Result<bool, ImageError> {
        if !self.has(&run.range()) {
            return Ok(false);
        }
        space.read_gaps(image, run)?;
        let gaps = std::mem::take(&mut space.gaps);
        let found = self.bytes(space, &run.range());
        if free != FreeSpace::Zero {
            gaps.clear_in(found, 0);
        }
        Ok(gaps.hash(found) == run.hash)
    }

    /// The bytes of a part of it.
    pub fn bytes<'s>(&self, space: &'s mut Workspace, part: &Range<u64>) -> &'s mut [u8] {
        let place = at(part, self.start);
        &mut space.found(place.end)[place]
    }

    /// The same, of a workspace that something else of is in use.
    pub fn bytes_before<'s>(&self, space: &'s Workspace, part: &Range<u64>) -> &'s [u8] {
        let place = at(part, self.start);
        &space.found_before(place.end)[place]
    }
}
