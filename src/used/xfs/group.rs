//! One allocation group: its four headers, one sector each, and its free space.
#![forbid(unsafe_code)]

use super::btree::{Btree, BtreeOrder};
use super::bytes::{KIND, checksum_matches};
use super::system::{AllocationGroup, XfsSystem};
use crate::bytes::{be32, be64, field};
use crate::used::{Doubt, Free};
use std::ops::Range;

/// `XAGF`, `XAGI`, `XAFL`
const FREE_SPACE: u32 = 0x5841_4746;
const INODES: u32 = 0x5841_4749;
const FREE_LIST: u32 = 0x5841_464c;
/// Bytes of the header of the list of free blocks in version 5.
const FREE_LIST_HEADER: usize = 36;

/// Adds the free space of group `number` to `free`, and gives how many blocks the superblock counts as free of it.
pub fn read(system: &XfsSystem<'_>, number: u32, free: &mut Free) -> Result<u64, Doubt> {
    let geometry = &system.fs.geometry;
    let group = AllocationGroup {
        system,
        number,
        blocks: geometry.blocks_of(number),
        headers: geometry.header_blocks(),
    };
    let bytes = system.volume.read(KIND, geometry.byte(number, 0), 4 * geometry.sector as usize)?;
    let mut sectors = bytes.chunks_exact(geometry.sector as usize);
    let mut next = || sectors.next().unwrap_or_default();

    let copy = next();
    if number > 0 {
        system.check_written(system.fs.check_copy(copy)?, "a copy of the superblock")?;
    }
    let space = FreeSpace::read(&group, next())?;
    let inode_roots = inode_roots(&group, next())?;
    let list = free_list(&group, next(), &space)?;

    let by_size = Btree::descend(&group, BtreeOrder::BySize, space.roots[1])?;
    let by_block = Btree::descend(&group, BtreeOrder::ByBlock, space.roots[0])?;
    // Blocks that the trees took from the list; the superblock counts them as free, as it does those of the list.
    let mut taken = by_size.blocks().count() + by_block.blocks().count() - 2;
    taken += space.owner_blocks.saturating_sub(1) as usize;
    if system.fs.lazy_count && space.tree_blocks as usize != taken {
        return Err(group.doubt("the btrees of free space have another number of blocks"));
    }
    let mut used = Used { group: &group, blocks: list };
    used.blocks.extend(by_size.blocks().chain(by_block.blocks()));
    used.blocks.extend(inode_roots.into_iter().chain(space.other_roots.iter().copied().flatten()));
    used.sort()?;

    let sizes = by_size.sum(&group, |_| Ok(()))?;
    let blocks = by_block.sum(&group, |range| {
        used.check(&range)?;
        free.add(geometry.byte(number, range.start)..geometry.byte(number, range.end));
        Ok(())
    })?;
    if sizes != blocks {
        return Err(group.doubt("the two btrees of free space do not agree"));
    }
    if blocks.blocks != u64::from(space.free) || blocks.longest != space.longest {
        return Err(group.doubt("the btrees of free space do not agree with their header"));
    }
    Ok(u64::from(space.free) + u64::from(space.list[2]) + taken as u64)
}

/// The header of free space (AGF).
struct FreeSpace {
    /// Root block and number of levels of the trees by block and by size.
    roots: [(u32, u32); 2],
    /// Roots of the trees of owners and of shared blocks, where there are any.
    other_roots: [Option<u32>; 2],
    /// First and last index, and length, of the list of blocks for btrees.
    list: [u32; 3],
    /// Free blocks, those of the list not counted.
    free: u32,
    /// Blocks of the trees without their roots; only kept where the superblock's counters are lazy.
    tree_blocks: u32,
    /// Blocks of the tree of owners.
    owner_blocks: u32,
    longest: u32,
}

