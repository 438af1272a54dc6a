//! Which disk is written, and which is not: chosen by identity, or refused with the list; and what disks say of
//! themselves. Through the engine, so that it is seen what the user sees.

use crate::world::{Machine, REBOOT, Seen, TestDisk, contents, disk};
use std::sync::atomic::{AtomicU32, Ordering};
use testbox::inventory::{Exclusion, Health};
use testbox::share::Files;

/// What fills a disk that must not be written.
const OTHER: u8 = 0x5a;

fn filled(text: &str) -> TestDisk {
    disk(text, vec![OTHER; 2 << 20])
}

/// A machine whose set 1 holds these disks, the n-th with `contents(2, n + 1)`.
fn backed_up(disks: &[&str]) -> Machine {
    let mut machine = Machine::new();
    machine.set_disks(disks.iter().zip(1..).map(|(text, n)| disk(text, contents(2, n))).collect());
    machine.arm("testbox.action=backup testbox.job=first");
    let seen = machine.boot();
    assert!(!machine.is_armed(), "{}", seen.console);
    machine
}

fn restore(machine: &mut Machine, words: &str) -> Seen {
    // A job is done once.
    static JOBS: AtomicU32 = AtomicU32::new(0);
    let job = JOBS.fetch_add(1, Ordering::Relaxed);
    machine.arm(&format!("testbox.action=restore testbox.job=restore{job} {words}"));
    machine.boot()
}

/// The disks that still hold what no image holds.
fn untouched(machine: &Machine) -> Vec<String> {
    let disks = machine.disks.lock().unwrap();
    let names = disks.iter().filter(|d| d.bytes.content().iter().all(|b| *b == OTHER));
    names.map(|d| d.disk.name.clone()).collect()
}

#[track_caller]
fn assert_refused(machine: &Machine, seen: &Seen, failure: &str, parts: &[&str]) {
    for part in [&[failure, "What to do: "], parts].concat() {
        assert!(seen.console.contains(part), "no '{part}' in\n{}", seen.console);
    }
    assert!(machine.is_armed());
    assert_eq!(untouched(machine).len(), machine.disks.lock().unwrap().len(), "a disk was written");
}

#[test]
fn two_disks_that_cannot_be_told_apart_are_refused() {
    // The same serial: a vendor was careless, or a disk was cloned with its bridge.
    let mut machine = backed_up(&["sda T @1"]);
    machine.set_disks(vec![filled("sda T @1"), filled("sdb T @2")]);
    let seen = restore(&mut machine, "");
    assert_refused(
        &machine,
        &seen,
        "[ambiguous 47]",
        &["sda: ", "sdb: ", "testbox.map=sda:at=@1 or testbox.map=sda:at=@2"],
    );
    let seen = restore(&mut machine, "testbox.map=sda:serial=T");
    assert_refused(&machine, &seen, "[ambiguous 47]", &["matches several disks", "at=@1 or at=@2"]);
    restore(&mut machine, "testbox.map=sda:sdb");
    assert_eq!((machine.disk_bytes("sdb"), untouched(&machine)), (contents(2, 1), vec!["sda".to_owned()]));

    // No serial at all, on a machine that has two such disks now.
    let mut machine = backed_up(&["vda - @1"]);
    machine.set_disks(vec![filled("vda - @1"), filled("vdb - @2")]);
    let seen = restore(&mut machine, "");
    assert_refused(&machine, &seen, "[ambiguous 47]", &["vda: ", "vdb: ", "testbox.map=vda:"]);
    // And on one that has no other: nothing can be mistaken.
    machine.set_disks(vec![filled("vda - @1")]);
    assert_eq!(restore(&mut machine, "").ending, REBOOT);
    assert_eq!(machine.disk_bytes("vda"), contents(2, 1));
}

#[test]
fn two_without_a_serial_are_imaged_and_not_written_unnamed() {
    let mut machine = backed_up(&["vda - @1", "vdb - @2"]);
    assert_eq!(machine.record().images.len(), 2);
    machine.set_disks(vec![filled("vda - @1"), filled("vdb - @2")]);
    let seen = restore(&mut machine, "");
    assert_refused(&machine, &seen, "[ambiguous 47]", &["vda.raw.gz and vdb.raw.gz", "testbox.map=vda:"]);
    restore(&mut machine, "testbox.map=vda:vda,vdb:vdb");
    assert_eq!((machine.disk_bytes("vda"), machine.disk_bytes("vdb")), (contents(2, 1), contents(2, 2)));
}

#[test]
fn a_replacement_in_the_place_of_the_dead_disk_is_taken() {
    let mut machine = backed_up(&["sda SYS @1", "sdb DATA @2"]);
    machine.set_disks(vec![filled("sda DATA @2"), filled("sdb NEW @1")]);
    let seen = restore(&mut machine, "");
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    assert_eq!((machine.disk_bytes("sdb"), machine.disk_bytes("sda")), (contents(2, 1), contents(2, 2)));
    assert!(seen.console.contains("a replacement: sdb"), "{}", seen.console);
}

