//! Real block devices: loop devices over files, and a faulty disk. Root only; every name begins with `loop_`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use testbox::block::{BlockDevice, OpenError, RealDisk};
use testbox::image::{
    BackupOptions, DiskAbout, ErrorKind, Image, ImageError, ImageOp, RestoreOptions, backup, restore, verify,
    verify_against,
};
use testbox::inventory::Identity;
use testbox::progress::Progress;
use testbox::used::{self, Used};

fn run(program: &str, args: &[&str]) -> Output {
    let output = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// A loop device over a file, detached when dropped.
struct Loop {
    path: String,
}

impl Loop {
    fn new(file: &Path, block: u32) -> Loop {
        let block = block.to_string();
        let args = ["--find", "--show", "--sector-size", &block, file.to_str().unwrap()];
        let path = String::from_utf8(run("losetup", &args).stdout).unwrap().trim().to_owned();
        assert!(path.starts_with("/dev/loop"), "{path}");
        Loop { path }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        File::open(&self.path).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn detach(&mut self) {
        let path = std::mem::take(&mut self.path);
        if !path.is_empty() {
            let _ = Command::new("losetup").args(["--detach", &path]).status();
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.detach();
    }
}

/// A file of `mib` MiB full of `byte`.
fn file(dir: &Path, name: &str, mib: usize, byte: u8) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, vec![byte; mib << 20]).unwrap();
    path
}

/// An ext4 with something in it.
/// Always the same files: what lies where decides whether a gap is small enough to stand in a data run, where a restore
/// leaves it whatever it was told of unallocated space.
fn ext4(dir: &Path, name: &str, mib: usize) -> PathBuf {
    let (path, files) = (file(dir, name, mib, 0), dir.join(format!("{name}-files")));
    fs::create_dir(&files).unwrap();
    for n in 0..40u8 {
        fs::write(files.join(n.to_string()), vec![n + 1; 80 << 10]).unwrap();
    }
    run("mkfs.ext4", &["-q", "-d", files.to_str().unwrap(), path.to_str().unwrap()]);
    path
}

fn image_of(disk: &RealDisk) -> Result<Image, ImageError> {
    let mut bytes = Vec::new();
    let about = DiskAbout::new("sda", Identity::default(), disk);
    backup(disk, &mut bytes, &about, &BackupOptions::default(), &Progress::default())?;
    Image::open(Arc::new(bytes))
}

#[test]
fn loop_a_disk_goes_round_through_direct_io() {
    let dir = tempfile::tempdir().unwrap();
    let source = Loop::new(&ext4(dir.path(), "source", 96), 512);
    let disk = RealDisk::open_read(&source.path).unwrap();
    let image = image_of(&disk).unwrap();
    verify(&image, 0, &Progress::default()).unwrap();
    verify_against(&image, &disk, 0, &Progress::default()).unwrap();

    // Larger than the image: what lies behind it must not matter.
    let target = Loop::new(&file(dir.path(), "target", 100, 0xa5), 512);
    let disk = RealDisk::open_write(&target.path).unwrap();
    restore(&image, &disk, &RestoreOptions::default(), &Progress::default()).unwrap();
    drop(disk);
    assert!(target.bytes()[..96 << 20] == source.bytes()[..]);
    run("fsck.ext4", &["-fn", &target.path]);
}

/// Who has a file system mounted may use what is free by the time that it is passed over.
#[test]
fn loop_a_disk_in_use_is_imaged_whole_and_a_free_one_is_held() {
    let dir = tempfile::tempdir().unwrap();
    let source = Loop::new(&ext4(dir.path(), "source", 32), 512);
    let mount_point = dir.path().join("mnt");
    fs::create_dir(&mount_point).unwrap();
    let mount = ["-o", "ro", &source.path, mount_point.to_str().unwrap()];
    run("mount", &mount);
    let disk = RealDisk::open_source(&source.path).unwrap();
    let is_exclusive = disk.is_exclusive();
    let (map, lines) = used::survey(&disk, Used::Auto, &Progress::default());
    drop(disk);
    run("umount", &[mount_point.to_str().unwrap()]);
    assert!(!is_exclusive && map.free.is_empty());
    assert!(lines[0].contains("all of it is imaged: it is in use"), "{lines:?}");

    let disk = RealDisk::open_source(&source.path).unwrap();
    assert!(disk.is_exclusive());
    let mounted = Command::new("mount").args(mount).output().unwrap();
    if mounted.status.success() {
        run("umount", &[mount_point.to_str().unwrap()]);
    }
    assert!(!mounted.status.success(), "nobody mounts it meanwhile");
}

#[test]
fn loop_a_disk_in_use_is_refused_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let target = Loop::new(&ext4(dir.path(), "target", 16), 512);
    let mount_point = dir.path().join("mnt");
    fs::create_dir(&mount_point).unwrap();
    run("mount", &["-o", "ro", &target.path, mount_point.to_str().unwrap()]);
    let before = target.bytes();
    let opened = RealDisk::open_write(&target.path);
    let after = target.bytes();
    run("umount", &[mount_point.to_str().unwrap()]);
    assert!(matches!(opened, Err(OpenError::Busy { .. })));
    assert!(before == after);
    assert!(RealDisk::open_write(&target.path).is_ok());
}

