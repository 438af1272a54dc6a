//! The power is cut at every operation of every action, and every operation of every action fails in every way. Whatever
//! a cut leaves of what was not flushed: the last good set stays (G), nothing half-written counts (P), a target disk is
//! unbootable or right (U), the machine stays armed until the job is done (K), and the next boots end it.
//!
//! `TESTBOX_SEED=N` repeats a run of the random faults, `TESTBOX_LONG=1` makes more of them, and of the kinds of errors.

use crate::world::disk::{bootable, bootable_of, check_unbootable_or_right, on_larger, partitioned};
use crate::world::{HOLD, Machine, REBOOT, TestDisk, contents_of, disk};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::thread;
use testbox::block::ALIGN;
use testbox::block::mem::DiskFault;
use testbox::share::{MemFiles, ShareFault, ShareOp, Survivors};
use testbox::store::record::Record;
use testbox::store::status::{JobState, Status};
use testbox::sys::Chance;

/// Two images of the first disk, and one of the second, which never changes. Small: what matters is in the steps.
const OLD: u64 = 1;
const NEW: u64 = 2;

fn is_long() -> bool {
    std::env::var_os("TESTBOX_LONG").is_some()
}

fn small(seed: u64) -> Vec<u8> {
    contents_of(64 << 10, seed)
}

fn disks(seed: u64) -> Vec<TestDisk> {
    vec![disk("sda S1 @1", small(seed)), disk("sdb S2 @2", small(7))]
}

fn set(seed: u64) -> BTreeMap<String, Vec<u8>> {
    BTreeMap::from([("sda".into(), small(seed)), ("sdb".into(), small(7))])
}

/// An action, armed and not yet begun; what must hold at any moment from then on; and what must hold in the end.
struct Row {
    name: &'static str,
    armed: fn() -> Machine,
    always: fn(&Machine, &str),
    at_the_end: fn(&Machine, &str),
}

impl Row {
    /// What a restore leaves in the end.
    fn wanted(&self) -> Option<Vec<u8>> {
        match self.name {
            "restore of a larger disk" => Some(larger().to_vec()),
            "restore of a smaller disk" => Some(smaller().to_vec()),
            name => name.contains("restore").then(|| bootable(3)),
        }
    }

    /// A restore has brought everything there, or all but the first block, which is the last.
    fn is_right(&self, machine: &Machine) -> bool {
        self.wanted().is_some_and(|wanted| machine.disk_bytes("sda")[ALIGN..] == wanted[ALIGN..])
    }

    /// What must hold at any moment. What a restore finds is old to it, also what the one before has brought there.
    fn check(&self, machine: &Machine, was_right: bool, what: &str) {
        match self.wanted().filter(|_| was_right) {
            Some(wanted) => check_target_of(machine, &wanted, &wanted, what),
            None => (self.always)(machine, what),
        }
    }
}

static ROWS: [Row; 8] = [
    Row {
        name: "backup",
        armed: || armed_with(disks(OLD), "backup"),
        always: |m, what| check_sets(m, &[(1, OLD)], None, what),
        at_the_end: |m, what| check_sets(m, &[(1, OLD)], Some(1), what),
    },
    Row {
        name: "backup-again",
        armed: || {
            let mut machine = published(disks(OLD));
            machine.set_disks(disks(NEW));
            arm(&mut machine, "backup-again");
            machine
        },
        always: |m, what| {
            check_sets(m, &[(1, OLD), (2, NEW)], None, what);
            assert!(m.good_sets().contains_key(&1), "G: {what}: the old set is lost");
        },
        at_the_end: |m, what| {
            check_sets(m, &[(1, OLD), (2, NEW)], Some(2), what);
            assert!(m.good_sets().contains_key(&1), "G: {what}: the old set is not in the history");
        },
    },
    Row {
        name: "restore",
        armed: || restoring(&bootable(9), "auto"),
        always: |m, what| check_target(m, &bootable(9), what),
        at_the_end: check_restored,
    },
    Row {
        name: "delta restore",
        armed: || restoring(&nearly_right(), "always"),
        always: |m, what| check_target(m, &nearly_right(), what),
        at_the_end: check_restored,
    },
    Row {
        name: "restore of a larger disk",
        armed: || {
            let mut machine = published(vec![disk("sda S1 @1", partitioned(3))]);
            machine.set_disks(vec![disk("sda S1 @1", bootable_of(9 << 19, 9))]);
            arm(&mut machine, "restore");
            machine
        },
        always: |m, what| check_target_of(m, larger(), &bootable_of(9 << 19, 9), what),
        at_the_end: |m, what| check_restored_as(m, larger(), what),
    },
    Row {
        name: "restore of a smaller disk",
        armed: || to_smaller(bootable_of(SMALLER, 9)),
        always: |m, what| check_target_of(m, smaller(), &bootable_of(SMALLER, 9), what),
        at_the_end: |m, what| check_restored_as(m, smaller(), what),
    },
    Row {
        name: "verify",
        armed: || {
            let mut machine = published(disks(OLD));
            arm(&mut machine, "verify");
            machine
        },
        always: check_unchanged,
        at_the_end: check_unchanged,
    },
    Row {
        name: "refresh-info",
        armed: || {
            let mut machine = published(disks(OLD));
            arm(&mut machine, "refresh-info");
            machine
        },
        always: check_unchanged,
        at_the_end: |m, what| {
            check_unchanged(m, what);
            assert!(m.text("testbox-info.txt").contains("Hostname: box1"), "{what}");
        },
    },
];

