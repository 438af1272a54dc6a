//! Whether two ranges of files are the same blocks of their file system.

use super::table::Spot;
use crate::sys::{EXTENTS, FileExtent};
use std::collections::VecDeque;
use std::io;
use std::ops::Range;

/// Parts of extent lists that are remembered, 4 KiB each: images are walked in their order, so that the next question is
/// about the same part.
const WINDOWS: usize = 32;

/// How the blocks of two ranges of equal length lie to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overlap {
    /// All of them are the same.
    Same,
    /// None is.
    Apart,
    /// Some are.
    Partly,
    /// The file system does not tell.
    Unknown,
}

/// Where members lie, asked of the file system and remembered.
#[derive(Default)]
pub(super) struct Places {
    windows: VecDeque<Window>,
}

/// The extents of an image in this range of its file.
struct Window {
    image: usize,
    range: Range<u64>,
    extents: Vec<FileExtent>,
}

/// What asks the file system: the extents of an image from a byte on, as [`crate::sys::extents`].
pub(super) type AskExtents<'a> = &'a dyn Fn(usize, u64) -> io::Result<Vec<FileExtent>>;

impl Places {
    /// How `length` bytes at two places lie to each other. Something cannot be asked: unknown.
    pub fn overlap(&mut self, ask: AskExtents<'_>, a: Spot, b: Spot, length: u64) -> Overlap {
        match (self.blocks(ask, a, length), self.blocks(ask, b, length)) {
            (Some(a), Some(b)) if a == b => Overlap::Same,
            (Some(a), Some(b))
                if a.iter().all(|a| b.iter().all(|b| a.end <= b.start || b.end <= a.start)) =>
            {
                Overlap::Apart
            }
            (Some(_), Some(_)) => Overlap::Partly,
            _ => Overlap::Unknown,
        }
    }

    /// The blocks of a range, in its order; `None` where it has holes, or the file system does not tell.
    pub fn blocks(&mut self, ask: AskExtents<'_>, spot: Spot, length: u64) -> Option<Vec<Range<u64>>> {
        let end = spot.position.checked_add(length)?;
        let mut blocks: Vec<Range<u64>> = Vec::new();
        let mut at = spot.position;
        while at < end {
            let window = self.window(ask, Spot { position: at, ..spot })?;
            let after = window.extents.partition_point(|extent| extent.logical <= at);
            let extent = window.extents.get(after.checked_sub(1)?)?;
            let skipped = at - extent.logical;
            let rest = extent.length.checked_sub(skipped).filter(|rest| *rest > 0)?;
            let start = extent.physical?.checked_add(skipped)?;
            let part = start..start.checked_add(rest.min(end - at))?;
            at += part.end - part.start;
            match blocks.last_mut().filter(|last| last.end == part.start) {
                Some(last) => last.end = part.end,
                None => blocks.push(part),
            }
        }
        Some(blocks)
    }

    /// An image's blocks are others by now.
    pub fn forget(&mut self, image: usize) {
        self.windows.retain(|window| window.image != image);
    }

    fn window(&mut self, ask: AskExtents<'_>, spot: Spot) -> Option<&Window> {
        let is_it = |window: &Window| window.image == spot.image && window.range.contains(&spot.position);
        if let Some(known) = self.windows.iter().position(is_it) {
            let window = self.windows.remove(known)?;
            self.windows.push_front(window);
            return self.windows.front();
        }
        let extents = ask(spot.image, spot.position).ok()?;
        let end = match extents.last() {
            Some(last) if extents.len() >= EXTENTS => last.logical.saturating_add(last.length),
            _ => u64::MAX,
        };
        self.windows.truncate(WINDOWS - 1);
        self.windows.push_front(Window { image: spot.image, range: spot.position..end, extents });
        self.windows.front()
    }
}
