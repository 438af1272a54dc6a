//! What is zero in the members of zeros takes no room in a new file, and is not read from there.

use super::*;
use crate::block::sink::FileSink;
use crate::io::ReadAt;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A file that counts the bytes that are read of it.
struct Counted(File, AtomicU64);

impl ReadAt for Counted {
    fn size(&self) -> std::io::Result<u64> {
        ReadAt::size(&self.0)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
        self.1.fetch_add(buf.len() as u64, Relaxed);
        ReadAt::read_at(&self.0, buf, offset)
    }

    fn is_hole(&self, range: &Range<u64>) -> bool {
        self.0.is_hole(range)
    }
}

/// 300 MiB, a little of it data.
fn disk() -> MemDisk {
    let mut bytes = content(&[(2, 600)]);
    bytes.resize(300 * MIB, 0);
    bytes[200 * MIB..][..4096].fill(7);
    MemDisk::new("sda", bytes, 512)
}

fn written_to(path: &Path, disk: &MemDisk) -> Written {
    let mut sink = FileSink::new(File::create(path).unwrap());
    let about = DiskAbout::new("sda", Identity::default(), disk);
    let opts = BackupOptions { image_id: Some([7; 16]), ..BackupOptions::default() };
    backup(disk, &mut sink, &about, &opts, &Progress::new()).unwrap()
}

#[test]
fn zeros_cost_neither_room_nor_reading() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("sda.raw.gz");
    let disk = disk();
    let written = written_to(&path, &disk);
    let room = std::fs::metadata(&path).unwrap().blocks() * 512;
    assert!(written.hole_bytes >= 256 << 10, "{written:?}");
    assert!(room <= written.image_bytes - written.hole_bytes + (64 << 10), "{room}: {written:?}");
    for proof in [scrub, verify] {
        let file = Arc::new(Counted(File::open(&path).unwrap(), AtomicU64::new(0)));
        proof(&Image::open(file.clone()).unwrap(), 2, &Progress::new()).unwrap();
        let read = file.1.load(Relaxed);
        assert!(read <= written.image_bytes - written.hole_bytes + (64 << 10), "{read}: {written:?}");
    }
    assert!(gunzip(&std::fs::read(&path).unwrap()) == disk.content());
}

/// With the holes of the file, without any, and written where no file system is: one image, byte for byte.
#[test]
fn holes_of_the_file_change_no_byte_of_it() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("sda.raw.gz");
    let disk = disk();
    let written = written_to(&path, &disk);
    let opts = BackupOptions { image_id: Some([7; 16]), ..BackupOptions::default() };
    assert!(std::fs::read(&path).unwrap() == back_up(&disk, &opts).unwrap().0);
    for way in ["--sparse=never", "--sparse=always"] {
        let copy = temp.path().join(way);
        assert!(Command::new("cp").arg(way).args([&path, &copy]).status().unwrap().success());
        let image = Image::open(Arc::new(File::open(&copy).unwrap())).unwrap();
        assert_eq!(scrub(&image, 2, &Progress::new()).unwrap().root_hash, written.root_hash);
    }
}

/// A block of data that the share has lost reads as zeros, like a hole that belongs there.
#[test]
fn a_hole_in_a_data_member_or_a_head_is_damage() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("sda.raw.gz");
    written_to(&path, &disk());
    let image = Image::open(Arc::new(File::open(&path).unwrap())).unwrap();
    let runs: Vec<_> = image.runs().map(Result::unwrap).collect();
    for run in runs {
        let length = u64::from(run.member_length);
        let mut places = vec![run.position, run.position + length - 4096];
        if run.kind == member::MemberKind::Data && length > 8192 {
            places.push(run.position + 4096);
        }
        for place in places {
            let copy = temp.path().join("copy");
            assert!(Command::new("cp").args([&path, &copy]).status().unwrap().success());
            let punch = format!("fallocate --punch-hole --offset {place} --length 4096 \"$0\"");
            assert!(Command::new("sh").args(["-c", &punch]).arg(&copy).status().unwrap().success());
            let image = Image::open(Arc::new(File::open(&copy).unwrap())).unwrap();
            let error = scrub(&image, 2, &Progress::new()).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Corrupt, "{place}: {error}");
        }
    }
}

/// Readers of the first images do not know runs of more than 128 MiB: their header says that they may be there.
#[test]
fn longer_runs_of_zeros_are_a_feature_of_the_header() {
    let image = |mib: usize| {
        let (file, _) =
            back_up(&MemDisk::new("sda", vec![0; mib * MIB], 512), &BackupOptions::default()).unwrap();
        let longest = open(&file).unwrap().runs().map(|run| run.unwrap().length).max();
        let feature = b"\x80\0\x14\0zeros of up to 2 GiB";
        (longest, file[..4096].windows(feature.len()).any(|bytes| bytes == feature))
    };
    assert_eq!(image(128), (Some(128 << 20), false));
    assert_eq!(image(129), (Some(129 << 20), true));
    let mut unknown = back_up(&disk(), &BackupOptions::default()).unwrap().0;
    let at = unknown.windows(5).position(|bytes| bytes == b"zeros").unwrap();
    unknown[at] = b'y';
    assert!(open(&unknown).is_err());
}
