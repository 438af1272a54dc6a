//! The lease of the folder is stolen at one exact moment, and no heartbeat tells: the look that comes next must, each by
//! itself. What the agent does to the share after the theft is listed; what it had begun it may end.

use crate::world::{HOLD, IP, Machine, REBOOT, Seen, contents_of, disk};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testbox::block::mem::{DiskFault, DiskOp, MemDisk};
use testbox::io::{ReadAt, SyncWrite};
use testbox::net::quota::Owner;
use testbox::share::{Append, Files, MemFiles};
use testbox::store::status::JobState;

/// A machine that stands still makes no heartbeat.
const NEVER: Duration = Duration::from_secs(3600);

/// The share, from which somebody steals the lease right after an operation.
struct Thief {
    files: MemFiles,
    /// Which operation it is, and how often it was done.
    when: fn(&str, usize) -> bool,
    done: Mutex<BTreeMap<String, usize>>,
    is_stolen: AtomicBool,
    /// The server has forgotten that the lease is open.
    forgets: AtomicBool,
    after: Mutex<Vec<String>>,
}

impl Thief {
    fn steal(&self) {
        if !self.is_stolen.swap(true, SeqCst) {
            self.files.put(&format!("{IP}/lease/99"), "{}\n");
        }
    }

    /// Does an operation, which is `rename backup.json.part`, say, and notes it where it changes what is not the thief's.
    fn note<T>(&self, op: &str, path: &str, work: impl FnOnce() -> T) -> T {
        let what = format!("{op} {}", path.trim_start_matches(&format!("{IP}/")));
        let is_change = !["open", "list", "free"].contains(&op);
        // Lines of logs, and the folder for them, are written whoever has the lease.
        if self.is_stolen.load(SeqCst) && is_change && !path.ends_with(".log") && path != IP {
            self.after.lock().unwrap().push(what.clone());
        }
        let done = work();
        let mut counts = self.done.lock().unwrap();
        let count = counts.entry(what.clone()).or_default();
        *count += 1;
        if (self.when)(&what, *count) {
            self.steal();
        }
        done
    }
}

/// The share as the machine has it.
struct Stolen(Arc<Thief>);

struct File {
    file: Box<dyn SyncWrite>,
    path: String,
    thief: Arc<Thief>,
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.thief.clone().note("write", &self.path.clone(), || self.file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl SyncWrite for File {
    fn sync(&mut self) -> io::Result<()> {
        self.thief.clone().note("sync", &self.path.clone(), || self.file.sync())
    }

    fn resume_at(&mut self, len: u64) -> io::Result<()> {
        self.file.resume_at(len)
    }

    fn append_from(&mut self, from: &dyn ReadAt, range: Range<u64>) -> io::Result<u64> {
        self.thief.clone().note("write", &self.path.clone(), || self.file.append_from(from, range))
    }
}

/// The lease as its holder keeps it open.
struct OpenLease {
    file: Box<dyn Append>,
    path: String,
    thief: Arc<Thief>,
}

impl Append for OpenLease {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.thief.forgets.load(SeqCst) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        self.thief.clone().note("beat", &self.path.clone(), || self.file.append(bytes))
    }
}

impl Stolen {
    fn file(&self, path: &str, file: Box<dyn SyncWrite>) -> Box<dyn SyncWrite> {
        Box::new(File { file, path: path.into(), thief: self.0.clone() })
    }
}

impl Files for Stolen {
    fn open(&self, path: &str) -> io::Result<Arc<dyn ReadAt>> {
        self.0.note("open", path, || self.0.files.open(path))
    }
    fn create(&self, path: &str) -> io::Result<Box<dyn SyncWrite>> {
        self.0.note("create", path, || self.0.files.create(path)).map(|file| self.file(path, file))
    }
    fn reopen(&self, path: &str) -> io::Result<Box<dyn SyncWrite>> {
        self.0.files.reopen(path).map(|file| self.file(path, file))
    }
    fn append(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.0.note("append", path, || self.0.files.append(path, bytes))
    }
    fn open_append(&self, path: &str) -> io::Result<Box<dyn Append>> {
        let file = self.0.note("keep open", path, || self.0.files.open_append(path))?;
        Ok(Box::new(OpenLease { file, path: path.into(), thief: self.0.clone() }))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.note("rename", from, || self.0.files.rename(from, to))
    }
    fn hard_link(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.note("link", to, || self.0.files.hard_link(from, to))
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.0.note("remove", path, || self.0.files.remove(path))
    }
    fn make_dir(&self, path: &str) -> io::Result<()> {
        self.0.note("mkdir", path, || self.0.files.make_dir(path))
    }
    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.0.note("list", path, || self.0.files.list(path))
    }
    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.0.files.sync_dir(path)
    }
    fn free_bytes(&self, path: &str) -> io::Result<u64> {
        self.0.note("free", path, || self.0.files.free_bytes(path))
    }
    fn owner(&self, path: &str) -> io::Result<Owner> {
        self.0.files.owner(path)
    }
}

