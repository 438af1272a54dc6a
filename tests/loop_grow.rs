//! A restore onto a larger disk whose last partition grows with what is in it: the tools of this system as those of the NFS
//! root, on a real block device. Root only.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "world/mod.rs"]
mod world;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use testbox::agent::Mode;
use testbox::block::RealDisk;
use world::{Machine, REBOOT, disk};

const MIB: u64 = 1 << 20;
/// Where the last partition begins, and where it ends on the imaged disk and on the larger one.
const START: u64 = 8 * MIB;
const END: u64 = 216 * MIB;
const OLD: u64 = 220 * MIB;
const NEW: u64 = 512 * MIB;
const NEW_END: u64 = 511 * MIB;

/// Runs a line of shell, in which $DEV is the device or file; what it says.
fn shell(line: &str, device: &str) -> String {
    let out = Command::new("bash").args(["-o", "pipefail", "-ec", line]).env("DEV", device).output().unwrap();
    let said = [out.stdout, out.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(out.status.success(), "{line}: {}\n{said}", out.status);
    said
}

/// A loop device over a part of a file, or of a device; detached when it is dropped.
struct Loop(String);

impl Loop {
    fn new(file: &Path, from: u64, bytes: u64) -> Loop {
        let line = format!("losetup --find --show --offset {from} --sizelimit {bytes} \"$DEV\"");
        Loop(shell(&line, file.to_str().unwrap()).trim().to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

/// The root of this system, without what is mounted in it, as the NFS root; unmounted when it is dropped.
struct Root(PathBuf);

impl Root {
    fn new(at: PathBuf) -> Root {
        fs::create_dir(&at).unwrap();
        shell("mount --bind / \"$DEV\" && mount --make-private \"$DEV\"", at.to_str().unwrap());
        Root(at)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--recursive", "--lazy"]).arg(&self.0).status();
    }
}

/// One kind of file system: how it is made with files of `$TREE` in it, how their checksums are read, and what finds it clean.
struct Row {
    name: &'static str,
    make: &'static str,
    sums: &'static str,
    clean: &'static str,
    /// Bytes of the file system by its own tool.
    size: &'static str,
}

/// Mounted read-only on a folder of its own: the sums of all files.
macro_rules! mounted {
    ($kind:literal) => {
        concat!(
            "d=$(mktemp -d); mount -o ro -t ",
            $kind,
            " \"$DEV\" \"$d\"; (cd \"$d\" && find . -type f -exec sha256sum {} + | sort); umount \"$d\"; rmdir \"$d\""
        )
    };
}

const ROWS: [Row; 4] = [
    Row {
        name: "ext4",
        make: "mke2fs -q -F -t ext4 -d \"$TREE\" \"$DEV\"",
        sums: mounted!("ext4"),
        clean: "e2fsck -f -n \"$DEV\"",
        size: "dumpe2fs -h \"$DEV\" 2>/dev/null | awk '/^Block count/ {n = $3} /^Block size/ {print n * $3}'",
    },
    Row {
        name: "xfs",
        make: "mkfs.xfs -q -f --unsupported \"$DEV\"; d=$(mktemp -d); mount -t xfs \"$DEV\" \"$d\"; cp -r \"$TREE\"/. \"$d\"; \
               umount \"$d\"; rmdir \"$d\"",
        sums: mounted!("xfs"),
        clean: "xfs_repair -n \"$DEV\"",
        size: "xfs_db -r -c 'sb 0' -c 'p dblocks blocksize' \"$DEV\" | awk '{n[NR] = $3} END {print n[1] * n[2]}'",
    },
    Row {
        name: "btrfs",
        make: "mkfs.btrfs -q -f --rootdir \"$TREE\" \"$DEV\"",
        sums: mounted!("btrfs"),
        clean: "btrfs check --readonly \"$DEV\"",
        size: "btrfs inspect-internal dump-super \"$DEV\" | awk '$1 == \"dev_item.total_bytes\" {print $2}'",
    },
    Row {
        name: "ntfs",
        make: "mkntfs -q -Q -F \"$DEV\"; for f in \"$TREE\"/*; do ntfscp -q \"$DEV\" \"$f\" \"${f##*/}\"; done",
        sums: "for f in a b c; do ntfscat -f \"$DEV\" $f 2>/dev/null | sha256sum; done",
        clean: "ntfsresize --info --force --no-progress-bar \"$DEV\"",
        size: "ntfsresize --info --force --no-progress-bar \"$DEV\" | awk '/^Current volume size/ {print $4}'",
    },
];

/// A disk of 220 MiB with this in its last partition, and the sums of its files.
fn made(row: &Row, dir: &Path) -> (Vec<u8>, String) {
    let (file, tree) = (dir.join("old"), dir.join("tree"));
    File::create(&file).unwrap().set_len(OLD).unwrap();
    fs::create_dir_all(&tree).unwrap();
    for (name, len) in [("a", 5u32), ("b", 3_000_000), ("c", 40_000)] {
        let bytes: Vec<u8> = (0..len).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        fs::write(tree.join(name), bytes).unwrap();
    }
    shell("sgdisk -n1:2048:4095 -n2:16384:442367 -c2:data \"$DEV\"", file.to_str().unwrap());
    let part = Loop::new(&file, START, END - START);
    shell(&format!("export TREE={}; {}", tree.display(), row.make), &part.0);
    let sums = shell(row.sums, &part.0);
    drop(part);
    (fs::read(&file).unwrap(), sums)
}

fn size(row: &Row, device: &str) -> u64 {
    shell(row.size, device).trim().parse().unwrap()
}

/// The next boot has this disk.
fn boot(machine: &mut Machine, root: &Root, device: &str, words: &str) -> String {
    let opened = RealDisk::open_write(device).unwrap();
    *machine.real.lock().unwrap() = Some(Arc::new(opened));
    machine.arm(words);
    let seen = machine.boot_as(&Mode::NfsRoot(root.0.clone()));
    *machine.real.lock().unwrap() = None;
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    assert_eq!(machine.status().code, None, "{}", seen.console);
    machine.status().notes.join("\n")
}

#[test]
fn loop_each_file_system_grows_by_its_tool_and_is_clean() {
    for row in &ROWS {
        let dir = tempfile::tempdir().unwrap();
        let (image, sums) = made(row, dir.path());
        assert!(sums.lines().count() == 3, "{}: {sums}", row.name);
        let mut machine = Machine::new();
        machine.set_disks(vec![disk("sda S1 @1", image)]);
        machine.arm("testbox.action=backup testbox.job=one");
        assert_eq!(machine.boot().ending, REBOOT);

        let new = dir.path().join("new");
        // What an earlier use of the disk has left at its new end.
        let file = File::create(&new).unwrap();
        file.set_len(NEW).unwrap();
        for mib in 300..NEW / MIB {
            file.write_all_at(&[0xa5; MIB as usize], mib * MIB).unwrap();
        }
        let target = Loop::new(&new, 0, NEW);
        let root = Root::new(dir.path().join("root"));
        machine.system.run_for_real(root.0.clone());
        let mut listed = disk("sda S1 @1", Vec::new());
        listed.disk.size = NEW;
        listed.disk.path = target.0.clone().into();
        machine.set_disks(vec![listed]);
        for round in ["first", "again"] {
            let words = format!("testbox.action=restore testbox.grow=last testbox.job={round}");
            let notes = boot(&mut machine, &root, &target.0, &words);
            assert!(notes.contains(&format!("the {} has grown", row.name)), "{}: {notes}", row.name);
            let notes =
                boot(&mut machine, &root, &target.0, &format!("testbox.action=verify testbox.job=v{round}"));
            assert!(
                notes.contains("GROWN: sda is what") && !notes.contains("DIFFERS"),
                "{}: {notes}",
                row.name
            );
            assert!(shell("sgdisk -v \"$DEV\"", &target.0).contains("No problems found"));
            let part = Loop::new(Path::new(&target.0), START, NEW_END - START);
            shell(row.clean, &part.0);
            let found = size(row, &part.0);
            assert!(found <= NEW_END - START && found > NEW_END - START - 2 * MIB, "{}: {found}", row.name);
            assert_eq!(shell(row.sums, &part.0), sums, "{}, {round}", row.name);
        }
        let left = shell("losetup --noheadings --list --output BACK-FILE", "");
        assert!(!left.lines().any(|line| line.trim() == target.0), "no device is left over the disk: {left}");
        assert!(!fs::read_to_string("/proc/self/mounts").unwrap().contains("testbox-grow"), "it is mounted");
    }
}
