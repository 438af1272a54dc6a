//! Who an open disk is. A kernel name is looked up anew by each open, and can mean another disk than when the disks were
//! listed; a descriptor cannot. So a disk is identified once more from the device number of its descriptor.
#![forbid(unsafe_code)]

use super::{Disk, read_disk};
use std::path::Path;
use std::{fs, io};

impl Disk {
    /// The whole disk with this device number (major, minor; `None` for what is not a block device), as sysfs shows it
    /// now (`/sys/dev/block/MAJOR:MINOR`, Documentation/ABI/stable/sysfs-dev).
    ///
    /// # Errors
    /// Where sysfs has no such device, or it is not a whole disk with a medium.
    pub fn of_number(sysfs: &Path, dev: &Path, number: Option<(u32, u32)>) -> io::Result<Disk> {
        let (major, minor) = number.ok_or_else(|| io::Error::other("it is not a block device"))?;
        let dir = fs::canonicalize(sysfs.join(format!("dev/block/{major}:{minor}")))?;
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let disk = read_disk(&fs::canonicalize(sysfs)?, &dir, name, dev).map_err(io::Error::other)?;
        disk.ok_or_else(|| io::Error::other("it is hidden, or has no medium"))
    }

    /// What tells the disk that was `opened` from this one, which was listed; `None` where both are the same disk. The
    /// size is not looked at: a disk can be resized. Nor is the kernel name: it is what may have changed.
    pub fn difference(&self, opened: &Disk) -> Option<&'static str> {
        if self.identity != opened.identity {
            return Some("it has another identity");
        }
        if self.location != opened.location {
            return Some("it is at another location");
        }
        None
    }
}
