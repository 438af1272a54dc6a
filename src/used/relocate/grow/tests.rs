//! sgdisk and sfdisk judge: what grows is right before and after; and of every table with a fault nothing is touched.

use super::super::tests::{assert_clean, both_arrays, sgdisk};
use super::*;
use crate::used::fixture::{entry, format_gpt};
use crate::used::testing::{as_file, run};
use proptest::prelude::*;

const MIB: u64 = 1 << 20;
const DISK: u64 = 32 * MIB;

fn grown(disk: &[u8], sector: u32, target: u64) -> Result<(Growth, Vec<u8>), String> {
    let (growth, wanted) = growth(&disk.to_vec(), disk.len() as u64, sector, target)?;
    let mut new = disk.to_vec();
    new.resize(target as usize, 0);
    for patch in &wanted {
        let at = patch.offset as usize;
        new[at..at + patch.bytes.len()].copy_from_slice(&patch.bytes);
    }
    Ok((growth, new))
}

/// What sgdisk says of each partition, in the order of their numbers: first and last block and the rest of its line.
fn partitions(disk: &[u8]) -> Vec<(u64, u64, String)> {
    let text = as_file(disk, |path| run("sgdisk", &["-p", path.to_str().unwrap()]));
    let rows = text.lines().skip_while(|line| !line.starts_with("Number")).skip(1);
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = words[5..].join(" ");
        (words[1].parse().unwrap(), words[2].parse().unwrap(), format!("{} {name}", words[0]))
    };
    rows.map(row).collect()
}

