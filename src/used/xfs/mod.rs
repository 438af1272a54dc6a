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
mod bytes;
mod group;
mod log;
mod superblock;
mod system;

use super::{Doubt, Free, Volume, VolumeAbout};
use crate::bytes::be32;
use bytes::{BASIC_BLOCK, KIND, doubt};
use superblock::XfsSuperblock;
use system::XfsSystem;

/// The [`Parser`](super::Parser) of XFS.
///
/// # Errors
/// Why the file system is imaged whole.
pub fn parse(volume: &Volume<'_>, free: &mut Free) -> Result<Option<VolumeAbout>, Doubt> {
    let Some(start) = volume.peek(0, BASIC_BLOCK as usize) else { return Ok(None) };
    if be32(&start, 0) != superblock::MAGIC {
        return Ok(None);
    }
    let fs = XfsSuperblock::read(volume, &start)?;
    let head = log::clean_head(volume, &fs)?;
    let system = XfsSystem { volume, fs: &fs, head };
    system.check_written(fs.lsn, "the superblock")?;

    let mut counted = 0u64;
    for number in 0..fs.geometry.groups {
        counted = counted.saturating_add(group::read(&system, number, free)?);
    }
    if counted != fs.free_blocks {
        return Err(doubt(format!(
            "its superblock counts {} free blocks, its allocation groups {counted}: `xfs_repair` is needed",
            fs.free_blocks
        )));
    }
    Ok(Some(VolumeAbout { kind: KIND, label: fs.label.clone() }))
}
