//! btrfs: made by mkfs.btrfs, aged by the kernel, counted and checked by btrfs-progs.

use crate::mount::shell;
use crate::proof::Row;
use crate::ranges::union;
use crate::rows;
use crate::work::{CLONES, EXTENTS, PLAIN, SNAPSHOTS, UNIX};
use std::ops::Range;
use std::path::Path;

pub const BTRFS: Row = Row {
    kind: "btrfs",
    mib: 128,
    make: "mkfs.btrfs -q $IMG",
    mount: "-t btrfs",
    ops: &[PLAIN, UNIX, EXTENTS, CLONES, SNAPSHOTS],
    used,
    // The system chunks, two of 8 MiB, and a place for a superblock.
    keeps: 17,
    fsck: "btrfs check --readonly --check-data-csum $IMG",
    ..Row::DEFAULT
};

const FEW: Row = Row { rounds: 2, ..BTRFS };

/// A line of shell on the mounted file system, which is `$m`.
macro_rules! mounted {
    ($line:literal) => {
        concat!("m=$(mktemp -d) && mount -o loop $IMG $m && trap 'umount $m && rmdir $m' EXIT && ", $line)
    };
}

// Twice in about 80 runs under load btrfs check has found other counts of quota groups than the kernel, after the work load
// on what had come back, clean and with the right counts; plain copies of the source never showed it. Rows with quotas have
// the kernel count again after each work load; what comes back must have these counts.
rows! {
    loop_btrfs_default: Row { rounds: 4, ..BTRFS };
    loop_btrfs_mixed: Row { mib: 32, make: "mkfs.btrfs -q --mixed $IMG", keeps: 5, ..FEW };
    loop_btrfs_compressed_dup: Row {
        mib: 256,
        make: "mkfs.btrfs -q -d dup -m dup --csum xxhash $IMG",
        mount: "-t btrfs -o compress-force=zstd",
        ..FEW
    };
    loop_btrfs_as_it_was_made_in_2018: Row {
        make: "mkfs.btrfs -q -m single -n 4096 -O ^no-holes,^extref -R ^free-space-tree $IMG",
        mount: "-t btrfs -o space_cache=v1",
        ..FEW
    };
    loop_btrfs_64k_nodes: Row { make: "mkfs.btrfs -q -n 65536 --csum sha256 $IMG", keeps: 18, ..FEW };
    loop_btrfs_in_place: Row { mount: "-t btrfs -o nodatacow", ..FEW };
    loop_btrfs_with_quota: Row {
        make: "mkfs.btrfs -q -R quota --csum blake2 $IMG",
        after: mounted!("btrfs quota rescan -w $m >/dev/null"),
        ..FEW
    };
    loop_btrfs_converted: Row {
        mib: 200,
        make: "mke2fs -q -F -t ext4 -b 4096 $IMG && btrfs-convert $IMG",
        // What was ext4 is one file.
        keeps: 40,
        ..FEW
    };
    loop_btrfs_small_nodes: Row {
        make: "mkfs.btrfs -q -n 4096 -m single --csum sha256 $IMG",
        mount: "-t btrfs -o nodatacow",
        ..BTRFS
    };
    loop_btrfs_large_nodes: Row {
        make: "mkfs.btrfs -q -n 65536 --csum blake2 $IMG",
        mount: "-t btrfs -o autodefrag,discard",
        ..BTRFS
    };
    loop_btrfs_old: Row {
        make: "mkfs.btrfs -q -O ^no-holes,^extref,^skinny-metadata -R ^free-space-tree $IMG",
        mount: "-t btrfs -o space_cache=v1,nodatasum",
        ..BTRFS
    };
    loop_btrfs_quota_balanced: Row {
        mib: 384,
        make: "mkfs.btrfs -q -R quota $IMG",
        // What the kernel makes instead: two of 32 MiB.
        keeps: 65,
        // One that finds no room leaves a good file system as well; where the kernel gives up and lets nobody write any
        // more, after the next mount.
        after: mounted!(
            "{ btrfs balance start --full-balance $m || true; } && { btrfs quota rescan -w $m >/dev/null \
             || { umount $m && mount -o loop $IMG $m && btrfs quota rescan -w $m >/dev/null; }; }"
        ),
        ..BTRFS
    };
    loop_btrfs_mixed_dup: Row {
        mib: 192,
        make: "mkfs.btrfs -q --mixed -m dup -d dup -n 4096 $IMG",
        ..BTRFS
    };
    loop_btrfs_converted_from_ext4: Row {
        mib: 256,
        // Without the read-only copy of the ext4, on which nobody can work.
        make: concat!(
            "mke2fs -q -F -t ext4 -b 4096 $IMG && btrfs-convert $IMG && ",
            mounted!("btrfs subvolume delete $m/ext2_saved")
        ),
        ..BTRFS
    };
}

/// A chunk: logical bytes, and where their copies begin on the disk.
struct Chunk {
    logical: Range<u64>,
    copies: Vec<u64>,
}

/// Superblocks and what lies before the first, and every extent of the extent tree in all its copies.
pub fn used(image: &Path) -> Vec<Range<u64>> {
    let dump = |tree| shell(&format!("btrfs inspect-internal dump-tree -t {tree} \"$IMG\""), image);
    let mut chunks: Vec<Chunk> = Vec::new();
    for line in dump("chunk").lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["item", _, "key", "(FIRST_CHUNK_TREE", "CHUNK_ITEM", start, ..] => {
                let start = number(start);
                chunks.push(Chunk { logical: start..start, copies: vec![] });
            }
            ["length", length, "owner", ..] => {
                let logical = &mut chunks.last_mut().expect("a chunk").logical;
                logical.end = logical.start + number(length);
            }
            ["stripe", _, "devid", "1", "offset", offset] => {
                chunks.last_mut().expect("a chunk").copies.push(number(offset));
            }
            _ => {}
        }
    }
    let extents = dump("extent");
    let node = shell("btrfs inspect-internal dump-super \"$IMG\"", image);
    let node = node.lines().find_map(|line| line.strip_prefix("nodesize")).expect("a node size");
    let mut used = vec![0..68 << 10, 64 << 20..(64 << 20) + 4096];
    for line in extents.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (start, len) = match words[..] {
            ["item", _, "key", start, "EXTENT_ITEM", len, ..] => (start, number(len)),
            ["item", _, "key", start, "METADATA_ITEM", ..] => (start, number(node)),
            _ => continue,
        };
        let start = number(start);
        let chunk =
            chunks.iter().find(|chunk| chunk.logical.contains(&start)).expect("a chunk of the extent");
        used.extend(chunk.copies.iter().map(|copy| {
            let at = copy + (start - chunk.logical.start);
            at..at + len
        }));
    }
    union(used)
}

fn number(word: &str) -> u64 {
    word.trim().trim_matches(['(', ')']).parse().expect("a number of btrfs")
}
