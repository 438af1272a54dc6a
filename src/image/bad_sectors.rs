//! Reading around media errors.
#![forbid(unsafe_code)]

use crate::block::{AlignedBuf, BlockDevice, is_medium_error};
use crate::image::error::{ImageError, ImageOp, check_size};
use std::io;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// More attempts for failing blocks of one chunk, beyond the first of each. A disk takes up to half a second for a
/// failing read.
const RETRIES: u32 = 16;
/// Into how many pieces a range that fails is split. Each level costs one failing read for each bad place, and good
/// ones cost next to nothing: two would find a sector of a chunk in twelve failing reads, this finds it in four.
const SPLIT: usize = 16;

/// How much trouble one disk may make before its bad places are no longer looked at closely.
///
/// A disk with thousands of bad sectors must come to an end, and each failing read may be the one that kills it. Once
/// either is used up, a chunk that fails is unreadable as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Reads that failed. Four or five find one bad sector.
    pub reads: u32,
    /// Time that was spent in them.
    pub time: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { reads: 20_000, time: Duration::from_secs(3600) }
    }
}

/// What is left of the patience with one disk, for all its readers. Who has it works on a bad place, alone: the other
/// readers work on good areas meanwhile, as far ahead as the pipeline lets them.
pub struct Trouble {
    left: Mutex<Patience>,
}

impl Trouble {
    /// No read has failed yet.
    pub fn new(patience: Patience) -> Self {
        Trouble { left: Mutex::new(patience) }
    }
}

impl Patience {
    fn is_used_up(&self) -> bool {
        self.reads == 0 || self.time.is_zero()
    }

    fn spend(&mut self, time: Duration) {
        self.reads = self.reads.saturating_sub(1);
        self.time = self.time.saturating_sub(time);
    }
}

/// Reads a chunk. Where the medium fails, it is split down to the logical blocks that fail.
///
/// Without `trouble` the first of them is the error. With it they are filled with zeros and returned (in order,
/// merged): of each range all good pieces are read first, then the bad ones are split, and last of all each bad block
/// is tried once more.
pub fn read_chunk(
    disk: &dyn BlockDevice,
    buf: &mut [u8],
    offset: u64,
    trouble: Option<&Trouble>,
) -> Result<Vec<Range<u64>>, ImageError> {
    let whole = offset..offset + buf.len() as u64;
    let begun = Instant::now();
    let error = match disk.read_at(buf, offset) {
        Ok(()) => return Ok(Vec::new()),
        Err(e) if is_medium_error(&e) => e,
        Err(e) => return Err(ImageError::transfer(disk, ImageOp::Read, offset, buf.len() as u64, e)),
    };
    let took = begun.elapsed();
    // A disk that was taken away gives the same errors as one that is bad.
    check_size(disk)?;
    let mut unlimited = Patience { reads: u32::MAX, time: Duration::MAX };
    let mut guard = trouble.map(|trouble| trouble.left.lock().unwrap_or_else(PoisonError::into_inner));
    let patience = guard.as_deref_mut().unwrap_or(&mut unlimited);
    patience.spend(took);
    let mut split = Split {
        disk,
        allow: trouble.is_some(),
        patience,
        // Part reads go through a buffer of their own: O_DIRECT wants its start aligned.
        scratch: AlignedBuf::new(buf.len()),
        retries: RETRIES,
        start: offset,
        bad: Vec::new(),
    };
    split.failed(buf, whole, error)?;
    split.bad.sort_by_key(|bad| bad.start);
    split.try_again(buf)?;
    let mut merged: Vec<Range<u64>> = Vec::new();
    for bad in split.bad {
        buf[(bad.start - offset) as usize..(bad.end - offset) as usize].fill(0);
        match merged.last_mut().filter(|last| last.end == bad.start) {
            Some(last) => last.end = bad.end,
            None => merged.push(bad),
        }
    }
    Ok(merged)
}

struct Split<'a> {
    disk: &'a dyn BlockDevice,
    allow: bool,
    patience: &'a mut Patience,
    scratch: AlignedBuf,
    retries: u32,
    /// Where the chunk begins on the disk.
    start: u64,
    bad: Vec<Range<u64>>,
}

