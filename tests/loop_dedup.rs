//! `testboxctl dedup` on file systems that share blocks, and on some that do not. Root only: loop devices and mounts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use testbox::block::mem::MemDisk;
use testbox::image::{BackupOptions, DiskAbout, Earlier, Image, MemberKind, backup_again};
use testbox::inventory::Identity;
use testbox::progress::Progress;
use testbox::share::{DirFiles, Files};
use testbox::store::record::{ImageRecord, Machine, Record, SetState};

const XFS: &[&str] = &["mkfs.xfs", "-q", "-m", "reflink=1"];
const BTRFS: &[&str] = &["mkfs.btrfs", "-q"];

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A backup share on a file system of its own, unmounted when dropped.
struct Share {
    dir: tempfile::TempDir,
    root: PathBuf,
}

impl Share {
    fn new(mkfs: &[&str]) -> Share {
        let dir = tempfile::tempdir().unwrap();
        let (file, root) = (dir.path().join("fs"), dir.path().join("mnt"));
        fs::File::create(&file).unwrap().set_len(400 << 20).unwrap();
        fs::create_dir(&root).unwrap();
        run(mkfs[0], &[&mkfs[1..], &[file.to_str().unwrap()]].concat());
        run("mount", &["-o", "loop", file.to_str().unwrap(), root.to_str().unwrap()]);
        fs::write(root.join("testbox-backup"), "").unwrap();
        fs::write(dir.path().join("settings.toml"), "").unwrap();
        Share { dir, root }
    }

    /// Publishes a set with an image of this disk; gives the path of the image.
    fn publish(&self, machine: &str, folder: &str, generation: u64, disk: &[u8]) -> PathBuf {
        let path = self.root.join(machine).join(folder);
        fs::create_dir_all(&path).unwrap();
        let (files, disk) = (DirFiles::open(&path).unwrap(), MemDisk::new("sda", disk.to_vec(), 512));
        let about = DiskAbout::new("sda", Identity::default(), &disk);
        let mut file = files.create("sda.raw.gz").unwrap();
        let (opts, earlier) = (BackupOptions::default(), Earlier::default());
        let written = backup_again(&disk, &mut *file, &about, &opts, &earlier, &Progress::new()).unwrap();
        file.sync().unwrap();
        let names = Machine { ip: machine.into(), hexip: String::new(), hostname: "tb".into() };
        let finished = Timestamp::from_second(1_800_000_000 + generation as i64).unwrap();
        let mut record = Record::new(generation, None, names, finished);
        record.images.push(ImageRecord {
            name: "sda".into(),
            identity: Identity::default(),
            location: String::new(),
            disk_size: 24 << 20,
            logical_block_size: 512,
            physical_block_size: 512,
            image_size: written.image_bytes,
            root_hash: written.root_hash,
            state: SetState::Complete,
            bad_ranges: Vec::new(),
            unreadable_bytes: 0,
            hidden_bytes: 0,
            partitions: Vec::new(),
            content: Default::default(),
            twin: false,
            carried: false,
        });
        files.write_atomic("backup.json", &record.to_bytes()).unwrap();
        path.join("sda.raw.gz")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_testboxctl"));
        command.current_dir(self.dir.path()).args(["--config", "settings.toml"]).args(words);
        command
    }

    fn dedup(&self, words: &[&str]) -> Output {
        self.command(&[&["dedup", "--backup-dir", self.root.to_str().unwrap()], words].concat())
            .output()
            .unwrap()
    }

    /// The same with `--json`, and its exit code.
    fn report(&self, words: &[&str]) -> (i32, Value) {
        let output = self.dedup(&[&["--json"], words].concat());
        let json = serde_json::from_slice(&output.stdout);
        (output.status.code().unwrap(), json.unwrap_or_else(|e| panic!("{e}: {output:?}")))
    }

    /// Bytes that are used on the file system.
    fn used(&self) -> u64 {
        run("sync", &["-f", self.root.to_str().unwrap()]);
        let about = rustix::fs::statvfs(&self.root).unwrap();
        (about.f_blocks - about.f_bfree) * about.f_frsize
    }

    /// Every file with its bytes and when it was changed last.
    fn snapshot(&self, images: &[&Path]) -> Vec<(Vec<u8>, std::time::SystemTime)> {
        let one = |path: &&Path| (fs::read(path).unwrap(), fs::metadata(path).unwrap().modified().unwrap());
        images.iter().map(one).collect()
    }

