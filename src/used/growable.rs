//! Whether the last partition of a disk can grow on a larger one, with what is in it: a file system that its own tool grows,
//! and that is consistent.
#![forbid(unsafe_code)]

use super::relocate::last_partition;
use super::{LastPartition, Volume, map};
use crate::io::ReadAt;
use std::fmt;

/// A file system that its own tool makes larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// ext2, ext3 and ext4.
    Ext4,
    /// XFS.
    Xfs,
    /// btrfs, of one device.
    Btrfs,
    /// NTFS.
    Ntfs,
}

impl FileSystem {
    fn of(kind: &str) -> Option<FileSystem> {
        Some(match kind {
            "ext2" | "ext3" | "ext4" => FileSystem::Ext4,
            "xfs" => FileSystem::Xfs,
            "btrfs" => FileSystem::Btrfs,
            "ntfs" => FileSystem::Ntfs,
            _ => return None,
        })
    }

    /// Its name: the one that the kernel mounts it by, and its module's.
    pub fn as_str(self) -> &'static str {
        match self {
            FileSystem::Ext4 => "ext4",
            FileSystem::Xfs => "xfs",
            FileSystem::Btrfs => "btrfs",
            FileSystem::Ntfs => "ntfs",
        }
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A partition that can grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Growable {
    /// Which.
    pub partition: LastPartition,
    /// What is in it.
    pub file_system: FileSystem,
    /// Bytes of the disk that it is on.
    pub disk_size: u64,
}

/// Byte behind the file system of a partition from byte `start` to byte `end` of a disk; `None` where none is found.
pub fn file_system_end(disk: &dyn ReadAt, start: u64, end: u64, sector: u32) -> Option<u64> {
    let volume = Volume::new(disk, start, end.checked_sub(start)?, sector);
    start.checked_add(super::end::of(&volume)?)
}

/// The partition of this disk that can grow. It reads what tells used blocks, of all file systems.
///
/// # Errors
/// Why none can.
pub fn growable(disk: &dyn ReadAt, sector: u32) -> Result<Growable, String> {
    let size = disk.size().map_err(|e| e.to_string())?;
    let partition = last_partition(disk, size, sector)?;
    let map = map(disk, sector);
    let whole = map.found.iter().find(|found| found.number == 0).and_then(|found| found.why_all.clone());
    let is_it = |start: u64, end: u64| (start, end) == (partition.start, partition.end);
    let found = map.found.iter().find(|f| f.logical_volume.is_none() && is_it(f.start, f.start + f.size));
    let found = found.ok_or_else(|| whole.unwrap_or_else(|| "its table says otherwise".into()))?;
    let named = |why: &str| format!("partition {}, the last one: {}: {why}", found.number, found.kind);
    if let Some(why) = &found.why_all {
        return Err(named(why));
    }
    let file_system = FileSystem::of(&found.kind)
        .ok_or_else(|| named("only ext2, ext3, ext4, XFS, btrfs and NTFS are grown"))?;
    Ok(Growable { partition, file_system, disk_size: size })
}
