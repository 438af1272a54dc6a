//! The superblock: `struct xfs_dsb`. Each allocation group begins with a copy of it.
#![forbid(unsafe_code)]

use super::bytes::{BASIC_BLOCK, checksum_matches, doubt};
use crate::bytes::{be16, be32, be64, field};
use crate::text;
use crate::used::{Doubt, Volume};

/// `XFSB`
pub const MAGIC: u32 = 0x5846_5342;

/// Where everything is: the same in every copy of the superblock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of a block, a power of two from 512 to 65536.
    pub block: u32,
    /// Bytes of a sector, a power of two from 512 to 32768 and at most a block: size of each header of a group.
    pub sector: u32,
    /// Blocks of the file system.
    pub blocks: u64,
    /// Blocks of a group; the last one may have fewer.
    pub group_blocks: u32,
    /// Number of groups.
    pub groups: u32,
    /// Bits of a block's number inside its group.
    group_bits: u8,
    /// Group of the log.
    pub log_group: u64,
    /// First block of the log inside its group.
    pub log_start: u32,
    /// Blocks of the log.
    pub log_blocks: u32,
    /// 4 or 5.
    version: u16,
    /// UUID in the headers of version 5.
    pub uuid: [u8; 16],
}

/// What the superblock says, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XfsSuperblock {
    pub geometry: Geometry,
    /// Version 5: all metadata have checksums and say where they belong.
    pub checksums: bool,
    /// Version 2 of the log: records larger than 32 KiB.
    pub log_v2: bool,
    /// Whether there is a btree of who owns each block.
    pub reverse_map: bool,
    /// Whether counters are kept in the groups first, with the blocks of their btrees beside them.
    pub lazy_count: bool,
    /// UUID in the log, the one that users see.
    pub uuid: [u8; 16],
    /// Free blocks of all groups.
    pub free_blocks: u64,
    /// Log sequence number of its last change; version 5.
    pub lsn: u64,
    pub label: Option<String>,
}

/// `XFS_SB_VERSION_*`: what version 4 may have. Not: shared read-only volumes, which nobody implements.
const KNOWN: u16 = !0x0200;
const LOG_V2: u16 = 0x0400;
const EXTENT_FLAG: u16 = 0x1000;
const DIR_V2: u16 = 0x2000;
const MORE: u16 = 0x8000;
/// `XFS_SB_VERSION2_*`: lazy counters, attr2, 32-bit project ids, file types, and the mark of version 5.
const KNOWN2: u32 = 0x0002 | 0x0008 | 0x0080 | 0x0200 | 0x0100;
const LAZY_COUNT: u32 = 0x0002;
/// `XFS_SB_FEAT_RO_COMPAT_*`: finobt, rmapbt, reflink, inobtcount.
const KNOWN_RO_COMPAT: u32 = 0x000f;
const REVERSE_MAP: u32 = 0x0002;
/// `XFS_SB_FEAT_INCOMPAT_*`: ftype, sparse inodes, metadata UUID, bigtime, nrext64, exchange-range, parent pointers.
/// Not: the metadata directory and zones, which come with realtime groups.
const KNOWN_INCOMPAT: u32 = 0x00ef;
const META_UUID: u32 = 0x0004;
const NEEDS_REPAIR: u32 = 0x0010;

/// Fewest blocks of a group.
const LEAST_GROUP: u64 = 64;
/// Most bytes of a group: 1 TiB.
const MOST_GROUP: u64 = 1 << 40;
/// Most bytes of a log.
const MOST_LOG: u64 = 2 << 30;

impl XfsSuperblock {
    /// Reads the superblock of the first group; `start` is the volume's first 512 bytes.
    pub fn read(volume: &Volume<'_>, start: &[u8]) -> Result<Self, Doubt> {
        let geometry = Geometry::decode(start)?;
        let bytes = volume.read(super::bytes::KIND, 0, geometry.sector as usize)?;
        let fs = XfsSuperblock::decode(geometry, &bytes)?;
        let size = fs.geometry.blocks.checked_mul(u64::from(fs.geometry.block));
        if size.is_none_or(|size| size > volume.size()) {
            return Err(doubt("it is larger than its partition"));
        }
        Ok(fs)
    }

    fn decode(geometry: Geometry, bytes: &[u8]) -> Result<Self, Doubt> {
        let checksums = geometry.version == 5;
        if checksums && !checksum_matches(bytes, 224) {
            return Err(doubt("the checksum of its superblock is wrong"));
        }
        // Old kernels wrote the second word of flags beside its place.
        let (flags, flags2) = (be16(bytes, 100), be32(bytes, 200) | be32(bytes, 204));
        let unknown = |what, bits: u32| Err(doubt(format!("{what} {bits:#x} are not known")));
        if flags & !KNOWN != 0 || flags & DIR_V2 == 0 || flags & EXTENT_FLAG == 0 {
            return unknown("its version flags", u32::from(flags));
        }
        if flags2 & !KNOWN2 != 0 || flags2 != 0 && flags & MORE == 0 {
            return unknown("its second version flags", flags2);
        }
        if bytes.get(126) != Some(&0) {
            return Err(doubt("mkfs did not finish"));
        }
        let mut reverse_map = false;
        if checksums {
            let (ro_compat, incompat) = (be32(bytes, 212), be32(bytes, 216));
            if incompat & NEEDS_REPAIR != 0 {
                return Err(doubt("it is marked as needing `xfs_repair`"));
            }
            if incompat & !KNOWN_INCOMPAT != 0 {
                return unknown("its incompatible features", incompat);
            }
            if ro_compat & !KNOWN_RO_COMPAT != 0 {
                return unknown("its read-only compatible features", ro_compat);
            }
            // A clean unmount clears them.
            if be32(bytes, 220) != 0 {
                return Err(doubt(
                    "features of its log are in use: it was not unmounted cleanly; `mount` it once, and unmount it",
                ));
            }
            reverse_map = ro_compat & REVERSE_MAP != 0;
        }
        if be64(bytes, 16) != 0 || be64(bytes, 24) != 0 {
            return Err(doubt("it has a realtime part on another disk"));
        }
        if be64(bytes, 48) == 0 {
            return Err(doubt("its log is on another disk"));
        }
        geometry.check()?;
        Ok(XfsSuperblock {
            checksums,
            log_v2: checksums || flags & LOG_V2 != 0,
            reverse_map,
            lazy_count: checksums || flags2 & LAZY_COUNT != 0,
            uuid: field(bytes, 32),
            free_blocks: be64(bytes, 144),
            lsn: be64(bytes, 240),
            label: label(&field::<12>(bytes, 108)),
            geometry,
        })
    }