    /// The images are whole, and a restore gives these disks.
    fn prove(&self, images: &[(&Path, &[u8])]) {
        run("sync", &[]);
        fs::write("/proc/sys/vm/drop_caches", "1").unwrap();
        for (image, disk) in images {
            let target = self.dir.path().join("restored");
            let words = ["image", "restore", image.to_str().unwrap(), target.to_str().unwrap()];
            let done = self.command(&words).output().unwrap();
            assert!(done.status.success(), "{done:?}");
            assert!(fs::read(&target).unwrap() == *disk);
            fs::remove_file(&target).unwrap();
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.root).status();
    }
}

/// Bytes that no codec shortens by more than half.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for (i, word) in bytes.chunks_exact_mut(8).enumerate() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        word.copy_from_slice(&if i % 2 == 0 { state.rotate_left(32) } else { i as u64 }.to_le_bytes());
    }
    bytes
}

/// A disk, the same with something changed, and one with the same parts elsewhere; zeros in each.
fn disks() -> [Vec<u8>; 3] {
    let mut first = noise(1, 24 << 20);
    first[20 << 20..22 << 20].fill(0);
    let mut changed = first.clone();
    changed[9 << 20] ^= 1;
    let mut moved = first.clone();
    moved.rotate_left(8 << 20);
    [first, changed, moved]
}

/// The blocks of a file.
fn blocks(path: &Path) -> BTreeSet<u64> {
    let mut all = BTreeSet::new();
    for line in run("filefrag", &["-v", "-b4096", path.to_str().unwrap()]).lines() {
        let fields: Vec<&str> = line.split(':').map(str::trim).collect();
        if fields[0].parse::<u32>().is_ok() {
            let start: u64 = fields[2].split("..").next().unwrap().trim().parse().unwrap();
            all.extend(start..start + fields[3].parse::<u64>().unwrap());
        }
    }
    all
}

/// Where the first data member stands that an image has in common with another one.
fn common_member(a: &Path, b: &Path) -> [(u64, u64); 2] {
    let members = |path: &Path| -> Vec<_> {
        let files = DirFiles::open(path.parent().unwrap()).unwrap();
        let image = Image::open(files.open("sda.raw.gz").unwrap()).unwrap();
        let runs = image.runs().map(Result::unwrap).filter(|run| run.kind == MemberKind::Data);
        runs.map(|run| (run.member_hash, run.position, u64::from(run.member_length))).collect()
    };
    let (a, b) = (members(a), members(b));
    let (x, y) = a.iter().find_map(|x| Some((x, b.iter().find(|y| y.0 == x.0)?))).unwrap();
    [(x.1, x.2), (y.1, y.2)]
}

#[test]
fn loop_dedup_shares_what_is_equal_and_changes_no_byte() {
    let [first, changed, moved] = disks();
    for mkfs in [XFS, BTRFS] {
        let share = Share::new(mkfs);
        let images = [
            share.publish("10.0.0.1", "history/1", 1, &first),
            share.publish("10.0.0.1", "", 2, &changed),
            share.publish("10.0.0.2", "", 3, &moved),
        ];
        let paths: Vec<&Path> = images.iter().map(PathBuf::as_path).collect();
        let (before, used) = (share.snapshot(&paths), share.used());

        let (code, dry) = share.report(&["--dry-run"]);
        let could = dry["total"]["not_shared_bytes"].as_u64().unwrap();
        assert_eq!(
            (code, dry["total"]["newly_shared_bytes"].as_u64(), share.used()),
            (0, Some(0), used),
            "{dry}"
        );
        assert!(could > 20 << 20, "{dry}");

        let (code, done) = share.report(&[]);
        let total = &done["total"];
        assert_eq!((code, &done["refused"], total["images"].as_u64()), (0, &Value::Null, Some(3)), "{done}");
        assert_eq!(
            (total["newly_shared_bytes"].as_u64(), total["not_shared_bytes"].as_u64()),
            (Some(could), Some(0))
        );
        assert_eq!(done["machines"][0]["ip"], "10.0.0.1", "{done}");
        assert!(share.snapshot(&paths) == before, "no byte and no time of any image has changed");
        let freed = used - share.used();
        assert!(freed + (1 << 20) > could, "{mkfs:?}: {freed} of {could}");
        let all =
            |images: &[PathBuf]| images.iter().map(|image| blocks(image).len() as u64 * 4096).sum::<u64>();
        let once = images.iter().flat_map(|image| blocks(image)).collect::<BTreeSet<_>>().len() as u64 * 4096;
        assert_eq!(all(&images) - once, could, "{mkfs:?}");

        let (code, again) = share.report(&[]);
        let total = &again["total"];
        assert_eq!(
            (code, total["shared_before_bytes"].as_u64(), total["newly_shared_bytes"].as_u64()),
            (0, Some(could), Some(0)),
            "{again}"
        );
        // What is new is compared with what was there.
        let new = share.publish("10.0.0.3", "", 4, &first);
        let text = String::from_utf8(share.dedup(&[]).stdout).unwrap();
        assert!(text.contains("10.0.0.3: 1 image, ") && text.contains("10.0.0.2: 1 image, "), "{text}");
        assert!(blocks(&new).intersection(&blocks(&images[0])).count() * 4096 > 10 << 20);
        share.prove(&[(&images[0], &first), (&images[1], &changed), (&images[2], &moved), (&new, &first)]);
    }
}

