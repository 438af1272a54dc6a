//! The same machine with its backups on a store: what crosses the link, what the server does, and what gets lost.

use crate::world::esp::{SHIM, entry, esp_disk, firmware, network};
use crate::world::{HEX, IP, Machine, REBOOT, contents, contents_of, disk};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use testbox::image::{Image, Run};
use testbox::share::Files;
use testbox::store::protocol::StoreCall;
use testbox::store::status::JobState;
use testbox::sys::System;

/// A machine whose backups are kept by a store, with its set 1.
fn backed_up() -> Machine {
    let mut machine = Machine::stored();
    machine.arm("testbox.action=backup testbox.job=first");
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    machine
}

fn reads_of_images(machine: &Machine) -> usize {
    let calls = machine.store.as_ref().unwrap().calls.lock().unwrap();
    let is_body = |call: &&StoreCall| matches!(call, StoreCall::Read(path, Some(range)) if path.as_str().contains(".gz") && range.end - range.start > 20_000);
    calls.iter().filter(is_body).count()
}

#[test]
fn a_backup_to_a_store_is_a_set_as_any_other() {
    let machine = backed_up();
    assert!(!machine.is_armed());
    assert!(machine.image("sda.raw.gz").unwrap() == contents(2, 1));
    let record = machine.record();
    assert_eq!((record.generation, record.job.as_deref()), (1, Some("first")));
    assert_eq!((record.machine.ip.as_str(), record.machine.hostname.as_str()), (IP, "box1"));
    assert_eq!(machine.status().state, JobState::Done);
    for file in ["box1", HEX, "testbox-info.txt", "testbox-info.zip", "maintenance-output.log"] {
        assert!(machine.file(file).is_some(), "{file}");
    }
    let log = machine.text("maintenance.log");
    assert!(log.contains("backup: done"), "{log}");
    let global = String::from_utf8(machine.backup.get("maintenance.log").unwrap()).unwrap();
    assert!(global.contains("started: ") && global.contains("backup: done"), "{global}");
    assert!(
        !machine
            .backup
            .tree()
            .keys()
            .any(|k| k.starts_with(IP) && (k.contains(".part") || k.contains(".tmp")))
    );
    assert_eq!(reads_of_images(&machine), 0, "the server proves the image, and nothing of it is read back");
}

#[test]
fn a_restore_from_a_store_reads_what_the_disk_lacks() {
    let mut machine = Machine::stored();
    machine.set_disks(vec![disk("sda S1 @1", contents(8, 1))]);
    machine.arm("testbox.action=backup testbox.job=first");
    assert_eq!(machine.boot().ending, REBOOT);
    let mut changed = contents(8, 1);
    changed[4_000_000..4_010_000].fill(7);
    machine.set_disks(vec![disk("sda S1 @1", changed)]);
    machine.arm("testbox.action=restore testbox.job=r");
    let before = machine.store.as_ref().unwrap().received.load(SeqCst);
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    assert!(machine.disk_bytes("sda") == contents(8, 1));
    assert!(!machine.is_armed());
    assert!(seen.console.contains("the server proves sda.raw.gz"), "{}", seen.console);
    let read = machine.store.as_ref().unwrap().received.load(SeqCst) - before;
    let image = machine.file("sda.raw.gz").unwrap().len();
    assert!(read < image / 2, "{read} of {image} bytes");
}

#[test]
fn a_damaged_image_is_told_before_a_disk_is_touched() {
    let mut machine = backed_up();
    let mut image = machine.file("sda.raw.gz").unwrap();
    let middle = image.len() / 2;
    image[middle] ^= 1;
    machine.backup.put(&format!("{IP}/sda.raw.gz"), image);
    let blank = vec![0xa5; 2 << 20];
    machine.set_disks(vec![disk("sda S1 @1", blank.clone())]);
    machine.arm("testbox.action=restore testbox.job=r");
    // The proof of then counts for a day; this server was started since.
    machine.restart_store();
    let seen = machine.boot();
    assert!(seen.console.contains("[bad-image"), "{}", seen.console);
    assert!(machine.disk_bytes("sda") == blank);
    assert!(machine.is_armed());
    assert!(machine.file("sda.raw.gz.damaged").is_some(), "the server notes it");
}

