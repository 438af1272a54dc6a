//! Machines with UEFI: OVMF's own network boot, shim, GRUB, and the same files as for the BIOS.

use crate::lab::{Boot, Bus, Lab, Station::Nat, narrate, run};
use std::fs;
use std::process::Command;

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

/// The firmware has forgotten its entries, and nothing on the disk starts without one: the agent has put the entry back, and
/// the machine boots by it, without the network. GRUB was told which loader is the machine's own.
#[test]
fn long_boot_entries_come_back_where_no_fallback_is() {
    let lab = Lab::new("boot-entries");
    let firmware = lab.uefi();
    let system = lab.debian_disk(Bus::Nvme, "SYSTEM-1");
    // shim's fallback makes the entry.
    let mut machine = lab.machine(Nat).uefi(&firmware).disk_first().disk(&system).power_on();
    machine.wait_for("OWN-OS-BOOTED", 600);
    machine.wait_for_power_off(120);
    system.remove_fallback();

    lab.arm(Nat, Boot::AgentOnly, "backup");
    let mut machine = lab.machine(Nat).uefi(&firmware).disk(&system).power_on();
    machine.wait_for("testbox: not armed, on to (", 1200);
    machine.wait_for("OWN-OS-BOOTED", 600);
    machine.wait_for_power_off(120);
    let record = lab.share_of(Nat).json("backup.json");
    let entries = record["firmware"]["entries"].as_array().unwrap();
    assert!(entries.iter().any(|entry| entry["path"] == "\\EFI\\debian\\shimx64.efi"), "{record:#}");
    let told = fs::read_to_string(lab.tftp().join("testbox.cfg/0A00020F.boot")).unwrap();
    assert!(told.ends_with("set tb_own=/EFI/debian/shimx64.efi\n"), "{told}");

    let new = lab.blank_disk(Bus::Virtio, "SYSTEM-2", (system.size() >> 20) + 200);
    let firmware = firmware.forget();
    lab.arm(Nat, Boot::AgentOnly, "restore --map nvme0n1:serial=SYSTEM-2");
    let mut machine = lab.machine(Nat).uefi(&firmware).disk(&new).power_on();
    machine.wait_for("testbox: not armed, on to (", 1200);
    machine.wait_for("OWN-OS-BOOTED", 600);
    machine.wait_for_power_off(120);
    lab.share_of(Nat).assert_logged("info", "boot entries: written: Boot");
    let mut machine = lab.machine(Nat).uefi(&firmware).disk_first().disk(&new).power_on();
    machine.wait_for("\"debian\" from HD(1,GPT,", 300);
    machine.wait_for("OWN-OS-BOOTED", 600);
    machine.wait_for_power_off(120);
}

/// A firmware that trusts the lab's key alone starts the signed program at each boot: with a job it does it, without one the
/// machine's own system is next. What nobody has signed does not start.
#[test]
fn long_a_signed_program_does_the_job_or_boots_the_disk() {
    let lab = Lab::new("uki");
    let key = lab.signing_key();
    let mut make = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/nfsroot/uki"));
    run(make.arg(lab.tftp()).args([&key.key, &key.cert]).arg(Nat.server()));
    let firmware = lab.secure_boot_with(&key);
    let system = lab.debian_disk(Bus::Nvme, "SYSTEM-1");
    ["/EFI/BOOT/BOOTX64.EFI", "/EFI/debian/shimx64.efi"].iter().for_each(|path| key.sign_on(&system, path));
    let start = |file| lab.machine(Nat).uefi(&firmware).boot_file(file).disk(&system).power_on();
    let mut machine = start("shimx64.efi");
    machine.wait_for("Access Denied", 300);
    machine.cut_power();
    let mut machine = start("testbox.efi");
    machine.wait_for("Kernel is locked down from EFI Secure Boot", 600);
    machine.wait_for("no job for this machine: on to its own system, Boot", 300);
    machine.wait_for("OWN-OS-BOOTED", 600);
    machine.wait_for_power_off(120);

    let before = system.hash();
    // All of it: what was signed left its first version in unallocated clusters of the ESP.
    lab.arm(Nat, Boot::AgentOnly, "backup --used off");
    let mut machine = start("testbox.efi");
    machine.wait_for("backup: done", 900);
    machine.wait_for("no job for this machine: on to its own system, Boot", 900);
    machine.wait_for("OWN-OS-BOOTED", 600);
    machine.wait_for_power_off(120);
    lab.share_of(Nat).assert_image_is("nvme0n1.raw.gz", before);
}
