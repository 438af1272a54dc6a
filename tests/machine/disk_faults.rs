//! Disks that fail while they are imaged or restored, from the word on the command line to what the user sees. Each
//! row of "Faults" in `README.md` names its test. The invariants are those of `lib.rs`: G, P, U, K.

use crate::world::{HOLD, IP, Machine, REBOOT, Seen, TestDisk, contents, contents_of, disk};
use std::collections::BTreeMap;
use std::sync::Arc;
use testbox::block::mem::{DiskFault, DiskOp, MemDisk};
use testbox::share::{ShareFault, Survivors};
use testbox::store::record::SetState;
use testbox::store::status::JobState;
use testbox::sys::{Call, Reboot};

const MIB: u64 = 1 << 20;
/// How often the watchdog looks where a disk hangs: the test need not wait long.
const TICK: std::time::Duration = std::time::Duration::from_millis(20);
/// The class of errors by which Linux reports a bad medium.
const MEDIUM: [i32; 6] =
    [libc::EIO, libc::ENODATA, libc::EILSEQ, libc::ETIMEDOUT, libc::ENOLINK, libc::EREMOTEIO];
const AGAIN: &str = "testbox.action=backup-again";
const DEGRADED: &str = "testbox.bad-sectors=degraded";
const REPLACE: &str = "testbox.bad-sectors=degraded testbox.degraded=replace";

/// The machine's one disk.
fn sda(seed: u64) -> TestDisk {
    disk("sda S1 @1", contents(2, seed))
}

/// A machine that holds this share and this disk.
fn machine(share: &BTreeMap<String, Vec<u8>>, sda: &TestDisk) -> Machine {
    let machine = Machine::new();
    share.iter().for_each(|(path, bytes)| machine.backup.put(path, bytes.clone()));
    machine.set_disks(vec![sda.clone()]);
    machine
}

/// The share with set 1, which is complete.
fn published() -> BTreeMap<String, Vec<u8>> {
    let mut machine = machine(&BTreeMap::new(), &sda(1));
    machine.arm("testbox.action=backup testbox.job=one");
    assert_eq!(machine.boot().ending, REBOOT);
    machine.backup.tree()
}

fn bad(disk: &MemDisk, range: std::ops::Range<u64>, errno: i32) {
    disk.inject(DiskOp::Read, range, DiskFault::Errno(errno), u64::MAX);
}

/// G, P and K after a backup that failed: set 1 is the current one, byte for byte, and the machine is armed.
fn assert_kept(machine: &Machine, before: &BTreeMap<String, Vec<u8>>, seen: &Seen) {
    let after = machine.backup.tree();
    for (path, bytes) in before.iter().filter(|(path, _)| path.ends_with(".gz") || path.ends_with(".json")) {
        if !path.ends_with("status.json") {
            assert!(after.get(path) == Some(bytes), "{path} was changed: {}", seen.console);
        }
    }
    assert!(!after.keys().any(|path| path.contains("history/")), "{}", seen.console);
    assert!(machine.is_armed(), "{}", seen.console);
}

fn assert_failed(machine: &Machine, seen: &Seen, code: u8, parts: &[&str]) {
    let status = machine.status();
    assert_eq!((status.state, status.code), (JobState::Failed, Some(code)), "{}", seen.console);
    let error = status.error.unwrap();
    let log = machine.text("maintenance.log");
    for part in parts {
        assert!(error.contains(part) && log.contains(part), "no {part}: {error}");
    }
    assert_eq!(seen.ending, REBOOT);
}

#[test]
fn a_bad_sector_fails_the_backup_and_names_disk_and_lba() {
    let before = published();
    for errno in MEDIUM {
        let disk = sda(2);
        bad(&disk.bytes, MIB + 5120..MIB + 5121, errno);
        let mut machine = machine(&before, &disk);
        machine.arm(&format!("{AGAIN} testbox.job=two"));
        let seen = machine.boot();
        assert_failed(&machine, &seen, 50, &["sda:", "(LBA 2058)", "testbox.bad-sectors=degraded"]);
        assert_kept(&machine, &before, &seen);
    }
}

