//! A last partition that grows with its disk: what is written, in which order, and what is compared afterwards.

use super::resized::sgdisk;
use super::*;
use crate::used::Growth;

const BLOCK: usize = 512;
const OLD: usize = 6 * MIB;
/// Where the last partition begins and ends: inside a chunk, so that a run of the image reaches over its beginning.
const LAST: std::ops::Range<usize> = 5000 * BLOCK..11_000 * BLOCK;

/// 6 MiB, with two partitions full of what tells their blocks apart.
fn image_bytes() -> Vec<u8> {
    let mut disk = vec![0; OLD];
    disk[100 * BLOCK..LAST.end].copy_from_slice(&noise(1, LAST.end - 100 * BLOCK));
    let args = ["-a1", "-n1:100:4999", "-n2:5000:10999", "-U", "5f2a0000-1111-2222-3333-444455556666"];
    sgdisk(&disk, &args)
}

fn mbr_bytes() -> Vec<u8> {
    let mut disk = image_bytes();
    disk[..34 * BLOCK].fill(0);
    disk[OLD - 33 * BLOCK..].fill(0);
    for (n, (first, blocks)) in [(100u32, 4900u32), (5000, 6000)].into_iter().enumerate() {
        let at = 446 + 16 * n;
        disk[at + 4] = 0x83;
        disk[at + 8..at + 12].copy_from_slice(&first.to_le_bytes());
        disk[at + 12..at + 16].copy_from_slice(&blocks.to_le_bytes());
    }
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

fn image_of(bytes: &[u8]) -> Image {
    open(
        &back_up(
            &MemDisk::new("sda", bytes.to_vec(), 512),
            &BackupOptions { chunk_size: 256 << 10, ..small() },
        )
        .unwrap()
        .0,
    )
    .unwrap()
}

fn grow(image: &Image, disk: &MemDisk) -> Result<Restored, ImageError> {
    let options = RestoreOptions { threads: 1, grow: true, ..RestoreOptions::default() };
    restore(image, disk, &options, &Progress::new())
}

fn compare(image: &Image, disk: Vec<u8>) -> Result<Option<Growth>, ImageError> {
    verify_against(image, &MemDisk::new("sdb", disk, 512), 2, &Progress::new())
}

/// Where the last partition ends on a disk of so many bytes.
fn end_on(size: usize, behind: usize) -> usize {
    (size - behind) / MIB * MIB
}

#[test]
fn a_partition_grows_and_all_else_is_as_restored() {
    for (bytes, behind) in [(image_bytes(), 33 * BLOCK), (mbr_bytes(), 0)] {
        let image = image_of(&bytes);
        for size in [OLD + MIB, OLD + MIB + 512, OLD + 3 * MIB + 600 * 1024, OLD + 20 * MIB] {
            let disk = MemDisk::new("sdb", vec![0xaa; size], 512);
            let restored = grow(&image, &disk).unwrap();
            let end = end_on(size, behind);
            let growth =
                Growth { number: 2, start: LAST.start as u64, old_end: LAST.end as u64, end: end as u64 };
            assert_eq!(restored.table, TableFit::Grown(growth.clone()), "{size}");
            let found = disk.durable();
            assert!(
                found[LAST] == bytes[LAST]
                    && found[100 * BLOCK..LAST.start] == bytes[100 * BLOCK..LAST.start]
            );
            // No superblock of an earlier array stands at its new end.
            assert!(crate::io::is_zero(&found[(end - MIB).max(LAST.end)..end]), "{size}");
            if behind > 0 {
                let grown = sgdisk(&found, &["-v"]);
                let same = sgdisk(&grown, &["-a1", "-d2", &format!("-n2:5000:{}", end / BLOCK - 1)]);
                let entry = |disk: &[u8]| disk[1024 + 128 + 32..1024 + 128 + 48].to_vec();
                assert_eq!(entry(&found), entry(&same), "{size}");
            }
            assert_eq!(compare(&image, found).unwrap(), Some(growth), "{size}");
            // And once more, over what has been used since.
            let used = [&disk.content()[..LAST.start], &vec![0x77; end - LAST.start], &disk.content()[end..]]
                .concat();
            let again = MemDisk::new("sdb", used, 512);
            grow(&image, &again).unwrap();
            assert!(again.durable()[..LAST.end] == disk.durable()[..LAST.end], "{size}");
            assert!(again.durable()[end..] == disk.durable()[end..], "{size}");
        }
    }
}

#[test]
fn where_there_is_no_room_the_table_moves_as_without_it() {
    let bytes = image_bytes();
    let image = image_of(&bytes);
    for size in [OLD, OLD - 512, 11_100 * BLOCK] {
        let [plain, grown] = [false, true].map(|grow| {
            let disk = MemDisk::new("sdb", vec![0xaa; size], 512);
            let options = RestoreOptions { grow, ..RestoreOptions::default() };
            let table = restore(&image, &disk, &options, &Progress::new()).unwrap().table;
            (table, disk.durable())
        });
        assert!(plain == grown, "{size}");
        assert_eq!(compare(&image, plain.1).unwrap(), None);
    }
}

#[test]
fn only_the_grown_partition_is_left_out_of_a_comparison() {
    for (bytes, behind) in [(image_bytes(), 33 * BLOCK), (mbr_bytes(), 0)] {
        let (image, size) = (image_of(&bytes), OLD + 4 * MIB);
        let disk = MemDisk::new("sdb", vec![0; size], 512);
        grow(&image, &disk).unwrap();
        let (good, end) = (disk.durable(), end_on(size, behind));
        let with = |at: usize| {
            let mut bad = good.clone();
            bad[at] ^= 1;
            compare(&image, bad)
        };
        for at in [LAST.start, LAST.start + 4096, LAST.end, OLD, end - 1] {
            assert!(with(at).unwrap().is_some(), "byte {at} is in the partition");
        }
        let others = [0, 440, 446, 458 + 16, 100 * BLOCK, 2500 * BLOCK, LAST.start - 1];
        let gpt = [512 + 16, 1024 + 1, 1024 + 128 + 40, size - 512 + 20, size - 33 * BLOCK + 128 + 40];
        for at in others.into_iter().chain(gpt.into_iter().filter(|_| behind > 0)) {
            let error = with(at).expect_err(&format!("byte {at} is not in the partition"));
            assert_eq!(error.kind, ErrorKind::Differs, "{at}: {error}");
        }
        // One that somebody made longer or shorter is another table.
        if behind > 0 {
            let other = sgdisk(&good, &["-a1", "-d2", "-n2:5000:12287"]);
            assert_eq!(compare(&image, other).unwrap_err().kind, ErrorKind::Differs);
        }
    }
}

/// Invariant U: whichever operation fails, the disk is unbootable, or completely right.
#[test]
fn whatever_fails_while_it_grows_no_half_disk_boots() {
    let (bytes, size) = (image_bytes(), OLD + MIB + 600 * 1024);
    let image = image_of(&bytes);
    let right = MemDisk::new("sdb", vec![0xaa; size], 512);
    grow(&image, &right).unwrap();
    for fault in [DiskFault::Errno(libc::EIO), DiskFault::Drop, DiskFault::FlipBit(999)] {
        for nth in 0..right.log().len() as u64 {
            let disk = MemDisk::new("sdb", vec![0xaa; size], 512);
            disk.fail_nth(nth, fault, false);
            let result = grow(&image, &disk);
            let now = disk.content();
            let unbootable = crate::io::is_zero(&now[..MIB]) && !now[size - 512..].starts_with(b"EFI PART");
            match result {
                Ok(_) => assert!(now == right.content(), "{fault:?} at {nth}"),
                Err(error) => {
                    let untouched = now[MIB..5 * MIB].iter().all(|b| *b == 0xaa);
                    let what = format!("{fault:?} at {nth}: {error}");
                    assert!(error.disk_was_touched() && (unbootable || untouched), "{what}");
                }
            }
        }
    }
}
