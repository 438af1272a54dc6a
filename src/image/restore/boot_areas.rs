//! What makes a disk bootable is written last: a half-restored disk must not look like a whole one.
//!
//! The boot areas are the first MiB (boot sector, primary GPT, boot loaders behind it), the last MiB of the image's
//! disk (the backup GPT, from which UEFI firmware boots as well), and, where that is another place, the last MiB of the
//! target: a stale backup GPT there must not win, and the image's own, where it is right, moves there.
#![forbid(unsafe_code)]

use crate::block::{ALIGN, AlignedBuf, BlockDevice};
use crate::image::error::{ImageError, ImageOp};
use crate::image::verify::read;
use crate::io::{ReadAt, is_zero};
use crate::used::Growth;
use crate::used::relocate::{MAX_TAIL, Movable, Moved, Patch, growth};
use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of each.
const AREA: u64 = MAX_TAIL;

/// The parts of a disk that are held back in memory until the rest is proven.
pub struct BootAreas<'a> {
    disk: &'a dyn BlockDevice,
    /// Bytes of content.
    size: u64,
    kept: Mutex<[Area; 3]>,
}

/// What boots could not be written.
pub struct NotBootable {
    /// Why.
    pub error: ImageError,
    /// The disk was made unbootable again.
    pub zeroed: bool,
}

/// What became of the partition table on a disk of another size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TableFit {
    /// It stays as the image has it: the sizes are the same, or there is no GPT.
    #[default]
    Same,
    /// The GPT was right: its backup and the end of the usable blocks moved with the end of the disk, behind whose last
    /// partition so many bytes are free.
    Moved(u64),
    /// The same, or an MBR: and the last partition grew.
    Grown(Growth),
    /// The GPT is not right, for this reason: it stays as the image has it.
    Left(String),
}

impl TableFit {
    /// What there is to say of it.
    pub fn said(&self) -> Option<String> {
        match self {
            TableFit::Same => None,
            TableFit::Moved(free) => Some(format!(
                "its size is not the imaged disk's: the backup GPT and the end of the usable blocks are at its end now, \
                 {free} bytes behind the last partition are free"
            )),
            TableFit::Grown(Growth { number, old_end, end, .. }) => Some(format!(
                "its size is not the imaged disk's: partition {number}, the last one, ended at byte {old_end} and ends at byte \
                 {end} now, and what stands behind the partitions is at the end of the disk"
            )),
            TableFit::Left(why) => Some(format!(
                "its size is not the imaged disk's, and its GPT is as in the image, because it was not right there: {why}"
            )),
        }
    }
}

/// The head, the end of the content, and the end of the disk, disjoint, in this order.
struct Area {
    range: Range<u64>,
    bytes: AlignedBuf,
}

impl Area {
    fn new(range: Range<u64>) -> Self {
        let bytes = AlignedBuf::new((range.end - range.start) as usize);
        Area { range, bytes }
    }

    /// The places in the area and in bytes at `offset` of the disk that both have.
    fn shared(&self, len: usize, offset: u64) -> Option<(Range<usize>, Range<usize>)> {
        let both = within(&(offset..offset + len as u64), &self.range)?;
        let from = |start: u64| (both.start - start) as usize..(both.end - start) as usize;
        Some((from(self.range.start), from(offset)))
    }

    /// What of it the disk has room for.
    fn on_disk(&self, disk: &dyn BlockDevice) -> Option<Range<u64>> {
        within(&self.range, &(0..disk.size()))
    }
}

/// The part of `range` inside `limits`.
fn within(range: &Range<u64>, limits: &Range<u64>) -> Option<Range<u64>> {
    let both = range.start.max(limits.start)..range.end.min(limits.end);
    (both.start < both.end).then_some(both)
}

/// The last MiB before `end`, in whole aligned blocks, and nothing before `first`.
fn last(end: u64, first: u64) -> Range<u64> {
    (end.saturating_sub(AREA) / ALIGN as u64 * ALIGN as u64).max(first).min(end)..end
}

impl<'a> BootAreas<'a> {
    /// For content of `size` bytes. Where the disk has fewer, what lies behind its end is kept, and never written.
    pub fn new(disk: &'a dyn BlockDevice, size: u64) -> Self {
        let head = 0..AREA.min(size).min(disk.size());
        let tail = last(size, head.end);
        let end = match disk.size() {
            larger if larger > size => larger.saturating_sub(AREA).max(tail.end)..larger,
            smaller if smaller < size => {
                let end = last(smaller, head.end);
                end.start..end.end.min(tail.start).max(end.start)
            }
            same => same..same,
        };
        BootAreas { disk, size, kept: Mutex::new([head, tail, end].map(Area::new)) }
    }

