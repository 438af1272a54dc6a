//! A restore goes in batches: what one batch has written is flushed and read back while the next one is written.
//!
//! Reading back waits for the disk, fetching and inflating keep the cores busy: together they take hardly longer than
//! the slower of the two. On a disk with a head, which would travel between both places all the time, one batch is
//! proven before the next one begins.
#![forbid(unsafe_code)]

use crate::block::{AlignedBuf, BlockDevice};
use crate::image::error::{ImageError, ImageOp};
use crate::image::parallel::for_each;
use crate::image::restore::boot_areas::BootAreas;
use crate::image::verify::{expect_zeros, read};
use crate::progress::Progress;
use blake3::Hash;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes that a batch writes: enough that the ends of a batch, where threads wait for each other and the disk for its
/// cache, do not count.
const BATCH: u64 = 256 << 20;
/// Pieces after which a batch ends: 4 MiB of memory. The runs that are being written come on top.
const PIECES: usize = 64 << 10;

/// What a piece of the disk must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Bytes with this BLAKE3; at most a group of runs, or a chunk.
    Data(Hash),
    /// Zeros, any number of them.
    Zeros,
}

/// Bytes of the disk that were written in one go, and what they must be.
pub type WrittenPiece = (Range<u64>, Wanted);

/// What was written lately and must be read back. Memory is bounded: see [`Batch::is_full`].
pub struct Batch {
    limit: u64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    pieces: Vec<WrittenPiece>,
    bytes: u64,
    /// Bytes of disk that are being handled, all of which may come to be written.
    begun: u64,
}

impl Batch {
    /// For this disk; `limit` bytes in place of the usual number.
    pub fn new(disk: &dyn BlockDevice, limit: Option<u64>) -> Self {
        let usual = if disk.is_rotational() { u64::MAX } else { BATCH };
        Batch { limit: limit.unwrap_or(usual), inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what was written: pieces in the order of the disk, which are read back together where they touch.
    pub fn wrote(&self, pieces: impl IntoIterator<Item = WrittenPiece>) {
        let mut inner = self.inner();
        let before = inner.pieces.len();
        inner.pieces.extend(pieces);
        inner.bytes += inner.pieces[before..].iter().map(|(range, _)| range.end - range.start).sum::<u64>();
    }

    /// So many bytes of disk are handled from now on.
    pub fn begin(&self, bytes: u64) {
        self.inner().begun += bytes;
    }

    /// They are: what of them was written was noted.
    pub fn end(&self, bytes: u64) {
        self.inner().begun -= bytes;
    }

    /// Bytes that were written.
    pub fn bytes(&self) -> u64 {
        self.inner().bytes
    }

    /// True where it is time to prove it.
    pub fn is_full(&self) -> bool {
        let inner = self.inner();
        inner.bytes.saturating_add(inner.begun) >= self.limit || inner.pieces.len() >= PIECES
    }

    /// Makes what was written durable, reads it back past the cache, and compares it.
    pub fn prove(
        self,
        disk: &dyn BlockDevice,
        areas: &BootAreas,
        longest: usize,
        threads: usize,
        progress: &Progress,
    ) -> Result<(), ImageError> {
        let Inner { pieces, .. } = self.inner.into_inner().unwrap_or_else(PoisonError::into_inner);
        if pieces.is_empty() {
            return Ok(());
        }
        areas.flush()?;
        drop_cache(disk)?;
        let buffer = || AlignedBuf::new(longest);
        let reads = Reads { pieces: &pieces, longest: longest as u64 };
        for_each(reads.map(Ok), threads, progress, buffer, |buf, pieces| {
            let [(first, wanted), ..] = pieces else { return Ok(()) };
            let range = first.start..pieces.last().map_or(first.end, |(last, _)| last.end);
            let len = range.end - range.start;
            if *wanted == Wanted::Zeros {
                expect_zeros(disk, buf, range, ImageOp::ReadBack)?;
                progress.zero.fetch_add(len, Relaxed);
            } else {
                read(disk, &mut buf[..len as usize], range.start)?;
                for (piece, wanted) in pieces {
                    let at = |byte: u64| (byte - range.start) as usize;
                    if *wanted != Wanted::Data(blake3::hash(&buf[at(piece.start)..at(piece.end)])) {
                        return Err(ImageError::differs(disk, piece, ImageOp::ReadBack));
                    }
                }
            }
            progress.add_done(len);
            Ok(())
        })
    }
}

/// What is read back in one go: zeros, or pieces of data that touch, with at most `longest` bytes.
struct Reads<'a> {
    pieces: &'a [WrittenPiece],
    longest: u64,
}

impl<'a> Iterator for Reads<'a> {
    type Item = &'a [WrittenPiece];

