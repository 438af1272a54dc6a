//! A folder of the running system as a share.

use super::ownership::{PRIVATE_DIR, PRIVATE_FILE, SERVED_DIR, SERVED_FILE};
use super::{Append, Files, components, own_temporary, split_parent};
use crate::block::DirectFile;
use crate::block::sink::FileSink;
use crate::io::{ReadAt, SyncWrite};
use crate::net::quota::Owner;
use crate::sys::drop_cached;
use jiff::Timestamp;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The real [`Files`]: everything below one folder, usually the mount point of a share.
///
/// Paths are resolved by openat2(2) with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS`, or name by
/// name with `O_NOFOLLOW` where the kernel has no openat2 (before Linux 5.6): what a share contains cannot lead out
/// of it. Files are opened with `O_NONBLOCK` and must be regular, so that a FIFO or a device does not block or act.
///
/// Every [`Files::open`] drops the cached pages of that file first. A file that was fsynced before is thus read from
/// the server again, and not from this client's memory: that is what verification needs. (NFS's close-to-open rule
/// alone would keep the pages that this client wrote itself.) [`DirFiles::listed`] does without that.
#[derive(Debug)]
pub struct DirFiles {
    root: OwnedFd,
    /// Cleared when the kernel says that it has no openat2.
    openat2: AtomicBool,
    /// What is made is for everybody to read.
    is_served: bool,
    /// Files are read as every other program reads them.
    is_listed: bool,
}

impl DirFiles {
    /// The share whose root is the folder `root`. The folder itself may be reached through symbolic links. What is made in
    /// it is for its owner and group (see [`super::ownership`]), or for less where the umask says so.
    ///
    /// # Errors
    /// Those of open(2); the root is not a folder.
    pub fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty())?;
        Ok(DirFiles { root, openat2: AtomicBool::new(true), is_served: false, is_listed: false })
    }

    /// The same of a tree that TFTP serves: what is made in it is readable by everybody, whatever umask and default ACLs
    /// say.
    pub fn served(self) -> Self {
        DirFiles { is_served: true, ..self }
    }

    /// The same for listings, which prove nothing and read very many small files: through the page cache, and without
    /// dropping it.
    pub fn listed(self) -> Self {
        DirFiles { is_listed: true, ..self }
    }

    /// What fstat(2) says of a regular file, which is not opened for it.
    ///
    /// # Errors
    /// Those of the folder; `NotFound`, and `InvalidInput` for anything else than a regular file.
    pub fn about(&self, path: &str) -> io::Result<std::fs::Metadata> {
        let (folder, name) = split_parent(path)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Listings ask this most of all: one call where that is enough.
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let at_once = self
            .openat2
            .load(Relaxed)
            .then(|| rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve));
        let fd = match at_once {
            Some(Ok(fd)) => fd,
            Some(Err(e)) if !matches!(e, Errno::NOSYS | Errno::PERM) => return Err(link_is_invalid(e)),
            _ => rustix::fs::openat(self.folder(folder)?, name, flags, Mode::empty())?,
        };
        let about = File::from(fd).metadata()?;
        if about.is_file() { Ok(about) } else { Err(not_regular()) }
    }

    #[cfg(test)]
    pub(super) fn without_openat2(self) -> Self {
        self.openat2.store(false, Relaxed);
        self
    }

    /// Opens a folder below the root.
    fn folder(&self, path: &str) -> io::Result<OwnedFd> {
        let names = components(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if self.openat2.load(Relaxed) {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            let path = if names.is_empty() { "." } else { path };
            match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
                Ok(fd) => return Ok(fd),
                // EPERM: a seccomp filter that does not know the call.
                Err(Errno::NOSYS | Errno::PERM) => self.openat2.store(false, Relaxed),
                Err(e) => return Err(link_is_invalid(e)),
            }
        }
        let mut fd = rustix::fs::openat(&self.root, ".", flags, Mode::empty())?;
        for name in names {
            fd = rustix::fs::openat(&fd, name, flags, Mode::empty()).map_err(link_is_invalid)?;
        }
        Ok(fd)
    }

    /// Opens a regular file. The last name is one component, so `O_NOFOLLOW` is all that it needs.
    fn file(&self, path: &str, flags: OFlags) -> io::Result<File> {
        let (folder, name) = split_parent(path)?;
        let folder = self.folder(folder)?;
        let always = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&folder, name, flags | always, Mode::from_raw_mode(PRIVATE_FILE))
            .map_err(link_is_invalid)?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
        if kind != FileType::RegularFile {
            return Err(not_regular());
        }
        Ok(fd.into())
    }
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