#[test]
fn backup_again_sends_what_changed_and_keeps_the_set() {
    let mut machine = backed_up();
    let mut changed = contents(2, 1);
    changed[1_000_000..1_010_000].fill(7);
    machine.set_disks(vec![disk("sda S1 @1", changed.clone())]);
    machine.arm("testbox.action=backup-again testbox.job=second");
    let before = machine.store.as_ref().unwrap().sent.load(SeqCst);
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    assert!(machine.image("sda.raw.gz").unwrap() == changed);
    assert!(machine.image("history/1/sda.raw.gz").unwrap() == contents(2, 1));
    let sent = machine.store.as_ref().unwrap().sent.load(SeqCst) - before;
    let image = machine.file("sda.raw.gz").unwrap().len();
    assert!(sent < image / 2, "{sent} of {image} bytes");
    assert_eq!(reads_of_images(&machine), 0);
    assert!(!machine.text("maintenance.log").contains("DAMAGED"));
}

#[test]
fn verify_of_a_store_is_done_by_its_server() {
    let mut machine = backed_up();
    machine.arm("testbox.action=verify testbox.job=v");
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    assert!(seen.console.contains("sda is what sda.raw.gz holds"), "{}", seen.console);
}

#[test]
fn a_job_of_another_machine_is_not_done() {
    let mut machine = backed_up();
    machine.arm("testbox.action=backup-again testbox.job=second");
    machine.cmdline = machine.cmdline.replace("testbox.job=second", "testbox.job=third");
    let seen = machine.boot();
    assert!(seen.console.contains("[not-armed"), "{}", seen.console);
    assert!(machine.is_armed());
}

/// The server is killed behind each request in turn, its answer lost: the agent asks again, and the result is the same.
#[test]
fn a_server_killed_at_any_request_changes_no_result() {
    let calls = backed_up().store.as_ref().unwrap().calls.lock().unwrap().len();
    for number in 1..=calls + 3 {
        let mut machine = Machine::stored();
        machine.arm("testbox.action=backup testbox.job=first");
        machine.store.as_ref().unwrap().killed_at.lock().unwrap().push(number);
        let seen = machine.boot();
        let call = machine.store.as_ref().unwrap().calls.lock().unwrap().get(number - 1).cloned();
        // What was not durable may be lost with the server: then the next boot goes on.
        if seen.ending != REBOOT || machine.is_armed() {
            let again = machine.boot();
            assert_eq!(
                again.ending, REBOOT,
                "killed at {number}, {call:?}: {}\nand then: {}",
                seen.console, again.console
            );
        }
        assert!(machine.image("sda.raw.gz") == Some(contents(2, 1)), "killed at {number}, {call:?}");
        assert!(!machine.is_armed(), "killed at {number}, {call:?}");
        assert_eq!(machine.record().generation, 1, "killed at {number}, {call:?}");
    }
}

/// The same for every other action: at each request with `TESTBOX_LONG`, else at every fifth.
#[test]
fn a_server_killed_in_any_action_changes_no_result() {
    let step = if std::env::var_os("TESTBOX_LONG").is_some() { 1 } else { 5 };
    for (first, action) in ["backup-again", "restore", "verify", "refresh-info"].into_iter().enumerate() {
        let mut before = backed_up();
        if action != "verify" {
            before.set_disks(vec![disk("sda S1 @1", contents(2, 2))]);
        }
        before.arm(&format!("testbox.action={action} testbox.job=second"));
        for number in (1 + first..).step_by(step) {
            let machine = before.copy();
            machine.store.as_ref().unwrap().killed_at.lock().unwrap().push(number);
            let seen = machine.boot();
            let call = machine.store.as_ref().unwrap().calls.lock().unwrap().get(number - 1).cloned();
            let what = format!("{action}, killed at {number}, {call:?}");
            // What was not durable may be lost with the server: then the next boot goes on.
            if seen.ending != REBOOT || machine.is_armed() {
                let again = machine.boot();
                assert_eq!(again.ending, REBOOT, "{what}: {}\nand then: {}", seen.console, again.console);
            }
            assert!(!machine.is_armed(), "{what}: {}", seen.console);
            let (on_disk, current) = match action {
                "backup-again" => (contents(2, 2), contents(2, 2)),
                "refresh-info" => (contents(2, 2), contents(2, 1)),
                _ => (contents(2, 1), contents(2, 1)),
            };
            assert!(machine.disk_bytes("sda") == on_disk, "{what}");
            assert!(machine.image("sda.raw.gz") == Some(current), "{what}");
            if call.is_none() {
                break;
            }
        }
    }
}

/// All members of an image by their hashes, and the bytes of it that are none: header, index, footer.
fn members(machine: &Machine, path: &str) -> (BTreeMap<[u8; 32], Run>, u64) {
    let file = machine.file(path).unwrap();
    let size = file.len() as u64;
    let image = Image::open(Arc::new(file)).unwrap();
    let runs: Vec<Run> = image.runs().map(Result::unwrap).collect();
    let other = size - runs.iter().map(|run| u64::from(run.member_length)).sum::<u64>();
    (runs.into_iter().map(|run| (*run.member_hash.as_bytes(), run)).collect(), other)
}