    fn next(&mut self) -> Option<Self::Item> {
        let (first, wanted) = self.pieces.first()?;
        let joins = |pair: &[WrittenPiece]| {
            let [(before, _), (next, wanted)] = pair else { return false };
            before.end == next.start && *wanted != Wanted::Zeros && next.end - first.start <= self.longest
        };
        let more = if *wanted == Wanted::Zeros {
            0
        } else {
            self.pieces.windows(2).take_while(|pair| joins(pair)).count()
        };
        let (read, rest) = self.pieces.split_at(1 + more);
        self.pieces = rest;
        Some(read)
    }
}

/// Has the next reads come from the disk.
pub fn drop_cache(disk: &dyn BlockDevice) -> Result<(), ImageError> {
    disk.drop_cache().map_err(|source| ImageError::disk_call(disk, ImageOp::DropCache, source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::mem::MemDisk;
    use crate::image::format::run::NO_HASH;

    #[test]
    fn a_batch_ends_after_its_bytes_or_its_pieces() {
        let disk = MemDisk::new("sda", vec![0; 512], 512);
        let batch = Batch::new(&disk, None);
        batch.wrote([(0..BATCH - 1, Wanted::Zeros)]);
        assert!(!batch.is_full());
        batch.wrote([(BATCH - 1..BATCH, Wanted::Zeros)]);
        assert!(batch.is_full());
        assert_eq!(batch.bytes(), BATCH);
        let batch = Batch::new(&disk, None);
        batch.wrote((1..PIECES as u64).map(|at| (at * 8192..at * 8192 + 512, Wanted::Data(NO_HASH))));
        assert!(!batch.is_full());
        batch.wrote([(0..512, Wanted::Data(NO_HASH))]);
        assert!(batch.is_full());
    }

    /// Pieces that are read together are told apart: the one that is not what was written is named.
    #[test]
    fn each_piece_that_is_read_back_is_compared() {
        let disk = MemDisk::new("sda", vec![7; 1 << 20], 512);
        let areas = BootAreas::new(&disk, 1 << 20);
        let good = Wanted::Data(blake3::hash(&[7; 4096]));
        for bad in [None, Some(0), Some(1), Some(2)] {
            let batch = Batch::new(&disk, None);
            let wanted = |nth| if bad == Some(nth) { Wanted::Data(NO_HASH) } else { good };
            batch.wrote((0..3).map(|nth| (nth * 4096..(nth + 1) * 4096, wanted(nth))));
            let proven = batch.prove(&disk, &areas, 1 << 20, 1, &Progress::new());
            let offset = proven.err().map(|error| error.offset);
            assert_eq!(offset, bad.map(|nth| Some(nth * 4096)));
        }
    }

    #[test]
    fn data_that_touches_is_read_back_together_up_to_a_bound() {
        let (data, zeros) = (Wanted::Data(NO_HASH), Wanted::Zeros);
        let pieces = [
            (0..4096, data),
            (4096..8192, data),
            (8192..8704, data),
            (8704..9216, zeros),
            (9216..9728, zeros),
            (9728..20_000, data),
            (20_480..24_576, data),
            (24_576..24_577, data),
        ];
        let reads: Vec<usize> = Reads { pieces: &pieces, longest: 8192 }.map(<[WrittenPiece]>::len).collect();
        assert_eq!(reads, [2, 1, 1, 1, 1, 2]);
    }
}
