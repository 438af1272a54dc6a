//! Disks of another size than the imaged one. sgdisk makes the tables, and says where they should be.

use super::*;
use crate::image::restore::foreign;
use std::io::Write;
use std::process::Command;

const BLOCK: usize = 512;

/// Has sgdisk work on the bytes of a disk.
pub(super) fn sgdisk(disk: &[u8], args: &[&str]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), disk).unwrap();
    let out =
        Command::new("sgdisk").args(args).arg(file.path()).output().expect("sgdisk: scripts/packages test");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        out.status.success() && !text.replace("No problems", "").contains("problem"),
        "sgdisk {args:?}: {text}"
    );
    std::fs::read(file.path()).unwrap()
}

/// 4 MiB with two partitions that end below 3 MiB, full of what tells its blocks apart; zeros behind them.
fn partitioned() -> Vec<u8> {
    let mut disk = vec![0; 4 * MIB];
    disk[100 * BLOCK..5000 * BLOCK].copy_from_slice(&noise(1, 4900 * BLOCK));
    sgdisk(&disk, &["-a1", "-n1:100:2999", "-n2:3000:4999", "-U", "5f2a0000-1111-2222-3333-444455556666"])
}

/// What must be on a larger disk: the backup where `sgdisk -e` puts it, and nothing where it was.
fn on_larger(disk: &[u8], size: usize) -> Vec<u8> {
    let mut larger = disk.to_vec();
    larger.resize(size, 0);
    let mut larger = sgdisk(&larger, &["-e"]);
    let old = disk.len() - 33 * BLOCK..disk.len().min(size - 33 * BLOCK);
    if old.start < old.end {
        larger[old].fill(0);
    }
    larger
}

fn imaged(bytes: &[u8]) -> Vec<u8> {
    back_up(&MemDisk::new("sda", bytes.to_vec(), 512), &BackupOptions { chunk_size: 256 << 10, ..small() })
        .unwrap()
        .0
}

