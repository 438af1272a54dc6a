//! An image file that is written without filling the page cache.

use crate::io::{ReadAt, SyncWrite};
use crate::sys::{drop_cached, flush_range, start_flush};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::num::NonZeroU64;
use std::ops::Range;

/// Bytes after which a written window is pushed out: at most two windows are dirty at a time, so that an image does not
/// fill the memory of a machine that has no swap.
const WINDOW: u64 = 16 << 20;

/// Bytes at the beginning of a resumed file that are written again: twice what one WRITE of any kernel's NFS client has.
const AGAIN: u64 = 8 << 20;

/// What a [`FileSink`] asks of the kernel. A trait, so that a test can stand in for an NFS client and its server.
pub trait Backing: Write + Send {
    /// Starts writing out `length` bytes from byte `offset`, see [`start_flush`].
    ///
    /// # Errors
    /// Those of the kernel.
    fn start_flush(&self, offset: u64, length: u64) -> io::Result<()>;
    /// Writes out and waits, see [`flush_range`].
    ///
    /// # Errors
    /// Those of writing back what was written before; they are told once.
    fn flush_range(&self, offset: u64, length: u64) -> io::Result<()>;
    /// Reads its first `length` bytes, and writes the same.
    ///
    /// # Errors
    /// Those of reading and writing.
    fn rewrite(&self, length: u64) -> io::Result<()>;
    /// fsync(2).
    ///
    /// # Errors
    /// Those of fsync(2); they are told once.
    fn sync_all(&self) -> io::Result<()>;
    /// Stands at byte `position` from now on. Between the end of the file and there is a hole as soon as something is written.
    ///
    /// # Errors
    /// Those of lseek(2).
    fn stand_at(&mut self, position: u64) -> io::Result<()>;
    /// Cuts the file to `len` bytes, or lengthens it by a hole, and stands there.
    ///
    /// # Errors
    /// The file cannot be cut.
    fn set_len(&mut self, len: u64) -> io::Result<()>;
    /// Cuts the file to `len` bytes and stands there.
    ///
    /// # Errors
    /// The file is shorter, or cannot be cut.
    fn resume_at(&mut self, len: u64) -> io::Result<()>;
    /// Drops clean pages, see [`drop_cached`].
    ///
    /// # Errors
    /// Those of posix_fadvise(2).
    fn drop_cached(&self, offset: u64, length: Option<NonZeroU64>) -> io::Result<()>;
    /// Itself, where the kernel can copy into it.
    fn as_file(&self) -> Option<&File>;
}

impl Backing for File {
    fn start_flush(&self, offset: u64, length: u64) -> io::Result<()> {
        start_flush(self, offset, length)
    }

    fn flush_range(&self, offset: u64, length: u64) -> io::Result<()> {
        flush_range(self, offset, length)
    }

    fn rewrite(&self, length: u64) -> io::Result<()> {
        let mut bytes = vec![0; 1 << 20];
        let mut at = 0;
        while at < length {
            let n = usize::try_from(length - at).unwrap_or(usize::MAX).min(bytes.len());
            let piece = bytes.get_mut(..n).unwrap_or_default();
            ReadAt::read_exact_at(self, piece, at)?;
            std::os::unix::fs::FileExt::write_all_at(self, piece, at)?;
            at += n as u64;
        }
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        File::sync_all(self)
    }

