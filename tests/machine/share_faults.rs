//! Shares that fail, and two agents for one folder, from the word on the command line to what the user sees. Each row of
//! "Faults" in `README.md` names its test. The invariants are those of `lib.rs`: G, P, U, K.

use crate::world::{HOLD, IP, Machine, REBOOT, Seen, contents, contents_of, disk};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use testbox::agent::world::Purpose;
use testbox::block::mem::{DiskFault, DiskOp};
use testbox::net::quota::{Owner, Quota, QuotaError, QuotaSubject};
use testbox::share::{ShareFault, ShareOp};
use testbox::store::status::JobState;
use testbox::sys::{Call, Reboot, Recording, System};

/// How often heartbeats are made and shares looked at where a test waits for that.
const TICK: Duration = Duration::from_millis(5);
/// A machine that stands still makes no heartbeat.
const NEVER: Duration = Duration::from_secs(3600);
const AGAIN: &str = "testbox.action=backup-again testbox.job=two";

fn small(seed: u64) -> Vec<u8> {
    contents_of(64 << 10, seed)
}

/// A machine that holds this share, with a small disk of its own.
fn machine(share: &BTreeMap<String, Vec<u8>>, seed: u64) -> Machine {
    let machine = Machine::new();
    share.iter().for_each(|(path, bytes)| machine.backup.put(path, bytes.clone()));
    machine.set_disks(vec![disk("sda S1 @1", small(seed))]);
    machine
}

/// The share with set 1.
fn published() -> BTreeMap<String, Vec<u8>> {
    let mut machine = machine(&BTreeMap::new(), 1);
    machine.arm("testbox.action=backup testbox.job=one");
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    machine.backup.tree()
}

/// Another machine with the same address, on the same shares.
fn twin_of(machine: &Machine, mac: &'static str) -> Machine {
    let mut twin = Machine::new();
    (twin.backup, twin.tftp, twin.mac) = (machine.backup.clone(), machine.tftp.clone(), mac);
    twin.cmdline = machine.cmdline.clone();
    twin.set_disks(vec![disk("sda S9 @1", contents(2, 9))]);
    twin
}

/// G, P and K after a failure: set 1 is the current one, byte for byte, and the machine is armed.
fn assert_kept(machine: &Machine, before: &BTreeMap<String, Vec<u8>>, seen: &Seen) {
    let after = machine.backup.tree();
    for file in ["sda.raw.gz", "backup.json"].map(|name| format!("{IP}/{name}")) {
        assert!(after.get(&file) == before.get(&file), "{file} was changed: {}", seen.console);
    }
    assert!(!after.keys().any(|path| path.contains("history/")), "{}", seen.console);
    assert!(machine.is_armed(), "{}", seen.console);
}

