use super::fixture::{FAKE, entry, format_fake, format_gpt, write_gpt};
use super::map::map_with;
use super::*;
use crate::io::ReadAt;
use proptest::prelude::*;
use std::io;
use std::ops::Range;

const MIB: usize = 1 << 20;

/// The only reason that stands in the map; nothing is free.
fn why(map: &Map) -> &str {
    assert_eq!((map.free.len(), map.found.len()), (0, 1), "{map:?}");
    map.found[0].why_all.as_deref().unwrap()
}

fn look(disk: &Vec<u8>, sector: u32) -> Map {
    map_with(disk, sector, FAKE)
}

/// A disk with an MBR: 1 at 1 MiB (2 MiB), logical ones at 4 MiB (1 MiB) and 6 MiB (2 MiB) in 3 MiB to 9 MiB.
fn mbr_disk() -> Vec<u8> {
    let mut disk = vec![0xa5; 10 * MIB];
    disk[..512].fill(0);
    entry(&mut disk, 0, 0x83, 2048, 4096);
    entry(&mut disk, 1, 0x0f, 6144, 12288);
    for ebr in [3 * MIB, 5 * MIB] {
        disk[ebr..ebr + 512].fill(0);
    }
    entry(&mut disk[3 * MIB..], 0, 0x83, 2048, 2048);
    entry(&mut disk[3 * MIB..], 1, 0x05, 4096, 6144);
    entry(&mut disk[5 * MIB..], 0, 0x83, 2048, 4096);
    format_fake(&mut disk[MIB..3 * MIB], &[100_000..300_000, 1_000_000..2 << 20]);
    format_fake(&mut disk[6 * MIB..8 * MIB], &[65536..131_072]);
    disk
}

#[test]
fn free_ranges_are_rounded_inward_and_partitions_described() {
    let map = look(&mbr_disk(), 512);
    let first = 1 << 20;
    assert_eq!(
        map.free,
        [
            first + 102_400..first + 299_008,
            first + 1_003_520..first + (2 << 20),
            (6 << 20) + 65536..(6 << 20) + 131_072
        ]
    );
    let found: Vec<_> = map.found.iter().map(|f| (f.number, f.start >> 20, f.size >> 20, &*f.kind)).collect();
    assert_eq!(found, [(1, 1, 2, "fake"), (5, 4, 1, "unknown"), (6, 6, 2, "fake")]);
    assert_eq!(map.found[0].skipped, 196_608 + 1_093_632);
    assert_eq!(map.found[0].partition_type.as_deref(), Some("Linux (83)"));
    assert_eq!(map.found[0].label.as_deref(), Some("a?b"));
    assert_eq!(map.found[0].why_all, None);
    assert_eq!((map.found[1].why_all.as_deref(), map.found[1].skipped), (Some("unknown content"), 0));
}