#[test]
fn loop_a_read_only_disk_is_refused_by_name_before_any_write() {
    let dir = tempfile::tempdir().unwrap();
    let target = Loop::new(&file(dir.path(), "target", 1, 0xa5), 512);
    run("blockdev", &["--setro", &target.path]);
    let opened = RealDisk::open_write(&target.path);
    run("blockdev", &["--setrw", &target.path]);
    let error = opened.unwrap_err();
    assert!(matches!(error, OpenError::ReadOnly { .. }), "{error:?}");
    assert!(error.to_string().contains(&target.path) && error.to_string().contains("read-only"), "{error}");
    assert!(RealDisk::open_write(&target.path).is_ok());
    assert!(target.bytes().iter().all(|b| *b == 0xa5));
}

#[test]
fn loop_a_disk_that_shrinks_or_grows_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let backing = file(dir.path(), "source", 4, 1);
    let source = Loop::new(&backing, 512);
    let disk = RealDisk::open_read(&source.path).unwrap();
    for mib in [2, 8] {
        File::options().write(true).open(&backing).unwrap().set_len(mib << 20).unwrap();
        run("losetup", &["--set-capacity", &source.path]);
        let failed = image_of(&disk).map(|_| ()).unwrap_err();
        assert_eq!(failed.kind, ErrorKind::Resized, "{failed}");
    }
}

#[test]
fn loop_other_block_sizes_and_small_disks_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let source = Loop::new(&ext4(dir.path(), "source", 16), 512);
    let image = image_of(&RealDisk::open_read(&source.path).unwrap()).unwrap();
    for (name, mib, block) in [("4kn", 16, 4096), ("small", 15, 512)] {
        let target = Loop::new(&file(dir.path(), name, mib, 0xa5), block);
        let disk = RealDisk::open_write(&target.path).unwrap();
        assert_eq!(disk.logical_block_size(), block);
        let refused = restore(&image, &disk, &RestoreOptions::default(), &Progress::default());
        assert!(matches!(&refused, Err(e) if e.kind == ErrorKind::Refused), "{name}: {refused:?}");
        assert!(target.bytes().iter().all(|b| *b == 0xa5), "{name}");
    }
}

#[test]
fn loop_disks_with_large_blocks_go_round() {
    let dir = tempfile::tempdir().unwrap();
    let source = Loop::new(&ext4(dir.path(), "source", 16), 4096);
    let image = image_of(&RealDisk::open_read(&source.path).unwrap()).unwrap();
    let target = Loop::new(&file(dir.path(), "target", 16, 0xa5), 4096);
    let disk = RealDisk::open_write(&target.path).unwrap();
    restore(&image, &disk, &RestoreOptions::default(), &Progress::default()).unwrap();
    assert!(target.bytes() == source.bytes());
}

#[test]
fn loop_testboxctl_overwrites_a_block_device_only_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let source = Loop::new(&ext4(dir.path(), "source", 16), 512);
    let target = Loop::new(&file(dir.path(), "target", 16, 0xa5), 512);
    let image = dir.path().join("sda.raw.gz");
    let testboxctl =
        |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_testboxctl")).args(args).output().unwrap();
    let made = testboxctl(&["image", "create", &source.path, image.to_str().unwrap()]);
    assert!(made.status.success(), "{made:?}");
    let refused = testboxctl(&["image", "restore", image.to_str().unwrap(), &target.path]);
    assert!(
        !refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("--yes"),
        "{refused:?}"
    );
    assert!(target.bytes().iter().all(|b| *b == 0xa5));
    // Unallocated space: left, discarded by the loop device, which punches holes into its file, and zeroed.
    for (free, told, is_same) in
        [("leave", "left as it was", false), ("discard", "left as it was", true), ("zero", "restored", true)]
    {
        fs::write(dir.path().join("target"), vec![0xa5; 16 << 20]).unwrap();
        run("blockdev", &["--flushbufs", &target.path]);
        let words = ["image", "restore", "--yes", "--free", free, image.to_str().unwrap(), &target.path];
        let restored = testboxctl(&words);
        assert!(restored.status.success(), "{restored:?}");
        let out = String::from_utf8_lossy(&restored.stdout).into_owned();
        assert!(
            out.contains(told) && out.contains("; 0 B (0 bytes) of it discarded") == (free == "leave"),
            "{out}"
        );
        assert_eq!(target.bytes() == source.bytes(), is_same, "{free}");
        run("fsck.ext4", &["-fn", &target.path]);
    }
}

