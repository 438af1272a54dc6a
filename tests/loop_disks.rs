//! The imaging engine on real block devices (loop), as root.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use testbox::block::real::OpenError;
use testbox::block::sink::FileSink;
use testbox::block::{AlignedBuf, BlockDevice, Disk};
use testbox::image::{self, BackupOptions, DiskAbout, Image, RestoreOptions};
use testbox::inventory::Identity;
use testbox::progress::Progress;

fn run(command: &str, args: &[&str]) -> String {
    match Command::new(command).args(args).output() {
        Ok(out) if out.status.success() => String::from_utf8_lossy(&out.stdout).trim().to_owned(),
        Ok(out) => panic!("{command} {args:?}: {}", String::from_utf8_lossy(&out.stderr)),
        Err(e) => panic!("{command}: {e}"),
    }
}

/// A loop device over a new file; detached on drop, also when a test panics.
struct Loop(PathBuf);

impl Loop {
    fn new(file: &Path, size: u64, block: u32) -> Self {
        let made = File::create(file).and_then(|f| f.set_len(size));
        assert!(made.is_ok(), "{made:?}");
        let name = file.to_string_lossy();
        let args = ["--find", "--show", "--sector-size", &block.to_string(), &name];
        Loop(run("losetup", &args).into())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

/// 512-byte and 4Kn disks: backup, verify, restore onto a dirty disk of the same kind, refusal of the other kind.
#[test]
fn loop_disks_round_trip_and_block_sizes_do_not_mix() {
    let dir = tempfile::tempdir().unwrap();
    let size = (9 << 20) + 4096;
    let mut noise = AlignedBuf::new(1 << 20);
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    for (block, other) in [(512, 4096), (4096, 512)] {
        let source = Loop::new(&dir.path().join("source"), size, block);
        let target = Loop::new(&dir.path().join("target"), size, block);
        let wrong = Loop::new(&dir.path().join("wrong"), size, other);
        let disk = Disk::open_write(&source.0).unwrap();
        assert_eq!((disk.size(), disk.logical_block_size()), (size, block));
        for at in [0, 2 << 20, 7 << 20] {
            disk.write_at(&noise, at).unwrap();
        }
        disk.write_at(&noise[..4096], size - 4096).unwrap();
        disk.flush().unwrap();
        drop(disk);

        let disk = Disk::open_read(&source.0).unwrap();
        let path = dir.path().join("image.gz");
        let mut sink = FileSink::new(File::create(&path).unwrap());
        let about = DiskAbout::new("sda", Identity::default(), &disk);
        image::backup(&disk, &mut sink, &about, &BackupOptions::default(), &Progress::new()).unwrap();
        let image = Image::open(Arc::new(File::open(&path).unwrap())).unwrap();
        image::verify(&image, 0, &Progress::new()).unwrap();
        image::verify_against(&image, &disk, 0, &Progress::new()).unwrap();

        let to = Disk::open_write(&target.0).unwrap();
        for at in 0..9 {
            to.write_at(&noise, at << 20).unwrap();
        }
        let opts = RestoreOptions::default();
        image::restore(&image, &to, &opts, &Progress::new()).unwrap();
        drop(to);
        run("cmp", &[&source.0.to_string_lossy(), &target.0.to_string_lossy()]);

        let wrong = Disk::open_write(&wrong.0).unwrap();
        let error = image::restore(&image, &wrong, &opts, &Progress::new()).unwrap_err();
        assert!(!error.disk_was_touched() && error.to_string().contains("logical blocks"), "{error}");
    }
}

/// BLKZEROOUT gives zeros, and a disk that anybody has mounted is not opened for writing.
#[test]
fn loop_disk_zeroes_and_a_mounted_one_is_busy() {
    let dir = tempfile::tempdir().unwrap();
    let device = Loop::new(&dir.path().join("disk"), 16 << 20, 512);
    let disk = Disk::open_write(&device.0).unwrap();
    let mut buf = AlignedBuf::new(1 << 20);
    buf.fill(0x5a);
    disk.write_at(&buf, 1 << 20).unwrap();
    disk.write_zeroes((1 << 20) + 512, 4096).unwrap();
    disk.flush().unwrap();
    disk.drop_cache().unwrap();
    disk.reread_partition_table().unwrap();
    disk.read_at(&mut buf, 1 << 20).unwrap();
    assert!(buf[..512].iter().chain(&buf[4608..]).all(|b| *b == 0x5a));
    assert!(buf[512..4608].iter().all(|b| *b == 0));
    drop(disk);

    let name = device.0.to_string_lossy().into_owned();
    run("mkfs.ext4", &["-q", "-F", &name]);
    let mount = dir.path().join("mnt");
    std::fs::create_dir(&mount).unwrap();
    run("mount", &[&name, &mount.to_string_lossy()]);
    let busy = Disk::open_write(&device.0);
    run("umount", &[&mount.to_string_lossy()]);
    assert!(matches!(busy, Err(OpenError::Busy { .. })), "{busy:?}");
    Disk::open_write(&device.0).unwrap();
}
