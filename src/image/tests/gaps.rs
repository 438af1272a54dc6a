//! Free ranges that are too short for a run of their own: zeros in the image, anything on a disk.

use super::again::{again, on};
use super::used::{disk_of, filled, options, ranges, sum, with};
use super::*;

const STALE: u8 = 0xa5;
const SPLIT: u64 = 64 << 10;

fn gapped(free: &[Range<u64>]) -> BackupOptions {
    with(free, &BackupOptions { split: SPLIT, ..small() })
}

/// What lies between the places that a restore zeroes first.
fn body(bytes: &[u8]) -> Range<usize> {
    let end = bytes.len().saturating_sub(MIB) / 4096 * 4096;
    MIB.min(bytes.len())..end.max(MIB).min(bytes.len())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn gaps_are_zero_in_the_image_and_free_on_the_disk(
        pieces in proptest::collection::vec((1u8..3, 1usize..1200), 1..8),
        pairs in proptest::collection::vec((1u64..60, 1u64..24), 0..40),
        chunk_size in prop::sample::select(vec![4096u32, 64 << 10, 1 << 20]),
        used in any::<prop::sample::Index>(),
    ) {
        let bytes = content(&pieces);
        let bytes = &bytes[..bytes.len() / 4096 * 4096];
        prop_assume!(!bytes.is_empty());
        let free = ranges(&pairs, 4096, bytes.len());
        let long: Vec<_> = free.iter().filter(|range| range.end - range.start >= SPLIT).cloned().collect();
        let (file, written) =
            back_up(&disk_of(bytes), &BackupOptions { chunk_size, ..gapped(&free) }).unwrap();
        prop_assert_eq!(written.unallocated_bytes, sum(&long));
        prop_assert_eq!(check(&file).unwrap().unallocated, sum(&long));
        let zeroed = filled(bytes, &free, 0);
        prop_assert!(gunzip(&file) == zeroed);

        let image = open(&file).unwrap();
        let stale = filled(bytes, &free, STALE);
        verify_against(&image, &disk_of(&stale), 2, &Progress::new()).unwrap();
        let at = used.index(bytes.len());
        if !free.iter().any(|range| range.contains(&(at as u64))) {
            let mut wrong = stale.clone();
            wrong[at] ^= 1;
            prop_assert!(verify_against(&image, &disk_of(&wrong), 2, &Progress::new()).is_err());
        }

        // A disk on which all that is used is right: nothing is written between the boot areas.
        let target = disk_of(&stale);
        restore(&image, &target, &options(FreeSpace::Leave, Delta::Always), &Progress::new()).unwrap();
        let now = target.durable();
        prop_assert!(now[body(bytes)] == stale[body(bytes)]);
        prop_assert!(filled(&now, &free, 0) == zeroed);
        restore(&image, &target, &options(FreeSpace::Zero, Delta::Always), &Progress::new()).unwrap();
        prop_assert!(target.durable() == zeroed);

        for free_space in FreeSpace::ALL {
            for delta in Delta::ALL {
                let target = disk_of(&vec![STALE; bytes.len()]);
                restore(&image, &target, &options(*free_space, *delta), &Progress::new()).unwrap();
                prop_assert!(filled(&target.durable(), &free, 0) == zeroed);
                verify_against(&image, &target, 2, &Progress::new()).unwrap();
            }
        }
    }
}

/// What was a gap is used now, and holds zeros: the old member has the same bytes, and must not be taken over, because
/// a delta restore would leave what a disk holds in its gap.
#[test]
fn zeros_that_are_used_by_now_are_no_gap_any_more() {
    let gap = 2 * MIB as u64 + (16 << 10)..2 * MIB as u64 + (32 << 10);
    let bytes = filled(&content(&[(2, 4096)]), std::slice::from_ref(&gap), 0);
    let disk = disk_of(&bytes);
    let (base, _) = back_up(&disk, &gapped(std::slice::from_ref(&gap))).unwrap();
    let (file, written) = again(&disk, Vec::new(), &gapped(&[]), &on(&base)).unwrap();
    assert!(file == back_up(&disk, &gapped(&[])).unwrap().0);
    // All runs but that of the gap, which is a run of its own now.
    assert!((4096 - 64..4096 - 16).contains(&(written.taken_bytes >> 10)), "{}", written.taken_bytes);
    let target = disk_of(&filled(&bytes, &[gap], STALE));
    let how = options(FreeSpace::Leave, Delta::Always);
    restore(&open(&file).unwrap(), &target, &how, &Progress::new()).unwrap();
    assert!(target.durable() == bytes);
}

