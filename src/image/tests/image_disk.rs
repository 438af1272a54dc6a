//! Random access to the disk of an image.

use super::*;
use crate::image::{ImageDisk, RUN_CACHE, Unreadable, unpack};
use std::sync::Mutex;

fn image_disk(file: &[u8], unreadable: Unreadable) -> ImageDisk {
    ImageDisk::new(Box::new(open(file).unwrap()), unreadable, Progress::new())
}

/// Some bad sectors, zeros, and data of all kinds.
fn degraded() -> (Vec<u8>, Vec<u8>, Range<usize>) {
    let mut bytes = content(&[(1, 300), (0, 700), (2, 200), (1, 100), (0, 2000), (1, 33)]);
    let bad = 100 * 1024..108 * 1024;
    let disk = MemDisk::new("sda", bytes.clone(), 512);
    disk.inject(DiskOp::Read, bad.start as u64..bad.end as u64, DiskFault::Errno(libc::EIO), u64::MAX);
    let (file, written) = back_up(&disk, &BackupOptions { allow_bad_sectors: true, ..small() }).unwrap();
    assert_eq!(written.unreadable_bytes as usize, bad.len());
    bytes[bad.clone()].fill(0);
    (bytes, file, bad)
}

/// A read gives all of what it asks for, or nothing; where data and holes are is told as it is.
#[test]
fn any_read_gives_the_bytes_of_the_disk_or_an_error() {
    let (bytes, file, bad) = degraded();
    let size = bytes.len();
    let (strict, lenient) = (image_disk(&file, Unreadable::Fails), image_disk(&file, Unreadable::Zeros));
    let places = noise(3, 16 * 400);
    let numbers: Vec<usize> =
        places.chunks_exact(8).map(|n| u64::from_le_bytes(n.try_into().unwrap()) as usize).collect();
    for two in numbers.chunks_exact(2) {
        let at = two[0] % (size + 2000);
        let mut buf = vec![0xee; two[1] % 150_000];
        let range = at..at + buf.len();
        let read = strict.read(&mut buf, at as u64);
        let is_bad = range.start < bad.end && bad.start < range.end;
        assert_eq!(read.is_ok(), range.end <= size && !is_bad, "{range:?}: {read:?}");
        if range.end <= size {
            lenient.read(&mut buf, at as u64).unwrap();
            assert!(buf == bytes[range]);
        }
    }
    let error = strict.read(&mut [0; 512], bad.start as u64).unwrap_err();
    assert!(error.to_string().contains("did not give its bytes 102400 to 110592"), "{error}");
    assert_eq!(strict.read(&mut [], size as u64).map_err(|e| e.kind), Ok(()));

    assert_eq!(strict.next_data(size as u64).unwrap(), None);
    let (mut at, mut data) = (0, 0);
    while let Some(start) = strict.next_data(at).unwrap() {
        assert!(bytes[at as usize..start as usize].iter().all(|byte| *byte == 0));
        at = strict.next_hole(start).unwrap().unwrap_or(size as u64);
        data += at - start;
    }
    assert!((633 << 10..700 << 10).contains(&data), "{data}");
}

/// What is remembered has a bound, and what was used last stays.
#[test]
fn what_is_remembered_is_bounded() {
    let bytes = noise(5, RUN_CACHE + RUN_CACHE / 4);
    let disk = MemDisk::new("sda", bytes.clone(), 512);
    let (file, _) = back_up(&disk, &BackupOptions { chunk_size: 1 << 20, ..small() }).unwrap();
    let progress = Progress::new();
    let disk = ImageDisk::new(Box::new(open(&file).unwrap()), Unreadable::Fails, progress.clone());
    let inflated = || progress.done.load(std::sync::atomic::Ordering::Relaxed) as usize;
    let mut buf = vec![0; MIB];
    for at in (0..bytes.len()).step_by(MIB) {
        disk.read(&mut buf, at as u64).unwrap();
        assert!(buf == bytes[at..at + MIB]);
        assert!(disk.cached() <= RUN_CACHE);
    }
    assert!(disk.cached() > RUN_CACHE / 2);
    assert_eq!(inflated(), bytes.len());
    disk.read(&mut buf, (bytes.len() - MIB) as u64).unwrap();
    assert_eq!(inflated(), bytes.len(), "the last is remembered");
    disk.read(&mut buf, 0).unwrap();
    assert!(inflated() > bytes.len(), "the first is not");
    progress.cancel();
    assert_eq!(disk.read(&mut buf, 0).unwrap_err().kind, ErrorKind::Cancelled);
}

#[test]
fn unpacking_writes_what_is_not_zero_and_nothing_damaged() {
    let (mut bytes, ..) = degraded();
    bytes[2 << 10..30 << 10].fill(0);
    let disk = MemDisk::new("sda", bytes.clone(), 512);
    let (mut file, _) = back_up(&disk, &small()).unwrap();
    let out = Mutex::new((vec![0; bytes.len()], 0));
    let write = |part: &[u8], at: u64| {
        let mut out = out.lock().unwrap();
        out.0[at as usize..at as usize + part.len()].copy_from_slice(part);
        out.1 += part.len();
        Ok(())
    };
    unpack(&open(&file).unwrap(), 3, &Progress::new(), write).unwrap();
    let (unpacked, count) = out.into_inner().unwrap();
    assert!(unpacked == bytes);
    let filled = bytes.chunks(4096).filter(|block| block.iter().any(|byte| *byte != 0));
    assert_eq!(count, filled.map(<[u8]>::len).sum::<usize>());
    let image = open(&file).unwrap();
    let run = image.runs().map(Result::unwrap).filter(|run| run.kind == MemberKind::Data).nth(3).unwrap();
    file[run.position as usize + run.member_length as usize / 2] ^= 1;
    let error = unpack(&open(&file).unwrap(), 3, &Progress::new(), |_, _| Ok(())).unwrap_err();
    assert_eq!((error.kind, error.offset), (ErrorKind::Corrupt, Some(run.position)));
    let full = |_: &[u8], _: u64| Err(std::io::ErrorKind::StorageFull.into());
    let error = unpack(&image, 3, &Progress::new(), full).unwrap_err();
    assert_eq!((error.kind, error.op), (ErrorKind::Io, ImageOp::Write));
}
