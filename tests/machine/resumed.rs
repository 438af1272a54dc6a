//! A backup-again that was cut, wherever: what it had is kept, and only the rest is copied or made.

use crate::world::{IP, Machine, REBOOT, contents, disk};
use testbox::share::{ShareOp, Survivors};
use testbox::sys::Chance;

const MIB: usize = 1 << 20;
const SIZE: usize = 4 * MIB;

/// A machine whose set 1 is published, and whose disk has one changed piece since; armed to be imaged again.
fn changed() -> Machine {
    let mut machine = Machine::new();
    machine.set_disks(vec![disk("sda S1 @1", contents(SIZE / MIB, 1))]);
    machine.arm("testbox.action=backup testbox.job=one");
    assert_eq!(machine.boot().ending, REBOOT);
    let mut machine = machine.after_cut(Survivors::AllNames, Chance(0));
    let mut bytes = contents(SIZE / MIB, 1);
    bytes[2 * MIB..2 * MIB + 512].fill(0x77);
    machine.set_disks(vec![disk("sda S1 @1", bytes)]);
    machine.arm("testbox.action=backup-again testbox.job=two");
    machine
}

/// The bytes that the last image was made of: taken over from the image before, and kept from a cut attempt.
fn figures(machine: &Machine) -> (usize, usize) {
    let log = machine.text("maintenance.log");
    let line = log.lines().rfind(|line| line.contains("bytes of image:")).unwrap();
    let before = |words: &str| {
        let (head, _) = line.split_once(words).unwrap();
        head.rsplit(' ').next().unwrap().parse().unwrap()
    };
    (before(" taken over from"), before(" kept from"))
}

#[test]
fn a_backup_again_cut_while_it_verified_copies_nothing_twice() {
    let before = changed();
    let whole = before.copy();
    assert_eq!(whole.boot().ending, REBOOT);
    let mut cuts = 0;
    for nth in (0..whole.power.operations()).rev() {
        let machine = before.copy();
        machine.power.cut_at(nth);
        let seen = machine.boot();
        if !seen.console.contains("verifying sda.raw.gz.part") {
            break;
        }
        let mut after = machine.after_cut(Survivors::AllNames, Chance(0));
        after.arm("testbox.action=backup-again testbox.job=two");
        let seen = after.boot();
        assert_eq!(seen.ending, REBOOT, "{}", seen.console);
        if !seen.console.contains("bytes of image:") {
            continue; // It was being published, and only that is completed.
        }
        cuts += 1;
        assert_eq!(figures(&after), (0, SIZE), "cut at operation {nth}: {}", seen.console);
        assert_eq!(after.backup.count(ShareOp::AppendFrom), 0, "cut at operation {nth}");
        assert_eq!(after.record().generation, 2);
        assert_eq!(after.image("sda.raw.gz").unwrap(), after.disk_bytes("sda"));
    }
    assert!(cuts > 3, "{cuts}");
}

#[test]
fn a_backup_again_cut_while_it_wrote_keeps_what_it_had() {
    let (whole, changed_bytes) = {
        let machine = changed();
        assert_eq!(machine.boot().ending, REBOOT);
        let (taken, kept) = figures(&machine);
        assert!(kept == 0 && taken < SIZE && taken > SIZE - MIB, "{taken}");
        (machine.file("sda.raw.gz").unwrap(), SIZE - taken)
    };
    for pieces in 0..=SIZE / MIB {
        let mut machine = changed();
        let left = whole.len() * pieces / (SIZE / MIB);
        machine.backup.put(&format!("{IP}/sda.raw.gz.part"), &whole[..left]);
        machine.arm("testbox.action=backup-again testbox.job=two");
        let seen = machine.boot();
        assert_eq!(seen.ending, REBOOT, "{}", seen.console);
        let (taken, kept) = figures(&machine);
        let made = SIZE - taken - kept;
        assert!(made == 0 || made == changed_bytes, "{left}: {}", seen.console);
        assert!(kept + MIB >= SIZE * pieces / (SIZE / MIB), "{left}: only {kept} kept");
        assert_eq!(machine.image("sda.raw.gz").unwrap(), machine.disk_bytes("sda"));
    }
}
