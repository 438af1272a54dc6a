//! The first pass of a restore, which writes nothing: the disk is compared with the index, and what it lacks is fetched and
//! proven.
//!
//! ```text
//! index -> groups of runs -> [disk: is it there?] -no-> [share: member] -> member hash, inflated, raw hash -> memory
//! ```
//!
//! What cannot be read differs. Members that reach into the boot areas are fetched in any case. What finds no room in memory
//! is proven all the same, and read again when it is written, unless [`RestoreOptions::read_twice`] says no: then it is read
//! when it is written, and of a disk that holds something else altogether nothing more is read before. A member whose bytes
//! the disk holds already is not read at all: a damage of it is not noticed.
#![forbid(unsafe_code)]

use crate::block::BlockDevice;
use crate::image::error::ImageError;
use crate::image::format::member::MemberKind;
use crate::image::format::run::Run;
use crate::image::group::{RunGroup, RunGroups};
use crate::image::parallel::{for_each, io_threads};
use crate::image::reader::Image;
use crate::image::restore::batch::drop_cache;
use crate::image::restore::boot_areas::BootAreas;
use crate::image::restore::found::{FoundOnDisk, at, tolerated};
use crate::image::restore::lack::Lack;
use crate::image::restore::options::RestoreOptions;
use crate::image::verify::{check_hash, data_parts, read};
use crate::image::workspace::Workspace;
use crate::io::is_zero;
use crate::progress::Progress;
use crate::types::{Delta, FreeSpace, ReadTwice};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of data that must differ one after the other before a disk is taken for one that holds something else.
const OTHER: u64 = 64 << 20;
/// Of such a disk, one group in so many is compared all the same, to see whether that has changed.
const PROBE: u64 = 16;

/// One disk and its image.
pub(super) struct Comparison<'a> {
    image: &'a Image,
    disk: &'a dyn BlockDevice,
    areas: &'a BootAreas<'a>,
    opts: &'a RestoreOptions,
    progress: &'a Progress,
    streak: Streak,
    lack: Mutex<Lack>,
    /// What may be anything on the disk.
    loose: Mutex<Vec<Range<u64>>>,
}

/// Whether a disk seems to hold something else altogether.
#[derive(Default)]
struct Streak {
    /// Bytes of data that differed since something was equal; with several threads about so many.
    differing: AtomicU64,
    groups: AtomicU64,
}

impl Streak {
    fn note(&self, is_other: bool, bytes: u64) {
        let before = self.differing.load(Relaxed);
        self.differing.store(if is_other { before.saturating_add(bytes) } else { 0 }, Relaxed);
    }

    /// Whether the next group is compared.
    fn compares(&self) -> bool {
        let is_probe = self.groups.fetch_add(1, Relaxed).is_multiple_of(PROBE);
        is_probe || !self.is_other()
    }

    fn is_other(&self) -> bool {
        self.differing.load(Relaxed) >= OTHER
    }
}

impl<'a> Comparison<'a> {
    pub fn new(
        image: &'a Image,
        disk: &'a dyn BlockDevice,
        areas: &'a BootAreas<'a>,
        opts: &'a RestoreOptions,
        progress: &'a Progress,
    ) -> Self {
        let (streak, lack, loose) = Default::default();
        Comparison { image, disk, areas, opts, progress, streak, lack, loose }
    }

    /// What the disk lacks; what boots is in the areas from here on. Progress counts bytes of disk.
    ///
    /// # Errors
    /// Those of the image; the disk is gone.
    pub fn run(self) -> Result<Lack, ImageError> {
        let Comparison { image, disk, opts, progress, .. } = self;
        // What is kept must be on the disk, and not only in memory.
        drop_cache(disk)?;
        let space = || Workspace::new(image);
        for_each(RunGroups::new(image.runs()), io_threads(opts.threads), progress, space, |space, group| {
            self.group(space, &group)
        })?;
        let loose = self.loose.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut lack = self.lack.into_inner().unwrap_or_else(PoisonError::into_inner);
        let sector = image.header().disk.logical_block_size;
        let ends = tolerated(self.areas.are_there(sector, opts.grow, &loose))?;
        lack.has_failed |= ends.is_none();
        if let Some(Some(table)) = ends
            && opts.delta != Delta::Never
            && lack.is_empty()
        {
            lack.is_nothing = true;
            lack.restored.table = table;
        }
        Ok(lack)
    }

    fn lack(&self) -> MutexGuard<'_, Lack> {
        self.lack.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn loosen(&self, ranges: impl IntoIterator<Item = Range<u64>>) {
        self.loose.lock().unwrap_or_else(PoisonError::into_inner).extend(ranges);
    }

    fn group(&self, space: &mut Workspace, group: &RunGroup) -> Result<(), ImageError> {
        let [first, ..] = group.runs() else { return Ok(()) };
        let range = group.range();
        match first.kind {
            MemberKind::Unallocated if self.opts.free != FreeSpace::Zero => {
                let body = self.areas.body(&range);
                if body.as_ref() != Some(&range) {
                    self.loosen([range]);
                }
                self.lack().restored.left_bytes += body.map_or(0, |body| body.end - body.start);
                self.progress.skipped.fetch_add(first.length, Relaxed);
                return Ok(());
            }
            MemberKind::Data => self.data(space, group)?,
            _ => {
                self.zeros(space, first)?;
                self.progress.zero.fetch_add(first.length, Relaxed);
            }
        }
        self.progress.add_done(range.end - range.start);
        Ok(())
    }