impl Split<'_> {
    /// Reads a piece of the chunk; the error, where it is one of the medium.
    fn read(&mut self, buf: &mut [u8], piece: &Range<u64>) -> Result<Option<io::Error>, ImageError> {
        let len = (piece.end - piece.start) as usize;
        let begun = Instant::now();
        match self.disk.read_at(&mut self.scratch[..len], piece.start) {
            Ok(()) => {
                let at = (piece.start - self.start) as usize;
                buf[at..at + len].copy_from_slice(&self.scratch[..len]);
                Ok(None)
            }
            Err(e) if is_medium_error(&e) => {
                self.patience.spend(begun.elapsed());
                Ok(Some(e))
            }
            Err(e) => Err(ImageError::transfer(self.disk, ImageOp::Read, piece.start, len as u64, e)),
        }
    }

    /// Deals with a range that failed. The depth is that of splitting a chunk, four levels.
    fn failed(&mut self, buf: &mut [u8], range: Range<u64>, error: io::Error) -> Result<(), ImageError> {
        let block = u64::from(self.disk.logical_block_size().max(1));
        let len = range.end - range.start;
        if len <= block || (self.allow && self.patience.is_used_up()) {
            return self.give_up(buf, range, error);
        }
        let step = (len / SPLIT as u64).next_multiple_of(block).max(block);
        let mut later = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let piece = at..range.end.min(at + step);
            at = piece.end;
            match self.read(buf, &piece)? {
                None => {}
                Some(e) if self.allow => later.push((piece, e)),
                // Only the first bad block is wanted.
                Some(e) => self.failed(buf, piece, e)?,
            }
        }
        later.into_iter().try_for_each(|(piece, e)| self.failed(buf, piece, e))
    }

    /// A range that is not split any more: with `allow` it is bad, else it is tried again and is the error.
    fn give_up(&mut self, buf: &mut [u8], range: Range<u64>, mut error: io::Error) -> Result<(), ImageError> {
        if self.allow {
            self.bad.push(range);
            return Ok(());
        }
        while self.retries > 0 {
            self.retries -= 1;
            match self.read(buf, &range)? {
                None => return Ok(()),
                Some(e) => error = e,
            }
        }
        Err(ImageError::transfer(self.disk, ImageOp::Read, range.start, range.end - range.start, error))
    }

    /// Once more over what is bad, now that everything else of the chunk is safe.
    fn try_again(&mut self, buf: &mut [u8]) -> Result<(), ImageError> {
        let mut still_bad = Vec::new();
        for range in std::mem::take(&mut self.bad) {
            let tries = self.retries > 0 && !self.patience.is_used_up();
            self.retries -= u32::from(tries);
            if !tries || self.read(buf, &range)?.is_some() {
                still_bad.push(range);
            }
        }
        self.bad = still_bad;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::mem::{DiskFault, DiskOp, MemDisk};
    use crate::text::with_sources;

    fn disk(block: u32) -> MemDisk {
        MemDisk::new("sdx", (0..64 * 1024u32).map(|i| (i / 512) as u8 + 1).collect(), block)
    }

    #[test]
    fn exactly_the_failing_blocks_are_found_for_every_errno() {
        for errno in [libc::EIO, libc::ENODATA, libc::EILSEQ, libc::ETIMEDOUT, libc::ENOLINK, libc::EREMOTEIO]
        {
            let disk = disk(512);
            disk.inject(DiskOp::Read, 1000..1001, DiskFault::Errno(errno), u64::MAX);
            disk.inject(DiskOp::Read, 40 * 512..42 * 512, DiskFault::Errno(errno), u64::MAX);
            let mut buf = vec![9; 32 * 1024];
            let trouble = Trouble::new(Patience::default());
            let bad = read_chunk(&disk, &mut buf, 0, Some(&trouble)).unwrap();
            assert_eq!(bad, [512..1024, 40 * 512..42 * 512]);
            let mut wanted = disk.content()[..buf.len()].to_vec();
            wanted[512..1024].fill(0);
            wanted[40 * 512..42 * 512].fill(0);
            assert!(buf == wanted);
            let error = read_chunk(&disk, &mut buf, 0, None).unwrap_err().to_string();
            assert!(error.contains("sdx") && error.contains("LBA 1)"), "{error}");
        }
    }

    #[test]
    fn large_blocks_are_not_split() {
        let disk = disk(4096);
        disk.inject(DiskOp::Read, 5000..5001, DiskFault::Errno(libc::EIO), u64::MAX);
        let bad =
            read_chunk(&disk, &mut vec![0; 12 * 1024], 0, Some(&Trouble::new(Patience::default()))).unwrap();
        assert_eq!(bad, std::slice::from_ref(&(4096..8192)));
    }

    #[test]
    fn passing_errors_are_retried_and_others_are_final() {
        let first = disk(512);
        first.inject(DiskOp::Read, 0..512, DiskFault::Errno(libc::EIO), 12);
        assert_eq!(read_chunk(&first, &mut vec![0; 4096], 0, None).unwrap(), []);
        let gone = disk(512);
        gone.inject(DiskOp::Read, 0..512, DiskFault::Errno(libc::ENXIO), u64::MAX);
        assert!(read_chunk(&gone, &mut vec![0; 4096], 0, Some(&Trouble::new(Patience::default()))).is_err());
        assert_eq!(gone.count(DiskOp::Read), 1);
    }

    #[test]
    fn good_pieces_are_read_before_bad_ones_are_looked_at_again() {
        let disk = disk(512);
        disk.inject(DiskOp::Read, 3 * 512..3 * 512 + 1, DiskFault::Errno(libc::EIO), u64::MAX);
        let trouble = Trouble::new(Patience::default());
        let bad = read_chunk(&disk, &mut vec![0; 64 * 1024], 0, Some(&trouble)).unwrap();
        assert_eq!(bad, std::slice::from_ref(&(1536..2048)));
        let reads: Vec<(u64, u64)> = disk.log().iter().map(|(_, offset, len)| (*offset, *len)).collect();
        assert_eq!(reads[0], (0, 64 * 1024));
        assert!(
            reads[1..17].iter().enumerate().all(|(n, read)| *read == (n as u64 * 4096, 4096)),
            "{reads:?}"
        );
        assert_eq!(
            reads[17..],
            [0, 1, 2, 3, 4, 5, 6, 7, 3].map(|n| (n * 512, 512)),
            "retried once, at the end"
        );
    }

    #[test]
    fn patience_ends_by_number_and_by_time() {
        let bad_everywhere = || {
            let disk = disk(512);
            disk.inject(DiskOp::Read, 0..64 * 1024, DiskFault::Errno(libc::EIO), u64::MAX);
            disk
        };
        let disk = bad_everywhere();
        let trouble = Trouble::new(Patience { reads: 20, ..Patience::default() });
        for chunk in 0..4u64 {
            let at = chunk * 16384;
            let bad = read_chunk(&disk, &mut vec![1; 16384], at, Some(&trouble)).unwrap();
            assert_eq!(bad, std::slice::from_ref(&(at..at + 16384)));
        }
        // The first chunk: itself, 16 pieces, and two blocks of the first of these; then its level is finished.
        assert!(disk.count(DiskOp::Read) <= 20 + 16 + 3, "{}", disk.count(DiskOp::Read));
        let (disk, trouble) = (bad_everywhere(), Trouble::new(Patience { reads: 9, time: Duration::ZERO }));
        read_chunk(&disk, &mut vec![1; 16384], 0, Some(&trouble)).unwrap();
        assert_eq!(disk.count(DiskOp::Read), 1);
        let mut patience = Patience { reads: 9, time: Duration::from_secs(5) };
        patience.spend(Duration::from_secs(7));
        assert!(patience.is_used_up());
    }

    #[test]
    fn a_disk_gone_or_resized_is_not_taken_for_a_bad_one() {
        for (now, part) in [(0, "gone"), (4096, "4096")] {
            let disk = disk(512);
            disk.inject(DiskOp::Read, 0..512, DiskFault::Errno(libc::EIO), u64::MAX);
            disk.set_size_now(now);
            let trouble = Trouble::new(Patience::default());
            let error = read_chunk(&disk, &mut vec![0; 4096], 0, Some(&trouble)).unwrap_err().to_string();
            assert!(error.contains("sdx") && error.contains(part), "{error}");
        }
        let disk = disk(512);
        disk.inject(DiskOp::Read, 1024..1025, DiskFault::Short, u64::MAX);
        let error = with_sources(&read_chunk(&disk, &mut vec![0; 512], 1024, None).unwrap_err());
        assert!(error.contains("LBA 2") && error.contains("stopped short"), "{error}");
    }
}
