//! U holds for the machine and not for a disk: with several targets, none boots before the bodies of all of them are
//! proven, and no moment leaves one that boots with old content beside one with new.

use crate::world::disk::{bootable, check_unbootable_or_right};
use crate::world::{IP, Machine, REBOOT, Seen, TestDisk, disk};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;
use testbox::block::mem::{DiskFault, DiskOp};
use testbox::image::Image;
use testbox::share::{Files, Survivors};
use testbox::sys::Chance;

const NAMES: [&str; 2] = ["sda", "sdb"];

/// What the images hold.
fn images() -> [Vec<u8>; 2] {
    [bootable(3), bootable(4)]
}

/// Disks that hold something else.
fn others() -> [Vec<u8>; 2] {
    [bootable(8), bootable(9)]
}

/// Disks that differ from the images in few places of the boot areas and of the body.
fn nearly_right() -> [Vec<u8>; 2] {
    images().map(|mut bytes| {
        for (at, len) in [(0, 400), ((1 << 20) + 512, 5000), (5 << 18, 100)] {
            bytes[at..at + len].iter_mut().for_each(|byte| *byte ^= 0x55);
        }
        bytes
    })
}

fn disks(bytes: [Vec<u8>; 2]) -> Vec<TestDisk> {
    let [a, b] = bytes;
    vec![disk("sda S1 @1", a), disk("sdb S2 @2", b)]
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A restore of two disks that is armed; what they hold before.
struct Row {
    name: &'static str,
    words: &'static str,
    old: fn() -> [Vec<u8>; 2],
    /// Images of whom are plain gzip files, without a record.
    gzips: &'static [usize],
}

const MAP: &str = "testbox.map=sda:serial=S1,sdb:serial=S2";
const ROWS: [Row; 4] = [
    Row { name: "images", words: "", old: others, gzips: &[] },
    Row { name: "delta", words: "testbox.delta=always", old: nearly_right, gzips: &[] },
    Row { name: "gzips", words: MAP, old: others, gzips: &[0, 1] },
    Row { name: "gzip and image", words: MAP, old: others, gzips: &[1] },
];

impl Row {
    fn armed(&self) -> Machine {
        let mut machine = Machine::new();
        machine.set_disks(disks(images()));
        machine.arm("testbox.action=backup testbox.job=one");
        assert_eq!(machine.boot().ending, REBOOT);
        if !self.gzips.is_empty() {
            machine.backup.remove(&format!("{IP}/backup.json")).unwrap();
        }
        for n in self.gzips {
            machine.backup.put(&format!("{IP}/{}.raw.gz", NAMES[*n]), gzip(&images()[*n]));
        }
        let mut machine = machine.after_cut(Survivors::AllNames, Chance(0));
        machine.set_disks(disks((self.old)()));
        machine.arm(&format!("testbox.action=restore testbox.job=two testbox.attempts=99 {}", self.words));
        machine
    }

    /// U for the machine.
    fn check(&self, machine: &Machine, what: &str) {
        let (old, new) = ((self.old)(), images());
        let found = NAMES.map(|name| machine.disk_bytes(name));
        for n in 0..2 {
            check_unbootable_or_right(&found[n], &new[n], &old[n], what);
        }
        let same = |wanted: &[Vec<u8>; 2]| (0..2).all(|n| body(&found[n]) == body(&wanted[n]));
        assert!(
            !found.iter().any(|disk| boots(disk)) || same(&old) || same(&new),
            "U: {what}: a disk boots before the bodies of all are right"
        );
    }

    fn is_restored(&self, machine: &Machine) -> bool {
        NAMES.map(|name| machine.disk_bytes(name)) == images()
    }

    /// Boots without a fault until the job is over.
    fn finish(&self, machine: &Machine, what: &str) {
        let boots = (0..3).take_while(|_| machine.is_armed()).map(|_| machine.boot().console).last();
        assert!(!machine.is_armed(), "{what}: does not end: {boots:?}");
        assert!(self.is_restored(machine), "{what}: done, and not restored");
    }
}

fn body(disk: &[u8]) -> &[u8] {
    &disk[1 << 20..disk.len() - (1 << 20)]
}

fn boots(disk: &[u8]) -> bool {
    let last = disk.len() - 512;
    disk[510..512] == [0x55, 0xaa]
        || disk[512..].starts_with(b"EFI PART")
        || disk[last..].starts_with(b"EFI PART")
}

#[test]
fn a_cut_at_any_moment_leaves_no_old_disk_beside_a_new_one() {
    for row in &ROWS {
        let before = row.armed();
        let (mut seen, mut both) = (BTreeSet::new(), [false; 3]);
        let cuts = (0..).find(|nth| {
            let machine = before.copy();
            machine.power.cut_at(*nth);
            machine.boot();
            let what = format!("{}, cut at operation {nth}", row.name);
            let after = machine.after_cut(Survivors::Any(Chance(*nth as u64)), Chance(*nth as u64));
            let found = NAMES.map(|name| after.disk_bytes(name));
            // Where no disk was touched yet, `power` has looked at what else a cut leaves.
            if found != (row.old)() && seen.insert(after.fingerprint()) {
                row.check(&after, &what);
                both[found.iter().filter(|disk| boots(disk)).count()] = true;
                row.finish(&after, &what);
            }
            machine.power.is_on()
        });
        println!("{}: {cuts:?} cuts, {} states", row.name, seen.len());
        assert_eq!(both, [true; 3], "{}: not every number of disks that boot was seen", row.name);
    }
}

/// One operation of one disk fails, once or from then on.
#[test]
fn one_target_that_fails_leaves_all_unbootable() {
    for row in &ROWS {
        let (before, mut finished) = (row.armed(), BTreeSet::new());
        // A disk that is dead, and one that loses a write, behave the same whatever the image is.
        let eio = DiskFault::Errno(libc::EIO);
        let faults = [(eio, false), (eio, true), (DiskFault::Drop, false)];
        let faults = &faults[..if row.name == "delta" { 3 } else { 1 }];
        for (n, (fault, dead)) in (0..2).flat_map(|n| faults.iter().map(move |fault| (n, *fault))) {
            let points = (0..).find(|nth| {
                let machine = before.copy();
                let target = machine.disks.lock().unwrap()[n].bytes.clone();
                target.fail_nth(*nth, fault, dead);
                let seen = machine.boot();
                let is_hit = target.log().len() as u64 > *nth;
                let what = format!("{}, {} {fault:?} {dead} at {nth}: {}", row.name, NAMES[n], seen.console);
                target.heal();
                check_failed(row, &machine, n, &seen, &what);
                if finished.insert(machine.fingerprint()) {
                    row.finish(&machine, &what);
                }
                !is_hit
            });
            assert!(points > Some(10), "{}: {points:?}", row.name);
        }
    }
}

fn check_failed(row: &Row, machine: &Machine, failed: usize, seen: &Seen, what: &str) {
    if !machine.is_armed() {
        return assert!(row.is_restored(machine), "a bad restore was called good: {what}");
    }
    // Two faults in a row: what could not be taken back is said.
    if !seen.console.contains("do not boot it") {
        row.check(machine, what);
        let found = NAMES.map(|name| machine.disk_bytes(name));
        let is_old = found.iter().zip((row.old)()).all(|(found, old)| body(found) == body(&old));
        assert!(is_old || !found.iter().any(|disk| boots(disk)), "a disk boots after a failure: {what}");
    }
    let error = machine.status().error.unwrap();
    let rest = format!("testbox.disks={}", NAMES[1 - failed]);
    assert!(error.contains(NAMES[failed]) && error.contains(&rest), "no {rest} in {error}");
}

/// What the message advises does what it says.
#[test]
fn the_other_disks_are_restored_by_the_word_of_the_message() {
    let before = ROWS[0].armed();
    for (n, name) in NAMES.into_iter().enumerate() {
        let mut machine = before.copy();
        let target = machine.disks.lock().unwrap()[n].bytes.clone();
        target.inject(DiskOp::Write, 1 << 20..2 << 20, DiskFault::Errno(libc::EIO), u64::MAX);
        machine.boot();
        let error = machine.status().error.unwrap();
        let word = error.split_whitespace().find(|word| word.starts_with("testbox.disks=")).unwrap();
        machine.arm(&format!("testbox.action=restore testbox.job=three {word}"));
        let seen = machine.boot();
        assert!(!machine.is_armed(), "{}", seen.console);
        let other = 1 - n;
        assert!(machine.disk_bytes(NAMES[other]) == images()[other], "{}", seen.console);
        assert!(!boots(&machine.disk_bytes(name)), "the failed disk boots");
    }
}

/// Whatever is wrong with the last image or the last disk shows before the first disk is touched.
#[test]
fn all_images_are_checked_before_the_first_disk_is_touched() {
    for row in &ROWS {
        for damage in [
            |file: &mut Vec<u8>| file.truncate(file.len() - 100),
            |file: &mut Vec<u8>| {
                // In a member that every row needs.
                let place = (1 << 20) + 512;
                let image = Image::open(Arc::new(file.clone()));
                let run = image.ok().and_then(|image| image.runs_in(place..place + 1).next()?.ok());
                let at = run.map_or(file.len() / 2, |run| (run.position + run.place().end) as usize / 2);
                file[at] ^= 1;
            },
        ] {
            let machine = row.armed();
            let path = format!("{IP}/sdb.raw.gz");
            let mut file = machine.backup.get(&path).unwrap();
            damage(&mut file);
            machine.backup.put(&path, file);
            let seen = machine.boot();
            assert!(machine.is_armed(), "{}: {}", row.name, seen.console);
            let found = NAMES.map(|name| machine.disk_bytes(name));
            assert!(found == (row.old)(), "{}: {}", row.name, seen.console);
        }
    }
}
