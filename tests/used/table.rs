//! Whole disks: partition tables of all kinds, volume groups, and several file systems on each; through `testboxctl`.

use crate::btrfs::BTRFS;
use crate::ext4::EXT4;
use crate::fat::FAT;
use crate::mount::shell;
use crate::ntfs::NTFS;
use crate::proof::{ENDS, POISON, Row, covers, is_left_alone, make, map_of_disk};
use crate::random::{Random, seed};
use crate::ranges::{complement, intersection, total, union, whole_blocks};
use crate::scratch::scratch;
use crate::tree::Tree;
use crate::xfs::XFS;
use std::fs::{self, File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use testbox::used::Used;

/// A disk of `mib` MiB.
struct Disk {
    mib: u64,
    /// Logical block size in bytes.
    sector: u32,
    /// Makes the table; `$DISK` is the disk, or a loop device of it with this logical block size.
    table: &'static str,
    volumes: &'static [Volume],
    /// What the map finds, in the order of the disk.
    found: &'static [&'static str],
    /// MiB of the disk that are free besides what is free in volumes.
    unused: &'static [Range<u64>],
}

/// A file system, and the MiB of the disk that it lies in, one piece after the other.
struct Volume {
    row: Row,
    pieces: &'static [Range<u64>],
}

const fn volume(row: Row, pieces: &'static [Range<u64>]) -> Volume {
    Volume { row: Row { steps: 60, ..row }, pieces }
}

const SMALL_EXT4: Row = Row { mib: 20, make: "mke2fs -q -F -t ext4 -b 4096 $IMG", ..EXT4 };
const SMALL_FAT: Row = Row { mib: 12, ..FAT };
const SWAP: Row = crate::swap::SWAP;

#[test]
fn loop_mbr_with_logical_partitions() {
    const DISK: Disk = Disk {
        mib: 110,
        sector: 512,
        table: "printf '%s\\n' 'label: dos' 'start=1MiB,size=20MiB,type=83,bootable' 'start=22MiB,size=80MiB,type=f' \
                'start=23MiB,size=12MiB,type=6' 'start=36MiB,size=8MiB,type=82' 'start=46MiB,size=24MiB,type=7' \
                | sfdisk -q $DISK",
        volumes: &[
            volume(SMALL_EXT4, &[1..21]),
            volume(SMALL_FAT, &[23..35]),
            volume(SWAP, &[36..44]),
            volume(NTFS, &[46..70]),
        ],
        found: &["ext4", "fat16", "swap", "ntfs"],
        unused: &[],
    };
    prove(&DISK);
}

const GPT: Disk = Disk {
    mib: 240,
    sector: 512,
    table: "sgdisk --set-alignment=8 -n1:1M:+12M -t1:ef00 -n2:14M:+20M -n3:40M:+40M -n4:80M:+128M -n5:210M:+8M -t5:8200 $DISK",
    volumes: &[
        volume(SMALL_FAT, &[1..13]),
        volume(SMALL_EXT4, &[14..34]),
        volume(XFS, &[40..80]),
        volume(BTRFS, &[80..208]),
        volume(SWAP, &[210..218]),
    ],
    found: &["fat16", "ext4", "xfs", "btrfs", "swap"],
    unused: &[],
};

#[test]
fn loop_gpt() {
    prove(&GPT);
}

#[test]
fn loop_gpt_of_large_sectors() {
    const DISK: Disk = Disk {
        sector: 4096,
        volumes: &[
            volume(Row { mib: 12, make: "mkfs.fat -F 12 -S 4096 -s 4 $IMG", kind: "fat12", ..FAT }, &[1..13]),
            volume(SMALL_EXT4, &[14..34]),
            volume(Row { make: "mkfs.xfs -q --unsupported -s size=4096 $IMG", ..XFS }, &[40..80]),
            volume(BTRFS, &[80..208]),
            volume(SWAP, &[210..218]),
        ],
        found: &["fat12", "ext4", "xfs", "btrfs", "swap"],
        ..GPT
    };
    prove(&DISK);
}

#[test]
fn loop_no_table() {
    const DISK: Disk = Disk {
        mib: 40,
        sector: 512,
        table: "true",
        volumes: &[volume(XFS, &[0..40])],
        found: &["xfs"],
        unused: &[],
    };
    prove(&DISK);
}

/// lvm2 without the kernel's device mapper. The first extent begins at the second MiB, an extent is 1 MiB.
const GROUP: &str = "lv() {
        lvm \"$@\" --driverloaded n --config \"devices { use_devicesfile=0 scan=[\\\"/dev\\\"] \
            filter=[\\\"a|^$DISK\\$|\\\", \\\"r|.*|\\\"] } backup { backup=0 archive=0 }\"
    }
    set -e
    lv pvcreate -q $DISK
    lv vgcreate -s 1M group $DISK
    lv lvcreate -an -Zn -Wn -l 14 -n root group
    lv lvcreate -an -Zn -Wn -l 40 -n data group
    lv lvextend -l 20 group/root";

#[test]
fn loop_volume_group() {
    const DISK: Disk = Disk {
        mib: 90,
        sector: 512,
        table: GROUP,
        volumes: &[volume(SMALL_EXT4, &[1..15, 55..61]), volume(XFS, &[15..55])],
        found: &["LVM2", "xfs", "ext4"],
        unused: &[61..89],
    };
    prove(&DISK);
}

/// A disk or a loop device of it, detached when dropped.
struct Device {
    path: PathBuf,
    is_loop: bool,
}

