//! What the format fixes outside of the superblock and its groups: see [`crate::used::fixed`].
#![forbid(unsafe_code)]

use super::superblock::{AT, LEN, Super};
use crate::bytes::le16;
use crate::used::fixed::is_boot_area;
use crate::used::{Doubt, Volume};

/// Most copies that are looked at, from the first group on; the last one is in any case.
const COPIES: usize = 64;
/// Fields that no tool and no kernel changes in one copy only: sizes of blocks, clusters, groups, inodes, and the UUID.
const SAME: [std::ops::Range<usize>; 4] = [0x18..0x2c, 0x38..0x3a, 0x58..0x5a, 0x68..0x78];

/// The boot block and the copies of the superblock `bytes` must be what its tools leave there. Other fields of copies are
/// older where e2fsck, tune2fs or the kernel changed the first one only.
pub(super) fn fit(fs: &Super, volume: &Volume<'_>, bytes: &[u8]) -> Result<(), Doubt> {
    if !is_boot_area(&volume.read(fs.kind, 0, AT as usize)?) {
        return Err(fs.doubt(
            "its first 1024 bytes are neither empty nor a boot loader: it may be an old one below encryption",
        ));
    }
    let with_copy = (1..fs.groups).filter(|group| fs.has_super(*group)).take(COPIES);
    let last = fs.groups.checked_sub(1).filter(|group| *group > 0 && fs.has_super(*group));
    for group in with_copy.chain(last) {
        let copy = volume.read(fs.kind, fs.group(group).start * fs.block, LEN)?;
        if le16(&copy, 0x38) != 0xef53
            || SAME.iter().any(|field| copy.get(field.clone()) != bytes.get(field.clone()))
        {
            return Err(fs.doubt(format!(
                "the copy of its superblock in group {group} is not one: e2fsck writes it again"
            )));
        }
    }
    Ok(())
}
