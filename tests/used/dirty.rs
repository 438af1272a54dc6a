//! Machines that were switched off in the middle of their work: imaged whole, or (btrfs) as good as unmounted.

use crate::btrfs::BTRFS;
use crate::exfat::EXFAT;
use crate::ext4::EXT4;
use crate::mount::{Mounted, shell, try_shell};
use crate::ntfs::{NTFS, files};
use crate::proof::{Row, comes_back, covers, make, map_of_disk, skips};
use crate::random::{Random, seed};
use crate::scratch::scratch;
use crate::work::Workload;
use crate::xfs::XFS;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use testbox::used::Used;

/// Work, then this while it is mounted, then a copy of what is on the disk.
fn cut(row: &Row, dir: &Path, last: fn(&Path)) -> PathBuf {
    println!("TESTBOX_SEED={}", seed());
    let (image, mut random) = (dir.join("image"), Random::new(seed()));
    make(row, &image).unwrap();
    row.mounted(&image, &dir.join("mnt"), &mut random).unwrap();
    let mounted = Mounted::new(row.mount, &image, &dir.join("mnt")).unwrap();
    let mut work = Workload::new(mounted.path(), &mut random, row.ops).unwrap();
    work.age(30).unwrap();
    work.rush(30).unwrap();
    last(mounted.path());
    // The kernel may write meanwhile: two copies that are the same are one moment.
    let copy = dir.join("copy");
    while try_shell(&format!("cp \"$IMG\" '{0}' && cmp \"$IMG\" '{0}'", copy.display()), &image).is_err() {}
    mounted.unmount().unwrap();
    copy
}

/// All of it is imaged, and the reason has this in it.
fn is_whole(image: &Path, why: &str) {
    let map = map_of_disk(image, Used::NoSwap).unwrap();
    assert!(map.free.is_empty(), "{map:?}");
    assert!(map.found[0].why_all.as_deref().is_some_and(|said| said.contains(why)), "{:?}", map.found);
}

fn nothing(_: &Path) {}

/// The kernel lets go of the file system at once, without a word to the disk.
fn shut_down(mnt: &Path) {
    shell(&format!("xfs_io -x -c shutdown '{0}' 2>&1 || xfs_io -F -x -c shutdown '{0}'", mnt.display()), mnt);
}

fn fsync_a_file(mnt: &Path) {
    let mut file = OpenOptions::new().create_new(true).write(true).open(mnt.join("synced")).unwrap();
    std::io::Write::write_all(&mut file, &[7; 100_000]).unwrap();
    file.sync_all().unwrap();
}

fn write_without_fsync(mnt: &Path) {
    shell("sync -f \"$IMG\"", mnt);
    fs::write(mnt.join("unsynced"), [7; 100_000]).unwrap();
}

#[test]
fn loop_a_journal_that_was_not_replayed() {
    for (row, last, why) in [
        (EXT4, nothing as fn(&Path), "journal"),
        (EXT4, shut_down, "journal"),
        (XFS, nothing, "log"),
        (XFS, shut_down, "log"),
    ] {
        let dir = scratch();
        let copy = cut(&row, dir.path(), last);
        is_whole(&copy, why);
        // Replayed, it is a good one.
        Mounted::new(row.mount, &copy, &dir.path().join("mnt")).unwrap().unmount().unwrap();
        let map = map_of_disk(&copy, Used::Auto).unwrap();
        assert!(!map.free.is_empty(), "{:?}", map.found);
        covers(&map.free, &(row.used)(&copy)).unwrap();
    }
}

#[test]
fn loop_in_use() {
    for (row, why) in [
        (Row { make: "mke2fs -q -F -t ext4 -O ^has_journal $IMG", ..EXT4 }, "unmounted"),
        (Row { make: "mke2fs -q -F -t ext4 -O fast_commit $IMG", ..EXT4 }, "journal"),
        (Row { kind: "ext2", make: "mke2fs -q -F -t ext2 $IMG", mount: "-t ext2", ..EXT4 }, "unmounted"),
        (EXFAT, "unmounted"),
    ] {
        let dir = scratch();
        is_whole(&cut(&row, dir.path(), fsync_a_file), why);
    }
}

#[test]
fn loop_btrfs_is_what_its_last_transaction_made_it() {
    let dir = scratch();
    let copy = cut(&BTRFS, dir.path(), write_without_fsync);
    let map = map_of_disk(&copy, Used::Auto).unwrap();
    assert_eq!(map.found[0].why_all, None);
    let used = (BTRFS.used)(&copy);
    covers(&map.free, &used).unwrap();
    skips(BTRFS.keeps, &map.free, &used, fs::metadata(&copy).unwrap().len()).unwrap();
    // A look at it changes it, if only for writing.
    let twin = dir.path().join("twin");
    fs::copy(&copy, &twin).unwrap();
    let tree = BTRFS.tree(&twin, &dir.path().join("mnt")).unwrap();
    comes_back(&BTRFS, dir.path(), &copy, &map, &tree).unwrap();
}

#[test]
fn loop_btrfs_with_a_log_of_fsyncs() {
    let dir = scratch();
    is_whole(&cut(&BTRFS, dir.path(), fsync_a_file), "log");
}

/// ntfs-3g empties the log and leaves no word that it is at work.
#[test]
fn loop_ntfs_in_use_loses_no_file_that_is_on_the_disk() {
    let dir = scratch();
    let copy = cut(&NTFS, dir.path(), fsync_a_file);
    let map = map_of_disk(&copy, Used::Auto).unwrap();
    covers(&map.free, &files(&copy)).unwrap();
}
