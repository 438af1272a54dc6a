//! What holds a disk, for a refusal that names it. The refusal itself rests on O_EXCL; this tells why.
#![forbid(unsafe_code)]

use super::attr;
use std::path::Path;
use std::{fmt, fs};

/// One reason why a disk must not be written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// A device-mapper or RAID device, named `by`, is built on the disk or partition `device`.
    Held {
        /// The disk or partition.
        device: String,
        /// Kernel name of the holder, with its device-mapper name where it has one.
        by: String,
    },
    /// A file system on `device` is mounted at `at`.
    Mounted {
        /// The disk or partition.
        device: String,
        /// The mount point.
        at: String,
    },
    /// `device` is swapped to.
    Swap {
        /// The disk or partition.
        device: String,
    },
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Use::Held { device, by } => write!(f, "{device} is held by {by}"),
            Use::Mounted { device, at } => write!(f, "{device} is mounted at {at}"),
            Use::Swap { device } => write!(f, "{device} is swap space in use"),
        }
    }
}

/// Who uses the disk with kernel name `disk` or one of its partitions, also through devices built on it.
///
/// `mountinfo` and `swaps` are the texts of `/proc/self/mountinfo` and `/proc/swaps` (proc(5)).
pub fn why_in_use(sysfs: &Path, disk: &str, mountinfo: &str, swaps: &str) -> Vec<Use> {
    let mut uses = Vec::new();
    let dir = sysfs.join("block").join(disk);
    let mut devices = vec![(disk.to_owned(), dir.clone())];
    for name in folders(&dir).into_iter().filter(|name| dir.join(name).join("partition").exists()) {
        devices.push((name.clone(), dir.join(name)));
    }
    let mut next = 0;
    while let Some((name, dir)) = devices.get(next).cloned() {
        next += 1;
        for holder in folders(&dir.join("holders")) {
            let holder_dir = sysfs.join("block").join(&holder);
            let label = attr::text(&holder_dir.join("dm/name"));
            let by = label.map_or_else(|| holder.clone(), |label| format!("{holder} ({label})"));
            uses.push(Use::Held { device: name.clone(), by });
            // Held twice (two partitions of one RAID) is looked at once.
            if devices.iter().all(|(known, _)| *known != holder) {
                devices.push((holder, holder_dir));
            }
        }
    }
    for (name, dir) in devices {
        let number = attr::text(&dir.join("dev"));
        for line in mountinfo.lines() {
            if let Some(at) = mounted_at(line, &name, number.as_deref()) {
                uses.push(Use::Mounted { device: name.clone(), at });
            }
        }
        for line in swaps.lines() {
            if line.split_whitespace().next().and_then(device_name) == Some(&name) {
                uses.push(Use::Swap { device: name.clone() });
            }
        }
    }
    uses
}

/// The mount point, where the line is a mount of this device: by device number, or by source (btrfs shows numbers
/// of its own).
fn mounted_at(line: &str, name: &str, number: Option<&str>) -> Option<String> {
    let (head, tail) = line.split_once(" - ")?;
    let mut fields = head.split(' ').skip(2);
    let (found, at) = (fields.next()?, fields.nth(1)?);
    let source = tail.split(' ').nth(1).and_then(device_name);
    (number == Some(found) || source == Some(name)).then(|| at.replace("\\040", " "))
}

fn device_name(path: &str) -> Option<&str> {
    path.strip_prefix("/dev/")
}

fn folders(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::fixture::SysfsTree;

    const MOUNTS: &str = "\
22 1 0:21 / /sys rw - sysfs sysfs rw
23 1 8:2 / /home/my\\040data rw,relatime shared:1 - ext4 /dev/sda2 rw
24 1 254:0 / / rw - xfs /dev/mapper/vg-root rw
25 1 0:40 / /pool rw - btrfs /dev/sdb1 rw
26 1 8:32 / /other rw - ext4 /dev/sdc rw
";
    const SWAPS: &str =
        "Filename\tType\tSize\tUsed\tPriority\n/dev/sda3    partition\t1\t0\t-2\n/swapfile file 1 0 -3\n";

    #[test]
    fn uses_are_found_through_partitions_and_device_mapper() {
        let tree = SysfsTree::new();
        for (name, number) in [("sda", "8:0"), ("sdb", "8:16"), ("sdd", "8:48")] {
            tree.file(&format!("block/{name}/dev"), number);
        }
        for (name, number) in
            [("sda/sda1", "8:1"), ("sda/sda2", "8:2"), ("sda/sda3", "8:3"), ("sdb/sdb1", "8:17")]
        {
            tree.file(&format!("block/{name}/dev"), number);
            tree.file(&format!("block/{name}/partition"), "1");
        }
        tree.file("block/sda/sda1/holders/dm-0/x", "");
        tree.file("block/sdd/holders/md127/x", "");
        tree.file("block/md127/dev", "9:127");
        tree.file("block/dm-0/dev", "254:0");
        tree.file("block/dm-0/dm/name", "vg-root\n");
        let texts = |disk: &str| -> Vec<String> {
            why_in_use(&tree.sys(), disk, MOUNTS, SWAPS).iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            texts("sda"),
            [
                "sda1 is held by dm-0 (vg-root)",
                "sda2 is mounted at /home/my data",
                "sda3 is swap space in use",
                "dm-0 is mounted at /",
            ]
        );
        assert_eq!(texts("sdb"), ["sdb1 is mounted at /pool"]);
        assert_eq!(texts("sdd"), ["sdd is held by md127"], "a RAID");
        assert!(texts("sde").is_empty());
    }
}
