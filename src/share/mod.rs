//! Files below the root of a share, seen through a trait so that tests can fail any operation.
//!
//! [`DirFiles`] is a real folder, `MemFiles` a share in memory that knows what a crash leaves behind, [`mount`]
//! brings a share here by NFS.
#![forbid(unsafe_code)]

mod dir;
#[cfg(any(test, feature = "testing"))]
mod mem;
pub mod mount;
mod name;
mod nfs_options;
pub mod ownership;
mod watched;

pub use dir::DirFiles;
#[cfg(any(test, feature = "testing"))]
pub use mem::{MemFiles, ShareFault, ShareOp, Survivors};
pub use name::{UnsafeName, safe_name};
pub use nfs_options::{BadOption, LONGEST_CACHE, NfsOptions, Version};
pub use watched::WatchedFiles;

use crate::io::{ReadAt, SyncWrite};
use crate::net::quota::Owner;
use jiff::Timestamp;
use std::io;
use std::sync::Arc;

/// A file that is kept open for appending.
pub trait Append: Send {
    /// Appends and makes that durable. Not atomic between NFS clients: what matters is read back.
    ///
    /// # Errors
    /// Those of the share; some of the bytes may be there then. Where the server has forgotten that the file is open, all
    /// further calls fail too.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// The operations that testbox needs on a share. Paths are relative to its root, with `/` between names.
///
/// Implementations never follow a symbolic link and never leave the root.
pub trait Files: Send + Sync {
    /// Opens a regular file for reading. Anything else (link, FIFO, device, folder) is `InvalidInput`.
    ///
    /// # Errors
    /// Those of the share; `NotFound`.
    fn open(&self, path: &str) -> io::Result<Arc<dyn ReadAt>>;
    /// Creates a file for writing; it must not exist. The name is durable only after [`Files::sync_dir`].
    ///
    /// # Errors
    /// Those of the share; `AlreadyExists`.
    fn create(&self, path: &str) -> io::Result<Box<dyn SyncWrite>>;
    /// Opens a file that is there to [go on](SyncWrite::resume_at) with it. Nothing of it changes before that. A file
    /// that has a second name is `InvalidInput`: it may be published by that.
    ///
    /// # Errors
    /// Those of the share; `NotFound`, and `Unsupported` on shares that cannot.
    fn reopen(&self, path: &str) -> io::Result<Box<dyn SyncWrite>> {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Appends to a file, which is made where it is missing, and makes that durable, a new name too. Not atomic
    /// between NFS clients: what matters is read back.
    ///
    /// # Errors
    /// Those of the share; some of the bytes may be there then.
    fn append(&self, path: &str, bytes: &[u8]) -> io::Result<()>;
    /// True where an append is whole and at the end, whoever else appends at the same time.
    fn appends_whole(&self) -> bool {
        false
    }
    /// Opens a file that is there for appending, for as long as the answer lives.
    ///
    /// # Errors
    /// Those of the share; `NotFound`, and `Unsupported` on shares that cannot.
    fn open_append(&self, path: &str) -> io::Result<Box<dyn Append>> {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Renames a file over whatever is there, or a folder. Durable after [`Files::sync_dir`] of both folders.
    ///
    /// # Errors
    /// Those of the share; `NotFound`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Gives a file a second name; `to` must not exist.
    ///
    /// # Errors
    /// Those of the share; `AlreadyExists`.
    fn hard_link(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file or an empty folder.
    ///
    /// # Errors
    /// Those of the share; `NotFound`.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Makes a folder; one that is there already is fine.
    ///
    /// # Errors
    /// Those of the share; something else has the name.
    fn make_dir(&self, path: &str) -> io::Result<()>;
    /// The names in a folder, sorted; those that are not UTF-8 are left out. `""` is the root.
    ///
    /// # Errors
    /// Those of the share; `NotFound`.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;
    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// Those of the share; names may be lost then.
    fn sync_dir(&self, path: &str) -> io::Result<()>;
    /// Bytes that an unprivileged writer may still use in a folder. A server whose file system limits a folder by a
    /// project quota (XFS, ext4) answers with what that leaves; quotas of users and groups it does not tell:
    /// [`quota`](crate::net::quota) does.
    ///
    /// # Errors
    /// Those of the share.
    fn free_bytes(&self, path: &str) -> io::Result<u64>;
    /// True where both names are of one file. A share that cannot tell says no.
    ///
    /// # Errors
    /// Those of the share; either is missing.
    fn is_same_file(&self, a: &str, b: &str) -> io::Result<bool> {
        let _ = (a, b);
        Ok(false)
    }
    /// Who owns a regular file, as the server shows it: whose quota it counts for.
    ///
    /// # Errors
    /// Those of the share; `NotFound`, and `InvalidInput` for anything else than a regular file.
    fn owner(&self, path: &str) -> io::Result<Owner>;

    /// The time by the clock of the server: the one that it stamps a file with that is made in `folder`, and removed again.
    ///
    /// # Errors
    /// Those of the share; `Unsupported` on shares that cannot tell.
    fn clock(&self, folder: &str) -> io::Result<Timestamp> {
        let _ = folder;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Bytes that a file takes on the disk, its holes not counted, where the share can tell; else its length.
    ///
    /// # Errors
    /// Those of [`Files::open`].
    fn allocated(&self, path: &str) -> io::Result<u64> {
        self.open(path)?.size()
    }

    /// True where a regular file of that name can be opened. `NotFound`, and `NotADirectory` on the way, are `false`.
    ///
    /// # Errors
    /// Any other error of [`Files::open`]: a share that does not answer must not look like a share without the file.
    fn exists(&self, path: &str) -> io::Result<bool> {
        match self.open(path) {
            Ok(_) => Ok(true),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Reads a whole file of at most `max` bytes.
    ///
    /// # Errors
    /// `FileTooLarge` for a longer one, so that a wrong file cannot fill the memory; and those of [`Files::open`].
    fn read_limited(&self, path: &str, max: usize) -> io::Result<Vec<u8>> {
        read_whole(&*self.open(path)?, path, max)
    }

    /// Replaces the contents of `path` so that a reader, and whoever comes after a power cut, sees the old or the new
    /// contents and nothing between: temporary file in the same folder, fsync, rename, fsync of the folder.
    ///
    /// The temporary name is fixed, `.<name>.tmp`, and a leftover of it is replaced: there must be one writer for each
    /// file.
    ///
    /// # Errors
    /// Before the rename the temporary file is removed as far as that works, and `path` is untouched.
    fn write_atomic(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let (folder, name) = split_parent(path)?;
        let temporary = join(folder, &format!(".{name}.tmp"));
        let replaced = fill_temporary(self, &temporary, bytes).and_then(|()| self.rename(&temporary, path));
        if let Err(e) = replaced {
            // Best effort: the error that matters is the first, and the next write replaces a leftover anyway.
            let _ = self.remove(&temporary);
            return Err(e);
        }
        self.sync_dir(folder)
    }

    /// Creates a file that must not be there, whole or not at all as far as a reader after a power cut can see.
    ///
    /// # Errors
    /// `AlreadyExists` where something of this name is there, which is left alone; and those of the share.
    fn create_new(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let (folder, name) = split_parent(path)?;
        let temporary = own_temporary(folder, name);
        // A link, unlike a rename, does not replace what somebody else has put there meanwhile.
        let linked = fill_temporary(self, &temporary, bytes).and_then(|()| self.hard_link(&temporary, path));
        // Its content is in place, or is not wanted.
        let _ = self.remove(&temporary);
        linked?;
        self.sync_dir(folder)
    }

    /// Removes a file or an empty folder where it is there, and says whether it was.
    ///
    /// # Errors
    /// Those of [`Files::remove`] but `NotFound`.
    fn remove_if_exists(&self, path: &str) -> io::Result<bool> {
        match self.remove(path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// Makes a temporary file, in place of one that a cut run has left.
fn fill_temporary<F: Files + ?Sized>(files: &F, path: &str, bytes: &[u8]) -> io::Result<()> {
    let mut file = match files.create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            files.remove(path)?;
            files.create(path)?
        }
        created => created?,
    };
    file.write_all(bytes)?;
    file.sync()
}

/// A temporary name of this process alone.
fn own_temporary(folder: &str, name: &str) -> String {
    join(folder, &format!(".{name}.{}.tmp", std::process::id()))
}

/// `name` in the folder `folder` (`""` for the root) as a path.
fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Splits a path into its names. `""` is the root itself.
///
/// `InvalidInput` for what could leave the root or mean something else on the way: absolute paths, `.`, `..`, empty
/// names, NUL.
fn components(path: &str) -> io::Result<Vec<&str>> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<&str> = path.split('/').collect();
    if names.iter().any(|n| n.is_empty() || *n == "." || *n == ".." || n.contains('\0')) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{path:?} is not a path in a share"),
        ));
    }
    Ok(names)
}

/// Splits a path into the path of its folder (`""` for the root) and its last name.
fn split_parent(path: &str) -> io::Result<(&str, &str)> {
    components(path)?;
    match path.rsplit_once('/') {
        Some(both) => Ok(both),
        None if path.is_empty() => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "the root of a share is not a file"))
        }
        None => Ok(("", path)),
    }
}

fn read_whole(file: &dyn ReadAt, path: &str, max: usize) -> io::Result<Vec<u8>> {
    let too_large =
        || io::Error::new(io::ErrorKind::FileTooLarge, format!("{path} is longer than {max} bytes"));
    let size = usize::try_from(file.size()?).map_err(|_| too_large())?;
    if size > max {
        return Err(too_large());
    }
    // One byte more than the size says: a file that grows meanwhile must not pass for a whole one.
    let mut bytes = vec![0; size.saturating_add(1).min(max.saturating_add(1))];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        if filled == bytes.len() {
            if filled > max {
                return Err(too_large());
            }
            let longer = filled.saturating_mul(2).saturating_add(1).min(max.saturating_add(1));
            bytes.resize(longer, 0);
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

#[cfg(test)]
mod tests;
