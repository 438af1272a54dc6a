//! The chunk tree: all chunks, and the device that they are on.
#![forbid(unsafe_code)]

use super::chunk::{CHUNK_ITEM, CHUNK_TREE_OBJECT, Chunk, Chunks};
use super::doubt::doubt;
use super::node::Key;
use super::superblock::{BtrfsSuperblock, DevItem};
use super::tree::Trees;
use crate::used::Doubt;

const DEV_ITEM: u8 = 216;

/// All chunks, and the device item beside them.
pub fn read(superblock: &BtrfsSuperblock, trees: &mut Trees<'_>) -> Result<(Chunks, DevItem), Doubt> {
    let system = Chunks::of_superblock(superblock)?;
    let mut chunks = Chunks::default();
    let mut device = None;
    trees.walk(&system, superblock.chunk_tree, Key::MIN..=Key::MAX, |key, item| match key {
        Key { object: CHUNK_TREE_OBJECT, kind: CHUNK_ITEM, offset } => {
            chunks.push(Chunk::parse(offset, item, superblock)?)
        }
        Key { object: 1, kind: DEV_ITEM, offset } if offset == superblock.device.id => {
            device = Some(DevItem::parse(item)?);
            Ok(())
        }
        Key { object: 1, kind: DEV_ITEM, .. } => Err(doubt("it has more than one device")),
        Key { object, kind, .. } => {
            Err(doubt(format!("the chunk tree holds the unknown item {object} {kind}")))
        }
    })?;
    let device = device.ok_or_else(|| doubt("its chunk tree does not know its device"))?;
    if !device.same_device(&superblock.device) {
        return Err(doubt("superblock and chunk tree do not agree about the device"));
    }
    if !chunks.all().iter().filter(|chunk| chunk.is_system()).eq(system.all()) {
        return Err(doubt("superblock and chunk tree do not agree about the system chunks"));
    }
    Ok((chunks, device))
}
