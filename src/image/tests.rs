//! The engine as a whole: round trips, damage, faults.

use super::format::{footer, index, member};
use super::*;
use crate::block::mem::{DiskFault, DiskOp, MemDisk};
use crate::inventory::Identity;
use crate::progress::Progress;
use crate::types::{Delta, FreeSpace};
use proptest::prelude::*;
use std::ops::Range;
use std::sync::Arc;

mod again;
mod cut;
mod delta;
mod diff;
mod file;
mod fixtures;
mod gaps;
mod grown;
mod holes;
mod image_disk;
mod lacking;
mod order;
mod placed;
mod replaced;
mod resized;
mod resumed;
mod used;
mod verified;

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

/// Text in which no block ends a run before the longest one does.
fn uncut(len: usize) -> Vec<u8> {
    let texts = (0..).map(|nth| format!("a text that {nth:03}\n").into_bytes().repeat(len / 16));
    texts.into_iter().find(|text| twox_hash::XxHash64::oneshot(0, &text[..4096]) & 3 != 0).unwrap()
}

/// Bytes that do not compress, in which no block ends a run before the longest one does.
fn uncut_noise(seed: u64, len: usize) -> Vec<u8> {
    let block = |nth: usize| {
        let tries = (0..).map(|again| noise(seed << 32 | (nth as u64) << 8 | again, 4096));
        tries.into_iter().find(|block| twox_hash::XxHash64::oneshot(0, block) & 3 != 0).unwrap()
    };
    (0..len / 4096).flat_map(block).collect()
}

