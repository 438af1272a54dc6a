//! The share while it is used: a server that restarts or stays away, the cable, a full file system, a second agent.

use crate::lab::{Boot::AgentOnly, Bus, Disk, Lab, Machine, Station::Nat, poll};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// Switches on a machine that is armed with `backup`, and waits until its image grows.
fn in_the_middle_of_a_backup<'a>(lab: &'a Lab, disk: &'a Disk, words: &str) -> Machine {
    let words = format!("{} testbox.action=backup testbox.job=j {words}", AgentOnly.words(Nat));
    lab.arm_with_words(Nat, &words, None);
    let mut machine = lab.machine(Nat).direct().disk(disk).power_on();
    machine.wait_for_reset(60);
    let part = lab.share_of(Nat).path("vda.raw.gz.part");
    poll(Duration::from_secs(300), || fs::metadata(&part).is_ok_and(|m| m.len() > 1 << 20).then_some(()))
        .expect("the image grows");
    machine
}

fn is_done(lab: &Lab, machine: &mut Machine, disk: &Disk) {
    machine.wait_for_reset(600);
    machine.cut_power();
    assert!(!lab.is_armed(Nat));
    lab.share_of(Nat).assert_image_is("vda.raw.gz", disk.hash());
}

/// The server is killed in the middle and comes back: the console says so, and the backup goes on.
#[test]
fn a_server_that_restarts_is_waited_for() {
    let lab = Lab::new("server-restarts");
    let disk = lab.small_disk(Bus::Virtio, "V1", 256);
    let mut machine = in_the_middle_of_a_backup(&lab, &disk, "testbox.share-wait=80");
    lab.stop_nfs();
    machine.wait_for("waiting for the server, for 80 s at most", 120);
    lab.start_nfs();
    machine.wait_for("answers again", 120);
    is_done(&lab, &mut machine, &disk);
}

/// It does not come back: the machine says why, stays armed and reboots, with the set not published.
#[test]
fn a_server_that_is_gone_for_good_ends_the_machine() {
    let lab = Lab::new("server-gone");
    let disk = lab.small_disk(Bus::Virtio, "V1", 256);
    let mut machine = in_the_middle_of_a_backup(&lab, &disk, "testbox.share-wait=20");
    lab.stop_nfs();
    machine.wait_for("waiting for the server, for 20 s at most", 120);
    machine.wait_for("[share-hung 37]", 120);
    machine.wait_for_reset(120);
    machine.cut_power();
    assert!(lab.is_armed(Nat));
    lab.share_of(Nat).assert_lacks(&["vda.raw.gz", "backup.json"]);
}

#[test]
fn long_a_cable_that_is_pulled_and_put_back_is_waited_for() {
    let lab = Lab::new("cable");
    let disk = lab.small_disk(Bus::Virtio, "V1", 256);
    let mut machine = in_the_middle_of_a_backup(&lab, &disk, "testbox.share-wait=60");
    machine.set_link(false);
    machine.wait_for("waiting for the server, for 60 s at most", 120);
    machine.set_link(true);
    machine.wait_for("answers again", 120);
    is_done(&lab, &mut machine, &disk);
}

/// The file system behind the export fills up.
#[test]
fn a_share_that_fills_up_fails_the_backup() {
    let lab = Lab::new("share-full");
    let disk = lab.small_disk(Bus::Virtio, "V1", 256);
    let small = lab.with_small_backup_share(100);
    let words = format!("{} testbox.action=backup testbox.job=j", AgentOnly.words(Nat));
    lab.arm_with_words(Nat, &words, None);
    let mut machine = lab.machine(Nat).direct().disk(&disk).power_on();
    machine.wait_for("[no-space 35]", 300);
    machine.wait_for_reset(120);
    machine.cut_power();
    assert!(lab.is_armed(Nat));
    let left = |name: &str| small.join(Nat.ip()).join(name);
    assert!(left("status.json").exists());
    for name in ["vda.raw.gz.part", "vda.raw.gz", "backup.json"] {
        assert!(!left(name).exists(), "{name} is there");
    }
}

/// Whole at once, as an agent links it. The server is stopped meanwhile: ganesha remembers the names of a folder, and what is
/// written behind its back it shows sometimes, and sometimes never. A real agent writes through it.
fn leave_lease(lab: &Lab, dir: &Path, number: u32, mac: &str) {
    let holder = format!(r#"{{"session":"by-hand","macs":["{mac}"],"hostname":"other","action":"backup"}}"#);
    lab.stop_nfs();
    fs::create_dir_all(dir).unwrap();
    let written = dir.with_extension("made");
    fs::write(&written, holder + "\n..").unwrap();
    fs::rename(written, dir.join(number.to_string())).unwrap();
    lab.start_nfs();
}

/// Another agent lives in the folder: this one gives way. Its own lease from before a cut is taken over. And who is
/// taken over while it works notices, through the caches of the NFS client, and publishes nothing.
#[test]
fn the_lease_of_a_folder_is_kept_by_who_lives() {
    let lab = Lab::new("lease");
    let disk = lab.small_disk(Bus::Virtio, "V1", 512);
    let share = lab.share_of(Nat);
    let leases = share.path("lease");
    leave_lease(&lab, &leases, 3, "52:54:00:99:99:99");
    let words = format!("{} testbox.action=backup testbox.job=j", AgentOnly.words(Nat));
    lab.arm_with_words(Nat, &words, None);
    let mut machine = lab.machine(Nat).direct().disk(&disk).power_on();
    machine.wait_for("lease was not released by other (52:54:00:99:99:99)", 300);
    fs::File::options().append(true).open(leases.join("3")).unwrap().write_all(b".").unwrap();
    machine.wait_for("[lease 36]", 60);
    share.assert_lacks(&["status.json", "maintenance.log"]);
    assert!(lab.global_log().contains("is in use"), "{}", lab.global_log());

    leave_lease(&lab, &leases, 4, "52:54:00:12:34:56");
    machine.wait_for_reset(120);
    let part = share.path("vda.raw.gz.part");
    poll(Duration::from_secs(300), || fs::metadata(&part).is_ok_and(|m| m.len() > 1 << 20).then_some(()))
        .expect("the image grows");
    assert!(leases.join("5").exists() && !leases.join("4").exists());
    leave_lease(&lab, &leases, 6, "52:54:00:99:99:99");
    machine.wait_for("was taken over by other (52:54:00:99:99:99)", 120);
    machine.wait_for_reset(120);
    machine.cut_power();
    assert!(lab.is_armed(Nat));
    share.assert_lacks(&["vda.raw.gz", "backup.json"]);
}

/// Zeros cross neither the link nor fill the share: the file of the image has holes on the server.
#[test]
fn zeros_of_an_image_are_holes_on_the_server() {
    use std::os::unix::fs::MetadataExt;
    let lab = Lab::new("holes");
    let disk = lab.small_disk(Bus::Virtio, "HOLES", 16);
    let size = 4 << 30;
    std::fs::File::options().write(true).open(&disk.path).unwrap().set_len(size).unwrap();
    lab.run_once(Nat, &[&disk], "testbox.action=backup testbox.job=j");
    let about = std::fs::metadata(lab.share_of(Nat).path("vda.raw.gz")).unwrap();
    let room = about.blocks() * 512;
    assert!(about.len() > room + (3 << 20), "{} bytes, {room} on the share", about.len());
}
