//! The second pass of a restore: what the disk lacks is written.
//!
//! Of a run that differs, only the blocks that differ are written, and only they are read back. Members come from memory where
//! the first pass has kept them ([`crate::image::restore::lack`]), else from the share, neighbours in one read. Each is
//! checked against its run's hash before anything of it is written.
#![forbid(unsafe_code)]

use crate::block::{ALIGN, BlockDevice};
use crate::image::error::{ImageError, ImageOp};
use crate::image::format::member::MemberKind;
use crate::image::format::run::Run;
use crate::image::group::{RunGroup, RunGroups};
use crate::image::reader::Image;
use crate::image::restore::batch::{Batch, Wanted, WrittenPiece};
use crate::image::restore::boot_areas::BootAreas;
use crate::image::restore::chooser::Chooser;
use crate::image::restore::found::{FoundOnDisk, at, tolerated};
use crate::image::restore::lack::Lack;
use crate::image::restore::options::RestoreOptions;
use crate::image::verify::{data_parts, read};
use crate::image::workspace::Workspace;
use crate::io::is_zero;
use crate::progress::Progress;
use crate::types::{Delta, FreeSpace};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

/// The body of a restore: brings one group of runs after the other onto the disk, and notes in a [`Batch`] what of it was
/// written. What lies in the boot areas is kept there already.
pub(super) struct RunWriter<'a> {
    image: &'a Image,
    disk: &'a dyn BlockDevice,
    areas: &'a BootAreas<'a>,
    lack: &'a Lack,
    free: FreeSpace,
    chooser: Chooser,
    /// Ends at the first read of the disk that fails.
    is_strict: bool,
    /// A read of the disk has failed.
    has_failed: AtomicBool,
    progress: &'a Progress,
}

impl<'a> RunWriter<'a> {
    pub fn new(
        (image, lack): (&'a Image, &'a Lack),
        disk: &'a dyn BlockDevice,
        areas: &'a BootAreas<'a>,
        opts: &RestoreOptions,
        progress: &'a Progress,
    ) -> Self {
        let (chooser, free, has_failed) = (Chooser::new(opts.delta), opts.free, AtomicBool::new(false));
        RunWriter { image, disk, areas, lack, free, chooser, is_strict: false, has_failed, progress }
    }

    /// Looks at all that a disk holds once more after an error of it: what could not be read is written already, so an error
    /// is one now.
    pub fn strict(self) -> Self {
        RunWriter { chooser: Chooser::new(Delta::Always), is_strict: true, ..self }
    }

    /// True where the disk did not give what was asked for.
    pub fn has_failed(&self) -> bool {
        self.has_failed.load(Relaxed)
    }

    /// Makes the disk hold this group, but for the boot areas. Progress counts what needs no reading back twice: it is
    /// finished.
    pub fn group(&self, space: &mut Workspace, group: &RunGroup, batch: &Batch) -> Result<(), ImageError> {
        let [first, ..] = group.runs() else { return Ok(()) };
        let range = group.range();
        let len = range.end - range.start;
        if first.kind == MemberKind::Unallocated && self.free != FreeSpace::Zero {
            self.progress.skipped.fetch_add(len, Relaxed);
            return Ok(());
        }
        let written = match self.areas.body(&range) {
            Some(body) if first.kind == MemberKind::Data => self.data(space, group, &body, batch)?,
            Some(body) => self.zeros(space, first.kind, body, batch)?,
            None => 0,
        };
        if first.kind != MemberKind::Data {
            self.progress.zero.fetch_add(2 * len - written, Relaxed);
        }
        self.progress.add_done(2 * len - written);
        Ok(())
    }

