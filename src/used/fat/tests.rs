//! Against dosfstools and mtools.

use super::super::testing::*;
use super::*;
use crate::bytes::le;
use std::collections::BTreeMap;

/// A FAT of `bytes` bytes by mkfs.fat, in an image that is a little longer.
fn formatted(args: &[&str], bytes: u64) -> Vec<u8> {
    let blocks = (bytes / 1024).to_string();
    made(bytes + 3000, |file| run("mkfs.fat", &[args, &[file, &blocks]].concat()))
}

/// Fills about half of it with files of all lengths, deletes some, and puts others into the holes.
fn aged(image: &[u8], seed: u64) -> (Vec<u8>, BTreeMap<String, Vec<u8>>) {
    let room = total(&parsed(parse, &image.to_vec()).1);
    let mut random = TestRandom(seed);
    let mut files = BTreeMap::new();
    let aged = as_file(image, |path| {
        let disk = path.to_str().unwrap();
        for round in ["one", "two"] {
            let from = tempfile::tempdir().unwrap();
            let folder = from.path().join(round).join("a folder with a long name");
            std::fs::create_dir_all(&folder).unwrap();
            for i in 0..40 {
                let len = [0, 1, random.below(3000), random.below(room / 32)][i % 4];
                let content: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
                std::fs::write(folder.join(format!("file {i}")), &content).unwrap();
                files.insert(format!("::/{round}/a folder with a long name/file {i}"), content);
            }
            run("mcopy", &["-s", "-i", disk, folder.parent().unwrap().to_str().unwrap(), "::/"]);
            let gone: Vec<String> = files.keys().filter(|_| random.below(3) == 0).cloned().collect();
            let names: Vec<&str> = gone.iter().map(String::as_str).collect();
            run("mdel", &[&["-i", disk], &names[..]].concat());
            files.retain(|name, _| !gone.contains(name));
        }
        std::fs::read(path).unwrap()
    });
    (aged, files)
}

/// Clusters used and clusters in all, by fsck.fat, which must have nothing to complain about.
fn fsck(image: &[u8]) -> (u64, u64) {
    let text = as_file(image, |path| run("fsck.fat", &["-n", "-v", path.to_str().unwrap()]));
    let counts = text.lines().find(|line| line.contains(" files, ")).unwrap();
    let counts =
        counts.split(' ').find(|word| word.contains('/') && word.starts_with(|c: char| c.is_ascii_digit()));
    let (used, all) = counts.unwrap().split_once('/').unwrap();
    (used.parse().unwrap(), all.parse().unwrap())
}

#[test]
fn every_layout_of_mkfs() {
    let cases: &[(&str, &[&str], u64)] = &[
        ("fat12", &["-F", "12"], 1440 << 10),
        ("fat12", &["-F", "12", "-s", "1", "-f", "1", "-r", "64"], 1 << 20),
        ("fat12", &["-F", "12", "-s", "64", "-S", "512"], 64 << 20),
        ("fat16", &["-F", "16"], 32 << 20),
        ("fat16", &["-F", "16", "-s", "1", "-f", "3", "-R", "17"], 9 << 20),
        ("fat16", &["-F", "16", "-s", "2", "-S", "4096", "-a"], 60 << 20),
        ("fat32", &["-F", "32", "-s", "1"], 40 << 20),
        ("fat32", &["-F", "32", "-s", "1", "-f", "1", "-R", "100", "-b", "50"], 36 << 20),
        ("fat32", &["-F", "32", "-s", "2", "-f", "4"], 70 << 20),
        ("fat32", &["-F", "32", "-s", "1", "-S", "1024"], 80 << 20),
    ];
    for (i, (kind, args, bytes)) in cases.iter().enumerate() {
        let image = formatted(&[*args, &["-n", "TEST LABEL"]].concat(), *bytes);
        let (image, files) = aged(&image, 77 + i as u64);
        let (about, free) = parsed(parse, &image);
        assert_eq!(about, VolumeAbout { kind, label: Some("TEST LABEL".into()) });
        let boot = FatBoot::read(&Volume::new(&image, 0, image.len() as u64, 512)).unwrap().unwrap();
        if boot.fats > 2 {
            // fsck.fat knows two at most.
            assert!(total(&free) > u64::from(boot.count) * boot.cluster / 4);
            continue;
        }
        let (used, all) = fsck(&image);
        assert_eq!(all, u64::from(boot.count), "{args:?}");
        assert_eq!(total(&free), (all - used) * boot.cluster, "{args:?}");
        // What is free holds other bytes now; nothing else may have changed for the file system.
        let image = scribbled(&image, &free);
        assert_eq!(fsck(&image), (used, all), "{args:?}");
        as_file(&image, |path| {
            let back = tempfile::tempdir().unwrap();
            let to = back.path().to_str().unwrap();
            run("mcopy", &["-s", "-n", "-i", path.to_str().unwrap(), "::/one", "::/two", to]);
            for (name, content) in &files {
                let name = name.trim_start_matches("::/");
                assert!(std::fs::read(back.path().join(name)).unwrap() == *content, "{args:?} {name}");
            }
        });
    }
}

fn patched(image: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut image = image.to_vec();
    image[at..at + bytes.len()].copy_from_slice(bytes);
    image
}