#[test]
fn loop_dedup_is_refused_in_words_where_blocks_are_not_shared() {
    let [first, changed, _] = disks();
    let rows: [(&[&str], &str); 2] = [
        (&["mkfs.ext4", "-q"], "its file system (ext4) shares no blocks"),
        (&["mkfs.xfs", "-q", "-m", "reflink=0"], "its XFS was made without reflink"),
    ];
    for (mkfs, why) in rows {
        let share = Share::new(mkfs);
        let images = [share.publish("10.0.0.1", "", 1, &first), share.publish("10.0.0.2", "", 2, &changed)];
        let paths: Vec<&Path> = images.iter().map(PathBuf::as_path).collect();
        let before = share.snapshot(&paths);
        let refused = share.dedup(&[]);
        let (out, err) = (String::from_utf8_lossy(&refused.stdout), String::from_utf8_lossy(&refused.stderr));
        assert_eq!(refused.status.code(), Some(1), "{out}{err}");
        assert!(err.contains(why) && err.contains("reflink=1") && err.contains("btrfs"), "{err}");
        assert!(out.contains("10.0.0.2: 1 image") && out.contains("MB could be shared"), "{out}");
        assert!(share.snapshot(&paths) == before);
        // A dry run tells it too, as far as the file system says it unasked.
        let dry = share.dedup(&["--dry-run"]);
        assert_eq!(dry.status.code(), Some(if mkfs[0] == "mkfs.ext4" { 1 } else { 0 }), "{dry:?}");
    }
}

#[test]
fn loop_dedup_names_a_damaged_member_and_does_not_share_it() {
    use std::os::unix::fs::FileExt;
    let [first, changed, _] = disks();
    for mkfs in [XFS, BTRFS] {
        for bad in [0, 1] {
            let share = Share::new(mkfs);
            let images =
                [share.publish("10.0.0.1", "", 1, &first), share.publish("10.0.0.2", "", 2, &changed)];
            let places = common_member(&images[0], &images[1]);
            let (at, length) = places[bad];
            let file = fs::File::options().read(true).write(true).open(&images[bad]).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, at + length / 2).unwrap();
            file.write_all_at(&[byte[0] ^ 1], at + length / 2).unwrap();
            file.sync_all().unwrap();
            let (code, report) = share.report(&[]);
            let damaged = report["damaged"].as_array().unwrap();
            assert_eq!((code, damaged.len()), (1, 1), "{report}");
            let text = damaged[0].as_str().unwrap();
            assert!(
                text.contains(images[bad].to_str().unwrap()) && text.contains(&format!("(byte {at} ")),
                "{text}"
            );
            assert!(report["total"]["newly_shared_bytes"].as_u64().unwrap() > 10 << 20, "{report}");
            let [good, ours] = [1 - bad, bad].map(|n| blocks(&images[n]));
            assert!(good.intersection(&ours).count() > 1000);
            let good_disk = if bad == 0 { &changed } else { &first };
            share.prove(&[(&images[1 - bad], good_disk)]);
        }
    }
}