fn small() -> BackupOptions {
    BackupOptions {
        threads: 2,
        chunk_size: 64 << 10,
        split: 1,
        image_id: Some([7; 16]),
        ..BackupOptions::default()
    }
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
    assert_eq!(disk.count(DiskOp::Write), 0);
    let summary = check(&file).unwrap();
    assert_eq!((summary.root_hash, summary.image), (written.root_hash, written.image_bytes));
    assert_eq!((summary.disk, summary.zero), (bytes.len() as u64, written.zero_bytes));
    assert!(gunzip(&file) == bytes);
    let image = open(&file).unwrap();
    assert_eq!(scrub(&image, 2, &progress).unwrap(), summary);
    verify_against(&image, &disk, 2, &progress).unwrap();
    for extra in [0, 3 * MIB] {
        let target = MemDisk::new("sdb", noise(9, bytes.len() + extra), block);
        let restored =
            restore(&image, &target, &RestoreOptions { threads: 2, ..Default::default() }, &progress)
                .unwrap();
        assert_eq!(restored.disk_bytes, bytes.len() as u64);
        // Written and read back: what `status` shows a share of.
        assert_eq!(progress.total.load(std::sync::atomic::Ordering::Relaxed), 2 * bytes.len() as u64);
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_disk_round_trips(
        pieces in proptest::collection::vec((0u8..3, 1usize..400), 1..8),
        odd in 0usize..8,
        chunk in prop::sample::select(vec![4096u32, 16 << 10, 256 << 10]),
        threads in 1usize..4,
    ) {
        let mut bytes = content(&pieces);
        bytes.truncate(bytes.len() - odd.min(1) * 512);
        round_trip(bytes, 512, &BackupOptions { chunk_size: chunk, threads, ..small() });
    }

    #[test]
    fn opening_any_bytes_is_an_error_and_no_crash(bytes in proptest::collection::vec(any::<u8>(), 0..20_000)) {
        prop_assert!(open(&bytes).is_err());
    }
}

/// The image of a disk with every kind of run but unallocated, and where its members begin.
fn sample() -> (Vec<u8>, Vec<u8>, Vec<usize>) {
    let bytes = content(&[(2, 200), (0, 300), (1, 100), (2, 100), (0, 64), (2, 300)]);
    let disk = MemDisk::new("sda", bytes.clone(), 512);
    disk.inject(DiskOp::Read, 5120..6000, DiskFault::Errno(libc::EIO), u64::MAX);
    let (file, written) = back_up(&disk, &BackupOptions { allow_bad_sectors: true, ..small() }).unwrap();
    assert_eq!(
        (written.unreadable_bytes, written.unreadable),
        (1024, vec![Range { start: 5120, end: 6144 }])
    );
    let mut starts = vec![0];
    while let Some(at) = starts.last().copied().filter(|at| *at < file.len()) {
        starts.push(at + member::parse(&file[at..]).unwrap().len);
    }
    assert_eq!(starts.pop(), Some(file.len()));
    (bytes, file, starts)
}

/// FORMAT.md: the file can be walked member by member, in the documented order.
#[test]
fn members_stand_in_the_documented_order() {
    let (_, file, starts) = sample();
    let kinds: Vec<MemberKind> = starts.iter().map(|at| member::parse(&file[*at..]).unwrap().kind).collect();
    assert_eq!(kinds.first(), Some(&MemberKind::Header));
    assert_eq!(kinds[kinds.len() - 2..], [MemberKind::Index, MemberKind::Footer]);
    assert!(kinds[1..kinds.len() - 2].iter().all(|k| k.is_run()));
    assert!(kinds.contains(&MemberKind::Unreadable) && kinds.contains(&MemberKind::Zero));
    assert!(starts.iter().all(|at| at % 4096 == 0));
}

#[test]
fn every_cut_and_addition_is_refused_at_opening() {
    let (_, file, starts) = sample();
    assert!(check(&file).is_ok());
    let random = (0..200).map(|i| (i * 7919 + 13) % file.len());
    for cut in starts.iter().copied().chain(random).chain([file.len() - 1]) {
        assert!(open(&file[..cut]).is_err(), "cut at {cut}");
    }
    for added in [&[0u8; 1][..], &[0; 4096], &file[file.len() - 4096..], &file] {
        assert!(open(&[&file, added].concat()).is_err());
    }
}

/// gzip -t is happy with all of these; verify must not be.
#[test]
fn swapped_repeated_missing_and_foreign_members_are_refused() {
    let (_, file, starts) = sample();
    let (_, other, other_starts) = {
        let disk = MemDisk::new("sdb", content(&[(2, 201), (1, 500)]), 512);
        let file = back_up(&disk, &small()).unwrap().0;
        (0, file, vec![4096usize])
    };
    let member = |i: usize| &file[starts[i]..starts.get(i + 1).copied().unwrap_or(file.len())];
    let join = |order: &[usize]| order.iter().flat_map(|i| member(*i).to_vec()).collect::<Vec<u8>>();
    let all: Vec<usize> = (0..starts.len()).collect();
    assert!(check(&join(&all)).is_ok());
    for i in 0..all.len() {
        let mut missing = all.clone();
        missing.remove(i);
        assert!(check(&join(&missing)).is_err(), "without member {i}");
        let mut twice = all.clone();
        twice.insert(i, i);
        assert!(check(&join(&twice)).is_err(), "member {i} twice");
        for j in 0..i {
            let mut swapped = all.clone();
            swapped.swap(i, j);
            if member(i) != member(j) {
                assert!(check(&join(&swapped)).is_err(), "members {i} and {j} swapped");
            }
        }
    }
    let mut foreign = file.clone();
    let len = member::parse(&other[other_starts[0]..]).unwrap().len.min(starts[2] - starts[1]);
    foreign[starts[1]..starts[1] + len].copy_from_slice(&other[other_starts[0]..other_starts[0] + len]);
    assert!(check(&foreign).is_err());
}

#[test]
fn every_flipped_bit_is_found_by_verify_and_none_is_restored() {
    let (bytes, file, starts) = sample();
    let len = file.len();
    let frames = starts.iter().flat_map(|at| (0..170).step_by(3).map(move |i| at + i));
    let random = (0..300).map(|i| (i * 104_729 + 11) % len);
    let ends = starts.iter().skip(1).flat_map(|at| (1..12).map(move |i| at - i));
    let mut wanted = bytes;
    wanted[5120..6144].fill(0);
    for (i, at) in frames.chain(random).chain(ends).enumerate() {
        let mut bad = file.clone();
        bad[at] ^= 1 << (i % 8);
        assert!(check(&bad).is_err(), "byte {at}");
        if i % 4 == 0 {
            let scrubbed = open(&bad).and_then(|image| scrub(&image, 1, &Progress::new()));
            assert!(scrubbed.is_err(), "byte {at} by scrubbing");
        }
        if i % 197 == 0 {
            let target = MemDisk::new("sdb", vec![0xaa; wanted.len()], 512);
            let progress = Progress::new();
            let done = open(&bad).and_then(|i| restore(&i, &target, &RestoreOptions::default(), &progress));
            // Padding and CRC are not needed to restore; whatever is accepted is right.
            assert!(done.is_err() || target.content() == wanted);
        }
    }
}

/// Whoever may write the file may write right hashes over wrong structures: nothing of that may crash.
#[test]
fn index_members_of_right_hash_and_wrong_numbers_are_refused() {
    let (_, file, starts) = sample();
    let node = starts[starts.len() - 2];
    for at in (0..400).step_by(2).chain((401..4000).step_by(97)) {
        for value in [0u8, 1, 0x7f, 0xff] {
            let mut bad = file.clone();
            if bad[node + at] == value {
                continue;
            }
            bad[node + at] = value;
            let mut footer = footer::Footer::decode(&bad[bad.len() - 4096..]).unwrap();
            footer.node_hash = blake3::hash(&bad[node..bad.len() - 4096]);
            let end = bad.len() - 4096;
            bad[end..].copy_from_slice(&footer.encode());
            // A changed hash field or padding is still a well-formed index; then verify finds the run at fault, but
            // bytes behind the last entry belong to nobody.
            if let Ok(image) = open(&bad) {
                let entries = footer.runs as usize * 80;
                let padding = at >= 64 + entries;
                let result = verify(&image, 1, &Progress::new());
                assert!(result.is_err() || padding, "byte {at} = {value}");
                let _ = image.cat(0..image.summary().disk, &mut std::io::sink());
            }
        }
    }
}

#[test]
fn images_are_the_same_whatever_the_number_of_threads() {
    let bytes = content(&[(2, 3000), (0, 1000), (1, 2000), (2, 777), (0, 100), (2, 50)]);
    let disk = MemDisk::new("sda", bytes, 512);
    for codec in [Codec::Isal, Codec::Zlib] {
        let make = |threads| back_up(&disk, &BackupOptions { threads, codec, ..small() }).unwrap();
        let (first, written) = make(1);
        for threads in [2, 3, 8, 64] {
            let (file, again) = make(threads);
            assert!(file == first && again == written, "{threads} threads");
        }
    }
}

/// Equal data makes equal members, wherever it stands: file systems can share them.
#[test]
fn members_do_not_depend_on_place_or_image() {
    let part = noise(1, 512 << 10);
    let (before, between) = (noise(2, 300 << 10), noise(3, 204 << 10));
    let disk = MemDisk::new("sda", [&before[..], &part, &between, &part].concat(), 512);
    let (file, _) = back_up(&disk, &BackupOptions { image_id: None, ..small() }).unwrap();
    let image = open(&file).unwrap();
    let runs: Vec<Run> = image.runs().map(Result::unwrap).collect();
    let bytes = |r: &Run| file[r.position as usize..r.position as usize + r.member_length as usize].to_vec();
    let (first, second): (Vec<Run>, Vec<Run>) = runs.iter().partition(|run| run.offset < (812 + 100) << 10);
    let known: std::collections::BTreeSet<Vec<u8>> = first.iter().map(bytes).collect();
    let shared: u64 = second.iter().filter(|run| known.contains(&bytes(run))).map(|run| run.length).sum();
    assert!(shared >= (512 - 2 * 64) << 10, "only {shared} bytes of the second copy have equal members");
    let (again, _) = back_up(&disk, &BackupOptions { image_id: None, ..small() }).unwrap();
    assert_ne!(open(&again).unwrap().header().image_id, image.header().image_id);
}

#[test]
fn a_bad_sector_ends_the_backup_by_lba_unless_it_is_allowed() {
    let bytes = content(&[(2, 500)]);
    let disk = MemDisk::new("sda", bytes.clone(), 512);
    disk.inject(DiskOp::Read, 700 * 512..702 * 512, DiskFault::Errno(libc::ENODATA), u64::MAX);
    let error = back_up(&disk, &small()).unwrap_err().to_string();
    assert!(error.contains("sda") && error.contains("(LBA 700)"), "{error}");

    let (file, written) = back_up(&disk, &BackupOptions { allow_bad_sectors: true, ..small() }).unwrap();
    let gap = 700 * 512..702 * 512;
    assert_eq!((written.unreadable, written.unreadable_bytes), (vec![gap.clone()], 1024));
    let summary = check(&file).unwrap();
    assert!(summary.degraded && summary.unreadable == 1024);
    let image = open(&file).unwrap();
    let bad: Vec<_> = image.unreadable_runs().map(|r| r.unwrap().range()).collect();
    assert_eq!(bad, std::slice::from_ref(&gap));
    let mut wanted = bytes;
    wanted[gap.start as usize..gap.end as usize].fill(0);
    assert!(gunzip(&file) == wanted);
    let target = MemDisk::new("sdb", vec![0xaa; wanted.len()], 512);
    restore(&image, &target, &RestoreOptions::default(), &Progress::new()).unwrap();
    assert!(target.content() == wanted);
}

#[test]
fn failing_sinks_and_cancelling_end_a_backup_in_an_error() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
            match self.0.checked_sub(buf.len()) {
                Some(left) => self.0 = left,
                None => return Err(std::io::Error::from_raw_os_error(libc::ENOSPC)),
            }
            Ok(buf.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    impl crate::io::SyncWrite for Full {
        fn sync(&mut self) -> std::io::Result<()> {
            Err(std::io::Error::from_raw_os_error(libc::EDQUOT))
        }
    }
    let disk = MemDisk::new("sda", content(&[(1, 4000)]), 512);
    let about = DiskAbout::new("sda", Identity::default(), &disk);
    for (room, op) in [(0, "write"), (100_000, "write"), (3 * MIB, "write"), (usize::MAX, "sync")] {
        let error = backup(&disk, &mut Full(room), &about, &small(), &Progress::new()).unwrap_err();
        assert!(error.to_string().contains(&format!("cannot {op} the image")), "{error}");
    }
    let progress = Progress::new();
    progress.cancel();
    let error = backup(&disk, &mut Vec::new(), &about, &small(), &progress).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Cancelled);
    let (file, _) = back_up(&disk, &small()).unwrap();
    let target = MemDisk::new("sdb", vec![0xaa; 4000 << 10], 512);
    let error = restore(&open(&file).unwrap(), &target, &RestoreOptions::default(), &progress).unwrap_err();
    assert!(!error.disk_was_touched() && target.count(DiskOp::Write) == 0, "{error}");
    let verified = verify(&open(&file).unwrap(), 0, &progress);
    assert!(matches!(verified, Err(e) if e.kind == ErrorKind::Cancelled));
}

