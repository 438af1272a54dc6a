//! Groups: where they are, where their descriptors are, and what those say.
//!
//! Layout: the kernel's `Documentation/filesystems/ext4/blockgroup.rst` and `group_descr.rst`, and what
//! `ext4_num_base_meta_blocks` and `descriptor_loc` of `fs/ext4` do.
#![forbid(unsafe_code)]

use super::superblock::{AT, Backups, Super};
use crate::bytes::{le16, le32};
use crate::used::sums::agree;
use crate::used::{Doubt, Volume};
use std::ops::Range;

/// One group's descriptor, whose checksum is right and whose blocks lie where they may.
#[derive(Clone, Debug)]
pub(super) struct Desc {
    /// Block of the block bitmap.
    pub bitmap: u64,
    /// Block of the inode bitmap.
    pub inode_bitmap: u64,
    /// First block of the inode table.
    pub table: u64,
    /// Free clusters.
    pub free: u64,
    /// Free inodes.
    pub free_inodes: u64,
    /// The block bitmap was never written: only the group's own structures are in use.
    pub uninit: bool,
    /// Checksum of the block bitmap, and how many bits of it there are.
    pub bitmap_csum: (u32, u32),
}

impl Super {
    /// Group descriptors in a block.
    pub(super) fn descs_per_block(&self) -> u64 {
        self.block / self.desc_size as u64
    }

    /// Blocks of descriptors.
    pub(super) fn desc_blocks(&self) -> u64 {
        self.groups.div_ceil(self.descs_per_block())
    }

    /// The blocks of a group.
    pub(super) fn group(&self, group: u64) -> Range<u64> {
        let start = self.first + group * self.per_group;
        start..(start + self.per_group).min(self.blocks)
    }

    /// Whether a group begins with a superblock or a copy of it.
    pub(super) fn has_super(&self, group: u64) -> bool {
        let power_of = |base: u64| {
            let mut power = base;
            while power < group {
                power *= base;
            }
            power == group
        };
        match self.backups {
            _ if group == 0 => true,
            Backups::All => true,
            Backups::Sparse => group == 1 || [3, 5, 7].into_iter().any(power_of),
            Backups::Two(groups) => groups.into_iter().any(|backup| u64::from(backup) == group),
        }
    }

    /// Blocks of superblock and descriptors at the beginning of a group, and of what is reserved for them.
    pub(super) fn head(&self, group: u64) -> Range<u64> {
        let copy = u64::from(self.has_super(group));
        let (metagroup, place) = (group / self.descs_per_block(), group % self.descs_per_block());
        let len = match self.first_meta_bg {
            Some(first) if metagroup >= first => {
                copy + u64::from(place < 2 || place == self.descs_per_block() - 1)
            }
            Some(first) => copy * (1 + first),
            None => copy * (1 + self.desc_blocks() + self.reserved_gdt),
        };
        let start = self.group(group).start;
        start..start + len + self.boot_block(group)
    }

    /// With bigalloc and blocks of 1024 bytes, group 0 holds the boot block, and all behind it is one block later.
    fn boot_block(&self, group: u64) -> u64 {
        u64::from(group == 0 && self.first == 0 && self.block == AT)
    }

    /// Where descriptor block `nr` is.
    pub(super) fn desc_block(&self, nr: u64) -> u64 {
        match self.first_meta_bg {
            Some(first) if nr >= first => {
                let group = nr * self.descs_per_block();
                self.group(group).start + u64::from(self.has_super(group)) + self.boot_block(group)
            }
            _ => AT / self.block + 1 + nr,
        }
    }

    /// The descriptors in descriptor block `nr`: of the groups from `nr` times [`Super::descs_per_block`] on.
    pub(super) fn descs(&self, volume: &Volume<'_>, nr: u64) -> Result<Vec<Desc>, Doubt> {
        let bytes = volume.read(self.kind, self.desc_block(nr) * self.block, self.block as usize)?;
        let first = nr * self.descs_per_block();
        (first..self.groups)
            .zip(bytes.chunks_exact(self.desc_size))
            .map(|(group, bytes)| self.desc(group, bytes))
            .collect()
    }

