//! ext2, ext3 and ext4: made by mke2fs, aged by the kernel, counted by dumpe2fs, checked by e2fsck.

use crate::mount::shell;
use crate::proof::Row;
use crate::ranges::{complement, union};
use crate::rows;
use crate::work::{EXTENTS, PLAIN, UNIX};
use std::ops::Range;
use std::path::Path;

pub const EXT4: Row = Row {
    kind: "ext4",
    mib: 24,
    make: "mke2fs -q -F -t ext4 $IMG",
    mount: "-t ext4",
    ops: &[PLAIN, UNIX, EXTENTS],
    after: "",
    used,
    fsck: "e2fsck -fn $IMG",
    ..Row::DEFAULT
};

rows! {
    loop_ext4_default: EXT4;
    loop_ext4_1k: Row { make: "mke2fs -q -F -t ext4 -b 1024 $IMG", ..EXT4 };
}

/// All that dumpe2fs does not call free.
pub fn used(image: &Path) -> Vec<Range<u64>> {
    let said = shell("dumpe2fs \"$IMG\" 2>/dev/null", image);
    let field = |name: &str| {
        let value = said.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        value.unwrap_or_else(|| panic!("dumpe2fs says no {name}"))
    };
    let block = field("Block size:");
    // A range of clusters ends with the first block of the last one.
    let cluster = if said.contains("Cluster size:") { field("Cluster size:") } else { block };
    let mut free = Vec::new();
    for list in said.lines().filter_map(|line| line.strip_prefix("  Free blocks: ")) {
        for range in list.split(", ").filter(|range| !range.is_empty()) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let number = |text: &str| text.trim().parse::<u64>().expect("a block number");
            free.push(number(first) * block..number(last) * block + cluster);
        }
    }
    complement(&union(free), std::fs::metadata(image).expect("an image").len())
}
