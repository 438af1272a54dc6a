//! Ranges of disks as files of a folder, by FUSE: read-only, under names that are given to it.

use super::super::Error;
use super::super::output::say;
use super::image_error;
use crate::image::{ErrorKind, ImageDisk, ImageError};
use crate::text::{plain, with_sources};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyLseek, ReplyOpen, Request, Session, SessionACL,
};
use rustix::mount::UnmountFlags;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

/// How long the kernel may take for true what it was told: none of it ever changes.
const TTL: Duration = Duration::from_secs(3600);
/// Most places of damage that are told.
const TOLD: usize = 1000;

/// A file of the folder.
pub(super) struct MountedFile {
    /// Its name.
    pub name: String,
    /// The disk that it is of.
    pub disk: Arc<ImageDisk>,
    /// Bytes of that disk.
    pub range: Range<u64>,
    /// Where the image is, for messages.
    pub image: PathBuf,
    /// When the image was written.
    pub modified: SystemTime,
}

impl MountedFile {
    fn size(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// The bytes at `offset` of the file: fewer than `len` only at its end.
    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, ImageError> {
        let left = usize::try_from(self.size().saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(len)];
        if !bytes.is_empty() {
            ImageError::catch(|| self.disk.read(&mut bytes, self.range.start.saturating_add(offset)))?;
        }
        Ok(bytes)
    }

    /// Where data or a hole begins from `offset` on, as lseek(2) wants it; `None` where there is no data any more.
    fn seek(&self, offset: u64, is_data: bool) -> Result<Option<u64>, ImageError> {
        if offset >= self.size() {
            return Ok(None);
        }
        let at = self.range.start.saturating_add(offset);
        let found = if is_data { self.disk.next_data(at)? } else { self.disk.next_hole(at)? };
        let found = found.filter(|at| *at < self.range.end).map(|at| at - self.range.start);
        // Every file has a hole at its end.
        Ok(if is_data { found } else { found.or(Some(self.size())) })
    }
}

/// The folder.
struct ImageFolder {
    files: Vec<MountedFile>,
    owner: (u32, u32),
    /// Mode of files, for all or for the owner.
    mode: u16,
    told: Mutex<HashSet<(PathBuf, Option<u64>)>>,
}

impl ImageFolder {
    fn file(&self, inode: INodeNo) -> Option<&MountedFile> {
        self.files.get(usize::try_from(inode.0.checked_sub(2)?).ok()?)
    }

    fn attributes(&self, index: usize, file: &MountedFile) -> FileAttr {
        let size = file.size();
        let attributes = self.common(INodeNo(index as u64 + 2), FileType::RegularFile, file.modified);
        // Fewer than its size wants: so programs that copy files ask where its holes are.
        let blocks = size.min(file.disk.image().summary().data).div_ceil(512);
        FileAttr { size, blocks, perm: self.mode, nlink: 1, ..attributes }
    }

    fn folder(&self) -> FileAttr {
        let modified = self.files.first().map_or(SystemTime::UNIX_EPOCH, |file| file.modified);
        // Who may read may enter.
        let perm = self.mode | (self.mode >> 2 & 0o111);
        FileAttr { perm, nlink: 2, ..self.common(INodeNo::ROOT, FileType::Directory, modified) }
    }

    fn common(&self, ino: INodeNo, kind: FileType, time: SystemTime) -> FileAttr {
        let (uid, gid) = self.owner;
        let (atime, mtime, ctime, crtime) = (time, time, time, time);
        let (size, blocks, perm, nlink, rdev, blksize, flags) = (0, 0, 0, 0, 0, 128 << 10, 0);
        #[rustfmt::skip]
        return FileAttr {
            ino, size, blocks, atime, mtime, ctime, crtime, kind, perm, nlink, uid, gid, rdev, blksize, flags,
        };
    }