fn bytes(machine: &Machine) -> (u64, u64) {
    let store = machine.store.as_ref().unwrap();
    (store.sent.load(SeqCst) as u64, store.received.load(SeqCst) as u64)
}

/// Bodies of requests and answers, both ways, in a boot.
fn crossed(machine: &mut Machine, words: &str) -> u64 {
    machine.arm(words);
    let before = bytes(machine);
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    assert!(!machine.is_armed(), "{}", seen.console);
    let after = bytes(machine);
    after.0 - before.0 + after.1 - before.1
}

/// The link is what is short at a hundred machines: it carries what the other side lacks, and little more.
#[test]
fn the_link_carries_what_the_other_side_lacks() {
    const SIZE: usize = 128 << 20;
    let disk_of = |bytes: &[u8]| vec![disk("sda S1 @1", bytes.to_vec())];
    let first = contents_of(SIZE, 3);
    let mut machine = Machine::stored();
    machine.set_disks(disk_of(&first));
    let sent = crossed(&mut machine, "testbox.action=backup testbox.job=first");
    let image = machine.file("sda.raw.gz").unwrap().len() as u64;
    println!("first backup: {sent} bytes for an image of {image}: {:.4}", sent as f64 / image as f64);
    assert!(sent as f64 <= 1.02 * image as f64, "{sent} bytes for an image of {image}");

    // 1 % in pieces of 256 KiB.
    let mut second = first.clone();
    for at in [20 << 20, 40 << 20, 60 << 20, 80 << 20, 100 << 20] {
        second[at..at + (256 << 10)].copy_from_slice(&contents_of(256 << 10, at as u64));
    }
    machine.set_disks(disk_of(&second));
    let crossed_again = crossed(&mut machine, "testbox.action=backup-again testbox.job=second");
    let (old, _) = members(&machine, "history/1/sda.raw.gz");
    let (new, index) = members(&machine, "sda.raw.gz");
    let changed: u64 = new
        .iter()
        .filter(|(hash, _)| !old.contains_key(*hash))
        .map(|(_, run)| u64::from(run.member_length))
        .sum();
    // Header, index and footer of the old image come, and of the new one go.
    let needed = changed + index;
    println!(
        "backup again: {crossed_again} bytes for {changed} of members and {index} of index: {:.4}",
        crossed_again as f64 / needed as f64
    );
    assert!(crossed_again as f64 <= 1.2 * needed as f64, "{crossed_again} bytes where {needed} are needed");

    // The disk is one set behind.
    machine.set_disks(disk_of(&first));
    let read = crossed(&mut machine, "testbox.action=restore testbox.job=third");
    let ends = [0..1 << 20, (SIZE as u64 - (1 << 20))..SIZE as u64];
    let is_needed = |run: &Run| {
        let is_of_ends = ends.iter().any(|end| run.offset < end.end && end.start < run.range().end);
        let there = &first[run.offset as usize..run.range().end as usize];
        is_of_ends || there != &second[run.offset as usize..run.range().end as usize]
    };
    let lacks: u64 = new.values().filter(|run| is_needed(run)).map(|run| u64::from(run.member_length)).sum();
    let needed = lacks + index;
    println!(
        "restore: {read} bytes for {lacks} of members and {index} of index: {:.4}",
        read as f64 / needed as f64
    );
    assert!(machine.disk_bytes("sda") == second);
    assert!(read as f64 <= 1.05 * needed as f64, "{read} bytes where {needed} are needed");
}

/// What a cut attempt has sent stays on the server: the next one hashes it there, and sends the rest.
#[test]
fn a_cut_backup_goes_on_and_sends_only_the_rest() {
    let content = contents_of(96 << 20, 5);
    let mut machine = Machine::stored();
    machine.set_disks(vec![disk("sda S1 @1", content.clone())]);
    machine.arm("testbox.action=backup testbox.job=first");
    assert_eq!(machine.boot().ending, REBOOT);
    let mut image = machine.file("sda.raw.gz").unwrap();
    let whole = image.len();
    image.truncate(whole / 10 * 9 + 1000);

    let mut machine = Machine::stored();
    machine.set_disks(vec![disk("sda S1 @1", content.clone())]);
    machine.backup.put(&format!("{IP}/sda.raw.gz.part"), image);
    machine.backup.put(&format!(".store/parts/{IP}"), "second");
    let sent = crossed(&mut machine, "testbox.action=backup testbox.job=second");
    let log = machine.text("maintenance.log");
    assert!(!log.contains(" 0 kept from a cut attempt"), "{log}");
    assert!(machine.image("sda.raw.gz").unwrap() == content);
    assert!(sent < whole as u64 / 5, "{sent} of {whole} bytes");
    // Parts of another job are no work of this one.
    let mut machine = Machine::stored();
    machine.backup.put(&format!("{IP}/sda.raw.gz.part"), "what another job has left");
    machine.backup.put(&format!(".store/parts/{IP}"), "first");
    crossed(&mut machine, "testbox.action=backup testbox.job=second");
    assert!(machine.image("sda.raw.gz").unwrap() == contents(2, 1));
}

