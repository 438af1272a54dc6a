//! Diff: no byte that differs is left out, and what is equal is not called different beyond the run it stands in.

use super::*;

fn image_of(bytes: &[u8], chunk_size: u32) -> Image {
    let disk = MemDisk::new("sda", bytes.to_vec(), 512);
    open(&back_up(&disk, &BackupOptions { chunk_size, ..small() }).unwrap().0).unwrap()
}

fn ranges(a: &Image, b: &Image) -> Vec<Range<u64>> {
    let mut found = Vec::new();
    let progress = Progress::new();
    diff(a, b, &progress, |range| {
        found.push(range);
        Ok(())
    })
    .unwrap();
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
    assert!(count(&progress.done) <= count(&progress.total));
    found
}

#[test]
fn ranges_are_those_of_differing_runs_with_neighbours_joined() {
    let base = content(&[(2, 256), (0, 256), (1, 256), (2, 100)]);
    let kib = |range: Range<u64>| range.start * 1024..range.end * 1024;
    let changed = |changes: &[(usize, u8)]| {
        let mut bytes = base.clone();
        for (at, byte) in changes {
            bytes[at * 1024] = *byte;
        }
        bytes
    };
    let a = image_of(&base, 64 << 10);
    let rows: Vec<(Vec<u8>, Vec<Range<u64>>)> = vec![
        (base.clone(), vec![]),
        (base[..600 << 10].to_vec(), vec![kib(600..868)]),
        ([&base[..], &[0; 4096]].concat(), vec![kib(868..872)]),
        (vec![0; base.len()], vec![0..run_at(&a, (256 << 10) - 1).end, kib(512..868)]),
    ];
    let changes: [&[(usize, u8)]; 3] = [&[(70, 1)], &[(70, 1), (130, 1)], &[(0, 1), (300, 9), (867, 1)]];
    let rows = rows.into_iter().chain(changes.map(|changes| {
        let bytes = changed(changes);
        let b = image_of(&bytes, 64 << 10);
        let mut wanted: Vec<Range<u64>> = Vec::new();
        for (at, _) in changes {
            let (one, other) = (run_at(&a, *at as u64 * 1024), run_at(&b, *at as u64 * 1024));
            let part = one.start.max(other.start)..one.end.min(other.end);
            match wanted.last_mut() {
                Some(last) if last.end >= part.start => last.end = part.end,
                _ => wanted.push(part),
            }
        }
        (bytes, wanted)
    }));
    for (bytes, wanted) in rows {
        let b = image_of(&bytes, 64 << 10);
        assert_eq!(ranges(&a, &b), wanted);
        assert_eq!(ranges(&b, &a), wanted);
    }
}

/// The run that holds this byte of the disk.
fn run_at(image: &Image, at: u64) -> Range<u64> {
    image.runs_in(at..at + 1).next().unwrap().unwrap().range()
}

/// Members are read only where the runs are not aligned: with them damaged, aligned indexes still compare.
#[test]
fn aligned_runs_are_compared_without_their_members() {
    let base = content(&[(2, 256), (1, 256)]);
    let mut other = base.clone();
    other[100_000] ^= 1;
    let damaged = |bytes: &[u8], chunk_size| {
        let disk = MemDisk::new("sda", bytes.to_vec(), 512);
        let (mut file, _) = back_up(&disk, &BackupOptions { chunk_size, ..small() }).unwrap();
        let runs: Vec<Run> = open(&file).unwrap().runs().map(Result::unwrap).collect();
        for run in runs {
            file[run.position as usize..run.position as usize + run.member_length as usize].fill(0xff);
        }
        open(&file).unwrap()
    };
    let (a, b) = (damaged(&base, 64 << 10), damaged(&other, 64 << 10));
    let run = run_at(&a, 100_000);
    assert_eq!(run, run_at(&b, 100_000), "another byte than this one, which moves no cut");
    assert_eq!(ranges(&a, &b), [run]);
    let result = diff(&a, &damaged(&base, 32 << 10), &Progress::new(), |_| Ok(()));
    assert!(matches!(result, Err(e) if e.kind == ErrorKind::Corrupt));
}

/// Sectors that could not be read are unknown: equal only to their like.
#[test]
fn unreadable_ranges_differ_from_zeros() {
    let bytes = content(&[(2, 64), (0, 64), (2, 64)]);
    let image = |bad: bool| {
        let disk = MemDisk::new("sda", bytes.clone(), 512);
        if bad {
            disk.inject(DiskOp::Read, 70 << 10..71 << 10, DiskFault::Errno(libc::EIO), u64::MAX);
        }
        open(&back_up(&disk, &BackupOptions { allow_bad_sectors: true, ..small() }).unwrap().0).unwrap()
    };
    assert_eq!(ranges(&image(false), &image(true)), [70 << 10..71 << 10]);
    assert_eq!(ranges(&image(true), &image(true)), []);
}

#[test]
fn the_content_of_an_image_reads_as_the_disk() {
    use crate::io::ReadAt;
    let bytes = content(&[(2, 100), (0, 100), (1, 100)]);
    let image = image_of(&bytes, 64 << 10);
    for at in [0, 1, 65_000, bytes.len() - 10, bytes.len(), bytes.len() + 5] {
        let mut buf = vec![7; 70_000];
        let n = image.content().read_at(&mut buf, at as u64).unwrap();
        let wanted = &bytes[at.min(bytes.len())..(at + 70_000).min(bytes.len())];
        assert!(n == wanted.len() && buf[..n] == *wanted, "at {at}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_differing_byte_is_in_a_range_and_every_range_has_one(
        pieces in proptest::collection::vec((0u8..3, 1usize..300), 1..6),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), 1usize..100_000, 0u8..3), 0..4),
        chunks in prop::sample::subsequence(vec![4096u32, 16 << 10, 256 << 10], 1..3),
    ) {
        let one = content(&pieces);
        let mut other = one.clone();
        for (at, len, what) in changes {
            let at = at.index(other.len());
            let end = other.len().min(at + len);
            match what {
                0 => other[at..end].fill(0),
                1 => other[at..end].copy_from_slice(&noise(len as u64, end - at)),
                _ => other.truncate((at / 512 + 1) * 512),
            }
        }
        let (a, b) = (image_of(&one, chunks[0]), image_of(&other, chunks[chunks.len() - 1]));
        let found = ranges(&a, &b);
        let same = |i: usize| one.get(i) == other.get(i);
        let mut inside = vec![false; one.len()];
        for range in &found {
            let range = range.start as usize..range.end as usize;
            prop_assert!(range.clone().any(|i| !same(i)), "{:?} is equal", range);
            inside[range].fill(true);
        }
        prop_assert!((0..one.len()).all(|i| same(i) || inside[i]));
        prop_assert!(found.windows(2).all(|w| w[0].end < w[1].start), "in order and joined");
    }
}