fn arm(machine: &mut Machine, action: &str) {
    machine.arm(&format!("testbox.action={action} testbox.job=two testbox.attempts=99"));
}

fn armed_with(disks: Vec<TestDisk>, action: &str) -> Machine {
    let mut machine = Machine::new();
    machine.set_disks(disks);
    arm(&mut machine, action);
    machine
}

/// Set 1 of these disks is published.
fn published(disks: Vec<TestDisk>) -> Machine {
    let mut machine = Machine::new();
    machine.set_disks(disks);
    machine.arm("testbox.action=backup testbox.job=one");
    assert_eq!(machine.boot().ending, REBOOT);
    // Nothing of that is still on its way.
    machine.after_cut(Survivors::AllNames, Chance(0))
}

fn restoring(target: &[u8], delta: &str) -> Machine {
    let mut machine = published(vec![disk("sda S1 @1", bootable(3))]);
    machine.set_disks(vec![disk("sda S1 @1", target.to_vec())]);
    arm(&mut machine, &format!("restore testbox.delta={delta}"));
    machine
}

/// A disk that differs in few places from the one that is restored.
fn nearly_right() -> Vec<u8> {
    let mut bytes = bootable(3);
    for (at, len) in [(0, 400), ((1 << 20) + 512, 5000), (5 << 18, 100)] {
        bytes[at..at + len].iter_mut().for_each(|byte| *byte ^= 0x55);
    }
    bytes
}

/// The machine says that the job is done: by its status, or because it is disarmed.
fn says_done(machine: &Machine) -> bool {
    let status = machine.file("status.json").and_then(|bytes| Status::parse(&bytes));
    !machine.is_armed()
        || status.is_some_and(|s| s.state == JobState::Done && s.job.as_deref() == Some("two"))
}

/// G and P: a set that a reader would trust is one of these, whole. What is said to be done is in place, and was not
/// only said.
fn check_sets(machine: &Machine, known: &[(u64, u64)], done: Option<u64>, what: &str) {
    let sets = machine.good_sets();
    for (generation, found) in &sets {
        let seed = known.iter().find(|(known, _)| known == generation);
        let (_, seed) = seed.unwrap_or_else(|| panic!("P: {what}: a set {generation} that nobody made"));
        assert!(*found == set(*seed), "P: {what}: set {generation} is not what was on the disks");
    }
    let last = known.last().map(|(generation, _)| *generation);
    if let Some(wanted) = done.or(last.filter(|_| says_done(machine))) {
        let current = machine.file("backup.json").and_then(|bytes| Record::parse(&bytes).ok());
        assert_eq!(
            current.map(|record| record.generation),
            Some(wanted),
            "K: {what}: done, and no set {wanted}"
        );
        assert!(sets.contains_key(&wanted), "P: {what}: set {wanted} is published, and not whole");
    }
    if done.is_some() {
        let tree = machine.backup.tree();
        assert!(!tree.keys().any(|path| path.contains(".part")), "{what}: leftovers: {:?}", tree.keys());
    }
}

