//! exFAT: made and checked by exfatprogs, aged over exfat-fuse, counted in the bitmap that dump.exfat finds.
//! (partclone.exfat 0.3.23 cannot count: it leaves out the last two clusters.)

use crate::mount::shell;
use crate::proof::Row;
use crate::ranges::union;
use crate::rows;
use crate::work::PLAIN;
use std::ops::Range;
use std::path::Path;

pub const EXFAT: Row = Row {
    kind: "exfat",
    mib: 24,
    make: "mkfs.exfat $IMG",
    mount: "-t exfat-fuse",
    ops: &[PLAIN],
    used,
    fsck: "fsck.exfat -n $IMG",
    steps: 60,
    rounds: 3,
    ..Row::DEFAULT
};

rows! {
    loop_exfat_default: EXFAT;
    loop_exfat_512_byte_clusters: Row { make: "mkfs.exfat -c 512 $IMG", ..EXFAT };
    loop_exfat_32k_clusters: Row { make: "mkfs.exfat -c 32K -L TESTBOX $IMG", ..EXFAT };
    loop_exfat_packed: Row { make: "mkfs.exfat --pack-bitmap -b 64K $IMG", ..EXFAT };
    loop_exfat_1m_clusters: Row { make: "mkfs.exfat -c 1M -b 2M $IMG", mib: 64, ..EXFAT };
}

/// What lies before the clusters, and those whose bit is set: as many as dump.exfat counts.
fn used(image: &Path) -> Vec<Range<u64>> {
    let said = shell("dump.exfat \"$IMG\"", image);
    let field = |name: &str| {
        let value = said.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
        value.and_then(|(_, value)| value.trim().parse::<u64>().ok()).expect("a number of dump.exfat")
    };
    let start = field("Cluster Heap Offset") << field("Sector Size Bits");
    let (cluster, count) = (field("Cluster size"), field("Total Clusters"));
    let bytes = std::fs::read(image).expect("an image");
    let bitmap = &bytes[(start + (field("Bitmap start cluster") - 2) * cluster) as usize..];
    let taken: Vec<u64> = (0..count).filter(|i| bitmap[(i / 8) as usize] >> (i % 8) & 1 == 1).collect();
    assert_eq!(taken.len() as u64, count - field("Free Clusters"), "another bitmap than dump.exfat's");
    let clusters = taken.iter().map(|i| start + i * cluster..start + (i + 1) * cluster);
    union(clusters.chain([0..start]).collect())
}
