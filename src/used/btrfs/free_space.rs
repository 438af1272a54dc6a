//! The free space tree: a second witness of what is free.
//!
//! It is written beside the extent tree, and the kernel allocates by it. Both must name the same bytes: an extent that
//! one of them lost (a bit that flipped in memory before the checksum was made) leaves all sums as they are.
//! Byte tables: `struct btrfs_free_space_info` and the keys around it in `include/uapi/linux/btrfs_tree.h`.
#![forbid(unsafe_code)]

use super::chunk::Chunks;
use super::doubt::doubt;
use super::node::{BtrfsRoot, Key};
use super::tree::Trees;
use crate::used::Doubt;
use std::ops::Range;

const INFO: u8 = 198;
const EXTENT: u8 = 199;
const BITMAP: u8 = 200;

/// Logical ranges in rising order, of which only a hash is kept. Ranges that touch are one.
#[derive(Default)]
pub struct FreeRuns {
    hasher: blake3::Hasher,
    run: Range<u64>,
}

impl FreeRuns {
    pub fn add(&mut self, range: Range<u64>) {
        if range.is_empty() {
        } else if range.start == self.run.end {
            self.run.end = range.end;
        } else {
            self.close();
            self.run = range;
        }
    }

    fn close(&mut self) {
        if !self.run.is_empty() {
            self.hasher.update(&self.run.start.to_le_bytes());
            self.hasher.update(&self.run.end.to_le_bytes());
        }
    }

    /// Equal where the same bytes were added.
    pub fn finish(mut self) -> blake3::Hash {
        self.close();
        self.hasher.finalize()
    }
}

/// Whether the free space tree names the same bytes as `free`, which the extent tree leaves.
pub fn check(
    chunks: &Chunks,
    root: BtrfsRoot,
    sector: u32,
    trees: &mut Trees<'_>,
    free: FreeRuns,
) -> Result<(), Doubt> {
    let sector = u64::from(sector);
    let mut runs = FreeRuns::default();
    trees.walk(chunks, root, Key::MIN..=Key::MAX, |key, item| {
        let Key { object: start, kind, offset: len } = key;
        match (kind, start.checked_add(len)) {
            (INFO, _) => Ok(()),
            // mkfs.btrfs leaves the block groups behind that it had while it worked.
            (EXTENT | BITMAP, _) if chunks.covering(start, len).is_none() => Ok(()),
            (EXTENT, Some(end)) => {
                runs.add(start..end);
                Ok(())
            }
            (BITMAP, Some(_)) if (len / sector).div_ceil(8) == item.len() as u64 => {
                // One bit for each sector, the lowest first.
                for bit in (0..len / sector).filter(|bit| bit_is_set(item, *bit)) {
                    runs.add(start + bit * sector..start + (bit + 1) * sector);
                }
                Ok(())
            }
            _ => Err(doubt(format!("the free space tree holds the unexpected item {start} {kind}"))),
        }
    })?;
    if runs.finish() != free.finish() {
        return Err(doubt("the extent tree and the free space tree do not agree about what is free"));
    }
    Ok(())
}

fn bit_is_set(bitmap: &[u8], bit: u64) -> bool {
    let byte = usize::try_from(bit / 8).ok().and_then(|at| bitmap.get(at));
    byte.is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
}
