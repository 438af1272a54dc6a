//! A block device or a regular file, read and written past the page cache where the kernel lets us.

use super::{ALIGN, AlignedBuf, BlockDevice, FileId};
use rustix::fs::{Advice, FallocateFlags, OFlags, SeekFrom};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The kernel's own requests, `linux/fs.h`.
mod ioctl {
    nix::ioctl_read!(blkgetsize64, 0x12, 114, u64);
    nix::ioctl_read_bad!(blkroget, nix::request_code_none!(0x12, 94), nix::libc::c_int);
    nix::ioctl_read_bad!(blkrotational, nix::request_code_none!(0x12, 126), nix::libc::c_ushort);
    nix::ioctl_none!(blkrrpart, 0x12, 95);
    nix::ioctl_none!(blkflsbuf, 0x12, 97);
    nix::ioctl_write_ptr_bad!(blkdiscard, nix::request_code_none!(0x12, 119), [u64; 2]);
    nix::ioctl_write_ptr_bad!(blkzeroout, nix::request_code_none!(0x12, 127), [u64; 2]);
}

/// A disk could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The kernel refused one step.
    #[error("{path}: cannot {what}: {why}")]
    Io {
        /// The path as given.
        path: PathBuf,
        /// The step.
        what: &'static str,
        /// The kernel's reason.
        why: io::Error,
    },
    /// O_EXCL found another user.
    #[error(
        "{path} is in use: mounted, swapped on, or part of a RAID, LVM or other device; nothing was written"
    )]
    Busy {
        /// The path as given.
        path: PathBuf,
    },
    /// The device is set read-only (BLKROGET).
    #[error("{path} is read-only: a write-protect switch, or set so by software; nothing was written")]
    ReadOnly {
        /// The path as given.
        path: PathBuf,
    },
    /// Neither a block device nor a regular file.
    #[error("{path} is neither a block device nor a regular file")]
    Kind {
        /// The path as given.
        path: PathBuf,
    },
}

/// Bytes of one call on a disk that is written, where no head has to move. A restore reads what it wrote while it
/// writes on: smaller pieces wait less for each other, and the kernel need not cut them (its default limit is 1280 KiB
/// and often fewer pages). Of 256, 512 and 1024 KiB, a restore of 4 GiB took 7.7, 8.2 and 8.8 s (`scripts/bench`'s
/// disk, virtio); a backup, which has one kind of request only, was fastest with whole chunks.
const PIECE: usize = 256 << 10;

/// An open disk. Who writes a block device holds it exclusively (O_EXCL: nothing of it can be mounted meanwhile).
#[derive(Debug)]
pub struct RealDisk {
    name: String,
    /// O_DIRECT, where the file system or device has it.
    direct: Option<File>,
    /// For what O_DIRECT does not take: the odd end of a file, calls without data.
    buffered: File,
    is_file: bool,
    is_exclusive: bool,
    /// Most bytes of one call.
    piece: usize,
    size: u64,
    logical: u32,
    physical: u32,
}

impl RealDisk {
    /// Opens a disk that is only read.
    ///
    /// # Errors
    /// It cannot be opened, or is neither a block device nor a regular file.
    pub fn open_read(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open(path.as_ref(), false, false)
    }

    /// Opens a disk that is imaged: held exclusively where nobody uses it, else as [`RealDisk::open_read`] does.
    ///
    /// # Errors
    /// As [`RealDisk::open_read`].
    pub fn open_source(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        match Self::open(path.as_ref(), false, true) {
            Err(OpenError::Busy { .. }) => Self::open(path.as_ref(), false, false),
            opened => opened,
        }
    }

    /// Opens a disk that will be overwritten; a block device that anybody uses is refused.
    ///
    /// # Errors
    /// As [`RealDisk::open_read`]; and where anything has the disk in use.
    pub fn open_write(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open(path.as_ref(), true, true)
    }

