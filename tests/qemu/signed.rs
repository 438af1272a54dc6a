//! An initrd that demands signatures.

use crate::lab::{Boot::AgentOnly, Bus, Lab, Station::Nat};
use std::fs;
use std::process::Command;

/// Puts a key and the demand before the initrd: the kernel unpacks one archive after the other. Gives the name of the
/// new initrd, and the path of the secret key beside the servers.
fn demand_signatures(lab: &Lab) -> (&'static str, String) {
    let root = lab.file("overlay");
    fs::create_dir_all(root.join("etc/testbox")).unwrap();
    fs::write(root.join("etc/testbox/require-signature"), "").unwrap();
    let key = lab.file("key");
    lab.testboxctl(&format!("keygen {}", key.display()));
    fs::copy(key.with_extension("pub"), root.join("etc/testbox/lab.pub")).unwrap();
    let cpio = Command::new("sh")
        .args(["-c", "find etc | cpio --quiet -o -H newc"])
        .current_dir(&root)
        .output()
        .unwrap();
    assert!(cpio.status.success(), "{}", String::from_utf8_lossy(&cpio.stderr));
    let boot = lab.tftp().join("maintenance-boot");
    let initrd = fs::read(boot.join("initrd.img")).unwrap();
    fs::write(boot.join("signed.img"), [cpio.stdout, initrd].concat()).unwrap();
    ("maintenance-boot/signed.img", key.display().to_string())
}

#[test]
fn only_what_the_admin_has_signed_is_restored() {
    let lab = Lab::new("signed");
    let (initrd, key) = demand_signatures(&lab);
    let disk = lab.small_disk(Bus::Virtio, "SIGNED-1", 16);
    let before = disk.hash();
    lab.run_once(Nat, &[&disk], "testbox.action=backup testbox.job=first");
    lab.testboxctl(&format!("sign --sign-key {key} {}", Nat.ip()));
    disk.wipe();
    let wiped = disk.hash();

    // Nobody has signed this one; and nothing on the command line talks the initrd out of it.
    lab.arm(Nat, AgentOnly, &format!("restore --initrd {initrd}"));
    let mut machine = lab.machine(Nat).disk(&disk).power_on();
    machine.wait_for("[job-signature 63]", 300);
    machine.wait_for_reset(120);
    machine.cut_power();
    assert!(lab.is_armed(Nat));
    assert_eq!(disk.hash(), wiped, "nothing is written");

    lab.arm(Nat, AgentOnly, &format!("restore --initrd {initrd} --sign-key {key}"));
    let mut machine = lab.machine(Nat).disk(&disk).power_on();
    machine.wait_for("the job is signed by SHA256:", 300);
    machine.wait_for_reset(300);
    machine.cut_power();
    assert!(!lab.is_armed(Nat));
    assert_eq!(disk.hash(), before, "the disk is what it was");
    lab.share_of(Nat).assert_logged("info", "set 1 is signed by SHA256:");
}
