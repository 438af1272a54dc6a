//! UEFI on the buses, loaders, layouts and processors that machines have: each is backed up, goes on to its own system, loses
//! its disk and its firmware's variables, is restored to a disk of another size, and starts its own system again.

use crate::lab::{Advice, Boot, Bus, CARD_SERIAL, Disk, Lab, Station::Nat, Uefi, run as lab_run};

const CONSOLE: &str = "ttyS0,115200";

/// One run of the machine: it does its job, and goes on to its own system.
fn run(lab: &Lab, firmware: &Uefi, disk: &Disk, console: &str, job: &str, own_system: &str) {
    lab.arm_at(Nat, Boot::AgentOnly, console, job);
    let mut machine = lab.machine(Nat).uefi(firmware).disk(disk).cpus(2).power_on();
    machine.wait_for("testbox: not armed, on to (", 1200);
    machine.wait_for(own_system, 600);
    machine.wait_for_power_off(120);
    assert!(!lab.is_armed(Nat), "'{job}' must disarm the machine");
}

/// systemd-boot, btrfs, SCSI; what follows its partitions is empty, so it fits on an NVMe disk that is smaller.
#[test]
fn long_systemd_boot_comes_back_on_a_smaller_disk() {
    let lab = Lab::new("systemd-boot");
    let firmware = lab.uefi();
    let system = lab.systemd_boot_disk(Bus::Scsi, "SYSTEM-1");
    system.lengthen(400);
    run(&lab, &firmware, &system, CONSOLE, "backup", "OWN-OS-BOOTED");

    let new = lab.blank_disk(Bus::Nvme, "SYSTEM-2", (system.size() >> 20) - 300);
    let firmware = firmware.forget();
    run(&lab, &firmware, &new, CONSOLE, "restore --map sda:serial=SYSTEM-2", "OWN-OS-BOOTED");
    new.assert_table_is_right();
    // Blocks that btrfs has given up are unallocated, and so not compared: all checksums of what it has are right.
    new.check_root("btrfs check --readonly --check-data-csum");
}

/// ESP, reserved partition, NTFS, recovery, on AHCI; the new disk is larger and on SCSI.
#[test]
fn long_a_layout_of_windows_comes_back_clean() {
    let lab = Lab::new("windows-like");
    let firmware = lab.uefi();
    let system = lab.windows_disk(Bus::Sata, "SYSTEM-1");
    let before = system.hash();
    run(&lab, &firmware, &system, CONSOLE, "backup", "WINDOWS-LIKE-BOOTED");
    lab.share_of(Nat).assert_image_is("sda.raw.gz", before);

    let new = lab.blank_disk(Bus::Scsi, "SYSTEM-2", (system.size() >> 20) + 200);
    new.fill();
    let firmware = firmware.forget();
    run(&lab, &firmware, &new, CONSOLE, "restore --map sda:serial=SYSTEM-2", "WINDOWS-LIKE-BOOTED");
    new.assert_table_is_right();
    for n in 1..=4 {
        assert_eq!(new.describe(n), system.describe(n), "partition {n}");
    }
    new.check(1, "fsck.fat -n");
    for n in [3, 4] {
        new.check(n, "ntfsfix --no-action");
        let numbers = new.check(n, &format!("of() {{ ntfscat --quiet $1 numbers-{n}.txt; }}; of"));
        assert_eq!(numbers.lines().count(), 400_001 - n as usize);
    }
}

