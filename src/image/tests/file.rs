//! What both kinds of images can do is the same for both.

use super::*;
use std::io::Write;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn open_any(bytes: &[u8]) -> Result<ImageFile, ImageError> {
    ImageFile::open(Arc::new(bytes.to_vec()))
}

/// A disk, and its image of either kind.
fn both() -> (Vec<u8>, [Vec<u8>; 2]) {
    let bytes = content(&[(2, 200), (0, 64), (1, 200)]);
    let disk = MemDisk::new("sda", bytes.clone(), 512);
    let own = back_up(&disk, &small()).unwrap().0;
    let foreign = gzip(&bytes);
    (bytes, [own, foreign])
}

#[test]
fn either_kind_is_proven_compared_and_restored() {
    let (bytes, files) = both();
    let progress = Progress::new();
    for file in files {
        let image = open_any(&file).unwrap();
        let measured = image.verify(Proof::Scrub, bytes.len() as u64, 2, &progress).unwrap();
        assert_eq!(measured.size, bytes.len() as u64);
        assert!(image.claim().is_none_or(|claim| claim == measured));
        let target = MemDisk::new("sdb", vec![0xaa; bytes.len()], 512);
        let differs = image.compare(&measured, &target, 2, &progress).unwrap_err();
        assert_eq!(differs.kind, ErrorKind::Differs, "{differs}");
        let restored = image.restore(&measured, &target, &RestoreOptions::default(), &progress).unwrap();
        assert_eq!(restored.disk_bytes, measured.size);
        assert!(target.content() == bytes);
        image.compare(&measured, &target, 2, &progress).unwrap();
        let small = MemDisk::new("sdc", vec![0; bytes.len() / 2], 512);
        let refused = image.compare(&measured, &small, 2, &progress).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Refused, "{refused}");
        let refused = image.restore(&measured, &small, &RestoreOptions::default(), &progress).unwrap_err();
        assert!(!refused.disk_was_touched() && small.count(DiskOp::Write) == 0, "{refused}");
    }
}

#[test]
fn another_image_than_the_checked_one_is_never_restored() {
    let (bytes, files) = both();
    let mut changed = bytes.clone();
    changed[MIB / 4 + 100_000] ^= 1;
    let others = [back_up(&MemDisk::new("sda", changed.clone(), 512), &small()).unwrap().0, gzip(&changed)];
    let progress = Progress::new();
    for (file, other) in files.iter().zip(&others) {
        let measured = open_any(file).unwrap().verify(Proof::Inflate, u64::MAX >> 1, 2, &progress).unwrap();
        let target = MemDisk::new("sdb", vec![0xaa; bytes.len()], 512);
        let other = open_any(other).unwrap();
        let error = other.restore(&measured, &target, &RestoreOptions::default(), &progress).unwrap_err();
        // One names itself by its root hash, the other one shows on the disk: it stays unbootable.
        match other {
            ImageFile::Own(_) => {
                assert_eq!((error.kind, target.count(DiskOp::Write)), (ErrorKind::Corrupt, 0))
            }
            ImageFile::Foreign(_) => assert!(error.disk_was_touched() && target.content()[0] == 0, "{error}"),
        }
    }
}

#[test]
fn a_damaged_image_of_testbox_is_never_taken_for_a_foreign_gzip() {
    let (_, [own, foreign]) = both();
    for len in (1..own.len() / 4096).map(|units| units * 4096) {
        let error = open_any(&own[..len]).map(drop).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Corrupt, "{len}: {error}");
    }
    assert!(open_any(&own).unwrap().into_own().is_ok());
    let error = open_any(&foreign).unwrap().into_own().map(drop).unwrap_err();
    assert!(error.to_string().contains("not a whole testbox image"), "{error}");
    let error = open_any(b"something else").map(drop).unwrap_err();
    assert!(error.to_string().contains("neither a testbox image nor a gzip file"), "{error}");
}
