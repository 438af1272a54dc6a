//! Fail the Nth operation, for every N: whatever goes wrong and whenever the power is cut, the last good set stays
//! (G), nothing half-written counts as good (P), a target disk is unbootable or right (U), and the machine stays
//! armed until the job is done (K). The next boot without a fault ends the job.

use crate::world::{HOLD, IP, Machine, REBOOT, TestDisk, contents, contents_of, disk, ext4};
use std::collections::BTreeMap;
use std::ops::Range;
use testbox::share::{MemFiles, ShareFault, ShareOp, Survivors};
use testbox::signature::{SET_NAMESPACE, SecretKey, Trust, Verdict};
use testbox::store::layout::SIGNATURE;
use testbox::store::status::JobState;

const OLD: u64 = 1;
const NEW: u64 = 2;

fn small(seed: u64) -> Vec<u8> {
    contents_of(128 << 10, seed)
}

fn set(seed: u64) -> BTreeMap<String, Vec<u8>> {
    BTreeMap::from([("sda".into(), small(seed)), ("sdb".into(), small(7))])
}

fn disks(seed: u64) -> Vec<TestDisk> {
    vec![disk("sda S1 @1", small(seed)), disk("sdb S2 @2", small(7))]
}

fn admin() -> SecretKey {
    SecretKey::new(&[1; 32], "admin").unwrap()
}

/// The backup share with set 1 published, and signed.
fn published() -> BTreeMap<String, Vec<u8>> {
    let mut machine = Machine::new();
    machine.set_disks(disks(OLD));
    machine.arm("testbox.action=backup testbox.job=one");
    assert_eq!(machine.boot().ending, REBOOT);
    let signature = admin().sign(SET_NAMESPACE, &machine.file("backup.json").unwrap());
    machine.backup.put(&format!("{IP}/{SIGNATURE}"), signature.to_file());
    machine.backup.tree()
}

/// A signature stands beside no other record than its own.
fn check_signatures(machine: &Machine, what: &str) {
    let trust = Trust::new([("", admin().public().line().as_bytes())], true);
    let tree = machine.backup.tree();
    for (path, signature) in tree.iter().filter(|(path, _)| path.ends_with(SIGNATURE)) {
        let Some(record) = tree.get(path.strip_suffix(".sig").unwrap()) else { continue };
        let verdict = trust.of_set(record, Some(signature));
        assert!(matches!(verdict, Verdict::By(_)), "{what}: {path}: {verdict:?}");
    }
}

/// Set 1 published, the disks have moved on, `backup-again` is armed.
fn before_backup_again(share: &BTreeMap<String, Vec<u8>>) -> Machine {
    let mut machine = Machine::new();
    share.iter().for_each(|(path, bytes)| machine.backup.put(path, bytes.clone()));
    machine.set_disks(disks(NEW));
    machine.arm("testbox.action=backup-again testbox.job=two testbox.attempts=9");
    machine
}

/// The same on a store.
fn before_backup_again_stored(share: &BTreeMap<String, Vec<u8>>) -> Machine {
    let mut machine = before_backup_again(share);
    machine.restart_store();
    machine.arm("testbox.action=backup-again testbox.job=two testbox.attempts=9");
    machine
}

/// G: some trusted set is the old one or the new one, whole; and the old one is nowhere changed.
fn check_sets(machine: &Machine, what: &str) {
    check_signatures(machine, what);
    let sets = machine.good_sets();
    assert!(
        sets.values().any(|s| *s == set(OLD)),
        "{what}: the old set is lost: {:?}",
        machine.backup.tree().keys()
    );
    for (generation, found) in &sets {
        let expected = set(if *generation == 1 { OLD } else { NEW });
        assert!(*found == expected, "{what}: set {generation} is not what was on the disks");
    }
}

/// The boot after the fault: the job ends, and the new set is there beside the old one.
fn check_recovery(machine: &mut Machine, what: &str) {
    machine.backup.clear_faults();
    machine.tftp.clear_faults();
    if machine.store.is_some() {
        machine.restart_store();
    }
    let mut boots = 0;
    while machine.is_armed() {
        let seen = machine.boot();
        boots += 1;
        assert!(boots < 3, "{what}: does not end: {}", seen.console);
    }
    check_sets(machine, what);
    assert_eq!(machine.good_sets().keys().copied().collect::<Vec<_>>(), [1, 2], "{what}");
    assert!(boots == 0 || machine.status().state == JobState::Done, "{what}");
    assert!(machine.file(&format!("history/1/{SIGNATURE}")).is_some(), "{what}: the signature is lost");
    assert!(!machine.backup.tree().keys().any(|k| k.ends_with(".part")), "{what}: leftovers");
}

/// Runs `backup-again` with a fault at each operation of one share in turn.
fn at_every_operation(share: fn(&Machine) -> MemFiles, fault: ShareFault, crash: Option<Survivors>) -> usize {
    at_every_operation_from(&published(), before_backup_again, share, fault, crash)
}

