//! File systems as mkfs.btrfs and btrfs-convert make them.

use super::oracle::{agrees, free_is_of_no_use};
use super::{folder, map, mkfs, shell};
use std::fs::File;

/// Options of mkfs.btrfs for one device.
const OPTIONS: &[&str] = &[
    "",
    "-L backup",
    "-m single",
    "-m dup -d dup",
    "-m single -d dup",
    "-n 4096",
    "-n 8192 -m single",
    "-n 32768",
    "-n 65536 -d dup",
    "-s 65536 -n 65536",
    "-s 16384 -n 16384 --csum xxhash",
    "--mixed",
    "--mixed -n 4096 -m dup -d dup",
    "--mixed --csum sha256",
    "--csum xxhash",
    "--csum sha256 -n 4096",
    "--csum blake2",
    "--csum blake2 -m dup -d dup -n 32768",
    "-O ^no-holes",
    "-O ^extref,^skinny-metadata",
    "-O ^skinny-metadata -n 4096 -m single",
    "-R ^free-space-tree",
    "-R ^free-space-tree -O ^no-holes --mixed",
    "-R quota",
    "-b 300m",
];

/// Options that only newer versions of mkfs.btrfs have.
fn newer() -> Vec<&'static str> {
    let offered = shell("mkfs.btrfs -O list-all 2>&1", "/dev/null".as_ref());
    let options =
        [("block-group-tree", "-O block-group-tree"), ("block-group-tree", "-O block-group-tree --mixed")];
    options.iter().filter(|(name, _)| offered.contains(name)).map(|(_, options)| *options).collect()
}

#[test]
fn what_the_tool_counts_as_used_is_used_and_no_more_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let folder = folder(dir.path());
    for options in OPTIONS.iter().copied().chain(newer()) {
        for filled in ["", "--rootdir ", "--shrink --rootdir "] {
            let folder = if filled.is_empty() { "" } else { folder.to_str().unwrap() };
            if filled.contains("shrink") && options.contains("-b ") {
                continue;
            }
            let words = format!("{options} {filled}{folder}");
            let image = mkfs(dir.path(), 320, &words);
            // Nothing is in it, or nearly all of it is in use.
            if filled.is_empty() || filled.contains("shrink") {
                agrees(&image, &words);
            } else {
                free_is_of_no_use(&image, &words);
            }
            std::fs::remove_file(image).unwrap();
        }
    }
}

#[test]
fn a_converted_ext4_is_mapped() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    File::create(&image).unwrap().set_len(320 << 20).unwrap();
    let folder = folder(dir.path());
    let folder = folder.display();
    shell(&format!("mkfs.ext4 -q -b 4096 -d {folder} \"$IMG\"; btrfs-convert \"$IMG\""), &image);
    free_is_of_no_use(&image, "btrfs-convert");
}

#[test]
fn the_label_is_told_and_the_rest_of_the_partition_kept() {
    let dir = tempfile::tempdir().unwrap();
    let image = mkfs(dir.path(), 300, "-L 'root of it'");
    File::options().write(true).open(&image).unwrap().set_len(400 << 20).unwrap();
    let (about, free) = map(&File::open(&image).unwrap()).unwrap();
    assert_eq!(about.unwrap().label.as_deref(), Some("root of it"));
    // The file system does not know what stands behind its end.
    assert_eq!(free.last().unwrap().end, 300 << 20);
    assert_eq!(free.first().unwrap().start, 1 << 20);

    let unnamed = mkfs(dir.path(), 300, "-f");
    assert_eq!(map(&File::open(&unnamed).unwrap()).unwrap().0.unwrap().label, None);
}

#[test]
fn other_content_is_somebody_elses() {
    assert_eq!(map(&vec![0u8; 1 << 20]).unwrap(), (None, Vec::new()));
    assert_eq!(map(&vec![0u8; 65_000]).unwrap(), (None, Vec::new()));
    assert_eq!(map(&Vec::new()).unwrap(), (None, Vec::new()));
}

#[test]
fn two_devices_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let second = dir.path().join("second");
    File::create(&second).unwrap().set_len(300 << 20).unwrap();
    let image = mkfs(dir.path(), 300, &format!("-d single -m raid1 {}", second.display()));
    for image in [image, second] {
        let doubt = map(&File::open(&image).unwrap()).unwrap_err();
        assert_eq!(doubt.to_string(), "btrfs: it has 2 devices, and only one is looked at");
    }
}
