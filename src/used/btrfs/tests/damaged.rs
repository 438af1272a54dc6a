//! One thing is wrong at a time, under checksums that hold: each is a doubt, and says what it is.

use super::super::node::Key;
use super::disk::Disk;
use super::{folder, map, mkfs};

/// A small file system whose trees are one leaf each.
fn small() -> Disk {
    let dir = tempfile::tempdir().unwrap();
    Disk::load(&mkfs(dir.path(), 320, ""))
}

/// One with a high extent tree.
fn high() -> Disk {
    let dir = tempfile::tempdir().unwrap();
    let disk =
        Disk::load(&mkfs(dir.path(), 320, &format!("-n 4096 --rootdir {}", folder(dir.path()).display())));
    assert!(disk.root(2).level > 0);
    disk
}

fn add(field: &mut [u8], number: u64) {
    let old = u64::from_le_bytes(field.try_into().unwrap());
    field.copy_from_slice(&old.wrapping_add(number).to_le_bytes());
}

#[track_caller]
fn is_doubtful(what: &str, disk: &Disk, why: &str) {
    match map(disk) {
        Err(doubt) => assert!(doubt.to_string().contains(why), "{what}: {doubt}"),
        Ok(found) => panic!("{what}: {found:?}"),
    }
}

#[test]
fn a_superblock_that_is_not_finished_and_plain_is_a_doubt() {
    let disk = small();
    assert!(map(&disk).is_ok());
    let most = &u64::MAX.to_le_bytes();
    let rows: &[(&str, u64, &[u8], &str)] = &[
        ("checksum type", 0xc4, &[4], "unknown type 4"),
        ("other checksum type", 0xc4, &[1], "node"),
        ("mirror", 0x30, &(64u64 << 20).to_le_bytes(), "copy from elsewhere"),
        ("error", 0x38, &[5], "flags are 0x5"),
        ("seed", 0x3c, &[1], "seed"),
        ("metadata dump", 0x3c, &[2], "flags"),
        ("changing UUID", 0x3c, &[8], "flags"),
        ("log", 0x60, &[0, 0, 1], "log of its last fsyncs"),
        ("devices", 0x88, &[2], "2 devices"),
        ("no device", 0x88, &[0], "0 devices"),
        ("unknown incompat", 0xbc + 3, &[1], "incompatible features 0x1000000"),
        ("unknown compat_ro", 0xb4, &[0x13], "unknown features 0x10"),
        ("zoned", 0xbd, &[0x13], "zoned"),
        ("extent tree v2", 0xbd, &[0x23], "extent tree v2"),
        ("stripe tree", 0xbd, &[0x43], "stripe tree"),
        ("simple quota", 0xbe, &[1], "simple quota"),
        ("old references", 0xbc, &[0x60], "before 2009"),
        ("no skinny metadata", 0xbd, &[2], "cannot be"),
        ("metadata UUID", 0xbd, &[7], "another UUID"),
        ("block group tree", 0xb4, &[0xb], "block group tree is missing"),
        ("sector size", 0x90, &[0, 8], "sectors of 2048"),
        ("sector size 0", 0x90, &[0, 0], "sectors of 0"),
        ("node size", 0x94, &[0, 0, 2, 0], "nodes of 131072"),
        ("odd node size", 0x94, &[1], "nodes of 16385"),
        ("total", 0x70, most, "bytes, its device"),
        ("total 0", 0x70, &[0; 8], "bytes, its device"),
        ("used", 0x78, most, "are in use"),
        ("used, a little", 0x79, &[0x50], "superblock counts"),
        ("used 0", 0x78, &[0; 8], "more nodes than it has"),
        ("generation", 0x48, &[200], "another transaction"),
        ("chunk generation", 0xa4, &[200], "cannot be"),
        ("root level", 0xc6, &[8], "cannot be"),
        ("other root level", 0xc6, &[1], "another level"),
        ("root", 0x50, most, "begins within a sector"),
        ("root 0", 0x50, &[0; 8], "is in no chunk"),
        ("chunk root 0", 0x58, &[0; 8], "is in no chunk"),
        ("system chunks", 0xa0, &[1, 8], "more than fit"),
        ("no system chunks", 0xa0, &[0, 0], "is in no chunk"),
        ("cut system chunks", 0xa0, &[128], "shorter"),
        ("no chunk key", 0x32b, &[0, 2], "are none"),
        ("stripes", 0x32b + 17 + 44, most, "shorter"),
        ("other device", 0xc9, &[2], "another device"),
        ("other device UUID", 0xc9 + 66, &[1; 16], "another device"),
        ("fsid", 0x20, &[1; 16], "another UUID"),
    ];
    for (what, offset, bytes, why) in rows {
        let mut disk = disk.clone();
        disk.superblock(*offset, bytes);
        is_doubtful(what, &disk, why);
    }
    let mut disk = disk.clone();
    disk.write(64 << 10, &[1, 2, 3]);
    is_doubtful("checksum", &disk, "checksum of the superblock");
}

