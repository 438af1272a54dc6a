//! An image file that becomes another one while it is restored: by whoever can write to the share.

use super::*;
use crate::io::ReadAt;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Gives one file for so many reads, and another one after that.
struct Swapped {
    files: [Vec<u8>; 2],
    reads: AtomicUsize,
    after: usize,
}

impl ReadAt for Swapped {
    fn size(&self) -> std::io::Result<u64> {
        Ok(self.files[0].len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let file = usize::from(self.reads.fetch_add(1, SeqCst) >= self.after);
        self.files[file].read_at(buf, offset)
    }
}

/// Both files are whole, have right hashes and the same shape: only the root hash tells them apart. Whenever the second, or
/// one that was forged with both, takes the place of the first, not one byte of it comes onto the disk.
#[test]
fn not_one_byte_of_another_image_than_the_opened_one_is_written() {
    let opts = BackupOptions { threads: 1, chunk_size: 256 << 10, ..small() };
    // Longer than what makes a disk bootable at both its ends, which stays in memory to the end. Bytes that do not
    // compress: members of the same length in both, so that the places are the same too.
    let len = 6 * MIB;
    let contents = [1, 2].map(|seed| uncut_noise(seed, len));
    let files = contents.clone().map(|bytes| back_up(&MemDisk::new("sda", bytes, 512), &opts).unwrap().0);
    assert_eq!(files[0].len(), files[1].len());
    // Each member says its hash itself: the third file has the second's bytes below the first's words.
    let mut forged = files[1].clone();
    for run in open(&files[0]).unwrap().runs() {
        let at = run.unwrap().position as usize;
        let words = at..at + member::FRAME + member::RUN_PAYLOAD;
        forged[words.clone()].copy_from_slice(&files[0][words]);
    }
    for second in [&files[1], &forged] {
        swap_at_every_read([&files[0], second], &contents[0], len);
    }
}

fn swap_at_every_read(files: [&Vec<u8>; 2], content: &[u8], len: usize) {
    let files = files.map(Clone::clone);
    let root_hash = open(&files[0]).unwrap().summary().root_hash;
    let before = noise(3, len);
    let zeros = vec![0; 4096];
    let mut after = 0;
    loop {
        let file = Arc::new(Swapped { files: files.clone(), reads: AtomicUsize::new(0), after });
        let target = MemDisk::new("sdb", before.clone(), 512);
        // The caller's check: the root hash is the one that the record names.
        let image = Image::open(file.clone()).ok().filter(|image| image.summary().root_hash == root_hash);
        let restored = image.map(|image| {
            // Without memory to keep them in, members are read a second time when they are written.
            let memory = MemberMemory::of(0);
            let options = RestoreOptions { threads: 1, memory, ..Default::default() };
            restore(&image, &target, &options, &Progress::new())
        });
        let now = target.content();
        for (at, block) in now.chunks(4096).enumerate() {
            let place = at * 4096..(at + 1) * 4096;
            let is_known = [&before[place.clone()], &content[place], &zeros].contains(&block);
            assert!(is_known, "after {after} reads: block {at} is of neither");
        }
        if matches!(restored, Some(Ok(_))) {
            assert!(now == content, "after {after} reads");
        }
        if file.reads.load(SeqCst) < after {
            break;
        }
        after += 1;
    }
    assert!(after > 12, "only {after} places were tried");
}
