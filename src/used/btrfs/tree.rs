//! Walking a tree in the order of its keys.
#![forbid(unsafe_code)]

use super::chunk::Chunks;
use super::doubt::{KIND, doubt};
use super::node::{BtrfsNode, BtrfsRoot, ExpectedBtrfsNode, Key, MAX_LEVEL};
use super::superblock::BtrfsSuperblock;
use crate::used::{Doubt, Volume};
use std::ops::RangeInclusive;

/// Reads trees. All walks together read no more nodes than the bytes in use can hold.
///
/// Within one walk no node comes twice: levels fall on the way down, and each node must begin with the one key that its
/// parent gives, which rise. Between walks the owner in the node differs.
pub struct Trees<'a> {
    volume: &'a Volume<'a>,
    superblock: &'a BtrfsSuperblock,
    left: u64,
}

impl<'a> Trees<'a> {
    pub fn new(volume: &'a Volume<'a>, superblock: &'a BtrfsSuperblock) -> Self {
        Trees { volume, superblock, left: superblock.bytes_used / u64::from(superblock.node) }
    }

    /// Calls `visit` with each item whose key is in `keys`, in the order of keys.
    ///
    /// Memory: one node per level.
    pub fn walk(
        &mut self,
        chunks: &Chunks,
        root: BtrfsRoot,
        keys: RangeInclusive<Key>,
        mut visit: impl FnMut(Key, &[u8]) -> Result<(), Doubt>,
    ) -> Result<(), Doubt> {
        let BtrfsRoot { tree, at, level, generation } = root;
        if level > MAX_LEVEL || generation > self.superblock.generation {
            return Err(doubt(format!("the root of tree {tree} cannot be")));
        }
        // Each node with the number of the entry that comes next.
        let top =
            self.read(chunks, ExpectedBtrfsNode { at, tree, level, generation, first: None, end: None })?;
        let mut path = vec![(top, 0)];
        while let Some((node, next)) = path.last_mut() {
            let slot = *next;
            *next += 1;
            if slot >= node.count() || node.key(slot)? > *keys.end() {
                path.pop();
            } else if node.level() > 0 {
                let child = node.child(slot)?;
                if child.end.is_none_or(|end| end > *keys.start()) {
                    let child = self.read(chunks, child)?;
                    path.push((child, 0));
                }
            } else if node.key(slot)? >= *keys.start() {
                visit(node.key(slot)?, node.item(slot)?)?;
            }
        }
        Ok(())
    }

    /// Reads the first copy; where that is damaged, the disk is in doubt, whatever the other one says.
    fn read(&mut self, chunks: &Chunks, expected: ExpectedBtrfsNode) -> Result<BtrfsNode, Doubt> {
        self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| doubt("its trees have more nodes than it has bytes in use"))?;
        let len = u64::from(self.superblock.node);
        if !expected.at.is_multiple_of(u64::from(self.superblock.sector)) {
            return Err(doubt(format!(
                "node {} of tree {} begins within a sector",
                expected.at, expected.tree
            )));
        }
        let chunk = chunks
            .covering(expected.at, len)
            .ok_or_else(|| doubt(format!("node {} of tree {} is in no chunk", expected.at, expected.tree)))?;
        let physical = chunk.copies().first().and_then(|copy| copy.checked_add(expected.at - chunk.start));
        let physical = physical.ok_or_else(|| doubt("a chunk lies beyond every disk"))?;
        let bytes = self.volume.read(KIND, physical, self.superblock.node as usize)?;
        BtrfsNode::new(bytes, expected, self.superblock.checksum, &self.superblock.metadata_uuid)
    }
}
