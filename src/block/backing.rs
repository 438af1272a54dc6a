//! Whether a regular file is the disk of somebody else at this moment.

use nix::fcntl::{FcntlArg, fcntl};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Which file: device and inode of fstat(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    dev: u64,
    ino: u64,
}

impl FileId {
    /// That of an open file.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn of(file: &File) -> io::Result<FileId> {
        file.metadata().map(|about| FileId::from(&about))
    }
}

impl From<&fs::Metadata> for FileId {
    fn from(about: &fs::Metadata) -> Self {
        FileId { dev: about.dev(), ino: about.ino() }
    }
}

/// `struct loop_info64` of `linux/loop.h`.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `LOOP_GET_STATUS64`.
mod ioctl {
    nix::ioctl_read_bad!(loop_get_status64, 0x4c05, super::LoopInfo);
}

/// Who uses a regular file as a disk: the name of a loop device, or what else it is in words. `None` where nobody is
/// found; what other hosts do with a file of a network share cannot be seen.
///
/// # Errors
/// `/proc` or `/sys` cannot be read.
pub fn user_of(file: &File) -> io::Result<Option<String>> {
    let id = FileId::of(file)?;
    if let Some(device) = loop_device_of(id, Path::new("/sys/block"), Path::new("/dev")) {
        return Ok(Some(format!("{device} is a loop device of it")));
    }
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    if is_swap(id, &swaps) {
        return Ok(Some("it is swapped on".into()));
    }
    Ok(is_locked(file)
        .then(|| "another program holds a lock on it, as a running virtual machine does".into()))
}

/// The loop device over a file. Its device node tells which file that is; where it cannot be asked, sysfs has a path.
fn loop_device_of(id: FileId, sys: &Path, dev: &Path) -> Option<String> {
    for entry in fs::read_dir(sys).ok()?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(path) = fs::read_to_string(entry.path().join("loop/backing_file")) else { continue };
        let backing = backing_of(&dev.join(&name))
            .or_else(|| fs::metadata(path.trim_end_matches('\n')).ok().map(|about| FileId::from(&about)));
        if backing == Some(id) {
            return Some(name);
        }
    }
    None
}

/// The file below a loop device, as its driver says; `None` for what is not one, or cannot be asked.
pub fn backing_of(device: &Path) -> Option<FileId> {
    let device = File::open(device).ok()?;
    // SAFETY: all of LoopInfo are integers, for which zeros are values.
    let mut info: LoopInfo = unsafe { std::mem::zeroed() };
    // SAFETY: LOOP_GET_STATUS64 writes one loop_info64 to the address that it is given.
    unsafe { ioctl::loop_get_status64(device.as_raw_fd(), &mut info) }.ok()?;
    Some(FileId { dev: info.device, ino: info.inode })
}

/// True for a file in the text of `/proc/swaps`. A space in a path is `\040` there.
fn is_swap(id: FileId, swaps: &str) -> bool {
    let paths = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    paths
        .filter_map(|path| fs::metadata(path.replace("\\040", " ")).ok())
        .any(|about| about.is_file() && FileId::from(&about) == id)
}

/// True where somebody else holds a POSIX or OFD lock on any byte of the file.
fn is_locked(file: &File) -> bool {
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // A file system without locks has none.
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock)).is_ok() && lock.l_type != libc::F_UNLCK as i16
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_file_that_nobody_uses_has_no_user() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(user_of(&file).unwrap(), None);
    }

    #[test]
    fn a_lock_of_somebody_else_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        fs::write(&path, [0; 4096]).unwrap();
        let holder = File::options().read(true).write(true).open(&path).unwrap();
        let lock = libc::flock {
            l_type: libc::F_RDLCK as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: 100,
            l_len: 1,
            l_pid: 0,
        };
        fcntl(&holder, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
        let other = File::options().read(true).write(true).open(&path).unwrap();
        assert!(user_of(&other).unwrap().unwrap().contains("lock"));
        drop(holder);
        assert_eq!(user_of(&other).unwrap(), None);
    }

    /// sysfs as it is where the device node cannot be asked.
    #[test]
    fn the_path_of_sysfs_counts_where_the_device_cannot_be_asked() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk");
        fs::write(&disk, b"x").unwrap();
        fs::create_dir_all(dir.path().join("sys/loop3/loop")).unwrap();
        fs::create_dir_all(dir.path().join("sys/loop4")).unwrap();
        fs::write(dir.path().join("sys/loop3/loop/backing_file"), format!("{}\n", disk.display())).unwrap();
        let find = |path: &Path| {
            let id = FileId::from(&fs::metadata(path).unwrap());
            loop_device_of(id, &dir.path().join("sys"), &dir.path().join("dev"))
        };
        assert_eq!(find(&disk).as_deref(), Some("loop3"));
        fs::write(dir.path().join("other"), b"x").unwrap();
        assert_eq!(find(&dir.path().join("other")), None);
    }

    #[test]
    fn loop_a_backing_file_is_found_by_any_of_its_names() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk");
        fs::write(&disk, vec![0; 1 << 20]).unwrap();
        let run = |words: &[&str]| {
            let output = Command::new("losetup").args(words).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let device = run(&["--find", "--show", disk.to_str().unwrap()]);
        fs::rename(&disk, dir.path().join("renamed")).unwrap();
        let found = user_of(&File::open(dir.path().join("renamed")).unwrap()).unwrap();
        run(&["--detach", &device]);
        assert!(found.unwrap().starts_with(device.trim_start_matches("/dev/")));
    }
}
