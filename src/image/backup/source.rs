//! Which window of the disk is read next, and how it is read.
#![forbid(unsafe_code)]

use crate::block::BlockDevice;
use crate::image::backup::cut::{BLOCK, BlockMark, CutRule};
use crate::image::backup::options::BackupOptions;
use crate::image::backup::slot::{WindowContent, WindowSlot};
use crate::image::bad_sectors::{Trouble, read_chunk};
use crate::image::error::{ImageError, ImageOp};
use crate::image::format::member::UNIT;
use crate::used::is_in_order;
use std::ops::Range;

/// Bytes of a window, where runs can be at most `chunk` bytes long.
pub(super) fn window_size(chunk: u32) -> u64 {
    let chunk = u64::from(chunk);
    (4 * chunk).min(chunk.max(1 << 20))
}

/// Hands out the disk window by window.
pub(super) struct WindowSource<'a> {
    next: u64,
    number: u64,
    window: u64,
    data: Range<u64>,
    /// The first free range that ends behind `next`, and those after it.
    free: Range<u64>,
    later: std::slice::Iter<'a, Range<u64>>,
    /// What may be gaps of the next window, and what lies behind it.
    short: &'a [Range<u64>],
    /// Shortest free range that is no gap.
    split: u64,
    ended: bool,
}

impl<'a> WindowSource<'a> {
    pub fn new(opts: &'a BackupOptions) -> Self {
        WindowSource {
            next: 0,
            number: 0,
            window: window_size(opts.chunk_size),
            data: 0..0,
            free: 0..0,
            later: opts.used.free.iter(),
            short: &opts.used.free,
            split: opts.split,
            ended: false,
        }
    }

    /// Says which window is the slot's: free space or a hole of any length, or what is to be read. False at the end.
    pub fn next(&mut self, disk: &dyn BlockDevice, cancelled: bool, slot: &mut WindowSlot) -> bool {
        let size = disk.size();
        if self.ended || self.next >= size {
            return false;
        }
        slot.reset(self.number, self.next);
        self.number += 1;
        if cancelled {
            self.ended = true;
            slot.content = WindowContent::Failed(ImageError::cancelled());
            return true;
        }
        while self.free.end <= self.next {
            let next = self.later.find(|range| is_run(range, self.split));
            let next = next.map(|range| whole_blocks(range, disk.logical_block_size()));
            self.free = next.unwrap_or(size..u64::MAX);
        }
        if self.free.start <= self.next {
            slot.length = self.free.end - self.next;
            slot.content = WindowContent::Unallocated;
            self.next = self.free.end;
            return true;
        }
        if self.next >= self.data.end {
            self.data = match disk.next_data(self.next) {
                Ok(found) => found.unwrap_or(size..size),
                Err(e) => {
                    self.ended = true;
                    let error = ImageError::transfer(disk, ImageOp::SeekData, self.next, 0, e);
                    slot.content = WindowContent::Failed(error);
                    return true;
                }
            };
        }
        let hole_end =
            if self.data.start >= size { size } else { self.data.start / self.window * self.window };
        let hole_end = hole_end.min(self.free.start);
        // A shorter hole is read: a run may reach through it.
        if hole_end >= self.next + self.window {
            slot.length = hole_end - self.next;
            slot.content = WindowContent::Hole;
        } else {
            let end = (self.next / self.window + 1) * self.window;
            slot.length = end.min(self.free.start).min(size) - self.next;
            self.gaps(&(slot.offset..slot.end()), disk.logical_block_size(), &mut slot.gaps);
        }
        self.next += slot.length;
        true
    }

    /// The gaps of a window; windows must rise.
    fn gaps(&mut self, window: &Range<u64>, block: u32, gaps: &mut Vec<Range<u64>>) {
        let done = self.short.partition_point(|range| range.end <= window.start);
        self.short = &self.short[done..];
        let unit = u64::from(block).max(BLOCK);
        let inside = self.short.iter().take_while(|range| range.start < window.end);
        for range in inside.filter(|range| !is_run(range, self.split)) {
            let (start, end) = (range.start.next_multiple_of(unit), range.end / unit * unit);
            let (start, end) = (start.max(window.start), end.min(window.end));
            if start < end {
                gaps.push(start..end);
            }
        }
    }
}

/// True where a free range is worth a run of its own.
fn is_run(range: &Range<u64>, split: u64) -> bool {
    range.end - range.start >= split
}

/// The part of a free range that is whole logical blocks; perhaps empty.
fn whole_blocks(range: &Range<u64>, block: u32) -> Range<u64> {
    let block = u64::from(block);
    let (start, end) = (range.start.next_multiple_of(block), range.end / block * block);
    if start < end { start..end } else { 0..0 }
}

/// Bytes of disk that the free ranges stand for which become runs. They must be sorted, disjoint, and on the disk.
pub(super) fn free_bytes(disk: &dyn BlockDevice, opts: &BackupOptions) -> Result<u64, ImageError> {
    let free = &opts.used.free;
    if !is_in_order(free, disk.size()) {
        return Err(ImageError::internal(format!("{}: free ranges that are out of order", disk.name())));
    }
    let whole = free
        .iter()
        .filter(|range| is_run(range, opts.split))
        .map(|range| whole_blocks(range, disk.logical_block_size()));
    Ok(whole.map(|range| range.end - range.start).sum())
}

/// Reads a window, and looks at its blocks. Gaps are read along, but need not be readable: they are unallocated.
pub(super) fn read_window(
    disk: &dyn BlockDevice,
    slot: &mut WindowSlot,
    trouble: Option<&Trouble>,
    rule: &CutRule,
) -> Result<(), ImageError> {
    let (offset, end) = (slot.offset, slot.end());
    let gaps = std::mem::take(&mut slot.gaps);
    let buf = slot.window();
    let at = |byte: u64| (byte - offset) as usize;
    let mut bad = Vec::new();
    if gaps.is_empty() {
        bad = read_chunk(disk, buf, offset, trouble)?;
    } else if disk.read_at(buf, offset).is_err() {
        let starts = std::iter::once(offset).chain(gaps.iter().map(|gap| gap.end));
        let ends = gaps.iter().map(|gap| gap.start).chain([end]);
        for (start, end) in starts.zip(ends).filter(|(start, end)| start < end) {
            bad.extend(read_chunk(disk, &mut buf[at(start)..at(end)], start, trouble)?);
        }
    }
    gaps.iter().for_each(|gap| buf[at(gap.start)..at(gap.end)].fill(0));
    let marks = marks(buf, offset, &gaps, rule);
    (slot.gaps, slot.bad, slot.marks) = (gaps, bad, marks);
    Ok(())
}

/// What each block of a window says. What is unallocated is not known to be zero.
fn marks(window: &[u8], offset: u64, gaps: &[Range<u64>], rule: &CutRule) -> Vec<BlockMark> {
    let first = ((offset.next_multiple_of(BLOCK) - offset) as usize).min(window.len());
    let (head, rest) = window.split_at(first);
    let blocks = std::iter::once(head).filter(|head| !head.is_empty()).chain(rest.chunks(UNIT));
    let mut at = offset;
    let mut gaps = gaps.iter().peekable();
    blocks
        .map(|block| {
            let range = at..at + block.len() as u64;
            at = range.end;
            while gaps.next_if(|gap| gap.end <= range.start).is_some() {}
            match rule.mark(block) {
                BlockMark::Zero if gaps.peek().is_some_and(|gap| gap.start < range.end) => BlockMark::Plain,
                mark => mark,
            }
        })
        .collect()
}
