//! The superblock: what the last committed transaction was, and where its trees begin.
//!
//! Byte table: `struct btrfs_super_block` in the kernel's `fs/btrfs/fs.h`, features in `include/uapi/linux/btrfs.h`;
//! the rules are those of `btrfs_validate_super` in `fs/btrfs/disk-io.c`, and stricter.
#![forbid(unsafe_code)]

use super::bytes::NodeBytes;
use super::checksum::BtrfsChecksum;
use super::doubt::{KIND, doubt};
use super::node::{BtrfsRoot, MAX_LEVEL};
use crate::text;
use crate::used::fixed::is_boot_area;
use crate::used::{Doubt, Volume};

/// Byte of the volume where the superblock stands that a mount reads.
pub const PRIMARY: u64 = 64 << 10;
/// Bytes of it.
const SIZE: usize = 4096;
const MAGIC: &[u8] = b"_BHRfS_M";
/// Bytes where copies of it stand, if the device has them (`btrfs_sb_offset`). Every commit writes them all.
const COPIES: [u64; 2] = [64 << 20, 256 << 30];
/// Offset of the device item of this device in it.
const DEV_ITEM: usize = 0xc9;
/// Offset and size of the copy of the system chunks in it.
const SYSTEM_CHUNKS: (usize, usize) = (0x32b, 2048);

/// The only flag that a finished superblock has: written. Among the others are errors, seed device, metadata dump, and
/// changes of UUID, checksums and block group tree that were cut half way.
const FLAG_WRITTEN: u64 = 1;

const MIXED_BACKREF: u64 = 1 << 0;
const SKINNY_METADATA: u64 = 1 << 8;
const METADATA_UUID: u64 = 1 << 10;
/// Features that change nothing about where extents are, or that are handled here. Those of RAID5/6 and RAID1C3/4 stay
/// set after the last such chunk is gone: whether there is one is seen in the chunks.
const INCOMPAT: u64 = MIXED_BACKREF
    | 1 << 1 // default subvolume
    | 1 << 2 // mixed block groups
    | 1 << 3 // LZO
    | 1 << 4 // Zstandard
    | 1 << 5 // metadata blocks larger than a page
    | 1 << 6 // extended inode references
    | 1 << 7 // RAID5/6
    | SKINNY_METADATA
    | 1 << 9 // no hole extents
    | METADATA_UUID
    | 1 << 11; // RAID1C3/4
/// Known features that move or hide extents.
const REFUSED: [(u64, &str); 4] = [
    (1 << 12, "it is zoned"),
    (1 << 13, "it has extent tree v2"),
    (1 << 14, "it has a RAID stripe tree"),
    (1 << 16, "it has simple quotas"),
];
/// There is a free space tree, and it is up to date. Without the second bit the next mount makes it again.
const FREE_SPACE_TREE: u64 = 1 << 0 | 1 << 1;
const BLOCK_GROUP_TREE: u64 = 1 << 3;
const COMPAT_RO: u64 = FREE_SPACE_TREE
    | 1 << 2 // fs-verity
    | BLOCK_GROUP_TREE;

/// A `btrfs_dev_item`.
pub struct DevItem {
    pub id: u64,
    /// Bytes of the volume that are the file system's.
    pub total: u64,
    /// Bytes of it that chunks take.
    pub used: u64,
    pub uuid: [u8; 16],
    fsid: [u8; 16],
}

impl DevItem {
    pub fn parse(item: &[u8]) -> Result<Self, Doubt> {
        let b = NodeBytes(item);
        Ok(DevItem {
            id: b.u64(0)?,
            total: b.u64(8)?,
            used: b.u64(16)?,
            uuid: b.uuid(66)?,
            fsid: b.uuid(82)?,
        })
    }

    /// Whether both are of the same device, whatever is in use of it.
    pub fn same_device(&self, other: &DevItem) -> bool {
        (self.id, self.total, self.uuid, self.fsid) == (other.id, other.total, other.uuid, other.fsid)
    }
}

/// A superblock that was found to be right in itself.
pub struct BtrfsSuperblock {
    pub checksum: BtrfsChecksum,
    pub generation: u64,
    /// The UUID that users see.
    fsid: [u8; 16],
    /// The UUID in every node.
    pub metadata_uuid: [u8; 16],
    pub root_tree: BtrfsRoot,
    pub chunk_tree: BtrfsRoot,
    /// Bytes of all extents, each counted once, whatever the number of its copies.
    pub bytes_used: u64,
    /// Bytes.
    pub sector: u32,
    /// Bytes.
    pub node: u32,
    /// Metadata items instead of extent items may stand for nodes.
    pub skinny: bool,
    /// Block groups stand in a tree of their own.
    pub block_group_tree: bool,
    /// There is a free space tree that can be relied on.
    pub free_space_tree: bool,
    pub device: DevItem,
    /// The chunks that the chunk tree is in: key and chunk item, one after the other.
    pub system_chunks: Vec<u8>,
    pub label: Option<String>,
}

impl BtrfsSuperblock {
    /// `None`: not btrfs.
    pub fn read(volume: &Volume<'_>) -> Result<Option<Self>, Doubt> {
        match volume.peek(PRIMARY + 0x40, MAGIC.len()) {
            Some(magic) if magic == MAGIC => {}
            _ => return Ok(None),
        }
        let block = volume.read(KIND, PRIMARY, SIZE)?;
        let superblock = BtrfsSuperblock::parse(&block)?;
        if superblock.device.total > volume.size() {
            let (total, size) = (superblock.device.total, volume.size());
            return Err(doubt(format!("it has {total} bytes, but only {size} are here")));
        }
        Ok(Some(superblock))
    }