#[test]
fn a_first_backup_with_bad_sectors_is_degraded_and_says_so() {
    for errno in MEDIUM {
        let disk = sda(1);
        bad(&disk.bytes, 5120..5121, errno);
        bad(&disk.bytes, MIB..MIB + 8192, errno);
        let mut machine = machine(&BTreeMap::new(), &disk);
        machine.arm(&format!("testbox.action=backup testbox.job=one {DEGRADED}"));
        let seen = machine.boot();
        assert_eq!(seen.ending, REBOOT, "{}", seen.console);
        assert!(!machine.is_armed());
        let mut wanted = contents(2, 1);
        wanted[5120..5632].fill(0);
        wanted[MIB as usize..MIB as usize + 8192].fill(0);
        assert!(machine.image("sda.raw.gz").unwrap() == wanted);
        let image = machine.record().images.remove(0);
        assert_eq!((image.state, image.unreadable_bytes), (SetState::Degraded, 8704));
        let ranges: Vec<(u64, u64)> = image.bad_ranges.iter().map(|r| (r.offset, r.length)).collect();
        assert_eq!(ranges, [(5120, 512), (MIB, 8192)]);
        let map = machine.text("sda.raw.gz.map");
        assert!(map.contains("\n0x00001400  0x00000200  -\n0x00001600  0x000FEA00  +\n"), "{map}");
        let says = "DEGRADED: sda.raw.gz: 8704 bytes of sda in 2 ranges cannot be read, the first at LBA 10";
        let global = String::from_utf8(machine.backup.get("maintenance.log").unwrap()).unwrap();
        for text in [seen.console, machine.text("maintenance.log"), global, machine.status().notes.join("\n")]
        {
            // The frame on the console has lines of its own.
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(text.contains("DEGRADED: sda.raw.gz: 8704 bytes") || text.contains(says), "{text}");
        }
        assert!(!machine.backup.tree().keys().any(|path| path.ends_with(".part")));
    }
}

#[test]
fn a_degraded_set_replaces_a_complete_one_only_by_its_own_word() {
    let before = published();
    let disk = sda(2);
    bad(&disk.bytes, 5120..5121, libc::ENODATA);
    let mut first = machine(&before, &disk);
    first.arm(&format!("{AGAIN} testbox.job=two {DEGRADED}"));
    let seen = first.boot();
    assert_failed(&first, &seen, 49, &["sda:", "(LBA 10)", "testbox.degraded=replace"]);
    assert_kept(&first, &before, &seen);

    // Asked for: the complete set goes into the history, and stays there whatever follows.
    let mut machine = machine(&before, &disk);
    for (job, keep) in [("three", 1), ("four", 1), ("five", 0)] {
        machine.arm(&format!("{AGAIN} testbox.job={job} {REPLACE} testbox.keep={keep}"));
        let seen = machine.boot();
        assert_eq!(seen.ending, REBOOT, "{}", seen.console);
        assert_eq!(machine.record().images[0].state, SetState::Degraded);
        let sets = machine.good_sets();
        assert!(sets[&1]["sda"] == contents(2, 1), "{job}: the complete set is lost");
        assert!(
            machine.file("sda.raw.gz.map").is_some() && machine.file("history/1/sda.raw.gz.map").is_none()
        );
    }
    assert!(machine.file("history/3/sda.raw.gz.map").is_some(), "the map goes with its image");

    // The disk is replaced: a complete set needs no word, and takes the map away.
    machine.set_disks(vec![sda(3)]);
    machine.arm(&format!("{AGAIN} testbox.job=six"));
    assert_eq!(machine.boot().ending, REBOOT);
    assert_eq!(machine.record().images[0].state, SetState::Complete);
    assert!(machine.file("sda.raw.gz.map").is_none());
    assert!(machine.image("sda.raw.gz").unwrap() == contents(2, 3));
}

