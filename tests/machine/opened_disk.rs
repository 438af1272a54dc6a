//! The disk that is opened is the disk that was listed, or nothing is done with it: between the two lie mounts, hangs, and
//! for the second disk hours, and kernel names change.

use crate::world::{Machine, Seen, TestDisk, contents, disk};
use testbox::agent::world::Purpose;
use testbox::inventory::Disk;

/// Two disks that only their identity tells apart: size, model and everything else is the same.
fn disks() -> Vec<TestDisk> {
    vec![disk("sda S1 @1", contents(2, 1)), disk("sdb S2 @2", contents(2, 2))]
}

/// A machine with set 1 of both.
fn backed_up() -> Machine {
    let mut machine = Machine::new();
    machine.set_disks(disks());
    machine.arm("testbox.action=backup testbox.job=one");
    machine.boot();
    assert!(!machine.is_armed());
    machine
}

/// What changes of the machine's disks.
type Change = fn(&mut [TestDisk]);

/// The device nodes are swapped: identities stay with the bytes.
fn swap_names(disks: &mut [TestDisk]) {
    let [a, b] = disks else { panic!("not two disks") };
    std::mem::swap(&mut a.disk.name, &mut b.disk.name);
    std::mem::swap(&mut a.disk.path, &mut b.disk.path);
}

/// Every way in which a name can mean another disk, of the same size.
const CHANGES: [Change; 4] = [
    swap_names,
    |disks| disks.iter_mut().for_each(|d| d.disk.identity.serial = Some("NEW".into())),
    |disks| disks.iter_mut().for_each(|d| d.disk.location = "@9".into()),
    // Taken out and put back: the kernel counts that.
    |disks| disks.iter_mut().for_each(|d| d.disk.diskseq = Some(9)),
];

/// Boots the machine, whose disks change before the `nth` open.
fn boot_with(machine: Machine, nth: usize, change: Change) -> (&'static Machine, Seen) {
    machine.disks.lock().unwrap().iter_mut().for_each(|d| d.disk.diskseq = Some(1));
    let machine: &'static Machine = Box::leak(Box::new(machine));
    *machine.opened.lock().unwrap() = 0;
    *machine.on_open.lock().unwrap() = Some(Box::new(move |before| {
        if before == nth {
            change(&mut machine.disks.lock().unwrap());
        }
    }));
    let seen = machine.boot();
    (machine, seen)
}

fn holds(machine: &Machine, bytes: &[Vec<u8>]) -> bool {
    machine.disks.lock().unwrap().iter().zip(bytes).all(|(disk, bytes)| disk.bytes.content() == *bytes)
}

#[track_caller]
fn assert_refused(machine: &Machine, seen: &Seen, what: &str) {
    assert!(machine.is_armed(), "{what}: {}", seen.console);
    assert_eq!(machine.status().code, Some(59), "{what}: {}", seen.console);
    let error = machine.status().error.unwrap();
    for part in ["/dev/sd", "listed: sd", "opened: sd", "serial S", "[other-disk 59]"] {
        assert!(error.contains(part), "{what}: no '{part}' in {error}");
    }
}

#[test]
fn a_restore_onto_another_disk_than_listed_writes_nothing() {
    let old = [contents(2, 8), contents(2, 9)];
    for change in CHANGES {
        for nth in 0..2 {
            let mut machine = backed_up();
            machine.set_disks(disks());
            let bytes = machine.disks.lock().unwrap().clone();
            machine
                .set_disks(bytes.iter().zip(&old).map(|(d, old)| disk_like(&d.disk, old.clone())).collect());
            machine.arm("testbox.action=restore testbox.job=two");
            let (machine, seen) = boot_with(machine, nth, change);
            assert_refused(machine, &seen, &format!("open {nth}"));
            assert!(holds(machine, &old), "open {nth}: a disk was written: {}", seen.console);
        }
    }
}

fn disk_like(listed: &Disk, bytes: Vec<u8>) -> TestDisk {
    let text = format!("{} {} {}", listed.name, listed.identity.serial.as_deref().unwrap(), listed.location);
    disk(&text, bytes)
}

#[test]
fn no_set_pairs_one_disks_serial_with_anothers_bytes() {
    for action in ["backup", "backup-again"] {
        for change in CHANGES {
            // Both are opened twice: what reads free space is looked for on all disks first.
            for nth in 0..4 {
                let mut machine = if action == "backup" { Machine::new() } else { backed_up() };
                machine.set_disks(disks());
                machine.arm(&format!("testbox.action={action} testbox.job=two"));
                let before = machine.file("backup.json");
                let (machine, seen) = boot_with(machine, nth, change);
                assert_refused(machine, &seen, &format!("{action}, open {nth}"));
                assert!(machine.file("backup.json") == before, "{action}, open {nth}: {}", seen.console);
            }
        }
    }
}

#[test]
fn verify_compares_with_no_other_disk() {
    for nth in 0..2 {
        let mut machine = backed_up();
        machine.arm("testbox.action=verify testbox.job=two");
        let (machine, seen) = boot_with(machine, nth, swap_names);
        assert_refused(machine, &seen, &format!("open {nth}"));
        assert!(!seen.console.contains("DIFFERS"), "{}", seen.console);
    }
}

/// While the share of the images is mounted, a controller is reset.
#[test]
fn names_that_swap_while_a_share_is_mounted_move_no_image() {
    let mut machine = backed_up();
    machine.arm("testbox.action=restore testbox.job=two");
    let machine: &'static Machine = Box::leak(Box::new(machine));
    *machine.on_mount.lock().unwrap() = Some(Box::new(move |purpose| {
        if purpose == Purpose::Images {
            swap_names(&mut machine.disks.lock().unwrap());
        }
    }));
    let seen = machine.boot();
    assert_refused(machine, &seen, "mount");
    assert!(holds(machine, &[contents(2, 1), contents(2, 2)]));
    // The names have settled: the next attempt finds each disk by its identity.
    *machine.on_mount.lock().unwrap() = None;
    let seen = machine.boot();
    assert!(!machine.is_armed(), "{}", seen.console);
    assert!(holds(machine, &[contents(2, 1), contents(2, 2)]));
}