fn small(seed: u64) -> Vec<u8> {
    contents_of(64 << 10, seed)
}

/// Sets 1 and 2 are published; the disk holds something else by now.
fn published() -> Machine {
    let mut m = Machine::new();
    for (n, action) in [(1, "backup"), (2, "backup-again")] {
        m.set_disks(vec![disk("sda S1 @1", small(n))]);
        m.arm(&format!("testbox.action={action} testbox.job=j{n}"));
        assert_eq!(m.boot().ending, REBOOT);
    }
    let m = m.copy();
    m.set_disks(vec![disk("sda S1 @1", small(3))]);
    m
}

/// Hands the share of an armed machine to the thief.
fn watched(m: &mut Machine, when: fn(&str, usize) -> bool) -> Arc<Thief> {
    let thief = Arc::new(Thief {
        files: m.backup.clone(),
        when,
        done: Mutex::default(),
        is_stolen: AtomicBool::default(),
        forgets: AtomicBool::default(),
        after: Mutex::default(),
    });
    m.files = Some(Arc::new(Stolen(thief.clone())));
    thief
}

fn check_lost(m: &Machine, thief: &Thief, seen: &Seen, what: &str) {
    assert!(thief.is_stolen.load(SeqCst), "{what}: nothing was stolen: {}", seen.console);
    assert!(seen.console.contains("[lease 36]"), "{what}: {}", seen.console);
    assert!(m.is_armed(), "{what}: disarmed: {}", seen.console);
    assert!(
        m.status().state == JobState::Running && m.status().code.is_none(),
        "{what}: the status is the other's"
    );
    assert!(m.disk_bytes("sda") == small(3), "{what}: the disk was written");
}

struct Row {
    what: &'static str,
    action: &'static str,
    before: fn(&Machine),
    when: fn(&str, usize) -> bool,
    /// What the agent changes afterwards.
    after: &'static [&'static str],
}

fn nothing(_: &Machine) {}

/// A record that is waiting, and its image.
fn pending(m: &Machine) {
    let mut record = m.record();
    (record.generation, record.job) = (3, Some("cut".into()));
    m.backup.put(&format!("{IP}/backup.json.part"), record.to_bytes());
}

fn spoiled_image(m: &Machine) {
    let mut image = m.file("sda.raw.gz").unwrap();
    let middle = image.len() / 2;
    image[middle] ^= 1;
    m.backup.put(&format!("{IP}/sda.raw.gz"), image);
}

fn row(
    what: &'static str,
    action: &'static str,
    before: fn(&Machine),
    when: fn(&str, usize) -> bool,
    after: &'static [&'static str],
) -> Row {
    Row { what, action, before, when, after }
}

