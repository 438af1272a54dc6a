//! The shares as folders of this computer: owners, space, and what the server's own table of exports says.

use super::super::ownership::{local_account, removal_problem};
use super::super::serve::exported_writable;
use super::finding::AreaReport;
use super::lab::DoctorLab;
use crate::share::ownership::ACCOUNT;
use crate::store::layout::{BACKUP_MARKER, PXELINUX_CFG, TESTBOX_CFG};
use crate::text::human_bytes;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Less than this is none, in bytes.
const SPACE: u64 = 1 << 30;

/// What a folder is, as far as it was found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FolderSeen {
    pub path: PathBuf,
    pub has_marker: bool,
    /// Free bytes, and those of the whole file system.
    pub space: Option<(u64, u64)>,
    /// Free files, and all that there may be; of file systems that count them.
    pub inodes: Option<(u64, u64)>,
    pub is_read_only: bool,
    /// Entries in the root that the account does not own.
    pub strange: Vec<String>,
    pub has_account: bool,
}

/// What is known of both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FoldersSeen {
    pub backup: Option<FolderSeen>,
    /// Why machines could not disarm themselves.
    pub removal: Vec<String>,
    /// Exports by which machines may write there, beside a store.
    pub writable: Vec<String>,
    pub has_store: bool,
    /// Bytes of the largest set.
    pub largest_set: u64,
}

/// Looks at them. Nothing is written.
pub(super) fn ask(lab: &DoctorLab, largest_set: u64) -> FoldersSeen {
    let mut seen = FoldersSeen { largest_set, ..FoldersSeen::default() };
    seen.has_store = lab.settings.options().store.is_some();
    if let Some(dir) = &lab.backup_dir {
        seen.backup = Some(folder(dir));
        if seen.has_store {
            seen.writable = exported_writable(dir);
        }
    }
    if let Some(dir) = &lab.tftp_dir {
        let folders = [PXELINUX_CFG, TESTBOX_CFG].map(|name| dir.join(name));
        seen.removal = folders.iter().filter_map(|folder| removal_problem(folder)).collect();
    }
    seen
}

fn folder(path: &Path) -> FolderSeen {
    let mut seen = FolderSeen { path: path.to_owned(), ..FolderSeen::default() };
    seen.has_marker = path.join(BACKUP_MARKER).is_file();
    if let Ok(of) = rustix::fs::statvfs(path) {
        seen.space = Some((of.f_bavail.saturating_mul(of.f_frsize), of.f_blocks.saturating_mul(of.f_frsize)));
        seen.inodes = (of.f_files > 0).then_some((of.f_favail, of.f_files));
        seen.is_read_only = of.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
    }
    let account = local_account();
    seen.has_account = account.is_some();
    if let (Some((user, _)), Ok(names)) = (account, std::fs::read_dir(path)) {
        // What the account does not own, machines cannot write.
        let strange = names.filter_map(Result::ok).filter(|entry| {
            let is_machine =
                entry.file_name().to_str().is_some_and(|name| name.parse::<std::net::Ipv4Addr>().is_ok());
            is_machine && entry.metadata().is_ok_and(|about| about.uid() != user)
        });
        seen.strange =
            strange.take(5).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    }
    seen
}

/// Judges them.
pub(super) fn judge(seen: &FoldersSeen) -> AreaReport {
    let mut report = AreaReport::new("folders");
    for problem in &seen.removal {
        report.error(
            "folder-disarm",
            "whether machines may remove the file that arms them",
            problem.clone(),
            "run the commands that 'testboxctl init' prints under 1, as root",
        );
    }
    for line in &seen.writable {
        report.warning(
            "export-beside-store",
            "/var/lib/nfs/etab and /etc/exports, beside a store",
            format!("machines may write the backups by NFS, past the store: {line}"),
            "take the line out of /etc/exports and /etc/exports.d, or make its rw a ro; then: exportfs -ra",
        );
    }
    let Some(backup) = &seen.backup else {
        report.unknown("space and owners: the folder of the backups is not on this computer (backup-dir)");
        return report;
    };
    let path = backup.path.display();
    if !backup.has_marker {
        report.error(
            "folder-no-marker",
            format!("{path} for the marker file '{BACKUP_MARKER}'"),
            "it is not there: no agent and no server writes there",
            format!(
                "mount the disk that belongs there, or make the share: testboxctl init --backup-dir {path}"
            ),
        );
        return report;
    }
    if backup.is_read_only {
        report.error(
            "folder-read-only",
            format!("how {path} is mounted"),
            "read-only",
            format!("look into the kernel's log why (dmesg), then: mount -o remount,rw {path}"),
        );
    }
    space(seen, backup, &mut report);
    if !backup.strange.is_empty() {
        report.error(
            "folder-owner",
            format!("who owns the machines' folders in {path}"),
            format!(
                "{} are not of the account {ACCOUNT}: their machines cannot write there",
                backup.strange.join(", ")
            ),
            format!("chown -R {ACCOUNT}:{ACCOUNT} {path}"),
        );
    }
    report
}

fn space(seen: &FoldersSeen, backup: &FolderSeen, report: &mut AreaReport) {
    let path = backup.path.display();
    let cure = "remove sets that nobody needs (history/ of a machine), keep fewer (keep in /etc/testbox.toml, --keep-sets of \
                'serve'), or: testboxctl dedup";
    if let Some((free, all)) = backup.space {
        let (shown, asked) = (human_bytes(free), format!("free space in {path}"));
        if free < SPACE {
            report.error("space-none", asked, format!("{shown} of {}", human_bytes(all)), cure);
        } else if free < seen.largest_set {
            let largest = human_bytes(seen.largest_set);
            let found = format!("{shown}; the largest set has {largest}, and one more of it does not fit");
            report.warning("space-little", asked, found, cure);
        } else {
            report.fine(format!("{shown} of {} are free in {path}", human_bytes(all)));
        }
    }
    if let Some((free, all)) = backup.inodes.filter(|(free, all)| free < &1000 && all > free) {
        let asked = format!("free inodes in {path}");
        report.error("space-inodes", asked, format!("{free} of {all}: no more files can be made"), cure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_judged_by_what_the_next_set_needs() {
        let with = |free: u64, files: u64, largest_set: u64| {
            let backup = FolderSeen {
                has_marker: true,
                space: Some((free, 1 << 40)),
                inodes: Some((files, 1 << 20)),
                ..FolderSeen::default()
            };
            let seen = FoldersSeen { backup: Some(backup), largest_set, ..FoldersSeen::default() };
            judge(&seen).findings.iter().map(|finding| finding.id).collect::<Vec<_>>()
        };
        assert_eq!(with(500 << 30, 9999, 100 << 30), [""; 0]);
        assert_eq!(with(50 << 30, 9999, 100 << 30), ["space-little"]);
        assert_eq!(with(1 << 20, 5, 100 << 30), ["space-none", "space-inodes"]);
    }
}
