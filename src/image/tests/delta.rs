//! Delta restore: the same disk in the end as by a full one, and nothing written but what has to be.

use super::*;

const BLOCK: usize = 4096;

fn options(delta: Delta) -> RestoreOptions {
    RestoreOptions { threads: 1, delta, ..Default::default() }
}

fn image_of(bytes: &[u8], opts: &BackupOptions) -> Image {
    open(&back_up(&MemDisk::new("sda", bytes.to_vec(), 512), opts).unwrap().0).unwrap()
}

/// The bytes between the parts that are written in any case.
fn body(bytes: &[u8]) -> Range<usize> {
    MIB.min(bytes.len())..(bytes.len().saturating_sub(MIB) / BLOCK * BLOCK).max(MIB.min(bytes.len()))
}

/// Writes and zeroings that touch the body, as ranges.
fn body_writes(disk: &MemDisk, body: &Range<usize>) -> Vec<Range<usize>> {
    let log = disk.log();
    let writes = log.iter().filter(|l| matches!(l.0, DiskOp::Write | DiskOp::Zero));
    let ranges = writes.map(|l| l.1 as usize..(l.1 + l.2) as usize);
    ranges.filter(|r| r.start < body.end && r.end > body.start).collect()
}

/// Reads of the read-back: those of what was written before.
fn read_back(disk: &MemDisk, body: &Range<usize>) -> Vec<Range<usize>> {
    let log = disk.log();
    let overlaps = |a: &(DiskOp, u64, u64), b: &(DiskOp, u64, u64)| a.1 < b.1 + b.2 && b.1 < a.1 + a.2;
    let is_back = |i: &usize| {
        let wrote =
            |l: &&(DiskOp, u64, u64)| matches!(l.0, DiskOp::Write | DiskOp::Zero) && overlaps(l, &log[*i]);
        log[*i].0 == DiskOp::Read && log[..*i].iter().any(|l| wrote(&l))
    };
    let ranges = (0..log.len()).filter(is_back).map(|i| log[i].1 as usize..(log[i].1 + log[i].2) as usize);
    ranges.filter(|r| r.start < body.end && r.end > body.start).collect()
}

#[test]
fn an_equal_disk_is_read_once_and_nothing_is_written() {
    let bytes = content(&[(2, 1500), (0, 2000), (1, 700), (2, 100), (0, 64), (1, 3000)]);
    let image = image_of(&bytes, &small());
    for mode in [Delta::Auto, Delta::Always] {
        let disk = MemDisk::new("sdb", bytes.clone(), 512);
        let progress = Progress::new();
        let restored = restore(&image, &disk, &options(mode), &progress).unwrap();
        let body = body(&bytes);
        assert!(disk.durable() == bytes);
        assert!(disk.log().iter().all(|l| matches!(l.0, DiskOp::Read | DiskOp::Flush)), "{:?}", disk.log());
        let read: u64 = disk.log().iter().map(|l| l.2).sum();
        assert_eq!(read, bytes.len() as u64, "each byte once");
        assert_eq!(restored.kept_bytes, bytes.len() as u64);
        assert_eq!(restored.written_bytes, 0);
        let done = progress.done.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(done, 2 * bytes.len() as u64);
        // Nothing of the body is fetched from the image either.
        let fetched = progress.image.load(std::sync::atomic::Ordering::Relaxed);
        let needed: u64 = image
            .runs()
            .map(Result::unwrap)
            .filter(|r| {
                r.kind == MemberKind::Data
                    && (r.offset < body.start as u64 || r.range().end > body.end as u64)
            })
            .map(|r| u64::from(r.member_length))
            .sum();
        assert_eq!(fetched, needed);
    }
    let disk = MemDisk::new("sdb", bytes.clone(), 512);
    let restored = restore(&image, &disk, &options(Delta::Never), &Progress::new()).unwrap();
    assert_eq!((restored.kept_bytes, restored.written_bytes), (0, bytes.len() as u64));
}

#[test]
fn one_changed_block_is_written_alone_and_read_back_alone() {
    let bytes = content(&[(2, 1500), (0, 1000), (1, 700), (2, 3000)]);
    let image = image_of(&bytes, &small());
    // Data, zeros, one byte each.
    for at in [1400 * 1024 + 17, 2000 * 1024 + 4095, 3000 * 1024] {
        let mut found = bytes.clone();
        found[at] ^= 0x55;
        let disk = MemDisk::new("sdb", found, 512);
        let restored = restore(&image, &disk, &options(Delta::Always), &Progress::new()).unwrap();
        let block = at / BLOCK * BLOCK..(at / BLOCK + 1) * BLOCK;
        assert!(disk.durable() == bytes);
        assert_eq!(body_writes(&disk, &body(&bytes)), std::slice::from_ref(&block));
        assert_eq!(read_back(&disk, &body(&bytes)), std::slice::from_ref(&block));
        assert_eq!(restored.kept_bytes as usize, body(&bytes).len() - BLOCK);
    }
}

