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

/// A few of each: what else mke2fs can do is tried beside the parser, without mounts.
const FEW: Row = Row { rounds: 3, ..EXT4 };

rows! {
    loop_ext4_default: EXT4;
    loop_ext4_1k: Row { make: "mke2fs -q -F -t ext4 -b 1024 $IMG", ..EXT4 };
    loop_ext4_2k_small_groups: Row { make: "mke2fs -q -F -t ext4 -b 2048 -g 2048 $IMG", ..FEW };
    loop_ext4_4k_64bit: Row { make: "mke2fs -q -F -t ext4 -b 4096 -O 64bit $IMG", ..FEW };
    loop_ext4_32_bit_without_checksums: Row {
        make: "mke2fs -q -F -t ext4 -b 1024 -O ^64bit,^metadata_csum,uninit_bg $IMG",
        ..FEW
    };
    loop_ext4_lazy: Row {
        mib: 80,
        make: "mke2fs -q -F -t ext4 -b 1024 -E lazy_itable_init=1,lazy_journal_init=1 $IMG",
        ..FEW
    };
    loop_ext4_without_journal: Row { make: "mke2fs -q -F -t ext4 -O ^has_journal $IMG", ..FEW };
    loop_ext4_without_flex_bg: Row { make: "mke2fs -q -F -t ext4 -b 1024 -O ^flex_bg $IMG", ..FEW };
    loop_ext4_meta_bg: Row { make: "mke2fs -q -F -t ext4 -b 1024 -g 1024 -O meta_bg,^resize_inode $IMG", ..FEW };
    loop_ext4_sparse_super2: Row { make: "mke2fs -q -F -t ext4 -b 1024 -O sparse_super2 $IMG", ..FEW };
    loop_ext4_bigalloc: Row { make: "mke2fs -q -F -t ext4 -O bigalloc -C 16384 $IMG", ..FEW };
    loop_ext4_bigalloc_1k_blocks: Row {
        mib: 64,
        make: "mke2fs -q -F -t ext4 -b 1024 -O bigalloc -C 65536 $IMG",
        ..FEW
    };
    loop_ext4_inline_data: Row { make: "mke2fs -q -F -t ext4 -I 512 -O inline_data,ea_inode $IMG", ..FEW };
    loop_ext4_with_everything: Row {
        make: "mke2fs -q -F -t ext4 -O large_dir,ea_inode,encrypt,verity,stable_inodes,orphan_file,mmp $IMG",
        ..FEW
    };
    loop_ext4_fast_commit: Row { make: "mke2fs -q -F -t ext4 -O fast_commit $IMG", ..FEW };
    loop_ext4_of_a_raid: Row { make: "mke2fs -q -F -t ext4 -b 1024 -E stride=16,stripe_width=64 $IMG", ..FEW };
    loop_ext4_grown: Row { make: "mke2fs -q -F -t ext4 -b 1024 $IMG 9M", after: "e2fsck -fp $IMG && resize2fs $IMG 22M", ..FEW };
    loop_ext4_shrunk: Row { after: "e2fsck -fp $IMG && resize2fs $IMG 20M", ..FEW };
    loop_ext4_tuned: Row { after: "e2fsck -fp $IMG && tune2fs -U random -L renamed $IMG", ..FEW };
    loop_ext4_tidied: Row { after: "e2fsck -fyD $IMG; [ $? -le 1 ]", ..FEW };
    loop_ext3: Row { kind: "ext3", make: "mke2fs -q -F -t ext3 -b 1024 $IMG", mount: "-t ext3", ..FEW };
    loop_ext2: Row { kind: "ext2", make: "mke2fs -q -F -t ext2 $IMG", mount: "-t ext2", ..FEW };
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
