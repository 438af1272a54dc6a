//! Whole disks as the imaging engine sees them: a real device or file ([`real`]), or memory with faults ([`mem`]).
//!
//! Everything above this module is written against [`BlockDevice`], so that each test can fail any operation.

mod aligned;
mod backing;
mod direct;
#[cfg(any(test, feature = "testing"))]
pub mod mem;
pub mod passthrough;
pub mod real;
pub mod sink;
mod view;
pub mod watched;

pub use aligned::{ALIGN, AlignedBuf};
pub use backing::{FileId, backing_of, user_of};
pub use direct::DirectFile;
pub use real::{OpenError, RealDisk, device_number};
pub use view::View;

use std::io;
use std::ops::Range;

/// True for the errors by which Linux reports a medium that does not give its data; which one depends on the
/// driver (`block/blk-core.c`, `blk_errors`).
pub fn is_medium_error(error: &io::Error) -> bool {
    use libc::{EILSEQ, EIO, ENODATA, ENOLINK, EREMOTEIO, ETIMEDOUT};
    error.raw_os_error().is_some_and(|e| [EIO, ENODATA, EILSEQ, ETIMEDOUT, ENOLINK, EREMOTEIO].contains(&e))
}

/// A disk: fixed size, transfers in whole logical blocks at any queue depth (every method takes `&self`).
///
/// Offsets and lengths are bytes and multiples of the logical block size. Transfers are whole or an error: a
/// device that stops short inside the disk is `UnexpectedEof` or `WriteZero`. The errors are the kernel's own;
/// who calls adds disk, operation and position.
pub trait BlockDevice: Send + Sync {
    /// What people call it: `sda`, or the path of a file. For messages.
    fn name(&self) -> &str;

    /// Size in bytes, when it was opened.
    fn size(&self) -> u64;
    /// Size in bytes as the kernel says now; 0 or an error where the disk was taken away.
    ///
    /// # Errors
    /// Those of the kernel; the disk may be gone.
    fn size_now(&self) -> io::Result<u64> {
        Ok(self.size())
    }

    /// Smallest transfer in bytes (BLKSSZGET); 512 for a regular file.
    fn logical_block_size(&self) -> u32;

    /// Smallest unit that the medium writes without reading first, in bytes (BLKPBSZGET).
    fn physical_block_size(&self) -> u32;

    /// True where the disk is a regular file, which takes an image of any logical block size.
    fn is_regular_file(&self) -> bool {
        false
    }

    /// True where the kernel takes the disk for one with a head to move (BLKROTATIONAL): working at two places at a
    /// time costs more than it saves. Disks of virtual machines mostly say so too.
    fn is_rotational(&self) -> bool {
        false
    }

    /// True where nobody else has anything of the disk in use, and nobody can mount it while it is open. Who else
    /// writes to a regular file cannot be told.
    fn is_exclusive(&self) -> bool {
        true
    }

    /// Fills `buf`. Fastest where `buf` is an [`AlignedBuf`] and `offset` a multiple of [`ALIGN`].
    ///
    /// # Errors
    /// Those of the kernel, EIO and ENODATA for a medium error ([`is_medium_error`]); a range behind the end is
    /// `InvalidInput`.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `buf`. Durable only after [`BlockDevice::flush`], and proven only by reading it back.
    ///
    /// # Errors
    /// Those of the kernel; a range behind the end is `InvalidInput`, and nothing is written then.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Makes `len` bytes read as zeros, durable after the next flush. Never a discard, which promises nothing.
    ///
    /// # Errors
    /// Those of the kernel; some of the range may be zero then.
    fn write_zeroes(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Tells the disk that nobody needs these bytes; they may read as anything afterwards.
    ///
    /// # Errors
    /// `Unsupported` where the disk cannot; those of the kernel.
    fn discard(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Everything written so far is on the medium. The first error is final: what it lost stays lost, and the
    /// flush after it reports success.
    ///
    /// # Errors
    /// What was written since the flush before may be lost.
    fn flush(&self) -> io::Result<()>;

    /// Forgets clean cached pages, so that the next read comes from the disk.
    ///
    /// # Errors
    /// Those of the kernel; reads may then be answered from memory.
    fn drop_cache(&self) -> io::Result<()>;

    /// Has the kernel read the partition table again (BLKRRPART); nothing to do for a file.
    ///
    /// # Errors
    /// EBUSY where a partition is in use; the kernel keeps the old table then.
    fn reread_partition_table(&self) -> io::Result<()>;

    /// The next range at or after `from` that may hold data; what lies before it is a hole and reads as zeros.
    /// `None`: only holes up to the end.
    ///
    /// # Errors
    /// Those of lseek(2).
    fn next_data(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        Ok((from < self.size()).then(|| from..self.size()))
    }
}
