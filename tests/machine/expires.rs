//! Jobs that expire: judged by the clock of the server that keeps the backups, and by nothing that the machine says itself.

use crate::world::{HOLD, IP, Machine, NewMachine, REBOOT, contents, disk};
use jiff::{SignedDuration, Timestamp};
use std::sync::atomic::Ordering::SeqCst;
use testbox::failure::Kind;
use testbox::share::{Files, ShareFault, ShareOp};
use testbox::store::status::JobState;
use testbox::sys::System;

crate::over_both_kinds! {
    both: {
        a_late_machine_does_nothing_and_is_disarmed,
        a_machine_that_comes_in_time_does_its_job,
        a_job_that_is_done_stays_done_when_it_has_expired,
        what_follows_errors_does_not_keep_a_late_machine,
    },
    by_nfs: {
        /// The machine of the test and its store have one clock.
        the_machines_own_clock_counts_for_nothing,
        /// A store has a clock whatever its disk does.
        a_job_is_not_begun_where_nobody_tells_the_time,
        /// The file of a store's job is the server's to remove.
        a_late_machine_that_cannot_be_disarmed_holds,
        /// Of the words, whatever keeps the backups.
        a_rescue_that_expires_is_refused,
        /// The same.
        a_job_that_is_fetched_by_tftp_expires_too,
    },
}

const LATE: i64 = -1;
const IN_TIME: i64 = 3600;

/// What the word says so many seconds after what the server's clock says now.
fn expires(machine: &Machine, seconds: i64) -> String {
    let now = match machine.store {
        Some(_) => machine.system.now(),
        None => machine.backup.clock("").unwrap(),
    };
    let at = Timestamp::from_second(now.as_second()).unwrap() + SignedDuration::from_secs(seconds);
    format!("testbox.expires={at}")
}

/// A machine with a set, and other bytes on its disk than the set has. Its server's clock says 2026.
fn backed_up(new: NewMachine) -> Machine {
    let mut machine = new();
    machine.backup.set_clock("2026-12-01T06:00:00Z".parse().unwrap());
    machine.arm("testbox.action=backup testbox.job=first");
    assert_eq!(machine.boot().ending, REBOOT);
    machine.set_disks(vec![disk("sda S1 @1", contents(2, 99))]);
    machine
}

/// All that the server has but what the machine says of itself, and its disk.
fn all_else(machine: &Machine) -> (Vec<(String, Vec<u8>)>, Vec<u8>) {
    let is_news = |path: &str| {
        let own = path.strip_prefix(&format!("{IP}/")).unwrap_or(path);
        own == "status.json" || own.starts_with("lease/") || own.ends_with(".log") || path.starts_with('.')
    };
    let tree = machine.backup.tree().into_iter().filter(|(path, _)| !is_news(path));
    (tree.collect(), machine.disk_bytes("sda"))
}

fn a_late_machine_does_nothing_and_is_disarmed(new: NewMachine) {
    for action in ["backup", "backup-again", "restore", "verify", "refresh-info"] {
        let mut machine = backed_up(new);
        let before = all_else(&machine);
        let late = expires(&machine, LATE);
        machine.arm(&format!("testbox.action={action} testbox.job=late {late}"));
        let seen = machine.boot();
        assert_eq!(seen.ending, REBOOT, "{action}: {}", seen.console);
        assert!(!machine.is_armed(), "{action}: {}", seen.console);
        assert!(all_else(&machine) == before, "{action}: something was touched");
        let status = machine.status();
        assert_eq!((status.state, status.code), (JobState::Failed, Some(Kind::Expired.code())), "{action}");
        let error = status.error.unwrap();
        let server = if machine.store.is_some() { "http://10.0.0.1:7443" } else { "10.0.0.1:/b" };
        for words in
            ["the job expired at 20", &format!("the clock of {server} says 20"), "arm the machine again"]
        {
            assert!(error.contains(words), "{action}: {error}");
            assert!(
                seen.console.replace('\n', " ").contains("the job expired at 20"),
                "{action}: {}",
                seen.console
            );
        }
        assert!(machine.text("maintenance.log").contains("the job expired at"), "{action}");
    }
}

fn a_machine_that_comes_in_time_does_its_job(new: NewMachine) {
    let mut machine = backed_up(new);
    let in_time = expires(&machine, IN_TIME);
    machine.arm(&format!("testbox.action=restore testbox.job=r {in_time}"));
    let seen = machine.boot();
    assert_eq!((seen.ending, machine.is_armed()), (REBOOT, false), "{}", seen.console);
    assert!(machine.disk_bytes("sda") == contents(2, 1));
}

/// Cut between what its status says and its disarming: there is nothing left to refuse.
fn a_job_that_is_done_stays_done_when_it_has_expired(new: NewMachine) {
    let mut machine = backed_up(new);
    machine.arm("testbox.action=restore testbox.job=r");
    assert_eq!(machine.boot().ending, REBOOT);
    let late = expires(&machine, LATE);
    machine.arm(&format!("testbox.action=restore testbox.job=r {late}"));
    let seen = machine.boot();
    assert_eq!((seen.ending, machine.is_armed()), (REBOOT, false), "{}", seen.console);
    assert_eq!(machine.status().state, JobState::Done, "{}", seen.console);
}

