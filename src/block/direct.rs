//! A regular file that is read past the page cache.

use super::ALIGN;
use crate::io::ReadAt;
use std::any::Any;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};

/// A file of a share or of this computer. Large aligned reads go to the disk or server itself and leave the page cache
/// alone; everything else, and everything where the file system has no O_DIRECT, is read as usual.
#[derive(Debug)]
pub struct DirectFile {
    buffered: File,
    direct: Option<File>,
}

impl DirectFile {
    /// `direct` is the same file opened with O_DIRECT; what is another file by now, or failed to open, is done without.
    pub fn new(buffered: File, direct: io::Result<File>) -> Self {
        let identity = |file: &File| file.metadata().map(|data| (data.dev(), data.ino()));
        let direct = direct.ok().filter(|direct| match (identity(direct), identity(&buffered)) {
            (Ok(direct), Ok(buffered)) => direct == buffered,
            _ => false,
        });
        DirectFile { buffered, direct }
    }
}

impl ReadAt for DirectFile {
    fn size(&self) -> io::Result<u64> {
        self.buffered.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let is_aligned = [buf.as_ptr() as usize, buf.len(), offset as usize].iter().all(|n| n % ALIGN == 0);
        if let Some(direct) = self.direct.as_ref().filter(|_| is_aligned) {
            match FileExt::read_at(direct, buf, offset) {
                // Blocks larger than ours, or a file system that only seemed to have it.
                Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {}
                read => return read,
            }
        }
        FileExt::read_at(&self.buffered, buf, offset)
    }

    fn is_hole(&self, range: &Range<u64>) -> bool {
        self.buffered.is_hole(range)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(&self.buffered)
    }
}

#[cfg(test)]
mod tests {
    use super::super::AlignedBuf;
    use super::*;
    use std::os::unix::fs::OpenOptionsExt;

    /// A folder that is not on a tmpfs, where it can be helped.
    fn folder() -> tempfile::TempDir {
        let here = std::env::current_exe().unwrap();
        tempfile::tempdir_in(here.parent().unwrap()).unwrap()
    }

    fn open_direct(path: &std::path::Path) -> io::Result<File> {
        File::options().read(true).custom_flags(libc::O_DIRECT).open(path)
    }

    #[test]
    fn aligned_or_not_the_bytes_are_those_of_the_file() {
        let temp = folder();
        let path = temp.path().join("file");
        let bytes: Vec<u8> = (0..40_000u32).map(|i| (i / 7) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        for direct in [open_direct(&path), Err(io::ErrorKind::Unsupported.into())] {
            let file = DirectFile::new(File::open(&path).unwrap(), direct);
            assert_eq!(file.size().unwrap(), bytes.len() as u64);
            for (offset, len) in [(0, 4096), (4096, 16384), (4097, 4096), (8192, 100), (39_000, 1000)] {
                let mut buf = AlignedBuf::new(len);
                file.read_exact_at(&mut buf, offset as u64).unwrap();
                assert_eq!(buf[..], bytes[offset..offset + len]);
            }
            // The end inside an aligned read.
            let mut buf = AlignedBuf::new(8192);
            assert_eq!(file.read_at(&mut buf, 36_864).unwrap(), 40_000 - 36_864);
        }
    }

    #[test]
    fn another_file_that_took_the_name_is_not_read() {
        let temp = folder();
        let path = temp.path().join("file");
        std::fs::write(&path, [1; 4096]).unwrap();
        let opened = File::open(&path).unwrap();
        std::fs::rename(&path, temp.path().join("old")).unwrap();
        std::fs::write(&path, [2; 4096]).unwrap();
        let file = DirectFile::new(opened, open_direct(&path));
        let mut buf = AlignedBuf::new(4096);
        file.read_exact_at(&mut buf, 0).unwrap();
        assert_eq!(buf[0], 1);
    }
}
