//! A restore reads of its image what the disk lacks, once, and before it writes anything.

use super::*;
use crate::block::BlockDevice;
use crate::image::phases::CheckedTarget;
use crate::io::ReadAt;
use crate::types::ReadTwice;
use std::io;
use std::sync::Mutex;

/// An image file that notes what is read of it.
struct Counted {
    bytes: Vec<u8>,
    reads: Mutex<Vec<Range<u64>>>,
}

impl ReadAt for Counted {
    fn size(&self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let n = self.bytes.read_at(buf, offset)?;
        self.reads.lock().unwrap().push(offset..offset + n as u64);
        Ok(n)
    }
}

impl Counted {
    fn new(bytes: &[u8]) -> Arc<Self> {
        Arc::new(Counted { bytes: bytes.to_vec(), reads: Mutex::default() })
    }

    fn read(&self) -> u64 {
        self.reads.lock().unwrap().iter().map(|read| read.end - read.start).sum()
    }

    /// How often a byte was read.
    fn times(&self, at: u64) -> usize {
        self.reads.lock().unwrap().iter().filter(|read| read.contains(&at)).count()
    }
}

fn runs(image: &Image) -> Vec<Run> {
    image.runs().map(Result::unwrap).collect()
}

/// Data members that the disk lacks, and those that reach into its ends, which are read in any case.
fn needed(image: &Image, wanted: &[u8], found: &[u8]) -> Vec<Run> {
    let body = MIB as u64..(wanted.len() - MIB) as u64;
    let is_needed = |run: &Run| {
        let at = run.offset as usize..run.range().end as usize;
        run.offset < body.start || run.range().end > body.end || wanted[at.clone()] != found[at]
    };
    runs(image).into_iter().filter(|run| run.kind == MemberKind::Data && is_needed(run)).collect()
}

fn bytes_of(runs: &[Run]) -> u64 {
    runs.iter().map(|run| u64::from(run.member_length)).sum()
}

/// All of the file but members of runs.
fn index_bytes(image: &Image) -> u64 {
    image.summary().image - bytes_of(&runs(image))
}

fn changed(bytes: &[u8], places: &[(usize, usize)]) -> Vec<u8> {
    let mut found = bytes.to_vec();
    places.iter().for_each(|(at, len)| found[*at..at + len].iter_mut().for_each(|byte| *byte ^= 0x55));
    found
}

/// A disk of which no two places are alike, and its image.
fn imaged(kib: usize) -> (Vec<u8>, Vec<u8>) {
    let mut bytes = content(&[(2, kib / 2), (1, kib / 8), (0, 1200), (2, kib / 8), (1, kib / 4)]);
    for (at, block) in bytes.chunks_mut(8192).enumerate().filter(|(_, block)| !crate::io::is_zero(block)) {
        block[..8].copy_from_slice(&at.to_le_bytes());
    }
    let file = back_up(&MemDisk::new("sda", bytes.clone(), 512), &small()).unwrap().0;
    (bytes, file)
}

fn options() -> RestoreOptions {
    RestoreOptions { threads: 2, memory: MemberMemory::of(1 << 30), ..RestoreOptions::default() }
}

#[test]
fn one_percent_changed_costs_its_members_and_the_index_once() {
    let (bytes, file) = imaged(64 << 10);
    let places = [(5 << 20, 256 << 10), ((33 << 20) + 4096, 256 << 10), (50 << 20, 128 << 10)];
    let found = changed(&bytes, &places);
    let file = Counted::new(&file);
    let image = Image::open(file.clone()).unwrap();
    let (needed, index) = (needed(&image, &bytes, &found), index_bytes(&image));
    file.reads.lock().unwrap().clear();
    let disk = MemDisk::new("sdb", found, 512);
    let restored = restore(&image, &disk, &options(), &Progress::new()).unwrap();
    assert!(disk.durable() == bytes);
    let (read, bound) = (file.read(), index + bytes_of(&needed));
    assert!(read * 10 <= bound * 11, "{read} bytes were read, {bound} are needed");
    for run in runs(&image).iter().filter(|run| run.kind == MemberKind::Data) {
        let times = usize::from(needed.contains(run));
        assert_eq!(file.times(run.position), times, "member at {}", run.position);
        assert_eq!(file.times(run.place().end - 1), times, "member at {}", run.position);
    }
    let written: usize = places.iter().map(|(_, len)| len).sum();
    assert_eq!(restored.written_bytes as usize, written + 2 * MIB);
    assert_eq!(restored.image_bytes, image.summary().image);
    assert!(restored.read_bytes >= read && restored.read_bytes < restored.image_bytes / 8);
}