#[test]
fn disks_that_do_not_fit_are_refused_before_the_first_write() {
    let bytes = content(&[(2, 400)]);
    let (file, _) = back_up(&MemDisk::new("sda", bytes.clone(), 512), &small()).unwrap();
    let image = open(&file).unwrap();
    for (len, block, why) in [(bytes.len() - 512, 512, "bytes"), (bytes.len(), 4096, "logical blocks")] {
        let target = MemDisk::new("sdb", vec![1; len], block);
        let error = restore(&image, &target, &RestoreOptions::default(), &Progress::new()).unwrap_err();
        assert!(error.to_string().contains(why) && error.to_string().contains("sdb"), "{error}");
        assert!(!error.disk_was_touched() && target.log().is_empty());
    }
    // A damaged index too.
    let mut bad = file.clone();
    let node = file.len() - 8192;
    bad[node + 100] ^= 1;
    assert!(open(&bad).is_err());
}

/// Invariant U: whichever operation fails, the disk is unbootable, or completely right.
#[test]
fn whatever_operation_fails_no_half_disk_boots() {
    let bytes = content(&[(2, 1100), (0, 300), (1, 200), (2, 1800)]);
    let (file, _) =
        back_up(&MemDisk::new("sda", bytes.clone(), 512), &BackupOptions { chunk_size: 1 << 20, ..small() })
            .unwrap();
    let image = open(&file).unwrap();
    let opts = RestoreOptions { threads: 1, ..Default::default() };
    let run = |fault: Option<(u64, DiskFault, bool)>| {
        let disk = MemDisk::new("sdb", vec![0xaa; bytes.len() + 2 * MIB], 512);
        if let Some((nth, fault, dead)) = fault {
            disk.fail_nth(nth, fault, dead);
        }
        (restore(&image, &disk, &opts, &Progress::new()), disk)
    };
    let (clean, disk) = run(None);
    clean.unwrap();
    let count = disk.log().len() as u64;
    for fault in [DiskFault::Errno(libc::EIO), DiskFault::Drop, DiskFault::FlipBit(99_999), DiskFault::Short]
    {
        for nth in 0..count {
            // A disk that flips bits both ways reads back right: only whole failures last.
            for dead in [false, matches!(fault, DiskFault::Errno(_))] {
                let (result, disk) = run(Some((nth, fault, dead)));
                disk.heal();
                let now = disk.content();
                let whole = now[..bytes.len()] == bytes;
                let unbootable = crate::io::is_zero(&now[..MIB]);
                // Neither did anything happen below the boot sectors: the old system may still be there.
                let body = now[MIB..bytes.len() - MIB].iter().all(|b| *b == 0xaa);
                match result {
                    Ok(_) => assert!(whole, "{fault:?} at {nth}"),
                    Err(error) => {
                        assert!(error.disk_was_touched() && error.to_string().contains("sdb"));
                        let told = error.to_string().contains("do not boot it");
                        assert!(unbootable || body || told, "{fault:?} at {nth}: {error}");
                        // Only a disk that no longer takes writes may keep its boot sectors.
                        assert!(dead || !told, "{fault:?} at {nth}: {error}");
                    }
                }
            }
        }
    }
}