#[test]
fn a_degraded_set_is_restored_only_by_its_own_word() {
    let source = sda(1);
    bad(&source.bytes, 5120..5121, libc::EIO);
    let mut machine = machine(&BTreeMap::new(), &source);
    machine.arm(&format!("testbox.action=backup testbox.job=one {DEGRADED}"));
    assert_eq!(machine.boot().ending, REBOOT);

    machine.arm("testbox.action=verify testbox.job=two");
    assert_eq!(machine.boot().ending, REBOOT);
    assert!(machine.status().notes[0].starts_with("DEGRADED: set 1"), "{:?}", machine.status().notes);

    let target = disk("sda S1 @1", vec![7; 2 << 20]);
    machine.set_disks(vec![target.clone()]);
    machine.arm("testbox.action=restore testbox.job=three");
    let seen = machine.boot();
    assert_failed(&machine, &seen, 49, &["DEGRADED", "sda.raw.gz", "testbox.degraded=restore"]);
    assert!(
        machine.is_armed() && target.bytes.count(DiskOp::Write) == 0 && target.bytes.count(DiskOp::Zero) == 0
    );

    // The image itself knows it too, where somebody has moved the record away.
    let mut recordless = machine.backup.tree();
    recordless.remove(&format!("{IP}/backup.json"));
    let mut other = self::machine(&recordless, &target);
    other.arm("testbox.action=restore testbox.job=four");
    let seen = other.boot();
    assert_failed(&other, &seen, 49, &["DEGRADED", "sda.raw.gz"]);
    assert!(target.bytes.count(DiskOp::Write) == 0 && target.bytes.count(DiskOp::Zero) == 0);

    machine.arm("testbox.action=restore testbox.job=five testbox.degraded=restore");
    assert_eq!(machine.boot().ending, REBOOT);
    let mut wanted = contents(2, 1);
    wanted[5120..5632].fill(0);
    assert!(machine.disk_bytes("sda") == wanted && !machine.is_armed());
    assert!(machine.status().notes[0].starts_with("DEGRADED"), "{:?}", machine.status().notes);
}

#[test]
fn thousands_of_bad_sectors_are_all_listed_in_the_map() {
    let disk = sda(1);
    // Every second sector of a quarter of the disk.
    for sector in (0..1024u64).filter(|n| n % 2 == 0) {
        bad(&disk.bytes, sector * 512..sector * 512 + 1, libc::EIO);
    }
    let mut machine = machine(&BTreeMap::new(), &disk);
    machine.arm(&format!("testbox.action=backup testbox.job=one {DEGRADED}"));
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    let image = machine.record().images.remove(0);
    assert_eq!((image.unreadable_bytes, image.bad_ranges.len()), (512 * 512, 512));
    assert_eq!(machine.text("sda.raw.gz.map").lines().filter(|line| line.ends_with("  -")).count(), 512);
    assert!(disk.bytes.count(DiskOp::Read) < 2500, "{} reads", disk.bytes.count(DiskOp::Read));
}

#[test]
fn what_is_no_bad_sector_ends_the_backup_whatever_is_allowed() {
    let before = published();
    type Spoil = fn(&mut TestDisk);
    let rows: [(&str, Spoil, u8, &[&str]); 7] = [
        (
            "the kernel takes the disk away",
            |d| bad(&d.bytes, MIB..MIB + 1, libc::ENXIO),
            54,
            &["sda", "the disk is gone"],
        ),
        ("no such device", |d| bad(&d.bytes, MIB..MIB + 1, libc::ENODEV), 54, &["sda", "the disk is gone"]),
        (
            "it vanishes, and reads fail as over a bad sector",
            |d| {
                bad(&d.bytes, MIB..2 * MIB, libc::EIO);
                d.bytes.set_size_now(0);
            },
            54,
            &["sda", "the disk is gone"],
        ),
        ("it shrinks while it is read", |d| d.bytes.set_size_now(MIB), 55, &["sda", "1048576", "2097152"]),
        ("it grows while it is read", |d| d.bytes.set_size_now(4 * MIB), 55, &["sda", "4194304"]),
        ("its size changes after it was listed", |d| d.disk.size += 512, 55, &["sda", "2097152", "listed"]),
        (
            "it gives fewer bytes than asked for",
            |d| d.bytes.inject(DiskOp::Read, MIB..MIB + 512, DiskFault::Short, u64::MAX),
            50,
            &["sda:", "LBA", "stopped short"],
        ),
    ];
    for (what, spoil, code, parts) in rows {
        let mut disk = sda(2);
        spoil(&mut disk);
        let mut machine = machine(&before, &disk);
        machine.arm(&format!("{AGAIN} testbox.job=two {REPLACE} testbox.used=off"));
        let seen = machine.boot();
        println!("{what}: {:?}", machine.status().error);
        assert_failed(&machine, &seen, code, parts);
        assert_kept(&machine, &before, &seen);
    }
}