/// A change of a disk, and a piece of the reason why all of it is imaged then.
type Broken = (&'static str, fn(&mut Vec<u8>));

#[test]
fn a_doubtful_mbr_makes_the_whole_disk_used() {
    let changes: &[Broken] = &[
        ("partitions 1 and 2 overlap", |d| {
            entry(d, 1, 0x83, 6143, 12288);
        }),
        ("partition 3 overlaps the extended one", |d| entry(d, 2, 0x83, 18431, 5)),
        ("partition 3 goes beyond the end", |d| entry(d, 2, 0x83, 18432, 2049)),
        ("partition 3 goes beyond the end", |d| entry(d, 2, 0x83, u64::from(u32::MAX), u64::from(u32::MAX))),
        ("extended partition goes beyond the end", |d| entry(d, 1, 0x0f, 6144, 14337)),
        ("partition 3 is not a right entry", |d| entry(d, 2, 0x83, 18432, 0)),
        ("partition 3 is not a right entry", |d| entry(d, 2, 0, 18432, 7)),
        ("partition 3 is not a right entry", |d| entry(d, 2, 0x83, 0, 7)),
        ("two extended", |d| entry(d, 2, 0x05, 18432, 7)),
        ("GPT: no header", |d| entry(d, 2, 0xee, 18432, 7)),
        ("no extended boot record at LBA 10240", |d| d[5 * MIB + 510] = 0),
        ("is a loop", |d| entry(&mut d[5 * MIB..], 1, 0x05, 4096, 100)),
        ("leaves its partition for LBA 6144", |d| entry(&mut d[5 * MIB..], 1, 0x05, 0, 100)),
        ("leaves its partition for LBA 18432", |d| entry(&mut d[5 * MIB..], 1, 0x05, 12288, 100)),
        ("partition 6 overlaps an extended boot record", |d| {
            entry(&mut d[5 * MIB..], 1, 0x05, 6200, 100);
            let ebr = &mut d[(6144 + 6200) * 512..];
            ebr[..512].fill(0);
            entry(ebr, 0, 0x83, 4200, 8);
        }),
        ("no extended boot record at LBA 6145", |d| entry(&mut d[5 * MIB..], 1, 0x05, 1, 100)),
        ("logical partition 6 leaves", |d| entry(&mut d[5 * MIB..], 0, 0x83, 2048, 6145)),
        ("more than a partition and a link", |d| entry(&mut d[5 * MIB..], 2, 0x83, 2048, 6)),
        ("more than a partition and a link", |d| entry(&mut d[5 * MIB..], 0, 0x05, 2048, 6)),
        ("a link and no partition", |d| entry(&mut d[3 * MIB..], 0, 0, 0, 0)),
        ("link of the extended boot record at LBA 6144 is wrong", |d| {
            entry(&mut d[3 * MIB..], 1, 0x83, 4096, 6144);
        }),
        ("looks like fake", |d| format_fake_at_head(d)),
        ("looks like Intel RAID", |d| {
            let at = d.len() - 1024;
            d[at..at + 24].copy_from_slice(b"Intel Raid ISM Cfg Sig. ");
        }),
        ("looks like LUKS", |d| d[0x4000..0x4006].copy_from_slice(b"SKUL\xba\xbe")),
        ("looks like a BSD label", |d| d[512..516].copy_from_slice(b"\x57\x45\x56\x82")),
        ("no MBR that protects it", |d| d[512..520].copy_from_slice(b"EFI PART")),
        ("for another block size", |d| d[4096..4104].copy_from_slice(b"EFI PART")),
        ("no MBR that protects it", |d| {
            let at = d.len() - 512;
            d[at..at + 8].copy_from_slice(b"EFI PART");
        }),
    ];
    for (want, change) in changes {
        let mut disk = mbr_disk();
        change(&mut disk);
        let map = look(&disk, 512);
        assert!(why(&map).contains(want), "{want}: {map:?}");
    }
    assert!(why(&look(&mbr_disk()[..10 * MIB - 1].to_vec(), 512)).contains("no blocks of 512 bytes"));
}

fn format_fake_at_head(disk: &mut [u8]) {
    let table = disk[..512].to_vec();
    let len = disk.len();
    format_fake(&mut disk[..len], &[4096..len as u64]);
    disk[..512].copy_from_slice(&table);
}

#[test]
fn an_extended_chain_longer_than_linux_follows_is_doubted() {
    let mut disk = vec![0; 4 * MIB];
    entry(&mut disk, 0, 0x05, 64, 8000);
    for i in 0..101u64 {
        let ebr = &mut disk[(64 + 16 * i as usize) * 512..];
        entry(ebr, 0, 0x83, 8, 8);
        if i < 100 {
            entry(ebr, 1, 0x05, 16 * (i + 1), 16);
        }
    }
    assert!(why(&look(&disk, 512)).contains("more than 100 links"));
}

#[test]
fn types_with_their_own_layout_and_unread_signatures_are_whole() {
    let mut disk = mbr_disk();
    entry(&mut disk, 0, 0x42, 2048, 4096);
    let map = look(&disk, 512);
    assert_eq!(map.found[0].why_all.as_deref(), Some("its type has a layout of its own"));
    assert_eq!(map.free, [(6 << 20) + 65536..(6 << 20) + 131_072]);

    let mut disk = mbr_disk();
    disk[MIB..MIB + 6].copy_from_slice(b"LUKS\xba\xbe");
    let map = look(&disk, 512);
    assert_eq!(map.found[0].why_all.as_deref(), Some("it looks like fake and LUKS"));
    assert_eq!(map.found[0].skipped, 0);
}

/// A GPT disk: 1 at 1 MiB (2 MiB), 2 at 4 MiB (3 MiB).
fn gpt_disk(sector: u32) -> Vec<u8> {
    let mut disk = vec![0xa5; 8 * MIB];
    disk[..64 << 10].fill(0);
    disk[8 * MIB - (64 << 10)..].fill(0);
    let block = |mib: u64| (mib << 20) / u64::from(sector);
    format_gpt(&mut disk, sector, &[(block(1), block(3) - 1), (block(4), block(7) - 1)]);
    format_fake(&mut disk[MIB..3 * MIB], &[65536..1 << 20]);
    format_fake(&mut disk[4 * MIB..7 * MIB], &[4096..1 << 20, 2 << 20..3 << 20]);
    disk
}

#[test]
fn gpt_of_both_block_sizes_and_its_backup_are_read() {
    for sector in [512, 4096] {
        let disk = gpt_disk(sector);
        let whole = look(&disk, sector);
        assert_eq!(
            whole.free,
            [1_114_112..2 << 20, (4 << 20) + 4096..5 << 20, 6 << 20..7 << 20],
            "{sector}: {whole:?}"
        );
        assert_eq!((whole.found.len(), whole.notes.len()), (2, 0));
        assert_eq!(whole.found[0].name.as_deref(), Some("r?"));
        assert_eq!(whole.found[0].partition_type.as_deref(), Some("Linux"));

        // One of the two is enough.
        let unit = sector as usize;
        for (at, note) in
            [(unit, "primary GPT is not used"), (8 * MIB - unit + 60, "backup GPT is not whole")]
        {
            let mut disk = disk.clone();
            disk[at] ^= 1;
            let map = look(&disk, sector);
            assert_eq!(map.free, whole.free);
            assert!(map.notes[0].contains(note), "{map:?}");
        }
        // Grown: the backup is not at the end any more, and still asked.
        let mut grown = disk.clone();
        grown.extend(vec![0; MIB]);
        let map = look(&grown, sector);
        assert_eq!(map.free, whole.free);
        assert_eq!(map.notes, ["the backup GPT is not at the end of the disk"]);

        // With the other block size nothing is right.
        assert!(why(&look(&disk, 4608 - sector)).contains("for another block size"));
    }
}

#[test]
fn a_doubtful_gpt_makes_the_whole_disk_used() {
    let last = 8 * MIB as u64 / 512 - 1;
    let changes: &[Broken] = &[
        ("header checksum", |d| {
            d[512 + 60] ^= 1;
            d[8 * MIB - 512 + 60] ^= 1;
        }),
        ("checksum of the entries", |d| {
            d[1024 + 40] ^= 1;
            d[8 * MIB - 33 * 512 + 40] ^= 1;
        }),
        ("backup differs", |d| write_gpt(d, 512, &[(2048, 6143)], 8 * MIB as u64 / 512 - 1, 1)),
        ("no MBR that protects it", |d| d[446..512].fill(0)),
        ("does not protect it", |d| entry(d, 0, 0xee, 2, 100)),
        ("partition 2 of the hybrid MBR", |d| entry(d, 1, 0x83, 2048, 4095)),
        ("partition 2 of the hybrid MBR", |d| entry(d, 1, 0x05, 2048, 4096)),
        ("looks like Linux RAID", |d| {
            let at = (8 * MIB - 8192) as u64;
            d[at as usize..at as usize + 4].copy_from_slice(&0xa92b_4efcu32.to_le_bytes());
            d[at as usize + 144..at as usize + 152].copy_from_slice(&(at / 512).to_le_bytes());
        }),
    ];
    for (want, change) in changes {
        let mut disk = gpt_disk(512);
        change(&mut disk);
        let map = look(&disk, 512);
        assert!(why(&map).contains(want), "{want}: {map:?}");
    }
    let tables: &[(&str, &[(u64, u64)])] = &[
        ("partitions 1 and 2 overlap", &[(2048, 6143), (6143, 7000)]),
        ("partitions 1 and 2 overlap", &[(2048, 6143), (3000, 4000)]),
        ("partition 1 is not inside", &[(33, 6143)]),
        ("partition 1 is not inside", &[(2048, last - 32)]),
        ("partition 1 is not inside", &[(2048, u64::MAX)]),
        ("partition 1 is not inside", &[(0, u64::MAX)]),
        ("partition 1 is not inside", &[(4096, 2048)]),
    ];
    for (want, partitions) in tables {
        let mut disk = gpt_disk(512);
        format_gpt(&mut disk, 512, partitions);
        let map = look(&disk, 512);
        assert!(why(&map).contains(want), "{want}: {map:?}");
    }
    // A hybrid MBR that says the same is none to doubt.
    let mut disk = gpt_disk(512);
    entry(&mut disk, 1, 0x83, 2048, 4096);
    assert_eq!(look(&disk, 512).free, look(&gpt_disk(512), 512).free);
}

#[test]
fn without_a_table_the_disk_is_one_volume() {
    let mut disk = vec![0; 4 * MIB];
    format_fake(&mut disk, &[65536..4 << 20]);
    let map = look(&disk, 512);
    assert_eq!((map.free, map.found[0].number, &*map.found[0].kind), (vec![65536..4 << 20], 0, "fake"));
    assert_eq!(map.found[0].partition_type, None);

    // A boot program with the signature of a table, or a table without partitions, is none.
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    assert_eq!(look(&disk, 512).free.len(), 1);
    disk[446..510]
        .copy_from_slice(&b"\r\nPress Ctrl+Alt+Del to restart, whoever you are, and wait a bit"[..64]);
    assert_eq!(look(&disk, 512).free.len(), 1);

    assert_eq!(why(&look(&vec![0; MIB], 512)), "unknown content");
    assert_eq!(why(&look(&Vec::new(), 512)), "cannot read the first block: unexpected end of file");
}

/// A disk with one unreadable byte.
struct Bad(Vec<u8>, u64);

impl ReadAt for Bad {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if (offset..offset + buf.len() as u64).contains(&self.1) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.0.read_at(buf, offset)
    }
}

