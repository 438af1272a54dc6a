//! The extent tree: every byte of a chunk that the last transaction refers to. What stands between is free.
//!
//! Extents are counted once more by the block groups and by the superblock; the three must agree to the byte.
//! Byte tables: `struct btrfs_extent_item`, `btrfs_block_group_item` in `include/uapi/linux/btrfs_tree.h`.
#![forbid(unsafe_code)]

use super::bytes::NodeBytes;
use super::chunk::{Chunk, Chunks};
use super::doubt::doubt;
use super::node::Key;
use super::superblock::BtrfsSuperblock;
use crate::used::Doubt;
use std::ops::Range;

const EXTENT: u8 = 168;
const METADATA: u8 = 169;
/// References that do not fit into the item of the extent.
const REFERENCES: [u8; 4] = [176, 178, 182, 184];
const BLOCK_GROUP: u8 = 192;

/// Flags of an extent item.
const DATA: u64 = 1;
const TREE_BLOCK: u64 = 2;

/// What is known of a chunk besides where it is.
#[derive(Clone, Default)]
struct Tally {
    /// Bytes of the extents that were found.
    found: u64,
    /// Bytes that its block group item counts.
    group: Option<u64>,
}

/// Takes the items of the extent tree, and of the block group tree, and says what is free.
pub struct Extents<'a, F> {
    chunks: &'a Chunks,
    superblock: &'a BtrfsSuperblock,
    free: F,
    tally: Vec<Tally>,
    /// Number of the chunk that the walk is in.
    here: usize,
    /// Logical range of the last extent.
    last: Range<u64>,
}

impl<'a, F: FnMut(&Chunk, Range<u64>)> Extents<'a, F> {
    /// Calls `free` with each logical range that no extent has, and the chunk that it is in.
    pub fn new(chunks: &'a Chunks, superblock: &'a BtrfsSuperblock, free: F) -> Self {
        let tally = vec![Tally::default(); chunks.all().len()];
        Extents { chunks, superblock, free, tally, here: 0, last: 0..0 }
    }

    /// An item of the extent tree; keys rise.
    pub fn item(&mut self, key: Key, item: &[u8]) -> Result<(), Doubt> {
        match key.kind {
            EXTENT | METADATA => self.extent(key, item),
            BLOCK_GROUP if !self.superblock.block_group_tree => self.block_group(key, item),
            kind if REFERENCES.contains(&kind) && key.object == self.last.start && !self.last.is_empty() => {
                Ok(())
            }
            kind => Err(doubt(format!("the extent tree holds the unexpected item {} {kind}", key.object))),
        }
    }

    fn extent(&mut self, key: Key, item: &[u8]) -> Result<(), Doubt> {
        let start = key.object;
        let bad = |what: &str| Err(doubt(format!("extent {start}: {what}")));
        let flags = NodeBytes(item).u64(16)? & (DATA | TREE_BLOCK);
        let node = u64::from(self.superblock.node);
        let len = if key.kind == METADATA { node } else { key.offset };
        let fits = match flags {
            DATA => key.kind == EXTENT,
            TREE_BLOCK => len == node && (key.kind == EXTENT || self.superblock.skinny),
            _ => false,
        };
        let sector = u64::from(self.superblock.sector);
        if !fits || len == 0 || !len.is_multiple_of(sector) || !start.is_multiple_of(sector) {
            return bad(&format!("flags {flags:#x} and length {len} cannot be"));
        }
        let Some(end) = start.checked_add(len) else { return bad("it has no end") };
        self.leave_chunks_before(start);
        let inside = |chunk: &&Chunk| start >= chunk.start && end <= chunk.end();
        let chunks: &'a [Chunk] = self.chunks.all();
        let (Some(chunk), Some(tally)) =
            (chunks.get(self.here).filter(inside), self.tally.get_mut(self.here))
        else {
            return bad("it is not inside of a chunk");
        };
        if start < self.last.end {
            return bad("it overlaps the one before it");
        }
        let holds = if flags == DATA { chunk.holds_data() } else { chunk.holds_nodes() };
        if !holds {
            return bad("it is in a chunk of another kind");
        }
        (self.free)(chunk, self.last.end.max(chunk.start)..start);
        self.last = start..end;
        tally.found = tally.found.saturating_add(len);
        Ok(())
    }

    /// No extent comes any more in the chunks that end at or before a logical address.
    fn leave_chunks_before(&mut self, at: u64) {
        while let Some(chunk) = self.chunks.all().get(self.here).filter(|chunk| chunk.end() <= at) {
            (self.free)(chunk, self.last.end.max(chunk.start)..chunk.end());
            self.here += 1;
        }
    }

    /// A block group item, of whichever tree; there is one for each chunk.
    pub fn block_group(&mut self, key: Key, item: &[u8]) -> Result<(), Doubt> {
        let bad = || doubt(format!("block group {} is not like its chunk", key.object));
        let b = NodeBytes(item);
        let number = self.chunks.starting(key.object).ok_or_else(bad)?;
        let chunk = self.chunks.all().get(number).ok_or_else(bad)?;
        let tally = self.tally.get_mut(number).ok_or_else(bad)?;
        let same = key.kind == BLOCK_GROUP && key.offset == chunk.len && b.u64(16)? == chunk.flags;
        if !same || item.len() != 24 {
            return Err(bad());
        }
        tally.group = Some(b.u64(0)?);
        Ok(())
    }

    /// The rest of the free ranges, after all items; and whether everybody counted the same.
    pub fn finish(mut self) -> Result<(), Doubt> {
        self.leave_chunks_before(u64::MAX);
        let mut all = 0u64;
        for (chunk, tally) in self.chunks.all().iter().zip(&self.tally) {
            let start = chunk.start;
            let Some(group) = tally.group else {
                return Err(doubt(format!("chunk {start} has no block group")));
            };
            if group != tally.found {
                let found = tally.found;
                return Err(doubt(format!(
                    "block group {start} counts {group} bytes in use, but has {found}"
                )));
            }
            all = all.saturating_add(group);
        }
        match self.superblock.bytes_used {
            used if used == all => Ok(()),
            used => Err(doubt(format!("the superblock counts {used} bytes in use, but there are {all}"))),
        }
    }
}
