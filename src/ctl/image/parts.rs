//! What the disk of an image is cut into: all of it, and a file for each partition, under names of this program's own.

use crate::image::ImageDisk;
use crate::io::ReadAt;
use crate::store::layout::is_disk_name;
use crate::text::{ascii, with_sources};
use crate::used::partitions::{self, PartitionTable};
use std::io;
use std::ops::Range;

/// Most partitions of a disk that get a file.
const MOST: usize = 1024;

/// A range of a disk that is shown as a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DiskPart {
    /// `sda.raw`, `sda-p1.raw`: never of what the disk says.
    pub name: String,
    /// Bytes of the disk.
    pub range: Range<u64>,
    /// What it is, for people.
    pub about: String,
    /// Options with which Linux mounts it without replaying a journal.
    pub mount: Option<&'static str>,
}

/// What a disk is called in names of files: its own name where testbox has given that.
pub(super) fn file_stem(disk: &str) -> String {
    if is_disk_name(disk) { disk.to_owned() } else { "disk".to_owned() }
}

/// The parts of the disk of an image, all of it first, and what is odd about its partitions.
pub(super) fn parts(disk: &ImageDisk, stem: &str) -> (Vec<DiskPart>, Vec<String>) {
    let (size, header) = (disk.image().summary().disk, disk.image().header());
    let block = header.disk.logical_block_size;
    let read = match size < 512 {
        true => Ok(PartitionTable::default()),
        false => partitions::read(&DiskBytes(disk), block),
    };
    let unread = read.as_ref().err().map(|e| format!("{stem}: cannot read its table: {}", with_sources(e)));
    let (mut parts, mut odd) = split(&read.unwrap_or_default(), size, stem);
    odd.extend(unread);
    for part in &mut parts {
        let found = header.found.list.iter().find(|found| found.start == part.range.start);
        // The whole disk begins where a file system without a table does.
        let found = found.filter(|found| part.range.start > 0 || found.number == 0);
        if let Some(found) = found {
            let label = found.label.as_ref().map_or_else(String::new, |label| format!(" '{}'", ascii(label)));
            part.about = format!("{}, {}{label}", part.about, ascii(&found.kind));
            part.mount = mount_options(&found.kind);
        }
    }
    odd.iter_mut().for_each(|line| *line = ascii(line));
    (parts, odd)
}

/// How a file system is mounted that nobody may write: its journal may want to be replayed.
fn mount_options(kind: &str) -> Option<&'static str> {
    match kind {
        "ext2" | "ext3" | "ext4" => Some("loop,ro,noload"),
        "xfs" => Some("loop,ro,norecovery,nouuid"),
        "btrfs" => Some("loop,ro,rescue=nologreplay"),
        "ntfs" | "exfat" | "fat12" | "fat16" | "fat32" | "vfat" => Some("loop,ro"),
        _ => None,
    }
}

/// Cuts a disk of `size` bytes by its table, whatever that says.
fn split(table: &PartitionTable, size: u64, stem: &str) -> (Vec<DiskPart>, Vec<String>) {
    let whole =
        DiskPart { name: format!("{stem}.raw"), range: 0..size, about: "the whole disk".into(), mount: None };
    let (mut parts, mut odd) = (vec![whole], Vec::new());
    let block = u64::from(table.block_size);
    for partition in &table.partitions {
        // A frame of other partitions, of which the kernel shows two blocks.
        if partition.kind.starts_with("extended") {
            continue;
        }
        let name = format!("{stem}-p{}.raw", partition.number);
        let start = partition.first.saturating_mul(block);
        let end = start.saturating_add(partition.blocks.saturating_mul(block));
        if parts.len() > MOST {
            odd.push(format!("{stem}: more than {MOST} partitions: the others are left out"));
            break;
        }
        if start >= size || end == start {
            odd.push(format!("{name}: left out: it lies beyond the end of the disk"));
            continue;
        }
        if parts.iter().any(|part| part.name == name) {
            odd.push(format!("{name}: left out: another partition has this number"));
            continue;
        }
        if end > size {
            odd.push(format!("{name}: {} bytes of it lie beyond the end of the disk", end - size));
        }
        let about = ascii(&partition.kind);
        parts.push(DiskPart { name, range: start..end.min(size), about, mount: None });
    }
    (parts, odd)
}

/// The disk of an image, for parsers.
struct DiskBytes<'a>(&'a ImageDisk);

impl ReadAt for DiskBytes<'_> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.image().summary().disk)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = self.size()?.saturating_sub(offset);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        let part = buf.get_mut(..len).unwrap_or_default();
        self.0.read(part, offset).map_err(io::Error::other)?;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::used::partitions::Partition;
    use proptest::prelude::*;

    fn partition(number: usize, first: u64, blocks: u64, kind: &str) -> Partition {
        Partition { number, first, blocks, kind: kind.into(), label: "../../etc/passwd".into() }
    }

    fn table(partitions: Vec<Partition>, block_size: u32) -> PartitionTable {
        PartitionTable { scheme: "GPT", partitions, notes: Vec::new(), block_size }
    }

    #[test]
    fn what_is_not_on_the_disk_is_cut_or_left_out_and_told() {
        let list = vec![
            partition(1, 8, 8, "Linux"),
            partition(2, 16, 1000, "Linux"),
            partition(3, 100, 1, "Linux"),
            partition(4, 20, 0, "Linux"),
            partition(5, 4, 90, "extended (type 05)"),
            partition(1, 4, 4, "Linux"),
        ];
        let (parts, odd) = split(&table(list, 512), 100 * 512, "sda");
        let found: Vec<_> = parts.iter().map(|part| (part.name.as_str(), part.range.clone())).collect();
        let expected = [("sda.raw", 0..51_200), ("sda-p1.raw", 4096..8192), ("sda-p2.raw", 8192..51_200)];
        assert_eq!(found, expected);
        assert_eq!(odd.len(), 4, "{odd:?}");
        assert!(odd[0].contains("sda-p2.raw: 468992 bytes"), "{odd:?}");
    }

    #[test]
    fn a_name_that_testbox_has_not_given_is_not_used() {
        for (name, stem) in [("sda", "sda"), ("nvme0n1", "nvme0n1"), ("../x", "disk"), ("", "disk")] {
            assert_eq!(file_stem(name), stem);
        }
    }

    proptest! {
        #[test]
        fn no_table_leads_out_of_the_disk(
            list in proptest::collection::vec(
                (any::<usize>(), any::<u64>(), any::<u64>(), 0u64..200, any::<bool>()), 0..1200),
            size in 0u64..100_000,
            block in prop::sample::select(vec![0u32, 512, 4096, u32::MAX]),
        ) {
            let list = list.into_iter().map(|(number, first, blocks, near, is_near)| {
                partition(number, if is_near { near } else { first }, if is_near { near } else { blocks }, "x")
            });
            let (parts, _) = split(&table(list.collect(), block), size, "sda");
            prop_assert!(parts.len() <= MOST + 1);
            let names: std::collections::BTreeSet<_> = parts.iter().map(|part| &part.name).collect();
            prop_assert_eq!(names.len(), parts.len());
            for part in &parts {
                prop_assert!(part.range.start <= part.range.end && part.range.end <= size);
                prop_assert!(!part.name.contains('/') && part.name.starts_with("sda"));
            }
        }
    }
}
