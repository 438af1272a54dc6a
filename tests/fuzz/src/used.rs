//! Partition tables and file systems: whatever a disk holds, what is called free lies inside it, in order.

use crate::disk::Sparse;
use testbox::used::fat::files::{Bounds, FatFiles};
use testbox::used::{self, DiskContent, Free, Parser, Volume};

fn parse(bytes: &[u8], parser: Parser) {
    let disk = Sparse::new(bytes);
    let size = disk.bytes();
    for sector in [512, 4096] {
        let volume = Volume::new(&disk, 0, size, sector);
        let mut free = Free::default();
        if let Ok(Some(about)) = parser(&volume, &mut free) {
            let label = about.label.unwrap_or_default();
            assert!(!label.chars().any(char::is_control), "{label:?}");
            in_order(&free.finish(), size);
        }
    }
}

/// Sorted, disjoint, inside.
fn in_order(free: &[std::ops::Range<u64>], size: u64) {
    let mut at = 0;
    for range in free {
        assert!(at <= range.start && range.start < range.end && range.end <= size, "{range:?} of {size}");
        at = range.end;
    }
}

pub fn map(bytes: &[u8]) {
    let disk = Sparse::new(bytes);
    for sector in [512, 4096] {
        let map = used::map(&disk, sector);
        in_order(&map.free, disk.bytes());
        assert!(map.free.iter().all(|range| range.start % 4096 == 0 && range.end % 4096 == 0));
        let skipped: u64 = map.free.iter().map(|range| range.end - range.start).sum();
        // What a logical volume skips is in what its partition does.
        let partitions = map.found.iter().filter(|found| found.logical_volume.is_none());
        let told: u64 = partitions.map(|found| found.skipped).sum();
        assert_eq!(skipped, told);
        for found in &map.found {
            assert!(found.skipped <= found.size, "{found:?}");
            assert!(found.why_all.is_none() || found.skipped == 0, "{found:?}");
        }
    }
}

pub fn partitions(bytes: &[u8]) {
    let disk = Sparse::new(bytes);
    for sector in [512, 4096] {
        let content = DiskContent::read(&disk, disk.bytes(), sector);
        assert!(content.ids().all(|(_, id)| id.bytes().all(|b| b.is_ascii_graphic())), "{content:?}");
        if let Ok(table) = used::partitions::read(&disk, sector) {
            let shown = table.to_string();
            assert!(!shown.chars().any(|c| c != '\n' && c.is_control()), "{shown:?}");
        }
    }
}

pub fn btrfs(bytes: &[u8]) {
    parse(bytes, used::btrfs::parse);
}

pub fn exfat(bytes: &[u8]) {
    parse(bytes, used::exfat::parse);
}

pub fn ext4(bytes: &[u8]) {
    parse(bytes, used::ext4::parse);
}

pub fn fat(bytes: &[u8]) {
    parse(bytes, used::fat::parse);
    let disk = Sparse::new(bytes);
    if let Ok(Some(files)) = FatFiles::open(Volume::new(&disk, 0, disk.bytes(), 512)) {
        let listed = files.ending_in(".efi", "EFI", Bounds { files: 64, folders: 20, depth: 4 });
        assert!(listed.paths.len() <= 64 && listed.paths.iter().all(|path| path.starts_with("\\")));
    }
}

pub fn ntfs(bytes: &[u8]) {
    parse(bytes, used::ntfs::parse);
    let disk = Sparse::new(bytes);
    for file in used::ntfs::memory_files(&Volume::new(&disk, 0, disk.bytes(), 512)).unwrap_or_default() {
        let mut ranges = file.ranges;
        ranges.sort_by_key(|range| range.start);
        in_order(&ranges, disk.bytes());
    }
}

pub fn swap(bytes: &[u8]) {
    parse(bytes, used::swap::parse);
}

pub fn xfs(bytes: &[u8]) {
    parse(bytes, used::xfs::parse);
}
