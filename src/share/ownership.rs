//! Whose the files on the shares are, and who may read them: one model for NFS clients, `testboxctl` and the server.
//!
//! | What | Owner, group | Mode |
//! |---|---|---|
//! | backup share: folders | `testbox`, `testbox` | 2750 |
//! | backup share: images, logs, records, machine information | `testbox`, `testbox` | 0640 |
//! | TFTP share: loaders, kernel, initrd, `default`, their folders | root, root | 0644, 0755 |
//! | TFTP share: `pxelinux.cfg/`, `testbox.cfg/` | root, `testbox` | 3775 |
//! | TFTP share: the file that arms a machine | `testbox`, `testbox` | 0644 |
//! | NFS root | root, root | as Debian has it, exported read-only |
//!
//! Every NFS client of both shares is the account `testbox` (`all_squash,anonuid=,anongid=`), whatever it says who it
//! is; a server process runs as that account. Admins who are members of the group read images and logs, and nobody else
//! does: an image holds password hashes and keys. What TFTP serves is readable by everybody, and no client can replace
//! what boots: the sticky bit leaves `default` to root, while the agent may remove the file that armed its machine.
//!
//! Folders of the backup share are setgid, so that what root puts there is the group's too.
#![forbid(unsafe_code)]

/// The account that owns what machines write, and its group.
pub const ACCOUNT: &str = "testbox";

/// What holds what disks hold, or tells about a machine.
pub const PRIVATE_FILE: u32 = 0o640;
/// Folders of such files. The setgid bit of the folder above is inherited.
pub const PRIVATE_DIR: u32 = 0o750;
/// The same, where it is set on a folder that is there: setgid.
pub const BACKUP_DIR: u32 = 0o2750;
/// What TFTP servers read as somebody else.
pub const SERVED_FILE: u32 = 0o644;
/// Folders of such files.
pub const SERVED_DIR: u32 = 0o755;
/// Folders of files that arm machines: setgid and sticky.
pub const ARMED_DIR: u32 = 0o3775;
/// A secret key.
pub const SECRET_FILE: u32 = 0o600;
