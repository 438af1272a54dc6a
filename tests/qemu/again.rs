//! Jobs are done once: power cuts, repeated boots, and an admin who changes his mind.

use crate::lab::{Boot::AgentOnly, Bus, Lab, Station::Nat, poll};
use std::fs;
use std::time::Duration;

/// The power goes between `backup.json` and disarming. The next boot finds the job recorded as finished: it only
/// disarms. The same boot is that of a job which is booted twice.
#[test]
fn a_job_that_is_recorded_as_done_is_only_disarmed() {
    let lab = Lab::new("cut-before-disarm");
    let (disk, share) = (lab.small_disk(Bus::Virtio, "V1", 32), lab.share_of(Nat));
    lab.arm_with_words(
        Nat,
        &format!("{} testbox.action=backup testbox.job=once", AgentOnly.words(Nat)),
        None,
    );
    let order = fs::read(lab.pxe_file(Nat)).unwrap();
    let mut machine = lab.machine(Nat).direct().disk(&disk).power_on();
    let record = share.path("backup.json");
    poll(Duration::from_secs(300), || record.exists().then_some(())).expect("the backup is published");
    lab.freeze_nfs(true);
    machine.cut_power();
    lab.freeze_nfs(false);
    // Where the machine was quicker, this is the order as the cut would have left it.
    fs::write(lab.pxe_file(Nat), order).unwrap();
    let published =
        (fs::read(&record).unwrap(), fs::metadata(share.path("vda.raw.gz")).unwrap().modified().unwrap());

    let mut machine = lab.machine(Nat).direct().disk(&disk).power_on();
    machine.wait_for_reset(60);
    machine.wait_for_reset(300);
    machine.cut_power();
    assert!(!lab.is_armed(Nat), "the second boot disarms");
    assert_eq!(
        published,
        (fs::read(&record).unwrap(), fs::metadata(share.path("vda.raw.gz")).unwrap().modified().unwrap()),
        "the second boot makes no second backup"
    );
    share.assert_lacks(&["history"]);
    share.assert_image_is("vda.raw.gz", disk.hash());
}

/// The power goes while the image is written: nothing of it counts, and the next boot does the whole job.
#[test]
fn a_backup_that_was_cut_is_done_at_the_next_boot() {
    let lab = Lab::new("cut-in-backup");
    let (disk, share) = (lab.small_disk(Bus::Virtio, "V1", 256), lab.share_of(Nat));
    lab.arm_with_words(Nat, &format!("{} testbox.action=backup testbox.job=cut", AgentOnly.words(Nat)), None);
    let mut machine = lab.machine(Nat).direct().disk(&disk).power_on();
    let part = share.path("vda.raw.gz.part");
    let is_growing = || fs::metadata(&part).is_ok_and(|m| m.len() > 1 << 20).then_some(());
    poll(Duration::from_secs(300), is_growing).expect("the image grows");
    machine.cut_power();
    share.assert_lacks(&["vda.raw.gz", "backup.json"]);
    assert!(lab.is_armed(Nat));

    let mut machine = lab.machine(Nat).direct().disk(&disk).power_on();
    machine.wait_for_reset(60);
    machine.wait_for_reset(600);
    machine.cut_power();
    assert!(!lab.is_armed(Nat));
    share.assert_image_is("vda.raw.gz", disk.hash());
    share.assert_lacks(&["vda.raw.gz.part"]);
}

/// A file that is written while the machine works on the one before belongs to the next boot, and is done there.
#[test]
fn a_machine_that_is_armed_again_meanwhile_stays_armed() {
    let lab = Lab::new("armed-again");
    let (disk, share) = (lab.small_disk(Bus::Virtio, "V1", 256), lab.share_of(Nat));
    lab.arm_with_words(Nat, &format!("{} testbox.action=backup testbox.job=old", AgentOnly.words(Nat)), None);
    let mut machine = lab.machine(Nat).disk(&disk).power_on();
    machine.wait_for_reset(60);
    poll(Duration::from_secs(300), || share.path("status.json").exists().then_some(()))
        .expect("the job runs");
    lab.arm_with_words(
        Nat,
        &format!("{} testbox.action=refresh-info testbox.job=new", AgentOnly.words(Nat)),
        None,
    );
    machine.wait_for_reset(600);
    assert_eq!(share.json("backup.json")["job"], "old");
    assert!(lab.is_armed(Nat), "the new order must not go with the old one");
    machine.wait_for_reset(300);
    machine.cut_power();
    assert!(!lab.is_armed(Nat));
    assert_eq!(share.json("status.json")["job"], "new");
}