    /// Tells what is wrong with an image, each place once, and gives what the reader gets for it.
    fn failed(&self, file: &MountedFile, error: &ImageError) -> Errno {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (file.image.clone(), error.offset);
        let is_news = error.kind != ErrorKind::Cancelled && told.len() < TOLD && told.insert(place);
        if is_news {
            say(&format!("{}: {}", file.name, image_error(&file.image, error)));
        }
        Errno::EIO
    }
}

impl Filesystem for ImageFolder {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.files.iter().enumerate().find(|(_, file)| OsStr::new(&file.name) == name);
        match found.filter(|_| parent == INodeNo::ROOT) {
            Some((index, file)) => reply.entry(&TTL, &self.attributes(index, file), Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.file(inode) {
            Some(file) => reply.attr(&TTL, &self.attributes((inode.0 - 2) as usize, file)),
            None if inode == INodeNo::ROOT => reply.attr(&TTL, &self.folder()),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // What the kernel remembers of a file stays right.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(file) = self.file(inode) else { return reply.error(Errno::ENOENT) };
        // A part of what was asked for would be filled up with zeros: it is all or an error.
        match file.read(offset, size as usize) {
            Ok(bytes) => reply.data(&bytes),
            Err(e) => reply.error(self.failed(file, &e)),
        }
    }

    /// At each close.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn lseek(&self, _: &Request, inode: INodeNo, _: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let Some(file) = self.file(inode) else { return reply.error(Errno::ENOENT) };
        let (Ok(offset), libc::SEEK_DATA | libc::SEEK_HOLE) = (u64::try_from(offset), whence) else {
            return reply.error(Errno::EINVAL);
        };
        match ImageError::catch(|| file.seek(offset, whence == libc::SEEK_DATA)) {
            Ok(Some(at)) => reply.offset(i64::try_from(at).unwrap_or(i64::MAX)),
            Ok(None) => reply.error(Errno::ENXIO),
            Err(e) => reply.error(self.failed(file, &e)),
        }
    }

    fn readdir(&self, _: &Request, inode: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        if inode != INodeNo::ROOT {
            return reply.error(Errno::ENOTDIR);
        }
        let dots = [".", ".."].map(|name| (INodeNo::ROOT, FileType::Directory, name));
        let files = self.files.iter().zip(2..);
        let files = files.map(|(file, i)| (INodeNo(i), FileType::RegularFile, file.name.as_str()));
        let rest = dots.into_iter().chain(files).zip(1..).skip(usize::try_from(offset).unwrap_or(usize::MAX));
        for ((inode, kind, name), next) in rest {
            if reply.add(inode, next, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}

/// A mounted folder; unmounted when it is dropped, as far as that is possible.
pub(super) struct MountedFolder {
    session: BackgroundSession,
    dir: PathBuf,
}

impl MountedFolder {
    /// Mounts files at an empty folder, for this user, or for all.
    pub fn mount(files: Vec<MountedFile>, dir: &Path, for_all: bool) -> Result<MountedFolder, Error> {
        let failed = |what: String| Error::failed(format!("{}: {what}", dir.display()));
        let dir =
            dir.canonicalize().map_err(|e| failed(format!("cannot mount there: {e}; mkdir makes it")))?;
        let mut inside = dir.read_dir().map_err(|e| failed(format!("cannot mount there: {e}")))?;
        if inside.next().is_some() {
            return Err(failed(
                "not an empty folder: what is in it would be hidden; give another one".into(),
            ));
        }
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let folder = ImageFolder {
            files,
            owner: (uid.as_raw(), gid.as_raw()),
            mode: if for_all { 0o444 } else { 0o400 },
            told: Mutex::default(),
        };
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::RO,
            MountOption::NoExec,
            MountOption::NoAtime,
            MountOption::DefaultPermissions,
            MountOption::FSName("testboxctl".into()),
            MountOption::Subtype("testbox".into()),
        ];
        config.acl = if for_all { SessionACL::All } else { SessionACL::Owner };
        config.n_threads = Some(thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 16)));
        let session = Session::new(folder, &dir, &config).and_then(Session::spawn);
        let session = session.map_err(|e| failed(why_not(&e, for_all)))?;
        Ok(MountedFolder { session, dir })
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// True once somebody has unmounted it.
    pub fn is_over(&self) -> bool {
        self.session.guard.is_finished()
    }

    /// Unmounts it; why not, where it is in use.
    pub fn unmount(&self) -> Result<(), String> {
        match rustix::mount::unmount(&self.dir, UnmountFlags::empty()) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::PERM) => {
                let asked = Command::new("fusermount3").args(["-u", "--"]).arg(&self.dir).output();
                let asked = asked.map_err(|e| format!("cannot start fusermount3: {e}"))?;
                match asked.status.success() {
                    true => Ok(()),
                    false => Err(plain(String::from_utf8_lossy(&asked.stderr).trim())),
                }
            }
            Err(e) => Err(io::Error::from(e).to_string()),
        }
    }

    /// Waits for the last reader, after it was unmounted.
    pub fn join(self) -> Result<(), Error> {
        let dir = self.dir;
        let ended = self.session.join();
        ended.map_err(|e| Error::failed(format!("{}: the mount ended with an error: {e}", dir.display())))
    }
}

/// Why nothing can be mounted, with the cure.
fn why_not(error: &io::Error, for_all: bool) -> String {
    let cure = match error.kind() {
        _ if for_all && error.to_string().contains("user_allow_other") => "; root puts that word into it",
        io::ErrorKind::NotFound if !Path::new("/dev/fuse").exists() => {
            "; there is no /dev/fuse: 'modprobe fuse' as root"
        }
        io::ErrorKind::NotFound => "; without root it takes fusermount3: apt install fuse3",
        io::ErrorKind::PermissionDenied => "; may this user open /dev/fuse, and write in that folder?",
        _ => "",
    };
    format!("cannot mount there: {}{cure}", plain(with_sources(error).trim()))
}
