//! What is not at rest or not consistent is imaged whole, and the reason says why.

use super::*;

/// Options of mke2fs, what debugfs does, and what the doubt says.
const ROWS: &[(&str, &str, &str)] = &[
    ("-t ext4", "feature needs_recovery", "ext4: the journal needs recovery"),
    ("-t ext3", "feature needs_recovery", "ext3: the journal needs recovery"),
    ("-t ext4", "jo\njw -b 333 /dev/null\njc\nfeature ^needs_recovery", "the journal needs recovery"),
    (
        "-t ext4 -O ^extent,^64bit",
        "jo\njw -b 333 /dev/null\njc\nfeature ^needs_recovery",
        "the journal needs recovery",
    ),
    ("-t ext4", "ssv state 0", "not clean"),
    ("-t ext2", "ssv state 0", "ext2: it is not clean"),
    ("-t ext4", "ssv state 3", "recorded errors"),
    ("-t ext4", "ssv state 5", "not clean"),
    ("-t ext4", "ssv error_count 1", "recorded errors"),
    ("-t ext4", "ssv last_orphan 12", "orphan inodes"),
    ("-t ext4 -O orphan_file", "feature orphan_present", "orphan inodes"),
    ("-t ext4", "ssv journal_dev 0x801\nssv journal_inum 0", "another device"),
    ("-t ext4", "ssv journal_inum 12", "leads nowhere"),
    ("-t ext4", "ssv journal_inum 0xffffffff", "leads nowhere"),
    ("-t ext4", "ssv journal_inum 2", "no journal where it should be"),
    ("-t ext4", "sif <8> block[5] 7", "no journal where it should be"),
    ("-t ext4", "sif <8> block[0] 0", "leads nowhere"),
    ("-t ext4 -O ^extent,^64bit", "sif <8> block[0] 0", "leads nowhere"),
    ("-t ext4", "ssv feature_compat 0x2003c", "unknown compat features 0x20000"),
    ("-t ext4", "ssv feature_incompat 0x12c2", "unknown incompat features 0x1000"),
    ("-t ext4", "ssv feature_ro_compat 0x2046b", "unknown ro_compat features 0x20000"),
    ("-t ext4", "ssv feature_ro_compat 0x47b", "two kinds of checksums"),
    ("-t ext4", "ssv desc_size 48", "group descriptors of 48 bytes"),
    ("-t ext4", "ssv reserved_gdt_blocks 300", "300 blocks reserved"),
    ("-t ext4 -O meta_bg,^resize_inode", "ssv first_meta_bg 2", "descriptor block 2"),
    ("-t ext4", "ssv checksum_type 2", "kind of checksum"),
    ("-t ext4", "ssv rev_level 2", "revision 2"),
    ("-t ext4", "ssv free_blocks_count 99", "the superblock counts 99 free blocks"),
    ("-t ext4", "ssv free_inodes_count 99", "99 free inodes"),
    ("-t ext4", "set_bg 1 free_blocks_count 1\nset_bg 1 checksum calc", "its descriptor counts 1"),
    ("-t ext4", "set_bg 1 free_blocks_count 1", "group 1: the checksum of its descriptor"),
    ("-t ext4 -O ^metadata_csum,uninit_bg", "set_bg 1 free_blocks_count 1", "the checksum of its descriptor"),
    ("-t ext4", "set_bg 1 block_bitmap 0\nset_bg 1 checksum calc", "lie outside"),
    ("-t ext4", "set_bg 1 inode_bitmap 0\nset_bg 1 checksum calc", "lie outside"),
    ("-t ext4", "set_bg 1 inode_table 65530\nset_bg 1 checksum calc", "lie outside"),
    ("-t ext4 -O ^flex_bg", "set_bg 1 block_bitmap 500\nset_bg 1 checksum calc", "lie outside"),
    ("-t ext4", "set_bg 1 block_bitmap 270\nset_bg 1 checksum calc", "share block 270"),
    ("-t ext4", "set_bg 1 block_bitmap 5\nset_bg 1 checksum calc", "share block 5"),
    ("-t ext4", "set_bg 1 flags 0x80\nset_bg 1 checksum calc", "flags"),
    ("-t ext4", "set_bg 0 block_bitmap_csum 7\nset_bg 0 checksum calc", "checksum of its block bitmap"),
];

#[test]
fn reasons() {
    let mut wrong = Vec::new();
    for (options, commands, reason) in ROWS {
        let image = Image::make(&format!("{options} -b 1024"), "40M");
        image.check(options);
        image.debugfs(commands);
        match image.parse() {
            Err(doubt) if doubt.to_string().contains(reason) => {}
            other => wrong.push(format!("{options}, {commands:?}: {:?}", other.map(drop))),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn journal_of_another_file_system() {
    let image = Image::make("-O journal_dev -b 1024", "8M");
    assert!(image.parse().unwrap_err().why.contains("journal of another"));
}

#[test]
fn multiple_mount_protection() {
    let image = Image::make("-t ext4 -O mmp,^metadata_csum", "40M");
    let (disk, block) = (image.bytes(), usize::try_from(image.superblock().mmp.unwrap() * 1024).unwrap());
    for (at, value, reason) in [
        (block + 4, 0x1234u32, "another machine has it mounted"),
        (block + 4, 0xe24d_4d50, "e2fsck works on it"),
        (block, 5, "no multiple-mount protection"),
        (1024 + 0x168, 0, "lies outside"),
        (1024 + 0x168, 99_999_999, "lies outside"),
    ] {
        let mut disk = disk.clone();
        disk[at..at + 4].copy_from_slice(&value.to_le_bytes());
        let doubt = try_parse(parse, &disk).unwrap_err();
        assert!(doubt.why.contains(reason), "{doubt}");
    }
}

#[test]
fn what_is_cut_or_unreadable() {
    let image = Image::make("-t ext4", "8M");
    let bytes = image.bytes();
    assert_eq!(try_parse(parse, &bytes[..1500].to_vec()), Ok(None));
    for len in [2048, 5000, 1 << 20, bytes.len() - 1] {
        assert!(try_parse(parse, &bytes[..len].to_vec()).unwrap_err().why.contains("more than"), "{len}");
    }
    let count = {
        let disk = Failing { bytes: &bytes, reads: 0.into(), fails_at: usize::MAX };
        assert!(try_parse(parse, &disk).unwrap().is_some());
        disk.reads.into_inner()
    };
    assert!(count > 3);
    for fails_at in 0..count {
        let result = try_parse(parse, &Failing { bytes: &bytes, reads: 0.into(), fails_at });
        assert!(result == Ok(None) && fails_at == 0 || result.is_err(), "{fails_at}: {result:?}");
    }
}

/// A disk whose read number `fails_at` fails.
struct Failing<'a> {
    bytes: &'a Vec<u8>,
    reads: std::sync::atomic::AtomicUsize,
    fails_at: usize,
}

impl ReadAt for Failing<'_> {
    fn size(&self) -> std::io::Result<u64> {
        self.bytes.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
        match self.reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == self.fails_at {
            true => Err(std::io::Error::other("bad sector")),
            false => self.bytes.read_at(buf, offset),
        }
    }
}
