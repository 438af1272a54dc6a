//! The power cut of real disks: all writes and flushes of a file server's ext4, and of a disk that is restored, are
//! recorded; then every state that a cut may have left is looked at. Root only: loop devices, FUSE and mounts.
//!
//! `TESTBOX_LONG=1` looks at ten times as many states.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod replay;
mod world;

use replay::recorder::{Mounted, Recorder, run};
use replay::{Cut, WriteLog};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use testbox::block::RealDisk;
use testbox::block::mem::MemDisk;
use testbox::image::{BackupOptions, DiskAbout, Image, RestoreOptions, backup, restore};
use testbox::inventory::Identity;
use testbox::progress::Progress;
use testbox::share::DirFiles;
use testbox::store::record::Record;
use testbox::store::status::{JobState, Status};
use testbox::types::Delta;
use world::disk::{bootable, check_unbootable_or_right};
use world::{IP, Machine, REBOOT, contents_of, disk, sets_of};

fn long(count: u64) -> u64 {
    if std::env::var_os("TESTBOX_LONG").is_some() { count * 10 } else { count }
}

/// Every file below a folder by its path, and no link.
fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut found, mut todo) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                todo.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found
}

/// Content of the machine's disk in the set of this number.
fn content(generation: u64) -> Vec<u8> {
    contents_of(512 << 10, generation)
}

/// What of this the share must still know after a cut: 0 nothing, 1 the first set, 2 the second as well.
fn check_share(share: &BTreeMap<String, Vec<u8>>, done: u64, what: &str) {
    let sets = sets_of(share);
    for (generation, found) in &sets {
        assert!(
            found["sda"] == content(*generation),
            "P: {what}: set {generation} is not what was on the disk"
        );
    }
    // The folder itself says that a job is done.
    let status = share.get(&format!("{IP}/status.json")).and_then(|bytes| Status::parse(bytes));
    let said = match status.filter(|s| s.state == JobState::Done).and_then(|s| s.job).as_deref() {
        Some("one") => 1,
        Some("two") => 2,
        _ => 0,
    };
    for generation in 1..=done.max(said) {
        assert!(sets.contains_key(&generation), "G: {what}: set {generation} is lost: {:?}", share.keys());
    }
    let current = share.get(&format!("{IP}/backup.json")).and_then(|bytes| Record::parse(bytes).ok());
    let current = current.map_or(0, |record| record.generation);
    assert!(current >= done.max(said), "P: {what}: the current set is {current}");
}

/// The file server's disk after a cut, its file system mounted as at its next boot.
fn share_after(log: &WriteLog, cut: &Cut, size: u64, dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let path = dir.join("state");
    // A new file each time: where another mount namespace still has the last state, mount(8) would find its loop device,
    // and show that state again.
    let _ = fs::remove_file(&path);
    let file = File::create_new(&path).unwrap();
    file.set_len(size).unwrap();
    log.replay(cut, |at, bytes| file.write_all_at(bytes, at as u64).unwrap());
    drop(file);
    let mounted = Mounted::new(path.to_str().unwrap(), &dir.join("after"), "loop");
    tree(&mounted.0)
}