    /// A regular file that is open already, as a disk to write: the very file of this descriptor, whatever its name
    /// leads to by now. `path` is what it is called in messages.
    ///
    /// # Errors
    /// It is not a regular file, or its size cannot be told.
    pub fn from_file(file: &File, path: &Path) -> Result<Self, OpenError> {
        let mut disk = Self::open(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())), true, true)?;
        disk.name = path.display().to_string();
        Ok(disk)
    }

    /// Which file or device node this is.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn file_id(&self) -> io::Result<FileId> {
        FileId::of(&self.buffered)
    }

    /// Makes a new regular file of `size` bytes (all hole) and opens it as a disk; it must not exist.
    ///
    /// # Errors
    /// It exists already, or cannot be made.
    pub fn create_file(path: impl AsRef<Path>, size: u64) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let io = |what| move |why| OpenError::Io { path: path.to_owned(), what, why };
        let file =
            OpenOptions::new().write(true).create_new(true).open(path).map_err(io("create the file"))?;
        file.set_len(size).map_err(io("give the file its size"))?;
        Self::open(path, true, true)
    }

    fn open(path: &Path, write: bool, claim: bool) -> Result<Self, OpenError> {
        let io = |what| move |why| OpenError::Io { path: path.to_owned(), what, why };
        let kind = std::fs::metadata(path).map_err(io("look at it"))?.file_type();
        let is_file = kind.is_file();
        if !is_file && !kind.is_block_device() {
            return Err(OpenError::Kind { path: path.to_owned() });
        }
        let exclusive = if claim && !is_file { OFlags::EXCL } else { OFlags::empty() };
        let open = |path: &Path, flags: OFlags| {
            OpenOptions::new().read(true).write(write).custom_flags(flags.bits() as i32).open(path)
        };
        let buffered = open(path, exclusive).map_err(|source| {
            if source.raw_os_error() == Some(Errno::BUSY.raw_os_error()) {
                OpenError::Busy { path: path.to_owned() }
            } else if write && !is_file && is_read_only(path) {
                OpenError::ReadOnly { path: path.to_owned() }
            } else {
                io(if write { "open it for writing" } else { "open it" })(source)
            }
        })?;
        let opened = buffered.metadata().map_err(io("look at it"))?;
        if opened.file_type() != kind {
            return Err(OpenError::Kind { path: path.to_owned() });
        }
        // By the descriptor: the path may lead to another disk by now. A second exclusive opening would find the first:
        // the claim of one descriptor covers both.
        let same = PathBuf::from(format!("/proc/self/fd/{}", buffered.as_raw_fd()));
        let direct = match open(&same, OFlags::DIRECT) {
            Ok(file) => Some(file),
            Err(e) if e.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => None,
            Err(e) => return Err(io("open it with O_DIRECT by /proc/self/fd")(e)),
        };
        // Some kernels refuse to open it for writing, others only the writes.
        if write && !is_file && says_read_only(&buffered) {
            return Err(OpenError::ReadOnly { path: path.to_owned() });
        }
        let (size, logical, physical) = if is_file {
            (opened.len(), 512, 4096)
        } else {
            let size = device_size(&buffered).map_err(io("ask for its size (BLKGETSIZE64)"))?;
            let logical = rustix::fs::ioctl_blksszget(&buffered)
                .map_err(|e| io("ask for its logical block size (BLKSSZGET)")(e.into()))?;
            let physical = rustix::fs::ioctl_blkpbszget(&buffered)
                .map_err(|e| io("ask for its physical block size (BLKPBSZGET)")(e.into()))?;
            (size, logical, physical)
        };
        let name = match path.strip_prefix("/dev") {
            Ok(rest) if !is_file => rest.display().to_string(),
            _ => path.display().to_string(),
        };
        let is_exclusive = claim || is_file;
        let piece = if write && (is_file || !says_rotational(&buffered)) { PIECE } else { usize::MAX };
        Ok(RealDisk { name, direct, buffered, is_file, is_exclusive, piece, size, logical, physical })
    }

    /// Major and minor number of the block device that is open; `None` for a regular file.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn device_number(&self) -> io::Result<Option<(u32, u32)>> {
        device_number(&self.buffered)
    }

    /// The descriptor for one transfer, and whether it goes past the page cache. A file system may want blocks
    /// of up to [`ALIGN`] bytes; a device takes its logical blocks.
    fn handle(&self, buf: &[u8], offset: u64) -> (&File, bool) {
        let unit = if self.is_file { ALIGN } else { self.logical as usize };
        let aligned = (buf.as_ptr() as usize).is_multiple_of(ALIGN)
            && buf.len().is_multiple_of(unit)
            && offset.is_multiple_of(unit as u64);
        match &self.direct {
            Some(direct) if aligned => (direct, true),
            _ => (&self.buffered, false),
        }
    }

    /// Written zeros: works everywhere.
    fn write_zeroes_slowly(&self, mut offset: u64, mut len: u64) -> io::Result<()> {
        let zeros = AlignedBuf::new(1 << 20);
        while len > 0 {
            let n = len.min(zeros.len() as u64);
            self.write_at(&zeros[..n as usize], offset)?;
            offset += n;
            len -= n;
        }
        Ok(())
    }
}