#[test]
fn what_cannot_be_read_is_used() {
    // The table; the place of a signature of partition 1; its file system; an extended boot record.
    for (at, disk) in [(100, true), (MIB + 400_000, false), (MIB + 1024, false), (5 * MIB, true)] {
        let map = map_with(&Bad(mbr_disk(), at as u64), 512, FAKE);
        if disk {
            assert!(why(&map).contains("cannot read"), "{map:?}");
        } else {
            assert!(map.found[0].why_all.as_deref().unwrap().contains("cannot read"), "{map:?}");
            assert_eq!((map.found[0].skipped, map.free.len()), (0, 1));
        }
    }
    // A bad place where nobody looks is none to doubt.
    let map = map_with(&Bad(mbr_disk(), MIB as u64 + 300_000), 512, FAKE);
    assert_eq!(map.free, look(&mbr_disk(), 512).free);
}

/// Whether each of `free` lies in one of `allowed`.
fn inside(free: &[Range<u64>], allowed: &[Range<u64>]) -> bool {
    free.iter().all(|f| allowed.iter().any(|a| a.start <= f.start && f.end <= a.end))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Partitions at any sector, free ranges at any byte: no byte in use is ever free, and no long free range is lost.
    #[test]
    fn free_is_what_the_file_systems_do_not_use(
        parts in proptest::collection::vec((0u64..300, 8u64..1000, proptest::bool::ANY), 1..4),
        ranges in proptest::collection::vec((0u64..1 << 19, 0u64..1 << 18), 0..12),
        gpt: bool,
    ) {
        let mut disk = vec![0xa5; 2 * MIB];
        disk[..64 << 10].fill(0);
        disk[2 * MIB - (64 << 10)..].fill(0);
        let mut used = vec![true; disk.len()];
        let (mut next, mut blocks) = (64, Vec::new());
        for (i, (gap, count, known)) in parts.iter().enumerate() {
            let first = next + gap;
            next = first + count;
            blocks.push((first, next - 1));
            if !gpt {
                entry(&mut disk, i, 0x83, first, *count);
            }
            if *known {
                let (start, size) = (first * 512, count * 512);
                let mut own = Free::new(1, 100);
                for (at, len) in ranges.iter().filter(|(at, _)| *at >= 4096) {
                    own.add(*at..(at + len).min(size));
                }
                let own = own.finish();
                format_fake(&mut disk[start as usize..(start + size) as usize], &own);
                for range in own {
                    used[(start + range.start) as usize..(start + range.end) as usize].fill(false);
                }
            }
        }
        if gpt {
            format_gpt(&mut disk, 512, &blocks);
        }
        let map = look(&disk, 512);
        prop_assert_eq!(map.found.len(), parts.len(), "{:?}", map);
        let mut kept = used.clone();
        for range in &map.free {
            prop_assert!(range.start % 4096 == 0 && range.end % 4096 == 0);
            prop_assert!(used[range.start as usize..range.end as usize].iter().all(|used| !used));
            kept[range.start as usize..range.end as usize].fill(true);
        }
        let longest_lost = kept.split(|kept| *kept).map(<[bool]>::len).max().unwrap();
        prop_assert!(longest_lost < (64 << 10) + 8192, "{longest_lost} {map:?}");
    }

    /// Whatever happens to a table, nothing is free but what the file systems gave.
    #[test]
    fn flips_in_a_table_free_nothing_else(
        flips in proptest::collection::vec((0usize..4096, 0u8..8), 1..6), kind in 0..3
    ) {
        let (mut disk, sector, tables) = match kind {
            0 => (mbr_disk(), 512, vec![446, 3 * MIB + 446, 5 * MIB + 446]),
            1 => (gpt_disk(512), 512, vec![446, 512, 1024, 8 * MIB - 512, 8 * MIB - 33 * 512]),
            _ => (gpt_disk(4096), 4096, vec![446, 4096, 8192, 8 * MIB - 4096, 8 * MIB - 5 * 4096]),
        };
        let allowed = look(&disk, sector).free;
        for (at, bit) in flips {
            let table = tables[at % tables.len()];
            disk[table + at / tables.len() % 92] ^= 1 << bit;
        }
        let map = look(&disk, sector);
        prop_assert!(inside(&map.free, &allowed), "{map:?}");
    }
}