#[test]
fn a_machine_with_uefi_tells_its_loader_through_the_store() {
    let mut machine = Machine::stored();
    machine.tftp.make_dir("testbox.cfg").unwrap();
    machine.set_disks(vec![disk("sda S1 @1", esp_disk(&[SHIM]))]);
    machine.set_efi(Some(Ok(firmware(&[network(), entry("debian", SHIM)], &[0, 1]))));
    crossed(&mut machine, "testbox.action=backup testbox.job=one");
    assert!(machine.record().firmware.is_some());
    let told = String::from_utf8(machine.tftp.get(&format!("testbox.cfg/{HEX}.boot")).unwrap()).unwrap();
    assert_eq!(told.lines().last(), Some("set tb_own=/EFI/debian/shimx64.efi"));
}

/// One folder, two ways to it: a set that was made by NFS is restored from the store, and the other way round.
#[test]
fn sets_of_nfs_and_of_the_store_are_the_same() {
    let mut machine = Machine::new();
    machine.arm("testbox.action=backup testbox.job=by-nfs");
    assert_eq!(machine.boot().ending, REBOOT);
    machine.restart_store();
    machine.set_disks(vec![disk("sda S1 @1", vec![0; 2 << 20])]);
    crossed(&mut machine, "testbox.action=restore testbox.job=by-store");
    assert!(machine.disk_bytes("sda") == contents(2, 1));
    crossed(&mut machine, "testbox.action=backup-again testbox.job=again-by-store");
    machine.store = None;
    machine.set_disks(vec![disk("sda S1 @1", vec![0; 2 << 20])]);
    machine.arm("testbox.action=restore testbox.job=by-nfs-again");
    assert_eq!(machine.boot().ending, REBOOT);
    assert!(machine.disk_bytes("sda") == contents(2, 1));
    assert_eq!(machine.good_sets().keys().copied().collect::<Vec<_>>(), [1, 2]);
}

/// What is copied on the server nobody has seen: where the set before is bad there, the image is made from the disk, and the
/// old set noted.
#[test]
fn a_base_that_is_damaged_on_the_server_spoils_no_new_set() {
    let mut machine = backed_up();
    let mut image = machine.file("sda.raw.gz").unwrap();
    let middle = image.len() / 2;
    image[middle] ^= 1;
    machine.backup.put(&format!("{IP}/sda.raw.gz"), image);
    crossed(&mut machine, "testbox.action=backup-again testbox.job=second");
    assert!(machine.image("sda.raw.gz").unwrap() == contents(2, 1));
    assert!(machine.file("history/1/sda.raw.gz.damaged").is_some(), "{:?}", machine.backup.tree().keys());
    assert!(
        machine.text("maintenance.log").contains("Do not rely on it"),
        "{}",
        machine.text("maintenance.log")
    );
}

/// However long others are at work: the console says where the machine stands, and no deadline ends it.
#[test]
fn a_machine_waits_in_line_as_long_as_others_work() {
    let mut machine = Machine::stored();
    machine.arm("testbox.action=backup testbox.job=first");
    let busy = machine.store.as_ref().unwrap().busy();
    let seen = std::thread::scope(|scope| {
        let boot = scope.spawn(|| machine.boot());
        machine.wait_for_screen("waits in line: 1st, behind nobody (8 of 8 machines are at work)", 1);
        // Longer than any other wait for a store.
        while machine.system.monotonic() < Duration::from_secs(400) && !boot.is_finished() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(machine.file("lease").is_none() && machine.file("status.json").is_none());
        drop(busy);
        boot.join().unwrap()
    });
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    assert_eq!(seen.console.matches("waits in line").count(), 1, "{}", seen.console);
    assert!(machine.image("sda.raw.gz").unwrap() == contents(2, 1));
}