#[test]
fn a_volume_shorter_than_the_file_system_is_a_doubt() {
    let dir = tempfile::tempdir().unwrap();
    let image = mkfs(dir.path(), 320, "");
    std::fs::File::options().write(true).open(&image).unwrap().set_len((320 << 20) - 512).unwrap();
    is_doubtful("cut", &Disk::load(&image), "but only 335543808 are here");
}

/// Changes one thing of a disk.
type Change = fn(&mut Disk);

#[test]
fn trees_that_do_not_agree_are_a_doubt() {
    // Trees: 2 extents, 3 chunks, 4 devices, 10 free space. Kinds: 168 and 169 extents, 192 block group, 198 and 199
    // free space, 204 device extent, 216 device, 228 chunk. Chunk 0 is of data, 1 of the system, 2 of metadata.
    let rows: &[(&str, Change, &str)] = &[
        ("chunk without extent", |d| d.take(4, 204, 99), "does not know"),
        ("extent without chunk", |d| d.take(3, 228, 0), "not what the chunks say"),
        (
            "moved device extent",
            |d| d.item(4, 204, 0, |key, _| key.offset -= 65536),
            "not what the chunks say",
        ),
        (
            "longer device extent",
            |d| d.item(4, 204, 99, |_, item| add(&mut item[24..32], 4096)),
            "chunks say",
        ),
        ("other device extent", |d| d.item(4, 204, 99, |key, _| key.object = 2), "unknown item"),
        ("device bytes", |d| d.item(3, 216, 0, |_, item| add(&mut item[16..24], 4096)), "which says"),
        ("device size", |d| d.item(3, 216, 0, |_, item| add(&mut item[8..16], 4096)), "about the device"),
        ("two devices", |d| d.put(3, Key::new(1, 216, 2), vec![0; 98]), "one device"),
        ("no device", |d| d.take(3, 216, 0), "does not know its device"),
        ("replaced", |d| d.put(4, Key::new(0, 250, 0), vec![1; 80]), "being replaced"),
        ("short replace", |d| d.put(4, Key::new(0, 250, 0), vec![1; 8]), "shorter"),
        ("striped", |d| d.item(3, 228, 0, |_, item| item[24] |= 8), "striped"),
        ("mirrored", |d| d.item(3, 228, 0, |_, item| item[24] |= 16), "striped"),
        ("remapped", |d| d.item(3, 228, 0, |_, item| item[25] |= 8), "unknown kind"),
        ("data in the system", |d| d.item(3, 228, 0, |_, item| item[24] |= 2), "cannot be"),
        ("no kind", |d| d.item(3, 228, 0, |_, item| item[24] = 0), "cannot be"),
        ("half a DUP", |d| d.item(3, 228, 0, |_, item| item[24] |= 32), "copies"),
        ("three stripes", |d| d.item(3, 228, 2, |_, item| item[44] = 3), "copies"),
        ("cut chunk", |d| d.item(3, 228, 2, |_, item| item.truncate(100)), "copies"),
        ("endless chunk", |d| d.item(3, 228, 0, |_, item| item[..8].fill(255)), "not inside"),
        ("odd chunk", |d| d.item(3, 228, 0, |_, item| add(&mut item[..8], 1)), "cannot be"),
        ("empty chunk", |d| d.item(3, 228, 0, |_, item| item[..8].fill(0)), "cannot be"),
        ("chunk behind the end", |d| d.item(3, 228, 0, |_, i| add(&mut i[56..64], 1 << 30)), "not inside"),
        ("chunk elsewhere", |d| d.item(3, 228, 0, |_, i| add(&mut i[56..64], 65536)), "chunks say"),
        ("logical overlap", |d| d.item(3, 228, 0, |_, item| add(&mut item[..8], 1 << 20)), "overlaps"),
        (
            "system chunk",
            |d| d.item(3, 228, 1, |_, i| add(&mut i[..8], 0u64.wrapping_sub(65536))),
            "system chunks",
        ),
        ("physical overlap", |d| overlap(d), "two chunks"),
        ("unknown item", |d| d.put(3, Key::new(300, 7, 0), vec![]), "unknown item 300 7"),
        ("group counts more", |d| d.item(2, 192, 2, |_, item| add(&mut item[..8], 4096)), "but has"),
        ("group counts less", |d| d.item(2, 192, 0, |_, item| add(&mut item[..8], 4096)), "but has 0"),
        ("group of another kind", |d| d.item(2, 192, 0, |_, item| item[16] = 4), "not like its chunk"),
        ("group of another size", |d| d.item(2, 192, 0, |key, _| key.offset -= 4096), "not like its chunk"),
        ("group elsewhere", |d| d.item(2, 192, 0, |key, _| key.object += 4096), "not like its chunk"),
        ("long group", |d| d.item(2, 192, 0, |_, item| item.push(0)), "not like its chunk"),
        ("no group", |d| d.take(2, 192, 0), "has no block group"),
        ("lost extent", |d| d.take(2, 169, 0), "but has 0"),
        ("one more extent", |d| d.put(2, Key::new(13631488, 168, 4096), data()), "but has"),
        ("moved extent", |d| d.item(2, 169, 99, |key, _| key.object += 16384), "do not agree"),
        ("overlap", |d| d.item(2, 169, 1, |key, _| key.object = 22036480 + 4096), "overlaps"),
        (
            "extent in no chunk",
            |d| d.item(2, 169, 99, |key, _| key.object = 1 << 40),
            "not inside of a chunk",
        ),
        ("extent before all", |d| d.put(2, Key::new(4096, 168, 4096), data()), "not inside"),
        ("endless extent", |d| d.put(2, Key::new(13631488, 168, 0u64.wrapping_sub(4096)), data()), "no end"),
        ("long extent", |d| d.put(2, Key::new(13631488, 168, 8392704), data()), "not inside of a chunk"),
        ("empty extent", |d| d.put(2, Key::new(13631488, 168, 0), data()), "length 0"),
        ("odd extent", |d| d.put(2, Key::new(13631488, 168, 512), data()), "length 512"),
        (
            "data among nodes",
            |d| d.item(2, 169, 99, |k, i| (k.kind, k.offset, i[16]) = (168, 4096, 1)),
            "another kind",
        ),
        ("node among data", |d| d.put(2, Key::new(13631488, 169, 0), tree_block()), "another kind"),
        ("no flags", |d| d.item(2, 169, 3, |_, item| item[16] = 0), "flags 0x0"),
        ("short extent", |d| d.item(2, 169, 3, |_, item| item.truncate(20)), "shorter"),
        ("stray reference", |d| d.put(2, Key::new(13631488, 178, 1), vec![]), "unexpected item"),
        ("old reference", |d| d.put(2, Key::new(22036480, 180, 1), vec![]), "unexpected item"),
        ("free space lost", |d| d.take(10, 199, 99), "do not agree"),
        ("more free space", |d| d.item(10, 199, 99, |key, _| key.offset += 16384), "do not agree"),
        ("bitmap", |d| d.item(10, 199, 99, |key, _| key.kind = 200), "unexpected item"),
        ("other item", |d| d.item(10, 198, 0, |key, _| key.kind = 7), "unexpected item"),
        ("no root", |d| d.item(1, 132, 0, |key, _| key.offset = 1), "extent tree is missing"),
        ("short root", |d| d.item(1, 132, 0, |_, item| item.truncate(170)), "shorter"),
        ("root level", |d| d.item(1, 132, 0, |_, item| item[238] = 255), "root of tree 2"),
        ("root from the future", |d| d.item(1, 132, 0, |_, item| item[167] = 1), "root of tree 2"),
        ("old root", |d| d.item(1, 132, 0, |_, item| item[160] -= 1), "another transaction"),
        ("root of another tree", |d| other_tree(d), "of another tree"),
    ];
    let disk = small();
    for (what, change, why) in rows {
        let mut disk = disk.clone();
        change(&mut disk);
        is_doubtful(what, &disk, why);
    }
}

