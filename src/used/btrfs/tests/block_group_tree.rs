//! The block group tree, put into a file system by hand: not every mkfs.btrfs can make it.

use super::super::node::Key;
use super::damaged::Row;
use super::disk::{Disk, set_items};
use super::oracle::free_is_of_no_use;
use super::{map, mkfs, shell};

const BLOCK_GROUP: u8 = 192;

/// Moves the block group items from the extent tree to a tree of their own, as `btrfstune` does.
fn with_block_group_tree() -> Disk {
    let dir = tempfile::tempdir().unwrap();
    let mut disk = Disk::load(&mkfs(dir.path(), 320, ""));
    let node = disk.node_size() as u64;
    let generation = disk.number(0x48);
    // The last free range is behind the nodes; its first bytes become the new one.
    let mut at = 0;
    disk.item(10, 199, usize::MAX, |key, _| {
        at = key.object;
        (key.object, key.offset) = (at + node, key.offset - node);
    });

    let mut groups = Vec::new();
    disk.tree(2, |items| {
        groups = items.extract_if(.., |(key, _)| key.kind == BLOCK_GROUP).collect();
    });
    let used = &mut groups.last_mut().unwrap().1[..8];
    let sum = u64::from_le_bytes((&*used).try_into().unwrap()) + node;
    used.copy_from_slice(&sum.to_le_bytes());
    // One reference, by tree 11.
    let extent =
        [&[1, generation, 2].map(u64::to_le_bytes).concat()[..], &[176], &11u64.to_le_bytes()].concat();
    disk.put(2, Key::new(at, 169, 0), extent);

    let mut root = Vec::new();
    disk.item(1, 132, 0, |_, item| root = item.clone());
    root[176..184].copy_from_slice(&at.to_le_bytes());
    disk.put(1, Key::new(11, 132, 0), root);

    let mut leaf = disk.bytes(disk.copies(disk.root(4).at)[0], node as usize);
    set_items(&mut leaf, &groups);
    leaf[48..56].copy_from_slice(&at.to_le_bytes());
    leaf[88] = 11;
    disk.node(at, |bytes| bytes.copy_from_slice(&leaf));

    let total = disk.number(0x78) + node;
    disk.superblock(0x78, &total.to_le_bytes());
    disk.superblock(0xb4, &[0xb]);
    disk
}

#[test]
fn a_block_group_tree_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let disk = with_block_group_tree();
    let image = dir.path().join("image");
    disk.save(&image);
    // The tool takes it for a good one.
    let said = shell("btrfs check --readonly \"$IMG\" 2>&1", &image);
    assert!(said.contains("no error found"), "{said}");
    free_is_of_no_use(&image, "block group tree");
}

#[test]
fn a_block_group_tree_that_does_not_agree_is_a_doubt() {
    let rows: &[Row<fn(&mut Disk)>] = &[
        ("twice", |d| twice(d), "unexpected item 13631488 192"),
        ("one lost", |d| d.take(11, BLOCK_GROUP, 1), "has no block group"),
        ("counts", |d| d.item(11, BLOCK_GROUP, 0, |_, item| item[2] = 1), "but has 0"),
        ("other item", |d| d.put(11, Key::new(13631488, 168, 8388608), vec![0; 24]), "not like its chunk"),
    ];
    let disk = with_block_group_tree();
    for (what, change, why) in rows {
        let mut disk = disk.clone();
        change(&mut disk);
        let doubt = map(&disk).unwrap_err().to_string();
        assert!(doubt.contains(why), "{what}: {doubt}");
    }
}

fn twice(disk: &mut Disk) {
    let mut group = None;
    disk.item(11, BLOCK_GROUP, 0, |key, item| group = Some((*key, item.clone())));
    let (key, item) = group.unwrap();
    disk.put(2, key, item);
}
