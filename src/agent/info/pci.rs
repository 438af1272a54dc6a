//! PCI devices from `/sys/bus/pci/devices` (Documentation/PCI/sysfs-pci.rst).

use super::page::{self, InfoPage};
use crate::inventory::pci::PciDevice;
use std::path::Path;

/// The standard header and the device's own capabilities. The extended space is left alone: reading registers that
/// nobody reads has hung devices, and nobody is there to press reset.
const CONFIG_BYTES: u64 = 256;

pub(super) fn write(page: &mut InfoPage, sys: &Path) {
    for device in page.list(&sys.join("bus/pci/devices")) {
        let id = |attr: &str| {
            let raw = page::read(&device.join(attr), 64).ok()?;
            let text = std::str::from_utf8(&raw).ok()?.trim().strip_prefix("0x")?;
            u32::from_str_radix(text, 16).ok()
        };
        let hex = |attr: &str| id(attr).map_or_else(|| "????".to_owned(), |n| format!("{n:04x}"));
        let class = id("class").unwrap_or_default();
        page.line(format!(
            "{} [{:06x}] {}: {}:{} (rev {:02x}), subsystem {}:{}",
            page::name(&device),
            class,
            class_name(class),
            hex("vendor"),
            hex("device"),
            id("revision").unwrap_or_default(),
            hex("subsystem_vendor"),
            hex("subsystem_device"),
        ));
        for link in ["driver", "iommu_group", "physfn"] {
            if let Some(target) = page::link_name(&device.join(link)) {
                page.line(format!("\t{link}: {target}"));
            }
        }
        if PciDevice::read(&device).is_some_and(|device| device.lacks_driver()) {
            page.line("\tdriver: NONE: no disk or network through it");
        }
        page.attributes(
            "\t",
            &device,
            &[
                "label",
                "irq",
                "numa_node",
                "enable",
                "power_state",
                "current_link_speed",
                "current_link_width",
                "max_link_speed",
                "max_link_width",
                "secondary_bus_number",
                "subordinate_bus_number",
            ],
        );
        match page::read(&device.join("resource"), 64 * 1024) {
            Ok(raw) => {
                for (i, line) in String::from_utf8_lossy(&raw).lines().enumerate() {
                    if let Some(text) = resource(i, line) {
                        page.line(format!("\t{text}"));
                    }
                }
            }
            Err(e) => page.missing("its resources", &e),
        }
        match page::read(&device.join("config"), CONFIG_BYTES) {
            Ok(raw) => page.hex("", &raw),
            Err(e) => page.missing("its configuration space", &e),
        }
        page.line("");
    }
}

/// One line of `resource`: start, end, flags (include/linux/ioport.h); `None` where it is unused.
fn resource(index: usize, line: &str) -> Option<String> {
    let numbers: Vec<u64> = line
        .split_whitespace()
        .map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok())
        .collect::<Option<_>>()?;
    let [start, end, flags] = numbers[..] else { return None };
    if flags == 0 {
        return None;
    }
    let what = match index {
        0..=5 => format!("BAR {index}"),
        6 => "ROM".to_owned(),
        _ => format!("window {}", index - 7),
    };
    let kind = match flags & 0x1f00 {
        0x100 => "I/O ports",
        0x200 => "memory",
        _ => "other",
    };
    let mut text = format!("{what}: {kind} {start:#x}-{end:#x}");
    if let Some(size) = end.checked_sub(start).and_then(|n| n.checked_add(1)) {
        text += &format!(" ({size} bytes)");
    }
    for (bit, word) in [(0x2000, "prefetchable"), (0x10_0000, "64-bit"), (0x1000_0000, "disabled")] {
        if flags & bit != 0 {
            text += ", ";
            text += word;
        }
    }
    Some(text)
}

/// What finds disks and networks by its exact name, all else by its base class.
fn class_name(class: u32) -> &'static str {
    let starts = |(code, digits): (u32, u32)| class >> (24 - 4 * digits) == code;
    CLASSES.iter().find(|(prefix, _)| starts(*prefix)).map_or("device", |(_, name)| name)
}

/// The first hexadecimal digits of class codes (PCI Code and ID Assignment Specification 1.11, section 1), and how many.
const CLASSES: &[((u32, u32), &str)] = &[
    ((0x01_0601, 6), "SATA controller (AHCI)"),
    ((0x0101, 4), "IDE controller"),
    ((0x0104, 4), "RAID controller"),
    ((0x0107, 4), "SAS controller"),
    ((0x0108, 4), "NVM controller"),
    ((0x0200, 4), "Ethernet controller"),
    ((0x0c_0330, 6), "USB controller (xHCI)"),
    ((0x0c03, 4), "USB controller"),
    ((0x01, 2), "mass storage controller"),
    ((0x02, 2), "network controller"),
    ((0x03, 2), "display controller"),
    ((0x04, 2), "multimedia device"),
    ((0x05, 2), "memory controller"),
    ((0x06, 2), "bridge"),
    ((0x07, 2), "communication controller"),
    ((0x08, 2), "system peripheral"),
    ((0x0c, 2), "serial bus controller"),
    ((0x0d, 2), "wireless controller"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resource_lines_are_decoded_and_odd_ones_left_out() {
        for (index, line, want) in [
            (
                0,
                "0x000000000000c040 0x000000000000c05f 0x0000000000040101",
                Some("BAR 0: I/O ports 0xc040-0xc05f (32 bytes)"),
            ),
            (
                4,
                "0x00000000fe000000 0x00000000fe003fff 0x000000000014220c",
                Some("BAR 4: memory 0xfe000000-0xfe003fff (16384 bytes), prefetchable, 64-bit"),
            ),
            (6, "0x0 0xffffffffffffffff 0x200", Some("ROM: memory 0x0-0xffffffffffffffff")),
            (7, "0x5 0x1 0x100", Some("window 0: I/O ports 0x5-0x1")),
            (1, "0x0 0x0 0x0", None),
            (1, "0x1 0x2", None),
            (1, "junk", None),
        ] {
            assert_eq!(resource(index, line).as_deref(), want);
        }
    }

    #[test]
    fn storage_and_network_classes_have_their_names() {
        for (class, want) in [
            (0x01_0601, "SATA controller (AHCI)"),
            (0x01_0802, "NVM controller"),
            (0x01_8000, "mass storage controller"),
            (0x02_0000, "Ethernet controller"),
            (0x0c_0330, "USB controller (xHCI)"),
            (0xff_ffff, "device"),
        ] {
            assert_eq!(class_name(class), want);
        }
    }
}
