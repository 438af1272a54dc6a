//! Old file systems below encryption without a header: noise at each of the places that their format fixes.

use super::super::testing::{TestRandom, made, run};
use super::super::{LookOptions, Map, map_leaving_out};
use super::*;
use std::ops::Range;

#[test]
fn a_boot_area_is_zeros_or_a_boot_program() {
    let mut area = vec![0; 1024];
    assert!(is_boot_area(&area));
    area[1023] = 1;
    assert!(!is_boot_area(&area));
    area[510..512].copy_from_slice(&[0x55, 0xaa]);
    assert!(!is_boot_area(&area));
    area[0] = 0xeb;
    assert!(is_boot_area(&area));
}

const MIB: usize = 1 << 20;
const KIB: usize = 1 << 10;

/// A format, the command that makes it, and the places that it fixes outside of its first superblock.
struct Row {
    command: &'static [&'static str],
    mib: usize,
    places: &'static [Range<usize>],
}

const ROWS: [Row; 9] = [
    Row {
        command: &["mkfs.btrfs", "-q", "-f"],
        mib: 320,
        places: &[0..512, 512..64 * KIB, 4096..8192, 64 * MIB..64 * MIB + 4096],
    },
    Row {
        command: &["mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024"],
        mib: 40,
        // The boot block, the descriptors behind the superblock, the copies in groups 1, 3 and with its descriptors.
        places: &[0..512, 512..1024, 2048..2080, 8193 * KIB..8194 * KIB, 24577 * KIB..24578 * KIB],
    },
    Row {
        command: &["mke2fs", "-q", "-F", "-t", "ext2", "-b", "1024"],
        mib: 40,
        places: &[0..1024, 8193 * KIB..8194 * KIB],
    },
    Row {
        command: &["mkfs.xfs", "-q", "-f", "--unsupported", "-d", "agcount=4"],
        mib: 64,
        // AGF, AGI and AGFL of the first group; superblock and AGF of the others.
        places: &[
            512..1024,
            1024..1536,
            1536..2048,
            16 * MIB..16 * MIB + 512,
            48 * MIB + 512..48 * MIB + 1024,
        ],
    },
    Row { command: &["mkntfs", "-q", "-F", "-Q", "-T"], mib: 32, places: &[32 * MIB - 512..32 * MIB] },
    Row {
        command: &["mkfs.fat", "-F", "32", "-s", "1"],
        mib: 40,
        // FSInfo, the copy of the boot sector, the head of the first FAT.
        places: &[512..1024, 6 * 512..7 * 512, 32 * 512..32 * 512 + 64],
    },
    Row { command: &["mkfs.fat", "-F", "16"], mib: 24, places: &[16 * 512..16 * 512 + 512] },
    Row { command: &["mkfs.exfat"], mib: 32, places: &[512..1024, 12 * 512..13 * 512] },
    Row {
        command: &["mkswap", "-q"],
        mib: 8,
        places: &[0..512, 512..1024, 1100..1200, 1536..2048, 3000..4000],
    },
];

fn found(image: &Vec<u8>) -> Map {
    map_leaving_out(image, 512, LookOptions { leave_out_swap: true })
}

#[test]
fn noise_where_a_format_fixes_bytes_keeps_the_volume_whole() {
    let mut random = TestRandom(11);
    for Row { command, mib, places } in &ROWS {
        let image = made_of_zeros(command, *mib);
        let map = found(&image);
        assert!(map.found[0].skipped > 0, "{command:?}: {map:?}");
        for place in *places {
            let mut image = image.clone();
            image[place.clone()].iter_mut().for_each(|byte| *byte = random.next() as u8);
            let map = found(&image);
            assert!(map.free.is_empty(), "{command:?}, noise at {place:?}: {map:?}");
            assert!(map.found[0].why_all.is_some(), "{command:?}, noise at {place:?}: {map:?}");
        }
    }
}

/// What a tool makes of an empty file.
fn made_of_zeros(command: &[&str], mib: usize) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len((mib * MIB) as u64).unwrap();
    run(command[0], &[&command[1..], &[file.path().to_str().unwrap()]].concat());
    std::fs::read(file.path()).unwrap()
}

#[test]
fn an_old_superblock_over_noise_is_not_a_file_system() {
    let mut random = TestRandom(12);
    let noise: Vec<u8> = (0..40 * MIB / 8).flat_map(|_| random.next().to_le_bytes()).collect();
    for Row { command, mib, .. } in &ROWS {
        let superblock = match command[0] {
            "mkfs.btrfs" => 64 * KIB..68 * KIB,
            "mke2fs" => 1024..2048,
            "mkswap" => 1024..4096,
            _ => 0..512,
        };
        let image = made_of_zeros(command, *mib);
        let mut old = noise[..image.len().min(noise.len())].to_vec();
        old.resize(image.len(), 0x5a);
        old[superblock.clone()].copy_from_slice(&image[superblock]);
        let map = found(&old);
        assert!(map.free.is_empty(), "{command:?}: {map:?}");
    }
}

#[test]
fn boot_loaders_in_front_of_a_file_system_are_no_doubt() {
    let mut random = TestRandom(13);
    for (command, mib, area) in
        [(&["mkfs.btrfs", "-q", "-f"][..], 320, 64 * KIB), (&["mke2fs", "-q", "-F", "-t", "ext4"], 40, 1024)]
    {
        let mut image = made_of_zeros(command, mib);
        image[..area].iter_mut().for_each(|byte| *byte = random.next() as u8);
        image[..3].copy_from_slice(&[0xeb, 0x63, 0x90]);
        image[440..510].fill(0);
        image[510..512].copy_from_slice(&[0x55, 0xaa]);
        let map = found(&image);
        assert!(map.found[0].skipped > 0, "{command:?}: {map:?}");
    }
}

#[test]
fn a_file_system_over_any_old_bytes_is_thinned() {
    // What the tools do not clear is full of 0xa5.
    for Row { command, mib, .. } in &ROWS {
        let image = made((*mib * MIB) as u64, |file| run(command[0], &[&command[1..], &[file]].concat()));
        let map = found(&image);
        assert!(map.found[0].skipped > 0, "{command:?}: {map:?}");
    }
}
