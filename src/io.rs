//! The two narrow views of a file that the imaging pipelines need, so that a test can stand in for a share; and zeros.

use std::any::Any;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Zeros to write or to compare with.
pub static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// True where all bytes are zero. memcmp is the fastest way in every build.
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(ZEROS.len()).all(|part| *part == ZEROS[..part.len()])
}

/// Positioned reads of something whose length is fixed while it is read: an image on a share, or a test's bytes.
pub trait ReadAt: Send + Sync {
    /// Length in bytes.
    ///
    /// # Errors
    /// Those of fstat(2).
    fn size(&self) -> io::Result<u64>;

    /// Reads up to `buf.len()` bytes at byte `offset`; 0 means the end.
    ///
    /// # Errors
    /// Those of pread(2).
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Fills `buf` from byte `offset`; the end inside `buf` is `UnexpectedEof`.
    ///
    /// # Errors
    /// Those of [`ReadAt::read_at`], and `UnexpectedEof`.
    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read_at(buf, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    buf = &mut buf[n..];
                    offset += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// True where all of this range of bytes is known to be a hole: zeros that need not be read. False proves nothing.
    fn is_hole(&self, range: &Range<u64>) -> bool {
        let _ = range;
        false
    }

    /// The BLAKE3 hash of a range of bytes. A share whose server can tell it sends no bytes for it.
    ///
    /// # Errors
    /// Those of [`ReadAt::read_exact_at`].
    fn hash_at(&self, range: &Range<u64>) -> io::Result<blake3::Hash> {
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        self.read_exact_at(&mut bytes, range.start)?;
        Ok(blake3::hash(&bytes))
    }

    /// What [`SyncWrite::append_from`] of the same kind of share can copy from.
    fn as_any(&self) -> Option<&dyn Any> {
        None
    }
}

/// A file that is written once, front to back, and then made durable.
pub trait SyncWrite: Write + Send {
    /// All of the file is durable after it, also what stood there before it was [resumed](SyncWrite::resume_at). The
    /// first error of fsync(2) is final: a second fsync of the same file returns 0 although data is lost.
    ///
    /// # Errors
    /// Something of what was written may be lost.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the file to its first `len` bytes, which it must have, and goes on writing there. Only before the first
    /// write. `Unsupported` where there is nothing to go on with.
    ///
    /// # Errors
    /// `Unsupported`, `UnexpectedEof` where the file is shorter, and those of the file.
    fn resume_at(&mut self, len: u64) -> io::Result<()> {
        let _ = len;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Appends `length` zero bytes, which need not be written: where the file system can have holes, here is one.
    ///
    /// # Errors
    /// Those of writing.
    fn append_zeros(&mut self, length: u64) -> io::Result<()> {
        write_zeros(self, length)
    }

    /// Appends bytes of another file, copied by the file system or the file server, which may let both files share
    /// the blocks (copy_file_range(2)). Returns how many, from the beginning of `range` on: fewer than asked for, also
    /// none, where this cannot be done, whatever the reason; writing the rest as usual shows it.
    ///
    /// Nobody has seen these bytes: whether they are the right ones only reading back can tell.
    ///
    /// # Errors
    /// Something was copied, and the file cannot be written any more.
    fn append_from(&mut self, from: &dyn ReadAt, range: Range<u64>) -> io::Result<u64> {
        let _ = (from, range);
        Ok(0)
    }
}

/// Writes `length` zero bytes.
///
/// # Errors
/// Those of writing.
pub fn write_zeros(to: &mut (impl Write + ?Sized), mut length: u64) -> io::Result<()> {
    while length > 0 {
        let part = usize::try_from(length).unwrap_or(usize::MAX).min(ZEROS.len());
        to.write_all(&ZEROS[..part])?;
        length -= part as u64;
    }
    Ok(())
}

/// What lseek(2) says with SEEK_DATA; file systems and servers that cannot tell call everything data. Moves the file's position.
fn is_hole(file: &File, range: &Range<u64>) -> bool {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(range.start)) {
        Ok(data) => data >= range.end,
        // No data up to the end of the file.
        Err(rustix::io::Errno::NXIO) => file.metadata().is_ok_and(|about| about.len() >= range.end),
        Err(_) => false,
    }
}

impl ReadAt for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buf, offset)
    }

    fn is_hole(&self, range: &Range<u64>) -> bool {
        is_hole(self, range)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl ReadAt for Vec<u8> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl SyncWrite for File {
    fn append_zeros(&mut self, length: u64) -> io::Result<()> {
        let end = self.stream_position()?.saturating_add(length);
        self.set_len(end)?;
        self.seek(SeekFrom::Start(end)).map(drop)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }

    fn resume_at(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)?;
        self.seek(SeekFrom::Start(len)).map(drop)
    }
}

impl SyncWrite for Vec<u8> {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn resume_at(&mut self, len: u64) -> io::Result<()> {
        self.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        Ok(())
    }

    fn append_from(&mut self, from: &dyn ReadAt, range: Range<u64>) -> io::Result<u64> {
        let from = from.as_any().and_then(|from| from.downcast_ref::<Vec<u8>>());
        let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let bytes = from.and_then(|from| from.get(at(range.start)..at(range.end))).unwrap_or_default();
        self.extend_from_slice(bytes);
        Ok(bytes.len() as u64)
    }
}
