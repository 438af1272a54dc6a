//! sgdisk judges: what moves is right before and after; and of every table with a fault nothing is touched.

use super::super::fixture::{format_gpt, write_gpt};
use super::super::testing::{as_file, run};
use super::*;
use proptest::prelude::*;

const MIB: u64 = 1 << 20;
const DISK: u64 = 32 * MIB;

/// A blank disk after sgdisk has worked on it.
pub(super) fn sgdisk(size: u64, args: &[&str]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(size).unwrap();
    let path = file.path().to_str().unwrap();
    run("sgdisk", &[args, &["-U", "5f2a0000-1111-2222-3333-444455556666", path]].concat());
    std::fs::read(file.path()).unwrap()
}

fn find(disk: &Vec<u8>) -> Result<Option<Movable>, String> {
    Movable::find(disk, disk.len() as u64, 512)
}

/// The disk as a restore leaves it on one of `size` bytes.
fn moved(disk: &[u8], gpt: &Movable, size: u64) -> Option<Vec<u8>> {
    let moved = gpt.on(size)?;
    let mut new = disk.to_vec();
    new.resize(size as usize, 0);
    for patch in &moved.wanted {
        let at = patch.offset as usize;
        new[at..at + patch.bytes.len()].copy_from_slice(&patch.bytes);
    }
    Some(new)
}

/// What sgdisk prints of the disk, without its size and what follows from that.
fn printed(disk: &[u8]) -> Vec<String> {
    let text = as_file(disk, |path| run("sgdisk", &["-p", path.to_str().unwrap()]));
    let changes = |line: &&str| {
        let words = ["Disk /", "First usable", "last usable", "Total free", "Caution", "Warning"];
        !words.iter().any(|word| line.contains(word))
    };
    text.lines().filter(changes).map(str::to_owned).collect()
}

pub(super) fn assert_clean(disk: &[u8], what: &str) {
    let text = as_file(disk, |path| run("sgdisk", &["-v", path.to_str().unwrap()]));
    assert!(text.contains("No problems found"), "{what}: {text}");
}

#[derive(Clone, Debug)]
struct Layout {
    blocks: u64,
    /// Blocks before each partition, and its length.
    partitions: Vec<(u64, u64)>,
    align: u64,
    entries: u64,
    other: u64,
}

fn layouts() -> impl Strategy<Value = Layout> {
    let align = prop::sample::select(vec![1u64, 8, 64, 256]);
    let partitions = prop::collection::vec((0u64..300, 1u64..900), 0..7);
    (8_000u64..20_000, partitions, align, prop::sample::select(vec![128u64, 128, 4, 256]), 7_900u64..30_000)
        .prop_map(|(blocks, partitions, align, entries, other)| Layout {
            blocks,
            partitions,
            align,
            entries,
            other,
        })
}

