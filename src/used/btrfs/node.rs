//! One node of a tree: a leaf with items, or pointers to nodes one level down.
//!
//! Byte tables: `struct btrfs_header`, `btrfs_item`, `btrfs_key_ptr` in the kernel's `include/uapi/linux/btrfs_tree.h`.
#![forbid(unsafe_code)]

use super::bytes::NodeBytes;
use super::checksum::BtrfsChecksum;
use super::doubt::doubt;
use crate::used::Doubt;

const HEADER: usize = 101;
const ITEM: usize = 25;
const POINTER: usize = 33;

/// The order of all trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub object: u64,
    pub kind: u8,
    pub offset: u64,
}

impl Key {
    pub const MIN: Key = Key::new(0, 0, 0);
    pub const MAX: Key = Key::new(u64::MAX, u8::MAX, u64::MAX);

    pub const fn new(object: u64, kind: u8, offset: u64) -> Self {
        Key { object, kind, offset }
    }

    /// A `btrfs_disk_key`, 17 bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Doubt> {
        let b = NodeBytes(bytes);
        Ok(Key { object: b.u64(0)?, kind: b.u8(8)?, offset: b.u64(9)? })
    }
}

/// Level of the highest node that there can be; leaves are at level 0 (`BTRFS_MAX_LEVEL` is 8 levels).
pub const MAX_LEVEL: u8 = 7;

/// Where a tree begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BtrfsRoot {
    /// Number of the tree.
    pub tree: u64,
    /// Logical byte address.
    pub at: u64,
    pub level: u8,
    /// The transaction that wrote it.
    pub generation: u64,
}

/// What is known of a node before it is read.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedBtrfsNode {
    /// Logical byte address.
    pub at: u64,
    /// Number of the tree that it is a part of.
    pub tree: u64,
    pub level: u8,
    pub generation: u64,
    /// Its first key; `None` for the root of a tree.
    pub first: Option<Key>,
    /// All of its keys are below; `None` where there is no node to its right.
    pub end: Option<Key>,
}

/// A node that is what it was expected to be, with rising keys and every item inside.
pub struct BtrfsNode {
    bytes: Vec<u8>,
    expected: ExpectedBtrfsNode,
    count: usize,
}

impl BtrfsNode {
    /// Checks the bytes of a node of a file system with these checksums and this UUID in every node.
    pub fn new(
        bytes: Vec<u8>,
        expected: ExpectedBtrfsNode,
        checksum: BtrfsChecksum,
        uuid: &[u8; 16],
    ) -> Result<Self, Doubt> {
        let wrong = |what| Err(doubt(format!("node {} of tree {}: {what}", expected.at, expected.tree)));
        if !checksum.holds(&bytes) {
            return wrong("its checksum does not match");
        }
        let b = NodeBytes(&bytes);
        if b.uuid(32)? != *uuid {
            return wrong("it belongs to another file system");
        }
        if b.u64(48)? != expected.at {
            return wrong("it says that it stands elsewhere");
        }
        if b.u64(80)? != expected.generation {
            return wrong("it is of another transaction than expected");
        }
        if b.u64(88)? != expected.tree {
            return wrong("it is of another tree");
        }
        if b.u8(100)? != expected.level {
            return wrong("it is of another level than expected");
        }
        let count = b.u32(96)? as usize;
        let entry = if expected.level == 0 { ITEM } else { POINTER };
        if count > (bytes.len() - HEADER) / entry
            || count == 0 && (expected.level > 0 || expected.first.is_some())
        {
            return wrong("it has an impossible number of items");
        }
        let node = BtrfsNode { bytes, expected, count };
        if !node.keys_fit()? {
            return wrong("its keys are not in order");
        }
        if expected.level == 0 && !node.items_fit()? {
            return wrong("its items are not inside of it");
        }
        Ok(node)
    }

    fn keys_fit(&self) -> Result<bool, Doubt> {
        let mut last = None;
        for slot in 0..self.count {
            let key = self.key(slot)?;
            let fits = match last {
                None => self.expected.first.is_none_or(|first| first == key),
                Some(last) => last < key,
            };
            if !fits {
                return Ok(false);
            }
            last = Some(key);
        }
        Ok(last.zip(self.expected.end).is_none_or(|(last, end)| last < end))
    }

    /// The items' data stands without gaps at the end of the leaf, the first item's last.
    fn items_fit(&self) -> Result<bool, Doubt> {
        let mut end = self.bytes.len() - HEADER;
        for slot in 0..self.count {
            let (offset, len) = self.place(slot)?;
            if offset.checked_add(len) != Some(end) {
                return Ok(false);
            }
            end = offset;
        }
        Ok(end >= self.count * ITEM)
    }

    /// Offset behind the header, and length, of an item's data.
    fn place(&self, slot: usize) -> Result<(usize, usize), Doubt> {
        let b = NodeBytes(&self.bytes);
        let at = HEADER + slot * ITEM + 17;
        Ok((b.u32(at)? as usize, b.u32(at + 4)? as usize))
    }

    pub fn level(&self) -> u8 {
        self.expected.level
    }

    /// Number of items or pointers.
    pub fn count(&self) -> usize {
        self.count
    }

    pub fn key(&self, slot: usize) -> Result<Key, Doubt> {
        let entry = if self.expected.level == 0 { ITEM } else { POINTER };
        Key::parse(NodeBytes(&self.bytes).slice(HEADER + slot * entry, 17)?)
    }

    /// The data of an item of a leaf.
    pub fn item(&self, slot: usize) -> Result<&[u8], Doubt> {
        let (offset, len) = self.place(slot)?;
        NodeBytes(&self.bytes).slice(HEADER + offset, len)
    }

    /// What a pointer of an inner node says of the node that it points to.
    pub fn child(&self, slot: usize) -> Result<ExpectedBtrfsNode, Doubt> {
        let b = NodeBytes(&self.bytes);
        let at = HEADER + slot * POINTER + 17;
        let generation = b.u64(at + 8)?;
        // A node is written anew with every change below it, and the pointer to it with it.
        if generation > self.expected.generation {
            return Err(doubt(format!(
                "node {} of tree {}: it points into the future",
                self.expected.at, self.expected.tree
            )));
        }
        let end = if slot + 1 < self.count { Some(self.key(slot + 1)?) } else { self.expected.end };
        Ok(ExpectedBtrfsNode {
            at: b.u64(at)?,
            level: self.expected.level.saturating_sub(1),
            generation,
            first: Some(self.key(slot)?),
            end,
            ..self.expected
        })
    }
}
