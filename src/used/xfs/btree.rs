//! The two btrees of a group's free space: ranges by first block, and by size.
//!
//! Walked level by level, so that no block is read twice, whatever the pointers say.
#![forbid(unsafe_code)]

use super::bytes::{BASIC_BLOCK, KIND, checksum_matches};
use super::system::AllocationGroup;
use crate::bytes::{be16, be32, be64, field};
use crate::used::Doubt;
use std::ops::Range;

/// Most levels: what the kernel allows (`XFS_BTREE_MAXLEVELS`).
const MOST_LEVELS: u32 = 9;
/// Most blocks of one tree: 12 MiB of memory, and free ranges enough for a group of 1 TiB with blocks of 4 KiB.
const MOST_BLOCKS: usize = 1 << 20;
/// No sibling.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BtreeOrder {
    ByBlock,
    BySize,
}

impl BtreeOrder {
    /// `ABTB`, `ABTC`; with checksums `AB3B`, `AB3C`
    fn magic(self, checksums: bool) -> u32 {
        match (self, checksums) {
            (BtreeOrder::ByBlock, false) => 0x4142_5442,
            (BtreeOrder::BySize, false) => 0x4142_5443,
            (BtreeOrder::ByBlock, true) => 0x4142_3342,
            (BtreeOrder::BySize, true) => 0x4142_3343,
        }
    }

    fn name(self) -> &'static str {
        match self {
            BtreeOrder::ByBlock => "btree of free space by block",
            BtreeOrder::BySize => "btree of free space by size",
        }
    }

    /// What is compared of a record or key, first block and length.
    fn key(self, start: u32, length: u32) -> (u32, u32) {
        match self {
            // The length in a key is that of the record when it came, not what it is now.
            BtreeOrder::ByBlock => (start, 0),
            BtreeOrder::BySize => (length, start),
        }
    }
}

/// A block of the tree, and the key that its parent has for it.
struct BtreeChild {
    block: u32,
    key: Option<(u32, u32)>,
}

/// A tree down to its leaves, which are not read yet.
pub struct Btree {
    order: BtreeOrder,
    inner: Vec<u32>,
    leaves: Vec<BtreeChild>,
}

/// What both trees must agree on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub blocks: u64,
    /// Length of the longest range.
    pub longest: u32,
    ranges: u64,
    /// Sum of a hash of each range, in any order.
    hash: u64,
}

impl Btree {
    /// Reads the inner levels of the tree with this root block and number of levels.
    pub fn descend(
        group: &AllocationGroup<'_>,
        order: BtreeOrder,
        (root, levels): (u32, u32),
    ) -> Result<Self, Doubt> {
        if !(1..=MOST_LEVELS).contains(&levels) || !group.has(root) {
            return Err(group.doubt(&format!("the {} has an impossible root", order.name())));
        }
        let mut tree =
            Btree { order, inner: Vec::new(), leaves: vec![BtreeChild { block: root, key: None }] };
        for level in (1..levels).rev() {
            let mut next = Vec::new();
            for (i, child) in tree.leaves.iter().enumerate() {
                let node = tree.read(group, i, level)?;
                let most = node.most(12);
                for entry in 0..usize::from(node.records) {
                    let block = be32(&node.bytes, node.header + 8 * most + 4 * entry);
                    if !group.has(block) || next.len() >= MOST_BLOCKS {
                        return Err(
                            group.doubt(&format!("the {} points outside or is too large", order.name()))
                        );
                    }
                    let (start, length) = node.entry(entry);
                    let key = order.key(start, length);
                    if next.last().is_some_and(|before: &BtreeChild| before.key >= Some(key)) {
                        return Err(tree.disorder(group));
                    }
                    next.push(BtreeChild { block, key: Some(key) });
                }
                tree.inner.push(child.block);
            }
            tree.leaves = next;
        }
        Ok(tree)
    }

    /// All blocks of the tree.
    pub fn blocks(&self) -> impl Iterator<Item = u32> {
        self.inner.iter().copied().chain(self.leaves.iter().map(|leaf| leaf.block))
    }

