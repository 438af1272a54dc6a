//! NTFS: made by mkntfs, aged over ntfs-3g, counted by ntfscluster file by file, checked by ntfsfix and ntfsresize.

use crate::mount::{Mounted, shell};
use crate::proof::Row;
use crate::random::Random;
use crate::ranges::{intersection, total, union};
use crate::rows;
use crate::tree::Tree;
use crate::work::{Op, PLAIN};
use std::ops::Range;
use std::path::Path;
use testbox::used::Used;

pub const NTFS: Row = Row {
    kind: "ntfs",
    mib: 24,
    make: "mkntfs -F -Q -q -T $IMG",
    mount: "-t ntfs-3g",
    ops: &[PLAIN, &[Op::HardLink, Op::SymLink, Op::Attribute]],
    used,
    fsck: "ntfsfix -n $IMG && ntfsresize -i -f -P $IMG",
    steps: 80,
    rounds: 4,
    ..Row::DEFAULT
};

const FEW: Row = Row { rounds: 2, ..NTFS };

/// The files in which Windows keeps memory, and what is in them is left out.
const MEMORY: Row = Row {
    work: work_with_memory,
    read: read_but_memory,
    used: used_but_memory,
    leave_out: Used::NoSwap,
    ..FEW
};

rows! {
    loop_ntfs_default: NTFS;
    loop_ntfs_memory_files: MEMORY;
    loop_ntfs_512_byte_clusters: Row { make: "mkntfs -F -Q -q -T -c 512 $IMG", ..FEW };
    loop_ntfs_2k_clusters: Row { make: "mkntfs -F -Q -q -T -c 2048 -z 4 $IMG", ..FEW };
    loop_ntfs_64k_clusters: Row { make: "mkntfs -F -Q -q -T -c 65536 $IMG", ..FEW };
    loop_ntfs_compressed: Row { make: "mkntfs -F -Q -q -T -C $IMG", mount: "-t ntfs-3g -o compression", ..FEW };
    loop_ntfs_4k_sectors: Row { make: "mkntfs -F -Q -q -T -s 4096 $IMG", ..FEW };
    loop_ntfs_of_another_size: Row {
        make: "mkntfs -F -Q -q -T $IMG 40960",
        // To ntfsfix, the copy of the boot sector is missing at the end.
        fsck: "ntfsresize -i -f -P $IMG",
        ..FEW
    };
}

const MEMORY_FILES: [&str; 3] = ["pagefile.sys", "swapfile.sys", "hiberfil.sys"];
/// Bytes of each that stay, and what fills the rest.
const HEAD: usize = 64 << 10;
const PAGES: u8 = 0x4d;

/// The work load may have its way with them; afterwards they are what Windows leaves.
fn work_with_memory(row: &Row, image: &Path, mnt: &Path, random: &mut Random) -> Result<(), String> {
    row.mounted(image, mnt, random)?;
    let mounted = Mounted::new(row.mount, image, mnt)?;
    for name in MEMORY_FILES {
        let pages = vec![PAGES; 4096 * (20 + random.below(256) as usize)];
        // Not hibernated is a head of zeros.
        std::fs::write(mounted.path().join(name), [vec![0; HEAD], pages].concat())
            .map_err(|e| e.to_string())?;
    }
    mounted.unmount()
}

/// All files; of these three the length and the head.
fn read_but_memory(row: &Row, image: &Path, mnt: &Path) -> Result<Tree, String> {
    let mut tree = row.tree(image, mnt)?;
    let mounted = Mounted::new(&format!("{} -o ro", row.mount), image, mnt)?;
    for name in MEMORY_FILES {
        let bytes = std::fs::read(mounted.path().join(name)).map_err(|e| e.to_string())?;
        tree.replace(name, format!("{} bytes that begin with {}", bytes.len(), blake3::hash(&bytes[..HEAD])));
    }
    mounted.unmount()?;
    Ok(tree)
}

/// As [`used`], without the blocks that are full of pages.
fn used_but_memory(image: &Path) -> Vec<Range<u64>> {
    let bytes = std::fs::read(image).expect("an image");
    let blocks = bytes.chunks(4096).zip((0..).step_by(4096));
    let others = blocks.filter(|(block, _)| *block != [PAGES; 4096]);
    intersection(&used(image), &union(others.map(|(_, at)| at..at + 4096).collect()))
}

/// A number of ntfsinfo.
fn field(image: &Path, name: &str) -> u64 {
    let info = shell("ntfsinfo -m \"$IMG\"", image);
    let value = info.lines().find_map(|line| line.trim().strip_prefix(name)?.split_whitespace().next());
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("ntfsinfo says no {name}"))
}

/// The clusters of every file, in bytes, as ntfscluster finds them in the file's own record.
pub fn files(image: &Path) -> Vec<Range<u64>> {
    let cluster = field(image, "Cluster Size:");
    // Verbose, it says what it looks at; a cluster that there is not is looked for everywhere.
    let said = shell("ntfscluster -f -vv -c 999999999999-999999999999 \"$IMG\" 2>&1", image);
    let mut bytes = Vec::new();
    for line in said.lines().filter(|line| line.starts_with("\t\t") && line.ends_with(')')) {
        let run =
            line.split_whitespace().nth(1).and_then(|run| run.split_once('-')).expect("a run of clusters");
        let number = |word: &str| word.parse::<u64>().expect("a cluster number");
        bytes.push(number(run.0) * cluster..(number(run.1) + 1) * cluster);
    }
    union(bytes)
}

/// The clusters of every file, as many as ntfsinfo calls used, and what is behind the last one.
fn used(image: &Path) -> Vec<Range<u64>> {
    let (files, cluster) = (files(image), field(image, "Cluster Size:"));
    let count = field(image, "Volume Size in Clusters:");
    let taken = count - field(image, "Free Clusters:");
    assert_eq!(total(&files), taken * cluster, "ntfscluster and ntfsinfo count differently");
    union([files, vec![0..512, count * cluster..std::fs::metadata(image).expect("an image").len()]].concat())
}
