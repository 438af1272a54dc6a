//! Disks of which not all is used: what is free is neither read nor written, and everything else is as ever.

use super::again::{again, going_on, on, with_id};
use super::*;
use crate::used::{FoundVolume, Map};
use std::sync::atomic::Ordering::Relaxed;

const STALE: u8 = 0xa5;

pub fn map(free: &[Range<u64>]) -> Arc<Map> {
    let found = FoundVolume { kind: "ext4".into(), skipped: 4096, ..FoundVolume::default() };
    Arc::new(Map { free: free.to_vec(), found: vec![found], ..Map::default() })
}

pub fn with(free: &[Range<u64>], opts: &BackupOptions) -> BackupOptions {
    BackupOptions { used: map(free), ..opts.clone() }
}

/// Free ranges from gaps and lengths in blocks.
pub fn ranges(pairs: &[(u64, u64)], block: u64, size: usize) -> Vec<Range<u64>> {
    let (mut at, mut free) = (0, Vec::new());
    for (gap, len) in pairs {
        let start = at + gap * block;
        at = (start + len * block).min(size as u64);
        match free.last_mut() {
            Some(Range { end, .. }) if *end == start => *end = at,
            _ if start < at => free.push(start..at),
            _ => {}
        }
    }
    free
}

/// The disk with `byte` in its free ranges.
pub fn filled(bytes: &[u8], free: &[Range<u64>], byte: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    free.iter().for_each(|free| bytes[free.start as usize..free.end as usize].fill(byte));
    bytes
}

pub fn sum(free: &[Range<u64>]) -> u64 {
    free.iter().map(|free| free.end - free.start).sum()
}

fn overlaps(a: &Range<u64>, free: &[Range<u64>]) -> bool {
    free.iter().any(|free| free.start < a.end && a.start < free.end)
}

/// What operations of these kinds touched.
fn touched(disk: &MemDisk, ops: &[DiskOp]) -> Vec<Range<u64>> {
    disk.log().iter().filter(|l| ops.contains(&l.0)).map(|l| l.1..l.1 + l.2).collect()
}

pub fn disk_of(bytes: &[u8]) -> MemDisk {
    MemDisk::new("sda", bytes.to_vec(), 512)
}

pub fn options(free: FreeSpace, delta: Delta) -> RestoreOptions {
    RestoreOptions { threads: 2, free, delta, ..RestoreOptions::default() }
}