#[test]
fn two_possible_targets_are_refused_with_both_words() {
    let mut machine = backed_up(&["sda SYS @1"]);
    machine.set_disks(vec![filled("sda NEW1 @1"), filled("sdb NEW2 @2")]);
    let seen = restore(&mut machine, "");
    let parts = ["serial NEW1", "serial NEW2", "testbox.map=sda:serial=NEW1 or testbox.map=sda:serial=NEW2"];
    assert_refused(&machine, &seen, "[ambiguous 47]", &parts);
    restore(&mut machine, "testbox.map=sda:serial=NEW2");
    assert_eq!((machine.disk_bytes("sdb"), untouched(&machine)), (contents(2, 1), vec!["sda".to_owned()]));
}

#[test]
fn an_additional_usb_disk_is_used_only_by_its_serial() {
    let usb = |text: &str| {
        let mut disk = filled(text);
        disk.disk.excluded = Some(Exclusion::Usb);
        disk
    };
    let mut machine = backed_up(&["sda SYS @1"]);
    // It is found first and has the name of the system disk, which is still there.
    machine.set_disks(vec![usb("sda STICK @usb"), filled("sdb SYS @1")]);
    assert_eq!(restore(&mut machine, "").ending, REBOOT);
    assert_eq!((machine.disk_bytes("sdb"), untouched(&machine)), (contents(2, 1), vec!["sda".to_owned()]));
    machine.arm("testbox.action=backup-again testbox.job=again");
    machine.boot();
    let record = machine.record();
    assert_eq!((record.images.len(), record.others[0].why.as_str()), (1, "USB disk"));

    // The system disk is gone: the stick is no replacement, whatever its name and its port.
    machine.set_disks(vec![usb("sda STICK @1")]);
    let seen = restore(&mut machine, "");
    assert_refused(&machine, &seen, "[ambiguous 47]", &["it is a USB or removable disk"]);
    let seen = restore(&mut machine, "testbox.map=sda:sda");
    assert_refused(&machine, &seen, "[disk-list 42]", &["is a USB disk", "serial="]);
    restore(&mut machine, "testbox.map=sda:serial=STICK");
    assert_eq!(machine.disk_bytes("sda"), contents(2, 1));
}

fn with(mut disk: TestDisk, health: Health) -> TestDisk {
    disk.disk.health = health;
    disk
}

fn failing() -> Health {
    Health { failing: Some("SMART: a threshold is exceeded".into()), ..Health::default() }
}

#[test]
fn a_failing_disk_is_saved_and_written_only_by_its_own_word() {
    let mut machine = Machine::new();
    machine.set_disks(vec![with(disk("sda S1 @1", contents(2, 1)), failing())]);
    machine.arm("testbox.action=backup testbox.job=first");
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    let said = "FAILING: sda (unknown model, serial S1) says that it fails: SMART: a threshold is exceeded";
    assert!(seen.console.contains("warning: FAILING: sda"), "{}", seen.console);
    assert!(machine.text("maintenance.log").contains(&format!(": warning: {said}")));
    assert!(machine.status().notes[0].contains(said), "{:?}", machine.status().notes);

    machine.arm("testbox.action=verify testbox.job=v");
    machine.boot();
    assert!(machine.status().notes[0].contains(said), "{:?}", machine.status().notes);

    machine.set_disks(vec![with(filled("sda S1 @1"), failing())]);
    let seen = restore(&mut machine, "");
    assert_refused(&machine, &seen, "[disk-failing 57]", &["testbox.failing-disk=write"]);
    assert_eq!(machine.status().code, Some(57));
    let seen = restore(&mut machine, "testbox.failing-disk=write");
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    assert_eq!(machine.disk_bytes("sda"), contents(2, 1));
    assert!(machine.status().notes[0].contains(said), "{:?}", machine.status().notes);

    // Another disk of the machine may fail as it likes.
    machine.set_disks(vec![filled("sda S1 @1"), with(filled("sdb S2 @2"), failing())]);
    machine.arm("testbox.action=restore testbox.job=third");
    assert_eq!(machine.boot().ending, REBOOT);
    assert_eq!(machine.disk_bytes("sda"), contents(2, 1));
}

#[test]
fn a_failing_disk_is_refused_for_a_gzip_without_a_record_too() {
    use std::io::Write;
    let mut machine = Machine::new();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&contents(2, 9)).unwrap();
    machine.backup.put(&format!("{}/sda.gz", crate::world::IP), gzip.finish().unwrap());
    machine.set_disks(vec![with(filled("sda S1 @1"), failing())]);
    let seen = restore(&mut machine, "");
    assert_refused(&machine, &seen, "[disk-failing 57]", &["--failing-disk write"]);
}