/// What a medium does not give is written: that is what makes a disk remap it.
#[test]
fn blocks_that_cannot_be_read_are_written() {
    let bytes = content(&[(2, 1500), (0, 1000), (1, 700), (2, 3000)]);
    let image = image_of(&bytes, &small());
    // A group of runs is tried again run by run.
    for (at, times) in [(1400 << 10, 2), (2000 << 10, 1)] {
        let disk = MemDisk::new("sdb", bytes.clone(), 512);
        disk.inject(DiskOp::Read, at..at + 512, DiskFault::Errno(libc::EIO), times);
        let restored = restore(&image, &disk, &options(Delta::Always), &Progress::new()).unwrap();
        assert!(disk.durable() == bytes);
        let writes = body_writes(&disk, &body(&bytes));
        assert!(writes.len() == 1 && writes[0].contains(&(at as usize)), "{writes:?}");
        assert_eq!(restored.kept_bytes as usize, body(&bytes).len() - writes[0].len());
    }
}

/// A disk that drops the write of a changed block keeps what was there: only the read-back shows it.
#[test]
fn a_lost_write_of_one_block_is_found() {
    let bytes = content(&[(2, 1500), (0, 1000), (2, 3000)]);
    let image = image_of(&bytes, &small());
    for (at, op) in [(1400 << 10, DiskOp::Write), (2000 << 10, DiskOp::Zero)] {
        for fault in [DiskFault::Drop, DiskFault::FlipBit(5)] {
            let mut found = bytes.clone();
            found[at] ^= 1;
            let disk = MemDisk::new("sdb", found, 512);
            disk.inject(op, at as u64..at as u64 + 1, fault, 1);
            let error = restore(&image, &disk, &options(Delta::Always), &Progress::new()).unwrap_err();
            assert!(error.to_string().contains("just written"), "{error}");
            assert!(crate::io::is_zero(&disk.content()[..MIB]));
        }
    }
}

#[test]
fn a_restore_that_was_cut_goes_on_where_it_was() {
    let bytes = content(&[(2, 1500), (0, 500), (1, 3000), (2, 3000)]);
    let image = image_of(&bytes, &small());
    let disk = MemDisk::new("sdb", noise(9, bytes.len()), 512);
    disk.fail_nth(12, DiskFault::Errno(libc::EIO), true);
    let cut = RestoreOptions { batch: Some(1 << 20), ..options(Delta::Never) };
    assert!(restore(&image, &disk, &cut, &Progress::new()).is_err());
    disk.heal();
    let right =
        |now: &[u8]| now.chunks(BLOCK).zip(bytes.chunks(BLOCK)).map(|(a, b)| a == b).collect::<Vec<_>>();
    let before = right(&disk.content());
    let inside = body(&bytes).start / BLOCK..body(&bytes).end / BLOCK;
    let kept = before[inside].iter().filter(|same| **same).count() * BLOCK;
    assert!(kept > MIB, "{kept}");
    let restored = restore(&image, &disk, &options(Delta::Always), &Progress::new()).unwrap();
    assert!(disk.durable() == bytes);
    assert_eq!(restored.kept_bytes as usize, kept);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Whatever is on the disk: all modes end with the same bytes, and `always` writes and reads back nothing but
    /// blocks that differ.
    #[test]
    fn delta_equals_full_and_writes_only_what_differs(
        pieces in proptest::collection::vec((0u8..3, 1usize..1200), 1..8),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), 1usize..200_000, 0u8..3), 0..6),
        odd in 0usize..8,
        larger in prop::sample::select(vec![0, 2 * MIB]),
        chunk in prop::sample::select(vec![4096u32, 64 << 10, 1 << 20]),
        threads in 1usize..4,
        batch in prop::sample::select(vec![None, Some(1), Some(300 << 10)]),
        rotational in any::<bool>(),
    ) {
        let mut bytes = content(&pieces);
        bytes.truncate(bytes.len() - odd.min(1) * 512);
        let mut found = bytes.clone();
        for (at, len, what) in changes {
            let at = at.index(found.len());
            let end = found.len().min(at + len);
            match what {
                0 => found[at..end].fill(0),
                1 => found[at..end].copy_from_slice(&noise(len as u64, end - at)),
                _ => found[at] ^= 1,
            }
        }
        found.extend_from_slice(&noise(77, larger));
        let image = image_of(&bytes, &BackupOptions { chunk_size: chunk, ..small() });
        for delta in [Delta::Auto, Delta::Always, Delta::Never] {
            let disk = MemDisk::new("sdb", found.clone(), 512);
            disk.set_rotational(rotational);
            let progress = Progress::new();
            let restored = restore(&image, &disk, &RestoreOptions { threads, batch, ..options(delta) }, &progress).unwrap();
            let done = progress.done.load(std::sync::atomic::Ordering::Relaxed);
            prop_assert_eq!(done, 2 * bytes.len() as u64);
            prop_assert!(disk.durable()[..bytes.len()] == bytes);
            let body = body(&bytes);
            let back: usize = read_back(&disk, &body).iter().map(Range::len).sum();
            prop_assert!(verify_against(&image, &disk, 1, &progress).is_ok());
            prop_assert_eq!(restored.kept_bytes + restored.written_bytes, bytes.len() as u64);
            if delta != Delta::Never && found == bytes {
                prop_assert!(disk.count(DiskOp::Write) + disk.count(DiskOp::Zero) == 0);
                continue;
            }
            if delta != Delta::Always {
                continue;
            }
            let writes = body_writes(&disk, &body);
            let mut written = 0;
            for range in &writes {
                written += range.len();
                prop_assert!(body.start <= range.start && range.end <= body.end);
                for at in (range.start / BLOCK * BLOCK..range.end).step_by(BLOCK) {
                    let block = at.max(range.start)..(at + BLOCK).min(range.end);
                    prop_assert!(found[block.clone()] != bytes[block.clone()], "{:?} was right", block);
                }
            }
            prop_assert_eq!(restored.kept_bytes as usize, body.len() - written);
            prop_assert_eq!(back, written);
        }
    }
}