    /// Checks the copy in front of another group: `bytes` is its sector. Gives its log sequence number.
    pub fn check_copy(&self, bytes: &[u8]) -> Result<u64, Doubt> {
        if be32(bytes, 0) != MAGIC || self.checksums && !checksum_matches(bytes, 224) {
            return Err(doubt("a copy of its superblock is damaged"));
        }
        // Counters and names are not kept up to date in copies.
        if Geometry::decode(bytes)? != self.geometry || be64(bytes, 16) != 0 {
            return Err(doubt("a copy of its superblock says something else"));
        }
        Ok(be64(bytes, 240))
    }
}

impl Geometry {
    /// The geometry as it stands there, with the sizes of block and sector checked.
    fn decode(bytes: &[u8]) -> Result<Self, Doubt> {
        let power = |size: u32, log: Option<&u8>, most: u32| {
            size.is_power_of_two()
                && (512..=most).contains(&size)
                && log == Some(&(size.trailing_zeros() as u8))
        };
        let (block, sector) = (be32(bytes, 4), u32::from(be16(bytes, 102)));
        if !power(block, bytes.get(120), 65536) || !power(sector, bytes.get(121), 32768) || sector > block {
            return Err(doubt(format!("blocks of {block} and sectors of {sector} bytes are not possible")));
        }
        let version = be16(bytes, 100) & 0xf;
        if !matches!(version, 4 | 5) {
            return Err(doubt(format!("its version {version} is not known")));
        }
        let group_bits = bytes.get(124).copied().unwrap_or(0);
        let log = be64(bytes, 48);
        let meta_uuid = version == 5 && be32(bytes, 216) & META_UUID != 0;
        Ok(Geometry {
            block,
            sector,
            blocks: be64(bytes, 8),
            group_blocks: be32(bytes, 84),
            groups: be32(bytes, 88),
            group_bits,
            log_group: log.checked_shr(group_bits.into()).unwrap_or(0),
            log_start: (log & ((1 << group_bits.min(31)) - 1)) as u32,
            log_blocks: be32(bytes, 96),
            version,
            uuid: field(bytes, if meta_uuid { 248 } else { 32 }),
        })
    }

    fn check(&self) -> Result<(), Doubt> {
        let block = u64::from(self.block);
        let per_group = u64::from(self.group_blocks);
        // At most 2^31 blocks, so nothing of this overflows.
        let bits = per_group.checked_next_power_of_two().map_or(0, u64::trailing_zeros);
        let possible = per_group >= LEAST_GROUP
            && bits <= 31
            && bits == u32::from(self.group_bits)
            && per_group * block <= MOST_GROUP
            && self.groups > 0
            && self.blocks <= u64::from(self.groups) * per_group
            && self.blocks >= u64::from(self.groups - 1) * per_group + LEAST_GROUP;
        if !possible {
            return Err(doubt(format!(
                "{} groups of {per_group} blocks do not make {} blocks",
                self.groups, self.blocks
            )));
        }
        let log_end = u64::from(self.log_start) + u64::from(self.log_blocks);
        let inside = u32::try_from(self.log_group).is_ok_and(|group| {
            group < self.groups
                && u64::from(self.log_start) >= u64::from(self.header_blocks())
                && log_end <= u64::from(self.blocks_of(group))
        });
        let bytes = u64::from(self.log_blocks) * block;
        if !inside || !(4 * BASIC_BLOCK..=MOST_LOG).contains(&bytes) {
            return Err(doubt("its log is not inside a group"));
        }
        Ok(())
    }

    /// Blocks at the beginning of each group that hold its four headers.
    pub fn header_blocks(&self) -> u32 {
        (4 * self.sector).div_ceil(self.block)
    }

    /// Blocks of group `number`, which must exist.
    pub fn blocks_of(&self, number: u32) -> u32 {
        let before = u64::from(number) * u64::from(self.group_blocks);
        self.blocks.saturating_sub(before).min(self.group_blocks.into()) as u32
    }

    /// Byte of block `block` of group `number`, both inside the file system.
    pub fn byte(&self, number: u32, block: u32) -> u64 {
        (u64::from(number) * u64::from(self.group_blocks) + u64::from(block)) * u64::from(self.block)
    }
}

fn label(name: &[u8]) -> Option<String> {
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    text::label(&String::from_utf8_lossy(name))
}
