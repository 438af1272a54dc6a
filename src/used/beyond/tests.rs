use super::super::fixture::{entry, format_gpt};
use super::super::testing::{TestRandom, run};
use super::super::{LookOptions, map};
use super::*;

const MIB: usize = 1 << 20;

fn why(disk: &Vec<u8>, sector: u32) -> String {
    let mut beyond = Beyond::default();
    beyond.look(disk, "sdb", sector);
    beyond.why().unwrap_or_default().to_owned()
}

/// A disk of noise with a GPT: 1 at 1 MiB (2 MiB), 2 at 4 MiB (3 MiB).
fn noise(sector: u32) -> Vec<u8> {
    let mut random = TestRandom(7);
    let mut disk: Vec<u8> = (0..MIB).flat_map(|_| random.next().to_le_bytes()).collect();
    disk[..MIB].fill(0);
    disk[7 * MIB..].fill(0);
    let block = |mib: u64| (mib << 20) / u64::from(sector);
    format_gpt(&mut disk, sector, &[(block(1), block(3) - 1), (block(4), block(7) - 1)]);
    disk
}

#[test]
fn a_superblock_at_any_block_of_any_volume_is_a_sign() {
    for sector in [512, 4096] {
        assert_eq!(why(&noise(sector), sector), "");
        for at in [MIB, MIB + 512, 3 * MIB - 512, 4 * MIB, 5 * MIB + 4096, 7 * MIB - 512] {
            let mut disk = noise(sector);
            disk[at..at + 8].copy_from_slice(VERITY);
            let why = why(&disk, sector);
            let number = if at < 3 * MIB { 1 } else { 2 };
            assert!(
                why.contains(&format!("partition {number} of sdb: ")) && why.contains("dm-verity"),
                "{at}: {why}"
            );
        }
        // Not at the beginning of a block of 512 bytes, and outside of every volume.
        for at in [MIB + 8, 3 * MIB + 512] {
            let mut disk = noise(sector);
            disk[at..at + 8].copy_from_slice(VERITY);
            assert_eq!(why(&disk, sector), "", "{at}");
        }
    }
    let mut disk = noise(512)[4 * MIB..7 * MIB].to_vec();
    disk[MIB..MIB + 8].copy_from_slice(VERITY);
    assert!(
        why(&disk, 512).contains("sdb: a dm-verity superblock at byte 1048576"),
        "a disk without a table"
    );
}

#[test]
fn every_layer_that_reads_another_volume_is_seen() {
    for (kind, magic) in HEADERS {
        for at in [MIB, 4 * MIB] {
            let mut disk = noise(512);
            disk[at..at + magic.len()].copy_from_slice(magic);
            assert!(why(&disk, 512).contains(kind), "{kind} at {at}");
        }
    }
}

#[test]
fn verity_types_count_in_any_table_and_root_types_in_none() {
    let with = |kind: &[u8; 16], lba: usize| {
        let mut disk = noise(512);
        let array = if lba == 1 { 1024 } else { 8 * MIB - 33 * 512 };
        disk[array + 128..array + 144].copy_from_slice(kind);
        let sum = |disk: &[u8], at: usize, len| super::super::gpt::crc32(&disk[at..at + len]).to_le_bytes();
        let header = lba * 512;
        let crc = sum(&disk, array, 128 * 128);
        disk[header + 88..header + 92].copy_from_slice(&crc);
        disk[header + 16..header + 20].fill(0);
        let crc = sum(&disk, header, 92);
        disk[header + 16..header + 20].copy_from_slice(&crc);
        why(&disk, 512)
    };
    let root_verity = b"\xed\x57\x73\x2c\xd2\xeb\xd9\x46\xae\xc1\x23\xd4\x37\xec\x2b\xf5";
    let root = b"\xe3\xbc\x68\x4f\xcd\xe8\xb1\x4d\x96\xe7\xfb\xca\xf9\x84\xb7\x09";
    for lba in [1, 8 * MIB / 512 - 1] {
        assert!(with(root_verity, lba).contains("partition 2 of sdb: its type says dm-verity"), "{lba}");
        assert_eq!(with(root, lba), "", "{lba}");
    }
}