impl Device {
    /// lvm2 wants a device, large sectors need one.
    fn new(file: &Path, disk: &Disk) -> Device {
        let is_loop = disk.sector != 512 || disk.table.contains("lvm");
        let line = format!("losetup --find --show --sector-size {} \"$IMG\"", disk.sector);
        let path = if is_loop { PathBuf::from(shell(&line, file).trim()) } else { file.to_owned() };
        Device { path, is_loop }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.is_loop {
            // Best effort, also on the way out of a test that has failed.
            let _ = Command::new("losetup").arg("--detach").arg(&self.path).status();
        }
    }
}

fn mib(range: &Range<u64>) -> Range<u64> {
    range.start << 20..range.end << 20
}

/// Copies between a disk and the file of a volume.
fn copy(disk: &Path, volume: &Volume, file: &Path, to_disk: bool) {
    let open = |path: &Path, write: bool| {
        OpenOptions::new().read(true).write(write).create(write).truncate(false).open(path)
    };
    let (disk, file) = (open(disk, to_disk).unwrap(), open(file, !to_disk).unwrap());
    let mut at = 0;
    let mut buffer = vec![0; 1 << 20];
    for piece in volume.pieces.iter().flat_map(|piece| piece.clone()) {
        let piece = piece << 20;
        let (from, from_at, to, to_at) =
            if to_disk { (&file, at, &disk, piece) } else { (&disk, piece, &file, at) };
        from.read_exact_at(&mut buffer, from_at).unwrap();
        to.write_all_at(&buffer, to_at).unwrap();
        at += 1 << 20;
    }
}

/// Where bytes of a volume are on the disk.
fn on_disk(volume: &Volume, ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let (mut at, mut all) = (0, Vec::new());
    for piece in volume.pieces.iter().map(mib) {
        let inside = intersection(ranges, &[at..at + (piece.end - piece.start)]);
        all.extend(inside.iter().map(|r| piece.start + (r.start - at)..piece.start + (r.end - at)));
        at += piece.end - piece.start;
    }
    all
}

fn testboxctl(words: &[&str], paths: [&Path; 2]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_testboxctl"));
    let output = command.arg("image").args(words).args(paths).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn prove(disk: &Disk) {
    println!("TESTBOX_SEED={}", seed());
    let (dir, mut random) = (scratch(), Random::new(seed()));
    let (dir, size) = (dir.path(), disk.mib << 20);
    let file = |name: &str| dir.join(name);
    // An old disk, with something everywhere.
    let (source, target) = (file("disk"), file("target"));
    fs::write(&source, vec![0xee; size as usize]).unwrap();
    fs::write(&target, vec![POISON; size as usize]).unwrap();
    let ends = File::options().write(true).open(&source).unwrap();
    ends.write_all_at(&[0; 1 << 20], 0).unwrap();
    ends.write_all_at(&[0; 1 << 20], size - (1 << 20)).unwrap();

    let mut trees: Vec<Tree> = Vec::new();
    let (mut free, mut used) = (disk.unused.iter().map(mib).collect::<Vec<_>>(), Vec::new());
    for volume in disk.volumes {
        let (part, row) = (file("part"), &volume.row);
        make(row, &part).unwrap();
        (row.work)(row, &part, &file("mnt"), &mut random).unwrap();
        trees.push((row.read)(row, &part, &file("mnt")).unwrap());
        copy(&source, volume, &part, true);
        let (taken, len) = ((row.used)(&part), row.mib << 20);
        let body = intersection(&complement(&taken, len), &[ENDS..len - ENDS]);
        free.extend(on_disk(volume, &body));
        used.extend(on_disk(volume, &taken));
        fs::remove_file(part).unwrap();
    }
    // All that is in no volume and no free extent is used: tables, gaps, the metadata of groups.
    let of_somebody = disk.volumes.iter().flat_map(|volume| volume.pieces).chain(disk.unused).map(mib);
    used.extend(complement(&union(of_somebody.collect()), size));

    {
        let (from, to) = (Device::new(&source, disk), Device::new(&target, disk));
        shell(&format!("DISK='{}'; {}", from.path.display(), disk.table), &source);
        let map = map_of_disk(&from.path, Used::NoSwap).unwrap();
        let kinds: Vec<&str> = map.found.iter().map(|found| found.kind.as_str()).collect();
        assert_eq!(kinds, disk.found, "{:?}", map.found);
        assert!(map.found.iter().all(|found| found.why_all.is_none()), "{:?}", map.found);
        covers(&map.free, &union(used)).unwrap();
        let could = total(&whole_blocks(&union(free)));
        let kept: u64 = disk.volumes.iter().map(|volume| volume.row.keeps << 20).sum();
        assert!((total(&map.free) + kept) * 100 >= could * 98, "{} of {could} are skipped", total(&map.free));

        let image = file("image");
        testboxctl(&["create", "--used", "no-swap"], [&from.path, &image]);
        testboxctl(&["restore", "--yes", "--overwrite", "--free", "leave"], [&image, &to.path]);
        testboxctl(&["verify", "--against"], [&to.path, &image]);
        // Unallocated space is still what it was; all else is there.
        let (source, target) = (fs::read(&source).unwrap(), fs::read(&target).unwrap());
        for range in complement(&map.free, size) {
            let range = range.start as usize..range.end as usize;
            assert!(source[range.clone()] == target[range.clone()], "{range:?}");
        }
        is_left_alone(&map.free, size, |block, at| {
            block.copy_from_slice(&target[at as usize..at as usize + block.len()]);
            Ok(())
        })
        .unwrap();
    }
    for (volume, tree) in disk.volumes.iter().zip(&trees) {
        let (part, row) = (file("part"), &volume.row);
        copy(&target, volume, &part, false);
        shell(row.fsck, &part);
        (row.read)(row, &part, &file("mnt")).unwrap().same_as(tree).unwrap();
        fs::remove_file(part).unwrap();
    }
}