/// A disk that loses the zeroing of its boot sectors is found out before anything else of it is changed.
#[test]
fn a_lost_zeroing_of_the_head_ends_the_restore_before_the_body() {
    let bytes = content(&[(2, 4000)]);
    let (file, _) = back_up(&MemDisk::new("sda", bytes.clone(), 512), &small()).unwrap();
    for lost in [0, bytes.len() as u64 - 512] {
        let disk = MemDisk::new("sdb", vec![0xaa; bytes.len()], 512);
        disk.inject(DiskOp::Write, lost..lost + 512, DiskFault::Drop, 1);
        let image = open(&file).unwrap();
        let error = restore(&image, &disk, &RestoreOptions::default(), &Progress::new()).unwrap_err();
        assert!(error.to_string().contains("could not even be made unbootable"), "{error}");
        assert!(disk.content()[MIB..bytes.len() - MIB - 4096].iter().all(|b| *b == 0xaa));
    }
}

/// The head is the last thing written, after a flush and after everything else was read back.
#[test]
fn boot_sectors_are_written_first_with_zeros_and_last_with_data() {
    let bytes = content(&[(2, 4000)]);
    let (file, _) = back_up(&MemDisk::new("sda", bytes.clone(), 512), &small()).unwrap();
    let disk = MemDisk::new("sdb", vec![0xaa; bytes.len()], 512);
    restore(
        &open(&file).unwrap(),
        &disk,
        &RestoreOptions { threads: 1, ..Default::default() },
        &Progress::new(),
    )
    .unwrap();
    let log = disk.log();
    // What was compared before was only read.
    let first = log.iter().position(|l| l.0 != DiskOp::Read).unwrap();
    assert_eq!(log[first], (DiskOp::Write, 0, MIB as u64));
    let writes: Vec<usize> = (0..log.len()).filter(|i| log[*i].0 == DiskOp::Write).collect();
    let last = writes[writes.len() - 1];
    assert_eq!(log[last], (DiskOp::Write, 0, 4096));
    assert_eq!(log[last + 1..], [(DiskOp::Flush, 0, 0), (DiskOp::Read, 0, 4096), (DiskOp::Reread, 0, 0)]);
    let body: Vec<_> = log.iter().filter(|l| l.0 == DiskOp::Write && l.1 >= MIB as u64).collect();
    assert!(!body.is_empty() && disk.count(DiskOp::Discard) == 0);
}