    /// Zeros are compared, and nothing is fetched for them. The boot areas begin as zeros.
    fn zeros(&self, space: &mut Workspace, run: &Run) -> Result<(), ImageError> {
        let Some(body) = self.areas.body(&run.range()) else { return Ok(()) };
        let is_left = self.is_left();
        let mut differs = self.opts.delta == Delta::Never || is_left;
        let step = space.raw.len() as u64;
        data_parts(self.disk, &body, step, |part| {
            if !differs {
                let bytes = &mut space.raw[at(&part, part.start)];
                let is_read = tolerated(read(self.disk, bytes, part.start))?.is_some();
                if !is_read {
                    self.lack().note_failure(std::slice::from_ref(&part));
                }
                differs = !is_read || !is_zero(bytes);
            }
            Ok(())
        })?;
        if differs {
            let has_room = !is_left && self.opts.memory.take(0);
            self.lack().add(run, has_room, None);
        }
        Ok(())
    }

    fn data(&self, space: &mut Workspace, group: &RunGroup) -> Result<(), ImageError> {
        let found = match self.areas.body(&group.range()) {
            Some(body) if self.reads_first() => Some(self.find(space, group, &body)?),
            _ => None,
        };
        let (mut lacking, mut is_other) = (Vec::new(), true);
        for run in group.runs() {
            if let Some(found) = found.as_ref().filter(|_| !self.reaches_out(run)) {
                if found.is_there(self.image, space, run, self.opts.free)? {
                    is_other = false;
                    continue;
                }
                if run.has_gaps {
                    // The head of its member was just read.
                    self.fetch(space, &[*run], None)?;
                    continue;
                }
            }
            lacking.push(*run);
        }
        if found.is_some() {
            self.streak.note(is_other, group.data_bytes());
        }
        self.fetch(space, &lacking, found.as_ref())
    }

    /// True where a part of a run lies in the boot areas, or behind the end of a smaller disk.
    fn reaches_out(&self, run: &Run) -> bool {
        self.areas.body(&run.range()).as_ref() != Some(&run.range())
    }

    /// True where nothing more is read before the first write but what boots.
    fn is_left(&self) -> bool {
        let is_other = self.opts.delta == Delta::Never || self.streak.is_other();
        self.opts.read_twice == ReadTwice::No && is_other
    }

    /// Whether a group is compared: not every one of a disk that holds something else.
    fn reads_first(&self) -> bool {
        match self.opts.delta {
            Delta::Never => false,
            _ if self.is_left() => false,
            Delta::Always => true,
            Delta::Auto => self.streak.compares(),
        }
    }

    fn find(
        &self,
        space: &mut Workspace,
        group: &RunGroup,
        body: &Range<u64>,
    ) -> Result<FoundOnDisk, ImageError> {
        let found = FoundOnDisk::read(self.disk, self.areas, space, (group, body), |_| false)?;
        if found.has_failed {
            self.lack().note_failure(&found.unread);
        }
        Ok(found)
    }

    /// Fetches and proves what is lacking, neighbours in one read, and keeps it where there is memory.
    fn fetch(
        &self,
        space: &mut Workspace,
        runs: &[Run],
        found: Option<&FoundOnDisk>,
    ) -> Result<(), ImageError> {
        let mut wanted = Vec::new();
        for run in runs {
            let is_end = self.reaches_out(run);
            let has_room = !is_end && !self.is_left() && self.opts.memory.take(run.member_length.into());
            if is_end || has_room || self.opts.read_twice == ReadTwice::Yes {
                wanted.push((*run, is_end, has_room));
            } else {
                self.lack().add(run, false, None);
            }
        }
        let mut about = wanted.iter();
        for group in RunGroups::new(wanted.iter().map(|(run, ..)| Ok(*run))) {
            let group = group?;
            space.read_members(self.image, &group)?;
            for (run, is_end, has_room) in about.by_ref().take(group.runs().len()) {
                check_hash(space, run)?;
                space.inflate_member(run)?;
                self.progress.image.fetch_add(run.member_length.into(), Relaxed);
                match is_end {
                    true => self.keep_end(space, run, found)?,
                    false => self.lack().add(run, *has_room, Some(space.members.of(run)?)),
                }
            }
        }
        Ok(())
    }

    /// What of a run lies in the boot areas is kept there; the rest is compared with what was found.
    fn keep_end(
        &self,
        space: &mut Workspace,
        run: &Run,
        found: Option<&FoundOnDisk>,
    ) -> Result<(), ImageError> {
        let gaps = std::mem::take(&mut space.gaps);
        self.areas.keep(&space.raw[..run.length as usize], run.offset);
        if self.opts.free != FreeSpace::Zero {
            let place = |gap: &Range<u64>| run.offset + gap.start..run.offset + gap.end;
            self.loosen(gaps.ranges().map(place));
        }
        let Some(body) = self.areas.body(&run.range()) else { return Ok(()) };
        if let Some(found) = found.filter(|found| found.has(&body)) {
            if self.opts.free != FreeSpace::Zero {
                gaps.clear_in(found.bytes(space, &body), body.start - run.offset);
            }
            if *found.bytes_before(space, &body) == space.raw[at(&body, run.offset)] {
                return Ok(());
            }
        }
        let has_room = self.opts.memory.take(run.member_length.into());
        self.lack().add(run, has_room, Some(space.members.of(run)?));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_of_other_data_is_only_probed_until_something_is_equal() {
        let (streak, group) = (Streak::default(), 1 << 20);
        let compared = |groups: u64, is_other: bool| {
            let compares = |_: &u64| streak.compares().then(|| streak.note(is_other, group)).is_some();
            (0..groups).filter(compares).count() as u64
        };
        assert_eq!(compared(OTHER / group, true), OTHER / group);
        assert_eq!(compared(1600, true), 1600 / PROBE);
        assert_eq!(compared(1, true), 1);
        assert_eq!(compared(PROBE, false), 1, "a probe that is equal");
        assert_eq!(compared(100, false), 100);
    }
}
