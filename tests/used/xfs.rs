//! XFS: made by mkfs.xfs, aged by the kernel, counted by xfs_db, checked by xfs_repair.

use crate::mount::shell;
use crate::proof::Row;
use crate::ranges::{complement, union};
use crate::rows;
use crate::work::{CLONES, EXTENTS, PLAIN, UNIX};
use std::ops::Range;
use std::path::Path;

pub const XFS: Row = Row {
    kind: "xfs",
    mib: 40,
    make: "mkfs.xfs -q --unsupported $IMG",
    mount: "-t xfs",
    ops: &[PLAIN, UNIX, EXTENTS, CLONES],
    used,
    fsck: "xfs_repair -n $IMG",
    ..Row::DEFAULT
};

/// A few of each: what else mkfs.xfs can do is in `used_xfs/`.
const FEW: Row = Row { rounds: 2, ..XFS };

rows! {
    loop_xfs_default: XFS;
    loop_xfs_300_mib: Row { mib: 300, make: "mkfs.xfs -q $IMG", ..FEW };
    loop_xfs_1k_blocks_with_rmap: Row { make: "mkfs.xfs -q --unsupported -b size=1024 -m rmapbt=1 $IMG", ..XFS };
    loop_xfs_as_it_was_made_in_2014: Row {
        make: "mkfs.xfs -q --unsupported -m finobt=0,reflink=0,inobtcount=0,bigtime=0 -i sparse=0 $IMG",
        ops: &[PLAIN, UNIX, EXTENTS],
        ..FEW
    };
    loop_xfs_all_features: Row {
        make: "mkfs.xfs -q --unsupported -m rmapbt=1,bigtime=1,inobtcount=1 -i nrext64=1,size=2048 $IMG",
        ..FEW
    };
    loop_xfs_4k_sectors: Row { make: "mkfs.xfs -q --unsupported -s size=4096 $IMG", ..FEW };
    loop_xfs_many_groups: Row { mib: 160, make: "mkfs.xfs -q --unsupported -d agcount=10 $IMG", ..FEW };
    loop_xfs_striped: Row {
        mib: 160,
        make: "mkfs.xfs -q --unsupported -d su=64k,sw=3 -l su=256k -b size=2048 $IMG",
        ..FEW
    };
    // The headers keep the UUID that they were made with.
    loop_xfs_new_uuid: Row { make: "mkfs.xfs -q --unsupported $IMG && xfs_admin -U generate $IMG", ..FEW };
    loop_xfs_repaired: Row { make: "mkfs.xfs -q --unsupported -m rmapbt=1 $IMG", after: "xfs_repair $IMG", ..FEW };
}

/// All that the free-space btrees and free lists do not name, as xfs_db reads them.
pub fn used(image: &Path) -> Vec<Range<u64>> {
    let said = shell("xfs_db -r -c 'sb 0' -c 'p blocksize agblocks' -c 'freesp -d' \"$IMG\"", image);
    let field = |name: &str| {
        let value =
            said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = ")?.parse::<u64>().ok());
        value.unwrap_or_else(|| panic!("xfs_db says no {name}"))
    };
    let (block, group) = (field("blocksize"), field("agblocks"));
    let mut free = Vec::new();
    for line in said.lines().skip_while(|line| !line.contains("agbno")).skip(1) {
        let numbers: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
        // A histogram follows, in other columns.
        let [ag, start, len] = numbers[..] else { break };
        let first = ag * group + start;
        free.push(first * block..(first + len) * block);
    }
    complement(&union(free), std::fs::metadata(image).expect("an image").len())
}