/// Also where the disk is larger, and where what is unallocated is something else.
#[test]
fn a_second_restore_writes_nothing_and_reads_each_byte_once() {
    let (bytes, _) = imaged(6 << 10);
    let free = [600 << 10..700 << 10, 2 << 20..3 << 20];
    let file = back_up(&used::disk_of(&bytes), &used::with(&free, &small())).unwrap().0;
    let image = open(&file).unwrap();
    for (extra, free_space) in
        [(0, FreeSpace::Leave), (0, FreeSpace::Zero), (0, FreeSpace::Discard), (3 * MIB, FreeSpace::Leave)]
    {
        let disk = MemDisk::new("sdb", noise(3, bytes.len() + extra), 512);
        let how = RestoreOptions { free: free_space, ..options() };
        restore(&image, &disk, &how, &Progress::new()).unwrap();
        let mut now = disk.durable();
        if extra == 0 && free_space != FreeSpace::Zero {
            now = used::filled(&now, &free, 0x77);
        }
        let again = MemDisk::new("sdb", now.clone(), 512);
        let restored = restore(&image, &again, &how, &Progress::new()).unwrap();
        let what = format!("{extra} {free_space}");
        assert!(again.log().iter().all(|l| matches!(l.0, DiskOp::Read | DiskOp::Flush)), "{what}");
        assert!(again.durable() == now, "{what}");
        assert_eq!((restored.written_bytes, restored.discarded_bytes), (0, 0), "{what}");
        let read: u64 = again.log().iter().map(|l| l.2).sum();
        assert!(read <= again.size(), "{what}: {read} bytes were read");
        // One byte in the first block, in the last, behind the end: each makes it a restore.
        for at in [510, bytes.len() - 1, now.len() - 1] {
            let disk = MemDisk::new("sdb", changed(&now, &[(at, 1)]), 512);
            let restored = restore(&image, &disk, &how, &Progress::new()).unwrap();
            assert!(restored.written_bytes >= 2 * MIB as u64, "{what}, byte {at}");
            assert!(disk.durable()[at] == now[at], "{what}, byte {at}");
        }
    }
}

#[test]
fn a_damaged_member_that_is_needed_stops_all_before_a_write() {
    let (bytes, file) = imaged(6 << 10);
    let found = changed(&bytes, &[(3 << 20, 5000)]);
    let image = open(&file).unwrap();
    let run = *needed(&image, &bytes, &found).iter().find(|run| run.range().contains(&(3 << 20))).unwrap();
    for memory in [0, 1 << 30] {
        for at in [run.position + 70, run.place().end - 2] {
            let mut bad = file.clone();
            bad[at as usize] ^= 1;
            let (whole, bad) = (open(&file).unwrap(), open(&bad).unwrap());
            let disks = [0, 1].map(|_| MemDisk::new("sdb", found.clone(), 512));
            let how = RestoreOptions { memory: MemberMemory::of(memory), ..options() };
            let bodies = [ImageBody::new(&whole, how.clone()), ImageBody::new(&bad, how)];
            let progress = Progress::new();
            let mut compared = disks.iter().zip(&bodies).map(|(disk, body)| {
                CheckedTarget::new(disk, body, &progress).and_then(|checked| checked.compare(&progress))
            });
            assert!(!compared.next().unwrap().unwrap().lacks_nothing());
            let error = compared.next().unwrap().err().unwrap();
            assert_eq!((error.kind, error.offset), (ErrorKind::Corrupt, Some(run.position)), "{error}");
            assert!(!error.disk_was_touched());
            for disk in &disks {
                assert!(disk.log().iter().all(|l| l.0 == DiskOp::Read), "{:?}", disk.log());
            }
        }
    }
}

/// The disk holds what the member would give.
#[test]
fn a_damaged_member_that_is_not_needed_stops_nothing() {
    let (bytes, mut file) = imaged(6 << 10);
    let found = changed(&bytes, &[(4 << 20, 5000)]);
    let image = open(&file).unwrap();
    let run = runs(&image).into_iter().find(|run| run.range().contains(&(2 << 20))).unwrap();
    file[run.position as usize + 100] ^= 1;
    assert!(check(&file).is_err());
    let disk = MemDisk::new("sdb", found, 512);
    restore(&open(&file).unwrap(), &disk, &options(), &Progress::new()).unwrap();
    assert!(disk.durable() == bytes);
}

