//! An error of the program itself is no refusal and no difference: it ends as internal, and says what was touched.

use crate::world::{Machine, Seen, TestDisk, contents, disk};
use testbox::block::mem::{DiskFault, DiskOp, MemDisk};
use testbox::image::{self, BackupOptions, DiskAbout, ErrorKind};
use testbox::inventory::Identity;
use testbox::progress::Progress;
use testbox::store::record::Record;
use testbox::store::status::JobState;

fn sda(seed: u64) -> TestDisk {
    disk("sda S1 @1", contents(4, seed))
}

fn backed_up() -> Machine {
    let mut machine = Machine::new();
    machine.set_disks(vec![sda(1)]);
    machine.arm("testbox.action=backup testbox.job=one");
    machine.boot();
    assert!(!machine.is_armed());
    machine
}

#[track_caller]
fn assert_internal(machine: &Machine, seen: &Seen, parts: &[&str]) {
    let status = machine.status();
    assert_eq!((status.state, status.code), (JobState::Failed, Some(70)), "{}", seen.console);
    let error = status.error.unwrap();
    for part in [&["internal error, please report", "on purpose", "[internal 70]"], parts].concat() {
        assert!(error.contains(part), "no '{part}' in {error}");
    }
    for never in ["unfit", "nothing was written", "DIFFERS"] {
        assert!(!error.contains(never), "'{never}' in {error}");
    }
    assert!(machine.is_armed());
}

#[test]
fn a_panic_while_a_disk_is_imaged_ends_as_internal() {
    // Where it is read, once and always: while it is looked at, or by the threads of the pipeline.
    for nth in [0, 3, 8] {
        for dead in [false, true] {
            let mut machine = backed_up();
            let (source, record) = (sda(2), machine.file("backup.json"));
            machine.set_disks(vec![source.clone()]);
            machine.arm("testbox.action=backup-again testbox.job=two");
            source.bytes.fail_nth(nth, DiskFault::Panic, dead);
            let seen = machine.boot();
            if !machine.is_armed() {
                panic!("read {nth} was never done: {}", seen.console);
            }
            assert_internal(&machine, &seen, &["sda"]);
            assert!(machine.file("backup.json") == record, "{}", seen.console);
            assert!(Record::parse(&record.unwrap()).is_ok());
        }
    }
    // The threads of the pipeline: the part file is named.
    let mut machine = backed_up();
    let source = sda(2);
    machine.set_disks(vec![source.clone()]);
    machine.arm("testbox.action=backup-again testbox.job=two testbox.used=off");
    source.bytes.inject(DiskOp::Read, 2 << 20..4 << 20, DiskFault::Panic, u64::MAX);
    let seen = machine.boot();
    assert_internal(&machine, &seen, &["sda.raw.gz.part", "was removed", "No published image was touched"]);
}

#[test]
fn a_panic_while_a_disk_is_written_says_it_is_unbootable() {
    for op in [DiskOp::Write, DiskOp::Read, DiskOp::Flush] {
        let mut machine = backed_up();
        let target = disk("sda S1 @1", vec![0x5a; 4 << 20]);
        machine.set_disks(vec![target.clone()]);
        machine.arm("testbox.action=restore testbox.job=two testbox.delta=never");
        let body = 1 << 20..3 << 20;
        target.bytes.inject(op, body, DiskFault::Panic, u64::MAX);
        let seen = machine.boot();
        let state = if op == DiskOp::Flush { "could not even be made unbootable" } else { "left unbootable" };
        assert_internal(&machine, &seen, &["sda: ", state]);
        if op != DiskOp::Flush {
            assert!(machine.disk_bytes("sda")[..1 << 20].iter().all(|b| *b == 0));
        }
    }
}

#[test]
fn a_panic_while_a_disk_is_compared_is_not_a_difference() {
    let mut machine = backed_up();
    let source = sda(1);
    machine.set_disks(vec![source.clone()]);
    machine.arm("testbox.action=verify testbox.job=two");
    source.bytes.inject(DiskOp::Read, 0..4 << 20, DiskFault::Panic, 1);
    let seen = machine.boot();
    assert_internal(&machine, &seen, &["sda"]);
}

/// No thread waits for one that has panicked, whichever that was.
#[test]
fn a_panic_of_any_read_ends_a_backup_whatever_its_threads() {
    for threads in [1, 4] {
        for nth in 0..16 {
            let disk = MemDisk::new("sda", contents(16, 1), 512);
            let about = DiskAbout::new("sda", Identity::default(), &disk);
            disk.fail_nth(nth, DiskFault::Panic, false);
            let options = BackupOptions { threads, ..BackupOptions::default() };
            let made = image::backup(&disk, &mut Vec::new(), &about, &options, &Progress::new());
            assert!(
                matches!(&made, Err(e) if e.kind == ErrorKind::Internal && e.to_string().contains("on purpose")),
                "{nth}: {made:?}"
            );
        }
    }
}