/// One boot during which the operation on the disk hangs for longer than the watchdog waits.
fn hang(machine: &mut Machine, disk: &Arc<MemDisk>, op: DiskOp) -> Seen {
    machine.tick = TICK;
    disk.inject(op, MIB..MIB + 512, DiskFault::Hang, u64::MAX);
    let (system, held) = (machine.system.clone(), disk.clone());
    // What ends the machine ends the hang.
    let freed = disk.clone();
    system.fail_when(move |call| {
        if matches!(call, Call::Reboot { .. }) {
            freed.release();
        }
        None
    });
    std::thread::scope(|scope| {
        scope.spawn(move || {
            held.wait_for_hang();
            system.advance(std::time::Duration::from_secs(700));
        });
        let machine = &*machine;
        machine.boot()
    })
}

#[test]
fn a_disk_that_hangs_is_named_with_its_lba_and_ends_the_machine() {
    let before = published();
    let disk = sda(2);
    let mut machine = machine(&before, &disk);
    machine.arm(&format!("{AGAIN} testbox.job=two {REPLACE} testbox.used=off"));
    let seen = hang(&mut machine, &disk.bytes, DiskOp::Read);
    assert_failed(&machine, &seen, 56, &["sda: read of", "at LBA 2048", "hangs"]);
    assert_kept(&machine, &before, &seen);
    let calls = machine.system.calls();
    assert!(calls.contains(&Call::Reboot { how: Reboot::Restart }), "{calls:?}");
    // The next boot does it, on a disk that answers.
    machine.set_disks(vec![sda(2)]);
    assert_eq!(machine.boot().ending, REBOOT);
    assert!(machine.image("sda.raw.gz").unwrap() == contents(2, 2) && machine.good_sets().len() == 2);
}

#[test]
fn a_target_that_hangs_is_named_and_left_unbootable() {
    let before = published();
    let target = disk("sda S1 @1", vec![7; 2 << 20]);
    let mut machine = machine(&before, &target);
    machine.arm("testbox.action=restore testbox.job=two testbox.delta=never");
    let seen = hang(&mut machine, &target.bytes, DiskOp::Write);
    assert_failed(&machine, &seen, 56, &["sda: write of", "at LBA", "hangs"]);
    assert!(machine.is_armed());
    assert!(machine.disk_bytes("sda")[..512].iter().all(|byte| *byte == 0), "U: it must not boot");
}

/// K: what was given up is not disarmed by work that comes back after all.
#[test]
fn a_target_that_hangs_at_the_very_end_stays_armed() {
    let before = published();
    let target = disk("sda S1 @1", vec![7; 2 << 20]);
    let mut machine = machine(&before, &target);
    machine.arm("testbox.action=restore testbox.job=two");
    let seen = hang(&mut machine, &target.bytes, DiskOp::Reread);
    assert_failed(&machine, &seen, 56, &["sda: rereading of the partition table", "hangs"]);
    assert!(machine.is_armed() && machine.disk_bytes("sda") == contents(2, 1));
}