#[test]
fn a_locked_disk_is_named_before_its_errors() {
    let locked = || Health { locked: true, ..Health::default() };
    let mut machine = backed_up(&["sda S1 @1"]);
    machine.set_disks(vec![with(filled("sda S1 @1"), locked())]);
    let seen = restore(&mut machine, "testbox.failing-disk=write");
    assert_refused(&machine, &seen, "[disk-locked 58]", &["LOCKED by its ATA password", "hdparm"]);
    machine.arm("testbox.action=backup-again testbox.job=again");
    let seen = machine.boot();
    assert_refused(&machine, &seen, "[disk-locked 58]", &["testbox.disks"]);
    assert_eq!(machine.record().generation, 1);
    // The images can be verified all the same.
    machine.arm("testbox.action=verify testbox.job=v");
    assert_eq!(machine.boot().ending, REBOOT);
    assert!(machine.status().notes[0].starts_with("LOCKED: "), "{:?}", machine.status().notes);
}

#[test]
fn what_a_disk_hides_is_said_and_recorded() {
    let hidden = |bytes| Health { hidden: bytes, ..Health::default() };
    let mut machine = Machine::new();
    machine.set_disks(vec![with(disk("sda S1 @1", contents(2, 1)), hidden(1 << 20))]);
    machine.arm("testbox.action=backup testbox.job=first");
    let seen = machine.boot();
    assert!(seen.console.contains("warning: HIDDEN: sda"), "{}", seen.console);
    assert!(
        machine.status().notes[0].contains("2048 sectors (1048576 bytes)"),
        "{:?}",
        machine.status().notes
    );
    assert_eq!(machine.record().images[0].hidden_bytes, 1 << 20);

    // The same disk, of which somebody has hidden more since.
    machine.set_disks(vec![with(disk("sda S1 @1", vec![OTHER; 1 << 20]), hidden(2 << 20))]);
    let seen = restore(&mut machine, "");
    assert_refused(&machine, &seen, "[unfit 48]", &["it hides 2097152 more", "hdparm -N"]);
    // As large as it was: what is shown counts, and what is hidden is said.
    machine.set_disks(vec![with(filled("sda S1 @1"), hidden(1 << 20))]);
    assert_eq!(restore(&mut machine, "").ending, REBOOT);
    assert_eq!(machine.disk_bytes("sda"), contents(2, 1));
    assert!(machine.status().notes[0].starts_with("HIDDEN: "), "{:?}", machine.status().notes);
}

/// Set 1 images sda only; sdb is left out by the list of the machine.
fn left_out(disks: &[&str]) -> Machine {
    let mut machine = Machine::new();
    machine.backup.put(&format!("{}/disk-devices.lst", crate::world::IP), "sda\n");
    machine.set_disks(disks.iter().zip(1..).map(|(text, n)| disk(text, contents(2, n))).collect());
    machine.arm("testbox.action=backup testbox.job=first");
    let seen = machine.boot();
    assert!(!machine.is_armed(), "{}", seen.console);
    machine
}

#[test]
fn a_twin_that_is_left_out_is_never_the_target() {
    let mut machine = left_out(&["sda T @1", "sdb T @2"]);
    let record = machine.record();
    assert!(record.images[0].twin && record.others[0].twin && record.others[0].content.head.is_some());
    assert!(
        machine.status().notes[0].starts_with("TWINS: sda at @1 and sdb at @2"),
        "{:?}",
        machine.status()
    );
    assert!(machine.text("maintenance.log").contains("warning: TWINS: "));
    // The system disk is dead, and a new one in its place: it gets the image.
    machine.set_disks(vec![filled("sda NEW @1"), filled("sdb T @2")]);
    assert_eq!(restore(&mut machine, "").ending, REBOOT);
    assert!(machine.disk_bytes("sda") == contents(2, 1) && untouched(&machine) == ["sdb"]);
    // No new one: the twin is neither its disk nor a replacement, wherever it sits.
    for place in ["@1", "@2", "@3"] {
        machine.set_disks(vec![filled(&format!("sda T {place}"))]);
        let seen = restore(&mut machine, "");
        assert_refused(&machine, &seen, "[ambiguous 47]", &["testbox.map=sda:serial=T"]);
    }
}