/// FORMAT.md byte for byte. If this fails, the format changed: that needs a new version number.
#[test]
fn the_format_is_frozen() {
    let mut bytes = vec![0; 128 << 10];
    bytes[..64 << 10].copy_from_slice(&uncut(64 << 10));
    let disk = MemDisk::new("sda", bytes, 512);
    let about = DiskAbout {
        identity: Identity { serial: Some("S1".into()), wwn: Some("naa.5".into()), model: Some("M".into()) },
        ..DiskAbout::new("sda", Identity::default(), &disk)
    };
    let mut file = Vec::new();
    backup(&disk, &mut file, &about, &small(), &Progress::new()).unwrap();
    let hex =
        |range: std::ops::Range<usize>| file[range].iter().map(|b| format!("{b:02x}")).collect::<String>();
    assert_eq!(file.len(), 5 * 4096);
    // Header: frame, fields.
    assert_eq!(hex(0..16), "1f8b080c0000000000ffe20f5442de0f");
    assert_eq!(
        hex(16..64),
        "01010000001000000000010000020000001000000000000000000200000000000707070707070707\
        0707070707070707"
    );
    let texts = b"\x01\0\x03\0sda\x02\0\x02\0S1\x03\0\x05\0naa.5\x04\0\x01\0M\x05\0";
    assert_eq!(&file[64..64 + texts.len()], texts);
    assert_eq!(&file[4096 - 18..4096], b"sda.raw\0\x03\0\0\0\0\0\0\0\0\0");
    // Data member: kind 2, member length, run length, hash.
    assert_eq!(hex(4096..4106), "1f8b08040000000000ff");
    assert_eq!(hex(4112..4128), "01020000001000000000010000000000");
    assert_eq!(file[4128..4160], *blake3::hash(&disk.content()[..64 << 10]).as_bytes());
    // Zero member: kind 3, no hash, fixed stream.
    assert_eq!(hex(8208..8224), "01030000001000000000010000000000");
    assert!(crate::io::is_zero(&file[8224..8256]));
    // 101 bits of block header, 4 literals, 254 matches, end of block: 78 bytes; CRC32; ISIZE.
    assert_eq!(hex(12_288 - 8 - 78..12_288 - 8 - 64), "edc1810000000080a0fda917a9aa");
    assert!(crate::io::is_zero(&file[12_288 - 8 - 64..12_288 - 10]));
    assert_eq!(hex(12_288 - 10..12_288), "0060eb8e97d700000100");
    // Index leaf.
    assert_eq!(
        hex(12304..12352),
        "01060000001000000000000002000000000000000000000000100000000000000000020000000000\
        0020000000000000"
    );
    assert_eq!(hex(12352..12368), "02000000001000000000010000000000");
    assert_eq!(hex(12432..12448), "03000000001000000000010000000000");
    assert_eq!(file[12448..12480], [0; 32]);
    assert_eq!(file[12480..12512], *blake3::hash(&file[8192..12288]).as_bytes());
    // Footer.
    assert_eq!(
        hex(16400..16472),
        "01070000001000000010000000000000000002000000000000300000000000000010000000000000\
        0200000000000000000001000000000000000000000000000000000000000000"
    );
    assert_eq!(file[16472..16504], *blake3::hash(&file[..4096]).as_bytes());
    assert_eq!(file[16504..16536], *blake3::hash(&file[12288..16384]).as_bytes());
    let root = blake3::derive_key("testbox image root hash v1", &file[16400..16536]);
    assert_eq!(file[16536..16568], root);
}

