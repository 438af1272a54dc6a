//! Images that earlier versions made: they are read for ever.

use super::*;

/// What a version made, the hash of what it holds, and its root hash.
const ALL: [(&[u8], &str, &str); 2] = [
    (
        include_bytes!("fixtures/v1-complete.raw.gz"),
        "716a8e377b835e0204755356ee4d4f3d8e449427a7114c8d4ee37f397b21b217",
        "eb071da15574473e6c9c7a1a10f1044745b3395633d3fd01b8b47937474fc782",
    ),
    (
        include_bytes!("fixtures/v1-degraded.raw.gz"),
        "9a9dda9f9afe1a7010779a840372a785a2ce794620fc909d3a66423ffee0e53d",
        "80e0f86f3d8636e5faa5f460f7407582950931cf02f099488d5fceede02ddceb",
    ),
];

/// Text, noise, a gap, an unallocated range, zeros in two runs, of the second a kilobyte that was unreadable: proven, restored,
/// taken as the base of a new image.
#[test]
fn images_of_earlier_versions_are_read() {
    for (file, content, root) in ALL {
        let image = open(file).unwrap();
        let summary = verify(&image, 2, &Progress::new()).unwrap();
        assert_eq!(summary.root_hash.to_hex().as_str(), root);
        let bytes = gunzip(file);
        assert_eq!(blake3::hash(&bytes).to_hex().as_str(), content);
        let target = MemDisk::new("sdb", vec![0xaa; bytes.len()], 512);
        let opts = RestoreOptions { free: FreeSpace::Zero, ..RestoreOptions::default() };
        restore(&image, &target, &opts, &Progress::new()).unwrap();
        assert!(target.content() == bytes);

        // All of the disk is read this time: what was unallocated is zero.
        let earlier = Earlier { base: Some(Arc::new(image)), prove_base: true, ..Earlier::default() };
        let (mut again, about) = (Vec::new(), DiskAbout::new("sdb", Identity::default(), &target));
        let opts = BackupOptions::default();
        let written = backup_again(&target, &mut again, &about, &opts, &earlier, &Progress::new()).unwrap();
        // Its runs were cut at fixed places: they meet none of these.
        assert_eq!((written.taken_bytes, &written.bad_base), (0, &None), "{written:?}");
        check(&again).unwrap();
        assert!(gunzip(&again) == bytes);
    }
}
