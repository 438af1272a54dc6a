//! Looking at a disk that is about to be imaged, and telling people what came of it.
#![forbid(unsafe_code)]

use super::map::map_beside;
use super::{Beyond, FoundVolume, LookOptions, Map};
use crate::block::{BlockDevice, View};
use crate::progress::Progress;
use crate::text::choice;
use crate::text::{ascii, human_bytes};
use std::ops::Range;

/// Partitions that get a line.
const TOLD: usize = 100;
/// Bytes behind the end of a file system that are worth a word: no tool aligns to more.
const BEHIND: u64 = 2 << 20;

choice! {
    /// Whether a backup leaves out what no file system uses: `testbox.used=`.
    #[derive(Default)]
    Used {
        /// Where it is certain; the rest is imaged.
        #[default]
        Auto = "auto",
        /// As auto, and what is in Linux swap areas and in the page and hibernation files of Windows is left out too.
        NoSwap = "no-swap",
        /// Everything is imaged.
        Off = "off",
    }
}

/// What need not be imaged of a disk, and a line for each partition. Where anything is in doubt, all is imaged.
///
/// Progress counts the bytes that were read for it; cancelling it ends it early, with nothing left out.
pub fn survey(disk: &dyn BlockDevice, mode: Used, progress: &Progress) -> (Map, Vec<String>) {
    let mut beyond = Beyond::default();
    if mode != Used::Off && disk.is_exclusive() {
        progress.start(0);
        beyond.look(&View::new(disk, progress), disk.name(), disk.logical_block_size());
    }
    survey_beside(disk, mode, &beyond, progress)
}

/// As [`survey`], of one disk of a machine, all of whose disks, this one too, were looked at for `beyond`.
pub fn survey_beside(
    disk: &dyn BlockDevice,
    mode: Used,
    beyond: &Beyond,
    progress: &Progress,
) -> (Map, Vec<String>) {
    let name = disk.name();
    let all = |why: &str| (Map::default(), vec![format!("{name}: all of it is imaged: {why}")]);
    if mode == Used::Off {
        return all("that is what was asked for (used=off)");
    }
    // Whoever writes meanwhile may use what is free now.
    if !disk.is_exclusive() {
        return all("it is in use: mounted, swapped on, or part of a RAID, LVM or other device");
    }
    progress.start(0);
    let options = LookOptions { leave_out_swap: mode == Used::NoSwap };
    let map = map_beside(&View::new(disk, progress), disk.logical_block_size(), options, beyond);
    if progress.is_cancelled() {
        return all("looking for what is used was stopped");
    }
    if !is_in_order(&map.free, disk.size()) {
        return all("internal error, please report: its free ranges are out of order");
    }
    let verdicts = map.found.iter().take(TOLD).map(|found| found.verdict(name, disk.is_regular_file()));
    let mut lines: Vec<String> = verdicts.collect();
    if let Some(more) = map.found.len().checked_sub(TOLD + 1) {
        lines.push(format!("{name}: and {} partitions more", more + 1));
    }
    lines.extend(map.notes.iter().take(TOLD).map(|note| format!("{name}: {}", ascii(note))));
    (map, lines)
}

/// True where the ranges rise, do not overlap, and end on a disk of `size` bytes.
pub fn is_in_order(free: &[Range<u64>], size: u64) -> bool {
    let mut end = 0;
    free.iter().all(|range| {
        let is_behind = end <= range.start && range.start <= range.end && range.end <= size;
        end = range.end;
        is_behind
    })
}

impl Map {
    /// What a command would mend, for whoever pays for it every night: a line for each partition that is imaged whole for a
    /// reason that names a command, in backticks, and for each such note on the disk.
    pub fn to_mend(&self, disk: &str) -> Vec<String> {
        let names_command = |why: &str| why.contains('`');
        let found = self.found.iter().filter(|found| found.why_all.as_deref().is_some_and(names_command));
        let notes = self.notes.iter().filter(|note| names_command(note));
        let partitions = found.map(|found| found.verdict(disk, false));
        partitions.chain(notes.map(|note| format!("{disk}: {}", ascii(note)))).take(TOLD).collect()
    }
}

impl FoundVolume {
    /// Bytes of it that are imaged.
    pub fn used(&self) -> u64 {
        self.size.saturating_sub(self.skipped)
    }

    /// What an admin is to know of a file system that is smaller than its partition: `; 9.4 GB behind the end of the file
    /// system`, or nothing.
    pub fn behind(&self) -> String {
        match self.behind {
            0..BEHIND => String::new(),
            bytes => format!("; {} behind the end of the file system", human_bytes(bytes)),
        }
    }

    /// What it is called on a disk of this name: `sda1`, `nvme0n1p2`, `disk.raw partition 1`, `sda2 vg0/root`; the disk
    /// itself where there is no table.
    fn place(&self, disk: &str, is_file: bool) -> String {
        let number = self.number;
        let place = match number {
            0 => disk.to_owned(),
            _ if is_file => format!("{disk} partition {number}"),
            // As the kernel does it (block/partitions/core.c): a p after a digit.
            _ if disk.ends_with(|c: char| c.is_ascii_digit()) => format!("{disk}p{number}"),
            _ => format!("{disk}{number}"),
        };
        match &self.logical_volume {
            Some(volume) => format!("{place} {}", ascii(volume)),
            None => place,
        }
    }

