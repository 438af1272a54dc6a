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

/// Both files are whole, have right hashes and the same shape: only the root hash tells them apart. Whenever the second
/// takes the place of the first, not one byte of it comes onto the disk.
#[test]
fn not_one_byte_of_another_image_than_the_one_that_was_opened_is_written() {
    const KIB: usize = 1024;
    let opts = BackupOptions { threads: 1, ..small() };
    // Raw bytes that do not compress: members of the same length in both, so that the places are the same too.
    let contents = [1, 2].map(|seed| noise(seed, 512 * KIB));
    let files = contents.clone().map(|bytes| back_up(&MemDisk::new("sda", bytes, 512), &opts).unwrap().0);
    assert_eq!(files[0].len(), files[1].len());
    let root_hash = open(&files[0]).unwrap().summary().root_hash;
    let before = noise(3, 512 * KIB);
    let mut after = 0;
    loop {
        let file = Arc::new(Swapped { files: files.clone(), reads: AtomicUsize::new(0), after });
        let target = MemDisk::new("sdb", before.clone(), 512);
        // The caller's check: the root hash is the one that the record names.
        let image = Image::open(file.clone()).ok().filter(|image| image.summary().root_hash == root_hash);
        let restored = image.map(|image| {
            restore(&image, &target, &RestoreOptions { threads: 1, ..Default::default() }, &Progress::new())
        });
        let now = target.content();
        for (at, byte) in now.iter().enumerate() {
            let is_known = *byte == before[at] || *byte == contents[0][at] || *byte == 0;
            assert!(is_known, "after {after} reads: byte {at} is of neither");
        }
        if matches!(restored, Some(Ok(_))) {
            assert!(now == contents[0], "after {after} reads");
        }
        if file.reads.load(SeqCst) < after {
            break;
        }
        after += 1;
    }
    assert!(after > 10, "only {after} places were tried");
}
