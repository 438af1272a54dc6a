//! NTFS: made by mkntfs, aged over ntfs-3g, counted by ntfscluster file by file, checked by ntfsfix.

use crate::mount::shell;
use crate::proof::Row;
use crate::ranges::{total, union};
use crate::rows;
use crate::work::{Op, PLAIN};
use std::ops::Range;
use std::path::Path;

pub const NTFS: Row = Row {
    kind: "ntfs",
    mib: 24,
    make: "mkntfs -F -Q -q -T $IMG",
    mount: "-t ntfs-3g",
    ops: &[PLAIN, &[Op::HardLink, Op::SymLink, Op::Attribute]],
    used,
    fsck: "ntfsfix -n $IMG",
    steps: 80,
    rounds: 4,
    ..Row::DEFAULT
};

const FEW: Row = Row { rounds: 2, ..NTFS };

rows! {
    loop_ntfs_default: NTFS;
    loop_ntfs_512_byte_clusters: Row { make: "mkntfs -F -Q -q -T -c 512 $IMG", ..FEW };
    loop_ntfs_2k_clusters: Row { make: "mkntfs -F -Q -q -T -c 2048 -z 4 $IMG", ..FEW };
    loop_ntfs_64k_clusters: Row { make: "mkntfs -F -Q -q -T -c 65536 $IMG", ..FEW };
    loop_ntfs_compressed: Row { make: "mkntfs -F -Q -q -T -C $IMG", mount: "-t ntfs-3g -o compression", ..FEW };
    loop_ntfs_4k_sectors: Row { make: "mkntfs -F -Q -q -T -s 4096 $IMG", ..FEW };
    loop_ntfs_shrunk: Row { make: "mkntfs -F -Q -q -T $IMG && ntfsresize -q -f -s 20M $IMG <<<y", ..FEW };
}

/// The clusters of every file, as ntfscluster finds them in the file's own record, as many as ntfsinfo calls used, and
/// the boot sectors.
fn used(image: &Path) -> Vec<Range<u64>> {
    let info = shell("ntfsinfo -m \"$IMG\"", image);
    let field = |name: &str| {
        let value = info.lines().find_map(|line| line.trim().strip_prefix(name)?.split_whitespace().next());
        value.and_then(|value| value.parse::<u64>().ok()).unwrap_or_else(|| panic!("ntfsinfo says no {name}"))
    };
    let cluster = field("Cluster Size:");
    // Verbose, it says what it looks at; a cluster that there is not is looked for everywhere.
    let said = shell("ntfscluster -vv -c 999999999999-999999999999 \"$IMG\" 2>&1", image);
    let mut clusters = Vec::new();
    for line in said.lines().filter(|line| line.starts_with("\t\t") && line.ends_with(')')) {
        let run =
            line.split_whitespace().nth(1).and_then(|run| run.split_once('-')).expect("a run of clusters");
        let number = |word: &str| word.parse::<u64>().expect("a cluster number");
        clusters.push(number(run.0)..number(run.1) + 1);
    }
    let clusters = union(clusters);
    let taken = field("Volume Size in Clusters:") - field("Free Clusters:");
    assert_eq!(total(&clusters), taken, "ntfscluster and ntfsinfo count differently");
    let size = std::fs::metadata(image).expect("an image").len();
    let bytes = clusters.iter().map(|range| range.start * cluster..range.end * cluster);
    union(bytes.chain([0..512, size - 512..size]).collect())
}