#[test]
fn twins_are_told_apart_by_place_and_content() {
    let mut machine = backed_up(&["sda T @1", "sdb T @2"]);
    let with = |texts: [(&str, u64); 2]| texts.map(|(text, n)| disk(text, contents(2, n))).to_vec();
    // In their places with what they held: nothing can be mistaken.
    machine.set_disks(with([("sda T @2", 2), ("sdb T @1", 1)]));
    assert_eq!(restore(&mut machine, "").ending, REBOOT);
    assert!(machine.disk_bytes("sda") == contents(2, 2) && machine.disk_bytes("sdb") == contents(2, 1));
    // One is wiped, and the other one is known by its content.
    machine.set_disks(vec![filled("sda T @1"), disk("sdb T @2", contents(2, 2))]);
    assert_eq!(restore(&mut machine, "").ending, REBOOT);
    assert!(machine.disk_bytes("sda") == contents(2, 1));
    // The cables are swapped: neither written nor imaged under the other's name.
    for action in ["restore", "backup-again"] {
        machine.set_disks(with([("sda T @1", 2), ("sdb T @2", 1)]));
        machine.arm(&format!("testbox.action={action} testbox.job={action}"));
        let seen = machine.boot();
        assert!(seen.console.contains("[ambiguous 47]") && machine.is_armed(), "{}", seen.console);
        assert!(machine.disk_bytes("sda") == contents(2, 2) && machine.record().generation == 1);
    }
    // The admin says where each goes.
    restore(&mut machine, "testbox.map=sda:at=@2,sdb:at=@1");
    assert!(machine.disk_bytes("sda") == contents(2, 2) && machine.disk_bytes("sdb") == contents(2, 1));
}

#[test]
fn a_newer_record_keeps_an_older_set_off_a_disk() {
    let mut machine = backed_up(&["sda S1 @1"]);
    machine.set_disks(vec![disk("sda S1 @1", contents(2, 1)), filled("sdb DATA @2")]);
    machine.arm("testbox.action=backup-again testbox.job=again");
    machine.boot();
    let mut image = machine.file("sda.raw.gz").unwrap();
    image.truncate(image.len() - 4096);
    machine.backup.put(&format!("{}/sda.raw.gz", crate::world::IP), image);
    machine.set_disks(vec![filled("sda DATA @1")]);
    let seen = restore(&mut machine, "");
    assert_refused(&machine, &seen, "[ambiguous 47]", &["set 2 knows it as 'sdb'", "map=sda:serial=DATA"]);
    let seen = restore(&mut machine, "testbox.map=sda:sda");
    assert_refused(&machine, &seen, "[ambiguous 47]", &["'sda' is another disk at this boot", "set 2"]);
    let seen = restore(&mut machine, "testbox.map=sda:serial=DATA");
    assert!(seen.ending == REBOOT && machine.disk_bytes("sda") == contents(2, 1), "{}", seen.console);
    let said = &machine.status().notes;
    assert!(
        said.iter().any(|n| n.contains("overrides") && n.contains("set 2 knows it as 'sdb'")),
        "{said:?}"
    );
}

#[test]
fn a_kernel_name_in_a_map_takes_no_disk_that_a_record_knows() {
    let mut machine = left_out(&["sda SYS @1", "sdb DATA @2"]);
    machine.set_disks(vec![filled("sda DATA @2"), filled("sdb NEW @1")]);
    let seen = restore(&mut machine, "testbox.map=sda:sda");
    let parts = ["set 1 knows it as 'sdb', which is left out", "testbox.map=sda:serial=NEW"];
    assert_refused(&machine, &seen, "[ambiguous 47]", &parts);
    restore(&mut machine, "testbox.map=sda:sdb");
    assert!(machine.disk_bytes("sdb") == contents(2, 1) && untouched(&machine) == ["sda"]);
}

#[test]
fn an_image_without_a_record_goes_to_the_disk_of_its_header() {
    let mut machine = backed_up(&["sda S1 @1"]);
    let record = format!("{}/backup.json", crate::world::IP);
    machine.backup.put(&record, "{");
    let seen = restore(&mut machine, "");
    assert!(
        seen.console.contains("[bad-record 45]") && seen.console.contains("its own header"),
        "{}",
        seen.console
    );
    machine.backup.remove(&record).unwrap();
    machine.set_disks(vec![filled("sdb DATA @2")]);
    for word in ["", "testbox.map=sda:sdb"] {
        let seen = restore(&mut machine, word);
        assert_refused(&machine, &seen, "[ambiguous 47]", &["is the image of", "serial S1", "serial=DATA"]);
    }
    machine.set_disks(vec![filled("sda T @3"), filled("sdb S1 @2")]);
    assert_eq!(restore(&mut machine, "").ending, REBOOT);
    assert!(machine.disk_bytes("sdb") == contents(2, 1) && untouched(&machine) == ["sda"]);
    machine.set_disks(vec![filled("sdb DATA @2")]);
    restore(&mut machine, "testbox.map=sda:serial=DATA");
    assert!(machine.disk_bytes("sdb") == contents(2, 1));
    let said = &machine.status().notes;
    assert!(said.iter().any(|note| note.contains("overrides the header of sda.raw.gz")), "{said:?}");
}
