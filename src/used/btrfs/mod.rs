//! btrfs on one device: what its last transaction does not refer to is free.
//!
//! ```text
//!  superblock --system chunks--> chunk tree --> root tree --> device tree: unallocated space
//!                                                        \--> extent tree (block group tree): gaps between extents,
//!                                                              which the free space tree must know too
//! ```
//!
//! The file system is copy on write, and space that a transaction frees is written again only after the superblock of
//! that transaction is on the disk. So a superblock is consistent whether the file system was unmounted or not, unless
//! a log of later fsyncs waits to be replayed. Content that is written in place stands inside of extents.
//!
//! What the backup roots in the superblock point to is not kept: these are the three transactions before, whose space
//! may have been written again already. They are for file systems whose newest trees are damaged; where one of the trees
//! that tell what is in use is damaged, all of the volume counts as used, and the older trees with it.
//!
//! Format: the kernel's `include/uapi/linux/btrfs_tree.h`, and
//! <https://btrfs.readthedocs.io/en/latest/dev/On-disk-format.html>.
#![forbid(unsafe_code)]

mod bytes;
mod checksum;
mod chunk;
mod chunk_tree;
mod device;
mod doubt;
mod extent;
mod free_space;
mod node;
mod superblock;
#[cfg(test)]
mod tests;
mod tree;

use crate::used::{Doubt, Free, Volume, VolumeAbout};
use bytes::NodeBytes;
use chunk::{Chunk, Chunks};
use doubt::{KIND, doubt};
use extent::Extents;
use free_space::FreeRuns;
use node::{BtrfsRoot, Key};
use std::ops::Range;
use superblock::{BtrfsSuperblock, PRIMARY};
use tree::Trees;

const EXTENT_TREE: u64 = 2;
const DEVICE_TREE: u64 = 4;
const FREE_SPACE_TREE: u64 = 10;
const BLOCK_GROUP_TREE: u64 = 11;
const ROOT_ITEM: u8 = 132;

/// Bytes of the device that no extent is ever in: boot loaders may live in the first MiB (`BTRFS_DEVICE_RANGE_RESERVED`),
/// and each copy of the superblock has the stripe of 64 KiB to itself that it begins (`BTRFS_STRIPE_LEN`).
const RESERVED: [Range<u64>; 3] =
    [0..1 << 20, 64 << 20..(64 << 20) + PRIMARY, 256 << 30..(256 << 30) + PRIMARY];

/// See [`crate::used::Parser`].
///
/// Bounded on hostile input: no more nodes are read than the volume can hold, one node of each level of one tree is kept
/// in memory, and 128 bytes for each of at most 262,144 chunks.
///
/// # Errors
/// More than one device, anything but chunks in one or two copies, a log, a feature that is not known to be harmless, or
/// anything that does not agree with the rest.
pub fn parse(volume: &Volume<'_>, free: &mut Free) -> Result<Option<VolumeAbout>, Doubt> {
    let Some(superblock) = BtrfsSuperblock::read(volume)? else { return Ok(None) };
    let mut trees = Trees::new(volume, &superblock);
    let (chunks, device) = chunk_tree::read(&superblock, &mut trees)?;
    let roots = Roots::read(&superblock, &chunks, &mut trees)?;

    let mut add = |range| add_unreserved(free, range);
    device::check(&chunks, &device, roots.device, &mut trees, &mut add)?;

    let mut gaps = FreeRuns::default();
    let mut extents = Extents::new(&chunks, &superblock, |chunk: &Chunk, range: Range<u64>| {
        gaps.add(range.clone());
        // The chunk tree is what nothing can be read without: its chunks are few, small and kept whole.
        if !chunk.is_system() {
            let (from, to) = (range.start - chunk.start, range.end - chunk.start);
            chunk.copies().iter().for_each(|copy| add(copy + from..copy + to));
        }
    });
    let all = Key::MIN..=Key::MAX;
    trees.walk(&chunks, roots.extent, all.clone(), |key, item| extents.item(key, item))?;
    if let Some(root) = roots.block_group {
        trees.walk(&chunks, root, all, |key, item| extents.block_group(key, item))?;
    }
    extents.finish()?;
    if let Some(root) = roots.free_space {
        free_space::check(&chunks, root, superblock.sector, &mut trees, gaps)?;
    }
    superblock.fits(volume)?;
    Ok(Some(VolumeAbout { kind: KIND, label: superblock.label.clone() }))
}

/// Adds a range of the device without what is reserved in it.
fn add_unreserved(free: &mut Free, mut range: Range<u64>) {
    for reserved in RESERVED {
        free.add(range.start..range.end.min(reserved.start));
        range.start = range.start.max(reserved.end.min(range.end));
    }
    free.add(range);
}

/// The trees that tell what is in use.
struct Roots {
    extent: BtrfsRoot,
    device: BtrfsRoot,
    block_group: Option<BtrfsRoot>,
    free_space: Option<BtrfsRoot>,
}

impl Roots {
    fn read(superblock: &BtrfsSuperblock, chunks: &Chunks, trees: &mut Trees<'_>) -> Result<Self, Doubt> {
        let wanted = [EXTENT_TREE, DEVICE_TREE, BLOCK_GROUP_TREE, FREE_SPACE_TREE];
        let mut found = [None; 4];
        let keys = Key::new(EXTENT_TREE, ROOT_ITEM, 0)..=Key::new(BLOCK_GROUP_TREE, ROOT_ITEM, 0);
        trees.walk(chunks, superblock.root_tree, keys, |key, item| {
            let place = wanted.iter().position(|tree| key == Key::new(*tree, ROOT_ITEM, 0));
            if let Some(root) = place.and_then(|place| found.get_mut(place)) {
                // struct btrfs_root_item
                let b = NodeBytes(item);
                *root = Some(BtrfsRoot {
                    tree: key.object,
                    at: b.u64(176)?,
                    level: b.u8(238)?,
                    generation: b.u64(160)?,
                });
            }
            Ok(())
        })?;
        let [extent, device, block_group, free_space] = found;
        let missing = |tree| doubt(format!("its {tree} tree is missing"));
        if superblock.block_group_tree && block_group.is_none() {
            return Err(missing("block group"));
        }
        if superblock.free_space_tree && free_space.is_none() {
            return Err(missing("free space"));
        }
        Ok(Roots {
            extent: extent.ok_or_else(|| missing("extent"))?,
            device: device.ok_or_else(|| missing("device"))?,
            block_group: block_group.filter(|_| superblock.block_group_tree),
            free_space: free_space.filter(|_| superblock.free_space_tree),
        })
    }
}
