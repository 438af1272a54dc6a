//! Which bytes of a disk are unallocated: read from partition tables and file systems, so that they need not be imaged.
//!
//! ```text
//!  disk --partition table--> volumes --one parser each--> free ranges + what it is  --+--> Map
//!                                  \-- any doubt: all of the volume is used, and why --/
//! ```
//!
//! The rule that all of it follows: a byte is used unless a file system that is provably consistent says that it is
//! free. Disk contents are hostile input: parsers are total, bounded in memory and time, and forbid `unsafe`.
#![forbid(unsafe_code)]

mod beyond;
mod bits;
pub mod btrfs;
mod clusters;
mod content;
mod end;
pub mod exfat;
pub mod ext4;
pub mod fat;
mod fixed;
#[cfg(test)]
mod fixture;
mod free;
pub(crate) mod gpt;
mod growable;
mod look;
mod lvm;
mod map;
mod mbr;
pub mod ntfs;
pub mod partitions;
pub(crate) mod relocate;
mod signatures;
mod sums;
mod survey;
pub mod swap;
mod table;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod types;
mod volume;
pub mod xfs;

pub use beyond::Beyond;
pub use content::DiskContent;
pub use free::Free;
pub use growable::{FileSystem, Growable, file_system_end, growable};
pub use look::LookOptions;
pub use map::{FoundVolume, Map, map, map_leaving_out};
pub use relocate::{Growth, LastPartition};
#[cfg(feature = "testing")]
pub use relocate::{Movable, Moved, Patch, growth};
pub use survey::{Used, is_in_order, survey, survey_beside};
pub use volume::{Doubt, Volume};

/// What a parser found on a volume that it vouches for; the free ranges are in the [`Free`] that it was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeAbout {
    /// File system, such as `ext4`.
    pub kind: &'static str,
    /// Its label as it stands there, without control characters; `None` where it has none.
    pub label: Option<String>,
}

/// A parser: free ranges of a volume, in bytes from its beginning.
///
/// `Ok(None)`: this is not my format. `Ok(Some)`: it is, it is consistent, and `free` holds what it does not use.
/// `Err`: it is my format, and something about it is in doubt: all of the volume is used, whatever `free` holds by now.
pub type Parser = fn(&Volume<'_>, &mut Free) -> Result<Option<VolumeAbout>, Doubt>;
