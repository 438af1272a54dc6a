//! USB devices, network interfaces, ATA links and NVMe controllers: curated attributes of sysfs classes.

use super::page::{self, InfoPage};
use std::fs;
use std::path::Path;

/// Every device on a USB bus, with the drivers of its interfaces.
pub(super) fn usb(page: &mut InfoPage, sys: &Path) {
    for device in page.list(&sys.join("bus/usb/devices")) {
        let name = page::name(&device);
        if name.contains(':') {
            let driver = page::link_name(&device.join("driver")).unwrap_or_else(|| "none".into());
            page.line(format!("{name}: interface, driver {driver}"));
            page.attributes("\t", &device, &["bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol"]);
        } else {
            page.line(format!("{name}: device"));
            page.attributes(
                "\t",
                &device,
                &[
                    "idVendor",
                    "idProduct",
                    "bcdDevice",
                    "manufacturer",
                    "product",
                    "serial",
                    "version",
                    "speed",
                    "bDeviceClass",
                    "bMaxPower",
                ],
            );
        }
    }
}

/// Every network interface, with its MAC, driver and place.
pub(super) fn network(page: &mut InfoPage, sys: &Path) {
    for interface in page.list(&sys.join("class/net")) {
        page.line(page::name(&interface));
        page.attributes(
            "\t",
            &interface,
            &["address", "type", "operstate", "carrier", "mtu", "phys_port_id", "phys_port_name"],
        );
        // Both are EINVAL while the link is down: no fact to report then.
        for attr in ["speed", "duplex"] {
            if let Ok(raw) = page::read(&interface.join(attr), 64) {
                page.value("\t", attr, &String::from_utf8_lossy(&raw));
            }
        }
        device(page, &interface);
    }
}

/// SATA links, ATA devices with their identify data, NVMe controllers, SCSI hosts.
pub(super) fn storage(page: &mut InfoPage, sys: &Path) {
    for (class, attributes) in [
        ("ata_link", &["sata_spd", "sata_spd_limit", "hw_sata_spd_limit"][..]),
        (
            "ata_device",
            &["class", "pio_mode", "dma_mode", "xfer_mode", "spdn_cnt", "ering", "trim", "gscr", "id"],
        ),
        (
            "nvme",
            &[
                "model",
                "serial",
                "firmware_rev",
                "subsysnqn",
                "transport",
                "address",
                "state",
                "cntlid",
                "queue_count",
                "numa_node",
            ],
        ),
        ("scsi_host", &["proc_name", "model_name", "state", "link_power_management_policy"]),
        ("mmc_host", &[]),
    ] {
        let dir = sys.join("class").join(class);
        // The class is there only where such a driver is loaded.
        if !dir.exists() {
            continue;
        }
        for entry in page.list(&dir) {
            page.line(format!("{class} {}", page::name(&entry)));
            page.attributes("\t", &entry, attributes);
            device(page, &entry);
        }
    }
}

/// The device behind a class entry, and its driver.
fn device(page: &mut InfoPage, entry: &Path) {
    if let Ok(path) = fs::canonicalize(entry.join("device")) {
        page.line(format!("\tdevice: {}", path.display()));
    }
    if let Some(driver) = page::link_name(&entry.join("device/driver")) {
        page.line(format!("\tdriver: {driver}"));
    }
}
