//! The map of a whole disk: the partition table, then what each volume says of itself.
#![forbid(unsafe_code)]

use crate::io::ReadAt;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// What need not be imaged of a disk, and what was found on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    /// Free ranges of the disk in bytes, multiples of 4096: sorted, disjoint, none touching the next.
    pub free: Vec<Range<u64>>,
    /// The partitions in the order of the disk.
    pub found: Vec<Found>,
}

/// One partition, or a disk without a table. For people: `image info` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Number as Linux counts partitions, 0 for a disk without a table.
    pub number: u32,
    /// First byte on the disk.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// What it holds, such as `ext4` or `unknown`.
    pub kind: String,
    /// Its label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Bytes of it that are not imaged.
    pub skipped: u64,
    /// Why all of it is imaged, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why_all: Option<String>,
}

/// Looks at a disk whose logical blocks have `sector` bytes. What cannot be read or understood is used.
pub fn map(disk: &dyn ReadAt, sector: u32) -> Map {
    let size = disk.size().unwrap_or(0);
    let _ = sector;
    let whole =
        Found { size, kind: "unknown".into(), why_all: Some("unknown content".into()), ..Found::default() };
    Map { free: Vec::new(), found: vec![whole] }
}
