//! A backup counts once it was read back; what it took over unread and that is bad costs a second attempt, no more.

use super::*;
use crate::io::{ReadAt, SyncWrite};
use std::cell::{Cell, RefCell};
use std::io;
use std::sync::Mutex;

/// A file in memory. What is read back of it can be another one.
#[derive(Default)]
struct MemFile {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// What the first attempts read back instead.
    swapped: RefCell<Vec<Vec<u8>>>,
    passes: RefCell<Vec<Pass>>,
    discarded: Cell<u32>,
}

struct Sink(Arc<Mutex<Vec<u8>>>);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SyncWrite for Sink {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn append_from(&mut self, from: &dyn ReadAt, range: Range<u64>) -> io::Result<u64> {
        self.0.lock().unwrap().append_from(from, range)
    }
}

impl BackupFile for MemFile {
    fn during<T>(&self, pass: Pass, work: impl FnOnce(&Progress) -> T) -> T {
        self.passes.borrow_mut().push(pass);
        work(&Progress::new())
    }

    fn begin(&self) -> io::Result<(Box<dyn SyncWrite>, Option<Part>)> {
        self.bytes.lock().unwrap().clear();
        Ok((Box::new(Sink(self.bytes.clone())), None))
    }

    fn written(&self, _: &Written) {}

    fn reopen(&self) -> io::Result<Arc<dyn ReadAt>> {
        let swapped = self.swapped.borrow_mut().pop();
        Ok(Arc::new(swapped.unwrap_or_else(|| self.bytes.lock().unwrap().clone())))
    }

    fn discard(&self, _: &ImageError) -> io::Result<()> {
        self.discarded.set(self.discarded.get() + 1);
        Ok(())
    }
}

/// Backs a disk up with the base, which may be damaged.
fn make(file: &MemFile, disk: &MemDisk, base: Option<&[u8]>) -> Result<(Written, Image), ImageError> {
    let about = DiskAbout::new("sda", Identity::default(), disk);
    let base = base.map(|base| Arc::new(open(base).unwrap()));
    backup_verified(disk, &about, &small(), base, ReadBack::TrustBase, file)
}

fn disk() -> MemDisk {
    MemDisk::new("sda", content(&[(2, 200), (0, 64), (1, 200)]), 512)
}

#[test]
fn a_bad_member_of_the_base_costs_a_second_proving_attempt() {
    let disk = disk();
    let (mut base, _) = back_up(&disk, &small()).unwrap();
    let file = MemFile::default();
    let (written, image) = make(&file, &disk, Some(&base)).unwrap();
    assert_eq!((file.discarded.get(), written.bad_base), (0, None));
    assert!(written.unread_bytes > 0, "a good base is taken over unread");
    assert_eq!(image.summary().root_hash, written.root_hash);

    let run =
        open(&base).unwrap().runs().map(Result::unwrap).find(|run| run.kind == MemberKind::Data).unwrap();
    base[run.position as usize + 4000] ^= 1;
    let file = MemFile::default();
    let (written, _) = make(&file, &disk, Some(&base)).unwrap();
    assert_eq!((file.discarded.get(), written.retaken_bad, written.unread_bytes), (1, 1, 0));
    assert_eq!(*file.passes.borrow(), [Pass::Write, Pass::ReadBack, Pass::Write, Pass::ReadBack]);
    assert!(check(&file.bytes.lock().unwrap()).is_ok());
}

#[test]
fn what_reads_back_as_another_whole_image_is_no_backup() {
    let (disk, other) = (disk(), MemDisk::new("sda", content(&[(1, 464)]), 512));
    let (base, _) = back_up(&disk, &small()).unwrap();
    let (other, _) = back_up(&other, &small()).unwrap();
    // What was taken over may be why, once; what was made from the disk may not.
    for (base, attempts) in [(None, 1), (Some(&base[..]), 2)] {
        let file = MemFile::default();
        *file.swapped.borrow_mut() = vec![other.clone(); 2];
        let error = make(&file, &disk, base).map(drop).unwrap_err();
        assert_eq!((error.kind, error.op), (ErrorKind::Corrupt, crate::image::ImageOp::ReadBack), "{error}");
        assert_eq!(file.discarded.get() + 1, attempts);
    }
}

#[test]
fn an_error_of_the_disk_is_no_reason_to_make_an_image_again() {
    let disk = disk();
    let (base, _) = back_up(&disk, &small()).unwrap();
    disk.inject(DiskOp::Read, 0..4096, DiskFault::Errno(libc::EIO), u64::MAX);
    let file = MemFile::default();
    let error = make(&file, &disk, Some(&base)).map(drop).unwrap_err();
    assert!(error.is_bad_sector() && file.discarded.get() == 0, "{error}");
    assert_eq!(*file.passes.borrow(), [Pass::Write]);
}

#[test]
fn without_reading_back_there_is_one_pass() {
    let (disk, file) = (disk(), MemFile::default());
    let about = DiskAbout::new("sda", Identity::default(), &disk);
    let written = backup_unverified(&disk, &about, &small(), None, &file).unwrap();
    assert_eq!(*file.passes.borrow(), [Pass::Write]);
    assert_eq!(check(&file.bytes.lock().unwrap()).unwrap().root_hash, written.root_hash);
}
