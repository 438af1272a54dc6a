//! Keeping the page cache small and honest while large files are written and verified.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::AsRawFd;

/// Starts writing `length` bytes at byte `offset` out to the file system, without waiting.
///
/// # Errors
/// Those of sync_file_range(2).
pub fn start_flush(file: &File, offset: u64, length: u64) -> io::Result<()> {
    sync_file_range(file, offset, length, libc::SYNC_FILE_RANGE_WRITE)
}

/// Writes `length` bytes at byte `offset` out to the file system and waits for that. It is **no** fsync: neither
/// metadata nor the disk's (or an NFS server's) own cache are flushed.
///
/// An error consumes the file's pending write-back error, exactly as fsync does: a later fsync may return 0, so the
/// error is final for the file.
///
/// # Errors
/// Those of sync_file_range(2).
pub fn flush_range(file: &File, offset: u64, length: u64) -> io::Result<()> {
    let wait =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    sync_file_range(file, offset, length, wait)
}

fn sync_file_range(file: &File, offset: u64, length: u64, flags: libc::c_uint) -> io::Result<()> {
    let convert = |n: u64| i64::try_from(n).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let (offset, length) = (convert(offset)?, convert(length)?);
    // SAFETY: plain integers and a descriptor that `file` keeps open during the call.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, flags) };
    match result {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            // Only advice: a file system or kernel without it still has fsync.
            e if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::ESPIPE | libc::EINVAL)) => Ok(()),
            e => Err(e),
        },
    }
}

/// Drops the clean cached pages of `length` bytes at byte `offset` (`None`: to the end), so that the next read asks
/// the file system again. Dirty pages stay: fsync first. Best effort; the kernel may keep pages that are in use.
///
/// # Errors
/// Those of posix_fadvise(2).
pub fn drop_cached(file: &File, offset: u64, length: Option<NonZeroU64>) -> io::Result<()> {
    Ok(rustix::fs::fadvise(file, offset, length, rustix::fs::Advice::DontNeed)?)
}