fn link_is_invalid(errno: Errno) -> io::Error {
    match errno {
        Errno::LOOP => io::Error::new(io::ErrorKind::InvalidInput, "a symbolic link is not followed"),
        // Opening a FIFO without a reader, or a socket, for writing.
        Errno::NXIO => not_regular(),
        errno => errno.into(),
    }
}

/// Opened with `O_APPEND`.
impl Append for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)?;
        self.sync_all()
    }
}

impl Files for DirFiles {
    fn open(&self, path: &str) -> io::Result<Arc<dyn ReadAt>> {
        let file = self.file(path, OFlags::RDONLY)?;
        if self.is_listed {
            return Ok(Arc::new(file));
        }
        drop_cached(&file, 0, None)?;
        Ok(Arc::new(DirectFile::new(file, self.file(path, OFlags::RDONLY | OFlags::DIRECT))))
    }

    fn create(&self, path: &str) -> io::Result<Box<dyn SyncWrite>> {
        let file = self.file(path, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
        if self.is_served {
            rustix::fs::fchmod(&file, Mode::from_raw_mode(SERVED_FILE))?;
        }
        Ok(Box::new(FileSink::new(file)))
    }

    fn reopen(&self, path: &str) -> io::Result<Box<dyn SyncWrite>> {
        // Read too: a sync writes some of it again.
        let file = self.file(path, OFlags::RDWR)?;
        if rustix::fs::fstat(&file)?.st_nlink > 1 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the file has a second name"));
        }
        Ok(Box::new(FileSink::new(file)))
    }

