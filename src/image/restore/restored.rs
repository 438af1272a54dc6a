//! What a restore has come to.
#![forbid(unsafe_code)]

use crate::image::restore::boot_areas::TableFit;

/// A disk that was written, read back and found right. All sizes are bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Size of the content.
    pub disk_bytes: u64,
    /// Of it, zeros now: the image's zero runs, and its unallocated ones with [`FreeSpace::Zero`](crate::types::FreeSpace::Zero).
    pub zero_bytes: u64,
    /// Of it, what the disk did not give when it was imaged, zeroed.
    pub unreadable_bytes: u64,
    /// Of it, found on the disk and left alone.
    pub kept_bytes: u64,
    /// Of it, written; what makes a disk bootable always is.
    pub written_bytes: u64,
    /// Of it, what was unallocated, and was neither read, written nor compared: with the three above it makes the
    /// whole.
    pub left_bytes: u64,
    /// Of `left_bytes`, discarded; that proves nothing about what is there now.
    pub discarded_bytes: u64,
    /// Why not more was discarded.
    pub discard_error: Option<String>,
    /// What became of the partition table.
    pub table: TableFit,
    /// Bytes of the image file.
    pub image_bytes: u64,
    /// Bytes that were read of it, since it was opened.
    pub read_bytes: u64,
    /// The kernel did not take over the new partition table; the next boot will.
    pub reread_error: Option<String>,
}