    /// Bytes that were written.
    fn data(
        &self,
        space: &mut Workspace,
        group: &RunGroup,
        body: &Range<u64>,
        batch: &Batch,
    ) -> Result<u64, ImageError> {
        let start = Instant::now();
        let found = match self.chooser.reads_first(MemberKind::Data) {
            true => Some(self.find(space, group, body)?),
            false => None,
        };
        let mut lacking = Vec::new();
        for run in group.runs() {
            let is_body = self.areas.body(&run.range()).as_ref() == Some(&run.range());
            match found.as_ref().filter(|_| is_body) {
                Some(found) if found.is_there(self.image, space, run, self.free)? => {}
                _ => lacking.push(*run),
            }
        }
        let read_time = start.elapsed();
        let start = Instant::now();
        let (mut written, mut fetched) = (0, 0);
        // What memory holds is not read along with its neighbours.
        let is_held = |run: &Run| self.lack.member(run).is_some();
        let parts = lacking.chunk_by(|a, b| is_held(a) == is_held(b));
        for group in parts.flat_map(|part| RunGroups::new(part.iter().copied().map(Ok))) {
            let group = group?;
            fetched += group.range().end - group.range().start;
            written += self.write(space, &group, found.as_ref(), batch)?;
        }
        let mut costs = self.chooser.costs(MemberKind::Data);
        if fetched > 0 {
            costs.wrote(fetched, start.elapsed());
        }
        if found.is_some() {
            costs.compared(body.end - body.start, fetched, written, read_time);
        }
        Ok(written)
    }

    fn find(
        &self,
        space: &mut Workspace,
        group: &RunGroup,
        body: &Range<u64>,
    ) -> Result<FoundOnDisk, ImageError> {
        if self.is_strict {
            return FoundOnDisk::read_all(self.disk, space, body);
        }
        let is_bad = |part: &Range<u64>| self.lack.is_unread(part);
        let found = FoundOnDisk::read(self.disk, self.areas, space, (group, body), is_bad)?;
        self.has_failed.fetch_or(found.has_failed, Relaxed);
        Ok(found)
    }

    /// Writes what differs of runs that are lacking, which stand next to each other.
    fn write(
        &self,
        space: &mut Workspace,
        group: &RunGroup,
        found: Option<&FoundOnDisk>,
        batch: &Batch,
    ) -> Result<u64, ImageError> {
        self.load(space, group)?;
        let range = group.range();
        let Some(body) = self.areas.body(&range) else { return Ok(0) };
        let bytes = |part: &Range<u64>| &space.raw[at(part, range.start)];
        let differing = match found {
            None => vec![body],
            Some(found) => blocks_where(&body, self.block(), |part| {
                !found.has(part) || *found.bytes_before(space, part) != *bytes(part)
            }),
        };
        let mut written = 0;
        for part in &differing {
            let (bytes, len) = (bytes(part), part.end - part.start);
            self.disk
                .write_at(bytes, part.start)
                .map_err(|e| ImageError::transfer(self.disk, ImageOp::Write, part.start, len, e))?;
            written += len;
            batch.wrote(group.runs().iter().filter_map(|run| written_piece(run, part, bytes)));
        }
        Ok(written)
    }

    /// Has the raw bytes of a group in the workspace, each run's checked against its hash.
    fn load(&self, space: &mut Workspace, group: &RunGroup) -> Result<(), ImageError> {
        let start = group.range().start;
        let is_held = group.runs().iter().all(|run| self.lack.member(run).is_some());
        if !is_held {
            space.read_members(self.image, group)?;
        }
        for run in group.runs() {
            if let Some(member) = self.lack.member(run).filter(|_| is_held) {
                space.put_member(run, member);
            } else {
                self.progress.image.fetch_add(run.member_length.into(), Relaxed);
            }
            space.inflate_member_at(run, (run.offset - start) as usize)?;
        }
        Ok(())
    }

