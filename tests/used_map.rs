//! The map of whole disks whose tables and volume groups were made by the tools that people use.
//! `loop_*`: root.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File};
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::NamedTempFile;
use testbox::used::{FoundVolume, Map, map};

const MIB: u64 = 1 << 20;

fn run_with(program: &str, args: &[&str], input: &str) -> String {
    let mut child = Command::new(program)
        .args(args)
        .env("PATH", format!("/usr/sbin:/sbin:{}", std::env::var("PATH").unwrap_or_default()))
        .env("LVM_SUPPRESS_FD_WARNINGS", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program}: {e}: scripts/packages test"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn run(program: &str, args: &[&str]) -> String {
    run_with(program, args, "")
}

fn sparse(bytes: u64) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(bytes).unwrap();
    file
}

fn name(file: &NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

/// A loop device, detached when dropped.
struct Loop(String);

impl Loop {
    fn new(file: &Path, args: &[&str]) -> Loop {
        let args = [&["--find", "--show"], args, &[file.to_str().unwrap()]].concat();
        Loop(run("losetup", &args).trim().to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

/// Number, first byte and bytes of the partitions as sfdisk sees them, in the order of the disk.
fn by_sfdisk(device: &str, sector: u64) -> Vec<(u64, u64, u64)> {
    let json: serde_json::Value = serde_json::from_str(&run("sfdisk", &["--json", device])).unwrap();
    let number = |node: &str| node.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap();
    let mut all: Vec<(u64, u64, u64)> = json["partitiontable"]["partitions"]
        .as_array()
        .unwrap()
        .iter()
        // The extended partition is a container.
        .filter(|p| !matches!(p["type"].as_str().unwrap(), "5" | "f" | "85"))
        .map(|p| {
            let field = |name: &str| p[name].as_u64().unwrap() * sector;
            (number(p["node"].as_str().unwrap()), field("start"), field("size"))
        })
        .collect();
    all.sort_by_key(|(_, start, _)| *start);
    all
}

fn places(map: &Map) -> Vec<(u64, u64, u64)> {
    map.found.iter().map(|f| (f.number.into(), f.start, f.size)).collect()
}

const TABLES: &[&str] = &[
    "label: dos\n8MiB 16MiB L *\n\n",
    "label: dos\nstart=1MiB size=3MiB\nstart=4MiB size=4MiB type=c\nstart=8MiB size=7MiB type=82\nstart=20MiB\n",
    "label: dos\nstart=8MiB size=8MiB\nstart=1MiB size=4MiB\nstart=16MiB type=5\nstart=17MiB size=2MiB\n\
     start=20MiB size=5MiB\nstart=30MiB size=9MiB\n",
    "label: dos\nsize=8MiB type=f\nsize=8MiB\n",
    "label: gpt\nsize=5MiB type=U name=\"EFI System\"\nsize=9MiB\n+\n",
    "label: gpt\nfirst-lba: 256\nstart=20MiB size=9MiB name=\"b\"\nstart=1MiB size=2MiB name=\"ä\"\n",
];

#[test]
fn tables_are_read_as_sfdisk_and_sgdisk_read_them() {
    for table in TABLES {
        let disk = sparse(64 * MIB);
        run_with("sfdisk", &["--quiet", name(&disk)], table);
        let map = map(disk.as_file(), 512);
        assert_eq!(places(&map), by_sfdisk(name(&disk), 512), "{table}{map:?}");
        assert!(map.found.iter().all(|found| found.why_all.as_deref() == Some("unknown content")));
    }
    let disk = sparse(64 * MIB);
    let layout = ["-n", "7:4M:8M", "-c", "7:Basic data", "-t", "7:0700", "-n", "2:1M:+2M", "-n", "120:0:0"];
    run("sgdisk", &[&layout[..], &[name(&disk)]].concat());
    let plain = map(disk.as_file(), 512);
    assert_eq!(places(&plain), by_sfdisk(name(&disk), 512));
    assert_eq!(plain.found[1].name.as_deref(), Some("Basic data"));
    assert_eq!(plain.found[1].partition_type.as_deref(), Some("Microsoft basic data"));
    // A hybrid MBR of the same partitions; then the GPT moves on, and the MBR stays.
    run("sgdisk", &["--hybrid", "2:7", name(&disk)]);
    assert_eq!(map(disk.as_file(), 512), plain);
    let mut mbr = [0; 512];
    disk.as_file().read_exact_at(&mut mbr, 0).unwrap();
    run("sgdisk", &["-d", "2", "-n", "2:1M:+1M", name(&disk)]);
    disk.as_file().write_all_at(&mbr, 0).unwrap();
    let doubt = map(disk.as_file(), 512);
    assert!(doubt.found[0].why_all.as_deref().unwrap().contains("hybrid MBR"), "{doubt:?}");
}

#[test]
fn loop_tables_on_4096_byte_blocks_are_read_as_sfdisk_does() {
    for table in TABLES {
        let disk = sparse(64 * MIB);
        let device = Loop::new(disk.path(), &["--sector-size", "4096"]);
        run_with("sfdisk", &["--quiet", &device.0], &table.replace("first-lba: 256\n", ""));
        assert_eq!(places(&map(disk.as_file(), 4096)), by_sfdisk(&device.0, 4096), "{table}");
        let wrong = map(disk.as_file(), 512);
        assert!(wrong.free.is_empty() && wrong.found.iter().all(|found| found.why_all.is_some()));
    }
}

#[test]
fn a_file_system_without_a_table_is_not_taken_for_one() {
    for (program, args) in [
        ("mkfs.vfat", &["-F", "12"][..]),
        ("mkfs.vfat", &["-F", "16"]),
        ("mkfs.vfat", &["-F", "32"]),
        ("mkfs.exfat", &[]),
        ("mkfs.ntfs", &["-q", "-F", "-Q"]),
        ("mkfs.ext4", &["-q", "-F"]),
        ("mkfs.xfs", &["-q", "-f"]),
    ] {
        let disk = sparse(if program == "mkfs.xfs" { 320 * MIB } else { 40 * MIB });
        run(program, &[args, &[name(&disk)]].concat());
        let map = map(disk.as_file(), 512);
        let [FoundVolume { number: 0, why_all, .. }] = &map.found[..] else { panic!("{program}: {map:?}") };
        let why = why_all.as_deref().unwrap_or_default();
        assert!(!why.contains("partition") && !why.contains("looks like"), "{program}: {map:?}");
    }
}

/// LVM without device mapper, and of nothing but these devices.
fn lvm(devices: &[&Loop], program: &str, args: &[&str]) -> String {
    let filter: String = devices.iter().map(|device| format!("\"a|^{}$|\",", device.0)).collect();
    let config = format!(
        "devices {{ filter=[{filter}\"r|.*|\"] scan_lvs=0 use_devicesfile=0 obtain_device_list_from_udev=0
        external_device_info_source=\"none\" }} activation {{ udev_sync=0 udev_rules=0 monitoring=0 }}
        global {{ activation=0 use_lvmpolld=0 }} backup {{ backup=0 archive=0 }}"
    );
    run(program, &[args, &["--config", &config]].concat())
}

const EXTENT: u64 = 4 * MIB;

fn extents(start: u64, range: Range<u64>) -> Range<u64> {
    start + MIB + range.start * EXTENT..start + MIB + range.end * EXTENT
}

fn lvcreate(devices: &[&Loop], volume: &str, size: &str, on: &Loop) {
    let args = ["-an", "-Zn", "-Wn", "-y", "-n", volume, "-l", size, "vgt", &on.0];
    lvm(devices, "lvcreate", &args);
}

/// Free ranges of the disk, scribbled over as by a restore that leaves them alone.
fn scribble(disk: &File, free: &[Range<u64>]) {
    for range in free {
        disk.write_all_at(&vec![0x5c; (range.end - range.start) as usize], range.start).unwrap();
    }
}

#[test]
fn loop_a_file_system_in_a_volume_of_two_pieces_survives() {
    let dir = tempfile::tempdir().unwrap();
    let disk = sparse(160 * MIB);
    run_with("sfdisk", &["--quiet", name(&disk)], "label: gpt\nsize=4MiB\ntype=V name=lvm\n");
    let (start, size) = (5 * MIB, by_sfdisk(name(&disk), 512)[1].2);
    let part = ["--offset", &start.to_string(), "--sizelimit", &size.to_string()];
    let pv = Loop::new(disk.path(), &part);
    lvm(&[&pv], "pvcreate", &["-y", "--metadatacopies", "2", &pv.0]);
    lvm(&[&pv], "vgcreate", &["-s", "4M", "vgt", &pv.0]);
    lvcreate(&[&pv], "root", "10", &pv);
    lvcreate(&[&pv], "home", "5", &pv);
    lvm(&[&pv], "lvextend", &["-l", "15", "vgt/root"]);
    drop(pv);

    // Extents 0 to 9, and 15 to 19.
    let file = dir.path().join("content");
    fs::write(&file, (0..3 * MIB).map(|i| ((i * i) >> 7) as u8).collect::<Vec<u8>>()).unwrap();
    let volume = sparse(15 * EXTENT);
    run("mkfs.vfat", &["-F", "16", "-n", "ROOT", name(&volume)]);
    for copy in ["::a", "::b", "::c"] {
        run("mcopy", &["-i", name(&volume), file.to_str().unwrap(), copy]);
    }
    run("mdel", &["-i", name(&volume), "::b"]);
    let pieces =
        [(0..10 * EXTENT, extents(start, 0..10)), (10 * EXTENT..15 * EXTENT, extents(start, 15..20))];
    for (inside, on_disk) in &pieces {
        let mut bytes = vec![0; (inside.end - inside.start) as usize];
        volume.as_file().read_exact_at(&mut bytes, inside.start).unwrap();
        disk.as_file().write_all_at(&bytes, on_disk.start).unwrap();
    }

    let map = map(disk.as_file(), 512);
    let found: Vec<_> = map
        .found
        .iter()
        .map(|f| (f.number, f.logical_volume.as_deref(), &*f.kind, f.why_all.as_deref()))
        .collect();
    assert_eq!(
        found,
        [
            (1, None, "unknown", Some("unknown content")),
            (2, None, "LVM2", None),
            (2, Some("vgt/home"), "unknown", Some("unknown content")),
            (2, Some("vgt/root"), "fat16", None),
        ]
    );
    let root = &map.found[3];
    assert_eq!(root.label.as_deref(), Some("ROOT"));
    assert!((52 * MIB..54 * MIB).contains(&root.skipped), "{root:?}");
    // Nobody's extents, up to those that the second metadata area ends.
    let count = (size - MIB) / EXTENT;
    let rest = extents(start, 20..count - 1);
    assert!(map.free.iter().any(|range| range.start <= rest.start && rest.end <= range.end), "{map:?}");
    assert!(map.free.iter().all(|range| {
        let home = extents(start, 10..15);
        range.start >= start + MIB
            && range.end <= start + size - MIB
            && (range.end <= home.start || home.end <= range.start)
    }));

    scribble(disk.as_file(), &map.free);
    for (inside, on_disk) in &pieces {
        let mut bytes = vec![0; (inside.end - inside.start) as usize];
        disk.as_file().read_exact_at(&mut bytes, on_disk.start).unwrap();
        volume.as_file().write_all_at(&bytes, inside.start).unwrap();
    }
    run("fsck.vfat", &["-n", name(&volume)]);
    for copy in ["::a", "::c"] {
        let back = dir.path().join("back");
        let _ = fs::remove_file(&back);
        run("mcopy", &["-i", name(&volume), copy, back.to_str().unwrap()]);
        assert!(fs::read(&back).unwrap() == fs::read(&file).unwrap());
    }
    // LVM itself still knows all of it.
    let pv = Loop::new(disk.path(), &part);
    assert_eq!(
        lvm(&[&pv], "lvs", &["--noheadings", "-o", "name,lv_size", "--units", "m"]).lines().count(),
        2
    );
    lvm(&[&pv], "pvck", &[&pv.0]);
}

#[test]
fn loop_a_volume_on_two_disks_is_used_and_free_extents_are_not() {
    let disks = [sparse(66 * MIB), sparse(66 * MIB)];
    let [a, b] = [Loop::new(disks[0].path(), &[]), Loop::new(disks[1].path(), &[])];
    let both = [&a, &b];
    lvm(&both, "pvcreate", &["-y", &a.0, &b.0]);
    lvm(&both, "vgcreate", &["-s", "4M", "vgt", &a.0, &b.0]);
    lvcreate(&both, "data", "16", &a);
    lvm(&both, "lvextend", &["-l", "20", "vgt/data", &b.0]);
    let [first, second] = [map(disks[0].as_file(), 512), map(disks[1].as_file(), 512)];
    let rest = extents(0, 4..16);
    let ends = second.free.first().unwrap().start..second.free.last().unwrap().end;
    assert_eq!((first.free.len(), ends), (0, rest.clone()));
    // Single blocks in between are always imaged.
    assert!(second.found[0].skipped > rest.end - rest.start - MIB);
    assert_eq!(first.found[1].logical_volume.as_deref(), Some("vgt/data"));
    assert_eq!(first.found[1].why_all.as_deref(), Some("a part of it is on another disk or volume"));

    // Exported, nobody knows what is done with it elsewhere.
    lvm(&both, "vgexport", &["vgt"]);
    let exported = map(disks[1].as_file(), 512);
    assert!(exported.free.is_empty() && exported.found[0].why_all.as_deref().unwrap().contains("exported"));
}
