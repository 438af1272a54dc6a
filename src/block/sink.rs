//! An image file that is written without filling the page cache with dirty pages.

use crate::io::SyncWrite;
use rustix::fs::Advice;
use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::os::fd::AsRawFd;

/// Bytes per step of write-back; at most two steps are dirty at a time.
const WINDOW: u64 = 16 << 20;

/// A file that starts write-back as it goes, so that the sync at the end has little left to do and memory is not
/// full of dirty pages meanwhile.
///
/// Errors of write-back show at the latest in [`SyncWrite::sync`], whose first error is final.
#[derive(Debug)]
pub struct FileSink {
    file: File,
    written: u64,
    /// Start of the window that is being filled.
    window: u64,
}

impl FileSink {
    /// Takes a file that is empty and stands at its start.
    pub fn new(file: File) -> Self {
        FileSink { file, written: 0, window: 0 }
    }

    /// Starts writing `from..from + len` back, or waits until that is done too.
    fn write_back(&self, from: u64, len: u64, wait: bool) -> io::Result<()> {
        let mut flags = libc::SYNC_FILE_RANGE_WRITE;
        if wait {
            flags |= libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        }
        // SAFETY: the descriptor is open, and the call touches no memory of ours.
        let rc = unsafe { libc::sync_file_range(self.file.as_raw_fd(), from as i64, len as i64, flags) };
        match rc {
            0 => Ok(()),
            _ => match io::Error::last_os_error() {
                // A file system (or pipe) that does not know the call: the sync at the end does it all.
                e if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL | libc::ESPIPE)) => Ok(()),
                e => Err(e),
            },
        }
    }
}

impl Write for FileSink {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.file.write(buf)?;
        self.written += n as u64;
        if self.written - self.window >= WINDOW {
            self.write_back(self.window, self.written - self.window, false)?;
            if let Some(before) = self.window.checked_sub(WINDOW) {
                self.write_back(before, WINDOW, true)?;
                let _ = rustix::fs::fadvise(&self.file, before, NonZeroU64::new(WINDOW), Advice::DontNeed);
            }
            self.window = self.written;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SyncWrite for FileSink {
    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        // Verifying must read from the share, not from here.
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_arrive_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let mut sink = FileSink::new(File::create(&path).unwrap());
        let block: Vec<u8> = (0..(5u32 << 20)).map(|i| (i / 4096) as u8).collect();
        for _ in 0..9 {
            sink.write_all(&block).unwrap();
        }
        sink.sync().unwrap();
        assert!(std::fs::read(&path).unwrap() == block.repeat(9));
    }
}
