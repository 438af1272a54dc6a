//! The disks of this machine, from a given sysfs root.
#![forbid(unsafe_code)]

mod attr;
#[cfg(test)]
pub(crate) mod fixture;
pub mod health;
mod identity;
mod location;
mod opened;
mod paths;
pub mod pci;
mod settle;
mod usage;
mod who;

pub use health::Health;
pub use paths::Route;
pub use settle::{Looks, Settle, Unsettled, settled};
pub use usage::{Use, why_in_use};
pub use who::{Identity, is_named_by};

use crate::used::DiskContent;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

/// Why a whole disk is never touched unless it is asked for by its serial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exclusion {
    /// The kernel says that its medium or the disk itself is removable, or it is an SD card.
    Removable,
    /// It hangs on a USB bus.
    Usb,
}

/// One whole disk: `sd*`, `hd*`, `vd*`, `xvd*`, `nvme*n*` or `mmcblk*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Kernel name of this boot, such as `sda`.
    pub name: String,
    /// Device node, such as `/dev/sda`.
    pub path: PathBuf,
    /// The kernel's number of this appearance of the disk, which no other disk and no later appearance of the same one
    /// gets (Documentation/ABI/testing/sysfs-block); `None` before Linux 5.15.
    pub diskseq: Option<u64>,
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
    /// Which unit it is and through what it is reached, where the kernel proves that.
    pub route: Option<Route>,
    /// The kernel refuses writes.
    pub read_only: bool,
    /// Set where the disk is taken only when asked for by its serial.
    pub excluded: Option<Exclusion>,
    /// What tells its content from that of other disks. As with `health`, [`Inventory::scan`] does not look.
    pub content: DiskContent,
    /// Arrays that it is a member of, with whole partitions or as a whole; found with `content`.
    pub raid: Vec<String>,
    /// Another disk of the machine shows the same identity. The plan finds it out.
    pub is_twin: bool,
    /// What its firmware says of its state. [`Inventory::scan`] does not ask: whoever has the devices does, once the
    /// list is settled.
    pub health: Health,
}

/// All whole disks of the machine, sorted by kernel name; the excluded ones too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The disks.
    pub disks: Vec<Disk>,
}

/// The disks could not be listed.
#[derive(Debug, thiserror::Error)]
#[error("cannot list the disks: {}: {why}", path.display())]
pub struct ScanError {
    /// The file or folder of sysfs.
    pub path: PathBuf,
    /// What the kernel said, or `InvalidData` for a text that is not a number.
    pub why: io::Error,
}

impl Disk {
    /// Whether it is an eMMC: an SD card, which the kernel calls alike, is removable.
    pub fn is_emmc(&self) -> bool {
        self.name.starts_with("mmcblk") && self.excluded.is_none()
    }
}

impl Inventory {
    /// Lists the whole disks below `sysfs` (`/sys`); their nodes are expected below `dev` (`/dev`).
    ///
    /// Partitions, loop, RAM, device-mapper, RAID, optical, floppy and network block devices are none, nor are the
    /// boot and RPMB areas of an eMMC, the hidden paths of NVMe multipath, and drives without a medium (size 0).
    ///
    /// # Errors
    /// Where the list, or the size or a block size of a disk, cannot be read. A disk that goes away meanwhile is
    /// left out.
    pub fn scan(sysfs: &Path, dev: &Path) -> Result<Inventory, ScanError> {
        let block = sysfs.join("block");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |why| ScanError { path, why }
        };
        let root = fs::canonicalize(sysfs).map_err(failed(sysfs))?;
        let mut disks = Vec::new();
        for entry in fs::read_dir(&block).map_err(failed(&block))? {
            let entry = entry.map_err(failed(&block))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if !is_whole_disk(&name) {
                continue;
            }
            let disk = fs::canonicalize(entry.path())
                .map_err(failed(&entry.path()))
                .and_then(|dir| read_disk(&root, &dir, name, dev));
            match disk {
                Ok(disk) => disks.extend(disk),
                // Unplugged between the listing and now.
                Err(_) if !entry.path().exists() => {}
                Err(e) => return Err(e),
            }
        }
        disks.sort_by(|a: &Disk, b| a.name.cmp(&b.name));
        Ok(Inventory { disks })
    }
}