/// Where the lease is lost, in the order of a boot: what is being done, and what may still be seen on the share.
fn rows() -> Vec<Row> {
    vec![
        row(
            "before a set that was cut is completed",
            "verify",
            pending,
            |op, _| op == "open backup.json.part",
            &[],
        ),
        row(
            "before a set that was cut is rolled back",
            "verify",
            |m| m.backup.put(&format!("{IP}/backup.json.part"), "{"),
            |op, _| op == "open backup.json.part",
            &[],
        ),
        row(
            "before unfinished images are removed",
            "backup-again",
            |m| m.backup.put(&format!("{IP}/sdx.raw.gz.part"), "the other's"),
            |op, _| op == "list history",
            &[],
        ),
        row("before a step", "backup-again", nothing, |op, _| op == "rename .testbox-info.zip.tmp", &[]),
        row("before an image is written", "backup-again", nothing, |op, _| op.starts_with("free "), &[]),
        row("before a set is published", "backup-again", nothing, |op, _| op == "sync sda.raw.gz.part", &[]),
        row(
            "before the old set is moved",
            "backup-again",
            nothing,
            |op, _| op == "rename .backup.json.part.tmp",
            &[],
        ),
        row(
            "before the commit",
            "backup-again",
            nothing,
            |op, _| op == "rename sda.raw.gz.part",
            &["remove sda.raw.gz.map", "remove backup.json.sig"],
        ),
        row(
            "before old sets are removed",
            "backup-again",
            nothing,
            |op, _| op == "rename backup.json.part",
            &["remove sda.raw.gz.damaged"],
        ),
        row("before it is disarmed", "backup-again", nothing, |op, _| op == "remove history/1", &[]),
        // It is being checked.
        row(
            "before a disk is written",
            "restore",
            nothing,
            |op, count| (op, count) == ("rename .status.json.tmp", 2),
            &[],
        ),
        row(
            "before an image is noted to be damaged",
            "verify",
            spoiled_image,
            |op, count| (op, count) == ("rename .status.json.tmp", 2),
            &[],
        ),
        row(
            "before a step's own failure is told",
            "backup-again",
            |m| {
                let bytes = m.disks.lock().unwrap()[0].bytes.clone();
                bytes.inject(DiskOp::Read, 32768..33280, DiskFault::Errno(libc::EIO), 1000);
            },
            |op, count| (op, count) == ("rename .status.json.tmp", 5),
            &["create sda.raw.gz.part"],
        ),
    ]
}

#[test]
fn each_look_at_the_lease_stops_what_would_follow_it() {
    let base = published();
    for row in rows() {
        let mut m = base.copy();
        m.tick = NEVER;
        (row.before)(&m);
        m.arm(&format!("testbox.action={} testbox.job=now", row.action));
        let thief = watched(&mut m, row.when);
        let seen = m.boot();
        check_lost(&m, &thief, &seen, row.what);
        let mut after = thief.after.lock().unwrap().clone();
        after.dedup();
        assert_eq!(after, row.after, "{}: {}", row.what, seen.console);
        // What reads free space is looked for before the first step; the step itself must not begin.
        let has_begun =
            ["looking for what is used of sda", "imaging sda"].iter().any(|s| seen.console.contains(s));
        assert!(row.what != "before a step" || !has_begun, "the disk was read: {}", seen.console);
    }
}

/// Ends the hang whatever the test finds.
struct Release(Arc<MemDisk>);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// The heartbeat finds it while an image is written; and the disk hangs for good afterwards, which is told too.
#[test]
fn a_heartbeat_that_finds_the_lease_lost_stops_the_image() {
    for hangs in [false, true] {
        let mut m = published();
        m.tick = Duration::from_millis(5);
        let ending = if hangs { "hold" } else { "reboot" };
        m.arm(&format!(
            "testbox.action=backup-again testbox.job=now testbox.used=off testbox.on-error={ending}"
        ));
        let thief = watched(&mut m, |_, _| false);
        let bytes = m.disks.lock().unwrap()[0].bytes.clone();
        bytes.inject(DiskOp::Read, 0..512, DiskFault::Hang, 1);
        let m = &m;
        let seen = std::thread::scope(|scope| {
            let boot = scope.spawn(|| m.boot());
            let _release = Release(bytes.clone());
            bytes.wait_for_hang();
            thief.steal();
            m.wait_for_screen("stopping: ", 1);
            let begun = thief.after.lock().unwrap().len();
            if hangs {
                m.system.advance(Duration::from_secs(601));
                m.wait_for_screen("[disk-hung 56]", 1);
            }
            bytes.release();
            let seen = boot.join().unwrap();
            // What was on its way when it was stolen is over by now.
            let after = thief.after.lock().unwrap().split_off(begun);
            assert!(!after.iter().any(|op| op.contains("status") || op.contains("lease/")), "{after:?}");
            seen
        });
        assert_eq!(seen.ending, if hangs { HOLD } else { REBOOT }, "{}", seen.console);
        assert!(m.is_armed() && m.record().generation == 2, "{}", seen.console);
        assert_eq!(m.status().state, JobState::Running);
    }
}