fn at_every_operation_from(
    share_before: &BTreeMap<String, Vec<u8>>,
    armed: fn(&BTreeMap<String, Vec<u8>>) -> Machine,
    share: fn(&Machine) -> MemFiles,
    fault: ShareFault,
    crash: Option<Survivors>,
) -> usize {
    let mut nth = 0;
    loop {
        let mut machine = armed(share_before);
        let files = share(&machine);
        let begun = files.operations().len();
        files.fail_nth(begun + nth, fault);
        let seen = machine.boot();
        let what = format!("operation {nth} {:?} {fault:?} {crash:?}", files.operations().get(begun + nth));
        let is_published = machine.good_sets().contains_key(&2);
        assert!(machine.is_armed() || is_published, "{what}: disarmed without being done: {}", seen.console);
        assert!(seen.ending == REBOOT || seen.ending == HOLD, "{what}");
        check_sets(&machine, &what);
        if let Some(survivors) = crash {
            machine.backup.crash(survivors);
            machine.tftp.crash(survivors);
            check_sets(&machine, &format!("{what}, then a cut"));
        }
        check_recovery(&mut machine, &what);
        if files.operations().len() < begun + nth {
            return nth;
        }
        nth += 1;
    }
}

#[test]
fn backup_again_survives_every_error_of_the_backup_share() {
    let points = at_every_operation(|m| m.backup.clone(), ShareFault::Errno(libc::EIO), None);
    assert!(points > 50, "only {points} operations were tried");
}

#[test]
fn backup_again_survives_every_error_and_a_cut_after_it() {
    for survivors in [Survivors::SyncedNames, Survivors::AllNames] {
        at_every_operation(|m| m.backup.clone(), ShareFault::Errno(libc::ENOSPC), Some(survivors));
    }
}

/// The disk of a store fails at each operation of its own, or its power is cut there.
#[test]
fn a_store_survives_every_error_and_a_cut_after_it() {
    let before = published();
    let ours = |m: &Machine| m.backup.clone();
    let rows = [
        (ShareFault::Errno(libc::ENOSPC), Some(Survivors::SyncedNames)),
        (ShareFault::Errno(libc::EIO), None),
        (ShareFault::Errno(libc::EIO), Some(Survivors::AllNames)),
    ];
    for (fault, crash) in
        rows.into_iter().take(if std::env::var_os("TESTBOX_LONG").is_some() { 3 } else { 1 })
    {
        let points = at_every_operation_from(&before, before_backup_again_stored, ours, fault, crash);
        assert!(points > 50, "only {points} operations were tried");
    }
}

/// The agent was killed in an attempt before: one image is whole but for its end, the other is torn.
#[test]
fn a_resumed_backup_survives_every_error_and_a_cut_after_it() {
    let mut share = published();
    let machine = before_backup_again(&share);
    assert_eq!(machine.boot().ending, REBOOT);
    let [mut first, mut second] = ["sda.raw.gz", "sdb.raw.gz"].map(|name| machine.file(name).unwrap());
    first.truncate(first.len() - 5000);
    let middle = second.len() / 2;
    second[middle..].fill(0);
    share.insert(format!("{IP}/sda.raw.gz.part"), first);
    share.insert(format!("{IP}/sdb.raw.gz.part"), second);
    let ours = |m: &Machine| m.backup.clone();
    at_every_operation_from(
        &share,
        before_backup_again,
        ours,
        ShareFault::Errno(libc::EIO),
        Some(Survivors::SyncedNames),
    );
    // A server that does not cut the file, or loses what is written there.
    for op in [ShareOp::GoOn, ShareOp::Write, ShareOp::Sync] {
        for nth in 0..12 {
            let mut machine = before_backup_again(&share);
            machine.backup.fail_nth_of(op, nth, ShareFault::Dropped);
            let seen = machine.boot();
            check_sets(&machine, &format!("{op:?} {nth}: {}", seen.console));
            check_recovery(&mut machine, &format!("{op:?} {nth}"));
        }
    }
}

/// A server that says yes to a link or a rename and does nothing: the old set must not lose its last name.
#[test]
fn backup_again_survives_links_and_renames_that_are_dropped() {
    let before = published();
    for op in [ShareOp::HardLink, ShareOp::Rename] {
        for nth in 0..40 {
            let mut machine = before_backup_again(&before);
            machine.backup.fail_nth_of(op, nth, ShareFault::Dropped);
            machine.boot();
            let what = format!("{op:?} {nth} dropped");
            check_sets(&machine, &what);
            if op == ShareOp::HardLink {
                check_recovery(&mut machine, &what);
            }
            if machine.backup.operations().iter().filter(|o| **o == op).count() <= nth {
                break;
            }
        }
    }
}

#[test]
fn backup_again_survives_every_error_of_the_tftp_share() {
    at_every_operation(|m| m.tftp.clone(), ShareFault::Errno(libc::ESTALE), None);
}

