//! The actions beside the main job, and the ways to order them.

use crate::lab::{Boot::AgentOnly, Bus, Lab, Setup, Station::Bridge, Station::Nat};

/// The default of every lab: the machine boots the system on its own disk, and nobody writes to that.
#[test]
fn an_unarmed_machine_boots_its_local_disk() {
    let lab = Lab::new("unarmed");
    let disk = lab.debian_disk(Bus::Virtio, "OWN");
    let before = disk.hash();
    let mut machine = lab.machine(Nat).disk(&disk).power_on();
    machine.wait_for("OWN-OS-BOOTED", 300);
    machine.wait_for_power_off(120);
    assert_eq!(disk.hash(), before);
    assert_eq!(lab.global_log(), "");
}

/// `backup` never replaces an image; `backup-again` does, and the set before stays whole in `history/`. The order
/// comes by TFTP first: the kernel command line has no action then.
#[test]
fn backup_refuses_an_existing_image_and_again_keeps_the_set() {
    let lab = Lab::new("backup-again");
    let (disk, share) = (lab.small_disk(Bus::Scsi, "S1", 32), lab.share_of(Nat));
    let first = disk.hash();
    lab.run_once(Nat, &[&disk], "testbox.action=backup testbox.job=first");
    share.assert_image_is("sda.raw.gz", first);

    let image = std::fs::read(share.path("sda.raw.gz")).unwrap();
    lab.arm_with_words(
        Nat,
        &format!("{} testbox.action=backup testbox.job=second", AgentOnly.words(Nat)),
        None,
    );
    let mut machine = lab.machine(Nat).direct().disk(&disk).power_on();
    machine.wait_for("[image-exists 43]", 300);
    machine.wait_for_reset(120);
    machine.cut_power();
    assert!(lab.is_armed(Nat), "a refusal leaves the machine armed");
    assert!(image == std::fs::read(share.path("sda.raw.gz")).unwrap(), "a refusal leaves the image alone");
    share.assert_logged("error", "[image-exists 43]");

    std::fs::write(&disk.path, lab.small_disk(Bus::Scsi, "S1-later", 32).bytes()).unwrap();
    let second = disk.hash();
    lab.run_once(Nat, &[&disk], "testbox.action=backup-again testbox.job=third");
    share.assert_image_is("sda.raw.gz", second);
    share.assert_image_is("history/1/sda.raw.gz", first);
    assert_eq!(share.json("history/1/backup.json")["job"], "first");
}

/// The old spelling of the original's PXE files; no disk is read or written.
#[test]
fn refresh_info_rewrites_what_is_known_of_the_machine() {
    let lab = Lab::new("refresh-info");
    let (disk, share) = (lab.small_disk(Bus::Virtio, "V1", 16), lab.share_of(Nat));
    let before = disk.hash();
    std::fs::create_dir(&share.dir).unwrap();
    std::fs::write(share.path("testbox-info.txt"), "old").unwrap();
    lab.run_once(Nat, &[&disk], "testbox-action-refresh-info");
    let info = share.read("testbox-info.txt");
    for fact in ["IP:", "10.0.2.15", "HEX-IP:", "0A00020F", "Hostname:", Nat.name(), "QEMU", "1af4"] {
        assert!(info.contains(fact), "testbox-info.txt says nothing of {fact:?}:\n{info}");
    }
    share.assert_has(&["testbox-info.zip", Nat.name(), "0A00020F"]);
    share.assert_lacks(&["vda.raw.gz", "backup.json"]);
    assert_eq!(disk.hash(), before);
}

/// Without an action on the kernel command line the boot server is asked: `testbox.cfg/<HEXIP>`, taken away when done.
/// The file's options go before the kernel's: this one asks for NFSv3, where all others use version 4.2.
#[test]
fn the_action_may_come_by_tftp() {
    let lab = Lab::new("tftp-action");
    let (disk, share) = (lab.small_disk(Bus::Virtio, "V1", 16), lab.share_of(Nat));
    let order = lab.tftp().join("testbox.cfg").join(Nat.hexip());
    std::fs::create_dir_all(order.parent().unwrap()).unwrap();
    let backup = format!("{}:/export/testbox-backup,vers=3", Nat.server());
    std::fs::write(&order, format!("testbox.action=backup\ntestbox.job=by-tftp\ntestbox.backup={backup}\n"))
        .unwrap();
    lab.arm_with_words(Nat, &AgentOnly.words(Nat), None);
    let mut machine = lab.machine(Nat).direct().disk(&disk).power_on();
    machine.wait_for_reset(60);
    machine.wait_for("/export/testbox-tftp is mounted by NFSv4.2", 300);
    machine.wait_for("/export/testbox-backup is mounted by NFSv3", 300);
    machine.wait_for_reset(300);
    machine.cut_power();
    assert!(!order.exists(), "the file that the order came from is taken away");
    share.assert_image_is("vda.raw.gz", disk.hash());
    assert_eq!(share.json("backup.json")["job"], "by-tftp");
}

/// `verify` says yes to a good image, and no to one with a flipped bit; it writes to neither image nor disk.
#[test]
fn verify_finds_a_flipped_bit() {
    let lab = Lab::new("verify");
    let (disk, share) = (lab.small_disk(Bus::Virtio, "V1", 16), lab.share_of(Nat));
    lab.run_once(Nat, &[&disk], "testbox.action=backup testbox.job=one");
    lab.run_once(Nat, &[&disk], "testbox.action=verify testbox.job=two");
    let mut image = std::fs::read(share.path("vda.raw.gz")).unwrap();
    let middle = image.len() / 2;
    image[middle] ^= 1;
    std::fs::write(share.path("vda.raw.gz"), &image).unwrap();
    let before = disk.hash();
    lab.arm_with_words(
        Nat,
        &format!("{} testbox.action=verify testbox.job=three", AgentOnly.words(Nat)),
        None,
    );
    let mut machine = lab.machine(Nat).direct().disk(&disk).power_on();
    machine.wait_for("[bad-image 52]", 300);
    machine.wait_for_reset(120);
    machine.cut_power();
    assert!(lab.is_armed(Nat));
    assert_eq!(disk.hash(), before);
    assert!(image == std::fs::read(share.path("vda.raw.gz")).unwrap());
}

/// Two machines on one network, armed by one call each, at the same time: neither takes what is the other's.
#[test]
fn two_machines_on_one_bridge_do_their_own_jobs() {
    let lab = Lab::new("two-machines");
    let stations = [Bridge(1), Bridge(2)];
    let disks = [lab.small_disk(Bus::Sata, "ONE", 32), lab.small_disk(Bus::Sata, "TWO", 32)];
    for at in stations {
        lab.arm(at, AgentOnly, "backup");
    }
    let setups = [0, 1].map(|n| lab.machine(stations[n]).disk(&disks[n]));
    for machine in &mut Setup::power_on_together(setups) {
        machine.wait_for_reset(60);
        machine.wait_for_reset(400);
    }
    for (at, disk) in stations.into_iter().zip(&disks) {
        assert!(!lab.is_armed(at));
        let share = lab.share_of(at);
        share.assert_image_is("sda.raw.gz", disk.hash());
        share.assert_has(&[at.name(), &at.hexip()]);
        assert!(lab.global_log().contains(&at.ip()));
    }
}