/// What the larger disk must hold in the end.
fn larger() -> &'static [u8] {
    static LARGER: OnceLock<Vec<u8>> = OnceLock::new();
    LARGER.get_or_init(|| on_larger(&partitioned(3), &bootable_of(9 << 19, 9)))
}

/// Bytes of a disk that is smaller than the imaged one, and has room for all that is used of it.
const SMALLER: usize = 5 << 19;

fn to_smaller(old: Vec<u8>) -> Machine {
    let mut machine = published(vec![disk("sda S1 @1", partitioned(3))]);
    machine.set_disks(vec![disk("sda S1 @1", old)]);
    arm(&mut machine, "restore");
    machine
}

/// What the smaller disk must hold in the end: what sgdisk makes the imaged disk of again.
fn smaller() -> &'static [u8] {
    static MADE: OnceLock<Vec<u8>> = OnceLock::new();
    MADE.get_or_init(|| {
        let machine = to_smaller(vec![0; SMALLER]);
        assert_eq!(machine.boot().ending, REBOOT);
        let made = machine.disk_bytes("sda");
        let image = partitioned(3);
        assert!(on_larger(&made, &vec![0; image.len()]) == image, "its table is not the image's");
        made
    })
}

fn check_target(machine: &Machine, old: &[u8], what: &str) {
    check_target_of(machine, &bootable(3), old, what);
}

/// U, and no success that is none.
fn check_target_of(machine: &Machine, wanted: &[u8], old: &[u8], what: &str) {
    let found = machine.disk_bytes("sda");
    // Two faults in a row: what was written wrongly could not be taken back either, and the console says so.
    if !what.contains("do not boot it") {
        check_unbootable_or_right(&found, wanted, old, what);
    }
    if says_done(machine) {
        check_restored_as(machine, wanted, what);
    }
    assert!(machine.good_sets().contains_key(&1), "G: {what}");
}

fn check_restored(machine: &Machine, what: &str) {
    check_restored_as(machine, &bootable(3), what);
}

fn check_restored_as(machine: &Machine, wanted: &[u8], what: &str) {
    let is_right = machine.disk_bytes("sda") == wanted;
    assert!(is_right, "U: {what}: done, and the disk is not what the image holds");
}

fn check_unchanged(machine: &Machine, what: &str) {
    check_sets(machine, &[(1, OLD)], Some(1), what);
    assert!(machine.disk_bytes("sda") == small(OLD) && machine.disk_bytes("sdb") == small(7), "{what}");
}

/// Boots without a fault until the job is over.
fn finish(row: &Row, machine: &Machine, what: &str) {
    let mut boots = 0;
    while machine.is_armed() {
        let seen = machine.boot();
        boots += 1;
        assert!(boots < 3, "{what}: does not end: {}", seen.console);
    }
    (row.at_the_end)(machine, what);
    let state = machine.file("status.json").and_then(|bytes| Status::parse(&bytes)).map(|s| s.state);
    assert!(boots == 0 || state == Some(JobState::Done), "{what}: {state:?}");
}

/// Runs `point` for one operation after the other until it says that there are no more; how many there were.
fn for_every(mut point: impl FnMut(usize) -> bool) -> usize {
    (0..).position(|nth| !point(nth)).unwrap()
}

#[test]
fn a_power_cut_at_every_operation_of_every_action_is_survived() {
    let left = |chance| {
        [Survivors::SyncedNames, Survivors::AllNames, Survivors::ServerStays(chance), Survivors::Any(chance)]
    };
    power_cuts(|armed| armed, 1, left);
}

/// The machine and the server of its store lose their power at once: at every operation with `TESTBOX_LONG`, else at some of each
/// action.
#[test]
fn a_power_cut_of_machine_and_store_is_survived_everywhere() {
    let step = if is_long() { 1 } else { 97 };
    power_cuts(Machine::over_store, step, |chance| {
        [Survivors::SyncedNames, Survivors::AllNames, Survivors::Any(chance)]
    });
}

