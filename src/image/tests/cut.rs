//! Runs are cut by content: the same everywhere, whatever the windows in which the disk is read.

use super::again::{again, mem_disk, on, with_id};
use super::*;
use crate::image::format::member::UNIT;

/// Where data runs end, written down once more, for a disk that is in memory and of whole blocks.
fn expected(bytes: &[u8], chunk: usize) -> Vec<(MemberKind, Range<u64>)> {
    let (least, average) = ((chunk / 16).max(UNIT), (chunk / 4).max(UNIT));
    let is_zero = |at: usize| bytes[at..at + UNIT].iter().all(|byte| *byte == 0);
    let zeros_from = |at: usize| (at..bytes.len()).step_by(UNIT).take_while(|at| is_zero(*at)).count() * UNIT;
    let may_end = |at: usize| {
        twox_hash::XxHash64::oneshot(0, &bytes[at..at + UNIT]).is_multiple_of((average / UNIT) as u64)
    };
    let (mut runs, mut start) = (Vec::new(), 0);
    while start < bytes.len() {
        let zeros = zeros_from(start);
        let (kind, end) = if zeros >= average {
            (MemberKind::Zero, start + zeros)
        } else {
            let mut end = start;
            loop {
                let may_end = !is_zero(end) && may_end(end);
                end += UNIT;
                let length = end - start;
                if end == bytes.len() || length == chunk || may_end && length >= least {
                    break;
                }
                // Only if these zeros fit in front of the longest run's end, the run ends before them.
                let is_first = !is_zero(end - UNIT);
                if is_first && zeros_from(end) >= average && length + average <= chunk {
                    break;
                }
            }
            let kind = if bytes[start..end].iter().all(|byte| *byte == 0) {
                MemberKind::Zero
            } else {
                MemberKind::Data
            };
            (kind, end)
        };
        match runs.last_mut() {
            Some((MemberKind::Zero, range)) if kind == MemberKind::Zero => {
                let range: &mut Range<u64> = range;
                range.end = end as u64;
            }
            _ => runs.push((kind, start as u64..end as u64)),
        }
        start = end;
    }
    runs
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn runs_end_where_the_content_says_whatever_the_windows(
        pieces in prop::collection::vec((0u8..3, 1usize..150), 1..12),
        chunk in prop::sample::select(vec![4096usize, 16 << 10, 64 << 10, 256 << 10]),
    ) {
        let blocks: Vec<_> = pieces.into_iter().map(|(what, blocks)| (what, blocks * 4)).collect();
        let bytes = content(&blocks);
        let (file, _) = back_up(&mem_disk(&bytes), &BackupOptions { chunk_size: chunk as u32, ..small() }).unwrap();
        let runs = open(&file).unwrap().runs().map(|run| run.map(|run| (run.kind, run.range()))).collect::<Result<Vec<_>, _>>();
        prop_assert_eq!(runs.unwrap(), expected(&bytes, chunk));
        prop_assert!(gunzip(&file) == bytes);
    }
}

/// The base has the same data at another place: its members are taken, and the image is the one of a whole backup.
#[test]
fn what_has_moved_is_taken_from_the_base() {
    let body = content(&[(1, 3000), (2, 300), (0, 500), (1, 2000)]);
    let (base, _) = back_up(&mem_disk(&body), &with_id(1)).unwrap();
    for before in [noise(77, 300 << 10), vec![0; 4096], content(&[(2, 12)])] {
        let moved = [&before[..], &body[..2 << 20], &noise(78, 64 << 10), &body[2 << 20..]].concat();
        let disk = mem_disk(&moved);
        for prove_base in [false, true] {
            let earlier = Earlier { prove_base, ..on(&base) };
            let (file, written) = again(&disk, Vec::new(), &with_id(2), &earlier).unwrap();
            assert!(file == back_up(&disk, &with_id(2)).unwrap().0);
            assert_eq!(written.bad_base, None);
            assert_eq!(written.unread_bytes, if prove_base { 0 } else { written.taken_bytes });
            // All data but what stands round the four places where something else begins.
            let data = 5300 << 10;
            assert!(written.taken_bytes >= data - 6 * (64 << 10), "{} of {data}", written.taken_bytes);
            verify_again(&open(&file).unwrap(), &open(&base).unwrap(), 2, &Progress::new()).unwrap();
        }
    }
}

/// A file that counts how often it was told to copy.
struct Copies(Vec<u8>, usize);

impl std::io::Write for Copies {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl crate::io::SyncWrite for Copies {
    fn sync(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    fn append_from(&mut self, from: &dyn crate::io::ReadAt, range: Range<u64>) -> std::io::Result<u64> {
        self.1 += 1;
        self.0.append_from(from, range)
    }
}

/// A file server may have to write out both files for each call.
#[test]
fn an_unchanged_disk_is_copied_in_one_call() {
    let opts = |id| BackupOptions { chunk_size: 16 << 10, ..with_id(id) };
    let mut bytes = noise(9, 8 << 20);
    let disk = mem_disk(&bytes);
    let (base, _) = back_up(&disk, &opts(1)).unwrap();
    assert!(open(&base).unwrap().summary().runs > 1500, "several index members");
    let copies = |disk: &MemDisk| {
        let (mut file, about) = (Copies(Vec::new(), 0), DiskAbout::new("sda", Identity::default(), disk));
        backup_again(disk, &mut file, &about, &opts(2), &on(&base), &Progress::new()).unwrap();
        assert!(file.0 == back_up(disk, &opts(2)).unwrap().0);
        file.1
    };
    assert_eq!(copies(&disk), 1);
    bytes[5 << 20] ^= 1;
    let changed = copies(&mem_disk(&bytes));
    assert!((2..20).contains(&changed), "{changed} calls");
}

/// Members of a base that is damaged where the moved data stands are made from the disk.
#[test]
fn what_has_moved_and_is_damaged_in_the_base_is_made_again() {
    let body = noise(5, 2 << 20);
    let (mut base, _) = back_up(&mem_disk(&body), &with_id(1)).unwrap();
    let runs: Vec<Run> = open(&base).unwrap().runs().map(Result::unwrap).collect();
    base[runs[10].position as usize + 100] ^= 1;
    let disk = mem_disk(&[&noise(6, 200 << 10)[..], &body].concat());
    let earlier = Earlier { prove_base: true, ..on(&base) };
    let (file, written) = again(&disk, Vec::new(), &with_id(2), &earlier).unwrap();
    assert!(file == back_up(&disk, &with_id(2)).unwrap().0);
    assert_eq!(written.retaken_bad, 1);
    assert!(written.taken_bytes > 1 << 20);
}