/// Inflating a testbox image as a foreign gzip would restore a damaged or shortened disk without a word.
#[test]
fn no_damage_makes_a_testbox_image_a_foreign_gzip() {
    let (bytes, file, starts) = sample();
    let refused = |bad: Vec<u8>, what: &str| {
        let progress = Progress::new();
        assert!(foreign::measure(&bad, u64::MAX, &progress).is_err(), "measured: {what}");
        let content = foreign::Measured { size: bytes.len() as u64, hash: blake3::hash(&bytes) };
        let disk = MemDisk::new("sdb", vec![0xaa; bytes.len()], 512);
        assert!(foreign::restore(&bad, &content, &disk, &progress).is_err(), "restored: {what}");
        assert_ne!(file_kind(&bad).unwrap(), FileKind::Gzip, "{what}");
    };
    refused(file.clone(), "whole");
    for (n, start) in starts.iter().enumerate() {
        for at in (0..member::FRAME).chain([20, 40]) {
            for flip in [1, 4, 0x80, 0xff] {
                let mut bad = file.clone();
                bad[start + at] ^= flip;
                refused(bad, &format!("member {n}, byte {at}"));
            }
        }
        refused(file[*start..].to_vec(), &format!("cut in front of member {n}"));
        refused(file[start + 100..].to_vec(), &format!("cut inside member {n}"));
        if *start > 0 {
            refused(file[..*start].to_vec(), &format!("cut behind member {n}"));
        }
    }
}

