//! A real Debian on each file system: only what is used comes back, onto a disk full of something else, and it boots.
//! The main job does it on ext4.

use crate::lab::{
    Boot::{AgentOnly, NfsRoot},
    Bus, Disk, Lab,
    Station::Nat,
};

/// The machine boots its own Debian from its disk, which says how many of its files are as they were written.
fn boots_its_own(lab: &Lab, disk: &Disk) -> u64 {
    let mut machine = lab.machine(Nat).disk(disk).power_on();
    machine.wait_for("OWN-OS-BOOTED", 600);
    machine.wait_for_power_off(120);
    let console = machine.said();
    let told =
        console.rsplit_once("OWN-OS-BOOTED ").and_then(|(_, told)| told.split(' ').nth(1)?.parse().ok());
    told.unwrap_or_else(|| panic!("no number of files behind the last OWN-OS-BOOTED:\n{console}"))
}

#[test]
fn long_debian_on_xfs_and_on_btrfs_comes_back_and_boots() {
    let lab = Lab::new("xfs-and-btrfs");
    let disks = [("xfs", "XFS-1"), ("btrfs", "BTRFS-1")]
        .map(|(kind, serial)| lab.debian_disk_on(kind, Bus::Virtio, serial));
    let [xfs, btrfs] = &disks;
    lab.run_once(Nat, &[xfs, btrfs], "testbox.action=backup testbox.job=one");
    let share = lab.share_of(Nat);
    for place in ["vda2 xfs 'own-root'", "vdb2 btrfs 'own-root'"] {
        share.assert_logged("info", &format!("{place}: "));
    }
    let log = share.read("maintenance.log");
    assert!(!log.contains("all of it"), "a clean disk is not imaged whole:\n{log}");

    disks.iter().for_each(Disk::fill);
    lab.run_once(Nat, &[xfs, btrfs], "testbox.action=restore testbox.job=two");
    for (disk, image) in disks.iter().zip(["vda.raw.gz", "vdb.raw.gz"]) {
        let image = share.path(image);
        lab.testboxctl(&format!("image verify {} --against {}", image.display(), disk.path.display()));
        assert!(disk.holds_stale_bytes(), "unallocated space was written");
    }
    xfs.check_root("xfs_repair -n");
    btrfs.check_root("btrfs check --check-data-csum");
    for disk in &disks {
        boots_its_own(&lab, disk);
    }
}

/// Three disks are replaced by larger ones: with `--grow last` partition and file system of each fill the new disk, by the tools
/// of the NFS root, and the machine boots from it.
#[test]
fn long_file_systems_grow_by_the_tools_of_the_nfs_root() {
    let lab = Lab::new("grow");
    let disks = [("ext4", "EXT4-1"), ("xfs", "XFS-1"), ("btrfs", "BTRFS-1")]
        .map(|(kind, serial)| lab.debian_disk_on(kind, Bus::Virtio, serial));
    lab.run_once(Nat, &disks.iter().collect::<Vec<_>>(), "testbox.action=backup testbox.job=one");

    let larger = ["EXT4-2", "XFS-2", "BTRFS-2"]
        .map(|serial| lab.blank_disk(Bus::Virtio, serial, (disks[0].size() >> 20) + 400));
    let maps = "--map vda:serial=EXT4-2,vdb:serial=XFS-2,vdc:serial=BTRFS-2";
    lab.arm(Nat, NfsRoot, &format!("restore --grow last {maps}"));
    let machine = lab.machine(Nat).direct();
    let mut machine = larger.iter().fold(machine, |machine, disk| machine.disk(disk)).power_on();
    machine.wait_for_reset(60);
    machine.wait_for_reset(900);
    machine.cut_power();
    assert!(!lab.is_armed(Nat), "the restore must disarm the machine: {}", lab.global_log());
    let checks = ["e2fsck -fn", "xfs_repair -n", "btrfs check --readonly --check-data-csum"];
    for ((disk, old), check) in larger.iter().zip(&disks).zip(checks) {
        disk.assert_table_is_right();
        disk.check_root(check);
        assert!(disk.size_of_root() >= old.size_of_root() + (399 << 20), "{}", disk.describe(2));
        boots_its_own(&lab, disk);
    }
    lab.run_once(Nat, &larger.iter().collect::<Vec<_>>(), "testbox.action=backup testbox.job=two");
    lab.share_of(Nat).assert_logged("info", "vda2 ext4 'own-root': ");
    let behind = lab.share_of(Nat).read("maintenance.log");
    assert!(!behind.contains("behind the end of the file system"), "{behind}");
}

/// The power goes while the machine's own Debian writes. Its root file system is imaged whole, and says so; restored it
/// is what the crash left, to the last byte: the machine recovers it, and has all that was synced before.
#[test]
fn long_a_machine_that_crashed_is_imaged_whole_and_recovers() {
    let lab = Lab::new("crashed");
    let disk = lab.debian_disk(Bus::Virtio, "CRASHED");
    disk.boots("writes");
    let mut machine = lab.machine(Nat).disk(&disk).power_on();
    machine.wait_for("OWN-OS-WROTE 5", 600);
    machine.cut_power();
    disk.boots("own");
    let crashed = disk.hash_of_root();

    lab.arm(Nat, AgentOnly, "backup");
    let mut machine = lab.machine(Nat).disk(&disk).power_on();
    machine.wait_for_reset(60);
    machine.wait_for("is imaged: ext4: the journal needs recovery", 300);
    machine.wait_for_reset(600);
    machine.cut_power();
    assert!(!lab.is_armed(Nat));
    let (share, why) = (lab.share_of(Nat), "ext4: the journal needs recovery");
    share.assert_logged("info", why);
    let info = lab.testboxctl(&format!("image info {}", share.path("vda.raw.gz").display()));
    assert!(info.contains("all of it imaged: the journal needs recovery"), "{info}");

    disk.fill();
    lab.run_once(Nat, &[&disk], "testbox.action=restore testbox.job=two");
    assert_eq!(disk.hash_of_root(), crashed, "the file system must be what it was, to the last byte");
    let files = boots_its_own(&lab, &disk);
    assert!(files >= 5, "5 files were synced before the crash, {files} are there");
    disk.check_root("e2fsck -fn");
}

/// A machine's image as a virtual machine's disk: it boots its own Debian.
#[test]
fn long_an_exported_image_starts_as_a_virtual_machine() {
    let lab = Lab::new("exported");
    let system = lab.debian_disk(Bus::Virtio, "SYSTEM-1");
    let [image, path] = ["vda.raw.gz", "vm.qcow2"].map(|name| lab.file(name));
    lab.testboxctl(&format!("image create {} {}", system.path.display(), image.display()));
    lab.testboxctl(&format!("image export {} --format qcow2 {}", image.display(), path.display()));
    let exported = Disk { path, bus: Bus::Virtio, serial: "VM-1".into(), is_failing: false };
    boots_its_own(&lab, &exported);
}
