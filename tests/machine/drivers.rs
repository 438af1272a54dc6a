//! Machines whose disk controller or network card nothing drives.

use crate::world::{Machine, REBOOT, disk};
use testbox::inventory::pci::PciDevice;

/// What a person needs to find the driver: the ids.
#[test]
fn a_machine_without_disk_or_card_names_ids_without_driver() {
    let pci = |ids: (u16, u16), class, driver: Option<&str>| PciDevice {
        address: "0000:03:00.0".into(),
        vendor: ids.0,
        device: ids.1,
        class,
        driver: driver.map(str::to_owned),
    };
    let devices = vec![
        pci((0x1000, 0x97), 0x01_0700, None),
        pci((0x14e4, 0x16a1), 0x02_0000, None),
        pci((0x8086, 0x2922), 0x01_0601, Some("ahci")),
    ];
    let mut machine = Machine::new();
    machine.pci = devices;
    machine.set_disks(Vec::new());
    machine.arm("testbox.action=backup testbox.job=one");
    let seen = machine.boot();
    let failure = machine.status().error.unwrap();
    assert_eq!(machine.status().code, Some(40), "{}", seen.console);
    assert!(failure.contains("is bound to PCI 1000:0097 (class 010700) at 0000:03:00.0"), "{failure}");
    assert!(
        failure.contains("make-nfsroot") && !failure.contains("2922") && !failure.contains("16a1"),
        "{failure}"
    );
    // With a disk the log says it, too.
    machine.set_disks(vec![disk("sda S1 @1", vec![1; 1 << 20])]);
    assert_eq!(machine.boot().ending, REBOOT);
    assert!(machine.text("maintenance.log").contains("disk controller PCI 1000:0097"));
    machine.net_conf.clear();
    machine.arm("testbox.action=backup-again testbox.job=two");
    let console = machine.boot().console;
    assert!(
        console.contains("no IPv4 address; no driver of this initramfs is bound to PCI 14e4:16a1"),
        "{console}"
    );
    machine.pci.clear();
    let console = machine.boot().console;
    assert!(
        console.contains("no IPv4 address") && !console.contains("driver of this initramfs"),
        "{console}"
    );
}