#[test]
fn loop_dedup_leaves_as_many_copies_as_are_asked_for() {
    let [first, _, _] = disks();
    let share = Share::new(XFS);
    let images: Vec<PathBuf> =
        (1..=4).map(|n| share.publish(&format!("10.0.0.{n}"), "", n, &first)).collect();
    let one = blocks(&images[0]).len();
    let different = || images.iter().flat_map(|image| blocks(image)).collect::<BTreeSet<_>>().len();
    // Header, index and footer are never shared.
    for (copies, words) in [(3, ["--copies", "3"]), (2, ["--copies", "2"]), (1, ["--copies", "1"])] {
        let (code, report) = share.report(&words);
        assert_eq!(code, 0, "{report}");
        assert!(
            (copies * one..copies * one + 100).contains(&different()),
            "{copies}: {} of {one}",
            different()
        );
    }
    let proofs: Vec<(&Path, &[u8])> = images.iter().map(|image| (image.as_path(), &first[..])).collect();
    share.prove(&proofs);
}

/// SIGKILL at moments of chance; what is there is whole, and the next run ends it.
#[test]
fn loop_dedup_that_is_killed_harms_nothing() {
    let [first, changed, moved] = disks();
    for mkfs in [XFS, BTRFS] {
        let share = Share::new(mkfs);
        let disks = [&first, &changed, &moved];
        let images: Vec<PathBuf> =
            (1..).zip(&disks).map(|(n, disk)| share.publish(&format!("10.0.0.{n}"), "", n, disk)).collect();
        for ms in [5, 20, 40, 60, 80] {
            let words = ["dedup", "--backup-dir", share.root.to_str().unwrap()];
            let mut child =
                share.command(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(ms));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let (code, report) = share.report(&[]);
        let total = &report["total"];
        let shared =
            total["shared_before_bytes"].as_u64().unwrap() + total["newly_shared_bytes"].as_u64().unwrap();
        assert!(code == 0 && shared > 20 << 20, "{report}");
        let proofs: Vec<(&Path, &[u8])> =
            images.iter().zip(disks).map(|(image, disk)| (image.as_path(), &disk[..])).collect();
        share.prove(&proofs);
    }
}

/// A byte of the disk below the file system changes: it is in every image that has this block.
#[test]
fn loop_verify_lists_all_sets_that_a_bad_block_belongs_to() {
    use std::os::unix::fs::FileExt;
    let [first, changed, _] = disks();
    let share = Share::new(XFS);
    let images = [
        share.publish("10.0.0.1", "history/1", 1, &first),
        share.publish("10.0.0.1", "", 2, &changed),
        share.publish("10.0.0.2", "", 3, &first),
        share.publish("10.0.0.3", "", 4, &noise(9, 24 << 20)),
    ];
    let verify = |n: usize, words: &[&str]| {
        let words = [&["image", "verify", images[n].to_str().unwrap()], words].concat();
        let done = share.command(&words).output().unwrap();
        (done.status.code().unwrap(), String::from_utf8(done.stderr).unwrap())
    };
    assert_eq!(share.report(&[]).0, 0);
    let all: Vec<BTreeSet<u64>> = images.iter().map(|image| blocks(image)).collect();
    let has = |n: usize, block: &u64| all[n].contains(block);
    let in_all = *all[1].iter().find(|block| has(0, block) && has(2, block)).unwrap();
    let in_one = *all[1].iter().filter(|block| !has(0, block)).nth(3).unwrap();
    let disk = fs::File::options().read(true).write(true).open(share.dir.path().join("fs")).unwrap();
    let flip = |block: u64| {
        let mut byte = [0];
        disk.read_exact_at(&mut byte, block * 4096 + 2000).unwrap();
        disk.write_all_at(&[byte[0] ^ 1], block * 4096 + 2000).unwrap();
        disk.sync_all().unwrap();
        fs::write("/proc/sys/vm/drop_caches", "1").unwrap();
    };
    flip(in_all);
    for words in [&[][..], &["--scrub"]] {
        let (code, text) = verify(1, words);
        assert!(code == 1 && text.contains("damaged at byte") && text.contains("the same blocks"), "{text}");
        assert!(
            text.contains("10.0.0.1 set 1, sda.raw.gz") && text.contains("10.0.0.2 set 3, sda.raw.gz"),
            "{text}"
        );
        assert!(!text.contains("10.0.0.1 set 2") && !text.contains("10.0.0.3"), "{text}");
        assert_eq!([0, 2, 3].map(|n| verify(n, words).0), [1, 1, 0]);
    }
    flip(in_all);
    flip(in_one);
    let (code, text) = verify(1, &[]);
    assert!(code == 1 && text.contains("no other set of this share has the same blocks"), "{text}");
    assert_eq!(verify(0, &[]).0, 0);
}