/// Restores onto a disk full of 0xa5 and checks every byte of it, and the figures.
fn restored_rightly(
    image: &Image,
    bytes: &[u8],
    free: &[Range<u64>],
    how: &RestoreOptions,
    extras: &[usize],
) {
    for extra in extras.iter().copied() {
        let target = MemDisk::new("sdb", vec![STALE; bytes.len() + extra], 512);
        let progress = Progress::new();
        let restored = restore(image, &target, how, &progress).unwrap();
        let left = match how.free {
            FreeSpace::Leave => STALE,
            FreeSpace::Discard => 0xdb,
            FreeSpace::Zero => 0,
        };
        // What makes a disk bootable is zeroed first, whoever uses it.
        let end = bytes.len() as u64;
        let body =
            (MIB as u64).min(end)..(end.saturating_sub(MIB as u64) / 4096 * 4096).max(MIB as u64).min(end);
        let within = |limits: Range<u64>| -> Vec<Range<u64>> {
            let both = free.iter().map(|free| free.start.max(limits.start)..free.end.min(limits.end));
            both.filter(|both| both.start < both.end).collect()
        };
        let inside = sum(&within(body.clone()));
        let mut wanted = filled(bytes, free, 0);
        wanted = filled(&wanted, &within(body.clone()), left);
        let now = target.durable();
        let wrong = now.iter().zip(&wanted).position(|(a, b)| a != b);
        assert_eq!(wrong, None, "{how:?}");
        assert_eq!(restored.disk_bytes, restored.kept_bytes + restored.written_bytes + restored.left_bytes);
        let is_left = how.free != FreeSpace::Zero;
        assert_eq!(restored.left_bytes, if is_left { inside } else { 0 });
        assert_eq!(restored.discarded_bytes, if how.free == FreeSpace::Discard { inside } else { 0 });
        assert_eq!(restored.zero_bytes, image.summary().zero + if is_left { 0 } else { sum(free) });
        let handled = progress.done.load(Relaxed);
        assert_eq!(handled, 2 * (restored.disk_bytes - if is_left { sum(free) } else { 0 }));
        verify_against(image, &target, 2, &Progress::new()).unwrap();
        if how.free == FreeSpace::Leave {
            for part in touched(&target, &[DiskOp::Read, DiskOp::Write, DiskOp::Zero, DiskOp::Discard]) {
                let part = part.start.max(body.start)..part.end.min(body.end);
                assert!(part.is_empty() || !overlaps(&part, free), "{part:?} is nobody's");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_disk_with_free_ranges_round_trips(
        pieces in proptest::collection::vec((0u8..3, 1usize..1200), 1..8),
        pairs in proptest::collection::vec((0u64..200, 1u64..300), 0..12),
        block in prop::sample::select(vec![512u64, 4096]),
        chunk_size in prop::sample::select(vec![4096u32, 64 << 10, 1 << 20]),
        threads in 1usize..4,
    ) {
        let bytes = content(&pieces);
        let free = ranges(&pairs, block, bytes.len());
        let disk = disk_of(&bytes);
        let progress = Progress::new();
        let opts = with(&free, &BackupOptions { chunk_size, threads, ..small() });
        let mut file = Vec::new();
        let about = DiskAbout::new("sda", Identity::default(), &disk);
        let written = backup(&disk, &mut file, &about, &opts, &progress).unwrap();
        prop_assert!(touched(&disk, &[DiskOp::Read]).iter().all(|part| !overlaps(part, &free)));
        prop_assert_eq!(written.unallocated_bytes, sum(&free));
        let counts = [&progress.total, &progress.done, &progress.skipped].map(|count| count.load(Relaxed));
        let used = bytes.len() as u64 - sum(&free);
        prop_assert_eq!(counts, [used, used, sum(&free)]);

        let summary = check(&file).unwrap();
        prop_assert_eq!((summary.unallocated, summary.zero), (sum(&free), written.zero_bytes));
        let image = open(&file).unwrap();
        prop_assert_eq!(scrub(&image, 2, &Progress::new()).unwrap(), summary);
        let zeroed = filled(&bytes, &free, 0);
        prop_assert!(gunzip(&file) == zeroed);
        let mut cat = Vec::new();
        image.cat(0..bytes.len() as u64, &mut cat).unwrap();
        prop_assert!(cat == zeroed);
        let mut left = Vec::new();
        for run in image.unallocated_runs() {
            left.push(run.unwrap().range());
        }
        prop_assert_eq!(sum(&left), sum(&free));
        prop_assert!(left.iter().all(|run| free.iter().any(|f| f.start <= run.start && run.end <= f.end)));
        // What is free may be anything; what is used may not.
        verify_against(&image, &disk_of(&filled(&bytes, &free, 7)), 1, &Progress::new()).unwrap();
        for free_space in FreeSpace::ALL {
            for delta in [Delta::Always, Delta::Never] {
                restored_rightly(&image, &bytes, &free, &options(*free_space, delta), &[0]);
            }
        }
    }

    /// Whatever map the earlier image or the cut attempt was made with: the image is the one that would be made
    /// without it. So nothing that is used now is missing.
    #[test]
    fn another_map_in_an_earlier_image_changes_nothing(
        pieces in proptest::collection::vec((0u8..3, 1usize..400), 1..8),
        before in proptest::collection::vec((0u64..60, 1u64..80), 0..12),
        now in proptest::collection::vec((0u64..60, 1u64..80), 0..12),
        is_same in any::<bool>(),
        chunk_size in prop::sample::select(vec![4096u32, 16 << 10, 256 << 10]),
        split in prop::sample::select(vec![1u64, 64 << 10, 1 << 20]),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = content(&pieces);
        let disk = disk_of(&bytes);
        let before = ranges(&before, 4096, bytes.len());
        let now = if is_same { before.clone() } else { ranges(&now, 4096, bytes.len()) };
        let opts = |free, id| with(free, &BackupOptions { chunk_size, split, ..with_id(id) });
        let (full, _) = back_up(&disk, &opts(&now, 2)).unwrap();
        let (base, _) = back_up(&disk, &opts(&before, 1)).unwrap();
        let earlier = on(&base);
        let (file, written) = again(&disk, Vec::new(), &opts(&now, 2), &earlier).unwrap();
        prop_assert!(file == full);
        let image = open(&file).unwrap();
        verify_again(&image, earlier.base.as_ref().unwrap(), 2, &Progress::new()).unwrap();
        if is_same {
            prop_assert_eq!(written.taken_bytes, image.summary().data, "equal runs meet");
        }

        let (mut part, _) = back_up(&disk, &opts(&before, 2)).unwrap();
        part.truncate(cut.index(part.len() + 1));
        let (file, _) = again(&disk, part.clone(), &opts(&now, 2), &going_on(&part)).unwrap();
        prop_assert!(file == full);
    }
}

#[test]
fn images_with_free_ranges_do_not_depend_on_the_threads() {
    let bytes = content(&[(2, 3000), (0, 1000), (1, 2000), (2, 777), (0, 100), (2, 50)]);
    let free =
        ranges(&(0..40).map(|i| (i * 7 % 31 + 1, i * 5 % 17 + 1)).collect::<Vec<_>>(), 4096, bytes.len());
    let make =
        |threads| back_up(&disk_of(&bytes), &with(&free, &BackupOptions { threads, ..small() })).unwrap();
    let first = make(1);
    assert!([2, 3, 8, 64].into_iter().all(|threads| make(threads) == first));
}

/// What cannot be read matters only where somebody uses it.
#[test]
fn a_bad_sector_in_free_space_is_never_met() {
    let bytes = content(&[(2, 500)]);
    let disk = disk_of(&bytes);
    disk.inject(DiskOp::Read, 100 << 10..101 << 10, DiskFault::Errno(libc::EIO), u64::MAX);
    assert!(back_up(&disk, &small()).is_err());
    let free = [96 << 10..112 << 10];
    let (file, written) = back_up(&disk, &with(&free, &small())).unwrap();
    assert!(!written.is_degraded() && !check(&file).unwrap().degraded);
    let just_beside = [96 << 10..100 << 10, 101 << 10..112 << 10];
    assert!(back_up(&disk, &with(&just_beside, &small())).is_err());
    let opts = BackupOptions { allow_bad_sectors: true, ..with(&just_beside, &small()) };
    let (_, written) = back_up(&disk, &opts).unwrap();
    assert_eq!(written.unreadable, [100 << 10..101 << 10]);
}

/// FORMAT.md: runs of kind 4, the footer's total, and text tags 7 and 8 of the header.
#[test]
fn the_format_of_what_is_free_is_frozen() {
    let disk = disk_of(&uncut(128 << 10));
    let mut used = Map { free: vec![64 << 10..128 << 10], ..Map::default() };
    for number in 1..90 {
        let one = FoundVolume { number, size: 9, kind: "ext4".into(), skipped: 5, ..FoundVolume::default() };
        let label = (number == 1).then(|| "a\nb".into());
        used.found.push(FoundVolume { start: 1 << 20, label, why_all: Some("x".into()), ..one });
    }
    let (file, _) = back_up(&disk, &BackupOptions { used: Arc::new(used), ..small() }).unwrap();
    let found = |text: &str| file.windows(text.len()).filter(|w| *w == text.as_bytes()).count();
    let one =
        r#"{"number":1,"start":1048576,"size":9,"kind":"ext4","label":"a?b","skipped":5,"why_all":"x"}"#;
    assert_eq!(found(&format!("\u{7}\0{}\0{one}\u{7}\0", one.len() as u8 as char)), 1);
    let image = open(&file).unwrap();
    let texts = &image.header().found;
    assert_eq!(texts.more + texts.list.len() as u64, 89);
    assert!(texts.more > 0 && texts.list.len() > 50);
    assert_eq!(found(&format!("\u{8}\0\u{2}\0{}\0", texts.more)), 1);

    let header = member::parse(&file).unwrap().len;
    let run = image.unallocated_runs().next().unwrap().unwrap();
    assert_eq!(run.position as usize, header + 4096);
    let at = run.position as usize + 16;
    assert_eq!(file[at..at + 16], [1, 4, 0, 0, 0, 16, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
    assert!(crate::io::is_zero(&file[at + 16..at + 48]));
    let footer = file.len() - 4096 + 16;
    assert_eq!(file[footer + 56..footer + 64], (64u64 << 10).to_le_bytes());
}

/// A cut attempt took a range for free that is used by now: the machine ran in between, or the map was switched off.
/// The header, which says what was found, may be the same.
#[test]
fn a_part_of_another_map_is_not_resumed_where_that_matters() {
    let bytes = content(&[(2, 2000)]);
    let disk = disk_of(&bytes);
    let (early, late) = (128 << 10..192 << 10, 1536 << 10..1600 << 10);
    let opts = |free: &[Range<u64>]| with(free, &with_id(3));
    let (part, _) = back_up(&disk, &opts(&[early.clone(), late.clone()])).unwrap();
    for (free, kept) in [
        (vec![early.clone(), late.clone()], 1..u64::MAX),
        (vec![early.clone()], 1..1 << 21),
        // From the first difference on all is written anew.
        (vec![late], 64 << 10..192 << 10),
        (vec![], 64 << 10..192 << 10),
        (vec![early.start..early.end + 4096], 64 << 10..192 << 10),
    ] {
        let (file, written) = again(&disk, part.clone(), &opts(&free), &going_on(&part)).unwrap();
        assert!(file == back_up(&disk, &opts(&free)).unwrap().0, "{free:?}");
        assert!(gunzip(&file) == filled(&bytes, &free, 0));
        assert!(kept.contains(&written.kept_bytes), "{free:?}: {}", written.kept_bytes);
    }
    // Another verdict on the disk stands in the header: all of it is written anew.
    let mut other = Map::clone(&map(&[early]));
    other.found[0].why_all = Some("the journal needs recovery".into());
    let opts = BackupOptions { used: Arc::new(other), ..with_id(3) };
    let (file, written) = again(&disk, part.clone(), &opts, &going_on(&part)).unwrap();
    assert!(written.kept_bytes == 0 && open(&file).unwrap().header().found.list[0].why_all.is_some());
}

/// A used disk is imaged whole, then by its map: what a chunk holds is found again where free space does not cut it.
#[test]
fn chunks_away_from_free_space_meet_those_of_a_whole_base() {
    let bytes = content(&[(2, 1024)]);
    let disk = disk_of(&bytes);
    let (base, _) = back_up(&disk, &with_id(1)).unwrap();
    let free = [100 << 10..300 << 10];
    let (file, written) = again(&disk, Vec::new(), &with(&free, &with_id(2)), &on(&base)).unwrap();
    check(&file).unwrap();
    // All but what is free, and the runs of up to 64 KiB that it cuts, are taken.
    let left = (1024 << 10) - written.taken_bytes;
    assert!((200 << 10..(200 + 2 * 64) << 10).contains(&left), "{left}");
}

#[test]
fn long_free_ranges_are_cut_where_every_image_cuts() {
    let dir = tempfile::tempdir().unwrap();
    let disk = crate::block::RealDisk::create_file(dir.path().join("disk"), 5120 * MIB as u64).unwrap();
    let about = DiskAbout::new("sda", Identity::default(), &disk);
    let mib = |range: Range<u64>| range.start << 20..range.end << 20;
    let mut file = Vec::new();
    let free = [mib(3..3000), mib(3001..5120)];
    backup(&disk, &mut file, &about, &with(&free, &small()), &Progress::new()).unwrap();
    let runs: Vec<Run> = open(&file).unwrap().runs().map(Result::unwrap).collect();
    let found: Vec<_> = runs.iter().map(|run| (run.kind, run.offset >> 20..run.range().end >> 20)).collect();
    use MemberKind::{Unallocated as U, Zero as Z};
    let wanted =
        [(Z, 0..3), (U, 3..2048), (U, 2048..3000), (Z, 3000..3001), (U, 3001..4096), (U, 4096..5120)];
    assert_eq!(found, wanted);
    assert_eq!(check(&file).unwrap().unallocated, sum(&free));
}

#[test]
fn a_list_of_free_ranges_that_makes_no_sense_is_refused() {
    let disk = disk_of(&content(&[(2, 64)]));
    for free in [
        vec![4096..8192, 0..4096],
        vec![0..8192, 4096..12288],
        vec![0..1 << 20],
        vec![Range { start: 9, end: 8 }],
    ] {
        let error = back_up(&disk, &with(&free, &small())).unwrap_err().to_string();
        assert!(error.contains("internal error"), "{error}");
    }
    // Parts of blocks are used.
    let (_, written) = back_up(&disk, &with(&[100..600, 600..1500, 2000..2040], &small())).unwrap();
    assert_eq!(written.unallocated_bytes, 0);
    let (_, written) = back_up(&disk, &with(&[100..1500, 4096..8192], &small())).unwrap();
    assert_eq!(written.unallocated_bytes, 512 + 4096);
}

/// An unallocated sector compares equal to zeros, and differs from data: a file that was made or deleted shows.
#[test]
fn diff_takes_unallocated_for_zeros() {
    let bytes = content(&[(2, 256), (0, 256), (2, 256)]);
    let kib = |range: Range<u64>| range.start << 10..range.end << 10;
    let image =
        |free: &[Range<u64>]| open(&back_up(&disk_of(&bytes), &with(free, &small())).unwrap().0).unwrap();
    let differing = |a: &Image, b: &Image| {
        let mut found = Vec::new();
        diff(a, b, &Progress::new(), |range| {
            found.push(range);
            Ok(())
        })
        .unwrap();
        found
    };
    let all = image(&[]);
    for (free, wanted) in [
        (kib(256..512), vec![]),
        (kib(300..400), vec![]),
        (kib(500..600), vec![kib(512..600)]),
        (kib(0..4), vec![kib(0..4)]),
    ] {
        let other = image(std::slice::from_ref(&free));
        assert_eq!(differing(&all, &other), wanted, "{free:?}");
        assert_eq!(differing(&other, &all), wanted, "{free:?}");
        assert_eq!(differing(&other, &other), []);
    }
}

/// An image with free ranges: one in the first boot area and beyond, one in the body, one up to the very end.
fn sample() -> (Vec<u8>, Vec<Range<u64>>, Image) {
    let bytes = content(&[(2, 1700), (0, 300), (1, 200), (2, 2800)]);
    let end = bytes.len() as u64;
    let free = vec![512 << 10..1200 << 10, 2000 << 10..2600 << 10, end - (1500 << 10)..end];
    let opts = with(&free, &BackupOptions { chunk_size: 1 << 20, ..small() });
    let image = open(&back_up(&disk_of(&bytes), &opts).unwrap().0).unwrap();
    (bytes, free, image)
}

#[test]
fn boot_areas_are_right_where_free_space_reaches_into_them() {
    let (bytes, free, image) = sample();
    for free_space in FreeSpace::ALL {
        for delta in Delta::ALL {
            restored_rightly(&image, &bytes, &free, &options(*free_space, *delta), &[0, 2 * MIB]);
        }
    }
}

/// All discards come before the first byte of the body is written, and all that is kept is compared again after them.
#[test]
fn a_disk_that_discards_too_much_is_found_out() {
    let (bytes, free, image) = sample();
    let target = MemDisk::new("sdb", filled(&bytes, &[0..4096], STALE), 512);
    let how = options(FreeSpace::Discard, Delta::Always);
    restore(&image, &target, &how, &Progress::new()).unwrap();
    let log = target.log();
    let last = log.iter().rposition(|l| l.0 == DiskOp::Discard).unwrap();
    let body = MIB as u64..(bytes.len() - MIB) as u64;
    let writes = |l: &(DiskOp, u64, u64)| matches!(l.0, DiskOp::Write | DiskOp::Zero) && body.contains(&l.1);
    assert!(log[..last].iter().all(|l| !writes(l)));
    let mut read = vec![false; bytes.len()];
    for l in log[last..].iter().filter(|l| l.0 == DiskOp::Read) {
        read[l.1 as usize..(l.1 + l.2) as usize].fill(true);
    }
    let used = filled(&vec![1; bytes.len()], &free, 0);
    let missed = (MIB..bytes.len() - MIB).find(|at| used[*at] == 1 && !read[*at]);
    assert_eq!(missed, None, "kept, and not compared after the discards");
    assert!(log[..last].iter().any(|l| l.0 == DiskOp::Flush), "the disk is unbootable by then");
}

#[test]
fn a_disk_that_cannot_discard_is_restored_all_the_same() {
    let (bytes, free, image) = sample();
    for nth in 0..2 {
        let target = MemDisk::new("sdb", vec![STALE; bytes.len()], 512);
        let range = if nth == 0 { 0..u64::MAX } else { 2000 << 10..2001 << 10 };
        target.inject(DiskOp::Discard, range, DiskFault::Errno(libc::EOPNOTSUPP), u64::MAX);
        let how = options(FreeSpace::Discard, Delta::Auto);
        let restored = restore(&image, &target, &how, &Progress::new()).unwrap();
        let why = restored.discard_error.unwrap();
        assert!(why.contains("sdb: cannot discard"), "{why}");
        assert_eq!(target.count(DiskOp::Discard), nth + 1, "the first failure is the last attempt");
        assert_eq!(restored.discarded_bytes, nth as u64 * ((1200 << 10) - MIB as u64));
        assert!(filled(&target.content(), &free, 0) == filled(&bytes, &free, 0));
    }
}

/// Invariant U with free space: whichever operation fails, the disk is unbootable, or everything that is used is right.
#[test]
fn whatever_operation_fails_no_half_disk_boots() {
    let (bytes, free, image) = sample();
    let right = filled(&bytes, &free, 0);
    for free_space in FreeSpace::ALL {
        let how = RestoreOptions { threads: 1, ..options(*free_space, Delta::Auto) };
        let run = |fault: Option<(u64, DiskFault, bool)>| {
            let disk = MemDisk::new("sdb", vec![STALE; bytes.len()], 512);
            if let Some((nth, fault, dead)) = fault {
                disk.fail_nth(nth, fault, dead);
            }
            (restore(&image, &disk, &how, &Progress::new()), disk)
        };
        let (clean, disk) = run(None);
        clean.unwrap();
        let operations = disk.log();
        for fault in
            [DiskFault::Errno(libc::EIO), DiskFault::Drop, DiskFault::FlipBit(99_999), DiskFault::Short]
        {
            for nth in 0..operations.len() as u64 {
                for dead in [false, matches!(fault, DiskFault::Errno(_))] {
                    let (result, disk) = run(Some((nth, fault, dead)));
                    disk.heal();
                    let now = disk.content();
                    let what = format!("{free_space} {fault:?} {dead} at {nth}");
                    match result {
                        Ok(_) => assert!(filled(&now, &free, 0) == right, "{what}"),
                        Err(error) => {
                            let unbootable = crate::io::is_zero(&now[..512]);
                            let body = now[MIB..bytes.len() - MIB].iter().all(|b| *b == STALE);
                            let told = error.to_string().contains("do not boot it");
                            assert!(unbootable || body || told, "{what}: {error}");
                            assert!(dead || !told, "{what}: {error}");
                            let is_discard = operations[nth as usize].0 == DiskOp::Discard;
                            assert!(dead || !is_discard, "a discard may fail: {what}: {error}");
                        }
                    }
                }
            }
        }
    }
}
