//! What rests on the order of operations or on one comparison alone, so that a test of results does not miss it.

use super::again::{again, with_id};
use super::*;
use crate::block::BlockDevice;
use crate::image::restore::foreign;
use std::io::Write;

/// Every byte that is read back was flushed before: a disk's cache would give what it may lose.
fn assert_flushed_before_read(disk: &MemDisk, what: &str) {
    let mut unflushed: Vec<Range<u64>> = Vec::new();
    let mut read_back = 0;
    for (op, offset, len) in disk.log() {
        let range = offset..offset + len;
        match op {
            DiskOp::Write | DiskOp::Zero => unflushed.push(range),
            DiskOp::Flush => unflushed.clear(),
            DiskOp::Read => {
                let early = unflushed.iter().find(|w| w.start < range.end && range.start < w.end);
                assert!(early.is_none(), "{what}: {range:?} was read back before it was flushed");
                read_back += len;
            }
            _ => {}
        }
    }
    assert!(read_back >= disk.size(), "{what}: only {read_back} bytes were read back");
    assert!(unflushed.is_empty(), "{what}: {unflushed:?} was never flushed");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn nothing_is_read_back_before_it_was_flushed() {
    let bytes = content(&[(1, 3000), (0, 1000), (1, 2000)]);
    let (file, _) = back_up(&MemDisk::new("sda", bytes.clone(), 512), &small()).unwrap();
    let image = open(&file).unwrap();
    for (rotational, batch) in [(false, 128 << 10), (false, 1 << 20), (true, 128 << 10), (true, u64::MAX)] {
        let disk = MemDisk::new("sdb", vec![0xaa; bytes.len()], 512);
        disk.set_rotational(rotational);
        let options = RestoreOptions { delta: Delta::Never, batch: Some(batch), ..RestoreOptions::default() };
        restore(&image, &disk, &options, &Progress::new()).unwrap();
        assert_flushed_before_read(&disk, &format!("rotational {rotational}, batch {batch}"));
    }
    let file = gzip(&bytes);
    let content = foreign::measure(&file, bytes.len() as u64, &Progress::new()).unwrap();
    let disk = MemDisk::new("sdb", vec![0xaa; bytes.len()], 512);
    foreign::restore(&file, &content, &disk, &Progress::new()).unwrap();
    assert_flushed_before_read(&disk, "gzip");
}

/// A stale backup GPT at the end of a larger disk would boot, or come back.
#[test]
fn the_end_of_a_larger_disk_is_zeroed_and_no_gap_before_it() {
    let bytes = content(&[(1, 3000)]);
    let (file, _) = back_up(&MemDisk::new("sda", bytes.clone(), 512), &small()).unwrap();
    let image = open(&file).unwrap();
    let gzip = gzip(&bytes);
    let measured = foreign::measure(&gzip, 1 << 30, &Progress::new()).unwrap();
    for larger in [512, 4096, MIB - 512, MIB, MIB + 512, 3 * MIB] {
        for own in [true, false] {
            let disk = MemDisk::new("sdb", vec![0xaa; bytes.len() + larger], 512);
            match own {
                true => restore(&image, &disk, &RestoreOptions::default(), &Progress::new()).unwrap(),
                false => foreign::restore(&gzip, &measured, &disk, &Progress::new()).unwrap(),
            };
            let found = disk.durable();
            let zeroed = larger.min(MIB);
            let (gap, end) = found[bytes.len()..].split_at(larger - zeroed);
            assert!(found[..bytes.len()] == bytes, "{larger}, own {own}");
            assert!(gap.iter().all(|byte| *byte == 0xaa), "{larger}, own {own}: the gap was written");
            assert!(end.iter().all(|byte| *byte == 0), "{larger}, own {own}: the end was not zeroed");
        }
    }
}

/// The own reader takes the one set of flags that a member is written with.
#[test]
fn flags_that_no_member_has_make_an_image_damaged() {
    let (file, _) = back_up(&MemDisk::new("sda", content(&[(2, 300)]), 512), &small()).unwrap();
    let image = open(&file).unwrap();
    let members: Vec<usize> = image.runs().map(|run| run.unwrap().position as usize).collect();
    for at in [0].into_iter().chain(members) {
        for bit in 0..8 {
            let mut bad = file.clone();
            bad[at + 3] ^= 1 << bit;
            assert!(check(&bad).is_err(), "byte {at}, bit {bit}");
        }
    }
}

/// What was on its way when the power went may have arrived in part: the index of the file lists a member of which only
/// the head is there. Those near the end are made again and compared, by default.
#[test]
fn members_near_the_end_of_a_cut_part_are_not_taken_on_trust() {
    let disk = MemDisk::new("sda", noise(1, 5 * MIB), 512);
    let opts = BackupOptions { chunk_size: 16 << 10, ..with_id(3) };
    let (full, _) = back_up(&disk, &opts).unwrap();
    let image = open(&full).unwrap();
    let runs: Vec<_> = image.runs().map(Result::unwrap).collect();
    for nth in [0, 1, 100, 200] {
        let mut part = full[..full.len() - MIB].to_vec();
        let run = &runs[nth];
        let end = (run.position + u64::from(run.member_length)) as usize;
        part[end - 5000..end].fill(0);
        let earlier = Earlier { part: Some(Part::new(Arc::new(part.clone()))), ..Earlier::default() };
        let (file, _) = again(&disk, part, &opts, &earlier).unwrap();
        assert!(file == full, "member {nth} is torn in the new image");
    }
}