/// An extent item of file content, and one of a node.
fn data() -> Vec<u8> {
    [1u64, 5, 1].map(u64::to_le_bytes).concat()
}

fn tree_block() -> Vec<u8> {
    [1u64, 5, 2].map(u64::to_le_bytes).concat()
}

/// Both trees say that a second copy is where the first one is.
fn overlap(disk: &mut Disk) {
    let mut first = 0;
    disk.item(3, 228, 2, |_, item| {
        item.copy_within(56..64, 88);
        first = u64::from_le_bytes(item[56..64].try_into().unwrap());
        add(&mut item[88..96], 65536);
    });
    disk.item(4, 204, 99, |key, _| key.offset = first + 65536);
}

/// The root of the extent tree is the one of the device tree.
fn other_tree(disk: &mut Disk) {
    let at = disk.root(4).at.to_le_bytes();
    disk.item(1, 132, 0, |_, item| item[176..184].copy_from_slice(&at));
}

/// One item that is as long as the leaf.
fn over_the_items(node: &mut Vec<u8>) {
    node[96..100].copy_from_slice(&1u32.to_le_bytes());
    node[118..122].fill(0);
    node[122..126].copy_from_slice(&(16384u32 - 101).to_le_bytes());
}

#[test]
fn nodes_that_are_not_what_they_should_be_are_a_doubt() {
    let rows: &[(&str, fn(&mut Vec<u8>), &str)] = &[
        ("fsid", |n| n[32] ^= 1, "another file system"),
        ("address", |n| n[49] ^= 16, "stands elsewhere"),
        ("generation", |n| n[80] ^= 1, "another transaction"),
        ("owner", |n| n[88] ^= 1, "of another tree"),
        ("level", |n| n[100] ^= 1, "another level"),
        ("items", |n| n[98] = 1, "impossible number"),
        ("items, all", |n| n[96..100].fill(255), "impossible number"),
        ("no items", |n| n[96..100].fill(0), "is missing"),
        ("order", |n| n[101..109].fill(255), "not in order"),
        ("item outside", |n| n[118..122].fill(255), "not inside"),
        ("item longer", |n| n[122] += 1, "not inside"),
        ("item over the items", over_the_items, "not inside"),
        ("item shorter", |n| n[122] -= 1, "not inside"),
    ];
    let disk = small();
    for (what, change, why) in rows {
        let mut disk = disk.clone();
        let root = disk.root(1);
        disk.node(root.at, change);
        is_doubtful(what, &disk, why);
    }
    // Any byte of any node that is read.
    for tree in [1, 2, 3, 4, 10] {
        let mut disk = disk.clone();
        let copy = disk.copies(disk.root(tree).at)[0];
        let byte = disk.bytes(copy + 12345, 1)[0] ^ 1;
        disk.write(copy + 12345, &[byte]);
        is_doubtful("one bit", &disk, &format!("of tree {tree}: its checksum does not match"));
    }
}