impl Layout {
    fn disk(&self) -> (Vec<u8>, u64) {
        let mut args = vec![format!("-S{}", self.entries), format!("-a{}", self.align)];
        let mut at = 2 + self.entries.div_ceil(4).max(32);
        for (n, (gap, len)) in (1u64..=self.entries).zip(&self.partitions) {
            let first = (at + gap).next_multiple_of(self.align);
            if first + len > self.blocks - 100 {
                break;
            }
            at = first + len;
            args.extend([format!("-n{n}:{first}:{}", at - 1), format!("-c{n}:part {n}")]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let disk = sgdisk(self.blocks * 512, &args);
        let end = find(&disk).unwrap().unwrap().used_end;
        (disk, end)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn any_table_of_sgdisk_is_right_on_another_disk(layout in layouts()) {
        let (disk, used_end) = layout.disk();
        let gpt = find(&disk).unwrap().unwrap();
        let size = layout.other * 512;
        let Some(new) = moved(&disk, &gpt, size) else {
            prop_assert!(size < gpt.needed() || layout.other == layout.blocks);
            return Ok(());
        };
        assert_clean(&new, "moved");
        prop_assert_eq!(printed(&new), printed(&disk));
        let found = find(&new).unwrap().unwrap();
        prop_assert_eq!(found.last_usable, layout.other - 1 - (layout.blocks - 1 - gpt.last_usable));
        prop_assert_eq!(found.used_end, used_end);
        prop_assert_eq!(gpt.on(size).unwrap().free, (found.last_usable + 1 - used_end) * 512);
        // The backup is where sgdisk -e would put it, and nowhere else.
        let headers = new.chunks_exact(512).filter(|block| block.starts_with(b"EFI PART")).count();
        prop_assert_eq!(headers, 2);
        // And back again: the same bytes.
        prop_assert!(moved(&new, &found, disk.len() as u64).unwrap() == disk);
    }

    #[test]
    fn any_bytes_are_moved_or_not_without_panic(
        flips in prop::collection::vec((0usize..2 * 512 * 40, any::<u8>()), 1..6), size in 0u64..300_000, sealed: bool
    ) {
        let mut disk = vec![0; 200 << 10];
        format_gpt(&mut disk, 512, &[(40, 50), (60, 70)]);
        for (at, byte) in flips {
            let at = if at < 512 * 40 { at } else { disk.len() - 1 - (at - 512 * 40) };
            disk[at] = byte;
        }
        if sealed {
            seal(&mut disk, 1);
            let last = disk.len() / 512 - 1;
            seal(&mut disk, last);
        }
        if let Ok(Some(gpt)) = find(&disk) {
            for patch in gpt.on(size).iter().flat_map(|moved| &moved.wanted) {
                prop_assert!(patch.offset + patch.bytes.len() as u64 <= size);
            }
        }
    }
}

#[test]
fn the_smallest_disk_has_room_for_partitions_and_gpt() {
    let disk = sgdisk(DISK, &["-n1:2048:+10M", "-n3:40000:50000"]);
    let gpt = find(&disk).unwrap().unwrap();
    assert_eq!(gpt.needed(), (50_001 + 33) * 512);
    assert!(gpt.on(gpt.needed() - 512).is_none() && gpt.on(DISK).is_none());
    let new = moved(&disk, &gpt, gpt.needed()).unwrap();
    assert_clean(&new, "smallest");
    assert_eq!(gpt.on(gpt.needed()).unwrap().free, 0);
    // One block more or less is another disk, too.
    for size in [DISK + 512, DISK - 512, DISK + 33 * 512, DISK + 100 * 512, DISK + 777] {
        assert_clean(&moved(&disk, &gpt, size).unwrap(), &format!("{size}"));
    }
}

#[test]
fn disks_of_4096_byte_blocks_and_other_entry_sizes_move() {
    let mut disk = vec![0; DISK as usize];
    format_gpt(&mut disk, 4096, &[(256, 1000), (2000, 3000)]);
    assert!(find(&disk).is_err(), "for blocks of 512 bytes it is not right");
    let found = |disk: &Vec<u8>| Movable::find(disk, disk.len() as u64, 4096).unwrap().unwrap();
    let gpt = found(&disk);
    for size in [DISK + 10 * MIB, DISK + 4096, gpt.needed()] {
        let new = moved(&disk, &gpt, size).unwrap();
        assert_eq!(found(&new).last_usable, size / 4096 - 6);
        assert!(moved(&new, &found(&new), DISK).unwrap() == disk);
    }
    // Entries of 256 bytes: half as many in the same array.
    let mut disk = sgdisk(DISK, &[]);
    for (lba, number) in [(1, 64u32), (DISK as usize / 512 - 1, 64)] {
        disk[lba * 512 + 80..][..4].copy_from_slice(&number.to_le_bytes());
        disk[lba * 512 + 84..][..4].copy_from_slice(&256u32.to_le_bytes());
        seal(&mut disk, lba);
    }
    let gpt = find(&disk).unwrap().unwrap();
    let new = moved(&disk, &gpt, 2 * DISK).unwrap();
    assert!(find(&new).unwrap().is_some());
}

/// Makes both checksums of the header at `lba` right.
fn seal(disk: &mut [u8], lba: usize) {
    let at = lba * 512;
    let field = |disk: &[u8], field: usize| le::u32(disk, at + field).unwrap_or_default() as usize;
    let array = le::u64(disk, at + 72).unwrap_or_default() as usize;
    let len = field(disk, 80).saturating_mul(field(disk, 84));
    if let Some(entries) = array.checked_mul(512).and_then(|from| disk.get(from..from.checked_add(len)?)) {
        let sum = gpt::crc32(entries);
        put(disk, at + 88, &sum.to_le_bytes());
    }
    rewrite(&mut disk[at..at + 512], &[]);
}

const LAST: usize = DISK as usize / 512 - 1;

/// A number at a byte of a header; all else is made right.
fn set(disk: &mut [u8], lba: usize, field: usize, number: u64) {
    put(disk, lba * 512 + field, &number.to_le_bytes());
    seal(disk, lba);
}

#[test]
fn a_gpt_with_any_fault_is_left_as_it_is() {
    type Spoil = fn(&mut Vec<u8>);
    let rows: [(&str, Spoil); 26] = [
        ("checksum of the primary header", |d| d[512 + 60] ^= 1),
        ("checksum of the backup header", |d| d[LAST * 512 + 60] ^= 1),
        ("checksum of the primary array", |d| d[1024 + 57] ^= 1),
        ("checksum of the backup array", |d| d[(LAST - 32) * 512 + 57] ^= 1),
        ("primary says that it is elsewhere", |d| set(d, 1, 24, 2)),
        ("backup says that it is elsewhere", |d| set(d, LAST, 24, 7)),
        ("primary names another backup", |d| set(d, 1, 32, LAST as u64 - 1)),
        ("primary names a backup beyond the disk", |d| set(d, 1, 32, LAST as u64 + 1)),
        ("backup names another primary", |d| set(d, LAST, 32, 2)),
        ("no primary header", |d| d[512..1024].fill(0)),
        ("no backup header", |d| d[LAST * 512..].fill(0)),
        ("no header", |d| {
            d[512..1024].fill(0);
            d[LAST * 512..].fill(0);
        }),
        ("another disk GUID in the backup", |d| set(d, LAST, 56, 5)),
        ("another end of the usable blocks in the backup", |d| set(d, LAST, 48, LAST as u64 - 40)),
        ("usable blocks over the backup", |d| {
            [1, LAST].iter().for_each(|lba| set(d, *lba, 48, LAST as u64 - 5))
        }),
        ("usable blocks over the primary array", |d| [1, LAST].iter().for_each(|lba| set(d, *lba, 40, 20))),
        ("a partition beyond the usable blocks", |d| both_arrays(d, 40, LAST as u64)),
        ("a partition before the usable blocks", |d| both_arrays(d, 32, 10)),
        ("a partition that ends before it begins", |d| both_arrays(d, 40, 100)),
        ("overlapping partitions", |d| both_arrays(d, 40, 30_000)),
        ("an entry in the backup alone", |d| {
            put(d, (LAST - 32) * 512 + 32, &5000u64.to_le_bytes());
            seal(d, LAST);
        }),
        ("an unknown revision", |d| [1, LAST].iter().for_each(|lba| set(d, *lba, 8, 92 << 32 | 0x2_0000))),
        ("no protective MBR", |d| d[446..512].fill(0)),
        ("a protective MBR that begins elsewhere", |d| d[454] = 2),
        ("a hybrid MBR with an entry of its own", |d| {
            d[462..478].copy_from_slice(&[0, 0, 0, 0, 0x83, 0, 0, 0, 0, 0x10, 0, 0, 0, 1, 0, 0]);
        }),
        ("a header for another block size", |d| d.copy_within(512..1024, 4096)),
    ];
    let good = sgdisk(DISK, &["-n1:2048:20000", "-n2:22528:40000"]);
    assert!(find(&good).unwrap().is_some());
    for (what, spoil) in rows {
        let mut disk = good.clone();
        spoil(&mut disk);
        let found = find(&disk);
        assert!(found.is_err(), "{what}: {found:?}");
    }
    for (what, disk) in [
        ("a blank disk", vec![0; DISK as usize]),
        ("an MBR", {
            let mut disk = vec![0; DISK as usize];
            super::super::fixture::entry(&mut disk, 0, 0x83, 2048, 9999);
            disk
        }),
    ] {
        assert!(find(&disk).unwrap().is_none(), "{what}");
    }
    // As on a disk that was copied onto a larger one: it stays where it is.
    let mut copied = good.clone();
    copied.resize(2 * DISK as usize, 0);
    assert!(find(&copied).is_err());
    let mut one = vec![0; 1 << 20];
    write_gpt(&mut one, 512, &[], 1, 2047);
    assert!(find(&one).is_err());
}

/// A number in the first entry of both arrays.
pub(super) fn both_arrays(disk: &mut [u8], field: usize, number: u64) {
    for (array, lba) in [(2, 1), (LAST - 32, LAST)] {
        put(disk, array * 512 + field, &number.to_le_bytes());
        seal(disk, lba);
    }
}

#[test]
fn an_mbr_changes_only_where_it_was_right() {
    let good = sgdisk(DISK, &["-n1:2048:20000"]);
    let length = |disk: &[u8], entry: usize| le::u32(disk, 446 + 16 * entry + 12).unwrap();
    let on = |disk: &Vec<u8>, size| moved(disk, &find(disk).unwrap().unwrap(), size).unwrap();
    assert_eq!(length(&on(&good, 2 * DISK), 0), 2 * LAST as u32 + 1);
    assert_eq!(&on(&good, 2 * DISK)[..446], &good[..446], "boot program and disk signature");
    // Windows writes all ones whatever the size.
    let mut ones = good.clone();
    ones[458..462].fill(0xff);
    assert_eq!(&on(&ones, 2 * DISK)[..512], &ones[..512]);
    // A hybrid protects only what lies before its partition.
    let hybrid = sgdisk(DISK, &["-n1:2048:20000", "-h1"]);
    assert_eq!(&on(&hybrid, 2 * DISK)[..512], &hybrid[..512]);
    // More blocks than the entry can count.
    assert_eq!((protected(1 << 32), protected((1 << 32) + 1)), (u32::MAX, u32::MAX));
    assert_eq!(
        (chs(0), chs(62), chs(63), chs(255 * 63 * 1024)),
        ([0, 1, 0], [0, 63, 0], [1, 1, 0], [0xff; 3])
    );
    assert_eq!(chs(255 * 63 * 1024 - 1), [0xfe, 0xff, 0xff]);
}

#[test]
fn the_end_of_the_partitions_of_an_mbr_is_known_or_in_doubt() {
    let end = |disk: &Vec<u8>| partitions_end(disk, disk.len() as u64, 512);
    let mut disk = vec![0; DISK as usize];
    assert!(end(&disk).unwrap_err().contains("no partition table"));
    super::super::fixture::entry(&mut disk, 0, 0x83, 2048, 9999);
    assert_eq!(end(&disk), Ok((2048 + 9999) * 512));
    // An extended partition without any in it: its first record is empty.
    super::super::fixture::entry(&mut disk, 1, 0x05, 20_000, 30_000);
    disk[20_000 * 512 + 510..][..2].copy_from_slice(&[0x55, 0xaa]);
    assert_eq!(end(&disk), Ok(50_000 * 512));
    super::super::fixture::entry(&mut disk, 2, 0x83, 5000, 6000);
    assert!(end(&disk).is_err(), "overlapping");
}