    /// Reads the leaves, and gives each range of free blocks to `visit`.
    pub fn sum(
        &self,
        group: &AllocationGroup<'_>,
        mut visit: impl FnMut(Range<u32>) -> Result<(), Doubt>,
    ) -> Result<Sum, Doubt> {
        let mut sum = Sum::default();
        let mut before: Option<(u32, u32)> = None;
        for i in 0..self.leaves.len() {
            let leaf = self.read(group, i, 0)?;
            for entry in 0..usize::from(leaf.records) {
                let (start, length) = leaf.entry(entry);
                let end = start.checked_add(length).filter(|end| *end <= group.blocks);
                let Some(end) = end.filter(|end| *end > start && start >= group.headers) else {
                    return Err(group.doubt(&format!("the {} points outside", self.order.name())));
                };
                let rises = before.is_none_or(|(from, len)| match self.order {
                    BtreeOrder::ByBlock => start >= from + len,
                    BtreeOrder::BySize => (length, start) > (len, from),
                });
                if !rises {
                    return Err(self.disorder(group));
                }
                before = Some((start, length));
                sum.add(start, length);
                visit(start..end)?;
            }
        }
        Ok(sum)
    }

    /// Reads and checks the `i`th block of the level that `leaves` has at present.
    fn read(&self, group: &AllocationGroup<'_>, i: usize, level: u32) -> Result<BtreeBlock, Doubt> {
        let fs = group.system.fs;
        let name = self.order.name();
        let block = |i: Option<usize>| i.and_then(|i| self.leaves.get(i)).map(|child| child.block);
        let number = block(Some(i)).unwrap_or(NONE);
        let at = fs.geometry.byte(group.number, number);
        let bytes = group.system.volume.read(KIND, at, fs.geometry.block as usize)?;
        let node = BtreeBlock { header: if fs.checksums { 56 } else { 16 }, records: be16(&bytes, 6), bytes };
        let bytes = &node.bytes;
        if be32(bytes, 0) != self.order.magic(fs.checksums) || u32::from(be16(bytes, 4)) != level {
            return Err(group.doubt(&format!("a block of the {name} is something else")));
        }
        let siblings = (be32(bytes, 8), be32(bytes, 12));
        let expected = (block(i.checked_sub(1)).unwrap_or(NONE), block(Some(i + 1)).unwrap_or(NONE));
        if siblings != expected {
            return Err(group.doubt(&format!("blocks of the {name} are not joined")));
        }
        if fs.checksums {
            if !checksum_matches(bytes, 52) {
                return Err(group.doubt(&format!("the checksum of a block of the {name} is wrong")));
            }
            let belongs = be64(bytes, 16) == at / BASIC_BLOCK
                && field::<16>(bytes, 32) == fs.geometry.uuid
                && be32(bytes, 48) == group.number;
            if !belongs {
                return Err(group.doubt(&format!("a block of the {name} belongs elsewhere")));
            }
            group.system.check_written(be64(bytes, 24), &format!("a block of the {name}"))?;
        }
        // Only a tree that is one block may be empty: nothing is free.
        let root = self.leaves.len() == 1 && self.inner.is_empty();
        let most = node.most(if level == 0 { 8 } else { 12 });
        if usize::from(node.records) > most || node.records == 0 && !(root && level == 0) {
            return Err(group.doubt(&format!("a block of the {name} has an impossible length")));
        }
        let (start, length) = node.entry(0);
        let key = self.leaves.get(i).and_then(|child| child.key);
        if key.is_some_and(|key| key != self.order.key(start, length)) {
            return Err(self.disorder(group));
        }
        Ok(node)
    }

    fn disorder(&self, group: &AllocationGroup<'_>) -> Doubt {
        group.doubt(&format!("the {} is out of order", self.order.name()))
    }
}

/// A block that was read: records, or keys and then pointers.
struct BtreeBlock {
    bytes: Vec<u8>,
    header: usize,
    records: u16,
}

impl BtreeBlock {
    /// Most entries of `size` bytes.
    fn most(&self, size: usize) -> usize {
        (self.bytes.len() - self.header) / size
    }

    /// First block and length of a record or key.
    fn entry(&self, i: usize) -> (u32, u32) {
        (be32(&self.bytes, self.header + 8 * i), be32(&self.bytes, self.header + 8 * i + 4))
    }
}

impl Sum {
    fn add(&mut self, start: u32, length: u32) {
        self.blocks += u64::from(length);
        self.longest = self.longest.max(length);
        self.ranges += 1;
        // The finalizer of splitmix64.
        let mut hash = u64::from(start) << 32 | u64::from(length);
        hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.hash = self.hash.wrapping_add(hash ^ hash >> 31);
    }
}
