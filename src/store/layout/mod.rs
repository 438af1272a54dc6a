//! Every name on the shares: exports, markers, files, folders and suffixes. Nothing else in testbox spells one out.
//!
//! ```text
//! testbox-backup/        testbox-backup (marker), maintenance.log, testbox-compression
//!   10.40.41.42/         backup.json, backup.json.sig, status.json, lease/, disk-devices.lst, testbox-info.*, logs
//!     sda.raw.gz         and beside it, where they are needed, .part, .map, .damaged
//!     history/<n>/       the sets before
//! testbox-tftp/          pxelinux.0 (marker), pxelinux.cfg/, testbox.cfg/, maintenance-boot/
//!                        shimx64.efi, grubx64.efi, grub/grub.cfg, testbox.cfg/<HEXIP>.boot
//! testbox-nfsroot/       the read-only Debian
//! ```
#![forbid(unsafe_code)]

mod host;

pub use host::is_free_for_host;

use crate::job::JobSource;
use crate::job::pxe::HexIp;

/// The export with the backups, where nothing else is said: that of the original system, as the other two.
pub const BACKUP_EXPORT: &str = "/export/testbox-backup";
/// The export that the TFTP server serves.
pub const TFTP_EXPORT: &str = "/export/testbox-tftp";
/// The export with the read-only Debian.
pub const NFS_ROOT_EXPORT: &str = "/export/testbox-nfsroot";

/// The file in the root of the backup share that shows that it is one, and that it is mounted.
pub const BACKUP_MARKER: &str = "testbox-backup";
/// Beside it, where the admin wants smaller images: the level, see [`crate::store::compression()`].
pub const COMPRESSION: &str = "testbox-compression";
/// The file in the root of the TFTP share that shows the same there.
pub const TFTP_MARKER: &str = "pxelinux.0";

/// PXELINUX's folder of configurations, below the root of the TFTP share.
pub const PXELINUX_CFG: &str = JobSource::PxelinuxCfg.folder();
/// The agent's own, beside it.
pub const TESTBOX_CFG: &str = JobSource::TestboxCfg.folder();
/// The configuration in there of a machine without one of its own.
pub const DEFAULT_CFG: &str = "default";
/// Microsoft's and Debian's loader of UEFI machines, which checks the next one.
pub const SHIM: &str = "shimx64.efi";
/// The one that it loads, from beside it: GRUB.
pub const GRUB: &str = "grubx64.efi";
/// The first loader of UEFI machines with arm64; it loads `grubaa64.efi`.
pub const SHIM_ARM64: &str = "shimaa64.efi";
/// GRUB's script, the same for every machine.
pub const GRUB_CFG: &str = "grub/grub.cfg";
/// Suffix of what GRUB's script is told of one machine.
pub const OWN_LOADER: &str = ".boot";
/// What GRUB's script is told of the machine with this address (8 hex digits, as its armed file is called).
pub fn own_loader_file(hex_ip: HexIp) -> String {
    format!("{TESTBOX_CFG}/{hex_ip}{OWN_LOADER}")
}
/// The folder with kernel and initramfs, below the root of the TFTP share.
pub const MAINTENANCE_BOOT: &str = "maintenance-boot";
/// The kernel in there.
pub const KERNEL: &str = "maintenance-boot/vmlinuz";
/// The initramfs in there.
pub const INITRD: &str = "maintenance-boot/initrd.img";

/// File name of the record in a machine's folder, and in each folder below [`HISTORY`].
pub const RECORD: &str = "backup.json";
/// The record of a set that is verified but not yet wholly published.
pub const RECORD_PENDING: &str = "backup.json.part";
/// The signature beside a record, under the name that `ssh-keygen -Y sign` gives it.
pub const SIGNATURE: &str = "backup.json.sig";
/// What the machine is doing.
pub const STATUS: &str = "status.json";
/// Which disks are imaged, where the admin narrows that.
pub const DISK_LIST: &str = "disk-devices.lst";
/// What the machine consists of, for people.
pub const INFO_TEXT: &str = "testbox-info.txt";
/// The same raw.
pub const INFO_ZIP: &str = "testbox-info.zip";
/// The log of a machine in its folder, info and above; in the root of the share, that of all machines.
pub const MAINTENANCE_LOG: &str = "maintenance.log";
/// The log of a machine with everything.
pub const OUTPUT_LOG: &str = "maintenance-output.log";
/// The folder of leases.
pub const LEASE: &str = "lease";
/// Beginning of the name of a lease that is being taken.
pub const CLAIM: &str = "claim-";
/// The folder that keeps the sets before the current one.
pub const HISTORY: &str = "history";
/// The folder in the root of the backup folder that a store keeps its own things in.
pub const STORE: &str = ".store";
/// Which ends of jobs hooks were told of, below [`STORE`].
pub const STORE_TOLD: &str = ".store/told";
/// The jobs of a store, below [`STORE`], by the SHA-256 of their tokens.
pub const STORE_JOBS: &str = ".store/jobs";
/// Which sets a store has proven when it published them, below [`STORE`], by the SHA-256 of their records.
pub const STORE_PROVEN: &str = ".store/proven";
/// What `testboxctl verify` has found, of each set when, below [`STORE`].
pub const STORE_VERIFIED: &str = ".store/verified.json";
/// Which job the parts of a machine are of, below [`STORE`], by its address.
pub const STORE_PARTS: &str = ".store/parts";
/// Suffix of the session that a job's token is bound to.
pub const SESSION: &str = ".session";
/// The file beside a record that keeps its set from being pruned by a store.
pub const PINNED: &str = "pinned";
/// Suffix of what is being made and not yet published.
pub const PART: &str = ".part";

