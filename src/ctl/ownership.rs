//! The ownership model of [`crate::share::ownership`] on this computer.

use super::Error;
use super::target::ImageTarget;
use crate::share::ownership::{
    ACCOUNT, ARMED_DIR, BACKUP_DIR, PRIVATE_DIR, PRIVATE_FILE, SECRET_FILE, SERVED_FILE,
};
use rustix::process::geteuid;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown, lchown};
use std::path::Path;

/// User and group of the account that NFS clients are, from the text of `/etc/passwd`.
fn account(passwd: &str) -> Option<(u32, u32)> {
    let mut fields =
        passwd.lines().map(|line| line.split(':')).find(|line| line.clone().next() == Some(ACCOUNT))?;
    let user = fields.nth(2)?.parse().ok()?;
    Some((user, fields.next()?.parse().ok()?))
}

/// The account on this computer.
pub(super) fn local_account() -> Option<(u32, u32)> {
    account(&fs::read_to_string("/etc/passwd").unwrap_or_default())
}

/// What a file or folder of a share, or of the server, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// A folder of the backup share.
    BackupFolder,
    /// A file in it.
    BackupFile,
    /// `pxelinux.cfg/` or `testbox.cfg/`.
    ArmedFolder,
    /// The folder of the server's key and of the machines.
    ServerFolder,
    /// The server's key.
    ServerKey,
    /// What root writes and the server reads.
    ServerReads,
}

/// Gives what was made just now its owner and mode, where this is root and there is the account; else it stays as it is,
/// and what `init` prints mends it.
pub(super) fn own(path: &Path, class: Class) -> Result<(), Error> {
    let Some((user, group)) = local_account().filter(|_| geteuid().is_root()) else { return Ok(()) };
    let (user, mode) = match class {
        Class::BackupFolder => (user, BACKUP_DIR),
        Class::BackupFile => (user, PRIVATE_FILE),
        Class::ArmedFolder => (0, ARMED_DIR),
        Class::ServerFolder => (user, PRIVATE_DIR),
        Class::ServerKey => (user, SECRET_FILE),
        Class::ServerReads => (0, PRIVATE_FILE),
    };
    // chown clears the setgid bit of files: the mode comes after it.
    let owned = lchown(path, Some(user), Some(group));
    owned.and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode))).map_err(|e| {
        Error::failed(format!("{}: cannot give it to the account {ACCOUNT}: {e}", path.display()))
    })
}

/// Makes a file that arms a machine one that every TFTP server may read and that the machine may remove, whatever umask
/// and default ACLs of the folder say.
///
/// In a sticky folder only its owner and root remove a file: it goes to the account.
pub(super) fn give_armed(target: &ImageTarget, folder: &Path) -> Result<(), Error> {
    target.set_mode(SERVED_FILE)?;
    let failed = |what: String| Error::failed(format!("{}: {what}", target.path.display()));
    let about = fs::metadata(folder).map_err(|e| failed(format!("cannot look at its folder: {e}")))?;
    if about.mode() & 0o1000 == 0 || !geteuid().is_root() && about.uid() == geteuid().as_raw() {
        return Ok(());
    }
    let owner = target.file.metadata().map_err(|e| failed(format!("cannot look at it: {e}")))?.uid();
    match local_account() {
        Some((user, _)) if owner == user => Ok(()),
        Some((user, group)) if geteuid().is_root() => fchown(&target.file, Some(user), Some(group))
            .map_err(|e| failed(format!("cannot give it to the account {ACCOUNT}: {e}"))),
        Some(_) => Err(failed(format!(
            "its folder is sticky, so the machine could not remove it: arm as root, or as the account {ACCOUNT}"
        ))),
        // Over NFS every file is the account's, whatever this computer calls it.
        None if !geteuid().is_root() => Ok(()),
        None => Err(failed(format!(
            "its folder is sticky, and this computer has no account {ACCOUNT} that could remove it: 'testboxctl init' \
             prints how to make that"
        ))),
    }
}

/// Why machines could not remove the files that arm them from this folder; nothing where this computer has no account
/// to tell it by.
pub(super) fn removal_problem(folder: &Path) -> Option<String> {
    let (user, group) = local_account()?;
    let about = fs::metadata(folder).ok()?;
    let bit = match () {
        () if about.uid() == user => 0o300,
        () if about.gid() == group => 0o030,
        () => 0o003,
    };
    (about.mode() & bit != bit).then(|| {
        format!(
            "{}: the account {ACCOUNT} cannot remove files from this folder, so no machine could disarm itself: run the \
             commands that 'testboxctl init' prints",
            folder.display()
        )
    })
}

/// Whether what is in the backup share, and what arms machines, may be written by the account: a server that runs as it needs
/// both.
pub(super) fn is_the_accounts(backup: &Path, armed: &Path) -> bool {
    let owner = fs::metadata(backup).map(|about| about.uid()).ok();
    local_account().is_some_and(|(user, _)| owner == Some(user)) && removal_problem(armed).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_is_found_by_its_whole_name() {
        let passwd = "root:x:0:0::/root:/bin/sh\ntestbox2:x:7:8::/:/bin/false\ntestbox:x:998:997:lab:/:/usr/sbin/nologin\n";
        assert_eq!(account(passwd), Some((998, 997)));
        for bad in ["", "testbox", "testbox:x:a:b", "x:testbox:1:2"] {
            assert_eq!(account(bad), None, "{bad}");
        }
    }
}