    /// Makes the disk unbootable: zeros over both of its ends, flushed, and read back. Where the content ends far before
    /// the disk does, there is no end: what the disk held may use that place, and boots until its head is gone for sure.
    pub fn zero(&self) -> Result<(), ImageError> {
        let zeros = AlignedBuf::new(AREA as usize + ALIGN);
        let mut back = AlignedBuf::new(AREA as usize + ALIGN);
        let last = self.disk.size().saturating_sub(AREA);
        let parts: Vec<_> = self
            .kept()
            .iter()
            .filter_map(|area| area.on_disk(self.disk))
            .filter(|range| range.start == 0 || range.end > last)
            .collect();
        for part in &parts {
            self.write(&zeros[..(part.end - part.start) as usize], part.start)?;
        }
        self.flush()?;
        for part in &parts {
            let back = &mut back[..(part.end - part.start) as usize];
            read(self.disk, back, part.start)?;
            if !is_zero(back) {
                return Err(ImageError::differs(self.disk, part, ImageOp::ReadBack));
            }
        }
        Ok(())
    }

    /// Bytes of content in them, which are written in any case.
    pub fn bytes(&self) -> u64 {
        let kept = self.kept();
        let content = kept.iter().filter_map(|area| within(&area.on_disk(self.disk)?, &(0..self.size)));
        content.map(|part| part.end - part.start).sum()
    }

    /// The part of `range` outside of them.
    pub fn body(&self, range: &Range<u64>) -> Option<Range<u64>> {
        let [head, tail, end] = &*self.kept();
        within(range, &(head.range.end..tail.range.start.min(end.range.start)))
    }

    /// Keeps what of `bytes` lies in them; the bytes belong at byte `offset` of the disk.
    pub fn keep(&self, bytes: &[u8], offset: u64) {
        for area in &mut *self.kept() {
            if let Some((to, from)) = area.shared(bytes.len(), offset) {
                area.bytes[to].copy_from_slice(&bytes[from]);
            }
        }
    }

    /// Puts what was kept over `bytes`, as they will be on the disk.
    pub fn overlay(&self, bytes: &mut [u8], offset: u64) {
        for area in &*self.kept() {
            if let Some((from, to)) = area.shared(bytes.len(), offset) {
                bytes[to].copy_from_slice(&area.bytes[from]);
            }
        }
    }

    /// Moves a GPT that is right to the end of the disk, in what is kept: everything else of the content was written.
    /// `sector` is the size of the logical blocks that it counts in. The last partition grows, where it `grows` and can.
    pub fn fit_table(&self, sector: u32, grows: bool) -> TableFit {
        if self.size == self.disk.size() {
            return TableFit::Same;
        }
        if grows && let Ok((growth, wanted)) = growth(self, self.size, sector, self.disk.size()) {
            self.keep_patches(&wanted);
            return TableFit::Grown(growth);
        }
        let found = match Movable::find(self, self.size, sector) {
            Ok(None) => return TableFit::Same,
            Ok(Some(gpt)) => gpt.on(self.disk.size()),
            Err(why) => return TableFit::Left(why),
        };
        let Some(Moved { wanted, free, .. }) = found else { return TableFit::Same };
        self.keep_patches(&wanted);
        TableFit::Moved(free)
    }

    /// What became of the table of a disk that holds all that is kept already, and where it has to be: [`BootAreas::fit_table`]
    /// and [`BootAreas::write_last`] would change nothing. What it has in the `loose` ranges of the content does not count, as
    /// long as no table was to move there. A partition that grows is never there.
    pub fn are_there(
        &self,
        sector: u32,
        grows: bool,
        loose: &[Range<u64>],
    ) -> Result<Option<TableFit>, ImageError> {
        let copy = |area: &Area| {
            let mut copy = Area::new(area.range.clone());
            copy.bytes.copy_from_slice(&area.bytes);
            copy
        };
        let kept = Mutex::new(self.kept().each_ref().map(copy));
        let wanted = BootAreas { disk: self.disk, size: self.size, kept };
        let fit = wanted.fit_table(sector, grows);
        let is_loose = self.size == self.disk.size();
        for area in wanted.kept().iter_mut() {
            let Some(range) = area.on_disk(self.disk) else { continue };
            let mut found = AlignedBuf::new((range.end - range.start) as usize);
            read(self.disk, &mut found, range.start)?;
            for part in loose.iter().filter(|_| is_loose).filter_map(|loose| within(loose, &range)) {
                let at = (part.start - range.start) as usize..(part.end - range.start) as usize;
                area.bytes[at.clone()].copy_from_slice(&found[at]);
            }
            if area.bytes[..found.len()] != *found {
                return Ok(None);
            }
        }
        Ok(Some(fit).filter(|fit| !matches!(fit, TableFit::Grown(_))))
    }