/// Nor do failed attempts before: the machine goes back to its own system.
fn what_follows_errors_does_not_keep_a_late_machine(new: NewMachine) {
    for words in
        ["testbox.on-error=hold", "testbox.on-error=shell", "testbox.reboot=poweroff", "testbox.attempts=1"]
    {
        let mut machine = backed_up(new);
        machine.set_disks(Vec::new());
        let in_time = expires(&machine, IN_TIME);
        machine.arm(&format!("testbox.action=restore testbox.job=r {in_time} {words}"));
        machine.boot();
        assert!(machine.is_armed(), "{words}");
        let late = expires(&machine, LATE);
        machine.arm(&format!("testbox.action=restore testbox.job=r {late} {words}"));
        let seen = machine.boot();
        assert_eq!((seen.ending, machine.is_armed()), (REBOOT, false), "{words}: {}", seen.console);
        assert_eq!(machine.status().state, JobState::Failed, "{words}");
    }
}

fn the_machines_own_clock_counts_for_nothing(new: NewMachine) {
    for (server, is_done) in [("1999-12-31T23:59:59Z", true), ("2000-01-01T00:00:00Z", false)] {
        let mut machine = backed_up(new);
        let own = machine.system.now();
        assert!(own > "2000-01-02T00:00:00Z".parse().unwrap(), "it would expire the job: {own}");
        machine.backup.set_clock(server.parse().unwrap());
        machine.arm("testbox.action=restore testbox.job=r testbox.expires=2000-01-01T00:00:00Z");
        let seen = machine.boot();
        assert_eq!((seen.ending, machine.is_armed()), (REBOOT, false), "{server}: {}", seen.console);
        assert_eq!(machine.disk_bytes("sda") == contents(2, 1), is_done, "{server}: {}", seen.console);
    }
}

fn a_job_is_not_begun_where_nobody_tells_the_time(new: NewMachine) {
    let mut machine = backed_up(new);
    let in_time = expires(&machine, IN_TIME);
    machine.arm(&format!("testbox.action=restore testbox.job=r {in_time}"));
    // Each file that a run makes in turn, among them the one that is made for its time.
    let whole = machine.copy();
    assert_eq!(whole.boot().ending, REBOOT);
    let refused = (0..whole.backup.count(ShareOp::Create)).filter(|nth| {
        let machine = machine.copy();
        machine.backup.fail_nth_of(ShareOp::Create, *nth, ShareFault::Errno(libc::EROFS));
        let seen = machine.boot();
        let is_refused = seen.console.contains("tell its time");
        if is_refused {
            assert!(machine.is_armed(), "it tries again: {}", seen.console);
            assert!(machine.disk_bytes("sda") == contents(2, 99), "{}", seen.console);
        }
        is_refused
    });
    assert_eq!(refused.count(), 1);
}

fn a_late_machine_that_cannot_be_disarmed_holds(new: NewMachine) {
    let mut machine = backed_up(new);
    let late = expires(&machine, LATE);
    machine.arm(&format!("testbox.action=restore testbox.job=r {late}"));
    machine.tftp.refuse_changes(libc::EROFS);
    let seen = machine.boot();
    assert_eq!((seen.ending, machine.is_armed()), (HOLD, true), "{}", seen.console);
    assert_eq!(machine.status().state, JobState::Holding);
    assert!(machine.disk_bytes("sda") == contents(2, 99));
}

fn a_rescue_that_expires_is_refused(new: NewMachine) {
    let mut machine = backed_up(new);
    let in_time = expires(&machine, IN_TIME);
    machine.arm(&format!("testbox.action=rescue testbox.job=r {in_time}"));
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT, "no shell: {}", seen.console);
    assert!(machine.status().error.unwrap().contains("testbox.expires= with rescue"));
}

fn a_job_that_is_fetched_by_tftp_expires_too(new: NewMachine) {
    let mut machine = backed_up(new);
    let late = expires(&machine, LATE);
    let words = format!("testbox.action=restore testbox.job=r {late}");
    machine.arm(&words);
    machine.cmdline = machine.cmdline.replace(&words, "");
    machine.tftp.remove(&format!("pxelinux.cfg/{}", crate::world::HEX)).unwrap();
    let file = format!("testbox.cfg/{}", crate::world::HEX);
    machine.tftp.put(&file, words.replace(' ', "\n"));
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    assert!(machine.tftp.get(&file).is_none(), "{}", seen.console);
    assert_eq!(machine.status().code, Some(Kind::Expired.code()), "{}", seen.console);
    assert!(machine.disk_bytes("sda") == contents(2, 99));
}

/// It would not refuse such a job by itself either.
#[test]
fn a_store_of_an_older_release_is_not_trusted_with_it() {
    let mut machine = backed_up(Machine::stored);
    let in_time = expires(&machine, IN_TIME);
    machine.arm(&format!("testbox.action=restore testbox.job=r {in_time}"));
    machine.store.as_ref().unwrap().is_old.store(true, SeqCst);
    let seen = machine.boot();
    assert!(machine.is_armed() && machine.disk_bytes("sda") == contents(2, 99), "{}", seen.console);
    let error = machine.status().error.unwrap();
    assert!(error.contains("tell its time") && error.contains("does not know testbox.expires="), "{error}");
}