impl FreeSpace {
    fn read(group: &AllocationGroup<'_>, bytes: &[u8]) -> Result<Self, Doubt> {
        let fs = group.system.fs;
        check_header(group, bytes, FREE_SPACE, "header of free space", 64, 216, 208)?;
        if be32(bytes, 4) != 1 || be32(bytes, 12) != group.blocks {
            return Err(group.doubt("the header of free space has another version or length"));
        }
        let root = |used: bool, at| used.then(|| be32(bytes, at));
        let shared = fs.checksums && be32(bytes, 88) != 0;
        Ok(FreeSpace {
            roots: [(be32(bytes, 16), be32(bytes, 28)), (be32(bytes, 20), be32(bytes, 32))],
            other_roots: [root(fs.reverse_map, 24), root(shared, 88)],
            list: [be32(bytes, 40), be32(bytes, 44), be32(bytes, 48)],
            free: be32(bytes, 52),
            tree_blocks: be32(bytes, 60),
            owner_blocks: if fs.reverse_map { be32(bytes, 80) } else { 0 },
            longest: be32(bytes, 56),
        })
    }
}

/// Checks the header of inodes (AGI), and gives the roots of its btrees.
fn inode_roots(group: &AllocationGroup<'_>, bytes: &[u8]) -> Result<Vec<u32>, Doubt> {
    check_header(group, bytes, INODES, "header of inodes", 296, 312, 320)?;
    if be32(bytes, 4) != 1 || be32(bytes, 12) != group.blocks {
        return Err(group.doubt("the header of inodes has another version or length"));
    }
    let free_inodes = if group.system.fs.checksums { be32(bytes, 328) } else { 0 };
    Ok([be32(bytes, 20), free_inodes].into_iter().filter(|root| *root != 0).collect())
}

/// The blocks that wait in the AGFL for growing btrees: used.
fn free_list(group: &AllocationGroup<'_>, bytes: &[u8], space: &FreeSpace) -> Result<Vec<u32>, Doubt> {
    let mut start = 0;
    if group.system.fs.checksums {
        check_header(group, bytes, FREE_LIST, "list of free blocks", 8, 32, 24)?;
        start = FREE_LIST_HEADER;
    }
    let length = ((bytes.len() - start) / 4) as u32;
    let [first, last, count] = space.list;
    let inside = first < length && last < length;
    if !inside || count != 0 && count != (last + length - first) % length + 1 {
        return Err(group.doubt("the list of free blocks has another length"));
    }
    let blocks: Vec<u32> =
        (0..count).map(|i| be32(bytes, start + 4 * ((first + i) % length) as usize)).collect();
    if blocks.iter().any(|block| !group.has(*block)) {
        return Err(group.doubt("the list of free blocks points outside"));
    }
    Ok(blocks)
}

/// Magic number and group of a header; in version 5 also UUID, checksum and log sequence number, at these bytes.
fn check_header(
    group: &AllocationGroup<'_>,
    bytes: &[u8],
    magic: u32,
    what: &str,
    uuid: usize,
    checksum: usize,
    lsn: usize,
) -> Result<(), Doubt> {
    let fs = group.system.fs;
    // The list of free blocks has no version in front of its group.
    let number = be32(bytes, if magic == FREE_LIST { 4 } else { 8 });
    if be32(bytes, 0) != magic || number != group.number {
        return Err(group.doubt(&format!("there is no {what}")));
    }
    if fs.checksums {
        if !checksum_matches(bytes, checksum) {
            return Err(group.doubt(&format!("the checksum of the {what} is wrong")));
        }
        if field::<16>(bytes, uuid) != fs.geometry.uuid {
            return Err(group.doubt(&format!("the {what} belongs to another file system")));
        }
        group.system.check_written(be64(bytes, lsn), &format!("the {what} of group {}", group.number))?;
    }
    Ok(())
}

/// Blocks that are known to be in use: no free range may have one.
struct Used<'a> {
    group: &'a AllocationGroup<'a>,
    blocks: Vec<u32>,
}

impl Used<'_> {
    fn sort(&mut self) -> Result<(), Doubt> {
        self.blocks.sort_unstable();
        if self.blocks.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(self.group.doubt("a block is in use twice"));
        }
        Ok(())
    }

    fn check(&self, range: &Range<u32>) -> Result<(), Doubt> {
        let geometry = &self.group.system.fs.geometry;
        let next = self.blocks.partition_point(|block| *block < range.start);
        let in_use = self.blocks.get(next).is_some_and(|block| *block < range.end);
        let log_end = u64::from(geometry.log_start) + u64::from(geometry.log_blocks);
        let in_log = u64::from(self.group.number) == geometry.log_group
            && u64::from(range.start) < log_end
            && range.end > geometry.log_start;
        if in_use || in_log {
            return Err(self.group.doubt("free space is in use"));
        }
        Ok(())
    }
}
