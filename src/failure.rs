//! What can go wrong with an action, one kind for each outcome that an admin must tell apart.

use std::fmt;

/// Declares the kinds once: name, code, word, and what the manual says to do.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $code:literal $word:literal, $advice:literal;)+) => {
        /// The kinds of failure. Each has its own code (in `status.json` and the logs) and its own word.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($(#[$doc])* $name,)+ }

        impl Kind {
            /// Every kind, by its code.
            pub const ALL: &[Kind] = &[$(Kind::$name,)+];

            /// Code of the failure in status and logs: stable and unique; never 0, 1, 2, 10 or 11, which are exit codes.
            pub fn code(self) -> u8 {
                match self { $(Kind::$name => $code,)+ }
            }

            /// The word that names the kind in `status.json`.
            pub fn as_str(self) -> &'static str {
                match self { $(Kind::$name => $word,)+ }
            }

            /// What to do about it, for the manual: Markdown in one line, short.
            pub fn remedy(self) -> &'static str {
                match self { $(Kind::$name => $advice,)+ }
            }
        }
    };
}

kinds! {
    /// The overlay over the NFS root could not be mounted.
    OverlayRoot = 20 "overlay-root",
        "the NFS root could not be made writable: look for the module overlay in the initrd";

    /// No IPv4 address, or the network configuration could not be read.
    Network = 21 "network",
        "no IPv4 address, or a server's name cannot be resolved: DHCP, cable, `ip=`; use addresses";

    /// Neither the kernel command line nor the boot server names an action.
    NoAction = 22 "no-action",
        "nobody names an action, or TFTP failed: arm the machine, or let it boot its disk";

    /// The action, or a `testbox.*` word, is unknown or malformed.
    BadWords = 23 "bad-words",
        "a `testbox.*` word is wrong, or a job file is not of this one machine: arm it again";

    /// The address of this machine, which names its folder, is not its own any more: DHCP did not renew the lease.
    AddressLost = 24 "address-lost",
        "DHCP did not renew the lease of the address, or gave another one: a reservation for the machine, longer leases, \
        a server that answers";

    /// The job's time was over before it began.
    Expired = 25 "expired",
        "the machine came after the job's time (`arm --expires`), by the clock of the server that keeps the backups: nothing \
        was done, and the machine is disarmed; arm it again";

    /// A share could not be mounted in time.
    ShareUnreachable = 30 "share-unreachable",
        "server, path, exports, firewall; the message has the errno of each NFS version";

    /// A share was mounted, but its marker file is not there.
    NotTheShare = 31 "not-the-share",
        "marker file missing: wrong path, or the server exports an empty mount point";

    /// The TFTP share holds no PXE config of this machine for this job: probably a wrong IP address.
    NotArmed = 32 "not-armed",
        "no PXE file of this address and job: probably the wrong address; or disarmed meanwhile";

    /// A file on the share could not be read.
    ShareRead = 33 "share-read",
        "the message has the errno and what mends it: read-only export, root squashing, lost export, the server's \
        disk";

    /// A file on the share could not be written.
    ShareWrite = 34 "share-write",
        "the message has the errno and what mends it: read-only export, root squashing, lost export, the server's \
        disk";

    /// The share is full, or would be.
    NoSpace = 35 "no-space",
        "make room, or raise the quota; the set before is untouched";

    /// Another agent has the machine's folder.
    Lease = 36 "lease",
        "another agent has the folder: give each machine an address of its own";

    /// A share does not answer.
    ShareHung = 37 "share-hung",
        "the server did not answer any more: server, network, cable";

    /// There is no disk to work on.
    NoDisk = 40 "no-disk",
        "no disk, or none selected: cables, drivers, `disk-devices.lst`";

    /// The disk list did not settle, or sysfs could not be read.
    Inventory = 41 "inventory",
        "a disk or cable that comes and goes";

    /// `disk-devices.lst`, `testbox.disks` or `testbox.map` names something that is not there, or is malformed.
    DiskList = 42 "disk-list",
        "an entry of `disk-devices.lst`, `testbox.disks` or `testbox.map` matches nothing, or is malformed";

    /// `backup` where an image exists.
    ImageExists = 43 "image-exists",
        "`backup` where there is an image: use `backup-again`";

    /// `restore` or `verify` where no image can be trusted.
    NoImage = 44 "no-image",
        "no set can be trusted: look at the folder, at `history/`, at copies";

    /// `backup.json` is malformed.
    BadRecord = 45 "bad-record",
        "`backup.json` is damaged, or a folder of `history/` has a number that leaves none above it: put a good \
        copy there. Moved away, it no longer tells which disks were left out, and images go only where their own \
        headers say";

    /// A disk that the record knows is missing.
    DiskMissing = 46 "disk-missing",
        "a disk of the set is gone: plug it in, restore onto a new one, or leave it out by `disk-devices.lst`";

    /// Which disk an image belongs to cannot be told.
    Ambiguous = 47 "ambiguous",
        "which disk cannot be told, or a record knows it in another role: use the `testbox.map` of the message";

    /// The target disk does not fit: too small, other block size, read-only, in use.
    Unfit = 48 "unfit",
        "too small, other block size, read-only, in use; a gzip without a record of another size than the disk";

    /// A degraded set would replace a complete one, or be restored, and nobody asked for that.
    Degraded = 49 "degraded",
        "a degraded set would replace a complete one, or be restored: see [Bad sectors](actions.md)";

    /// Reading a disk failed.
    DiskRead = 50 "disk-read",
        "the disk fails: replace it, restore the last good set";

    /// Writing a disk failed, or what was read back differs.
    DiskWrite = 51 "disk-write",
        "the same; or what was written does not read back";

    /// An image is damaged, or does not have the hash that its record names.
    BadImage = 52 "bad-image",
        "the image is damaged: do not use it; an older set may be good";

    /// The new set could not be published.
    Publish = 53 "publish",
        "the new set could not be published: the next attempt goes on from there";

    /// A disk vanished while it was used.
    DiskGone = 54 "disk-gone",
        "the disk vanished while it was used: cable, power, controller";

    /// A disk has another size than before.
    DiskChanged = 55 "disk-changed",
        "the disk has another size than when it was listed or opened";

    /// A disk does not answer.
    DiskHung = 56 "disk-hung",
        "the disk does not answer any more: switch the machine off and on, look at the disk";

    /// The target disk says of itself that it fails, and nobody asked for writing onto it all the same.
    DiskFailing = 57 "disk-failing",
        "the target of a restore says that it fails: replace it, or `arm --failing-disk write`";

    /// A disk is locked by its ATA password.
    DiskLocked = 58 "disk-locked",
        "the disk is locked by its ATA password: take the password off (BIOS setup, or `hdparm \
        --security-disable` in a rescue), or leave the disk out";

    /// The disk that was opened is not the one that was listed under that name.
    OtherDisk = 59 "other-disk",
        "the disk that was opened is not the one that was listed under that name: both are named, neither was \
        written; look for a disk or controller that comes and goes";

    /// The action is done, but the machine cannot be disarmed.
    Disarm = 60 "disarm",
        "the action is done; remove the PXE file by hand, then switch the machine off and on";

    /// The job was tried too often.
    TooManyAttempts = 61 "too-many-attempts",
        "read the log, mend it, arm again";

    /// The initramfs demands a signed set, and this one is not signed by a key that it trusts.
    Signature = 62 "signature",
        "this initrd restores signed sets only, and this one is not signed by a key that it trusts: look who \
        writes to the share; `testboxctl sign`";

    /// The initramfs demands a signed job for this action, and this one is not signed by a key that it trusts.
    JobSignature = 63 "job-signature",
        "this initrd takes this action only as a signed job: `testboxctl arm --sign-key`, if the job is yours";

    /// A set on the share was made by a newer testbox, in a format that this one does not know.
    NewerFormat = 64 "newer-format",
        "a newer testbox made a set of this machine: nothing was changed; make the initrd again with the newer \
        release";

    /// The disks are restored and verified, but the firmware has no boot entry for them.
    BootEntries = 65 "boot-entries",
        "the data are restored and verified, and the machine is disarmed, but the firmware did not take the boot entries \
        of the set: add one in its set-up, or by efibootmgr from a rescue; see [UEFI](actions.md)";

    /// The disks are restored and verified, and the last partition has grown, but its file system has not.
    NotGrown = 66 "not-grown",
        "the data are restored and verified, and the machine is disarmed, but the file system of the last partition did not \
        grow: grow it by hand from a rescue, or leave it; see [Growing](actions.md)";

    /// `testbox.grow` was asked for, and what grows the file system is not here.
    NoTools = 67 "no-tools",
        "`testbox.grow=last` needs the NFS root with the tools of the file system (boot=nfs): the message has the package; \
        nothing was written";

    /// An internal error, or the machine has not got what the work needs: memory for a thread, random numbers.
    Internal = 70 "internal",
        "an internal error: report it with the log; the message says what was touched";
}