#[test]
fn a_disk_that_hangs_at_the_last_attempt_is_held_for_a_human() {
    let before = published();
    let disk = sda(2);
    let mut machine = machine(&before, &disk);
    machine.arm(&format!("{AGAIN} testbox.job=two testbox.attempts=1 testbox.used=off"));
    disk.bytes.inject(DiskOp::Read, MIB..MIB + 512, DiskFault::Hang, 1);
    machine.tick = TICK;
    let (system, held, share) = (machine.system.clone(), disk.bytes.clone(), machine.backup.clone());
    let seen = std::thread::scope(|scope| {
        scope.spawn(move || {
            held.wait_for_hang();
            system.advance(std::time::Duration::from_secs(700));
            let is_holding = || {
                share
                    .get(&format!("{IP}/status.json"))
                    .is_some_and(|bytes| String::from_utf8_lossy(&bytes).contains("\"holding\""))
            };
            while !is_holding() {
                std::thread::yield_now();
            }
            held.release();
        });
        machine.boot()
    });
    assert_eq!(seen.ending, HOLD, "{}", seen.console);
    assert_eq!((machine.status().state, machine.status().code), (JobState::Holding, Some(56)));
    assert!(!machine.system.calls().iter().any(|call| matches!(call, Call::Reboot { .. })));
    assert_kept(&machine, &before, &seen);
}