fn says(seen: &Seen, parts: &[&str]) {
    // The frame around the end result breaks lines.
    let words = |text: &str| {
        text.replace(['*', '|', '#', '\n'], " ").split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for part in parts {
        assert!(words(&seen.console).contains(part), "no '{part}': {}", seen.console);
    }
}

fn lease_of(machine: &Machine) -> (String, Vec<u8>) {
    let tree = machine.backup.tree();
    let mut leases = tree.into_iter().filter(|(path, _)| path.contains("/lease/"));
    let lease = leases.next().expect("a lease");
    assert!(leases.next().is_none(), "older ones are tidied up");
    lease
}

/// A lease that somebody has left, and its heartbeats so far.
fn leave_lease(machine: &Machine, number: u32, mac: &str) {
    let holder =
        format!(r#"{{"session":"left","macs":["{mac}"],"hostname":"other","action":"backup","job":"left"}}"#);
    machine.backup.put(&format!("{IP}/lease/{number}"), holder + "\n......");
}

#[test]
fn a_lease_is_taken_kept_and_released() {
    let mut machine = machine(&published(), 2);
    let (path, _) = lease_of(&machine);
    assert_eq!(path, format!("{IP}/lease/1"));
    machine.arm(AGAIN);
    assert_eq!(machine.boot().ending, REBOOT);
    let (path, bytes) = lease_of(&machine);
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!(path, format!("{IP}/lease/2"));
    assert!(text.contains("52:54:00:12:34:56") && text.contains("\"job\":\"two\""), "{text}");
    assert!(text.ends_with("\nreleased\n"), "{text}");
    assert!(machine.system.monotonic() < Duration::from_secs(12), "a released lease is not waited for");
}

/// Two with one address are armed by one file. While the first works the second gives way, and says why.
#[test]
fn of_two_agents_for_one_folder_one_wins_and_the_other_says_why() {
    for mac in ["52:54:00:99:99:99", "52:54:00:12:34:56"] {
        let mut first = Machine::new();
        first.tick = TICK;
        first.arm("testbox.action=backup testbox.job=one");
        let working = first.disks.lock().unwrap()[0].bytes.clone();
        working.inject(DiskOp::Read, 1 << 20..(1 << 20) + 512, DiskFault::Hang, 1);
        let second = twin_of(&first, mac);
        // The second looks again only when the first has made a heartbeat, however fast its own clock runs.
        let share = first.backup.clone();
        let beats = move || share.get(&format!("{IP}/lease/1")).map_or(0, |bytes| bytes.len());
        let mut known = 0;
        second.system.fail_when(move |call| {
            while matches!(call, Call::Sleep { .. }) && beats() == known {
                std::thread::yield_now();
            }
            known = beats();
            None
        });
        let (one, two) = std::thread::scope(|scope| {
            let one = scope.spawn(|| first.boot());
            working.wait_for_hang();
            let two = second.boot();
            working.release();
            (one.join().unwrap(), two)
        });
        assert_eq!(two.ending, REBOOT);
        says(
            &two,
            &["[lease 36]", "is in use", "box1 (52:54:00:12:34:56), backup, job one", "Nothing was changed"],
        );
        assert!(!two.console.contains("imaging"), "{}", two.console);
        let global = String::from_utf8(first.backup.get("maintenance.log").unwrap()).unwrap();
        assert!(global.contains("is in use") && global.contains("error: "), "the admin is told: {global}");
        assert!(!first.text("maintenance.log").contains("in use"), "the folder is the other's");
        assert_eq!(one.ending, REBOOT, "{}", one.console);
        assert!(!first.is_armed());
        let status = first.status();
        assert_eq!((status.state, status.attempt), (JobState::Done, 1));
        assert!(first.good_sets()[&1]["sda"] == contents(2, 1));
    }
}

#[test]
fn a_dead_machines_lease_is_taken_over_and_its_parts_made_anew() {
    let before = published();
    let mut machine = machine(&before, 2);
    leave_lease(&machine, 7, "52:54:00:99:99:99");
    // Whatever it is: the other may have it open.
    machine.backup.put(&format!("{IP}/sda.raw.gz.part"), before[&format!("{IP}/sda.raw.gz")].clone());
    machine.arm(AGAIN);
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    let waited = machine.system.monotonic().as_secs();
    assert!((120..140).contains(&waited), "{waited} s");
    says(&seen, &["was not released by other (52:54:00:99:99:99), backup, job left", "taking over"]);
    assert!(machine.text("maintenance.log").contains(" 0 kept from a cut attempt"), "{}", seen.console);
    assert!(machine.good_sets()[&2]["sda"] == small(2) && !machine.is_armed());
    assert_eq!(lease_of(&machine).0, format!("{IP}/lease/8"));
}

#[test]
fn this_machines_own_lease_of_before_a_cut_costs_seconds() {
    let mut machine = machine(&published(), 2);
    leave_lease(&machine, 7, "52:54:00:12:34:56");
    machine.arm(AGAIN);
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    let waited = machine.system.monotonic().as_secs();
    assert!((12..20).contains(&waited), "{waited} s");
    assert!(!machine.is_armed());
}

/// It is a lease and no fence: the agent that stood still must find out by itself.
#[test]
fn an_agent_taken_over_that_comes_back_publishes_nothing() {
    // Paused while it looks at the disk, and with an image open.
    for used in ["auto", "off"] {
        comes_back(used);
    }
}

fn comes_back(used: &str) {
    let mut first = Machine::new();
    first.tick = NEVER;
    first.arm(&format!("testbox.action=backup testbox.job=one testbox.used={used}"));
    let paused = first.disks.lock().unwrap()[0].bytes.clone();
    paused.inject(DiskOp::Read, 1 << 20..(1 << 20) + 512, DiskFault::Hang, 1);
    let second = twin_of(&first, "52:54:00:99:99:99");
    let (one, two, between) = std::thread::scope(|scope| {
        let one = scope.spawn(|| first.boot());
        paused.wait_for_hang();
        let two = second.boot();
        let between = second.backup.tree();
        paused.release();
        (one.join().unwrap(), two, between)
    });
    assert_eq!(two.ending, REBOOT, "{}", two.console);
    says(&two, &["taking over"]);
    assert_eq!(one.ending, REBOOT);
    says(&one, &["[lease 36]", "was taken over by box1 (52:54:00:99:99:99)"]);
    let mut after = second.backup.tree();
    for (path, bytes) in between.iter().filter(|(path, _)| !path.ends_with(".log")) {
        assert!(after.remove(path).as_ref() == Some(bytes), "{path} was changed by the one that came back");
    }
    after.retain(|path, _| !path.ends_with(".log"));
    assert!(after.is_empty(), "it left {:?}", after.keys());
    assert!(second.good_sets()[&1]["sda"] == contents(2, 9));
    assert_eq!(second.status().state, JobState::Done);
}

#[test]
fn an_agent_that_lost_the_folder_writes_no_disk_nor_disarms() {
    let mut machine = machine(&published(), 1);
    machine.set_disks(vec![disk("sda S1 @1", vec![7; 64 << 10])]);
    machine.arm("testbox.action=restore testbox.job=two");
    let share = machine.backup.clone();
    *machine.on_mount.lock().unwrap() = Some(Box::new(move |purpose| {
        if purpose == Purpose::Images {
            share.put(&format!("{IP}/lease/99"), "{}\n");
        }
    }));
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT);
    says(&seen, &["[lease 36]"]);
    assert_eq!(machine.disk_bytes("sda"), vec![7; 64 << 10]);
    assert!(machine.is_armed());
    assert_ne!(machine.status().code, Some(36), "the status is the other's");
}

/// A rescue is for the worst days: it waits for nobody.
#[test]
fn a_rescue_takes_no_lease_and_waits_for_none() {
    let mut machine = machine(&published(), 1);
    leave_lease(&machine, 7, "52:54:00:99:99:99");
    machine.arm("testbox.action=rescue testbox.job=two");
    machine.boot();
    assert_eq!(machine.system.monotonic(), Duration::ZERO);
    assert!(!machine.backup.tree().contains_key(&format!("{IP}/lease/8")));
    assert!(machine.text("maintenance.log").contains("rescue"));
}

/// One boot of `machine` whose share hangs at the `nth` operation of a kind, while `meanwhile` moves the clock.
fn hang(machine: &mut Machine, op: ShareOp, nth: usize, meanwhile: impl FnOnce(&Machine) + Send) -> Seen {
    machine.tick = TICK;
    machine.backup.fail_nth_of(op, nth, ShareFault::Hang);
    // What ends the machine ends the hang.
    let share = machine.backup.clone();
    machine.system.fail_when(move |call| {
        if matches!(call, Call::Reboot { .. }) {
            share.release();
        }
        None
    });
    let machine = &*machine;
    std::thread::scope(|scope| {
        let boot = scope.spawn(|| machine.boot());
        machine.backup.wait_for_hang();
        meanwhile(machine);
        boot.join().unwrap()
    })
}

/// Operations in the middle of a backup: of the image, of the status, of the log's own thread.
const HANGS: [(ShareOp, usize); 6] = [
    (ShareOp::Write, 5),
    (ShareOp::Sync, 4),
    (ShareOp::Append, 2),
    (ShareOp::Rename, 2),
    (ShareOp::Read, 9),
    (ShareOp::List, 4),
];

#[test]
fn a_server_that_restarts_is_waited_for_and_the_console_says_so() {
    let before = published();
    for (op, nth) in HANGS {
        let mut machine = machine(&before, 2);
        machine.arm(AGAIN);
        let seen = hang(&mut machine, op, nth, |machine| {
            machine.system.advance(Duration::from_secs(61));
            // Whose operation is the oldest is chance, and so is whether it began before the settling or after.
            let waiting = "s: waiting for the server, for 900 s at most";
            machine.wait_for_screen(waiting, 1);
            machine.system.advance(Duration::from_secs(239));
            machine.wait_for_screen(waiting, 2);
            machine.backup.release();
        });
        assert_eq!(seen.ending, REBOOT, "{op:?}: {}", seen.console);
        says(&seen, &["10.0.0.1:/b: "]);
        assert!(!machine.is_armed() && machine.good_sets().len() == 2, "{op:?}: {}", seen.console);
        assert!(!machine.system.calls().iter().any(|call| matches!(call, Call::Reboot { .. })));
    }
}

#[test]
fn a_server_that_is_gone_for_good_ends_the_machine() {
    let before = published();
    for (op, nth) in HANGS {
        let mut machine = machine(&before, 2);
        machine.arm(AGAIN);
        let gone = |machine: &Machine| machine.system.advance(Duration::from_secs(901));
        let seen = hang(&mut machine, op, nth, gone);
        assert_eq!(seen.ending, REBOOT, "{op:?}");
        says(&seen, &["[share-hung 37]", "waiting for the server", "the server is gone", "F A I L E D"]);
        assert!(machine.system.calls().contains(&Call::Reboot { how: Reboot::Restart }), "{op:?}");
        assert_kept(&machine, &before, &seen);
        let seen = machine.boot();
        assert!(!machine.is_armed() && machine.good_sets().len() == 2, "{op:?}: {}", seen.console);
    }
}

#[test]
fn a_restore_whose_server_is_gone_is_done_by_the_next_boot() {
    let mut first = Machine::new();
    first.arm("testbox.action=backup testbox.job=one");
    assert_eq!(first.boot().ending, REBOOT);
    let before = first.backup.tree();
    let mut machine = machine(&before, 1);
    machine.set_disks(vec![disk("sda S1 @1", vec![7; 2 << 20])]);
    machine.arm("testbox.action=restore testbox.job=two testbox.delta=never");
    // The first writing of the disk is over when it hangs: the image is read once before, and once for that.
    let reads = {
        let mut whole = self::machine(&before, 1);
        whole.set_disks(vec![disk("sda S1 @1", vec![7; 2 << 20])]);
        whole.arm("testbox.action=restore testbox.job=two testbox.delta=never");
        whole.boot();
        whole.backup.operations().iter().filter(|op| **op == ShareOp::Read).count()
    };
    let gone = |machine: &Machine| machine.system.advance(Duration::from_secs(901));
    let seen = hang(&mut machine, ShareOp::Read, reads - 3, gone);
    says(&seen, &["[share-hung 37]"]);
    assert!(machine.is_armed());
    let bytes = machine.disk_bytes("sda");
    let is_untouched = bytes == vec![7; 2 << 20];
    assert!(is_untouched || bytes[..512].iter().all(|byte| *byte == 0), "U: {}", seen.console);
    machine.boot();
    assert!(!machine.is_armed() && machine.disk_bytes("sda") == contents(2, 1));
}

#[test]
fn a_share_that_hangs_holds_the_machine_where_that_is_asked_for() {
    let before = published();
    for word in ["hold", "shell"] {
        let mut machine = machine(&before, 2);
        machine.arm(&format!("{AGAIN} testbox.on-error={word} testbox.share-wait=30"));
        let seen = hang(&mut machine, ShareOp::Write, 5, |machine| {
            machine.system.advance(Duration::from_secs(31));
            machine.wait_for_screen("HOLDING", 1);
            machine.backup.release();
        });
        assert_eq!(seen.ending, HOLD, "{}", seen.console);
        assert!(!machine.system.calls().iter().any(|call| matches!(call, Call::Reboot { .. })));
        assert_kept(&machine, &before, &seen);
    }
}

/// A share that refuses from the beginning: nothing is counted, nothing is written, everybody is told.
#[test]
fn a_share_that_cannot_be_written_is_told_with_what_mends_it() {
    let before = published();
    for (errno, word, part) in [
        (libc::EROFS, "[share-write 34]", "read-only"),
        (libc::EACCES, "[share-write 34]", "root is squashed"),
        (libc::EPERM, "[share-write 34]", "no_root_squash"),
        (libc::ENOSPC, "[no-space 35]", "make room"),
        (libc::EDQUOT, "[no-space 35]", "quota"),
    ] {
        for is_known in [true, false] {
            let mut machine = machine(&if is_known { before.clone() } else { BTreeMap::new() }, 2);
            machine.arm(AGAIN);
            machine.backup.refuse_changes(errno);
            let tree = machine.backup.tree();
            let seen = machine.boot();
            assert_eq!(seen.ending, REBOOT);
            says(&seen, &[word, part, "F A I L E D"]);
            assert!(machine.backup.tree() == tree && machine.is_armed());
        }
    }
}

/// The same in the middle of the image, of its fsync, of its verification, of publishing; then the share is taken away
/// altogether.
#[test]
fn a_share_that_fails_in_the_middle_leaves_the_set_before() {
    let before = published();
    // How many operations of a kind come before the image is begun.
    let clean = {
        let mut machine = machine(&before, 2);
        machine.arm(AGAIN);
        assert_eq!(machine.boot().ending, REBOOT);
        machine.backup.operations()
    };
    let begun = clean.iter().position(|op| *op == ShareOp::Reopen).expect("the image is begun");
    let nth = |op| clean[..begun].iter().filter(|other| **other == op).count();
    let rows = [
        (ShareOp::Write, ShareFault::Errno(libc::ENOSPC), "[no-space 35]", "make room"),
        (ShareOp::Write, ShareFault::Errno(libc::EDQUOT), "[no-space 35]", "quota"),
        (ShareOp::Sync, ShareFault::Errno(libc::EDQUOT), "[no-space 35]", "quota"),
        (ShareOp::HardLink, ShareFault::Errno(libc::EDQUOT), "[no-space 35]", "quota"),
        (ShareOp::HardLink, ShareFault::Errno(libc::EROFS), "[publish 53]", "read-only"),
        (ShareOp::Write, ShareFault::Gone(libc::ESTALE), "[share-write 34]", "exportfs"),
        (ShareOp::Sync, ShareFault::Gone(libc::ESTALE), "[share-write 34]", "exportfs"),
        // The log's thread reads too: where it hits is not certain.
        (ShareOp::Read, ShareFault::Gone(libc::ESTALE), "ESTALE", "exportfs"),
        (ShareOp::HardLink, ShareFault::Gone(libc::ESTALE), "[publish 53]", "exportfs"),
        (ShareOp::Write, ShareFault::Gone(libc::EACCES), "[share-write 34]", "squashed"),
        (ShareOp::Read, ShareFault::Gone(libc::EIO), "EIO", "its own disk"),
    ];
    for (op, fault, word, part) in rows {
        let mut machine = machine(&before, 2);
        machine.arm(AGAIN);
        machine.backup.fail_nth_of(op, nth(op), fault);
        let seen = machine.boot();
        assert_eq!(seen.ending, REBOOT, "{op:?} {fault:?}");
        says(&seen, &[word, part, "F A I L E D"]);
        machine.backup.clear_faults();
        assert_kept_sets(&machine, &seen);
        let seen = machine.boot();
        assert!(!machine.is_armed(), "{op:?} {fault:?}: {}", seen.console);
        let sets = machine.good_sets();
        assert!(sets[&1]["sda"] == small(1) && sets[&2]["sda"] == small(2), "{op:?} {fault:?}");
    }
}

/// G and K where publishing had begun: set 1 is somewhere, whole.
fn assert_kept_sets(machine: &Machine, seen: &Seen) {
    assert!(machine.good_sets()[&1]["sda"] == small(1) && machine.is_armed(), "{}", seen.console);
}

/// An NFSv4 server may tell names in place of numbers, of which the client makes nobody.
#[test]
fn the_quota_of_an_owner_that_has_no_number_refuses_nothing() {
    let mut machine = machine(&published(), 2);
    machine.backup.set_owner(Owner { user: u32::MAX - 1, group: u32::MAX - 1 });
    machine.quota = |of| Ok(Some(Quota { of, is_active: true, hard: Some(1), used: 1 }));
    machine.arm(AGAIN);
    let seen = machine.boot();
    says(&seen, &["quota of user 4294967294 cannot be told", "tells names, not numbers"]);
    assert!(machine.good_sets()[&2]["sda"] == small(2) && !machine.is_armed(), "{}", seen.console);
}

/// The anonymous user of a server that squashes root may have a quota, of which statfs(2) tells nothing.
#[test]
fn a_quota_is_looked_up_before_the_disk_is_read() {
    type Answer = Result<Option<Quota>, QuotaError>;
    fn quota(of: QuotaSubject, is_active: bool, mib: u64) -> Answer {
        Ok(Some(Quota { of, is_active, hard: Some(mib << 20), used: 1 << 20 }))
    }
    fn refused(of: QuotaSubject) -> Answer {
        let server = std::net::SocketAddrV4::new([10, 0, 0, 1].into(), 875);
        Err(QuotaError::Refused { server, of, why: "permission denied" })
    }
    type Ask = fn(QuotaSubject) -> Answer;
    const NONE: Answer = Ok(None);
    let rows: [(Ask, &[&str], bool); 7] = [
        (
            |of| if of == QuotaSubject::User(65534) { quota(of, true, 32) } else { NONE },
            &[
                "[no-space 35]",
                "the quota of user 65534 on the backup share has 32505856 bytes left",
                "raise that quota",
            ],
            false,
        ),
        (
            |of| quota(of, true, if of == QuotaSubject::Group(65533) { 32 } else { 320 }),
            &["[no-space 35]", "the quota of group 65533 "],
            false,
        ),
        // What is not told of one says nothing of the other.
        (
            |of| if of == QuotaSubject::User(65534) { quota(of, true, 32) } else { refused(of) },
            &["[no-space 35]", "the quota of user 65534 ", "quota of group 65533 cannot be told"],
            false,
        ),
        (|of| quota(of, true, 320), &[], true),
        (|of| quota(of, false, 32), &[], true),
        (|_| NONE, &[], true),
        (refused, &["quota of user 65534 cannot be told (the quota service of 10.0.0.1:875"], true),
    ];
    for (quota, words, done) in rows {
        let mut machine = machine(&published(), 2);
        machine.backup.set_owner(Owner { user: 65534, group: 65533 });
        machine.quota = quota;
        machine.arm(AGAIN);
        let seen = machine.boot();
        assert_eq!(seen.ending, REBOOT, "{}", seen.console);
        says(&seen, words);
        assert_eq!(
            (machine.is_armed(), seen.console.contains("imaging sda")),
            (!done, done),
            "{}",
            seen.console
        );
        let newest = if done { small(2) } else { small(1) };
        assert!(machine.good_sets().values().any(|set| set["sda"] == newest), "{}", seen.console);
    }
}

/// The work goes on, and the console, which is all that is left, says what the logs miss.
#[test]
fn logs_that_cannot_be_written_are_said_and_stop_nothing() {
    for errno in [libc::EACCES, libc::EROFS, libc::EDQUOT] {
        let mut machine = machine(&published(), 2);
        machine.arm(AGAIN);
        (0..500).for_each(|nth| machine.backup.fail_nth_of(ShareOp::Append, nth, ShareFault::Errno(errno)));
        let seen = machine.boot();
        assert_eq!(seen.ending, REBOOT, "{}", seen.console);
        says(
            &seen,
            &[
                "maintenance.log on the share",
                "did not reach the share",
                "the lease of the folder is not released",
            ],
        );
        assert!(!machine.is_armed() && machine.good_sets().len() == 2);
    }
}

/// No decision rests on the wall clock.
#[test]
fn a_clock_at_1970_changes_nothing_but_dates() {
    let mut machine = machine(&published(), 2);
    machine.system = Arc::new(Recording::at(0));
    leave_lease(&machine, 7, "52:54:00:12:34:56");
    machine.arm(AGAIN);
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    assert_eq!(machine.record().generation, 2, "sets are counted, not dated");
    assert!(machine.good_sets()[&2]["sda"] == small(2) && machine.good_sets()[&1]["sda"] == small(1));
    assert!(machine.text("maintenance.log").contains("1970-01-01T00:00"));
    machine.set_disks(vec![disk("sda S1 @1", vec![0; 64 << 10])]);
    machine.arm("testbox.action=restore testbox.job=three");
    assert_eq!(machine.boot().ending, REBOOT);
    assert!(machine.disk_bytes("sda") == small(2), "the newest set is the one with the highest number");
}
