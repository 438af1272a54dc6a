//! Cuts windows of the disk into pieces, in the order of the disk. What a window does not end is carried over into the next
//! one, so that where windows end does not show in the image.
#![forbid(unsafe_code)]

use crate::image::backup::cut::{BLOCK, BlockMark, Cut, CutRule, Cutter};
use crate::image::backup::incremental::Aligned;
use crate::image::backup::resume::KeptRuns;
use crate::image::backup::slot::{DiskPiece, PieceContent, WindowContent, WindowSlot};
use crate::image::reader::ImageRuns;
use std::ops::Range;

/// Takes the windows in order.
pub(super) struct Carver<'a> {
    cutter: Cutter,
    cuts: Vec<Cut>,
    /// Bytes of the run that did not end yet, and what is unallocated of them.
    carried: Vec<u8>,
    gaps: Vec<Range<u64>>,
    /// Bytes of disk.
    size: u64,
    /// A window is missing: the backup has failed, and nothing more is cut.
    has_failed: bool,
    base: Option<Aligned<ImageRuns<'a>>>,
    kept: Option<Aligned<KeptRuns>>,
}

impl<'a> Carver<'a> {
    pub fn new(rule: CutRule, size: u64, base: Option<ImageRuns<'a>>, kept: Option<KeptRuns>) -> Self {
        Carver {
            cutter: Cutter::new(rule),
            cuts: Vec::new(),
            carried: Vec::new(),
            gaps: Vec::new(),
            size,
            has_failed: false,
            base: base.map(Aligned::new),
            kept: kept.map(Aligned::new),
        }
    }

    /// Fills in the slot's pieces.
    pub fn take(&mut self, slot: &mut WindowSlot) {
        self.has_failed |= matches!(slot.content, WindowContent::Failed(_));
        if self.has_failed {
            return;
        }
        slot.put_before(&self.carried);
        slot.gaps.splice(0..0, self.gaps.drain(..));
        match slot.content {
            WindowContent::Failed(_) => {}
            WindowContent::Unallocated => {
                self.cutter.finish(&mut self.cuts);
                self.pass(slot, slot.offset..slot.end(), PieceContent::Unallocated);
            }
            WindowContent::Hole => {
                // A run may reach into the hole, though never through it.
                slot.room().fill(0);
                self.cutter.hole(slot.end(), &mut self.cuts);
            }
            WindowContent::Raw => self.raw(slot),
        }
        if slot.end() == self.size {
            self.cutter.finish(&mut self.cuts);
        }
        self.add_pieces(slot);
        let rest = self.cutter.needed()..slot.end();
        self.carried.clear();
        if rest.start < rest.end {
            self.carried.extend_from_slice(slot.bytes(&rest).0);
            self.gaps.extend(slot.gaps.iter().filter(|gap| gap.end > rest.start).cloned());
        }
    }

    fn raw(&mut self, slot: &mut WindowSlot) {
        let mut at = slot.offset;
        for bad in std::mem::take(&mut slot.bad) {
            self.blocks(slot, at..bad.start);
            self.cutter.finish(&mut self.cuts);
            at = bad.end;
            self.pass(slot, bad, PieceContent::Unreadable);
        }
        self.blocks(slot, at..slot.end());
    }

    /// The blocks of a part of the window that was read; bad ranges may have left parts of blocks.
    fn blocks(&mut self, slot: &WindowSlot, part: Range<u64>) {
        let mut at = part.start;
        while at < part.end {
            let nth = (at / BLOCK - slot.offset / BLOCK) as usize;
            let end = ((at / BLOCK + 1) * BLOCK).min(part.end);
            let mark = match slot.marks.get(nth) {
                Some(BlockMark::End) if end - at < BLOCK => BlockMark::Plain,
                mark => mark.copied().unwrap_or(BlockMark::Plain),
            };
            self.cutter.block(end, mark, &mut self.cuts);
            at = end;
        }
    }

    /// A piece that is neither data nor zeros, behind a run that was finished.
    fn pass(&mut self, slot: &mut WindowSlot, range: Range<u64>, content: PieceContent) {
        self.add_pieces(slot);
        self.cutter.skip(range.end);
        slot.pieces.push(DiskPiece { range, content, kept: None, old: None });
    }

    fn add_pieces(&mut self, slot: &mut WindowSlot) {
        for cut in self.cuts.drain(..) {
            let piece = match cut {
                Cut::Zero(range) => DiskPiece { range, content: PieceContent::Zero, kept: None, old: None },
                Cut::Data(range) => {
                    // Neither ends the backup: what the one cannot tell, the disk can.
                    let kept = self.kept.as_mut().and_then(|kept| kept.find(&range).unwrap_or(None));
                    let old = self.base.as_mut().and_then(|base| match base.find(&range) {
                        Ok(found) => found,
                        Err(error) => {
                            slot.bad_base.push(error);
                            None
                        }
                    });
                    DiskPiece { range, content: PieceContent::Raw, kept, old }
                }
            };
            slot.pieces.push(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::error::ImageError;

    fn window(number: u64, content: WindowContent) -> WindowSlot {
        let mut slot = WindowSlot::new(64 << 10, 64 << 10);
        slot.reset(number, number * (64 << 10));
        (slot.length, slot.content) = (64 << 10, content);
        slot.marks = vec![BlockMark::Plain; 16];
        slot
    }

    /// Windows behind a failed one come all the same: what reaches over it must not be cut.
    #[test]
    fn nothing_is_cut_behind_a_window_that_failed() {
        let mut carver = Carver::new(CutRule::new(64 << 10), 64 << 20, None, None);
        let contents = [
            WindowContent::Raw,
            WindowContent::Failed(ImageError::cancelled()),
            WindowContent::Raw,
            WindowContent::Hole,
            WindowContent::Unallocated,
        ];
        let pieces = contents.into_iter().enumerate().map(|(number, content)| {
            let mut slot = window(number as u64, content);
            carver.take(&mut slot);
            slot.pieces.len()
        });
        assert_eq!(pieces.collect::<Vec<_>>(), [1, 0, 0, 0, 0]);
    }
}
