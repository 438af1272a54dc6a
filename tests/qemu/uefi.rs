//! Machines with UEFI: OVMF's own network boot, shim, GRUB, and the same files as for the BIOS.

use crate::lab::{Boot, Bus, Lab, Station::Nat, narrate};
use std::fs;

/// With Secure Boot: armed, it does its action; not armed, it goes on to its disk, each time. Then the disk is replaced by one of
/// another size on another bus, the firmware has forgotten everything, and the machine boots its own Debian again.
/// `scripts/demo --uefi` shows this scenario on the screen.
#[test]
fn a_machine_with_secure_boot_gets_its_system_back() {
    let lab = Lab::new("secure-boot");
    let firmware = lab.secure_boot();
    let system = lab.debian_disk(Bus::Nvme, "SYSTEM-1");
    let before = system.hash();

    narrate!("The admin arms the machine {} with 'backup' and switches it on", Nat.ip());
    lab.arm(Nat, Boot::AgentOnly, "backup");
    let mut machine = lab.machine(Nat).uefi(&firmware).disk(&system).cpus(2).power_on();
    machine.wait_for(&format!("testbox: pxelinux.cfg/{}", Nat.hexip()), 600);
    machine.wait_for("Kernel is locked down from EFI Secure Boot", 300);
    machine.wait_for("testbox: not armed, on to (", 900);
    machine.wait_for("OWN-OS-BOOTED", 600);
    machine.wait_for_power_off(120);
    assert!(!lab.is_armed(Nat), "backup must disarm the machine");
    lab.share_of(Nat).assert_image_is("nvme0n1.raw.gz", before);

    narrate!(
        "The disk dies; its replacement is larger and on another bus. The firmware has forgotten everything"
    );
    let new = lab.blank_disk(Bus::Virtio, "SYSTEM-2", (system.size() >> 20) + 200);
    let firmware = firmware.forget();
    lab.arm(Nat, Boot::AgentOnly, "restore --map nvme0n1:serial=SYSTEM-2");
    let mut machine = lab.machine(Nat).uefi(&firmware).disk(&new).cpus(2).power_on();
    machine.wait_for("testbox: not armed, on to (", 1200);
    machine.wait_for("OWN-OS-BOOTED", 600);
    machine.wait_for_power_off(120);
    assert!(!lab.is_armed(Nat), "restore must disarm the machine");
    assert_eq!(new.hash_of_root(), system.hash_of_root());
    narrate!("VERDICT: the machine has booted its own Debian from the new disk, with Secure Boot");
}

/// A file that GRUB cannot run and a kernel that is not there: the machine says so and tries again. The longest line that `arm`
/// writes reaches the kernel whole.
#[test]
fn what_grub_cannot_boot_never_counts_as_not_armed() {
    let lab = Lab::new("uefi-trouble");
    let firmware = lab.uefi();
    fs::write(lab.pxe_file(Nat), "UI menu.c32\nMENU TITLE by hand\n").unwrap();
    let mut machine = lab.machine(Nat).uefi(&firmware).power_on();
    machine.wait_for("testbox: GRUB cannot read pxelinux.cfg/0A00020F", 300);

    let kernel = lab.tftp().join("maintenance-boot/vmlinuz");
    let arm = |words: &str| {
        lab.testboxctl(&format!(
            "arm --force --server 10.0.2.2 --boot testbox --console ttyS0 --settle 2 --extra no_timer_check {words} 10.0.2.15 refresh-info"
        ))
    };
    arm("");
    fs::rename(&kernel, kernel.with_extension("away")).unwrap();
    machine.wait_for("testbox: this machine is armed, and cannot be started with these files", 300);

    fs::rename(kernel.with_extension("away"), &kernel).unwrap();
    let plain = arm("--dry-run");
    let append = plain.lines().find_map(|line| line.trim().strip_prefix("APPEND ")).expect(&plain);
    let around = "BOOT_IMAGE=/maintenance-boot/vmlinuz  BOOTIF=01-52-54-00-12-34-56".len();
    // What is not special to GRUB, and as much as there is room for. A kernel takes few words that it does not know, unless they
    // have a dot.
    let marks = "!%()+,-./:=@^_~";
    let mut words = vec![marks.to_owned()];
    let mut left = 2046 - append.len() - around - " ".len() - marks.len();
    while left > 0 {
        let length = if left > 80 { 40 } else { left };
        words.push(format!("x.{:x<1$}", words.len(), length - " x.".len()));
        left -= length;
    }
    arm(&words.iter().map(|word| format!("--extra {word}")).collect::<Vec<_>>().join(" "));
    machine.wait_for("refresh-info: done", 600);
    machine.cut_power();
    let info = lab.share_of(Nat).read("testbox-info.txt");
    let line = info.lines().find(|line| line.contains("BOOT_IMAGE=/")).expect(&info);
    let (first, last) =
        ("BOOT_IMAGE=/maintenance-boot/vmlinuz BOOTIF=01-52-54-00-12-34-56 testbox.action=", words.join(" "));
    assert!(line.contains(first) && line.trim_end().ends_with(&last), "{line}");
}
