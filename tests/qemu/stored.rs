//! Backups that `testboxctl serve` keeps: no NFS anywhere. `scripts/demo --store` shows it on the screen.

use crate::lab::{Bus, Lab, Station::Nat, narrate, poll};
use std::time::Duration;

/// From a real Debian to the same Debian on a blank disk, by PXE, HTTPS and one server. The server is killed while it takes
/// the image, and started again: the machine waits and goes on.
#[test]
fn a_lost_disk_comes_back_from_a_store_without_nfs() {
    let lab = Lab::without_nfs("store");
    let store = lab.store();
    let system = lab.debian_disk(Bus::Virtio, "SYSTEM-1");
    let before = system.hash();
    narrate!(
        "The admin arms the machine {} with 'backup', for 'testboxctl serve': no NFS server runs",
        Nat.ip()
    );
    lab.arm_stored(&store, "backup");
    let mut machine = lab.machine(Nat).disk(&system).memory(512).cpus(2).power_on();
    machine.wait_for("imaging vda as vda.raw.gz", 600);
    let part = lab.share_of(Nat).path("vda.raw.gz.part");
    let is_under_way = || std::fs::metadata(&part).ok().filter(|about| about.len() > 20 << 20);
    assert!(poll(Duration::from_secs(300), is_under_way).is_some(), "no part grows");
    narrate!("The server is killed while it takes the image, and started again");
    store.kill();
    std::thread::sleep(Duration::from_secs(2));
    let store = lab.store();
    machine.wait_for("OWN-OS-BOOTED", 1200);
    machine.wait_for_power_off(120);
    let share = lab.share_of(Nat);
    assert!(!lab.is_armed(Nat), "backup must disarm the machine");
    share.assert_has(&["backup.json", "testbox-info.txt", "maintenance.log", Nat.name(), &Nat.hexip()]);
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
    let mut machine = lab.machine(Nat).disk(&new).memory(512).cpus(2).power_on();
    machine.wait_for("OWN-OS-BOOTED", 1200);
    machine.wait_for_power_off(120);
    assert!(!lab.is_armed(Nat), "restore must disarm the machine");
    assert_eq!(new.hash(), before, "the disk must be what it was, to the last byte");
    narrate!("VERDICT: the disk is what it was, to the last byte, and the machine has booted its own Debian");
}