#[test]
fn what_is_not_clean_is_kept() {
    let fat16 = formatted(&["-F", "16", "-s", "1", "-f", "1"], 9 << 20);
    let fat32 = formatted(&["-F", "32", "-s", "1", "-f", "1"], 40 << 20);
    let two = formatted(&["-F", "32", "-s", "1"], 40 << 20);
    let at = |image: &Vec<u8>| {
        FatBoot::read(&Volume::new(image, 0, image.len() as u64, 512)).unwrap().unwrap().fat as usize
    };
    let (f16, f32) = (at(&fat16), at(&fat32));
    let cases: &[(&Vec<u8>, usize, &[u8], &str)] = &[
        (&fat16, 37, &[1], "not unmounted"),
        (&fat32, 65, &[2], "not unmounted"),
        (&fat16, f16 + 3, &[0x7f], "not unmounted"),
        (&fat16, f16 + 3, &[0xbf], "error"),
        (&fat32, f32 + 7, &[0x07], "not unmounted"),
        (&fat32, f32 + 7, &[0x0b], "error"),
        (&fat32, f32 + 4, &[0], "second FAT entry"),
        (&fat32, f32, &[0xf0], "media byte"),
        // An entry of the first FAT only.
        (&two, f32 + 4000, &[0xff, 0xff, 0xff, 0x0f], "not the same"),
        (&fat32, 40, &[0x80], "not mirrored"),
        (&fat32, 42, &[1], "version"),
        (&fat32, 44, &[0], "root directory"),
        (&fat32, 47, &[1], "root directory"),
        (&fat32, 36, &[1, 0], "too short"),
        (&fat32, 82, b"FAT16   ", "called FAT16"),
        (&fat32, 32, &[0xff, 0xff, 0xff, 0xff], "its partition"),
        (&fat32, 13, &[2], "not right for its layout"),
        (&fat16, 19, &[1, 0], "sectors or"),
        (&fat16, 424, &boot_to_go(), "BitLocker"),
    ];
    for (i, (image, at, bytes, why)) in cases.iter().enumerate() {
        let mut image = patched(image, *at, bytes);
        if *why == "sectors or" {
            image = patched(&image, 32, &[2, 0, 0, 0]);
        }
        let doubt = whole(parse, &image);
        assert!(doubt.contains(why), "case {i}: {doubt}");
    }
}

fn boot_to_go() -> [u8; 16] {
    0x01d0_e339_a3f6_9983_4ad8_2e29_4967_d63b_u128.to_le_bytes()
}

/// Writes an entry into all FATs of a FAT32.
fn entry(image: &[u8], cluster: u64, value: u32) -> Vec<u8> {
    let boot = FatBoot::read(&Volume::new(&image.to_vec(), 0, image.len() as u64, 512)).unwrap().unwrap();
    let mut image = image.to_vec();
    for copy in 0..boot.fats {
        image =
            patched(&image, (boot.fat + copy * boot.fat_len + 4 * cluster) as usize, &value.to_le_bytes());
    }
    image
}

#[test]
fn chains_must_be_whole() {
    let image = formatted(&["-F", "32", "-s", "1"], 40 << 20);
    let (_, free) = parsed(parse, &image);
    let count = fsck(&image).1 as u32;
    // Bad clusters are used; the four highest bits of an entry say nothing.
    let (_, bad) = parsed(parse, &entry(&entry(&image, 1000, 0x0fff_fff7), 2000, 0xf000_0000));
    assert_eq!(total(&free) - total(&bad), 512);
    assert_eq!(bad.len(), free.len() + 1);
    let (_, last) = parsed(parse, &entry(&image, u64::from(count) + 1, 0x0fff_ffff));
    assert_eq!(free[0].end - last[0].end, 512);
    for (broken, why) in [
        (entry(&image, 1000, 1001), "leads to a free cluster"),
        (entry(&image, 1000, count + 2), "leads to"),
        (entry(&image, 1000, 1), "leads to"),
        (entry(&image, 1000, 0x0fff_fff6), "leads to"),
        (entry(&entry(&entry(&image, 9, 11), 10, 11), 11, 0x0fff_ffff), "two chains"),
        (entry(&image, 2, 0), "root directory is free"),
        (entry(&image, 1000, 2), "in the middle of a file"),
    ] {
        let doubt = whole(parse, &broken);
        assert!(doubt.contains(why), "{why}: {doubt}");
    }
}

#[test]
fn a_root_directory_that_ends_within_a_sector_takes_all_of_it() {
    let image = formatted(&["-F", "12", "-r", "112"], 1 << 20);
    assert_eq!(le::u16(&image, 17), Some(112));
    let odd = patched(&image, 17, &[97, 0]);
    assert_eq!(parsed(parse, &odd), parsed(parse, &image));
}

#[test]
fn fat32_with_too_few_clusters_is_kept() {
    // mkfs.fat makes it, and systems do not agree on what it is.
    let image = formatted(&["-F", "32", "-s", "8"], 40 << 20);
    assert!(whole(parse, &image).contains("not right for its layout"));
}

#[test]
fn other_boot_sectors_are_not_fat() {
    for image in [vec![0; 4096], vec![0xff; 4096], vec![0; 100], vec![]] {
        assert_eq!(try_parse(parse, &image), Ok(None));
    }
    let image = formatted(&["-F", "12"], 1 << 20);
    for (at, bytes) in
        [(510, &[0u8, 0][..]), (0, &[0]), (11, &[0, 3]), (13, &[3]), (14, &[0, 0]), (16, &[0]), (21, &[1])]
    {
        assert_eq!(try_parse(parse, &patched(&image, at, bytes)), Ok(None), "{at}");
    }
}

#[test]
fn hostile_tables() {
    for (args, bytes) in [
        (&["-F", "12"][..], 1u64 << 20),
        (&["-F", "16", "-s", "1"], 9 << 20),
        (&["-F", "32", "-s", "1"], 36 << 20),
    ] {
        let (image, _) = aged(&formatted(args, bytes), 5);
        let doubts = hostile(parse, &image, &[0..90, 0..512, 512..8192], 400);
        assert!(doubts > 60, "{args:?}: {doubts}");
    }
}