    fn stand_at(&mut self, position: u64) -> io::Result<()> {
        self.seek(SeekFrom::Start(position)).map(drop)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn resume_at(&mut self, len: u64) -> io::Result<()> {
        SyncWrite::resume_at(self, len)
    }

    fn drop_cached(&self, offset: u64, length: Option<NonZeroU64>) -> io::Result<()> {
        drop_cached(self, offset, length)
    }

    fn as_file(&self) -> Option<&File> {
        Some(self)
    }
}

/// A file that is written once, front to back.
///
/// Data is pushed out in windows while it is written, and dropped from the cache, so that neither the memory fills
/// nor the fsync at the end has everything still to do. The first error of any call is final: write-back errors are
/// reported once only, by whichever call comes first, and a later fsync returns 0.
#[derive(Debug)]
pub struct FileSink<F = File> {
    file: F,
    written: u64,
    /// Bytes whose write-back was started.
    started: u64,
    /// Bytes whose write-back is complete.
    flushed: u64,
    failed: Option<i32>,
    /// The last bytes are a hole that the file does not have yet.
    ends_in_hole: bool,
    /// Bytes at its beginning that an earlier process wrote.
    kept: u64,
}

impl<F: Backing> FileSink<F> {
    /// Takes a file that is empty and stands at its start, or is [gone on with](SyncWrite::resume_at).
    pub fn new(file: F) -> Self {
        FileSink { file, written: 0, started: 0, flushed: 0, failed: None, ends_in_hole: false, kept: 0 }
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

    /// Makes the next fsync one for the whole file on an NFS server too: what a cut boot has written may be in the memory
    /// of the server only.
    ///
    /// Linux's client sends what fits one WRITE as FILE_SYNC, and no COMMIT: the server syncs those bytes. So it does (seen
    /// with 6.1) with several pieces that do not touch. A longer piece goes out as several WRITEs, UNSTABLE, and the COMMIT
    /// that follows is for the whole file (fs/nfs: `nfs_generic_pgio`, `nfs_init_commit`). A short file is written again
    /// as a whole.
    fn owe_commit(&self) -> io::Result<()> {
        self.file.rewrite(self.kept.min(AGAIN))
    }

    /// Waits for the window before the last one and starts the last one.
    fn push_windows(&mut self) -> io::Result<()> {
        if self.written - self.started < WINDOW {
            return Ok(());
        }
        self.file.start_flush(self.started, self.written - self.started)?;
        if let Some(length) = NonZeroU64::new(self.started - self.flushed) {
            self.file.flush_range(self.flushed, length.get())?;
            self.file.drop_cached(self.flushed, Some(length))?;
        }
        self.flushed = self.started;
        self.started = self.written;
        Ok(())
    }
}

impl<F: Backing> Write for FileSink<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        let result = self.file.write(bytes);
        let n = self.seal(result)?;
        self.ends_in_hole &= n == 0;
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

impl<F: Backing> SyncWrite for FileSink<F> {
    /// All of the file is durable, also what was there before it was [resumed](SyncWrite::resume_at).
    fn sync(&mut self) -> io::Result<()> {
        self.check()?;
        let length = if self.ends_in_hole { self.file.set_len(self.written) } else { Ok(()) };
        let result = length.and_then(|()| self.owe_commit()).and_then(|()| self.file.sync_all());
        self.seal(result)?;
        // Advice only: the data is safe already, and an open for verification drops the pages once more.
        let _ = self.file.drop_cached(0, None);
        Ok(())
    }

    fn resume_at(&mut self, len: u64) -> io::Result<()> {
        self.check()?;
        let result = self.file.resume_at(len);
        self.seal(result)?;
        (self.written, self.started, self.flushed, self.kept) = (len, len, len, len);
        Ok(())
    }

    /// Nothing is asked of the file before the next write: a new length would have an NFS client write out everything.
    fn append_zeros(&mut self, length: u64) -> io::Result<()> {
        self.check()?;
        let end = self.written.saturating_add(length);
        let result = self.file.stand_at(end);
        self.seal(result)?;
        (self.written, self.ends_in_hole) = (end, true);
        let pushed = self.push_windows();
        self.seal(pushed)
    }