    fn desc(&self, group: u64, bytes: &[u8]) -> Result<Desc, Doubt> {
        let doubt = |what: &str| Err(self.doubt(format!("group {group}: {what}")));
        let sum = self.checksum.descriptor(group, bytes);
        if sum.is_some_and(|sum| !agree(sum, le16(bytes, 0x1e))) {
            return doubt("the checksum of its descriptor is wrong");
        }
        // The upper halves are there from 64 bytes on.
        let wide = self.desc_size >= 64;
        let block = |low: usize, high: usize| {
            u64::from(le32(bytes, low)) | if wide { u64::from(le32(bytes, high)) << 32 } else { 0 }
        };
        let count = |low: usize, high: usize| {
            u32::from(le16(bytes, low)) | if wide { u32::from(le16(bytes, high)) << 16 } else { 0 }
        };
        let desc = Desc {
            bitmap: block(0x0, 0x20),
            inode_bitmap: block(0x4, 0x24),
            table: block(0x8, 0x28),
            free: count(0xc, 0x2c).into(),
            free_inodes: count(0xe, 0x2e).into(),
            uninit: le16(bytes, 0x12) & 2 != 0,
            bitmap_csum: (count(0x18, 0x38), if wide { 32 } else { 16 }),
        };
        let flags = le16(bytes, 0x12);
        if flags & !7 != 0 || (desc.uninit && sum.is_none()) {
            return doubt(&format!("flags {flags:#x} are unknown"));
        }
        // Without flex_bg a group's structures lie in the group itself.
        let within = if self.flex_bg { self.first..self.blocks } else { self.group(group) };
        let last = desc.table.checked_add(self.table - 1);
        let ends = [Some(desc.bitmap), Some(desc.inode_bitmap), Some(desc.table), last];
        if !ends.into_iter().all(|end| end.is_some_and(|end| within.contains(&end))) {
            return doubt("its bitmaps or inode table lie outside");
        }
        Ok(desc)
    }
}

#[cfg(test)]
mod tests {
    use super::super::checksum::Ext4Checksum;
    use super::*;

    fn fs(block: u64, bigalloc: bool, first_meta_bg: Option<u64>, backups: Backups) -> Super {
        let per_group = block * 8 * if bigalloc { 16 } else { 1 };
        let blocks = per_group * 40_000;
        Super {
            kind: "ext4",
            label: None,
            block,
            blocks,
            first: u64::from(block == 1024 && !bigalloc),
            cluster: if bigalloc { 16 } else { 1 },
            per_group,
            groups: 40_000,
            inodes_per_group: 64,
            inode_size: 256,
            table: 4,
            desc_size: 64,
            reserved_gdt: if first_meta_bg.is_none() { 7 } else { 0 },
            first_meta_bg,
            backups,
            flex_bg: true,
            checksum: Ext4Checksum::None,
            free_blocks: 0,
            free_inodes: 0,
            journal: None,
            mmp: None,
        }
    }

    #[test]
    fn copies_are_where_the_features_put_them() {
        let with = |backups| {
            let fs = fs(4096, false, None, backups);
            (0..130).filter(|group| fs.has_super(*group)).collect::<Vec<_>>()
        };
        assert_eq!(with(Backups::All), (0..130).collect::<Vec<_>>());
        assert_eq!(with(Backups::Sparse), [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125]);
        assert_eq!(with(Backups::Two([1, 99])), [0, 1, 99]);
        assert_eq!(with(Backups::Two([0, 0])), [0]);
    }

    #[test]
    fn descriptors_stand_behind_the_superblock_or_in_their_group() {
        // 64 descriptors in a block of 4096 bytes, 625 such blocks, 7 reserved.
        let plain = fs(4096, false, None, Backups::Sparse);
        assert_eq!((plain.head(0), plain.desc_block(0), plain.desc_block(624)), (0..633, 1, 625));
        assert_eq!((plain.head(1), plain.head(2)), (32768..32768 + 633, 65536..65536));
        // meta_bg from block 2 on: groups 0 to 127 have the two old blocks, from 128 on each has its own.
        let meta = fs(4096, false, Some(2), Backups::Sparse);
        assert_eq!((meta.head(0), meta.desc_block(1)), (0..3, 2));
        assert_eq!(meta.desc_block(2), 128 * 32768);
        let len = |group| meta.head(group).end - meta.head(group).start;
        assert_eq!([125, 127, 128, 129, 130, 191, 192, 243].map(len), [3, 0, 1, 1, 0, 1, 1, 1]);
        assert_eq!(fs(4096, false, Some(0), Backups::All).desc_block(2), 128 * 32768 + 1);
    }

    #[test]
    fn blocks_of_1024_bytes_leave_the_boot_block_alone() {
        let small = fs(1024, false, Some(0), Backups::Sparse);
        assert_eq!((small.group(0), small.head(0), small.desc_block(0)), (1..8193, 1..3, 2));
        let clusters = fs(1024, true, Some(0), Backups::Sparse);
        assert_eq!((clusters.group(0), clusters.head(0)), (0..131_072, 0..3));
        assert_eq!((clusters.desc_block(0), clusters.desc_block(1)), (2, 16 * 131_072));
    }
}