    fn keep_patches(&self, wanted: &[Patch]) {
        wanted.iter().for_each(|patch| self.keep(&patch.bytes, patch.offset));
    }

    /// Writes what of a grown partition is kept, and keeps it no more: tools see all of it while the disk does not boot. Its
    /// new end is zeroed: what the disk held there before could be taken for the superblock of an array.
    pub fn expose(&self, growth: &Growth) -> Result<(), ImageError> {
        for area in self.kept().iter_mut().skip(1) {
            let inside = area.range.start..growth.end.clamp(area.range.start, area.range.end);
            let (bytes, kept) = area.bytes.split_at((inside.end - inside.start) as usize);
            self.write_proven(bytes, inside.start)?;
            let mut rest = Area::new(inside.end..area.range.end);
            rest.bytes.copy_from_slice(kept);
            *area = rest;
        }
        let end = growth.end.saturating_sub(AREA).max(growth.old_end)..growth.end;
        self.write_proven(&AlignedBuf::new((end.end - end.start) as usize), end.start)
    }

    /// Writes, flushes, reads back and compares; nothing where there is nothing.
    fn write_proven(&self, bytes: &[u8], offset: u64) -> Result<(), ImageError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.write(bytes, offset)?;
        self.flush()?;
        let mut back = AlignedBuf::new(bytes.len());
        read(self.disk, &mut back, offset)?;
        if *back != *bytes {
            let range = offset..offset + bytes.len() as u64;
            return Err(ImageError::differs(self.disk, &range, ImageOp::ReadBack));
        }
        Ok(())
    }

    /// Writes what was kept: last of all the first block of the disk (boot sector, header of the primary GPT), and
    /// before it the last one (header of the backup GPT), since firmware boots by either. Each step is flushed and read
    /// back. After a failure the head is zeroed again; [`NotBootable::zeroed`] says whether that worked.
    pub fn write_last(&self) -> Result<(), NotBootable> {
        let kept = self.kept();
        let block = self.disk.logical_block_size() as usize;
        let [head, tail, end] = &*kept;
        let first = head.bytes.len().min(block.max(ALIGN));
        let mut steps = vec![(&head.bytes[first..], first as u64)];
        let mut ends: Vec<_> =
            [tail, end].into_iter().filter_map(|a| Some((a, a.on_disk(self.disk)?))).collect();
        ends.sort_by_key(|(_, range)| range.start);
        for (area, range) in ends {
            let bytes = &area.bytes[..(range.end - range.start) as usize];
            // A disk writes one logical block or none of it.
            let last = bytes.len().saturating_sub(block);
            // Beyond the content there are zeros already, unless a GPT moved there.
            if range.start < self.size || !is_zero(bytes) {
                steps.extend([(&bytes[..last], range.start), (&bytes[last..], range.start + last as u64)]);
            }
        }
        steps.push((&head.bytes[..first], 0));
        let written = steps.into_iter().try_for_each(|(bytes, offset)| self.write_proven(bytes, offset));
        drop(kept);
        written.map_err(|error| NotBootable { error, zeroed: self.zero().is_ok() })
    }

    fn kept(&self) -> MutexGuard<'_, [Area; 3]> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, bytes: &[u8], offset: u64) -> Result<(), ImageError> {
        let len = bytes.len() as u64;
        self.disk
            .write_at(bytes, offset)
            .map_err(|e| ImageError::transfer(self.disk, ImageOp::Write, offset, len, e))
    }

    /// Makes what was written durable.
    pub fn flush(&self) -> Result<(), ImageError> {
        self.disk.flush().map_err(|source| ImageError::disk_call(self.disk, ImageOp::Flush, source))
    }
}

/// The content's bytes, as far as they are kept.
impl ReadAt for BootAreas<'_> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let kept = self.kept();
        let [head, tail, _] = &*kept;
        for area in [head, tail] {
            if area.range.contains(&offset)
                && let Some((from, to)) = area.shared(buf.len(), offset)
            {
                let len = to.len();
                buf[to].copy_from_slice(&area.bytes[from]);
                return Ok(len);
            }
        }
        Err(io::Error::other(format!("byte {offset} is not in the first or last MiB")))
    }
}
