//! The device tree: which bytes of the device belong to which chunk. It must say what the chunk tree says.
#![forbid(unsafe_code)]

use super::bytes::NodeBytes;
use super::chunk::Chunks;
use super::doubt::doubt;
use super::node::{BtrfsRoot, Key};
use super::superblock::DevItem;
use super::tree::Trees;
use crate::used::Doubt;
use std::ops::Range;

const DEV_EXTENT: u8 = 204;
/// Error counters: key type `BTRFS_PERSISTENT_ITEM_KEY` at object 0.
const DEV_STATS: u8 = 249;
const DEV_REPLACE: u8 = 250;

/// Calls `unallocated` with each range of the device that no chunk has, in rising order.
pub fn check(
    chunks: &Chunks,
    device: &DevItem,
    root: BtrfsRoot,
    trees: &mut Trees<'_>,
    mut unallocated: impl FnMut(Range<u64>),
) -> Result<(), Doubt> {
    // Physical address, length, logical address of the chunk.
    let mut copies: Vec<(u64, u64, u64)> = chunks
        .all()
        .iter()
        .flat_map(|chunk| chunk.copies().iter().map(|copy| (*copy, chunk.len, chunk.start)))
        .collect();
    copies.sort_unstable();

    let mut expected = copies.iter();
    let (mut end, mut used) = (0, 0u64);
    trees.walk(chunks, root, Key::MIN..=Key::MAX, |key, item| match key {
        Key { object, kind: DEV_EXTENT, offset } if object == device.id => {
            let b = NodeBytes(item);
            let (chunk, len) = (b.u64(16)?, b.u64(24)?);
            if expected.next() != Some(&(offset, len, chunk)) {
                return Err(doubt(format!("byte {offset} of the device is not what the chunks say")));
            }
            if offset < end {
                return Err(doubt(format!("byte {offset} of the device is in two chunks")));
            }
            unallocated(end..offset);
            end = offset.saturating_add(len);
            used = used.saturating_add(len);
            Ok(())
        }
        Key { object: 0, kind: DEV_STATS, .. } => Ok(()),
        Key { object: 0, kind: DEV_REPLACE, .. } => match NodeBytes(item).u64(32)? {
            // Never started, finished, cancelled.
            0 | 2 | 3 => Ok(()),
            _ => Err(doubt("its device is being replaced")),
        },
        Key { object, kind, .. } => {
            Err(doubt(format!("the device tree holds the unknown item {object} {kind}")))
        }
    })?;
    if let Some((at, ..)) = expected.next() {
        return Err(doubt(format!(
            "byte {at} of the device is in a chunk that the device tree does not know"
        )));
    }
    if used != device.used {
        let other = device.used;
        return Err(doubt(format!("its chunks take {used} bytes of the device, which says {other}")));
    }
    unallocated(end..device.total);
    Ok(())
}