/// True for the kernel's names of whole disks (Documentation/admin-guide/devices.txt).
fn is_whole_disk(name: &str) -> bool {
    let letters = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase());
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if let Some(rest) = name.strip_prefix("nvme") {
        // nvme0n1; nvme0c0n1 is one hidden path to it.
        return rest.split_once('n').is_some_and(|(a, b)| digits(a) && digits(b));
    }
    if let Some(rest) = name.strip_prefix("mmcblk") {
        return digits(rest);
    }
    ["sd", "hd", "vd", "xvd"].iter().any(|prefix| name.strip_prefix(prefix).is_some_and(letters))
}

/// Reads one disk from its resolved sysfs folder; `None` where it is hidden or has no medium.
fn read_disk(root: &Path, dir: &Path, name: String, dev: &Path) -> Result<Option<Disk>, ScanError> {
    let number = |path: &str| {
        let path = dir.join(path);
        let text = fs::read_to_string(&path);
        let parse = |text: String| text.trim().parse::<u64>().map_err(io::Error::other);
        text.and_then(parse).map_err(|why| ScanError { path, why })
    };
    let set = |path: &str| attr::text(&dir.join(path)).is_some_and(|text| text != "0");
    if set("hidden") {
        return Ok(None);
    }
    // Documentation/ABI/stable/sysfs-block: always in units of 512 bytes.
    let sectors = number("size")?;
    if sectors == 0 {
        return Ok(None);
    }
    let invalid = |path: &str, what: &str| ScanError {
        path: dir.join(path),
        why: io::Error::new(io::ErrorKind::InvalidData, what.to_owned()),
    };
    let size = sectors.checked_mul(512).ok_or_else(|| invalid("size", "more than 16 EiB"))?;
    let block_size = |path: &str| {
        let value = number(path)?;
        match u32::try_from(value) {
            Ok(value) if value >= 512 && value.is_power_of_two() => Ok(value),
            _ => Err(invalid(path, &format!("{value} is not a block size"))),
        }
    };
    let on_usb = dir.iter().filter_map(|part| part.to_str()).any(|part| {
        part.strip_prefix("usb").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    });
    // The kernel calls no SD card removable, although all are; eMMC has the type "MMC".
    let removable = set("removable") || attr::text(&dir.join("device/type")).as_deref() == Some("SD");
    let excluded = match (on_usb, removable) {
        (true, _) => Some(Exclusion::Usb),
        (false, true) => Some(Exclusion::Removable),
        (false, false) => None,
    };
    Ok(Some(Disk {
        path: dev.join(&name),
        diskseq: attr::text(&dir.join("diskseq")).and_then(|text| text.parse().ok()),
        size,
        logical_block_size: block_size("queue/logical_block_size")?,
        physical_block_size: block_size("queue/physical_block_size")?,
        identity: identity::read(&name, dir),
        location: location::of(root, dir),
        route: paths::read(&name, dir),
        read_only: set("ro"),
        excluded,
        content: DiskContent::default(),
        raid: Vec::new(),
        is_twin: false,
        health: Health::default(),
        name,
    }))
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Exclusion::Removable => "removable",
            Exclusion::Usb => "USB",
        })
    }
}

/// One line that a person can pick a disk by: name, size, model, serial, WWN, location, and what speaks against it.
impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Tenths of a decimal gigabyte, as the label on the disk counts; small disks in megabytes.
        let (unit, divisor) = if self.size < 1_000_000_000 { ("MB", 100_000) } else { ("GB", 100_000_000) };
        let tenths = self.size / divisor;
        write!(f, "{}: {}.{} {unit} ({} bytes)", self.name, tenths / 10, tenths % 10, self.size)?;
        write!(f, ", {}", self.identity.model.as_deref().unwrap_or("unknown model"))?;
        match &self.identity.serial {
            Some(serial) => write!(f, ", serial {serial}")?,
            None => f.write_str(", no serial")?,
        }
        if let Some(wwn) = &self.identity.wwn {
            write!(f, ", wwn {wwn}")?;
        }
        write!(f, ", at {}", self.location)?;
        if self.logical_block_size != 512 {
            write!(f, ", {}-byte blocks", self.logical_block_size)?;
        }
        if self.read_only {
            f.write_str(", read-only")?;
        }
        if let Some(why) = self.excluded {
            write!(f, ", excluded ({why})")?;
        }
        match self.health.to_string() {
            nothing if nothing.is_empty() => Ok(()),
            state => write!(f, ", {state}"),
        }
    }
}

#[cfg(test)]
mod tests;
