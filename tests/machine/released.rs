//! Shares that earlier releases have made stay readable: `tests/released/<version>/` has one of each release whose format was new.

use crate::world::{IP, Machine, NewMachine, REBOOT, TestDisk, contents_of, disk};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use testbox::block::mem::{DiskFault, DiskOp};
use testbox::signature::{SET_NAMESPACE, SecretKey, Trust, Verdict};
use testbox::types::SetHash;

/// What each image holds: its path, and the BLAKE3 of the disk.
const EXPECTED: &str = "expected";

crate::over_both_kinds! {
    both: {
        a_share_of_each_release_is_restored,
        a_share_of_each_release_is_gone_on_with,
    },
    by_nfs: {
        /// Nothing of a machine.
        a_share_of_each_release_is_read,
        /// The same.
        a_signature_of_each_release_counts,
    },
}

fn releases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/released");
    let mut all: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    assert!(!all.is_empty());
    all
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The machine whose share it is, with blank disks of the same identities.
fn machine(release: &Path, new: NewMachine) -> Machine {
    let machine = new();
    for path in files(release).into_iter().filter(|path| *path != release.join(EXPECTED)) {
        let name = path.strip_prefix(release).unwrap().to_str().unwrap();
        machine.backup.put(name, fs::read(&path).unwrap());
    }
    let record = machine.record();
    let blank = record.images.iter().map(|image| {
        let serial = image.identity.serial.as_deref().unwrap();
        disk(&format!("{} {serial} {}", image.name, image.location), vec![0xa5; image.disk_size as usize])
    });
    machine.set_disks(blank.collect());
    machine
}

fn expected(release: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(release.join(EXPECTED)).unwrap();
    text.lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(path, hash)| (path.into(), hash.into()))
        .collect()
}

fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_string()
}

/// By this release, and by plain gzip.
fn a_share_of_each_release_is_read(new: NewMachine) {
    for release in releases() {
        let machine = machine(&release, new);
        for (path, wanted) in expected(&release) {
            let mut plain = Vec::new();
            let file = machine.file(&path).unwrap();
            flate2::read::MultiGzDecoder::new(&file[..]).read_to_end(&mut plain).unwrap();
            assert_eq!(hash(&plain), wanted, "{}: {path}", release.display());
            assert_eq!(
                machine.image(&path).map(|disk| hash(&disk)),
                Some(wanted),
                "{}: {path}",
                release.display()
            );
        }
        assert!(machine.good_sets().len() > 1, "{}", release.display());
    }
}

fn assert_disks(machine: &Machine, release: &Path, folder: &str) {
    for (path, wanted) in expected(release) {
        let Some(name) = path.strip_prefix(folder).and_then(|name| name.strip_suffix(".raw.gz")) else {
            continue;
        };
        if !name.contains('/') {
            assert_eq!(hash(&machine.disk_bytes(name)), wanted, "{}: {path}", release.display());
        }
    }
}

/// The current set, and an older one that is asked for.
fn a_share_of_each_release_is_restored(new: NewMachine) {
    for release in releases() {
        let mut machine = machine(&release, new);
        machine.arm("testbox.action=restore testbox.job=r");
        let seen = machine.boot();
        assert_eq!((seen.ending, machine.is_armed()), (REBOOT, false), "{}", seen.console);
        assert_disks(&machine, &release, "");
        let older = SetHash::of(&machine.file("history/1/backup.json").unwrap());
        machine.arm(&format!(
            "testbox.action=restore testbox.job=s testbox.degraded=restore testbox.set={older}"
        ));
        let seen = machine.boot();
        assert_eq!((seen.ending, machine.is_armed()), (REBOOT, false), "{}", seen.console);
        assert_disks(&machine, &release, "history/1/");
    }
}

/// The next backup takes what it can from the set, and keeps it whole.
fn a_share_of_each_release_is_gone_on_with(new: NewMachine) {
    for release in releases() {
        let mut machine = machine(&release, new);
        machine.arm("testbox.action=restore testbox.job=r");
        assert_eq!(machine.boot().ending, REBOOT);
        let before = machine.good_sets();
        let current = machine.record().generation;
        machine.arm("testbox.action=backup-again testbox.job=n testbox.keep=99");
        let seen = machine.boot();
        assert_eq!((seen.ending, machine.is_armed()), (REBOOT, false), "{}", seen.console);
        let after = machine.good_sets();
        assert_eq!(after.get(&(current + 1)), before.get(&current), "{}", seen.console);
        assert!(before.iter().all(|(number, set)| after.get(number) == Some(set)), "{}", seen.console);
        assert!(seen.console.contains(" 0 compressed"), "it is taken over: {}", seen.console);
    }
}

fn admin() -> SecretKey {
    SecretKey::new(&[1; 32], "admin").unwrap()
}

fn a_signature_of_each_release_counts(new: NewMachine) {
    let trust = Trust::new([("lab.pub", admin().public().line().as_bytes())], true);
    for release in releases() {
        let machine = machine(&release, new);
        let (record, signature) =
            (machine.file("backup.json").unwrap(), machine.file("backup.json.sig").unwrap());
        assert!(matches!(trust.of_set(&record, Some(&signature)), Verdict::By(_)), "{}", release.display());
    }
}

fn small(kib: usize, seed: u64) -> Vec<u8> {
    contents_of(kib << 10, seed)
}

fn disks(sda: Vec<u8>) -> Vec<TestDisk> {
    vec![disk("sda S1 @1", sda), disk("sdb S2 @2", small(32, 2))]
}

/// What the share of a release has: a degraded set in its history; a current one that took over what did not change, and is signed.
fn share_of_this_release() -> Vec<(String, Vec<u8>)> {
    let mut machine = Machine::new();
    let first = disks(small(96, 1));
    first[0].bytes.inject(DiskOp::Read, 8192..12_288, DiskFault::Errno(libc::EIO), u64::MAX);
    machine.set_disks(first);
    machine.arm("testbox.action=backup testbox.job=first testbox.bad-sectors=degraded");
    assert_eq!(machine.boot().ending, REBOOT);
    let mut changed = small(96, 1);
    changed[40_000..41_000].fill(7);
    machine.set_disks(disks(changed));
    machine.arm("testbox.action=backup-again testbox.job=second");
    assert_eq!(machine.boot().ending, REBOOT);
    let signature = admin().sign(SET_NAMESPACE, &machine.file("backup.json").unwrap());
    machine.backup.put(&format!("{IP}/backup.json.sig"), signature.to_file());
    let image = |path: &str| {
        let name = path.strip_prefix(&format!("{IP}/")).filter(|name| name.ends_with(".raw.gz"))?;
        Some(format!("{name} {}\n", hash(&machine.image(name).unwrap())))
    };
    let tree = machine.backup.tree();
    let expected: String = tree.keys().filter_map(|path| image(path)).collect();
    tree.into_iter().chain([(EXPECTED.to_owned(), expected.into_bytes())]).collect()
}

/// The folder of this release has what its programs write today. One that is not there yet is made where this is set:
/// `TESTBOX_RELEASE=1 cargo test --all-features --test machine -- released::`.
#[test]
fn this_release_has_its_share_with_the_same_files() {
    let release =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/released").join(env!("CARGO_PKG_VERSION"));
    let share = share_of_this_release();
    if std::env::var_os("TESTBOX_RELEASE").is_some() && !release.exists() {
        for (path, bytes) in &share {
            let to = release.join(path);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::write(to, bytes).unwrap();
        }
    }
    for (path, _) in &share {
        assert!(release.join(path).is_file(), "{} is not there", release.join(path).display());
    }
}
