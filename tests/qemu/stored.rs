//! Machines that boot from `testboxctl serve` alone, which keeps their backups, too: no DHCP, TFTP or NFS server beside it.
//! `scripts/demo --store` shows it on the screen.

use crate::lab::{Advice, Bus, Lab, Station::Bridge, narrate, poll, run};
use std::time::Duration;

/// From a real Debian to the same Debian on a blank disk, by PXE, HTTPS and one server for all of it. The server is killed while it takes
/// the image, and started again: the machine waits and goes on.
#[test]
fn a_lost_disk_comes_back_from_a_store_without_nfs() {
    let at = Bridge(1);
    let lab = Lab::without_boot_server("store");
    let store = lab.only_server(at);
    let system = lab.debian_disk(Bus::Virtio, "SYSTEM-1");
    let before = system.hash();
    narrate!(
        "The admin arms the machine {} with 'backup', for 'testboxctl serve': no DHCP, TFTP or NFS server runs beside it",
        at.ip()
    );
    lab.arm_stored(&store, "backup");
    let mut machine = lab.machine(at).disk(&system).memory(512).cpus(2).power_on();
    machine.wait_for("imaging vda as vda.raw.gz", 600);
    let part = lab.share_of(at).path("vda.raw.gz.part");
    let is_under_way = || std::fs::metadata(&part).ok().filter(|about| about.len() > 20 << 20);
    assert!(poll(Duration::from_secs(300), is_under_way).is_some(), "no part grows");
    narrate!("The server is killed while it takes the image, and started again");
    store.kill();
    std::thread::sleep(Duration::from_secs(2));
    let store = lab.only_server(at);
    machine.wait_for("OWN-OS-BOOTED", 1200);
    machine.wait_for_power_off(120);
    let share = lab.share_of(at);
    assert!(!lab.is_armed(at), "backup must disarm the machine");
    share.assert_has(&["backup.json", "testbox-info.txt", "maintenance.log", at.name(), &at.hexip()]);
    assert_eq!(share.json("status.json")["state"], "done");
    share.assert_image_is("vda.raw.gz", before);
    let info = share.read("testbox-info.txt");
    assert_eq!(
        info.matches("testbox.token=").count(),
        info.matches("testbox.token=[redacted]").count(),
        "{info}"
    );

    narrate!("The disk dies and is replaced by a blank one; PXE again, with 'restore'");
    let new = lab.blank_disk(Bus::Virtio, "SYSTEM-2", system.size() >> 20);
    lab.arm_stored(&store, "restore");
    let mut machine = lab.machine(at).disk(&new).memory(512).cpus(2).power_on();
    machine.wait_for("OWN-OS-BOOTED", 1200);
    machine.wait_for_power_off(120);
    assert!(!lab.is_armed(at), "restore must disarm the machine");
    assert_eq!(new.hash(), before, "the disk must be what it was, to the last byte");
    narrate!("VERDICT: the disk is what it was, to the last byte, and the machine has booted its own Debian");
}

/// The firmware's own PXE, shim and GRUB: armed it does its action, and then it goes on to its disk; not armed, at once.
#[test]
fn long_a_machine_with_uefi_boots_from_serve_alone() {
    let at = Bridge(1);
    let lab = Lab::without_boot_server("serve-uefi");
    let server = lab.only_server(at);
    let firmware = lab.secure_boot();
    let system = lab.debian_disk(Bus::Nvme, "SYSTEM-1");
    lab.arm_stored(&server, "backup");
    let mut machine = lab.machine(at).uefi(&firmware).disk(&system).cpus(2).power_on();
    machine.wait_for(&format!("testbox: pxelinux.cfg/{}", at.hexip()), 600);
    machine.wait_for("testbox: not armed, on to (", 1200);
    machine.wait_for("OWN-OS-BOOTED", 600);
    machine.wait_for_power_off(120);
    assert!(!lab.is_armed(at), "backup must disarm the machine");
    assert_eq!(lab.share_of(at).json("status.json")["state"], "done");
}

/// Beside a DHCP server that knows nothing of booting: the ROM, and UEFI with the GRUB that `init` has the admin make.
#[test]
fn long_machines_boot_from_serve_beside_a_dhcp_server() {
    let at = Bridge(1);
    let lab = Lab::with_addresses_alone("serve-proxy");
    let _server = lab.proxy_server(at);
    std::fs::write(lab.pxe_file(at), "SAY THE-ARMED-FILE\nDEFAULT l\nLABEL l\n  LOCALBOOT 0\n").unwrap();
    let mut machine = lab.machine(at).power_on();
    machine.wait_for("THE-ARMED-FILE", 300);
    machine.cut_power();

    let settings = lab.file("testbox.toml");
    std::fs::write(&settings, format!("server = \"{}\"\n", at.server())).unwrap();
    let advice = Advice(lab.testboxctl(&format!("init --config {}", settings.display())));
    run(lab.inside("sh").arg("-ec").arg(advice.grub_mkimage()));
    std::fs::write(lab.pxe_file(at), "UI menu.c32\nMENU TITLE by hand\n").unwrap();
    let firmware = lab.uefi();
    let mut machine = lab.machine(at).uefi(&firmware).power_on();
    machine.wait_for(&format!("testbox: GRUB cannot read pxelinux.cfg/{}", at.hexip()), 600);
    machine.cut_power();
}
