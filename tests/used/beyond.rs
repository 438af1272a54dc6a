//! dm-verity over file systems: made and verified by veritysetup, through a backup and a restore.

use crate::mount::{shell, try_shell};
use crate::proof::{map_of_disk, round_trip};
use crate::scratch::scratch;
use std::fs::File;
use std::path::Path;
use testbox::block::RealDisk;
use testbox::progress::Progress;
use testbox::used::{Beyond, Used, survey_beside};

/// A disk of 96 MiB: a root partition of 64 MiB with an ext4 of 48 MiB, half of it deleted files; a partition of 24 MiB.
const DISK: &str = "truncate -s 96M $IMG && sgdisk -n1:2048:+64M -t1:4f68bce3-e8cd-4db1-96e7-fbcaf984b709 \
    -n2:66M:+24M -t2:8300 $IMG && head -c 20M /dev/urandom > $IMG.junk && \
    dd if=$IMG.junk of=$IMG bs=1M seek=20 conv=notrunc status=none && rm $IMG.junk && \
    mke2fs -q -F -t ext4 -b 4096 -E offset=1048576,nodiscard $IMG 48M";

/// Loop devices of the two partitions: `$D` and `$H`.
const DEVICES: &str = "D=$(losetup -f --show -o 1048576 --sizelimit 67108864 $IMG) && \
    H=$(losetup -f --show -o 69206016 --sizelimit 25165824 $TREE) && trap 'losetup -d $D $H' EXIT && ";

fn disk(image: &Path) {
    File::create(image).unwrap();
    shell(DISK, image);
}

/// Runs veritysetup with these words on the partitions of `image`, its trees on those of `tree`.
fn verity(words: &str, image: &Path, tree: &Path) -> Result<String, String> {
    try_shell(&format!("TREE='{}'; {DEVICES} veritysetup {words}", tree.display()), image)
}

fn root_hash(said: &str) -> &str {
    said.lines().find_map(|line| line.strip_prefix("Root hash:")).expect("a root hash").trim()
}

#[test]
fn loop_what_verity_hashes_verifies_after_a_restore() {
    for (name, data, tree) in [
        ("in a partition of its own", "--data-blocks=12288", "$D $H"),
        ("inside that partition", "--data-blocks=12288 --hash-offset=1048576", "$D $H"),
        ("behind the file system", "--data-blocks=12288 --hash-offset=50331648", "$D $D"),
        ("far behind the file system", "--data-blocks=12288 --hash-offset=59768832", "$D $D"),
    ] {
        let dir = scratch();
        let (image, back) = (dir.path().join("image"), dir.path().join("back"));
        disk(&image);
        // The type of a root partition alone is no sign.
        let before = map_of_disk(&image, Used::Auto).unwrap();
        assert!(before.found[0].skipped > 20 << 20, "{before:?}");
        assert_eq!(before.found[0].behind, 16 << 20);

        let said = verity(&format!("format {data} {tree}"), &image, &image).unwrap();
        let root = root_hash(&said);
        let map = map_of_disk(&image, Used::Auto).unwrap();
        let why = map.found[0].why_all.as_deref().unwrap_or_default();
        assert!(map.free.is_empty() && why.contains("dm-verity"), "{name}: {map:?}");
        round_trip(&image, &back, &map).unwrap();
        verity(&format!("verify {data} {tree} {root}"), &back, &back)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        // The test tells: what would be lost by the map of before is hashed.
        round_trip(&image, &back, &before).unwrap();
        assert!(verity(&format!("verify {data} {tree} {root}"), &back, &back).is_err(), "{name}");
    }
}

#[test]
fn loop_a_tree_on_another_disk_keeps_the_file_system_whole() {
    let dir = scratch();
    let (image, other) = (dir.path().join("image"), dir.path().join("other"));
    disk(&image);
    disk(&other);
    verity("format --data-blocks=12288 $D $H", &image, &other).unwrap();
    let open = |path: &Path| RealDisk::open_source(path.to_str().unwrap()).unwrap();
    let view = |path: &Path| File::open(path).unwrap();
    for (disks, thinned) in [(vec![&image], true), (vec![&image, &other], false)] {
        let mut beyond = Beyond::default();
        disks.iter().for_each(|path| beyond.look(&view(path), &path.display().to_string(), 512));
        let (map, lines) = survey_beside(&open(&image), Used::Auto, &beyond, &Progress::default());
        assert_eq!(!map.free.is_empty(), thinned, "{lines:?}");
        assert_eq!(
            lines.iter().any(|line| line.contains("partition 2 of") && line.contains("dm-verity")),
            !thinned
        );
    }
}
