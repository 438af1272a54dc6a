//! XFS, versions 4 and 5 (with checksums).
//!
//! Sources: "XFS Algorithms & Data Structures" (xfs-documentation on kernel.org), and the structures in the kernel's
//! `fs/xfs/libxfs/xfs_format.h` and `xfs_log_format.h`. Numbers are big-endian, but for the checksums.
//!
//! ```text
//!  superblock --> log: was it unmounted cleanly?
//!            \--> each allocation group: copy of the superblock, AGF, AGI, AGFL
//!                                        \--> free space, as one btree by block and as another one by size
//! ```
//!
//! What the two btrees agree on is free; all else is used: headers, log, btrees, the blocks that wait in the AGFL for
//! growing btrees, and what lies behind the last group. A file system says of itself that it needs no replay by the
//! unmount record at the head of its log; anything else there, or a block that was written later than it, is a doubt.
#![forbid(unsafe_code)]

mod btree;
mod group;
mod log;
mod superblock;

use super::le::field;
use super::{About, Doubt, Free, Volume};
use crate::used::sums::agree;
use superblock::Superblock;

/// What it is called in [`About`] and [`Doubt`].
const KIND: &str = "xfs";
/// Unit of disk addresses and of the log, in bytes, whatever the sector size.
const BASIC_BLOCK: u64 = 512;

/// The [`Parser`](super::Parser) of XFS.
pub fn parse(volume: &Volume<'_>, free: &mut Free) -> Result<Option<About>, Doubt> {
    let Some(start) = volume.peek(0, BASIC_BLOCK as usize) else { return Ok(None) };
    if be32(&start, 0) != superblock::MAGIC {
        return Ok(None);
    }
    let fs = Superblock::read(volume, &start)?;
    let head = log::clean_head(volume, &fs)?;
    let system = System { volume, fs: &fs, head };
    system.check_written(fs.lsn, "the superblock")?;

    let mut counted = 0u64;
    for number in 0..fs.geometry.groups {
        counted = counted.saturating_add(group::read(&system, number, free)?);
    }
    if counted != fs.free_blocks {
        return Err(doubt(format!(
            "its superblock counts {} free blocks, its allocation groups {counted}: xfs_repair is needed",
            fs.free_blocks
        )));
    }
    Ok(Some(About { kind: KIND, label: fs.label.clone() }))
}

/// What all checks of metadata need.
struct System<'a> {
    volume: &'a Volume<'a>,
    fs: &'a Superblock,
    /// Log sequence number at which the next log record would be written.
    head: u64,
}

impl System<'_> {
    /// Nothing on the disk can be newer than the log: every change goes there first. Only version 5 records it.
    fn check_written(&self, lsn: u64, what: &str) -> Result<(), Doubt> {
        // All ones: never logged.
        if self.fs.checksums && lsn != u64::MAX && lsn > self.head {
            return Err(doubt(format!("{what} is newer than its log")));
        }
        Ok(())
    }
}

fn doubt(why: impl Into<String>) -> Doubt {
    Doubt::new(KIND, why)
}

/// Whether the CRC32C of `bytes` is the one at `at` in them (little-endian; it counts as zero in the sum).
fn checksum_matches(bytes: &[u8], at: usize) -> bool {
    let (Some(before), Some(stored), Some(after)) =
        (bytes.get(..at), bytes.get(at..at + 4), bytes.get(at + 4..))
    else {
        return false;
    };
    let sum = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(before), &[0; 4]), after);
    agree(&sum.to_le_bytes()[..], stored)
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(field(bytes, at))
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(field(bytes, at))
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(field(bytes, at))
}
