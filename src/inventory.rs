//! The disks of this machine, from a given sysfs root.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Who a disk is, whatever the kernel calls it today. Every text is trimmed and printable ASCII.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Serial number as the disk reports it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub serial: Option<String>,
    /// World wide name: `naa.…`, `eui.…`, `t10.…` or `nvme.…`, as the kernel's `wwid` spells it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub wwn: Option<String>,
    /// Model name; describes, never identifies.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub model: Option<String>,
}

impl Identity {
    /// True where a disk can be told from its siblings: it has a serial or a WWN.
    pub fn is_unique(&self) -> bool {
        self.serial.is_some() || self.wwn.is_some()
    }

    /// True where both name the same physical disk. The model must not contradict; a WWN decides over a serial.
    pub fn is_same_disk(&self, other: &Identity) -> bool {
        if self.model.is_some() && other.model.is_some() && self.model != other.model {
            return false;
        }
        match (&self.wwn, &other.wwn) {
            (Some(a), Some(b)) => a == b,
            _ => self.serial.is_some() && self.serial == other.serial,
        }
    }
}

/// Why a whole disk is never touched unless it is asked for by its serial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exclusion {
    /// The kernel says that its medium or the disk itself is removable.
    Removable,
    /// It hangs on a USB bus.
    Usb,
}

/// One whole disk: `sd*`, `hd*`, `vd*`, `xvd*`, `nvme*n*` or `mmcblk*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Kernel name of this boot, such as `sda`.
    pub name: String,
    /// Device node, such as `/dev/sda`.
    pub path: PathBuf,
    /// Size in bytes.
    pub size: u64,
    /// Logical block size in bytes: the unit of every transfer.
    pub logical_block_size: u32,
    /// Physical block size in bytes.
    pub physical_block_size: u32,
    /// Who it is.
    pub identity: Identity,
    /// Where it is plugged in: the part of its sysfs device path that names bus, slot and port, without the
    /// numbers that the kernel hands out in order of discovery.
    pub location: String,
    /// The kernel refuses writes.
    pub read_only: bool,
    /// Set where the disk is taken only when asked for by its serial.
    pub excluded: Option<Exclusion>,
}

/// All whole disks of the machine, sorted by kernel name; the excluded ones too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The disks.
    pub disks: Vec<Disk>,
}