fn restored(file: &[u8], disk: &MemDisk) -> Result<Restored, ImageError> {
    restore(&open(file).unwrap(), disk, &RestoreOptions::default(), &Progress::new())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_gpt_is_at_the_end_of_a_larger_disk_and_compares_equal() {
    let bytes = partitioned();
    let (file, foreign_file) = (imaged(&bytes), gzip(&bytes));
    let measured = foreign::measure(&foreign_file, 1 << 30, &Progress::new()).unwrap();
    for larger in [512, 32 * BLOCK, 33 * BLOCK, MIB - 512, MIB, MIB + 512, 3 * MIB] {
        let size = bytes.len() + larger;
        for own in [true, false] {
            let disk = MemDisk::new("sdb", vec![0; size], 512);
            let table = match own {
                true => restored(&file, &disk).unwrap().table,
                false => foreign::restore(&foreign_file, &measured, &disk, &Progress::new()).unwrap().table,
            };
            let what = format!("{larger} more, own {own}");
            assert_eq!(table, TableFit::Moved((size - 5000 * BLOCK - 33 * BLOCK) as u64), "{what}");
            assert!(disk.durable() == on_larger(&bytes, size), "{what}");
            let compare = |disk: &MemDisk| match own {
                true => verify_against(&open(&file).unwrap(), disk, 2, &Progress::new()).map(drop),
                false => foreign::compare(&measured, disk, &Progress::new()),
            };
            compare(&disk).unwrap();
            // Another name of a partition is another table, and another byte another content.
            let renamed = sgdisk(&disk.content(), &["-c1:x"]);
            for bad in
                [renamed, [&disk.content()[..100 * BLOCK], b"x", &disk.content()[100 * BLOCK + 1..]].concat()]
            {
                let error = compare(&MemDisk::new("sdb", bad, 512)).unwrap_err();
                assert_eq!(error.kind, ErrorKind::Differs, "{what}: {error}");
            }
            // A plain copy is the same, too.
            let copy = [&bytes[..], &vec![0; larger]].concat();
            compare(&MemDisk::new("sdb", copy, 512)).unwrap();
        }
        // Its own image goes back onto a disk of the old size as it was.
        let disk = MemDisk::new("sdb", vec![0; size], 512);
        restored(&file, &disk).unwrap();
        let small = MemDisk::new("sda", vec![0xaa; bytes.len()], 512);
        restored(&imaged(&disk.content()), &small).unwrap();
        assert!(small.durable() == bytes, "{larger} more, and back");
    }
}

#[test]
fn a_table_that_is_not_right_is_restored_byte_by_byte() {
    type Spoil = fn(&mut [u8]);
    let rows: [Spoil; 4] = [
        |d| d[512 + 16] ^= 1,
        |d| d[4 * MIB - 512 + 16] ^= 1,
        |d| d[1024..1040].fill(9),
        |d| d[446..512].fill(0),
    ];
    for (n, spoil) in rows.into_iter().enumerate() {
        let mut bytes = partitioned();
        spoil(&mut bytes);
        let disk = MemDisk::new("sdb", vec![0; 6 * MIB], 512);
        let file = imaged(&bytes);
        assert!(matches!(restored(&file, &disk).unwrap().table, TableFit::Left(_)), "row {n}");
        assert!(disk.durable()[..bytes.len()] == bytes && crate::io::is_zero(&disk.durable()[bytes.len()..]));
        verify_against(&open(&file).unwrap(), &disk, 2, &Progress::new()).unwrap();
        // Onto a smaller one it does not go: nothing says where it ends.
        let small = MemDisk::new("sdb", vec![7; 3 * MIB], 512);
        let error = restored(&file, &small).unwrap_err();
        assert!(error.kind == ErrorKind::Refused && small.count(DiskOp::Write) == 0, "row {n}: {error}");
    }
}

#[test]
fn a_smaller_disk_is_taken_where_all_that_is_used_fits() {
    let bytes = partitioned();
    let (file, least) = (imaged(&bytes), (5000 + 33) * BLOCK);
    assert_eq!(needed(&open(&file).unwrap()).unwrap().bytes, least as u64);
    for size in [least, least + 512, 3 * MIB, 4 * MIB - 33 * BLOCK, 4 * MIB - 512] {
        for free in [FreeSpace::Leave, FreeSpace::Zero] {
            let disk = MemDisk::new("sdb", vec![0xaa; size], 512);
            let options = RestoreOptions { free, ..RestoreOptions::default() };
            let restored = restore(&open(&file).unwrap(), &disk, &options, &Progress::new()).unwrap();
            assert_eq!(restored.disk_bytes, size as u64);
            assert_eq!(
                restored.written_bytes + restored.kept_bytes + restored.left_bytes,
                size as u64,
                "{size}"
            );
            assert_eq!(restored.table, TableFit::Moved((size - least) as u64));
            let found = disk.durable();
            // Moved back by sgdisk it is the table of the imaged disk.
            assert!(on_larger(&found, bytes.len()) == bytes, "{size}");
            sgdisk(&found, &["-v"]);
            verify_against(&open(&file).unwrap(), &disk, 2, &Progress::new()).unwrap();
            let mut bad = found;
            bad[size - 600] ^= 1;
            verify_against(&open(&file).unwrap(), &MemDisk::new("sdb", bad, 512), 2, &Progress::new())
                .unwrap_err();
        }
    }
}

#[test]
fn a_disk_that_is_too_small_is_refused_with_what_is_missing() {
    let table = |disk: Vec<u8>, args: &[&str]| sgdisk(&disk, args);
    let mut mbr = vec![0; 4 * MIB];
    mbr[446..462].copy_from_slice(&[0, 0, 0, 0, 0x83, 0, 0, 0, 100, 0, 0, 0, 0, 8, 0, 0]);
    mbr[510..512].copy_from_slice(&[0x55, 0xaa]);
    let with = |mut disk: Vec<u8>, at: usize| {
        disk[at] = 1;
        disk
    };
    // What the image is of, and the smallest disk for it.
    let rows = [
        ("partitions and GPT", partitioned(), 5033 * BLOCK),
        ("a byte behind the partitions", with(partitioned(), 6000 * BLOCK), 6034 * BLOCK),
        ("a byte before the backup", with(partitioned(), 4 * MIB - 33 * BLOCK - 1), 4 * MIB),
        ("an empty partition", table(vec![0; 4 * MIB], &["-a1", "-n1:100:6999"]), 7033 * BLOCK),
        ("no partition", table(vec![0; 4 * MIB], &["-o"]), (35 + 33) * BLOCK),
        ("an MBR", mbr.clone(), (100 + 2048) * BLOCK),
        ("an MBR, and something behind it", with(mbr.clone(), 3 * MIB), 3 * MIB + 512),
        ("no table", with(vec![0; 4 * MIB], 100), 4 * MIB),
        ("nothing", vec![0; 4 * MIB], 4 * MIB),
    ];
    for (what, bytes, least) in rows {
        let file = imaged(&bytes);
        assert_eq!(needed(&open(&file).unwrap()).unwrap().bytes, least as u64, "{what}");
        let short = MemDisk::new("sdb", vec![7; least - 512], 512);
        let error = restored(&file, &short).unwrap_err();
        assert!(error.kind == ErrorKind::Refused && short.count(DiskOp::Write) == 0, "{what}: {error}");
        let text = error.to_string();
        assert!(text.contains("512 are missing") && text.contains("shrink"), "{what}: {text}");
        let disk = MemDisk::new("sdb", vec![7; least], 512);
        restored(&file, &disk).unwrap_or_else(|e| panic!("{what}: {e}"));
        verify_against(&open(&file).unwrap(), &disk, 2, &Progress::new()).unwrap();
    }
}

/// What a file system calls unallocated behind the partitions is a file system that ends there.
#[test]
fn unallocated_space_behind_the_partitions_needs_its_disk() {
    let free = (3 * MIB) as u64..(3 * MIB + MIB / 2) as u64;
    let used = crate::used::Map { free: vec![free], ..Default::default() };
    let options = BackupOptions { used: Arc::new(used), ..small() };
    let (file, _) = back_up(&MemDisk::new("sda", partitioned(), 512), &options).unwrap();
    let found = needed(&open(&file).unwrap()).unwrap();
    assert_eq!(found.bytes, (3 * MIB + MIB / 2 + 33 * BLOCK) as u64);
}

/// Invariant U on disks of another size: whichever operation fails, the disk is unbootable, or completely right.
#[test]
fn whatever_operation_fails_no_half_disk_boots() {
    let bytes = partitioned();
    let image = open(&imaged(&bytes)).unwrap();
    let opts = RestoreOptions { threads: 1, ..Default::default() };
    for size in [bytes.len() + 512, bytes.len() + 2 * MIB, 3 * MIB] {
        let right = {
            let disk = MemDisk::new("sdb", vec![0xaa; size], 512);
            restore(&image, &disk, &opts, &Progress::new()).unwrap();
            disk
        };
        for fault in [DiskFault::Errno(libc::EIO), DiskFault::Drop, DiskFault::FlipBit(999)] {
            for nth in 0..right.log().len() as u64 {
                let disk = MemDisk::new("sdb", vec![0xaa; size], 512);
                disk.fail_nth(nth, fault, false);
                let result = restore(&image, &disk, &opts, &Progress::new());
                let now = disk.content();
                let unbootable = crate::io::is_zero(&now[..MIB]);
                let untouched =
                    now[MIB..(size.min(bytes.len()) - MIB) / 4096 * 4096].iter().all(|b| *b == 0xaa);
                match result {
                    Ok(_) => assert!(now == right.content(), "{size}: {fault:?} at {nth}"),
                    Err(error) => {
                        let what = format!("{size}: {fault:?} at {nth}: {error}");
                        assert!(error.disk_was_touched() && (unbootable || untouched), "{what}");
                        assert!(unbootable || !now[size - 512..].starts_with(b"EFI PART"), "{what}");
                    }
                }
            }
        }
    }
}