    /// Bytes that were zeroed.
    fn zeros(
        &self,
        space: &mut Workspace,
        kind: MemberKind,
        body: Range<u64>,
        batch: &Batch,
    ) -> Result<u64, ImageError> {
        let len = body.end - body.start;
        let mut dirty = vec![body.clone()];
        let mut read_time = None;
        if self.chooser.reads_first(kind) {
            let start = Instant::now();
            dirty.clear();
            let step = space.raw.len() as u64;
            data_parts(self.disk, &body, step, |part| {
                let bytes = &mut space.raw[at(&part, part.start)];
                let is_read = self.read_zeros(bytes, &part)?;
                if is_read && is_zero(bytes) {
                    return Ok(());
                }
                let blocks = blocks_where(&part, self.block(), |block| {
                    !is_read || !is_zero(&bytes[at(block, part.start)])
                });
                for block in blocks {
                    push(&mut dirty, block);
                }
                Ok(())
            })?;
            read_time = Some(start.elapsed());
        }
        let start = Instant::now();
        let mut written = 0;
        for part in &dirty {
            let len = part.end - part.start;
            self.disk
                .write_zeroes(part.start, len)
                .map_err(|e| ImageError::transfer(self.disk, ImageOp::Zero, part.start, len, e))?;
            batch.wrote([(part.clone(), Wanted::Zeros)]);
            written += len;
        }
        let mut costs = self.chooser.costs(kind);
        if written > 0 {
            costs.wrote(written, start.elapsed());
        }
        if let Some(time) = read_time {
            // Nothing is fetched: what is kept costs the comparison alone, as with data.
            costs.compared(len, written, written, time);
        }
        Ok(written)
    }

    /// False where a part of the disk cannot be read.
    fn read_zeros(&self, bytes: &mut [u8], part: &Range<u64>) -> Result<bool, ImageError> {
        if self.is_strict {
            return read(self.disk, bytes, part.start).map(|()| true);
        }
        if self.lack.is_unread(part) {
            return Ok(false);
        }
        let is_read = tolerated(read(self.disk, bytes, part.start))?.is_some();
        self.has_failed.fetch_or(!is_read, Relaxed);
        Ok(is_read)
    }

    /// Smallest piece that is written, in bytes.
    fn block(&self) -> u64 {
        (ALIGN as u64).max(self.disk.logical_block_size().into())
    }
}

/// What of a run lies in `part`, whose bytes are given, to be read back. All of a run has its hash already, unless that is of
/// its gaps, too.
fn written_piece(run: &Run, part: &Range<u64>, bytes: &[u8]) -> Option<WrittenPiece> {
    let range = run.offset.max(part.start)..run.range().end.min(part.end);
    if range.is_empty() {
        return None;
    }
    let hash = match range == run.range() && !run.has_gaps {
        true => run.hash,
        false => blake3::hash(bytes.get(at(&range, part.start))?),
    };
    Some((range, Wanted::Data(hash)))
}

/// The blocks of `range` (cut at multiples of `block` bytes of the disk) for which `differs` holds, neighbours joined.
fn blocks_where(range: &Range<u64>, block: u64, differs: impl Fn(&Range<u64>) -> bool) -> Vec<Range<u64>> {
    let mut found = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let next = (at / block + 1).saturating_mul(block).min(range.end);
        if differs(&(at..next)) {
            push(&mut found, at..next);
        }
        at = next;
    }
    found
}

/// Adds a range behind the others, or to the last where they touch.
fn push(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differing_blocks_are_cut_at_blocks_of_the_disk_and_joined() {
        let bad = |bad: &'static [u64]| move |part: &Range<u64>| bad.iter().any(|b| part.contains(b));
        for (range, bytes, wanted) in [
            (0..16384, &[][..], vec![]),
            (0..16384, &[0], vec![0..4096]),
            (0..16384, &[4095, 4096, 12288], vec![0..8192, 12288..16384]),
            (512..9000, &[600, 8999], vec![512..4096, 8192..9000]),
            (512..1024, &[600], vec![512..1024]),
        ] {
            assert_eq!(blocks_where(&range, 4096, bad(bytes)), wanted);
        }
    }
}