/// A disk whose reads or writes fail once a trigger file is there: nbdkit's error filter, seen through FUSE and a
/// loop device.
struct FaultyDisk {
    disk: Loop,
    mount: PathBuf,
    fuse: Child,
}

impl FaultyDisk {
    fn new(dir: &Path, content: &Path, filter: &[&str]) -> FaultyDisk {
        let mount = dir.join("faulty");
        fs::write(&mount, "").unwrap();
        let mut fuse = Command::new("nbdfuse");
        fuse.arg(&mount).args(["[", "nbdkit", "--exit-with-parent", "--filter=error", "file"]).arg(content);
        let fuse =
            fuse.args(filter).arg("]").stdin(Stdio::null()).spawn().expect("nbdfuse (package libnbd-bin)");
        let end = Instant::now() + Duration::from_secs(30);
        while fs::metadata(&mount).map_or(0, |m| m.len()) == 0 {
            assert!(Instant::now() < end, "nbdfuse did not mount");
            std::thread::sleep(Duration::from_millis(50));
        }
        FaultyDisk { disk: Loop::new(&mount, 512), mount, fuse }
    }
}

impl Drop for FaultyDisk {
    fn drop(&mut self) {
        self.disk.detach();
        let _ = Command::new("fusermount3").arg("-u").arg(&self.mount).status();
        let _ = self.fuse.wait();
    }
}

#[test]
fn loop_a_disk_that_cannot_be_read_ends_the_backup_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let content = ext4(dir.path(), "content", 16);
    let trigger = dir.path().join("trigger");
    let faults = ["error-pread=EIO", "error-pread-rate=100%", &format!("error-file={}", trigger.display())];
    let faulty = FaultyDisk::new(dir.path(), &content, &faults);
    let disk = RealDisk::open_read(&faulty.disk.path).unwrap();
    fs::write(&trigger, "").unwrap();
    let failed = image_of(&disk).map(|_| ()).unwrap_err();
    fs::remove_file(&trigger).unwrap();
    assert!(image_of(&disk).is_ok(), "it is a good disk without the trigger");
    let text = failed.to_string();
    assert_eq!((failed.kind, failed.op), (ErrorKind::Medium, ImageOp::Read), "{text}");
    assert!(text.contains(disk.name()) && text.contains("LBA"), "{text}");
}

#[test]
fn loop_a_disk_that_cannot_be_written_is_never_half_bootable() {
    let dir = tempfile::tempdir().unwrap();
    let source = Loop::new(&ext4(dir.path(), "source", 16), 512);
    let image = image_of(&RealDisk::open_read(&source.path).unwrap()).unwrap();
    let content = file(dir.path(), "content", 16, 0xa5);
    let trigger = dir.path().join("trigger");
    let faults = ["error-pwrite=EIO", "error-pwrite-rate=100%", &format!("error-file={}", trigger.display())];
    let faulty = FaultyDisk::new(dir.path(), &content, &faults);
    let disk = RealDisk::open_write(&faulty.disk.path).unwrap();
    fs::write(&trigger, "").unwrap();
    let failed = restore(&image, &disk, &RestoreOptions::default(), &Progress::default()).unwrap_err();
    fs::remove_file(&trigger).unwrap();
    assert!(failed.disk_was_touched() && failed.to_string().contains(disk.name()), "{failed}");
    let mut head = [0; 512];
    let mut backing = File::open(&content).unwrap();
    backing.seek(SeekFrom::Start(0)).unwrap();
    backing.read_exact(&mut head).unwrap();
    assert!(head == [0xa5; 512] || head == [0; 512]);
    // Healed, the same restore goes through.
    restore(&image, &disk, &RestoreOptions::default(), &Progress::default()).unwrap();
    disk.drop_cache().unwrap();
    assert!(faulty.disk.bytes() == source.bytes());
}

#[test]
fn loop_a_dirty_file_is_read_as_it_is() {
    // What was written through the page cache a moment ago must be in the image, although the disk is read directly.
    let dir = tempfile::tempdir().unwrap();
    let source = Loop::new(&file(dir.path(), "source", 4, 0), 512);
    let mut device = fs::OpenOptions::new().write(true).open(&source.path).unwrap();
    device.seek(SeekFrom::Start(1 << 20)).unwrap();
    device.write_all(&[7; 4096]).unwrap();
    let image = image_of(&RealDisk::open_read(&source.path).unwrap()).unwrap();
    let mut bytes = Vec::new();
    image.cat((1 << 20)..(1 << 20) + 4096, &mut bytes).unwrap();
    assert!(bytes == [7; 4096]);
}
