//! Chunks: which bytes of the device stand for which logical addresses.
//!
//! Byte tables: `struct btrfs_chunk`, `btrfs_stripe` in the kernel's `include/uapi/linux/btrfs_tree.h`; the rules are
//! those of `btrfs_check_chunk_valid` in `fs/btrfs/tree-checker.c`.
#![forbid(unsafe_code)]

use super::bytes::NodeBytes;
use super::doubt::doubt;
use super::node::Key;
use super::superblock::BtrfsSuperblock;
use crate::used::Doubt;

/// Most chunks that are looked at: 256 TiB in chunks of 1 GiB, as they are made on disks that large. With what the
/// other steps keep of each, they take 32 MiB of memory.
const MAX_CHUNKS: usize = 1 << 18;

/// Object of all chunk items.
pub const CHUNK_TREE_OBJECT: u64 = 256;
/// Type of their keys.
pub const CHUNK_ITEM: u8 = 228;

const DATA: u64 = 1 << 0;
const SYSTEM: u64 = 1 << 1;
const METADATA: u64 = 1 << 2;
const DUP: u64 = 1 << 5;

/// A chunk on one device, in one copy or in two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Logical byte address.
    pub start: u64,
    /// Bytes of one copy.
    pub len: u64,
    /// What it holds and how, as the block group has it too.
    pub flags: u64,
    copies: [u64; 2],
}

impl Chunk {
    /// A chunk item (`struct btrfs_chunk`) that stands for the logical addresses from `start` on.
    pub fn parse(start: u64, item: &[u8], superblock: &BtrfsSuperblock) -> Result<Self, Doubt> {
        let bad = |what: &str| Err(doubt(format!("chunk {start}: {what}")));
        let b = NodeBytes(item);
        let (len, flags, stripes) = (b.u64(0)?, b.u64(24)?, usize::from(b.u16(44)?));
        if flags & !(DATA | SYSTEM | METADATA | DUP) != 0 {
            return bad(&format!("it is striped, mirrored or of an unknown kind ({flags:#x})"));
        }
        if ![DATA, METADATA, DATA | METADATA, SYSTEM].contains(&(flags & !DUP)) {
            return bad(&format!("its kind {flags:#x} cannot be"));
        }
        let copies = if flags & DUP != 0 { 2 } else { 1 };
        if stripes != copies || item.len() != 48 + 32 * copies {
            return bad("it has more or fewer copies than it should have");
        }
        let sector = u64::from(superblock.sector);
        let device = &superblock.device;
        let mut chunk = Chunk { start, len, flags, copies: [0; 2] };
        for (stripe, copy) in chunk.copies.iter_mut().take(copies).enumerate() {
            let at = 48 + 32 * stripe;
            *copy = b.u64(at + 8)?;
            if b.u64(at)? != device.id || b.uuid(at + 16)? != device.uuid {
                return bad("it is on another device");
            }
            if !copy.is_multiple_of(sector) || copy.checked_add(len).is_none_or(|end| end > device.total) {
                return bad("it is not inside of the device");
            }
        }
        if !start.is_multiple_of(sector)
            || !len.is_multiple_of(sector)
            || len == 0
            || start.checked_add(len).is_none()
        {
            return bad(&format!("its {len} bytes cannot be"));
        }
        Ok(chunk)
    }

    /// Logical byte address of its end.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }

    /// Bytes of the device where its copies begin.
    pub fn copies(&self) -> &[u64] {
        if self.flags & DUP != 0 { &self.copies } else { &self.copies[..1] }
    }

    /// Whether it holds the chunk tree.
    pub fn is_system(&self) -> bool {
        self.flags & SYSTEM != 0
    }

    /// Whether extents of file content may be in it.
    pub fn holds_data(&self) -> bool {
        self.flags & DATA != 0
    }

    /// Whether nodes may be in it.
    pub fn holds_nodes(&self) -> bool {
        self.flags & (SYSTEM | METADATA) != 0
    }
}

/// Chunks in the order of logical addresses, none overlapping another there.
#[derive(Debug, Default)]
pub struct Chunks(Vec<Chunk>);

impl Chunks {
    /// Adds one behind all others.
    pub fn push(&mut self, chunk: Chunk) -> Result<(), Doubt> {
        if self.0.last().is_some_and(|last| last.end() > chunk.start) {
            return Err(doubt(format!("chunk {} overlaps the one before it", chunk.start)));
        }
        if self.0.len() >= MAX_CHUNKS {
            return Err(doubt(format!("it has more than {MAX_CHUNKS} chunks")));
        }
        self.0.push(chunk);
        Ok(())
    }

    /// The chunks that the superblock has a copy of, so that the chunk tree can be read.
    pub fn of_superblock(superblock: &BtrfsSuperblock) -> Result<Self, Doubt> {
        let b = NodeBytes(&superblock.system_chunks);
        let mut found = Vec::new();
        let mut at = 0;
        while at < superblock.system_chunks.len() {
            let key = Key::parse(b.slice(at, 17)?)?;
            if (key.object, key.kind) != (CHUNK_TREE_OBJECT, CHUNK_ITEM) {
                return Err(doubt("the system chunks of the superblock are none"));
            }
            let len = 48 + 32 * usize::from(b.u16(at + 17 + 44)?);
            found.push(Chunk::parse(key.offset, b.slice(at + 17, len)?, superblock)?);
            at += 17 + len;
        }
        found.sort_by_key(|chunk| chunk.start);
        let mut chunks = Chunks::default();
        found.into_iter().try_for_each(|chunk| chunks.push(chunk))?;
        Ok(chunks)
    }

    pub fn all(&self) -> &[Chunk] {
        &self.0
    }

    /// The chunk that holds all of `len` bytes at a logical address.
    pub fn covering(&self, at: u64, len: u64) -> Option<&Chunk> {
        let before = self.0.partition_point(|chunk| chunk.start <= at);
        let chunk = self.0.get(before.checked_sub(1)?)?;
        at.checked_add(len).is_some_and(|end| end <= chunk.end()).then_some(chunk)
    }

    /// Number of the chunk that begins at a logical address, counted from 0.
    pub fn starting(&self, at: u64) -> Option<usize> {
        self.0.binary_search_by_key(&at, |chunk| chunk.start).ok()
    }
}