#[test]
fn content_of_swap_is_left_out_only_where_that_is_asked_for() {
    let mut disk = vec![0; 4 * MIB];
    disk[1024] = 1;
    disk[1028..1030].copy_from_slice(&1023u16.to_le_bytes());
    disk[4086..4096].copy_from_slice(b"SWAPSPACE2");
    let kept = map(&disk, 512);
    assert_eq!((why(&kept), &*kept.found[0].kind), ("swap content is kept", "swap"));
    let left = map_leaving_out(&disk, 512, LookOptions { leave_out_swap: true });
    // Both ends stay, and the places of two signatures between them.
    let between = [(1 << 20) + 4096..2 << 20, (2 << 20) + 4096..3 << 20];
    assert_eq!((left.free, left.found[0].skipped), (between.to_vec(), (2 << 20) - 8192));
    disk[4086..4096].copy_from_slice(b"S1SUSPEND\0");
    let hibernated = map_leaving_out(&disk, 512, LookOptions { leave_out_swap: true });
    assert!(why(&hibernated).contains("hibernated"));
}

/// An MBR disk over a GPT that was not wiped: its backup alone, or both of its ends.
fn two_tables(partitions: &[(u64, u64)], both: bool) -> Vec<u8> {
    let mut disk = mbr_disk();
    let last = disk.len() as u64 / 512 - 1;
    if both {
        write_gpt(&mut disk, 512, partitions, 1, last);
    }
    write_gpt(&mut disk, 512, partitions, last, 1);
    disk
}

