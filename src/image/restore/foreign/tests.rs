use super::gunzip::{FLG, INPUT};
use super::*;
use crate::block::mem::{DiskFault, DiskOp, MemDisk};
use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use std::io::Write;

fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn disk_bytes(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes[..len / 3]);
    for (i, byte) in bytes[len / 3..len / 2].iter_mut().enumerate() {
        *byte = (i / 7) as u8;
    }
    bytes
}

/// Several members of several levels, as pigz -i, bgzip or cat make them.
fn members(bytes: &[u8], sizes: usize) -> Vec<u8> {
    bytes.chunks(sizes).enumerate().flat_map(|(i, part)| gzip(part, i as u32 % 10)).collect()
}

#[test]
fn gzips_of_one_and_many_members_restore_exactly() {
    let bytes = disk_bytes((5 << 20) + 512);
    let progress = Progress::new();
    for mut file in [gzip(&bytes, 6), gzip(&bytes, 0), members(&bytes, 100_000), members(&bytes, 1 << 20)] {
        for padding in [0, 10_240] {
            file.resize(file.len() + padding, 0);
            let content = measure(&file, bytes.len() as u64, &progress).unwrap();
            assert_eq!((content.size, content.hash), (bytes.len() as u64, blake3::hash(&bytes)));
            let disk = MemDisk::new("sda", vec![0xaa; bytes.len() + 4096], 512);
            let restored = restore(&file, &content, &disk, &progress).unwrap();
            assert!(restored.disk_bytes == content.size && disk.durable()[..bytes.len()] == bytes);
        }
    }
}

#[test]
fn damaged_cut_and_large_files_are_refused_before_any_write() {
    let bytes = disk_bytes(300_000);
    let file = members(&bytes, 50_000);
    let progress = Progress::new();
    let size = bytes.len() as u64;
    assert!(measure(&file, size, &progress).is_ok());
    let error = measure(&file, size - 1, &progress).unwrap_err().to_string();
    assert!(error.contains("more than the 299999 bytes"), "{error}");
    let last = file.len() - gzip(&bytes[250_000..], 5).len();
    for cut in (0..40).map(|i| file.len() * i / 40).filter(|c| *c != 0) {
        // A cut between members leaves a shorter gzip, which only a size can tell.
        let whole = measure(&file[..cut].to_vec(), size, &progress);
        assert!(whole.is_err() || cut == last, "cut at {cut}");
    }
    for at in (0..file.len()).step_by(997) {
        let mut bad = file.clone();
        bad[at] ^= 0x10;
        let found = measure(&bad, size, &progress);
        assert!(found.is_err() || found.unwrap().hash == blake3::hash(&bytes), "byte {at}");
    }
    let mut garbage = file.clone();
    garbage.extend_from_slice(b"\0\0\0more");
    assert!(measure(&garbage, size, &progress).is_err());
    for other in [&b""[..], b"\x1f", b"hello", &[0; 512]] {
        assert!(measure(&other.to_vec(), size, &progress).is_err());
    }
}

#[test]
fn reserved_flags_of_any_member_are_refused() {
    let bytes = disk_bytes(300_000);
    let (size, progress) = (bytes.len() as u64, Progress::new());
    let parts: Vec<Vec<u8>> = bytes.chunks(100_000).map(|part| gzip(part, 6)).collect();
    // A header can lie across two reads of the file, too.
    let padding = vec![gzip(&[], 0); INPUT / gzip(&[], 0).len()].concat();
    for (nth, bit) in (0..parts.len()).flat_map(|nth| [0x20, 0x40, 0x80].map(|bit| (nth, bit))) {
        let mut bad = parts.clone();
        bad[nth][FLG] |= bit;
        for front in [&[][..], &padding] {
            let file = [front, &bad.concat()].concat();
            let error = measure(&file, size, &progress).unwrap_err().to_string();
            assert!(error.contains("reserved flags"), "member {nth}, {bit:#x}: {error}");
            assert!(measure(&[front, &parts.concat()].concat(), size, &progress).is_ok());
        }
    }
}

#[test]
fn a_file_changed_after_measuring_leaves_the_disk_unbootable() {
    let bytes = disk_bytes(4 << 20);
    let progress = Progress::new();
    let content = measure(&gzip(&bytes, 1), 1 << 30, &progress).unwrap();
    let mut other = bytes.clone();
    other[2 << 20] ^= 1;
    for file in [gzip(&other, 1), gzip(&bytes[..3 << 20], 1), gzip(&[&bytes[..], &[0; 512]].concat(), 1)] {
        let disk = MemDisk::new("sda", vec![0xaa; 5 << 20], 512);
        let error = restore(&file, &content, &disk, &progress).unwrap_err();
        assert!(error.disk_was_touched(), "{error}");
        assert!(is_zero(&disk.content()[..1 << 20]));
    }
}

#[test]
fn whatever_operation_fails_the_disk_is_unbootable_or_whole() {
    let bytes = disk_bytes(3 << 20);
    let progress = Progress::new();
    let file = gzip(&bytes, 1);
    let content = measure(&file, 1 << 30, &progress).unwrap();
    let count = {
        let disk = MemDisk::new("sda", vec![0xaa; bytes.len()], 512);
        restore(&file, &content, &disk, &progress).unwrap();
        disk.log().len() as u64
    };
    for fault in [DiskFault::Errno(libc::EIO), DiskFault::Drop, DiskFault::FlipBit(12_345)] {
        for nth in 0..count {
            let disk = MemDisk::new("sda", vec![0xaa; bytes.len()], 512);
            disk.fail_nth(nth, fault, false);
            let result = restore(&file, &content, &disk, &progress);
            let now = disk.content();
            match result {
                Ok(_) => assert!(now == bytes, "{fault:?} at {nth}"),
                Err(error) => {
                    let unbootable = is_zero(&now[..1 << 20]);
                    let body_untouched = now[1 << 20..2 << 20].iter().all(|b| *b == 0xaa);
                    assert!(unbootable || body_untouched, "{fault:?} at {nth}: {error}");
                }
            }
        }
    }
    let disk = MemDisk::new("sda", vec![0xaa; bytes.len()], 512);
    disk.inject(DiskOp::Write, 0..u64::MAX, DiskFault::Errno(libc::EIO), u64::MAX);
    let error = restore(&file, &content, &disk, &progress).unwrap_err().to_string();
    assert!(error.contains("sda") && error.contains("LBA 0"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_are_an_error_and_no_crash(mut bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = measure(&bytes, 1 << 20, &Progress::new());
        bytes.splice(0..0, [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        let _ = measure(&bytes, 1 << 20, &Progress::new());
    }
}