/// Invariant U on a disk that is nearly right: whichever operation fails, it is unbootable, or completely right.
#[test]
fn whatever_fails_in_a_delta_restore_no_half_disk_boots() {
    let bytes = content(&[(2, 1100), (0, 300), (1, 200), (2, 1800)]);
    let image = image_of(&bytes, &BackupOptions { chunk_size: 256 << 10, ..small() });
    let mut found = bytes.clone();
    for (at, len) in [(0, 512), (1100 << 10, 5000), (1300 << 10, 600), (1500 << 10, 100 << 10)] {
        found[at..at + len].fill(0xaa);
    }
    // All in one batch, and one batch proven while the next is written.
    for batch in [None, Some(64 << 10)] {
        every_operation_fails_once(&image, &bytes, &found, batch);
    }
}

fn every_operation_fails_once(image: &Image, bytes: &[u8], found: &[u8], batch: Option<u64>) {
    let opts = RestoreOptions { batch, ..options(Delta::Always) };
    let run = |fault: Option<(u64, DiskFault, bool)>| {
        let disk = MemDisk::new("sdb", found.to_vec(), 512);
        if let Some((nth, fault, dead)) = fault {
            disk.fail_nth(nth, fault, dead);
        }
        (restore(image, &disk, &opts, &Progress::new()), disk)
    };
    let (clean, disk) = run(None);
    assert!(clean.unwrap().kept_bytes > MIB as u64 && disk.durable() == bytes);
    let count = disk.log().len() as u64;
    assert!(count > 20);
    for fault in [DiskFault::Errno(libc::EIO), DiskFault::Drop, DiskFault::FlipBit(99_999), DiskFault::Short]
    {
        for nth in 0..count {
            for dead in [false, matches!(fault, DiskFault::Errno(_))] {
                let (result, disk) = run(Some((nth, fault, dead)));
                disk.heal();
                let now = disk.content();
                let unbootable = crate::io::is_zero(&now[..MIB]);
                let body_untouched = now[MIB..bytes.len() - MIB] == found[MIB..bytes.len() - MIB];
                match result {
                    Ok(_) => assert!(now == bytes, "{fault:?} at {nth}"),
                    Err(error) => {
                        let told = error.to_string().contains("do not boot it");
                        assert!(unbootable || body_untouched || told, "{fault:?} at {nth}: {error}");
                        assert!(dead || !told, "{fault:?} at {nth}: {error}");
                        // The next restore mends it, and writes no more than the one that failed should have.
                        let again = restore(image, &disk, &opts, &Progress::new()).unwrap();
                        assert!(
                            disk.durable() == bytes && again.kept_bytes > MIB as u64,
                            "{fault:?} at {nth}"
                        );
                    }
                }
            }
        }
    }
}

/// On a disk with a head nothing is written while a batch is proven; on any other one the next batch goes on.
#[test]
fn a_disk_with_a_head_proves_one_leg_before_it_writes_the_next() {
    let bytes = content(&[(2, 5000)]);
    let image = image_of(&bytes, &small());
    let disk = MemDisk::new("sdb", noise(9, bytes.len()), 512);
    disk.set_rotational(true);
    let opts = RestoreOptions { batch: Some(1 << 20), ..options(Delta::Never) };
    restore(&image, &disk, &opts, &Progress::new()).unwrap();
    let body = body(&bytes);
    let in_body = |l: &&(DiskOp, u64, u64)| (body.start as u64..body.end as u64).contains(&l.1);
    let log = disk.log();
    let mut unproven = 0;
    let mut batches = 0;
    for (op, _, len) in log.iter().filter(in_body) {
        match op {
            DiskOp::Read => unproven -= *len as i64,
            DiskOp::Write if unproven == 0 => (batches, unproven) = (batches + 1, *len as i64),
            DiskOp::Write => unproven += *len as i64,
            _ => {}
        }
        assert!(unproven >= 0);
    }
    assert_eq!((unproven, batches), (0, 3), "{} bytes of body", body.len());
}