/// The driver of eMMC, by a memory card, which is imaged only where it is named: QEMU has no eMMC. GRUB finds no loader on it.
#[test]
fn long_a_memory_card_comes_back() {
    let lab = Lab::new("card");
    let firmware = lab.uefi();
    let card = lab.foreign_card("CARD-1", 128);
    let before = card.hash();
    let once = |job: &str| {
        lab.arm_at(Nat, Boot::AgentOnly, CONSOLE, job);
        let mut machine = lab.machine(Nat).uefi(&firmware).disk(&card).cpus(2).power_on();
        machine.wait_for("testbox: not armed, and no boot loader on a disk", 1200);
        machine.cut_power();
        assert!(!lab.is_armed(Nat), "'{job}' must disarm the machine");
    };
    once(&format!("backup --disks serial={CARD_SERIAL}"));
    lab.share_of(Nat).assert_image_is("mmcblk0.raw.gz", before);
    let record = lab.share_of(Nat).read("backup.json");
    assert!(record.contains(CARD_SERIAL), "{record}");
    card.wipe();
    once(&format!("restore --disks serial={CARD_SERIAL}"));
    assert_eq!(card.hash(), before);
}

/// The GRUB that a lab with proxy DHCP makes for itself, by the command that `init` prints, does what the signed one does.
#[test]
fn long_a_grub_of_the_labs_own_starts_job_and_disk() {
    let lab = Lab::new("own-grub");
    let advice = Advice(lab.testboxctl("init --network 10.0.2.0/24"));
    let command = advice.grub_mkimage().replace("SERVER", Nat.server());
    lab_run(lab.inside("bash").args(["-ec", &command]));
    let firmware = lab.uefi();
    let system = lab.debian_disk(Bus::Nvme, "SYSTEM-1");
    let before = system.hash();
    lab.arm(Nat, Boot::AgentOnly, "backup");
    let machine = lab.machine(Nat).uefi(&firmware).boot_file("testbox-grub.efi").disk(&system);
    let mut machine = machine.cpus(2).power_on();
    machine.wait_for("testbox: not armed, on to (", 1200);
    machine.wait_for("OWN-OS-BOOTED", 600);
    machine.wait_for_power_off(120);
    lab.share_of(Nat).assert_image_is("nvme0n1.raw.gz", before);
}

/// A boot server with Debian 13, whose shim and GRUB are newer than those of the machine's Debian 12, with Secure Boot: they do not
/// lock it out, and the agent runs on that kernel and initramfs.
#[test]
fn long_debian_13_serves_a_machine_with_debian_12() {
    let lab = Lab::of_suite("debian-13", "trixie");
    let firmware = lab.secure_boot();
    let system = lab.debian_disk(Bus::Nvme, "SYSTEM-1");
    let before = system.hash();
    run(&lab, &firmware, &system, CONSOLE, "backup", "OWN-OS-BOOTED");
    lab.share_of(Nat).assert_image_is("nvme0n1.raw.gz", before);
    let info = lab.share_of(Nat).read("testbox-info.txt");
    assert!(info.contains("6.12."), "{info}");
    // By its own loaders alone: what the newer shim wrote into the firmware does not refuse them.
    let mut machine = lab.machine(Nat).uefi(&firmware).disk_first().disk(&system).power_on();
    machine.wait_for("OWN-OS-BOOTED", 600);
    machine.wait_for_power_off(120);
}

/// arm64: QEMU's board `virt` with UEFI, its own kernel and agent, loaders by architecture 11.
#[test]
fn long_a_machine_with_arm64_gets_its_system_back() {
    let lab = Lab::new("arm64");
    lab.add_arm64_boot_files();
    let firmware = lab.uefi_arm64();
    let system = lab.arm64_disk(Bus::Nvme, "SYSTEM-1");
    let before = system.hash();
    run(&lab, &firmware, &system, "ttyAMA0", "backup", "OWN-OS-BOOTED");
    lab.share_of(Nat).assert_image_is("nvme0n1.raw.gz", before);

    let new = lab.blank_disk(Bus::Virtio, "SYSTEM-2", (system.size() >> 20) + 200);
    let firmware = firmware.forget();
    run(&lab, &firmware, &new, "ttyAMA0", "restore --map nvme0n1:serial=SYSTEM-2", "OWN-OS-BOOTED");
    new.assert_table_is_right();
    assert_eq!(new.hash_of_root(), system.hash_of_root());
}
