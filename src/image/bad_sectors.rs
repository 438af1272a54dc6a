//! Reading around media errors.
#![forbid(unsafe_code)]

use super::error::ImageError;
use crate::block::{AlignedBuf, BlockDevice};
use std::io;
use std::ops::Range;

/// More attempts for failing blocks of one chunk, beyond the first of each. A disk takes up to half a second for a
/// failing read.
const RETRIES: u32 = 16;

/// True for the errors by which Linux reports a medium that does not give its data; which one depends on the
/// driver (`block/blk-core.c`, `blk_errors`).
pub fn is_medium_error(error: &io::Error) -> bool {
    use libc::{EILSEQ, EIO, ENODATA, ENOLINK, EREMOTEIO, ETIMEDOUT};
    error.raw_os_error().is_some_and(|e| [EIO, ENODATA, EILSEQ, ETIMEDOUT, ENOLINK, EREMOTEIO].contains(&e))
}

/// A failed transfer as an [`ImageError`].
pub fn disk_error(
    disk: &dyn BlockDevice,
    op: &'static str,
    offset: u64,
    len: u64,
    source: io::Error,
) -> ImageError {
    let lba = offset / u64::from(disk.logical_block_size().max(1));
    ImageError::Disk { disk: disk.name().to_owned(), op, offset, lba, len, source }
}

/// Reads a chunk. Where the medium fails, bisects down to the logical blocks that fail: with `allow` they are
/// filled with zeros and returned (in order, merged); else the first of them is the error.
pub fn read_chunk(
    disk: &dyn BlockDevice,
    buf: &mut [u8],
    offset: u64,
    allow: bool,
) -> Result<Vec<Range<u64>>, ImageError> {
    match disk.read_at(buf, offset) {
        Ok(()) => return Ok(Vec::new()),
        Err(e) if is_medium_error(&e) => {}
        Err(e) => return Err(disk_error(disk, "read", offset, buf.len() as u64, e)),
    }
    let mut bisect = Bisect {
        disk,
        allow,
        // Part reads go through a buffer of their own: O_DIRECT wants its start aligned.
        scratch: AlignedBuf::new(buf.len()),
        retries: RETRIES,
        bad: Vec::new(),
    };
    let half = bisect.half(buf.len());
    if half < buf.len() {
        let (low, high) = buf.split_at_mut(half);
        bisect.read(low, offset)?;
        bisect.read(high, offset + half as u64)?;
    } else {
        bisect.read(buf, offset)?;
    }
    Ok(bisect.bad)
}

struct Bisect<'a> {
    disk: &'a dyn BlockDevice,
    allow: bool,
    scratch: AlignedBuf,
    retries: u32,
    bad: Vec<Range<u64>>,
}

impl Bisect<'_> {
    /// Half of `len` in whole logical blocks; all of it where it is one block.
    fn half(&self, len: usize) -> usize {
        let block = self.disk.logical_block_size() as usize;
        (len / 2).next_multiple_of(block).min(len)
    }

    fn read(&mut self, buf: &mut [u8], offset: u64) -> Result<(), ImageError> {
        let len = buf.len();
        let half = self.half(len);
        loop {
            let error = match self.disk.read_at(&mut self.scratch[..len], offset) {
                Ok(()) => {
                    buf.copy_from_slice(&self.scratch[..len]);
                    return Ok(());
                }
                Err(e) => e,
            };
            let medium = is_medium_error(&error);
            if medium && half < len {
                let (low, high) = buf.split_at_mut(half);
                self.read(low, offset)?;
                return self.read(high, offset + half as u64);
            }
            if medium && self.retries > 0 {
                self.retries -= 1;
                continue;
            }
            if !medium || !self.allow {
                return Err(disk_error(self.disk, "read", offset, len as u64, error));
            }
            buf.fill(0);
            let end = offset + len as u64;
            match self.bad.last_mut().filter(|last| last.end == offset) {
                Some(last) => last.end = end,
                None => self.bad.push(offset..end),
            }
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::mem::{Fault, MemDisk, Op};

    fn disk(block: u32) -> MemDisk {
        MemDisk::new("sdx", (0..64 * 1024u32).map(|i| (i / 512) as u8 + 1).collect(), block)
    }

    #[test]
    fn exactly_the_failing_blocks_are_found_for_every_errno_of_the_class() {
        for errno in [libc::EIO, libc::ENODATA, libc::EILSEQ, libc::ETIMEDOUT, libc::ENOLINK, libc::EREMOTEIO]
        {
            let disk = disk(512);
            disk.inject(Op::Read, 1000..1001, Fault::Errno(errno), u64::MAX);
            disk.inject(Op::Read, 40 * 512..42 * 512, Fault::Errno(errno), u64::MAX);
            let mut buf = vec![9; 32 * 1024];
            let bad = read_chunk(&disk, &mut buf, 0, true).unwrap();
            assert_eq!(bad, [512..1024, 40 * 512..42 * 512]);
            let mut wanted = disk.content()[..buf.len()].to_vec();
            wanted[512..1024].fill(0);
            wanted[40 * 512..42 * 512].fill(0);
            assert!(buf == wanted);
            let error = read_chunk(&disk, &mut buf, 0, false).unwrap_err().to_string();
            assert!(error.contains("sdx") && error.contains("LBA 1)"), "{error}");
        }
    }

    #[test]
    fn large_blocks_are_not_split() {
        let disk = disk(4096);
        disk.inject(Op::Read, 5000..5001, Fault::Errno(libc::EIO), u64::MAX);
        let bad = read_chunk(&disk, &mut vec![0; 12 * 1024], 0, true).unwrap();
        assert_eq!(bad, std::slice::from_ref(&(4096..8192)));
    }

    #[test]
    fn passing_errors_are_retried_and_others_are_final() {
        let first = disk(512);
        first.inject(Op::Read, 0..512, Fault::Errno(libc::EIO), 12);
        assert_eq!(read_chunk(&first, &mut vec![0; 4096], 0, false).unwrap(), []);
        let gone = disk(512);
        gone.inject(Op::Read, 0..512, Fault::Errno(libc::ENXIO), u64::MAX);
        assert!(read_chunk(&gone, &mut vec![0; 4096], 0, true).is_err());
        assert_eq!(gone.count(Op::Read), 1);
    }
}