#[test]
fn the_last_partition_by_place_grows_to_the_last_whole_mib() {
    // Numbers say nothing of the order on the disk.
    let disk = sgdisk(DISK, &["-n1:40960:+4M", "-c1:root", "-n2:2048:+8M", "-n7:20480:+1M"]);
    for (target, end) in [
        (DISK + MIB, DISK),
        (2 * DISK, 2 * DISK - MIB),
        (2 * DISK + 512, 2 * DISK - MIB),
        (2 * DISK + 33 * 512, 2 * DISK),
        (2 * DISK + 600_576, 2 * DISK),
    ] {
        let (growth, new) = grown(&disk, 512, target).unwrap();
        assert_eq!(growth, Growth { number: 1, start: 20 * MIB, old_end: 24 * MIB, end }, "{target}");
        assert_clean(&new, "grown");
        let (before, after) = (partitions(&disk), partitions(&new));
        assert_eq!(after[0], (40_960, end / 512 - 1, before[0].2.clone()));
        assert_eq!(after[1..], before[1..], "{target}");
        // The GUIDs of disk and partitions, names and attributes stay.
        let told = |disk: &[u8]| as_file(disk, |path| run("sgdisk", &["-i1", path.to_str().unwrap()]));
        let stays = |text: String| {
            let lines = text.lines().filter(|line| !line.starts_with("Last") && !line.contains("size"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(stays(told(&new)), stays(told(&disk)));
    }
}

#[test]
fn disks_of_4096_byte_blocks_grow_too() {
    let mut disk = vec![0; DISK as usize];
    format_gpt(&mut disk, 4096, &[(256, 1000), (2048, 3000)]);
    let (growth, new) = grown(&disk, 4096, 2 * DISK).unwrap();
    assert_eq!(growth, Growth { number: 2, start: 8 * MIB, old_end: 3001 * 4096, end: 2 * DISK - MIB });
    let found = Movable::find(&new, 2 * DISK, 4096).unwrap().unwrap();
    assert_eq!(found.used_end * 4096, growth.end);
    assert_eq!(found.entries[0], Movable::find(&disk, DISK, 4096).unwrap().unwrap().entries[0]);
}

#[test]
fn what_others_own_or_has_no_room_never_grows() {
    let typed = |code: &str| sgdisk(DISK, &["-n1:2048:+8M", "-n2:20480:+4M", &format!("-t2:{code}")]);
    for (what, disk, target, why) in [
        ("ESP", typed("ef00"), 2 * DISK, "EFI system"),
        ("recovery", typed("2700"), 2 * DISK, "recovery"),
        ("reserved", typed("0c01"), 2 * DISK, "reserved"),
        ("required", sgdisk(DISK, &["-n1:2048:+8M", "-A1:set:0"]), 2 * DISK, "required"),
        ("empty", sgdisk(DISK, &[]), 2 * DISK, "no partition"),
        ("hybrid", sgdisk(DISK, &["-n1:2048:+8M", "-h1"]), 2 * DISK, "hybrid"),
        ("same size", typed("8300"), DISK, "not larger"),
        ("smaller", typed("8300"), DISK - MIB, "not larger"),
        ("full", sgdisk(DISK, &["-n1:2048:0"]), DISK + 512, "no free MiB"),
        ("first MiB", sgdisk(DISK, &["-a8", "-n1:40:20479"]), 2 * DISK, "first MiB"),
        ("blank", vec![0; DISK as usize], 2 * DISK, "no partition table"),
    ] {
        let error = grown(&disk, 512, target).unwrap_err();
        assert!(error.contains(why), "{what}: {error}");
    }
}

#[test]
fn a_gpt_with_any_fault_does_not_grow() {
    let good = sgdisk(DISK, &["-n1:2048:20000", "-n2:22528:40000"]);
    assert!(grown(&good, 512, 2 * DISK).is_ok());
    let last = DISK as usize / 512 - 1;
    // Any bit of what tells the tables; of the backup too.
    let places =
        [450, 510, 512, 512 + 16, 512 + 24, 512 + 32, 512 + 48, 512 + 56, 512 + 72, 512 + 80, 512 + 88];
    let arrays = [1024, 1024 + 40, 1024 + 128 + 32, (last - 32) * 512, (last - 32) * 512 + 168];
    let backup = [0, 16, 24, 32, 40, 48, 56, 72, 84, 88].map(|at| last * 512 + at);
    for at in places.into_iter().chain(arrays).chain(backup) {
        let mut disk = good.clone();
        disk[at] ^= 4;
        assert!(grown(&disk, 512, 2 * DISK).is_err(), "byte {at}");
    }
    let mut overlapping = good.clone();
    both_arrays(&mut overlapping, 40, 30_000);
    assert!(grown(&overlapping, 512, 2 * DISK).is_err());
    // A copy of a smaller disk: its backup is not at the end.
    let copied = [good, vec![0; DISK as usize]].concat();
    assert!(grown(&copied, 512, 4 * DISK).is_err());
}

/// What sfdisk dumps of the partitions, without what names the file.
fn dumped(disk: &[u8]) -> Vec<String> {
    as_file(disk, |path| {
        let path = path.to_str().unwrap();
        let text = run("sfdisk", &["-d", path]);
        let rows = text.lines().filter_map(|line| line.strip_prefix(path));
        rows.map(|row| row.split_whitespace().collect()).collect()
    })
}

fn mbr_disk(entries: &[(u8, u64, u64)]) -> Vec<u8> {
    let mut disk = vec![0; DISK as usize];
    for (n, (kind, first, blocks)) in entries.iter().enumerate() {
        entry(&mut disk, n, *kind, *first, *blocks);
    }
    disk
}

#[test]
fn a_primary_partition_of_an_mbr_grows_and_nothing_else() {
    let mut disk = mbr_disk(&[(0x83, 20_480, 4096), (0x07, 2048, 9999)]);
    disk[..440].fill(0x33);
    let (growth, new) = grown(&disk, 512, 2 * DISK + 4096).unwrap();
    assert_eq!(growth, Growth { number: 1, start: 10 * MIB, old_end: 12 * MIB, end: 2 * DISK });
    assert_eq!(dumped(&new), ["1:start=20480,size=110592,type=83", "2:start=2048,size=9999,type=7"]);
    let changed: Vec<usize> = (0..DISK as usize).filter(|at| new[*at] != disk[*at]).collect();
    assert!(changed.iter().all(|at| (458..462).contains(at)), "{changed:?}");
    // The old notation of its end follows where it was right.
    let mut disk = mbr_disk(&[(0x83, 2048, 4096)]);
    disk[451..454].copy_from_slice(&chs(6143));
    let (_, new) = grown(&disk, 512, 2 * DISK).unwrap();
    assert_eq!(new[451..454], chs((2 * DISK) / 512 - 1));
}

#[test]
fn an_mbr_that_is_not_right_or_ends_otherwise_is_left() {
    for (entries, why) in [
        (&[(0x83, 2048, 4096), (0x05, 8192, 4096)][..], "extended"),
        (&[(0x83, 2048, 4096), (0x27, 8192, 4096)], "recovery"),
        (&[(0x83, 2048, 4096), (0xef, 8192, 4096)], "EFI system"),
        (&[(0x83, 2048, 7000), (0x83, 8192, 4096)], "overlaps"),
        (&[(0x83, 2048, 70_000)], "leaves the disk"),
        (&[(0x83, 0, 4096)], "not a right entry"),
        (&[(0x83, 2048, 0)], "not a right entry"),
        (&[(0xee, 1, 65_535)], "no"),
    ] {
        let error = grown(&mbr_disk(entries), 512, 2 * DISK).unwrap_err();
        assert!(error.contains(why), "{entries:?}: {error}");
    }
    let disk = mbr_disk(&[(0x83, 2048, 63_488)]);
    assert!(grown(&disk, 512, DISK + 512).unwrap_err().contains("no free MiB"));
}

#[test]
fn an_mbr_grows_no_further_than_it_can_count() {
    let mut block = vec![0; 512];
    entry(&mut block, 0, 0x07, 2048, 1 << 20);
    struct Large(Vec<u8>);
    impl ReadAt for Large {
        fn size(&self) -> std::io::Result<u64> {
            Ok(1 << 40)
        }
        fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
            buf.fill(0);
            if offset == 0 {
                buf[..512].copy_from_slice(&self.0[..512]);
            }
            Ok(buf.len())
        }
    }
    let (growth, wanted) = growth(&Large(block), 1 << 40, 512, 3 << 40).unwrap();
    assert_eq!(growth.end, (2 << 40) - MIB);
    assert_eq!(u64::from(le::u32(&wanted[0].bytes, 458).unwrap()), growth.end / 512 - 2048);
}

proptest! {
    #[test]
    fn any_bytes_grow_or_not_without_panic(
        flips in prop::collection::vec((0usize..2 * 512 * 40, any::<u8>()), 0..6), more in 0u64..9 << 20, gpt: bool
    ) {
        let mut disk = if gpt { vec![0; 4 << 20] } else { mbr_disk(&[(0x83, 40, 50), (7, 2048, 99)]) };
        if gpt {
            format_gpt(&mut disk, 512, &[(40, 50), (2060, 3070)]);
        }
        for (at, byte) in flips {
            let at = if at < 512 * 40 { at } else { disk.len() - 1 - (at - 512 * 40) };
            disk[at] = byte;
        }
        let size = disk.len() as u64;
        if let Ok((growth, wanted)) = growth(&disk, size, 512, size + more) {
            prop_assert!(growth.start < growth.old_end && growth.old_end < growth.end && growth.end <= size + more);
            prop_assert!(wanted.iter().all(|patch| patch.offset + patch.bytes.len() as u64 <= size + more));
        }
    }
}
