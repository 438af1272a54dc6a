//! Who an open disk is. A kernel name is looked up anew by each open, and can mean another disk than when the disks were
//! listed; a descriptor cannot. So a disk is identified once more from the device number of its descriptor.
#![forbid(unsafe_code)]

use super::{Disk, read_disk};
use std::path::Path;
use std::{fs, io};

impl Disk {
    /// The whole disk with this device number (major, minor; `None` for what is not a block device), as sysfs shows it
    /// now (`/sys/dev/block/MAJOR:MINOR`, Documentation/ABI/stable/sysfs-dev).
    ///
    /// # Errors
    /// Where sysfs has no such device, or it is not a whole disk with a medium.
    pub fn of_number(sysfs: &Path, dev: &Path, number: Option<(u32, u32)>) -> io::Result<Disk> {
        let (major, minor) = number.ok_or_else(|| io::Error::other("it is not a block device"))?;
        let dir = fs::canonicalize(sysfs.join(format!("dev/block/{major}:{minor}")))?;
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let disk = read_disk(&fs::canonicalize(sysfs)?, &dir, name, dev).map_err(io::Error::other)?;
        disk.ok_or_else(|| io::Error::other("it is hidden, or has no medium"))
    }

    /// What tells the disk that was `opened` from this one, which was listed; `None` where both are the same disk. The
    /// size is not looked at: a disk can be resized. Nor is the kernel name: it is what may have changed.
    pub fn difference(&self, opened: &Disk) -> Option<&'static str> {
        if self.identity != opened.identity {
            return Some("it has another identity");
        }
        if self.location != opened.location {
            return Some("it is at another location");
        }
        match (self.diskseq, opened.diskseq) {
            (Some(listed), Some(opened)) if listed != opened => Some("it came later: its diskseq is another"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{SysfsTree, disk};
    use super::super::{Identity, Inventory};
    use super::*;

    const DEV: &str = "/dev";

    /// Two disks of virtio, with their numbers.
    fn tree() -> SysfsTree {
        let tree = SysfsTree::new();
        for (n, name) in [(5, "vda"), (6, "vdb")] {
            let dir = format!("pci0000:00/0000:00:0{n}.0/virtio{n}/block/{name}");
            tree.disk(&dir, "../..").file(&format!("devices/{dir}/serial"), format!("S{n}"));
            tree.file(&format!("devices/{dir}/diskseq"), format!("{n}\n"));
            tree.link(&format!("dev/block/254:{n}"), &format!("devices/{dir}"));
            tree.file(&format!("devices/{dir}/{name}1/partition"), "1\n");
            tree.link(&format!("dev/block/254:1{n}"), &format!("devices/{dir}/{name}1"));
        }
        tree
    }

    #[test]
    fn a_number_leads_to_the_disk_that_the_list_has() {
        let tree = tree();
        for (n, listed) in (5..).zip(Inventory::scan(&tree.sys(), DEV.as_ref()).unwrap().disks) {
            let found = Disk::of_number(&tree.sys(), DEV.as_ref(), Some((254, n))).unwrap();
            assert_eq!((&found, listed.difference(&found)), (&listed, None));
        }
    }

    #[test]
    fn what_is_not_a_whole_disk_with_a_medium_is_an_error() {
        let tree = tree();
        tree.file("devices/pci0000:00/0000:00:05.0/virtio5/block/vda/size", "0\n");
        for number in [None, Some((254, 5)), Some((254, 16)), Some((8, 0))] {
            assert!(Disk::of_number(&tree.sys(), DEV.as_ref(), number).is_err(), "{number:?}");
        }
    }

    #[test]
    fn any_difference_of_identity_place_or_diskseq_is_seen() {
        let identity = |serial: &str, wwn: &str, model: &str| Identity {
            serial: Some(serial.into()),
            wwn: Some(wwn.into()),
            model: Some(model.into()),
        };
        let listed = Disk {
            identity: identity("S", "naa.1", "M"),
            location: "pci-1".into(),
            diskseq: Some(3),
            ..disk("sda")
        };
        type Change = fn(&mut Disk);
        let rows: [(Change, bool); 11] = [
            (|_| {}, false),
            (|d| d.name = "sdb".into(), false),
            (|d| d.size += 512, false),
            (|d| d.diskseq = None, false),
            (|d| d.diskseq = Some(4), true),
            (|d| d.location = "pci-2".into(), true),
            (|d| d.identity.serial = Some("T".into()), true),
            (|d| d.identity.serial = None, true),
            (|d| d.identity.wwn = Some("naa.2".into()), true),
            (|d| d.identity.model = Some("N".into()), true),
            (|d| d.identity = Identity::default(), true),
        ];
        for (n, (change, differs)) in rows.into_iter().enumerate() {
            let mut opened = listed.clone();
            change(&mut opened);
            assert_eq!(listed.difference(&opened).is_some(), differs, "row {n}");
        }
    }
}
