//! A cut backup that has both: what it left, and the image before.

use super::again::{again, on, with_id};
use super::*;
use crate::block::BlockDevice;

/// How a part is looked at: by its index as far as that goes, or all of it as its tail.
fn earlier(base: &[u8], part: &[u8], tail: Option<u64>) -> Earlier {
    let mut part = Part::new(Arc::new(part.to_vec()));
    part.tail = tail.unwrap_or(part.tail);
    Earlier { part: Some(part), ..on(base) }
}

/// Bytes of disk in the data members of `full` that end before `cut`, and in all others that the base has, too.
fn parts_of(full: &[u8], base: &[u8], cut: usize) -> (u64, u64) {
    let hashes: Vec<_> = open(base).unwrap().runs().map(|run| run.unwrap().hash).collect();
    let (mut kept, mut taken) = (0, 0);
    for run in
        open(full).unwrap().runs().map(Result::unwrap).filter(|run| run.kind == member::MemberKind::Data)
    {
        if run.position + u64::from(run.member_length) <= cut as u64 {
            kept += run.length;
        } else if hashes.contains(&run.hash) {
            taken += run.length;
        }
    }
    (kept, taken)
}

#[test]
fn a_cut_backup_with_a_base_copies_only_what_is_not_there() {
    let opts = |id| BackupOptions { chunk_size: 64 << 10, ..with_id(id) };
    let before = content(&[(2, 500), (0, 300), (1, 500), (2, 600), (0, 64), (2, 1000)]);
    let (base, _) = back_up(&MemDisk::new("sda", before.clone(), 512), &opts(1)).unwrap();
    for places in [&[][..], &[40_000, 1_200_000][..]] {
        let mut after = before.clone();
        for at in places {
            after[*at..at + 9000].copy_from_slice(&noise(*at as u64, 9000));
        }
        let disk = MemDisk::new("sda", after, 512);
        let (full, _) = again(&disk, Vec::new(), &opts(2), &on(&base)).unwrap();
        let mut at = 0;
        while at < full.len() {
            at += member::parse(&full[at..]).unwrap().len;
            for (cut, tail) in [(at, None), (at, Some(0)), (at - 1, None)] {
                let part = full[..cut].to_vec();
                let (file, written) =
                    again(&disk, part.clone(), &opts(2), &earlier(&base, &part, tail)).unwrap();
                assert!(file == full, "cut at {cut}");
                let counted = (written.kept_bytes, written.taken_bytes);
                assert_eq!(counted, parts_of(&full, &base, cut), "cut at {cut}, tail {tail:?}, {places:?}");
            }
        }
    }
}

#[test]
fn a_wrong_byte_in_a_part_is_copied_anew_from_the_base() {
    let opts = |id| BackupOptions { chunk_size: 64 << 10, ..with_id(id) };
    let disk = MemDisk::new("sda", content(&[(2, 4096)]), 512);
    let (base, _) = back_up(&disk, &opts(1)).unwrap();
    let (full, _) = again(&disk, Vec::new(), &opts(2), &on(&base)).unwrap();
    for at in (4096..full.len() - 8192).step_by(9973) {
        let mut part = full.clone();
        part[at] ^= 1;
        let (file, written) = again(&disk, part.clone(), &opts(2), &earlier(&base, &part, None)).unwrap();
        assert!(file == full, "byte {at}");
        let member = open(&full)
            .unwrap()
            .runs()
            .map(Result::unwrap)
            .find(|run| run.position + u64::from(run.member_length) > at as u64);
        assert_eq!(written.kept_bytes, member.map_or(disk.size(), |run| run.offset), "byte {at}");
        assert_eq!(written.kept_bytes + written.taken_bytes, disk.size());
    }
}