/// The server's disk is cut at any moment of a backup and of the one after it: what was said to be done is whole, and
/// the set before it stays.
#[test]
fn loop_a_server_that_is_cut_has_what_was_said_to_be_done() {
    let dir = tempfile::tempdir().unwrap();
    let size = 160 << 20;
    let path = dir.path().join("server");
    File::create(&path).unwrap().set_len(size).unwrap();
    let recorder = Recorder::new(dir.path(), &path);
    run("mke2fs", &["-q", "-t", "ext4", "-b", "4096", "-J", "size=4", "-E", "nodiscard", &recorder.path]);
    let mounted = Mounted::new(&recorder.path, &dir.path().join("share"), "rw");
    fs::write(mounted.0.join("testbox-backup"), "").unwrap();
    run("sync", &["-f", mounted.0.to_str().unwrap()]);
    let begin = recorder.log_len();

    let mut machine = Machine::new();
    machine.files = Some(Arc::new(DirFiles::open(&mounted.0).unwrap()));
    // The machine looks at what its boot server gives before it disarms, when all is said to be done.
    let (said, log) = (Arc::new(Mutex::new(Vec::new())), recorder.log().to_owned());
    let note = said.clone();
    *machine.on_fetch.lock().unwrap() =
        Some(Box::new(move || note.lock().unwrap().push(fs::metadata(&log).unwrap().len())));
    let mut done = Vec::new();
    for (action, job, generation) in [("backup", "one", 1), ("backup-again", "two", 2)] {
        machine.set_disks(vec![disk("sda S1 @1", content(generation))]);
        machine.arm(&format!("testbox.action={action} testbox.job={job}"));
        let seen = machine.boot();
        assert!(seen.ending == REBOOT && !machine.is_armed(), "{}", seen.console);
        done.push(said.lock().unwrap().drain(..).next().unwrap());
    }
    machine.files = None;
    drop(mounted);
    let log = recorder.end();
    // In memory: every mount of a state writes its journal back, and waits for that.
    let states = tempfile::tempdir_in("/dev/shm").unwrap();
    let [begin, one, two] = [begin, done[0], done[1]].map(|len| log.entries_in(len));
    let cuts: Vec<Cut> = log.cuts(begin, long(1), 4096);
    for cut in &cuts {
        let promised = [one, two].iter().filter(|done| cut.is_after(**done)).count() as u64;
        let what = format!("cut at {cut:?}, done at {one} and {two}");
        check_share(&share_after(&log, cut, size, states.path()), promised, &what);
    }
    let (entries, flushes) = log.counts();
    println!(
        "server: {} states replayed of {entries} writes with {flushes} flushes; nothing lost",
        cuts.len()
    );
    assert!(flushes > 50 && cuts.len() > 50 && begin < one && one < two);
}

fn restore_is_replayed(old: &[u8], delta: Delta) {
    let dir = tempfile::tempdir().unwrap();
    let wanted = bootable(3);
    let source = MemDisk::new("sda", wanted.clone(), 512);
    let about = DiskAbout::new("sda", Identity::default(), &source);
    let mut image = Vec::new();
    backup(&source, &mut image, &about, &BackupOptions::default(), &Progress::new()).unwrap();
    let image = Image::open(Arc::new(image)).unwrap();

    let path = dir.path().join("target");
    fs::write(&path, old).unwrap();
    let recorder = Recorder::new(dir.path(), &path);
    let disk = RealDisk::open_write(&recorder.path).unwrap();
    restore(&image, &disk, &RestoreOptions { delta, ..RestoreOptions::default() }, &Progress::new()).unwrap();
    drop(disk);
    let done = recorder.log_len();
    let log = recorder.end();
    let done = log.entries_in(done);
    let cuts = log.cuts(0, long(100), 512);
    for cut in &cuts {
        let found = log.disk(old, cut);
        let what = format!("{delta:?}, cut at {cut:?} of {done}");
        check_unbootable_or_right(&found, &wanted, old, &what);
        assert!(!cut.is_after(done) || found == wanted, "U: {what}: restored, and not right");
    }
    let (entries, flushes) = log.counts();
    println!(
        "restore ({delta:?}): {} states replayed of {entries} writes with {flushes} flushes",
        cuts.len()
    );
    assert!(flushes >= 4 && cuts.len() > 300);
}

/// A disk is cut at any moment of its restore.
#[test]
fn loop_a_disk_cut_in_its_restore_is_unbootable_or_right() {
    restore_is_replayed(&bootable(9), Delta::Auto);
    let mut nearly = bootable(3);
    for (at, len) in [(0, 400), ((1 << 20) + 512, 5000), (5 << 18, 100)] {
        nearly[at..at + len].iter_mut().for_each(|byte| *byte ^= 0x55);
    }
    restore_is_replayed(&nearly, Delta::Always);
}