#[test]
fn a_target_that_fails_is_named_and_never_looks_whole() {
    let before = published();
    // Whether the disk is unbootable afterwards (false: all is right but for one place) and what the user sees.
    type Row = (&'static str, DiskOp, std::ops::Range<u64>, DiskFault, u8, &'static [&'static str]);
    let rows: [Row; 6] = [
        (
            "write error",
            DiskOp::Write,
            MIB..MIB + 512,
            DiskFault::Errno(libc::EIO),
            51,
            &["sda:", "LBA", "unbootable"],
        ),
        (
            "no space on a thin disk",
            DiskOp::Write,
            MIB..MIB + 512,
            DiskFault::Errno(libc::ENOSPC),
            51,
            &["sda:", "LBA"],
        ),
        (
            "short write",
            DiskOp::Write,
            MIB..MIB + 512,
            DiskFault::Short,
            51,
            &["sda:", "LBA", "stopped short"],
        ),
        ("error at the flush only", DiskOp::Flush, 0..1, DiskFault::Errno(libc::EIO), 51, &["sda:", "flush"]),
        (
            "writes acknowledged and dropped",
            DiskOp::Write,
            MIB..MIB + 512,
            DiskFault::Drop,
            51,
            &["sda", "LBA"],
        ),
        (
            "a bit flips on its way",
            DiskOp::Write,
            MIB..MIB + 512,
            DiskFault::FlipBit(77),
            51,
            &["sda", "LBA"],
        ),
    ];
    for (what, op, range, fault, code, parts) in rows {
        let target = disk("sda S1 @1", vec![7; 2 << 20]);
        target.bytes.inject(op, range, fault, u64::MAX);
        let mut machine = machine(&before, &target);
        machine.arm("testbox.action=restore testbox.job=two");
        let seen = machine.boot();
        println!("{what}: {:?}", machine.status().error);
        assert_failed(&machine, &seen, code, parts);
        assert!(machine.is_armed());
        assert!(machine.disk_bytes("sda")[..512].iter().all(|byte| *byte == 0), "U: {what}");
        target.bytes.heal();
        assert_eq!(machine.boot().ending, REBOOT, "{what}: the next attempt mends it");
        assert!(machine.disk_bytes("sda") == contents(2, 1) && !machine.is_armed(), "{what}");
    }
}

#[test]
fn a_target_that_vanishes_is_told_from_one_that_fails() {
    let before = published();
    for (now, code, part) in [(0, 54, "the disk is gone"), (MIB, 55, "1048576")] {
        let target = disk("sda S1 @1", vec![7; 2 << 20]);
        target.bytes.inject(DiskOp::Write, MIB..MIB + 512, DiskFault::Errno(libc::EIO), u64::MAX);
        target.bytes.set_size_now(now);
        let mut machine = machine(&before, &target);
        machine.arm("testbox.action=restore testbox.job=two");
        let seen = machine.boot();
        assert_failed(&machine, &seen, code, &["sda", part]);
        assert!(machine.is_armed());
    }
}

#[test]
fn a_target_that_does_not_fit_is_refused_before_the_first_write() {
    let before = published();
    type Spoil = fn(&mut TestDisk);
    let rows: [(Spoil, &[&str]); 4] = [
        (|d| *d = disk("sda S1 @1", vec![7; (2 << 20) - 512]), &["sda", "2096640 bytes", "2097152"]),
        (|d| d.disk.logical_block_size = 4096, &["sda", "logical blocks", "4096"]),
        (|d| d.disk.read_only = true, &["sda", "read-only"]),
        (|d| d.disk.size = 1 << 20, &["sda", "1048576 bytes"]),
    ];
    for (spoil, parts) in rows {
        let mut target = disk("sda S1 @1", vec![7; 2 << 20]);
        spoil(&mut target);
        let mut machine = machine(&before, &target);
        machine.arm("testbox.action=restore testbox.job=two");
        let seen = machine.boot();
        assert_failed(&machine, &seen, 48, parts);
        assert!(machine.is_armed() && machine.disk_bytes("sda").iter().all(|byte| *byte == 7));
    }
    // A larger one is fine; what lies behind the image stays, but for the last MiB, where a backup GPT would be.
    let target = disk("sda S1 @1", vec![7; 4 << 20]);
    let mut machine = machine(&before, &target);
    machine.arm("testbox.action=restore testbox.job=two");
    assert_eq!(machine.boot().ending, REBOOT);
    let bytes = machine.disk_bytes("sda");
    assert!(bytes[..2 << 20] == contents(2, 1) && bytes[2 << 20..3 << 20].iter().all(|byte| *byte == 7));
    assert!(bytes[3 << 20..].iter().all(|byte| *byte == 0) && !machine.is_armed());
}

/// Fail the Nth operation on the share, and cut the power after it, while a degraded set takes the place of a complete
/// one: the complete one is there all the time, and the map is that of the image.
#[test]
fn a_degraded_set_is_published_whole_whatever_fails_on_the_way() {
    let small = |seed| disk("sda S1 @1", contents_of(64 << 10, seed));
    let mut first = machine(&BTreeMap::new(), &small(1));
    first.arm("testbox.action=backup testbox.job=one");
    assert_eq!(first.boot().ending, REBOOT);
    let before = first.backup.tree();
    let mut wanted = contents_of(64 << 10, 2);
    wanted[5120..5632].fill(0);
    for nth in 0.. {
        let disk = small(2);
        bad(&disk.bytes, 5120..5121, libc::EIO);
        let mut machine = machine(&before, &disk);
        machine.arm(&format!("{AGAIN} testbox.job=two {REPLACE} testbox.attempts=9"));
        let begun = machine.backup.operations().len();
        machine.backup.fail_nth(begun + nth, ShareFault::Errno(libc::EIO));
        let seen = machine.boot();
        let is_over = machine.backup.operations().len() < begun + nth;
        let what = format!("operation {nth}: {}", seen.console);
        machine.backup.crash(Survivors::SyncedNames);
        machine.tftp.crash(Survivors::SyncedNames);
        let is_old_there = |machine: &Machine| {
            machine.good_sets().values().any(|set| set["sda"] == contents_of(64 << 10, 1))
        };
        assert!(is_old_there(&machine), "G: {what}");
        machine.backup.clear_faults();
        for _ in 0..3 {
            if machine.is_armed() {
                machine.boot();
            }
        }
        assert!(!machine.is_armed(), "{what}");
        let sets = machine.good_sets();
        assert!(is_old_there(&machine) && sets[&2]["sda"] == wanted, "{what}");
        assert!(machine.text("sda.raw.gz.map").contains("0x00001400  0x00000200  -"), "{what}");
        assert!(!machine.backup.tree().keys().any(|path| path.ends_with(".part")), "P: {what}");
        if is_over {
            assert!(nth > 50, "only {nth} operations were tried");
            return;
        }
    }
}
