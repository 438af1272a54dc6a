//! What a restore has written, so that it reads back that and nothing else.
#![forbid(unsafe_code)]

use super::error::ImageError;
use super::member::Kind;
use super::run::{NO_HASH, Run};
use blake3::Hash;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Parts of runs that are remembered with a hash of their own: 5 MiB of memory. Of what is beyond, the whole run is
/// read back.
const PARTS: usize = 48 << 10;
/// Cells of the map: 4 MiB of memory.
const CELLS: u64 = 32 << 20;

/// A map of the disk in cells of at least one chunk each, and a list of parts of runs. Memory is bounded.
pub struct Touched {
    cell: u64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    cells: Vec<u64>,
    marked: u64,
    parts: Vec<Run>,
    bytes: u64,
}

impl Touched {
    /// For so many bytes of disk in runs of at most `chunk` bytes of data.
    pub fn new(disk: u64, chunk: u32) -> Self {
        let cell = disk.div_ceil(CELLS).max(chunk.into()).next_power_of_two();
        let words = usize::try_from(disk.div_ceil(cell).div_ceil(64)).unwrap_or_default();
        Touched { cell, inner: Mutex::new(Inner { cells: vec![0; words], ..Inner::default() }) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of a run that may be written was written.
    pub fn whole(&self, range: Range<u64>) {
        let mut inner = self.inner();
        inner.bytes += range.end - range.start;
        inner.mark(self.cell, &range);
    }

    /// This part of a run was written: data with this hash, or zeros.
    pub fn part(&self, kind: Kind, range: Range<u64>, hash: Hash) {
        let mut inner = self.inner();
        inner.bytes += range.end - range.start;
        if inner.parts.len() == PARTS {
            return inner.mark(self.cell, &range);
        }
        inner.parts.push(Run {
            kind,
            offset: range.start,
            length: range.end - range.start,
            position: 0,
            member_length: 0,
            hash,
            member_hash: NO_HASH,
        });
    }

    /// Bytes that were written.
    pub fn bytes(&self) -> u64 {
        self.inner().bytes
    }

    /// True where there are runs to read back wholly.
    pub fn has_whole_runs(&self) -> bool {
        self.inner().marked > 0
    }

    /// True where the run was written, or stands in a cell with one that was.
    pub fn is_marked(&self, run: &Run) -> bool {
        let inner = self.inner();
        cells(self.cell, &run.range())
            .any(|cell| inner.word(cell).is_some_and(|word| word >> (cell % 64) & 1 == 1))
    }

    /// The parts, as runs without members; this forgets them.
    pub fn take_parts(&self) -> impl Iterator<Item = Result<Run, ImageError>> + Send + use<> {
        std::mem::take(&mut self.inner().parts).into_iter().map(Ok)
    }
}

fn cells(cell: u64, range: &Range<u64>) -> Range<u64> {
    range.start / cell..range.end.div_ceil(cell)
}

impl Inner {
    fn word(&self, cell: u64) -> Option<u64> {
        self.cells.get(usize::try_from(cell / 64).ok()?).copied()
    }

    fn mark(&mut self, size: u64, range: &Range<u64>) {
        for cell in cells(size, range) {
            if let Some(word) = usize::try_from(cell / 64).ok().and_then(|at| self.cells.get_mut(at)) {
                *word |= 1 << (cell % 64);
                self.marked += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(offset: u64, length: u64) -> Run {
        Run {
            kind: Kind::Data,
            offset,
            length,
            position: 0,
            member_length: 0,
            hash: NO_HASH,
            member_hash: NO_HASH,
        }
    }

    #[test]
    fn what_was_written_is_found_again_and_memory_is_bounded() {
        for disk in [10 << 20, 1 << 40, 16 << 40] {
            let touched = Touched::new(disk, 1 << 20);
            assert!(touched.inner().cells.len() as u64 * 64 <= CELLS + 64);
            assert!(!touched.has_whole_runs());
            touched.whole(3 << 20..4 << 20);
            touched.whole(disk - 512..disk);
            assert!(
                touched.is_marked(&run(3 << 20, 1 << 20))
                    && touched.is_marked(&run(disk - (1 << 20), 1 << 20))
            );
            assert!(!touched.is_marked(&run(5 << 20, 1 << 20)));
            assert!(touched.is_marked(&run(0, 8 << 20)));
            for i in 0..PARTS as u64 {
                touched.part(Kind::Zero, i * 4096..i * 4096 + 512, NO_HASH);
            }
            assert!(!touched.is_marked(&run(6 << 20, 1 << 20)));
            touched.part(Kind::Data, 6 << 20..(6 << 20) + 4096, NO_HASH);
            assert!(touched.is_marked(&run(6 << 20, 1 << 20)), "no room in the list: the map has it");
            assert_eq!(touched.bytes(), (1 << 20) + 512 + PARTS as u64 * 512 + 4096);
            assert_eq!(touched.take_parts().count(), PARTS);
        }
    }
}