    /// A line about it: `sda1 ext4 'root': 12.3 GB of 40.0 GB used, the rest is not imaged`.
    pub fn verdict(&self, disk: &str, is_file: bool) -> String {
        let place = self.place(disk, is_file);
        let kind = ascii(&self.kind);
        let size = human_bytes(self.size);
        if let Some(why) = &self.why_all {
            return format!("{place}: all of it ({size}) is imaged: {kind}: {}", ascii(why));
        }
        let label = self.label.as_ref().map_or_else(String::new, |label| format!(" '{}'", ascii(label)));
        let rest = if self.skipped > 0 { ", the rest is not imaged" } else { "" };
        let behind = self.behind();
        format!("{place} {kind}{label}: {} of {size} used{rest}{behind}", human_bytes(self.used()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::mem::{DiskFault, DiskOp, MemDisk};

    #[test]
    fn only_what_a_command_mends_is_to_be_mended() {
        let partition = |number, why: &str| FoundVolume {
            number,
            size: 40_000_000_000,
            kind: "ntfs".into(),
            why_all: Some(why.into()).filter(|why: &String| !why.is_empty()),
            label: Some("a`b`".into()),
            ..FoundVolume::default()
        };
        let whys =
            ["", "unknown content", "it is dirty: chkdsk has to look at it (`chkdsk X: /f` in Windows)"];
        let map = Map {
            found: (1..).zip(whys).map(|(number, why)| partition(number, why)).collect(),
            notes: vec!["odd".into(), "if it is stale, `sgdisk -z` removes it".into()],
            ..Map::default()
        };
        assert_eq!(
            map.to_mend("sda"),
            [
                "sda3: all of it (40.0 GB) is imaged: ntfs: it is dirty: chkdsk has to look at it (`chkdsk X: /f` in Windows)",
                "sda: if it is stale, `sgdisk -z` removes it",
            ]
        );
        assert!(Map::default().to_mend("sda").is_empty());
    }

    #[test]
    fn verdicts_say_what_is_imaged_and_why() {
        let root = FoundVolume {
            number: 1,
            size: 40_000_000_000,
            kind: "ext4".into(),
            label: Some("ro\not".into()),
            skipped: 27_700_000_000,
            ..FoundVolume::default()
        };
        let full = FoundVolume { label: None, skipped: 0, ..root.clone() };
        let small = FoundVolume { behind: 250_000_000, ..root.clone() };
        let doubt = FoundVolume { number: 2, why_all: Some("the log needs recovery".into()), ..full.clone() };
        let disk = FoundVolume { number: 0, ..root.clone() };
        let volume = FoundVolume { number: 3, logical_volume: Some("vg0/root".into()), ..full.clone() };
        for (found, name, is_file, line) in [
            (&root, "sda", false, "sda1 ext4 'ro\\not': 12.3 GB of 40.0 GB used, the rest is not imaged"),
            (&full, "nvme0n1", false, "nvme0n1p1 ext4: 40.0 GB of 40.0 GB used"),
            (
                &small,
                "sda",
                false,
                "sda1 ext4 'ro\\not': 12.3 GB of 40.0 GB used, the rest is not imaged; 250.0 MB behind the end of the file \
                 system",
            ),
            (&doubt, "sda", false, "sda2: all of it (40.0 GB) is imaged: ext4: the log needs recovery"),
            (&full, "disk.raw", true, "disk.raw partition 1 ext4: 40.0 GB of 40.0 GB used"),
            (&volume, "sda", false, "sda3 vg0/root ext4: 40.0 GB of 40.0 GB used"),
            (&disk, "sdb", false, "sdb ext4 'ro\\not': 12.3 GB of 40.0 GB used, the rest is not imaged"),
        ] {
            assert_eq!(found.verdict(name, is_file), line);
        }
    }

    #[test]
    fn what_is_off_stopped_or_unreadable_leaves_nothing_out() {
        let disk = MemDisk::new("sda", vec![0x55; 1 << 20], 512);
        let (map, lines) = survey(&disk, Used::Off, &Progress::default());
        assert!(
            map.free.is_empty() && lines[0].contains("sda: all of it is imaged") && disk.log().is_empty()
        );
        let stopped = Progress::default();
        stopped.cancel();
        let (map, lines) = survey(&disk, Used::Auto, &stopped);
        assert!(map.free.is_empty() && lines[0].contains("stopped"), "{lines:?}");
        disk.inject(DiskOp::Read, 0..u64::MAX, DiskFault::Errno(libc::EIO), u64::MAX);
        let (map, lines) = survey(&disk, Used::Auto, &Progress::default());
        assert!(map.free.is_empty() && !lines.is_empty());
    }

    #[test]
    fn order_is_checked() {
        assert!(is_in_order(&[], 0) && is_in_order(&[0..4, 4..5, 9..10], 10));
        for bad in [&[Range { start: 5, end: 4 }][..], &[0..11], &[4..5, 0..1], &[0..5, 4..6]] {
            assert!(!is_in_order(bad, 10), "{bad:?}");
        }
    }
}
