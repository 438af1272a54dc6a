//! ext2, ext3 and ext4, with every feature that Linux 6 mounts for writing.
//!
//! Free is what the block bitmaps say, where everything agrees with everything: checksums (where there are any), the
//! free counts of groups and superblock with the bitmaps, and the bitmaps with the places of all structures. The file
//! system must be at rest: unmounted, journal empty, nothing pending, no errors recorded.
//!
//! Two passes over the group descriptors: the first collects where the structures of all groups are (with flex_bg in
//! other groups than their own), the second takes the bitmaps group by group.
#![forbid(unsafe_code)]

mod backups;
mod checksum;
mod group;
mod journal;
mod own;
mod superblock;
#[cfg(test)]
mod tests;

use super::{Doubt, Free, Volume, VolumeAbout, bits};
use crate::used::sums::agree;
use checksum::{Ext4Checksum, crc32c};
use group::Desc;
use std::ops::Range;
use superblock::Super;

/// Most bytes of block bitmaps that are read at once; flex_bg puts them side by side.
const READ: u64 = 1 << 20;

/// Free ranges of an ext2, ext3 or ext4 file system; see [`Parser`](super::Parser).
///
/// # Errors
/// It is one of them, but not at rest, not consistent, larger than the volume, or with features that are unknown.
pub fn parse(volume: &Volume<'_>, free: &mut Free) -> Result<Option<VolumeAbout>, Doubt> {
    let Some(bytes) = volume.peek(superblock::AT, superblock::LEN) else { return Ok(None) };
    let Some(fs) = Super::new(&bytes, volume.size())? else { return Ok(None) };
    let own = structures(&fs, volume)?;
    let mut left = own.as_slice();
    let (mut free_blocks, mut free_inodes) = (0, 0);
    for nr in 0..fs.desc_blocks() {
        let descs = fs.descs(volume, nr)?;
        let mut bitmaps = Bitmaps::default();
        for (place, desc) in descs.iter().enumerate() {
            let group = nr * fs.descs_per_block() + place as u64;
            let bits = match desc.uninit {
                true => never_written(&fs, group, desc),
                false => bitmaps.get(&fs, volume, group, &descs[place..])?.to_vec(),
            };
            free_blocks += take(&fs, group, desc, &bits, &mut left, free)? * fs.cluster;
            free_inodes += desc.free_inodes;
        }
    }
    if (free_blocks, free_inodes) != (fs.free_blocks, fs.free_inodes) {
        return Err(fs.doubt(format!(
            "the superblock counts {} free blocks and {} free inodes, the groups {free_blocks} and {free_inodes}",
            fs.free_blocks, fs.free_inodes
        )));
    }
    backups::fit(&fs, volume, &bytes)?;
    Ok(Some(VolumeAbout { kind: fs.kind, label: fs.label }))
}

/// Blocks of all structures that stand somewhere in the groups, rising. What heads a group is not among them.
fn structures(fs: &Super, volume: &Volume<'_>) -> Result<Vec<Range<u64>>, Doubt> {
    let mut own = own::Collect::default();
    let mut add = |list, range| match own.add(list, range) {
        true => Ok(()),
        false => Err(fs.doubt(format!("{} groups are more than can be checked", fs.groups))),
    };
    if let Some(block) = fs.mmp {
        journal::not_in_use(fs, volume, block)?;
        add(3, block..block + 1)?;
    }
    if let Some(inode) = fs.journal {
        let block = journal::journal(fs, volume, inode)?;
        add(3, block..block + 1)?;
    }
    for nr in 0..fs.desc_blocks() {
        for desc in fs.descs(volume, nr)? {
            add(0, desc.bitmap..desc.bitmap + 1)?;
            add(1, desc.inode_bitmap..desc.inode_bitmap + 1)?;
            add(2, desc.table..desc.table + fs.table)?;
        }
    }
    own.finish().map_err(|block| fs.doubt(format!("two of its structures share block {block}")))
}

/// The clusters of `group`, counted from its beginning, that hold these blocks of it.
fn clusters(fs: &Super, group: &Range<u64>, blocks: &Range<u64>) -> Range<usize> {
    let (start, end) = (blocks.start.max(group.start), blocks.end.min(group.end));
    if start >= end {
        return 0..0;
    }
    // At most 8 times 65536 clusters in a group.
    let start = (start - group.start) / fs.cluster;
    start as usize..(end - group.start).div_ceil(fs.cluster) as usize
}

