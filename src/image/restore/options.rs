//! How an image is written onto a disk.
#![forbid(unsafe_code)]

use crate::image::restore::memory::MemberMemory;
use crate::types::{Delta, FreeSpace, ReadTwice};

/// How to restore.
#[derive(Clone, Debug, Default)]
pub struct RestoreOptions {
    /// Threads that inflate; 0 is one per core.
    pub threads: usize,
    /// Whether what the disk holds is read first, and written only where it differs.
    pub delta: Delta,
    /// What becomes of the space that was unallocated when the disk was imaged.
    pub free: FreeSpace,
    /// Where members wait that were proven before the first write.
    pub memory: MemberMemory,
    /// Whether members that find no room there are read and proven before the first write all the same.
    pub read_twice: ReadTwice,
    /// Bytes after which what was written is flushed and read back; `None` for what suits the disk.
    pub batch: Option<u64>,
    /// Whether the last partition, where it is one that can, grows up to the end of a larger disk: its entry in the table. Its
    /// file system stays as it is.
    pub grow: bool,
}