/// Major and minor number of an open block device; `None` for anything else.
///
/// # Errors
/// Those of fstat(2).
pub fn device_number(file: &File) -> io::Result<Option<(u32, u32)>> {
    let opened = file.metadata()?;
    let number = opened.rdev();
    let is_device = opened.file_type().is_block_device();
    Ok(is_device.then(|| (rustix::fs::major(number), rustix::fs::minor(number))))
}

fn device_size(device: &File) -> io::Result<u64> {
    let mut size = 0;
    // SAFETY: BLKGETSIZE64 writes one u64 to the address that it is given.
    unsafe { ioctl::blkgetsize64(device.as_raw_fd(), &mut size) }?;
    Ok(size)
}

/// True where the device says that it takes no writes; who cannot say so is asked by the first write.
fn says_read_only(device: &File) -> bool {
    let mut read_only = 0;
    // SAFETY: BLKROGET writes one int to the address that it is given.
    unsafe { ioctl::blkroget(device.as_raw_fd(), &mut read_only) }.is_ok() && read_only != 0
}

/// True where the device says that it has a head to move.
fn says_rotational(device: &File) -> bool {
    let mut rotational = 0;
    // SAFETY: BLKROTATIONAL writes one unsigned short to the address that it is given.
    unsafe { ioctl::blkrotational(device.as_raw_fd(), &mut rotational) }.is_ok() && rotational != 0
}

fn is_read_only(path: &Path) -> bool {
    File::open(path).is_ok_and(|device| says_read_only(&device))
}

/// True where the errno means that the device or file system does not know the request.
fn unsupported(e: Errno) -> bool {
    matches!(e, Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS | Errno::INVAL)
}

impl BlockDevice for RealDisk {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn size_now(&self) -> io::Result<u64> {
        if self.is_file { Ok(self.buffered.metadata()?.len()) } else { device_size(&self.buffered) }
    }

    fn logical_block_size(&self) -> u32 {
        self.logical
    }

    fn physical_block_size(&self) -> u32 {
        self.physical
    }

    fn is_regular_file(&self) -> bool {
        self.is_file
    }

    fn is_rotational(&self) -> bool {
        !self.is_file && says_rotational(&self.buffered)
    }

