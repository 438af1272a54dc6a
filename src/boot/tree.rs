//! The tree that TFTP serves, for reading alone.

use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Everything below one folder.
#[derive(Debug)]
pub struct TftpTree {
    root: OwnedFd,
    path: PathBuf,
}

/// A file that was found.
#[derive(Debug)]
pub struct TreeFile {
    /// Open for reading.
    pub file: File,
    /// Its size in bytes.
    pub size: u64,
    /// Its path below the root without symbolic links, where the system tells.
    pub real: Option<String>,
}

impl TftpTree {
    /// The tree below this folder.
    ///
    /// # Errors
    /// Those of open(2); it is not a folder.
    pub fn open(root: &Path) -> io::Result<TftpTree> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = root.canonicalize()?;
        Ok(TftpTree { root: rustix::fs::open(&path, flags, Mode::empty())?, path })
    }

    /// Opens a file. A symbolic link may lead to another place of the tree, and not out of it; a FIFO or a device does not
    /// block or act.
    ///
    /// # Errors
    /// Those of openat2(2), EXDEV for what leads out; `InvalidInput` for what is no regular file.
    pub fn get(&self, path: &str) -> io::Result<TreeFile> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let fd = rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve)?;
        let about = rustix::fs::fstat(&fd)?;
        if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let real = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok();
        let real = real.and_then(|real| Some(real.strip_prefix(&self.path).ok()?.to_str()?.to_owned()));
        Ok(TreeFile { file: fd.into(), size: u64::try_from(about.st_size).unwrap_or(0), real })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_in_the_tree_and_devices_are_no_files() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tftp");
        fs::create_dir_all(root.join("a/pxelinux.cfg")).unwrap();
        fs::write(dir.path().join("secret"), "x").unwrap();
        fs::write(root.join("a/pxelinux.cfg/0A2A0114"), "token").unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink(dir.path().join("secret"), root.join("far")).unwrap();
        symlink("a/pxelinux.cfg/0A2A0114", root.join("in")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, root.join("fifo"), FileType::Fifo, 0o644.into(), 0).unwrap();
        let tree = TftpTree::open(&root).unwrap();
        for path in ["out", "far", "../secret", "fifo", "a", "absent", "/etc/passwd"] {
            assert!(tree.get(path).is_err(), "{path}");
        }
        let found = tree.get("in").unwrap();
        assert_eq!((found.size, found.real.as_deref()), (5, Some("a/pxelinux.cfg/0A2A0114")));
    }
}