#[test]
fn of_two_tables_a_block_is_free_only_where_it_is_by_both() {
    let by_mbr = look(&mbr_disk(), 512);
    for both in [false, true] {
        // The old partition is the same as the first one; the others lie outside of every old one.
        let map = look(&two_tables(&[(2048, 6143)], both), 512);
        let first: Vec<_> = by_mbr.free.iter().filter(|range| range.end <= 3 << 20).cloned().collect();
        assert!(!first.is_empty() && map.free == first, "{both}: {map:?}");
        assert_eq!(map.found.len(), by_mbr.found.len(), "the partitions are those of the MBR");
        assert!(map.notes.iter().any(|note| note.contains("sgdisk -z")), "{map:?}");
        let skipped: u64 = map.found.iter().map(|found| found.skipped).sum();
        assert_eq!(skipped, super::testing::total(&map.free));
        // An old partition with something else in it: nothing of it is free.
        let map = look(&two_tables(&[(2040, 6143)], both), 512);
        assert!(map.free.is_empty(), "{both}: {map:?}");
        assert!(
            map.notes.iter().any(|note| note.contains("by the second table: unknown content")),
            "{map:?}"
        );
    }
    let mut disk = two_tables(&[(2048, 6143)], true);
    let last = disk.len() - 512;
    disk[512 + 60] ^= 1;
    disk[last + 60] ^= 1;
    let map = look(&disk, 512);
    assert!(map.free.is_empty() && why(&map).contains("sgdisk -z"), "a GPT that is not whole: {map:?}");
}

#[test]
fn a_type_of_a_layer_between_keeps_a_partition_whole() {
    for (kind, word) in [(0x82, "swap"), (0x8e, "LVM"), (0xe8, "LUKS"), (0xfd, "RAID")] {
        let mut disk = mbr_disk();
        entry(&mut disk, 0, kind, 2048, 4096);
        let map = look(&disk, 512);
        assert_eq!(map.found[0].skipped, 0, "{map:?}");
        let why = map.found[0].why_all.as_deref().unwrap();
        assert!(why.contains("partition table says") && why.contains(word), "{why}");
        assert!(map.found.iter().any(|found| found.skipped > 0), "the others are thinned");
    }
}
