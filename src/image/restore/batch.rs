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

/// What was written lately and must be read back. Memory is bounded: see [`Batch::is_full`].
pub struct Batch {
    limit: u64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    pieces: Vec<(Range<u64>, Wanted)>,
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

    /// Notes what was written.
    pub fn wrote(&self, range: Range<u64>, wanted: Wanted) {
        let mut inner = self.inner();
        inner.bytes += range.end - range.start;
        inner.pieces.push((range, wanted));
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
        for_each(pieces.into_iter().map(Ok), threads, progress, buffer, |buf, (range, wanted)| {
            let len = range.end - range.start;
            match wanted {
                Wanted::Zeros => {
                    expect_zeros(disk, buf, range, ImageOp::ReadBack)?;
                    progress.zero.fetch_add(len, Relaxed);
                }
                Wanted::Data(hash) => {
                    let bytes = &mut buf[..len as usize];
                    read(disk, bytes, range.start)?;
                    if blake3::hash(bytes) != hash {
                        return Err(ImageError::differs(disk, &range, ImageOp::ReadBack));
                    }
                }
            }
            progress.add_done(len);
            Ok(())
        })
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
        batch.wrote(0..BATCH - 1, Wanted::Zeros);
        assert!(!batch.is_full());
        batch.wrote(BATCH - 1..BATCH, Wanted::Zeros);
        assert!(batch.is_full());
        assert_eq!(batch.bytes(), BATCH);
        let batch = Batch::new(&disk, None);
        (1..PIECES as u64).for_each(|at| batch.wrote(at * 8192..at * 8192 + 512, Wanted::Data(NO_HASH)));
        assert!(!batch.is_full());
        batch.wrote(0..512, Wanted::Data(NO_HASH));
        assert!(batch.is_full());
    }
}