/// A header takes 1 to 4 units. With nothing left of it, and of the footer, the first member says what the file is.
#[test]
fn a_lost_header_of_any_length_makes_no_foreign_gzip() {
    let (_, file, starts) = sample();
    let member = &file[starts[1]..starts[2]];
    for units in 0..=4 {
        let mut lost = noise(7, units * member::UNIT);
        lost.get_mut(..2).into_iter().for_each(|magic| magic.copy_from_slice(&[0x1f, 0x8b]));
        let lost = [&lost[..], member, &noise(8, 3 * member::UNIT + 5)].concat();
        assert_eq!(file_kind(&lost).unwrap(), FileKind::Testbox, "{units} units");
    }
}

/// Both ends of the file damaged: what lies between still says what it is.
#[test]
fn a_testbox_member_in_the_middle_of_a_gzip_file_refuses_it() {
    let (_, file, starts) = sample();
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
        std::io::Write::write_all(&mut encoder, bytes).unwrap();
        encoder.finish().unwrap()
    };
    let plain = gzip(&noise(1, 100_000));
    for (n, pair) in starts.windows(2).enumerate() {
        let mixed = [&plain[..], &file[pair[0]..pair[1]], &plain].concat();
        assert_eq!(file_kind(&mixed).unwrap(), FileKind::Gzip);
        let error = foreign::measure(&mixed, u64::MAX, &Progress::new()).unwrap_err().to_string();
        assert!(error.contains("testbox image"), "member {n}: {error}");
    }
    // A name is no subfield.
    let mut named =
        flate2::GzBuilder::new().filename("myTB.raw").write(Vec::new(), flate2::Compression::new(1));
    std::io::Write::write_all(&mut named, &[1; 512]).unwrap();
    let named = named.finish().unwrap();
    assert_eq!(named[12..14], *b"TB");
    assert_eq!(foreign::measure(&named, 512, &Progress::new()).unwrap().size, 512);
}
