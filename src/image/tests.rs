//! The engine as a whole: round trips, damage, faults.

use super::*;
use crate::block::mem::{Fault, MemDisk, Op};
use crate::inventory::Identity;
use crate::progress::Progress;
use proptest::prelude::*;
use std::sync::Arc;

const MIB: usize = 1 << 20;

/// Bytes that do not compress.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

/// A disk of pieces: (what, length in KiB).
fn content(pieces: &[(u8, usize)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (i, (what, kib)) in pieces.iter().enumerate() {
        let len = kib * 1024;
        match what {
            0 => out.extend(std::iter::repeat_n(0, len)),
            1 => out.extend(noise(i as u64, len)),
            _ => out.extend(b"the quick brown fox jumps over it ".iter().cycle().take(len)),
        }
    }
    out
}

fn small() -> BackupOptions {
    BackupOptions { threads: 2, chunk_size: 64 << 10, image_id: Some([7; 16]), ..BackupOptions::default() }
}

fn back_up(disk: &MemDisk, opts: &BackupOptions) -> Result<(Vec<u8>, Written), ImageError> {
    let mut file = Vec::new();
    let about = DiskAbout::new("sda", Identity::default(), disk);
    let written = backup(disk, &mut file, &about, opts, &Progress::new())?;
    Ok((file, written))
}

fn open(file: &[u8]) -> Result<Image, ImageError> {
    Image::open(Arc::new(file.to_vec()))
}

fn check(file: &[u8]) -> Result<Summary, ImageError> {
    verify(&open(file)?, 2, &Progress::new())
}

fn gunzip(file: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    std::io::Read::read_to_end(&mut flate2::bufread::MultiGzDecoder::new(file), &mut out).unwrap();
    out
}

/// Backs up, verifies, reads as gzip, compares, restores onto dirty disks, reads ranges.
fn round_trip(bytes: Vec<u8>, block: u32, opts: &BackupOptions) {
    let disk = MemDisk::new("sda", bytes.clone(), block);
    let progress = Progress::new();
    let (file, written) = back_up(&disk, opts).unwrap();
    assert_eq!(file.len() as u64, written.image_bytes);
    assert_eq!(disk.count(Op::Write), 0);
    let summary = check(&file).unwrap();
    assert_eq!((summary.root_hash, summary.image), (written.root_hash, written.image_bytes));
    assert_eq!((summary.disk, summary.zero), (bytes.len() as u64, written.zero_bytes));
    assert!(gunzip(&file) == bytes);
    let image = open(&file).unwrap();
    verify_against(&image, &disk, 2, &progress).unwrap();
    for extra in [0, 3 * MIB] {
        let target = MemDisk::new("sdb", noise(9, bytes.len() + extra), block);
        let restored = restore(&image, &target, &RestoreOptions { threads: 2 }, &progress).unwrap();
        assert_eq!(restored.disk_bytes, bytes.len() as u64);
        assert!(target.durable()[..bytes.len()] == bytes);
        verify_against(&image, &target, 2, &progress).unwrap();
    }
    let len = bytes.len();
    for range in [0..len, 0..1, len - 1..len, len / 3..len / 2, len / 2..len / 2] {
        let mut out = Vec::new();
        image.cat(range.start as u64..range.end as u64, &mut out).unwrap();
        assert!(out == bytes[range]);
    }
    assert!(image.cat(0..len as u64 + 1, &mut Vec::new()).is_err());
}

#[test]
fn disks_of_all_kinds_round_trip() {
    let all = content(&[(2, 300), (0, 700), (1, 200), (2, 64), (0, 64), (1, 1000), (2, 1500), (0, 300)]);
    for (len, block) in
        [(all.len(), 512), (all.len(), 4096), (all.len() - 512, 512), (512, 512), (4096, 4096)]
    {
        round_trip(all[..len].to_vec(), block, &small());
    }
    for codec in [Codec::Isal, Codec::Zlib] {
        round_trip(all.clone(), 512, &BackupOptions { codec, ..BackupOptions::default() });
    }
    round_trip(vec![0; 3 * MIB], 512, &small());
    round_trip(content(&[(1, 2048)]), 512, &small());
}

/// Enough runs for an index of three levels.
#[test]
fn an_index_of_three_levels_round_trips() {
    let mut bytes = content(&[(2, 93_000)]);
    for (i, chunk) in bytes.chunks_mut(4096).enumerate() {
        chunk[..8].copy_from_slice(&(i as u64).to_le_bytes());
    }
    round_trip(bytes, 512, &BackupOptions { chunk_size: 4096, codec: Codec::Zlib, ..small() });
}
