//! The superblock: which features, which state, which geometry.
//!
//! Offsets and meanings: the kernel's `Documentation/filesystems/ext4/super.rst`.
#![forbid(unsafe_code)]

use super::checksum::{Ext4Checksum, crc16, crc32c};
use crate::bytes::{le16, le32, le64};
use crate::text;
use crate::used::Doubt;
use crate::used::sums::agree;

/// Where the superblock begins, in bytes, and its length.
pub(super) const AT: u64 = 1024;
pub(super) const LEN: usize = 1024;

/// Feature bits of `s_feature_compat` (0x5c), `s_feature_incompat` (0x60) and `s_feature_ro_compat` (0x64).
mod compat {
    pub const HAS_JOURNAL: u32 = 0x4;
    pub const RESIZE_INODE: u32 = 0x10;
    pub const SPARSE_SUPER2: u32 = 0x200;
    /// dir_prealloc, imagic_inodes, ext_attr, dir_index, fast_commit, stable_inodes, orphan_file: no matter here.
    pub const KNOWN: u32 = 0x1 | 0x2 | HAS_JOURNAL | 0x8 | RESIZE_INODE | 0x20 | SPARSE_SUPER2 | 0x1c00;
}
mod incompat {
    pub const RECOVER: u32 = 0x4;
    pub const JOURNAL_DEV: u32 = 0x8;
    pub const META_BG: u32 = 0x10;
    pub const BIT64: u32 = 0x80;
    pub const MMP: u32 = 0x100;
    pub const FLEX_BG: u32 = 0x200;
    pub const CSUM_SEED: u32 = 0x2000;
    /// filetype.
    pub const EXT2: u32 = 0x2 | META_BG;
    /// extents, ea_inode, large_dir, inline_data, encrypt, casefold: no matter here. Not compression, dirdata.
    pub const KNOWN: u32 = EXT2 | BIT64 | MMP | FLEX_BG | CSUM_SEED | 0x40 | 0x400 | 0x4000 | 0x3_8000;
}
mod ro_compat {
    pub const SPARSE_SUPER: u32 = 0x1;
    pub const GDT_CSUM: u32 = 0x10;
    pub const BIGALLOC: u32 = 0x200;
    pub const METADATA_CSUM: u32 = 0x400;
    pub const ORPHAN_PRESENT: u32 = 0x1_0000;
    /// large_file, btree_dir.
    pub const EXT2: u32 = SPARSE_SUPER | 0x2 | 0x4;
    /// huge_file, dir_nlink, extra_isize, quota, read-only, project, verity: no matter here. Not snapshots,
    /// replica, shared_blocks.
    pub const KNOWN: u32 =
        EXT2 | GDT_CSUM | BIGALLOC | METADATA_CSUM | 0x8 | 0x20 | 0x40 | 0x100 | 0x1000 | 0x2000 | 0x8000;
}

/// Which groups begin with a copy of the superblock and the descriptors (group 0 always).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backups {
    /// Every group.
    All,
    /// sparse_super: 1 and the powers of 3, 5 and 7.
    Sparse,
    /// sparse_super2: at most these two; 0 is none.
    Two([u32; 2]),
}

/// A superblock that is clean and whose numbers agree with each other. Counts are in blocks, unless they say otherwise.
#[derive(Clone, Debug)]
pub(super) struct Super {
    pub kind: &'static str,
    pub label: Option<String>,
    /// Bytes of a block: 1024 to 65536.
    pub block: u64,
    /// Blocks of the file system, and the first of them that belongs to a group.
    pub blocks: u64,
    pub first: u64,
    /// Blocks of one bit of the block bitmap.
    pub cluster: u64,
    /// Blocks of a group, and groups.
    pub per_group: u64,
    pub groups: u64,
    pub inodes_per_group: u64,
    /// Bytes.
    pub inode_size: u64,
    /// Blocks of a group's inode table.
    pub table: u64,
    /// Bytes of a group descriptor.
    pub desc_size: usize,
    /// Blocks kept behind the descriptors, so that they can grow.
    pub reserved_gdt: u64,
    /// meta_bg: the first descriptor block that stands in the groups that it describes.
    pub first_meta_bg: Option<u64>,
    pub backups: Backups,
    pub flex_bg: bool,
    pub checksum: Ext4Checksum,
    /// Totals: blocks, and inodes.
    pub free_blocks: u64,
    pub free_inodes: u64,
    /// Inode of the journal.
    pub journal: Option<u64>,
    /// Block of the multiple-mount protection.
    pub mmp: Option<u64>,
}

/// What the format goes by, as `blkid` decides it.
fn kind(compat: u32, incompat: u32, ro_compat: u32) -> &'static str {
    let later = incompat & !(incompat::EXT2 | incompat::RECOVER) != 0 || ro_compat & !ro_compat::EXT2 != 0;
    match later {
        true => "ext4",
        false if compat & compat::HAS_JOURNAL != 0 => "ext3",
        false => "ext2",
    }
}

