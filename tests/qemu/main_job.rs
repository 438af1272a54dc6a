//! The job that all of this is for. `scripts/demo` shows this scenario on the screen.

use crate::lab::{Boot, Bus, Lab, Station::Nat, narrate};

/// Backup of a real Debian and of a disk of foreign filesystems, as the original did it: Debian on an NFS root, images by NFS; then
/// a store on the same folder. The images are the disks, read by plain `zcat`; the
/// system disk is replaced by a new one and the other one lost its data; restore; the machine boots its own Debian.
#[test]
fn a_lost_disk_comes_back_and_boots_its_own_system() {
    let lab = Lab::new("main-job");
    let system = lab.debian_disk(Bus::Nvme, "SYSTEM-1");
    let data = lab.foreign_disk(Bus::Sata, "DATA-1");
    let before = [system.hash(), data.hash()];

    narrate!("The admin arms the machine {} with 'backup' and switches it on", Nat.ip());
    lab.arm(Nat, Boot::NfsRoot, "backup");
    let mut machine = lab.machine(Nat).disk(&system).disk(&data).memory(768).cpus(2).power_on();
    machine.wait_for("OWN-OS-BOOTED", 1200);
    machine.wait_for_power_off(120);
    let share = lab.share_of(Nat);
    assert!(!lab.is_armed(Nat), "backup must disarm the machine");
    share.assert_has(&[
        "backup.json",
        "testbox-info.txt",
        "testbox-info.zip",
        "maintenance.log",
        Nat.name(),
        &Nat.hexip(),
    ]);
    assert_eq!(share.json("status.json")["state"], "done");
    narrate!("Both images, read by plain zcat, against the disks");
    share.assert_image_is("nvme0n1.raw.gz", before[0]);
    share.assert_image_is("sda.raw.gz", before[1]);

    narrate!("The system disk dies and is replaced by a blank one; the data disk is wiped");
    let new = lab.blank_disk(Bus::Nvme, "SYSTEM-2", system.size() >> 20);
    data.wipe();
    narrate!(
        "'testboxctl serve' begins on the same folder; the admin arms 'restore' through it: HTTPS, no NFS"
    );
    let store = lab.store();
    lab.arm_stored(&store, "restore");
    let mut machine = lab.machine(Nat).disk(&new).disk(&data).memory(768).cpus(2).power_on();
    machine.wait_for("OWN-OS-BOOTED", 1200);
    machine.wait_for_power_off(120);
    assert!(!lab.is_armed(Nat), "restore must disarm the machine");
    assert_eq!([new.hash(), data.hash()], before, "the disks must be what they were, to the last byte");
    narrate!(
        "VERDICT: both disks are what they were, to the last byte, and the machine has booted its own Debian"
    );
}
