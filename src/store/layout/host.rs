//! Which host names may stand as a file in a machine's folder.

use super::{
    CLAIM, DISK_LIST, HISTORY, INFO_TEXT, INFO_ZIP, LEASE, MAINTENANCE_LOG, OUTPUT_LOG, RECORD, STATUS,
    is_disk_name,
};

/// Files and folders of testbox and of the original system, and what an admin puts there.
const OWN: [&str; 10] = [
    RECORD,
    DISK_LIST,
    HISTORY,
    LEASE,
    MAINTENANCE_LOG,
    OUTPUT_LOG,
    STATUS,
    "testbox-info",
    INFO_TEXT,
    INFO_ZIP,
];
/// Ends of names that testbox makes, or the manual has people make, of images, records, lists and logs.
const ENDS: [&str; 19] = [
    "back", "bak", "cfg", "damaged", "gz", "json", "log", "lst", "map", "md5", "old", "part", "raw",
    "sha256", "sig", "tmp", "toml", "txt", "zip",
];

/// True where an empty file with this name, which is the machine's host name, can be in the way of nothing: the name is
/// neither one of testbox's, in upper or lower case, nor looks like one; nor like a disk, or like the address of a machine
/// in either spelling. Such a file only tells people whose folder it is.
pub fn is_free_for_host(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let (first, end) =
        (name.split('.').next().unwrap_or_default(), name.rsplit('.').next().unwrap_or_default());
    let is_plain = !first.is_empty() && !name.starts_with('-') && !name.contains('/');
    let is_address = name.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        || (name.len() == 8 && name.bytes().all(|b| b.is_ascii_hexdigit()));
    // backup.json.lab, too; but history.example.com is a host.
    let is_below = |own: &str| own.contains(['.', '-']) && name.starts_with(&format!("{own}."));
    let is_own = name.starts_with(CLAIM) || OWN.iter().any(|own| name == *own || is_below(own));
    let is_like_own = is_disk_name(first) || (name.contains('.') && ENDS.contains(&end));
    is_plain && !is_address && !is_own && !is_like_own
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_host_may_be_called_like_a_host() {
        for name in [
            "unknown",
            "box1",
            "testbox",
            "testbox-07",
            "testbox-07.lab.example.com",
            "history.example.com",
            "lease.lab",
            "backup",
            "deadbeef.lab",
            "deadbee",
            "deadbeef0",
            "status",
            "raw",
            "gz",
            "sdtest",
            "10-40-41-42",
        ] {
            assert!(is_free_for_host(name), "{name}");
        }
    }

    #[test]
    fn no_name_of_ours_becomes_the_file_of_a_host() {
        for name in [
            "",
            ".",
            "..",
            ".status.json.tmp",
            "backup.json",
            "BACKUP.JSON",
            "Backup.Json",
            "backup.json.part",
            "backup.json.sig",
            "backup.json.lab",
            "history",
            "HISTORY",
            "lease",
            "status.json",
            "disk-devices.lst",
            "maintenance.log",
            "maintenance-output.log",
            "testbox-info",
            "testbox-info.txt",
            "testbox-info.zip",
            "testbox-info.lab",
            "sda",
            "sda.lab",
            "sda.gz",
            "sda.raw",
            "sda.raw.gz",
            "nvme0n1.raw.gz",
            "mmcblk0.raw.gz.part",
            "sda-2.raw.gz.map",
            "xvdzz.raw.gz.back",
            "box1.raw.gz.damaged",
            "box1.old",
            "0A28292A",
            "0a28292a",
            "DEADBEEF",
            "10.40.41.42",
            "7",
            "claim-0123456789abcdef",
        ] {
            assert!(!is_free_for_host(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_file_of_any_disk_becomes_the_file_of_a_host(
            disk in "(sd|hd|vd|xvd)[a-z]{1,3}|nvme[0-9]{1,2}n[0-9]|mmcblk[0-9]", n in "(-[1-9][0-9]?)?",
            end in "(\\.raw)?\\.gz(\\.(part|map|back|damaged|old))?",
        ) {
            let name = format!("{disk}{n}{end}");
            prop_assert!(!is_free_for_host(&name) && !is_free_for_host(&name.to_ascii_uppercase()), "{}", name);
        }
    }
}