fn power_cuts<const N: usize>(kind: fn(Machine) -> Machine, step: usize, left: fn(Chance) -> [Survivors; N]) {
    let mut total = (0, 0);
    for (first, row) in ROWS.iter().enumerate() {
        let before = kind((row.armed)());
        // Most operations read: a cut there leaves what the cut before left.
        let mut seen = BTreeSet::new();
        let cuts = for_every(|nth| {
            let nth = nth * step + first % step;
            let machine = before.copy();
            machine.power.cut_at(nth);
            machine.boot();
            let is_cut = !machine.power.is_on();
            let chance = Chance(nth as u64);
            for (n, survivors) in left(chance).into_iter().enumerate() {
                let what = format!("{}, cut at operation {nth}, {survivors:?}", row.name);
                let after = machine.after_cut(survivors, Chance(chance.of(n)));
                if seen.insert(after.fingerprint()) {
                    (row.always)(&after, &what);
                    finish(row, &after, &what);
                }
            }
            is_cut
        });
        println!("{}: power cut at {cuts} operations, which left {} states", row.name, seen.len());
        assert!(cuts * step > 25, "{}: only {cuts} operations", row.name);
        total = (total.0 + cuts, total.1 + seen.len());
    }
    println!("power cuts: {} operations, which left {} states; nothing lost", total.0, total.1);
}

/// One operation of a share fails, and nothing else: the machine notices, and goes on or says so; then the power is cut.
fn share_faults(
    row: &Row,
    share: fn(&Machine) -> &MemFiles,
    fault: ShareFault,
    finished: &mut BTreeSet<u64>,
) -> usize {
    share_faults_of((row.armed)(), 1, row, share, fault, finished)
}

/// At every operation, or with a step only at some of them.
fn share_faults_of(
    before: Machine,
    step: usize,
    row: &Row,
    share: fn(&Machine) -> &MemFiles,
    fault: ShareFault,
    finished: &mut BTreeSet<u64>,
) -> usize {
    for_every(|nth| {
        let nth = nth * step + row.name.len() % step;
        let machine = before.copy();
        share(&machine).fail_nth(nth, fault);
        let seen = machine.boot();
        let is_hit = share(&machine).operations().len() > nth;
        let op = share(&machine).operations().get(nth).copied();
        let what = format!("{}, {fault:?} at operation {nth} {op:?}: {}", row.name, seen.console);
        assert!(seen.ending == REBOOT || seen.ending == HOLD, "{what}");
        (row.always)(&machine, &what);
        // A server that lies about what it has done may lie about all that was synced.
        if fault != ShareFault::Dropped {
            let after = machine.after_cut(Survivors::Any(Chance(nth as u64)), Chance(nth as u64));
            (row.always)(&after, &what);
            if finished.insert(after.fingerprint()) {
                finish(row, &after, &what);
            }
        }
        let after = machine.after_cut(Survivors::AllNames, Chance(0));
        if finished.insert(after.fingerprint()) {
            finish(row, &after, &what);
        }
        is_hit
    })
}

#[test]
fn every_fault_of_every_operation_of_the_shares_is_survived() {
    let of_row = |row: &Row| {
        let (mut points, mut finished) = (0, BTreeSet::new());
        let errnos = [libc::EIO, libc::ENOSPC, libc::ESTALE];
        for errno in &errnos[..if is_long() { 3 } else { 1 }] {
            points += share_faults(row, |m| &m.backup, ShareFault::Errno(*errno), &mut finished);
        }
        points += share_faults(row, |m| &m.backup, ShareFault::Short(1), &mut finished);
        points += share_faults(row, |m| &m.tftp, ShareFault::Errno(libc::EIO), &mut finished);
        println!("{}: {points} faults of the shares", row.name);
        points
    };
    // This test takes longest of all, and would end alone.
    let total: usize = thread::scope(|scope| {
        let rows = ROWS.each_ref().map(|row| scope.spawn(move || of_row(row)));
        rows.map(|row| row.join().unwrap()).iter().sum()
    });
    println!("faults of the shares: {total}; nothing lost");
}

/// The same of a store's own disk: at every operation with `TESTBOX_LONG`.
#[test]
fn faults_of_a_stores_disk_are_survived_in_every_action() {
    let step = if is_long() { 1 } else { 131 };
    let mut total = 0;
    for row in &ROWS {
        for errno in [libc::EIO, libc::ENOSPC] {
            let (before, mut finished) = ((row.armed)().over_store(), BTreeSet::new());
            total +=
                share_faults_of(before, step, row, |m| &m.backup, ShareFault::Errno(errno), &mut finished);
        }
    }
    println!("faults of a store's disk: {total}; nothing lost");
}