#[test]
fn pointers_in_circles_or_to_elsewhere_are_a_doubt() {
    // Pointers of 33 bytes from byte 101 on: key 17, address 8, generation 8.
    let rows: &[(&str, fn(&mut Vec<u8>, u64), &str)] = &[
        ("itself", |n, at| n[118..126].copy_from_slice(&at.to_le_bytes()), "another level"),
        ("the next one", |n, _| n.copy_within(151..167, 118), "not in order"),
        ("twice the same", |n, _| n.copy_within(118..134, 151), "not in order"),
        ("key that is not there", |n, _| n[143] ^= 1, "not in order"),
        ("odd address", |n, _| n[118] |= 1, "within a sector"),
        ("no chunk", |n, _| n[118..126].fill(0), "in no chunk"),
        (
            "behind all",
            |n, _| n[118..126].copy_from_slice(&[0, 0, 255, 255, 255, 255, 255, 255]),
            "in no chunk",
        ),
        ("future", |n, _| n[133] = 1, "into the future"),
        ("past", |n, _| n[126] -= 1, "another transaction"),
        ("no children", |n, _| n[96..100].fill(0), "impossible number"),
        ("too many", |n, _| n[96] = 122, "impossible number"),
        ("fewer", |n, _| n[96] -= 1, "but has"),
    ];
    let disk = high();
    for (what, change, why) in rows {
        let mut disk = disk.clone();
        let root = disk.root(2);
        disk.node(root.at, |node| change(node, root.at));
        is_doubtful(what, &disk, why);
    }
    // A key that belongs into the next leaf.
    let mut disk = disk.clone();
    let first = disk.bytes(disk.copies(disk.root(2).at)[0] + 118, 8).try_into().unwrap();
    disk.leaf(u64::from_le_bytes(first), |items| items.last_mut().unwrap().0.object = 1 << 60);
    is_doubtful("key of the next leaf", &disk, "not in order");
}
