//! What every file of this room needs: checksums, doubts.
#![forbid(unsafe_code)]

use crate::used::Doubt;
use crate::used::sums::agree;

/// What it is called in [`VolumeAbout`](crate::used::VolumeAbout) and [`Doubt`].
pub const KIND: &str = "xfs";
/// Unit of disk addresses and of the log, in bytes, whatever the sector size.
pub const BASIC_BLOCK: u64 = 512;

/// A doubt about a volume of this kind.
pub fn doubt(why: impl Into<String>) -> Doubt {
    Doubt::new(KIND, why)
}

/// Whether the CRC32C of `bytes` is the one at `at` in them (little-endian; it counts as zero in the sum).
pub fn checksum_matches(bytes: &[u8], at: usize) -> bool {
    let (Some(before), Some(stored), Some(after)) =
        (bytes.get(..at), bytes.get(at..at + 4), bytes.get(at + 4..))
    else {
        return false;
    };
    let sum = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(before), &[0; 4]), after);
    agree(&sum.to_le_bytes()[..], stored)
}
