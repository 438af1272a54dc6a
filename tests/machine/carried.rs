//! What is published is there: an image that a new set carries over, or has just made, is opened and compared with the
//! record before the commit.

use crate::world::{IP, Machine, Seen, contents, disk};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use testbox::io::{ReadAt, SyncWrite};
use testbox::net::quota::Owner;
use testbox::share::{Files, MemFiles};

/// Set 1 of two disks; a backup of the second alone is armed, which carries the first one's image over.
fn carrying() -> Machine {
    let mut machine = Machine::new();
    machine.set_disks(vec![disk("sda S1 @1", contents(2, 1)), disk("sdb S2 @2", contents(2, 2))]);
    machine.arm("testbox.action=backup testbox.job=one");
    machine.boot();
    assert!(!machine.is_armed());
    machine.arm("testbox.action=backup-again testbox.job=two testbox.disks=sdb testbox.used=off");
    machine
}

#[track_caller]
fn assert_refused(machine: &Machine, seen: &Seen, file: &str, why: &str) {
    assert!(machine.is_armed(), "done, and {file} {why}: {}", seen.console);
    for part in ["[bad-image 52]", file, why] {
        assert!(seen.console.contains(part), "no '{part}' in {}", seen.console);
    }
}

type Damage = fn(&Machine);

fn with_image(machine: &Machine, change: impl FnOnce(&mut Vec<u8>)) {
    let mut image = machine.file("sda.raw.gz").unwrap();
    change(&mut image);
    machine.backup.put(&format!("{IP}/sda.raw.gz"), image);
}

const DAMAGES: [(Damage, &str); 9] = [
    (|m| m.backup.remove(&format!("{IP}/sda.raw.gz")).unwrap(), "is missing"),
    (|m| with_image(m, Vec::clear), "is damaged"),
    (|m| with_image(m, |image| image.truncate(8192)), "is damaged"),
    (|m| with_image(m, |image| image.truncate(image.len() - 1)), "is damaged"),
    (|m| with_image(m, |image| image.truncate(image.len() - 4096)), "is damaged"),
    (|m| with_image(m, |image| image.extend([0; 4096])), "is damaged"),
    (|m| with_image(m, |image| image[20] ^= 1), "is damaged"),
    // The image of the other disk: whole, and not this one.
    (|m| m.backup.put(&format!("{IP}/sda.raw.gz"), m.file("sdb.raw.gz").unwrap()), "is another image"),
    (|m| m.backup.put_special(&format!("{IP}/sda.raw.gz")), "is not a regular file"),
];

#[test]
fn a_carried_image_that_is_not_its_records_publishes_nothing() {
    for (n, (damage, why)) in DAMAGES.into_iter().enumerate() {
        let machine = carrying();
        let record = machine.file("backup.json");
        damage(&machine);
        let reads = || machine.disks.lock().unwrap()[1].bytes.log().len();
        let before = reads();
        let seen = machine.boot();
        assert_refused(&machine, &seen, "sda.raw.gz", why);
        assert!(machine.file("backup.json") == record, "row {n}: the set before was replaced");
        assert!(!machine.backup.tree().keys().any(|path| path.contains("history/")), "row {n}");
        assert_eq!(reads(), before, "row {n}: it shows before hours of imaging");
    }
}

/// The same while the other disk is imaged.
#[test]
fn a_carried_image_that_goes_meanwhile_publishes_nothing() {
    for (n, (damage, why)) in DAMAGES.into_iter().enumerate() {
        let machine: &'static Machine = Box::leak(Box::new(carrying()));
        let record = machine.file("backup.json");
        *machine.on_open.lock().unwrap() = Some(Box::new(move |_| damage(machine)));
        let seen = machine.boot();
        assert_refused(machine, &seen, "sda.raw.gz", why);
        assert!(machine.file("backup.json") == record, "row {n}: the set before was replaced");
    }
}

/// So for an image that was made and verified an hour ago, while the second disk was imaged.
#[test]
fn a_new_image_that_goes_before_the_commit_publishes_nothing() {
    let mut machine = carrying();
    machine.arm("testbox.action=backup-again testbox.job=two testbox.used=off");
    let machine: &'static Machine = Box::leak(Box::new(machine));
    let record = machine.file("backup.json");
    *machine.opened.lock().unwrap() = 0;
    *machine.on_open.lock().unwrap() = Some(Box::new(move |before| {
        if before == 1 {
            machine.backup.remove(&format!("{IP}/sda.raw.gz.part")).unwrap();
        }
    }));
    let seen = machine.boot();
    assert_refused(machine, &seen, "sda.raw.gz.part", "is missing");
    assert!(machine.file("backup.json") == record, "the set before was replaced");
}

#[test]
fn a_link_in_place_of_a_carried_image_is_not_followed() {
    let ways: [fn(&Path); 2] =
        [|image| symlink("kept", image).unwrap(), |image| fs::create_dir(image).unwrap()];
    for way in ways {
        let mut machine = carrying();
        let folder = machine.move_to_folder();
        fs::rename(folder.join("sda.raw.gz"), folder.join("kept")).unwrap();
        way(&folder.join("sda.raw.gz"));
        let record = fs::read(folder.join("backup.json")).unwrap();
        let seen = machine.boot();
        assert_refused(&machine, &seen, "sda.raw.gz", "is not a regular file");
        assert!(fs::read(folder.join("backup.json")).unwrap() == record);
    }
}

/// A file server that gives another whole image than the one that was written.
struct Swapping {
    files: MemFiles,
    /// Path of the file that is given as another.
    path: String,
    other: Arc<Vec<u8>>,
}

impl Files for Swapping {
    fn open(&self, path: &str) -> io::Result<Arc<dyn ReadAt>> {
        let there = self.files.open(path)?;
        Ok(if path == self.path { self.other.clone() } else { there })
    }
    fn create(&self, path: &str) -> io::Result<Box<dyn SyncWrite>> {
        self.files.create(path)
    }
    fn reopen(&self, path: &str) -> io::Result<Box<dyn SyncWrite>> {
        self.files.reopen(path)
    }
    fn append(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.files.append(path, bytes)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.files.rename(from, to)
    }
    fn hard_link(&self, from: &str, to: &str) -> io::Result<()> {
        self.files.hard_link(from, to)
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.files.remove(path)
    }
    fn make_dir(&self, path: &str) -> io::Result<()> {
        self.files.make_dir(path)
    }
    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.files.list(path)
    }
    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.files.sync_dir(path)
    }
    fn free_bytes(&self, path: &str) -> io::Result<u64> {
        self.files.free_bytes(path)
    }
    fn owner(&self, path: &str) -> io::Result<Owner> {
        self.files.owner(path)
    }
}

/// What is read back is whole, and proves nothing: it is not what was written.
#[test]
fn an_image_that_reads_back_as_another_whole_one_is_no_backup() {
    let mut machine = carrying();
    let path = format!("{IP}/sdb.raw.gz.part");
    for other in ["sda.raw.gz", "sdb.raw.gz"] {
        let other = Arc::new(machine.file(other).unwrap());
        let files = Swapping { files: machine.backup.clone(), path: path.clone(), other };
        machine.files = Some(Arc::new(files));
        machine.set_disks(vec![disk("sdb S2 @2", contents(2, 3))]);
        let record = machine.file("backup.json");
        let seen = machine.boot();
        assert_refused(&machine, &seen, "sdb.raw.gz.part", "is not the image that was written");
        assert!(machine.file("backup.json") == record, "{}", seen.console);
    }
}
