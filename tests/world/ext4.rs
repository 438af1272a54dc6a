//! A disk of 8 MiB that is not all used: an MBR, and an ext4 of 6 MiB, made by its own tools over stale data.

use super::contents_of;
use std::fs;
use std::ops::Range;
use std::process::{Command, Output};
use testbox::block::mem::MemDisk;
use testbox::progress::Progress;
use testbox::used::{Map, Used, survey};

pub const SIZE: usize = 8 << 20;
/// Where the ext4 stands.
pub const PART: Range<usize> = 1 << 20..7 << 20;

fn run(program: &str, args: &[&str]) -> Output {
    let output = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The disk, with one file of some 300 kB in it; `features` as for `mke2fs -O`.
pub fn disk_with(features: &str, label: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let (tree, part) = (dir.path().join("tree"), dir.path().join("part"));
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("data"), contents_of(300_000, 77)).unwrap();
    fs::write(&part, contents_of(PART.len(), 0xdead)).unwrap();
    let (tree, path) = (tree.to_str().unwrap(), part.to_str().unwrap());
    let options = "nodiscard,lazy_itable_init=0,hash_seed=12345678-1234-1234-1234-123456789abc";
    let uuid = "12345678-1234-1234-1234-123456789abc";
    let args = ["-q", "-F", "-t", "ext4", "-b", "1024", "-U", uuid, "-L", label, "-O", features];
    run("mke2fs", &[&args[..], &["-E", options, "-d", tree, path]].concat());
    let mut bytes = contents_of(SIZE, 0xbeef);
    bytes[PART].copy_from_slice(&fs::read(&part).unwrap());
    bytes[446..510].fill(0);
    bytes[446 + 4] = 0x83;
    bytes[446 + 8..446 + 12].copy_from_slice(&(PART.start as u32 / 512).to_le_bytes());
    bytes[446 + 12..446 + 16].copy_from_slice(&(PART.len() as u32 / 512).to_le_bytes());
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    bytes
}

/// The usual one.
pub fn disk_bytes() -> Vec<u8> {
    disk_with("^has_journal", "root")
}

/// Runs a tool of e2fsprogs on the file system: `PART` in `args` stands for it.
pub fn tool(disk: &mut [u8], program: &str, args: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let part = dir.path().join("part");
    fs::write(&part, &disk[PART]).unwrap();
    let args: Vec<&str> =
        args.iter().map(|arg| if *arg == "PART" { part.to_str().unwrap() } else { arg }).collect();
    let output = run(program, &args);
    disk[PART].copy_from_slice(&fs::read(&part).unwrap());
    output
}

/// Writes a file into the file system.
pub fn add_file(disk: &mut [u8], name: &str, bytes: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("new");
    fs::write(&file, bytes).unwrap();
    tool(disk, "debugfs", &["-w", "-R", &format!("write {} {name}", file.display()), "PART"]);
}

/// The file's bytes, as e2fsprogs finds them.
pub fn read_file(disk: &[u8], name: &str) -> Vec<u8> {
    let mut disk = disk.to_vec();
    tool(&mut disk, "debugfs", &["-R", &format!("cat {name}"), "PART"]).stdout
}

/// The file system is sound, says its own checker.
pub fn check(disk: &[u8]) {
    tool(&mut disk.to_vec(), "e2fsck", &["-fn", "PART"]);
}

pub fn map(disk: &[u8]) -> Map {
    let disk = MemDisk::new("sda", disk.to_vec(), 512);
    survey(&disk, Used::Auto, &Progress::default()).0
}

/// The disk with its free space zeroed: what an image holds of it.
pub fn without_free(disk: &[u8]) -> Vec<u8> {
    filled(disk, &map(disk).free, 0)
}

pub fn filled(disk: &[u8], free: &[Range<u64>], byte: u8) -> Vec<u8> {
    let mut disk = disk.to_vec();
    free.iter().for_each(|range| disk[range.start as usize..range.end as usize].fill(byte));
    disk
}