/// A server that says yes and does not do what it was asked: what it lost is noticed before anything rests on it. Nothing
/// rests on what `refresh-info` writes.
#[test]
fn writes_that_the_server_loses_are_noticed_in_every_action() {
    let mut total = 0;
    for row in ROWS.iter().filter(|row| row.name != "refresh-info") {
        let before = (row.armed)();
        for op in [ShareOp::Write, ShareOp::AppendFrom] {
            total += for_every(|nth| {
                let machine = before.copy();
                machine.backup.fail_nth_of(op, nth, ShareFault::Dropped);
                let seen = machine.boot();
                let is_hit = machine.backup.operations().iter().filter(|o| **o == op).count() > nth;
                let what = format!("{}, {op:?} {nth} dropped: {}", row.name, seen.console);
                (row.always)(&machine, &what);
                finish(row, &machine.after_cut(Survivors::AllNames, Chance(0)), &what);
                is_hit
            });
        }
    }
    println!("writes that the server loses: {total}; nothing lost");
    assert!(total > 30, "only {total}");
}

/// The agent dies in every attempt, at whatever point of the action: attempts are counted before anything else, so there
/// is a last one, after which the machine holds for a human.
#[test]
fn an_agent_that_dies_in_every_attempt_is_held_after_the_last() {
    for row in ROWS.iter().filter(|row| row.name != "refresh-info") {
        let before = (row.armed)();
        let operations = {
            let machine = before.copy();
            machine.boot();
            machine.power.operations()
        };
        // Dead before it has counted, it could do no harm either.
        let is_counted = |machine: &Machine| {
            machine
                .file("status.json")
                .and_then(|b| Status::parse(&b))
                .is_some_and(|s| s.job.as_deref() == Some("two"))
        };
        let mut held = 0;
        for nth in (20..operations).step_by(operations / 12) {
            let mut machine = before.copy();
            machine.cmdline = machine.cmdline.replace("testbox.attempts=99", "testbox.attempts=2");
            let mut was_right = false;
            let check = |machine: &Machine, was_right: bool| row.check(machine, was_right, row.name);
            for _ in 0..2 {
                was_right |= row.is_right(&machine);
                machine.power.cut_at(nth);
                machine.boot();
                machine = machine.after_cut(Survivors::ServerStays(Chance(nth as u64)), Chance(nth as u64));
                check(&machine, was_right);
            }
            if !machine.is_armed() || says_done(&machine) || !is_counted(&machine) {
                continue;
            }
            let seen = machine.boot();
            let is_over = seen.console.contains("completed set") || says_done(&machine);
            assert!(seen.ending == HOLD || is_over, "K: {}, dies at {nth}: {}", row.name, seen.console);
            check(&machine, was_right);
            held += usize::from(seen.ending == HOLD);
        }
        assert!(held > 2, "{}: held {held} times", row.name);
    }
}

/// A restore that was cut when its disk was right already, and is done again: the disk then holds the image before and
/// after, so whatever is left of its boot areas, no other content boots.
#[test]
fn a_restore_again_onto_a_right_disk_is_cut_safely() {
    let before = restoring(&bootable(9), "always");
    let operations = {
        let machine = before.copy();
        machine.boot();
        machine.power.operations()
    };
    let cut = |machine: &Machine, nth: usize, chance: u64| {
        let machine = machine.copy();
        machine.power.cut_at(nth);
        machine.boot();
        let is_cut = !machine.power.is_on();
        (machine.after_cut(Survivors::AllNames, Chance(chance)), is_cut)
    };
    let is_right = |m: &Machine| !says_done(m) && m.disk_bytes("sda") == bootable(3);
    let mut cuts = (0..operations).rev().map(|nth| cut(&before, nth, 0).0);
    let right = cuts.find(is_right).expect("a cut between the last write and the end of the job");
    let mut states = BTreeSet::new();
    let count = for_every(|nth| {
        let mut was_cut = false;
        for chance in 0..if is_long() { 8 } else { 2 } {
            let (after, is_cut) = cut(&right, nth, 1000 * chance + nth as u64);
            was_cut |= is_cut;
            if states.insert(after.fingerprint()) {
                let what = format!("again, cut at operation {nth}, {chance}");
                check_target(&after, &bootable(3), &what);
            }
        }
        was_cut
    });
    println!("a restore again: power cut at {count} operations, which left {} states", states.len());
    assert!(count > 25 && states.len() > 25, "{count} {}", states.len());
}