    fn append(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let (folder, _) = split_parent(path)?;
        let (mut file, is_new) = match self.file(path, OFlags::WRONLY | OFlags::APPEND) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                (self.file(path, OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE)?, true)
            }
            opened => (opened?, false),
        };
        Append::append(&mut file, bytes)?;
        if is_new { self.sync_dir(folder) } else { Ok(()) }
    }

    fn open_append(&self, path: &str) -> io::Result<Box<dyn Append>> {
        Ok(Box::new(self.file(path, OFlags::WRONLY | OFlags::APPEND)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let ((from_folder, from), (to_folder, to)) = (split_parent(from)?, split_parent(to)?);
        Ok(rustix::fs::renameat(self.folder(from_folder)?, from, self.folder(to_folder)?, to)?)
    }

    fn hard_link(&self, from: &str, to: &str) -> io::Result<()> {
        let ((from_folder, from), (to_folder, to)) = (split_parent(from)?, split_parent(to)?);
        let (from_folder, to_folder) = (self.folder(from_folder)?, self.folder(to_folder)?);
        // Without AT_SYMLINK_FOLLOW a link to a symbolic link would be made, which no reader would ever follow.
        let stat = rustix::fs::statat(&from_folder, from, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(not_regular());
        }
        Ok(rustix::fs::linkat(from_folder, from, to_folder, to, AtFlags::empty())?)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let (folder, name) = split_parent(path)?;
        let folder = self.folder(folder)?;
        match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => Ok(rustix::fs::unlinkat(&folder, name, AtFlags::REMOVEDIR)?),
            removed => Ok(removed?),
        }
    }

    fn make_dir(&self, path: &str) -> io::Result<()> {
        let (folder, name) = split_parent(path)?;
        match rustix::fs::mkdirat(self.folder(folder)?, name, Mode::from_raw_mode(PRIVATE_DIR)) {
            // Fine where it is a folder; opening it says so.
            Err(Errno::EXIST) => self.folder(path).map(drop),
            Ok(()) if self.is_served => {
                Ok(rustix::fs::fchmod(self.folder(path)?, Mode::from_raw_mode(SERVED_DIR))?)
            }
            made => Ok(made?),
        }
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(self.folder(path)?)? {
            match entry?.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_owned()),
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.folder(path)?)?)
    }

    fn free_bytes(&self, path: &str) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(self.folder(path)?)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn is_same_file(&self, a: &str, b: &str) -> io::Result<bool> {
        // Both open at once: a number that is free again could be another file's.
        let (a, b) = (self.file(a, OFlags::RDONLY)?, self.file(b, OFlags::RDONLY)?);
        let (a, b) = (rustix::fs::fstat(&a)?, rustix::fs::fstat(&b)?);
        Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
    }

    fn clock(&self, folder: &str) -> io::Result<Timestamp> {
        let path = own_temporary(folder, "clock");
        // A cut run has left it.
        self.remove_if_exists(&path)?;
        // Nothing is written, so no client has a say in its times (with NFSv4.2 it may have).
        let stat = self.file(&path, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL).map(rustix::fs::fstat);
        self.remove_if_exists(&path)?;
        Timestamp::from_second(stat??.st_ctime).map_err(io::Error::other)
    }

    fn allocated(&self, path: &str) -> io::Result<u64> {
        let (folder, name) = split_parent(path)?;
        let stat = rustix::fs::statat(self.folder(folder)?, name, AtFlags::SYMLINK_NOFOLLOW)?;
        // Blocks of 512 bytes (stat(2)).
        Ok(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512))
    }

    fn owner(&self, path: &str) -> io::Result<Owner> {
        let (folder, name) = split_parent(path)?;
        // Not opened: nothing of it is wanted, and an NFSv4 server would note that this client has it open.
        let stat = rustix::fs::statat(self.folder(folder)?, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(not_regular());
        }
        Ok(Owner { user: stat.st_uid, group: stat.st_gid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_names_of_one_file_are_known_from_two_files() {
        let temp = tempfile::tempdir().unwrap();
        let files = DirFiles::open(temp.path()).unwrap();
        for name in ["a", "b"] {
            files.create(name).unwrap().write_all(b"the same bytes").unwrap();
        }
        files.hard_link("a", "second").unwrap();
        assert!(files.is_same_file("a", "second").unwrap());
        assert!(!files.is_same_file("a", "b").unwrap());
        assert_eq!(files.is_same_file("a", "none").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn the_clock_is_that_of_the_file_system_and_leaves_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let files = DirFiles::open(temp.path()).unwrap();
        files.make_dir("10.0.0.1").unwrap();
        files.create(&own_temporary("10.0.0.1", "clock")).unwrap();
        let before = Timestamp::now().as_second();
        let clock = files.clock("10.0.0.1").unwrap().as_second();
        assert!((before - 1..=Timestamp::now().as_second()).contains(&clock), "{before} {clock}");
        assert!(files.list("10.0.0.1").unwrap().is_empty(), "nor what a cut run has left");
        assert_eq!(files.clock("none").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    /// Verification reads through a fresh open: none of the pages that this computer wrote or read may answer it.
    #[test]
    fn an_opened_file_is_not_in_the_page_cache() {
        use rustix::io::{ReadWriteFlags, preadv2};
        // Not in /tmp, which may be a tmpfs: there the page cache is all there is.
        let here = std::env::current_exe().unwrap();
        let temp = tempfile::tempdir_in(here.parent().unwrap()).unwrap();
        let files = DirFiles::open(temp.path()).unwrap();
        let size = 48u64 << 20;
        let mut file = files.create("image").unwrap();
        for _ in 0..size >> 20 {
            file.write_all(&[7; 1 << 20]).unwrap();
        }
        file.sync().unwrap();
        let path = temp.path().join("image");
        // Somebody has read it: now it is in the cache.
        assert!(std::fs::read(&path).unwrap().iter().all(|b| *b == 7));
        let probe = File::open(&path).unwrap();
        // RWF_NOWAIT (preadv2(2)) gives only what is cached.
        let cached = |at: u64| {
            let mut byte = [0];
            let got = preadv2(&probe, &mut [io::IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT);
            match got {
                Ok(n) => n == 1,
                Err(Errno::AGAIN) => false,
                Err(e) => panic!("this file system cannot tell what is cached: {e}"),
            }
        };
        let places = [size - 1, size / 2, 0];
        assert!(places.map(cached).iter().all(|c| *c));
        let _open = files.open("image").unwrap();
        assert_eq!(places.map(cached), [false; 3]);
    }
}
