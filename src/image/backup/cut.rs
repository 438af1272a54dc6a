//! Where data runs end: behind a block whose content says so, so that equal data is cut alike wherever it lies.
//!
//! A block is 4096 bytes at a multiple of 4096 of the disk. A run that has reached its least length ends behind the next block
//! whose hash has the lowest bits zero; at its greatest length it ends in any case. Zeros of some length are a run of their
//! own. What else ends a run (unallocated space, a bad sector, the end of the disk) comes from outside.
#![forbid(unsafe_code)]

use crate::image::format::member::UNIT;
use crate::io::is_zero;
use std::ops::Range;
use twox_hash::XxHash64;

/// Bytes of a block.
pub(super) const BLOCK: u64 = UNIT as u64;

/// Bounds of data runs in bytes, all from the longest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CutRule {
    /// Longest run.
    most: u64,
    /// Shortest run that a block's content ends.
    least: u64,
    /// Bits of a block's hash that are zero where a run may end behind it.
    mask: u64,
    /// Zeros that are a run of their own.
    zeros: u64,
}

impl CutRule {
    /// For runs of at most `chunk` bytes, a power of two from 4096: content ends one at a sixteenth of that at the earliest, and
    /// then for each quarter once on the average.
    pub fn new(chunk: u32) -> Self {
        let part = |nth: u64| (u64::from(chunk) / nth).max(BLOCK);
        CutRule { most: part(1), least: part(16), mask: part(4) / BLOCK - 1, zeros: part(4) }
    }

    /// What a block says; a part of one is never an end.
    pub fn mark(&self, block: &[u8]) -> BlockMark {
        if is_zero(block) {
            return BlockMark::Zero;
        }
        let may_end = block.len() == UNIT && XxHash64::oneshot(0, block) & self.mask == 0;
        if may_end { BlockMark::End } else { BlockMark::Plain }
    }
}

/// What the content of a block says about where runs end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockMark {
    /// Nothing.
    Plain,
    /// All of it is zero.
    Zero,
    /// A run may end behind it.
    End,
}

/// A run that was cut: bytes of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// What is to be compressed.
    Data(Range<u64>),
    /// Zeros.
    Zero(Range<u64>),
}

/// Cuts the disk front to back.
#[derive(Debug)]
pub(super) struct Cutter {
    rule: CutRule,
    /// First byte of the run that did not end yet.
    start: u64,
    /// Byte behind all blocks so far.
    at: u64,
    /// First byte of the zeros that they end with; `at` where there are none.
    zeros: u64,
}

impl Cutter {
    pub fn new(rule: CutRule) -> Self {
        Cutter { rule, start: 0, at: 0, zeros: 0 }
    }

    /// First byte of disk that will be needed for the run that did not end yet.
    pub fn needed(&self) -> u64 {
        if self.is_long() { self.at } else { self.start }
    }

    /// The zeros at the end are a run of their own: nothing else of the run is left.
    fn is_long(&self) -> bool {
        self.at - self.zeros >= self.rule.zeros
    }

    /// Takes the next block, which ends at byte `end`.
    pub fn block(&mut self, end: u64, mark: BlockMark, cuts: &mut Vec<Cut>) {
        if mark != BlockMark::Zero {
            if self.is_long() {
                self.finish(cuts);
            }
            self.zeros = end;
        }
        self.at = end;
        if self.is_long() {
            self.data(self.zeros, cuts);
            return;
        }
        // The run began anywhere in a block: another block might be too much.
        let length = end - self.start;
        if length + BLOCK > self.rule.most || mark == BlockMark::End && length >= self.rule.least {
            self.finish(cuts);
        }
    }

    /// Takes zeros up to byte `end`, as so many blocks of them.
    pub fn hole(&mut self, end: u64, cuts: &mut Vec<Cut>) {
        while self.at < end && !self.is_long() {
            self.block(((self.at / BLOCK + 1) * BLOCK).min(end), BlockMark::Zero, cuts);
        }
        self.at = self.at.max(end);
    }

    /// Ends the run here.
    pub fn finish(&mut self, cuts: &mut Vec<Cut>) {
        let zeros = if self.is_long() { self.zeros } else { self.at };
        self.data(zeros, cuts);
        if zeros < self.at {
            cuts.push(Cut::Zero(zeros..self.at));
        }
        (self.start, self.zeros) = (self.at, self.at);
    }