/// One operation of a disk fails: a source, that is.
#[test]
fn every_fault_of_every_operation_of_source_disks_is_survived() {
    let mut total = 0;
    for row in ROWS.iter().filter(|row| !row.name.contains("restore")) {
        for fault in [DiskFault::Errno(libc::EIO), DiskFault::Errno(libc::ENODATA), DiskFault::Short] {
            for dead in [false, true] {
                let before = (row.armed)();
                total += for_every(|nth| {
                    let machine = before.copy();
                    let source = machine.disks.lock().unwrap()[0].bytes.clone();
                    source.fail_nth(nth as u64, fault, dead);
                    let seen = machine.boot();
                    let is_hit = source.log().len() > nth;
                    let what =
                        format!("{}, {fault:?} at read {nth}, dead {dead}: {}", row.name, seen.console);
                    (row.always)(&machine, &what);
                    finish(row, &machine.after_cut(Survivors::AllNames, Chance(0)), &what);
                    is_hit
                });
            }
        }
    }
    println!("faults of disks that are read: {total}; nothing lost");
    assert!(total >= 24, "only {total}");
}

/// Several faults in one run, one after the other, with power cuts between.
#[test]
fn random_faults_in_every_action_are_survived() {
    let seed =
        std::env::var("TESTBOX_SEED").ok().map(|text| text.parse::<u64>().expect("TESTBOX_SEED is a number"));
    let is_long = is_long();
    let first = match seed {
        Some(seed) => seed,
        // Short runs are the same each time.
        None if !is_long => 1,
        None => std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() << 20,
    };
    let rounds = match (seed, is_long) {
        (Some(_), _) => 1,
        (None, false) => 120,
        (None, true) => 20_000,
    };
    let armed: Vec<Machine> = ROWS.iter().map(|row| (row.armed)()).collect();
    let (mut boots, mut cuts, mut failed) = (0, 0, 0);
    for seed in first..first + rounds {
        let chance = Chance(seed);
        let nth = (seed % ROWS.len() as u64) as usize;
        let (row, mut machine) = (&ROWS[nth], armed[nth].copy());
        let one_in = [15, 40, 120][(chance.of("how often") % 3) as usize];
        let mut was_right = false;
        for boot in 0..3 {
            was_right |= row.is_right(&machine);
            let chance = Chance(chance.of(("boot", boot)));
            if !machine.is_armed() {
                break;
            }
            [&machine.backup, &machine.tftp]
                .into_iter()
                .for_each(|share| share.fail_by_chance(chance, one_in));
            for disk in machine.disks.lock().unwrap().iter() {
                disk.bytes.fail_by_chance(Chance(chance.of(&disk.disk.name)), one_in);
            }
            machine.power.cut_at((chance.of("cut") % 300) as usize);
            let seen = machine.boot();
            let what = format!("TESTBOX_SEED={seed}, {}, boot {boot}: {}", row.name, seen.console);
            (boots, cuts) = (boots + 1, cuts + usize::from(!machine.power.is_on()));
            failed += usize::from(machine.is_armed());
            let survivors = chance
                .choose(
                    &[
                        Survivors::SyncedNames,
                        Survivors::AllNames,
                        Survivors::ServerStays(chance),
                        Survivors::Any(chance),
                    ],
                    "survivors",
                )
                .unwrap();
            machine = machine.after_cut(survivors, chance);
            row.check(&machine, was_right, &what);
        }
        finish(row, &machine, &format!("TESTBOX_SEED={seed}, {}", row.name));
    }
    println!(
        "random faults: {rounds} runs from TESTBOX_SEED={first}, {boots} boots, {failed} of them not done, {cuts} power \
         cuts; nothing lost"
    );
}