/// A disk of 64 MiB with an MBR: 1 at 1 MiB (40 MiB) holds an ext4 of 32 MiB, 2 at 48 MiB (8 MiB) one more of 8 MiB.
fn ext4() -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(64 << 20).unwrap();
    let path = file.path().to_str().unwrap();
    for (at, size) in [(1, "32M"), (48, "8M")] {
        let offset = format!("offset={}", at << 20);
        run("mke2fs", &["-q", "-F", "-t", "ext4", "-b", "4096", "-E", &offset, path, size]);
    }
    let mut disk = std::fs::read(path).unwrap();
    entry(&mut disk, 0, 0x83, 2048, 40 * 2048);
    entry(&mut disk, 1, 0x83, 48 * 2048, 8 * 2048);
    disk
}

#[test]
fn a_tree_behind_a_file_system_keeps_all_of_them_whole() {
    let disk = ext4();
    let before = map(&disk, 512);
    assert!(before.found.iter().all(|found| found.skipped > 0), "{before:?}");
    assert_eq!((before.found[0].behind, before.found[1].behind), (8 << 20, 0));
    for at in [33 * MIB, 37 * MIB + 1536, 41 * MIB - 512] {
        let mut disk = disk.clone();
        disk[at..at + 8].copy_from_slice(VERITY);
        let map = map(&disk, 512);
        assert_eq!(map.free, [], "{at}");
        assert!(
            map.found.iter().all(|found| found.why_all.as_deref().unwrap().contains("dm-verity")),
            "{map:?}"
        );
    }
}

#[test]
fn what_another_disk_holds_keeps_file_systems_whole_not_swap() {
    let mut other = noise(512);
    other[MIB..MIB + 8].copy_from_slice(VERITY);
    let mut disk = ext4();
    let swap = &mut disk[48 * MIB..];
    swap[..8192].fill(0);
    swap[1024] = 1;
    swap[1028..1030].copy_from_slice(&2047u16.to_le_bytes());
    swap[4086..4096].copy_from_slice(b"SWAPSPACE2");
    let mut beyond = Beyond::default();
    beyond.look(&disk, "sda", 512);
    assert_eq!(beyond.why(), None);
    beyond.look(&other, "sdb", 512);
    let map = super::super::map::map_beside(&disk, 512, LookOptions { leave_out_swap: true }, &beyond);
    let why = map.found[0].why_all.as_deref().unwrap();
    assert!(why.contains("partition 1 of sdb: dm-verity at its beginning"), "{why}");
    assert_eq!((map.found[0].skipped, map.found[1].why_all.as_deref()), (0, None));
    assert!(map.found[1].skipped > 0);
    // The first sign counts, and a disk that cannot be opened is one.
    beyond.cannot_look("sdc", "it does not answer");
    assert!(!beyond.why().unwrap().contains("sdc"));
    let mut beyond = Beyond::default();
    beyond.cannot_look("sdc", "it does not answer");
    assert!(beyond.why().unwrap().contains("sdc could hold"));
}

#[test]
fn hostile_tables_cost_a_bounded_search() {
    let mut disk = vec![0; 8 * MIB];
    let all = (34, 8 * MIB as u64 / 512 - 34);
    format_gpt(&mut disk, 512, &[all; 1]);
    assert_eq!(why(&disk, 512), "");
    // 128 partitions that all but overlap.
    let many: Vec<(u64, u64)> = (0..128).map(|i| (34 + i, all.1)).collect();
    format_gpt(&mut disk, 512, &many);
    let size = disk.len() as u64;
    let mut search = BeyondSearch { left: 2 * size };
    let found = table::mentioned(&disk, size, 512)
        .iter()
        .find_map(|slot| search.volume(&Volume::new(&disk, slot.start, slot.size, 512)));
    assert!(found.unwrap().contains("more lies"), "{}", search.left);
}