/// The bitmap of a group with BLOCK_UNINIT: nothing is in use but the group's own structures, where they lie in it.
fn never_written(fs: &Super, group: u64, desc: &Desc) -> Vec<u8> {
    let mut bits = vec![0; fs.block as usize];
    let blocks = fs.group(group);
    let table = desc.table..desc.table + fs.table;
    let (bitmap, inode_bitmap) = (desc.bitmap..desc.bitmap + 1, desc.inode_bitmap..desc.inode_bitmap + 1);
    for own in [fs.head(group), bitmap, inode_bitmap, table] {
        bits::set(&mut bits, clusters(fs, &blocks, &own));
    }
    bits
}

/// Block bitmaps as they stand on the disk.
#[derive(Default)]
struct Bitmaps {
    first: u64,
    bytes: Vec<u8>,
}

impl Bitmaps {
    /// The bitmap of the first of `descs`, which is that of `group`. The ones right behind it on the disk are read along.
    fn get(&mut self, fs: &Super, volume: &Volume<'_>, group: u64, descs: &[Desc]) -> Result<&[u8], Doubt> {
        let (len, Some(desc)) = (fs.block as usize, descs.first()) else { return Ok(&[]) };
        let cached = self.first..self.first + self.bytes.len() as u64 / fs.block;
        if !cached.contains(&desc.bitmap) {
            let follow =
                (desc.bitmap..).zip(descs).take_while(|(at, next)| next.bitmap == *at && !next.uninit);
            let blocks = follow.take((READ / fs.block) as usize).count();
            self.bytes = volume.read(fs.kind, desc.bitmap * fs.block, blocks * len)?;
            self.first = desc.bitmap;
        }
        let at = (desc.bitmap - self.first) as usize * len;
        let bits = self.bytes.get(at..at + len).unwrap_or_default();
        let (sum, width) = desc.bitmap_csum;
        if let Ext4Checksum::Crc32c(seed) = fs.checksum {
            let covered = (fs.per_group / fs.cluster / 8) as usize;
            let right = crc32c(seed, bits.get(..covered).unwrap_or_default());
            if !agree((right ^ sum) << (32 - width), 0) {
                return Err(fs.doubt(format!("group {group}: the checksum of its block bitmap is wrong")));
            }
        }
        Ok(bits)
    }
}

/// Checks one group's bitmap against its descriptor and everybody's structures, and adds what is free. `left` are the
/// structures from this group on. Returns the free clusters.
fn take(
    fs: &Super,
    group: u64,
    desc: &Desc,
    bits: &[u8],
    left: &mut &[Range<u64>],
    free: &mut Free,
) -> Result<u64, Doubt> {
    let blocks = fs.group(group);
    let head = fs.head(group);
    if head.end > blocks.end {
        return Err(fs.doubt(format!("group {group} is too small for its descriptors")));
    }
    let used = |own: &Range<u64>| {
        let own = clusters(fs, &blocks, own);
        bits::find(bits, own.clone(), false) == own.end
    };
    let mut all_used = used(&head);
    while let Some((next, rest)) = left.split_first() {
        if next.start >= blocks.end {
            break;
        }
        let shared = next.start.max(head.start);
        if shared < next.end.min(head.end) {
            return Err(fs.doubt(format!("two of its structures share block {shared}")));
        }
        all_used &= used(next);
        if next.end > blocks.end {
            break;
        }
        *left = rest;
    }
    if !all_used {
        return Err(fs.doubt(format!("group {group}: its bitmap says that structures of it are free")));
    }
    let len = clusters(fs, &blocks, &blocks).end;
    let mut count = 0;
    for run in bits::zeros(bits, len) {
        count += run.len() as u64;
        let start = blocks.start + run.start as u64 * fs.cluster;
        let end = (blocks.start + run.end as u64 * fs.cluster).min(blocks.end);
        free.add(start * fs.block..end * fs.block);
    }
    match count == desc.free {
        true => Ok(count),
        false => Err(fs.doubt(format!(
            "group {group}: its bitmap has {count} free clusters, its descriptor counts {}",
            desc.free
        ))),
    }
}