#[test]
fn what_memory_does_not_hold_is_proven_and_read_again() {
    let (bytes, file) = imaged(8 << 10);
    for (memory, read_twice) in
        [(0, ReadTwice::Yes), (0, ReadTwice::No), (500_000, ReadTwice::Yes), (500_000, ReadTwice::No)]
    {
        for delta in [Delta::Auto, Delta::Always, Delta::Never] {
            let file = Counted::new(&file);
            let image = Image::open(file.clone()).unwrap();
            file.reads.lock().unwrap().clear();
            let disk = MemDisk::new("sdb", noise(3, bytes.len()), 512);
            let how = RestoreOptions { memory: MemberMemory::of(memory), read_twice, delta, ..options() };
            let restored = restore(&image, &disk, &how, &Progress::new()).unwrap();
            assert!(disk.durable() == bytes);
            let body = MIB as u64..(bytes.len() - MIB) as u64;
            let is_body = |run: &&Run| body.start <= run.offset && run.range().end <= body.end;
            let runs = runs(&image);
            let times: Vec<usize> = runs
                .iter()
                .filter(is_body)
                .filter(|run| run.kind == MemberKind::Data)
                .map(|run| file.times(run.position))
                .collect();
            let what = format!("{memory} {read_twice} {delta}: {times:?}");
            let most = if read_twice == ReadTwice::Yes { 2 } else { 1 };
            assert!(times.iter().all(|n| (1..=most).contains(n)), "{what}");
            let held = times.iter().filter(|n| **n == 1).count();
            assert_eq!(held > 0, memory > 0 || most == 1, "{what}");
            assert!(held < times.len() || most == 1, "{what}");
            assert!(restored.read_bytes > 0);
        }
    }
}

/// A disk that loses, with an error, what it has given before.
struct Forgets {
    disk: MemDisk,
    lost: Range<u64>,
}

impl BlockDevice for Forgets {
    fn name(&self) -> &str {
        self.disk.name()
    }

    fn size(&self) -> u64 {
        self.disk.size()
    }

    fn logical_block_size(&self) -> u32 {
        self.disk.logical_block_size()
    }

    fn physical_block_size(&self) -> u32 {
        self.disk.physical_block_size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let read = self.disk.read_at(buf, offset);
        if read.is_err() {
            let garbage = vec![0xee; (self.lost.end - self.lost.start) as usize];
            self.disk.write_at(&garbage, self.lost.start).unwrap();
        }
        read
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.disk.write_at(buf, offset)
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> io::Result<()> {
        self.disk.write_zeroes(offset, len)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.disk.discard(offset, len)
    }

    fn flush(&self) -> io::Result<()> {
        self.disk.flush()
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.disk.drop_cache()
    }

    fn reread_partition_table(&self) -> io::Result<()> {
        self.disk.reread_partition_table()
    }
}

#[test]
fn after_an_error_of_the_disk_what_was_kept_is_compared_again() {
    let (bytes, file) = imaged(24 << 10);
    let image = open(&file).unwrap();
    let lost = 2 << 20..(2 << 20) + 8192;
    // While it is compared, and while it is written; gone with a second try, or not.
    for (memory, changes) in
        [(1 << 30, vec![]), (1 << 30, vec![(21 << 20, 5000)]), (0, vec![(21 << 20, 5000)])]
    {
        for times in [1, 2] {
            let disk = MemDisk::new("sdb", changed(&bytes, &changes), 512);
            let late = (22 << 20)..(22 << 20) + 512;
            disk.inject(DiskOp::Read, late, DiskFault::Errno(libc::EIO), times);
            let disk = Forgets { disk, lost: lost.clone() };
            let how = RestoreOptions { memory: MemberMemory::of(memory), delta: Delta::Always, ..options() };
            restore(&image, &disk, &how, &Progress::new()).unwrap();
            assert!(disk.disk.durable() == bytes, "{memory} {changes:?} {times}");
        }
    }
    // An error that stays: the disk is not called right.
    let disk = MemDisk::new("sdb", bytes.clone(), 512);
    disk.inject(DiskOp::Read, 22 << 20..(22 << 20) + 512, DiskFault::Errno(libc::EIO), u64::MAX);
    let error = restore(&image, &disk, &options(), &Progress::new()).unwrap_err();
    assert!(error.disk_was_touched() && crate::io::is_zero(&disk.content()[..512]), "{error}");
}