/// A list that is not the one that was written makes no used block a gap: it does not give the run's hash.
#[test]
fn no_flipped_bit_of_a_list_leaves_what_is_used() {
    let at = 2 * MIB as u64;
    let gap = at + 4096..at + 8192;
    // Zeros beside the gap, for which only the list tells that they are used.
    let bytes = filled(&content(&[(2, 4096)]), &[at..at + (32 << 10)], 0);
    let (file, _) = back_up(&disk_of(&bytes), &gapped(std::slice::from_ref(&gap))).unwrap();
    let image = open(&file).unwrap();
    let run = image.runs().map(Result::unwrap).find(|run| run.has_gaps).unwrap();
    assert!(run.range().contains(&gap.start));
    let stale = filled(&bytes, &[at..at + (32 << 10)], STALE);
    let list = run.position as usize + 64;
    assert_eq!(file[list..list + 6], [1, 0, ((gap.start - run.offset) / 512) as u8, 0, 8, 0]);
    for bit in 0..8 * 8 {
        let mut bad = file.clone();
        bad[list + bit / 8] ^= 1 << (bit % 8);
        assert!(check(&bad).is_err(), "bit {bit}");
        for delta in Delta::ALL {
            let target = disk_of(&stale);
            let how = options(FreeSpace::Leave, *delta);
            let error = restore(&open(&bad).unwrap(), &target, &how, &Progress::new()).unwrap_err();
            assert!(error.to_string().contains("damaged"), "bit {bit}: {error}");
        }
    }
    let target = disk_of(&stale);
    restore(&image, &target, &options(FreeSpace::Leave, Delta::Always), &Progress::new()).unwrap();
    assert!(target.durable() == filled(&bytes, &[gap], STALE));
}

/// FORMAT.md: the list behind the hash, the flag in the index, and the hash over both.
#[test]
fn the_format_of_gaps_is_frozen() {
    let bytes = content(&[(2, 64)]);
    let free = [4096..12_288, 20_480..24_576];
    // One run: no content ends one below 64 KiB.
    let opts = BackupOptions { chunk_size: 1 << 20, ..gapped(&free) };
    let (file, _) = back_up(&disk_of(&bytes), &opts).unwrap();
    let header = member::parse(&file).unwrap().len;
    let list = [2, 0, 8, 0, 16, 0, 40, 0, 8, 0];
    assert_eq!(file[header + 64..header + 74], list);
    let hash = blake3::hash(&[&filled(&bytes, &free, 0)[..], &list].concat());
    assert_eq!(file[header + 32..header + 64], *hash.as_bytes());
    let index = header + member::parse(&file[header..]).unwrap().len;
    assert_eq!(file[index + 16 + 48..index + 16 + 52], [2, 1, 0, 0]);
}

/// A bad sector in a gap is nobody's loss; one beside it is, and the gaps round it stay what they are.
#[test]
fn a_bad_sector_in_a_gap_fails_nothing_and_one_beside_it_does() {
    let bytes = content(&[(2, 4096)]);
    let at = 2 * MIB as u64;
    let free = [at + 8192..at + 16_384, at + 32_768..at + 40_960];
    let disk = disk_of(&bytes);
    disk.inject(DiskOp::Read, at + 9000..at + 9001, DiskFault::Errno(libc::EIO), u64::MAX);
    let (file, written) = back_up(&disk, &gapped(&free)).unwrap();
    assert!(!written.is_degraded() && !check(&file).unwrap().degraded);
    assert!(gunzip(&file) == filled(&bytes, &free, 0));
    assert!(file == back_up(&disk_of(&bytes), &gapped(&free)).unwrap().0, "as of a good disk");

    disk.inject(DiskOp::Read, at + 20_480..at + 20_481, DiskFault::Errno(libc::EIO), u64::MAX);
    let error = back_up(&disk, &gapped(&free)).unwrap_err().to_string();
    assert!(
        error.contains("sda: cannot read") && error.contains(&format!("{}", (at + 20_480) / 512)),
        "{error}"
    );
    let opts = BackupOptions { allow_bad_sectors: true, ..gapped(&free) };
    let (file, written) = back_up(&disk, &opts).unwrap();
    let lost = at + 20_480..at + 20_992;
    assert_eq!(written.unreadable, std::slice::from_ref(&lost));
    let wanted = filled(&filled(&bytes, &free, 0), std::slice::from_ref(&lost), 0);
    assert!(check(&file).unwrap().degraded && gunzip(&file) == wanted);
    let image = open(&file).unwrap();
    assert_eq!(image.runs().filter(|run| run.as_ref().unwrap().has_gaps).count(), 2);
    // What is in the gaps does not count, before the bad sector and behind it.
    let stale = filled(&filled(&bytes, &[at + 8192..at + 16_384], STALE), std::slice::from_ref(&lost), STALE);
    verify_against(&image, &disk_of(&stale), 2, &Progress::new()).unwrap();
    let target = disk_of(&filled(&bytes, &free, STALE));
    restore(&image, &target, &options(FreeSpace::Leave, Delta::Always), &Progress::new()).unwrap();
    assert!(filled(&target.durable(), &free, 0) == wanted);
}
