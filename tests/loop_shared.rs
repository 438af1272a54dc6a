//! Images on file systems that share blocks between files. Root only: loop devices and mounts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use testbox::block::mem::MemDisk;
use testbox::image::{BackupOptions, DiskAbout, Earlier, Hash, Image, backup_again, verify, verify_again};
use testbox::inventory::Identity;
use testbox::progress::Progress;
use testbox::share::{DirFiles, Files};

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A file system in a file, unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(dir: &Path, mkfs: &[&str]) -> Mounted {
        let (file, folder) = (dir.join("fs"), dir.join("mnt"));
        fs::File::create(&file).unwrap().set_len(400 << 20).unwrap();
        fs::create_dir(&folder).unwrap();
        run(mkfs[0], &[&mkfs[1..], &[file.to_str().unwrap()]].concat());
        run("mount", &["-o", "loop", file.to_str().unwrap(), folder.to_str().unwrap()]);
        Mounted(folder)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// Bytes of a file that it has for itself alone, and those that it shares.
fn room(path: &Path) -> (u64, u64) {
    let (mut own, mut shared) = (0, 0);
    for line in run("filefrag", &["-v", "-b4096", path.to_str().unwrap()]).lines() {
        // ext: logical_offset: physical_offset: length: expected: flags:
        let fields: Vec<&str> = line.split(':').map(str::trim).collect();
        if fields[0].parse::<u32>().is_err() {
            continue;
        }
        let bytes = fields[3].parse::<u64>().unwrap() * 4096;
        if line.contains("shared") { shared += bytes } else { own += bytes }
    }
    (own, shared)
}

fn back_up(files: &dyn Files, name: &str, disk: &MemDisk, base: Option<Arc<Image>>) -> Hash {
    let about = DiskAbout::new("sda", Identity::default(), disk);
    let earlier = Earlier { base, ..Earlier::default() };
    let mut file = files.create(name).unwrap();
    let opts = BackupOptions::default();
    backup_again(disk, &mut *file, &about, &opts, &earlier, &Progress::new()).unwrap().root_hash
}

fn open(files: &dyn Files, name: &str) -> Arc<Image> {
    Arc::new(Image::open(files.open(name).unwrap()).unwrap())
}

#[test]
fn loop_the_image_of_an_unchanged_disk_shares_its_blocks() {
    // Half of it noise, half of it text, and zeros between.
    let mut bytes = vec![0; 48 << 20];
    let mut state = 1u64;
    for (i, word) in bytes[..20 << 20].chunks_exact_mut(8).enumerate() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        word.copy_from_slice(&if i % 2 == 0 { state.rotate_left(32) } else { i as u64 }.to_le_bytes());
    }
    bytes.copy_within(..20 << 20, 28 << 20);
    let rows: [(&[&str], bool); 3] = [
        (&["mkfs.xfs", "-q", "-m", "reflink=1"], true),
        (&["mkfs.btrfs", "-q"], true),
        (&["mkfs.ext4", "-q"], false),
    ];
    for (mkfs, shares) in rows {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Mounted::new(dir.path(), mkfs);
        let files = DirFiles::open(&mounted.0).unwrap();
        back_up(&files, "first", &MemDisk::new("sda", bytes.clone(), 512), None);
        let base = open(&files, "first");
        for (name, changed) in [("same", None), ("changed", Some(30 << 20))] {
            let mut bytes = bytes.clone();
            if let Some(at) = changed {
                bytes[at] ^= 1;
            }
            let disk = MemDisk::new("sda", bytes, 512);
            let root_hash = back_up(&files, name, &disk, Some(base.clone()));
            let image = open(&files, name);
            verify_again(&image, &base, 0, &Progress::new()).unwrap();
            assert_eq!(verify(&image, 0, &Progress::new()).unwrap().root_hash, root_hash);
            let (own, shared) = room(&mounted.0.join(name));
            assert_eq!(own + shared, image.summary().image, "{mkfs:?} {name}");
            if shares {
                // Header, index, footer, and the one chunk.
                let most = (64 << 10) + if changed.is_some() { 1 << 20 } else { 0 };
                assert!(own <= most && shared > 10 << 20, "{mkfs:?} {name}: {own} own, {shared} shared");
            }
        }
    }
}