/// Suffix of an image.
const IMAGE: &str = ".raw.gz";
/// That of the original system's.
const LEGACY_IMAGE: &str = ".gz";

/// The highest generation. A set a second would take millions of years to get there, and every program that reads JSON
/// numbers as floating point still tells two of them apart.
pub const GENERATION_MAX: u64 = 999_999_999_999_999;

/// The generation that the name of a folder below `history/` says: the only spelling that testbox writes, from 1 to
/// [`GENERATION_MAX`]. `03`, `+3` and what is longer are other folders.
pub fn generation(name: &str) -> Option<u64> {
    let number = name.parse().ok().filter(|number| (1..=GENERATION_MAX).contains(number))?;
    (number.to_string() == name).then_some(number)
}

/// The folder of the set of this number.
pub fn history_dir(generation: u64) -> String {
    format!("{HISTORY}/{generation}")
}

/// Name of the image file of the disk called `name` in a set.
pub fn image_file(name: &str) -> String {
    format!("{name}{IMAGE}")
}

/// The same as the original system called it.
pub fn legacy_image_file(name: &str) -> String {
    format!("{name}{LEGACY_IMAGE}")
}

/// Name of the unfinished image of the disk called `name`.
pub fn part_file(name: &str) -> String {
    format!("{name}{IMAGE}{PART}")
}

/// True for the name of an unfinished image, of whatever.
pub fn is_part_file(file: &str) -> bool {
    file.strip_suffix(PART).is_some_and(|image| image.ends_with(IMAGE))
}

/// The disk that an image file is called after, whichever system made it; `None` for other files.
pub fn disk_of_image(file: &str) -> Option<&str> {
    file.strip_suffix(IMAGE).or_else(|| file.strip_suffix(LEGACY_IMAGE))
}

/// Name of the map file beside the degraded image of the disk called `name`, in the format of ddrescue.
pub fn map_file(name: &str) -> String {
    format!("{name}{IMAGE}.map")
}

/// Name of the note beside an image file that says that it is damaged.
pub fn damage_file(image: &str) -> String {
    format!("{image}.damaged")
}

/// Name of an image file while it is being put back from the history.
pub fn back_file(image: &str) -> String {
    format!("{image}.back")
}

/// True for what the kernel calls whole disks of the kinds that testbox images, with the suffix that testbox adds
/// where two disks of a machine would have the same name (`sda-2`).
pub fn is_disk_name(name: &str) -> bool {
    let base = match name.split_once('-') {
        Some((base, n)) if !n.is_empty() && n.len() <= 3 && n.bytes().all(|b| b.is_ascii_digit()) => base,
        Some(_) => return false,
        None => name,
    };
    let letters = |rest: &str| (1..=3).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_lowercase());
    let digits = |rest: &str| (1..=4).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_digit());
    if let Some(rest) = base.strip_prefix("nvme") {
        return rest.split_once('n').is_some_and(|(a, b)| digits(a) && digits(b));
    }
    if let Some(rest) = base.strip_prefix("mmcblk") {
        return digits(rest);
    }
    ["xvd", "sd", "hd", "vd"].iter().any(|prefix| base.strip_prefix(prefix).is_some_and(letters))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_generation_has_one_spelling_and_a_bound() {
        for number in [1, 3, 10, 4_294_967_296, GENERATION_MAX] {
            assert_eq!(generation(&number.to_string()), Some(number));
        }
        for name in [
            "",
            "0",
            "03",
            "+3",
            "-3",
            " 3",
            "3 ",
            "3.part",
            "0x3",
            "3e1",
            "\u{663}",
            "1000000000000000",
            "18446744073709551614",
            "18446744073709551615",
            "18446744073709551616",
        ] {
            assert_eq!(generation(name), None, "{name:?}");
        }
    }

    #[test]
    fn only_disk_names_become_file_names() {
        for name in ["sda", "sdaa", "hdb", "vda", "xvda", "nvme0n1", "nvme10n12", "mmcblk0", "sda-2"] {
            assert!(is_disk_name(name), "{name}");
        }
        for name in [
            "",
            "sd",
            "sda1",
            "nvme0",
            "nvme0n1p1",
            "nvme0c0n1",
            "mmcblk0p1",
            "mmcblk0boot0",
            "loop0",
            "dm-0",
        ] {
            assert!(!is_disk_name(name), "{name}");
        }
        for name in ["../sda", "sda/..", "sda-", "sda-x", "sda-2-3", "SDA", "sr0", "md0", "zram0", "sda\n"] {
            assert!(!is_disk_name(name), "{name}");
        }
    }

    proptest! {
        /// What is made of a disk's name is known by it again, and nothing of it passes for another kind.
        #[test]
        fn the_name_of_an_image_tells_its_disk(disk in "(sd|hd|vd|xvd)[a-z]{1,3}|nvme[0-9]{1,2}n[0-9]|mmcblk[0-9]") {
            prop_assert!(is_disk_name(&disk));
            for image in [image_file(&disk), legacy_image_file(&disk)] {
                prop_assert_eq!(disk_of_image(&image), Some(disk.as_str()));
            }
            prop_assert!(is_part_file(&part_file(&disk)) && !is_part_file(&image_file(&disk)));
            let image = image_file(&disk);
            for other in [part_file(&disk), map_file(&disk), damage_file(&image), back_file(&image)] {
                prop_assert_eq!(disk_of_image(&other), None);
            }
        }

        #[test]
        fn the_folder_of_a_set_has_the_name_of_its_generation(number in 1..=GENERATION_MAX) {
            let dir = history_dir(number);
            prop_assert_eq!(dir.strip_prefix("history/").and_then(generation), Some(number));
        }
    }
}
