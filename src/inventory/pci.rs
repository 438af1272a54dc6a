//! PCI devices that nothing drives: why a machine shows no disk or no network card.
#![forbid(unsafe_code)]

use super::attr;
use std::path::Path;
use std::{fmt, fs};

/// One PCI device, as `/sys/bus/pci/devices/<address>` shows it (Documentation/PCI/sysfs-pci.rst).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PciDevice {
    /// Domain, bus, device and function, such as `0000:03:00.0`.
    pub address: String,
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Base class, subclass and programming interface, one byte each.
    pub class: u32,
    /// The driver that is bound to it.
    pub driver: Option<String>,
}

/// What a machine cannot do without a driver for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PciClass {
    /// Mass storage controllers, base class 01.
    Storage,
    /// Network controllers, base class 02.
    Network,
}

impl PciDevice {
    /// The devices of this machine, by their addresses; one that cannot be read is left out.
    pub fn scan(sysfs: &Path) -> Vec<PciDevice> {
        let entries = fs::read_dir(sysfs.join("bus/pci/devices")).into_iter().flatten();
        let mut found: Vec<_> = entries.filter_map(|entry| PciDevice::read(&entry.ok()?.path())).collect();
        found.sort_by(|a, b| a.address.cmp(&b.address));
        found
    }

    /// The device in this folder of sysfs; `None` where its ids cannot be read.
    pub fn read(dir: &Path) -> Option<PciDevice> {
        let number = |name: &str| {
            let text = attr::text(&dir.join(name))?;
            u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
        };
        let name = |path: &Path| Some(path.file_name()?.to_string_lossy().into_owned());
        Some(PciDevice {
            address: name(dir)?,
            vendor: u16::try_from(number("vendor")?).ok()?,
            device: u16::try_from(number("device")?).ok()?,
            class: number("class")?,
            driver: fs::read_link(dir.join("driver")).ok().and_then(|target| name(&target)),
        })
    }

    /// What it would be good for, if that is a disk or the network.
    pub fn good_for(&self) -> Option<PciClass> {
        match self.class >> 16 {
            0x01 => Some(PciClass::Storage),
            0x02 => Some(PciClass::Network),
            _ => None,
        }
    }

    /// Whether it is a disk controller or network card that nothing drives.
    pub fn lacks_driver(&self) -> bool {
        self.driver.is_none() && self.good_for().is_some()
    }
}

/// The devices of a class that nothing drives.
pub fn without_driver(devices: &[PciDevice], class: PciClass) -> impl Iterator<Item = &PciDevice> {
    devices.iter().filter(move |device| device.lacks_driver() && device.good_for() == Some(class))
}

/// What a failure says where the machine lacks something of this class; empty where every device has its driver.
pub fn blame(devices: &[PciDevice], class: PciClass) -> String {
    let found: Vec<_> = without_driver(devices, class).map(ToString::to_string).collect();
    match found.is_empty() {
        true => String::new(),
        false => format!("; no driver of this initramfs is bound to {}", found.join(", ")),
    }
}

/// What mends it.
pub const NO_DRIVER: &str = "put the module (and firmware) for these ids into the initramfs: make-nfsroot.";

impl fmt::Display for PciDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PciDevice { address, vendor, device, class, .. } = self;
        write!(f, "PCI {vendor:04x}:{device:04x} (class {class:06x}) at {address}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::fixture::SysfsTree;

    #[test]
    fn a_controller_or_card_without_driver_is_named_by_its_ids() {
        let tree = SysfsTree::new();
        for (address, vendor, device, class, driver) in [
            ("0000:00:1f.2", "0x8086", "0x2922", "0x010601", Some("ahci")),
            ("0000:03:00.0", "0x1000", "0x0097", "0x010700", None),
            ("0000:04:00.0", "0x14e4", "0x16a1", "0x020000", None),
            ("0000:05:00.0", "0x8086", "0x10d3", "0x020000", Some("e1000e")),
            ("0000:00:02.0", "0x8086", "0x1234", "0x030000", None),
            ("0000:06:00.0", "junk", "0x1234", "0x010000", None),
        ] {
            let dir = format!("bus/pci/devices/{address}");
            for (name, text) in [("vendor", vendor), ("device", device), ("class", class)] {
                tree.file(&format!("{dir}/{name}"), format!("{text}\n"));
            }
            if let Some(driver) = driver {
                tree.file(&format!("bus/pci/drivers/{driver}/bind"), "");
                tree.link(&format!("{dir}/driver"), &format!("bus/pci/drivers/{driver}"));
            }
        }
        let devices = PciDevice::scan(&tree.sys());
        assert_eq!(devices.len(), 5, "{devices:?}");
        assert_eq!(
            blame(&devices, PciClass::Storage),
            "; no driver of this initramfs is bound to PCI 1000:0097 (class 010700) at 0000:03:00.0"
        );
        assert!(blame(&devices, PciClass::Network).ends_with("PCI 14e4:16a1 (class 020000) at 0000:04:00.0"));
        let driven: Vec<_> = devices.into_iter().filter(|device| !device.lacks_driver()).collect();
        assert_eq!(blame(&driven, PciClass::Storage) + &blame(&driven, PciClass::Network), "");
        assert!(PciDevice::scan(&tree.root().join("nothing")).is_empty());
    }
}
