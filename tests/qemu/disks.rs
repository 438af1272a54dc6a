//! Which disk: identity goes before names.

use crate::lab::{Boot::AgentOnly, Bus, Lab, Station::Nat, next_event};

/// Two disks change their slots, and so their names: each image goes to the disk that it was taken from.
#[test]
fn swapped_kernel_names_move_nothing() {
    let lab = Lab::new("swapped");
    let (a, b) = (lab.small_disk(Bus::Virtio, "AAA", 16), lab.small_disk(Bus::Virtio, "BBB", 16));
    let before = [a.hash(), b.hash()];
    lab.run_once(Nat, &[&a, &b], "testbox.action=backup testbox.job=one");
    a.wipe();
    b.wipe();
    lab.run_once(Nat, &[&b, &a], "testbox.action=restore testbox.job=two");
    assert_eq!([a.hash(), b.hash()], before);
}

/// The system disk is dead, and the data disk, which was left out, comes up under its name: nothing is written.
#[test]
fn an_excluded_disk_under_the_name_of_a_dead_one_is_not_written() {
    let lab = Lab::new("excluded");
    let (system, data) = (lab.small_disk(Bus::Scsi, "SYSTEM", 16), lab.small_disk(Bus::Scsi, "DATA", 16));
    let share = lab.share_of(Nat);
    std::fs::create_dir(&share.dir).unwrap();
    std::fs::write(share.path("disk-devices.lst"), "# only the system\nsda\n").unwrap();
    // Linux probes SCSI disks side by side: only the map says for certain which is called sda.
    let words = "testbox.action=backup testbox.job=one testbox.map=sda:serial=SYSTEM";
    lab.run_once(Nat, &[&system, &data], words);
    share.assert_image_is("sda.raw.gz", system.hash());
    share.assert_lacks(&["sdb.raw.gz"]);

    let before = data.hash();
    lab.arm_with_words(
        Nat,
        &format!("{} testbox.action=restore testbox.job=two", AgentOnly.words(Nat)),
        None,
    );
    let mut machine = lab.machine(Nat).direct().empty_slot().disk(&data).power_on();
    machine.wait_for("[ambiguous 47]", 300);
    machine.wait_for_reset(120);
    machine.cut_power();
    assert_eq!(data.hash(), before, "the data disk must not be written");
    assert!(lab.is_armed(Nat));
    share.assert_logged("error", "testbox.map=sda");
}

/// An NVMe disk whose SMART log warns is imaged with a warning, and written only by its own word. The SATA disk beside
/// it answers too, that all is well. Of the job that fails everybody hears why: a web server, a scheduler, an admin.
#[test]
fn a_failing_target_is_refused_and_written_only_by_its_own_word() {
    let lab = Lab::new("failing");
    let worn = lab.small_disk(Bus::Nvme, "WORN", 16).failing();
    let well = lab.small_disk(Bus::Sata, "WELL", 16);
    let share = lab.share_of(Nat);
    let before = [worn.hash(), well.hash()];
    lab.run_once(Nat, &[&worn, &well], "testbox.action=backup testbox.job=one");
    let said = "FAILING: nvme0n1 (QEMU NVMe Ctrl, serial WORN) says that it fails: NVMe critical warning";
    share.assert_logged("warning", said);
    let log = share.read("maintenance-output.log");
    assert!(!log.contains("FAILING: sda") && !log.contains("does not say how it is"), "{log}");

    worn.wipe();
    well.wipe();
    let wiped = [worn.hash(), well.hash()];
    let listener = lab.listener();
    let server = lab.store_that_tells(&listener);
    let words = format!("{} testbox.action=restore testbox.job=two testbox.attempts=2", AgentOnly.words(Nat));
    lab.arm_with_words(Nat, &words, None);
    let reason = "nvme0n1 (QEMU NVMe Ctrl, serial WORN) says that it fails";
    for (event, exit, ends) in
        [("failed", 4, "it is still at work"), ("holding", 3, "holding, job two, after")]
    {
        let mut machine = lab.machine(Nat).direct().disk(&worn).disk(&well).power_on();
        machine.wait_for("[disk-failing 57]", 300);
        machine.wait_for(if event == "failed" { "will try again" } else { "HOLDING: " }, 60);
        machine.cut_power();
        let told = next_event(&listener);
        assert_eq!((told["event"].as_str(), told["job"].as_str()), (Some(event), Some("two")), "{told}");
        assert!(told["error"].as_str().is_some_and(|error| error.contains(reason)), "{told}");
        let waited = lab.testboxctl_ends(exit, "wait --job two --timeout 0");
        assert!(waited.contains(ends) && (event == "failed" || waited.contains(reason)), "{waited}");
        let status = lab.testboxctl_ends(1, "status");
        assert!(status.contains(event) && status.contains(reason), "{status}");
    }
    drop(server);
    assert_eq!([worn.hash(), well.hash()], wiped, "no disk is written");
    share.assert_logged("error", "testbox.failing-disk=write");

    lab.run_once(Nat, &[&worn, &well], "testbox.action=restore testbox.job=three testbox.failing-disk=write testbox.expires=2999-01-01T00:00:00Z");
    assert_eq!([worn.hash(), well.hash()], before);
}