    /// What is fixed outside of it: see [`crate::used::fixed`].
    pub fn fits(&self, volume: &Volume<'_>) -> Result<(), Doubt> {
        if !is_boot_area(&volume.read(KIND, 0, PRIMARY as usize)?) {
            return Err(doubt(
                "its first 64 KiB are neither empty nor a boot loader: it may be an old one below encryption",
            ));
        }
        for at in COPIES.into_iter().filter(|at| at + SIZE as u64 <= self.device.total) {
            let copy = volume.read(KIND, at, SIZE)?;
            let b = NodeBytes(&copy);
            let same = b.slice(0x40, MAGIC.len())? == MAGIC
                && self.checksum.holds(&copy)
                && b.u64(0x30)? == at
                && b.uuid(0x20)? == self.fsid
                && b.u64(0x48)? == self.generation;
            if !same {
                return Err(doubt(format!("the copy of its superblock at byte {at} is not the same")));
            }
        }
        Ok(())
    }

    fn parse(block: &[u8]) -> Result<Self, Doubt> {
        let b = NodeBytes(block);
        let checksum = BtrfsChecksum::new(b.u16(0xc4)?)?;
        if !checksum.holds(block) {
            return Err(doubt("the checksum of the superblock does not match"));
        }
        check_state(b)?;
        let (compat_ro, incompat) = check_features(b)?;

        let (sector, node) = (b.u32(0x90)?, b.u32(0x94)?);
        let sizes = |size: u32| size.is_power_of_two() && (4096..=65536).contains(&size);
        if !sizes(sector) || !sizes(node) || node < sector || b.u32(0x98)? != node {
            return Err(doubt(format!("it has impossible sectors of {sector} and nodes of {node} bytes")));
        }

        let device = DevItem::parse(b.slice(DEV_ITEM, 98)?)?;
        let (total, bytes_used) = (b.u64(0x70)?, b.u64(0x78)?);
        if device.total != total || bytes_used > total {
            return Err(doubt(format!(
                "it has {total} bytes, its device {}, and {bytes_used} are in use",
                device.total
            )));
        }
        let metadata_uuid = b.uuid(if incompat & METADATA_UUID != 0 { 0x23b } else { 0x20 })?;
        if device.fsid != metadata_uuid {
            return Err(doubt("its device belongs to a file system of another UUID"));
        }

        let generation = b.u64(0x48)?;
        let root = |tree, at, level, generation| {
            Ok(BtrfsRoot { tree, at: b.u64(at)?, level: b.u8(level)?, generation })
        };
        let root_tree: BtrfsRoot = root(1, 0x50, 0xc6, generation)?;
        let chunk_tree: BtrfsRoot = root(3, 0x58, 0xc7, b.u64(0xa4)?)?;
        if chunk_tree.generation > generation || root_tree.level.max(chunk_tree.level) > MAX_LEVEL {
            return Err(doubt("the superblock points to trees that cannot be"));
        }

        let (at, most) = SYSTEM_CHUNKS;
        let len = b.u32(0xa0)? as usize;
        if len > most {
            return Err(doubt(format!("the superblock has {len} bytes of system chunks, more than fit")));
        }
        Ok(BtrfsSuperblock {
            checksum,
            generation,
            fsid: b.uuid(0x20)?,
            metadata_uuid,
            root_tree,
            chunk_tree,
            bytes_used,
            sector,
            node,
            skinny: incompat & SKINNY_METADATA != 0,
            block_group_tree: compat_ro & BLOCK_GROUP_TREE != 0,
            free_space_tree: compat_ro & FREE_SPACE_TREE == FREE_SPACE_TREE,
            device,
            system_chunks: b.slice(at, len)?.to_vec(),
            label: label(b.slice(0x12b, 256)?),
        })
    }
}

/// What the state of the last transaction allows.
fn check_state(b: NodeBytes<'_>) -> Result<(), Doubt> {
    if b.u64(0x30)? != PRIMARY {
        return Err(doubt("the superblock is a copy from elsewhere"));
    }
    let flags = b.u64(0x38)?;
    if flags != FLAG_WRITTEN {
        return Err(doubt(format!(
            "its flags are {flags:#x}: errors, a seed device, or a change of it that did not end"
        )));
    }
    if b.u64(0x60)? != 0 {
        return Err(doubt(
            "the log of its last fsyncs has to be replayed, as the next mount does; `mount` it once, and unmount it",
        ));
    }
    match b.u64(0x88)? {
        1 => Ok(()),
        devices => Err(doubt(format!("it has {devices} devices, and only one is looked at"))),
    }
}

/// The features that restrict writing, and those that restrict all; each of them known.
fn check_features(b: NodeBytes<'_>) -> Result<(u64, u64), Doubt> {
    let (compat_ro, incompat) = (b.u64(0xb4)?, b.u64(0xbc)?);
    if let Some((_, why)) = REFUSED.iter().find(|(bit, _)| incompat & bit != 0) {
        return Err(doubt(*why));
    }
    if incompat & !INCOMPAT != 0 {
        return Err(doubt(format!("it has unknown incompatible features {:#x}", incompat & !INCOMPAT)));
    }
    if incompat & MIXED_BACKREF == 0 {
        return Err(doubt("its extent tree has the form of before 2009"));
    }
    if compat_ro & !COMPAT_RO != 0 {
        return Err(doubt(format!("it has unknown features {:#x} for writing", compat_ro & !COMPAT_RO)));
    }
    Ok((compat_ro, incompat))
}

fn label(field: &[u8]) -> Option<String> {
    let bytes = field.split(|byte| *byte == 0).next().unwrap_or_default();
    text::label(&String::from_utf8_lossy(bytes))
}
