//! The disks of emulated machines: sparse raw files.

use super::{Lab, assets, run};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How a disk is attached, which decides its kernel name: `vda`, `sda`, `nvme0n1`, `sda`, `mmcblk0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    Virtio,
    Sata,
    Nvme,
    Scsi,
    /// A memory card, as near to an eMMC as QEMU comes: same driver, same names. The size is a power of two, and the serial
    /// number always [`CARD_SERIAL`].
    Card,
}

/// What the kernel says of each of QEMU's memory cards.
pub const CARD_SERIAL: &str = "0xdeadbeef";

/// One disk, plugged in or on the shelf.
pub struct Disk {
    /// Raw image, or a qcow2 by its name.
    pub path: PathBuf,
    /// Where it is plugged in.
    pub bus: Bus,
    /// Serial number that it reports.
    pub serial: String,
    /// It says that it fails; NVMe only.
    pub is_failing: bool,
}

impl Lab {
    /// A copy of the disk with a real Debian on ext4, which boots from it by BIOS and says `OWN-OS-BOOTED`.
    pub fn debian_disk(&self, bus: Bus, serial: &str) -> Disk {
        self.debian_disk_on("ext4", bus, serial)
    }

    /// The same Debian on another file system: `xfs` or `btrfs`.
    pub fn debian_disk_on(&self, file_system: &str, bus: Bus, serial: &str) -> Disk {
        assert!(bus != Bus::Sata, "Debian's cloud kernel has no AHCI: it would not find its root");
        self.copy_of(&assets::debian_disk(file_system, "grub"), bus, serial)
    }

    /// The same, started by systemd-boot, on btrfs; UEFI alone.
    pub fn systemd_boot_disk(&self, bus: Bus, serial: &str) -> Disk {
        self.copy_of(&assets::debian_disk("btrfs", "systemd-boot"), bus, serial)
    }

    /// A disk as Windows lays it out, which says `WINDOWS-LIKE-BOOTED`.
    pub fn windows_disk(&self, bus: Bus, serial: &str) -> Disk {
        self.copy_of(&assets::windows_disk(), bus, serial)
    }

    /// The Debian of a machine with arm64, by UEFI.
    pub fn arm64_disk(&self, bus: Bus, serial: &str) -> Disk {
        self.copy_of(&assets::arm64_disk(), bus, serial)
    }

    /// A copy of the disk with an NTFS and a FAT partition, files in both.
    pub fn foreign_disk(&self, bus: Bus, serial: &str) -> Disk {
        self.copy_of(&assets::foreign_disk(), bus, serial)
    }

    fn copy_of(&self, disk: &Path, bus: Bus, serial: &str) -> Disk {
        let path = self.file(&format!("{serial}.raw"));
        run(Command::new("cp").args(["--sparse=always", "--reflink=auto"]).arg(disk).arg(&path));
        Disk { path, bus, serial: serial.to_owned(), is_failing: false }
    }

    /// A memory card with the same; its size is a power of two.
    pub fn foreign_card(&self, name: &str, mib: u64) -> Disk {
        let card = self.foreign_disk(Bus::Card, name);
        File::options().write(true).open(&card.path).unwrap().set_len(mib << 20).unwrap();
        card
    }

    /// A small disk, its first half filled with what no other serial has.
    pub fn small_disk(&self, bus: Bus, serial: &str, mib: u64) -> Disk {
        let disk = self.blank_disk(bus, serial, mib);
        let file = File::options().write(true).open(&disk.path).unwrap();
        let mut stream = blake3::Hasher::new().update(serial.as_bytes()).finalize_xof();
        let mut chunk = vec![0; 1 << 20];
        for n in 0..mib / 2 {
            stream.fill(&mut chunk[..1 << 19]);
            file.write_all_at(&chunk, n << 20).unwrap();
        }
        disk
    }

    /// A disk of zeros.
    pub fn blank_disk(&self, bus: Bus, serial: &str, mib: u64) -> Disk {
        let path = self.file(&format!("{serial}.raw"));
        File::create(&path).unwrap().set_len(mib << 20).unwrap();
        Disk { path, bus, serial: serial.to_owned(), is_failing: false }
    }
}

impl Disk {
    /// The same disk, whose SMART log has the critical warning that its reliability is degraded.
    pub fn failing(self) -> Disk {
        assert_eq!(self.bus, Bus::Nvme, "only QEMU's NVMe disk can be told to fail");
        Disk { is_failing: true, ..self }
    }

    /// Hash of all its bytes.
    pub fn hash(&self) -> blake3::Hash {
        hash(File::open(&self.path).unwrap())
    }

    /// All its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        std::fs::metadata(&self.path).unwrap().len()
    }

    /// Fills it with what is no zero and no data: what is not restored shows.
    pub fn fill(&self) {
        let file = File::options().write(true).open(&self.path).unwrap();
        let (size, stale) = (self.size(), vec![0xa5; 1 << 20]);
        (0..size).step_by(stale.len()).for_each(|at| file.write_all_at(&stale, at).unwrap());
        assert_eq!(self.size(), size, "disks have whole MiB");
    }

    /// True where at least a quarter of it is what [`Disk::fill`] wrote.
    pub fn holds_stale_bytes(&self) -> bool {
        let mut file = std::io::BufReader::with_capacity(1 << 20, File::open(&self.path).unwrap());
        let (mut stale, mut block) = (0, [0; 4096]);
        while file.read_exact(&mut block).is_ok() {
            stale += u64::from(block == [0xa5; 4096]) * 4096;
        }
        stale > self.size() / 4
    }

    /// The bytes of a partition of its GPT, counted from 1; the second is the root of the lab's Debian.
    fn partition(&self, number: u32) -> Range<u64> {
        let table = Command::new("sgdisk")
            .arg(format!("-i{number}"))
            .arg(&self.path)
            .output()
            .expect("sgdisk of gdisk");
        let text = String::from_utf8_lossy(&table.stdout).into_owned();
        let sector = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).expect(name);
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        sector("First sector: ") * 512..(sector("Last sector: ") + 1) * 512
    }

    /// What sgdisk says of a partition, counted from 1.
    pub fn describe(&self, partition: u32) -> String {
        run(Command::new("sgdisk").arg(format!("-i{partition}")).arg(&self.path))
    }

    /// Hash of all bytes of its root file system.
    pub fn hash_of_root(&self) -> blake3::Hash {
        let Range { start, end } = self.partition(2);
        let mut file = File::open(&self.path).unwrap();
        file.seek(SeekFrom::Start(start)).unwrap();
        hash(file.take(end - start))
    }

    /// Bytes of its root partition.
    pub fn size_of_root(&self) -> u64 {
        let Range { start, end } = self.partition(2);
        end - start
    }

    /// Runs a checker of file systems, which gets a loop device of the root file system as its last word.
    pub fn check_root(&self, checker: &str) {
        self.check(2, checker);
    }

    /// The same for any partition, counted from 1; what the checker said.
    pub fn check(&self, partition: u32, checker: &str) -> String {
        let Range { start, end } = self.partition(partition);
        let script = format!(
            "set -e; loop=$(losetup --find --show --read-only --offset {start} --sizelimit {} \"$0\"); \
             trap 'losetup -d $loop' EXIT; {checker} $loop",
            end - start
        );
        run(Command::new("bash").args(["-c", &script]).arg(&self.path))
    }

    /// Adds this much to its end, and moves the backup GPT there.
    pub fn lengthen(&self, mib: u64) {
        File::options().write(true).open(&self.path).unwrap().set_len(self.size() + (mib << 20)).unwrap();
        run(Command::new("sgdisk").arg("-e").arg(&self.path));
    }

    /// sgdisk finds nothing wrong with its tables.
    pub fn assert_table_is_right(&self) {
        let said = run(Command::new("sgdisk").arg("-v").arg(&self.path));
        assert!(said.contains("No problems found"), "{said}");
    }

    /// Which label its boot loader takes: `own`, or `writes`.
    pub fn boots(&self, label: &str) {
        let script = "echo \"DEFAULT $1\" | mcopy -o -i \"$0@@1M\" - ::/default.cfg";
        run(Command::new("bash").args(["-c", script]).arg(&self.path).arg(label));
    }

    /// Fills it with zeros.
    pub fn wipe(&self) {
        let file = File::options().write(true).open(&self.path).unwrap();
        let size = self.size();
        file.set_len(0).unwrap();
        file.set_len(size).unwrap();
    }
}

/// Hash of what `zcat` makes of an image: what an admin with plain tools gets.
pub fn hash_of_zcat(image: &Path) -> blake3::Hash {
    let mut zcat = Command::new("zcat").arg(image).stdout(Stdio::piped()).spawn().expect("zcat of gzip");
    let found = hash(zcat.stdout.take().unwrap());
    assert!(zcat.wait().unwrap().success(), "zcat {} failed", image.display());
    found
}

fn hash(reader: impl Read) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(reader).unwrap();
    hasher.finalize()
}
