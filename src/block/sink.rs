//! An image file that is written without filling the page cache.

use crate::io::{ReadAt, SyncWrite};
use crate::sys::{drop_cached, flush_range, start_flush};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::ops::Range;

/// Bytes after which a written window is pushed out: at most two windows are dirty at a time, so that an image does not
/// fill the memory of a machine that has no swap.
const WINDOW: u64 = 16 << 20;

/// A file that is written once, front to back.
///
/// Data is pushed out in windows while it is written, and dropped from the cache, so that neither the memory fills
/// nor the fsync at the end has everything still to do. The first error of any call is final: write-back errors are
/// reported once only, by whichever call comes first, and a later fsync returns 0.
#[derive(Debug)]
pub struct FileSink {
    file: File,
    written: u64,
    /// Bytes whose write-back was started.
    started: u64,
    /// Bytes whose write-back is complete.
    flushed: u64,
    failed: Option<i32>,
}

impl FileSink {
    /// Takes a file that is empty and stands at its start, or is [gone on with](SyncWrite::go_on_at).
    pub fn new(file: File) -> Self {
        FileSink { file, written: 0, started: 0, flushed: 0, failed: None }
    }

    fn check(&self) -> io::Result<()> {
        self.failed.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }

    /// Notes an error so that every later call fails too.
    fn seal<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        if let Err(e) = &result
            && e.kind() != io::ErrorKind::Interrupted
        {
            self.failed = Some(e.raw_os_error().unwrap_or(libc::EIO));
        }
        result
    }

    /// Waits for the window before the last one and starts the last one.
    fn push_windows(&mut self) -> io::Result<()> {
        if self.written - self.started < WINDOW {
            return Ok(());
        }
        start_flush(&self.file, self.started, self.written - self.started)?;
        if let Some(length) = NonZeroU64::new(self.started - self.flushed) {
            flush_range(&self.file, self.flushed, length.get())?;
            drop_cached(&self.file, self.flushed, Some(length))?;
        }
        self.flushed = self.started;
        self.started = self.written;
        Ok(())
    }
}

impl Write for FileSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        let result = self.file.write(bytes);
        let n = self.seal(result)?;
        self.written = self.written.saturating_add(n as u64);
        let pushed = self.push_windows();
        // The bytes are taken; a failed push fails the next call, which is what every caller makes: a sync at the end.
        let _ = self.seal(pushed);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.check()
    }
}

impl SyncWrite for FileSink {
    fn sync(&mut self) -> io::Result<()> {
        self.check()?;
        let result = self.file.sync_all();
        self.seal(result)?;
        // Advice only: the data is safe already, and an open for verification drops the pages once more.
        let _ = drop_cached(&self.file, 0, None);
        Ok(())
    }

    fn go_on_at(&mut self, len: u64) -> io::Result<()> {
        self.check()?;
        let result = self.file.go_on_at(len);
        self.seal(result)?;
        (self.written, self.started, self.flushed) = (len, len, len);
        Ok(())
    }

    fn append_from(&mut self, from: &dyn ReadAt, range: Range<u64>) -> io::Result<u64> {
        self.check()?;
        let Some(source) = from.as_any().and_then(|from| from.downcast_ref::<File>()) else { return Ok(0) };
        let mut at = range.start;
        // The kernel copies by itself, through the page cache, where neither file system nor server can (Linux 5.3).
        while at < range.end {
            let mut next = at;
            let step = usize::try_from((range.end - at).min(WINDOW)).unwrap_or(usize::MAX);
            match rustix::fs::copy_file_range(source, Some(&mut next), &self.file, None, step) {
                Err(Errno::INTR) => continue,
                // Whatever it is, writing shows it if it is more than a call that is not to be had.
                Err(_) | Ok(0) => break,
                Ok(n) => {
                    let copied = NonZeroU64::new(n as u64);
                    self.written = self.written.saturating_add(n as u64);
                    // Advice only.
                    let _ = drop_cached(source, at, copied);
                    let pushed = self.push_windows();
                    self.seal(pushed)?;
                    at = at.saturating_add(n as u64);
                }
            }
        }
        Ok(at.saturating_sub(range.start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_of_a_file_is_final() {
        // /dev/full fails every write with ENOSPC, and its fsync would be EINVAL.
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut file = FileSink::new(full);
        assert_eq!(file.write(b"x").unwrap_err().raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(file.flush().unwrap_err().raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    }
    #[test]
    fn a_file_longer_than_several_windows_arrives_whole() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("big");
        let mut file = FileSink::new(File::create(&path).unwrap());
        let block: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
        for _ in 0..(3 * (WINDOW >> 20) + 1) {
            file.write_all(&block).unwrap();
        }
        file.sync().unwrap();
        let read = File::open(&path).unwrap();
        assert_eq!(read.size().unwrap(), 3 * WINDOW + (1 << 20));
        let mut last = vec![0; 1 << 20];
        read.read_exact_at(&mut last, 3 * WINDOW).unwrap();
        assert_eq!(last, block);
    }

    /// Bytes that tell their place.
    fn numbered(len: u32) -> Vec<u8> {
        (0..len / 4).flat_map(|i| i.to_le_bytes()).collect()
    }

    #[test]
    fn what_is_appended_from_another_file_is_the_range_asked_for() {
        let temp = tempfile::tempdir().unwrap();
        let bytes = numbered(40 << 20);
        std::fs::write(temp.path().join("old"), &bytes).unwrap();
        let old = File::open(temp.path().join("old")).unwrap();
        let path = temp.path().join("new");
        let mut file = FileSink::new(File::create(&path).unwrap());
        file.write_all(b"first").unwrap();
        assert_eq!(file.append_from(&old, 4096..39 << 20).unwrap(), (39 << 20) - 4096);
        file.write_all(b"then").unwrap();
        // What the file does not have cannot be had.
        assert_eq!(file.append_from(&old, (40 << 20) - 8..50 << 20).unwrap(), 8);
        assert_eq!(file.append_from(&vec![1; 100], 0..100).unwrap(), 0);
        file.sync().unwrap();
        let wanted = [b"first", &bytes[4096..39 << 20], b"then", &bytes[bytes.len() - 8..]].concat();
        assert!(std::fs::read(&path).unwrap() == wanted);
    }
}
