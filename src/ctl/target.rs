//! The files that `testboxctl` writes, and the one rule for all of them: nothing is overwritten, replaced or removed
//! that the admin has not named for exactly that.
//!
//! What is new is made with O_EXCL. What is there is opened without O_CREAT, O_TRUNC and following of links, looked at
//! through that descriptor, and truncated only then. A name is removed only while it is still that of the file that was
//! looked at.

use super::Error;
use crate::block::{DirectFile, FileId, user_of};
use crate::image::{FileKind, Image, file_kind};
use rustix::fs::{CWD, FlockOperation, OFlags, RenameFlags};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Other files of the same command, with what they are to it: none of them may be written.
pub(super) type Others<'a> = &'a [(&'a str, FileId)];

/// An open file and its name.
#[derive(Debug)]
pub(super) struct ImageTarget {
    pub path: PathBuf,
    pub file: File,
    pub id: FileId,
}

/// What a file is to testbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TargetContent {
    /// A whole image.
    Image,
    /// An image that is cut or damaged; an empty file, with which every image begins.
    Unfinished,
    /// Another gzip file.
    Gzip,
    /// Something else.
    Other,
}

impl ImageTarget {
    /// Makes a file that must not be there.
    pub fn create(path: &Path, mode: u32) -> Result<ImageTarget, Error> {
        // O_EXCL follows no link either.
        let opened = OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(path);
        match opened {
            Ok(file) => ImageTarget::new(path, file),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                Err(failed(path, "it is there already, and was left alone"))
            }
            Err(e) => Err(failed(path, &format!("cannot create it: {e}"))),
        }
    }

    /// Opens a regular file that is there, to be written where `write` says so; `None` where there is nothing.
    pub fn open(path: &Path, write: bool) -> Result<Option<ImageTarget>, Error> {
        let not_regular = || failed(path, "it is there and not a regular file: give another name");
        // Opening a device may act on it already.
        if fs::symlink_metadata(path).is_ok_and(|there| !there.is_file() && !there.is_symlink()) {
            return Err(not_regular());
        }
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = OpenOptions::new().read(true).write(write).custom_flags(flags.bits() as i32).open(path);
        let file = match opened {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) if e.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                return Err(failed(path, "it is a symbolic link: name the file itself"));
            }
            Err(e) => return Err(failed(path, &format!("cannot open it: {e}"))),
        };
        let target = ImageTarget::new(path, file)?;
        if !target.about()?.is_file() {
            return Err(not_regular());
        }
        Ok(Some(target))
    }

    fn new(path: &Path, file: File) -> Result<ImageTarget, Error> {
        let id = FileId::of(&file).map_err(|e| failed(path, &format!("cannot look at it: {e}")))?;
        Ok(ImageTarget { path: path.to_owned(), file, id })
    }

    fn about(&self) -> Result<fs::Metadata, Error> {
        self.file.metadata().map_err(|e| failed(&self.path, &format!("cannot look at it: {e}")))
    }

    /// Refuses what is something else to this command, or somebody's disk at this moment.
    pub fn check(&self, others: Others) -> Result<(), Error> {
        if let Some((role, _)) = others.iter().find(|(_, id)| *id == self.id) {
            return Err(failed(&self.path, &format!("it is {role} itself: give another name")));
        }
        match user_of(&self.file) {
            Ok(None) => Ok(()),
            Ok(Some(user)) => Err(failed(&self.path, &format!("it is in use: {user}; it was left alone"))),
            Err(e) => Err(failed(&self.path, &format!("cannot find out who uses it: {e}"))),
        }
    }

    /// [`ImageTarget::check`] for a file whose bytes will change: whoever knows it by a second name would lose it too.
    pub fn check_bytes(&self, others: Others) -> Result<(), Error> {
        self.check(others)?;
        match self.about()?.nlink() {
            0 | 1 => Ok(()),
            n => Err(failed(
                &self.path,
                &format!(
                    "it has {n} names (hard links), and would change under all of them: it was left alone"
                ),
            )),
        }
    }

    /// Takes the file for this process alone, as far as `testboxctl` is concerned.
    pub fn lock(&self) -> Result<(), Error> {
        // Any other error: a share that has no locks.
        let locked = rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive);
        if locked == Err(Errno::WOULDBLOCK) || !self.is_named() {
            // Without the name: published between our opening and our lock, it is somebody's image now.
            return Err(failed(&self.path, "another testboxctl is writing it"));
        }
        Ok(())
    }

    /// True while the name is still that of this file.
    pub fn is_named(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|there| FileId::from(&there) == self.id)
    }

    /// Sets the mode, whatever it was.
    pub fn set_mode(&self, mode: u32) -> Result<(), Error> {
        let set = self.file.set_permissions(Permissions::from_mode(mode));
        set.map_err(|e| failed(&self.path, &format!("cannot set its mode to {mode:o}: {e}")))
    }

    /// Writes all of a new file, and makes that durable.
    pub fn fill(&self, bytes: &[u8]) -> Result<(), Error> {
        let written = (&self.file).write_all(bytes).and_then(|()| self.file.sync_all());
        written.map_err(|e| failed(&self.path, &format!("cannot write it: {e}")))
    }

    /// Gives the file another name for good, in place of whatever has that name now.
    pub fn replace(&self, name: &Path) -> Result<(), Error> {
        let renamed = fs::rename(&self.path, name).and_then(|()| sync_folder(name));
        renamed.map_err(|e| failed(name, &format!("cannot write it: {e}")))
    }

    /// What it holds.
    pub fn content(&self) -> Result<TargetContent, Error> {
        let unread = |e: String| failed(&self.path, &format!("cannot read what it holds: {e}"));
        if self.about()?.len() == 0 {
            return Ok(TargetContent::Unfinished);
        }
        let file = self.file.try_clone().map_err(|e| unread(e.to_string()))?;
        let file = Arc::new(DirectFile::new(file, Err(io::ErrorKind::Unsupported.into())));
        Ok(match file_kind(&*file).map_err(|e| unread(e.to_string()))? {
            FileKind::Testbox if Image::open(file).is_ok() => TargetContent::Image,
            FileKind::Testbox => TargetContent::Unfinished,
            FileKind::Gzip => TargetContent::Gzip,
            FileKind::Other => TargetContent::Other,
        })
    }

    /// Removes the file that a command has made and does not keep. Best effort: the command's own error is what counts.
    pub fn remove(&self) {
        if self.is_named() {
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Gives the file another name for good. `replaces` is what is there and may go; without it nothing may be there.
    pub fn publish(&self, name: &Path, replaces: Option<&ImageTarget>) -> Result<(), Error> {
        let part = self.path.display();
        let failed = |what: &str, e: io::Error| {
            failed(name, &format!("cannot {what}: {e}; the image is whole in {part}"))
        };
        let changed = || io::Error::other("it is another file by now");
        if !self.is_named() {
            return Err(failed("rename the image to it", changed()));
        }
        let renamed = match replaces {
            Some(old) if old.is_named() => fs::rename(&self.path, name),
            Some(_) => Err(changed()),
            None => rename_new(&self.path, name),
        };
        renamed.map_err(|e| failed("rename the image to it", e))?;
        sync_folder(name).map_err(|e| failed("make its name durable", e))
    }
}

/// Renames to a name that must be free.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // NFS and other file systems without this flag: link(2) replaces nothing either.
        Err(Errno::INVAL | Errno::NOSYS) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        renamed => Ok(renamed?),
    }
}

/// fsync of the folder that holds `path`.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn failed(path: &Path, what: &str) -> Error {
    Error::failed(format!("{}: {what}", path.display()))
}