    /// Passes over what is neither data nor zeros; the run before it was finished.
    pub fn skip(&mut self, end: u64) {
        (self.start, self.at, self.zeros) = (end, end, end);
    }

    /// Ends the run's data at `end`.
    fn data(&mut self, end: u64, cuts: &mut Vec<Cut>) {
        if self.start < end {
            cuts.push(Cut::Data(self.start..end));
            self.start = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mark() -> impl Strategy<Value = BlockMark> {
        prop_oneof![6 => Just(BlockMark::Plain), 3 => Just(BlockMark::Zero), 1 => Just(BlockMark::End)]
    }

    /// Stretches of the same mark, so that zeros of some length come up.
    fn marks() -> impl Strategy<Value = Vec<BlockMark>> {
        let stretches = prop::collection::vec((mark(), 1usize..40), 1..40);
        stretches
            .prop_map(|list| list.into_iter().flat_map(|(mark, n)| std::iter::repeat_n(mark, n)).collect())
    }

    fn cut(rule: CutRule, start: u64, marks: &[BlockMark]) -> Vec<Cut> {
        let (mut cutter, mut cuts, mut at) = (Cutter::new(rule), Vec::new(), start);
        cutter.skip(start);
        for mark in marks {
            at = (at / BLOCK + 1) * BLOCK;
            cutter.block(at, *mark, &mut cuts);
            assert!(cutter.needed() <= at);
        }
        cutter.finish(&mut cuts);
        cuts
    }

    proptest! {
        #[test]
        fn cuts_cover_everything_and_keep_their_bounds(
            marks in marks(),
            chunk in prop::sample::select(vec![4096u32, 16 << 10, 64 << 10, 256 << 10]),
            start in (0u64..40).prop_map(|sectors| sectors * 512),
        ) {
            let rule = CutRule::new(chunk);
            let cuts = cut(rule, start, &marks);
            let end = (start / BLOCK + marks.len() as u64) * BLOCK;
            let mut at = start;
            for (nth, cut) in cuts.iter().enumerate() {
                let (Cut::Data(range) | Cut::Zero(range)) = cut;
                prop_assert_eq!(range.start, at);
                prop_assert!(range.end > range.start);
                at = range.end;
                let mark_at = |byte: u64| marks[(byte / BLOCK - start / BLOCK) as usize];
                let length = range.end - range.start;
                let zeros = (range.start / BLOCK..range.end.div_ceil(BLOCK)).all(|nth| mark_at(nth * BLOCK) == BlockMark::Zero);
                if let Cut::Zero(_) = cut {
                    prop_assert!(zeros && length >= rule.zeros);
                    continue;
                }
                prop_assert!(length <= u64::from(chunk));
                prop_assert!(!zeros || length < rule.zeros, "zeros of that length are not data");
                let is_ended = mark_at(range.end - 1) == BlockMark::End && length >= rule.least;
                let is_longest = length + BLOCK > rule.most;
                let is_followed = matches!(cuts.get(nth + 1), None | Some(Cut::Zero(_)));
                prop_assert!(is_ended || is_longest || is_followed);
                // It would have ended before, if it could have.
                let inside = range.start + rule.least..range.end.saturating_sub(BLOCK) + 1;
                let ends = inside.filter(|byte| byte % BLOCK == 0 && mark_at(byte - 1) == BlockMark::End);
                prop_assert_eq!(ends.count(), 0);
            }
            prop_assert_eq!(at, end);
        }

        #[test]
        fn a_hole_is_cut_as_the_zeros_that_it_is(
            (before, after) in (marks(), marks()),
            hole in 0usize..100,
            chunk in prop::sample::select(vec![4096u32, 64 << 10]),
        ) {
            let rule = CutRule::new(chunk);
            let all = [&before[..], &vec![BlockMark::Zero; hole], &after].concat();
            let (mut cutter, mut cuts) = (Cutter::new(rule), Vec::new());
            let mut at = 0;
            for mark in &before {
                at += BLOCK;
                cutter.block(at, *mark, &mut cuts);
            }
            at += hole as u64 * BLOCK;
            cutter.hole(at, &mut cuts);
            for mark in &after {
                at += BLOCK;
                cutter.block(at, *mark, &mut cuts);
            }
            cutter.finish(&mut cuts);
            prop_assert_eq!(cuts, cut(rule, 0, &all));
        }
    }
}