/// Over NFSv4 an open waits for what dead clients have left, and for a server's grace period; a write to what is open does
/// not. Where the server has forgotten that it is open, the name still leads there.
#[test]
fn a_lease_is_kept_open_and_no_heartbeat_opens_it() {
    for forgets in [false, true] {
        let mut m = published().copy();
        m.tick = Duration::from_millis(1);
        m.arm("testbox.action=backup-again testbox.job=now");
        let thief = watched(&mut m, |_, _| false);
        thief.forgets.store(forgets, SeqCst);
        let seen = m.boot();
        assert_eq!(seen.ending, REBOOT, "{}", seen.console);
        assert!(!m.is_armed() && m.status().state == JobState::Done, "{}", seen.console);
        let tree = m.backup.tree();
        let (lease, bytes) = tree.iter().find(|(path, _)| path.contains("/lease/")).expect("the lease");
        assert!(bytes.ends_with(b"\nreleased\n"));
        let done = thief.done.lock().unwrap();
        let lease = lease.trim_start_matches(&format!("{IP}/"));
        let count = |op: &str| done.get(&format!("{op} {lease}")).copied().unwrap_or_default();
        let (opened, beats, by_name) = (count("keep open"), count("beat"), count("append"));
        match forgets {
            false => assert!((opened, by_name) == (1, 0) && beats > 0, "{done:?}"),
            true => assert!(opened > 1 && by_name > 0 && beats == 0, "{done:?}"),
        }
    }
}

/// An NFSv4 server keeps the files of each client, which it knows by this name: another one for each boot, because two
/// machines behind NATs can have all else in common.
#[test]
fn the_kernel_has_a_name_of_its_own_before_a_share_is_mounted() {
    let long = "a23456789.b23456789.c23456789.d23456789.e23456789.f23456789.g2345";
    let cut = format!("{}-0A28292A", &long[..46]);
    for (host, want) in [(Some("box1"), "box1-0A28292A"), (None, "unknown-0A28292A"), (Some(long), &*cut)] {
        let mut machine = Machine::new();
        machine.host_name = host;
        let (system, want) = (machine.system.clone(), want.to_owned());
        let names = Arc::new(Mutex::new(BTreeSet::new()));
        let seen = names.clone();
        *machine.on_mount.lock().unwrap() = Some(Box::new(move |_| {
            let lines = system.lines();
            let name = lines.iter().rev().find_map(|line| line.strip_prefix("hostname ")).expect("a name");
            let number =
                name.strip_prefix(&format!("{want}-")).unwrap_or_else(|| panic!("{name}, not {want}-..."));
            assert!(
                number.len() == 8 && u32::from_str_radix(number, 16).is_ok() && name.len() <= 64,
                "{name}"
            );
            seen.lock().unwrap().insert(name.to_owned());
        }));
        for job in ["one", "two"] {
            machine.arm(&format!("testbox.action=backup testbox.job={job}"));
            assert_eq!(machine.boot().ending, REBOOT, "{host:?}");
        }
        assert_eq!(names.lock().unwrap().len(), 2, "one for each boot");
    }
}