impl Kind {
    /// True where the job is done, its data are safe, and the machine is disarmed all the same.
    pub fn is_of_done_job(self) -> bool {
        matches!(self, Kind::BootEntries | Kind::NotGrown)
    }

    /// True where the job is over and its file gone: nothing tries again.
    pub fn is_final(self) -> bool {
        self == Kind::Expired || self.is_of_done_job()
    }

    /// True where interface, link, address and servers are what a person must see first.
    pub fn is_of_network(self) -> bool {
        matches!(
            self,
            Kind::Network | Kind::NoAction | Kind::ShareUnreachable | Kind::NotTheShare | Kind::NotArmed
        )
    }
}

/// One failure: its kind, what happened to which thing, and what the admin can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which outcome it is.
    pub kind: Kind,
    /// What failed, on which disk or file, at which offset.
    pub what: String,
    /// What to do about it.
    pub advice: String,
}

impl Failure {
    /// A failure of `kind`.
    pub fn new(kind: Kind, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Failure { kind, what: what.into(), advice: advice.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{} {}]", self.what, self.kind.as_str(), self.kind.code())?;
        if !self.advice.is_empty() {
            write!(f, " What to do: {}", self.advice)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_sorted_unique_and_no_exit_codes() {
        let codes: Vec<u8> = Kind::ALL.iter().map(|k| k.code()).collect();
        assert!(codes.is_sorted_by(|a, b| a < b), "{codes:?}");
        assert!(codes.iter().all(|code| ![0, 1, 2, 10, 11].contains(code)));
    }

    #[test]
    fn words_are_unique_and_plain() {
        let words: BTreeSet<&str> = Kind::ALL.iter().map(|k| k.as_str()).collect();
        assert_eq!(words.len(), Kind::ALL.len());
        assert!(words.iter().all(|w| w.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')));
    }
}