impl Super {
    /// `bytes` are the [`LEN`] bytes at [`AT`] of a volume of `size` bytes. `None`: no superblock of this format.
    pub(super) fn new(bytes: &[u8], size: u64) -> Result<Option<Self>, Doubt> {
        if bytes.len() != LEN || le16(bytes, 0x38) != 0xef53 {
            return Ok(None);
        }
        let features = [le32(bytes, 0x5c), le32(bytes, 0x60), le32(bytes, 0x64)];
        let [compat, incompat, ro_compat] = features;
        let kind = kind(compat, incompat, ro_compat);
        let check = CheckedSuperblock { bytes, kind, features };
        check.features()?;
        let checksum = check.checksum()?;
        check.clean()?;
        check.geometry(size, checksum).map(Some)
    }

    /// A doubt about this file system.
    pub(super) fn doubt(&self, why: impl Into<String>) -> Doubt {
        Doubt::new(self.kind, why)
    }
}

/// The steps of [`Super::new`].
struct CheckedSuperblock<'a> {
    bytes: &'a [u8],
    kind: &'static str,
    features: [u32; 3],
}

impl CheckedSuperblock<'_> {
    fn doubt<T>(&self, why: impl Into<String>) -> Result<T, Doubt> {
        Err(Doubt::new(self.kind, why))
    }

    fn compat(&self, bit: u32) -> bool {
        self.features[0] & bit != 0
    }

    fn incompat(&self, bit: u32) -> bool {
        self.features[1] & bit != 0
    }

    fn ro_compat(&self, bit: u32) -> bool {
        self.features[2] & bit != 0
    }

    /// Only what the kernel itself would mount for writing, and what this code knows to be harmless.
    fn features(&self) -> Result<(), Doubt> {
        let [compat, incompat, ro_compat] = self.features;
        match le32(self.bytes, 0x4c) {
            0 if self.features == [0, 0, 0] => {}
            1 => {}
            other => return self.doubt(format!("revision {other} with such features is unknown")),
        }
        if self.incompat(incompat::JOURNAL_DEV) {
            return self.doubt("it is the journal of another file system");
        }
        // Two bits that are a state: clean() speaks of them.
        let unknown = [
            ("compat", compat & !compat::KNOWN),
            ("incompat", incompat & !(incompat::KNOWN | incompat::RECOVER)),
            ("ro_compat", ro_compat & !(ro_compat::KNOWN | ro_compat::ORPHAN_PRESENT)),
        ];
        for (word, bits) in unknown {
            if bits != 0 {
                return self.doubt(format!("unknown {word} features {bits:#x}"));
            }
        }
        Ok(())
    }

    fn checksum(&self) -> Result<Ext4Checksum, Doubt> {
        let uuid = &self.bytes[0x68..0x78];
        let (crc16_used, crc32c_used) =
            (self.ro_compat(ro_compat::GDT_CSUM), self.ro_compat(ro_compat::METADATA_CSUM));
        if !crc32c_used {
            return Ok(if crc16_used {
                Ext4Checksum::Crc16(crc16(0xffff, uuid))
            } else {
                Ext4Checksum::None
            });
        }
        if crc16_used {
            return self.doubt("two kinds of checksums at once (uninit_bg and metadata_csum)");
        }
        if self.bytes[0x175] != 1 {
            return self.doubt(format!("unknown kind of checksum {}", self.bytes[0x175]));
        }
        if !agree(crc32c(!0, &self.bytes[..0x3fc]), le32(self.bytes, 0x3fc)) {
            return self.doubt("the checksum of the superblock is wrong");
        }
        let seed = match self.incompat(incompat::CSUM_SEED) {
            true => le32(self.bytes, 0x270),
            false => crc32c(!0, uuid),
        };
        Ok(Ext4Checksum::Crc32c(seed))
    }

    /// Unmounted properly, nothing left to do for a mount or for `e2fsck`.
    fn clean(&self) -> Result<(), Doubt> {
        if self.incompat(incompat::RECOVER) {
            return self.doubt("the journal needs recovery: it is mounted, or was not unmounted properly; `mount` it once, and unmount it");
        }
        let state = le16(self.bytes, 0x3a);
        if state & 2 != 0 || le32(self.bytes, 0x194) != 0 {
            return self.doubt("it has recorded errors: e2fsck should look at it (`e2fsck -f`)");
        }
        if state != 1 {
            return self.doubt(
                "it is not clean: it is mounted, or was not unmounted properly; `e2fsck -f` mends it",
            );
        }
        if le32(self.bytes, 0xe8) != 0 || self.ro_compat(ro_compat::ORPHAN_PRESENT) {
            return self.doubt(
                "deleted files wait for being freed (orphan inodes); `mount` it once, and unmount it",
            );
        }
        if self.compat(compat::HAS_JOURNAL) && (le32(self.bytes, 0xe4) != 0 || le32(self.bytes, 0xe0) == 0) {
            return self.doubt("its journal is on another device");
        }
        if le16(self.bytes, 0x5a) != 0 {
            return self.doubt("its superblock is the copy of another group");
        }
        Ok(())
    }

    /// Sizes, as far as they can be checked without reading more.
    fn geometry(&self, size: u64, checksum: Ext4Checksum) -> Result<Super, Doubt> {
        let b = self.bytes;
        let (wide, bigalloc) = (self.incompat(incompat::BIT64), self.ro_compat(ro_compat::BIGALLOC));
        let (log_block, log_cluster) = (le32(b, 0x18), le32(b, 0x1c));
        // Clusters of 1 GiB are the kernel's limit.
        let clusters_fit =
            if bigalloc { (log_block..=20).contains(&log_cluster) } else { log_cluster == log_block };
        if log_block > 6 || !clusters_fit {
            return self.doubt(format!("block size 2^{log_block} KiB with cluster size 2^{log_cluster} KiB"));
        }
        let (block, cluster) = (1024u64 << log_block, 1u64 << (log_cluster - log_block));

        let join = |low: usize, high: usize| u64::from(le32(b, low)) | u64::from(le32(b, high)) << 32;
        let (blocks, free_blocks) = (join(0x4, 0x150), join(0xc, 0x158));
        if !wide && (le32(b, 0x150) != 0 || le32(b, 0x158) != 0) {
            return self.doubt("more than 2^32 blocks without the feature 64bit");
        }
        match blocks.checked_mul(block) {
            Some(bytes) if bytes <= size => {}
            _ => {
                return self.doubt(format!(
                    "it says that it has {blocks} blocks of {block} bytes: more than the {size} bytes that are here"
                ));
            }
        }
        let first = u64::from(le32(b, 0x14));
        if first != u64::from(block == 1024 && !bigalloc) || blocks <= first {
            return self.doubt(format!("{blocks} blocks from block {first} on cannot be"));
        }

        let (per_group, clusters) = (u64::from(le32(b, 0x20)), u64::from(le32(b, 0x24)));
        if clusters == 0 || clusters % 8 != 0 || clusters > block * 8 || clusters * cluster != per_group {
            return self.doubt(format!("{per_group} blocks and {clusters} clusters per group cannot be"));
        }
        let groups = (blocks - first).div_ceil(per_group);

        let (inodes, inodes_per_group) = (u64::from(le32(b, 0x0)), u64::from(le32(b, 0x28)));
        let inode_size = if le32(b, 0x4c) == 0 { 128 } else { u64::from(le16(b, 0x58)) };
        if !inode_size.is_power_of_two() || !(128..=block).contains(&inode_size) {
            return self.doubt(format!("inodes of {inode_size} bytes cannot be"));
        }
        if inodes_per_group == 0
            || inodes_per_group > block * 8
            || groups.checked_mul(inodes_per_group) != Some(inodes)
        {
            return self
                .doubt(format!("{inodes} inodes, {inodes_per_group} in each of {groups} groups, cannot be"));
        }

        let desc_size = if wide { le16(b, 0xfe) } else { 32 };
        if wide && !(desc_size.is_power_of_two() && (64..=1024).contains(&desc_size)) {
            return self.doubt(format!("group descriptors of {desc_size} bytes cannot be"));
        }
        let reserved_gdt = u64::from(le16(b, 0xce));
        let (meta_bg, first_meta_bg) = (self.incompat(incompat::META_BG), u64::from(le32(b, 0x104)));
        // Without resize_inode nobody owns them, and with meta_bg kernel and e2fsprogs disagree where they are.
        if reserved_gdt != 0 && (meta_bg || !self.compat(compat::RESIZE_INODE) || reserved_gdt > block / 4) {
            return self.doubt(format!("{reserved_gdt} blocks reserved for descriptors cannot be"));
        }
        if meta_bg && first_meta_bg > groups.div_ceil(block / u64::from(desc_size)) {
            return self.doubt(format!("meta_bg from descriptor block {first_meta_bg} on cannot be"));
        }

        let label: Vec<u8> = b[0x78..0x88].iter().copied().take_while(|byte| *byte != 0).collect();
        Ok(Super {
            kind: self.kind,
            label: text::label(&String::from_utf8_lossy(&label)),
            block,
            blocks,
            first,
            cluster,
            per_group,
            groups,
            inodes_per_group,
            inode_size,
            table: (inodes_per_group * inode_size).div_ceil(block),
            desc_size: usize::from(desc_size),
            reserved_gdt,
            first_meta_bg: meta_bg.then_some(first_meta_bg),
            backups: match () {
                () if self.compat(compat::SPARSE_SUPER2) => Backups::Two([le32(b, 0x24c), le32(b, 0x250)]),
                () if self.ro_compat(ro_compat::SPARSE_SUPER) => Backups::Sparse,
                () => Backups::All,
            },
            flex_bg: self.incompat(incompat::FLEX_BG),
            checksum,
            free_blocks,
            free_inodes: u64::from(le32(b, 0x10)),
            journal: self.compat(compat::HAS_JOURNAL).then(|| u64::from(le32(b, 0xe0))),
            mmp: self.incompat(incompat::MMP).then(|| le64(b, 0x168)),
        })
    }
}
