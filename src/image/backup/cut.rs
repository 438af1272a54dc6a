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
    /// For runs of at most `chunk` bytes, a power of two from 4096: a quarter of that on the average, a sixteenth at least.
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
