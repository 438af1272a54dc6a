//! What is written outside the superblock about whether the file system is at rest: journal and multiple-mount
//! protection.
#![forbid(unsafe_code)]

use super::checksum::{Ext4Checksum, crc32c};
use super::superblock::Super;
use crate::bytes::{le16, le32};
use crate::used::sums::agree;
use crate::used::{Doubt, Volume};

/// Most levels of an extent tree (`EXT4_MAX_EXTENT_DEPTH`).
const MAX_DEPTH: u16 = 5;

/// The first block of the journal, which says that there is nothing to replay.
///
/// The superblock's flag says so too; but where a copy of the superblock was put back, only the journal knows.
/// Layout: the kernel's `Documentation/filesystems/ext4/journal.rst`.
pub(super) fn journal(fs: &Super, volume: &Volume<'_>, inode: u64) -> Result<u64, Doubt> {
    let at = first_block(fs, volume, inode)?;
    let mut bytes = volume.read(fs.kind, at * fs.block, 1024)?;
    let be32 = |at: usize| le32(&bytes, at).swap_bytes();
    if be32(0) != 0xc03b_3998 || ![3, 4].contains(&be32(4)) || u64::from(be32(0xc)) != fs.block {
        return Err(fs.doubt("there is no journal where it should be"));
    }
    if be32(0x1c) != 0 {
        return Err(fs.doubt("the journal needs recovery: it has entries, though the superblock denies it; `e2fsck -f` mends it"));
    }
    if be32(0x20) != 0 {
        return Err(
            fs.doubt("the journal was given up after an error: e2fsck should look at it (`e2fsck -f`)")
        );
    }
    // Version 2 has features; two of them are checksums.
    let (checked, sum) = (be32(4) == 4 && be32(0x28) & 0x18 != 0, be32(0xfc));
    bytes[0xfc..0x100].fill(0);
    if checked && !agree(crc32c(!0, &bytes), sum) {
        return Err(fs.doubt("the checksum of the journal's superblock is wrong"));
    }
    Ok(at)
}

/// The first block of a file's data.
fn first_block(fs: &Super, volume: &Volume<'_>, inode: u64) -> Result<u64, Doubt> {
    let lost = || fs.doubt(format!("inode {inode}, the journal, leads nowhere"));
    let index = inode.checked_sub(1).ok_or_else(lost)?;
    let (group, place) = (index / fs.inodes_per_group, index % fs.inodes_per_group);
    if group >= fs.groups {
        return Err(lost());
    }
    let descs = fs.descs(volume, group / fs.descs_per_block())?;
    let desc = descs.get((group % fs.descs_per_block()) as usize).ok_or_else(lost)?;
    let bytes = volume.read(fs.kind, desc.table * fs.block + place * fs.inode_size, 128)?;
    let mut node = bytes[0x28..0x64].to_vec();
    let inside = |block: u64| (fs.first..fs.blocks).contains(&block);
    if le32(&bytes, 0x20) & 0x8_0000 == 0 {
        return Some(u64::from(le32(&node, 0))).filter(|block| inside(*block)).ok_or_else(lost);
    }
    // Down the leftmost branch of the extent tree; the depth falls, so it ends.
    let mut expected = None;
    loop {
        let (magic, entries, depth) = (le16(&node, 0), le16(&node, 2), le16(&node, 6));
        let starts_at_0 = entries > 0 && le32(&node, 12) == 0;
        if magic != 0xf30a || depth > MAX_DEPTH || expected.is_some_and(|e| e != depth) || !starts_at_0 {
            return Err(lost());
        }
        let (low, high) = if depth == 0 { (20, 18) } else { (16, 20) };
        let block = u64::from(le32(&node, low)) | u64::from(le16(&node, high)) << 32;
        if !inside(block) {
            return Err(lost());
        }
        if depth == 0 {
            return Ok(block);
        }
        expected = Some(depth - 1);
        node = volume.read(fs.kind, block * fs.block, fs.block as usize)?;
    }
}

/// Nobody has it mounted, as far as the block of the multiple-mount protection knows.
///
/// Layout: the kernel's `Documentation/filesystems/ext4/mmp.rst`.
pub(super) fn not_in_use(fs: &Super, volume: &Volume<'_>, block: u64) -> Result<(), Doubt> {
    if !(fs.first..fs.blocks).contains(&block) {
        return Err(fs.doubt("the block of the multiple-mount protection lies outside"));
    }
    let bytes = volume.read(fs.kind, block * fs.block, 1024)?;
    if le32(&bytes, 0) != 0x004d_4d50 {
        return Err(fs.doubt("there is no multiple-mount protection where it should be"));
    }
    if let Ext4Checksum::Crc32c(seed) = fs.checksum
        && !agree(crc32c(seed, &bytes[..1020]), le32(&bytes, 1020))
    {
        return Err(fs.doubt("the checksum of the multiple-mount protection is wrong"));
    }
    match le32(&bytes, 4) {
        0xff4d_4d50 => Ok(()),
        0xe24d_4d50 => Err(fs.doubt("e2fsck works on it, or was interrupted (multiple-mount protection)")),
        _ => Err(fs.doubt("another machine has it mounted, or crashed with it (multiple-mount protection)")),
    }
}