    fn is_exclusive(&self) -> bool {
        self.is_exclusive
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let (file, direct) = self.handle(buf, offset);
        let mut at = offset;
        for piece in buf.chunks_mut(self.piece) {
            file.read_exact_at(piece, at)?;
            at += piece.len() as u64;
        }
        if !direct {
            // What is read once must not push out what others cache.
            let _ = rustix::fs::fadvise(file, offset, (buf.len() as u64).try_into().ok(), Advice::DontNeed);
        }
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let file = self.handle(buf, offset).0;
        let mut at = offset;
        for piece in buf.chunks(self.piece) {
            file.write_all_at(piece, at)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        let result = if self.is_file {
            // A punched hole reads as zeros by definition (fallocate(2)).
            let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(&self.buffered, punch, offset, len)
        } else {
            // SAFETY: BLKZEROOUT reads two u64 from the address: start and length in bytes.
            unsafe { ioctl::blkzeroout(self.buffered.as_raw_fd(), &[offset, len]) }
                .map(|_| ())
                .map_err(|e| Errno::from_raw_os_error(e as i32))
        };
        match result {
            Err(e) if unsupported(e) => self.write_zeroes_slowly(offset, len),
            other => Ok(other?),
        }
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        if self.is_file {
            return self.write_zeroes(offset, len);
        }
        // SAFETY: BLKDISCARD reads two u64 from the address: start and length in bytes.
        unsafe { ioctl::blkdiscard(self.buffered.as_raw_fd(), &[offset, len]) }?;
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.buffered.sync_all()
    }

    fn drop_cache(&self) -> io::Result<()> {
        rustix::fs::fadvise(&self.buffered, 0, None, Advice::DontNeed)?;
        if !self.is_file {
            // SAFETY: BLKFLSBUF takes no argument.
            match unsafe { ioctl::blkflsbuf(self.buffered.as_raw_fd()) } {
                // It needs CAP_SYS_ADMIN; without it the fadvise above has done what can be done.
                Ok(_) | Err(nix::errno::Errno::EACCES | nix::errno::Errno::EPERM) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    fn reread_partition_table(&self) -> io::Result<()> {
        if self.is_file {
            return Ok(());
        }
        // SAFETY: BLKRRPART takes no argument.
        match unsafe { ioctl::blkrrpart(self.buffered.as_raw_fd()) } {
            // EINVAL: a device that has no partitions at all, such as a loop device without that flag.
            Ok(_) | Err(nix::errno::Errno::EINVAL) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn next_data(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        if from >= self.size {
            return Ok(None);
        }
        if !self.is_file {
            return Ok(Some(from..self.size));
        }
        // The file offset that these seeks move is used by nobody: every transfer is positioned.
        let fd = self.buffered.as_fd();
        let start = match rustix::fs::seek(fd, SeekFrom::Data(from)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            // A file system without holes: all of it is data.
            Err(e) if unsupported(e) => return Ok(Some(from..self.size)),
            Err(e) => return Err(e.into()),
        };
        let end = match rustix::fs::seek(fd, SeekFrom::Hole(start)) {
            Ok(end) => end,
            Err(e) if unsupported(e) => self.size,
            Err(e) => return Err(e.into()),
        };
        Ok((start < self.size).then(|| start..end.min(self.size)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regular_file_is_a_disk_with_holes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let disk = RealDisk::create_file(&path, 3 * (1 << 20) + 512).unwrap();
        assert_eq!((disk.size(), disk.logical_block_size()), (3 * (1 << 20) + 512, 512));
        assert_eq!(disk.next_data(0).unwrap(), None);
        let mut buf = AlignedBuf::new(1 << 20);
        buf.fill(0xa5);
        disk.write_at(&buf, 1 << 20).unwrap();
        disk.write_at(&buf[..512], 3 << 20).unwrap();
        disk.flush().unwrap();
        disk.drop_cache().unwrap();
        disk.reread_partition_table().unwrap();
        let data = disk.next_data(0).unwrap().unwrap();
        assert!(data.start > 0 && data.end >= 2 << 20, "{data:?}");
        disk.write_zeroes(1 << 20, 4096).unwrap();
        let mut back = AlignedBuf::new(512);
        disk.read_at(&mut back, 3 << 20).unwrap();
        assert!(back.iter().all(|b| *b == 0xa5));
        disk.read_at(&mut back, 1 << 20).unwrap();
        assert!(back.iter().all(|b| *b == 0));
        let past = disk.read_at(&mut buf, 3 << 20).unwrap_err();
        assert_eq!(past.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_no_disk_is_refused_by_name() {
        let error = RealDisk::open_read("/dev/null").unwrap_err();
        assert!(error.to_string().contains("/dev/null is neither"), "{error}");
        let error = RealDisk::open_read("/nonexistent/disk").unwrap_err();
        assert!(error.to_string().contains("/nonexistent/disk"), "{error}");
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("there"), b"x").unwrap();
        assert!(RealDisk::create_file(dir.path().join("there"), 512).is_err());
    }
}