    fn append_from(&mut self, from: &dyn ReadAt, range: Range<u64>) -> io::Result<u64> {
        self.check()?;
        let Some(source) = from.as_any().and_then(|from| from.downcast_ref::<File>()) else { return Ok(0) };
        let mut at = range.start;
        // The kernel copies by itself, through the page cache, where neither file system nor server can (Linux 5.3).
        while at < range.end {
            let mut next = at;
            let step = usize::try_from((range.end - at).min(WINDOW)).unwrap_or(usize::MAX);
            let Some(file) = self.file.as_file() else { break };
            match rustix::fs::copy_file_range(source, Some(&mut next), file, None, step) {
                Err(Errno::INTR) => continue,
                // Whatever it is, writing shows it if it is more than a call that is not to be had.
                Err(_) | Ok(0) => break,
                Ok(n) => {
                    let copied = NonZeroU64::new(n as u64);
                    self.ends_in_hole = false;
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
    use std::os::unix::fs::MetadataExt;
    use std::sync::{Arc, Mutex};

    /// Largest WRITE of the modelled mount, in bytes.
    const WSIZE: u64 = 1 << 20;

    /// A file on an NFS server: what it answers with, and what a power cut leaves of it.
    #[derive(Default)]
    struct Server {
        cached: Vec<u8>,
        durable: Vec<u8>,
    }

    impl Server {
        fn write(file: &mut Vec<u8>, at: u64, bytes: &[u8]) {
            let end = at as usize + bytes.len();
            file.resize(file.len().max(end), 0);
            file[at as usize..end].copy_from_slice(bytes);
        }
    }

    /// What the client has to send, and whether it owes a COMMIT.
    #[derive(Default)]
    struct Cache {
        position: u64,
        dirty: Vec<(u64, Vec<u8>)>,
        owes_commit: bool,
        writes: usize,
    }

    /// Linux's NFS client over it, as fs/nfs has it: one boot of the machine.
    struct Client {
        server: Arc<Mutex<Server>>,
        cache: Mutex<Cache>,
        /// Write-back comes by itself after so many writes.
        write_back: usize,
    }

    impl Client {
        fn boot(server: &Arc<Mutex<Server>>, write_back: usize) -> FileSink<Client> {
            FileSink::new(Client { server: server.clone(), cache: Mutex::default(), write_back })
        }

        fn put(&self, cache: &mut Cache, at: u64, bytes: &[u8]) {
            match cache.dirty.last_mut() {
                Some((start, dirty)) if *start + dirty.len() as u64 == at => dirty.extend_from_slice(bytes),
                _ => cache.dirty.push((at, bytes.to_vec())),
            }
            cache.writes += 1;
            if cache.writes == self.write_back {
                self.send(cache);
            }
        }

        fn send(&self, cache: &mut Cache) {
            let mut server = self.server.lock().unwrap();
            let dirty = std::mem::take(&mut cache.dirty);
            for (at, bytes) in dirty {
                cache.owes_commit |= bytes.len() as u64 > WSIZE;
                Server::write(&mut server.cached, at, &bytes);
                if !cache.owes_commit {
                    Server::write(&mut server.durable, at, &bytes);
                }
            }
        }
    }

    impl Write for Client {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut cache = self.cache.lock().unwrap();
            let at = cache.position;
            cache.position += bytes.len() as u64;
            self.put(&mut cache, at, bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Backing for Client {
        fn start_flush(&self, _: u64, _: u64) -> io::Result<()> {
            self.send(&mut self.cache.lock().unwrap());
            Ok(())
        }

        fn flush_range(&self, offset: u64, length: u64) -> io::Result<()> {
            self.start_flush(offset, length)
        }

        fn rewrite(&self, length: u64) -> io::Result<()> {
            let there = self.server.lock().unwrap().cached[..length as usize].to_vec();
            for (n, piece) in there.chunks(1 << 20).enumerate() {
                self.put(&mut self.cache.lock().unwrap(), (n as u64) << 20, piece);
            }
            Ok(())
        }

        fn sync_all(&self) -> io::Result<()> {
            let mut cache = self.cache.lock().unwrap();
            self.send(&mut cache);
            if std::mem::take(&mut cache.owes_commit) {
                let mut server = self.server.lock().unwrap();
                server.durable = server.cached.clone();
            }
            Ok(())
        }

        fn stand_at(&mut self, position: u64) -> io::Result<()> {
            self.cache.lock().unwrap().position = position;
            Ok(())
        }

        fn set_len(&mut self, len: u64) -> io::Result<()> {
            let mut server = self.server.lock().unwrap();
            server.cached.resize(len as usize, 0);
            server.durable.resize(len as usize, 0);
            Ok(())
        }

        fn resume_at(&mut self, len: u64) -> io::Result<()> {
            let mut server = self.server.lock().unwrap();
            server.cached.truncate(len as usize);
            server.durable.truncate(len as usize);
            self.cache.lock().unwrap().position = len;
            Ok(())
        }

        fn drop_cached(&self, _: u64, _: Option<NonZeroU64>) -> io::Result<()> {
            Ok(())
        }

        fn as_file(&self) -> Option<&File> {
            None
        }
    }

    /// The machine is cut before its fsync, and the next boot keeps what stands there but the last bytes.
    #[test]
    fn a_resumed_file_is_durable_whole_on_an_nfs_server() {
        let image = numbered(20 << 20);
        let some = [1, 512, 4096, 1 << 20, 3 << 20, 8 << 20, 9 << 20, image.len() - 4096, image.len() - 1];
        for kept in some {
            for write_back in 0..12 {
                let server = Arc::new(Mutex::new(Server { cached: image.clone(), durable: Vec::new() }));
                let mut file = Client::boot(&server, write_back);
                file.resume_at(kept as u64).unwrap();
                file.write_all(&image[kept..image.len().min(kept + 4096)]).unwrap();
                file.sync().unwrap();
                let server = server.lock().unwrap();
                let whole = &image[..image.len().min(kept + 4096)];
                assert!(server.durable == whole, "{kept} kept, write-back after {write_back} writes");
            }
        }
    }

    /// Zeros that need not be written are there, whatever stands before and behind them, and take no room.
    #[test]
    fn zeros_that_are_appended_are_holes() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("sparse");
        for last in [&b""[..], b"last"] {
            let mut file = FileSink::new(File::create(&path).unwrap());
            file.append_zeros(1 << 20).unwrap();
            file.write_all(&[7; 4096]).unwrap();
            file.append_zeros(3 * WINDOW).unwrap();
            file.write_all(&[8; 4096]).unwrap();
            file.append_zeros(1 << 20).unwrap();
            file.write_all(last).unwrap();
            file.sync().unwrap();
            let parts =
                [&vec![0; 1 << 20][..], &[7; 4096], &vec![0; 3 << 24], &[8; 4096], &vec![0; 1 << 20], last];
            assert!(std::fs::read(&path).unwrap() == parts.concat());
            let file = File::open(&path).unwrap();
            assert!(file.metadata().unwrap().blocks() * 512 <= 64 << 10, "{:?}", file.metadata());
            for (range, is_hole) in [
                (0..1 << 20, true),
                (0..(1 << 20) + 1, false),
                ((1 << 20) + 4096..(3 << 24) + (1 << 20) + 4096, true),
                ((1 << 20) + 4096..(3 << 24) + (1 << 20) + 8192, false),
                (60 << 20..61 << 20, false),
            ] {
                assert_eq!(file.is_hole(&range), is_hole, "{range:?}");
            }
        }
    }

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