/// A restore with a fault at each operation of the target disk: unbootable or right, and the next boot mends it.
#[test]
fn restore_survives_every_error_of_the_target_disk() {
    restore_survives(&contents(3, 5), "auto");
}

/// The same where the disk is nearly right, and only what differs is written.
#[test]
fn delta_restore_survives_every_error_of_the_target_disk() {
    let mut target = contents(3, 1);
    for (at, len) in [(0, 512), (1 << 20, 5000), (3 << 19, 100)] {
        target[at..at + len].iter_mut().for_each(|byte| *byte ^= 0x55);
    }
    restore_survives(&target, "always");
}

/// A backup with an error at each read of the disk, while it is looked at and while it is imaged: a set that is
/// published has everything that is used, whatever could be told about the rest.
#[test]
fn backup_of_used_space_survives_every_error_of_the_source() {
    use testbox::block::mem::DiskFault;
    let bytes = ext4::disk_bytes();
    let wanted = ext4::without_free(&bytes);
    let mut nth = 0;
    loop {
        let source = disk("sda S1 @1", bytes.clone());
        let mut machine = Machine::new();
        machine.set_disks(vec![source.clone()]);
        machine.arm("testbox.action=backup testbox.job=b");
        // A passing error would be mended by reading again.
        source.bytes.fail_nth(nth, DiskFault::Errno(libc::EIO), true);
        let what = machine.boot().console;
        assert_eq!(machine.is_armed(), machine.good_sets().is_empty(), "read {nth}: {what}");
        let reads = source.bytes.log().len() as u64;
        source.bytes.heal();
        source.bytes.fail_nth(nth, DiskFault::Errno(libc::ENODATA), false);
        let seen = machine.boot();
        let sets = machine.good_sets();
        let content = &sets.get(&1).unwrap_or_else(|| panic!("read {nth}: {}", seen.console))["sda"];
        assert!(*content == wanted || *content == bytes, "read {nth}: {}", seen.console);
        if nth >= reads {
            break;
        }
        nth += 1;
    }
    assert!(nth > 10, "only {nth} reads were tried");
}

/// Where a part of the disk is nobody's: that may be anything afterwards, and the rest may not.
#[test]
fn restore_beside_free_space_survives_every_error_of_the_target() {
    let bytes = ext4::disk_bytes();
    let free = ext4::map(&bytes).free;
    for how in ["leave", "discard"] {
        restore_of_survives(&bytes, &free, &vec![0xa5; bytes.len()], &format!("testbox.free={how}"));
    }
}

fn restore_survives(old: &[u8], delta: &str) {
    restore_of_survives(&contents(3, 1), &[], old, &format!("testbox.delta={delta}"));
}

fn restore_of_survives(image: &[u8], free: &[Range<u64>], old: &[u8], words: &str) {
    use testbox::block::mem::DiskFault;
    let mut machine = Machine::new();
    machine.set_disks(vec![disk("sda S1 @1", image.to_vec())]);
    machine.arm("testbox.action=backup testbox.job=one");
    machine.boot();
    let share = machine.backup.tree();
    let wanted = ext4::filled(image, free, 0);
    let is_whole = |machine: &Machine| ext4::filled(&machine.disk_bytes("sda"), free, 0) == wanted;
    for fault in [DiskFault::Errno(libc::EIO), DiskFault::Short, DiskFault::Drop, DiskFault::FlipBit(4321)] {
        for dead in [false, true] {
            // Bits that flip in every transfer cancel out between writing and reading back: no disk does that.
            if dead && matches!(fault, DiskFault::FlipBit(_)) {
                continue;
            }
            let mut nth = 0;
            loop {
                let mut machine = Machine::new();
                share.iter().for_each(|(path, bytes)| machine.backup.put(path, bytes.clone()));
                let target = disk("sda S1 @1", old.to_vec());
                machine.set_disks(vec![target.clone()]);
                machine.arm(&format!("testbox.action=restore testbox.job=r testbox.attempts=9 {words}"));
                target.bytes.fail_nth(nth, fault, dead);
                let seen = machine.boot();
                let operations = target.bytes.log().len() as u64;
                let what =
                    format!("operation {nth} of {operations}, {fault:?}, dead {dead}: {}", seen.console);
                let is_right = is_whole(&machine);
                // A disk that drops the very first writes stays what it was, but for the backup GPT at its end.
                let is_untouched = machine.disk_bytes("sda")[..2 << 20] == old[..2 << 20];
                let is_unbootable = machine.disk_bytes("sda")[..512].iter().all(|b| *b == 0);
                if machine.is_armed() {
                    assert!(is_right || is_untouched || is_unbootable, "{what}");
                } else {
                    assert!(is_right, "a bad restore was called good: {what}");
                }
                target.bytes.heal();
                if machine.is_armed() {
                    assert_eq!(machine.boot().ending, REBOOT, "{what}");
                }
                assert!(!machine.is_armed() && is_whole(&machine), "{what}");
                if nth >= operations {
                    break;
                }
                nth += 1;
            }
        }
    }
}
